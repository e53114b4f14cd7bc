"""Receipts: a holder's signed statement of what it holds of a log, which anybody can check later.

A session signs once for all logs that it found equal: the signature is over the root of a Merkle
tree of the statements (the shape of RFC 6962). What is kept for one log, its proof, is that log's
statement, the path from it to the root, and the signature; it says nothing of the other logs.
docs/protocol.md, 16.

    statement: topic 16 | first week 2 | entries 8 | bodies 8 | entries root 32 | bodies root 32 |
               time 8 | expiry 8
    proof:     device 32 | statement 114 | index 4 | count 4 | path 32 each | signature 64
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded
from mlog.log import crypto
from mlog.log.crypto import DeviceKeys
from mlog.log.ids import DeviceId, Topic

__all__ = ["Statement", "check_receipt", "make_receipts", "prove", "sign_statements"]

_STATEMENT: Final = Struct(">16sHQQ32s32sQQ")
_PLACE: Final = Struct(">II")
_HASH_SIZE: Final = 32
_DEVICE_SIZE: Final = 32
_FIXED_SIZE: Final = _DEVICE_SIZE + _STATEMENT.size + _PLACE.size + crypto.SIGNATURE_SIZE
_LABEL: Final = "receipt"


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder says of one log.

    Attributes:
        first_week: It holds everything from this week on.
        entries, bodies: So many.
        entries_root, bodies_root: Over the segments from there on (mlog/log/scope.py).
        time_ms: When it said so, by its own clock.
        expires_ms: It stands by it until then.
    """

    topic: Topic
    first_week: int
    entries: int
    bodies: int
    entries_root: bytes
    bodies_root: bytes
    time_ms: int
    expires_ms: int

    def encode(self) -> bytes:
        """The 114 bytes that are hashed."""
        return _STATEMENT.pack(*msgspec.structs.astuple(self))

    @classmethod
    def decode(cls, encoded: bytes) -> Statement:
        """Parse; accepts what an honest holder makes.

        Raises:
            InvalidInput: Another length, or a number out of its bounds.
        """
        if len(encoded) != _STATEMENT.size:
            raise InvalidInput(f"statement of {len(encoded)} bytes")
        topic, first_week, entries, bodies, entries_root, bodies_root, time_ms, expires_ms = (
            _STATEMENT.unpack(encoded)
        )
        if first_week > limits.WEEK_MAX or not bodies <= entries <= limits.SEQ_MAX:
            raise InvalidInput("statement with a week or counts that cannot be")
        if not time_ms <= expires_ms <= limits.TIME_MAX_MS:
            raise InvalidInput("statement with times that cannot be")
        return cls(
            topic=Topic(topic),
            first_week=first_week,
            entries=entries,
            bodies=bodies,
            entries_root=entries_root,
            bodies_root=bodies_root,
            time_ms=time_ms,
            expires_ms=expires_ms,
        )


def sign_statements(device: DeviceKeys, statements: Sequence[Statement]) -> bytes:
    """One signature for all of them, in this order; 64 bytes.

    Args:
        statements: At least one, at most OFFERED_LOGS_MAX.
    """
    return device.sign(_LABEL, _signed(_levels(statements)))


def prove(device: DeviceId, statements: Sequence[Statement], signature: bytes) -> list[bytes]:
    """The proof of each statement.

    Args:
        statements: As they were signed, in the same order.

    Raises:
        BadSignature: The device did not sign these.
        LimitExceeded: More than OFFERED_LOGS_MAX.
    """
    levels = _levels(statements)
    crypto.verify_signature(device, _LABEL, _signed(levels), signature)
    return [
        b"".join(
            (
                device,
                statement.encode(),
                _PLACE.pack(index, len(statements)),
                *_path(levels, index),
                signature,
            )
        )
        for index, statement in enumerate(statements)
    ]


def make_receipts(device: DeviceKeys, statements: Sequence[Statement]) -> list[bytes]:
    """Sign statements and give the proof of each."""
    return prove(device.id, statements, sign_statements(device, statements))


def check_receipt(proof: bytes) -> tuple[DeviceId, Statement]:
    """Who stated what.

    Raises:
        LimitExceeded: Of more than OFFERED_LOGS_MAX logs.
        InvalidInput: Not a proof.
        BadSignature: The device did not sign this.
    """
    if len(proof) < _FIXED_SIZE:
        raise InvalidInput(f"receipt of {len(proof)} bytes")
    at = _DEVICE_SIZE + _STATEMENT.size
    device, encoded = DeviceId(proof[:_DEVICE_SIZE]), proof[_DEVICE_SIZE:at]
    index, count = _PLACE.unpack_from(proof, at)
    at += _PLACE.size
    path, signature = proof[at : -crypto.SIGNATURE_SIZE], proof[-crypto.SIGNATURE_SIZE :]
    if count > limits.OFFERED_LOGS_MAX:
        raise LimitExceeded(f"receipt for {count} logs")
    if index >= count or len(path) != _HASH_SIZE * _path_length(index, count):
        raise InvalidInput("receipt of a wrong form")
    statement = Statement.decode(encoded)
    root = _root_from(encoded, index, count, path)
    crypto.verify_signature(device, _LABEL, count.to_bytes(4, "big") + root, signature)
    return device, statement


# -- the tree --------------------------------------------------------------------------------


def _levels(statements: Sequence[Statement]) -> list[list[bytes]]:
    """Hashes from the leaves up to the root; a last one without a partner goes up as it is."""
    assert statements
    if len(statements) > limits.OFFERED_LOGS_MAX:
        raise LimitExceeded(f"receipts for {len(statements)} logs at once")
    levels = [[crypto.hash_with_context("receipt leaf", s.encode()) for s in statements]]
    while len(below := levels[-1]) > 1:
        level = [_node(left, right) for left, right in zip(below[::2], below[1::2], strict=False)]
        levels.append([*level, below[-1]] if len(below) % 2 else level)
    return levels


def _node(left: bytes, right: bytes) -> bytes:
    return crypto.hash_with_context("receipt node", left + right)


def _signed(levels: list[list[bytes]]) -> bytes:
    return len(levels[0]).to_bytes(4, "big") + levels[-1][0]


def _path(levels: list[list[bytes]], index: int) -> list[bytes]:
    path: list[bytes] = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index >>= 1
    return path


def _path_length(index: int, count: int) -> int:
    length = 0
    while count > 1:
        length += index ^ 1 < count
        index, count = index >> 1, (count + 1) >> 1
    return length


def _root_from(statement: bytes, index: int, count: int, path: bytes) -> bytes:
    found, at = crypto.hash_with_context("receipt leaf", statement), 0
    while count > 1:
        if index ^ 1 < count:
            beside = path[at : at + _HASH_SIZE]
            found = _node(beside, found) if index & 1 else _node(found, beside)
            at += _HASH_SIZE
        index, count = index >> 1, (count + 1) >> 1
    return found
