"""Any order of arrival gives the same view: design.md, 3.1, over generated histories."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlog.log.batch
from mlog.adapters.sqlite import SqliteStore
from mlog.log.entry import Sealed
from mlog.log.ids import EntryId
from mlog.log.memory import MemoryStore
from mlog.log.store import Reason, Store
from mlog.log.verify import verify_search

from .support import EXTRAS, History, deliver, facts, findings, histories, join, make_replica, take


class Arrivals:
    """A history, and two orders in which all of its entries arrive; some come without a body."""

    def __init__(self, history: History, orders: list[list[int]], headers_only: set[int]):
        self.history = history
        self._drawn = orders, headers_only
        entries = [
            Sealed(sealed.id, sealed.outer, None if i in headers_only else sealed.body, sealed.signature)
            for i, sealed in enumerate(history.entries.values())
        ]
        self.orders = [[entries[i] for i in order] for order in orders]

    def __repr__(self) -> str:
        return f"Arrivals({self.history}, {self._drawn[0]}, {self._drawn[1]})"


@st.composite
def arrivals(draw: st.DrawFn) -> Arrivals:
    history = draw(histories())
    numbers = list(range(len(history.entries)))
    orders = [draw(st.permutations(numbers)) for _ in range(2)]
    # Without the body of the key entry, the first one, a log is not whole.
    return Arrivals(history, orders, draw(st.sets(st.sampled_from(numbers[1:]), max_size=2)))


def received(history: History, order: list[Sealed], store: Store) -> dict[str, object]:
    # One transaction: what it costs to begin one grows with the memory store.
    with store.transaction():
        replica = deliver(history, order, store)
    assert findings(replica) == []
    assert list(verify_search(replica, thorough=True)) == []
    return facts(replica)


def check_any_order(drawn: Arrivals) -> None:
    first, second = (received(drawn.history, order, MemoryStore()) for order in drawn.orders)
    assert first == second


@given(arrivals())
def test_any_order_of_arrival_gives_the_same_replica(drawn: Arrivals):
    check_any_order(drawn)


@pytest.mark.slow
@settings(max_examples=5_000)
@given(arrivals())
def test_any_order_of_arrival_gives_the_same_replica_5000_times(drawn: Arrivals):
    check_any_order(drawn)


# -- hostile members, parts that come apart, batches -----------------------------------------


class Parcels:
    """Entries of many kinds, good and bad, cut into parts; and two ways in which all parts arrive.

    Attributes:
        ways: Each a list of batches.
    """

    def __init__(self, history: History, entries: list[Sealed], ways: list[list[list[Sealed]]]):
        self.history = history
        self.entries = entries
        self.ways = ways

    def __repr__(self) -> str:
        names = {sealed.outer: n for n, sealed in enumerate(self.entries)}
        shown = [
            [
                [f"{names[s.outer]}{'b' if s.body else ''}{'s' if s.signature else ''}" for s in batch]
                for batch in way
            ]
            for way in self.ways
        ]
        return f"Parcels({self.history}, {shown})"


@st.composite
def parcels(draw: st.DrawFn, max_steps: int = 12) -> Parcels:
    history = draw(histories(max_steps))
    number = st.integers(0, 1000)
    for kind, a, b in draw(st.lists(st.tuples(st.sampled_from(sorted(EXTRAS)), number, number), max_size=5)):
        EXTRAS[kind](history, a, b)
    entries = list(history.entries.values())
    unsigned = draw(st.sets(st.sampled_from(range(len(entries))), max_size=len(entries)))
    bodiless = (
        draw(st.sets(st.sampled_from(range(1, len(entries))), max_size=2)) if entries[1:] else set[int]()
    )
    ways: list[list[list[Sealed]]] = []
    for _ in range(2):
        parts: list[Sealed] = []
        for n, sealed in enumerate(entries):
            body = None if n in bodiless else sealed.body
            # The first of an incarnation is signed; what else is, others may vouch for.
            signature = None if n in unsigned and n else sealed.signature
            cuts = draw(st.sampled_from([["bs"], ["bs"], ["b", "s"], ["", "bs"], ["", "s", "b"]]))
            parts += [
                Sealed(
                    EntryId(b""),
                    sealed.outer,
                    body if "b" in cut else None,
                    signature if "s" in cut else None,
                )
                for cut in cuts
            ]
        parts = list(draw(st.permutations(parts)))
        way: list[list[Sealed]] = []
        while parts:
            size = draw(st.sampled_from([1, 2, 3, 5, 8, 50]))
            way.append(parts[:size])
            parts = parts[size:]
        ways.append(way)
    return Parcels(history, entries, ways)


def check_any_way(drawn: Parcels, *stores: Store) -> dict[str, object]:
    seen: list[dict[str, object]] = []
    for way, store in zip(drawn.ways, stores, strict=True):
        with store.transaction():
            replica = make_replica(store, 0, "receiver")
            join(replica, drawn.history.keys_at_first)
            for batch in way:
                take(replica, *batch)
        assert [f for f in findings(replica) if f.reason != Reason.FORKED] == []
        assert list(verify_search(replica, thorough=True)) == []
        seen.append(facts(replica))
    assert seen[0] == seen[1]
    return seen[0]


@given(parcels())
def test_any_cut_into_parts_and_batches_gives_the_same_replica(drawn: Parcels):
    check_any_way(drawn, MemoryStore(), MemoryStore())


@pytest.mark.slow
@settings(max_examples=5_000)
@given(parcels(max_steps=20))
def test_any_cut_into_parts_and_batches_gives_the_same_replica_5000_times(drawn: Parcels):
    check_any_way(drawn, MemoryStore(), MemoryStore())


@given(parcels())
def test_what_is_left_for_later_gives_the_same_replica(drawn: Parcels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlog.log.batch, "_FOLDED_COST", 0)
        later = check_any_way(drawn, MemoryStore(), MemoryStore())
    assert check_any_way(drawn, MemoryStore(), MemoryStore()) == later


@settings(max_examples=25)
@given(parcels())
def test_the_database_takes_parts_and_batches_as_the_memory_does(
    tmp_path_factory: pytest.TempPathFactory, drawn: Parcels
):
    store = SqliteStore(tmp_path_factory.mktemp("parcels") / "mlog.db")
    try:
        check_any_way(drawn, store, MemoryStore())
    finally:
        store.close()


# -- writers ---------------------------------------------------------------------------------


@given(histories())
def test_writers_and_readers_end_with_the_same_replica(history: History):
    reader = received(history, list(history.entries.values()), MemoryStore())
    for writer in history.replicas:
        with writer.store.transaction():
            for sealed in history.entries.values():
                take(writer, sealed)
        assert findings(writer) == []
        assert facts(writer) == reader


@settings(max_examples=25)
@given(arrivals())
def test_the_database_holds_what_the_memory_holds(tmp_path_factory: pytest.TempPathFactory, drawn: Arrivals):
    one, another = drawn.orders
    path: Path = tmp_path_factory.mktemp("convergence") / "mlog.db"
    store = SqliteStore(path)
    try:
        assert received(drawn.history, one, store) == received(drawn.history, another, MemoryStore())
    finally:
        store.close()


@given(histories())
def test_what_is_known_is_not_taken_again(history: History):
    replica = history.replicas[0]
    with replica.store.transaction():
        for sealed in history.entries.values():
            take(replica, sealed)
    before = facts(replica)
    assert not any(take(replica, sealed).stored for sealed in history.entries.values())
    assert facts(replica) == before
