"""A batch: what becomes of entries that came together, within one transaction.

Those that are vouched for, themselves or by what was here, are placed; what waited for them comes along.
When that is done, and what is left for later: mlog/log/intake.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from mlog import limits
from mlog.errors import BadSignature, InvalidInput
from mlog.log import bodies, entry
from mlog.log.bodies import Kind
from mlog.log.entry import NO_ENTRY, Unsealed
from mlog.log.fold import (
    LogState,
    Opened,
    references_in,
    words_in,
)
from mlog.log.ids import EntryId
from mlog.log.placing import Arrival, ChainKey, Chains, is_next
from mlog.log.ranks import CHILDREN_AT_ONCE, Ranks, is_retold, parents_of
from mlog.log.store import FORGOTTEN, BodyState, EntryRow, GapRow, Place, Reason, Task
from mlog.log.stored import readable_body, text_of

if TYPE_CHECKING:
    from mlog.log.intake import Intake

__all__ = ["WALK_FIRST", "Batch", "Taken", "cost_of", "rows_like"]

WALK_FIRST: Final = 16
_WALK_PAGE: Final = 200
_CHILDREN_READ: Final = 2 * limits.STORE_ROWS_MAX
_CHILDREN_FIRST: Final = 32
"""Of entries that are named by so many in all, of each the first so many are looked at at once."""
_READ_SHARE: Final = 32
"""To read an entry from the disk takes so much less than to open and place it."""
_WALK_SIZE: Final = limits.MIB
"""Of entries that are here and not read so many are read from the disk at once: first few, since they may be
of the longest, then as many as make a MiB if they go on like that."""
_FOLDED_COST: Final = 400
"""What is spent on messages, about 20 ms, where entries are read too; unit of RECEIVED_SLICE_COST."""


class Taken(msgspec.Struct, frozen=True):
    """What became of entries that came.

    Attributes:
        stored: Entries that are new here.
        completed: Entries that were here, and got a body or a signature that was lacking.
        known: Entries that brought nothing new.
        refused: What was left out, with the reason in plain words: an entry, or a part of one.
    """

    stored: int = 0
    completed: int = 0
    known: int = 0
    refused: tuple[tuple[EntryId, str], ...] = ()


def cost_of(row: EntryRow) -> int:
    """What it takes to open and place an entry; unit and rates of RECEIVED_SLICE_COST."""
    return 1 + max(0, len(row.outer) - 256) // 64 + len(row.body or b"") // 256


def rows_like(rows: Sequence[EntryRow]) -> int:
    """How many to read at once, if they are as long as these."""
    size = sum(len(row.outer) + len(row.body or b"") for row in rows)
    return min(max(_WALK_SIZE * len(rows) // size, 1), _WALK_PAGE)


def _each_once(
    refused: Sequence[tuple[EntryId, str]], arrivals: Collection[EntryId]
) -> Iterator[tuple[EntryId, str]]:
    """What was refused, with one reason for each entry of which only parts were."""
    parts: dict[EntryId, list[str]] = {}
    for id_, why in refused:
        if id_ in arrivals:
            parts.setdefault(id_, []).append(why)
        else:
            yield id_, why
    for id_, reasons in parts.items():
        yield id_, "; ".join(dict.fromkeys(reasons))


class Batch:
    """One call's worth of entries, inside its transaction.

    Args:
        state: None where the log cannot be read here.
    """

    def __init__(self, intake: Intake, log: int, state: LogState | None, now_ms: int):
        self._intake = intake
        self._store = intake.store
        self._log = log
        self._state = state
        self._now_ms = now_ms
        self._refused: list[tuple[EntryId, str]] = []
        self._places: dict[EntryId, Place] = {}
        self._chains = Chains(self._store, log, state and state.keys, self._places)
        self._changed: dict[EntryId, EntryRow] = {}
        self._unsigned: dict[EntryId, Arrival] = {}
        self._many: set[EntryId] = set()
        self._unsure: dict[EntryId, int] = {}
        self._branches: set[int] = set()
        self._walk_cost = 0

    # -- entry points ------------------------------------------------------------------------

    def take(self, arrivals: dict[EntryId, Arrival], refused: list[tuple[EntryId, str]]) -> Taken:
        """Store what came, and read of it what can be read."""
        self._refused = refused
        self._look_up(arrivals.values(), arrivals)
        known = [self._places[id_].n for id_ in arrivals if id_ in self._places]
        rows = self._store.rows(known) if known else {}
        completed = sum(self._compare(arrivals[row.id], row) for row in rows.values())
        candidates = [a for a in arrivals.values() if a.header is not None and not (a.row and a.row.chain)]
        placing = self._vouch(candidates)
        placed = self._place(placing, arrivals)
        self._keep([a for a in arrivals.values() if a.row is None])
        if self._store.absent(self._log, 1) or self._store.pruned_parents(self._log, 1):
            self._store.change_absent(self._log, (), arrivals)
        self._finish([*placed, *self._completed(a for a in arrivals.values() if a.late)])
        self._close_gaps({**arrivals, **{a.id: a for a in placing}})
        stored = len(arrivals) - len(rows)
        return Taken(stored, completed, len(rows) - completed, tuple(_each_once(self._refused, arrivals)))

    def reconsider(self, rows: Iterable[EntryRow], *, vouched: bool = False) -> None:
        """Read what is here and was not read, if it can be by now."""
        arrivals: dict[EntryId, Arrival] = {}
        for row in rows:
            arrival = self._of_row(row)
            if arrival is not None:
                arrival.vouched = vouched
                arrivals[row.id] = arrival
        self._look_up(arrivals.values(), {})
        placing = self._vouch(list(arrivals.values()))
        placed = self._place(placing, arrivals)
        self._keep(())
        self._finish(placed)
        self._close_gaps({a.id: a for a in placing})

    def look_for_next(self, n: int, after: int) -> None:
        """See whether some of those that name an entry vouch for it, as the next of its chain.

        Args:
            after: Number of the last one that was looked at.
        """
        store, log = self._store, self._log
        row = store.rows([n]).get(n)
        a = self._of_row(row) if row is not None and not row.chain else None
        named_by = store.children_behind(log, a.id, after, CHILDREN_AT_ONCE) if a is not None else []
        more = [(n, named_by[-1].n)] if len(named_by) == CHILDREN_AT_ONCE else []
        if a is not None and self._chains.is_named_by_next(a, named_by):
            more = []
            store.change_unsettled(log, Task.PLACE, [(n, 0)], ())
        store.change_unsettled(log, Task.VOUCH, more, [n])

    def open_closed(self, rows: Iterable[EntryRow]) -> None:
        """Open bodies of entries that are read, whose epoch's secret came after its outline."""
        assert self._state is not None
        opened: list[Arrival] = []
        for row in rows:
            try:
                found = entry.unseal(self._state.keys, row.outer, row.body)
            except InvalidInput:
                continue
            if found.id != row.id or found.header is None or found.held is None or found.closed:
                continue
            a = _arrival_of(row, found)
            row.state = BodyState.SEALED if a.body is None else BodyState.OPENED
            row.body = found.held if a.body is None else a.body
            opened.append(a)
        self._finish(list(self._completed(opened)))

    def _of_row(self, row: EntryRow) -> Arrival | None:
        """A stored entry that was not read, opened; None if it still cannot be, or is damaged."""
        assert self._state is not None
        try:
            found = entry.unseal(self._state.keys, row.outer, row.body)
        except InvalidInput:
            return None
        if found.id != row.id or found.header is None:
            return None
        held, body = found.held, found.body
        if row.body is not None and row.state == BodyState.OPENED and found.epoch is not None:
            # Version 1 of the database kept branches of forks opened.
            held, body = entry.seal_body(found.epoch, row.outer, row.body, found.header.kind), row.body
        return _arrival_of(row, msgspec.structs.replace(found, held=held, body=body))

    def _look_up(self, arrivals: Iterable[Arrival], ids: Collection[EntryId]) -> None:
        """Find the places of these ids, and of all that is named."""
        named = {id_ for a in arrivals if a.header is not None for id_ in parents_of(a.header)}
        self._places.update(self._store.places(self._log, named.union(ids)))

    # -- what is here already ----------------------------------------------------------------

    def _compare(self, a: Arrival, row: EntryRow) -> bool:
        """Complete a stored entry by what came; whether anything was lacking or damaged."""
        a.row = row
        before = msgspec.structs.replace(row)
        if row.outer != a.outer or row.week != a.week:
            row.outer, row.week = a.outer, a.week
        if row.chain and a.header is not None:
            h = a.header
            row.kind, row.time_ms, row.mid = h.kind, h.time_ms, h.mid
            if row.seq != h.seq and not self._store.places_at([(row.chain, h.seq)]):
                row.seq = h.seq
        self._compare_body(a, row)
        self._compare_signature(a, row)
        if not row.chain and a.header is not None:
            # It may be read by now: with all its parts.
            stored = self._of_row(row)
            if stored is not None:
                a.lay = a.signature != stored.signature
                a.held, a.body, a.signature = stored.held, stored.body, stored.signature
                a.closed = stored.closed
        if row == before:
            return False
        if row.chain or a.header is None:
            self._store.update([row], [], [], [])
        else:
            # Stored at the end, read or not.
            self._changed[a.id] = row
        return True

    def _compare_body(self, a: Arrival, row: EntryRow) -> None:
        if a.held is None or row.state in FORGOTTEN:
            return
        if row.chain and a.body is not None:
            body, state = a.body, BodyState.OPENED
        elif row.chain and a.closed:
            body, state = a.held, BodyState.CLOSED
        else:
            body, state = a.held, BodyState.SEALED
        if (row.body, row.state) != (body, state):
            # Words and references of a damaged text are indexed already.
            a.late = row.chain != 0 and row.state != BodyState.OPENED and not a.closed
            row.body, row.state = body, state

    def _compare_signature(self, a: Arrival, row: EntryRow) -> None:
        if a.signature is None or a.signature == row.signature:
            return
        if a.header is None:
            if row.signature is None:
                row.signature = a.signature
        elif self._is_signed(a):
            row.signature = a.signature
            a.vouched = not row.chain

    def _is_signed(self, a: Arrival) -> bool:
        """Whether the signature that came is valid; a bad one is dropped."""
        assert a.header is not None
        assert a.epoch is not None
        if a.signature is None:
            return False
        try:
            entry.verify_entry_signature(a.epoch, a.header.device, a.id, a.outer, a.signature)
        except BadSignature as error:
            self._drop_signature(a, error)
            self._unsigned[a.id] = a
            return False
        return True

    # -- what is authentic -------------------------------------------------------------------

    def _vouch(self, candidates: Sequence[Arrival]) -> list[Arrival]:
        """Those that are authentic, and the ones here that they vouch for.

        Of each linked run only the newest signature is verified; where that is bad, the next older.
        """
        if not candidates:
            return []
        by_id = {a.id: a for a in candidates}
        self._chains.load(candidates)
        named_by = self._children(candidates)
        for a in sorted(candidates, key=lambda a: a.header.seq if a.header else 0, reverse=True):
            if a.vouched or self._chains.has_successor(a, named_by.get(a.id, ())):
                a.vouched = True
                self._check_seal(a)
            else:
                a.vouched = self._is_signed(a)
            if not a.vouched and a.id in self._many:
                self._unsure[a.id] = named_by[a.id][-1].n
            if not a.vouched and a.row is not None and a.row.signature is not None:
                # It came with the entry when that could not be opened yet.
                a.row.signature = None
                self._changed[a.id] = a.row
            before = by_id.get(a.header.prev) if a.vouched and a.header is not None else None
            if before is not None and is_next(before.header, a.header):
                before.vouched = True
        self._walk([a for a in candidates if a.vouched], by_id)
        return [a for a in by_id.values() if a.vouched]

    def _children(self, arrivals: Iterable[Arrival]) -> dict[EntryId, list[Place]]:
        """What is read here and names these: nothing, for new entries at the ends of their chains.

        What names an entry that is not here has it listed as absent.
        """
        any_absent = bool(self._store.absent(self._log, 1))
        asked = [
            a.id
            for a in arrivals
            if any_absent or a.row is not None or (a.header is not None and not self._chains.is_end(a.header))
        ]
        if not asked:
            return {}
        found = self._store.children(self._log, asked, _CHILDREN_READ)
        if sum(map(len, found.values())) < _CHILDREN_READ:
            return found
        # Some are named by very many: of each the first are looked at now.
        each = ((id_, self._store.children_behind(self._log, id_, 0, _CHILDREN_FIRST)) for id_ in asked)
        found = {id_: children for id_, children in each if children}
        self._many.update(id_ for id_, children in found.items() if len(children) == _CHILDREN_FIRST)
        return found

    def _check_seal(self, a: Arrival) -> None:
        """Drop a signature that is damaged; who made it matters only where nothing else vouches."""
        if a.signature is None or a.epoch is None:
            return
        try:
            entry.open_signature(a.epoch, a.id, a.outer, a.signature)
        except BadSignature as error:
            self._drop_signature(a, error)

    def _drop_signature(self, a: Arrival, error: BadSignature) -> None:
        if not a.lay:
            self._refused.append((a.id, f"signature: {error}"))
        a.signature = None

    def _walk(self, frontier: Sequence[Arrival], by_id: dict[EntryId, Arrival]) -> None:
        """Add the entries that are here and become authentic by these: from each, those before."""
        unread: dict[EntryId, EntryRow] = {}
        walked: list[Arrival] = []
        self._walk_cost = 0
        while frontier:
            reached: list[Arrival] = []
            for later in frontier:
                assert later.header is not None
                before = by_id.get(later.header.prev) or self._unread(later.header.prev, unread)
                if before is None or before.vouched or not is_next(before.header, later.header):
                    continue
                if before.id not in by_id:
                    by_id[before.id] = before
                    walked.append(before)
                    self._walk_cost += 0 if before.row is None else cost_of(before.row)
                before.vouched = True
                self._check_seal(before)
                reached.append(before)
            frontier = reached
        if walked:
            self._look_up(walked, ())
            self._chains.load(walked)

    def _unread(self, id_: EntryId, unread: dict[EntryId, EntryRow]) -> Arrival | None:
        """An entry that is here and not read; with it those that came right before are read from the disk.

        Args:
            unread: What was read from the disk so far.
        """
        if self._walk_cost > limits.STORE_ROWS_MAX:
            for place in self._store.places(self._log, [id_]).values():
                if not place.chain:
                    self._store.change_unsettled(self._log, Task.PLACE, [(place.n, 0)], ())
            return None
        if id_ not in unread:
            if self._walk_cost and id_ not in self._places:
                self._places.update(self._store.places(self._log, [id_]))
            place = self._places.get(id_)
            if place is None or place.chain:
                return None
            rows = rows_like(list(unread.values())) if unread else WALK_FIRST
            page = self._store.scan_unopened(self._log, place.n - rows, rows)
            unread.update((row.id, row) for row in page)
            self._walk_cost += 1 + sum(map(cost_of, page)) // _READ_SHARE
        return self._of_row(unread[id_]) if id_ in unread else None

    # -- placing -----------------------------------------------------------------------------

    def _place(self, placing: Sequence[Arrival], arrivals: Mapping[EntryId, Arrival]) -> list[Opened]:
        """Give authentic entries their places, in the order of the DAG."""
        if not placing:
            return []
        store = self._store
        by_id = {a.id: a for a in placing}
        named_by = self._children(placing)
        ranks = Ranks(place for place in self._places.values() if place.chain)
        n = store.next_n()
        opened: list[Opened] = []
        links: list[tuple[int, EntryId]] = []
        absent: list[tuple[EntryId, int]] = []
        least: dict[int, int] = {}
        many: list[tuple[int, int]] = []
        named: set[EntryId] = set()
        heads: list[EntryId] = []
        forked: set[ChainKey] = set()
        for a in _in_order(placing, by_id):
            h = a.header
            assert h is not None
            chain, is_linked = self._chains.chain_of(a, named_by.get(a.id, ()))
            if self._chains.is_forked(h):
                if (h.device, h.incarnation) not in forked:
                    forked.add((h.device, h.incarnation))
                    self._branches.update(branch.row.n for branch in self._chains.rows(h))
                self._branches.add(chain.row.n)
            children = list(named_by.get(a.id, ()))
            if h.seq < chain.row.seq:
                children += self._chains.after(chain.row.n, h.seq)
            self._chains.extend(chain, a)
            row = EntryRow(
                n=n if a.row is None else a.row.n,
                log=self._log,
                id=a.id,
                week=a.week,
                outer=a.outer,
                signature=a.signature,
                body=a.body if a.body is not None else a.held,
                state=_state_of(a, placed=True),
                kind=h.kind,
                chain=chain.row.n,
                seq=h.seq,
                time_ms=h.time_ms,
                rank=ranks.add(a.id, h),
                mid=h.mid,
            )
            if a.row is None:
                n += 1
            body = readable_body(h.kind, a.body)
            opened.append(Opened(row, h, body, text_of(body)))
            links += [(row.n, parent) for parent in h.parents]
            if not is_linked and h.prev != NO_ENTRY:
                links.append((row.n, h.prev))
            named.update(parents_of(h))
            absent += [
                (parent, row.n)
                for parent in h.parents
                if parent not in self._places and parent not in arrivals and parent not in by_id
            ]
            if not children:
                heads.append(a.id)
            for child in children:
                if row.rank >= child.rank and (is_retold(h) or not child.retold):
                    least[child.n] = max(least.get(child.n, 0), row.rank + 1)
            if a.id in self._many:
                many.append((row.n, named_by[a.id][-1].n))
        self._insert(opened, by_id, links)
        self._chains.put()
        store.change_heads(self._log, [id_ for id_ in heads if id_ not in named], named)
        if absent:
            store.change_absent(self._log, absent, ())
        if least:
            store.change_unsettled(self._log, Task.RANK, list(least.items()), ())
        if many:
            store.change_unsettled(self._log, Task.BEHIND, many, ())
        for o in sorted(opened, key=lambda o: o.row.seq):
            if (o.header.device, o.header.incarnation) in forked:
                self._chains.note_fork(o.header, o.row.chain)
        return opened

    def _insert(
        self,
        opened: Sequence[Opened],
        by_id: Mapping[EntryId, Arrival],
        links: Sequence[tuple[int, EntryId]],
    ) -> None:
        new, old = list[EntryRow](), list[EntryRow]()
        unindexed: list[Opened] = []
        for o in opened:
            before = by_id[o.row.id].row
            (new if before is None else old).append(o.row)
            # One that was damaged at its place is found by its words already.
            if before is None or not before.chain or before.state != BodyState.OPENED:
                unindexed.append(o)
        if old:
            self._store.update(old, (), (), ())
        self._store.insert(new, links, references_in(self._log, opened), words_in(unindexed))

    # -- the rest ----------------------------------------------------------------------------

    def _keep(self, new: Sequence[Arrival]) -> None:
        """Store those that are not read, as they came."""
        store = self._store
        placed = {a.id for a in self._chains.taken.values()}
        n = store.next_n()
        rows: list[EntryRow] = []
        for a in new:
            if a.id not in placed:
                rows.append(
                    EntryRow(
                        n=n + len(rows),
                        log=self._log,
                        id=a.id,
                        week=a.week,
                        outer=a.outer,
                        signature=a.signature,
                        body=a.held,
                        state=_state_of(a, placed=False),
                    )
                )
        if rows:
            store.insert(rows, (), (), ())
        changed = [row for id_, row in self._changed.items() if id_ not in placed]
        if changed:
            store.update(changed, (), (), ())
        unsure = {id_: after for id_, after in self._unsure.items() if id_ not in placed}
        if unsure:
            places = store.places(self._log, unsure).values()
            tasks = [(place.n, unsure[place.id]) for place in places if not place.chain]
            store.change_unsettled(self._log, Task.VOUCH, tasks, ())

    def _finish(self, opened: Sequence[Opened]) -> None:
        """Fold what is read now, and learn the epochs in it."""
        state = self._state
        if state is None or not opened:
            return
        self._intake.fold.fold(state, opened, budget=_FOLDED_COST, branches=self._branches)
        learned = False
        for o in opened:
            if isinstance(o.body, bodies.Key) and o.row.kind == Kind.KEY:
                new, problem = self._intake.learn(state, o.header.device, o.body)
                learned |= new
                if problem:
                    self._add_gap(o.row.id, "key", Reason.REFUSED, o.row, problem)
        if learned and self._store.scan_unopened(self._log, 0, 1):
            self._store.change_unsettled(self._log, Task.OPEN, [(0, 0)], ())

    def _completed(self, late: Iterable[Arrival]) -> Iterator[Opened]:
        """Entries that were read before, and whose body came now."""
        for a in late:
            assert a.row is not None
            assert a.header is not None
            body = readable_body(a.header.kind, a.body)
            opened = Opened(a.row, a.header, body, text_of(body))
            self._store.update([a.row], (), references_in(self._log, [opened]), words_in([opened]))
            yield opened

    def _add_gap(self, id_: EntryId, part: str, reason: Reason, row: EntryRow, detail: str) -> None:
        known = self._store.find_gaps(self._log, [id_])
        if not any(gap.part == part for gap in known):
            gap = GapRow(self._log, id_, part, reason, row.chain, row.seq, row.time_ms, self._now_ms, detail)
            self._store.change_gaps(self._log, [gap], ())

    def _close_gaps(self, arrivals: Mapping[EntryId, Arrival]) -> None:
        """What was listed as damaged or lost, and is here and whole now, is no gap any more."""
        places = {(chain, seq) for chain, seq in self._chains.taken}
        closed: list[tuple[bytes, str, int, int]] = []
        for gap in self._store.find_gaps(self._log, [*arrivals, b""]):
            a = arrivals.get(EntryId(gap.id))
            if a is None:
                whole = gap.part == "entry" and (gap.chain, gap.seq) in places
            elif gap.part == "entry":
                whole = True
            elif gap.part == "body":
                whole = a.held is not None
            elif gap.part == "signature":
                whole = a.signature is not None or (a.vouched and gap.chain == 0)
            else:
                whole = False
            if whole:
                closed.append((gap.id, gap.part, gap.chain, gap.seq))
        if closed:
            self._store.change_gaps(self._log, (), closed)
        for a in self._unsigned.values():
            if not a.vouched and not (a.row is not None and a.row.chain):
                row = self._store.find(self._log, [a.id])[a.id]
                detail = "the signature that came with it is not its author's"
                self._add_gap(a.id, "signature", Reason.NOT_FETCHED, row, detail)


def _arrival_of(row: EntryRow, found: Unsealed) -> Arrival:
    """A stored entry as it was found."""
    return Arrival(
        row.id,
        row.outer,
        row.week,
        found.header,
        found.epoch,
        "",
        found.held,
        found.body,
        row.signature,
        row,
        lay=True,
        closed=found.closed,
    )


def _in_order(placing: Sequence[Arrival], by_id: Mapping[EntryId, Arrival]) -> Sequence[Arrival]:
    """Entries after all that they name among them."""
    ordered: list[Arrival] = []
    done: set[EntryId] = set()
    for a in placing:
        path = [a] if a.id not in done else []
        # Not recursive: a chain that comes backwards is as deep as the batch is long.
        while path:
            last = path[-1]
            h = last.header
            assert h is not None
            before = h.prev if h.prev in by_id and h.prev not in done else None
            if h.parents and before is None:
                before = next((p for p in h.parents if p in by_id and p not in done), None)
            if before is not None:
                path.append(by_id[before])
                continue
            done.add(last.id)
            ordered.append(last)
            path.pop()
    return ordered


def _state_of(a: Arrival, *, placed: bool) -> BodyState:
    if a.held is None:
        return BodyState.NOT_FETCHED
    if not placed:
        return BodyState.SEALED
    if a.closed:
        return BodyState.CLOSED
    return BodyState.OPENED if a.body is not None else BodyState.SEALED
