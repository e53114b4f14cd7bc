"""Seen: to which devices of other people a message was delivered, and who read it.

What a device signed or said is all there is to go by: a receipt says what it holds, a READ entry
what its person looked at. Own devices are left out: what they hold stands among the copies.
docs/protocol.md, 6.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from mlog import limits
from mlog.api.repair import device_names
from mlog.api.standing import standings
from mlog.log import bodies
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.ids import DeviceId
from mlog.log.reading import chain_name
from mlog.log.store import ChainRow, EntryRow, TimelineQuery
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = ["Seen", "seen"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One device of somebody else that has a message.

    Attributes:
        name: What the device is called here.
        person: Whose it is.
        read: Its person read the message on it; else it holds the message.
        time_ms: When it says it was read; 0 where it says only that it holds it.
    """

    device: DeviceId
    name: str
    person: str
    read: bool
    time_ms: int = 0


def seen(home: Home, row: EntryRow) -> tuple[Seen, ...]:
    """Who has one message, those who read it first, in the order in which they say that they did."""
    if row.kind not in SPOKEN or not row.chain:
        return ()
    chains = {chain.n: chain for chain in home.store.chains(row.log)}
    read = _readers(home, row, chains)
    [standing] = standings(home, row.log)
    holding = {device: 0 for device, holding in standing.holdings.items() if holding.covers(row.id, row.week)}
    people, names = home.replica.people, device_names(home)
    own = {peer.device for peer in home.store.peers() if peer.own}
    found = [
        Seen(
            device=device,
            name=names.get(device) or device.hex()[:8],
            person=home.view.person_of(device),
            read=device in read,
            time_ms=time_ms,
        )
        for device, time_ms in {**holding, **read}.items()
        if device not in own and not people.is_own(device) and device != chains[row.chain].device
    ]
    return tuple(sorted(found, key=lambda one: (not one.read, one.time_ms, one.device)))


def _readers(home: Home, row: EntryRow, chains: Mapping[int, ChainRow]) -> dict[DeviceId, int]:
    """The devices that say that this was read, with the time of the first one that did."""
    chain = chains[row.chain]
    name = chain_name(chain.device, chain.incarnation).hex()
    readers: dict[DeviceId, int] = {}
    query = TimelineQuery(
        log=row.log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({int(Kind.READ)}), after=row.position
    )
    while rows := home.store.timeline(query):
        for said in rows:
            body = readable_body(said.kind, said.body)
            if isinstance(body, bodies.Read) and any(
                one.chain == name and one.seq >= row.seq for one in body.chains
            ):
                readers.setdefault(chains[said.chain].device, said.time_ms)
        query = msgspec.structs.replace(query, after=rows[-1].position)
    return readers
