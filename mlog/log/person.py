"""Person: which devices belong together, as a person log says.

A person is a set of devices that vouch for each other in a person log. The device that founded the
log is in it; a device that is in it admits another with an ADMIT entry, and that one confirms with
its own record, its first entry there. All of this is worked out from the entries of those devices, so
replicas with the same entries agree; what others who know the log's secret wrote into it, as the
person's contacts could, says nothing. docs/protocol.md, 4.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from mlog import limits
from mlog.log import bodies, crypto
from mlog.log.authority import Court, Role, Ruling
from mlog.log.bodies import Body, Kind
from mlog.log.crypto import LogKeys
from mlog.log.ids import DeviceId, EntryId, Topic
from mlog.log.store import EntryRow, LogKind, Place, Position, Store, TimelineQuery
from mlog.log.stored import readable_body

__all__ = [
    "Member",
    "Person",
    "Revocation",
    "Root",
    "fold_person",
    "private_place",
    "root_of",
]

_RULINGS: Final = frozenset({Kind.ADMIT, Kind.REVOKE})
_LINKED: Final = _RULINGS | {Kind.KEY, Kind.DEVICE}
_READ_AT_ONCE: Final = 64

_Placed: TypeAlias = dict[tuple[int, int], list[Place]]
"""By chain row and kind."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A device of a person.

    Attributes:
        name: What the person calls it.
        noise, hpke: Its public keys, of its own record where that is here.
        by: The device that admitted it; None for the one that founded the log.
        confirmed: Its own record is in the person log: it says so too.
        addresses: Where it can be reached, as that record says.
        phrase: It is a recovery phrase, as the entry says that first admitted it.
        word: The device on whose word it went over to this person, as it says; None where it did not.
    """

    device: DeviceId
    name: str
    noise: bytes
    hpke: bytes
    by: DeviceId | None
    confirmed: bool
    addresses: tuple[str, ...] = ()
    phrase: bool = False
    word: DeviceId | None = None


class Revocation(NamedTuple):
    """One entry of a person log that revokes a device.

    Attributes:
        cuts: Where the device's chains in the person log end.
    """

    id: EntryId
    by: DeviceId
    cuts: tuple[bodies.Cut, ...]


class Root(NamedTuple):
    """The entry with which a log began.

    Attributes:
        founder: The device that wrote it.
        proven: The log's secret was made of what it says: no other entry can claim to be the first.
    """

    row: EntryRow
    founder: DeviceId
    proven: bool


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """What a person log says.

    Attributes:
        founded_ms: Time of its first entry, a claim.
        name: What the person is called.
        founder: The device that founded it: it stands for the person, also when it was revoked.
        members: Its devices in the order of their admission, the founder first.
        revoked: Devices that belonged to it: what they wrote before is still the person's.
        revocations: By which entries they were revoked.
        joined: All of these that confirmed it, in the order of their admission, the founder first.
        astray: Devices that went over to this person on the word of one that is revoked where they come from:
            they are not of it (mlog/log/reconciling.py).
        heads: The admissions and revocations that no other one knows of.
        newest: The latest entry in the order of the view that says something of a device.
        proven: Nobody but the founder can have begun it.
    """

    log: int
    topic: Topic
    founded_ms: int
    name: str
    founder: DeviceId
    members: tuple[Member, ...]
    revoked: tuple[Member, ...] = ()
    revocations: Mapping[DeviceId, tuple[Revocation, ...]] = {}
    joined: tuple[DeviceId, ...] = ()
    astray: tuple[Member, ...] = ()
    heads: tuple[EntryId, ...] = ()
    newest: EntryId
    proven: bool = False

    @property
    def age(self) -> tuple[int, Topic]:
        """Sorts persons, the oldest first; no two are equal."""
        return self.founded_ms, self.topic

    def member(self, device: DeviceId) -> Member | None:
        """The device, if it is one of this person's."""
        return next((member for member in self.members if member.device == device), None)

    @property
    def machines(self) -> tuple[Member, ...]:
        """Its devices but for recovery phrases."""
        return tuple(member for member in self.members if not member.phrase)

    @property
    def phrases(self) -> tuple[Member, ...]:
        """Its recovery phrases, mostly none or one."""
        return tuple(member for member in self.members if member.phrase)

    def admitted(self) -> frozenset[DeviceId]:
        """The devices that its log ever let in: what others write into that says nothing."""
        return frozenset(member.device for member in (*self.members, *self.revoked, *self.astray))


def fold_person(store: Store, log: int, topic: Topic) -> Person | None:
    """Work out a person from a person log; None until its first entry and its founder's record are here.

    A person has at most KEY_RECIPIENTS_MAX devices: those that were admitted first.
    """
    root = root_of(store, log, topic, LogKind.PERSON)
    if root is None:
        return None
    # A record that is lost is damage, which the verification names: what hangs on it does not count.
    founder = root.founder
    chains: dict[DeviceId, list[int]] = {}
    for chain in store.chains(log):
        chains.setdefault(chain.device, []).append(chain.n)
    placed = _placed(store, log)
    record = _record(store, placed, chains[founder])
    if record is None:
        return None
    rows, read = _entries_of_members(store, placed, founder, chains)
    said = _rulings(store, rows, read)
    court = Court(founder, [ruling for ruling, _ in said])
    standing = {ruling.id for ruling in court.decide().standing}
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
    for subject in dict.fromkeys((founder, *admitted)):
        own, admission = _record(store, placed, chains.get(subject, ())), admitted.get(subject)
        if own is not None:
            position, name = named.get(subject, (None, ""))
            latest = own[0] if position is None or position < own[0] else None
            by = admission[1] if admission is not None and subject != founder else None
            phrase = admission is not None and admission[0].phrase
            called = own[1].name if latest is not None else name
            members.append(_member(subject, by, own[1], called, phrase=phrase))
        elif admission is not None:
            body, by = admission
            members.append(_admitted(body, by, named[subject][1]))
    active = [member for member in members if member.device not in revoked]
    return Person(
        log=log,
        topic=topic,
        founded_ms=root.row.time_ms,
        name=record[1].person,
        founder=founder,
        members=tuple(active[: limits.KEY_RECIPIENTS_MAX]),
        revoked=tuple(member for member in members if member.device in revoked),
        revocations={device: tuple(entries) for device, entries in revoked.items()},
        joined=tuple(member.device for member in members if member.confirmed),
        heads=tuple(court.heads()),
        newest=rows[-1][0].id,
        proven=root.proven,
    )


def root_of(store: Store, log: int, topic: Topic, kind: LogKind) -> Root | None:
    """The entry with which a log began: the one that the log's secret was made of.

    Logs that were begun before there was such a proof have none: of these the first one in the order of
    the view, since only devices of one person know their secrets.
    """
    first: Root | None = None
    query = TimelineQuery(
        log=log, limit=limits.KEY_ENTRIES_READ_MAX, kinds=frozenset({Kind.KEY}), hidden=True
    )
    while rows := store.timeline(query):
        began = [(row, body) for row in rows if not row.seq and (body := _beginning(row, kind)) is not None]
        devices = {c.n: c.device for c in store.chain_rows({row.chain for row, _ in began})}
        for row, body in began:
            founder = devices.get(row.chain)
            if founder is None:
                continue
            if LogKeys(crypto.founding_secret(founder, body.seed, kind)).topic == topic:
                return Root(row, founder, proven=True)
            first = first or Root(row, founder, proven=False)
        query = msgspec.structs.replace(query, after=rows[-1].position)
    return first


def private_place(person: Person, root: Root) -> int | None:
    """Where a private log that began so stands among those of a person, of which the lowest counts.

    None where it is none of this person's, as one that a device left when it joined: what another device
    than the founder begins counts only if it began it for others too.
    """
    if root.founder not in person.joined:
        return None
    body = _beginning(root.row, LogKind.PRIVATE)
    read_by = {DeviceId(wrap.device) for wrap in body.wraps} if body is not None else set[DeviceId]()
    is_shared = bool(read_by.intersection(person.joined) - {root.founder})
    return person.joined.index(root.founder) if root.founder == person.founder or is_shared else None


def _beginning(row: EntryRow, kind: LogKind) -> bodies.Key | None:
    body = readable_body(row.kind, row.body)
    return body if isinstance(body, bodies.Key) and body.log == kind else None


def _placed(store: Store, log: int) -> _Placed:
    """Of each chain and kind that a person log is made of the last STORE_ROWS_MAX entries, by number."""
    found: _Placed = {}
    for place in store.places_of_kinds(log, _LINKED):
        found.setdefault((place.chain, place.kind), []).append(place)
    for key, places in found.items():
        found[key] = sorted(places, key=lambda place: place.seq)[-limits.STORE_ROWS_MAX :]
    return found


def _entries_of_members(
    store: Store, placed: _Placed, founder: DeviceId, chains: Mapping[DeviceId, Sequence[int]]
) -> tuple[list[tuple[Place, DeviceId]], dict[int, Body]]:
    """What a person log is made of, with the authors: of the founder and of all that one of these admitted.

    In the order of the view. And what those say that rule, by number.
    """
    found: list[tuple[Place, DeviceId]] = []
    read: dict[int, Body] = {}
    known, due = {founder}, [founder]
    while due:
        device = due.pop()
        for chain in chains.get(device, ()):
            for kind in _LINKED:
                places = placed.get((chain, kind), [])
                found += [(place, device) for place in places]
                if kind in _RULINGS and places:
                    read |= _read(store, kind, places)
                    said = [read[place.n] for place in places if place.n in read]
                    new = {DeviceId(body.device) for body in said if isinstance(body, bodies.Admit)} - known
                    known |= new
                    due += sorted(new)
    return sorted(found, key=lambda entry: (entry[0].rank, entry[0].id)), read


def _read(store: Store, kind: int, places: Sequence[Place]) -> dict[int, Body]:
    """What these entries of one kind say that can be read; few at once, since they may be long."""
    found: dict[int, Body] = {}
    for at in range(0, len(places), _READ_AT_ONCE):
        encoded = store.bodies([place.n for place in places[at : at + _READ_AT_ONCE]])
        for n, each in encoded.items():
            body = readable_body(kind, each)
            if body is not None:
                found[n] = body
    return found


def _rulings(
    store: Store, rows: Sequence[tuple[Place, DeviceId]], read: Mapping[int, Body]
) -> list[tuple[Ruling, bodies.Admit | bodies.Revoke]]:
    """What the entries of a person log rule, each with the rulings before it that its author knew.

    Author and reader see the same past: what is reached along parents and chains through entries of the
    kinds that a person log is made of.
    """
    parents: dict[int, list[EntryId]] = {}
    for at in range(0, len(rows), limits.STORE_ROWS_MAX):
        parents |= store.parents([row.n for row, _ in rows[at : at + limits.STORE_ROWS_MAX]])
    before: dict[tuple[int, int], EntryId] = {}
    reached: dict[EntryId, frozenset[EntryId]] = {}
    found: list[tuple[Ruling, bodies.Admit | bodies.Revoke]] = []
    for row, author in rows:
        last = before.get((row.chain, row.seq - 1))
        named = [*parents.get(row.n, ()), *((last,) if last is not None else ())]
        past = frozenset(id_ for parent in named for id_ in reached.get(parent, ()))
        before[row.chain, row.seq] = row.id
        body = read.get(row.n)
        if isinstance(body, bodies.Admit | bodies.Revoke):
            ruling = Ruling(
                id=row.id,
                rank=row.rank,
                author=author,
                subject=body.device,
                role=Role.ADMIN if isinstance(body, bodies.Admit) else Role.NONE,
                past=past,
            )
            found.append((ruling, body))
            past = frozenset({row.id})
        reached[row.id] = past
    return found


def _member(
    device: DeviceId, by: DeviceId | None, record: bodies.Device, name: str, *, phrase: bool
) -> Member:
    return Member(
        device=device,
        name=name,
        noise=record.noise,
        hpke=record.hpke,
        by=by,
        confirmed=True,
        addresses=record.addresses,
        phrase=phrase,
        word=DeviceId(record.word) if record.word is not None else None,
    )


def _admitted(body: bodies.Admit, by: DeviceId, name: str) -> Member:
    return Member(
        device=DeviceId(body.device),
        name=name,
        noise=body.noise,
        hpke=body.hpke,
        by=by,
        confirmed=False,
        phrase=body.phrase,
    )


def _record(store: Store, placed: _Placed, chains: Iterable[int]) -> tuple[Position, bodies.Device] | None:
    """The latest readable record in the chains of one device, and where it stands."""
    found = [(place.rank, place.id, place.n) for n in chains for place in placed.get((n, Kind.DEVICE), ())]
    for rank, id_, n in sorted(found, reverse=True):
        body = readable_body(Kind.DEVICE, store.bodies([n]).get(n))
        if isinstance(body, bodies.Device):
            return Position(rank, id_), body
    return None
