"""A device that waits to be paired on a LAN: says so while it waits, and is found by one that looks for it.
And devices that are served there, for one that knows none of them.

The announcement names addresses and nothing else: neither the device nor its person, and nothing that
follows from the code, with which a recording could be searched for it. So who looks cannot tell which one
is meant where several wait, and asks its person. docs/protocol.md, 19.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from mlog import limits
from mlog.adapters.interfaces import Interface, InterfaceKind, announceable
from mlog.adapters.multicast import Multicast
from mlog.errors import InvalidInput
from mlog.log.crypto import Entropy
from mlog.protocol.beacon import decode_txt, decode_waiting, encode_waiting, random_instance

__all__ = ["Waiting", "addresses_of", "find_served", "find_waiting"]

_ASKED_AFTER_S: Final = (0.0, 1.0, 3.0)
"""When it is asked who waits: a packet may get lost."""

_MORE_S: Final = 0.6
"""After the first one that answers: how long others have; multicast DNS lets them wait up to 0.12 s."""


def addresses_of(interfaces: Sequence[Interface], port: int, host: str | None = None) -> tuple[str, ...]:
    """Where neighbours reach this machine, as HOST:PORT, best first.

    Args:
        host: The one address at which it listens; None for all.
    """
    hosts = [address for address in announceable(interfaces) if host in (None, address)]
    return tuple(f"[{address}]:{port}" if ":" in address else f"{address}:{port}" for address in hosts)


class Waiting:
    """Says that a device waits, from `start` to `stop`; use it inside a running loop."""

    def __init__(self, entropy: Entropy):
        self._instance = random_instance(entropy)
        self._air: Multicast | None = None

    async def start(self, interfaces: Sequence[Interface], addresses: Sequence[str], port: int) -> None:
        """Begin.

        Raises:
            OSError: The system does not allow it.
        """
        self._air = Multicast(self)
        await self._air.open([each for each in interfaces if each.kind is InterfaceKind.LAN])
        self._air.announce(self._instance, port, encode_waiting(addresses))

    async def stop(self) -> None:
        """Say farewell, and end."""
        if self._air is not None:
            await self._air.close()
            self._air = None

    def asked(self) -> bool:
        """Somebody asks who is there: it may be answered all the time."""
        return True

    def announced(self, instance: str, strings: Mapping[bytes, bytes]) -> None:
        """What others announce is not of interest."""


class _Search:
    """Hears who is there.

    Args:
        addresses_in: Reads an announcement; `InvalidInput` where it is of another kind.
    """

    def __init__(self, addresses_in: Callable[[Mapping[bytes, bytes]], tuple[str, ...]]) -> None:
        self._addresses_in = addresses_in
        self.found: dict[str, tuple[str, ...]] = {}
        self.changed = asyncio.Event()

    def asked(self) -> bool:
        return False

    def announced(self, instance: str, strings: Mapping[bytes, bytes]) -> None:
        with suppress(InvalidInput):
            addresses = self._addresses_in(strings)
            if len(self.found) < limits.PAIRINGS_FOUND_MAX:
                self.found[instance] = addresses
                self.changed.set()


async def find_waiting(interfaces: Sequence[Interface], timeout_s: float) -> list[tuple[str, ...]]:
    """The devices that wait on the networks of this machine, each with its addresses, near ones first.

    Raises:
        OSError: The system does not allow it.
    """
    return await _find(_Search(decode_waiting), interfaces, timeout_s)


async def find_served(interfaces: Sequence[Interface], timeout_s: float) -> list[tuple[str, ...]]:
    """The devices that are served on the networks of this machine, whosever they are; as `find_waiting`."""
    return await _find(_Search(lambda strings: decode_txt(strings).addresses), interfaces, timeout_s)


async def _find(search: _Search, interfaces: Sequence[Interface], timeout_s: float) -> list[tuple[str, ...]]:
    at = [each for each in interfaces if each.kind is InterfaceKind.LAN]
    if not at:
        return []
    air = Multicast(search)
    questions: list[asyncio.TimerHandle] = []
    try:
        await air.open(at)
        loop = asyncio.get_running_loop()
        questions = [loop.call_later(after_s, air.ask) for after_s in _ASKED_AFTER_S]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await search.changed.wait()
                await asyncio.sleep(_MORE_S)
    finally:
        for question in questions:
            question.cancel()
        await air.close()
    usable = (_near_first(addresses, at) for addresses in search.found.values())
    # One device at two networks of this machine is still one.
    return list(dict.fromkeys(addresses for addresses in usable if addresses))


def _near_first(addresses: Sequence[str], at: Sequence[Interface]) -> tuple[str, ...]:
    """Addresses in one of this machine's networks first; none that would lead back to it."""
    alone = all(ip_address(each.address).is_loopback for each in at)
    near: list[str] = []
    far: list[str] = []
    for address in addresses:
        literal = ip_address(address.rpartition(":")[0].strip("[]"))
        if alone or not literal.is_loopback:
            (near if any(literal in each.network for each in at) else far).append(address)
    return (*near, *far)
