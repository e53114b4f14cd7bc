"""Two real nodes joined by a virtual network, and a puppet that speaks to one of them and may lie.

Time is virtual: a frame takes LATENCY_MS each way, and everything else happens in between. So a test
can say how many round trips something takes, and that nothing happens for an hour.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from mlog.log.crypto import DeviceKeys, EpochKeys, LogKeys
from mlog.log.ids import EntryId
from mlog.log.memory import MemoryStore
from mlog.log.peers import PeerRow
from mlog.log.replica import Draft, Replica
from mlog.log.store import EntryRow, LogKind, Store
from mlog.protocol import wire
from mlog.protocol.channel import Channel
from mlog.protocol.comparing import Inspect
from mlog.protocol.events import (
    Admitted,
    Close,
    Closed,
    Committed,
    Dial,
    Effect,
    Established,
    Event,
    Notice,
    Opened,
    Paged,
    Reach,
    Received,
    Send,
    Tick,
    WakeAt,
)
from mlog.protocol.node import Node
from mlog.protocol.pairing import Ended, Paired, Show
from mlog.protocol.session import Session
from tests.log.support import START_MS, SeededEntropy, device_keys, join, make_replica, message

LATENCY_MS = 10
ROUND_TRIP_MS = 2 * LATENCY_MS
WEEK_MS = 7 * 24 * 3600 * 1000
HOUR_MS = 3600 * 1000
_STEPS_MAX = 200_000


class End:
    """One node, and all that it ever did.

    Attributes:
        sent: Messages that left, before they were sealed, in order.
        bytes: Of the frames that left, handshakes not counted.
        wake_ms: What it asked for last.
    """

    def __init__(self, replica: Replica, seed: str, *, dials: bool = False, inspect: Inspect | None = None):
        self.replica = replica
        self.store = replica.store
        self.node = Node(replica, SeededEntropy(f"node {seed}"), dials=dials, inspect=inspect)
        self.sent: list[wire.Message] = []
        self.bytes = 0
        self.frames = 0
        self.wake_ms: int | None = None
        self.ticks = 0
        self.notices: list[Notice] = []
        self.pages: list[Paged] = []
        self.dials: list[Dial] = []
        self.closed: list[Close] = []
        self.established: list[Established] = []
        self.admitted: list[int] = []
        self.met: list[Show | Paired | Ended] = []

    def told(self, what: str) -> list[Notice]:
        return [notice for notice in self.notices if notice.what == what]

    def said(self, *kinds: type[wire.Message]) -> list[Any]:
        """Messages of these kinds that left."""
        return [message for message in self.sent if isinstance(message, kinds)]

    @property
    def ladder(self) -> list[str]:
        """The kinds of messages that left, but for what every session has."""
        usual = (wire.Hello, wire.Ack, wire.Receipt, wire.Done)
        return [type(message).__name__ for message in self.sent if not isinstance(message, usual)]

    def tap(self, number: int) -> None:
        """Note what a session says."""
        session = self.node._sessions[number]
        send = session._send

        def noting(message: wire.Message) -> None:
            self.sent.append(message)
            send(message)

        session._send = noting  # pyright: ignore[reportAttributeAccessIssue]


class Pair:
    """Two ends, A and B, and the network between them.

    Args:
        inspect: A only compares, and tells this what differs.
    """

    def __init__(
        self, a: Replica, b: Replica, *, inspect: Inspect | None = None, dials: bool = False, seed: str = ""
    ):
        self.now_ms = START_MS
        self.ends = (End(a, f"a {seed}", inspect=inspect, dials=dials), End(b, f"b {seed}", dials=dials))
        self.a, self.b = self.ends
        self._queue: list[tuple[int, int, End, Event]] = []
        self._order = count()
        self._numbers = count(1)
        self._open: set[int] = set()
        self.delay_ms = {self.a: LATENCY_MS, self.b: LATENCY_MS}

    def other(self, end: End) -> End:
        return self.b if end is self.a else self.a

    def connect(self, leader: End | None = None) -> int:
        """One end, A by default, dials the other; gives the number of the session."""
        number = next(self._numbers)
        leader = leader or self.a
        follower = self.other(leader)
        self._open.add(number)
        self.handle(follower, Opened(session=number))
        self.handle(leader, Opened(session=number, device=follower.replica.device_id))
        return number

    def _connect_strangers(self, leader: End) -> None:
        number = next(self._numbers)
        self._open.add(number)
        self.handle(self.other(leader), Opened(session=number))
        self.handle(leader, Opened(session=number, reached=True))

    def disconnect(self, number: int) -> None:
        """The connection breaks; what was on its way is lost."""
        self._open.discard(number)
        for end in self.ends:
            self.handle(end, Closed(number, "broken"))

    def handle(self, end: End, event: Event) -> list[Effect]:
        """Give a node an event now, and carry out what comes of it."""
        if isinstance(event, Tick):
            end.ticks += 1
        effects = end.node.handle(event, self.now_ms)
        if isinstance(event, Opened) and event.session in end.node._sessions:
            end.tap(event.session)
        self.carry_out(end, effects)
        return effects

    def carry_out(self, end: End, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(session=number, data=data):
                    end.frames += 1
                    if end.node._sessions.get(number) is None or end.node._sessions[number].exchange:
                        end.bytes += len(data)
                    self._post(self.other(end), Received(number, data), self.delay_ms[end], number)
                case Close(session=number):
                    end.closed.append(effect)
                    self._post(
                        self.other(end), Closed(number, "closed by the peer"), self.delay_ms[end], number
                    )
                    self._post(end, Closed(number, effect.reason), 0, number)
                case WakeAt(time_ms=time_ms):
                    end.wake_ms = time_ms
                case Notice():
                    end.notices.append(effect)
                case Paged():
                    end.pages.append(effect)
                case Dial():
                    end.dials.append(effect)
                case Established():
                    end.established.append(effect)
                case Reach():
                    self._connect_strangers(end)
                case Show() | Paired() | Ended():
                    end.met.append(effect)
                case Admitted():
                    end.admitted.append(effect.session)

    def _post(self, end: End, event: Event, delay_ms: int, number: int) -> None:
        if number in self._open:
            heapq.heappush(self._queue, (self.now_ms + delay_ms, next(self._order), end, event))

    def run(self, for_ms: int = 1000) -> None:
        """Let everything happen that happens in this time; less than it takes a log to settle by default."""
        until_ms = self.now_ms + for_ms
        for _ in range(_STEPS_MAX):
            if not self.step(until_ms):
                self.now_ms = until_ms
                return
        raise AssertionError("it goes on for ever")

    def step(self, until_ms: int) -> bool:
        """The next thing that happens until then, if any: what arrives goes before what wakes."""
        wakes = [(end.wake_ms, end) for end in self.ends if end.wake_ms is not None]
        wake_ms, waking = min(wakes, key=lambda wake: wake[0], default=(until_ms + 1, self.a))
        if self._queue and self._queue[0][0] <= max(wake_ms, self.now_ms):
            at_ms, _, end, event = self._queue[0]
            if at_ms > until_ms:
                return False
            heapq.heappop(self._queue)
            self.now_ms = max(self.now_ms, at_ms)
            if not isinstance(event, Received) or event.session in self._open:
                self.handle(end, event)
            return True
        if wake_ms > until_ms:
            return False
        self.now_ms = max(self.now_ms, wake_ms)
        waking.wake_ms = None
        self.handle(waking, Tick())
        return True

    def write(self, end: End, log: int, *texts: str, time_ms: int | None = None) -> list[EntryRow]:
        """Somebody writes at one end while the nodes run."""
        rows = end.replica.write(log, [message(text, self.now_ms) for text in texts], time_ms or self.now_ms)
        self.handle(end, Committed())
        return rows


def replica(index: int = 0, store: Store | None = None, seed: str = "") -> Replica:
    """A device with a store of its own."""
    return make_replica(store or MemoryStore(), index, seed)


def trust(one: Replica, other: Replica, *, own: bool = True) -> None:
    """Both know each other as devices that may connect."""
    for a, b in ((one, other), (other, one)):
        a.store.put_peer(peer_row(b.device_keys, own=own))


def peer_row(keys: DeviceKeys, *, own: bool = True, addresses: tuple[str, ...] = ("host:1",)) -> PeerRow:
    return PeerRow(
        device=keys.id,
        name=f"device {keys.id.hex()[:4]}",
        noise=keys.noise_public,
        hpke=keys.hpke_public,
        own=own,
        addresses=addresses,
    )


def share(one: Replica, other: Replica, log: int, as_log: int | None = None) -> int:
    """Give another replica the secrets of a log; gives its number there."""
    state = one.log(log)
    number = as_log or 1 + max((row.n for row in other.store.logs()), default=0)
    join(other, state.keys, state.kind, number)
    return number


def pair_of_logs(logs: int = 1, *, seed: str = "") -> Pair:
    """Two devices of one person that share some logs of which both hold the first entries."""
    a, b = replica(0, seed=seed), replica(1, seed=seed)
    trust(a, b)
    for _ in range(logs):
        share(a, b, a.create_log(LogKind.CONVERSATION, [message("first")], START_MS))
    for log in range(1, logs + 1):
        give(a, b, log)
    return Pair(a, b, seed=seed)


def give(one: Replica, other: Replica, log: int, ids: set[EntryId] | None = None) -> None:
    """Hand over entries without a session; all of them by default."""
    rows = one.store.arrivals(log, 0, 1000)
    while rows:
        chosen = [row for row in rows if ids is None or row.id in ids]
        other.receive(log, one.sealed_of(log, chosen, bodies=True), START_MS)
        rows = one.store.arrivals(log, rows[-1].n, 1000)
    while other.settle(log, START_MS):
        pass


def ids_of(store: Store, log: int = 1) -> set[EntryId]:
    """Every entry that is held of a log."""
    found: set[EntryId] = set()
    after = 0
    while rows := store.arrivals(log, after, 1000):
        found.update(row.id for row in rows)
        after = rows[-1].n
    return found


def drafts(*texts: str, time_ms: int = START_MS) -> list[Draft]:
    return [message(text, time_ms) for text in texts]


def secrets(replica: Replica, log: int = 1) -> tuple[LogKeys, Sequence[EpochKeys]]:
    keys = replica.log(log).keys
    return keys, keys.epochs


class Puppet:
    """The far end of a session with one node, moved by hand: it says what a test has it say.

    Args:
        node: The real one.
        keys: Of the puppet; the node's store must know them.
        leads: The puppet dials.
        beside: Another one at the same node.
    """

    def __init__(
        self,
        replica: Replica,
        keys: DeviceKeys | None = None,
        *,
        leads: bool,
        now_ms: int = START_MS,
        beside: Puppet | None = None,
    ):
        self.replica = replica
        self.keys = keys or device_keys(3)
        replica.store.put_peer(peer_row(self.keys))
        self._all: list[Puppet] = [self] if beside is None else beside._all
        if beside is None:
            self.node = Node(replica, SeededEntropy("node of a puppet"), dials=False)
        else:
            self.node = beside.node
            self._all.append(self)
        self.number = len(self._all)
        self.now_ms = now_ms
        self.closed: list[str] = []
        self.notices: list[Notice] = []
        self.pages: list[Paged] = []
        self.heard: list[wire.Message] = []
        self.wake_ms: int | None = None
        ephemeral = SeededEntropy(f"puppet {self.number}").random(32)
        opened = Opened(session=self.number, device=None if leads else self.keys.id)
        if leads:
            self.channel = Channel.initiate(self.keys.noise_seed, replica.device_keys.noise_public, ephemeral)
        else:
            self.channel = Channel.respond(self.keys.noise_seed, ephemeral)
        self.event(opened)
        if leads:
            self.event(Received(self.number, self.channel.start()))

    @property
    def session(self) -> Session:
        return self.node._sessions[self.number]

    @property
    def binding(self) -> bytes:
        return self.channel.binding

    def event(self, event: Event) -> None:
        """Give the node an event, and let it do all that follows without time passing."""
        self._take(self.node.handle(event, self.now_ms))
        for _ in range(_STEPS_MAX):
            if self.wake_ms is None or self.wake_ms > self.now_ms:
                return
            self.wake_ms = None
            self._take(self.node.handle(Tick(), self.now_ms))
        raise AssertionError("the node never comes to rest")

    def pass_time(self, for_ms: int) -> None:
        until_ms = self.now_ms + for_ms
        while self.wake_ms is not None and self.wake_ms <= until_ms:
            self.now_ms = max(self.wake_ms, self.now_ms)
            self.wake_ms = None
            self.event(Tick())
        self.now_ms = until_ms

    def _take(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(session=number, data=data):
                    self._all[number - 1]._receive(data)
                case Close(session=number, reason=reason):
                    self._all[number - 1].closed.append(reason)
                case WakeAt(time_ms=time_ms):
                    self.wake_ms = time_ms
                case Notice():
                    self.notices.append(effect)
                case Paged():
                    self.pages.append(effect)
                case _:
                    pass

    def _receive(self, data: bytes) -> None:
        before = self.channel.established
        for plain in self.channel.receive(data):
            decoded = wire.decode(plain)
            assert decoded is not None
            self.heard.append(decoded)
        if not self.channel.established and not before and self.channel.peer_noise_public is not None:
            accept = getattr(self.channel, "accept")  # noqa: B009
            self.event(Received(self.number, accept()))

    def say(self, *messages: wire.Message) -> list[wire.Message]:
        """Say something; gives what the node says to that."""
        return self.say_bytes(*(wire.encode(message) for message in messages))

    def say_bytes(self, *messages: bytes) -> list[wire.Message]:
        start = len(self.heard)
        for plain in messages:
            for frame in self.channel.seal(plain):
                if not self.closed:
                    self.event(Received(self.number, frame))
        return self.heard[start:]

    def greet(self) -> Puppet:
        """Say hello, and nothing else."""
        self.say(wire.Hello(1, 0, self.now_ms))
        return self

    def take(self, kind: type[wire.Message]) -> Any:
        """The last message of a kind that the node said."""
        return next(message for message in reversed(self.heard) if isinstance(message, kind))


def until(steps: Iterator[None] | None) -> None:
    """Run a job to its end."""
    for _ in steps or ():
        pass


Act = Callable[[Pair], None]
