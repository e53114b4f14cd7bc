"""Simulation: one schedule carried out by real nodes, then healed and checked."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from blake3 import blake3

from mlog.log import belonging, bodies, window
from mlog.log.authority import Role
from mlog.log.bodies import Body, Kind
from mlog.log.ids import MessageId, Topic
from mlog.log.replica import Draft
from mlog.log.store import BodyState, LogKind, LogRow
from mlog.protocol.events import Committed, Fetch, SyncNow

from . import checkers
from .checkers import Ledger
from .faults import POINTS, Fault, Injected, InjectedBusy, Killed
from .liars import LIES, Liar
from .machine import DAY_MS, START_MS, Machine
from .network import Network, SimFailure, Transport
from .rights import Rights, check_rights
from .schedule import PROFILES, Action, Schedule
from .society import Society, begun

__all__ = ["Paired", "Simulation", "failure_of", "paired", "run_schedule"]

_WORDS: Final = ("oak", "green bottles", "ja, nein", "שלום", "мир", "a" * 300, "👍", "")
_CHAT_LINES: Final = 400
_YEARS_MS: Final = 3650 * DAY_MS
_QUIET_MS: Final = 5 * 60_000
_TRY_MS: Final = 10_000
_ROUNDS_MAX: Final = 5
_HEAL_MAX_MS: Final = 24 * 3600_000
_NUMBERS: Final = re.compile(r"\bm\d+\b|[0-9a-f]{8,}|\d+")
_IDLE_MS: Final = 3600_000
_WINDOW_DAYS: Final = 30
_ROWS_MAX: Final = 1_000_000


def run_schedule(schedule: Schedule, *, keep_trace: bool = False) -> Simulation:
    """Carry out a schedule, heal, check.

    Raises:
        SimFailure: Something that must hold did not.
    """
    if not PROFILES[schedule.profile].sqlite:
        simulation = Simulation(schedule, keep_trace=keep_trace)
        simulation.run()
        return simulation
    with _folder() as folder:
        simulation = Simulation(schedule, folder, keep_trace=keep_trace)
        try:
            simulation.run()
        finally:
            for machine in simulation.machines:
                machine.shut_down()
        return simulation


@contextmanager
def _folder() -> Generator[Path]:
    """For databases; in memory where there is such a place, since what is synced is not tested here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def failure_of(schedule: Schedule) -> str | None:
    """What fails, without the numbers and names in it; None if nothing does."""
    try:
        run_schedule(schedule)
    except SimFailure as error:
        return _NUMBERS.sub("#", str(error))[:80]
    return None


class Simulation:
    """One network and what is done to it.

    Args:
        folder: For databases; None keeps all in memory.
    """

    def __init__(self, schedule: Schedule, folder: Path | None = None, *, keep_trace: bool = False):
        self.schedule = schedule
        self._folder = folder
        seed = f"{schedule.profile} {schedule.seed}"
        self.random = Random(f"mlog simulation {seed}")
        self.machines = [Machine(index, seed, folder) for index in range(schedule.machines)]
        self.network = Network(seed, self.machines, keep_trace=keep_trace)
        self.ledger = Ledger(self.network)
        self.topics: list[Topic] = []
        self.mids: list[MessageId] = []
        self.liars: dict[int, Liar] = {}
        self.society: Society | None = None
        self.rights: Rights | None = None
        self._actions: Mapping[str, Callable[[Machine, int, int], None]] = {
            "say": lambda m, a, b: self._say(m, a, b, beside=False),
            "beside": lambda m, a, b: self._say(m, a, b, beside=True),
            "import": self._import,
            "meet": self._meet,
            "part": self._part,
            "wait": self._wait,
            "kill": lambda m, a, b: self.network.kill(m),
            "kill at": lambda m, a, b: self._fault(m, POINTS[a % len(POINTS)], b % 4, "kill"),
            "fail at": lambda m, a, b: self._fault(m, POINTS[a % 3], b % 4, "fail"),
            "busy": lambda m, a, b: self._fault(m, "begin", b % 4, "busy"),
            "kill amid": lambda m, a, b: self.network.kill_amid_effects(m, b % 6),
            "boot": self._boot,
            "backup": self._backup,
            "restore": lambda m, a, b: self._restore(m, a, unnoticed=False),
            "roll back": lambda m, a, b: self._restore(m, a, unnoticed=True),
            "stall": self._stall,
            "skew": self._skew,
            "slow": self._slow,
            "bad transport": self._bad_transport,
            "sync now": lambda m, a, b: self.network.post(m, SyncNow()),
            "window": self._window,
            "prune": self._prune,
            "fetch": self._fetch,
            "new log": lambda m, a, b: self._new_log(m),
            "admit": lambda m, a, b: self._admit(m),
            "lie": self._lie,
            "forge": lambda m, a, b: self._liar_does("forge", a, b),
            "junk": lambda m, a, b: self._liar_does("junk", a, b),
        }

    # -- the run -----------------------------------------------------------------------------

    def run(self) -> None:
        self.set_up()
        for action in self.schedule.actions:
            self.act(action)
        self.heal()
        self.check()
        self.idle()

    def set_up(self) -> None:
        """Devices that know each other and share conversations; newcomers come later."""
        if self.schedule.persons:
            self._set_up_society()
            return
        outsiders = {i: role for i, role in self.schedule.roles.items() if role in ("newcomer", "blind")}
        begun = paired(len(self.machines), tuple(outsiders.items()), sqlite=self._folder is not None)
        for machine, tables in zip(self.machines, begun.disks, strict=True):
            machine.continue_from(tables)
            self.ledger.begin(machine)
        self.topics = list(begun.topics)
        for index, role in self.schedule.roles.items():
            machine = self.machines[index]
            machine.honest = role not in ("liar", "clone", "blind")
            if role in ("liar", "blind"):
                self.liars[index] = Liar(self, machine)
            if role in ("window", "headers"):
                self._set_scope(machine, role)
        for machine in self.machines:
            self.boot(machine)

    def _set_up_society(self) -> None:
        roles = self.schedule.roles
        spares = tuple(index for index, role in roles.items() if role == "spare")
        first = begun(self.schedule.persons, spares)
        for machine, tables in zip(self.machines, first.disks, strict=True):
            machine.continue_from(tables)
            self.ledger.begin(machine)
            machine.honest = roles.get(machine.index) not in ("liar", "clone")
            if roles.get(machine.index) == "liar":
                self.liars[machine.index] = Liar(self, machine)
        self.topics = list(first.topics)
        self.society = Society(self, first)
        self.rights = Rights(self.network, self.society, self.topics)
        self._actions = {**self._actions, **self.society.actions}
        for machine in self.machines:
            self.boot(machine)

    def act(self, action: Action) -> None:
        self._actions[action.name](self.machines[action.who % len(self.machines)], action.a, action.b)
        self.network.run(action.then_ms)

    def boot(self, machine: Machine) -> None:
        """Start it, if it does not run; all that it promised must be there."""
        if machine.runs:
            return
        self.network.boot(machine)
        if machine.honest and machine.runs:
            checkers.check_held(machine)
            self.ledger.look_at(machine)

    @property
    def honest(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.honest]

    def role(self, machine: Machine) -> str:
        return self.schedule.roles.get(machine.index, "")

    # -- actions: people ---------------------------------------------------------------------

    def topic(self, machine: Machine, number: int) -> Topic | None:
        """One of the logs that this machine can write to."""
        if machine.store is None:
            return None
        said = {row.topic for row in machine.store.logs() if row.kind == LogKind.CONVERSATION}
        known = [topic for topic in self.topics if topic in said]
        return known[number % len(known)] if known else None

    def _may_write(self, machine: Machine, topic: Topic) -> bool:
        """Whether a command would refuse to write there."""
        if self.society is None:
            return True
        n = machine.log_n(topic)
        assert machine.replica is not None
        assert n is not None
        return machine.replica.people.may_write(n)

    def _new_log(self, machine: Machine) -> None:
        if machine.replica is None or not machine.honest or self.role(machine) == "newcomer":
            return
        now_ms = self.network.local_ms(machine)
        title = Draft(Kind.TITLE, bodies.Title(title=f"log {len(self.topics)}"), now_ms)

        def create() -> None:
            assert machine.replica is not None
            n = machine.replica.create_log(LogKind.CONVERSATION, [title], now_ms)
            self.topics.append(machine.replica.log(n).keys.topic)

        self.person_acts(machine, create)

    def _admit(self, machine: Machine) -> None:
        """A member admits the newcomer, whose person trusts it too: as trust files do."""
        newcomer = next((m for m in self.machines if self.role(m) == "newcomer"), None)
        if newcomer is None or newcomer is machine or machine.replica is None or newcomer.store is None:
            return
        if self.role(machine) == "blind":
            return
        now_ms = self.network.local_ms(machine)

        def admit() -> None:
            assert machine.replica is not None
            belonging.admit(machine.replica, machine.introduce(newcomer, now_ms), now_ms)

        self.person_acts(newcomer, lambda: newcomer.introduce(machine, self.network.local_ms(newcomer)))
        self.person_acts(machine, admit)

    def _set_scope(self, machine: Machine, role: str) -> None:
        store, n = machine.store, machine.log_n(self.topics[-1])
        assert store is not None
        assert n is not None
        with store.transaction():
            days = _WINDOW_DAYS if role == "window" else 0
            store.set_window(n, days, fetch_bodies=role != "headers")

    def person_acts(self, machine: Machine, act: Callable[[], object]) -> None:
        """What a person does at a machine; its process may be killed amid it."""
        store = machine.store
        assert store is not None
        commits, last_n = store.commits, store.next_n() - 1
        try:
            act()
        except (Killed, Injected):
            # What was committed before is written, though nobody was told so.
            self._said(machine, last_n)
            self.network.kill(machine)
        except InjectedBusy:
            pass
        else:
            self._said(machine, last_n)
            if store.commits != commits:
                self.network.post(machine, Committed(), self.random.choice((0, 0, 5, 1_000)))

    def _said(self, machine: Machine, last_n: int) -> None:
        """What is new in the store can be answered from now on."""
        store = machine.store
        assert store is not None
        if machine.honest:
            self.ledger.look_at(machine)
        for row in store.rows(range(last_n + 1, store.next_n())).values():
            if row.kind in bodies.SPOKEN:
                self.mids.append(row.message)

    def _say(self, machine: Machine, a: int, b: int, *, beside: bool) -> None:
        topic = self.topic(machine, a)
        if topic is None:
            return
        now_ms = self.network.local_ms(machine)
        drafts = [
            Draft(kind, body, now_ms)
            for kind, body in (self._draft(a + i, b + 7 * i) for i in range(1 + a % 3))
        ]

        def write() -> None:
            if self._may_write(machine, topic):
                machine.say(topic, drafts, now_ms, beside=beside)

        self.person_acts(machine, write)

    def _draft(self, a: int, b: int) -> tuple[Kind, Body]:
        word = f"{_WORDS[b % len(_WORDS)]} {b}"
        # Also of what this device has not heard of yet.
        target = self.mids[a % len(self.mids)] if self.mids else MessageId(bytes(15) + b"\1")
        match ("say", "say", "reply", "edit", "edit", "react", "erase", "file", "title", "long")[b % 10]:
            case "reply":
                return Kind.REPLY, bodies.Text(text=word, to=(target.hex(),))
            case "edit":
                return Kind.EDIT, bodies.Edit(of=target.hex(), text=f"{word} edited")
            case "react":
                return Kind.REACTION, bodies.Reaction(
                    of=target.hex(), emoji="👍🎉"[b % 2], removed=b % 3 == 0
                )
            case "erase":
                return Kind.ERASURE, bodies.Erasure(of=target.hex())
            case "file":
                if b % 20 > 9:
                    data = word.encode() * (b % 500 + 1)
                    return Kind.CHUNK, bodies.Chunk(group=target, index=a % 7, data=data)
                # Its chunks are erased with the message that gives the group its name.
                return Kind.MANIFEST, bodies.Manifest(of=target.hex(), name=word, size=b, group=target.hex())
            case "title":
                return Kind.TITLE, bodies.Title(title=word)
            case "long" if a % 7 == 0:
                return Kind.MESSAGE, bodies.Text(text=(word * 20_000)[:40_000])
            case _:
                return Kind.MESSAGE, bodies.Text(text=word)

    def _import(self, machine: Machine, a: int, b: int) -> None:
        topic = self.topic(machine, a)
        if topic is None:
            return
        now_ms = self.network.local_ms(machine)
        drafts = [_chat_line(a * 3 + i) for i in range(b % 40 + 1)]

        def write() -> None:
            replica, n = machine.replica, machine.log_n(topic)
            assert replica is not None
            assert n is not None
            if not self._may_write(machine, topic):
                return
            run = replica.begin_run(n)
            source = Draft(Kind.IMPORT, bodies.Import(format="test", chat="chat"), drafts[0].time_ms)
            after = None
            for at in range(0, len(drafts), 16):
                part = drafts[at : at + 16]
                written = replica.write_run(
                    run, part, now_ms, after=after, preface=lambda _, at=at: [] if at else [source]
                )
                after = written.after

        self.person_acts(machine, write)

    def _scoped(self, machine: Machine, number: int) -> int | None:
        """A conversation of which a machine that keeps less keeps less: of one person's always the same."""
        topic = self.topics[2] if self.society is None else self.topic(machine, number)
        return machine.log_n(topic) if topic is not None else None

    def _window(self, machine: Machine, a: int, b: int) -> None:
        role = self.role(machine)
        if machine.store is None or role not in ("window", "headers"):
            return
        n = self._scoped(machine, a // 3)
        if n is None:
            return

        def change() -> None:
            assert machine.store is not None
            days, now_ms = (0, _WINDOW_DAYS, 60)[a % 3], self.network.local_ms(machine)
            window.set_window(machine.store, n, days, fetch_bodies=b % 2 == 0, now_ms=now_ms)

        self.person_acts(machine, change)

    def _prune(self, machine: Machine, a: int, b: int) -> None:
        """As `mlog prune` does at one that keeps a window, mostly after a shorter one was chosen."""
        machine = next((m for m in self.machines if self.role(m) == "window"), machine)
        store, replica, n = machine.store, machine.replica, None
        if self.role(machine) == "window" and store is not None:
            n = self._scoped(machine, a // 4)
        if n is None or store is None or replica is None:
            return
        now_ms = self.network.local_ms(machine)
        row = next(row for row in store.logs() if row.n == n)
        before = store.arrivals(n, 0, _ROWS_MAX)
        ended = False

        def prune() -> None:
            nonlocal ended
            window.set_window(
                store, n, (7, _WINDOW_DAYS, 60, row.window_days)[a % 4], fetch_bodies=b % 4 > 0, now_ms=now_ms
            )
            for _ in window.prune(replica, window.plan(replica, n, now_ms), now_ms):
                pass
            ended = True

        # Where the process is killed amid it, nobody knows how much is gone.
        held = machine.held.setdefault(row.topic, set())
        held.difference_update(r.id for r in before if r.kind >= bodies.Kind.MESSAGE)
        self.person_acts(machine, prune)
        if ended and machine.store is store:
            row = next(row for row in store.logs() if row.n == n)
            held.update(store.find(n, [r.id for r in before]))
            checkers.check_pruned(self.ledger, machine, row, before, now_ms)

    def _fetch(self, machine: Machine, a: int, b: int) -> None:
        topic = self.topic(machine, a)
        if topic is None or machine.replica is None:
            return
        n = machine.log_n(topic)
        assert n is not None
        absent = [r.id for r in checkers.rows_of(machine.replica, n) if r.state == BodyState.NOT_FETCHED]
        if absent:
            self.network.post(machine, Fetch(n, tuple(absent[b % len(absent) :][:3])))

    # -- actions: network and machines ---------------------------------------------------------

    def _other(self, machine: Machine, number: int) -> Machine:
        others = [other for other in self.machines if other is not machine]
        return others[number % len(others)]

    def _wait(self, machine: Machine, a: int, b: int) -> None:
        # A liar that dials again each minute fills days with events, and nobody can keep it from that.
        self.network.run(a % 20 * DAY_MS // (100 if self.liars else 4))

    def _meet(self, machine: Machine, a: int, b: int) -> None:
        self.network.meet(machine, self._other(machine, a), both=b % 3 == 0)

    def _part(self, machine: Machine, a: int, b: int) -> None:
        self.network.part(machine, self._other(machine, a), half_open_ms=(0, 0, 100, 120_000)[b % 4])

    def _boot(self, machine: Machine, a: int, b: int) -> None:
        for down in self.machines if a % 2 else [machine]:
            self.boot(down)

    def _fault(self, machine: Machine, point: str, after: int, kind: str) -> None:
        if machine.store is not None:
            machine.store.fault = Fault(point, after, kind)

    def _backup(self, machine: Machine, a: int, b: int) -> None:
        if machine.store is not None:
            machine.snapshot()

    def _restore(self, machine: Machine, a: int, *, unnoticed: bool) -> None:
        if not machine.snapshots or (unnoticed and machine.honest):
            return
        if self.rights is not None and machine.store is not None:
            self.rights.check_secrets(machine)
        self.network.kill(machine)
        machine.restore(a, unnoticed=unnoticed)
        self.ledger.restored(machine)

    def _stall(self, machine: Machine, a: int, b: int) -> None:
        machine.stalled_until_ms = self.network.now_ms + (500, 20_000, 200_000)[a % 3]

    def _skew(self, machine: Machine, a: int, b: int) -> None:
        if self.role(machine) != "window":
            machine.skew_ms = (_YEARS_MS, -_YEARS_MS, 0, 90_000, 2 * DAY_MS)[a % 5]

    def _slow(self, machine: Machine, a: int, b: int) -> None:
        self.network.transport = Transport(latency_ms=(1, 20, 400, 3_000)[a % 4])

    def _bad_transport(self, machine: Machine, a: int, b: int) -> None:
        for connection in self.network.connections_of(machine):
            connection.transport = Transport(
                20, *((0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.2), (0.05, 0.05, 0.05))[a % 4]
            )

    def _lie(self, machine: Machine, a: int, b: int) -> None:
        for liar in self.liars.values():
            liar.lie = LIES[a % len(LIES)] if b % 4 else None

    def _liar_does(self, what: str, a: int, b: int) -> None:
        for liar in self.liars.values():
            if liar.machine.replica is not None:
                self.person_acts(liar.machine, lambda liar=liar: getattr(liar, what)(a, b))

    # -- the end -----------------------------------------------------------------------------

    def heal(self) -> None:
        """Faults end, all run, and the honest ones are connected, if not each with each."""
        network = self.network
        network.transport = Transport()
        network.stop_kills()
        for machine in self.machines:
            machine.stalled_until_ms = 0
            if machine.store is not None:
                machine.store.fault = None
        for connection in network.connections:
            if connection.alive and not connection.transport.honest:
                first, second = (end.machine for end in connection.ends)
                network.part(first, second)
        for machine in self.machines:
            self.boot(machine)
        if self.society is not None:
            self._meet_of_persons(self.society)
            return
        self._admit(self.machines[0])
        linked = {frozenset((one.index, other.index)) for one, other in self.links()}
        for connection in network.connections:
            if connection.alive and connection.pair not in linked:
                network.part(connection.ends[0].machine, connection.ends[1].machine)
        network.reachable.clear()
        for _ in range(2):
            # Twice: who was admitted meanwhile is known to all others only then. And a signature that a
            # liar kept back is asked for once in each session.
            for one, other in self.links():
                if self.liars:
                    network.part(one, other)
                if not network.can_reach(one, other) or not network.connections_of(one, other):
                    network.meet(one, other, both=self.random.random() < 0.5)
            network.run_until_quiet(_QUIET_MS, _HEAL_MAX_MS)

    def _meet_of_persons(self, society: Society) -> None:
        """All meet all, until nobody hears of anything that lets others connect, or keeps them from it."""
        network = self.network
        society.pair_spare()
        for round_ in range(_ROUNDS_MAX):
            before = self._known_peers()
            for one, other in self._pairs():
                if self.liars:
                    network.part(one, other)
                if not network.can_reach(one, other) or not network.connections_of(one, other):
                    network.meet(one, other, both=True)
            network.run(_TRY_MS)
            known = self._known_peers()
            for one, other in self._pairs():
                # Who is trusted no more, and does not know it, would try for ever.
                if not {(one.index, other.index), (other.index, one.index)} <= known:
                    network.part(one, other)
            network.run_until_quiet(_QUIET_MS, _HEAL_MAX_MS)
            if not round_:
                society.say_everywhere()
            elif self._known_peers() == before:
                break
        society.forget_expired()

    def _pairs(self) -> list[tuple[Machine, Machine]]:
        return [(one, other) for one in self.machines for other in self.machines[: one.index]]

    def _known_peers(self) -> set[tuple[int, int]]:
        """Which machines know which others as devices that may connect."""
        index = {machine.device: machine.index for machine in self.machines}
        return {
            (machine.index, index[peer.device])
            for machine in self.machines
            if machine.store is not None
            for peer in machine.store.peers()
        }

    def links(self) -> list[tuple[Machine, Machine]]:
        """Who reaches whom at the end: a tree of the honest, sometimes all with all; liars reach all."""
        if self.society is not None:
            known = self._known_peers()
            return [p for p in self._pairs() if {(p[0].index, p[1].index), (p[1].index, p[0].index)} <= known]
        random = Random(f"links {self.network.seed}")
        honest = self.honest
        full = [m for m in honest if self.role(m) == ""]
        links = [(machine, random.choice(full[:at])) for at, machine in enumerate(full) if at]
        # A newcomer knows the device that admits it, and hears of the others from there, as they of it;
        # and a replica that keeps less cannot hand on all. So both are leaves.
        for machine in honest:
            if machine not in full:
                newcomer = self.role(machine) == "newcomer"
                links.append((machine, full[0] if newcomer else random.choice(full)))
        if random.random() < 0.5:
            links = [(a, b) for at, a in enumerate(honest) for b in honest[:at]]
        links += [(liar, machine) for liar in self.machines if not liar.honest for machine in honest]
        return links

    def check(self) -> None:
        """Everything that must hold once all is healed."""
        network, ledger, honest = self.network, self.ledger, self.honest
        for machine in honest:
            checkers.check_held(machine)
            checkers.check_authentic(network, ledger, machine)
        if self.society is not None:
            check_rights(self)
        for topic in self.topics if self.society is None else ():
            checkers.check_equal(network, honest, topic)
            for machine in honest:
                checkers.check_wanted_bodies(machine, honest, topic, network.local_ms(machine))
            if not self.liars and "restore" not in PROFILES[self.schedule.profile].weights:
                checkers.check_nothing_is_lost(ledger, honest, topic)
        for machine in honest:
            checkers.check_stores(machine)
        for one, other in self.links():
            if one.honest and other.honest:
                shares = self._compares if self.rights is not None else lambda *_: True
                checkers.check_statuses(one, other, shares)
        if ledger.refused:
            raise SimFailure(ledger.refused[0])

    def _compares(self, machine: Machine, row: LogRow, other: Machine) -> bool:
        """Whether both have to call a log equal: not where texts disappear, since clocks decide when that is;
        nor where both were removed, since neither can read what empties a text now."""
        assert self.rights is not None
        assert machine.store is not None
        assert machine.replica is not None
        people = machine.replica.people
        membership, subjects = people.membership(row.n), {people.subject(), people.stand_in(other.device)}
        if membership is not None and all(membership.role(who) == Role.NONE for who in subjects):
            return False
        expires = row.n in machine.store.logs_with(Kind.EXPIRE)
        return not expires and self.rights.may_have(machine, row, other)

    def idle(self) -> None:
        """Nothing is sent for an hour, and nobody has anything left to do; but that a liar may so late give,
        once, what it kept back."""
        sent = 0
        for _ in range(2 if self.liars else 1):
            frames = self.network.honest_frames
            self.network.run(_IDLE_MS)
            sent = self.network.honest_frames - frames
            if not sent:
                return
        raise SimFailure(f"{sent} frames sent in an idle hour")


class Paired(NamedTuple):
    """What a set of devices has when a schedule begins. `topics`: person, private, a conversation."""

    disks: list[Any]
    topics: list[Topic]


@cache
def paired(count: int, outsiders: tuple[tuple[int, str], ...], *, sqlite: bool) -> Paired:
    """Pair devices with the first one through a network of their own; once in a process."""
    if not sqlite:
        return _pair([Machine(index, "pairing") for index in range(count)], outsiders)
    with _folder() as folder:
        machines = [Machine(index, "pairing", folder) for index in range(count)]
        try:
            return _pair(machines, outsiders)
        finally:
            for machine in machines:
                machine.shut_down()


def _pair(machines: list[Machine], outsiders: tuple[tuple[int, str], ...]) -> Paired:
    network = Network(f"pairing {len(machines)} {outsiders}", machines)
    first, roles = machines[0], dict(outsiders)
    for number, machine in enumerate(machines):
        machine.open()
        machine.found_person(START_MS - DAY_MS + number)
    assert first.replica is not None
    title = Draft(Kind.TITLE, bodies.Title(title="at first"), START_MS)
    n = first.replica.create_log(LogKind.CONVERSATION, [title], START_MS)
    topics = [state.keys.topic for state in first.replica.logs()]
    for machine in machines[1:]:
        role = roles.get(machine.index)
        if role == "newcomer":
            continue
        machine.introduce(first, START_MS)
        peer = first.introduce(machine, START_MS)
        if role is None:
            belonging.admit(first.replica, peer, START_MS)
        else:
            assert machine.replica is not None
            machine.replica.add_blind_log(first.replica.log(n).keys.topic)
    for machine in machines:
        network.boot(machine)
    for machine in machines[1:]:
        network.meet(machine, first)
    network.run_until_quiet(_QUIET_MS, _HEAL_MAX_MS)
    for machine in machines:
        known = machine.index in roles or all(machine.log_n(topic) for topic in topics)
        assert known, f"{machine} was not given the logs of its person"
    return Paired([machine.disk.snapshot() for machine in machines], topics)


def _chat_line(number: int) -> Draft:
    """A line of the chat that everybody imports, over four months before the start."""
    number %= _CHAT_LINES
    mid = MessageId(blake3(b"line %d" % number).digest(length=16))
    earlier = blake3(b"line %d" % (number - 1)).digest(length=16).hex()
    time_ms = START_MS - 120 * DAY_MS + number * DAY_MS // 3
    by, at = f"nick{number % 5}", number + 1
    if number % 40 == 3:
        return Draft(Kind.EDIT, bodies.Edit(of=earlier, text="green edited", by=by, at=at), time_ms, mid)
    if number % 40 == 5:
        return Draft(Kind.REACTION, bodies.Reaction(of=earlier, emoji="👍", by=by, at=at), time_ms, mid)
    if number % 40 == 6:
        return Draft(Kind.ERASURE, bodies.Erasure(of=earlier, by=by, at=at), time_ms, mid)
    return Draft(Kind.MESSAGE, bodies.Text(text=f"bottles {number}", by=by, at=at), time_ms, mid)
