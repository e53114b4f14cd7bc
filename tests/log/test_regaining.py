"""A home becomes a device of a person by the log alone, which another person's device holds."""

from __future__ import annotations

import pytest

from mlog import limits
from mlog.adapters.keystore import SystemEntropy
from mlog.errors import LimitExceeded, UserError
from mlog.log import belonging, bodies, regaining
from mlog.log.bodies import Kind
from mlog.log.contacts import Contact
from mlog.log.crypto import LogKeys, Vault
from mlog.log.fold import Draft
from mlog.log.ids import DeviceId, Incarnation
from mlog.log.memory import MemoryStore
from mlog.log.peers import PeerRow
from mlog.log.phrase import Phrase
from mlog.log.replica import Replica
from mlog.log.store import LogKind
from tests.log.conversing import LATER
from tests.log.persons import copy, findings_in, home, peer_of, person_of
from tests.log.support import device_keys

NEW = 5
PHRASE = Phrase(bytes(32)).keys


def ann() -> Replica:
    """A person with a phrase."""
    replica = home(0)
    row = PeerRow(
        device=PHRASE.id, name="phrase", noise=PHRASE.noise_public, hpke=PHRASE.hpke_public, own=True
    )
    belonging.admit(replica, row, LATER, phrase=True)
    before, person = replica.people.standing(), person_of(replica)
    record = bodies.Device(name="phrase", person=person.name, noise=row.noise, hpke=row.hpke)
    replica.as_device(PHRASE).write(person.log, [Draft(Kind.DEVICE, record, LATER)], LATER)
    belonging.follow(replica, before, LATER)
    return replica


def phrase_of(replica: Replica) -> Replica:
    """The phrase's device in memory, with the person log as somebody holds it."""
    entropy = SystemEntropy()
    taker = Replica(MemoryStore(), PHRASE, Vault(bytes(32)), entropy, Incarnation(entropy.random(8)))
    keys = replica.log(person_of(replica).log).keys
    given = LogKeys(keys.secret)
    for epoch in keys.epochs[1:]:
        given.add_epoch(epoch)
    taker.add_logs([(LogKind.PERSON, given)])
    taker.people.forget()
    copy(replica, taker, LATER)
    return taker


def regained(phrase: Replica, new: Replica) -> None:
    regaining.let_in(phrase, peer_of(NEW), device_keys(NEW), LATER)
    regaining.take_over(phrase, new, person_of(phrase).log, LATER)


def ben() -> Contact:
    return Contact(topic=person_of(home(1)).topic, name="Ben", device=device_keys(1).id, since_ms=LATER)


def machines(replica: Replica) -> list[tuple[DeviceId, bool]]:
    return [(member.device, member.confirmed) for member in person_of(replica).machines]


def test_the_home_is_a_confirmed_device_of_the_person_and_can_write_its_log() -> None:
    lost = ann()
    phrase, new = phrase_of(lost), home(NEW)
    regained(phrase, new)
    expected = [(device_keys(0).id, True), (device_keys(NEW).id, True)]
    assert machines(phrase) == machines(new) == expected
    assert person_of(new).topic == person_of(lost).topic
    assert person_of(new).member(PHRASE.id) is not None
    belonging.rename(new, device_keys(0).id, "lost", LATER)
    # The lost one turns up, and others who know the log are told by what was handed on.
    copy(new, lost, LATER)
    assert machines(lost) == expected
    assert findings_in(new) == []


def test_to_be_let_in_again_writes_nothing() -> None:
    lost = ann()
    phrase, new = phrase_of(lost), home(NEW)
    regained(phrase, new)
    before = [replica.store.next_n() for replica in (phrase, new)]
    regained(phrase, new)
    copy(phrase, lost, LATER)
    regained(phrase_of(lost), new)
    assert [replica.store.next_n() for replica in (phrase, new)] == before


def test_contacts_begin_with_a_private_log_for_all_devices() -> None:
    phrase, new = phrase_of(ann()), home(NEW)
    regained(phrase, new)
    assert new.people.private_log() is None
    regaining.meet(new, ben(), LATER)
    [contact] = new.people.contacts().values()
    assert contact.name == "Ben"
    before = new.store.next_n()
    regaining.meet(new, ben(), LATER)
    assert new.store.next_n() == before


def test_a_person_with_as_many_devices_as_there_may_be_lets_nobody_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    phrase = phrase_of(ann())
    monkeypatch.setattr(limits, "KEY_RECIPIENTS_MAX", 2)
    before = phrase.store.next_n()
    with pytest.raises(LimitExceeded):
        regaining.let_in(phrase, peer_of(NEW), device_keys(NEW), LATER)
    assert phrase.store.next_n() == before


def test_a_home_with_as_many_logs_as_there_may_be_takes_nothing_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    phrase, new = phrase_of(ann()), home(NEW)
    monkeypatch.setattr(limits, "OFFERED_LOGS_MAX", len(new.store.logs()))
    with pytest.raises(UserError, match="Recover into a new one"):
        regained(phrase, new)
    assert machines(new) == [(device_keys(NEW).id, True)]
