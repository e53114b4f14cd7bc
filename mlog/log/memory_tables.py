"""The tables of the store in memory, their transactions, and the rows about other replicas."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec

from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId
from mlog.log.peers import HeardRow, MemberRow, PeerRow, PrunedRow, ReceiptRow, SyncRow
from mlog.log.store import (
    ChainRow,
    DeviceRow,
    Digest,
    EntryRow,
    EpochRow,
    ForkRow,
    GapRow,
    LogRow,
    Reference,
    RunRow,
    Task,
)

__all__ = ["PeerMemory", "Tables", "TablesInMemory"]

_K = TypeVar("_K")
_V = TypeVar("_V")

_ABSENT: Final = object()


class Tables(msgspec.Struct):
    """Rows by their keys, and indexes over entries: from what is looked for to `n`, in order of arrival."""

    logs: dict[int, LogRow] = {}
    epochs: dict[EpochRow, None] = {}
    devices: dict[DeviceId, DeviceRow] = {}
    chains: dict[int, ChainRow] = {}
    forks: dict[tuple[int, DeviceId, Incarnation], ForkRow] = {}
    entries: dict[int, EntryRow] = {}
    by_log: dict[int, dict[int, None]] = {}
    by_id: dict[EntryId, int] = {}
    by_mid: dict[MessageId, dict[int, None]] = {}
    by_chain: dict[int, dict[int, int]] = {}
    by_week: dict[tuple[int, int], dict[int, None]] = {}
    by_kind: dict[tuple[int, int], dict[int, None]] = {}
    by_parent: dict[EntryId, dict[int, None]] = {}
    by_target: dict[MessageId, dict[int, None]] = {}
    unopened: dict[int, dict[int, None]] = {}
    unfetched: dict[int, dict[int, None]] = {}
    closed: dict[int, dict[int, None]] = {}
    parents: dict[int, tuple[EntryId, ...]] = {}
    references: dict[int, tuple[Reference, ...]] = {}
    words: dict[int, str] = {}
    heads: dict[int, dict[EntryId, None]] = {}
    digests: dict[tuple[int, int], Digest] = {}
    stale: dict[tuple[int, int], None] = {}
    gaps: dict[int, tuple[GapRow, ...]] = {}
    runs: dict[int, dict[int, RunRow]] = {}
    absent: dict[int, dict[EntryId, int]] = {}
    pruned_parents: dict[int, dict[EntryId, None]] = {}
    unsettled: dict[tuple[int, Task], dict[int, int]] = {}
    peers: dict[DeviceId, PeerRow] = {}
    members: dict[int, tuple[MemberRow, ...]] = {}
    syncs: dict[tuple[int, DeviceId], SyncRow] = {}
    receipts: dict[tuple[int, DeviceId], ReceiptRow] = {}
    old_receipts: dict[tuple[int, DeviceId, int], ReceiptRow] = {}
    heard: dict[tuple[int, DeviceId, Incarnation, DeviceId], HeardRow] = {}
    pruned: dict[tuple[int, int], PrunedRow] = {}
    flags: dict[str, int] = {}
    cached: dict[str, bytes] = {}
    chosen: dict[str, tuple[int, bool]] = {}


class TablesInMemory:
    """Tables whose changes are undone where a transaction fails."""

    def __init__(self) -> None:
        self._t = Tables()
        self._undo: list[tuple[dict[Any, Any], Any, Any]] | None = None

    @contextmanager
    def transaction(self) -> Generator[None]:
        if self._undo is not None:
            yield
            return
        undo = self._undo = []
        try:
            yield
        except BaseException:
            for table, key, before in reversed(undo):
                if before is _ABSENT:
                    table.pop(key, None)
                else:
                    table[key] = before
            raise
        finally:
            self._undo = None

    @contextmanager
    def reading(self) -> Generator[None]:
        yield

    def _put(self, table: dict[_K, _V], key: _K, value: _V) -> None:
        if self._undo is not None:
            self._undo.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    def _drop(self, table: dict[_K, Any], key: _K) -> None:
        if key in table:
            if self._undo is not None:
                self._undo.append((table, key, table[key]))
            del table[key]


class PeerMemory(TablesInMemory):
    """Implements `mlog.log.peers.PeerStore`."""

    def peers(self) -> list[PeerRow]:
        return sorted(self._t.peers.values(), key=lambda row: (row.added_ms, row.device))

    def put_peer(self, row: PeerRow) -> None:
        self._put(self._t.peers, row.device, row)

    def remove_peer(self, device: DeviceId) -> None:
        self._drop(self._t.peers, device)

    def members(self, log: int) -> list[MemberRow]:
        return list(self._t.members.get(log, ()))

    def put_members(self, log: int, rows: Sequence[MemberRow]) -> None:
        self._put(self._t.members, log, tuple(rows))

    def syncs(self, log: int | None = None) -> list[SyncRow]:
        return [row for key, row in sorted(self._t.syncs.items()) if log in (None, key[0])]

    def put_sync(self, row: SyncRow) -> None:
        self._put(self._t.syncs, (row.log, row.device), row)

    def receipts(self, log: int | None = None) -> list[ReceiptRow]:
        return [row for key, row in sorted(self._t.receipts.items()) if log in (None, key[0])]

    def put_receipt(self, row: ReceiptRow) -> None:
        before = self._t.receipts.get((row.log, row.device))
        if before is not None:
            self._put(self._t.old_receipts, (row.log, row.device, before.first_week), before)
        for key in list(self._t.old_receipts):
            if key[:2] == (row.log, row.device) and key[2] >= row.first_week:
                self._drop(self._t.old_receipts, key)
        self._put(self._t.receipts, (row.log, row.device), row)

    def old_receipts(self, log: int) -> list[ReceiptRow]:
        found = [row for key, row in self._t.old_receipts.items() if key[0] == log]
        return sorted(found, key=lambda row: (row.device, -row.first_week))

    def heard(self, log: int) -> list[HeardRow]:
        return [row for key, row in sorted(self._t.heard.items()) if key[0] == log]

    def put_heard(self, row: HeardRow) -> None:
        self._put(self._t.heard, (row.log, row.device, row.incarnation, row.by), row)

    def pruned(self, log: int) -> list[PrunedRow]:
        return [row for key, row in sorted(self._t.pruned.items()) if key[0] == log]

    def put_pruned(self, row: PrunedRow) -> None:
        self._put(self._t.pruned, (row.log, row.week), row)

    def remove_pruned(self, log: int, first_week: int) -> None:
        for key in [key for key in self._t.pruned if key[0] == log and key[1] >= first_week]:
            self._drop(self._t.pruned, key)
        for id_ in list(self._t.pruned_parents.get(log, {})):
            self._drop(self._t.pruned_parents[log], id_)
