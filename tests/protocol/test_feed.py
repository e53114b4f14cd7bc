"""Feed: what is new is read and sealed once for all sessions, and nothing old is handed on."""

from __future__ import annotations

from mlog import limits
from mlog.log.replica import Replica
from mlog.log.store import LogKind
from mlog.protocol.feed import Feed
from mlog.protocol.wire import Packed
from tests.log.support import START_MS

from .pair import drafts, replica


def home() -> tuple[Replica, Feed]:
    made = replica(0)
    for _ in range(2):
        made.create_log(LogKind.CONVERSATION, [], START_MS)
    return made, Feed(made)


def test_a_look_tells_the_logs_that_have_new_entries_once():
    made, feed = home()
    assert feed.look() == (set(), False)
    made.write(2, drafts("one", "two"), START_MS)
    assert feed.look() == ({2}, False)
    made.write(1, drafts("three"), START_MS)
    made.write(2, drafts("four"), START_MS)
    assert feed.look() == ({1, 2}, False)
    assert feed.look() == (set(), False)


def test_a_look_tells_that_a_log_is_new_or_wanted_otherwise():
    made, feed = home()
    made.create_log(LogKind.CONVERSATION, [], START_MS)
    assert feed.look() == ({3}, True)
    with made.store.transaction():
        made.store.set_window(3, 30, fetch_bodies=False)
    assert feed.look() == (set(), True)


def test_a_page_is_read_once_until_the_next_look():
    made, feed = home()
    first = feed.page(1, 0)
    made.write(1, drafts("later"), START_MS)
    assert feed.page(1, 0) is first
    feed.look()
    assert [row.n for row in feed.page(1, 0)] == [row.n for row in made.store.arrivals(1, 0, 10)]


def test_what_is_kept_is_bounded():
    made, feed = home()
    for after in range(1000):
        feed.page(1, after)
    assert len(feed._pages) <= 64
    made.write(1, drafts(*map(str, range(300))), START_MS)
    for after in range(30):
        feed.page(1, after)
        assert sum(map(len, feed._pages.values())) <= limits.BUNDLE_ENTRIES_MAX
    made.write(1, drafts(*("x" * 100_000 for _ in range(30))), START_MS)
    for after in range(300, 330):
        feed.page(1, after)
        rows = [row for page in feed._pages.values() for row in page]
        assert sum(len(row.body or b"") for row in rows) < limits.BUNDLE_SIZE_MAX_BYTES + 110_000


def test_rows_are_sealed_once_and_again_after_a_commit():
    _, feed = home()
    rows, made_of = feed.page(1, 0), list[int]()

    def pack() -> tuple[Packed, ...]:
        made_of.append(len(rows))
        return (Packed(b"", None, None),)

    for _ in range(3):
        feed.packed(1, rows, pack)
    feed.packed(1, rows[:0], pack)
    assert len(made_of) == 2
    feed.look()
    feed.packed(1, rows, pack)
    assert len(made_of) == 3
