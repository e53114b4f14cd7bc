"""People: which devices belong together, who reads a log on, and how a new device gets its secrets.

A person is a set of devices that vouch for each other in a person log. The device that founded the
log is in it; a device that is in it admits another with an ADMIT entry, and that one confirms with
its own record, its first entry there. All of this is worked out from the log's entries in the order
of the view, so replicas with the same entries agree. docs/protocol.md, 4.6 and 17.

Two homes of one person each have a person log at first. The older one stays: this device goes over
to the oldest person log that admits it, and leaves its own to be kept and not used any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded, UserError
from mlog.log import bodies, crypto
from mlog.log.authority import Role, Ruling, decide
from mlog.log.bodies import Kind
from mlog.log.crypto import Entropy, EpochKeys, LogKeys
from mlog.log.cuts import NO_CUTS, Cuts, cuts_now, read_cuts
from mlog.log.fold import Draft, LogState
from mlog.log.ids import DeviceId, EntryId, Topic
from mlog.log.peers import PeerRow
from mlog.log.store import DeviceRow, EntryRow, LogKind, Position, Store, TimelineQuery
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = [
    "REVOKED_DEVICE",
    "Member",
    "People",
    "Person",
    "Standing",
    "accept_grant",
    "admit",
    "epoch_to_write",
    "fold_person",
    "follow",
    "grant_for",
    "key_body",
    "private_log",
    "rename",
    "revoke",
    "shared_logs",
    "stated_epochs",
]


REVOKED_DEVICE: Final = (
    "this device was revoked, and its keys are never trusted again. To use the machine again, start a new "
    "home on it ('mlog --home FOLDER'), and add that."
)
_WRAP_SIZE: Final = 1168
_RULINGS: Final = frozenset({Kind.ADMIT, Kind.REVOKE})
_LINKED: Final = _RULINGS | {Kind.KEY, Kind.DEVICE}


# -- who belongs together --------------------------------------------------------------------


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
    root = _root(store, log, LogKind.PERSON)
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


def _root(store: Store, log: int, kind: LogKind) -> EntryRow | None:
    """The entry with which a log began."""
    query = TimelineQuery(
        log=log, limit=limits.KEY_ENTRIES_READ_MAX, kinds=frozenset({Kind.KEY}), hidden=True
    )
    for row in store.timeline(query):
        body = readable_body(row.kind, row.body)
        if row.seq == 0 and isinstance(body, bodies.Key) and body.log == kind:
            return row
    return None


def _writer(store: Store, row: EntryRow) -> DeviceId | None:
    return next((chain.device for chain in store.chain_rows([row.chain])), None)


def _record(store: Store, chains: Iterable[int]) -> tuple[Position, bodies.Device] | None:
    """The latest readable record in the chains of one device, and where it stands."""
    latest: tuple[Position, bodies.Device] | None = None
    for chain in chains:
        for row in store.chain_kind(chain, Kind.DEVICE):
            body = readable_body(row.kind, row.body)
            if isinstance(body, bodies.Device) and (latest is None or latest[0] < row.position):
                latest = row.position, body
    return latest


class Standing(NamedTuple):
    """Who is who at one moment, to find out what a change of a person log changes.

    Attributes:
        stand_ins: For each confirmed device, the one that stands for its person.
        devices: Of this device's own person.
        revoked: Those that any person trusts no more.
    """

    stand_ins: Mapping[DeviceId, DeviceId]
    devices: Set[DeviceId]
    revoked: Set[DeviceId]


class People:
    """The persons that a replica's person logs tell of, and what follows from that for writing.

    Worked out when asked, and kept until something changes: `forget` says that this process changed
    something; what other processes write is noticed.
    """

    def __init__(self, store: Store, device: DeviceId):
        self._store = store
        self._device = device
        self._version = -1
        self._persons: list[Person] | None = None
        self._stand_ins: dict[DeviceId, DeviceId] = {}
        self._epochs: dict[int, EpochKeys] = {}
        self._cuts: dict[int, Cuts] = {}

    def forget(self) -> None:
        """Work everything out again when it is asked for."""
        self._persons = None
        self._epochs.clear()
        self._cuts.clear()

    def forget_log(self, log: int) -> None:
        """Look again under which epoch to write to a log, and where chains in it are cut."""
        self._epochs.pop(log, None)
        self._cuts.pop(log, None)

    def persons(self) -> list[Person]:
        """All persons, the oldest first."""
        version = self._store.data_version()
        if self._persons is None or version != self._version:
            self.forget()
            self._version = version
            found = [
                fold_person(self._store, row.n, row.topic)
                for row in self._store.logs()
                if row.kind == LogKind.PERSON
            ]
            self._persons = sorted((p for p in found if p is not None), key=lambda person: person.age)
            self._stand_ins = {}
            for person in self._persons:
                for member in (*person.members, *person.revoked):
                    if member.confirmed:
                        self._stand_ins.setdefault(member.device, person.founder)
        return self._persons

    def current(self) -> Person | None:
        """This device's own person: the oldest that admits it and to which it said yes."""
        for person in self.persons():
            member = person.member(self._device)
            if member is not None and member.confirmed:
                return person
        return None

    def stand_ins(self) -> Mapping[DeviceId, DeviceId]:
        """For each device that a person admits and that confirmed it, the device that stands for both."""
        self.persons()
        return self._stand_ins

    def stand_in(self, device: DeviceId) -> DeviceId:
        """The device that stands for the person of a device: itself, where it is of none."""
        return self.stand_ins().get(device, device)

    def is_own(self, device: DeviceId) -> bool:
        """Whether a device is this one, or of the same person."""
        return self.stand_in(device) == self.stand_in(self._device)

    def standing(self) -> Standing:
        """As it is now."""
        person = self.current()
        devices = frozenset(m.device for m in person.members) if person is not None else frozenset[DeviceId]()
        revoked = {device for person in self.persons() for device in person.revocations}
        return Standing(dict(self.stand_ins()), devices, revoked)

    def device_rows(self) -> list[DeviceRow]:
        """What devices say of themselves, each in the oldest person log that has it."""
        rows: dict[DeviceId, DeviceRow] = {}
        for person in self.persons():
            for member in (*person.members, *person.revoked):
                if member.confirmed:
                    row = DeviceRow(member.device, member.name, person.name)
                    rows.setdefault(member.device, row)
        return list(rows.values())

    def readers(self, log: int) -> tuple[Member, ...] | None:
        """The devices that may read what is written to a log now; None where no person log tells.

        Every log is for the devices of one person: a person log for its own, others for ours.
        """
        person = next((p for p in self.persons() if p.log == log), None) or self.current()
        return None if person is None else person.members

    def cuts(self, log: int) -> Cuts:
        """Where the chains of revoked devices end in a log."""
        persons = self.persons()
        found = self._cuts.get(log)
        if found is None:
            revoked = {device: person for person in persons for device in person.revocations}
            found = self._cuts[log] = read_cuts(self._store, log, revoked) if revoked else NO_CUTS
        return found

    def is_revoked(self, device: DeviceId) -> bool:
        """Whether a person that a device belonged to trusts it no more."""
        return any(device in person.revocations for person in self.persons())

    def epoch(self, state: LogState, readers: Sequence[Member]) -> EpochKeys | None:
        """The epoch under which to write, or None where a new one has to begin."""
        self.persons()
        known = self._epochs.get(state.n)
        if known is None:
            devices = frozenset(member.device for member in readers)
            known = epoch_to_write(state.keys, stated_epochs(self._store, state.n), devices)
            if known is not None:
                self._epochs[state.n] = known
        return known


# -- epochs ----------------------------------------------------------------------------------


class StatedEpoch(NamedTuple):
    """What a key entry says of its epoch.

    Attributes:
        id: The key entry.
        recipients: Devices for which it wraps the secret.
    """

    number: int
    id: EntryId
    commitment: bytes
    recipients: frozenset[bytes]


def stated_epochs(store: Store, log: int) -> list[StatedEpoch]:
    """What the latest KEY_ENTRIES_READ_MAX key entries of a log say."""
    query = TimelineQuery(
        log=log,
        limit=limits.KEY_ENTRIES_READ_MAX,
        kinds=frozenset({Kind.KEY}),
        newest_first=True,
    )
    found: list[StatedEpoch] = []
    for row in store.timeline(query):
        body = readable_body(row.kind, row.body)
        if isinstance(body, bodies.Key):
            recipients = frozenset(wrap.device for wrap in body.wraps)
            found.append(StatedEpoch(body.epoch, row.id, bytes.fromhex(body.commitment), recipients))
    return found


def epoch_to_write(keys: LogKeys, stated: Sequence[StatedEpoch], devices: Set[DeviceId]) -> EpochKeys | None:
    """Of the epochs with the greatest number, that for exactly these devices; of several the lowest id.

    One that was granted, and whose key entry has not come yet, is trusted to be for them.
    """
    newest = max((epoch.number for epoch in stated), default=0)
    if keys.current.number > newest:
        return keys.current
    known = {(epoch.number, crypto.commitment(epoch.secret)): epoch for epoch in keys.epochs}
    for epoch in sorted(stated, key=lambda epoch: epoch.id):
        if epoch.number == newest and epoch.recipients == devices:
            found = known.get((epoch.number, epoch.commitment))
            if found is not None:
                return found
    return None


def key_body(
    entropy: Entropy,
    topic: Topic,
    author: DeviceId,
    readers: Iterable[tuple[DeviceId, bytes]],
    number: int,
    secret: bytes,
    log: str = "",
) -> bodies.Key:
    """What a key entry says: an epoch secret, wrapped for each reader.

    Args:
        readers: Devices with their HPKE public keys.
        log: Kind of log, in its first entry.
    """
    wraps: list[bodies.Wrap] = []
    for device, hpke in readers:
        try:
            sealed = entropy.wrap(hpke, secret, crypto.wrap_info(topic, author, number, device))
        except InvalidInput:
            # A device that was admitted with a key that is none reads nothing, and stops nobody.
            sealed = bytes(_WRAP_SIZE)
        wraps.append(bodies.Wrap(device=device, sealed=sealed))
    return bodies.Key(epoch=number, commitment=crypto.commitment(secret).hex(), wraps=tuple(wraps), log=log)


# -- changes ---------------------------------------------------------------------------------


def admit(replica: Replica, peer: PeerRow, now_ms: int) -> None:
    """Let a device be one of this person's; every log gets an epoch that it can read.

    Does nothing where it is one already.

    Raises:
        LimitExceeded: The person has KEY_RECIPIENTS_MAX devices.
    """
    with replica.transaction():
        before, person = replica.people.standing(), replica.people.current()
        assert person is not None
        if person.member(peer.device) is not None:
            return
        if len(person.members) >= limits.KEY_RECIPIENTS_MAX:
            raise LimitExceeded(f"a person has at most {limits.KEY_RECIPIENTS_MAX} devices.")
        if replica.people.is_revoked(peer.device):
            raise UserError(REVOKED_DEVICE)
        body = bodies.Admit(device=peer.device, name=peer.name, noise=peer.noise, hpke=peer.hpke)
        replica.write(person.log, [Draft(Kind.ADMIT, body, now_ms)], now_ms)
        follow(replica, before, now_ms)
        _begin_epochs(replica, now_ms)


def rename(replica: Replica, device: DeviceId, name: str, now_ms: int) -> None:
    """Call a device of this person something else, for all its devices."""
    with replica.transaction():
        before, person = replica.people.standing(), replica.people.current()
        member = person.member(device) if person is not None else None
        assert person is not None
        assert member is not None
        body = bodies.Admit(device=device, name=name, noise=member.noise, hpke=member.hpke)
        replica.write(person.log, [Draft(Kind.ADMIT, body, now_ms)], now_ms)
        follow(replica, before, now_ms)


def revoke(replica: Replica, device: DeviceId, now_ms: int) -> None:
    """Trust a device of this person no more: it is cut in all logs, and reads nothing from now on.

    What it wrote so far, as far as it is here, still counts; what else it wrote or will write does not.
    Durable on return, all of it or nothing.

    Raises:
        UserError: It is the last device, or this one.
    """
    store = replica.store
    with replica.transaction():
        before, person = replica.people.standing(), replica.people.current()
        assert person is not None
        if device == replica.device_id:
            raise UserError("a device cannot revoke itself: do it on another one of your devices.")
        cuts = cuts_now(store, person.log, device)
        # What waits for nothing but its cut comes in as many entries as there are chains for.
        said = [bodies.Revoke(device=device, cuts=part) for part in _in_parts(cuts)]
        rows = replica.write(person.log, [Draft(Kind.REVOKE, body, now_ms) for body in said], now_ms)
        for state in shared_logs(replica):
            if state.n != person.log:
                parts = _in_parts(cuts_now(store, state.n, device))
                drafts = [
                    Draft(Kind.REVOKE, bodies.Revoke(device=device, by=rows[0].id.hex(), cuts=part), now_ms)
                    for part in parts
                ]
                replica.write_under_present_epoch(state.n, drafts, now_ms)
        follow(replica, before, now_ms)
        _begin_epochs(replica, now_ms, fresh=True)


def _in_parts(cuts: Sequence[bodies.Cut]) -> list[tuple[bodies.Cut, ...]]:
    parts = [tuple(cuts[at : at + limits.CUTS_MAX]) for at in range(0, len(cuts), limits.CUTS_MAX)]
    return parts or [()]


def follow(replica: Replica, before: Standing, now_ms: int) -> None:
    """Do what follows from new entries of a person log; within the transaction that took them.

    This device goes over to an older person that admits it; edits and erasures count anew where
    devices became one person; devices that were admitted become peers, and those that were revoked are
    peers no more, and what they wrote after their cuts counts no more.

    Args:
        before: Who was who before those entries.
    """
    store, people = replica.store, replica.people
    people.forget()
    if _join(replica, now_ms):
        _begin_epochs(replica, now_ms)
    after = people.standing()
    devices = before.stand_ins.keys() | after.stand_ins.keys()
    changed = {d for d in devices if before.stand_ins.get(d, d) != after.stand_ins.get(d, d)}
    if changed:
        for state in replica.logs():
            writers = {chain.device for chain in store.chains(state.n)}
            if len(writers) > 1 and writers & changed:
                replica.refold(state.n)
    known = {row.id: row for row in store.devices()}
    for row in people.device_rows():
        if known.get(row.id) != row:
            store.put_device(row)
    peers = {peer.device: peer for peer in store.peers()}
    for device in after.devices - before.devices - {replica.device_id}:
        _make_peer(store, people, peers.get(device), device, now_ms)
    for device in peers:
        if people.is_revoked(device):
            store.remove_peer(device)
    if after.revoked != before.revoked:
        for state in replica.logs():
            replica.recount_cut(state.n, after.revoked)


def _join(replica: Replica, now_ms: int) -> bool:
    """Confirm the oldest person that admits this device, if it is older than its own."""
    people, device = replica.people, replica.device_id
    own = people.current()
    for person in people.persons():
        if own is not None and person.age >= own.age:
            return False
        admitted = person.member(device)
        if admitted is None:
            continue
        known = own.member(device) if own is not None else None
        record = bodies.Device(
            name=known.name if known is not None else admitted.name,
            person=person.name,
            noise=replica.device_keys.noise_public,
            hpke=replica.device_keys.hpke_public,
        )
        replica.write(person.log, [Draft(Kind.DEVICE, record, now_ms)], now_ms)
        people.forget()
        # Its other devices come along: each finds itself admitted by an older person, as this one did.
        room = limits.KEY_RECIPIENTS_MAX - len(person.members)
        others = [m for m in own.members if person.member(m.device) is None] if own is not None else []
        for member in others[:room]:
            body = bodies.Admit(device=member.device, name=member.name, noise=member.noise, hpke=member.hpke)
            replica.write(person.log, [Draft(Kind.ADMIT, body, now_ms)], now_ms)
            people.forget()
        return True
    return False


def _begin_epochs(replica: Replica, now_ms: int, *, fresh: bool = False) -> None:
    for state in shared_logs(replica):
        replica.begin_epoch(state.n, now_ms, fresh=fresh)


def _make_peer(store: Store, people: People, peer: PeerRow | None, device: DeviceId, now_ms: int) -> None:
    if peer is not None:
        if not peer.own:
            store.put_peer(msgspec.structs.replace(peer, own=True))
        return
    person = people.current()
    member = person.member(device) if person is not None else None
    assert member is not None
    store.put_peer(
        PeerRow(
            device=device, name=member.name, noise=member.noise, hpke=member.hpke, own=True, added_ms=now_ms
        )
    )


def private_log(replica: Replica) -> LogState | None:
    """The private log of this person: the oldest that the founder of the person log began."""
    person = replica.people.current()
    if person is None:
        return None
    found: list[tuple[int, Topic, LogState]] = []
    for state in replica.logs(LogKind.PRIVATE):
        root = _root(replica.store, state.n, LogKind.PRIVATE)
        if root is not None and _writer(replica.store, root) == person.founder:
            found.append((root.time_ms, state.keys.topic, state))
    return min(found)[2] if found else None


def shared_logs(replica: Replica) -> list[LogState]:
    """What all devices of this person hold: person log, private log, conversations; not what was left.

    Where no person log can be read, that is all there is.
    """
    person, private = replica.people.current(), private_log(replica)
    if person is None:
        return replica.logs()
    own = {person.log, private.n if private is not None else 0}
    return [state for state in replica.logs() if state.kind == LogKind.CONVERSATION or state.n in own]


# -- grants ----------------------------------------------------------------------------------

_Secret: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=limits.SEQ_MAX)]
"""Of an epoch; 0 is the one that follows from the log's secret."""


class _Granted(msgspec.Struct, frozen=True, array_like=True):
    """One log of a grant."""

    kind: str
    topic: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    secret: _Secret
    epochs: Annotated[tuple[tuple[_Number, _Secret], ...], msgspec.Meta(max_length=limits.EPOCHS_MAX)]


_Grant: TypeAlias = Annotated[list[_Granted], msgspec.Meta(max_length=limits.GRANT_LOGS_MAX)]
_DECODER: Final = msgspec.msgpack.Decoder(_Grant)
_GRANTED_KINDS: Final = frozenset({LogKind.CONVERSATION, LogKind.PERSON, LogKind.PRIVATE})


def grant_for(
    replica: Replica, device: DeviceId, known_topics: Collection[bytes], binding: bytes
) -> bytes | None:
    """The secrets of logs that another device of this person lacks, sealed for it.

    At most GRANT_LOGS_MAX logs and about GRANT_SIZE_MAX_BYTES: while it gives something, there may
    be more once the device knows these.

    Args:
        known_topics: Logs that the device is known to have the secrets of.
        binding: 32 bytes that only this session has.

    Returns:
        None where there is nothing to grant, or the device is not of this person, or has no usable key.
    """
    person = replica.people.current()
    member = person.member(device) if person is not None else None
    if member is None or device == replica.device_id:
        return None
    granted: list[_Granted] = []
    size = 0
    for state in shared_logs(replica):
        epochs = [(epoch.number, epoch.secret) for epoch in state.keys.epochs[1:]]
        # Epochs of one number were begun by devices that did not know of each other: there may be
        # one that was not wrapped for this device, because its author had not heard of it.
        if state.keys.topic in known_topics and len(dict(epochs)) == len(epochs):
            continue
        log = _Granted(state.kind, state.keys.topic, state.keys.secret, tuple(epochs[-limits.EPOCHS_MAX :]))
        size += len(msgspec.msgpack.encode(log))
        if granted and (size > limits.GRANT_SIZE_MAX_BYTES or len(granted) == limits.GRANT_LOGS_MAX):
            break
        granted.append(log)
    return _seal_grant(replica, member, granted, binding) if granted else None


def _seal_grant(replica: Replica, member: Member, granted: list[_Granted], binding: bytes) -> bytes | None:
    info = _grant_info(replica.device_id, member.device, binding)
    key = replica.entropy.random(crypto.SECRET_SIZE)
    try:
        wrapped = replica.entropy.wrap(member.hpke, key, info)
    except InvalidInput:
        # Its own record says a key that is none: nothing can be wrapped for it.
        return None
    sealed = crypto.seal(crypto.derive("grant", key), msgspec.msgpack.encode(granted), info)
    return wrapped + sealed


def _grant_info(giver: DeviceId, recipient: DeviceId, binding: bytes) -> bytes:
    """Binds a grant to both devices and to one session."""
    assert len(binding) == 32
    return b"mlog v1 grant\0" + giver + recipient + binding


def accept_grant(
    replica: Replica, from_device: DeviceId, sealed: bytes, binding: bytes, now_ms: int
) -> list[int]:
    """Take the secrets that another device of this person sent; durable on return.

    Returns:
        Numbers of the logs that are new here.

    Raises:
        LimitExceeded: Longer than any grant.
        InvalidInput: Of a device that is not trusted as this person's, sealed for another device or
            session, or not a grant; nothing was taken.
    """
    store = replica.store
    if not any(peer.own and peer.device == from_device for peer in store.peers()):
        raise InvalidInput("secrets from a device that is not one of yours")
    granted = _open_grant(replica, from_device, sealed, binding)
    with replica.transaction():
        before = replica.people.standing()
        known = {row.topic: row for row in store.logs()}
        new: dict[Topic, tuple[LogKind, LogKeys]] = {}
        for log, keys in granted:
            row = known.get(keys.topic)
            if row is None:
                new.setdefault(keys.topic, (LogKind(log.kind), keys))
            elif row.kind == log.kind:
                replica.learn_epochs(row.n, keys.epochs[1:])
        added = replica.add_logs(list(new.values()))
        follow(replica, before, now_ms)
    return added


def _open_grant(
    replica: Replica, from_device: DeviceId, sealed: bytes, binding: bytes
) -> list[tuple[_Granted, LogKeys]]:
    if len(sealed) > _WRAP_SIZE + 2 * limits.GRANT_SIZE_MAX_BYTES:
        raise LimitExceeded(f"grant of {len(sealed)} bytes")
    info = _grant_info(from_device, replica.device_id, binding)
    key = crypto.unwrap(replica.device_keys, sealed[:_WRAP_SIZE], info)
    plain = crypto.open_sealed(crypto.derive("grant", key), sealed[_WRAP_SIZE:], info)
    try:
        granted = _DECODER.decode(plain)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"grant: {error}") from None
    opened: list[tuple[_Granted, LogKeys]] = []
    for log in granted:
        keys = LogKeys(log.secret)
        if log.kind not in _GRANTED_KINDS or keys.topic != log.topic:
            raise InvalidInput("grant of a log whose secret is another's")
        for number, secret in log.epochs:
            keys.add_epoch(EpochKeys(number, secret))
        opened.append((log, keys))
    return opened
