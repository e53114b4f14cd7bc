"""Entries that name one which comes after them: they are put behind it in parts, in any order of arrival."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlog.log import batch, intake, ranks
from mlog.log.bodies import Kind
from mlog.log.entry import Sealed, open_header
from mlog.log.ids import EntryId
from mlog.log.memory import MemoryStore
from mlog.log.replica import Replica
from mlog.log.store import Task, TimelineQuery
from tests.protocol.hostile.minting import Mint

from .support import LOG, START_MS, device_keys, make_log, make_replica

HOUR_MS = 3600_000


@pytest.fixture(autouse=True)
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batch, ranks, intake):
        monkeypatch.setattr(module, "CHILDREN_AT_ONCE", 3)
    monkeypatch.setattr(batch, "_CHILDREN_READ", 6)
    monkeypatch.setattr(batch, "_CHILDREN_FIRST", 2)


def mint() -> tuple[Replica, Mint]:
    replica = make_replica(MemoryStore())
    make_log(replica)
    return replica, Mint(Random(1), replica.log(LOG).keys, [device_keys(2)], [])


def copy() -> Replica:
    replica = make_replica(MemoryStore())
    make_log(replica)
    return replica


def view(replica: Replica) -> list[tuple[EntryId, int, bool]]:
    while replica.settle(LOG, START_MS):
        pass
    rows = replica.store.timeline(TimelineQuery(log=LOG, limit=1000, kinds=frozenset(), hidden=True))
    return [(row.id, row.rank, row.hidden) for row in rows]


def received(entries: list[Sealed], *, at_once: int = 1) -> Replica:
    replica = copy()
    for at in range(0, len(entries), at_once):
        replica.receive(LOG, entries[at : at + at_once], START_MS)
    return replica


def named_by_many() -> list[Sealed]:
    """Two late entries, one behind the other, 20 that name both, and 5 that name some of these."""
    _, minting = mint()
    late = minting.chain(2, every=1, time_ms=START_MS + 1000 * HOUR_MS)
    named = {sealed.id for sealed in late}
    children = [
        minting.entry(Kind.MESSAGE, b'{"text":"%d"}' % n, parents=named, time_ms=START_MS) for n in range(20)
    ]
    more = [
        minting.entry(Kind.MESSAGE, b'{"text":"!%d"}' % n, parents={c.id for c in children[n : n + 9]})
        for n in range(5)
    ]
    return [*late, *children, *more]


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_entries_stand_behind_what_they_name_in_whatever_order_they_come(random: Random, at_once: int):
    entries = named_by_many()
    expected = view(received(entries))
    order = list(entries)
    random.shuffle(order)
    assert view(received(order, at_once=at_once)) == expected
    assert view(received(entries[::-1], at_once=at_once)) == expected


def test_what_names_a_late_entry_is_put_behind_it_in_the_end():
    entries = named_by_many()
    replica = received([*entries[2:], *entries[:2]], at_once=100)
    ranks = {id_: rank for id_, rank, _ in view(replica)}
    assert all(ranks[sealed.id] > ranks[entries[1].id] for sealed in entries[2:])


@pytest.mark.parametrize("signed_first", [False, True])
def test_an_unsigned_entry_is_read_by_its_next_one_however_many_others_name_it(signed_first: bool):
    replica, minting = mint()
    chain = minting.chain(3, every=1)
    keys = replica.log(LOG).keys
    incarnation = open_header(keys, chain[0].outer)[0].incarnation
    late = Sealed(chain[1].id, chain[1].outer, chain[1].body)
    # Of the same chain, at the same place as its next one; they name it, but not as the one before.
    others = [
        minting.entry(
            Kind.MESSAGE,
            b'{"text":"%d"}' % n,
            seq=2,
            prev=EntryId(bytes([n + 1]) * 32),
            incarnation=incarnation,
            parents={late.id},
        )
        for n in range(20)
    ]
    rest = [chain[2], *others] if signed_first else [*others, chain[2]]
    for order in ([chain[0], *rest, late], [late, chain[0], *rest], [*rest, late, chain[0]]):
        received_ = received(order)
        assert {chain[1].id, chain[2].id} <= {id_ for id_, _, _ in view(received_)}
        assert not received_.store.scan_unopened(LOG, 0, 1)
        assert not received_.store.unsettled(LOG, Task.VOUCH, 1)


def test_an_entry_that_nothing_vouches_for_waits_and_leaves_no_work():
    _, minting = mint()
    late = minting.entry(Kind.MESSAGE, b'{"text":"?"}')
    unsigned = Sealed(late.id, late.outer, late.body)
    others = [minting.entry(Kind.MESSAGE, b'{"text":"%d"}' % n, parents={late.id}) for n in range(20)]
    received_ = received([*others, unsigned])
    assert late.id not in {id_ for id_, _, _ in view(received_)}
    assert [row.id for row in received_.store.scan_unopened(LOG, 0, 9)] == [late.id]
    assert not any(received_.store.unsettled(LOG, task, 1) for task in Task)
    received_.receive(LOG, [late], START_MS)
    assert late.id in {id_ for id_, _, _ in view(received_)}
