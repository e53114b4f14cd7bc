"""Counting: which key entries of a log count, where somebody wrote very many.

Each epoch that is known makes opening an entry dearer, so of a log EPOCHS_MAX are kept. Who fills that up,
with key entries or grants, must not keep others from beginning an epoch: then nobody could be removed any
more. So of each device the first EPOCHS_MAX key entries that count are taken however many epochs are known,
and what else there is only while there is room. That depends on the stored set, not on its order of arrival.
docs/protocol.md, 4.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import bodies, crypto
from mlog.log.bodies import Kind
from mlog.log.crypto import EpochKeys
from mlog.log.cuts import NO_CUTS, Cuts
from mlog.log.ids import DeviceId
from mlog.log.store import EntryRow, Store, TimelineQuery
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.log.fold import LogState
    from mlog.log.replica import Replica

__all__ = ["EpochName", "counting_keys", "fairly", "learn_counting", "names_stated", "stated_in"]

_KEYS: Final = frozenset({Kind.KEY})

EpochName: TypeAlias = tuple[int, bytes]
"""Number and commitment."""


def counting_keys(store: Store, log: int, cuts: Cuts = NO_CUTS) -> list[tuple[EntryRow, DeviceId]]:
    """The key entries of a log that count, without their bodies, with their authors, in the order of the
    view: of each device the first EPOCHS_MAX."""
    found: list[tuple[EntryRow, DeviceId]] = []
    devices: dict[int, DeviceId] = {}
    counts: dict[DeviceId, int] = {}
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=_KEYS, bodies=False)
    while rows := store.timeline(query):
        out = cuts.quarantined(rows)
        devices |= {c.n: c.device for c in store.chain_rows({row.chain for row in rows} - devices.keys())}
        for row in rows:
            device = devices.get(row.chain)
            if device is None or row.n in out:
                continue
            counts[device] = counts.get(device, 0) + 1
            if counts[device] <= limits.EPOCHS_MAX:
                found.append((row, device))
        query = msgspec.structs.replace(query, after=rows[-1].position)
    return found


def names_stated(store: Store, ns: Sequence[int]) -> Iterator[tuple[EpochName, int]]:
    """The epochs that key entries state, each with the number of the entry."""
    for n, body in _bodies(store, ns):
        yield (body.epoch, bytes.fromhex(body.commitment)), n


def stated_in(store: Store, log: int) -> set[bytes]:
    """The commitments of all epochs that key entries here state, also such as count for nothing."""
    found: set[bytes] = set()
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=_KEYS, hidden=True, bodies=False)
    while rows := store.timeline(query):
        found.update(commitment for (_, commitment), _ in names_stated(store, [row.n for row in rows]))
        query = msgspec.structs.replace(query, after=rows[-1].position)
    return found


def _bodies(store: Store, ns: Sequence[int]) -> Iterator[tuple[int, bodies.Key]]:
    for at in range(0, len(ns), limits.KEY_ENTRIES_READ_MAX):
        for n, encoded in store.bodies(ns[at : at + limits.KEY_ENTRIES_READ_MAX]).items():
            body = readable_body(Kind.KEY, encoded)
            if isinstance(body, bodies.Key):
                yield n, body


def fairly(store: Store, log: int, cuts: Cuts, epochs: Sequence[EpochKeys]) -> list[EpochKeys]:
    """EPOCHS_MAX of more epochs than can be granted: those that count, of each device the latest ones."""
    behind: dict[int, int] = {}
    later: dict[DeviceId, int] = {}
    for row, device in reversed(counting_keys(store, log, cuts)):
        behind[row.n] = later[device] = later.get(device, 0) + 1
    places: dict[EpochName, int] = {}
    for name, n in names_stated(store, list(behind)):
        places[name] = min(places.get(name, behind[n]), behind[n])
    known = {(epoch.number, crypto.commitment(epoch.secret)): epoch for epoch in epochs}
    chosen = sorted(known, key=lambda name: places.get(name, len(behind) + 1))[: limits.EPOCHS_MAX]
    return [known[name] for name in sorted(chosen)]


def learn_counting(replica: Replica, state: LogState, tried: set[int]) -> None:
    """Take the epochs of key entries that count, in a log of which so many are known that others are refused.

    Args:
        tried: Entries that need not be looked at again, to which others are added.
    """
    store = replica.store
    rows = {row.n: (row, by) for row, by in counting_keys(store, state.n, replica.people.cuts(state.n))}
    new: list[EpochKeys] = []
    closed: list[tuple[bytes, str, int, int]] = []
    for n, body in _bodies(store, [n for n in rows if n not in tried]):
        row, device = rows[n]
        tried.add(n)
        try:
            epoch = replica.keyring.epoch_in(state, device, body, counts=True)
        except InvalidInput:
            # It is listed as refused since it came.
            continue
        if epoch is not None:
            new.append(epoch)
            closed.append((row.id, "key", row.chain, row.seq))
    if new:
        replica.learn_epochs(state.n, new, counts=True)
        store.change_gaps(state.n, (), closed)
