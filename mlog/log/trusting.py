"""Trusting: another device becomes one of this person's, as it says of itself.

Both homes do this, each with what the other one says. Of two persons the older one stays: its home
admits the device, and the other home joins it once both have met. Whether what the device says may be
believed was decided before: by who carried a file (mlog/api/trust.py), or by a secret that both ends
had (mlog/protocol/pairing.py). docs/protocol.md, 18.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from mlog import limits
from mlog.errors import UserError
from mlog.log import belonging
from mlog.log.ids import DeviceId, Topic
from mlog.log.peers import PeerRow, renewed
from mlog.log.person import Person
from mlog.log.replica import Replica

__all__ = ["Claim", "Outcome", "outcome_of", "own_person", "trust"]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says of itself.

    Attributes:
        name, person: What device and person are called.
        topic, founded_ms: Of the person log that the device writes to, and of its first entry.
        devices: How many devices that person has.
        addresses: Where the device can be reached, as HOST:PORT, best first.
    """

    device: DeviceId
    noise: bytes
    hpke: bytes
    name: str
    person: str
    topic: Topic
    founded_ms: int
    devices: int
    addresses: tuple[str, ...] = ()


class Outcome(StrEnum):
    """What becomes of a device that is trusted.

    This home admits it; or joins its person, which is older; or both are of one person already.
    """

    ADMITTED = "admitted"
    JOINS = "joins"
    KNOWN = "known"


def own_person(replica: Replica) -> Person:
    """The person of this device.

    Raises:
        UserError: Its log is damaged here.
    """
    person = replica.people.current()
    if person is None:
        raise UserError(
            "the log of your own devices is damaged here, and has to be whole for this. 'mlog verify' says "
            "what is wrong."
        )
    return person


def outcome_of(replica: Replica, claim: Claim) -> Outcome:
    """What `trust` would do now; changes nothing.

    Raises:
        UserError: The device was revoked; both persons have further devices; or there are too many.
    """
    person = own_person(replica)
    if replica.people.is_revoked(claim.device):
        raise UserError(f"{claim.name}: {belonging.REVOKED_DEVICE}")
    if person.member(claim.device) is not None:
        return Outcome.KNOWN
    if person.topic == claim.topic:
        # Another device let it in, of which nothing came here, or counts for nothing any more.
        return Outcome.ADMITTED
    theirs = next((p for p in replica.people.persons() if p.topic == claim.topic), None)
    if theirs is not None and any(member.device == replica.device_id for member in theirs.astray):
        # They were one group before.
        return Outcome.JOINS
    if len(person.machines) > 1 and claim.devices > 1:
        raise UserError(
            f"this person has {len(person.machines)} devices already, and {claim.person!r} there has "
            f"{claim.devices}: two groups of devices cannot become one yet. Export the conversations of one "
            "group ('mlog export'), and import them in the other."
        )
    if len(person.members) + claim.devices > limits.KEY_RECIPIENTS_MAX:
        raise UserError(f"a person has at most {limits.KEY_RECIPIENTS_MAX} devices.")
    older = person.age < (claim.founded_ms, claim.topic)
    return Outcome.ADMITTED if older else Outcome.JOINS


def trust(replica: Replica, claim: Claim, now_ms: int) -> Outcome:
    """Take a device as one of this person's; again changes nothing. Durable on return.

    Raises:
        UserError: As `outcome_of`; nothing was changed.
    """
    store = replica.store
    with replica.transaction():
        outcome = outcome_of(replica, claim)
        known = next((peer for peer in store.peers() if peer.device == claim.device), None)
        addresses = dict.fromkeys((*claim.addresses, *(known.addresses if known is not None else ())))
        peer = PeerRow(
            device=claim.device,
            name=claim.name,
            noise=claim.noise,
            hpke=claim.hpke,
            own=True,
            addresses=tuple(addresses)[: limits.ADDRESSES_MAX],
            added_ms=now_ms,
        )
        peer = renewed(peer, known)
        store.put_peer(peer)
        if outcome == Outcome.ADMITTED:
            belonging.admit(replica, peer, now_ms)
        elif outcome == Outcome.JOINS:
            # The log of that person may be here already.
            belonging.follow(replica, replica.people.standing(), now_ms)
    return outcome
