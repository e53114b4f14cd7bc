"""DiscordChatExporter's JSON: what messages become, and what hostile ones do."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import InvalidInput
from mlog.formats import Chat, File, Item, Record, Skipped, Source, detect, importer
from mlog.formats.identity import of_id
from mlog.log.bodies import Kind

from .hostile import survives, values
from .trees import MemoryTree

HEAD = {"guild": {"id": "9", "name": "Home"}, "channel": {"id": "5", "type": "GuildTextChat", "name": "tea"}}
ANN = {"id": "1", "name": "ann_1", "nickname": "ann", "discriminator": "0"}


def read(data: bytes, tree: MemoryTree | None = None) -> list[Item]:
    source = Source(io.BytesIO(data), "c.json", tree=tree, path="x/c.json")
    return list(importer("discord").parse(source))


def row(own_id: str, **fields: Any) -> dict[str, Any]:
    when = {"timestamp": "2020-01-02T03:04:05.6+01:00", "timestampEdited": None, "isPinned": False}
    return {"id": own_id, "type": "Default", "content": "hi", "author": ANN} | when | fields


def records(*rows: Any, tree: MemoryTree | None = None) -> list[Record]:
    items = read(json.dumps(HEAD | {"messages": rows}).encode(), tree)
    return [item for item in items if isinstance(item, Record)]


def test_message_has_name_id_time_and_identity():
    assert records(row("7")) == [
        Record(
            kind=Kind.MESSAGE,
            mid=of_id("discord:5", "7"),
            author="ann",
            text="hi",
            time_ms=1577930645600,
            position=1,
            uid="discord:1",
        )
    ]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"content": "<@!1> <@2> <:tea:44>", "mentions": [ANN]}, "@ann <@2> :tea:"),
        (
            {
                "embeds": [
                    {"title": "t", "url": "u", "description": "d", "fields": [{"name": "n", "value": "v"}]}
                ]
            },
            "hi\nt (u)\nd\nn: v",
        ),
        ({"content": "", "stickers": [{"name": "cup"}]}, "[sticker: cup]"),
        ({"forwardedMessage": {"content": "old"}, "content": ""}, "[forwarded]\nold"),
        ({"poll": {"question": "tea?"}}, "hi\n[poll: question tea?]"),
    ],
)
def test_text_is_what_people_saw(fields: dict[str, Any], text: str):
    assert [record.text for record in records(row("7", **fields))] == [text]


def test_replies_edits_pins_reactions_and_files():
    tree = MemoryTree({"x/c_Files/a-1.png": b"a", "x/c.json": b""})
    emoji = {"emoji": {"id": "", "name": "👍"}, "count": 2, "users": [{"id": "2", "name": "ben"}]}
    rows = [
        row("1", timestampEdited="2020-01-03T00:00:00Z", reactions=[emoji]),
        row("2", type="Reply", reference={"messageId": "1", "channelId": "5"}),
        row("3", type="ChannelPinnedMessage", reference={"messageId": "1"}, content="Pinned a message."),
        row("4", reference={"messageId": "8", "channelId": "6"}),
        row("5", attachments=[{"url": "c_Files\\a-1.png", "fileName": "a.png", "fileSizeBytes": 1}]),
        row("6", attachments=[{"url": "https://cdn/b.png?ex=1", "fileName": "b.png"}]),
    ]
    said, edited, reacted, reply, pin, away, here, gone = records(*rows, tree=tree)
    assert (edited.kind, edited.to, edited.time_ms) == (Kind.EDIT, (said.mid,), 1578009600000)
    assert (reacted.kind, reacted.author, reacted.text, reacted.to) == (
        Kind.REACTION,
        "ben",
        "👍",
        (said.mid,),
    )
    assert (reply.kind, reply.to) == (Kind.MESSAGE, (said.mid,))
    assert (pin.kind, pin.to) == (Kind.EVENT, (said.mid,))
    assert (away.to, away.text) == ((), "[message 8 of channel 6]\nhi")
    assert here.files == (File(name="a.png", path="x/c_Files/a-1.png", size=1),)
    assert gone.files == (File(name="b.png"),)


def test_a_sticker_is_named_in_the_text_only_where_its_picture_is_not_there():
    sticker = {"name": "cup", "sourceUrl": "c_Files/cup.png"}
    tree = MemoryTree({"x/c_Files/cup.png": b"a"})
    (here,) = records(row("1", content="", stickers=[sticker]), tree=tree)
    (alone,) = records(row("1", content="", stickers=[sticker]))
    assert (here.text, [file.name for file in here.files]) == ("", ["cup"])
    assert (alone.text, alone.mid) == ("[sticker: cup]", here.mid)


def test_field_order_and_mark_change_nothing_and_truncation_keeps_what_came():
    rows = {"messages": [row("1"), row("2")]}
    expected = read(json.dumps(HEAD | rows).encode())
    assert expected[0] == Chat(key="discord:5", title="#tea (Home)")
    turned = json.dumps(rows | HEAD).encode("utf-8-sig")
    assert read(turned) == expected
    assert detect(turned, "x").name == "discord"
    got: list[Item] = []
    cut = json.dumps(HEAD | rows).encode()[:-8]
    with pytest.raises(InvalidInput, match=r"^c\.json:\d+: "):
        got.extend(importer("discord").parse(Source(io.BytesIO(cut), "c.json")))
    assert sum(isinstance(item, Record) for item in got) == 1


_json = values(
    "id type content author timestamp timestampEdited reference messageId attachments url fileName embeds "
    "title stickers reactions emoji name users count mentions forwardedMessage interaction user fields"
)


@given(_json, _json, st.lists(_json, max_size=3), st.integers(0, 400), st.binary(max_size=3))
def test_any_json_gives_items_or_a_documented_error(
    guild: Any, channel: Any, rows: list[Any], at: int, damage: bytes
):
    data = json.dumps({"guild": guild, "channel": channel, "messages": rows}).encode()
    survives("discord", read, data, at, damage, "c.json")


@pytest.mark.corpus
def test_every_message_of_the_corpus_arrives(corpus: Path):
    for path in sorted((corpus / "exports/discord").glob("*.json")):
        raw = path.read_bytes()
        assert detect(raw[:65536], path.name).name == "discord"
        document = json.loads(raw)
        items = read(raw)
        said = [item for item in items if isinstance(item, Record) and item.kind is not Kind.REACTION]
        assert len(said) == document["messageCount"] > 0
        reactions = [item for item in items if isinstance(item, Record) and item.kind is Kind.REACTION]
        assert len(reactions) == sum(r["count"] for m in document["messages"] for r in m["reactions"])
        assert sum(len(r.files) for r in said) == sum(len(m["attachments"]) for m in document["messages"])
        assert not [item for item in items if isinstance(item, Skipped)]
