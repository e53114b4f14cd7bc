"""What the disk and SQLite say when something fails, in words that say what to do."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from mlog.errors import Busy, StoreError

__all__ = ["DAMAGED", "disk_advice", "disk_errors"]

DAMAGED: Final = "the file is damaged. Restore a backup with 'mlog restore', into a new folder."
_NO_ROOM: Final = "the disk is full. Make room, then try again: nothing that was confirmed is lost."
_ADVICE: Final[Mapping[str, str]] = {
    "SQLITE_FULL": _NO_ROOM,
    "SQLITE_IOERR_SHMSIZE": _NO_ROOM,  # The index of the WAL cannot grow.
    "SQLITE_READONLY": "it cannot be written. Check the permissions of the file and its folder.",
    "SQLITE_CANTOPEN": "it cannot be opened. Check that it and its folder can be read and written.",
    "SQLITE_PERM": "it cannot be opened. Check the permissions of the file and its folder.",
    "SQLITE_IOERR": "the disk reports an error. Check the disk; 'mlog verify' shows what is damaged.",
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_NOTADB": "it is not an mlog database, or its start is damaged. Restore a backup, or move it.",
}


_SYSTEM: Final[Mapping[int, str]] = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EACCES: _ADVICE["SQLITE_PERM"],
    errno.EPERM: _ADVICE["SQLITE_PERM"],
    errno.EROFS: _ADVICE["SQLITE_READONLY"],
}


class disk_errors:  # noqa: N801 (used like contextlib's)
    """Turn what SQLite and the system raise into errors that say what to do.

    A class and not a generator, which would cost 1 us more: it stands around every statement.

    Raises:
        Busy: Another process holds the database.
        StoreError: Anything else.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        if isinstance(error, sqlite3.Error):
            raise _told(self._path, error) from None
        if isinstance(error, UnicodeDecodeError):
            raise StoreError(f"{self._path}: {DAMAGED}") from None
        if isinstance(error, OSError):
            raise StoreError(f"{self._path}: {disk_advice(error)}") from None


def disk_advice(error: OSError) -> str:
    """What the system refused, and what to do."""
    advice = _SYSTEM.get(error.errno or 0)
    return advice or f"{error.strerror or error}. Check the disk and the folder."


def _told(path: Path, error: sqlite3.Error) -> Busy | StoreError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Busy(f"{path} is in use by another process, which did not finish in time. Try again.")
    for start, advice in _ADVICE.items():
        if name.startswith(start):
            return StoreError(f"{path}: {advice}")
    return StoreError(f"{path}: {error}")
