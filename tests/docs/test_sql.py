"""docs/sql.md documents every column of the public views, and its examples run."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlog
from mlog.adapters.schema import VIEWS_VERSION
from mlog.adapters.sqlite import SqliteStore
from mlog.log.ids import message_id
from mlog.log.store import GapRow, Reason
from tests.api.peers import Peer

_TEXT = (Path(__file__).resolve().parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
_SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", _TEXT, re.MULTILINE | re.DOTALL))
_DOCUMENTED = {
    view: re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    for view, section in _SECTIONS.items()
    if view != "Opening"
}
_EXAMPLES = re.findall(r"^(sqlite.*)$", _TEXT, re.MULTILINE)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "mlog.db"
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


def test_every_public_view_is_documented_and_no_other(database: sqlite3.Connection) -> None:
    views = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'view'")}
    assert views == set(_DOCUMENTED)


@pytest.mark.parametrize("view", _DOCUMENTED)
def test_every_column_is_documented_in_its_order_and_no_other(
    view: str, database: sqlite3.Connection
) -> None:
    columns = [column[1] for column in database.execute(f"PRAGMA table_info({view})")]
    assert columns == _DOCUMENTED[view]


def test_the_version_of_the_views_is_stated() -> None:
    assert f"their version is {VIEWS_VERSION} (" in _TEXT


@pytest.mark.parametrize("example", _EXAMPLES)
def test_the_examples_run(example: str, database: sqlite3.Connection) -> None:
    (sql,) = (word for word in shlex.split(example) if word.startswith("SELECT"))
    database.execute(sql).fetchall()


def test_the_views_show_a_conversation_as_documented(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home", person="Ann") as home:
        tea = home.new("tea").n
        first = home.send(tea, "helo")
        home.send(tea, "hi", reply_to=message_id(first))
        home.edit(next(home.messages(tea)), "hello")
        home.erase(list(home.messages(tea))[1])
        snapshot = home.snapshot()
    connection = sqlite3.connect(f"{snapshot.as_uri()}?mode=ro", uri=True)
    rows = connection.execute(
        "SELECT conversation, kind, author, imported, text, edited, erased FROM messages "
        "ORDER BY position, id"
    ).fetchall()
    assert rows == [
        ("tea", "message", "Ann", 0, "hello", 1, 0),
        ("tea", "reply", "Ann", 0, None, 0, 1),
    ]
    assert connection.execute("SELECT title, messages, entries, gaps FROM conversations").fetchall() == [
        ("tea", 2, 6, 0)
    ]
    assert connection.execute("SELECT holder, entries, bodies FROM copies").fetchall() == [("here", 6, 5)]
    connection.close()


def test_copies_has_a_row_for_here_and_for_each_device_with_what_it_signed(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home", person="Ann") as home:
        tea, coffee = home.new("tea").n, home.new("coffee").n
        home.send(tea, "hello")
        phone = Peer(home, "phone", 1)
        receipt = phone.prove(tea, first_week=3)
        [sync] = home.store.syncs(tea)
        home.send(tea, "later")
        snapshot = home.snapshot()
    device = phone.device.hex()
    assert _rows(snapshot, "SELECT * FROM copies ORDER BY conversation_n, holder") == [
        ("tea", tea, "here", 4, 4, None, None, None, None),
        ("tea", tea, "phone", 3, 3, device, sync.equal_ms, receipt.expires_ms, 3),
        ("coffee", coffee, "here", 2, 2, None, None, None, None),
        ("coffee", coffee, "phone", None, None, device, None, None, None),
    ]


def test_gaps_names_who_told_of_what_is_missing_or_was_equal_while_it_was_here(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home", person="Ann") as home:
        tea = home.new("tea").n
        row = home.find_entry(home.send(tea, "hello").hex())
        told, equal, narrow = Peer(home, "told", 1), Peer(home, "equal", 2), Peer(home, "narrow", 3)
        told.tell(tea, row.seq)
        equal.prove(tea)
        narrow.prove(tea, first_week=row.week + 1)
        late = home.find_entry(home.send(tea, "late").hex())
        since_ms = home.now_ms()
        gaps = [
            GapRow(tea, r.id, "body", Reason.CORRUPT, r.chain, r.seq, r.time_ms, since_ms, "damaged")
            for r in (row, late)
        ]
        with home.store.transaction():
            home.store.replace_gaps(tea, gaps)
        snapshot = home.snapshot()
    holders = dict(_rows(snapshot, "SELECT id, holder FROM gaps"))
    assert set((holders[row.id.hex()] or "").split(", ")) == {"told", "equal"}
    assert holders[late.id.hex()] is None


def _rows(snapshot: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"{snapshot.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
