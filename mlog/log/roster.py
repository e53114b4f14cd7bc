"""Roster: who belongs or belonged to each conversation, kept as rows for scripts (docs/sql.md).

It follows from the entries and person logs that are here, and is made anew whenever these may have changed.
Nothing is decided by it: what counts is worked out from the entries each time (mlog/log/membership.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlog.log.authority import Role
from mlog.log.ids import EntryId
from mlog.log.peers import MemberRow
from mlog.log.store import LogKind

if TYPE_CHECKING:
    from mlog.log.membership import Membership
    from mlog.log.replica import Replica

__all__ = ["refresh_roster", "refresh_rosters", "roster"]


def refresh_rosters(replica: Replica) -> None:
    """Make the rows of all conversations anew, within a transaction."""
    names = replica.people.names()
    for row in replica.store.logs():
        if row.kind == LogKind.CONVERSATION and row.secret:
            refresh_roster(replica, row.n, names)


def refresh_roster(replica: Replica, log: int, names: Mapping[bytes, str] | None = None) -> None:
    """Make the rows of one conversation anew, within a transaction."""
    rows = roster(replica, log, names)
    if rows != replica.store.members(log):
        replica.store.put_members(log, rows)


def roster(replica: Replica, log: int, names: Mapping[bytes, str] | None = None) -> list[MemberRow]:
    """Who belongs to a conversation, then who does no more, each in the order of joining; of one to which
    nobody was ever let in, nobody.

    Args:
        names: `People.names`, where it is known.
    """
    membership = replica.people.membership(log)
    if membership is None:
        return []
    names = names if names is not None else replica.people.names()
    present = [joined.subject for joined in membership.joined()]
    subjects = [*present, *(subject for subject in membership.had_role() if subject not in present)]
    rulings = [r for s in subjects for r in (membership.came_by(s), membership.ended_by(s)) if r is not None]
    times = {id_: row.time_ms for id_, row in replica.store.find(log, {r.id for r in rulings}).items()}
    return [_row(replica, log, membership, subject, times, names) for subject in subjects]


def _row(
    replica: Replica,
    log: int,
    membership: Membership,
    subject: bytes,
    times: Mapping[EntryId, int],
    names: Mapping[bytes, str],
) -> MemberRow:
    people = replica.people
    role, came, ended = membership.role(subject), membership.came_by(subject), membership.ended_by(subject)
    person, (name, topic) = people.person_of(subject), membership.called(subject)
    how = ""
    if role == Role.NONE:
        how = "left" if ended is not None and ended.author == subject else "removed"
    return MemberRow(
        log=log,
        subject=subject,
        topic=person.topic if person is not None else topic,
        name=names.get(subject, name),
        role="" if role == Role.NONE else role.name.lower(),
        here=subject == people.subject(),
        history=membership.has_history(subject),
        since_ms=times.get(came.id, 0) if came is not None else people.began_ms(log),
        ended=how,
        ended_ms=times.get(ended.id, 0) if ended is not None else 0,
        ended_by=names.get(ended.author, "") if ended is not None and how == "removed" else "",
    )
