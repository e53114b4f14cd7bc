"""Cuts: where the chains of revoked devices end.

Who revokes a device says for each of its chains which entry is the last that counts. What comes after
is **quarantined**, whatever its date: it is stored and counted, so that replicas stay equal, and it
says and changes nothing. A chain that no cut names is cut at nothing, since whoever has the keys of
a lost device can begin as many as they like. docs/protocol.md, 4.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Final

from mlog import limits
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.store import ChainRow, EntryRow, Place, Store, TimelineQuery
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.log.person import Person

__all__ = ["NO_CUTS", "Cuts", "cuts_now", "read_cuts"]

_NOTHING: Final = -1


class Cuts:
    """The cuts of one log.

    Args:
        ends: For each device that is cut its chains that count, with the last entries that do: of a
            chain that several cuts name, all of them.
    """

    def __init__(
        self,
        store: Store | None = None,
        log: int = 0,
        ends: Mapping[DeviceId, Mapping[Incarnation, Set[tuple[int, EntryId]]]] | None = None,
    ):
        self._store = store
        self._log = log
        self._ends = ends or {}
        self._last: dict[int, int | None] = {}

    @property
    def devices(self) -> Set[DeviceId]:
        """The devices that are cut."""
        return self._ends.keys()

    def end_of(self, chain: ChainRow) -> int | None:
        """The last number in a chain row that counts; None where all do."""
        return self._last_of(self._store, chain) if self._store is not None else None

    def quarantined(self, rows: Iterable[EntryRow | Place]) -> set[int]:
        """Those of these entries that come after a cut, by their number."""
        if not self._ends:
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
        if not self._ends:
            return set()
        self._learn(chains)
        return {n for n in chains if self._last.get(n) is not None}

    def _learn(self, chains: Set[int]) -> None:
        assert self._store is not None
        for chain in self._store.chain_rows({n for n in chains if n} - self._last.keys()):
            self._last[chain.n] = self._last_of(self._store, chain)

    def _last_of(self, store: Store, chain: ChainRow) -> int | None:
        """The last number in a chain row that counts; None where all do."""
        if chain.device not in self._ends:
            return None
        last = _NOTHING
        for seq, id_ in self._ends[chain.device].get(chain.incarnation, ()):
            place = store.places(self._log, [id_]).get(id_)
            if place is None or not place.chain:
                # It is not here, or not read: until it is, nobody can tell which branch it is in.
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


NO_CUTS: Final = Cuts()


def read_cuts(store: Store, log: int, revoked: Mapping[DeviceId, Person]) -> Cuts:
    """The cuts of a log: of a person log its own, of another one those that rely on a person's.

    Args:
        revoked: Devices that a person revoked.
    """
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
        return Cuts(store, log, ends)
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({Kind.REVOKE}), hidden=True)
    rows = store.timeline(query)
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
    return Cuts(store, log, ends)


def cuts_now(store: Store, log: int, device: DeviceId) -> list[bodies.Cut]:
    """Cuts behind all that is read here of a device's chains; of a forked one, behind each branch."""
    return [
        bodies.Cut(incarnation=chain.incarnation, seq=chain.seq, id=chain.id.hex())
        for chain in store.chains(log)
        if chain.device == device and chain.seq >= 0
    ]
