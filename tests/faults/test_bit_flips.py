"""One flipped bit anywhere in what is stored: verification finds it, and nothing breaks on it.

Two places: a bit of one stored value, as SQL sees it (its indexes follow); and a bit of the
database file, where the dump of all rows says whether anything that matters has changed.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest

from mlog import limits
from mlog.errors import MlogError

from . import scenario
from .record import recorded

SEED = 9

NO_CONTENT = frozenset({"meta", "stale", "_sqlite_migrations"})
"""Tables that hold no part of a log: which incarnation writes next, which digests are due."""

SETTINGS = frozenset({("logs", "window_days"), ("logs", "fetch_bodies")})
"""Columns that a person chose: no entry says what they should be."""


NO_PART = frozenset({("logs", "window_days"), ("logs", "fetch_bodies")})
"""Columns of other tables that are what the person chose, and no part of a log."""


@dataclass(frozen=True)
class Value:
    """One stored value. `rest` finds its row: the other columns."""

    table: str
    column: str
    row: tuple[object, ...]
    content: object

    @property
    def size(self) -> int:
        if isinstance(self.content, bytes | str):
            return len(self.content)
        return max(1, (int(str(self.content)).bit_length() + 8) // 8)

    def flipped(self, rng: random.Random) -> object:
        bit = rng.randrange(8 * self.size)
        if isinstance(self.content, int):
            return self.content ^ (1 << min(bit, 62))
        content = self.content.encode() if isinstance(self.content, str) else self.content
        assert isinstance(content, bytes)
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)


class Patient:
    """A home with entries of every kind, damaged again and again, and put right from a copy."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / "mlog.db"
        scenario.template(folder)
        scenario.append(folder, lambda _: None)
        scenario.change(folder, lambda _: None)
        with scenario.opened(folder) as home:
            n = home.new("quay").n
            scenario.import_irc(home, scenario.irc_log(1, 20), into=n)
            scenario.import_irc(home, scenario.irc_log(2, 15), into=n)
            home.send(n, "by hand")
            home.edit(scenario.newest(home, n), "by hand, again")
            imported = next(m for m in home.messages(n) if m.author.claimed)
            home.react(imported, "👍")
            home.react(imported, "👍", remove=True)
            home.erase(next(m for m in home.messages(n) if m.author.claimed and m.mid != imported.mid))
            home.status()
            assert home.verify(signatures=True) == []
        self.healthy = self.path.read_bytes()
        self.dump = dump(self.path)
        assert self.dump is not None

    def reset(self, content: bytes) -> None:
        for name in ("mlog.db-wal", "mlog.db-shm"):
            (self.folder / name).unlink(missing_ok=True)
        self.path.write_bytes(content)

    def diagnosis(self) -> list[str]:
        """What mlog says of the home, as errors or findings; anything else it raises is a fault."""
        try:
            with scenario.opened(self.folder) as home:
                found = [finding.detail for finding in home.verify(signatures=True)]
                with suppress(MlogError):
                    for conversation in home.conversations():
                        list(home.messages(conversation.n))
                        list(home.entries(conversation.n))
                        list(home.entries(conversation.n, newest_first=True))
                        list(home.export_chat(conversation.n))
                        home.search("again", log=conversation.n)
                    home.status()
                return found
        except MlogError as error:
            return [str(error)]


def dump(path: Path) -> dict[str, list[tuple[object, ...]]] | None:
    """All rows of all tables but the search index, as they are typed; None if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
            db.text_factory = bytes
            return {table: sorted(db.execute(_select(db, table)), key=repr) for table in tables(db)}
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def _select(db: sqlite3.Connection, table: str) -> str:
    columns = [row[1].decode() for row in db.execute(f'PRAGMA table_info("{table}")')]
    kept = ", ".join(f'"{name}"' for name in columns if (table, name) not in NO_PART)
    return f'SELECT {kept} FROM "{table}"'


def tables(db: sqlite3.Connection) -> list[str]:
    # Not by its type: SQLite goes by the statement that made a table, and reads it whatever stands there.
    found = "SELECT CAST(name AS BLOB) FROM sqlite_master WHERE name = tbl_name AND rootpage > 0"
    names = (name for (name,) in db.execute(found).fetchall())
    return [name.decode() for name in names if not name.startswith((b"search", b"sqlite_"))]


_CHECKED = {"links": "WHERE n NOT IN (SELECT n FROM entries WHERE state IN (2, 4))"}
"""What an emptied body named is kept, and stands nowhere else: nothing can tell whether it is damaged."""


def values(path: Path) -> list[Value]:
    """Every stored value that is part of a log."""
    return [
        value
        for value in _all_values(path)
        if value.content is not None and (value.table, value.column) not in SETTINGS
    ]


def _all_values(path: Path) -> Iterator[Value]:
    with closing(sqlite3.connect(path)) as db:
        for table in tables(db):
            if table in NO_CONTENT:
                continue
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            rows = db.execute(f"SELECT * FROM {table} {_CHECKED.get(table, '')}").fetchall()
            for row in rows:
                for column, content in zip(columns, row, strict=True):
                    if (table, column) not in NO_PART:
                        yield Value(table, column, row, content)


def change(path: Path, value: Value, content: object) -> bool:
    """Put another value in its place; False if a constraint forbids it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=OFF")
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({value.table})")]
        row = " AND ".join(f"{column} IS ?" for column in columns)
        new = "CAST(? AS TEXT)" if isinstance(value.content, str) else "?"
        try:
            changed = db.execute(
                f"UPDATE {value.table} SET {value.column} = {new} WHERE {row}", (content, *value.row)
            )
        except (sqlite3.IntegrityError, sqlite3.OperationalError):
            return False
        assert changed.rowcount == 1
        return True


@pytest.fixture
def patient(ram: Path) -> Patient:
    return Patient(ram / "home")


def test_every_flipped_bit_in_a_stored_value_is_found(
    request: pytest.FixtureRequest, patient: Patient
) -> None:
    count = 6_000 if request.config.getoption("--slow") else 600
    known = values(patient.path)
    weights = list(accumulate(value.size for value in known))
    missed: list[str] = []
    with recorded("bit flips in values", seed=SEED, count=count):
        for number in range(count):
            rng = random.Random(f"{SEED}/{number}")
            patient.reset(patient.healthy)
            while True:
                value = rng.choices(known, cum_weights=weights)[0]
                content = value.flipped(rng)
                if change(patient.path, value, content):
                    break
            try:
                found = patient.diagnosis()
            except BaseException as error:
                error.add_note(f"seed {SEED}, flip {number}: {value} became {content!r}")
                raise
            if not found:
                missed.append(f"flip {number}: {value.table}.{value.column} {value.content!r} > {content!r}")
        assert not missed, f"seed {SEED}, {len(missed)} not found:\n" + "\n".join(missed)


def test_every_flipped_bit_of_the_file_that_changes_a_row_is_found(
    request: pytest.FixtureRequest, patient: Patient
) -> None:
    count = 4_000 if request.config.getoption("--slow") else 400
    missed: list[str] = []
    mattered = 0
    with recorded("bit flips in the file", seed=SEED, count=count):
        for number in range(count):
            rng = random.Random(f"{SEED}/file/{number}")
            bit = rng.randrange(8 * len(patient.healthy))
            content = bytearray(patient.healthy)
            content[bit // 8] ^= 1 << bit % 8
            patient.reset(bytes(content))
            changed = [table for table in differing(patient) if table not in NO_CONTENT]
            mattered += bool(changed)
            try:
                found = patient.diagnosis()
            except BaseException as error:
                error.add_note(f"seed {SEED}, flip {number}: bit {bit}; changed: {changed}")
                raise
            if changed and not found:
                missed.append(f"flip {number}: bit {bit} changed {changed}")
        assert not missed, f"seed {SEED}, {len(missed)} not found:\n" + "\n".join(missed)
    assert mattered > count // 10


@pytest.mark.timeout(120)
@pytest.mark.parametrize("column", ["seq", "rank", "id", "time_ms", "chain", "log", "kind", "state", "week"])
def test_a_value_of_another_type_ends_every_walk(
    patient: Patient, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A flipped bit in the head of a row changes a type, and such a value sorts after or before all others.
    monkeypatch.setattr(limits, "STORE_ROWS_MAX", 5)
    with closing(sqlite3.connect(patient.path)) as db:
        ns = [n for (n,) in db.execute("SELECT n FROM entries ORDER BY n")]
    for n in ns[::5]:
        for cast in ("CAST(x'7171' AS TEXT)", "x'7171'", "-1.5e300"):
            patient.reset(patient.healthy)
            with closing(sqlite3.connect(patient.path, isolation_level=None)) as db:
                db.execute(f"UPDATE entries SET {column} = {cast} WHERE n = ?", (n,))
            assert patient.diagnosis(), f"entry {n}, {column} = {cast}"


def differing(patient: Patient) -> list[str]:
    """Tables whose rows are not what they were; "file" if it cannot be read."""
    now = dump(patient.path)
    assert patient.dump is not None
    if now is None:
        return ["file"]
    return [table for table in {*now, *patient.dump} if now.get(table) != patient.dump.get(table)]
