"""Reconciling: which devices persons have by what the logs of several of them say.

A person log says by itself whom it has (mlog/log/person.py). A device is in more than one of them where it
went over to an older person, or was taken there; and one of these may have revoked a device before it heard
of that. What follows from it is worked out from the logs alone, so all who have them agree, and none of them
undoes what another one says of its own devices. docs/protocol.md, 4.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TypeAlias

import msgspec

from mlog.log.ids import DeviceId
from mlog.log.person import Person

__all__ = ["Revokers", "reconciled"]

Revokers: TypeAlias = Mapping[DeviceId, Sequence[Person]]
"""By device, the persons that it confirmed and whose revocation of it holds everywhere, the oldest first."""
_Homes: TypeAlias = Mapping[DeviceId, Sequence[Person]]
"""By device, the persons that it confirmed."""


def reconciled(persons: Sequence[Person]) -> tuple[list[Person], Revokers]:
    """Persons with the devices that they have by the logs of all.

    Args:
        persons: The oldest first, each as its own log says.
    """
    homes: dict[DeviceId, list[Person]] = {}
    for person in persons:
        for device in person.joined:
            homes.setdefault(device, []).append(person)
    astray = {person.topic: _astray(person, homes) for person in persons}
    revokers: dict[DeviceId, list[Person]] = {}
    for person in persons:
        for device in person.revocations:
            if device in person.joined and device not in astray[person.topic]:
                others = [p for p in homes[device] if device not in astray[p.topic]]
                if all(_holds(person, device, other) for other in others if other.age < person.age):
                    revokers.setdefault(device, []).append(person)
    return [_reconciled(person, astray[person.topic], revokers) for person in persons], revokers


def _astray(person: Person, homes: _Homes) -> Set[DeviceId]:
    """Who went over on the word of a device that is revoked where both come from, or of one that did so."""
    found: set[DeviceId] = set()
    went_over = [(member.device, member.word) for member in person.members if member.word is not None]
    while new := {
        device
        for device, word in went_over
        if device not in found
        and (
            word in found
            or any(
                word in other.revocations and device in other.joined and _holds(other, word, person)
                for other in homes.get(word, ())
                if other.age > person.age
            )
        )
    }:
        found |= new
    return found


def _holds(person: Person, device: DeviceId, older: Person) -> bool:
    """Whether the revocation of a device that went over to an older person holds there, too.

    Not if its author went over as well, since who did writes no more to the log that it left; nor if the
    older person revoked the author, and the device came before that: as of two that revoke each other.
    """
    order = {joined: at for at, joined in enumerate(person.joined)}
    return any(
        revocation.by not in older.joined
        and not (revocation.by in older.revocations and order[device] < order.get(revocation.by, len(order)))
        for revocation in person.revocations[device]
    )


def _reconciled(person: Person, astray: Set[DeviceId], revokers: Revokers) -> Person:
    def is_out(device: DeviceId) -> bool:
        return any(other.topic != person.topic for other in revokers.get(device, ()))

    kept = [member for member in person.members if member.device not in astray]
    return msgspec.structs.replace(
        person,
        members=tuple(member for member in kept if not is_out(member.device)),
        revoked=(*person.revoked, *(member for member in kept if is_out(member.device))),
        astray=tuple(member for member in person.members if member.device in astray),
    )
