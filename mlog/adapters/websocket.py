"""Websockets: moves binary messages between sessions and their peers, and keeps strangers in bounds.

Who is at the other end is the node's business. Until it says that a session is established, the
connection is a stranger's: it may stay for HANDSHAKE_TIMEOUT_MS, and only STRANGERS_MAX of them may.
The newest are kept, so that idle ones shut nobody out. Memory is bounded in both directions: nothing
is read from a peer that does not take what was written to it.

Messages to the peer stand in nothing but Noise: close frames carry no reason.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import itertools
import logging
import re
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.frames import CloseCode

from mlog import limits
from mlog.adapters.listeners import accept_no_more, turn
from mlog.errors import InvalidInput, UserError
from mlog.log.ids import DeviceId
from mlog.protocol.events import Closed, Event, Opened, Received, Unmet, Unreachable

__all__ = ["Peers", "Strangers", "Traffic", "join_address", "network_of", "split_address"]

_CLOSE_TIMEOUT_S: Final = 2.0
"""How long the other end may take to agree to a close."""

_SESSION_BUFFER_BYTES: Final = 256 * limits.KIB
"""Written and not yet taken by the system: above this nothing more is read from the peer."""

_QUEUED_FRAMES: Final = 4
"""Frames that wait to be handled before the socket is no longer read: 256 KiB."""

_RESOLVED_MAX: Final = 4
"""Addresses of one host name that are tried."""

# What websockets has to say is for those who debug websockets; a logger of its own prints nothing.
_SILENT: Final = logging.Logger("mlog.websocket", logging.CRITICAL + 1)

_Where: TypeAlias = tuple[str, int]


class Traffic(NamedTuple):
    """Bytes of one session's messages, both ways."""

    received: int
    sent: int


# -- addresses -------------------------------------------------------------------------------


def split_address(address: str, default_port: int) -> _Where:
    """Host and port of `HOST:PORT`, `[IPV6]:PORT`, or either without a port.

    Raises:
        InvalidInput: It is neither.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s:/\[\]@%]+))(?::([0-9]{1,5}))?", address)
    if match is not None:
        host, port = match[1] or match[2], int(match[3] or default_port)
    else:
        # An IPv6 address by itself.
        with suppress(ValueError):
            return str(ipaddress.IPv6Address(address)), default_port
        raise InvalidInput(f"{address!r} is no address: write it as HOST:PORT or [IPV6]:PORT")
    if not 0 < port <= 65_535 or len(host) > 253:
        raise InvalidInput(f"{address!r} is no address: ports go from 1 to 65535")
    if match[1]:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise InvalidInput(f"{address!r} is no address: {host} is not IPv6") from None
    return host, port


def join_address(host: str, port: int) -> str:
    """The one text for a host and a port: IPv6 in brackets, IPv4 never written as IPv6."""
    with suppress(ValueError):
        literal = ipaddress.ip_address(host)
        if isinstance(literal, ipaddress.IPv6Address):
            mapped = literal.ipv4_mapped
            host = str(mapped) if mapped is not None else f"[{literal}]"
    return f"{host}:{port}"


def network_of(host: str) -> str:
    """What counts as one address: an IPv4 address, or the 64 bits of IPv6 that one household has."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(literal, ipaddress.IPv6Address):
        if literal.ipv4_mapped is not None:
            return str(literal.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(literal), 64), strict=False))
    return str(literal)


# -- strangers -------------------------------------------------------------------------------


class Strangers:
    """Which connections that are not established may stay, and which one has to go.

    Keys are any hashable names of connections; nothing here touches a socket.
    """

    def __init__(self) -> None:
        self._networks: OrderedDict[object, str] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._networks)

    def admit(self, key: object, network: str, now_s: float) -> list[object] | None:
        """Take one more.

        Returns:
            Those that have to go for it, or None where its network connects too often.
        """
        if not self._take_token(network, now_s):
            return None
        self._networks[key] = network
        counts: dict[str, int] = {}
        for known in self._networks.values():
            counts[known] = counts.get(known, 0) + 1
        if counts[network] > limits.STRANGERS_PER_ADDRESS_MAX:
            crowd = network
        elif len(self._networks) > limits.STRANGERS_MAX:
            # Who has the most connections makes room: so a flood from one place pushes out itself.
            crowd = max(counts, key=counts.__getitem__)
        else:
            return []
        oldest = next(known for known, its in self._networks.items() if its == crowd)
        del self._networks[oldest]
        return [oldest]

    def remove(self, key: object) -> None:
        """It is established, or gone."""
        self._networks.pop(key, None)

    def _take_token(self, network: str, now_s: float) -> bool:
        tokens, since_s = self._tokens.pop(network, (float(limits.STRANGERS_BURST), now_s))
        tokens = min(limits.STRANGERS_BURST, tokens + (now_s - since_s) * limits.STRANGERS_PER_S)
        allowed = tokens >= 1
        self._tokens[network] = tokens - allowed, now_s
        if len(self._tokens) > limits.STRANGER_ADDRESSES_MAX:
            self._tokens.popitem(last=False)
        return allowed


# -- connections -----------------------------------------------------------------------------


class _Paced(Connection):
    """A connection that knows whether the other end takes what is written to it."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.written = 0
        self.why = ""
        self.writable = asyncio.Event()
        self.writable.set()
        self._stall: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self.writable.clear()
        self._watch(self._taken())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._let_go()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._let_go()

    def abort(self, why: str) -> None:
        """End it now; what was not sent is lost."""
        self.why = self.why or why
        self.transport.abort()

    def _taken(self) -> int:
        return self.written - self.transport.get_write_buffer_size()

    def _watch(self, taken: int) -> None:
        self._stall = self.loop.call_later(limits.STALL_TIMEOUT_MS / 1000, self._check, taken)

    def _check(self, taken: int) -> None:
        now = self._taken()
        if now <= taken:
            self.abort(f"it took nothing of what was sent for {limits.STALL_TIMEOUT_MS // 1000} s")
        else:
            self._watch(now)

    def _let_go(self) -> None:
        self.writable.set()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


class _Outbound(_Paced, ClientConnection):
    """A connection that we dialled."""


class _Inbound(_Paced, ServerConnection):
    """A connection that somebody made to us: a stranger's from its first byte on."""

    def __init__(self, *args: Any, peers: Peers, **options: Any):
        super().__init__(*args, **options)
        self._peers = peers
        self.stranger = True
        self._strange_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._peers.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peers.went(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.stranger:
            self._strange_bytes += len(data)
            if self._strange_bytes > limits.STRANGER_SIZE_MAX_BYTES:
                self.abort("it sent too much before it said who it is")
                return
        super().data_received(data)


class _Session:
    """One open connection and what passed over it."""

    def __init__(self, n: int, ws: _Paced, address: str, device: DeviceId | None):
        self.n = n
        self.ws = ws
        self.address = address
        self.device = device
        self.received = 0
        self.established = False
        self.closing = ""


class Peers:
    """All connections of one node.

    Args:
        deliver: Takes events; called in the loop's thread, never while it is being called.
        ping: Ask idle peers every PING_INTERVAL_MS whether they are still there. A phone does not:
            each question wakes its radio.
        default_port: Of addresses that name none.
    """

    def __init__(self, deliver: Callable[[Event], None], *, ping: bool, default_port: int):
        self._deliver = deliver
        self._default_port = default_port
        ping_s = limits.PING_INTERVAL_MS / 1000 if ping else None
        self._options: dict[str, Any] = {
            "compression": None,
            "max_size": limits.FRAME_SIZE_MAX_BYTES,
            "max_queue": _QUEUED_FRAMES,
            "write_limit": _SESSION_BUFFER_BYTES,
            "close_timeout": _CLOSE_TIMEOUT_S,
            "ping_interval": ping_s,
            "ping_timeout": limits.STALL_TIMEOUT_MS / 1000,
            "logger": _SILENT,
        }
        self._numbers = itertools.count(1)
        self._sessions: dict[int, _Session] = {}
        self._strangers = Strangers()
        self._deadlines: dict[_Inbound, asyncio.TimerHandle] = {}
        self._servers: list[Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._doubtful: dict[DeviceId, set[str]] = {}
        self._stopping = False

    # -- listening ---------------------------------------------------------------------------

    async def listen(self, host: str | None, port: int) -> int:
        """Take connections from now on; gives the port, which the system chooses for 0.

        Args:
            host: Only at this address or name of this machine; None for all of them.

        Raises:
            UserError: The port is in use or not allowed, or the host is not of this machine.
        """
        for bound in _bind(host, port):
            server = serve(
                self._accepted,
                sock=bound,
                # Typed as a class there; documented as anything that makes a connection.
                create_connection=cast("type[ServerConnection]", partial(_Inbound, peers=self)),
                server_header=None,
                open_timeout=limits.HANDSHAKE_TIMEOUT_MS / 1000,
                **self._options,
            )
            self._servers.append(await server)
            port = bound.getsockname()[1]
        return port

    def came(self, ws: _Inbound) -> None:
        """A connection was made to us; nothing came over it yet."""
        if self._stopping:
            # Accepted just before the end, and in nobody's list.
            ws.abort("this mlog stops")
            return
        peer = ws.remote_address
        dropped = self._strangers.admit(ws, network_of(str(peer[0]) if peer else ""), ws.loop.time())
        if dropped is None:
            ws.abort("its address connects too often")
            return
        late = f"it did not say who it is within {limits.HANDSHAKE_TIMEOUT_MS / 1000:g} s"
        self._deadlines[ws] = ws.loop.call_later(limits.HANDSHAKE_TIMEOUT_MS / 1000, ws.abort, late)
        for old in dropped:
            assert isinstance(old, _Inbound)
            old.abort("it made room for others before it said who it is")

    def went(self, ws: _Inbound) -> None:
        """A connection is no stranger's any more: established, or lost."""
        ws.stranger = False
        self._strangers.remove(ws)
        deadline = self._deadlines.pop(ws, None)
        if deadline is not None:
            deadline.cancel()

    async def _accepted(self, ws: ServerConnection) -> None:
        assert isinstance(ws, _Inbound)
        peer = ws.remote_address
        await self._serve(ws, join_address(str(peer[0]), int(peer[1])) if peer else "", None)

    # -- dialling ----------------------------------------------------------------------------

    def dial(self, device: DeviceId, addresses: Sequence[str]) -> None:
        """Try addresses in order until one answers; then `Opened`, or else `Unreachable`.

        An address where last time somebody else answered is tried after the others.
        """
        known = list(dict.fromkeys(addresses))[: limits.PEER_ADDRESSES_MAX]
        doubtful = self._doubtful.get(device, set()) & set(known)
        self._doubtful[device] = doubtful
        ordered = sorted(known, key=lambda address: address in doubtful)
        self._begin(self._dial(device, ordered))

    async def _dial(self, device: DeviceId, addresses: Sequence[str]) -> None:
        reasons: list[str] = []
        for address in addresses:
            ws = await self._reach(address, reasons)
            if ws is not None:
                await self._serve(ws, address, device)
                return
        self._deliver(Unreachable(device, "; ".join(reasons) or "no address of it is known"))

    def reach(self, addresses: Sequence[str]) -> None:
        """Try addresses in order until somebody answers, whoever it is; then `Opened`, or else `Unmet`."""
        self._begin(self._meet(list(dict.fromkeys(addresses))[: limits.PEER_ADDRESSES_MAX]))

    async def _meet(self, addresses: Sequence[str]) -> None:
        reasons: list[str] = []
        for address in addresses:
            ws = await self._reach(address, reasons)
            if ws is not None:
                await self._serve(ws, address, None, reached=True)
                return
        self._deliver(Unmet("; ".join(reasons) or "no address is known"))

    async def _reach(self, address: str, reasons: list[str]) -> _Paced | None:
        """A connection to one address; or None, and a reason more."""
        try:
            host, port = split_address(address, self._default_port)
            found = await _resolve(host, port)
        except InvalidInput as error:
            reasons.append(str(error))
            return None
        except OSError as error:
            reasons.append(f"{address}: {_why_unreachable(error)}")
            return None
        failures: list[str] = []
        for literal, at in found:
            try:
                ws = await connect(
                    # Host and port say where to; the name is for a proxy in front of the other end.
                    f"ws://{host if re.fullmatch(r'[A-Za-z0-9.-]+', host) else 'mlog'}:{port}/",
                    host=literal,
                    port=at,
                    proxy=None,
                    user_agent_header=None,
                    create_connection=_Outbound,
                    open_timeout=limits.DIAL_TIMEOUT_MS / 1000,
                    **self._options,
                )
            except (OSError, InvalidHandshake, ValueError, EOFError) as error:
                failures.append(_why_unreachable(error))
            else:
                assert isinstance(ws, _Outbound)
                return ws
        reasons.append(f"{address}: {', '.join(dict.fromkeys(failures))}")
        return None

    # -- sessions ----------------------------------------------------------------------------

    async def _serve(
        self, ws: _Paced, address: str, device: DeviceId | None, *, reached: bool = False
    ) -> None:
        """One session from its first message to its end."""
        session = _Session(next(self._numbers), ws, address, device)
        self._sessions[session.n] = session
        reason = "this mlog stops"
        try:
            if not self._stopping:
                opened = Opened(session=session.n, device=device, address=address, reached=reached)
                self._deliver(opened)
                reason = await self._read(session)
        finally:
            if device is not None and not session.established:
                self._doubtful.setdefault(device, set()).add(address)
            if not self._stopping:
                self._deliver(Closed(session.n, session.closing or ws.why or reason))
            del self._sessions[session.n]
        await ws.close()

    async def _read(self, session: _Session) -> str:
        """Deliver what comes; gives the reason why nothing more does."""
        ws = session.ws
        try:
            while True:
                data = await ws.recv()
                if isinstance(data, str):
                    await ws.close(CloseCode.UNSUPPORTED_DATA)
                    return "it sent a text message, and only binary ones are allowed"
                if not session.closing:
                    session.received += len(data)
                    self._deliver(Received(session.n, data))
                # Who asks and does not read the answers gets no further ones.
                await ws.writable.wait()
                # The queue may hold more: others have their turn first.
                await asyncio.sleep(0)
        except ConnectionClosed as error:
            return _why_closed(error)
        except UnicodeDecodeError:
            return "it sent a text message, and only binary ones are allowed"

    def send(self, n: int, data: bytes) -> None:
        """Send one message; of a session that is gone it is dropped."""
        session = self._sessions.get(n)
        if session is None or session.closing:
            return
        ws = session.ws
        ws.written += len(data)
        # Of all ways to send, the one that does not wait: waiting is done before reading on.
        broadcast([ws], data)
        if ws.transport.get_write_buffer_size() > limits.OUTGOING_SIZE_MAX_BYTES:
            ws.abort("it asked for more than it reads")

    def close(self, n: int, reason: str) -> None:
        """End a session once what was sent before is out."""
        session = self._sessions.get(n)
        if session is not None and not session.closing:
            session.closing = reason or "closed here"
            self._begin(session.ws.close())

    def established(self, n: int) -> None:
        """The device at the other end is known, and this is its connection."""
        session = self._sessions.get(n)
        if session is None:
            return
        session.established = True
        if session.device is not None:
            self._doubtful.get(session.device, set()).discard(session.address)
        if isinstance(session.ws, _Inbound):
            self.went(session.ws)
        if sum(known.established for known in self._sessions.values()) > limits.SESSIONS_MAX:
            session.ws.abort("there are too many sessions")

    def traffic(self, n: int) -> Traffic:
        """Bytes of a session so far; none for one that is gone."""
        session = self._sessions.get(n)
        return Traffic(session.received, session.ws.written) if session is not None else Traffic(0, 0)

    def address_of(self, n: int) -> str:
        """Where the other end of a session is, or ""."""
        session = self._sessions.get(n)
        return session.address if session is not None else ""

    # -- the end -----------------------------------------------------------------------------

    async def stop(self) -> None:
        """Close everything, within STOP_TIMEOUT_MS; nothing is delivered any more."""
        self._stopping = True
        await accept_no_more(sock for server in self._servers for sock in server.sockets)
        for server in self._servers:
            server.close(code=CloseCode.GOING_AWAY)
        talking = {session.ws for session in self._sessions.values()}
        for ws in self._deadlines.keys() - talking:
            ws.abort("this mlog stops")
        closing = [session.ws.close(CloseCode.GOING_AWAY) for session in self._sessions.values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.STOP_TIMEOUT_MS / 1000):
                await asyncio.gather(*closing, *(server.wait_closed() for server in self._servers))
        for session in self._sessions.values():
            session.ws.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # The loop may end now, and what was aborted is closed in its next turn.
        await turn()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


# -- the system ------------------------------------------------------------------------------


def _bind(host: str | None, port: int) -> list[socket.socket]:
    """Listening sockets at all addresses of a name, with one port."""
    bound: list[socket.socket] = []
    try:
        if host is None:
            return [_bind_everywhere(port)]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            where = (*address[:1], bound[0].getsockname()[1] if bound else port, *address[2:])
            try:
                bound.append(socket.create_server(where, family=family))
            except OSError:
                # Of `localhost` the IPv6 address may be missing; one address is enough.
                if not bound and len(found) == 1:
                    raise
        if not bound:
            bound.append(socket.create_server((host, port)))
    except OSError as error:
        for each in bound:
            each.close()
        raise UserError(_why_not_listening(error, host, port)) from None
    return bound


def _bind_everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _why_not_listening(error: OSError, host: str | None, port: int) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine. Leave --host away to listen at all of them."
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another program. Choose another one with --port."
    if error.errno == errno.EACCES:
        return f"this system does not allow you to listen at port {port}. Choose one above 1023 with --port."
    return f"port {port} cannot be listened at: {error.strerror or error}."


async def _resolve(host: str, port: int) -> list[_Where]:
    """Numeric addresses of a host.

    In a thread of its own that the end of the process does not wait for: a name server that
    is silent would hold that up for half a minute.
    """
    with suppress(ValueError):
        return [(str(ipaddress.ip_address(host)), port)]
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[_Where]] = loop.create_future()

    def finish(found: list[_Where], error: OSError | None) -> None:
        if not done.done():
            if error is None:
                done.set_result(found)
            else:
                done.set_exception(error)

    def look_up() -> None:
        found: list[_Where] = []
        failure: OSError | None = None
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys((str(info[4][0]), port) for info in infos))[:_RESOLVED_MAX]
        except (OSError, UnicodeError) as error:
            failure = error if isinstance(error, OSError) else socket.gaierror(str(error))
        # The loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, found, failure)

    threading.Thread(target=look_up, name="mlog-resolve", daemon=True).start()
    async with asyncio.timeout(limits.DIAL_TIMEOUT_MS / 1000):
        return await done


def _why_unreachable(error: Exception) -> str:
    """Why a dial failed, in words for a person."""
    if isinstance(error, socket.gaierror):
        return "this name is not known"
    if isinstance(error, TimeoutError):
        return f"no answer within {limits.DIAL_TIMEOUT_MS / 1000:g} s"
    if isinstance(error, OSError):
        match error.errno:
            case errno.ECONNREFUSED:
                return "mlog does not run there (connection refused)"
            case errno.EHOSTUNREACH | errno.ENETUNREACH | errno.EADDRNOTAVAIL:
                return "there is no way to it from this network"
            case errno.ETIMEDOUT:
                return "no answer"
            case errno.ECONNRESET | errno.EPIPE:
                return "it closed the connection at once"
            case _:
                return error.strerror or str(error)
    if isinstance(error, InvalidStatus | InvalidMessage | ValueError) and not isinstance(
        error.__cause__, EOFError
    ):
        return "something else than mlog answers there"
    return "it closed the connection at once"


def _why_closed(error: ConnectionClosed) -> str:
    """Why a connection ended, in words for a person; what the peer wrote is left out."""
    sent, received = error.sent, error.rcvd
    if sent is not None and not error.rcvd_then_sent:
        match sent.code:
            case CloseCode.MESSAGE_TOO_BIG:
                return "it sent a message that is too long"
            case CloseCode.PROTOCOL_ERROR | CloseCode.INVALID_DATA:
                return "it broke the rules of websockets"
            case CloseCode.INTERNAL_ERROR:
                return "it no longer answers"
            case _:
                return "closed here"
    if received is not None:
        return "it stops" if received.code == CloseCode.GOING_AWAY else "it closed the session"
    return "the connection was lost"
