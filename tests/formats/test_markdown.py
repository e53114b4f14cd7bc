"""Markdown: a CommonMark reader sees the texts as they were written, and no markup of theirs."""

from __future__ import annotations

import re

from hypothesis import given
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mlog.formats import File
from mlog.formats.folded import one_line, readable
from mlog.log.bodies import Kind
from tests.formats.exporting import HOSTILE, mid, reaction, record, texts, written

_OURS = {"h1", "h2", "p", "blockquote", "strong", "em", "a"}


def tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").parse(text)


def inside(found: list[Token]) -> list[Token]:
    return [child for token in found for child in token.children or ()]


def quoted(text: str) -> str:
    """What stands in the quotations, as a reader of CommonMark shows it."""
    depth, paragraphs = 0, []
    for token in tokens(text):
        depth += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if depth and token.type == "inline":
            paragraphs.append(
                "".join(
                    "\n" if child.type in ("hardbreak", "softbreak") else child.content
                    for child in token.children or ()
                )
            )
    return "\n\n".join(paragraphs)


def comparable(text: str) -> str:
    """Empty lines part paragraphs, however many there are."""
    return re.sub(r"\n\n+", "\n\n", re.sub(r"(?m)^[^\S\n]+$", "", readable(text))).strip("\n")


@given(texts)
def test_a_text_reads_as_it_was_written(text: str) -> None:
    assert quoted(written("markdown", [record(1, text)])) == comparable(text)


@given(texts, texts)
def test_nothing_that_people_wrote_is_markup(text: str, name: str) -> None:
    found = tokens(written("markdown", [record(1, text, name)], title=name))
    everything = [*found, *inside(found)]
    assert {token.tag for token in everything if token.nesting == 1} <= _OURS - {"a", "em"}
    assert not [token for token in everything if token.type in ("html_block", "html_inline", "image")]
    assert not [token for token in everything if token.type in ("fence", "code_block", "code_inline", "hr")]
    assert [token.tag for token in found if token.type == "heading_open"] == ["h1", "h2"]


def test_all_hostile_texts_stay_in_their_places() -> None:
    found = tokens(written("markdown", [record(n, text) for n, text in enumerate(HOSTILE)]))
    assert len([token for token in found if token.type == "blockquote_open"]) == len(HOSTILE)


def test_a_reply_links_to_the_message_that_it_answers() -> None:
    text = written("markdown", [record(1, "who [waters]?"), record(2, "me", "Bo", to=(mid(1), mid(7)))])
    links = [child.attrs["href"] for child in inside(tokens(text)) if child.type == "link_open"]
    assert links == ["#m1"]
    assert text.count('<a id="m1"></a>') == 1
    assert '<a id="m2"></a>' not in text
    assert "a message that is not in this file" in text


def test_days_edits_reactions_files_titles_and_what_is_gone_are_shown() -> None:
    text = written(
        "markdown",
        [
            record(0, "Plot", kind=Kind.TITLE),
            record(1, "old", current="new", files=(File(name="a_b.jpg"),)),
            reaction(2, 1, "👍"),
            record(3, "", erased=True),
            record(4, "", absent=True),
            record(5, "Bo has joined", "Bo", kind=Kind.JOIN),
            record(1440, "waves", kind=Kind.ACTION),
            record(9, "when?", time_ms=0),
        ],
    )
    assert text.startswith("# Garden\n")
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        "Wednesday, 2024-05-01",
        "Thursday, 2024-05-02",
        "No date",
    ]
    for part in (
        "called the conversation “Plot”",
        "10:01:00, edited\n\n> new\n",
        "Attachment: a\\_b.jpg",
        "👍 Bo\n",
        "> *(erased)*",
        "> *(its text is not on this device)*",
        "*Bo has joined* 10:05:00",
        "> \\* Ann waves",
    ):
        assert part in text
    assert "old" not in text


def test_a_message_that_is_only_a_file_has_no_empty_quotation() -> None:
    text = written("markdown", [record(1, "", files=(File(name="a.jpg"),))])
    assert "10:01:00\n\n\nAttachment: a.jpg\n" in text
    assert ">" not in text


def test_a_name_stays_in_its_line() -> None:
    name = "\u202eevil\n\n# Head"
    assert "\n" not in one_line(name)
    assert "**evil # Head**" in written("markdown", [record(1, "x", name)])
