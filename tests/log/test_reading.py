"""Read positions merge as the greatest number of each chain, and their bytes are bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log.ids import DeviceId, Incarnation
from mlog.log.reading import NAME_SIZE, chain_name, decode_marks, encode_marks, merge_marks

_MARKS = st.dictionaries(st.binary(min_size=NAME_SIZE, max_size=NAME_SIZE), st.integers(0, limits.SEQ_MAX))


@given(_MARKS, _MARKS, _MARKS)
def test_merging_takes_the_greatest_in_any_order(
    a: dict[bytes, int], b: dict[bytes, int], c: dict[bytes, int]
) -> None:
    merged = merge_marks(a, b, c)
    assert merged == merge_marks(merge_marks(c, b), a) == merge_marks(merged, a)
    assert merged == {name: max(m[name] for m in (a, b, c) if name in m) for name in {*a, *b, *c}}


@given(_MARKS)
def test_marks_come_back_from_their_bytes(marks: dict[bytes, int]) -> None:
    assert decode_marks(encode_marks(marks)) == marks


@given(st.binary(max_size=80))
def test_any_bytes_give_marks_that_are_written_so_or_a_documented_error(encoded: bytes) -> None:
    try:
        marks = decode_marks(encoded)
    except InvalidInput:
        return
    assert encode_marks(marks) == encoded


def test_of_too_many_chains_those_read_furthest_are_kept() -> None:
    marks = {seq.to_bytes(NAME_SIZE, "big"): seq for seq in range(limits.READ_CHAINS_MAX + 10)}
    kept = decode_marks(encode_marks(marks))
    assert len(kept) == limits.READ_CHAINS_MAX
    assert min(kept.values()) == 10


@pytest.mark.parametrize(
    "encoded",
    [
        b"\0" * 15,
        b"\0" * 16 * 2,
        b"\2" * 8 + b"\0" * 8 + b"\1" * 8 + b"\0" * 8,
        b"\1" * 8 + b"\xff" * 8,
        b"".join(n.to_bytes(8, "big") * 2 for n in range(limits.READ_CHAINS_MAX + 1)),
    ],
    ids=["cut", "twice", "out of order", "number", "too many"],
)
def test_what_cannot_be_is_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_marks(encoded)


def test_a_name_is_of_one_device_and_one_incarnation() -> None:
    device, other = DeviceId(b"d" * 32), DeviceId(b"e" * 32)
    one, two = Incarnation(b"1" * 8), Incarnation(b"2" * 8)
    assert len({chain_name(device, one), chain_name(device, two), chain_name(other, one)}) == 3
