"""Ids and weeks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.limits import TIME_MAX_MS, WEEK_MAX
from mlog.log.ids import message_id, week_of, week_start_ms

from .support import ids


def ms(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp() * 1000)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("time_ms", "week"),
    [
        (0, 0),
        (ms(2000, 1, 3) - 1, 0),
        (ms(2000, 1, 3), 0),
        (ms(2000, 1, 10) - 1, 0),
        (ms(2000, 1, 10), 1),
        (ms(2026, 5, 11), 1375),
        (ms(2156, 12, 27), WEEK_MAX),
        (TIME_MAX_MS, WEEK_MAX),
    ],
)
def test_weeks_count_from_monday_3_january_2000(time_ms: int, week: int):
    assert week_of(time_ms) == week


@given(st.integers(0, WEEK_MAX))
def test_a_week_starts_on_a_monday_at_midnight(week: int):
    start = week_start_ms(week)
    assert week_of(start) == week
    assert week_of(start - 1) == max(week - 1, 0)
    day = datetime.fromtimestamp(start / 1000, UTC)
    assert (day.weekday(), day.hour, day.minute, day.second) == (0, 0, 0, 0)


@given(ids)
def test_a_message_is_named_by_the_start_of_its_entry_s_id(id_):
    assert message_id(id_) == id_[:16]
