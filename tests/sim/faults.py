"""Disks that fail: stores which are killed, refused or filled up at a chosen point of a transaction.

A `Disk` is what survives a crash. It opens a real store, in memory or SQLite, whose transactions
pass named points; a `Fault` that is set goes off at one of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from mlog.adapters.sqlite import SqliteStore
from mlog.errors import Busy, StoreError
from mlog.log.ids import EntryId
from mlog.log.memory import MemoryStore
from mlog.log.store import EntryRow, Reference

__all__ = ["POINTS", "Disk", "Fault", "Injected", "InjectedBusy", "Killed", "SimStore"]

POINTS: Final = ("begin", "inside", "before commit", "after commit", "after marker")
"""Where a fault may go off; at "begin" nothing is written, from "after commit" on all is."""


class Killed(BaseException):
    """The process is gone at this point: nothing may catch this."""


class Injected(StoreError):
    """The disk failed because the schedule said so."""


class InjectedBusy(Busy):
    """Another process held the lock for too long because the schedule said so."""


class Fault(msgspec.Struct):
    """What goes wrong, and when.

    Attributes:
        after: How many times the point is passed unharmed.
        kind: "kill", "fail" or "busy".
    """

    point: str
    after: int
    kind: str

    def raise_it(self) -> None:
        if self.kind == "kill":
            raise Killed
        if self.kind == "busy":
            raise InjectedBusy("another process writes")
        raise Injected("the disk is full, says the schedule")


class _Watched:
    """Mixed into a store: passes the points, and tells of commits."""

    fault: Fault | None = None
    depth: int = 0
    commits: int = 0
    committed: Callable[[], None] = staticmethod(lambda: None)

    def pass_point(self, name: str) -> None:
        fault = self.fault
        if fault is None or fault.point != name:
            return
        fault.after -= 1
        if fault.after < 0:
            self.fault = None
            fault.raise_it()

    @contextmanager
    def transaction(self) -> Generator[None]:
        if self.depth:
            yield
            return
        self.pass_point("begin")
        self.depth = 1
        try:
            with super().transaction():  # type: ignore[misc] # the store that this is mixed into
                yield
                self.pass_point("before commit")
        finally:
            self.depth = 0
        self.commits += 1
        self.pass_point("after commit")
        self.committed()
        self.pass_point("after marker")

    def insert(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        super().insert(rows, parents, references, words)  # type: ignore[misc]
        self.pass_point("inside")


class _InMemory(_Watched, MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.metas: dict[str, bytes] = {}

    def meta(self, name: str) -> bytes | None:
        return self.metas.get(name)

    def set_meta(self, name: str, value: bytes) -> None:
        self.metas[name] = value

    def close(self) -> None:
        self.fault = None


class _OnDisk(_Watched, SqliteStore):
    pass


SimStore: TypeAlias = _InMemory | _OnDisk

_inodes = count(1)


class Disk:
    """Where one machine's database lies.

    Args:
        folder: For SQLite; None keeps it in memory.
    """

    def __init__(self, folder: Path | None = None):
        self._folder = folder
        if folder is not None:
            folder.mkdir()
        self._tables: Any = None
        self._metas: dict[str, bytes] = {}
        self._files = 0
        self.inode = next(_inodes)
        self._open: SimStore | None = None

    @property
    def path(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._files}.db"

    def open(self) -> SimStore:
        """The store with all that was committed."""
        assert self._open is None
        if self._folder is None:
            store: SimStore = _InMemory()
            if self._tables is not None:
                store._t, store.metas = self._tables, self._metas
            self._tables, self._metas = store._t, store.metas
        else:
            if not self.path.exists():
                self.path.write_bytes(_empty_database(self._folder.parent))
            store = _OnDisk(self.path)
        self._open = store
        return store

    def close(self) -> None:
        """The process that had it open is gone."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def snapshot(self) -> Any:
        """A backup of what is committed."""
        if self._folder is None:
            return copy.deepcopy((self._tables, self._metas))
        assert isinstance(self._open, _OnDisk)
        path = self._folder / "copy.db"
        self._open.copy_to(path)
        copied = path.read_bytes()
        path.unlink()
        return copied

    def restore(self, snapshot: Any) -> None:
        """Put a backup in the place of the database: another file with another inode."""
        assert self._open is None
        self.inode = next(_inodes)
        if self._folder is None:
            self._tables, self._metas = copy.deepcopy(snapshot)
        else:
            self._files += 1
            self.path.write_bytes(snapshot)


_template: list[bytes] = []


def _empty_database(folder: Path) -> bytes:
    """A database without entries; migrations run once in a process, and not for each machine."""
    if not _template:
        path = folder / "template.db"
        SqliteStore(path).close()
        _template.append(path.read_bytes())
        path.unlink()
    return _template[0]
