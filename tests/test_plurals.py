"""Numbers with their words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlog.plurals import counted

_MLOG = Path(__file__).resolve().parent.parent / "mlog"
# A constant is never one, and `all 3 entries` and `2 of 3 entries` are said of more than one.
_UNCOUNTED = re.compile(
    r"(?<!of )(?<!all )\{[a-z][^{}]*:,\} "
    r"(messages|entries|chains|heads|events|replies|attachments|people|gaps|logs|days)\b"
)


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ("message",), "1 message"),
        (0, ("message",), "0 messages"),
        (2, ("message",), "2 messages"),
        (1, ("entry", "entries"), "1 entry"),
        (12_345, ("entry", "entries"), "12,345 entries"),
        (1, ("person", "people"), "1 person"),
    ],
)
def test_a_number_has_the_word_that_it_takes(number: int, words: tuple[str, ...], said: str) -> None:
    assert counted(number, *words) == said


def test_a_count_that_is_told_goes_through_counted() -> None:
    found = [
        f"{path.relative_to(_MLOG)}: {match.group()}"
        for path in sorted(_MLOG.rglob("*.py"))
        for match in _UNCOUNTED.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
