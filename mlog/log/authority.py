"""Authority: who may decide, and whose decisions stand, in a log that many write to while apart.

One pure rule for two uses: the devices of a person (subjects are devices, in a person log), and the
members of a conversation (subjects are persons). A **ruling** gives a subject a role, or takes it
away. Each names the rulings that its author knew, so rulings form a DAG of their own, and a right is
checked at the place in this DAG where it was used, never by a clock:

1. A ruling stands if its author could make it by the rulings in its past that stand.
2. Of rulings about one subject the latest in the DAG hold; of concurrent ones the lowest role.
3. A ruling that takes something from a subject also undoes what that subject ruled concurrently with
   it (a removal wins). Of two subjects that take from each other at the same time, the one that
   joined first prevails: such rulings are decided one after the other, by the seniority of their
   authors. One that is decided is not undone; if a later decision takes the ground from it, it falls.

The outcome depends on the set of rulings only, not on the order in which they came.
docs/protocol.md, 4.7, has worked examples.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum

import msgspec

from mlog import limits
from mlog.log.ids import EntryId

__all__ = ["Authority", "Court", "Role", "Ruling", "decide"]


class Role(IntEnum):
    """What a subject may do; the lower one holds where rulings about it are concurrent."""

    NONE = 0
    MEMBER = 1
    ADMIN = 2


class Ruling(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """From here on `subject` has `role`, says `author`.

    Attributes:
        rank: Place in the order of the view, ties broken by id; behind all in `past`.
        past: Rulings that it names; what they name belongs to its past too.
    """

    id: EntryId
    rank: int
    author: bytes
    subject: bytes
    role: Role
    past: frozenset[EntryId] = frozenset()


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """What a set of rulings comes to.

    Attributes:
        roles: Of each subject that has one now, in the order in which they joined.
        standing: The rulings that stand, in the order of the view.
        ever: Subjects that had a role at some time.
    """

    roles: dict[bytes, Role]
    standing: tuple[Ruling, ...]
    ever: frozenset[bytes]

    def removals(self, subject: bytes) -> list[Ruling]:
        """The rulings that stand and took the role of a subject away, also where it came back."""
        return [r for r in self.standing if r.subject == subject and r.role == Role.NONE]


def decide(founder: bytes, rulings: Iterable[Ruling]) -> Authority:
    """Work out whose rulings stand, and who has which role by them.

    Args:
        founder: Has the role ADMIN from the start.
    """
    return Court(founder, rulings).decide()


class Court:
    """One decision, and what it means for other entries that name rulings.

    Rulings are known by their index in the order of the view; sets of them are the bits of an integer,
    so that a thousand of them are compared at once.
    """

    def __init__(self, founder: bytes, rulings: Iterable[Ruling]):
        self._founder = founder
        self._rulings: Sequence[Ruling] = sorted(rulings, key=lambda ruling: (ruling.rank, ruling.id))
        self._about: dict[bytes, int] = {}
        self._past: list[int] = []
        self._index = index = dict[EntryId, int]()
        self._stands = 0
        for i, ruling in enumerate(self._rulings):
            past = 0
            for id_ in ruling.past:
                # What stands behind it in the view cannot be in its past.
                if (known := index.get(id_)) is not None:
                    past |= 1 << known | self._past[known]
            self._past.append(past)
            index[ruling.id] = i
            self._about[ruling.subject] = self._about.get(ruling.subject, 0) | 1 << i
        self._by: dict[bytes, int] = {}
        for i, ruling in enumerate(self._rulings):
            self._by[ruling.author] = self._by.get(ruling.author, 0) | 1 << i

    def decide(self) -> Authority:
        """Work out what stands."""
        standing = self._stands = self._settle()
        seniors = self._seniority(standing)
        roles = {subject: self._role(subject, standing) for subject in seniors}
        return Authority(
            roles={subject: role for subject, role in roles.items() if role != Role.NONE},
            standing=tuple(ruling for i, ruling in enumerate(self._rulings) if standing >> i & 1),
            ever=frozenset(seniors),
        )

    def role_at(self, subject: bytes, known: Collection[EntryId]) -> Role:
        """The role that a subject had for who knew these rulings and their past, by what stands of them."""
        return self._role(subject, self._reached(known) & self._stands)

    def knew(self, known: Collection[EntryId], rulings: Iterable[Ruling]) -> list[bool]:
        """Of each of these rulings whether who knew the first ones knew it."""
        reached = self._reached(known)
        return [bool(reached >> self._index[ruling.id] & 1) for ruling in rulings]

    def heads(self) -> list[EntryId]:
        """The rulings that stand and are in the past of no other that does, the latest first."""
        found: list[EntryId] = []
        left = self._stands
        while left:
            latest = left.bit_length() - 1
            found.append(self._rulings[latest].id)
            left &= ~(1 << latest | self._past[latest])
        return found

    def _reached(self, known: Collection[EntryId]) -> int:
        reached = 0
        for id_ in known:
            if (i := self._index.get(id_)) is not None:
                reached |= 1 << i | self._past[i]
        return reached

    def _settle(self) -> int:
        """Decide disputes, the most senior author's first, until none is left; what stands then."""
        decided: list[int] = []
        void = 0
        for left in range(2 * limits.DISPUTES_MAX, -1, -1):
            standing = self._standing(decided, void)
            fallen = [i for i in decided if not standing >> i & 1]
            if fallen:
                # A later decision took the ground from it: it undoes nothing, and never comes back.
                decided = [i for i in decided if i not in fallen]
                void |= sum(1 << i for i in fallen)
                continue
            disputed = [i for i in self._disputed(standing) if i not in decided]
            if not disputed:
                return standing
            seniors = self._seniority(standing)
            disputed.sort(key=lambda i: (seniors.get(self._rulings[i].author, len(seniors)), i))
            # Beyond the bound all that is left is decided at once: more does not happen without malice.
            decided += disputed[:1] if left > limits.DISPUTES_MAX else disputed
        return self._standing([], void | sum(1 << i for i in decided))

    def _standing(self, decided: Sequence[int], void: int) -> int:
        """The rulings that stand, where of those that take something only the decided ones undo others."""
        standing = 0
        for i, ruling in enumerate(self._rulings):
            if void >> i & 1 or not self._may(i, ruling, standing):
                continue
            if i in decided or not self._is_undone(i, decided):
                standing |= 1 << i
        return standing

    def _may(self, i: int, ruling: Ruling, standing: int) -> bool:
        """Whether its author had the right, by what stands in its past."""
        known = standing & self._past[i]
        role = self._role(ruling.author, known)
        if ruling.subject == ruling.author and ruling.role < role:
            return True
        return role == Role.ADMIN or (role == Role.MEMBER and not self._has_admin(known))

    def _has_admin(self, known: int) -> bool:
        """Whether anybody is admin; where none is left all members are, so that nothing is stuck."""
        return any(self._role(subject, known) == Role.ADMIN for subject in {self._founder, *self._about})

    def _is_undone(self, i: int, decided: Iterable[int]) -> bool:
        author, leaves = self._rulings[i].author, self._rulings[i].subject == self._rulings[i].author
        return not leaves and any(
            self._rulings[j].subject == author and self._are_concurrent(i, j) for j in decided
        )

    def _are_concurrent(self, i: int, j: int) -> bool:
        return i != j and not self._past[i] >> j & 1 and not self._past[j] >> i & 1

    def _disputed(self, standing: int) -> list[int]:
        """Rulings that stand, and take from a subject something that it used at the same time."""
        found: list[int] = []
        for i, ruling in enumerate(self._rulings):
            if not standing >> i & 1 or ruling.role == Role.ADMIN or ruling.subject == ruling.author:
                continue
            if (
                ruling.role == Role.MEMBER
                and self._role(ruling.subject, standing & self._past[i]) != Role.ADMIN
            ):
                continue
            apart = self._by.get(ruling.subject, 0) & standing & ~self._past[i]
            if any(self._are_concurrent(i, j) for j in _bits(apart)):
                found.append(i)
        return found

    def _role(self, subject: bytes, known: int) -> Role:
        """The role of a subject by these rulings: the lowest that the latest of them give."""
        left = self._about.get(subject, 0) & known
        if not left:
            return Role.ADMIN if subject == self._founder else Role.NONE
        role = Role.ADMIN
        while left:
            latest = left.bit_length() - 1
            role = min(role, self._rulings[latest].role)
            left &= ~(1 << latest | self._past[latest])
        return role

    def _seniority(self, standing: int) -> dict[bytes, int]:
        """Each subject that ever had a role, with its place in the order of joining."""
        joined = {self._founder: 0}
        for i in _bits(standing):
            ruling = self._rulings[i]
            if ruling.role != Role.NONE:
                joined.setdefault(ruling.subject, len(joined))
        return joined


def _bits(left: int) -> Iterable[int]:
    """The indices of the bits that are set, ascending."""
    while left:
        low = left & -left
        yield low.bit_length() - 1
        left ^= low
