"""Signal: data.json and chat.md of sigexport, text of signalbackup-tools, and damage to each."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import InvalidInput
from mlog.formats import Chat, Hints, Item, Record, Skipped, Source, detect
from mlog.formats.signal_export import SignalImporter
from mlog.log.bodies import Kind
from tests.formats.trees import MemoryTree


def items_of(raw: str | bytes, name: str = "data.json", **more: Any) -> list[Item]:
    data = raw.encode() if isinstance(raw, str) else raw
    return list(SignalImporter().parse(Source(io.BytesIO(data), name, **more)))


def records_of(raw: str | bytes, **more: Any) -> list[Record]:
    return [item for item in items_of(raw, **more) if isinstance(item, Record)]


def line(body: str = "hi  ", at: str = "2024-01-02T15:04:05.678000+00:00", **fields: object) -> str:
    whole = {"date": at, "sender": "Ann", "body": body, "quote": "", "sticker": None, "reactions": []}
    return json.dumps(whole | {"attachments": [], "deleted": False, "call": False} | fields) + "\n"


def test_messages_have_author_time_and_text():
    (record,) = records_of(line("hi  "))
    assert (record.author, record.text, record.time_ms, record.kind) == (
        "Ann",
        "hi",
        1704207845678,
        Kind.MESSAGE,
    )


def test_quotations_become_replies_and_unknown_ones_stay_as_lines():
    first, second, third = records_of(
        line("one `two`  \nthree  ")
        + line("yes", at="2024-01-02T15:05:05.678000+00:00", quote="\n\n> one two\n> three\n\n")
        + line("no", at="2024-01-02T15:06:05.678000+00:00", quote="\n\n> never\n> said\n\n")
    )
    assert (second.to, second.text) == ((first.mid,), "yes")
    assert (third.to, third.text) == ((), "> never\n> said\nno")


def test_milliseconds_are_the_identity_so_that_edits_and_names_change_nothing():
    old = records_of(line("hi"))[0]
    message, first, second = records_of(
        line("newest", sender="Me", edits=[{"body": "hi  "}, {"body": "newer  "}])
    )
    assert (message.mid, message.text) == (old.mid, "hi")
    assert [(one.kind, one.text, one.to) for one in (first, second)] == [
        (Kind.EDIT, "newer", (old.mid,)),
        (Kind.EDIT, "newest", (old.mid,)),
    ]
    erased = records_of(line("", deleted=True))[0]
    assert (erased.mid, erased.erased, erased.text) == (old.mid, True, "")


@pytest.mark.parametrize("reactions", [[["Ben", "☕"]], [{"name": "Ben", "emoji": "☕"}]])
def test_reactions_name_who_and_what(reactions: list[object]):
    message, reaction = records_of(line(reactions=reactions))
    assert (reaction.kind, reaction.author, reaction.text, reaction.to) == (
        Kind.REACTION,
        "Ben",
        "☕",
        (message.mid,),
    )
    assert isinstance(items_of(line(reactions=[["Ben", ""]]))[-1], Skipped)


def test_attachments_are_found_in_the_tree_stickers_are_words_and_calls_events():
    tree = MemoryTree({"Tea/data.json": b"", "Tea/media/a b.jpg": b"123"})
    raw = (
        line("", attachments=[{"name": "a b.jpg", "path": "media/a%20b.jpg"}, {"name": "c.pdf", "path": "x"}])
        + line("", at="2024-01-02T15:05:05+00:00", sticker={"emoji": "🙂"})
        + line("Missed call", at="2024-01-02T15:06:05+00:00", call=True)
    )
    chat, *rest = items_of(raw, tree=tree, path="Tea/data.json")
    assert chat == Chat(key="signal:tea", title="Tea")
    records = [item for item in rest if isinstance(item, Record)]
    found, lost = records[0].files
    assert (found.path, found.type, found.size) == ("Tea/media/a b.jpg", "image/jpeg", 3)
    assert (lost.name, lost.path) == ("c.pdf", "")
    assert records[1].text == "[sticker: 🙂]"
    assert (records[2].kind, records[2].text) == (Kind.EVENT, "Missed call")


def test_lines_that_are_no_message_are_kept_and_reported():
    items = items_of(line() + '{"date": "2024\n[]\nplain\n')
    assert [item.text for item in items if isinstance(item, Record)][1:] == ['{"date": "2024', "[]", "plain"]
    assert [item.position for item in items if isinstance(item, Skipped)] == [2, 3, 4]


def test_two_files_without_a_name_are_two_chats_and_the_folder_names_others():
    first, second = items_of(line())[0], items_of(line(sender="Ben"))[0]
    assert first != second
    assert items_of(line(), name="Tea (_id7).data.json")[0] == Chat(key="signal:tea", title="Tea")


_MARKDOWN = (
    "[2024-01-02 15:04:05] Ann: one  \ntwo\n\n"
    "[2024-01-02 15:05:05] Me: \n\n> one\n\nyes  \n(- Ben: ☕, Cat: 🙂 -)\n\n"
    "[2024-01-02 15:06:05] Ann: look  ![a.jpg](./media/a.jpg)  \n\n"
    "[2024-01-02 15:07:05] Ann: (This message was deleted)\n\n"
)


def test_markdown_of_sigexport_is_read():
    assert detect(_MARKDOWN.encode(), "chat.md").name == "signal"
    tree = MemoryTree({"Tea/chat.md": b"", "Tea/media/a.jpg": b"123"})
    records = records_of(_MARKDOWN, name="chat.md", tree=tree, path="Tea/chat.md")
    kinds = [Kind.MESSAGE, Kind.MESSAGE, Kind.REACTION, Kind.REACTION, Kind.MESSAGE, Kind.MESSAGE]
    assert [record.kind for record in records] == kinds
    one, yes, coffee, smile, look, gone = records
    assert (one.text, yes.text) == ("one\ntwo", "\n\n> one\n\nyes")  # Nobody said just "one".
    assert (coffee.author, coffee.text, coffee.to) == ("Ben", "☕", (yes.mid,))
    assert (smile.author, smile.text) == ("Cat", "🙂")
    assert (look.text, look.files[0].path, look.files[0].name) == ("look", "Tea/media/a.jpg", "a.jpg")
    alone = records_of(_MARKDOWN, name="chat.md")[4]
    assert (alone.text, alone.mid) == ("look  ![a.jpg](./media/a.jpg)", look.mid)
    assert (gone.text, gone.erased) == ("", True)
    without = records_of(_MARKDOWN.replace("\n(- Ben: ☕, Cat: 🙂 -)", ""), name="chat.md")
    assert without[1].mid == yes.mid


def test_a_quotation_of_markdown_refers_where_its_words_were_said():
    raw = (
        "[2024-01-02 15:04:05] Ann: one  \ntwo\n\n"
        "[2024-01-02 15:05:05] Me: \n\n> one\n> two\n\nyes\n\n"
        "[2024-01-02 15:06:05] Ann: \n\n> yes\n\ngood\n\n"
        "[2024-01-02 15:07:05] Ann: > gone\n\nwell\n\n"
    )
    one, yes, good, well = records_of(raw, name="chat.md")
    assert (yes.text, yes.to) == ("yes", (one.mid,))
    assert (good.text, good.to) == ("good", (yes.mid,))
    assert (well.text, well.to) == ("> gone\n\nwell", ())


def test_text_of_signalbackup_tools_is_read():
    raw = (
        "[Jan 02, 2024 15:04:05] <Ann> hi\nmore\n"
        '[Jan 02, 2024 15:05:05] *** <Ben> sent file "a.jpg"\n'
        "[Jan 02, 2024 15:06:05] *** <Ben> sent file of type image/png\n"
        "[Jan 02, 2024 15:07:05] *** Ann called you.\n"
    )
    assert detect(raw.encode(), "Tea (_id7).txt").name == "signal"
    zone = dt.timezone(dt.timedelta(hours=1))
    chat, *rest = items_of(raw, name="Tea (_id7).txt", hints=Hints(zone=zone))
    assert chat == Chat(key="signal:tea", title="Tea")
    said, sent, typed, called = [item for item in rest if isinstance(item, Record)]
    assert (said.author, said.text, said.time_ms) == ("Ann", "hi\nmore", 1704207845000 - 3600_000)
    assert (sent.author, sent.files[0].name) == ("Ben", "a.jpg")
    assert typed.files[0].type == "image/png"
    assert sent.text == 'sent file "a.jpg"'
    tree = MemoryTree({"out/Tea (_id7).txt": b"", "out/a.jpg": b"1"})
    here = records_of(
        raw, name="Tea (_id7).txt", tree=tree, path="out/Tea (_id7).txt", hints=Hints(zone=zone)
    )
    assert (here[1].text, here[1].files[0].path, here[1].mid) == ("", "out/a.jpg", sent.mid)
    assert (called.kind, called.author, called.text) == (Kind.EVENT, "", "Ann called you.")


def test_byte_order_mark_and_line_ends_change_nothing():
    for text, name in (
        (line() + line("ho", at="2024-01-02T15:05:05+00:00"), "data.json"),
        (_MARKDOWN, "chat.md"),
    ):
        want = records_of(text, name=name)
        assert records_of("\ufeff".encode() + text.replace("\n", "\r\n").encode(), name=name) == want


def test_swedish_whatsapp_is_not_taken_for_signal():
    raw = b"[2024-01-02 15:04:05] Ann: hi\n[2024-01-02 15:04:06] Ben: ho\n"
    assert detect(raw, "_chat.txt").name == "whatsapp"


@given(
    st.sampled_from([line() * 3, _MARKDOWN, "[Jan 02, 2024 15:04:05] <Ann> hi\n"]),
    st.integers(0, 500),
    st.integers(0, 500),
    st.binary(max_size=30),
)
def test_any_damage_gives_records_or_a_documented_error(text: str, start: int, end: int, damage: bytes):
    data = text.encode()
    raw = data[:start] + damage + data[end:]
    SignalImporter().sniff(raw, "x")
    with contextlib.suppress(InvalidInput):
        records = records_of(raw)
        assert len({record.mid for record in records}) == len(records)
        for record in records:
            (record.text + record.author).encode()


@given(
    st.dictionaries(
        st.sampled_from(["date", "sender", "body", "quote", "sticker", "reactions", "attachments", "edits"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["name", "emoji", "path", "body"]), inner, max_size=3)
            ),
            max_leaves=6,
        ),
    )
)
def test_fields_of_any_type_are_no_traceback(fields: dict[str, object]):
    assert items_of(json.dumps(fields) + "\n")


@pytest.mark.parametrize("piece", ["[a](", "\n(- a", "![", "> ", "(- a: b -)"])
def test_hostile_markdown_costs_time_in_proportion(piece: str):
    text = "[2024-01-02 15:04:05] Ann: " + (piece * (900_000 // len(piece)))[:900_000] + "\n"
    assert records_of(text, name="chat.md")


# -- the corpus, counted without the importer ------------------------------------------------


@pytest.mark.corpus
def test_every_message_of_the_corpus_arrives(corpus: Path):
    raw = (corpus / "derived/signal/rust.1.data.json").read_bytes()
    records = records_of(raw, name="rust.1.data.json")
    quoted = len(re.findall(rb'"quote": "[^"]', raw))
    assert len(records) == raw.count(b'"sender":') == 1197
    assert (
        sum(len(record.to) for record in records) + sum(record.text.startswith("> ") for record in records)
        == quoted
    )
    raw = (corpus / "exports/signal/chatminer-signal-export.txt").read_bytes()
    assert detect(raw, "x.txt").name == "signal"
    assert len(records_of(raw)) == len(re.findall(rb"^\[\d", raw, re.MULTILINE)) == 2


@pytest.mark.parametrize(
    ("line", "text", "reactions"),
    [
        ("tea? (Ann: 👍; Ben B: ❤️)", "tea?", [("Ann", "👍"), ("Ben B", "❤️")]),
        ("tea (hot) (Ann: 1️⃣)", "tea (hot)", [("Ann", "1️⃣")]),
        ("tea (Ann: yes)", "tea (Ann: yes)", []),
        ("tea (note: 3)", "tea (note: 3)", []),
        ("(☕)", "(☕)", []),
    ],
)
def test_reactions_behind_a_text_of_signalbackup_tools_are_reactions(
    line: str, text: str, reactions: list[tuple[str, str]]
):
    found = records_of(f"[Jan 02, 2024 15:04:05] <Cat> {line}\n", name="Cat.txt")
    assert found[0].text == text
    assert [(one.author, one.text) for one in found[1:]] == reactions
    assert all(one.kind is Kind.REACTION and one.to == (found[0].mid,) for one in found[1:])
