"""Segments in slices: what is asked of all ids of a week, when a hostile member has filled it.

What a window carries along from before it (mlog/log/scope.py) is read like a segment.

A store reads entries of a week in the order of arrival, a page at a time, and nothing puts millions of ids
in order at once. Here each page is sorted by itself, and pages are merged a slice at a time; a generator
yields between two slices, so that others have their turn. What came meanwhile shows in the segment's
stamp (`Store.segment_stamp`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final, TypeAlias

from mlog import limits
from mlog.log import crypto
from mlog.log.ids import EntryId
from mlog.log.merkle import segment_digest
from mlog.log.store import Digest, Store

__all__ = [
    "Digester",
    "Pages",
    "Stamps",
    "carried_hash",
    "carried_pages",
    "least_ids",
    "pages_of",
    "sorted_slices",
]

_WEEK_AS_IDS: Final = 40
"""What a week costs besides its ids: a log may have one entry in each of 8,192."""
_ID_SIZE: Final = 32
_HELD: Final = b"\1"
_STAMPS_MAX: Final = 10_000
"""Segments whose changes are told apart; of more all count as changed."""


Pages: TypeAlias = Iterator[list[tuple[int, EntryId, bool]]]
"""Ids in the order of arrival, with their numbers, and whether the body is held."""


class Stamps:
    """Numbers of the latest changes of segments, as far as one process made them."""

    def __init__(self) -> None:
        self._changes = 0
        self._least = 0
        self._of: dict[tuple[int, int], int] = {}

    def of(self, log: int, week: int) -> int:
        """Another one after each change."""
        return self._of.get((log, week), self._least)

    def change(self, log: int, week: int) -> None:
        """A segment has changed."""
        self._changes += 1
        self._of[log, week] = self._changes
        if len(self._of) > _STAMPS_MAX:
            self.change_all()

    def change_all(self) -> None:
        """Any may have changed."""
        self._changes += 1
        self._of.clear()
        self._least = self._changes


class Digester:
    """Makes the digests of a store's segments, for all who wait for them.

    Of a long segment the ids are in memory meanwhile, 33 bytes each; so there is one at a time, and whoever
    has a turn goes on with it, of whatever log it is.
    """

    def __init__(self, store: Store):
        self._store = store
        self._long: Iterator[None] | None = None
        self._waiting: dict[int, None] = {}

    def step(self, log: int) -> bool:
        """One slice of work; False once all digests of a log are up to date."""
        if self._long is not None:
            self._waiting[log] = None
            if next(self._long, self) is not self:
                return True
            self._long = None
        # One that changes all the time is begun again and again, and must not keep out the others.
        first = next(iter(self._waiting), log)
        self._waiting.pop(first, None)
        if first != log and self._begin(first):
            return True
        return self._begin(log)

    def _begin(self, log: int) -> bool:
        store, room = self._store, limits.SEGMENT_SLICE_IDS
        stale = store.stale_weeks(log)
        if not stale:
            return False
        with store.transaction():
            for week in stale:
                page = store.segment_page(log, week, 0, room)
                if len(page) == room:
                    if room == limits.SEGMENT_SLICE_IDS:
                        self._long = self._hash(log, week)
                    break
                ids = sorted((id_, held) for _, id_, held in page)
                store.put_digest(log, segment_digest(week, ids))
                room -= len(page) + _WEEK_AS_IDS
                if room <= 0:
                    break
        return True

    def _hash(self, log: int, week: int) -> Iterator[None]:
        """Hash a long segment; where it changes meanwhile that was in vain, and it stays to be hashed."""
        store = self._store
        stamp = store.segment_stamp(log, week)
        entries, bodies = crypto.hasher("segment entries"), crypto.hasher("segment bodies")
        entry_count = body_count = 0
        slices = sorted_slices(pages_of(store, log, week))
        for part in slices:
            if store.segment_stamp(log, week) != stamp:
                return
            held = [item[:_ID_SIZE] for item in part if item[_ID_SIZE:] == _HELD]
            entries.update(b"".join([item[:_ID_SIZE] for item in part]))
            bodies.update(b"".join(held))
            entry_count += len(part)
            body_count += len(held)
            yield
        with store.transaction():
            if store.segment_stamp(log, week) == stamp:
                digest = Digest(week, entry_count, body_count, entries.digest(), bodies.digest())
                store.put_digest(log, digest)


def pages_of(store: Store, log: int, week: int) -> Pages:
    """All of a segment in the order of arrival, in pages; as `Store.segment_page`."""
    after = 0
    while page := store.segment_page(log, week, after, limits.SEGMENT_SLICE_IDS):
        yield page
        if len(page) < limits.SEGMENT_SLICE_IDS:
            return
        after = page[-1][0]


def carried_pages(store: Store, log: int, week: int) -> Pages:
    """What a window that begins with a week carries along, as `pages_of`; all count as held."""
    after = 0
    while page := store.carried(log, week, after, limits.SEGMENT_SLICE_IDS):
        yield [(n, id_, True) for n, id_ in page]
        if len(page) < limits.SEGMENT_SLICE_IDS:
            return
        after = page[-1][0]


def carried_hash(store: Store, log: int, week: int) -> Generator[None, None, bytes]:
    """32 bytes over the ids of what a window carries along, in ascending order; in slices."""
    hasher = crypto.hasher("carried entries")
    for part in sorted_slices(carried_pages(store, log, week)):
        hasher.update(b"".join([item[:_ID_SIZE] for item in part]))
        yield
    return hasher.digest()


def sorted_slices(pages: Pages) -> Iterator[list[bytes]]:
    """A segment in the order of ids, in slices: each item an id, and a byte 1 where its body is held, else 0.

    Slices are empty while it is read.
    """
    runs: list[bytes] = []
    for page in pages:
        runs.append(b"".join(sorted(id_ + (_HELD if held else b"\0") for _, id_, held in page)))
        yield []
    yield from _merged(runs)


def _merged(runs: list[bytes]) -> Iterator[list[bytes]]:
    """Runs of items in ascending order as one, in slices."""
    size = _ID_SIZE + 1
    at = [0] * len(runs)
    step = max(limits.SEGMENT_SLICE_IDS // max(len(runs), 1), 1)
    while True:
        # Up to the lowest of what stands a step further on: no run has more than a step of that.
        ends = [
            run[min(start + step * size, len(run)) - size :][:size]
            for run, start in zip(runs, at, strict=True)
            if start < len(run)
        ]
        if not ends:
            return
        bound = min(ends)
        part: list[bytes] = []
        for n, run in enumerate(runs):
            end = _behind(run, at[n], bound, size)
            part += [run[start : start + size] for start in range(at[n], end, size)]
            at[n] = end
        part.sort()
        yield part


def _behind(run: bytes, start: int, bound: bytes, size: int) -> int:
    """Where in a run those begin that are greater than a bound."""
    low, high = start // size, len(run) // size
    while low < high:
        middle = (low + high) // 2
        if run[middle * size : (middle + 1) * size] <= bound:
            low = middle + 1
        else:
            high = middle
    return low * size


def least_ids(pages: Pages, after: bytes, count: int) -> Generator[None, None, list[EntryId]]:
    """The lowest ids of a segment behind one, at most so many, in ascending order; in slices."""
    found: list[EntryId] = []
    for page in pages:
        found = sorted([*found, *(id_ for _, id_, _ in page if id_ > after)])[:count]
        if len(page) == limits.SEGMENT_SLICE_IDS:
            yield
    return found
