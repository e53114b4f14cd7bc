"""The ladder: each way to find a difference by itself, with every scope, and with a follower that lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from mlog import limits
from mlog.log import receipts
from mlog.log.ids import EntryId, Incarnation
from mlog.log.memory import MemoryStore
from mlog.log.merkle import refresh_digests
from mlog.log.peers import SyncState
from mlog.log.replica import Replica
from mlog.log.scope import bodies_root, entries_root
from mlog.log.store import LogKind
from mlog.protocol import answering, sketch, wire
from mlog.protocol.events import Committed, SyncNow
from mlog.protocol.marks import encode_marks
from mlog.protocol.vector import Held, chain_tag, encode_vector
from tests.log.support import START_MS, message

from .pair import (
    HOUR_MS,
    ROUND_TRIP_MS,
    WEEK_MS,
    Pair,
    Puppet,
    drafts,
    give,
    ids_of,
    pair_of_logs,
    replica,
    share,
    trust,
)

LOG = 1


def differing(here: int = 3, there: int = 4, *, common: int = 5, logs: int = 1) -> Pair:
    """Both hold `common` more, and each some that the other lacks."""
    pair = pair_of_logs(logs)
    a, b = pair.a.replica, pair.b.replica
    a.write(LOG, drafts(*(f"both {n}" for n in range(common))), START_MS)
    give(a, b, LOG)
    if here:
        a.write(LOG, drafts(*(f"here {n}" for n in range(here))), START_MS)
    if there:
        b.write(LOG, drafts(*(f"there {n}" for n in range(there))), START_MS)
    return pair


def met(pair: Pair, for_ms: int = 1000) -> Pair:
    pair.connect()
    pair.run(for_ms)
    assert not [*pair.a.closed, *pair.b.closed]
    return pair


def same(pair: Pair) -> bool:
    return ids_of(pair.a.store) == ids_of(pair.b.store)


def state_of(replica: Replica) -> SyncState:
    return replica.store.syncs(LOG)[0].state


@pytest.fixture
def no_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "may_encode", lambda held: False)


@pytest.fixture
def no_sketches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SKETCHED_IDS_MIN", 10**9)


# -- each way by itself ----------------------------------------------------------------------


def test_logs_that_are_equal_take_an_offer_and_an_answer():
    pair = met(pair_of_logs())
    assert (pair.a.ladder, pair.b.ladder) == (["Offer"], ["Answer"])
    assert pair.a.told("equal")[0].round_trips == 1


def test_both_sides_hold_a_proof_of_what_is_equal():
    pair = met(differing())
    assert same(pair)
    for end in pair.ends:
        other = pair.other(end).replica
        (row,) = end.store.receipts(LOG)
        device, statement = receipts.check_receipt(row.proof)
        assert device == row.device == other.device_id
        assert statement.entries == row.entries == len(ids_of(end.store))
        assert statement.topic == end.replica.log(LOG).keys.topic
        assert row.expires_ms - row.time_ms == limits.RECEIPT_LIFE_MS
        assert state_of(end.replica) == SyncState.EQUAL


def test_a_chain_vector_explains_what_is_new_on_both_sides():
    pair = met(differing())
    assert same(pair)
    assert pair.a.ladder == ["Offer", "Want", "Have", "Entries", "Offer"]
    assert pair.b.ladder == ["Answer", "Entries", "Answer"]


@pytest.mark.parametrize(("here", "there"), [(4, 0), (0, 4)])
def test_a_chain_vector_asks_for_nothing_where_nothing_lacks(here: int, there: int):
    pair = met(differing(here, there))
    assert same(pair)
    assert bool(pair.a.said(wire.Want)) == bool(there)
    assert bool(pair.a.said(wire.Have)) == bool(here)


def test_a_whole_log_goes_to_a_device_that_has_only_its_secrets():
    for end in (0, 1):
        a, b = replica(0), replica(1)
        trust(a, b)
        holder, other = (a, b)[end], (a, b)[1 - end]
        share(holder, other, holder.create_log(LogKind.CONVERSATION, drafts(*map(str, range(50))), START_MS))
        pair = met(Pair(a, b))
        assert same(pair)
        assert len(ids_of(other.store)) == 51
        # An empty vector says that nothing is held; so the entries come in the order of their making.
        assert not pair.a.said(wire.AskWeeks)
        assert [r.seq for r in other.store.arrivals(LOG, 0, 1000)] == list(range(51))


def test_holes_are_found_by_their_numbers_in_one_round_trip():
    pair = pair_of_logs()
    rows = pair.a.replica.write(LOG, drafts(*map(str, range(200))), START_MS)
    holes = {row.id for row in rows[5:195:19]}
    assert len(holes) == 10
    give(pair.a.replica, pair.b.replica, LOG, {row.id for row in rows} - holes)
    # Handshake; offer and answer; what was found to lack, in one bundle.
    met(pair, 2 * ROUND_TRIP_MS + ROUND_TRIP_MS // 2)
    assert same(pair)
    pair.run()
    (have,) = pair.a.said(wire.Have)
    (bundle,) = pair.a.said(wire.Entries)
    assert len(bundle.entries) == 10
    assert len(have.vector) < 20
    # Known after the first answer: all that follows is the entries themselves.
    asked = [*pair.a.said(wire.Offer)[:1], *pair.b.said(wire.Answer)[:1], have]
    assert sum(len(wire.encode(message)) for message in asked) <= 300


def test_without_a_vector_few_ids_are_listed(no_vectors: None):
    pair = met(differing())
    assert same(pair)
    assert pair.a.ladder == ["Offer", "AskWeeks", "AskIds", "Want", "Entries", "Offer"]
    assert pair.b.ladder == ["Answer", "Weeks", "Ids", "Entries", "Answer"]


def test_without_a_vector_many_ids_are_sketched(no_vectors: None):
    pair = met(differing(40, 40, common=300))
    assert same(pair)
    assert "AskIds" not in pair.a.ladder
    assert [name for name in pair.a.ladder if name != "AskCells"] == [
        "Offer",
        "AskWeeks",
        "Want",
        "Entries",
        "Offer",
    ]
    want = pair.a.said(wire.Want)[0]
    assert len(want.shorts) == 40 * 7


def test_where_only_the_follower_has_much_it_is_sketched_and_not_listed(no_vectors: None):
    pair = met(differing(2, 300, common=3))
    assert same(pair)
    assert "AskIds" not in pair.a.ladder
    # A list has 32 bytes for each.
    assert sum(len(said.cells) for said in pair.b.said(wire.Cells)) < 300 * 20


def test_a_sketch_that_does_not_decode_leads_to_lists_of_ids(
    no_vectors: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sketch, "next_cells", lambda *_: 0)
    pair = met(differing(60, 60, common=300))
    assert same(pair)
    assert pair.a.ladder[:4] == ["Offer", "AskWeeks", "AskCells", "AskIds"]


def test_lists_of_ids_come_in_pages(no_vectors: None, no_sketches: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "WANTED_IDS_MAX", 10)
    pair = met(differing(15, 25, common=12))
    assert same(pair)
    assert len(pair.a.said(wire.AskIds)) == 4
    assert len(pair.a.said(wire.Want)) == 3


def test_a_large_sketch_is_asked_for_in_parts(no_vectors: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "ASKED_CELLS_MAX", 16)
    pair = met(differing(40, 40, common=300))
    assert same(pair)
    spans = [(ask.start, ask.stop) for ask in pair.a.said(wire.AskCells)]
    assert all(stop - start <= 16 for start, stop in spans)
    assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]]


def test_several_logs_are_sketched_side_by_side(no_vectors: None):
    pair = pair_of_logs(3)
    for log in (1, 2, 3):
        pair.a.replica.write(log, drafts(*map(str, range(300))), START_MS)
        give(pair.a.replica, pair.b.replica, log)
        for end in pair.ends:
            end.replica.write(log, drafts(*map(str, range(40))), START_MS)
    pair.connect()
    pair.run(20_000)
    assert not pair.b.closed
    for log in (1, 2, 3):
        assert ids_of(pair.a.store, log) == ids_of(pair.b.store, log)
        assert len(ids_of(pair.a.store, log)) > 300
    assert len(pair.a.said(wire.AskCells)) >= 3
    assert not pair.a.said(wire.AskIds)


def test_weeks_that_are_equal_are_neither_sketched_nor_listed(no_vectors: None, no_sketches: None):
    pair = pair_of_logs()
    for week in range(5):
        pair.a.replica.write(LOG, drafts(f"{week}"), START_MS + week * WEEK_MS)
    give(pair.a.replica, pair.b.replica, LOG)
    pair.b.replica.write(LOG, drafts("only there"), START_MS + 3 * WEEK_MS)
    pair.now_ms += 5 * WEEK_MS
    met(pair)
    assert same(pair)
    assert len(pair.a.said(wire.AskIds)) == 1


def test_copies_that_cannot_be_mended_are_marked_after_three_passes_and_then_silence(
    monkeypatch: pytest.MonkeyPatch,
):
    pair = differing(0, 3)
    # The follower never finds what it is asked for, as one whose disk gives other bytes.
    monkeypatch.setattr(pair.b.replica, "sealed_of", lambda *_, **__: [])
    met(pair)
    assert state_of(pair.a.replica) == SyncState.DIFFERING
    assert len(pair.a.told("differing")) == 1
    assert len(pair.a.said(wire.Offer)) == 4
    frames = [end.frames for end in pair.ends]
    pair.run(HOUR_MS)
    assert [end.frames for end in pair.ends] == frames
    # A change on either side gives it another chance.
    monkeypatch.undo()
    pair.write(pair.b, LOG, "something changes")
    pair.run(2 * limits.SETTLE_MS)
    assert same(pair)
    assert state_of(pair.a.replica) == SyncState.EQUAL


def test_sync_now_gives_differing_copies_another_chance(monkeypatch: pytest.MonkeyPatch):
    pair = differing(0, 3)
    monkeypatch.setattr(pair.b.replica, "sealed_of", lambda *_, **__: [])
    met(pair)
    monkeypatch.undo()
    pair.handle(pair.b, SyncNow())
    pair.run()
    assert same(pair)


def test_what_is_committed_while_a_comparison_fails_is_pushed_all_the_same(monkeypatch: pytest.MonkeyPatch):
    pair = differing(0, 3)
    hidden = {row.id for row in pair.b.store.arrivals(LOG, 0, 1000)}
    real = pair.b.replica.sealed_of

    def without_hidden(log: int, rows: list[Any], *, bodies: bool) -> list[Any]:
        return real(log, [row for row in rows if row.id not in hidden], bodies=bodies)

    monkeypatch.setattr(pair.b.replica, "sealed_of", without_hidden)
    pair.connect()
    written: set[EntryId] = set()
    for number in range(12):
        pair.run(ROUND_TRIP_MS // 2 + number % 3)
        # Written by another process: the node hears of it when it makes its next step.
        rows = pair.b.replica.write(LOG, drafts(f"meanwhile {number}"), pair.now_ms)
        written.update(row.id for row in rows)
    pair.write(pair.b, LOG, "the last one")
    pair.run()
    assert written <= ids_of(pair.a.store)


def test_a_log_that_is_written_to_all_the_time_is_not_called_differing():
    pair = differing(30, 30)
    pair.connect()
    for number in range(60):
        pair.run(7)
        pair.write(pair.ends[number % 2], LOG, f"{number}")
    pair.run(2 * limits.SETTLE_MS)
    assert same(pair)
    assert not pair.a.told("differing")


def test_more_logs_than_one_offer_names_are_offered_in_several(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "OFFERED_LOGS_MAX", 4)
    pair = met(pair_of_logs(10))
    assert [len(offer.logs) // 38 for offer in pair.a.said(wire.Offer)] == [4, 4, 2]
    assert {notice.log for notice in pair.a.told("equal")} == set(range(1, 11))


def test_a_vector_that_is_too_long_gives_way_to_segments(monkeypatch: pytest.MonkeyPatch):
    for name, most in [
        ("VECTOR_CHAINS_MAX", 1),
        ("VECTOR_HOLES_MAX", 1),
        ("ANSWERED_VECTORS_SIZE_MAX_BYTES", 5),
    ]:
        with monkeypatch.context() as patch:
            pair = differing()
            patch.setattr(limits, name, most)
            met(pair)
            assert same(pair)
            assert [d.vector for answer in pair.b.said(wire.Answer) for d in answer.differs] == [None]


def test_a_leader_with_too_many_chains_says_no_vector_and_goes_by_the_one_it_heard(
    monkeypatch: pytest.MonkeyPatch,
):
    pair = differing(3, 4)
    for number in range(6):
        run = pair.a.replica.begin_run(LOG)
        pair.a.replica.write_run(run, drafts(f"run {number}"), START_MS)
    monkeypatch.setattr(limits, "VECTOR_CHAINS_MAX", 5)
    met(pair)
    assert same(pair)
    assert pair.a.said(wire.Want)[0].chains
    assert not pair.a.said(wire.Have, wire.AskWeeks)


@pytest.mark.parametrize("leads", [0, 1])
def test_a_log_with_more_holes_than_a_vector_may_have_is_compared_by_segments(
    leads: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "VECTOR_HOLES_MAX", 8)
    pair = pair_of_logs()
    rows = pair.a.replica.write(LOG, drafts(*map(str, range(60))), START_MS)
    give(pair.a.replica, pair.b.replica, LOG, {row.id for row in rows[::2]})
    pair.connect(pair.ends[leads])
    pair.run()
    assert not [*pair.a.closed, *pair.b.closed]
    assert same(pair)
    assert pair.ends[leads].said(wire.AskWeeks)


def test_more_than_512_chains_compare_by_segments():
    pair = pair_of_logs()
    a = pair.a.replica
    for number in range(limits.VECTOR_CHAINS_MAX + 1):
        a.appender.incarnation = Incarnation(number.to_bytes(8, "big"))
        a.write(LOG, drafts(f"{number}"), START_MS)
    give(a, pair.b.replica, LOG)
    pair.b.replica.write(LOG, drafts("one more"), START_MS)
    met(pair)
    assert same(pair)
    assert pair.b.said(wire.Answer)[0].differs[0].vector is None


# -- scopes ----------------------------------------------------------------------------------


def history(weeks: int = 20) -> Pair:
    """A wrote one message a week, the newest now; B has the secrets only."""
    a, b = replica(0), replica(1)
    trust(a, b)
    log = a.create_log(LogKind.CONVERSATION, [], START_MS - weeks * WEEK_MS)
    for week in range(1, weeks):
        a.write(log, drafts(f"week {week}"), START_MS - (weeks - week) * WEEK_MS)
    share(a, b, log)
    return Pair(a, b)


def weeks_of(store: Any) -> list[int]:
    return sorted(row.week for row in store.arrivals(LOG, 0, 1000))


@pytest.mark.parametrize("leads", [0, 1])
@pytest.mark.parametrize("windows", [(0, 30), (30, 0), (60, 30), (30, 30)])
def test_windows_compare_over_the_later_of_both_starts(leads: int, windows: tuple[int, int]):
    pair = history()
    for end, days in zip(pair.ends, windows, strict=True):
        end.store.set_window(LOG, days, fetch_bodies=True)
    pair.connect(pair.ends[leads])
    pair.run()
    assert not [*pair.a.closed, *pair.b.closed]
    first = max(weeks_of(pair.a.store)) - min(days for days in windows if days) // 7
    inside = [week for week in weeks_of(pair.a.store) if week >= first]
    assert 4 <= len(inside) <= 5
    assert [week for week in weeks_of(pair.b.store) if week >= first] == inside
    for end in pair.ends:
        assert state_of(end.replica) == SyncState.EQUAL
        (row,) = end.store.receipts(LOG)
        assert row.first_week >= first
        assert receipts.check_receipt(row.proof)[1].entries == row.entries <= len(inside)


def test_what_is_wanted_of_a_window_comes_newest_week_first():
    pair = history()
    pair.b.store.set_window(LOG, 90, fetch_bodies=True)
    pair.connect(pair.b)
    pair.run()
    # What the window carries along comes before all.
    carried, bundle = pair.a.said(wire.Entries)[:2]
    assert len(carried.entries) == 1
    weeks = [int.from_bytes(packed.head[:2], "big") for packed in bundle.entries]
    assert len(weeks) >= 12
    assert weeks == sorted(weeks, reverse=True)


def test_what_another_process_just_stored_is_sent_into_a_window_too():
    pair = history()
    pair.b.store.set_window(LOG, 30, fetch_bodies=True)
    pair.connect(pair.b)
    pair.run(ROUND_TRIP_MS + ROUND_TRIP_MS)
    # The answer is out; the digests of this week are stale when the request for it comes.
    pair.a.replica.write(LOG, drafts("just now"), START_MS)
    pair.run()
    assert max(weeks_of(pair.b.store)) == max(weeks_of(pair.a.store))
    assert {row.id for row in pair.a.store.arrivals(LOG, 0, 1000)[-3:]} <= ids_of(pair.b.store)


def test_a_window_that_grows_fetches_what_it_did_not_want_before():
    pair = history()
    pair.b.store.set_window(LOG, 30, fetch_bodies=True)
    pair.connect()
    pair.run()
    assert not same(pair)
    pair.b.store.set_window(LOG, 0, fetch_bodies=True)
    for end in pair.ends:
        pair.handle(end, SyncNow())
    pair.run()
    assert same(pair)


def test_live_push_ignores_windows():
    pair = history()
    pair.b.store.set_window(LOG, 30, fetch_bodies=True)
    pair.connect()
    pair.run()
    run = pair.a.replica.begin_run(LOG)
    old = [msgspec.structs.replace(message("imported"), time_ms=START_MS - 300 * 24 * HOUR_MS)]
    source = pair.a.replica.write_run(run, old, pair.now_ms).rows
    pair.handle(pair.a, Committed())
    pair.run()
    assert {row.id for row in source} <= ids_of(pair.b.store)


@pytest.mark.parametrize("leads", [0, 1])
@pytest.mark.parametrize("fetching", [(True, False), (False, True), (False, False)])
def test_a_side_that_wants_no_bodies_compares_entries_only(leads: int, fetching: tuple[bool, bool]):
    pair = differing(3, 4)
    for end, bodies in zip(pair.ends, fetching, strict=True):
        end.store.set_window(LOG, 0, fetch_bodies=bodies)
    pair.connect(pair.ends[leads])
    pair.run()
    assert not [*pair.a.closed, *pair.b.closed]
    assert same(pair)
    for end, bodies in zip(pair.ends, fetching, strict=True):
        assert state_of(end.replica) == SyncState.EQUAL
        (row,) = end.store.receipts(LOG)
        assert receipts.check_receipt(row.proof)[1].bodies == row.bodies == 0
        came = [r for r in end.store.arrivals(LOG, 0, 1000) if r.body is None]
        if not bodies:
            assert len(came) >= 3
        else:
            assert bool(came) == (not all(fetching)) or not came


@pytest.mark.parametrize("fetching", [(True, False), (False, True)])
def test_bodies_are_not_sent_to_who_does_not_want_them_whatever_the_pass(
    fetching: tuple[bool, bool], no_vectors: None
):
    pair = differing(3, 4)
    for end, bodies in zip(pair.ends, fetching, strict=True):
        end.store.set_window(LOG, 0, fetch_bodies=bodies)
    met(pair)
    for end, bodies in zip(pair.ends, fetching, strict=True):
        packed = [p for bundle in pair.other(end).said(wire.Entries) for p in bundle.entries]
        assert packed
        assert all((p.body is not None) == bodies for p in packed)


def test_bodies_that_are_wanted_later_are_fetched():
    pair = differing(0, 4)
    pair.a.store.set_window(LOG, 0, fetch_bodies=False)
    met(pair)
    assert [row.body for row in pair.a.store.arrivals(LOG, 0, 1000)].count(None) == 4
    pair.a.store.set_window(LOG, 0, fetch_bodies=True)
    pair.handle(pair.a, SyncNow())
    pair.run()
    assert None not in [row.body for row in pair.a.store.arrivals(LOG, 0, 1000)]
    assert state_of(pair.a.replica) == SyncState.EQUAL


# -- logs that one side cannot read ----------------------------------------------------------


def blind_pair(*, blind_leads: bool, known: int = 0) -> tuple[Pair, Replica, Replica]:
    """A member and a holder that stores its log without being able to read it."""
    member, holder = replica(0), replica(1)
    trust(member, holder)
    log = member.create_log(LogKind.CONVERSATION, drafts(*map(str, range(150))), START_MS)
    holder.add_blind_log(member.log(log).keys.topic)
    if known:
        give(member, holder, log, {row.id for row in member.store.arrivals(log, 0, known)})
    return (Pair(holder, member) if blind_leads else Pair(member, holder)), member, holder


@pytest.mark.parametrize("blind_leads", [False, True])
@pytest.mark.parametrize("known", [0, 140])
def test_a_blind_holder_gets_the_log_and_gives_it_back(blind_leads: bool, known: int):
    pair, member, holder = blind_pair(blind_leads=blind_leads, known=known)
    met(pair)
    assert same(pair)
    assert not pair.a.said(wire.Have)
    # Never by ranges of chains, which a blind holder cannot see: it would take all again.
    assert not any(want.chains for end in (pair.a, pair.b) for want in end.said(wire.Want))
    # Another device of the member, which has the secrets and nothing else, gets it from the holder.
    third = replica(2)
    trust(third, holder)
    share(member, third, LOG)
    other = met(Pair(holder, third, seed="third") if blind_leads else Pair(third, holder, seed="third"))
    assert same(other)
    assert [row.body for row in third.store.arrivals(LOG, 0, 1000)].count(None) == 0


def test_two_blind_holders_agree():
    member, one, other = replica(0), replica(1), replica(2)
    trust(one, other)
    member.create_log(LogKind.CONVERSATION, drafts(*map(str, range(150))), START_MS)
    rows = member.store.arrivals(LOG, 0, 1000)
    for holder, part in ((one, rows[:130]), (other, rows[20:])):
        holder.add_blind_log(member.log(LOG).keys.topic)
        give(member, holder, LOG, {row.id for row in part})
    pair = met(Pair(one, other))
    assert same(pair)
    assert len(ids_of(one.store)) == len(rows)
    assert pair.a.said(wire.AskCells)


def test_live_entries_reach_a_blind_holder():
    pair, _, _ = blind_pair(blind_leads=False)
    met(pair)
    pair.write(pair.a, LOG, "live")
    pair.run()
    assert same(pair)


# -- forks -----------------------------------------------------------------------------------


def forked_pair() -> tuple[Pair, set[EntryId]]:
    """One device wrote two branches of a chain, of which A and B hold one each."""
    pair = pair_of_logs()
    first = replica(0, MemoryStore(), seed="")
    pair.a.replica.write(LOG, drafts(*map(str, range(10))), START_MS)
    give(pair.a.replica, pair.b.replica, LOG)
    share(pair.a.replica, first, LOG)
    give(pair.a.replica, first, LOG)
    pair.a.replica.write(LOG, drafts("one", "branch"), START_MS)
    other = first.write(LOG, drafts("another", "branch"), START_MS)
    give(first, pair.b.replica, LOG)
    return pair, {row.id for row in other}


@pytest.mark.parametrize("leads", [0, 1])
def test_two_branches_of_a_chain_reach_both_sides(leads: int):
    pair, branch = forked_pair()
    pair.connect(pair.ends[leads])
    pair.run()
    assert same(pair)
    assert branch <= ids_of(pair.a.store)
    assert len(pair.a.store.forks(LOG)) == len(pair.b.store.forks(LOG)) == 1
    assert state_of(pair.a.replica) == SyncState.EQUAL


@pytest.mark.parametrize("leads", [0, 1])
def test_a_side_that_knows_both_branches_does_not_ask_for_the_chain_again(leads: int):
    pair, branch = forked_pair()
    give(pair.b.replica, pair.a.replica, LOG, branch)
    pair.connect(pair.ends[leads])
    pair.run()
    assert same(pair)
    for end in pair.ends:
        sent = [packed for bundle in end.said(wire.Entries) for packed in bundle.entries]
        assert len(sent) <= 2


@pytest.mark.parametrize("leads", [0, 1])
def test_holes_in_a_forked_chain_are_filled_from_whichever_branch(leads: int):
    pair, branch = forked_pair()
    give(pair.b.replica, pair.a.replica, LOG, branch)
    a = pair.a.replica
    all_ids = [row.id for row in a.store.arrivals(LOG, 0, 1000)]
    third = replica(2)
    trust(a, third)
    share(a, third, LOG)
    give(a, third, LOG, set(all_ids) - {all_ids[4], all_ids[-3]})
    pair = Pair(a, third, seed="third")
    pair.connect(pair.ends[leads])
    pair.run()
    assert same(pair)


# -- comparing only --------------------------------------------------------------------------


def test_inspecting_tells_what_differs_and_transfers_nothing():
    pair = differing(3, 4, logs=2)
    found: dict[int, tuple[set[EntryId], set[EntryId]]] = {}
    before = ids_of(pair.a.store), ids_of(pair.b.store)

    def inspect(log: int, here: Sequence[EntryId], there: Sequence[EntryId]) -> None:
        known = found.setdefault(log, (set(), set()))
        known[0].update(here)
        known[1].update(there)

    pair = Pair(pair.a.replica, pair.b.replica, inspect=inspect)
    met(pair)
    assert found == {LOG: (before[0] - before[1], before[1] - before[0])}
    assert (ids_of(pair.a.store), ids_of(pair.b.store)) == before
    assert not pair.a.said(wire.Entries, wire.Want)
    assert not pair.b.said(wire.Entries, wire.Want)
    assert [notice.log for notice in pair.a.told("equal")] == [2]


def test_inspecting_goes_on_while_the_other_side_writes():
    pair = differing(3, 4)
    pair = Pair(pair.a.replica, pair.b.replica, inspect=lambda *_: None)
    met(pair)
    before = ids_of(pair.a.store)
    pair.write(pair.b, LOG, "not for an inspector")
    pair.b.replica.create_log(LogKind.CONVERSATION, [], pair.now_ms)
    pair.write(pair.b, LOG, "and no secrets")
    pair.run()
    assert not [*pair.a.closed, *pair.b.closed]
    assert ids_of(pair.a.store) == before
    assert not pair.b.said(wire.Grant)


# -- a follower that lies --------------------------------------------------------------------


class Liar(Puppet):
    """A follower that shares one log with the real leader and says what a test has it say."""

    def __init__(self, entries: int = 3):
        real = replica(0)
        real.create_log(LogKind.CONVERSATION, drafts(*map(str, range(entries))), START_MS)
        super().__init__(real, leads=False)
        self.greet()
        self.offer = self.take(wire.Offer)
        self.tag = self.offer.logs[: wire.TAG_SIZE]

    def differs(self, **fields: Any) -> wire.Differs:
        base = wire.Differs(0, 0, True, bytes(16), bytes(16), None)
        return msgspec.structs.replace(base, **fields)

    def answer(self, *differs: wire.Differs, equal: bytes = b"\0") -> list[wire.Message]:
        return self.say(wire.Answer(self.take(wire.Offer).serial, equal, differs))

    @property
    def state(self) -> SyncState | None:
        syncs = self.replica.store.syncs(LOG)
        return syncs[0].state if syncs else None


@pytest.mark.parametrize(
    "answer",
    [
        lambda liar: wire.Answer(liar.offer.serial + 1, b"\0"),
        lambda liar: wire.Answer(liar.offer.serial, b""),
        lambda liar: wire.Answer(liar.offer.serial, b"\0\0"),
        lambda liar: wire.Answer(liar.offer.serial, b"\0", (liar.differs(index=1),)),
        lambda liar: wire.Answer(liar.offer.serial, b"\0", (liar.differs(), liar.differs())),
        lambda liar: wire.Answer(liar.offer.serial, b"\1", (liar.differs(),)),
        lambda liar: wire.Answer(liar.offer.serial, b"\0", (liar.differs(vector=b"x"),)),
    ],
    ids=["serial", "too short", "too long", "no such log", "twice", "equal and differs", "vector"],
)
def test_an_answer_that_cannot_be_closes_the_session(answer: Callable[[Liar], wire.Message]):
    liar = Liar()
    liar.say(answer(liar))
    assert len(liar.closed) == 1
    assert liar.state != SyncState.EQUAL


def test_bits_beyond_the_last_log_are_ignored():
    liar = Liar()
    liar.answer(equal=b"\xff")
    assert not liar.closed
    assert liar.state == SyncState.EQUAL


def test_a_false_equal_is_believed_only_with_a_signature_and_gives_no_proof_without():
    liar = Liar()
    liar.answer(equal=b"\1")
    assert liar.replica.store.receipts() == []
    liar.say(wire.Receipt(liar.offer.serial, START_MS, START_MS + 1, bytes(64)))
    assert liar.closed == ["a receipt that is not signed by its holder"]
    assert liar.replica.store.receipts() == []


def test_a_receipt_whose_end_is_before_its_time_closes_the_session():
    liar = Liar()
    liar.answer(equal=b"\1")
    liar.say(wire.Receipt(liar.offer.serial, START_MS, START_MS - 1, bytes(64)))
    assert liar.closed
    assert liar.replica.store.receipts() == []


def test_a_receipt_for_nothing_closes_the_session():
    liar = Liar()
    liar.answer(liar.differs())
    liar.say(wire.Receipt(liar.offer.serial, START_MS, START_MS + 1, bytes(64)))
    assert liar.closed == ["a receipt for nothing"]


def serve_honestly(liar: Liar, reply: Callable[[wire.Message], wire.Message | None]) -> int:
    """Answer all that the leader says until it says no more; gives how many rounds that took."""
    at = len(liar.heard) - 1
    rounds = 0
    while at < len(liar.heard) and not liar.closed:
        rounds += 1
        assert rounds < 100, "it never gives up"
        said = reply(liar.heard[at])
        at += 1
        if said is not None:
            liar.say(said)
    return rounds


def lying_replies(liar: Liar, **fields: Any) -> Callable[[wire.Message], wire.Message | None]:
    def reply(heard: wire.Message) -> wire.Message | None:
        match heard:
            case wire.Offer():
                return wire.Answer(heard.serial, b"\0", (liar.differs(**fields),))
            case wire.Want():
                return wire.Done(heard.request, 1)
            case wire.AskWeeks():
                return wire.Weeks(heard.tag, heard.attempt, 0, b"")
            case wire.AskIds():
                return wire.Ids(heard.tag, heard.week, heard.after, b"", more=False)
            case wire.AskCarried():
                return wire.Same(heard.tag)
            case wire.AskCells():
                cells = bytes(9 * (heard.stop - heard.start))
                return wire.Cells(heard.tag, heard.attempt, 1000, heard.start, cells)
            case wire.Entries():
                return wire.Ack(heard.serial, len(heard.entries))
            case _:
                return None

    return reply


def far_chain(liar: Liar) -> bytes:
    tag = chain_tag(liar.binding, liar.keys.id, Incarnation(bytes(8)))
    return encode_vector({tag: Held(0, ((0, limits.SEQ_MAX - 1),))})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"entries_root": bytes(range(16))},
        {"bodies": False},
        {"first_week": limits.WEEK_MAX},
        {"first_week": 1200},
        {"vector": far_chain},
    ],
    ids=["roots", "other roots", "no bodies", "last week", "some week", "vector"],
)
def test_a_follower_that_always_differs_is_marked_and_left_in_peace(fields: dict[str, Any]):
    liar = Liar(entries=120)
    filled = {name: value(liar) if callable(value) else value for name, value in fields.items()}
    rounds = serve_honestly(liar, lying_replies(liar, **filled))
    assert rounds < 40
    assert liar.closed or liar.state == SyncState.DIFFERING
    said = len(liar.heard)
    liar.pass_time(HOUR_MS)
    assert len(liar.heard) == said


def test_a_follower_that_narrows_what_is_compared_for_ever_is_given_up():
    liar = Liar()
    weeks = iter(range(1, 10_000))

    def reply(heard: wire.Message) -> wire.Message | None:
        if not isinstance(heard, wire.Offer):
            return lying_replies(liar)(heard)
        week = next(weeks)
        digests = refresh_digests(liar.replica.store, LOG)
        entries, bodies = entries_root(digests, week)[:16], bodies_root(digests, week)[:16]
        return wire.Answer(
            heard.serial, b"\0", (liar.differs(first_week=week, entries_root=entries, bodies_root=bodies),)
        )

    assert serve_honestly(liar, reply) < 40


@pytest.mark.parametrize(
    "false",
    [
        lambda ask: wire.Weeks(ask.tag, ask.attempt, 0, b"x"),
        lambda ask: wire.Weeks(ask.tag, ask.attempt, 0, bytes.fromhex("0000000100000000") * 2),
        lambda ask: wire.Weeks(bytes(6), ask.attempt, 0, b""),
        lambda ask: wire.Weeks(ask.tag, ask.attempt + 1, 0, b""),
        lambda ask: wire.Ids(ask.tag, 0, bytes(32), b"", more=False),
        lambda ask: wire.Cells(ask.tag, 1, 0, 0, b""),
    ],
    ids=["cut off", "week twice", "another log", "another attempt", "ids", "cells"],
)
def test_segments_that_cannot_be_close_the_session(false: Callable[[wire.AskWeeks], wire.Message]):
    liar = Liar()
    liar.answer(liar.differs())
    liar.say(false(liar.take(wire.AskWeeks)))
    assert len(liar.closed) == 1


@pytest.mark.parametrize(
    "false",
    [
        lambda ask: wire.Ids(ask.tag, ask.week + 1, ask.after, b"", more=False),
        lambda ask: wire.Ids(ask.tag, ask.week, bytes([1]) * 32, b"", more=False),
        lambda ask: wire.Ids(ask.tag, ask.week, ask.after, b"x", more=False),
        lambda ask: wire.Ids(ask.tag, ask.week, ask.after, bytes([2]) * 32 + bytes([1]) * 32, more=False),
        lambda ask: wire.Ids(ask.tag, ask.week, ask.after, bytes([1]) * 64, more=False),
        lambda ask: wire.Ids(ask.tag, ask.week, ask.after, bytes(32), more=False),
    ],
    ids=["week", "cursor", "cut off", "order", "twice", "not behind the cursor"],
)
def test_ids_that_cannot_be_close_the_session(false: Callable[[wire.AskIds], wire.Message]):
    liar = Liar()
    liar.answer(liar.differs())
    liar.say(wire.Weeks(liar.tag, 1, 0, b""))
    liar.say(false(liar.take(wire.AskIds)))
    assert len(liar.closed) == 1


def test_a_segment_without_end_closes_the_session(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "SEGMENT_IDS_MAX", 50)
    liar = Liar()
    liar.answer(liar.differs())
    liar.say(wire.Weeks(liar.tag, 1, 0, b""))
    for start in range(1, 200, 10):
        ask = liar.take(wire.AskIds)
        ids = b"".join(number.to_bytes(32, "big") for number in range(start, start + 10))
        liar.say(wire.Ids(ask.tag, ask.week, ask.after, ids, more=True))
        if liar.closed:
            break
    assert liar.closed == ["a segment of more than 50 entries"]


def sketching(liar: Liar) -> wire.AskCells:
    liar.answer(liar.differs())
    week = liar.replica.store.digests(LOG)[0].week
    liar.say(wire.Weeks(liar.tag, 1, 200, encode_marks({week: bytes(4)})))
    return liar.take(wire.AskCells)


@pytest.mark.parametrize(
    "false",
    [
        lambda ask: wire.Cells(ask.tag, ask.attempt + 1, 200, ask.start, bytes(9 * ask.stop)),
        lambda ask: wire.Cells(ask.tag, ask.attempt, 200, ask.start + 1, bytes(9 * ask.stop)),
        lambda ask: wire.Cells(ask.tag, ask.attempt, 200, ask.start, bytes(9 * ask.stop - 9)),
        lambda ask: wire.Cells(ask.tag, ask.attempt, 200, ask.start, bytes(9 * ask.stop + 9)),
        lambda ask: wire.Cells(ask.tag, ask.attempt, 200, ask.start, b""),
    ],
    ids=["attempt", "start", "too few", "too many", "none"],
)
def test_cells_that_cannot_be_close_the_session(false: Callable[[wire.AskCells], wire.Message]):
    liar = Liar(entries=150)
    liar.say(false(sketching(liar)))
    assert len(liar.closed) == 1


@pytest.mark.parametrize("count", [0, 1, 151, 10**6, limits.SEQ_MAX])
def test_random_cells_and_counts_lead_to_lists_of_ids(count: int):
    liar = Liar(entries=150)
    ask = sketching(liar)
    for _ in range(100):
        noise = blake3(f"{ask.start}".encode()).digest(length=9 * (ask.stop - ask.start))
        said = liar.say(wire.Cells(ask.tag, ask.attempt, count, ask.start, noise))
        assert not liar.closed
        if not said or not isinstance(said[-1], wire.AskCells):
            break
        ask = said[-1]
    assert isinstance(liar.heard[-1], wire.AskIds)


@pytest.mark.parametrize(
    "unasked",
    [
        wire.Weeks(bytes(6), 1, 0, b""),
        wire.Cells(bytes(6), 1, 0, 0, b""),
        wire.Ids(bytes(6), 0, bytes(32), b"", more=False),
        wire.Done(1),
        wire.Ack(1),
        wire.Page(1, 0, bytes(32), True, b"", ()),
        wire.Answer(1, b""),
    ],
    ids=lambda message: type(message).__name__,
)
def test_answers_to_nothing_close_the_session(unasked: wire.Message):
    liar = Liar()
    liar.answer(equal=b"\1")
    liar.say(msgspec.structs.replace(unasked, **({"tag": liar.tag} if hasattr(unasked, "tag") else {})))
    assert len(liar.closed) == 1


def test_an_acknowledgement_of_more_than_was_sent_closes_the_session():
    liar = Liar()
    liar.answer(equal=b"\1")
    liar.replica.write(LOG, drafts("live"), START_MS)
    liar.event(Committed())
    bundle = liar.take(wire.Entries)
    liar.say(wire.Ack(bundle.serial, len(bundle.entries) + 1))
    assert liar.closed == ["an acknowledgement of what was not sent"]
