"""Digests of segments on the wire: week, entries, bodies, and 16 bytes of either hash.

They prove the pages of a query. Where two replicas are compared, marks are shorter: mlog/protocol/marks.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from struct import Struct
from typing import Final, NamedTuple

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log.store import Digest
from mlog.protocol.wire import ROOT_SIZE

__all__ = ["Segment", "decode_segments", "encode_segments"]

_SEGMENT: Final = Struct(f">HII{ROOT_SIZE}s{ROOT_SIZE}s")


class Segment(NamedTuple):
    """One segment as a peer describes it; the hashes are cut to 16 bytes."""

    week: int
    entries: int
    bodies: int
    entries_hash: bytes
    bodies_hash: bytes


def encode_segments(digests: Iterable[Digest]) -> bytes:
    """42 bytes for each segment that holds an entry, in the order given."""
    return b"".join(
        _SEGMENT.pack(d.week, d.entries, d.bodies, d.entries_hash[:ROOT_SIZE], d.bodies_hash[:ROOT_SIZE])
        for d in digests
        if d.entries
    )


def decode_segments(data: bytes) -> dict[int, Segment]:
    """Parse them, by week.

    Raises:
        ProtocolViolation: Cut off, out of order, or weeks that there are not.
    """
    if len(data) % _SEGMENT.size:
        raise ProtocolViolation("digests that are cut off")
    segments = [Segment(*fields) for fields in _SEGMENT.iter_unpack(data)]
    weeks = [segment.week for segment in segments]
    if any(a >= b for a, b in pairwise(weeks)) or (weeks and weeks[-1] > limits.WEEK_MAX):
        raise ProtocolViolation("digests of weeks out of order")
    return {segment.week: segment for segment in segments}
