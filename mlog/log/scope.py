"""Scope: which part of a log a replica keeps, and the roots over that part.

A replica may keep only what is recent, or entries without their bodies. Two replicas compare over
what both keep: from the later of their first weeks on, and bodies only where both want them. So a
root begins at a week, and entries and bodies have roots of their own. docs/protocol.md, 7.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from mlog.log import crypto
from mlog.log.bodies import Kind
from mlog.log.ids import week_of
from mlog.log.store import Digest, EntryRow, LogRow

__all__ = ["CARRIED", "Scope", "bodies_root", "entries_root", "is_carried", "scope_of"]

CARRIED: Final = frozenset(
    {Kind.KEY, Kind.DEVICE, Kind.TITLE, Kind.ADMIT, Kind.REVOKE, Kind.MEMBER, Kind.EXPIRE, Kind.ERASURE}
)
"""Kinds that every window carries along; and the first entry of each chain that reaches into it, which names
the rulings that its device knew."""

_SEGMENT: Final = Struct(">HQ32s")
_DAY_MS: Final = 24 * 3600 * 1000


class Scope(NamedTuple):
    """What a replica keeps of one log.

    Attributes:
        first_week: Everything from this week on; 0 for all there is.
        bodies: Bodies too.
    """

    first_week: int
    bodies: bool


def scope_of(row: LogRow, now_ms: int) -> Scope:
    """What is wanted of a log here and now; its first week moves on with the clock."""
    first_week = week_of(now_ms - row.window_days * _DAY_MS) if row.window_days else 0
    return Scope(first_week, row.fetch_bodies)


def is_carried(row: EntryRow) -> bool:
    """Whether a replica that keeps a window may also want this from before it.

    Without these it would read what it keeps otherwise than others do: who belongs to the log and since when,
    what it is called, how long texts stay, and which are erased.
    """
    return row.seq == 0 or row.kind in CARRIED


def entries_root(digests: Iterable[Digest], first_week: int) -> bytes:
    """32 bytes over the segments from a week on that hold an entry, in order of weeks."""
    return _root("scope entries", first_week, ((d.week, d.entries, d.entries_hash) for d in digests))


def bodies_root(digests: Iterable[Digest], first_week: int) -> bytes:
    """32 bytes over the segments from a week on of which a body is held, in order of weeks."""
    return _root("scope bodies", first_week, ((d.week, d.bodies, d.bodies_hash) for d in digests))


def _root(context: str, first_week: int, segments: Iterable[tuple[int, int, bytes]]) -> bytes:
    chosen = sorted(segment for segment in segments if segment[0] >= first_week and segment[1])
    return crypto.hash_with_context(context, b"".join(_SEGMENT.pack(*segment) for segment in chosen))
