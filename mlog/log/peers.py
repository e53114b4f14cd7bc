"""What this replica knows of others: devices to sync with, what they said they hold, and proofs of it.

Settings and observations of one replica, in no hash and in no log: they may differ everywhere.
What a store keeps of them is the interface `PeerStore`, a part of `mlog.log.store.Store`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from mlog.log.ids import DeviceId, Incarnation

__all__ = ["HeardRow", "PeerRow", "PeerStore", "PrunedRow", "ReceiptRow", "SyncRow", "SyncState", "renewed"]


class PeerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A device that may connect.

    Attributes:
        noise, hpke: Its public keys, as in its device record.
        own: It is one of this person's devices: it is offered every log.
        addresses: Where to try it, as HOST:PORT, best first.
        added_ms, seen_ms: When it was trusted, and when a session with it last worked; 0 for never.
    """

    device: DeviceId
    name: str
    noise: bytes
    hpke: bytes
    own: bool
    addresses: tuple[str, ...] = ()
    added_ms: int = 0
    seen_ms: int = 0


def renewed(row: PeerRow, known: PeerRow | None) -> PeerRow:
    """A device as it is said to be now, with the times of when it was trusted and seen, if it is known."""
    return (
        row if known is None else msgspec.structs.replace(row, added_ms=known.added_ms, seen_ms=known.seen_ms)
    )


class SyncState(StrEnum):
    """How a peer's copy of a log compares with ours."""

    EQUAL = "in sync"
    BEHIND = "behind"
    DIFFERING = "differing"


class SyncRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one peer's copy of one log compared with ours when we last looked.

    Attributes:
        here_lacks, there_lacks: Entries that the other side had then.
        detail: Why, in plain words, where it is not in sync.
        time_ms: When this was seen.
        equal_ms, equal_root: When both were last found equal, and the root of that; 0 and b"" for never.
    """

    log: int
    device: DeviceId
    state: SyncState
    here_lacks: int = 0
    there_lacks: int = 0
    detail: str = ""
    time_ms: int = 0
    equal_ms: int = 0
    equal_root: bytes = b""


class ReceiptRow(msgspec.Struct, frozen=True, kw_only=True):
    """A holder's signed statement of what it holds of a log; the newest one of each holder.

    Attributes:
        first_week: It holds all from this week on.
        entries_root, bodies_root: Over the segments from there on, 32 bytes each.
        expires_ms: The holder stands by it until then.
        proof: The signed bytes (mlog/log/receipts.py).
    """

    log: int
    device: DeviceId
    first_week: int
    entries: int
    bodies: int
    entries_root: bytes
    bodies_root: bytes
    time_ms: int
    expires_ms: int
    proof: bytes


class HeardRow(msgspec.Struct, frozen=True, kw_only=True):
    """A chain reaches at least to `seq`, as the holder `by` said at `time_ms`."""

    log: int
    device: DeviceId
    incarnation: Incarnation
    seq: int
    by: DeviceId
    time_ms: int


class PrunedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that was held and dropped on purpose, with its digests at that time.

    Attributes:
        last_n: Number of the newest row here then: what came later is not part of it.
    """

    log: int
    week: int
    entries: int
    bodies: int
    entries_hash: bytes
    bodies_hash: bytes
    time_ms: int
    last_n: int = 0


class MemberRow(msgspec.Struct, frozen=True, kw_only=True):
    """A person who belongs or belonged to a conversation: a copy of what its entries come to, for scripts.

    Attributes:
        subject: What the person is known by here.
        topic: Of the person's log; b"" where none is known.
        role: "admin" or "member"; "" where that ended.
        here: It is this person.
        history: It may read what was written before it came.
        since_ms: When it came in last, as who let it in claims.
        ended: "left" or "removed"; "" while it belongs to it.
        ended_ms, ended_by: When, and by whose word.
    """

    log: int
    subject: bytes
    topic: bytes
    name: str
    role: str
    here: bool
    history: bool
    since_ms: int
    ended: str = ""
    ended_ms: int = 0
    ended_by: str = ""


class PeerStore(Protocol):
    """Rows about others; each `put` replaces the row with the same key."""

    def peers(self) -> list[PeerRow]: ...
    def put_peer(self, row: PeerRow) -> None: ...
    def remove_peer(self, device: DeviceId) -> None: ...
    def members(self, log: int) -> list[MemberRow]:
        """In the order in which they were put."""
        ...

    def put_members(self, log: int, rows: Sequence[MemberRow]) -> None:
        """In the place of all that there were of this log."""
        ...

    def syncs(self, log: int | None = None) -> list[SyncRow]: ...
    def put_sync(self, row: SyncRow) -> None: ...
    def receipts(self, log: int | None = None) -> list[ReceiptRow]: ...
    def put_receipt(self, row: ReceiptRow) -> None:
        """One row for each log and holder; the one before is an old one if it reaches back further."""
        ...

    def old_receipts(self, log: int) -> list[ReceiptRow]:
        """Of each holder those that reach back further than any later one, the newest first week first."""
        ...

    def heard(self, log: int) -> list[HeardRow]: ...
    def put_heard(self, row: HeardRow) -> None:
        """One row for each chain and holder."""
        ...

    def pruned(self, log: int) -> list[PrunedRow]: ...
    def put_pruned(self, row: PrunedRow) -> None: ...
    def remove_pruned(self, log: int, first_week: int) -> None:
        """Forget the records of weeks from `first_week` on: they are fetched again."""
        ...
