"""Mixed chats sorted out: order, attachments and bounds."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest

from mlog.errors import LimitExceeded
from mlog.formats.record import Chat, File, Record
from mlog.formats.regroup import Regrouped
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId


def record(number: int) -> Record:
    return Record(
        kind=Kind.MESSAGE,
        mid=MessageId(number.to_bytes(16)),
        author="Ann",
        text="x" * 10_000,
        time_ms=number,
        position=number,
        to=(MessageId(bytes(16)),),
        files=(File(name="a", data=bytes(100)),),
    )


@pytest.mark.parametrize("count", [100, 192, 1000])
def test_chats_come_one_after_the_other_each_in_its_order(count: int):
    with Regrouped("x") as chats:
        for number in range(count):
            chats.add(f"sms:{number % 3}", "Ann" if number == 4 else "", record(number))
        items = list(chats.items())
    assert [item for item in items if isinstance(item, Chat)] == [
        Chat(key="sms:0", title="0"),
        Chat(key="sms:1", title="Ann"),
        Chat(key="sms:2", title="2"),
    ]
    records = [item for item in items if isinstance(item, Record)]
    assert records == [record(number) for start in range(3) for number in range(start, count, 3)]


def test_too_many_chats_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mlog.formats.regroup.CHATS_PER_FILE_MAX", 2)
    with Regrouped("x") as chats:
        for number in range(2):
            chats.add(str(number), "", record(number))
        with pytest.raises(LimitExceeded, match="more than 2 chats"):
            chats.add("2", "", record(2))


def test_memory_does_not_grow_with_the_records_of_a_chat():
    with Regrouped("x") as chats:
        small = msgspec.structs.replace(record(1), text="", files=())
        for _ in range(2_000):
            chats.add("a", "", small)
        tracemalloc.start()
        for _ in range(20_000):
            chats.add("a", "", small)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sum(1 for _ in chats.items()) == 22_001
    # The places alone would be 160,000 bytes. The file's own buffer is in this too.
    assert grown < 100_000
