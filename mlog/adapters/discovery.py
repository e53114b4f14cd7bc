"""Discovery on a LAN: says to known devices where this one is, and hears where they are.

An announcement goes out when there is something new to say: at the start, when the addresses or the
known devices change, and when the machine wakes up. After that nothing is sent. Its tags hold the
hour; when that is over the announcement is not replaced, but answers no question any more: the first
one that somebody asks is answered with a new one. So the network is silent while nothing happens, and
nothing that is old is ever sent. The machine's own interfaces are looked at every few seconds, which
sends nothing either.

Why, and what was measured: docs/decisions/0013-discovery.md. What an announcement says and to
whom: mlog/protocol/beacon.py. Sockets and packets: mlog/adapters/multicast.py.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol, TypeAlias

from mlog import limits
from mlog.adapters import interfaces as networks
from mlog.adapters.interfaces import Interface, InterfaceKind
from mlog.errors import InvalidInput, MlogError
from mlog.log.crypto import Entropy
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow
from mlog.protocol.beacon import (
    Announcement,
    PairKeys,
    beacon_tags,
    decode_txt,
    encode_txt,
    hour_of,
    pair_keys,
    random_instance,
    recognise,
)

__all__ = ["Air", "Discovery", "OnSeen"]

OnSeen: TypeAlias = Callable[[DeviceId, tuple[str, ...]], None]

_ASKED_AFTER_S: Final = (0.05, 1.0, 3.0)
"""When the question is asked after a change: a packet may get lost, or a network not be ready yet."""

_JUMP_MS: Final = 60_000
"""By how much a look may come late, before it means that the machine slept."""


class Air(Protocol):
    """What discovery asks of mlog/adapters/multicast.py."""

    async def open(self, interfaces: Sequence[Interface]) -> None: ...
    def announce(self, instance: str, port: int, strings: Mapping[bytes, bytes]) -> None: ...
    def withdraw(self) -> None: ...
    def ask(self) -> None: ...
    async def close(self) -> None: ...


class _Situation(NamedTuple):
    """What an announcement depends on, besides the hour."""

    addresses: tuple[str, ...]
    peers: tuple[tuple[DeviceId, bytes], ...]


class Discovery:
    """Finds known devices on the networks of this machine, and is found by them.

    Args:
        noise_seed: Own X25519 private key.
        peers: Gives the known devices now; asked every few seconds.
        on_seen: Told where a known device is: HOST:PORT, best first. It may be told the same again.
        entropy: For names.
        clock_ms: Milliseconds since 1970.
        interfaces: Gives the interfaces now; `mlog.adapters.interfaces.loopback` for tests.
        air: Makes what sends and hears packets.

    Attributes:
        problem: Why devices cannot be found now, in words for a person; empty if they can.
    """

    def __init__(
        self,
        *,
        noise_seed: bytes,
        peers: Callable[[], Sequence[PeerRow]],
        on_seen: OnSeen,
        entropy: Entropy,
        clock_ms: Callable[[], int],
        interfaces: Callable[[], Sequence[Interface]] = networks.present,
        air: Callable[[Discovery], Air] | None = None,
    ):
        self.problem = ""
        self._noise_seed = noise_seed
        self._peers = peers
        self._on_seen = on_seen
        self._entropy = entropy
        self._clock_ms = clock_ms
        self._interfaces = interfaces
        self._make_air = air or _multicast
        self._air: Air | None = None
        self._port = 0
        self._hosts: frozenset[str] | None = None
        self._at: list[Interface] = []
        self._pairs: dict[DeviceId, tuple[bytes, PairKeys]] = {}
        self._situation: _Situation | None = None
        self._instance = ""
        self._hour = -1
        self._due = False
        self._looked_ms = 0
        self._told: OrderedDict[tuple[DeviceId, str], int] = OrderedDict()
        self._newest: dict[DeviceId, str] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._questions: list[asyncio.TimerHandle] = []

    # -- from start to end -------------------------------------------------------------------

    async def start(self, port: int, hosts: Collection[str] | None = None) -> None:
        """Begin. That nothing can be sent now is no error: `problem` says so, and it is tried again.

        Args:
            port: Where this device listens; 0 for one that does not, and only hears of others.
            hosts: The IP addresses that it listens at; None for all of them.
        """
        assert self._task is None
        self._port = port
        self._hosts = None if hosts is None else frozenset(hosts)
        self._looked_ms = self._clock_ms()
        await self.look()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def search(self) -> None:
        """Ask now who is there, and announce again if that is due: when a person wants it at once."""
        self._ask()
        self._due = True
        self._woken.set()

    async def stop(self) -> None:
        """Say farewell, and end."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._cancel_questions()
        if self._air is not None:
            await self._air.close()
            self._air = None

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.INTERFACES_LOOK_MS / 1000):
                    await self._woken.wait()
            self._woken.clear()
            await self.look()

    # -- what this device says ---------------------------------------------------------------

    async def look(self) -> None:
        """See what has changed, and say what is to be said of it; done every few seconds anyway."""
        now_ms = self._clock_ms()
        # A timer that comes late by so much: the machine slept, or its clock was set.
        slept = not -_JUMP_MS < now_ms - self._looked_ms < limits.INTERFACES_LOOK_MS + _JUMP_MS
        self._looked_ms = now_ms
        try:
            peers = self._know(self._peers())
        except MlogError:
            # The disk is the node's business, which says so.
            return
        at = [each for each in self._interfaces() if each.kind is InterfaceKind.LAN]
        situation = _Situation(tuple(self._announceable(at)), peers)
        moved = not self._at or [each[1:4] for each in at] != [each[1:4] for each in self._at]
        if not peers or not at:
            await self._fall_silent("" if at else "this machine is in no network")
            return
        if moved and not await self._move(at):
            return
        changed = moved or situation != self._situation
        self._situation = situation
        stale = hour_of(now_ms) != self._hour
        if changed or slept or (self._due and stale):
            self._announce(situation, hour_of(now_ms))
        self._due = False
        if changed or slept:
            self._ask()

    def _announceable(self, at: Sequence[Interface]) -> list[str]:
        hosts = networks.announceable(at)
        return [_joined(host, self._port) for host in hosts if self._hosts is None or host in self._hosts]

    def _know(self, rows: Sequence[PeerRow]) -> tuple[tuple[DeviceId, bytes], ...]:
        """Keep the keys for these devices; those met last go first, since not all may have a tag."""
        ordered = sorted(rows, key=lambda row: (-row.seen_ms, row.device))
        for row in ordered:
            known = self._pairs.get(row.device)
            if known is None or known[0] != row.noise:
                with suppress(InvalidInput):
                    self._pairs[row.device] = row.noise, pair_keys(self._noise_seed, row.noise)
        devices = {row.device for row in ordered}
        for device in [device for device in self._pairs if device not in devices]:
            del self._pairs[device]
            self._newest.pop(device, None)
        self._pairs = {row.device: self._pairs[row.device] for row in ordered if row.device in self._pairs}
        return tuple(sorted((device, noise) for device, (noise, _) in self._pairs.items()))

    async def _move(self, at: list[Interface]) -> bool:
        """Use these interfaces from now on; whether that was possible."""
        if self._air is None:
            self._air = self._make_air(self)
        try:
            await self._air.open(at)
        except OSError as error:
            # Tried again with each look: it costs nothing and sends nothing.
            await self._fall_silent(str(error.strerror or error))
            return False
        self._at = at
        self.problem = ""
        return True

    async def _fall_silent(self, problem: str) -> None:
        self.problem = problem
        self._at = []
        self._situation = None
        self._instance = ""
        self._hour = -1
        self._cancel_questions()
        if self._air is not None:
            await self._air.close()
            self._air = None

    def _announce(self, situation: _Situation, hour: int) -> None:
        assert self._air is not None
        self._hour = hour
        if not self._port or not situation.addresses:
            self._instance = ""
            self._air.withdraw()
            return
        self._instance = random_instance(self._entropy)
        pairs = [pair for _, pair in self._pairs.values()]
        tags = beacon_tags(pairs, self._noise_seed, self._instance, situation.addresses, hour)
        announcement = Announcement(situation.addresses, tuple(tags))
        self._air.announce(self._instance, self._port, encode_txt(announcement))

    def _ask(self) -> None:
        """Ask a few times, with growing pauses."""
        self._cancel_questions()
        loop = asyncio.get_running_loop()
        self._questions = [loop.call_later(after_s, self._ask_once) for after_s in _ASKED_AFTER_S]

    def _ask_once(self) -> None:
        # A question names the announcement that stands, and one of an hour ago is not named any more.
        if self._air is not None and (not self._instance or self.asked()):
            self._air.ask()

    def _cancel_questions(self) -> None:
        for question in self._questions:
            question.cancel()

    # -- what this device hears --------------------------------------------------------------

    def asked(self) -> bool:
        """Somebody asks who is there; whether the announcement that stands may answer."""
        if not self._instance:
            return False
        if hour_of(self._clock_ms()) == self._hour:
            return True
        self._due = True
        self._woken.set()
        return False

    def announced(self, instance: str, strings: Mapping[bytes, bytes]) -> None:
        """An announcement came, of whomever: see whether it is of a known device."""
        if instance == self._instance:
            return
        try:
            announcement = decode_txt(strings)
        except InvalidInput:
            return
        now_ms = self._clock_ms()
        known = {device: pair for device, (_, pair) in self._pairs.items()}
        for device in recognise(known, instance, announcement, hour_of(now_ms)):
            if self._is_news(device, instance, now_ms):
                addresses = self._near_first(announcement.addresses)
                if addresses:
                    self._on_seen(device, addresses)

    def _is_news(self, device: DeviceId, instance: str, now_ms: int) -> bool:
        key = device, instance
        told_ms = self._told.get(key)
        if told_ms is None:
            self._newest[device] = instance
        elif self._newest.get(device) != instance or 0 <= now_ms - told_ms < limits.SEEN_AGAIN_MS:
            # What was replaced by a newer one is only a copy that somebody kept; and each telling
            # makes the node dial.
            return False
        self._told[key] = now_ms
        self._told.move_to_end(key)
        while len(self._told) > limits.SIGHTINGS_MAX:
            self._told.popitem(last=False)
        return True

    def _near_first(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Addresses in one of this machine's networks first; none that would lead back to it."""
        alone = all(ip_address(each.address).is_loopback for each in self._at)
        near: list[str] = []
        far: list[str] = []
        for address in addresses:
            literal = ip_address(address.rpartition(":")[0].strip("[]"))
            if literal.is_loopback and not alone:
                continue
            (near if any(literal in each.network for each in self._at) else far).append(address)
        return (*near, *far)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _multicast(hearer: Discovery) -> Air:
    # A tenth of a second of start-up, only where something is to be found.
    from mlog.adapters.multicast import Multicast

    return Multicast(hearer)
