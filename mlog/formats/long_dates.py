"""Dates written out as sentences: "Tuesday, January 2, 2024 at 3:04:05 PM UTC", in many languages.

Read by what each part is, not by its place: the time has colons, the year four digits, the month is
a word of mlog/formats/clock_words.py or a number before 月 or 월, the day is what is left.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from mlog.formats.clock_words import half_of_day, month, without_marks

__all__ = ["long_date_ms"]

_LENGTH_MAX: Final = 200
_TIME: Final = re.compile(
    r"(?P<h>\d{1,2})[:.](?P<m>\d\d)(?:[:.](?P<s>\d\d)(?:[.,]\d{1,9})?)?"
    r"|(?P<h2>\d{1,2})[時时시] ?(?P<m2>\d{1,2})[分분](?: ?(?P<s2>\d{1,2})[秒초])?"
)
_CJK_DATE: Final = re.compile(r"(?P<Y>\d{4})[年년] ?(?P<M>\d{1,2})[月월] ?(?P<D>\d{1,2})[日일]")
_ISO_DATE: Final = re.compile(r"(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d)")
_ZONE: Final = re.compile(r"\b(?:UTC|GMT|Z)(?:(?P<sign>[+−-])(?P<h>\d{1,2})(?::?(?P<m>\d\d))?)?")
_WORD: Final = re.compile(r"[^\W\d_]+\.?(?:[  ]?[^\W\d_]\.)?|\d+")

_NO_HALVES: Final = frozenset(("de", "du", "in", "em", "ip", "ap", "sa", "md", "pd", "ch", "rn"))
"""Halves of the day beside a time of digits, but other words in a sentence ("2 de enero")."""


def long_date_ms(written: str, zone: tzinfo | None) -> int | None:
    """Milliseconds since 1970, or None if the date is not understood.

    Args:
        zone: Of dates that name none; UTC if it is None.
    """
    written = without_marks(written[:_LENGTH_MAX]).replace("\u202f", " ").replace("\u00a0", " ")
    written = re.sub(r"(?<=\d)T(?=\d)", " ", written)
    named = _ZONE.search(written)
    if named is not None:
        zone = _zone(named)
        written = written[: named.start()] + written[named.end() :]
    times = list(_TIME.finditer(written))
    if not times:
        return None
    time = times[-1]  # "2.01" before it may be a date.
    hour, minute, second = (int(time[name] or time[f"{name}2"] or 0) for name in "hms")
    rest = f"{written[: time.start()]} {written[time.end() :]}"
    date = _CJK_DATE.search(rest) or _ISO_DATE.search(rest)
    year, number, day = (int(date[name]) for name in "YMD") if date is not None else _date(rest)
    half = _half(rest)
    if half >= 0 and hour <= 12:
        hour = hour % 12 + half
    try:
        moment = datetime(year, number, day, hour, minute, second, tzinfo=zone or UTC)
        return max(int(moment.timestamp() * 1000), 0)
    except (ValueError, OverflowError):
        return None


def _zone(found: re.Match[str]) -> tzinfo:
    if found["sign"] is None:
        return UTC
    offset = timedelta(hours=int(found["h"]), minutes=int(found["m"] or 0))
    try:
        return timezone(offset if found["sign"] == "+" else -offset)
    except ValueError:
        return UTC


def _date(text: str) -> tuple[int, int, int]:
    year = number = day = 0
    for word in _WORD.findall(text):
        if word.isdecimal():
            if len(word) == 4 and not year:
                year = int(word)
            elif len(word) <= 2 and not day:
                day = int(word)
        elif not number:
            number = month(word)
    return year, number, day


def _half(text: str) -> int:
    for word in re.findall(r"(?:[^\W\d_]\. ?){2,3}|[^\W\d_]+\.?", text):
        half = half_of_day(word)
        if half is not None and half >= 0 and len(word) > 1 and word.casefold() not in _NO_HALVES:
            return half
    return -1
