"""The fold: what the stored entries mean together, kept up to date as entries come and change.

What an entry means is worked out from the stored set, so that two replicas with the same entries
show the same view, in whatever order they came. Three things are kept up to date for that, each a
pure function of the set:

rank    `max(time, 1 + the greatest rank of its order parents)`. Sorting by (rank, id) so never
        puts an entry before one that it names, however wrong the clocks. Order parents are all
        that an entry names; of an imported entry only the imported ones, since its time is
        that of the original chat and not of the import.
hidden  several entries can be one message (two people import the same chat). The one written
        in mlog stands for them, else the one with the lowest id.
edit    the greatest (rank, id) among the edits that the message's own author made.

An erasure by the message's own author empties the bodies of the message, of its edits and of its
manifests; one that names a group of chunks empties these, and the manifests that name it.
docs/protocol.md, 6.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from itertools import chain
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import bodies
from mlog.log.bodies import SPOKEN, Body, Kind
from mlog.log.crowd import Judged, Page, fold_crowd
from mlog.log.crypto import LogKeys
from mlog.log.cuts import Cuts
from mlog.log.entry import Header, stated_size
from mlog.log.expiry import Setters, may_expire, settings_of
from mlog.log.ids import DeviceId, EntryId, MessageId
from mlog.log.message_fold import CHANGING, ERASED_WITH, changes_of, fold_message, found_by, references_of
from mlog.log.private_cache import forget_private
from mlog.log.ranks import settle_ranks
from mlog.log.store import (
    FORGOTTEN,
    BodyState,
    DeviceRow,
    EntryRow,
    Forgotten,
    LogKind,
    Place,
    Position,
    Reference,
    Store,
    Task,
    TimelineQuery,
)
from mlog.log.stored import check_body, check_header, readable_body, text_of
from mlog.log.words import searchable

__all__ = [
    "LATEST_COUNTS",
    "Draft",
    "Fold",
    "LogState",
    "Opened",
    "latest_title",
    "references_in",
    "words_in",
]

CROWDED_FROM: Final = 2000
"""Entries that say or name messages which are folded at once, 20 ms; of more some are folded in slices."""
_NO_PAGE: Final = object()
_ERASED_AT_ONCE: Final = 32
"""Bodies that are read together to be erased: of the longest 8 MiB."""
_LIGHT_ROWS: Final = 8
_READ_COST_BYTES: Final = 8192
_ERASED_COST_BYTES: Final = 512
"""What a unit of RECEIVED_SLICE_COST reads: rows without texts, and of texts; and what it erases of these."""
_CHUNKS: Final = frozenset({Kind.CHUNK})
_ERASURES: Final = frozenset({Kind.ERASURE})
LATEST_COUNTS: Final = frozenset({Kind.TITLE, Kind.EDIT, Kind.DEVICE, Kind.PRIVATE, Kind.EXPIRE})
"""Kinds whose order in the view counts: the latest holds, or one goes on from the other."""
FIRST: Final = -1
"""Stands among the kinds that a fold met for the first entry of a chain."""
ENDED: Final = -2
"""Stands among them for an entry by which chains may end elsewhere: a cut names it, and it was not here."""
RULINGS: Final = frozenset({Kind.MEMBER, Kind.REVOKE, ENDED})
"""What tells who belongs to a log, and where chains end."""


class LogState(msgspec.Struct, gc=False):
    """A log whose secrets we have."""

    n: int
    kind: LogKind
    keys: LogKeys


class Draft(msgspec.Struct, frozen=True, gc=False):
    """What is to become an entry.

    Attributes:
        mid: Identity of an imported message, or None for what is written here and now.
        after: Entries that it names besides the one before it in its chain.
    """

    kind: Kind
    body: Body
    time_ms: int
    mid: MessageId | None = None
    after: tuple[EntryId, ...] = ()


class Opened(msgspec.Struct, gc=False):
    """An entry on its way into the store."""

    row: EntryRow
    header: Header
    body: Body | None
    text: str | None


class _Crowd(msgspec.Struct):
    """Messages that very many entries say or change, being folded.

    Attributes:
        n: Of the task.
        pages: What is left of it.
        version: Of the store, as it was when that began.
    """

    log: int
    n: int
    mids: Sequence[MessageId]
    pages: Iterator[Page | None] | None = None
    version: int = 0


class Fold:
    """What is worked out of a store's entries.

    Args:
        keys: Of a log by its number.
        authors: Which device stands for the person who writes these chains of a log.
        devices: What the devices of all person logs say of themselves.
        cuts: Where chains of a log end that are quarantined from there on.
        erasers: Of erasures of a log those, by number, that are good for messages of others.
        setters: Of settings of a log, when messages disappear, those, by number, that are good.

    Attributes:
        met: Kinds of the entries that came, or whose place changed; the caller clears it.
    """

    def __init__(
        self,
        store: Store,
        keys: Callable[[int], LogKeys],
        authors: Callable[[int, Collection[int]], Mapping[int, DeviceId]],
        devices: Callable[[], Sequence[DeviceRow]],
        cuts: Callable[[int], Cuts],
        erasers: Callable[[int, Sequence[EntryRow]], Set[int]],
        setters: Setters,
    ):
        self._store = store
        self._keys = keys
        self._authors = authors
        self._devices = devices
        self._cuts = cuts
        self._erasers = erasers
        self._setters = setters
        self._crowd: _Crowd | None = None
        self.met: set[int] = set()

    def fold(
        self,
        state: LogState,
        opened: Sequence[Opened],
        raised: Sequence[Place] = (),
        first: Set[MessageId] = frozenset(),
        budget: int | None = None,
        branches: Set[int] = frozenset(),
    ) -> None:
        """Work out what changes in the view by new entries, and by others whose place changed.

        Args:
            raised: Those others.
            branches: Chain rows of new ones whose chain is forked.
            first: Messages that only the new entries say, each once.
            budget: Leave what costs more for `settle_messages`; unit as RECEIVED_SLICE_COST. None: all now.
        """
        self.met.update(o.row.kind for o in opened)
        self.met.update(FIRST for o in opened if not o.row.seq)
        cuts = self._cuts(state.n)
        if cuts.take([o.row for o in opened], branches):
            self.met.add(ENDED)
        out = cuts.quarantined(o.row for o in opened)
        for n in out:
            self._store.set_hidden(n, True)
        mids = {o.row.message for o in opened if o.row.kind in SPOKEN}
        if out:
            # What they say was said by others, or is not said at all; they may erase each other.
            changing = [o for o in opened if o.row.n in out and o.row.kind in CHANGING]
            mids.update(mid for o in changing if o.body is not None for mid in references_of(o.body))
            self._fold_chunks(state, [o for o in opened if o.row.n in out], budget)
        opened, first = [o for o in opened if o.row.n not in out], frozenset()
        edits: dict[int, MessageId] = {}
        for o in opened:
            if isinstance(o.body, bodies.Edit):
                edits[o.row.n] = references_of(o.body)[0]
            elif o.body is not None and o.row.kind in CHANGING:
                mids.update(references_of(o.body))
        for n, targets in self._store.references([p.n for p in raised if p.kind == Kind.EDIT]).items():
            edits[n] = targets[0]
        crowded = self._leave_crowds(state, mids | set(edits.values()), budget)
        mids -= crowded
        edits = {n: mid for n, mid in edits.items() if mid not in crowded}
        if not first and mids:
            native = {o.row.message for o in opened if o.row.kind in SPOKEN and o.row.mid is None}
            first = native - self._store.retold(state.n, native)
            if len(native) < len(mids):
                first |= self._store.said_once(state.n, mids - native)
        self._fold_chunks(state, opened, budget)
        mids |= self._fold_edits(state, {n: mid for n, mid in edits.items() if mid not in mids})
        self._fold_messages(state, mids, first, budget, checked=True)
        kinds = {o.row.kind for o in opened} | {place.kind for place in raised}
        if Kind.TITLE in kinds:
            self._store.set_title(state.n, latest_title(self._store, state.n))
        if Kind.EXPIRE in kinds:
            self.doubt_expired(state.n)
        if Kind.PRIVATE in kinds:
            changed = [o.row.position for o in opened if o.row.kind == Kind.PRIVATE]
            forget_private(
                self._store, state.keys.topic, [*changed, *(Position(p.rank, p.id) for p in raised)]
            )
        if state.kind == LogKind.PERSON and Kind.DEVICE in kinds:
            for device in self._devices():
                self._store.put_device(device)

    def recount(self, state: LogState, rows: Sequence[EntryRow]) -> None:
        """Work out anew what these entries say and change, since it counts now, or counts no more."""
        out = self._cuts(state.n).quarantined(rows)
        for row in rows:
            if row.kind not in SPOKEN and row.hidden != (row.n in out):
                self._store.set_hidden(row.n, not row.hidden)
        mids = {row.message for row in rows if row.kind in SPOKEN}
        named = self._store.references([row.n for row in rows if row.kind in CHANGING])
        mids.update(mid for targets in named.values() for mid in targets)
        self._fold_messages(state, mids, frozenset(), limits.STORE_ROWS_MAX)
        erasures = {row.n for row in rows if row.kind == Kind.ERASURE}
        self._erase_chunks(state, {mid for n in erasures for mid in named.get(n, ())}, limits.STORE_ROWS_MAX)
        kinds = {row.kind for row in rows}
        if Kind.EXPIRE in kinds:
            self.doubt_expired(state.n)
        if Kind.TITLE in kinds:
            self._store.set_title(state.n, latest_title(self._store, state.n))
        if Kind.PRIVATE in kinds:
            forget_private(self._store, state.keys.topic)

    def refold_messages(self, state: LogState, mids: Set[MessageId], moved: Sequence[Place]) -> None:
        """Work out these messages again, and what follows from entries whose place rose or sank."""
        edited = self._store.references([place.n for place in moved if place.kind == Kind.EDIT])
        targets = {mid for named in edited.values() for mid in named}
        self._fold_messages(state, mids | targets, frozenset())
        if any(place.kind == Kind.TITLE for place in moved):
            self._store.set_title(state.n, latest_title(self._store, state.n))
        if any(place.kind == Kind.PRIVATE for place in moved):
            forget_private(self._store, state.keys.topic)

    def refold(self, state: LogState, kinds: frozenset[int]) -> None:
        """Work out again what entries of these kinds change, since what their authors may has changed."""
        after: Position | None = None
        while True:
            query = TimelineQuery(
                log=state.n, limit=limits.STORE_ROWS_MAX, after=after, kinds=kinds, hidden=True
            )
            rows = self._store.timeline(query)
            if not rows:
                return
            after = rows[-1].position
            named = self._store.references([row.n for row in rows])
            named_mids = {mid for mids in named.values() for mid in mids}
            named_mids -= self._leave_crowds(state, named_mids, 0)
            self._fold_messages(state, named_mids, frozenset(), checked=True)
            self._erase_chunks(
                state, {mid for r in rows if r.kind == Kind.ERASURE for mid in named.get(r.n, ())}
            )

    def settle_ranks(self, state: LogState, budget: int) -> None:
        """Put some entries behind what they name, and work out what changes by that."""
        moved, budget = settle_ranks(self._store, state.n, budget)
        self.met.update(place.kind for place in moved)
        raised = [place for place in moved if place.kind in LATEST_COUNTS]
        if raised:
            self.fold(state, [], raised, budget=budget)

    def settle_messages(self, state: LogState, budget: int) -> None:
        """Work out messages that were left for later, and erase what is left of others."""
        store = self._store
        if self._crowd is not None and self._crowd.log == state.n:
            self._crowd_step(state)
            return
        tasks = [n for n, _ in store.unsettled(state.n, Task.FOLD, budget)]
        if tasks:
            found = store.hits(tasks)
            mids = {hit.n: {hit.message} for hit in found if hit.kind in SPOKEN}
            for n, targets in store.references([hit.n for hit in found if hit.kind in CHANGING]).items():
                mids.setdefault(n, set()).update(targets)
            every = set[MessageId]().union(*mids.values())
            crowded = store.crowded(every, CROWDED_FROM)
            left = [n for n in tasks if mids.get(n, set()) & crowded]
            store.change_unsettled(state.n, Task.FOLD, (), set(tasks).difference(left))
            light = every - crowded
            budget -= self._fold_messages(state, light, frozenset(), budget, any_way=True, checked=True)
            if left and budget > 0:
                self._crowd = _Crowd(state.n, left[0], sorted(mids[left[0]] & crowded))
                self._crowd_step(state)
                return
        tasks = [n for n, _ in store.unsettled(state.n, Task.ERASE, budget)] if budget > 0 else []
        if tasks:
            store.change_unsettled(state.n, Task.ERASE, (), tasks)
            self._erase(state, tasks, budget)

    def forget(self) -> None:
        """What was begun and not committed has to be begun again."""
        self._crowd = None

    def _leave_crowds(self, state: LogState, mids: Set[MessageId], budget: int | None) -> set[MessageId]:
        """Leave messages for later that very many entries say or change; gives these.

        Args:
            budget: None where nothing is left for later: then they are worked out now.
        """
        store = self._store
        crowded = store.crowded(mids, CROWDED_FROM) if mids else set[MessageId]()
        if self._crowd is not None and not mids.isdisjoint(self._crowd.mids):
            # What was found out of it is no more so, also if it is no crowd by itself.
            self._crowd = None
        tasks: list[tuple[int, int]] = []
        for mid in crowded:
            if budget is None:
                for page in fold_crowd(store, state.n, mid, partial(self._judge, state.n)):
                    self._take_page(state, page, None)
                continue
            said = store.said_behind(state.n, mid, 0, 1, room=0)
            n = found_by(said, store.changes_behind(state.n, mid, CHANGING, 0, 1))
            tasks += [(n, 0)] if n is not None else []
        if tasks:
            store.change_unsettled(state.n, Task.FOLD, tasks, ())
        return crowded

    def _crowd_step(self, state: LogState) -> None:
        """Go on with a message that very many entries say or change; anew, if another process wrote."""
        crowd, store = self._crowd, self._store
        assert crowd is not None
        version = store.data_version()
        if crowd.pages is None or crowd.version != version:
            crowd.version = version
            judge = partial(self._judge, state.n)
            crowd.pages = chain.from_iterable(fold_crowd(store, state.n, mid, judge) for mid in crowd.mids)
        page = next(crowd.pages, _NO_PAGE)
        if page is _NO_PAGE:
            self._crowd = None
            store.change_unsettled(state.n, Task.FOLD, (), [crowd.n])
        elif isinstance(page, Page):
            self._take_page(state, page, 0)

    def _judge(self, log: int, rows: Sequence[EntryRow]) -> Judged:
        """What of these entries counts, and for whom."""
        erasures = [row for row in rows if row.kind == Kind.ERASURE]
        authors = self._authors(log, {row.chain for row in rows})
        return Judged(authors, self._cuts(log).quarantined(rows), self._erasers(log, erasures))

    def _take_page(self, state: LogState, page: Page | None, budget: int | None) -> None:
        if page is not None:
            self._erase(state, self._apply(state, [page]), budget)

    def _fold_edits(self, state: LogState, edits: Mapping[int, MessageId]) -> set[MessageId]:
        """Take edits that came, or whose place rose, without looking at all others of the same messages.

        Gives the messages for which that does not do: those that an author of these edits erased.

        Args:
            edits: The message that each edits, by number.
        """
        if not edits:
            return set()
        store = self._store
        rows = store.rows(edits)
        cuts = self._cuts(state.n)
        out = cuts.quarantined(rows.values())
        edits = {n: mid for n, mid in edits.items() if n not in out}
        targets = set(edits.values())
        said = store.by_mid(state.n, targets, bodies=False)
        unsaid = cuts.quarantined(row for of in said.values() for row in of)
        erasers = store.changers(state.n, targets, frozenset({Kind.ERASURE}))
        chains = {row.chain for of in (*said.values(), rows.values()) for row in of}
        authors = self._authors(state.n, chains.union(*erasers.values()))
        latest = {
            hit.n: hit.position for hit in store.hits({r.edit for of in said.values() for r in of} - {0})
        }
        # Which erasures of others count, and of a chain that is cut, is seen where whole messages are folded.
        left = set(erasers) if cuts else set[MessageId]()
        chosen: dict[int, int] = {}
        for n, mid in edits.items():
            author = authors.get(rows[n].chain)
            if mid in left:
                continue
            if any(authors.get(chain) == author for chain in erasers.get(mid, ())):
                left.add(mid)
                continue
            latest[n] = rows[n].position
            for row in said.get(mid, ()):
                edit = chosen.get(row.n, row.edit)
                is_own = row.kind in SPOKEN and authors.get(row.chain) == author and row.n not in unsaid
                if is_own and (not edit or latest[edit] < latest[n]):
                    chosen[row.n] = n
        for n, edit in chosen.items():
            store.set_edit(n, edit)
        return left

    def _fold_chunks(self, state: LogState, opened: Sequence[Opened], budget: int | None) -> None:
        """Erase chunks of erased groups; apart from messages, since a group may have thousands of them."""
        groups = {references_of(o.body)[0] for o in opened if isinstance(o.body, bodies.Chunk)}
        erased = set(self._store.changers(state.n, groups, _ERASURES)) if groups else set[MessageId]()
        erased.update(references_of(o.body)[0] for o in opened if isinstance(o.body, bodies.Erasure))
        self._erase_chunks(state, erased, budget)

    def _erase_chunks(self, state: LogState, groups: Set[MessageId], budget: int | None = None) -> None:
        """Erase the chunks of these groups that an author of theirs erased."""
        references = self._store.references_to(state.n, groups, _CHUNKS) if groups else []
        if not references:
            return
        erasers = self.erasers_of(state.n, groups)
        targets = {reference.n: reference.target for reference in references}
        rows = self._store.rows(targets, bodies=False)
        authors = self._authors(state.n, {row.chain for row in rows.values()})
        erased: list[int] = []
        for n, group in targets.items():
            who = erasers.get(group, ())
            if None in who or authors.get(rows[n].chain) in who:
                erased += [n] if rows[n].state not in FORGOTTEN else []
            elif rows[n].state == BodyState.ERASED:
                self._want_again(rows[n])
        self._erase(state, erased, budget)

    def erasers_of(self, log: int, groups: Set[MessageId]) -> dict[MessageId, set[DeviceId | None]]:
        """Who erased these groups of chunks; among them None where whoever wrote them does not matter."""
        references = self._store.references_to(log, groups, _ERASURES) if groups else []
        rows = self._store.rows({reference.n for reference in references})
        out, anyones = self._cuts(log).quarantined(rows.values()), self._erasers(log, list(rows.values()))
        authors = self._authors(log, {row.chain for row in rows.values()})
        found: dict[MessageId, set[DeviceId | None]] = {}
        for reference in references:
            row = rows[reference.n]
            author = authors.get(row.chain)
            if row.n in anyones and row.n not in out:
                found.setdefault(reference.target, set()).add(None)
            elif author is not None and row.n not in out:
                found.setdefault(reference.target, set()).add(author)
        return found

    def _fold_messages(
        self,
        state: LogState,
        mids: Set[MessageId],
        first: Set[MessageId],
        budget: int | None = None,
        *,
        any_way: bool = False,
        checked: bool = False,
    ) -> int:
        """Work out messages; gives what it cost. Arguments as of `fold`.

        Args:
            any_way: At least one, whatever it costs.
            checked: None of these is said or named by very many.
        """
        store = self._store
        if not checked:
            mids = mids - self._leave_crowds(state, mids, budget)
        changes = changes_of(store, state.n, mids, bodies=False)
        # What one entry says and none changes reads as it is: most of an import.
        mids = (mids - first) | changes.keys()
        said = store.by_mid(state.n, mids, bodies=False)
        named = (*said.values(), *changes.values())
        out = self._cuts(state.n).quarantined(row for rows in named for row in rows)
        erasures = [row for rows in changes.values() for row in rows if row.kind == Kind.ERASURE]
        anyones = self._erasers(state.n, erasures)
        cost, chosen = 0, dict[MessageId, tuple[list[EntryRow], list[EntryRow]]]()
        texts: set[int] = set()
        later: list[tuple[int, int]] = []
        for mid in sorted(mids):
            rows, changing = said.get(mid, []), changes.get(mid, [])
            if (
                len(rows) <= 1
                and not changing
                and not out
                and not any(r.hidden or r.edit or r.state == BodyState.ERASED for r in rows)
            ):
                continue
            # Only here it counts what they say.
            compared = rows if len(rows) > 1 or any(row.kind == Kind.ERASURE for row in changing) else []
            weight = 1 + (len(rows) + len(changing)) // _LIGHT_ROWS
            weight += sum(stated_size(row.outer) for row in compared) // _READ_COST_BYTES
            n = found_by(rows, changing)
            if budget is not None and n is not None and cost + weight > budget and (chosen or not any_way):
                later.append((n, 0))
                continue
            cost += weight
            chosen[mid] = rows, changing
            texts.update(row.n for row in compared)
        if later:
            store.change_unsettled(state.n, Task.FOLD, later, ())
        read = store.bodies(texts)
        authors = self._authors(state.n, {row.chain for of in chosen.values() for rows in of for row in rows})
        pages: list[Page] = []
        for rows, changing in chosen.values():
            for row in rows:
                row.body = read.get(row.n)
            pages.append(Page(rows, changing, fold_message(rows, changing, authors, out, anyones)))
        erased = self._apply(state, pages)
        return cost + self._erase(state, erased, None if budget is None else budget - cost)

    def _apply(self, state: LogState, pages: Iterable[Page]) -> list[int]:
        """Note what becomes of entries; gives those whose bodies are to be erased."""
        store = self._store
        pending = bool(store.unsettled(state.n, Task.ERASE, 1))
        erased, kept, doubted = list[int](), list[int](), dict[int, EntryRow]()
        for rows, changing, folded in pages:
            present = [row for row in (*rows, *changing) if row.state not in FORGOTTEN]
            erased += [row.n for row in present if row.n in folded.erased]
            kept += [row.n for row in present if row.n not in folded.erased] if pending else []
            # What goes with a message is judged with that one, not where it is named itself.
            own = (*(r for r in rows if r.kind in SPOKEN), *(r for r in changing if r.kind in ERASED_WITH))
            doubted.update((r.n, r) for r in own if r.state == BodyState.ERASED and r.n not in folded.erased)
            for row in rows:
                # What is not spoken is hidden only where it is left out, also if a message has its id.
                if row.kind in SPOKEN and row.hidden != (row.n in folded.hidden):
                    row.hidden = not row.hidden
                    store.set_hidden(row.n, row.hidden)
                edit = folded.edits.get(row.n, 0)
                if row.edit != edit:
                    row.edit = edit
                    store.set_edit(row.n, edit)
        for n in doubted.keys() - self._erased_otherwise(state, doubted):
            self._want_again(doubted[n])
        if kept:
            # An erasure that counts no more takes nothing away later.
            store.change_unsettled(state.n, Task.ERASE, (), kept)
        return erased

    def _erased_otherwise(self, state: LogState, rows: Mapping[int, EntryRow]) -> set[int]:
        """Those of these that are files, and erased with their message or with their group."""
        store = self._store
        named = store.references([n for n, row in rows.items() if row.kind == Kind.MANIFEST])
        mids = {mid for targets in named.values() for mid in targets}
        changes = changes_of(store, state.n, mids, bodies=False) if mids else {}
        changing = [row for rows in changes.values() for row in rows]
        authors = self._authors(state.n, {row.chain for row in changing})
        out = self._cuts(state.n).quarantined(changing)
        anyones = self._erasers(state.n, [row for row in changing if row.kind == Kind.ERASURE])
        folds = [fold_message((), rows, authors, out, anyones) for rows in changes.values()]
        return {n for folded in folds for n in folded.erased} & rows.keys()

    def _erase(self, state: LogState, ns: Sequence[int], budget: int | None) -> int:
        """Empty bodies, or leave them to be emptied later where that costs more; gives what it cost."""
        cost, left = 0, list(ns)
        while left and (budget is None or cost < budget):
            part, left = left[:_ERASED_AT_ONCE], left[_ERASED_AT_ONCE:]
            rows = self._store.rows(part)
            for at, n in enumerate(part):
                if budget is not None and cost >= budget:
                    left = part[at:] + left
                    break
                if n in rows and rows[n].state not in FORGOTTEN:
                    self._erase_body(rows[n])
                    cost += 2 + len(rows[n].body or b"") // _ERASED_COST_BYTES
        if left:
            self._store.change_unsettled(state.n, Task.ERASE, [(n, 0) for n in left], ())
        return cost

    def expire(self, state: LogState, rows: Sequence[EntryRow]) -> int:
        """Forget bodies whose time is over, with edits and files of messages; how many that were.

        See mlog/log/expiry.py.
        """
        said = {row.message: row for row in rows if row.kind in SPOKEN}
        changes = changes_of(self._store, state.n, said.keys()) if said else {}
        found = (*rows, *(change for changing in changes.values() for change in changing))
        authors = self._authors(state.n, {row.chain for row in found})
        gone = {row.n: row for row in rows}
        for mid, changing in changes.items():
            for change in changing:
                own = authors.get(change.chain) == authors.get(said[mid].chain)
                if own and change.kind in ERASED_WITH and change.state != BodyState.EXPIRED:
                    gone[change.n] = change
        named = self._store.references([n for n, row in gone.items() if row.kind == Kind.EDIT])
        count = sum(row.state not in FORGOTTEN for row in gone.values())
        for row in gone.values():
            self._erase_body(row, BodyState.EXPIRED)
        self._fold_messages(state, {mid for mids in named.values() for mid in mids}, frozenset())
        return count

    def doubt_expired(self, log: int) -> None:
        """Leave for later to see whether what expired was to: other settings may count now."""
        if self._store.scan_expired(log, 0, 1):
            self._store.change_unsettled(log, Task.EXPIRED, [(0, 0)], ())

    def settle_expired(self, state: LogState) -> None:
        """Want again some of what expired by a setting that does not count at its place: others may have it
        still, and all have to hold the same."""
        store, log = self._store, state.n
        for after, _ in store.unsettled(log, Task.EXPIRED, 1):
            settings = settings_of(store, log, self._setters)
            rows = store.scan_expired(log, after, limits.STORE_ROWS_MAX)
            again = [row for row in rows if not may_expire(settings, row)]
            for row in again:
                self._want_again(row)
            self._refold_wanted(state, again)
            more = [(rows[-1].n, 0)] if len(rows) == limits.STORE_ROWS_MAX else []
            store.change_unsettled(log, Task.EXPIRED, more, [after])

    def _refold_wanted(self, state: LogState, rows: Sequence[EntryRow]) -> None:
        """An edit that is wanted again counts again; what was erased after it had expired is not wanted."""
        named = self._store.references([row.n for row in rows if row.kind in ERASED_WITH])
        mids = {row.message for row in rows if row.kind in SPOKEN}
        mids.update(mid for targets in named.values() for mid in targets)
        self._fold_messages(state, mids, frozenset(), limits.STORE_ROWS_MAX)
        groups = self._store.references([row.n for row in rows if row.kind == Kind.CHUNK])
        self._erase_chunks(
            state, {mid for targets in groups.values() for mid in targets}, limits.STORE_ROWS_MAX
        )

    def _erase_body(self, row: EntryRow, state: Forgotten = BodyState.ERASED) -> None:
        text = text_of(readable_body(row.kind, row.body))
        devices = {chain.n: chain.device for chain in self._store.chain_rows([row.chain])}
        if not self.is_whole(row, devices):
            # The index takes away what it is told: other words than it holds would harm it.
            self._store.distrust_words()
            text = None
        self._store.erase_body(row.n, searchable(text) if text else None, state)

    def _want_again(self, row: EntryRow) -> None:
        """What erased a text counts no more: others may still have it."""
        row.state = BodyState.NOT_FETCHED
        self._store.update([row], (), (), ())

    def is_whole(self, row: EntryRow, devices: Mapping[int, DeviceId]) -> bool:
        """Whether an entry's header and body are what their hashes say, and its chain's device wrote it."""
        try:
            keys = self._keys(row.log)
            check_header(keys, row, devices.get(row.chain, DeviceId(b"")))
            check_body(keys, row)
        except InvalidInput:
            return False
        return True


def references_in(log: int, opened: Iterable[Opened]) -> list[Reference]:
    """What these entries name, as the store keeps it."""
    return [
        Reference(o.row.n, log, target)
        for o in opened
        if o.body is not None
        for target in references_of(o.body)
    ]


def words_in(opened: Iterable[Opened]) -> list[tuple[int, str]]:
    """What search finds these entries by, as the store keeps it."""
    return [(o.row.n, searchable(o.text)) for o in opened if o.text]


def latest_title(store: Store, log: int) -> str:
    """What a conversation is called: the latest readable title, or ""."""
    query = TimelineQuery(log=log, limit=8, kinds=frozenset({Kind.TITLE}), newest_first=True)
    for row in store.timeline(query):
        body = readable_body(row.kind, row.body)
        if isinstance(body, bodies.Title):
            return body.title
    return ""
