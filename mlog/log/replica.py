"""Replica: the logs of one device over a store; writes entries, and hands on those of others.

Whether an entry is stored depends on its bytes alone (mlog/log/intake.py); what it means is worked
out from the stored set (mlog/log/fold.py), so that two replicas with the same entries show the same
view, in whatever order they came.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, UserError
from mlog.log import crypto
from mlog.log import missing as absence
from mlog.log.appending import Appender
from mlog.log.belonging import befriend, follow
from mlog.log.bodies import Kind
from mlog.log.counting import EpochName, counting_keys, learn_counting, names_stated, stated_in
from mlog.log.crypto import DeviceKeys, Entropy, EpochKeys, LogKeys, Vault
from mlog.log.cuts import Counts, differs_from
from mlog.log.entry import Sealed
from mlog.log.epochs import key_body, stated_epochs
from mlog.log.expiry import due, settings_of
from mlog.log.fold import (
    FIRST,
    RULINGS,
    Draft,
    Fold,
    LogState,
)
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId, Topic
from mlog.log.intake import Intake, Taken
from mlog.log.keyring import Keyring
from mlog.log.message_fold import CHANGING
from mlog.log.missing import Missing
from mlog.log.people import People
from mlog.log.person import Member
from mlog.log.roster import refresh_roster
from mlog.log.segments import Digester
from mlog.log.store import (
    BodyState,
    DeviceRow,
    EntryRow,
    GapRow,
    LogKind,
    LogRow,
    Place,
    Reason,
    Store,
    Task,
)
from mlog.log.stored import SEARCHED, is_text, readable_body, sealed_again, text_of
from mlog.log.words import searchable

__all__ = ["Draft", "LogState", "Missing", "Replica", "Run", "Taken", "Written"]


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
        self.device_keys = device
        self.entropy = entropy
        self.keyring = Keyring(store, vault, device)
        self.people = People(store, device.id)
        self._tried: dict[int, set[int]] = {}
        """By log, the key entries that were looked at since more than EPOCHS_MAX epochs are known."""
        self._fold = Fold(
            store,
            lambda log: self.log(log).keys,
            self.authors,
            self._device_rows,
            self.people.cuts,
            self.people.erasers,
            self.people.setters,
        )
        self.appender = Appender(store, self._fold, self.people, device, entropy, incarnation)
        self._intake = Intake(store, self._fold, self.keyring.learn, self.keyring.refresh)
        self.digester = Digester(store)

    @property
    def incarnation(self) -> Incarnation:
        """Of the chains that are written by hand; another one where a chain turns out to be forked."""
        return self.appender.incarnation

    # -- logs --------------------------------------------------------------------------------

    def logs(self, kind: LogKind | None = None) -> list[LogState]:
        """All logs of a kind that this replica can read, oldest first."""
        return [state for state in self.keyring.logs() if kind is None or state.kind == kind]

    def log(self, n: int) -> LogState:
        """One log by its number.

        Raises:
            InvalidInput: There is none; an entry that names it is damaged.
        """
        return self.keyring.log(n)

    def add_blind_log(self, topic: Topic) -> int:
        """Keep a log for others without being able to read it; gives its number, also of a known one."""
        with self.transaction():
            rows = self.store.logs()
            known = next((row.n for row in rows if row.topic == topic), None)
            if known is None:
                known = 1 + max((row.n for row in rows), default=0)
                self.store.add_log(LogRow(known, topic, LogKind.BLIND, b""))
        return known

    def trusted(self) -> Set[DeviceId]:
        """The devices that may take this one along to the person that they belong to."""
        return {peer.device for peer in self.store.peers() if peer.own}

    def as_device(self, keys: DeviceKeys) -> Replica:
        """The same logs, to be written to in the name of another device, on a chain of its own."""
        incarnation = Incarnation(self.entropy.random(8))
        return Replica(self.store, keys, self.keyring.vault, self.entropy, incarnation)

    @contextmanager
    def transaction(self) -> Generator[None]:
        """As the store's; what was learned of logs inside is forgotten if it fails."""
        try:
            with self.store.transaction():
                yield
        except BaseException:
            self.keyring.forget()
            self._tried.clear()
            self.people.forget()
            self._fold.forget()
            raise

    def create_log(self, kind: LogKind, drafts: Sequence[Draft], now_ms: int) -> int:
        """Start a log: its key entry, then `drafts`; gives its number. All in one transaction."""
        seed = self.entropy.random(crypto.SECRET_SIZE)
        keys = LogKeys(crypto.founding_secret(self.device_id, seed, kind))
        with self.transaction():
            state = self.keyring.add(kind, keys, 1 + max((row.n for row in self.store.logs()), default=0))
            # A person log is for the device that founds it, until it admits others.
            readers = None if kind == LogKind.PERSON else self.people.readers(state.n)
            self._begin_epoch(state, readers, now_ms, kind.value, seed)
            if drafts:
                self.appender.append(state, self.incarnation, drafts, now_ms, keys.current)
            self.people.forget()
        return state.n

    def add_logs(self, logs: Sequence[tuple[LogKind, LogKeys]]) -> list[int]:
        """Keep logs that others started, with the epochs that are known of them; gives their numbers.

        A home keeps OFFERED_LOGS_MAX logs; what is beyond is left out.
        """
        with self.transaction():
            rows = self.store.logs()
            n = max((row.n for row in rows), default=0)
            room = limits.OFFERED_LOGS_MAX - len(rows)
            return [self.keyring.add(kind, keys, n + at).n for at, (kind, keys) in enumerate(logs[:room], 1)]

    # -- epochs ------------------------------------------------------------------------------

    def begin_epoch(self, log: int, now_ms: int, *, fresh: bool = False) -> None:
        """Make sure that a log has an epoch which all its readers know, and only they.

        Args:
            fresh: Begin one in any case: the one before may have been granted to who reads no longer.
        """
        with self.transaction():
            state = self.log(log)
            if not self.people.may_write(log) or not self._may_begin(state):
                return
            readers = self.people.readers(log) if fresh else None
            if readers is None:
                self._epoch(state, now_ms)
            else:
                self._begin_epoch(state, readers, now_ms)

    def _epoch(self, state: LogState, now_ms: int) -> EpochKeys:
        """The epoch to write under; where its readers have changed, a new one begins."""
        readers = self.people.readers(state.n)
        if readers is None:
            return state.keys.current
        found = self.people.epoch(state, readers)
        if found is None and self.keyring.refresh(state):
            found = self.people.epoch(state, readers)
        return found or self._begin_epoch(state, readers, now_ms)

    def _begin_epoch(
        self,
        state: LogState,
        readers: Sequence[Member] | None,
        now_ms: int,
        first: str = "",
        seed: bytes = b"",
    ) -> EpochKeys:
        """Write a key entry, under the epoch before it.

        Args:
            readers: None for this device alone.
            first, seed: Kind of log, and what its secret was made of, if this begins it.
        """
        if not self._may_begin(state):
            raise UserError(
                f"this device has begun {limits.EPOCHS_MAX:,} epochs here, since who reads on changed so "
                "often; more of them count for nothing. Write on another device, or begin another "
                "conversation ('mlog new')."
            )
        stated = stated_epochs(self.store, state.n)
        number = 1 + max(e.number for e in (*state.keys.epochs, *stated))
        epoch = EpochKeys(min(number, limits.SEQ_MAX), self.entropy.random(crypto.SECRET_SIZE))
        own = (self.device_id, self.device_keys.hpke_public)
        keys = [own] if readers is None else [(member.device, member.hpke) for member in readers]
        topic = state.keys.topic
        number, secret = epoch.number, epoch.secret
        # Who has this entry, and not what made it, must not give those the epoch that it leaves out.
        known = self.people.revocations_for(state.n, stated).values()
        without = sorted(set[EntryId]().union(*known))[: limits.KEY_RECIPIENTS_MAX]
        body = key_body(self.entropy, topic, self.device_id, keys, number, secret, first, seed, without)
        draft, present = Draft(Kind.KEY, body, now_ms), self.people.present_epoch(state)
        self.appender.append(state, self.incarnation, [draft], now_ms, present)
        self.keyring.add_epoch(state, epoch)
        self.people.forget_keys(state.n)
        return epoch

    def _may_begin(self, state: LogState) -> bool:
        """Whether an epoch that this device begins counts."""
        keys = counting_keys(self.store, state.n, self.people.cuts(state.n))
        return sum(device == self.device_id for _, device in keys) < limits.EPOCHS_MAX

    def learn_epochs(self, log: int, epochs: Sequence[EpochKeys], *, counts: bool = False) -> bool:
        """Take epochs that were granted; whether any was new that opens something. What waits for them is
        read later.

        What no key entry here states is only kept until one does: whoever began it may have given it to
        some members and not to others, and then what is written under it counts for nobody.

        Args:
            counts: Key entries state them that count; else that is looked up, where there is no room.
        """
        with self.transaction():
            state = self.log(log)
            self.keyring.refresh(state)
            keys, new = state.keys, list[EpochKeys]()
            lacking = [e for e in epochs if keys.lacks(e)]
            stated = stated_in(self.store, log) if lacking and not counts else None
            counting = frozenset[EpochName]()
            if not counts and len(keys.epochs) + len(keys.granted) + len(lacking) > limits.EPOCHS_MAX:
                rows = counting_keys(self.store, log, self.people.cuts(log))
                counting = frozenset(name for name, _ in names_stated(self.store, [r.n for r, _ in rows]))
            for epoch in lacking:
                known = counts or keys.outline_of(epoch) is not None
                known = known or (epoch.number, crypto.commitment(epoch.secret)) in counting
                if not known and len(keys.epochs) + len(keys.granted) >= limits.EPOCHS_MAX:
                    continue
                if epoch.secret and stated is not None and crypto.commitment(epoch.secret) not in stated:
                    self.keyring.add_granted(state, epoch)
                elif keys.lacks(epoch):
                    self.keyring.add_epoch(state, epoch)
                    new.append(epoch)
            if new:
                self.store.change_unsettled(log, Task.OPEN, [(0, 0)], ())
                self.people.forget_epoch(log)
        return bool(new)

    # -- writing -----------------------------------------------------------------------------

    def write(self, log: int, drafts: Sequence[Draft], now_ms: int) -> list[EntryRow]:
        """Append to this device's chain in a log; durable on return.

        Every entry is signed, and the first one names all heads, or PARENTS_MAX of them.
        """
        with self.transaction():
            state = self.log(log)
            rows = self.appender.append(state, self.incarnation, drafts, now_ms, self._epoch(state, now_ms))
            if state.kind == LogKind.PERSON:
                self.people.forget()
        return rows

    def write_under_present_epoch(self, log: int, drafts: Sequence[Draft], now_ms: int) -> None:
        """As `write`, where those who could read so far shall be able to read this."""
        with self.transaction():
            state = self.log(log)
            epoch = self.people.present_epoch(state)
            self.appender.append(state, self.incarnation, drafts, now_ms, epoch)
            self.people.forget_log(log)

    def rule(self, log: int, drafts: Sequence[Draft], now_ms: int) -> list[EntryRow]:
        """As `write_under_present_epoch`, of what changes whose entries count."""
        with self._following(log, now_ms) as state:
            epoch = self.people.present_epoch(state)
            return self.appender.append(state, self.incarnation, drafts, now_ms, epoch)

    def begin_run(self, log: int) -> Run:
        """Start an import: a fresh incarnation, so that a window cuts its chain cleanly."""
        return Run(log, Incarnation(self.entropy.random(8)))

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

        What this person has imported or written already is left out. Only the first entry of the
        run and the last of each batch and week are signed: they vouch for the others.

        Args:
            after: The known entry with which the batch before ended (`Written.after`).
            preface: Given the drafts that are new, what to write before them.
        """
        with self.transaction():
            state = self.log(run.log)
            epoch = self._epoch(state, now_ms)
            me = self.people.stand_in(self.device_id)
            mids = {draft.mid for draft in drafts if draft.mid is not None}
            said = self.store.by_mid(run.log, mids)
            authors = self.authors(run.log, {row.chain for rows in said.values() for row in rows})
            known = {
                mid: rows[0]
                for mid, all_rows in said.items()
                if (rows := [r for r in all_rows if authors.get(r.chain) == me])
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
            rows = (
                self.appender.append(state, run.incarnation, new, now_ms, epoch, said.keys(), sparse=True)
                if new
                else []
            )
        return Written(rows, known, after)

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
        blind = self.keyring.blind(log)
        if blind is not None:
            return self._intake.receive_blind(log, blind.topic, entries, now_ms)
        with self._following(log, now_ms) as state:
            return self._intake.receive(state, entries, now_ms)

    def settle(self, log: int, now_ms: int) -> bool:
        """Do a part of the work that was left for later, about 50 ms; whether there is more.

        Until there is none, entries that came before those that they name may stand before them, and
        what was erased may still be here.
        """
        # Mostly nothing is left, and to know that takes no lock and no commit.
        left = any(self.store.unsettled(log, task, 1) for task in Task)
        if not left or self.keyring.blind(log) is not None:
            return False
        with self._following(log, now_ms) as state:
            return self._intake.settle(state, now_ms)

    @contextmanager
    def _following(self, log: int, now_ms: int) -> Generator[LogState]:
        """A transaction that changes a log; what that says of people and epochs takes effect with it."""
        people = self.people
        with self.transaction():
            state = self.log(log)
            before = people.standing() if state.kind == LogKind.PERSON else None
            cuts = people.cuts(log)
            ends, judged, new_from = cuts.limited(), cuts.judged, self.store.next_chain()
            judged.clear()
            roles = people.roles(log)
            self._fold.met.clear()
            is_cut = bool(self.store.unsettled(log, Task.CUT, 1))
            yield state
            met = frozenset(self._fold.met)
            people.forget_epoch(log)
            if met & RULINGS:
                people.forget_log(log)
            elif Kind.KEY in met:
                people.forget_keys(log)
            elif FIRST in met:
                people.forget_shared()
            if before is not None:
                follow(self, before, now_ms)
            elif state.kind == LogKind.PRIVATE and met & (RULINGS | {Kind.KEY, Kind.CONTACT}):
                people.forget()
                befriend(self, now_ms)
            elif people.roles(log) != roles:
                befriend(self, now_ms)
                # Who was an admin, and so whose erasures count for everybody, may be others now.
                self.refold(log, frozenset({Kind.ERASURE}))
            if state.kind == LogKind.CONVERSATION and met & (RULINGS | {Kind.KEY, FIRST}):
                refresh_roster(self, log)
            after = people.ends(log)
            for n in ends.keys() | judged.keys():
                if n < new_from:
                    judged.setdefault(n, set()).add(ends.get(n))
            self.recount(log, judged, after)
            if len(state.keys.epochs) >= limits.EPOCHS_MAX and (is_cut or met & (RULINGS | {Kind.KEY})):
                learn_counting(self, state, self._tried.setdefault(log, set()))

    def recount(
        self, log: int, before: Mapping[int, Set[Counts | None]], after: Mapping[int, Counts]
    ) -> None:
        """Leave for later to fold anew what counts now, or counts no more.

        Args:
            before: The numbers that counted of chain rows, each way by which entries were folded; of
                others all did.
            after: Those that count now; of others all do.
        """
        tasks: list[tuple[int, int]] = []
        for n in before.keys() | after.keys():
            firsts = [differs_from(counts, after.get(n)) for counts in before.get(n, {None})]
            tasks += [(n, limits.SEQ_MAX - first) for first in firsts if first is not None]
        if tasks:
            self.store.change_unsettled(log, Task.CUT, tasks, ())

    def erasers_of(self, log: int, groups: Set[MessageId]) -> Mapping[MessageId, Set[DeviceId | None]]:
        """Who erased these groups of chunks; as `Fold.erasers_of`."""
        return self._fold.erasers_of(log, groups)

    def expire(self, log: int, now_ms: int) -> int:
        """Forget what was to disappear by now; how many bodies that were. Durable on return."""
        count = 0
        with self.transaction():
            state = self.log(log)
            settings = settings_of(self.store, log, self.people.setters)
            for rows in due(self.store, log, settings, now_ms):
                count += self._fold.expire(state, rows)
        return count

    def refold(self, log: int, kinds: frozenset[int] = CHANGING) -> None:
        """Work out again what entries of these kinds change, since who their authors are, or what these
        may, has changed."""
        self._fold.refold(self.log(log), kinds)
        self._fold.doubt_expired(log)

    def remove(self, rows: Sequence[EntryRow]) -> None:
        """Drop entries with all that the store made from them; the caller mends what named them."""
        words: list[tuple[int, str]] = []
        damaged = self._damaged([row.n for row in rows if row.kind in SEARCHED])
        for row in rows:
            body = readable_body(row.kind, row.body) if row.state == BodyState.OPENED else None
            said = text_of(body) if row.kind in SEARCHED else None
            if said and row.n in damaged:
                # The index takes away what it is told: other words than it holds would harm it.
                self.store.distrust_words()
            elif said:
                words.append((row.n, searchable(said)))
        self.store.remove(rows, words)

    def refold_messages(self, log: int, mids: Set[MessageId], moved: Sequence[Place] = ()) -> None:
        """Work out messages again, and what follows from entries whose place changed."""
        self._fold.refold_messages(self.log(log), mids, moved)

    def sealed_of(self, log: int, rows: Sequence[EntryRow], *, bodies: bool, now_ms: int = 0) -> list[Sealed]:
        """The exact bytes of entries, to hand on: checked against their hashes first.

        A damaged entry is left out, a damaged body or signature left off; each becomes a gap here.

        Args:
            bodies: With the texts of messages; other bodies, which keep the log itself going, always
                go along.
        """
        state = None if self.keyring.blind(log) is not None else self.log(log)
        keys = state.keys if state is not None else None
        found: list[Sealed] = []
        gaps: list[GapRow] = []
        for row in rows:
            sealed, damaged = sealed_again(keys, row, bodies=bodies or not is_text(row))
            if damaged and state is not None and self.keyring.refresh(state):
                # Another process began the epoch that it is sealed under.
                sealed, damaged = sealed_again(keys, row, bodies=bodies or not is_text(row))
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

    def missing(self, log: int, limit: int, first_week: int = 0) -> list[Missing]:
        """What is not here, or is here and not read, each with its reason; worked out now.

        Args:
            first_week: Where the window begins that is kept of it.
        """
        row, keys = self._row_and_keys(log)
        return absence.missing(self.store, row, keys, limit, self.people, first_week)

    def forked(self, log: int) -> frozenset[tuple[DeviceId, Incarnation]]:
        """The chains of which there are branches: numbers do not tell their entries apart."""
        return frozenset((fork.device, fork.incarnation) for fork in self.store.forks(log))

    def _row_and_keys(self, log: int) -> tuple[LogRow, LogKeys | None]:
        row = next((row for row in self.store.logs() if row.n == log), None)
        if row is None:
            raise InvalidInput(f"there is no log {log} here")
        return row, self.log(log).keys if row.secret else None

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
        """For each of these chains of a log the device that stands for the person who writes it."""
        return {
            chain.n: self.people.stand_in(chain.device)
            for chain in self.store.chain_rows(chains)
            if chain.log == log
        }

    def _device_rows(self) -> list[DeviceRow]:
        self.people.forget()
        return self.people.device_rows()
