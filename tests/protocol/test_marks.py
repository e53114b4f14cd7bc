"""Marks of segments: short, keyed, ordered, and only what differs is looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import ProtocolViolation
from mlog.log.store import Digest
from mlog.protocol.marks import decode_marks, differing_weeks, encode_marks, mark_key, marks_of

_KEY = mark_key(bytes(32), 1)
_hashes = st.sampled_from([bytes([n]) * 32 for n in range(3)])
_digests = st.dictionaries(
    st.one_of(st.integers(0, 8191), st.integers(1200, 1206)),
    st.builds(Digest, st.just(0), st.integers(0, 5), st.integers(0, 5), _hashes, _hashes),
    max_size=9,
).map(
    lambda of: [
        Digest(week, d.entries, d.bodies, d.entries_hash, d.bodies_hash) for week, d in sorted(of.items())
    ]
)


def one(week: int, entries: int = 1) -> bytes:
    return encode_marks(marks_of(_KEY, [Digest(week, entries, 0, bytes(32), bytes(32))]))


@given(_digests)
def test_marks_come_back(digests: list[Digest]):
    marks = marks_of(_KEY, digests)
    assert list(marks) == [d.week for d in digests if d.entries]
    assert decode_marks(encode_marks(marks)) == marks


def test_a_run_of_weeks_takes_four_bytes_for_each_and_four_in_all():
    digests = [Digest(week, 1, 1, bytes(32), bytes(32)) for week in range(1000, 1250)]
    assert len(encode_marks(marks_of(_KEY, digests))) == 4 + 4 * 250


def test_marks_of_another_attempt_or_session_are_others():
    digest = Digest(7, 1, 1, bytes(32), bytes(32))
    keys = [mark_key(bytes(32), 1), mark_key(bytes(32), 2), mark_key(b"\1" * 32, 1)]
    assert len({marks_of(key, [digest])[7] for key in keys}) == 3


def test_a_mark_tells_week_number_and_ids_apart_and_not_bodies():
    same = [Digest(7, 2, bodies, bytes(32), hash_) for bodies, hash_ in ((0, bytes(32)), (2, b"\1" * 32))]
    assert len({marks_of(_KEY, [digest])[7] for digest in same}) == 1
    others = [Digest(7, 3, 0, bytes(32), bytes(32)), Digest(7, 2, 0, b"\1" * 32, bytes(32))]
    marks = {marks_of(_KEY, [digest])[digest.week] for digest in [*same, *others]}
    assert len(marks) == 3
    assert marks_of(_KEY, [Digest(8, 2, 0, bytes(32), bytes(32))])[8] not in marks


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        one(5)[:-1],
        one(5) + b"x",
        one(5) + one(5),
        one(6) + one(5),
        one(5) + one(6),
        one(8192),
        bytes.fromhex("1fff0002") + bytes(8),
        bytes.fromhex("00050000"),
    ],
    ids=[
        "a byte",
        "cut off",
        "more",
        "twice",
        "order",
        "touching",
        "no such week",
        "beyond the last week",
        "no week",
    ],
)
def test_what_is_not_made_by_the_rules_is_refused(data: bytes):
    with pytest.raises(ProtocolViolation):
        decode_marks(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_kept_or_refused(data: bytes):
    try:
        found = decode_marks(data)
    except ProtocolViolation:
        return
    assert encode_marks(found) == data


@given(_digests, _digests)
def test_differing_weeks_are_those_whose_entries_differ_newest_first(
    mine: list[Digest], theirs: list[Digest]
):
    weeks = differing_weeks(marks_of(_KEY, mine), decode_marks(encode_marks(marks_of(_KEY, theirs))))
    here, there = ({d.week: (d.entries, d.entries_hash) for d in of if d.entries} for of in (mine, theirs))
    differing = [week for week in here.keys() | there.keys() if here.get(week) != there.get(week)]
    assert weeks == sorted(differing, reverse=True)
