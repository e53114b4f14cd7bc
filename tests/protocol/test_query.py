"""Queries: pages in one order everywhere, a cursor that any replica knows, and proof of each segment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log.bodies import Kind
from mlog.log.entry import parse_outer, to_tail
from mlog.log.merkle import refresh_digests
from mlog.log.replica import Replica
from mlog.log.scope import entries_root
from mlog.log.store import LogKind
from mlog.protocol import wire
from mlog.protocol.link import Link
from mlog.protocol.query import Pager, serve_query
from tests.log.support import START_MS, device_keys

from .pair import WEEK_MS, drafts, give, ids_of, peer_row, replica, share

LOG = 1


def holder(weeks: int = 4, each: int = 5) -> Replica:
    made = replica(0)
    made.create_log(LogKind.CONVERSATION, [], START_MS)
    for week in range(weeks):
        at_ms = START_MS + week * WEEK_MS
        made.write(LOG, drafts(*(f"week {week}, {n}" for n in range(each)), time_ms=at_ms), at_ms)
    return made


def ask(holder: Replica, query: wire.Query) -> wire.Page:
    link = Link(
        holder,
        peer_row(device_keys(2)),
        bytes(32),
        leader=False,
        now_ms=START_MS,
        send=lambda _: None,
        emit=lambda _: None,
    )
    row = next(row for row in holder.store.logs() if row.n == LOG)
    serving = serve_query(link, row, query)
    while True:
        try:
            next(serving)
        except StopIteration as end:
            return end.value


def pager(of: Replica, **arguments: Any) -> Pager:
    arguments.setdefault("bodies", True)
    return Pager(bytes(6), of.log(LOG).keys.topic, **arguments)


def read(
    holder: Replica, limit: int, reader: Pager | None = None, pages: int = 100
) -> tuple[Pager, list[Any]]:
    reader = reader or pager(holder)
    found: list[Any] = []
    for _ in range(pages):
        if reader.end:
            break
        found += reader.page(ask(holder, reader.query(1, limit)))
    return reader, found


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7, 100])
def test_pages_give_every_entry_once_in_order_and_prove_every_segment(limit: int):
    home = holder()
    reader, found = read(home, limit)
    assert [sealed.id for sealed in found] == [
        id_ for digest in refresh_digests(home.store, LOG) for id_, _ in home.store.segment(LOG, digest.week)
    ]
    assert reader.digests == refresh_digests(home.store, LOG)
    assert entries_root(reader.digests, 0) == entries_root(home.store.digests(LOG), 0)


def test_a_page_that_ends_with_a_segment_does_not_hide_the_next():
    home = holder(weeks=2, each=3)
    reader = pager(home)
    first = ask(home, reader.query(1, 4))
    assert not first.end
    assert len(reader.page(first)) == 4
    second = ask(home, reader.query(1, 100))
    assert second.end
    assert len(reader.page(second)) == 3


def test_weeks_bound_what_is_read():
    home = holder()
    weeks = [digest.week for digest in refresh_digests(home.store, LOG)]
    reader, found = read(home, 3, pager(home, first_week=weeks[1], last_week=weeks[2]))
    assert {parse_outer(sealed.outer).week for sealed in found} == set(weeks[1:3])
    assert [digest.week for digest in reader.digests] == weeks[1:3]


def test_without_bodies_only_those_come_that_keep_the_log_going():
    home = holder()
    reader, found = read(home, 100, pager(home, bodies=False))
    rows = home.store.find(LOG, [sealed.id for sealed in found])
    assert {rows[sealed.id].kind for sealed in found if sealed.body is not None} == {Kind.KEY}
    assert sum(digest.bodies for digest in reader.digests) == 1


def test_a_reader_may_go_on_at_another_replica():
    home, other = holder(), replica(1)
    share(home, other, LOG)
    give(home, other, LOG)
    reader = pager(home)
    found = []
    for turn in range(100):
        if reader.end:
            break
        found += reader.page(ask((home, other)[turn % 2], reader.query(1, 3)))
    assert {sealed.id for sealed in found} == ids_of(home.store)
    assert reader.digests == refresh_digests(other.store, LOG)


def test_pages_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "BUNDLE_SIZE_MAX_BYTES", 600)
    home = holder()
    page = ask(home, wire.Query(1, bytes(6), 0, bytes(32), 8191, 1000))
    assert 1 <= len(page.entries) <= 3
    assert not page.end
    _, found = read(home, 1000)
    assert {sealed.id for sealed in found} == ids_of(home.store)


def test_a_segment_that_changes_between_two_pages_is_read_on_and_not_proven():
    home = holder(weeks=1, each=6)
    reader = pager(home)
    found = reader.page(ask(home, reader.query(1, 3)))
    home.write(LOG, drafts(*map(str, range(20))), START_MS)
    _, more = read(home, 3, reader)
    # Some of what came lies before the cursor, some behind it.
    assert len(found + more) < len(ids_of(home.store))
    assert reader.end
    assert reader.digests == []


@pytest.mark.parametrize("hidden", [0, 2, -1])
def test_a_holder_that_leaves_something_out_proves_nothing_of_that_segment(hidden: int):
    home = holder(weeks=1)
    reader = pager(home)
    page = ask(home, reader.query(1, 100))
    entries = list(page.entries)
    del entries[hidden]
    reader.page(msgspec.structs.replace(page, entries=tuple(entries)))
    assert reader.end
    assert reader.digests == []


def test_a_segment_without_its_digest_is_not_proven():
    home = holder(weeks=1)
    reader = pager(home)
    reader.page(msgspec.structs.replace(ask(home, reader.query(1, 100)), segments=b""))
    assert reader.digests == []


def reversed_entries(page: wire.Page) -> wire.Page:
    return msgspec.structs.replace(page, entries=page.entries[::-1])


def twice(page: wire.Page) -> wire.Page:
    return msgspec.structs.replace(page, entries=page.entries + page.entries)


def of_another_log(page: wire.Page) -> wire.Page:
    other = holder(weeks=1)
    made = other.create_log(LogKind.CONVERSATION, [], START_MS)
    (row,) = other.store.arrivals(made, 0, 1)
    whole = b"\xff\x02" + row.outer[1:]
    return msgspec.structs.replace(page, entries=(wire.Packed(whole, None, None),))


def nonsense(page: wire.Page) -> wire.Page:
    return msgspec.structs.replace(page, entries=(wire.Packed(b"nonsense", None, None),))


def another_body(page: wire.Page) -> wire.Page:
    # The hash of the body is left out of the tail, so another body makes another entry.
    changed = [msgspec.structs.replace(page.entries[-1], body=bytes(48)), *page.entries]
    return msgspec.structs.replace(page, entries=tuple(changed))


def empty_page(page: wire.Page) -> wire.Page:
    return msgspec.structs.replace(page, entries=(), end=False)


def half_a_digest(page: wire.Page) -> wire.Page:
    return msgspec.structs.replace(page, segments=page.segments[:-1])


@pytest.mark.parametrize(
    "lie", [reversed_entries, twice, of_another_log, nonsense, another_body, empty_page, half_a_digest]
)
def test_a_page_that_cannot_be_is_refused(lie: Callable[[wire.Page], wire.Page]):
    home = holder(weeks=1)
    reader = pager(home)
    with pytest.raises(ProtocolViolation):
        reader.page(lie(ask(home, reader.query(1, 100))))


def test_an_entry_of_a_week_that_was_not_asked_for_is_refused():
    home = holder(weeks=2)
    weeks = [digest.week for digest in refresh_digests(home.store, LOG)]
    reader = pager(home, last_week=weeks[0])
    with pytest.raises(ProtocolViolation):
        reader.page(ask(home, wire.Query(1, bytes(6), 0, bytes(32), weeks[1], 100)))


def test_a_page_shows_one_moment_though_another_process_writes(monkeypatch: pytest.MonkeyPatch):
    home = holder(weeks=1)
    reading, written = home.store.reading, [False]

    def reading_after_a_write() -> Any:
        if not written[0] and not home.store.stale_weeks(LOG):
            written[0] = True
            home.write(LOG, drafts("meanwhile"), START_MS)
        return reading()

    # The second time that the store is read, something was written since the digests were made.
    ask(home, wire.Query(1, bytes(6), 0, bytes(32), 8191, 1))
    monkeypatch.setattr(home.store, "reading", reading_after_a_write)
    reader, found = read(home, 100)
    assert {sealed.id for sealed in found} == ids_of(home.store)
    assert reader.digests == refresh_digests(home.store, LOG)


def test_tails_of_a_page_are_those_of_the_entries():
    home = holder(weeks=1, each=1)
    page = ask(home, wire.Query(1, bytes(6), 0, bytes(32), 8191, 100))
    rows = sorted(home.store.arrivals(LOG, 0, 10), key=lambda row: row.id)
    sealed = home.sealed_of(LOG, rows, bodies=True)
    assert [packed.head for packed in page.entries] == [to_tail(one) for one in sealed]
    assert [packed.signature for packed in page.entries] == [one.signature for one in sealed]
