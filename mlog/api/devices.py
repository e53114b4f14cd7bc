"""The devices of this person, and those that may connect: list, rename, revoke, forget."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

import msgspec

from mlog import limits
from mlog.api.choosing import Choice, chosen
from mlog.api.trust import checked_address
from mlog.errors import UserError
from mlog.log import belonging
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = [
    "KnownDevice",
    "devices",
    "forget_device",
    "reach_device",
    "rename_device",
    "revoke_device",
]


class KnownDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device of this person, or one that may connect.

    Attributes:
        here: It is this one.
        peer: This home connects to it.
        member: It belongs to the person, as the person log says.
        confirmed: It said so itself, too.
        revoked: It belonged to the person, and is trusted no more.
        put_out: It was let in by one that was revoked meanwhile, and is none of this person's any more.
        by: What the device that admitted it is called; "" for the first one.
        phrase: It is a recovery phrase, and no machine.
    """

    device: DeviceId
    name: str
    here: bool
    peer: bool
    member: bool
    confirmed: bool
    addresses: tuple[str, ...] = ()
    added_ms: int = 0
    seen_ms: int = 0
    revoked: bool = False
    put_out: bool = False
    by: str = ""
    phrase: bool = False


def devices(home: Home) -> list[KnownDevice]:
    """This device, the others of this person, and those that were trusted; in the order of admission."""
    person, here = home.replica.people.current(), home.replica.device_id
    names = {member.device: member.name for member in (person.members if person is not None else ())}
    peers = {peer.device: peer for peer in home.store.peers()}
    found: list[KnownDevice] = []
    for member in person.members if person is not None else ():
        peer = peers.pop(member.device, None)
        found.append(
            KnownDevice(
                device=member.device,
                name=member.name,
                here=member.device == here,
                peer=peer is not None,
                member=True,
                confirmed=member.confirmed,
                addresses=peer.addresses if peer is not None else (),
                added_ms=peer.added_ms if peer is not None else 0,
                seen_ms=peer.seen_ms if peer is not None else 0,
                by=names.get(member.by, "") if member.by is not None else "",
                phrase=member.phrase,
            )
        )
    found += [_trusted_only(peer) for peer in peers.values()]
    for member in person.revoked if person is not None else ():
        found.append(
            KnownDevice(
                device=member.device,
                name=member.name,
                here=member.device == here,
                peer=False,
                member=False,
                confirmed=member.confirmed,
                revoked=True,
                phrase=member.phrase,
            )
        )
    return found + _put_out(home, {device.device for device in found})


def _put_out(home: Home, listed: Set[DeviceId]) -> list[KnownDevice]:
    """The devices of a person to which a revoked device had taken this one."""
    here = home.replica.device_id
    persons = home.replica.people.persons()
    left = [person for person in persons if any(member.device == here for member in person.astray)]
    others = {m.device: m for person in left for m in person.machines if m.device not in listed}
    return [
        KnownDevice(
            device=member.device,
            name=member.name,
            here=False,
            peer=False,
            member=False,
            confirmed=member.confirmed,
            put_out=True,
        )
        for member in others.values()
    ]


def _trusted_only(peer: PeerRow) -> KnownDevice:
    return KnownDevice(
        device=peer.device,
        name=peer.name,
        here=False,
        peer=True,
        member=False,
        confirmed=False,
        addresses=peer.addresses,
        added_ms=peer.added_ms,
        seen_ms=peer.seen_ms,
    )


def forget_device(home: Home, name: str) -> KnownDevice:
    """Do not connect to a device any more; what it has, and what the others think of it, stays.

    Args:
        name: Of the device, or the unique start of its id, of at least 4 digits.

    Raises:
        UserError: None, or several, or this one: the message lists them.
    """
    known = [device for device in devices(home) if device.peer]
    chosen = _named(known, name)
    with home.store.transaction():
        home.store.remove_peer(chosen.device)
    return chosen


def rename_device(home: Home, name: str, new: str) -> KnownDevice:
    """Call one of this person's devices something else, on all of them.

    Raises:
        UserError: None, or several, have this name; or the new one is empty or too long.
    """
    new = new.strip()
    if not new or len(new.encode()) > limits.NAME_SIZE_MAX_BYTES:
        raise UserError(f"a name has from 1 to {limits.NAME_SIZE_MAX_BYTES} bytes.")
    chosen = _named([device for device in devices(home) if device.member], name)
    belonging.rename(home.replica, chosen.device, new, home.now_ms())
    return chosen


def reach_device(home: Home, addresses: Sequence[str]) -> None:
    """Tell one's other devices and the people one talks with where this device can be reached.

    Raises:
        UserError: An address is none, or there are too many.
    """
    if len(addresses) > limits.ADDRESSES_MAX:
        raise UserError(f"at most {limits.ADDRESSES_MAX} addresses.")
    belonging.reach(home.replica, [checked_address(address) for address in addresses], home.now_ms())


def revoke_device(home: Home, name: str) -> KnownDevice:
    """Trust one of this person's devices no more, and let all logs go on without it; durable on return.

    Raises:
        UserError: None, or several, have this name; or it is this one.
    """
    chosen = _named([device for device in devices(home) if device.member], name)
    belonging.revoke(home.replica, chosen.device, home.now_ms())
    return chosen


def _named(known: Sequence[KnownDevice], name: str) -> KnownDevice:
    return chosen(
        [Choice(device, device.name, device.device.hex()) for device in known],
        name,
        what="device",
        none="no other device is known here. 'mlog pair' adds one.",
    )
