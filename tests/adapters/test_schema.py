"""Schema: migrations, and the public views that scripts rely on."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from sqlite_utils import Database, Migrations

from mlog.adapters import schema
from mlog.adapters.schema import MIGRATIONS, VIEWS_VERSION
from mlog.adapters.sqlite import APPLICATION_ID, SCHEMA_VERSION, SqliteStore
from mlog.log import bodies
from mlog.log.bodies import Kind, kind_name
from mlog.log.identities import FAMILIES
from mlog.log.replica import Draft, Replica
from mlog.log.store import DeviceRow, TimelineQuery
from mlog.log.view import Message, View
from tests.log.support import (
    DEVICES_MAX,
    EXTRAS,
    LOG,
    START_MS,
    History,
    deliver,
    device_keys,
    facts,
    findings,
    histories,
    make_log,
    make_replica,
    message,
    text,
)

COLUMNS = {
    "messages": [
        "n",
        "id",
        "message_id",
        "conversation",
        "conversation_n",
        "time",
        "time_ms",
        "kind",
        "author",
        "imported",
        "text",
        "edited",
        "erased",
        "reply_to",
        "position",
    ],
    "conversations": ["n", "title", "topic", "messages", "entries", "latest_ms", "gaps", "ended"],
    "members": [
        "conversation",
        "conversation_n",
        "name",
        "person",
        "role",
        "here",
        "history",
        "since_ms",
        "ended",
        "ended_ms",
        "ended_by",
    ],
    "attachments": [
        "n",
        "id",
        "message_id",
        "conversation",
        "conversation_n",
        "time_ms",
        "name",
        "type",
        "size",
        "hash",
        "chunks",
        "erased",
    ],
    "people": [
        "person",
        "format",
        "uid",
        "name",
        "conversation",
        "conversation_n",
        "messages",
        "first_ms",
        "last_ms",
    ],
    "gaps": [
        "conversation",
        "conversation_n",
        "id",
        "part",
        "reason",
        "author",
        "seq",
        "time_ms",
        "since_ms",
        "detail",
        "holder",
    ],
    "copies": [
        "conversation",
        "conversation_n",
        "holder",
        "entries",
        "bodies",
        "device",
        "proven_ms",
        "expires_ms",
        "first_week",
    ],
}

VIEWS_HASH = {
    1: "b115ceba74ead6ed",
    2: "cbc7ea1ff1cf2078",
    3: "b27febed6a29d719",
    4: "8f48fe82ea8200d7",
    5: "a01f29f574666187",
    6: "b75a354dcdc686da",
}
"""Of the text of the views, by VIEWS_VERSION. A released version's never changes: a view that
changes gets a migration, a new version, and a line here and in docs/sql.md."""


COMPARED = [name for name in COLUMNS["messages"] if name not in ("n", "time")]


def foreign(path: Path) -> sqlite3.Connection:
    """The database as another program opens it."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    return db


def definitions(db: sqlite3.Connection) -> list[tuple[str, str]]:
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
    return [tuple(row) for row in rows if not row[0].startswith("_sqlite")]


# -- migrations ------------------------------------------------------------------------------


def test_migrations_apply_once(tmp_path: Path):
    db = Database(tmp_path / "mlog.db")
    try:
        MIGRATIONS.apply(db)
        first = definitions(db.conn)
        assert len(first) > 20
        MIGRATIONS.apply(db)
        assert definitions(db.conn) == first
    finally:
        db.close()


def test_a_store_has_what_the_migrations_make(tmp_path: Path):
    SqliteStore(tmp_path / "one.db").close()
    SqliteStore(tmp_path / "one.db").close()
    db = Database(tmp_path / "two.db")
    MIGRATIONS.apply(db)
    made = foreign(tmp_path / "one.db")
    assert definitions(made) == definitions(db.conn)
    assert made.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    made.close()
    db.close()


def test_every_migration_has_a_text_that_says_what_it_does():
    assert all(
        getattr(schema, name).__doc__
        for name in (
            "first_tables",
            "first_views",
            "sync_tables",
            "sync_views",
            "attachment_views",
            "people_view",
        )
    )


# -- views -----------------------------------------------------------------------------------


def test_views_have_their_columns(tmp_path: Path):
    SqliteStore(tmp_path / "mlog.db").close()
    db = foreign(tmp_path / "mlog.db")
    views = [row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    assert {
        view: [row["name"] for row in db.execute(f"PRAGMA table_info({view})")] for view in views
    } == COLUMNS
    db.close()


def test_views_change_only_with_their_version(tmp_path: Path):
    SqliteStore(tmp_path / "mlog.db").close()
    db = foreign(tmp_path / "mlog.db")
    views = db.execute("SELECT sql FROM sqlite_master WHERE type = 'view' ORDER BY name").fetchall()
    db.close()
    text_of_all = " ".join(" ".join(sql.split()) for (sql,) in views)
    assert VIEWS_HASH[VIEWS_VERSION] == blake3(text_of_all.encode()).hexdigest()[:16]


def test_the_view_of_people_knows_the_same_programs_as_the_command():
    assert schema._FAMILIES == FAMILIES


def name_devices(store: SqliteStore) -> dict[Any, str]:
    names = {device_keys(index).id: f"person {index}" for index in range(DEVICES_MAX)}
    with store.transaction():
        for id_, name in names.items():
            store.put_device(DeviceRow(id_, "device", name))
    return names


def as_row(message: Message, title: str) -> dict[str, Any]:
    """What the view `messages` has to say of a message."""
    return {
        "id": message.id.hex(),
        "message_id": message.mid.hex(),
        "conversation": title,
        "conversation_n": message.log,
        "time_ms": message.time_ms,
        "kind": kind_name(message.kind),
        "author": message.author.name,
        "imported": message.author.claimed,
        "text": message.text,
        "edited": message.edited,
        "erased": message.erased,
        "reply_to": message.to[0].hex() if message.to else "",
        "position": message.position.rank,
    }


def check_views(path: Path, replica: Replica, names: dict[Any, str]) -> None:
    store = replica.store
    title = store.logs()[0].title
    seen = View(replica, names).of_rows(LOG, store.timeline(TimelineQuery(log=LOG, limit=1000)))
    db = foreign(path)
    try:
        rows = db.execute("SELECT * FROM messages ORDER BY position, id").fetchall()
        # Null where the view in Python has an empty text.
        found = [{name: "" if row[name] is None else row[name] for name in COMPARED} for row in rows]
        assert found == [as_row(message, title) for message in seen]
        [conversation] = db.execute("SELECT * FROM conversations").fetchall()
        assert (conversation["title"], conversation["messages"]) == (title, len(seen))
        [copy] = db.execute("SELECT * FROM copies").fetchall()
        assert copy["entries"] == conversation["entries"] == store.next_n() - 1
    finally:
        db.close()


@settings(max_examples=40)
@given(histories())
def test_views_agree_with_the_view_in_python(tmp_path_factory: pytest.TempPathFactory, history: History):
    path = tmp_path_factory.mktemp("views") / "mlog.db"
    store = SqliteStore(path)
    try:
        names = name_devices(store)
        with store.transaction():
            replica = deliver(history, history.entries.values(), store)
        check_views(path, replica, names)
    finally:
        store.close()


def test_views_show_every_kind_and_case(tmp_path: Path):
    path = tmp_path / "mlog.db"
    store = SqliteStore(path)
    names = name_devices(store)
    replica = make_replica(store)
    make_log(replica)
    spoken = [Draft(kind, text("what\nwas said 你好"), START_MS) for kind in bodies.SPOKEN - {Kind.REPLY}]
    rows = replica.write(LOG, spoken, START_MS)
    replica.write(LOG, [Draft(Kind.REPLY, text("answer", rows[0].message, rows[1].message), START_MS)], 0)
    gone = bodies.Text(text="", by="nick", erased=True)
    replica.write_run(
        replica.begin_run(LOG),
        [Draft(Kind.MESSAGE, gone, START_MS, rows[0].message[::-1]), message("late", 2**53 - 1)],  # pyright: ignore[reportArgumentType]
        START_MS,
    )
    check_views(path, replica, names)
    store.close()
    db = foreign(path)
    times = dict(db.execute("SELECT text, time FROM messages WHERE kind = 'message'").fetchall())
    assert times["what\nwas said 你好"] == "2023-11-14T22:13:20.000Z"
    assert times["late"] is None
    assert {row["kind"] for row in db.execute("SELECT kind FROM messages")} == {
        kind_name(kind) for kind in bodies.SPOKEN
    }
    db.close()


def test_the_view_of_gaps_lists_findings(tmp_path: Path):
    from mlog.log.store import GapRow, Reason

    path = tmp_path / "mlog.db"
    store = SqliteStore(path)
    name_devices(store)
    replica = make_replica(store)
    make_log(replica)
    [row] = replica.write(LOG, [message("hello")], START_MS)
    with store.transaction():
        store.replace_gaps(
            LOG, [GapRow(LOG, row.id, "body", Reason.CORRUPT, row.chain, 1, START_MS, 5, "what")]
        )
    store.close()
    db = foreign(path)
    [gap] = [dict(found) for found in db.execute("SELECT * FROM gaps")]
    assert gap == {
        "conversation": "",
        "conversation_n": LOG,
        "id": row.id.hex(),
        "part": "body",
        "reason": "corrupt here",
        "author": "person 0",
        "seq": 1,
        "time_ms": START_MS,
        "since_ms": 5,
        "detail": "what",
        "holder": None,
    }
    assert [found["gaps"] for found in db.execute("SELECT gaps FROM conversations")] == [1]
    db.close()


# -- homes of earlier versions ---------------------------------------------------------------


def first_version(path: Path, store: SqliteStore) -> None:
    """The database of schema version 1 that holds what a store holds."""
    first = Migrations("mlog")
    for step in (schema.first_tables, schema.first_views):
        first()(step)
    db = Database(path)
    first.apply(db)
    db.conn.execute("ATTACH ? AS now", (str(store.path),))
    for (table,) in db.conn.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
        if table.startswith(("search", "sqlite_", "_sqlite")):
            continue
        columns = ", ".join(row[1] for row in db.conn.execute(f"PRAGMA main.table_info({table})"))
        db.conn.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")
    db.conn.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.conn.execute("PRAGMA user_version=1")
    db.conn.commit()
    db.close()


def test_a_home_of_version_1_is_taken_over(tmp_path: Path):
    history = History(2).run(
        [("say", 0, 0, 30), ("say", 1, 0, 31), ("hear", 1, 0, 40), ("import", 0, 0, 4), ("edit", 0, 0, 36)]
    )
    now = SqliteStore(tmp_path / "now.db")
    replica = deliver(history, history.entries.values(), now)
    expected = facts(replica)
    now.close()
    first_version(tmp_path / "mlog.db", now)
    store = SqliteStore(tmp_path / "mlog.db")
    again = make_replica(store, 0, "receiver")
    again.rebuild_search()
    while again.settle(LOG, START_MS):
        pass
    assert store._pragma("user_version") == SCHEMA_VERSION
    assert findings(again) == []
    assert facts(again) == expected
    made = foreign(tmp_path / "mlog.db")
    assert definitions(made) == definitions(foreign(tmp_path / "now.db"))
    made.close()
    again.write(LOG, [message("after")], START_MS)
    assert findings(again) == []
    store.close()


def test_a_branch_that_version_1_did_not_read_is_read(tmp_path: Path):
    history = History(1).run([("say", 0, 0, 30)])
    EXTRAS["fork"](history, 0, 1)
    now = SqliteStore(tmp_path / "now.db")
    expected = facts(deliver(history, history.entries.values(), now))
    now.close()
    # As version 1 kept it: opened, and in no chain.
    old = sqlite3.connect(now.path)
    branch = old.execute("SELECT n FROM chains WHERE branch <> x''").fetchone()[0]
    old.execute("DELETE FROM parents WHERE n IN (SELECT n FROM entries WHERE chain = ?)", (branch,))
    old.execute(
        "UPDATE entries SET chain = NULL, kind = 0, seq = 0, time_ms = 0, rank = 0 WHERE chain = ?", (branch,)
    )
    old.execute("DELETE FROM chains WHERE n = ?", (branch,))
    old.execute("DELETE FROM heads")
    old.execute("INSERT INTO heads SELECT log, id FROM chains")
    old.commit()
    old.close()
    first_version(tmp_path / "mlog.db", now)
    store = SqliteStore(tmp_path / "mlog.db")
    again = make_replica(store, 0, "receiver")
    again.rebuild_search()
    while again.settle(LOG, START_MS):
        pass
    assert [finding.part for finding in findings(again)] == ["chain"]
    assert facts(again) == expected
    store.close()
