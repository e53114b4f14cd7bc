"""Person: which devices belong together, as a person log says.

A person is a set of devices that vouch for each other in a person log. The device that founded the
log is in it; a device that is in it admits another with an ADMIT entry, and that one confirms with
its own record, its first entry there. All of this is worked out from the log's entries in the order
of the view, so replicas with the same entries agree. docs/protocol.md, 4.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from mlog import limits
from mlog.log import bodies
from mlog.log.authority import Role, Ruling, decide
from mlog.log.bodies import Kind
from mlog.log.ids import DeviceId, EntryId, Topic
from mlog.log.store import EntryRow, LogKind, Position, Store, TimelineQuery
from mlog.log.stored import readable_body

__all__ = ["Member", "Person", "Revocation", "fold_person", "root_of", "writer_of"]

_RULINGS: Final = frozenset({Kind.ADMIT, Kind.REVOKE})
_LINKED: Final = _RULINGS | {Kind.KEY, Kind.DEVICE}


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A device of a person.

    Attributes:
        name: What the person calls it.
        noise, hpke: Its public keys, of its own record where that is here.
        by: The device that admitted it; None for the one that founded the log.
        confirmed: Its own record is in the person log: it says so too.
    """

    device: DeviceId
    name: str
    noise: bytes
    hpke: bytes
    by: DeviceId | None
    confirmed: bool


class Revocation(NamedTuple):
    """One entry of a person log that revokes a device.

    Attributes:
        cuts: Where the device's chains in the person log end.
    """

    id: EntryId
    by: DeviceId
    cuts: tuple[bodies.Cut, ...]


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """What a person log says.

    Attributes:
        founded_ms: Time of its first entry, a claim.
        name: What the person is called.
        founder: The device that founded it: it stands for the person, also when it was revoked.
        members: Its devices in the order of their admission, the founder first.
        revoked: Devices that belonged to it: what they wrote before is still the person's.
        revocations: By which entries they were revoked.
    """

    log: int
    topic: Topic
    founded_ms: int
    name: str
    founder: DeviceId
    members: tuple[Member, ...]
    revoked: tuple[Member, ...] = ()
    revocations: Mapping[DeviceId, tuple[Revocation, ...]] = {}

    @property
    def age(self) -> tuple[int, Topic]:
        """Sorts persons, the oldest first; no two are equal."""
        return self.founded_ms, self.topic

    def member(self, device: DeviceId) -> Member | None:
        """The device, if it is one of this person's."""
        return next((member for member in self.members if member.device == device), None)


def fold_person(store: Store, log: int, topic: Topic) -> Person | None:
    """Work out a person from a person log; None until its first entry and its founder's record are here.

    Of ADMIT and REVOKE entries only the first STORE_ROWS_MAX in the order of the view are looked at, and
    a person has at most KEY_RECIPIENTS_MAX devices: those that were admitted first.
    """
    # A record that is lost is damage, which the verification names: what hangs on it does not count.
    authors = {chain.n: chain.device for chain in store.chains(log)}
    root = root_of(store, log, LogKind.PERSON)
    founder = authors.get(root.chain) if root is not None else None
    if root is None or founder is None:
        return None
    chains: dict[DeviceId, list[int]] = {}
    for n, device in authors.items():
        chains.setdefault(device, []).append(n)
    record = _record(store, chains[founder])
    if record is None:
        return None
    said = _rulings(store, log, authors)
    authority = decide(founder, [ruling for ruling, _ in said])
    standing = {ruling.id for ruling in authority.standing}
    admitted: dict[DeviceId, tuple[bodies.Admit, DeviceId]] = {}
    named: dict[DeviceId, tuple[Position, str]] = {}
    revoked: dict[DeviceId, list[Revocation]] = {}
    for ruling, body in said:
        if ruling.id in standing:
            device, by = DeviceId(ruling.subject), DeviceId(ruling.author)
            if isinstance(body, bodies.Admit):
                admitted.setdefault(device, (body, by))
                named[device] = Position(ruling.rank, ruling.id), body.name
            else:
                revoked.setdefault(device, []).append(Revocation(ruling.id, by, body.cuts))
    members: list[Member] = []
    # A device that was revoked stays so: keys that somebody else may have are never trusted again.
    for subject in (founder, *admitted):
        own, admission = _record(store, chains.get(subject, ())), admitted.get(subject)
        if own is not None:
            position, name = named.get(subject, (None, ""))
            latest = own[0] if position is None or position < own[0] else None
            by = admission[1] if admission is not None else None
            members.append(_member(subject, by, own[1], own[1].name if latest is not None else name))
        elif admission is not None:
            body, by = admission
            members.append(_admitted(body, by, named[subject][1]))
    active = [member for member in members if member.device not in revoked]
    return Person(
        log=log,
        topic=topic,
        founded_ms=root.time_ms,
        name=record[1].person,
        founder=founder,
        members=tuple(active[: limits.KEY_RECIPIENTS_MAX]),
        revoked=tuple(member for member in members if member.device in revoked),
        revocations={device: tuple(entries) for device, entries in revoked.items()},
    )


def root_of(store: Store, log: int, kind: LogKind) -> EntryRow | None:
    """The entry with which a log began."""
    query = TimelineQuery(
        log=log, limit=limits.KEY_ENTRIES_READ_MAX, kinds=frozenset({Kind.KEY}), hidden=True
    )
    for row in store.timeline(query):
        body = readable_body(row.kind, row.body)
        if row.seq == 0 and isinstance(body, bodies.Key) and body.log == kind:
            return row
    return None


def writer_of(store: Store, row: EntryRow) -> DeviceId | None:
    """The device that wrote an entry."""
    return next((chain.device for chain in store.chain_rows([row.chain])), None)


def _rulings(
    store: Store, log: int, authors: Mapping[int, DeviceId]
) -> list[tuple[Ruling, bodies.Admit | bodies.Revoke]]:
    """What the entries of a person log rule, each with the rulings before it that its author knew.

    Author and reader see the same past: what is reached along parents and chains through entries of the
    kinds that a person log is made of.
    """
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=_LINKED, hidden=True)
    rows = store.timeline(query)
    parents = store.parents([row.n for row in rows])
    before: dict[int, EntryId] = {}
    reached: dict[EntryId, frozenset[EntryId]] = {}
    found: list[tuple[Ruling, bodies.Admit | bodies.Revoke]] = []
    for row in rows:
        named = [*parents.get(row.n, ()), *((before[row.chain],) if row.chain in before else ())]
        past = frozenset(id_ for parent in named for id_ in reached.get(parent, ()))
        before[row.chain] = row.id
        body = readable_body(row.kind, row.body) if row.kind in _RULINGS else None
        if isinstance(body, bodies.Admit | bodies.Revoke) and row.chain in authors:
            ruling = Ruling(
                id=row.id,
                rank=row.rank,
                author=authors[row.chain],
                subject=body.device,
                role=Role.ADMIN if isinstance(body, bodies.Admit) else Role.NONE,
                past=past,
            )
            found.append((ruling, body))
            past = frozenset({row.id})
        reached[row.id] = past
    return found


def _member(device: DeviceId, by: DeviceId | None, record: bodies.Device, name: str) -> Member:
    return Member(device=device, name=name, noise=record.noise, hpke=record.hpke, by=by, confirmed=True)


def _admitted(body: bodies.Admit, by: DeviceId, name: str) -> Member:
    return Member(
        device=DeviceId(body.device), name=name, noise=body.noise, hpke=body.hpke, by=by, confirmed=False
    )


def _record(store: Store, chains: Iterable[int]) -> tuple[Position, bodies.Device] | None:
    """The latest readable record in the chains of one device, and where it stands."""
    latest: tuple[Position, bodies.Device] | None = None
    for chain in chains:
        for row in store.chain_kind(chain, Kind.DEVICE):
            body = readable_body(row.kind, row.body)
            if isinstance(body, bodies.Device) and (latest is None or latest[0] < row.position):
                latest = row.position, body
    return latest
