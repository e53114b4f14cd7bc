"""What a session finds out about the peer's copies, kept: equality, receipts, how far it is ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import BadSignature, ProtocolViolation
from mlog.log import receipts
from mlog.log.peers import HeardRow, ReceiptRow, SyncRow, SyncState
from mlog.log.receipts import Statement
from mlog.log.scope import Scope
from mlog.protocol import wire
from mlog.protocol.link import Job, Link
from mlog.protocol.standing import Standing
from mlog.protocol.vector import ChainTag, Held

__all__ = ["Keeper"]

_SLICE_LOGS: Final = 128
"""Logs of which something is kept before others have their turn: about 10 ms."""


class Keeper:
    """Writes what is found of the logs that one peer shares with us."""

    def __init__(self, link: Link):
        self._link = link
        self._unwritten: list[tuple[Standing, Scope]] = []
        self._serial = 0
        self._equal: dict[int, list[tuple[int, Statement]]] = {}
        self._heard: dict[int, dict[ChainTag, int]] = {}

    def equal(self, serial: int, logs: Sequence[tuple[Standing, Scope]]) -> None:
        """These logs are equal over these scopes, as the answer with this serial said."""
        self._unwritten = list(logs)
        if logs:
            self._equal = {serial: []}
            self._serial = serial

    def write_equal(self, now_ms: int) -> Job:
        """Keep what was found equal, some logs at a time."""
        link = self._link
        logs, self._unwritten = self._unwritten, []
        for at in range(0, len(logs), _SLICE_LOGS):
            part = logs[at : at + _SLICE_LOGS]
            with link.store.transaction():
                for standing, scope in part:
                    equal_root = standing.roots(scope.first_week)[0]
                    self._put(standing.log, SyncState.EQUAL, now_ms, equal_root=equal_root)
            for standing, scope in part:
                link.tell("equal", standing.log)
                self._equal[self._serial].append((standing.log, standing.statement(scope, 0, 0)))
            yield

    def behind(self, log: int, here_lacks: int, there_lacks: int, now_ms: int) -> None:
        """One side, or both, lack entries."""
        with self._link.store.transaction():
            self._put(log, SyncState.BEHIND, now_ms, here_lacks=here_lacks, there_lacks=there_lacks)
        self._link.tell("behind", log, here_lacks + there_lacks)

    def differing(self, log: int, detail: str, now_ms: int) -> None:
        """All ways were tried, and the copies still differ."""
        with self._link.store.transaction():
            self._put(log, SyncState.DIFFERING, now_ms, detail=detail)
        self._link.tell("differing", log, detail=detail)

    def _put(
        self,
        log: int,
        state: SyncState,
        now_ms: int,
        *,
        here_lacks: int = 0,
        there_lacks: int = 0,
        detail: str = "",
        equal_root: bytes = b"",
    ) -> None:
        store, device = self._link.store, self._link.device
        last = next((row for row in store.syncs(log) if row.device == device), None)
        known = (last.equal_ms, last.equal_root) if last is not None else (0, b"")
        equal_ms, root = (now_ms, equal_root) if state == SyncState.EQUAL else known
        store.put_sync(
            SyncRow(
                log=log,
                device=device,
                state=state,
                here_lacks=here_lacks,
                there_lacks=there_lacks,
                detail=detail,
                time_ms=now_ms,
                equal_ms=equal_ms,
                equal_root=root,
            )
        )

    # -- receipts ----------------------------------------------------------------------------

    def sign(self, serial: int, now_ms: int) -> wire.Receipt | None:
        """This side's receipt for what an answer called equal."""
        expires_ms = now_ms + limits.RECEIPT_LIFE_MS
        statements = self._statements(serial, now_ms, expires_ms)
        if not statements:
            return None
        signature = receipts.sign_statements(self._link.replica.device_keys, statements)
        return wire.Receipt(serial, now_ms, expires_ms, signature)

    def receive(self, receipt: wire.Receipt) -> Job:
        """Check and keep the peer's.

        Raises:
            ProtocolViolation: It signed something else than was found equal.
        """
        link = self._link
        statements = self._statements(receipt.serial, receipt.time_ms, receipt.expires_ms)
        if not statements or receipt.time_ms > receipt.expires_ms:
            raise ProtocolViolation("a receipt for nothing")
        try:
            proofs = receipts.prove(link.device, statements, receipt.signature)
        except BadSignature:
            raise ProtocolViolation("a receipt that is not signed by its holder") from None
        rows = [
            ReceiptRow(
                log=log,
                device=link.device,
                first_week=statement.first_week,
                entries=statement.entries,
                bodies=statement.bodies,
                entries_root=statement.entries_root,
                bodies_root=statement.bodies_root,
                time_ms=receipt.time_ms,
                expires_ms=receipt.expires_ms,
                proof=proof,
            )
            for (log, _), statement, proof in zip(
                self._equal[receipt.serial], statements, proofs, strict=True
            )
        ]
        for at in range(0, len(rows), _SLICE_LOGS):
            with link.store.transaction():
                for row in rows[at : at + _SLICE_LOGS]:
                    link.store.put_receipt(row)
            yield

    def _statements(self, serial: int, time_ms: int, expires_ms: int) -> list[Statement]:
        return [
            msgspec.structs.replace(statement, time_ms=time_ms, expires_ms=expires_ms)
            for _, statement in self._equal.get(serial, [])
        ]

    # -- what was heard of ---------------------------------------------------------------------

    def heard(self, log: int, theirs: Mapping[ChainTag, Held]) -> None:
        """The peer holds these chains so far; what is missing here is a gap until it has come."""
        self._heard[log] = {tag: held.ranges[-1][1] for tag, held in theirs.items()}
        self.note_heard(log)

    def note_heard(self, log: int) -> None:
        """Keep what was heard of chains that are known by now."""
        heard = self._heard.get(log)
        if not heard:
            return
        link = self._link
        with link.store.transaction():
            known = {n: tag for tag, branches in link.chains(log).items() for n in branches}
            for chain in link.store.chain_rows([n for n, tag in known.items() if tag in heard]):
                seq = heard.pop(known[chain.n], -1)
                if seq > chain.seq:
                    link.store.put_heard(
                        HeardRow(
                            log=log,
                            device=chain.device,
                            incarnation=chain.incarnation,
                            seq=seq,
                            by=link.device,
                            time_ms=link.now_ms,
                        )
                    )
