"""Belonging: devices are admitted, renamed, reached and revoked, and what follows from that.

What follows holds for entries of others as well: `follow` is called in each transaction that changed a
person log, whoever wrote there. Who belongs together by that: mlog/log/people.py. docs/protocol.md, 4.6.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from mlog import limits
from mlog.errors import LimitExceeded, UserError
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.cuts import cuts_now
from mlog.log.fold import Draft
from mlog.log.ids import DeviceId, EntryId
from mlog.log.peers import PeerRow, renewed
from mlog.log.people import People, Standing, shared_logs
from mlog.log.person import Member, Person
from mlog.log.roster import refresh_rosters
from mlog.log.store import Store
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = [
    "REVOKED_DEVICE",
    "admit",
    "befriend",
    "cut_later",
    "follow",
    "reach",
    "rename",
    "revoke",
    "revoke_too",
]

REVOKED_DEVICE: Final = (
    "this device was revoked, and its keys are never trusted again. To use the machine again, start a new "
    "home on it ('mlog --home FOLDER'), and add that."
)


def admit(replica: Replica, peer: PeerRow, now_ms: int, *, phrase: bool = False) -> None:
    """Let a device be one of this person's; every log gets an epoch that it can read.

    Does nothing where it is one already.

    Args:
        phrase: It is a recovery phrase: nobody connects to it.

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
        body = bodies.Admit(
            device=peer.device, name=peer.name, noise=peer.noise, hpke=peer.hpke, phrase=phrase
        )
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
            if state.n != person.log and replica.people.may_write(state.n):
                drafts = _cut_by(store, state.n, device, rows[0].id, now_ms)
                replica.write_under_present_epoch(state.n, drafts, now_ms)
        follow(replica, before, now_ms)
        _begin_epochs(replica, now_ms, fresh=True)


def revoke_too(replica: Replica, now_ms: int) -> bool:
    """Revoke the devices of this person that another one, which they belonged to as well, revoked; whether
    there were any. Durable.

    They are none of this person's in any case; where what they wrote for it ends, its own log has to say.
    """
    person = replica.people.current()
    found = _revoked_elsewhere(person) if person is not None else []
    for device in found:
        revoke(replica, device, now_ms)
    return bool(found)


def _revoked_elsewhere(person: Person) -> list[DeviceId]:
    """The devices of a person that another one revoked, and its own log did not."""
    return [member.device for member in person.revoked if member.device not in person.revocations]


def cut_later(replica: Replica, logs: Collection[int], now_ms: int) -> bool:
    """Cut the devices that this one revoked in logs that it had not then; whether there were any. Durable.

    Called when all is here that another device has: what came so far of them counts, and nothing more.
    """
    people, store = replica.people, replica.store
    person = people.current()
    own: dict[DeviceId, list[EntryId]] = {}
    for device, entries in person.revocations.items() if person is not None else ():
        if ids := [entry.id for entry in entries if entry.by == replica.device_id]:
            own[device] = ids
    if person is None or not own or people.is_revoked(replica.device_id):
        return False
    found = False
    for state in shared_logs(replica):
        if state.n not in logs or state.n == person.log or not people.may_write(state.n):
            continue
        said = _cut_in(replica, state.n)
        due = {device: ids[0] for device, ids in own.items() if said.isdisjoint(ids)}
        for device in sorted(due.keys() & people.secret_known_to(state.n)) if due else ():
            replica.rule(state.n, _cut_by(store, state.n, device, due[device], now_ms), now_ms)
            replica.begin_epoch(state.n, now_ms)
            found = True
    return found


def _cut_in(replica: Replica, log: int) -> set[EntryId]:
    """The revocations by which this device cut others in a log."""
    store = replica.store
    # By its own chains: others may have written very many that say something else.
    own = [chain.n for chain in store.chains(log) if chain.device == replica.device_id]
    said = (readable_body(row.kind, row.body) for n in own for row in store.chain_kind(n, Kind.REVOKE))
    return {EntryId(bytes.fromhex(body.by)) for body in said if isinstance(body, bodies.Revoke)}


def _cut_by(store: Store, log: int, device: DeviceId, by: EntryId, now_ms: int) -> list[Draft]:
    return [
        Draft(Kind.REVOKE, bodies.Revoke(device=device, by=by.hex(), cuts=part), now_ms)
        for part in _in_parts(cuts_now(store, log, device))
    ]


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
    if _went_back(replica, before):
        # Before their word is taken again.
        for device in before.devices - people.standing().devices:
            store.remove_peer(device)
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
    for log, roles in after.roles.items():
        if roles != before.roles.get(log):
            replica.refold(log, frozenset({Kind.ERASURE}))
    known = {row.id: row for row in store.devices()}
    for row in people.device_rows():
        if known.get(row.id) != row:
            store.put_device(row)
    peers = {peer.device: peer for peer in store.peers()}
    for device in after.devices - before.devices - {replica.device_id}:
        _make_peer(store, people, peers.get(device), device, now_ms)
    # Also whom somebody let in who was revoked at the same time.
    gone = before.devices - after.devices if before.person == after.person else frozenset[DeviceId]()
    own = people.current()
    for device in peers:
        # Also whom its own person revoked that has not gone over to it yet.
        if device in gone or people.is_revoked(device) or (own is not None and device in own.revocations):
            store.remove_peer(device)
    befriend(replica, now_ms)
    for log, ends in after.ends.items():
        replica.recount(log, {n: {was} for n, was in before.ends.get(log, {}).items()}, ends)


def _went_back(replica: Replica, before: Standing) -> bool:
    """Whether this device was of a person to which a device took it that turns out to be revoked."""
    was = next((person for person in replica.people.persons() if person.topic == before.person), None)
    return was is not None and any(member.device == replica.device_id for member in was.astray)


def befriend(replica: Replica, now_ms: int) -> None:
    """Let the devices of the persons whom we meet connect, and those of no others any more."""
    store, people = replica.store, replica.people
    met = {
        contact.device
        for topic, contact in people.contacts().items()
        if people.subject_of_topic(topic) == topic
    }
    devices: dict[DeviceId, tuple[Member, str]] = {}
    for subject, person in people.acquaintances().items():
        contact = people.contact_of(subject)
        for member in person.machines:
            if member.confirmed and not people.is_own(member.device):
                devices[member.device] = member, contact.name if contact is not None else person.name
    known = {peer.device: peer for peer in store.peers()}
    for device, peer in known.items():
        # Who was removed from a conversation is told so when it connects.
        if not peer.own and device not in devices and device not in met and not people.removed_from(device):
            store.remove_peer(device)
    for device, (member, name) in devices.items():
        peer = known.get(device)
        if peer is not None and peer.own:
            continue
        row = PeerRow(
            device=device,
            name=f"{name} ({member.name})",
            noise=member.noise,
            hpke=member.hpke,
            own=False,
            addresses=_merged(member.addresses, peer),
            added_ms=now_ms,
        )
        if renewed(row, peer) != peer:
            store.put_peer(renewed(row, peer))
    own = people.current()
    for member in own.members if own is not None else ():
        peer = known.get(member.device)
        if peer is not None and peer.own and (addresses := _merged(member.addresses, peer)) != peer.addresses:
            store.put_peer(msgspec.structs.replace(peer, addresses=addresses))
    refresh_rosters(replica)


def _merged(said: Sequence[str], peer: PeerRow | None) -> tuple[str, ...]:
    """Where to try a device: where it was met, then where it says that it is."""
    met = peer.addresses if peer is not None else ()
    return tuple(dict.fromkeys((*met, *said)))[: limits.PEER_ADDRESSES_MAX]


def reach(replica: Replica, addresses: Sequence[str], now_ms: int) -> None:
    """Tell all who may connect where this device can be reached."""
    with replica.transaction():
        before, person = replica.people.standing(), replica.people.current()
        member = person.member(replica.device_id) if person is not None else None
        assert person is not None
        assert member is not None
        record = bodies.Device(
            name=member.name,
            person=person.name,
            noise=member.noise,
            hpke=member.hpke,
            addresses=tuple(addresses),
            word=member.word,
        )
        replica.write(person.log, [Draft(Kind.DEVICE, record, now_ms)], now_ms)
        follow(replica, before, now_ms)


def _join(replica: Replica, now_ms: int) -> bool:
    """Confirm the oldest person that admits this device, if it is older than its own."""
    people, device = replica.people, replica.device_id
    own = people.current()
    trusted = replica.trusted()
    for person in people.persons():
        if own is not None and person.age >= own.age:
            return False
        admitted = next((m for m in (*person.members, *person.astray) if m.device == device), None)
        # Whom we only know as somebody else cannot make us a part of them.
        words = [m.device for m in person.members if m.confirmed and m.device in trusted]
        if admitted is None or not words:
            continue
        known = own.member(device) if own is not None else None
        gone = _revoked_elsewhere(person)
        record = bodies.Device(
            name=known.name if known is not None else admitted.name,
            person=person.name,
            noise=replica.device_keys.noise_public,
            hpke=replica.device_keys.hpke_public,
            # Rather of one that it was paired with than of one that comes along as well.
            word=next((w for w in words if own is None or own.member(w) is None), words[0]),
        )
        replica.write(person.log, [Draft(Kind.DEVICE, record, now_ms)], now_ms)
        people.forget()
        # Its other devices come along: each finds itself admitted by an older person, as this one did.
        room = limits.KEY_RECIPIENTS_MAX - len(person.members)
        others = [m for m in own.members if person.member(m.device) is None] if own is not None else []
        for member in others[:room]:
            body = bodies.Admit(
                device=member.device,
                name=member.name,
                noise=member.noise,
                hpke=member.hpke,
                phrase=member.phrase,
            )
            replica.write(person.log, [Draft(Kind.ADMIT, body, now_ms)], now_ms)
            people.forget()
        # What was said of them in the log that is left says nothing here any more.
        for device in gone:
            revoke(replica, device, now_ms)
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
    if member.phrase:
        return
    store.put_peer(
        PeerRow(
            device=device, name=member.name, noise=member.noise, hpke=member.hpke, own=True, added_ms=now_ms
        )
    )
