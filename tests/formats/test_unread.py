"""What a person is told of files that mlog does not read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import UserError
from mlog.formats import detect, sniffed
from mlog.formats.detection import sniff_files
from mlog.formats.unread import advice
from mlog.limits import SNIFF_SIZE_BYTES

from .trees import MemoryTree

HTML = "<!DOCTYPE html>\n<html><head>{}</head><body>{}</body></html>"


@pytest.mark.parametrize(
    ("head", "name", "words"),
    [
        (b"SQLite format 3\0\x10", "chat.db", "database"),
        (b"!BDN\0\0", "mails.pst", "readpst"),
        (gzip.compress(b"From a b\n", mtime=0), "mail.mbox.gz", "zcat FILE"),
        (HTML.format("<title>Exported Data</title>", ""), "messages.html", "result.json"),
        (HTML.format("", '<div class="chatlog__message-group">'), "c.html", "JSON"),
        ("AuthorID,Author,Date,Content,Attachments,Reactions\n", "c.csv", "JSON"),
        ("=" * 62 + "\nGuild: Home\nChannel: tea\n" + "=" * 62 + "\n", "c.txt", "JSON"),
        (HTML.format("", '<ol class="mx_RoomView_MessageList">'), "messages.html", "as JSON"),
        (HTML.format("", '<div class="_a6-g">'), "message_1.html", "JSON"),
        ("<!-- Generated on x by signalbackup-tools (1). -->", "index.html", "pages of the chats"),
        (b"\x00\x01", "msgstore.db.crypt15", "Export chat"),
        (b"\x00\x01", "signal-2024-01-02-03-04-05.backup", "signalbackup-tools"),
        ("1234      \nReceived: from x\n", "1.emlx", "Apple Mail"),
        ("%PDF-1.7\n", "chat.pdf", "JSON or text"),
        ("bplist00", "x.plist", "Apple"),
        ('<?xml version="1.0"?>\n<!DOCTYPE plist>', "x.plist", "Apple"),
        ('{"conversations": [', "Hangouts.json", "Hangouts"),
    ],
)
def test_what_a_file_is_and_what_to_do_instead_is_said(head: bytes | str, name: str, words: str):
    data = head if isinstance(head, bytes) else head.encode()
    assert words in advice(data, name)
    with pytest.raises(UserError, match=r"is not read: it is .*\.$") as refused:
        detect(data, name)
    assert words in str(refused.value)
    _, unknown = sniff_files(MemoryTree({f"x/{name}": data}), ())
    assert [words in reason for _, reason in unknown] == [True]


def test_of_what_nobody_knows_nothing_is_said():
    assert advice(b"hello", "hello.txt") == advice(b"", "") == ""


def test_parts_of_a_chat_are_read_in_the_order_of_their_numbers():
    log = b"[09:14] <a> hi\n[09:15] <b> ho\n"
    names = [f"tea [part {number}].log" for number in range(1, 12)]
    found, _ = sniff_files(MemoryTree(dict.fromkeys(names, log)), ())
    assert [name for _, name in found] == names


@given(st.binary(max_size=300), st.text(max_size=20))
def test_any_file_has_an_advice_or_none(head: bytes, name: str):
    assert advice(head, name) == advice(head, name).strip(". ")


def test_heads_that_never_end_take_no_time():
    for start in (b"<!DOCTYPE html>", b" ", b"=", b"<html ", b"1\n", b"\xff"):
        advice(start + b" " * SNIFF_SIZE_BYTES, "x")
        advice(start * SNIFF_SIZE_BYTES, "x")


@pytest.mark.corpus
def test_no_file_of_the_corpus_that_is_read_is_called_unread(corpus: Path):
    for path in sorted(corpus.glob("exports/**/*.*")):
        raw = path.read_bytes()[:SNIFF_SIZE_BYTES]
        if path.is_file() and path.suffix != ".zip" and sniffed(raw, path.name) is not None:
            assert detect(raw, path.name)
