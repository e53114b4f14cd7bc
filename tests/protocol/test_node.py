"""A node keeps its sessions apart, one for each device, dials with patience, and knows when to wake."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from mlog import limits
from mlog.errors import Busy, InvalidInput, StoreError
from mlog.log.memory import MemoryStore
from mlog.log.store import LogKind, Task
from mlog.protocol import wire
from mlog.protocol.events import (
    Ask,
    Close,
    Closed,
    Committed,
    Dial,
    Effect,
    Event,
    Fetch,
    Opened,
    Received,
    Seen,
    Send,
    SyncNow,
    Tick,
    Unreachable,
    WakeAt,
)
from mlog.protocol.node import Node
from tests.log.support import START_MS, SeededEntropy, device_keys, message

from .pair import (
    HOUR_MS,
    Pair,
    Puppet,
    drafts,
    ids_of,
    pair_of_logs,
    peer_row,
    replica,
    share,
    trust,
)


def connected(pair: Pair, *leaders: int) -> Pair:
    for leader in leaders or (0,):
        pair.connect(pair.ends[leader])
    pair.run()
    return pair


# -- sessions --------------------------------------------------------------------------------


@pytest.mark.parametrize("leaders", [(0, 1), (1, 0), (1, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize("apart_ms", [0, 5, 15, 25, 500])
def test_of_several_sessions_with_one_device_the_same_one_stays_at_both_ends(
    leaders: Sequence[int], apart_ms: int
):
    pair = pair_of_logs()
    for leader in leaders:
        pair.connect(pair.ends[leader])
        if apart_ms:
            pair.run(apart_ms)
    pair.run()
    assert len(pair.a.node._sessions) == 1
    assert pair.a.node._sessions.keys() == pair.b.node._sessions.keys()
    pair.write(pair.a, 1, "still connected")
    pair.write(pair.b, 1, "indeed")
    pair.run()
    assert ids_of(pair.a.store) == ids_of(pair.b.store)


def test_a_second_dial_of_a_connected_device_is_closed_again():
    pair = connected(pair_of_logs())
    second = pair.connect()
    assert [close.session for close in pair.a.closed] == [second]
    pair.run()
    assert list(pair.a.node._sessions) == [1]


def test_a_device_that_dials_anew_replaces_its_dead_connection():
    pair = connected(pair_of_logs())
    # Only the dialling side noticed that it broke.
    pair.handle(pair.a, Closed(1, "broken"))
    second = pair.connect()
    pair.run()
    assert list(pair.a.node._sessions) == list(pair.b.node._sessions) == [second]


def test_each_session_is_told_established_once_and_only_after_the_peer_has_shown_that_it_is_there():
    pair = pair_of_logs()
    pair.connect()
    assert not pair.a.established
    assert not pair.b.established
    pair.run()
    for end in pair.ends:
        assert [(e.session, e.device) for e in end.established] == [(1, pair.other(end).replica.device_id)]


def test_a_replayed_first_message_establishes_nothing():
    pair = pair_of_logs()
    node = Node(pair.a.replica, SeededEntropy("dialler"), dials=False)
    effects = node.handle(Opened(session=1, device=pair.b.replica.device_id), START_MS)
    recorded = [effect.data for effect in effects if isinstance(effect, Send)]
    for number in (7, 8):
        pair.handle(pair.b, Opened(session=number))
        pair.b.node.handle(Received(number, recorded[0]), START_MS)
    assert not pair.b.established
    assert not pair.b.told("connected")
    assert not any(peer.seen_ms for peer in pair.b.store.peers())


def test_an_unknown_device_gets_no_byte_and_changes_nothing():
    pair = pair_of_logs()
    stranger = replica(2)
    trust(stranger, pair.b.replica)
    pair.b.store.remove_peer(stranger.device_id)
    node = Node(stranger, SeededEntropy("stranger"), dials=False)
    sends = [
        effect.data
        for effect in node.handle(Opened(session=9, device=pair.b.replica.device_id), START_MS)
        if isinstance(effect, Send)
    ]
    pair.b.node.handle(Opened(session=9), START_MS)
    effects = pair.b.node.handle(Received(9, sends[0]), START_MS)
    assert [type(effect) for effect in effects if not isinstance(effect, WakeAt)] == [Close]
    assert not pair.b.node._sessions


def test_bytes_of_a_peer_that_are_found_wanting_anywhere_end_its_session_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
):
    pair = connected(pair_of_logs())

    def refusing(*_: object) -> None:
        raise InvalidInput("of no possible form")

    monkeypatch.setattr(pair.b.replica, "receive", refusing)
    pair.write(pair.a, 1, "what the other cannot take")
    pair.run()
    assert [close.reason for close in pair.b.closed] == ["of no possible form"]
    assert not pair.b.node._sessions


def test_a_session_that_gives_way_to_another_is_not_said_to_rest():
    pair = pair_of_logs()
    pair.connect(pair.a)
    pair.connect(pair.b)
    pair.run()
    for end in pair.ends:
        assert len(end.told("connected")) == 2
        assert end.notices[-1].what == "rested"
        (left,) = end.node._sessions.values()
        assert left.rested


@pytest.mark.parametrize("garbage", [b"", b"\x01", bytes(97), b"\x01" + bytes(96), b"\x02" + bytes(96)])
def test_garbage_in_place_of_a_handshake_gets_no_byte(garbage: bytes):
    node = Node(replica(0), SeededEntropy("node"), dials=False)
    node.handle(Opened(session=1), START_MS)
    effects = node.handle(Received(1, garbage), START_MS)
    assert not any(isinstance(effect, Send) for effect in effects)
    assert any(isinstance(effect, Close) for effect in effects)


def test_a_connection_that_says_nothing_is_closed_when_the_handshake_is_overdue():
    node = Node(replica(0), SeededEntropy("node"), dials=False)
    effects = node.handle(Opened(session=1), START_MS)
    assert effects == [WakeAt(START_MS + limits.HANDSHAKE_TIMEOUT_MS)]
    effects = node.handle(Tick(), START_MS + limits.HANDSHAKE_TIMEOUT_MS)
    assert effects == [Close(1, "it did not answer in time")]


def test_events_of_sessions_that_are_not_there_are_ignored():
    node = Node(replica(0), SeededEntropy("node"), dials=False)
    for event in (Received(5, b"x"), Closed(5), Tick(), Committed(), SyncNow(), Fetch(1, ())):
        assert node.handle(event, START_MS) == []


def test_one_session_that_breaks_the_rules_leaves_the_others():
    pair = connected(pair_of_logs())
    puppet_keys = device_keys(3)
    pair.b.store.put_peer(peer_row(puppet_keys))
    pair.handle(pair.b, Opened(session=50))
    pair.b.node.handle(Received(50, b"\x01" + bytes(96)), pair.now_ms)
    assert 50 not in pair.b.node._sessions
    pair.write(pair.a, 1, "and on it goes")
    pair.run()
    assert ids_of(pair.a.store) == ids_of(pair.b.store)


def test_a_device_that_is_removed_loses_its_session_at_the_next_commit():
    pair = connected(pair_of_logs())
    pair.b.store.remove_peer(pair.a.replica.device_id)
    pair.handle(pair.b, Committed())
    assert not pair.b.node._sessions
    pair.run()
    assert not pair.a.node._sessions
    pair.write(pair.b, 1, "not for you")
    pair.connect()
    pair.run()
    assert ids_of(pair.a.store) < ids_of(pair.b.store)
    assert not pair.b.node._sessions


def test_a_device_that_is_no_longer_ones_own_loses_its_session():
    pair = connected(pair_of_logs())
    row = next(iter(pair.b.store.peers()))
    pair.b.store.put_peer(msgspec.structs.replace(row, own=False))
    pair.handle(pair.b, Committed())
    assert not pair.b.node._sessions


def test_when_a_device_was_seen_last_is_kept():
    pair = connected(pair_of_logs())
    for end in pair.ends:
        assert [peer.seen_ms for peer in end.store.peers()] == [START_MS + 20 + 10 * (end is pair.b)]


# -- what goes on between sessions -----------------------------------------------------------


def test_what_comes_from_one_device_goes_on_to_the_others_and_not_back():
    # C - A - B: what C writes reaches B through A.
    middle = pair_of_logs()
    c = replica(2)
    trust(c, middle.a.replica)
    share(middle.a.replica, c, 1)
    side = Pair(middle.a.replica, c, seed="side")
    connected(middle)
    connected(side)
    side.write(side.b, 1, "from c")
    side.run()
    # The same store, another node over it, as another process would have.
    entries_before = len(side.a.said(wire.Entries))
    middle.handle(middle.a, Committed())
    middle.run()
    assert ids_of(middle.b.store) == ids_of(c.store)
    side.handle(side.a, Committed())
    side.run()
    assert len(side.a.said(wire.Entries)) == entries_before


def test_a_log_that_is_started_while_connected_is_offered_at_once():
    for end in (0, 1):
        pair = connected(pair_of_logs())
        starter, other = pair.ends[end], pair.ends[1 - end]
        log = starter.replica.create_log(LogKind.CONVERSATION, [message("new")], pair.now_ms)
        share(starter.replica, other.replica, log)
        pair.handle(starter, Committed())
        pair.handle(other, Committed())
        pair.run()
        assert ids_of(starter.store, log) == ids_of(other.store, log)
        pair.write(other, log, "live too")
        pair.run()
        assert ids_of(starter.store, log) == ids_of(other.store, log)


def test_a_device_without_any_log_makes_an_offer_all_the_same():
    a, b = replica(0), replica(1)
    trust(a, b)
    b.create_log(LogKind.CONVERSATION, [message("granted on a whole offer")], START_MS)
    pair = connected(Pair(a, b))
    assert [len(offer.logs) for offer in pair.a.said(wire.Offer)][:1] == [0]
    assert not pair.a.said(wire.Offer)[0].partial


def test_sync_now_compares_everything_again_whoever_asks():
    for end in (0, 1):
        pair = connected(pair_of_logs(2))
        before = len(pair.a.said(wire.Offer))
        pair.handle(pair.ends[end], SyncNow())
        pair.run()
        assert len(pair.a.said(wire.Offer)) == before + 1
        assert len(pair.a.told("equal")) == 4


def test_the_leader_rests_once_when_everything_is_compared_and_again_after_each_change():
    pair = connected(pair_of_logs(3))
    assert len(pair.a.told("rested")) == 1
    assert [notice.what for notice in pair.a.notices[-2:]] == ["equal", "rested"]
    pair.run(HOUR_MS)
    assert len(pair.a.told("rested")) == 1
    pair.write(pair.a, 1, "again")
    pair.run(2 * limits.SETTLE_MS)
    assert len(pair.a.told("rested")) == 3
    assert pair.a.node.idle
    assert pair.b.node.idle


def test_a_question_to_a_device_that_is_not_connected_is_answered_with_an_error():
    pair = pair_of_logs()
    ask = Ask(number=3, device=pair.b.replica.device_id, log=1, first_week=0, last_week=8191, limit=10)
    pair.handle(pair.a, ask)
    assert [(page.number, page.end, page.error) for page in pair.a.pages] == [
        (3, True, "there is no connection to the device")
    ]


def test_a_question_that_the_session_does_not_outlive_is_answered_with_an_error():
    pair = connected(pair_of_logs())
    ask = Ask(number=3, device=pair.b.replica.device_id, log=1, first_week=0, last_week=8191, limit=10)
    pair.handle(pair.a, ask)
    pair.disconnect(1)
    assert [(page.number, page.end, page.error) for page in pair.a.pages] == [
        (3, True, "the connection ended")
    ]


# -- the store fails -------------------------------------------------------------------------


class Failing(MemoryStore):
    """A store whose writes fail while `error` is set."""

    error: Exception | None = None

    def insert(self, rows: Any, parents: Any, references: Any, words: Any) -> None:
        if self.error is not None:
            raise self.error
        super().insert(rows, parents, references, words)


def failing_pair() -> tuple[Pair, Failing]:
    store = Failing()
    a, b = replica(0), replica(1, store)
    trust(a, b)
    share(a, b, a.create_log(LogKind.CONVERSATION, [message("first")], START_MS))
    return Pair(a, b), store


def test_a_failing_disk_stops_the_node_and_nothing_is_acknowledged():
    pair, store = failing_pair()
    store.error = StoreError("the disk is full")
    pair.connect()
    with pytest.raises(StoreError):
        pair.run()
    assert not pair.b.said(wire.Ack)
    assert not ids_of(store)


def test_a_store_that_another_process_holds_for_too_long_costs_the_session_only():
    pair, store = failing_pair()
    store.error = Busy("another process writes")
    pair.connect()
    pair.run()
    assert not pair.b.said(wire.Ack)
    assert [close.reason for close in pair.b.closed] == ["another process writes"]
    assert not pair.a.node._sessions
    store.error = None
    pair.connect()
    pair.run()
    assert ids_of(store) == ids_of(pair.a.store)


# -- dialling --------------------------------------------------------------------------------


class Dialler:
    """A node that dials, and the peer that it knows, which is never there."""

    def __init__(self, addresses: tuple[str, ...] = ("host:1",)):
        self.replica = replica(0)
        self.device = device_keys(1).id
        self.replica.store.put_peer(peer_row(device_keys(1), addresses=addresses))
        self.node = Node(self.replica, SeededEntropy("dialler"), dials=True)
        self.now_ms = START_MS
        self.dials: list[tuple[int, Dial]] = []
        self.wake_ms: int | None = None

    def take(self, effects: Sequence[Effect]) -> Sequence[Effect]:
        for effect in effects:
            if isinstance(effect, Dial):
                self.dials.append((self.now_ms, effect))
            if isinstance(effect, WakeAt):
                self.wake_ms = effect.time_ms
        return effects

    def event(self, event: Event) -> Sequence[Effect]:
        return self.take(self.node.handle(event, self.now_ms))

    def wait(self) -> None:
        assert self.wake_ms is not None
        self.now_ms, self.wake_ms = self.wake_ms, None
        self.event(Tick())


def test_a_device_is_dialled_at_the_start():
    dialler = Dialler()
    dialler.take(dialler.node.start(START_MS))
    assert [dial for _, dial in dialler.dials] == [Dial(dialler.device, ("host:1",))]
    assert dialler.wake_ms is None


def test_a_device_that_is_not_there_is_dialled_ever_less_often():
    dialler = Dialler()
    dialler.take(dialler.node.start(START_MS))
    for _ in range(12):
        dialler.event(Unreachable(dialler.device, "refused"))
        dialler.wait()
    times = [at_ms for at_ms, _ in dialler.dials]
    waits = [b - a for a, b in pairwise(times)]
    expected = [min(limits.REDIAL_MIN_MS << n, limits.REDIAL_MAX_MS) for n in range(12)]
    assert waits == expected


def test_a_clock_that_is_set_back_makes_nothing_wait_longer():
    dialler = Dialler()
    dialler.take(dialler.node.start(START_MS))
    dialler.event(Unreachable(dialler.device, "refused"))
    back_ms = 10 * 365 * 24 * HOUR_MS
    effects = dialler.node.handle(Opened(session=1), START_MS - back_ms)
    assert effects == [WakeAt(START_MS - back_ms + limits.HANDSHAKE_TIMEOUT_MS)]
    back_ms += 1_000
    assert dialler.node.handle(Committed(), START_MS - back_ms) == [
        WakeAt(START_MS - back_ms + min(limits.REDIAL_MIN_MS, limits.HANDSHAKE_TIMEOUT_MS))
    ]
    effects = dialler.node.handle(Tick(), START_MS - back_ms + limits.HANDSHAKE_TIMEOUT_MS)
    assert Close(1, "it did not answer in time") in effects
    assert Dial(dialler.device, ("host:1",)) in effects


def test_a_device_that_is_seen_is_dialled_at_once_and_its_addresses_are_tried_first():
    dialler = Dialler()
    dialler.take(dialler.node.start(START_MS))
    dialler.event(Unreachable(dialler.device, "refused"))
    dialler.event(Seen(dialler.device, ("new:2",)))
    assert dialler.dials[-1] == (START_MS, Dial(dialler.device, ("new:2", "host:1")))


def test_addresses_of_a_device_are_bounded():
    dialler = Dialler()
    for number in range(100):
        dialler.event(Seen(dialler.device, (f"host:{number}",)))
    assert len(dialler.dials[-1][1].addresses) == limits.PEER_ADDRESSES_MAX


def test_a_stranger_that_is_seen_is_not_dialled():
    dialler = Dialler()
    dialler.event(Seen(device_keys(2).id, ("host:1",)))
    assert not dialler.dials


def test_a_device_that_is_trusted_meanwhile_is_dialled_and_one_that_is_removed_is_not():
    dialler = Dialler()
    dialler.take(dialler.node.start(START_MS))
    dialler.replica.store.put_peer(peer_row(device_keys(2)))
    dialler.event(Committed())
    assert [dial.device for _, dial in dialler.dials] == [dialler.device, device_keys(2).id]
    dialler.event(Unreachable(dialler.device, "refused"))
    dialler.replica.store.remove_peer(dialler.device)
    dialler.event(Committed())
    assert dialler.wake_ms is None or dialler.wake_ms > dialler.now_ms
    dialler.now_ms += HOUR_MS
    dialler.event(Tick())
    assert len(dialler.dials) == 2


def test_sync_now_dials_at_once():
    dialler = Dialler()
    dialler.take(dialler.node.start(START_MS))
    dialler.event(Unreachable(dialler.device, "refused"))
    dialler.event(SyncNow())
    assert len(dialler.dials) == 2


def test_a_node_that_does_not_dial_never_dials():
    known = replica(0)
    known.store.put_peer(peer_row(device_keys(1)))
    node = Node(known, SeededEntropy("node"), dials=False)
    effects = [*node.start(START_MS), *node.handle(SyncNow(), START_MS), *node.handle(Committed(), START_MS)]
    effects += node.handle(Seen(device_keys(1).id, ("host:1",)), START_MS)
    assert not [effect for effect in effects if isinstance(effect, Dial | WakeAt)]


def test_a_dialled_device_that_is_not_known_any_more_is_left_alone():
    dialler = Dialler()
    dialler.replica.store.remove_peer(dialler.device)
    effects = dialler.event(Opened(session=1, device=dialler.device))
    assert effects == [Close(1, "the device is not known any more")]


def test_a_session_that_ends_is_dialled_again_by_the_side_that_dialled():
    pair = pair_of_logs()
    pair = Pair(pair.a.replica, pair.b.replica, dials=True)
    for end in pair.ends:
        pair.carry_out(end, end.node.start(pair.now_ms))
    assert [len(end.dials) for end in pair.ends] == [1, 1]
    pair.connect()
    pair.run()
    pair.disconnect(1)
    pair.run(limits.REDIAL_MIN_MS)
    assert len(pair.a.dials) == 2
    assert pair.a.told("disconnected")
    # The other one waits for that, and dials if nobody comes.
    assert len(pair.b.dials) == 1
    pair.run(limits.REDIAL_MIN_MS)
    assert len(pair.b.dials) == 2


def test_a_device_that_is_dialled_again_does_not_dial_itself():
    pair = pair_of_logs()
    pair = Pair(pair.a.replica, pair.b.replica, dials=True)
    for end in pair.ends:
        pair.carry_out(end, end.node.start(pair.now_ms))
    pair.connect()
    pair.run()
    pair.disconnect(1)
    pair.run(limits.REDIAL_MIN_MS)
    pair.connect()
    pair.run(HOUR_MS)
    assert len(pair.b.dials) == 1
    assert list(pair.a.node._sessions) == list(pair.b.node._sessions) == [2]


# -- time ------------------------------------------------------------------------------------


def test_a_clock_that_is_days_off_is_told_of():
    a, b = replica(0), replica(1)
    trust(a, b)
    pair = Pair(a, b)
    puppet = Puppet(a, leads=True)
    puppet.say(wire.Hello(1, 0, START_MS - 3 * limits.CLOCK_SKEW_WARN_MS))
    assert [n.detail for n in puppet.notices if n.what == "clock"] == [
        f"the clock of device {puppet.keys.id.hex()[:4]} is 3 days behind ours"
    ]
    assert not pair.a.notices


def test_many_logs_that_are_written_to_settle_together():
    pair = connected(pair_of_logs(20))
    offers = len(pair.a.said(wire.Offer))
    for log in range(1, 21):
        pair.write(pair.a, log, "one")
    pair.run(2 * limits.SETTLE_MS)
    assert len(pair.a.said(wire.Offer)) <= offers + 2
    assert {notice.log for notice in pair.a.told("equal")[20:]} == set(range(1, 21))


def test_long_work_is_done_in_slices_with_a_wake_for_each():
    pair = pair_of_logs()
    pair.a.replica.write(1, drafts(*map(str, range(600))), START_MS)
    pair.connect()
    pair.run()
    assert ids_of(pair.a.store) == ids_of(pair.b.store)
    assert pair.b.ticks > 3


def test_what_was_left_for_later_when_the_process_ended_is_done_after_the_next_start():
    writer, reader = replica(0), replica(1)
    log = writer.create_log(LogKind.CONVERSATION, [], START_MS)
    share(writer, reader, log)
    share(writer, reader, writer.create_log(LogKind.CONVERSATION, [], START_MS))
    rows = [writer.write(log, drafts(f"{n}"), START_MS)[0] for n in range(600)]
    sealed = writer.sealed_of(log, [*writer.store.arrivals(log, 0, 1), *rows], bodies=True)
    for at in range(len(sealed), 0, -50):
        reader.receive(log, sealed[max(at - 50, 0) : at], START_MS)
    assert any(reader.store.unsettled(log, task, 1) for task in Task), "the test leaves nothing to do"
    node = Node(replica(1, reader.store), SeededEntropy("node"), dials=False)
    effects = node.start(START_MS)
    steps = 0
    while WakeAt(START_MS) in effects:
        effects = node.handle(Tick(), START_MS)
        steps += 1
        assert steps < 100
    assert not any(reader.store.unsettled(log, task, 1) for task in Task)
    assert steps >= 2
