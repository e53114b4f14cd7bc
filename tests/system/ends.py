"""Ends of a sync for tests: a process that has loaded mlog, and forks one that serves or syncs a home.

Run as a program it takes a line of JSON for each order and answers with one. What an end sent and what
was acknowledged to it goes to a file as it happens, and so outlives a kill.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Proxy", "Starter"]

_LOOPBACK = "127.0.0.1"
_CHUNK_BYTES = 8192
_WAIT_S = 40
_SYNC_S = 30


class Starter:
    """Starts and kills ends; use it in a `with` statement."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.ends"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def __enter__(self) -> Starter:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=_WAIT_S)

    def start(self, role: str, home: Path, record: Path) -> tuple[int, int]:
        """Process and port of an end: "serve" until it is killed, or "sync" for one round."""
        answer = self._order(do=role, home=str(home), record=str(record))
        assert answer["port"] or role == "sync", "it ended at once"
        return answer["pid"], answer["port"]

    def kill(self, pid: int) -> None:
        """End it as a power cut does; it is gone when this returns."""
        self._order(do="kill", pid=pid)

    def wait(self, pid: int) -> int:
        """Its exit code."""
        return self._order(do="wait", pid=pid)["code"]

    def _order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


class Proxy:
    """Carries one connection at a time, counts its bytes, and stops at an exact one."""

    def __init__(self) -> None:
        self._listener = socket.create_server((_LOOPBACK, 0))
        self._listener.settimeout(_WAIT_S)
        self.port: int = self._listener.getsockname()[1]
        self.carried = 0

    def close(self) -> None:
        self._listener.close()

    def carry(self, port: int, until: int, stopped: Callable[[], None]) -> bool:
        """Carry the next connection to a port; whether it came to byte `until`, where `stopped` is called."""
        self.carried = 0
        here, _ = self._listener.accept()
        with here, socket.create_connection((_LOOPBACK, port)) as there:
            ways = {here: there, there: here}
            while True:
                ready, _, _ = select.select(list(ways), [], [], _WAIT_S)
                assert ready, "nothing moves"
                for source in ready:
                    try:
                        data = source.recv(min(_CHUNK_BYTES, until - self.carried))
                        ways[source].sendall(data)
                    except ConnectionError:
                        return False
                    if not data:
                        return False
                    self.carried += len(data)
                    if self.carried >= until:
                        stopped()
                        return True


# -- the process that forks ------------------------------------------------------------------


def _forked(order: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(reader)
            _end(order, writer)
            code = 0
        except BaseException:  # noqa: BLE001 (shown with the test's output)
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        port = int(pipe.readline() or 0)
    return {"pid": pid, "port": port}


def _end(order: dict[str, Any], ready: int) -> None:
    from mlog.api.home import Home
    from mlog.api.service import sync_once

    _watch(Path(order["record"]))
    with Home(Path(order["home"])) as home:
        if order["do"] == "sync":
            os.write(ready, b"0\n")
            os.close(ready)
            report = sync_once(home, timeout_s=_SYNC_S, discovery=False)
            assert report.equal, report
        else:
            _serve(home, ready)


def _serve(home: Any, ready: int) -> None:
    import asyncio

    from mlog.api.service import Service

    async def serve() -> None:
        service = Service(home, phone=False, dials=False, notice=_tell)
        port = await service.runtime.peers.listen(_LOOPBACK, 0)
        os.write(ready, f"{port}\n".encode())
        os.close(ready)
        await service.run()

    asyncio.run(serve())


def _tell(notice: Any) -> None:
    if notice.what == "fault":
        sys.stderr.write(f"{notice.detail}\n")


def _watch(record: Path) -> None:
    """Note each bundle that is sent, and the ids of those that the other end says are durable."""
    from mlog.protocol.sending import Sender

    file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    bundles: dict[tuple[int, int], list[str]] = {}
    step, pack, acknowledged = Sender.step, Sender._pack, Sender.acknowledged

    def stepped(sender: Sender) -> bool:
        before = sender.entries_sent
        did = step(sender)
        if sender.entries_sent > before:
            os.write(file, f"sent {sender.entries_sent - before}\n".encode())
        return did

    def packed(sender: Sender, log: int, tag: bytes, rows: Any, *args: Any, **options: Any) -> None:
        pack(sender, log, tag, rows, *args, **options)
        bundles[id(sender), sender._serial] = [row.id.hex() for row in rows]

    def durable(sender: Sender, serial: int, refused: int) -> int | None:
        os.write(file, f"acknowledged {' '.join(bundles[id(sender), serial])}\n".encode())
        return acknowledged(sender, serial, refused)

    for name, patched in (("step", stepped), ("_pack", packed), ("acknowledged", durable)):
        setattr(Sender, name, patched)


def _main() -> None:
    # The forked ones start warm: all that they use is loaded here.
    import mlog.adapters.websocket as loaded_sockets
    import mlog.api.service as loaded_service

    assert loaded_sockets
    assert loaded_service
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        match order["do"]:
            case "kill":
                os.kill(order["pid"], signal.SIGKILL)
                os.waitpid(order["pid"], 0)
            case "wait":
                answer = {"code": os.waitstatus_to_exitcode(os.waitpid(order["pid"], 0)[1])}
            case _:
                answer = _forked(order)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
