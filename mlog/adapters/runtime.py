"""Runtime: one loop and one thread that drive a node: events in, effects carried out in order.

`Node.handle` returns after the commit of what its effects acknowledge, and only then is anything
sent. There is one timer, for the time that the node asked for; while nothing happens nothing runs.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from mlog import limits
from mlog.adapters.websocket import Peers, Traffic
from mlog.errors import Busy, MlogError, StoreError
from mlog.log.ids import DeviceId
from mlog.protocol.events import (
    Admitted,
    Close,
    Closed,
    Committed,
    Dial,
    Effect,
    Established,
    Event,
    Notice,
    Paged,
    Reach,
    Received,
    Send,
    Tick,
    WakeAt,
)
from mlog.protocol.pairing import Ended, Paired, Show

__all__ = ["Machine", "Runtime", "now_ms", "stopped_by_signals"]

_RETRY_MS: Final = 1000
"""When the store was busy: how long to wait before the same event is tried again."""


class Machine(Protocol):
    """What the runtime asks of a node."""

    def start(self, now_ms: int) -> list[Effect]:
        """What to do at first."""
        ...

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """What to do after an event."""
        ...


def now_ms() -> int:
    """The clock of this machine, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Runtime:
    """Drives one node; make and use it inside a running loop, in one thread.

    Args:
        machine: The node.
        ping: As for `Peers`.
        default_port: Of addresses that name none.
        clock_ms: As `now_ms`.
        notice: Told what the node wants people to know.
        paged: Told what the node read at a peer.
        met: Told how a pairing goes.
        watch: Sees each event before the node does.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        ping: bool,
        default_port: int,
        clock_ms: Callable[[], int] = now_ms,
        notice: Callable[[Notice], None] = lambda _: None,
        paged: Callable[[Paged], None] = lambda _: None,
        met: Callable[[Show | Paired | Ended], None] = lambda _: None,
        watch: Callable[[Event], None] = lambda _: None,
    ):
        self.peers = Peers(self.deliver, ping=ping, default_port=default_port)
        self.moved = 0
        """Messages that came or went: grows while anything happens."""
        self._machine = machine
        self._clock_ms = clock_ms
        self._notice = notice
        self._paged = paged
        self._met = met
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.Handle | None = None
        self._handling = False
        self._told = False
        self._started = False
        self._devices: dict[int, DeviceId] = {}
        self._past: dict[DeviceId, Traffic] = {}

    # -- driving the node --------------------------------------------------------------------

    def start(self) -> None:
        """Let the node begin; once, and before anything is delivered."""
        assert not self._started
        self._started = True
        self._turn(self._machine.start, None)

    def deliver(self, event: Event) -> None:
        """Hand the node an event and do what it answers."""
        if self._ended.done():
            return
        self._watch(event)
        match event:
            case Received():
                self.moved += 1
            case Closed(session=session):
                self._remember(session)
            case _:
                pass
        self._turn(lambda now: self._machine.handle(event, now), event)

    def committed(self) -> None:
        """Something was committed to the store; may be called at each commit, the node's own included."""
        # What the node committed itself it knows; and one look serves many commits.
        if not self._handling and not self._told and not self._ended.done():
            self._told = True
            self._loop.call_soon(self._tell_committed)

    def _tell_committed(self) -> None:
        self._told = False
        self.deliver(Committed())

    def _turn(self, work: Callable[[int], list[Effect]], event: Event | None) -> None:
        assert not self._handling
        self._handling = True
        try:
            effects = work(self._clock_ms())
        except StoreError as error:
            self._fail(error)
            return
        except Exception as error:  # noqa: BLE001 (one peer's message must not end the service for all)
            self._recover(event, error)
            return
        finally:
            self._handling = False
        for effect in effects:
            self._carry_out(effect)

    def _recover(self, event: Event | None, error: Exception) -> None:
        """An event was not handled: its transaction was undone, and nothing was acknowledged."""
        match event:
            case Received(session=session):
                # The node may have read half of it: the peer begins again in a new session.
                if not isinstance(error, MlogError):
                    what = f"a fault in mlog, please report it: {type(error).__name__}: {str(error)[:200]}"
                    self._notice(Notice(what="fault", detail=what))
                self.peers.close(session, str(error))
            case _ if event is not None and isinstance(error, Busy):
                self._loop.call_later(_RETRY_MS / 1000, self.deliver, event)
            case _:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(session=session, data=data):
                self.moved += 1
                self.peers.send(session, data)
            case Close(session=session, reason=reason):
                self.peers.close(session, reason)
            case Dial(device=device, addresses=addresses):
                self.peers.dial(device, addresses)
            case Reach(addresses=addresses):
                self.peers.reach(addresses)
            case Admitted(session=session):
                self.peers.established(session)
            case WakeAt(time_ms=time_ms):
                self._arm(time_ms)
            case Established(session=session, device=device):
                self._devices[session] = device
                self.peers.established(session)
            case Notice():
                self._notice(effect)
            case Paged():
                self._paged(effect)
            case Show() | Paired() | Ended():
                self._met(effect)

    def _arm(self, time_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_ms = time_ms - self._clock_ms()
        if delay_ms <= 0:
            self._timer = self._loop.call_soon(self._tick)
        else:
            # A wrong clock that was put right may make this years.
            self._timer = self._loop.call_later(min(delay_ms, limits.WAKE_MAX_MS) / 1000, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.deliver(Tick())

    # -- who is there ------------------------------------------------------------------------

    def connected(self) -> dict[DeviceId, str]:
        """Devices with a session, and the address of each."""
        return {device: self.peers.address_of(n) for n, device in self._devices.items()}

    def traffic(self, device: DeviceId) -> Traffic:
        """Bytes that came from a device and went to it, in all of its sessions."""
        parts = [self.peers.traffic(n) for n, known in self._devices.items() if known == device]
        parts.append(self._past.get(device, Traffic(0, 0)))
        return Traffic(sum(part.received for part in parts), sum(part.sent for part in parts))

    def _remember(self, session: int) -> None:
        device = self._devices.pop(session, None)
        if device is not None:
            past, more = self._past.get(device, Traffic(0, 0)), self.peers.traffic(session)
            self._past[device] = Traffic(past.received + more.received, past.sent + more.sent)

    # -- beginning and end -------------------------------------------------------------------

    def stop(self) -> None:
        """End `run` without an error."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def run(self) -> None:
        """Until `stop`, or until the store fails; then all sessions are closed.

        Raises:
            StoreError: The disk is full, or the database is damaged.
            Busy: Another process held the store for too long before the node had begun.
        """
        try:
            await asyncio.shield(self._ended)
        finally:
            self.stop()
            if self._timer is not None:
                self._timer.cancel()
            await self.peers.stop()


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Generator[None]:
    """Inside, Ctrl-C and the system's request to end call `stop` in the running loop's thread."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:
            # Windows: the handler runs between two steps of the loop, which has to be woken.
            signal.signal(number, lambda _, __: loop.call_soon_threadsafe(stop))
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)
