"""Cuts: where the chains of those end who were revoked, removed, or never let in.

Who revokes a device says for each of its chains which entry is the last that counts. What comes after
is **quarantined**, whatever its date: it is stored and counted, so that replicas stay equal, and it
says and changes nothing. A chain that no cut names is cut at nothing, since whoever has the keys of
a lost device can begin as many as they like. The same holds for the devices of a person who was removed
from a conversation (mlog/log/membership.py), and for what nobody may write. docs/protocol.md, 4.7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from mlog import limits
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.store import ChainRow, EntryRow, Place, Store, TimelineQuery
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.log.person import Person

__all__ = [
    "NO_CUTS",
    "Counts",
    "Cuts",
    "Ends",
    "EndsOf",
    "Part",
    "cuts_now",
    "device_ends",
    "differs_from",
    "tips_of",
]

Ends: TypeAlias = Set[tuple[int, EntryId]]
"""Last entries of a chain that count, each with its number; of a forked one there may be several."""
Counts: TypeAlias = tuple[tuple[int, int], ...]
"""The numbers in a chain row that count, from and to, ascending."""

_ALL: Final[Counts] = ((0, limits.SEQ_MAX),)


_Run: TypeAlias = tuple[int, int]
"""Chain row, and the first number of a run in it."""


class Part(NamedTuple):
    """What is judged at once of a chain row: all of it, or if the chain is forked, one run.

    Attributes:
        first: Gives the entry with which the chain, or its branch, began; None where that is not here.
    """

    chain: ChainRow
    first: Callable[[], EntryRow | None]


EndsOf: TypeAlias = Callable[[Part], Ends | None]
"""Gives where a chain ends; None where all of it counts. With no entries, nothing does."""


class _Way(msgspec.Struct, frozen=True):
    """The way back from an entry of a forked chain to where the chain began.

    Attributes:
        key: Device and incarnation of the chain.
        passed: By chain row the numbers that were passed.
        unknown: Up to here the way is not known, since an entry is not here; -1 if all of it is.
    """

    key: tuple[DeviceId, Incarnation]
    passed: dict[int, list[tuple[int, int]]]
    unknown: int


class Cuts:
    """The cuts of one log.

    What is worked out for a chain row is kept until an entry comes that may change it, since a hostile device
    makes thousands of chains, and branches of one.

    Args:
        rules: What all of them let count counts.
        judged: As the attribute, to go on with.
        of_rulings: Which rulings are looked at: where that changes, the rules give something else.

    Attributes:
        judged: Of each chain row all that it was taken for since the caller cleared this: entries may
            have been folded by any of it.
    """

    def __init__(
        self,
        store: Store | None = None,
        log: int = 0,
        rules: Sequence[EndsOf] = (),
        judged: dict[int, set[Counts | None]] | None = None,
        of_rulings: Cuts | None = None,
    ):
        self._store = store
        self._log = log
        self._rules = rules
        self._of_rulings = of_rulings
        self._knows_all = False
        self._counts: dict[int, Counts | None] = {}
        self._of_runs: dict[_Run, Counts | None] = {}
        self._roots: dict[_Run, tuple[EntryRow | None, Set[EntryId]]] = {}
        self._waiting: dict[EntryId, list[_Run]] = {}
        self._ways: dict[EntryId, _Way] = {}
        self._awaited: set[EntryId] = set()
        self._again: set[int] = set()
        self.judged: dict[int, set[Counts | None]] = judged if judged is not None else {}

    def counts(self, chain: ChainRow) -> Counts | None:
        """The numbers in a chain row that count; None where all do."""
        self._look_up({chain.n})
        return self._counts.get(chain.n)

    def limited(self) -> dict[int, Counts]:
        """The chain rows of the log of which not all counts, with what does."""
        if self._rules and not self._knows_all:
            assert self._store is not None
            chains = self._store.chains(self._log)
            self._learn(self._store, chains, chains)
            self._knows_all = True
        self._look_up(self._again)
        self._again.clear()
        return {n: counts for n, counts in self._counts.items() if counts is not None}

    def take(self, rows: Sequence[EntryRow], branches: Set[int]) -> bool:
        """Judge anew what may count otherwise now that entries are read; whether that is all of the log,
        since cuts or rulings may be others.

        Args:
            branches: Chain rows of those that are forked.
        """
        if not self._rules:
            for row in rows:
                self.judged.setdefault(row.chain, set()).add(None)
            return False
        again = {row.chain for row in rows if not row.seq} | branches
        for row in rows:
            for run in self._waiting.pop(row.id, ()):
                self._of_runs.pop(run, None)
                self._roots.pop(run, None)
                again.add(run[0])
        for n in again & self._counts.keys():
            del self._counts[n]
            self._again.add(n)
        of_rulings = self._of_rulings
        moved = of_rulings is not None and of_rulings.moves(rows, branches)
        return moved or any(row.id in self._awaited for row in rows)

    def moves(self, rows: Sequence[EntryRow], branches: Set[int]) -> bool:
        """As `take`; whether of a chain row that was asked for something else counts now."""
        before = dict(self._counts)
        self.take(rows, branches)
        self._look_up(before.keys())
        return self._counts != before

    def quarantined(self, rows: Iterable[EntryRow | Place]) -> set[int]:
        """Those of these entries that come after a cut, by their number."""
        if not self._rules:
            return set()
        rows = list(rows)
        self._look_up({row.chain for row in rows})
        found: set[int] = set()
        for row in rows:
            counts = self._counts.get(row.chain)
            if counts is not None and not _has(counts, row.seq):
                found.add(row.n)
        return found

    def cut_chains(self, chains: Set[int]) -> set[int]:
        """Those of these chain rows that are cut somewhere."""
        self._look_up(chains)
        return {n for n in chains if self._counts.get(n) is not None}

    def _look_up(self, chains: Set[int]) -> None:
        missing = {n for n in chains if n} - self._counts.keys() if self._rules else None
        if missing:
            assert self._store is not None
            rows = self._store.chain_rows(missing)
            keys = {(chain.device, chain.incarnation) for chain in rows}
            self._learn(self._store, rows, self._store.find_chains(self._log, keys, 2))

    def _learn(self, store: Store, chains: Sequence[ChainRow], branches: Sequence[ChainRow]) -> None:
        """Judge chain rows; `branches` has all rows of their chains, or two of each."""
        rows = Counter((chain.device, chain.incarnation) for chain in branches)
        for chain in chains:
            if rows[chain.device, chain.incarnation] > 1:
                self._counts[chain.n] = self._counts_of_branches(store, chain)
            else:
                part = Part(chain, partial(_first_in, store, chain.n))
                self._counts[chain.n] = self._judged(store, part, is_forked=False)
            self.judged.setdefault(chain.n, set()).add(self._counts[chain.n])

    def _counts_of_branches(self, store: Store, chain: ChainRow) -> Counts | None:
        """What counts of a row of a forked chain. Parts of several branches may stand in it where something
        is not here between them: so each run is judged by itself."""
        runs = store.runs_near(chain.n, 0, limits.SEQ_MAX)
        spans: list[tuple[int, int]] = []
        for run in runs:
            key = chain.n, run.first
            if key not in self._of_runs:
                part = Part(chain, partial(self._root_of, store, key))
                self._of_runs[key] = self._judged(store, part, is_forked=True)
            counts = self._of_runs[key]
            spans += _both(((run.first, run.last),), _ALL if counts is None else counts)
        if all(self._of_runs[chain.n, run.first] is None for run in runs):
            return None
        return _merged(spans)

    def _judged(self, store: Store, part: Part, *, is_forked: bool) -> Counts | None:
        """What counts of a part of a chain row by all rules; None for all of it."""
        found: Counts | None = None
        for rule in self._rules:
            ends = rule(part)
            if ends is not None:
                reached = _merged(
                    span
                    for end in ends
                    for span in self._reached(store, part.chain, end, is_forked=is_forked)
                )
                found = reached if found is None else _both(found, reached)
        return found

    def _reached(
        self, store: Store, chain: ChainRow, end: tuple[int, EntryId], *, is_forked: bool
    ) -> Sequence[tuple[int, int]]:
        """The numbers in a chain row that are on the way from an end back to the beginning."""
        seq, id_ = end
        place = store.places(self._log, [id_]).get(id_)
        if place is None or not place.chain:
            # It is not here, or not read: until it is, nobody can tell which branch it is in.
            self._awaited.add(id_)
            return [(0, seq)]
        if not is_forked:
            return [(0, place.seq)] if place.chain == chain.n else []
        if id_ not in self._ways:
            self._ways[id_] = self._way_to(store, place)
        way = self._ways[id_]
        if (chain.device, chain.incarnation) != way.key:
            return []
        return [*way.passed.get(chain.n, ()), *([(0, way.unknown)] if way.unknown >= 0 else [])]

    def _way_to(self, store: Store, place: Place) -> _Way:
        """The way back from an entry: along links within rows, and from row to row."""
        key, passed = _key_of(store, place.chain), dict[int, list[tuple[int, int]]]()
        while True:
            run = _run_of(store, place)
            passed.setdefault(place.chain, []).append((run[1], place.seq))
            if not run[1]:
                return _Way(key, passed, -1)
            before, absent = _before(store, run, key)
            if before is None:
                self._awaited |= absent
                return _Way(key, passed, run[1] - 1)
            place = before

    def _root_of(self, store: Store, run: _Run) -> EntryRow | None:
        """The entry with which the branch began that a run is of; None where that is not here."""
        key, passed = _key_of(store, run[0]), list[_Run]()
        while run not in self._roots:
            passed.append(run)
            before, absent = _before(store, run, key) if run[1] else (None, frozenset[EntryId]())
            if before is None:
                self._roots[run] = (None if run[1] else store.at(*run)), absent
                break
            run = _run_of(store, before)
        root, absent = self._roots[run]
        for each in passed:
            self._roots[each] = root, absent
            for id_ in absent:
                self._waiting.setdefault(id_, []).append(each)
        return root


def _both(one: Counts, other: Counts) -> Counts:
    """The numbers that are in two sets of them."""
    spans = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return _merged(span for span in spans if span[0] <= span[1])


def _merged(spans: Iterable[tuple[int, int]]) -> Counts:
    """Ascending, and as few as possible."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def differs_from(one: Counts | None, other: Counts | None) -> int | None:
    """The first number that counts by one and not by the other; None where they are alike."""
    if one == other:
        return None
    one, other = _ALL if one is None else one, _ALL if other is None else other
    edges = {edge for first, last in (*one, *other) for edge in (first, last + 1)}
    return next((n for n in sorted({0, *edges}) if _has(one, n) != _has(other, n)), None)


def _has(counts: Counts, seq: int) -> bool:
    return any(first <= seq <= last for first, last in counts)


def _is_forked(store: Store, chain: ChainRow) -> bool:
    return len(store.find_chains(chain.log, [(chain.device, chain.incarnation)], 2)) > 1


def _first_in(store: Store, chain: int) -> EntryRow | None:
    """The entry with which a chain of one row began; None where it is not here."""
    first = next(iter(store.scan(chain, -1, 1)), None)
    return first if first is not None and not first.seq else None


def _run_of(store: Store, place: Place) -> _Run:
    """The run that an entry is in."""
    runs = store.runs_near(place.chain, place.seq, place.seq)
    first = next((run.first for run in runs if run.first <= place.seq <= run.last), place.seq)
    return place.chain, first


def _before(store: Store, run: _Run, key: tuple[DeviceId, Incarnation]) -> tuple[Place | None, Set[EntryId]]:
    """Where the entry stands that comes before a run in its chain, or the ids of which it may be one."""
    first = store.at(*run)
    if first is None:
        return None, frozenset()
    # The first of a run names the entry before it as a parent, since that stands in another row.
    parents = store.parents([first.n]).get(first.n, [])
    places = {id_: place for id_, place in store.places(first.log, parents).items() if place.chain}
    near = (place for place in places.values() if place.seq == first.seq - 1)
    before = next((place for place in near if _key_of(store, place.chain) == key), None)
    return before, frozenset(parents) - places.keys()


def _key_of(store: Store, chain: int) -> tuple[DeviceId, Incarnation]:
    (row,) = store.chain_rows([chain])
    return row.device, row.incarnation


NO_CUTS: Final = Cuts()


def device_ends(store: Store, log: int, revoked: Mapping[DeviceId, Person]) -> EndsOf | None:
    """Where the chains of revoked devices end: in a person log as it says, in others as those say that
    rely on it. None where no such device is cut.

    Args:
        revoked: Devices that a person revoked.
    """
    ends = _device_ends(store, log, revoked) if revoked else {}

    def ends_of(part: Part) -> Ends | None:
        of_device = ends.get(part.chain.device)
        return of_device.get(part.chain.incarnation, frozenset()) if of_device is not None else None

    return ends_of if ends else None


def _device_ends(
    store: Store, log: int, revoked: Mapping[DeviceId, Person]
) -> dict[DeviceId, dict[Incarnation, set[tuple[int, EntryId]]]]:
    ends: dict[DeviceId, dict[Incarnation, set[tuple[int, EntryId]]]] = {}

    def add(device: DeviceId, cuts: Iterable[bodies.Cut]) -> None:
        of_device = ends.setdefault(device, {})
        for cut in cuts:
            end = cut.seq, EntryId(bytes.fromhex(cut.id))
            of_device.setdefault(Incarnation(cut.incarnation), set()).add(end)

    own = next((person for person in revoked.values() if person.log == log), None)
    if own is not None:
        for device, revocations in own.revocations.items():
            for revocation in revocations:
                add(device, revocation.cuts)
        return ends
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({Kind.REVOKE}), hidden=True)
    while rows := store.timeline(query):
        authors = {chain.n: chain.device for chain in store.chain_rows({row.chain for row in rows})}
        for row in rows:
            body = readable_body(row.kind, row.body)
            if not isinstance(body, bodies.Revoke):
                continue
            device = DeviceId(body.device)
            person, author = revoked.get(device), authors.get(row.chain)
            # Who revokes a device cuts it in every log: nobody else's word, such as the device's, counts.
            revocations = person.revocations[device] if person is not None else ()
            if any((r.id.hex(), r.by) == (body.by, author) for r in revocations):
                add(device, body.cuts)
        query = msgspec.structs.replace(query, after=rows[-1].position)
    return ends


def cuts_now(store: Store, log: int, device: DeviceId) -> list[bodies.Cut]:
    """Cuts behind all that is read here of a device's chains; of a forked one, behind each branch."""
    return [
        bodies.Cut(incarnation=chain.incarnation, seq=seq, id=id_.hex())
        for chain in store.chains(log)
        if chain.device == device
        for seq, id_ in tips_of(store, chain, None)
    ]


def tips_of(store: Store, chain: ChainRow, counts: Counts | None) -> list[tuple[int, EntryId]]:
    """The entries of a chain row behind which a cut leaves all that is read here and counts.

    Of a forked chain each run may be of another branch.

    Args:
        counts: As of `Cuts.counts`.
    """
    if chain.seq < 0:
        return []
    within = ((0, chain.seq),)
    if _is_forked(store, chain):
        within = tuple((run.first, run.last) for run in store.runs_near(chain.n, 0, limits.SEQ_MAX))
    spans = [span for part in within for span in _both((part,), _ALL if counts is None else counts)]
    rows = (store.at(chain.n, last) for _, last in spans)
    return [(row.seq, row.id) for row in rows if row is not None]
