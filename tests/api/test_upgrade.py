"""Homes that an earlier mlog wrote: taken over whole by this one, or left as they were."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from mlog.adapters.database import APPLICATION_ID, SCHEMA_VERSION
from mlog.adapters.schema import MIGRATIONS
from mlog.adapters.sqlite import SqliteStore
from mlog.api import members
from mlog.api.contacts import contacts
from mlog.api.home import Home
from tests.api.acquainted import people, sync

BEFORE_MEMBERS = 7
"""The last schema without rows of members."""

Rows = dict[str, list[tuple[Any, ...]]]


@contextmanager
def read(path: Path) -> Generator[sqlite3.Connection]:
    """A home's database as another program reads it."""
    with closing(sqlite3.connect(f"file:{path / 'mlog.db'}?mode=ro", uri=True)) as db:
        yield db


def rows_of(path: Path, kind: str) -> Rows:
    """All rows of a home's tables, or views."""
    with read(path) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = ?", (kind,)).fetchall()
        # How FTS5 packs the words differs from time to time; `verify` compares these.
        shown = [name for (name,) in names if not name.startswith(("search", "_sqlite"))]
        return {name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in shown}


def everything(path: Path) -> object:
    """All that a home's database says: its version, what it is made of, and every row."""
    with read(path) as db:
        made = db.execute("SELECT type, name, rootpage > 0, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
        tables = [name for kind, name, kept, _ in made if kind == "table" and kept]
        rows = {name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in tables}
        return db.execute("PRAGMA user_version").fetchone(), made, rows


def make_older(path: Path) -> None:
    """Turn a home's database, in its place, into what schema 7 kept of it."""
    old = path.with_name(path.name + " old.db")
    tables = Database(old)
    MIGRATIONS.apply(tables, stop_before="members")
    with closing(tables.conn) as db:
        db.execute("ATTACH ? AS now", (str(path / "mlog.db"),))
        made = db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table' AND rootpage").fetchall()
        for table in (name for (name,) in made if "sqlite_" not in name):
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            # FTS5 begins with rows of its own.
            db.execute(f"DELETE FROM main.{table}")
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")
        db.execute("DELETE FROM meta WHERE name = 'members'")
        db.commit()
        db.execute("DETACH now")
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={BEFORE_MEMBERS}")
        # In its place, as an upgrade finds it: the marker knows the file.
        with closing(sqlite3.connect(path / "mlog.db")) as now:
            db.backup(now)
    old.unlink()


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Homes of three persons, one of whom left what the others talk in, and one was removed."""
    folder = tmp_path_factory.mktemp("lived in")
    ann, bob, carol = homes = people(folder, "ann", "bob", "carol")
    with Home(ann) as home:
        trip = members.new_with(home, "trip", ["bob", "carol"]).n
        members.set_role(home, trip, "bob", "admin")
        home.send(trip, "who brings the tent?")
        mine = home.new("garden").n
        home.send(mine, "beans")
    for other in (bob, carol):
        assert sync(ann, other)
    with Home(bob) as home:
        trip = home.conversation("trip").n
        members.remove(home, trip, "carol")
        members.leave(home, trip)
    for other in (bob, carol):
        sync(ann, other)
    return homes


@pytest.fixture
def three(lived_in: list[Path], tmp_path: Path) -> list[Path]:
    """Copies of these homes, opened once: a marker does not fit a file that was copied."""
    copies = [Path(shutil.copytree(path, tmp_path / path.name)) for path in lived_in]
    for path in copies:
        with Home(path):
            pass
    return copies


class Stopping(sqlite3.Connection):
    """A connection on which the statement of a transaction that is told by `at` is the last one."""

    at = 0
    stops: tuple[Callable[[], None], ...] = ()

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if self.in_transaction:
            Stopping.at -= 1
            if Stopping.at == -1:
                Stopping.stops[0]()
        return super().execute(sql, *parameters)


@contextmanager
def stopped(monkeypatch: pytest.MonkeyPatch, at: int, stop: Callable[[], None]) -> Generator[None]:
    """Inside, `stop` is called before a statement of the transactions, counted from 0."""
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Stopping))
        patch.setattr(Stopping, "at", at)
        patch.setattr(Stopping, "stops", (stop,))
        yield


def test_a_home_of_schema_7_is_taken_over_with_its_members(three: list[Path]) -> None:
    for path in three:
        with Home(path) as home:
            incarnation = home.replica.incarnation
        tables, views = rows_of(path, "table"), rows_of(path, "view")
        make_older(path)
        older = rows_of(path, "view")
        assert "members" not in older
        assert older["messages"] == views["messages"] != []
        with Home(path) as home:
            assert home.store._pragma("user_version") == SCHEMA_VERSION
            assert home.replica.incarnation == incarnation, "it is the same home still, and goes on as such"
            assert len(contacts(home)) == 2
            assert home.verify(signatures=True) == []
        assert rows_of(path, "table") == tables
        assert rows_of(path, "view") == views


def test_members_and_ends_are_as_the_entries_say_after_an_upgrade(three: list[Path]) -> None:
    found: dict[str, list[tuple[Any, ...]]] = {}
    ends: dict[str, list[tuple[Any, ...]]] = {}
    for path in three:
        make_older(path)
        with Home(path), read(path) as db:
            found[path.name] = db.execute("SELECT name, role, ended, ended_by, here FROM members").fetchall()
            ends[path.name] = db.execute("SELECT title, ended FROM conversations ORDER BY n").fetchall()
            persons = db.execute("SELECT count(DISTINCT person) FROM members WHERE length(person) = 32")
            assert persons.fetchone() == (3,)
    assert found["ann"] == [
        ("ann", "admin", None, None, 1),
        ("bob", None, "left", None, 0),
        ("carol", None, "removed", "bob", 0),
    ]
    assert ends == {
        "ann": [("trip", None), ("garden", None)],
        "bob": [("trip", "left")],
        "carol": [("trip", "removed")],
    }


def test_an_upgrade_that_is_stopped_anywhere_leaves_the_older_home(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = three[0]
    views = rows_of(ann, "view")
    make_older(ann)
    older = everything(ann)
    killed = tmp_path / "killed"

    def stop() -> None:
        # What a process leaves that is killed here.
        shutil.rmtree(killed, ignore_errors=True)
        shutil.copytree(ann, killed)
        raise KeyboardInterrupt

    at = 0
    while True:
        with stopped(monkeypatch, at, stop), suppress(KeyboardInterrupt):
            SqliteStore(ann / "mlog.db").close()
            break
        assert everything(ann) == older
        assert everything(killed) == older
        at += 1
    assert at > 15, "it was stopped before each statement"
    for path in (ann, killed):
        with Home(path) as home:
            assert home.verify() == []
        assert rows_of(path, "view") == views


def test_members_that_could_not_be_listed_are_listed_the_next_time(
    three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = three[0]
    views = rows_of(ann, "view")
    make_older(ann)
    SqliteStore(ann / "mlog.db").close()

    def fail() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with stopped(monkeypatch, 5, fail), Home(ann) as home:
        assert len(home.conversations()) == 2, "who reads is not stopped by a full disk"
    assert rows_of(ann, "view")["members"] == []
    with Home(ann):
        pass
    assert rows_of(ann, "view") == views
