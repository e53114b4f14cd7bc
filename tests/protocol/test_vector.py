"""Chain vectors: short, exact, and refused where they are not what `encode` makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log.ids import DeviceId, Incarnation
from mlog.protocol.vector import (
    Held,
    Ranges,
    chain_tag,
    clip,
    count,
    decode_ranges,
    decode_vector,
    encode_ranges,
    encode_vector,
    may_encode,
    split_ranges,
    subtract,
    unite,
)


def as_ranges(numbers: set[int]) -> Ranges:
    out: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if out and out[-1][1] == number - 1:
            out[-1] = (out[-1][0], number)
        else:
            out.append((number, number))
    return tuple(out)


def members(ranges: Ranges) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


NUMBERS = st.sets(st.integers(0, 60))
TAGS = st.binary(min_size=6, max_size=6)
VECTORS = st.dictionaries(TAGS, st.sets(st.integers(0, 2000), min_size=1), max_size=5)


@given(NUMBERS, NUMBERS)
def test_subtract_is_the_difference_of_sets(these: set[int], those: set[int]):
    assert subtract(as_ranges(these), as_ranges(those)) == as_ranges(these - those)


@given(NUMBERS, st.integers(0, 70))
def test_clip_and_count(numbers: set[int], first: int):
    kept = {number for number in numbers if number >= first}
    assert clip(as_ranges(numbers), first) == as_ranges(kept)
    assert count(as_ranges(kept)) == len(kept)


@given(VECTORS, st.integers(0, 5))
def test_a_vector_comes_back_as_it_was(chains: dict[bytes, set[int]], below: int):
    held = {tag: Held(max(min(n) - below, 0), as_ranges(n)) for tag, n in chains.items()}
    assert decode_vector(encode_vector(held)) == held


@given(st.dictionaries(TAGS, st.sets(st.integers(0, limits.SEQ_MAX), min_size=1), max_size=5))
def test_ranges_come_back_as_they_were(chains: dict[bytes, set[int]]):
    ranges = {tag: as_ranges(numbers) for tag, numbers in chains.items()}
    assert decode_ranges(encode_ranges(ranges)) == ranges


def check_strict(data: bytes) -> None:
    """It is a vector as we write it, or refused."""
    try:
        held = decode_vector(data)
    except ProtocolViolation:
        return
    assert encode_vector(held) == data
    for first, ranges in held.values():
        assert ranges
        assert ranges[0][0] >= first


@given(st.binary(max_size=200))
def test_bytes_are_a_vector_as_we_write_it_or_refused(data: bytes):
    check_strict(data)


@given(VECTORS, st.data())
def test_one_flipped_bit_is_refused_or_another_vector(chains: dict[bytes, set[int]], data: st.DataObject):
    encoded = bytearray(encode_vector({tag: Held(0, as_ranges(n)) for tag, n in chains.items()}))
    if encoded:
        at = data.draw(st.integers(0, len(encoded) - 1))
        encoded[at] ^= 1 << data.draw(st.integers(0, 7))
        check_strict(bytes(encoded))


def test_ten_holes_in_a_million_take_less_than_100_bytes():
    holes = as_ranges({n * 90_001 for n in range(1, 11)})
    held = Held(0, subtract(((0, 999_999),), holes))
    assert len(encode_vector({b"chain1": held})) < 100


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"chain", id="half a tag"),
        pytest.param(b"chain1\x00", id="no size"),
        pytest.param(b"chain1\x00\x00\x00", id="nothing held"),
        pytest.param(b"chain1" + b"\xff" * 9 + b"\x01\x01\x00", id="number above 2^53"),
        pytest.param(b"chain1\x80\x00\x01\x00", id="number longer than it must be"),
        pytest.param(b"chain1\x00\x0a\xff\xff\xff\xff\x0f" + b"\x01\x01" * 100, id="a billion holes"),
        pytest.param(b"chain1\x00\x0a\x02\x01\x01\x00\x01", id="holes that touch"),
        pytest.param(b"chain1\x00\x0a\x01\x09\x01", id="a hole at the end"),
        pytest.param(b"chain2\x00\x01\x00chain1\x00\x01\x00", id="chains out of order"),
        pytest.param(b"chain1\x00\x01\x00chain1\x00\x01\x00", id="a chain twice"),
    ],
)
def test_what_encode_never_makes_is_refused(data: bytes):
    with pytest.raises(ProtocolViolation):
        decode_vector(data)


def test_more_chains_than_the_limit_are_refused():
    many = {n.to_bytes(6, "big"): Held(0, ((0, 0),)) for n in range(1, limits.VECTOR_CHAINS_MAX + 2)}
    with pytest.raises(ProtocolViolation):
        decode_vector(encode_vector(many))


def test_more_holes_than_the_limit_are_refused():
    ranges = {b"chain1": tuple((2 * n, 2 * n) for n in range(limits.VECTOR_HOLES_MAX + 1))}
    with pytest.raises(ProtocolViolation):
        decode_ranges(encode_ranges(ranges))


def test_a_chain_has_another_tag_in_every_session():
    device, incarnation = DeviceId(b"d" * 32), Incarnation(b"i" * 8)
    tags = {chain_tag(bytes([n]) * 32, device, incarnation) for n in range(10)}
    assert len(tags) == 10


@given(st.lists(NUMBERS, max_size=4))
def test_unite_is_the_union_of_sets(parts: list[set[int]]):
    assert unite(map(as_ranges, parts)) == as_ranges(set().union(*parts))


@given(st.dictionaries(TAGS, NUMBERS, max_size=5), st.integers(1, 6))
def test_split_ranges_keeps_all_of_them_in_parts_of_a_bounded_size(chains: dict[bytes, set[int]], most: int):
    whole = {tag: as_ranges(numbers) for tag, numbers in chains.items() if numbers}
    parts = list(split_ranges(whole, most))
    together: dict[bytes, Ranges] = {}
    for part in parts:
        assert 1 <= sum(map(len, part.values())) <= most
        for tag, ranges in part.items():
            together[tag] = (*together.get(tag, ()), *ranges)
    assert together == whole


def test_may_encode_says_whether_a_vector_would_be_accepted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "VECTOR_CHAINS_MAX", 2)
    monkeypatch.setattr(limits, "VECTOR_HOLES_MAX", 3)
    tags = [bytes(5) + bytes([n]) for n in range(3)]
    one, split = Held(0, ((0, 0),)), Held(0, ((0, 0), (2, 2)))
    for chains in ({}, {tags[0]: one}, {tags[0]: split, tags[1]: one}):
        assert may_encode(chains)
        assert decode_vector(encode_vector(chains)) == chains
    assert not may_encode(dict.fromkeys(tags, one))
    assert not may_encode({tags[0]: split, tags[1]: split})
