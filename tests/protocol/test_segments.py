"""Digests of segments on the wire: exact, and ordered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import ProtocolViolation
from mlog.log.store import Digest
from mlog.protocol.segments import decode_segments, encode_segments

_hashes = st.sampled_from([bytes([n]) * 32 for n in range(3)])
_digests = st.dictionaries(
    st.integers(0, 8191),
    st.builds(Digest, st.just(0), st.integers(0, 5), st.integers(0, 5), _hashes, _hashes),
    max_size=6,
).map(
    lambda of: [
        Digest(week, d.entries, d.bodies, d.entries_hash, d.bodies_hash) for week, d in sorted(of.items())
    ]
)


@given(_digests)
def test_segments_come_back_with_hashes_cut_to_16_bytes(digests: list[Digest]):
    found = decode_segments(encode_segments(digests))
    held = [d for d in digests if d.entries]
    assert list(found) == [d.week for d in held]
    for digest in held:
        segment = found[digest.week]
        assert (segment.entries, segment.bodies) == (digest.entries, digest.bodies)
        assert digest.entries_hash.startswith(segment.entries_hash)
        assert digest.bodies_hash.startswith(segment.bodies_hash)
        assert len(segment.entries_hash) == len(segment.bodies_hash) == 16


def one(week: int, entries: int = 1) -> bytes:
    return encode_segments([Digest(week, entries, 0, bytes(32), bytes(32))])


@pytest.mark.parametrize(
    "data",
    [b"x", one(5)[:-1], one(5) + b"x", one(5) + one(5), one(6) + one(5), one(8192)],
    ids=["a byte", "cut off", "more", "twice", "order", "no such week"],
)
def test_what_is_not_made_by_the_rules_is_refused(data: bytes):
    with pytest.raises(ProtocolViolation):
        decode_segments(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_kept_or_refused(data: bytes):
    try:
        found = decode_segments(data)
    except ProtocolViolation:
        return
    assert len(found) * 42 == len(data)
