"""Pages of signalbackup-tools as values: what each element is, in pieces of any size, and damage."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import LimitExceeded
from mlog.formats import Source
from mlog.formats.signal_html import Attached, Page, Said, is_page
from mlog.limits import MESSAGE_LINES_SIZE_MAX_BYTES

from .signal_page import attached, message, page, reacted


def read(data: bytes) -> tuple[Page, list[Said]]:
    one = Page()
    return one, list(one.read(Source(io.BytesIO(data), "Ann.html")))


def said(*messages: str, group: bool = False) -> list[Said]:
    return read(page(*messages, group=group))[1]


def test_a_page_is_told_by_its_first_line_and_an_index_is_none():
    assert is_page(page().decode())
    assert not is_page(page().decode().replace(".msg-incoming", ".menu"))
    assert not is_page(page().decode().partition("\n")[2])


def test_a_page_has_its_title_whether_it_is_of_a_group_and_comes_to_an_end():
    one, _ = read(page(title="A & B", group=True))
    assert (one.title, one.group, one.complete) == ("A & B", True, True)
    assert not read(page()[:-10])[0].complete
    assert not read(page())[0].group


def test_a_message_has_kind_name_text_and_time_and_nothing_of_what_is_around_it():
    (one,) = said(message("a &lt;b&gt;\n  c", name="Ann & Co"), group=True)
    assert one == Said(kind="incoming", name="Ann & Co", text="a <b>\n  c", time="Jan 02, 2024 15:04:05")
    kinds = [one.kind for one in said(message("x", kind="outgoing"), message("called", kind="status"))]
    assert kinds == ["outgoing", "status"]


def test_marks_in_a_text_go_and_addresses_that_it_hides_stay():
    text = (
        'see <a href="https://a.example/x">https://a.example/x</a> <b>and</b> '
        '<a class="styled-link" href="https://b.example">here</a> <span class="msg-emoji">☕</span>'
    )
    assert said(message(text))[0].text == "see https://a.example/x and here (https://b.example) ☕"


def test_a_quotation_is_apart_from_the_text_and_its_pictures_are_not_those_of_the_message():
    quote = (
        '<div class="msg-quote"><div class="msg-quote-message"><span class="msg-name">Ben</span>'
        '<pre>earlier</pre></div><div class="msg-quote-attach">' + attached("media/q.jpg") + "</div></div>"
    )
    (one,) = said(message("now", before=quote, name="Ann"), group=True)
    assert (one.quotation, one.text, one.name, one.files) == ("earlier", "now", "Ann", [])


def test_files_have_their_path_and_the_name_that_stands_beside():
    both = attached("media/Attachment_1_2.jpg") + attached("media/Attachment_3_4.pdf", "it's a.pdf")
    assert said(message("x", before=both))[0].files == [
        Attached("media/Attachment_1_2.jpg"),
        Attached("media/Attachment_3_4.pdf", "it's a.pdf"),
    ]


def test_reactions_name_all_who_reacted():
    (one,) = said(message("x", reactions=[reacted("👍", "Ann", "Ben"), reacted("☕", "Cat")]))
    assert one.reactions == [("👍", ["Ann", "Ben"]), ("☕", ["Cat"])]


def test_former_versions_are_apart_and_in_order():
    old = [message("one", time="Jan 02, 2024 15:00:00"), message("two")]
    (one,) = said(message("three", versions=old))
    assert [version.text for version in one.versions] == ["one", "two"]
    assert (one.text, one.versions[0].time, one.time) == (
        "three",
        "Jan 02, 2024 15:00:00",
        "Jan 02, 2024 15:04:05",
    )


@pytest.mark.parametrize(
    ("inside", "further"),
    [
        (
            '<div class="viewonce"><div class="viewonce_icon"></div><pre>Viewed</pre></div>',
            ["[view-once: Viewed]"],
        ),
        (
            '<div class="attachment"><div class="pending-attachment">(attachment not downloaded)</div></div>',
            ["[attachment: attachment not downloaded]"],
        ),
        (
            '<div class="shared-contact"><span class="shared-contact-name">Cat</span><pre>+49 1</pre></div>',
            ["[contact: Cat+49 1]"],
        ),
        (
            '<div class="linkpreview"><div class="linkpreview_title">\nTea\n</div></div>',
            ["[link: Tea]"],
        ),
        (
            (
                '<div class="poll"><div class="poll-title">Tea?</div><div class="poll-subtitle">Poll</div>'
                '<div class="poll-option-title">Yes</div><div class="poll-option-votes">2</div></div>'
            ),
            ["[poll: Tea?]", "- Yes"],
        ),
        ('<div class="of-a-later-version">something new</div>', ["something new"]),
        ('<span class="msg-name">Reacted to your story</span>', ["[reacted to a story]"]),
    ],
)
def test_what_is_no_text_is_kept_as_a_line(inside: str, further: list[str]):
    assert said(message("", before=inside))[0].further == further


def test_deleted_messages_are_known():
    assert said(message("This message was deleted.", css="deleted-msg"))[0].erased


def test_pieces_of_any_size_say_the_same():
    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(min(7, size or 7))

    data = page(message("ä ☕", name="Änn", reactions=[reacted("👍", "Ben")]), group=True)
    assert list(Page().read(Source(Slow(data), "x"))) == read(data)[1]


def test_a_message_without_end_is_refused_before_it_fills_the_memory():
    data = page(message("x" * (MESSAGE_LINES_SIZE_MAX_BYTES + 1)))
    with pytest.raises(LimitExceeded):
        read(data)


@given(
    st.integers(0, 3000),
    st.sampled_from([b"", b"<", b"</div>", b"<div>", b"<pre>", b"<!--", b"<![x", b"&#0;", b"\xff", b'"']),
    st.integers(0, 20),
)
def test_damage_gives_messages_or_a_documented_error(at: int, damage: bytes, lost: int):
    data = page(
        message("one", name="Ann", before=attached("media/a.jpg"), reactions=[reacted("👍", "Ben")]),
        message("three", versions=[message("two")]),
    )
    at += data.index(b'<div class="conv') if at % 2 else 0
    try:
        for one in read(data[:at] + damage + data[at + lost :])[1]:
            (one.text + one.name + one.quotation).encode()
    except LimitExceeded:
        pass


@given(
    st.lists(
        st.sampled_from(
            ['<div class="msg">', "<div>", "</div>", "<pre>", "</pre>", '<p class="footer">', "x"]
        )
    )
)
def test_any_nesting_gives_messages(parts: list[str]):
    read(("<html>" + "".join(parts) * 20).encode())
