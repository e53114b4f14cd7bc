"""The tables made from entries: chains, runs, heads, what is absent or left for later, segments, gaps.

And who says something in the chains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import msgspec

from mlog import limits
from mlog.adapters.database import Database, member, parts, text
from mlog.adapters.disk import disk_errors
from mlog.log.bodies import SPOKEN
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.scope import CARRIED
from mlog.log.segments import Stamps
from mlog.log.store import HELD, AuthorRow, ChainRow, Digest, ForkRow, GapRow, Reason, RunRow, Task

__all__ = ["ChainTables"]

_HELD: Final = ", ".join(str(int(state)) for state in sorted(HELD))
_CARRIED_KINDS: Final = f"kind IN ({', '.join(str(int(kind)) for kind in sorted(CARRIED))})"
# With a condition that reads as that of the index `entries_carried`, or SQLite would not take it.
_CARRIED_BEFORE: Final = (
    "SELECT n, id FROM entries "
    f"WHERE log = ? AND week < ? AND chain IS NOT NULL AND (seq = 0 OR {_CARRIED_KINDS}) "
    f"AND ({_CARRIED_KINDS} OR EXISTS (SELECT 1 FROM chains AS c WHERE c.n = entries.chain AND c.week >= ?))"
)
_SEGMENT: Final = f"SELECT e.id, e.state IN ({_HELD}) FROM entries AS e WHERE e.log = ? AND e.week = ?"
_SEGMENT_BUT_GAPS: Final = (
    f"SELECT e.id, e.state IN ({_HELD}) AND NOT EXISTS (SELECT 1 FROM missing AS m WHERE m.log = e.log "
    "AND m.id = e.id AND m.part = 'body') FROM entries AS e WHERE e.log = ? AND e.week = ? "
    "AND NOT EXISTS (SELECT 1 FROM missing AS m WHERE m.log = e.log AND m.id = e.id AND m.part = 'entry')"
)
_CLAIMS: Final = ", ".join(
    f"CAST(coalesce(json_extract(b.body, '$.{field}'), {default}) AS {kind})"
    for field, default, kind in (("src", "0", "INTEGER"), ("by", "''", "TEXT"), ("uid", "''", "TEXT"))
)
_AUTHORS: Final = (
    f"SELECT e.log, e.chain, {_CLAIMS}, e.mid IS NOT NULL, count(*), min(e.time_ms), max(e.time_ms) "
    "FROM entries AS e JOIN bodies AS b ON b.n = e.n "
    f"WHERE e.kind BETWEEN {min(SPOKEN)} AND {max(SPOKEN)} AND NOT e.hidden AND e.chain IS NOT NULL "
    "AND json_valid(b.body) GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6"
)
_CHAINS: Final = "SELECT n, log, device, incarnation, seq, id, week, branch FROM chains"


class ChainTables(Database):
    """Rows that say what the entries of a log are together."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._stamps = Stamps()

    def chains(self, log: int) -> list[ChainRow]:
        return [
            ChainRow(*row) for row in self._all(f"{_CHAINS} WHERE log = ? ORDER BY n", (log,), "iibbibib")
        ]

    def find_chains(
        self, log: int, of: Collection[tuple[DeviceId, Incarnation]], limit: int
    ) -> list[ChainRow]:
        select = f"{_CHAINS} WHERE log = ? AND device = ? AND incarnation = ? ORDER BY branch LIMIT ?"
        return [
            ChainRow(*row)
            for pair in sorted(set(of))
            for row in self._all(select, (log, *pair, limit), "iibbibib")
        ]

    def chain_rows(self, ns: Collection[int]) -> list[ChainRow]:
        return [
            ChainRow(*row)
            for part in parts(set(ns))
            for row in self._all(f"{_CHAINS} WHERE n IN ({','.join('?' * len(part))})", part, "iibbibib")
        ]

    def put_chain(self, row: ChainRow) -> None:
        self._run(
            "INSERT INTO chains VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (n) DO UPDATE SET seq = excluded.seq, id = excluded.id, week = excluded.week",
            msgspec.structs.astuple(row),
        )

    def next_chain(self) -> int:
        return self._one("SELECT coalesce(max(n), 0) + 1 FROM chains")

    def count_chains(self, log: int) -> tuple[int, int]:
        return (
            self._one("SELECT count(*) FROM chains WHERE log = ?", (log,)),
            self._one(
                "SELECT count(*) FROM chains AS c JOIN runs AS r ON r.chain = c.n WHERE c.log = ?", (log,)
            ),
        )

    def authors(self) -> list[AuthorRow]:
        return [
            AuthorRow(log, chain, src, text(by), text(uid), bool(imported), messages, first_ms, last_ms)
            for log, chain, src, by, uid, imported, messages, first_ms, last_ms in self._all(_AUTHORS)
        ]

    def forks(self, log: int) -> list[ForkRow]:
        return [
            ForkRow(*row)
            for row in self._all(
                "SELECT log, device, incarnation, seq, one, other FROM forks WHERE log = ? "
                "ORDER BY device, incarnation",
                (log,),
                "ibbibb",
            )
        ]

    def put_fork(self, row: ForkRow) -> None:
        self._run("INSERT OR REPLACE INTO forks VALUES (?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(row))

    def runs(self, log: int) -> list[RunRow]:
        return [
            RunRow(*row)
            for row in self._all(
                "SELECT r.chain, r.first, r.last FROM chains AS c JOIN runs AS r ON r.chain = c.n "
                "WHERE c.log = ? ORDER BY r.chain, r.first",
                (log,),
                "iii",
            )
        ]

    def runs_near(self, chain: int, first: int, last: int) -> list[RunRow]:
        before = "SELECT max(first) FROM runs WHERE chain = ?1 AND first <= ?2"
        return [
            RunRow(*row)
            for row in self._all(
                f"SELECT chain, first, last FROM runs WHERE chain = ?1 AND first >= coalesce(({before}), 0) "
                "AND first <= ?3 + 1 AND last >= ?2 - 1 ORDER BY first",
                (chain, first, last),
                "iii",
            )
        ]

    def put_run(self, row: RunRow) -> None:
        self._run("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", msgspec.structs.astuple(row))

    def remove_run(self, chain: int, first: int) -> None:
        self._run("DELETE FROM runs WHERE chain = ? AND first = ?", (chain, first))

    def heads(self, log: int, limit: int = -1) -> list[EntryId]:
        return [
            EntryId(id_)
            for (id_,) in self._all(
                "SELECT id FROM heads WHERE log = ? ORDER BY id LIMIT ?", (log, limit), "b"
            )
        ]

    def change_heads(self, log: int, add: Collection[EntryId], remove: Collection[EntryId]) -> None:
        self._run_many("DELETE FROM heads WHERE log = ? AND id = ?", [(log, id_) for id_ in remove])
        self._run_many("INSERT OR IGNORE INTO heads VALUES (?, ?)", [(log, id_) for id_ in add])

    def absent(self, log: int, limit: int) -> list[tuple[EntryId, int]]:
        return [
            (EntryId(id_), n)
            for id_, n in self._all(
                "SELECT id, n FROM absent WHERE log = ? AND NOT pruned ORDER BY id LIMIT ?",
                (log, limit),
                "bi",
            )
        ]

    def pruned_parents(self, log: int, limit: int) -> list[tuple[EntryId, int]]:
        return [
            (EntryId(id_), n)
            for id_, n in self._all(
                "SELECT id, n FROM absent WHERE log = ? AND pruned ORDER BY id LIMIT ?", (log, limit), "bi"
            )
        ]

    def add_pruned_parents(self, log: int, add: Collection[tuple[EntryId, int]]) -> None:
        self._run_many("INSERT OR REPLACE INTO absent VALUES (?, ?, ?, 1)", [(log, id_, n) for id_, n in add])

    def change_absent(
        self, log: int, add: Collection[tuple[EntryId, int]], remove: Collection[EntryId]
    ) -> None:
        self._run_many("INSERT OR IGNORE INTO absent VALUES (?, ?, ?, 0)", [(log, id_, n) for id_, n in add])
        self._run_many("DELETE FROM absent WHERE log = ? AND id = ?", [(log, id_) for id_ in remove])

    def unsettled(self, log: int, task: Task, limit: int) -> list[tuple[int, int]]:
        return self._all(
            "SELECT n, value FROM unsettled WHERE log = ? AND task = ? ORDER BY n LIMIT ?",
            (log, task, limit),
            "ii",
        )

    def change_unsettled(
        self, log: int, task: Task, add: Collection[tuple[int, int]], remove: Collection[int]
    ) -> None:
        self._run_many(
            "DELETE FROM unsettled WHERE log = ? AND task = ? AND n = ?", [(log, task, n) for n in remove]
        )
        self._run_many(
            "INSERT INTO unsettled VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
            [(log, task, n, value) for n, value in add],
        )

    # -- segments and gaps -------------------------------------------------------------------

    def digests(self, log: int) -> list[Digest]:
        return [
            Digest(*row)
            for row in self._all(
                "SELECT week, entries, bodies, entries_hash, bodies_hash FROM digests "
                "WHERE log = ? ORDER BY week",
                (log,),
                "iiibb",
            )
        ]

    def stale_weeks(self, log: int) -> list[int]:
        return [
            week for (week,) in self._all("SELECT week FROM stale WHERE log = ? ORDER BY week", (log,), "i")
        ]

    def segment(self, log: int, week: int) -> Iterator[tuple[EntryId, bool]]:
        select = _SEGMENT_BUT_GAPS if self._has_gaps(log) else _SEGMENT
        with disk_errors(self.path):
            for id_, held in self._db.execute(f"{select} ORDER BY e.id", (log, week)):
                yield EntryId(id_ if isinstance(id_, bytes) else b""), bool(held)

    def segment_page(self, log: int, week: int, after_n: int, limit: int) -> list[tuple[int, EntryId, bool]]:
        select = (_SEGMENT_BUT_GAPS if self._has_gaps(log) else _SEGMENT).replace("SELECT", "SELECT e.n,", 1)
        rows = self._all(f"{select} AND e.n > ? ORDER BY e.n LIMIT ?", (log, week, after_n, limit), "ibi")
        # A flipped bit may have made another size or type of an id.
        return [(n, EntryId(id_[:32].ljust(32, b"\0")), bool(held)) for n, id_, held in rows]

    def carried(self, log: int, week: int, after_n: int, limit: int) -> list[tuple[int, EntryId]]:
        rows = self._all(
            f"{_CARRIED_BEFORE} AND n > ? ORDER BY n LIMIT ?", (log, week, week, after_n, limit), "ib"
        )
        return [(n, EntryId(id_[:32].ljust(32, b"\0"))) for n, id_ in rows]

    def segment_stamp(self, log: int, week: int) -> tuple[int, int]:
        return self.data_version(), self._stamps.of(log, week)

    def _mark_stale(self, segments: Collection[tuple[int, int]]) -> None:
        self._run_many("INSERT OR IGNORE INTO stale VALUES (?, ?)", segments)
        for log, week in segments:
            self._stamps.change(log, week)

    def _has_gaps(self, log: int) -> bool:
        return bool(self._all("SELECT log FROM missing WHERE log = ? LIMIT 1", (log,), "i"))

    def cached(self, name: str) -> bytes | None:
        return self.meta(f"cache {name}")

    def put_cached(self, name: str, value: bytes | None) -> None:
        if value is None:
            self._run("DELETE FROM meta WHERE name = ?", (f"cache {name}",))
        else:
            self.set_meta(f"cache {name}", value)

    def logs_with(self, kind: int) -> set[int]:
        # The index of what carries the logs has few rows for each of them.
        sql = "SELECT DISTINCT log FROM entries WHERE kind = ? AND kind < 16 AND chain IS NOT NULL"
        return {log for (log,) in self._all(sql, (kind,), "i")}

    def count_spoken(self, chain: int, after_seq: int) -> int:
        return self._one(
            "SELECT count(*) FROM entries "
            "WHERE chain = ? AND seq > ? AND kind BETWEEN ? AND ? AND NOT hidden",
            (chain, after_seq, min(SPOKEN), max(SPOKEN)),
        )

    def put_digest(self, log: int, digest: Digest) -> None:
        self._run(
            "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)",
            (
                log,
                digest.week,
                digest.entries,
                digest.bodies,
                digest.entries_hash,
                digest.bodies_hash,
            ),
        )
        self._run("DELETE FROM stale WHERE log = ? AND week = ?", (log, digest.week))

    def gaps(self, log: int | None) -> list[GapRow]:
        return self._gaps("WHERE log = coalesce(?, log) ORDER BY log, time_ms, seq", (log,))

    def find_gaps(self, log: int, ids: Collection[bytes]) -> list[GapRow]:
        if not self._has_gaps(log):
            return []
        return [
            gap
            for part in parts(set(ids))
            for gap in self._gaps(f"WHERE log = ? AND id IN ({','.join('?' * len(part))})", (log, *part))
        ]

    def _gaps(self, condition: str, parameters: Sequence[object]) -> list[GapRow]:
        return [
            GapRow(in_log, id_, text(part), member(Reason, reason), chain, seq, time_ms, since, text(detail))
            for in_log, id_, part, reason, chain, seq, time_ms, since, detail in self._all(
                "SELECT log, id, part, reason, chain, seq, time_ms, since_ms, detail "
                f"FROM missing {condition}",
                parameters,
                "ibbbiiiib",
            )
        ]

    def replace_gaps(self, log: int, gaps: Sequence[GapRow]) -> None:
        changed = "INSERT OR IGNORE INTO stale SELECT e.log, e.week FROM missing AS m JOIN entries AS e "
        changed += "ON substr(e.id, 1, 8) = substr(m.id, 1, 8) AND e.log = m.log WHERE m.log = ?"
        self._run(changed, (log,))
        self._run("DELETE FROM missing WHERE log = ?", (log,))
        self._add_gaps(gaps)
        self._run(changed, (log,))
        self._stamps.change_all()

    def change_gaps(
        self, log: int, add: Sequence[GapRow], remove: Collection[tuple[bytes, str, int, int]]
    ) -> None:
        self._run_many(
            "DELETE FROM missing WHERE log = ? AND id = ? AND part = ? AND chain = ? AND seq = ?",
            [(log, *gap) for gap in remove],
        )
        if add:
            kept = self._one("SELECT count(*) FROM missing WHERE log = ?", (log,))
            add = add[: max(limits.GAPS_MAX - kept, 0)]
            self._add_gaps(add)
        for part in parts({id_[:8] for id_ in {gap[0] for gap in remove} | {gap.id for gap in add}}):
            marks = ",".join("?" * len(part))
            found = f"SELECT DISTINCT log, week FROM entries WHERE substr(id, 1, 8) IN ({marks}) AND +log = ?"
            self._mark_stale(self._all(found, (*part, log), "ii"))

    def _add_gaps(self, gaps: Sequence[GapRow]) -> None:
        self._run_many(
            "INSERT INTO missing VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (g.log, g.id, g.part, g.reason.value, g.chain, g.seq, g.time_ms, g.since_ms, g.detail)
                for g in gaps
            ],
        )
