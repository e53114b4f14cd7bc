"""The doctor tells causes apart that look alike to a person: each has its row here."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mlog.adapters.interfaces import Interface, InterfaceKind
from mlog.adapters.network_facts import Firewall, Multicast, NetworkFacts, Outcome, PeerFacts, Probe
from mlog.api.doctor import Check
from mlog.api.home import Home
from mlog.api.network_checks import judge, look_at_network
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow, ReceiptRow, SyncRow, SyncState

from .conftest import Clock

_LAN = Interface("wlan0", 2, "192.168.1.7", 24)
_VPN = Interface("wg0", 5, "10.9.0.2", 32, InterfaceKind.TUNNEL)
_LOOPBACK = Interface("lo", 1, "127.0.0.1", 8, InterfaceKind.LOOPBACK)
_ROUTER = "192.168.1.1"
_HOUR_MS = 3_600_000
_DESK = DeviceId(b"d" * 32)


def knock(address: str, outcome: Outcome = Outcome.SILENT, **fields: Any) -> Probe:
    return Probe(address=address, outcome=outcome, host=address.rpartition(":")[0], **fields)


def peer(*probes: Probe, **fields: Any) -> PeerFacts:
    return PeerFacts(name="desk", probes=probes, **fields)


OWN = (
    knock("127.0.0.1:7367", Outcome.ANSWERS),
    knock("192.168.1.7:7367", Outcome.ANSWERS),
)
WELL = NetworkFacts(
    interfaces=(_LOOPBACK, _LAN),
    outward="wlan0",
    gateway=_ROUTER,
    gateway_answers=True,
    served=True,
    own=OWN,
    peers=(peer(knock("192.168.1.9:7367", Outcome.ANSWERS, interface="wlan0")),),
    neighbours=("192.168.1.9",),
    multicast=Multicast(answered=("192.168.1.9",)),
)
UFW = Firewall(name="ufw", allows=False, advice="sudo ufw allow 7367/tcp")
NEAR = knock("192.168.1.9:7367", interface="wlan0")


def wrong(facts: NetworkFacts, **options: int) -> list[Check]:
    return [check for check in judge(facts, **options) if not check.ok]


def but(**changes: Any) -> NetworkFacts:
    """A healthy network but for this."""
    return msgspec.structs.replace(WELL, **changes)


def test_a_healthy_network_has_no_finding() -> None:
    assert wrong(WELL) == []
    assert [check.name for check in judge(WELL)] == [
        "network",
        "service",
        "firewall",
        "device desk",
        "multicast",
        "clocks",
    ]


@pytest.mark.parametrize(
    ("facts", "name", "detail", "advice"),
    [
        pytest.param(
            but(interfaces=(_LOOPBACK,), outward="", peers=(peer(connected=True),)),
            "network",
            "in no network",
            "Wi-Fi or a cable",
            id="no network",
        ),
        pytest.param(
            but(served=False, own=()), "service", "does not run", "mlog serve", id="service not running"
        ),
        pytest.param(
            but(served=False, own=(), port_taken=True),
            "service",
            "another program uses its port 7367",
            "--port 7368",
            id="port taken",
        ),
        pytest.param(
            but(own=(OWN[0], knock("192.168.1.7:7367")), firewalls=(UFW,)),
            "firewall",
            "ufw blocks port 7367",
            "ufw allow 7367",
            id="a firewall that is known blocks the port",
        ),
        pytest.param(
            but(own=(OWN[0], knock("192.168.1.7:7367"))),
            "firewall",
            "a firewall blocks port 7367",
            "Allow connections to TCP port 7367",
            id="a firewall that is not known blocks the port",
        ),
        pytest.param(
            but(firewalls=(UFW,)), "firewall", "ufw has no rule", "ufw allow", id="a firewall without a rule"
        ),
        pytest.param(
            but(own=(OWN[0], knock("192.168.1.7:7367", Outcome.REFUSED))),
            "firewall",
            "does not listen at 192.168.1.7:7367",
            "without --host",
            id="listens at loopback only",
        ),
        pytest.param(
            but(own=(knock("127.0.0.1:7367", Outcome.REFUSED), OWN[1])),
            "firewall",
            "does not answer at 127.0.0.1",
            "Start the service again",
            id="the service hangs",
        ),
        pytest.param(
            but(peers=(peer(msgspec.structs.replace(NEAR, neighbour=False)),), neighbours=()),
            "device desk",
            "keeps its devices apart",
            "client isolation",
            id="isolated Wi-Fi clients",
        ),
        pytest.param(
            but(peers=(peer(msgspec.structs.replace(NEAR, neighbour=False)),), neighbours=("192.168.1.30",)),
            "device desk",
            "nobody has the address 192.168.1.9",
            "wake it",
            id="a device that is off",
        ),
        pytest.param(
            but(
                peers=(peer(msgspec.structs.replace(NEAR, neighbour=False)),),
                neighbours=(),
                gateway_answers=None,
            ),
            "device desk",
            "nobody has the address",
            "wake it",
            id="off or isolated, where no router is known",
        ),
        pytest.param(
            but(peers=(peer(msgspec.structs.replace(NEAR, neighbour=True)),)),
            "device desk",
            "lets nobody connect",
            "'mlog doctor' there",
            id="a firewall there",
        ),
        pytest.param(
            but(peers=(peer(NEAR),)), "device desk", "nobody answers at", "See that the device is on", id="?"
        ),
        pytest.param(
            but(peers=(peer(NEAR),), interfaces=(_LAN, _VPN), outward="wg0"),
            "device desk",
            "the VPN wg0 may keep this machine from its network",
            "Switch the VPN off",
            id="a VPN that takes everything",
        ),
        pytest.param(
            but(
                peers=(peer(knock("192.168.7.9:7367", interface="wg0")),),
                interfaces=(_LAN, _VPN),
                outward="wlan0",
            ),
            "device desk",
            "leads through the VPN wg0",
            "Switch the VPN off",
            id="a VPN that takes the device's network",
        ),
        pytest.param(
            but(
                peers=(peer(knock("10.9.0.9:7367", interface="wg0")),),
                interfaces=(_LAN, _VPN._replace(prefix=24)),
                outward="wg0",
            ),
            "device desk",
            "nobody answers at 10.9.0.9:7367",
            "See that the device is on",
            id="a device in the VPN's own network",
        ),
        pytest.param(
            but(peers=(peer(knock("192.168.7.9:7367", interface="wlan0")),)),
            "device desk",
            "none of this machine's networks (192.168.1.0/24)",
            "same network",
            id="a wrong subnet",
        ),
        pytest.param(
            but(peers=(peer(knock("8.8.8.8:7367", interface="wlan0")),)),
            "device desk",
            "outside of this network",
            "router forwards the port",
            id="a public address",
        ),
        pytest.param(
            but(peers=(peer(Probe(address="desk.lan:7367", outcome=Outcome.NO_NAME)),)),
            "device desk",
            "desk.lan:7367 is not a name",
            "spelling",
            id="an address by hand that is no name",
        ),
        pytest.param(
            but(peers=(peer(knock("192.168.1.9:7367", Outcome.REFUSED)),)),
            "device desk",
            "mlog does not run there",
            "mlog serve",
            id="an address by hand where mlog does not run",
        ),
        pytest.param(
            but(peers=(peer(),)),
            "device desk",
            "no address",
            "mlog sync HOST:PORT",
            id="never met, no address",
        ),
        pytest.param(
            but(multicast=Multicast(refused="Operation not permitted")),
            "multicast",
            "Operation not permitted",
            "UDP port 5353",
            id="multicast blocked here",
        ),
        pytest.param(
            but(ahead_ms={"desk": 3 * _HOUR_MS}),
            "clocks",
            "the clock of desk is 3 hours ahead",
            "Compare both",
            id="one clock is ahead",
        ),
        pytest.param(
            but(ahead_ms={"desk": 96 * _HOUR_MS, "phone": 97 * _HOUR_MS}),
            "clocks",
            "the clock of this machine is 4 days behind",
            "Set the clock",
            id="all others are ahead",
        ),
    ],
)
def test_each_cause_is_told_by_itself(facts: NetworkFacts, name: str, detail: str, advice: str) -> None:
    [found] = wrong(facts)
    assert found.name == name
    assert detail in found.detail
    assert advice in found.advice


def test_a_clock_that_went_back_is_told() -> None:
    [found] = wrong(WELL, own_ahead_ms=90 * 60_000)
    assert "90 minutes behind" in found.detail


def test_multicast_that_nobody_answers_is_a_finding_only_where_no_device_is_reached() -> None:
    nobody = Multicast()
    assert wrong(but(multicast=nobody)) == []
    assert [check.name for check in wrong(but(multicast=nobody, peers=(peer(NEAR),)))] == [
        "device desk",
        "multicast",
    ]


def test_a_firewall_that_does_not_show_its_rules_is_named_and_no_finding() -> None:
    facts = but(firewalls=(msgspec.structs.replace(UFW, allows=None),))
    assert wrong(facts) == []
    assert any("ufw" in check.detail and "ufw allow" in check.detail for check in judge(facts))


def test_without_a_network_a_device_is_not_blamed() -> None:
    found = wrong(but(interfaces=(_LOOPBACK,), peers=(peer(NEAR),)))
    assert [check.name for check in found] == ["network", "device desk"]
    assert "this machine is in no network" in found[1].detail


@pytest.mark.parametrize(
    "well",
    [
        peer(NEAR, connected=True),
        peer(NEAR, knock("192.168.1.10:7367", Outcome.ANSWERS)),
        peer(seen_ms=1),
    ],
    ids=["connected to us", "one address of two answers", "it always connects itself"],
)
def test_a_device_that_is_reached_in_one_way_is_no_finding(well: PeerFacts) -> None:
    assert wrong(but(peers=(well,))) == []


def test_the_surest_cause_of_several_addresses_is_told() -> None:
    elsewhere = knock("192.168.7.9:7367", interface="wlan0")
    refused = knock("192.168.1.9:7367", Outcome.REFUSED)
    [found] = wrong(but(peers=(peer(elsewhere, NEAR, refused),)))
    assert "mlog does not run there" in found.detail


# -- with a home -----------------------------------------------------------------------------


def befriend(home: Home, **fields: Any) -> None:
    desk = PeerRow(device=_DESK, name="desk", noise=b"n" * 32, hpke=b"h" * 32, own=True, **fields)
    with home.store.transaction():
        home.store.put_peer(desk)


@pytest.fixture
def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at the network fails."""
    monkeypatch.setattr("mlog.api.network_checks.look_at_network", None)


@pytest.mark.usefixtures("no_look")
def test_a_home_that_knows_no_device_is_examined_without_a_look_at_the_network(opened: Home) -> None:
    checks = opened.doctor()
    assert [check.detail for check in checks if check.name == "devices"] == ["no other device is known yet"]


@pytest.mark.usefixtures("no_look")
def test_offline_sends_nothing(opened: Home) -> None:
    befriend(opened, addresses=("127.0.0.1:9",))
    names = {check.name for check in opened.doctor(offline=True)}
    assert not names & {"network", "service", "device desk", "devices"}


def test_a_receipt_from_the_future_tells_of_a_clock_that_is_ahead(opened: Home, clock: Clock) -> None:
    befriend(opened)
    receipt = ReceiptRow(
        log=opened.new("Garden").n,
        device=_DESK,
        first_week=0,
        entries=1,
        bodies=1,
        entries_root=bytes(32),
        bodies_root=bytes(32),
        time_ms=clock.ms + 2 * _HOUR_MS,
        expires_ms=clock.ms + 9 * _HOUR_MS,
        proof=b"",
    )
    with opened.store.transaction():
        opened.store.put_receipt(receipt)
    given: list[dict[str, int]] = []

    def look(_: object, __: object, ahead_ms: dict[str, int]) -> NetworkFacts:
        given.append(ahead_ms)
        return WELL

    look_at_network(opened.path, opened.store, clock.ms, look)
    assert given == [{"desk": pytest.approx(2 * _HOUR_MS, abs=1000)}]


def test_what_the_home_knows_reaches_the_judgement(opened: Home, clock: Clock) -> None:
    befriend(opened, addresses=("192.168.1.9:7367",), seen_ms=clock.ms)
    log = opened.new("Garden").n
    sync = SyncRow(log=log, device=_DESK, state=SyncState.EQUAL, time_ms=clock.ms + 5 * _HOUR_MS)
    with opened.store.transaction():
        opened.store.put_sync(sync)
    asked: list[Any] = []

    def look(*given: Any) -> NetworkFacts:
        asked.extend(given)
        return WELL

    checks = look_at_network(opened.path, opened.store, clock.ms, look)
    assert asked == [opened.path, opened.store.peers(), {}]
    [found] = [check for check in checks if not check.ok]
    assert "5 hours behind" in found.detail
