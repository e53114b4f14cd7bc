"""Devices of one person give each other the secrets of their logs, over real sessions."""

from __future__ import annotations

import pytest

from mlog import limits
from mlog.adapters.keystore import SystemEntropy
from mlog.log import belonging, bodies, crypto, grants
from mlog.log.bodies import Kind
from mlog.log.ids import Incarnation
from mlog.log.memory import MemoryStore
from mlog.log.peers import SyncState
from mlog.log.replica import Draft, Replica
from mlog.log.store import LogKind
from mlog.protocol import wire
from mlog.protocol.events import Committed
from tests.log.support import START_MS, SeededEntropy, device_keys

from .pair import Pair, Puppet, drafts, ids_of, peer_row


class Wrapping(SeededEntropy):
    """Wraps for real: what is granted here is opened again."""

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        return SystemEntropy().wrap(recipient, secret, info)


def home(index: int, conversations: int = 1) -> Replica:
    """A replica with a person log, a private log and conversations; a lower index is older."""
    entropy, now_ms = Wrapping(f"replica {index}"), START_MS + index
    vault = crypto.Vault(bytes([index]) * 32)
    keys = device_keys(index)
    made = Replica(MemoryStore(), keys, vault, entropy, Incarnation(entropy.random(8)))
    record = bodies.Device(
        name=f"device {index}", person=f"person {index}", noise=keys.noise_public, hpke=keys.hpke_public
    )
    made.create_log(LogKind.PERSON, [Draft(Kind.DEVICE, record, now_ms)], now_ms)
    made.create_log(LogKind.PRIVATE, [], now_ms)
    for number in range(conversations):
        made.create_log(LogKind.CONVERSATION, drafts(f"of {index}, {number}"), now_ms)
    return made


def trusted(older: Replica, younger: Replica) -> Pair:
    """Both persons said that the other's device is theirs."""
    row = peer_row(younger.device_keys)
    older.store.put_peer(row)
    belonging.admit(older, row, START_MS + 100)
    younger.store.put_peer(peer_row(older.device_keys))
    return Pair(older, younger)


def conversations(of: Replica) -> dict[bytes, set[bytes]]:
    return {state.keys.topic: set(ids_of(of.store, state.n)) for state in of.logs(LogKind.CONVERSATION)}


def assert_same(pair: Pair) -> None:
    assert not [*pair.a.closed, *pair.b.closed]
    assert conversations(pair.a.replica) == conversations(pair.b.replica)
    for end in pair.ends:
        for state in end.replica.logs(LogKind.CONVERSATION):
            (row,) = end.store.syncs(state.n)
            assert row.state == SyncState.EQUAL, state.n
            assert end.store.scan_unopened(state.n, 0, 10) == []


@pytest.mark.parametrize("leads", [0, 1])
def test_two_homes_become_one_in_one_session(leads: int):
    pair = trusted(home(0), home(1))
    pair.connect(pair.ends[leads])
    pair.run()
    pair.run(2 * limits.SETTLE_MS)
    assert len(conversations(pair.a.replica)) == 2
    assert_same(pair)
    for end in pair.ends:
        (person,) = (p for p in end.replica.people.persons() if p == end.replica.people.current())
        assert all(person.member(device_keys(index).id) is not None for index in (0, 1))


@pytest.mark.parametrize("leads", [0, 1])
def test_more_logs_than_one_grant_has_are_given_one_after_the_other(
    leads: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "GRANT_LOGS_MAX", 2)
    pair = trusted(home(0, conversations=6), home(1))
    pair.connect(pair.ends[leads])
    pair.run()
    pair.run(2 * limits.SETTLE_MS)
    assert len(conversations(pair.b.replica)) == 7
    assert_same(pair)
    assert len([*pair.a.said(wire.Grant), *pair.b.said(wire.Grant)]) > 3


@pytest.mark.parametrize("starter", [0, 1])
@pytest.mark.parametrize("leads", [0, 1])
def test_a_conversation_that_begins_while_connected_reaches_the_other_device(leads: int, starter: int):
    pair = trusted(home(0), home(1))
    pair.connect(pair.ends[leads])
    pair.run()
    pair.run(2 * limits.SETTLE_MS)
    end = pair.ends[starter]
    end.replica.create_log(LogKind.CONVERSATION, drafts("begun"), pair.now_ms)
    pair.handle(end, Committed())
    pair.run()
    pair.run(2 * limits.SETTLE_MS)
    assert len(conversations(pair.a.replica)) == 3
    assert_same(pair)


def test_a_device_that_is_not_of_the_same_person_is_granted_and_told_nothing():
    one, other = home(0), home(1)
    one.store.put_peer(peer_row(other.device_keys, own=False))
    other.store.put_peer(peer_row(one.device_keys, own=False))
    pair = Pair(one, other)
    pair.connect()
    pair.run()
    assert not [*pair.a.closed, *pair.b.closed]
    for end in pair.ends:
        assert not end.said(wire.Grant)
        assert all(offer.logs == b"" for offer in end.said(wire.Offer))


@pytest.mark.parametrize("sealed", [b"", bytes(100), bytes(1168 + 100), bytes(500_000)])
def test_a_grant_that_does_not_open_closes_the_session(sealed: bytes):
    puppet = Puppet(home(0), leads=True).greet()
    before = len(puppet.replica.store.logs())
    puppet.say(wire.Grant(sealed))
    assert len(puppet.closed) == 1
    assert len(puppet.replica.store.logs()) == before


def test_a_grant_of_another_session_closes_this_one():
    one, other = home(0), home(1)
    pair = trusted(one, other)
    granted = grants.grant_for(one, other.device_id, (), bytes(32))
    assert granted is not None
    puppet = Puppet(other, device_keys(0), leads=True).greet()
    puppet.say(wire.Grant(granted))
    assert len(puppet.closed) == 1
    assert pair.b.store.logs() == other.store.logs()
    # The same secrets, sealed for this session.
    again = Puppet(other, device_keys(0), leads=True).greet()
    fitting = grants.grant_for(one, other.device_id, (), again.binding)
    assert fitting is not None
    said = again.say(wire.Grant(fitting))
    assert not again.closed
    assert any(isinstance(message, wire.Again) for message in said)
