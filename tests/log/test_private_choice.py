"""Which private log counts: the founder's, and while that is not here the one that others began for all."""

from __future__ import annotations

import itertools

import pytest

from mlog.log import belonging
from mlog.log.carrying import carry_over
from mlog.log.contacts import Contact, write_contact
from mlog.log.crypto import LogKeys
from mlog.log.ids import Topic
from mlog.log.private_log import PrivateLog
from mlog.log.replica import Replica
from mlog.log.store import LogKind
from tests.log.conversing import LATER
from tests.log.persons import copy, findings_in, home, meet, peer_of, person_of, trust
from tests.log.support import device_keys

DESK, LAPTOP, PHONE, TABLET = range(4)
GARDEN = bytes(16)


def give(giver: Replica, taker: Replica, topic: Topic) -> None:
    """Grant one log, and all that is in it."""
    state = next(state for state in giver.logs() if state.keys.topic == topic)
    if not any(row.topic == topic for row in taker.store.logs()):
        keys = LogKeys(state.keys.secret)
        for epoch in state.keys.epochs[1:]:
            keys.add_epoch(epoch)
        taker.add_logs([(LogKind(state.kind), keys)])
        taker.people.forget()
    copy(giver, taker, LATER)


def person_with(count: int) -> tuple[Replica, list[Replica]]:
    """The founder's home, and others that joined it in their order, and were given the person log alone."""
    desk = home(DESK)
    others = [home(index) for index in range(1, count)]
    for index, other in enumerate(others, 1):
        trust(desk, DESK, other, index)
        give(desk, other, person_of(desk).topic)
        copy(other, desk, LATER)
    for other in others:
        copy(desk, other, LATER)
        assert person_of(other).topic == person_of(desk).topic
    return desk, others


def begin(replica: Replica, now: int = LATER) -> Topic:
    return replica.log(replica.create_log(LogKind.PRIVATE, [], now)).keys.topic


def chosen(replica: Replica) -> Topic | None:
    n = replica.people.private_log()
    return replica.log(n).keys.topic if n is not None else None


def accept(replica: Replica, index: int, name: str) -> None:
    keys = device_keys(index)
    topic = Topic(bytes([index]) * 16)
    write_contact(replica, Contact(topic=topic, name=name, device=keys.id, since_ms=LATER), LATER)


def names(replica: Replica) -> list[str]:
    return sorted(contact.name for contact in replica.people.contacts().values())


def test_what_a_device_had_before_it_joined_is_not_the_private_log() -> None:
    _, [laptop] = person_with(2)
    assert len(laptop.logs(LogKind.PRIVATE)) == 1
    assert chosen(laptop) is None


def test_one_that_a_device_begins_for_all_counts_while_the_founders_is_not_here() -> None:
    desk, [laptop] = person_with(2)
    begun = begin(laptop)
    assert chosen(laptop) == begun
    accept(laptop, 5, "Bob")
    assert names(laptop) == ["Bob"]
    founders = chosen(desk)
    assert founders is not None
    give(desk, laptop, founders)
    assert chosen(laptop) == founders
    assert findings_in(laptop) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_in_any_order_of_arrival_the_one_of_who_joined_first_counts(order: tuple[int, ...]) -> None:
    desk, [laptop, phone, tablet] = person_with(4)
    # The phone began two; the later one of these never counts.
    second, third = begin(phone, LATER + 1), begin(phone, LATER + 2)
    first = chosen(desk)
    assert first is not None
    # Whoever says an earlier time gains nothing by it.
    logs = [(desk, first), (laptop, begin(laptop, LATER + 9)), (phone, second), (phone, third)]
    for at, place in enumerate(order):
        give(logs[place][0], tablet, logs[place][1])
        assert chosen(tablet) == logs[min(order[: at + 1])][1]


def test_one_of_a_revoked_device_goes_on_to_count() -> None:
    _, [laptop, phone] = person_with(3)
    begun = begin(laptop)
    accept(laptop, 5, "Bob")
    give(laptop, phone, begun)
    belonging.revoke(phone, laptop.device_id, LATER + 5)
    assert chosen(phone) == begun
    assert names(phone) == ["Bob"]


def test_what_another_person_began_never_counts() -> None:
    _, [_, phone] = person_with(3)
    stranger = home(TABLET)
    stranger.store.put_peer(peer_of(LAPTOP))
    belonging.admit(stranger, peer_of(LAPTOP), LATER)
    give(stranger, phone, begin(stranger))
    assert chosen(phone) is None


def test_what_was_noted_meanwhile_comes_along_to_the_founders() -> None:
    desk, [laptop] = person_with(2)
    accept(desk, 4, "Carol")
    begin(laptop)
    accept(laptop, 5, "Bob")
    PrivateLog(laptop).note({f"label/{GARDEN.hex()}/summer": True}, LATER)
    desk.store.put_peer(peer_of(LAPTOP))
    meet(desk, laptop, LATER)
    assert chosen(laptop) == chosen(desk)
    assert PrivateLog(laptop).state().of(GARDEN).labels == ("summer",)
    assert names(laptop) == ["Carol"]
    assert carry_over(laptop, LATER) == 1
    assert carry_over(laptop, LATER) == 0
    PrivateLog(laptop).note({f"label/{GARDEN.hex()}/winter": True}, LATER)
    meet(desk, laptop, LATER)
    for replica in (desk, laptop):
        assert names(replica) == ["Bob", "Carol"]
        log = replica.people.private_log()
        assert log is not None
        assert len([c for c in replica.store.chains(log) if c.device == laptop.device_id]) == 1
        assert PrivateLog(replica).state().of(GARDEN).labels == ("summer", "winter")
    assert findings_in(laptop) == findings_in(desk) == []
