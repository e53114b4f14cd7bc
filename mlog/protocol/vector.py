"""Chain vectors: what a replica holds of each chain, in a few bytes; and what follows from two of them.

    vector = *(chain 6 | first | count | holes | *(distance | length))      numbers as LEB128

A chain is named by the hash of its device and incarnation under the session's binding. What is
held is `first .. first + count - 1` but for the holes; a distance counts from the end of the hole
before (or from `first`). Ranges that are wanted have the same form, without holes:

    ranges = *(chain 6 | ranges | *(distance | length))

docs/protocol.md, 14.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log import crypto
from mlog.log.ids import DeviceId, Incarnation

__all__ = [
    "CHAIN_TAG_SIZE",
    "ChainTag",
    "Held",
    "Ranges",
    "chain_tag",
    "clip",
    "count",
    "decode_ranges",
    "decode_vector",
    "encode_ranges",
    "encode_vector",
    "may_encode",
    "split_ranges",
    "subtract",
    "unite",
]

CHAIN_TAG_SIZE: Final = 6

ChainTag: TypeAlias = bytes
"""6 bytes: names a chain within one session."""

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Sequence numbers as (first, last), ascending, apart from each other."""


class Held(NamedTuple):
    """What is held of one chain: all of `ranges`, and nothing else from `first` on."""

    first: int
    ranges: Ranges


def chain_tag(binding: bytes, device: DeviceId, incarnation: Incarnation) -> ChainTag:
    """Name of a chain in the session with this binding."""
    return crypto.keyed_hash(binding, b"chain" + device + incarnation, CHAIN_TAG_SIZE)


def subtract(these: Ranges, those: Ranges) -> Ranges:
    """What is in `these` and not in `those`; time in proportion to the number of ranges."""
    left: list[tuple[int, int]] = []
    at = 0
    for first, last in these:
        start = first
        while at < len(those) and those[at][1] < start:
            at += 1
        here = at
        while here < len(those) and those[here][0] <= last:
            if those[here][0] > start:
                left.append((start, those[here][0] - 1))
            start = those[here][1] + 1
            here += 1
        if start <= last:
            left.append((start, last))
    return tuple(left)


def unite(parts: Iterable[Ranges]) -> Ranges:
    """What is in any of these."""
    united: list[tuple[int, int]] = []
    for first, last in sorted(chain.from_iterable(parts)):
        if united and first <= united[-1][1] + 1:
            united[-1] = united[-1][0], max(united[-1][1], last)
        else:
            united.append((first, last))
    return tuple(united)


def clip(ranges: Ranges, first: int) -> Ranges:
    """The part from `first` on."""
    return tuple((max(low, first), high) for low, high in ranges if high >= first)


def count(ranges: Iterable[tuple[int, int]]) -> int:
    """How many sequence numbers."""
    return sum(last - first + 1 for first, last in ranges)


def encode_vector(chains: Mapping[ChainTag, Held]) -> bytes:
    """The wire form, in order of the tags. Chains that hold nothing are left out."""
    out = bytearray()
    for tag, held in sorted(chains.items()):
        if not held.ranges:
            continue
        end = held.ranges[-1][1]
        holes = subtract(((held.first, end),), held.ranges)
        out += tag
        _put(out, held.first)
        _put(out, end - held.first + 1)
        _put_ranges(out, holes, held.first)
    return bytes(out)


def may_encode(chains: Mapping[ChainTag, Held]) -> bool:
    """Whether a vector of these keeps its bounds."""
    ranges = sum(len(held.ranges) for held in chains.values())
    return len(chains) <= limits.VECTOR_CHAINS_MAX and ranges <= limits.VECTOR_HOLES_MAX


def split_ranges(chains: Mapping[ChainTag, Ranges], most: int) -> Iterator[dict[ChainTag, Ranges]]:
    """The same in parts of at most `most` ranges."""
    part: dict[ChainTag, Ranges] = {}
    room = most
    for tag, ranges in chains.items():
        left = ranges
        while left:
            part[tag], left = left[:room], left[room:]
            room -= len(part[tag])
            if not room:
                yield part
                part, room = {}, most
    if part:
        yield part


def decode_vector(data: bytes) -> dict[ChainTag, Held]:
    """Parse a vector.

    Raises:
        ProtocolViolation: Not of this form, or more than VECTOR_CHAINS_MAX chains or VECTOR_HOLES_MAX holes.
    """
    reader = _Reader(data)
    chains: dict[ChainTag, Held] = {}
    while reader.left:
        tag = reader.tag()
        first = reader.number()
        size = reader.number()
        if size == 0 or first + size - 1 > limits.SEQ_MAX:
            raise ProtocolViolation("a vector with an impossible chain")
        end = first + size - 1
        holes = reader.ranges(first, end - 1)
        chains[tag] = Held(first, subtract(((first, end),), holes))
    return chains


def encode_ranges(chains: Mapping[ChainTag, Ranges]) -> bytes:
    """The wire form of ranges that are wanted; chains with none are left out."""
    out = bytearray()
    for tag, ranges in sorted(chains.items()):
        if ranges:
            out += tag
            _put_ranges(out, ranges, 0)
    return bytes(out)


def decode_ranges(data: bytes) -> dict[ChainTag, Ranges]:
    """Parse ranges that are wanted.

    Raises:
        ProtocolViolation: As `decode_vector`.
    """
    reader = _Reader(data)
    chains: dict[ChainTag, Ranges] = {}
    while reader.left:
        tag = reader.tag()
        chains[tag] = reader.ranges(0, limits.SEQ_MAX)
    return chains


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _put_ranges(out: bytearray, ranges: Sequence[tuple[int, int]], start: int) -> None:
    _put(out, len(ranges))
    for first, last in ranges:
        _put(out, first - start)
        _put(out, last - first + 1)
        start = last + 1


class _Reader:
    def __init__(self, data: bytes):
        self._data = data
        self._at = 0
        self._tag = b""
        self._chains = 0
        self._ranges = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def tag(self) -> ChainTag:
        tag = self._data[self._at : self._at + CHAIN_TAG_SIZE]
        if len(tag) < CHAIN_TAG_SIZE:
            raise ProtocolViolation("a vector ends in the middle of a chain")
        # Every chain once, in order: two equal vectors are the same bytes.
        if tag <= self._tag:
            raise ProtocolViolation("a vector with chains out of order")
        self._chains += 1
        if self._chains > limits.VECTOR_CHAINS_MAX:
            raise ProtocolViolation(f"a vector with more than {limits.VECTOR_CHAINS_MAX} chains")
        self._at += CHAIN_TAG_SIZE
        self._tag = tag
        return tag

    def number(self) -> int:
        value = shift = 0
        while True:
            if self._at == len(self._data) or shift > 49:
                raise ProtocolViolation("a vector with a number that is cut off or too large")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        if (byte == 0 and shift) or value > limits.SEQ_MAX:
            raise ProtocolViolation("a vector with a number that is too large or too long")
        return value

    def ranges(self, start: int, last: int) -> Ranges:
        """Ranges from `start` to `last`; neither touch nor overlap but for the first one's start."""
        size = self.number()
        self._ranges += size
        if self._ranges > limits.VECTOR_HOLES_MAX:
            raise ProtocolViolation(f"a vector with more than {limits.VECTOR_HOLES_MAX} ranges")
        ranges: list[tuple[int, int]] = []
        for index in range(size):
            distance, length = self.number(), self.number()
            if length == 0 or (index and distance == 0) or start + distance + length - 1 > last:
                raise ProtocolViolation("a vector with an impossible range")
            ranges.append((start + distance, start + distance + length - 1))
            start += distance + length
        return tuple(ranges)
