"""What a window carries along from before it: who belongs to the log, how it is called, what is erased."""

from __future__ import annotations

import pytest

from mlog import limits
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.ids import week_of
from mlog.log.peers import SyncState
from mlog.log.replica import Draft, Replica
from mlog.log.scope import CARRIED
from mlog.log.store import BodyState, LogKind, Reason
from mlog.protocol import wire
from tests.log.conversing import acquainted, conversation, log_of, membership_of, settle
from tests.log.persons import begin, home, meet, texts_of, trust, write
from tests.log.support import START_MS, rows_of, text
from tests.protocol import pair as pairs
from tests.protocol.pair import HOUR_MS, WEEK_MS, Pair, drafts, ids_of, share

LOG = 1
OLD_MS = START_MS - 20 * WEEK_MS
FIRST_WEEK = week_of(START_MS - 30 * 24 * HOUR_MS)


def rest(pair: Pair) -> Pair:
    pair.run(HOUR_MS)
    assert not [*pair.a.closed, *pair.b.closed]
    return pair


def rest_of(pair: Pair) -> Pair:
    pair.connect()
    return rest(pair)


def begun() -> Replica:
    """A, which began a chat twenty weeks ago."""
    a = pairs.replica(0)
    a.create_log(LogKind.CONVERSATION, [], OLD_MS)
    return a


def go_on(a: Replica) -> None:
    for week in range(20):
        a.write(LOG, drafts(f"week {week}"), OLD_MS + week * WEEK_MS)


def windowed(a: Replica) -> Replica:
    """Another device, which has the secrets only, and keeps a window of 30 days."""
    b = pairs.replica(1)
    pairs.trust(a, b)
    share(a, b, LOG)
    b.store.set_window(LOG, 30, fetch_bodies=True)
    return b


def old_chat() -> tuple[Replica, Replica]:
    a = begun()
    go_on(a)
    return a, windowed(a)


@pytest.mark.parametrize("leads", [0, 1])
def test_an_erasure_from_before_the_window_empties_what_was_written_since_to_change_the_message(leads: int):
    desktop, phone = home(0), home(1)
    trust(desktop, 0, phone, 1)
    log = begin(desktop, "talk", OLD_MS)
    topic = desktop.log(log).keys.topic
    said = write(desktop, log, Kind.MESSAGE, text("a secret"), OLD_MS)
    meet(desktop, phone, OLD_MS)
    write(desktop, log, Kind.ERASURE, bodies.Erasure(of=said.message.hex()), OLD_MS)
    for week in range(20):
        write(desktop, log, Kind.MESSAGE, text(f"week {week}"), OLD_MS + week * WEEK_MS)
    here = log_of(phone, topic)
    phone.store.set_window(here, 30, fetch_bodies=True)
    changed = bodies.Edit(of=said.message.hex(), text="the secret")
    write(phone, here, Kind.EDIT, changed, START_MS - WEEK_MS)
    edit = write(phone, here, Kind.EDIT, changed, START_MS)
    assert edit.week >= FIRST_WEEK
    pair = Pair(desktop, phone)
    pair.connect(pair.ends[leads])
    rest(pair)
    for end in pair.ends:
        n = log_of(end.replica, topic)
        assert next(sync.state for sync in end.store.syncs(n)) == SyncState.EQUAL
        (row,) = end.store.find(n, [edit.id]).values()
        assert row.body is None
    assert phone.store.find(here, [edit.id])[edit.id].state == BodyState.ERASED
    before = [row for row in phone.store.arrivals(here, 0, 1000) if row.week < FIRST_WEEK]
    assert "week 3" not in texts_of(phone, here)
    assert Kind.ERASURE in {row.kind for row in before}


@pytest.mark.parametrize("leads", [0, 1])
def test_a_device_that_keeps_a_window_knows_since_when_who_belongs_to_a_conversation(leads: int):
    founder, other = acquainted(2)
    topic = conversation(founder, other, now=OLD_MS)
    log = log_of(founder, topic)
    meet(founder, other, START_MS)
    for week in range(15):
        write(founder, log, Kind.MESSAGE, text(f"week {week}"), OLD_MS + week * WEEK_MS)
    phone = home(2)
    trust(founder, 0, phone, 2)
    for state in founder.logs():
        if state.n != log:
            share(founder, phone, state.n)
    share(founder, phone, log)
    phone.store.set_window(log_of(phone, topic), 30, fetch_bodies=True)
    pair = Pair(founder, phone)
    pair.connect(pair.ends[leads])
    rest(pair)
    settle(phone)
    assert membership_of(phone, topic).joined() == membership_of(founder, topic).joined()
    assert texts_of(phone, log_of(phone, topic)) == []
    assert next(row.title for row in phone.store.logs() if row.topic == topic) == "talk"


def test_what_both_carry_along_costs_one_question_in_a_session():
    a, b = old_chat()
    rest_of(Pair(a, b))
    pair = rest_of(Pair(a, b, seed="again"))
    assert pair.a.ladder == ["Offer", "Offer", "AskCarried"]
    assert pair.b.ladder == ["Answer", "Answer", "Same"]
    assert sum(map(len, map(wire.encode, pair.a.said(wire.AskCarried)))) < 100


def test_more_than_a_page_is_carried_along(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "WANTED_IDS_MAX", 3)
    monkeypatch.setattr(limits, "SEGMENT_SLICE_IDS", 4)
    a = begun()
    for n in range(10):
        a.write(LOG, [Draft(Kind.TITLE, bodies.Title(title=f"title {n}"), OLD_MS)], OLD_MS)
    b = windowed(a)
    go_on(a)
    b.write(LOG, [Draft(Kind.TITLE, bodies.Title(title="of B"), OLD_MS)], OLD_MS)
    pair = Pair(a, b)
    pair.connect(pair.b)
    rest(pair)
    carried = [
        {r.id for r in end.store.arrivals(LOG, 0, 1000) if r.week < FIRST_WEEK and r.kind in CARRIED}
        for end in pair.ends
    ]
    assert carried[0] == carried[1]
    assert len(carried[0]) == 12
    assert len(pair.b.said(wire.AskCarried)) > 3


def test_a_holder_that_cannot_read_says_that_it_is_the_same():
    member, holder = old_chat()[0], pairs.replica(3)
    pairs.trust(member, holder)
    holder.add_blind_log(member.log(LOG).keys.topic)
    member.store.set_window(LOG, 30, fetch_bodies=True)
    pair = rest_of(Pair(member, holder))
    assert pair.a.said(wire.AskCarried)
    assert pair.b.said(wire.Same)
    assert ids_of(pair.b.store) < ids_of(pair.a.store)
    # Nor does it ask: it does not know which these are.
    blind_leads = rest_of(Pair(holder, member, seed="blind"))
    assert not blind_leads.a.said(wire.AskCarried)


def test_what_lies_before_the_window_is_told_once_for_each_chain():
    a = begun()
    for week in range(20):
        now = OLD_MS + week * WEEK_MS
        a.write(LOG, [*drafts(f"week {week}"), Draft(Kind.TITLE, bodies.Title(title=f"t {week}"), now)], now)
    b = windowed(a)
    rest_of(Pair(a, b))
    start = min(row.seq for row in rows_of(b.store, LOG) if row.week >= FIRST_WEEK)
    told = [(m.first, m.last, m.reason) for m in b.missing(LOG, 99, FIRST_WEEK)]
    assert told == [(1, start - 2, Reason.OUTSIDE_WINDOW)], "behind them a title is here"


def test_a_new_device_that_wants_little_gets_little_from_the_first_session_on():
    a = home(0)
    log = begin(a, "talk", OLD_MS)
    for week in range(20):
        write(a, log, Kind.MESSAGE, text(f"week {week}"), OLD_MS + week * WEEK_MS)
    phone = home(1)
    phone.store.set_window_of_new(30, fetch_bodies=True)
    trust(a, 0, phone, 1)
    rest_of(Pair(a, phone))
    there = log_of(phone, a.log(log).keys.topic)
    settle(phone)
    assert [row.window_days for row in phone.store.logs() if row.kind == LogKind.CONVERSATION] == [0, 30, 30]
    assert set(texts_of(phone, there)) == {f"week {week}" for week in range(15, 20)}
    assert next(row.title for row in phone.store.logs() if row.n == there) == "talk"


def test_nobody_is_asked_where_everything_is_kept():
    a, b = old_chat()
    b.store.set_window(LOG, 0, fetch_bodies=True)
    pair = rest_of(Pair(a, b))
    assert not pair.a.said(wire.AskCarried)
