"""What is moved somewhere else is refused, or says nothing: entries, wrapped secrets, grants; every cell."""

from __future__ import annotations

import msgspec
import pytest

from mlog.errors import InvalidInput
from mlog.log import bodies, crypto, entry, grants, ruling
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.entry import Sealed
from mlog.log.fold import Draft
from mlog.log.ids import DeviceId, Incarnation, Topic
from mlog.log.replica import Replica
from mlog.log.store import EntryRow, TimelineQuery
from tests.log.conversing import LATER, acquainted, all_meet, conversation, log_of, members, person
from tests.log.persons import BINDING, sealed_of, texts_of
from tests.log.support import START_MS, text

KINDS = [Kind.MESSAGE, Kind.KEY, Kind.MEMBER, Kind.ERASURE, Kind.TITLE]


def _world() -> tuple[list[Replica], bytes, bytes]:
    """Ann, Bob and Carol in one conversation, and in another one without Carol."""
    homes = acquainted(3)
    ann, bob, _ = homes
    topic = conversation(*homes)
    other = conversation(ann, bob, title="other")
    all_meet(homes)
    return homes, topic, other


def _row(ann: Replica, bob: Replica, topic: bytes, kind: Kind) -> EntryRow:
    """An entry of Ann's of a kind."""
    log = log_of(ann, topic)
    said: dict[Kind, bodies.Body] = {
        Kind.MESSAGE: text("moved"),
        Kind.ERASURE: bodies.Erasure(of="0" * 32),
        Kind.TITLE: bodies.Title(title="moved"),
    }
    if kind in said:
        return ann.write(log, [Draft(kind, said[kind], START_MS + 600)], START_MS + 600)[-1]
    ruling.set_role(ann, log, person(ann, bob), Role.ADMIN, START_MS + 600)
    ann.begin_epoch(log, START_MS + 600, fresh=True)
    query = TimelineQuery(log=log, limit=1, kinds=frozenset({kind}), newest_first=True, hidden=True)
    return ann.store.timeline(query)[0]


def _moved(bob: Replica, topic: bytes, sealed: Sealed, to: str, other: bytes) -> Sealed:
    """Ann's entry as Bob, who has all secrets but hers, can move it."""
    state = bob.log(log_of(bob, topic))
    fields = entry.parse_outer(sealed.outer)
    epoch = state.keys.epoch_of(fields.salt, fields.tag)
    assert epoch is not None
    header, _ = entry.open_header(state.keys, sealed.outer)
    body = entry.open_body(epoch, sealed.outer, sealed.body or b"")
    signature = entry.open_signature(epoch, sealed.id, sealed.outer, sealed.signature or b"")
    keys = state.keys
    match to:
        case "conversation":
            keys = bob.log(log_of(bob, other)).keys
            epoch = keys.current
        case "person" | "device":
            device = bob.device_id if to == "person" else DeviceId(bytes(32))
            header = msgspec.structs.replace(header, device=device, incarnation=Incarnation(b"moved to"))
        case "epoch":
            epoch = next(e for e in keys.epochs if e is not epoch and e.number)
        case "kind":
            header = msgspec.structs.replace(header, kind=Kind.NOTICE)
        case _:
            header = msgspec.structs.replace(header, time_ms=header.time_ms + 1)
    again = entry.seal_entry(keys, epoch, fields.week, header, body)
    with_signature = crypto.seal(
        epoch.signature_key(entry.parse_outer(again.outer).salt), signature, again.id
    )
    return Sealed(again.id, again.outer, again.body, with_signature)


@pytest.mark.parametrize("to", ["conversation", "person", "device", "epoch", "kind", "time"])
@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_an_entry_that_is_moved_says_nothing(kind: Kind, to: str):
    homes, topic, other = _world()
    ann, bob, carol = homes
    sealed = sealed_of(ann.log(log_of(ann, topic)), _row(ann, bob, topic, kind))
    all_meet(homes)
    place = other if to == "conversation" else topic
    moved = _moved(bob, topic, sealed, to, other)
    assert moved.id != sealed.id
    for replica in (ann, carol) if place == topic else (ann,):
        log = log_of(replica, place)
        before = members(replica, place), texts_of(replica, log)
        replica.receive(log, [moved], LATER)
        row = replica.store.find(log, [moved.id])[moved.id]
        assert row.chain == 0, "it is kept, and not read"
        assert (members(replica, place), texts_of(replica, log)) == before
    if to == "conversation":
        # The bytes as they are: another log's MAC does not fit.
        taken = ann.receive(log_of(ann, other), [sealed], LATER)
        assert [id_ for id_, _ in taken.refused] == [sealed.id]


@pytest.mark.parametrize("to", ["conversation", "person", "device", "epoch"])
def test_a_wrapped_secret_that_is_moved_does_not_open(to: str):
    (ann, bob, carol), topic, other = _world()
    secret, number = bytes([5]) * 32, 7
    place = Topic(topic)
    info = crypto.wrap_info(place, ann.device_id, number, bob.device_id)
    wrapped = ann.entropy.wrap(bob.device_keys.hpke_public, secret, info)
    assert crypto.unwrap(bob.device_keys, wrapped, info) == secret
    moved = {
        "conversation": crypto.wrap_info(Topic(other), ann.device_id, number, bob.device_id),
        "person": crypto.wrap_info(place, carol.device_id, number, bob.device_id),
        "device": crypto.wrap_info(place, ann.device_id, number, carol.device_id),
        "epoch": crypto.wrap_info(place, ann.device_id, number + 1, bob.device_id),
    }[to]
    with pytest.raises(InvalidInput):
        crypto.unwrap(carol.device_keys if to == "device" else bob.device_keys, wrapped, moved)


@pytest.mark.parametrize("to", ["session", "giver", "recipient"])
def test_a_grant_that_is_moved_does_not_open(to: str):
    (ann, bob, carol), _, _ = _world()
    sealed = grants.grant_for(ann, bob.device_id, (), BINDING)
    assert sealed is not None
    taker = carol if to == "recipient" else bob
    giver = carol if to == "giver" else ann
    binding = bytes(32) if to == "session" else BINDING
    before = len(taker.store.logs())
    with pytest.raises(InvalidInput):
        grants.accept_grant(taker, giver.device_id, sealed, binding, LATER)
    assert len(taker.store.logs()) == before


@pytest.mark.parametrize("to", ["conversation", "epoch", "secret", "message"])
def test_an_outline_that_is_moved_opens_nothing(to: str):
    (ann, bob, _), topic, other = _world()
    log = log_of(ann, topic)
    first = ann.log(log).keys.current
    ann.begin_epoch(log, START_MS + 500, fresh=True)
    sealed = sealed_of(ann.log(log), _row(ann, bob, topic, Kind.MESSAGE))
    epoch = ann.log(log).keys.current
    place, number, secret, outline = {
        "conversation": (other, epoch.number, b"", epoch.outline),
        "epoch": (topic, epoch.number, b"", first.outline),
        "secret": (topic, epoch.number, epoch.outline, b""),
        "message": (topic, epoch.number, b"", epoch.outline),
    }[to]
    keys = crypto.LogKeys(ann.log(log_of(ann, place)).keys.secret)
    keys.add_epoch(crypto.EpochKeys(number, secret, outline))
    if to == "conversation":
        with pytest.raises(InvalidInput, match="another log"):
            entry.unseal(keys, sealed.outer, sealed.body)
        return
    found = entry.unseal(keys, sealed.outer, sealed.body)
    assert found.body is None
    # Where it belongs it opens the header; what was said stays closed.
    assert (found.header is not None, found.closed) == (to == "message", to == "message")
