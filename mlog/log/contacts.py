"""Contacts: the persons whom this one accepted, and what it calls them; entries of the private log.

Contacts know each other's person logs, and so follow each other's devices. docs/protocol.md, 4.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mlog import limits
from mlog.errors import UserError
from mlog.log import bodies, crypto
from mlog.log.bodies import Kind
from mlog.log.fold import Draft
from mlog.log.ids import DeviceId, Topic
from mlog.log.store import Store, TimelineQuery
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.log.person import Person
    from mlog.log.replica import Replica

__all__ = ["Contact", "fold_contacts", "safety_digits", "write_contact"]

_SAFETY_SIZE: Final = 30
_GROUP_SIZE: Final = 5


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """A person whom this one accepted.

    Attributes:
        topic: Of the person's log.
        name: Chosen here.
        device: The device with which the two met.
        since_ms: When; a claim.
    """

    topic: Topic
    name: str
    device: DeviceId
    since_ms: int


def fold_contacts(store: Store, log: int) -> dict[Topic, Contact]:
    """The contacts that a private log tells of, in the order in which they were first accepted.

    Of each person the latest entry in the order of the view holds.
    """
    found: dict[Topic, Contact | None] = {}
    since: dict[Topic, int] = {}
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({Kind.CONTACT}))
    while rows := store.timeline(query):
        for row in rows:
            body = readable_body(row.kind, row.body)
            if isinstance(body, bodies.Contact):
                topic = Topic(body.person)
                since_ms = since.setdefault(topic, row.time_ms)
                found[topic] = (
                    None
                    if body.removed
                    else Contact(topic=topic, name=body.name, device=DeviceId(body.device), since_ms=since_ms)
                )
        query = msgspec.structs.replace(query, after=rows[-1].position)
    return {topic: contact for topic, contact in found.items() if contact is not None}


def write_contact(replica: Replica, contact: Contact, now_ms: int, *, removed: bool = False) -> None:
    """Say of a person that it is a contact, what it is called, or that it is none any more."""
    from mlog.log.belonging import befriend

    private = replica.people.private_log()
    if private is None:
        raise UserError(
            "the log of your own settings is damaged here, and has to be whole for this. 'mlog verify' says "
            "what is wrong."
        )
    body = bodies.Contact(person=contact.topic, name=contact.name, device=contact.device, removed=removed)
    with replica.transaction():
        replica.write(private, [Draft(Kind.CONTACT, body, now_ms)], now_ms)
        replica.people.forget()
        befriend(replica, now_ms)


def safety_digits(one: Person, other: Person) -> tuple[str, ...]:
    """Digits that two persons compare: the same on both sides, and others for any other two.

    They follow from what nobody can change of a person: the device that founded its log, and the log.
    """
    first, second = sorted(person.founder + person.topic for person in (one, other))
    number = int.from_bytes(crypto.derive("safety digits", first + second), "big")
    digits = f"{number % 10**_SAFETY_SIZE:0{_SAFETY_SIZE}}"
    return tuple(digits[at : at + _GROUP_SIZE] for at in range(0, _SAFETY_SIZE, _GROUP_SIZE))
