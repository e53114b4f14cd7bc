"""Replica: writes, admits and folds entries; the one place that decides what a store keeps.

Whether an entry is stored depends on its bytes alone; what it means is worked out from the stored
set, so that two replicas with the same entries show the same view, in whatever order they came.
Three things are kept up to date with every entry for that, each a pure function of the set:

rank    `max(time, 1 + the greatest rank of its order parents)`. Sorting by (rank, id) so never
        puts an entry before one that it names, however wrong the clocks. Order parents are all
        that an entry names; of an imported entry only the imported ones, since its time is
        that of the original chat and not of the import.
hidden  several entries can be one message (two people import the same chat). The one written
        in mlog stands for them, else the one with the lowest id.
edit    the greatest (rank, id) among the edits that the message's own author made.

An erasure by the message's own author empties the bodies of the message and of its edits.
docs/protocol.md, 6.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Final, NamedTuple

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, StoreError
from mlog.log import bodies, crypto, entry
from mlog.log.bodies import SPOKEN, Body, Kind
from mlog.log.crypto import DeviceKeys, Entropy, EpochKeys, LogKeys, Vault
from mlog.log.entry import NO_ENTRY, Header, Sealed
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId, Topic, week_of
from mlog.log.store import (
    BodyState,
    ChainRow,
    DeviceRow,
    EntryRow,
    EpochRow,
    LogKind,
    LogRow,
    Position,
    Reference,
    Store,
    TimelineQuery,
)
from mlog.log.stored import SEARCHED, check_body, check_header, readable_body, text_of
from mlog.log.words import searchable

__all__ = [
    "Draft",
    "Folded",
    "LogState",
    "Ranks",
    "Replica",
    "Run",
    "Written",
    "changes_of",
    "chat_target",
    "fold_message",
    "latest_devices",
    "latest_title",
    "references_of",
    "wrap_info",
]


_CHANGING: Final = frozenset({Kind.EDIT, Kind.ERASURE, Kind.MANIFEST})
_ERASED_WITH: Final = frozenset({Kind.EDIT, Kind.MANIFEST})
"""What is erased together with the message that it names."""
_LATEST_COUNTS: Final = frozenset({Kind.TITLE, Kind.EDIT, Kind.DEVICE})
"""Kinds of which the latest in the order of the view holds."""


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


class LogState(msgspec.Struct, gc=False):
    """A log whose secrets we have."""

    n: int
    kind: LogKind
    keys: LogKeys


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


class _Opened(msgspec.Struct, gc=False):
    """An entry on its way into the store."""

    row: EntryRow
    header: Header
    body: Body | None
    text: str | None


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

    # -- logs --------------------------------------------------------------------------------

    def logs(self, kind: LogKind | None = None) -> list[LogState]:
        """All logs of a kind, oldest first."""
        rows = self.store.logs()
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
            authors = self.authors(run.log)
            said = self.store.by_mid(run.log, mids)
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
        chain = next((c for c in chains if c.device == self.device_id and c.incarnation == incarnation), None)
        if chain is None:
            chain = ChainRow(self.store.next_chain(), state.n, self.device_id, incarnation, -1, NO_ENTRY, 0)
        heads = self.store.heads(state.n)
        first_parents = heads if not sparse or chain.seq < 0 else []
        native_week = max(week_of(now_ms), _median_week(chains))
        n, seq, prev, week = self.store.next_n(), chain.seq + 1, chain.id, chain.week
        named = {id_ for draft in drafts for id_ in draft.after} | set(first_parents) | {prev}
        ranks = Ranks(self.store.find(state.n, named - {NO_ENTRY}).values())
        epoch = state.keys.current
        opened: list[_Opened] = []
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
            week = week_of(draft.time_ms) if _is_retold(header) else native_week
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
            opened.append(_Opened(row, header, draft.body, text_of(draft.body)))
            n, seq, prev = n + 1, seq + 1, sealed.id
        self._insert(state, opened)
        self.store.put_chain(ChainRow(chain.n, state.n, self.device_id, incarnation, seq - 1, prev, week))
        self.store.change_heads(
            state.n, [prev], {chain.id, *(p for o in opened for p in o.header.parents)} - {NO_ENTRY}
        )
        self._fold(state, opened, first={o.row.message for o in opened}.difference(said))
        return [o.row for o in opened]

    def _sign(self, epoch: EpochKeys, row: EntryRow) -> None:
        sealed = Sealed(row.id, row.outer, None)
        row.signature = entry.sign_entry(self.device_keys, epoch, sealed).signature

    # -- admitting ---------------------------------------------------------------------------

    def admit(self, log: int, sealed: Sealed) -> bool:
        """Take an entry that somebody else made or kept; False if it was here already.

        Raises:
            InvalidInput: Not an entry of this log, or its body or id does not match.
        """
        state = self.log(log)
        if entry.entry_id(sealed.outer) != sealed.id:
            raise InvalidInput("entry does not match its id")
        header, epoch = entry.open_header(state.keys, sealed.outer)
        encoded = entry.open_body(epoch, sealed.outer, sealed.body) if sealed.body is not None else None
        if sealed.signature is not None:
            entry.verify_entry_signature(epoch, header.device, sealed.id, sealed.outer, sealed.signature)
        with self.store.transaction():
            if self.store.find(log, [sealed.id]):
                return False
            self._admit(state, sealed, header, encoded)
        return True

    def _admit(self, state: LogState, sealed: Sealed, header: Header, encoded: bytes | None) -> None:
        store = self.store
        chain = next(
            (
                c
                for c in store.chains(state.n)
                if c.device == header.device and c.incarnation == header.incarnation
            ),
            None,
        )
        n_chain = store.next_chain() if chain is None else chain.n
        outer = entry.parse_outer(sealed.outer)
        row = EntryRow(
            n=store.next_n(),
            log=state.n,
            id=sealed.id,
            week=outer.week,
            outer=sealed.outer,
            signature=sealed.signature,
            body=encoded,
            state=BodyState.OPENED if encoded is not None else BodyState.NOT_FETCHED,
        )
        if chain is not None and store.at(chain.n, header.seq) is not None:
            # A second entry at one place of a chain: kept and counted, not read (a fork).
            store.insert([row], [], [], [])
            return
        row.kind, row.chain, row.seq = header.kind, n_chain, header.seq
        row.time_ms, row.mid = header.time_ms, header.mid
        known = store.find(state.n, _parents_of(header))
        row.rank = Ranks(known.values()).add(row.id, header)
        body = readable_body(header.kind, encoded)
        opened = _Opened(row, header, body, text_of(body))
        self._insert(state, [opened])
        if chain is None or header.seq > chain.seq:
            store.put_chain(
                ChainRow(
                    n_chain,
                    state.n,
                    header.device,
                    header.incarnation,
                    header.seq,
                    row.id,
                    outer.week,
                )
            )
        children = self._children(state.n, row)
        store.change_heads(state.n, [] if children else [row.id], _parents_of(header))
        self._fold(state, [opened], self._raise_ranks(state, row, children))

    def _children(self, log: int, row: EntryRow) -> list[EntryRow]:
        successor = self.store.at(row.chain, row.seq + 1)
        children = self.store.children(log, row.id)
        return children if successor is None else [successor, *children]

    def _raise_ranks(self, state: LogState, row: EntryRow, children: list[EntryRow]) -> list[EntryRow]:
        """An entry came after some that name it: put those, and what follows from them, behind it.

        Gives those whose place changed and matters to the fold. What was here was in order, so
        going by the old ranks looks at each entry once, after all that it names.
        """
        parent, raised = row, list[EntryRow]()
        waiting: list[tuple[int, int, EntryRow]] = []
        least: dict[int, int] = {}
        while True:
            for child in children:
                if parent.rank < child.rank or (_row_is_retold(child) and not _row_is_retold(parent)):
                    continue
                if child.n not in least:
                    heappush(waiting, (child.rank, child.n, child))
                least[child.n] = max(least.get(child.n, 0), parent.rank + 1)
            if not waiting:
                return raised
            _, _, parent = heappop(waiting)
            parent.rank = least[parent.n]
            self.store.set_rank(parent.n, parent.rank)
            if parent.kind in _LATEST_COUNTS:
                raised.append(parent)
            children = self._children(state.n, parent)

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
        authors = {log: self.authors(log) for log in {row.log for row in rows.values()}}
        return {n for n, row in rows.items() if not self._is_whole(row, authors[row.log])}

    def _is_whole(self, row: EntryRow, authors: Mapping[int, DeviceId]) -> bool:
        """Whether an entry's header and body are what their hashes say."""
        try:
            keys = self.log(row.log).keys
            check_header(keys, row, authors.get(row.chain, DeviceId(b"")))
            check_body(keys, row)
        except InvalidInput:
            return False
        return True

    # -- folding -----------------------------------------------------------------------------

    def _insert(self, state: LogState, opened: Sequence[_Opened]) -> None:
        self.store.insert(
            [o.row for o in opened],
            [(o.row.n, parent) for o in opened for parent in o.header.parents],
            [
                Reference(o.row.n, state.n, target)
                for o in opened
                if o.body is not None
                for target in references_of(o.body)
            ],
            [(o.row.n, searchable(o.text)) for o in opened if o.text],
        )

    def _fold(
        self,
        state: LogState,
        opened: Sequence[_Opened],
        raised: Sequence[EntryRow] = (),
        first: Set[MessageId] = frozenset(),
    ) -> None:
        """Work out what changes in the view by new entries, and by others whose place changed.

        Args:
            raised: Those others.
            first: Messages that only the new entries say, each once.
        """
        mids = {o.row.message for o in opened if o.row.kind in SPOKEN}
        for o in opened:
            if o.body is not None and o.row.kind in _CHANGING:
                mids.update(references_of(o.body))
        for targets in self.store.references([row.n for row in raised if row.kind == Kind.EDIT]).values():
            mids.update(targets)
        self._fold_messages(state, mids, first)
        ordered = [*(o.row for o in opened if o.row.kind in _LATEST_COUNTS), *raised]
        if any(row.kind == Kind.TITLE for row in ordered):
            self.store.set_title(state.n, latest_title(self.store, state.n))
        if state.kind == LogKind.PERSON and any(row.kind == Kind.DEVICE for row in ordered):
            for device in latest_devices(self.store, state.n):
                self.store.put_device(device)

    def _fold_messages(self, state: LogState, mids: Set[MessageId], first: Set[MessageId]) -> None:
        changes = changes_of(self.store, state.n, mids)
        # What one entry says and none changes reads as it is: most of an import.
        mids = (mids - first) | changes.keys()
        said = self.store.by_mid(state.n, mids)
        authors = self.authors(state.n)
        for mid in mids:
            rows, changing = said.get(mid, []), changes.get(mid, [])
            if len(rows) <= 1 and not changing:
                continue
            folded = fold_message(rows, changing, authors)
            for row in (*rows, *changing):
                if row.n in folded.erased and row.state != BodyState.ERASED:
                    self._erase_body(row, authors)
            for row in rows:
                if row.hidden != (row.n in folded.hidden):
                    self.store.set_hidden(row.n, not row.hidden)
                edit = folded.edits.get(row.n, 0)
                if row.edit != edit:
                    self.store.set_edit(row.n, edit)

    def _erase_body(self, row: EntryRow, authors: Mapping[int, DeviceId]) -> None:
        text = text_of(readable_body(row.kind, row.body))
        if not self._is_whole(row, authors):
            # The index takes away what it is told: other words than it holds would harm it.
            self.store.distrust_words()
            text = None
        self.store.erase_body(row.n, searchable(text) if text else None)

    def authors(self, log: int) -> dict[int, DeviceId]:
        """Who writes each chain; one device is one person until devices are paired."""
        return {chain.n: chain.device for chain in self.store.chains(log)}


class Folded(NamedTuple):
    """What becomes of the entries that say and change one message.

    Attributes:
        erased: `n` of those whose body their author erased.
        hidden: `n` of those that say it and for which another one stands.
        edits: By `n` of one that says it, `n` of the edit that it reads as now.
    """

    erased: set[int]
    hidden: set[int]
    edits: dict[int, int]


def fold_message(
    rows: Sequence[EntryRow], changes: Sequence[EntryRow], authors: Mapping[int, DeviceId]
) -> Folded:
    """Fold one message; what comes out depends on the entries, not on their order.

    Args:
        rows: Entries with its identity; those that are not spoken do not count.
        changes: Entries that name it.
        authors: Who writes each chain.
    """
    said = [row for row in rows if row.kind in SPOKEN]
    if len(said) <= 1 and not changes:
        return Folded(set(), set(), {})
    erasers = {authors.get(row.chain) for row in changes if row.kind == Kind.ERASURE}
    erased = {
        row.n
        for row in (*said, *(row for row in changes if row.kind in _ERASED_WITH))
        if authors.get(row.chain) in erasers and not _was_erased(row)
    }
    edits: dict[int, int] = {}
    for row in said:
        own = [
            change
            for change in changes
            if change.kind == Kind.EDIT
            and change.n not in erased
            and authors.get(change.chain) == authors.get(row.chain)
        ]
        if own:
            edits[row.n] = max(own, key=lambda change: change.position).n
    # Of those that say the same one stands for all; different claims stay apart.
    groups: dict[object, list[EntryRow]] = {}
    for row in said:
        groups.setdefault(None if row.n in erased else _said(row), []).append(row)
    # A text that is not here says nothing of what it was: it hides behind any other.
    silent = groups.pop(None, [])
    if silent and not groups:
        groups[None] = silent
    shown = {min(group, key=lambda row: (row.mid is not None, row.id)).n for group in groups.values()}
    return Folded(erased, {row.n for row in said} - shown, edits)


def changes_of(store: Store, log: int, mids: Collection[MessageId]) -> dict[MessageId, list[EntryRow]]:
    """The entries that change these messages."""
    references = store.references_to(log, mids, _CHANGING)
    rows = store.rows({reference.n for reference in references})
    changes: dict[MessageId, list[EntryRow]] = {}
    for reference in references:
        changes.setdefault(reference.target, []).append(rows[reference.n])
    return changes


class Ranks:
    """Ranks of the entries that a batch names, and of those that it makes."""

    def __init__(self, known: Iterable[EntryRow]):
        self._ranks = {row.id: (row.rank, _row_is_retold(row)) for row in known}

    def add(self, id_: EntryId, header: Header) -> int:
        retold = _is_retold(header)
        rank = header.time_ms
        for parent in _parents_of(header):
            known = self._ranks.get(parent)
            if known is not None and known[0] >= rank and (known[1] or not retold):
                rank = known[0] + 1
        self._ranks[id_] = (rank, retold)
        return rank


def _median_week(chains: Sequence[ChainRow]) -> int:
    # Not the one of `statistics`, which takes 7 ms to import.
    return sorted(chain.week for chain in chains)[(len(chains) - 1) // 2] if chains else 0


def _parents_of(header: Header) -> tuple[EntryId, ...]:
    return header.parents if header.prev == NO_ENTRY else (header.prev, *header.parents)


def _is_retold(header: Header) -> bool:
    """Whether its time and order are those of another chat."""
    return header.mid is not None or header.kind == Kind.IMPORT


def _row_is_retold(row: EntryRow) -> bool:
    return row.mid is not None or row.kind == Kind.IMPORT


def references_of(body: Body) -> tuple[MessageId, ...]:
    """The messages that a body names; of an IMPORT, the chat."""
    if isinstance(body, bodies.Text):
        return tuple(MessageId(bytes.fromhex(target)) for target in body.to)
    if isinstance(body, bodies.Import):
        return (chat_target(body.chat),)
    if isinstance(body, bodies.Edit | bodies.Reaction | bodies.Erasure | bodies.Manifest):
        return (MessageId(bytes.fromhex(body.of)),)
    return ()


def chat_target(key: str) -> MessageId:
    """What a chat's key is found by."""
    return MessageId(crypto.hash_with_context("chat key", key.encode())[:16])


def latest_title(store: Store, log: int) -> str:
    """What a conversation is called: the latest readable title, or ""."""
    query = TimelineQuery(log=log, limit=8, kinds=frozenset({Kind.TITLE}), newest_first=True)
    for row in store.timeline(query):
        body = readable_body(row.kind, row.body)
        if isinstance(body, bodies.Title):
            return body.title
    return ""


def latest_devices(store: Store, log: int) -> list[DeviceRow]:
    """What the devices of a person log say of themselves: each one's latest readable record."""
    latest: dict[DeviceId, tuple[Position, DeviceRow]] = {}
    for chain in store.chains(log):
        for row in store.chain_kind(chain.n, Kind.DEVICE):
            body = readable_body(row.kind, row.body)
            known = latest.get(chain.device)
            if isinstance(body, bodies.Device) and (known is None or known[0] < row.position):
                latest[chain.device] = row.position, DeviceRow(chain.device, body.name, body.person)
    return [device for _, device in latest.values()]


def _said(row: EntryRow) -> object:
    """What tells two claims of one message apart; None if the text is not here, or was erased before."""
    body = readable_body(row.kind, row.body)
    return (body.by, body.text) if isinstance(body, bodies.Text) and not body.erased else None


def _was_erased(row: EntryRow) -> bool:
    """Whether it was erased before it was imported: then there is nothing more to forget."""
    body = readable_body(row.kind, row.body)
    return isinstance(body, bodies.Text) and body.erased


def wrap_info(topic: Topic, author: bytes, epoch: int, recipient: bytes) -> bytes:
    """Binds a wrapped epoch secret to its log, author, epoch and recipient (HPKE's `info`)."""
    return b"mlog v1 epoch wrap\0" + topic + author + epoch.to_bytes(8, "big") + recipient
