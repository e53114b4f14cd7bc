"""Dates as sentences in many languages; anything else is no date."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.formats.clock_words import half_of_day, month
from mlog.formats.long_dates import long_date_ms

_MOMENT_MS = 1704207845000


@pytest.mark.parametrize(
    "written",
    [
        "Tuesday, January 2, 2024 at 3:04:05 PM UTC",
        "Tuesday, January 2, 2024 at 3:04:05\u202fPM UTC",
        "Tuesday, January 2, 2024 at 5:04:05 PM UTC+2",
        "Tuesday, 2 January 2024 at 15:04:05 UTC",
        "Dienstag, 2. Januar 2024 um 15:04:05 UTC",
        "mardi 2 janvier 2024 à 15:04:05 UTC",
        "martes, 2 de enero de 2024, 3:04:05 p. m. UTC",
        "terça-feira, 2 de janeiro de 2024 às 15:04:05 UTC",
        "martedì 2 gennaio 2024 alle ore 15:04:05 UTC",
        "dinsdag 2 januari 2024 om 15:04:05 UTC",
        "tiistai 2. tammikuuta 2024 klo 15.04.05 UTC",
        "вторник, 2 января 2024 г. в 15:04:05 UTC",
        "wtorek, 2 stycznia 2024 15:04:05 UTC",
        "2 Ocak 2024 Salı 15:04:05 UTC",
        "2024年1月2日 火曜日 15:04:05 UTC",
        "2024년 1월 2일 화요일 오후 3시 4분 5초 UTC",
        "2024-01-02T15:04:05Z",
    ],
)
def test_one_moment_in_many_languages(written: str):
    assert long_date_ms(written, None) == _MOMENT_MS


@pytest.mark.parametrize(
    "written",
    ["", "soon", "15:04:05", "January 2, 2024", "Smarch 2, 2024 at 3:04 PM", "February 30, 2024 at 3:04"],
)
def test_what_is_no_date_is_none(written: str):
    assert long_date_ms(written, None) is None


def test_zone_counts_where_the_date_names_none():
    zone = dt.timezone(dt.timedelta(hours=2))
    assert long_date_ms("January 2, 2024 at 5:04:05 PM", zone) == _MOMENT_MS


@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]+ \d{1,4}, \d{1,9} at \d+:\d+:\d+ [AP]M UTC[+-]\d*"))
def test_any_text_is_a_time_or_none(written: str):
    time_ms = long_date_ms(written, None)
    assert time_ms is None or time_ms >= 0


def test_words_of_time_are_known_in_their_spellings():
    for word in ("pm", "PM", "p.m.", "p. m.", "p.\u00a0m.", "μ.μ.", "下午", "오후", "م"):
        assert half_of_day(word) == 12
    for word in ("am", "a. m.", "πμ", "上午", "오전", "ص"):
        assert half_of_day(word) == 0
    assert (half_of_day("Uhr"), half_of_day("nonsense")) == (-1, None)
    assert [month(word) for word in ("January", "févr.", "MÄRZ", "listopada", "x")] == [1, 2, 3, 11, 0]
