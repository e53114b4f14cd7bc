"""Twins: two running copies of one home, which write in the name of one device.

A copy begins chains of its own, so nothing is lost; but a person who does not know of it wonders why one
of the two is always behind. One home leaves a chain for good when it begins another: so where each of
two chains of a device names the other, or one names the chain that this home writes now, two homes wrote
them. What an import wrote is left out, since a home writes that beside its own chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mlog import limits
from mlog.log.ids import DeviceId
from mlog.log.store import ChainRow, Store

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = ["Twin", "twins"]


class Twin(msgspec.Struct, frozen=True, kw_only=True):
    """A device in whose name two homes write.

    Attributes:
        here: This home is one of them.
    """

    device: DeviceId
    name: str
    here: bool


def twins(home: Home) -> list[Twin]:
    """The devices whose home runs twice, as far as the newest STORE_ROWS_MAX entries of each chain tell."""
    me, store = home.replica.device_id, home.store
    found: set[DeviceId] = set()
    for state in home.replica.logs():
        by_device: dict[DeviceId, list[ChainRow]] = {}
        for chain in store.chains(state.n):
            by_device.setdefault(chain.device, []).append(chain)
        for device, chains in by_device.items():
            if len(chains) > 1 and device not in found:
                named = _named(store, state.n, [chain for chain in chains if _is_by_hand(store, chain)])
                now = {c.n for c in chains if device == me and c.incarnation == home.replica.incarnation}
                if any(pair[::-1] in named or pair[1] in now for pair in named):
                    found.add(device)
    names = {row.id: row.name for row in store.devices()}
    return [Twin(device=each, name=names.get(each, ""), here=each == me) for each in sorted(found)]


def _is_by_hand(store: Store, chain: ChainRow) -> bool:
    first = store.at(chain.n, 0)
    return first is not None and not first.is_retold


def _named(store: Store, log: int, chains: Sequence[ChainRow]) -> set[tuple[int, int]]:
    """Pairs of chains of which an entry of the first names one of the second."""
    ours = {chain.n for chain in chains}
    pairs: set[tuple[int, int]] = set()
    for chain in chains if len(chains) > 1 else ():
        rows = store.scan(chain.n, chain.seq - limits.STORE_ROWS_MAX, limits.STORE_ROWS_MAX)
        parents = {id_ for named in store.parents([row.n for row in rows]).values() for id_ in named}
        others = {place.chain for place in store.places(log, parents).values()} & ours - {chain.n}
        pairs.update((chain.n, other) for other in others)
    return pairs
