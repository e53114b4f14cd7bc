"""Verification: silent on what is whole, and never on one changed bit."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import given

from mlog.adapters.keystore import SystemEntropy
from mlog.adapters.sqlite import SqliteStore
from mlog.errors import StoreError
from mlog.log import bodies, verify
from mlog.log.bodies import Kind
from mlog.log.crypto import EpochKeys, LogKeys
from mlog.log.ids import Incarnation
from mlog.log.memory import MemoryStore
from mlog.log.merkle import refresh_digests
from mlog.log.replica import Draft, Replica
from mlog.log.store import FORGOTTEN, BodyState, EntryRow, EpochRow, LogKind, Reason, Store
from mlog.log.verify import Finding, Progress

from .support import (
    EXTRAS,
    LOG,
    START_MS,
    History,
    SeededEntropy,
    deliver,
    device_keys,
    findings,
    histories,
    make_log,
    make_replica,
    message,
    rows_of,
    seal_again,
    take,
)

STEPS = [
    ("say", 0, 0, 30),
    ("say", 1, 0, 31),
    ("hear", 1, 0, 40),
    ("reply", 1, 0, 33),
    ("react", 1, 0, 35),
    ("edit", 0, 0, 36),
    ("import", 0, 0, 4),
    ("import", 1, 0, 7),
    ("hear", 0, 1, 40),
    ("say", 0, 0, 25),
    ("file", 0, 3, 25),
    ("say", 0, 0, 26),
    ("erase", 0, 9, 28),
    ("edit", 0, 9, 29),
    ("title", 1, 0, 30),
    ("say", 1, 0, 31),
]


def full(store: Store) -> Replica:
    """A replica with every kind of entry, a person log, and a week that has no digest yet.

    In it are a fork, a chain with a hole, an entry that waits, and one that names what is not here.
    """
    history = History(2).run(STEPS)
    EXTRAS["fork"](history, 1, 1)
    EXTRAS["mint"](history, 3, 3)
    later = history.replicas[1]
    absent = later.write(LOG, [message("not sent")], START_MS)
    later.appender.incarnation = Incarnation(b"a hole..")
    history._keep(later.write(LOG, [message(f"{n}") for n in range(5)], START_MS))
    hole = [row.id for row in rows_of(later.store)][-3:-1]
    for id_ in hole:
        history.entries.pop(id_, None)
    assert absent[0].id not in history.entries
    with store.transaction():
        replica = deliver(history, history.entries.values(), store)
        record = bodies.Device(
            name="desktop",
            person="Ann",
            noise=device_keys(0).noise_public,
            hpke=device_keys(0).hpke_public,
        )
        make_log(replica, LogKind.PERSON, Draft(Kind.DEVICE, record, START_MS))
        for log in (LOG, LOG + 1):
            refresh_digests(store, log)
        later = START_MS + 3 * 7 * 24 * 3600_000
        replica.write(LOG, [message("since the digests", later)], later)
    return replica


@given(histories())
def test_healthy_histories_have_no_findings(history: History):
    with (store := MemoryStore()).transaction():
        replica = deliver(history, history.entries.values(), store)
    for signatures in (False, True):
        assert findings(replica, signatures=signatures) == []


def test_a_log_of_which_only_the_secret_was_granted_is_whole():
    replica = make_replica(MemoryStore())
    replica.add_logs([(LogKind.CONVERSATION, LogKeys(bytes(32)))])
    assert findings(replica) == []


def test_every_kind_of_entry_is_looked_at_once():
    replica = full(MemoryStore())
    for log in (LOG, LOG + 1):
        events = list(verify.verify_log(replica, log, signatures=True))
        assert {event.reason for event in events if isinstance(event, Finding)} <= {Reason.FORKED}
        assert sum(event.entries for event in events if isinstance(event, Progress)) == len(
            replica.store.arrivals(log, 0, 1000)
        )
    kinds = {row.kind for row in rows_of(replica.store, LOG)}
    assert kinds >= {
        Kind.KEY,
        Kind.TITLE,
        Kind.IMPORT,
        Kind.MANIFEST,
        Kind.MESSAGE,
        Kind.REPLY,
        Kind.EDIT,
        Kind.REACTION,
        Kind.ERASURE,
    }


# -- one changed bit -------------------------------------------------------------------------

UNCHECKED = {
    "entries.n": "the order of arrival here; where anything refers to it, that is found",
    "logs.window_days": "what the person chose; 'mlog window' shows it",
    "logs.fetch_bodies": "what the person chose; 'mlog window' shows it",
    "meta": "facts about this copy: another database id or incarnation starts new chains (test_marker.py)",
    "missing": "the findings of the last verification, which each verification replaces",
    "search": "words, which `verify_search` compares with the texts (tests/adapters/test_search_index.py)",
    "sqlite": "SQLite's own tables, and those of sqlite-utils",
    "_sqlite": "the names of the migrations that were applied",
}
"""Tables and columns, by the start of their names, that verification does not check; and why."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Generator[SqliteStore]:
    store = SqliteStore(tmp_path_factory.mktemp("verify") / "mlog.db")
    full(store)
    yield store
    store.close()


def tables(db: sqlite3.Connection) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each table that holds content, with its key and with all columns that are checked."""
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        table = name.decode()
        if not table.startswith(tuple(UNCHECKED)):
            info = db.execute(f"PRAGMA table_info({table})").fetchall()
            key = [column[1].decode() for column in info if column[5]]
            columns = [column[1].decode() for column in info]
            yield table, key or ["rowid"], [name for name in columns if f"{table}.{name}" not in UNCHECKED]


def flipped(value: Any, bit: int) -> Any:
    if isinstance(value, int):
        return value ^ 1 << bit % 40
    changed = bytearray(value)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


def problems(store: SqliteStore) -> list[object]:
    """What a program that opens the store now says of it."""
    try:
        replica = make_replica(store)
        found: list[object] = [f for state in replica.logs() for f in findings(replica, state.n)]
        # An erased edit that looks as if it had not come is fetched, and erased again.
        unfetched = [
            m.id for state in replica.logs() for m in replica.missing(state.n, 99) if m.part == "body"
        ]
        return [*found, *unfetched]
    except StoreError as error:
        return [error]


def is_fork(problem: object) -> bool:
    """Whether it is what is said of the fork that is there."""
    return isinstance(problem, Finding) and problem.reason == Reason.FORKED


def is_seen(store: SqliteStore, statement: str, parameters: list[object]) -> bool:
    """Whether verification has anything to say after this change, which is taken back."""
    db = store._db
    db.execute("BEGIN")
    try:
        db.execute(statement, parameters)
        return [problem for problem in problems(store) if not is_fork(problem)] != []
    except sqlite3.IntegrityError:
        return True
    finally:
        db.execute("ROLLBACK")
        store._prefixes.clear()


def test_every_changed_bit_is_found(database: SqliteStore, request: pytest.FixtureRequest):
    assert [is_fork(problem) for problem in problems(database)] == [True]
    assert database.absent(LOG, 9)
    assert len(database.runs(LOG)) > len(database.chains(LOG))
    assert database.scan_unopened(LOG, 0, 9)
    step = 1 if request.config.getoption("--slow") else 5
    number, unseen = 0, list[tuple[str, str, object, object]]()
    states = ",".join(str(int(state)) for state in FORGOTTEN)
    gone = {n for (n,) in database._db.execute(f"SELECT n FROM entries WHERE state IN ({states})")}
    for table, key, columns in tables(database._db):
        where = " AND ".join(f"{name} = ?" for name in key)
        for column in columns:
            select = f"SELECT typeof({column}), {column}, {','.join(key)} FROM {table}"
            for kind, value, *of_row in database._db.execute(select).fetchall():
                number += 1
                # Of what was forgotten nothing is left that would tell what it named.
                if value is None or value == b"" or number % step or (table == "links" and of_row[0] in gone):
                    continue
                changed = flipped(value, 11 * number)
                mark = "CAST(? AS TEXT)" if kind == b"text" else "?"
                change = f"UPDATE {table} SET {column} = {mark} WHERE {where}"
                if not is_seen(database, change, [changed, *of_row]):
                    unseen.append((table, column, value, changed))
    assert unseen == []
    assert number > 500


def test_every_lost_row_is_found(database: SqliteStore):
    lost: list[tuple[str, str, list[Any]]] = []
    for table, key, _ in tables(database._db):
        where = " AND ".join(f"{name} = ?" for name in key)
        if table != "logs":
            # Without its row there nothing tells that there was a log: other replicas know.
            of_rows = database._db.execute(f"SELECT {','.join(key)} FROM {table}").fetchall()
            lost += [(table, where, list(of_row)) for of_row in of_rows]
    # What an entry was about whose body is gone, nothing else tells.
    empty = database._db.execute("SELECT n FROM entries WHERE n NOT IN (SELECT n FROM bodies)").fetchall()
    lost = [(t, where, of_row) for t, where, of_row in lost if t != "links" or (of_row[0],) not in set(empty)]
    assert len(lost) > 50
    for table, where, of_row in lost:
        assert is_seen(database, f"DELETE FROM {table} WHERE {where}", of_row), (table, of_row)


# -- what is said of damage ------------------------------------------------------------------


def whole() -> tuple[MemoryStore, Replica, list[EntryRow]]:
    """A chain of six entries: key, then five messages."""
    store = MemoryStore()
    replica = make_replica(store)
    make_log(replica, LogKind.CONVERSATION, *(message(f"number {n}", START_MS + n) for n in range(5)))
    refresh_digests(store, LOG)
    return store, replica, store.scan(1, -1, 10)


def lose(store: MemoryStore, *rows: EntryRow) -> None:
    for row in rows:
        store._forget(row)
        del store._t.entries[row.n]


def told(replica: Replica, part: str, *, signatures: bool = False) -> list[tuple[int, bytes, Reason]]:
    found = findings(replica, signatures=signatures)
    return [(finding.seq, finding.id, finding.reason) for finding in found if finding.part == part]


def test_a_hole_names_its_last_entry_which_the_next_one_knows():
    store, replica, rows = whole()
    lose(store, *rows[2:4])
    assert told(replica, "entry") == [(2, b"", Reason.LOST), (3, rows[3].id, Reason.LOST)]


def test_a_lost_end_is_named_by_the_chain_s_record():
    store, replica, rows = whole()
    lose(store, *rows[4:])
    assert told(replica, "entry") == [(4, b"", Reason.LOST), (5, rows[5].id, Reason.LOST)]


def test_an_entry_that_only_others_name_is_missed():
    store, replica, _ = whole()
    other = make_replica(store, 0, "another incarnation")
    [named] = other.write(LOG, [message("of a chain that is lost")], START_MS)
    replica.write(LOG, [message("names it", START_MS + 10)], START_MS)
    lose(store, named)
    del store._t.chains[named.chain]
    assert told(replica, "entry") == [(0, named.id, Reason.LOST)]


def test_each_damaged_entry_is_named_with_what_is_wrong():
    store, replica, rows = whole()
    entries = store._t.entries
    entries[rows[1].n].body = b'{"text":"forged"}'
    entries[rows[2].n].outer = rows[2].outer[:-1] + bytes([rows[2].outer[-1] ^ 1])
    entries[rows[3].n].time_ms += 1
    entries[rows[4].n].body = None
    found = {(f.seq, f.part, f.detail) for f in findings(replica)}
    assert found == {
        (1, "body", "the text does not match its hash"),
        (2, "entry", "the entry does not match its hash"),
        (3, "entry", "the index does not match the entry"),
        (4, "body", "the text is lost"),
    }


def test_a_damaged_signature_is_found_without_verifying_signatures():
    store, replica, rows = whole()
    assert rows[3].signature is not None
    store._t.entries[rows[3].n].signature = rows[3].signature[:-1] + bytes([rows[3].signature[-1] ^ 1])
    assert told(replica, "signature") == [(3, rows[3].id, Reason.CORRUPT)]


def test_a_signature_of_another_device_is_found_by_verifying_signatures():
    store, replica, rows = whole()
    other = make_replica(store, 1)
    other.appender._sign(replica.log(LOG).keys.current, row := store._t.entries[rows[3].n])
    assert row.signature is not None
    assert told(replica, "signature") == []
    assert told(replica, "signature", signatures=True) == [(3, rows[3].id, Reason.CORRUPT)]


def test_an_unsigned_end_is_found():
    store, replica, rows = whole()
    store._t.entries[rows[5].n].signature = None
    assert told(replica, "signature") == [(5, rows[5].id, Reason.LOST)]


@pytest.mark.parametrize("state", [BodyState.ERASED, BodyState.NOT_FETCHED])
def test_a_body_that_nobody_erased_is_missed(state: BodyState):
    store, replica, rows = whole()
    store._t.entries[rows[2].n].state = state
    assert {(seq, id_) for seq, id_, _ in told(replica, "body")} == {(2, rows[2].id)}


def test_an_erased_text_stays_recorded_as_erased():
    store, replica, rows = whole()
    mid = rows[2].message
    replica.write(LOG, [Draft(Kind.ERASURE, bodies.Erasure(of=mid.hex()), START_MS)], START_MS)
    assert findings(replica) == []
    store._t.entries[rows[2].n].state = BodyState.NOT_FETCHED
    assert told(replica, "body") == [(2, rows[2].id, Reason.CORRUPT)]


def test_a_fork_is_told_of_and_both_branches_are_checked():
    store, replica, rows = whole()
    twin_store = MemoryStore()
    twin = make_replica(twin_store)
    history = History(1)
    history.keys = replica.log(LOG).keys
    deliver(history, [], twin_store)
    [first] = twin.write(LOG, [message("the same place")], START_MS)
    assert take(replica, seal_again(history.keys, first)).stored
    [fork] = findings(replica)
    assert (fork.part, fork.reason, fork.seq) == ("chain", Reason.FORKED, 0)
    assert "wrote two different entries as number 0" in fork.detail
    assert store.forks(LOG)[0].one == min(first.id, rows[0].id)
    [kept] = store.find(LOG, [first.id]).values()
    store._t.entries[kept.n].body = b"changed"
    assert [finding.part for finding in findings(replica)] == ["body", "chain"]


def test_what_is_said_of_an_entry_becomes_a_gap():
    store, replica, rows = whole()
    lose(store, rows[2])
    [finding] = [f for f in findings(replica) if f.part == "entry"]
    gap = verify.gap_of(finding, since_ms=77)
    assert (gap.id, gap.seq, gap.reason, gap.since_ms) == (rows[2].id, 2, Reason.LOST, 77)


def test_a_granted_epoch_waits_for_its_key_entry_and_is_no_damage():
    replica = full(MemoryStore())
    keys = replica.log(LOG).keys
    replica.learn_epochs(LOG, [EpochKeys(keys.current.number + 1, b"granted".ljust(32))])
    assert {finding.reason for finding in findings(replica)} == {Reason.FORKED}
    waiting = [m for m in replica.missing(LOG, 1000) if m.part == "key"]
    assert [(m.reason, m.first) for m in waiting] == [(Reason.WAITING, keys.current.number + 1)]
    assert not [m for m in replica.missing(LOG + 1, 1000) if m.part == "key"]


class _Wrapping(SeededEntropy):
    """Wraps for real: what is wrapped here is opened again."""

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        return SystemEntropy().wrap(recipient, secret, info)


@pytest.mark.parametrize("number", [1, 7])
def test_another_secret_than_a_key_entry_has_for_this_device_is_found(number: int):
    store = MemoryStore()
    replica = make_replica(store)
    replica.entropy = _Wrapping("")
    log = make_log(replica)
    assert findings(replica) == []
    (row,) = store.epochs(log)
    del store._t.epochs[row]
    store.add_epoch(EpochRow(log, number, replica.keyring.vault.seal("epoch", b"wrong".ljust(32))))
    (found,) = findings(make_replica(store))
    assert (found.part, found.reason) == ("index", Reason.CORRUPT)
    assert "the secret of epoch 1" in found.detail
