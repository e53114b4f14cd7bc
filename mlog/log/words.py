"""Search words: how text is cut so that full-text search finds any script.

SQLite's unicode61 tokenizer splits at spaces and punctuation, and so takes a whole Chinese
sentence for one word. Here every character of a script that is written without spaces, and
every symbol, becomes a word of its own; a query is cut alike and matched as a phrase. What that
costs: docs/decisions/0004-search-in-any-script.md.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from mlog import limits
from mlog.errors import UserError

__all__ = ["match_expression", "searchable"]

_UNSPACED: Final = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u303c"  # Han radicals and marks
    "\u3040-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Kana, Bopomofo, Han
    "\ua000-\ua4cf"  # Yi
    "\ua980-\ua9df\u1b00-\u1b7f"  # Javanese, Balinese
    "\u2190-\u2bff"  # arrows, mathematics, technical, dingbats: symbols are words
)
_SPLIT: Final = re.compile(f"([{_UNSPACED}])|([\U00010000-\U0010ffff])")
_FOLDED_AT_FIRST: Final = 16_384
_FOLDED_SLACK: Final = 1_024
"""Characters behind the bound that may be other ones, where a text was cut amid an accented letter."""
_JOINERS: Final = re.compile("[\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]")


def searchable(text: str) -> str:
    """The text as the index takes it: folded, one script-independent word after the other."""
    if text.isascii():
        return text.replace("\0", " ")
    text = _folded(text)
    # Some letters fold into 18, and symbols are spelled out: the index stays in proportion to the text.
    return _SPLIT.sub(_spaced, text[: limits.SEARCH_TEXT_MAX])[: limits.SEARCH_TEXT_MAX]


def _folded(text: str) -> str:
    """As much of a text, folded, as the index takes, and a little more.

    A letter may fold into 18: of a long text only as much is folded as may be needed.
    """
    taken = _FOLDED_AT_FIRST
    while True:
        folded = unicodedata.normalize("NFKC", text[:taken]).casefold()
        folded = _JOINERS.sub("", folded).replace("\0", " ")
        if taken >= len(text) or len(folded) >= limits.SEARCH_TEXT_MAX + _FOLDED_SLACK:
            return folded
        taken *= 4


def _spaced(match: re.Match[str]) -> str:
    character = match[0]
    # Symbols and astral characters are spelled out: SQLite knows only Unicode 6.1's letters.
    return f" {character} " if character.isalpha() and match[1] else f" u{ord(character):x} "


def match_expression(query: str) -> str:
    """An FTS5 expression: all words of the query, each quoted, so that nothing is an operator.

    A word that ends in `*` matches as a prefix; words in double quotes match as a phrase.

    Raises:
        UserError: No letter or digit in it.
    """
    phrases: list[str] = []
    for quoted, word in re.findall(r'"([^"]*)"|(\S+)', query):
        prefix = word.endswith("*")
        cut = re.sub(r"[\s\"\x00]+", " ", searchable(quoted or word.rstrip("*"))).strip()
        if any(character.isalnum() for character in cut):
            phrases.append(f'"{cut}"' + ("*" if prefix else ""))
    if not phrases:
        raise UserError("nothing to search for: give at least one word, number or symbol.")
    return " ".join(phrases)
