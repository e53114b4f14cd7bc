"""Society: several persons with devices of their own, and what they do with each other.

Everything goes the way that the commands go: devices are paired and persons accepted by what a pairing
writes at both ends, conversations begun, joined and left by `ruling`, devices revoked by `belonging`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mlog.errors import InvalidInput, UserError
from mlog.log import belonging, bodies, entry, ruling, trusting
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.contacts import Contact, write_contact
from mlog.log.entry import NO_ENTRY, Header
from mlog.log.epochs import key_body
from mlog.log.ids import EntryId, Incarnation, Topic
from mlog.log.peers import PeerRow
from mlog.log.person import Person
from mlog.log.private_log import PrivateLog
from mlog.log.reading import chain_name
from mlog.log.replica import Draft, Replica
from mlog.log.store import LogKind, TimelineQuery
from mlog.log.trusting import Claim

from .machine import DAY_MS, START_MS, Machine, keys_of
from .network import Network

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["Begun", "Society", "begun"]

_TOPICS_MAX: Final = 4
_QUIET_MS: Final = 60_000
_BEGIN_MAX_MS: Final = 3600_000
_EXPIRY_MS: Final = (0, 60_000, 3600_000, 2 * DAY_MS)
_USURPATIONS: Final = (
    "a member, by all that is known",
    "a member, by nothing that is known",
    "nobody, by all that is known",
    "nobody, by nothing that is known",
    "an admin, in the name of the first entry",
    "a device of another person",
    "no device of another person",
    "an epoch for itself alone",
    "an erasure of what others said",
    "a setting from before all others",
    "two rulings at one place",
)


class Begun(NamedTuple):
    """What persons have when a schedule begins.

    Attributes:
        persons, private: Topics of the logs of each person.
        topics: Of the conversations.
    """

    disks: list[Any]
    persons: tuple[Topic, ...]
    private: tuple[Topic, ...]
    topics: tuple[Topic, ...]


class Society:
    """What persons do in one simulation."""

    def __init__(self, simulation: Simulation, begun: Begun):
        self.persons = begun.persons
        self.private = begun.private
        self._simulation = simulation
        self._whose = simulation.schedule.persons
        self.actions: Mapping[str, Callable[[Machine, int, int], None]] = {
            "begin": self._begin,
            "add": self._add,
            "expel": self._expel,
            "leave": self._leave,
            "promote": self._promote,
            "accept": self._accept,
            "pair": self._pair,
            "revoke": self._revoke,
            "rename": self._rename,
            "note": self._note,
            "read": self._read,
            "expire": self._expire,
            "look": self._look,
            "usurp": self._usurp,
        }

    def person(self, machine: Machine) -> int:
        return self._whose[machine.index]

    def topic_of(self, machine: Machine) -> Topic:
        """Of the log of its person."""
        return self.persons[self.person(machine)]

    # -- conversations -----------------------------------------------------------------------

    def _act(self, machine: Machine, act: Callable[[Replica, int], object]) -> None:
        """As a command does it: what is not allowed changes nothing."""
        replica = machine.replica
        if replica is None:
            return
        now_ms = self._simulation.network.local_ms(machine)

        def command() -> None:
            with suppress(UserError, InvalidInput):
                act(replica, now_ms)

        self._simulation.person_acts(machine, command)

    def _in(self, machine: Machine, number: int, act: Callable[[Replica, int, int], object]) -> None:
        """Do something in one of the conversations that a machine has; also where it was removed."""
        topic = self._simulation.topic(machine, number)
        if topic is None:
            return
        n = machine.log_n(topic)
        assert n is not None
        self._act(machine, lambda replica, now_ms: act(replica, n, now_ms))

    def _begin(self, machine: Machine, a: int, b: int) -> None:
        topics = self._simulation.topics
        if len(topics) >= _TOPICS_MAX or not machine.honest:
            return

        def begin(replica: Replica, now_ms: int) -> None:
            with replica.transaction():
                known = _known(replica)
                chosen = [person for at, person in enumerate(known) if (a >> at) & 1] or known[:1]
                n = _begin_with(replica, chosen, f"talk {len(topics)}", now_ms)
                # Before the commit: a process that is killed right after it began a conversation, too.
                topics.append(replica.log(n).keys.topic)

        self._act(machine, begin)

    def _add(self, machine: Machine, a: int, b: int) -> None:
        def add(replica: Replica, n: int, now_ms: int) -> None:
            known = _known(replica)
            if known:
                ruling.add(replica, n, [known[b % len(known)]], now_ms)

        self._in(machine, a, add)

    def _expel(self, machine: Machine, a: int, b: int) -> None:
        def expel(replica: Replica, n: int, now_ms: int) -> None:
            membership, own = replica.people.membership(n), replica.people.subject()
            joined = [j for j in (membership.joined() if membership is not None else ()) if j.subject != own]
            if joined:
                ruling.remove(replica, n, joined[b % len(joined)], now_ms)
                _settle(replica, n, now_ms)

        self._in(machine, a, expel)

    def _leave(self, machine: Machine, a: int, b: int) -> None:
        def leave(replica: Replica, n: int, now_ms: int) -> None:
            ruling.leave(replica, n, now_ms)
            _settle(replica, n, now_ms)

        self._in(machine, a, leave)

    def _promote(self, machine: Machine, a: int, b: int) -> None:
        def promote(replica: Replica, n: int, now_ms: int) -> None:
            membership = replica.people.membership(n)
            joined = membership.joined() if membership is not None else []
            persons = [p for j in joined if (p := replica.people.person_of(j.subject)) is not None]
            if persons:
                role = Role.MEMBER if b % 4 == 0 else Role.ADMIN
                ruling.set_role(replica, n, persons[b % len(persons)], role, now_ms)

        self._in(machine, a, promote)

    def _read(self, machine: Machine, a: int, b: int) -> None:
        def read(replica: Replica, n: int, now_ms: int) -> None:
            own = replica.people.subject()
            held = {
                chain_name(c.device, c.incarnation): c.seq
                for c in replica.store.chains(n)
                if c.seq >= 0 and replica.people.stand_in(c.device) != own
            }
            ruling.require_writable(replica, n)
            if held:
                told = tuple(
                    bodies.ReadChain(chain=name.hex(), seq=seq) for name, seq in sorted(held.items())
                )
                replica.write(n, [Draft(Kind.READ, bodies.Read(chains=told), now_ms)], now_ms)

        self._in(machine, a, read)

    def _expire(self, machine: Machine, a: int, b: int) -> None:
        def expire(replica: Replica, n: int, now_ms: int) -> None:
            ruling.require_writable(replica, n)
            body = bodies.Expire(after_ms=_EXPIRY_MS[b % len(_EXPIRY_MS)])
            replica.write(n, [Draft(Kind.EXPIRE, body, now_ms)], now_ms)

        self._in(machine, a, expire)

    def _look(self, machine: Machine, a: int, b: int) -> None:
        """Forget what is to disappear by now."""

        def look(replica: Replica, now_ms: int) -> None:
            for log in replica.store.logs_with(Kind.EXPIRE):
                replica.expire(log, now_ms)

        self._act(machine, look)

    # -- persons and devices -----------------------------------------------------------------

    def _accept(self, machine: Machine, a: int, b: int) -> None:
        """Two persons accept each other, as `mlog invite` and `mlog accept` do."""
        others = [m for m in self._simulation.machines if self.person(m) != self.person(machine)]
        other = others[a % len(others)]
        if machine.replica is None or other.replica is None or not (machine.honest and other.honest):
            return
        for here, there in ((machine, other), (other, machine)):
            self._act(here, lambda replica, now_ms, there=there: _meet(replica, there, now_ms))

    def _pair(self, machine: Machine, a: int, b: int) -> None:
        """A person's new device is paired with one that it has."""
        spare = next((m for m in self._simulation.machines if self._simulation.role(m) == "spare"), None)
        if spare is None or self.person(spare) != self.person(machine) or not machine.honest:
            return
        if machine is spare or machine.replica is None or spare.replica is None:
            return
        for here, there in ((spare, machine), (machine, spare)):
            self._act(here, lambda replica, now_ms, there=there: _trust(replica, there, now_ms))

    def pair_spare(self) -> None:
        """At the end every device that is left is paired."""
        for machine in self._simulation.machines:
            person = machine.replica.people.current() if machine.replica is not None else None
            if self._simulation.role(machine) != "spare" and person is not None:
                self._pair(machine, 0, 0)

    def _revoke(self, machine: Machine, a: int, b: int) -> None:
        if not machine.honest:
            return

        def revoke(replica: Replica, now_ms: int) -> None:
            person = replica.people.current()
            members = [
                m for m in (person.members if person is not None else ()) if m.device != machine.device
            ]
            if members:
                belonging.revoke(replica, members[a % len(members)].device, now_ms)
                for log in replica.store.logs():
                    _settle(replica, log.n, now_ms)

        self._act(machine, revoke)

    def _rename(self, machine: Machine, a: int, b: int) -> None:
        def rename(replica: Replica, now_ms: int) -> None:
            person = replica.people.current()
            if person is not None:
                member = person.members[a % len(person.members)]
                belonging.rename(replica, member.device, f"{member.name[:3]} {b}", now_ms)

        self._act(machine, rename)

    def _note(self, machine: Machine, a: int, b: int) -> None:
        def note(replica: Replica, now_ms: int) -> None:
            if replica.people.current() is not None:
                PrivateLog(replica).note({f"setting/{a % 3}": b % 2 == 0}, now_ms)

        self._act(machine, note)

    # -- the end -----------------------------------------------------------------------------

    def say_everywhere(self) -> None:
        """Each machine says something in each conversation to which it thinks that it belongs; and one that
        joined a person late notes something, with what it brings along."""
        for machine in self._simulation.machines:
            if self._simulation.role(machine) == "spare":
                self._note(machine, machine.index, 0)
            for topic in self._simulation.topics if machine.store is not None else ():
                n = machine.log_n(topic)
                if n is None:
                    continue

                def say(replica: Replica, now_ms: int, machine: Machine = machine, n: int = n) -> None:
                    ruling.require_writable(replica, n)
                    body = bodies.Text(text=f"{machine} at the end")
                    replica.write(n, [Draft(Kind.MESSAGE, body, now_ms)], now_ms)

                self._act(machine, say)

    def forget_expired(self) -> None:
        """Long after, on every machine: so that nobody's clock makes a difference."""
        network = self._simulation.network
        latest_ms = max(network.local_ms(m) for m in self._simulation.machines) + 10 * 365 * DAY_MS
        for machine in self._simulation.machines:
            replica = machine.replica
            if replica is not None:
                for log in replica.store.logs_with(Kind.EXPIRE):
                    replica.expire(log, latest_ms)

    # -- who breaks the rules ------------------------------------------------------------------

    def _usurp(self, machine: Machine, a: int, b: int) -> None:
        """Somebody rules what it may not, or pretends not to know what it knows."""
        for liar in self._simulation.liars.values():
            if liar.machine.replica is not None:
                self._simulation.person_acts(liar.machine, lambda m=liar.machine: self._mint(m, a, b))

    def _mint(self, machine: Machine, a: int, b: int) -> None:
        replica, random = machine.replica, Random(f"{self._simulation.network.seed} usurps {a} {b}")
        assert replica is not None
        what = _USURPATIONS[b % len(_USURPATIONS)]
        of_person = "device" in what
        kind = LogKind.PERSON if of_person else LogKind.CONVERSATION
        logs = [row for row in replica.store.logs() if row.kind == kind]
        if not logs:
            return
        state = replica.log(logs[a % len(logs)].n)
        now_ms = self._simulation.network.local_ms(machine)
        known = [] if "by nothing" in what else list(replica.people.heads(state.n))
        person = self.persons[a % len(self.persons)]
        victim = keys_of(a % len(self._whose))
        said: list[tuple[Kind, bodies.Body]]
        match what.split()[0]:
            case "nobody" | "two":
                said = [(Kind.MEMBER, bodies.Member(person=person, role="none"))]
            case "a" if what.startswith("a member"):
                said = [(Kind.MEMBER, bodies.Member(person=person, role="member", history=True))]
            case "an" if what.startswith("an admin"):
                first = TimelineQuery(log=state.n, limit=1, kinds=frozenset({Kind.KEY}), hidden=True)
                known = [row.id for row in replica.store.timeline(first)]
                said = [(Kind.MEMBER, bodies.Member(person=person, role="admin", history=True))]
            case "no":
                said = [(Kind.REVOKE, bodies.Revoke(device=victim.id))]
            case "a" if what.startswith("a device"):
                admitted = bodies.Admit(
                    device=victim.id, name="mine", noise=victim.noise_public, hpke=victim.hpke_public
                )
                said = [(Kind.ADMIT, admitted)]
            case "an" if what.startswith("an epoch"):
                own = [(machine.device, keys_of(machine.index).hpke_public)]
                number = 1 + max(epoch.number for epoch in state.keys.epochs)
                body = key_body(
                    replica.entropy, state.keys.topic, machine.device, own, number, random.randbytes(32)
                )
                said = [(Kind.KEY, body)]
            case "an":
                mids = self._simulation.mids
                if not mids:
                    return
                said = [(Kind.ERASURE, bodies.Erasure(of=mids[a % len(mids)].hex()))]
            case _:
                now_ms = START_MS - DAY_MS
                said = [(Kind.EXPIRE, bodies.Expire(after_ms=60_000))]
        if what.startswith("two"):
            said.append((Kind.MEMBER, bodies.Member(person=person, role="admin", history=True)))
        incarnation, minted = Incarnation(random.randbytes(8)), []
        digests = replica.store.digests(state.n)
        week = digests[-1].week if digests else 1_000
        for kind_said, body in said:
            encoded = bodies.encode(body)
            header = Header(
                kind_said,
                machine.device,
                incarnation,
                0,
                NO_ENTRY,
                now_ms,
                len(encoded),
                tuple(sorted(EntryId(id_) for id_ in known)),
            )
            sealed = entry.seal_entry(state.keys, state.keys.current, week, header, encoded)
            minted.append(entry.sign_entry(machine.keys, state.keys.current, sealed))
        replica.receive(state.n, minted, self._simulation.network.local_ms(machine))


# -- what pairings write ---------------------------------------------------------------------


def _known(replica: Replica) -> list[Person]:
    """The contacts whose logs are here."""
    people = replica.people
    found = [people.person_of(people.subject_of_topic(topic)) for topic in people.contacts()]
    return [person for person in found if person is not None]


def _begin_with(replica: Replica, persons: list[Person], title: str, now_ms: int) -> int:
    drafts = [Draft(Kind.TITLE, bodies.Title(title=title), now_ms)]
    n = replica.create_log(LogKind.CONVERSATION, drafts, now_ms)
    ruling.add(replica, n, persons, now_ms)
    return n


def _settle(replica: Replica, n: int, now_ms: int) -> None:
    while replica.settle(n, now_ms):
        pass


def _meet(replica: Replica, other: Machine, now_ms: int) -> None:
    """Accept the person of a device that was met (mlog/api/contacts.py)."""
    people, there = replica.people, other.replica
    theirs = there.people.current() if there is not None else None
    if theirs is None or people.current() is None:
        raise UserError("no person")
    if people.is_own(other.device) or people.is_revoked(other.device):
        raise UserError("not another person")
    keys = keys_of(other.index)
    with replica.transaction():
        known = next((peer for peer in replica.store.peers() if peer.device == other.device), None)
        if known is None or not known.own:
            row = PeerRow(
                device=other.device,
                name=other.name,
                noise=keys.noise_public,
                hpke=keys.hpke_public,
                own=False,
                added_ms=now_ms,
            )
            replica.store.put_peer(row)
        said = Contact(topic=theirs.topic, name=theirs.name, device=other.device, since_ms=now_ms)
        write_contact(replica, said, now_ms)


def _trust(replica: Replica, other: Machine, now_ms: int) -> None:
    """Take a device as one of one's own, as it says of itself."""
    if other.replica is None:
        raise UserError("the other one is gone")
    keys, person = keys_of(other.index), trusting.own_person(other.replica)
    claim = Claim(
        device=other.device,
        noise=keys.noise_public,
        hpke=keys.hpke_public,
        name=other.name,
        person=person.name,
        topic=person.topic,
        founded_ms=person.founded_ms,
        devices=len(person.members),
    )
    trusting.trust(replica, claim, now_ms)


# -- how it begins ---------------------------------------------------------------------------


@cache
def begun(whose: tuple[int, ...], spares: tuple[int, ...]) -> Begun:
    """Persons whose devices are paired, who are contacts in a circle, and talk; made once in a process.

    Args:
        spares: Machines that are paired only later.
    """
    machines = [Machine(index, "society") for index in range(len(whose))]
    network = Network(f"society {whose} {spares}", machines)
    for number, machine in enumerate(machines):
        machine.open()
        machine.found_person(START_MS - DAY_MS + number, f"person {whose[number]}")
    count = 1 + max(whose)
    first = [machines[whose.index(person)] for person in range(count)]
    for machine in machines:
        founder = first[whose[machine.index]]
        if machine is not founder and machine.index not in spares:
            assert machine.replica is not None
            assert founder.replica is not None
            _trust(machine.replica, founder, START_MS)
            _trust(founder.replica, machine, START_MS)
    pairs = {tuple(sorted((person, (person + 1) % count))) for person in range(count)}
    for one, other in sorted(pairs):
        for here, there in ((first[one], first[other]), (first[other], first[one])):
            assert here.replica is not None
            _meet(here.replica, there, START_MS)
    for machine in machines:
        network.boot(machine)
    _all_meet(network, machines)
    topics: list[Topic] = []
    for number, machine in enumerate(first[:2]):
        replica = machine.replica
        assert replica is not None
        known = _known(replica)
        n = _begin_with(replica, known[: 3 - 2 * number], f"talk {number}", START_MS)
        topics.append(replica.log(n).keys.topic)
        if not number:
            ruling.set_role(replica, n, known[0], Role.ADMIN, START_MS)
        network.kill(machine)
        network.boot(machine)
    _all_meet(network, machines)
    persons, private = list[Topic](), list[Topic]()
    for machine in first:
        assert machine.replica is not None
        person, secret = machine.replica.people.current(), machine.replica.people.private_log()
        assert person is not None
        assert secret is not None
        persons.append(person.topic)
        private.append(machine.replica.log(secret).keys.topic)
    disks = [machine.disk.snapshot() for machine in machines]
    return Begun(disks, tuple(persons), tuple(private), tuple(topics))


def _all_meet(network: Network, machines: list[Machine]) -> None:
    for _ in range(2):
        for machine in machines:
            for other in machines[: machine.index]:
                network.meet(machine, other, both=True)
        network.run_until_quiet(_QUIET_MS, _BEGIN_MAX_MS)
