"""Cuts: where the chains of those end who were revoked, removed, or never let in.

Who revokes a device says for each of its chains which entry is the last that counts. What comes after
is **quarantined**, whatever its date: it is stored and counted, so that replicas stay equal, and it
says and changes nothing. A chain that no cut names is cut at nothing, since whoever has the keys of
a lost device can begin as many as they like. The same holds for the devices of a person who was removed
from a conversation (mlog/log/membership.py), and for what nobody may write. docs/protocol.md, 4.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.store import ChainRow, EntryRow, Place, Store, TimelineQuery, place_of
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.log.person import Person

__all__ = ["NO_CUTS", "Cuts", "Ends", "EndsOf", "cuts_now", "device_ends", "first_of"]

_NOTHING: Final = -1

Ends: TypeAlias = Set[tuple[int, EntryId]]
"""Last entries of a chain that count, each with its number; of a forked one there may be several."""
EndsOf: TypeAlias = Callable[[ChainRow], Ends | None]
"""Gives where a chain ends; None where all of it counts. With no entries, nothing does."""


class Cuts:
    """The cuts of one log.

    Args:
        rules: Of several that end a chain the first end holds.
    """

    def __init__(self, store: Store | None = None, log: int = 0, rules: Sequence[EndsOf] = ()):
        self._store = store
        self._log = log
        self._rules = rules
        self._last: dict[int, int | None] = {}
        self._awaited: set[EntryId] = set()

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return bool(self._rules)

    def end_of(self, chain: ChainRow) -> int | None:
        """The last number in a chain row that counts; None where all do."""
        return self._last_of(self._store, chain) if self._store is not None else None

    def await_any(self, ids: Iterable[EntryId]) -> bool:
        """Whether a chain may end elsewhere now that these are read: a cut names one of them."""
        return not self._awaited.isdisjoint(ids)

    def quarantined(self, rows: Iterable[EntryRow | Place]) -> set[int]:
        """Those of these entries that come after a cut, by their number."""
        if not self._rules:
            return set()
        rows = list(rows)
        self._learn({row.chain for row in rows})
        found: set[int] = set()
        for row in rows:
            last = self._last.get(row.chain)
            if last is not None and row.seq > last:
                found.add(row.n)
        return found

    def cut_chains(self, chains: Set[int]) -> set[int]:
        """Those of these chain rows that are cut somewhere."""
        if not self._rules:
            return set()
        self._learn(chains)
        return {n for n in chains if self._last.get(n) is not None}

    def _learn(self, chains: Set[int]) -> None:
        assert self._store is not None
        for chain in self._store.chain_rows({n for n in chains if n} - self._last.keys()):
            self._last[chain.n] = self._last_of(self._store, chain)

    def _last_of(self, store: Store, chain: ChainRow) -> int | None:
        """The last number in a chain row that counts; None where all do."""
        found: int | None = None
        for rule in self._rules:
            ends = rule(chain)
            if ends is not None:
                last = self._last_within(store, chain, ends)
                found = last if found is None else min(found, last)
        return found

    def _last_within(self, store: Store, chain: ChainRow, ends: Ends) -> int:
        last = _NOTHING
        for seq, id_ in ends:
            place = store.places(self._log, [id_]).get(id_)
            if place is None or not place.chain:
                # It is not here, or not read: until it is, nobody can tell which branch it is in.
                self._awaited.add(id_)
                last = max(last, seq)
            else:
                last = max(last, _on_the_way(store, place).get(chain.n, _NOTHING))
        return last


def _on_the_way(store: Store, place: Place) -> dict[int, int]:
    """Back from an entry to the beginning of its chain: the rows passed, with the last number in each."""
    passed: dict[int, int] = {}
    while place.chain not in passed and len(passed) < limits.BRANCHES_READ_MAX:
        passed[place.chain] = place.seq
        first = next(iter(store.scan(place.chain, _NOTHING, 1)), None)
        if first is None or not first.seq:
            break
        # The first of a branch names the entry before it as a parent, since that stands in another row.
        before = store.places(first.log, store.parents([first.n]).get(first.n, []))
        found = [known for known in before.values() if known.chain and known.seq == first.seq - 1]
        if not found:
            break
        place = found[0]
    return passed


def first_of(store: Store, chain: ChainRow) -> EntryRow | None:
    """The entry with which a chain, or the branch of one, began; None where it is not here."""
    first = next(iter(store.scan(chain.n, _NOTHING, 1)), None)
    if first is not None and first.seq and chain.branch:
        way = _on_the_way(store, place_of(first))
        first = next(iter(store.scan(list(way)[-1], _NOTHING, 1)), None)
    return first if first is not None and not first.seq else None


NO_CUTS: Final = Cuts()


def device_ends(store: Store, log: int, revoked: Mapping[DeviceId, Person]) -> EndsOf | None:
    """Where the chains of revoked devices end: in a person log as it says, in others as those say that
    rely on it. None where no such device is cut.

    Args:
        revoked: Devices that a person revoked.
    """
    ends = _device_ends(store, log, revoked) if revoked else {}

    def ends_of(chain: ChainRow) -> Ends | None:
        of_device = ends.get(chain.device)
        return of_device.get(chain.incarnation, frozenset()) if of_device is not None else None

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
        bodies.Cut(incarnation=chain.incarnation, seq=chain.seq, id=chain.id.hex())
        for chain in store.chains(log)
        if chain.device == device and chain.seq >= 0
    ]
