"""mlog's JSON lines: nothing is lost, and whatever is not of the schema is refused by line."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlog.errors import InvalidInput
from mlog.formats import Chat, ExportRecord, Item, Provenance, Record, Source, detect, exporter, importer
from mlog.limits import REFERENCES_MAX, SEQ_MAX
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

MID = MessageId(bytes(range(16)))


def read(data: bytes) -> list[Item]:
    return list(importer("mlog").parse(Source(io.BytesIO(data), "x.jsonl")))


def write(chat: Chat, records: list[ExportRecord]) -> bytes:
    return b"".join(exporter("jsonl").export(chat, records))


def write_again(items: list[Item]) -> bytes:
    """What a home would export that imported these items and nothing else."""
    written = b""
    chat: Chat | None = None
    source: Provenance | None = None
    records: list[ExportRecord] = []
    for item in items:
        if isinstance(item, Chat):
            if chat is not None:
                written += write(chat, records)
            chat, records, source = item, [], None
        elif isinstance(item, Provenance):
            source = item
        elif isinstance(item, Record):
            records.append(ExportRecord(record=item, source=source))
    return written if chat is None else written + write(chat, records)


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_mids = st.binary(min_size=16, max_size=16).map(MessageId)
_sources = st.builds(
    Provenance,
    format=st.sampled_from(["irc", "mbox"]),
    file_hash=st.sampled_from(["", "ab" * 32]),
    name=_texts,
)
_said = st.builds(
    Record,
    kind=st.sampled_from([Kind.MESSAGE, Kind.ACTION, Kind.NOTICE, Kind.JOIN, Kind.RENAME, Kind.EVENT]),
    mid=_mids,
    author=_texts,
    text=_texts,
    time_ms=st.integers(0, SEQ_MAX),
    position=st.integers(0, SEQ_MAX),
    to=st.lists(_mids, max_size=3).map(tuple),
    erased=st.booleans(),
)
_changes = st.builds(
    Record,
    kind=st.sampled_from([Kind.EDIT, Kind.REACTION, Kind.ERASURE]),
    mid=_mids,
    author=_texts,
    text=st.just("+1"),
    time_ms=st.just(5),
    position=st.just(0),
    to=st.tuples(_mids),
    removed=st.booleans(),
)
_records = st.builds(ExportRecord, record=st.one_of(_said, _changes), source=st.none() | _sources)
_chats = st.builds(Chat, key=_texts, title=_texts, titled=st.just(True))


@given(st.lists(st.tuples(_chats, st.lists(_records, max_size=6)), min_size=1, max_size=3))
def test_export_import_export_is_byte_identical(conversations: list[tuple[Chat, list[ExportRecord]]]):
    written = b"".join(write(chat, records) for chat, records in conversations)
    items = read(written)
    assert [item for item in items if isinstance(item, Chat)] == [chat for chat, _ in conversations]
    expected = [exported.record for _, records in conversations for exported in records]
    assert [item for item in items if isinstance(item, Record)] == expected
    assert write_again(items) == written


def test_written_lines_are_the_documented_ones():
    record = Record(
        kind=Kind.MESSAGE, mid=MID, author="änn", text="hi\n", time_ms=1577959445000, position=3, to=(MID,)
    )
    exported = ExportRecord(record=record, source=Provenance(format="irc", name="x.log"), current="changed")
    assert write(Chat(key="irc:#x", title="#x"), [exported]).decode().splitlines() == [
        '{"kind":"conversation","format":"mlog","format_version":1,"key":"irc:#x","title":"#x"}',
        (
            f'{{"kind":"message","id":"{MID.hex()}","author":"änn","time_ms":1577959445000,"text":"hi\\n",'
            f'"to":["{MID.hex()}"],"source":{{"format":"irc","name":"x.log"}},"position":3}}'
        ),
    ]


def test_reply_is_written_as_a_message_with_its_references():
    reply = Record(kind=Kind.REPLY, mid=MID, author="", text="", time_ms=0, position=0, to=(MID,))
    records = [
        item
        for item in read(write(Chat(key="", title=""), [ExportRecord(record=reply)]))
        if isinstance(item, Record)
    ]
    assert [(record.kind, record.to) for record in records] == [(Kind.MESSAGE, (MID,))]


_HEAD = b'{"kind":"conversation","format":"mlog","format_version":1,"key":"k","title":"t"}\n'


def test_field_order_unknown_fields_crlf_and_mark_change_nothing():
    line = b'{"kind":"message","id":"%s","author":"a","text":"t"}\n' % MID.hex().encode()
    other = (
        b'\xef\xbb\xbf{"title":"t","new":[{}],"key":"k","format_version":1,"format":"mlog","kind":"conversation"}\r\n'
        b'\r\n{"text":"t","x":1.5e300,"author":"a","id":"%s","kind":"message"}\r\n' % MID.hex().encode()
    )
    assert read(other) == read(_HEAD + line)
    assert detect(other, "x").name == "mlog"


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[1]",
        b"nonsense",
        b'{"kind":"message"}',
        b'{"kind":"message","id":"00"}',
        b'{"kind":"strange","id":"%s"}',
        b'{"kind":"edit","id":"%s"}',
        b'{"kind":"reaction","id":"%s","to":["%s"],"text":""}',
        b'{"kind":"reaction","id":"%s","to":["%s"],"text":"' + b"x" * 65 + b'"}',
        b'{"kind":"title","id":"%s","text":"' + b"x" * 1025 + b'"}',
        b'{"kind":"message","id":"%s","time_ms":-1}',
        b'{"kind":"message","id":"%s","time_ms":NaN}',
        b'{"kind":"message","id":"%s","time_ms":' + b"9" * 1_000_000 + b"}",
        b'{"kind":"message","id":"%s","time_ms":9007199254740992}',
        b'{"kind":"message","id":"%s","text":"\xff"}',
        b'{"kind":"message","id":"%s","text":5}',
        b'{"kind":"message","id":"%s","x":' + b"[" * 100_000,
        b'{"kind":"message","id":"%s","to":[' + b",".join([b'"%s"'] * (REFERENCES_MAX + 1)) + b"]}",
        b'{"kind":"message","id":"%s","source":{"format":"irc","file_hash":"zz"}}',
        b'{"kind":"conversation","format":"mlog","format_version":2,"key":"k","title":"t"}',
    ],
)
def test_line_that_is_not_of_the_schema_is_refused_with_its_number(line: bytes):
    with pytest.raises(InvalidInput, match=r"^x\.jsonl:2: "):
        read(_HEAD + line.replace(b"%s", MID.hex().encode()) + b"\n")


def test_lone_surrogates_and_nul_never_reach_a_record():
    for escaped in ('"\\ud800"', '"a\\udc00b"', '"\\u0000"'):
        try:
            items = read(
                _HEAD + b'{"kind":"message","id":"%s","text":%s}' % (MID.hex().encode(), escaped.encode())
            )
        except InvalidInput:
            continue
        text = items[-1].text if isinstance(items[-1], Record) else ""
        assert "\ufffd" in text
        assert "\0" not in text


def test_records_before_the_damage_are_kept():
    line = b'{"kind":"message","id":"%s"}\n' % MID.hex().encode()
    items = iter(importer("mlog").parse(Source(io.BytesIO(_HEAD + line + line[:9]), "x")))
    assert [type(next(items)) for _ in range(3)] == [Chat, Provenance, Record]
    with pytest.raises(InvalidInput, match=r"^x:3: "):
        next(items)


def test_events_before_a_conversation_are_refused():
    with pytest.raises(InvalidInput, match=r"^x\.jsonl:1: the first line"):
        read(b'{"kind":"message","id":"%s"}\n' % MID.hex().encode())


@given(st.integers(0, 400), st.binary(max_size=8))
@example(0, b"")
def test_damaged_export_gives_items_or_a_documented_error(at: int, damage: bytes):
    record = Record(kind=Kind.MESSAGE, mid=MID, author="ann", text="hi", time_ms=1, position=1, to=(MID,))
    whole = write(Chat(key="k", title="t"), [ExportRecord(record=record)] * 3)
    data = whole[:at] + damage + whole[at + 3 :]
    importer("mlog").sniff(data, "x")
    with contextlib.suppress(InvalidInput):
        assert isinstance(write_again(read(data)), bytes)


def test_exported_json_is_plain_json():
    record = Record(kind=Kind.EVENT, mid=MID, author="", text='"\\\x03\u202e', time_ms=0, position=0)
    lines = write(Chat(key="k", title="t"), [ExportRecord(record=record)]).splitlines()
    assert json.loads(lines[1]) == {"kind": "event", "id": MID.hex(), "text": '"\\\x03\u202e'}
