"""The search index compared with words: does it hold exactly these, each in its place?

The index is contentless, so SQLite can only check that it is well-formed. Both sides become one
number here: of every word its keyed hash times a sum over its places, most of it worked out inside
SQLite. Why so, what it finds and what it costs: docs/decisions/0010-search-index-check.md.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from mlog import limits

__all__ = ["SEARCH_TABLE", "holds_words"]

SEARCH_TABLE: Final = (
    "CREATE VIRTUAL TABLE search USING fts5(\n"
    "    words, content='', columnsize=0, tokenize=\"unicode61 remove_diacritics 2\"\n"
    ")"
)

# A prime modulus: moving some places all by the same distance, as one wrong step in a list does,
# changes the sum for certain. A place that damage moved to another column has none here.
_SUM: Final = "SELECT p.term, count(p.col), sum((p.doc * 2654435769 + p.offset * 2246822519) % 4294967291)"
_READ_THROUGH: Final = f"{_SUM} FROM places AS p {{}} GROUP BY p.term"
_LOOKED_UP: Final = f"{_SUM} FROM terms AS t CROSS JOIN places AS p ON p.term = t.term {{}} GROUP BY t.term"


def holds_words(db: sqlite3.Connection, words: Iterable[tuple[int, str | None]], *, thorough: bool) -> bool:
    """Whether the index of a database, within one read transaction, holds exactly these words.

    Args:
        words: By rowid; where None, whatever the index holds of it is right.
        thorough: Also look up each word by itself, as a search does, and not only read them in turn.

    Raises:
        sqlite3.Error: The index cannot be read.
    """
    unknown: list[int] = []
    wanted = _sum_of_words(words, unknown)
    db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.places USING fts5vocab(main, search, instance)")
    db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.terms USING fts5vocab(main, search, row)")
    ways = (_READ_THROUGH, _LOOKED_UP) if thorough else (_READ_THROUGH,)
    return all(_sum_of_index(db, way, unknown) == wanted for way in ways)


def _sum_of_index(db: sqlite3.Connection, way: str, without: Collection[int] = ()) -> int:
    # The condition would cost 80 ms in 100,000 messages, and few logs need it.
    condition = "WHERE p.doc NOT IN (SELECT value FROM json_each(:without))" if without else ""
    rows = db.execute(way.format(condition), {"without": json.dumps(list(without))})
    # Bytes hash under a key that each process draws anew.
    return sum(hash(term) * (places << 64 | total) for term, places, total in rows)


def _sum_of_words(words: Iterable[tuple[int, str | None]], unknown: list[int]) -> int:
    """The same sum, by an index in memory over some of the words at a time; sums add up."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.text_factory = bytes
    db.execute(SEARCH_TABLE)
    db.execute("CREATE VIRTUAL TABLE places USING fts5vocab(search, instance)")
    found = 0
    for batch in _batches(words, unknown):
        db.execute("BEGIN")
        db.executemany("INSERT INTO search (rowid, words) VALUES (?, ?)", batch)
        found += _sum_of_index(db, _READ_THROUGH)
        db.execute("ROLLBACK")
    db.close()
    return found


def _batches(words: Iterable[tuple[int, str | None]], unknown: list[int]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    size = 0
    for n, text in words:
        if text is None:
            unknown.append(n)
            continue
        batch.append((n, text))
        size += len(text)
        if size >= limits.SEARCH_CHECK_SIZE:
            yield batch
            batch, size = [], 0
    yield batch
