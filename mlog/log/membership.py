"""Membership: who belongs to a conversation, in which role, and which of their entries count.

A conversation begins with its founder as the only person. A MEMBER entry is a ruling of its author
about a person: admin, member or none. Whose rulings stand is decided by the rule of
mlog/log/authority.py, with persons as subjects, at the place in the DAG of rulings where each was
made: rulings, and all other entries that need a right, name among their parents the rulings that
their author knew and that no other one names. So none of this needs the messages between them, or a
clock, and replicas that hold the same entries and person logs agree.

Of a chain counts what its person had the right to write: nothing, if its first entry knew of no role of
that person; and if the person was removed, what is within the cuts of each removal that the first entry
did not know of. Who is let in again so begins another chain. docs/protocol.md, 4.8.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import Final

import msgspec

from mlog import limits
from mlog.log import bodies
from mlog.log.authority import Authority, Court, Role, Ruling
from mlog.log.bodies import Kind
from mlog.log.cuts import Cuts, Ends, Part
from mlog.log.ids import DeviceId, EntryId, Incarnation, Topic
from mlog.log.store import ChainRow, Store, TimelineQuery
from mlog.log.stored import readable_body

__all__ = ["NAMES_RULINGS", "Joined", "Membership", "fold_membership", "has_members"]

NAMES_RULINGS: Final = frozenset({Kind.KEY, Kind.REVOKE, Kind.MEMBER, Kind.ERASURE, Kind.EXPIRE})
"""Kinds whose entries name the rulings that their author knew; as does the first entry of each chain."""
_ROLES: Final = {"admin": Role.ADMIN, "member": Role.MEMBER, "none": Role.NONE}
_MEMBERS: Final = frozenset({Kind.MEMBER})


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A person who belongs to a conversation.

    Attributes:
        subject: What the person is known by in the fold, as `Membership` says.
        topic: Of the person's log, as the ruling names it; None for the founder.
        name: What the author of that ruling called the person.
        relies: The entry of the person's log that its author knew as the newest; b"" for none.
        history: Whether the person may read what was written before it came.
        since: The ruling; None for the founder.
    """

    subject: bytes
    role: Role
    topic: Topic | None = None
    name: str = ""
    relies: bytes = b""
    history: bool = True
    since: EntryId | None = None


class _Said(msgspec.Struct, frozen=True, gc=False):
    """A ruling, and what else its entry says."""

    ruling: Ruling
    body: bodies.Member
    device: DeviceId
    incarnation: Incarnation
    seq: int


class Membership:
    """Who belongs to one conversation.

    A **subject** is the device that stands for a person, or the topic of a person log that is not here.

    Args:
        founder: The founder's subject.
        said: All rulings that are looked at.
        subject_of: The subject of a device; None where no person log here has it.
        revoked: As of `fold_membership`.
    """

    def __init__(
        self,
        store: Store,
        founder: bytes,
        said: Iterable[_Said],
        subject_of: Callable[[DeviceId], bytes | None],
        revoked: Cuts,
    ):
        self._store = store
        self._said = {s.ruling.id: s for s in said}
        self._subject_of = subject_of
        self.revoked = revoked
        self.founder = founder
        self._court = Court(founder, [s.ruling for s in self._said.values()])
        self._authority: Authority = self._court.decide()
        self._removals: dict[bytes, list[Ruling]] = {}
        self._about: dict[bytes, list[Ruling]] = {}
        self._grants: frozenset[EntryId] | None = None
        for ruling in self._authority.standing:
            self._about.setdefault(ruling.subject, []).append(ruling)
            if ruling.role == Role.NONE:
                self._removals.setdefault(ruling.subject, []).append(ruling)
        self.rulings: tuple[Ruling, ...] = self._court.rulings
        """All that were looked at, in the order of the view: who has which role follows from them."""
        self.heads: tuple[EntryId, ...] = tuple(self._court.heads()[: limits.PARENTS_MAX // 4])
        """The standing rulings that no other one knows: what an entry that needs a right names."""

    # -- who belongs to it -------------------------------------------------------------------

    def role(self, subject: bytes | None) -> Role:
        """The role of a person now."""
        return self._authority.roles.get(subject, Role.NONE) if subject is not None else Role.NONE

    def joined(self) -> list[Joined]:
        """Those who belong to it now, in the order in which they joined."""
        latest: dict[bytes, _Said] = {}
        for ruling in self._authority.standing:
            if ruling.role != Role.NONE:
                latest[ruling.subject] = self._said[ruling.id]
        return [self._joined(subject, role, latest) for subject, role in self._authority.roles.items()]

    def _joined(self, subject: bytes, role: Role, latest: Mapping[bytes, _Said]) -> Joined:
        said, history = latest.get(subject), self.has_history(subject)
        if said is None:
            return Joined(subject=subject, role=role, history=history)
        return Joined(
            subject=subject,
            role=role,
            topic=Topic(said.body.person),
            name=said.body.name,
            relies=bytes.fromhex(said.body.relies),
            history=history,
            since=said.ruling.id,
        )

    def named(self) -> set[Topic]:
        """The person logs that its rulings name."""
        return {Topic(s.body.person) for s in self._said.values()}

    def had_role(self) -> list[bytes]:
        """All who have or had a role, in the order in which they joined."""
        found = dict.fromkeys([self.founder])
        found.update(dict.fromkeys(r.subject for r in self._authority.standing if r.role != Role.NONE))
        return list(found)

    def came_by(self, subject: bytes) -> Ruling | None:
        """The ruling by which a person came in last; None for the founder who never went."""
        found: Ruling | None = None
        was = Role.ADMIN if subject == self.founder else Role.NONE
        for ruling in self._about.get(subject, ()):
            if was == Role.NONE and ruling.role != Role.NONE:
                found = ruling
            was = ruling.role
        return found

    def called(self, subject: bytes) -> tuple[str, bytes]:
        """What the latest ruling about a person calls it, and the log that it names."""
        about = self._about.get(subject, ())
        body = self._said[about[-1].id].body if about else None
        return (body.name, body.person) if body is not None else ("", b"")

    def subjects(self) -> set[bytes]:
        """All who belong or belonged to it."""
        return {*self._authority.ever, self.founder}

    def relied_on(self) -> dict[EntryId, tuple[Topic, EntryId]]:
        """By ruling that stands, the person log and the entry in it that it relies on."""
        said = (self._said[ruling.id] for ruling in self._authority.standing)
        return {
            s.ruling.id: (Topic(s.body.person), EntryId(bytes.fromhex(s.body.relies)))
            for s in said
            if s.body.relies
        }

    # -- rights ------------------------------------------------------------------------------

    def stands(self, ruling: EntryId) -> bool:
        """Whether a MEMBER entry is a ruling that stands."""
        return any(standing.id == ruling for standing in self._authority.standing)

    def role_at(self, subject: bytes | None, known: Collection[EntryId]) -> Role:
        """The role of a person for whoever knew these rulings."""
        return self._court.role_at(subject, known) if subject is not None else Role.NONE

    def may_rule_at(self, subject: bytes | None, known: Collection[EntryId]) -> bool:
        """Whether a person could add and remove others, for whoever knew these rulings."""
        return subject is not None and self._court.may_rule_at(subject, known)

    def knew_removals(self, known: Collection[EntryId]) -> bool:
        """Whether who knew these rulings knew of everybody who was removed."""
        return all(self._court.knew(known, (r for of in self._removals.values() for r in of)))

    def knew_a_removal(self, known: Collection[EntryId]) -> bool:
        """Whether who knew these rulings knew of anybody who was removed."""
        return any(self._court.knew(known, (r for of in self._removals.values() for r in of)))

    def has_history(self, subject: bytes) -> bool:
        """Whether a person may read also what was written before it came."""
        return self._has_history(subject, self._granting(), self._removals.get(subject, ()))

    def any_without_history(self) -> bool:
        """Whether anybody was ever let in without it."""
        return any(
            r.role != Role.NONE and not self._said[r.id].body.history for r in self._authority.standing
        )

    def _granting(self) -> frozenset[EntryId]:
        """The standing rulings that let a person read what was written before: nobody gives what it lacks."""
        if self._grants is None:
            found: set[EntryId] = set()
            for ruling in self._authority.standing:
                if ruling.role == Role.NONE or not self._said[ruling.id].body.history:
                    continue
                removals = self._known(ruling, self._removals.get(ruling.author, ()))
                own = {r.id for r in self._known(ruling, self._about.get(ruling.author, ()))}
                if self._has_history(ruling.author, found & own, removals):
                    found.add(ruling.id)
            self._grants = frozenset(found)
        return self._grants

    def _known(self, ruling: Ruling, others: Sequence[Ruling]) -> list[Ruling]:
        """Those of these rulings that the author of one knew."""
        knew = self._court.knew(ruling.past, others)
        return [r for r, known in zip(others, knew, strict=True) if known]

    def _has_history(self, subject: bytes, granting: Set[EntryId], removals: Sequence[Ruling]) -> bool:
        """Whether a person has the history by these grants: what it was removed from it lost, grants too."""
        if subject == self.founder and not removals:
            return True
        return any(
            ruling.id in granting and all(self._court.knew(ruling.past, removals))
            for ruling in self._about.get(subject, ())
        )

    def removed_by(self, subject: bytes) -> EntryId | None:
        """The latest ruling that removed a person."""
        removals = self._removals.get(subject)
        return removals[-1].id if removals else None

    def was_removed(self, subject: bytes) -> bool:
        """Whether a person belonged to it and does not any more, and not because it left itself."""
        removals = self._removals.get(subject, ())
        return self.role(subject) == Role.NONE and any(r.author != subject for r in removals)

    def removal_of(self, subject: bytes) -> list[EntryId]:
        """The rulings that removed a person, and those that they rest on."""
        return self._court.resting_on(r for r in self._removals.get(subject, ()) if r.author != subject)

    def ended_by(self, subject: bytes) -> Ruling | None:
        """The latest ruling that a person belongs to it no more; None if it does, or never did."""
        removals = self._removals.get(subject)
        return removals[-1] if removals and self.role(subject) == Role.NONE else None

    def ends_of(self, part: Part) -> Ends | None:
        """Where a chain ends, by the rights of its person; None where all of it counts."""
        chain = part.chain
        subject = self._subject_of(chain.device)
        if subject is None:
            return frozenset()
        removals = self._removals.get(subject, ())
        first = part.first()
        if first is None:
            # Not here yet: then what is said of the person now tells.
            if self.role(subject) != Role.NONE and not any(self._cuts(r, chain) for r in removals):
                return None
            return self._ends(removals, chain)
        known = self._store.parents([first.n]).get(first.n, ())
        if self._court.role_at(subject, known) == Role.NONE:
            return frozenset()
        removals = [
            r for r, knew in zip(removals, self._court.knew(known, removals), strict=True) if not knew
        ]
        return self._ends(removals, chain) if removals else None

    def _ends(self, removals: Iterable[Ruling], chain: ChainRow) -> Ends:
        return {end for ruling in removals for end in self._cuts(ruling, chain)}

    def _cuts(self, ruling: Ruling, chain: ChainRow) -> set[tuple[int, EntryId]]:
        """Where a removal ends a chain; who leaves has said that before the end."""
        said = self._said[ruling.id]
        found = {
            (cut.seq, EntryId(bytes.fromhex(cut.id)))
            for cut in said.body.cuts
            if (cut.device, cut.incarnation) == (chain.device, chain.incarnation)
        }
        if (said.device, said.incarnation) == (chain.device, chain.incarnation) and (
            ruling.author == ruling.subject
        ):
            found.add((said.seq, ruling.id))
        return found


def has_members(store: Store, log: int) -> bool:
    """Whether anybody ever ruled about members in a log."""
    return bool(store.timeline(TimelineQuery(log=log, limit=1, kinds=_MEMBERS, hidden=True)))


def fold_membership(
    store: Store,
    log: int,
    founder: bytes,
    *,
    subject_of: Callable[[DeviceId], bytes | None],
    subject_of_topic: Callable[[Topic], bytes],
    revoked: Cuts,
) -> Membership:
    """Work out who belongs to a conversation.

    Of each person's rulings the first STORE_ROWS_MAX in the order of the view are looked at: who makes
    more than that keeps nobody else's out.

    Args:
        revoked: Where the chains of revoked devices end: what they ruled after that says nothing.
    """
    said: list[_Said] = []
    counts: dict[bytes, int] = {}
    at: dict[tuple[int, int], EntryId] = {}
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=_MEMBERS, hidden=True)
    while rows := store.timeline(query):
        out = revoked.quarantined(rows)
        parents = store.parents([row.n for row in rows])
        chains = {chain.n: chain for chain in store.chain_rows({row.chain for row in rows})}
        for row in rows:
            at[row.chain, row.seq] = row.id
            chain = chains.get(row.chain)
            author = subject_of(chain.device) if chain is not None and row.n not in out else None
            body = readable_body(row.kind, row.body)
            if chain is None or author is None or not isinstance(body, bodies.Member):
                continue
            counts[author] = counts.get(author, 0) + 1
            if counts[author] > limits.STORE_ROWS_MAX:
                continue
            before = at.get((row.chain, row.seq - 1))
            ruling = Ruling(
                id=row.id,
                rank=row.rank,
                author=author,
                subject=subject_of_topic(Topic(body.person)),
                role=_ROLES[body.role],
                past=frozenset((*parents.get(row.n, ()), *((before,) if before is not None else ()))),
            )
            said.append(_Said(ruling, body, chain.device, chain.incarnation, row.seq))
        query = msgspec.structs.replace(query, after=rows[-1].position)
    return Membership(store, founder, said, subject_of, revoked)
