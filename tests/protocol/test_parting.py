"""Who was removed from a conversation is told so by the ruling itself, and hears nothing that is after it."""

from __future__ import annotations

import pytest

from mlog.log import belonging, ruling
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.entry import unseal
from mlog.log.parting import Parting, is_told_by, partings, take_parting
from mlog.log.replica import Replica
from mlog.protocol import wire
from mlog.protocol.events import Committed
from tests.log.conversing import (
    accept,
    expel,
    log_of,
    membership_of,
    met_by_a_conversation,
    person,
    say,
    session,
)
from tests.log.persons import copy, home, meet, person_of, sealed_of, texts_of, trust
from tests.log.support import START_MS
from tests.protocol.pair import Pair
from tests.protocol.test_sharing import rest

REMOVED_MS = START_MS + 1000


def role(replica: Replica, topic: bytes) -> Role:
    return replica.people.role(log_of(replica, topic))


def peers(replica: Replica) -> set[bytes]:
    return {peer.device for peer in replica.store.peers()}


def talk() -> tuple[Replica, Replica, Replica, bytes]:
    """Ann knows Bob and Carol, who know each other from her conversation only."""
    ann, bob, carol, topic = met_by_a_conversation()
    session(bob, carol)
    assert carol.device_id in peers(bob)
    return ann, bob, carol, topic


def hand_over(giver: Replica, taker: Replica) -> list[bool]:
    """What the giver tells the taker, without a session."""
    over: list[bool] = []
    for parting in partings(giver, taker.device_id):
        topic = giver.log(parting.log).keys.topic
        log = log_of(taker, topic)
        assert is_told_by(taker, log, giver.device_id)
        over.append(take_parting(taker, log, parting.entries, REMOVED_MS))
    return over


# -- in sessions -----------------------------------------------------------------------------


@pytest.mark.parametrize("leads", [0, 1])
def test_who_is_removed_while_connected_is_told_before_the_session_ends(leads: int):
    ann, bob, _, topic = talk()
    pair = Pair(ann, bob)
    pair.connect(pair.ends[leads])
    rest(pair)
    expel(ann, topic, bob, REMOVED_MS)
    say(ann, topic, "of him", REMOVED_MS)
    before = len(pair.a.sent)
    pair.handle(pair.a, Committed())
    rest(pair)
    assert [type(message) for message in pair.a.sent[before:]][:1] == [wire.Parting]
    assert not [m for m in pair.a.sent[before:] if isinstance(m, wire.Entries)]
    assert role(bob, topic) == Role.NONE
    assert membership_of(bob, topic).removed_by(bob.people.subject()) is not None
    assert texts_of(bob, log_of(bob, topic)) == []
    assert [notice.log for notice in pair.b.told("parted")] == [log_of(bob, topic)]
    # They are contacts: they meet again, and nothing comes of it.
    pair.connect()
    rest(pair)
    assert not pair.a.closed[1:]
    assert ann.device_id in peers(bob)


@pytest.mark.parametrize("leads", [0, 1])
def test_who_was_away_is_told_by_any_member_and_then_connects_no_more(leads: int):
    ann, bob, carol, topic = talk()
    expel(ann, topic, carol, REMOVED_MS)
    session(ann, bob, REMOVED_MS)
    say(bob, topic, "of her", REMOVED_MS)
    assert carol.device_id in peers(bob), "so that she can be told"
    pair = Pair(bob, carol)
    pair.connect(pair.ends[leads])
    rest(pair)
    assert role(carol, topic) == Role.NONE
    assert not pair.a.said(wire.Entries, wire.Grant)
    assert texts_of(carol, log_of(carol, topic)) == []
    assert carol.device_id not in peers(bob)
    assert bob.device_id not in peers(carol)


def test_a_removal_that_came_in_a_bundle_with_what_is_beside_it_proves_itself():
    ann, bob, carol, topic = talk()
    say(ann, topic, "the last that she misses", REMOVED_MS)
    expel(ann, topic, carol, REMOVED_MS)
    say(ann, topic, "of her", REMOVED_MS)
    pair = Pair(ann, bob)
    pair.connect()
    rest(pair)
    # Not by the entries around it, of which she is given none.
    pair = Pair(bob, carol)
    pair.connect()
    rest(pair)
    assert role(carol, topic) == Role.NONE
    assert texts_of(carol, log_of(carol, topic)) == []


def test_who_leaves_is_told_nothing():
    ann, bob, carol, topic = talk()
    ruling.leave(carol, log_of(carol, topic), REMOVED_MS)
    session(ann, carol, REMOVED_MS)
    session(ann, bob, REMOVED_MS)
    assert partings(bob, carol.device_id) == []
    assert carol.device_id not in peers(bob)


def test_who_is_let_in_again_is_told_nothing():
    ann, bob, carol, topic = talk()
    expel(ann, topic, carol, REMOVED_MS)
    ruling.add(ann, log_of(ann, topic), [person(ann, carol)], REMOVED_MS + 1)
    session(ann, bob, REMOVED_MS + 1)
    assert partings(bob, carol.device_id) == []
    pair = Pair(bob, carol)
    pair.connect()
    rest(pair)
    assert not pair.a.said(wire.Parting)
    assert role(carol, topic) == Role.MEMBER


def test_a_device_that_is_revoked_while_connected_is_cut_off_and_not_told():
    # A contact may know no other device of the person, and hears of the others by this one.
    desk, phone = home(0), home(1)
    trust(desk, 0, phone, 1)
    meet(desk, phone)
    pair = Pair(desk, phone)
    pair.connect()
    rest(pair)
    belonging.revoke(desk, phone.device_id, REMOVED_MS)
    before = len(pair.a.sent)
    pair.handle(pair.a, Committed())
    rest(pair)
    assert pair.a.sent[before:] == []
    assert not phone.people.is_revoked(phone.device_id)
    assert not pair.a.node._sessions


# -- what goes over --------------------------------------------------------------------------


def test_what_the_removal_rests_on_goes_along():
    """Bob became an admin, and others came and went, after Carol heard anything."""
    ann, bob, carol, topic = talk()
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, REMOVED_MS - 9)
    dan = home(3)
    accept(ann, dan)
    ruling.add(ann, log_of(ann, topic), [person(ann, dan)], REMOVED_MS - 8)
    session(ann, bob, REMOVED_MS - 7)
    expel(bob, topic, carol, REMOVED_MS)
    assert hand_over(bob, carol) == [True]
    assert role(carol, topic) == Role.NONE


def test_nothing_goes_over_but_rulings_and_keys_from_before_that_were_for_the_removed():
    ann, bob, carol, topic = talk()
    say(ann, topic, "before", REMOVED_MS - 1)
    expel(ann, topic, carol, REMOVED_MS)
    say(ann, topic, "after", REMOVED_MS + 1)
    session(ann, bob, REMOVED_MS + 1)
    expel(ann, topic, bob, REMOVED_MS + 2)
    (parting,) = partings(ann, carol.device_id)
    there = carol.log(log_of(carol, topic)).keys
    opened = [unseal(there, sealed.outer, sealed.body) for sealed in parting.entries]
    kinds = {o.header.kind for o in opened if o.header is not None}
    assert None not in {o.header for o in opened}, "all of it is under epochs that she had"
    assert kinds <= {Kind.MEMBER, Kind.KEY}
    known = {row.id for row in carol.store.arrivals(log_of(carol, topic), 0, 1000)}
    assert len({sealed.id for sealed in parting.entries} - known) == 1, "what is new is her removal"


def test_a_removal_by_who_could_not_remove_says_nothing():
    _, bob, carol, topic = talk()
    log = log_of(bob, topic)
    joined = next(j for j in membership_of(bob, topic).joined() if j.subject == carol.device_id)
    with bob.transaction():
        ruling._end(bob, log, joined, REMOVED_MS)
    row = bob.store.arrivals(log, 0, 1000)[-1]
    assert row.kind == Kind.MEMBER
    parting = Parting(log, (sealed_of(bob.log(log), row),))
    assert not take_parting(carol, log_of(carol, topic), parting.entries, REMOVED_MS)
    assert carol.store.find(log_of(carol, topic), [row.id])
    assert role(carol, topic) == Role.MEMBER


def test_what_is_no_ruling_is_not_taken():
    ann, _, carol, topic = talk()
    log = log_of(ann, topic)
    row = say(ann, topic, "by another door", REMOVED_MS)
    assert not take_parting(carol, log_of(carol, topic), [sealed_of(ann.log(log), row)], REMOVED_MS)
    assert not carol.store.find(log_of(carol, topic), [row.id])


def test_who_never_belonged_to_it_tells_nobody():
    ann, bob, carol, topic = talk()
    stranger = home(4)
    accept(carol, stranger)
    assert not is_told_by(carol, log_of(carol, topic), stranger.device_id)
    assert not is_told_by(carol, person_of(carol).log, ann.device_id)
    assert is_told_by(carol, log_of(carol, topic), bob.device_id)


def test_other_devices_of_the_removed_learn_it_from_the_first():
    ann, bob, carol, topic = talk()
    phone = home(3)
    trust(carol, 2, phone, 3)
    meet(carol, phone)
    session(ann, carol)
    session(ann, bob)
    expel(ann, topic, carol, REMOVED_MS)
    session(ann, bob, REMOVED_MS)
    assert {carol.device_id, phone.device_id} <= peers(bob)
    pair = Pair(bob, carol)
    pair.connect()
    rest(pair)
    assert not {carol.device_id, phone.device_id} & peers(bob)
    copy(carol, phone, REMOVED_MS)
    assert role(phone, topic) == Role.NONE
