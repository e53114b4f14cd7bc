"""Marker: notices that a database was rolled back, copied or moved, before it writes again.

A chain must never use a sequence number twice. A restored backup does not know which ones it
has used since, so beside the database stands a file that says how far it had come. Where the two do
not agree, this device starts a new incarnation and so new chains. docs/protocol.md, 4.4.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

__all__ = ["Marker", "here", "load_marker", "save_marker"]


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """Which database this is, and how many entries it had.

    Attributes:
        database: Random id of the database, in hexadecimal.
        inode: Of the database file: a copy has another one.
        machine: Hash of the machine's id.
        entries: Entries written here so far; the database may have more, never fewer.
    """

    database: str
    inode: int
    machine: str
    entries: int

    def vouches_for(self, now: Marker) -> bool:
        """Whether the database, as it is now, has seen all that this marker has."""
        return (self.database, self.inode, self.machine) == (
            now.database,
            now.inode,
            now.machine,
        ) and self.entries <= now.entries


def here(database: Path, database_id: bytes, entries: int) -> Marker:
    """The marker that fits the database as it is."""
    return Marker(
        database=database_id.hex(), inode=database.stat().st_ino, machine=_machine(), entries=entries
    )


def load_marker(path: Path) -> Marker | None:
    """The marker, or None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes().rstrip(), type=Marker)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def save_marker(path: Path, marker: Marker) -> None:
    """Write the marker in place, not synced: an older one is safe, and a torn one starts anew."""
    # What it follows is committed already: a disk that is full now must not make that look failed.
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(file, msgspec.json.encode(marker).ljust(256))
        finally:
            os.close(file)


@cache
def _machine() -> str:
    import platform

    for name in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            known = Path(name).read_bytes().strip()
        except OSError:
            continue
        if known:
            return hashlib.sha256(b"mlog machine\0" + known).hexdigest()[:16]
    return hashlib.sha256(b"mlog machine\0" + platform.node().encode()).hexdigest()[:16]
