"""Kinds of arguments: times, limits, paths."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from mlog import limits
from mlog.cli.options import DURATION, LIMIT, PATH, SINCE, TEXT, UNTIL

DAY_MS = 86_400_000


@pytest.fixture
def zurich(monkeypatch):
    if not hasattr(time, "tzset"):
        pytest.skip("the zone cannot be set here")
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)


def test_a_date_is_that_day_on_this_persons_clock(zurich):
    assert SINCE.convert("2024-05-12", None, None) == ms(2024, 5, 11, 22)
    assert SINCE.convert("2024-01-12", None, None) == ms(2024, 1, 11, 23)


def test_until_a_date_includes_that_day(zurich):
    assert UNTIL.convert("2024-05-12", None, None) == ms(2024, 5, 12, 22)


def test_a_time_with_a_zone_is_exact(zurich):
    for kind in (SINCE, UNTIL):
        assert kind.convert("2024-05-12T14:05:09.5Z", None, None) == ms(2024, 5, 12, 14, 5, 9) + 500
        assert kind.convert("2024-05-12T14:05+02:00", None, None) == ms(2024, 5, 12, 12, 5)
        assert kind.convert("2024-05-12 14:05", None, None) == ms(2024, 5, 12, 12, 5)


@pytest.mark.parametrize(("text", "days"), [("30d", 30), ("12h", 0.5), ("2w", 14), ("90m", 1 / 16)])
def test_a_duration_counts_back_from_now(text, days):
    now_ms = time.time() * 1000
    assert SINCE.convert(text, None, None) == pytest.approx(now_ms - days * DAY_MS, abs=60_000)


@pytest.mark.parametrize(
    "text", ["", "yesterweek", "2024-13-01", "2024-02-30", "d", "-3d", "99999999999d", "999999y", "12:00"]
)
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(click.BadParameter, match="2024-05-12"):
        SINCE.convert(text, None, None)


@pytest.mark.parametrize("text", ["1900-01-01", "1969-12-30", "1000y"])
def test_times_before_1970_are_the_beginning(text):
    assert SINCE.convert(text, None, None) == 0


def test_a_limit_is_a_number_from_1_or_all():
    assert LIMIT.convert("7", None, None) == 7
    assert LIMIT.convert("all", None, None) == limits.SEQ_MAX
    for wrong in ("0", "-1", "x", "", "1.5", "9" * 30, "٣"):
        with pytest.raises(click.BadParameter):
            LIMIT.convert(wrong, None, None)


def test_text_is_unicode_and_a_path_is_anything_but_empty():
    assert TEXT.convert("grüße", None, None) == "grüße"
    with pytest.raises(click.BadParameter):
        TEXT.convert("caf\udce9", None, None)
    assert PATH.convert("caf\udce9", None, None) == Path("caf\udce9")
    for wrong in ("", "a\0b"):
        with pytest.raises(click.BadParameter):
            PATH.convert(wrong, None, None)


@pytest.mark.parametrize(
    ("text", "hours"), [("90m", 1.5), ("12h", 12), ("14d", 336), ("2 W", 336), ("1y", 8760)]
)
def test_a_span_of_time_has_a_number_and_a_unit(text, hours):
    assert DURATION.convert(text, None, None) == hours * 3_600_000


@pytest.mark.parametrize("text", ["", "0d", "14", "-1d", "d", "1.5d", "9999999d", "2024-05-12"])
def test_what_is_no_span_of_time_is_refused_with_an_example(text):
    with pytest.raises(click.BadParameter, match="14d"):
        DURATION.convert(text, None, None)
