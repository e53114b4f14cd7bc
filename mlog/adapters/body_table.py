"""Table of bodies, and the pieces of files that equal chunks have in common.

A chunk that is opened keeps here its 20 bytes of group and index, and names a piece. `BODY` puts
both together, so that all readers see the body. How many name a piece is counted nowhere: an index
tells, and a trigger deletes the piece with the last body that names it (mlog/adapters/schema.py).
A damaged piece is overwritten as soon as one of its chunks is written again, which heals the
others too. Why: decisions/0021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from blake3 import blake3

from mlog.adapters.database import Database
from mlog.log.bodies import RAW, Kind
from mlog.log.store import BodyState, EntryRow

__all__ = ["BODY", "BodyTable"]

BODY: Final = (
    "CASE WHEN b.piece IS NULL THEN b.body "
    "ELSE CAST(b.body || (SELECT data FROM pieces WHERE n = b.piece) AS BLOB) END"
)
"""A body in the row `b` of the table; null where its piece is lost."""

_INSERT: Final = "INSERT INTO bodies (n, body, piece) VALUES (?, ?, ?)"
# Not INSERT OR REPLACE, for which SQLite runs no trigger.
_REPLACE: Final = f"{_INSERT} ON CONFLICT (n) DO UPDATE SET body = excluded.body, piece = excluded.piece"
_HEAD_SIZE: Final = 20
"""Bytes of a chunk before its piece: the group and the index, which differ where pieces are equal."""


class BodyTable(Database):
    """Bodies of entries, by their number."""

    def _put_bodies(self, rows: Sequence[EntryRow], *, replace: bool) -> None:
        sql = _REPLACE if replace else _INSERT
        whole = [(row.n, _as_text(row), None) for row in rows if row.body is not None and not _is_split(row)]
        self._run_many(sql, whole)
        # One after the other: what one row no longer names may be gone when the next is written.
        for row in rows:
            if row.body is not None and _is_split(row):
                piece = self._put_piece(row.body[_HEAD_SIZE:])
                self._run(sql, (row.n, row.body[:_HEAD_SIZE], piece))

    def _put_piece(self, data: bytes) -> int:
        """The number of the piece that has these bytes, which is made if there is none."""
        digest = blake3(data).digest()
        found = self._all(
            "SELECT n, data FROM pieces WHERE substr(hash, 1, 8) = ? AND hash = ?", (digest[:8], digest), "ib"
        )
        if not found:
            n = self._one("SELECT coalesce(max(n), 0) + 1 FROM pieces")
            self._run("INSERT INTO pieces VALUES (?, ?, ?)", (n, digest, data))
            return n
        n, kept = found[0]
        if kept != data:
            # Two contents never have one hash: these bytes are damaged.
            self._run("UPDATE pieces SET data = ? WHERE n = ?", (data, n))
        return n


def _is_split(row: EntryRow) -> bool:
    return (
        row.kind == Kind.CHUNK
        and row.state == BodyState.OPENED
        and row.body is not None
        and len(row.body) > _HEAD_SIZE
    )


def _as_text(row: EntryRow) -> str | bytes:
    """Opened bodies are kept as text, so that SQL can read the JSON in them."""
    assert row.body is not None
    if row.state == BodyState.OPENED and row.kind not in RAW:
        try:
            return row.body.decode()
        except UnicodeDecodeError:
            pass
    return row.body
