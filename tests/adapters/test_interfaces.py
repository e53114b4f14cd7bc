"""Interfaces: what each is for, and which addresses neighbours can reach."""

from __future__ import annotations

import pytest

from mlog import limits
from mlog.adapters import interfaces as networks
from mlog.adapters.interfaces import Interface, InterfaceKind, announceable, kind_of, present


@pytest.mark.parametrize(
    ("name", "flags", "kind"),
    [
        ("eth0", 0x1003, InterfaceKind.LAN),
        ("wlp3s0", 0x1003, InterfaceKind.LAN),
        ("en0", None, InterfaceKind.LAN),
        ("Wi-Fi", None, InterfaceKind.LAN),
        ("lo", 0x9, InterfaceKind.LOOPBACK),
        ("Loopback Pseudo-Interface 1", None, InterfaceKind.LOOPBACK),
        ("wg0", 0x91, InterfaceKind.TUNNEL),
        ("tun7", 0x1091, InterfaceKind.TUNNEL),
        ("home-vpn", 0x1091, InterfaceKind.TUNNEL),
        ("utun3", None, InterfaceKind.TUNNEL),
        ("docker0", 0x1003, InterfaceKind.VIRTUAL),
        ("vEthernet (WSL)", None, InterfaceKind.VIRTUAL),
    ],
)
def test_what_an_interface_is_for(name: str, flags: int | None, kind: InterfaceKind) -> None:
    assert kind_of(name, flags) is kind


def test_addresses_are_announced_best_first_and_only_those_that_neighbours_reach() -> None:
    interfaces = [
        Interface("eth0", 2, "169.254.3.4", 16),
        Interface("eth0", 2, "fe80::1", 64),
        Interface("eth0", 2, "2001:db8::7", 64),
        Interface("wg0", 5, "10.9.0.2", 32, InterfaceKind.TUNNEL),
        Interface("docker0", 6, "172.17.0.1", 16, InterfaceKind.VIRTUAL),
        Interface("wlan0", 3, "192.0.2.7", 24),
    ]
    assert announceable(interfaces) == ["192.0.2.7", "2001:db8::7", "169.254.3.4"]
    many = [Interface("eth0", 2, f"192.0.2.{n}", 24) for n in range(1, 100)]
    assert len(announceable(many)) == limits.BEACON_ADDRESSES_MAX


def test_the_interfaces_of_this_machine_include_itself() -> None:
    assert any(each.address == "127.0.0.1" and each.kind is InterfaceKind.LOOPBACK for each in present()), (
        "every machine that runs this has IPv4 on loopback"
    )


def test_ipv6_addresses_that_are_not_ready_or_about_to_go_are_left_out() -> None:
    table = (
        "fd000000000000000000000000000002 04 40 00 82     eth0\n"
        "fe8000000000000000fc00fffe000001 04 40 20 c0     eth0\n"
        "20010db8000000000000000000000007 0a 40 00 20    wlan0\n"
        "20010db8000000000000000000000008 0a 40 00 88    wlan0\n"
        "cut\nnot hexadecimal at all, 7\n"
    )
    assert networks._not_usable(table) == {
        ("fe80::fc:ff:fe00:1", 4),
        ("2001:db8::7", 10),
        ("2001:db8::8", 10),
    }
