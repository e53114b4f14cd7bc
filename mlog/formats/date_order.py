"""In which order the numbers of a date stand, told by all the dates of one file.

The same program writes 02/01/24, 01/02/24 or 24/01/02 as the phone's region has it. An order is out
where a number cannot be a month or day in it. What is left is told by time: a chat runs
forwards, and the wrong order jumps. A year of two digits stands first only where it cannot stand
last: phones of regions that begin with the year write all four. Where that does not tell either,
nobody can, and the person is asked: a guess would put half of a chat into wrong months.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Final

from mlog.errors import UserError

__all__ = ["ORDERS", "DateOrder", "day_of"]

_DAY_MIN: Final = date(2009, 1, 1).toordinal()
"""A year of two digits before this is another number: no program that writes them is older."""

_BUDDHIST_YEARS: Final = 543
_BUDDHIST_MIN: Final = 2500

_PERSIAN_MIN: Final = 1300
_PERSIAN_MAX: Final = 1499
_PERSIAN_LEAPS: Final = (1, 5, 9, 13, 17, 22, 26, 30)
"""Leap years in each 33 of the Persian calendar: as the sun has it from 1343 to 1472 (1964 to 2093)."""

_PERSIAN_EPOCH: Final = 226_894
"""Days before the first of Farvardin of year 1, as `date.toordinal` counts."""

_Numbers = tuple[str, str, str]


def day_of(year: str, month: str, day: str) -> int | None:
    """Days since 1 January of year 1 (`date.toordinal`), or None if there is no such day."""
    if len(year) not in (2, 4) or len(month) > 2 or len(day) > 2:
        return None
    number = int(year)
    if _PERSIAN_MIN <= number <= _PERSIAN_MAX:
        return _persian_day(number, int(month), int(day))
    if len(year) <= 2:
        number += 2000
    elif number >= _BUDDHIST_MIN:
        number -= _BUDDHIST_YEARS
    try:
        return date(number, int(month), int(day)).toordinal()
    except ValueError:
        return None


def _persian_day(year: int, month: int, day: int) -> int | None:
    """As `day_of`, for a year of the solar calendar of Iran and Afghanistan."""
    leap = year % 33 in _PERSIAN_LEAPS
    length = 31 if month <= 6 else 30 if month < 12 or leap else 29
    if not 1 <= month <= 12 or not 1 <= day <= length:
        return None
    passed = year - 1
    leaps = passed // 33 * len(_PERSIAN_LEAPS) + sum(one <= passed % 33 for one in _PERSIAN_LEAPS)
    return _PERSIAN_EPOCH + passed * 365 + leaps + 30 * (month - 1) + min(month - 1, 6) + day


ORDERS: Final[dict[str, Callable[[_Numbers], int | None]]] = {
    "dmy": lambda numbers: day_of(numbers[2], numbers[1], numbers[0]),
    "mdy": lambda numbers: day_of(numbers[2], numbers[0], numbers[1]),
    "ymd": lambda numbers: day_of(numbers[0], numbers[1], numbers[2]),
}


class _Candidate:
    """One order, and how the dates of the file look in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps_back = 0
        self._last = 0

    def take(self, day: int) -> None:
        if day < self._last - 1:  # One day: clocks are set, and phones travel.
            self.steps_back += 1
        self._last = day


class DateOrder:
    """Gathers dates until their order is settled; memory does not grow with their number."""

    def __init__(self) -> None:
        self._left = [_Candidate(name) for name in ORDERS]
        self._short_years = False
        self._differ: set[frozenset[str]] = set()
        self._example = ""

    def take(self, numbers: _Numbers, written: str) -> bool:
        """Count one date in; False if it is none in any order that is still possible.

        Args:
            written: The date as it stands in the file, for messages.
        """
        days = {one.name: ORDERS[one.name](numbers) for one in self._left}
        fitting = [one for one in self._left if days[one.name] is not None]
        if not fitting:
            return False
        self._short_years = max(map(len, numbers)) <= 2
        if self._short_years:
            fitting = [one for one in fitting if (days[one.name] or 0) >= _DAY_MIN] or fitting
        self._left = fitting
        for one in fitting:
            day = days[one.name]
            assert day is not None
            one.take(day)
            for other in fitting:
                if days[other.name] != day:
                    self._differ.add(frozenset((one.name, other.name)))
                    self._example = self._example or written
        return True

    @property
    def settled(self) -> bool:
        """Whether numbers alone left one order only; further dates change nothing."""
        return len(self._left) == 1

    def order(self, name: str, hint: str) -> str:
        """The order of the file.

        Args:
            name: Of the file, for messages.
            hint: `Hints.date_order`.

        Raises:
            UserError: The dates do not tell and there is no hint, or the hint cannot be.
        """
        names = [one.name for one in self._left]
        if hint:
            if hint not in ORDERS:
                raise UserError(f"no date order {hint!r}. Known are: {', '.join(ORDERS)}.")
            if hint not in names:
                raise UserError(
                    f"{name}: its dates cannot be read as {hint}, only as {' or '.join(names)}. "
                    f"Leave --date-order out, or say --date-order {names[0]}."
                )
            return hint
        best = self._best()
        for one in best[1:]:
            if frozenset((best[0].name, one.name)) in self._differ:
                choices = " or ".join(f"--date-order {other.name}" for other in best)
                raise UserError(
                    f"{name}: cannot tell days from months, as in {self._example!r}. "
                    f"Say in which order day (d), month (m) and year (y) stand: {choices}."
                )
        return best[0].name

    def _best(self) -> list[_Candidate]:
        fewest = min(one.steps_back for one in self._left)
        best = [one for one in self._left if one.steps_back == fewest]
        if self._short_years:
            best = [one for one in best if one.name != "ymd"] or best
        return best
