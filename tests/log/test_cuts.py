"""What a revoked device wrote counts up to its cuts, and nothing after, whatever its date."""

from __future__ import annotations

import copy as copying
from random import Random

import pytest

from mlog import limits
from mlog.errors import UserError
from mlog.log import belonging, bodies, people, trusting
from mlog.log.bodies import Kind
from mlog.log.crypto import EpochKeys
from mlog.log.fold import Draft
from mlog.log.ids import Incarnation
from mlog.log.memory import MemoryStore
from mlog.log.replica import Replica
from mlog.log.store import BodyState, LogKind, Reason, TimelineQuery
from mlog.log.trusting import Outcome
from tests.log.joining import claim_of
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
    replica_of,
    sealed_of,
    texts_of,
    trust,
    write,
)
from tests.log.support import START_MS, device_keys, text

LATER = START_MS + 10_000
PLACE = "of desktop"


def three() -> tuple[Replica, Replica, Replica]:
    """Desktop, laptop and phone of one person, that all know of each other."""
    desktop, laptop, phone = home(0), home(1), home(2)
    trust(desktop, 0, laptop, 1)
    trust(desktop, 0, phone, 2)
    for _ in range(3):
        meet(desktop, laptop)
        meet(desktop, phone)
    return desktop, laptop, phone


def admission_of(index: int) -> bodies.Admit:
    record = record_of(index)
    return bodies.Admit(device=device_keys(index).id, name=record.name, noise=record.noise, hpke=record.hpke)


def say(replica: Replica, words: str, now: int = START_MS + 300) -> None:
    write(replica, conversation_of(replica, PLACE), Kind.MESSAGE, text(words), now)


def shown(replica: Replica) -> list[str | None]:
    return texts_of(replica, conversation_of(replica, PLACE))


def forced(giver: Replica, taker: Replica, now: int = LATER) -> None:
    """Bytes that reach a replica by whatever way, although no session would carry them."""
    copy(giver, taker, now)


def test_a_revoked_device_is_no_member_and_no_peer():
    desktop, laptop, phone = three()
    belonging.revoke(desktop, phone.device_id, LATER)
    meet(desktop, laptop, LATER)
    for replica in (desktop, laptop):
        assert {m.name for m in person_of(replica).members} == {"desktop", "laptop"}
        assert phone.device_id not in {peer.device for peer in replica.store.peers()}
        assert replica.people.is_own(phone.device_id)


def test_what_it_wrote_before_stays_and_what_it_writes_after_says_nothing():
    desktop, laptop, phone = three()
    say(phone, "before")
    meet(desktop, phone)
    belonging.revoke(desktop, phone.device_id, LATER)
    say(phone, "after", LATER + 1)
    say(phone, "with an old date", START_MS)
    for replica in (desktop, laptop):
        meet(desktop, laptop, LATER)
        forced(phone, replica)
        assert shown(replica) == ["before"]
        assert findings_in(replica) == []
    assert {row.id for row in desktop.store.arrivals(conversation_of(desktop, PLACE), 0, 1000)} == {
        row.id for row in laptop.store.arrivals(conversation_of(laptop, PLACE), 0, 1000)
    }


def test_it_is_cut_later_in_a_log_that_the_one_who_revoked_it_did_not_have():
    desktop, laptop, phone = three()
    log = begin(phone, "its own")
    write(phone, log, Kind.MESSAGE, text("before"), LATER)
    meet(phone, laptop, LATER)
    belonging.revoke(desktop, phone.device_id, LATER)
    for _ in range(2):
        meet(desktop, laptop, LATER)
    there = conversation_of(desktop, "its own")
    assert belonging.cut_later(desktop, [there], LATER)
    assert not belonging.cut_later(desktop, [there], LATER)
    meet(desktop, laptop, LATER)
    write(phone, log, Kind.MESSAGE, text("after"), LATER + 1)
    for replica in (desktop, laptop):
        forced(phone, replica)
        assert texts_of(replica, conversation_of(replica, "its own")) == ["before"]
        assert findings_in(replica) == []
    write(desktop, there, Kind.MESSAGE, text("not for it"), LATER + 2)
    forced(desktop, phone)
    assert "not for it" not in texts_of(phone, log)


def test_it_is_cut_once_in_a_log_however_much_others_say_of_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "STORE_ROWS_MAX", 20)
    desktop, laptop, phone = three()
    log = begin(phone, "its own")
    false = bodies.Revoke(device=phone.device_id, by=bytes(32).hex())
    phone.write(log, [Draft(Kind.REVOKE, false, START_MS)] * 40, START_MS)
    meet(phone, laptop, LATER)
    belonging.revoke(desktop, phone.device_id, LATER)
    for _ in range(2):
        meet(desktop, laptop, LATER)
    there = [conversation_of(desktop, "its own")]
    assert [belonging.cut_later(desktop, there, LATER) for _ in range(3)] == [True, False, False]


def test_it_is_not_cut_in_a_log_of_which_it_has_no_secret():
    desktop, laptop, phone = three()
    belonging.revoke(desktop, phone.device_id, LATER)
    meet(desktop, laptop, LATER)
    begin(laptop, "begun later")
    meet(desktop, laptop, LATER)
    assert not belonging.cut_later(desktop, [conversation_of(desktop, "begun later")], LATER)


def test_what_came_before_the_revocation_was_heard_of_is_shown_no_more():
    desktop, laptop, phone = three()
    say(phone, "known to the desktop")
    meet(desktop, phone)
    say(phone, "known to the laptop only")
    forced(phone, laptop)
    assert "known to the laptop only" in shown(laptop)
    belonging.revoke(desktop, phone.device_id, LATER)
    meet(desktop, laptop, LATER)
    assert shown(laptop) == shown(desktop) == ["known to the desktop"]
    assert findings_in(laptop) == findings_in(desktop) == []
    log = conversation_of(laptop, PLACE)
    assert laptop.store.count(log, frozenset({Kind.MESSAGE})) == 1


def test_a_chain_that_is_begun_after_the_revocation_is_cut_at_nothing():
    desktop, _, phone = three()
    belonging.revoke(desktop, phone.device_id, LATER)
    phone.appender.incarnation = Incarnation(b"afresh!!")
    say(phone, "from a new chain", START_MS)
    forced(phone, desktop)
    assert shown(desktop) == []


def test_it_edits_erases_and_titles_nothing_any_more():
    desktop, _, phone = three()
    say(phone, "mine")
    meet(desktop, phone)
    belonging.revoke(desktop, phone.device_id, LATER)
    log = conversation_of(phone, PLACE)
    target = phone.store.timeline(TimelineQuery(log=log, limit=1))[0].message.hex()
    write(phone, log, Kind.EDIT, bodies.Edit(of=target, text="forged"), LATER)
    write(phone, log, Kind.TITLE, bodies.Title(title="Forged"), LATER)
    write(phone, log, Kind.ERASURE, bodies.Erasure(of=target), LATER)
    forced(phone, desktop)
    assert shown(desktop) == ["mine"]
    assert findings_in(desktop) == []


def test_what_is_cut_and_erased_ends_alike_whenever_the_cut_is_heard_of():
    desktop, laptop, phone = three()
    log = conversation_of(phone, PLACE)
    say(phone, "said after the cut")
    target = phone.store.timeline(TimelineQuery(log=log, limit=1))[0].message.hex()
    write(phone, log, Kind.EDIT, bodies.Edit(of=target, text="edited"), START_MS + 301)
    given = [sealed_of(phone.log(log), row) for row in phone.store.arrivals(log, 0, 1000)]
    erasure = write(phone, log, Kind.ERASURE, bodies.Erasure(of=target), START_MS + 302)
    belonging.revoke(desktop, phone.device_id, LATER)
    # One hears of all of it before the cut, the other one after it.
    given.append(sealed_of(phone.log(log), erasure))
    laptop.receive(conversation_of(laptop, PLACE), given, LATER)
    desktop.receive(conversation_of(desktop, PLACE), given, LATER)
    meet(desktop, laptop, LATER)
    kept = []
    for replica in (desktop, laptop):
        held = replica.store.arrivals(conversation_of(replica, PLACE), 0, 1000)
        kept.append({row.id for row in held if row.state == BodyState.OPENED})
        assert shown(replica) == []
        assert findings_in(replica) == []
    assert kept[0] == kept[1]


def test_what_it_changed_after_is_left_out_also_where_a_message_has_its_id():
    desktop, laptop, phone = three()
    belonging.revoke(desktop, phone.device_id, LATER)
    log = conversation_of(phone, PLACE)
    edit = write(phone, log, Kind.EDIT, bodies.Edit(of=bytes(16).hex(), text="forged"), LATER)
    forced(phone, desktop)
    # Whoever imports chooses what a message is known by.
    claim = Draft(Kind.MESSAGE, text("claimed"), LATER, mid=edit.message)
    laptop.write(conversation_of(laptop, PLACE), [claim], LATER)
    meet(desktop, laptop, LATER)
    assert shown(desktop) == ["claimed"]
    assert findings_in(desktop) == []


def test_all_logs_go_on_under_an_epoch_that_it_does_not_have():
    desktop, laptop, phone = three()
    belonging.revoke(desktop, phone.device_id, LATER)
    say(desktop, "among us", LATER)
    meet(desktop, laptop, LATER)
    forced(desktop, phone)
    assert shown(laptop) == ["among us"]
    assert shown(phone) == []
    topics = {state.keys.topic: state for state in phone.logs()}
    for state in people.shared_logs(desktop):
        new = state.keys.current
        assert new.secret not in {e.secret for e in topics[state.keys.topic].keys.epochs}


def test_nobody_goes_on_under_an_epoch_that_whom_another_let_in_and_revoked_may_have_been_granted():
    _, laptop, phone = three()
    log, tablet = conversation_of(laptop, PLACE), home(3)
    before = laptop.log(log).keys.current
    trust(phone, 2, tablet, 3, LATER)
    belonging.revoke(phone, tablet.device_id, LATER)
    # The laptop hears who came and went, and of no epoch that was begun for that.
    person, there = phone.log(person_of(phone).log), person_of(laptop).log
    laptop.learn_epochs(there, person.keys.epochs[1:])
    rows = phone.store.arrivals(person.n, 0, 1000)
    laptop.receive(there, [sealed_of(person, row) for row in rows], LATER)
    say(laptop, "not for the tablet", LATER)
    assert laptop.log(log).keys.current.secret != before.secret
    after = laptop.log(log).keys.current
    say(laptop, "nor this", LATER)
    assert laptop.log(log).keys.current == after


def test_it_cannot_take_the_revocation_back_or_revoke_another():
    desktop, laptop, phone = three()
    belonging.revoke(desktop, phone.device_id, LATER)
    log = next(s.n for s in phone.logs(LogKind.PERSON) if s.keys.topic == person_of(desktop).topic)
    record = peer_of(2)
    body = bodies.Admit(device=record.device, name="again", noise=record.noise, hpke=record.hpke)
    phone.write(log, [Draft(Kind.ADMIT, body, LATER)], LATER)
    phone.write(log, [Draft(Kind.REVOKE, bodies.Revoke(device=laptop.device_id), LATER)], LATER)
    for replica in (desktop, laptop):
        meet(desktop, laptop, LATER)
        forced(phone, replica)
        assert {m.name for m in person_of(replica).members} == {"desktop", "laptop"}


def test_a_device_that_was_revoked_is_not_admitted_again():
    desktop, _, phone = three()
    belonging.revoke(desktop, phone.device_id, LATER)
    with pytest.raises(UserError, match="never trusted again"):
        belonging.admit(desktop, peer_of(2), LATER)


def test_of_two_devices_that_revoke_each_other_the_one_admitted_first_stays():
    desktop, laptop, phone = three()
    meet(laptop, phone)
    belonging.revoke(laptop, phone.device_id, LATER)
    belonging.revoke(phone, laptop.device_id, LATER)
    for one, other in ((desktop, laptop), (desktop, phone), (laptop, phone), (desktop, laptop)):
        forced(one, other)
        forced(other, one)
    assert {m.name for m in person_of(desktop).members} == {"desktop", "laptop"}
    assert {m.name for m in person_of(laptop).members} == {"desktop", "laptop"}


def test_a_device_that_a_younger_person_of_its_own_revoked_too_is_cut_where_the_older_one_says():
    desktop, _, phone = three()
    left = next(s for s in phone.logs(LogKind.PERSON) if s.keys.topic != person_of(desktop).topic)
    phone.write(left.n, [Draft(Kind.ADMIT, admission_of(3), LATER)], LATER)
    accomplice = phone.as_device(device_keys(3))
    accomplice.write(left.n, [Draft(Kind.DEVICE, record_of(3, "person 2"), LATER)], LATER)
    accomplice.write(left.n, [Draft(Kind.REVOKE, bodies.Revoke(device=phone.device_id), LATER)], LATER)
    phone = replica_of(2, phone.store)
    desktop.add_logs([(LogKind.PERSON, phone.log(left.n).keys)])
    say(phone, "mine")
    forced(phone, desktop)
    belonging.revoke(desktop, phone.device_id, LATER)
    assert sum(phone.device_id in person.revocations for person in desktop.people.persons()) == 2
    say(phone, "no more mine", LATER)
    forced(phone, desktop)
    assert shown(desktop) == ["mine"]


def test_whom_a_device_let_in_that_was_revoked_at_the_same_time_is_no_peer_any_more():
    desktop, laptop, phone = three()
    tablet = home(3)
    trust(laptop, 1, tablet, 3, LATER)
    meet(laptop, phone, LATER)
    assert any(peer.device == tablet.device_id and peer.own for peer in phone.store.peers())
    belonging.revoke(desktop, laptop.device_id, LATER)
    meet(desktop, phone, LATER)
    for replica in (desktop, phone):
        assert {m.name for m in person_of(replica).members} == {"desktop", "phone"}
        assert {peer.device for peer in replica.store.peers()} <= {desktop.device_id, phone.device_id}


def test_whom_a_revoked_device_let_in_at_the_same_time_another_one_can_let_in():
    desktop, laptop, _ = three()
    tablet = home(3)
    trust(laptop, 1, tablet, 3, LATER)
    belonging.revoke(desktop, laptop.device_id, LATER)
    meet(laptop, tablet, LATER)
    claim = claim_of(3, tablet)
    assert trusting.trust(desktop, claim, LATER + 1) == Outcome.ADMITTED
    assert trusting.trust(desktop, claim, LATER + 2) == Outcome.KNOWN
    tablet.store.put_peer(peer_of(0))
    meet(desktop, tablet, LATER + 3)
    assert {m.name for m in person_of(tablet).members} == {"desktop", "phone", "tablet"}


def test_a_device_does_not_revoke_itself():
    desktop, _, _ = three()
    with pytest.raises(UserError, match="cannot revoke itself"):
        belonging.revoke(desktop, desktop.device_id, LATER)


def test_a_renamed_device_is_called_so_everywhere():
    desktop, laptop, phone = three()
    belonging.rename(desktop, phone.device_id, "pocket", LATER)
    meet(desktop, laptop, LATER)
    assert {m.name for m in person_of(laptop).members} == {"desktop", "laptop", "pocket"}


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_arrival_changes_nothing(seed: int):
    chance = Random(seed)
    desktop, laptop, phone = three()
    for number in range(6):
        say(chance.choice((desktop, laptop, phone)), f"{number}", START_MS + 300 + number)
        if chance.random() < 0.5:
            meet(desktop, chance.choice((laptop, phone)))
    belonging.revoke(desktop, phone.device_id, LATER)
    say(phone, "late", LATER + 1)
    say(laptop, "on", LATER + 2)
    meet(desktop, laptop, LATER + 3)
    forced(phone, laptop)
    forced(phone, desktop)
    meet(desktop, laptop, LATER + 4)
    other = home(3, MemoryStore())
    other.add_logs([(s.kind, s.keys) for s in desktop.logs()])
    copy(desktop, other, LATER, chance)
    views = [shown(replica) for replica in (desktop, laptop, other)]
    assert views[0] == views[1] == views[2]
    assert "late" not in views[0]
    assert [findings_in(replica) for replica in (desktop, laptop)] == [[], []]
    assert isinstance(desktop.log(1).keys.current, EpochKeys)


def _cloned(phone: Replica) -> Replica:
    """The same device a second time, as of a copied folder: what both write forks its chains."""
    store = MemoryStore()
    assert isinstance(phone.store, MemoryStore)
    store._t = copying.deepcopy(phone.store._t)
    clone = replica_of(2, store)
    clone.appender.incarnation = phone.incarnation
    return clone


@pytest.mark.parametrize("seed", range(20))
def test_the_end_of_one_branch_cuts_the_others_whenever_it_comes(seed: int):
    desktop, laptop, phone = three()
    say(phone, "before the branches")
    meet(desktop, phone)
    meet(desktop, laptop)
    clone = _cloned(phone)
    for number in range(2):
        say(phone, f"known to the desktop {number}")
        say(clone, f"of the other branch {number}")
    forced(clone, laptop)
    meet(desktop, phone)
    belonging.revoke(desktop, phone.device_id, LATER)
    copy(desktop, laptop, LATER, Random(seed))
    copy(laptop, desktop, LATER, Random(seed))
    for replica in (desktop, laptop):
        assert shown(replica) == ["before the branches", "known to the desktop 0", "known to the desktop 1"]
        replica.people.forget()
        assert {finding.reason for finding in findings_in(replica)} == {Reason.FORKED}


def _hand(giver: Replica, taker: Replica, chance: Random, share: float) -> None:
    """Some of what the other lacks, in any order."""
    logs = {state.keys.topic: state for state in giver.logs()}
    for state in taker.logs():
        ours = logs.get(state.keys.topic)
        lacking = giver.store.arrivals(ours.n, 0, 1000) if ours is not None else []
        lacking = [row for row in lacking if not taker.store.find(state.n, [row.id])]
        chance.shuffle(lacking)
        for row in lacking:
            if ours is not None and chance.random() < share:
                taker.receive(state.n, [sealed_of(ours, row)], LATER)
    for state in taker.logs():
        while taker.settle(state.n, LATER):
            pass


@pytest.mark.parametrize("seed", [6, 19, 20, 21, 33, 64, 106, 143, 146])
def test_of_branches_with_holes_counts_the_same_whatever_came_first(seed: int):
    chance = Random(seed)
    desktop, laptop, phone = three()
    say(phone, "before the branches")
    for one, other in ((desktop, phone), (desktop, laptop), (laptop, phone)):
        meet(one, other)
    phones = [phone, *(_cloned(phone) for _ in range(1 + (chance.random() < 0.5)))]
    for number in range(chance.randint(2, 8)):
        writer = chance.choice(phones)
        say(writer, f"{number}", START_MS + 300 + chance.randint(0, 50))
        if chance.random() < 0.3:
            _hand(chance.choice(phones), chance.choice(phones), chance, 0.5)
        if chance.random() < 0.5:
            _hand(writer, chance.choice((desktop, laptop)), chance, 0.6)
    belonging.revoke(desktop, phone.device_id, LATER)
    if chance.random() < 0.5:
        belonging.revoke(laptop, phone.device_id, LATER)
    everybody = [desktop, laptop, *phones]
    for shares in ((0.5, 0.8, 1),) * 3 + ((1,),) * 3:
        for taker in (desktop, laptop):
            for giver in chance.sample(everybody, len(everybody)):
                _hand(giver, taker, chance, chance.choice(shares))
    assert shown(desktop) == shown(laptop)
    for replica in (desktop, laptop):
        replica.people.forget()
        assert {finding.reason for finding in findings_in(replica)} <= {Reason.FORKED}
