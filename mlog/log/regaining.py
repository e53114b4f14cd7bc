"""Regaining: a home becomes a device of a person none of whose devices answers, but one of another person.

The device of a recovery phrase, in memory, has the person's log from there. Of another person nobody lets in
a device that did not confirm its person (docs/protocol.md, 4.9). So the phrase lets the home's device in, its
yes is written beside that, and once both are at the other end, the home takes the log over as it is. It then
begins the private log anew, since no other person has that. docs/protocol.md, 4.6, 21.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlog import limits
from mlog.errors import UserError
from mlog.log import belonging, bodies, trusting
from mlog.log.bodies import Kind
from mlog.log.contacts import Contact, write_contact
from mlog.log.crypto import DeviceKeys, LogKeys
from mlog.log.fold import Draft
from mlog.log.peers import PeerRow
from mlog.log.store import LogKind
from mlog.plurals import counted

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = ["let_in", "meet", "take_over"]


def let_in(replica: Replica, device: PeerRow, keys: DeviceKeys, now_ms: int) -> None:
    """Admit a device whose keys are at hand, and confirm it in its name; again changes nothing.

    Raises:
        LimitExceeded: The person has as many devices as it may have.
    """
    with replica.transaction():
        belonging.admit(replica, device, now_ms)
        person = trusting.own_person(replica)
        member = person.member(keys.id)
        assert member is not None
        if member.confirmed:
            return
        before = replica.people.standing()
        record = bodies.Device(name=device.name, person=person.name, noise=device.noise, hpke=device.hpke)
        replica.as_device(keys).write(person.log, [Draft(Kind.DEVICE, record, now_ms)], now_ms)
        belonging.follow(replica, before, now_ms)


def meet(replica: Replica, contact: Contact, now_ms: int) -> None:
    """Take the person of who answers as a contact, by a private log that is begun where there is none."""
    people = replica.people
    with replica.transaction():
        if people.private_log() is None:
            replica.create_log(LogKind.PRIVATE, [], now_ms)
        if contact.topic not in people.contacts():
            write_contact(replica, contact, now_ms)


def take_over(giver: Replica, taker: Replica, log: int, now_ms: int) -> None:
    """Give a home the person log in which it is a device that confirmed it.

    Raises:
        UserError: It keeps as many logs as it may.
    """
    keys = giver.log(log).keys
    with taker.transaction():
        numbers = [row.n for row in taker.store.logs() if row.topic == keys.topic]
        numbers = numbers or taker.add_logs([(LogKind.PERSON, LogKeys(keys.secret))])
        if not numbers:
            raise UserError(
                f"a home keeps at most {counted(limits.OFFERED_LOGS_MAX, 'log')}. Recover into a new one: "
                "'mlog --home FOLDER recover'."
            )
        taker.learn_epochs(numbers[0], keys.epochs[1:])
        after = 0
        while rows := giver.store.arrivals(log, after, limits.STORE_ROWS_MAX):
            taker.receive(numbers[0], giver.sealed_of(log, rows, bodies=True), now_ms)
            after = rows[-1].n
        for state in taker.logs():
            while taker.settle(state.n, now_ms):
                pass
