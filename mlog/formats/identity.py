"""Identities of imported messages: what two importers of the same chat arrive at alike.

A `MessageId` is 16 bytes of BLAKE3 under one context over fields that are each written as
`LENGTH:BYTES,` (UTF-8), so that no two lists of fields read the same:

| message of a format                 | fields                                            |
|-------------------------------------|---------------------------------------------------|
| with ids of its own                 | "id", scope, the format's id                      |
| without (a line)                    | "line", time, kind, author, text                  |
| the nth further equal line, n >= 1  | "again", identity of the first, n                 |
| the nth further part of a long text | "part", identity of the first part, n             |

The time of a line is its claim in milliseconds and how exact it is ("m" minutes, "s" seconds, "" no
time in this line: that of the line before), so brackets and other habits of a program change
nothing. Neither file name nor chat stand in a line's identity: identities are compared
inside one conversation only, and two people may have named their files differently.

Equal lines are told apart by counting, and the count must be exact whatever the length of the file:
`Occurrences` keeps the counts in memory, and on disk what does not fit there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from mlog.errors import StoreError
from mlog.log.ids import MESSAGE_ID_SIZE, MessageId

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Occurrences", "SpillingMap", "again", "of_id", "of_line", "part"]

_BASE: Final = blake3(derive_key_context="mlog 2026 message identity v1")

_ENTRIES_MAX: Final = 16_384
"""Entries of a SpillingMap in memory: about 3 MB, and more lines than most channels have in a day."""

_CACHE_KIB: Final = 2048

_DAY_MS: Final = 86_400_000

_FILTER_SIZE_BYTES: Final = 2**24 // 8
"""All values of three bytes: one key in 70 is looked for in vain among 1,000,000, all among 50,000,000."""


def of_id(scope: str, own_id: str) -> MessageId:
    """Identity of a message that its format names: `scope` is what the name is unique in."""
    return _digest(("id", scope, own_id))


def of_line(time: str, kind: int, author: str, text: str) -> MessageId:
    """Identity of the first of equal lines.

    Args:
        time: Milliseconds since 1970 and how exact they are, as "1577959445000s".
    """
    hasher = _BASE.copy()
    hasher.update(_fields(("line", time, str(kind), author, text)))
    return MessageId(hasher.digest(length=MESSAGE_ID_SIZE))


def again(first: MessageId, nth: int) -> MessageId:
    """Identity of the nth line equal to `first` after it; that of `first` itself for 0."""
    return _digest(("again", first.hex(), str(nth))) if nth else first


def part(first: MessageId, nth: int) -> MessageId:
    """Identity of the nth further part of a message whose text was too long for one."""
    return _digest(("part", first.hex(), str(nth)))


def _fields(fields: Iterable[str]) -> bytes:
    return b"".join([b"%d:%b," % (len(raw), raw) for raw in map(str.encode, fields)])


def _digest(fields: Iterable[str]) -> MessageId:
    hasher = _BASE.copy()
    hasher.update(_fields(fields))
    return MessageId(hasher.digest(length=MESSAGE_ID_SIZE))


class SpillingMap:
    """16-byte hashes to integers, exact, in bounded memory: the newest in a dict, the rest on disk.

    Keys come in groups that mostly grow (days). What is on disk is looked for only where it may
    be: not in a group above all that were spilled, nor where the filter, two bits for each
    key spilled, says no. The file is a private temporary one without a name.
    """

    def __init__(self, entries_max: int = _ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._recent: dict[tuple[int, bytes], int] = {}
        self._disk: sqlite3.Connection | None = None
        self._spilled_group_max = 0
        self._filter = bytearray()

    def get(self, key: bytes, group: int = 0) -> int | None:
        """The value of a key, wherever it is.

        Raises:
            StoreError: The temporary file cannot be read.
        """
        value = self._recent.get((group, key))
        if value is None and self._disk is not None and group <= self._spilled_group_max:
            bits = self._filter
            one, two = _filter_bits(key)
            if bits[one >> 3] >> (one & 7) & bits[two >> 3] >> (two & 7) & 1:
                return self._read(self._disk, key, group)
        return value

    def put(self, key: bytes, value: int, group: int = 0) -> None:
        """Set the value of a key.

        Raises:
            StoreError: The temporary file cannot be written.
        """
        self._recent[group, key] = value
        if len(self._recent) >= self._entries_max:
            self._spill()

    def _read(self, disk: sqlite3.Connection, key: bytes, group: int) -> int | None:
        with _disk_errors():
            row = disk.execute("SELECT n FROM spilled WHERE g = ? AND k = ?", (group, key)).fetchone()
        return None if row is None else row[0]

    def _spill(self) -> None:
        # In the order of the primary key, so that pages fill one after the other.
        keys = sorted(self._recent)
        newest = keys[-1][0]
        with _disk_errors():
            if self._disk is None:
                self._disk = _temporary_table()
                self._spilled_group_max = newest
                self._filter = bytearray(_FILTER_SIZE_BYTES)
            self._disk.execute("BEGIN")
            rows = ((*key, self._recent[key]) for key in keys)
            self._disk.executemany("INSERT OR REPLACE INTO spilled VALUES (?, ?, ?)", rows)
            self._disk.execute("COMMIT")
        self._spilled_group_max = max(self._spilled_group_max, newest)
        for _, key in keys:
            for bit in _filter_bits(key):
                self._filter[bit >> 3] |= 1 << (bit & 7)
        self._recent.clear()


class Occurrences:
    """How many equal lines came before on the same day, counted exactly."""

    def __init__(self) -> None:
        self._counts = SpillingMap()

    def nth(self, first: MessageId, day: int) -> int:
        """Count a line; returns how many with the same identity came before it on that day."""
        nth = self._counts.get(first, day) or 0
        self._counts.put(first, nth + 1, day)
        return nth

    def identity(self, first: MessageId, time_ms: int) -> MessageId:
        """Count a line; its identity, by how many equal ones came before it on its day."""
        return again(first, self.nth(first, time_ms // _DAY_MS))


def _filter_bits(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[-3:]), int.from_bytes(key[-6:-3])


def _temporary_table() -> sqlite3.Connection:
    import sqlite3

    disk = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    disk.execute("PRAGMA journal_mode = OFF")
    disk.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    disk.execute("CREATE TABLE spilled (g INT, k BLOB, n INT, PRIMARY KEY (g, k)) WITHOUT ROWID")
    return disk


@contextmanager
def _disk_errors() -> Generator[None]:
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"temporary file: {error}. Free some space in the temporary folder.") from None
