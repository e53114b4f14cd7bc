"""Devices, announcements and packets for the tests of discovery, and a machine that the test changes."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mlog import limits
from mlog.adapters.discovery import Discovery
from mlog.adapters.interfaces import Interface
from mlog.log.crypto import DeviceKeys
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow
from mlog.protocol.beacon import Announcement, beacon_tags, encode_txt, hour_of, pair_keys

START_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
PORT = 7367
LAN = Interface("eth0", 2, "192.0.2.7", 24)
OTHER_LAN = Interface("wlan0", 3, "198.51.100.7", 24)
SERVICE = "_mlog._tcp.local."


class Seeded:
    """Entropy that replays."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def random(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        raise NotImplementedError


def keys(name: int) -> DeviceKeys:
    one = bytes([name])
    return DeviceKeys(one * 32, b"n" + one * 31, one * 32)


ANN, BOB, EVE = keys(1), keys(2), keys(3)


def row(device: DeviceKeys, seen_ms: int = 0) -> PeerRow:
    return PeerRow(device=device.id, name="", noise=device.noise_public, hpke=b"", own=True, seen_ms=seen_ms)


class FakeAir:
    """Remembers what it was told to do."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.announcements: list[tuple[str, dict[bytes, bytes]]] = []
        self.refuses = False
        self._changed = asyncio.Event()

    def _do(self, what: str) -> None:
        self.did.append(what)
        self._changed.set()

    async def until(self, what: str) -> None:
        while what not in self.did:
            self._changed.clear()
            await self._changed.wait()

    async def open(self, interfaces: Sequence[Interface]) -> None:
        if self.refuses:
            raise OSError(98, "Address in use")
        self._do("open " + " ".join(each.address for each in interfaces))

    def announce(self, instance: str, port: int, strings: Mapping[bytes, bytes]) -> None:
        self._do("announce")
        self.announcements.append((instance, dict(strings)))

    def withdraw(self) -> None:
        self._do("withdraw")

    def ask(self) -> None:
        self._do("ask")

    async def close(self) -> None:
        self._do("close")

    def taken(self) -> list[str]:
        did, self.did = self.did, []
        return did


class World:
    """What a discovery sees of the machine that it runs on; the test changes it."""

    def __init__(self, own: DeviceKeys = ANN, *known: DeviceKeys):
        self.now_ms = START_MS
        self.peers = [row(device) for device in known or (BOB,)]
        self.interfaces: list[Interface] = [LAN]
        self.seen: list[tuple[DeviceId, tuple[str, ...]]] = []
        self.air = FakeAir()
        self.discovery = Discovery(
            noise_seed=own.noise_seed,
            peers=lambda: self.peers,
            on_seen=lambda device, addresses: self.seen.append((device, addresses)),
            entropy=Seeded(own.id[0]),
            clock_ms=lambda: self.now_ms,
            interfaces=lambda: self.interfaces,
            air=lambda _: self.air,
        )

    async def later(self, ms: int = limits.INTERFACES_LOOK_MS) -> list[str]:
        """What is done in a look after some time, without questions."""
        self.now_ms += ms
        await self.discovery.look()
        return [each for each in self.air.taken() if each != "ask"]


@asynccontextmanager
async def running(world: World, **options: Any) -> AsyncGenerator[World, None]:
    await world.discovery.start(PORT, **options)
    try:
        yield world
    finally:
        await world.discovery.stop()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test

    asyncio.run(bounded())


def announced_by(
    own: DeviceKeys,
    *known: DeviceKeys,
    instance: str = "abcdefgh2345",
    addresses: tuple[str, ...] = ("192.0.2.9:7367",),
    time_ms: int = START_MS,
) -> dict[bytes, bytes]:
    pairs = [pair_keys(own.noise_seed, other.noise_public) for other in known]
    tags = beacon_tags(pairs, own.noise_seed, instance, addresses, hour_of(time_ms))
    return encode_txt(Announcement(addresses, tuple(tags)))


def name_of(name: str) -> bytes:
    labels = name.rstrip(".").split(".")
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def record(name: str, kind: int, data: bytes, ttl: int = 120) -> bytes:
    return name_of(name) + struct.pack(">HHIH", kind, 0x8001, ttl, len(data)) + data


def response(*records: bytes) -> bytes:
    return struct.pack(">6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def question(name: str = SERVICE) -> bytes:
    return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + name_of(name) + struct.pack(">HH", 12, 1)


def txt(strings: Mapping[bytes, bytes]) -> bytes:
    return b"".join(bytes([len(k) + 1 + len(v)]) + k + b"=" + v for k, v in strings.items())


def announcement(instance: str = "abcdefgh2345", ttl: int = 120) -> bytes:
    return response(record(f"{instance}.{SERVICE}", 16, txt(announced_by(BOB, ANN)), ttl))
