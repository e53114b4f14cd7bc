"""Text of HTML: what a browser shows, in time that grows with the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.formats.html_text import charset_in, text_of_html


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a &amp; b</p><script>x</script><p>c<br>d", "a & b\n\nc\nd"),
        ("1 < 2 <!-- no", "1 < 2"),
        ("<head><title>x</title></head><body>a\n  b</body>", "a b"),
        ("\u0130<style>x</style>b", "\u0130b"),
        ("5 \x80 and 5 &#128;", "5 € and 5 €"),
        ("", ""),
    ],
)
def test_text_is_what_a_browser_shows(html: str, text: str):
    assert text_of_html(html) == text


@pytest.mark.parametrize("html", ["<!--" * 100_000, "<head>" * 100_000, "<" * 100_000, "<style" * 100_000])
def test_broken_pages_are_read_in_good_time(html: str):
    assert len(text_of_html(html)) <= len(html)


@given(
    st.lists(st.sampled_from(["<", ">", "<p", "<!--", "-->", "</style>", "<style>", "&#0;", "&#55296;", "x"]))
)
def test_any_page_gives_text(pieces: list[str]):
    text = text_of_html("".join(pieces))
    assert "\0" not in text
    text.encode()


def test_charset_is_found_in_either_form():
    assert charset_in(b'<html><meta charset="koi8-r">') == "koi8-r"
    assert charset_in(b"<meta http-equiv=x content='text/html; charset=UTF-8'>") == "UTF-8"
    assert charset_in(b"charset=x" + b"<meta" * 1000) == ""
