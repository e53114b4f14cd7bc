"""The store in memory: the reference that the database is compared with, and the simulator's.

Every change of a table notes what was there before, so that a failed transaction is undone at the
cost of what it did, and not of all that is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from mlog import limits
from mlog.log.bodies import SPOKEN, Text
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId
from mlog.log.memory_tables import PeerMemory
from mlog.log.scope import CARRIED, is_carried
from mlog.log.segments import Stamps
from mlog.log.store import (
    HELD,
    AuthorRow,
    BodyState,
    ChainRow,
    DeviceRow,
    Digest,
    EntryRow,
    EpochRow,
    Forgotten,
    ForkRow,
    GapRow,
    Hit,
    LogRow,
    Place,
    Reference,
    RunRow,
    Task,
    TimelineQuery,
    crowds_among,
)
from mlog.log.stored import readable_body

__all__ = ["MemoryStore"]


class MemoryStore(PeerMemory):
    """Implements `mlog.log.store.Store`; search knows quoted phrases and prefixes only."""

    def __init__(self) -> None:
        super().__init__()
        self._stamps = Stamps()

    def data_version(self) -> int:
        return 0

    # -- logs, keys, chains ------------------------------------------------------------------

    def logs(self) -> list[LogRow]:
        return sorted(self._t.logs.values(), key=lambda row: row.n)

    def add_log(self, row: LogRow) -> None:
        self._put(self._t.logs, row.n, row)

    def set_title(self, log: int, title: str) -> None:
        self._put(self._t.logs, log, msgspec.structs.replace(self._t.logs[log], title=title))

    def set_window(self, log: int, days: int, *, fetch_bodies: bool) -> None:
        row = msgspec.structs.replace(self._t.logs[log], window_days=days, fetch_bodies=fetch_bodies)
        self._put(self._t.logs, log, row)

    def window_of_new(self) -> tuple[int, bool]:
        return self._t.chosen.get("window", (0, True))

    def set_window_of_new(self, days: int, *, fetch_bodies: bool) -> None:
        self._put(self._t.chosen, "window", (days, fetch_bodies))

    def epochs(self, log: int) -> list[EpochRow]:
        epochs = [epoch for epoch in self._t.epochs if epoch.log == log]
        return sorted(epochs, key=lambda epoch: (epoch.number, epoch.secret))

    def add_epoch(self, row: EpochRow) -> None:
        self._put(self._t.epochs, row, None)

    def remove_epoch(self, row: EpochRow) -> None:
        self._drop(self._t.epochs, row)

    def devices(self) -> list[DeviceRow]:
        return sorted(self._t.devices.values(), key=lambda row: row.id)

    def put_device(self, row: DeviceRow) -> None:
        self._put(self._t.devices, row.id, row)

    def chains(self, log: int) -> list[ChainRow]:
        return [chain for chain in self._t.chains.values() if chain.log == log]

    def find_chains(
        self, log: int, of: Collection[tuple[DeviceId, Incarnation]], limit: int
    ) -> list[ChainRow]:
        branches: dict[tuple[DeviceId, Incarnation], list[ChainRow]] = {key: [] for key in sorted(set(of))}
        for chain in sorted(self.chains(log), key=lambda chain: chain.branch):
            if (chain.device, chain.incarnation) in branches:
                branches[chain.device, chain.incarnation].append(chain)
        return [chain for rows in branches.values() for chain in rows[:limit]]

    def chain_rows(self, ns: Collection[int]) -> list[ChainRow]:
        return [self._t.chains[n] for n in sorted(set(ns)) if n in self._t.chains]

    def put_chain(self, row: ChainRow) -> None:
        self._put(self._t.chains, row.n, row)

    def next_chain(self) -> int:
        return max(self._t.chains, default=0) + 1

    def count_chains(self, log: int) -> tuple[int, int]:
        return len(self.chains(log)), len(self.runs(log))

    def forks(self, log: int) -> list[ForkRow]:
        return [row for key, row in sorted(self._t.forks.items()) if key[0] == log]

    def put_fork(self, row: ForkRow) -> None:
        self._put(self._t.forks, (row.log, row.device, row.incarnation), row)

    def runs(self, log: int) -> list[RunRow]:
        return [
            run
            for chain in sorted(chain.n for chain in self.chains(log))
            for _, run in sorted(self._t.runs.get(chain, {}).items())
        ]

    def runs_near(self, chain: int, first: int, last: int) -> list[RunRow]:
        runs = self._t.runs.get(chain, {})
        near = [run for run in runs.values() if run.first <= last + 1 and run.last >= first - 1]
        return sorted(near, key=lambda run: run.first)

    def put_run(self, row: RunRow) -> None:
        self._put(self._t.runs.setdefault(row.chain, {}), row.first, row)

    def remove_run(self, chain: int, first: int) -> None:
        self._drop(self._t.runs.get(chain, {}), first)

    def heads(self, log: int, limit: int = -1) -> list[EntryId]:
        heads = sorted(self._t.heads.get(log, ()))
        return heads if limit < 0 else heads[:limit]

    def change_heads(self, log: int, add: Collection[EntryId], remove: Collection[EntryId]) -> None:
        heads = self._t.heads.setdefault(log, {})
        for id_ in remove:
            self._drop(heads, id_)
        for id_ in add:
            self._put(heads, id_, None)

    # -- entries -----------------------------------------------------------------------------

    def next_n(self) -> int:
        return self._t.flags.get("n", 0) + 1

    def logs_behind(self, n: int) -> set[int]:
        entries = self._t.entries
        return {entries[at].log for at in range(n + 1, self.next_n()) if at in entries}

    def insert(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        self._index(rows, parents, references, words)

    def update(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        for row in rows:
            self._forget(self._t.entries[row.n])
        self._index(rows, parents, references, words)

    def _index(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        t = self._t
        for given in rows:
            row = msgspec.structs.replace(given)
            self._put(t.entries, row.n, row)
            self._put(t.by_id, row.id, row.n)
            if row.chain:
                self._put(t.by_chain.setdefault(row.chain, {}), row.seq, row.n)
            for table, key in self._keys_of(row):
                self._put(table.setdefault(key, {}), row.n, None)
            self._mark_stale(row.log, row.week)
            if row.n > t.flags.get("n", 0):
                self._put(t.flags, "n", row.n)
        for n, parent in parents:
            of_entry = t.parents.get(n, ())
            if parent not in of_entry:
                self._put(t.parents, n, (*of_entry, parent))
            self._put(t.by_parent.setdefault(parent, {}), n, None)
        for reference in references:
            named = t.references.get(reference.n, ())
            if reference not in named:
                self._put(t.references, reference.n, (*named, reference))
            self._put(t.by_target.setdefault(reference.target, {}), reference.n, None)
        for n, text in words:
            self._put(t.words, n, text)

    def _forget(self, row: EntryRow) -> None:
        t = self._t
        self._drop(t.by_id, row.id)
        if row.chain:
            self._drop(t.by_chain.get(row.chain, {}), row.seq)
        for table, key in self._keys_of(row):
            self._drop(table.get(key, {}), row.n)

    def _keys_of(self, row: EntryRow) -> Iterator[tuple[dict[Any, dict[int, None]], Any]]:
        """The indexes in which an entry stands, and under which key."""
        t = self._t
        yield t.by_log, row.log
        yield t.by_mid, row.message
        yield t.by_week, (row.log, row.week)
        yield t.by_kind, (row.log, row.kind)
        if not row.chain:
            yield t.unopened, row.log
        if row.state == BodyState.NOT_FETCHED:
            yield t.unfetched, row.log
        if row.state == BodyState.CLOSED:
            yield t.closed, row.log

    def _change(self, n: int, **fields: Any) -> None:
        self._put(self._t.entries, n, msgspec.structs.replace(self._t.entries[n], **fields))

    def find(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, EntryRow]:
        found = {id_: self._row(self._t.by_id[id_]) for id_ in ids if id_ in self._t.by_id}
        return {id_: row for id_, row in found.items() if row.log == log}

    def places(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, Place]:
        found = {id_: self._place(self._t.by_id[id_]) for id_ in ids if id_ in self._t.by_id}
        return {id_: place for id_, place in found.items() if self._t.entries[place.n].log == log}

    def places_at(self, at: Collection[tuple[int, int]]) -> dict[tuple[int, int], Place]:
        found: dict[tuple[int, int], Place] = {}
        for chain, seq in at:
            n = self._t.by_chain.get(chain, {}).get(seq)
            if n is not None:
                found[chain, seq] = self._place(n)
        return found

    def children(self, log: int, ids: Collection[EntryId], limit: int = -1) -> dict[EntryId, list[Place]]:
        found: dict[EntryId, list[Place]] = {}
        left = limit
        for id_ in ids:
            ns = [n for n in self._t.by_parent.get(id_, ()) if self._t.entries[n].log == log]
            ns = ns[:left] if limit >= 0 else ns
            left -= len(ns)
            if ns:
                found[id_] = [self._place(n) for n in ns]
        return found

    def children_behind(self, log: int, id_: EntryId, after_n: int, limit: int) -> list[Place]:
        named = sorted(n for n in self._t.by_parent.get(id_, ()) if n > after_n)
        return [self._place(n) for n in named if self._t.entries[n].log == log][:limit]

    def rows(
        self, ns: Collection[int], *, bodies: bool = True, room: int | None = None
    ) -> dict[int, EntryRow]:
        found = [self._row(n, bodies=bodies) for n in sorted(set(ns)) if n in self._t.entries]
        return {row.n: row for row in _within(found, room)}

    def bodies(self, ns: Collection[int]) -> dict[int, bytes]:
        found = {n: self._t.entries[n].body for n in ns if n in self._t.entries}
        return {n: body for n, body in found.items() if body is not None}

    def at(self, chain: int, seq: int) -> EntryRow | None:
        n = self._t.by_chain.get(chain, {}).get(seq)
        return None if n is None else self._row(n)

    def by_mid(
        self, log: int, mids: Collection[MessageId], *, bodies: bool = True
    ) -> dict[MessageId, list[EntryRow]]:
        found: dict[MessageId, list[EntryRow]] = {}
        for mid in mids:
            ns = sorted(self._t.by_mid.get(mid, ()))
            rows = [self._row(n, bodies=bodies) for n in ns if self._t.entries[n].log == log]
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
            for _, row in sorted(self._t.entries.items())
            if log in (None, row.log) and (matches(row.id) or (row.mid is not None and matches(row.mid)))
        ][:limit]

    def parents(self, ns: Collection[int]) -> dict[int, list[EntryId]]:
        return {n: list(self._t.parents[n]) for n in ns if n in self._t.parents}

    def references(self, ns: Collection[int]) -> dict[int, list[MessageId]]:
        return {n: [r.target for r in self._t.references[n]] for n in ns if n in self._t.references}

    def references_to(
        self, log: int | None, targets: Collection[MessageId], kinds: frozenset[int] = frozenset()
    ) -> list[Reference]:
        return [
            reference
            for target in targets
            for n in self._t.by_target.get(target, ())
            for reference in self._t.references[n]
            if reference.target == target
            and log in (None, reference.log)
            and (not kinds or self._t.entries[n].kind in kinds)
        ]

    def crowded(self, mids: Collection[MessageId], most: int) -> set[MessageId]:
        found: set[MessageId] = set()
        for table in (self._t.by_mid, self._t.by_target):
            counts = {mid: len(table.get(mid, ())) for mid in sorted(set(mids))}
            if sum(counts.values()) >= most:
                found |= crowds_among(counts, most)
        return found

    def said_behind(
        self, log: int, mid: MessageId, after_n: int, limit: int, *, room: int | None = None
    ) -> list[EntryRow]:
        rows = self.by_mid(log, [mid]).get(mid, [])
        return _within([row for row in rows if row.n > after_n][:limit], room)

    def changes_behind(
        self, log: int, mid: MessageId, kinds: frozenset[int], after_n: int, limit: int
    ) -> list[EntryRow]:
        ns = sorted({r.n for r in self.references_to(log, [mid], kinds) if r.n > after_n})
        return [self._row(n, bodies=False) for n in ns[:limit]]

    def retold(self, log: int, mids: Collection[MessageId]) -> set[MessageId]:
        return {mid for mid, rows in self.by_mid(log, mids).items() if any(row.mid for row in rows)}

    def said_once(self, log: int, mids: Collection[MessageId]) -> set[MessageId]:
        return {mid for mid, rows in self.by_mid(log, mids).items() if len(rows) == 1}

    def changers(
        self, log: int, targets: Collection[MessageId], kinds: frozenset[int]
    ) -> dict[MessageId, set[int]]:
        found: dict[MessageId, set[int]] = {}
        for reference in self.references_to(log, targets, kinds):
            found.setdefault(reference.target, set()).add(self._t.entries[reference.n].chain)
        return found

    def set_ranks(self, ranks: Collection[tuple[int, int]]) -> None:
        for n, rank in ranks:
            self._change(n, rank=rank)

    def set_hidden(self, n: int, hidden: bool) -> None:
        self._change(n, hidden=hidden)

    def set_edit(self, n: int, edit: int) -> None:
        self._change(n, edit=edit)

    def erase_body(self, n: int, words: str | None, state: Forgotten = BodyState.ERASED) -> None:
        row = self._t.entries[n]
        self._drop(self._t.unfetched.get(row.log, {}), n)
        self._change(n, body=None, state=state)
        if words is not None:
            self._drop(self._t.words, n)
        self._mark_stale(row.log, row.week)

    def remove(self, rows: Sequence[EntryRow], words: Iterable[tuple[int, str]]) -> None:
        t = self._t
        for n, _ in words:
            self._drop(t.words, n)
        for given in rows:
            row = t.entries[given.n]
            self._forget(row)
            self._drop(t.entries, row.n)
            for parent in t.parents.get(row.n, ()):
                self._drop(t.by_parent.get(parent, {}), row.n)
            self._drop(t.parents, row.n)
            for reference in t.references.get(row.n, ()):
                self._drop(t.by_target[reference.target], row.n)
            self._drop(t.references, row.n)
            self._mark_stale(row.log, row.week)

    def timeline(self, query: TimelineQuery) -> list[EntryRow]:
        t = self._t
        if query.kinds:
            ns = [n for kind in query.kinds for n in t.by_kind.get((query.log, kind), ())]
        else:
            ns = list(t.by_log.get(query.log, ()))
        rows = [row for row in map(t.entries.__getitem__, ns) if _is_asked_for(query, row)]
        rows.sort(key=lambda row: row.position, reverse=query.newest_first)
        return [self._row(row.n, bodies=query.bodies) for row in rows[: query.limit]]

    def scan(self, chain: int, after_seq: int, limit: int, *, room: int | None = None) -> list[EntryRow]:
        seqs = self._t.by_chain.get(chain, {})
        found = [self._row(seqs[seq]) for seq in sorted(s for s in seqs if s > after_seq)[:limit]]
        return _within(found, room)

    def chain_kind(self, chain: int, kind: int) -> list[EntryRow]:
        ns = self._t.by_kind.get((self._t.chains[chain].log, kind), ()) if chain in self._t.chains else ()
        rows = [row for row in map(self._t.entries.__getitem__, ns) if row.chain == chain]
        newest = sorted(rows, key=lambda row: row.seq)[-limits.STORE_ROWS_MAX :]
        return [self._row(row.n) for row in newest]

    def places_of_kinds(self, log: int, kinds: frozenset[int]) -> list[Place]:
        ns = (n for kind in kinds for n in self._t.by_kind.get((log, kind), ()))
        return [self._place(n) for n in ns if self._t.entries[n].chain]

    def carried(self, log: int, week: int, after_n: int, limit: int) -> list[tuple[int, EntryId]]:
        rows = [self._t.entries[n] for n in sorted(self._t.by_log.get(log, ())) if n > after_n]
        chains = self._t.chains
        found = [
            (row.n, row.id)
            for row in rows
            if row.week < week
            and row.chain
            and is_carried(row)
            and (row.kind in CARRIED or chains[row.chain].week >= week)
        ]
        return found[:limit]

    def scan_unopened(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        ns = sorted(n for n in self._t.unopened.get(log, ()) if n > after_n)
        return [self._row(n) for n in ns[:limit]]

    def scan_closed(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        ns = sorted(n for n in self._t.closed.get(log, ()) if n > after_n)
        return [self._row(n) for n in ns[:limit]]

    def scan_expired(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        rows = (self._t.entries[n] for n in sorted(self._t.by_log.get(log, ())) if n > after_n)
        return [self._row(row.n) for row in rows if row.state == BodyState.EXPIRED][:limit]

    def count_closed(self, log: int) -> int:
        return len(self._t.closed.get(log, ()))

    def states(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, BodyState]:
        return {id_: row.state for id_, row in self.find(log, ids).items()}

    def unfetched(self, log: int, limit: int, without: frozenset[int] = frozenset()) -> list[EntryId]:
        entries = self._t.entries
        ns = [n for n in self._t.unfetched.get(log, ()) if entries[n].kind not in without]
        return [entries[n].id for n in sorted(ns, reverse=True)[:limit]]

    def cached(self, name: str) -> bytes | None:
        return self._t.cached.get(name)

    def put_cached(self, name: str, value: bytes | None) -> None:
        if value is None:
            self._drop(self._t.cached, name)
        else:
            self._put(self._t.cached, name, value)

    def logs_with(self, kind: int) -> set[int]:
        return {log for (log, of), ns in self._t.by_kind.items() if of == kind and ns}

    def count_spoken(self, chain: int, after_seq: int) -> int:
        rows = (self._t.entries[n] for seq, n in self._t.by_chain.get(chain, {}).items() if seq > after_seq)
        return sum(row.kind in SPOKEN and not row.hidden for row in rows)

    def count(self, log: int, kinds: frozenset[int]) -> int:
        t = self._t
        return sum(not t.entries[n].hidden for kind in kinds for n in t.by_kind.get((log, kind), ()))

    def authors(self) -> list[AuthorRow]:
        found: dict[tuple[int, int, int, str, str, bool], list[int]] = {}
        for n in self._t.entries:
            row = self._row(n)
            body = readable_body(row.kind, row.body)
            if isinstance(body, Text) and row.chain and not row.hidden:
                key = (row.log, row.chain, body.src, body.by, body.uid, row.mid is not None)
                found.setdefault(key, []).append(row.time_ms)
        return [AuthorRow(*key, len(times), min(times), max(times)) for key, times in sorted(found.items())]

    def search(self, words: str, log: int | None, limit: int, before_n: int | None = None) -> list[int]:
        phrases = [part.strip() for part in words.lower().split('"') if part.strip(" *")]
        return [
            n
            for n, text in sorted(self._t.words.items(), reverse=True)
            if log in (None, self._t.entries[n].log)
            and (before_n is None or n < before_n)
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
        for n in list(self._t.words):
            self._drop(self._t.words, n)
        for n, text in words:
            self._put(self._t.words, n, text)
        self._drop(self._t.flags, "distrusted")

    def distrust_words(self) -> None:
        self._put(self._t.flags, "distrusted", 1)

    def words_distrusted(self) -> bool:
        return "distrusted" in self._t.flags

    def absent(self, log: int, limit: int) -> list[tuple[EntryId, int]]:
        pruned = self._t.pruned_parents.get(log, {})
        found = self._t.absent.get(log, {}).items()
        return sorted((id_, n) for id_, n in found if id_ not in pruned)[:limit]

    def pruned_parents(self, log: int, limit: int) -> list[tuple[EntryId, int]]:
        absent = self._t.absent.get(log, {})
        return sorted((id_, absent[id_]) for id_ in self._t.pruned_parents.get(log, ()))[:limit]

    def add_pruned_parents(self, log: int, add: Collection[tuple[EntryId, int]]) -> None:
        for id_, n in add:
            self._put(self._t.absent.setdefault(log, {}), id_, n)
            self._put(self._t.pruned_parents.setdefault(log, {}), id_, None)

    def change_absent(
        self, log: int, add: Collection[tuple[EntryId, int]], remove: Collection[EntryId]
    ) -> None:
        absent = self._t.absent.setdefault(log, {})
        for id_, n in add:
            if id_ not in absent:
                self._put(absent, id_, n)
        for id_ in remove:
            self._drop(absent, id_)
            self._drop(self._t.pruned_parents.get(log, {}), id_)

    def unsettled(self, log: int, task: Task, limit: int) -> list[tuple[int, int]]:
        return sorted(self._t.unsettled.get((log, task), {}).items())[:limit]

    def change_unsettled(
        self, log: int, task: Task, add: Collection[tuple[int, int]], remove: Collection[int]
    ) -> None:
        left = self._t.unsettled.setdefault((log, task), {})
        for n in remove:
            self._drop(left, n)
        for n, value in add:
            self._put(left, n, max(value, left.get(n, value)))

    def arrivals(self, log: int, after_n: int, limit: int, *, room: int | None = None) -> list[EntryRow]:
        return _within(self._after(self._t.by_log.get(log, {}), after_n, limit), room)

    def week_arrivals(
        self, log: int, week: int, after_n: int, limit: int, *, room: int | None = None
    ) -> list[EntryRow]:
        return _within(self._after(self._t.by_week.get((log, week), {}), after_n, limit), room)

    def _after(self, ns: Collection[int], after_n: int, limit: int) -> list[EntryRow]:
        return [self._row(n) for n in sorted(n for n in ns if n > after_n)[:limit]]

    def first_seqs(self, log: int, week: int) -> dict[int, int]:
        lowest: dict[int, int] = {}
        for (of, in_week), ns in self._t.by_week.items():
            for row in (self._t.entries[n] for n in ns if of == log and in_week >= week):
                if row.chain:
                    lowest[row.chain] = min(lowest.get(row.chain, row.seq), row.seq)
        return lowest

    # -- segments and gaps -------------------------------------------------------------------

    def digests(self, log: int) -> list[Digest]:
        return [digest for (of, _), digest in sorted(self._t.digests.items()) if of == log]

    def stale_weeks(self, log: int) -> list[int]:
        return sorted(week for of, week in self._t.stale if of == log)

    def segment(self, log: int, week: int) -> Iterator[tuple[EntryId, bool]]:
        absent = {(gap.id, gap.part) for gap in self._t.gaps.get(log, ())}
        rows = [self._t.entries[n] for n in self._t.by_week.get((log, week), ())]
        yield from sorted(
            (row.id, row.state in HELD and (row.id, "body") not in absent)
            for row in rows
            if (row.id, "entry") not in absent
        )

    def segment_page(self, log: int, week: int, after_n: int, limit: int) -> list[tuple[int, EntryId, bool]]:
        ns = self._t.by_id
        found = [(ns[id_], id_, held) for id_, held in self.segment(log, week)]
        return sorted(entry for entry in found if entry[0] > after_n)[:limit]

    def segment_stamp(self, log: int, week: int) -> tuple[int, int]:
        return 0, self._stamps.of(log, week)

    def put_digest(self, log: int, digest: Digest) -> None:
        self._put(self._t.digests, (log, digest.week), digest)
        self._drop(self._t.stale, (log, digest.week))

    def gaps(self, log: int | None) -> list[GapRow]:
        gaps = [gap for of, rows in self._t.gaps.items() if log in (None, of) for gap in rows]
        return sorted(gaps, key=lambda gap: (gap.log, gap.time_ms, gap.seq))

    def find_gaps(self, log: int, ids: Collection[bytes]) -> list[GapRow]:
        wanted = set(ids)
        return [gap for gap in self._t.gaps.get(log, ()) if gap.id in wanted]

    def replace_gaps(self, log: int, gaps: Sequence[GapRow]) -> None:
        self._put_gaps(log, gaps)

    def change_gaps(
        self, log: int, add: Sequence[GapRow], remove: Collection[tuple[bytes, str, int, int]]
    ) -> None:
        gone = set(remove)
        kept = [g for g in self._t.gaps.get(log, ()) if (g.id, g.part, g.chain, g.seq) not in gone]
        self._put_gaps(log, [*kept, *add][: max(len(kept), limits.GAPS_MAX)])

    def _put_gaps(self, log: int, gaps: Sequence[GapRow]) -> None:
        changed = set(self._t.gaps.get(log, ())) ^ set(gaps)
        self._put(self._t.gaps, log, tuple(gaps))
        for id_ in {gap.id for gap in changed} & self._t.by_id.keys():
            row = self._t.entries[self._t.by_id[EntryId(id_)]]
            if row.log == log:
                self._mark_stale(log, row.week)

    def _mark_stale(self, log: int, week: int) -> None:
        self._put(self._t.stale, (log, week), None)
        self._stamps.change(log, week)

    def _row(self, n: int, *, bodies: bool = True) -> EntryRow:
        # A copy, as from a database: nobody changes a stored row behind the store's back.
        row = msgspec.structs.replace(self._t.entries[n])
        if not bodies:
            row.body = None
        return row

    def _place(self, n: int) -> Place:
        row = self._t.entries[n]
        return Place(n, row.id, row.chain, row.seq, row.rank, row.kind, row.is_retold)


def _within(rows: list[EntryRow], room: int | None) -> list[EntryRow]:
    """The first of these rows, up to the one with which they have so many bytes."""
    size = 0
    for end, row in enumerate(rows, 1):
        size += len(row.outer) + len(row.body or b"")
        if room is not None and size >= room:
            return rows[:end]
    return rows


def _is_asked_for(query: TimelineQuery, row: EntryRow) -> bool:
    return (
        row.log == query.log
        and row.chain != 0
        and (not query.kinds or row.kind in query.kinds)
        and (query.hidden or not row.hidden)
        and (query.after is None or row.position > query.after)
        and (query.before is None or row.position < query.before)
        and (query.since_ms is None or row.time_ms >= query.since_ms)
        and (query.until_ms is None or row.time_ms < query.until_ms)
    )
