"""Mailboxes and mails: where one ends, what it says, whom it answers, and exports that all readers share."""

from __future__ import annotations

import email
import email.policy
import io
import mailbox
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlog.errors import LimitExceeded, UserError
from mlog.formats import Chat, ExportRecord, File, Item, Record, Skipped, Source, detect, exporter, importer
from mlog.formats.identity import of_id
from mlog.formats.mail_text import Mail
from mlog.limits import (
    MAIL_BOUNDARIES_MAX,
    MAIL_HEADERS_MAX,
    MAIL_SIZE_MAX_BYTES,
    REFERENCES_MAX,
    SNIFF_SIZE_BYTES,
)
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

ENVELOPE = "From ann@example.org Thu Jan  2 03:04:05 2020\n"


def read(data: bytes | str, format_name: str = "mbox", name: str = "tea.mbox") -> list[Item]:
    raw = data.encode() if isinstance(data, str) else data
    return list(importer(format_name).parse(Source(io.BytesIO(raw), name)))


def records_of(data: bytes | str, format_name: str = "mbox") -> list[Record]:
    return [item for item in read(data, format_name) if isinstance(item, Record)]


def mid(message_id: str) -> MessageId:
    return of_id("mail", message_id)


def mail(**headers: str) -> str:
    body = headers.pop("body", "hi")
    return "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items()) + f"\n{body}\n"


# -- mailboxes -------------------------------------------------------------------------------


def test_mails_are_split_at_envelopes_and_threads_become_replies():
    box = (
        ENVELOPE
        + mail(From="Ann <ann@example.org>", Message_ID="<1@x>", Date="Thu, 2 Jan 2020 04:04:05 +0100")
        + "\n"
        + ENVELOPE
        + mail(From="ben@example.org", Message_ID="<2@x>", In_Reply_To="<1@x>", Subject="Re: tea", body="ho")
    )
    assert records_of(box) == [
        Record(
            kind=Kind.MESSAGE,
            mid=mid("1@x"),
            author="Ann",
            text="hi",
            time_ms=1577934245000,
            position=1,
            uid="mailto:ann@example.org",
        ),
        Record(
            kind=Kind.MESSAGE,
            mid=mid("2@x"),
            author="ben@example.org",
            text="ho",
            time_ms=0,
            position=2,
            to=(mid("1@x"),),
            uid="mailto:ben@example.org",
        ),
    ]
    assert detect(box.encode(), "x").name == "mbox"
    assert records_of(box.replace("\n", "\r\n")) == records_of(box)


@pytest.mark.parametrize(
    "envelope",
    [
        "From ann@example.org Thu Jan  2 03:04:05 2020",
        "From - Thu Jan 02 03:04:05 2020",
        "From MAILER-DAEMON Thu Jan  2 03:04:05 2020",
        "From ann at example.org  Thu Jan  2 03:04:05 2020",
        "From 1234567890@xxx Thu Jan 02 03:04:05 +0000 2020",
        "From ann@example.org Thu, 02 Jan 2020 03:04:05 +0100",
        "From ann@example.org Thu Jan  2 03:04:05 CET 2020",
        "From ann@example.org 2020-01-02 03:04:05",
    ],
)
def test_envelopes_of_many_programs_separate(envelope: str):
    one = envelope + "\n" + mail(Subject="tea")
    assert detect(one.encode(), "x").name == "mbox"
    assert len(records_of(one + "\n" + one)) == 2


def test_sentences_that_start_with_from_do_not_separate():
    body = "x\n\nFrom here on it rains.\nFrom ann@example.org Thu Jan  2 03:04:05 2020\n>From me\n>>From you"
    [record] = records_of(ENVELOPE + mail(Subject="Re: tea", References="<1@x>", body=body))
    assert record.text == body.replace(">From me", "From me").replace(">>From", ">From")


def test_mail_that_is_too_long_is_skipped_and_the_next_one_read():
    long = ENVELOPE + mail(Subject="a", body=("x" * 1023 + "\n") * (MAIL_SIZE_MAX_BYTES // 1024 + 1)) + "\n"
    _, *items = read(ENVELOPE + mail(Subject="b") + "\n" + long + ENVELOPE + mail(Subject="c"))
    assert [(type(item), item.position) for item in items if isinstance(item, Record | Skipped)] == [
        (Record, 1),
        (Skipped, 2),
        (Record, 3),
    ]


def test_single_mail_that_is_too_long_is_refused():
    with pytest.raises(LimitExceeded, match=r"^tea\.mbox:1: mail of more than"):
        read(b"Subject: x\n\n" + b"x\n" * (MAIL_SIZE_MAX_BYTES // 2), "eml")


@pytest.mark.parametrize(
    ("headers", "key"),
    [({"List_Id": "Tea lovers <Tea.example.org>"}, "mail:tea.example.org"), ({}, "mail:tea")],
)
def test_chat_is_the_mailing_list_or_the_file(headers: dict[str, str], key: str):
    chats = [
        item for item in read((ENVELOPE + mail(Subject="a", **headers) + "\n") * 2) if isinstance(item, Chat)
    ]
    assert [chat.key for chat in chats] == [key]


# -- what a mail says ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"Subject": "Tea"}, "Tea\n\nhi"),
        ({"Subject": "Tea", "References": "<1@x>"}, "Tea\n\nhi"),
        ({"Subject": "Re: Tea", "References": "<1@x>"}, "hi"),
        ({"Subject": "AW: Tea", "In_Reply_To": "<1@x>"}, "hi"),
        ({"Subject": "Re: Tea"}, "Re: Tea\n\nhi"),
        ({"Subject": "hi"}, "hi"),
        ({"Subject": "Tea with", "body": "Tea  with\nmilk"}, "Tea  with\nmilk"),
        ({"Subject": "=?utf-8?q?Gr=C3=BCn?= =?iso-8859-1?b?5Q==?=", "body": ""}, "Grünå"),
        ({"Subject": "=?nonsense?q?Gr=C3=BCn?=", "body": ""}, "Grün"),
        ({"Subject": "=?utf-8?b?!!!?=", "body": ""}, "=?utf-8?b?!!!?="),
        ({"body": "x", "Content_Type": "text/plain; charset=idna"}, "x"),
        ({"body": "x", "Content_Type": "text/plain; charset=base64"}, "x"),
        ({"body": "eA==", "Content_Transfer_Encoding": "base64"}, "x"),
        ({"body": "=C3=A5=\n=zz", "Content_Transfer_Encoding": "quoted-printable"}, "å=zz"),
        (
            {"body": "<p>a &amp; b</p><script>x</script><p>c<br>d", "Content_Type": "text/html"},
            "a & b\n\nc\nd",
        ),
        ({"body": "1 < 2 <!-- no", "Content_Type": "text/html"}, "1 < 2"),
        ({"body": "x", "Content_Type": "multipart/mixed"}, "x"),
    ],
)
def test_text_is_subject_and_body_where_the_subject_says_something(headers: dict[str, str], text: str):
    assert Mail(mail(**headers).encode()).text == text


@pytest.mark.parametrize(
    ("headers", "references"),
    [
        ({"References": "<1@x> <2@x>"}, ["2@x"]),
        ({"In_Reply_To": "<1@x>", "References": "<2@x> <1@x>"}, ["1@x"]),
        ({"In_Reply_To": "<1@x> <2@x>"}, ["1@x", "2@x"]),
        ({"In_Reply_To": '"ann" <ann@x> of Monday <1@x>', "References": "<1@x>"}, ["1@x"]),
        ({"In_Reply_To": "your message of Monday"}, []),
    ],
)
def test_references_are_those_meant(headers: dict[str, str], references: list[str]):
    assert Mail(mail(**headers).encode()).references == references


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: multipart/mixed; boundary=a\nSubject: s\n\n"
        + b"--a\n" * (MAIL_BOUNDARIES_MAX + 2)
        + b"end",
        b"Content-Type: multipart/mixed; boundary=a\nSubject: s\n\n--a\n"
        + b"b:c\n" * (MAIL_HEADERS_MAX + 2)
        + b"end",
    ],
)
def test_mail_that_would_cost_too_much_to_take_apart_is_text(raw: bytes):
    mail = Mail(raw)
    assert mail.subject == "s"
    assert mail.text.startswith("s\n\n--a\n")
    assert mail.text.endswith("end")


def test_references_beyond_the_bound_are_reported():
    many = " ".join(f"<{n}@x>" for n in range(REFERENCES_MAX + 1))
    items = read(mail(Subject="x", In_Reply_To=many), "eml")
    assert [type(item) for item in items] == [Chat, Skipped, Record]


@pytest.mark.parametrize(
    ("header", "author"),
    [
        ("From: Ann <ann@example.org>", "Ann"),
        ("From: ann@example.org", "ann@example.org"),
        ("From: =?utf-8?q?=C3=85nn?= <ann@example.org>", "Ånn"),
        ("From: =?utf-8?q?Ann=2C_?= =?utf-8?q?Lee?= <ann@example.org>", "Ann, Lee"),
        ("From: Ann <ann@example.org>, Ben <ben@example.org>", "Ann"),
        ('From: "a\n b" <ann@example.org>', "a b"),
        ("From: \udce5nn <ann@example.org>", "ånn"),
        ("Sender: ann@example.org", "ann@example.org"),
        ("From: (((((", "((((("),
        ("X: y", ""),
    ],
)
def test_author_is_the_display_name_or_the_address(header: str, author: str):
    assert Mail(header.encode("utf-8", "surrogateescape") + b"\n\nhi\n").author == author


@pytest.mark.parametrize(
    ("header", "uid"),
    [
        ("From: Ann <Ann.Lee@Example.ORG>", "mailto:Ann.Lee@example.org"),
        ("From: ann@example.org (Ann)", "mailto:ann@example.org"),
        ("From: Ann <ann@example.org>, Ben <ben@example.org>", "mailto:ann@example.org"),
        ("From: Ann", ""),
        ("From: Ann <ann at example.org>", ""),
        ("From: Ann <" + "a" * 2000 + "@example.org>", ""),
        ("X: y", ""),
    ],
)
def test_sender_is_known_by_the_address(header: str, uid: str):
    assert Mail(f"{header}\n\nhi\n".encode()).uid == uid


@pytest.mark.parametrize(
    "date", ["", "x", "Thu, 99 Jan 2020 03:04:05", "Thu, 1 Jan 1960 00:00:00 +0000", "9" * 9999]
)
def test_senseless_dates_are_zero(date: str):
    assert Mail(mail(Date=date).encode()).time_ms == 0


def test_mail_without_message_id_is_known_by_date_sender_subject_and_body():
    one = ENVELOPE + mail(Received="from a", Date="2 Jan 2020", From="ann@x", Subject="a") + "\n"
    changed = [
        one.replace(*pair) for pair in [("hi", "ho"), ("ann", "ben"), ("2020", "2021"), ("a\n\n", "b\n\n")]
    ]
    first, second, *others = records_of(one + one.replace("from a", "from b") + "".join(changed))
    assert first.mid == second.mid
    assert len({first.mid, *(record.mid for record in others)}) == 1 + len(changed)
    assert records_of(one.replace("\n", "\r\n"))[0].mid == first.mid


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: multipart/mixed; boundary=a\n\n--a\n" * 3000,
        b"Content-Type: message/rfc822\n\n" * 5000,
        b"Content-Type: multipart/alternative; boundary=a\n\n--a\n" * 40,
        b"".join(b"Content-Type: multipart/alternative; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(60)),
        b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\nContent-Type: a/b\n\n" * 20_000,
        b"Content-Type: multipart/mixed\n\n" + b"--a\nContent-Type: multipart/mixed\n\n" * 2_000,
        b"Subject: x\n\n" + b"begin 644 a\n" * 50_000,
        b"Subject: x\n\n" + (b"a:b\n" * (MAIL_HEADERS_MAX - 1) + b"\n") * 20,
        b"Subject: x\n\n" + b"a" * 2_000_000,
        b"Subject: x\n\n" + b"begin 644 a\nend\n" * 50_000,
        b"Content-Type: text/plain; " + b'a="b;c";' * 50_000 + b"\n\nx",
        b"Subject: " + b"=?utf-8?q?=41?= " * 50_000 + b"\n\nx",
        b"From: " + b"(" * 100_000 + b"\n\nx",
        b"In-Reply-To: " + b"<" * 100_000 + b"\n\nx",
        b"Content-Type: text/html\n\n" + b"<!--" * 100_000,
        b"Content-Type: text/html\n\n" + b"<head>" * 100_000,
    ],
)
def test_hostile_mails_are_read_in_good_time(raw: bytes):
    assert Mail(raw).time_ms == 0


_PIECES = st.sampled_from(
    [
        *(
            b"From ann Thu Jan  2 03:04:05 2020\n",
            b"\n",
            b"\n\n",
            b"Subject: ",
            b"From: ",
            b"=?utf-8?b?",
            b"?=",
        ),
        *(
            b"Content-Type: multipart/mixed; boundary=a\n",
            b"--a\n",
            b"--a--",
            b"Content-Type: text/html\n",
            b"<p>",
        ),
        *(
            b"Content-Transfer-Encoding: base64\n",
            b"Message-ID: <1@x>\n",
            b"References: <2@x>\n",
            b">From ",
            b"\xff",
        ),
        *(
            b"Content-Disposition: attachment; filename*=utf-8''%00\n",
            b"\0",
            b";",
            b'"',
            b"x",
            b"Date: ",
            b"1 Jan",
        ),
    ]
)


@given(st.lists(_PIECES, max_size=40).map(b"".join) | st.binary(max_size=200))
@example(b'Content-Type: text/plain; charset="\xff"\n\nx')
def test_any_bytes_give_records_that_hold_only_text(data: bytes):
    for format_name in ("mbox", "eml"):
        importer(format_name).sniff(data, "x")
        for item in read(data, format_name):
            if isinstance(item, Record):
                (item.text + item.author).encode()
                assert "\0" not in item.text + item.author


# -- the corpus ------------------------------------------------------------------------------


@pytest.mark.corpus
@pytest.mark.parametrize("folder", ["exports/mbox", "derived/mbox"])
def test_every_mail_of_the_corpus_arrives(corpus: Path, folder: str):
    for path in sorted((corpus / folder).glob("*.mbox")):
        raw = path.read_bytes()
        assert detect(raw[:SNIFF_SIZE_BYTES], path.name).name == "mbox"
        records = records_of(raw)
        box = mailbox.mbox(path, create=False)
        ids = [one["Message-ID"].strip(" <>") for one in box]
        answers = sum("<" in one.get("In-Reply-To", "") + one.get("References", "") for one in box)
        box.close()
        assert [record.mid for record in records] == [mid(one) for one in ids]
        assert sum(bool(record.to) for record in records) == answers
        assert all(record.author and record.text and record.time_ms for record in records)


@pytest.mark.corpus
def test_every_broken_mail_of_the_corpus_keeps_its_text_and_names_its_files(corpus: Path):
    paths = sorted((corpus / "exports/mime").glob("*.raw"))
    assert len(paths) == 36
    for path in paths:
        raw = path.read_bytes()
        [record] = records_of(raw, "eml")
        if path.name == "mail-erroneous.raw":  # "Not an RFC-822 Document", and nothing else
            with pytest.raises(UserError, match="is in no format that mlog knows"):
                detect(raw, path.name)
            assert record.text == raw.decode().strip()
            continue
        assert detect(raw, path.name).name == "eml"
        assert record.author
        assert record.uid
        # Counted in the bytes, without a parser: what is encoded as base64 or has a name is a file.
        named = re.findall(rb'(?i)[; \t]name *=[ "]*([^;"\r\n]+\.[a-z]{3,4}[^;"\r\n]*)', raw)
        named += re.findall(rb'(?i)filename *=[ "]*([^;"\r\n]+)', raw)
        names = {one.strip(b'"').decode() for one in named}
        files = [one for one in record.files if not one.name.startswith("unnamed")]
        assert names == {one.name for one in files}, path.name
        encoded = len(re.findall(rb"(?i)\ncontent-transfer-encoding: *base64", raw))
        assert len(record.files) >= encoded, path.name
        assert all(one.data for one in record.files)
        # The newer interface of the standard library, where it does not raise.
        body = email.message_from_bytes(raw.lstrip(), policy=email.policy.default).get_body(("plain",))
        if body is not None and not body.is_multipart() and "Mailer-Daemon" not in record.author:
            content = body.get_payload(decode=True)
            assert isinstance(content, bytes)
            assert " ".join(content.decode("latin-1").split()) in " ".join(record.text.split()), path.name


@pytest.mark.corpus
def test_mails_of_the_corpus_that_are_cut_anywhere_give_a_record(corpus: Path):
    for path in sorted((corpus / "exports/mime").glob("*.raw")):
        raw = path.read_bytes()
        for end in range(1, len(raw), 61):
            assert sum(isinstance(item, Record) for item in read(raw[:end], "eml")) == 1


# -- export ----------------------------------------------------------------------------------

_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60
) | st.sampled_from(
    [
        "From me\n>From you",
        "x" * 2000,
        "a\r\nBcc: ben@example.org",
        "å" * 500,
        "=?utf-8?q?x?=",
        "\x1b[31m\u202e",
    ]
)


@given(st.lists(st.tuples(_texts, _texts), max_size=5), _texts)
def test_export_is_read_back_by_us_and_by_pythons_mailbox(said: list[tuple[str, str]], title: str):
    records: list[Record] = []
    for number, (author, text) in enumerate(said):
        records.append(
            Record(
                kind=Kind.MESSAGE,
                mid=MessageId(number.to_bytes(16)),
                author=author,
                text=text,
                time_ms=number * 86_400_000_000,
                position=number,
                to=tuple(record.mid for record in records[-2:]),
            )
        )
    exported = [ExportRecord(record=record) for record in records]
    written = b"".join(exporter("mbox").export(Chat(key="k", title=title), exported))
    back = records_of(written)
    assert [one.time_ms for one in back] == [record.time_ms for record in records]
    mids = [mid(f"{record.mid.hex()}@mlog.invalid") for record in records]
    assert [one.mid for one in back] == mids
    assert [one.to for one in back] == [tuple(mids[max(0, n - 2) : n]) for n in range(len(records))]
    for one, record in zip(back, records, strict=True):
        if record.to:
            assert one.text == record.text.replace("\r\n", "\n").strip("\r\n")
        assert one.text.endswith(record.text.replace("\r\n", "\n").strip("\r\n"))
    for one, record in zip(_mailbox(written), records, strict=True):
        assert set(one.keys()) <= {
            *("Message-ID", "From", "Subject", "Date", "In-Reply-To", "References", "MIME-Version"),
            *("Content-Type", "Content-Transfer-Encoding"),
        }
        payload = one.get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert payload.decode().strip("\n") == record.text.strip("\n")


def test_export_names_the_files_of_a_message():
    files = (File(name="a.jpg"), File(name="b c.pdf"))
    said = Record(
        kind=Kind.MESSAGE, mid=MessageId(bytes(16)), author="a", text="", time_ms=0, position=1, files=files
    )
    erased = msgspec.structs.replace(said, mid=MessageId(b"1" * 16), erased=True)
    records = [ExportRecord(record=said), ExportRecord(record=erased)]
    written = b"".join(exporter("mbox").export(Chat(key="k", title="t"), records))
    texts = [one.get_payload() for one in _mailbox(written)]
    assert [str(text).strip() for text in texts] == ["[file: a.jpg]\n[file: b c.pdf]", "[erased]"]


def _mailbox(written: bytes) -> list[mailbox.mboxMessage]:
    parts = written.split(b"\nFrom mlog@") if written else []
    return [
        mailbox.mboxMessage(email.message_from_bytes(part.partition(b"\n")[2], policy=email.policy.compat32))
        for part in parts
    ]


def test_mailbox_of_python_finds_each_mail_and_its_text(tmp_path: Path):
    texts = ["one", "From two\n\nFrom mlog@mlog.invalid Thu Jan  2 03:04:05 2020", "grün \x03"]
    records = [
        ExportRecord(
            record=Record(
                kind=Kind.MESSAGE,
                mid=MessageId(bytes([n] * 16)),
                author="Ånn",
                text=text,
                time_ms=1,
                position=n,
            )
        )
        for n, text in enumerate(texts)
    ]
    path = tmp_path / "tea.mbox"
    path.write_bytes(b"".join(exporter("mbox").export(Chat(key="k", title="t"), records)))
    box = mailbox.mbox(path, create=False)
    payloads = [one.get_payload(decode=True) for one in box]
    box.close()
    assert [payload.decode().strip("\n") for payload in payloads if isinstance(payload, bytes)] == texts
    assert [record.author for record in records_of(path.read_bytes())] == ["Ånn"] * 3
