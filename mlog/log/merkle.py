"""Segments, digests and roots: what two replicas compare to know that nothing is missing.

A log is cut into weeks. Each segment has two digests, over the sorted ids of its entries and over
those whose body is held; the root hashes all segments. Equal roots, equal sets. The segment that
differs is what a person is shown: "3 entries missing in the week of 12 May".
docs/protocol.md, 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from struct import Struct
from typing import Final

from mlog import limits
from mlog.log import crypto
from mlog.log.ids import EntryId
from mlog.log.store import Digest, Store

__all__ = ["log_root", "refresh_digests", "segment_digest"]

_SEGMENT: Final = Struct(">HQQ32s32s")


def segment_digest(week: int, ids: Iterable[tuple[EntryId, bool]]) -> Digest:
    """Digest of one segment, in bounded memory.

    Args:
        ids: Ids in ascending order, each with whether its body is held.
    """
    entries, bodies = crypto.hasher("segment entries"), crypto.hasher("segment bodies")
    entry_count = body_count = 0
    remaining = iter(ids)
    while part := list(islice(remaining, limits.STORE_ROWS_MAX)):
        joined = b"".join([id_ for id_, _ in part])
        entries.update(joined)
        held = [id_ for id_, has_body in part if has_body]
        bodies.update(joined if len(held) == len(part) else b"".join(held))
        entry_count += len(part)
        body_count += len(held)
    return Digest(week, entry_count, body_count, entries.digest(), bodies.digest())


def log_root(digests: Iterable[Digest]) -> bytes:
    """Root of a log: 32 bytes over all its segments that hold an entry, in order of weeks."""
    return crypto.hash_with_context(
        "log root",
        b"".join(
            _SEGMENT.pack(d.week, d.entries, d.bodies, d.entries_hash, d.bodies_hash)
            for d in sorted(digests, key=lambda digest: digest.week)
            if d.entries
        ),
    )


def refresh_digests(store: Store, log: int) -> list[Digest]:
    """The digests of all segments, made again where entries came, went or changed."""
    stale = store.stale_weeks(log)
    if stale:
        with store.transaction():
            for week in store.stale_weeks(log):
                store.put_digest(log, segment_digest(week, store.segment(log, week)))
    return store.digests(log)
