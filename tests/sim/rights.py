"""Rights: who belongs to what among several persons, and that nobody reads, writes or keeps more than that.

`Rights` watches a run: what was here of whom when it was removed, who may not read what was written,
who is sent what. `Belonging` says in the end, by all entries that those who belong hold together,
which devices are whose and who is in which conversation: who never heard that it was removed thinks
otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Final, NamedTuple

from mlog import limits
from mlog.log import bodies
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.crypto import LogKeys, Vault
from mlog.log.entry import from_tail, parse_outer
from mlog.log.epochs import stated_epochs
from mlog.log.ids import DeviceId, EntryId, Incarnation, Topic
from mlog.log.memory import MemoryStore
from mlog.log.person import Person, root_of
from mlog.log.private_log import PrivateLog
from mlog.log.replica import Replica
from mlog.log.store import EntryRow, LogKind, LogRow, Store, TimelineQuery
from mlog.log.stored import readable_body
from mlog.protocol import wire
from mlog.protocol.session import Session

from . import checkers
from .entropy import SeededEntropy
from .machine import Machine, keys_of
from .network import Network, Observer, SimFailure

if TYPE_CHECKING:
    from .simulation import Simulation
    from .society import Society

__all__ = ["Belonging", "Rights", "check_all_is_read", "check_rights", "check_within_cuts"]

_ALL: Final = 1_000_000
_ORACLE: Final = 99
_RULES: Final = frozenset({Kind.KEY, Kind.MEMBER, Kind.REVOKE, Kind.ADMIT, Kind.DEVICE})
"""Kinds that those read on purpose who read no more from then on."""


def _require(holds: object, claim: str) -> None:
    if not holds:
        raise SimFailure(claim)


class _Secret:
    """An entry that some machines must not be able to open.

    Attributes:
        known: The rulings that its author knew, each with the device or person that it is about.
        kept_from: Machines.
    """

    def __init__(self, outer: bytes, author: Machine, known: frozenset[tuple[EntryId, bytes]]):
        self.outer = outer
        self.author = author
        self.known = known
        self.kept_from: set[int] = set()


class _LetIn(NamedTuple):
    """Somebody was given the secrets of a log, by who knew these rulings."""

    giver: Machine
    is_own: bool
    known: frozenset[tuple[EntryId, bytes]]


class Rights(Observer):
    """Watches who is sent what, who writes what for whom, and what was here of whom it was taken from."""

    def __init__(self, network: Network, society: Society, topics: list[Topic]):
        self._network = network
        self._society = society
        self._topics = topics
        self._let_in: dict[tuple[Topic, int], list[_LetIn]] = {}
        self._by_device = {machine.device: machine for machine in network.machines}
        self._knowledge: dict[int, tuple[object, dict[int, frozenset[tuple[EntryId, bytes]]]]] = {}
        self.secrets: dict[Topic, dict[EntryId, _Secret]] = {}
        self.within: dict[EntryId, frozenset[EntryId]] = {}
        """By ruling that removes or revokes somebody, what its author had read of theirs in that log."""
        network.observers.append(self)
        for machine in network.machines:
            wrote = machine.wrote

            def watched(rows: list[EntryRow], machine: Machine = machine, wrote=wrote) -> None:
                wrote(rows)
                self._wrote(machine, rows)

            machine.wrote = watched

    # -- what is written -----------------------------------------------------------------------

    def _wrote(self, machine: Machine, rows: Sequence[EntryRow]) -> None:
        replica = machine.replica
        assert replica is not None
        log = next(row for row in replica.store.logs() if row.n == rows[0].log)
        for row in rows:
            body = readable_body(row.kind, row.body) if row.kind in (Kind.MEMBER, Kind.REVOKE) else None
            if isinstance(body, bodies.Revoke):
                self.within[row.id] = _read_of(replica, log.n, {DeviceId(body.device)})
            elif isinstance(body, bodies.Member) and body.role == "none":
                self.within[row.id] = _read_of(replica, log.n, self._devices_of(body.person))
        said = [row for row in rows if row.kind not in _RULES]
        if said and machine.honest:
            self._keep_secret(machine, log, said)

    def _devices_of(self, topic: bytes) -> set[DeviceId]:
        machines = self._network.machines
        return {m.device for m in machines if self._society.topic_of(m) == topic}

    def _keep_secret(self, machine: Machine, log: LogRow, rows: Sequence[EntryRow]) -> None:
        replica = machine.replica
        assert replica is not None
        members = replica.people.readers(log.n)
        if members is None or log.kind == LogKind.PERSON:
            return
        readers = {member.device for member in members} | {machine.device}
        machines = self._network.machines
        if any(m.device in readers and not m.honest for m in machines):
            return
        known = self._known(machine, log.n)
        for row in rows:
            secret = _Secret(row.outer, machine, known)
            secret.kept_from.update(m.index for m in machines if m.device not in readers)
            self._spread(secret, log.topic)
            self.secrets.setdefault(log.topic, {})[row.id] = secret

    def _known(self, machine: Machine, log: int) -> frozenset[tuple[EntryId, bytes]]:
        """The rulings that a machine has read: of a log about persons, of person logs about devices.

        A REVOKE in a conversation only cuts, for one in a person log that its author knew.
        """
        assert machine.store is not None
        store, now = machine.store, (id(machine.store), machine.store.next_n())
        if self._knowledge.get(machine.index, (None, {}))[0] != now:
            self._knowledge[machine.index] = now, {}
        found = self._knowledge[machine.index][1]
        if log not in found:
            rulings: set[tuple[EntryId, bytes]] = set()
            for row in store.logs():
                if row.kind == LogKind.PERSON or row.n == log:
                    for entry in _rows(store, row.n, frozenset({Kind.MEMBER, Kind.REVOKE})):
                        body = readable_body(entry.kind, entry.body)
                        if isinstance(body, bodies.Member):
                            rulings.add((entry.id, body.person))
                        elif isinstance(body, bodies.Revoke) and row.kind == LogKind.PERSON:
                            rulings.add((entry.id, body.device))
            found[log] = frozenset(rulings)
        return found[log]

    # -- what is sent --------------------------------------------------------------------------

    def sending(self, machine: Machine, session: Session, message: wire.Message) -> None:
        link = session._link
        if link is None or not isinstance(message, wire.Entries | wire.Grant | wire.Parting):
            return
        other = self._by_device[link.device]
        if isinstance(message, wire.Parting):
            if machine.honest:
                self._parted(machine, session, message)
            return
        if isinstance(message, wire.Grant):
            self._granted(machine, other)
        elif machine.honest:
            log = link.log_of(message.tag)
            row = next((row for row in link.store.logs() if row.n == log), None)
            _require(row is not None, f"{machine} sends entries of no log")
            assert row is not None
            _require(
                self.may_have(machine, row, other),
                f"{machine} sends {other} entries of a log ({row.kind}) to which it does not belong",
            )

    def _parted(self, giver: Machine, session: Session, message: wire.Parting) -> None:
        """Who is told that it was removed gets that ruling, and nothing from behind it."""
        link, replica = session._link, giver.replica
        assert link is not None
        assert replica is not None
        other = self._by_device[link.device]
        row = next(row for row in link.store.logs() if link.tag_of(row.topic) == message.tag)
        ids = [from_tail(row.topic, p.head, p.body, p.signature).id for p in message.entries]
        rows = link.store.find(row.n, ids)
        _require(rows.keys() == set(ids), f"{giver} tells {other} of entries that are not here")
        if row.kind == LogKind.PERSON:
            bodies_ = [readable_body(found.kind, found.body) for found in rows.values()]
            about = all(isinstance(b, bodies.Revoke) and b.device == other.device for b in bodies_)
            _require(about, f"{giver} tells {other} more than that it was revoked")
            return
        removals: list[EntryRow] = []
        people, subject = replica.people, replica.people.stand_in(other.device)
        for found in rows.values():
            body = readable_body(found.kind, found.body)
            # As the giver knows it: it may have joined another person meanwhile.
            if isinstance(body, bodies.Member) and people.subject_of_topic(Topic(body.person)) == subject:
                removals += [found] if body.role == "none" else []
        _require(removals, f"{giver} tells {other} of a conversation, and not that it was removed")
        last = max(found.position for found in removals)
        # Who rules may seal that under an epoch that was begun later than it claims; it was wrapped for both.
        late = [found for found in rows.values() if found.position > last and not _wraps(found, other)]
        _require(not late, f"{giver} tells {other} what came after its removal")
        _require({found.kind for found in rows.values()} <= _RULES, f"{giver} tells {other} what was said")

    def _granted(self, giver: Machine, other: Machine) -> None:
        """Somebody is given secrets, as it should be by what the giver knows."""
        assert giver.replica is not None
        person = giver.replica.people.current()
        is_own = person is not None and person.member(other.device) is not None
        for topic in (*self._topics, self._society.private[self._society.person(other)]):
            n = giver.log_n(topic)
            readers = giver.replica.people.readers(n) if n is not None else None
            if n is None or not (is_own or any(m.device == other.device for m in readers or ())):
                continue
            let_in = _LetIn(giver, is_own, self._known(giver, n))
            known = self._let_in.setdefault((topic, other.index), [])
            if let_in not in known:
                known.append(let_in)
                for secret in self.secrets.get(topic, {}).values():
                    if self._open(secret, other, let_in):
                        self._spread(secret, topic)

    def _spread(self, secret: _Secret, topic: Topic) -> None:
        """Open it to all who were let in by who may read it, and to whom these let in."""
        opened = True
        while opened:
            opened = False
            for other in self._network.machines:
                let_ins = self._let_in.get((topic, other.index), ())
                opened |= any(self._open(secret, other, let_in) for let_in in let_ins)

    def _open(self, secret: _Secret, other: Machine, let_in: _LetIn) -> bool:
        """Who knows all of somebody that the author of an entry knew, and lets them in, may give that too;
        and what a device may read, its person's new devices may. Whether that opens it."""
        if other.index not in secret.kept_from or (let_in.is_own and let_in.giver.index in secret.kept_from):
            return False
        about = {other.device} if let_in.is_own else {other.device, self._society.topic_of(other)}
        needed = {ruling for ruling in secret.known if ruling[1] in about}
        if let_in.giver.honest and not needed <= let_in.known:
            return False
        secret.kept_from.discard(other.index)
        return True

    def may_have(self, giver: Machine, row: LogRow, other: Machine) -> bool:
        """Whether, by what the giver knows, another machine may have a log: docs/protocol.md, 4.9."""
        assert giver.replica is not None
        people, device = giver.replica.people, other.device
        persons = people.persons()
        if _is_revoked(persons, device):
            return False
        if any(peer.own and peer.device == device for peer in giver.replica.store.peers()):
            return True
        own = people.current()
        theirs = next((p for p in persons if (m := p.member(device)) is not None and m.confirmed), None)
        if own is None:
            return False
        contacts = people.contacts()
        if theirs is None:
            met = any(c.device == device for t, c in contacts.items() if all(t != p.topic for p in persons))
            knows_nothing = row.kind == LogKind.CONVERSATION and people.role(row.n) == Role.NONE
            is_new = row.kind == LogKind.PERSON and all(person.log != row.n for person in persons)
            return met and (row.n == own.log or is_new or knows_nothing or _is_not_ours(giver, row))
        me, subject = people.subject(), people.stand_in(device)
        is_contact = any(people.subject_of_topic(topic) == subject for topic in contacts)
        common = [
            membership
            for log in giver.replica.store.logs()
            if log.kind == LogKind.CONVERSATION
            and (membership := people.membership(log.n)) is not None
            and membership.role(me) != Role.NONE
            and membership.role(subject) != Role.NONE
        ]
        if row.kind == LogKind.CONVERSATION:
            membership = people.membership(row.n)
            if membership is None:
                return is_contact and _is_not_ours(giver, row)
            if membership.role(me) == Role.NONE:
                return is_contact or membership.role(subject) != Role.NONE
            return membership.role(subject) != Role.NONE
        if row.kind != LogKind.PERSON:
            return False
        about = next((person for person in persons if person.log == row.n), None)
        if about is None:
            return is_contact
        if about.topic in (own.topic, theirs.topic):
            return is_contact or bool(common)
        subjects = set().union(*(membership.subjects() for membership in common))
        if people.subject_of_topic(about.topic) not in people.known():
            return is_contact
        return people.subject_of_topic(about.topic) in subjects | {subject} and (is_contact or bool(common))

    # -- in the end, and before a disk is set back -----------------------------------------------

    def check_secrets(self, machine: Machine, topics: Iterable[Topic] | None = None) -> None:
        """With all keys that it has, a machine opens nothing that was not for it."""
        replica = machine.replica
        for topic in self.secrets if topics is None else topics:
            n = machine.log_n(topic) if replica is not None else None
            if n is None or replica is None:
                continue
            keys = replica.log(n).keys
            for secret in self.secrets.get(topic, {}).values():
                if machine.index in secret.kept_from:
                    fields = parse_outer(secret.outer)
                    _require(
                        keys.epoch_of(fields.salt, fields.tag) is None,
                        f"{machine} can open what {secret.author} wrote and kept from it",
                    )


def _is_revoked(persons: Sequence[Person], device: DeviceId) -> bool:
    return bool(_revoked_by(persons, device))


def _revoked_by(persons: Sequence[Person], device: DeviceId) -> list[Person]:
    """The persons that revoked a device that said yes to them, or that nobody else has; the oldest first."""
    said_yes = [p for p in persons for m in (*p.members, *p.revoked) if m.device == device and m.confirmed]
    revoked = [p for p in persons if device in p.revocations]
    return [person for person in revoked if person in said_yes or not said_yes]


def _is_not_ours(machine: Machine, row: LogRow) -> bool:
    """Whether, as far as is known, somebody else began a conversation: while its beginning is not here, if
    nobody of this person wrote there."""
    assert machine.replica is not None
    people, store = machine.replica.people, machine.replica.store
    root = root_of(store, row.n, row.topic, row.kind)
    if root is not None and root.proven:
        return not people.is_own(root.founder)
    return not any(people.is_own(chain.device) for chain in store.chains(row.n))


def _read_of(replica: Replica, log: int, devices: set[DeviceId]) -> frozenset[EntryId]:
    chains = {chain.n for chain in replica.store.chains(log) if chain.device in devices}
    return frozenset(row.id for row in replica.store.arrivals(log, 0, _ALL) if row.chain in chains)


def _wraps(row: EntryRow, machine: Machine) -> bool:
    """Whether a key entry gives its epoch to a machine."""
    body = readable_body(row.kind, row.body)
    return isinstance(body, bodies.Key) and any(wrap.device == machine.device for wrap in body.wraps)


def _before(store: Store, log: int, ids: Set[EntryId]) -> set[EntryId]:
    """What comes before these in their chains: who keeps a window has not read it, and a cut leaves it."""
    ends: dict[int, int] = {}
    for row in store.find(log, ids).values():
        ends[row.chain] = max(ends.get(row.chain, 0), row.seq)
    rows = Counter((chain.device, chain.incarnation) for chain in store.chains(log))
    return {
        row.id
        for chain in store.chain_rows(ends.keys() - {0})
        if rows[chain.device, chain.incarnation] == 1
        for row in store.scan(chain.n, -1, _ALL)
        if row.seq < ends[chain.n]
    }


def _rows(store: Store, log: int, kinds: frozenset[int]) -> Iterable[EntryRow]:
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=kinds, hidden=True)
    return store.timeline(query)


# -- who belongs to what -----------------------------------------------------------------------


class Belonging:
    """Who belongs to what in the end, by all that those hold who belong.

    Attributes:
        active: The honest machines that are devices of their persons.
        inside: By conversation, the honest machines that belong to it.
        lost: By conversation, honest machines that belong to it and were never given it, though a contact
            of theirs is in it.
    """

    def __init__(self, machines: Sequence[Machine], society: Society, topics: Sequence[Topic]):
        self._society = society
        self._unions: dict[tuple[tuple[Machine, ...], tuple[Topic, ...]], Replica] = {}
        honest = [machine for machine in machines if machine.honest]
        self.active = self._settle(honest, self._are_active, ())
        self.inside: dict[Topic, list[Machine]] = {}
        self.lost: dict[Topic, list[Machine]] = {}
        for topic in topics:
            here = [machine for machine in self.active if _has_begun(machine, topic)]
            if not here:
                continue
            first = self._are_members(self._union(here, (topic,)), topic, self.active)
            inside = self._settle(here, self._are_members, (topic,))
            last = self._are_members(self._union(inside, (topic,)), topic, self.active) if inside else []
            self.inside[topic] = inside
            self.lost[topic] = [
                machine
                for machine in last
                if machine in first
                and machine not in inside
                and any(
                    self._are_contacts(machine, other) and _hear_each_other(machine, other, topic)
                    for other in inside
                )
            ]

    def _settle(self, machines: list[Machine], belong, topics: tuple[Topic, ...]) -> list[Machine]:
        """Leave out who does not belong, and then what only they know, until all do."""
        while machines:
            topic = topics[0] if topics else None
            left = belong(self._union(machines, topics), topic, machines)
            if left == machines:
                break
            machines = left
        return machines

    def _are_active(self, union: Replica, topic: Topic | None, machines: Sequence[Machine]) -> list[Machine]:
        return [m for m in machines if self._is_active(union, m)]

    def _is_active(self, union: Replica, machine: Machine) -> bool:
        topic = self._society.topic_of(machine)
        person = next((p for p in union.people.persons() if p.topic == topic), None)
        member = person.member(machine.device) if person is not None else None
        return member is not None and member.confirmed

    def _are_members(self, union: Replica, topic: Topic | None, machines: Sequence[Machine]) -> list[Machine]:
        n = next(row.n for row in union.store.logs() if row.topic == topic)
        people = union.people
        membership = people.membership(n)
        if membership is not None:
            belong = {s for m in machines if membership.role(s := people.stand_in(m.device)) != Role.NONE}
        else:
            first = min(stated_epochs(union.store, n), key=lambda stated: stated.number, default=None)
            belong = {people.stand_in(DeviceId(d)) for d in first.recipients} if first is not None else set()
        return [m for m in machines if people.stand_in(m.device) in belong and self._is_active(union, m)]

    def _are_contacts(self, one: Machine, other: Machine) -> bool:
        assert one.replica is not None
        assert other.replica is not None
        return all(
            self._society.topic_of(there) in here.replica.people.contacts()
            for here, there in ((one, other), (other, one))
            if here.replica is not None
        )

    def _union(self, machines: Sequence[Machine], topics: tuple[Topic, ...]) -> Replica:
        """A replica with all that these have of the person logs and some conversations."""
        known = tuple(machines), topics
        if known not in self._unions:
            self._unions[known] = self._unite(machines, topics)
        return self._unions[known]

    def _unite(self, machines: Sequence[Machine], topics: tuple[Topic, ...]) -> Replica:
        keys, entropy = keys_of(_ORACLE), SeededEntropy("oracle")
        vault = Vault(keys.storage_key)
        union = Replica(MemoryStore(), keys.keys, vault, entropy, Incarnation(bytes(8)))
        for topic in (*self._society.persons, *topics):
            known: LogKeys | None = None
            kind, given, seen = LogKind.PERSON, [], set[EntryId]()
            for machine in machines:
                n = machine.log_n(topic)
                if n is None:
                    continue
                assert machine.replica is not None
                state = machine.replica.log(n)
                known = known or LogKeys(state.keys.secret)
                for epoch in state.keys.epochs[1:]:
                    known.add_epoch(epoch)
                kind = state.kind
                rows = [r for r in machine.replica.store.arrivals(n, 0, _ALL) if r.id not in seen]
                seen.update(row.id for row in rows)
                given += machine.replica.sealed_of(n, rows, bodies=True)
            if known is None:
                continue
            [log] = union.add_logs([(kind, known)])
            for at in range(0, len(given), limits.STORE_ROWS_MAX):
                union.receive(log, given[at : at + limits.STORE_ROWS_MAX], 0)
        for row in union.store.logs():
            while union.settle(row.n, 0):
                pass
        return union


def _has_begun(machine: Machine, topic: Topic) -> bool:
    """Whether a machine has the beginning of a log: who has it of liars alone may have nothing of it."""
    n = machine.log_n(topic)
    return n is not None and machine.replica is not None and machine.replica.people.has_begun(n)


# -- once all is healed ------------------------------------------------------------------------


def check_rights(simulation: Simulation) -> Belonging:
    """All that must hold of several persons once those have met who can."""
    society, rights = simulation.society, simulation.rights
    assert society is not None
    assert rights is not None
    network, topics = simulation.network, simulation.topics
    belonging = Belonging(network.machines, society, topics)
    if any(_is_out(a, b, society.persons[0]) for a in belonging.active for b in belonging.active):
        # Devices revoked each other while apart, and some heard the one first that does not prevail: they
        # do not hear the other any more. What they agree on, and let each other read, is not checked then.
        return belonging
    for machine in network.machines:
        if machine.honest:
            outside = [t for t in rights.secrets if machine not in belonging.inside.get(t, ())]
            own = society.private[society.person(machine)]
            if machine in belonging.active and own in outside:
                outside.remove(own)
            rights.check_secrets(machine, outside)
    # Whom somebody revoked whom nobody hears any more: what that one wrote for the others it never reads.
    doubted = {
        one
        for one in belonging.active
        for other in network.machines
        if other.honest and other.replica is not None and other.replica.people.is_revoked(one.device)
    }
    _check_persons(society, network, [m for m in belonging.active if m not in doubted])
    for topic, inside in belonging.inside.items():
        lost = belonging.lost[topic]
        _require(not lost, f"{lost} belong to a conversation of {inside} and were never given it")
        # Nor do devices that came later, whom those who read it cannot tell from the one who was left out.
        out = set().union(*(_cut(machine, topic)[0] for machine in inside)) if doubted else set[EntryId]()
        heard = [m for m in inside if m not in doubted and out.isdisjoint(_cut(m, topic)[1])]
        for group in _groups(heard, topic):
            if not all(_hear_each_other(a, b, topic) for a in group for b in group):
                continue
            _check_same(group, topic)
            checkers.check_equal(network, group, topic)
            for machine in group:
                check_all_is_read(simulation, machine, topic, group)
                checkers.check_wanted_bodies(machine, group, topic, network.local_ms(machine))
                check_within_cuts(network, rights, machine, topic)
    return belonging


def _check_persons(society: Society, network: Network, active: Sequence[Machine]) -> None:
    """All devices of a person agree over its log, its private log and what it notes."""
    for person, (topic, private) in enumerate(zip(society.persons, society.private, strict=True)):
        for devices in _groups([m for m in active if society.person(m) == person], topic):
            _check_same(devices, topic)
            checkers.check_equal(network, devices, topic)
            checkers.check_equal(network, devices, private)
            notes = [PrivateLog(m.replica).state() for m in devices if m.replica is not None]
            _require(all(note == notes[0] for note in notes), f"{devices} differ in what their person notes")


def _groups(machines: Sequence[Machine], topic: Topic) -> list[list[Machine]]:
    """Those who belong to a log, apart where all ways between them lead through somebody who thinks that
    the next one is out: as where one who was revoked or removed revoked or removed another at the same
    time, and was heard first. Whom the other one ruled out at last it does not hear."""
    groups: list[list[Machine]] = []
    for machine in machines:
        joined = [g for g in groups if any(_hear_each_other(machine, other, topic) for other in g)]
        groups = [group for group in groups if group not in joined]
        groups.append(sorted([machine, *(m for g in joined for m in g)], key=lambda m: m.index))
    return groups


def _hear_each_other(one: Machine, other: Machine, topic: Topic) -> bool:
    return not (_is_out(one, other, topic) or _is_out(other, one, topic))


def _is_out(one: Machine, other: Machine, topic: Topic) -> bool:
    """Whether one thinks that the other belongs no more to a log, or that itself does not."""
    replica, n = one.replica, one.log_n(topic)
    assert replica is not None
    people = replica.people
    if people.is_revoked(other.device) or people.is_revoked(one.device):
        return True
    membership = people.membership(n) if n is not None else None
    return membership is not None and Role.NONE in (
        membership.role(people.subject()),
        membership.role(people.stand_in(other.device)),
    )


def _check_same(machines: Sequence[Machine], topic: Topic) -> None:
    """Machines agree over who belongs to a log, where chains in it end, and under which epoch to write."""
    known = [(machine, _belonging_facts(machine, topic)) for machine in machines if machine.log_n(topic)]
    for machine, facts in known[1:]:
        first, others = known[0]
        keeps_less = _keeps_less(machine, first, topic)
        for name, fact in facts.items():
            # Of two epochs that were begun apart the later in the view counts; that a window may turn round.
            if fact != others[name] and not (name == "epoch" and keeps_less):
                raise SimFailure(f"{first} and {machine} differ in {name}:\n{others[name]}\n{fact}")
        # What is cut is told of what is here and read: who keeps a window has less.
        (one, unread), (other, unread_there) = _cut(first, topic), _cut(machine, topic)
        if one - unread_there != other - unread and not keeps_less:
            raise SimFailure(f"{first} and {machine} differ in what is cut:\n{one ^ other}")


def _cut(machine: Machine, topic: Topic) -> tuple[set[EntryId], set[EntryId]]:
    """The entries of a log that are quarantined, and those that are not read."""
    replica, n = machine.replica, machine.log_n(topic)
    assert replica is not None
    assert n is not None
    rows = replica.store.arrivals(n, 0, _ALL)
    out = replica.people.cuts(n).quarantined(rows)
    return {row.id for row in rows if row.n in out}, {row.id for row in rows if not row.chain}


def _keeps_less(one: Machine, other: Machine, topic: Topic) -> bool:
    return any(
        row.window_days for m in (one, other) if m.store for row in m.store.logs() if row.topic == topic
    )


def _belonging_facts(machine: Machine, topic: Topic) -> Mapping[str, object]:
    replica, n = machine.replica, machine.log_n(topic)
    assert replica is not None
    assert n is not None
    people, state = replica.people, replica.log(n)
    membership, readers = people.membership(n), people.readers(n)
    person = next((p for p in people.persons() if p.log == n), None)
    epoch = people.epoch(state, readers) if readers is not None else None
    return {
        "members": membership and [(j.subject.hex()[:8], j.role, j.since) for j in membership.joined()],
        "removals": membership and sorted(membership.subjects()),
        "devices": person and [(m.device.hex()[:8], m.name, m.by, m.confirmed) for m in person.members],
        "revoked devices": person and sorted((d, r) for d, r in person.revocations.items()),
        "readers": readers and [member.device.hex()[:8] for member in readers],
        "rulings": people.heads(n),
        "number of the epoch": epoch and epoch.number,
        "epoch": epoch and epoch.secret.hex()[:8],
    }


def check_all_is_read(
    simulation: Simulation, machine: Machine, topic: Topic, group: Sequence[Machine]
) -> None:
    """Who belongs to a conversation reads all that honest devices wrote there, that counts, and that anybody
    else reads."""
    n = machine.log_n(topic)
    assert n is not None
    assert machine.store is not None
    written = set().union(*(simulation.ledger.written[m.device] for m in simulation.honest))
    unread = {r.id for r in machine.store.arrivals(n, 0, _ALL) if not r.chain and r.id in written}
    for other in group if unread else ():
        there = other.log_n(topic)
        assert there is not None
        assert other.store is not None
        out, _ = _cut(other, topic)
        read = [row.id for row in other.store.find(there, unread - out).values() if row.chain]
        _require(not read, f"{machine} belongs to a conversation and cannot read {len(read)} entries in it")


def check_within_cuts(network: Network, rights: Rights, machine: Machine, topic: Topic) -> None:
    """What is shown of who was revoked or removed was known to who did that."""
    replica, n = machine.replica, machine.log_n(topic)
    assert replica is not None
    assert n is not None
    people, store = replica.people, replica.store
    membership = people.membership(n)
    shown = {m.id: m.author.device for m in checkers.view_of(network, replica, n)}
    rows = store.find(n, shown)
    edits = store.rows([row.edit for row in rows.values() if row.edit])
    by_chain = {chain.n: chain.device for chain in store.chains(n)}
    shown |= {row.id: by_chain[row.chain] for row in edits.values()}
    revocations = _rows(store, n, frozenset({Kind.REVOKE}))
    for device in set(shown.values()):
        persons = _revoked_by(people.persons(), device)
        subject = people.subject_of(device)
        rulings: list[Sequence[EntryId]] = []
        if persons:
            known = {revoked.id.hex() for revoked in persons[0].revocations[device]}
            said = [(row.id, readable_body(row.kind, row.body)) for row in revocations]
            cuts = [
                id_
                for id_, body in said
                if isinstance(body, bodies.Revoke) and body.device == device and body.by in known
            ]
            if cuts:
                rulings.append(cuts)
            else:
                by = {revoked.by for revoked in persons[0].revocations[device]}
                by &= {reader.device for reader in people.readers(n) or ()}
                for other in network.machines:
                    row = checkers._log_row(other, topic) if other.device in by else None
                    meets = row is not None and other.honest and rights.may_have(other, row, machine)
                    _require(not meets, f"{machine}: a device that {other} revoked is cut nowhere in a log")
        if membership is not None and membership.role(subject) == Role.NONE:
            rulings.append([ruling.id for ruling in membership._removals.get(subject or b"", ())])
        for ends in rulings:
            # Of those that were minted by somebody who breaks the rules nothing is known.
            if rights.within.keys() >= set(ends):
                read = frozenset[EntryId]().union(*(rights.within[ruling] for ruling in ends))
                allowed = read | _before(store, n, read)
                beyond = {id_ for id_, author in shown.items() if author == device} - allowed
                _require(not beyond, f"{machine} shows {len(beyond)} entries of a device from behind its cut")
