"""Discovery: what is sent when, what is heard of whom, and how much of it is read."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.adapters.discovery import Discovery
from mlog.adapters.interfaces import Interface, InterfaceKind, announceable, kind_of, loopback, present
from mlog.adapters.multicast import Multicast, Rates, announcements_in, txt_strings
from mlog.errors import StoreError
from mlog.log.crypto import DeviceKeys
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow
from mlog.protocol.beacon import Announcement, beacon_tags, decode_txt, encode_txt, hour_of, pair_keys

_START_MS = 1_800_000_000_000
_HOUR_MS = 3_600_000
_PORT = 7367
_LAN = Interface("eth0", 2, "192.0.2.7", 24)
_OTHER_LAN = Interface("wlan0", 3, "198.51.100.7", 24)
_SERVICE = "_mlog._tcp.local."


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
        self.now_ms = _START_MS
        self.peers = [row(device) for device in known or (BOB,)]
        self.interfaces: list[Interface] = [_LAN]
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
    await world.discovery.start(_PORT, **options)
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
    time_ms: int = _START_MS,
) -> dict[bytes, bytes]:
    pairs = [pair_keys(own.noise_seed, other.noise_public) for other in known]
    tags = beacon_tags(pairs, own.noise_seed, instance, addresses, hour_of(time_ms))
    return encode_txt(Announcement(addresses, tuple(tags)))


# -- what is sent when -----------------------------------------------------------------------


def test_after_the_first_announcement_nothing_is_sent_while_nothing_changes() -> None:
    async def test() -> None:
        async with running(World()) as world:
            assert world.air.taken() == ["open 192.0.2.7", "announce"]
            for _ in range(1000):
                assert await world.later() == []
            assert world.now_ms > _START_MS + 2 * _HOUR_MS

    run(test())


def test_an_old_announcement_answers_no_question_and_the_first_one_brings_a_new_one() -> None:
    async def test() -> None:
        async with running(World()) as world:
            assert world.discovery.asked()
            world.now_ms += _HOUR_MS
            assert not world.discovery.asked()
            world.air.taken()
            assert await world.later(1) == ["announce"]
            assert world.discovery.asked()
            assert await world.later() == []
            (first, _), (second, strings) = world.air.announcements
            assert first != second
            world_of_bob = World(BOB, ANN)
            world_of_bob.now_ms = world.now_ms
            async with running(world_of_bob):
                world_of_bob.discovery.announced(second, strings)
                assert [device for device, _ in world_of_bob.seen] == [ANN.id]

    run(test())


def test_the_loop_answers_a_question_without_waiting_for_the_next_look() -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.now_ms += _HOUR_MS
            world.air.taken()
            world.discovery.asked()
            async with asyncio.timeout(limits.INTERFACES_LOOK_MS / 2000):
                await world.air.until("announce")

    run(test())


@pytest.mark.parametrize(
    ("change", "done"),
    [
        (lambda world: world.peers.append(row(EVE)), ["announce"]),
        (lambda world: world.peers.__setitem__(0, row(EVE)), ["announce"]),
        (lambda world: world.interfaces.append(_OTHER_LAN), ["open 192.0.2.7 198.51.100.7", "announce"]),
        (lambda world: world.interfaces.__setitem__(0, _OTHER_LAN), ["open 198.51.100.7", "announce"]),
        (lambda world: world.peers.__setitem__(0, row(BOB, seen_ms=5)), []),
        (lambda world: world.interfaces.append(_LAN._replace(kind=InterfaceKind.VIRTUAL)), []),
    ],
    ids=["a device more", "another device", "a network more", "another network", "met again", "no network"],
)
def test_a_new_name_goes_out_with_each_change_of_devices_and_addresses_only(
    change: Callable[[World], object], done: list[str]
) -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.air.taken()
            change(world)
            assert await world.later() == done
            assert await world.later() == []
            names = [instance for instance, _ in world.air.announcements]
            assert len(set(names)) == len(names)

    run(test())


def test_a_machine_that_slept_or_whose_clock_was_set_announces_itself_again() -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.air.taken()
            assert await world.later(10 * 60_000) == ["announce"]
            assert await world.later(-10 * 60_000) == ["announce"]
            assert await world.later() == []

    run(test())


def test_a_change_and_a_search_are_followed_by_a_few_questions_and_no_more() -> None:
    async def test() -> None:
        async with running(World()) as world:
            for _ in range(100):
                world.discovery.search()
            await world.air.until("ask")
            assert len([each for each in world.discovery._questions if not each.cancelled()]) == 3
            # Within the hour a search needs no new announcement.
            assert world.air.did.count("announce") == 1

    run(test())


def test_a_search_announces_again_what_is_an_hour_old() -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.now_ms += _HOUR_MS
            world.discovery._looked_ms = world.now_ms
            world.air.taken()
            world.discovery.search()
            await world.air.until("announce")

    run(test())


def test_who_knows_no_device_opens_no_socket() -> None:
    async def test() -> None:
        world = World()
        world.peers = []
        async with running(world):
            assert world.air.taken() == []
            assert not world.discovery.asked()
            world.peers = [row(BOB)]
            assert await world.later() == ["open 192.0.2.7", "announce"]
            world.peers = []
            assert await world.later() == ["close"]

    run(test())


def test_without_a_network_it_says_so_and_begins_when_there_is_one() -> None:
    async def test() -> None:
        world = World()
        world.interfaces = [Interface("lo", 1, "127.0.0.1", 8, InterfaceKind.LOOPBACK)]
        async with running(world):
            assert world.discovery.problem == "this machine is in no network"
            world.interfaces = [_LAN]
            assert await world.later() == ["open 192.0.2.7", "announce"]
            assert not world.discovery.problem

    run(test())


def test_a_port_that_another_program_keeps_is_a_problem_and_tried_again() -> None:
    async def test() -> None:
        world = World()
        world.air.refuses = True
        async with running(world):
            assert world.discovery.problem == "Address in use"
            world.air.refuses = False
            world.air.taken()
            assert await world.later() == ["open 192.0.2.7", "announce"]
            assert not world.discovery.problem

    run(test())


def test_a_store_that_fails_ends_nothing() -> None:
    async def test() -> None:
        async with running(World()) as world:

            def fail() -> list[PeerRow]:
                raise StoreError("the disk is gone")

            world.discovery._peers = fail
            world.air.taken()
            assert await world.later() == []
            assert world.discovery.asked()

    run(test())


def test_a_device_that_does_not_listen_hears_and_announces_nothing() -> None:
    async def test() -> None:
        world = World()
        await world.discovery.start(0)
        assert world.air.taken() == ["open 192.0.2.7", "withdraw"]
        assert not world.discovery.asked()
        world.discovery.announced("abcdefgh2345", announced_by(BOB, ANN))
        assert world.seen == [(BOB.id, ("192.0.2.9:7367",))]
        await world.discovery.stop()

    run(test())


def test_only_addresses_that_the_server_listens_at_are_announced() -> None:
    async def test() -> None:
        world = World()
        world.interfaces = [_LAN, _OTHER_LAN]
        async with running(world, hosts=["198.51.100.7"]):
            [(_, strings)] = world.air.announcements
            assert decode_txt(strings).addresses == ("198.51.100.7:7367",)

    run(test())


def test_of_too_many_devices_those_met_last_can_recognise_the_announcement() -> None:
    async def test() -> None:
        others = [keys(number) for number in range(2, 3 + limits.BEACON_TAGS_MAX)]
        world = World(ANN)
        world.peers = [row(device, seen_ms=number) for number, device in enumerate(others)]
        async with running(world):
            [(instance, strings)] = world.air.announcements
        for other, recognises in ((others[0], False), (others[1], True), (others[-1], True)):
            theirs = World(other, ANN)
            async with running(theirs):
                theirs.discovery.announced(instance, strings)
                assert bool(theirs.seen) == recognises

    run(test())


def test_zeroconf_is_not_imported_before_something_is_sent() -> None:
    code = "import sys, mlog.adapters.discovery; sys.exit(any('zeroconf' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- what is heard ---------------------------------------------------------------------------


def heard(world: World, *announcements: tuple[str, dict[bytes, bytes]]) -> None:
    async def test() -> None:
        async with running(world):
            for instance, strings in announcements:
                world.discovery.announced(instance, strings)

    run(test())


def test_a_known_device_is_seen_at_its_addresses_with_those_of_our_network_first() -> None:
    world = World()
    addresses = ("203.0.113.1:7367", "[2001:db8::9]:7367", "192.0.2.9:7367")
    heard(world, ("abcdefgh2345", announced_by(BOB, ANN, addresses=addresses)))
    assert world.seen == [(BOB.id, (addresses[2], *addresses[:2]))]


def test_who_is_not_known_is_not_seen() -> None:
    world = World()
    heard(world, ("abcdefgh2345", announced_by(EVE, ANN)), ("bcdefgh23456", announced_by(BOB, EVE)))
    assert world.seen == []


def test_no_device_is_told_that_it_sees_itself() -> None:
    async def test() -> None:
        world = World(ANN, BOB, ANN)
        async with running(world):
            [announcement] = world.air.announcements
            world.discovery.announced(*announcement)
            assert world.seen == []

    run(test())


def test_nobody_is_sent_to_services_of_his_own_machine() -> None:
    world = World()
    addresses = ("127.0.0.1:7367", "192.0.2.9:7367")
    heard(
        world,
        ("abcdefgh2345", announced_by(BOB, ANN, addresses=addresses)),
        ("bcdefgh23456", announced_by(BOB, ANN, instance="bcdefgh23456", addresses=addresses[:1])),
    )
    assert world.seen == [(BOB.id, ("192.0.2.9:7367",))]


def test_the_same_announcement_leads_to_a_dial_only_now_and_then() -> None:
    async def test() -> None:
        async with running(World()) as world:
            strings = announced_by(BOB, ANN)
            for _ in range(1000):
                world.discovery.announced("abcdefgh2345", strings)
            assert len(world.seen) == 1
            world.now_ms += limits.SEEN_AGAIN_MS
            world.discovery.announced("abcdefgh2345", strings)
            assert len(world.seen) == 2

    run(test())


def test_a_copy_of_an_announcement_that_was_replaced_counts_no_more() -> None:
    async def test() -> None:
        async with running(World()) as world:
            old = announced_by(BOB, ANN)
            new = announced_by(BOB, ANN, instance="bcdefgh23456", addresses=("192.0.2.10:7367",))
            world.discovery.announced("abcdefgh2345", old)
            world.discovery.announced("bcdefgh23456", new)
            world.now_ms += limits.SEEN_AGAIN_MS
            world.discovery.announced("abcdefgh2345", old)
            assert [addresses for _, addresses in world.seen] == [("192.0.2.9:7367",), ("192.0.2.10:7367",)]

    run(test())


def test_what_is_remembered_of_a_device_that_changes_its_name_all_the_time_is_bounded() -> None:
    async def test() -> None:
        async with running(World()) as world:
            entropy = Seeded(7)
            for _ in range(limits.SIGHTINGS_MAX + 50):
                instance = "".join(chr(ord("a") + byte % 26) for byte in entropy.random(12))
                world.discovery.announced(instance, announced_by(BOB, ANN, instance=instance))
            assert len(world.discovery._told) == limits.SIGHTINGS_MAX
            world.peers = [row(EVE)]
            await world.discovery.look()
            assert not world.discovery._newest

    run(test())


@given(st.text(), st.dictionaries(st.binary(max_size=3), st.binary(max_size=300)))
def test_no_announcement_ends_anything(instance: str, strings: dict[bytes, bytes]) -> None:
    world = World()
    heard(world, (instance, {b"v": b"1", b"t0": b"12345678", **strings}))
    assert world.seen == []


# -- packets ---------------------------------------------------------------------------------


class FakeHearer:
    """Remembers what it is told."""

    def __init__(self, answers: bool = True):
        self.questions = 0
        self.announcements: list[tuple[str, Mapping[bytes, bytes]]] = []
        self._answers = answers

    def asked(self) -> bool:
        self.questions += 1
        return self._answers

    def announced(self, instance: str, strings: Mapping[bytes, bytes]) -> None:
        self.announcements.append((instance, strings))


def name_of(name: str) -> bytes:
    labels = name.rstrip(".").split(".")
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def record(name: str, kind: int, data: bytes, ttl: int = 120) -> bytes:
    return name_of(name) + struct.pack(">HHIH", kind, 0x8001, ttl, len(data)) + data


def response(*records: bytes) -> bytes:
    return struct.pack(">6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def question(name: str = _SERVICE) -> bytes:
    return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + name_of(name) + struct.pack(">HH", 12, 1)


def txt(strings: Mapping[bytes, bytes]) -> bytes:
    return b"".join(bytes([len(k) + 1 + len(v)]) + k + b"=" + v for k, v in strings.items())


def announcement(instance: str = "abcdefgh2345", ttl: int = 120) -> bytes:
    return response(record(f"{instance}.{_SERVICE}", 16, txt(announced_by(BOB, ANN)), ttl))


@asynccontextmanager
async def multicast(hearer: FakeHearer) -> AsyncGenerator[Multicast, None]:
    made = Multicast(hearer)
    made._networks = [ip_network("192.0.2.0/24")]
    yield made


def taken(packet: bytes, source: str = "192.0.2.9", *, answers: bool = True) -> tuple[bool, FakeHearer]:
    """Whether zeroconf sees a packet, and what was told of it."""
    hearer = FakeHearer(answers)
    result: list[bool] = []

    async def test() -> None:
        async with multicast(hearer) as air:
            result.append(air.take(packet, source))

    run(test())
    return result[0], hearer


def test_an_announcement_is_read_here_and_kept_out_of_zeroconf() -> None:
    passed_on, hearer = taken(announcement())
    assert not passed_on
    assert hearer.announcements == [("abcdefgh2345", announced_by(BOB, ANN))]


@pytest.mark.parametrize("answers", [True, False])
def test_a_question_is_answered_if_the_announcement_that_stands_may(answers: bool) -> None:
    passed_on, hearer = taken(question(), answers=answers)
    assert passed_on == answers
    assert hearer.questions == 1


@pytest.mark.parametrize(
    ("packet", "source"),
    [
        (question("_http._tcp.local."), "192.0.2.9"),
        (question("_services._dns-sd._udp.local."), "192.0.2.9"),
        (announcement() + bytes(limits.MULTICAST_PACKET_MAX_BYTES), "192.0.2.9"),
        (question(), "198.51.100.1"),
        (question(), "2001:db8::1"),
        (announcement(), "198.51.100.1"),
        (question(), "not an address"),
    ],
    ids=["other", "which services", "too long", "far", "far v6", "announced from far", "no address"],
)
def test_what_is_dropped_unread(packet: bytes, source: str) -> None:
    passed_on, hearer = taken(packet, source)
    assert not passed_on
    assert not hearer.questions
    assert not hearer.announcements


@pytest.mark.parametrize("source", ["fe80::1", "192.0.2.200", "::ffff:192.0.2.200"])
def test_who_is_near_is_heard(source: str) -> None:
    assert taken(question(), source)[0]


def test_a_question_in_capitals_is_one_too() -> None:
    assert taken(question(_SERVICE.upper()))[0]


def test_a_farewell_is_no_announcement() -> None:
    assert taken(announcement(ttl=0))[1].announcements == []


def test_of_one_packet_only_a_few_announcements_are_read() -> None:
    records = [record(f"a{n}.{_SERVICE}", 16, b"\x03v=1") for n in range(100)]
    assert len(taken(response(*records))[1].announcements) == limits.MULTICAST_RECORDS_MAX


class Hands:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s


def test_thousands_of_instances_cost_a_bounded_number_of_readings() -> None:
    hearer = FakeHearer()
    packet = announcement()

    async def test() -> None:
        async with multicast(hearer) as air:
            clock: Any = Hands()
            air._rates, air._loop = Rates(0.0), clock
            for n in range(20_000):
                air.take(packet.replace(b"abcdefgh2345", b"%012d" % n), f"192.0.2.{n % 250}")
            assert len(hearer.announcements) == limits.MULTICAST_BURST
            clock.now_s = 1.0
            for n in range(20_000):
                air.take(packet, f"192.0.2.{n % 250}")
            assert len(hearer.announcements) == limits.MULTICAST_BURST + limits.MULTICAST_PER_S

    run(test())


def test_one_loud_source_leaves_room_for_the_others() -> None:
    rates = Rates(0.0)
    assert sum(rates.take("192.0.2.66", 0.0) for _ in range(10_000)) == limits.MULTICAST_SOURCE_BURST
    assert rates.take("192.0.2.9", 0.0)


def test_the_rates_of_made_up_sources_take_bounded_memory() -> None:
    rates = Rates(0.0)
    for n in range(5 * limits.MULTICAST_SOURCES_MAX):
        rates.take(str(n), n / 1000)
    assert len(rates) == limits.MULTICAST_SOURCES_MAX


@pytest.mark.parametrize(
    ("text", "strings"),
    [
        (b"", {}),
        (b"\0\0\0", {}),
        (b"\x03v=1\x03v=2", {b"v": b"1"}),
        (b"\x03v=1\xffa=", {b"v": b"1", b"a": b""}),
        (b"\x04=abc\x01v\x05a=b=c", {b"a": b"b=c"}),
    ],
)
def test_strings_of_a_txt_record(text: bytes, strings: dict[bytes, bytes]) -> None:
    assert txt_strings(text) == strings


@given(st.binary(max_size=200), st.booleans())
def test_no_packet_ends_anything(data: bytes, is_response: bool) -> None:
    head = struct.pack(">6H", 0, 0x8400 if is_response else 0, 1, 3, 1, 1)
    announcements_in(head + name_of(_SERVICE) + data)
    announcements_in(data + name_of(_SERVICE))
    taken((data + name_of(_SERVICE))[:8], "192.0.2.9")


@pytest.mark.parametrize(
    "data",
    [
        record(f"x.{_SERVICE}", 16, b"\xff" * 8000),
        record(f"x.{_SERVICE}", 33, b"\0" * 6 + name_of("x.local.")),
        record(f"x.{_SERVICE}", 1, b"\x7f\0\0\1"),
        name_of(_SERVICE)[:-1] + b"\xc0\x0c",
        b"\xc0\x0c" * 40,
    ],
    ids=["huge TXT", "SRV", "A", "a name that names itself", "pointers in a circle"],
)
def test_records_of_another_form_are_no_announcement(data: bytes) -> None:
    for _, strings in announcements_in(response(data)):
        assert b"v" not in strings


# -- interfaces ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flags", "kind"),
    [
        ("eth0", 0x1003, InterfaceKind.LAN),
        ("wlp3s0", 0x1003, InterfaceKind.LAN),
        ("en0", None, InterfaceKind.LAN),
        ("Wi-Fi", None, InterfaceKind.LAN),
        ("lo", 0x9, InterfaceKind.LOOPBACK),
        ("Loopback Pseudo-Interface 1", None, InterfaceKind.LOOPBACK),
        ("wg0", 0x91, InterfaceKind.TUNNEL),
        ("tun7", 0x1091, InterfaceKind.TUNNEL),
        ("home-vpn", 0x1091, InterfaceKind.TUNNEL),
        ("utun3", None, InterfaceKind.TUNNEL),
        ("docker0", 0x1003, InterfaceKind.VIRTUAL),
        ("vEthernet (WSL)", None, InterfaceKind.VIRTUAL),
    ],
)
def test_what_an_interface_is_for(name: str, flags: int | None, kind: InterfaceKind) -> None:
    assert kind_of(name, flags) is kind


def test_addresses_are_announced_best_first_and_only_those_that_neighbours_reach() -> None:
    interfaces = [
        Interface("eth0", 2, "169.254.3.4", 16),
        Interface("eth0", 2, "fe80::1", 64),
        Interface("eth0", 2, "2001:db8::7", 64),
        Interface("wg0", 5, "10.9.0.2", 32, InterfaceKind.TUNNEL),
        Interface("docker0", 6, "172.17.0.1", 16, InterfaceKind.VIRTUAL),
        Interface("wlan0", 3, "192.0.2.7", 24),
    ]
    assert announceable(interfaces) == ["192.0.2.7", "2001:db8::7", "169.254.3.4"]
    many = [Interface("eth0", 2, f"192.0.2.{n}", 24) for n in range(1, 100)]
    assert len(announceable(many)) == limits.BEACON_ADDRESSES_MAX


def test_the_interfaces_of_this_machine_include_itself() -> None:
    assert any(each.address == "127.0.0.1" and each.kind is InterfaceKind.LOOPBACK for each in present()), (
        "every machine that runs this has IPv4 on loopback"
    )


# -- real packets on loopback ----------------------------------------------------------------


def _listener() -> socket.socket:
    """A socket that hears all multicast DNS on loopback.

    Raises:
        OSError: This machine has no multicast there.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("" if os.name == "nt" else "224.0.0.251", 5353))
        member = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        listener.settimeout(2)
        probe = b"\0" * 4 + os.urandom(8)
        listener.sendto(probe, ("224.0.0.251", 5353))
        for _ in range(100):
            if listener.recv(9000) == probe:
                listener.setblocking(False)
                return listener
        raise TimeoutError
    except OSError:
        listener.close()
        raise


@pytest.fixture
def wire() -> Any:
    try:
        listener = _listener()
    except OSError as error:
        pytest.skip(f"this machine has no multicast on loopback: {error}")
    with listener:
        yield listener


def real(own: DeviceKeys, known: DeviceKeys, seen: asyncio.Queue[Any], clock: Callable[[], int]) -> Discovery:
    return Discovery(
        noise_seed=own.noise_seed,
        peers=lambda: [row(known)],
        on_seen=lambda device, addresses: seen.put_nowait((device, addresses)),
        entropy=Seeded(int.from_bytes(os.urandom(8), "big")),
        clock_ms=clock,
        interfaces=loopback,
    )


def packets(wire: socket.socket, about: bytes = b"_mlog") -> list[bytes]:
    """What came since the last call."""
    found: list[bytes] = []
    while True:
        try:
            data = wire.recv(9000)
        except BlockingIOError:
            return found
        if about in data:
            found.append(data)


def test_two_devices_find_each_other_by_multicast_and_name_nobody(wire: socket.socket) -> None:
    async def test() -> None:
        seen: dict[str, asyncio.Queue[Any]] = {"ann": asyncio.Queue(), "bob": asyncio.Queue()}
        ann = real(ANN, BOB, seen["ann"], lambda: _START_MS)
        bob = real(BOB, ANN, seen["bob"], lambda: _START_MS)
        await ann.start(4001)
        await bob.start(4002)
        try:
            assert not ann.problem
            assert await seen["ann"].get() == (BOB.id, ("127.0.0.1:4002",))
            assert await seen["bob"].get() == (ANN.id, ("127.0.0.1:4001",))
        finally:
            await ann.stop()
            await bob.stop()
        everything = b"".join(packets(wire))
        assert b"\x0c" + ann._instance.encode() in everything
        for secret in (
            socket.gethostname().partition(".")[0].encode(),
            *(part for device in (ANN, BOB) for part in (device.id, device.noise_public)),
        ):
            assert secret not in everything

    run(test())


def test_the_network_is_silent_after_the_start_and_an_old_name_is_never_sent_again(
    wire: socket.socket,
) -> None:
    async def test() -> None:
        now_ms = _START_MS
        seen: asyncio.Queue[Any] = asyncio.Queue()
        ann = real(ANN, BOB, seen, lambda: now_ms)
        await ann.start(4001)
        sent: list[bytes] = []
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            while loop.time() < began_s + 3.5:
                await asyncio.sleep(0.1)
                sent += packets(wire)
            first = ann._instance
            assert [bool(each[2] & 0x80) for each in sent].count(True) == 2, "announcements"
            assert [bool(each[2] & 0x80) for each in sent].count(False) == 3, "questions"
            now_ms += _HOUR_MS
            wire.sendto(question(), ("224.0.0.251", 5353))
            later: list[bytes] = []
            while not any(each[2] & 0x80 for each in later):
                await asyncio.sleep(0.01)
                later += packets(wire)
            assert ann._instance != first
            assert ann._instance.encode() in b"".join(later)
            assert first.encode() not in b"".join(later)
        finally:
            await ann.stop()

    run(test())
