"""Marks of segments: which weeks of a log differ, in 4 bytes each.

A mark is a hash of what a segment holds, under a key that only this comparison has. So nobody who
chooses ids can make two segments look alike, and a few bytes do: where two do by chance, the segment is
not looked at, the roots still differ, and the next pass has another key. docs/protocol.md, 14.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct, pack
from typing import Final

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log import crypto
from mlog.log.store import Digest

__all__ = ["MARK_SIZE", "decode_marks", "differing_weeks", "encode_marks", "mark_key", "marks_of"]

MARK_SIZE: Final = 4

_RUN: Final = Struct(">HH")
_CONTENT: Final = Struct(">HQ32s")


def mark_key(binding: bytes, attempt: int) -> bytes:
    """The key of one attempt in the session with this binding."""
    return crypto.keyed_hash(binding, b"weeks" + pack(">Q", attempt))


def marks_of(key: bytes, digests: Iterable[Digest]) -> dict[int, bytes]:
    """The mark of each segment that holds an entry, by week; bodies are not in it."""
    return {
        d.week: crypto.keyed_hash(key, _CONTENT.pack(d.week, d.entries, d.entries_hash), MARK_SIZE)
        for d in digests
        if d.entries
    }


def encode_marks(marks: Mapping[int, bytes]) -> bytes:
    """Runs of weeks: first week, number of weeks, and their marks."""
    runs: list[tuple[int, list[bytes]]] = []
    for week, mark in sorted(marks.items()):
        if runs and week == runs[-1][0] + len(runs[-1][1]):
            runs[-1][1].append(mark)
        else:
            runs.append((week, [mark]))
    return b"".join(_RUN.pack(first, len(run)) + b"".join(run) for first, run in runs)


def decode_marks(data: bytes) -> dict[int, bytes]:
    """Parse them, by week.

    Raises:
        ProtocolViolation: Cut off, runs out of order, empty or touching, or weeks that there are not.
    """
    marks: dict[int, bytes] = {}
    at, behind = 0, -1
    while at < len(data):
        if len(data) - at < _RUN.size:
            raise ProtocolViolation("marks that are cut off")
        first, count = _RUN.unpack_from(data, at)
        at += _RUN.size
        if not count or first <= behind or first + count - 1 > limits.WEEK_MAX:
            raise ProtocolViolation("marks of weeks out of order")
        if len(data) - at < count * MARK_SIZE:
            raise ProtocolViolation("marks that are cut off")
        for week in range(first, first + count):
            marks[week] = data[at : at + MARK_SIZE]
            at += MARK_SIZE
        behind = first + count
    return marks


def differing_weeks(mine: Mapping[int, bytes], theirs: Mapping[int, bytes]) -> list[int]:
    """Weeks whose entries differ, newest first."""
    return sorted((w for w in mine.keys() | theirs.keys() if mine.get(w) != theirs.get(w)), reverse=True)
