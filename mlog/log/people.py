"""People: the persons that a replica knows of, who reads a log on, and what follows from their changes.

What a person log says by itself: mlog/log/person.py.

Two homes of one person each have a person log at first. The older one stays: this device goes over
to the oldest person log that admits it, and leaves its own to be kept and not used any more.
docs/protocol.md, 4.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mlog import limits
from mlog.log.authority import Role, Ruling
from mlog.log.contacts import Contact, fold_contacts
from mlog.log.crypto import EpochKeys
from mlog.log.cuts import Counts, Cuts, Ends, EndsOf, Part, device_ends
from mlog.log.epochs import StatedEpoch, epoch_to_write, known_epochs, stated_all, stated_epochs
from mlog.log.fold import LogState
from mlog.log.ids import DeviceId, EntryId, Topic
from mlog.log.membership import Membership, fold_membership, has_members
from mlog.log.person import Member, Person, Root, fold_person, private_place, root_of
from mlog.log.reconciling import Revokers, reconciled
from mlog.log.store import DeviceRow, EntryRow, LogKind, LogRow, Store
from mlog.log.stored import named_by

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = [
    "People",
    "Standing",
    "private_log",
    "shared_logs",
]


Roles: TypeAlias = tuple[bytes, tuple[Ruling, ...]] | None
"""What all roles in a conversation follow from: the founder, and the rulings; None where nobody ruled."""


class Standing(NamedTuple):
    """Who is who at one moment, to find out what a change of a person log changes.

    Attributes:
        person: This device's own.
        stand_ins: For each confirmed device, the one that stands for its person.
        devices: Of this device's own person.
        ends: By log, the chain rows that do not count wholly, with the numbers that do.
        roles: By log, what says who has which role in it.
    """

    person: Topic | None
    stand_ins: Mapping[DeviceId, DeviceId]
    devices: Set[DeviceId]
    ends: Mapping[int, Mapping[int, Counts]]
    roles: Mapping[int, Roles]


class People:
    """The persons that a replica's person logs tell of, and what follows from that: who belongs to which
    conversation, who reads on, whose entries count, and who may have what.

    A person's **subject** is the device that stands for it, or the topic of a person log that is not here.

    Worked out when asked, and kept until something changes: `forget` says that this process changed
    something; what other processes write is noticed.
    """

    def __init__(self, store: Store, device: DeviceId):
        self._store = store
        self._device = device
        self._version = -1
        self._persons: list[Person] | None = None
        self._stand_ins: dict[DeviceId, DeviceId] = {}
        self._by_subject: dict[bytes, Person] = {}
        self._subjects: dict[Topic, DeviceId] = {}
        self._revoked: dict[DeviceId, Person] = {}
        self._contacts: dict[Topic, Contact] | None = None
        self._private: int | None = None
        self._roots: dict[int, Root] = {}
        self._epochs: dict[int, EpochKeys] = {}
        self._cuts: dict[int, Cuts] = {}
        self._judged: dict[int, dict[int, set[Counts | None]]] = {}
        self._memberships: dict[int, Membership | None] = {}
        self._shared: dict[DeviceId, Mapping[int, bool]] = {}
        self._stated: dict[tuple[int, bytes], dict[tuple[int, bytes], bool]] = {}

    def forget(self) -> None:
        """Work everything out again when it is asked for."""
        self._persons = None
        self._contacts = None
        self._private = None
        self._stated.clear()
        for cache in (self._roots, self._epochs, self._cuts, self._memberships, self._shared):
            cache.clear()

    def forget_log(self, log: int) -> None:
        """Look again who belongs to a log, under which epoch it is written, and where chains in it end."""
        for cache in (self._epochs, self._cuts, self._memberships):
            cache.pop(log, None)
        self._shared.clear()
        self._stated.clear()

    def forget_keys(self, log: int) -> None:
        """Look again what key entries of a log say; who belongs to it they tell only where nobody knew."""
        root = self._roots.get(log)
        if root is not None and not root.proven:
            del self._roots[log]
        if log not in self._roots or (self._memberships.get(log) is None and has_members(self._store, log)):
            self.forget_log(log)
        self._epochs.pop(log, None)
        self._shared.clear()
        self._stated.clear()

    def forget_shared(self) -> None:
        """Look again which device of another person may have what."""
        self._shared.clear()

    def forget_epoch(self, log: int) -> None:
        """Look again under which epoch to write to a log."""
        self._epochs.pop(log, None)

    # -- persons -----------------------------------------------------------------------------

    def persons(self) -> list[Person]:
        """All persons, the oldest first."""
        version = self._store.data_version()
        if self._persons is None or version != self._version:
            self.forget()
            self._version = version
            found = [
                fold_person(self._store, row.n, row.topic)
                for row in self._store.logs()
                if row.kind == LogKind.PERSON and row.secret
            ]
            said = sorted((p for p in found if p is not None), key=lambda person: person.age)
            self._persons, revokers = reconciled(said)
            self._index(self._persons, revokers)
        return self._persons

    def _index(self, persons: Sequence[Person], revokers: Revokers) -> None:
        self._stand_ins = {}
        self._by_subject = {}
        for person in persons:
            for member in (*person.members, *person.revoked):
                if member.confirmed:
                    self._stand_ins.setdefault(member.device, person.founder)
        # Of several persons the oldest: nobody founds one that cuts its own device elsewhere.
        self._revoked = {device: found[0] for device, found in revokers.items()}
        for person in persons:
            self._by_subject.setdefault(person.founder, person)
            for device in person.revocations.keys() - self._stand_ins.keys():
                # Nobody revokes the device of another person by admitting it unasked.
                self._revoked.setdefault(device, person)
        # Also where it went over to an older person: what it said is of the one that it was.
        self._stand_ins |= {device: found[0].founder for device, found in revokers.items()}
        self._subjects = {
            p.topic: p.founder
            if any(p.topic == revoker.topic for revoker in revokers.get(p.founder, ()))
            else self._stand_ins.get(p.founder, p.founder)
            for p in persons
        }

    def current(self) -> Person | None:
        """This device's own person: the oldest that admits it and to which it said yes."""
        for person in self.persons():
            member = person.member(self._device)
            if member is not None and member.confirmed:
                return person
        return None

    def person_of(self, subject: bytes) -> Person | None:
        """The person with this subject, if its log is here."""
        self.persons()
        return self._by_subject.get(subject)

    def subject_of(self, device: DeviceId) -> DeviceId | None:
        """The subject of the person of a device; None where no person log here has it."""
        return self.stand_ins().get(device)

    def subject_of_topic(self, topic: Topic) -> bytes:
        """The subject of the person with this log."""
        self.persons()
        return self._subjects.get(topic, topic)

    def subject(self) -> DeviceId:
        """The subject of this device's own person."""
        return self.stand_in(self._device)

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

    def is_revoked(self, device: DeviceId) -> bool:
        """Whether a person that a device belonged to trusts it no more."""
        self.persons()
        return device in self._revoked

    def _revocations_by_device(self, devices: Iterable[bytes]) -> dict[DeviceId, set[EntryId]]:
        self.persons()
        revoked = [device for device in map(DeviceId, devices) if device in self._revoked]
        return {device: {r.id for r in self._revoked[device].revocations[device]} for device in revoked}

    def device_rows(self) -> list[DeviceRow]:
        """What devices say of themselves, each in the oldest person log that has it."""
        rows: dict[DeviceId, DeviceRow] = {}
        for person in self.persons():
            for member in (*person.members, *person.revoked):
                if member.confirmed:
                    stands_for = self._by_subject.get(self._subjects[person.topic], person)
                    row = DeviceRow(member.device, member.name, person.name, stands_for.topic)
                    rows.setdefault(member.device, row)
        return list(rows.values())

    def standing(self) -> Standing:
        """As it is now."""
        person = self.current()
        devices = frozenset(m.device for m in person.members) if person is not None else frozenset[DeviceId]()
        logs = [row.n for row in self._store.logs() if row.secret]
        ends, roles = {n: self.ends(n) for n in logs}, {n: self.roles(n) for n in logs}
        topic = person.topic if person is not None else None
        return Standing(topic, dict(self.stand_ins()), devices, ends, roles)

    # -- contacts ----------------------------------------------------------------------------

    def private_log(self) -> int | None:
        """The private log of this person: the oldest that the founder of the person log began; while none of
        these is here, of those that other devices began for all the one of who joined first."""
        person = self.current()
        if self._private is None:
            found: list[tuple[int, int, Topic, int]] = []
            for row in self._store.logs() if person is not None else ():
                root = self._root(row) if row.kind == LogKind.PRIVATE and row.secret else None
                place = private_place(person, root) if root is not None and person is not None else None
                if root is not None and place is not None:
                    found.append((place, root.row.time_ms, row.topic, row.n))
            if not found:
                # Its first entry may be on its way; nobody says so when it comes.
                return None
            self._private = min(found)[3]
        return self._private

    def contacts(self) -> Mapping[Topic, Contact]:
        """The persons whom this one accepted."""
        self.persons()
        if self._contacts is None:
            private = self.private_log()
            self._contacts = fold_contacts(self._store, private) if private is not None else {}
        return self._contacts

    def contact_of(self, subject: bytes) -> Contact | None:
        """The contact with this subject, if it is one."""
        return next((c for t, c in self.contacts().items() if self.subject_of_topic(t) == subject), None)

    def _root(self, row: LogRow) -> Root | None:
        root = self._roots.get(row.n)
        if root is None and (root := root_of(self._store, row.n, row.topic, row.kind)) is not None:
            self._roots[row.n] = root
        return root

    # -- conversations -----------------------------------------------------------------------

    def membership(self, log: int) -> Membership | None:
        """Who belongs to a conversation; None where nobody ever ruled about that: it is of one person."""
        self.persons()
        if log not in self._memberships:
            self._memberships[log] = self._fold_membership(log)
        return self._memberships[log]

    def _fold_membership(self, log: int) -> Membership | None:
        if not has_members(self._store, log):
            return None
        row = next((row for row in self._store.logs() if row.n == log), None)
        root = self._root(row) if row is not None and row.kind == LogKind.CONVERSATION else None
        if root is None or not root.proven:
            return None
        rule = device_ends(self._store, log, self._revoked)
        return fold_membership(
            self._store,
            log,
            self.subject_of(root.founder) or root.founder,
            subject_of=self.subject_of,
            subject_of_topic=self.subject_of_topic,
            revoked=Cuts(self._store, log, [rule] if rule is not None else []),
        )

    def names(self) -> Mapping[bytes, str]:
        """By subject, what persons are called here: as contacts, else as they call themselves."""
        found = {person.founder: person.name for person in reversed(self.persons())}
        return found | {self.subject_of_topic(t): contact.name for t, contact in self.contacts().items()}

    def began_ms(self, log: int) -> int:
        """When a log was begun, as who began it claims; 0 while that is not here."""
        row = next((row for row in self._store.logs() if row.n == log), None)
        root = self._root(row) if row is not None else None
        return root.row.time_ms if root is not None else 0

    def is_proven(self, log: int) -> bool:
        """Whether nobody can claim to have begun a log but who did."""
        row = next((row for row in self._store.logs() if row.n == log), None)
        root = self._root(row) if row is not None else None
        return root is not None and root.proven

    def roles(self, log: int) -> Roles:
        """What all roles in a log follow from."""
        membership = self.membership(log)
        return (membership.founder, membership.rulings) if membership is not None else None

    def role(self, log: int) -> Role:
        """The role of this device's own person in a conversation."""
        membership = self.membership(log)
        return Role.ADMIN if membership is None else membership.role(self.subject())

    def may_write(self, log: int) -> bool:
        """Whether what is written here to a log counts: to one's own logs, and where one is a member."""
        person = next((p for p in self.persons() if p.log == log), None)
        if person is not None:
            return person.member(self._device) is not None
        return self.role(log) != Role.NONE and self.has_begun(log)

    def has_begun(self, log: int) -> bool:
        """Whether a chain may be begun in a log: until its beginning, an epoch, and of what others began who
        belongs to it, is here, nobody knows that, and a chain that begins without counts for nothing."""
        row = next((row for row in self._store.logs() if row.n == log), None)
        if row is None:
            return True
        root = self._root(row)
        if root is not None and self._store.epochs(log):
            is_ours = self.current() is None or self.is_own(root.founder)
            if is_ours or row.kind != LogKind.CONVERSATION or self.membership(log) is not None:
                return True
        return any(chain.device == self._device for chain in self._store.chains(log))

    def heads(self, log: int) -> tuple[EntryId, ...]:
        """The rulings in a log that no other one knows: what an entry that needs a right names."""
        person = next((p for p in self.persons() if p.log == log), None)
        if person is not None:
            return person.heads[: limits.PARENTS_MAX // 4]
        membership = self.membership(log)
        return membership.heads if membership is not None else ()

    def erasers(self, log: int, rows: Sequence[EntryRow]) -> set[int]:
        """Those of these erasures that an admin made, who may erase what others said, by their number."""
        membership = self.membership(log) if rows else None
        if membership is None:
            return set()
        return self._with_right(rows, lambda who, known: membership.role_at(who, known) == Role.ADMIN)

    def setters(self, log: int, rows: Sequence[EntryRow]) -> set[int]:
        """Those of these EXPIRE entries whose authors could rule about others, by their number."""
        membership = self.membership(log) if rows else None
        if membership is None:
            return {row.n for row in rows}
        return self._with_right(rows, membership.may_rule_at)

    def _with_right(
        self, rows: Sequence[EntryRow], may: Callable[[bytes | None, Sequence[EntryId]], bool]
    ) -> set[int]:
        """Those of these entries whose author had a right, by the rulings that each names."""
        named = named_by(self._store, rows)
        devices = {c.n: c.device for c in self._store.chain_rows({row.chain for row in rows})}
        return {
            row.n
            for row in rows
            if row.chain in devices and may(self.subject_of(devices[row.chain]), named[row.n])
        }

    def cuts(self, log: int) -> Cuts:
        """Where chains in a log end that do not count beyond."""
        persons = self.persons()
        found = self._cuts.get(log)
        if found is None:
            person = next((p for p in persons if p.log == log), None)
            of_log = dict.fromkeys(person.revocations, person) if person is not None else {}
            membership, own = self.membership(log), self.current()
            if person is None and membership is None and own is not None:
                # In its own logs a person's own word on its devices comes before that of others.
                of_log = {**self._revoked, **dict.fromkeys(own.revocations, own)}
            rules = [
                device_ends(self._store, log, of_log or self._revoked),
                membership.ends_of if membership is not None else None,
                _ends_of_others(person) if person is not None and person.proven else None,
            ]
            kept = [rule for rule in rules if rule is not None]
            # What entries were folded by is known also where it is worked out again meanwhile.
            judged, of_rulings = self._judged.setdefault(log, {}), membership and membership.revoked
            found = self._cuts[log] = Cuts(self._store, log, kept, judged, of_rulings)
        return found

    def ends(self, log: int) -> dict[int, Counts]:
        """The chain rows of a log that do not count wholly, with the numbers that do."""
        return self.cuts(log).limited()

    # -- who reads ---------------------------------------------------------------------------

    def readers(self, log: int) -> tuple[Member, ...] | None:
        """The devices that may read what is written to a log now; None where no person log tells.

        A person log is for its own devices, a conversation for those of its members, the rest for ours.
        Where members have more than KEY_RECIPIENTS_MAX devices in all, each has its first ones.
        """
        persons = self._belonging(log)
        if persons is None:
            return None
        found: dict[DeviceId, Member] = {}
        for members in zip_longest(*(person.members for person in persons)):
            for member in members:
                if member is not None and len(found) < limits.KEY_RECIPIENTS_MAX:
                    found.setdefault(member.device, member)
        return tuple(found.values())

    def epoch(self, state: LogState, readers: Sequence[Member]) -> EpochKeys | None:
        """The epoch under which to write, or None where a new one has to begin."""
        self.persons()
        known = self._epochs.get(state.n)
        if known is None:
            devices = frozenset(member.device for member in readers)
            stated, membership = stated_epochs(self._store, state.n, self.cuts(state.n)), None
            if state.kind == LogKind.CONVERSATION:
                membership = self.membership(state.n)
            revoked = self.revocations_for(state.n, stated)
            stated = [
                epoch
                for epoch in stated
                if (membership is None or membership.knew_removals(epoch.parents))
                and _knew(epoch.without, revoked)
            ]
            known = epoch_to_write(state.keys, stated, devices)
            if known is not None:
                self._epochs[state.n] = known
        return known

    def revocations_for(self, log: int, stated: Sequence[StatedEpoch]) -> Mapping[DeviceId, Set[EntryId]]:
        """By device, the revocations that who begins an epoch of a log knows: of those who had one before,
        and of all devices of the persons who belong to it, since any of them may have been granted one.

        Args:
            stated: The epochs of before.
        """
        devices = _recipients(stated)
        for person in self._belonging(log) or ():
            devices.update(person.revocations)
        return self._revocations_by_device(devices)

    def _belonging(self, log: int) -> list[Person] | None:
        """The persons whose devices may read what is written to a log now; None where no person log tells."""
        person = next((p for p in self.persons() if p.log == log), None)
        membership = self.membership(log) if person is None else None
        if membership is None:
            person = person or self.current()
            return [person] if person is not None else None
        found = (self._by_subject.get(joined.subject) for joined in membership.joined())
        return [person for person in found if person is not None]

    def present_epoch(self, state: LogState) -> EpochKeys:
        """The epoch that those know who read so far: what changes who reads on is sealed under it.

        Only what key entries state counts for that.
        """
        known = known_epochs(state.keys)
        stated = stated_epochs(self._store, state.n, self.cuts(state.n))
        found = [known[s.number, s.commitment] for s in stated if (s.number, s.commitment) in known]
        return max(found, key=lambda epoch: epoch.number, default=state.keys.current)

    def secret_known_to(self, log: int) -> Set[DeviceId]:
        """The devices that can write to a log, whether that counts or not, as far as the log tells."""
        recipients = _recipients(stated_epochs(self._store, log, hidden=True))
        return recipients.union(chain.device for chain in self._store.chains(log))

    # -- who may have what -------------------------------------------------------------------

    def shared_with(self, device: DeviceId) -> Set[int]:
        """The logs that a device of another person may have: what it is offered, asked for, and sent.

        A contact has our person log, and may bring logs that we know nothing of yet; who is a member of
        a conversation with us has that, and the person logs of all that belong or belonged to it.
        """
        return self._shared_with(device).keys()

    def granted_to(self, device: DeviceId) -> Set[int]:
        """Those of these logs whose secrets a device of another person may have of us."""
        return {n for n, granted in self._shared_with(device).items() if granted}

    def reads_all(self, log: int, device: DeviceId) -> bool:
        """Whether the person of a device may read what was written to a log before it came."""
        membership, subject = self.membership(log), self.subject_of(device)
        return membership is None or subject is None or membership.has_history(subject)

    def closed_to(self, state: LogState, device: DeviceId) -> Set[EpochKeys]:
        """The epochs of which we know the secret, and may give a device of another person the outline alone.

        Who joined without the history may have those whose key entries all knew it as a member: one alone
        may say anything of an epoch that it does not know.
        """
        membership, subject = self.membership(state.n), self.subject_of(device)
        if membership is None or subject is None or membership.has_history(subject):
            return frozenset()
        stated = self._stated_to(state.n, subject, membership)
        return {epoch for key, epoch in known_epochs(state.keys).items() if not stated.get(key, False)}

    def _stated_to(
        self, log: int, subject: bytes, membership: Membership
    ) -> Mapping[tuple[int, bytes], bool]:
        """By number and commitment of an epoch whether all key entries of it knew a person as a member."""
        found = self._stated.get((log, subject))
        if found is None:
            found = self._stated[log, subject] = dict[tuple[int, bytes], bool]()
            for epoch in stated_all(self._store, log):
                key = epoch.number, epoch.commitment
                knew = membership.role_at(subject, epoch.parents) != Role.NONE
                found[key] = found.get(key, True) and knew
        return found

    def is_contact(self, device: DeviceId) -> bool:
        """Whether a device is of a person whom we accepted."""
        subject = self.subject_of(device)
        if subject is not None:
            member = self._by_subject[subject].member(device)
            return member is not None and member.confirmed and self.contact_of(subject) is not None
        # Until the person's log is here, the device with which we met stands for it.
        met = (topic for topic, contact in self.contacts().items() if contact.device == device)
        return any(self.subject_of_topic(topic) == topic for topic in met)

    def _shared_with(self, device: DeviceId) -> Mapping[int, bool]:
        self.persons()
        if device not in self._shared:
            self._shared[device] = dict(self._may_have(device))
        return self._shared[device]

    def _may_have(self, device: DeviceId) -> Iterable[tuple[int, bool]]:
        """Logs, each with whether its secrets may be granted."""
        own, subject = self.current(), self.subject_of(device)
        if own is None or self.is_revoked(device) or self.is_own(device):
            return
        is_contact, subjects = self.is_contact(device), set[bytes]()
        if subject is not None:
            member = self._by_subject[subject].member(device)
            if member is None or not member.confirmed:
                return
            subjects.add(subject)
        rows = [row for row in self._store.logs() if row.secret]
        common = self._common(rows, subject) if subject is not None else {}
        if not is_contact and not common:
            return
        for n, membership in common.items():
            subjects |= membership.subjects()
            yield n, True
        persons = {person.log: person for person in self.persons()}
        known = self.known() if is_contact else frozenset[bytes]()
        for row in rows:
            if row.kind == LogKind.PERSON:
                person = persons.get(row.n)
                if person is not None and (row.n == own.log or self._subjects[person.topic] in subjects):
                    yield row.n, True
                elif is_contact and (person is None or self._subjects[person.topic] not in known):
                    # A contact that joins an older person brings that one's log, which says so at its end.
                    yield row.n, False
            elif row.kind == LogKind.CONVERSATION and self._may_bring(row, subject, is_contact=is_contact):
                yield row.n, False

    def _may_bring(self, row: LogRow, subject: bytes | None, *, is_contact: bool) -> bool:
        """Whether another person may go on giving a conversation that, as far as we know, is not ours.

        It has just been granted, or we were removed from it and may have been let in again.
        """
        membership = self.membership(row.n)
        if membership is not None:
            is_member = membership.role(subject) != Role.NONE
            return membership.role(self.subject()) == Role.NONE and (is_contact or is_member)
        root = self._root(row)
        if root is not None and root.proven:
            # Also where a device of ours wrote already that knew who belongs to it.
            return is_contact and not self.is_own(root.founder)
        return is_contact and not any(self.is_own(chain.device) for chain in self._store.chains(row.n))

    def removed_from(self, device: DeviceId) -> list[int]:
        """The conversations of ours from which the person of a device was removed, and has to be told."""
        subject = self.subject_of(device) if not self.is_revoked(self._device) else None
        member = self._by_subject[subject].member(device) if subject is not None else None
        if subject is None or member is None or not member.confirmed or self.is_own(device):
            return []
        found: list[int] = []
        for row in self._store.logs():
            membership = self.membership(row.n) if row.kind == LogKind.CONVERSATION and row.secret else None
            if membership is not None and membership.was_removed(subject):
                found += [row.n] if membership.role(self.subject()) != Role.NONE else []
        return found

    def _common(self, rows: Iterable[LogRow], subject: bytes) -> dict[int, Membership]:
        """The conversations to which both we and another person belong."""
        found: dict[int, Membership] = {}
        for row in rows:
            membership = self.membership(row.n) if row.kind == LogKind.CONVERSATION else None
            if (
                membership is not None
                and membership.role(subject) != Role.NONE
                and membership.role(self.subject()) != Role.NONE
            ):
                found[row.n] = membership
        return found

    def acquaintances(self) -> dict[bytes, Person]:
        """By subject, the other persons whom we meet: contacts, and members of common conversations; for a
        device that was revoked none, as far as it knows."""
        found: dict[bytes, Person] = {}
        if self.is_revoked(self._device):
            return found
        subjects = [self.subject_of_topic(topic) for topic in self.contacts()]
        for row in self._store.logs():
            membership = self.membership(row.n) if row.kind == LogKind.CONVERSATION and row.secret else None
            if membership is not None and membership.role(self.subject()) != Role.NONE:
                subjects += [joined.subject for joined in membership.joined()]
        for subject in subjects:
            person = self._by_subject.get(subject)
            if person is not None and subject != self.subject():
                found[subject] = person
        return found

    def known(self) -> Set[bytes]:
        """The subjects of this person, its contacts, and all who belong or belonged to its conversations."""
        found = {self.subject(), *(self.subject_of_topic(topic) for topic in self.contacts())}
        for row in self._store.logs():
            membership = self.membership(row.n) if row.kind == LogKind.CONVERSATION and row.secret else None
            if membership is not None:
                found |= membership.subjects()
        return found

    def persons_to_share(self) -> list[int]:
        """The person logs besides our own that all our devices need: of those we meet or met, and logs of
        our own that we left and that a conversation names, or in which alone a phrase of ours said yes."""
        own, subjects, topics = self.subject(), set[bytes](), set[Topic]()
        subjects.update(self.subject_of_topic(topic) for topic in self.contacts())
        for row in self._store.logs():
            membership = self.membership(row.n) if row.kind == LogKind.CONVERSATION and row.secret else None
            if membership is not None:
                subjects |= membership.subjects()
                topics |= membership.named()
        current = self.current()
        phrases = current.phrases if current is not None else ()
        unsure = {phrase.device for phrase in phrases if not phrase.confirmed}
        return [
            p.log
            for p in self.persons()
            if (current is None or p.log != current.log)
            and (
                p.topic in topics
                or (self._subjects[p.topic] in subjects and self._subjects[p.topic] != own)
                or not unsure.isdisjoint(p.joined)
            )
        ]


def _recipients(stated: Iterable[StatedEpoch]) -> set[DeviceId]:
    """The devices for which any of these epochs was wrapped."""
    return {DeviceId(device) for epoch in stated for device in epoch.recipients}


def _knew(without: Sequence[bytes], revoked: Mapping[DeviceId, Set[EntryId]]) -> bool:
    """Whether who names these revocations knew of all devices that they were revoked, or names all it can."""
    named = set(map(EntryId, without))
    return len(named) >= limits.KEY_RECIPIENTS_MAX or all(ids & named for ids in revoked.values())


def _ends_of_others(person: Person) -> EndsOf:
    """In a person log only the entries of the person's own devices count."""
    admitted = person.admitted()

    def ends_of(part: Part) -> Ends | None:
        return None if part.chain.device in admitted else frozenset()

    return ends_of


# -- changes ---------------------------------------------------------------------------------


def private_log(replica: Replica) -> LogState | None:
    """The private log of this person (`People.private_log`)."""
    n = replica.people.private_log()
    return replica.log(n) if n is not None else None


def shared_logs(replica: Replica) -> list[LogState]:
    """What all devices of this person hold: person log, private log, conversations; not what was left.

    Where no person log can be read, that is all there is.
    """
    person, private = replica.people.current(), private_log(replica)
    if person is None:
        return replica.logs()
    own = {person.log, private.n if private is not None else 0}
    return [state for state in replica.logs() if state.kind == LogKind.CONVERSATION or state.n in own]
