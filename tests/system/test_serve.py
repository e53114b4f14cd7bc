"""Real services: they start, sync, are killed, and end when they are told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import mlog
from mlog.adapters.local_socket import ask, is_served

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ends services with signals")


class Services:
    """Starts `mlog` in homes below a folder."""

    def __init__(self, folder: Path, stack: ExitStack):
        self._folder = folder
        self._stack = stack

    def home(self, name: str) -> Path:
        return self._folder / name

    def run(self, name: str, *args: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._line(name, *args), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    def serve(self, name: str) -> tuple[subprocess.Popen[str], int]:
        """A service that is ready, and its port."""
        line = self._line(name, "--json", "serve", "--host", "127.0.0.1", "--port", "0", "--no-discovery")
        process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        facts: dict[str, Any] = json.loads(process.stdout.readline())
        assert facts["type"] == "serving"
        return process, facts["port"]

    def _line(self, name: str, *args: str | Path) -> list[str]:
        return [sys.executable, "-m", "mlog", "--home", str(self.home(name)), *map(str, args)]

    def befriend(self) -> None:
        """The desk, which is older, and the laptop trust each other."""
        for name in ("desk", "laptop"):
            self.run(name, "new", f"Of the {name}")
        for name, other in (("desk", "laptop"), ("laptop", "desk")):
            file = self._folder / f"{name}.trust"
            self.run(name, "trust", "export", file)
            self.run(other, "trust", "import", file)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(tmp_path, stack)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_ends_cleanly_when_it_is_told_to(services: Services, number: signal.Signals) -> None:
    process, _ = services.serve("desk")
    assert is_served(services.home("desk"))
    process.send_signal(number)
    assert process.wait(15) == 0
    assert not is_served(services.home("desk"))
    assert not (services.home("desk") / "service.json").exists()


def test_two_homes_sync_and_a_kill_loses_nothing_that_was_acknowledged(services: Services) -> None:
    services.befriend()
    process, port = services.serve("desk")
    second = services.run("desk", "serve", check=False)
    assert second.returncode == 5
    assert f"process {process.pid}" in second.stderr
    services.run("laptop", "sync", f"127.0.0.1:{port}")
    sent = services.run("laptop", "send", "Of the desk", "hello desk").stdout.strip()
    services.run("laptop", "sync", f"127.0.0.1:{port}")
    process.kill()
    process.wait(15)
    # What the killed service left behind is in nobody's way.
    with mlog.open(services.home("desk")) as desk:
        conversation = desk.conversation("Of the desk")
        assert [message.text for message in desk.messages(conversation.n)] == ["hello desk"]
        assert desk.message(sent).text == "hello desk"
        assert desk.verify() == []
    unreached = services.run("laptop", "sync", "--no-discovery", check=False)
    assert unreached.returncode == 3
    assert "mlog does not run there" in unreached.stdout
    services.serve("desk")
    (status,) = ask(services.home("desk"), {"do": "status"}, timeout_s=10)
    assert [device["connected"] for device in status["devices"]] == [False]


def test_a_device_that_is_connected_already_is_synced_at_its_address(services: Services) -> None:
    services.befriend()
    _, port = services.serve("desk")
    services.run("laptop", "sync", f"127.0.0.1:{port}")
    services.serve("laptop")
    for n in range(3):
        services.run("laptop", "send", "Of the desk", f"{n}")
        services.run("laptop", "sync", f"127.0.0.1:{port}")
        with mlog.open(services.home("desk")) as desk:
            assert len(list(desk.messages(desk.conversation("Of the desk").n))) == n + 1
