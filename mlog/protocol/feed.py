"""Feed: what was committed to the store, read and sealed once for all sessions that pass it on.

A message goes to every connected device: its row is the same for all of them, and so are its bytes on
the wire, but for the serial of the bundle. What is kept here holds until the next commit, or until no
session has work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mlog import limits
from mlog.log.replica import Replica
from mlog.log.store import EntryRow, LogRow
from mlog.protocol.wire import Packed

__all__ = ["Feed"]

_PAGES_MAX: Final = 64
"""Pages that are kept: of a few logs, and of a few places in each; together at most one bundle's worth."""


class Feed:
    """What is new in the logs of a replica."""

    def __init__(self, replica: Replica):
        self._replica = replica
        self._store = replica.store
        self._seen_n = self._store.next_n() - 1
        self._logs: list[LogRow] = self._store.logs()
        self._pages: dict[tuple[int, int], list[EntryRow]] = {}
        self._rows = self._size = 0
        self._packed: dict[tuple[int, tuple[int, ...]], tuple[Packed, ...]] = {}

    def look(self) -> tuple[set[int], bool]:
        """After a commit: the logs that have entries since the last look, and whether any log is new,
        or is wanted otherwise."""
        self.forget()
        logs = self._store.logs()
        relisted, self._logs = logs != self._logs, logs
        seen_n, self._seen_n = self._seen_n, self._store.next_n() - 1
        return self._store.logs_behind(seen_n) if self._seen_n != seen_n else set(), relisted

    def forget(self) -> None:
        """Nothing of what was read is up to date any more, or needed."""
        self._pages.clear()
        self._packed.clear()
        self._rows = self._size = 0

    def page(self, log: int, after_n: int) -> list[EntryRow]:
        """Rows of a log in the order of arrival: a bundle's worth at most."""
        key = log, after_n
        rows = self._pages.get(key)
        if rows is None:
            most, room = limits.BUNDLE_ENTRIES_MAX, limits.BUNDLE_SIZE_MAX_BYTES
            rows = self._store.arrivals(log, after_n, most, room=room)
            size = sum(len(row.outer) + len(row.body or b"") for row in rows)
            if len(self._pages) >= _PAGES_MAX or self._rows + len(rows) > most or self._size + size > room:
                self.forget()
            self._pages[key] = rows
            self._rows += len(rows)
            self._size += size
        return rows

    def packed(
        self, log: int, rows: Sequence[EntryRow], pack: Callable[[], tuple[Packed, ...]]
    ) -> tuple[Packed, ...]:
        """The same rows as they go over the wire; made by `pack` the first time."""
        key = log, tuple(row.n for row in rows)
        packed = self._packed.get(key)
        if packed is None:
            packed = self._packed[key] = pack()
        return packed
