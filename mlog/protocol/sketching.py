"""Sketches of segments: what both sides of a session do to find the ids that differ.

numpy, which takes 0.1 s to import, is loaded when the first sketch is made.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from struct import pack, unpack
from typing import TYPE_CHECKING

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log import crypto
from mlog.log.ids import EntryId
from mlog.log.segments import pages_of
from mlog.log.store import Store

if TYPE_CHECKING:
    from mlog.protocol.sketch import Sketcher

__all__ = ["Sketched", "decode_weeks", "encode_weeks"]


class Sketched:
    """The ids of some segments of a log, sketched under the key of one attempt.

    Attributes:
        sketcher: To be used once `fill` has come to its end.
    """

    def __init__(self, store: Store, log: int, weeks: Sequence[int], binding: bytes, attempt: int):
        from mlog.protocol.sketch import Sketcher

        self._log = log
        self.attempt = attempt
        key = crypto.keyed_hash(binding, b"sketch" + pack(">Q", attempt))
        self.sketcher: Sketcher = Sketcher(key)
        self._store = store
        self._weeks = weeks

    def fill(self) -> Iterator[None]:
        """Read the ids, in slices."""
        for part in self._slices():
            self.sketcher.add(part)
            yield

    def find(self, shorts: Collection[int]) -> Generator[None, None, list[EntryId]]:
        """The entries with these short ids, in slices."""
        found: list[EntryId] = []
        for part in self._slices():
            for ids in self.sketcher.find(shorts, part).values():
                found += ids
            yield
        return found

    def _slices(self) -> Iterator[bytes]:
        for week in self._weeks:
            for page in pages_of(self._store, self._log, week):
                yield b"".join([id_ for _, id_, _ in page])


def encode_weeks(weeks: Collection[int]) -> bytes:
    """Two bytes each, ascending."""
    return pack(f">{len(weeks)}H", *sorted(weeks))


def decode_weeks(data: bytes) -> tuple[int, ...]:
    """Parse them.

    Raises:
        ProtocolViolation: Cut off, out of order, or none.
    """
    if len(data) % 2 or not data:
        raise ProtocolViolation("no weeks to sketch")
    weeks = unpack(f">{len(data) // 2}H", data)
    if weeks[-1] > limits.WEEK_MAX or list(weeks) != sorted(set(weeks)):
        raise ProtocolViolation("weeks out of order")
    return weeks
