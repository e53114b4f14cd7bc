"""Slack exports: what messages become, and what broken files do to the rest."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.formats import Chat, File, Hints, Item, Provenance, Record, Skipped
from mlog.formats.identity import of_id
from mlog.formats.slack import SlackImporter
from mlog.log.bodies import Kind

from .hostile import broken, read_all, values
from .trees import MemoryTree

USERS = [
    {"id": "U1", "name": "ann1", "profile": {"display_name": "ann", "real_name": "Ann A"}},
    {"id": "U2", "name": "ben2", "profile": {"display_name": "", "real_name": "Ben B"}},
]
CHANNELS = [{"id": "C1", "name": "tea"}]


def tree_of(days: dict[str, Any], **lists: Any) -> MemoryTree:
    whole = {"users": USERS, "channels": CHANNELS, **lists}
    files = {f"{name}.json": json.dumps(value).encode() for name, value in whole.items()}
    return MemoryTree(files | {name: json.dumps(rows).encode() for name, rows in days.items()})


def read(tree: MemoryTree) -> list[Item]:
    importer = SlackImporter()
    return list(importer.parse(tree, importer.claim(tree), Hints()))


def records(rows: list[Any]) -> list[Record]:
    return [item for item in read(tree_of({"tea/2020-01-02.json": rows})) if isinstance(item, Record)]


def row(ts: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "user": "U1", "text": "hi", "ts": ts} | fields


def test_message_has_name_id_time_and_identity():
    [record] = records([row("1577934245.000200")])
    assert record == Record(
        kind=Kind.MESSAGE,
        mid=of_id("slack:C1", "1577934245.000200"),
        author="ann",
        text="hi",
        time_ms=1577934245000,
        position=1,
        uid="slack:U1",
    )


def test_a_folder_of_one_channel_is_read_by_itself_and_no_other_file_with_a_day_as_its_name():
    tree = MemoryTree({"2020-01-02.json": json.dumps([row("1577934245.000200")]).encode()}, name="tea")
    items = read(tree)
    assert items[0] == Chat(key="slack:#tea", title="#tea")
    assert [item.author for item in items if isinstance(item, Record)] == ["U1"]
    assert SlackImporter().claim(MemoryTree({"2020-01-02.json": b"[1]"})) == ()


def test_files_that_are_gone_are_lines_and_no_attachments():
    files = [
        {"id": "F1", "mode": "tombstone"},
        {"id": "F2", "mode": "hidden_by_limit"},
        {"id": "F3", "name": "a"},
    ]
    [record] = records([row("1577934245.000200", text="", files=files)])
    assert record.files == (File(name="a"),)
    assert record.text == "[file: deleted]\n[file: hidden by Slack, as the workspace's plan has it]"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": "<@U2> &lt;b&gt; &amp;lt;"}, "@Ben B <b> &lt;"),
        ({"text": "<#C1> <#C2|milk> <!here> <!subteam^S1|@all>"}, "#tea #milk @here @all"),
        (
            {"text": "<https://a.org|a> <https://b.org> <mailto:a@b.c|a@b.c>"},
            "a (https://a.org) https://b.org a@b.c",
        ),
        ({"text": "", "attachments": [{"fallback": "f"}]}, "f"),
        ({"text": "x", "attachments": [{"title": "t", "title_link": "u", "text": "y"}]}, "x\nt (u)\ny"),
        (
            {
                "text": "",
                "blocks": [
                    {
                        "type": "rich_text",
                        "elements": [
                            {
                                "type": "rich_text_section",
                                "elements": [
                                    {"type": "text", "text": "a"},
                                    {"type": "user", "user_id": "U2"},
                                ],
                            }
                        ],
                    }
                ],
            },
            "a@Ben B",
        ),
    ],
)
def test_text_is_what_people_saw(fields: dict[str, Any], text: str):
    assert [record.text for record in records([row("1.0", **fields)])] == [text]


@pytest.mark.parametrize(
    ("subtype", "kind"),
    [
        ("channel_join", Kind.JOIN),
        ("group_leave", Kind.PART),
        ("me_message", Kind.ACTION),
        ("bot_message", Kind.MESSAGE),
        ("channel_topic", Kind.EVENT),
        ("of_next_year", Kind.EVENT),
    ],
)
def test_subtypes_are_kinds(subtype: str, kind: Kind):
    assert [record.kind for record in records([row("1.0", subtype=subtype)])] == [kind]


def test_threads_edits_reactions_files_and_deletions():
    got = records(
        [
            row("1.0", edited={"ts": "5.0"}, reactions=[{"name": "tea", "users": ["U2"], "count": 1}]),
            row(
                "2.0",
                thread_ts="1.0",
                files=[{"id": "F1", "name": "a.pdf", "mimetype": "application/pdf", "size": 7}],
            ),
            row("3.0", subtype="tombstone", text="This message was deleted."),
        ]
    )
    said, edited, reacted, reply, gone = got
    assert (edited.kind, edited.to, edited.time_ms) == (Kind.EDIT, (said.mid,), 5000)
    assert (reacted.kind, reacted.author, reacted.text, reacted.uid) == (
        Kind.REACTION,
        "Ben B",
        ":tea:",
        "slack:U2",
    )
    assert (reply.to, reply.files) == ((said.mid,), (File(name="a.pdf", type="application/pdf", size=7),))
    assert (gone.erased, gone.text) == (True, "")


def test_direct_chats_are_named_by_their_people_and_days_are_in_order():
    tree = tree_of(
        {"D1/2020-01-03.json": [row("2.0")], "D1/2020-01-02.json": [row("1.0")]},
        dms=[{"id": "D1", "members": ["U1", "U2"]}],
    )
    chat, *rest = read(tree)
    assert chat == Chat(key="slack:D1", title="ann, Ben B")
    assert [item.time_ms for item in rest if isinstance(item, Record)] == [1000, 2000]
    assert [item.name for item in rest if isinstance(item, Provenance)] == [
        "2020-01-02.json",
        "2020-01-03.json",
    ]


def test_export_inside_a_folder_or_of_one_channel_is_claimed_and_others_are_not():
    one = json.dumps([row("1.0")]).encode()
    importer = SlackImporter()
    assert importer.claim(MemoryTree({"x/tea/2020-01-02.json": one})) == ["x/tea/2020-01-02.json"]
    assert importer.claim(MemoryTree({"tea/2020-01-02.json": b"[1]"})) == ()
    assert importer.claim(MemoryTree({"users.json": b"[]", "a.txt": b""})) == ()


def test_broken_files_are_reported_and_the_rest_is_read():
    tree = tree_of({"tea/2020-01-02.json": [row("1.0"), 7], "tea/2020-01-03.json": [row("2.0")]})
    tree.files["tea/2020-01-02.json"] = tree.files["tea/2020-01-02.json"][:-1]
    tree.files["users.json"] = b"{"
    items = read(tree)
    assert [item.author for item in items if isinstance(item, Record)] == ["U1", "U1"]
    assert {item.file for item in items if isinstance(item, Skipped)} == {"users.json", "tea/2020-01-02.json"}


_json = values(
    "user text ts type subtype reactions users count name files id size edited thread_ts "
    "attachments blocks elements profile members"
)


@given(_json, _json, _json, st.integers(0, 300), st.binary(max_size=3))
def test_any_json_and_any_damage_gives_items(users: Any, channels: Any, rows: Any, at: int, damage: bytes):
    tree = tree_of({"tea/2020-01-02.json": [rows, row("1.0")]}, users=users, channels=channels)
    read_all(read(tree))
    damaged = {name: list(broken(data, at, damage)) for name, data in tree.files.items()}
    for kind in range(2):
        read_all(read(MemoryTree({name: versions[kind] for name, versions in damaged.items()})))


@pytest.mark.corpus
def test_every_message_of_the_corpus_arrives(corpus: Path):
    for path in sorted((corpus / "exports/slack").glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            tree = MemoryTree(
                {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
            )
        rows = [
            one
            for name, data in tree.files.items()
            if name.count("/") and name.endswith(".json")
            for one in json.loads(data)
        ]
        items = read(tree)
        said = [
            item for item in items if isinstance(item, Record) and item.kind not in (Kind.EDIT, Kind.REACTION)
        ]
        assert len(said) == len(rows) > 100
        assert len({record.mid for record in said}) == len(rows)
        assert all(record.author and record.time_ms and record.text for record in said)
        kinds = [item.kind for item in items if isinstance(item, Record)]
        assert kinds.count(Kind.EDIT) == sum("edited" in one for one in rows)
        assert kinds.count(Kind.JOIN) == sum(one.get("subtype") == "channel_join" for one in rows)
        assert not [item for item in items if isinstance(item, Skipped)]
