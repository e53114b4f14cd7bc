"""Dialling: which devices a node tries to reach, and when.

A device is tried until a session with it is there, each time after twice as long; what costs nothing
is a device that is connected, or whose address is not known: only those that are due are looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from mlog import limits
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow
from mlog.protocol.turns import Alarms

__all__ = ["Dialling"]


class _Reach(msgspec.Struct):
    """How one device is reached.

    Attributes:
        addresses: Where it was seen last, best first.
        failures: In a row.
    """

    addresses: tuple[str, ...] = ()
    failures: int = 0


class Dialling:
    """The devices that a node dials."""

    def __init__(self) -> None:
        self._reached: dict[DeviceId, _Reach] = {}
        self._due: Alarms[DeviceId] = Alarms()

    @property
    def wake_ms(self) -> int | None:
        """When the next device is to be dialled."""
        return self._due.next_ms

    def learn(self, peers: Iterable[PeerRow], now_ms: int) -> None:
        """Dial devices that are new among the known ones, and forget those that are known no more."""
        known = {peer.device: peer for peer in peers}
        self._forget(self._reached.keys() - known.keys())
        for device, peer in known.items():
            if device not in self._reached and peer.addresses:
                self._reached[device] = _Reach(peer.addresses)
                self._due.set(device, now_ms)

    def _forget(self, devices: Collection[DeviceId]) -> None:
        for device in devices:
            del self._reached[device]
            self._due.set(device, None)

    def seen(self, device: DeviceId, addresses: Iterable[str], now_ms: int | None) -> None:
        """A device was seen at these addresses.

        Args:
            now_ms: Dial it at once; None where it is connected.
        """
        reach = self._of(device)
        reach.addresses = tuple(dict.fromkeys((*addresses, *reach.addresses)))[: limits.PEER_ADDRESSES_MAX]
        reach.failures = 0
        if now_ms is not None:
            self._due.set(device, now_ms)

    def connected(self, device: DeviceId) -> None:
        """There is a session with it."""
        self._of(device)
        self._due.set(device, None)

    def compared(self, device: DeviceId) -> None:
        """A session with it came to its rest: it counts as reached."""
        self._of(device).failures = 0

    def failed(self, device: DeviceId, now_ms: int, *, second: bool = False) -> None:
        """It was not reached, or the session with it ended.

        Args:
            second: The other side dials first.
        """
        reach = self._of(device)
        if second:
            reach.failures = max(reach.failures, 1)
        wait_ms = min(limits.REDIAL_MIN_MS << min(reach.failures, 16), limits.REDIAL_MAX_MS)
        reach.failures += 1
        self._due.set(device, now_ms + wait_ms if reach.addresses else None)

    def hurry(self, now_ms: int) -> None:
        """Dial all that wait now."""
        for device in self._due.waiting:
            self._due.set(device, now_ms)

    def shift(self, by_ms: int) -> None:
        """All times are other ones by this, since the clock was set."""
        self._due.shift(by_ms)

    def due(self, known: Collection[DeviceId], now_ms: int) -> Iterator[tuple[DeviceId, tuple[str, ...]]]:
        """The devices to dial now, and where; those that are not known any more are forgotten."""
        for device in self._due.take(now_ms):
            if device not in known:
                self._forget([device])
            elif self._reached[device].addresses:
                yield device, self._reached[device].addresses

    def _of(self, device: DeviceId) -> _Reach:
        return self._reached.setdefault(device, _Reach())
