"""Placing: which chain row an authentic entry belongs into, what runs it joins, and evidence of forks.

Each chain row holds entries that are linked wherever they are neighbours; what does not fit into one
row begins another, a branch. Two rows of one device and incarnation are so a fork, in every replica that
holds these entries, whatever came first; only which row is called the first differs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import entry
from mlog.log.crypto import EpochKeys, LogKeys
from mlog.log.entry import NO_ENTRY, Header
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.store import ChainRow, EntryRow, ForkRow, Place, RunRow, Store
from mlog.log.stored import check_header

__all__ = ["Arrival", "Chain", "ChainKey", "Chains", "extend_runs", "is_next"]

ChainKey: TypeAlias = tuple[DeviceId, Incarnation]
_LOOK_AHEAD: Final = 256
"""So many places of a chain are looked at at once; few enough that one of nothing but holes costs little."""


class Arrival(msgspec.Struct, gc=False):
    """An entry that came, or one that is here and was not read yet.

    Attributes:
        held, body: Its body as `Unsealed` has them.
        row: As it is stored, None for a new one.
        vouched: It is authentic.
        late: A body came that was not here before.
        closed: As `Unsealed` says.
        lay: Its signature lay here, and is not of what came: if it is bad, that is not the sender's doing.
    """

    id: EntryId
    outer: bytes
    week: int
    header: Header | None
    epoch: EpochKeys | None
    unread: str
    held: bytes | None
    body: bytes | None
    signature: bytes | None
    row: EntryRow | None = None
    vouched: bool = False
    late: bool = False
    lay: bool = False
    closed: bool = False


class Chain(msgspec.Struct):
    """A chain row and what a batch adds to it."""

    row: ChainRow
    seqs: list[int]


class _Near(msgspec.Struct, frozen=True):
    """What a chain row held before the batch, between two places."""

    first: int
    last: int
    runs: list[RunRow]


class Chains:
    """The chain rows that one batch of entries goes into.

    Args:
        keys: Of the log; None where it is kept blindly, and nothing is placed.
        places: Where the entries that this batch names stand.
    """

    def __init__(self, store: Store, log: int, keys: LogKeys | None, places: dict[EntryId, Place]):
        self._store = store
        self._log = log
        self._keys = keys
        self._places = places
        self._chains: dict[ChainKey, dict[int, Chain]] = {}
        self._stands: dict[EntryId, int] = {}
        self._next_chain = 0
        self._forks: dict[ChainKey, ForkRow] | None = None
        self._near: dict[int, _Near] = {}
        self._known_at: dict[tuple[DeviceId, Incarnation, int], set[EntryId]] = {}
        self.taken: dict[tuple[int, int], Arrival] = {}

    def load(self, arrivals: Iterable[Arrival]) -> None:
        keys = {(a.header.device, a.header.incarnation) for a in arrivals if a.header is not None}
        missing = keys - self._chains.keys()
        for key in missing:
            self._chains[key] = {}
        if missing:
            for row in self._store.find_chains(self._log, missing, limits.BRANCHES_READ_MAX):
                self._chains[row.device, row.incarnation][row.n] = Chain(row, [])

    def _need_keys(self) -> LogKeys:
        assert self._keys is not None
        return self._keys

    def rows(self, header: Header) -> list[Chain]:
        """The branches of the chain that an entry belongs to; of very many only some, with the first."""
        return list(self._chains[header.device, header.incarnation].values())

    def is_forked(self, header: Header) -> bool:
        """Whether there are several branches of an entry's chain."""
        return len(self._chains[header.device, header.incarnation]) > 1

    def is_end(self, header: Header) -> bool:
        """Whether an entry comes after all of its chain that is here, and that has one branch."""
        chains = self._chains[header.device, header.incarnation]
        return all(chain.row.seq < header.seq for chain in chains.values()) if len(chains) < 2 else False

    def _branch(self, header: Header, n: int) -> Chain | None:
        """The chain row with this number, if an entry belongs to its device and incarnation."""
        chains = self._chains[header.device, header.incarnation]
        if n and n not in chains:
            for row in self._store.chain_rows([n]):
                if (row.device, row.incarnation) == (header.device, header.incarnation):
                    chains[n] = Chain(row, [])
        return chains.get(n)

    def has_successor(self, a: Arrival, children: Iterable[Place]) -> bool:
        """Whether an entry that is read here names one as the entry before.

        Args:
            children: Those that name it at all.
        """
        h = a.header
        assert h is not None
        next_seq = h.seq + 1
        rows = self.rows(h)[: limits.BRANCHES_READ_MAX]
        after = [(c.row.n, next_seq) for c in rows if c.row.seq > h.seq]
        # Where an entry was lost here, nothing but its place tells what came next.
        found = [*children, *(self._store.places_at(after).values() if after else ())]
        return self.is_named_by_next(a, found)

    def is_named_by_next(self, a: Arrival, places: Iterable[Place]) -> bool:
        """Whether one of these is the next of an entry's chain, and names it as the one before."""
        h = a.header
        assert h is not None
        near = [place for place in places if place.seq == h.seq + 1]
        own = self._rows_of(h, {place.chain for place in near})
        return any(place.chain in own and self._names_before(place, a) for place in near)

    def _rows_of(self, header: Header, chains: Collection[int]) -> set[int]:
        """Those of these chain rows that are branches of the chain that an entry belongs to.

        Thousands of other chains may name an entry, and to open what they say would take seconds.
        """
        key = header.device, header.incarnation
        rows = self._store.chain_rows(chains) if chains else []
        return {row.n for row in rows if (row.device, row.incarnation) == key}

    def _names_before(self, place: Place, a: Arrival) -> bool:
        """Whether the entry at a place is the next in the chain after another one."""
        header = self._header_at(place.n)
        return header is not None and header.prev == a.id and is_next(a.header, header)

    def _header_at(self, n: int) -> Header | None:
        row = self._store.rows([n]).get(n)
        if row is None:
            return None
        try:
            return entry.open_header(self._need_keys(), row.outer)[0]
        except InvalidInput:
            return None

    def chain_of(self, a: Arrival, children: Iterable[Place]) -> tuple[Chain, bool]:
        """The chain row that an entry belongs into, and whether the one before it stands there too."""
        h = a.header
        assert h is not None
        chains = self._chains[h.device, h.incarnation]
        if not chains:
            return self._new_chain(h, b""), False
        first = next(iter(chains.values()))
        if len(chains) == 1 and h.seq > first.row.seq:
            if h.prev == first.row.id and h.seq == first.row.seq + 1:
                return first, True
            if h.seq > first.row.seq + 1:
                return first, False
        before = self._chain_before(h)
        if before and not self._is_held(before, h.seq) and not self._is_held(before, h.seq + 1):
            return chains[before], True
        after = [child.chain for child in children if child.seq == h.seq + 1]
        own = self._rows_of(h, after)
        near = [before, *(number for number in after if number in own), first.row.n]
        for number in dict.fromkeys(near):
            chain = self._branch(h, number)
            if chain is not None and self._fits(a, number):
                return chain, number == before
        return self._new_chain(h, a.id), False

    def _chain_before(self, header: Header) -> int:
        """The chain row in which the entry before one stands, or 0."""
        place = self._places.get(header.prev)
        if place is not None and place.chain:
            here = place.seq == header.seq - 1 and self._branch(header, place.chain) is not None
            return place.chain if here else 0
        chain = self._stands.get(header.prev, 0)
        before = self.taken.get((chain, header.seq - 1))
        return chain if before is not None and is_next(before.header, header) else 0

    def _new_chain(self, header: Header, branch: bytes) -> Chain:
        if not self._next_chain:
            self._next_chain = self._store.next_chain()
        row = ChainRow(
            self._next_chain, self._log, header.device, header.incarnation, -1, NO_ENTRY, 0, branch
        )
        self._next_chain += 1
        chain = Chain(row, [])
        self._chains[header.device, header.incarnation][row.n] = chain
        return chain

    def _fits(self, a: Arrival, chain: int) -> bool:
        """Whether a place is free, and its neighbours are those that the links say."""
        h = a.header
        assert h is not None
        seq = h.seq
        if self._is_held(chain, seq) and not self._is_lost(a, chain):
            return False
        if seq and self._is_held(chain, seq - 1) and self._chain_before(h) != chain:
            return (chain, seq - 1) not in self.taken and not self._store.places_at([(chain, seq - 1)])
        taken = self.taken.get((chain, seq + 1))
        if taken is not None:
            return taken.header is not None and taken.header.prev == a.id
        return all(self._names_before(after, a) for after in self.after(chain, seq))

    def _is_held(self, chain: int, seq: int) -> bool:
        """Whether an entry stands at a place of a chain row, or was lost there."""
        if (chain, seq) in self.taken:
            return True
        near = self._near.get(chain)
        if near is None or not near.first <= seq <= near.last:
            # What comes is mostly in order: one look tells for many.
            first, last = max(seq - 1, 0), seq + _LOOK_AHEAD
            near = self._near[chain] = _Near(first, last, self._store.runs_near(chain, first, last))
        return any(run.first <= seq <= run.last for run in near.runs)

    def after(self, chain: int, seq: int) -> Collection[Place]:
        """Where the entry stands that was here before the batch, next to a place of a chain row."""
        return self._store.places_at([(chain, seq + 1)]).values() if self._is_held(chain, seq + 1) else ()

    def _is_lost(self, a: Arrival, chain: int) -> bool:
        """Whether what stood at an entry's place is gone, or damaged: then it comes back there."""
        h = a.header
        assert h is not None
        if (chain, h.seq) in self.taken:
            return False
        row = self._store.at(chain, h.seq)
        if row is None:
            return True
        try:
            check_header(self._need_keys(), row, h.device)
        except InvalidInput:
            if a.row is None:
                a.row = row
                return True
        return False

    def extend(self, chain: Chain, a: Arrival) -> None:
        h = a.header
        assert h is not None
        chain.seqs.append(h.seq)
        self.taken[chain.row.n, h.seq] = a
        self._stands[a.id] = chain.row.n
        if h.seq > chain.row.seq:
            chain.row = msgspec.structs.replace(chain.row, seq=h.seq, id=a.id, week=a.week)

    def put(self) -> None:
        for chains in self._chains.values():
            for chain in chains.values():
                if chain.seqs:
                    self._store.put_chain(chain.row)
                    extend_runs(self._store, chain.row.n, chain.seqs)
                    chain.seqs = []

    def note_fork(self, header: Header, chain: int) -> None:
        """Keep the lowest place at which two entries of a forked chain are known."""
        h = header
        if self._forks is None:
            self._forks = {(row.device, row.incarnation): row for row in self._store.forks(self._log)}
        known = self._forks.get((h.device, h.incarnation))
        if known is not None and known.seq < h.seq - 1:
            return
        for seq in (h.seq - 1, h.seq):
            key = h.device, h.incarnation, seq
            if key not in self._known_at:
                # Once for all entries of a batch: a hostile device makes hundreds for one place.
                first = list(self._chains[h.device, h.incarnation])[: limits.BRANCHES_READ_MAX]
                self._known_at[key] = self._ids_at(first, seq)
            ids = self._known_at[key] | self._ids_at([chain], seq)
            if known is not None and known.seq == seq:
                ids |= {known.one, known.other}
            if seq >= 0 and len(ids) > 1:
                one, other = sorted(ids)[:2]
                fork = ForkRow(self._log, h.device, h.incarnation, seq, one, other)
                self._forks[h.device, h.incarnation] = fork
                self._store.put_fork(fork)
                return

    def _ids_at(self, chains: Collection[int], seq: int) -> set[EntryId]:
        """Entries at one place of these rows: such as stand there, and such as the next ones name."""
        here = self._store.places_at([(n, seq) for n in chains]).values()
        after = self._store.places_at([(n, seq + 1) for n in chains]).values()
        headers = [self._header_at(place.n) for place in after]
        return {place.id for place in here} | {header.prev for header in headers if header is not None}


def extend_runs(store: Store, chain: int, seqs: Iterable[int]) -> None:
    """Note that these entries of a chain are held, and read."""
    first = last = -1
    for seq in [*sorted(seqs), -1]:
        if seq == last + 1 and last >= 0:
            last = seq
            continue
        if last >= 0:
            _put_run(store, chain, first, last)
        first = last = seq


def _put_run(store: Store, chain: int, first: int, last: int) -> None:
    for run in store.runs_near(chain, first, last):
        if run.first != first:
            if run.first < first:
                first = run.first
            else:
                store.remove_run(chain, run.first)
        last = max(last, run.last)
    store.put_run(RunRow(chain, first, last))


def is_next(before: Header | None, after: Header | None) -> bool:
    """Whether two linked entries are neighbours in one chain."""
    return (
        before is not None
        and after is not None
        and after.seq == before.seq + 1
        and after.device == before.device
        and after.incarnation == before.incarnation
    )
