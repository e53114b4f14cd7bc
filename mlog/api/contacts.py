"""Contacts: the persons whom this one accepted: meet, list, name, compare, remove.

A contact is a person, not a device: what devices it has is said by its own log, which is followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mlog import limits
from mlog.api.choosing import Choice, chosen
from mlog.errors import UserError
from mlog.log import contacts as entries
from mlog.log.ids import DeviceId, Topic
from mlog.log.peers import PeerRow, renewed

if TYPE_CHECKING:
    from mlog.api.home import Home
    from mlog.log.person import Person
    from mlog.protocol.pairing import DeviceRecord

__all__ = ["KnownContact", "contact", "contacts", "meet", "name_contact", "person_named", "remove_contact"]


class KnownContact(msgspec.Struct, frozen=True, kw_only=True):
    """A person whom this one accepted.

    Attributes:
        topic: What the person is known by, 16 bytes.
        name: Chosen here.
        called: What the person calls itself; "" until its log is here.
        devices: Names of its devices; none until its log is here.
        safety: Digits to compare, the same at both ends; none until its log is here.
    """

    topic: Topic
    name: str
    called: str
    since_ms: int
    devices: tuple[str, ...] = ()
    safety: tuple[str, ...] = ()


def meet(home: Home, record: DeviceRecord, name: str = "") -> KnownContact:
    """Accept the person of a device that was met; durable on return.

    Both ends do this. In the first session the devices then give each other their persons' logs.

    Args:
        name: What to call the person; default as it calls itself.

    Raises:
        UserError: It is this person itself, or a device that was revoked, or a home of an older mlog.
    """
    replica, now_ms = home.replica, home.now_ms()
    people, device, topic = replica.people, DeviceId(record.device), Topic(record.topic)
    own = people.current()
    if own is None or not own.proven:
        raise UserError(
            "this home was begun by an older mlog, whose person nobody else can follow. Begin a new one "
            "('mlog --home FOLDER'), and take over what 'mlog export' writes here."
        )
    if topic == own.topic or people.is_own(device):
        raise UserError("this is one of your own devices. 'mlog pair' is for these.")
    if people.is_revoked(device):
        raise UserError(f"{record.name}: this device was revoked by its person. Use another one of theirs.")
    with replica.transaction():
        peers = {peer.device: peer for peer in home.store.peers()}
        known = peers.get(device)
        if known is None or not known.own:
            addresses = dict.fromkeys((*record.addresses, *(known.addresses if known is not None else ())))
            row = PeerRow(
                device=device,
                name=f"{record.person} ({record.name})",
                noise=record.noise,
                hpke=record.hpke,
                own=False,
                addresses=tuple(addresses)[: limits.ADDRESSES_MAX],
                added_ms=now_ms,
            )
            home.store.put_peer(renewed(row, known))
        before = people.contacts().get(topic)
        chosen = _checked(name or (before.name if before is not None else "") or record.person)
        said = entries.Contact(topic=topic, name=chosen, device=device, since_ms=now_ms)
        entries.write_contact(replica, said, now_ms)
    return contact(home, topic)


def contacts(home: Home) -> list[KnownContact]:
    """All contacts, in the order in which they were accepted."""
    return [contact(home, topic) for topic in home.replica.people.contacts()]


def contact(home: Home, topic: Topic) -> KnownContact:
    """One contact by the topic of its person log."""
    people = home.replica.people
    said, own = people.contacts()[topic], people.current()
    person = people.person_of(people.subject_of_topic(topic))
    return KnownContact(
        topic=topic,
        name=said.name,
        called=person.name if person is not None else "",
        since_ms=said.since_ms,
        devices=tuple(m.name for m in person.machines) if person is not None else (),
        safety=entries.safety_digits(own, person) if own is not None and person is not None else (),
    )


def name_contact(home: Home, name: str, new: str) -> KnownContact:
    """Call a contact something else, on all devices of this person; nobody else sees it.

    Raises:
        UserError: None, or several, have this name; or the new one is empty or too long.
    """
    topic = _named(home, name).topic
    said = home.replica.people.contacts()[topic]
    changed = msgspec.structs.replace(said, name=_checked(new))
    entries.write_contact(home.replica, changed, home.now_ms())
    return contact(home, topic)


def remove_contact(home: Home, name: str) -> KnownContact:
    """Know a person no more: nothing is given to its devices from now on, but in common conversations.

    Raises:
        UserError: None, or several, have this name.
    """
    chosen = _named(home, name)
    said = home.replica.people.contacts()[chosen.topic]
    entries.write_contact(home.replica, said, home.now_ms(), removed=True)
    return chosen


def person_named(home: Home, name: str) -> Person:
    """The person whom a contact's name means.

    Raises:
        UserError: None, or several, have this name; or its log has not come yet.
    """
    chosen, people = _named(home, name), home.replica.people
    person = people.person_of(people.subject_of_topic(chosen.topic))
    if person is None:
        raise UserError(
            f"{chosen.name} was accepted, and none of their devices was met since. Let both be online once "
            "('mlog sync'), then try again."
        )
    return person


def _named(home: Home, name: str) -> KnownContact:
    return chosen(
        [Choice(c, c.name, c.topic.hex()) for c in contacts(home)],
        name,
        what="contact",
        none="nobody is known here yet. 'mlog invite' makes somebody a contact.",
        begins=True,
    )


def _checked(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name.encode(errors="replace")) > limits.NAME_SIZE_MAX_BYTES:
        raise UserError(f"a name has from 1 to {limits.NAME_SIZE_MAX_BYTES} bytes.")
    return name
