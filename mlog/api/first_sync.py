"""First sync: what two devices that were just paired have still to give each other, and when it is done.

Both ends count the same: what one asked for the other was asked for. Numbers are of entries of all logs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from mlog import limits
from mlog.errors import PeerUnavailable
from mlog.log.ids import DeviceId, Topic
from mlog.log.people import shared_logs
from mlog.plurals import counted
from mlog.protocol.events import Notice

if TYPE_CHECKING:
    from mlog.api.service import Happening, Service

__all__ = ["Amount", "FirstSync"]

_QUIET_S: Final = 0.25
"""After the last word: how long to listen whether the other end has more, such as a new log."""

_SETTLED: Final = frozenset({"equal", "differing"})


class Amount(NamedTuple):
    """How far it is.

    Attributes:
        remaining: Entries that either end still lacks, as far as this one knows.
        done: Entries that came and went.
    """

    remaining: int
    done: int


class FirstSync:
    """Follows what a service says of one device, from the moment of the pairing on.

    Args:
        met: Topic of the person log of another person, whose device it is; None for one of our own.

    Attributes:
        connected: There is a session with it now.
    """

    def __init__(self, service: Service, device: DeviceId, met: Topic | None = None):
        self.connected = device in service.runtime.connected()
        self._service = service
        self._device = device
        self._met = met
        self._coming: defaultdict[int, int] = defaultdict(int)
        self._going: defaultdict[int, int] = defaultdict(int)
        self._done = 0
        self._states: dict[int, str] = {}
        self._rested = self._ended = False
        self._changed = asyncio.Event()

    def heard(self, told: Happening) -> None:
        """Take what the service says."""
        if not isinstance(told, Notice) or told.device != self._device:
            return
        log = told.log
        match told.what:
            case "connected":
                self.connected = True
            case "disconnected":
                # The other end may be done first, and leave.
                self._ended = self._is_compared()
                self.connected = self._rested = False
                if not self._ended:
                    self._coming.clear()
                    self._going.clear()
                    self._states.clear()
            case "behind":
                self._behind(log)
            case "equal" | "differing":
                self._coming.pop(log, None)
                self._going.pop(log, None)
            case "lacks":
                self._coming[log] = told.count
            case "wanted":
                self._going[log] += told.count
            case "stored":
                self._coming[log] = max(0, self._coming[log] - told.count)
                self._done += told.count
            case "sent":
                self._going[log] = max(0, self._going[log] - told.count)
                self._done += told.count
            case "rested":
                self._rested = True
            case _:
                return
        if self._ended:
            self._changed.set()
            return
        if told.what in _SETTLED | {"behind"}:
            self._states[log] = told.what
        if told.what not in {"rested", "connected"}:
            self._rested = False
        self._changed.set()

    def _behind(self, log: int) -> None:
        for row in self._service.home.store.syncs(log):
            if row.device == self._device:
                self._coming[log], self._going[log] = row.here_lacks, row.there_lacks

    @property
    def differing(self) -> int:
        """How many logs could not be made equal."""
        return sum(state == "differing" for state in self._states.values())

    @property
    def amount(self) -> Amount:
        """How far it is now."""
        return Amount(sum(self._coming.values()) + sum(self._going.values()), self._done)

    async def amounts(self) -> AsyncGenerator[Amount]:
        """How far it is, whenever that changes; ends when all is compared, or nothing moves any more.

        Raises:
            PeerUnavailable: The connection was lost, and did not come back.
        """
        runtime, last, moved = self._service.runtime, Amount(0, 0), -1
        while True:
            settled = self._is_settled()
            if self._ended or (settled and moved == runtime.moved):
                return
            moved = runtime.moved
            try:
                async with asyncio.timeout(_QUIET_S if settled else limits.IDLE_TIMEOUT_MS / 1000):
                    await self._changed.wait()
                    moved = -1
            except TimeoutError:
                if not settled and moved == runtime.moved:
                    raise self._lost() from None
            self._changed.clear()
            if self.amount != last:
                last = self.amount
                yield last

    def _lost(self) -> PeerUnavailable:
        remaining = self.amount.remaining
        remain = "remains" if remaining == 1 else "remain"
        left = f"{counted(remaining, 'entry', 'entries')} {remain}. " if remaining else ""
        return PeerUnavailable(
            f"both devices know each other now, but the connection was lost. {left}'mlog sync' on either one "
            "fetches the rest, and so does 'mlog serve'."
        )

    def _is_settled(self) -> bool:
        """All is compared, and nothing is left to do."""
        return self.connected and self._rested and self._is_compared()

    def _is_compared(self) -> bool:
        """Each log that both have to know was compared to the end."""
        logs = self._common()
        return bool(logs) and all(self._states.get(log) in _SETTLED for log in logs)

    def _common(self) -> Sequence[int]:
        """Logs that both have to know; none before it is clear which ones these are."""
        replica = self._service.home.replica
        person = replica.people.current()
        if person is None:
            return ()
        if self._met is not None:
            theirs = [row.n for row in self._service.home.store.logs() if row.topic == self._met]
            return [person.log, *theirs] if theirs else ()
        other = person.member(self._device)
        one_person = other is not None and other.confirmed
        return [state.n for state in shared_logs(replica)] if one_person else ()
