"""Windows: how much of each conversation this home keeps, and dropping what others keep too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from mlog.errors import UserError
from mlog.log import window
from mlog.log.store import LogKind, LogRow

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = ["DAYS_MAX", "Pruned", "Window", "prune", "set_window", "windows"]

DAYS_MAX = 100_000
"""Longest window in days; a longer one is everything there is."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a conversation is wanted here.

    Attributes:
        log: 0 for those that are not here yet.
        days: So many back from now; 0 for everything.
        bodies: Texts too, and not only who wrote when.
    """

    log: int
    title: str
    days: int
    bodies: bool


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What pruning a conversation dropped, or would drop.

    Attributes:
        first_week: What is from this week on stays; 0 where the conversation has no window.
        entries: So many went.
        unproven: Weeks before that were left whole, since nobody has proven to hold them.
    """

    log: int
    title: str
    first_week: int
    entries: int
    unproven: tuple[int, ...]


def windows(home: Home, log: int | None = None) -> list[Window]:
    """The window of one conversation, or of all; last that of later ones, where one was chosen."""
    found = [
        Window(log=row.n, title=row.title, days=row.window_days, bodies=row.fetch_bodies)
        for row in _conversations(home, log)
    ]
    days, bodies = home.store.window_of_new()
    if log is None and (days, bodies) != (0, True):
        found.append(Window(log=0, title="", days=days, bodies=bodies))
    return found


def set_window(
    home: Home, log: int | None, days: int | None = None, *, bodies: bool | None = None
) -> list[Window]:
    """Choose how much of a conversation, or of all that there are and that come later, is wanted here.

    Nothing is dropped by this, and what was dropped before and is wanted again comes with the next sync.

    Args:
        days: 0 for everything; None leaves it as it is.
        bodies: None leaves it as it is.

    Raises:
        UserError: Less than a day, or more than DAYS_MAX.
    """
    if days is not None and not 0 <= days <= DAYS_MAX:
        raise UserError(f"a window has from 1 to {DAYS_MAX:,} days, or is 'all'.")
    with home.store.transaction():
        for row in _conversations(home, log):
            window.set_window(
                home.store,
                row.n,
                row.window_days if days is None else days,
                fetch_bodies=row.fetch_bodies if bodies is None else bodies,
                now_ms=home.now_ms(),
            )
        if log is None:
            days_of_new, bodies_of_new = home.store.window_of_new()
            home.store.set_window_of_new(
                days_of_new if days is None else days,
                fetch_bodies=bodies_of_new if bodies is None else bodies,
            )
    return windows(home, log)


def prune(
    home: Home,
    log: int | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Pruned]:
    """Drop what lies before the window of a conversation, or of all, where others have proven to hold it.

    Args:
        force: Also what nobody has proven to hold: if nobody does, it is lost.
        dry_run: Only count.
        progress: Called with the number of entries dropped since the last call.
    """
    found: list[Pruned] = []
    for row in _conversations(home, log):
        plan = window.plan(home.replica, row.n, home.now_ms(), force=force)
        entries = 0
        for count in window.prune(home.replica, plan, home.now_ms(), dry_run=dry_run):
            entries += count
            progress(count)
        found.append(
            Pruned(
                log=row.n,
                title=row.title,
                first_week=plan.first_week,
                entries=entries,
                unproven=plan.unproven,
            )
        )
    if not dry_run:
        home.finish_erasures()
    return found


def _conversations(home: Home, log: int | None) -> list[LogRow]:
    return [row for row in home.store.logs() if row.kind == LogKind.CONVERSATION and log in (None, row.n)]
