"""The calendar: a sign for each device and week, labelled by year and month, within the terminal."""

from __future__ import annotations

import io
import sys

import pytest

from mlog.api.standing import Calendar, CalendarRow, Cell
from mlog.cli.calendar import calendar_lines, calendar_weeks, fits, week_start
from mlog.cli.output import Console
from mlog.cli.terminal import width
from mlog.log.ids import DeviceId, week_of

MAY_2024 = week_of(1_714_953_600_000)
"""The week that begins on 6 May 2024."""


def row(cells: dict[int, Cell], name: str = "", *, here: bool = False) -> CalendarRow:
    return CalendarRow(DeviceId(bytes(32)), name, here, cells)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    return Console()


def drawn(calendar: Calendar, console: Console, columns: int = 80) -> list[str]:
    return list(calendar_lines(calendar, console, columns))


def test_a_week_is_named_by_its_monday():
    assert week_start(MAY_2024) == "2024-05-06"
    assert week_start(0) == "2000-01-03"


def test_each_state_has_a_sign_of_its_own_and_a_legend(console: Console):
    cells = {MAY_2024 + at: cell for at, cell in enumerate(Cell)}
    *_, signs, legend = drawn(Calendar((row(cells, here=True),)), console)
    assert signs == "  █▒·✗?  this device"
    assert legend == "  █ complete   ▒ behind   · absent on purpose   ✗ gap   ? unknown"


def test_the_legend_explains_only_the_signs_that_occur(console: Console):
    *_, legend = drawn(Calendar((row({MAY_2024: Cell.COMPLETE}),)), console)
    assert legend.strip() == "█ complete"


def test_a_terminal_without_blocks_gets_ascii(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    cells = {MAY_2024 + at: cell for at, cell in enumerate(Cell)}
    lines = drawn(Calendar((row(cells, here=True),)), Console())
    assert all(line.isascii() for line in lines)
    assert lines[-2] == "  #<.X?  this device"


def test_years_and_months_stand_above_their_first_week(console: Console):
    cells = dict.fromkeys(range(MAY_2024, MAY_2024 + 52), Cell.COMPLETE)
    years, months, *_ = drawn(Calendar((row(cells),)), console)
    assert years.index("2024") == 2
    first_monday_of_2025 = next(week for week in cells if week_start(week).startswith("2025"))
    assert years.index("2025") == 2 + first_monday_of_2025 - MAY_2024
    assert months.split()[:3] == ["May", "Jun", "Jul"]
    assert months.index("Jun") == 2 + 4


def test_a_single_week_is_labelled_too(console: Console):
    assert drawn(Calendar((row({MAY_2024: Cell.COMPLETE}),)), console)[:2] == ["  2024", "  May"]


def test_a_week_in_which_there_is_nothing_is_blank(console: Console):
    calendar = Calendar((row({MAY_2024: Cell.COMPLETE, MAY_2024 + 2: Cell.GAP}, "phone"),))
    assert drawn(calendar, console)[2] == "  █ ✗  phone"


def test_no_line_is_wider_than_the_terminal_and_the_newest_weeks_are_kept(console: Console):
    cells = dict.fromkeys(range(MAY_2024, MAY_2024 + 300), Cell.COMPLETE)
    cells[MAY_2024 + 299] = Cell.GAP
    name = "a device with a very long name of ours 你好"
    lines = drawn(Calendar((row(cells, here=True), row(cells, name))), console, 60)
    assert all(width(line) <= 60 for line in lines[:4])
    assert lines[2].endswith("█✗  this device")
    assert lines[-1].strip().endswith("earlier weeks, from 2024-05-06 on, have no room here")


def test_it_fits_only_where_every_week_has_room():
    calendar = Calendar((row(dict.fromkeys(range(60), Cell.COMPLETE), "phone"),))
    assert fits(calendar, 80)
    assert not fits(calendar, 60)
    assert not fits(Calendar(()), 80)


def test_a_name_cannot_reach_the_terminal_as_it_is(console: Console):
    lines = drawn(Calendar((row({MAY_2024: Cell.COMPLETE}, "\x1b[2Jphone"),)), console)
    assert "\x1b" not in "".join(lines)


def test_nothing_to_show_is_said(console: Console):
    assert drawn(Calendar((row({}),)), console) == ["  no entry in any week"]


def test_a_program_gets_the_weeks_in_order():
    weeks = calendar_weeks(row({MAY_2024 + 1: Cell.GAP, MAY_2024: Cell.COMPLETE}))
    assert weeks == [
        {"week": MAY_2024, "from": "2024-05-06", "state": "complete"},
        {"week": MAY_2024 + 1, "from": "2024-05-13", "state": "gap"},
    ]
