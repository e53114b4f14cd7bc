"""Attacks that were thought out, one by one; those that nobody thought of: test_hostile.py."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from mlog.log import bodies, crypto
from mlog.log.bodies import Kind
from mlog.log.entry import NO_ENTRY
from mlog.protocol import wire
from tests.protocol.hostile.minting import Mint
from tests.protocol.hostile.world import Victim, sqlite_victim


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return sqlite_victim(tmp_path)


def mint_of(victim: Victim, log: int) -> Mint:
    forged = [victim.replica.device_id]
    return Mint(Random(1), victim.replica.log(log).keys, [victim.hostile[0]], forged)


# -- who may have what -----------------------------------------------------------------------


def test_a_known_device_that_is_not_one_s_own_hears_of_no_log(victim: Victim):
    follower = victim.open(victim.guest, leads=False).greet()
    assert follower.open
    assert follower.heard[wire.Offer].logs == b""
    leader = victim.open(victim.guest, leads=True).greet()
    topic = victim.replica.log(3).keys.topic
    # It was told the topic by somebody, and still gets nothing.
    tag = crypto.keyed_hash(leader.binding, b"log" + topic, wire.TAG_SIZE)
    leader.say(wire.Offer(1, tag + bytes(32)))
    assert leader.heard[wire.Answer].differs == ()
    leader.say(wire.Query(1, tag, 0, NO_ENTRY, 8191, 10))
    assert leader.heard[wire.Page].entries == ()
    leader.say(wire.Want(1, tag, ids=victim.store.heads(3)[0]))
    assert wire.Entries not in leader.heard


def test_a_device_whose_own_record_has_a_key_that_is_none_is_granted_nothing(victim: Victim):
    far = victim.open(victim.hostile[0], leads=True).greet()
    mint = mint_of(victim, 1)
    record = bodies.Device(name="x", person="x", noise=bytes(32), hpke=bytes(1216))
    far.send(1, [mint.entry(Kind.DEVICE, bodies.encode(record))])
    far.say(wire.Offer(1, b""))
    assert far.heard[wire.Answer].equal == b""
    assert wire.Grant not in far.heard
    assert far.open
