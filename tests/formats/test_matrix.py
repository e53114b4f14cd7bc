"""Matrix exports of Element and of a Synapse server: rooms, files beside them, damage."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import InvalidInput
from mlog.formats import Chat, Hints, Item, Provenance, Record, Skipped, Source, detect, importer
from mlog.formats.detection import claims
from mlog.formats.identity import of_id
from mlog.formats.matrix_ids import event_id

from .hostile import survives, values
from .trees import MemoryTree

ROOM = "!tea:example.org"
ANN = "@ann:example.org"
AT = 1_637_168_312_000  # 2021-11-17 16:58:32 UTC
HEAD = {
    "room_name": "Tea",
    "room_creator": "Ann",
    "topic": "",
    "export_date": "17/11/2022",
    "exported_by": "Ann",
}


def said(own_id: str, body: str = "hi", **fields: Any) -> dict[str, Any]:
    content = {"msgtype": "m.text", "body": body} | fields.pop("content", {})
    event = {"type": "m.room.message", "room_id": ROOM, "sender": ANN, "event_id": own_id}
    return event | {"origin_server_ts": AT, "content": content} | fields


def pdu(body: str, depth: int, kind: str = "m.room.message", **fields: Any) -> dict[str, Any]:
    """An event as servers hand it to each other: without an id."""
    event = said("", body, type=kind, depth=depth, hashes={}, auth_events=[], prev_events=[]) | fields
    return {name: value for name, value in event.items() if name != "event_id"}


def element(*events: Any) -> bytes:
    return json.dumps(HEAD | {"messages": events}, indent=2).encode()


def read(data: bytes, tree: MemoryTree | None = None, path: str = "x/export.json") -> list[Item]:
    return list(importer("matrix").parse(Source(io.BytesIO(data), "m.json", tree=tree, path=path)))


def test_room_is_known_by_its_id_and_called_by_its_name():
    chat, message = read(element(said("$1")))
    assert chat == Chat(key=f"matrix:{ROOM}", title="Tea")
    assert isinstance(message, Record)
    assert (message.mid, message.text, message.time_ms) == (of_id(f"matrix:{ROOM}", "$1"), "hi", AT)


def test_field_order_mark_and_line_ends_change_nothing():
    expected = read(element(said("$1"), said("$2")))
    turned = json.dumps({"messages": [said("$1"), said("$2")]} | HEAD, indent=1).replace("\n", "\r\n")
    data = turned.encode("utf-8-sig")
    assert detect(data, "x").name == "matrix"
    assert read(data) == expected
    assert read(
        json.dumps({"messages": [dict(reversed(said("$1").items())), said("$2")]} | HEAD).encode()
    ) == (expected)


def test_a_room_without_messages_is_a_room():
    assert read(element()) == [Chat(key="matrix:Tea", title="Tea")]


def test_a_cut_file_gives_what_came_before_and_then_its_place():
    got: list[Item] = []
    cut = element(said("$1"), said("$2"))[:-40]
    with pytest.raises(InvalidInput, match=r"^m\.json:\d+: "):
        got.extend(importer("matrix").parse(Source(io.BytesIO(cut), "m.json")))
    assert sum(isinstance(item, Record) for item in got) == 1


@pytest.mark.parametrize(
    "name",
    [
        "images/tea-11-17-2021 at 4-58-32 PM.jpg",
        "images/tea-17-11-2021 um 17-58-32.jpg",
        "images/tea-17.11.2021 klo 18.58.32.jpg",
        "images/tea-2021-11-18 at 02-28-32.jpg",
        "images/tea-١٧-١١-٢٠٢١ في ٤-٥٨-٣٢ م.jpg",
    ],
)
def test_files_are_found_by_name_and_clock_in_any_language_and_zone(name: str):
    tree = MemoryTree(
        {f"x/{name}": b"", "x/images/tea-11-17-2021 at 4-58-33 PM.jpg": b"", "x/export.json": b""}
    )
    event = said("$1", "tea.jpg", content={"msgtype": "m.image"})
    record = read(element(event), tree)[1]
    assert isinstance(record, Record)
    assert [file.path for file in record.files] == [f"x/{name}"]


def test_of_two_files_of_one_clock_that_of_the_day_is_taken_and_of_two_that_fit_none():
    event = said("$1", "tea.jpg", content={"msgtype": "m.image"})
    right, other = "x/images/tea-11-17-2021 at 4-58-32 PM.jpg", "x/images/tea-11-20-2021 at 4-58-32 PM.jpg"
    near = "x/images/tea-11-17-2021 at 5-58-32 PM.jpg"
    paths = [
        [
            file.path
            for item in read(element(event), MemoryTree(dict.fromkeys(names, b"")))
            for file in (item.files if isinstance(item, Record) else ())
        ]
        for names in ([right, other], [right, near], [other[:-4] + ".png"])
    ]
    assert paths == [[right], [""], [""]]


def test_a_time_that_no_calendar_has_finds_no_file():
    late = 2**53 - 1
    minute, second = divmod(late // 1000, 60)
    names = [f"x/images/tea-{day}-1-2021 at 4-{minute % 15}-{second}.jpg" for day in (1, 2)]
    event = said("$1", "tea.jpg", content={"msgtype": "m.image"}, origin_server_ts=late)
    record = read(element(event), MemoryTree(dict.fromkeys(names, b"")))[1]
    assert isinstance(record, Record)
    assert [file.path for file in record.files] == [""]


def test_stickers_and_voice_have_endings_of_their_own():
    tree = MemoryTree(
        dict.fromkeys(
            (
                "x/audio/Voice message-11-17-2021 at 4-58-32 PM.ogg",
                "x/stickers/a cup-11-17-2021 at 4-58-32 PM.png",
            ),
            b"",
        )
    )
    voice = said("$1", "Voice message.ogg", content={"msgtype": "m.audio", "org.matrix.msc3245.voice": {}})
    sticker = said("$2", "a cup", type="m.sticker")
    paths = [
        file.path
        for item in read(element(voice, sticker), tree)
        if isinstance(item, Record)
        for file in item.files
    ]
    assert paths == list(tree.names)


def test_a_server_s_export_has_rooms_with_names_from_their_state_and_ids_that_meet_element_s():
    create = pdu("", 1, "m.room.create", content={"room_version": "10"}, state_key="")
    named = pdu("", 2, "m.room.name", content={"name": "Tea"}, state_key="")
    ben = pdu(
        "",
        3,
        "m.room.member",
        content={"membership": "join", "displayname": "Ben"},
        state_key="@ben:example.org",
    )
    first, second = pdu("one", 4, sender="@ben:example.org"), pdu("two", 5)
    together = b"".join(json.dumps(event).encode() for event in (first, second))
    tree = MemoryTree(
        {
            f"rooms/{ROOM}/events": together,
            f"rooms/{ROOM}/state/$x": b"".join(json.dumps(event).encode() for event in (create, named, ben)),
            "user_data/profile": b'{"displayname": "Ann"}',
        }
    )
    (found,) = claims(tree)
    assert (found.importer.name, list(found.names)) == (
        "matrix-export",
        [f"rooms/{ROOM}/events", f"rooms/{ROOM}/state/$x"],
    )
    chat, origin, one, two = found.importer.parse(tree, found.names, Hints())
    assert chat == Chat(key=f"matrix:{ROOM}", title="Tea")
    assert isinstance(origin, Provenance)
    assert isinstance(one, Record)
    assert isinstance(two, Record)
    assert (one.author, one.text, two.text) == ("Ben", "one", "two")
    assert one.mid == of_id(f"matrix:{ROOM}", event_id(first, "10"))
    same = read(element(said(event_id(first, "10"), "one")))[1]
    assert isinstance(same, Record)
    assert same.mid == one.mid


def test_events_of_a_room_are_read_by_themselves_too():
    data = b"\n".join(json.dumps(pdu(body, depth)).encode() for depth, body in enumerate(("one", "two")))
    assert detect(data, "events").name == "matrix"
    chat, *records = read(data)
    assert chat == Chat(key=f"matrix:{ROOM}", title=f"Matrix room {ROOM}")
    assert [record.text for record in records if isinstance(record, Record)] == ["one", "two"]


def test_a_broken_room_of_a_server_s_export_does_not_keep_the_next_one_out():
    good = json.dumps(pdu("hi", 1)).encode()
    tree = MemoryTree(
        {"rooms/!a:b/events": good + b'{"origin', "rooms/!c:d/events": good, "rooms/!c:d/state/$1": b"{"}
    )
    (found,) = claims(tree)
    items = list(found.importer.parse(tree, found.names, Hints()))
    assert sum(isinstance(item, Record) for item in items) == 2
    assert {item.file for item in items if isinstance(item, Skipped)} == {
        "rooms/!a:b/events",
        "rooms/!c:d/state/$1",
    }


_json = values(
    "type sender content event_id origin_server_ts unsigned state_key msgtype body m.relates_to "
    "m.in_reply_to rel_type m.relations key m.new_content m.replace m.annotation chunk count membership "
    "info prev_content displayname m.poll question answers size filename",
    *("m.room.message", "m.room.member", "m.reaction", "m.room.encrypted", "m.sticker", "m.replace"),
    *("join", "leave", "m.image", "$1", ANN, "> <a> b\n\nc", "m.poll.start", "tea.jpg"),
)


@given(st.lists(_json, max_size=3), st.integers(0, 500), st.binary(max_size=3))
def test_any_json_gives_items_or_a_documented_error(rows: list[Any], at: int, damage: bytes):
    tree = MemoryTree({"x/images/tea-11-17-2021 at 4-58-32 PM.jpg": b""})
    events = b"".join(
        json.dumps({"origin_server_ts": AT, "content": row, "sender": "a"}).encode() for row in (0, *rows)
    )
    for data in (element(*rows), events):
        survives("matrix", lambda one: read(one, tree), data, at, damage, "m.json")
