"""Long segments, read and hashed a slice at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.log.ids import EntryId
from mlog.log.memory import MemoryStore
from mlog.log.merkle import segment_digest
from mlog.log.segments import Digester, Stamps, least_ids, pages_of, sorted_slices
from mlog.log.store import BodyState, EntryRow, Store

from .support import ids

T = TypeVar("T")
WEEK = 7

segments = st.dictionaries(ids, st.booleans(), max_size=40)


@contextmanager
def slices_of(count: int) -> Generator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "SEGMENT_SLICE_IDS", count)
        yield


def put(store: Store, log: int, segment: dict[EntryId, bool], week: int = WEEK) -> None:
    first = store.next_n()
    rows = [
        EntryRow(
            n=first + at,
            log=log,
            id=id_,
            week=week,
            outer=b"outer",
            signature=None,
            body=b"{}" if held else None,
            state=BodyState.SEALED if held else BodyState.NOT_FETCHED,
        )
        for at, (id_, held) in enumerate(segment.items())
    ]
    with store.transaction():
        store.insert(rows, (), (), ())


def many(count: int, log: int = 1) -> dict[EntryId, bool]:
    """Ids that come in no order, of which some bodies are not held."""
    return {
        EntryId((n * 7919 % 65537).to_bytes(16, "big") + bytes([log]) * 16): n % 3 > 0 for n in range(count)
    }


def result(steps: Generator[Any, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def digests_of(store: Store, log: int) -> list[Any]:
    found = [store.segment(log, week) for week in store.stale_weeks(log)]
    return [segment_digest(week, ids) for week, ids in zip(store.stale_weeks(log), found, strict=True)]


@given(segments, st.integers(1, 9))
def test_slices_are_the_segment_in_order_and_none_is_longer_than_it_may_be(segment, count: int):
    store = MemoryStore()
    put(store, 1, segment)
    with slices_of(count):
        slices = list(sorted_slices(pages_of(store, 1, WEEK)))
    found = [(item[:32], item[32:] == b"\1") for part in slices for item in part]
    assert found == list(store.segment(1, WEEK))
    pages = -(-len(segment) // count)
    assert all(len(part) <= max(count, pages) for part in slices)


@given(segments, ids, st.integers(1, 9), st.integers(1, 5))
def test_the_least_ids_are_those_behind_one(segment, after: EntryId, count: int, slice_ids: int):
    store = MemoryStore()
    put(store, 1, segment)
    with slices_of(slice_ids):
        found = result(least_ids(pages_of(store, 1, WEEK), after, count))
    assert found == [id_ for id_ in sorted(segment) if id_ > after][:count]


@given(segments, segments, st.integers(1, 50))
def test_digests_made_in_slices_are_those_made_at_once(one, other, count: int):
    store = MemoryStore()
    put(store, 1, one)
    put(store, 1, {id_: held for id_, held in other.items() if id_ not in one}, week=8)
    expected = digests_of(store, 1)
    digester = Digester(store)
    with slices_of(count):
        while digester.step(1):
            pass
    assert store.digests(1) == expected
    assert not store.stale_weeks(1)


def steps_until_done(digester: Digester, log: int) -> int:
    return sum(1 for _ in iter(lambda: digester.step(log), False))


def test_a_long_segment_takes_as_many_steps_as_it_has_slices():
    store = MemoryStore()
    put(store, 1, many(1000))
    expected = digests_of(store, 1)
    with slices_of(100):
        assert 20 <= steps_until_done(Digester(store), 1) <= 40
    assert store.digests(1) == expected


def test_many_short_segments_share_a_step():
    store = MemoryStore()
    for week in range(100):
        put(store, 1, {EntryId(bytes([week]) * 32): True}, week)
    with slices_of(410):
        assert steps_until_done(Digester(store), 1) == 10


@pytest.mark.parametrize("at", range(1, 25, 3))
def test_what_changes_while_it_is_hashed_is_hashed_again(at: int):
    store = MemoryStore()
    put(store, 1, many(1000))
    digester = Digester(store)
    with slices_of(100):
        for _ in range(at):
            assert digester.step(1)
        with store.transaction():
            store.erase_body(2, None)
        expected = digests_of(store, 1)
        steps_until_done(digester, 1)
    assert store.digests(1) == expected


def test_two_long_segments_do_not_keep_each_other_from_their_end():
    store = MemoryStore()
    for log in (1, 2):
        put(store, log, many(500, log))
    expected = [digests_of(store, log) for log in (1, 2)]
    digester = Digester(store)
    with slices_of(50):
        for _ in range(100):
            digester.step(1)
            digester.step(2)
    assert [store.digests(log) for log in (1, 2)] == expected


def test_a_segment_that_never_rests_does_not_hold_up_another():
    store = MemoryStore()
    for log in (1, 2):
        put(store, log, many(500, log))
    digester = Digester(store)
    with slices_of(50):
        for n in range(100):
            digester.step(1)
            put(store, 1, {EntryId(bytes([n, 255]) * 16): True})
            digester.step(2)
    assert not store.stale_weeks(2)
    assert store.stale_weeks(1)


def test_stamps_of_more_segments_than_are_told_apart_all_change(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mlog.log.segments._STAMPS_MAX", 3)
    stamps = Stamps()
    stamps.change(1, 1)
    before = stamps.of(1, 1), stamps.of(1, 9)
    for week in range(2, 5):
        stamps.change(1, week)
    assert stamps.of(1, 1) != before[0]
    assert stamps.of(1, 9) != before[1]


def test_slices_end_although_nothing_is_in_them() -> None:
    slices: Iterator[list[bytes]] = sorted_slices(pages_of(MemoryStore(), 1, WEEK))
    assert list(slices) == []
