"""People: the persons that a replica knows of, who reads a log on, and what follows from their changes.

What a person log says by itself: mlog/log/person.py.

Two homes of one person each have a person log at first. The older one stays: this device goes over
to the oldest person log that admits it, and leaves its own to be kept and not used any more.
docs/protocol.md, 4.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from mlog import limits
from mlog.errors import LimitExceeded, UserError
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.crypto import EpochKeys
from mlog.log.cuts import NO_CUTS, Cuts, cuts_now, read_cuts
from mlog.log.epochs import epoch_to_write, stated_epochs
from mlog.log.fold import Draft, LogState
from mlog.log.ids import DeviceId, Topic
from mlog.log.peers import PeerRow
from mlog.log.person import Member, Person, fold_person, root_of, writer_of
from mlog.log.store import DeviceRow, LogKind, Store

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = [
    "REVOKED_DEVICE",
    "People",
    "Standing",
    "admit",
    "follow",
    "private_log",
    "rename",
    "revoke",
    "shared_logs",
]

REVOKED_DEVICE: Final = (
    "this device was revoked, and its keys are never trusted again. To use the machine again, start a new "
    "home on it ('mlog --home FOLDER'), and add that."
)


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
        root = root_of(replica.store, state.n, LogKind.PRIVATE)
        if root is not None and writer_of(replica.store, root) == person.founder:
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
