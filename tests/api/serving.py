"""Two homes of one person, one of them served in a thread, so that the other syncs as a command does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mlog.adapters.runtime import now_ms
from mlog.api.home import Home
from mlog.api.service import Service, sync_once
from mlog.log import belonging
from mlog.log.peers import PeerRow

_LOOPBACK = "127.0.0.1"
_WAIT_S = 20


def peer_of(home: Home, name: str) -> PeerRow:
    """How another home knows the device of this one."""
    keys = home.replica.device_keys
    return PeerRow(device=keys.id, name=name, noise=keys.noise_public, hpke=keys.hpke_public, own=True)


def join(desk: Path, laptop: Path) -> None:
    """Make two homes of one person, which know each other as "desk" and "laptop"."""
    # The person that was founded first is the one that stays.
    with Home(desk, person="ann") as one, Home(laptop, person="ann", clock_ms=lambda: now_ms() + 1000) as two:
        belonging.admit(one.replica, peer_of(two, "laptop"), one.now_ms())
        with two.store.transaction():
            two.store.put_peer(peer_of(one, "desk"))


@contextmanager
def served(folder: Path, to: Path) -> Generator[None]:
    """Inside, a home is served on loopback, and another one knows where.

    Args:
        to: The home that knows it as one of its devices.
    """
    started = threading.Event()
    problems: list[BaseException] = []
    stop: list[tuple[asyncio.AbstractEventLoop, Service]] = []
    port = 0

    async def serve(home: Home) -> None:
        nonlocal port
        service = Service(home, phone=False)
        try:
            port = (await service.start((_LOOPBACK, 0))).port
            stop.append((asyncio.get_running_loop(), service))
            started.set()
            await service.run()
        finally:
            await service.close()

    def work() -> None:
        try:
            with Home(folder) as home:
                asyncio.run(serve(home))
        except BaseException as error:  # noqa: BLE001 (told to the test below)
            problems.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert started.wait(_WAIT_S)
        assert not problems, problems
        _remember(to, folder, f"{_LOOPBACK}:{port}")
        yield
    finally:
        for loop, service in stop:
            loop.call_soon_threadsafe(service.stop)
        thread.join(_WAIT_S)
        assert not thread.is_alive()
        assert not problems, problems


def _remember(home: Path, served_home: Path, address: str) -> None:
    with Home(served_home) as other:
        device = other.replica.device_id
    with Home(home) as opened, opened.store.transaction():
        [known] = [peer for peer in opened.store.peers() if peer.device == device]
        opened.store.put_peer(msgspec.structs.replace(known, addresses=(address,)))


def sync(desk: Path, laptop: Path) -> None:
    """Bring both to the same."""
    with served(desk, laptop), Home(laptop) as home:
        assert sync_once(home, timeout_s=_WAIT_S).equal
