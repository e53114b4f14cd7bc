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

from mlog.log.ids import DeviceId, Topic
from mlog.log.person import Person

__all__ = ["Revokers", "reconciled"]

Revokers: TypeAlias = Mapping[DeviceId, Sequence[Person]]
"""By device, the persons that it confirmed and whose revocation of it holds everywhere, the oldest first."""


def reconciled(persons: Sequence[Person]) -> tuple[list[Person], Revokers]:
    """Persons with the devices that they have by the logs of all.

    Args:
        persons: The oldest first, each as its own log says.
    """
    known = _Confirmed(persons)
    astray = {person.topic: _astray(person, known) for person in persons}
    revokers: dict[DeviceId, list[Person]] = {}
    for person in persons:
        for device in person.revocations.keys() & known.by(person):
            others = [p for p in known.homes[device] if p.age < person.age and device not in astray[p.topic]]
            if device not in astray[person.topic] and all(known.holds(person, device, p) for p in others):
                revokers.setdefault(device, []).append(person)
    return [_reconciled(person, astray[person.topic], revokers) for person in persons], revokers


class _Confirmed:
    """Which devices confirmed which persons.

    Attributes:
        homes: By device, the persons that it confirmed.
    """

    def __init__(self, persons: Sequence[Person]):
        self.homes: dict[DeviceId, list[Person]] = {}
        self._order: dict[Topic, dict[DeviceId, int]] = {}
        for person in persons:
            self._order[person.topic] = {device: at for at, device in enumerate(person.joined)}
            for device in person.joined:
                self.homes.setdefault(device, []).append(person)

    def by(self, person: Person) -> Set[DeviceId]:
        """The devices that confirmed a person."""
        return self._order[person.topic].keys()

    def holds(self, person: Person, device: DeviceId, older: Person) -> bool:
        """Whether the revocation of a device that went over to an older person holds there, too.

        Not if its author went over as well, since who did writes no more to the log that it left; nor if the
        older person revoked the author, and the device came before that: as of two that revoke each other.
        """
        order = self._order[person.topic]
        return any(
            revocation.by not in self.by(older)
            and not (
                revocation.by in older.revocations and order[device] < order.get(revocation.by, len(order))
            )
            for revocation in person.revocations[device]
        )


def _astray(person: Person, known: _Confirmed) -> Set[DeviceId]:
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
                word in other.revocations and device in known.by(other) and known.holds(other, word, person)
                for other in known.homes.get(word, ())
                if other.age > person.age
            )
        )
    }:
        found |= new
    return found


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
