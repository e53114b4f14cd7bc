"""What one line of a WhatsApp export says: a time stamp, who, and what.

| style | looks like                                      | written by             |
|-------|-------------------------------------------------|------------------------|
| [ ]   | [31/12/24, 15:04:05] Ann: text                  | iOS                    |
| -     | 31/12/24, 15:04 - Ann: text                     | Android                |
| :     | 31/12/14 15:04:05: Ann: text                    | iOS before 2016        |
| , [ ] | [15:04, 31/12/2024] Ann: text                   | copied from the screen |
| , -   | 15:04, 31/12/2024 - Ann: text                   | Android in Vietnamese  |

Digits of any script, separators "/", "." and "-", words of a.m. and p.m. before or after the time
(mlog/formats/clock_words.py), and invisible marks anywhere in the stamp. The first stamp of a file
sets the style of all: one of another style further on was pasted by somebody, and is text.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, NamedTuple

from mlog.formats.clock_words import MARKS, half_of_day, without_marks

__all__ = ["Authors", "Stamp", "StampReader"]

_M: Final = f"[{MARKS}]*"
_S: Final = r"[ \t\u00a0\u2009\u202f]"
_SEPARATOR: Final = rf"{_M}[/.\-]{_S}?{_M}"
_DATE: Final = rf"(?P<a>\d{{1,4}})(?P<sep>{_SEPARATOR})(?P<b>\d{{1,2}}){_SEPARATOR}(?P<c>\d{{1,4}})"
_TIME: Final = rf"(?P<h>\d{{1,2}})(?:[:.]|{_S}?h{_S}?)(?P<m>\d\d)(?:[:.](?P<s>\d\d))?"
_BEFORE: Final = r"(?P<before>[^\d\[\]:\n<]{1,24}?)"
_AFTER: Final = r"(?P<after>[^\d\[\]:\n<]{0,20}?)"

_STYLES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?P<mark>{_M})\[{_M}{_DATE}{_BEFORE}{_TIME}{_AFTER}\]{_S}?",
        rf"(?P<mark>{_M}){_DATE}{_BEFORE}{_TIME}{_AFTER}{_S}[-–]{_S}",
        rf"(?P<mark>{_M}){_DATE}{_BEFORE}{_TIME}{_AFTER}:{_S}",
        rf"(?P<mark>{_M})\[{_M}{_TIME}{_AFTER},{_S}{_M}{_DATE}(?P<before>)\]{_S}?",
        rf"(?P<mark>{_M}){_TIME}{_AFTER},{_S}{_M}{_DATE}(?P<before>){_S}[-–]{_S}",
    )
)

_NAME_LENGTH_MAX: Final = 128
_QUOTES: Final = re.compile('["“”„«»『』「」]')
_INNER_NAME: Final = re.compile(r"([^:\n]{1,64}): ")

_NAMED_TWICE: Final = 2
_COLON_NAME_MIN: Final = 8
"""So many messages must all go on with the same word and ": " before it is part of a name."""


class Stamp(NamedTuple):
    """The stamp at the start of a line.

    Attributes:
        numbers: Of the date, as they stand.
        date: The date as written, for messages.
        second: Of the day.
        exact: "s" or "m" by what the stamp gives.
        marked: The line begins with a mark: the app itself put something into it.
        rest: What follows.
    """

    numbers: tuple[str, str, str]
    date: str
    second: int
    exact: str
    marked: bool
    rest: str


class StampReader:
    """Finds stamps in the lines of one file."""

    def __init__(self) -> None:
        self._styles = _STYLES
        self._separator = ""
        self._halves: dict[str, int | None] = {}

    @property
    def bracketed(self) -> bool:
        """Whether the file is of iOS."""
        return self._styles[0] is _STYLES[0]

    def read(self, text: str) -> Stamp | None:
        """The stamp of a line, or None if it has none of the file's style."""
        for style in self._styles:
            found = style.match(text)
            if found is not None:
                stamp = self._stamp(text, found)
                if stamp is not None:
                    self._styles = (style,)
                    return stamp
        return None

    def _stamp(self, text: str, found: re.Match[str]) -> Stamp | None:
        hour, minute, second = int(found["h"]), int(found["m"]), int(found["s"] or 0)
        if hour > 24 or minute > 59 or second > 60:
            return None
        half = self._half(found["after"])
        if half == -1:
            half = self._half(found["before"])
        if half is None:
            return None
        if half >= 0 and hour <= 12:
            hour = hour % 12 + half
        separator = without_marks(found["sep"]).strip()
        if self._separator not in ("", separator):
            return None
        self._separator = separator
        date = text[found.start("a") : found.end("c")]
        return Stamp(
            (found["a"], found["b"], found["c"]),
            without_marks(date),
            hour % 24 * 3600 + minute * 60 + min(second, 59),
            "s" if found["s"] else "m",
            found["mark"] != "",
            text[found.end() :],
        )

    def _half(self, word: str) -> int | None:
        if word not in self._halves:
            if len(self._halves) > 1000:  # A file of nothing but new words would fill the memory.
                self._halves.clear()
            self._halves[word] = half_of_day(without_marks(word).strip(" \t\u00a0\u2009\u202f,.-–،、，"))
        return self._halves[word]


class Authors:
    """Tells "Ann: text" from a line of the app that happens to hold a colon.

    A name ends at the first ": ". Inside quotation marks it is none (Ann changed the subject to
    "Tea: black"), unless it speaks more than once. A name with ": " in it is recognised when all
    of its messages, and many, go on alike.
    """

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._inner: dict[str, str] = {}
        self._longer: dict[str, str] = {}

    def count(self, rest: str) -> None:
        """Look at what follows a stamp, before any of them is split."""
        name, said = _split(rest)
        if not name:
            return
        found = _INNER_NAME.match(said)
        inner = found[1] if found is not None else ""
        if self._inner.setdefault(name, inner) != inner:
            self._inner[name] = ""
        self._seen[name] += 1

    def settle(self) -> None:
        """After the last call of `count`."""
        for name, inner in self._inner.items():
            if inner and self._seen[name] >= _COLON_NAME_MIN and inner not in self._seen:
                self._longer[name] = f"{name}: {inner}"

    def split(self, rest: str) -> tuple[str, str]:
        """Author and text; the author is "" where the app itself speaks."""
        name, said = _split(rest)
        if name:
            longer = self._longer.get(name)
            if longer is not None and rest.startswith(f"{longer}: "):
                return longer, rest[len(longer) + 2 :]
            if len(_QUOTES.findall(name)) % 2 and self._seen[name] < _NAMED_TWICE:
                return "", rest
            return name, said
        name, colon, said = rest.partition(":")
        return (name, said) if colon and name in self._seen else ("", rest)


def _split(rest: str) -> tuple[str, str]:
    end = rest.find(": ", 0, _NAME_LENGTH_MAX + 2)
    if end > 0:
        return rest[:end], rest[end + 2 :]
    if rest.endswith(":") and 1 < len(rest) <= _NAME_LENGTH_MAX and rest.count(":") == 1:
        return rest[:-1], ""
    return "", rest
