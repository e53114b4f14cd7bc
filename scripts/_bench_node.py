"""One end of a sync benchmark, in a process of its own: lines of JSON in, one line of JSON out for each.

_bench_node.py home FOLDER      a home with its service
_bench_node.py pairing FOLDER   a home that pairs
_bench_node.py writer FOLDER    a home whose service, if there is one, runs in another process
_bench_node.py clients N        devices that hold logs blindly in memory, each with a node
_bench_node.py bare FILE        a bare SQLite table behind a bare websocket: the reference
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from _bench_shared import bare_database, peak_mib
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from mlog.adapters.keystore import SystemEntropy
from mlog.adapters.runtime import Runtime
from mlog.api import pairing
from mlog.api.home import Home
from mlog.api.pairing_steps import Complete, Offered, Paired, Shown, Wish
from mlog.api.service import Service
from mlog.log.crypto import DeviceKeys, Vault
from mlog.log.ids import DeviceId, Incarnation, Topic
from mlog.log.memory import MemoryStore
from mlog.log.peers import PeerRow
from mlog.log.replica import Replica
from mlog.protocol.events import Decide, Notice
from mlog.protocol.node import Node

HOST: Final = "127.0.0.1"
PAGE_ROWS: Final = 1000
WAIT_S: Final = 3600
HEARD_S: Final = 120
"""What one end waits for another to say: a session that was lost is not made again."""

Told = dict[str, Any]


class Stamps:
    """When entries came, one stamp for each; the clock is that of the whole machine."""

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []
        self._changed = asyncio.Event()

    def add(self, count: int) -> None:
        self.stamps_ns += [time.monotonic_ns()] * count
        self._changed.set()

    async def wait(self, count: int) -> list[int]:
        while len(self.stamps_ns) < count:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), HEARD_S)
        return self.stamps_ns


class End:
    """What every end answers; a command `{"do": NAME, ...}` is the method of that name."""

    async def stats(self) -> Told:
        return {"cpu_s": time.process_time(), "peak_mib": peak_mib(), "rss_mib": _resident_mib()}

    async def idle(self, seconds: float) -> Told:
        """The share of a core that doing nothing takes."""
        cpu_s, started = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        return {"cpu": (time.process_time() - cpu_s) / (time.perf_counter() - started)}


def _resident_mib() -> float:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return peak_mib()


class HomeEnd(End):
    """A home with its service."""

    def __init__(self, home: Home):
        self._home = home
        self._seen = Stamps()
        self._known: Told = {}
        self._equal_ns = 0
        self._service = Service(home, phone=False, dials=False, notice=self._notice)

    def _notice(self, notice: Notice) -> None:
        if notice.what == "stored":
            self._seen.add(notice.count)
        elif notice.what in ("equal", "differing"):
            self._equal_ns = time.monotonic_ns()
        elif notice.what == "behind" and not self._known:
            traffic = self._service.runtime.traffic(DeviceId(notice.device))
            self._known = {
                "bytes": traffic.received + traffic.sent,
                "ns": time.monotonic_ns(),
                "round_trips": notice.round_trips,
                "count": notice.count,
            }

    async def serve(self) -> Told:
        return {"port": (await self._service.start((HOST, 0))).port}

    async def sync(self, target: str) -> Told:
        """One round; what it took until the difference was known, and until both ends were proven equal."""
        self._known = {}
        cpu_s, started = time.process_time(), time.monotonic_ns()
        report = (await self._service.sync(target, WAIT_S)).devices[0]
        known = self._known
        return {
            "equal": report.equal,
            "reason": report.reason,
            "logs": len(report.logs),
            "received": sum(log.received for log in report.logs),
            "bytes": report.received_bytes + report.sent_bytes,
            "round_trips": report.round_trips,
            "seconds": (self._equal_ns - started) / 1e9,
            "cpu_s": time.process_time() - cpu_s,
            "known": {**known, "seconds": (known.pop("ns") - started) / 1e9} if known else {},
        }

    async def heard(self, count: int) -> Told:
        """When each of so many entries was durable and told; then none is remembered."""
        stamps, self._seen = await self._seen.wait(count), Stamps()
        return {"stamps_ns": stamps}

    async def close(self) -> None:
        await self._service.close()


class PairingEnd(End):
    """A home that pairs, with its service; the person says yes at once."""

    def __init__(self, home: Home):
        self._home = home
        self._service = Service(home, phone=False)
        self._showing: asyncio.Task[None] | None = None
        self._readable_s = 0.0

    async def offer(self) -> Told:
        """Show a code."""
        port = (await self._service.start((HOST, 0))).port
        steps = pairing.steps(self._service, Wish())
        offered = await anext(steps)
        assert isinstance(offered, Offered)

        async def go_on() -> None:
            async for step in steps:
                if isinstance(step, Shown) and step.asks:
                    self._service.runtime.deliver(Decide(True))

        self._showing = asyncio.ensure_future(go_on())
        return {"code": offered.code, "port": port}

    async def join(self, secret: str, port: int) -> Told:
        """Type it; seconds until both have said yes, until a message can be read, and until all can."""
        await self._service.start(None)
        told: Told = {}
        cpu_s, self._started_s = time.process_time(), time.perf_counter()
        with self._service.watched(self._look):
            async for step in pairing.steps(self._service, Wish(secret=secret, peer=f"{HOST}:{port}")):
                if isinstance(step, Paired):
                    told["paired_s"] = time.perf_counter() - self._started_s
                elif isinstance(step, Complete):
                    told["done"] = step.done
        told |= {"complete_s": time.perf_counter() - self._started_s, "readable_s": self._readable_s}
        return {**told, "cpu_s": time.process_time() - cpu_s}

    def _look(self, told: object) -> None:
        if not self._readable_s and isinstance(told, Notice) and told.what == "stored":
            for conversation in self._home.conversations():
                if any(self._home.messages(conversation.n, limit=1, newest_first=True)):
                    self._readable_s = time.perf_counter() - self._started_s

    async def close(self) -> None:
        if self._showing is not None:
            await self._showing
        await self._service.close()


class WriterEnd(End):
    """A home that is written to, as the command line does beside a service."""

    def __init__(self, home: Home):
        self._home = home

    async def send(self, texts: list[str], gap_s: float) -> Told:
        log = self._home.conversations()[0].n
        stamps: list[int] = []
        for text in texts:
            await asyncio.sleep(gap_s)
            stamps.append(time.monotonic_ns())
            self._home.send(log, text)
        return {"stamps_ns": stamps}

    async def close(self) -> None:
        pass


class ClientsEnd(End):
    """Devices that hold the logs of one home blindly, in memory, each with a node and a connection."""

    def __init__(self, count: int):
        self._entropy = SystemEntropy()
        self._stamps = [Stamps() for _ in range(count)]
        self._replicas = [self._replica() for _ in range(count)]
        self._runtimes: list[Runtime] = []

    def _replica(self) -> Replica:
        draw = self._entropy.random
        keys = DeviceKeys(draw(32), draw(32), draw(32))
        return Replica(MemoryStore(), keys, Vault(draw(32)), self._entropy, Incarnation(draw(8)))

    async def devices(self) -> Told:
        keys = [replica.device_keys for replica in self._replicas]
        return {"devices": [[key.id.hex(), key.noise_public.hex()] for key in keys]}

    async def join(self, device: str, noise: str, topics: list[str], port: int) -> Told:
        """Connect all, and wait until each holds what the home does."""
        desk = DeviceId(bytes.fromhex(device))
        row = PeerRow(device=desk, name="desk", noise=bytes.fromhex(noise), hpke=b"", own=True)
        started = time.perf_counter()
        rested = [asyncio.Event() for _ in self._replicas]
        for replica, stamps, rest in zip(self._replicas, self._stamps, rested, strict=True):
            with replica.store.transaction():
                replica.store.put_peer(row)
            for topic in topics:
                replica.add_blind_log(Topic(bytes.fromhex(topic)))
            runtime = Runtime(
                Node(replica, self._entropy, dials=False),
                ping=True,
                default_port=port,
                notice=_watcher(stamps, rest),
            )
            runtime.start()
            runtime.peers.dial(desk, (f"{HOST}:{port}",))
            self._runtimes.append(runtime)
            await asyncio.sleep(0.06)
        await asyncio.wait_for(asyncio.gather(*(rest.wait() for rest in rested)), HEARD_S)
        for stamps in self._stamps:
            stamps.stamps_ns.clear()
        return {"seconds": time.perf_counter() - started}

    async def heard(self, count: int) -> Told:
        """For each of so many entries when each device had it."""
        return {"stamps_ns": [await stamps.wait(count) for stamps in self._stamps]}

    async def close(self) -> None:
        for runtime in self._runtimes:
            runtime.stop()
            await runtime.peers.stop()


def _watcher(stamps: Stamps, rest: asyncio.Event) -> Callable[[Notice], None]:
    def watch(notice: Notice) -> None:
        if notice.what == "stored":
            stamps.add(notice.count)
        elif notice.what == "equal":
            rest.set()

    return watch


class BareEnd(End):
    """Rows, commits and a websocket, and nothing else."""

    def __init__(self, path: Path):
        self._path = path
        self._seen = Stamps()
        self._held: list[ClientConnection] = []
        self._database = bare_database(path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS row (n INTEGER PRIMARY KEY, tail BLOB, body BLOB, signature BLOB)"
        )

    async def serve(self, source: str = "") -> Told:
        """Answer each message: with the next page of a home's rows, or by keeping it and saying so."""

        async def answer(ws: ServerConnection) -> None:
            pages = _pages(Path(source)) if source else None
            page = next(pages, b"") if pages else b""
            async for message in ws:
                if pages is None:
                    self._keep([msgspec.msgpack.decode(message)] if message else [])
                    await ws.send(b"\0" * 48)
                    continue
                await ws.send(page)
                # The next one is read while this one is on its way.
                page = next(pages, b"")

        self._server = await serve_websocket(answer, HOST, 0, compression=None, max_size=None)
        return {"port": next(iter(self._server.sockets)).getsockname()[1]}

    def _keep(self, rows: list[Any]) -> None:
        if rows:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO row VALUES (?, ?, ?, ?)", rows)
            self._database.execute("COMMIT")
            self._seen.add(len(rows))

    async def fetch(self, port: int) -> Told:
        """Get and keep all rows."""
        started, rows, size = time.perf_counter(), 0, 0
        cpu_s = time.process_time()
        async with _connected(port) as ws:
            await ws.send(b"next")
            while page := await ws.recv():
                decoded = msgspec.msgpack.decode(page)
                self._keep(decoded)
                rows, size = rows + len(decoded), size + len(page)
                await ws.send(b"next")
        took = time.perf_counter() - started
        return {"seconds": took, "rows": rows, "bytes": size, "cpu_s": time.process_time() - cpu_s}

    async def knock(self, port: int, count: int) -> Told:
        """Seconds of a round trip with 48 bytes, on a connection that is open."""
        took: list[float] = []
        async with _connected(port) as ws:
            for _ in range(count):
                started = time.perf_counter()
                await ws.send(b"")
                await ws.recv()
                took.append(time.perf_counter() - started)
        return {"seconds": took}

    async def send(self, port: int, texts: list[str], gap_s: float) -> Told:
        """Commit a row here, then send it."""
        stamps: list[int] = []
        async with _connected(port) as ws:
            for n, text in enumerate(texts, 1):
                await asyncio.sleep(gap_s)
                stamps.append(time.monotonic_ns())
                row = (n, b"", text.encode(), None)
                self._keep([row])
                await ws.send(msgspec.msgpack.encode(row))
                await ws.recv()
        return {"stamps_ns": stamps}

    async def hold(self, port: int, count: int) -> Told:
        """Open connections and keep them."""
        for _ in range(count):
            self._held.append(await connect(f"ws://{HOST}:{port}", compression=None))
        return {}

    async def heard(self, count: int) -> Told:
        return {"stamps_ns": await self._seen.wait(count)}

    async def close(self) -> None:
        for ws in self._held:
            await ws.close()
        self._database.close()


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://{HOST}:{port}", compression=None, max_size=None) as ws:
        yield ws


def _pages(home: Path) -> Any:
    """The rows of a home as they lie there, encoded a page at a time."""
    database = sqlite3.connect(f"file:{home / 'mlog.db'}?mode=ro", uri=True, check_same_thread=False)
    after = 0
    sql = "SELECT e.n, e.tail, b.body, e.signature FROM entries AS e LEFT JOIN bodies AS b ON b.n = e.n "
    while rows := database.execute(f"{sql}WHERE e.n > ? ORDER BY e.n LIMIT {PAGE_ROWS}", (after,)).fetchall():
        after = rows[-1][0]
        yield msgspec.msgpack.encode(rows)
    database.close()


async def _obey(end: Any) -> None:
    loop = asyncio.get_running_loop()
    try:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command = json.loads(line)
            told = await getattr(end, command.pop("do"))(**command)
            print(json.dumps(told), flush=True)
    finally:
        await end.close()


async def _main(kind: str, where: str) -> None:
    match kind:
        case "home":
            with Home(Path(where)) as home:
                await _obey(HomeEnd(home))
        case "pairing":
            with Home(Path(where)) as home:
                await _obey(PairingEnd(home))
        case "writer":
            with Home(Path(where)) as home:
                await _obey(WriterEnd(home))
        case "clients":
            await _obey(ClientsEnd(int(where)))
        case _:
            await _obey(BareEnd(Path(where)))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
