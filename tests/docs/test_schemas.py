"""The published schemas are valid, fit what mlog exports and what Telegram does, and refuse what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import mlog
from mlog.formats import ExportRecord, Provenance
from mlog.log.bodies import SPOKEN, Kind
from tests.formats.exporting import mid, reaction, record, texts, written

_SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((_SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


TELEGRAM = validator("telegram-export")
LINES = validator("mlog-jsonl")

_sources = st.none() | st.builds(
    Provenance, format=st.just("irc"), file_hash=st.sampled_from(["", "ab" * 32]), name=texts
)
_said = st.builds(
    lambda number, text, author, kind, to, source, erased, time_ms: record(
        number, text, author, kind=kind, to=to, source=source, erased=erased, time_ms=time_ms
    ),
    st.integers(0, 99),
    texts,
    texts,
    st.sampled_from(sorted(SPOKEN)),
    st.lists(st.integers(0, 99).map(mid), max_size=3).map(tuple),
    _sources,
    st.booleans(),
    st.integers(0, 2**53 - 1),
)
_events = _said | st.sampled_from(
    [
        reaction(100, 1, "👍", removed=True),
        record(101, "new", kind=Kind.EDIT, to=(mid(1),)),
        record(102, "", kind=Kind.ERASURE, to=(mid(1),)),
        record(103, "Garden", kind=Kind.TITLE),
    ]
)


@given(st.lists(_events, max_size=6))
def test_every_telegram_export_fits_the_schema(events: list[ExportRecord]) -> None:
    TELEGRAM.validate(json.loads(written("telegram", events)))


@given(st.lists(_events, max_size=6), texts)
def test_every_line_of_an_export_fits_the_schema(events: list[ExportRecord], title: str) -> None:
    lines = written("jsonl", events, title).split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(events) + 1
    for line in lines:
        LINES.validate(json.loads(line))


def test_a_real_home_exports_what_the_schemas_say(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home", person="Ann") as home:
        tea = home.new("tea").n
        home.send(tea, "helo")
        message = next(home.messages(tea))
        home.edit(message, "hello")
        home.react(message, "🍵")
        home.send(tea, "bye", reply_to=message.mid)
        home.erase(list(home.messages(tea))[1])
        lines = b"".join(home.export_chat(tea)).splitlines()
        TELEGRAM.validate(json.loads(b"".join(home.export_chat(tea, "telegram"))))
    assert len(lines) == 7
    for line in lines:
        LINES.validate(json.loads(line))


@pytest.mark.corpus
def test_an_export_of_telegram_itself_fits_the_schema(corpus: Path) -> None:
    document = json.loads((corpus / "exports" / "telegram" / "langchain-single-result.json").read_bytes())
    chats = document["chats"]["list"] if "chats" in document else [document]
    assert chats
    for chat in chats:
        TELEGRAM.validate(chat)


_MESSAGE = {"id": 1, "type": "message", "date": "2024-05-01T10:00:00", "from": "a", "text": "hi"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "1"},
        {"type": "event"},
        {"date": "2024-05-01 10:00:00"},
        {"date_unixtime": 5},
        {"from_id": "7"},
        {"text": None},
        {"text": [5]},
        {"type": "service"},
        {"action": "pin_message"},
        {"reply_to_message_id": "1"},
    ],
)
def test_what_no_reader_of_telegram_expects_is_refused(wrong: dict[str, Any]) -> None:
    chat = {"name": "x", "type": "private_group", "id": 1}
    assert TELEGRAM.is_valid(chat | {"messages": [_MESSAGE]})
    assert not TELEGRAM.is_valid(chat | {"messages": [_MESSAGE | wrong]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "letter"},
        {"id": "AB" * 16},
        {"time_ms": 2**53},
        {"to": ["x"]},
        {"removed": True},
        {"kind": "edit"},
        {"kind": "title", "erased": True},
        {"erased": False},
        {"unknown": 1},
        {"source": {"name": "x"}},
    ],
)
def test_what_is_no_line_of_mlog_is_refused(wrong: dict[str, Any]) -> None:
    line = {"kind": "message", "id": "ab" * 16, "text": "hi"}
    assert LINES.is_valid(line)
    assert not LINES.is_valid(line | wrong)
