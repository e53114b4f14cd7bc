"""Overwriting what SQLite leaves behind: old pages in the WAL, and gaps inside pages.

`secure_delete` zeroes what is deleted. But where rows move to another page of a B-tree, their old
bytes stay in the unused gap between a page's cell pointers and its cells: a message
that is erased later is still there. Nobody reads a gap, so it may be overwritten beside SQLite,
while nobody can write. Format of a page: https://www.sqlite.org/fileformat2.html, 1.6.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlog import limits

__all__ = ["forget_file", "overwrite_gaps", "overwrite_wal"]

_WAL_HEADER_SIZE: Final = 32
_FILE_HEADER_SIZE: Final = 100
_POINTERS_AT: Final = {2: 12, 5: 12, 10: 8, 13: 8}
"""Where the cell pointers begin, by the type of B-tree page; other pages begin with a page number."""

_open_databases: dict[tuple[int, int], int] = {}


def overwrite_wal(path: Path) -> None:
    """Overwrite a WAL of which everything is in the database, in place."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(file).st_size
        # The header first, durably: after a power loss amid the rest, SQLite would take the pages
        # that are left for the newest ones.
        os.write(file, bytes(min(size, _WAL_HEADER_SIZE)))
        os.fsync(file)
        os.lseek(file, 0, os.SEEK_SET)
        for start in range(0, size, limits.MIB):
            os.write(file, bytes(min(size - start, limits.MIB)))
        os.fsync(file)
    finally:
        os.close(file)


def forget_file(path: Path) -> None:
    """Overwrite a file that no database connection of ours has open, and remove it."""
    if path.exists():
        path.chmod(0o600)
        overwrite_wal(path)
        path.unlink(missing_ok=True)


def overwrite_gaps(path: Path) -> None:
    """Overwrite the gaps in all pages of a database, in place.

    The caller holds SQLite's write lock, and everything in the WAL is in the database; later it
    drops its own cached pages, and commits, so that others drop theirs.
    """
    file = _database_file(path)
    os.lseek(file, 0, os.SEEK_SET)
    head = os.read(file, _FILE_HEADER_SIZE)
    page_size = int.from_bytes(head[16:18], "big")
    page_size = 65_536 if page_size == 1 else page_size
    if len(head) < _FILE_HEADER_SIZE or page_size < 512:
        return
    # Beyond this, 128 GiB, the number that another page begins with could pass for a type.
    assert os.fstat(file).st_size // page_size < min(_POINTERS_AT) << 24
    start = 0
    os.lseek(file, 0, os.SEEK_SET)
    while pages := os.read(file, limits.MIB):
        for begin, end in _gaps(pages, page_size, _FILE_HEADER_SIZE if start == 0 else 0):
            os.lseek(file, start + begin, os.SEEK_SET)
            os.write(file, bytes(end - begin))
        start += len(pages) // page_size * page_size
        if len(pages) < page_size:
            break
        os.lseek(file, start, os.SEEK_SET)
    os.fsync(file)


def _gaps(pages: bytes, page_size: int, header: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each gap that is not empty."""
    for page in range(0, len(pages) - page_size + 1, page_size):
        at = page + header
        header = 0
        pointers = _POINTERS_AT.get(pages[at])
        if pointers is None:
            continue
        cells = int.from_bytes(pages[at + 3 : at + 5], "big")
        content = int.from_bytes(pages[at + 5 : at + 7], "big") or 65_536
        begin, end = at + pointers + 2 * cells, page + min(content, page_size)
        if (
            begin < end
            and pages[begin:end].strip(b"\0")
            and _cells_start(pages, at + pointers, begin) >= content
        ):
            yield begin, end


def _cells_start(pages: bytes, begin: int, end: int) -> int:
    """The least of the cell pointers; in a damaged page the header may say that cells are a gap."""
    pointers = (int.from_bytes(pages[at : at + 2], "big") or 65_536 for at in range(begin, end, 2))
    return min(pointers, default=65_536)


def _database_file(path: Path) -> int:
    """A descriptor of a database, kept open for the life of the process.

    Closing any descriptor of a file gives up all POSIX locks that the process has on it, those of
    SQLite's own connections included: https://www.sqlite.org/howtocorrupt.html, 2.2.
    """
    found = path.stat()
    key = found.st_dev, found.st_ino
    if key not in _open_databases:
        _open_databases[key] = os.open(path, os.O_RDWR)
    return _open_databases[key]
