"""Discovery: what is sent when, what is heard of whom, and how much of it is read."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.adapters.discovery import Discovery
from mlog.adapters.interfaces import Interface, InterfaceKind, loopback
from mlog.errors import StoreError
from mlog.log.crypto import DeviceKeys
from mlog.log.peers import PeerRow
from mlog.protocol.beacon import decode_txt

from .lan import (
    ANN,
    BOB,
    EVE,
    HOUR_MS,
    LAN,
    OTHER_LAN,
    START_MS,
    Seeded,
    World,
    announced_by,
    keys,
    question,
    row,
    run,
    running,
)

# -- what is sent when -----------------------------------------------------------------------


def test_after_the_first_announcement_nothing_is_sent_while_nothing_changes() -> None:
    async def test() -> None:
        async with running(World()) as world:
            assert world.air.taken() == ["open 192.0.2.7", "announce"]
            for _ in range(1000):
                assert await world.later() == []
            assert world.now_ms > START_MS + 2 * HOUR_MS

    run(test())


def test_an_old_announcement_answers_no_question_and_the_first_one_brings_a_new_one() -> None:
    async def test() -> None:
        async with running(World()) as world:
            assert world.discovery.asked()
            world.now_ms += HOUR_MS
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
            world.now_ms += HOUR_MS
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
        (lambda world: world.interfaces.append(OTHER_LAN), ["open 192.0.2.7 198.51.100.7", "announce"]),
        (lambda world: world.interfaces.__setitem__(0, OTHER_LAN), ["open 198.51.100.7", "announce"]),
        (lambda world: world.peers.__setitem__(0, row(BOB, seen_ms=5)), []),
        (lambda world: world.interfaces.append(LAN._replace(kind=InterfaceKind.VIRTUAL)), []),
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
            world.now_ms += HOUR_MS
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
            world.interfaces = [LAN]
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
        world.interfaces = [LAN, OTHER_LAN]
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
        ann = real(ANN, BOB, seen["ann"], lambda: START_MS)
        bob = real(BOB, ANN, seen["bob"], lambda: START_MS)
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
        host = socket.gethostname().partition(".")[0].encode()
        # As a name stands in a packet, with its length before it: a short one also comes about by chance.
        for secret in (
            bytes([len(host)]) + host + b"\x05local",
            *(part for device in (ANN, BOB) for part in (device.id, device.noise_public)),
        ):
            assert secret not in everything

    run(test())


def test_the_network_is_silent_after_the_start_and_an_old_name_is_never_sent_again(
    wire: socket.socket,
) -> None:
    async def test() -> None:
        now_ms = START_MS
        seen: asyncio.Queue[Any] = asyncio.Queue()
        ann = real(ANN, BOB, seen, lambda: now_ms)

        async def until(responses: int, collected: list[bytes]) -> None:
            while [bool(each[2] & 0x80) for each in collected].count(True) < responses:
                await asyncio.sleep(0.01)
                collected += packets(wire)

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
            now_ms += HOUR_MS
            wire.sendto(question(), ("224.0.0.251", 5353))
            later: list[bytes] = []
            await until(2, later)
            # What answers from now on is the new one alone.
            wire.sendto(question(), ("224.0.0.251", 5353))
            await until(3, later)
            assert ann._instance != first
            assert ann._instance.encode() in b"".join(later)
            assert first.encode() not in b"".join(later)
        finally:
            await ann.stop()

    run(test())
