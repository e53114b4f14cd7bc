"""One SQLite file, opened the way mlog needs it: durable, locked, and read without surprises.

WAL with synchronous=FULL. One lock file stands around every write and checkpoint of all
processes: SQLite before 3.51.3 can corrupt a WAL when one connection checkpoints while another
writes. Text comes back as bytes, so that a flipped bit reaches the verification instead of
breaking the read.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final

from mlog import limits
from mlog.adapters.disk import disk_errors
from mlog.adapters.locking import ProcessLock
from mlog.adapters.overwrite import overwrite_gaps, overwrite_wal
from mlog.errors import StoreError, UserError

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "Database", "is_corrupt", "member", "parts", "text"]

APPLICATION_ID: Final = 0x6D6C6F67
"""'mlog', at offset 68 of the file, tells it from other programs' databases."""

SCHEMA_VERSION: Final = 9
"""Number of the newest migration set; a database with a higher one is of a newer mlog."""


class Database:
    """One file, its transactions, and the care that it needs; tables are the subclasses' business.

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

    def _each(self, sql: str, parameters: Sequence[object], shape: str) -> Iterator[Any]:
        """As `_all`, one by one: what is not taken is not read."""
        allowed = _types_of(shape)
        with disk_errors(self.path):
            for row in self._db.execute(sql, parameters):
                fits = tuple(map(type, row)) in allowed
                yield row if fits else tuple(map(_coerced, row, shape))

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
                # A piece goes with its last body, unless damage made that body name another one.
                self._db.execute(
                    "DELETE FROM pieces WHERE NOT EXISTS (SELECT 1 FROM bodies WHERE piece = pieces.n)"
                )
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
                found = [text(line) for (line,) in self._db.execute("PRAGMA integrity_check(20)")]
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
                if not is_corrupt(error):
                    raise
                return False
        return True

    def copy_to(self, path: Path) -> None:
        """A consistent copy in one file, made while others write."""
        with disk_errors(path):
            self._db.execute("VACUUM INTO ?", (str(path),))


def parts(values: Collection[Any]) -> Iterator[Sequence[Any]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), limits.STORE_ROWS_MAX):
        yield ordered[start : start + limits.STORE_ROWS_MAX]


def is_corrupt(error: sqlite3.DatabaseError) -> bool:
    return (error.sqlite_errorname or "").startswith("SQLITE_CORRUPT")


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


def text(value: bytes) -> str:
    return value.decode(errors="replace")


def member(kind: Any, value: bytes) -> Any:
    try:
        return kind(text(value))
    except ValueError:
        raise StoreError(
            "the database is damaged: it holds a word that mlog never writes. "
            "Restore a backup: 'mlog restore FILE'."
        ) from None
