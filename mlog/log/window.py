"""Window and pruning: what of a log is kept here, and dropping what is not, once others have proven it.

A window says how far back a log is wanted here. What lies before it stays until it is pruned. A week
is dropped only if a receipt of another trusted device that has not expired shows that it holds the
week as it is here now. Receipts have roots over all weeks, and what came here since one was signed
is not in them; so the entries are taken away again in the reverse order of their coming until as
many are left as the receipt counts. If they make its roots, the holder has exactly these: the rule
needs no clock, and where it proves too little nothing is dropped.

Never dropped: entries that carry the log (kinds below 16), erasures, edits and reactions of what is
kept, the last entry of each chain, the first one of a chain that reaches into the window, chains that were
forked, and what a later signature vouches for only through an entry that would be dropped.
docs/protocol.md, 7.2.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import entry
from mlog.log.bodies import Kind
from mlog.log.ids import EntryId, MessageId, week_of
from mlog.log.merkle import refresh_digests, segment_digest
from mlog.log.peers import PrunedRow, ReceiptRow
from mlog.log.receipts import check_receipt
from mlog.log.replica import Replica
from mlog.log.scope import bodies_root, entries_root, scope_of
from mlog.log.store import HELD, ChainRow, Digest, EntryRow, LogRow, Place, RunRow, Store, place_of

__all__ = ["Plan", "plan", "proven_weeks", "prune", "set_window"]

_SAID_FIRST: Final = 16
"""Kinds below carry the log itself."""
_ABOUT: Final = frozenset({Kind.EDIT, Kind.REACTION})
"""Kinds that go only with the message that they are about."""
_REPLAYED_WEEKS: Final = 8
"""Weeks before a receipt in which entries may still have come late; then all weeks are looked at."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What may be dropped of a log.

    Attributes:
        first_week: What is from this week on is kept.
        bounds: For each week that may go the greatest `n` that may: what came later is not proven.
        digests: Of those weeks, as they are now.
        unproven: Earlier weeks with entries that no receipt covers.
    """

    log: int
    first_week: int
    bounds: Mapping[int, int]
    digests: Mapping[int, Digest]
    unproven: tuple[int, ...]


def set_window(store: Store, log: int, days: int, *, fetch_bodies: bool, now_ms: int) -> None:
    """Remember how much of a log is wanted here; what was pruned and is wanted again will be fetched.

    Args:
        days: 0 for everything.
    """
    with store.transaction():
        store.set_window(log, days, fetch_bodies=fetch_bodies)
        row = next(row for row in store.logs() if row.n == log)
        first_week = scope_of(row, now_ms).first_week
        if any(dropped.week >= first_week for dropped in store.pruned(log)):
            store.remove_pruned(log, first_week)


def plan(replica: Replica, log: int, now_ms: int, *, force: bool = False) -> Plan:
    """Work out which weeks before the window may be dropped.

    Args:
        force: All of them, proven or not.
    """
    store = replica.store
    row = next(row for row in store.logs() if row.n == log)
    first_week, newest = scope_of(row, now_ms).first_week, store.next_n() - 1
    digests = {digest.week: digest for digest in refresh_digests(store, log)}
    early = sorted(week for week, digest in digests.items() if week < first_week and digest.entries)
    bounds: dict[int, int] = {}
    if early and force:
        bounds = dict.fromkeys(early, newest)
    elif early:
        proven = _proven_by_any(replica, row, now_ms)
        dropped = {before.week: before for before in store.pruned(log)}
        bounds = {week: newest for week in early if week in proven and week not in dropped}
        # What was begun and not finished goes on.
        bounds |= {week: dropped[week].last_n for week in early if week in dropped}
    return Plan(
        log=log,
        first_week=first_week,
        bounds=bounds,
        digests={week: digests[week] for week in bounds},
        unproven=tuple(week for week in early if week not in bounds),
    )


def prune(replica: Replica, plan: Plan, now_ms: int, *, dry_run: bool = False) -> Generator[int]:
    """Drop what a plan allows; gives how many entries went, after each step that is durable.

    Args:
        dry_run: Count them only.
    """
    store = replica.store
    if not plan.bounds:
        return
    while replica.settle(plan.log, now_ms):
        pass
    forked = {(fork.device, fork.incarnation) for fork in store.forks(plan.log)}
    for chain in store.chains(plan.log):
        if (chain.device, chain.incarnation) in forked or chain.branch:
            continue
        for batch in _removable(store, plan, chain):
            if not dry_run:
                with replica.transaction():
                    _record(store, plan, {row.week for row in batch}, now_ms)
                    _remove(replica, chain, batch)
            yield len(batch)


def _record(store: Store, plan: Plan, weeks: Collection[int], now_ms: int) -> None:
    known = {before.week for before in store.pruned(plan.log)}
    for week in set(weeks) - known:
        digest = plan.digests[week]
        store.put_pruned(
            PrunedRow(
                log=plan.log,
                week=week,
                entries=digest.entries,
                bodies=digest.bodies,
                entries_hash=digest.entries_hash,
                bodies_hash=digest.bodies_hash,
                time_ms=now_ms,
                last_n=plan.bounds[week],
            )
        )


# -- what others have proven to hold ---------------------------------------------------------


def _proven_by_any(replica: Replica, row: LogRow, now_ms: int) -> set[int]:
    store, here = replica.store, replica.device_id
    # Who was removed may still connect, and gives back nothing.
    people = replica.people
    trusted = {p.device for p in store.peers() if p.own or row.n in people.shared_with(p.device)} - {here}
    proven: set[int] = set()
    for receipt in (*store.receipts(row.n), *store.old_receipts(row.n)):
        if receipt.device in trusted and receipt.expires_ms > now_ms:
            proven |= proven_weeks(store, row, receipt)
    return proven


def proven_weeks(store: Store, row: LogRow, receipt: ReceiptRow) -> set[int]:
    """The weeks that are here exactly as the holder of a receipt stated to hold them.

    A week of which bodies are here counts only if the receipt is also for these.
    """
    if not _is_signed(row, receipt):
        return set()
    current = {digest.week: digest for digest in refresh_digests(store, row.n)}
    before = current | {
        d.week: Digest(d.week, d.entries, d.bodies, d.entries_hash, d.bodies_hash)
        for d in store.pruned(row.n)
    }
    before = {week: digest for week, digest in before.items() if week >= receipt.first_week}
    late = week_of(receipt.time_ms) - _REPLAYED_WEEKS
    for since in (limits.WEEK_MAX + 1, late, receipt.first_week):
        digests = _as_signed(store, row.n, before, receipt.entries, since)
        if digests is None or entries_root(digests.values(), receipt.first_week) != receipt.entries_root:
            continue
        with_bodies = bodies_root(digests.values(), receipt.first_week) == receipt.bodies_root
        return {
            week
            for week, digest in digests.items()
            if week in current
            and (digest.entries, digest.entries_hash) == (current[week].entries, current[week].entries_hash)
            and (with_bodies or not current[week].bodies)
        }
    return set()


def _is_signed(row: LogRow, receipt: ReceiptRow) -> bool:
    try:
        device, statement = check_receipt(receipt.proof)
    except InvalidInput:
        return False
    stated: tuple[object, ...] = msgspec.structs.astuple(statement)
    kept = (
        row.topic,
        receipt.first_week,
        receipt.entries,
        receipt.bodies,
        receipt.entries_root,
        receipt.bodies_root,
        receipt.time_ms,
        receipt.expires_ms,
    )
    return device == receipt.device and stated == kept


def _as_signed(
    store: Store, log: int, before: Mapping[int, Digest], entries: int, since: int
) -> dict[int, Digest] | None:
    """The digests with only the first `entries` entries, of which the last came in weeks from `since` on."""
    whole = {week: digest for week, digest in before.items() if week < since}
    left = entries - sum(digest.entries for digest in whole.values())
    replayed = [week for week in before if week >= since]
    if left < 0 or (left and not replayed):
        return None
    gone = {gap.id for gap in store.gaps(log) if gap.part == "entry"}
    arrived: list[tuple[int, int, EntryId, bool]] = []
    for week in replayed:
        after = 0
        while rows := store.week_arrivals(log, week, after, limits.SCAN_ROWS_MAX):
            after = rows[-1].n
            arrived += [(row.n, week, row.id, row.state in HELD) for row in rows if row.id not in gone]
    if len(arrived) < left:
        return None
    arrived.sort()
    by_week: dict[int, list[tuple[EntryId, bool]]] = {}
    for _, week, id_, held in arrived[:left]:
        by_week.setdefault(week, []).append((id_, held))
    return whole | {week: segment_digest(week, sorted(ids)) for week, ids in by_week.items()}


# -- what may go of a chain ------------------------------------------------------------------


def _removable(store: Store, plan: Plan, chain: ChainRow) -> Iterator[list[EntryRow]]:
    """Entries of a chain that may go, by number, at most SCAN_ROWS_MAX at a time."""
    newest, after, unvouched = store.next_n() - 1, -1, -1
    while rows := store.scan(chain.n, after, limits.SCAN_ROWS_MAX):
        after = rows[-1].seq
        kept = _kept_with_messages(store, plan, rows)
        found: list[EntryRow] = []
        for row in rows:
            may_go = (
                row.n <= plan.bounds.get(row.week, 0)
                and row.n < newest
                and row.seq < chain.seq
                and (row.seq > 0 or chain.week < plan.first_week)
                and row.kind >= _SAID_FIRST
                and row.kind != Kind.ERASURE
                and row.n not in kept
                and row.seq != unvouched
            )
            if may_go:
                found.append(row)
            elif row.signature is None:
                # It is authentic by what comes next: that stays too.
                unvouched = row.seq + 1
        if found:
            yield found


def _kept_with_messages(store: Store, plan: Plan, rows: Sequence[EntryRow]) -> set[int]:
    """Of these, what is about a message that stays."""
    about = store.references([row.n for row in rows if row.kind in _ABOUT])
    mids = {mid for targets in about.values() for mid in targets}
    said = store.by_mid(plan.log, mids) if mids else {}
    stays = {
        mid
        for mid, found in said.items()
        if any(row.n > plan.bounds.get(row.week, 0) or row.kind < _SAID_FIRST for row in found)
    }
    return {n for n, targets in about.items() if not stays.isdisjoint(targets)}


# -- dropping --------------------------------------------------------------------------------


def _remove(replica: Replica, chain: ChainRow, rows: Sequence[EntryRow]) -> None:
    """Drop entries of one chain, and mend all that named them."""
    store, log = replica.store, chain.log
    ids, ns, seqs = {row.id for row in rows}, {row.n for row in rows}, {row.seq for row in rows}
    naming = {
        id_: [place for place in places if place.n not in ns]
        for id_, places in store.children(log, ids).items()
    }
    after = store.places_at([(chain.n, row.seq + 1) for row in rows if row.seq + 1 not in seqs])
    before = store.places_at([(chain.n, row.seq - 1) for row in rows if row.seq - 1 not in seqs])
    named = {id_ for parents in store.parents(ns).values() for id_ in parents}
    named |= {place.id for place in before.values()}
    about = store.references(ns)
    mids = {row.message for row in rows} | {mid for targets in about.values() for mid in targets}

    replica.remove(rows)
    _cut_runs(store, chain.n, sorted(seqs))
    by_seq = {row.seq: row.id for row in rows}
    store.insert([], [(place.n, by_seq[seq - 1]) for (_, seq), place in after.items()], [], [])
    # The next one of the chain names it as `prev`, which the list of absent parents leaves out.
    seq_of = {row.id: row.seq for row in rows}
    parents = {
        id_: others[0].n
        for id_, places in naming.items()
        if (others := [p for p in places if (p.chain, p.seq) != (chain.n, seq_of[id_] + 1)])
    }
    store.add_pruned_parents(log, list(parents.items()))
    _name_absent_anew(replica, log, ns)
    _mend_heads(store, log, named - ids, ids)
    starts = {place.n for place in after.values()} | {p.n for places in naming.values() for p in places}
    moved = _lower_ranks(store, log, starts)
    replica.refold_messages(log, {MessageId(mid) for mid in mids}, moved)
    gaps = store.find_gaps(log, ids)
    if gaps:
        store.change_gaps(log, [], [(gap.id, gap.part, gap.chain, gap.seq) for gap in gaps])


def _cut_runs(store: Store, chain: int, seqs: Sequence[int]) -> None:
    for run in store.runs_near(chain, seqs[0], seqs[-1]):
        gone = [seq for seq in seqs if run.first <= seq <= run.last]
        if not gone:
            continue
        store.remove_run(chain, run.first)
        first = run.first
        for seq in (*gone, run.last + 1):
            if first < seq:
                store.put_run(RunRow(chain, first, seq - 1))
            first = seq + 1


def _name_absent_anew(replica: Replica, log: int, ns: Collection[int]) -> None:
    """Entries that were absent before: what named them here may be gone too."""
    store, keys = replica.store, replica.log(log).keys
    absent = [id_ for id_, n in store.absent(log, limits.GAPS_MAX) if n in ns]
    pruned = [id_ for id_, n in store.pruned_parents(log, limits.GAPS_MAX) if n in ns]
    naming: dict[EntryId, int] = {}
    for id_, places in store.children(log, [*absent, *pruned]).items():
        for row in store.rows([place.n for place in places]).values():
            # By its place alone nobody knows whether it names the absent one as `prev`.
            if id_ not in naming and id_ in entry.open_header(keys, row.outer)[0].parents:
                naming[id_] = row.n
    store.change_absent(log, (), [*absent, *pruned])
    store.change_absent(log, [(id_, naming[id_]) for id_ in absent if id_ in naming], ())
    store.add_pruned_parents(log, [(id_, naming[id_]) for id_ in pruned if id_ in naming])


def _mend_heads(store: Store, log: int, named: Collection[EntryId], gone: Collection[EntryId]) -> None:
    """What only dropped entries named is named by nobody here now."""
    held = {id_: place for id_, place in store.places(log, named).items() if place.chain}
    children = store.children(log, held)
    followed = store.places_at([(place.chain, place.seq + 1) for place in held.values()])
    heads = [
        id_
        for id_, place in held.items()
        if not children.get(id_) and (place.chain, place.seq + 1) not in followed
    ]
    store.change_heads(log, heads, gone)


def _lower_ranks(store: Store, log: int, starts: Collection[int]) -> list[Place]:
    """Work out the places again of entries that named dropped ones, and of what follows from them.

    Going by the old ranks looks at each entry after all that it names. Gives those that moved.
    """
    moved: list[Place] = []
    waiting = [(row.rank, row.n) for row in store.rows(starts).values() if row.chain]
    heapify(waiting)
    seen: set[int] = set()
    while waiting:
        _, n = heappop(waiting)
        if n in seen:
            continue
        seen.add(n)
        row = store.rows([n])[n]
        before = store.places_at([(row.chain, row.seq - 1)]).values()
        named = store.places(log, store.parents([n]).get(n, [])).values()
        rank = row.time_ms
        for place in (*before, *named):
            if place.chain and place.rank >= rank and (place.retold or not row.is_retold):
                rank = place.rank + 1
        if rank == row.rank:
            continue
        store.set_ranks([(n, rank)])
        row.rank = rank
        moved.append(place_of(row))
        following = store.places_at([(row.chain, row.seq + 1)]).values()
        for child in (*following, *store.children(log, [row.id]).get(row.id, ())):
            heappush(waiting, (child.rank, child.n))
    return moved
