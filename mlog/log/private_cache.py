"""What the store keeps of the private state, so that it is not made anew each time it is asked for.

It is good for one stretch of the private log in the order of the view, up to a place. Whatever
changes in that stretch, a late entry, a higher rank, a revocation, makes it useless, and it is
forgotten; what stands behind the place is taken as it comes. It is hashed, since a flipped bit in it
would go into automerge.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from mlog.log import crypto
from mlog.log.ids import EntryId
from mlog.log.store import Position, Store

__all__ = ["NOWHERE", "PrivateCache", "forget_private", "load_private", "save_private"]

_NAME: Final = "private state"
_HASH_SIZE: Final = 32

NOWHERE: Final = (-1, b"")
"""A place before all entries."""


class PrivateCache(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The private state as it was worked out last.

    Attributes:
        topic: Of the private log.
        writers: Hash over the devices that count as own among those that write to it.
        position: What stands up to here in the order of the view was looked at.
        document: Saved.
        values: What it says: a `Value` at each key.
        refused: Entries that are not part of it, with the reason; only the first so many.
        waiting: Entries that wait for others.
        carried: What this device noted in a private log that it has left, and not yet in this one.
    """

    topic: bytes
    writers: bytes
    position: tuple[int, bytes]
    document: bytes = b""
    values: dict[str, Any] = {}
    refused: dict[bytes, str] = {}
    waiting: tuple[bytes, ...] = ()
    carried: dict[str, Any] = {}

    @property
    def place(self) -> Position:
        return Position(self.position[0], EntryId(self.position[1]))


_DECODER: Final = msgspec.msgpack.Decoder(PrivateCache)
_ENCODER: Final = msgspec.msgpack.Encoder()


def load_private(store: Store) -> PrivateCache | None:
    """What is kept; None where there is nothing, or it is damaged."""
    kept = store.cached(_NAME)
    if kept is None or crypto.hash_with_context("private cache", kept[_HASH_SIZE:]) != kept[:_HASH_SIZE]:
        return None
    try:
        return _DECODER.decode(kept[_HASH_SIZE:])
    except msgspec.DecodeError:
        return None


def save_private(store: Store, cache: PrivateCache) -> None:
    """Keep it instead of what was kept before."""
    encoded = _ENCODER.encode(cache)
    store.put_cached(_NAME, crypto.hash_with_context("private cache", encoded) + encoded)


def forget_private(store: Store, topic: bytes, changed: Iterable[Position] | None = None) -> None:
    """Forget what is kept, where entries changed on which it rests.

    Args:
        topic: Of the log in which they did.
        changed: Where entries came or stood so far; None for anywhere.
    """
    cache = load_private(store)
    if cache is None or cache.topic != topic:
        return
    if changed is None or any(place <= cache.place for place in changed):
        if cache.carried:
            kept = PrivateCache(topic=cache.topic, writers=b"", position=NOWHERE, carried=cache.carried)
            save_private(store, kept)
        else:
            store.put_cached(_NAME, None)
