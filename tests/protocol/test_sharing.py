"""Sessions between devices of different persons: what each is given, live, and what it loses at once."""

from __future__ import annotations

import pytest

from mlog import limits
from mlog.log import belonging, ruling
from mlog.log.bodies import Kind
from mlog.log.contacts import Contact, write_contact
from mlog.log.epochs import stated_epochs
from mlog.log.peers import PeerRow
from mlog.log.replica import Replica
from mlog.log.store import LogKind
from mlog.protocol import wire
from mlog.protocol.events import Committed
from tests.log.conversing import conversation, has, log_of, membership_of, person, settle
from tests.log.joining import SEEDS, Joining
from tests.log.persons import begin, copy, home, meet, person_of, texts_of, trust, write
from tests.log.support import START_MS, text
from tests.protocol.pair import End, Pair


def contacts(one: Replica, other: Replica) -> Pair:
    """Two persons that said yes to each other, and have not met since."""
    for here, there in ((one, other), (other, one)):
        own, keys = person_of(there), there.device_keys
        said = Contact(topic=own.topic, name=own.name, device=keys.id, since_ms=START_MS)
        write_contact(here, said, START_MS)
        row = PeerRow(
            device=keys.id, name=own.name, noise=keys.noise_public, hpke=keys.hpke_public, own=False
        )
        here.store.put_peer(row)
    return Pair(one, other)


def rest(pair: Pair) -> None:
    pair.run()
    pair.run(3 * limits.SETTLE_MS)


def committed(pair: Pair, end: End) -> None:
    pair.handle(end, Committed())
    rest(pair)


def shown(end: End, topic: bytes) -> list[str | None]:
    settle(end.replica)
    return texts_of(end.replica, log_of(end.replica, topic))


def say(end: End, topic: bytes, words: str) -> None:
    write(end.replica, log_of(end.replica, topic), Kind.MESSAGE, text(words), START_MS + 900)


@pytest.mark.parametrize("leads", [0, 1])
def test_contacts_give_each_other_their_person_logs_in_the_first_session(leads: int):
    pair = contacts(home(0), home(1))
    pair.connect(pair.ends[leads])
    rest(pair)
    assert not [*pair.a.closed, *pair.b.closed]
    both = {person_of(end.replica).topic for end in pair.ends}
    for end in pair.ends:
        assert {p.topic for p in end.replica.people.persons()} == both
        assert len(end.replica.logs(LogKind.CONVERSATION)) == 1, "its own"


@pytest.mark.parametrize("leads", [0, 1])
@pytest.mark.parametrize("begins", [0, 1])
def test_a_conversation_that_begins_while_connected_reaches_who_is_in_it(leads: int, begins: int):
    pair = contacts(home(0), home(1))
    pair.connect(pair.ends[leads])
    rest(pair)
    end, other = pair.ends[begins], pair.ends[1 - begins]
    topic = conversation(end.replica, other.replica)
    say(end, topic, "hello")
    committed(pair, end)
    assert shown(other, topic) == ["hello"]
    say(other, topic, "hi")
    committed(pair, other)
    assert shown(end, topic) == ["hello", "hi"]
    assert not [*pair.a.closed, *pair.b.closed]


def test_a_conversation_that_somebody_is_added_to_reaches_them_whole():
    pair = contacts(home(0), home(1))
    pair.connect()
    rest(pair)
    topic = conversation(pair.a.replica)
    say(pair.a, topic, "to myself")
    committed(pair, pair.a)
    assert not has(pair.b.replica, topic)
    log = log_of(pair.a.replica, topic)
    ruling.add(pair.a.replica, log, [person(pair.a.replica, pair.b.replica)], START_MS + 950)
    committed(pair, pair.a)
    assert shown(pair.b, topic) == ["to myself"]


@pytest.mark.parametrize("leads", [0, 1])
def test_the_history_is_closed_to_who_is_added_without_it_and_opens_live_when_it_is_granted(leads: int):
    pair = contacts(home(0), home(1))
    pair.connect(pair.ends[leads])
    rest(pair)
    topic = conversation(pair.a.replica)
    say(pair.a, topic, "before")
    log, guest = log_of(pair.a.replica, topic), person(pair.a.replica, pair.b.replica)
    ruling.add(pair.a.replica, log, [guest], START_MS + 950, history=False)
    say(pair.a, topic, "after")
    committed(pair, pair.a)
    assert shown(pair.b, topic) == [None, "after"]
    sent = len(pair.a.sent) + len(pair.b.sent)
    rest(pair)
    assert len(pair.a.sent) + len(pair.b.sent) == sent, "what is closed is not asked for again"
    ruling.add(pair.a.replica, log, [guest], START_MS + 960, history=True)
    committed(pair, pair.a)
    assert shown(pair.b, topic) == ["before", "after"]
    assert not [*pair.a.closed, *pair.b.closed]


def test_who_is_removed_loses_the_session_at_once_and_the_log_in_the_next():
    pair = contacts(home(0), home(1))
    pair.connect()
    rest(pair)
    topic = conversation(pair.a.replica, pair.b.replica)
    committed(pair, pair.a)
    assert has(pair.b.replica, topic)
    log = log_of(pair.a.replica, topic)
    subject = pair.a.replica.people.stand_in(pair.b.replica.device_id)
    joined = next(j for j in membership_of(pair.a.replica, topic).joined() if j.subject == subject)
    ruling.remove(pair.a.replica, log, joined, START_MS + 960)
    say(pair.a, topic, "of him")
    before = len(pair.a.sent)
    pair.handle(pair.a, Committed())
    assert len(pair.a.closed) == 1
    pair.run()
    assert not [m for m in pair.a.sent[before:] if isinstance(m, wire.Entries)]
    pair.connect()
    rest(pair)
    say(pair.b, topic, "am I in?")
    committed(pair, pair.b)
    assert not [m for m in pair.a.sent[before:] if isinstance(m, wire.Entries)]
    assert shown(pair.a, topic) == ["of him"]
    assert shown(pair.b, topic) == [], "it knows that what it writes counts for nothing"
    assert len(pair.a.closed) == 1


def test_a_device_that_a_contact_pairs_is_accepted_and_told_of():
    pair = contacts(home(0), home(1))
    pair.connect()
    rest(pair)
    phone = home(2)
    trust(pair.b.replica, 1, phone, 2)
    meet(pair.b.replica, phone)
    committed(pair, pair.b)
    assert [notice.detail for notice in pair.a.told("accepted")] == ["person 1 (phone)"]
    assert phone.device_id in {peer.device for peer in pair.a.store.peers()}


def test_a_device_whose_revocation_comes_by_its_own_session_loses_that_at_once():
    desk, laptop, phone = home(0), home(1), home(2)
    for index, device in ((1, laptop), (2, phone)):
        trust(desk, 0, device, index)
        meet(desk, device)
    meet(laptop, phone)
    belonging.revoke(desk, laptop.device_id, START_MS + 500)
    copy(desk, laptop, START_MS + 500)
    pair = Pair(phone, laptop)
    pair.connect()
    rest(pair)
    assert phone.people.is_revoked(laptop.device_id)
    assert not pair.a.node._sessions


def test_whom_a_revoked_device_took_along_to_an_older_person_comes_back_in_a_session():
    old, laptop, phone, tablet = gone_over(by=2)
    belonging.revoke(laptop, phone.device_id, START_MS + 1000)
    assert person_of(tablet).founder == old.device_id
    pair = Pair(laptop, tablet)
    pair.connect()
    rest(pair)
    for end, other in zip(pair.ends, reversed(pair.ends), strict=True):
        assert {m.device for m in person_of(end.replica).members} == {laptop.device_id, tablet.device_id}
        assert {p.device for p in end.replica.store.peers()} == {other.replica.device_id}
        log = begin(end.replica, "later")
        topic = end.replica.log(log).keys.topic
        write(end.replica, log, Kind.MESSAGE, text("for both"), START_MS + 2000)
        committed(pair, end)
        assert shown(other, topic) == ["for both"]


def test_a_device_that_the_person_it_came_from_revoked_is_revoked_in_a_session_where_it_went():
    old, laptop, phone, tablet = gone_over(by=1)
    belonging.revoke(tablet, phone.device_id, START_MS + 1000)
    for one, other in ((laptop, tablet), (laptop, old)):
        pair = Pair(one, other)
        pair.connect()
        rest(pair)
    for replica in (old, laptop, tablet):
        person = person_of(replica)
        assert {m.device for m in person.members} == {d.device_id for d in (old, laptop, tablet)}
    assert phone.device_id in person_of(old).revocations


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_joins_and_revokes_in_sessions_writes_for_no_revoked_device(seed: int):
    def meet(one: Replica, other: Replica, _: int) -> None:
        pair = Pair(one, other)
        pair.connect()
        rest(pair)

    joining = Joining(seed, meet)
    joining.run()
    joining.check()


def gone_over(by: int) -> tuple[Replica, Replica, Replica, Replica]:
    """An old home; and laptop, phone and tablet of a younger person, of which one device takes others to the
    older one: the laptop the phone, or the phone the tablet. The third one has not heard of that."""
    old, laptop, phone, tablet = home(0), home(1), home(2), home(3)
    for index, other in ((2, phone), (3, tablet)):
        trust(laptop, 1, other, index)
    for _ in range(3):
        meet(laptop, phone)
        meet(laptop, tablet)
    first, second = (laptop, phone) if by == 1 else (phone, tablet)
    trust(old, 0, first, by)
    for _ in range(3):
        meet(old, first)
        meet(first, second)
    return old, laptop, phone, tablet


def test_whom_a_device_revoked_it_cuts_in_a_log_that_it_did_not_have():
    desk, laptop, phone = home(0), home(1), home(2)
    for index, other in ((1, laptop), (2, phone)):
        trust(desk, 0, other, index)
    for _ in range(3):
        meet(desk, laptop)
        meet(desk, phone)
    log = begin(phone, "its own")
    topic = phone.log(log).keys.topic
    meet(phone, laptop)
    belonging.revoke(desk, phone.device_id, START_MS + 1000)
    pair = Pair(desk, laptop)
    pair.connect()
    rest(pair)
    write(phone, log, Kind.MESSAGE, text("after"), START_MS + 2000)
    for end in pair.ends:
        copy(phone, end.replica, START_MS + 3000)
        assert shown(end, topic) == []
    state = laptop.log(log_of(laptop, topic))
    (newest, *_) = stated_epochs(laptop.store, state.n, laptop.people.cuts(state.n))
    assert phone.device_id not in newest.recipients
