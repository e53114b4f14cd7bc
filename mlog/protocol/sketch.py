"""Rateless sketch: two replicas learn how their sets of ids differ, at a cost of the difference only.

The coder sums the short ids of its set into cells and sends a growing prefix of them. The other
replica takes its own cells off, so that what both hold cancels, and peels: a cell with one short
id left names it, taking that id off its other cells leaves further cells with one, until all are
empty. Short ids are keyed hashes under a key fresh to each attempt, so that nobody who chooses
ids can choose where they fall. The scheme is that of Yang, Gilad and Alizadeh, "Practical
Rateless Set Reconciliation" (SIGCOMM 2024), in integers only. Wire format, bounds and test
vectors: docs/protocol.md, 15.

All work that grows with a set is cut into slices of a few milliseconds; a method that gives an
`Iterator[None]` does one slice each time it is asked for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isqrt
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlog.errors import InvalidInput, LimitExceeded
from mlog.limits import SKETCH_CELLS_FIRST, SKETCH_CELLS_MAX, SKETCH_ROUNDS_MAX
from mlog.log import crypto
from mlog.log.ids import ENTRY_ID_SIZE, EntryId

__all__ = [
    "CELL_SIZE",
    "SHORT_ID_SIZE",
    "Peeler",
    "Sketcher",
    "cells_max",
    "decode_short_ids",
    "encode_short_ids",
    "first_cells",
    "next_cells",
]

_Words: TypeAlias = NDArray[np.uint64]
_Octets: TypeAlias = NDArray[np.uint8]
_Indices: TypeAlias = NDArray[np.uint32]
_Positions: TypeAlias = NDArray[np.intp]
_Word = TypeVar("_Word", np.uint64, np.uint8)

SHORT_ID_SIZE: Final = 7
CELL_SIZE: Final = SHORT_ID_SIZE + 2
"""Sum of short ids, sum of their checks, how many they are: 7, 1 and 1 bytes, each modulo its size."""

_ID_SIZE: Final = 32
_ID_WORDS: Final = 8
_HASH_KEYS: Final = 2 * (1 + _ID_WORDS)

_SHORT_MASK: Final = np.uint64((1 << 8 * SHORT_ID_SIZE) - 1)
_STRIDE: Final = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2: Final = np.uint64(0x94D049BB133111EB)

_DRAW_BITS: Final = 24
"""With indices below 2^18 all numbers of the walk stay below 2^63: exact in every language."""
assert 4 * (SKETCH_CELLS_MAX * (SKETCH_CELLS_MAX + 1) << _DRAW_BITS) + 1 < 1 << 63

_OCTET: Final = np.uint64(255)

_TALLY_SHIFT: Final = np.uint64(40)
"""A tally holds a sum of checks in its low 40 bits and a count above: one addition for both."""

_SLICE: Final = 16_384
"""Ids in one slice: what they need fits the processor's cache, and takes about 5 ms."""

_PEEL_SLICE: Final = 4_096
"""Cells looked at in one slice of peeling, for the same reason."""


class Sketcher:
    """The short ids of a fixed set of ids, and the cells made of them; both sides have one.

    Memory: 12 bytes for each id and 16 for each cell.
    """

    def __init__(self, key: bytes):
        """
        Args:
            key: 32 bytes, fresh to the session and the attempt, unknown to whoever chose the ids.
        """
        self._hash_keys: _Words = np.frombuffer(
            crypto.derive("sketch", key, 8 * _HASH_KEYS), dtype=">u8"
        ).astype(np.uint64)
        self._added: list[_Words] = []
        self._shorts: _Words = np.empty(0, np.uint64)
        self._next: _Indices = np.empty(0, np.uint32)
        self._sums: _Words = np.zeros(0, np.uint64)
        self._tallies: _Words = np.zeros(0, np.uint64)
        self._cells = 0
        self._sliced = 0

    @property
    def count(self) -> int:
        """How many ids were added."""
        return self._shorts.size + sum(part.size for part in self._added)

    def add(self, ids: bytes) -> None:
        """Put ids into the set, before the first cell is made.

        Args:
            ids: Ids of 32 bytes, one after the other, each once; about 20,000 take 1 ms.
        """
        assert not self._sums.size, "cells are made of a fixed set"
        self._added.append(self._short(ids))

    def find(self, short_ids: Iterable[int], ids: bytes) -> dict[int, list[EntryId]]:
        """Those of `ids` that have one of these short ids; two with the same are very rare.

        The ids are handed in again, a slice at a time, since keeping them would take three times
        the memory of all the rest.
        """
        wanted = np.fromiter(short_ids, np.uint64)
        shorts = self._short(ids)
        found: dict[int, list[EntryId]] = {}
        for position in np.flatnonzero(np.isin(shorts, wanted)).tolist():
            id_ = EntryId(ids[_ID_SIZE * position : _ID_SIZE * (position + 1)])
            found.setdefault(int(shorts[position]), []).append(id_)
        return found

    def extend(self, stop: int) -> Iterator[None]:
        """Make the cells below `stop`, in slices of about 5 ms.

        Raises:
            LimitExceeded: More than SKETCH_CELLS_MAX cells.
        """
        if stop > SKETCH_CELLS_MAX:
            raise LimitExceeded(f"a sketch of {stop} cells; at most {SKETCH_CELLS_MAX}")
        return self._extend(stop)

    def encoded(self, start: int, stop: int) -> bytes:
        """Wire form of the cells from `start` up to `stop`, which `extend` has made."""
        sums, checks, counts = self.columns(start, stop)
        cells = np.empty((stop - start, CELL_SIZE), np.uint8)
        cells[:, :SHORT_ID_SIZE] = sums.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 1:]
        cells[:, SHORT_ID_SIZE] = checks
        cells[:, SHORT_ID_SIZE + 1] = counts
        return cells.tobytes()

    def columns(self, start: int, stop: int) -> tuple[_Words, _Octets, _Octets]:
        """Sums, checks and counts of cells that are made; a sum's low 56 bits are what counts."""
        assert 0 <= start <= stop <= self._cells, "cells that are not made yet"
        tallies = self._tallies[start:stop]
        counts = (tallies >> _TALLY_SHIFT).astype(np.uint8)
        return self._sums[start:stop], tallies.astype(np.uint8), counts

    def _short(self, ids: bytes) -> _Words:
        assert len(ids) % _ID_SIZE == 0, "ids of 32 bytes"
        words = np.frombuffer(ids, dtype=">u4").reshape(-1, _ID_WORDS).T.astype(np.uint64)
        high, low = (_multilinear(keys, words) for keys in self._hash_keys.reshape(2, -1))
        return _mix(high << np.uint64(32) | low) >> np.uint64(8)

    def _extend(self, stop: int) -> Iterator[None]:
        if self._added:
            self._shorts = np.concatenate(self._added)
            self._next = np.zeros(self._shorts.size, np.uint32)
            self._added.clear()
        # What an abandoned call began is finished first: some ids are in its cells already.
        while self._cells < stop:
            if self._sums.size == self._cells:
                self._sums = _longer(self._sums, stop)
                self._tallies = _longer(self._tallies, stop)
            while self._sliced < self._shorts.size:
                self._extend_slice()
                yield
            self._cells = self._sums.size
            self._sliced = 0

    def _extend_slice(self) -> None:
        part = slice(self._sliced, self._sliced + _SLICE)
        shorts = self._shorts[part]
        tallies = _check(shorts) | np.uint64(1) << _TALLY_SHIFT
        for at, cells in _walk(shorts, self._next[part], self._sums.size):
            np.add.at(self._sums, cells, shorts[at])
            np.add.at(self._tallies, cells, tallies[at])
        self._sliced += shorts.size


class Peeler:
    """Own cells against the coder's: which short ids only one of the two holds.

    Attributes:
        decoded: All cells fed so far are explained by `there` and `here`.
        there: Short ids that only the coder holds, once decoded.
        here: Short ids that only this side holds, once decoded.
    """

    def __init__(self, own: Sketcher):
        self.decoded = False
        self.there: list[int] = []
        self.here: list[int] = []
        self._own = own
        self._received: list[_Octets] = []
        self._fed = 0
        self._sums: _Words = np.empty(0, np.uint64)
        self._checks: _Octets = np.empty(0, np.uint8)
        self._counts: _Octets = np.empty(0, np.uint8)
        self._first_counts: _Octets = np.empty(0, np.uint8)
        self._named: _Octets = np.empty(0, np.uint8)
        self._shorts: _Words = np.empty(0, np.uint64)
        self._signs: _Words = np.empty(0, np.uint64)
        self._next: _Indices = np.empty(0, np.uint32)
        self._rounds = 0

    @property
    def cells(self) -> int:
        """How many cells were fed."""
        return self._fed

    def feed(self, encoded: bytes) -> None:
        """Take the coder's next cells; `peel` then works on them.

        Raises:
            InvalidInput: Not a number of whole cells.
            LimitExceeded: More than SKETCH_CELLS_MAX cells in all.
        """
        count, rest = divmod(len(encoded), CELL_SIZE)
        if rest or not count:
            raise InvalidInput(f"{len(encoded)} bytes are not cells of {CELL_SIZE} bytes")
        if self._fed + count > SKETCH_CELLS_MAX:
            raise LimitExceeded(f"a sketch of {self._fed + count} cells; at most {SKETCH_CELLS_MAX}")
        self._received.append(np.frombuffer(encoded, np.uint8).reshape(count, CELL_SIZE))
        self._fed += count

    def peel(self) -> Iterator[None]:
        """Work on the cells fed so far, in slices of about 5 ms; to be run to its end.

        Afterwards `decoded` tells whether they were enough. Whatever the cells hold, at most two
        short ids are peeled for each cell, in at most SKETCH_ROUNDS_MAX rounds for each peeler.
        """
        yield from self._own.extend(self._fed)
        start = self._take_received()
        for first in range(0, self._shorts.size, _SLICE):
            self._take_off_known(slice(first, first + _SLICE))
            yield
        touched: _Positions = np.arange(start, self._fed)
        while touched.size and self._rounds < SKETCH_ROUNDS_MAX:
            self._rounds += 1
            changed = np.zeros(self._fed, np.bool_)
            for first in range(0, touched.size, _PEEL_SLICE):
                changed[self._peel_slice(touched[first : first + _PEEL_SLICE])] = True
                yield
            touched = np.flatnonzero(changed)
        self._conclude()

    def estimate(self, count_there: int) -> int:
        """How many ids differ, by the spread of the counts: within a quarter in two of three cases
        from 32 cells, within a tenth from 200; too few where there are 1,000 for each cell fed.

        Args:
            count_there: How many ids the coder says it holds.
        """
        surplus = count_there - self._own.count
        # All ids are in cell 0, so it tells nothing.
        share = 2.0 / (np.arange(1, self._fed) + 2.0)
        if not share.size:
            return abs(surplus)
        counts = self._first_counts[1:].astype(np.float64)
        spread = (counts - surplus * share + 128.0) % 256.0 - 128.0
        return max(abs(surplus), round(float(np.mean(spread**2 / (share * (1.0 - share))))))

    def _take_received(self) -> int:
        """Append the cells fed, with the own ones taken off; gives the index of the first."""
        start = self._sums.size
        received = np.concatenate([np.empty((0, CELL_SIZE), np.uint8), *self._received])
        self._received.clear()
        words = np.zeros((len(received), 8), np.uint8)
        words[:, 8 - SHORT_ID_SIZE :] = received[:, :SHORT_ID_SIZE]
        sums, checks, counts = self._own.columns(start, self._fed)
        counts = received[:, SHORT_ID_SIZE + 1] - counts
        self._sums = np.append(self._sums, words.view(">u8").ravel().astype(np.uint64) - sums)
        self._checks = np.append(self._checks, received[:, SHORT_ID_SIZE] - checks)
        self._counts = np.append(self._counts, counts)
        self._first_counts = np.append(self._first_counts, counts)
        self._named = _longer(self._named, self._fed)
        return start

    def _take_off_known(self, part: slice) -> None:
        shorts, signs = self._shorts[part], self._signs[part]
        for at, cells in _walk(shorts, self._next[part], self._fed):
            self._take_off(cells, shorts[at], signs[at])

    def _peel_slice(self, cells: _Positions) -> _Positions:
        """Peel what these cells name; gives the cells that it was in."""
        # A sum of several that looks like one short id puts it, once taken off, into cells that
        # were empty; they name it on the other side, and that cancels. For ever, if the first cell
        # could go on naming it; so no cell names more than two.
        cells = cells[np.isin(self._counts[cells], (1, 255)) & (self._named[cells] < 2)]
        signs = self._counts[cells].astype(np.int8).astype(np.uint64)
        shorts = self._sums[cells] * signs & _SHORT_MASK
        likely = _check(shorts) * signs & _OCTET == self._checks[cells]
        shorts, first = np.unique(shorts[likely], return_index=True)
        signs, cells = signs[likely][first], cells[likely][first]
        self._named[cells] += 1
        # Such a sum seldom looks like a short id that belongs in this cell.
        following = np.zeros(shorts.size, np.uint32)
        belongs = np.zeros(shorts.size, np.bool_)
        steps = [(np.empty(0, np.intp), np.empty(0, np.intp))]
        for at, visited in _walk(shorts, following, self._fed):
            belongs[at] |= cells[at] == visited
            steps.append((at, visited))
        at, visited = (np.concatenate(column) for column in zip(*steps, strict=True))
        at, visited = at[belongs[at]], visited[belongs[at]]
        self._take_off(visited, shorts[at], signs[at])
        self._shorts = np.append(self._shorts, shorts[belongs])
        self._signs = np.append(self._signs, signs[belongs])
        self._next = np.append(self._next, following[belongs])
        return visited

    def _take_off(self, cells: _Positions, shorts: _Words, signs: _Words) -> None:
        np.subtract.at(self._sums, cells, shorts * signs)
        np.subtract.at(self._checks, cells, (_check(shorts) * signs).astype(np.uint8))
        np.subtract.at(self._counts, cells, signs.astype(np.uint8))

    def _conclude(self) -> None:
        shorts, inverse = np.unique(self._shorts, return_inverse=True)
        times = np.zeros(shorts.size, np.int64)
        np.add.at(times, inverse, self._signs.astype(np.int64))
        empty = not ((self._sums & _SHORT_MASK).any() or self._checks.any() or self._counts.any())
        # What was peeled from both sides as often was in neither; nothing is in a set twice.
        self.decoded = empty and bool((np.abs(times) <= 1).all())
        self.there = shorts[times == 1].tolist() if self.decoded else []
        self.here = shorts[times == -1].tolist() if self.decoded else []


# -- how many cells --------------------------------------------------------------------------


def cells_max(count_there: int) -> int:
    """How many cells of a coder with that many ids are worth their bytes: beyond, it lists its ids."""
    return min(count_there * ENTRY_ID_SIZE // CELL_SIZE, SKETCH_CELLS_MAX)


def first_cells(count_here: int, count_there: int) -> int:
    """How many cells to ask a coder for before anything but the counts is known; 0: list instead."""
    wanted = max(_expected_cells(abs(count_here - count_there)), SKETCH_CELLS_FIRST)
    return wanted if wanted <= cells_max(count_there) else 0


def next_cells(have: int, estimate: int, count_there: int) -> int:
    """How many cells to have in all, where `have` were not enough; 0: list instead.

    Args:
        have: Cells fed so far, at least one.
        estimate: What `Peeler.estimate` makes of them.
        count_there: How many ids the coder says it holds.
    """
    wanted = _expected_cells(estimate)
    # A few cells tell little of a large difference: stop short of it, and estimate again from more.
    if wanted > 2 * have:
        wanted = max(wanted * 3 // 4, 2 * have)
    wanted = max(wanted, have + max(have // 16, SKETCH_CELLS_FIRST // 2))
    return wanted if wanted <= cells_max(count_there) else 0


def _expected_cells(differing: int) -> int:
    """Enough to decode that many differing ids in 19 of 20 attempts (tests/protocol/test_sketch.py)."""
    return differing * 34 // 25 + 3 * isqrt(differing) + 4


# -- lists of short ids ----------------------------------------------------------------------


def encode_short_ids(short_ids: Iterable[int]) -> bytes:
    """Short ids, each in 7 bytes, in ascending order."""
    return b"".join(short.to_bytes(SHORT_ID_SIZE, "big") for short in sorted(short_ids))


def decode_short_ids(encoded: bytes) -> list[int]:
    """Read what `encode_short_ids` makes.

    Raises:
        InvalidInput: Not a number of whole short ids, or not in strictly ascending order.
    """
    count, rest = divmod(len(encoded), SHORT_ID_SIZE)
    if rest:
        raise InvalidInput(f"{len(encoded)} bytes are not short ids of {SHORT_ID_SIZE} bytes")
    words = np.zeros((count, 8), np.uint8)
    words[:, 8 - SHORT_ID_SIZE :] = np.frombuffer(encoded, np.uint8).reshape(count, SHORT_ID_SIZE)
    short_ids = words.view(">u8").ravel().astype(np.uint64)
    if (short_ids[1:] <= short_ids[:-1]).any():
        raise InvalidInput("short ids are not in ascending order")
    return short_ids.tolist()


# -- arithmetic, all of it modulo 2^64 -------------------------------------------------------


def _multilinear(keys: _Words, words: _Words) -> _Words:
    """The high 32 bits of k0 + k1 w1 + ... + k8 w8: strongly universal, see docs/protocol.md, 15.2."""
    total = np.full(words.shape[1], keys[0])
    for key, word in zip(keys[1:], words, strict=True):
        total += key * word
    return total >> np.uint64(32)


def _mix(words: _Words) -> _Words:
    """A fixed permutation of 64-bit words in which every bit depends on every other (SplitMix64's)."""
    words = (words ^ words >> np.uint64(30)) * _FACTOR_1
    words = (words ^ words >> np.uint64(27)) * _FACTOR_2
    return words ^ words >> np.uint64(31)


def _check(shorts: _Words) -> _Words:
    """8 bits that a sum of short ids does not have but by chance."""
    return _mix(shorts) >> np.uint64(56)


def _walk(shorts: _Words, following: _Indices, stop: int) -> Iterator[tuple[_Positions, _Positions]]:
    """The cells of short ids from `following` up to `stop`, one step of all of them at a time.

    Args:
        following: Where each short id goes next; afterwards at or beyond `stop`.

    Yields:
        Positions in `shorts`, and the cell of each.
    """
    at = np.flatnonzero(following < stop)
    while at.size:
        cells = following[at]
        yield at, cells.astype(np.intp)
        cells = _step(shorts[at], cells.astype(np.uint64))
        following[at] = cells
        at = at[cells < stop]


def _step(shorts: _Words, cells: _Words) -> _Words:
    """The cell after this one of each short id; see docs/protocol.md, 15.3."""
    after = cells + np.uint64(1)
    draws = (_mix(shorts + after * _STRIDE) >> np.uint64(64 - _DRAW_BITS)) + np.uint64(1)
    bound = (after * (cells + np.uint64(2)) << np.uint64(_DRAW_BITS)) // draws
    square = bound * np.uint64(4) + np.uint64(1)
    # Roots that lead to a cell are below 2^20, so the float holds their squares exactly.
    root = np.sqrt(square.astype(np.float64)).astype(np.uint64)
    return np.minimum((root + np.uint64(1)) // np.uint64(2) - np.uint64(1), np.uint64(SKETCH_CELLS_MAX))


def _longer(array: NDArray[_Word], size: int) -> NDArray[_Word]:
    return np.append(array, np.zeros(size - array.size, array.dtype))
