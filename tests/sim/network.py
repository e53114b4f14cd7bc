"""Network: a virtual clock, machines, and the connections between them. No threads, sockets or real time.

What happens stands in one queue, ordered by time and then by number; so a run is a function of its
seed. A connection is what a websocket is: frames arrive in order, each once, or the connection ends.
`Transport` can break that promise too: then the channel inside must end the session.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

import msgspec
from blake3 import blake3

from mlog.log.replica import Replica
from mlog.protocol import wire
from mlog.protocol.events import (
    Close,
    Closed,
    Dial,
    Effect,
    Event,
    Notice,
    Opened,
    Received,
    Seen,
    Send,
    Tick,
    Unreachable,
    WakeAt,
)
from mlog.protocol.node import Node
from mlog.protocol.session import Session

from .entropy import SeededEntropy
from .faults import Injected, InjectedBusy, Killed
from .machine import START_MS, Machine

__all__ = ["Connection", "Network", "Observer", "SimFailure", "Transport"]

_SLICE_MS: Final = 1
_RETRY_MS: Final = 1_000
_TIMER_MAX_MS: Final = 600_000
_EVENTS_MAX: Final = 150_000
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class SimFailure(AssertionError):
    """Something that must hold did not."""


class Transport(msgspec.Struct):
    """How a connection treats frames.

    Attributes:
        latency_ms: At least, and up to twice that.
        lose, repeat, swap: Chance of each frame to vanish, to come twice, to be overtaken by the next:
            what no websocket does.
    """

    latency_ms: int = 20
    lose: float = 0
    repeat: float = 0
    swap: float = 0

    @property
    def honest(self) -> bool:
        return not (self.lose or self.repeat or self.swap)


class _End(msgspec.Struct):
    """One end of a connection. `boot` tells a process from the one that was killed before it."""

    machine: Machine
    session: int
    boot: int
    open: bool = True


class Connection:
    """Two ends, and the frames that are on their way."""

    def __init__(self, number: int, ends: tuple[_End, _End], transport: Transport, random: Random):
        self.number = number
        self.ends = ends
        self.transport = transport
        self.random = random
        self.arrives_ms = [0, 0]
        self.flying = [0, 0]
        self.flying_size = [0, 0]
        self.broken = False

    @property
    def pair(self) -> frozenset[int]:
        return frozenset(end.machine.index for end in self.ends)

    @property
    def alive(self) -> bool:
        return not self.broken and all(end.open for end in self.ends)


class Observer:
    """Sees what happens; checkers are made of it."""

    def sending(self, machine: Machine, session: Session, message: wire.Message) -> None:
        """A node puts a message on its way; effects are carried out once the event is handled."""

    def sent(self, machine: Machine, connection: Connection, size: int) -> None:
        """A frame went out."""

    def handled(self, machine: Machine, event: Event | None, effects: list[Effect]) -> None:
        """A node handled an event."""


class _SimNode(Node):
    """A node whose messages can be watched, and altered where it is to lie."""

    outgoing: Callable[[Session, wire.Message], Iterable[wire.Message]]

    def _open(self, event: Opened) -> None:
        super()._open(event)
        session = self._sessions.get(event.session)
        if session is None:
            return
        send = session._send

        def tampered(message: wire.Message) -> None:
            for altered in self.outgoing(session, message):
                send(altered)

        session._send = tampered


class Network:
    """All machines and all that is on its way between them.

    Args:
        seed: Of everything that is drawn.
        keep_trace: Keep all events and effects, not only the hash over them.
        events_max: Beyond this many the run fails.
    """

    def __init__(
        self,
        seed: object,
        machines: Iterable[Machine],
        *,
        keep_trace: bool = False,
        events_max: int = _EVENTS_MAX,
    ):
        self.seed = seed
        self.now_ms = START_MS
        self._events_max = events_max
        self.machines = list(machines)
        self.observers: list[Observer] = []
        self.reachable: set[frozenset[int]] = set()
        self.connections: list[Connection] = []
        self.transport = Transport()
        self.tamper: dict[int, Callable[[Session, wire.Message], Iterable[wire.Message]]] = {}
        self.frames = 0
        self.honest_frames = 0
        self.size = 0
        self.events = 0
        self.last_frame_ms = START_MS
        self.notices: list[tuple[int, Notice]] = []
        self.trace: list[tuple[Any, ...]] | None = [] if keep_trace else None
        self._hash = blake3()
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = 0
        self._by_end: dict[tuple[int, int, int], tuple[Connection, int]] = {}
        self._kill_after: dict[int, int] = {}
        for machine in self.machines:
            machine.make_node = self._node_maker(machine)

    def _node_maker(self, machine: Machine) -> Callable[[Replica, SeededEntropy], Node]:
        def outgoing(session: Session, message: wire.Message) -> Iterable[wire.Message]:
            tamper = self.tamper.get(machine.index)
            for altered in (message,) if tamper is None else tamper(session, message):
                for observer in self.observers:
                    observer.sending(machine, session, altered)
                yield altered

        def make(replica: Replica, entropy: SeededEntropy) -> Node:
            node = _SimNode(replica, entropy)
            node.outgoing = outgoing
            return node

        return make

    @property
    def digest(self) -> str:
        """Hash over all events and effects so far, with their times."""
        return self._hash.hexdigest()

    # -- time --------------------------------------------------------------------------------

    def at(self, time_ms: int, act: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._queue, (max(time_ms, self.now_ms), self._numbers, act))

    def run(self, for_ms: int, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass; ends early once `until` says so."""
        end_ms = self.now_ms + for_ms
        while self._queue and self._queue[0][0] <= end_ms and not until():
            self.now_ms, _, act = heapq.heappop(self._queue)
            self.events += 1
            if self.events > self._events_max:
                raise SimFailure(f"more than {self._events_max} events: a livelock")
            act()
        if not until():
            self.now_ms = end_ms

    def run_until_quiet(self, quiet_ms: int, at_most_ms: int) -> None:
        """Until no frame was sent for so long."""
        end_ms = self.now_ms + at_most_ms
        self.last_frame_ms = self.now_ms
        while self.now_ms < end_ms:
            self.run(max(self.last_frame_ms + quiet_ms - self.now_ms, 1))
            if self.now_ms - self.last_frame_ms >= quiet_ms:
                return
        raise SimFailure(f"frames are still sent {at_most_ms // 60_000} minutes after all was connected")

    def local_ms(self, machine: Machine) -> int:
        return self.now_ms + machine.skew_ms

    # -- machines ----------------------------------------------------------------------------

    def boot(self, machine: Machine) -> None:
        if not machine.runs:
            self._turn(machine, None)

    def kill(self, machine: Machine) -> None:
        """The process is gone at once; its peers notice sooner or later."""
        for connection in self.connections_of(machine):
            self._lose(connection, but=machine)
        machine.shut_down()

    def kill_amid_effects(self, machine: Machine, after: int) -> None:
        """Kill it when it has carried out so many effects of the next events that have some."""
        self._kill_after[machine.index] = after

    def stop_kills(self) -> None:
        """Nobody is to be killed amid effects any more."""
        self._kill_after.clear()

    def post(self, machine: Machine, event: Event, delay_ms: int = 0) -> None:
        """Hand a machine an event; forgotten if its process is gone by then."""
        boot = machine.boots

        def arrive() -> None:
            if machine.runs and machine.boots == boot:
                machine.inbox.append(event)
                self._plan_turn(machine)

        self.at(self.now_ms + delay_ms, arrive)

    def _plan_turn(self, machine: Machine) -> None:
        if not machine.turn_is_due:
            machine.turn_is_due = True
            self.at(max(self.now_ms + _SLICE_MS, machine.stalled_until_ms), lambda: self._next_turn(machine))

    def _next_turn(self, machine: Machine) -> None:
        machine.turn_is_due = False
        if not machine.runs or not machine.inbox:
            return
        if machine.stalled_until_ms > self.now_ms:
            self._plan_turn(machine)
            return
        event = machine.inbox.popleft()
        self._turn(machine, event)
        if machine.inbox and machine.runs:
            self._plan_turn(machine)

    def _turn(self, machine: Machine, event: Event | None) -> None:
        now_ms = self.local_ms(machine)
        try:
            effects = machine.boot(now_ms) if event is None else machine.handle(event, now_ms)
        except Killed:
            self._record(machine, event, "killed")
            self.kill(machine)
            return
        except Injected:
            self._record(machine, event, "disk failed")
            self.kill(machine)
            return
        except InjectedBusy:
            self._record(machine, event, "busy")
            self._recover(machine, event)
            return
        except Exception as error:
            raise SimFailure(f"{machine} raised {error!r} at {type(event).__name__}") from error
        self._record(machine, event, effects)
        left = self._kill_after.get(machine.index)
        for effect in effects:
            if left is not None and not isinstance(effect, WakeAt):
                if left == 0:
                    del self._kill_after[machine.index]
                    self.kill(machine)
                    return
                left -= 1
                self._kill_after[machine.index] = left
            self._carry_out(machine, effect)
        for observer in self.observers:
            observer.handled(machine, event, effects)

    def _recover(self, machine: Machine, event: Event | None) -> None:
        # As mlog/adapters/runtime.py does it.
        if event is None:
            self.kill(machine)
        elif isinstance(event, Received):
            self._close(machine, event.session, "busy")
        else:
            self.post(machine, event, _RETRY_MS)

    def _record(self, machine: Machine, event: Event | None, outcome: str | list[Effect]) -> None:
        line = (self.now_ms, machine.index, type(event).__name__, event, outcome)
        named = [type(effect).__name__ for effect in outcome] if isinstance(outcome, list) else []
        self._hash.update(_ENCODE((*line, named)))
        if self.trace is not None:
            self.trace.append(line)

    # -- effects -----------------------------------------------------------------------------

    def _carry_out(self, machine: Machine, effect: Effect) -> None:
        match effect:
            case Send(session=session, data=data):
                self._send(machine, session, data)
            case Close(session=session, reason=reason):
                self._close(machine, session, reason)
            case Dial():
                self._dial(machine, effect)
            case WakeAt(time_ms=time_ms):
                self._arm(machine, time_ms)
            case Notice():
                self.notices.append((machine.index, effect))
            case _:
                pass  # Others tell the I/O around a node what it may rely on.

    def _arm(self, machine: Machine, time_ms: int) -> None:
        machine.timer += 1
        timer, boot = machine.timer, machine.boots
        delay_ms = min(max(time_ms - self.local_ms(machine), 0), _TIMER_MAX_MS)

        def tick() -> None:
            if machine.runs and machine.boots == boot and machine.timer == timer:
                machine.inbox.append(Tick())
                self._plan_turn(machine)

        self.at(self.now_ms + delay_ms, tick)

    def _dial(self, machine: Machine, dial: Dial) -> None:
        boot = machine.boots
        random = Random(f"{self.seed} dial {self._numbers}")

        def answer() -> None:
            if not machine.runs or machine.boots != boot:
                return
            other = next((m for m in self.machines if m.name in dial.addresses), None)
            if other is None or not other.runs or not self.can_reach(machine, other):
                self.post(machine, Unreachable(dial.device, "no route"))
            else:
                self._connect(machine, other, dial)

        self.at(self.now_ms + random.randint(1, 200), answer)

    def _connect(self, machine: Machine, other: Machine, dial: Dial) -> None:
        ends: list[_End] = []
        for one in (machine, other):
            one.sessions += 1
            ends.append(_End(one, one.sessions, one.boots))
        number = len(self.connections)
        transport = msgspec.structs.replace(self.transport)
        connection = Connection(
            number, (ends[0], ends[1]), transport, Random(f"{self.seed} connection {number}")
        )
        self.connections.append(connection)
        for side, end in enumerate(ends):
            self._by_end[end.machine.index, end.boot, end.session] = connection, side
        self.post(machine, Opened(session=ends[0].session, device=dial.device, address=other.name))
        self.post(other, Opened(session=ends[1].session, address=machine.name))

    # -- connections -------------------------------------------------------------------------

    def can_reach(self, one: Machine, other: Machine) -> bool:
        return frozenset((one.index, other.index)) in self.reachable

    def connections_of(self, machine: Machine, other: Machine | None = None) -> list[Connection]:
        """Those that are alive."""
        wanted = {machine.index} if other is None else {machine.index, other.index}
        return [c for c in self.connections if c.alive and wanted <= c.pair]

    def meet(self, one: Machine, other: Machine, *, both: bool = False) -> None:
        """The two can reach each other from now on, and one of them, or both, knows where."""
        self.reachable.add(frozenset((one.index, other.index)))
        self.post(one, Seen(other.device, (other.name,)))
        if both:
            self.post(other, Seen(one.device, (one.name,)))

    def part(self, one: Machine, other: Machine, *, half_open_ms: int = 0) -> None:
        """They cannot reach each other; their connection ends, at the other's side so much later."""
        self.reachable.discard(frozenset((one.index, other.index)))
        for connection in self.connections_of(one, other):
            self._lose(connection, late_ms=half_open_ms, late=other)

    def _lose(
        self,
        connection: Connection,
        *,
        but: Machine | None = None,
        late_ms: int = 0,
        late: Machine | None = None,
    ) -> None:
        connection.broken = True
        for end in connection.ends:
            if end.machine is not but and end.open:
                end.open = False
                delay_ms = late_ms if end.machine is late else 0
                if end.machine.boots == end.boot:
                    self.post(end.machine, Closed(end.session, "the connection was lost"), delay_ms)

    def _end_of(self, machine: Machine, session: int) -> tuple[Connection, int] | None:
        found = self._by_end.get((machine.index, machine.boots, session))
        return found if found is not None and found[0].ends[found[1]].open else None

    def _send(self, machine: Machine, session: int, data: bytes) -> None:
        found = self._end_of(machine, session)
        if found is None:
            return
        connection, side = found
        self.frames += 1
        self.size += len(data)
        if all(end.machine.honest for end in connection.ends):
            self.honest_frames += 1
            self.last_frame_ms = self.now_ms
        for observer in self.observers:
            observer.sent(machine, connection, len(data))
        transport, random = connection.transport, connection.random
        latency_ms = random.randint(transport.latency_ms, 2 * transport.latency_ms)
        arrives_ms = max(connection.arrives_ms[side], self.now_ms + latency_ms)
        copies = 1
        if not transport.honest:
            drawn = random.random()
            if drawn < transport.lose:
                copies = 0
            elif drawn < transport.lose + transport.repeat:
                copies = 2
            elif drawn < transport.lose + transport.repeat + transport.swap:
                arrives_ms += 3 * transport.latency_ms + 1
        if transport.honest:
            connection.arrives_ms[side] = arrives_ms
        for _ in range(copies):
            connection.flying[side] += 1
            connection.flying_size[side] += len(data)
            self.at(arrives_ms, lambda: self._arrive(connection, side, data))

    def _arrive(self, connection: Connection, side: int, data: bytes) -> None:
        connection.flying[side] -= 1
        connection.flying_size[side] -= len(data)
        end = connection.ends[1 - side]
        if not connection.broken and end.open and end.machine.boots == end.boot and end.machine.runs:
            end.machine.inbox.append(Received(end.session, data))
            self._plan_turn(end.machine)

    def _close(self, machine: Machine, session: int, reason: str) -> None:
        found = self._end_of(machine, session)
        if found is None:
            return
        connection, side = found
        end, other = connection.ends[side], connection.ends[1 - side]
        end.open = False
        self.post(machine, Closed(session, reason))

        def closed_there() -> None:
            if other.open:
                other.open = False
                if other.machine.boots == other.boot:
                    self.post(other.machine, Closed(other.session, "the other side closed it"))

        self.at(max(connection.arrives_ms[side], self.now_ms + connection.transport.latency_ms), closed_there)
