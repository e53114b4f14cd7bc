"""Commands that say what is proven: how copies stand."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import CONVERSATION, DURATION, verb
from mlog.cli.output import iso_or_none
from mlog.cli.terminal import safe, shorten, when, width
from mlog.errors import PeerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlog.api import Home
    from mlog.api.home import LogStatus
    from mlog.api.standing import Copy, Standing
    from mlog.cli.lines import Lines
    from mlog.cli.output import Console

__all__ = ["status"]

_STALE: Final = PeerUnavailable.exit_code

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
    from mlog.api.standing import standings
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        lines = Lines(home, console)
        n = None if conversation is None else home.conversation(conversation).n
        found = {standing.log: standing for standing in standings(home, n)}
        columns = shutil.get_terminal_size().columns
        for log in home.status(n):
            if console.json:
                _status_records(console, lines, log, found[log.n], calendar=calendar or n is not None)
            else:
                _status_lines(console, lines, log, found[log.n], home.now_ms(), columns)
                _calendar(console, found[log.n], columns, wanted=calendar, fitting=n is not None)
        if not console.json:
            _advise(console, found.values())
        if fail_if_stale is not None:
            _check_stale(console, home, found, fail_if_stale)


# -- for programs ----------------------------------------------------------------------------


def _status_records(
    console: Console, lines: Lines, log: LogStatus, standing: Standing, *, calendar: bool
) -> None:
    from mlog.cli.calendar import calendar_weeks, week_start

    names = ("entries", "bodies", "messages", "chains", "heads", "gaps")
    counts = {name: getattr(log, name) for name in names}
    place = lines.place(log.n)
    proven = iso_or_none(standing.proven_ms)
    fields = {**place, "kind": log.kind.value, **counts, "root": log.root.hex(), "proven": proven}
    console.record("status", fields)
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
    counted = (
        f"{log.messages:,} messages, {log.entries:,} entries, {log.bodies:,} with their text, "
        f"{log.chains:,} chains, {log.heads:,} heads"
    )
    for line in _wrapped(counted, columns, 2):
        console.line(line)
    gaps = console.bad(f"{log.gaps:,} gaps") if log.gaps else "no gap known"
    console.line(f"  root {log.root.hex()[:32]}, {gaps}")
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
        yield shown + (f", and of {earlier:,} earlier weeks" if earlier else "")
    if copy.first_missing is not None:
        yield f"the first one: {copy.first_missing.hex()[:8]} ('mlog why {copy.first_missing.hex()[:8]}')"
    if copy.first_week:
        yield f"it keeps only what is of the week from {week_start(copy.first_week)} or later"
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
            "no other device is known here, so all of this is in one place only. 'mlog trust export FILE' "
            "on two devices, and 'mlog trust import FILE' of each other's file, connect them."
        )
    for name in dict.fromkeys(copy.name for copy in copies):
        states = {copy.state for copy in copies if copy.name == name}
        if CopyState.NEVER_MET in states:
            console.note(
                f"{name} was never met: run 'mlog serve' there, and here 'mlog sync {name}', or "
                f"'mlog sync HOST:PORT' with its address."
            )
        elif states - {CopyState.EQUAL}:
            console.note(f"'mlog sync {name}' brings it up to date while it is reachable.")


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


def _wrapped(text: str, columns: int, indent: int) -> Sequence[str]:
    """Safe text in lines of a terminal."""
    space = " " * indent
    return textwrap.wrap(text, max(columns, indent + 20), initial_indent=space, subsequent_indent=space)
