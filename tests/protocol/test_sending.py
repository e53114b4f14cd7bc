"""Sending: one bundle on its way, in order, resumed where it stopped, and never a signature too few."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log.bodies import Kind
from mlog.log.entry import from_tail
from mlog.log.ids import EntryId
from mlog.log.replica import Replica
from mlog.log.store import EntryRow, LogKind
from mlog.protocol import wire
from mlog.protocol.events import Committed
from mlog.protocol.link import Link
from mlog.protocol.sending import Sender, Stream, by_id, by_ranges
from mlog.protocol.vector import Ranges
from tests.log.support import START_MS, device_keys, message

from .pair import WEEK_MS, Pair, drafts, give, ids_of, pair_of_logs, peer_row, replica, share, trust

LOG = 1
TAG = bytes(6)


class Bench:
    """A sender over one log, and what it says."""

    def __init__(self, home: Replica):
        self.home = home
        self.said: list[Any] = []
        self.done: list[int] = []
        self.link = Link(
            home,
            peer_row(device_keys(2)),
            bytes(32),
            leader=True,
            now_ms=START_MS,
            send=self.said.append,
            emit=lambda _: None,
        )
        self.sender = Sender(self.link)

    def add(self, rows: Sequence[EntryRow], *, bodies: bool = True) -> None:
        pages = by_id(self.home.store, LOG, [row.id for row in rows])
        self.sender.add(Stream(LOG, TAG, pages, bodies=bodies, done=self.done.append))

    def committed(self) -> None:
        logs, _ = self.link.feed.look()
        self.sender.committed(logs)

    def go(self) -> None:
        for _ in range(10_000):
            if not self.sender.step():
                return
        raise AssertionError("it never waits")

    def ack(self, refused: int = 0) -> int | None:
        return self.sender.acknowledged(self.said[-1].serial, refused)


def home(entries: int = 10) -> Replica:
    made = replica(0)
    made.create_log(LogKind.CONVERSATION, [], START_MS)
    if entries:
        made.write(LOG, drafts(*map(str, range(entries))), START_MS)
    return made


def all_rows(of: Replica) -> list[EntryRow]:
    rows: list[EntryRow] = []
    while more := of.store.arrivals(LOG, rows[-1].n if rows else 0, 1000):
        rows += more
    return rows


def sent_ids(bench: Bench) -> list[EntryId]:
    topic = bench.home.log(LOG).keys.topic
    return [
        from_tail(topic, packed.head, packed.body, packed.signature).id
        for bundle in bench.said
        for packed in bundle.entries
    ]


# -- flow control ----------------------------------------------------------------------------


def test_one_bundle_is_on_its_way_until_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "BUNDLE_ENTRIES_MAX", 3)
    bench = Bench(home())
    rows = all_rows(bench.home)
    bench.add(rows)
    for number in range(1, 5):
        bench.go()
        assert [bundle.serial for bundle in bench.said] == list(range(1, number + 1))
        assert bench.sender.waits
        assert not bench.done
        bench.ack()
    bench.go()
    assert bench.done == [11]
    assert bench.sender.idle
    assert sent_ids(bench) == [row.id for row in rows]


def test_streams_are_sent_one_after_the_other_and_before_what_is_live():
    bench = Bench(home())
    rows = all_rows(bench.home)
    bench.sender.go_live(LOG, TAG, rows[-1].n)
    (live,) = bench.home.write(LOG, drafts("live"), START_MS)
    bench.committed()
    bench.add(rows[:2])
    bench.add(rows[2:4])
    for _ in range(3):
        bench.go()
        bench.ack()
    bench.go()
    assert sent_ids(bench) == [row.id for row in (*rows[:4], live)]
    assert bench.done == [2, 2]


@pytest.mark.parametrize("serial", [0, 2, 100])
def test_an_acknowledgement_of_another_bundle_is_refused(serial: int):
    bench = Bench(home())
    bench.add(all_rows(bench.home))
    bench.go()
    with pytest.raises(ProtocolViolation):
        bench.sender.acknowledged(serial, 0)


def test_an_acknowledgement_that_comes_twice_is_refused():
    bench = Bench(home())
    bench.add(all_rows(bench.home))
    bench.go()
    bench.ack()
    with pytest.raises(ProtocolViolation):
        bench.ack()


def test_refused_entries_do_not_count_as_sent():
    bench = Bench(home())
    bench.add(all_rows(bench.home))
    bench.go()
    bench.ack(refused=4)
    bench.go()
    assert bench.done == [7]


def test_small_pages_share_a_bundle_and_large_ones_do_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "BUNDLE_ENTRIES_MAX", 5)
    bench = Bench(home())
    rows = all_rows(bench.home)
    pages = iter([rows[0:1], rows[1:3], rows[3:5], rows[5:6], [], rows[6:7], rows[7:11]])
    bench.sender.add(Stream(LOG, TAG, pages, bodies=True, done=bench.done.append))
    for _ in range(5):
        bench.go()
        if bench.sender.waits:
            bench.ack()
    assert [len(bundle.entries) for bundle in bench.said] == [5, 1, 5]
    assert sent_ids(bench) == [row.id for row in rows]
    assert bench.done == [11]


def test_a_stream_of_nothing_is_done_at_once():
    bench = Bench(home(0))
    bench.add([])
    bench.go()
    assert bench.done == [0]
    assert not bench.said


def test_bundles_are_bounded_in_bytes_with_the_largest_bodies():
    made = home(0)
    big = "x" * (120 * limits.KIB)
    for _ in range(12):
        made.write(LOG, drafts(big, big), START_MS)
    bench = Bench(made)
    bench.add(all_rows(made))
    for _ in range(100):
        bench.go()
        if not bench.sender.waits:
            break
        assert len(wire.encode(bench.said[-1])) <= limits.BUNDLE_SIZE_MAX_BYTES + limits.BODY_SIZE_MAX_BYTES
        bench.ack()
    assert set(sent_ids(bench)) == ids_of(made.store)
    assert len(bench.said) >= 3


def test_no_more_is_read_at_once_than_a_bundle_has_however_short_what_came_before_was(
    monkeypatch: pytest.MonkeyPatch,
):
    made = home(0)
    made.write(LOG, drafts(*("short" for _ in range(300))), START_MS)
    for _ in range(10):
        made.write(LOG, drafts(*("x" * 100_000 for _ in range(20))), START_MS)
    bench, rows = Bench(made), all_rows(made)
    read: list[int] = []
    for name in ("arrivals", "rows", "scan", "week_arrivals"):
        real = getattr(made.store, name)

        def counting(*arguments: Any, real: Any = real, **options: Any) -> Any:
            rows = real(*arguments, **options)
            read.append(sum(len(row.body) for row in getattr(rows, "values", lambda rows=rows: rows)()))
            return rows

        monkeypatch.setattr(made.store, name, counting)
    chain = rows[0].chain
    bench.sender.go_live(LOG, TAG, 0)
    pages = by_ranges(made.store, LOG, {chain: ((0, 360),)}, 0)
    bench.sender.add(Stream(LOG, TAG, pages, bodies=True))
    whole = by_ranges(made.store, LOG, {chain: ((0, 900),)}, 0)
    bench.sender.add(Stream(LOG, TAG, whole, bodies=True))
    bench.add(rows)
    for _ in range(500):
        bench.go()
        if not bench.sender.waits:
            break
        bench.ack()
    assert len(sent_ids(bench)) == 361 + 3 * 501
    assert max(read) <= limits.BUNDLE_SIZE_MAX_BYTES + 100_000
    assert sum(read) <= 2 * 4 * sum(len(row.body or b"") for row in rows)


# -- live ------------------------------------------------------------------------------------


def test_what_is_committed_is_pushed_in_order_and_once():
    bench = Bench(home())
    bench.sender.go_live(LOG, TAG, all_rows(bench.home)[-1].n)
    written: list[EntryId] = []
    for number in range(5):
        written += [row.id for row in bench.home.write(LOG, drafts(f"{number}"), START_MS)]
        bench.committed()
        bench.go()
        if bench.sender.waits and number % 2:
            bench.ack()
    while bench.sender.waits:
        bench.ack()
        bench.go()
    assert sent_ids(bench) == written


def test_what_came_from_the_peer_is_not_sent_back():
    made = home()
    peer = replica(1)
    share(made, peer, LOG)
    give(made, peer, LOG)
    bench = Bench(made)
    bench.sender.go_live(LOG, TAG, made.store.next_n() - 1)
    mine = made.write(LOG, drafts("mine"), START_MS)
    theirs = peer.write(LOG, drafts("theirs"), START_MS)
    sealed = peer.sealed_of(LOG, theirs, bodies=True)
    before_n = made.store.next_n() - 1
    made.receive(LOG, sealed, START_MS)
    bench.sender.received(LOG, [s.id for s in sealed], before_n, made.store.next_n() - 1)
    later = made.write(LOG, drafts("later"), START_MS)
    bench.committed()
    for _ in range(3):
        bench.go()
        if bench.sender.waits:
            bench.ack()
    assert sent_ids(bench) == [mine[0].id, later[0].id]


def test_what_came_from_the_peer_moves_the_cursor_where_nothing_lies_between():
    made = home()
    peer = replica(1)
    share(made, peer, LOG)
    give(made, peer, LOG)
    bench = Bench(made)
    bench.sender.go_live(LOG, TAG, made.store.next_n() - 1)
    theirs = peer.sealed_of(LOG, peer.write(LOG, drafts("theirs"), START_MS), bodies=True)
    before_n = made.store.next_n() - 1
    made.receive(LOG, theirs, START_MS)
    bench.sender.received(LOG, [s.id for s in theirs], before_n, made.store.next_n() - 1)
    assert not bench.sender._live[LOG].theirs
    bench.committed()
    bench.go()
    assert not bench.said


def test_what_is_remembered_of_the_peer_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "LIVE_SKIP_MAX", 2)
    bench = Bench(home())
    bench.sender.go_live(LOG, TAG, 0)
    ids = [EntryId(bytes([n]) * 32) for n in range(3)]
    bench.sender.received(LOG, ids, 5, 8)
    assert len(bench.sender._live[LOG].theirs) == 0
    bench.sender.received(LOG, ids[:2], 5, 7)
    assert len(bench.sender._live[LOG].theirs) == 2


def test_going_live_again_moves_the_cursor_only_where_both_are_equal():
    bench = Bench(home())
    rows = all_rows(bench.home)
    bench.sender.go_live(LOG, TAG, rows[4].n)
    bench.sender.go_live(LOG, TAG, rows[-1].n)
    assert bench.sender._live[LOG].cursor == rows[4].n
    bench.sender.go_live(LOG, TAG, rows[2].n, equal=True)
    assert bench.sender._live[LOG].cursor == rows[4].n
    bench.sender.go_live(LOG, TAG, rows[-1].n, equal=True)
    assert bench.sender._live[LOG].cursor == rows[-1].n


# -- over two nodes --------------------------------------------------------------------------


@pytest.mark.parametrize("after_ms", [25, 35, 45, 60, 80, 100])
def test_a_transfer_that_breaks_goes_on_without_sending_again_what_was_committed(
    after_ms: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "BUNDLE_ENTRIES_MAX", 10)
    a, b = replica(0), replica(1)
    trust(a, b)
    share(a, b, a.create_log(LogKind.CONVERSATION, drafts(*map(str, range(60))), START_MS))
    pair = Pair(a, b)
    number = pair.connect()
    pair.run(after_ms)
    pair.disconnect(number)
    committed = ids_of(b.store)
    before = len(pair.a.said(wire.Entries))
    pair.connect()
    pair.run()
    assert ids_of(b.store) == ids_of(a.store)
    topic = a.log(LOG).keys.topic
    again = {
        from_tail(topic, packed.head, packed.body).id
        for bundle in pair.a.said(wire.Entries)[before:]
        for packed in bundle.entries
    }
    assert not again & committed
    assert len(again) == len(ids_of(a.store)) - len(committed)


def test_large_bodies_pass_whole():
    pair = pair_of_logs()
    texts = ["a" * limits.TEXT_SIZE_MAX_BYTES, "b" * limits.TEXT_SIZE_MAX_BYTES, *("c" * 100_000,) * 10]
    for words in texts:
        pair.a.replica.write(LOG, drafts(words), START_MS)
    pair.connect()
    pair.run()
    assert ids_of(pair.a.store) == ids_of(pair.b.store)
    assert [r.body for r in pair.b.store.arrivals(LOG, 0, 100)].count(None) == 0
    assert len(pair.a.said(wire.Entries)) > 1


# -- signatures ------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), min_size=1, max_size=25),
    st.integers(1, 12),
    st.data(),
)
def test_a_receiver_can_vouch_for_whatever_part_it_is_sent(
    steps: list[tuple[int, int, bool]], size: int, data: st.DataObject
):
    """Any selection, in any cut into bundles, leaves a receiver that reads all that the sender reads."""
    source = home(0)
    runs = [source.begin_run(LOG) for _ in range(2)]
    for which, week, many in steps:
        at_ms = START_MS - 10 * WEEK_MS + week * WEEK_MS
        texts = [f"{which} {n}" for n in range(3 if many else 1)]
        if which == 2:
            source.write(LOG, drafts(*texts), START_MS)
        else:
            source.write_run(runs[which], [message(t, at_ms) for t in texts], START_MS)
    rows = all_rows(source)
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(rows))))))
    receiver = replica(1)
    share(source, receiver, LOG)
    # What it does not get in this session it has already: so a chain is never cut off from its start.
    give(source, receiver, LOG, {row.id for index, row in enumerate(rows) if index not in chosen})
    bench = Bench(source)
    pages = iter([[rows[index] for index in chosen[at : at + size]] for at in range(0, len(chosen), size)])
    bench.sender.add(Stream(LOG, TAG, pages, bodies=True))
    topic = source.log(LOG).keys.topic
    for _ in range(100):
        bench.go()
        if not bench.sender.waits:
            break
        sealed = [from_tail(topic, p.head, p.body, p.signature) for p in bench.said[-1].entries]
        assert receiver.receive(LOG, sealed, START_MS).refused == ()
        bench.ack()
    while receiver.settle(LOG, START_MS):
        pass
    unread = {row.id for row in receiver.store.scan_unopened(LOG, 0, 1000)}
    assert ids_of(receiver.store) == ids_of(source.store)
    assert unread == set()


def test_few_signatures_travel_with_an_import():
    source = home(0)
    run = source.begin_run(LOG)
    source.write_run(run, drafts(*map(str, range(500))), START_MS)
    bench = Bench(source)
    bench.add(all_rows(source))
    bench.go()
    signed = [packed.signature is not None for packed in bench.said[0].entries]
    assert sum(signed) <= 3


def test_every_bundle_of_an_import_ends_with_a_signature():
    source = home(0)
    run = source.begin_run(LOG)
    for batch in range(3):
        source.write_run(run, drafts(*(f"{batch} {n}" for n in range(limits.STORE_ROWS_MAX))), START_MS)
    bench = Bench(source)
    chain = source.store.chains(LOG)[-1]
    pages = by_ranges(source.store, LOG, {chain.n: ((0, chain.seq),)}, 0)
    bench.sender.add(Stream(LOG, TAG, pages, bodies=True, done=bench.done.append))
    while not bench.done:
        bench.go()
        if not bench.done:
            bench.ack()
    for bundle in bench.said:
        assert bundle.entries[-1].signature is not None
        assert len(bundle.entries) <= limits.BUNDLE_ENTRIES_MAX
    assert len(bench.said) <= 4


def test_live_entries_written_by_hand_keep_the_signature_of_the_last():
    source = home(50)
    bench = Bench(source)
    bench.add(all_rows(source))
    bench.go()
    signed = [packed.signature is not None for packed in bench.said[0].entries]
    assert signed[0]
    assert signed[-1]
    assert sum(signed) == 2


# -- which entries, in which order -----------------------------------------------------------


def pages_of(made: Replica, ranges: dict[int, Ranges], first_week: int = 0) -> list[EntryRow]:
    return [row for page in by_ranges(made.store, LOG, ranges, first_week) for row in page]


def test_ranges_give_what_is_asked_for_and_here():
    made = home(20)
    chain = all_rows(made)[0].chain
    ranges: dict[int, Ranges] = {chain: ((2, 3), (7, 7), (19, 40))}
    assert [row.seq for row in pages_of(made, ranges)] == [2, 3, 7, 19, 20]
    assert pages_of(made, {}) == []
    assert pages_of(made, {chain: ((100, 2**53 - 1),)}) == []


def test_most_of_a_log_comes_in_the_order_of_arrival():
    made, other = home(20), replica(1)
    share(made, other, LOG)
    give(made, other, LOG)
    for number in range(10):
        writer, reader = (made, other)[:: 1 if number % 2 else -1]
        writer.write(LOG, drafts(f"turn {number}"), START_MS)
        give(writer, reader, LOG)
    rows = pages_of(made, dict.fromkeys({row.chain for row in all_rows(made)}, ((0, 2**53 - 2),)))
    assert [row.n for row in rows] == sorted(row.n for row in rows)
    assert len(rows) == len(all_rows(made))


def test_what_comes_while_a_whole_log_is_sent_is_left_to_the_live_push():
    made = home(20)
    chain = all_rows(made)[0].chain
    pages = by_ranges(made.store, LOG, {chain: ((0, 2**53 - 2),)}, 0)
    made.write(LOG, drafts("later"), START_MS)
    assert len([row for page in pages for row in page]) == 21


def test_a_window_comes_newest_week_first_and_in_the_order_of_arrival_within():
    made = home(0)
    for week in range(4):
        at_ms = START_MS + week * WEEK_MS
        made.write(LOG, drafts("a", "b", time_ms=at_ms), at_ms)
    rows = all_rows(made)
    first = rows[-1].week - 2
    got = pages_of(made, {rows[0].chain: ((0, 100),)}, first)
    weeks = [row.week for row in got]
    assert weeks == sorted(weeks, reverse=True)
    assert set(weeks) == set(range(first, first + 3))
    for one, other in pairwise(got):
        assert one.week > other.week or one.n < other.n


def test_the_key_entries_of_a_whole_log_come_first_since_nothing_is_read_without_them():
    made = home(0)
    for week in range(4):
        at_ms = START_MS + week * WEEK_MS
        made.write(LOG, drafts("a", "b", time_ms=at_ms), at_ms)
        made.begin_epoch(LOG, at_ms, fresh=True)
    got = pages_of(made, {all_rows(made)[0].chain: ((0, 100),)})
    keys = [row for row in got if row.kind == Kind.KEY]
    assert len(got) == len(all_rows(made)) == len({row.n for row in got})
    assert got[: len(keys)] == sorted(keys, key=lambda row: row.n)


def test_a_window_holds_weeks_whose_digests_are_stale():
    made = home(5)
    rows = all_rows(made)
    assert made.store.stale_weeks(LOG)
    assert len(pages_of(made, {rows[0].chain: ((0, 100),)}, rows[0].week)) == len(rows)


def test_a_log_on_two_ends_grows_the_same_whoever_writes():
    pair = pair_of_logs()
    pair.connect()
    pair.run()
    for number in range(40):
        end = pair.ends[number * 7 % 3 % 2]
        pair.write(end, LOG, f"{number}")
        pair.run(number % 17)
    for end in pair.ends:
        pair.handle(end, Committed())
    pair.run()
    assert ids_of(pair.a.store) == ids_of(pair.b.store)
    sent = sum(len(bundle.entries) for end in pair.ends for bundle in end.said(wire.Entries))
    assert sent == 40
