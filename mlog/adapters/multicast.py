"""Multicast DNS: one service announced, questions sent, announcements of others heard.

`zeroconf` has the sockets, forms and sends packets, and answers questions. What comes in is looked at
here before it sees any of it: packets about other services, from other networks, and beyond a rate
are dropped unread, and announcements of others are read here and kept nowhere. So what hostile
neighbours send takes a bounded share of a core, and next to no memory. Nothing is resolved, and so
nobody can make this device ask: an announcement is one packet.

Traffic is written down in docs/decisions/0013-discovery.md, bytes in docs/protocol.md, 12.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from mlog import limits
from mlog.adapters.interfaces import Interface

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

__all__ = ["Hearer", "Multicast", "Rates", "announcements_in", "txt_strings"]

SERVICE: Final = "_mlog._tcp.local."

_LABEL: Final = b"\x05_mlog"
"""As it stands in every packet about the service: the first of a packet's names is never abbreviated,
and a later one is abbreviated only from a label on that stood before."""

_TYPE_PTR: Final = 12
_TYPE_TXT: Final = 16
_CLASS_IN: Final = 1
_QUERY: Final = 0
_IS_RESPONSE: Final = 0x80
"""In the third byte of a packet."""

_TTL_S: Final = 120
"""How long others may keep an announcement: those who need it keep none, so no longer than RFC 6762 has
for what may change."""

_ANNOUNCED_AGAIN_S: Final = 1.0

_Networks: TypeAlias = list[IPv4Network | IPv6Network]


class Hearer(Protocol):
    """Who is told what is heard."""

    def asked(self) -> bool:
        """Somebody asks who is there; whether the announcement that stands may answer."""
        ...

    def announced(self, instance: str, strings: dict[bytes, bytes]) -> None:
        """An announcement came, of whomever, one's own included."""
        ...


class Rates:
    """How many packets are read of one source, and of all together."""

    def __init__(self, now_s: float):
        self._all = (float(limits.MULTICAST_BURST), now_s)
        self._sources: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sources)

    def take(self, source: str, now_s: float) -> bool:
        """Whether one more packet may be read now; seconds of a clock that never goes back."""
        tokens = _refilled(
            self._sources.get(source, (float(limits.MULTICAST_SOURCE_BURST), now_s)),
            now_s,
            limits.MULTICAST_SOURCE_PER_S,
            limits.MULTICAST_SOURCE_BURST,
        )
        together = _refilled(self._all, now_s, limits.MULTICAST_PER_S, limits.MULTICAST_BURST)
        taken = tokens >= 1 and together >= 1
        self._sources[source] = (tokens - taken, now_s)
        self._sources.move_to_end(source)
        self._all = (together - taken, now_s)
        while len(self._sources) > limits.MULTICAST_SOURCES_MAX:
            self._sources.popitem(last=False)
        return taken


def _refilled(bucket: tuple[float, float], now_s: float, per_s: int, burst: int) -> float:
    tokens, since_s = bucket
    return min(float(burst), tokens + (now_s - since_s) * per_s)


class Multicast:
    """The service on the networks of some interfaces. Use it inside one running loop."""

    def __init__(self, hearer: Hearer):
        self._hearer = hearer
        self._loop = asyncio.get_running_loop()
        self._rates = Rates(self._loop.time())
        self._networks: _Networks = []
        self._own: frozenset[str] = frozenset()
        self._zeroconf: AsyncZeroconf | None = None
        self._announced: ServiceInfo | None = None
        self._instance = b""
        self._again: asyncio.TimerHandle | None = None

    async def open(self, interfaces: Sequence[Interface]) -> None:
        """Listen and send at these interfaces, and no longer at others; what was announced is withdrawn.

        Raises:
            OSError: The system does not allow it.
        """
        self._forget()
        self._networks = [interface.network for interface in interfaces]
        self._own = frozenset(interface.address for interface in interfaces)
        chosen = _choice(interfaces)
        if self._zeroconf is None:
            self._zeroconf = await _opened(chosen)
        else:
            await self._zeroconf.async_update_interfaces(chosen)
        self._tap(self._zeroconf)

    def announce(self, instance: str, port: int, strings: Mapping[bytes, bytes]) -> None:
        """Announce under a new name, in place of the former one, and answer to it from now on.

        Others are not told that the former name is gone: they keep none.
        """
        from zeroconf import ServiceInfo

        assert self._zeroconf is not None
        self._forget()
        self._announced = ServiceInfo(
            SERVICE,
            f"{instance}.{SERVICE}",
            port=port,
            properties=dict(strings),
            # Without this the name of the machine would stand in it.
            server=f"{instance}.local.",
            host_ttl=_TTL_S,
            other_ttl=_TTL_S,
        )
        self._instance = instance.encode("ascii")
        # Nobody else has a name of 60 random bits: to ask whether it is free would be packets in vain.
        self._zeroconf.zeroconf.registry.async_add(self._announced)
        self._send_announcement()
        # Twice, a second apart (RFC 6762, 8.3): one packet may get lost.
        self._again = self._loop.call_later(_ANNOUNCED_AGAIN_S, self._send_announcement)

    def _send_announcement(self) -> None:
        assert self._zeroconf is not None
        assert self._announced is not None
        zeroconf = self._zeroconf.zeroconf
        zeroconf.async_send(zeroconf.generate_service_broadcast(self._announced, None))

    def ask(self) -> None:
        """Ask once who is there; answers come within a second."""
        from zeroconf import DNSOutgoing, DNSQuestion  # pyright: ignore[reportPrivateImportUsage] (documented)

        assert self._zeroconf is not None
        # By multicast, so that another program on this port does not get the answers instead.
        question = DNSOutgoing(_QUERY)
        question.add_question(DNSQuestion(SERVICE, _TYPE_PTR, _CLASS_IN))
        if self._announced is not None:
            # What is known needs no answer: else this device would answer itself.
            question.add_answer_at_time(self._announced.dns_pointer(), 0)
        self._zeroconf.zeroconf.async_send(question)

    def withdraw(self) -> None:
        """Say that what was announced is gone, and answer to it no more."""
        if self._zeroconf is not None and self._announced is not None:
            gone = self._zeroconf.zeroconf.generate_unregister_all_services()
            if gone is not None:
                self._zeroconf.zeroconf.async_send(gone)
        self._forget()

    async def close(self) -> None:
        """Withdraw, and end everything."""
        self.withdraw()
        if self._zeroconf is not None:
            await self._zeroconf.async_close()
            self._zeroconf = None

    def _forget(self) -> None:
        if self._zeroconf is not None and self._announced is not None:
            self._zeroconf.zeroconf.registry.async_remove(self._announced)
        if self._again is not None:
            self._again.cancel()
        self._again = self._announced = None
        self._instance = b""

    # -- what comes in -----------------------------------------------------------------------

    def _tap(self, zeroconf: AsyncZeroconf) -> None:
        """Stand between the sockets and zeroconf."""
        for reader in zeroconf.zeroconf.engine.readers:
            transport = reader.transport
            inner = transport.get_protocol()
            if not isinstance(inner, _Tap):
                transport.set_protocol(_Tap(self, inner))

    def take(self, data: bytes, source: str) -> bool:
        """Look at a packet; whether zeroconf is to see it."""
        if len(data) > limits.MULTICAST_PACKET_MAX_BYTES or _LABEL not in data.lower():
            return False
        if not self._rates.take(source, self._loop.time()) or not self._is_near(source):
            return False
        if not data[2] & _IS_RESPONSE:
            return self._hearer.asked()
        for instance, strings in announcements_in(data):
            self._hearer.announced(instance, strings)
        # zeroconf has to know when it sent last what it is asked for, and of others' records nothing.
        return bool(self._instance) and self._instance in data and source in self._own

    def _is_near(self, source: str) -> bool:
        # A router passes on no multicast; but anybody may send a packet to this port from far away, and
        # the answer would say what this device announces.
        try:
            literal = ip_address(source)
        except ValueError:
            return False
        if isinstance(literal, IPv6Address):
            if literal.is_link_local:
                return True
            literal = literal.ipv4_mapped or literal
        return any(literal in network for network in self._networks)


class _Tap(asyncio.DatagramProtocol):
    """Hands zeroconf only what it is to see."""

    def __init__(self, multicast: Multicast, inner: Any):
        self._multicast = multicast
        self._inner = inner

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if self._multicast.take(data, str(addr[0]).partition("%")[0]):
            self._inner.datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        # A network that went away; which one is there is looked at anyway.
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)


def announcements_in(data: bytes) -> list[tuple[str, dict[bytes, bytes]]]:
    """The TXT records of the service in one packet: instance names and strings; a few at most."""
    from zeroconf import DNSIncoming  # pyright: ignore[reportPrivateImportUsage] (documented)

    found: list[tuple[str, dict[bytes, bytes]]] = []
    for record in DNSIncoming(data).answers():
        name = record.name.lower()
        # What lives for no time is a farewell.
        if record.type == _TYPE_TXT and record.ttl and name.endswith(f".{SERVICE}"):
            text: bytes = getattr(record, "text", b"")
            found.append((name.removesuffix(f".{SERVICE}"), txt_strings(text)))
        if len(found) == limits.MULTICAST_RECORDS_MAX:
            break
    return found


def txt_strings(text: bytes) -> dict[bytes, bytes]:
    """Keys and values of a TXT record; of a key that comes twice the first one counts (RFC 6763, 6.4)."""
    strings: dict[bytes, bytes] = {}
    at = 0
    while at < len(text):
        string = text[at + 1 : at + 1 + text[at]]
        at += 1 + text[at]
        key, sign, value = string.partition(b"=")
        if key and sign:
            strings.setdefault(key, value)
    return strings


def _choice(interfaces: Iterable[Interface]) -> list[str | int]:
    """Interfaces in zeroconf's words: an IPv4 address, or the number of an interface for IPv6."""
    chosen: dict[str | int, None] = {}
    for interface in interfaces:
        if ip_address(interface.address).version == 4:
            chosen[interface.address] = None
        elif interface.number:
            chosen[interface.number] = None
    return list(chosen)


async def _opened(chosen: list[str | int]) -> AsyncZeroconf:
    from zeroconf.asyncio import AsyncZeroconf

    # Where IPv6 is switched off in part, IPv4 alone does.
    only_ipv4: list[str | int] = [each for each in chosen if isinstance(each, str)]
    for interfaces in dict.fromkeys((tuple(chosen), tuple(only_ipv4))):
        if not interfaces:
            continue
        with suppress(OSError, RuntimeError):
            zeroconf = AsyncZeroconf(interfaces=list(interfaces))
            await zeroconf.zeroconf.async_wait_for_start()
            return zeroconf
    raise OSError("multicast DNS cannot be used at any of the networks")
