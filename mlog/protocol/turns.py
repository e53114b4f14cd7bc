"""Turns and alarms: whose turn it is, and whose time comes next, at no cost for those that only wait.

A node has hundreds of sessions, of which most have nothing to do. What an event costs depends on those
that do: a queue of the busy ones, and a heap of times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Generic, TypeVar

__all__ = ["Alarms", "Turns"]

_K = TypeVar("_K", bound=Hashable)

_SLACK: Final = 64
"""Outdated times that may lie in the heap besides one for each that counts."""


class Turns(Generic[_K]):
    """Those that have work, in the order in which it is their turn."""

    def __init__(self) -> None:
        self._queue: deque[_K] = deque()
        self._waiting: set[_K] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: _K) -> None:
        """It has work: it comes behind all others, unless it waits already."""
        if key not in self._waiting:
            self._waiting.add(key)
            self._queue.append(key)

    def remove(self, key: _K) -> None:
        """It is gone."""
        if key in self._waiting:
            self._waiting.remove(key)
            self._queue.remove(key)

    def next(self) -> _K | None:
        """Whose turn it is; it no longer waits."""
        if not self._queue:
            return None
        key = self._queue.popleft()
        self._waiting.remove(key)
        return key


class Alarms(Generic[_K]):
    """One time for each of many."""

    def __init__(self) -> None:
        self._times: dict[_K, int] = {}
        self._heap: list[tuple[int, int, _K]] = []
        self._order = count()

    @property
    def next_ms(self) -> int | None:
        """The earliest time."""
        while self._heap and self._times.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    @property
    def waiting(self) -> list[_K]:
        """Those that have a time."""
        return list(self._times)

    def set(self, key: _K, at_ms: int | None) -> None:
        """Its time is this, and no other any more; None for never."""
        if at_ms is None:
            self._times.pop(key, None)
        elif self._times.get(key) != at_ms:
            self._times[key] = at_ms
            heappush(self._heap, (at_ms, next(self._order), key))
            if len(self._heap) > 2 * len(self._times) + _SLACK:
                self._heap = [(time, next(self._order), known) for known, time in self._times.items()]
                heapify(self._heap)

    def shift(self, by_ms: int) -> None:
        """All times come later by this, or earlier if it is negative."""
        self._times = {key: at_ms + by_ms for key, at_ms in self._times.items()}
        self._heap = [(at_ms, next(self._order), key) for key, at_ms in self._times.items()]
        heapify(self._heap)

    def take(self, now_ms: int) -> Iterator[_K]:
        """Those whose time has come, earliest first; it is over then."""
        while (at_ms := self.next_ms) is not None and at_ms <= now_ms:
            _, _, key = heappop(self._heap)
            del self._times[key]
            yield key
