"""Google Voice's Takeout: pages of chats and calls, merged by numbers, and damaged pages."""

from __future__ import annotations

import contextlib
import io
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import InvalidInput, LimitExceeded
from mlog.formats import TREE_IMPORTERS, Chat, Hints, Item, Provenance, Record, Skipped, Source, detect
from mlog.formats.google_voice import GoogleVoiceImporter, GoogleVoiceTreeImporter
from mlog.limits import HTML_FILE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from tests.formats.trees import MemoryTree

_ME = '<a class="tel" href="tel:+17325550000"><abbr class="fn" title="">Me</abbr></a>'
_ANN = '<a class="tel" href="tel:+17325550101"><span class="fn">Ann\nLee</span></a>'
_UNKNOWN = '<a class="tel" href="tel:+17325550102"><span class="fn"></span></a>'
_WHEN = "2024-01-02T07:04:05.678-08:00"


def message(who: str, text: str, when: str = _WHEN, more: str = "") -> str:
    return (
        f'<div class="message"><abbr class="dt" title="{when}">Jan 2, 2024, 7:04:05&#8239;AM\n'
        "Pacific Time</abbr>:\n"
        f'<cite class="sender vcard">{who}</cite>:\n<q>{text}</q>\n{more}</div> '
    )


def page(*messages: str, title: str = "Me to\nAnn Lee", people: str = "") -> bytes:
    return (
        '<?xml version="1.0" ?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x">'
        f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{title}</title>'
        "<style>q { x }</style></head>\n"
        f'<body><div class="hChatLog hfeed">{people}{"".join(messages)}</div>\n<div class="tags">Labels:\n'
        '<a rel="tag" href="http://www.google.com/voice#sms">Text</a></div></body></html>'
    ).encode()


def call(what: str, who: str, label: str, more: str = "") -> bytes:
    return (
        f'<html><head><title>{what}</title></head><body><div class="haudio">'
        '<span class="album">Call Log for\n</span>'
        f'<span class="fn">{what}</span><div class="contributor vcard">{what}\n{who}</div>'
        f'<abbr class="published" title="{_WHEN}">Jan 2</abbr>\n{more}<br />'
        '<abbr class="duration" title="PT22S">(00:00:22)</abbr><div class="tags">Labels:\n'
        f'<a rel="tag" href="http://www.google.com/voice#inbox">Inbox</a>, '
        f'<a rel="tag" href="http://www.google.com/voice#{label}">x</a></div></div></body></html>'
    ).encode()


def items_of(raw: bytes, name: str = "x.html") -> list[Item]:
    return list(GoogleVoiceImporter().parse(Source(io.BytesIO(raw), name)))


def records_of(raw: bytes) -> list[Record]:
    return [item for item in items_of(raw) if isinstance(item, Record)]


def tree_items(files: dict[str, bytes]) -> list[Item]:
    tree = MemoryTree({f"Takeout/Voice/Calls/{name}": raw for name, raw in files.items()})
    reader = GoogleVoiceTreeImporter()
    return list(reader.parse(tree, reader.claim(tree), Hints()))


def test_messages_have_author_number_time_and_text():
    raw = page(message(_ANN, "one<br>two &amp; &#39;three&#39;"), message(_ME, "ho"), message(_UNKNOWN, "ha"))
    assert detect(raw, "x.html").name == "google-voice"
    first, second, third = records_of(raw)
    assert (first.author, first.uid, first.time_ms) == ("Ann Lee", "tel:+17325550101", 1704207845678)
    assert (first.text, first.position) == ("one\ntwo & 'three'", 1)
    assert (second.author, second.uid) == ("Me", "tel:+17325550000")
    assert (third.author, third.uid) == ("+17325550102", "tel:+17325550102")


@pytest.mark.parametrize(
    ("what", "who", "label", "author", "uid"),
    [
        ("Placed call to\nAnn Lee", _ANN, "placed", "Me", ""),
        ("Received call from\nAnn Lee", _ANN, "received", "Ann Lee", "tel:+17325550101"),
        ("Missed call from\n", _UNKNOWN, "missed", "+17325550102", "tel:+17325550102"),
    ],
)
def test_calls_are_events(what: str, who: str, label: str, author: str, uid: str):
    (record,) = records_of(call(what, who, label))
    assert (record.kind, record.author, record.uid) == (Kind.EVENT, author, uid)
    assert record.text == f"[{' '.join(what.split())} (00:00:22)]"


def test_voicemail_has_its_transcript_and_sound():
    sound = "Ann Lee - Voicemail - 2024-01-02T15_04_05Z.mp3"
    more = (
        'Transcript:\n<span class="description"><span class="full-text">Hi, it&#39;s me.</span>\n'
        '<span class="word high">Hi,\n<span class="start-time">1.1</span></span></span>'
        f'<audio controls="controls" src="{sound}"><a rel="enclosure" href="{sound}">Audio</a></audio>'
    )
    name = sound.replace(".mp3", ".html")
    items = tree_items({name: call("Voicemail from\nAnn Lee", _ANN, "voicemail", more), sound: b"123"})
    (record,) = [item for item in items if isinstance(item, Record)]
    assert record.text == "[Voicemail from Ann Lee (00:00:22)]\nHi, it's me."
    (file,) = record.files
    assert (file.path, file.type, file.size) == (f"Takeout/Voice/Calls/{sound}", "audio/mpeg", 3)


def test_pages_of_one_chat_are_merged_by_number_in_order_of_time():
    early = page(message(_ME, "only me", when="2024-01-01T00:00:00.000Z"))
    late = page(message(_ANN, "hi"))
    group = '<div class="participants">Group conversation with:\n' + "".join(
        f'<cite class="sender vcard">{one}</cite>, ' for one in (_UNKNOWN, _ANN)
    )
    files = {
        "Ann Lee - Text - 2024-01-02T15_04_05Z.html": late,
        "Ann Lee - Text - 2024-01-03T15_04_05Z.html": early,
        "+17325550101 - Missed - 2024-01-02T15_04_06Z.html": call("Missed call from\n", _ANN, "missed"),
        "Group Conversation - 2024-01-02T15_04_05Z.html": page(message(_ME, "all"), people=f"{group}</div>"),
        "Bob - Text - 2024-01-02T15_04_05Z.html": page(message(_ME, "to bob")),
        "+17325550199 - Text - 2024-01-02T15_04_05Z.html": page(message(_ME, "to 199"), title="Me to\n"),
        "Ann Lee - Text - 2024-01-02T15_04_05Z-1-1.jpg": b"",
    }
    items = tree_items(files)
    told = [
        item.key if isinstance(item, Chat) else item.text
        for item in items
        if isinstance(item, (Chat, Record))
    ]
    assert sorted(
        item.removeprefix("google-voice:") for item in told if item.startswith("google-voice:")
    ) == [
        "+17325550101",
        "+17325550101,+17325550102",
        "+17325550199",
        "bob",
    ]
    at = told.index("google-voice:+17325550101")
    assert told[at + 1] == "only me"
    assert set(told[at + 2 : at + 4]) == {"hi", "[Missed call from (00:00:22)]"}
    titles = {item.key: item.title for item in items if isinstance(item, Chat)}
    assert titles["google-voice:+17325550101"] == "Ann Lee"
    assert titles["google-voice:+17325550101,+17325550102"] == "+17325550102, Ann Lee"
    assert sum(isinstance(item, Provenance) for item in items) == 6
    assert not any(isinstance(item, Skipped) for item in items)
    assert "google-voice" in [known.name for known in TREE_IMPORTERS]


def test_a_name_with_two_numbers_tells_no_number():
    other = _ANN.replace("0101", "0199")
    files = {
        "Ann Lee - Text - 2024-01-01T15_04_05Z.html": page(message(_ANN, "one")),
        "Ann Lee - Text - 2024-01-02T15_04_05Z.html": page(message(other, "two")),
        "Ann Lee - Text - 2024-01-03T15_04_05Z.html": page(message(_ME, "to whom?")),
    }
    keys = [item.key for item in tree_items(files) if isinstance(item, Chat)]
    assert keys == ["google-voice:+17325550101", "google-voice:+17325550199", "google-voice:ann lee"]


def test_attachments_are_found_whatever_their_ending():
    stem = "Ann Lee - Text - 2024-01-02T15_04_05Z"
    more = (
        f'<div><img src="{stem}-1-1" alt="Image MMS Attachment" /></div>'
        f'<div><a class="vcard" href="{stem}-1-2">Contact card attachment</a></div>'
        f'<div><video controls="controls" src="{stem}-1-3"></video></div>'
    )
    files = {
        f"{stem}.html": page(message(_ANN, "", more=more)),
        f"{stem}-1-1.jpg": b"12",
        f"{stem}-1-2.vcf": b"1",
    }
    (record,) = [item for item in tree_items(files) if isinstance(item, Record)]
    assert [file.path.rpartition("/")[2] for file in record.files] == [
        f"{stem}-1-1.jpg",
        f"{stem}-1-2.vcf",
        "",
    ]
    assert [file.type for file in record.files] == ["image/jpeg", "text/vcard", ""]


def test_same_pages_give_the_same_identities_whatever_the_names():
    renamed = page(message(_ANN.replace("Ann", "Anna"), "hi"), message(_ME, "hi"), message(_ME, "hi"))
    first = page(message(_ANN, "hi"), message(_ME, "hi"), message(_ME, "hi"))
    mids = [record.mid for record in records_of(first)]
    assert mids == [record.mid for record in records_of(renamed)]
    assert len(set(mids)) == 3
    marked = "\ufeff".encode() + first.replace(b"\n", b"\r\n")
    assert mids == [record.mid for record in records_of(marked)]


def test_page_that_breaks_off_keeps_what_came_before_and_says_so():
    whole = page(message(_ANN, "one"), message(_ANN, "two"))
    items = items_of(whole[: whole.index(b"two")])
    assert next(item.text for item in items if isinstance(item, Record)) == "one"
    assert isinstance(items[-1], Skipped)
    assert items[-1].reason == "the page breaks off here"
    assert isinstance(items_of(b"<html></html>")[-1], Skipped)


def test_date_that_is_not_understood_is_reported():
    items = items_of(page(message(_ANN, "hi", when="once")))
    assert any(isinstance(item, Skipped) and "'once'" in item.reason for item in items)
    assert isinstance(items[-1], Record)


@pytest.mark.parametrize(
    "piece",
    ["<!--", "<div ", "<a b='", "<![", "&#", "</", "<q>", "<div class='message'>", '<abbr class="fn">', "<!"],
)
def test_hostile_pages_cost_time_in_proportion(piece: str):
    raw = page(message(_ANN, "hi"))[:-20] + piece.encode() * (1_500_000 // len(piece))
    started = time.process_time()
    with contextlib.suppress(InvalidInput):
        items_of(raw)
    assert time.process_time() - started < 20


def test_endless_page_is_refused():
    with pytest.raises(LimitExceeded, match="too large for a page"):
        items_of(page(message(_ANN, "x " * (HTML_FILE_SIZE_MAX_BYTES // 2))))


@given(st.integers(0, 1200), st.integers(0, 1200), st.binary(max_size=20))
def test_any_damage_gives_records_or_a_documented_error(start: int, end: int, damage: bytes):
    whole = page(message(_ANN, "hi", more='<img src="a-1-1" />'), message(_ME, "ho"))
    raw = whole[:start] + damage + whole[end:]
    GoogleVoiceImporter().sniff(raw, "x")
    for item in [*items_of(raw), *tree_items({"Ann - Text - 2024-01-02T15_04_05Z.html": raw})]:
        if isinstance(item, Record):
            (item.text + item.author).encode()
            assert item.time_ms >= 0


# -- the corpus, counted without the importer ------------------------------------------------


@pytest.mark.corpus
def test_every_message_of_the_corpus_arrives(corpus: Path):
    files = {path.name: path.read_bytes() for path in (corpus / "exports/google-voice").iterdir()}
    counted = {name: len(re.findall(rb'<div class="message">', raw)) for name, raw in files.items()}
    for name, raw in files.items():
        assert detect(raw[:65536], name).name == "google-voice"
        assert len(records_of(raw)) == counted[name]
    items = tree_items(files)
    records = [item for item in items if isinstance(item, Record)]
    assert len(records) == len({record.mid for record in records}) == sum(counted.values()) == 53
    attached = sum(len(re.findall(rb'<img src=|<a class="vcard"', raw)) for raw in files.values())
    assert sum(len(record.files) for record in records) == attached
    assert sum(record.author == "Me" for record in records) == sum(
        raw.count(b">Me<") for raw in files.values()
    )
    assert sum(isinstance(item, Chat) for item in items) == 6
    assert not any(isinstance(item, Skipped) for item in items)


@pytest.mark.corpus
def test_cuts_of_real_pages_end_in_a_report(corpus: Path):
    for path in sorted((corpus / "exports/google-voice").iterdir()):
        raw = path.read_bytes()
        for end in range(0, len(raw) - 10, 97):
            assert isinstance(items_of(raw[:end])[-1], Skipped)
