"""WhatsApp exports: stamps of many regions, the order of days and months, names, media, and damage."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import InvalidInput, LimitExceeded, UserError
from mlog.formats import Chat, Hints, Item, Record, Skipped, Source, detect
from mlog.formats.whatsapp import WhatsAppImporter
from mlog.limits import MESSAGE_LINES_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from tests.formats.trees import MemoryTree


def items_of(
    text: str | bytes, name: str = "WhatsApp Chat with Tea.txt", order: str = "", **more: Any
) -> list[Item]:
    raw = text.encode() if isinstance(text, str) else text
    hints = Hints(date_order=order)
    return list(WhatsAppImporter().parse(Source(io.BytesIO(raw), name, hints=hints, **more)))


def records_of(text: str | bytes, **more: Any) -> list[Record]:
    return [item for item in items_of(text, **more) if isinstance(item, Record)]


def moment(record: Record) -> str:
    return dt.datetime.fromtimestamp(record.time_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("stamp", "told"),
    [
        ("[31/12/2023, 15:04:05]", "2023-12-31 15:04:05"),
        ("[31.12.23, 15:04:05]", "2023-12-31 15:04:05"),
        ("[12/31/23, 3:04:05 PM]", "2023-12-31 15:04:05"),
        ("[12/31/23, 3:04:05\u202fPM]", "2023-12-31 15:04:05"),
        ("\u200e[12/31/23, 12:04:05\u202fAM]", "2023-12-31 00:04:05"),
        ("[2023-12-31 15:04:05]", "2023-12-31 15:04:05"),
        ("[2023/12/31 下午3:04:05]", "2023-12-31 15:04:05"),
        ("[2023/12/31 凌晨1:04:05]", "2023-12-31 01:04:05"),
        ("[2023. 12. 31. 오후 3:04:05]", "2023-12-31 15:04:05"),
        ("[31.12.2023 klo 15.04.05]", "2023-12-31 15:04:05"),
        ("[31.12.2023 kl. 15.04.05]", "2023-12-31 15:04:05"),
        ("[31.12.2023 г., 15:04:05]", "2023-12-31 15:04:05"),
        ("[31\u200f/12\u200f/2023, 3:04:05 م]", "2023-12-31 15:04:05"),
        ("[٣١\u200f/١٢\u200f/٢٠٢٣، ٣:٠٤:٠٥ م]", "2023-12-31 15:04:05"),
        ("[31/12/2566 15:04:05]", "2023-12-31 15:04:05"),
        ("[15:04, 31/12/2023]", "2023-12-31 15:04:00"),
        ("31/12/23, 15:04 -", "2023-12-31 15:04:00"),
        ("31-12-2023 15:04 -", "2023-12-31 15:04:00"),
        ("31.12.23, 15:04 -", "2023-12-31 15:04:00"),
        ("1/31/23, 3:04 p.m. -", "2023-01-31 15:04:00"),
        ("1/31/23, 3:04\u202fpm -", "2023-01-31 15:04:00"),
        ("1/31/23, 3:04 p.\u00a0m. -", "2023-01-31 15:04:00"),
        ("31/1/23, 12:04 a. m. -", "2023-01-31 00:04:00"),
        ("31/12/23, 3:04 μ.μ. -", "2023-12-31 15:04:00"),
        ("31.12.2023 15:04 -", "2023-12-31 15:04:00"),
        ("2023-12-31 15 h 04 -", "2023-12-31 15:04:00"),
        ("31/12/23 15:04:05:", "2023-12-31 15:04:05"),
        ("15:04, 31/12/2023 -", "2023-12-31 15:04:00"),
        ("۱۴۰۲/۱۰/۱۰،\u200f ۱۵:۰۴ -", "2023-12-31 15:04:00"),
    ],
)
def test_stamps_of_all_regions_are_read(stamp: str, told: str):
    text = f"{stamp} Ann: hi\n"
    assert WhatsAppImporter().sniff(text.encode(), "x.txt")
    (record,) = records_of(text)
    assert (record.author, record.text, moment(record)) == ("Ann", "hi", told)


@pytest.mark.parametrize(
    ("dates", "last"),
    [
        (["1/2/24", "2/2/24", "13/2/24"], "2024-02-13"),
        (["1/2/24", "1/3/24", "1/13/24"], "2024-01-13"),
        (["11/12/24", "24/12/24"], "2024-12-24"),
        (["30/4/24", "1/5/24", "2/5/24"], "2024-05-02"),
        (["1/2/24", "2/2/24", "1/3/24"], "2024-03-01"),  # As month/day/year it would run backwards.
        (["2/1/24", "2/2/24", "3/1/24"], "2024-03-01"),  # As day/month/year likewise.
        (["24/01/02", "24/01/03"], "2024-01-03"),  # 2002 and 2003 were before WhatsApp.
        (["05/05/24"], "2024-05-05"),
        (["2024/02/01", "2024/02/02"], "2024-02-02"),
    ],
)
def test_order_of_dates_is_settled_by_the_file(dates: list[str], last: str):
    records = records_of("".join(f"{date}, 10:00 - Ann: hi\n" for date in dates))
    assert len(records) == len(dates)
    assert moment(records[-1])[:10] == last


@pytest.mark.parametrize("dates", [["1/2/24"], ["1/2/24", "1/3/24", "1/4/24"], ["09/10/11"]])
def test_dates_that_do_not_tell_are_asked_for(dates: list[str]):
    text = "".join(f"{date}, 10:00 - Ann: hi\n" for date in dates)
    with pytest.raises(
        UserError, match=r"cannot tell days from months.*--date-order dmy or --date-order mdy"
    ):
        items_of(text)
    assert moment(records_of(text, order="dmy")[0])[5:10] != moment(records_of(text, order="mdy")[0])[5:10]


def test_wrong_or_unknown_date_order_says_which_fit():
    with pytest.raises(UserError, match=r"cannot be read as mdy, only as dmy"):
        items_of("31/1/24, 10:00 - Ann: hi\n", order="mdy")
    with pytest.raises(UserError, match=r"no date order 'ydm'"):
        items_of("31/1/24, 10:00 - Ann: hi\n", order="ydm")


def test_decisive_date_far_from_the_start_counts_for_the_first_line():
    line = f"01/02/2024, 10:00 - Ann: {'x' * 1000}\n"
    records = records_of(line * 1000 + "13/02/2024, 10:00 - Ann: end\n")
    assert len(records) == 1001
    assert moment(records[0])[:10] == "2024-02-01"
    assert len({record.mid for record in records}) == 1001


def test_date_of_another_order_after_that_is_reported_and_kept():
    text = (
        "13/1/24, 10:00 - Ann: hi\n"
        + f"14/1/24, 10:00 - Ann: {'x' * 1000}\n" * 300
        + "1/14/24, 11:00 - Ben: ho\n"
    )
    items = items_of(text)
    (skipped,) = [item for item in items if isinstance(item, Skipped)]
    assert (skipped.position, "'1/14/24' is no date (dmy)" in skipped.reason) == (302, True)
    assert isinstance(items[-1], Record)
    assert items[-1].text.endswith("\n1/14/24, 11:00 - Ben: ho")


def test_times_are_of_the_zone_that_the_person_names():
    source = Source(
        io.BytesIO(b"31/12/23, 15:04 - Ann: hi\n31/7/24, 15:04 - Ann: hi\n"),
        "x",
        hints=Hints(zone=ZoneInfo("Europe/Berlin")),
    )
    records = [item for item in WhatsAppImporter().parse(source) if isinstance(item, Record)]
    assert [moment(record) for record in records] == ["2023-12-31 14:04:00", "2024-07-31 13:04:00"]


def test_lines_without_a_stamp_belong_to_the_message_before():
    text = "31/1/24, 10:00 - Ann: one\n\ntwo: 3\n[31/1/24, 10:00:00] Ben: pasted\n31/1/24, 10:01 - Ben: ho\n"
    first, second = records_of(text)
    assert first.text == "one\n\ntwo: 3\n[31/1/24, 10:00:00] Ben: pasted"
    assert (first.position, second.position) == (1, 5)


def test_byte_order_mark_line_ends_and_utf16_change_nothing():
    text = "[31/1/24, 10:00:00] Ann: one\ntwo\n[31/1/24, 10:00:01] Ben: ☕\n"
    want = records_of(text)
    for raw in (
        text.replace("\n", "\r\n").encode(),
        "\ufeff".encode() + text.encode(),
        text.encode("utf-16"),
        text.strip().encode(),
    ):
        assert records_of(raw) == want


@pytest.mark.parametrize(
    "rest",
    [
        "You were added",
        "Nachrichten sind verschlüsselt. Tippe für mehr Infos.",
        'Ann changed the subject to "Tea: black"',
        "Ann hat den Betreff von „A“ zu „B: C“ geändert",
        "Ann a changé le sujet : « Thé : noir »".replace(" : ", ": "),
    ],
)
def test_lines_of_the_app_are_events(rest: str):
    text = f"31/1/24, 10:00 - Ann: hi\n31/1/24, 10:01 - {rest}\n"
    event = records_of(text)[1]
    if "changé" in rest:  # The colon stands before the quotation: nothing tells this from a name.
        assert event.kind is Kind.MESSAGE
        return
    assert (event.kind, event.author, event.text) == (Kind.EVENT, "", rest)


def test_what_ios_says_in_a_name_is_an_event_and_media_are_messages():
    text = (
        "[31/1/24, 10:00:00] Tea: \u200eMessages are encrypted.\n"
        "\u200e[31/1/24, 10:00:01] Ann: \u200eimage omitted\n"
        "[31/1/24, 10:00:02] Tea: \u200eAnn added Ben\n"
        "[31/1/24, 10:00:03] Ann: hi\n"
    )
    records = records_of(text)
    assert [record.kind for record in records] == [Kind.EVENT, Kind.MESSAGE, Kind.EVENT, Kind.MESSAGE]
    assert [record.text for record in records] == [
        "Messages are encrypted.",
        "image omitted",
        "Ann added Ben",
        "hi",
    ]
    assert items_of(text, name="_chat.txt")[0] == Chat(key="whatsapp:tea", title="Tea")


def test_names_with_colons_are_told_by_all_their_messages():
    lines = [f"31/1/24, 10:{minute:02} - Dr: Ann: text {minute}" for minute in range(10)]
    records = records_of("\n".join(lines))
    assert {record.author for record in records} == {"Dr: Ann"}
    assert records[3].text == "text 3"
    addressed = [*lines, "31/1/24, 11:00 - Ann: I answer"]
    assert {record.author for record in records_of("\n".join(addressed))} == {"Dr", "Ann"}


def test_numbers_as_names_are_uids_and_marks_around_them_go():
    text = "[31/1/24, 10:00:00] \u202a+49\u00a0170 123-4567\u202c: hi\n[31/1/24, 10:00:01] ~\u202fAnn: ho\n"
    first, second = records_of(text)
    assert (first.author, first.uid) == ("+49\u00a0170 123-4567", "tel:+491701234567")
    assert (second.author, second.uid) == ("~\u202fAnn", "")


@pytest.mark.parametrize(
    ("said", "name", "shown"),
    [
        ("<attached: 0001-PHOTO.jpg>", "0001-PHOTO.jpg", ""),
        ("\u200e<Anhang: 0001-PHOTO.jpg>", "0001-PHOTO.jpg", ""),
        ("look \u200e<pièce jointe : 0001-PHOTO.jpg>", "0001-PHOTO.jpg", "look"),
        ("\u200eIMG-20240131-WA0001.jpg (file attached)\nlook", "IMG-20240131-WA0001.jpg", None),
        ("IMG-20240131-WA0001.jpg (noch nie gehört)", "IMG-20240131-WA0001.jpg", None),
        ("Plan B.pdf (Datei angehängt)", "Plan B.pdf", None),
        ("IMG-20150131-WA0001.jpg <\u200eattached>", "IMG-20150131-WA0001.jpg", None),
        ("cafe\u0301.pdf (etwas)\nthe menu", "cafe\u0301.pdf", "the menu"),
        ("in the tree.ogg\nlisten", "in the tree.ogg", "listen"),
        ("I sent a.jpg (the other one)", "", None),
        ("see <b: not.html> there", "", None),
        ("<Media omitted>", "", None),
    ],
)
def test_attachments_are_told_by_pattern_or_by_the_tree_and_named_in_the_text_where_they_are_not_there(
    said: str, name: str, shown: str | None
):
    tree = MemoryTree(
        {"x/_chat.txt": b"", "x/0001-PHOTO.jpg": b"123", "x/caf\u00e9.pdf": b"1", "x/in the tree.ogg": b"12"}
    )
    text = f"[31/1/24, 10:00:00] Ann: {said}\n"
    (record,) = records_of(text, tree=tree, path="x/_chat.txt")
    assert record.text == (said.lstrip("\u200e") if shown is None else shown)
    assert [file.name for file in record.files] == ([name] if name else [])
    for file in record.files:
        assert file.type
        if file.path:
            assert file.size == tree.size(file.path)
    assert any(file.path for file in record.files) == (shown is not None)
    (alone,) = records_of(text)
    assert (alone.mid, alone.text) == (record.mid, said.lstrip("\u200e"))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("WhatsApp Chat with Tea & Co.txt", "Tea & Co"),
        ("WhatsApp Chat - Tea & Co.zip", "Tea & Co"),
        ("WhatsApp-Chat mit Tea & Co (2).txt", "Tea & Co"),
        ("Chat de WhatsApp con Tea & Co.txt", "Tea & Co"),
        ("Discussion WhatsApp avec Tea & Co.txt", "Tea & Co"),
        ("Conversa do WhatsApp com Tea & Co.txt", "Tea & Co"),
        ("tea.txt", "tea"),
    ],
)
def test_chats_are_called_as_the_file_says(name: str, title: str):
    chat = items_of("31/1/24, 10:00 - Ann: hi\n", name=name)[0]
    assert chat == Chat(key=f"whatsapp:{title.lower()}", title=title)
    tree = MemoryTree({"_chat.txt": b""}, name=name)
    assert items_of("31/1/24, 10:00 - Ann: hi\n", name="_chat.txt", tree=tree, path="_chat.txt")[0] == chat


def test_two_chats_without_a_name_are_two():
    chats = [items_of(f"31/1/24, 10:00 - {name}: hi\n", name="_chat.txt")[0] for name in "ab"]
    assert len({chat.key for chat in chats if isinstance(chat, Chat)}) == 2


def test_longer_export_keeps_the_identities():
    text = "31/1/24, 10:00 - Ann: hi\n31/1/24, 10:00 - Ann: hi\n1/2/24, 10:00 - Ben: ho\n"
    short, long = records_of(text), records_of(text + "2/2/24, 11:00 - Ann: more\n")
    assert [record.mid for record in long[:3]] == [record.mid for record in short]
    assert len({record.mid for record in long}) == 4


def test_endless_message_is_refused_with_its_line():
    text = "31/1/24, 10:00 - Ann: hi\n" + ("x" * 1000 + "\n") * (MESSAGE_LINES_SIZE_MAX_BYTES // 1000 + 2)
    with pytest.raises(LimitExceeded) as caught:
        items_of(text)
    assert caught.value.position == 1


def test_irc_and_other_text_is_not_taken():
    for text in (
        "[2018-05-29 21:20:37] <ann> hi\n" * 3,
        "hello\n31/1/24, 10:00 - Ann: hi\n",
        "31/1/24\n",
        "",
    ):
        assert not WhatsAppImporter().sniff(text.encode(), "x.txt")
    assert detect(b"31/1/24, 10:00 - Ann: hi\n", "x.txt").name == "whatsapp"


_LINES = st.lists(
    st.sampled_from(
        [
            *(
                "31/1/24, 10:00 - Ann: hi",
                "[31/1/24, 10:00:00] Ann: hi",
                "1/31/24, 3:04 PM - Ben: ho",
                "more",
                "",
            ),
            *(
                "2/2/24, 10:00 - You left",
                "99/99/99, 99:99 - x: y",
                "\u200e[1/1/24 1:1:1] \u200e<a: b.c>",
                "x" * 3000,
            ),
        ]
    ),
    max_size=12,
)


@given(_LINES, st.binary(max_size=40), st.integers(0, 400), st.sampled_from(["", "dmy", "mdy", "ymd"]))
def test_any_bytes_give_records_or_a_documented_error(lines: list[str], damage: bytes, at: int, order: str):
    raw = "\n".join(lines).encode()
    raw = raw[:at] + damage + raw[at:]
    WhatsAppImporter().sniff(raw, "x")
    try:
        items = items_of(raw, order=order)
    except (UserError, InvalidInput) as error:
        assert "x" in str(error)  # noqa: PT017 -- either is right
        return
    assert isinstance(items[0], Chat)
    records = [item for item in items if isinstance(item, Record)]
    assert len({record.mid for record in records}) == len(records)
    if raw.isascii() and b"\r" not in raw and b"\0" not in raw:  # Nothing that was said is lost.
        said = "".join(record.author + record.text for record in records)
        assert said.count("hi") == raw.count(b"hi")


@pytest.mark.parametrize("piece", ["[1/", "1/1/1, 1:1", "<a:", "\u200e", "a.b (", "1/1/24, 1:1 - ", ":"])
def test_hostile_lines_cost_time_in_proportion(piece: str):
    # Quadratic regexes would take hours for these.
    raw = ("31/1/24, 10:00 - Ann: " + piece * (900_000 // len(piece.encode())) + "\n").encode()
    assert len(records_of(raw)) >= 1


# -- the corpus, counted without the importer ------------------------------------------------

_STAMP = rb"^(?:\xe2\x80\x8e)?(?:\[\d+/\d+/\d+,? \d+:\d\d[^\]]*\] |\d+/\d+/\d+, \d+:\d\d[^-]{0,8} - )"


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("path", "order", "count"),
    [
        ("exports/whatsapp/chatminer-ddmmyy-24h.txt", "", 9),
        ("exports/whatsapp/chatminer-bracket-mmddyy-24h.txt", "", 9),
        ("exports/whatsapp/chatminer-mmddyyyy-12h.txt", "", 9),
        ("exports/whatsapp/langchain-ios-en.txt", "", 12),
        ("derived/whatsapp/stripe.0.ios.txt", "mdy", 1200),
        ("derived/whatsapp/mediawiki.0.android.txt", "", 1174),
    ],
)
def test_every_message_of_the_corpus_arrives(corpus: Path, path: str, order: str, count: int):
    raw = (corpus / path).read_bytes()
    counted = re.findall(_STAMP, raw, re.MULTILINE)
    authored = re.findall(_STAMP + rb"[^\n:\"]+:(?: |[^/\n ])", raw, re.MULTILINE)
    assert detect(raw[:65536], "x").name == "whatsapp"
    items = items_of(raw, name=Path(path).name, order=order)
    records = [item for item in items if isinstance(item, Record)]
    assert len(records) == len(counted) == count
    assert len(items) == count + 1
    assert sum(record.author != "" for record in records) == len(authored)
    assert len({record.mid for record in records}) == count


@pytest.mark.corpus
def test_two_days_that_could_be_two_months_are_asked_for(corpus: Path):
    raw = (corpus / "derived/whatsapp/stripe.0.ios.txt").read_bytes()
    with pytest.raises(UserError, match="--date-order dmy or --date-order mdy"):
        items_of(raw)


@pytest.mark.corpus
def test_cuts_of_real_files_give_records_or_a_documented_error(corpus: Path):
    for path in sorted((corpus / "exports/whatsapp").iterdir()):
        raw = path.read_bytes()
        for end in range(0, len(raw), 7):
            with contextlib.suppress(UserError, InvalidInput):
                records_of(raw[:end])
