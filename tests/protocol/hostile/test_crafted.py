"""Attacks that were thought out, one by one; those that nobody thought of: test_hostile.py."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest

from mlog import limits
from mlog.log import bodies, crypto, people, receipts
from mlog.log.bodies import Kind
from mlog.log.crypto import EpochKeys, LogKeys, Vault
from mlog.log.entry import NO_ENTRY, Sealed
from mlog.log.ids import EntryId, Incarnation
from mlog.log.memory import MemoryStore
from mlog.log.replica import Replica
from mlog.log.scope import Scope, bodies_root, entries_root
from mlog.log.store import LogKind
from mlog.log.verify import Finding, verify_log
from mlog.protocol import wire
from mlog.protocol.events import Fetch
from mlog.protocol.standing import Standing, stand
from tests.log.support import START_MS, device_keys, message
from tests.protocol.hostile.minting import Mint
from tests.protocol.hostile.world import (
    EVENT_CPU_MAX_S,
    SESSION_SIZE_MAX_BYTES,
    Entropy,
    Far,
    Victim,
    footprint,
    sqlite_victim,
)
from tests.protocol.pair import Pair, give, ids_of, peer_row, replica, share, trust

BUSY_FACTOR = 3
"""Also CPU time is longer on a machine whose cores are shared; what is tried here took seconds."""


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


# -- work ------------------------------------------------------------------------------------


def attacker(victim: Victim, *, leads: bool = True) -> Far:
    far = victim.open(victim.hostile[0], leads=leads).greet()
    victim.rest()
    return far


def test_entries_are_stored_in_slices_by_what_they_cost(victim: Victim):
    far, mint = attacker(victim), mint_of(victim, 3)
    ticks = victim.events["Tick"]
    far.send(3, [mint.entry(Kind.MESSAGE, b'{"text":"%d"}' % n) for n in range(500)])
    assert victim.events["Tick"] - ticks >= 500 * 9 // limits.RECEIVED_SLICE_COST
    parents = [{EntryId(bytes([n, m]) * 16) for m in range(64)} for n in range(50)]
    ticks = victim.events["Tick"]
    far.send(3, [mint.entry(Kind.MESSAGE, b"{}", parents=named) for named in parents])
    assert victim.events["Tick"] - ticks >= 2
    assert victim.worst < BUSY_FACTOR * EVENT_CPU_MAX_S


def test_a_run_with_one_signature_is_stored_as_a_whole(victim: Victim):
    far, mint = attacker(victim), mint_of(victim, 3)
    chain = mint.chain(limits.BUNDLE_ENTRIES_MAX)
    far.send(3, chain)
    assert not victim.store.scan_unopened(3, 0, 1)
    assert victim.store.find(3, [chain[0].id])[chain[0].id].n + 999 == victim.store.next_n() - 1


def test_a_log_with_an_entry_in_each_of_many_weeks_is_hashed_in_slices(victim: Victim):
    far, mint = attacker(victim), mint_of(victim, 3)
    far.send(3, [mint.entry(Kind.MESSAGE, b'{"text":"w"}', week=week) for week in range(1500)])
    ticks = victim.events["Tick"]
    far.say(wire.Offer(1, far.tag(3) + bytes(32)))
    victim.rest()
    assert far.heard[wire.Answer].differs[0].index == 0
    assert victim.events["Tick"] - ticks >= 1500 * 40 // 20_000
    assert victim.worst < BUSY_FACTOR * EVENT_CPU_MAX_S


def test_many_logs_are_compared_and_proven_in_slices(victim: Victim):
    made = victim.replica.add_logs([(LogKind.CONVERSATION, LogKeys(secret(n))) for n in range(1, 400)])
    far = attacker(victim)
    ticks = victim.events["Tick"]
    empty = receipts_roots()
    far.say(wire.Offer(1, b"".join(far.tag(log) + empty for log in made)))
    victim.rest()
    assert far.heard[wire.Answer].equal == b"\xff" * 49 + b"\x7f"
    assert len([row for row in victim.store.syncs() if row.device == far.keys.id]) == len(made)
    assert victim.events["Tick"] - ticks >= 400 // 8
    # And so are those of a peer's receipt.
    now = victim.now_ms
    statements = [stand_of(victim, log).statement(Scope(0, bodies=True), now, now + 1000) for log in made]
    signature = receipts.sign_statements(far.keys, statements)
    ticks = victim.events["Tick"]
    far.say(wire.Receipt(1, now, now + 1000, signature))
    victim.rest()
    assert len([row for row in victim.store.receipts() if row.device == far.keys.id]) == len(made)
    assert victim.events["Tick"] - ticks >= 400 // 128
    assert victim.worst < BUSY_FACTOR * EVENT_CPU_MAX_S


def receipts_roots() -> bytes:
    """Roots of a log without entries."""
    return entries_root([], 0)[:16] + bodies_root([], 0)[:16]


def stand_of(victim: Victim, log: int) -> Standing:
    row = next(row for row in victim.store.logs() if row.n == log)
    steps = stand(victim.store, row, victim.now_ms)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_a_log_with_very_many_chains_is_compared_by_its_segments(monkeypatch: pytest.MonkeyPatch):
    a, b = replica(0), replica(1)
    trust(a, b)
    log = a.create_log(LogKind.CONVERSATION, [message("first")], START_MS)
    share(a, b, log)
    mint = Mint(Random(1), a.log(log).keys, [device_keys(2)], [])
    a.receive(log, [mint.entry(Kind.MESSAGE, b'{"text":"%d"}' % n) for n in range(30)], START_MS)
    b.receive(log, [mint.entry(Kind.MESSAGE, b'{"text":"%d"}' % n) for n in range(30)], START_MS)
    monkeypatch.setattr(limits, "CHAINS_READ_MAX", 20)
    pair = Pair(a, b)
    pair.connect()
    pair.run()
    assert pair.b.said(wire.Answer)[0].differs[0].vector is None
    assert pair.a.said(wire.AskWeeks)
    assert ids_of(a.store) == ids_of(b.store)
    assert len(ids_of(a.store)) == 62


# -- memory ----------------------------------------------------------------------------------


def test_requests_that_are_never_acknowledged_end_the_session(victim: Victim):
    far = attacker(victim)
    wanted = victim.store.heads(3)[0] * limits.WANTED_IDS_MAX
    for number in range(2000):
        far.say(wire.Want(number, far.tag(3), ids=wanted))
        if far.closed:
            break
        if number % 16 == 15:
            assert footprint(victim.node._sessions[far.number]) < SESSION_SIZE_MAX_BYTES // 4
    assert far.closed == "more requests than may wait"


def test_a_device_that_lacks_much_asks_for_as_much_as_its_peer_takes():
    a, b = replica(0), replica(1)
    trust(a, b)
    share(a, b, a.create_log(LogKind.CONVERSATION, [message("first")], START_MS))
    give(a, b, 1)
    pair = Pair(a, b)
    pair.connect()
    pair.run()
    ids = tuple(EntryId(n.to_bytes(32, "big")) for n in range(150_000))
    pair.handle(pair.a, Fetch(1, ids))
    pair.run()
    wants = pair.a.said(wire.Want)
    assert sum(len(want.ids) for want in wants) == 32 * len(ids)
    assert len(pair.b.said(wire.Done)) == len(wants) == 150
    assert pair.a.node._sessions
    assert pair.a.node.idle


# -- grants and epochs -----------------------------------------------------------------------


def granted(far: Far, logs: list[tuple[LogKeys, list[tuple[int, bytes]]]]) -> wire.Grant:
    """A grant that opens, whatever is in it."""
    replica = far.victim.replica
    info = people._grant_info(far.keys.id, replica.device_id, far.binding)
    plain = [("conversation", keys.topic, keys.secret, epochs) for keys, epochs in logs]
    sealed = crypto.seal(crypto.derive("grant", bytes(32)), msgspec.msgpack.encode(plain), info)
    return wire.Grant(Entropy("grant").wrap(replica.device_keys.hpke_public, bytes(32), info) + sealed)


def secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_device_that_makes_up_logs_fills_a_home_up_to_a_bound(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "OFFERED_LOGS_MAX", 250)
    far = attacker(victim)
    for start in range(1, 400, 100):
        far.say(granted(far, [(LogKeys(secret(n)), []) for n in range(start, start + 100)]))
        victim.rest()
    assert len(victim.store.logs()) == 250
    assert far.open
    assert victim.worst < BUSY_FACTOR * EVENT_CPU_MAX_S


def test_a_grant_with_as_many_epochs_as_fit_is_taken_in_good_time(victim: Victim):
    far = attacker(victim)
    keys = victim.replica.log(3).keys
    far.say(granted(far, [(keys, [(7, secret(n)) for n in range(1, 1000)])]))
    victim.rest()
    assert len(keys.epochs) == limits.EPOCHS_MAX
    # Entries that nobody here can open are tried with all of them, and stored in smaller slices.
    mint = mint_of(victim, 3)
    waiting = [
        mint.entry(Kind.MESSAGE, b'{"text":"%d"}' % n, epoch=EpochKeys(9, secret(0))) for n in range(500)
    ]
    far.send(3, waiting)
    far.say(wire.Offer(1, far.tag(3) + bytes(32)))
    victim.rest()
    assert far.open
    assert victim.worst < BUSY_FACTOR * EVENT_CPU_MAX_S


@pytest.mark.parametrize("leads", [False, True])
def test_a_device_is_granted_all_logs_however_many(
    leads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "GRANT_LOGS_MAX", 10)
    victim = sqlite_victim(tmp_path)
    for n in range(30):
        victim.replica.create_log(LogKind.CONVERSATION, [], START_MS + n)
    newcomer = Replica(
        MemoryStore(), victim.honest, Vault(secret(5)), Entropy("newcomer"), Incarnation(bytes(8))
    )
    newcomer.store.put_peer(peer_row(victim.replica.device_keys))
    newcomer.add_logs([(LogKind.PERSON, victim.replica.log(1).keys)])
    pair = Pair(newcomer, victim.replica)
    pair.connect(pair.a if leads else pair.b)
    pair.run(60_000)
    topics = [{row.topic for row in end.store.logs() if row.kind != LogKind.BLIND} for end in pair.ends]
    assert topics[0] == topics[1]


# -- what is stored --------------------------------------------------------------------------


def test_a_signature_that_does_not_open_is_not_kept_where_the_next_entry_vouches(victim: Victim):
    far, mint = attacker(victim), mint_of(victim, 3)
    other = mint.chain(2, every=1)
    far.send(3, [other[1]])
    far.send(3, [Sealed(other[0].id, other[0].outer, other[0].body, bytes(80))])
    row = victim.store.find(3, [other[0].id])[other[0].id]
    assert row.chain
    assert row.signature is None
    far.send(3, [other[0]])
    assert victim.store.find(3, [other[0].id])[other[0].id].signature is not None


def test_a_question_about_what_is_damaged_here_is_answered_and_noted(victim: Victim):
    row = victim.store.find(3, victim.store.heads(3))[victim.store.heads(3)[0]]
    row.body = b'{"text":"flipped"}'
    with victim.store.transaction():
        victim.store.update([row], [], [], [])
    far = attacker(victim)
    far.say(wire.Query(1, far.tag(3), 0, NO_ENTRY, limits.WEEK_MAX, 10))
    victim.rest()
    assert len(far.heard[wire.Page].entries) == len(ids_of(victim.store, 3))
    assert [gap.part for gap in victim.store.gaps(3)] == ["body"]


def test_an_entry_that_names_one_of_another_chain_as_the_one_before_makes_no_damage(victim: Victim):
    far, mint = attacker(victim), mint_of(victim, 3)
    unsigned = mint.entry(Kind.MESSAGE, b'{"text":"?"}')
    after = mint.entry(Kind.MESSAGE, b'{"text":"!"}', seq=1, prev=unsigned.id)
    far.send(3, [Sealed(unsigned.id, unsigned.outer, unsigned.body), after])
    assert [row.id for row in victim.store.scan_unopened(3, 0, 9)] == [unsigned.id]
    assert not [event for event in verify_log(victim.replica, 3) if isinstance(event, Finding)]
