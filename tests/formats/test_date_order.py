"""The order of day, month and year: what numbers and time settle, and what only a person can."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import UserError
from mlog.formats.date_order import ORDERS, DateOrder, day_of

_WRITE = {"dmy": "{0.day}/{0.month}/{1}", "mdy": "{0.month}/{0.day}/{1}", "ymd": "{1}/{0.month}/{0.day}"}


def order_of(*written: str, hint: str = "") -> str:
    order = DateOrder()
    for one in written:
        order.take(numbers_of(one), one)
    return order.order("x", hint)


def numbers_of(written: str) -> tuple[str, str, str]:
    first, second, third = written.split("/")
    return first, second, third


@given(
    st.dates(date(2010, 1, 1), date(2040, 1, 1)),
    st.lists(st.integers(0, 40), min_size=1, max_size=60),
    st.sampled_from(list(ORDERS)),
)
def test_settled_order_is_the_one_that_wrote_the_dates(start: date, gaps: list[int], name: str):
    written: list[str] = []
    for gap in gaps:
        start += timedelta(days=gap)
        written.append(_WRITE[name].format(start, start.year))
    try:
        settled = order_of(*written)
    except UserError as error:
        assert f"--date-order {name}" in str(error)  # noqa: PT017 -- it may not be told
        return
    days = [numbers_of(one) for one in written]
    assert [ORDERS[settled](one) for one in days] == [ORDERS[name](one) for one in days]


def test_a_date_that_fits_no_order_left_changes_nothing():
    order = DateOrder()
    assert order.take(("13", "1", "2024"), "13/1/2024")
    assert order.settled
    assert not order.take(("1", "13", "2024"), "1/13/2024")
    assert not order.take(("99", "99", "9999"), "x")
    assert order.order("x", "") == "dmy"


def test_a_clock_set_back_by_a_day_does_not_count_against_an_order():
    assert order_of("2/3/2024", "1/3/2024", "3/3/2024") == "dmy"


def test_dates_that_are_the_same_in_both_orders_need_no_hint():
    assert order_of("5/5/2024", "6/6/2024") == "dmy"


@pytest.mark.parametrize(
    "numbers", [("24", "2", "30"), ("2024", "13", "1"), ("124", "1", "1"), ("1", "1", "1"), ("0", "1", "1")]
)
def test_days_that_do_not_exist_are_none(numbers: tuple[str, str, str]):
    assert day_of(*numbers) is None


@pytest.mark.parametrize(
    ("written", "day"),
    [
        (("1403", "1", "1"), date(2024, 3, 20)),
        (("1403", "12", "30"), date(2025, 3, 20)),
        (("1357", "11", "22"), date(1979, 2, 11)),
        (("1402", "12", "30"), None),
        (("1402", "13", "1"), None),
        (("1402", "7", "31"), None),
        (("1402", "0", "1"), None),
    ],
)
def test_years_of_the_persian_calendar_are_converted(written: tuple[str, str, str], day: date | None):
    assert day_of(*written) == (None if day is None else day.toordinal())


def test_every_day_of_the_persian_calendar_follows_the_one_before():
    days = [
        day_of(str(year), str(month), str(day))
        for year in range(1343, 1473)
        for month in range(1, 13)
        for day in range(1, 32)
    ]
    known = [day for day in days if day is not None]
    assert known == list(range(known[0], known[-1] + 1))
