"""The store on SQLite: rows in, rows out, durable at the end of each transaction."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from itertools import islice
from typing import Any, Final

from mlog import limits
from mlog.adapters import search_index
from mlog.adapters.body_table import BODY, BodyTable
from mlog.adapters.chain_tables import ChainTables
from mlog.adapters.database import APPLICATION_ID, SCHEMA_VERSION, is_corrupt, member, parts, text
from mlog.adapters.disk import DAMAGED, disk_errors
from mlog.adapters.peer_tables import PeerTables
from mlog.errors import StoreError
from mlog.log.bodies import SPOKEN
from mlog.log.entry import VERSION
from mlog.log.ids import DeviceId, EntryId, MessageId, Topic
from mlog.log.scope import CARRIED
from mlog.log.store import (
    BodyState,
    DeviceRow,
    EntryRow,
    EpochRow,
    Forgotten,
    Hit,
    LogKind,
    LogRow,
    Place,
    Reference,
    TimelineQuery,
    crowds_among,
)

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "SqliteStore"]
_COLUMNS: Final = (
    "e.n, e.log, e.week, e.id, e.tail, e.signature, e.state, e.kind, e.chain, e.seq, e.time_ms, "
    f"e.rank, e.mid, e.hidden, e.edit, e.version, {BODY}"
)
_BODILESS: Final = _COLUMNS.replace(BODY, "NULL")
_SHAPE: Final = "iiibbBiiIiiiBiIIB"
_PLACE: Final = "e.n, e.id, e.chain, e.seq, e.rank, e.kind, e.mid IS NOT NULL OR e.kind = 4"
_PLACE_SHAPE: Final = "ibIiiii"
_ENTRY: Final = ", ".join("?" * 16)
_ENTRY_COLUMNS: Final = (
    "n, log, week, id, tail, signature, state, kind, chain, seq, time_ms, rank, mid, hidden, edit, version"
)
_BODIES: Final = "LEFT JOIN bodies AS b ON b.n = e.n"
_CONTROL_MAX: Final = 16
# Reads as the condition of the index `entries_carried`, or SQLite would not take it.
_CARRIED: Final = f"(e.seq = 0 OR e.kind IN ({', '.join(str(int(kind)) for kind in sorted(CARRIED))}))"
_SORTED_ROWS_MAX: Final = 10 * limits.STORE_ROWS_MAX
"""A longer log is read in the order of rows: to put 10,000 numbers in order takes 3 ms."""


class SqliteStore(BodyTable, ChainTables, PeerTables):
    """Rows of one home; arguments and errors as `Database`."""

    # -- logs, keys, chains ------------------------------------------------------------------

    def logs(self) -> list[LogRow]:
        return [
            LogRow(n, Topic(topic), member(LogKind, kind), secret, text(title), window_days, bool(bodies))
            for n, topic, kind, secret, title, window_days, bodies in self._all(
                "SELECT n, topic, kind, secret, title, window_days, fetch_bodies FROM logs ORDER BY n",
                shape="ibbbbii",
            )
        ]

    def add_log(self, row: LogRow) -> None:
        self._run(
            "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row.n, row.topic, row.kind.value, row.secret, row.title, row.window_days, row.fetch_bodies),
        )

    def set_window(self, log: int, days: int, *, fetch_bodies: bool) -> None:
        self._run("UPDATE logs SET window_days = ?, fetch_bodies = ? WHERE n = ?", (days, fetch_bodies, log))

    def window_of_new(self) -> tuple[int, bool]:
        days, _, bodies = (self.meta("window") or b"0 1").partition(b" ")
        # What a damaged disk says is no window: then all is kept.
        return (int(days), bodies == b"1") if days.isdigit() else (0, True)

    def set_window_of_new(self, days: int, *, fetch_bodies: bool) -> None:
        self.set_meta("window", b"%d %d" % (days, fetch_bodies))

    def set_title(self, log: int, title: str) -> None:
        self._run("UPDATE logs SET title = ? WHERE n = ?", (title, log))

    def epochs(self, log: int) -> list[EpochRow]:
        return [
            EpochRow(*row)
            for row in self._all("SELECT log, number, secret FROM epochs WHERE log = ?", (log,), "iib")
        ]

    def add_epoch(self, row: EpochRow) -> None:
        self._run("INSERT INTO epochs VALUES (?, ?, ?)", (row.log, row.number, row.secret))

    def remove_epoch(self, row: EpochRow) -> None:
        condition = "WHERE log = ? AND number = ? AND secret = ?"
        self._run(f"DELETE FROM epochs {condition}", (row.log, row.number, row.secret))

    def devices(self) -> list[DeviceRow]:
        return [
            DeviceRow(DeviceId(id_), text(name), text(person), topic)
            for id_, name, person, topic in self._all(
                "SELECT id, name, person, topic FROM devices", shape="bbbb"
            )
        ]

    def put_device(self, row: DeviceRow) -> None:
        self._run(
            "INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?)", (row.id, row.name, row.person, row.topic)
        )

    # -- entries -----------------------------------------------------------------------------

    def next_n(self) -> int:
        return self._one("SELECT coalesce(max(n), 0) + 1 FROM entries")

    def logs_behind(self, n: int) -> set[int]:
        # By no index but the numbers themselves: SQLite would rather go through a whole one of logs.
        found = self._all("SELECT DISTINCT log FROM entries NOT INDEXED WHERE n > ?", (n,), "i")
        return {log for (log,) in found}

    def insert(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        self._run_many(f"INSERT INTO entries VALUES ({_ENTRY})", [_columns_of(row) for row in rows])
        self._put_bodies(rows, replace=False)
        self._insert_beside(rows, parents, references, words)

    def update(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        self._run_many(
            f"UPDATE entries SET ({_ENTRY_COLUMNS}) = ({_ENTRY}) WHERE n = ?",
            [(*_columns_of(row), row.n) for row in rows],
        )
        self._run_many("DELETE FROM bodies WHERE n = ?", [(row.n,) for row in rows if row.body is None])
        self._put_bodies(rows, replace=True)
        self._insert_beside(rows, parents, references, words)

    def _insert_beside(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        self._run_many("INSERT OR IGNORE INTO parents VALUES (?, ?)", list(parents))
        self._run_many(
            "INSERT OR IGNORE INTO links VALUES (?, ?, ?)", [(r.n, r.target, r.log) for r in references]
        )
        self._run_many("INSERT INTO search (rowid, words) VALUES (?, ?)", list(words))
        self._mark_stale({(row.log, row.week) for row in rows})

    def find(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, EntryRow]:
        rows = self._lookup("substr(e.id, 1, 8)", [id_[:8] for id_ in ids])
        wanted = set(ids)
        return {row.id: row for row in rows if row.id in wanted and row.log == log}

    def places(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, Place]:
        found: dict[EntryId, Place] = {}
        for part in parts([id_[:8] for id_ in ids]):
            # The plus keeps SQLite from going through the whole log instead.
            for place in self._places(
                f"FROM entries AS e WHERE substr(e.id, 1, 8) IN ({','.join('?' * len(part))}) AND +e.log = ?",
                (*part, log),
            ):
                found[place.id] = place
        return {id_: found[id_] for id_ in ids if id_ in found} if found else found

    def places_at(self, at: Collection[tuple[int, int]]) -> dict[tuple[int, int], Place]:
        found: dict[tuple[int, int], Place] = {}
        for chain_and_seq in at:
            for place in self._places("FROM entries AS e WHERE e.chain = ? AND e.seq = ?", chain_and_seq):
                found[chain_and_seq] = place
        return found

    def children(self, log: int, ids: Collection[EntryId], limit: int = -1) -> dict[EntryId, list[Place]]:
        wanted, found, left = set(ids), dict[EntryId, list[Place]](), limit
        for part in parts([id_[:8] for id_ in wanted]):
            for parent, *place in self._all(
                f"SELECT p.parent, {_PLACE} FROM parents AS p CROSS JOIN entries AS e ON e.n = p.n "
                f"WHERE substr(p.parent, 1, 8) IN ({','.join('?' * len(part))}) AND +e.log = ? LIMIT ?",
                (*part, log, max(left, 0) if limit >= 0 else -1),
                f"b{_PLACE_SHAPE}",
            ):
                left -= 1
                if parent in wanted:
                    found.setdefault(parent, []).append(_place(place))
        return found

    def children_behind(self, log: int, id_: EntryId, after_n: int, limit: int) -> list[Place]:
        return self._places(
            "FROM parents AS p CROSS JOIN entries AS e ON e.n = p.n WHERE substr(p.parent, 1, 8) = ? "
            "AND p.n > ? AND p.parent = ? AND +e.log = ? ORDER BY p.n LIMIT ?",
            (id_[:8], after_n, id_, log, limit),
        )

    def _places(self, condition: str, parameters: Sequence[object]) -> list[Place]:
        rows = self._all(f"SELECT {_PLACE} {condition}", parameters, _PLACE_SHAPE)
        return [_place(row) for row in rows]

    def rows(
        self, ns: Collection[int], *, bodies: bool = True, room: int | None = None
    ) -> dict[int, EntryRow]:
        found: dict[int, EntryRow] = {}
        for part in parts(set(ns)):
            where = f"WHERE e.n IN ({','.join('?' * len(part))}) ORDER BY e.n"
            rows = self._rows(where, part, bodies=bodies, room=room)
            found.update((row.n, row) for row in rows)
            if room is not None and (room := room - sum(map(_size_of, rows))) <= 0:
                break
        return found

    def bodies(self, ns: Collection[int]) -> dict[int, bytes]:
        select = f"SELECT n, body FROM (SELECT b.n AS n, {BODY} AS body FROM bodies AS b)"
        return dict(self._by_numbers(select, ns, "body IS NOT NULL AND n"))

    def at(self, chain: int, seq: int) -> EntryRow | None:
        return next(iter(self._rows("WHERE e.chain = ? AND e.seq = ?", (chain, seq))), None)

    def by_mid(
        self, log: int, mids: Collection[MessageId], *, bodies: bool = True
    ) -> dict[MessageId, list[EntryRow]]:
        found: dict[MessageId, list[EntryRow]] = {}
        for part in parts(set(mids)):
            for column, also in (("e.mid", "e.mid IS NOT NULL"), ("e.id", "e.mid IS NULL")):
                condition, named = _named(column, part, begins=column == "e.id")
                where = f"WHERE {condition} AND {also} AND +e.log = ?"
                for row in self._rows(where, (*named, log), bodies=bodies):
                    found.setdefault(row.message, []).append(row)
        for rows in found.values():
            rows.sort(key=lambda row: row.n)
        return found

    def by_prefix(self, log: int | None, prefix: bytes, mask: int, limit: int) -> list[EntryRow]:
        low = prefix[:-1] + bytes([prefix[-1] & mask])
        high = prefix[:-1] + bytes([prefix[-1] | ~mask & 0xFF])
        # The first range is what an index knows of: 8 bytes.
        found = (
            "SELECT n FROM entries WHERE {0} IS NOT NULL AND substr({0}, 1, 8) BETWEEN ? AND ? "
            f"AND substr({{0}}, 1, ?) BETWEEN ? AND ? AND log = coalesce(?, log) LIMIT {int(limit)}"
        )
        bounds = (low[:8], high[:8].ljust(8, b"\xff"), len(prefix), low, high, log)
        return self._rows(
            f"WHERE e.n IN (SELECT n FROM ({found.format('id')}) "
            f"UNION SELECT n FROM ({found.format('mid')})) ORDER BY e.n LIMIT {int(limit)}",
            (*bounds, *bounds),
        )

    def parents(self, ns: Collection[int]) -> dict[int, list[EntryId]]:
        found: dict[int, list[EntryId]] = {}
        for n, parent in self._by_numbers("SELECT n, parent FROM parents", ns):
            found.setdefault(n, []).append(EntryId(parent))
        return found

    def references(self, ns: Collection[int]) -> dict[int, list[MessageId]]:
        found: dict[int, list[MessageId]] = {}
        # One in another log than its entry is damage, and not found: so the verification sees it.
        whole = "SELECT l.n, l.target FROM links AS l JOIN entries AS e ON e.n = l.n AND e.log = l.log"
        for n, target in self._by_numbers(whole, ns, "l.n"):
            found.setdefault(n, []).append(MessageId(target))
        return found

    def references_to(
        self, log: int | None, targets: Collection[MessageId], kinds: frozenset[int] = frozenset()
    ) -> list[Reference]:
        chosen = ",".join(str(int(kind)) for kind in kinds)
        # A cross join, since SQLite would rather begin with all entries of a rare kind.
        of_kind = f"CROSS JOIN entries AS e ON e.n = l.n AND e.kind IN ({chosen})" if kinds else ""
        found: list[Reference] = []
        for part in parts(set(targets)):
            condition, named = _named("l.target", part)
            for n, target, in_log in self._all(
                f"SELECT l.n, l.target, l.log FROM links AS l {of_kind} WHERE {condition}", named, "ibi"
            ):
                if log in (None, in_log):
                    found.append(Reference(n, in_log, MessageId(target)))
        return found

    def crowded(self, mids: Collection[MessageId], most: int) -> set[MessageId]:
        found: set[MessageId] = set()
        for table, column in (("entries", "mid"), ("links", "target")):
            counted = f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {column} IS NOT NULL AND"
            one = f"{counted} substr({column}, 1, 8) = ? AND {column} = ? LIMIT ?)"
            for part in parts(set(mids)):
                all_ = f"{counted} substr({column}, 1, 8) IN ({','.join('?' * len(part))}) LIMIT ?)"
                if self._one(all_, (*(mid[:8] for mid in part), most)) >= most:
                    found |= crowds_among({mid: self._one(one, (mid[:8], mid, most)) for mid in part}, most)
        return found

    def said_behind(
        self, log: int, mid: MessageId, after_n: int, limit: int, *, room: int | None = None
    ) -> list[EntryRow]:
        where = (
            "WHERE substr({0}, 1, 8) = ? AND {1} = ? AND {2} AND e.n > ? AND +e.log = ? ORDER BY e.n LIMIT ?"
        )
        retold = where.format("e.mid", "e.mid", "e.mid IS NOT NULL")
        native = where.format("e.id", "substr(e.id, 1, 16)", "e.mid IS NULL")
        parameters = mid[:8], mid, after_n, log, limit
        rows = self._rows(retold, parameters, room=room)
        # Mostly one or none; behind the last of the others it comes with the next page.
        written = self._rows(native, parameters, room=room)
        before = [row for row in written if not rows or row.n < rows[-1].n]
        return sorted([*rows, *before], key=lambda row: row.n)

    def changes_behind(
        self, log: int, mid: MessageId, kinds: frozenset[int], after_n: int, limit: int
    ) -> list[EntryRow]:
        chosen = ",".join(str(int(kind)) for kind in kinds)
        rows = self._all(
            f"SELECT {_BODILESS} FROM links AS l CROSS JOIN entries AS e ON e.n = l.n "
            f"WHERE substr(l.target, 1, 8) = ? AND l.n > ? AND l.target = ? AND l.log = ? "
            f"AND e.kind IN ({chosen}) ORDER BY l.n LIMIT ?",
            (mid[:8], after_n, mid, log, limit),
            _SHAPE,
        )
        return [self._row(row) for row in rows]

    def retold(self, log: int, mids: Collection[MessageId]) -> set[MessageId]:
        found: set[MessageId] = set()
        for part in parts(set(mids)):
            condition, named = _named("mid", part)
            rows = self._all(
                f"SELECT DISTINCT mid FROM entries WHERE {condition} AND mid IS NOT NULL AND +log = ?",
                (*named, log),
                "b",
            )
            found.update(mid for (mid,) in rows)
        return found

    def said_once(self, log: int, mids: Collection[MessageId]) -> set[MessageId]:
        said: Counter[bytes] = Counter()
        for part in parts(set(mids)):
            for column, also in (("mid", "mid IS NOT NULL"), ("id", "mid IS NULL")):
                condition, named = _named(column, part, begins=column == "id")
                rows = self._all(
                    f"SELECT {column} FROM entries WHERE {condition} AND {also} AND +log = ?",
                    (*named, log),
                    "b",
                )
                said.update(name[:16] for (name,) in rows)
        return {mid for mid in mids if said[mid] == 1}

    def changers(
        self, log: int, targets: Collection[MessageId], kinds: frozenset[int]
    ) -> dict[MessageId, set[int]]:
        chosen = ",".join(str(int(kind)) for kind in kinds)
        found: dict[MessageId, set[int]] = {}
        for part in parts(set(targets)):
            condition, named = _named("l.target", part)
            for target, chain in self._all(
                "SELECT DISTINCT l.target, e.chain FROM links AS l CROSS JOIN entries AS e ON e.n = l.n "
                f"WHERE {condition} AND l.log = ? AND e.kind IN ({chosen})",
                [*named, log],
                "bI",
            ):
                found.setdefault(MessageId(target), set()).add(chain or 0)
        return found

    def set_ranks(self, ranks: Collection[tuple[int, int]]) -> None:
        self._run_many("UPDATE entries SET rank = ? WHERE n = ?", [(rank, n) for n, rank in ranks])

    def set_hidden(self, n: int, hidden: bool) -> None:
        self._run("UPDATE entries SET hidden = ? WHERE n = ?", (hidden, n))

    def set_edit(self, n: int, edit: int) -> None:
        self._run("UPDATE entries SET edit = ? WHERE n = ?", (edit or None, n))

    def erase_body(self, n: int, words: str | None, state: Forgotten = BodyState.ERASED) -> None:
        if words is not None:
            self._run("INSERT INTO search (search, rowid, words) VALUES ('delete', ?, ?)", (n, words))
        self._run("DELETE FROM bodies WHERE n = ?", (n,))
        self._run("UPDATE entries SET state = ? WHERE n = ?", (state, n))
        self._mark_stale(self._all("SELECT log, week FROM entries WHERE n = ?", (n,), "ii"))
        self.set_meta("scrub", b"due")

    def remove(self, rows: Sequence[EntryRow], words: Iterable[tuple[int, str]]) -> None:
        self._run_many("INSERT INTO search (search, rowid, words) VALUES ('delete', ?, ?)", list(words))
        ns = [(row.n,) for row in rows]
        for table in ("bodies", "parents", "links", "entries"):
            self._run_many(f"DELETE FROM {table} WHERE n = ?", ns)
        self._mark_stale({(row.log, row.week) for row in rows})
        self.set_meta("scrub", b"due")

    def timeline(self, query: TimelineQuery) -> list[EntryRow]:
        conditions, parameters = ["e.log = ?", "e.chain IS NOT NULL"], [query.log]
        index = ""
        if query.kinds == SPOKEN:
            conditions.append(f"e.kind BETWEEN {min(SPOKEN)} AND {max(SPOKEN)}")
        elif query.kinds:
            conditions.append(_is_of("e.kind", query.kinds))
            # Else SQLite prefers the index by rank, once there is a bound, and reads all of a log.
            if _is_control(query.kinds):
                index = "INDEXED BY entries_control"
            elif query.kinds <= CARRIED:
                index = "INDEXED BY entries_carried"
                conditions.append(_CARRIED)
        if not query.hidden:
            conditions.append("NOT e.hidden")
        bounds: list[object] = []
        for place, sign in ((query.after, ">"), (query.before, "<")):
            if place is not None:
                conditions.append(f"e.rank {sign}= ? AND (e.rank {sign} ? OR e.id {sign} ?)")
                bounds += [place.rank, place.rank, place.id]
        for time_ms, sign in ((query.since_ms, ">="), (query.until_ms, "<")):
            if time_ms is not None:
                conditions.append(f"e.time_ms {sign} ?")
                bounds.append(time_ms)
        direction = "DESC" if query.newest_first else "ASC"
        rows = self._rows(
            f"WHERE {' AND '.join(conditions)} ORDER BY e.rank {direction}, e.id {direction} LIMIT ?",
            [*parameters, *bounds, query.limit],
            bodies=query.bodies,
            index=index,
        )
        if rows:
            last, after, before = rows[-1].position, query.after, query.before
            self._require_progress((after is None or last > after) and (before is None or last < before))
        return rows

    def scan(self, chain: int, after_seq: int, limit: int, *, room: int | None = None) -> list[EntryRow]:
        where = "WHERE e.chain = ? AND e.seq > ? ORDER BY e.seq LIMIT ?"
        rows = self._rows(where, (chain, after_seq, limit), room=room)
        self._require_progress(not rows or rows[-1].seq > after_seq)
        return rows

    def _require_progress(self, progress: bool) -> None:
        """A place that is no number sorts after all that are: whoever walks on from it would never end."""
        if not progress:
            raise StoreError(f"{self.path}: {DAMAGED}")

    def chain_kind(self, chain: int, kind: int) -> list[EntryRow]:
        # Chosen and put in order without their bodies, which are 2 KB each.
        rows = self._rows(
            "WHERE e.n IN (SELECT n FROM entries "
            f"WHERE log = (SELECT log FROM chains WHERE n = ?) AND {_is_of('kind', {kind})} AND chain = ? "
            f"ORDER BY seq DESC LIMIT {limits.STORE_ROWS_MAX})",
            (chain, chain),
        )
        return sorted(rows, key=lambda row: row.seq)

    def places_of_kinds(self, log: int, kinds: frozenset[int]) -> list[Place]:
        return self._places(
            f"FROM entries AS e WHERE e.log = ? AND {_is_of('e.kind', kinds)} AND e.chain IS NOT NULL", (log,)
        )

    def scan_unopened(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        return self._rows(
            "WHERE e.log = ? AND e.chain IS NULL AND e.n > ? ORDER BY e.n LIMIT ?", (log, after_n, limit)
        )

    def scan_closed(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        return self._scan_state(BodyState.CLOSED, log, after_n, limit)

    def scan_expired(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        return self._scan_state(BodyState.EXPIRED, log, after_n, limit)

    def _scan_state(self, state: BodyState, log: int, after_n: int, limit: int) -> list[EntryRow]:
        # Written out, so that SQLite takes the index of this state.
        return self._rows(
            f"WHERE e.log = ? AND e.state = {state:d} AND e.n > ? ORDER BY e.n LIMIT ?", (log, after_n, limit)
        )

    def count_closed(self, log: int) -> int:
        return self._one(
            f"SELECT count(*) FROM entries WHERE log = ? AND state = {BodyState.CLOSED:d}", (log,)
        )

    def unfetched(self, log: int, limit: int, without: frozenset[int] = frozenset()) -> list[EntryId]:
        kinds = ",".join(str(int(kind)) for kind in without)
        condition = (
            f"WHERE log = ? AND state = {BodyState.NOT_FETCHED:d} AND kind NOT IN ({kinds}) "
            "ORDER BY n DESC LIMIT ?"
        )
        return [
            EntryId(id_) for (id_,) in self._all(f"SELECT id FROM entries {condition}", (log, limit), "b")
        ]

    def states(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, BodyState]:
        found: dict[EntryId, BodyState] = {}
        for part in parts([id_[:8] for id_ in ids]):
            for id_, state in self._all(
                f"SELECT id, state FROM entries WHERE substr(id, 1, 8) IN ({','.join('?' * len(part))}) "
                "AND +log = ?",
                (*part, log),
                "bi",
            ):
                if id_ in ids:
                    found[EntryId(id_)] = BodyState(state)
        return found

    def count(self, log: int, kinds: frozenset[int]) -> int:
        return self._one(
            f"SELECT count(*) FROM entries WHERE log = ? AND NOT hidden AND {_is_of('kind', kinds)}", (log,)
        )

    def search(self, words: str, log: int | None, limit: int, before_n: int | None = None) -> list[int]:
        before = limits.SEQ_MAX if before_n is None else before_n
        if log is None:
            sql = "SELECT rowid FROM search WHERE search MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?"
            return [n for (n,) in self._all(sql, (words, before, limit))]
        sql = (
            "SELECT s.rowid FROM search AS s JOIN entries AS e ON e.n = s.rowid "
            "WHERE s.search MATCH ? AND s.rowid < ? AND e.log = ? ORDER BY s.rowid DESC LIMIT ?"
        )
        return [n for (n,) in self._all(sql, (words, before, log, limit))]

    def hits(self, ns: Collection[int]) -> list[Hit]:
        found: list[Hit] = []
        for part in parts(ns):
            columns = "SELECT n, log, id, mid, kind, rank, hidden, edit FROM entries"
            marks = ",".join("?" * len(part))
            rows = self._all(f"{columns} WHERE n IN ({marks})", part, "iibBiiiI")
            found += [
                Hit(n, log, id_, mid, kind, rank, bool(hidden), edit or 0)
                for n, log, id_, mid, kind, rank, hidden, edit in rows
            ]
        return found

    def opened(self, kinds: frozenset[int], after_n: int, limit: int) -> list[tuple[int, int, bytes | None]]:
        chosen = ",".join(str(int(kind)) for kind in kinds)
        return self._all(
            f"SELECT e.n, e.kind, {BODY} FROM entries AS e {_BODIES} "
            f"WHERE e.n > ? AND e.state = {BodyState.OPENED:d} AND e.kind IN ({chosen}) ORDER BY e.n LIMIT ?",
            (after_n, limit),
            "iiB",
        )

    def holds_words(self, words: Iterable[tuple[int, str | None]], *, thorough: bool = False) -> bool:
        with self.reading(), disk_errors(self.path):
            try:
                return search_index.holds_words(self._db, words, thorough=thorough)
            except sqlite3.DatabaseError as error:
                if not is_corrupt(error):
                    raise
                return False

    def replace_words(self, words: Iterable[tuple[int, str]]) -> None:
        self._run("INSERT INTO search (search) VALUES ('delete-all')")
        for batch in _batches(words):
            self._run_many("INSERT INTO search (rowid, words) VALUES (?, ?)", batch)
        self._run("DELETE FROM meta WHERE name = 'search'")
        self.set_meta("scrub", b"due")

    def distrust_words(self) -> None:
        self.set_meta("search", b"distrusted")

    def words_distrusted(self) -> bool:
        return self.meta("search") is not None

    def arrivals(self, log: int, after_n: int, limit: int, *, room: int | None = None) -> list[EntryRow]:
        few = "SELECT count(*) FROM (SELECT 1 FROM entries WHERE log = ? LIMIT ?)"
        # All rows of a log are put in order for each page, or with the plus those of all logs are passed.
        near = self.next_n() - after_n <= limit
        plus = "+" if near or self._one(few, (log, _SORTED_ROWS_MAX)) == _SORTED_ROWS_MAX else ""
        # Chosen before their bodies are read, which may be of all rows that are put in order.
        chosen = f"SELECT n FROM entries WHERE n > ? AND {plus}log = ? ORDER BY n LIMIT ?"
        return self._rows(f"WHERE e.n IN ({chosen}) ORDER BY e.n", (after_n, log, limit), room=room)

    def week_arrivals(
        self, log: int, week: int, after_n: int, limit: int, *, room: int | None = None
    ) -> list[EntryRow]:
        where = "WHERE e.log = ? AND e.week = ? AND e.n > ? ORDER BY e.n LIMIT ?"
        return self._rows(where, (log, week, after_n, limit), room=room)

    def first_seqs(self, log: int, week: int) -> dict[int, int]:
        return dict(
            self._all(
                "SELECT chain, min(seq) FROM entries WHERE log = ? AND week >= ? AND chain IS NOT NULL "
                "GROUP BY chain",
                (log, week),
                "ii",
            )
        )

    def newest_written_ms(self) -> int:
        """The newest time claimed by an entry that was written by hand, in any log; 0 if none."""
        return self._one(
            "SELECT coalesce(max(time_ms), 0) FROM entries WHERE n > (SELECT max(n) FROM entries) - 1000 "
            "AND mid IS NULL AND kind <> 4"
        )

    # -- rows --------------------------------------------------------------------------------

    def _rows(
        self,
        condition: str,
        parameters: Sequence[object],
        *,
        bodies: bool = True,
        room: int | None = None,
        index: str = "",
    ) -> list[EntryRow]:
        """Rows; where there is `room` for some only, the others are not read, in the order of an index."""
        columns, joined = (_COLUMNS, _BODIES) if bodies else (_BODILESS, "")
        select = f"SELECT {columns} FROM entries AS e {index} {joined}"
        if room is None:
            return [self._row(row) for row in self._all(f"{select} {condition}", parameters, _SHAPE)]
        found: list[EntryRow] = []
        for row in self._each(f"{select} {condition}", parameters, _SHAPE):
            found.append(self._row(row))
            if (room := room - _size_of(found[-1])) <= 0:
                break
        return found

    def _lookup(
        self, column: str, values: Collection[object], also: str = "", *, bodies: bool = True
    ) -> Iterator[EntryRow]:
        for part in parts(values):
            marks = ",".join("?" * len(part))
            yield from self._rows(f"WHERE {column} IN ({marks}) {also}", part, bodies=bodies)

    def _by_numbers(self, select: str, ns: Collection[int], column: str = "n") -> Iterator[Any]:
        for part in parts(ns):
            yield from self._all(f"{select} WHERE {column} IN ({','.join('?' * len(part))})", part, "ib")

    def _row(self, row: Sequence[Any]) -> EntryRow:
        (
            n,
            log,
            week,
            id_,
            tail,
            signature,
            state,
            kind,
            chain,
            seq,
            time_ms,
            rank,
            mid,
            hidden,
            edit,
            version,
            body,
        ) = row
        return EntryRow(
            n=n,
            log=log,
            id=id_,
            week=week,
            outer=self._prefix(log) + tail if version is None else tail,
            signature=signature,
            body=body,
            state=state,
            kind=kind,
            chain=chain or 0,
            seq=seq,
            time_ms=time_ms,
            rank=rank,
            mid=mid,
            hidden=hidden,
            edit=edit or 0,
        )

    def _prefix(self, log: int) -> bytes:
        if log not in self._prefixes:
            rows = self._all("SELECT topic FROM logs WHERE n = ?", (log,), "b")
            self._prefixes[log] = bytes([VERSION]) + (rows[0][0] if rows else b"")
        return self._prefixes[log]


def _is_control(kinds: Set[int]) -> bool:
    """Whether an index has all entries of these kinds."""
    return max(kinds, default=_CONTROL_MAX) < _CONTROL_MAX


def _is_of(column: str, kinds: Set[int]) -> str:
    """That an entry is of one of these kinds, so that SQLite sees where an index has all of them."""
    chosen = f"{column} IN ({','.join(str(int(kind)) for kind in kinds)})"
    return f"{chosen} AND {column} < {_CONTROL_MAX}" if _is_control(kinds) else chosen


def _named(column: str, mids: Sequence[bytes], *, begins: bool = False) -> tuple[str, list[bytes]]:
    """A condition that a column is, or begins with, one of these; and its parameters.

    An index knows only 8 bytes, and a file may name thousands of messages that agree in these. So SQLite
    compares all 16, and no row that was not asked for reaches the memory.
    """
    marks = ",".join("?" * len(mids))
    whole = f"substr({column}, 1, 16)" if begins else column
    return f"substr({column}, 1, 8) IN ({marks}) AND {whole} IN ({marks})", [*(m[:8] for m in mids), *mids]


def _size_of(row: EntryRow) -> int:
    return len(row.outer) + len(row.body or b"")


def _columns_of(row: EntryRow) -> tuple[object, ...]:
    version = row.outer[0]
    return (
        row.n,
        row.log,
        row.week,
        row.id,
        row.outer[17:] if version == VERSION else row.outer,
        row.signature,
        row.state,
        row.kind,
        row.chain or None,
        row.seq,
        row.time_ms,
        row.rank,
        row.mid,
        row.hidden,
        row.edit or None,
        None if version == VERSION else version,
    )


def _place(row: Sequence[Any]) -> Place:
    n, id_, chain, seq, rank, kind, retold = row
    return Place(n, id_, chain or 0, seq, rank, kind, bool(retold))


def _batches(words: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    ordered = iter(words)
    while batch := list(islice(ordered, limits.STORE_ROWS_MAX)):
        yield batch
