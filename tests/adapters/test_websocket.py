"""Real websockets on loopback: what arrives, what is refused, and that strangers stay in bounds."""

from __future__ import annotations

import asyncio
import os
import socket
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from mlog import limits
from mlog.adapters.listeners import accept_no_more
from mlog.adapters.websocket import Peers, Strangers, join_address, network_of, split_address
from mlog.errors import InvalidInput, UserError
from mlog.log.ids import DeviceId
from mlog.protocol.events import Closed, Event, Opened, Received, Unreachable

_LOOPBACK = "127.0.0.1"
_DEVICE = DeviceId(b"d" * 32)


class End:
    """One end: its connections, and the events that they brought."""

    def __init__(self, react: Callable[[End, Event], None] = lambda _, __: None, *, ping: bool = False):
        self.events: list[Event] = []
        self.port = 0
        self._react = react
        self._changed = asyncio.Event()
        self.peers = Peers(self._take, ping=ping, default_port=9)

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self._react(self, event)
        self._changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._changed.clear()
            await self._changed.wait()

    async def first(self, kind: type[Any]) -> Any:
        await self.until(lambda: bool(self.of(kind)))
        return self.of(kind)[0]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def address(self) -> str:
        return f"{_LOOPBACK}:{self.port}"


@asynccontextmanager
async def listening(
    react: Callable[[End, Event], None] = lambda _, __: None, *, ping: bool = False
) -> AsyncGenerator[End]:
    end = End(react, ping=ping)
    end.port = await end.peers.listen(_LOOPBACK, 0)
    try:
        yield end
    finally:
        await end.peers.stop()


@asynccontextmanager
async def dialling(
    address: str, react: Callable[[End, Event], None] = lambda _, __: None
) -> AsyncGenerator[End]:
    end = End(react)
    end.peers.dial(_DEVICE, [address])
    try:
        yield end
    finally:
        await end.peers.stop()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test
        # What was closed at the end is gone a few turns of the loop later.
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(bounded())


async def eventually(done: Callable[[], Awaitable[bool] | bool]) -> None:
    """For what the other end's kernel does: let the loop turn until it has."""
    for _ in range(20_000):
        found = done()
        if isinstance(found, bool):
            if found:
                return
        elif await found:
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


def echo(end: End, event: Event) -> None:
    if isinstance(event, Received):
        end.peers.send(event.session, b"echo " + event.data)


# -- messages --------------------------------------------------------------------------------


def test_messages_arrive_whole_and_in_order_in_both_directions() -> None:
    async def test() -> None:
        async with listening(echo) as server, dialling(server.address) as client:
            opened = await client.first(Opened)
            assert (opened.device, opened.address) == (_DEVICE, server.address)
            assert (await server.first(Opened)).device is None
            sent = [bytes([n]) * (n * 100) for n in range(100)]
            for data in sent:
                client.peers.send(opened.session, data)
            await client.until(lambda: len(client.of(Received)) == 100)
            assert [event.data for event in server.of(Received)] == sent
            assert [event.data for event in client.of(Received)] == [b"echo " + data for data in sent]
            total = sum(map(len, sent))
            assert client.peers.traffic(opened.session) == (total + 500, total)

    run(test())


def test_the_longest_message_passes_and_one_byte_more_closes() -> None:
    async def test() -> None:
        async with listening() as server, connect(f"ws://{server.address}", proxy=None) as raw:
            await raw.send(bytes(limits.FRAME_SIZE_MAX_BYTES))
            assert len((await server.first(Received)).data) == limits.FRAME_SIZE_MAX_BYTES
            await raw.send(bytes(limits.FRAME_SIZE_MAX_BYTES + 1))
            assert "too long" in (await server.first(Closed)).reason
            assert len(server.of(Received)) == 1

    run(test())


@pytest.mark.parametrize("text", ["hello", ""])
def test_a_text_message_closes(text: str) -> None:
    async def test() -> None:
        async with listening() as server, connect(f"ws://{server.address}", proxy=None) as raw:
            await raw.send(text)
            assert "text message" in (await server.first(Closed)).reason
            assert not server.of(Received)
            with pytest.raises(ConnectionClosed):
                await raw.recv()

    run(test())


def test_nothing_is_compressed_and_no_program_is_named() -> None:
    async def test() -> None:
        async with listening() as server, connect(f"ws://{server.address}", proxy=None) as raw:
            assert raw.response is not None
            assert "Sec-WebSocket-Extensions" not in raw.response.headers
            assert "Server" not in raw.response.headers

    run(test())


def test_what_was_sent_before_a_close_arrives_and_nothing_sent_after_it() -> None:
    async def test() -> None:
        async with listening() as server, dialling(server.address) as client:
            session = (await client.first(Opened)).session
            for n in range(50):
                client.peers.send(session, bytes([n]) * 10_000)
            client.peers.close(session, "enough")
            client.peers.send(session, b"late")
            assert "closed the session" in (await server.first(Closed)).reason
            assert (await client.first(Closed)).reason == "enough"
            assert [event.data[0] for event in server.of(Received)] == list(range(50))

    run(test())


def test_the_reason_of_a_close_does_not_go_over_the_wire() -> None:
    async def test() -> None:
        def refuse(end: End, event: Event) -> None:
            if isinstance(event, Received):
                end.peers.close(event.session, "device of ann, not known here")

        async with listening(refuse) as server, connect(f"ws://{server.address}", proxy=None) as raw:
            await raw.send(b"?")
            with pytest.raises(ConnectionClosed) as caught:
                await raw.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.reason == ""

    run(test())


def test_every_opened_is_closed_once() -> None:
    async def test() -> None:
        async with listening(echo) as server:
            for n in range(5):
                async with connect(f"ws://{server.address}", proxy=None) as raw:
                    await raw.send(b"hello")
                    await raw.recv()
                    if n % 2:
                        raw.transport.abort()
            await server.until(lambda: len(server.of(Closed)) == 5)
            opened = [event.session for event in server.of(Opened)]
            assert sorted(event.session for event in server.of(Closed)) == opened
            assert len(set(opened)) == 5

    run(test())


# -- peers that do not read ------------------------------------------------------------------


def _slow_socket(port: int) -> socket.socket:
    """A connection with a small window, so that little is taken unless it is read."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    slow.bind((_LOOPBACK, 0))
    return slow


@asynccontextmanager
async def not_reading(server: End) -> AsyncGenerator[Any]:
    sock = _slow_socket(server.port)
    await asyncio.get_running_loop().sock_connect(sock, (_LOOPBACK, server.port))
    async with connect(
        f"ws://{server.address}", sock=sock, proxy=None, max_queue=1, ping_interval=None, close_timeout=0.1
    ) as raw:
        raw.transport.pause_reading()
        yield raw
        raw.transport.abort()


def test_a_peer_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STALL_TIMEOUT_MS", 50)

    async def test() -> None:
        async with listening() as server, not_reading(server):
            session = (await server.first(Opened)).session
            # Far more than the system's own buffers take.
            for _ in range(200):
                server.peers.send(session, bytes(60_000))
            assert "took nothing" in (await server.first(Closed)).reason

    run(test())


def test_what_waits_for_one_peer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTGOING_SIZE_MAX_BYTES", 8 * limits.MIB)

    async def test() -> None:
        async with listening() as server, not_reading(server):
            session = (await server.first(Opened)).session
            for _ in range(1000):
                server.peers.send(session, bytes(60_000))
            assert "more than it reads" in (await server.first(Closed)).reason

    run(test())


def test_nothing_is_read_from_a_peer_that_does_not_read_answers() -> None:
    async def test() -> None:
        def answer(end: End, event: Event) -> None:
            if isinstance(event, Received):
                end.peers.send(event.session, bytes(60_000))

        async with listening(answer) as server, not_reading(server) as raw:
            server.peers.established((await server.first(Opened)).session)
            asked = 0
            with suppress(TimeoutError):
                while True:
                    # What was handed over when the time is up goes out all the same.
                    asked += 1
                    await asyncio.wait_for(raw.send(bytes(20_000)), 0.5)
            # Six megabytes of socket buffers and ours are full; everything after waits at the asker.
            answered = len(server.of(Received))
            assert 0 < answered < asked
            assert server.peers._sessions[1].ws.transport.get_write_buffer_size() < limits.MIB
            raw.transport.resume_reading()
            for _ in range(asked):
                await raw.recv()
            assert len(server.of(Received)) == asked

    run(test())


# -- dialling --------------------------------------------------------------------------------


def _unused_port() -> int:
    with socket.create_server((_LOOPBACK, 0)) as unused:
        return unused.getsockname()[1]


async def _why(address: str) -> str:
    async with dialling(address) as client:
        return (await client.first(Unreachable)).reason


def test_an_unreachable_device_has_a_reason_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DIAL_TIMEOUT_MS", 100)

    async def test() -> None:
        refused = f"{_LOOPBACK}:{_unused_port()}"
        assert await _why(refused) == f"{refused}: mlog does not run there (connection refused)"
        assert "no address" in await _why("nonsense address")
        assert "this name is not known" in await _why("no-such-name.invalid:1")

        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                writer.close()

        for handler, words in (
            (hang_up, "closed the connection at once"),
            (speak_http, "something else than mlog answers there"),
            (say_nothing, "no answer within 0.1 s"),
        ):
            async with await asyncio.start_server(handler, _LOOPBACK, 0) as other:
                assert words in await _why(f"{_LOOPBACK}:{other.sockets[0].getsockname()[1]}")
                # On a slow machine it is accepted after the dial was given up.
                await accept_no_more(other.sockets)

    run(test())


def test_addresses_are_tried_in_order_until_one_answers() -> None:
    async def test() -> None:
        async with listening() as server:
            client = End()
            refused = f"{_LOOPBACK}:{_unused_port()}"
            client.peers.dial(_DEVICE, [refused, server.address, "never-asked.invalid"])
            assert (await client.first(Opened)).address == server.address
            assert not client.of(Unreachable)
            await client.peers.stop()

    run(test())


def test_an_address_where_somebody_else_answered_is_tried_last_the_next_time() -> None:
    async def test() -> None:
        def hang_up(end: End, event: Event) -> None:
            if isinstance(event, Opened):
                end.peers.close(event.session, "not the one you think")

        async with listening(hang_up) as stranger, listening() as server:
            client = End()
            addresses = [stranger.address, server.address]
            client.peers.dial(_DEVICE, addresses)
            await client.first(Closed)
            client.peers.dial(_DEVICE, addresses)
            await client.until(lambda: len(client.of(Opened)) == 2)
            second = client.of(Opened)[1]
            assert second.address == server.address
            # Established once, an address keeps its place when its session ends.
            client.peers.established(second.session)
            client.peers.close(second.session, "")
            await client.until(lambda: len(client.of(Closed)) == 2)
            client.peers.dial(_DEVICE, [server.address, stranger.address])
            await client.until(lambda: len(client.of(Opened)) == 3)
            assert client.of(Opened)[2].address == server.address
            await client.peers.stop()

    run(test())


def test_names_and_ipv6_are_dialled() -> None:
    async def test() -> None:
        server = End()
        port = await server.peers.listen("localhost", 0)
        hosts = ["localhost"]
        if socket.has_ipv6 and len(server.peers._servers) == 2:
            hosts.append("[::1]")
        for host in hosts:
            async with dialling(f"{host}:{port}") as client:
                assert (await client.first(Opened)).address == f"{host}:{port}"
        await server.peers.stop()

    run(test())


# -- listening -------------------------------------------------------------------------------


def test_a_port_in_use_and_a_foreign_address_are_said_in_plain_words() -> None:
    async def test() -> None:
        async with listening() as server:
            other = End()
            with pytest.raises(UserError, match=f"port {server.port} is in use"):
                await other.peers.listen(_LOOPBACK, server.port)
            with pytest.raises(UserError, match="not an address of this machine"):
                await other.peers.listen("192.0.2.1", 0)
            with pytest.raises(UserError, match="not an address of this machine"):
                await other.peers.listen("no-such-name.invalid", 0)

    run(test())


def test_without_a_host_all_addresses_are_listened_at() -> None:
    async def test() -> None:
        server = End()
        port = await server.peers.listen(None, 0)
        async with dialling(f"{_LOOPBACK}:{port}") as client:
            await client.first(Opened)
            assert (await server.first(Opened)).address.startswith(f"{_LOOPBACK}:")
        await server.peers.stop()

    run(test())


def test_stopping_says_goodbye_and_delivers_nothing_more() -> None:
    async def test() -> None:
        async with listening() as server, dialling(server.address) as client:
            await client.first(Opened)
            await server.first(Opened)
            idle = await asyncio.open_connection(_LOOPBACK, server.port)
            await server.peers.stop()
            assert not server.of(Closed)
            assert (await client.first(Closed)).reason == "it stops"
            assert await idle[0].read() == b""
            idle[1].close()

    run(test())


# -- strangers -------------------------------------------------------------------------------


@asynccontextmanager
async def idle_strangers(server: End, count: int, hosts: int) -> AsyncGenerator[list[Any]]:
    """Connections that say nothing, from several loopback addresses."""
    streams: list[Any] = []
    try:
        for n in range(count):
            streams.append(
                await asyncio.open_connection(
                    _LOOPBACK, server.port, local_addr=(f"127.0.0.{2 + n % hosts}", 0), limit=1024
                )
            )
            await asyncio.sleep(0)
        yield streams
    finally:
        for _, writer in streams:
            writer.transport.abort()


async def _number_open(streams: list[Any]) -> int:
    await asyncio.sleep(0)
    return sum(not reader.at_eof() and reader.exception() is None for reader, _ in streams)


def test_300_idle_strangers_are_bounded_and_shut_no_known_device_out() -> None:
    async def test() -> None:
        async with listening(echo) as server:
            async with idle_strangers(server, 300, hosts=5) as streams:

                async def bounded() -> bool:
                    return await _number_open(streams) <= limits.STRANGERS_MAX

                await eventually(bounded)
                assert len(server.peers._strangers) <= limits.STRANGERS_MAX
                assert await _number_open(streams[-30:]) == 30, "the newest are kept"
                async with dialling(server.address) as client:
                    session = (await client.first(Opened)).session
                    client.peers.send(session, b"hello")
                    assert (await client.first(Received)).data == b"echo hello"
            await eventually(lambda: not len(server.peers._strangers))

    run(test())


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs 2,000 open files and all of 127.0.0.0/8")
def test_2000_idle_strangers_cost_bounded_memory() -> None:
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, files[1]), files[1]))

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with listening(echo) as server:
            with ExitStack() as stack:
                tracemalloc.start()
                stack.callback(tracemalloc.stop)
                for n in range(2000):
                    stranger = stack.enter_context(socket.socket())
                    stranger.setblocking(False)
                    stranger.bind((f"127.0.0.{2 + n % 40}", 0))
                    await loop.sock_connect(stranger, (_LOOPBACK, server.port))
                await eventually(lambda: len(server.peers._strangers) == limits.STRANGERS_MAX)
                # Of which the sockets at this end are the larger part.
                assert tracemalloc.get_traced_memory()[1] < 8 * limits.MIB
                async with dialling(server.address) as client:
                    session = (await client.first(Opened)).session
                    client.peers.send(session, b"hello")
                    assert (await client.first(Received)).data == b"echo hello"

    try:
        run(test())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, files)


def test_a_stranger_has_to_leave_in_time_and_an_established_session_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT_MS", 200)

    async def test() -> None:
        async with listening(echo) as server, dialling(server.address) as known:
            await server.first(Opened)
            server.peers.established(1)
            async with dialling(server.address) as stranger:
                await stranger.first(Opened)
                assert "did not say who it is" in (await server.first(Closed)).reason
                await stranger.first(Closed)
            assert [event.session for event in server.of(Closed)] == [2]
            known.peers.send(1, b"hello")
            assert (await known.first(Received)).data == b"echo hello"
            assert not len(server.peers._strangers)

    run(test())


def test_a_stranger_that_sends_too_much_is_dropped() -> None:
    async def test() -> None:
        async with listening() as server, connect(f"ws://{server.address}", proxy=None) as raw:
            for _ in range(limits.STRANGER_SIZE_MAX_BYTES // 60_000 + 1):
                await raw.send(bytes(60_000))
            assert "sent too much" in (await server.first(Closed)).reason
            assert sum(len(event.data) for event in server.of(Received)) < limits.STRANGER_SIZE_MAX_BYTES

    run(test())


def test_a_stranger_that_never_ends_its_request_is_dropped() -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await asyncio.open_connection(_LOOPBACK, server.port)
            writer.write(b"GET / HTTP/1.1\r\n" + b"X-Much: more\r\n" * 50_000)
            with suppress(ConnectionError):
                await writer.drain()
            with suppress(ConnectionError):
                assert b"101" not in await reader.read()
            writer.transport.abort()
            await eventually(lambda: not len(server.peers._strangers))
            assert not server.events

    run(test())


def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 1)

    async def test() -> None:
        async with listening() as server, dialling(server.address), dialling(server.address):
            await server.until(lambda: len(server.of(Opened)) == 2)
            for event in server.of(Opened):
                server.peers.established(event.session)
            assert "too many sessions" in (await server.first(Closed)).reason

    run(test())


def test_when_full_the_oldest_of_the_largest_crowd_goes() -> None:
    strangers = Strangers()
    assert strangers.admit("first", "quiet", 0) == []
    for n in range(limits.STRANGERS_PER_ADDRESS_MAX):
        assert strangers.admit(n, "loud", 0) == []
    assert strangers.admit("next", "loud", 0) == [0]
    left = limits.STRANGERS_MAX - len(strangers)
    for n in range(left):
        assert strangers.admit(f"other {n}", f"other {n}", 0) == []
    assert strangers.admit("last", "new", 0) == [1], "not the oldest of all, which is alone at its address"
    assert len(strangers) == limits.STRANGERS_MAX
    strangers.remove("last")
    strangers.remove("last")
    assert len(strangers) == limits.STRANGERS_MAX - 1


def test_an_address_that_connects_too_often_is_refused_until_time_passes() -> None:
    strangers = Strangers()
    for n in range(limits.STRANGERS_BURST):
        assert strangers.admit(n, "loud", 0) is not None
    assert strangers.admit("more", "loud", 0) is None
    assert strangers.admit("more", "quiet", 0) == []
    assert strangers.admit("later", "loud", 1 / limits.STRANGERS_PER_S) is not None
    assert strangers.admit("later still", "loud", 1 / limits.STRANGERS_PER_S) is None


def test_the_rates_of_many_addresses_take_bounded_memory() -> None:
    strangers = Strangers()
    for n in range(limits.STRANGER_ADDRESSES_MAX + 100):
        strangers.admit(n, str(n), 0)
    assert len(strangers._tokens) == limits.STRANGER_ADDRESSES_MAX
    assert len(strangers) == limits.STRANGERS_MAX


# -- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("laptop.local:1234", ("laptop.local", 1234)),
        ("laptop", ("laptop", 9)),
        ("192.0.2.7:80", ("192.0.2.7", 80)),
        ("[2001:db8::1]:80", ("2001:db8::1", 80)),
        ("[2001:db8::1]", ("2001:db8::1", 9)),
        ("2001:db8::1", ("2001:db8::1", 9)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("bücher.example:80", ("bücher.example", 80)),
    ],
)
def test_an_address_is_read(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address, 9) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":80",
        "a b:80",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "ws://host:80",
        "a@b",
        "[host]:80",
        "[::1",
        "x" * 300,
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="no address"):
        split_address(address, 9)


def test_addresses_have_one_spelling() -> None:
    assert join_address("::ffff:192.0.2.1", 5) == "192.0.2.1:5"
    assert join_address("2001:DB8:0::1", 5) == "[2001:db8::1]:5"
    assert join_address("laptop", 5) == "laptop:5"
    assert network_of("2001:db8::1") == network_of("2001:db8::2:0:0:1") == "2001:db8::/64"
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("192.0.2.2") != network_of("192.0.2.3")
    assert network_of("") == ""
