"""The calendar of a log: a row for each device, a column for each week, newest on the right.

    2023         2024
    Nov Dec  Jan  Feb Mar
    ████████████████▒▒       this device
    ····████████████░░       phone

One character says what is known of a week at a device. A terminal that cannot show blocks gets
ASCII; the last line explains the signs that occur. Where there are more weeks than columns, the
newest ones are shown, and a line says how many are not.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

from mlog.cli.terminal import safe, shorten, width

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlog.api.standing import Calendar, CalendarRow
    from mlog.cli.output import Console

__all__ = ["calendar_lines", "calendar_weeks", "fits", "week_start"]

_FIRST_MONDAY: Final = datetime(2000, 1, 3, tzinfo=UTC)

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_NAME_COLUMNS_MAX: Final = 20
_YEAR_COLUMNS: Final = 4
_INDENT: Final = 2
_GAP: Final = 2

_SIGNS: Final[Mapping[str, tuple[str, str]]] = {
    "complete": ("█", "#"),
    "behind": ("▒", "<"),
    "absent on purpose": ("·", "."),
    "gap": ("✗", "X"),
    "unknown": ("?", "?"),
}
"""For each kind of cell its sign, and the one in ASCII."""

_NOTHING: Final = " "


def week_start(week: int) -> str:
    """The Monday that a week begins with, `2024-05-06`."""
    return f"{_FIRST_MONDAY + timedelta(weeks=week):%Y-%m-%d}"


def fits(calendar: Calendar, columns: int) -> bool:
    """Whether all weeks of a calendar have room on a terminal."""
    return 0 < len(calendar.weeks) <= _room(calendar.rows, columns)


def calendar_lines(calendar: Calendar, console: Console, columns: int) -> Iterator[str]:
    """A calendar as people read it.

    Args:
        columns: Of the terminal; the newest weeks are shown that have room.
    """
    room = _room(calendar.rows, columns)
    weeks = calendar.weeks[-room:]
    if not weeks:
        yield " " * _INDENT + console.dim("no entry in any week")
        return
    for heading in _headings(weeks):
        yield " " * _INDENT + console.dim(heading)
    for row in calendar.rows:
        cells = "".join(
            _painted(console, cell, len(list(run)))
            for cell, run in groupby(str(row.cells[week]) if week in row.cells else "" for week in weeks)
        )
        yield " " * _INDENT + cells + " " * _GAP + _name(row)
    yield " " * _INDENT + console.dim(_legend(calendar.rows, weeks, unicode=console.unicode))
    hidden = len(calendar.weeks) - len(weeks)
    if hidden:
        said = f"{hidden:,} earlier weeks, from {week_start(calendar.weeks[0])} on, have no room here"
        yield " " * _INDENT + console.dim(said)


def calendar_weeks(row: CalendarRow) -> list[dict[str, object]]:
    """The weeks of one device for a program; those in which there is nothing are left out."""
    return [
        {"week": week, "from": week_start(week), "state": str(cell)}
        for week, cell in sorted(row.cells.items())
    ]


def _room(rows: Sequence[CalendarRow], columns: int) -> int:
    names = max((width(_name(row)) for row in rows), default=0)
    return max(columns - _INDENT - _GAP - names, 1)


def _name(row: CalendarRow) -> str:
    return "this device" if row.here else shorten(safe(row.name) or "?", _NAME_COLUMNS_MAX)


def _headings(weeks: range) -> tuple[str, str]:
    """A line of years and a line of months, each word where its first week begins."""
    room = max(len(weeks), _YEAR_COLUMNS)
    years, months = [" "] * room, [" "] * room
    year_end = month_end = 0
    last = 0, 0
    for at, week in enumerate(weeks):
        day = _FIRST_MONDAY + timedelta(weeks=week)
        year, month = f"{day.year:04}", _MONTHS[day.month - 1]
        if last[0] != day.year and at >= year_end and at + len(year) <= room:
            years[at : at + len(year)] = year
            year_end = at + len(year) + 1
        if last != (day.year, day.month) and at >= month_end and at + len(month) <= room:
            months[at : at + len(month)] = month
            month_end = at + len(month) + 1
        last = day.year, day.month
    return "".join(years).rstrip(), "".join(months).rstrip()


def _sign(cell: str, *, unicode: bool) -> str:
    return _SIGNS[cell][0 if unicode else 1]


def _painted(console: Console, cell: str, count: int) -> str:
    if not cell:
        return _NOTHING * count
    text = _sign(cell, unicode=console.unicode) * count
    match cell:
        case "complete":
            return console.good(text)
        case "behind":
            return console.warn(text)
        case "gap":
            return console.bad(text)
        case _:
            return console.dim(text)


def _legend(rows: Sequence[CalendarRow], weeks: range, *, unicode: bool) -> str:
    seen = {str(row.cells[week]) for row in rows for week in weeks if week in row.cells}
    return "   ".join(f"{_sign(name, unicode=unicode)} {name}" for name in _SIGNS if name in seen)
