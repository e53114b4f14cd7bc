"""Hostile text on a terminal, columns, times, and what a stream can show."""

from __future__ import annotations

import io
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlog.cli.terminal import can_unicode, iso, safe, safe_block, shorten, use_colour, when, width
from mlog.limits import TIME_MAX_MS

# -- safe ------------------------------------------------------------------------------------

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
HIDING = (
    "\u200b\u2060\u2061\u2062\u2063\u2064\ufeff\u00ad\u034f\u115f\u1160\u3164\uffa0\u180e\U000e0001\U000e0041"
)
JOINERS = "\u200c\u200d"
SELECTORS = "\ufe00\ufe0e\ufe0f\u180b\U000e0100"
FORBIDDEN_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
PRINTABLE_ASCII = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))

HOSTILE = st.lists(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]),
        st.sampled_from([*BIDI, *HIDING, *JOINERS, *SELECTORS, *"👩🏽❤نکक्一a1 \n\r\t\x03\x04\x1b"]),
        st.sampled_from(["\ufdd0", "\ufdef", "\ufffe", "\uffff", "\U0001ffff", "\U0010fffe", "\U000e007f"]),
        st.sampled_from(
            ["\x1b[31m", "\x0304,12red", "\x1b]0;title\x07", "\u202egnp.exe", "👩\u200d👧", "❤\ufe0f\u200d🔥"]
        ),
    )
).map("".join)


def is_non_character(character: str) -> bool:
    code = ord(character)
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


@given(HOSTILE)
def test_safe_lets_nothing_hostile_through(text: str) -> None:
    result = safe(text)
    for character in result:
        assert unicodedata.category(character) not in FORBIDDEN_CATEGORIES
        assert character not in BIDI + HIDING
        assert not is_non_character(character)
        assert not 0xE0000 <= ord(character) <= 0xE00FF, "tag"
    for before, character, after in zip(" " + result, result, result[1:] + " ", strict=False):
        if character in JOINERS:
            assert not before.isascii()
            assert not after.isascii()
            assert after not in JOINERS + SELECTORS
        if character in SELECTORS:
            assert before not in JOINERS + SELECTORS, "a run of selectors can carry hidden text"
    result.encode()


@given(HOSTILE)
@example("\ufe0f\ufe0f\ufe0f")
@example("👩\u200d\x02👧")
def test_safe_changes_nothing_the_second_time(text: str) -> None:
    assert safe(safe(text)) == safe(text)


@given(PRINTABLE_ASCII)
def test_safe_leaves_printable_ascii_alone(text: str) -> None:
    assert safe(text) == text


@given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters=HIDING)))
def test_safe_leaves_letters_numbers_and_symbols_alone(text: str) -> None:
    assert safe(text) == text


def test_safe_treats_every_code_point_of_the_dangerous_categories() -> None:
    through = {chr(code) for code in range(0x110000) if safe(chr(code)) == chr(code)}
    assert not {c for c in through if unicodedata.category(c) in FORBIDDEN_CATEGORIES or is_non_character(c)}
    drawn = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
    formats = {c for c in through if unicodedata.category(c) == "Cf"}
    # Egyptian and shorthand format controls are the other characters of Cf; the former lay out glyphs.
    assert {c for c in formats if not "\U00013430" <= c <= "\U0001345f"} == set(drawn)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;you\x07", "␛[2J␛]0;you␇"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f\x08", "␡␈"),
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),
        ("pay\u200bpal", "pay\\u200bpal"),
        ("a\u2028b", "a\\u2028b"),
        ("\udc80\ufdd0\U0001ffff", "\\udc80\\ufdd0\\U0001ffff"),
        ("hi\U000e0041", "hi\\U000e0041"),
        ("one\ntwo\r\nthree", "one ⏎ two ⏎ three"),
        ("over\rwritten", "over␍written"),
        ("a\tb", "a    b"),
    ],
)
def test_safe_shows_what_it_replaced(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x02bold\x0f \x1ditalic\x1d \x1funder\x1f \x16reverse", "bold italic under reverse"),
        ("\x0304red\x03 \x033,12x\x03,5 \x03123", "red x,5 3"),
        ("\x04ff0000red\x04", "red"),
    ],
)
def test_safe_removes_the_formatting_of_irc(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d👩\u200d👧\u200d👦",
        "❤\ufe0f\u200d🔥",
        "🧑🏽\u200d🚀 🏳\ufe0f\u200d🌈 🏃\u200d♂\ufe0f 👁\ufe0f\u200d🗨\ufe0f",
        "1\ufe0f\u20e3 ©\ufe0f",
        "می\u200cخواهم",
        "क्\u200dष क्\u200cष",
        "葛\U000e0100",
        "ᠠ\u180bᠡ",
        "שלום مرحبا 你好 é ñ",
        "🇩🇪",
    ],
)
def test_safe_keeps_joiners_and_selectors_where_writing_needs_them(text: str) -> None:
    assert safe(text) == text


@pytest.mark.parametrize(
    "text", ["a\u200db", "\u200d", "👩\u200d", "\u200d👩", "ن\u200c", "a\ufe0f", "👩\u200d\u200d👧"]
)
def test_safe_shows_joiners_and_selectors_elsewhere(text: str) -> None:
    assert "\\u" in safe(text)


def test_safe_block_keeps_lines_and_indents_all_but_the_first() -> None:
    assert safe_block("one\r\n\x1btwo\n\nfour", 2) == "one\n  ␛two\n  \n  four"


@given(HOSTILE, st.integers(1, 8))
def test_safe_block_never_lets_a_later_line_start_at_the_margin(text: str, indent: int) -> None:
    first, *later = safe_block(text, indent).split("\n")
    assert all(line.startswith(" " * indent) for line in later)
    assert all(safe(line) == line for line in (first, *later))


# -- columns ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("abc", 3),
        ("日本", 4),
        ("e\u0301", 1),
        ("한글", 4),
        ("\u1112\u1161\u11ab", 2),
        ("👩\u200d👩\u200d👧", 2),
        ("👍🏽", 2),
        ("❤\ufe0f", 2),
        ("❤", 1),
        ("🇩🇪", 2),
        ("ｆｕｌｌ", 8),
        ("می\u200cخ", 3),
    ],
)
def test_width_counts_columns(text: str, columns: int) -> None:
    assert width(text) == columns


@given(HOSTILE.map(safe), st.integers(0, 30))
def test_shorten_fits_and_stays_safe(text: str, columns: int) -> None:
    result = shorten(text, columns)
    assert width(result) <= columns
    assert safe(result) == result
    if width(text) <= columns:
        assert result == text
    elif columns:
        assert result.endswith("…")
        assert text.startswith(result[:-1])


@pytest.mark.parametrize(
    ("text", "columns", "short"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
        ("👩\u200d👧👩\u200d👧", 3, "👩\u200d👧…"),
        ("می\u200cخواهم", 3, "می…"),
    ],
)
def test_shorten_cuts_between_characters(text: str, columns: int, short: str) -> None:
    assert shorten(text, columns) == short


def test_shorten_takes_another_mark() -> None:
    assert shorten("abcdef", 5, "...") == "ab..."


# -- times -----------------------------------------------------------------------------------


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * 1000


NOW = at(2024, 5, 15, 16, 30)


@pytest.mark.parametrize(
    ("time_ms", "shown"),
    [
        (0, "no date"),
        (at(2024, 5, 15, 14, 5), "today 14:05"),
        (at(2024, 5, 15, 23, 0), "today 23:00"),
        (at(2024, 5, 13, 14, 5), "Mon 14:05"),
        (at(2024, 5, 9), "Thu 00:00"),
        (at(2024, 5, 8, 23, 59), "8 May"),
        (at(2024, 5, 16), "16 May"),
        (at(2023, 12, 31), "2023-12-31"),
        (at(2025, 1, 1), "2025-01-01"),
        (1, "1970-01-01"),
        (TIME_MAX_MS, "+287396-10-12"),
    ],
)
def test_when_is_short_for_recent_times(time_ms: int, shown: str) -> None:
    assert when(time_ms, NOW, UTC) == shown


def test_when_shows_the_time_in_the_zone_asked_for() -> None:
    east = timezone(timedelta(hours=10))
    assert when(at(2024, 5, 15, 14, 5), NOW, east) == "today 00:05"
    assert when(at(2024, 5, 15, 13, 5), NOW, east) == "Wed 23:05"


@given(st.integers(-TIME_MAX_MS, TIME_MAX_MS), st.integers(0, TIME_MAX_MS), st.integers(-23, 23))
@example(at(9999, 12, 31, 23, 59), NOW, 23)
@example(at(9999, 12, 31, 23, 59), at(9999, 12, 31, 23, 59), -23)
def test_times_never_raise(time_ms: int, now_ms: int, hours: int) -> None:
    assert when(time_ms, now_ms, timezone(timedelta(hours=hours)))
    assert when(time_ms, now_ms, None)
    assert iso(time_ms)


@given(st.integers(1, at(9999, 12, 31)))
def test_iso_agrees_with_datetime(time_ms: int) -> None:
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    assert datetime.fromisoformat(iso(time_ms)) == expected


@pytest.mark.parametrize(
    ("time_ms", "shown"),
    [
        (0, "no date"),
        (1, "1970-01-01T00:00:00.001Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "+010000-01-01T00:00:00.000Z"),
        # JavaScript's largest date, as its toISOString gives it.
        (8_640_000_000_000_000, "+275760-09-13T00:00:00.000Z"),
        (TIME_MAX_MS, "+287396-10-12T08:59:00.991Z"),
    ],
)
def test_iso_goes_beyond_the_year_9999(time_ms: int, shown: str) -> None:
    assert iso(time_ms) == shown


# -- what the terminal can do ----------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "env", "colour"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "0"}, False),
        (io.StringIO(), {"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        (Terminal(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_use_colour_asks_the_person_then_the_terminal(
    stream: io.StringIO, env: dict[str, str], colour: bool
) -> None:
    assert use_colour(stream, env) is colour


def test_use_colour_is_off_for_a_closed_stream() -> None:
    stream = Terminal()
    stream.close()
    assert use_colour(stream, {}) is False


@pytest.mark.parametrize(
    ("encoding", "able"),
    [("utf-8", True), ("utf-16", True), ("ascii", False), ("latin-1", False), ("cp437", False)],
)
def test_can_unicode_follows_the_encoding(encoding: str, able: bool) -> None:
    assert can_unicode(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) is able


def test_can_unicode_is_off_without_an_encoding() -> None:
    assert can_unicode(io.StringIO()) is False
