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

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    so that a thousand of them are compared at once. Nothing here compares all of them with each other:
    who may rule may make thousands, to have others work.
    """

    def __init__(self, founder: bytes, rulings: Iterable[Ruling]):
        self._founder = founder
        self.rulings = tuple(sorted(rulings, key=lambda ruling: (ruling.rank, ruling.id)))
        self._index = index = dict[EntryId, int]()
        self._named: list[list[int]] = []
        self._past: list[int] = []
        self._about: dict[bytes, int] = {}
        self._by: dict[bytes, int] = {}
        self._giving = dict.fromkeys(Role, 0)
        self._replaced: list[int] = []
        """Of each ruling those about the same subject that it knew: where it stands they hold no more."""
        self._over: list[int] = []
        """Of each ruling what those in its past that stand have replaced."""
        self._stands = 0
        for i, ruling in enumerate(self.rulings):
            # What stands behind it in the view cannot be in its past.
            named = [index[id_] for id_ in ruling.past if id_ in index]
            past = _union(1 << known | self._past[known] for known in named)
            self._named.append(named)
            self._past.append(past)
            self._replaced.append(past & self._about.get(ruling.subject, 0))
            index[ruling.id] = i
            self._about[ruling.subject] = self._about.get(ruling.subject, 0) | 1 << i
            self._by[ruling.author] = self._by.get(ruling.author, 0) | 1 << i
            self._giving[ruling.role] |= 1 << i

    def decide(self) -> Authority:
        """Work out what stands."""
        standing = self._stands = self._settle()
        over = _union(self._replaced[i] for i in _bits(standing))
        seniors = self._seniority(standing)
        roles = {subject: self._role(subject, standing & ~over) for subject in seniors}
        return Authority(
            roles={subject: role for subject, role in roles.items() if role != Role.NONE},
            standing=tuple(ruling for i, ruling in enumerate(self.rulings) if standing >> i & 1),
            ever=frozenset(seniors),
        )

    def role_at(self, subject: bytes, known: Collection[EntryId]) -> Role:
        """The role that a subject had for who knew these rulings and their past, by what stands of them."""
        return self._role(subject, self._latest_at(known))

    def may_rule_at(self, subject: bytes, known: Collection[EntryId]) -> bool:
        """Whether a subject could rule about others then: an admin, or a member where nobody was admin."""
        latest = self._latest_at(known)
        role = self._role(subject, latest)
        return role == Role.ADMIN or (role == Role.MEMBER and not self._has_admin(latest))

    def _latest_at(self, known: Collection[EntryId]) -> int:
        """The rulings that hold for who knew these and their past: such as stand, and are not replaced."""
        named = [self._index[id_] for id_ in known if id_ in self._index]
        return self._reached(named) & self._stands & ~self._over_of(named, self._stands)

    def knew(self, known: Collection[EntryId], rulings: Iterable[Ruling]) -> list[bool]:
        """Of each of these rulings whether who knew the first ones knew it."""
        reached = self._reached([self._index[id_] for id_ in known if id_ in self._index])
        return [bool(reached >> self._index[ruling.id] & 1) for ruling in rulings]

    def resting_on(self, rulings: Iterable[Ruling]) -> list[EntryId]:
        """These rulings and all in their past, in the order of the view."""
        reached = self._reached([self._index[ruling.id] for ruling in rulings])
        return [self.rulings[i].id for i in _bits(reached)]

    def heads(self) -> list[EntryId]:
        """The rulings that stand and are in the past of no other that does, the latest first."""
        found: list[EntryId] = []
        left = self._stands
        while left:
            latest = left.bit_length() - 1
            found.append(self.rulings[latest].id)
            left &= ~(1 << latest | self._past[latest])
        return found

    def _reached(self, named: Iterable[int]) -> int:
        return _union(1 << i | self._past[i] for i in named)

    def _over_of(self, named: Iterable[int], standing: int) -> int:
        """What is replaced for who knows these rulings, by those of them and their past that stand."""
        return _union(self._over[i] | (self._replaced[i] if standing >> i & 1 else 0) for i in named)

    def _settle(self) -> int:
        """Decide disputes, the most senior author's first, until none is left; what stands then."""
        decided = void = 0
        for left in range(2 * limits.DISPUTES_MAX, -1, -1):
            standing = self._standing(decided, void)
            fallen = decided & ~standing
            if fallen:
                # A later decision took the ground from it: it undoes nothing, and never comes back.
                decided &= ~fallen
                void |= fallen
                continue
            disputed = self._disputed(standing) & ~decided
            if not disputed:
                return standing
            if left > limits.DISPUTES_MAX:
                seniors = self._seniority(standing)
                first = min(
                    _bits(disputed), key=lambda i: (seniors.get(self.rulings[i].author, len(seniors)), i)
                )
                disputed = 1 << first
            # Beyond the bound all that is left is decided at once: more does not happen without malice.
            decided |= disputed
        return self._standing(0, void | decided)

    def _standing(self, decided: int, void: int) -> int:
        """The rulings that stand, where of those that take something only the decided ones undo others."""
        undone = self._concurrent(decided, [r.subject for r in self.rulings], self._about, lambda r: r.author)
        standing = 0
        self._over = []
        for i, ruling in enumerate(self.rulings):
            over = self._over_of(self._named[i], standing)
            self._over.append(over)
            if void >> i & 1 or not self._may(ruling, standing & self._past[i] & ~over):
                continue
            leaves = ruling.subject == ruling.author
            if leaves or decided >> i & 1 or not undone >> i & 1:
                standing |= 1 << i
        return standing

    def _may(self, ruling: Ruling, latest: int) -> bool:
        """Whether its author had the right, by the latest rulings in its past about each subject."""
        role = self._role(ruling.author, latest)
        if ruling.subject == ruling.author and ruling.role < role:
            return True
        return role == Role.ADMIN or (role == Role.MEMBER and not self._has_admin(latest))

    def _has_admin(self, latest: int) -> bool:
        """Whether anybody is admin; where none is left all members are, so that nothing is stuck."""
        if self._role(self._founder, latest) == Role.ADMIN:
            return True
        lowered = latest & ~self._giving[Role.ADMIN]
        return any(
            not self._about[self.rulings[i].subject] & lowered
            for i in _bits(latest & self._giving[Role.ADMIN])
        )

    def _disputed(self, standing: int) -> int:
        """Rulings that stand, and take from a subject something that it used at the same time."""
        used = self._concurrent(standing, [r.author for r in self.rulings], self._by, lambda r: r.subject)
        found = 0
        for i in _bits(standing & used & ~self._giving[Role.ADMIN]):
            ruling = self.rulings[i]
            if ruling.subject == ruling.author:
                continue
            latest = standing & self._past[i] & ~self._over[i]
            if ruling.role == Role.NONE or self._role(ruling.subject, latest) == Role.ADMIN:
                found |= 1 << i
        return found

    def _concurrent(
        self,
        chosen: int,
        names: Sequence[bytes],
        named: Mapping[bytes, int],
        name: Callable[[Ruling], bytes],
    ) -> int:
        """The rulings to which one of the chosen is concurrent that has their name.

        Args:
            names: Of each ruling as one of the chosen.
            named: The rulings with a name.
            name: That of a ruling to which they may be concurrent.
        """
        found = 0
        known_to_all: dict[bytes, int] = {}
        for i in range(len(self.rulings) - 1, -1, -1) if chosen else ():
            own = name(self.rulings[i])
            before = named.get(own, 0) & chosen & ~self._past[i] & ((1 << i) - 1)
            # Those behind it know it or are concurrent; what all of them know is enough to tell.
            if before or not known_to_all.get(own, -1) >> i & 1:
                found |= 1 << i
            if chosen >> i & 1:
                known_to_all[names[i]] = known_to_all.get(names[i], -1) & self._past[i]
        return found

    def _role(self, subject: bytes, latest: int) -> Role:
        """The role of a subject: the lowest that the latest rulings about it give."""
        own = self._about.get(subject, 0) & latest
        if not own:
            return Role.ADMIN if subject == self._founder else Role.NONE
        return next(role for role in Role if own & self._giving[role])

    def _seniority(self, standing: int) -> dict[bytes, int]:
        """Each subject that ever had a role, with its place in the order of joining."""
        joined = {self._founder: 0}
        for i in _bits(standing):
            ruling = self.rulings[i]
            if ruling.role != Role.NONE:
                joined.setdefault(ruling.subject, len(joined))
        return joined


def _union(sets: Iterable[int]) -> int:
    """What is in any of these sets."""
    found = 0
    for each in sets:
        found |= each
    return found


def _bits(left: int) -> Iterable[int]:
    """The indices of the bits that are set, ascending."""
    while left:
        low = left & -left
        yield low.bit_length() - 1
        left ^= low
