"""Repair: every absence has a reason, and names who has what is missing as surely as it is known."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from mlog.api.home import Home
from mlog.api.repair import Absence, Certainty, absences
from mlog.log import entry
from mlog.log.bodies import Kind, Text
from mlog.log.entry import Sealed
from mlog.log.memory import MemoryStore
from mlog.log.replica import Draft
from mlog.log.store import EntryRow, GapRow, LogKind, Reason
from tests.api.conftest import Clock
from tests.api.peers import Peer
from tests.log.support import LOG, join, make_replica

WEEK_MS = 7 * 24 * 3600_000


@pytest.fixture
def tea(opened: Home) -> int:
    n = opened.new("tea").n
    for text in ("green", "black", "mint"):
        opened.send(n, text)
    return n


def row_of(home: Home, log: int, text: str) -> EntryRow:
    [message] = [m for m in home.messages(log) if m.text == text]
    return home.store.find(log, [message.id])[message.id]


def list_gap(home: Home, row: EntryRow, part: str = "entry", reason: Reason = Reason.CORRUPT) -> None:
    gap = GapRow(row.log, row.id, part, reason, row.chain, row.seq, row.time_ms, home.now_ms(), "damaged")
    with home.store.transaction():
        home.store.change_gaps(row.log, [gap], ())


def elsewhere(
    home: Home, log: int, count: int, index: int = 5, after: Sequence[Sealed] = (), word: str = "far"
) -> list[Sealed]:
    """Entries that another device of the same log wrote, oldest first; always in the same chain.

    Args:
        after: What it had received before.
        word: What they say.
    """
    replica = make_replica(MemoryStore(), index)
    join(replica, home.replica.log(log).keys)
    replica.receive(LOG, after, home.now_ms())
    rows = [
        replica.write(LOG, [Draft(Kind.MESSAGE, Text(text=f"{word} {at}"), home.now_ms())], home.now_ms())[0]
        for at in range(count)
    ]
    return replica.sealed_of(LOG, rows, bodies=True)


def found(home: Home, log: int) -> list[Absence]:
    return absences(home, log)


def only(home: Home, log: int) -> Absence:
    [absence] = absences(home, log)
    return absence


def held_by(absence: Absence) -> list[tuple[str, Certainty]]:
    return [(holder.name, holder.certainty) for holder in absence.holders]


def test_nothing_is_missing_of_what_was_written_here(opened: Home, tea: int):
    assert absences(opened) == []


def test_damage_is_a_gap_with_its_week_and_time(opened: Home, tea: int):
    row = row_of(opened, tea, "black")
    list_gap(opened, row, "body")
    absence = only(opened, tea)
    assert (absence.part, absence.reason, absence.id) == ("body", Reason.CORRUPT, row.id)
    assert (absence.week, absence.time_ms, absence.count) == (row.week, row.time_ms, 1)
    assert absence.is_gap
    assert absence.is_damage
    assert absence.holders == ()


def test_a_device_that_signed_for_a_damaged_entry_has_it(opened: Home, tea: int):
    Peer(opened, "phone", 1).prove(tea)
    list_gap(opened, row_of(opened, tea, "black"))
    assert held_by(only(opened, tea)) == [("phone", Certainty.SIGNED)]


def test_a_device_that_signed_before_the_damaged_entry_came_is_not_said_to_have_it(opened: Home, tea: int):
    Peer(opened, "phone", 1).prove(tea)
    opened.send(tea, "late")
    list_gap(opened, row_of(opened, tea, "late"), "body")
    assert held_by(only(opened, tea)) == []


def test_a_text_is_signed_for_only_by_who_signed_for_texts_while_it_was_here(opened: Home, tea: int):
    row = row_of(opened, tea, "black")
    Peer(opened, "texts", 1).prove(tea)
    Peer(opened, "entries", 2).prove(tea, bodies=False)
    list_gap(opened, row, "body")
    # Its texts equal those here, without the damaged one: so it lacks that too.
    Peer(opened, "later", 3).prove(tea)
    assert held_by(only(opened, tea)) == [("texts", Certainty.SIGNED), ("entries", Certainty.LIKELY)]


def test_a_signature_is_likely_where_the_entry_is(opened: Home, tea: int):
    Peer(opened, "phone", 1).prove(tea)
    list_gap(opened, row_of(opened, tea, "black"), "signature")
    assert held_by(only(opened, tea)) == [("phone", Certainty.LIKELY)]


def test_a_window_that_begins_later_does_not_hold_the_entry(opened: Home, tea: int, clock: Clock):
    row = row_of(opened, tea, "black")
    clock.ms += WEEK_MS
    opened.send(tea, "late")
    Peer(opened, "phone", 1).prove(tea, first_week=row.week + 1)
    list_gap(opened, row, "body")
    assert held_by(only(opened, tea)) == []


def test_who_was_equal_while_a_lost_entry_was_probably_here_likely_has_it(opened: Home, tea: int):
    row = row_of(opened, tea, "black")
    Peer(opened, "phone", 1).prove(tea)
    gap = GapRow(tea, b"", "entry", Reason.LOST, row.chain, 70, row.time_ms, opened.now_ms(), "lost")
    with opened.store.transaction():
        opened.store.replace_gaps(tea, [gap])
    assert held_by(only(opened, tea)) == [("phone", Certainty.LIKELY)]


def test_the_end_of_a_chain_that_a_device_told_of_is_missing_and_that_device_has_it(opened: Home, tea: int):
    phone = Peer(opened, "phone", 1)
    [chain] = opened.store.chains(tea)
    heard = phone.tell(tea, chain.seq + 3)
    absence = only(opened, tea)
    assert (absence.first, absence.last, absence.count) == (chain.seq + 1, chain.seq + 3, 3)
    assert (absence.reason, absence.device) == (Reason.NOT_FETCHED, chain.device)
    assert absence.since_ms == heard.time_ms
    assert held_by(absence) == [("phone", Certainty.TOLD)]


def test_a_hole_in_a_chain_is_shown_by_the_entry_behind_it(opened: Home, tea: int):
    first, _, third = elsewhere(opened, tea, 3)
    opened.replica.receive(tea, [first, third], opened.now_ms())
    absence = only(opened, tea)
    assert (absence.first, absence.last, absence.part) == (1, 1, "entry")
    assert absence.named_by == third.id
    assert absence.week == entry.parse_outer(third.outer).week


def test_an_absent_parent_is_missing_and_says_who_names_it(opened: Home, tea: int):
    [parent] = elsewhere(opened, tea, 1)
    [child] = elsewhere(opened, tea, 1, 6, [parent])
    Peer(opened, "phone", 1).prove(tea)
    opened.replica.receive(tea, [child], opened.now_ms())
    absence = only(opened, tea)
    assert (absence.id, absence.named_by) == (parent.id, child.id)
    assert (absence.reason, absence.is_gap) == (Reason.NOT_FETCHED, True)
    # It was never here, so a device that was equal did not have it either.
    assert held_by(absence) == []


def test_what_is_listed_and_seen_at_once_is_told_once(opened: Home, tea: int):
    [parent] = elsewhere(opened, tea, 1)
    opened.replica.receive(tea, elsewhere(opened, tea, 1, 6, [parent]), opened.now_ms())
    gap = GapRow(tea, parent.id, "entry", Reason.LOST, 0, 0, 0, opened.now_ms(), "lost")
    with opened.store.transaction():
        opened.store.change_gaps(tea, [gap], ())
    assert only(opened, tea).reason == Reason.LOST


def test_an_entry_that_nothing_vouches_for_waits(opened: Home, tea: int):
    [sealed] = elsewhere(opened, tea, 1)
    opened.replica.receive(tea, [msgspec.structs.replace(sealed, signature=None)], opened.now_ms())
    assert only(opened, tea).reason == Reason.WAITING


def test_of_a_log_that_was_left_nobody_is_said_to_have_what_is_damaged(opened: Home, tea: int):
    later = opened.now_ms() + 1000
    log = opened.replica.create_log(LogKind.PRIVATE, [], later)
    Peer(opened, "phone", 1).prove(log)
    [row] = opened.store.arrivals(log, 0, 10)
    list_gap(opened, row)
    absence = only(opened, log)
    assert (absence.id, held_by(absence)) == (row.id, [])


def test_gaps_come_before_what_is_absent_on_purpose(opened: Home, tea: int):
    list_gap(opened, row_of(opened, tea, "green"), "body", Reason.ERASED)
    list_gap(opened, row_of(opened, tea, "black"), "body", Reason.CORRUPT)
    assert [absence.is_gap for absence in found(opened, tea)] == [True, False]
    assert found(opened, tea)[1].on_purpose
