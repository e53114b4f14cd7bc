"""Devices that vouch for each other are one person, in whatever order that is heard of."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded
from mlog.log import belonging, bodies, crypto, entry, epochs, grants, people
from mlog.log.bodies import Kind
from mlog.log.crypto import EpochKeys, LogKeys
from mlog.log.entry import Sealed
from mlog.log.epochs import StatedEpoch, epoch_to_write
from mlog.log.fold import Draft
from mlog.log.ids import DeviceId, Incarnation, MessageId, Topic
from mlog.log.replica import Replica
from mlog.log.store import LogKind, TimelineQuery
from tests.log.persons import (
    BINDING,
    WrappingEntropy,
    begin,
    conversation_of,
    copy,
    findings_in,
    grant,
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


def test_the_device_that_founds_a_person_log_is_the_person() -> None:
    person = person_of(home(0))
    assert [(m.device, m.by, m.confirmed) for m in person.members] == [(device_keys(0).id, None, True)]
    assert (person.name, person.founded_ms) == ("person 0", START_MS)


def test_a_device_that_is_in_admits_another_and_that_one_confirms() -> None:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    (_, admitted) = person_of(older).members
    assert (admitted.device, admitted.by, admitted.confirmed) == (device_keys(1).id, device_keys(0).id, False)
    meet(older, younger)
    for replica in (older, younger):
        assert [m.confirmed for m in person_of(replica).members] == [True, True]
        assert replica.people.is_own(device_keys(0).id)
        assert replica.people.is_own(device_keys(1).id)
    assert person_of(older).topic == person_of(younger).topic


def _written(
    replica: Replica, log: int, index: int, incarnation: bytes, kind: Kind, body: bodies.Body
) -> Sealed:
    """An entry by another device, made as its replica would not."""
    keys = replica.log(log).keys
    encoded = bodies.encode(body)
    header = entry.Header(
        kind, device_keys(index).id, Incarnation(incarnation), 0, entry.NO_ENTRY, START_MS + 1, len(encoded)
    )
    sealed = entry.seal_entry(keys, keys.current, 1000, header, encoded)
    return entry.sign_entry(device_keys(index), keys.current, sealed)


def _admission(index: int) -> bodies.Admit:
    peer = peer_of(index)
    return bodies.Admit(device=peer.device, name=peer.name, noise=peer.noise, hpke=peer.hpke)


def test_a_founder_that_is_renamed_is_one_device_still() -> None:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    meet(older, younger)
    belonging.rename(younger, older.device_id, "attic", START_MS + 300)
    belonging.rename(younger, older.device_id, "cabin", START_MS + 301)
    meet(older, younger)
    for replica in (older, younger):
        assert [(m.device, m.name, m.by) for m in person_of(replica).members] == [
            (older.device_id, "cabin", None),
            (younger.device_id, "laptop", older.device_id),
        ]


def test_a_device_that_nobody_admitted_admits_nobody() -> None:
    replica = home(0)
    log = person_of(replica).log
    for body, incarnation in ((_admission(1), b"incarnat"), (_admission(2), b"incarna2")):
        replica.receive(log, [_written(replica, log, 1, incarnation, Kind.ADMIT, body)], START_MS)
    assert [m.device for m in person_of(replica).members] == [device_keys(0).id]


def test_a_record_alone_makes_nobody_a_member() -> None:
    replica = home(0)
    log = person_of(replica).log
    replica.receive(log, [_written(replica, log, 1, b"incarnat", Kind.DEVICE, record_of(1))], START_MS)
    assert len(person_of(replica).members) == 1
    assert device_keys(1).id not in {row.id for row in replica.store.devices()}


def test_a_person_has_a_bounded_number_of_devices() -> None:
    replica = home(0)
    log = person_of(replica).log
    others = [
        msgspec.structs.replace(_admission(1), device=n.to_bytes(32, "big"))
        for n in range(limits.KEY_RECIPIENTS_MAX + 5)
    ]
    replica.write(log, [Draft(Kind.ADMIT, body, START_MS) for body in others], START_MS)
    assert len(person_of(replica).members) == limits.KEY_RECIPIENTS_MAX
    with pytest.raises(LimitExceeded):
        belonging.admit(replica, peer_of(2), START_MS)
    replica.begin_epoch(log, START_MS)


def test_what_another_process_wrote_under_a_new_epoch_is_handed_on_whole() -> None:
    service = home(0)
    log = conversation_of(service, "of desktop")
    command = replica_of(0, service.store)
    command.begin_epoch(log, START_MS, fresh=True)
    said = write(command, log, Kind.MESSAGE, text("under the new one"))
    (sealed,) = service.sealed_of(log, [said], bodies=True)
    assert sealed.body is not None
    assert service.store.gaps(log) == []


@pytest.mark.parametrize("hpke", [bytes(1216), b"\xff" * 1216, bytes(1184) + b"\1" + bytes(31)])
def test_a_device_that_is_admitted_with_keys_that_are_none_stops_nobody(hpke: bytes) -> None:
    replica = home(0)
    log = conversation_of(replica, "of desktop")
    body = msgspec.structs.replace(_admission(1), hpke=hpke)
    write(replica, person_of(replica).log, Kind.ADMIT, body)
    write(replica, log, Kind.MESSAGE, text("goes on"))
    assert _recipients(replica, log) == [{0}, {0, 1}]


# -- epochs ----------------------------------------------------------------------------------


def _recipients(replica: Replica, log: int) -> list[set[int]]:
    """For whom each epoch of a log is, by number."""
    index = {device_keys(n).id: n for n in range(4)}
    stated = sorted(epochs.stated_epochs(replica.store, log), key=lambda epoch: epoch.number)
    return [{index[DeviceId(device)] for device in epoch.recipients} for epoch in stated]


def test_an_admission_begins_an_epoch_in_every_log_that_both_will_share() -> None:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    for state in older.logs():
        assert _recipients(older, state.n) == [{0}, {0, 1}]
        row = write(older, state.n, Kind.NOTICE, text("under the new one"))
        fields = entry.parse_outer(row.outer)
        epoch = state.keys.epoch_of(fields.salt, fields.tag)
        assert epoch is not None
        assert epoch.number == 2


def test_a_key_entry_is_sealed_under_the_epoch_before() -> None:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    log = conversation_of(older, "of desktop")
    rows = older.store.timeline(TimelineQuery(log=log, limit=10, kinds=frozenset({Kind.KEY}), hidden=True))
    numbers: list[int] = []
    for row in rows:
        fields = entry.parse_outer(row.outer)
        epoch = older.log(log).keys.epoch_of(fields.salt, fields.tag)
        assert epoch is not None
        numbers.append(epoch.number)
    assert numbers == [0, 1]


def test_no_epoch_begins_while_the_readers_stay_the_same() -> None:
    replica = home(0)
    log = conversation_of(replica, "of desktop")
    for _ in range(3):
        write(replica, log, Kind.MESSAGE, text("hello"))
    assert _recipients(replica, log) == [{0}]


def test_a_new_conversation_is_for_all_devices_at_once() -> None:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    assert _recipients(older, begin(older, "new")) == [{0, 1}]


def test_an_import_begins_an_epoch_where_it_has_to() -> None:
    older = home(0)
    log = conversation_of(older, "of desktop")
    run = older.begin_run(log)
    older.write(person_of(older).log, [Draft(Kind.ADMIT, _admission(1), START_MS)], START_MS)
    draft = Draft(Kind.MESSAGE, text("old"), START_MS - 10**9, MessageId(bytes(16)))
    assert len(older.write_run(run, [draft], START_MS).rows) == 1
    assert _recipients(older, log) == [{0}, {0, 1}]


def _stated(number: int, id_: int, secret: bytes, *devices: int) -> StatedEpoch:
    return StatedEpoch(
        number,
        entry.EntryId(bytes([id_]) * 32),
        crypto.commitment(secret),
        frozenset(device_keys(n).id for n in devices),
    )


def test_of_several_epochs_for_the_same_readers_the_latest_is_written_under() -> None:
    keys = LogKeys(bytes(32))
    one, two, three = (bytes([n]) * 32 for n in (1, 2, 3))
    for number, secret in ((1, one), (2, two), (2, three)):
        keys.add_epoch(EpochKeys(number, secret))
    both = frozenset({device_keys(0).id, device_keys(1).id})
    stated = [_stated(2, 9, three, 0, 1), _stated(2, 8, two, 0, 1), _stated(1, 1, one, 0)]
    chosen = epoch_to_write(keys, stated, both)
    assert chosen is not None
    assert chosen.secret == three
    assert epoch_to_write(keys, stated, frozenset({device_keys(0).id})) is None, "an epoch that is over"
    assert epoch_to_write(LogKeys(bytes(32)), stated, both) is None, "its secret is not here"


def test_devices_that_begin_epochs_at_the_same_time_agree_on_one() -> None:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    meet(older, younger)
    log = {id(r): conversation_of(r, "of desktop") for r in (older, younger)}
    for replica in (older, younger):
        replica.store.put_peer(peer_of(2))
    # Both heard of the third device, and of no epoch that the other began.
    belonging.admit(older, peer_of(2), START_MS + 400)
    rows = older.store.arrivals(person_of(older).log, 0, 1000)
    admission = next(row for row in rows if row.kind == Kind.ADMIT and row.seq > 3)
    state = older.log(person_of(older).log)
    younger.receive(person_of(younger).log, [sealed_of(state, row) for row in rows], START_MS + 401)
    assert admission.id in younger.store.find(person_of(younger).log, [admission.id])
    for replica in (older, younger):
        write(replica, log[id(replica)], Kind.MESSAGE, text("at the same time"))
    meet(older, younger)
    used: list[bytes] = []
    for replica in (older, younger):
        row = write(replica, log[id(replica)], Kind.MESSAGE, text("later"))
        fields = entry.parse_outer(row.outer)
        epoch = replica.log(log[id(replica)]).keys.epoch_of(fields.salt, fields.tag)
        assert epoch is not None
        used.append(epoch.secret)
    assert used[0] == used[1]


# -- two homes become one --------------------------------------------------------------------


def test_two_homes_share_everything_after_trust_on_both_sides() -> None:
    older, younger = home(0), home(1)
    write(older, conversation_of(older, "of desktop"), Kind.MESSAGE, text("from before"))
    write(younger, conversation_of(younger, "of laptop"), Kind.MESSAGE, text("mine"))
    trust(older, 0, younger, 1)
    meet(older, younger)
    for replica in (older, younger):
        assert texts_of(replica, conversation_of(replica, "of desktop")) == ["from before"]
        assert texts_of(replica, conversation_of(replica, "of laptop")) == ["mine"]
        assert {row.person for row in replica.store.devices()} == {"person 0"}
        assert findings_in(replica) == []
    write(younger, conversation_of(younger, "of desktop"), Kind.MESSAGE, text("hello from the laptop"))
    write(older, conversation_of(older, "of laptop"), Kind.MESSAGE, text("hello from the desktop"))
    meet(older, younger)
    for replica in (older, younger):
        assert texts_of(replica, conversation_of(replica, "of desktop"))[1:] == ["hello from the laptop"]
        assert texts_of(replica, conversation_of(replica, "of laptop"))[1:] == ["hello from the desktop"]


def test_the_private_log_of_the_older_one_is_used_by_both() -> None:
    older, younger = home(0), home(1)
    own = people.private_log(younger)
    trust(older, 0, younger, 1)
    meet(older, younger)
    one, other = people.private_log(older), people.private_log(younger)
    assert one is not None
    assert other is not None
    assert own is not None
    assert one.keys.topic == other.keys.topic != own.keys.topic


def test_what_the_younger_one_leaves_is_kept_and_granted_to_nobody() -> None:
    older, younger = home(0), home(1)
    left = {state.keys.topic for state in younger.logs() if state.kind != LogKind.CONVERSATION}
    trust(older, 0, younger, 1)
    meet(older, younger)
    assert left <= {state.keys.topic for state in younger.logs()}
    assert not left & {state.keys.topic for state in older.logs()}


def test_trust_on_one_side_only_gives_nothing_away() -> None:
    older, younger = home(0), home(1)
    older.store.put_peer(peer_of(1))
    belonging.admit(older, peer_of(1), START_MS)
    sealed = grants.grant_for(older, younger.device_id, (), BINDING)
    assert sealed is not None
    with pytest.raises(InvalidInput):
        grants.accept_grant(younger, older.device_id, sealed, BINDING, START_MS)
    assert grants.grant_for(younger, older.device_id, (), BINDING) is None
    younger.store.put_peer(peer_of(0, own=False))
    with pytest.raises(InvalidInput):
        grants.accept_grant(younger, older.device_id, sealed, BINDING, START_MS)


def test_a_younger_home_that_is_admitted_by_a_younger_person_stays() -> None:
    older, younger = home(0), home(1)
    younger.store.put_peer(peer_of(0))
    belonging.admit(younger, peer_of(0), START_MS)
    older.store.put_peer(peer_of(1))
    topic = person_of(older).topic
    meet(older, younger)
    assert person_of(older).topic == topic
    assert not older.people.is_own(younger.device_id)


@pytest.mark.parametrize("seed", range(8))
def test_each_edits_and_erases_what_the_other_wrote_in_any_order_of_arrival(seed: int) -> None:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    meet(older, younger)
    ours, theirs = (conversation_of(r, "of desktop") for r in (older, younger))
    edited = write(older, ours, Kind.MESSAGE, text("frist"))
    erased = write(younger, theirs, Kind.MESSAGE, text("secret"), START_MS + 301)
    meet(older, younger)
    write(younger, theirs, Kind.EDIT, bodies.Edit(of=edited.message.hex(), text="first"))
    write(older, ours, Kind.ERASURE, bodies.Erasure(of=erased.message.hex()))
    meet(older, younger, seed=seed)
    assert texts_of(older, ours) == texts_of(younger, theirs) == ["first", None]
    # One that hears of all at once, person log and conversation in any order.
    late = replica_of(2)
    for state in older.logs():
        late.add_logs([(state.kind, state.keys)])
    copy(older, late, START_MS, random.Random(seed))
    assert texts_of(late, conversation_of(late, "of desktop")) == ["first", None]
    assert findings_in(late) == []


def test_an_edit_counts_once_the_admission_comes_and_not_before() -> None:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    meet(older, younger)
    ours, theirs = (conversation_of(r, "of desktop") for r in (older, younger))
    said = write(older, ours, Kind.MESSAGE, text("frist"))
    meet(older, younger)
    write(younger, theirs, Kind.EDIT, bodies.Edit(of=said.message.hex(), text="first"))
    meet(older, younger)
    late = replica_of(2)
    (log,) = late.add_logs([(LogKind.CONVERSATION, older.log(ours).keys)])
    copy(older, late, START_MS)
    assert texts_of(late, log) == ["frist"]
    late.add_logs([(LogKind.PERSON, older.log(person_of(older).log).keys)])
    copy(older, late, START_MS)
    assert texts_of(late, log) == ["first"]


def test_a_third_device_becomes_a_peer_everywhere_and_shares_everything() -> None:
    older, younger, third = home(0), home(1), home(2)
    trust(older, 0, younger, 1)
    meet(older, younger)
    trust(younger, 1, third, 2, START_MS + 500)
    meet(younger, third)
    assert {peer.device for peer in older.store.peers()} == {device_keys(1).id}
    meet(older, younger)
    assert {peer.device for peer in older.store.peers() if peer.own} == {device_keys(n).id for n in (1, 2)}
    meet(older, third)
    meet(older, younger)
    for title in ("of desktop", "of laptop", "of phone"):
        write(third, conversation_of(third, title), Kind.MESSAGE, text(f"phone in {title}"))
    for _ in range(2):
        for one, other in ((older, third), (older, younger), (younger, third)):
            meet(one, other)
    for replica in (older, younger, third):
        assert len(person_of(replica).members) == 3
        for title in ("of desktop", "of laptop", "of phone"):
            log = conversation_of(replica, title)
            assert texts_of(replica, log) == [f"phone in {title}"]
            assert _recipients(replica, log)[-1] == {0, 1, 2}
        assert findings_in(replica) == []


def test_the_other_devices_of_a_person_who_joins_come_along() -> None:
    older, younger, third = home(0), home(1), home(2)
    trust(younger, 1, third, 2)
    meet(younger, third)
    trust(older, 0, younger, 1, START_MS + 500)
    for _ in range(3):
        meet(older, younger)
        meet(younger, third)
    for replica in (older, younger, third):
        assert person_of(replica).founder == device_keys(0).id
        assert {m.device for m in person_of(replica).members if m.confirmed} == {
            device_keys(n).id for n in range(3)
        }
    assert findings_in(third) == []


def test_to_admit_a_device_again_changes_nothing() -> None:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    last = older.store.next_n()
    belonging.admit(older, peer_of(1), START_MS + 900)
    assert older.store.next_n() == last


def test_an_admission_that_fails_half_way_leaves_nothing() -> None:
    older = home(0)

    class _Broken(WrappingEntropy):
        def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
            raise OSError("no entropy")

    older.entropy = _Broken("")
    last = older.store.next_n()
    with pytest.raises(OSError, match="no entropy"):
        belonging.admit(older, peer_of(1), START_MS)
    older.entropy = WrappingEntropy("again")
    assert older.store.next_n() == last
    assert len(person_of(older).members) == 1
    belonging.admit(older, peer_of(1), START_MS)
    assert len(person_of(older).members) == 2


# -- grants ----------------------------------------------------------------------------------


def _granted() -> tuple[Replica, Replica, bytes]:
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    sealed = grants.grant_for(older, younger.device_id, (), BINDING)
    assert sealed is not None
    return older, younger, sealed


def test_a_grant_is_taken_once() -> None:
    older, younger, sealed = _granted()
    new = grants.accept_grant(younger, older.device_id, sealed, BINDING, START_MS)
    assert len(new) == 3
    assert grants.accept_grant(younger, older.device_id, sealed, BINDING, START_MS) == []
    topics = {state.keys.topic for state in younger.logs()}
    assert grants.grant_for(older, younger.device_id, topics, BINDING) is None


def test_a_grant_is_for_one_device_and_one_session() -> None:
    older, younger, sealed = _granted()
    third = home(2)
    for replica in (younger, third):
        replica.store.put_peer(peer_of(0))
        replica.store.put_peer(peer_of(3))
    cases = [
        (third, older.device_id, sealed, BINDING),
        (younger, older.device_id, sealed, bytes(32)),
        (younger, device_keys(3).id, sealed, BINDING),
        (younger, older.device_id, sealed[:-1], BINDING),
        (younger, older.device_id, sealed[:100], BINDING),
        (younger, older.device_id, b"", BINDING),
        (younger, older.device_id, sealed + bytes(2 * limits.GRANT_SIZE_MAX_BYTES), BINDING),
    ]
    for replica, giver, data, binding in cases:
        with pytest.raises(InvalidInput):
            grants.accept_grant(replica, giver, data, binding, START_MS)
        assert len(replica.logs()) == 3


def _seal(giver: Replica, granted: Any) -> bytes:
    info = b"mlog v1 grant\0" + giver.device_id + device_keys(1).id + BINDING
    key = bytes(32)
    sealed = crypto.seal(crypto.derive("grant", key), msgspec.msgpack.encode(granted), info)
    return giver.entropy.wrap(device_keys(1).hpke_public, key, info) + sealed


@pytest.mark.parametrize(
    "granted",
    [
        {},
        [["conversation", bytes(16), bytes(32), []]],
        [["blind", LogKeys(bytes(32)).topic, bytes(32), []]],
        [["conversation", LogKeys(bytes(32)).topic, bytes(31), []]],
        [["conversation", LogKeys(bytes(32)).topic, bytes(32), [[1, bytes(31)]]]],
        [["conversation", LogKeys(bytes(32)).topic, bytes(32), [[-1, bytes(32)]]]],
        [["conversation", LogKeys(bytes(32)).topic, bytes(32), [[1, bytes(32)]] * (limits.EPOCHS_MAX + 1)]],
        [["conversation", LogKeys(bytes(32)).topic, bytes(32), []]] * (limits.GRANT_LOGS_MAX + 1),
    ],
)
def test_a_grant_of_a_wrong_form_is_refused_whole(granted: Any) -> None:
    older, younger, _ = _granted()
    with pytest.raises(InvalidInput):
        grants.accept_grant(younger, older.device_id, _seal(older, granted), BINDING, START_MS)
    assert len(younger.logs()) == 3


def test_many_logs_are_granted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    older, younger, _ = _granted()
    monkeypatch.setattr(limits, "GRANT_LOGS_MAX", 2)
    known: set[Topic] = set()
    rounds = 0
    while (sealed := grants.grant_for(older, younger.device_id, known, BINDING)) is not None:
        grants.accept_grant(younger, older.device_id, sealed, BINDING, START_MS)
        known = {state.keys.topic for state in younger.logs()}
        rounds += 1
    assert rounds == 2
    assert {state.keys.topic for state in older.logs()} <= known


def test_an_epoch_that_a_device_was_left_out_of_comes_with_a_grant() -> None:
    """Two devices began epochs without knowing of each other's, one of them without the newcomer."""
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    meet(older, younger)
    third = home(2)
    log = conversation_of(younger, "of desktop")
    trust(older, 0, third, 2, START_MS + 500)
    meet(older, third)
    # The laptop has not heard of the phone, and begins an epoch that only desktop and laptop read.
    state = younger.log(log)
    younger._begin_epoch(state, person_of(younger).members, START_MS + 501)
    said = write(younger, log, Kind.MESSAGE, text("for two"), START_MS + 502)
    copy(younger, older, START_MS + 503)
    copy(older, third, START_MS + 504)
    there = conversation_of(third, "of desktop")
    assert texts_of(third, there) == []
    meet(older, third)
    assert texts_of(third, there) == ["for two"]
    assert said.id in third.store.find(there, [said.id])


def test_a_device_that_a_revoked_one_let_in_is_granted_what_that_one_had_not_heard_of() -> None:
    desktop, laptop, phone = home(0), home(1), home(2)
    trust(desktop, 0, laptop, 1)
    meet(desktop, laptop)
    belonging.revoke(desktop, laptop.device_id, START_MS + 400)
    trust(laptop, 1, phone, 2, START_MS + 401)
    # It is given the secrets of all logs, and nothing else, before it is let in by another one.
    assert grant(laptop, phone, START_MS + 402)
    trust(desktop, 0, phone, 2, START_MS + 403)
    meet(desktop, phone, START_MS + 404)
    there = conversation_of(phone, "of desktop")
    write(desktop, conversation_of(desktop, "of desktop"), Kind.MESSAGE, text("for two"), START_MS + 405)
    meet(desktop, phone, START_MS + 406)
    assert texts_of(phone, there) == ["for two"]
    assert not any(phone.store.scan_unopened(state.n, 0, 1) for state in phone.logs())


def test_what_is_written_under_an_epoch_is_read_once_a_key_entry_here_states_it() -> None:
    """Else it would be read by those alone to whom its author gave the epoch."""
    older, younger = home(0), home(1)
    trust(older, 0, younger, 1)
    meet(older, younger)
    log, there = (conversation_of(replica, "of desktop") for replica in (older, younger))
    state = older.log(log)
    older._begin_epoch(state, [m for m in person_of(older).members if m.device == older.device_id], START_MS)
    said = write(older, log, Kind.MESSAGE, text("under it"))
    rows = older.store.arrivals(log, 0, 100)
    keys = [row for row in rows if row.kind == Kind.KEY][-2:]
    younger.learn_epochs(there, state.keys.epochs[1:])
    younger.receive(there, [sealed_of(state, row) for row in rows if row not in keys], START_MS + 400)
    for replica in (younger, replica_of(1, younger.store)):
        assert len(replica.log(there).keys.granted) == 2
        assert replica.store.find(there, [said.id])[said.id].chain == 0
    assert [m.first for m in younger.missing(there, 10) if m.part == "key"] == [3, 4]
    younger.receive(there, [sealed_of(state, row) for row in keys], START_MS + 401)
    while younger.settle(there, START_MS + 401):
        pass
    assert texts_of(younger, there) == ["under it"]
    assert replica_of(1, younger.store).log(there).keys.granted == {}


def _of_three() -> tuple[Replica, Replica, Replica, int]:
    """Three devices of one person, two of them with a conversation that the third has not."""
    older, younger, third = home(0), home(1), home(2)
    trust(older, 0, younger, 1)
    trust(older, 0, third, 2, START_MS + 110)
    for _ in range(2):
        meet(older, younger)
        meet(older, third)
        meet(younger, third)
    return older, younger, third, begin(older, "new")


def test_a_device_passes_on_no_epoch_that_no_key_entry_here_states() -> None:
    """Who began it may have left the other one out."""
    older, younger, third, log = _of_three()
    write(older, log, Kind.MESSAGE, text("for all three"))
    belonging.revoke(older, third.device_id, START_MS + 400)
    write(older, log, Kind.MESSAGE, text("for two"))
    topic = older.log(log).keys.topic
    # Younger was given the secrets of it, and nothing else: nor has it heard of the revocation.
    [given] = grant(older, younger, START_MS + 401)
    keys = younger.log(given).keys
    assert (len(keys.epochs), len(keys.granted)) == (1, 2)
    grant(younger, third, START_MS + 402)
    assert topic not in {row.topic for row in third.store.logs()}


def test_what_was_withheld_is_granted_once_key_entries_say_why_it_may() -> None:
    older, younger, _, log = _of_three()
    fourth = home(3)
    state = older.log(log)
    write(older, log, Kind.MESSAGE, text("before"))
    trust(older, 0, fourth, 3, START_MS + 400)
    # Younger and the newest device hear of each other, and of nothing else.
    person = older.log(person_of(older).log)
    fourth.add_logs([(LogKind.PERSON, person.keys)])
    for taker in (younger, fourth):
        there = next(row.n for row in taker.store.logs() if row.topic == person.keys.topic)
        taker.learn_epochs(there, person.keys.epochs[1:])
        rows = older.store.arrivals(person.n, 0, 100)
        taker.receive(there, [sealed_of(person, row) for row in rows], START_MS + 401)
    fourth.store.put_peer(peer_of(1))
    grant(older, younger, START_MS + 402)
    grant(younger, fourth, START_MS + 403)
    meet(younger, fourth)
    assert state.keys.topic not in {row.topic for row in fourth.store.logs()}, (
        "nobody knows who belongs to it"
    )
    copy(older, younger, START_MS + 404)
    meet(younger, fourth)
    there = next(row.n for row in fourth.store.logs() if row.topic == state.keys.topic)
    assert texts_of(fourth, there) == ["before"]
    assert fourth.people.has_begun(there)


def test_an_epoch_is_not_granted_to_a_device_that_was_put_out_by_who_knew_no_epoch_for_it() -> None:
    older, younger, _, log = _of_three()
    meet(older, younger)
    topic, there = older.log(log).keys.topic, conversation_of(younger, "new")
    fourth = home(3)
    trust(older, 0, fourth, 3, START_MS + 400)
    # Younger hears that it was let in, and of no epoch for it.
    person = older.log(person_of(older).log)
    rows = older.store.arrivals(person.n, 0, 100)
    younger.learn_epochs(person_of(younger).log, person.keys.epochs[1:])
    younger.receive(person_of(younger).log, [sealed_of(person, row) for row in rows], START_MS + 401)
    belonging.revoke(younger, fourth.device_id, START_MS + 402)
    write(younger, there, Kind.MESSAGE, text("for three"), START_MS + 403)
    # Of that the older one gets only the epoch.
    keys = [row for row in younger.store.arrivals(there, 0, 100) if row.kind == Kind.KEY]
    older.receive(log, [sealed_of(younger.log(there), row) for row in keys], START_MS + 404)
    secret = younger.log(there).keys.current.secret
    assert older.log(log).keys.current.secret == secret
    assert person_of(older).member(fourth.device_id) is not None
    meet(older, fourth, START_MS + 405)
    theirs = next(state for state in fourth.logs() if state.keys.topic == topic)
    assert secret not in {epoch.secret for epoch in theirs.keys.epochs}


def test_a_device_of_another_person_is_granted_nothing() -> None:
    older, _, _ = _granted()
    older.store.put_peer(peer_of(2, own=False))
    assert grants.grant_for(older, device_keys(2).id, (), BINDING) is None
    assert grants.grant_for(older, older.device_id, (), BINDING) is None
