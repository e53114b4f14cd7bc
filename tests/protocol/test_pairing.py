"""Two devices that share a secret come to know each other; nobody else does, and no step is skipped."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import ProtocolViolation, UserError
from mlog.log.crypto import DeviceKeys
from mlog.protocol.channel import Channel
from mlog.protocol.codes import Code, LinkType
from mlog.protocol.pairing import (
    TRANSITIONS,
    Confirm,
    Decision,
    DeviceRecord,
    Effect,
    Ended,
    Message,
    Paired,
    Pairing,
    Reject,
    Send,
    Show,
    State,
    Window,
    decode,
    encode,
    fingerprint,
    make_record,
)

DESK = DeviceKeys(b"a" * 32, b"b" * 32, b"c" * 32)
LAPTOP = DeviceKeys(b"d" * 32, b"e" * 32, b"f" * 32)
KEY = Code(1).shared_key
NOW = 1_700_000_000_000


def record_of(keys: DeviceKeys, founded_ms: int, **changes: Any) -> DeviceRecord:
    record = make_record(
        keys,
        purpose=LinkType.DEVICE,
        name=f"device {keys.id.hex()[:4]}",
        person="Ann",
        topic=keys.id[:16],
        founded_ms=founded_ms,
        devices=1,
        addresses=("desk.example:7367",),
    )
    return msgspec.structs.replace(record, **changes)


def desk(key: bytes = KEY, *, dials: bool = False, founded_ms: int = 1, **changes: Any) -> Pairing:
    """The older device, which shows the code."""
    record = record_of(DESK, founded_ms, **changes)
    return Pairing(DESK, record, key, b"1" * 32, dials=dials, now_ms=NOW)


def laptop(
    key: bytes = KEY, *, dials: bool = True, founded_ms: int = 2, expected: bytes | None = None
) -> Pairing:
    """The younger device, whose person types the code."""
    record = record_of(LAPTOP, founded_ms)
    return Pairing(LAPTOP, record, key, b"2" * 32, dials=dials, now_ms=NOW, expected=expected)


class Wire:
    """Two ends joined: what one sends the other receives, until nothing is left to send."""

    def __init__(self, dialling: Pairing, answering: Pairing):
        self.ends = (dialling, answering)
        self.seen: tuple[list[Effect], list[Effect]] = ([], [])
        self.carry(0, dialling.start())

    def carry(self, end: int, effects: list[Effect]) -> None:
        waiting = deque((end, effect) for effect in effects)
        while waiting:
            end, effect = waiting.popleft()
            self.seen[end].append(effect)
            if isinstance(effect, Send):
                answers = self.ends[1 - end].receive(effect.data, NOW)
                waiting.extend((1 - end, answer) for answer in answers)

    def decide(self, end: int, decision: Decision) -> None:
        self.carry(end, self.ends[end].decide(decision, NOW))

    def last(self, end: int, kind: type) -> object:
        return next((effect for effect in reversed(self.seen[end]) if isinstance(effect, kind)), None)


def shown() -> Wire:
    """Both ends show the other one; the desk, end 1, has to decide."""
    return Wire(laptop(), desk())


def reason(wire: Wire, end: int) -> str:
    ended = wire.last(end, Ended)
    assert isinstance(ended, Ended)
    return ended.reason


# -- the usual way ---------------------------------------------------------------------------


def test_both_screens_show_the_other_device_and_the_same_words() -> None:
    wire = shown()
    here, there = wire.last(0, Show), wire.last(1, Show)
    assert isinstance(here, Show)
    assert isinstance(there, Show)
    assert here.words == there.words
    assert (here.record.device, there.record.device) == (DESK.id, LAPTOP.id)
    assert (here.asks, there.asks) == (False, True)
    assert wire.last(0, Paired) is wire.last(1, Paired) is None


def test_when_the_old_device_confirms_both_have_the_other_ones_record() -> None:
    wire = shown()
    wire.decide(1, Decision.YES)
    for end, other in ((0, DESK), (1, LAPTOP)):
        paired = wire.last(end, Paired)
        assert isinstance(paired, Paired)
        assert (paired.record.device, paired.record.noise, paired.record.hpke) == (
            other.id,
            other.noise_public,
            other.hpke_public,
        )
        assert wire.ends[end].state is State.PAIRED


def test_when_the_old_device_says_no_neither_has_anything() -> None:
    wire = shown()
    wire.decide(1, Decision.NO)
    assert "you said no" in reason(wire, 1)
    assert "said no" in reason(wire, 0)
    assert wire.last(0, Paired) is wire.last(1, Paired) is None


def test_where_the_old_device_typed_the_code_both_have_to_say_yes() -> None:
    wire = Wire(desk(dials=True), laptop(dials=False))
    shows = [wire.last(end, Show) for end in (0, 1)]
    assert [isinstance(show, Show) and show.asks for show in shows] == [True, True]
    wire.decide(0, Decision.YES)
    assert wire.last(0, Paired) is wire.last(1, Paired) is None
    wire.decide(1, Decision.YES)
    assert isinstance(wire.last(0, Paired), Paired)
    assert isinstance(wire.last(1, Paired), Paired)


def test_who_showed_the_code_decides_even_if_the_other_one_claims_to_be_older() -> None:
    # Else whoever overheard the code could take this device over without a question.
    wire = Wire(laptop(founded_ms=0), desk())
    show = wire.last(1, Show)
    assert isinstance(show, Show)
    assert show.asks
    assert wire.last(1, Paired) is None


def test_a_no_is_heard_after_a_yes_as_long_as_the_other_one_waits() -> None:
    wire = Wire(desk(dials=True), laptop(dials=False))
    wire.decide(0, Decision.YES)
    wire.decide(0, Decision.NO)
    assert "said no" in reason(wire, 1)


def test_a_device_that_may_not_be_paired_is_refused_before_anybody_is_asked() -> None:
    def refuse(_: DeviceRecord) -> None:
        raise UserError("it was revoked.")

    record = record_of(DESK, 1)
    refusing = Pairing(DESK, record, KEY, b"1" * 32, dials=False, now_ms=NOW, accepts=refuse)
    wire = Wire(laptop(), refusing)
    assert reason(wire, 1) == "it was revoked. Nothing was changed."
    assert "said no; its screen may say why" in reason(wire, 0)
    assert wire.last(1, Show) is None


# -- who is at the other end -----------------------------------------------------------------


def test_the_fingerprint_of_a_link_is_checked() -> None:
    own = fingerprint(DESK.id, DESK.noise_public, DESK.hpke_public)
    wire = Wire(laptop(expected=own), desk())
    assert isinstance(wire.last(0, Show), Show)
    wire = Wire(laptop(expected=bytes(16)), desk())
    assert "not the one that made the link" in reason(wire, 0)
    assert wire.last(0, Show) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"noise": LAPTOP.noise_public}, "do not fit"),
        ({"version": 2}, "another version"),
        ({"purpose": LinkType.PERSON}, "this one 'mlog pair'"),
        ({"device": LAPTOP.id, "noise": DESK.noise_public}, "this device itself"),
        ({"device": DeviceKeys(b"x" * 32, b"y" * 32, b"z" * 32).id}, "not signed"),
    ],
)
def test_a_record_that_is_not_the_other_devices_own_is_refused(changes: dict[str, Any], said: str) -> None:
    wire = Wire(laptop(), desk(**changes))
    assert said in reason(wire, 0)
    assert wire.last(0, Show) is None


def test_a_record_that_was_signed_for_another_channel_is_refused() -> None:
    # The holder of a code may replay what another device once said to it, but has not its key.
    stolen = record_of(DESK, 1)
    signed = msgspec.structs.replace(stolen, signature=DESK.sign("pairing", stolen.signed(bytes(32))))
    victim = laptop(dials=False)
    channel = Channel.pair(DESK.noise_seed, KEY, b"1" * 32, dials=True)
    (second,) = victim.receive(channel.start(), NOW)
    assert isinstance(second, Send)
    channel.receive(second.data)
    victim.receive(channel.accept(), NOW)
    (ended,) = victim.receive(channel.seal(encode(signed))[0], NOW)
    assert isinstance(ended, Ended)
    assert "not signed" in ended.reason


def test_this_device_cannot_pair_with_itself() -> None:
    wire = Wire(desk(dials=True), desk())
    assert "this device itself" in reason(wire, 0)


# -- secrets ---------------------------------------------------------------------------------


def test_another_code_ends_it_on_the_side_that_answers_without_a_word_to_the_other() -> None:
    answering = desk(Code(2).shared_key)
    wire = Wire(laptop(), answering)
    assert [effect for effect in wire.seen[1] if isinstance(effect, Send)] == []
    assert "another code than the one that is shown here" in reason(wire, 1)
    (ended,) = wire.ends[0].closed()
    assert isinstance(ended, Ended)
    assert "not the one that the other device shows" in ended.reason


def test_a_relay_that_has_not_the_code_cannot_read_change_or_replace_anything() -> None:
    # It answers the laptop itself, as the desk would, and asks the desk itself, as the laptop would.
    guess = Code(3).shared_key
    mallory = DeviceKeys(b"m" * 32, b"n" * 32, b"o" * 32)
    (first,) = laptop().start()
    assert isinstance(first, Send)
    with pytest.raises(ProtocolViolation):
        Channel.pair(mallory.noise_seed, guess, b"3" * 32, dials=False).receive(first.data)
    (ended,) = desk().receive(Channel.pair(mallory.noise_seed, guess, b"4" * 32, dials=True).start(), NOW)
    assert isinstance(ended, Ended)


def test_a_relay_that_forwards_one_message_less_or_changed_ends_it() -> None:
    dialling, answering = laptop(), desk()
    (first,) = dialling.start()
    assert isinstance(first, Send)
    (second,) = answering.receive(first.data, NOW)
    assert isinstance(second, Send)
    sent = dialling.receive(second.data, NOW)
    third, record = (effect.data for effect in sent if isinstance(effect, Send))
    answering.receive(third, NOW)
    changed = bytes([record[0] ^ 1]) + record[1:]
    (ended,) = answering.receive(changed, NOW)
    assert isinstance(ended, Ended)


def wrong_codes(count: int) -> Iterator[bytes]:
    for number in range(1, count + 1):
        yield Code(1 + (number << 20 | number)).shared_key


def assert_none_is_accepted(count: int) -> None:
    tried = 0
    for guess in wrong_codes(count):
        first = Channel.pair(LAPTOP.noise_seed, guess, b"3" * 32, dials=True).start()
        answering = Channel.pair(DESK.noise_seed, KEY, b"1" * 32, dials=False)
        with pytest.raises(ProtocolViolation):
            answering.receive(first)
        tried += 1
    assert tried == count


def test_no_wrong_code_is_accepted() -> None:
    assert_none_is_accepted(200)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_none_of_100000_wrong_codes_is_accepted() -> None:
    assert_none_is_accepted(100_000)


def test_a_window_lets_one_try_in() -> None:
    first = Channel.pair(LAPTOP.noise_seed, Code(9).shared_key, b"3" * 32, dials=True).start()
    window = Window((KEY,), NOW)
    assert window.is_open(NOW)
    assert window.admit(first, NOW) == (KEY,)
    assert not window.is_open(NOW)
    assert window.admit(first, NOW) == ()


def test_a_window_closes_after_two_minutes() -> None:
    first = Channel.pair(LAPTOP.noise_seed, KEY, b"3" * 32, dials=True).start()
    window = Window((KEY,), NOW)
    assert window.is_open(NOW + limits.PAIRING_LIFE_MS - 1)
    assert window.admit(first, NOW + limits.PAIRING_LIFE_MS) == ()
    assert window.admit(first, NOW) == ()


def test_what_is_no_try_leaves_the_window_open() -> None:
    window = Window((KEY,), NOW)
    for first in (b"", b"\x01" + bytes(48), b"\x01" + bytes(96), b"\x02", b"\x02" + bytes(96)):
        assert window.admit(first, NOW) == ()
    assert window.is_open(NOW)


# -- the table of states ---------------------------------------------------------------------

MESSAGES: dict[type[Message], Message] = {
    DeviceRecord: record_of(LAPTOP, 2),
    Confirm: Confirm(),
    Reject: Reject(),
}


def in_state(state: State) -> tuple[Pairing, Channel]:
    """The desk that far, and the channel of a laptop that may then say what it likes."""
    end, other = desk(), Channel.pair(LAPTOP.noise_seed, KEY, b"2" * 32, dials=True)
    (second,) = end.receive(other.start(), NOW)
    assert isinstance(second, Send)
    other.receive(second.data)
    third = other.accept()
    if state is State.HANDSHAKE:
        return end, other
    end.receive(third, NOW)
    if state is State.AWAIT_RECORD:
        return end, other
    say(end, other, signed(other))
    if state in (State.WAITING, State.PAIRED):
        end.decide(Decision.YES, NOW)
    if state in (State.AGREED, State.PAIRED):
        say(end, other, Confirm())
    if state is State.ENDED:
        end.decide(Decision.NO, NOW)
    return end, other


def signed(channel: Channel) -> DeviceRecord:
    record = record_of(LAPTOP, 2)
    return msgspec.structs.replace(record, signature=LAPTOP.sign("pairing", record.signed(channel.binding)))


def say(end: Pairing, other: Channel, message: Message) -> list[Effect]:
    effects: list[Effect] = []
    for frame in other.seal(encode(message)):
        effects += end.receive(frame, NOW)
    return effects


@pytest.mark.parametrize(("state", "kind"), list(itertools.product(State, MESSAGES)))
def test_every_message_that_the_table_does_not_have_ends_it(state: State, kind: type[Message]) -> None:
    end, other = in_state(state)
    assert end.state is state
    message = signed(other) if kind is DeviceRecord and state is not State.HANDSHAKE else MESSAGES[kind]
    effects = say(end, other, message)
    following = TRANSITIONS.get((state, kind))
    if following is not None:
        assert end.state is following
    elif state in (State.PAIRED, State.ENDED):
        assert (effects, end.state) == ([], state)
    else:
        assert end.state is State.ENDED
        assert [type(effect) for effect in effects] == [Ended]


@pytest.mark.parametrize(("state", "decision"), list(itertools.product(State, Decision)))
def test_every_decision_that_the_table_does_not_have_is_a_defect(state: State, decision: Decision) -> None:
    end, _ = in_state(state)
    following = TRANSITIONS.get((state, decision))
    if following is not None:
        end.decide(decision, NOW)
        assert end.state is following
    elif state in (State.PAIRED, State.ENDED):
        # The person answers a moment too late.
        assert end.decide(decision, NOW) == []
        assert end.state is state
    else:
        with pytest.raises(AssertionError):
            end.decide(decision, NOW)


@pytest.mark.parametrize("state", [state for state in State if state not in (State.PAIRED, State.ENDED)])
def test_every_state_ends_after_two_minutes_and_when_the_connection_is_lost(state: State) -> None:
    end, other = in_state(state)
    assert end.tick(NOW + limits.PAIRING_LIFE_MS - 1) == []
    (ended,) = end.tick(end.wake_ms)
    assert isinstance(ended, Ended)
    assert "two minutes" in ended.reason
    assert say(end, other, Confirm()) == []
    end, _ = in_state(state)
    (ended,) = end.closed()
    assert isinstance(ended, Ended)


def test_what_comes_too_late_is_not_taken() -> None:
    end, other = in_state(State.WAITING)
    effects = end.receive(other.seal(encode(Confirm()))[0], end.wake_ms)
    assert [type(effect) for effect in effects] == [Ended]
    end, _ = in_state(State.AGREED)
    assert [type(effect) for effect in end.decide(Decision.YES, end.wake_ms)] == [Ended]


def test_a_lost_connection_does_not_undo_a_pairing() -> None:
    end, _ = in_state(State.PAIRED)
    assert end.closed() == []
    assert end.state is State.PAIRED


# -- messages --------------------------------------------------------------------------------


def test_messages_come_back() -> None:
    for message in MESSAGES.values():
        assert decode(encode(message)) == message


def test_a_field_more_is_ignored() -> None:
    assert decode(msgspec.msgpack.encode([2, "of a later version"])) == Confirm()


def test_the_largest_record_fits() -> None:
    record = record_of(
        DESK,
        2**53 - 1,
        name="x" * limits.NAME_SIZE_MAX_BYTES,
        person="x" * limits.NAME_SIZE_MAX_BYTES,
        addresses=("x" * 255,) * limits.ADDRESSES_MAX,
        signature=bytes(64),
    )
    assert len(encode(record)) <= limits.PAIRING_MESSAGE_SIZE_MAX_BYTES
    assert decode(encode(record)) == record


@given(st.binary(max_size=200) | st.binary().map(lambda raw: encode(record_of(DESK, 1))[:1290] + raw))
def test_any_bytes_are_a_message_or_a_violation(data: bytes) -> None:
    try:
        message = decode(data)
    except ProtocolViolation:
        return
    assert decode(encode(message)) == message


@given(st.data())
def test_a_changed_record_is_refused_or_not_signed(data: st.DataObject) -> None:
    end, other = in_state(State.AWAIT_RECORD)
    encoded = bytearray(encode(signed(other)))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    effects = end.receive(other.seal(bytes(encoded))[0], NOW)
    assert not any(isinstance(effect, Show) for effect in effects)
    assert end.state is State.ENDED


def test_too_long_a_message_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolViolation, match="a pairing message of"):
        decode(bytes(limits.PAIRING_MESSAGE_SIZE_MAX_BYTES + 1))
