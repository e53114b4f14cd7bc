"""Ids of Matrix events: the hash that the specification tells, kept by an erasure, never an exception."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.formats.matrix_ids import event_id

MESSAGE: dict[str, Any] = {
    "type": "m.room.message",
    "room_id": "!tea:example.org",
    "sender": "@ann:example.org",
    "origin_server_ts": 1_600_000_000_000,
    "content": {"msgtype": "m.text", "body": "tea?"},
    "hashes": {"sha256": "x"},
    "auth_events": ["$a"],
    "prev_events": ["$p"],
    "depth": 7,
}


def expected(event: dict[str, Any]) -> str:
    """The hash of what is left of an event, which the test writes out itself."""
    canonical = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return "$" + base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).decode().rstrip("=")


def test_an_id_that_is_given_is_taken():
    assert event_id({"event_id": "$1:example.org"}, "1") == "$1:example.org"


def test_text_signatures_and_unsigned_do_not_count_so_an_erased_event_keeps_its_id():
    id_ = event_id(MESSAGE | {"signatures": {"example.org": {}}, "unsigned": {"age": 3}}, "10")
    assert id_ == event_id(MESSAGE | {"content": {}}, "10") == expected(MESSAGE | {"content": {}})


def test_version_3_writes_its_hash_in_the_other_alphabet():
    events = [MESSAGE | {"depth": depth} for depth in range(40)]
    ids = [(event_id(event, "3"), event_id(event, "4")) for event in events]
    assert all(old.replace("+", "-").replace("/", "_") == new for old, new in ids)
    assert any("+" in old or "/" in old for old, _ in ids)


@pytest.mark.parametrize(
    ("version", "event", "left"),
    [
        ("10", {"origin": "example.org"}, {"origin": "example.org"}),
        ("11", {"origin": "example.org"}, {}),
        ("", {"origin": "example.org"}, {"origin": "example.org"}),
        ("10", {"type": "m.room.create", "content": {"creator": "a", "x": 1}}, {"content": {"creator": "a"}}),
        ("11", {"type": "m.room.create", "content": {"x": 1}}, {"content": {"x": 1}}),
        ("5", {"type": "m.room.aliases", "content": {"aliases": ["a"]}}, {"content": {"aliases": ["a"]}}),
        ("6", {"type": "m.room.aliases", "content": {"aliases": ["a"]}}, {}),
        (
            "11",
            {"type": "m.room.power_levels", "content": {"ban": 1, "invite": 2}},
            {"content": {"ban": 1, "invite": 2}},
        ),
        (
            "10",
            {"type": "m.room.power_levels", "content": {"ban": 1, "invite": 2}},
            {"content": {"ban": 1}},
        ),
        (
            "11",
            {
                "type": "m.room.member",
                "content": {"membership": "join", "third_party_invite": {"signed": {}}},
            },
            {"content": {"membership": "join", "third_party_invite": {"signed": {}}}},
        ),
    ],
)
def test_what_an_erasure_leaves_depends_on_the_version_of_the_room(
    version: str, event: dict[str, Any], left: dict[str, Any]
):
    kind = {"type": event["type"]} if "type" in event else {}
    assert event_id(MESSAGE | event, version) == expected(MESSAGE | {"content": {}} | kind | left)


def test_an_event_without_what_a_hash_needs_has_no_id():
    for key in ("type", "sender", "content", "hashes", "auth_events", "prev_events"):
        assert event_id({name: value for name, value in MESSAGE.items() if name != key}, "10") == ""


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*MESSAGE, "event_id"]), _json), st.text(max_size=3))
def test_any_event_has_an_id_or_none(event: dict[str, Any], version: str):
    assert event_id(MESSAGE | event, version)[:1] in ("", "$") or event.get("event_id")
