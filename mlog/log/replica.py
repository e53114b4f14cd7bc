"""Replica: the logs of one device over a store; writes entries, and hands on those of others.

Whether an entry is stored depends on its bytes alone (mlog/log/intake.py); what it means is worked
out from the stored set (mlog/log/fold.py), so that two replicas with the same entries show the same
view, in whatever order they came.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence, Set
from contextlib import contextmanager

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, StoreError
from mlog.log import bodies, crypto, entry
from mlog.log import missing as absence
from mlog.log.bodies import Body, Kind
from mlog.log.crypto import DeviceKeys, Entropy, EpochKeys, LogKeys, Vault, wrap_info
from mlog.log.entry import NO_ENTRY, Header, Sealed
from mlog.log.fold import Fold, LogState, Opened, Ranks, is_retold, references_in, words_in
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId, Topic, week_of
from mlog.log.intake import Intake, Taken, extend_runs
from mlog.log.missing import Missing
from mlog.log.store import (
    BodyState,
    ChainRow,
    EntryRow,
    EpochRow,
    GapRow,
    LogKind,
    LogRow,
    Reason,
    Store,
)
from mlog.log.stored import SEARCHED, readable_body, sealed_again, text_of
from mlog.log.words import searchable

__all__ = ["Draft", "LogState", "Missing", "Replica", "Run", "Taken", "Written"]


class Draft(msgspec.Struct, frozen=True, gc=False):
    """What is to become an entry.

    Attributes:
        mid: Identity of an imported message, or None for what is written here and now.
        after: Entries that it names besides the one before it in its chain.
    """

    kind: Kind
    body: Body
    time_ms: int
    mid: MessageId | None = None
    after: tuple[EntryId, ...] = ()


class Run(msgspec.Struct, frozen=True, gc=False):
    """One import: writes a chain of its own."""

    log: int
    incarnation: Incarnation


class Written(msgspec.Struct, frozen=True, gc=False):
    """What became of a batch of an import.

    Attributes:
        rows: The new entries.
        known: Entries that said the same before, by identity.
        after: The known entry with which the batch ended: the next new one names it.
    """

    rows: list[EntryRow]
    known: dict[MessageId, EntryRow]
    after: EntryId | None


class Replica:
    """One device's logs over a store. Not for use by several threads.

    Args:
        store: Where rows are kept.
        device: The keys that sign what is written here.
        vault: Seals secrets that the store keeps.
        entropy: For new secrets and incarnations.
        incarnation: Of the chains that this device writes by hand.
    """

    def __init__(
        self, store: Store, device: DeviceKeys, vault: Vault, entropy: Entropy, incarnation: Incarnation
    ):
        self.store = store
        self.device_id = device.id
        self.incarnation = incarnation
        self.device_keys = device
        self._vault = vault
        self._entropy = entropy
        self._logs: dict[int, LogState] = {}
        self._fold = Fold(store, lambda log: self.log(log).keys, self.authors)
        self._intake = Intake(store, self._fold, self._learn, self._refresh)

    # -- logs --------------------------------------------------------------------------------

    def logs(self, kind: LogKind | None = None) -> list[LogState]:
        """All logs of a kind that this replica can read, oldest first."""
        rows = [row for row in self.store.logs() if row.secret]
        for row in rows:
            # A number whose transaction was undone may since have gone to another log.
            if row.n not in self._logs or self._logs[row.n].keys.topic != row.topic:
                self._logs[row.n] = self._load(row)
        return [self._logs[row.n] for row in rows if kind is None or row.kind == kind]

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

    def _load(self, row: LogRow) -> LogState:
        try:
            keys = LogKeys(self._vault.open("log", row.secret))
            for epoch in self.store.epochs(row.n):
                keys.add_epoch(EpochKeys(epoch.number, self._vault.open("epoch", epoch.secret)))
        except InvalidInput:
            raise StoreError(
                "the keys of a log cannot be read: the database belongs to another key file, or is "
                "damaged. Put the key file beside it that it was made with, or restore a backup."
            ) from None
        if keys.topic != row.topic:
            raise StoreError("the record of a log is damaged. Restore a backup: 'mlog restore FILE'.")
        return LogState(row.n, row.kind, keys)

    def _refresh(self, state: LogState) -> bool:
        """Read the epochs of a log again: another process may have learned more."""
        before = len(state.keys.epochs)
        for row in self.store.epochs(state.n):
            state.keys.add_epoch(EpochKeys(row.number, self._vault.open("epoch", row.secret)))
        return len(state.keys.epochs) > before

    def _learn(self, state: LogState, author: DeviceId, body: bodies.Key) -> tuple[bool, str]:
        """Take the epoch that a key entry wraps for this device, if it does."""
        sealed = next((wrap.sealed for wrap in body.wraps if wrap.device == self.device_id), None)
        stated = bytes.fromhex(body.commitment)
        epochs = state.keys.epochs
        if sealed is None or any(crypto.commitment(epoch.secret) == stated for epoch in epochs):
            return False, ""
        if len(epochs) >= limits.EPOCHS_MAX:
            return False, f"more than {limits.EPOCHS_MAX:,} epochs"
        try:
            info = wrap_info(state.keys.topic, author, body.epoch, self.device_id)
            secret = crypto.unwrap(self.device_keys, sealed, info)
        except InvalidInput:
            return False, "the secret that it has for this device does not open"
        if crypto.commitment(secret) != stated:
            return False, "the secret that it has for this device is not the one that it states"
        self.store.add_epoch(EpochRow(state.n, body.epoch, self._vault.seal("epoch", secret)))
        state.keys.add_epoch(EpochKeys(body.epoch, secret))
        return True, ""

    def add_blind_log(self, topic: Topic) -> int:
        """Keep a log for others without being able to read it; gives its number, also of a known one."""
        with self.transaction():
            rows = self.store.logs()
            known = next((row.n for row in rows if row.topic == topic), None)
            if known is None:
                known = 1 + max((row.n for row in rows), default=0)
                self.store.add_log(LogRow(known, topic, LogKind.BLIND, b""))
        return known

    @contextmanager
    def transaction(self) -> Generator[None]:
        """As the store's; what was learned of logs inside is forgotten if it fails."""
        try:
            with self.store.transaction():
                yield
        except BaseException:
            # A log that was started inside is gone, and another process may give its number to another.
            self._logs.clear()
            raise

    def create_log(self, kind: LogKind, drafts: Sequence[Draft], now_ms: int) -> int:
        """Start a log: its key entry, then `drafts`; gives its number. All in one transaction."""
        secret = self._entropy.random(crypto.SECRET_SIZE)
        epoch_secret = self._entropy.random(crypto.SECRET_SIZE)
        keys = LogKeys(secret)
        first = Draft(Kind.KEY, self._key_body(keys, kind, epoch_secret), now_ms)
        with self.transaction():
            n = 1 + max((row.n for row in self.store.logs()), default=0)
            self.store.add_log(LogRow(n, keys.topic, kind, self._vault.seal("log", secret)))
            self.store.add_epoch(EpochRow(n, 1, self._vault.seal("epoch", epoch_secret)))
            state = self._logs[n] = LogState(n, kind, keys)
            self._write(state, self.incarnation, [first], now_ms)
            keys.add_epoch(EpochKeys(1, epoch_secret))
            if drafts:
                self._write(state, self.incarnation, drafts, now_ms)
        return n

    def _key_body(self, keys: LogKeys, kind: LogKind, secret: bytes) -> bodies.Key:
        info = wrap_info(keys.topic, self.device_id, 1, self.device_id)
        sealed = self._entropy.wrap(self.device_keys.hpke_public, secret, info)
        return bodies.Key(
            epoch=1,
            commitment=crypto.commitment(secret).hex(),
            wraps=(bodies.Wrap(device=self.device_id, sealed=sealed),),
            log=kind.value,
        )

    # -- writing -----------------------------------------------------------------------------

    def write(self, log: int, drafts: Sequence[Draft], now_ms: int) -> list[EntryRow]:
        """Append to this device's chain in a log; durable on return.

        Every entry is signed, and the first one names all heads, or PARENTS_MAX of them.
        """
        with self.store.transaction():
            return self._write(self.log(log), self.incarnation, drafts, now_ms)

    def begin_run(self, log: int) -> Run:
        """Start an import: a fresh incarnation, so that a window cuts its chain cleanly."""
        return Run(log, Incarnation(self._entropy.random(8)))

    def write_run(
        self,
        run: Run,
        drafts: Sequence[Draft],
        now_ms: int,
        *,
        after: EntryId | None = None,
        preface: Callable[[Sequence[Draft]], list[Draft]] = lambda _: [],
    ) -> Written:
        """Append a batch of an import, at most STORE_ROWS_MAX; durable on return.

        What this device has imported or written already is left out. Only the first entry of the
        run and the last of each batch and week are signed: they vouch for the others.

        Args:
            after: The known entry with which the batch before ended (`Written.after`).
            preface: Given the drafts that are new, what to write before them.
        """
        state = self.log(run.log)
        with self.store.transaction():
            mids = {draft.mid for draft in drafts if draft.mid is not None}
            said = self.store.by_mid(run.log, mids)
            authors = self.authors(run.log, {row.chain for rows in said.values() for row in rows})
            known = {
                mid: rows[0]
                for mid, all_rows in said.items()
                if (rows := [r for r in all_rows if authors.get(r.chain) == self.device_id])
            }
            # Each new entry also names the known message that it follows in the file.
            new: list[Draft] = []
            written_mids: set[MessageId] = set()
            for draft in drafts:
                if draft.mid is not None:
                    if draft.mid in known:
                        after = known[draft.mid].id
                        continue
                    if draft.mid in written_mids:
                        continue
                    written_mids.add(draft.mid)
                if after is None:
                    new.append(draft)
                else:
                    new.append(msgspec.structs.replace(draft, after=(*draft.after, after)))
                    after = None
            new = [*preface(new), *new] if new else []
            rows = self._write(state, run.incarnation, new, now_ms, said.keys(), sparse=True) if new else []
        return Written(rows, known, after)

    def _write(
        self,
        state: LogState,
        incarnation: Incarnation,
        drafts: Sequence[Draft],
        now_ms: int,
        said: Collection[MessageId] = (),
        *,
        sparse: bool = False,
    ) -> list[EntryRow]:
        """Append entries to a chain.

        Args:
            said: Messages among these that other entries say already.
            sparse: Sign only the last entry and the last of each week.
        """
        chains = self.store.chains(state.n)
        own = [c for c in chains if (c.device, c.incarnation) == (self.device_id, incarnation)]
        if len(own) > 1 and incarnation == self.incarnation:
            # This chain was forked, as by a machine that was rolled back: it is written no further.
            incarnation = self.incarnation = Incarnation(self._entropy.random(8))
            own = []
        chain = own[0] if own else None
        if chain is None:
            chain = ChainRow(self.store.next_chain(), state.n, self.device_id, incarnation, -1, NO_ENTRY, 0)
        # Twice as many as fit, since some are named anyway.
        heads = self.store.heads(state.n, 2 * limits.PARENTS_MAX)
        first_parents = heads if not sparse or chain.seq < 0 else []
        native_week = max(week_of(now_ms), _median_week(chains))
        n, seq, prev, week = self.store.next_n(), chain.seq + 1, chain.id, chain.week
        named = {id_ for draft in drafts for id_ in draft.after} | set(first_parents) | {prev}
        ranks = Ranks(self.store.places(state.n, named - {NO_ENTRY}).values())
        epoch = state.keys.current
        opened: list[Opened] = []
        for index, draft in enumerate(drafts):
            encoded = bodies.encode(draft.body)
            parents = set(draft.after)
            if index == 0:
                parents.update(first_parents[: limits.PARENTS_MAX - len(parents)])
            parents.discard(prev)
            header = Header(
                draft.kind,
                self.device_id,
                incarnation,
                seq,
                prev,
                draft.time_ms,
                len(encoded),
                tuple(sorted(parents)) if parents else (),
                draft.mid,
            )
            week = week_of(draft.time_ms) if is_retold(header) else native_week
            sealed = entry.seal_entry(state.keys, epoch, week, header, encoded)
            row = EntryRow(
                n=n,
                log=state.n,
                id=sealed.id,
                week=week,
                outer=sealed.outer,
                signature=None,
                body=encoded,
                state=BodyState.OPENED,
                kind=draft.kind,
                chain=chain.n,
                seq=seq,
                time_ms=draft.time_ms,
                rank=ranks.add(sealed.id, header),
                mid=draft.mid,
            )
            if opened and sparse and opened[-1].row.week != week:
                self._sign(epoch, opened[-1].row)
            if not sparse or seq == 0 or index + 1 == len(drafts):
                self._sign(epoch, row)
            opened.append(Opened(row, header, draft.body, text_of(draft.body)))
            n, seq, prev = n + 1, seq + 1, sealed.id
        self.store.insert(
            [o.row for o in opened],
            [(o.row.n, parent) for o in opened for parent in o.header.parents],
            references_in(state.n, opened),
            words_in(opened),
        )
        extend_runs(self.store, chain.n, range(opened[0].row.seq, seq))
        self.store.put_chain(ChainRow(chain.n, state.n, self.device_id, incarnation, seq - 1, prev, week))
        self.store.change_heads(
            state.n, [prev], {chain.id, *(p for o in opened for p in o.header.parents)} - {NO_ENTRY}
        )
        self._fold.fold(state, opened, first={o.row.message for o in opened}.difference(said))
        return [o.row for o in opened]

    def _sign(self, epoch: EpochKeys, row: EntryRow) -> None:
        sealed = Sealed(row.id, row.outer, None)
        row.signature = entry.sign_entry(self.device_keys, epoch, sealed).signature

    # -- taking what others made -------------------------------------------------------------

    def receive(self, log: int, entries: Sequence[Sealed], now_ms: int) -> Taken:
        """Take entries that others made or kept, in any order; durable on return.

        Bad ones are left out one by one, and the others are kept. Ids are worked out from the bytes.
        Where a batch changes the place of much that is here, a part is left for later: `settle`.

        Args:
            entries: At most STORE_ROWS_MAX.

        Raises:
            LimitExceeded: More than that.
            InvalidInput: There is no such log.
        """
        blind = self._blind(log)
        try:
            if blind is not None:
                return self._intake.receive_blind(log, blind.topic, entries, now_ms)
            return self._intake.receive(self.log(log), entries, now_ms)
        except BaseException:
            # Epochs that were learned in a transaction that is undone are not known.
            self._logs.clear()
            raise

    def settle(self, log: int, now_ms: int) -> bool:
        """Do a part of the work that was left for later, about 50 ms; whether there is more.

        Until there is none, entries that came before those that they name may stand before them.
        """
        if self._blind(log) is not None:
            return False
        try:
            return self._intake.settle(self.log(log), now_ms)
        except BaseException:
            self._logs.clear()
            raise

    def sealed_of(self, log: int, rows: Sequence[EntryRow], *, bodies: bool, now_ms: int = 0) -> list[Sealed]:
        """The exact bytes of entries, to hand on: checked against their hashes first.

        A damaged entry is left out, a damaged body or signature left off; each becomes a gap here.
        """
        keys = None if self._blind(log) is not None else self.log(log).keys
        found: list[Sealed] = []
        gaps: list[GapRow] = []
        for row in rows:
            sealed, damaged = sealed_again(keys, row, bodies=bodies)
            if sealed is not None:
                found.append(sealed)
            for part in damaged:
                detail = f"the {part} does not match its hash, as was seen when it was to be handed on"
                place = row.chain, row.seq, row.time_ms
                gaps.append(GapRow(log, row.id, part, Reason.CORRUPT, *place, now_ms, detail))
        if gaps:
            with self.store.transaction():
                known = {(gap.id, gap.part) for gap in self.store.find_gaps(log, [gap.id for gap in gaps])}
                self.store.change_gaps(log, [gap for gap in gaps if (gap.id, gap.part) not in known], ())
        return found

    def lacking(self, log: int, limit: int) -> list[EntryId]:
        """What should be asked of others by its id: absent parents, and what is lost or damaged here."""
        row, keys = self._row_and_keys(log)
        return absence.lacking(self.store, row, keys, limit)

    def missing(self, log: int, limit: int) -> list[Missing]:
        """What is not here, or is here and not read, each with its reason; worked out now."""
        row, keys = self._row_and_keys(log)
        return absence.missing(self.store, row, keys, limit)

    def forked(self, log: int) -> frozenset[tuple[DeviceId, Incarnation]]:
        """The chains of which there are branches: numbers do not tell their entries apart."""
        return frozenset((fork.device, fork.incarnation) for fork in self.store.forks(log))

    def _row_and_keys(self, log: int) -> tuple[LogRow, LogKeys | None]:
        row = next((row for row in self.store.logs() if row.n == log), None)
        if row is None:
            raise InvalidInput(f"there is no log {log} here")
        return row, self.log(log).keys if row.secret else None

    def _blind(self, log: int) -> LogRow | None:
        if log in self._logs:
            return None
        return next((row for row in self.store.logs() if row.n == log and not row.secret), None)

    # -- search index ------------------------------------------------------------------------

    def words(self, *, checked: bool = False) -> Iterator[tuple[int, str | None]]:
        """What search should find of each stored text, by number, in bounded memory.

        Args:
            checked: Hash each entry; one that is damaged has None, since nobody knows its words.
        """
        after = 0
        while found := self.store.opened(SEARCHED, after, limits.STORE_ROWS_MAX):
            after = found[-1][0]
            damaged = self._damaged({n for n, _, _ in found}) if checked else frozenset[int]()
            for n, kind, encoded in found:
                text = text_of(readable_body(kind, encoded))
                if n in damaged:
                    yield n, None
                elif text:
                    yield n, searchable(text)

    def rebuild_search(self) -> None:
        """Make the search index anew from all texts that match their hashes."""
        with self.store.transaction():
            words = self.words(checked=True)
            self.store.replace_words((n, text) for n, text in words if text is not None)

    def _damaged(self, ns: Collection[int]) -> Set[int]:
        rows = self.store.rows(ns)
        chains = {row.chain for row in rows.values()}
        devices = {chain.n: chain.device for chain in self.store.chain_rows(chains)}
        return {n for n, row in rows.items() if not self._fold.is_whole(row, devices)}

    def authors(self, log: int, chains: Collection[int]) -> dict[int, DeviceId]:
        """Who writes these chains of a log; one device is one person until devices are paired."""
        return {chain.n: chain.device for chain in self.store.chain_rows(chains) if chain.log == log}


def _median_week(chains: Sequence[ChainRow]) -> int:
    # Not the one of `statistics`, which takes 7 ms to import.
    return sorted(chain.week for chain in chains)[(len(chains) - 1) // 2] if chains else 0
