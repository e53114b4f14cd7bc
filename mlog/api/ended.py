"""Ended: the conversations to which this person belongs no more, and by whose word."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from mlog.errors import UserError
from mlog.log import ruling
from mlog.log.authority import Role

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = ["Ended", "ended", "require_writable", "revoked"]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What ended, and how.

    Attributes:
        how: "removed" or "left"; of this device, "revoked".
        by: Who removed this person, as it is called here; "" where nobody can be named.
        time_ms: When, as who did it claims; 0 where that is not known.
    """

    how: str
    by: str = ""
    time_ms: int = 0

    def __str__(self) -> str:
        """A sentence without its end."""
        day = _day(self.time_ms)
        on = f" on {day}" if day else ""
        if self.how == "left":
            return f"you left this conversation{on}"
        if self.how == "revoked":
            return f"this device was revoked{on}"
        who = f"{self.by} removed you" if self.by else "you were removed"
        return f"{who} from this conversation{on}"


def _day(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat() if time_ms else ""
    except (OverflowError, ValueError, OSError):
        return ""


def ended(home: Home, log: int) -> Ended | None:
    """How this person came out of a conversation; None where it is in it."""
    people = home.replica.people
    membership = people.membership(log)
    if membership is None or people.role(log) != Role.NONE:
        return None
    removal = membership.ended_by(people.subject())
    if removal is None:
        # Who let it in had no right to.
        return Ended(how="removed")
    row = home.store.find(log, [removal.id]).get(removal.id)
    time_ms = row.time_ms if row is not None else 0
    if removal.author == people.subject():
        return Ended(how="left", time_ms=time_ms)
    return Ended(how="removed", by=people.names().get(removal.author, ""), time_ms=time_ms)


def revoked(home: Home) -> Ended | None:
    """When this device was revoked, as far as it has heard; None where it was not."""
    people, here = home.replica.people, home.replica.device_id
    for person in people.persons() if people.is_revoked(here) else ():
        for revocation in person.revocations.get(here, ()):
            row = home.store.find(person.log, [revocation.id]).get(revocation.id)
            return Ended(how="revoked", time_ms=row.time_ms if row is not None else 0)
    return None


def require_writable(home: Home, log: int) -> None:
    """Refuse to write what would not count.

    Raises:
        UserError: This person is not in the conversation, this device was revoked, or nobody knows yet who is
            in it.
    """
    this_device = revoked(home)
    if this_device is not None:
        raise UserError(
            f"{this_device}: what you write on it would reach nobody. To use the machine again, start a new "
            "home on it ('mlog --home FOLDER'), and pair that."
        )
    how = ended(home, log)
    if how is not None:
        raise UserError(f"{how}: what you write would reach nobody. {ruling.AGAIN}")
    ruling.require_writable(home.replica, log)
