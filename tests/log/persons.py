"""Replicas of persons and their devices, that meet without a network."""

from __future__ import annotations

import random

import pytest

from mlog.adapters.keystore import SystemEntropy
from mlog.log import belonging, bodies, crypto, entry, grants
from mlog.log.bodies import Kind
from mlog.log.entry import Sealed
from mlog.log.fold import Draft, LogState
from mlog.log.ids import Incarnation
from mlog.log.memory import MemoryStore
from mlog.log.peers import PeerRow
from mlog.log.person import Person
from mlog.log.replica import Replica
from mlog.log.store import BodyState, EntryRow, LogKind, Store, TimelineQuery
from mlog.log.verify import Finding, verify_log
from tests.log.support import START_MS, SeededEntropy, device_keys

BINDING = bytes(range(32))
NAMES = ("desktop", "laptop", "phone", "tablet", "attic", "cabin")


class WrappingEntropy(SeededEntropy):
    """Wraps for real: what is granted here is opened again."""

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        return SystemEntropy().wrap(recipient, secret, info)


def replica_of(index: int, store: Store | None = None) -> Replica:
    entropy = WrappingEntropy(f"replica {index}")
    vault = crypto.Vault(bytes([index]) * 32)
    return Replica(store or MemoryStore(), device_keys(index), vault, entropy, Incarnation(entropy.random(8)))


def record_of(index: int, person: str = "") -> bodies.Device:
    keys = device_keys(index)
    return bodies.Device(
        name=NAMES[index],
        person=person or f"person {index}",
        noise=keys.noise_public,
        hpke=keys.hpke_public,
    )


def home(index: int, store: Store | None = None) -> Replica:
    """A replica with a person log, a private log and a conversation; a lower index is older."""
    replica, now = replica_of(index, store), START_MS + index
    replica.create_log(LogKind.PERSON, [Draft(Kind.DEVICE, record_of(index), now)], now)
    replica.create_log(LogKind.PRIVATE, [], now)
    begin(replica, f"of {NAMES[index]}", now)
    return replica


def begin(replica: Replica, title: str, now: int = START_MS) -> int:
    return replica.create_log(LogKind.CONVERSATION, [Draft(Kind.TITLE, bodies.Title(title=title), now)], now)


def peer_of(index: int, *, own: bool = True) -> PeerRow:
    record = record_of(index)
    return PeerRow(
        device=device_keys(index).id, name=record.name, noise=record.noise, hpke=record.hpke, own=own
    )


def trust(older: Replica, index: int, younger: Replica, of: int, now: int = START_MS + 100) -> None:
    """Both persons said that the other's device is theirs."""
    older.store.put_peer(peer_of(of))
    belonging.admit(older, peer_of(of), now)
    younger.store.put_peer(peer_of(index))


def sealed_of(state: LogState, row: EntryRow) -> Sealed:
    body = row.body
    if body is not None and row.state == BodyState.OPENED:
        fields = entry.parse_outer(row.outer)
        epoch = state.keys.epoch_of(fields.salt, fields.tag)
        assert epoch is not None
        body = entry.seal_body(epoch, row.outer, body, row.kind)
    return Sealed(row.id, row.outer, body, row.signature)


def grant(giver: Replica, taker: Replica, now: int) -> list[int]:
    known = {state.keys.topic for state in taker.logs()}
    sealed = grants.grant_for(giver, taker.device_id, known, BINDING)
    return [] if sealed is None else grants.accept_grant(taker, giver.device_id, sealed, BINDING, now)


def copy(giver: Replica, taker: Replica, now: int, chance: random.Random | None = None) -> int:
    """Give all that the other lacks of logs that both have; how many entries that were."""
    logs = {state.keys.topic: state for state in giver.logs()}
    shared = [(logs[state.keys.topic], state) for state in taker.logs() if state.keys.topic in logs]
    if chance is not None:
        chance.shuffle(shared)
    stored = 0
    for ours, theirs in shared:
        rows = giver.store.arrivals(ours.n, 0, 1000)
        lacking = [row for row in rows if not taker.store.find(theirs.n, [row.id])]
        if chance is not None:
            chance.shuffle(lacking)
        for row in lacking:
            taken = taker.receive(theirs.n, [sealed_of(ours, row)], now)
            assert not taken.refused
            stored += taken.stored
    for state in taker.logs():
        # A person log may have changed what counts in all others.
        while taker.settle(state.n, now):
            pass
    return stored


def meet(one: Replica, other: Replica, now: int = START_MS + 200, seed: int | None = None) -> None:
    """Sessions between two replicas until there is nothing more to say."""
    chance = None if seed is None else random.Random(seed)
    for _ in range(10):
        moved = 0
        for giver, taker in ((one, other), (other, one)):
            if any(peer.device == giver.device_id and peer.own for peer in taker.store.peers()):
                moved += len(grant(giver, taker, now))
            moved += copy(giver, taker, now, chance)
        if not moved:
            return
    pytest.fail("two replicas never came to an end")


def person_of(replica: Replica) -> Person:
    person = replica.people.current()
    assert person is not None
    return person


def conversation_of(replica: Replica, title: str) -> int:
    return next(row.n for row in replica.store.logs() if row.title == title)


def write(replica: Replica, log: int, kind: Kind, body: bodies.Body, now: int = START_MS + 300) -> EntryRow:
    return replica.write(log, [Draft(kind, body, now)], now)[0]


def texts_of(replica: Replica, log: int) -> list[str | None]:
    """What stands in a conversation, as edited and erased."""
    shown: list[str | None] = []
    for row in replica.store.timeline(TimelineQuery(log=log, limit=1000)):
        stands = replica.store.rows([row.edit])[row.edit] if row.edit else row
        is_open = stands.body is not None and stands.state == BodyState.OPENED
        body = bodies.decode(stands.kind, stands.body) if is_open and stands.body is not None else None
        shown.append(body.text if isinstance(body, bodies.Text | bodies.Edit) else None)
    return shown


def findings_in(replica: Replica) -> list[Finding]:
    events = [e for state in replica.logs() for e in verify_log(replica, state.n, signatures=True)]
    return [event for event in events if isinstance(event, Finding)]


# -- the fold --------------------------------------------------------------------------------
