"""Homes that become one person's, and part, in any order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import combinations
from random import Random

from mlog.errors import UserError
from mlog.log import belonging, crypto, trusting
from mlog.log.bodies import Kind
from mlog.log.epochs import stated_epochs
from mlog.log.ids import DeviceId
from mlog.log.replica import Replica
from mlog.log.trusting import Claim
from tests.log.conversing import settle
from tests.log.persons import (
    NAMES,
    begin,
    conversation_of,
    findings_in,
    home,
    person_of,
    record_of,
    write,
)
from tests.log.support import START_MS, text

HOMES = 5
SEEDS = [65, 76, 77, 79, 112, 159, 195, 208, 308, 416]
"""Without "Going back" (docs/protocol.md, 4.6) these end with an epoch for a revoked device; not the last,
where a device kept on meeting another that its own person had revoked before it went over."""


def devices(*replicas: Replica) -> set[DeviceId]:
    return {replica.device_id for replica in replicas}


def members(replica: Replica) -> set[DeviceId]:
    return {member.device for member in person_of(replica).members}


def peers(replica: Replica) -> set[DeviceId]:
    return {peer.device for peer in replica.store.peers()}


def readers(replica: Replica, log: int) -> set[DeviceId]:
    """For whom the epoch is under which a log was written last."""
    current = crypto.commitment(replica.log(log).keys.current.secret)
    stated = stated_epochs(replica.store, log, replica.people.cuts(log))
    return {DeviceId(d) for epoch in stated if epoch.commitment == current for d in epoch.recipients}


def claim_of(index: int, replica: Replica) -> Claim:
    record, person = record_of(index), person_of(replica)
    return Claim(
        device=replica.device_id,
        noise=record.noise,
        hpke=record.hpke,
        name=record.name,
        person=person.name,
        topic=person.topic,
        founded_ms=person.founded_ms,
        devices=len(person.members),
    )


class Joining:
    """Homes that trust, meet and revoke each other at random; then those that are still peers meet.

    Args:
        meet: How two of them meet, at a time.
    """

    def __init__(self, seed: int, meet: Callable[[Replica, Replica, int], object]):
        self.homes = [home(index) for index in range(HOMES)]
        self._meet_as = meet
        self._chance = Random(seed)
        self._now = START_MS + 1000

    def run(self) -> None:
        acts = [self._trust, self._meet, self._revoke, self._say]
        for _ in range(self._chance.randint(6, 22)):
            one, other = self._chance.sample(range(HOMES), 2)
            act = self._chance.choices(acts, [4, 6, 1.5, 2])[0]
            self._now += 10
            if all(self.homes[n].people.current() is not None for n in (one, other)):
                with suppress(UserError):
                    act(one, other)
        for _ in range(4):
            for one, other in combinations(range(HOMES), 2):
                self._now += 10
                self._meet(one, other)
            for replica in self.homes:
                if not replica.people.is_revoked(replica.device_id):
                    belonging.revoke_too(replica, self._now)

    def check(self) -> None:
        """Nobody writes for a device that it knows to be revoked, and peers agree who is one of theirs."""
        for replica in self.homes:
            settle(replica, self._now)
            assert findings_in(replica) == []
            if replica.people.is_revoked(replica.device_id):
                continue
            log = begin(replica, "at the end", self._now + 1)
            assert readers(replica, log) == members(replica)
            assert not any(replica.people.is_revoked(device) for device in members(replica))
            for other in self.homes:
                if other.device_id in members(replica) & peers(replica) and replica.device_id in peers(other):
                    assert members(other) == members(replica)

    def _trust(self, one: int, other: int) -> None:
        """Both say that the other's device is theirs, if both may."""
        here, there = self.homes[one], self.homes[other]
        ours, theirs = claim_of(one, here), claim_of(other, there)
        trusting.outcome_of(here, theirs)
        trusting.outcome_of(there, ours)
        trusting.trust(here, theirs, self._now)
        trusting.trust(there, ours, self._now)
        self._meet(one, other)

    def _meet(self, one: int, other: int) -> None:
        here, there = self.homes[one], self.homes[other]
        if here.device_id in peers(there) and there.device_id in peers(here):
            self._meet_as(here, there, self._now)

    def _revoke(self, one: int, other: int) -> None:
        if self.homes[other].device_id in members(self.homes[one]):
            belonging.revoke(self.homes[one], self.homes[other].device_id, self._now)

    def _say(self, one: int, other: int) -> None:
        log = conversation_of(self.homes[one], f"of {NAMES[one]}")
        write(self.homes[one], log, Kind.MESSAGE, text(str(self._now)), self._now)
