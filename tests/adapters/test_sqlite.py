"""The store on SQLite: what is particular to a file; the rest is tests/log/test_store.py's."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlog import limits
from mlog.adapters import sqlite
from mlog.adapters.disk import disk_errors
from mlog.adapters.locking import ProcessLock
from mlog.adapters.sqlite import APPLICATION_ID, SCHEMA_VERSION, SqliteStore
from mlog.errors import Busy, StoreError, UserError
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.replica import Draft
from mlog.log.store import BodyState, TimelineQuery
from tests.log.support import LOG, START_MS, findings, make_log, make_replica, message, rows_of, take


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mlog.db"


@contextmanager
def opened(path: Path, **options: int) -> Generator[SqliteStore]:
    store = SqliteStore(path, **options)  # pyright: ignore[reportArgumentType]
    try:
        yield store
    finally:
        store.close()


def fill(path: Path, *texts: str) -> None:
    with opened(path) as store:
        replica = make_replica(store)
        if not replica.logs():
            make_log(replica)
        replica.write(LOG, [message(text) for text in texts], START_MS)


def pragma(path: Path, name: str) -> object:
    db = sqlite3.connect(path)
    try:
        return db.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        db.close()


# -- opening ---------------------------------------------------------------------------------


def test_a_new_file_is_an_mlog_database_that_only_its_owner_reads(path: Path):
    with opened(path) as store:
        assert store.meta("database") is not None
        assert store._pragma("synchronous") == 2
        assert store._pragma("secure_delete") == 1
        if os.name == "posix":
            for file in path.parent.glob("mlog.db*"):
                if not file.name.endswith(".lock"):
                    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (pragma(path, "application_id"), pragma(path, "user_version")) == (APPLICATION_ID, SCHEMA_VERSION)
    assert pragma(path, "journal_mode") == "wal"


def test_an_empty_file_becomes_a_database(path: Path):
    path.touch()
    fill(path, "hello")
    with opened(path) as store:
        assert len(rows_of(store)) == 2


def test_each_database_has_an_id_of_its_own(tmp_path: Path):
    with opened(tmp_path / "one.db") as one, opened(tmp_path / "two.db") as two:
        assert one.meta("database") != two.meta("database")


def test_another_program_s_database_is_left_alone(path: Path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="not an mlog database"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_left_alone(path: Path):
    fill(path, "hello")
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="newer mlog"):
        SqliteStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"not a database, but longer than a header of SQLite's hundred bytes " * 9,
        lambda content: content[:1] + b"\xff" + content[2:],
        lambda content: content[:16] + b"\xff\xff" + content[18:],
        lambda content: content[:100] + bytes(4000) + content[4100:],
        lambda content: content[:5000],
    ],
    ids=["text", "magic", "page size", "first page", "truncated"],
)
def test_a_damaged_start_is_noticed(path: Path, damage: Callable[[bytes], bytes]):
    fill(path, "hello")
    path.write_bytes(damage(path.read_bytes()))
    try:
        with opened(path) as store:
            noticed = [*store.check_file(), *findings(make_replica(store))]
    except (StoreError, UserError) as error:
        noticed = [error]
    assert noticed


def test_a_folder_in_its_place_is_a_store_error(path: Path):
    path.mkdir()
    (path / "file").touch()
    with pytest.raises(StoreError):
        SqliteStore(path)


def test_a_missing_folder_is_a_store_error(tmp_path: Path):
    with pytest.raises(StoreError):
        SqliteStore(tmp_path / "absent" / "mlog.db")


def test_an_interrupted_creation_is_completed(path: Path, monkeypatch: pytest.MonkeyPatch):
    from mlog.adapters import schema

    def fail(self: object, db: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(schema.MIGRATIONS), "apply", fail)
        with pytest.raises(KeyboardInterrupt):
            SqliteStore(path)
    fill(path, "hello")
    assert pragma(path, "user_version") == SCHEMA_VERSION


# -- several processes -----------------------------------------------------------------------


def test_a_writer_that_waits_too_long_is_busy(path: Path):
    fill(path, "hello")
    with opened(path, busy_timeout_ms=20) as store:
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy), store.transaction():
            pass
        assert len(rows_of(store)) == 2
        db.execute("ROLLBACK")
        db.close()
        with store.transaction():
            store.set_title(LOG, "free again")


def test_the_lock_of_all_writers_is_waited_for_and_then_busy(path: Path):
    with opened(path, busy_timeout_ms=20) as store:
        with (
            ProcessLock(path.with_name("mlog.db.lock"), 0),
            pytest.raises(Busy, match="Try again"),
            store.transaction(),
        ):
            pass
        with store.transaction():
            pass


def test_a_transaction_is_seen_whole_or_not_at_all(path: Path):
    fill(path, "one")
    with opened(path) as writer, opened(path) as reader:
        replica = make_replica(writer)
        with writer.transaction():
            replica.write(LOG, [message("two")], START_MS)
            assert len(rows_of(reader)) == 2
        assert len(rows_of(reader)) == 3
        with reader.reading():
            assert len(rows_of(reader)) == 3
            replica.write(LOG, [message("three")], START_MS)
            assert len(rows_of(reader)) == 3
        assert len(rows_of(reader)) == 4


def test_the_commit_is_told_after_it_is_durable_and_before_others_write(path: Path):
    told: list[int] = []

    def on_commit() -> None:
        other = sqlite3.connect(path)
        told.append(other.execute("SELECT count(*) FROM entries").fetchone()[0])
        other.close()
        with pytest.raises(Busy), ProcessLock(path.with_name("mlog.db.lock"), 0):
            pass

    store = SqliteStore(path, on_commit=on_commit)
    replica = make_replica(store)
    make_log(replica)
    replica.write(LOG, [message("two")], START_MS)
    assert told == [1, 2]
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.set_title(LOG, str(1 // 0))
    assert told == [1, 2]
    store.close()


# -- rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b'{"text":"a\0b"}', b"\0", b"\xff\xfe\0", b'{"text":"\xc3"}', "{}\ufffd".encode(), b""]
)
def test_bodies_keep_every_byte(path: Path, body: bytes):
    with opened(path) as store:
        replica = make_replica(store)
        make_log(replica)
        state = replica.log(LOG)
        from mlog.log import entry

        header = entry.Header(
            Kind.MESSAGE,
            replica.device_id,
            replica.incarnation,
            1,
            store.chains(LOG)[0].id,
            START_MS,
            len(body),
        )
        sealed = entry.seal_entry(state.keys, state.keys.current, 1000, header, body)
        sealed = entry.sign_entry(replica.device_keys, state.keys.current, sealed)
        assert take(replica, sealed).stored
    with opened(path) as store:
        replica = make_replica(store)
        [kept] = store.find(LOG, [sealed.id]).values()
        assert (kept.body, kept.outer, kept.signature) == (body, sealed.outer, sealed.signature)
        assert findings(replica) == []


def test_titles_and_words_with_quotes_are_only_text(path: Path):
    hostile = "'); DROP TABLE entries; --"
    with opened(path) as store:
        replica = make_replica(store)
        make_log(replica, *())
        replica.write(LOG, [Draft(Kind.TITLE, bodies.Title(title=hostile), START_MS)], START_MS)
        replica.write(LOG, [message(hostile)], START_MS)
        assert store.logs()[0].title == hostile
        assert findings(replica) == []


def test_a_batch_of_the_largest_size_is_one_transaction(path: Path):
    commits: list[None] = []
    store = SqliteStore(path, on_commit=lambda: commits.append(None))
    replica = make_replica(store)
    make_log(replica)
    commits.clear()
    drafts = [message(f"line {n}", START_MS + n) for n in range(limits.STORE_ROWS_MAX)]
    rows = replica.write_run(replica.begin_run(LOG), drafts, START_MS).rows
    assert len(rows) == limits.STORE_ROWS_MAX
    assert len(commits) == 1
    assert findings(replica) == []
    store.close()


# -- erasing and copying ---------------------------------------------------------------------


def test_an_erased_body_is_in_no_file_after_the_scrub(path: Path):
    secret = "xylophone quarantine"
    with opened(path) as store:
        replica = make_replica(store)
        make_log(replica)
        first, _ = replica.write(LOG, [message(secret), message("stays")], START_MS)
        assert any(b"xylophone" in file.read_bytes() for file in path.parent.iterdir())
        erasure = Draft(Kind.ERASURE, bodies.Erasure(of=first.message.hex()), START_MS)
        replica.write(LOG, [erasure], START_MS)
        store.scrub()
        assert store.meta("scrub") is None
        assert not [f.name for f in path.parent.iterdir() if b"xylophone" in f.read_bytes()]
        assert store.search('"stays"', LOG, 10) != []
        assert store.check_file() == []
        assert findings(replica) == []


def test_a_body_that_comes_after_its_erasure_leaves_nothing_behind(path: Path, tmp_path: Path):
    from tests.log.support import join, seal_again

    with opened(tmp_path / "other.db") as other, opened(path) as store:
        author, reader = make_replica(other), make_replica(store, 1)
        make_log(author)
        [said] = author.write(LOG, [message("xylophone")], START_MS)
        sealed = seal_again(author.log(LOG).keys, said)
        erasure = Draft(Kind.ERASURE, bodies.Erasure(of=said.message.hex()), START_MS)
        [erased] = author.write(LOG, [erasure], START_MS)
        join(reader, author.log(LOG).keys)
        take(reader, seal_again(author.log(LOG).keys, erased))
        assert take(reader, sealed).stored
        assert not take(reader, sealed).stored
        assert store.find(LOG, [said.id])[said.id].state == BodyState.ERASED
        store.scrub()
    assert not [f.name for f in path.parent.glob("mlog.db*") if b"xylophone" in f.read_bytes()]


def test_a_copy_is_whole_and_made_while_others_write(path: Path, tmp_path: Path):
    fill(path, "one")
    with opened(path) as store, opened(path) as writer:
        replica = make_replica(writer)
        with writer.transaction():
            replica.write(LOG, [message("not yet")], START_MS)
            store.copy_to(tmp_path / "copy.db")
    with opened(tmp_path / "copy.db") as copy:
        assert len(rows_of(copy)) == 2
        assert findings(make_replica(copy)) == []
        assert copy.check_file() == []


def test_a_sound_file_has_nothing_wrong_with_it(path: Path):
    fill(path, "hello")
    with opened(path) as store:
        assert store.check_file() == []


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("SQLITE_BUSY_SNAPSHOT", Busy, "in use"),
        ("SQLITE_LOCKED", Busy, "in use"),
        ("SQLITE_FULL", StoreError, "disk is full"),
        ("SQLITE_READONLY_DBMOVED", StoreError, "cannot be written"),
        ("SQLITE_IOERR_WRITE", StoreError, "disk reports an error"),
        ("SQLITE_CORRUPT_INDEX", StoreError, "damaged"),
        ("SQLITE_NOTADB", StoreError, "not an mlog database"),
        ("SQLITE_TOOBIG", StoreError, "says what"),
    ],
)
def test_what_sqlite_says_becomes_what_to_do(path: Path, code: str, error: type[Exception], says: str):
    raised = sqlite3.OperationalError("says what")
    raised.sqlite_errorname = code
    with pytest.raises(error, match=says) as caught, disk_errors(path):
        raise raised
    assert str(path) in str(caught.value)


def test_errors_of_the_system_become_store_errors(path: Path):
    for raised in (OSError(13, "Permission denied"), PermissionError("no")):
        with pytest.raises(StoreError, match=r"mlog\.db"), disk_errors(path):
            raise raised


def test_a_page_of_arrivals_costs_the_same_in_a_log_of_any_length(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    # What it takes to call a log long is worked out up to this number.
    monkeypatch.setattr(sqlite, "_SORTED_ROWS_MAX", 40)
    with opened(path) as store:
        replica = make_replica(store)
        log, small = make_log(replica), make_log(replica)
        costs: list[int] = []
        for _ in range(4):
            replica.write(log, [message(f"{at}") for at in range(300)], START_MS)
            replica.write(small, [message("one")], START_MS)
            costs.append(_steps(store, lambda: store.arrivals(log, 0, 10)))
            page = store.arrivals(log, 0, 10)
            assert [row.n for row in page] == [n for n, in_log in _logs_of(store) if in_log == log][:10]
        assert max(costs) - min(costs) <= 2, costs
        of_small = store.arrivals(small, 0, 10)
        assert [row.n for row in of_small] == [n for n, in_log in _logs_of(store) if in_log == small]


def test_what_rules_a_log_is_read_at_the_same_cost_in_a_log_of_any_length(path: Path):
    # It is read for each bundle that comes, and each message that is written.
    with opened(path) as store:
        replica = make_replica(store)
        log, kinds = make_log(replica), frozenset({Kind.KEY})
        (key,) = store.timeline(TimelineQuery(log=log, limit=10, kinds=kinds))
        after = TimelineQuery(log=log, limit=10, kinds=kinds, after=key.position)
        before = TimelineQuery(log=log, limit=10, kinds=kinds, before=key.position, newest_first=True)
        erasures = TimelineQuery(log=log, limit=10, kinds=frozenset({Kind.ERASURE}))
        costs: list[list[int]] = []
        for _ in range(2):
            replica.write(log, [message(f"{at}") for at in range(500)], START_MS)
            costs.append(
                [
                    _steps(store, lambda: store.timeline(after)),
                    _steps(store, lambda: store.timeline(before)),
                    _steps(store, lambda: store.count(log, kinds)),
                    _steps(store, lambda: store.timeline(erasures)),
                ]
            )
        assert all(abs(few - many) <= 1 for few, many in zip(*costs, strict=True)), costs


def _steps(store: SqliteStore, read: Callable[[], object]) -> int:
    """What reading costs, in twenties of SQLite's instructions."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    store._db.set_progress_handler(count, 20)
    read()
    store._db.set_progress_handler(None, 0)
    return steps


def _logs_of(store: SqliteStore) -> list[tuple[int, int]]:
    return store._db.execute("SELECT n, log FROM entries ORDER BY n").fetchall()
