"""Multicast DNS: which packets are looked at, by whom, and how many of them."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.adapters.multicast import Multicast, Rates, announcements_in, txt_strings

from .lan import ANN, BOB, SERVICE, announced_by, announcement, name_of, question, record, response, run


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


def test_zeroconf_sees_what_this_device_sent_itself_and_nothing_of_others() -> None:
    own, other = announcement("ownownownown"), announcement()

    async def test() -> None:
        async with multicast(FakeHearer()) as air:
            air._own, air._instance = frozenset({"192.0.2.7"}), b"ownownownown"
            assert air.take(own, "192.0.2.7")
            assert not air.take(own, "192.0.2.9")
            assert not air.take(other, "192.0.2.9")
            assert not air.take(other, "192.0.2.7")

    run(test())


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
    assert taken(question(SERVICE.upper()))[0]


def test_a_farewell_is_no_announcement() -> None:
    assert taken(announcement(ttl=0))[1].announcements == []


def test_of_one_packet_only_a_few_announcements_are_read() -> None:
    records = [record(f"a{n}.{SERVICE}", 16, b"\x03v=1") for n in range(100)]
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
    announcements_in(head + name_of(SERVICE) + data)
    announcements_in(data + name_of(SERVICE))
    taken((data + name_of(SERVICE))[:8], "192.0.2.9")


@pytest.mark.parametrize(
    "data",
    [
        record(f"x.{SERVICE}", 16, b"\xff" * 8000),
        record(f"x.{SERVICE}", 33, b"\0" * 6 + name_of("x.local.")),
        record(f"x.{SERVICE}", 1, b"\x7f\0\0\1"),
        name_of(SERVICE)[:-1] + b"\xc0\x0c",
        b"\xc0\x0c" * 40,
    ],
    ids=["huge TXT", "SRV", "A", "a name that names itself", "pointers in a circle"],
)
def test_records_of_another_form_are_no_announcement(data: bytes) -> None:
    for _, strings in announcements_in(response(data)):
        assert b"v" not in strings
