"""Ranks: in which order the entries of a log stand, and what moves where one comes behind those that name it.

An entry's rank is `max(time, 1 + the greatest rank of its order parents)`: sorting by (rank, id) never puts
it before one that it names, however wrong the clocks. docs/protocol.md, 6.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final

from mlog.log.bodies import Kind
from mlog.log.entry import NO_ENTRY, Header
from mlog.log.ids import EntryId
from mlog.log.store import EntryRow, Place, Store, Task, place_of

__all__ = ["CHILDREN_AT_ONCE", "Ranks", "is_retold", "parents_of", "settle_children", "settle_ranks"]

CHILDREN_AT_ONCE: Final = 200
"""Entries that name one which comes after them, and are put behind it together: 2 ms."""


class Ranks:
    """Ranks of the entries that a batch names, and of those that it makes."""

    def __init__(self, known: Iterable[EntryRow | Place]):
        self._ranks = {
            row.id: (row.rank, row.retold if isinstance(row, Place) else row.is_retold) for row in known
        }

    def add(self, id_: EntryId, header: Header) -> int:
        retold = is_retold(header)
        rank = header.time_ms
        for parent in parents_of(header):
            known = self._ranks.get(parent)
            if known is not None and known[0] >= rank and (known[1] or not retold):
                rank = known[0] + 1
        self._ranks[id_] = (rank, retold)
        return rank


def parents_of(header: Header) -> tuple[EntryId, ...]:
    return header.parents if header.prev == NO_ENTRY else (header.prev, *header.parents)


def is_retold(header: Header) -> bool:
    """Whether its time and order are those of another chat."""
    return header.mid is not None or header.kind == Kind.IMPORT


def settle_ranks(store: Store, log: int, budget: int) -> tuple[list[Place], int]:
    """Put entries, and what follows from them, behind what they name.

    What was here was in order, so going by the old ranks looks at each entry once, after all
    that it names.

    Args:
        budget: Entries that are looked at, at most.

    Returns:
        Those that moved, as they stood before, and what is left of the budget.
    """
    tasks = dict(store.unsettled(log, Task.RANK, budget))
    if not tasks:
        return [], budget
    least, moved, ranks = dict(tasks), list[Place](), dict[int, int]()
    places = {n: place_of(row) for n, row in store.rows(tasks).items() if row.chain}
    waiting = [(place.rank, n) for n, place in places.items()]
    heapify(waiting)
    while waiting and budget > 0:
        budget -= 1
        _, n = heappop(waiting)
        place, rank = places.pop(n), least.pop(n)
        if rank <= ranks.get(n, place.rank):
            continue
        ranks[n] = rank
        moved.append(place)
        after = store.places_at([(place.chain, place.seq + 1)])
        named_by = store.children_behind(log, place.id, 0, CHILDREN_AT_ONCE)
        if len(named_by) == CHILDREN_AT_ONCE:
            store.change_unsettled(log, Task.BEHIND, [(n, named_by[-1].n)], [n])
            budget -= CHILDREN_AT_ONCE // 2
        for child in (*after.values(), *named_by):
            if rank < ranks.get(child.n, child.rank) or (child.retold and not place.retold):
                continue
            if child.n not in places:
                places[child.n] = child
                heappush(waiting, (child.rank, child.n))
            least[child.n] = max(least.get(child.n, 0), rank + 1)
    store.set_ranks(ranks.items())
    left = [(n, rank) for n, rank in least.items() if n in places]
    store.change_unsettled(log, Task.RANK, left, [n for n in tasks if n not in places])
    return moved, budget


def settle_children(store: Store, log: int, budget: int) -> int:
    """Have entries put behind one that very many of them name, some at a time; gives what it cost."""
    cost = 0
    for n, after in store.unsettled(log, Task.BEHIND, budget // CHILDREN_AT_ONCE):
        cost += CHILDREN_AT_ONCE // 2
        row = store.rows([n], bodies=False).get(n)
        named_by = store.children_behind(log, row.id, after, CHILDREN_AT_ONCE) if row is not None else []
        more = [(n, named_by[-1].n)] if len(named_by) == CHILDREN_AT_ONCE else []
        store.change_unsettled(log, Task.BEHIND, more, [n])
        low = [
            child
            for child in named_by
            if row is not None and row.rank >= child.rank and (row.is_retold or not child.retold)
        ]
        if row is not None and low:
            store.change_unsettled(log, Task.RANK, [(child.n, row.rank + 1) for child in low], ())
    return cost
