"""Service: a home that is served to the person's other devices, and one round of sync by itself.

    serve       listens, dials, answers the local socket; until it is told to stop
    sync_once   one round, in the service if one runs on the home, else by itself

One process serves a home (`Claim`); others may use it at the same time, and poke the service when
they commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

from mlog import config, limits
from mlog.adapters import interfaces, local_socket
from mlog.adapters.interfaces import Interface
from mlog.adapters.keystore import SystemEntropy
from mlog.adapters.local_socket import Claim, LocalServer
from mlog.adapters.runtime import Runtime, stopped_by_signals
from mlog.adapters.websocket import join_address, split_address
from mlog.api.home import Home
from mlog.api.requests import Requests
from mlog.api.rounds import Round, SyncReport
from mlog.errors import Busy, InvalidInput, PeerUnavailable, StoreError, UserError
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow
from mlog.protocol.events import Closed, Event, Fetch, Notice, Opened, Seen, SyncNow, Unreachable
from mlog.protocol.node import Node
from mlog.protocol.pairing import Ended, Paired, Show

if TYPE_CHECKING:
    from mlog.adapters.discovery import Discovery

__all__ = ["Happening", "Ready", "Service", "find_device", "serve", "sync_once", "unknown_device"]

_T = TypeVar("_T")

Happening: TypeAlias = Event | Notice | Show | Paired | Ended
"""What a service sees: events before the node does, and what the node says of them."""

_LOOK_S: Final = 2.0
"""Where the local socket cannot be used: how often the service looks whether somebody committed."""

_HEAD_START_S: Final = 1.0
"""How long devices are tried where they were last, before they are looked for in the local network."""

_SEARCH_S: Final = 2.5
"""How long a round looks: two questions, in case a packet gets lost, and the time to answer them."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What a service says when it has begun.

    Attributes:
        port: Where other devices reach it; 0 if it only connects to others.
        local: The local socket is open; else `why` says why not.
    """

    port: int
    local: bool
    why: str = ""


def serve(
    home: Home,
    *,
    host: str | None = None,
    port: int = config.DEFAULT_PORT,
    phone: bool = False,
    discovery: bool = True,
    ready: Callable[[Ready], None] = lambda _: None,
    notice: Callable[[Notice], None] = lambda _: None,
) -> None:
    """Serve a home until Ctrl-C, or until the system asks the process to end.

    Args:
        host: Listen only at this address; None for all of this machine.
        port: Where to listen; 0 lets the system choose.
        phone: Save the battery: do not listen, and do not keep idle connections alive.
        discovery: Find one's other devices in the local network, and be found by them.
        ready: Told when devices can connect.
        notice: Told what happens.

    Raises:
        Busy: A service runs on this home already.
        UserError: The port is in use.
        StoreError: The disk is full, or the database is damaged.
    """

    async def run() -> None:
        networks = interfaces.present if discovery else None
        service = Service(home, phone=phone, notice=notice, networks=networks)
        try:
            with stopped_by_signals(service.stop):
                facts = await service.start(None if phone else (host, port))
                if discovery:
                    await service.discover(host)
                ready(facts)
                await service.run()
        finally:
            await service.close()

    with Claim(home.path):
        asyncio.run(run())


def sync_once(
    home: Home,
    target: str | None = None,
    *,
    timeout_s: float | None = None,
    discovery: bool = True,
    notice: Callable[[Notice], None] = lambda _: None,
) -> SyncReport:
    """One round of sync: compare everything, and transfer what is missing on either side.

    A device that is not where it was last, or of which no address is known, is looked for in the local
    network. Nothing is sent there otherwise.

    Args:
        target: A device by its name or the start of its id, or HOST:PORT of a known device; None
            for all known devices.
        timeout_s: End after so long, finished or not.
        discovery: Look for devices in the local network; a service does what it was started with.
        notice: Told what happens, where no service does the work.

    Raises:
        UserError: No such device, or none is known at all.
        PeerUnavailable: Nobody answers at HOST:PORT, or none of the known devices.
        StoreError: The disk is full, or the database is damaged.
    """
    request: dict[str, Any] = {"do": "sync", "target": target, "timeout_s": timeout_s}
    if local_socket.is_served(home.path):
        answer = list(local_socket.ask(home.path, request, timeout_s=None))[-1]
        return msgspec.convert(answer.get("report"), SyncReport)

    async def run() -> SyncReport:
        networks = interfaces.present if discovery else None
        service = Service(home, phone=True, dials=False, notice=notice, networks=networks)
        try:
            return await service.sync(target, timeout_s)
        finally:
            await service.close()

    return asyncio.run(run())


def find_device(peers: Sequence[PeerRow], name: str) -> PeerRow | None:
    """The device that a name, the unique start of one, or the start of an id means; None if none does.

    Raises:
        UserError: Several: the message lists them.
    """
    folded = name.casefold()
    for chosen in (
        [peer for peer in peers if peer.name == name],
        [peer for peer in peers if peer.name.casefold() == folded],
        [peer for peer in peers if folded and peer.name.casefold().startswith(folded)],
        [peer for peer in peers if len(folded) >= 4 and peer.device.hex().startswith(folded)],
    ):
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            listed = "".join(f"\n  {peer.device.hex()[:8]}  {peer.name}" for peer in chosen[:20])
            raise UserError(f"{len(chosen)} devices match {name!r}; say more, or the id before it:{listed}")
    return None


def unknown_device(peers: Sequence[PeerRow], name: str) -> UserError:
    """No device has this name."""
    if not peers:
        return UserError("no other device is known here yet. 'mlog pair' makes one known.")
    known = ", ".join(peer.name for peer in peers[:20])
    return UserError(
        f"no device {name!r} is known here. Known are: {known}. 'mlog sync' takes HOST:PORT too."
    )


class Service:
    """A home, its node, and all that connects it; make and use it inside a running loop.

    Args:
        phone: As for `serve`.
        dials: The node tries by itself to reach the devices that it knows.
        notice: Told what happens.
        networks: Gives the interfaces of this machine, where devices may be looked for; None looks nowhere.

    Attributes:
        host, port: Where it listens: None is everywhere, and port 0 nowhere.
        pairs: A pairing goes on (mlog/api/pairing.py).
    """

    def __init__(
        self,
        home: Home,
        *,
        phone: bool,
        dials: bool = True,
        notice: Callable[[Notice], None] = lambda _: None,
        networks: Callable[[], Sequence[Interface]] | None = None,
    ):
        self.home = home
        self.port = 0
        self.host: str | None = None
        self.networks = networks
        self.pairs = False
        self._tell = notice
        self._rounds: set[Round] = set()
        self._watchers: set[Callable[[Happening], None]] = set()
        self._commits: set[asyncio.Event] = set()
        self._led: dict[int, DeviceId] = {}
        self._found: set[DeviceId] = set()
        self._dials = dials
        self._looking: asyncio.Task[None] | None = None
        self._local: LocalServer | None = None
        self._discovery: Discovery | None = None
        self.runtime = Runtime(
            Node(home.replica, SystemEntropy(), dials=dials),
            ping=not phone,
            default_port=config.DEFAULT_PORT,
            clock_ms=home.now_ms,
            notice=self._noticed,
            met=self._met,
            watch=self._happened,
        )
        self._announced = home.announce
        home.announce = self.committed
        self.runtime.start()
        self._running = asyncio.ensure_future(self.runtime.run())

    # -- beginning and end -------------------------------------------------------------------

    async def start(self, listen: tuple[str | None, int] | None) -> Ready:
        """Begin to listen, and open the local socket.

        Args:
            listen: Host and port; None to only connect to others.

        Raises:
            UserError: The port is in use, or the host is not of this machine.
        """
        if listen is not None:
            self.port = await self.runtime.peers.listen(*listen)
            self.host = listen[0]
        local = LocalServer(self.home.path, Requests(self).answers)
        try:
            await local.start(self.port)
        except StoreError as error:
            # Some file systems have no sockets: then it looks every now and then who committed.
            self._looking = asyncio.ensure_future(self._look(self.home.data_version()))
            return Ready(port=self.port, local=False, why=str(error))
        self._local = local
        return Ready(port=self.port, local=True)

    async def discover(self, host: str | None = None) -> None:
        """Find known devices in the local network, and be found where this one listens.

        Args:
            host: The one address at which it listens; None for all.
        """
        assert self.networks is not None
        assert self._discovery is None
        # A tenth of a second of start-up that a single round does not need.
        from mlog.adapters.discovery import Discovery

        keys = self.home.replica.device_keys
        self._discovery = Discovery(
            noise_seed=keys.noise_seed,
            peers=self._announced_to,
            on_seen=self.seen,
            entropy=SystemEntropy(),
            clock_ms=self.home.now_ms,
            interfaces=self.networks,
        )
        await self._discovery.start(self.port, None if host is None else [host])

    def _announced_to(self) -> Sequence[PeerRow]:
        """The devices that are known; and the recovery phrase, so that a device that knows nobody else is
        announced for who has that."""
        person = self.home.replica.people.current()
        phrases = person.phrases if person is not None else ()
        rows = [
            PeerRow(device=one.device, name=one.name, noise=one.noise, hpke=one.hpke, own=True)
            for one in phrases
        ]
        return [*self.home.store.peers(), *rows]

    def stop(self) -> None:
        """End `run`."""
        self.runtime.stop()

    async def run(self) -> None:
        """Until it is stopped.

        Raises:
            StoreError: The disk is full, or the database is damaged.
        """
        expiring = asyncio.ensure_future(self._expire())
        try:
            await asyncio.wait([expiring, self._running], return_when=asyncio.FIRST_COMPLETED)
            await (expiring if expiring.done() else self._running)
        finally:
            expiring.cancel()
            await asyncio.gather(expiring, return_exceptions=True)

    async def _expire(self) -> None:
        """Forget what is to disappear while this runs."""
        while True:
            with suppress(Busy):
                self.home.expire()
            await asyncio.sleep(limits.EXPIRE_LOOK_MS / 1000)

    async def unless_stopped(self, work: Awaitable[_T]) -> _T:
        """What comes of some work, if the service goes on until then.

        Raises:
            PeerUnavailable: It was stopped.
            StoreError: The disk is full, or the database is damaged.
        """
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task, self._running], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            await self._running
            raise PeerUnavailable("the service was stopped before it was done")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Close all connections and the local socket; the home stays open."""
        self.home.announce = self._announced
        if self._discovery is not None:
            await self._discovery.stop()
        if self._looking is not None:
            self._looking.cancel()
        if self._local is not None:
            await self._local.stop()
        self.runtime.stop()
        # What it failed with was told by `run`.
        await asyncio.gather(self._running, return_exceptions=True)

    async def _look(self, seen: int) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            now = self.home.data_version()
            if now != seen:
                seen = now
                self.committed()

    # -- what happens ------------------------------------------------------------------------

    def committed(self) -> None:
        """Something was committed, here or by another process."""
        self.runtime.committed()
        for event in self._commits:
            event.set()

    def commits(self) -> Commits:
        """For those who wait for commits."""
        return Commits(self._commits)

    def seen(self, device: DeviceId, addresses: tuple[str, ...]) -> None:
        """Discovery found a device."""
        self._found.add(device)
        self.runtime.deliver(Seen(device, addresses))
        wanted = [current for current in self._rounds if current.found(device)]
        if wanted and not self._dials:
            self.runtime.peers.dial(device, addresses)

    def _happened(self, event: Event) -> None:
        match event:
            case Opened(session=session, device=device) if device is not None:
                self._led[session] = device
            case Closed(session=session):
                self._led.pop(session, None)
            case _:
                pass
        for watcher in list(self._watchers):
            watcher(event)

    @contextmanager
    def watched(self, watcher: Callable[[Happening], None]) -> Generator[None]:
        """Inside, tell somebody what happens."""
        self._watchers.add(watcher)
        try:
            yield
        finally:
            self._watchers.discard(watcher)

    def _met(self, told: Show | Paired | Ended) -> None:
        for watcher in list(self._watchers):
            watcher(told)

    def _noticed(self, notice: Notice) -> None:
        for watcher in list(self._watchers):
            watcher(notice)
        for running in list(self._rounds):
            running.notice(notice)
        self._tell(notice)

    # -- sync --------------------------------------------------------------------------------

    async def sync(self, target: str | None, timeout_s: float | None) -> SyncReport:
        """One round; as `sync_once`."""
        peers = self.home.store.peers()
        if not peers:
            raise UserError("no other device is known yet. 'mlog pair' makes one known.")
        chosen, address = self._targets(peers, target)
        current = Round(self.home.store, self.runtime, chosen, expected=self._expected)
        self._rounds.add(current)
        try:
            await self.unless_stopped(self._round(current, chosen, address, timeout_s))
        finally:
            self._rounds.discard(current)
        return current.report()

    async def _round(
        self, current: Round, chosen: Sequence[PeerRow], address: str, timeout_s: float | None
    ) -> None:
        searching: asyncio.Task[None] | None = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    if address:
                        chosen = [await self._identify(chosen, address)]
                        current.only(chosen[0].device)
                    else:
                        self._dial(current, chosen)
                        searching = asyncio.ensure_future(self._search(current))
                    await current.wait()
        finally:
            if searching is not None:
                searching.cancel()
                await asyncio.gather(searching, return_exceptions=True)

    def _dial(self, current: Round, chosen: Sequence[PeerRow]) -> None:
        connected = self.runtime.connected()
        # A node that dials by itself dials now.
        self.runtime.deliver(SyncNow())
        for peer in chosen:
            if peer.device in connected:
                continue
            if self.networks is not None:
                current.seek(peer.device)
            if not peer.addresses and peer.device not in self._found:
                current.fail(peer.device, "where it is is not known: it has to connect to this device")
            elif not self._dials:
                self.runtime.peers.dial(peer.device, peer.addresses)

    async def _search(self, current: Round) -> None:
        """Look in the local network for the devices that are not where they were last."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEAD_START_S):
                await current.lost()
        try:
            if self.networks is not None and current.seeks:
                if self._discovery is None:
                    await self.discover()
                assert self._discovery is not None
                self._discovery.search()
                await asyncio.sleep(_SEARCH_S)
        finally:
            current.give_up()

    def _expected(self, device: DeviceId) -> Sequence[int]:
        """The logs that are shared with a device, where the other end of the session compares them."""
        if device not in self.runtime.connected() or device in self._led.values():
            return ()
        return [row.log for row in self.home.store.syncs() if row.device == device]

    def _targets(self, peers: Sequence[PeerRow], target: str | None) -> tuple[Sequence[PeerRow], str]:
        """The devices that are meant; with an address, it is one of them."""
        if target is None:
            return peers, ""
        named = find_device(peers, target)
        if named is not None:
            return [named], ""
        if ":" not in target and "." not in target:
            raise unknown_device(peers, target)
        try:
            address = join_address(*split_address(target, config.DEFAULT_PORT))
        except InvalidInput as error:
            raise UserError(f"no device {target!r} is known here, and {error}.") from None
        first = [peer for peer in peers if address in peer.addresses]
        rest = [peer for peer in peers if address not in peer.addresses]
        return [*first, *sorted(rest, key=lambda peer: (not peer.own, -peer.seen_ms))], address

    async def _identify(self, candidates: Sequence[PeerRow], address: str) -> PeerRow:
        """Which device is at an address: each is tried, for only its own key opens the first message.

        One that is connected and was there last is not tried: it would not take a second connection.
        """
        connected = self.runtime.connected()
        for peer in candidates:
            if peer.device in connected and address in peer.addresses:
                self.runtime.deliver(SyncNow())
                return peer
        for peer in candidates:
            if await self._is_at(peer.device, address):
                self._remember(peer.device, address)
                return peer
        raise PeerUnavailable(f"somebody answers at {address}, but it is none of the devices that you know.")

    async def _is_at(self, device: DeviceId, address: str) -> bool:
        """Try one device at an address.

        Raises:
            PeerUnavailable: Nobody answers there.
        """
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        sessions: set[int] = set()

        def watch(event: Happening) -> None:
            if found.done():
                return
            match event:
                case Opened(session=session, device=opened) if opened == device:
                    sessions.add(session)
                case Notice(what="connected", device=connected) if connected == device:
                    found.set_result(True)
                case Closed(session=session) if session in sessions:
                    found.set_result(False)
                case Unreachable(device=unreachable, reason=reason) if unreachable == device:
                    found.set_exception(PeerUnavailable(f"nobody could be reached at {reason}."))
                case _:
                    pass

        with self.watched(watch):
            self.runtime.peers.dial(device, (address,))
            return await found

    def _remember(self, device: DeviceId, address: str) -> None:
        store = self.home.store
        with store.transaction():
            known = next((peer for peer in store.peers() if peer.device == device), None)
            if known is not None and known.addresses[:1] != (address,):
                others = (other for other in known.addresses if other != address)
                addresses = (address, *others)[: limits.PEER_ADDRESSES_MAX]
                store.put_peer(msgspec.structs.replace(known, addresses=addresses))

    def fetch(self, log: int, ids: Sequence[Any]) -> None:
        """Ask the connected devices for entries and their bodies."""
        self.runtime.deliver(Fetch(log, tuple(ids)))


class Commits:
    """Waits for commits; use it in a `with` statement."""

    def __init__(self, waiters: set[asyncio.Event]):
        self._waiters = waiters
        self._event = asyncio.Event()

    def __enter__(self) -> Commits:
        self._waiters.add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        self._waiters.discard(self._event)

    async def wait(self) -> None:
        """Until something was committed since the last call, or since the beginning."""
        await self._event.wait()
        self._event.clear()
