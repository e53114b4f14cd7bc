"""Mailboxes in each dialect: no mail is joined with another, none is cut, and quoting is undone."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.formats.mbox_split import is_envelope, mails
from mlog.formats.source import Source
from mlog.limits import MAIL_SIZE_MAX_BYTES

ENVELOPE = "From ann@example.org Thu Jan  2 03:04:05 2020"


def split(box: str | bytes) -> list[bytes | None]:
    raw = box.encode() if isinstance(box, str) else box
    return list(mails(Source(io.BytesIO(raw), "x").lines(MAIL_SIZE_MAX_BYTES)))


def bodies(box: str) -> list[str]:
    return [(mail or b"").decode().partition("\n\n")[2] for mail in split(box)]


def box_of(*texts: str, quote: str = "", counted: int | None = None, line_end: str = "\n") -> str:
    """A mailbox in a dialect: `quote` is "o" or "rd"; `counted` what Content-Length adds to the length."""
    box = ""
    for text in texts:
        lines = text.split("\n")
        if quote == "o":
            lines = [">" + line if line.startswith("From ") else line for line in lines]
        elif quote == "rd":
            lines = [">" + line if line.lstrip(">").startswith("From ") else line for line in lines]
        body = line_end.join([*lines, ""])
        length = [] if counted is None else [f"Content-Length: {len(body.encode()) + counted}"]
        box += line_end.join([ENVELOPE, "Subject: x", *length, "", body, ""])
    return box


HARD = f"x\n\n{ENVELOPE}\nSubject: not a mail\n\nFrom me\n>From you\n"


@pytest.mark.parametrize(
    ("dialect", "read"),
    [
        ({"quote": "o"}, HARD.replace(">From", "From")),  # what mboxo cannot tell apart
        ({"quote": "rd"}, HARD),
        ({"quote": "o", "counted": 0}, HARD.replace(">From", "From")),
        ({"counted": 0}, HARD),
        ({"counted": 0, "line_end": "\r\n"}, HARD),
        ({"counted": 1}, HARD),
        ({"counted": -1}, HARD),
    ],
)
def test_each_dialect_is_read(dialect: dict[str, object], read: str):
    for texts in (["a", HARD, "b"], [HARD, HARD], [HARD]):
        wanted = [(read if text == HARD else text) + "\n" for text in texts]
        assert bodies(box_of(*texts, **dialect)) == wanted  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("counted", [5, 100, 1000, -5, -100, 10**8])
def test_wrong_length_joins_no_mails(counted: int):
    texts = [f"text {n}" for n in range(5)]
    assert bodies(box_of(*texts, counted=counted)) == [text + "\n" for text in texts]


def test_cut_mailbox_keeps_the_mails_that_are_whole():
    whole = box_of("a", HARD, "b", counted=0)
    for end in range(whole.index(ENVELOPE, 1) + len(ENVELOPE), len(whole)):
        assert bodies(whole[:end])[0] == "a\n"


def test_envelope_is_no_sentence():
    assert is_envelope(ENVELOPE.encode())
    assert not is_envelope(b"From here on it rains.")


@given(
    st.lists(
        st.sampled_from(
            [ENVELOPE, "", ">From x", "Content-Length: 5", "Content-Length: 60", "Content-Length: 300", "x"]
        )
    )
)
def test_no_line_is_lost(lines: list[str]):
    box = "\n".join(["x", *lines])
    found = b"".join(mail or b"" for mail in split(box)).decode()
    assert [line for line in found.split("\n") if line == "x"] == [
        line for line in box.split("\n") if line == "x"
    ]
    said = found.count(ENVELOPE) + len(split(box)) - 1
    assert said == sum(line == ENVELOPE for line in lines) or "" in lines
