"""Standing: what is said of other devices was proven or heard, and is exact where it says so."""

from __future__ import annotations

import random
from pathlib import Path
from typing import cast

import msgspec
import pytest

from mlog import limits
from mlog.api.home import Home
from mlog.api.standing import Calendar, Cell, Copy, CopyState, Standing, left_logs, standing_of, standings
from mlog.log.ids import EntryId, week_of
from mlog.log.memory import MemoryStore
from mlog.log.peers import PrunedRow, SyncState
from mlog.log.store import EntryRow, GapRow, Reason
from tests.api.conftest import Clock, read
from tests.api.peers import Peer
from tests.api.serving import join, sync
from tests.log.support import LOG, START_MS, make_log, make_replica
from tests.log.support import message as said

WEEK_MS = 7 * 24 * 3600_000


@pytest.fixture
def tea(opened: Home) -> int:
    n = opened.new("tea").n
    for text in ("green", "black", "mint"):
        opened.send(n, text)
    return n


def standing(home: Home, log: int) -> Standing:
    [found] = standings(home, log)
    return found


def copy(home: Home, log: int) -> Copy:
    [found] = standing(home, log).copies
    return found


def cells(home: Home, log: int, row: int) -> dict[int, Cell]:
    return dict(standing(home, log).calendar.rows[row].cells)


# -- copies ----------------------------------------------------------------------------------


def test_a_device_that_was_never_connected_is_never_met(opened: Home, tea: int):
    Peer(opened, "phone", 1, met=False)
    found = copy(opened, tea)
    assert found.state == CopyState.NEVER_MET
    assert found.proven_ms == 0
    assert found.detail


def test_a_device_that_was_met_and_not_compared_says_so(opened: Home, tea: int):
    Peer(opened, "phone", 1)
    assert copy(opened, tea).state == CopyState.NOT_COMPARED


def test_a_copy_that_was_proven_equal_is_in_sync_until_something_is_written(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    phone.prove(tea)
    found = copy(opened, tea)
    assert (found.state, found.there_lacks, found.exact, found.detail) == (CopyState.EQUAL, 0, True, "")
    assert found.proven_ms
    assert found.expires_ms == found.proven_ms + limits.RECEIPT_LIFE_MS


def test_what_came_after_the_proof_is_counted_exactly_with_its_weeks_and_the_first_one(
    opened: Home, tea: int, clock: Clock
):
    phone = Peer(opened, "phone", 1)
    phone.prove(tea)
    clock.ms += WEEK_MS
    first = opened.send(tea, "late")
    clock.ms += WEEK_MS
    opened.new("other")
    second = opened.send(tea, "later")
    found = copy(opened, tea)
    rows = opened.store.find(tea, [first, second])
    assert (found.state, found.there_lacks, found.exact) == (CopyState.BEHIND, 2, True)
    assert found.weeks == ((rows[first].week, 1), (rows[second].week, 1))
    assert found.first_missing == first
    assert "2 entries here are not proven there yet" in found.detail


def test_an_imported_old_message_is_behind_in_its_own_week(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    phone.prove(tea)
    read(opened, "[2024-05-01 10:00:00] <ada> who sails?\n", into=tea)
    found = copy(opened, tea)
    assert found.exact
    assert [week for week, _ in found.weeks] == [week_of(1_714_557_600_000)]


def test_entries_that_a_device_told_of_are_lacking_here(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    phone.prove(tea)
    [chain] = opened.store.chains(tea)
    phone.tell(tea, chain.seq + 3)
    found = copy(opened, tea)
    assert (found.state, found.here_lacks, found.there_lacks) == (CopyState.BEHIND, 3, 0)


def test_what_was_heard_of_and_came_since_lacks_no_more(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    [chain] = opened.store.chains(tea)
    phone.tell(tea, chain.seq + 1)
    opened.send(tea, "here it is")
    phone.prove(tea)
    assert copy(opened, tea).state == CopyState.EQUAL


def test_a_copy_that_still_differed_after_all_was_tried_is_differing(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    phone.prove(tea)
    phone.sync(tea, SyncState.DIFFERING, detail="entries differ")
    found = copy(opened, tea)
    assert (found.state, found.detail) == (CopyState.DIFFERING, "entries differ")


def test_a_device_that_lost_entries_since_its_proof_is_not_said_to_hold_any_week(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    phone.prove(tea)
    phone.sync(tea, SyncState.BEHIND, there_lacks=2)
    found = copy(opened, tea)
    assert (found.state, found.there_lacks, found.exact) == (CopyState.BEHIND, 2, False)
    assert set(cells(opened, tea, 1).values()) == {Cell.UNKNOWN}


def test_a_receipt_that_its_holder_did_not_sign_proves_nothing(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    receipt = phone.prove(tea)
    opened.send(tea, "late")
    forged = receipt.proof[:-1] + bytes([receipt.proof[-1] ^ 1])
    with opened.store.transaction():
        opened.store.put_receipt(msgspec.structs.replace(receipt, proof=forged))
    found = copy(opened, tea)
    assert (found.there_lacks, found.exact) == (1, False)


def test_a_receipt_row_that_says_more_than_was_signed_proves_nothing(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    receipt = phone.prove(tea, first_week=week_of(opened.now_ms()) + 1)
    with opened.store.transaction():
        opened.store.put_receipt(msgspec.structs.replace(receipt, first_week=0))
    assert not standing(opened, tea).holdings


def test_a_proof_counts_by_the_clock_here_whatever_the_clock_of_the_holder(opened: Home, tea: int):
    ten_years_ms = 10 * 365 * 24 * 3600_000
    phone = Peer(opened, "phone", 1)
    phone.prove(tea, ahead_ms=ten_years_ms)
    found = copy(opened, tea)
    assert found.proven_ms <= opened.now_ms()
    assert found.expires_ms <= opened.now_ms() + limits.RECEIPT_LIFE_MS


def test_a_proof_of_a_time_when_the_clock_here_was_ahead_has_no_age(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    phone.prove(tea, age_ms=-2 * limits.CLOCK_SKEW_WARN_MS)
    assert copy(opened, tea).proven_ms == 0


def test_a_proof_that_its_holder_stands_by_no_more_leaves_every_week_unknown(
    opened: Home, tea: int, clock: Clock
):
    phone = Peer(opened, "phone", 1)
    phone.prove(tea)
    clock.ms += limits.RECEIPT_LIFE_MS + 1
    found = standing(opened, tea)
    assert found.copies[0].state == CopyState.EQUAL
    assert found.copies[0].expires_ms < opened.now_ms()
    assert not found.holdings
    assert set(found.calendar.rows[1].cells.values()) == {Cell.UNKNOWN}


def test_a_change_that_is_no_arrival_is_counted_as_at_least_one(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    receipt = phone.prove(tea)
    message = next(opened.messages(tea))
    row = opened.find_entry(message.id.hex())
    other = b"\1" * 32
    # Two entries are listed as lost, and one of them was never in what was signed.
    gaps = [
        GapRow(tea, id_, "entry", Reason.LOST, row.chain, row.seq, row.time_ms, 1, "")
        for id_ in (row.id, other)
    ]
    with opened.store.transaction():
        opened.store.replace_gaps(tea, gaps)
        opened.store.put_sync(
            msgspec.structs.replace(opened.store.syncs(tea)[0], equal_root=receipt.entries_root[::-1][:16])
        )
    found = copy(opened, tea)
    assert (found.there_lacks, found.exact) == (1, False)


def test_a_device_that_signed_for_no_texts_says_so(opened: Home, tea: int):
    Peer(opened, "phone", 1).prove(tea, bodies=False)
    assert copy(opened, tea).bodies is False
    assert copy(opened, tea).state == CopyState.EQUAL


def test_what_is_lost_here_is_proven_to_be_there(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    phone.prove(tea)
    row = opened.find_entry(next(opened.messages(tea)).id.hex())
    gap = GapRow(tea, row.id, "entry", Reason.CORRUPT, row.chain, row.seq, row.time_ms, 1, "")
    with opened.store.transaction():
        opened.store.replace_gaps(tea, [gap])
    late = opened.send(tea, "late")
    found = standing(opened, tea)
    assert found.holdings[phone.device].covers(row.id, row.week)
    assert not found.holdings[phone.device].covers(late, row.week)
    assert (found.copies[0].there_lacks, found.copies[0].exact) == (1, True)


def test_the_newest_proof_of_any_device_counts(opened: Home, tea: int):
    assert standing(opened, tea).proven_ms == 0
    Peer(opened, "phone", 1).prove(tea, age_ms=WEEK_MS)
    newest = Peer(opened, "laptop", 2).prove(tea)
    assert abs(standing(opened, tea).proven_ms - newest.time_ms) < 10


def test_the_log_of_the_person_that_a_device_was_before_is_left_and_has_no_copies(tmp_path: Path):
    desk, laptop = tmp_path / "desk", tmp_path / "laptop"
    join(desk, laptop)
    sync(desk, laptop)
    with Home(laptop) as home:
        found = {s.log: s for s in standings(home)}
        left = {row.n for row in home.store.logs() if found[row.n].is_left}
        assert left == left_logs(home)
        assert len(left) == 2
        assert all(found[n].copies == () for n in left)
        assert all(found[n].copies[0].state == CopyState.EQUAL for n in found.keys() - left)
    # The device that was there first goes on with its own.
    with Home(desk) as home:
        assert not any(s.is_left for s in standings(home))


# -- the calendar ----------------------------------------------------------------------------


def test_weeks_of_this_device_come_first_and_are_complete(opened: Home, tea: int, clock: Clock):
    clock.ms += 3 * WEEK_MS
    opened.send(tea, "later")
    calendar = standing(opened, tea).calendar
    assert len(calendar.weeks) == 4
    assert calendar.rows[0].here
    assert set(calendar.rows[0].cells.values()) == {Cell.COMPLETE}
    assert len(calendar.rows[0].cells) == 2


def test_a_week_that_changed_since_the_proof_is_behind_there_and_others_are_complete(
    opened: Home, tea: int, clock: Clock
):
    Peer(opened, "phone", 1).prove(tea)
    before = week_of(opened.now_ms())
    clock.ms += WEEK_MS
    opened.send(tea, "later")
    assert cells(opened, tea, 1) == {before: Cell.COMPLETE, before + 1: Cell.BEHIND}


def test_a_week_before_the_window_of_a_device_is_absent_there_on_purpose(
    opened: Home, tea: int, clock: Clock
):
    first = week_of(opened.now_ms())
    clock.ms += WEEK_MS
    opened.send(tea, "later")
    Peer(opened, "phone", 1).prove(tea, first_week=first + 1)
    assert cells(opened, tea, 1) == {first: Cell.ABSENT, first + 1: Cell.COMPLETE}
    assert copy(opened, tea).first_week == first + 1


def test_a_week_before_the_window_of_this_device_is_absent_here_and_unknown_there(
    opened: Home, tea: int, clock: Clock
):
    first = week_of(opened.now_ms())
    clock.ms += 5 * WEEK_MS
    opened.send(tea, "later")
    with opened.store.transaction():
        opened.store.set_window(tea, 14, fetch_bodies=True)
    Peer(opened, "phone", 1).prove(tea, first_week=first + 3)
    assert cells(opened, tea, 0) == {first: Cell.ABSENT, first + 5: Cell.COMPLETE}
    assert cells(opened, tea, 1) == {first: Cell.UNKNOWN, first + 5: Cell.COMPLETE}


def test_a_pruned_week_is_absent_on_purpose_and_still_proven_there(opened: Home, tea: int):
    Peer(opened, "phone", 1).prove(tea)
    [digest] = opened.store.digests(tea)
    pruned = PrunedRow(
        log=tea,
        week=digest.week,
        entries=digest.entries,
        bodies=digest.bodies,
        entries_hash=digest.entries_hash,
        bodies_hash=digest.bodies_hash,
        time_ms=opened.now_ms(),
    )
    with opened.store.transaction():
        opened.store.put_pruned(pruned)
    assert cells(opened, tea, 0) == {digest.week: Cell.ABSENT}
    assert cells(opened, tea, 1) == {digest.week: Cell.COMPLETE}


def test_a_week_with_damage_is_a_gap_here(opened: Home, tea: int):
    row = opened.find_entry(next(opened.messages(tea)).id.hex())
    gap = GapRow(tea, row.id, "body", Reason.CORRUPT, row.chain, row.seq, row.time_ms, 1, "")
    with opened.store.transaction():
        opened.store.replace_gaps(tea, [gap])
    assert cells(opened, tea, 0) == {row.week: Cell.GAP}


def test_a_week_of_which_somebody_told_is_behind_here(opened: Home, tea: int, clock: Clock):
    phone = Peer(opened, "phone", 1)
    first = week_of(opened.now_ms())
    clock.ms += 2 * WEEK_MS
    phone.tell(tea, 9)
    assert cells(opened, tea, 0) == {first: Cell.COMPLETE, first + 2: Cell.BEHIND}


def test_a_log_without_entries_has_no_week(opened: Home):
    assert len(Calendar(()).weeks) == 0
    assert len(standing(opened, opened.new("x").n).calendar.weeks) == 1


# -- whatever happened -----------------------------------------------------------------------


class Desk:
    """As much of a home as a peer needs, in memory."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.replica = make_replica(MemoryStore())
        self.store = self.replica.store
        self.ms = START_MS
        for _ in range(2):
            make_log(self.replica)

    def now_ms(self) -> int:
        return self.ms

    def write(self, times: int) -> None:
        """Messages in both logs, at times that jump by weeks in either direction."""
        for _ in range(times):
            self.ms += self.random.choice([0, 1000, 1000, WEEK_MS, -2 * WEEK_MS])
            self.replica.write(self.random.choice([LOG, LOG, LOG + 1]), [said(str(self.ms))], self.ms)

    def held(self) -> dict[EntryId, int]:
        return {row.id: row.week for row in self.store.arrivals(LOG, 0, 1000)}


@pytest.mark.parametrize("seed", range(60))
def test_an_entry_is_covered_exactly_if_the_device_held_it_when_it_signed(seed: int):
    desk = Desk(seed)
    phone = Peer(cast("Home", desk), "phone", 1)
    desk.write(desk.random.randrange(20))
    weeks = sorted(set(desk.held().values()))
    first_week = desk.random.choice([0, 0, weeks[0], weeks[-1], weeks[len(weeks) // 2]])
    before = {id_ for id_, week in desk.held().items() if week >= first_week}
    receipt = phone.prove(LOG, first_week=first_week)
    desk.write(desk.random.randrange(20))
    held = sorted(desk.held())
    damaged = desk.random.sample(held, min(desk.random.choice([0, 0, 1, 2]), len(held)))
    rows = desk.store.find(LOG, damaged).values()
    with desk.store.transaction():
        desk.store.change_gaps(LOG, [listed(row, desk.ms) for row in rows], ())
    found = standing_of(desk.store, desk.store.logs()[0], desk.replica.device_id, receipt.time_ms)
    holding = found.holdings[phone.device]
    if not damaged:
        in_scope = sum(week >= first_week for week in desk.held().values())
        assert holding.later is not None
        assert found.copies[0].there_lacks == in_scope - len(before)
    if holding.later is not None:
        covered = {id_ for id_, week in desk.held().items() if holding.covers(id_, week)}
        # Of what is damaged less may be proven than is true, never more.
        assert before - set(damaged) <= covered <= before


def listed(row: EntryRow, now_ms: int) -> GapRow:
    return GapRow(LOG, row.id, "entry", Reason.CORRUPT, row.chain, row.seq, row.time_ms, now_ms, "damaged")
