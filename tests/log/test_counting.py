"""Who begins very many epochs fills up what is kept, and keeps nobody from beginning one that all read."""

from __future__ import annotations

import random

import pytest

from mlog import limits
from mlog.errors import UserError
from mlog.log import belonging, bodies, entry, grants, ruling
from mlog.log.bodies import Kind
from mlog.log.counting import counting_keys, fairly, names_stated
from mlog.log.crypto import EpochKeys
from mlog.log.cuts import NO_CUTS
from mlog.log.epochs import key_body, known_epochs, stated_epochs
from mlog.log.fold import Draft
from mlog.log.ids import Incarnation
from mlog.log.replica import Replica
from mlog.log.store import EntryRow, Reason
from tests.log.conversing import (
    LATER,
    accept,
    acquainted,
    all_meet,
    conversation,
    expel,
    log_of,
    person,
    say,
    session,
    settle,
    transfer,
)
from tests.log.persons import BINDING, findings_in, home, meet, person_of, sealed_of, texts_of, trust, write
from tests.log.support import START_MS, text

MOST = 12


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a thousand epochs is shown with a dozen."""
    monkeypatch.setattr(limits, "EPOCHS_MAX", MOST)


def flood(hostile: Replica, log: int, victims: list[Replica], count: int, number: int = 1000) -> None:
    """Key entries of a hostile device, each of another epoch, in a fresh chain."""
    state = hostile.log(log)
    readers = [(victim.device_id, victim.device_keys.hpke_public) for victim in (hostile, *victims)]
    incarnation = Incarnation(hostile.entropy.random(8))
    with hostile.transaction():
        drafts = [
            Draft(
                Kind.KEY,
                key_body(
                    hostile.entropy,
                    state.keys.topic,
                    hostile.device_id,
                    readers,
                    number + n,
                    hostile.entropy.random(32),
                ),
                START_MS + 400,
            )
            for n in range(count)
        ]
        hostile.appender.append(state, incarnation, drafts, START_MS + 400, state.keys.current)
    hostile.people.forget()


def shown(replica: Replica, topic: bytes) -> list[str | None]:
    return texts_of(replica, log_of(replica, topic))


def talk() -> tuple[Replica, Replica, Replica, bytes]:
    homes = acquainted(3)
    topic = conversation(*homes)
    all_meet(homes, START_MS + 350)
    ann, bob, carol = homes
    return ann, bob, carol, topic


def known(replica: Replica, topic: bytes) -> int:
    keys = replica.log(log_of(replica, topic)).keys
    return len(keys.epochs) + len(keys.granted)


def removed_and_goes_on(ann: Replica, bob: Replica, carol: Replica, topic: bytes) -> None:
    """Ann removes Carol: she and Bob write and read on, and Carol opens nothing of it."""
    expel(ann, topic, carol)
    session(ann, bob, LATER)
    row = say(ann, topic, "without her", LATER)
    session(ann, bob, LATER)
    say(bob, topic, "I read that", LATER + 1)
    session(ann, bob, LATER + 1)
    for replica in (ann, bob):
        assert shown(replica, topic) == ["without her", "I read that"]
        assert findings_in(replica) == []
    theirs = ann.log(log_of(ann, topic))
    carol.receive(log_of(carol, topic), [sealed_of(theirs, row)], LATER)
    settle(carol)
    assert shown(carol, topic) == []


@pytest.mark.parametrize("count", [MOST - 2, MOST + 5, 3 * MOST])
def test_who_fills_a_conversation_with_epochs_can_be_removed(count: int):
    ann, bob, carol, topic = talk()
    flood(carol, log_of(carol, topic), [ann, bob], count)
    all_meet([ann, bob, carol], START_MS + 500)
    assert known(bob, topic) >= MOST
    removed_and_goes_on(ann, bob, carol, topic)


def test_who_fills_it_under_devices_of_nobody_can_be_removed():
    ann, bob, carol, topic = talk()
    for index in (4, 5):
        stranger = home(index)
        (log,) = stranger.add_logs(
            [(carol.log(log_of(carol, topic)).kind, carol.log(log_of(carol, topic)).keys)]
        )
        flood(stranger, log, [ann, bob], MOST)
        rows = stranger.store.arrivals(log, 0, 100)
        for replica in (ann, bob):
            sealed = [sealed_of(stranger.log(log), row) for row in rows]
            replica.receive(log_of(replica, topic), sealed, START_MS + 500)
            settle(replica)
    assert known(ann, topic) >= MOST
    assert known(bob, topic) >= MOST
    removed_and_goes_on(ann, bob, carol, topic)


def test_who_fills_it_by_grants_of_epochs_that_there_are_not_can_be_removed():
    ann, bob, carol, topic = talk()
    keys = carol.log(log_of(carol, topic)).keys
    made_up = tuple((2**50 + n, bytes([n]) * 32) for n in range(1, MOST + 1))
    granted = [grants._Granted("conversation", keys.topic, keys.secret, made_up)]
    for victim in (ann, bob):
        sealed = grants._seal_grant(carol, victim.device_id, victim.device_keys.hpke_public, granted, BINDING)
        assert sealed is not None
        grants.accept_grant(victim, carol.device_id, sealed, BINDING, START_MS + 500)
        assert known(victim, topic) == MOST
        assert victim.log(log_of(victim, topic)).keys.granted, (
            "nothing is tried with what no key entry states"
        )
    removed_and_goes_on(ann, bob, carol, topic)


def test_a_granted_epoch_is_taken_beyond_the_bound_if_a_key_entry_that_counts_states_it():
    ann, bob, carol, topic = talk()
    flood(carol, log_of(carol, topic), [ann, bob], MOST)
    all_meet([ann, bob, carol], START_MS + 500)
    log = log_of(ann, topic)
    # A key entry for others than Bob, as of somebody who had not heard of him.
    ann._begin_epoch(ann.log(log), list(person_of(ann).members), START_MS + 600)
    secret = ann.log(log).keys.current
    transfer(ann, bob, START_MS + 600)
    assert bob.log(log_of(bob, topic)).keys.lacks(secret)
    assert bob.learn_epochs(log_of(bob, topic), [secret, EpochKeys(2**40, bytes(32))])
    assert not bob.log(log_of(bob, topic)).keys.lacks(secret)
    assert bob.log(log_of(bob, topic)).keys.lacks(EpochKeys(2**40, bytes(32)))


def test_a_contact_that_fills_a_person_log_keeps_nobody_from_revoking_a_device():
    ann, laptop, phone, bob = home(0), home(1), home(2), home(3)
    trust(ann, 0, laptop, 1)
    meet(ann, laptop)
    trust(ann, 0, phone, 2)
    meet(ann, phone)
    meet(laptop, phone)
    accept(ann, bob)
    flood(bob, person(bob, ann).log, [ann, laptop, phone], 2 * MOST, 2**50)
    session(ann, bob, START_MS + 500)
    meet(ann, laptop)
    assert len(ann.log(person_of(ann).log).keys.epochs) >= MOST
    belonging.revoke(ann, phone.device_id, LATER)
    meet(ann, laptop, LATER)
    belonging.rename(ann, laptop.device_id, "attic", LATER + 1)
    meet(ann, laptop, LATER + 1)
    assert [m.name for m in person_of(laptop).members][1] == "attic"
    assert findings_in(laptop) == []


def test_an_epoch_that_a_contact_began_in_ones_person_log_is_not_written_under():
    ann, bob = acquainted(2)
    flood(bob, person(bob, ann).log, [ann], 1, 2**50)
    session(ann, bob, START_MS + 500)
    state = ann.log(person_of(ann).log)
    assert state.keys.current.number == 2**50
    belonging.rename(ann, ann.device_id, "attic", LATER)
    row = next(r for r in reversed(ann.store.arrivals(state.n, 0, 100)) if r.kind == Kind.ADMIT)
    assert _epoch_of(ann, state.n, row).number != 2**50


def test_where_the_numbers_are_used_up_an_epoch_that_is_over_does_not_come_back():
    for seed in range(4):
        ann, bob, phone = home(0), home(1), home(2)
        accept(ann, bob)
        topic = conversation(ann, bob)
        session(ann, bob)
        flood(bob, log_of(bob, topic), [ann], 1, limits.SEQ_MAX)
        session(ann, bob, START_MS + 500 + seed)
        ann.begin_epoch(log_of(ann, topic), LATER, fresh=True)
        before = say(ann, topic, "for the two of us", LATER)
        trust(ann, 0, phone, 2, LATER)
        meet(ann, phone, LATER)
        belonging.revoke(ann, phone.device_id, LATER + 1)
        after = say(ann, topic, "and again", LATER + 2)
        tags = [_epoch_of(ann, log_of(ann, topic), row) for row in (before, after)]
        assert [epoch.number for epoch in tags] == [limits.SEQ_MAX] * 2
        assert phone.log(log_of(phone, topic)).keys.lacks(tags[1])


def test_an_epoch_that_a_revoked_device_began_later_is_not_written_under():
    ann, laptop, phone = home(0), home(1), home(2)
    trust(ann, 0, laptop, 1)
    meet(ann, laptop)
    trust(ann, 0, phone, 2)
    meet(ann, phone)
    meet(laptop, phone)
    private = ann.people.private_log()
    assert private is not None
    topic = ann.log(private).keys.topic
    belonging.revoke(ann, phone.device_id, LATER)
    flood(phone, log_of(phone, topic), [ann, laptop], 1, 2**50)
    # The laptop has not heard of it yet.
    meet(laptop, phone, LATER)
    meet(ann, laptop, LATER)
    state = ann.log(private)
    assert state.keys.current.number == 2**50
    row = write(
        ann, private, Kind.CONTACT, bodies.Contact(person=bytes(16), name="x", device=bytes(32)), LATER
    )
    assert _epoch_of(ann, private, row).number != 2**50
    ann.rule(private, [Draft(Kind.TITLE, bodies.Title(title="of all that read so far"), LATER)], LATER)
    row = ann.store.arrivals(private, row.n, 10)[-1]
    assert _epoch_of(ann, private, row).number != 2**50


def _epoch_of(replica: Replica, log: int, row: EntryRow) -> EpochKeys:
    fields = entry.parse_outer(row.outer)
    epoch = replica.log(log).keys.epoch_of(fields.salt, fields.tag)
    assert epoch is not None
    return epoch


def test_a_contact_grants_no_epochs_of_ones_own_person_log():
    ann, bob = acquainted(2)
    keys = ann.log(person_of(ann).log).keys
    granted = [grants._Granted("person", keys.topic, keys.secret, ((2**50, bytes([9]) * 32),))]
    sealed = grants._seal_grant(bob, ann.device_id, ann.device_keys.hpke_public, granted, BINDING)
    assert sealed is not None
    before = len(keys.epochs)
    grants.accept_grant(ann, bob.device_id, sealed, BINDING, LATER)
    assert len(ann.log(person_of(ann).log).keys.epochs) == before


@pytest.mark.parametrize("seed", range(4))
def test_which_key_entries_count_does_not_depend_on_the_order_in_which_they_came(seed: int):
    ann, bob, carol, topic = talk()
    log = log_of(carol, topic)
    flood(carol, log, [ann, bob], MOST)
    flood(carol, log, [ann, bob], MOST)
    say(ann, topic, "meanwhile")
    rows = carol.store.arrivals(log, 0, 1000)
    random.Random(seed).shuffle(rows)
    for row in rows:
        bob.receive(log_of(bob, topic), [sealed_of(carol.log(log), row)], START_MS + 500)
    settle(bob)
    there, here = (
        [row.id for row, _ in counting_keys(r.store, log_of(r, topic), r.people.cuts(log_of(r, topic)))]
        for r in (carol, bob)
    )
    assert there == here
    assert len(here) == 2 + MOST
    assert [e.id for e in stated_epochs(bob.store, log_of(bob, topic))] == here[::-1]
    log = log_of(bob, topic)
    names = {name for name, _ in names_stated(bob.store, [row.n for row, _ in counting_keys(bob.store, log)])}
    assert names <= known_epochs(bob.log(log).keys).keys()


def test_of_more_epochs_than_fit_a_grant_has_the_latest_of_each_device():
    ann, bob, carol, topic = talk()
    say(ann, topic, "in an epoch of Ann's")
    own = ann.log(log_of(ann, topic)).keys.current
    flood(carol, log_of(carol, topic), [ann, bob], MOST, 2**40)
    all_meet([ann, bob, carol], START_MS + 500)
    keys = bob.log(log_of(bob, topic)).keys
    assert len(keys.whole) > MOST
    chosen = fairly(bob.store, log_of(bob, topic), NO_CUTS, keys.whole)
    assert len(chosen) == MOST
    assert own.secret in {epoch.secret for epoch in chosen}
    assert [e.number for e in chosen] == sorted(e.number for e in chosen)


def test_who_began_as_many_epochs_as_count_is_told_and_writes_under_none_that_does_not():
    ann, bob = acquainted(2)
    topic = conversation(ann, bob)
    log = log_of(ann, topic)
    for n in range(2 * MOST):
        ann.begin_epoch(log, LATER + n, fresh=True)
    assert len(counting_keys(ann.store, log)) == MOST
    (joined,) = [j for j in _joined(ann, log) if j.subject == bob.device_id]
    ruling.remove(ann, log, joined, LATER + 100)
    with pytest.raises(UserError, match="begin another conversation"):
        write(ann, log, Kind.MESSAGE, text("to nobody"), LATER + 101)


def _joined(replica: Replica, log: int):
    membership = replica.people.membership(log)
    assert membership is not None
    return membership.joined()


def test_what_was_refused_while_there_was_no_room_is_no_gap_once_it_is_taken():
    ann, bob, carol, topic = talk()
    flood(carol, log_of(carol, topic), [ann, bob], 3 * MOST)
    all_meet([ann, bob, carol], START_MS + 500)
    expel(ann, topic, carol)
    session(ann, bob, LATER)
    log = log_of(bob, topic)
    counting = {row.id for row, _ in counting_keys(bob.store, log)}
    refused = {gap.id for gap in bob.store.gaps(log) if gap.reason == Reason.REFUSED}
    assert refused
    assert not refused & counting
