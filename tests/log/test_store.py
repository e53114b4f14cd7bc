"""One conformance suite for every store: same calls, same answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlog import limits
from mlog.adapters.sqlite import SqliteStore
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.entry import VERSION
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId, Topic
from mlog.log.memory import MemoryStore
from mlog.log.peers import HeardRow, MemberRow, PeerRow, PrunedRow, ReceiptRow, SyncRow, SyncState
from mlog.log.scope import CARRIED
from mlog.log.store import (
    AuthorRow,
    BodyState,
    ChainRow,
    DeviceRow,
    Digest,
    EntryRow,
    EpochRow,
    ForkRow,
    GapRow,
    LogKind,
    LogRow,
    Position,
    Reason,
    Reference,
    RunRow,
    Store,
    Task,
    TimelineQuery,
    place_of,
)

OUTER = bytes([VERSION]) + bytes(16)


@pytest.fixture(params=["memory", "sqlite"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        store = SqliteStore(tmp_path / "mlog.db")
        yield store
        store.close()


@pytest.fixture
def store(empty: Store) -> Store:
    """With two logs of one chain each."""
    with empty.transaction():
        for n in (1, 2):
            empty.add_log(LogRow(n, Topic(bytes([0] * 15 + [n])), LogKind.CONVERSATION, b"sealed"))
            empty.put_chain(chain(n))
    return empty


def chain(n: int, **fields: Any) -> ChainRow:
    row = ChainRow(n, n, DeviceId(b"d" * 32), Incarnation(bytes([n] * 8)), -1, id_of(0), 0)
    return msgspec.structs.replace(row, **fields)


def id_of(*start: int) -> EntryId:
    return EntryId(bytes(start).ljust(32, b"\x77"))


def mid_of(*start: int) -> MessageId:
    return MessageId(bytes(start).ljust(16, b"\x99"))


def row(n: int, **fields: Any) -> EntryRow:
    """An opened message; its id begins with `n`."""
    log = fields.get("log", 1)
    made = EntryRow(
        n=n,
        log=1,
        id=id_of(n) if n < 256 else EntryId(n.to_bytes(32, "big")),
        week=1000,
        outer=OUTER[:-1] + bytes([log]) + b"tail %d" % n,
        signature=None,
        body=b'{"text":"said %d"}' % n,
        state=BodyState.OPENED,
        kind=Kind.MESSAGE,
        chain=log,
        seq=n,
        time_ms=n * 1000,
        rank=n * 10,
    )
    return msgspec.structs.replace(made, **fields)


def put(
    store: Store,
    *rows: EntryRow,
    parents: Iterable[tuple[int, EntryId]] = (),
    references: Iterable[Reference] = (),
    words: Iterable[tuple[int, str]] = (),
) -> None:
    with store.transaction():
        store.insert(rows, parents, references, words)


def write(store: Store, call: Callable[[], None]) -> None:
    with store.transaction():
        call()


def ns(rows: Iterable[EntryRow]) -> list[int]:
    return [found.n for found in rows]


# -- transactions ----------------------------------------------------------------------------


def test_a_failed_transaction_changes_nothing(store: Store):
    put(store, row(1), words=[(1, "before")])

    def fail() -> None:
        store.insert([row(2)], [(2, id_of(1))], [Reference(2, 1, mid_of(1))], [(2, "after")])
        store.set_title(1, "never")
        store.set_ranks([(1, 99)])
        store.erase_body(1, "before")
        store.change_heads(1, [id_of(2)], [])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(store, fail)
    assert store.rows([1, 2]) == {1: row(1)}
    assert store.logs()[0].title == ""
    assert store.heads(1) == []
    assert store.parents([2]) == {}
    assert store.references([2]) == {}
    assert store.search('"after"', None, 10) == []
    assert store.search('"before"', None, 10) == [1]
    assert store.stale_weeks(1) == [1000]


def test_nested_transactions_are_one(store: Store):
    def fail() -> None:
        write(store, lambda: store.set_title(1, "inner"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(store, fail)
    assert store.logs()[0].title == ""
    with store.transaction():
        with store.transaction():
            store.set_title(1, "inner")
        store.set_title(2, "outer")
    assert [log.title for log in store.logs()] == ["inner", "outer"]


def test_a_transaction_sees_its_own_writes(store: Store):
    with store.transaction():
        store.insert([row(1)], [], [], [])
        assert store.next_n() == 2
        assert store.find(1, [id_of(1)]).keys() == {id_of(1)}


def test_reading_may_nest_and_surround_transactions_of_its_own(store: Store):
    with store.reading(), store.reading():
        assert len(store.logs()) == 2
    with store.transaction(), store.reading():
        store.set_title(1, "seen")
        assert store.logs()[0].title == "seen"


# -- logs, keys, chains ----------------------------------------------------------------------


def test_logs_keep_what_they_were_given(empty: Store):
    rows = [
        LogRow(2, Topic(b"b" * 16), LogKind.PRIVATE, b"\0\xff", "Ünïcode 你好 \x00 end"),
        LogRow(1, Topic(b"a" * 16), LogKind.PERSON, b"secret"),
    ]
    with empty.transaction():
        for added in rows:
            empty.add_log(added)
    assert empty.logs() == rows[::-1]


def test_epochs_belong_to_their_log(store: Store):
    rows = [EpochRow(1, 2, b"c"), EpochRow(1, 1, b"b"), EpochRow(1, 1, b"a"), EpochRow(2, 1, b"a")]
    with store.transaction():
        for added in rows:
            store.add_epoch(added)
    assert store.epochs(1) == [rows[2], rows[1], rows[0]]
    assert store.epochs(2) == [rows[3]]


def test_a_device_is_replaced(store: Store):
    write(store, lambda: store.put_device(DeviceRow(DeviceId(b"2" * 32), "laptop", "Ann")))
    write(store, lambda: store.put_device(DeviceRow(DeviceId(b"1" * 32), "phone", "Ann")))
    write(store, lambda: store.put_device(DeviceRow(DeviceId(b"2" * 32), "desktop", "Anna", b"topic")))
    assert store.devices() == [
        DeviceRow(DeviceId(b"1" * 32), "phone", "Ann"),
        DeviceRow(DeviceId(b"2" * 32), "desktop", "Anna", b"topic"),
    ]


def test_a_chain_moves_on(store: Store):
    assert store.next_chain() == 3
    assert store.count_chains(2) == (1, 0)
    write(store, lambda: store.put_chain(chain(1, seq=4, id=id_of(4), week=7)))
    write(store, lambda: store.put_chain(chain(3, log=1)))
    assert store.chains(1) == [chain(1, seq=4, id=id_of(4), week=7), chain(3, log=1)]
    assert store.chains(2) == [chain(2)]
    assert store.next_chain() == 4
    assert store.count_chains(1) == (2, len(store.runs(1)))


def test_authors_are_counted_by_chain_file_name_and_uid(store: Store):
    bodies_ = [
        (1, 1, b'{"text":"a","by":"Ann","uid":"tel:1"}', 5),
        (2, 1, b'{"text":"b","by":"Ann","uid":"tel:1"}', 3),
        (3, 1, b'{"text":"c","by":"Ann","src":1}', 4),
        (4, 2, b'{"text":"d"}', 6),
        (5, 2, b"no JSON", 7),
    ]
    rows = [
        row(
            n,
            log=log,
            chain=log,
            seq=n,
            body=body,
            time_ms=time_ms,
            kind=Kind.MESSAGE,
            mid=mid_of(n) if log == 1 else None,
        )
        for n, log, body, time_ms in bodies_
    ]
    with store.transaction():
        store.insert(rows, {}, [], [])
    assert store.authors() == [
        AuthorRow(1, 1, 0, "Ann", "tel:1", True, 2, 3, 5),
        AuthorRow(1, 1, 1, "Ann", "", True, 1, 4, 4),
        AuthorRow(2, 2, 0, "", "", False, 1, 6, 6),
    ]


def test_heads_are_a_set_for_each_log(store: Store):
    with store.transaction():
        store.change_heads(1, [id_of(2), id_of(1)], [])
        store.change_heads(2, [id_of(9)], [])
    assert store.heads(1) == [id_of(1), id_of(2)]
    with store.transaction():
        store.change_heads(1, [id_of(3), id_of(2)], [id_of(1), id_of(9)])
    assert store.heads(1) == [id_of(2), id_of(3)]
    assert store.heads(2) == [id_of(9)]


def test_what_is_both_added_and_removed_is_added(store: Store):
    with store.transaction():
        store.change_heads(1, [id_of(1)], [id_of(1)])
    assert store.heads(1) == [id_of(1)]


def test_heads_can_be_asked_for_in_part(store: Store):
    with store.transaction():
        store.change_heads(1, [id_of(n) for n in range(9)], [])
    assert store.heads(1, 3) == [id_of(0), id_of(1), id_of(2)]
    assert store.heads(1, 0) == []


def test_a_window_is_kept(store: Store):
    assert (store.logs()[0].window_days, store.logs()[0].fetch_bodies) == (0, True)
    write(store, lambda: store.set_window(1, 30, fetch_bodies=False))
    assert [(log.window_days, log.fetch_bodies) for log in store.logs()] == [(30, False), (0, True)]


def test_the_window_of_conversations_to_come_is_kept(store: Store):
    assert store.window_of_new() == (0, True)
    for chosen in ((30, False), (0, True), (7, True)):
        write(store, lambda chosen=chosen: store.set_window_of_new(chosen[0], fetch_bodies=chosen[1]))
        assert store.window_of_new() == chosen


def test_branches_of_a_chain_are_rows_of_their_own(store: Store):
    branch = chain(3, log=1, incarnation=Incarnation(bytes([1] * 8)), branch=id_of(7), seq=7)
    other = chain(4, log=1, device=DeviceId(b"e" * 32), incarnation=Incarnation(bytes([1] * 8)))
    for added in (branch, other):
        write(store, lambda added=added: store.put_chain(added))
    key = branch.device, branch.incarnation
    assert store.find_chains(1, [key], 9) == [chain(1), branch]
    assert store.find_chains(1, [(other.device, other.incarnation), key, key], 9) == [chain(1), branch, other]
    assert store.find_chains(1, [key, (other.device, other.incarnation)], 1) == [chain(1), other]
    assert store.find_chains(2, [key], 9) == store.find_chains(1, [], 9) == []
    assert store.chain_rows([4, 3, 3, 99]) == [branch, other]
    assert store.chains(1) == [chain(1), branch, other]


def test_evidence_of_a_fork_is_replaced(store: Store):
    def fork(seq: int, log: int = 1, device: bytes = b"d") -> ForkRow:
        return ForkRow(log, DeviceId(device * 32), Incarnation(bytes(8)), seq, id_of(1), id_of(2))

    with store.transaction():
        for row_ in (fork(5), fork(9, device=b"e"), fork(7, log=2), fork(3), fork(1, device=b"a")):
            store.put_fork(row_)
    assert store.forks(1) == [fork(1, device=b"a"), fork(3), fork(9, device=b"e")]
    assert store.forks(2) == [fork(7, log=2)]


def test_runs_of_a_chain_are_kept_and_found_by_what_they_touch(store: Store):
    runs = [RunRow(1, 0, 3), RunRow(1, 6, 6), RunRow(1, 9, 20), RunRow(1, 30, 40)]
    write(store, lambda: store.put_chain(chain(3, log=1, branch=id_of(3))))
    with store.transaction():
        for run in (*runs[::-1], RunRow(2, 0, 99), RunRow(3, 5, 6)):
            store.put_run(run)
    assert store.runs(1) == [*runs, RunRow(3, 5, 6)]
    assert store.runs(2) == [RunRow(2, 0, 99)]
    cases = {
        (0, 0): runs[:1],
        (4, 4): runs[:1],
        (5, 5): runs[1:2],
        (4, 5): runs[:2],
        (7, 7): runs[1:2],
        (8, 8): runs[2:3],
        (7, 8): runs[1:3],
        (12, 13): runs[2:3],
        (22, 28): [],
        (41, 41): runs[3:],
        (0, 99): runs,
    }
    assert {key: store.runs_near(1, *key) for key in cases} == cases
    assert store.runs_near(9, 0, 9) == []
    with store.transaction():
        store.put_run(RunRow(1, 6, 8))
        store.remove_run(1, 9)
        store.remove_run(1, 77)
    assert store.runs(1) == [runs[0], RunRow(1, 6, 8), runs[3], RunRow(3, 5, 6)]


def test_what_is_absent_is_listed_by_id(store: Store):
    put(store, row(1), row(2), row(3, log=2))
    with store.transaction():
        store.change_absent(1, [(id_of(9), 1), (id_of(8), 2), (id_of(9), 2)], [])
        store.change_absent(2, [(id_of(9), 3)], [])
    assert store.absent(1, 10) == [(id_of(8), 2), (id_of(9), 1)]
    assert store.absent(1, 1) == [(id_of(8), 2)]
    write(store, lambda: store.change_absent(1, [(id_of(7), 1)], [id_of(8), id_of(5)]))
    assert store.absent(1, 10) == [(id_of(7), 1), (id_of(9), 1)]
    assert store.absent(2, 10) == [(id_of(9), 3)]


def test_what_is_left_for_later_is_kept_by_task(store: Store):
    with store.transaction():
        store.change_unsettled(1, Task.RANK, [(3, 30), (1, 10), (3, 20)], [])
        store.change_unsettled(1, Task.PLACE, [(7, 0)], [])
        store.change_unsettled(2, Task.RANK, [(9, 0)], [])
    assert store.unsettled(1, Task.RANK, 10) == [(1, 10), (3, 30)]
    assert store.unsettled(1, Task.RANK, 1) == [(1, 10)]
    write(store, lambda: store.change_unsettled(1, Task.RANK, [(3, 5)], [3, 1, 8]))
    assert store.unsettled(1, Task.RANK, 10) == [(3, 5)]
    assert store.unsettled(1, Task.PLACE, 10) == [(7, 0)]
    assert store.unsettled(1, Task.OPEN, 10) == []
    assert store.unsettled(2, Task.RANK, 10) == [(9, 0)]


# -- entries ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"signature": bytes(80), "rank": 2**53, "time_ms": 2**53 - 1, "week": 8191},
        {"body": None, "state": BodyState.NOT_FETCHED},
        {"body": b"\0\xff sealed", "state": BodyState.SEALED},
        {"body": b"not UTF-8: \xff\xfe"},
        {"body": b'{"text":"a\0b"}\0'},
        {"body": b""},
        {"mid": mid_of(5), "hidden": True, "edit": 7},
        {"kind": 255, "body": "äöü 😀".encode()},
        {"chain": 0, "kind": 0, "seq": 0},
        {"chain": 0, "outer": b"\x02" + OUTER[1:-1] + b"\1 of another version"},
        {"chain": 0, "outer": b"\xff" + OUTER[1:-1] + b"\1", "body": b"sealed", "state": BodyState.SEALED},
    ],
)
def test_an_entry_comes_back_as_it_was_put(store: Store, fields: dict[str, Any]):
    put(store, row(1, **fields))
    assert store.rows([1, 2]) == {1: row(1, **fields)}


def test_a_row_that_was_read_is_a_copy(store: Store):
    put(store, row(1))
    store.rows([1])[1].rank = 99
    assert store.rows([1]) == {1: row(1)}


def test_n_counts_over_all_logs(store: Store):
    assert store.next_n() == 1
    put(store, row(1), row(7, log=2))
    assert store.next_n() == 8


def test_logs_behind_a_number_are_those_with_later_entries(store: Store):
    put(store, row(1), row(2, log=2), row(3))
    assert store.logs_behind(0) == {1, 2}
    assert store.logs_behind(2) == {1}
    assert store.logs_behind(3) == set()


def test_find_looks_in_one_log(store: Store):
    # Ids that differ only after the bytes that an index holds.
    twin = EntryId(id_of(1)[:31] + b"\0")
    put(store, row(1), row(2, id=twin), row(3, log=2))
    assert store.find(1, [id_of(1), id_of(3), id_of(4)]) == {id_of(1): row(1)}
    assert store.find(1, {twin}) == {twin: row(2, id=twin)}
    assert store.find(2, [id_of(1)]) == {}
    assert store.find(1, []) == {}


def test_a_call_takes_more_than_a_statement_can(store: Store):
    many = 3 * limits.STORE_ROWS_MAX
    rows = [row(n) for n in range(1, many + 1)]
    references = [Reference(n, 1, mid_of(n % 256)) for n in range(1, many + 1)]
    put(store, *rows, parents=[(n, id_of(1)) for n in range(1, many + 1)], references=references)
    numbers = range(1, many + 1)
    assert len(store.rows(numbers)) == many
    assert len(store.find(1, [added.id for added in rows])) == many
    assert len(store.parents(numbers)) == len(store.references(numbers)) == many
    assert len(store.references_to(1, [mid_of(n) for n in range(256)])) == many


def test_at_finds_a_place_in_a_chain(store: Store):
    put(store, row(1, seq=0), row(2, seq=5), row(3, log=2, seq=5))
    assert store.at(1, 5) == row(2, seq=5)
    assert store.at(2, 5) == row(3, log=2, seq=5)
    assert store.at(1, 2) is None
    assert store.at(3, 0) is None


def test_places_are_rows_without_bytes(store: Store):
    twin = EntryId(id_of(1)[:31] + b"\0")
    rows = [
        row(1),
        row(2, id=twin, mid=mid_of(2)),
        row(3, kind=Kind.IMPORT),
        row(4, log=2),
        row(5, chain=0, seq=0, rank=0, kind=0),
    ]
    put(store, *rows)
    places = {found.id: place_of(found) for found in rows}
    assert [places[id_].retold for id_ in (id_of(1), twin, id_of(3))] == [False, True, True]
    of_one = {id_: place for id_, place in places.items() if id_ != id_of(4)}
    assert store.places(1, [*places, id_of(9)]) == of_one
    assert store.places(2, places) == {id_of(4): places[id_of(4)]}
    assert store.places(1, []) == {}
    assert store.places_at([(1, 1), (1, 2), (2, 4), (2, 1), (9, 9)]) == {
        (1, 1): places[id_of(1)],
        (1, 2): places[twin],
        (2, 4): places[id_of(4)],
    }


def test_a_row_is_put_in_the_place_of_another(store: Store):
    waiting = row(1, chain=0, kind=0, seq=0, time_ms=0, rank=0, body=b"sealed", state=BodyState.SEALED)
    put(store, waiting, row(2, body=None, state=BodyState.NOT_FETCHED))
    assert ns(store.scan_unopened(1, 0, 9)) == [1]
    with store.transaction():
        store.put_digest(1, Digest(1000, 2, 1, bytes(32), bytes(32)))
        read = [row(1, mid=mid_of(1)), row(2, body=b"{}", signature=bytes(80))]
        store.update(read, [(1, id_of(8))], [Reference(1, 1, mid_of(3))], [(1, "placed words")])
    assert store.rows([1, 2]) == {1: read[0], 2: read[1]}
    assert store.scan_unopened(1, 0, 9) == []
    assert store.at(1, 1) == read[0]
    assert store.by_mid(1, [mid_of(1)]) == {mid_of(1): [read[0]]}
    assert store.parents([1]) == {1: [id_of(8)]}
    assert store.references([1]) == {1: [mid_of(3)]}
    assert store.search('"placed"', 1, 9) == [1]
    assert store.stale_weeks(1) == [1000]
    with store.transaction():
        store.update([row(1, body=None, state=BodyState.NOT_FETCHED)], [(1, id_of(8))], [], [])
    assert store.rows([1]) == {1: row(1, body=None, state=BodyState.NOT_FETCHED)}
    assert store.parents([1]) == {1: [id_of(8)]}


def test_what_has_no_body_yet_is_listed_newest_first(store: Store):
    absent: dict[str, Any] = {"body": None, "state": BodyState.NOT_FETCHED}
    put(store, row(1, **absent), row(2), row(3, chain=0, **absent), row(4, log=2, **absent))
    assert store.unfetched(1, 9) == [id_of(3), id_of(1)]
    assert store.unfetched(1, 1) == [id_of(3)]
    assert store.unfetched(1, 9, frozenset({Kind.MESSAGE})) == []
    write(store, lambda: store.erase_body(3, None))
    assert store.unfetched(1, 9) == [id_of(1)]


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_arrivals_and_weeks_are_walked_in_their_orders(store: Store, limit: int):
    ids = {n: EntryId(bytes([255 - n]) * 32) for n in range(1, 30)}
    rows = [row(n, id=ids[n], log=1 + (n % 5 == 0), week=n % 3, chain=0, seq=0) for n in ids]
    put(store, *rows)
    wanted = [found for found in rows if found.log == 1]

    def walk(page: Callable[[Any], list[EntryRow]], key: Callable[[EntryRow], Any], first: Any) -> list[int]:
        found: list[int] = []
        last = first
        while got := page(last):
            assert len(got) <= limit
            found += ns(got)
            last = key(got[-1])
        return found

    assert walk(lambda n: store.arrivals(1, n, limit), lambda r: r.n, 0) == ns(wanted)
    of_week = [found for found in wanted if found.week == 1]
    assert walk(lambda n: store.week_arrivals(1, 1, n, limit), lambda r: r.n, 0) == ns(of_week)
    pages: list[list[tuple[int, EntryId, bool]]] = [[(0, EntryId(b""), True)]]
    while page := store.segment_page(1, 1, pages[-1][-1][0], limit):
        assert len(page) <= limit
        pages.append(page)
    assert [entry for page in pages[1:] for entry in page] == [(r.n, r.id, True) for r in of_week]


def test_no_more_rows_are_read_than_there_is_room_for(store: Store):
    put(store, *(row(n, week=5, body=bytes(100 * n), state=BodyState.SEALED) for n in range(1, 9)))
    size = len(store.rows([1])[1].outer)
    for room, count in ((0, 1), (1, 1), (size + 101, 2), (2 * size + 300, 2), (10**9, 8)):
        assert list(store.rows(range(1, 20), room=room)) == [*range(1, count + 1)]
        assert ns(store.arrivals(1, 0, 9, room=room)) == [*range(1, count + 1)]
        assert ns(store.week_arrivals(1, 5, 0, 9, room=room)) == [*range(1, count + 1)]
        assert ns(store.scan(1, -1, 9, room=room)) == [*range(1, count + 1)]
    assert ns(store.arrivals(1, 3, 2, room=10**9)) == [4, 5]


def test_rows_are_read_without_their_bodies_and_bodies_without_their_rows(store: Store):
    absent = row(3, body=None, state=BodyState.NOT_FETCHED)
    sealed = row(2, chain=0, kind=0, seq=0, time_ms=0, rank=0, body=b"\xffsealed", state=BodyState.SEALED)
    put(store, row(1, mid=mid_of(1), body=b'{"text":"x"}'), sealed, absent)
    light = row(1, mid=mid_of(1), body=None)
    assert store.rows([1, 3, 4], bodies=False) == {1: light, 3: absent}
    assert store.by_mid(1, [mid_of(1)], bodies=False) == {mid_of(1): [light]}
    assert store.bodies([1, 2, 3, 4]) == {1: b'{"text":"x"}', 2: b"\xffsealed"}
    assert store.rows([1])[1].body == b'{"text":"x"}'


def test_by_mid_finds_native_and_imported_entries(store: Store):
    native = MessageId(id_of(1)[:16])
    put(
        store,
        row(1),
        row(2, mid=native),
        row(3, mid=mid_of(3)),
        row(4, log=2, mid=native),
        row(5, id=EntryId(id_of(1)[:9] + bytes(23))),
    )
    assert {mid: ns(rows) for mid, rows in store.by_mid(1, [native, mid_of(3), mid_of(8)]).items()} == {
        native: [1, 2],
        mid_of(3): [3],
    }
    # An imported entry's own id does not name its message.
    assert store.by_mid(1, [MessageId(id_of(3)[:16])]) == {}
    assert ns(store.by_mid(2, {native})[native]) == [4]


def test_messages_that_agree_in_their_first_bytes_are_told_apart(store: Store):
    one, other = mid_of(*b"same 8 b", 1), mid_of(*b"same 8 b", 2)
    native = EntryId(b"same 8 b" + bytes(24))
    put(
        store,
        row(1, mid=one),
        row(2, mid=other),
        row(3, id=native),
        row(4, kind=Kind.EDIT),
        references=[Reference(4, 1, other), Reference(4, 1, MessageId(native[:16]))],
    )

    assert {mid: ns(rows) for mid, rows in store.by_mid(1, [one]).items()} == {one: [1]}
    assert {mid: ns(rows) for mid, rows in store.by_mid(1, [MessageId(native[:16])]).items()} == {
        MessageId(native[:16]): [3]
    }
    assert store.retold(1, [other, mid_of(*b"same 8 b", 3)]) == {other}
    assert store.said_once(1, [one, MessageId(native[:16])]) == {one, MessageId(native[:16])}
    assert store.references_to(1, [other]) == [Reference(4, 1, other)]
    assert store.references_to(1, [one]) == []
    assert store.changers(1, [one, other], frozenset({Kind.EDIT})) == {other: {1}}


@pytest.mark.parametrize(
    ("log", "prefix", "mask", "found"),
    [
        (None, "01", 0xFF, [1]),
        (None, "10", 0xF0, [16, 17, 30]),
        (None, "1f", 0xF0, [16, 17, 30]),
        (1, "10", 0xF0, [16, 30]),
        (2, "10", 0xF0, [17]),
        (None, "12", 0xFF, [30]),
        (None, "1299999999999999", 0xFF, [30]),
        (None, "12" + 15 * "99", 0xFF, [30]),
        (None, "12" + 16 * "99", 0xFF, []),
        (None, "01" + 31 * "77", 0xFF, [1]),
        (None, "01" + 31 * "77", 0xF0, [1]),
        (None, "01" + 32 * "77", 0xFF, []),
        (None, "0178", 0xFF, []),
        (None, "ff", 0xFF, [255]),
        (None, "ff80", 0xF0, []),
    ],
)
def test_by_prefix_finds_ids_and_mids(
    store: Store, log: int | None, prefix: str, mask: int, found: list[int]
):
    put(store, row(1), row(16), row(17, log=2), row(30, mid=mid_of(0x12)), row(255))
    assert ns(store.by_prefix(log, bytes.fromhex(prefix), mask, 10)) == found


def test_by_prefix_is_bounded_and_counts_only_its_log(store: Store):
    rows = [row(n, id=EntryId(b"ab" + bytes([n]) * 30), log=1 + n // 21) for n in range(1, 25)]
    put(store, *rows)
    assert ns(store.by_prefix(None, b"ab", 0xFF, 5)) == [1, 2, 3, 4, 5]
    assert ns(store.by_prefix(2, b"ab", 0xFF, 5)) == [21, 22, 23, 24]


def test_children_are_those_that_name_a_parent(store: Store):
    put(store, row(1), row(2), row(3), row(4, log=2), parents=[(2, id_of(1)), (3, id_of(1)), (4, id_of(1))])
    found = store.children(1, [id_of(1), id_of(2)])
    assert found.keys() == {id_of(1)}
    assert sorted(found[id_of(1)], key=lambda place: place.n) == [place_of(row(2)), place_of(row(3))]
    assert sum(map(len, store.children(1, [id_of(1), id_of(2)], 1).values())) == 1
    assert store.children(1, [id_of(1), id_of(2)], 2) == found
    assert [place.n for place in store.children_behind(1, id_of(1), 0, 9)] == [2, 3]
    assert [place.n for place in store.children_behind(1, id_of(1), 0, 1)] == [2]
    assert store.children_behind(1, id_of(1), 2, 9) == [place_of(row(3))]
    assert store.children_behind(1, id_of(2), 0, 9) == []


def test_what_says_and_changes_a_message_is_walked_by_number(store: Store):
    mid = MessageId(id_of(3)[:16])
    put(
        store,
        *(row(n, mid=mid, body=bytes(10 * n), state=BodyState.SEALED) for n in (1, 2, 5)),
        row(3),
        row(4, log=2, mid=mid),
        *(row(n, kind=Kind.EDIT, body=b"{}") for n in (6, 7)),
        row(8, kind=Kind.REACTION),
        row(9, kind=Kind.EDIT, log=2),
        references=[Reference(n, 1 + (n == 9), mid) for n in range(6, 10)],
    )

    def walk(page: Callable[[int], list[EntryRow]]) -> list[EntryRow]:
        found: list[EntryRow] = []
        while got := page(found[-1].n if found else 0):
            found += got
        return found

    edits = frozenset({Kind.EDIT})
    for limit in (1, 2, 9):
        assert walk(lambda n, limit=limit: store.said_behind(1, mid, n, limit)) == store.by_mid(1, [mid])[mid]
        changes = walk(lambda n, limit=limit: store.changes_behind(1, mid, edits, n, limit))
        assert [(change.n, change.body) for change in changes] == [(6, None), (7, None)]
    assert ns(walk(lambda n: store.said_behind(1, mid, n, 9, room=0))) == [1, 2, 3, 5]
    assert store.said_behind(1, mid_of(77), 0, 9) == []


def test_messages_that_many_say_or_name_are_a_crowd(store: Store):
    put(store, *(row(n, mid=mid_of(n // 8)) for n in range(1, 40)))
    put(
        store,
        *(row(n) for n in range(40, 60)),
        references=[Reference(n, 1, mid_of(90)) for n in range(40, 60)],
    )
    mids = [mid_of(n) for n in (0, 1, 2, 90, 91)]
    # Of these 23 say one, and 20 name one.
    assert store.crowded(mids, 24) == set()
    assert store.crowded(mids, 23) == {mid_of(0), mid_of(1), mid_of(2)}
    assert store.crowded(mids[3:], 21) == set()
    assert store.crowded(mids[3:], 20) == {mid_of(90)}
    assert store.crowded([], 1) == set()
    # One by one they are few; beyond so many in all each is a crowd.
    each = [mid_of(n) for n in range(100, 130)]
    put(store, *(row(n, mid=mid_of(100 + n % 30)) for n in range(100, 160)))
    assert len(store.crowded(each, 40)) == 10


def test_parents_and_references_are_found_by_number(store: Store):
    put(
        store,
        row(1),
        row(2),
        row(3, log=2, kind=Kind.EDIT),
        parents=[(1, id_of(8)), (1, id_of(9)), (2, id_of(9))],
        references=[
            Reference(1, 1, mid_of(1)),
            Reference(1, 1, mid_of(2)),
            Reference(1, 1, mid_of(1)),
            Reference(3, 2, mid_of(1)),
        ],
    )
    assert {n: sorted(found) for n, found in store.parents([1, 2, 3]).items()} == {
        1: [id_of(8), id_of(9)],
        2: [id_of(9)],
    }
    assert {n: sorted(found) for n, found in store.references([1, 2, 3]).items()} == {
        1: [mid_of(1), mid_of(2)],
        3: [mid_of(1)],
    }
    assert sorted(r.n for r in store.references_to(None, [mid_of(1), mid_of(9)])) == [1, 3]
    assert store.references_to(1, {mid_of(1)}) == [Reference(1, 1, mid_of(1))]
    assert store.references_to(None, [mid_of(1)], frozenset({Kind.EDIT})) == [Reference(3, 2, mid_of(1))]
    assert store.references_to(None, []) == []


def test_what_one_entry_says_is_told_from_what_several_say(store: Store):
    native = MessageId(id_of(1)[:16])
    put(store, row(1), row(2, mid=mid_of(2)), row(3, mid=mid_of(3)), row(4, mid=mid_of(3)), row(5))
    put(store, row(6, mid=MessageId(id_of(5)[:16])), row(7, log=2, mid=mid_of(2)))
    asked = [native, mid_of(2), mid_of(3), MessageId(id_of(5)[:16]), mid_of(9)]
    assert store.said_once(1, asked) == {native, mid_of(2)}
    assert store.said_once(2, asked) == {mid_of(2)}
    assert store.retold(1, set(asked)) == {mid_of(2), mid_of(3), MessageId(id_of(5)[:16])}
    assert store.retold(2, [native]) == set()


def test_changers_are_the_chains_that_name_a_message(store: Store):
    kinds = {1: Kind.EDIT, 2: Kind.ERASURE, 3: Kind.ERASURE, 4: Kind.REACTION, 5: Kind.ERASURE}
    put(
        store,
        *(row(n, kind=kind, log=1 + (n == 5), chain=n, seq=0) for n, kind in kinds.items()),
        references=[Reference(n, 1 + (n == 5), mid_of(1)) for n in kinds],
    )
    both = frozenset({int(Kind.EDIT), int(Kind.ERASURE)})
    assert store.changers(1, [mid_of(1), mid_of(2)], both) == {mid_of(1): {1, 2, 3}}
    assert store.changers(1, {mid_of(1)}, frozenset({int(Kind.EDIT)})) == {mid_of(1): {1}}
    assert store.changers(2, [mid_of(1)], both) == {mid_of(1): {5}}
    assert store.changers(1, [mid_of(2)], both) == {}


def test_rank_hidden_and_edit_are_set(store: Store):
    put(store, row(1), row(2))
    with store.transaction():
        store.set_ranks([(1, 77)])
        store.set_hidden(1, True)
        store.set_edit(1, 2)
    assert store.rows([1, 2]) == {1: row(1, rank=77, hidden=True, edit=2), 2: row(2)}
    with store.transaction():
        store.set_hidden(1, False)
        store.set_edit(1, 0)
    assert store.rows([1]) == {1: row(1, rank=77)}


def test_an_erased_body_takes_its_words_with_it_and_not_what_it_was_about(store: Store):
    put(
        store,
        row(1),
        row(2),
        references=[Reference(1, 1, mid_of(9)), Reference(2, 1, mid_of(1))],
        words=[(1, "secret words"), (2, "other words")],
    )
    with store.transaction():
        store.put_digest(1, Digest(1000, 2, 2, bytes(32), bytes(32)))
    assert store.stale_weeks(1) == []
    with store.transaction():
        store.erase_body(1, "secret words")
    assert store.rows([1]) == {1: row(1, body=None, state=BodyState.ERASED)}
    assert store.references([1, 2]) == {1: [mid_of(9)], 2: [mid_of(1)]}
    assert store.search('"secret"', None, 10) == []
    assert store.search('"words"', None, 10) == [2]
    assert store.stale_weeks(1) == [1000]


def test_a_body_without_words_is_erased(store: Store):
    put(store, row(1, body=None, state=BodyState.NOT_FETCHED), row(2), words=[(2, "kept")])
    with store.transaction():
        store.erase_body(1, None)
    assert store.rows([1])[1].state == BodyState.ERASED
    assert store.search('"kept"', None, 10) == [2]


# -- pages -----------------------------------------------------------------------------------

ASKED: dict[str, tuple[dict[str, Any], list[int]]] = {
    "all": ({}, [1, 2, 3, 4]),
    "newest first": ({"newest_first": True}, [4, 3, 2, 1]),
    "the first": ({"limit": 2}, [1, 2]),
    "the last": ({"limit": 2, "newest_first": True}, [4, 3]),
    "none": ({"limit": 0}, []),
    "since": ({"since_ms": 3000}, [3, 4]),
    "until": ({"until_ms": 3000}, [1, 2]),
    "hidden too": ({"hidden": True}, [1, 2, 3, 4, 5]),
    "any kind": ({"kinds": frozenset[int]()}, [7, 1, 2, 3, 6, 4]),
    "control": ({"kinds": frozenset({int(Kind.TITLE)})}, [7]),
    "two kinds": ({"kinds": frozenset({int(Kind.TITLE), int(Kind.EDIT)})}, [7, 6]),
    "other log": ({"log": 2}, [8]),
    "after": ({"after": Position(20, id_of(2))}, [3, 4]),
    "before": ({"before": Position(20, id_of(3))}, [1, 2]),
    "between": ({"after": Position(10, id_of(1)), "before": Position(40, id_of(4))}, [2, 3]),
}


@pytest.mark.parametrize("name", ASKED)
def test_timeline_gives_what_is_asked_for(store: Store, name: str):
    asked, found = ASKED[name]
    put(
        store,
        row(4),
        row(3, rank=20),
        row(1),
        row(2),
        row(5, hidden=True),
        row(6, kind=Kind.EDIT, rank=30),
        row(7, kind=Kind.TITLE, rank=0),
        row(8, log=2),
        row(11, chain=0, kind=0, rank=0),
        # Kinds that a later version may know: kept, not read.
        row(9, kind=31, hidden=True),
    )
    if "kinds" not in asked and not asked.get("hidden"):
        put(store, row(10, kind=31))
    elif name == "hidden too":
        put(store, row(10, kind=24))
    fields: dict[str, Any] = {"log": 1, "limit": 100, **asked}
    assert ns(store.timeline(TimelineQuery(**fields))) == found


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_miss_nothing_among_equal_ranks(store: Store, limit: int, newest_first: bool):
    rows = [row(n, rank=n // 4) for n in range(1, 20)]
    put(store, *rows)
    found: list[int] = []
    last: Position | None = None
    while True:
        query = TimelineQuery(
            log=1,
            limit=limit,
            newest_first=newest_first,
            before=last if newest_first else None,
            after=None if newest_first else last,
        )
        page = store.timeline(query)
        if not page:
            break
        found += ns(page)
        last = page[-1].position
    assert found == ns(sorted(rows, key=lambda r: r.position, reverse=newest_first))


def test_scan_walks_a_chain(store: Store):
    put(store, row(3), row(1), row(2), row(4, log=2), row(5, seq=9))
    assert ns(store.scan(1, -1, 2)) == [1, 2]
    assert ns(store.scan(1, 2, 10)) == [3, 5]
    assert store.scan(1, 9, 10) == []


def test_places_of_kinds_gives_what_is_read_of_a_log(store: Store):
    put(store, row(1, kind=Kind.KEY), row(2), row(3, kind=Kind.ADMIT), row(4, log=2, kind=Kind.KEY))
    put(store, row(5, chain=0, kind=Kind.KEY))
    found = store.places_of_kinds(1, frozenset({Kind.KEY, Kind.ADMIT}))
    assert sorted(found, key=lambda place: place.n) == [place_of(store.rows([n])[n]) for n in (1, 3)]


def test_what_a_window_carries_along_is_found_a_page_at_a_time(store: Store):
    kinds = dict(enumerate(sorted(Kind), 1))
    put(store, *(row(n, kind=kind, week=5) for n, kind in kinds.items()))
    for reaching, week in ((3, 6), (4, 5)):
        write(store, lambda n=reaching, w=week: store.put_chain(chain(n, log=1, seq=9, week=w)))
    put(
        store,
        row(40, seq=0, chain=3, week=5),
        row(44, seq=0, chain=4, week=5),
        row(41, kind=Kind.KEY, chain=0, week=5),
    )
    put(store, row(42, kind=Kind.KEY, week=6), row(43, kind=Kind.KEY, log=2, week=5))
    expected = [n for n, kind in kinds.items() if kind in CARRIED] + [40]
    assert [n for n, _ in store.carried(1, 6, 0, 100)] == expected
    assert store.carried(1, 6, 0, 2) == [(n, store.rows([n])[n].id) for n in expected[:2]]
    assert [n for n, _ in store.carried(1, 6, expected[1], 100)] == expected[2:]
    assert store.carried(1, 5, 0, 100) == []


@pytest.mark.parametrize("kind", [Kind.IMPORT, Kind.EDIT])
def test_chain_kind_gives_the_last_ones_of_a_kind(store: Store, kind: Kind):
    put(store, row(2, kind=kind), row(1, kind=kind), row(3), row(4, log=2, kind=kind))
    assert ns(store.chain_kind(1, kind)) == [1, 2]
    put(store, *(row(n, kind=kind) for n in range(5, 1006)))
    assert ns(store.chain_kind(1, kind)) == list(range(6, 1006))


def test_scan_unopened_walks_what_is_not_read(store: Store):
    put(store, row(1), row(2, chain=0), row(3, chain=0), row(4, chain=0, log=2))
    assert ns(store.scan_unopened(1, 0, 10)) == [2, 3]
    assert ns(store.scan_unopened(1, 2, 10)) == [3]
    assert ns(store.scan_unopened(1, 0, 1)) == [2]


def test_count_leaves_out_what_is_hidden(store: Store):
    put(store, row(1), row(2, hidden=True), row(3, kind=Kind.EDIT), row(4, log=2))
    assert store.count(1, frozenset(SPOKEN)) == 1
    assert store.count(1, frozenset({Kind.EDIT, Kind.MESSAGE})) == 2
    assert store.count(1, frozenset()) == 0


def test_search_gives_the_newest_arrivals(store: Store):
    put(
        store,
        row(1),
        row(2),
        row(3, log=2),
        row(4),
        words=[(1, "ten green bottles"), (2, "green ten"), (3, "ten green"), (4, "nothing")],
    )
    assert store.search('"ten"', None, 10) == [3, 2, 1]
    assert store.search('"ten"', 1, 10) == [2, 1]
    assert store.search('"ten"', None, 2) == [3, 2]
    assert store.search('"ten green"', None, 10) == [3, 1]
    assert store.search('"green" "bottles"', None, 10) == [1]
    assert store.search('"bott"*', None, 10) == [1]
    assert store.search('"absent"', None, 10) == []


def test_opened_gives_kept_bodies_by_number(store: Store):
    put(
        store,
        row(3, kind=Kind.EDIT),
        row(1),
        row(2, log=2),
        row(4, kind=Kind.TITLE),
        row(5, body=None, state=BodyState.NOT_FETCHED),
        row(6, body=b"sealed", state=BodyState.SEALED),
        row(7),
        row(8, body=None),
    )
    write(store, lambda: store.erase_body(7, None))
    kinds = frozenset({int(Kind.MESSAGE), int(Kind.EDIT)})
    found: list[tuple[int, int, bytes | None]] = [
        (n, kind, b'{"text":"said %d"}' % n) for n, kind in ((1, 16), (2, 16), (3, Kind.EDIT))
    ]
    found.append((8, 16, None))
    assert store.opened(kinds, 0, 10) == found
    assert store.opened(kinds, 0, 2) == found[:2]
    assert store.opened(kinds, 2, 2) == found[2:]


def test_the_search_index_is_compared_with_words(store: Store):
    put(store, row(1), row(2), words=[(1, "ten green bottles"), (2, "other words")])
    for thorough in (False, True):
        assert store.holds_words([(1, "ten green bottles"), (2, "other words")], thorough=thorough)
        assert store.holds_words([(1, "ten green bottles"), (2, None), (3, None)], thorough=thorough)
        assert not store.holds_words([(1, "ten green bottles")], thorough=thorough)
        assert not store.holds_words([(1, "ten green bottles"), (2, "others")], thorough=thorough)
        assert not store.holds_words([(1, "ten green bottles"), (2, "other words"), (3, "x")])


def test_a_search_index_is_made_anew_of_other_words(store: Store):
    put(store, row(1), row(2), words=[(1, "ten green"), (2, "green")])
    assert not store.words_distrusted()
    write(store, store.distrust_words)
    assert store.words_distrusted()
    many = 2 * limits.STORE_ROWS_MAX
    put(store, *(row(n) for n in range(3, many)))
    words = [(2, "red"), *((n, f"number x{n}") for n in range(3, many))]
    write(store, lambda: store.replace_words(iter(words)))
    assert not store.words_distrusted()
    assert store.search('"ten"', None, 10) == store.search('"green"', None, 10) == []
    assert store.search('"red"', None, 10) == [2]
    assert store.search(f'"x{many - 1}"', None, 10) == [many - 1]
    assert store.holds_words(iter(words))


def test_a_failed_transaction_leaves_the_search_index(store: Store):
    put(store, row(1), words=[(1, "before")])

    def fail() -> None:
        store.distrust_words()
        store.replace_words([(1, "after")])
        store.distrust_words()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(store, fail)
    assert not store.words_distrusted()
    assert store.search('"before"', None, 10) == [1]
    assert store.search('"after"', None, 10) == []


# -- segments and gaps -----------------------------------------------------------------------


def gap(id_: EntryId, part: str = "body", **fields: Any) -> GapRow:
    made = GapRow(1, id_, part, Reason.CORRUPT, 1, 0, 0, 5, "says what")
    return msgspec.structs.replace(made, **fields)


def test_segments_are_the_weeks_of_a_log(store: Store):
    put(
        store,
        row(2, week=5),
        row(1, week=5, body=None, state=BodyState.NOT_FETCHED),
        row(3, week=6, chain=0),
        row(4, week=5, log=2),
        row(5, week=5, body=b"sealed", state=BodyState.SEALED),
        row(6, week=5, body=b"sealed", state=BodyState.CLOSED),
        row(7, week=5, body=None, state=BodyState.EXPIRED),
    )
    held = [(id_of(n), True) for n in (2, 5, 6, 7)]
    assert list(store.segment(1, 5)) == [(id_of(1), False), *held]
    assert list(store.segment(1, 6)) == [(id_of(3), True)]
    assert list(store.segment(1, 7)) == []
    assert store.stale_weeks(1) == [5, 6]
    assert store.stale_weeks(2) == [5]


def test_the_ids_of_a_segment_are_those_that_its_digest_has(store: Store):
    put(store, row(2, week=5), row(1, week=5, body=None, state=BodyState.NOT_FETCHED), row(3, week=6))
    put(store, row(4, week=5, log=2))

    def ids(week: int) -> list[bytes]:
        page = store.segment_page(1, week, 0, 9)
        assert sorted((id_, held) for _, id_, held in page) == list(store.segment(1, week))
        return sorted(id_ for _, id_, _ in page)

    assert (ids(5), ids(6), ids(7)) == ([id_of(1), id_of(2)], [id_of(3)], [])
    with store.transaction():
        store.replace_gaps(1, [gap(id_of(1), "entry"), gap(id_of(2))])
    assert (ids(5), ids(6)) == ([id_of(2)], [id_of(3)])


def test_a_segment_has_another_stamp_after_each_change_that_its_digest_shows(store: Store):
    stamps: list[tuple[int, int]] = []

    def changed(week: int = 5) -> bool:
        stamps.append(store.segment_stamp(1, week))
        return stamps[-1] not in stamps[:-1]

    put(store, row(1, week=5), row(2, week=5), row(3, week=6))
    assert changed()
    assert not changed()
    put(store, row(4, week=6), row(5, week=5, log=2))
    assert not changed()
    put(store, row(6, week=5))
    assert changed()
    with store.transaction():
        store.erase_body(1, None)
    assert changed()
    with store.transaction():
        store.change_gaps(1, [gap(id_of(2))], ())
    assert changed()
    with store.transaction():
        store.replace_gaps(1, [])
    assert changed()
    with store.transaction():
        store.remove([store.rows([2])[2]], ())
    assert changed()
    with store.transaction():
        store.put_digest(1, Digest(5, 2, 2, bytes(32), bytes(32)))
    assert not changed()


def test_closed_bodies_are_counted_and_found_by_log_in_the_order_of_arrival(store: Store):
    put(store, *(row(n, body=b"sealed", state=BodyState.CLOSED) for n in (1, 3, 4)), row(2))
    put(store, row(5, log=2, body=b"sealed", state=BodyState.CLOSED))
    assert [r.n for r in store.scan_closed(1, 0, 2)] == [1, 3]
    assert [r.n for r in store.scan_closed(1, 3, 9)] == [4]
    assert (store.count_closed(1), store.count_closed(2), store.count_closed(3)) == (3, 1, 0)
    opened = store.rows([3])[3]
    opened.body, opened.state = b"{}", BodyState.OPENED
    with store.transaction():
        store.update([opened], (), (), ())
    assert [r.n for r in store.scan_closed(1, 0, 9)] == [1, 4]


def test_an_epoch_that_is_removed_is_gone_and_others_stay(store: Store):
    rows = [EpochRow(1, 1, b"outline"), EpochRow(1, 1, b"secret"), EpochRow(1, 2, b"outline")]
    before = store.epochs(1)
    with store.transaction():
        for added in rows:
            store.add_epoch(added)
        store.remove_epoch(rows[0])
    assert store.epochs(1) == sorted([*before, *rows[1:]], key=lambda r: (r.number, r.secret))


def test_a_digest_is_fresh_until_its_week_changes(store: Store):
    put(store, row(1, week=5), row(2, week=6))
    digests = [Digest(6, 1, 1, b"e" * 32, b"b" * 32), Digest(5, 1, 0, b"\0" * 32, b"b" * 32)]
    with store.transaction():
        for digest in digests:
            store.put_digest(1, digest)
    assert store.stale_weeks(1) == []
    assert store.digests(1) == digests[::-1]
    assert store.digests(2) == []
    put(store, row(3, week=6))
    assert store.stale_weeks(1) == [6]


def test_first_seqs_are_the_lowest_of_each_chain_in_the_weeks_that_count(store: Store):
    put(store, row(1, week=5, seq=0), row(2, week=7, seq=1), row(3, week=6, seq=2), row(4, week=4, seq=3))
    put(store, row(5, week=9, chain=2, log=2, seq=0), row(6, week=9, chain=0, seq=0))
    with store.transaction():
        store.put_chain(chain(3, log=1, incarnation=Incarnation(bytes([3] * 8))))
    put(store, row(7, week=8, chain=3, seq=4), row(8, week=8, chain=3, seq=3))
    assert store.first_seqs(1, 0) == {1: 0, 3: 3}
    assert store.first_seqs(1, 6) == {1: 1, 3: 3}
    assert store.first_seqs(1, 7) == {1: 1, 3: 3}
    assert store.first_seqs(1, 8) == {3: 3}
    assert store.first_seqs(1, 9) == {}
    assert store.first_seqs(2, 9) == {2: 0}


def test_a_gap_leaves_the_digests(store: Store):
    put(store, row(1, week=5), row(2, week=5), row(3, week=6), row(4, log=2, week=7))
    with store.transaction():
        store.put_digest(1, Digest(5, 2, 2, bytes(32), bytes(32)))
        store.put_digest(1, Digest(6, 1, 1, bytes(32), bytes(32)))
        store.replace_gaps(1, [gap(id_of(1), "entry"), gap(id_of(2)), gap(EntryId(b""), "entry", seq=9)])
    assert list(store.segment(1, 5)) == [(id_of(2), False)]
    assert store.stale_weeks(1) == [5]
    with store.transaction():
        store.put_digest(1, Digest(5, 1, 0, bytes(32), bytes(32)))
        store.replace_gaps(1, [])
    assert list(store.segment(1, 5)) == [(id_of(1), True), (id_of(2), True)]
    assert store.stale_weeks(1) == [5]


def test_gaps_are_listed_by_log_and_time(store: Store):
    of_one = [gap(id_of(1), time_ms=9), gap(id_of(2), time_ms=3, seq=2), gap(id_of(3), time_ms=3, seq=1)]
    other = gap(id_of(4), log=2, reason=Reason.LOST, detail="ünï\0code")
    with store.transaction():
        store.replace_gaps(1, of_one)
        store.replace_gaps(2, [other])
    assert store.gaps(1) == of_one[::-1]
    assert store.gaps(None) == [*of_one[::-1], other]
    with store.transaction():
        store.replace_gaps(1, [])
    assert store.gaps(None) == [other]


def test_single_gaps_come_and_go(store: Store):
    put(store, row(1, week=5), row(2, week=6), row(3, week=7))
    lost = gap(EntryId(b""), "entry", seq=9)
    with store.transaction():
        store.replace_gaps(1, [gap(id_of(1)), gap(id_of(1), "signature"), lost])
        store.replace_gaps(2, [gap(id_of(9), log=2)])
        for week in (5, 6, 7):
            store.put_digest(1, Digest(week, 1, 1, bytes(32), bytes(32)))
    assert store.find_gaps(1, [id_of(1), id_of(9)]) == [gap(id_of(1)), gap(id_of(1), "signature")]
    assert store.find_gaps(1, [b""]) == [lost]
    with store.transaction():
        store.change_gaps(1, [gap(id_of(2), seq=3)], [(id_of(1), "body", 1, 0), (b"", "entry", 1, 9)])
    assert store.gaps(1) == [gap(id_of(1), "signature"), gap(id_of(2), seq=3)]
    assert store.stale_weeks(1) == [5, 6]
    assert store.gaps(2) == [gap(id_of(9), log=2)]


def test_the_list_of_gaps_is_bounded(store: Store):
    many = [gap(id_of(1), seq=n) for n in range(limits.GAPS_MAX - 1)]
    with store.transaction():
        store.replace_gaps(1, many)
        store.change_gaps(1, [gap(id_of(2), seq=n) for n in range(5)], [])
    assert len(store.gaps(1)) == limits.GAPS_MAX


# -- peers -----------------------------------------------------------------------------------

DEVICES = [DeviceId(bytes([n]) * 32) for n in range(1, 4)]


def test_peers_are_kept_in_the_order_in_which_they_were_added(store: Store):
    def peer(device: DeviceId, added_ms: int, **fields: Any) -> PeerRow:
        made = PeerRow(device=device, name="n", noise=b"x" * 32, hpke=b"\0\xff", own=False, added_ms=added_ms)
        return msgspec.structs.replace(made, **fields)

    first = peer(DEVICES[2], 5, own=True, name="Ünï", addresses=("a.example:1", "[::1]:2"), seen_ms=9)
    second, third = peer(DEVICES[0], 7), peer(DEVICES[1], 7)
    with store.transaction():
        for row_ in (third, second, peer(DEVICES[2], 5)):
            store.put_peer(row_)
        store.put_peer(first)
    assert store.peers() == [first, second, third]
    write(store, lambda: store.remove_peer(DEVICES[0]))
    write(store, lambda: store.remove_peer(DEVICES[0]))
    assert store.peers() == [first, third]


def test_what_was_seen_of_copies_is_kept_for_each_log_and_peer(store: Store):
    rows = [
        SyncRow(log=1, device=DEVICES[0], state=SyncState.EQUAL, equal_ms=4, equal_root=bytes(32)),
        SyncRow(log=1, device=DEVICES[1], state=SyncState.DIFFERING, detail="why", time_ms=3),
        SyncRow(log=2, device=DEVICES[0], state=SyncState.BEHIND, here_lacks=1, there_lacks=2),
    ]
    with store.transaction():
        store.put_sync(msgspec.structs.replace(rows[1], detail="before"))
        for row_ in rows[::-1]:
            store.put_sync(row_)
    assert store.syncs(1) == rows[:2]
    assert store.syncs() == rows


def test_the_newest_receipt_of_each_holder_is_kept(store: Store):
    def receipt(log: int, device: DeviceId, time_ms: int) -> ReceiptRow:
        return ReceiptRow(
            log=log,
            device=device,
            first_week=7,
            entries=2,
            bodies=1,
            entries_root=b"e" * 32,
            bodies_root=b"b" * 32,
            time_ms=time_ms,
            expires_ms=2**53 - 1,
            proof=b"\0 proof",
        )

    with store.transaction():
        for n, (log, device) in enumerate([(2, 0), (1, 1), (1, 0), (1, 0)]):
            store.put_receipt(receipt(log, DEVICES[device], n))
    assert store.receipts(1) == [receipt(1, DEVICES[0], 3), receipt(1, DEVICES[1], 1)]
    assert store.receipts() == [*store.receipts(1), receipt(2, DEVICES[0], 0)]


def test_what_was_heard_of_is_kept_for_each_chain_and_holder(store: Store):
    def heard(log: int, device: int, seq: int, by: int) -> HeardRow:
        incarnation = Incarnation(bytes(8))
        return HeardRow(
            log=log, device=DEVICES[device], incarnation=incarnation, seq=seq, by=DEVICES[by], time_ms=5
        )

    with store.transaction():
        for row_ in (
            heard(1, 1, 5, 0),
            heard(1, 0, 1, 0),
            heard(1, 1, 4, 1),
            heard(1, 1, 9, 0),
            heard(2, 0, 3, 0),
        ):
            store.put_heard(row_)
    assert store.heard(1) == [heard(1, 0, 1, 0), heard(1, 1, 9, 0), heard(1, 1, 4, 1)]
    assert store.heard(2) == [heard(2, 0, 3, 0)]


def test_an_older_receipt_stays_while_it_reaches_back_further(store: Store):
    def receipt(first_week: int, time_ms: int, device: int = 0) -> ReceiptRow:
        return ReceiptRow(
            log=1,
            device=DEVICES[device],
            first_week=first_week,
            entries=2,
            bodies=1,
            entries_root=b"e" * 32,
            bodies_root=b"b" * 32,
            time_ms=time_ms,
            expires_ms=9,
            proof=b"p",
        )

    with store.transaction():
        for week, time in ((3, 1), (3, 2), (5, 3), (7, 4)):
            store.put_receipt(receipt(week, time))
        store.put_receipt(receipt(9, 5, 1))
    assert store.receipts(1) == [receipt(7, 4), receipt(9, 5, 1)]
    assert store.old_receipts(1) == [receipt(5, 3), receipt(3, 2)]
    write(store, lambda: store.put_receipt(receipt(4, 6)))
    assert store.receipts(1)[0] == receipt(4, 6)
    assert store.old_receipts(1) == [receipt(3, 2)]
    write(store, lambda: store.put_receipt(receipt(0, 7)))
    assert store.old_receipts(1) == []


def test_pruned_parents_are_apart_from_absent_ones_until_they_are_wanted_again(store: Store):
    put(store, row(1))
    with store.transaction():
        store.change_absent(1, [(id_of(8), 1), (id_of(7), 1)], ())
        store.add_pruned_parents(1, [(id_of(8), 1), (id_of(9), 1)])
    assert [id_ for id_, _ in store.absent(1, 9)] == [id_of(7)]
    assert store.pruned_parents(1, 9) == sorted([(id_of(8), 1), (id_of(9), 1)])
    write(store, lambda: store.change_absent(1, [(id_of(8), 1)], [id_of(9)]))
    assert store.pruned_parents(1, 9) == [(id_of(8), 1)]
    write(store, lambda: store.remove_pruned(1, 0))
    assert store.pruned_parents(1, 9) == []
    assert len(store.absent(1, 9)) == 2


def test_what_is_removed_leaves_nothing(store: Store):
    put(
        store,
        row(1),
        row(2),
        parents=[(2, id_of(8))],
        references=[Reference(2, 1, mid_of(5))],
        words=[(2, "green bottles")],
    )
    write(store, lambda: store.put_digest(1, Digest(row(2).week, 2, 2, b"e" * 32, b"b" * 32)))
    before = store.rows([1])
    write(store, lambda: store.remove([store.rows([2])[2]], [(2, "green bottles")]))
    assert store.rows([1, 2]) == before
    assert store.find(1, [id_of(2)]) == {}
    assert store.at(1, 2) is None
    assert store.children(1, [id_of(8)]) == {}
    assert store.references_to(1, [mid_of(5)]) == []
    assert store.search('"green"', 1, 9) == []
    assert store.arrivals(1, 0, 9) == [before[1]]
    assert store.stale_weeks(1) == [row(2).week]
    assert store.holds_words([])


def test_pruned_weeks_are_forgotten_from_a_week_on(store: Store):
    def pruned(log: int, week: int) -> PrunedRow:
        return PrunedRow(
            log=log, week=week, entries=1, bodies=0, entries_hash=b"e", bodies_hash=b"b", time_ms=1
        )

    with store.transaction():
        for log, week in ((1, 9), (1, 2), (1, 5), (2, 9)):
            store.put_pruned(pruned(log, week))
    assert store.pruned(1) == [pruned(1, 2), pruned(1, 5), pruned(1, 9)]
    write(store, lambda: store.remove_pruned(1, 5))
    assert store.pruned(1) == [pruned(1, 2)]
    assert store.pruned(2) == [pruned(2, 9)]


def test_a_failed_transaction_leaves_all_tables_as_they_were(store: Store):
    put(store, row(1, body=None, state=BodyState.NOT_FETCHED), parents=[(1, id_of(8))])

    def state() -> list[object]:
        return [
            store.chains(1),
            store.runs(1),
            store.forks(1),
            store.absent(1, 9),
            store.unsettled(1, Task.RANK, 9),
            store.gaps(1),
            store.peers(),
            store.pruned(1),
            store.unfetched(1, 9),
            store.scan_unopened(1, 0, 9),
            store.arrivals(1, 0, 9),
            store.children(1, [id_of(8)]),
            store.next_n(),
            store.devices(),
            store.epochs(1),
            store.logs(),
        ]

    def fail() -> None:
        store.put_chain(chain(7, log=1, device=DEVICES[0]))
        store.put_run(RunRow(1, 0, 4))
        store.put_fork(ForkRow(1, DEVICES[0], Incarnation(bytes(8)), 1, id_of(1), id_of(2)))
        store.change_absent(1, [(id_of(8), 1)], [])
        store.change_unsettled(1, Task.RANK, [(1, 1)], [])
        store.change_gaps(1, [gap(id_of(1))], [])
        store.put_pruned(
            PrunedRow(log=1, week=1, entries=1, bodies=0, entries_hash=b"e", bodies_hash=b"b", time_ms=1)
        )
        store.update([row(1)], [(1, id_of(7))], [], [])
        store.insert([row(2, chain=0, seq=0)], [(2, id_of(8))], [], [])
        store.put_device(DeviceRow(DEVICES[0], "d", "p"))
        store.add_epoch(EpochRow(1, 1, b"s"))
        store.set_window(1, 3, fetch_bodies=False)
        assert before != state()
        raise ZeroDivisionError

    before = state()
    with pytest.raises(ZeroDivisionError):
        write(store, fail)
    assert state() == before


# -- what is worked out of it ----------------------------------------------------------------


def test_what_was_worked_out_is_kept_by_name_and_forgotten(store: Store):
    assert store.cached("state") is None
    write(store, lambda: store.put_cached("state", b"\0\xff"))
    write(store, lambda: store.put_cached("other", b"1"))
    assert (store.cached("state"), store.cached("other")) == (b"\0\xff", b"1")
    write(store, lambda: store.put_cached("state", b"2"))
    assert store.cached("state") == b"2"
    write(store, lambda: store.put_cached("state", None))
    assert (store.cached("state"), store.cached("other")) == (None, b"1")


def test_messages_behind_a_number_are_those_shown_of_one_chain(store: Store):
    put(
        store,
        row(1, seq=1),
        row(2, seq=2, kind=Kind.TITLE),
        row(3, seq=3, hidden=True),
        row(4, seq=4),
        row(5, seq=5, kind=Kind.EVENT),
        row(6, seq=6, kind=Kind.EDIT),
        row(7, seq=7, chain=2, log=2),
    )
    assert [store.count_spoken(1, after) for after in (-1, 0, 1, 3, 4, 5)] == [3, 3, 2, 2, 1, 0]
    assert store.count_spoken(2, -1) == 1
    assert store.count_spoken(9, -1) == 0


def test_bodies_that_are_bytes_come_back_as_bytes(store: Store):
    put(
        store,
        row(1, kind=Kind.PRIVATE, body=b"text as it happens"),
        row(2, kind=Kind.PRIVATE, body=b"\x85\xff"),
    )
    assert [store.rows([n])[n].body for n in (1, 2)] == [b"text as it happens", b"\x85\xff"]


def test_members_of_a_log_are_replaced_together(store: Store):
    ann = MemberRow(
        log=1,
        subject=b"a" * 32,
        topic=b"t" * 16,
        name="Ann",
        role="admin",
        here=True,
        history=True,
        since_ms=1,
    )
    bob = MemberRow(
        log=1,
        subject=b"b" * 32,
        topic=b"",
        name="Böb",
        role="",
        here=False,
        history=False,
        since_ms=2,
        ended="removed",
        ended_ms=3,
        ended_by="Ann",
    )
    with store.transaction():
        store.put_members(1, [bob, ann])
    assert store.members(1) == [bob, ann]
    write(store, lambda: store.put_members(1, [ann]))
    assert store.members(1) == [ann]
    assert store.members(2) == []
