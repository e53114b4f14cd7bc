"""One stored entry: checked against its own bytes, and what it says."""

from __future__ import annotations

import msgspec
import pytest

from mlog.errors import InvalidInput
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.memory import MemoryStore
from mlog.log.replica import Replica
from mlog.log.store import BodyState, EntryRow, LogKind
from mlog.log.stored import check_body, check_header, readable_body, text_of

from .support import LOG, device_keys, make_log, make_replica, message


@pytest.fixture
def replica() -> Replica:
    return make_replica(MemoryStore())


@pytest.fixture
def row(replica: Replica) -> EntryRow:
    make_log(replica, LogKind.CONVERSATION, message("hello"))
    [_, said] = replica.store.scan(1, -1, 10)
    return said


def test_a_whole_entry_passes_and_gives_header_and_body(replica: Replica, row: EntryRow):
    keys = replica.log(LOG).keys
    assert check_header(keys, row, device_keys(0).id).kind == Kind.MESSAGE
    assert check_body(keys, row) == row.body
    for state in (BodyState.ERASED, BodyState.NOT_FETCHED):
        assert check_body(keys, msgspec.structs.replace(row, body=None, state=state)) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"body": b'{"text":"hellp"}'},
        {"body": None},
        {"state": BodyState.SEALED},
        {"state": BodyState.ERASED},
        {"state": 9},
        {"outer": bytes(200)},
    ],
)
def test_a_body_that_does_not_match_is_refused(replica: Replica, row: EntryRow, changed: dict[str, object]):
    with pytest.raises(InvalidInput):
        check_body(replica.log(LOG).keys, msgspec.structs.replace(row, **changed))


def test_a_header_that_does_not_match_its_columns_or_device_is_refused(replica: Replica, row: EntryRow):
    keys = replica.log(LOG).keys
    with pytest.raises(InvalidInput):
        check_header(keys, msgspec.structs.replace(row, week=row.week + 1), device_keys(0).id)
    with pytest.raises(InvalidInput):
        check_header(keys, row, device_keys(1).id)


def test_what_this_version_cannot_read_says_nothing():
    assert readable_body(Kind.MESSAGE, None) is None
    assert readable_body(Kind.MESSAGE, b"{") is None
    assert readable_body(200, b"{}") is None
    assert text_of(None) is None
    assert text_of(bodies.Title(title="tea")) is None


def test_search_finds_a_claimed_author_with_the_text():
    assert text_of(bodies.Text(text="hello")) == "hello"
    assert text_of(bodies.Text(text="hello", by="Ann")) == "Ann hello"
    assert text_of(bodies.Edit(of="0" * 32, text="hallo")) == "hallo"
