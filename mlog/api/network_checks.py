"""The doctor's part about the network: why a device is not reached, and what to do.

Judging is a pure function of facts (mlog/adapters/network_facts.py), so that each cause has its
row in a test. What is sure is said as such; where several causes look alike from here, the advice
names them in the order in which they are worth trying.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from mlog import limits
from mlog.adapters.interfaces import InterfaceKind
from mlog.adapters.network_facts import NetworkFacts, Outcome, PeerFacts, Probe, gather
from mlog.api.doctor import Check
from mlog.log.store import Store
from mlog.plurals import counted

__all__ = ["judge", "look_at_network"]

_NAME_IT: Final = "name its address: 'mlog sync HOST:PORT'."
_LET_LOCAL: Final = "Switch the VPN off to try, and then allow access to the local network in its settings."
_APART: Final = (
    "See that it is on and in this network. If it is, switch off 'client isolation' (or 'AP isolation') in "
    "the router, or leave the guest network; a third device that both reach works too."
)
_BRING: Final = f"Bring both into the same network (a guest Wi-Fi is another one), or {_NAME_IT}"
_OUTSIDE: Final = (
    "Check that the device is on and that its router forwards the port. The address of a home connection "
    "changes from time to time."
)
_IS_IT_ON: Final = (
    "See that the device is on, in this network and running mlog. Else its firewall blocks it: run "
    "'mlog doctor' there."
)


class _Cause(NamedTuple):
    """What is the matter, and what to do; the lower the rank, the surer."""

    rank: int
    detail: str
    advice: str


def look_at_network(
    home: Path,
    store: Store,
    now_ms: int,
    look: Callable[..., NetworkFacts] = gather,
) -> list[Check]:
    """Look at the network and judge it, in about two seconds.

    Args:
        home: Whose service is asked.
        store: Where the known devices are, and when they said what.
        now_ms: By the clock of this machine.
        look: As `mlog.adapters.network_facts.gather`.
    """
    peers = store.peers()
    names = {peer.device: peer.name for peer in peers}
    ahead: dict[str, int] = {}
    # What another device signed carries the time of its own clock, and it cannot have signed that after now.
    for receipt in store.receipts():
        if receipt.device in names:
            name = names[receipt.device]
            ahead[name] = max(ahead.get(name, 0), receipt.time_ms - now_ms)
    # What this device noted of a session carries the time of its own clock at that time.
    own = max([peer.seen_ms for peer in peers] + [row.time_ms for row in store.syncs()]) - now_ms
    return judge(look(home, peers, {name: by for name, by in ahead.items() if by > 0}), own_ahead_ms=own)


def judge(facts: NetworkFacts, *, own_ahead_ms: int = 0) -> list[Check]:
    """What the facts mean.

    Args:
        facts: As they were gathered.
        own_ahead_ms: By how much this machine's clock was once ahead of what it is now.
    """
    checks = [_network(facts), _service(facts)]
    if facts.served and facts.port:
        checks.append(_firewall(facts))
    checks += [_device(peer, facts) for peer in facts.peers]
    checks += [_multicast(facts), _clocks(facts, own_ahead_ms)]
    return checks


# -- this machine ----------------------------------------------------------------------------


def _is_in_a_network(facts: NetworkFacts) -> bool:
    return any(each.kind in {InterfaceKind.LAN, InterfaceKind.TUNNEL} for each in facts.interfaces)


def _network(facts: NetworkFacts) -> Check:
    at = [each for each in facts.interfaces if each.kind is InterfaceKind.LAN]
    detail = ", ".join(f"{each.address} ({each.name})" for each in at if ":" not in each.address)
    tunnels = dict.fromkeys(each.name for each in facts.interfaces if each.kind is InterfaceKind.TUNNEL)
    if tunnels:
        detail += f"{', ' if detail else ''}VPN {', '.join(tunnels)}"
    return Check(
        name="network",
        ok=_is_in_a_network(facts),
        detail=detail or ", ".join(each.address for each in at) or "this machine is in no network",
        advice="Connect it to a Wi-Fi or a cable. Until then messages are kept here and sent later.",
    )


def _service(facts: NetworkFacts) -> Check:
    if facts.served:
        where = f"listens at port {facts.port}" if facts.port else "connects to others, and does not listen"
        return Check(name="service", ok=True, detail=f"runs, {where}")
    if facts.port_taken:
        return Check(
            name="service",
            ok=False,
            detail=f"does not run, and another program uses its port {facts.port}",
            advice="Start it at another port: 'mlog serve --port 7368'; other devices then need HOST:7368.",
        )
    return Check(
        name="service",
        ok=False,
        detail="does not run: no other device can connect to this one",
        advice="Start it with 'mlog serve', or for good with 'mlog service install'.",
    )


def _firewall(facts: NetworkFacts) -> Check:
    name = "firewall"
    loopback, lan = facts.own[:1], facts.own[1:]
    if loopback and loopback[0].outcome is not Outcome.ANSWERS:
        return Check(
            name=name,
            ok=False,
            detail=f"the service runs, and does not answer at {loopback[0].address}",
            advice="Start the service again. If it listens at one address only, leave --host away.",
        )
    closed = [firewall for firewall in facts.firewalls if firewall.allows is False]
    shut = [probe for probe in lan if probe.outcome is not Outcome.ANSWERS]
    how = [firewall.advice for firewall in closed or facts.firewalls]
    if shut and shut[0].outcome is Outcome.REFUSED and not facts.firewalls:
        return Check(
            name=name,
            ok=False,
            detail=f"the service answers at 127.0.0.1, and does not listen at {shut[0].address}",
            advice="Start it without --host, so that other devices can connect.",
        )
    if shut:
        blamed = ", ".join(firewall.name for firewall in closed or facts.firewalls) or "a firewall"
        return Check(
            name=name,
            ok=False,
            detail=f"{blamed} blocks port {facts.port}: it answers at 127.0.0.1, not at {shut[0].address}",
            advice=" ".join(how) or f"Allow connections to TCP port {facts.port} in your firewall.",
        )
    if closed:
        return Check(
            name=name,
            ok=False,
            detail=f"{closed[0].name} has no rule that lets other devices connect to port {facts.port}",
            advice=" ".join(how),
        )
    unknown = [firewall.name for firewall in facts.firewalls if firewall.allows is None]
    detail = f"port {facts.port} answers at {len(facts.own)} of {len(facts.own)} own addresses"
    if unknown:
        detail += f"; whether {unknown[0]} lets others connect cannot be seen from here ({how[0]})"
    return Check(name=name, ok=True, detail=detail)


def _multicast(facts: NetworkFacts) -> Check:
    name = "multicast"
    if facts.multicast.refused:
        return Check(
            name=name,
            ok=False,
            detail=f"this system does not send it ({facts.multicast.refused})",
            advice="Allow UDP port 5353 in the firewall, or name addresses by hand: 'mlog sync HOST:PORT'.",
        )
    count = len(facts.multicast.answered)
    if count:
        return Check(name=name, ok=True, detail=f"{counted(count, 'other')} answered")
    # Nobody has to answer; so that is no fault where the devices are reached anyway.
    return Check(
        name=name,
        ok=not _is_in_a_network(facts) or any(_is_reached(peer) for peer in facts.peers),
        detail="nobody answered: devices may not find each other by themselves",
        advice="If the network does not pass multicast on (guest and company networks often do not), "
        "name the address of a device by hand once: 'mlog sync HOST:PORT'.",
    )


def _clocks(facts: NetworkFacts, own_ahead_ms: int) -> Check:
    name = "clocks"
    ahead = {who: by for who, by in facts.ahead_ms.items() if by > limits.CLOCK_AHEAD_WARN_MS}
    if own_ahead_ms > limits.CLOCK_AHEAD_WARN_MS or len(ahead) > 1:
        by = max([own_ahead_ms, *ahead.values()])
        return Check(
            name=name,
            ok=False,
            detail=f"the clock of this machine is {_span(by)} behind what it and other devices noted before",
            advice="Set the clock of this machine: devices do not recognise each other on a network "
            "with clocks that are more than an hour apart.",
        )
    if ahead:
        [(who, by)] = ahead.items()
        return Check(
            name=name,
            ok=False,
            detail=f"the clock of {who} is {_span(by)} ahead of this one",
            advice="Compare both with a clock that you trust, and set the wrong one.",
        )
    return Check(name=name, ok=True, detail="this one and those of the known devices agree")


# -- other devices ---------------------------------------------------------------------------


def _is_reached(peer: PeerFacts) -> bool:
    return peer.connected or any(probe.outcome is Outcome.ANSWERS for probe in peer.probes)


def _device(peer: PeerFacts, facts: NetworkFacts) -> Check:
    name = f"device {peer.name}"
    if peer.connected:
        return Check(name=name, ok=True, detail="connected")
    for probe in peer.probes:
        if probe.outcome is Outcome.ANSWERS:
            return Check(name=name, ok=True, detail=f"answers at {probe.address}")
    if not peer.probes:
        return Check(
            name=name,
            ok=peer.seen_ms > 0,
            detail="no address of it is known: it connects to this device, or is found in the same network",
            advice="Start mlog there in the same network, or name its address: 'mlog sync HOST:PORT'.",
        )
    if not _is_in_a_network(facts):
        return Check(
            name=name, ok=False, detail="not reached: this machine is in no network", advice="See 'network'."
        )
    cause = min((_why(probe, facts) for probe in peer.probes), key=lambda cause: cause.rank)
    return Check(name=name, ok=False, detail=cause.detail, advice=cause.advice)


def _why(probe: Probe, facts: NetworkFacts) -> _Cause:
    """Why a device does not answer at an address."""
    where = probe.address
    if probe.outcome is Outcome.REFUSED:
        detail = f"the machine at {where} answers, and mlog does not run there"
        return _Cause(0, detail, f"Start mlog there: 'mlog serve'. If it has another port, {_NAME_IT}")
    if not probe.host:
        return _Cause(
            5, f"{where} is not a name that this network knows", f"Check its spelling, or {_NAME_IT}"
        )
    host = ip_address(probe.host.partition("%")[0])
    if any(host in each.network for each in facts.interfaces):
        # Also where it is the VPN's own network, in which devices are meant to reach each other.
        return _why_near(probe, facts)
    if _is_tunnel(probe.interface, facts):
        detail = f"the way to {where} leads through the VPN {probe.interface}, and nobody answers there"
        return _Cause(1, detail, _LET_LOCAL)
    if host.is_private or host.is_link_local:
        networks = [str(each.network) for each in facts.interfaces if each.kind is InterfaceKind.LAN]
        mine = ", ".join(network for network in networks if (":" in network) == (host.version == 6))
        detail = f"it was last at {where}, which is in none of this machine's networks ({mine or 'none'})"
        return _Cause(3, detail, _BRING)
    return _Cause(4, f"nobody answers at {where}, which is outside of this network", _OUTSIDE)


def _why_near(probe: Probe, facts: NetworkFacts) -> _Cause:
    """Why a device in one of this machine's own networks does not answer."""
    where = probe.address
    if probe.neighbour is True:
        detail = f"the machine at {where} is there, and lets nobody connect"
        return _Cause(2, detail, "Its firewall blocks mlog: run 'mlog doctor' there.")
    if probe.neighbour is False and facts.gateway_answers and not facts.neighbours:
        # One device by itself looks the same when it is off and when it is kept apart.
        detail = f"only the router answers: {where} is off, or this network keeps its devices apart"
        return _Cause(2, detail, _APART)
    if probe.neighbour is False:
        advice = "The device is off, asleep, or has another address: wake it, and start mlog there."
        return _Cause(2, f"nobody has the address {where} now", advice)
    if _is_tunnel(facts.outward, facts) and not _is_tunnel(probe.interface, facts):
        detail = f"nobody answers at {where}: the VPN {facts.outward} may keep this machine from its network"
        return _Cause(2, detail, _LET_LOCAL)
    return _Cause(2, f"nobody answers at {where}", _IS_IT_ON)


def _is_tunnel(interface: str, facts: NetworkFacts) -> bool:
    return bool(interface) and any(
        each.name == interface and each.kind is InterfaceKind.TUNNEL for each in facts.interfaces
    )


def _span(ms: int) -> str:
    minutes = ms // 60_000
    if minutes < 120:
        return counted(minutes, "minute")
    return counted(minutes // 60, "hour") if minutes < 72 * 60 else counted(minutes // 1440, "day")
