"""A node pairs once, while a person has it open, and stores nothing before both ends have said yes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlog import limits
from mlog.errors import Busy, UserError
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow
from mlog.log.replica import Replica
from mlog.protocol.channel import PAIRING_MESSAGE_SIZES, Channel
from mlog.protocol.codes import Code, LinkType
from mlog.protocol.events import (
    Close,
    Closed,
    Decide,
    Effect,
    Event,
    Leave,
    Meet,
    Opened,
    Received,
    Send,
    Tick,
    Unmet,
)
from mlog.protocol.node import Node
from mlog.protocol.pairing import DeviceRecord, Ended, Paired, Show, make_record
from tests.log.support import START_MS, SeededEntropy, device_keys

from .pair import End, Pair, replica

KEY = Code(7).shared_key
WRONG = Code(8).shared_key


def plan_of(own: Replica, *, dials: bool, key: bytes = KEY, founded_ms: int = 1, **options: Any) -> Meet:
    record = make_record(
        own.device_keys,
        purpose=LinkType.DEVICE,
        name="desk",
        person="Ann",
        topic=own.device_id[:16],
        founded_ms=founded_ms,
        devices=1,
    )

    def keep(other: DeviceRecord) -> None:
        own.store.put_peer(
            PeerRow(
                device=DeviceId(other.device),
                name=other.name,
                noise=other.noise,
                hpke=other.hpke,
                own=True,
                addresses=("host:1",),
            )
        )

    given: dict[str, Any] = {
        "shared_keys": (key,),
        "accepts": lambda _: None,
        "keep": keep,
        "addresses": ("host:1",),
        **options,
    }
    return Meet(record=record, dials=dials, **given)


class Two(Pair):
    """The desk, A, shows a code; the phone, B, has it."""

    def __init__(self, **options: Any):
        super().__init__(replica(0), replica(1), **options)

    def open(self, **options: Any) -> None:
        self.handle(self.a, plan_of(self.a.replica, dials=False, **options))

    def join(self, key: bytes = KEY, **options: Any) -> None:
        self.handle(self.b, plan_of(self.b.replica, dials=True, key=key, founded_ms=2, **options))
        self.run()

    def known(self) -> list[int]:
        return [len(end.store.peers()) for end in self.ends]


def last(end: End) -> Show | Paired | Ended:
    return end.met[-1]


def reason(end: End) -> str:
    ended = last(end)
    assert isinstance(ended, Ended)
    return ended.reason


# -- the usual way ---------------------------------------------------------------------------


def test_two_nodes_know_each_other_once_the_person_has_said_yes():
    two = Two()
    two.open()
    two.join()
    here, there = last(two.a), last(two.b)
    assert isinstance(here, Show)
    assert isinstance(there, Show)
    assert here.words == there.words
    assert two.known() == [0, 0]
    two.handle(two.a, Decide(yes=True))
    two.run()
    assert [type(last(end)) for end in two.ends] == [Paired, Paired]
    assert two.known() == [1, 1]


def test_they_sync_at_once_over_a_connection_of_its_own():
    two = Two(dials=True)
    two.open()
    two.join()
    two.handle(two.a, Decide(yes=True))
    two.run()
    assert [dial.device for dial in two.b.dials] == [two.a.replica.device_id]
    two.connect(two.b)
    two.run()
    assert two.a.told("connected")
    assert two.b.told("connected")


def test_when_the_person_says_no_nothing_is_stored():
    two = Two()
    two.open()
    two.join()
    two.handle(two.a, Decide(yes=False))
    two.run()
    assert "you said no" in reason(two.a)
    assert "said no" in reason(two.b)
    assert two.known() == [0, 0]


def test_the_other_end_is_told_yes_only_after_it_was_stored():
    two = Two()

    def fail(_: DeviceRecord) -> None:
        raise Busy("another process holds the log.")

    two.open(keep=fail)
    two.join()
    two.handle(two.a, Decide(yes=True))
    two.run()
    assert "another process holds the log" in reason(two.a)
    assert "hung up" in reason(two.b)
    assert two.known() == [0, 0]


def test_who_may_not_be_paired_is_refused_before_anybody_is_asked():
    two = Two()

    def refuse(_: DeviceRecord) -> None:
        raise UserError("this device was revoked.")

    two.open(accepts=refuse)
    two.join()
    assert [type(effect) for effect in two.a.met] == [Ended]
    assert "revoked" in reason(two.a)
    assert "said no" in reason(two.b)


def test_the_connection_may_stay_once_the_secret_is_proven_and_not_before():
    two = Two()
    two.open()
    two.join()
    assert two.a.admitted == [1]
    other = Two()
    other.open()
    other.join(WRONG)
    assert other.a.admitted == []


@pytest.mark.parametrize("typed", [KEY, WRONG])
def test_the_code_and_the_link_that_are_shown_are_together_good_for_one_try(typed: bytes):
    two = Two()
    two.open(shared_keys=(KEY, WRONG))
    two.join(typed)
    assert isinstance(last(two.a), Show)
    two.handle(two.b, Leave())
    two.run()
    two.join(KEY)
    assert "not the one" in reason(two.b)


# -- strangers -------------------------------------------------------------------------------


def first_message(key: bytes) -> bytes:
    return Channel.pair(device_keys(5).noise_seed, key, b"9" * 32, dials=True).start()


def answers(effects: list[Effect]) -> tuple[list[bytes], list[str]]:
    """What is sent to a stranger, and why it is closed."""
    sent = [effect.data for effect in effects if isinstance(effect, Send)]
    return sent, [effect.reason for effect in effects if isinstance(effect, Close)]


@pytest.mark.parametrize("key", [KEY, WRONG])
def test_while_nothing_is_open_a_stranger_gets_no_byte(key: bytes):
    two = Two()
    two.handle(two.a, Opened(session=9))
    sent, closed = answers(two.a.node.handle(Received(9, first_message(key)), START_MS))
    assert sent == []
    assert closed


def test_a_wrong_code_gets_no_byte_and_uses_the_code_up():
    two = Two()
    two.open()
    two.join(WRONG)
    assert "another code" in reason(two.a)
    assert "not the one that the other device shows" in reason(two.b)
    assert two.a.frames == 0
    # The right one is of no use any more: there was one try.
    two.join()
    assert "not the one that the other device shows" in reason(two.b)
    assert two.a.frames == 0
    assert two.known() == [0, 0]


def test_one_connection_tries_and_all_others_get_no_byte_meanwhile():
    two = Two()
    two.open()
    two.join()
    for session in (20, 21):
        two.handle(two.a, Opened(session=session))
        sent, closed = answers(two.a.node.handle(Received(session, first_message(KEY)), two.now_ms))
        assert sent == []
        assert closed
    two.handle(two.a, Decide(yes=True))
    two.run()
    assert isinstance(last(two.b), Paired)


def test_what_is_no_try_leaves_it_open():
    two = Two()
    two.open()
    two.handle(two.a, Opened(session=9))
    effects = two.a.node.handle(Received(9, b"\x01" + bytes(PAIRING_MESSAGE_SIZES[0] - 1)), two.now_ms)
    assert answers(effects)[0] == []
    two.join()
    assert isinstance(last(two.a), Show)


def test_known_devices_connect_while_it_is_open():
    two = Two()
    two.open()
    two.join()
    two.handle(two.a, Decide(yes=True))
    two.run()
    two.open()
    two.connect(two.b)
    two.run()
    assert two.a.told("connected")


def test_a_node_that_dials_does_not_answer_a_try():
    two = Two()
    two.handle(two.a, plan_of(two.a.replica, dials=True))
    two.handle(two.a, Opened(session=9))
    sent, _ = answers(two.a.node.handle(Received(9, first_message(KEY)), two.now_ms))
    assert sent == []


class Relay(Two):
    """What goes between the two passes through somebody who has not the code.

    Args:
        change: What becomes of each message; it keeps what it sees.
    """

    def __init__(self, change: Callable[[int, bytes], bytes] = lambda _, data: data):
        super().__init__()
        self.seen: list[bytes] = []
        self._change = change

    def _post(self, end: End, event: Event, delay_ms: int, number: int) -> None:
        if isinstance(event, Received):
            self.seen.append(event.data)
            event = Received(event.session, self._change(len(self.seen) - 1, event.data))
        super()._post(end, event, delay_ms, number)


def test_a_relay_that_passes_all_on_learns_no_name_and_no_key():
    relay = Relay()
    relay.open()
    relay.join()
    relay.handle(relay.a, Decide(yes=True))
    relay.run()
    assert [type(last(end)) for end in relay.ends] == [Paired, Paired]
    seen = b"".join(relay.seen)
    for end in relay.ends:
        keys = end.replica.device_keys
        for known in (keys.id, keys.noise_public, keys.hpke_public[:32], b"desk", b"Ann"):
            assert known not in seen


@pytest.mark.parametrize("at", range(7))
def test_a_relay_that_changes_one_bit_of_one_message_has_nobody_paired(at: int):
    def flip(number: int, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if number == at else data

    relay = Relay(flip)
    relay.open()
    relay.join()
    relay.handle(relay.a, Decide(yes=True))
    relay.run()
    # Of the last message, the yes that says that all is stored, only the other end lacks the knowledge.
    assert relay.known() == [int(at == 6), 0]
    assert isinstance(last(relay.b), Ended)


# -- ends ------------------------------------------------------------------------------------


def test_nobody_comes_within_two_minutes():
    two = Two()
    two.open()
    two.run(limits.PAIRING_LIFE_MS - 1)
    assert two.a.met == []
    two.run(2)
    assert "within two minutes" in reason(two.a)
    two.join()
    assert "not the one" in reason(two.b)


def test_nobody_decides_within_two_minutes():
    two = Two()
    two.open()
    two.join()
    two.run(limits.PAIRING_LIFE_MS)
    # Who dialled began a moment earlier.
    assert "longer than two minutes" in reason(two.b)
    assert isinstance(last(two.a), Ended)
    two.handle(two.a, Decide(yes=True))
    two.run()
    assert two.known() == [0, 0]


def test_who_answers_and_says_nothing_is_not_waited_for():
    keys = replica(1)
    node = Node(keys, SeededEntropy("silent"))
    node.handle(plan_of(keys, dials=True), START_MS)
    node.handle(Opened(session=1, reached=True), START_MS)
    effects = node.handle(Tick(), START_MS + limits.HANDSHAKE_TIMEOUT_MS)
    [ended] = [effect for effect in effects if isinstance(effect, Ended)]
    assert "does not pair" in ended.reason


def test_a_clock_that_is_put_back_gives_no_more_time():
    keys = replica(1)
    node = Node(keys, SeededEntropy("clock"))
    node.handle(plan_of(keys, dials=False), START_MS)
    node.handle(Tick(), START_MS - 3_600_000)
    effects = node.handle(Tick(), START_MS - 3_600_000 + limits.PAIRING_LIFE_MS)
    assert any(isinstance(effect, Ended) for effect in effects)


def test_the_person_ends_it_at_either_end():
    two = Two()
    two.open()
    two.handle(two.a, Leave())
    assert "you ended it" in reason(two.a)
    two.open()
    two.join()
    two.handle(two.b, Leave())
    two.run()
    assert "you said no" in reason(two.b)
    assert "said no" in reason(two.a)
    assert two.known() == [0, 0]


def test_the_connection_breaks_in_the_middle():
    two = Two()
    two.open()
    two.join()
    two.disconnect(1)
    assert "hung up" in reason(two.a)
    assert "hung up" in reason(two.b)
    two.handle(two.a, Decide(yes=True))
    assert two.known() == [0, 0]


def test_after_a_last_yes_that_was_lost_pairing_once_more_puts_it_right():
    two = Two()
    two.open()
    two.join()
    two.handle(two.a, Decide(yes=True))
    two.disconnect(1)
    two.run()
    assert two.known() == [1, 0]
    two.open()
    two.join()
    two.handle(two.a, Decide(yes=True))
    two.run()
    assert two.known() == [1, 1]


def test_nobody_is_reached():
    keys = replica(1)
    node = Node(keys, SeededEntropy("alone"))
    node.handle(plan_of(keys, dials=True), START_MS)
    [ended] = [e for e in node.handle(Unmet("no answer"), START_MS) if isinstance(e, Ended)]
    assert ended.reason == "no answer"
    # What comes too late is closed.
    assert [type(e) for e in node.handle(Opened(session=1, reached=True), START_MS)] == [Close]
    node.handle(Closed(1), START_MS)


def test_what_is_said_of_a_plan_has_no_secret_in_it():
    plan = plan_of(replica(0), dials=False)
    assert KEY.hex() not in repr(plan)
    assert repr(KEY) not in repr(plan)
    assert msgspec.structs.fields(plan)
