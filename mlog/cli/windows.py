"""Commands that decide how much of a conversation this device keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from mlog.cli.options import CONVERSATION, span_ms, verb
from mlog.cli.terminal import safe
from mlog.plurals import counted

if TYPE_CHECKING:
    from mlog.api import Home
    from mlog.api.windows import Pruned, Window
    from mlog.cli.output import Console

__all__ = ["prune", "window"]

_ALL: Final = "all"
_DAY_MS: Final = 24 * 3600 * 1000
_WEEKS_SHOWN_MAX: Final = 5


class _Span(click.ParamType[int]):
    """Days; 0 is everything."""

    name = "30d|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int) or value == _ALL:
            return value if isinstance(value, int) else 0
        days, rest = divmod(span_ms(str(value)), _DAY_MS)
        if rest or not days:
            self.fail(f"{value!r} is no number of days: write it as 30d, 8w or 1y, or as 'all'.", param, ctx)
        return days


@verb(
    "window",
    """mlog window
    mlog window trip 30d
    mlog window all 1y --no-bodies
    mlog window trip all""",
)
@click.argument("conversation", type=CONVERSATION, required=False, metavar="[CONVERSATION|all]")
@click.argument("span", type=_Span(), required=False, metavar="[30d|all]")
@click.option("--bodies/--no-bodies", default=None, help="Fetch texts too; or only who wrote when.")
def window(console: Console, conversation: str | None, span: int | None, bodies: bool | None) -> None:
    """Choose how far back this device keeps a conversation.

    Without a time it shows what was chosen. Nothing is dropped by this: 'prune' does that. "all" in the
    place of a conversation means all there are, and those that come later.
    """
    from mlog.api.windows import set_window, windows

    with console.open_home() as home:
        log = _chosen(home, conversation)
        if conversation is None and bodies is not None:
            raise click.UsageError("name a CONVERSATION, or 'all'.")
        changes = span is not None or bodies is not None
        for found in set_window(home, log, span, bodies=bodies) if changes else windows(home, log):
            _print_window(console, home, found)


def _chosen(home: Home, conversation: str | None) -> int | None:
    return None if conversation in (None, _ALL) else home.conversation(conversation).n


def _print_window(console: Console, home: Home, found: Window) -> None:
    if console.json:
        from mlog.cli.lines import Lines

        place = Lines(home, console).place(found.log)
        console.record("window", {**place, "days": found.days or None, "bodies": found.bodies})
        return
    kept = counted(found.days, "day") if found.days else "everything"
    title = (safe(found.title) or "(no title)") if found.log else "conversations that come later"
    console.line(f"{title}: {kept}{'' if found.bodies else ', without texts'}")


@verb(
    "prune",
    """mlog prune --dry-run
    mlog prune trip
    mlog prune trip --force""",
)
@click.argument("conversation", type=CONVERSATION, required=False)
@click.option("--force", is_flag=True, help="Also drop what no other device has proven to hold.")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
def prune(console: Console, conversation: str | None, force: bool, dry_run: bool) -> None:
    """Drop what lies before the window and others hold.

    Only what another of your devices has proven to hold, by a receipt that still counts, is dropped.
    Exits 1 if something had to stay for want of a proof.
    """
    from mlog.api import windows

    console.interrupted = "interrupted. What was dropped is dropped; run it again to go on."
    with console.open_home() as home:
        log = None if conversation is None else home.conversation(conversation).n
        with console.progress("pruning") as progress:
            found = windows.prune(home, log, force=force, dry_run=dry_run, progress=progress.add)
        for pruned in found:
            _print_pruned(console, home, pruned, dry_run=dry_run)
    console.exit_code = 1 if any(pruned.unproven for pruned in found) else 0


def _print_pruned(console: Console, home: Home, pruned: Pruned, *, dry_run: bool) -> None:
    if console.json:
        from mlog.cli.lines import Lines

        fields = {
            **Lines(home, console).place(pruned.log),
            "entries": pruned.entries,
            "unproven": [_monday(week) for week in pruned.unproven],
            "dry_run": dry_run,
        }
        console.record("pruned", fields)
        return
    title = safe(pruned.title) or "(no title)"
    if not pruned.first_week:
        console.line(f"{title}: kept whole; 'mlog window' sets how much is kept")
        return
    verb_ = "would drop" if dry_run else "dropped"
    entries = counted(pruned.entries, "entry", "entries")
    console.line(f"{title}: {verb_} {entries} from before {_monday(pruned.first_week)}")
    if pruned.unproven:
        weeks = ", ".join(_monday(week) for week in pruned.unproven[:_WEEKS_SHOWN_MAX])
        more = len(pruned.unproven) - _WEEKS_SHOWN_MAX
        of = "the week" if len(pruned.unproven) == 1 else "the weeks"
        console.line(
            f"  kept, since nobody has proven to hold them: {of} of {weeks}"
            f"{f' and {more} more' if more > 0 else ''}. 'mlog sync' with another device gets the proof."
        )


def _monday(week: int) -> str:
    from mlog.log.ids import week_start_ms

    return f"{datetime.fromtimestamp(week_start_ms(week) / 1000, UTC):%Y-%m-%d}"
