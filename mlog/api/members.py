"""Members: who is in a conversation: list, add, remove, leave, roles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mlog.api.contacts import person_named
from mlog.errors import UserError
from mlog.log import ruling
from mlog.log.authority import Role
from mlog.log.membership import Joined

if TYPE_CHECKING:
    from mlog.api.home import Conversation, Home

__all__ = ["KnownMember", "add", "leave", "members", "new_with", "remove", "set_role"]


class KnownMember(msgspec.Struct, frozen=True, kw_only=True):
    """A person in a conversation.

    Attributes:
        name: The contact's name, else what the person calls itself.
        role: "admin" or "member".
        history: It may read what was written before it came.
        here: It is this person.
        devices: Names of its devices; none until its log is here.
    """

    name: str
    role: str
    here: bool
    contact: bool
    history: bool = True
    devices: tuple[str, ...] = ()


def members(home: Home, log: int) -> list[KnownMember]:
    """Who is in a conversation, in the order in which they joined."""
    people = home.replica.people
    membership = people.membership(log)
    joined = (
        membership.joined() if membership is not None else [Joined(subject=people.subject(), role=Role.ADMIN)]
    )
    return [_known(home, member) for member in joined]


def _known(home: Home, joined: Joined) -> KnownMember:
    people = home.replica.people
    person, contact = people.person_of(joined.subject), people.contact_of(joined.subject)
    name = contact.name if contact is not None else person.name if person is not None else joined.name
    return KnownMember(
        name=name or "somebody",
        role=joined.role.name.lower(),
        here=joined.subject == people.subject(),
        contact=contact is not None,
        history=joined.history,
        devices=tuple(m.name for m in person.machines) if person is not None else (),
    )


def new_with(home: Home, title: str, names: Sequence[str]) -> Conversation:
    """Start a conversation with contacts.

    Raises:
        UserError: The title is empty or taken, or a name is not that of one contact whose log is here.
    """
    with home.replica.transaction():
        persons = [person_named(home, name) for name in names]
        conversation = home.new(title)
        ruling.add(home.replica, conversation.n, persons, home.now_ms())
    return conversation


def add(home: Home, log: int, names: Sequence[str], *, history: bool = False) -> list[str]:
    """Let contacts into a conversation; gives the names of those for whom that changed anything.

    Args:
        history: They may read what was written before, too. It can be given later, to who is in it already,
            and never be taken back.

    Raises:
        UserError: A name is not that of one contact whose log is here, or this person is no admin, or may
            not read itself what was written before.
    """
    with home.replica.transaction():
        persons = [person_named(home, name) for name in names]
        new = ruling.add(home.replica, log, persons, home.now_ms(), history=history)
    return [person.name for person in new]


def remove(home: Home, log: int, name: str) -> KnownMember:
    """Remove a person from a conversation: it keeps what it has, and gets and reads nothing more.

    Raises:
        UserError: Nobody there, or several, have this name; or this person is no admin.
    """
    joined = _named(home, log, name)
    if joined.subject == home.replica.people.subject():
        raise UserError("this is you: 'mlog leave CONVERSATION' does that.")
    known = _known(home, joined)
    ruling.remove(home.replica, log, joined, home.now_ms())
    _settle(home, log)
    return known


def leave(home: Home, log: int) -> None:
    """Leave a conversation with all devices; what is here stays here.

    Raises:
        UserError: This person is not in it, alone in it, or its only admin.
    """
    ruling.leave(home.replica, log, home.now_ms())
    _settle(home, log)


def set_role(home: Home, log: int, name: str, role: str) -> KnownMember:
    """Make somebody an admin or a member.

    Raises:
        UserError: Nobody there, or several, have this name; this person is no admin; or none would be left.
    """
    joined = _named(home, log, name)
    person = home.replica.people.person_of(joined.subject)
    if person is None:
        raise UserError(f"who {name} is has not come here yet: 'mlog sync', then try again.")
    ruling.set_role(home.replica, log, person, Role[role.upper()], home.now_ms())
    return _known(home, _named(home, log, name))


def _named(home: Home, log: int, name: str) -> Joined:
    membership = home.replica.people.membership(log)
    joined = membership.joined() if membership is not None else []
    known, folded = [(member, _known(home, member).name) for member in joined], name.casefold()
    for chosen in (
        [member for member, called in known if called == name],
        [member for member, called in known if called.casefold() == folded],
        [member for member, called in known if folded and called.casefold().startswith(folded)],
    ):
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            break
    listed = "".join(f"\n  {called}" for _, called in known[:20]) or "\n  nobody but you"
    raise UserError(f"{name!r} does not name exactly one person there; these are in it:{listed}")


def _settle(home: Home, log: int) -> None:
    """Fold anew what counts no more, so that the next command shows it."""
    while home.replica.settle(log, home.now_ms()):
        pass
