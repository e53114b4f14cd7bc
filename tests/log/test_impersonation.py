"""What a member writes in another's name, or at places that nobody reaches, changes nothing for the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest

from mlog import limits
from mlog.adapters.sqlite import SqliteStore
from mlog.log import belonging, entry
from mlog.log.bodies import Kind
from mlog.log.entry import NO_ENTRY, Header, Sealed
from mlog.log.fold import Draft, LogState
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.replica import Replica
from mlog.log.store import EntryRow, LogKind, Store
from tests.log.conversing import LATER, accept, all_meet, conversation, log_of, membership_of, say, session
from tests.log.persons import copy, findings_in, home, meet, peer_of, person_of, record_of, texts_of, trust
from tests.log.support import START_MS

NEVER = b'{"text":"never said"}'


def _world(store: Store | None = None) -> tuple[Replica, Replica, bytes, Header]:
    """Ann, Mallory who is a member too, their conversation, and the next place in Ann's chain."""
    ann = home(0, store)
    mallory = home(1)
    accept(ann, mallory)
    topic = conversation(ann, mallory)
    said = say(ann, topic, "true")
    all_meet([ann, mallory])
    return ann, mallory, topic, _after(ann, topic, said)


def _after(ann: Replica, topic: bytes, row: EntryRow) -> Header:
    header, _ = entry.open_header(ann.log(log_of(ann, topic)).keys, row.outer)
    return _header(header.device, header.incarnation, header.seq + 1, row.id)


def _sealed(state: LogState, header: Header, body: bytes, by: Replica | None = None) -> Sealed:
    """An entry with any header, as a member can seal it; signed by a device or not."""
    epoch = state.keys.current
    stated = msgspec.structs.replace(header, body_size=len(body))
    sealed = entry.seal_entry(state.keys, epoch, 1000, stated, body)
    return sealed if by is None else entry.sign_entry(by.device_keys, epoch, sealed)


def _header(device: DeviceId, incarnation: bytes, seq: int, prev: EntryId = NO_ENTRY) -> Header:
    return Header(Kind.MESSAGE, device, Incarnation(incarnation), seq, prev, START_MS, 0)


def _goes_on(ann: Replica, topic: bytes, place: Header) -> None:
    """Ann's next entry takes its place in her chain, and all that she reads is what she wrote."""
    before = texts_of(ann, log_of(ann, topic))
    after = _after(ann, topic, say(ann, topic, "and so on", LATER))
    assert (after.incarnation, after.seq) == (place.incarnation, place.seq + 1)
    assert texts_of(ann, log_of(ann, topic)) == [*before, "and so on"]
    assert "never said" not in before
    assert ann.store.forks(log_of(ann, topic)) == []
    assert findings_in(ann) == []


@pytest.mark.parametrize("signed", ["unsigned", "signed by the member"])
def test_an_entry_claimed_for_the_next_place_of_another_s_chain_takes_no_place(signed: str):
    ann, mallory, topic, place = _world()
    log = log_of(ann, topic)
    by = None if signed == "unsigned" else mallory
    ann.receive(log, [_sealed(ann.log(log), place, NEVER, by)], LATER)
    _goes_on(ann, topic, place)


@pytest.mark.parametrize("whose", ["victim", "member"])
def test_a_place_that_nobody_reaches_changes_nothing(whose: str):
    ann, mallory, topic, place = _world()
    log = log_of(ann, topic)
    if whose == "victim":
        far = _sealed(ann.log(log), msgspec.structs.replace(place, seq=limits.SEQ_MAX), NEVER)
    else:
        header = _header(mallory.device_id, b"far away", limits.SEQ_MAX, EntryId(bytes([7]) * 32))
        far = _sealed(ann.log(log), header, b'{"text":"from far away"}', mallory)
    assert ann.receive(log, [far], LATER).stored == 1
    _goes_on(ann, topic, place)


def test_an_entry_of_sequence_number_2_to_the_60_is_kept_and_says_nothing(monkeypatch: pytest.MonkeyPatch):
    ann, _, topic, place = _world()
    log = log_of(ann, topic)
    with monkeypatch.context() as hostile:
        hostile.setattr(entry, "_check", lambda _: None)
        far = _sealed(ann.log(log), msgspec.structs.replace(place, seq=2**60), NEVER)
    assert ann.receive(log, [far], LATER).stored == 1
    _goes_on(ann, topic, place)


def _claims(state: LogState, device: DeviceId, count: int) -> Iterator[list[Sealed]]:
    for at in range(0, count, 1000):
        headers = (_header(device, n.to_bytes(8, "big"), 0) for n in range(at, min(at + 1000, count)))
        yield [_sealed(state, header, NEVER) for header in headers]


def _many_incarnations(tmp_path: Path, count: int) -> None:
    store = SqliteStore(tmp_path / "mlog.db")
    ann, _, topic, place = _world(store)
    log = log_of(ann, topic)
    for bundle in _claims(ann.log(log), ann.device_id, count):
        assert ann.receive(log, bundle, LATER).stored == len(bundle)
    started = time.process_time()
    _goes_on(ann, topic, place)
    store.close()
    assert time.process_time() - started < 0.5 + count * 1e-3, "only the check of the whole log looks at them"


def _made_by_the_member(mallory: Replica, topic: bytes, state: LogState, way: str) -> Iterator[Sealed]:
    """Chains without end, or branches of one chain, or one of nothing but holes beside another branch."""
    rulings = membership_of(mallory, topic).heads
    first = msgspec.structs.replace(_header(mallory.device_id, b"forked!!", 0), parents=rulings)
    began = _sealed(state, first, NEVER, mallory)
    if way != "chains":
        yield began
    for n in count():
        body = b'{"text":"%d"}' % n
        if way == "chains":
            header = msgspec.structs.replace(first, incarnation=Incarnation(n.to_bytes(8, "big")))
        elif way == "branches" or n < 2:
            header = _header(mallory.device_id, b"forked!!", 1, began.id)
        else:
            header = _header(mallory.device_id, b"forked!!", 1 + 2 * n, EntryId(n.to_bytes(32, "big")))
        yield _sealed(state, header, body, mallory)


@pytest.mark.parametrize("revoked_there", [False, True])
def test_what_a_lost_device_wrote_stays_although_a_contact_brings_an_earlier_person_of_it(
    revoked_there: bool,
):
    thief, ann, phone, bob = home(0), home(1), home(2), home(3)
    trust(ann, 1, phone, 2)
    for _ in range(3):
        meet(ann, phone)
    accept(ann, bob)
    topic = conversation(ann, bob)
    for one, other in ((ann, bob), (ann, phone)):
        session(one, other)
    say(phone, topic, "mine")
    meet(ann, phone)
    belonging.revoke(ann, phone.device_id, LATER)
    session(ann, bob)
    assert texts_of(bob, log_of(bob, topic)) == ["mine"]
    claimed = thief.log(person_of(thief).log)
    belonging.admit(thief, peer_of(2), LATER)
    (log,) = phone.add_logs([(LogKind.PERSON, claimed.keys)])
    copy(thief, phone, LATER)
    phone.write(log, [Draft(Kind.DEVICE, record_of(2), LATER)], LATER)
    copy(phone, thief, LATER)
    if revoked_there:
        belonging.revoke(thief, phone.device_id, LATER)
    bob.add_logs([(LogKind.PERSON, claimed.keys)])
    copy(thief, bob, LATER)
    # Which of two persons that revoked it had a device first only their claims of time tell: not promised.
    assert texts_of(bob, log_of(bob, topic)) == ([] if revoked_there else ["mine"])
    assert texts_of(ann, log_of(ann, topic)) == ["mine"]
    assert findings_in(bob) == []


@pytest.mark.parametrize("way", ["chains", "branches", "holes"])
def test_one_more_chain_or_branch_costs_no_more_than_the_first_ones(tmp_path: Path, way: str):
    store = SqliteStore(tmp_path / "mlog.db")
    ann, mallory, topic, _ = _world(store)
    log = log_of(ann, topic)
    made = _made_by_the_member(mallory, topic, ann.log(log), way)

    def one_by_one(many: int) -> float:
        entries = [next(made) for _ in range(many)]
        started = time.process_time()
        for sealed in entries:
            ann.receive(log, [sealed], LATER)
        return time.process_time() - started

    one_by_one(2)
    first = one_by_one(30)
    ann.receive(log, [next(made) for _ in range(1000)], LATER)
    later = one_by_one(30)
    store.close()
    assert later < 6 * first + 0.03


def test_thousands_of_incarnations_in_another_s_name_change_nothing(tmp_path: Path):
    _many_incarnations(tmp_path, 3000)


@pytest.mark.slow
def test_a_million_incarnations_in_another_s_name_change_nothing(tmp_path: Path):
    _many_incarnations(tmp_path, 1_000_000)
