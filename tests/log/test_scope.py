"""Roots begin at a week, and tell entries from bodies."""

from __future__ import annotations

from mlog.log.ids import EntryId, Topic, week_of, week_start_ms
from mlog.log.merkle import segment_digest
from mlog.log.scope import Scope, bodies_root, entries_root, scope_of
from mlog.log.store import Digest, LogKind, LogRow

_DAY_MS = 24 * 3600 * 1000


def _digest(week: int, *held: bool) -> Digest:
    return segment_digest(week, [(EntryId(bytes([week % 256, n]) * 16), body) for n, body in enumerate(held)])


def _log(days: int, *, bodies: bool = True) -> LogRow:
    return LogRow(1, Topic(bytes(16)), LogKind.CONVERSATION, b"", "", days, bodies)


def test_a_log_without_a_window_begins_at_the_first_week() -> None:
    assert scope_of(_log(0), 1_800_000_000_000) == Scope(0, bodies=True)


def test_a_window_begins_with_the_week_of_its_oldest_day_and_moves_with_the_clock() -> None:
    monday = week_start_ms(1300)
    assert scope_of(_log(7, bodies=False), monday) == Scope(1299, bodies=False)
    assert scope_of(_log(7), monday - 1).first_week == 1298
    assert scope_of(_log(30), monday).first_week == week_of(monday - 30 * _DAY_MS)


def test_a_window_longer_than_time_begins_at_the_first_week() -> None:
    assert scope_of(_log(1_000_000), week_start_ms(3)).first_week == 0


def test_roots_ignore_weeks_before_the_first_and_the_order_of_digests() -> None:
    old, new = _digest(7, True), _digest(9, True, False)
    for root in (entries_root, bodies_root):
        assert root([old, new], 8) == root([new], 0) != root([old, new], 7)
        assert root([new, old], 0) == root([old, new], 0)


def test_a_body_less_changes_the_root_of_bodies_only() -> None:
    whole, less = [_digest(7, True, True)], [_digest(7, True, False)]
    assert entries_root(whole, 0) == entries_root(less, 0)
    assert bodies_root(whole, 0) != bodies_root(less, 0)


def test_segments_with_nothing_in_them_count_for_nothing() -> None:
    assert entries_root([_digest(7), _digest(9, True)], 0) == entries_root([_digest(9, True)], 0)
    assert bodies_root([_digest(7, False), _digest(9, True)], 0) == bodies_root([_digest(9, True)], 0)


def test_the_same_segments_in_another_week_have_another_root() -> None:
    one = _digest(7, True)
    moved = Digest(8, one.entries, one.bodies, one.entries_hash, one.bodies_hash)
    assert entries_root([one], 0) != entries_root([moved], 0)


def test_roots_of_entries_and_of_bodies_never_coincide() -> None:
    assert entries_root([], 0) != bodies_root([], 0)
    same = Digest(7, 2, 2, bytes(32), bytes(32))
    assert entries_root([same], 0) != bodies_root([same], 0)
