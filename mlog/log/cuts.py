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
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from mlog import limits
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.store import ChainRow, EntryRow, Place, Store, TimelineQuery, place_of
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
    "first_of",
    "tips_of",
]

Ends: TypeAlias = Set[tuple[int, EntryId]]
"""Last entries of a chain that count, each with its number; of a forked one there may be several."""
Counts: TypeAlias = tuple[tuple[int, int], ...]
"""The numbers in a chain row that count, from and to, ascending."""

_ALL: Final[Counts] = ((0, limits.SEQ_MAX),)


class Part(NamedTuple):
    """What is judged at once of a chain row: all of it, or if the chain is forked, one run.

    Attributes:
        seq: The last number in it.
    """

    chain: ChainRow
    seq: int
    forked: bool


EndsOf: TypeAlias = Callable[[Part], Ends | None]
"""Gives where a chain ends; None where all of it counts. With no entries, nothing does."""


class _Way(msgspec.Struct, frozen=True):
    """The way back from an entry of a forked chain to where the chain began.

    Attributes:
        key: Device and incarnation of the chain.
        passed: By chain row the numbers that were passed.
        root: The entry with which the chain began; None if that is not here.
        unknown: Up to here the way is not known, since an entry is not here; -1 if all of it is.
    """

    key: tuple[DeviceId, Incarnation]
    passed: dict[int, list[tuple[int, int]]]
    root: EntryRow | None
    unknown: int


class Cuts:
    """The cuts of one log.

    Args:
        rules: What several of them let count counts.
    """

    def __init__(self, store: Store | None = None, log: int = 0, rules: Sequence[EndsOf] = ()):
        self._store = store
        self._log = log
        self._rules = rules
        self._counts: dict[int, Counts | None] = {}
        self._knows_all = False
        self._awaited: set[EntryId] = set()
        self._ways: dict[EntryId, _Way] = {}

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return bool(self._rules)

    def counts(self, chain: ChainRow) -> Counts | None:
        """The numbers in a chain row that count; None where all do."""
        if self._store is None or not self._rules:
            return None
        return self._counts_of(self._store, chain, is_forked=_is_forked(self._store, chain))

    def all(self) -> dict[int, Counts]:
        """The chain rows of the log of which not all counts, with what does."""
        if self._rules and not self._knows_all:
            assert self._store is not None
            chains = self._store.chains(self._log)
            self._learn(self._store, chains, chains)
            self._knows_all = True
        return {n: counts for n, counts in self._counts.items() if counts is not None}

    def await_any(self, ids: Iterable[EntryId]) -> bool:
        """Whether a chain may end elsewhere now that these are read: a cut names one of them."""
        return not self._awaited.isdisjoint(ids)

    def quarantined(self, rows: Iterable[EntryRow | Place]) -> set[int]:
        """Those of these entries that come after a cut, by their number."""
        if not self._rules:
            return set()
        rows = list(rows)
        self._look_up({row.chain for row in rows})
        found: set[int] = set()
        for row in rows:
            counts = self._counts.get(row.chain)
            if counts is not None and not any(first <= row.seq <= last for first, last in counts):
                found.add(row.n)
        return found

    def cut_chains(self, chains: Set[int]) -> set[int]:
        """Those of these chain rows that are cut somewhere."""
        if not self._rules:
            return set()
        self._look_up(chains)
        return {n for n in chains if self._counts.get(n) is not None}

    def _look_up(self, chains: Set[int]) -> None:
        assert self._store is not None
        missing = {n for n in chains if n} - self._counts.keys()
        if missing:
            rows = self._store.chain_rows(missing)
            keys = {(chain.device, chain.incarnation) for chain in rows}
            self._learn(self._store, rows, self._store.find_chains(self._log, keys, 2))

    def _learn(self, store: Store, chains: Sequence[ChainRow], branches: Sequence[ChainRow]) -> None:
        """Judge chain rows; `branches` has all rows of their chains, or two of each."""
        rows = Counter((chain.device, chain.incarnation) for chain in branches)
        for chain in chains:
            is_forked = rows[chain.device, chain.incarnation] > 1
            self._counts[chain.n] = self._counts_of(store, chain, is_forked=is_forked)

    def _counts_of(self, store: Store, chain: ChainRow, *, is_forked: bool) -> Counts | None:
        if not is_forked:
            return self._judged(store, Part(chain, chain.seq, forked=False), _ALL)
        # Branches may stand in one row where between them something is not here: each is judged by itself.
        spans = [(run.first, run.last) for run in store.runs_near(chain.n, 0, limits.SEQ_MAX)]
        judged = [self._judged(store, Part(chain, span[1], forked=True), (span,)) for span in spans]
        if all(counts is None for counts in judged):
            return None
        return _merged(
            part
            for span, counts in zip(spans, judged, strict=True)
            for part in ((span,) if counts is None else counts)
        )

    def _judged(self, store: Store, part: Part, within: Counts) -> Counts | None:
        """What counts of a part of a chain row by all rules; None for all of it."""
        found: Counts | None = None
        for rule in self._rules:
            ends = rule(part)
            if ends is not None:
                reached = _merged(span for end in ends for span in self._reached(store, part, end))
                found = _both(within if found is None else found, reached)
        return found

    def _reached(self, store: Store, part: Part, end: tuple[int, EntryId]) -> Sequence[tuple[int, int]]:
        """The numbers in a chain row that are on the way from an end back to the beginning."""
        (seq, id_), chain = end, part.chain
        place = store.places(self._log, [id_]).get(id_)
        if place is None or not place.chain:
            # It is not here, or not read: until it is, nobody can tell which branch it is in.
            self._awaited.add(id_)
            return [(0, seq)]
        if not part.forked:
            return [(0, place.seq)] if place.chain == chain.n else []
        if id_ not in self._ways:
            self._ways[id_] = _way_to(store, place)
        way = self._ways[id_]
        if (chain.device, chain.incarnation) != way.key:
            return []
        return [*way.passed.get(chain.n, ()), *([(0, way.unknown)] if way.unknown >= 0 else [])]


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
    one, other = _ALL if one is None else one, _ALL if other is None else other
    edges = {edge for first, last in (*one, *other) for edge in (first, last + 1)}
    return next((n for n in sorted({0, *edges}) if _has(one, n) != _has(other, n)), None)


def _has(counts: Counts, seq: int) -> bool:
    return any(first <= seq <= last for first, last in counts)


def _is_forked(store: Store, chain: ChainRow) -> bool:
    return len(store.find_chains(chain.log, [(chain.device, chain.incarnation)], 2)) > 1


def _way_to(store: Store, place: Place) -> _Way:
    """The way back from an entry of a forked chain: along links within rows, and from row to row."""
    key = _key_of(store, place.chain)
    passed: dict[int, list[tuple[int, int]]] = {}
    while True:
        runs = store.runs_near(place.chain, place.seq, place.seq)
        seq = next((run.first for run in runs if run.first <= place.seq <= run.last), place.seq)
        passed.setdefault(place.chain, []).append((seq, place.seq))
        first = store.at(place.chain, seq)
        if first is None or not seq:
            return _Way(key, passed, first if not seq else None, seq - 1)
        # The first of a run names the entry before it as a parent, since that stands in another row.
        named = store.places(first.log, store.parents([first.n]).get(first.n, [])).values()
        near = [known for known in named if known.chain and known.seq == seq - 1]
        before = next((known for known in near if _key_of(store, known.chain) == key), None)
        if before is None:
            return _Way(key, passed, None, seq - 1)
        place = before


def _key_of(store: Store, chain: int) -> tuple[DeviceId, Incarnation]:
    (row,) = store.chain_rows([chain])
    return row.device, row.incarnation


def first_of(store: Store, part: Part) -> EntryRow | None:
    """The entry with which a chain, or the branch of one, began; None where it is not here."""
    if part.forked:
        at = store.at(part.chain.n, part.seq)
        return _way_to(store, place_of(at)).root if at is not None else None
    first = next(iter(store.scan(part.chain.n, -1, 1)), None)
    return first if first is not None and not first.seq else None


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
