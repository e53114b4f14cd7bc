"""What a session finds out of the peer's copies is kept, and proofs only of what was found equal."""

from __future__ import annotations

import pytest

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log import receipts
from mlog.log.ids import Incarnation, Topic
from mlog.log.merkle import refresh_digests
from mlog.log.peers import SyncState
from mlog.log.scope import Scope
from mlog.log.store import LogKind
from mlog.protocol import wire
from mlog.protocol.events import Effect, Notice
from mlog.protocol.keeping import Keeper
from mlog.protocol.link import Link
from mlog.protocol.standing import Standing
from mlog.protocol.vector import Held, chain_tag
from tests.log.support import START_MS, device_keys
from tests.protocol.pair import until

from .pair import drafts, give, peer_row, replica, share

NOW_MS = START_MS + 1000
WHOLE = Scope(0, bodies=True)


class Bench:
    """Two keepers that share two logs and hold the same of them."""

    def __init__(self):
        self.one, self.other = replica(0), replica(1)
        for _ in range(2):
            log = self.one.create_log(LogKind.CONVERSATION, drafts("a", "b"), START_MS)
            share(self.one, self.other, log)
            give(self.one, self.other, log)
        self.effects: list[Effect] = []
        self.here, self.there = (
            Keeper(
                Link(
                    mine,
                    peer_row(theirs.device_keys),
                    bytes(32),
                    leader=True,
                    now_ms=NOW_MS,
                    send=lambda _: None,
                    emit=self.effects.append,
                )
            )
            for mine, theirs in ((self.one, self.other), (self.other, self.one))
        )

    def equal(self, serial: int = 1, scope: Scope = WHOLE) -> None:
        for keeper, of in ((self.here, self.one), (self.there, self.other)):
            standings = [
                Standing(row.n, Topic(row.topic), WHOLE, 0, refresh_digests(of.store, row.n))
                for row in of.store.logs()
            ]
            keeper.equal(serial, [(standing, scope) for standing in standings])
            until(keeper.write_equal(NOW_MS))


def test_a_receipt_is_accepted_and_kept_as_a_proof_for_each_log():
    bench = Bench()
    bench.equal()
    receipt = bench.there.sign(1, NOW_MS)
    assert receipt is not None
    until(bench.here.receive(receipt))
    rows = bench.one.store.receipts()
    assert [row.log for row in rows] == [1, 2]
    for row in rows:
        device, statement = receipts.check_receipt(row.proof)
        assert device == row.device == bench.other.device_id
        assert (statement.entries, statement.bodies) == (row.entries, row.bodies) == (3, 3)
        assert (row.time_ms, row.expires_ms) == (NOW_MS, NOW_MS + limits.RECEIPT_LIFE_MS)


@pytest.mark.parametrize("field", ["serial", "time_ms", "expires_ms", "signature"])
def test_a_receipt_with_one_field_changed_is_refused(field: str):
    bench = Bench()
    bench.equal()
    receipt = bench.there.sign(1, NOW_MS)
    assert receipt is not None
    fields = {name: getattr(receipt, name) for name in receipt.__struct_fields__}
    fields[field] = bytes(64) if field == "signature" else fields[field] + 1
    with pytest.raises(ProtocolViolation):
        until(bench.here.receive(wire.Receipt(**fields)))
    assert bench.one.store.receipts() == []


def test_a_receipt_of_somebody_else_is_refused():
    bench = Bench()
    bench.equal()
    receipt = bench.here.sign(1, NOW_MS)
    assert receipt is not None
    with pytest.raises(ProtocolViolation):
        until(bench.here.receive(receipt))


def test_nothing_is_signed_where_nothing_was_equal():
    bench = Bench()
    assert bench.here.sign(1, NOW_MS) is None
    bench.equal(serial=1)
    assert bench.here.sign(2, NOW_MS) is None


def test_a_receipt_of_an_earlier_answer_is_refused_once_there_is_a_later_one():
    bench = Bench()
    bench.equal(serial=1)
    receipt = bench.there.sign(1, NOW_MS)
    bench.equal(serial=2)
    assert receipt is not None
    with pytest.raises(ProtocolViolation):
        until(bench.here.receive(receipt))


def test_without_bodies_a_receipt_says_nothing_of_them():
    bench = Bench()
    bench.equal(scope=Scope(0, bodies=False))
    receipt = bench.there.sign(1, NOW_MS)
    assert receipt is not None
    until(bench.here.receive(receipt))
    assert [row.bodies for row in bench.one.store.receipts()] == [0, 0]


def test_when_copies_were_equal_last_outlives_what_comes_after():
    bench = Bench()
    bench.equal()
    root = bench.one.store.syncs(1)[0].equal_root
    bench.here.behind(1, 2, 3, NOW_MS + 5)
    (row,) = bench.one.store.syncs(1)
    assert (row.state, row.here_lacks, row.there_lacks) == (SyncState.BEHIND, 2, 3)
    assert (row.time_ms, row.equal_ms, row.equal_root) == (NOW_MS + 5, NOW_MS, root)
    bench.here.differing(1, "for a reason", NOW_MS + 9)
    (row,) = bench.one.store.syncs(1)
    assert (row.state, row.detail) == (SyncState.DIFFERING, "for a reason")
    assert (row.here_lacks, row.there_lacks) == (0, 0)
    assert (row.time_ms, row.equal_ms, row.equal_root) == (NOW_MS + 9, NOW_MS, root)
    bench.equal()
    assert bench.one.store.syncs(1)[0].state == SyncState.EQUAL


def test_each_comparison_is_told_of_with_its_log():
    bench = Bench()
    bench.equal()
    bench.here.behind(1, 2, 3, NOW_MS)
    bench.here.differing(2, "for a reason", NOW_MS)
    told = [
        (effect.what, effect.log, effect.count, effect.detail)
        for effect in bench.effects
        if isinstance(effect, Notice) and effect.device == bench.other.device_id
    ]
    assert told == [
        ("equal", 1, 0, ""),
        ("equal", 2, 0, ""),
        ("behind", 1, 5, ""),
        ("differing", 2, 0, "for a reason"),
    ]


def test_the_largest_vector_of_a_liar_is_kept_without_an_overflow():
    bench = Bench()
    bench.here.behind(1, limits.VECTOR_CHAINS_MAX * limits.SEQ_MAX, 0, NOW_MS)
    assert bench.one.store.syncs(1)[0].here_lacks < 2**63


def test_chains_that_are_heard_of_before_they_are_known_are_noted_once_they_are():
    bench = Bench()
    writer, incarnation = device_keys(2), Incarnation(b"elsewher")
    tag = chain_tag(bytes(32), writer.id, incarnation)
    bench.here.heard(1, {tag: Held(0, ((0, 7),))})
    assert bench.one.store.heard(1) == []
    third = replica(2)
    third.appender.incarnation = incarnation
    share(bench.one, third, 1)
    give(bench.one, third, 1)
    third.write(1, drafts("x"), START_MS)
    give(third, bench.one, 1)
    bench.here.note_heard(1)
    (row,) = bench.one.store.heard(1)
    assert (row.device, row.incarnation, row.seq, row.by) == (
        writer.id,
        incarnation,
        7,
        bench.other.device_id,
    )
    assert row.time_ms == NOW_MS
