"""Bodies in the database: equal pieces of files are there once, and every reader sees whole bodies."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from mlog.adapters.sqlite import SqliteStore
from mlog.errors import StoreError
from mlog.log.bodies import Kind
from mlog.log.ids import EntryId
from mlog.log.store import BodyState, EntryRow
from tests.log.test_store import id_of, row

DATA = random.Random(21).randbytes(50_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "mlog.db")
    yield made
    made.close()


def chunk(n: int, data: bytes = DATA, *, log: int = 1, state: BodyState = BodyState.OPENED) -> EntryRow:
    """A chunk in a group of its own."""
    return row(n, log=log, kind=Kind.CHUNK, state=state, body=bytes([n]) * 16 + bytes(4) + data)


def insert(store: SqliteStore, *rows: EntryRow) -> None:
    with store.transaction():
        store.insert(rows, (), (), ())


def update(store: SqliteStore, *rows: EntryRow) -> None:
    with store.transaction():
        store.update(rows, (), (), ())


def pieces(store: SqliteStore) -> list[bytes]:
    return [data for (data,) in store._all("SELECT data FROM pieces ORDER BY n")]


def assert_reads(store: SqliteStore, *rows: EntryRow) -> None:
    """Each way to read a body gives the one that was written."""
    for written in rows:
        n, body = written.n, written.body
        assert store.rows([n])[n].body == body
        assert store.bodies([n]) == ({} if body is None else {n: body})
        assert store.find(written.log, [written.id])[written.id].body == body
        if written.state == BodyState.OPENED:
            assert (n, written.kind, body) in store.opened(frozenset({written.kind}), n - 1, 1)


@settings(max_examples=25)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.binary(max_size=24))
def test_any_body_of_a_chunk_is_read_as_it_was_written(datas: list[bytes], odd: bytes) -> None:
    rows = [chunk(n, data) for n, data in enumerate([*datas, *datas], 1)]
    rows.append(row(100, kind=Kind.CHUNK, body=odd))
    with TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "mlog.db")
        try:
            insert(store, *rows)
            assert_reads(store, *rows)
            bodies = {written.body[20:] for written in rows if written.body and len(written.body) > 20}
            assert sorted(pieces(store)) == sorted(bodies)
            update(store, *reversed(rows))
            assert_reads(store, *rows)
            assert sorted(pieces(store)) == sorted(bodies)
        finally:
            store.close()


def test_equal_pieces_are_stored_once(store: SqliteStore) -> None:
    insert(store, chunk(1), chunk(2, log=2))
    insert(store, chunk(3, log=2))
    assert pieces(store) == [DATA]
    assert store._one("SELECT sum(length(body)) FROM bodies") == 60
    assert_reads(store, chunk(1), chunk(2, log=2), chunk(3, log=2))


def test_rows_without_bodies_are_read_without_pieces(store: SqliteStore) -> None:
    insert(store, chunk(1))
    assert store.rows([1], bodies=False)[1].body is None


def test_a_piece_goes_with_the_last_body_that_names_it(store: SqliteStore) -> None:
    rows = [chunk(1), chunk(2), chunk(3), chunk(4)]
    insert(store, *rows)
    with store.transaction():
        store.erase_body(1, None)
    assert_reads(store, *rows[1:])
    with store.transaction():
        store.remove([rows[1]], [])
    assert_reads(store, *rows[2:])
    update(store, msgspec.structs.replace(rows[2], body=None, state=BodyState.NOT_FETCHED))
    assert_reads(store, rows[3])
    update(store, chunk(4, b"other"))
    assert_reads(store, chunk(4, b"other"))
    assert pieces(store) == [b"other"]


def test_rows_that_change_their_pieces_in_one_update_never_name_one_that_is_gone(store: SqliteStore) -> None:
    insert(store, chunk(1, b"a"), chunk(2, b"b"), chunk(3, b"c"))
    after = [chunk(2, b"a"), chunk(1, b"c"), chunk(3, b"b")]
    update(store, *after)
    assert_reads(store, *after)
    update(store, msgspec.structs.replace(chunk(3), body=None, state=BodyState.NOT_FETCHED), chunk(1, b"b"))
    assert_reads(store, chunk(1, b"b"), chunk(2, b"a"))
    assert sorted(pieces(store)) == [b"a", b"b"]


def test_a_failed_transaction_leaves_the_pieces_as_they_were(store: SqliteStore) -> None:
    insert(store, chunk(1))

    def fail() -> None:
        with store.transaction():
            store.erase_body(1, None)
            store.insert([chunk(2, b"new")], (), (), ())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert_reads(store, chunk(1))
    assert pieces(store) == [DATA]


def test_what_is_sealed_stays_whole_until_it_is_opened(store: SqliteStore) -> None:
    sealed = chunk(1, state=BodyState.SEALED)
    insert(store, sealed, chunk(2))
    assert_reads(store, sealed, chunk(2))
    assert len(store._one("SELECT body FROM bodies WHERE n = 1")) == 20 + len(DATA)
    with store.transaction():
        store.erase_body(2, None)
    assert pieces(store) == []
    update(store, chunk(1))
    assert pieces(store) == [DATA]
    assert_reads(store, chunk(1))


def test_a_damaged_piece_is_whole_for_all_once_one_of_them_is_written_again(store: SqliteStore) -> None:
    rows = [chunk(1), chunk(2)]
    insert(store, *rows)
    with store.transaction():
        store._run("UPDATE pieces SET data = ?", (DATA[:-1] + b"?",))
    assert store.rows([1])[1].body == bytes([1]) * 16 + bytes(4) + DATA[:-1] + b"?"
    update(store, rows[1])
    assert_reads(store, *rows)
    assert pieces(store) == [DATA]


@pytest.mark.parametrize("damage", ["DELETE FROM pieces", "UPDATE bodies SET piece = 99"])
def test_a_body_whose_piece_is_lost_is_lost_until_it_is_written_again(
    store: SqliteStore, damage: str
) -> None:
    rows = [chunk(1), chunk(2)]
    insert(store, *rows)
    with store.transaction():
        store._run(damage)
    assert store.rows([1])[1].body is None
    assert store.bodies([1, 2]) == {}
    update(store, rows[0])
    update(store, rows[1])
    assert_reads(store, *rows)


def test_a_piece_that_damage_took_from_its_body_is_gone_after_the_next_scrub(
    store: SqliteStore, tmp_path: Path
) -> None:
    insert(store, chunk(1), chunk(2, b"other"))
    with store.transaction():
        store._run("INSERT INTO pieces VALUES (7, zeroblob(32), ?)", (DATA[::-1],))
        store.erase_body(1, None)
    store.scrub()
    assert pieces(store) == [b"other"]
    for path in tmp_path.iterdir():
        assert DATA[100:120] not in path.read_bytes()
        assert DATA[::-1][100:120] not in path.read_bytes()


def test_a_flipped_bit_in_a_hash_is_seen_and_stops_an_erasure_with_an_error(
    store: SqliteStore, tmp_path: Path
) -> None:
    insert(store, chunk(1))
    store.close()
    content = bytearray((tmp_path / "mlog.db").read_bytes())
    content[content.index(blake3(DATA).digest()) + 3] ^= 1
    (tmp_path / "mlog.db").write_bytes(content)
    again = SqliteStore(tmp_path / "mlog.db")
    assert_reads(again, chunk(1))
    assert again.check_file() != []
    with pytest.raises(StoreError, match="the file is damaged"), again.transaction():
        again.erase_body(1, None)
    assert_reads(again, chunk(1))
    again.close()


def test_one_lookup_by_an_index_finds_a_piece_and_who_names_it(store: SqliteStore) -> None:
    for sql, index in (
        ("SELECT n FROM pieces WHERE substr(hash, 1, 8) = x'00' AND hash = x'00'", "pieces_hash"),
        ("SELECT 1 FROM bodies WHERE piece = 1", "bodies_piece"),
        ("DELETE FROM pieces WHERE NOT EXISTS (SELECT 1 FROM bodies WHERE piece = pieces.n)", "bodies_piece"),
    ):
        plan = str(store._all(f"EXPLAIN QUERY PLAN {sql}"))
        assert index in plan, plan


def test_chunks_of_a_home_from_before_are_left_as_they_are_until_written_again(tmp_path: Path) -> None:
    path = tmp_path / "mlog.db"
    store = SqliteStore(path)
    rows = [chunk(1), chunk(2), row(3)]
    insert(store, *rows)
    store.close()
    with closing(sqlite3.connect(path)) as db, db:
        # As the version before had it.
        for name in ("TRIGGER bodies_deleted", "TRIGGER bodies_changed", "INDEX bodies_piece"):
            db.execute(f"DROP {name}")
        db.executemany("UPDATE bodies SET body = ? WHERE n = ?", [(r.body, r.n) for r in rows[:2]])
        db.execute("ALTER TABLE bodies DROP COLUMN piece")
        db.execute("DROP TABLE pieces")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'pieces'")
        db.execute("PRAGMA user_version=5")
    store = SqliteStore(path)
    assert pieces(store) == []
    assert_reads(store, *rows)
    update(store, rows[0])
    assert pieces(store) == [DATA]
    with store.transaction():
        store.erase_body(2, None)
    assert_reads(store, rows[0], rows[2])
    assert store.find(1, [EntryId(id_of(2))])[id_of(2)].body is None
    store.close()
