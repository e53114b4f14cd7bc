"""Facts about the network: knocking on loopback, and what systems print."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from mlog import limits
from mlog.adapters import network_facts
from mlog.adapters.interfaces import Interface
from mlog.adapters.network_facts import (
    Multicast,
    Outcome,
    firewalls_of,
    gateway_in,
    gather,
    neighbours_in,
    probe,
)
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow


@pytest.fixture
def listening() -> object:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# -- knocking --------------------------------------------------------------------------------


def test_who_listens_answers(listening: int) -> None:
    found = probe(f"127.0.0.1:{listening}")
    assert (found.outcome, found.host) == (Outcome.ANSWERS, "127.0.0.1")


def test_where_nobody_listens_the_knock_is_refused() -> None:
    assert probe(f"127.0.0.1:{free_port()}").outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TimeoutError(), Outcome.SILENT),
        (OSError(101, "Network is unreachable"), Outcome.NO_WAY),
        (OSError(1, "Operation not permitted"), Outcome.NO_WAY),
        (OSError(113, "No route to host"), Outcome.SILENT),
        (ConnectionResetError(104, "reset"), Outcome.REFUSED),
    ],
)
def test_what_a_failed_knock_means(error: OSError, outcome: Outcome) -> None:
    def connect(*_: object, **__: object) -> socket.socket:
        raise error

    assert probe("127.0.0.1:7367", connect).outcome is outcome


@pytest.mark.parametrize("address", ["", "a b", "127.0.0.1:99999", "\0:1", "x" * 300 + ":1"])
def test_what_is_no_address_has_no_name(address: str) -> None:
    assert probe(address).outcome is Outcome.NO_NAME


def test_a_look_ends_in_time_whatever_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hang = threading.Event()
    monkeypatch.setattr(network_facts, "probe", lambda address: hang.wait(60))
    monkeypatch.setattr(network_facts, "firewalls_of", lambda port: hang.wait(60))
    monkeypatch.setattr(network_facts, "_asked", lambda interfaces: hang.wait(60))
    monkeypatch.setattr(limits, "NETWORK_PROBE_MS", 50)
    began_s = time.monotonic()
    facts = gather(tmp_path, [row("desk", "192.0.2.9:7367")], {})
    hang.set()
    assert time.monotonic() - began_s < 5
    assert [found.outcome for found in facts.peers[0].probes] == [Outcome.SILENT]
    assert facts.multicast == Multicast()


def row(name: str, *addresses: str, seen_ms: int = 0) -> PeerRow:
    return PeerRow(
        device=DeviceId(name.encode().ljust(32)),
        name=name,
        noise=b"",
        hpke=b"",
        own=True,
        addresses=addresses,
        seen_ms=seen_ms,
    )


def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_facts.networks, "present", lambda: [Interface("lo", 1, "127.0.0.1", 8)])
    monkeypatch.setattr(network_facts, "_asked", lambda interfaces: Multicast())


def test_facts_of_known_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listening: int) -> None:
    only_loopback(monkeypatch)
    here, nowhere = f"127.0.0.1:{listening}", f"127.0.0.1:{free_port()}"
    facts = gather(tmp_path, [row("desk", nowhere, here), row("phone")], {"desk": 5})
    desk, phone = facts.peers
    assert [(found.address, found.outcome) for found in desk.probes] == [
        (nowhere, Outcome.REFUSED),
        (here, Outcome.ANSWERS),
    ]
    assert desk.probes[1].interface == "lo"
    assert phone.probes == ()
    assert not facts.served
    assert facts.ahead_ms == {"desk": 5}


def test_of_too_many_addresses_those_of_the_devices_met_last_are_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only_loopback(monkeypatch)
    port = free_port()
    peers = [row(str(n), f"127.0.0.{n}:{port}", seen_ms=n) for n in range(1, limits.NETWORK_PROBES_MAX + 9)]
    facts = gather(tmp_path, peers, {})
    assert [bool(each.probes) for each in facts.peers] == [n > 8 for n in range(1, len(peers) + 1)]


def test_a_port_that_another_program_has_is_taken(listening: int) -> None:
    with socket.create_server(("", 0)) as server:
        assert network_facts._is_taken(server.getsockname()[1])
    assert not network_facts._is_taken(free_port())


# -- what systems print ----------------------------------------------------------------------

_IP_NEIGH = (
    '[{"dst":"192.0.2.1","dev":"eth0","lladdr":"02:fc:00:00:00:05","state":["REACHABLE"]},'
    '{"dst":"192.0.2.9","dev":"eth0","state":["FAILED"]},'
    '{"dst":"fe80::1","dev":"eth0","lladdr":"02:fc:00:00:00:05","router":null,"state":["STALE"]}]'
)
_PROC_ARP = (
    "IP address       HW type     Flags       HW address            Mask     Device\n"
    "192.0.2.1        0x1         0x2         02:fc:00:00:00:05     *        eth0\n"
    "192.0.2.9        0x1         0x0         00:00:00:00:00:00     *        eth0\n"
)
_MACOS_ARP = (
    "? (192.0.2.1) at 2:fc:0:0:0:5 on en0 ifscope [ethernet]\n"
    "? (192.0.2.9) at (incomplete) on en0 ifscope [ethernet]\n"
)
_PROC_ROUTE = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
    "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
)


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (
            _IP_NEIGH,
            {"192.0.2.1": True, "192.0.2.9": False, "fe80::1": None},
        ),
        (
            _PROC_ARP,
            {"192.0.2.1": None, "192.0.2.9": False},
        ),
        (
            _MACOS_ARP,
            {"192.0.2.1": None, "192.0.2.9": False},
        ),
        ("  192.0.2.1             02-fc-00-00-00-05     dynamic\n", {"192.0.2.1": None}),
        ("", {}),
        ("[{", {}),
        ("[1]", {}),
    ],
    ids=["ip -j neigh", "/proc/net/arp", "macOS", "Windows", "nothing", "cut", "another form"],
)
def test_tables_of_neighbours(table: str, found: dict[str, bool | None]) -> None:
    assert neighbours_in(table) == found


@pytest.mark.parametrize(
    ("table", "gateway"),
    [
        (
            _PROC_ROUTE,
            "192.0.2.1",
        ),
        ("   route to: default\n    gateway: 192.0.2.1\n  interface: en0\n", "192.0.2.1"),
        ("Iface\nbroken line\n\n", ""),
        ("", ""),
    ],
    ids=["/proc/net/route", "macOS", "broken", "nothing"],
)
def test_tables_of_routes(table: str, gateway: str) -> None:
    assert gateway_in(table) == gateway


def silent(*_: str) -> str:
    return ""


def test_a_machine_without_a_firewall(tmp_path: Path) -> None:
    assert firewalls_of(7367, tmp_path, silent, "linux") == []


@pytest.mark.parametrize(
    ("rules", "allows"),
    [
        ("-A ufw-user-input -p tcp --dport 7367 -j ACCEPT\n", True),
        ("-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n", False),
        (None, None),
    ],
)
def test_ufw_is_read_from_its_files(tmp_path: Path, rules: str | None, allows: bool | None) -> None:
    folder = tmp_path / "etc" / "ufw"
    folder.mkdir(parents=True)
    (folder / "ufw.conf").write_text("# on\nENABLED=yes\n")
    if rules is not None:
        (folder / "user.rules").write_text(rules)
    [found] = firewalls_of(7367, tmp_path, silent, "linux")
    assert (found.name, found.allows) == ("ufw", allows)
    assert "ufw allow 7367/tcp" in found.advice
    (folder / "ufw.conf").write_text("ENABLED=no\n")
    assert firewalls_of(7367, tmp_path, silent, "linux") == []


@pytest.mark.parametrize(("said", "allows"), [("yes\n", True), ("no\n", False), ("", None)])
def test_firewalld_is_asked(tmp_path: Path, said: str, allows: bool | None) -> None:
    def output(*command: str) -> str:
        return {"--state": "running\n", "--query-port=7367/tcp": said}.get(command[1], "")

    [found] = firewalls_of(7367, tmp_path, output, "linux")
    assert (found.name, found.allows) == ("firewalld", allows)


@pytest.mark.parametrize(
    ("rule", "allows"), [("tcp dport { 22, 7367 } accept", True), ("tcp dport 22 accept", False)]
)
def test_nftables_is_read_from_its_file(tmp_path: Path, rule: str, allows: bool) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nftables.conf").write_text(
        f"table inet filter {{\n chain input {{\n  type filter hook input priority 0; policy drop;\n"
        f"  {rule}\n }}\n}}\n"
    )
    [found] = firewalls_of(7367, tmp_path, silent, "linux")
    assert (found.name, found.allows) == ("nftables", allows)


@pytest.mark.parametrize(
    ("platform", "said", "name"),
    [
        ("darwin", "Firewall is enabled. (State = 1)", "the firewall of macOS"),
        ("win32", "    EnableFirewall    REG_DWORD    0x1\r\n", "Windows Firewall"),
    ],
)
def test_firewalls_of_other_systems(tmp_path: Path, platform: str, said: str, name: str) -> None:
    [found] = firewalls_of(7367, tmp_path, lambda *_: said, platform)
    assert (found.name, found.allows) == (name, None)
    off = said.replace("enabled", "disabled").replace("0x1", "0x0")
    assert firewalls_of(7367, tmp_path, lambda *_: off, platform) == []
