"""Commands that look after the log: is everything whole, what is missing, how much is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import CONVERSATION, verb
from mlog.cli.output import iso_or_none
from mlog.cli.terminal import safe, when
from mlog.errors import MlogError, VerificationFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlog.api import Check, Home
    from mlog.cli.output import Console
    from mlog.log.verify import Finding

__all__ = ["doctor", "gaps", "print_checks", "verify"]

_FAILED: Final = VerificationFailed.exit_code


@verb(
    "verify",
    """mlog verify
    mlog verify trip --signatures""",
)
@click.argument("conversation", type=CONVERSATION, required=False)
@click.option(
    "--signatures",
    is_flag=True,
    help="Check every signature and look up every search word too, which takes longer.",
)
def verify(console: Console, conversation: str | None, signatures: bool) -> None:
    """Check every stored byte, and name what is damaged or missing.

    Without CONVERSATION everything is checked, your own devices' log included. Exits 4 if anything is
    wrong; 'mlog gaps' lists it from then on.
    """
    from mlog.cli.lines import Lines

    console.interrupted = "interrupted. Nothing was changed; run it again to check everything."
    with console.open_home() as home:
        n = _chosen(home, conversation)
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
            console.line(f"\n{len(findings):,} found in {looked_at:,} entries.{_advice(findings)}")
        else:
            also = ", signatures included" if signatures else ""
            console.line(f"{console.mark(ok=True)} all {looked_at:,} entries are whole{also}")


def _advice(findings: Sequence[Finding]) -> str:
    # The search index, which is of no log, says itself how it is mended.
    if all(finding.part == "index" and not finding.log for finding in findings):
        return ""
    return " Restore a backup beside this home to compare: 'mlog --home FOLDER restore FILE'."


@verb(
    "gaps",
    """mlog gaps
    mlog gaps --check || echo 'something is missing'""",
)
@click.argument("conversation", type=CONVERSATION, required=False)
@click.option("--check", is_flag=True, help="Exit with 4 if there is one.")
def gaps(console: Console, conversation: str | None, check: bool) -> None:
    """List what the last 'verify' found damaged or missing."""
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        found = home.gaps(_chosen(home, conversation))
        console.exit_code = _FAILED if found and check else 0
        lines = Lines(home, console)
        for gap in found:
            if console.json:
                console.record("gap", {**lines.finding(gap), "since": iso_or_none(gap.since_ms)})
            else:
                since = when(gap.since_ms, home.now_ms(), None)
                console.line(f"{lines.finding_line(gap)} {console.dim(f'(since {since})')}")
        if not found:
            console.note("no gap known; 'mlog verify' looks for them")


@verb(
    "doctor",
    """mlog doctor
    mlog doctor --rebuild-search""",
)
@click.option("--rebuild-search", is_flag=True, help="First make the search index anew from the messages.")
def doctor(console: Console, rebuild_search: bool) -> None:
    """Check Python, disk, database and keys, and give advice.

    Exits 1 if something needs your hand.
    """
    from mlog.api import Check

    try:
        with console.open_home() as home:
            if rebuild_search:
                home.rebuild_search()
                console.note("the search index is made anew; 'mlog verify' compares it with the messages")
            checks = home.doctor()
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
