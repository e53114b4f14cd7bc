"""Telegram exports: what messages become, in any order of fields, and what hostile ones do."""

from __future__ import annotations

import io
import json
from datetime import timedelta, timezone
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import InvalidInput, LimitExceeded
from mlog.formats import (
    Chat,
    ExportRecord,
    File,
    Hints,
    Item,
    Record,
    Skipped,
    Source,
    detect,
    exporter,
    importer,
)
from mlog.formats.identity import of_id
from mlog.limits import JSON_VALUE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

from .hostile import survives, values


def read(data: bytes) -> list[Item]:
    return list(importer("telegram").parse(Source(io.BytesIO(data), "result.json")))


def records_of(messages: list[object], **head: object) -> list[Record]:
    chat = {"name": "Tea", "type": "private_group", "id": 7, **head, "messages": messages}
    return [item for item in read(json.dumps(chat).encode()) if isinstance(item, Record)]


def message(own_id: int, **fields: object) -> dict[str, object]:
    whole = {"id": own_id, "type": "message", "date_unixtime": "1577959445", "from": "ann", "text": "hi"}
    return whole | fields


def mid(own_id: int) -> MessageId:
    return of_id("telegram:private_group:7", str(own_id))


def test_messages_have_author_time_text_and_replies():
    first, second = records_of([message(1), message(2, reply_to_message_id=1, **{"from": "ben"})])
    assert first == Record(
        kind=Kind.MESSAGE, mid=mid(1), author="ann", text="hi", time_ms=1577959445000, position=1
    )
    assert (second.author, second.to, second.position) == ("ben", (mid(1),), 2)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": ["a ", {"type": "bold", "text": "b"}, " c"]}, "a b c"),
        ({"text": [{"text": "here", "href": "https://example.org"}]}, "here (https://example.org)"),
        ({"photo": "photos/p@1.jpg", "text": "look"}, "[photo: p@1.jpg]\nlook"),
        ({"photo": "(File not included.)", "text": ""}, "[photo]"),
        (
            {
                "text": None,
                "text_entities": [{"type": "bold", "text": "as"}, {"type": "plain", "text": " entities"}],
            },
            "as entities",
        ),
        ({"file": "files/a.pdf", "media_type": "voice_message", "text": ""}, "[voice message: a.pdf]"),
        (
            {"file": "s.webp", "media_type": "sticker", "sticker_emoji": "☕", "text": ""},
            "[sticker: ☕ s.webp]",
        ),
        ({"forwarded_from": "ben"}, "[forwarded from ben]\nhi"),
        ({"forwarded_from": None}, "[forwarded from somebody]\nhi"),
        (
            {"poll": {"question": "tea?", "answers": [{"text": "yes", "voters": 2}]}, "text": ""},
            "[poll: tea?]\n- yes (2)",
        ),
        ({"location_information": {"latitude": 1.5}, "text": ""}, "[location: latitude 1.5]"),
        ({"text": None}, ""),
        ({"text": "\0\ud83d\ude00"}, "\ufffd😀"),
    ],
)
def test_text_shows_what_hangs_on_a_message(fields: dict[str, object], text: str):
    assert [record.text for record in records_of([message(1, **fields)])] == [text]


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        (
            {"action": "invite_members", "members": ["ben", "cat"]},
            Kind.JOIN,
            "ann invite members members ben, cat",
        ),
        ({"action": "join_group_by_link", "inviter": "ben"}, Kind.JOIN, "ann join group by link inviter ben"),
        ({"action": "remove_members", "members": ["ben"]}, Kind.PART, "ann remove members members ben"),
        ({"action": "edit_group_title", "title": "Tea"}, Kind.EVENT, "ann edit group title title Tea"),
        ({"action": "phone_call", "duration_seconds": 5}, Kind.EVENT, "ann phone call duration seconds 5"),
        ({"action": "custom_action", "information_text": "ann came"}, Kind.EVENT, "ann came"),
    ],
)
def test_service_messages_are_kinds_of_their_own(fields: dict[str, object], kind: Kind, text: str):
    whole = {
        "id": 1,
        "type": "service",
        "date_unixtime": "5",
        "actor": "ann",
        "actor_id": "user1",
        "text": "",
    }
    [record] = records_of([whole | fields])
    assert (record.kind, record.author, record.text, record.time_ms) == (kind, "ann", text, 5000)


class Folder:
    """A tree in memory."""

    name = "export"

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.names = sorted(files)

    def size(self, name: str) -> int:
        return len(self.files[name])

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.files[name])


def test_files_are_found_beside_the_json_and_named_where_they_are_left_out():
    tree = Folder(**{"a/photos/p.jpg": b"p", "a/result.json": b"", "photos/p.jpg": b"wrong"})
    messages = [
        message(1, photo="photos/p.jpg", photo_file_size=1),
        message(2, file="(File not included.)", file_name="v.mp4", mime_type="video/mp4", thumbnail="(no)"),
        message(3, file="files/../../secret", file_name="s"),
    ]
    data = json.dumps({"name": "t", "type": "x", "id": 1, "messages": messages}).encode()
    source = Source(io.BytesIO(data), "result.json", tree=tree, path="a/result.json")
    files = [item.files for item in importer("telegram").parse(source) if isinstance(item, Record)]
    assert files == [
        (File(name="p.jpg", path="a/photos/p.jpg", size=1),),
        (File(name="v.mp4", type="video/mp4"),),
        (File(name="s"),),
    ]


def test_a_file_is_named_in_the_text_only_where_it_is_not_there():
    tree = Folder(
        **{"photos/p.jpg": b"p", "stickers/s.webp": b"s", "files/a.pdf": b"a", "thumbs/v.jpg": b"t"}
    )
    messages = [
        message(1, photo="photos/p.jpg", text="look"),
        message(2, file="files/a.pdf", file_name="a.pdf", text=""),
        message(3, file="stickers/s.webp", media_type="sticker", sticker_emoji="☕", text=""),
        message(4, file="(File not included.)", file_name="v.mp4", thumbnail="thumbs/v.jpg", text=""),
        {"type": "message", "from": "ann", "photo": "photos/p.jpg", "text": "no id"},
    ]
    data = json.dumps({"name": "t", "type": "x", "id": 1, "messages": messages}).encode()
    source = Source(io.BytesIO(data), "result.json", tree=tree, path="result.json")
    here = [item for item in importer("telegram").parse(source) if isinstance(item, Record)]
    assert [record.text for record in here] == ["look", "", "[sticker: ☕]", "[file: v.mp4]", "no id"]
    alone = [
        item
        for item in importer("telegram").parse(Source(io.BytesIO(data), "result.json"))
        if isinstance(item, Record)
    ]
    assert alone[0].text == "[photo: p.jpg]\nlook"
    assert [record.mid for record in alone] == [record.mid for record in here]


def test_people_are_known_by_their_id_and_times_without_zone_by_the_hint():
    data = json.dumps(
        {
            "name": "t",
            "type": "x",
            "id": 1,
            "messages": [{"id": 1, "type": "message", "date": "2020-01-02T03:00:00", "from_id": "user4"}],
        }
    ).encode()
    hints = Hints(zone=timezone(timedelta(hours=1)))
    source = Source(io.BytesIO(data), "result.json", hints=hints)
    [record] = [item for item in importer("telegram").parse(source) if isinstance(item, Record)]
    assert (record.author, record.uid, record.time_ms) == ("user4", "telegram:user4", 1577930400000)


def test_reply_to_another_chat_says_so_and_one_to_this_chat_is_a_reply():
    away, here = records_of(
        [
            message(2, reply_to_message_id=5, reply_to_peer_id="channel9"),
            message(3, reply_to_message_id=2, reply_to_peer_id="channel7"),
        ]
    )
    assert (away.to, away.text) == ((), "[in reply to message 5 of channel9]\nhi")
    assert here.to == (mid(2),)


def test_fields_of_a_later_version_are_shown():
    [record] = records_of([message(1, effect="confetti", via_bot="@x")])
    assert record.text == "[effect: confetti]\nhi"


def test_pin_refers_to_its_message():
    pin = {"id": 2, "type": "service", "actor": "ann", "action": "pin_message", "message_id": 1, "text": ""}
    assert records_of([message(1), pin])[1].to == (mid(1),)


def test_edited_message_in_a_later_export_brings_its_new_text():
    [before] = records_of([message(1)])
    after, edit = records_of([message(1, text="ho", edited_unixtime="1577959500")])
    assert after.mid == before.mid
    assert (edit.kind, edit.to, edit.text, edit.time_ms) == (Kind.EDIT, (before.mid,), "ho", 1577959500000)


def test_reactions_come_with_names_or_are_reported():
    reactions = [
        {"type": "emoji", "count": 3, "emoji": "👍", "recent": [{"from": "ben", "from_id": "user2"}]},
        {"type": "custom_emoji", "count": 1, "document_id": "x.webp"},
    ]
    items = read(
        json.dumps(
            {"name": "t", "type": "x", "id": 1, "messages": [message(1, reactions=reactions)]}
        ).encode()
    )
    _, said, reaction, *skipped = items
    assert isinstance(said, Record)
    assert isinstance(reaction, Record)
    assert (reaction.kind, reaction.author, reaction.text, reaction.to) == (
        Kind.REACTION,
        "ben",
        "👍",
        (said.mid,),
    )
    assert [type(item) for item in skipped] == [Skipped, Skipped]


@pytest.mark.parametrize(
    ("fields", "time_ms"),
    [
        ({"date_unixtime": 7}, 7000),
        ({"date_unixtime": "x", "date": "2020-01-02T03:04:05"}, 1577934245000),
        ({"date_unixtime": "-7"}, 0),
        ({"date_unixtime": "9" * 5000}, 0),
        ({"date_unixtime": None, "date": "0001-01-01T00:00:00"}, 0),
        ({"date_unixtime": None, "date": 5}, 0),
    ],
)
def test_senseless_dates_are_zero(fields: dict[str, object], time_ms: int):
    assert [record.time_ms for record in records_of([message(1, **fields)])] == [time_ms]


def test_whole_account_gives_each_chat_with_messages_and_reports_the_rest():
    account = {
        "about": "text",
        "personal_information": {"first_name": "ann"},
        "contacts": {"list": [{"first_name": "ben"}]},
        "chats": {
            "about": "text",
            "list": [
                {"name": "Tea", "type": "private_group", "id": 7, "messages": [message(1)]},
                {"name": None, "type": "personal_chat", "id": 8, "messages": [message(1)]},
                {"type": "saved_messages", "id": 9, "messages": [message(1)]},
                {"name": "Empty", "type": "personal_chat", "id": 10, "messages": []},
            ],
        },
        "left_chats": {
            "list": [{"name": "Old", "type": "private_group", "id": 11, "messages": [message(1)]}]
        },
    }
    data = json.dumps(account).encode()
    assert detect(data, "x").name == "telegram"
    items = read(data)
    assert [(item.key, item.title) for item in items if isinstance(item, Chat)] == [
        ("telegram:private_group:7", "Tea"),
        ("telegram:personal_chat:8", "Telegram chat 8"),
        ("telegram:saved_messages:9", "Saved messages"),
        ("telegram:private_group:11", "Old"),
    ]
    assert len({item.mid for item in items if isinstance(item, Record)}) == 4
    assert sum(isinstance(item, Skipped) for item in items) == 2


def test_field_order_mark_and_encoding_change_nothing():
    head = {"name": "Tea", "type": "private_group", "id": 7}
    messages = {"messages": [message(1), message(2, reply_to_message_id=1)]}
    expected = read(json.dumps(head | messages).encode())
    assert len(expected) == 3
    assert read(json.dumps(messages | head).encode("utf-8-sig")) == expected
    assert read(json.dumps(messages | head).encode("utf-16")) == expected


def test_messages_without_ids_are_told_apart_by_what_they_say():
    bare = {"type": "message", "date_unixtime": "5", "from": "ann", "text": "hi"}
    one, two, three = records_of([bare, bare, bare | {"text": "ho"}])
    assert len({one.mid, two.mid, three.mid}) == 3
    assert [record.mid for record in records_of([bare, bare])] == [one.mid, two.mid]


@pytest.mark.parametrize("order", ["head first", "messages first"])
def test_truncated_export_gives_what_came_before_the_break(order: str):
    head = {"name": "Tea", "type": "private_group", "id": 7}
    messages = {"messages": [message(n) for n in range(5)]}
    data = json.dumps(head | messages if order == "head first" else messages | head).encode()
    cut = data[: data.index(b'"id": 3')]
    got: list[Item] = []
    with pytest.raises(InvalidInput, match=r"^result\.json:\d+: "):
        got.extend(importer("telegram").parse(Source(io.BytesIO(cut), "result.json")))
    assert [item.position for item in got if isinstance(item, Record)] == [1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"7",
        b"{",
        b'{"messages":[NaN]}',
        b'{"messages":[' + b"9" * 1_000_000 + b"]}",
        b'{"messages":[' + b"[" * 200_000,
        b'{"messages":[' + b'{"a":' * 200_000,
        b'{"x":' + b"[" * 200_000,
        b'{"messages":["\xff"]}',
        b'{"messages":[1e999999]}',
        b'{"messages":[]} {}',
    ],
)
def test_hostile_json_is_invalid_input_with_a_position(data: bytes):
    with pytest.raises(InvalidInput, match=r"^result\.json:\d+: "):
        read(data)


def test_endless_message_is_refused():
    data = b'{"messages":[{"text":"' + b"x" * (JSON_VALUE_SIZE_MAX_BYTES + 100_000)
    with pytest.raises(LimitExceeded, match="bytes in one value"):
        read(data)


def test_things_that_are_no_messages_are_skipped():
    items = read(
        b'{"name":"t","type":"x","id":1,"messages":[1,"x",null,[],{"id":1,"id":2,"text":"a","text":"b"}]}'
    )
    assert [type(item) for item in items] == [Chat, Skipped, Skipped, Skipped, Skipped, Record]
    assert isinstance(items[-1], Record)
    assert items[-1].text == "b"


_FIELDS = (
    "id name type messages chats list text from actor action date date_unixtime edited reactions recent "
    "emoji count poll photo file media_type members reply_to_message_id reply_to_peer_id message_id "
    "forwarded_from"
)


@given(
    st.lists(st.dictionaries(st.sampled_from(_FIELDS.split()), values(_FIELDS), max_size=8), max_size=4),
    st.integers(0, 400),
    st.binary(max_size=3),
)
def test_any_json_gives_items_or_a_documented_error(messages: list[object], at: int, damage: bytes):
    data = json.dumps({"id": 1, "name": "t", "type": "x", "messages": messages}).encode()
    survives("telegram", read, data, at, damage, "result.json")


@pytest.mark.corpus
@pytest.mark.parametrize(
    "name",
    [
        "exports/telegram/chatminer-batch.json",
        "exports/telegram/langchain-single-result.json",
        "derived/telegram/rust.0.result.json",
    ],
)
def test_every_message_and_reply_of_the_corpus_arrives(corpus: Path, name: str):
    raw = (corpus / name).read_bytes()
    assert detect(raw[:65536], name).name == "telegram"
    records = [item for item in read(raw) if isinstance(item, Record)]
    assert len(records) == raw.count(b'"type": "message"') > 0
    assert sum(len(record.to) for record in records) == raw.count(b'"reply_to_message_id"')
    assert len({record.mid for record in records}) == len(records)


# -- export ----------------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
_said = st.builds(
    Record,
    kind=st.sampled_from([Kind.MESSAGE, Kind.EVENT, Kind.JOIN]),
    mid=st.binary(min_size=16, max_size=16).map(MessageId),
    author=_texts,
    text=_texts,
    time_ms=st.integers(0, 253_402_300_799).map(lambda seconds: seconds * 1000),
    position=st.just(0),
)


@given(st.lists(_said, max_size=8, unique_by=lambda record: record.mid), st.randoms())
def test_export_is_json_that_our_importer_reads_back(records: list[Record], random):
    linked = [
        Record(
            **{f: getattr(r, f) for f in r.__struct_fields__ if f != "to"},
            to=(random.choice(records[: n + 1]).mid,),
        )
        for n, r in enumerate(records)
    ]
    written = b"".join(exporter("telegram").export(Chat(key="irc:#x", title="Tea"), map(_exported, linked)))
    document = json.loads(written)
    assert [one["id"] for one in document["messages"]] == list(range(1, len(linked) + 1))
    assert document["name"] == "Tea"
    back = [item for item in read(written) if isinstance(item, Record)]
    position = {record.mid: n for n, record in enumerate(linked)}
    position_back = {record.mid: n for n, record in enumerate(back)}
    for record, again in zip(linked, back, strict=True):
        assert (again.text, again.time_ms) == (record.text or again.text, record.time_ms)
        if record.kind is Kind.MESSAGE:
            assert [position_back[to] for to in again.to] == [position[to] for to in record.to]
            assert again.author == record.author or not record.author
        else:
            assert again.kind is Kind.EVENT


def _exported(record: Record) -> ExportRecord:
    return ExportRecord(record=record)


def test_export_writes_current_texts_and_marks_what_was_erased():
    said = Record(kind=Kind.MESSAGE, mid=mid(1), author="ann", text="old", time_ms=2**53 - 1, position=1)
    edit = Record(kind=Kind.EDIT, mid=mid(2), author="ann", text="new", time_ms=0, position=2, to=(mid(1),))
    erased = Record(kind=Kind.ACTION, mid=mid(3), author="ann", text="", time_ms=0, position=3, erased=True)
    records = [
        ExportRecord(record=said, current="new"),
        ExportRecord(record=edit),
        ExportRecord(record=erased),
    ]
    document = json.loads(
        b"".join(exporter("telegram").export(Chat(key="telegram:private_group:7", title=""), records))
    )
    assert (document["type"], document["id"]) == ("private_group", 7)
    assert [one["text"] for one in document["messages"]] == ["new", "* ann [erased]"]


def test_export_names_files_as_telegram_does_and_is_read_back():
    here = File(name="a.jpg", path="files/1-a.jpg", type="image/jpeg", size=3)
    said = Record(
        kind=Kind.MESSAGE,
        mid=mid(1),
        author="ann",
        text="look",
        time_ms=0,
        position=1,
        files=(here, File(name="b.pdf")),
    )
    absent = msgspec.structs.replace(said, mid=mid(2), text="", files=(File(name="c.pdf"),))
    erased = msgspec.structs.replace(said, mid=mid(3), text="", erased=True)
    written = b"".join(
        exporter("telegram").export(Chat(key="k", title="t"), map(_exported, [said, absent, erased]))
    )
    one, two, three = json.loads(written)["messages"]
    assert (one["file"], one["file_name"], one["mime_type"], one["file_size"], one["text"]) == (
        "files/1-a.jpg",
        "a.jpg",
        "image/jpeg",
        3,
        "[file: b.pdf]\nlook",
    )
    assert (two["file"][0], two["file_name"], two["text"]) == ("(", "c.pdf", "")
    assert "file" not in three
    source = Source(io.BytesIO(written), "result.json", tree=Folder(**{"files/1-a.jpg": b"abc"}))
    back = [item for item in importer("telegram").parse(source) if isinstance(item, Record)]
    assert [[(file.name, file.path) for file in record.files] for record in back] == [
        [("a.jpg", "files/1-a.jpg")],
        [("c.pdf", "")],
        [],
    ]
    assert [record.text for record in back] == ["[file: b.pdf]\nlook", "[file: c.pdf]", "[erased]"]
