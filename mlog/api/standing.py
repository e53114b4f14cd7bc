"""Standing: how every log stands at the devices that are known, and how one entry stands here.

What is said of a device was proven by it (receipts, equal roots) or heard from it; nothing is
guessed. What came here after a proof is found by the order of arrival: without it, the entries that
are left must make the root that was signed, or else no week is said to be whole there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import people
from mlog.log.ids import DeviceId, EntryId, Incarnation, week_of
from mlog.log.merkle import refresh_digests, segment_digest
from mlog.log.peers import PeerRow, PrunedRow, ReceiptRow, SyncRow, SyncState
from mlog.log.receipts import check_receipt
from mlog.log.scope import Scope, entries_root, scope_of
from mlog.log.store import Digest, EntryRow, GapRow, LogKind, LogRow, Store
from mlog.plurals import counted

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = [
    "Calendar",
    "CalendarRow",
    "Cell",
    "Copy",
    "CopyState",
    "Holding",
    "Standing",
    "left_logs",
    "standing_of",
    "standings",
]

_PARTS: Final = frozenset({"entry", "body", "signature"})

_ROOT_SIZE: Final = 16
"""Of the root that a session keeps, as it stands on the wire."""


class CopyState(StrEnum):
    """How the copy of a device stands against the one here."""

    EQUAL = "in sync"
    BEHIND = "behind"
    DIFFERING = "differing"
    NOT_COMPARED = "never compared"
    NEVER_MET = "never met"


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One device's copy of one log, as far as it is known here.

    Attributes:
        here_lacks: Entries that the device told of and that are not here.
        there_lacks: Entries here that are not proven to be there.
        exact: Both numbers are; else there are at least so many.
        weeks: Of what is not proven there: week and entries, oldest first; empty where not exact.
        first_missing: The oldest of these, or None.
        detail: Why it is not in sync, in plain words.
        first_week: It keeps only what is from this week on, as it said last.
        bodies: It signed that it holds bodies too; None where nothing that it signed counts.
        compared_ms: When it was last compared; 0 for never, as below.
        proven_ms: When it was last proven to hold the same.
        expires_ms: Until when that counts: a holder stands by a receipt for so long.
    """

    log: int
    device: DeviceId
    name: str
    state: CopyState
    here_lacks: int = 0
    there_lacks: int = 0
    exact: bool = True
    weeks: tuple[tuple[int, int], ...] = ()
    first_missing: EntryId | None = None
    detail: str = ""
    first_week: int = 0
    bodies: bool | None = None
    seen_ms: int = 0
    compared_ms: int = 0
    proven_ms: int = 0
    expires_ms: int = 0


class Cell(StrEnum):
    """One device and one week of a log."""

    COMPLETE = "complete"
    BEHIND = "behind"
    ABSENT = "absent on purpose"
    GAP = "gap"
    UNKNOWN = "unknown"


class CalendarRow(msgspec.Struct, frozen=True):
    """A device and what it holds of each week; weeks in which there is nothing are left out."""

    device: DeviceId
    name: str
    here: bool
    cells: Mapping[int, Cell]


class Calendar(msgspec.Struct, frozen=True):
    """Weeks by device, this one first."""

    rows: tuple[CalendarRow, ...]

    @property
    def weeks(self) -> range:
        """From the first to the last week in which there is something."""
        weeks = [week for row in self.rows for week in row.cells]
        return range(min(weeks), max(weeks) + 1) if weeks else range(0)


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What a device was proven to hold of a log, as entries that are known here.

    Attributes:
        first_week: Everything from this week on,
        later: but for these, which came here afterwards, or are damaged here and in no proof; None where
            they cannot be told.
        weeks: Of those that came, by week how many.
        first: Of those, the first in the order of the view.
        count: How many came; at least, where they cannot be told.
        bodies: With bodies, as it signed.
    """

    first_week: int
    later: frozenset[EntryId] | None
    weeks: Mapping[int, int]
    first: EntryId | None
    count: int
    bodies: bool

    def covers(self, id_: EntryId, week: int) -> bool:
        """Whether this entry is proven to be there."""
        return self.later is not None and week >= self.first_week and id_ not in self.later

    def cell(self, week: int, scope: Scope, pruned: Collection[int]) -> Cell:
        """What is known of a week there.

        Args:
            scope: What is kept here: the week in which a proof begins is the later of both starts.
        """
        if week < self.first_week:
            is_theirs = scope.first_week < self.first_week and week not in pruned
            return Cell.ABSENT if is_theirs else Cell.UNKNOWN
        if self.later is None:
            return Cell.UNKNOWN
        return Cell.BEHIND if week in self.weeks else Cell.COMPLETE


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One log at all devices.

    Attributes:
        copies: One for each other device, in the order in which they were trusted.
        holdings: What is proven of each, while it stands by it.
        first_week: Where the window begins that is kept here; 0 for everything.
        is_left: It is a person or private log that this device does not use any more.
    """

    log: int
    copies: tuple[Copy, ...]
    holdings: Mapping[DeviceId, Holding]
    calendar: Calendar
    first_week: int = 0
    is_left: bool = False

    @property
    def proven_ms(self) -> int:
        """When another device was last proven to hold the same; 0 for never."""
        return max((copy.proven_ms for copy in self.copies), default=0)


def standings(home: Home, log: int | None = None) -> list[Standing]:
    """How one log stands, or all, at the devices that are known."""
    now_ms, here, left = home.now_ms(), home.replica.device_id, left_logs(home)
    found = [standing_of(home.store, row, here, now_ms) for row in home.store.logs() if log in (None, row.n)]
    return [
        msgspec.structs.replace(standing, copies=(), holdings={}, is_left=True)
        if standing.log in left
        else standing
        for standing in found
    ]


def left_logs(home: Home) -> frozenset[int]:
    """The person and private logs that this device left when it joined another person: nobody shares them."""
    shared = {state.n for state in people.shared_logs(home.replica)}
    return frozenset(
        row.n
        for row in home.store.logs()
        if row.kind in (LogKind.PERSON, LogKind.PRIVATE) and row.n not in shared
    )


def standing_of(store: Store, row: LogRow, here: DeviceId, now_ms: int) -> Standing:
    """How a log stands at the devices that may have it.

    Args:
        here: This device.
    """
    digests = refresh_digests(store, row.n)
    scope = scope_of(row, now_ms)
    pruned = {dropped.week: dropped for dropped in store.pruned(row.n)}
    # As it was before anything was dropped on purpose or lost: that is what others signed.
    evidence = _Evidence(store, row, digests, pruned)
    syncs = {sync.device: sync for sync in store.syncs(row.n)}
    receipts = {receipt.device: receipt for receipt in store.receipts(row.n) if _is_whole(receipt, row)}
    heard = _heard_of(store, row.n)
    copies: list[Copy] = []
    holdings: dict[DeviceId, Holding] = {}
    rows = [CalendarRow(here, "", True, _cells_here(store, row.n, digests, scope, pruned))]
    for peer in store.peers():
        sync, receipt = syncs.get(peer.device), receipts.get(peer.device)
        proven_ms, expires_ms = _proof_times(sync, receipt, now_ms)
        stands = now_ms < expires_ms
        holding = evidence.holding(sync, receipt if stands else None, scope)
        told = heard.get(peer.device, 0)
        copy = _copy(row.n, peer, sync, holding, told, (proven_ms, expires_ms))
        if receipt is not None:
            starts_later = receipt.first_week > scope.first_week
            first_week = receipt.first_week if starts_later else 0
            bodies = receipt.bodies > 0 if stands else None
            copy = msgspec.structs.replace(copy, first_week=first_week, bodies=bodies)
        copies.append(copy)
        cells: dict[int, Cell] = dict.fromkeys(evidence.weeks, Cell.UNKNOWN)
        if holding is not None and stands:
            holdings[peer.device] = holding
            cells = {week: holding.cell(week, scope, pruned) for week in evidence.weeks}
        rows.append(CalendarRow(peer.device, peer.name, False, cells))
    return Standing(
        log=row.n,
        copies=tuple(copies),
        holdings=holdings,
        calendar=Calendar(tuple(rows)),
        first_week=scope.first_week,
    )


# -- proofs ----------------------------------------------------------------------------------


def _is_whole(receipt: ReceiptRow, row: LogRow) -> bool:
    """Whether a receipt says what its row says, and its holder signed it."""
    try:
        device, statement = check_receipt(receipt.proof)
    except InvalidInput:
        return False
    said = (device, statement.topic, statement.first_week, statement.entries, statement.entries_root)
    kept = (receipt.device, row.topic, receipt.first_week, receipt.entries, receipt.entries_root)
    times = statement.time_ms == receipt.time_ms and statement.expires_ms == receipt.expires_ms
    return said == kept and times and statement.bodies == receipt.bodies


def _proof_times(sync: SyncRow | None, receipt: ReceiptRow | None, now_ms: int) -> tuple[int, int]:
    """When a device was last proven to hold the same, and until when that counts; by our clock.

    A holder dates its receipt by its own clock, which may be years off: when we found it equal counts.
    """
    proven_ms = sync.equal_ms if sync is not None else 0
    if not proven_ms and receipt is not None:
        proven_ms = min(receipt.time_ms, now_ms)
    if proven_ms > now_ms + limits.CLOCK_SKEW_WARN_MS:
        # Our own clock was ahead then: nobody knows how long ago that was.
        return 0, 0
    expires_ms = proven_ms + limits.RECEIPT_LIFE_MS if proven_ms else 0
    return proven_ms, min(expires_ms, receipt.expires_ms) if receipt is not None else expires_ms


class _Evidence:
    """What is kept here of a log, to compare with what others signed."""

    def __init__(self, store: Store, row: LogRow, digests: Sequence[Digest], pruned: Mapping[int, PrunedRow]):
        self._store = store
        self._log = row.n
        self._pruned = pruned
        self._lost: dict[int, set[EntryId]] = {}
        self._gone: set[EntryId] = set()
        for gap in store.gaps(row.n):
            if gap.part == "entry":
                self._gone.add(EntryId(gap.id))
                if gap.id:
                    # Where the row is lost, its time tells its week; whether that is right, the root shows.
                    self._lost.setdefault(_week_of_gap(store, gap), set()).add(EntryId(gap.id))
        self._now = {digest.week: digest for digest in digests} | {
            p.week: Digest(p.week, p.entries, p.bodies, p.entries_hash, p.bodies_hash)
            for p in pruned.values()
        }
        self.weeks = sorted(week for week, digest in self._now.items() if digest.entries)

    def holding(self, sync: SyncRow | None, receipt: ReceiptRow | None, scope: Scope) -> Holding | None:
        """What a device was proven to hold, or None if nothing was."""
        proof_ms = sync.equal_ms if sync is not None else 0
        found = self._equal(sync, receipt, scope) or (self._signed(receipt) if receipt is not None else None)
        if found is None or sync is None or sync.time_ms <= proof_ms or found.later is None:
            return found
        if sync.state == SyncState.EQUAL or (
            sync.state == SyncState.BEHIND and sync.there_lacks <= found.count
        ):
            return found
        # It lacks more than what came here since: it lost something, and did not say what.
        count = max(found.count, sync.there_lacks)
        return msgspec.structs.replace(found, later=None, weeks={}, first=None, count=count)

    def _equal(self, sync: SyncRow | None, receipt: ReceiptRow | None, scope: Scope) -> Holding | None:
        """Nothing changed here since the device was found equal."""
        if sync is None or not sync.equal_root:
            return None
        starts = {0, scope.first_week, receipt.first_week if receipt is not None else 0}
        for digests, lost in self._variants():
            for first_week in sorted(starts):
                if entries_root(digests, first_week)[:_ROOT_SIZE] == sync.equal_root:
                    return Holding(
                        first_week=first_week,
                        later=self._unproven(lost),
                        weeks={},
                        first=None,
                        count=0,
                        bodies=receipt is not None and receipt.bodies > 0,
                    )
        return None

    def _signed(self, receipt: ReceiptRow) -> Holding:
        """What came here since a receipt was signed."""
        first_week, bodies = receipt.first_week, receipt.bodies > 0
        for digests, lost in self._variants():
            count = sum(d.entries for d in digests if d.week >= first_week) - receipt.entries
            if not 0 <= count <= limits.GAPS_MAX:
                continue
            newest = self._newest(first_week, count)
            before = self._without(digests, newest, lost)
            if before is not None and entries_root(before, first_week) == receipt.entries_root:
                weeks = Counter(row.week for row in newest)
                return Holding(
                    first_week=first_week,
                    later=self._unproven(lost).union(row.id for row in newest),
                    weeks=weeks,
                    first=min(newest, key=lambda row: row.position).id if newest else None,
                    count=count,
                    bodies=bodies,
                )
        entries = sum(d.entries for d in self._now.values() if d.week >= first_week)
        count = max(entries - receipt.entries, 1)
        return Holding(first_week=first_week, later=None, weeks={}, first=None, count=count, bodies=bodies)

    def _variants(self) -> Iterator[tuple[list[Digest], Mapping[int, set[EntryId]]]]:
        """What is here now; then, with the entries that are known to be lost, and these by week."""
        yield list(self._now.values()), {}
        if self._lost:
            restored = dict(self._now)
            for week, ids in self._lost.items():
                if week not in self._pruned:
                    restored[week] = self._digest(week, add=ids)
            yield list(restored.values()), self._lost

    def _unproven(self, lost: Mapping[int, set[EntryId]]) -> frozenset[EntryId]:
        """What is damaged or lost here, and was no part of what a root was made of."""
        return frozenset(self._gone).difference(*lost.values())

    def _newest(self, first_week: int, count: int) -> list[EntryRow]:
        """The entries of a scope that came last."""
        found: list[EntryRow] = []
        end = self._store.next_n()
        span = count + limits.STORE_ROWS_MAX
        while count and len(found) < count and end > 1 and span <= 16 * limits.GAPS_MAX:
            start = max(end - span, 1)
            found = [*self._arrivals(start, end, first_week), *found]
            end, span = start, span * 4
        return found[-count:] if count else []

    def _arrivals(self, start: int, end: int, first_week: int) -> list[EntryRow]:
        found: list[EntryRow] = []
        after = start - 1
        while rows := self._store.arrivals(self._log, after, limits.SCAN_ROWS_MAX):
            after = rows[-1].n
            found += [
                row for row in rows if row.n < end and row.week >= first_week and row.id not in self._gone
            ]
            if after >= end:
                break
        return found

    def _without(
        self, digests: Sequence[Digest], rows: Sequence[EntryRow], lost: Mapping[int, set[EntryId]]
    ) -> list[Digest] | None:
        """The digests as they were before these entries came, or None where that is not known any more."""
        by_week: dict[int, set[EntryId]] = {}
        for row in rows:
            by_week.setdefault(row.week, set()).add(row.id)
        if by_week.keys() & self._pruned.keys():
            return None
        changed = {
            week: self._digest(week, add=lost.get(week, ()), remove=ids) for week, ids in by_week.items()
        }
        return [changed.get(digest.week, digest) for digest in digests]

    def _digest(self, week: int, *, add: Collection[EntryId], remove: Collection[EntryId] = ()) -> Digest:
        ids = {id_ for id_, _ in self._store.segment(self._log, week)}
        return segment_digest(week, ((id_, False) for id_ in sorted((ids | set(add)) - set(remove))))


def _week_of_gap(store: Store, gap: GapRow) -> int:
    row = store.find(gap.log, [EntryId(gap.id)]).get(EntryId(gap.id)) if gap.id else None
    return row.week if row is not None else week_of(gap.time_ms)


# -- what is said of a device ----------------------------------------------------------------


def _heard_of(store: Store, log: int) -> dict[DeviceId, int]:
    """How many entries each device told of that lie beyond the ends of the chains here."""
    ends: dict[tuple[DeviceId, Incarnation], int] = {}
    for chain in store.chains(log):
        key = chain.device, chain.incarnation
        ends[key] = max(chain.seq, ends.get(key, -1))
    beyond: Counter[DeviceId] = Counter()
    for heard in store.heard(log):
        beyond[heard.by] += max(heard.seq - ends.get((heard.device, heard.incarnation), -1), 0)
    return dict(beyond)


def _copy(
    log: int,
    peer: PeerRow,
    sync: SyncRow | None,
    holding: Holding | None,
    heard: int,
    times: tuple[int, int],
) -> Copy:
    proven_ms, expires_ms = times
    known = Copy(
        log=log,
        device=peer.device,
        name=peer.name,
        state=CopyState.NOT_COMPARED if peer.seen_ms else CopyState.NEVER_MET,
        detail="it was never connected to this device",
        seen_ms=peer.seen_ms,
    )
    if sync is None and not proven_ms:
        return msgspec.structs.replace(known, detail=_NOT_COMPARED) if peer.seen_ms else known
    behind = sync is not None and sync.state == SyncState.BEHIND
    here_lacks = max(heard, sync.here_lacks if sync is not None and behind else 0)
    there_lacks = sync.there_lacks if sync is not None and behind else 0
    exact = holding is not None and holding.later is not None
    if holding is not None:
        there_lacks = max(there_lacks, holding.count)
    elif proven_ms:
        # It was equal once; what changed here since cannot be told any more.
        there_lacks = max(there_lacks, 1)
    state = CopyState.BEHIND if here_lacks or there_lacks else CopyState.EQUAL
    details = [_there(there_lacks, exact=exact)] if there_lacks else []
    if here_lacks:
        details.append(f"it told of {counted(here_lacks, 'entry', 'entries')} that did not come here yet")
    if sync is not None and sync.state == SyncState.DIFFERING:
        state, details = CopyState.DIFFERING, [sync.detail]
    return msgspec.structs.replace(
        known,
        state=state,
        here_lacks=here_lacks,
        there_lacks=there_lacks,
        exact=exact and not (behind and not heard and here_lacks),
        weeks=tuple(sorted(holding.weeks.items())) if holding is not None else (),
        first_missing=holding.first if holding is not None else None,
        detail="; ".join(details),
        compared_ms=sync.time_ms if sync is not None else 0,
        proven_ms=proven_ms,
        expires_ms=expires_ms,
    )


_NOT_COMPARED: Final = "it was connected, and this conversation was not compared with it yet"


def _there(lacks: int, *, exact: bool) -> str:
    least = "" if exact else "at least "
    are = "is" if lacks == 1 else "are"
    return f"{least}{counted(lacks, 'entry', 'entries')} here {are} not proven there yet"


# -- what is said of this device -------------------------------------------------------------


def _cells_here(
    store: Store, log: int, digests: Sequence[Digest], scope: Scope, pruned: Collection[int]
) -> dict[int, Cell]:
    held = {digest.week for digest in digests if digest.entries}
    cells = dict.fromkeys(held.union(pruned), Cell.COMPLETE)
    chains = {(chain.device, chain.incarnation): chain for chain in store.chains(log)}
    for heard in store.heard(log):
        chain = chains.get((heard.device, heard.incarnation))
        if chain is None or heard.seq > chain.seq:
            # It was written before somebody told of it: no later week can be concerned.
            cells[week_of(heard.time_ms)] = Cell.BEHIND
    for week in _gap_weeks(store, log):
        cells[week] = Cell.GAP
    for week in cells:
        if week in pruned or week < scope.first_week:
            cells[week] = Cell.ABSENT
    return cells


def _gap_weeks(store: Store, log: int) -> Iterator[int]:
    """Weeks of which something is missing: what the gap list names, and holes in chains."""
    yield from (_week_of_gap(store, gap) for gap in store.gaps(log) if gap.part in _PARTS)
    ends: dict[int, int] = {}
    holes = 0
    for run in store.runs(log):
        if run.chain in ends and holes < limits.GAPS_MAX:
            holes += 1
            behind = store.at(run.chain, run.first)
            if behind is not None:
                yield behind.week
        ends[run.chain] = run.last
