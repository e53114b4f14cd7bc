"""A device that waits to be paired is found in the local network, and says nothing but where it is."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.adapters.interfaces import Interface, InterfaceKind, loopback
from mlog.adapters.multicast import announcements_in
from mlog.adapters.pairing_discovery import Waiting, _near_first, _Search, addresses_of, find_waiting
from mlog.errors import InvalidInput
from mlog.protocol.beacon import decode_txt, decode_waiting, encode_waiting

from .lan import LAN, OTHER_LAN, Seeded, World, run
from .test_discovery import packets, wire

__all__ = ["wire"]

_ADDRESSES = ("127.0.0.1:7367",)


def test_who_looks_finds_who_waits(wire: socket.socket) -> None:
    async def test() -> None:
        waiting = Waiting(Seeded(1))
        await waiting.start(loopback(), _ADDRESSES, 7367)
        try:
            assert await find_waiting(loopback(), 20) == [_ADDRESSES]
        finally:
            await waiting.stop()

    run(test())


def test_several_that_wait_are_all_found(wire: socket.socket) -> None:
    async def test() -> None:
        waiting = [Waiting(Seeded(seed)) for seed in (1, 2)]
        for number, each in enumerate(waiting):
            await each.start(loopback(), (f"127.0.0.1:{7367 + number}",), 7367 + number)
        try:
            found = await find_waiting(loopback(), 20)
            assert sorted(found) == [("127.0.0.1:7367",), ("127.0.0.1:7368",)]
        finally:
            for each in waiting:
                await each.stop()

    run(test())


def test_it_is_not_found_any_more_when_it_has_stopped_and_names_nobody(wire: socket.socket) -> None:
    async def test() -> None:
        waiting = Waiting(Seeded(3))
        await waiting.start(loopback(), _ADDRESSES, 7367)
        await waiting.stop()
        assert await find_waiting(loopback(), 0.5) == []

    run(test())
    seen = packets(wire)
    assert seen
    for packet in seen:
        assert socket.gethostname().encode() not in packet
        for _, strings in announcements_in(packet):
            assert strings.keys() <= {b"v", b"a", b"p"}


def test_two_that_wait_have_names_of_their_own() -> None:
    assert Waiting(Seeded(1))._instance != Waiting(Seeded(2))._instance


def test_who_knows_nobody_here_sees_no_announcement_in_it() -> None:
    world = World()
    world.discovery.announced("abcdefgh2345", encode_waiting(("192.0.2.9:7367",)))
    assert world.seen == []
    with pytest.raises(InvalidInput):
        decode_txt(encode_waiting(("192.0.2.9:7367",)))


def test_a_flood_of_them_is_bounded() -> None:
    search = _Search(decode_waiting)
    for number in range(1000):
        search.announced(f"name {number}", encode_waiting(("192.0.2.9:7367",)))
    assert len(search.found) == limits.PAIRINGS_FOUND_MAX
    assert not search.asked()


@given(st.dictionaries(st.sampled_from([b"v", b"a", b"p", b"t0"]), st.binary(max_size=40)))
def test_whatever_is_announced_gives_addresses_or_a_documented_error(strings: dict[bytes, Any]) -> None:
    try:
        found = decode_waiting(strings)
    except InvalidInput:
        return
    assert encode_waiting(found)[b"a"] == strings[b"a"]


def test_in_no_network_nobody_is_looked_for() -> None:
    tunnel = Interface("wg0", 4, "10.0.0.2", 24, InterfaceKind.TUNNEL)
    assert asyncio.run(find_waiting([tunnel], 20)) == []


def test_addresses_of_a_machine_and_of_one_host_of_it() -> None:
    assert addresses_of([LAN, OTHER_LAN], 7367) == ("192.0.2.7:7367", "198.51.100.7:7367")
    assert addresses_of([LAN, OTHER_LAN], 7367, "198.51.100.7") == ("198.51.100.7:7367",)
    assert addresses_of([Interface("eth0", 2, "2001:db8::7", 64)], 1) == ("[2001:db8::7]:1",)


def test_near_addresses_go_first_and_none_leads_back() -> None:
    addresses = ("203.0.113.1:1", "127.0.0.1:1", "192.0.2.9:1")
    assert _near_first(addresses, [LAN]) == ("192.0.2.9:1", "203.0.113.1:1")
