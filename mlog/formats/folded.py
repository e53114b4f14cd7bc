"""A conversation as it reads in the end: what exporters for people write.

Edits, reactions and erasures come as events of their own, after the message that they change; a page
for people has them at the message. A reply may also answer what comes later in the view. So the
events are put into a private temporary database first, which spills to disk, and are then read back in
their order, each with what became of it. Times, names and texts are made fit to be read here too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from mlog.errors import StoreError
from mlog.formats.record import ExportRecord
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.ids import MessageId

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Answered", "Told", "moment", "one_line", "readable", "told"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MAX: Final = 253_402_300_799
"""The last second of the year 9999, the last one that dates can write."""

_QUOTED_LENGTH: Final = 80
"""Characters of an answered message that stand at its reply: enough to recognise it."""

_CACHE_KIB: Final = 8 * 1024
"""Of the temporary database; what is more goes to its file."""

_PICTURES: Final = {
    **{code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
"""Control characters do nothing good in a document: their signs say what was there."""

_LINE_ENDS: Final = {0x2028: 0x0A, 0x2029: 0x0A}
_NO_DIRECTION: Final = dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A message that another one answers.

    Attributes:
        n: Its number in this export, or 0 if it is not in it.
        author: As it is written; "" where it is not in this export.
        start: The start of its text now, in one line.
    """

    n: int = 0
    author: str = ""
    start: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A message or event, and what became of it. A change of title is one too.

    Attributes:
        n: Its number in this export, from 1.
        record: As it was written; its `files` are the attachments.
        claimed: Imported: whoever imported it vouches for its author and time, nobody else.
        text: As it reads now, with its line ends and control characters as a document may have them;
            "" if it is erased.
        edited: `text` is not what was written first; `before` is that.
        answers: What it replies to.
        reactions: Emoji and who reacted with it, in the order of the first.
        answered: Something in this export replies to it.
    """

    n: int
    record: ExportRecord
    claimed: bool
    text: str
    edited: bool
    before: str
    answers: tuple[Answered, ...]
    reactions: tuple[tuple[str, tuple[str, ...]], ...]
    answered: bool


def told(records: Iterable[ExportRecord]) -> Iterator[Told]:
    """Messages, events and titles in their order, each as it reads after everything that follows.

    Raises:
        StoreError: There is no room for temporary data.
    """
    import sqlite3

    with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as disk:
        with _disk_errors():
            _put(disk, records)
        yield from _read(disk)


def moment(time_ms: int) -> datetime | None:
    """A claimed time in UTC, to the second; None where there is none."""
    if not time_ms:
        return None
    return _EPOCH + timedelta(seconds=min(time_ms // 1000, _SECONDS_MAX))


def readable(text: str) -> str:
    """Text for a document: lines end in LF, and control characters are shown as their signs."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_PICTURES)


def one_line(text: str) -> str:
    """A name or title for a line with other words: no line end, and nothing that turns those around."""
    return " ".join(readable(text).translate(_LINE_ENDS).translate(_NO_DIRECTION).split())


_SCHEMA: Final = """
CREATE TABLE told (n INTEGER PRIMARY KEY, mid BLOB NOT NULL, record BLOB NOT NULL);
CREATE TABLE answers (mid BLOB NOT NULL, by INTEGER NOT NULL);
CREATE TABLE reactions (of BLOB NOT NULL, emoji TEXT NOT NULL, author TEXT NOT NULL, removed INT NOT NULL);
"""
_INDEXES: Final = """
CREATE INDEX told_by_mid ON told (mid);
CREATE INDEX answers_by_mid ON answers (mid);
CREATE INDEX reactions_by_of ON reactions (of);
"""


def _put(disk: sqlite3.Connection, records: Iterable[ExportRecord]) -> None:
    disk.execute("PRAGMA journal_mode = OFF")
    disk.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    disk.executescript(_SCHEMA)
    encode = msgspec.msgpack.Encoder().encode
    disk.execute("BEGIN")
    for exported in records:
        record = exported.record
        if record.kind in SPOKEN or record.kind is Kind.TITLE:
            put = disk.execute("INSERT INTO told (mid, record) VALUES (?, ?)", (record.mid, encode(exported)))
            disk.executemany("INSERT INTO answers VALUES (?, ?)", ((mid, put.lastrowid) for mid in record.to))
        elif record.kind is Kind.REACTION:
            row = (record.to[0], record.text, record.author, record.removed)
            disk.execute("INSERT INTO reactions VALUES (?, ?, ?, ?)", row)
    disk.execute("COMMIT")
    # Made at the end, each in one go, which is faster than keeping them in order.
    disk.executescript(_INDEXES)


def _read(disk: sqlite3.Connection) -> Iterator[Told]:
    decode = msgspec.msgpack.Decoder(ExportRecord).decode
    with _disk_errors():
        rows = disk.execute("SELECT n, record FROM told ORDER BY n")
    while True:
        with _disk_errors():
            row = rows.fetchone()
            if row is None:
                return
            n, exported = row[0], decode(row[1])
            record = exported.record
            found = disk.execute("SELECT 1 FROM answers WHERE mid = ? LIMIT 1", (record.mid,)).fetchone()
            answers = tuple(_answered(disk, mid, decode) for mid in record.to)
            reactions = _reactions(disk, record.mid)
        edited = exported.current is not None and not record.erased
        yield Told(
            n=n,
            record=exported,
            claimed=exported.source is not None and bool(exported.source.format),
            text=_text(exported),
            edited=edited,
            before=readable(record.text) if edited else "",
            answers=answers,
            reactions=reactions,
            answered=found is not None,
        )


def _text(exported: ExportRecord) -> str:
    if exported.record.erased:
        return ""
    return readable(exported.record.text if exported.current is None else exported.current)


def _answered(disk: sqlite3.Connection, mid: MessageId, decode: Callable[[bytes], ExportRecord]) -> Answered:
    row = disk.execute("SELECT n, record FROM told WHERE mid = ? ORDER BY n LIMIT 1", (mid,)).fetchone()
    if row is None:
        return Answered()
    exported = decode(row[1])
    start = one_line(_text(exported)[: 4 * _QUOTED_LENGTH])
    if len(start) > _QUOTED_LENGTH:
        start = start[: _QUOTED_LENGTH - 1] + "…"
    return Answered(n=row[0], author=exported.record.author, start=start)


def _reactions(disk: sqlite3.Connection, mid: MessageId) -> tuple[tuple[str, tuple[str, ...]], ...]:
    rows = disk.execute("SELECT emoji, author, removed FROM reactions WHERE of = ? ORDER BY rowid", (mid,))
    # Of one person's reactions with one emoji the last one counts.
    last: dict[tuple[str, str], bool] = {}
    for emoji, author, removed in rows:
        last.pop((emoji, author), None)
        last[emoji, author] = bool(removed)
    by_emoji: dict[str, list[str]] = {}
    for (emoji, author), removed in last.items():
        if not removed:
            by_emoji.setdefault(emoji, []).append(author)
    return tuple((emoji, tuple(authors)) for emoji, authors in by_emoji.items())


@contextmanager
def _disk_errors() -> Generator[None]:
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"temporary file: {error}. Free some space in the temporary folder.") from None
