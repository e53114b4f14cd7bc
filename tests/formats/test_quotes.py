"""Quotations find the newest earlier message with their words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlog.formats.quotes import Said
from mlog.log.ids import MessageId


@given(st.lists(st.tuples(st.text(max_size=4), st.binary(min_size=16, max_size=16)), max_size=20))
def test_newest_message_with_the_same_words_is_found(messages: list[tuple[str, bytes]]):
    said = Said()
    newest: dict[str, bytes] = {}
    for text, mid in messages:
        said.remember(text, MessageId(mid))
        newest["".join(text.replace("`", "").split())] = mid
    for words, mid in newest.items():
        assert said.find(f" {words}\n") == (mid if words else None)


def test_words_never_said_are_not_found():
    assert Said().find("hi") is None
