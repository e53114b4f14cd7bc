"""Rounds of sync: what was compared with which device, what came and went, and when it is over.

A round follows what a node says of its sessions (`Notice`); the state of each log is what the store
then knows (`mlog.log.peers.SyncRow`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from mlog import limits
from mlog.adapters.runtime import Runtime
from mlog.adapters.websocket import Traffic
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow, SyncRow, SyncState
from mlog.log.store import Store
from mlog.protocol.events import Notice

__all__ = ["DeviceReport", "LogReport", "Round", "SyncReport"]

_QUIET_S = 0.25
"""After the last word on all logs: how long to listen whether the other end has more, such as a new log."""

_SETTLED = frozenset({SyncState.EQUAL, SyncState.DIFFERING})


class LogReport(msgspec.Struct, frozen=True, kw_only=True):
    """One log, as it compared with one device.

    Attributes:
        topic: In hexadecimal.
        received, sent: Entries that came; entries that the device lacked, as far as this end could tell.
        detail: Why, where it is not in sync.
    """

    topic: str
    title: str
    kind: str
    state: SyncState
    received: int = 0
    sent: int = 0
    detail: str = ""


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """One device in a round.

    Attributes:
        device: In hexadecimal.
        reached: There was a session with it.
        complete: Everything was compared before the round ended.
        reason: Why not, in plain words.
        round_trips: Of the session; 0 where the other end counts them.
    """

    device: str
    name: str
    reached: bool
    complete: bool
    reason: str = ""
    address: str = ""
    received_bytes: int = 0
    sent_bytes: int = 0
    round_trips: int = 0
    duration_ms: int = 0
    logs: tuple[LogReport, ...] = ()

    @property
    def equal(self) -> bool:
        """Both hold the same."""
        return self.complete and all(log.state == SyncState.EQUAL for log in self.logs)


class SyncReport(msgspec.Struct, frozen=True, kw_only=True):
    """A round with one or several devices."""

    devices: tuple[DeviceReport, ...]
    duration_ms: int = 0

    @property
    def equal(self) -> bool:
        """Every device was reached and holds the same."""
        return all(device.equal for device in self.devices)


class _Log(msgspec.Struct):
    """A log in a round."""

    state: SyncState = SyncState.BEHIND
    received: int = 0
    sent: int = 0


class _Device(msgspec.Struct):
    """A device in a round.

    Attributes:
        sought: It may yet be found: that it was not reached is no reason to end.
        rested: Nothing is left to do with it.
        granted: It was given the secret of a log, and is yet to compare that.
        begins_anew: It may not have all logs any more that it could have, and is about to connect again.
        ended_s: When its part was over, on the loop's clock.
    """

    row: PeerRow
    before: Traffic
    address: str = ""
    reached: bool = False
    failed: str = ""
    sought: bool = False
    rested: bool = False
    granted: bool = False
    begins_anew: bool = False
    round_trips: int = 0
    ended_s: float | None = None
    logs: dict[int, _Log] = msgspec.field(default_factory=dict[int, _Log])

    @property
    def settled(self) -> bool:
        """All that was compared has come to an end."""
        known = bool(self.logs) and all(log.state in _SETTLED for log in self.logs.values())
        return bool(self.failed and not self.sought) or (self.rested and known and not self.granted)


class Round:
    """One round with some devices; made before they are dialled, and then told all notices.

    Args:
        expected: Logs of which an end is to be waited for, of a device by whose session the other end
            compares: this end hears of equal logs only. Empty where this end compares.
    """

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        peers: Sequence[PeerRow],
        *,
        expected: Callable[[DeviceId], Sequence[int]] = lambda _: (),
    ):
        self._store = store
        self._runtime = runtime
        self._started_s = asyncio.get_running_loop().time()
        self._changed = asyncio.Event()
        self._lost = asyncio.Event()
        connected = runtime.connected()
        self._devices: dict[bytes, _Device] = {}
        for row in peers:
            device = self._devices[row.device] = _Device(row, runtime.traffic(row.device))
            device.reached = row.device in connected
            device.logs = {log: _Log() for log in expected(row.device)}

    def only(self, device: DeviceId) -> None:
        """Of those that were tried it is this one; the others are no part of the round."""
        self._devices = {device: self._devices[device]}

    def fail(self, device: DeviceId, reason: str) -> None:
        """Do not wait for this one, unless it is sought."""
        self._devices[device].failed = reason
        self._lost.set()
        self._changed.set()

    def seek(self, device: DeviceId) -> None:
        """Wait for this one until `give_up`, also where it is not reached at first."""
        self._devices[device].sought = True

    @property
    def seeks(self) -> bool:
        """There are devices that are waited for, and not reached yet."""
        return any(device.sought for device in self._devices.values())

    async def lost(self) -> None:
        """Until a device is not where it was last."""
        await self._lost.wait()

    def found(self, device: DeviceId) -> bool:
        """It is about to be dialled where it was found, if this round waits for it."""
        known = self._devices.get(device)
        if known is None or not known.sought:
            return False
        known.failed = ""
        return True

    def give_up(self) -> None:
        """Nothing more is found."""
        for device in self._devices.values():
            device.sought = False
        self._changed.set()

    def notice(self, notice: Notice) -> None:
        """Take what the node says."""
        device = self._devices.get(notice.device)
        if device is None:
            return
        match notice.what:
            case "connected":
                device.reached, device.failed, device.sought = True, "", False
            case "unreachable" if device.row.device in self._runtime.connected():
                # It was dialled at several places, and is reached at another one.
                return
            case "unreachable" | "disconnected":
                if device.begins_anew:
                    device.begins_anew = device.rested = False
                    device.logs.clear()
                    self._runtime.peers.dial(device.row.device, (device.address, *device.row.addresses))
                elif not device.settled:
                    device.failed = notice.detail or "the connection was lost"
                    self._lost.set()
            case "narrowed":
                device.address = self._runtime.connected().get(device.row.device, device.address)
                device.begins_anew = bool(device.address)
            case "equal" | "behind" | "differing":
                self._compared(device, notice)
            case "stored":
                device.logs.setdefault(notice.log, _Log()).received += notice.count
                device.rested = False
            case "granted":
                device.granted = True
            case "rested":
                device.rested = True
            case _:
                return
        self._changed.set()

    def _compared(self, device: _Device, notice: Notice) -> None:
        log = device.logs.setdefault(notice.log, _Log())
        log.state = {"equal": SyncState.EQUAL, "differing": SyncState.DIFFERING}.get(
            notice.what, SyncState.BEHIND
        )
        if log.state == SyncState.BEHIND:
            row = self._row(notice.log, device.row.device)
            log.sent = max(log.sent, row.there_lacks if row is not None else 0)
        device.rested = device.granted = False
        device.address = self._runtime.connected().get(device.row.device, device.address)
        device.round_trips = max(device.round_trips, notice.round_trips)

    async def wait(self) -> None:
        """Until all is compared, or nothing moves any more."""
        moved = -1
        while True:
            settled = self._settled()
            if settled and moved == self._runtime.moved:
                return
            moved = self._runtime.moved
            try:
                async with asyncio.timeout(_QUIET_S if settled else limits.IDLE_TIMEOUT_MS / 1000):
                    await self._changed.wait()
                    moved = -1
            except TimeoutError:
                if not settled and moved == self._runtime.moved:
                    return
            self._changed.clear()

    def _settled(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        for device in self._devices.values():
            if not device.settled:
                device.ended_s = None
            elif device.ended_s is None:
                device.ended_s = now_s
        return all(device.settled for device in self._devices.values())

    def report(self) -> SyncReport:
        """What came of it so far."""
        devices = tuple(self._report(device) for device in self._devices.values())
        now_s = asyncio.get_running_loop().time()
        return SyncReport(devices=devices, duration_ms=round((now_s - self._started_s) * 1000))

    def _report(self, device: _Device) -> DeviceReport:
        now_s = asyncio.get_running_loop().time()
        traffic = self._runtime.traffic(device.row.device)
        reason = device.failed
        if not reason and not device.settled:
            reason = "it stopped answering before all was compared" if device.reached else "no answer"
        return DeviceReport(
            device=device.row.device.hex(),
            name=device.row.name,
            reached=device.reached,
            complete=not reason,
            reason=reason,
            address=device.address,
            received_bytes=traffic.received - device.before.received,
            sent_bytes=traffic.sent - device.before.sent,
            round_trips=device.round_trips,
            duration_ms=round(((device.ended_s or now_s) - self._started_s) * 1000),
            logs=tuple(self._log_report(n, log, device.row.device) for n, log in sorted(device.logs.items())),
        )

    def _log_report(self, n: int, log: _Log, device: DeviceId) -> LogReport:
        known = next((row for row in self._store.logs() if row.n == n), None)
        row = self._row(n, device)
        return LogReport(
            topic=known.topic.hex() if known is not None else "",
            title=known.title if known is not None else "",
            kind=known.kind.value if known is not None else "",
            state=log.state,
            received=log.received,
            sent=log.sent,
            detail=row.detail if row is not None and log.state != SyncState.EQUAL else "",
        )

    def _row(self, log: int, device: DeviceId) -> SyncRow | None:
        return next((row for row in self._store.syncs(log) if row.device == device), None)
