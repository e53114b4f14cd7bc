"""Messages: what is accepted is kept, all else is refused before it costs memory."""

from __future__ import annotations

import tracemalloc
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.protocol import wire

KINDS: tuple[type[Any], ...] = get_args(wire.Message)

_counts = st.integers(0, limits.SEQ_MAX)
_weeks = st.integers(0, limits.WEEK_MAX)
_tags = st.binary(min_size=6, max_size=6)
_roots = st.binary(min_size=16, max_size=16)
_ids = st.binary(min_size=32, max_size=32)
_bytes = st.binary(max_size=200)
_packed = st.builds(wire.Packed, _bytes, st.none() | _bytes, st.none() | _bytes)
_packs = st.lists(_packed, max_size=4).map(tuple)
_scoped = st.builds(wire.Scoped, _counts, _weeks, st.booleans())
_differs = st.builds(wire.Differs, _counts, _weeks, st.booleans(), _roots, _roots, st.none() | _bytes)

MESSAGES: dict[type[Any], st.SearchStrategy[Any]] = {
    wire.Hello: st.builds(wire.Hello, _counts, _counts, _counts),
    wire.Offer: st.builds(
        wire.Offer, _counts, _bytes, st.lists(_scoped, max_size=3).map(tuple), st.booleans()
    ),
    wire.Answer: st.builds(wire.Answer, _counts, _bytes, st.lists(_differs, max_size=3).map(tuple)),
    wire.Have: st.builds(wire.Have, _tags, _bytes),
    wire.Want: st.builds(wire.Want, _counts, _tags, _bytes, _bytes, _bytes, _weeks, st.booleans()),
    wire.Entries: st.builds(wire.Entries, _counts, _tags, _packs),
    wire.Ack: st.builds(wire.Ack, _counts, _counts),
    wire.Done: st.builds(wire.Done, _counts, _counts),
    wire.Receipt: st.builds(wire.Receipt, _counts, _counts, _counts, st.binary(min_size=64, max_size=64)),
    wire.Grant: st.builds(wire.Grant, _bytes),
    wire.Again: st.builds(wire.Again),
    wire.AskWeeks: st.builds(wire.AskWeeks, _tags, _weeks, _counts),
    wire.Weeks: st.builds(wire.Weeks, _tags, _counts, _counts, _bytes),
    wire.AskCells: st.builds(wire.AskCells, _tags, _counts, _bytes, _counts, _counts),
    wire.Cells: st.builds(wire.Cells, _tags, _counts, _counts, _counts, _bytes),
    wire.AskIds: st.builds(wire.AskIds, _tags, _weeks, _ids),
    wire.Ids: st.builds(wire.Ids, _tags, _weeks, _ids, _bytes, st.booleans()),
    wire.Query: st.builds(wire.Query, _counts, _tags, _weeks, _ids, _weeks, _counts, st.booleans()),
    wire.Page: st.builds(wire.Page, _counts, _weeks, _ids, st.booleans(), _bytes, _packs),
    wire.AskCarried: st.builds(wire.AskCarried, _tags, _weeks, _ids, _bytes),
    wire.Same: st.builds(wire.Same, _tags),
    wire.Parting: st.builds(wire.Parting, _tags, _packs),
    wire.Parted: st.builds(wire.Parted, _tags),
}

any_message = st.one_of(*MESSAGES.values())


def test_every_kind_of_message_is_tried_here():
    assert set(MESSAGES) == set(KINDS)


def test_kinds_are_numbered_without_gaps_from_one_and_those_that_may_be_ignored_from_128():
    tags = [kind.__struct_config__.tag for kind in KINDS]
    optional = len(wire._OPTIONAL)
    needed = len(KINDS) - optional
    assert tags == [*range(1, needed + 1), *range(128, 128 + optional)]
    assert set(tags[needed:]) == wire._OPTIONAL


@given(any_message)
def test_a_message_comes_back_as_it_was(message: Any):
    assert wire.decode(wire.encode(message)) == message


@given(any_message)
def test_a_message_is_an_array_that_begins_with_its_number(message: Any):
    plain = msgspec.msgpack.decode(wire.encode(message))
    assert isinstance(plain, list)
    assert plain[0] == type(message).__struct_config__.tag
    assert len(plain) == 1 + len(message.__struct_fields__)


@given(any_message, st.lists(st.none() | st.integers(0, 9) | st.binary(max_size=4), max_size=3))
def test_fields_that_a_later_version_appends_are_ignored(message: Any, more: list[Any]):
    plain = msgspec.msgpack.decode(wire.encode(message))
    assert wire.decode(msgspec.msgpack.encode([*plain, *more])) == message


def test_parts_of_a_message_may_have_more_fields_too():
    plain = [6, 1, bytes(6), [[b"head", None, None, "more"]]]
    assert wire.decode(msgspec.msgpack.encode(plain)) == wire.Entries(
        1, bytes(6), (wire.Packed(b"head", None, None),)
    )


@given(any_message, st.data())
def test_what_is_cut_off_or_has_something_behind_it_is_refused(message: Any, data: st.DataObject):
    encoded = wire.encode(message)
    size = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(ProtocolViolation):
        wire.decode(encoded[:size])
    with pytest.raises(ProtocolViolation):
        wire.decode(encoded + b"\0")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_ignored_or_refused(data: bytes):
    try:
        message = wire.decode(data)
    except ProtocolViolation:
        return
    if message is None:
        assert data[1] == 0xCC
        assert data[2] >= 128
    else:
        assert wire.decode(wire.encode(message)) == message


@given(any_message, st.data())
def test_one_changed_byte_gives_a_message_or_is_refused(message: Any, data: st.DataObject):
    changed = bytearray(wire.encode(message))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = wire.decode(bytes(changed))
    except ProtocolViolation:
        return
    assert found is None or wire.decode(wire.encode(found)) == found


@pytest.mark.parametrize("kind", [0, len(KINDS) - len(wire._OPTIONAL) + 1, 100, 127])
def test_unknown_kinds_below_128_are_refused(kind: int):
    with pytest.raises(ProtocolViolation):
        wire.decode(bytes([0x91, kind]))
    with pytest.raises(ProtocolViolation):
        wire.decode(bytes([0x91, 0xCC, kind]))


@pytest.mark.parametrize("kind", [128 + len(wire._OPTIONAL), 200, 255])
@pytest.mark.parametrize("fields", [b"", b"\x00", b"\xc1\xc1", bytes(1000)])
def test_unknown_kinds_from_128_on_are_ignored_whatever_they_hold(kind: int, fields: bytes):
    assert wire.decode(bytes([0x91, 0xCC, kind]) + fields) is None


@pytest.mark.parametrize(
    "data", [b"\x91\xcd\x01\x00", b"\xdc\x00\x01\xcc\x80", b"\x81\xcc\x80\x00", b"\x91\xcc"]
)
def test_only_the_shortest_form_of_an_unknown_kind_is_ignored(data: bytes):
    with pytest.raises(ProtocolViolation):
        wire.decode(data)


def test_a_message_that_is_too_long_is_refused_before_it_is_parsed():
    longest = b"\x91\xcc\xff" + bytes(limits.MESSAGE_SIZE_MAX_BYTES - 3)
    assert wire.decode(longest) is None
    with pytest.raises(ProtocolViolation, match="message of"):
        wire.decode(longest + b"\0")


@pytest.mark.parametrize(
    "message",
    [
        wire.Hello(limits.SEQ_MAX + 1, 0, 0),
        wire.Hello(-1, 0, 0),
        wire.Offer(1, b"", (wire.Scoped(0, limits.WEEK_MAX + 1, True),)),
        wire.Offer(1, bytes(38 * limits.OFFERED_LOGS_MAX + 1)),
        wire.Offer(1, b"", (wire.Scoped(0, 0, True),) * (limits.OFFERED_LOGS_MAX + 1)),
        wire.Answer(1, b"", (wire.Differs(0, 0, True, bytes(15), bytes(16), b""),)),
        wire.Answer(1, b"", (wire.Differs(0, 0, True, bytes(16), bytes(17), b""),)),
        wire.Answer(1, b"", (wire.Differs(0, 0, True, bytes(16), bytes(16), b""),) * 10_001),
        wire.Have(bytes(5), b""),
        wire.Want(1, bytes(7)),
        wire.Entries(1, bytes(6), (wire.Packed(b"", None, None),) * (limits.BUNDLE_ENTRIES_MAX + 1)),
        wire.Receipt(1, 0, 0, bytes(63)),
        wire.AskCells(bytes(6), 0, bytes(2 * limits.WEEK_MAX + 3), 0, 1),
        wire.AskIds(bytes(6), 0, bytes(31)),
        wire.Page(1, 0, bytes(33), True, b"", ()),
        wire.Parting(bytes(6), (wire.Packed(b"", None, None),) * (limits.PARTING_ENTRIES_MAX + 1)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_fields_out_of_their_bounds_are_refused(message: Any):
    with pytest.raises(ProtocolViolation):
        wire.decode(wire.encode(message))


@pytest.mark.parametrize(
    "claims",
    [
        b"\x94\x06\x01\xc4\x06" + bytes(6) + b"\xdd\xff\xff\xff\xff",
        b"\x94\x06\x01\xc4\x06" + bytes(6) + b"\x91\xdd\xff\xff\xff\xff",
        b"\x93\x03\x01\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff\x01",
        b"\x92\x0b\xdd\xff\xff\xff\xff",
        b"\x92\x0b" + b"\x91" * 100_000,
        b"\x92\x0b\xdf\xff\xff\xff\xff",
    ],
    ids=["entries", "packed", "bytes", "fields", "unknown field", "deep", "map"],
)
def test_lengths_that_a_message_only_claims_take_no_memory(claims: bytes):
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolViolation):
            wire.decode(claims)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_largest_honest_messages_fit_the_channel():
    offer = wire.Offer(
        limits.SEQ_MAX,
        bytes(38 * limits.OFFERED_LOGS_MAX),
        tuple(wire.Scoped(n, limits.WEEK_MAX, False) for n in range(limits.OFFERED_LOGS_MAX)),
    )
    differs = wire.Differs(9_999, limits.WEEK_MAX, True, bytes(16), bytes(16), None)
    vector = bytes(limits.ANSWERED_VECTORS_SIZE_MAX_BYTES)
    first = msgspec.structs.replace(differs, vector=vector)
    answer = wire.Answer(limits.SEQ_MAX, bytes(1250), (first, *(differs,) * (limits.OFFERED_LOGS_MAX - 1)))
    cells = wire.Cells(bytes(6), 2**53 - 1, 2**53 - 1, 0, bytes(9 * limits.ASKED_CELLS_MAX))
    for message in (offer, answer, cells):
        assert len(wire.encode(message)) <= limits.MESSAGE_SIZE_MAX_BYTES
