"""The store in memory: the reference that the database is compared with, and the simulator's."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import msgspec

from mlog import limits
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId
from mlog.log.peers import HeardRow, PeerRow, PrunedRow, ReceiptRow, SyncRow
from mlog.log.store import (
    BodyState,
    ChainRow,
    DeviceRow,
    Digest,
    EntryRow,
    EpochRow,
    GapRow,
    Hit,
    LogRow,
    Reference,
    RunRow,
    TimelineQuery,
)

__all__ = ["MemoryStore"]


class _Tables(msgspec.Struct):
    logs: dict[int, LogRow] = {}
    epochs: list[EpochRow] = []
    devices: dict[DeviceId, DeviceRow] = {}
    chains: dict[int, ChainRow] = {}
    entries: dict[int, EntryRow] = {}
    by_id: dict[EntryId, int] = {}
    by_mid: dict[MessageId, list[int]] = {}
    by_place: dict[tuple[int, int], int] = {}
    parents: dict[int, list[EntryId]] = {}
    references: dict[int, list[Reference]] = {}
    words: dict[int, str] = {}
    words_distrusted: bool = False
    heads: dict[int, set[EntryId]] = {}
    digests: dict[tuple[int, int], Digest] = {}
    stale: set[tuple[int, int]] = set()
    gaps: list[GapRow] = []
    runs: dict[int, dict[int, RunRow]] = {}
    absent: dict[int, dict[EntryId, int]] = {}
    peers: dict[DeviceId, PeerRow] = {}
    syncs: dict[tuple[int, DeviceId], SyncRow] = {}
    receipts: dict[tuple[int, DeviceId], ReceiptRow] = {}
    heard: dict[tuple[int, DeviceId, Incarnation, DeviceId], HeardRow] = {}
    pruned: dict[tuple[int, int], PrunedRow] = {}


class MemoryStore:
    """Implements `mlog.log.store.Store`; search knows quoted phrases and prefixes only."""

    def __init__(self) -> None:
        self._t = _Tables()
        self._in_transaction = False

    @contextmanager
    def transaction(self) -> Generator[None]:
        if self._in_transaction:
            yield
            return
        before = deepcopy(self._t)
        self._in_transaction = True
        try:
            yield
        except BaseException:
            self._t = before
            raise
        finally:
            self._in_transaction = False

    @contextmanager
    def reading(self) -> Generator[None]:
        yield

    def logs(self) -> list[LogRow]:
        return sorted(self._t.logs.values(), key=lambda row: row.n)

    def add_log(self, row: LogRow) -> None:
        self._t.logs[row.n] = row

    def set_title(self, log: int, title: str) -> None:
        self._t.logs[log] = msgspec.structs.replace(self._t.logs[log], title=title)

    def epochs(self, log: int) -> list[EpochRow]:
        epochs = [epoch for epoch in self._t.epochs if epoch.log == log]
        return sorted(epochs, key=lambda epoch: (epoch.number, epoch.secret))

    def add_epoch(self, row: EpochRow) -> None:
        self._t.epochs.append(row)

    def devices(self) -> list[DeviceRow]:
        return sorted(self._t.devices.values(), key=lambda row: row.id)

    def put_device(self, row: DeviceRow) -> None:
        self._t.devices[row.id] = row

    def chains(self, log: int) -> list[ChainRow]:
        return [chain for chain in self._t.chains.values() if chain.log == log]

    def put_chain(self, row: ChainRow) -> None:
        self._t.chains[row.n] = row

    def next_chain(self) -> int:
        return max(self._t.chains, default=0) + 1

    def set_window(self, log: int, days: int, *, fetch_bodies: bool) -> None:
        row = self._t.logs[log]
        self._t.logs[log] = msgspec.structs.replace(row, window_days=days, fetch_bodies=fetch_bodies)

    def runs(self, log: int) -> list[RunRow]:
        return [
            run
            for chain, runs in sorted(self._t.runs.items())
            if self._t.chains[chain].log == log
            for _, run in sorted(runs.items())
        ]

    def runs_near(self, chain: int, seq: int) -> list[RunRow]:
        return [run for first, run in sorted(self._t.runs.get(chain, {}).items()) if first <= seq + 1][-2:]

    def put_run(self, row: RunRow) -> None:
        self._t.runs.setdefault(row.chain, {})[row.first] = row

    def remove_run(self, chain: int, first: int) -> None:
        self._t.runs.get(chain, {}).pop(first, None)

    def heads(self, log: int) -> list[EntryId]:
        return sorted(self._t.heads.get(log, set()))

    def change_heads(self, log: int, add: Collection[EntryId], remove: Collection[EntryId]) -> None:
        heads = self._t.heads.setdefault(log, set())
        heads -= set(remove)
        heads |= set(add)

    def next_n(self) -> int:
        return max(self._t.entries, default=0) + 1

    def insert(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        t = self._t
        for row in rows:
            t.entries[row.n] = msgspec.structs.replace(row)
            t.by_id[row.id] = row.n
            t.by_mid.setdefault(row.mid or MessageId(row.id[:16]), []).append(row.n)
            if row.chain:
                t.by_place[row.chain, row.seq] = row.n
            t.stale.add((row.log, row.week))
        for n, parent in parents:
            t.parents.setdefault(n, []).append(parent)
        for reference in references:
            of_entry = t.references.setdefault(reference.n, [])
            if reference not in of_entry:
                of_entry.append(reference)
        t.words.update(words)

    def find(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, EntryRow]:
        found = {id_: self._row(self._t.by_id[id_]) for id_ in ids if id_ in self._t.by_id}
        return {id_: row for id_, row in found.items() if row.log == log}

    def rows(self, ns: Collection[int]) -> dict[int, EntryRow]:
        return {n: self._row(n) for n in ns if n in self._t.entries}

    def at(self, chain: int, seq: int) -> EntryRow | None:
        n = self._t.by_place.get((chain, seq))
        return None if n is None else self._row(n)

    def by_mid(self, log: int, mids: Collection[MessageId]) -> dict[MessageId, list[EntryRow]]:
        found: dict[MessageId, list[EntryRow]] = {}
        for mid in mids:
            rows = [self._row(n) for n in self._t.by_mid.get(mid, []) if self._t.entries[n].log == log]
            if rows:
                found[mid] = rows
        return found

    def by_prefix(self, log: int | None, prefix: bytes, mask: int, limit: int) -> list[EntryRow]:
        least, size = prefix[:-1] + bytes([prefix[-1] & mask]), len(prefix)

        def matches(name: bytes) -> bool:
            start = name[:size]
            return len(start) == size and start[:-1] + bytes([start[-1] & mask]) == least

        return [
            self._row(row.n)
            for row in self._t.entries.values()
            if log in (None, row.log) and (matches(row.id) or (row.mid is not None and matches(row.mid)))
        ][:limit]

    def children(self, log: int, id_: EntryId) -> list[EntryRow]:
        children = [self._row(n) for n, parents in self._t.parents.items() if id_ in parents]
        return [row for row in children if row.log == log]

    def parents(self, ns: Collection[int]) -> dict[int, list[EntryId]]:
        return {n: list(self._t.parents[n]) for n in ns if n in self._t.parents}

    def references(self, ns: Collection[int]) -> dict[int, list[MessageId]]:
        return {n: [r.target for r in self._t.references[n]] for n in ns if n in self._t.references}

    def references_to(
        self, log: int | None, targets: Collection[MessageId], kinds: frozenset[int] = frozenset()
    ) -> list[Reference]:
        return [
            reference
            for of_entry in self._t.references.values()
            for reference in of_entry
            if reference.target in targets
            and log in (None, reference.log)
            and (not kinds or self._t.entries[reference.n].kind in kinds)
        ]

    def set_rank(self, n: int, rank: int) -> None:
        self._t.entries[n].rank = rank

    def set_hidden(self, n: int, hidden: bool) -> None:
        self._t.entries[n].hidden = hidden

    def set_edit(self, n: int, edit: int) -> None:
        self._t.entries[n].edit = edit

    def erase_body(self, n: int, words: str | None) -> None:
        row = self._t.entries[n]
        row.body, row.state = None, BodyState.ERASED
        self._t.references.pop(n, None)
        if words is not None:
            self._t.words.pop(n, None)
        self._t.stale.add((row.log, row.week))

    def timeline(self, query: TimelineQuery) -> list[EntryRow]:
        rows = [row for row in self._t.entries.values() if _is_asked_for(query, row)]
        rows.sort(key=lambda row: row.position, reverse=query.newest_first)
        return [self._row(row.n) for row in rows[: query.limit]]

    def scan(self, chain: int, after_seq: int, limit: int) -> list[EntryRow]:
        rows = [row for row in self._t.entries.values() if row.chain == chain and row.seq > after_seq]
        return [self._row(row.n) for row in sorted(rows, key=lambda row: row.seq)[:limit]]

    def chain_kind(self, chain: int, kind: int) -> list[EntryRow]:
        rows = [row for row in self._t.entries.values() if (row.chain, row.kind) == (chain, kind)]
        newest = sorted(rows, key=lambda row: row.seq)[-limits.STORE_ROWS_MAX :]
        return [self._row(row.n) for row in newest]

    def scan_unopened(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        return [
            self._row(row.n)
            for row in self._t.entries.values()
            if row.log == log and not row.chain and row.n > after_n
        ][:limit]

    def count(self, log: int, kinds: frozenset[int]) -> int:
        return sum(
            row.log == log and row.kind in kinds and not row.hidden for row in self._t.entries.values()
        )

    def search(self, words: str, log: int | None, limit: int) -> list[int]:
        phrases = [part.strip() for part in words.lower().split('"') if part.strip(" *")]
        return [
            n
            for n, text in sorted(self._t.words.items(), reverse=True)
            if log in (None, self._t.entries[n].log)
            and all(phrase in " ".join(text.lower().split()) for phrase in phrases)
        ][:limit]

    def hits(self, ns: Collection[int]) -> list[Hit]:
        rows = [self._t.entries[n] for n in ns]
        return [Hit(r.n, r.log, r.id, r.mid, r.kind, r.rank, r.hidden, r.edit) for r in rows]

    def opened(self, kinds: frozenset[int], after_n: int, limit: int) -> list[tuple[int, int, bytes | None]]:
        return [
            (row.n, row.kind, row.body)
            for _, row in sorted(self._t.entries.items())
            if row.n > after_n and row.kind in kinds and row.state == BodyState.OPENED
        ][:limit]

    def holds_words(self, words: Iterable[tuple[int, str | None]], *, thorough: bool = False) -> bool:
        del thorough
        wanted = {n: self._t.words.get(n) if text is None else text for n, text in words}
        return self._t.words == {n: text for n, text in wanted.items() if text is not None}

    def replace_words(self, words: Iterable[tuple[int, str]]) -> None:
        self._t.words = dict(words)
        self._t.words_distrusted = False

    def distrust_words(self) -> None:
        self._t.words_distrusted = True

    def words_distrusted(self) -> bool:
        return self._t.words_distrusted

    def absent(self, log: int, limit: int) -> list[tuple[EntryId, int]]:
        return sorted(self._t.absent.get(log, {}).items())[:limit]

    def change_absent(
        self, log: int, add: Collection[tuple[EntryId, int]], remove: Collection[EntryId]
    ) -> None:
        absent = self._t.absent.setdefault(log, {})
        for id_, n in add:
            absent.setdefault(id_, n)
        for id_ in remove:
            absent.pop(id_, None)

    def arrivals(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        rows = [row for row in self._t.entries.values() if row.log == log and row.n > after_n]
        return [self._row(row.n) for row in sorted(rows, key=lambda row: row.n)[:limit]]

    def week_arrivals(self, log: int, week: int, after_n: int, limit: int) -> list[EntryRow]:
        rows = [r for r in self._t.entries.values() if (r.log, r.week) == (log, week) and r.n > after_n]
        return [self._row(row.n) for row in sorted(rows, key=lambda row: row.n)[:limit]]

    def week_ids(self, log: int, week: int, after: EntryId, limit: int) -> list[EntryRow]:
        rows = [r for r in self._t.entries.values() if (r.log, r.week) == (log, week) and r.id > after]
        return [self._row(row.n) for row in sorted(rows, key=lambda row: row.id)[:limit]]

    def digests(self, log: int) -> list[Digest]:
        return [digest for (of, _), digest in sorted(self._t.digests.items()) if of == log]

    def stale_weeks(self, log: int) -> list[int]:
        return sorted(week for of, week in self._t.stale if of == log)

    def segment(self, log: int, week: int) -> Iterator[tuple[EntryId, bool]]:
        absent = {(gap.id, gap.part) for gap in self._t.gaps if gap.log == log}
        yield from sorted(
            (row.id, row.state in (BodyState.OPENED, BodyState.SEALED) and (row.id, "body") not in absent)
            for row in self._t.entries.values()
            if (row.log, row.week) == (log, week) and (row.id, "entry") not in absent
        )

    def put_digest(self, log: int, digest: Digest) -> None:
        self._t.digests[log, digest.week] = digest
        self._t.stale.discard((log, digest.week))

    def gaps(self, log: int | None) -> list[GapRow]:
        gaps = [gap for gap in self._t.gaps if log in (None, gap.log)]
        return sorted(gaps, key=lambda gap: (gap.log, gap.time_ms, gap.seq))

    def replace_gaps(self, log: int, gaps: Sequence[GapRow]) -> None:
        changed = {gap.id for gap in (*self._t.gaps, *gaps) if gap.log == log}
        self._t.gaps = [gap for gap in self._t.gaps if gap.log != log] + list(gaps)
        for row in self._t.entries.values():
            if row.log == log and row.id in changed:
                self._t.stale.add((log, row.week))

    # -- peers -------------------------------------------------------------------------------

    def peers(self) -> list[PeerRow]:
        return sorted(self._t.peers.values(), key=lambda row: (row.added_ms, row.device))

    def put_peer(self, row: PeerRow) -> None:
        self._t.peers[row.device] = row

    def remove_peer(self, device: DeviceId) -> None:
        self._t.peers.pop(device, None)

    def syncs(self, log: int | None = None) -> list[SyncRow]:
        return [row for key, row in sorted(self._t.syncs.items()) if log in (None, key[0])]

    def put_sync(self, row: SyncRow) -> None:
        self._t.syncs[row.log, row.device] = row

    def receipts(self, log: int | None = None) -> list[ReceiptRow]:
        return [row for key, row in sorted(self._t.receipts.items()) if log in (None, key[0])]

    def put_receipt(self, row: ReceiptRow) -> None:
        self._t.receipts[row.log, row.device] = row

    def heard(self, log: int) -> list[HeardRow]:
        return [row for key, row in sorted(self._t.heard.items()) if key[0] == log]

    def put_heard(self, row: HeardRow) -> None:
        self._t.heard[row.log, row.device, row.incarnation, row.by] = row

    def pruned(self, log: int) -> list[PrunedRow]:
        return [row for key, row in sorted(self._t.pruned.items()) if key[0] == log]

    def put_pruned(self, row: PrunedRow) -> None:
        self._t.pruned[row.log, row.week] = row

    def remove_pruned(self, log: int, first_week: int) -> None:
        for key in [key for key in self._t.pruned if key[0] == log and key[1] >= first_week]:
            del self._t.pruned[key]

    def _row(self, n: int) -> EntryRow:
        # A copy, as from a database: nobody changes a stored row behind the store's back.
        return msgspec.structs.replace(self._t.entries[n])


def _is_asked_for(query: TimelineQuery, row: EntryRow) -> bool:
    return (
        row.log == query.log
        and (not query.kinds or row.kind in query.kinds)
        and (query.hidden or not row.hidden)
        and (query.after is None or row.position > query.after)
        and (query.before is None or row.position < query.before)
        and (query.since_ms is None or row.time_ms >= query.since_ms)
        and (query.until_ms is None or row.time_ms < query.until_ms)
    )
