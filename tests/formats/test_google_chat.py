"""Google Chat's Takeout: threads, quotations, versions, reactions, attachments, and damage."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import InvalidInput
from mlog.formats import TREE_IMPORTERS, Chat, Hints, Item, Provenance, Record, Skipped, Source, detect
from mlog.formats.google_chat import GoogleChatImporter, GoogleChatTreeImporter
from mlog.formats.identity import of_id
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId
from tests.formats.trees import MemoryTree

_ANN = {"name": "Ann", "email": "ann@example.org", "user_type": "Human"}


def message(own_id: str = "t/m", **fields: object) -> dict[str, object]:
    whole = {"creator": _ANN, "created_date": "Tuesday, January 2, 2024 at 3:04:05 PM UTC", "text": "hi"}
    return whole | {"topic_id": "t", "message_id": f"g/{own_id}"} | fields


def encoded(*messages: object) -> bytes:
    return json.dumps({"messages": messages}).encode()


def items_of(raw: bytes) -> list[Item]:
    return list(GoogleChatImporter().parse(Source(io.BytesIO(raw), "messages.json")))


def records_of(*messages: object) -> list[Record]:
    return [item for item in items_of(encoded(*messages)) if isinstance(item, Record)]


def mid(own_id: str) -> MessageId:
    return of_id("google-chat:g", f"g/{own_id}")


def tree_items(files: dict[str, bytes]) -> list[Item]:
    tree = MemoryTree(files)
    reader = GoogleChatTreeImporter()
    return list(reader.parse(tree, reader.claim(tree), Hints()))


def test_messages_have_author_address_time_and_thread():
    first, second = records_of(message("t/t"), message("t/m", text="ho"))
    assert first == Record(
        kind=Kind.MESSAGE,
        mid=mid("t/t"),
        author="Ann",
        text="hi",
        time_ms=1704207845000,
        position=1,
        uid="mailto:ann@example.org",
    )
    assert (second.to, second.position) == ((mid("t/t"),), 2)


def test_quotations_answer_by_id_or_stay_as_lines():
    quoted = {"message_id": "g/t/t", "text": "one"}
    by_id, by_words = records_of(
        message("a/a", quoted_message_metadata=quoted),
        message("b/b", quoted_message_metadata={"text": "one\ntwo"}),
    )
    assert (by_id.to, by_id.text) == ((mid("t/t"),), "hi")
    assert (by_words.to, by_words.text) == ((), "> one\n> two\nhi")


def test_versions_become_edits_of_the_oldest():
    records = records_of(
        message(
            updated_date="Tuesday, January 2, 2024 at 4:04:05 PM UTC",
            text="new",
            previous_message_versions=[
                {"created_date": "Tuesday, January 2, 2024 at 3:04:05 PM UTC", "text": "old"},
                {"updated_date": "Tuesday, January 2, 2024 at 3:05:05 PM UTC", "text": "middle"},
            ],
        )
    )
    assert [(one.kind, one.text) for one in records] == [
        (Kind.MESSAGE, "old"),
        (Kind.EDIT, "middle"),
        (Kind.EDIT, "new"),
    ]
    assert records[0].mid == mid("t/m")
    assert records[2].to == (mid("t/m"),)
    later = records_of(message(updated_date="Tuesday, January 2, 2024 at 4:04:05 PM UTC", text="new"))
    assert (later[1].kind, later[1].mid) == (Kind.EDIT, records[2].mid)


def test_reactions_have_addresses_and_deleted_messages_are_erased():
    reactions = [
        {"emoji": {"unicode": "☕"}, "reactor_emails": ["ben@example.org", "cat@example.org"]},
        {"emoji": {"custom_emoji": {"shortcode": ":tea:"}}, "reactor_emails": ["ben@example.org"]},
        {"emoji": {}},
    ]
    items = items_of(encoded(message(reactions=reactions), message("x/x", text="", message_state="DELETED")))
    told = [(one.text, one.uid) for one in items if isinstance(one, Record) and one.kind is Kind.REACTION]
    assert told == [
        ("☕", "mailto:ben@example.org"),
        ("☕", "mailto:cat@example.org"),
        (":tea:", "mailto:ben@example.org"),
    ]
    assert any(isinstance(item, Skipped) for item in items)
    assert isinstance(items[-1], Record)
    assert items[-1].erased


def test_message_without_text_shows_its_annotations_and_a_bad_date_is_reported():
    annotation = {"video_call_metadata": {"meeting_space": {"meeting_url": "https://example.org/x"}}}
    items = items_of(encoded(message(text=None, annotations=[annotation], created_date="once")))
    assert isinstance(items[1], Skipped)
    assert "'once' is not understood" in items[1].reason
    assert isinstance(items[2], Record)
    assert (items[2].text, items[2].time_ms) == ("[video call: https://example.org/x]", 0)


def test_tree_gives_chats_with_titles_names_and_attachments():
    files = {
        "Takeout/Google Chat/Groups/DM g/messages.json": encoded(
            message(
                attached_files=[
                    {"original_name": "a?b=1.jpg", "export_name": "File-a?b=1.jpg"},
                    {"original_name": "lost.jpg", "export_name": "File-lost.jpg"},
                ],
                reactions=[{"emoji": {"unicode": "☕"}, "reactor_emails": ["ben@example.org"]}],
            )
        ),
        "Takeout/Google Chat/Groups/DM g/group_info.json": json.dumps(
            {"members": [_ANN, {"name": "Ben", "email": "ben@example.org"}]}
        ).encode(),
        "Takeout/Google Chat/Groups/DM g/File-a_b_1.jpg": b"123",
        "Takeout/Google Chat/Groups/Space h/messages.json": encoded(message("x/x"), message("y/y"))[:-90],
        "Takeout/Google Chat/Groups/Space h/group_info.json": b'{"name": "Tea"}',
        "Takeout/Google Chat/Users/User 1/user_info.json": b"{}",
        "Discord/messages/c1/messages.json": b"[]",
    }
    (known,) = (known for known in TREE_IMPORTERS if known.name == "google-chat")
    claimed = known.claim(MemoryTree(files))
    assert sorted(claimed) == sorted(name for name in files if "Groups" in name and name.endswith(".json"))
    items = tree_items(files)
    chats = [item for item in items if isinstance(item, Chat)]
    assert chats == [
        Chat(key="google-chat:g", title="Ann, Ben"),
        Chat(key="google-chat:g", title="Tea"),
    ]
    assert sum(isinstance(item, Provenance) for item in items) == 2
    records = [item for item in items if isinstance(item, Record)]
    found, lost = records[0].files
    assert (found.name, found.path, found.size) == (
        "a?b=1.jpg",
        "Takeout/Google Chat/Groups/DM g/File-a_b_1.jpg",
        3,
    )
    assert (lost.name, lost.path) == ("lost.jpg", "")
    assert records[1].author == "Ben"
    assert isinstance(items[-1], Skipped)
    assert (items[-1].position, items[-1].file.endswith("Space h/messages.json")) == (2, True)


def test_order_of_fields_and_a_byte_order_mark_change_nothing():
    turned = {"messages": [dict(reversed(message().items()))]}
    raw = "\ufeff".encode() + json.dumps(turned, indent=2).replace("\n", "\r\n").encode()
    assert items_of(raw)[1:] == items_of(encoded(message()))[1:]
    assert detect(raw, "x").name == "google-chat"


@given(st.integers(0, 600), st.integers(0, 600), st.binary(max_size=9))
def test_any_damage_gives_records_or_a_documented_error(start: int, end: int, damage: bytes):
    whole = encoded(
        message("t/t", reactions=[{"emoji": {"unicode": "☕"}, "reactor_emails": ["b"]}]), message()
    )
    raw = whole[:start] + damage + whole[end:]
    GoogleChatImporter().sniff(raw, "x")
    with contextlib.suppress(InvalidInput):
        items_of(raw)
    assert all(
        isinstance(item, (Chat, Provenance, Record, Skipped))
        for item in tree_items({"DM g/messages.json": raw})
    )


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *(
                    "creator",
                    "created_date",
                    "text",
                    "message_id",
                    "reactions",
                    "attached_files",
                    "annotations",
                ),
                *("quoted_message_metadata", "previous_message_versions", "updated_date", "message_state"),
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["name", "emoji", "unicode", "text", "reactor_emails"]), inner, max_size=3
                )
            ),
            max_leaves=6,
        ),
    )
)
def test_fields_of_any_type_are_no_traceback(fields: dict[str, object]):
    assert items_of(encoded(fields, fields))


@pytest.mark.corpus
def test_every_message_of_the_corpus_arrives(corpus: Path):
    folder = corpus / "exports/google-chat"
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.json")}
    raws = [raw for name, raw in files.items() if name.endswith("/messages.json")]
    counted = sum(raw.count(b'"message_id":') for raw in raws)
    assert all(detect(raw[:65536], "messages.json").name == "google-chat" for raw in raws)
    items = tree_items(files)
    records = [item for item in items if isinstance(item, Record)]
    assert len(records) == len({record.mid for record in records}) == counted == 67
    assert sum(len(record.files) for record in records) == sum(raw.count(b'"export_name":') for raw in raws)
    assert sum(isinstance(item, Chat) for item in items) == len(raws) == 4
    assert all(record.time_ms > 1_300_000_000_000 and record.uid for record in records)
    assert not any(isinstance(item, Skipped) for item in items)


@pytest.mark.corpus
def test_cuts_of_a_real_file_end_in_a_report(corpus: Path):
    raw = (corpus / "exports/google-chat/Space_AAAAdvGdRgs/messages.json").read_bytes()
    for end in range(0, len(raw) - 3, 13):
        items = tree_items({"Space h/messages.json": raw[:end]})
        assert isinstance(items[-1], Skipped)
