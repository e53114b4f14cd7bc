"""Which networks this machine is in: its interfaces with their addresses, as the system lists them.

Reading them sends nothing. What an interface is for is told by its flags where the system shows
them, and by its name, because a tunnel and a network of virtual machines lead to no neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, NamedTuple

from mlog import limits

__all__ = ["Interface", "InterfaceKind", "announceable", "kind_of", "loopback", "present"]

_FLAGS: Final = Path("/sys/class/net")
_IPV6: Final = Path("/proc/net/if_inet6")
_NOT_USABLE: Final = 0x40 | 0x20 | 0x08
"""Of an IPv6 address: not yet checked for others that have it, about to go, somebody else's."""

_UP: Final = 0x1
_LOOPBACK: Final = 0x8
_POINT_TO_POINT: Final = 0x10

_TUNNELS: Final = (
    "tun", "tap", "wg", "ppp", "utun", "ipsec", "tailscale", "zt", "nordlynx", "proton", "wireguard",
    "openvpn",
)  # fmt: skip
_VIRTUAL: Final = (
    "docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "lxc", "lxd", "podman", "cni", "bridge1", "awdl",
    "llw", "anpi", "vethernet", "vmware", "virtualbox",
)  # fmt: skip


class InterfaceKind(StrEnum):
    """What is at the other side of an interface."""

    LAN = "a network"
    LOOPBACK = "this machine"
    TUNNEL = "a VPN"
    VIRTUAL = "virtual machines"


class Interface(NamedTuple):
    """One address of one interface.

    Attributes:
        name: As the system calls it.
        number: Of the interface in the system, or 0.
        address: IPv4 or IPv6, without a scope.
        prefix: Bits of the address that the network has.
    """

    name: str
    number: int
    address: str
    prefix: int
    kind: InterfaceKind = InterfaceKind.LAN

    @property
    def network(self) -> IPv4Network | IPv6Network:
        """What is reached through this interface without a router."""
        return ip_network((self.address, self.prefix), strict=False)


def kind_of(name: str, flags: int | None) -> InterfaceKind:
    """What an interface is for.

    Args:
        name: Its name, or what the system shows people.
        flags: As Linux numbers them; None where the system does not show them.
    """
    lower = name.lower()
    if (flags is not None and flags & _LOOPBACK) or lower in {"lo", "lo0"} or lower.startswith("loopback"):
        return InterfaceKind.LOOPBACK
    if lower.startswith(_VIRTUAL):
        return InterfaceKind.VIRTUAL
    if (flags is not None and flags & _POINT_TO_POINT) or lower.startswith(_TUNNELS):
        return InterfaceKind.TUNNEL
    return InterfaceKind.LAN


def present() -> list[Interface]:
    """All addresses of the interfaces that are up, 1 ms."""
    import ifaddr

    not_usable = _not_usable(_text(_IPV6))
    found: list[Interface] = []
    for adapter in ifaddr.get_adapters():
        # An address with a label, as `eth0:1`, is still at its interface.
        flags = _flags(adapter.name.partition(":")[0])
        if flags is not None and not flags & _UP:
            continue
        kind = kind_of(adapter.nice_name or adapter.name, flags)
        for ip in adapter.ips:
            literal = ip_address((ip.ip if isinstance(ip.ip, str) else ip.ip[0]).partition("%")[0])
            if (str(literal), adapter.index) in not_usable:
                continue
            if kind is InterfaceKind.LAN and literal.is_loopback:
                kind = InterfaceKind.LOOPBACK
            found.append(
                Interface(
                    adapter.nice_name or adapter.name,
                    adapter.index or 0,
                    str(literal),
                    ip.network_prefix,
                    kind,
                )
            )
    return found


def loopback() -> list[Interface]:
    """Only this machine itself, as if it were a network: for tests."""
    return [Interface("lo", 1, "127.0.0.1", 8, InterfaceKind.LAN)]


def announceable(interfaces: Sequence[Interface]) -> list[str]:
    """The addresses at which a neighbour may reach this machine, best first, at most BEACON_ADDRESSES_MAX.

    IPv4 goes first, since every LAN has it; what a machine gives itself where no router answers goes last.
    """
    ranked: dict[str, tuple[int, int]] = {}
    for at, interface in enumerate(interfaces):
        literal = ip_address(interface.address)
        if interface.kind is not InterfaceKind.LAN or literal.is_unspecified or literal.is_multicast:
            continue
        if literal.version == 6 and literal.is_link_local:
            continue
        rank = 2 if literal.is_link_local else 0 if literal.version == 4 else 1
        ranked.setdefault(interface.address, (rank, at))
    return sorted(ranked, key=lambda address: ranked[address])[: limits.BEACON_ADDRESSES_MAX]


def _not_usable(table: str) -> set[tuple[str, int]]:
    """Addresses that the system lists and nobody should use, each with the number of its interface.

    Args:
        table: As the file /proc/net/if_inet6 has it.
    """
    found: set[tuple[str, int]] = set()
    for line in table.splitlines():
        with suppress(ValueError, IndexError):
            address, number, _, _, flags = line.split()[:5]
            if int(flags, 16) & _NOT_USABLE:
                found.add((str(IPv6Address(bytes.fromhex(address))), int(number, 16)))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _flags(name: str) -> int | None:
    try:
        return int(_text(_FLAGS / name / "flags"), 16)
    except ValueError:
        return None
