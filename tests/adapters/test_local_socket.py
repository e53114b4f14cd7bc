"""The local socket: lines, bounds, who may open it, and a poke that costs nothing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlog import config, limits
from mlog.adapters import local_socket
from mlog.adapters.local_socket import Claim, LocalServer, Whereabouts, ask, poke, whereabouts
from mlog.errors import Busy, PeerUnavailable, StoreError, UserError
from tests.adapters.loops import hang_up, run

each_way = pytest.mark.parametrize("tcp", [False, True] if os.name != "nt" else [True])
unix = pytest.mark.skipif(os.name == "nt", reason="Windows has no Unix sockets")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


class Asked:
    """Requests that came, and answers by verb."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self.ended = 0

    async def answers(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        self.requests.append(request)
        self._changed.set()
        try:
            match request.get("do"):
                case "count":
                    for n in range(request["to"]):
                        yield {"n": n, "more": n + 1 < request["to"]}
                case "follow":
                    n = 0
                    while True:
                        yield {"n": n, "more": True}
                        n += 1
                        await asyncio.sleep(0.001)
                case "refuse":
                    raise UserError("that is not possible")
                case "fail":
                    raise StoreError("the disk is full")
                case "fault":
                    raise ValueError("odd")
                case "large":
                    for _ in range(1000):
                        yield {"text": "x" * 100_000, "more": True}
                case _:
                    yield {}
        finally:
            self.ended += 1
            self._changed.set()

    async def until(self, count: int) -> None:
        while len(self.requests) < count:
            self._changed.clear()
            await self._changed.wait()

    async def until_ended(self, count: int) -> None:
        while self.ended < count:
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def serving(home: Path, *, tcp: bool = False) -> AsyncGenerator[Asked]:
    asked = Asked()
    server = LocalServer(home, asked.answers, tcp=tcp)
    await server.start(listens=4711)
    try:
        yield asked
    finally:
        await server.stop()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def asking(home: Path, **request: Any) -> list[dict[str, Any]]:
    return await asyncio.to_thread(lambda: list(ask(home, request, timeout_s=10)))


async def connected(home: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = whereabouts(home)
    assert where is not None
    return await asyncio.open_unix_connection(where.socket, limit=2**24)


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> dict[str, Any]:
    writer.write(line)
    return json.loads(await reader.readline())


# -- requests and answers --------------------------------------------------------------------


@each_way
def test_a_request_has_as_many_answers_as_it_takes(home: Path, tcp: bool) -> None:
    async def test() -> None:
        async with serving(home, tcp=tcp) as asked:
            answers = await asking(home, do="count", to=3, later="unknown fields are passed on")
            assert answers == [{"ok": True, "n": n, "more": n < 2} for n in range(3)]
            assert asked.requests[0]["later"] == "unknown fields are passed on"

    run(test())


@each_way
def test_what_is_raised_there_is_raised_here(home: Path, tcp: bool) -> None:
    async def test() -> None:
        async with serving(home, tcp=tcp):
            with pytest.raises(UserError, match="that is not possible"):
                await asking(home, do="refuse")
            with pytest.raises(StoreError, match="disk is full"):
                await asking(home, do="fail")
            with pytest.raises(UserError, match=r"a fault in mlog.*ValueError: odd"):
                await asking(home, do="fault")

    run(test())


@unix
def test_one_connection_takes_many_requests_and_bad_lines(home: Path) -> None:
    async def test() -> None:
        async with serving(home):
            reader, writer = await connected(home)
            for line in (b"nonsense\n", b"[1]\n", b"\xff\n", b"{" * 10_000 + b"\n"):
                refused = await say(reader, writer, line)
                assert refused == {"ok": False, "error": "not a JSON object on one line", "exit_code": 1}
            assert (await say(reader, writer, b'{"do":"refuse"}\n'))["exit_code"] == 1
            assert await say(reader, writer, b'\n{"do":"anything"}\r\n') == {"ok": True}
            writer.write(b'{"do":"anything"}\n{"do":"anything"}\n')
            writer.write_eof()
            assert await reader.read() == b'{"ok": true}\n' * 2, "also after the asker has ended"
            await hang_up(writer)

    run(test())


@unix
def test_a_line_that_is_too_long_is_refused_and_ends_the_connection(home: Path) -> None:
    async def test() -> None:
        async with serving(home) as asked:
            reader, writer = await connected(home)
            writer.write(b'{"do":"' + b"x" * (limits.LOCAL_LINE_SIZE_MAX_BYTES + 10) + b'"}\n')
            assert "1,048,576 bytes" in json.loads(await reader.readline())["error"]
            # What was not read of it may reset the connection.
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            await hang_up(writer)
            assert not asked.requests

    run(test())


@unix
def test_following_ends_when_the_asker_is_gone(home: Path) -> None:
    async def test() -> None:
        async with serving(home) as asked:
            reader, writer = await connected(home)
            assert (await say(reader, writer, b'{"do":"follow"}\n'))["n"] == 0
            assert json.loads(await reader.readline())["n"] == 1
            await hang_up(writer)
            await asked.until_ended(1)

    run(test())


@unix
def test_an_asker_that_does_not_read_costs_bounded_memory(home: Path) -> None:
    async def test() -> None:
        async with serving(home) as asked:
            reader, writer = await connected(home)
            transport: Any = writer.transport
            transport.pause_reading()
            writer.write(b'{"do":"large"}\n')
            await asked.until(1)
            for _ in range(200):
                await asyncio.sleep(0)
            assert asked.ended == 0, "the answers wait until they are read"
            transport.resume_reading()
            for _ in range(1000):
                await reader.readline()
            await asked.until_ended(1)
            await hang_up(writer)

    run(test())


@unix
def test_programs_are_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCAL_CLIENTS_MAX", 2)

    async def test() -> None:
        async with serving(home):
            two = [await connected(home) for _ in range(2)]
            for reader, writer in two:
                await say(reader, writer, b'{"do":"anything"}\n')
            with pytest.raises(Busy, match="too many programs"):
                await asking(home, do="anything")
            for _, writer in two:
                await hang_up(writer)

    run(test())


@unix
def test_a_refusal_is_told_although_the_service_has_hung_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = socket.socketpair()
    far.sendall(b'{"ok":false,"error":"too many programs","exit_code":5}\n')
    far.close()
    monkeypatch.setattr(local_socket, "whereabouts", lambda _: Whereabouts(pid=1, listens=0, socket="x"))
    monkeypatch.setattr(local_socket, "_connected", lambda *_: near)
    with pytest.raises(Busy, match="too many programs"):
        list(ask(home, {"do": "anything"}, timeout_s=10))


# -- who may open it -------------------------------------------------------------------------


@unix
def test_only_the_user_can_open_the_socket_and_it_is_gone_afterwards(home: Path) -> None:
    async def test() -> None:
        async with serving(home):
            where = whereabouts(home)
            assert where is not None
            assert (where.pid, where.listens) == (os.getpid(), 4711)
            path = home / config.SOCKET_NAME
            assert where.socket == str(path)
            assert _mode(path) == _mode(home / config.SERVICE_NAME) == 0o600

    run(test())
    assert list(home.iterdir()) == []


def test_over_tcp_a_request_needs_the_token(home: Path) -> None:
    async def test() -> None:
        async with serving(home, tcp=True) as asked:
            where = whereabouts(home)
            assert where is not None
            for request in ({"do": "poke"}, {"do": "poke", "token": "0" * 32}, {"do": "poke", "token": 7}):
                reader, writer = await asyncio.open_connection("127.0.0.1", where.port)
                answer = await say(reader, writer, json.dumps(request).encode() + b"\n")
                assert not answer["ok"]
                assert await reader.read() == b""
                await hang_up(writer)
            assert not asked.requests

    run(test())


@unix
def test_a_home_whose_path_is_too_long_has_its_socket_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    long = tmp_path / ("long" * 30)
    long.mkdir()

    where: list[Whereabouts | None] = []

    async def test() -> None:
        async with serving(long):
            where.append(whereabouts(long))
            assert await asking(long, do="anything") == [{"ok": True}]

    run(test())
    assert where[0] is not None
    folder = Path(where[0].folder)
    assert folder.parent == runtime
    assert not folder.exists()
    # A service that is killed leaves everything behind; the next one removes it.
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(where[0].socket)
    (long / config.SERVICE_NAME).write_bytes(msgspec.json.encode(where[0]))
    run(test())
    assert list(runtime.iterdir()) == []


@unix
def test_a_copied_home_leaves_the_socket_of_the_other_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlog.adapters.local_socket._PATH_SIZE_MAX_BYTES", 1)
    first, copy = tmp_path / "first", tmp_path / "copy"
    first.mkdir()
    copy.mkdir()

    async def test() -> None:
        async with serving(first):
            pointer = json.loads((first / config.SERVICE_NAME).read_bytes())
            pointer["pid"] = 1
            (copy / config.SERVICE_NAME).write_text(json.dumps(pointer))
            async with serving(copy):
                assert await asking(first, do="anything") == [{"ok": True}]

    run(test())


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"pid":"x"}', b'{"socket":"s"}'])
def test_a_pointer_that_makes_no_sense_is_no_service(home: Path, content: bytes) -> None:
    (home / config.SERVICE_NAME).write_bytes(content)
    assert whereabouts(home) is None
    poke(home)


# -- one service -----------------------------------------------------------------------------


def test_a_second_service_is_told_who_serves_the_home(home: Path) -> None:
    script = (
        "import sys, pathlib; from mlog.adapters.local_socket import Claim\n"
        "with Claim(pathlib.Path(sys.argv[1])): print('claimed', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"claimed\n"
        (home / config.SERVICE_NAME).write_text(json.dumps({"pid": other.pid}))
        with pytest.raises(Busy, match=rf"runs on .* already \(process {other.pid}\)") as caught, Claim(home):
            pass
        assert caught.value.exit_code == 5
        other.communicate(b"", timeout=10)
    with Claim(home):
        pass


# -- poking ----------------------------------------------------------------------------------


@each_way
def test_a_poke_arrives(home: Path, tcp: bool) -> None:
    async def test() -> None:
        async with serving(home, tcp=tcp) as asked:
            await asyncio.to_thread(poke, home)
            await asked.until(1)
            assert asked.requests[0]["do"] == "poke"

    run(test())


def test_a_poke_where_nobody_listens_costs_nothing_and_never_fails(home: Path) -> None:
    def fastest() -> float:
        times: list[float] = []
        for _ in range(50):
            started = time.perf_counter()
            poke(home)
            times.append(time.perf_counter() - started)
        return min(times)

    assert fastest() < 0.001
    # The service was killed, and its socket stayed.
    with socket.socket(socket.AF_UNIX if os.name != "nt" else socket.AF_INET) as dead:
        if os.name != "nt":
            dead.bind(str(home / "dead"))
        (home / config.SERVICE_NAME).write_text(json.dumps({"pid": 1, "socket": str(home / "dead")}))
        assert fastest() < 0.001
    poke(home / "nowhere")


@unix
def test_a_poke_does_not_wait_for_a_service_that_hangs(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(home / "hung"))
        hung.listen(0)
        (home / config.SERVICE_NAME).write_text(json.dumps({"pid": 1, "socket": str(home / "hung")}))
        started = time.monotonic()
        for _ in range(3):
            poke(home)
        assert time.monotonic() - started < 3 * limits.POKE_TIMEOUT_MS / 1000 + 1


def test_asking_where_nobody_listens_says_what_to_do(home: Path) -> None:
    with pytest.raises(PeerUnavailable, match="mlog serve"):
        next(ask(home, {"do": "status"}, timeout_s=1))


def test_poking_imports_no_event_loop() -> None:
    check = (
        "import sys, pathlib; from mlog.adapters.local_socket import poke; poke(pathlib.Path('nowhere'))\n"
        "assert not {'asyncio', 'socket', 'websockets', 'tempfile'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
