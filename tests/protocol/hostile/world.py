"""A victim, the peers that attack it, and what is checked after each event that they cause."""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from mlog import limits
from mlog.adapters.keystore import SystemEntropy
from mlog.adapters.sqlite import SqliteStore
from mlog.errors import ProtocolViolation
from mlog.log import belonging, bodies, crypto
from mlog.log.bodies import Kind
from mlog.log.crypto import DeviceKeys, Vault
from mlog.log.entry import Sealed, to_tail
from mlog.log.fold import Draft
from mlog.log.ids import Incarnation
from mlog.log.replica import Replica
from mlog.log.store import LogKind, Store
from mlog.protocol import wire
from mlog.protocol.channel import Channel
from mlog.protocol.events import (
    Close,
    Closed,
    Committed,
    Effect,
    Established,
    Event,
    Opened,
    Paged,
    Received,
    Send,
    Tick,
    WakeAt,
)
from mlog.protocol.node import Node
from tests.log.support import START_MS, SeededEntropy, device_keys, message
from tests.protocol.pair import peer_row

__all__ = [
    "EVENT_CPU_MAX_S",
    "SESSION_SIZE_MAX_BYTES",
    "Entropy",
    "Far",
    "Victim",
    "device_replica",
    "footprint",
    "sqlite_victim",
]

EVENT_CPU_MAX_S = 0.1
"""CPU time of one event, of this process: what other processes do on the machine does not count."""

SESSION_SIZE_MAX_BYTES = 48 * limits.MIB
"""All that one session holds: an inbox, what it was asked for, a sketch, and the digests of its logs."""

_TICKS_MAX = 400


class Entropy(SeededEntropy):
    """Seeded, but wraps for real: so wraps cost what they cost, and open."""

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        return SystemEntropy().wrap(recipient, secret, info)


class Victim:
    """One node over a store of its own, timed.

    Attributes:
        honest, hostile: Own devices.
        guest, stranger: One that is known and not own, and one that is not known.
        slow: The events that took the longest.
        over: How many took longer than EVENT_CPU_MAX_S.
    """

    def __init__(self, store: Store, seed: str = ""):
        self.now_ms = START_MS
        self.store = store
        self.honest, self.hostile = device_keys(1), [device_keys(2), device_keys(3)]
        self.guest, self.stranger = device_keys(4), device_keys(5)
        self.replica = replica = device_replica(store, 0, seed)
        for kind in (LogKind.PERSON, LogKind.PRIVATE, LogKind.CONVERSATION, LogKind.CONVERSATION):
            drafts = (
                [Draft(Kind.DEVICE, _record(replica.device_keys), START_MS)] if kind == LogKind.PERSON else []
            )
            replica.create_log(kind, drafts or [message(f"first of a {kind}")], START_MS)
        for keys in (self.honest, *self.hostile):
            belonging.admit(replica, peer_row(keys), START_MS)
        with store.transaction():
            store.put_peer(peer_row(self.guest, own=False))
        self.blind = replica.add_blind_log(device_keys(9).noise_seed[:16])  # pyright: ignore[reportArgumentType]
        self.node = Node(replica, Entropy(f"node {seed}"), dials=False)
        self.wake_ms: int | None = None
        self.far: dict[int, Far] = {}
        self.frames = 0
        self.numbers = 0
        self.events = Counter[str]()
        self.slow: deque[tuple[float, str, int]] = deque(maxlen=1000)
        self.over: list[tuple[float, str, int]] = []
        self.worst = 0.0
        self.label = ""
        self.closed = Counter[str]()
        self.reads = True

    # -- events ------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Give the node one event; nothing but what is meant to may come out of it."""
        started = time.process_time()
        effects = self.node.handle(event, self.now_ms)
        spent = time.process_time() - started
        self.events[type(event).__name__] += 1
        self.worst = max(self.worst, spent)
        if spent > EVENT_CPU_MAX_S / 4:
            self.slow.append((spent, f"{type(event).__name__} {self.label}", self.frames))
        if spent > EVENT_CPU_MAX_S:
            self.over.append((spent, f"{type(event).__name__} {self.label}", self.frames))
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(session=number, data=data):
                if number in self.far:
                    self.far[number].hear(data)
            case Close(session=number, reason=reason):
                self.closed[reason] += 1
                if number in self.far:
                    self.far.pop(number).closed = reason
            case WakeAt(time_ms=time_ms):
                self.wake_ms = time_ms
            case Established(session=number):
                if number in self.far:
                    self.far[number].established = True
            case Paged():
                pass
            case _:
                pass

    def open(self, keys: DeviceKeys, *, leads: bool) -> Far:
        """A connection with a device; `leads` means that it dialled."""
        self.numbers += 1
        far = Far(self, self.numbers, keys, leads=leads)
        self.far[far.number] = far
        self.handle(Opened(session=far.number, device=None if leads else keys.id))
        for frame in [far.channel.start()] if leads else far.take_answers():
            far.first_frame = frame
            self.receive(far, frame)
        return far

    def receive(self, far: Far, frame: bytes) -> None:
        """One websocket message arrives."""
        if far.closed is None:
            self.frames += 1
            self.label = far.label
            self.handle(Received(far.number, frame))
            self.work()
            for answer in far.take_answers():
                self.receive(far, answer)

    def work(self, most: int = _TICKS_MAX) -> None:
        """Let the node do what it has to do now."""
        for _ in range(most):
            if self.wake_ms is None or self.wake_ms > self.now_ms:
                return
            self.wake_ms = None
            self.handle(Tick())

    def rest(self) -> None:
        """Let it do all that it has to do now, however long that takes."""
        for _ in range(1000):
            self.work()
            if self.wake_ms is None or self.wake_ms > self.now_ms:
                return
        raise AssertionError("the node never comes to rest")

    def pass_time(self, for_ms: int) -> None:
        until_ms = self.now_ms + for_ms
        self.rest()
        for _ in range(10_000):
            if self.wake_ms is None or self.wake_ms > until_ms:
                break
            self.now_ms = max(self.now_ms, self.wake_ms)
            self.work()
        self.now_ms = until_ms

    def write(self) -> None:
        """The person writes, while all that goes on."""
        self.replica.write(3, [message("I am here", self.now_ms)], self.now_ms)
        self.label = "commit"
        self.handle(Committed())
        self.work()

    def close(self, far: Far) -> None:
        if self.far.pop(far.number, None) is not None:
            self.handle(Closed(far.number, "gone"))
            far.closed = "gone"

    @property
    def logs(self) -> list[Any]:
        return self.replica.logs()


class Far:
    """The far end of one session of the victim: an attacker's, with its real keys.

    Attributes:
        heard: Last message of each kind that the victim said.
        said: All that it said, opened; kept only where the device may have nothing.
        closed: Why the victim closed, or None.
        frames, received: The last frames that it sent, and that it got; `first_frame` is of the handshake.
        label: What it is about to do, for the report of slow events.
    """

    def __init__(self, victim: Victim, number: int, keys: DeviceKeys, *, leads: bool):
        self.victim = victim
        self.number = number
        self.keys = keys
        self.leads = leads
        self.closed: str | None = None
        self.established = False
        self.heard: dict[type[Any], Any] = {}
        self.asked: deque[Any] = deque(maxlen=64)
        self.said: list[bytes] = []
        self.frames_heard = 0
        self.frames: deque[bytes] = deque(maxlen=16)
        self.received: deque[bytes] = deque(maxlen=16)
        self.first_frame = b""
        self.answers: list[bytes] = []
        self.label = ""
        self._watched = keys in (victim.guest, victim.stranger)
        ephemeral = victim.node._entropy.random(32)
        if leads:
            noise = victim.replica.device_keys.noise_public
            self.channel = Channel.initiate(keys.noise_seed, noise, ephemeral)
        else:
            self.channel = Channel.respond(keys.noise_seed, ephemeral)

    @property
    def open(self) -> bool:
        return self.closed is None and self.channel.established

    @property
    def binding(self) -> bytes:
        return self.channel.binding

    def hear(self, data: bytes) -> None:
        self.frames_heard += 1
        self.received.append(data)
        try:
            messages = self.channel.receive(data)
        except ProtocolViolation:
            return
        if self.channel.peer_noise_public is not None and not self.channel.established:
            self.answers.append(self.channel.accept())
        for plain in messages:
            if self._watched:
                self.said.append(plain)
            found = wire.decode(plain)
            self.heard[type(found)] = found
            self.asked.append(found)

    def take_answers(self) -> list[bytes]:
        """What it has to answer to a handshake."""
        answers, self.answers = self.answers, []
        return answers

    def say(self, *messages: wire.Message) -> None:
        for said in messages:
            self.say_bytes(wire.encode(said))

    def say_bytes(self, plain: bytes) -> None:
        if self.open:
            for frame in self.channel.seal(plain):
                self.frames.append(frame)
                self.victim.receive(self, frame)

    def tag(self, log: int) -> bytes:
        """Name of a log in this session."""
        topic = next(row.topic for row in self.victim.store.logs() if row.n == log)
        return crypto.keyed_hash(self.binding, b"log" + topic, wire.TAG_SIZE)

    def send(self, log: int, entries: Sequence[Sealed]) -> None:
        """Send entries, in bundles as large as may be, and let the victim do all that it has to do."""
        part: list[wire.Packed] = []
        size = 0
        for count, sealed in enumerate(entries, 1):
            part.append(wire.Packed(to_tail(sealed), sealed.body, sealed.signature))
            size += len(sealed.outer) + len(sealed.body or b"")
            if (
                len(part) == limits.BUNDLE_ENTRIES_MAX
                or size > limits.BUNDLE_SIZE_MAX_BYTES
                or count == len(entries)
            ):
                self.say(wire.Entries(count, self.tag(log), tuple(part)))
                self.victim.rest()
                assert self.closed is None, self.closed
                part, size = [], 0

    def greet(self) -> Far:
        self.say(wire.Hello(1, 0, self.victim.now_ms))
        return self


def sqlite_victim(folder: Path, seed: str = "") -> Victim:
    """A victim whose store is a file, as it is for real."""
    return Victim(SqliteStore(folder / "mlog.db"), seed)


def device_replica(store: Store, index: int, seed: str) -> Replica:
    """One that wraps for real."""
    entropy = Entropy(f"replica {index} {seed}")
    return Replica(
        store, device_keys(index), Vault(bytes([index]) * 32), entropy, Incarnation(entropy.random(8))
    )


def _record(keys: DeviceKeys) -> bodies.Device:
    return bodies.Device(name="victim", person="the victim", noise=keys.noise_public, hpke=keys.hpke_public)


_STOP = (type, ModuleType, Replica, Node, SqliteStore)


def footprint(root: object) -> int:
    """Bytes of all objects that one holds, but for the replica and its store."""
    seen = {id(root)}
    waiting = [root]
    size = 0
    while waiting:
        found = waiting.pop()
        size += sys.getsizeof(found)
        for part in _parts(found):
            if id(part) not in seen and not isinstance(part, _STOP):
                seen.add(id(part))
                waiting.append(part)
    return size


def _parts(found: object) -> Iterator[object]:
    if isinstance(found, FunctionType):
        yield from (cell.cell_contents for cell in found.__closure__ or () if _is_filled(cell))
    elif isinstance(found, msgspec.Struct):
        yield from (getattr(found, name) for name in found.__struct_fields__)
    elif not isinstance(found, (bytes, str, int)):
        yield from gc.get_referents(found)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
