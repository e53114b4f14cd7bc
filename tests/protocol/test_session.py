"""A session keeps the peer's time, its own bounds, and says nothing that is not needed."""

from __future__ import annotations

import pytest

from mlog import limits
from mlog.protocol import wire
from mlog.protocol.events import Closed, Committed, Received

from .pair import HOUR_MS, ROUND_TRIP_MS, Pair, Puppet, drafts, ids_of, pair_of_logs, replica


def connected(pair: Pair) -> Pair:
    pair.connect()
    pair.run()
    assert not pair.a.closed
    assert not pair.b.closed
    return pair


def test_a_session_that_was_idle_for_an_hour_still_carries_what_is_written():
    pair = connected(pair_of_logs())
    for writer in (pair.a, pair.b, pair.a):
        pair.run(HOUR_MS)
        pair.write(writer, 1, "after an hour")
        pair.run()
        assert ids_of(pair.a.store) == ids_of(pair.b.store)
    assert not [*pair.a.closed, *pair.b.closed]


def test_an_idle_session_sends_nothing_and_does_not_wake_for_an_hour():
    pair = connected(pair_of_logs())
    pair.write(pair.a, 1, "settles, and is compared once more")
    pair.run(2 * limits.SETTLE_MS)
    before = [(end.frames, end.ticks) for end in pair.ends]
    pair.run(HOUR_MS)
    assert [(end.frames, end.ticks) for end in pair.ends] == before


def test_a_log_that_comes_to_rest_while_a_bundle_is_on_its_way_does_not_keep_the_node_awake():
    pair = connected(pair_of_logs())
    pair.write(pair.a, 1, "one")
    pair.run()
    pair.delay_ms[pair.b] = 10 * limits.SETTLE_MS
    pair.write(pair.a, 1, "two")
    ticks = pair.a.ticks
    pair.run(8 * limits.SETTLE_MS)
    assert pair.a.ticks < ticks + 20


def test_a_peer_that_owes_an_answer_is_given_a_minute_from_then_on():
    puppet = Puppet(replica(0), leads=False).greet()
    offer = puppet.take(wire.Offer)
    puppet.pass_time(limits.ANSWER_TIMEOUT_MS - 1)
    assert not puppet.closed
    puppet.say(wire.Answer(offer.serial, b""))
    puppet.pass_time(10 * limits.ANSWER_TIMEOUT_MS)
    assert not puppet.closed


def test_a_peer_that_does_not_answer_loses_the_session():
    puppet = Puppet(replica(0), leads=False).greet()
    puppet.pass_time(limits.ANSWER_TIMEOUT_MS)
    assert puppet.closed == ["it did not answer in time"]
    assert not puppet.node._sessions


@pytest.mark.parametrize("leads", [False, True])
def test_a_stranger_that_never_says_hello_is_dropped_as_fast_as_one_that_shakes_no_hand(leads: bool):
    puppet = Puppet(replica(0), leads=leads)
    assert [type(message) for message in puppet.heard[:1]] == [wire.Hello]
    puppet.pass_time(limits.HANDSHAKE_TIMEOUT_MS)
    assert puppet.closed == ["it did not answer in time"]


def test_messages_that_pile_up_close_the_session_before_they_take_memory():
    puppet = Puppet(replica(0), leads=True).greet()
    # Many small messages: none is worked on while they arrive.
    session, frame = puppet.session, wire.encode(wire.Again())
    session._inbox.extend([frame] * limits.INBOX_MESSAGES_MAX)
    puppet._take(puppet.node.handle(Received(1, puppet.channel.seal(frame)[0]), puppet.now_ms))
    assert puppet.closed == ["more messages than were asked for"]


def test_large_messages_that_pile_up_close_the_session():
    puppet = Puppet(replica(0), leads=True).greet()
    puppet.session._inbox_size = limits.INBOX_SIZE_MAX_BYTES
    puppet._take(puppet.node.handle(Received(1, puppet.channel.seal(b"\xc0")[0]), puppet.now_ms))
    assert puppet.closed == ["more messages than were asked for"]


def test_a_frame_that_does_not_open_closes_the_session():
    puppet = Puppet(replica(0), leads=True).greet()
    puppet.event(Received(1, bytes(100)))
    assert puppet.closed == ["a frame that was altered, lost, repeated or out of order"]
    assert not puppet.node._sessions


def test_bytes_that_are_no_message_close_the_session():
    puppet = Puppet(replica(0), leads=True).greet()
    puppet.say_bytes(b"\x93\x01")
    assert puppet.closed
    assert puppet.closed[0].startswith("message: ")


def test_messages_of_an_unknown_kind_that_may_be_ignored_are():
    puppet = Puppet(replica(0), leads=True)
    assert puppet.say_bytes(b"\x92\xcc\x90\x05") == []
    puppet.greet()
    assert puppet.say_bytes(b"\x92\xcc\xff\x05") == []
    assert not puppet.closed
    puppet.say_bytes(b"\x92\x7f\x05")
    assert puppet.closed


def test_what_comes_after_the_end_is_ignored():
    puppet = Puppet(replica(0), leads=True).greet()
    puppet.event(Closed(1, "gone"))
    puppet.event(Received(1, bytes(100)))
    puppet.event(Closed(1, "gone"))
    puppet.event(Committed())
    assert not puppet.closed


def test_what_two_ends_say_when_nothing_differs_takes_one_round_trip():
    pair = pair_of_logs(3)
    pair.connect()
    handshake = ROUND_TRIP_MS
    pair.run(handshake + ROUND_TRIP_MS)
    assert [notice.log for notice in pair.a.told("equal")] == [1, 2, 3]
    assert pair.a.told("equal")[-1].round_trips == 1
    assert pair.a.ladder == ["Offer"]
    assert pair.b.ladder == ["Answer"]


def test_work_of_one_event_is_bounded_and_other_sessions_have_their_turn():
    pair = pair_of_logs()
    pair.a.replica.write(1, drafts(*(f"{n} " + "x" * 2000 for n in range(900))), pair.now_ms)
    pair.connect()
    pair.run()
    # Entries are stored in slices: more than one wake for one bundle.
    assert pair.b.ticks >= 900 * 5 // limits.RECEIVED_SLICE_COST
    assert ids_of(pair.a.store) == ids_of(pair.b.store)
