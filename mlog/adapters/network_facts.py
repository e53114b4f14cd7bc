"""What the doctor wants to know of the network; looked up here, judged in mlog/api/network_checks.py.

Each device is knocked at once, at the addresses that are known of it; one question goes out by
multicast; all else is read from this machine. Everything runs side by side and ends with
NETWORK_PROBE_MS, whatever the network does. What a system does not show stays unknown.
"""

from __future__ import annotations

import errno
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec

from mlog import config, limits
from mlog.adapters import interfaces as networks
from mlog.adapters import local_socket
from mlog.adapters.interfaces import Interface, InterfaceKind
from mlog.adapters.websocket import split_address
from mlog.errors import InvalidInput, MlogError
from mlog.log.peers import PeerRow

__all__ = [
    "Firewall",
    "Multicast",
    "NetworkFacts",
    "Outcome",
    "PeerFacts",
    "Probe",
    "firewalls_of",
    "gateway_in",
    "gather",
    "neighbours_in",
    "probe",
]

_ANSWER_S: Final = 1.0
_MDNS: Final = ("224.0.0.251", 5353)
_QUESTION: Final = (
    struct.pack(">6H", 0, 0, 2, 0, 0, 0)
    + b"\x09_services\x07_dns-sd\x04_udp\x05local\0"
    + struct.pack(">HH", 12, 1)
    + b"\x05_mlog\x04_tcp\x05local\0"
    + struct.pack(">HH", 12, 1)
)
"""Which services are there, and who has this one: asked from a port of its own, so answered to it alone."""

_OUTSIDE: Final = "203.0.113.1"
"""An address that nobody has, to ask the system which way leads out. Nothing is sent there."""


class Outcome(StrEnum):
    """What became of a knock."""

    ANSWERS = "answers"
    REFUSED = "refused"
    SILENT = "silent"
    NO_WAY = "no way"
    NO_NAME = "no name"
    NOT_TRIED = "not tried"


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A knock at one address.

    Attributes:
        address: HOST:PORT as it is known of the device.
        host: The numeric address, or "".
        interface: The name of the one that leads there, or "".
        neighbour: Whether the machine there answered in its own network; None where that is not shown.
    """

    address: str
    outcome: Outcome
    host: str = ""
    interface: str = ""
    neighbour: bool | None = None


class PeerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A known device, and what became of knocking at it."""

    name: str
    seen_ms: int = 0
    connected: bool = False
    probes: tuple[Probe, ...] = ()


class Firewall(msgspec.Struct, frozen=True, kw_only=True):
    """A firewall that is switched on here.

    Attributes:
        allows: Whether it lets others connect to the port; None where that is not shown.
        advice: How to let them.
    """

    name: str
    allows: bool | None
    advice: str


class Multicast(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a question by multicast.

    Attributes:
        refused: Why the system did not send it, or "".
        answered: Who answered.
    """

    refused: str = ""
    answered: tuple[str, ...] = ()


class NetworkFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is judged.

    Attributes:
        outward: The interface that leads to other networks, or "".
        gateway: The address of the router, or "".
        gateway_answers: Whether it answered lately; None where that is not shown.
        served: A service runs on these logs.
        port: Where it listens, or would; 0 if it runs and only connects to others.
        port_taken: Another program listens there.
        own: Knocks at this machine's own addresses, loopback first, where a service listens.
        neighbours: Machines in the same networks that answered lately, the router left out.
        ahead_ms: By how much clocks of other devices that signed something are ahead of this one's, by name.
    """

    interfaces: tuple[Interface, ...] = ()
    outward: str = ""
    gateway: str = ""
    gateway_answers: bool | None = None
    served: bool = False
    port: int = config.DEFAULT_PORT
    port_taken: bool = False
    own: tuple[Probe, ...] = ()
    firewalls: tuple[Firewall, ...] = ()
    peers: tuple[PeerFacts, ...] = ()
    neighbours: tuple[str, ...] = ()
    multicast: Multicast = Multicast()
    ahead_ms: Mapping[str, int] = {}


def gather(home: Path, peers: Sequence[PeerRow], ahead_ms: Mapping[str, int]) -> NetworkFacts:
    """Look at the network of this machine, in at most about two seconds.

    Args:
        home: Whose service is asked which devices are connected.
        peers: The known devices.
        ahead_ms: As in `NetworkFacts`; what the store knows.
    """
    interfaces = tuple(networks.present())
    status = _status(home)
    port = int(status.get("listens", config.DEFAULT_PORT))
    connected = {str(each.get("device")) for each in status.get("devices", ()) if each.get("connected")}
    tried = sorted(peers, key=lambda row: -row.seen_ms)
    addresses = dict.fromkeys(address for row in tried for address in row.addresses)
    own = [_joined(each, port) for each in ("127.0.0.1", *networks.announceable(interfaces))]
    knocked = list(addresses)[: limits.NETWORK_PROBES_MAX] + (own if status and port else [])
    jobs: list[Callable[[], Any]] = [
        lambda: _asked(interfaces),
        lambda: firewalls_of(port) if port else [],
        *(lambda address=address: probe(address) for address in knocked),
    ]
    results = _side_by_side(jobs)
    shown, gateway = _neighbour_table(), _gateway()
    multicast: Multicast = results[0] or Multicast()
    probes = {
        address: _placed(found or Probe(address=address, outcome=Outcome.SILENT), interfaces, shown)
        for address, found in zip(knocked, results[2:], strict=True)
    }
    lately = {address for address, state in shown.items() if state is not False}
    mine = {each.address for each in interfaces}
    return NetworkFacts(
        interfaces=interfaces,
        outward=_way_to(_OUTSIDE, interfaces),
        gateway=gateway,
        gateway_answers=gateway in lately if gateway in shown else None,
        served=bool(status),
        port=port,
        port_taken=not status and _is_taken(port),
        own=tuple(probes[address] for address in own if address in probes),
        firewalls=tuple(results[1] or ()),
        peers=tuple(
            PeerFacts(
                name=row.name,
                seen_ms=row.seen_ms,
                connected=row.device.hex() in connected,
                probes=tuple(probes[address] for address in row.addresses if address in probes),
            )
            for row in peers
        ),
        neighbours=tuple(sorted((lately | set(multicast.answered)) - mine - {gateway})),
        multicast=multicast,
        ahead_ms=dict(ahead_ms),
    )


def _side_by_side(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results in order; None of those that do not end in time, which nobody waits for."""
    results: list[Any] = [None] * len(jobs)

    def work(at: int) -> None:
        # What cannot be looked up is unknown, and no reason to tell nothing else.
        with suppress(OSError, ValueError, subprocess.SubprocessError):
            results[at] = jobs[at]()

    threads = [threading.Thread(target=work, args=(at,), daemon=True) for at in range(len(jobs))]
    deadline_s = time.monotonic() + limits.NETWORK_PROBE_MS / 1000
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    return list(results)


def _status(home: Path) -> dict[str, Any]:
    """What the service of this home says of itself; empty if none runs."""
    if local_socket.whereabouts(home) is None:
        return {}
    with suppress(MlogError):
        for answer in local_socket.ask(home, {"do": "status"}, timeout_s=_ANSWER_S):
            return answer
    return {}


# -- knocking --------------------------------------------------------------------------------


def probe(address: str, connect: Callable[..., socket.socket] = socket.create_connection) -> Probe:
    """Connect to an address, and hang up at once.

    Args:
        address: HOST:PORT.
        connect: As `socket.create_connection`.
    """
    host = ""
    outcome = Outcome.SILENT
    try:
        name, port = split_address(address, config.DEFAULT_PORT)
        host = str(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0][4][0])
        with connect((host, port), timeout=_ANSWER_S):
            outcome = Outcome.ANSWERS
    except (InvalidInput, socket.gaierror, UnicodeError):
        outcome = Outcome.NO_NAME
    except TimeoutError:
        pass
    except OSError as error:
        if error.errno in {errno.ECONNREFUSED, errno.ECONNRESET}:
            outcome = Outcome.REFUSED
        # Linux says "no route" of a neighbour that does not answer, and of what a firewall forbids.
        elif error.errno in {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EPERM, errno.EACCES}:
            outcome = Outcome.NO_WAY
    return Probe(address=address, outcome=outcome, host=host)


def _placed(found: Probe, interfaces: Sequence[Interface], shown: Mapping[str, bool | None]) -> Probe:
    """With where it is seen from here."""
    if not found.host:
        return found
    return msgspec.structs.replace(
        found, interface=_way_to(found.host, interfaces), neighbour=shown.get(found.host)
    )


def _way_to(host: str, interfaces: Sequence[Interface]) -> str:
    """The interface that the system would send through; nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((host, 9))
            own = str(sock.getsockname()[0]).partition("%")[0]
    except OSError:
        return ""
    return next((each.name for each in interfaces if each.address == own), "")


def _is_taken(port: int) -> bool:
    try:
        # As the service does it.
        with socket.create_server(("", port)):
            return False
    except OSError as error:
        return error.errno == errno.EADDRINUSE


def _asked(interfaces: Sequence[Interface]) -> Multicast:
    """Ask all networks at once who is there, and collect who answers within a second."""
    at = [
        each.address
        for each in interfaces
        if each.kind is InterfaceKind.LAN and ip_address(each.address).version == 4
    ]
    refused = ""
    answered: set[str] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        for address in at:
            try:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
                sock.sendto(_QUESTION, _MDNS)
            except OSError as error:
                refused = error.strerror or str(error)
        deadline_s = time.monotonic() + _ANSWER_S
        while at and len(answered) < limits.NETWORK_NEIGHBOURS_MAX:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            sock.settimeout(left_s)
            with suppress(OSError):
                answered.add(str(sock.recvfrom(limits.MULTICAST_PACKET_MAX_BYTES)[1][0]))
    return Multicast(refused=refused, answered=tuple(sorted(answered - set(at))))


# -- what the system shows -------------------------------------------------------------------


def _neighbour_table() -> dict[str, bool | None]:
    if sys.platform == "linux":
        if shutil.which("ip"):
            return neighbours_in(_output("ip", "-j", "neigh"))
        return neighbours_in(_text(Path("/proc/net/arp")))
    return neighbours_in(_output("arp", "-a"))


def neighbours_in(table: str) -> dict[str, bool | None]:
    """Machines in the same networks: True for those that answered just now, False for those that did not.

    Args:
        table: As `ip -j neigh`, `arp -a`, or the file /proc/net/arp has it.
    """
    found: dict[str, bool | None] = {}
    if table.lstrip().startswith("["):
        with suppress(msgspec.MsgspecError):
            for each in msgspec.json.decode(table.encode(), type=list[_Neighbour]):
                states = set(each.state)
                found[each.dst] = (
                    False if states & {"FAILED", "INCOMPLETE"} else True if "REACHABLE" in states else None
                )
    else:
        for line in table.splitlines():
            address = re.search(r"(?<![\d.])(\d{1,3}(?:\.\d{1,3}){3})(?![\d.])", line)
            if address is not None:
                hardware = re.search(r"(?i)\b[0-9a-f]{1,2}(?:[:-][0-9a-f]{1,2}){5}\b", line)
                nobody = hardware is None or set(hardware[0]) <= set("0:-") or " 0x0 " in line
                found[address[1]] = False if nobody else None
    return dict(list(found.items())[: limits.NETWORK_NEIGHBOURS_MAX])


class _Neighbour(msgspec.Struct):
    dst: str
    state: list[str] = []


def _gateway() -> str:
    if sys.platform == "linux":
        return gateway_in(_text(Path("/proc/net/route")))
    if sys.platform == "darwin":
        return gateway_in(_output("route", "-n", "get", "default"))
    return ""


def gateway_in(table: str) -> str:
    """The router's IPv4 address, or "".

    Args:
        table: As the file /proc/net/route, or `route -n get default` on macOS has it.
    """
    named = re.search(r"gateway: (\d{1,3}(?:\.\d{1,3}){3})\s", table + "\n")
    if named is not None:
        return named[1]
    best: tuple[int, str] | None = None
    for line in table.splitlines()[1:]:
        fields = line.split()
        with suppress(ValueError, IndexError, struct.error):
            destination, gateway, metric = int(fields[1], 16), int(fields[2], 16), int(fields[6])
            if destination == 0 and gateway and int(fields[7], 16) == 0:
                found = metric, str(ip_address(struct.pack("=I", gateway)))
                best = min(best, found) if best is not None else found
    return best[1] if best is not None else ""


def firewalls_of(
    port: int,
    root: Path = Path("/"),
    output: Callable[..., str] | None = None,
    platform: str = sys.platform,
) -> list[Firewall]:
    """Firewalls that are switched on, as far as every user may see that.

    Args:
        port: Others should be able to connect to it.
        root: Where configuration is looked for.
        output: What a command prints.
        platform: As `sys.platform`.
    """
    output = output or _output
    found: list[Firewall] = []
    if platform == "darwin":
        shown = output("/usr/libexec/ApplicationFirewall/socketfilterfw", "--getglobalstate")
        if "enabled" in shown:
            advice = "System Settings > Network > Firewall > Options: allow incoming connections for Python."
            found.append(Firewall(name="the firewall of macOS", allows=None, advice=advice))
    elif platform == "win32":
        if re.search(r"0x1\b", output("reg", "query", _WINDOWS_FIREWALL, "/v", "EnableFirewall")):
            advice = "Windows Security > Firewall > Allow an app: tick Python for private networks."
            found.append(Firewall(name="Windows Firewall", allows=None, advice=advice))
    else:
        if re.search(r"(?m)^ENABLED=yes", _text(root / "etc/ufw/ufw.conf")):
            rules = root / "etc/ufw/user.rules"
            allows = f"--dport {port} " in _text(rules) if _text(rules) else None
            found.append(Firewall(name="ufw", allows=allows, advice=f"sudo ufw allow {port}/tcp"))
        if "running" in output("firewall-cmd", "--state"):
            said = output("firewall-cmd", f"--query-port={port}/tcp").strip()
            allows = {"yes": True, "no": False}.get(said)
            advice = f"sudo firewall-cmd --permanent --add-port={port}/tcp && sudo firewall-cmd --reload"
            found.append(Firewall(name="firewalld", allows=allows, advice=advice))
        rules = _text(root / "etc/nftables.conf")
        if re.search(r"hook input[^}]*policy drop", rules):
            advice = f"Add 'tcp dport {port} accept' to the input chain in /etc/nftables.conf."
            allows = re.search(rf"dport[^\n]*\b{port}\b[^\n]*accept", rules) is not None
            found.append(Firewall(name="nftables", allows=allows, advice=advice))
    return found


_WINDOWS_FIREWALL: Final = (
    r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\StandardProfile"
)


def _output(*command: str) -> str:
    """What a command prints; "" if it is not there, is not allowed, or takes too long."""
    path = shutil.which(command[0])
    if path is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 (commands of the system, with arguments made here)
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
