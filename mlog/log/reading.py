"""Reading: how far a conversation was read, as one number for each chain that somebody else writes.

A place in the view would not do: what was written before it and arrives after it was not seen. Of
two states the greater number of each chain counts, so that states merge in any order and nothing
that was read becomes unread. A chain goes by a name of 8 bytes. docs/protocol.md, 20.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final, TypeAlias

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import crypto
from mlog.log.ids import DeviceId, Incarnation

__all__ = ["NAME_SIZE", "Marks", "chain_name", "decode_marks", "encode_marks", "merge_marks"]

NAME_SIZE: Final = 8
_MARK: Final = Struct(">8sQ")

Marks: TypeAlias = dict[bytes, int]
"""By chain name the highest number that was read."""


def chain_name(device: DeviceId, incarnation: Incarnation) -> bytes:
    """What a chain goes by; its branches, if it forked, share one."""
    return crypto.hash_with_context("chain name", device + incarnation)[:NAME_SIZE]


def merge_marks(*states: Mapping[bytes, int]) -> Marks:
    """Of each chain the greatest number."""
    merged: Marks = {}
    for state in states:
        for name, seq in state.items():
            merged[name] = max(seq, merged.get(name, 0))
    return merged


def encode_marks(marks: Mapping[bytes, int]) -> bytes:
    """16 bytes for each chain, in the order of names; of more than READ_CHAINS_MAX those read furthest."""
    kept = sorted(marks.items(), key=lambda mark: (-mark[1], mark[0]))[: limits.READ_CHAINS_MAX]
    return b"".join(_MARK.pack(name, seq) for name, seq in sorted(kept))


def decode_marks(encoded: bytes) -> Marks:
    """What `encode_marks` wrote.

    Raises:
        InvalidInput: Another length, a number out of its bounds, or chains out of order.
    """
    if len(encoded) % _MARK.size or len(encoded) > limits.READ_CHAINS_MAX * _MARK.size:
        raise InvalidInput(f"read position of {len(encoded)} bytes")
    found = [(name, seq) for name, seq in _MARK.iter_unpack(encoded)]
    marks = dict(found)
    if list(marks) != sorted(marks) or len(marks) != len(found) or any(s > limits.SEQ_MAX for _, s in found):
        raise InvalidInput("read position that cannot be")
    return marks
