"""Ruling: let persons into a conversation, change what they may do, and remove them.

Each is one transaction: the ruling is sealed under the epoch that all could read so far, so that whom it
is about can read it, and an epoch for those who read on begins with it. How rulings count:
mlog/log/membership.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mlog import limits
from mlog.errors import LimitExceeded, UserError
from mlog.log import bodies
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.cuts import tips_of
from mlog.log.fold import Draft
from mlog.log.membership import Joined
from mlog.log.person import Person

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = ["AGAIN", "add", "leave", "remove", "require_admin", "require_writable", "set_role"]

_WORDS: Final = {Role.ADMIN: "admin", Role.MEMBER: "member", Role.NONE: "none"}
AGAIN: Final = "Ask an admin of it to add you again ('mlog add'), or begin another one ('mlog new TITLE')."


def add(
    replica: Replica,
    log: int,
    persons: Sequence[Person],
    now_ms: int,
    role: Role = Role.MEMBER,
    *,
    history: bool = True,
) -> list[Person]:
    """Let persons into a conversation; gives those for whom that changed anything. Durable on return.

    Args:
        history: They may read what was written before, too. That also counts for who is in it already and
            may not; it is never taken back.

    Raises:
        UserError: This person is no admin of it, or may not read the history that it would grant, or the
            conversation was begun by an mlog that knew of no members.
        LimitExceeded: Its members would have more than KEY_RECIPIENTS_MAX devices.
    """
    with replica.transaction():
        require_admin(replica, log, "add anybody")
        if not replica.people.is_proven(log):
            raise UserError(
                "this conversation was begun by an older mlog, which nobody else can join. Begin a new one "
                "('mlog new TITLE --with PERSON'), and import into it what 'mlog export' wrote of this one."
            )
        joined = {member.subject: member for member in _joined(replica, log)}
        subjects = {person.topic: replica.people.subject_of_topic(person.topic) for person in persons}
        new = [person for person in persons if subjects[person.topic] not in joined]
        known = [person for person in persons if subjects[person.topic] in joined]
        granted = [p for p in known if history and not joined[subjects[p.topic]].history]
        if history and (new or granted):
            _require_history(joined[replica.people.subject()])
        devices = len(replica.people.readers(log) or ()) + sum(len(person.members) for person in new)
        if devices > limits.KEY_RECIPIENTS_MAX:
            raise LimitExceeded(
                f"the members of a conversation have at most {limits.KEY_RECIPIENTS_MAX} devices in all."
            )
        said = [_said(person, role, history=history) for person in new]
        said += [_said(p, joined[subjects[p.topic]].role, history=True) for p in granted]
        if said:
            _rule(replica, log, said, now_ms)
        if new:
            # The present epoch opens what was written before.
            replica.begin_epoch(log, now_ms, fresh=not history)
    return [*new, *granted]


def _require_history(own: Joined) -> None:
    if not own.history:
        raise UserError(
            "you cannot read yourself what was written before you joined, so you cannot let others read it. "
            "Add them without it ('mlog add --no-history'), or ask somebody who can."
        )


def set_role(replica: Replica, log: int, person: Person, role: Role, now_ms: int) -> None:
    """Make a member an admin, or an admin a member.

    Raises:
        UserError: This person is no admin, or that one no member, or it would leave no admin.
    """
    with replica.transaction():
        require_admin(replica, log, "change roles")
        subject = replica.people.subject_of_topic(person.topic)
        joined = {member.subject: member for member in _joined(replica, log)}
        known = {subject: member.role for subject, member in joined.items()}
        if subject not in known:
            raise UserError(f"{person.name} is not in this conversation. 'mlog add' comes first.")
        if known[subject] == role:
            return
        if role == Role.MEMBER and list(known.values()).count(Role.ADMIN) == 1:
            raise UserError("a conversation needs an admin: make somebody else one first.")
        _rule(replica, log, [_said(person, role, history=joined[subject].history)], now_ms)


def remove(replica: Replica, log: int, joined: Joined, now_ms: int) -> None:
    """Remove a person: what it wrote so far, as far as it is here, still counts, and it reads nothing more.

    Raises:
        UserError: This person is no admin.
    """
    with replica.transaction():
        require_admin(replica, log, "remove anybody")
        _end(replica, log, joined, now_ms)
        replica.begin_epoch(log, now_ms, fresh=True)


def leave(replica: Replica, log: int, now_ms: int) -> None:
    """Leave a conversation, for all devices of this person: what it has so far it keeps.

    Raises:
        UserError: This person is not in it, or is alone in it, or would leave it without an admin.
    """
    with replica.transaction():
        joined = _joined(replica, log)
        own = next((j for j in joined if j.subject == replica.people.subject()), None)
        if own is None:
            raise UserError("you are not in this conversation.")
        if len(joined) == 1:
            raise UserError("you are alone in this conversation: there is nobody to leave.")
        if own.role == Role.ADMIN and sum(j.role == Role.ADMIN for j in joined) == 1:
            raise UserError(
                "you are its only admin: make somebody else one first ('mlog members CONVERSATION PERSON "
                "admin')."
            )
        _end(replica, log, own, now_ms)


def require_writable(replica: Replica, log: int) -> None:
    """Refuse to write what would not count.

    Raises:
        UserError: This person is not in the conversation, or nobody knows yet who is.
    """
    if not replica.people.has_begun(log):
        raise UserError(
            "the beginning of this conversation is not here yet: 'mlog sync' first, then try again."
        )
    if not replica.people.may_write(log):
        raise UserError(
            f"you are not in this conversation any more: what you write would reach nobody. {AGAIN}"
        )


def require_admin(replica: Replica, log: int, what: str) -> None:
    """Refuse what only an admin may do, or a member where nobody is admin.

    Raises:
        UserError: This person is no admin of the conversation.
    """
    role = replica.people.role(log)
    if role == Role.NONE:
        raise UserError(f"you are not in this conversation any more. {AGAIN}")
    if role != Role.ADMIN:
        admins = [j for j in _joined(replica, log) if j.role == Role.ADMIN]
        if admins:
            names = ", ".join(_name(replica, j) for j in admins)
            raise UserError(f"only an admin of this conversation can {what}: ask {names}.")


def _name(replica: Replica, joined: Joined) -> str:
    contact, person = replica.people.contact_of(joined.subject), replica.people.person_of(joined.subject)
    return contact.name if contact is not None else person.name if person is not None else joined.name


def _joined(replica: Replica, log: int) -> list[Joined]:
    membership = replica.people.membership(log)
    if membership is not None:
        return membership.joined()
    return [Joined(subject=replica.people.subject(), role=Role.ADMIN)]


def _said(person: Person, role: Role, *, history: bool) -> bodies.Member:
    return bodies.Member(
        person=person.topic,
        role=_WORDS[role],
        relies=person.newest.hex(),
        history=history,
        name=person.name,
    )


def _end(replica: Replica, log: int, joined: Joined, now_ms: int) -> None:
    """Say that a person belongs to it no more, and where its chains end; in as many rulings as it takes."""
    people, store = replica.people, replica.store
    person, cuts = people.person_of(joined.subject), people.cuts(log)
    topic = joined.topic if joined.topic is not None else person.topic if person is not None else None
    assert topic is not None
    ends: list[bodies.ChainEnd] = []
    for chain in store.chains(log):
        if people.subject_of(chain.device) != joined.subject:
            continue
        ends += [
            bodies.ChainEnd(device=chain.device, incarnation=chain.incarnation, seq=seq, id=id_.hex())
            for seq, id_ in tips_of(store, chain, cuts.counts(chain))
        ]
    parts = [tuple(ends[at : at + limits.CUTS_MAX]) for at in range(0, len(ends), limits.CUTS_MAX)] or [()]
    relies = person.newest.hex() if person is not None else ""
    name = person.name if person is not None else joined.name
    said = [
        bodies.Member(person=topic, role=_WORDS[Role.NONE], relies=relies, name=name, cuts=part)
        for part in parts
    ]
    _rule(replica, log, said, now_ms)


def _rule(replica: Replica, log: int, said: Sequence[bodies.Member], now_ms: int) -> None:
    replica.rule(log, [Draft(Kind.MEMBER, body, now_ms) for body in said], now_ms)
