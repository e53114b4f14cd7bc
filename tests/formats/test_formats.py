"""The package as its callers see it: detection, names, start-up, bounded memory, documented errors only."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import InvalidInput, UserError
from mlog.formats import EXPORTERS, IMPORTERS, Chat, Record, Skipped, Source, detect, exporter, importer
from mlog.limits import SNIFF_SIZE_BYTES

from .signal_page import message, page, reacted

SAMPLES = {
    "mlog": (
        b'{"kind":"conversation","format":"mlog","format_version":1,"key":"k","title":"t"}\n'
        b'{"kind":"message","id":"00112233445566778899aabbccddeeff","text":"hi"}\n'
    ),
    "telegram": (
        b'{"name":"t","type":"x","id":1,"messages":[{"id":1,"type":"message","from":"a","from_id":"user1",'
        b'"text":"hi"}]}'
    ),
    "matrix": (
        b'{"room_name":"t","exported_by":"a","messages":[{"type":"m.room.message","sender":"@a:b","event_id":'
        b'"$1","origin_server_ts":1,"content":{"msgtype":"m.text","body":"hi"}}]}'
    ),
    "discord": (
        b'{"guild":{"id":"1","name":"g"},"channel":{"id":"2","name":"c"},"messages":[{"id":"3",'
        b'"type":"Default","timestamp":"2020-01-02T03:04:05Z","content":"hi","author":{"id":"4","name":"a"}}]}'
    ),
    "meta": b'{"messages":[{"sender_name":"a","timestamp_ms":1,"content":"hi"}]}',
    "google-chat": (
        b'{"messages": [{"creator": {"name": "Ann"},'
        b' "created_date": "Tuesday, January 2, 2024 at 3:04:05 PM UTC",'
        b' "text": "hi", "topic_id": "t", "message_id": "g/t/m"}]}'
    ),
    "signal": (
        b'{"date": "2024-01-02T15:04:05.123000+00:00", "sender": "Ann", "body": "hi", "quote": "",'
        b' "sticker": null, "reactions": [], "attachments": []}\n'
    ),
    "google-voice": (
        b'<html><body><div class="hChatLog hfeed"><div class="message">'
        b'<abbr class="dt" title="2024-01-02T15:04:05.678Z">x</abbr><cite class="sender"><a class="tel" '
        b'href="tel:+1732"><span class="fn">Ann</span></a></cite><q>hi</q></div></div></body></html>'
    ),
    "sms": b'<smses count="1"><sms address="+49170" date="1704207845000" type="1" body="hi" /></smses>',
    "whatsapp": b"31/1/24, 09:14 - Ann: hi\n31/1/24, 09:15 - Ben: ho\n",
    "mbox": b"From a Thu Jan  2 03:04:05 2020\nSubject: hi\nFrom: a@example.org\n\nho\n",
    "eml": b"Subject: hi\nFrom: a@example.org\n\nho\n",
    "irc": b"[09:14] <a> hi\n[09:15] <b> ho\n",
}


def test_every_importer_has_a_sample_here():
    assert [known.name for known in IMPORTERS] == list(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_formats_are_told_by_content_whatever_the_name(name: str):
    found = detect(SAMPLES[name], "a.txt")
    assert found.name == name
    assert any(isinstance(item, Record) for item in found.parse(Source(io.BytesIO(SAMPLES[name]), "x")))


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_content_that_is_empty_is_called_so(data: bytes):
    with pytest.raises(UserError, match=r"^a.txt is empty"):
        detect(data, "a.txt")


@pytest.mark.parametrize("data", [b"nothing of the kind\n", b"\x89PNG\r\n\x1a\n\0\0", b"{}", b"[1]"])
def test_unknown_content_names_the_formats_and_the_option(data: bytes):
    with pytest.raises(UserError, match=r"mlog, telegram, .*mbox, eml, irc.*--format"):
        detect(data, "a.txt")


def test_names_find_their_formats_and_others_are_refused():
    assert [importer(known.name) for known in IMPORTERS] == list(IMPORTERS)
    assert [exporter(known.name) for known in EXPORTERS] == list(EXPORTERS)
    with pytest.raises(UserError, match="Known are: mlog"):
        importer("word")
    with pytest.raises(UserError, match="Known are: jsonl"):
        exporter("word")


def test_importing_the_package_loads_no_format():
    heavy = "{'ijson', 'email', 'sqlite3', 'mlog.formats.irc', 'mlog.formats.mail', 'mlog.formats.jsonl'}"
    code = f"import sys, mlog.formats; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@given(
    st.sampled_from(list(SAMPLES)),
    st.sampled_from(list(SAMPLES)),
    st.integers(0, 250),
    st.integers(0, 250),
    st.binary(max_size=6),
)
def test_damaged_files_give_items_or_a_documented_error(
    name: str, read_as: str, start: int, end: int, damage: bytes
):
    data = SAMPLES[name][:start] + damage + SAMPLES[name][end:]
    for known in IMPORTERS:
        known.sniff(data, "x")
    try:
        for item in importer(read_as).parse(Source(io.BytesIO(data), "x")):
            assert not isinstance(item, (Record, Skipped)) or item.position >= 0
    except InvalidInput as error:
        assert (error.source, error.position is None) == ("x", False)  # noqa: PT017 -- either is right
    except UserError as error:
        assert "--date-order" in str(error)  # noqa: PT017 -- what only a person can tell


class _Generated(io.BytesIO):
    """A file that is made while it is read."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        super().__init__()
        self._parts = parts
        self._rest = b""

    def read1(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        while len(self._rest) < size and (part := next(self._parts, b"")):
            self._rest += part
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _log(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield b"[%02d:%02d] <nick%d> this is line %d\n" % (
            number // 60 % 24,
            number % 60,
            number % 50,
            number,
        )


def _telegram(count: int) -> Iterator[bytes]:
    yield b'{"messages":['
    for number in range(count):
        yield b'%s{"id":%d,"type":"message","from":"a","text":"this is %d"}' % (
            b"," * (number > 0),
            number,
            number,
        )
    yield b'],"name":"t","type":"x","id":1}'


def _mailbox(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield b"From a Thu Jan  2 03:04:05 2020\nSubject: s\nMessage-ID: <%d@x>\n\n%s\n\n" % (
            number,
            b"hi " * 500,
        )


def _room(count: int) -> Iterator[bytes]:
    yield b'{"room_name":"t","exported_by":"a","messages":['
    for number in range(count):
        yield (
            b'%s{"type":"m.room.message","sender":"@a:b","room_id":"!r:b","event_id":"$%d","origin_server_ts":1,'
            b'"content":{"msgtype":"m.text","body":"this is %d"}}' % (b"," * (number > 0), number, number)
        )
    yield b"]}"


def _page(count: int) -> Iterator[bytes]:
    before, after = page("|").split(b"|")
    one = message("the same words", reactions=[reacted("👍", "Ben")]).encode()
    yield before
    for _ in range(count):
        yield one
    yield after


@pytest.mark.parametrize(
    ("name", "parts", "count", "each"),
    [
        ("irc", _log, 17_000, 1),
        ("telegram", _telegram, 5_000, 1),
        ("mbox", _mailbox, 200, 1),
        ("matrix", _room, 2_000, 1),
        ("signal", _page, 1_000, 2),
    ],
)
def test_memory_does_not_grow_with_the_length_of_the_file(name: str, parts, count: int, each: int):
    def peak(length: int) -> int:
        source = Source(_Generated(parts(length)), "x")
        tracemalloc.start()
        records = sum(isinstance(item, Record) for item in importer(name).parse(source))
        measured = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert records == length * each
        return measured

    peak(10)
    assert peak(2 * count) <= 1.1 * peak(count)


def test_head_is_enough_to_tell_a_long_file():
    long = b"".join(_log(5_000))
    source = Source(io.BytesIO(long), "x")
    assert detect(source.head(), "x").name == "irc"
    assert len(source.head()) == SNIFF_SIZE_BYTES
    items = list(importer("irc").parse(source))
    assert isinstance(items[0], Chat)
    assert len(items) == 5_001
