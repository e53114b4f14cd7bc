"""Commands that say what is proven: how copies stand, what differs, and what one entry rests on."""

from __future__ import annotations

import shlex
import shutil
import textwrap
from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import CONVERSATION, DURATION, TEXT, verb
from mlog.cli.output import iso_or_none
from mlog.cli.terminal import safe, shorten, when, width
from mlog.errors import PeerUnavailable
from mlog.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlog.api import Home
    from mlog.api.proof import LogStatus
    from mlog.api.repair import Absence, Comparison, Difference
    from mlog.api.standing import Copy, Standing
    from mlog.api.why import Explanation
    from mlog.cli.lines import Lines
    from mlog.cli.output import Console

__all__ = ["diff", "status", "why"]

_STALE: Final = PeerUnavailable.exit_code
_DIFFERING: Final = PeerUnavailable.exit_code

_NAME_COLUMNS: Final = 20
_STATE_COLUMNS: Final = 16
_WEEKS_SHOWN_MAX: Final = 3


@verb(
    "status",
    """mlog status
    mlog status trip --calendar
    mlog status --fail-if-stale 14d || echo 'connect your other devices'""",
)
@click.argument("conversation", type=CONVERSATION, required=False)
@click.option("--calendar", is_flag=True, help="Show for each device which weeks it holds.")
@click.option(
    "--fail-if-stale",
    type=DURATION,
    metavar="DURATION",
    help="Exit with 3 if a conversation was not proven to be on another device for so long.",
)
def status(console: Console, conversation: str | None, calendar: bool, fail_if_stale: int | None) -> None:
    """Count what is here, and say who else has proven to hold it.

    Two replicas with the same root hold exactly the same. With CONVERSATION a calendar shows the weeks
    that each device holds, where there is room for all of them.
    """
    from mlog.api.ended import ended, revoked
    from mlog.api.standing import standings
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        lines = Lines(home, console)
        n = None if conversation is None else home.conversation(conversation).n
        found = {standing.log: standing for standing in standings(home, n) if not standing.is_left}
        columns = shutil.get_terminal_size().columns
        for log in home.status(n):
            if console.json:
                _status_records(console, lines, log, found[log.n], calendar=calendar or n is not None)
            else:
                _status_lines(console, lines, log, found[log.n], home.now_ms(), columns)
                how = ended(home, log.n)
                if how is not None:
                    console.line(
                        console.warn(f"  {safe(str(how))}: nothing that is written since comes here")
                    )
                _calendar(console, found[log.n], columns, wanted=calendar, fitting=n is not None)
        if not console.json:
            from mlog.api.keys import key_protection
            from mlog.cli.keys import protection_line
            from mlog.cli.recovery import phrase_line

            this_device = revoked(home)
            if this_device is not None:
                console.line(console.bad(f"{this_device}: nothing that is written since comes here"))
            _advise(console, found.values())
            console.note(protection_line(key_protection(home.path)))
            console.note(phrase_line(home))
        _twins(console, home)
        if fail_if_stale is not None:
            _check_stale(console, home, found, fail_if_stale)


def _twins(console: Console, home: Home) -> None:
    from mlog.api.twins import twins

    for twin in twins(home):
        console.record("twin", {"device": twin.device.hex(), "name": twin.name, "here": twin.here})
        whose = "this home" if twin.here else f"the home of {twin.name or twin.device.hex()[:8]}"
        console.note(
            f"{whose} runs twice: a copy of it writes in the name of the same device. Nothing is lost by "
            "that, but each lacks what the other wrote until both are synced. Use one only: where the "
            "other one is, delete it, or start a new home there ('mlog --home FOLDER') and add that."
        )


# -- for programs ----------------------------------------------------------------------------


def _status_records(
    console: Console, lines: Lines, log: LogStatus, standing: Standing, *, calendar: bool
) -> None:
    from mlog.cli.calendar import calendar_weeks, week_start

    names = ("entries", "bodies", "messages", "chains", "heads", "gaps", "closed")
    counts = {name: getattr(log, name) for name in names}
    place = lines.place(log.n)
    proven = iso_or_none(standing.proven_ms)
    fields = {**place, "kind": log.kind.value, **counts, "root": log.root.hex(), "proven": proven}
    console.record("status", {**fields, **lines.ended(log.n)})
    for copy in standing.copies:
        fields = {
            **place,
            "device": copy.device.hex(),
            "name": copy.name,
            "state": copy.state.value,
            "here_lacks": copy.here_lacks,
            "there_lacks": copy.there_lacks,
            "exact": copy.exact,
            "weeks": [
                {"week": week, "from": week_start(week), "entries": count} for week, count in copy.weeks
            ],
            "first_missing": None if copy.first_missing is None else copy.first_missing.hex(),
            "detail": copy.detail,
            "bodies": copy.bodies,
            "keeps_from": week_start(copy.first_week) if copy.first_week else None,
            "seen": iso_or_none(copy.seen_ms),
            "compared": iso_or_none(copy.compared_ms),
            "proven": iso_or_none(copy.proven_ms),
            "expires": iso_or_none(copy.expires_ms),
        }
        console.record("copy", fields)
    for row in standing.calendar.rows if calendar else ():
        fields = {**place, "device": row.device.hex(), "name": row.name or None, "here": row.here}
        console.record("calendar", {**fields, "weeks": calendar_weeks(row)})


# -- for people ------------------------------------------------------------------------------


def _status_lines(
    console: Console, lines: Lines, log: LogStatus, standing: Standing, now_ms: int, columns: int
) -> None:
    console.line(console.bold(shorten(lines.title(log.n), columns)))
    counts = (
        f"{counted(log.messages, 'message')}, {counted(log.entries, 'entry', 'entries')}, "
        f"{log.bodies:,} with their text, {counted(log.chains, 'chain')}, {counted(log.heads, 'head')}"
    )
    for line in _wrapped(counts, columns, 2):
        console.line(line)
    gaps = console.bad(counted(log.gaps, "gap")) if log.gaps else "no gap known"
    console.line(f"  root {log.root.hex()[:32]}, {gaps}")
    if log.closed:
        closed = counted(log.closed, "entry", "entries")
        console.line(console.dim(f"  {closed} from before you joined, closed to you"))
    for copy in standing.copies:
        for line in _copy_lines(console, copy, now_ms, columns):
            console.line(line)


def _copy_lines(console: Console, copy: Copy, now_ms: int, columns: int) -> Iterable[str]:
    from mlog.api.standing import CopyState

    name = shorten(safe(copy.name) or copy.device.hex()[:8], _NAME_COLUMNS)
    state = copy.state.value.ljust(_STATE_COLUMNS)
    match copy.state:
        case CopyState.EQUAL:
            state = console.good(state)
        case CopyState.DIFFERING:
            state = console.bad(state)
        case _:
            state = console.warn(state)
    proven = "never proven equal"
    if copy.proven_ms:
        proven = f"proven equal {when(copy.proven_ms, now_ms, None)}"
        lapsed = "" if copy.expires_ms > now_ms else ", too long ago to count"
        proven += lapsed or f", counts until {when(copy.expires_ms, now_ms, None)}"
    room = columns - 2 - _NAME_COLUMNS - 1 - _STATE_COLUMNS - 1
    padding = " " * (_NAME_COLUMNS - width(name))
    yield f"  {name}{padding} {state} {console.dim(shorten(proven, max(room, 1)))}".rstrip()
    for detail in _details(copy, now_ms):
        yield from _wrapped(detail, columns, 6)


def _details(copy: Copy, now_ms: int) -> Iterable[str]:
    from mlog.cli.calendar import week_start

    if copy.detail:
        yield safe(copy.detail)
    if copy.weeks:
        newest = copy.weeks[-_WEEKS_SHOWN_MAX:]
        shown = ", ".join(f"{count:,} of the week from {week_start(week)}" for week, count in newest)
        earlier = len(copy.weeks) - len(newest)
        yield shown + (f", and of {counted(earlier, 'earlier week')}" if earlier else "")
    if copy.first_missing is not None:
        yield f"the first one: {copy.first_missing.hex()[:8]} ('mlog why {copy.first_missing.hex()[:8]}')"
    if copy.first_week:
        yield f"it keeps only what is of the week from {week_start(copy.first_week)} or later"
    if copy.bodies is False:
        yield "it did not sign for texts, only for the entries that they belong to"
    if copy.compared_ms and copy.compared_ms != copy.proven_ms:
        yield f"last compared {when(copy.compared_ms, now_ms, None)}"


def _calendar(console: Console, standing: Standing, columns: int, *, wanted: bool, fitting: bool) -> None:
    from mlog.cli.calendar import calendar_lines, fits

    if wanted or (fitting and fits(standing.calendar, columns)):
        for line in calendar_lines(standing.calendar, console, columns):
            console.line(line)
    elif fitting and standing.calendar.weeks:
        console.note("the calendar is wider than the terminal: --calendar shows its newest weeks")


def _advise(console: Console, found: Iterable[Standing]) -> None:
    """What to do about each device, once for all conversations."""
    from mlog.api.standing import CopyState

    copies = [copy for standing in found for copy in standing.copies]
    if not copies:
        console.note(
            "no other device is known here, so all of this is in one place only. 'mlog pair' "
            "connects another one."
        )
    for name in dict.fromkeys(copy.name for copy in copies):
        states = {copy.state for copy in copies if copy.name == name}
        if CopyState.NEVER_MET in states:
            console.note(
                f"{safe(name)} was never met: run 'mlog serve' there, and here {_sync_with(name)}, or "
                f"'mlog sync HOST:PORT' with its address."
            )
        elif states - {CopyState.EQUAL}:
            console.note(f"{_sync_with(name)} brings it up to date while it is reachable.")


def _sync_with(name: str) -> str:
    """The command, as it can be typed: names of other people's devices have blanks and brackets."""
    typed = shlex.quote(safe(name))
    return f"mlog sync {typed}" if typed.startswith("'") else f"'mlog sync {typed}'"


def _check_stale(console: Console, home: Home, found: dict[int, Standing], age_ms: int) -> None:
    now_ms = home.now_ms()
    for conversation in home.conversations():
        standing = found.get(conversation.n)
        if standing is None or (standing.proven_ms and now_ms - standing.proven_ms <= age_ms):
            continue
        console.exit_code = _STALE
        since = (
            f"was last proven to be on another device {when(standing.proven_ms, now_ms, None)}"
            if standing.proven_ms
            else "was never proven to be on another device"
        )
        console.note(f"stale: {conversation.title or '(no title)'} {since}")


# -- diff ------------------------------------------------------------------------------------


@verb(
    "diff",
    """mlog diff laptop
    mlog diff laptop trip --json""",
)
@click.argument("device", type=TEXT)
@click.argument("conversation", type=CONVERSATION, required=False)
@click.option("--timeout", type=DURATION, metavar="DURATION", help="Give up after so long, such as 5m.")
def diff(console: Console, device: str, conversation: str | None, timeout: int | None) -> None:
    """Compare with another device entry by entry, and transfer nothing.

    DEVICE is its name, or the start of its id. Exits 3 where something differs, or it cannot be reached.
    """
    from mlog.api.repair import compare
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        n = None if conversation is None else home.conversation(conversation).n
        found = compare(home, device, n, timeout_s=None if timeout is None else timeout / 1000)
        console.exit_code = 0 if found.equal else _DIFFERING
        lines = Lines(home, console)
        for log in found.logs:
            if console.json:
                _difference_records(console, home, lines, found, log)
            else:
                _difference_lines(console, home, lines, found, log)


def _difference_records(
    console: Console, home: Home, lines: Lines, found: Comparison, log: Difference
) -> None:
    about = {**lines.place(log.log), "device": found.device.hex(), "name": found.name}
    counts = {"here_only": len(log.here), "there_only": len(log.there)}
    console.record("compared", {**about, "shared": log.shared, "equal": log.equal, **counts})
    for id_ in log.here:
        entry = home.entry(id_.hex(), log.log)
        said = str((entry.body or {}).get("text", "")) or None
        fields = {"author": lines.author(entry), "time": iso_or_none(entry.time_ms), "text": said}
        console.record("difference", {**about, "id": id_.hex(), "where": "here", **fields})
    for id_ in log.there:
        fields = {"author": None, "time": None, "text": None}
        console.record("difference", {**about, "id": id_.hex(), "where": "there", **fields})


def _difference_lines(console: Console, home: Home, lines: Lines, found: Comparison, log: Difference) -> None:
    columns = shutil.get_terminal_size().columns
    title, name = console.bold(lines.title(log.log)), safe(found.name)
    if not log.shared:
        console.line(f"{console.mark(ok=False)} {title}: {name} does not have it")
    elif log.equal:
        console.line(f"{console.mark(ok=True)} {title}: equal")
    elif not log.here and not log.there:
        console.line(f"{console.mark(ok=False)} {title}: the same entries, but one side lacks texts of some")
    else:
        counts = f"{len(log.here):,} only here, {len(log.there):,} only at {name}"
        console.line(f"{console.mark(ok=False)} {title}: {counts}")
    for id_ in log.here:
        label = shorten(lines.entry_label(home.entry(id_.hex(), log.log)), max(columns - 8, 1))
        console.line(f"  here  {label}")
    for id_ in log.there:
        console.line(f"  there {id_.hex()[:16]}")


# -- why -------------------------------------------------------------------------------------


@verb(
    "why",
    """mlog why 3f9a
    mlog why phone:12 --in trip""",
)
@click.argument("entry", type=TEXT)
@click.option("--in", "conversation", type=CONVERSATION, metavar="CONVERSATION", help="Only in this one.")
def why(console: Console, entry: str, conversation: str | None) -> None:
    """Explain one entry: why it is trusted, shown, or not here.

    ENTRY is the start of an id, also of an entry that is not here, or DEVICE:NUMBER, the number in the
    device's chain. Every hash, link and signature that is named was checked for the answer.
    """
    from mlog.api.why import explain
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        found = explain(home, entry, None if conversation is None else home.conversation(conversation).n)
        lines = Lines(home, console)
        sentences = list(_sentences(found, lines, home.now_ms()))
        if console.json:
            console.record("why", {**_why_fields(found, lines), "explanation": sentences})
            return
        columns = shutil.get_terminal_size().columns
        for sentence in sentences:
            for line in _wrapped(sentence, columns, 0):
                console.line(line)


def _why_fields(found: Explanation, lines: Lines) -> dict[str, object]:
    from mlog.log.bodies import kind_name

    return {
        **lines.place(found.log),
        "id": found.id.hex() or None,
        "message_id": found.mid.hex() or None,
        "here": found.here,
        "kind": kind_name(found.kind) if found.kind else None,
        "author": found.author or None,
        "claimed": found.claimed,
        "device": found.device.hex() or None,
        "incarnation": found.incarnation.hex() or None,
        "seq": found.seq if found.device else None,
        "time": iso_or_none(found.time_ms),
        "week": found.week if found.here else None,
        "arrival": found.arrival or None,
        "authentic": bool(found.vouching.by),
        "vouched_by": found.vouching.by.hex() or None,
        "damage": found.damage,
        "rank": found.rank if found.mid else None,
        "pushed_by": found.pushed_by.hex() or None,
        "parents": [parent.hex() for parent in found.parents],
        "absent_parents": [parent.hex() for parent in found.absent_parents],
        "shown": found.shown.value if found.here else None,
        "by": found.by.hex() or None,
        "forked": found.fork is not None,
        "reason": found.reason,
        "holders": lines.holders(found.holders),
        "seen": [lines.seen(one) for one in found.seen],
        "missing": [
            {
                "part": absence.part,
                "reason": absence.reason.value,
                "detail": absence.detail,
                "since": iso_or_none(absence.since_ms),
                "named_by": absence.named_by.hex() or None,
            }
            for absence in found.absences
        ],
    }


def _sentences(found: Explanation, lines: Lines, now_ms: int) -> Iterable[str]:
    """What is known of an entry, in plain words; safe."""
    if found.here:
        yield from _about(found, lines)
        yield from _trusted(found)
        yield from _placed(found)
        yield from _shown(found)
    else:
        yield _not_here(found, lines)
    for absence in found.absences:
        yield from _missing(absence, now_ms, here=found.here)
    yield _held(found)
    yield from _seen(found, lines)


def _seen(found: Explanation, lines: Lines) -> Iterable[str]:
    read = [lines.seen_text(one) for one in found.seen if one.read]
    held = [lines.seen_text(one) for one in found.seen if not one.read]
    if read:
        yield f"It was read, as these devices say, by {'; '.join(read)}."
    if held:
        yield f"It was delivered, and nobody said that it was read, to {'; '.join(held)}."


def _short(id_: bytes) -> str:
    return id_.hex()[:8]


def _about(found: Explanation, lines: Lines) -> Iterable[str]:
    from mlog.cli.calendar import week_start
    from mlog.cli.lines import stamp
    from mlog.log.bodies import kind_name

    where = f"the week from {week_start(found.week)} of {lines.title(found.log)}"
    if not found.device:
        yield f"Entry {_short(found.id)} is in {where}; its author and kind cannot be read here."
    else:
        what = f"Entry {_short(found.id)} ({kind_name(found.kind)}) is in {where}"
        device = f"device {_short(found.device)}"
        if found.claimed:
            yield f"{what}: {device} imported it, and the file names <{safe(found.author)}> as its author."
        else:
            yield f"{what}: {safe(found.author)} wrote it on {device}."
        dated = f"dated {stamp(found.time_ms)} by its author" if found.time_ms else "not dated"
        yield f"It is number {found.seq} of its chain, and {dated}."
    came = f"It came here as number {found.arrival:,} of all that came; from whom was not written down."
    yield "It was written on this device." if found.written_here else came


def _trusted(found: Explanation) -> Iterable[str]:
    vouching = found.vouching
    if not vouching.by:
        reason = f": {safe(vouching.detail)}" if vouching.detail else ""
        yield f"It is not authentic{reason}. So it is stored and counted, and nothing of it is shown."
    elif not vouching.links:
        yield "It is authentic: it carries a valid signature of its device."
    else:
        links = "one link leads" if vouching.links == 1 else f"{vouching.links:,} links lead"
        yield (
            f"It is authentic: entry {_short(vouching.by)}, number {vouching.seq} of the same chain, carries "
            f"a valid signature of the device, and {links} from there back to it."
        )
    yield f"Its bytes are damaged: {safe(found.damage)}." if found.damage else "Its bytes match its hash."
    if found.fork is not None:
        one, other = _short(found.fork.one), _short(found.fork.other)
        yield (
            f"Its chain has branches: the device wrote {one} and {other} at the same number, "
            f"{found.fork.seq}, as after its disk was set back. Both branches are read."
        )


def _placed(found: Explanation) -> Iterable[str]:
    if not found.vouching.by:
        return
    if found.pushed_by:
        yield (
            f"It names entry {_short(found.pushed_by)}, which does not stand before its own time, so it "
            "stands right behind that one."
        )
    else:
        yield "It stands in the view at its own time; all entries that it names stand before that."
    beside = [f"after {_short(found.before)}"] if found.before else []
    beside += [f"before {_short(found.after)}"] if found.after else []
    if beside:
        yield f"Among the messages that is {' and '.join(beside)}."
    if found.absent_parents:
        absent = ", ".join(_short(parent) for parent in found.absent_parents)
        yield f"Of the entries that it names, these are not here: {absent}."


def _shown(found: Explanation) -> Iterable[str]:
    from mlog.api.why import Shown

    by = f" {_short(found.by)}" if found.by else ""
    match found.shown:
        case Shown.SHOWN:
            yield "It is shown as it was written."
        case Shown.CLOSED:
            yield (
                "It is from before you joined, or its author had not heard of that yet: its text is closed "
                "to you. An admin who can read it can let you ('mlog add CONVERSATION YOU --history')."
            )
        case Shown.EDITED:
            yield f"It is shown with the text of the edit{by}, the latest one by its own author."
        case Shown.ERASED:
            yield f"It is shown as erased: its own author erased the text, by the entry{by}."
        case Shown.EXPIRED:
            yield (
                f"It is expired: the conversation lets messages disappear, by the entry{by}, and by the "
                "clock here its time is over. Its text is forgotten here, and its place in the log stays."
            )
        case Shown.HIDDEN:
            yield f"It is not shown: the entry{by} says the same message, and stands for both."
        case Shown.NO_RIGHT:
            yield (
                "It is not shown, and counts for nothing: whoever wrote it was not in the conversation, or "
                "was removed, and this is not among what was accepted by then."
            )
        case Shown.QUARANTINED:
            yield (
                "It is not shown, and counts for nothing: its device was revoked, and this is not among what "
                "was accepted of it by then."
            )
        case Shown.CONTROL:
            yield "It is not a message; it says or changes something about the log."
        case Shown.NOTED:
            yield "It is not a message; it notes something that only the devices of its person read."
        case Shown.REFUSED:
            yield f"It counts for nothing: what it notes is refused, since {safe(found.reason)}."
        case Shown.NOT_READ:
            return


def _not_here(found: Explanation, lines: Lines) -> str:
    where = lines.title(found.log)
    if found.id:
        return f"Entry {_short(found.id)} of {where} is not here."
    return f"Number {found.seq} of a chain of device {_short(found.device)} in {where} is not here."


def _missing(absence: Absence, now_ms: int, *, here: bool) -> Iterable[str]:
    since = f", noticed {when(absence.since_ms, now_ms, None)}" if absence.since_ms else ""
    what = f"Its {absence.part} is" if here else "It is"
    yield f"{what} {absence.reason.value}{since}: {safe(absence.detail)}."
    if absence.named_by:
        yield f"Entry {_short(absence.named_by)}, which is here, shows that there is one."


def _held(found: Explanation) -> str:
    names = [f"{safe(holder.name)} ({holder.certainty.value})" for holder in found.holders]
    names += [
        f"{safe(holder.name)} ({holder.certainty.value})"
        for absence in found.absences
        for holder in absence.holders
        if holder.device not in {known.device for known in found.holders}
    ]
    if names:
        advice = "" if found.here and not found.absences else " 'mlog sync' fetches what is missing."
        return f"Other devices that have it: {', '.join(dict.fromkeys(names))}.{advice}"
    if found.here:
        return "No other device has proven lately that it has it."
    return "No device is known to have it: 'mlog sync' asks all that can be reached."


def _wrapped(text: str, columns: int, indent: int) -> Sequence[str]:
    """Safe text in lines of a terminal."""
    space = " " * indent
    return textwrap.wrap(text, max(columns, indent + 20), initial_indent=space, subsequent_indent=space)
