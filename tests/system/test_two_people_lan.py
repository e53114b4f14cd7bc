"""The story of two people, each device in a network namespace of its own: they meet by multicast alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlog.api.home import Home
from tests.system.capture import payloads
from tests.system.test_namespaces import ip
from tests.system.test_traffic import WINDOW, named, windows
from tests.system.test_two_people import Stage, story

DEVICES = ("ann", "ben", "ann-phone", "ann-tablet", "ben-phone", "restored")
_LABEL = b"\x05_mlog"
"""In every packet of discovery."""


class Lan(Stage):
    """Each device in a namespace and at an address of its own, joined by a bridge; nobody is told where."""

    offers = ()
    joins = ()
    carried = "code"

    def __init__(self, folder: Path, stack: ExitStack):
        super().__init__(folder, stack)
        self.bridge = f"mlog-{os.getpid()}-bridge"
        self._add(self.bridge)
        ip("-n", self.bridge, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        ip("-n", self.bridge, "link", "set", "br0", "up")
        for number, name in enumerate(DEVICES, 1):
            space, port = self._space(name), f"port{number}"
            self._add(space)
            cable = ("link", "add", "lan0", "type", "veth", "peer", "name", port, "netns", self.bridge)
            ip("-n", space, *cable)
            ip("-n", self.bridge, "link", "set", port, "master", "br0")
            ip("-n", self.bridge, "link", "set", port, "up")
            ip("-n", space, "addr", "add", f"10.78.0.{number}/24", "dev", "lan0")
            for device in ("lo", "lan0"):
                ip("-n", space, "link", "set", device, "up")

    def _add(self, space: str) -> None:
        made = ip("netns", "add", space, check=False)
        if made.returncode:
            pytest.skip(f"NETWORK NAMESPACES ARE NOT TESTED HERE: {made.stderr.strip()}")
        self._stack.callback(ip, "netns", "del", space, check=False)

    @staticmethod
    def _space(name: str) -> str:
        return f"mlog-{os.getpid()}-{name}"

    def within(self, name: str) -> Sequence[str]:
        return ("ip", "netns", "exec", self._space(name))

    def _line(self, name: str, *args: str | Path) -> list[str]:
        return [*self.within(name), *super()._line(name, *args)]

    def begin(self, name: str) -> None:
        line = self._line(name, "--json", "serve")
        process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        facts: dict[str, Any] = json.loads(process.stdout.readline())
        assert facts["type"] == "serving"
        self.served[name] = process

    def target(self, name: str) -> str:
        with Home(self.home(name)) as home:
            return home.replica.device_id.hex()


def test_five_devices_of_two_people_find_each_other_and_nobody_else_learns_who_they_are(
    tmp_path: Path,
) -> None:
    if not sys.platform.startswith("linux") or os.geteuid() or not shutil.which("ip"):
        pytest.skip("NETWORK NAMESPACES ARE NOT TESTED HERE: they need Linux, root and 'ip'")
    captured = tmp_path / "captured"
    with ExitStack() as stack:
        lan = Lan(tmp_path, stack)
        listener = [sys.executable, "-m", "tests.system.capture", "br0", str(captured)]
        command = ["ip", "netns", "exec", lan.bridge, *listener]
        capturing = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(capturing.kill)
        assert capturing.stdout is not None
        assert capturing.stdout.readline()
        story(lan, tmp_path)
    said = [each for each in payloads(captured) if _LABEL in each.lower()]
    assert len(said) > len(DEVICES)
    known: set[bytes] = set()
    for name in DEVICES:
        with Home(tmp_path / name) as home:
            known |= named(home)
    assert len(known) > 50
    assert not known & windows(b"\0\0".join(said))
    # Shorter names stand in random bytes by chance now and then.
    names = [name.encode() for name in (*DEVICES, "ann-desk", "ben-desk") if len(name) >= WINDOW]
    assert not any(name in each.lower() for name in names for each in said)
