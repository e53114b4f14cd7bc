"""Whom a device took along to an older person, while its own had revoked it, that one does not have."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from mlog.log import belonging, bodies, trusting
from mlog.log.bodies import Kind
from mlog.log.carrying import carry_over
from mlog.log.contacts import Contact, write_contact
from mlog.log.fold import Draft
from mlog.log.replica import Replica
from mlog.log.store import LogKind
from mlog.log.trusting import Outcome
from tests.log.conversing import accept, all_meet, conversation, log_of, say, session
from tests.log.joining import SEEDS, Joining, claim_of, devices, members, peers, readers
from tests.log.persons import (
    begin,
    conversation_of,
    copy,
    findings_in,
    home,
    meet,
    peer_of,
    person_of,
    record_of,
    texts_of,
    trust,
    write,
)
from tests.log.support import START_MS, text

LATER = START_MS + 10_000


def group() -> tuple[Replica, Replica, Replica, Replica]:
    """An old home; and laptop, phone and tablet of a younger person."""
    old, laptop, phone, tablet = home(0), home(1), home(2), home(3)
    trust(laptop, 1, phone, 2)
    trust(laptop, 1, tablet, 3)
    for _ in range(3):
        meet(laptop, phone)
        meet(laptop, tablet)
    return old, laptop, phone, tablet


def taken(old: Replica, phone: Replica, tablet: Replica) -> None:
    """The phone goes over to the old home's person, and takes the tablet along."""
    trust(old, 0, phone, 2, LATER)
    for _ in range(3):
        meet(old, phone, LATER)
        meet(phone, tablet, LATER)
    assert {m.device for m in person_of(tablet).members if m.confirmed} == devices(old, phone, tablet)


def test_who_was_taken_along_by_a_revoked_device_goes_back_and_lets_nobody_in_by_it():
    old, laptop, phone, tablet = group()
    belonging.revoke(laptop, phone.device_id, LATER)
    taken(old, phone, tablet)
    meet(laptop, tablet, LATER + 1)
    for replica, other in ((laptop, tablet), (tablet, laptop)):
        assert members(replica) == devices(laptop, tablet)
        assert peers(replica) == devices(other)
        assert findings_in(replica) == []
        for log in (begin(replica, "later", LATER + 2), conversation_of(replica, "of laptop")):
            write(replica, log, Kind.MESSAGE, text("not for the old home"), LATER + 2)
            assert readers(replica, log) == devices(laptop, tablet)
        meet(laptop, tablet, LATER + 2)


@pytest.mark.parametrize("seed", range(6))
def test_the_order_in_which_this_is_heard_of_changes_nothing(seed: int):
    old, laptop, phone, tablet = group()
    write(phone, conversation_of(phone, "of laptop"), Kind.MESSAGE, text("before"), LATER)
    meet(laptop, phone, LATER)
    belonging.revoke(laptop, phone.device_id, LATER)
    taken(old, phone, tablet)
    write(tablet, conversation_of(tablet, "of laptop"), Kind.MESSAGE, text("of the tablet"), LATER + 1)
    # Bytes that reach each other by whatever way, in any order.
    pairs = [*permutations((laptop, tablet, old), 2), (phone, tablet), (phone, laptop)]
    chance = Random(seed)
    for _ in range(4):
        chance.shuffle(pairs)
        for giver, taker in pairs:
            copy(giver, taker, LATER + 2, chance)
    for replica in (laptop, tablet):
        assert members(replica) == devices(laptop, tablet)
        assert texts_of(replica, conversation_of(replica, "of laptop")) == ["before", "of the tablet"]
        assert findings_in(replica) == []
    for replica in (laptop, tablet):
        assert {replica.people.stand_in(d) for d in devices(laptop, phone, tablet)} == devices(laptop)


def test_what_it_was_told_there_is_not_taken_back_along():
    old, laptop, phone, tablet = group()
    carol = home(4)
    accept(old, carol)
    belonging.revoke(laptop, phone.device_id, LATER)
    taken(old, phone, tablet)
    bob = home(5)
    met = Contact(topic=person_of(bob).topic, name="Bob", device=bob.device_id, since_ms=LATER)
    write_contact(tablet, met, LATER)
    assert len(tablet.people.contacts()) == 2
    meet(laptop, tablet, LATER + 1)
    carry_over(tablet, LATER + 2)
    assert [contact.name for contact in tablet.people.contacts().values()] == ["Bob"]


def test_who_went_back_goes_over_again_once_it_is_paired_with_the_older_one_itself():
    old, laptop, phone, tablet = group()
    belonging.revoke(laptop, phone.device_id, LATER)
    taken(old, phone, tablet)
    meet(laptop, tablet, LATER + 1)
    assert trusting.trust(tablet, claim_of(0, old), LATER + 2) == Outcome.JOINS
    trusting.trust(old, claim_of(3, tablet), LATER + 2)
    for _ in range(2):
        meet(old, tablet, LATER + 3)
        meet(laptop, tablet, LATER + 3)
    for replica in (old, laptop, tablet):
        assert members(replica) == devices(old, laptop, tablet)
        assert peers(replica) == devices(old, laptop, tablet) - devices(replica)
        assert findings_in(replica) == []


def gone_over() -> tuple[Replica, Replica, Replica, Replica]:
    """The laptop went over to the old home's person and took the phone along; the tablet was away."""
    old, laptop, phone, tablet = group()
    trust(old, 0, laptop, 1, LATER)
    for _ in range(3):
        meet(old, laptop, LATER)
        meet(laptop, phone, LATER)
    meet(old, phone, LATER)
    assert members(old) == devices(old, laptop, phone, tablet)
    return old, laptop, phone, tablet


def test_a_device_that_the_person_it_came_from_revoked_is_revoked_where_it_went():
    old, laptop, phone, tablet = gone_over()
    belonging.revoke(tablet, phone.device_id, LATER + 1)
    copy(tablet, laptop, LATER + 2)
    assert members(laptop) == devices(old, laptop, tablet)
    assert peers(laptop) == devices(old, tablet)
    assert readers(laptop, begin(laptop, "later", LATER + 3)) == devices(old, laptop, tablet)
    # The old one has not the log that they left: its own has to say so.
    assert belonging.revoke_too(laptop, LATER + 4)
    assert not belonging.revoke_too(laptop, LATER + 4)
    _is_out(phone, old, laptop, tablet)


def test_who_goes_over_revokes_there_whom_it_had_revoked_before():
    old, laptop, phone, tablet = gone_over()
    belonging.revoke(tablet, phone.device_id, LATER + 1)
    for _ in range(2):
        meet(laptop, tablet, LATER + 2)
    assert phone.device_id in person_of(laptop).revocations
    _is_out(phone, old, laptop, tablet)


def _is_out(phone: Replica, old: Replica, *others: Replica) -> None:
    hub, *_ = others
    for other in (old, *others, old):
        meet(hub, other, LATER + 4)
    belonging.admit(phone, peer_of(4), LATER + 5)
    copy(phone, old, LATER + 5)
    for other in (old, *others):
        meet(hub, other, LATER + 5)
    for replica in (old, *others):
        assert members(replica) == devices(old, *others)
        assert phone.device_id not in peers(replica)
        assert findings_in(replica) == []


def test_who_went_over_and_was_revoked_there_undoes_nothing_by_the_log_that_it_left():
    old, laptop, phone, tablet = gone_over()
    for _ in range(2):
        meet(laptop, tablet, LATER)
        meet(old, laptop, LATER)
    belonging.revoke(old, phone.device_id, LATER + 1)
    for other in (laptop, tablet):
        meet(old, other, LATER + 1)
    topic = next(p.topic for p in phone.people.persons() if p.founder == laptop.device_id)
    for device in (laptop.device_id, tablet.device_id):
        write(phone, log_of(phone, topic), Kind.REVOKE, bodies.Revoke(device=device), LATER)
    for replica in (laptop, tablet):
        copy(phone, replica, LATER + 2)
        assert not belonging.revoke_too(replica, LATER + 3)
        assert members(replica) == devices(old, laptop, tablet)
        assert not replica.people.is_revoked(laptop.device_id)
        assert replica.people.subject_of_topic(topic) == old.device_id


def test_who_stayed_behind_and_was_revoked_takes_back_nobody_that_came_before_it():
    old, laptop, phone, tablet = gone_over()
    belonging.revoke(old, tablet.device_id, LATER + 1)
    meet(old, laptop, LATER + 1)
    meet(old, phone, LATER + 1)
    belonging.revoke(tablet, laptop.device_id, LATER)
    for replica in (laptop, phone):
        copy(tablet, replica, LATER + 2)
        assert members(replica) == devices(old, laptop, phone)
        assert tablet.device_id not in peers(replica)


def test_who_never_went_over_is_not_revoked_by_the_older_person():
    old, laptop, phone, tablet = group()
    belonging.revoke(laptop, phone.device_id, LATER)
    taken(old, phone, tablet)
    meet(laptop, tablet, LATER + 1)
    belonging.revoke(old, laptop.device_id, LATER + 2)
    for replica in (laptop, tablet):
        copy(old, replica, LATER + 3)
        assert not belonging.revoke_too(replica, LATER + 3)
        assert members(replica) == devices(laptop, tablet)


def test_what_a_revoked_device_says_stays_out_of_its_person_s_own_logs_whatever_an_older_person_says():
    # The lost device founded the person; its holder's older home revokes the one that revoked it.
    old, laptop, phone, _ = group()
    log = conversation_of(phone, "of laptop")
    belonging.revoke(phone, laptop.device_id, LATER)
    claimed = old.log(person_of(old).log)
    for index in (1, 2):
        belonging.admit(old, peer_of(index), LATER)
    (n,) = laptop.add_logs([(LogKind.PERSON, claimed.keys)])
    copy(old, laptop, LATER)
    laptop.write(n, [Draft(Kind.DEVICE, record_of(1), LATER)], LATER)
    copy(laptop, old, LATER)
    belonging.revoke(old, phone.device_id, LATER)
    phone.add_logs([(LogKind.PERSON, claimed.keys)])
    write(laptop, conversation_of(laptop, "of laptop"), Kind.MESSAGE, text("after"), LATER)
    for giver in (old, laptop):
        copy(giver, phone, LATER + 1)
    assert texts_of(phone, log) == []
    assert laptop.device_id not in members(phone)
    assert findings_in(phone) == []


def test_its_conversations_with_others_go_on_without_the_older_person():
    old, laptop, phone, tablet = group()
    bob = home(4)
    accept(laptop, bob)
    topic = conversation(laptop, bob)
    for _ in range(2):
        all_meet([laptop, bob])
        meet(laptop, tablet)
        meet(laptop, phone)
    say(phone, topic, "of the phone", LATER)
    meet(phone, laptop, LATER)
    belonging.revoke(laptop, phone.device_id, LATER)
    taken(old, phone, tablet)
    # Bob hears of the older person before he hears of the revocation.
    session(tablet, bob, LATER + 1)
    session(phone, bob, LATER + 1)
    for _ in range(2):
        meet(laptop, tablet, LATER + 2)
        session(laptop, bob, LATER + 2)
        session(tablet, bob, LATER + 2)
    for replica in (laptop, tablet, bob):
        say(replica, topic, f"of {len(peers(replica))}", LATER + 3)
    for _ in range(2):
        meet(laptop, tablet, LATER + 3)
        session(laptop, bob, LATER + 3)
        session(tablet, bob, LATER + 3)
    shown = [sorted(str(t) for t in texts_of(r, log_of(r, topic))) for r in (laptop, tablet, bob)]
    assert shown[0] == shown[1] == shown[2]
    assert len(shown[0]) == 4
    assert "of the phone" in shown[0]
    assert bob.people.subject_of(tablet.device_id) == laptop.people.subject()
    for replica in (laptop, tablet, bob):
        assert readers(replica, log_of(replica, topic)) == devices(laptop, tablet, bob)
        assert findings_in(replica) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_joins_and_revokes_nobody_writes_for_a_revoked_device_and_who_meet_agree(seed: int):
    joining = Joining(seed, meet)
    joining.run()
    joining.check()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_whoever_joins_and_revokes_2000_times(part: int):
    for seed in range(1000 + part * 500, 1500 + part * 500):
        joining = Joining(seed, meet)
        joining.run()
        joining.check()
