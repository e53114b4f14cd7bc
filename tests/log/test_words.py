"""Search words: any script, any query, and nothing in it is an operator."""

from __future__ import annotations

import sqlite3
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import UserError
from mlog.log.words import _JOINERS, _SPLIT, _spaced, match_expression, searchable

TOKENIZER = "unicode61 remove_diacritics 2"


def finds(query: str, text: str) -> bool:
    db = sqlite3.connect(":memory:")
    try:
        db.execute(f"CREATE VIRTUAL TABLE search USING fts5(words, content='', tokenize='{TOKENIZER}')")
        db.execute("INSERT INTO search (rowid, words) VALUES (1, ?)", (searchable(text),))
        match = "SELECT 1 FROM search WHERE search MATCH ?"
        return bool(db.execute(match, (match_expression(query),)).fetchall())
    finally:
        db.close()


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("wall", "ten green bottles, hanging on the wall"),
        ("WALL", "the Wall."),
        ("green wall", "the wall is green"),
        ('"green bottles"', "ten green bottles"),
        ("bott*", "ten green bottles"),
        ("天气", "今天天气很好"),
        ("天气 很好", "今天天气很好"),
        ("東京", "昨日は東京タワーに行きました"),
        ("สวัสดี", "พูดว่าสวัสดีครับ"),
        ("straße", "STRASSE"),
        ("cafe", "un café noir"),
        ("café", "un cafe\u0301 noir"),
        ("Привет", "ПРИВЕТ, мир"),
        ("한국어*", "저는 한국어를 배웁니다"),
        ("👍", "well done 👍"),
        ("👍🏽", "well done 👍🏽!"),
        ("→", "a → b"),
        ("𝒳", "let x = 𝒳"),
        ("𠮷", "𠮷野家"),
        ("ﬁne", "fine"),
        ("２０２６", "in 2026"),
        ("a\u200bb", "ab"),
        ("nul", "a\0nul byte"),
        ("don't", "I don't know"),
        ("C++", "written in C++"),
        ("AND", "this and that"),
        ("near(a", "near (a)"),
    ],
)
def test_is_found(query: str, text: str):
    assert finds(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("气天", "今天天气很好"),
        ('"bottles green"', "ten green bottles"),
        ("bott", "ten green bottles"),
        ("bottles red", "ten green bottles"),
        ("NOT", "something else"),
        ("👎", "well done 👍"),
    ],
)
def test_is_not_found(query: str, text: str):
    assert not finds(query, text)


@pytest.mark.parametrize("query", ["", "   ", '""', "*", "!?…", '"" * ""', "\0", "\u200b"])
def test_a_query_without_a_word_is_refused(query: str):
    with pytest.raises(UserError):
        match_expression(query)


@given(st.text())
def test_any_query_is_an_expression_or_refused(query: str):
    try:
        expression = match_expression(query)
    except UserError:
        return
    db = sqlite3.connect(":memory:")
    try:
        db.execute(f"CREATE VIRTUAL TABLE search USING fts5(words, tokenize='{TOKENIZER}')")
        db.execute("SELECT 1 FROM search WHERE search MATCH ?", (expression,)).fetchall()
    finally:
        db.close()


@given(st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12))
def test_any_word_is_found_in_itself_and_among_others(word: str):
    if not any(c.isalnum() for c in searchable(word)):
        return
    assert finds(word, f"before {word} after")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_composed_and_decomposed_text_search_alike(text: str):
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert searchable(composed) == searchable(decomposed) or text.isascii()


@pytest.mark.parametrize("piece", ["\ufdfa", "caf\u00e9 \u1e9e ", "e\u0301x", "\U0001f600\u200d", "中 a"])
def test_a_long_text_is_folded_as_a_short_one_up_to_the_bound(piece: str):
    text = piece * (60_000 // len(piece))
    folded = unicodedata.normalize("NFKC", text).casefold()
    whole = _SPLIT.sub(_spaced, _JOINERS.sub("", folded)[: limits.SEARCH_TEXT_MAX])
    assert searchable(text) == whole[: limits.SEARCH_TEXT_MAX]
