"""The store on SQLite: rows in, rows out, durable at the end of each transaction.

WAL with synchronous=FULL. One lock file stands around every write and checkpoint of all
processes: SQLite before 3.51.3 can corrupt a WAL when one connection checkpoints while another
writes. Text comes back as bytes, so that a flipped bit reaches the verification instead of
breaking the read.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any, Final

from mlog import limits
from mlog.adapters import search_index
from mlog.adapters.disk import DAMAGED, disk_errors
from mlog.adapters.locking import ProcessLock
from mlog.adapters.overwrite import overwrite_gaps, overwrite_wal
from mlog.errors import StoreError, UserError
from mlog.log.bodies import SPOKEN
from mlog.log.entry import VERSION
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId, Topic
from mlog.log.store import (
    BodyState,
    ChainRow,
    DeviceRow,
    Digest,
    EntryRow,
    EpochRow,
    GapRow,
    Hit,
    LogKind,
    LogRow,
    Reason,
    Reference,
    TimelineQuery,
)

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "SqliteStore"]

APPLICATION_ID: Final = 0x6D6C6F67
"""'mlog', at offset 68 of the file, tells it from other programs' databases."""

SCHEMA_VERSION: Final = 1
"""Number of the newest migration set; a database with a higher one is of a newer mlog."""

_COLUMNS: Final = (
    "e.n, e.log, e.week, e.id, e.tail, e.signature, e.state, e.kind, e.chain, e.seq, e.time_ms, "
    "e.rank, e.mid, e.hidden, e.edit, b.body"
)
_SHAPE: Final = "iiibbBiiIiiiBiIB"
_FROM: Final = "FROM entries AS e LEFT JOIN bodies AS b ON b.n = e.n"
_CONTROL_MAX: Final = 16


class SqliteStore:
    """Rows of one home, in one file.

    Args:
        path: The database; made if absent.
        on_commit: Called after each durable commit, before other processes may write.

    Raises:
        UserError: Not an mlog database, or one of a newer mlog.
        Busy: Another process holds it for longer than BUSY_TIMEOUT_MS.
        StoreError: It cannot be opened, or is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_ms: int = limits.BUSY_TIMEOUT_MS,
        on_commit: Callable[[], None] = lambda: None,
    ):
        self.path = path
        self._on_commit = on_commit
        self._timeout_s = busy_timeout_ms / 1000
        self._lock = ProcessLock(path.with_name(path.name + ".lock"), busy_timeout_ms)
        self._in_transaction = False
        self._prefixes: dict[int, bytes] = {}
        with disk_errors(path):
            new = not path.exists() or path.stat().st_size == 0
            if new:
                # Before SQLite makes it: its copies of the mode reach the WAL as well.
                path.touch(mode=0o600)
            self._db = sqlite3.connect(path, timeout=self._timeout_s, isolation_level=None)
        try:
            with disk_errors(path):
                self._prepare(new=new)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, *, new: bool) -> None:
        db = self._db
        db.text_factory = bytes
        if not new:
            self._check_identity()
        if self._pragma("journal_mode") != b"wal":
            with self._lock:
                db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA secure_delete=ON")
        db.execute("PRAGMA cache_size=-16384")
        if self._pragma("user_version") != SCHEMA_VERSION:
            self._migrate()

    def _pragma(self, name: str) -> Any:
        return self._db.execute(f"PRAGMA {name}").fetchone()[0]

    def _check_identity(self) -> None:
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and self._pragma("application_id") != APPLICATION_ID:
            raise UserError(
                f"{self.path} is not an mlog database. Move it away, or point MLOG_HOME to another folder."
            )
        version = self._pragma("user_version")
        if version > SCHEMA_VERSION:
            raise UserError(
                f"{self.path} was written by a newer mlog (schema {version}, this one knows "
                f"{SCHEMA_VERSION}). Install the newer mlog; nothing was changed."
            )

    def _migrate(self) -> None:
        from sqlite_utils import Database

        from mlog.adapters.schema import MIGRATIONS

        with self._lock:
            if self._pragma("user_version") == SCHEMA_VERSION:
                return
            # One transaction: tables without the application id would be another program's for ever.
            with self._begun():
                self._db.text_factory = str
                try:
                    MIGRATIONS.apply(Database(self._db))
                finally:
                    self._db.text_factory = bytes
                self._db.execute(
                    "INSERT OR IGNORE INTO meta VALUES ('database', ?)", (secrets.token_bytes(16),)
                )
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def close(self) -> None:
        """Let go of the file."""
        with disk_errors(self.path):
            self._db.close()

    # -- transactions ------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All writes inside are durable together when it ends; nested ones join the outer one."""
        if self._in_transaction:
            yield
            return
        with disk_errors(self.path), self._lock:
            with self._begun():
                yield
            self._on_commit()

    @contextmanager
    def _begun(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        self._in_transaction = True
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            # A log that was started inside is gone, and its number may become another's.
            self._prefixes.clear()
            raise
        finally:
            self._in_transaction = False

    @contextmanager
    def reading(self) -> Generator[None]:
        """All reads inside see one state of the database."""
        if self._in_transaction or self._db.in_transaction:
            yield
            return
        with disk_errors(self.path):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    def _all(self, sql: str, parameters: Sequence[object] = (), shape: str = "") -> list[Any]:
        """Rows. `shape` has a letter for each column: i for int, b for bytes, capitals where null may be."""
        with disk_errors(self.path):
            rows = self._db.execute(sql, parameters).fetchall()
        allowed = _types_of(shape)
        if allowed and any(tuple(map(type, row)) not in allowed for row in rows):
            return [tuple(map(_coerced, row, shape)) for row in rows]
        return rows

    def _run(self, sql: str, parameters: Sequence[object] = ()) -> None:
        assert self._in_transaction
        with disk_errors(self.path):
            self._db.execute(sql, parameters)

    def _run_many(self, sql: str, rows: Collection[Sequence[object]]) -> None:
        assert self._in_transaction
        if not rows:
            return
        with disk_errors(self.path):
            self._db.executemany(sql, rows)

    def _one(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        return self._all(sql, parameters)[0][0]

    # -- facts about the home ----------------------------------------------------------------

    def data_version(self) -> int:
        """A number that differs once another connection has written."""
        return self._pragma("data_version")

    def meta(self, name: str) -> bytes | None:
        """A named value of this database."""
        rows = self._all("SELECT value FROM meta WHERE name = ?", (name,), "b")
        return rows[0][0] if rows else None

    def set_meta(self, name: str, value: bytes) -> None:
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    # -- logs, keys, chains ------------------------------------------------------------------

    def logs(self) -> list[LogRow]:
        return [
            LogRow(n, Topic(topic), _member(LogKind, kind), secret, _text(title))
            for n, topic, kind, secret, title in self._all(
                "SELECT n, topic, kind, secret, title FROM logs ORDER BY n", shape="ibbbb"
            )
        ]

    def add_log(self, row: LogRow) -> None:
        self._run(
            "INSERT INTO logs VALUES (?, ?, ?, ?, ?)",
            (row.n, row.topic, row.kind.value, row.secret, row.title),
        )

    def set_title(self, log: int, title: str) -> None:
        self._run("UPDATE logs SET title = ? WHERE n = ?", (title, log))

    def epochs(self, log: int) -> list[EpochRow]:
        return [
            EpochRow(*row)
            for row in self._all("SELECT log, number, secret FROM epochs WHERE log = ?", (log,), "iib")
        ]

    def add_epoch(self, row: EpochRow) -> None:
        self._run("INSERT INTO epochs VALUES (?, ?, ?)", (row.log, row.number, row.secret))

    def devices(self) -> list[DeviceRow]:
        return [
            DeviceRow(DeviceId(id_), _text(name), _text(person))
            for id_, name, person in self._all("SELECT id, name, person FROM devices", shape="bbb")
        ]

    def put_device(self, row: DeviceRow) -> None:
        self._run("INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", (row.id, row.name, row.person))

    def chains(self, log: int) -> list[ChainRow]:
        return [
            ChainRow(n, log, DeviceId(device), Incarnation(incarnation), seq, EntryId(id_), week)
            for n, device, incarnation, seq, id_, week in self._all(
                "SELECT n, device, incarnation, seq, id, week FROM chains WHERE log = ? ORDER BY n",
                (log,),
                "ibbibi",
            )
        ]

    def put_chain(self, row: ChainRow) -> None:
        self._run(
            "INSERT INTO chains VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (n) DO UPDATE SET seq = excluded.seq, id = excluded.id, week = excluded.week",
            (row.n, row.log, row.device, row.incarnation, row.seq, row.id, row.week),
        )

    def next_chain(self) -> int:
        return self._one("SELECT coalesce(max(n), 0) + 1 FROM chains")

    def heads(self, log: int) -> list[EntryId]:
        return [
            EntryId(id_)
            for (id_,) in self._all("SELECT id FROM heads WHERE log = ? ORDER BY id", (log,), "b")
        ]

    def change_heads(self, log: int, add: Collection[EntryId], remove: Collection[EntryId]) -> None:
        self._run_many("DELETE FROM heads WHERE log = ? AND id = ?", [(log, id_) for id_ in remove])
        self._run_many("INSERT OR IGNORE INTO heads VALUES (?, ?)", [(log, id_) for id_ in add])

    # -- entries -----------------------------------------------------------------------------

    def next_n(self) -> int:
        return self._one("SELECT coalesce(max(n), 0) + 1 FROM entries")

    def insert(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        self._run_many(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    row.n,
                    row.log,
                    row.week,
                    row.id,
                    row.outer[17:],
                    row.signature,
                    row.state,
                    row.kind,
                    row.chain or None,
                    row.seq,
                    row.time_ms,
                    row.rank,
                    row.mid,
                    row.hidden,
                    row.edit or None,
                )
                for row in rows
            ],
        )
        self._run_many(
            "INSERT INTO bodies VALUES (?, ?)",
            [(row.n, _as_text(row)) for row in rows if row.body is not None],
        )
        self._run_many("INSERT INTO parents VALUES (?, ?)", list(parents))
        self._run_many(
            "INSERT OR IGNORE INTO links VALUES (?, ?, ?)", [(r.n, r.target, r.log) for r in references]
        )
        self._run_many("INSERT INTO search (rowid, words) VALUES (?, ?)", list(words))
        self._run_many("INSERT OR IGNORE INTO stale VALUES (?, ?)", {(row.log, row.week) for row in rows})

    def find(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, EntryRow]:
        rows = self._lookup("substr(e.id, 1, 8)", [id_[:8] for id_ in ids])
        wanted = set(ids)
        return {row.id: row for row in rows if row.id in wanted and row.log == log}

    def rows(self, ns: Collection[int]) -> dict[int, EntryRow]:
        return {row.n: row for row in self._lookup("e.n", ns)}

    def at(self, chain: int, seq: int) -> EntryRow | None:
        return next(iter(self._rows("WHERE e.chain = ? AND e.seq = ?", (chain, seq))), None)

    def by_mid(self, log: int, mids: Collection[MessageId]) -> dict[MessageId, list[EntryRow]]:
        found: dict[MessageId, list[EntryRow]] = {}
        wanted = set(mids)
        for row in self._lookup("substr(e.mid, 1, 8)", [mid[:8] for mid in mids], "AND e.mid IS NOT NULL"):
            if row.log == log and row.mid is not None:
                found.setdefault(row.mid, []).append(row)
        for row in self._lookup("substr(e.id, 1, 8)", [mid[:8] for mid in mids], "AND e.mid IS NULL"):
            mid = MessageId(row.id[:16])
            if row.log == log and mid in wanted:
                found.setdefault(mid, []).append(row)
        for rows in found.values():
            rows.sort(key=lambda row: row.n)
        return found

    def by_prefix(self, log: int | None, prefix: bytes, mask: int, limit: int) -> list[EntryRow]:
        low = prefix[:-1] + bytes([prefix[-1] & mask])
        high = prefix[:-1] + bytes([prefix[-1] | ~mask & 0xFF])
        # The first range is what an index knows of: 8 bytes.
        found = (
            "SELECT n FROM entries WHERE {0} IS NOT NULL AND substr({0}, 1, 8) BETWEEN ? AND ? "
            f"AND substr({{0}}, 1, ?) BETWEEN ? AND ? AND log = coalesce(?, log) LIMIT {int(limit)}"
        )
        bounds = (low[:8], high[:8].ljust(8, b"\xff"), len(prefix), low, high, log)
        return self._rows(
            f"WHERE e.n IN (SELECT n FROM ({found.format('id')}) "
            f"UNION SELECT n FROM ({found.format('mid')})) ORDER BY e.n LIMIT {int(limit)}",
            (*bounds, *bounds),
        )

    def children(self, log: int, id_: EntryId) -> list[EntryRow]:
        return self._rows(
            "JOIN parents AS p ON p.n = e.n WHERE substr(p.parent, 1, 8) = ? AND p.parent = ? AND e.log = ?",
            (id_[:8], id_, log),
        )

    def parents(self, ns: Collection[int]) -> dict[int, list[EntryId]]:
        found: dict[int, list[EntryId]] = {}
        for n, parent in self._by_numbers("SELECT n, parent FROM parents", ns):
            found.setdefault(n, []).append(EntryId(parent))
        return found

    def references(self, ns: Collection[int]) -> dict[int, list[MessageId]]:
        found: dict[int, list[MessageId]] = {}
        # One in another log than its entry is damage, and not found: so the verification sees it.
        whole = "SELECT l.n, l.target FROM links AS l JOIN entries AS e ON e.n = l.n AND e.log = l.log"
        for n, target in self._by_numbers(whole, ns, "l.n"):
            found.setdefault(n, []).append(MessageId(target))
        return found

    def references_to(
        self, log: int | None, targets: Collection[MessageId], kinds: frozenset[int] = frozenset()
    ) -> list[Reference]:
        chosen = ",".join(str(int(kind)) for kind in kinds)
        # A cross join, since SQLite would rather begin with all entries of a rare kind.
        of_kind = f"CROSS JOIN entries AS e ON e.n = l.n AND e.kind IN ({chosen})" if kinds else ""
        found: list[Reference] = []
        for part in _parts(targets):
            marks = ",".join("?" * len(part))
            for n, target, in_log in self._all(
                f"SELECT l.n, l.target, l.log FROM links AS l {of_kind} "
                f"WHERE substr(l.target, 1, 8) IN ({marks})",
                [target[:8] for target in part],
                "ibi",
            ):
                if target in targets and log in (None, in_log):
                    found.append(Reference(n, in_log, MessageId(target)))
        return found

    def set_rank(self, n: int, rank: int) -> None:
        self._run("UPDATE entries SET rank = ? WHERE n = ?", (rank, n))

    def set_hidden(self, n: int, hidden: bool) -> None:
        self._run("UPDATE entries SET hidden = ? WHERE n = ?", (hidden, n))

    def set_edit(self, n: int, edit: int) -> None:
        self._run("UPDATE entries SET edit = ? WHERE n = ?", (edit or None, n))

    def erase_body(self, n: int, words: str | None) -> None:
        if words is not None:
            self._run("INSERT INTO search (search, rowid, words) VALUES ('delete', ?, ?)", (n, words))
        self._run("DELETE FROM bodies WHERE n = ?", (n,))
        self._run("DELETE FROM links WHERE n = ?", (n,))
        self._run("UPDATE entries SET state = ? WHERE n = ?", (BodyState.ERASED, n))
        self._run("INSERT OR IGNORE INTO stale SELECT log, week FROM entries WHERE n = ?", (n,))
        self.set_meta("scrub", b"due")

    def timeline(self, query: TimelineQuery) -> list[EntryRow]:
        conditions, parameters = ["e.log = ?"], [query.log]
        if query.kinds and query.kinds != SPOKEN:
            conditions.append(f"e.kind IN ({','.join(str(int(kind)) for kind in query.kinds)})")
            if all(kind < _CONTROL_MAX for kind in query.kinds):
                conditions.append(f"e.kind < {_CONTROL_MAX}")
        elif query.kinds:
            conditions.append(f"e.kind BETWEEN {min(SPOKEN)} AND {max(SPOKEN)}")
        if not query.hidden:
            conditions.append("NOT e.hidden")
        bounds: list[object] = []
        for place, sign in ((query.after, ">"), (query.before, "<")):
            if place is not None:
                conditions.append(f"e.rank {sign}= ? AND (e.rank {sign} ? OR e.id {sign} ?)")
                bounds += [place.rank, place.rank, place.id]
        for time_ms, sign in ((query.since_ms, ">="), (query.until_ms, "<")):
            if time_ms is not None:
                conditions.append(f"e.time_ms {sign} ?")
                bounds.append(time_ms)
        direction = "DESC" if query.newest_first else "ASC"
        rows = self._rows(
            f"WHERE {' AND '.join(conditions)} ORDER BY e.rank {direction}, e.id {direction} LIMIT ?",
            [*parameters, *bounds, query.limit],
        )
        if rows:
            last, after, before = rows[-1].position, query.after, query.before
            self._require_progress((after is None or last > after) and (before is None or last < before))
        return rows

    def scan(self, chain: int, after_seq: int, limit: int) -> list[EntryRow]:
        rows = self._rows("WHERE e.chain = ? AND e.seq > ? ORDER BY e.seq LIMIT ?", (chain, after_seq, limit))
        self._require_progress(not rows or rows[-1].seq > after_seq)
        return rows

    def _require_progress(self, progress: bool) -> None:
        """A place that is no number sorts after all that are: whoever walks on from it would never end."""
        if not progress:
            raise StoreError(f"{self.path}: {DAMAGED}")

    def chain_kind(self, chain: int, kind: int) -> list[EntryRow]:
        newest_first = self._rows(
            "WHERE e.log = (SELECT log FROM chains WHERE n = ?) AND e.kind = ? "
            f"{'AND e.kind < 16 ' if kind < _CONTROL_MAX else ''}AND e.chain = ? "
            f"ORDER BY e.seq DESC LIMIT {limits.STORE_ROWS_MAX}",
            (chain, kind, chain),
        )
        return newest_first[::-1]

    def scan_unopened(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        return self._rows(
            "WHERE e.log = ? AND e.chain IS NULL AND e.n > ? ORDER BY e.n LIMIT ?", (log, after_n, limit)
        )

    def count(self, log: int, kinds: frozenset[int]) -> int:
        chosen = ",".join(str(int(kind)) for kind in kinds)
        return self._one(
            f"SELECT count(*) FROM entries WHERE log = ? AND NOT hidden AND kind IN ({chosen})", (log,)
        )

    def search(self, words: str, log: int | None, limit: int) -> list[int]:
        if log is None:
            sql = "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rowid DESC LIMIT ?"
            return [n for (n,) in self._all(sql, (words, limit))]
        sql = (
            "SELECT s.rowid FROM search AS s JOIN entries AS e ON e.n = s.rowid "
            "WHERE s.search MATCH ? AND e.log = ? ORDER BY s.rowid DESC LIMIT ?"
        )
        return [n for (n,) in self._all(sql, (words, log, limit))]

    def hits(self, ns: Collection[int]) -> list[Hit]:
        found: list[Hit] = []
        for part in _parts(ns):
            columns = "SELECT n, log, id, mid, kind, rank, hidden, edit FROM entries"
            marks = ",".join("?" * len(part))
            rows = self._all(f"{columns} WHERE n IN ({marks})", part, "iibBiiiI")
            found += [
                Hit(n, log, id_, mid, kind, rank, bool(hidden), edit or 0)
                for n, log, id_, mid, kind, rank, hidden, edit in rows
            ]
        return found

    def opened(self, kinds: frozenset[int], after_n: int, limit: int) -> list[tuple[int, int, bytes | None]]:
        chosen = ",".join(str(int(kind)) for kind in kinds)
        return self._all(
            f"SELECT e.n, e.kind, b.body {_FROM} WHERE e.n > ? AND e.state = {BodyState.OPENED:d} "
            f"AND e.kind IN ({chosen}) ORDER BY e.n LIMIT ?",
            (after_n, limit),
            "iiB",
        )

    def holds_words(self, words: Iterable[tuple[int, str | None]], *, thorough: bool = False) -> bool:
        with self.reading(), disk_errors(self.path):
            try:
                return search_index.holds_words(self._db, words, thorough=thorough)
            except sqlite3.DatabaseError as error:
                if not _is_corrupt(error):
                    raise
                return False

    def replace_words(self, words: Iterable[tuple[int, str]]) -> None:
        self._run("INSERT INTO search (search) VALUES ('delete-all')")
        for batch in _batches(words):
            self._run_many("INSERT INTO search (rowid, words) VALUES (?, ?)", batch)
        self._run("DELETE FROM meta WHERE name = 'search'")
        self.set_meta("scrub", b"due")

    def distrust_words(self) -> None:
        self.set_meta("search", b"distrusted")

    def words_distrusted(self) -> bool:
        return self.meta("search") is not None

    # -- segments and gaps -------------------------------------------------------------------

    def digests(self, log: int) -> list[Digest]:
        return [
            Digest(*row)
            for row in self._all(
                "SELECT week, entries, bodies, entries_hash, bodies_hash FROM digests "
                "WHERE log = ? ORDER BY week",
                (log,),
                "iiibb",
            )
        ]

    def stale_weeks(self, log: int) -> list[int]:
        return [
            week for (week,) in self._all("SELECT week FROM stale WHERE log = ? ORDER BY week", (log,), "i")
        ]

    def segment(self, log: int, week: int) -> Iterator[tuple[EntryId, bool]]:
        with disk_errors(self.path):
            found = self._db.execute(
                "SELECT e.id, e.state < 2 AND NOT EXISTS (SELECT 1 FROM missing AS m WHERE m.log = e.log "
                "AND m.id = e.id AND m.part = 'body') FROM entries AS e WHERE e.log = ? AND e.week = ? "
                "AND NOT EXISTS (SELECT 1 FROM missing AS m WHERE m.log = e.log AND m.id = e.id "
                "AND m.part = 'entry') ORDER BY e.id",
                (log, week),
            )
            for id_, held in found:
                yield EntryId(id_ if isinstance(id_, bytes) else b""), bool(held)

    def put_digest(self, log: int, digest: Digest) -> None:
        self._run(
            "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)",
            (
                log,
                digest.week,
                digest.entries,
                digest.bodies,
                digest.entries_hash,
                digest.bodies_hash,
            ),
        )
        self._run("DELETE FROM stale WHERE log = ? AND week = ?", (log, digest.week))

    def gaps(self, log: int | None) -> list[GapRow]:
        return [
            GapRow(
                in_log, id_, _text(part), _member(Reason, reason), chain, seq, time_ms, since, _text(detail)
            )
            for in_log, id_, part, reason, chain, seq, time_ms, since, detail in self._all(
                "SELECT log, id, part, reason, chain, seq, time_ms, since_ms, detail FROM missing "
                "WHERE log = coalesce(?, log) ORDER BY log, time_ms, seq",
                (log,),
                "ibbbiiiib",
            )
        ]

    def replace_gaps(self, log: int, gaps: Sequence[GapRow]) -> None:
        changed = "INSERT OR IGNORE INTO stale SELECT e.log, e.week FROM missing AS m JOIN entries AS e "
        changed += "ON substr(e.id, 1, 8) = substr(m.id, 1, 8) AND e.log = m.log WHERE m.log = ?"
        self._run(changed, (log,))
        self._run("DELETE FROM missing WHERE log = ?", (log,))
        self._run_many(
            "INSERT INTO missing VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (g.log, g.id, g.part, g.reason.value, g.chain, g.seq, g.time_ms, g.since_ms, g.detail)
                for g in gaps
            ],
        )
        self._run(changed, (log,))

    # -- care of the file --------------------------------------------------------------------

    def scrub(self) -> None:
        """Overwrite what erased bodies left in the search index, the pages and the WAL.

        SQLite zeroes what is deleted (secure_delete). The index keeps deleted words until its
        segments are merged; for the rest see mlog/adapters/overwrite.py.
        """
        if self.meta("scrub") is None:
            return
        with disk_errors(self.path), self._lock:
            if self.meta("scrub") is None:
                # Another process was faster.
                return
            with self._begun():
                self._db.execute("INSERT INTO search (search) VALUES ('optimize')")
            before = self.data_version()
            self._db.execute(f"PRAGMA busy_timeout={limits.SCRUB_WAIT_MS}")
            try:
                busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            finally:
                self._db.execute(f"PRAGMA busy_timeout={int(self._timeout_s * 1000)}")
            if busy:
                # A reader still needs the old pages; the next writer scrubs.
                return
            with self._begun():
                if self.data_version() != before:
                    # Another program wrote without our lock, and the WAL is in use again.
                    return
                overwrite_gaps(self.path)
                overwrite_wal(self.path.with_name(self.path.name + "-wal"))
                # Pages that are cached still have their gaps.
                self._db.execute("PRAGMA shrink_memory")
                self._db.execute("DELETE FROM meta WHERE name = 'scrub'")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def check_file(self) -> list[str]:
        """What SQLite itself finds wrong with the file; empty if nothing."""
        try:
            with disk_errors(self.path):
                found = [_text(line) for (line,) in self._db.execute("PRAGMA integrity_check(20)")]
        except StoreError as error:
            return [str(error)]
        # From 3.44 on SQLite also says here what `check_index` says.
        return [line for line in found if line != "ok" and "FTS5" not in line]

    def check_index(self) -> bool:
        """Whether the search index is well-formed; `holds_words` says whether it is right."""
        with self.transaction(), disk_errors(self.path):
            try:
                self._db.execute("INSERT INTO search (search) VALUES ('integrity-check')")
            except sqlite3.DatabaseError as error:
                if not _is_corrupt(error):
                    raise
                return False
        return True

    def copy_to(self, path: Path) -> None:
        """A consistent copy in one file, made while others write."""
        with disk_errors(path):
            self._db.execute("VACUUM INTO ?", (str(path),))

    def newest_written_ms(self) -> int:
        """The newest time claimed by an entry that was written by hand, in any log; 0 if none."""
        return self._one(
            "SELECT coalesce(max(time_ms), 0) FROM entries WHERE n > (SELECT max(n) FROM entries) - 1000 "
            "AND mid IS NULL AND kind <> 4"
        )

    # -- rows --------------------------------------------------------------------------------

    def _rows(self, condition: str, parameters: Sequence[object]) -> list[EntryRow]:
        return [
            self._row(row) for row in self._all(f"SELECT {_COLUMNS} {_FROM} {condition}", parameters, _SHAPE)
        ]

    def _lookup(self, column: str, values: Collection[object], also: str = "") -> Iterator[EntryRow]:
        for part in _parts(values):
            marks = ",".join("?" * len(part))
            yield from self._rows(f"WHERE {column} IN ({marks}) {also}", part)

    def _by_numbers(self, select: str, ns: Collection[int], column: str = "n") -> Iterator[Any]:
        for part in _parts(ns):
            yield from self._all(f"{select} WHERE {column} IN ({','.join('?' * len(part))})", part, "ib")

    def _row(self, row: Sequence[Any]) -> EntryRow:
        (
            n,
            log,
            week,
            id_,
            tail,
            signature,
            state,
            kind,
            chain,
            seq,
            time_ms,
            rank,
            mid,
            hidden,
            edit,
            body,
        ) = row
        return EntryRow(
            n=n,
            log=log,
            id=id_,
            week=week,
            outer=self._prefix(log) + tail,
            signature=signature,
            body=body,
            state=state,
            kind=kind,
            chain=chain or 0,
            seq=seq,
            time_ms=time_ms,
            rank=rank,
            mid=mid,
            hidden=hidden,
            edit=edit or 0,
        )

    def _prefix(self, log: int) -> bytes:
        if log not in self._prefixes:
            rows = self._all("SELECT topic FROM logs WHERE n = ?", (log,), "b")
            self._prefixes[log] = bytes([VERSION]) + (rows[0][0] if rows else b"")
        return self._prefixes[log]


def _parts(values: Collection[Any]) -> Iterator[Sequence[Any]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), limits.STORE_ROWS_MAX):
        yield ordered[start : start + limits.STORE_ROWS_MAX]


def _batches(words: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    ordered = iter(words)
    while batch := list(islice(ordered, limits.STORE_ROWS_MAX)):
        yield batch


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    return (error.sqlite_errorname or "").startswith("SQLITE_CORRUPT")


def _as_text(row: EntryRow) -> str | bytes:
    """Opened bodies are kept as text, so that SQL can read the JSON in them."""
    assert row.body is not None
    if row.state == BodyState.OPENED:
        try:
            return row.body.decode()
        except UnicodeDecodeError:
            pass
    return row.body


@cache
def _types_of(shape: str) -> frozenset[tuple[type, ...]]:
    """The types that a row of this shape may have."""
    null = type(None)
    letters = {"i": (int,), "b": (bytes,), "I": (int, null), "B": (bytes, null)}
    return frozenset(product(*(letters[letter] for letter in shape))) if shape else frozenset()


def _coerced(value: object, letter: str) -> object:
    """A value of the type it should have; what a flipped bit gave another type never fits then."""
    if letter in "ib" or value is not None:
        wanted, never = (int, -1) if letter in "iI" else (bytes, b"")
        return value if isinstance(value, wanted) else never
    return None


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _member(kind: Any, value: bytes) -> Any:
    try:
        return kind(_text(value))
    except ValueError:
        raise StoreError(
            "the database is damaged: it holds a word that mlog never writes. "
            "Restore a backup: 'mlog restore FILE'."
        ) from None
