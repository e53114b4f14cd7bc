"""Carrying over: what this home noted of others in a private log that does not count any more.

A device that joins an older person leaves its private log, and one that was begun anew, since no device was
left, gives way where the founder's turns up (docs/protocol.md, 4.6). Whom it had accepted, and who is who in
its imports, is written anew to the private log that counts, where that says nothing of it yet. This waits
until an own device had nothing more to say, so that what the person noted on the other devices is here, and
holds. Labels, pins, read positions and drafts stay behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from mlog import limits
from mlog.log import bodies
from mlog.log.belonging import befriend
from mlog.log.bodies import Kind
from mlog.log.fold import Draft
from mlog.log.identities import Identity, identity_of
from mlog.log.ids import Topic
from mlog.log.people import People
from mlog.log.store import LogKind, Store, TimelineQuery
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = ["carry_over"]

_KINDS: Final = frozenset({Kind.CONTACT, Kind.ALIAS})


def carry_over(replica: Replica, now_ms: int) -> int:
    """Write to this person's private log what the others here say besides; how much that is.

    Durable on return; done once it changes nothing.
    """
    people, store = replica.people, replica.store
    private = people.private_log()
    # Only own devices give a private log, so the others here are such as this person wrote to before; in that
    # of a person to which a revoked device took this one, only what own devices wrote is this person's.
    kept = [row.n for row in store.logs() if row.kind == LogKind.PRIVATE and row.secret and row.n != private]
    if private is None or not kept:
        return 0
    said, own = _said(people, store, [private]), people.subject()
    drafts = [
        Draft(kind, body, now_ms)
        for key, (kind, body) in _said(people, store, kept).items()
        if key not in said and not _is_over(body)
        # Whom it had accepted may be this person itself by now.
        if not isinstance(body, bodies.Contact) or people.subject_of_topic(Topic(body.person)) != own
    ]
    if drafts:
        with replica.transaction():
            replica.write(private, drafts, now_ms)
            replica.people.forget()
            befriend(replica, now_ms)
    return len(drafts)


def _said(
    people: People, store: Store, logs: Iterable[int]
) -> dict[bytes | Identity, tuple[Kind, bodies.Contact | bodies.Alias]]:
    """By person or identity, what own devices said of them last in private logs."""
    found: dict[bytes | Identity, tuple[Kind, bodies.Contact | bodies.Alias]] = {}
    for log in logs:
        query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=_KINDS)
        own = {chain.n for chain in store.chains(log) if people.is_own(chain.device)}
        while rows := store.timeline(query):
            for row in (row for row in rows if row.chain in own):
                body = readable_body(row.kind, row.body)
                if isinstance(body, bodies.Contact):
                    found[body.person] = Kind.CONTACT, body
                elif isinstance(body, bodies.Alias):
                    found[identity_of(body.format, body.uid, body.by)] = Kind.ALIAS, body
            query = msgspec.structs.replace(query, after=rows[-1].position)
    return found


def _is_over(body: bodies.Contact | bodies.Alias) -> bool:
    """Whether an entry only takes something back."""
    return body.removed if isinstance(body, bodies.Contact) else not body.person
