"""Two network namespaces with a cable between them: it is cut, slow, loses packets; an address changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlog.api.home import Home
from tests.faults import scenario
from tests.system.wire import BadWire, carrying, open_tap

LINES = 1_500
DESK, LAPTOP = "10.77.0.1", "10.77.0.2"
TIMEOUT_S = 60


def ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


class Cable:
    """Two namespaces of this test run, and what may happen to the cable between them."""

    def __init__(self) -> None:
        self.names = {end: f"mlog-{os.getpid()}-{end}" for end in ("desk", "laptop")}
        self._stack = ExitStack()

    def __enter__(self) -> Cable:
        for name in self.names.values():
            made = ip("netns", "add", name, check=False)
            if made.returncode:
                self._stack.close()
                pytest.skip(f"NETWORK NAMESPACES ARE NOT TESTED HERE: {made.stderr.strip()}")
            self._stack.callback(ip, "netns", "del", name, check=False)
        desk, laptop = self.names.values()
        ip("-n", desk, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", laptop)
        self._plug()
        return self

    def _plug(self) -> None:
        for name, address in zip(self.names.values(), (DESK, LAPTOP), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "lan0")
            ip("-n", name, "link", "set", "lan0", "up")
            ip("-n", name, "link", "set", "lo", "up")

    def replace(self, *, loss: float, delay_s: float) -> BadWire:
        """Put a bad wire in place of the cable; skips where this machine has no TAP devices."""
        ip("-n", self.names["desk"], "link", "del", "lan0")
        taps: list[int] = []
        for end, name in self.names.items():
            device = f"tap{os.getpid() % 10**7}{end[0]}"
            try:
                taps.append(open_tap(device))
            except OSError as error:
                pytest.skip(f"PACKET LOSS IS NOT TESTED HERE: {error}")
            self._stack.callback(os.close, taps[-1])
            ip("link", "set", device, "netns", name)
            ip("-n", name, "link", "set", device, "name", "lan0")
        self._plug()
        wire = BadWire((taps[0], taps[1]), loss=loss, delay_s=delay_s)
        self._stack.enter_context(carrying(wire))
        return wire

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, end: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[end], *command]

    def shape(self, *words: str) -> None:
        """Queue what both ends send, as `tc` has it; skips where this kernel cannot."""
        for end in self.names:
            command = self.run(end, "tc", "qdisc", "replace", "dev", "lan0", "root", *words)
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"tc {words[0]} IS NOT TESTED HERE: {done.stderr.strip()}")

    def received(self) -> int:
        """Bytes that came to the laptop."""
        shown = ip("-n", self.names["laptop"], "-s", "-j", "link", "show", "lan0").stdout
        return json.loads(shown)[0]["stats64"]["rx"]["bytes"]

    def link(self, state: str) -> None:
        ip("-n", self.names["laptop"], "link", "set", "lan0", state)


class Pair:
    """A desk that serves, and a laptop, each in its namespace."""

    def __init__(self, folder: Path, cable: Cable, stack: ExitStack):
        self._folder, self._cable, self._stack = folder, cable, stack

    def home(self, end: str) -> Path:
        return self._folder / end

    def command(self, end: str, *args: str) -> list[str]:
        return self._cable.run(end, sys.executable, "-m", "mlog", "--home", str(self.home(end)), *args)

    def start(self, end: str, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(self.command(end, "--json", *args), stdout=subprocess.PIPE, text=True)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    def sync(self, *args: str) -> dict[str, Any]:
        """A round of the laptop; bounded, whatever the cable does."""
        command = self.command("laptop", "--json", "sync", *args)
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        return json.loads(done.stdout.splitlines()[0])

    def equal(self) -> bool:
        roots: list[list[bytes]] = []
        for end in ("desk", "laptop"):
            with Home(self.home(end)) as home:
                assert home.verify() == []
                roots.append(sorted(status.root for status in home.status()))
        return roots[0] == roots[1]


@pytest.fixture
def cable() -> Iterator[Cable]:
    if not sys.platform.startswith("linux") or os.geteuid() or not shutil.which("ip"):
        pytest.skip("NETWORK NAMESPACES ARE NOT TESTED HERE: they need Linux, root and 'ip'")
    with Cable() as made:
        yield made


def connected(folder: Path, cable: Cable, stack: ExitStack) -> Pair:
    """Two devices that trust each other; the desk has a chat."""
    made = Pair(folder, cable, stack)
    with Home(made.home("desk"), person="ann") as home:
        scenario.import_irc(home, scenario.irc_log(1, LINES))
    for end in ("desk", "laptop"):
        subprocess.run(made.command(end, "trust", "export", str(folder / f"{end}.trust")), check=True)
    for end, other in (("desk", "laptop"), ("laptop", "desk")):
        subprocess.run(made.command(end, "trust", "import", str(folder / f"{other}.trust")), check=True)
    return made


@pytest.fixture
def pair(cable: Cable, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield connected(tmp_path, cable, stack)


def serve(pair: Pair, *args: str) -> subprocess.Popen[str]:
    service = pair.start("desk", "serve", *args)
    assert service.stdout is not None
    assert json.loads(service.stdout.readline())["type"] == "serving"
    return service


def test_no_address_is_needed_in_one_network_also_after_it_changed(pair: Pair, cable: Cable) -> None:
    service = serve(pair)
    synced = pair.sync()
    assert (synced["complete"], synced["address"]) == (True, f"{DESK}:7367"), synced
    ip("-n", cable.names["desk"], "addr", "del", f"{DESK}/24", "dev", "lan0")
    ip("-n", cable.names["desk"], "addr", "add", "10.77.0.9/24", "dev", "lan0")
    service.kill()
    service.wait()
    serve(pair)
    synced = pair.sync()
    assert (synced["complete"], synced["address"]) == (True, "10.77.0.9:7367"), synced
    assert pair.equal()


def test_a_wire_that_loses_and_swaps_packets_only_takes_longer(pair: Pair, cable: Cable) -> None:
    wire = cable.replace(loss=0.03, delay_s=0.02)
    serve(pair, "--no-discovery")
    synced = pair.sync(f"{DESK}:7367")
    assert synced["complete"], synced
    assert wire.lost > 3
    assert pair.equal()


def test_a_slow_cable_only_takes_longer(pair: Pair, cable: Cable) -> None:
    serve(pair, "--no-discovery")
    cable.shape("tbf", "rate", "2mbit", "burst", "16kb", "latency", "200ms")
    synced = pair.sync(f"{DESK}:7367")
    assert synced["complete"], synced
    assert pair.equal()


def test_a_cable_that_is_cut_amid_a_transfer_ends_it_or_only_delays_it(pair: Pair, cable: Cable) -> None:
    serve(pair, "--no-discovery")
    cable.shape("tbf", "rate", "1mbit", "burst", "16kb", "latency", "200ms")
    round_ = pair.start("laptop", "sync", f"{DESK}:7367", "--timeout", "20")
    while round_.poll() is None and cable.received() < 60_000:
        pass
    assert round_.poll() is None, "it was over before the cable was cut"
    cable.link("down")
    # What has come is whole.
    with Home(pair.home("laptop")) as home:
        assert home.verify() == []
    cable.link("up")
    assert round_.wait(TIMEOUT_S) in (0, 3)
    assert pair.sync(f"{DESK}:7367")["complete"]
    assert pair.equal()


def test_an_unplugged_cable_is_told_in_time(pair: Pair, cable: Cable) -> None:
    serve(pair, "--no-discovery")
    assert pair.sync(f"{DESK}:7367")["complete"]
    cable.link("down")
    unplugged = pair.sync("--timeout", "5", "--no-discovery")
    assert not unplugged["complete"]
    assert not unplugged["reached"]


def test_a_stalled_peer_holds_nobody_up_for_ever(pair: Pair) -> None:
    service = serve(pair, "--no-discovery")
    service.send_signal(signal.SIGSTOP)
    try:
        command = pair.command("laptop", "sync", f"{DESK}:7367", "--timeout", "3")
        assert subprocess.run(command, timeout=TIMEOUT_S, check=False).returncode == 3
    finally:
        service.send_signal(signal.SIGCONT)
    assert pair.sync(f"{DESK}:7367")["complete"]
    assert pair.equal()
