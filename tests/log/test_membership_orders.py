"""Rulings and messages of several persons, in all orders in which they can come: one result."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from functools import cache

import pytest

from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.crypto import LogKeys
from mlog.log.entry import Sealed
from mlog.log.fold import Draft
from mlog.log.memory import MemoryStore
from mlog.log.replica import Replica
from mlog.log.store import LogKind
from tests.faults.record import recorded
from tests.log import persons
from tests.log.conversing import LATER, acquainted, all_meet, conversation, log_of, person, say, settle
from tests.log.persons import findings_in, home, person_of, replica_of, sealed_of, texts_of

_PERSONS = 5
_EVENTS = 6
_VERIFIED = 48
"""Of so many orders one is verified whole as well: that takes longer than all else."""

_SETS_SLOW = 200
_SETS_OF_A_WORLD = 20
"""Then new persons: what they said before makes each meeting longer."""


@cache
def _world(number: int) -> list[Replica]:
    return acquainted(_PERSONS)


def _rule_at_random(chance: random.Random, replica: Replica, topic: bytes, homes: list[Replica]) -> None:
    subject = person(replica, chance.choice(homes))
    role = chance.choice(["admin", "member", "none"])
    body = bodies.Member(person=subject.topic, role=role)
    replica.rule(log_of(replica, topic), [Draft(Kind.MEMBER, body, LATER)], LATER)
    settle(replica)


def _written(replica: Replica, topic: bytes, after: int) -> tuple[list[Sealed], int]:
    """What a replica wrote itself since, and up to where."""
    state = replica.log(log_of(replica, topic))
    rows = replica.store.arrivals(state.n, after, 1000)
    ours = {c.n for c in replica.store.chains(state.n) if c.device == replica.device_id}
    last = rows[-1].n if rows else after
    return [sealed_of(state, row) for row in rows if row.chain in ours], last


def _generated(seed: int) -> tuple[Replica, bytes, list[list[Sealed]]]:
    """Five persons in a conversation, and six events of persons who heard of some of the others'.

    An event is what was written at once: a ruling with the epoch that follows from it, or a message.
    """
    chance, homes = random.Random(seed), _world(seed // _SETS_OF_A_WORLD)
    topic = conversation(*homes, title=f"talk {seed}")
    all_meet(homes)
    late = _late(homes, topic)
    events: list[list[Sealed]] = []
    for _ in range(_EVENTS):
        replica = chance.choice(homes)
        last = _written(replica, topic, 0)[1]
        if chance.random() < 0.6:
            _rule_at_random(chance, replica, topic, homes)
        else:
            say(replica, topic, f"{chance.random()}", LATER)
        events.append(_written(replica, topic, last)[0])
        if chance.random() < 0.5:
            persons.copy(replica, chance.choice(homes), LATER)
    for giver in homes:
        for taker in homes:
            persons.copy(giver, taker, LATER)
    epochs = {e.secret: e for giver in homes for e in giver.log(log_of(giver, topic)).keys.epochs[1:]}
    late.learn_epochs(log_of(late, topic), list(epochs.values()))
    return late, topic, events


def _late(homes: list[Replica], topic: bytes) -> Replica:
    """One who has all secrets, and all that was written before the events."""
    late = home(_PERSONS, MemoryStore())
    founder = homes[0]
    for other in homes:
        late.add_logs([(LogKind.PERSON, other.log(person_of(other).log).keys)])
        persons.copy(other, late, LATER)
    state = founder.log(log_of(founder, topic))
    keys = LogKeys(state.keys.secret)
    for epoch in state.keys.epochs[1:]:
        keys.add_epoch(epoch)
    (log,) = late.add_logs([(LogKind.CONVERSATION, keys)])
    for row in founder.store.arrivals(state.n, 0, 1000):
        late.receive(log, [sealed_of(state, row)], LATER)
    return late


def _fork(replica: Replica) -> Replica:
    store = MemoryStore()
    assert isinstance(replica.store, MemoryStore)
    store._t = copy.deepcopy(replica.store._t)
    return replica_of(_PERSONS, store)


def _all_orders(replica: Replica, log: int, left: Sequence[list[Sealed]]) -> Iterator[Replica]:
    """The replica after each order of what is left; what begins alike is received once."""
    if not left:
        yield replica
    for at, event in enumerate(left):
        forked = _fork(replica)
        forked.receive(log, event, LATER)
        settle(forked)
        yield from _all_orders(forked, log, [*left[:at], *left[at + 1 :]])


def _result(replica: Replica, log: int) -> tuple[object, ...]:
    membership = replica.people.membership(log)
    assert membership is not None
    joined = tuple((j.subject, j.role) for j in membership.joined())
    return joined, tuple(texts_of(replica, log)), tuple(replica.store.heads(log))


def _give_one_result(seed: int, orders: int) -> None:
    late, topic, events = _generated(seed)
    log = log_of(late, topic)
    results: set[tuple[object, ...]] = set()
    # Another start each time: the first orders all begin alike.
    random.Random(seed).shuffle(events)
    for number, replica in zip(range(orders), _all_orders(late, log, events), strict=False):
        results.add(_result(replica, log))
        if number % _VERIFIED == 0:
            assert findings_in(replica) == []
    assert len(results) == 1, f"seed {seed}"


@pytest.mark.parametrize("seed", [0, 15])
def test_six_events_give_one_result_in_any_order(seed: int):
    _give_one_result(seed, 60)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_200_sets_of_six_events_give_one_result_in_all_720_orders():
    with recorded("six rulings or messages of five persons, 720 orders", seed=0, count=_SETS_SLOW):
        for seed in range(_SETS_SLOW):
            _give_one_result(seed, 720)
