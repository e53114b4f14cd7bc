"""Parting: who was removed is told so, by the rulings themselves, and given nothing else.

A ruling is sealed under the epoch that all could read before, so whom it is about can open it, and sees that
it stands by the same rule as everybody. What it rests on goes along: the rulings in its past, and the key
entries that give the recipient the epochs of these. All of that was written for a person that still belonged
to the conversation. docs/protocol.md, 4.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import crypto, entry
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.entry import Sealed
from mlog.log.epochs import stated_epochs
from mlog.log.ids import DeviceId, EntryId
from mlog.log.store import EntryRow, LogKind

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = ["Parting", "is_told_by", "partings", "take_parting", "told"]

_HANDED: Final = frozenset({Kind.KEY, Kind.MEMBER, Kind.REVOKE})
"""Kinds that a parting has."""


class Parting(NamedTuple):
    """What tells a device that it belongs to a log no more."""

    log: int
    entries: tuple[Sealed, ...]


def partings(replica: Replica, device: DeviceId) -> list[Parting]:
    """What a device is told: of each conversation of ours from which its person was removed.

    A device that was revoked is not told: it would meet nobody any more, and a contact that knows no other
    device of the person would hear of none.
    """
    people = replica.people
    if people.current() is None:
        return []
    found: list[Parting] = []
    for log in people.removed_from(device):
        membership, subject = people.membership(log), people.subject_of(device)
        assert membership is not None
        assert subject is not None
        found += _parting(replica, log, _with_keys(replica, log, membership.removal_of(subject), device))
    return found


def _with_keys(replica: Replica, log: int, ids: Sequence[EntryId], device: DeviceId) -> list[EntryId]:
    """These entries, with the key entries that give a device their epochs, as many as fit."""
    store, keys = replica.store, replica.log(log).keys
    stated = {(s.number, s.commitment): s for s in stated_epochs(store, log) if device in s.recipients}
    found: dict[EntryId, None] = {}
    due = list(ids)
    while due and len(found) < limits.PARTING_ENTRIES_MAX:
        id_ = due.pop()
        row = store.find(log, [id_]).get(id_) if id_ not in found else None
        if row is None:
            continue
        found[id_] = None
        fields = entry.parse_outer(row.outer)
        epoch = keys.epoch_of(fields.salt, fields.tag)
        key = stated.get((epoch.number, crypto.commitment(epoch.secret))) if epoch is not None else None
        if key is not None:
            due.append(key.id)
    return list(found)


def _parting(replica: Replica, log: int, ids: Iterable[EntryId]) -> list[Parting]:
    rows: list[EntryRow] = sorted(replica.store.find(log, list(ids)).values(), key=lambda row: row.position)
    entries = tuple(replica.sealed_of(log, rows, bodies=True))
    return [Parting(log, entries)] if entries else []


def told(replica: Replica, device: DeviceId) -> None:
    """A device has what it is told: nobody of its person connects for that any more."""
    people, store = replica.people, replica.store
    subject = people.subject_of(device)
    person = people.person_of(subject) if subject is not None else None
    devices = {member.device for member in person.members} if person is not None else {device}
    met = {member.device for known in people.acquaintances().values() for member in known.members}
    with replica.transaction():
        for peer in store.peers():
            if not peer.own and peer.device in devices - met and not people.is_contact(peer.device):
                store.remove_peer(peer.device)


def is_told_by(replica: Replica, log: int, device: DeviceId) -> bool:
    """Whether a device may tell this one that it belongs to a conversation no more: one of somebody who
    belongs or belonged to it."""
    people = replica.people
    row = next((row for row in replica.store.logs() if row.n == log), None)
    if row is None or not row.secret or row.kind != LogKind.CONVERSATION:
        return False
    membership, subject = people.membership(log), people.subject_of(device)
    return membership is not None and subject in membership.subjects()


def take_parting(replica: Replica, log: int, entries: Sequence[Sealed], now_ms: int) -> bool:
    """Take what another device tells of this log; whether this device belongs to it no more. Durable.

    Only rulings and key entries are taken; each counts by itself, as if it had come by any other way.
    """
    left = list(entries)
    while left:
        keys = replica.log(log).keys
        ready = [sealed for sealed in left if _kind_of(keys, sealed) in _HANDED]
        if not ready:
            break
        # What is sealed under an epoch that one of these gives is opened in the next round.
        replica.receive(log, ready, now_ms)
        left = [sealed for sealed in left if sealed not in ready]
    return replica.people.role(log) == Role.NONE


def _kind_of(keys: crypto.LogKeys, sealed: Sealed) -> int | None:
    try:
        header = entry.unseal(keys, sealed.outer, sealed.body).header
    except InvalidInput:
        return None
    return header.kind if header is not None else None
