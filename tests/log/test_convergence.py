"""Any order of arrival gives the same view: design.md, 3.1, over generated histories."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlog.adapters.sqlite import SqliteStore
from mlog.log.entry import Sealed
from mlog.log.memory import MemoryStore
from mlog.log.store import Store
from mlog.log.verify import verify_search

from .support import History, deliver, facts, findings, histories, take


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
