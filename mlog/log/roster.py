"""Roster: who belongs or belonged to each conversation, kept as rows for scripts (docs/sql.md).

It follows from the entries and person logs that are here, and is made anew whenever these may have changed.
Nothing is decided by it: what counts is worked out from the entries each time (mlog/log/membership.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlog.log.authority import Role
from mlog.log.peers import MemberRow
from mlog.log.store import LogKind

if TYPE_CHECKING:
    from mlog.log.membership import Membership
    from mlog.log.replica import Replica

__all__ = ["refresh_roster", "refresh_rosters", "roster"]


def refresh_rosters(replica: Replica) -> None:
    """Make the rows of all conversations anew, within a transaction."""
    for row in replica.store.logs():
        if row.kind == LogKind.CONVERSATION and row.secret:
            refresh_roster(replica, row.n)


def refresh_roster(replica: Replica, log: int) -> None:
    """Make the rows of one conversation anew, within a transaction."""
    rows = roster(replica, log)
    if rows != replica.store.members(log):
        replica.store.put_members(log, rows)


def roster(replica: Replica, log: int) -> list[MemberRow]:
    """Who belongs to a conversation, then who does no more, each in the order of joining; of one to which
    nobody was ever let in, nobody."""
    membership = replica.people.membership(log)
    if membership is None:
        return []
    present = [joined.subject for joined in membership.joined()]
    gone = [subject for subject in membership.had_role() if subject not in present]
    return [_row(replica, log, membership, subject) for subject in (*present, *gone)]


def _row(replica: Replica, log: int, membership: Membership, subject: bytes) -> MemberRow:
    people = replica.people
    role, ended = membership.role(subject), membership.ended_by(subject)
    since = membership.came_by(subject)
    known = [ruling.id for ruling in (since, ended) if ruling is not None]
    times = {id_: row.time_ms for id_, row in replica.store.find(log, known).items()}
    person = people.person_of(subject)
    name, topic = membership.called(subject)
    if person is not None:
        topic = person.topic
    how = ""
    if role == Role.NONE:
        how = "left" if ended is not None and ended.author == subject else "removed"
    return MemberRow(
        log=log,
        subject=subject,
        topic=topic,
        name=people.name_of(subject) or name,
        role="" if role == Role.NONE else role.name.lower(),
        here=subject == people.subject(),
        history=membership.has_history(subject),
        since_ms=times.get(since.id, 0) if since is not None else people.began_ms(log),
        ended=how,
        ended_ms=times.get(ended.id, 0) if ended is not None else 0,
        ended_by=people.name_of(ended.author) if ended is not None and how == "removed" else "",
    )
