"""Messenger and Instagram exports: order, broken letters, files, and damage."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.formats import Chat, File, Hints, Item, Record, Skipped, Source, detect, importer
from mlog.formats.meta import MetaTreeImporter, mended
from mlog.log.bodies import Kind

from .hostile import survives, values
from .trees import MemoryTree


def read(data: bytes) -> list[Item]:
    return list(importer("meta").parse(Source(io.BytesIO(data), "m.json")))


def row(time_ms: int, text: str | None = "hi", **fields: Any) -> dict[str, Any]:
    return {"sender_name": "ann", "timestamp_ms": time_ms, "content": text} | fields


def thread(*rows: Any, **head: Any) -> bytes:
    whole = {
        "participants": [{"name": "ann"}],
        "messages": rows,
        "title": "Tea",
        "thread_path": "inbox/tea_1",
    }
    return json.dumps(whole | head).encode()


def records(items: list[Item]) -> list[Record]:
    return [item for item in items if isinstance(item, Record)]


def test_newest_first_is_turned_round_and_oldest_first_is_not():
    one = read(thread(row(2000, "b"), row(1000, "a")))
    two = read(thread(row(1000, "a"), row(2000, "b")))
    assert one[0] == two[0] == Chat(key="meta:tea_1", title="Tea")
    assert [(r.text, r.time_ms) for r in records(one)] == [("a", 1000), ("b", 2000)]
    assert [r.mid for r in records(one)] == [r.mid for r in records(two)]


@pytest.mark.parametrize("text", ["grün ☕", "é", "plain", "Ünï", "Ω"])
def test_broken_letters_are_mended_and_right_ones_are_left(text: str):
    assert mended(text.encode().decode("latin-1")) == text
    assert mended(text) == text


@given(st.text())
def test_any_text_that_was_broken_is_mended(text: str):
    raw = text.encode("utf-8", "replace")
    assert mended(raw.decode("latin-1")) == raw.decode()


def test_text_cut_within_a_letter_is_mended_before_the_cut():
    assert mended("grün ☕".encode()[:-1].decode("latin-1")) == "grün \ufffd"


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"share": {"link": "https://a.org"}}, Kind.MESSAGE, "hi\nhttps://a.org"),
        ({"call_duration": 7}, Kind.EVENT, "hi\n[call of 7 seconds]"),
        ({"type": "Subscribe"}, Kind.JOIN, "hi"),
        ({"plan": {"title": "tea"}}, Kind.MESSAGE, "hi\n[plan: title tea]"),
    ],
)
def test_kinds_and_what_is_more_than_text(fields: dict[str, Any], kind: Kind, text: str):
    assert [(r.kind, r.text) for r in records(read(thread(row(1, **fields))))] == [(kind, text)]


def test_reactions_and_unsent_messages():
    said, reacted, gone = records(
        read(
            thread(
                row(1, reactions=[{"reaction": "\u00e2\u009d\u00a4", "actor": "ben"}]), row(2, is_unsent=True)
            )
        )
    )
    assert (reacted.kind, reacted.text, reacted.author, reacted.to) == (
        Kind.REACTION,
        "❤",
        "ben",
        (said.mid,),
    )
    assert (gone.erased, gone.text) == (True, "")


def test_encrypted_form_is_read():
    data = json.dumps(
        {
            "participants": ["ann", "ben"],
            "threadName": "ben_3",
            "messages": [
                {
                    "isUnsent": False,
                    "media": [{"uri": "./media/a.jpg"}],
                    "reactions": [],
                    "senderName": "ann",
                    "text": "é",
                    "timestamp": 1700000000000,
                    "type": "media",
                }
            ],
        }
    ).encode()
    assert detect(data, "x").name == "meta"
    chat, record = read(data)
    assert chat == Chat(key="meta:ben_3", title="ben")
    assert isinstance(record, Record)
    assert (record.author, record.text, record.time_ms) == ("ann", "é", 1700000000000)
    assert record.files == (File(name="a.jpg"),)


@pytest.mark.parametrize("root", ["", "x/", "x/your_activity_across_facebook/"])
def test_files_of_a_thread_are_merged_and_pictures_found(root: str):
    at = f"{root}messages/inbox/tea_1/"
    photo = {"photos": [{"uri": "messages/inbox/tea_1/photos/1.jpg"}]}
    tree = MemoryTree(
        {
            at + "message_1.json": thread(row(4000, "d"), row(3000, "c", **photo)),
            at + "message_2.json": thread(row(2000, "b"), row(1000, "a")),
            at + "message_10.json": thread(row(500, "0"))[:-9],
            at + "photos/1.jpg": b"p",
            root + "messages/autofill.json": b"{}",
        }
    )
    claimed = MetaTreeImporter().claim(tree)
    assert len(claimed) == 3
    items = list(MetaTreeImporter().parse(tree, claimed, Hints()))
    assert [r.text for r in records(items)] == ["0", "a", "b", "c", "d"]
    assert records(items)[3].files == (File(name="1.jpg", path=at + "photos/1.jpg"),)
    assert [item.file for item in items if isinstance(item, Skipped)] == [at + "message_10.json"]
    assert [item.key for item in items if isinstance(item, Chat)] == ["meta:tea_1"]


_json = values(
    "sender_name timestamp_ms timestamp content type share link photos uri reactions reaction actor sticker "
    "call_duration name is_unsent"
)


@given(_json, _json, st.lists(_json, max_size=3), st.integers(0, 400), st.binary(max_size=3))
def test_any_json_gives_items_or_a_documented_error(
    title: Any, people: Any, rows: list[Any], at: int, damage: bytes
):
    data = thread(*rows, title=title, participants=people, thread_path=title)
    survives("meta", read, data, at, damage, "m.json")


@pytest.mark.corpus
@pytest.mark.parametrize("folder", ["facebook", "instagram"])
def test_every_message_of_the_corpus_arrives(corpus: Path, folder: str):
    for path in sorted((corpus / "exports" / folder).glob("*.json")):
        raw = path.read_bytes()
        assert detect(raw[:65536], path.name).name == "meta"
        got = records(read(raw))
        assert len(got) == raw.count(b'"sender_name"') > 0
        assert sum(len(r.files) for r in got) == raw.count(b'"photos"')
        assert [r.time_ms for r in got] == sorted(r.time_ms for r in got)
