"""Expiry: what is said in a conversation disappears after a time, on every replica by its own clock.

An EXPIRE entry says after how long; it holds for what stands behind it in the view, up to the next
one, so that a setting never reaches back to what was said before. Where several persons write, only
an admin's counts, by the rulings that it names. Only what was written in mlog expires: an import tells
of another chat. A body that expired counts in the digests as if it were here, so that replicas whose
clocks differ stay equal; and it is not taken again, unless the setting turns out not to count: then it
is wanted of others. docs/protocol.md, 6.7.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Final, NamedTuple, TypeAlias

import msgspec

from mlog import limits
from mlog.log import bodies
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.store import BodyState, EntryRow, Position, Store, TimelineQuery
from mlog.log.stored import readable_body

__all__ = ["EXPIRING", "Setters", "Setting", "due", "may_expire", "setting_at", "settings_of"]

EXPIRING: Final = SPOKEN | {Kind.EDIT, Kind.MANIFEST, Kind.CHUNK}
"""Kinds whose bodies expire."""

Setters: TypeAlias = Callable[[int, Sequence[EntryRow]], Set[int]]
"""Gives, of EXPIRE entries of a log, those by number whose authors may set it."""


class Setting(NamedTuple):
    """From a place in the view on, how long bodies are kept; 0 for as long as one likes."""

    position: Position
    after_ms: int


def settings_of(store: Store, log: int, setters: Setters) -> list[Setting]:
    """The settings of a log that count, in the order of the view; at most the last STORE_ROWS_MAX."""
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({int(Kind.EXPIRE)}))
    found: list[Setting] = []
    # All are looked at: who may set nothing pushes out no setting, however many entries that writes.
    while rows := store.timeline(query):
        counting = setters(log, rows)
        for row in rows:
            body = readable_body(row.kind, row.body) if row.n in counting else None
            if isinstance(body, bodies.Expire):
                found.append(Setting(row.position, body.after_ms))
        found = found[-limits.STORE_ROWS_MAX :]
        query = msgspec.structs.replace(query, after=rows[-1].position)
    return found


def setting_at(settings: Sequence[Setting], position: Position) -> int:
    """How long a body at this place is kept; 0 for as long as one likes."""
    at = bisect_left(settings, position, key=lambda setting: setting.position)
    return settings[at - 1].after_ms if at else 0


def may_expire(settings: Sequence[Setting], row: EntryRow) -> bool:
    """Whether the settings of a log let an entry expire; an edit or a file goes with its message, too."""
    if row.mid is not None or row.kind not in EXPIRING:
        return False
    if row.kind in SPOKEN or row.kind == Kind.CHUNK:
        return setting_at(settings, row.position) > 0
    return any(setting.after_ms and setting.position < row.position for setting in settings)


def due(store: Store, log: int, settings: Sequence[Setting], now_ms: int) -> Iterator[list[EntryRow]]:
    """The entries of a log whose time is over and whose bodies have not expired yet, in pages."""
    ends: list[Position | None] = [setting.position for setting in settings[1:]]
    for setting, end in zip(settings, [*ends, None], strict=False):
        if not setting.after_ms:
            continue
        query = TimelineQuery(
            log=log,
            limit=limits.STORE_ROWS_MAX,
            after=setting.position,
            before=end,
            until_ms=now_ms - setting.after_ms + 1,
            kinds=frozenset(int(kind) for kind in EXPIRING),
            hidden=True,
        )
        while rows := store.timeline(query):
            # An edit may have gone with its message, in a page before. What was erased expires too: who never
            # had it cannot tell that it was.
            yield [row for row in rows if row.state != BodyState.EXPIRED and row.mid is None]
            query = msgspec.structs.replace(query, after=rows[-1].position)
