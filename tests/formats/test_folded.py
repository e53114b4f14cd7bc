"""What became of messages: edits, reactions, answers, erased and absent texts."""

from __future__ import annotations

import sqlite3
import unicodedata

import pytest
from hypothesis import given

from mlog.errors import StoreError
from mlog.formats import Provenance
from mlog.formats.folded import Answered, moment, one_line, readable, told
from mlog.log.bodies import Kind
from tests.formats.exporting import mid, reaction, record, texts


def test_a_message_has_the_reactions_that_come_after_it_and_not_those_taken_back() -> None:
    events = [
        record(1, "hi"),
        reaction(2, 1, "👍", "Bo"),
        reaction(3, 1, "🎉", "Cem"),
        reaction(4, 1, "👍", "Cem"),
        reaction(5, 1, "🎉", "Cem", removed=True),
    ]
    [one] = told(events)
    assert one.reactions == (("👍", ("Bo", "Cem")),)


def test_an_edit_is_no_message_and_the_text_before_it_is_kept() -> None:
    edit = record(2, "new", kind=Kind.EDIT, to=(mid(1),))
    [one] = told([record(1, "old", current="new"), edit])
    assert (one.text, one.edited, one.before) == ("new", True, "old")


def test_an_erased_message_shows_no_text_at_all() -> None:
    [one] = told([record(1, "secret", current="secret too", erased=True)])
    assert (one.text, one.edited, one.before) == ("", False, "")


def test_an_answer_quotes_what_it_answers_also_where_that_comes_later() -> None:
    first, second = told([record(1, "yes", to=(mid(2), mid(9))), record(2, "a\nquestion " + "x" * 99)])
    found, missing = first.answers
    assert (found.n, found.author, len(found.start)) == (2, "Ann", 80)
    assert found.start.startswith("a question xx")
    assert missing == Answered()
    assert (first.answered, second.answered) == (False, True)


def test_an_answer_does_not_quote_what_was_erased() -> None:
    _, answer = told([record(1, "secret", erased=True), record(2, "yes", to=(mid(1),))])
    assert answer.answers[0].start == ""


def test_only_what_a_file_says_is_claimed() -> None:
    sources = [None, Provenance(format=""), Provenance(format="irc", name="a.log")]
    assert [one.claimed for one in told(record(n, source=s) for n, s in enumerate(sources))] == [0, 0, 1]


def test_no_date_is_none_and_a_late_one_ends_with_the_year_9999() -> None:
    assert moment(0) is None
    assert str(moment(2**53 - 1)) == "9999-12-31 23:59:59+00:00"


@given(texts)
def test_readable_text_has_no_control_characters_and_a_line_has_no_end(text: str) -> None:
    controls = [c for c in readable(text) if unicodedata.category(c) == "Cc"]
    assert set(controls) <= {"\n", "\t"}
    line = one_line(text)
    assert not set(line) & set("\n\t\u2028\u2029\u202e\u2066\u200f")


def test_no_room_for_temporary_data_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    def small(*args, **options) -> sqlite3.Connection:
        disk = real(*args, **options)
        disk.execute("PRAGMA max_page_count = 8")
        return disk

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StoreError, match="Free some space"):
        list(told(record(n, "x" * 1000) for n in range(200)))
