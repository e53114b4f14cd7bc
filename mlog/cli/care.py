"""Commands that look after the log: is everything whole, what is missing, what needs a hand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import CONVERSATION, LIMIT, verb
from mlog.cli.terminal import safe
from mlog.errors import MlogError, VerificationFailed
from mlog.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlog.api import Check, Home
    from mlog.api.repair import Absence
    from mlog.cli.output import Console
    from mlog.log.verify import Finding

__all__ = ["doctor", "gaps", "print_checks", "verify"]

_FAILED: Final = VerificationFailed.exit_code

_GAPS_SHOWN: Final = 50


@verb(
    "verify",
    """mlog verify
    mlog verify trip --signatures
    mlog verify --repair""",
)
@click.argument("conversation", type=CONVERSATION, required=False)
@click.option(
    "--signatures",
    is_flag=True,
    help="Check every signature and look up every search word too, which takes longer.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Fetch what is damaged or missing from your other devices, and check again.",
)
def verify(console: Console, conversation: str | None, signatures: bool, repair: bool) -> None:
    """Check every stored byte, and name what is damaged or missing.

    Without CONVERSATION everything is checked, your own devices' log included. Exits 4 if anything is
    wrong; 'mlog gaps' lists it from then on. With --repair only if anything is left.
    """
    from mlog.cli.lines import Lines

    console.interrupted = "interrupted. Nothing was changed; run it again to check everything."
    with console.open_home() as home:
        n = _chosen(home, conversation)
        if repair:
            console.interrupted = "interrupted. What had come stays; run it again to go on."
            _repair(console, home, n, signatures=signatures)
            return
        looked_at = 0
        total = sum(log.entries for log in home.status(n))
        with console.progress("verifying", total) as progress:

            def count(entries: int) -> None:
                nonlocal looked_at
                looked_at += entries
                progress.add(entries)

            findings = home.verify(n, signatures=signatures, progress=count)
        # Also where nobody reads to the end.
        console.exit_code = _FAILED if findings else 0
        lines = Lines(home, console)
        for finding in findings:
            if console.json:
                console.record("finding", lines.finding(finding))
            else:
                console.line(f"{console.mark(ok=False)} {lines.finding_line(finding)}")
        if console.json:
            sums = {"entries": looked_at, "findings": len(findings), "signatures": signatures}
            console.record("verified", {**sums, "ok": not findings})
        elif findings:
            looked = counted(looked_at, "entry", "entries")
            console.line(f"\n{len(findings):,} found in {looked}.{_advice(home, findings)}")
        else:
            also = ", signatures included" if signatures else ""
            console.line(f"{console.mark(ok=True)} all {looked_at:,} entries are whole{also}")


def _repair(console: Console, home: Home, log: int | None, *, signatures: bool) -> None:
    from mlog.api.repair import repair
    from mlog.cli.lines import Lines

    with console.progress("verifying") as progress:
        done = repair(home, log, signatures=signatures, progress=progress.add)
    console.exit_code = 0 if done.is_whole else _FAILED
    lines = Lines(home, console)
    if console.json:
        for absence in done.healed:
            console.record("healed", lines.absence(absence))
        for absence in done.left:
            console.record("gap", lines.absence(absence))
        for finding in done.findings:
            console.record("finding", lines.finding(finding))
        sums = {
            "entries": done.entries,
            "healed": len(done.healed),
            "left": len(done.left) + len(done.findings),
            "sources": dict(done.sources),
            "search_rebuilt": done.search_rebuilt,
            "reason": done.reason,
            "ok": done.is_whole,
        }
        console.record("repaired", sums)
        return
    for absence in done.healed:
        console.line(f"{console.mark(ok=True)} healed: {lines.absence_lines(absence)[0]}")
    for absence in done.left:
        first, *rest = lines.absence_lines(absence)
        console.line(f"{console.mark(ok=False)} {first}")
        for line in rest:
            console.line(line)
    for finding in done.findings:
        console.line(f"{console.mark(ok=False)} {lines.finding_line(finding)}")
    if done.search_rebuilt:
        console.line(f"{console.mark(ok=True)} the search index was made anew")
    if done.sources:
        came = ", ".join(f"{count:,} from {safe(name)}" for name, count in done.sources)
        console.line(f"\nentries, or parts of them, that came: {came}")
    if done.is_whole:
        console.line(f"{console.mark(ok=True)} all {done.entries:,} entries are whole")
    else:
        left = len(done.left) + len(done.findings)
        console.line(console.bad(f"{left:,} left in {counted(done.entries, 'entry', 'entries')}"))
    if done.reason and not done.is_whole:
        console.note(f"not every device could be asked: {done.reason}.")


def _advice(home: Home, findings: Sequence[Finding]) -> str:
    # The search index, which is of no log, says itself how it is mended.
    if all(finding.part == "index" and not finding.log for finding in findings):
        return ""
    if home.store.peers():
        return " 'mlog verify --repair' fetches it from your other devices."
    return " Restore a backup beside this home to compare: 'mlog --home FOLDER restore FILE'."


@verb(
    "gaps",
    """mlog gaps
    mlog gaps trip --limit all
    mlog gaps --check || echo 'something is missing'""",
)
@click.argument("conversation", type=CONVERSATION, required=False)
@click.option(
    "--limit", type=LIMIT, default=50, show_default=True, help="List so many; 'all' for all of them."
)
@click.option("--check", is_flag=True, help="Exit with 4 if there is one.")
def gaps(console: Console, conversation: str | None, limit: int | None, check: bool) -> None:
    """List what is missing or damaged, why, and who has it.

    What 'verify' found, and what is missing by what other entries and devices say. What is outside a
    window, pruned or erased is absent on purpose, and no gap.
    """
    from mlog.api.repair import absences
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        found = absences(home, _chosen(home, conversation))
        missing = [absence for absence in found if absence.is_gap]
        console.exit_code = _FAILED if missing and check else 0
        lines = Lines(home, console)
        if console.json:
            for absence in found if limit is None else found[:limit]:
                console.record("gap", lines.absence(absence))
            return
        limit = limit or _GAPS_SHOWN
        _count_gaps(console, missing, [absence for absence in found if not absence.is_gap])
        for absence in found[:limit]:
            for line in lines.absence_lines(absence):
                console.line(line)
        if len(found) > limit:
            console.line(f"and {len(found) - limit:,} more: 'mlog gaps --limit all' lists them")
        _advise_gaps(console, missing)


def _count_gaps(console: Console, missing: Sequence[Absence], others: Sequence[Absence]) -> None:
    if not missing:
        console.note("no gap known; 'mlog verify' looks for them")
    else:
        count = sum(absence.count for absence in missing)
        logs = len({absence.log for absence in missing})
        where = "" if logs == 1 else f" in {logs:,} conversations"
        console.line(console.bad(f"{count:,} missing or damaged{where}"))
    count = sum(absence.count for absence in others)
    if count:
        console.line(console.dim(f"{count:,} absent on purpose, or never to be read; no gap"))


def _advise_gaps(console: Console, missing: Sequence[Absence]) -> None:
    """The last lines: what to do."""
    missing = [absence for absence in missing if absence.is_entry]
    if not missing:
        return
    holders = Counter(holder.name for absence in missing for holder in absence.holders)
    if holders:
        name, count = holders.most_common(1)[0]
        console.line(f"'mlog sync {safe(name)}' fetches what it has, {count:,} of these.")
    else:
        console.line("No device is known to have them: 'mlog sync' asks all that can be reached.")
    if any(absence.is_damage for absence in missing):
        console.line("'mlog verify --repair' replaces what is damaged, and checks everything again.")


@verb(
    "doctor",
    """mlog doctor
    mlog doctor --rebuild-search""",
)
@click.option("--rebuild-search", is_flag=True, help="First make the search index anew from the messages.")
@click.option("--offline", is_flag=True, help="Leave out the network, and send nothing.")
def doctor(console: Console, rebuild_search: bool, offline: bool) -> None:
    """Check Python, disk, database, keys and network, and give advice.

    Where other devices are known it knocks at their addresses, and says why one does not answer. Exits
    1 if something needs your hand.
    """
    from mlog.api import Check

    try:
        with console.open_home() as home:
            if rebuild_search:
                home.rebuild_search()
                console.note("the search index is made anew; 'mlog verify' compares it with the messages")
            checks = home.doctor(offline=offline)
    except MlogError as error:
        # What cannot even be opened is the finding.
        console.exit_code = error.exit_code
        print_checks(console, [Check(name="home", ok=False, detail=str(error))])
        return
    console.exit_code = 0 if all(check.ok for check in checks) else 1
    print_checks(console, checks)


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """Checks, each with its mark, and advice where one is not ok."""
    for check in checks:
        advice = "" if check.ok else check.advice
        if console.json:
            fields = {"name": check.name, "ok": check.ok, "detail": check.detail, "advice": advice}
            console.record("check", fields)
            continue
        console.line(f"{console.mark(ok=check.ok)} {console.bold(safe(check.name))}: {safe(check.detail)}")
        if advice:
            console.line(f"    {safe(advice)}")


def _chosen(home: Home, conversation: str | None) -> int | None:
    return None if conversation is None else home.conversation(conversation).n
