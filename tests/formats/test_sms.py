"""SMS Backup & Restore: both sides, groups, halves of emoji, attachments, hostile XML, and damage."""

from __future__ import annotations

import base64
import io
import time
from collections import deque

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlog.errors import InvalidInput, LimitExceeded
from mlog.formats import Chat, Item, Record, Skipped, Source, detect
from mlog.formats.sms import SmsImporter
from mlog.log.bodies import Kind

_HEAD = "<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>\n<!-- made by an app -->\n"


def backup(*elements: str, count: int | None = None) -> bytes:
    number = len(elements) if count is None else count
    return f'{_HEAD}<smses count="{number}">\n{chr(10).join(elements)}\n</smses>'.encode()


def sms(body: str = "hi", **fields: object) -> str:
    whole = {"protocol": 0, "address": "+49 170 123", "date": 1704207845000, "type": 1, "subject": "null"}
    whole |= {"body": body, "contact_name": "Ann"} | fields
    return f"<sms {attributes(whole)} />"


def attributes(fields: dict[str, object]) -> str:
    return " ".join(f'{name}="{value}"' for name, value in fields.items())


def mms(*inner: str, **fields: object) -> str:
    whole = {
        "date": 1704207845000,
        "msg_box": 1,
        "address": "+49170123",
        "contact_name": "Ann",
        "sub": "null",
    }
    parts = "".join(one for one in inner if "<part" in one)
    addresses = "".join(one for one in inner if "<addr" in one)
    return f"<mms {attributes(whole | fields)}><parts>{parts}</parts><addrs>{addresses}</addrs></mms>"


def addr(number: str, kind: int) -> str:
    return f'<addr address="{number}" type="{kind}" charset="106" />'


class _Pieces(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def read1(self, size: int | None = -1) -> bytes:
        return super().read(7)


def items_of(raw: bytes, stream: type[io.BytesIO] = io.BytesIO) -> list[Item]:
    return list(SmsImporter().parse(Source(stream(raw), "sms.xml")))


def records_of(raw: bytes) -> list[Record]:
    return [item for item in items_of(raw) if isinstance(item, Record)]


def test_both_sides_have_author_number_and_time():
    chat, received, sent = items_of(backup(sms("hi"), sms("ho", type=2, date=1704207846000)))
    assert chat == Chat(key="sms:+49170123", title="Ann")
    assert isinstance(received, Record)
    assert isinstance(sent, Record)
    assert (received.author, received.text, received.uid) == ("Ann", "hi", "tel:+49170123")
    assert (received.time_ms, received.position) == (1704207845000, 1)
    assert (sent.author, sent.text, sent.uid, sent.position) == ("Me", "ho", "", 2)


@pytest.mark.parametrize(
    ("state", "text"), [(3, "[draft] hi"), (5, "[not sent] hi"), (6, "[not sent yet] hi")]
)
def test_what_was_not_sent_is_an_event(state: int, text: str):
    (record,) = records_of(backup(sms(type=state)))
    assert (record.kind, record.text) == (Kind.EVENT, text)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("&#55357;&#56832;", "😀"),
        ("&#xD83D;&#xDE00;", "😀"),
        ("a&#55357;&#56832;&#55357;&#56832;b", "a😀😀b"),
        ("&#128512;&#9749;&amp;&#10;", "😀☕&\n"),
        ("&#55357;x", "\ufffdx"),
        ("&#56832;&#55357;", "\ufffd\ufffd"),
        ("&#55357;&#55357;&#56832;", "\ufffd😀"),
        ("&#0;&#8;&#xFFFF;&#99999999;\x01", "\ufffd\ufffd\ufffd\ufffd\ufffd"),
        ("😀", "😀"),
    ],
)
def test_halves_of_emoji_and_forbidden_characters_are_mended(written: str, read: str):
    raw = backup(sms(written))
    (record,) = records_of(raw)
    assert record.text == read
    for before in range(30):  # Wherever blocks are cut.
        items = items_of(backup(sms("x" * before + written)), _Pieces)
        assert [item.text for item in items if isinstance(item, Record)] == ["x" * before + read]


def test_chats_are_sorted_out_in_their_order():
    raw = backup(
        sms("1"),
        sms("2", address="Bank", contact_name="null"),
        sms("3", date=1704207846000),
        sms("4", address="Bank"),
    )
    items = [item for item in items_of(raw) if isinstance(item, (Chat, Record))]
    told = [item.title if isinstance(item, Chat) else item.text for item in items]
    assert told == ["Ann", "1", "3", "Ann", "2", "4"]
    assert [item.uid for item in records_of(raw)] == ["tel:+49170123", "tel:+49170123", "", ""]


def test_group_is_known_by_its_numbers_whoever_writes():
    picture = base64.b64encode(b"picture").decode()
    parts = (
        '<part seq="-1" ct="application/smil" text="&lt;smil/&gt;" />',
        f'<part seq="0" ct="image/png" name="null" fn="null" cl="a.png" text="null" data="{picture}" />',
        '<part seq="0" ct="text/plain" text="look" />',
    )
    raw = backup(
        sms(address="+1", contact_name="Ben"),
        mms(
            *parts,
            addr("+1", 137),
            addr("+2", 151),
            addr("+9", 151),
            address="+2~+1",
            contact_name="Ben, Cat",
        ),
        mms(parts[2], addr("+9", 137), addr("+1", 151), addr("+2", 151), address="+1~+2", msg_box=2),
    )
    items = items_of(raw)
    assert [item.key for item in items if isinstance(item, Chat)] == ["sms:+1", "sms:+1,+2"]
    received, sent = [item for item in items if isinstance(item, Record)][1:]
    assert (received.author, received.uid, received.text) == ("Ben", "", "look")
    (file,) = received.files
    assert (file.name, file.type, file.data, file.size) == ("a.png", "image/png", b"picture", 7)
    assert (sent.author, sent.text) == ("Me", "look")


def test_damaged_attachment_is_reported_and_its_name_kept():
    items = items_of(backup(mms('<part ct="image/png" cl="a.png" data="abcde" />')))
    assert isinstance(items[0], Skipped)
    assert isinstance(items[-1], Record)
    assert (items[-1].files[0].name, items[-1].files[0].data) == ("a.png", None)


def test_calls_are_events():
    raw = (
        b'<calls count="2">'
        b'<call number="+49170123" duration="72" date="1704207845000" type="1" contact_name="Ann" />'
        b'<call number="+49170123" duration="0" date="1704207846000" type="3" contact_name="(Unknown)" />'
        b"</calls>"
    )
    assert detect(raw, "calls.xml").name == "sms"
    records = records_of(raw)
    assert [record.text for record in records] == ["[incoming call, 72 s]", "[missed call]"]
    assert {record.kind for record in records} == {Kind.EVENT}
    assert {record.author for record in records} == {"Ann"}


def test_same_file_and_longer_one_give_the_same_identities_whatever_the_names():
    short = records_of(backup(sms(), sms(), sms(type=2)))
    named = backup(sms(contact_name="Anna"), sms(), sms(type=2), sms("more"))
    assert [one.mid for one in records_of(named)][:3] == [one.mid for one in short]
    assert len({one.mid for one in records_of(named)}) == 4
    assert [one.mid for one in records_of(named.decode().encode("utf-16"))] == [
        one.mid for one in records_of(named)
    ]


def test_missing_messages_are_reported():
    items = items_of(backup(sms(), count=3))
    (skipped,) = [item for item in items if isinstance(item, Skipped)]
    assert skipped.reason == "the file announces 3 messages and holds 1"


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE smses [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>',
        '<!DOCTYPE smses [<!ENTITY a SYSTEM "http://127.0.0.1/entity">]>',
        '<!DOCTYPE smses [<!ENTITY % a SYSTEM "http://127.0.0.1/x"> %a;]>',
    ],
)
def test_entities_are_refused(doctype: str):
    raw = f'{doctype}<smses count="1"><sms address="1" date="1" type="1" body="&a;" /></smses>'.encode()
    with pytest.raises(InvalidInput, match="declares entities"):
        items_of(raw)


def test_what_came_before_a_break_is_kept():
    raw = backup(sms("1"), sms("2"))[:-30]
    got: list[Item] = []
    reader = SmsImporter().parse(Source(io.BytesIO(raw), "sms.xml"))
    with pytest.raises(InvalidInput) as caught:
        deque(map(got.append, reader), maxlen=0)
    assert caught.value.position is not None
    assert [item.text for item in got if isinstance(item, Record)] == ["1"]


def test_large_attachment_costs_time_in_proportion():
    data = "A" * 12_000_000
    started = time.process_time()
    (record,) = records_of(backup(mms(f'<part ct="video/mp4" cl="a.mp4" data="{data}" />')))
    assert len(record.files[0].data or b"") == 9_000_000
    assert time.process_time() - started < 10


def test_endless_message_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mlog.formats.sms.MAIL_SIZE_MAX_BYTES", 300_000)
    part = '<part ct="image/png" data="' + "A" * 10_000 + '" />'
    for raw in (backup(sms("x" * 2_000_000)), backup(mms(*[part] * 200))):
        with pytest.raises(LimitExceeded, match="in one message"):
            items_of(raw)
    assert len(records_of(backup(*[sms("x" * 1000)] * 2000))) == 2000


@given(st.integers(0, 900), st.integers(0, 900), st.binary(max_size=20))
@example(0, 900, b"")
def test_any_damage_gives_records_or_a_documented_error(start: int, end: int, damage: bytes):
    whole = backup(sms("&#55357;&#56832;"), mms('<part ct="a/b" data="AAAA" />', addr("+1", 137)))
    raw = whole[:start] + damage + whole[end:]
    SmsImporter().sniff(raw, "x")
    try:
        for item in items_of(raw):
            if isinstance(item, Record):
                (item.text + item.author).encode()
    except InvalidInput as error:
        assert error.position is not None  # noqa: PT017 -- either is right
