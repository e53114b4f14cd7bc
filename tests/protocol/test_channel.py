"""The channel carries messages unharmed and in order, or breaks; it never does anything else."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import LimitExceeded, ProtocolViolation
from mlog.log.crypto import DeviceKeys
from mlog.protocol import channel
from mlog.protocol.channel import (
    CHUNK_SIZE,
    FIRST_MESSAGE_SIZE,
    SECOND_MESSAGE_SIZE,
    TRANSITIONS,
    Channel,
    State,
    Step,
)

ANN = DeviceKeys(b"a" * 32, b"b" * 32, b"c" * 32)
BOB = DeviceKeys(b"d" * 32, b"e" * 32, b"f" * 32)
EVE = DeviceKeys(b"g" * 32, b"h" * 32, b"i" * 32)

TAG_SIZE = 16
SMALL_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def dialling(peer: DeviceKeys = BOB, ephemeral: bytes = b"1" * 32) -> Channel:
    return Channel.initiate(ANN.noise_seed, peer.noise_public, ephemeral)


def answering(ephemeral: bytes = b"2" * 32) -> Channel:
    return Channel.respond(BOB.noise_seed, ephemeral)


def opened() -> tuple[Channel, Channel]:
    """Two ends after the handshake: the one that dialled first."""
    ann, bob = dialling(), answering()
    assert bob.receive(ann.start()) == []
    assert ann.receive(bob.accept()) == []
    return ann, bob


def in_state(state: State) -> Channel:
    """A channel that is that far."""
    if state is State.IDLE:
        return dialling()
    if state is State.LISTENING:
        return answering()
    end = dialling()
    first = end.start()
    if state is State.SENT:
        return end
    other = answering()
    other.receive(first)
    if state is State.ASKED:
        return other
    other.accept()
    if state is State.CLOSED:
        with pytest.raises(ProtocolViolation):
            other.receive(b"garbage")
    return other


IK_STATES = [state for state in State if state not in (State.REPLIED, State.ANSWERED)]

STEPS: dict[Step, Callable[[Channel], object]] = {
    Step.START: Channel.start,
    Step.RECEIVE: lambda end: end.receive(bytes(FIRST_MESSAGE_SIZE)),
    Step.ACCEPT: Channel.accept,
    Step.SEAL: lambda end: end.seal(b"message"),
}


def delivered(receiver: Channel, frames: list[bytes]) -> list[bytes]:
    return [message for frame in frames for message in receiver.receive(frame)]


def assert_closed(end: Channel) -> None:
    assert end.state is State.CLOSED
    assert not end.established
    for step in STEPS.values():
        with pytest.raises(ProtocolViolation, match="the channel is closed"):
            step(end)


def refuse(end: Channel, data: bytes) -> str:
    """That this message closes the channel; the reason."""
    with pytest.raises(ProtocolViolation) as caught:
        end.receive(data)
    assert_closed(end)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


# -- handshake -------------------------------------------------------------------------------


def test_both_ends_know_each_other_and_share_a_binding() -> None:
    ann, bob = opened()
    assert ann.established
    assert bob.established
    assert ann.peer_noise_public == BOB.noise_public
    assert bob.peer_noise_public == ANN.noise_public
    assert ann.binding == bob.binding
    assert len(ann.binding) == 32


def test_handshake_messages_have_the_sizes_of_the_specification() -> None:
    ann, bob = dialling(), answering()
    first = ann.start()
    bob.receive(first)
    second = bob.accept()
    assert (len(first), len(second)) == (FIRST_MESSAGE_SIZE, SECOND_MESSAGE_SIZE) == (97, 49)
    assert first[:1] == second[:1] == b"\x01"


def test_the_responder_answers_nothing_before_it_accepts() -> None:
    ann, bob = dialling(), answering()
    assert bob.peer_noise_public is None
    assert bob.receive(ann.start()) == []
    assert bob.peer_noise_public == ANN.noise_public
    assert bob.state is State.ASKED
    assert not bob.established


def test_the_responder_is_sure_of_its_peer_only_after_a_frame() -> None:
    ann, bob = opened()
    assert ann.confirmed
    assert not bob.confirmed
    delivered(bob, ann.seal(b""))
    assert bob.confirmed


def test_a_replayed_first_message_gives_a_channel_that_its_sender_cannot_use() -> None:
    ann, first_bob = dialling(), answering()
    first = ann.start()
    first_bob.receive(first)
    ann.receive(first_bob.accept())
    recorded = ann.seal(b"hello")

    second_bob = answering(ephemeral=b"3" * 32)
    second_bob.receive(first)
    second_bob.accept()
    assert not second_bob.confirmed
    refuse(second_bob, recorded[0])
    assert not second_bob.confirmed


def test_the_same_entropy_gives_the_same_bytes_and_other_entropy_others() -> None:
    def transcript(one: bytes, other: bytes) -> list[bytes]:
        ann, bob = dialling(ephemeral=one), answering(ephemeral=other)
        first = ann.start()
        bob.receive(first)
        second = bob.accept()
        ann.receive(second)
        return [first, second, *ann.seal(b"hello"), *bob.seal(b"hello"), ann.binding]

    base = transcript(b"1" * 32, b"2" * 32)
    assert transcript(b"1" * 32, b"2" * 32) == base
    changed_responder = transcript(b"1" * 32, b"3" * 32)
    assert [a == b for a, b in zip(base, changed_responder, strict=True)] == [
        True,
        False,
        False,
        False,
        False,
    ]
    changed_initiator = transcript(b"3" * 32, b"2" * 32)
    assert not any(a == b for a, b in zip(base, changed_initiator, strict=True))


def test_no_randomness_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from noise.backends.default.diffie_hellmans import ED25519

    def drawn(_: object) -> None:
        raise AssertionError("the noise package made a key of its own")

    monkeypatch.setattr(ED25519, "generate_keypair", drawn)
    opened()


def test_the_first_message_carries_no_key_in_the_clear() -> None:
    first = dialling().start()
    for public in (ANN.noise_public, BOB.noise_public, ANN.id, BOB.id):
        assert public not in first


def test_a_first_message_for_another_device_is_refused() -> None:
    bob = answering()
    assert refuse(bob, dialling(peer=EVE).start()) == "a handshake for another device"
    assert bob.peer_noise_public is None


def test_an_answer_of_another_device_is_refused() -> None:
    ann, eve = dialling(), Channel.respond(EVE.noise_seed, b"2" * 32)
    ann.start()
    eve.receive(dialling(peer=EVE).start())
    assert refuse(ann, eve.accept()) == "the device that answered is another one"


@pytest.mark.parametrize("pattern", [0, 2, 3, 255])
def test_an_unknown_pattern_is_refused(pattern: int) -> None:
    ann, bob = dialling(), answering()
    first = ann.start()
    assert refuse(bob, bytes([pattern]) + first[1:]) == "a handshake of an unknown kind"
    assert refuse(ann, bytes([pattern]) + bytes(SECOND_MESSAGE_SIZE - 1)) == "a handshake of an unknown kind"


def test_a_pattern_is_bound_by_the_prologue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PATTERN_IK", b"\x02")
    first = dialling().start()
    monkeypatch.undo()
    assert refuse(answering(), b"\x01" + first[1:]) == "a handshake for another device"


@pytest.mark.parametrize("change", [-97, -96, -1, 1, 1000, 10_000_000])
def test_a_handshake_message_of_another_length_is_refused(change: int) -> None:
    first = dialling().start()
    other = (first + bytes(max(change, 0)))[: len(first) + change]
    reason = f"a handshake message of {len(other)} bytes" if other else "a handshake of an unknown kind"
    assert refuse(answering(), other) == reason

    ann, bob = dialling(), answering()
    bob.receive(ann.start())
    assert refuse(ann, bob.accept() + b"\0") == "a handshake message of 50 bytes"


@given(st.integers(0, FIRST_MESSAGE_SIZE * 8 - 1))
def test_one_flipped_bit_of_the_first_message_is_refused(bit: int) -> None:
    first = bytearray(dialling().start())
    first[bit // 8] ^= 1 << bit % 8
    refuse(answering(), bytes(first))


@given(st.integers(0, SECOND_MESSAGE_SIZE * 8 - 1))
def test_one_flipped_bit_of_the_second_message_is_refused(bit: int) -> None:
    ann, bob = dialling(), answering()
    bob.receive(ann.start())
    second = bytearray(bob.accept())
    second[bit // 8] ^= 1 << bit % 8
    refuse(ann, bytes(second))


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: key.hex()[:8])
def test_a_public_key_of_small_order_is_refused(key: bytes) -> None:
    ann = Channel.initiate(ANN.noise_seed, key, b"1" * 32)
    with pytest.raises(ProtocolViolation, match="public key is unusable"):
        ann.start()
    assert_closed(ann)

    refuse(answering(), b"\x01" + key + bytes(FIRST_MESSAGE_SIZE - 33))

    ann = dialling()
    ann.start()
    refuse(ann, b"\x01" + key + bytes(SECOND_MESSAGE_SIZE - 33))


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: key.hex()[:8])
def test_a_sealed_static_key_of_small_order_is_refused(key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a peer could send that seals such a key: the handshake by the same package, with its own
    # key agreement replaced, so that the initiator gets as far as sending.
    ann = dialling()
    assert ann._handshake is not None
    state = ann._handshake._connection.noise_protocol.handshake_state
    dh = ann._handshake._connection.noise_protocol.dh_fn
    state.s.public_bytes = key
    static, exchange = state.s.private, type(dh).dh

    def dh_that_goes_on(self: object, private: object, public: object) -> bytes:
        return bytes(32) if private is static else exchange(self, private, public)

    monkeypatch.setattr(type(dh), "dh", dh_that_goes_on)
    first = ann.start()
    monkeypatch.undo()
    refuse(answering(), first)


# -- pairing ---------------------------------------------------------------------------------


def pairing(*, dials: bool, key: bytes = b"k" * 32) -> Channel:
    keys, ephemeral = (ANN, b"1" * 32) if dials else (BOB, b"2" * 32)
    return Channel.pair(keys.noise_seed, key, ephemeral, dials=dials)


def paired() -> tuple[Channel, Channel]:
    ann, bob = pairing(dials=True), pairing(dials=False)
    bob.receive(ann.start())
    ann.receive(bob.accept())
    bob.receive(ann.accept())
    return ann, bob


def pairing_in(state: State) -> Channel:
    """A channel that pairs and is that far."""
    ann, bob = pairing(dials=True), pairing(dials=False)
    if state is State.IDLE:
        return ann
    if state is State.LISTENING:
        return bob
    first = ann.start()
    if state is State.SENT:
        return ann
    bob.receive(first)
    if state is State.ASKED:
        return bob
    second = bob.accept()
    if state is State.REPLIED:
        return bob
    ann.receive(second)
    if state is State.ANSWERED:
        return ann
    ann.accept()
    if state is State.CLOSED:
        with pytest.raises(ProtocolViolation):
            ann.receive(b"garbage")
    return ann


def test_two_that_share_a_key_learn_each_other_and_share_a_binding() -> None:
    ann, bob = paired()
    assert ann.established
    assert bob.established
    assert ann.confirmed
    assert bob.confirmed
    assert (ann.peer_noise_public, bob.peer_noise_public) == (BOB.noise_public, ANN.noise_public)
    assert ann.binding == bob.binding
    assert delivered(bob, ann.seal(b"hello")) == [b"hello"]
    assert delivered(ann, bob.seal(b"x" * 100_000)) == [b"x" * 100_000]


def test_pairing_messages_have_the_sizes_of_the_specification() -> None:
    ann, bob = pairing(dials=True), pairing(dials=False)
    first = ann.start()
    bob.receive(first)
    second = bob.accept()
    ann.receive(second)
    third = ann.accept()
    sizes = tuple(map(len, (first, second, third)))
    assert sizes == channel.PAIRING_MESSAGE_SIZES == (49, 97, 65)
    assert first[:1] == second[:1] == third[:1] == b"\x02"
    for public in (ANN.noise_public, BOB.noise_public):
        assert public not in first + second + third


def test_another_key_is_refused_at_the_first_message() -> None:
    bob = pairing(dials=False)
    first = pairing(dials=True, key=b"K" * 32).start()
    assert refuse(bob, first) == "a handshake with another code"
    assert bob.peer_noise_public is None


@pytest.mark.parametrize("message", [0, 1, 2])
@given(data=st.data())
def test_one_flipped_bit_of_a_pairing_message_is_refused(message: int, data: st.DataObject) -> None:
    ann, bob = pairing(dials=True), pairing(dials=False)
    steps: list[tuple[Channel, Callable[[], bytes]]] = [
        (bob, ann.start),
        (ann, bob.accept),
        (bob, ann.accept),
    ]
    for number, (receiver, step) in enumerate(steps):
        sent = bytearray(step())
        if number == message:
            bit = data.draw(st.integers(0, len(sent) * 8 - 1))
            sent[bit // 8] ^= 1 << bit % 8
            refuse(receiver, bytes(sent))
            return
        receiver.receive(bytes(sent))


@pytest.mark.parametrize("change", [-1, 1, 1_000_000])
def test_a_pairing_message_of_another_length_is_refused(change: int) -> None:
    first = pairing(dials=True).start()
    other = (first + bytes(max(change, 0)))[: len(first) + change]
    assert refuse(pairing(dials=False), other) == f"a handshake message of {len(other)} bytes"


def test_the_patterns_refuse_each_other() -> None:
    assert refuse(answering(), pairing(dials=True).start()) == "a handshake of an unknown kind"
    assert refuse(pairing(dials=False), dialling().start()) == "a handshake of an unknown kind"


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: key.hex()[:8])
def test_a_pairing_key_of_small_order_is_refused(key: bytes) -> None:
    # A holder of the code may send what it likes: the same package with its public key replaced.
    ann = pairing(dials=True)
    assert ann._handshake is not None
    ann._handshake._state.e.public_bytes = key
    bob = pairing(dials=False)
    bob.receive(ann.start())
    with pytest.raises(ProtocolViolation, match="public key of the peer is unusable"):
        bob.accept()
    assert_closed(bob)


@pytest.mark.parametrize(("state", "step"), list(itertools.product(State, Step)))
def test_every_step_that_the_pairing_table_does_not_have_is_refused(state: State, step: Step) -> None:
    end = pairing_in(state)
    assert end.state is state
    if (state, step) in channel.PAIRING_TRANSITIONS:
        return
    if step is Step.RECEIVE or state is State.CLOSED:
        with pytest.raises(ProtocolViolation):
            STEPS[step](end)
        assert_closed(end)
    else:
        with pytest.raises(AssertionError):
            STEPS[step](end)
        assert end.state is state


# -- the table of states ---------------------------------------------------------------------


@pytest.mark.parametrize(("state", "step"), list(itertools.product(IK_STATES, Step)))
def test_every_step_that_the_table_does_not_have_is_refused(state: State, step: Step) -> None:
    end = in_state(state)
    assert end.state is state
    if (state, step) in TRANSITIONS:
        return
    if step is Step.RECEIVE or state is State.CLOSED:
        with pytest.raises(ProtocolViolation):
            STEPS[step](end)
        assert_closed(end)
    else:
        with pytest.raises(AssertionError):
            STEPS[step](end)
        assert end.state is state


def test_a_frame_before_the_handshake_ended_is_refused() -> None:
    ann, bob = dialling(), answering()
    bob.receive(ann.start())
    assert refuse(bob, bytes(100)) == "a message while the handshake is at: message 1 here, not answered"


def test_there_is_no_binding_before_the_channel_is_open() -> None:
    with pytest.raises(AssertionError):
        _ = dialling().binding


# -- messages --------------------------------------------------------------------------------

EDGES = [0, 1, 200, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 2 * CHUNK_SIZE + 1]


@pytest.mark.parametrize("size", [*EDGES, limits.MESSAGE_SIZE_MAX_BYTES - 1, limits.MESSAGE_SIZE_MAX_BYTES])
def test_a_message_of_any_size_comes_out_as_it_went_in(size: int) -> None:
    ann, bob = opened()
    message = (bytes(range(251)) * (size // 251 + 1))[:size]
    frames = ann.seal(message)
    assert len(frames) == max(-(-size // CHUNK_SIZE), 1)
    assert all(len(frame) <= limits.FRAME_SIZE_MAX_BYTES for frame in frames)
    assert all(len(frame) == limits.FRAME_SIZE_MAX_BYTES for frame in frames[:-1])
    assert delivered(bob, frames) == [message]
    assert delivered(ann, bob.seal(message)) == [message]


SIZES = st.one_of(st.integers(0, 300), st.sampled_from(EDGES))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), SIZES), max_size=8))
def test_messages_both_ways_arrive_in_order(turns: list[tuple[bool, int]]) -> None:
    ann, bob = opened()
    for number, (from_ann, size) in enumerate(turns):
        sender, receiver = (ann, bob) if from_ann else (bob, ann)
        message = bytes([number]) * size
        assert delivered(receiver, sender.seal(message)) == [message]


def test_a_message_is_out_with_its_last_frame_and_not_before() -> None:
    ann, bob = opened()
    frames = ann.seal(bytes(3 * CHUNK_SIZE))
    assert [len(bob.receive(frame)) for frame in frames] == [0, 0, 1]


def test_messages_of_the_largest_size_follow_one_another() -> None:
    ann, bob = opened()
    for fill in (b"a", b"b", b"c"):
        message = fill * limits.MESSAGE_SIZE_MAX_BYTES
        assert delivered(bob, ann.seal(message)) == [message]


def test_a_message_above_the_maximum_is_not_sealed() -> None:
    ann, bob = opened()
    with pytest.raises(LimitExceeded):
        ann.seal(bytes(limits.MESSAGE_SIZE_MAX_BYTES + 1))
    assert delivered(bob, ann.seal(b"still open")) == [b"still open"]


def test_equal_messages_look_different_on_the_wire() -> None:
    ann, bob = opened()
    frames = [*ann.seal(b"same"), *ann.seal(b"same"), *bob.seal(b"same")]
    assert len(set(frames)) == 3


# -- vectors ---------------------------------------------------------------------------------

_VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "vectors" / "channel.json").read_text(encoding="utf-8")
)


def vector_ends() -> tuple[Channel, Channel]:
    seeds = [
        [bytes.fromhex(_VECTORS[end][name]) for name in ("noise_seed", "ephemeral")]
        for end in ("initiator", "responder")
    ]
    responder_public = DeviceKeys(b"", seeds[1][0], b"").noise_public
    return Channel.initiate(seeds[0][0], responder_public, seeds[0][1]), Channel.respond(*seeds[1])


def test_the_session_of_the_vectors() -> None:
    ann, bob = vector_ends()
    assert ann.start().hex() == _VECTORS["first"]
    bob.receive(bytes.fromhex(_VECTORS["first"]))
    assert bob.accept().hex() == _VECTORS["second"]
    ann.receive(bytes.fromhex(_VECTORS["second"]))
    assert ann.binding.hex() == bob.binding.hex() == _VECTORS["binding"]
    for case in _VECTORS["messages"]:
        sender, receiver = (ann, bob) if case["from"] == "ann" else (bob, ann)
        message = bytes.fromhex(case["fill"]) * case["count"]
        frames = sender.seal(message)
        for frame, expected in zip(frames, case["frames"], strict=True):
            shown = {"size": len(frame), "blake3": blake3(frame).hexdigest()}
            assert expected in (frame.hex(), shown), case["note"]
        assert delivered(receiver, frames) == [message]


@pytest.mark.parametrize("case", _VECTORS["invalid"], ids=lambda case: f"{case['at']}: {case['note']}")
def test_a_message_that_the_vectors_call_invalid(case: dict[str, Any]) -> None:
    ann, bob = vector_ends()
    first = ann.start()
    if case["at"] == "first":
        refuse(bob, bytes.fromhex(case["bytes"]))
        return
    bob.receive(first)
    if case["at"] == "frame":
        ann.receive(bob.accept())
    refuse(ann if case["at"] == "second" else bob, bytes.fromhex(case["bytes"]))


# -- frames that are refused -----------------------------------------------------------------

FRAME_SIZE = 1 + 100 + TAG_SIZE


@given(st.integers(0, FRAME_SIZE * 8 - 1))
def test_one_flipped_bit_of_a_frame_is_refused(bit: int) -> None:
    ann, bob = opened()
    frame = bytearray(ann.seal(bytes(100))[0])
    frame[bit // 8] ^= 1 << bit % 8
    refuse(bob, bytes(frame))


@given(st.integers(0, FRAME_SIZE - 1))
def test_a_truncated_frame_is_refused(size: int) -> None:
    ann, bob = opened()
    refuse(bob, ann.seal(bytes(100))[0][:size])


def test_a_repeated_frame_is_refused() -> None:
    ann, bob = opened()
    (frame,) = ann.seal(b"once")
    bob.receive(frame)
    refuse(bob, frame)


def test_a_lost_frame_and_frames_out_of_order_are_refused() -> None:
    ann, bob = opened()
    frames = ann.seal(bytes(2 * CHUNK_SIZE + 1))
    bob.receive(frames[0])
    refuse(bob, frames[2])


def test_a_frame_sent_back_is_refused() -> None:
    ann, _ = opened()
    refuse(ann, ann.seal(b"mirror")[0])


def test_a_frame_of_another_session_is_refused() -> None:
    _, bob = opened()
    other = dialling(ephemeral=b"4" * 32)
    other_bob = answering()
    other_bob.receive(other.start())
    other.receive(other_bob.accept())
    refuse(bob, other.seal(b"hello")[0])


@pytest.mark.parametrize("size", [0, 1, TAG_SIZE, limits.FRAME_SIZE_MAX_BYTES + 1, 10_000_000])
def test_a_frame_of_an_impossible_size_is_refused_unopened(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bob = opened()

    def unexpected(*_: object) -> bytes:
        raise AssertionError("decrypted")

    monkeypatch.setattr(channel._Cipher, "open", unexpected)
    assert refuse(bob, bytes(size)) == f"a frame of {size} bytes"


@given(st.sampled_from([State.SENT, State.LISTENING, State.ASKED, State.OPEN]), st.binary(max_size=300))
def test_garbage_is_refused_in_every_state(state: State, garbage: bytes) -> None:
    refuse(in_state(state), garbage)


@given(st.sampled_from([(State.SENT, SECOND_MESSAGE_SIZE), (State.LISTENING, FIRST_MESSAGE_SIZE)]), st.data())
def test_garbage_of_the_right_length_is_refused(case: tuple[State, int], data: st.DataObject) -> None:
    state, size = case
    refuse(in_state(state), b"\x01" + data.draw(st.binary(min_size=size - 1, max_size=size - 1)))


# -- what a peer that holds the keys could send ----------------------------------------------


def sealed(end: Channel, plain: bytes) -> bytes:
    """A frame with any plaintext, from a peer that follows no rules."""
    assert end._sending is not None
    return end._sending.seal(plain)


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(b"\x01", id="more follow, but it is empty"),
        pytest.param(b"\x01" + bytes(CHUNK_SIZE - 1), id="more follow, but it is not full"),
        pytest.param(b"\x02" + bytes(10), id="neither the last nor more"),
        pytest.param(b"\xff", id="neither the last nor more, empty"),
    ],
)
def test_a_frame_that_is_not_cut_by_the_rules_is_refused(plain: bytes) -> None:
    ann, bob = opened()
    assert refuse(bob, sealed(ann, plain)) == "a frame that is not cut by the rules"


@pytest.mark.parametrize("plain", [b"\x00", b"\x02" + bytes(10), b"\x01" + bytes(10)])
def test_a_part_that_is_not_cut_by_the_rules_is_refused(plain: bytes) -> None:
    ann, bob = opened()
    bob.receive(sealed(ann, b"\x01" + bytes(CHUNK_SIZE)))
    assert refuse(bob, sealed(ann, plain)) == "a frame that is not cut by the rules"


def full_frames(ann: Channel, bob: Channel) -> int:
    """Send parts until one more would leave no room for the last; how many bytes they hold."""
    count = (limits.MESSAGE_SIZE_MAX_BYTES - 1) // CHUNK_SIZE
    for _ in range(count):
        assert bob.receive(sealed(ann, b"\x01" + bytes(CHUNK_SIZE))) == []
    return count * CHUNK_SIZE


def test_a_message_that_grows_beyond_the_maximum_is_refused() -> None:
    ann, bob = opened()
    full_frames(ann, bob)
    assert refuse(bob, sealed(ann, b"\x01" + bytes(CHUNK_SIZE))) == "a message of more than 2097152 bytes"


def test_a_last_part_beyond_the_maximum_is_refused() -> None:
    ann, bob = opened()
    room = limits.MESSAGE_SIZE_MAX_BYTES - full_frames(ann, bob)
    message = "a message of more than 2097152 bytes"
    assert refuse(bob, sealed(ann, b"\x00" + bytes(room + 1))) == message


def test_parts_that_wait_take_no_more_memory_than_a_message() -> None:
    ann, bob = opened()
    full_frames(ann, bob)
    kept = sum(part.nbytes + sys.getsizeof(part) for part in bob._parts)
    assert kept < limits.MESSAGE_SIZE_MAX_BYTES + limits.FRAME_SIZE_MAX_BYTES
    refuse(bob, b"")
    assert bob._parts == []


def test_a_key_that_has_sealed_all_it_may_closes_the_channel() -> None:
    ann, _ = opened()
    assert ann._sending is not None
    ann._sending._state.set_nonce(2**64 - 1)
    with pytest.raises(ProtocolViolation, match="as many frames as one key may seal"):
        ann.seal(b"one too many")
    assert_closed(ann)


def test_a_closed_channel_keeps_no_keys() -> None:
    _, bob = opened()
    refuse(bob, b"garbage")
    assert (bob._handshake, bob._sending, bob._receiving) == (None, None, None)


def test_no_other_module_imports_the_noise_package() -> None:
    modules = Path(channel.__file__).parents[1].rglob("*.py")
    importing = [
        path.name for path in modules if re.search(r"(from|import) noise\b", path.read_text("utf-8"))
    ]
    assert importing == ["channel.py"]


def test_the_noise_package_is_imported_late() -> None:
    script = "import sys, mlog.protocol.channel; sys.exit('noise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
