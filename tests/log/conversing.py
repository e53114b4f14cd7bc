"""Replicas of several persons who know each other, and sessions between them without a network."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from mlog.log import grants, ruling
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.contacts import Contact, write_contact
from mlog.log.ids import DeviceId
from mlog.log.membership import Membership
from mlog.log.peers import PeerRow
from mlog.log.person import Person
from mlog.log.replica import Replica
from mlog.log.store import EntryRow
from tests.log.persons import BINDING, begin, home, person_of, sealed_of, write
from tests.log.support import START_MS, text

LATER = START_MS + 10_000


def accept(one: Replica, other: Replica, now: int = START_MS + 50) -> None:
    """Both persons accepted each other, and their devices met once."""
    for here, there in ((one, other), (other, one)):
        person = person_of(there)
        contact = Contact(topic=person.topic, name=person.name, device=there.device_id, since_ms=now)
        known = here.store.peers()
        write_contact(here, contact, now)
        if not any(peer.device == there.device_id for peer in known):
            with here.store.transaction():
                here.store.put_peer(_peer(there))
    session(one, other, now)


def _peer(replica: Replica) -> PeerRow:
    keys = replica.device_keys
    return PeerRow(device=keys.id, name="met", noise=keys.noise_public, hpke=keys.hpke_public, own=False)


def acquainted(count: int) -> list[Replica]:
    """Homes of so many persons, each a contact of all others."""
    homes = [home(index) for index in range(count)]
    for at, one in enumerate(homes):
        for other in homes[at + 1 :]:
            accept(one, other)
    return homes


def met_by_a_conversation() -> tuple[Replica, Replica, Replica, bytes]:
    """Ann knows Bob and Carol, who know each other from her conversation only."""
    ann, bob, carol = home(0), home(1), home(2)
    accept(ann, bob)
    accept(ann, carol)
    topic = conversation(ann, bob, carol)
    for _ in range(2):
        session(ann, bob)
        session(ann, carol)
    return ann, bob, carol, topic


def may_have(giver: Replica, taker: Replica, log: int) -> bool:
    """Whether a session would carry a log from one to the other."""
    peer = next((p for p in giver.store.peers() if p.device == taker.device_id), None)
    return peer is not None and (peer.own or log in giver.people.shared_with(taker.device_id))


def session(
    one: Replica, other: Replica, now: int = START_MS + 200, chance: random.Random | None = None
) -> None:
    """All that sessions between two replicas give, grants and entries, until there is no more to say."""
    for _ in range(12):
        moved = 0
        for giver, taker in ((one, other), (other, one)):
            known = {s.keys.topic for s in taker.logs() if may_have(taker, giver, s.n)}
            sealed = grants.grant_for(giver, taker.device_id, known, BINDING)
            if sealed is not None and any(p.device == giver.device_id for p in taker.store.peers()):
                moved += len(grants.accept_grant(taker, giver.device_id, sealed, BINDING, now))
            moved += transfer(giver, taker, now, chance)
        if not moved:
            return
    pytest.fail("two replicas never came to an end")


def transfer(giver: Replica, taker: Replica, now: int, chance: random.Random | None = None) -> int:
    """Entries that a session would carry; how many were new."""
    logs = {state.keys.topic: state for state in giver.logs() if may_have(giver, taker, state.n)}
    shared = [(logs[s.keys.topic], s) for s in taker.logs() if s.keys.topic in logs]
    stored = 0
    for ours, theirs in shared:
        if not may_have(taker, giver, theirs.n):
            continue
        rows = giver.store.arrivals(ours.n, 0, 1000)
        lacking = [row for row in rows if not taker.store.find(theirs.n, [row.id])]
        if chance is not None:
            chance.shuffle(lacking)
        for row in lacking:
            if may_have(giver, taker, ours.n) and may_have(taker, giver, theirs.n):
                stored += taker.receive(theirs.n, [sealed_of(ours, row)], now).stored
    settle(taker, now)
    return stored


def settle(replica: Replica, now: int = LATER) -> None:
    for state in replica.logs():
        while replica.settle(state.n, now):
            pass


def all_meet(replicas: Sequence[Replica], now: int = START_MS + 200, seed: int = 0) -> None:
    """Sessions of all pairs, until everybody heard of everything that may be heard of."""
    chance = random.Random(seed)
    for _ in range(3):
        pairs = [(a, b) for at, a in enumerate(replicas) for b in replicas[at + 1 :]]
        chance.shuffle(pairs)
        for one, other in pairs:
            session(one, other, now, chance)


def conversation(founder: Replica, *others: Replica, title: str = "talk", now: int = START_MS + 300) -> bytes:
    """A conversation of several persons, of which only the founder has heard yet; its topic."""
    log = begin(founder, title, now)
    ruling.add(founder, log, [person(founder, other) for other in others], now)
    return founder.log(log).keys.topic


def person(here: Replica, of: Replica) -> Person:
    found = here.people.person_of(here.people.stand_in(of.device_id))
    assert found is not None
    return found


def log_of(replica: Replica, topic: bytes) -> int:
    return next(row.n for row in replica.store.logs() if row.topic == topic)


def has(replica: Replica, topic: bytes) -> bool:
    return any(row.topic == topic for row in replica.store.logs())


def members(replica: Replica, topic: bytes) -> dict[DeviceId, Role]:
    """Roles by the devices that stand for the members, as a replica sees them."""
    membership = membership_of(replica, topic)
    return {DeviceId(j.subject): j.role for j in membership.joined()}


def membership_of(replica: Replica, topic: bytes) -> Membership:
    found = replica.people.membership(log_of(replica, topic))
    assert found is not None
    return found


def say(replica: Replica, topic: bytes, words: str, now: int = START_MS + 400) -> EntryRow:
    return write(replica, log_of(replica, topic), Kind.MESSAGE, text(words), now)


def expel(here: Replica, topic: bytes, whom: Replica, now: int = LATER) -> None:
    log = log_of(here, topic)
    subject = here.people.stand_in(whom.device_id)
    joined = next(j for j in membership_of(here, topic).joined() if j.subject == subject)
    ruling.remove(here, log, joined, now)
    settle(here, now)
