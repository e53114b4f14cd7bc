"""Bodies: what decodes is what was encoded, and everything else is refused by a documented error."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded
from mlog.log import bodies
from mlog.log.bodies import RAW, SPOKEN, Body, Kind

from .support import SeededEntropy, kinds_and_bodies, text


@given(kinds_and_bodies())
def test_what_is_encoded_decodes(drawn: tuple[Kind, Body]):
    kind, body = drawn
    encoded = bodies.encode(body)
    assert bodies.decode(kind, encoded) == body
    if kind not in RAW:
        json.loads(encoded)


@given(st.integers(0, 255), st.binary(max_size=100))
def test_any_bytes_are_a_body_or_refused(kind: int, encoded: bytes):
    try:
        bodies.decode(kind, encoded)
    except InvalidInput:
        return
    assert kind in set(Kind)


@given(kinds_and_bodies(), st.data())
def test_any_changed_body_decodes_or_is_refused(drawn: tuple[Kind, Body], data: st.DataObject):
    kind, body = drawn
    changed = bytearray(bodies.encode(body))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = bodies.decode(kind, bytes(changed))
    except InvalidInput:
        return
    assert bodies.decode(kind, bodies.encode(decoded)) == decoded


def test_a_chunk_is_raw_bytes_behind_its_group_and_place():
    chunk = bodies.Chunk(group=bytes(range(16)), index=258, data=b"\xff\0{}")
    encoded = bodies.encode(chunk)
    assert encoded == bytes(range(16)) + b"\0\0\1\2" + b"\xff\0{}"
    largest = bodies.Chunk(group=bytes(16), index=0, data=bytes(limits.CHUNK_SIZE_MAX_BYTES))
    assert bodies.decode(Kind.CHUNK, bodies.encode(largest)) == largest


@pytest.mark.parametrize("size", [0, 19, 20, 21 + limits.CHUNK_SIZE_MAX_BYTES])
def test_a_chunk_without_data_or_too_long_is_refused(size: int):
    with pytest.raises(InvalidInput):
        bodies.decode(Kind.CHUNK, bytes(size))


@pytest.mark.parametrize("size", [0, 1 + limits.PRIVATE_CHANGE_SIZE_MAX_BYTES])
def test_a_private_change_without_a_byte_or_too_long_is_refused(size: int):
    with pytest.raises(InvalidInput):
        bodies.decode(Kind.PRIVATE, bytes(size))
    longest = bodies.Private(change=bytes(limits.PRIVATE_CHANGE_SIZE_MAX_BYTES))
    assert bodies.decode(Kind.PRIVATE, bodies.encode(longest)) == longest


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in RAW])
@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"null",
        b"[]",
        b"{}x",
        b"{",
        b'{"text":1}',
        b'{"text":"\xff"}',
        b'{"text":"\\ud800"}',
        b'{"x":' * 100_000,
        b"[" * 200_000,
        b'{"text":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"at":1e400,"text":"a"}',
        b'{"at":9007199254740992,"text":"a"}',
        b'{"at":-1,"text":"a"}',
    ],
    ids=range(14),
)
def test_broken_bodies_are_refused(kind: Kind, encoded: bytes):
    with pytest.raises(InvalidInput):
        bodies.decode(kind, encoded)


@pytest.mark.parametrize("kind", [0, 14, 15, 24, 31, 36, 63, 255])
def test_unknown_kinds_are_refused(kind: int):
    with pytest.raises(InvalidInput, match="unknown kind"):
        bodies.decode(kind, b"{}")


def test_fields_of_a_later_version_are_tolerated():
    assert bodies.decode(Kind.MESSAGE, b'{"text":"a","later":[{}]}') == text("a")


def test_a_reply_names_what_it_answers_and_a_message_does_not():
    for kind in SPOKEN - {Kind.REPLY}:
        assert bodies.decode(kind, b'{"text":"a"}') == text("a")
    to = b'{"text":"a","to":["00112233445566778899aabbccddeeff"]}'
    for kind in SPOKEN - {Kind.MESSAGE}:
        assert isinstance(bodies.decode(kind, to), bodies.Text)
    for kind, encoded in ((Kind.REPLY, b'{"text":"a"}'), (Kind.MESSAGE, to)):
        with pytest.raises(InvalidInput):
            bodies.decode(kind, encoded)


@pytest.mark.parametrize("target", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 32 + "\n", "٠" * 32])
def test_targets_are_32_small_hexadecimal_digits(target: str):
    for kind in (Kind.EDIT, Kind.ERASURE, Kind.REACTION, Kind.MANIFEST, Kind.REPLY):
        fields = {"of": target, "to": [target], "text": "", "emoji": "x", "name": "", "size": 0}
        with pytest.raises(InvalidInput):
            bodies.decode(kind, json.dumps(fields).encode())


# -- limits ----------------------------------------------------------------------------------


def key_entry(devices: int) -> bodies.Key:
    entropy = SeededEntropy("wraps")
    wraps = tuple(bodies.Wrap(device=entropy.random(32), sealed=entropy.random(1168)) for _ in range(devices))
    return bodies.Key(
        epoch=limits.SEQ_MAX, commitment=entropy.random(32).hex(), wraps=wraps, log="conversation"
    )


def test_the_largest_key_entry_fits_a_body():
    body = key_entry(limits.KEY_RECIPIENTS_MAX)
    encoded = bodies.encode(body)
    assert 160_000 < len(encoded) < limits.BODY_SIZE_MAX_BYTES
    assert bodies.decode(Kind.KEY, encoded) == body


def test_a_key_entry_for_more_devices_is_refused():
    with pytest.raises(InvalidInput):
        bodies.decode(Kind.KEY, bodies.encode(key_entry(limits.KEY_RECIPIENTS_MAX + 1)))


def test_the_longest_text_fits_a_body():
    # Two bytes in JSON for one in UTF-8, but for control characters.
    for character in ("a", '"', "\\", "\n", "ä", "😀"):
        body = text(character * (limits.TEXT_SIZE_MAX_BYTES // len(character.encode())))
        try:
            encoded = bodies.encode(body)
        except LimitExceeded:
            assert character in '"\\\n'
            continue
        assert bodies.decode(Kind.MESSAGE, encoded) == body


def test_a_body_above_the_limit_is_neither_made_nor_read():
    with pytest.raises(LimitExceeded):
        bodies.encode(text("a" * limits.BODY_SIZE_MAX_BYTES))
    encoded = b'{"text":"a"}'.ljust(limits.BODY_SIZE_MAX_BYTES)
    assert bodies.decode(Kind.MESSAGE, encoded) == text("a")
    with pytest.raises(LimitExceeded):
        bodies.decode(Kind.MESSAGE, encoded + b" ")


def test_text_that_is_not_unicode_is_refused_when_it_is_written():
    for body in (
        text("\ud800"),
        bodies.Title(title="\udcff"),
        bodies.Reaction(of="0" * 32, emoji="\ud83d"),
    ):
        with pytest.raises(InvalidInput):
            bodies.encode(body)


def test_what_an_error_says_does_not_quote_the_body():
    secret = "a text of somebody"
    with pytest.raises(InvalidInput) as error:
        bodies.decode(Kind.DEVICE, msgspec.json.encode({"name": 1, "person": secret, "text": secret}))
    assert secret not in str(error.value)
