"""The tables about other replicas: `mlog.log.peers.PeerStore` on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mlog.adapters.database import Database, member, text
from mlog.log.ids import DeviceId, Incarnation
from mlog.log.peers import HeardRow, MemberRow, PeerRow, PrunedRow, ReceiptRow, SyncRow, SyncState

__all__ = ["PeerTables"]


class PeerTables(Database):
    """Rows about peers; every row is small, and there are few."""

    def peers(self) -> list[PeerRow]:
        return [
            PeerRow(
                device=DeviceId(device),
                name=text(name),
                noise=noise,
                hpke=hpke,
                own=bool(own),
                addresses=tuple(text(addresses).split()),
                added_ms=added_ms,
                seen_ms=seen_ms,
            )
            for device, name, noise, hpke, own, addresses, added_ms, seen_ms in self._all(
                "SELECT device, name, noise, hpke, own, addresses, added_ms, seen_ms FROM peers "
                "ORDER BY added_ms, device",
                shape="bbbbibii",
            )
        ]

    def put_peer(self, row: PeerRow) -> None:
        assert not any(address.split() != [address] for address in row.addresses)
        self._put(
            "peers",
            row.device,
            row.name,
            row.noise,
            row.hpke,
            row.own,
            " ".join(row.addresses),
            row.added_ms,
            row.seen_ms,
        )

    def remove_peer(self, device: DeviceId) -> None:
        self._run("DELETE FROM peers WHERE device = ?", (device,))

    def members(self, log: int) -> list[MemberRow]:
        columns = (
            "subject, topic, name, role, here, history, since_ms, ended, ended_ms, ended_by FROM roster "
            "WHERE log = ? ORDER BY place"
        )
        return [
            MemberRow(
                log=log,
                subject=subject,
                topic=topic,
                name=text(name),
                role=text(role),
                here=bool(here),
                history=bool(history),
                since_ms=since_ms,
                ended=text(ended),
                ended_ms=ended_ms,
                ended_by=text(by),
            )
            for subject, topic, name, role, here, history, since_ms, ended, ended_ms, by in self._all(
                f"SELECT {columns}", (log,), "bbbbiiibib"
            )
        ]

    def put_members(self, log: int, rows: Sequence[MemberRow]) -> None:
        self._run("DELETE FROM roster WHERE log = ?", (log,))
        for place, row in enumerate(rows):
            self._put(
                "roster",
                log,
                place,
                row.subject,
                row.topic,
                row.name,
                row.role,
                row.here,
                row.history,
                row.since_ms,
                row.ended,
                row.ended_ms,
                row.ended_by,
            )

    def syncs(self, log: int | None = None) -> list[SyncRow]:
        return [
            SyncRow(
                log=row[0],
                device=DeviceId(row[1]),
                state=member(SyncState, row[2]),
                here_lacks=row[3],
                there_lacks=row[4],
                detail=text(row[5]),
                time_ms=row[6],
                equal_ms=row[7],
                equal_root=row[8],
            )
            for row in self._all(
                "SELECT log, device, state, here_lacks, there_lacks, detail, time_ms, equal_ms, equal_root "
                "FROM syncs WHERE log = coalesce(?, log) ORDER BY log, device",
                (log,),
                "ibbiibiib",
            )
        ]

    def put_sync(self, row: SyncRow) -> None:
        self._put("syncs", *msgspec.structs.astuple(row))

    def receipts(self, log: int | None = None) -> list[ReceiptRow]:
        return self._receipts("receipts", "WHERE log = coalesce(?, log) ORDER BY log, device", log)

    def old_receipts(self, log: int) -> list[ReceiptRow]:
        return self._receipts("old_receipts", "WHERE log = ? ORDER BY device, first_week DESC", log)

    def _receipts(self, table: str, condition: str, log: int | None) -> list[ReceiptRow]:
        return [
            ReceiptRow(**dict(zip(ReceiptRow.__struct_fields__, row, strict=True)))
            for row in self._all(
                f"SELECT {', '.join(ReceiptRow.__struct_fields__)} FROM {table} {condition}",
                (log,),
                "ibiiibbiib",
            )
        ]

    def put_receipt(self, row: ReceiptRow) -> None:
        holder = (row.log, row.device)
        self._run(
            "INSERT OR REPLACE INTO old_receipts SELECT * FROM receipts WHERE log = ? AND device = ?", holder
        )
        self._run(
            "DELETE FROM old_receipts WHERE log = ? AND device = ? AND first_week >= ?",
            (*holder, row.first_week),
        )
        self._put("receipts", *msgspec.structs.astuple(row))

    def heard(self, log: int) -> list[HeardRow]:
        return [
            HeardRow(
                log=log,
                device=DeviceId(device),
                incarnation=Incarnation(incarnation),
                seq=seq,
                by=DeviceId(by),
                time_ms=time_ms,
            )
            for device, incarnation, seq, by, time_ms in self._all(
                "SELECT device, incarnation, seq, holder, time_ms FROM heard WHERE log = ? "
                "ORDER BY device, incarnation, holder",
                (log,),
                "bbibi",
            )
        ]

    def put_heard(self, row: HeardRow) -> None:
        self._put("heard", *msgspec.structs.astuple(row))

    def pruned(self, log: int) -> list[PrunedRow]:
        return [
            PrunedRow(**dict(zip(PrunedRow.__struct_fields__, row, strict=True)))
            for row in self._all(
                f"SELECT {', '.join(PrunedRow.__struct_fields__)} FROM pruned WHERE log = ? ORDER BY week",
                (log,),
                "iiiibbii",
            )
        ]

    def put_pruned(self, row: PrunedRow) -> None:
        self._put("pruned", *msgspec.structs.astuple(row))

    def remove_pruned(self, log: int, first_week: int) -> None:
        self._run("DELETE FROM pruned WHERE log = ? AND week >= ?", (log, first_week))
        self._run("UPDATE absent SET pruned = 0 WHERE log = ?", (log,))

    def _put(self, table: str, *values: Any) -> None:
        self._run(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(values))})", values)
