"""Keyring: the logs that this device can read, with their secrets, as the store keeps them sealed.

docs/protocol.md, 4.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlog import limits
from mlog.errors import InvalidInput, StoreError
from mlog.log import bodies, crypto
from mlog.log.crypto import DeviceKeys, EpochKeys, LogKeys, Vault, wrap_info
from mlog.log.fold import LogState
from mlog.log.ids import DeviceId
from mlog.log.store import EpochRow, LogKind, LogRow, Store, Task

__all__ = ["Keyring"]


class Keyring:
    """Opens the secrets of logs, and keeps what is learned of them. All changes are in the caller's
    transaction.

    Args:
        vault: Seals what the store keeps.
        device: For which key entries wrap epochs.
    """

    def __init__(self, store: Store, vault: Vault, device: DeviceKeys):
        self.vault = vault
        self._store = store
        self._device = device
        self._logs: dict[int, LogState] = {}

    def logs(self) -> list[LogState]:
        """All logs that can be read, oldest first."""
        rows = [row for row in self._store.logs() if row.secret]
        for row in rows:
            # A number whose transaction was undone may since have gone to another log.
            if row.n not in self._logs or self._logs[row.n].keys.topic != row.topic:
                self._logs[row.n] = self._load(row)
        return [self._logs[row.n] for row in rows]

    def log(self, n: int) -> LogState:
        """One log by its number.

        Raises:
            InvalidInput: There is none; an entry that names it is damaged.
        """
        if n not in self._logs:
            self.logs()
        if n not in self._logs:
            raise InvalidInput(f"there is no log {n} here")
        return self._logs[n]

    def blind(self, n: int) -> LogRow | None:
        """A log that is kept for others; None if it can be read, or is not here."""
        if n in self._logs:
            return None
        return next((row for row in self._store.logs() if row.n == n and not row.secret), None)

    def add(self, kind: LogKind, keys: LogKeys, n: int) -> LogState:
        """Keep a log under a new number, with the epochs that are known of it."""
        days, fetch = self._store.window_of_new() if kind == LogKind.CONVERSATION else (0, True)
        sealed = self.vault.seal("log", keys.secret)
        self._store.add_log(LogRow(n, keys.topic, kind, sealed, window_days=days, fetch_bodies=fetch))
        for epoch in keys.epochs[1:]:
            self._store.add_epoch(self._row_of(n, epoch))
        state = self._logs[n] = LogState(n, kind, keys)
        return state

    def forget(self) -> None:
        """Read all anew: a log that was started in a transaction that failed is gone, and another process
        may give its number to another."""
        self._logs.clear()

    # -- epochs ------------------------------------------------------------------------------

    def refresh(self, state: LogState) -> bool:
        """Read the epochs of a log again, since another process may have learned more; whether there are."""
        keys, rows = state.keys, self._store.epochs(state.n)
        if len(rows) < len(keys.epochs) and not keys.outlines and not keys.granted:
            # All of them, and the one that is derived. Opening a thousand takes 20 ms, and this is asked
            # for each bundle with an entry that nobody here can open.
            return False
        return self._add_rows(keys, rows)

    def add_epoch(self, state: LogState, epoch: EpochKeys) -> None:
        """Take an epoch that a key entry states, in place of its outline or of what was only granted."""
        outline = state.keys.outline_of(epoch)
        if outline is not None:
            self._store.remove_epoch(self._row_of(state.n, outline))
            self._store.change_unsettled(state.n, Task.UNSEAL, [(0, 0)], ())
        granted = state.keys.granted.get(crypto.commitment(epoch.secret)) if epoch.secret else None
        if granted is not None:
            self._store.remove_epoch(self._row_of(state.n, granted, "granted"))
        self._store.add_epoch(self._row_of(state.n, epoch))
        state.keys.add_epoch(epoch)

    def add_granted(self, state: LogState, epoch: EpochKeys) -> None:
        """Keep an epoch until a key entry states it."""
        if state.keys.add_granted(epoch):
            self._store.add_epoch(self._row_of(state.n, epoch, "granted"))

    def learn(self, state: LogState, author: DeviceId, body: bodies.Key) -> tuple[bool, str]:
        """Take the epoch that a key entry wraps for this device, or that was granted and that it states.

        Returns:
            Whether it was new, and what is wrong with it or "".
        """
        granted = state.keys.granted.get(bytes.fromhex(body.commitment))
        if granted is not None and body.epoch:
            self.add_epoch(state, EpochKeys(body.epoch, granted.secret))
            return True, ""
        try:
            epoch = self.epoch_in(state, author, body)
        except InvalidInput as error:
            return False, str(error)
        if epoch is None:
            return False, ""
        self.add_epoch(state, epoch)
        return True, ""

    def epoch_in(
        self, state: LogState, author: DeviceId, body: bodies.Key, *, counts: bool = False
    ) -> EpochKeys | None:
        """The epoch that a key entry wraps for this device; None for no such one, or one that is known.

        Args:
            counts: The entry does, so its epoch is taken however many are known.

        Raises:
            InvalidInput: It is refused; says why.
        """
        sealed = next((wrap.sealed for wrap in body.wraps if wrap.device == self._device.id), None)
        stated = bytes.fromhex(body.commitment)
        epochs = state.keys.epochs
        if body.epoch == 0:
            raise InvalidInput("epoch 0 follows from the log's secret and is never given")
        if sealed is None or any(e.secret and crypto.commitment(e.secret) == stated for e in epochs):
            return None
        if len(epochs) >= limits.EPOCHS_MAX and not counts:
            raise InvalidInput(f"more than {limits.EPOCHS_MAX:,} epochs")
        try:
            info = wrap_info(state.keys.topic, author, body.epoch, self._device.id)
            secret = crypto.unwrap(self._device, sealed, info)
        except InvalidInput:
            raise InvalidInput("the secret that it has for this device does not open") from None
        if crypto.commitment(secret) != stated:
            raise InvalidInput("the secret that it has for this device is not the one that it states")
        return EpochKeys(body.epoch, secret)

    # -- what the store keeps ----------------------------------------------------------------

    def _load(self, row: LogRow) -> LogState:
        try:
            keys = LogKeys(self.vault.open("log", row.secret))
            self._add_rows(keys, self._store.epochs(row.n))
        except InvalidInput:
            raise StoreError(
                "the keys of a log cannot be read: the database belongs to another key file, or is "
                "damaged. Put the key file beside it that it was made with, or restore a backup."
            ) from None
        if keys.topic != row.topic:
            raise StoreError("the record of a log is damaged. Restore a backup: 'mlog restore FILE'.")
        return LogState(row.n, row.kind, keys)

    def _add_rows(self, keys: LogKeys, rows: Sequence[EpochRow]) -> bool:
        """Take what the store has of epochs; whether that opens more than before."""
        opens = False
        granted: list[EpochKeys] = []
        for row in rows:
            epoch, stated = self._open(row)
            if not stated:
                granted.append(epoch)
            elif keys.lacks(epoch):
                keys.add_epoch(epoch)
                opens = True
        for epoch in granted:
            keys.add_granted(epoch)
        return opens

    def _open(self, row: EpochRow) -> tuple[EpochKeys, bool]:
        """An epoch, and whether a key entry states it, as far as one can."""
        try:
            return EpochKeys(row.number, self.vault.open("epoch", row.secret)), True
        except InvalidInput:
            pass
        try:
            return EpochKeys(row.number, b"", self.vault.open("outline", row.secret)), True
        except InvalidInput:
            return EpochKeys(row.number, self.vault.open("granted", row.secret)), False

    def _row_of(self, log: int, epoch: EpochKeys, label: str = "epoch") -> EpochRow:
        if epoch.secret:
            return EpochRow(log, epoch.number, self.vault.seal(label, epoch.secret))
        return EpochRow(log, epoch.number, self.vault.seal("outline", epoch.outline))
