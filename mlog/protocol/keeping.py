"""What a session finds out about the peer's copies, kept: equality, receipts, how far it is ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlog import limits
from mlog.errors import BadSignature, ProtocolViolation
from mlog.log import receipts
from mlog.log.peers import HeardRow, ReceiptRow, SyncRow, SyncState
from mlog.log.receipts import Statement
from mlog.log.scope import Scope
from mlog.protocol import vector, wire
from mlog.protocol.link import Link
from mlog.protocol.standing import Standing
from mlog.protocol.vector import ChainTag, Held

__all__ = ["Keeper"]


class Keeper:
    """Writes what is found of the logs that one peer shares with us."""

    def __init__(self, link: Link):
        self._link = link
        self._equal: dict[int, list[tuple[Standing, Scope]]] = {}
        self._heard: dict[int, dict[ChainTag, int]] = {}

    def equal(self, serial: int, logs: Sequence[tuple[Standing, Scope]], now_ms: int) -> None:
        """These logs are equal over these scopes, as the answer with this serial said."""
        if not logs:
            return
        link = self._link
        self._equal = {serial: list(logs)}
        with link.store.transaction():
            for standing, scope in logs:
                self._put(
                    standing.log, SyncState.EQUAL, now_ms, equal_root=standing.roots(scope.first_week)[0]
                )
        for standing, _ in logs:
            link.tell("equal", standing.log)

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

    def receive(self, receipt: wire.Receipt) -> None:
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
        with link.store.transaction():
            for (standing, scope), statement, proof in zip(
                self._equal[receipt.serial], statements, proofs, strict=True
            ):
                link.store.put_receipt(
                    ReceiptRow(
                        log=standing.log,
                        device=link.device,
                        first_week=scope.first_week,
                        entries=statement.entries,
                        bodies=statement.bodies,
                        entries_root=statement.entries_root,
                        bodies_root=statement.bodies_root,
                        time_ms=receipt.time_ms,
                        expires_ms=receipt.expires_ms,
                        proof=proof,
                    )
                )

    def _statements(self, serial: int, time_ms: int, expires_ms: int) -> list[Statement]:
        return [
            standing.statement(scope, time_ms, expires_ms) for standing, scope in self._equal.get(serial, [])
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
            for chain in link.store.chains(log):
                seq = heard.pop(vector.chain_tag(link.binding, chain.device, chain.incarnation), -1)
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
