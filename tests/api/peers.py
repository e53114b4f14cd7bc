"""Other devices, as far as a home knows them: what sync would have recorded, without a session."""

from __future__ import annotations

import msgspec

from mlog import limits
from mlog.api.home import Home
from mlog.log.ids import DeviceId
from mlog.log.merkle import refresh_digests
from mlog.log.peers import HeardRow, PeerRow, ReceiptRow, SyncRow, SyncState
from mlog.log.receipts import Statement, make_receipts
from mlog.log.scope import bodies_root, entries_root
from tests.log.support import device_keys


def carry(source: Home, target: Home, log: int) -> None:
    """What a holder of both would hand on."""
    rows = [row for row in source.store.rows(range(source.store.next_n())).values() if row.log == log]
    held = target.store.states(log, [row.id for row in rows])
    lacking = [row for row in rows if row.id not in held]
    target.replica.receive(log, source.replica.sealed_of(log, lacking, bodies=True), target.now_ms())


class Peer:
    """Another device of the same person.

    Args:
        index: Which one; its keys follow from it.
    """

    def __init__(self, home: Home, name: str, index: int, *, met: bool = True):
        self.home = home
        self.keys = device_keys(index)
        self.device: DeviceId = self.keys.id
        row = PeerRow(
            device=self.device,
            name=name,
            noise=self.keys.noise_public,
            hpke=self.keys.hpke_public,
            own=True,
            added_ms=index,
            seen_ms=home.now_ms() if met else 0,
        )
        with home.store.transaction():
            home.store.put_peer(row)

    def sync(self, log: int, state: SyncState, **fields: object) -> SyncRow:
        """What a comparison found; equality stays as it was."""
        known = next((s for s in self.home.store.syncs(log) if s.device == self.device), None)
        row = known or SyncRow(log=log, device=self.device, state=state)
        row = msgspec.structs.replace(
            row,
            **{"state": state, "here_lacks": 0, "there_lacks": 0, "time_ms": self.home.now_ms(), **fields},
        )
        with self.home.store.transaction():
            self.home.store.put_sync(row)
        return row

    def prove(
        self, log: int, *, first_week: int = 0, age_ms: int = 0, ahead_ms: int = 0, bodies: bool = True
    ) -> ReceiptRow:
        """It holds what is here from a week on, and signs that.

        Args:
            age_ms: So long ago.
            ahead_ms: How wrong its clock is.
            bodies: Of texts too.
        """
        now_ms = self.home.now_ms() - age_ms
        digests = [d for d in refresh_digests(self.home.store, log) if d.week >= first_week]
        statement = Statement(
            topic=self.home.replica.log(log).keys.topic,
            first_week=first_week,
            entries=sum(d.entries for d in digests),
            bodies=sum(d.bodies for d in digests) if bodies else 0,
            entries_root=entries_root(digests, first_week),
            bodies_root=bodies_root(digests if bodies else [], first_week),
            time_ms=now_ms + ahead_ms,
            expires_ms=now_ms + ahead_ms + limits.RECEIPT_LIFE_MS,
        )
        [proof] = make_receipts(self.keys, [statement])
        row = ReceiptRow(
            log=log,
            device=self.device,
            first_week=first_week,
            entries=statement.entries,
            bodies=statement.bodies,
            entries_root=statement.entries_root,
            bodies_root=statement.bodies_root,
            time_ms=statement.time_ms,
            expires_ms=statement.expires_ms,
            proof=proof,
        )
        with self.home.store.transaction():
            self.home.store.put_receipt(row)
        root = statement.entries_root[:16]
        self.sync(log, SyncState.EQUAL, time_ms=now_ms, equal_ms=now_ms, equal_root=root)
        return row

    def prove_with_lost(self, log: int) -> ReceiptRow:
        """It signed an hour ago, before anything was lost or damaged here."""
        store = self.home.store
        gaps = store.gaps(log)
        with store.transaction():
            store.replace_gaps(log, [])
        refresh_digests(store, log)
        receipt = self.prove(log, age_ms=3_600_000)
        with store.transaction():
            store.replace_gaps(log, gaps)
        return receipt

    def tell(self, log: int, seq: int, by: DeviceId | None = None) -> HeardRow:
        """It tells that this device's own chain, or its own one, reaches so far."""
        chain = self.home.store.chains(log)[0]
        row = HeardRow(
            log=log,
            device=chain.device,
            incarnation=chain.incarnation,
            seq=seq,
            by=by or self.device,
            time_ms=self.home.now_ms(),
        )
        with self.home.store.transaction():
            self.home.store.put_heard(row)
        return row
