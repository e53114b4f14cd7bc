"""A crowd: very many entries that say or change one message, folded in slices.

The rule is that of mlog/log/message_fold.py. A hostile member can claim, edit or erase one message a
hundred thousand times, and each further entry would have all of them read and compared at once. So they
are gone through page by page, twice: first to find out what stands for them all, then to apply it. What is
kept in between grows with the texts that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Final, NamedTuple

from mlog import limits
from mlog.log import crypto
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.ids import DeviceId, EntryId, MessageId
from mlog.log.message_fold import CHANGING, ERASED_WITH, Folded, said_by, was_erased
from mlog.log.store import BodyState, EntryRow, Position, Store

__all__ = ["Judged", "Page", "fold_crowd"]

_ROWS: Final = 500


class Judged(NamedTuple):
    """Whose some entries are, and what they are good for; as `fold_message` takes it."""

    authors: Mapping[int, DeviceId]
    quarantined: Set[int]
    anyones: Set[int]


class Page(NamedTuple):
    """Some entries that say and change the message, and what becomes of them."""

    rows: Sequence[EntryRow]
    changes: Sequence[EntryRow]
    folded: Folded


def fold_crowd(
    store: Store, log: int, mid: MessageId, judge: Callable[[Sequence[EntryRow]], Judged]
) -> Iterator[Page | None]:
    """Fold one message; a page for each slice of what becomes of its entries, before these None for each."""
    erased_by, edits = _Erased(), dict[DeviceId | None, tuple[Position, int]]()
    for changes in _changes_of(store, log, mid):
        judged = judge(changes)
        erased_by.note(changes, judged)
        for change in changes:
            if change.kind != Kind.EDIT or change.n in judged.quarantined:
                continue
            if change.state != BodyState.EXPIRED:
                author = judged.authors.get(change.chain)
                edits[author] = max(
                    edits.get(author, (change.position, change.n)), (change.position, change.n)
                )
        yield None
    said = _Said()
    for rows in _said_in(store, log, mid):
        said.note(rows, judge(rows), erased_by)
        yield None
    shown = said.shown()
    for rows in _said_in(store, log, mid):
        judged, spoken = judge(rows), [row for row in rows if row.kind in SPOKEN]
        hidden = {row.n for row in spoken if row.n in judged.quarantined or row.n not in shown}
        folded = Folded(erased_by.among(spoken, judged), hidden, dict[int, int]())
        for row in spoken:
            author = judged.authors.get(row.chain)
            if row.n not in judged.quarantined and not erased_by.erases(author) and author in edits:
                folded.edits[row.n] = edits[author][1]
        yield Page(rows, (), folded)
    for changes in _changes_of(store, log, mid):
        going_with = [change for change in changes if change.kind in ERASED_WITH]
        yield Page((), changes, Folded(erased_by.among(going_with, judge(changes)), set(), {}))


class _Erased:
    """Whose entries are erased."""

    def __init__(self) -> None:
        self._by_all: set[DeviceId | None] = set()
        self._by: set[DeviceId | None] = set()
        self._by_admin = False

    def note(self, changes: Sequence[EntryRow], judged: Judged) -> None:
        for change in changes:
            if change.kind != Kind.ERASURE:
                continue
            author = judged.authors.get(change.chain)
            self._by_all.add(author)
            if change.n not in judged.quarantined:
                self._by.add(author)
                self._by_admin = self._by_admin or change.n in judged.anyones

    def erases(self, author: DeviceId | None) -> bool:
        """Whether what an author wrote is erased, where it counts."""
        return self._by_admin or author in self._by

    def among(self, rows: Sequence[EntryRow], judged: Judged) -> set[int]:
        """Those of these entries whose bodies are erased."""
        found: set[int] = set()
        for row in rows:
            author = judged.authors.get(row.chain)
            by = self._by_all if row.n in judged.quarantined else self._by
            if (self._by_admin or author in by) and not was_erased(row):
                found.add(row.n)
        return found


class _Said:
    """Which entry stands for each text."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[bool, EntryId, int]] = {}

    def note(self, rows: Sequence[EntryRow], judged: Judged, erased_by: _Erased) -> None:
        counting = [row for row in rows if row.kind in SPOKEN and row.n not in judged.quarantined]
        erased = erased_by.among(counting, judged)
        for row in counting:
            said = None if row.n in erased else said_by(row)
            key = b"" if said is None else crypto.hash_with_context("claim", repr(said).encode())
            rank = row.mid is not None, row.id, row.n
            self._first[key] = min(self._first.get(key, rank), rank)

    def shown(self) -> set[int]:
        if len(self._first) > 1:
            # A text that is not here says nothing of what it was: it hides behind any other.
            self._first.pop(b"", None)
        return {n for _, _, n in self._first.values()}


def _changes_of(store: Store, log: int, mid: MessageId) -> Iterator[list[EntryRow]]:
    after = 0
    while rows := store.changes_behind(log, mid, CHANGING, after, _ROWS):
        yield rows
        after = rows[-1].n


def _said_in(store: Store, log: int, mid: MessageId) -> Iterator[list[EntryRow]]:
    after = 0
    while rows := store.said_behind(log, mid, after, _ROWS, room=limits.BUNDLE_SIZE_MAX_BYTES):
        yield rows
        after = rows[-1].n
