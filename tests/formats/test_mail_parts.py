"""Parts of a mail: which are text, which are files, and what is mended."""

from __future__ import annotations

import base64
import binascii
import email

import pytest

from mlog.formats.mail_parts import POLICY, Parts, decode_charset
from mlog.formats.mail_text import Mail
from mlog.limits import MAIL_DEPTH_MAX, MAIL_PARTS_MAX


def parts(raw: bytes | str) -> Parts:
    return Parts(email.message_from_bytes(raw.encode() if isinstance(raw, str) else raw, policy=POLICY))


def multipart(kind: str, *inner: str, boundary: str = "b") -> str:
    body = "".join(f"--{boundary}\n{one}\n" for one in inner)
    return f'Content-Type: multipart/{kind}; boundary="{boundary}"\n\n{body}--{boundary}--\n'


def names(found: Parts) -> list[str]:
    return [file.name for file in found.files]


PLAIN = "Content-Type: text/plain\n\ntea\n"
HTML = "Content-Type: text/html\n\n<p>milk</p>\n"
PICTURE = "Content-Type: image/png; name=a.png\nContent-Transfer-Encoding: base64\n\nAAEC\n"


@pytest.mark.parametrize(
    ("raw", "texts", "files"),
    [
        (multipart("alternative", HTML, PLAIN), ["tea"], []),
        (multipart("alternative", "Content-Type: text/plain\n\n \n", HTML), ["milk"], []),
        (
            multipart("alternative", PLAIN, multipart("related", HTML, PICTURE, boundary="c")),
            ["tea"],
            ["a.png"],
        ),
        (
            multipart("related", multipart("alternative", PLAIN, HTML, boundary="c"), PICTURE),
            ["tea"],
            ["a.png"],
        ),
        (multipart("mixed", PLAIN, PICTURE, HTML), ["tea", "milk"], ["a.png"]),
        (
            multipart("alternative", PLAIN, "Content-Type: text/calendar\n\nBEGIN"),
            ["tea"],
            ["invitation.ics"],
        ),
        (multipart("mixed", "Content-Type: image/png\n\nx"), [], ["unnamed.png"]),
        (multipart("mixed", "Content-Type: application/octet-stream\n\nx"), [], ["unnamed"]),
        (
            multipart(
                "mixed", "Content-Type: message/rfc822\n\nFrom: ann@x\nSubject: =?utf-8?q?=C3=A5?=\n\nmilk\n"
            ),
            ["From: ann@x\nSubject: å", "milk"],
            [],
        ),
        (multipart("digest", "\nSubject: one\n\n1\n"), ["Subject: one", "1"], []),
        (
            multipart(
                "report", PLAIN, "Content-Type: message/delivery-status\n\nReporting-MTA: x\n\nStatus: 5\n"
            ),
            ["tea", "Reporting-MTA: x\n\nStatus: 5"],
            [],
        ),
    ],
)
def test_parts_are_text_or_files(raw: str, texts: list[str], files: list[str]):
    found = parts(raw)
    assert found.texts == texts
    assert names(found) == files


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ('Content-Disposition: attachment; filename="a b.txt"', "a b.txt"),
        ("Content-Disposition: attachment; filename=../../a.txt", "a.txt"),
        ('Content-Disposition: attachment; filename="C:\\\\notes\\\\a.txt"', "a.txt"),
        ("Content-Disposition: attachment; filename*=utf-8''%C3%A5.txt", "å.txt"),
        ("Content-Disposition: attachment; filename*0*=utf-8''%C3; filename*1*=%A5.txt", "å.txt"),
        ("Content-Disposition: attachment; filename*=nonsense''a.txt", "a.txt"),
        ('Content-Disposition: attachment; filename="=?utf-8?q?=C3=A5?=.txt"', "å.txt"),
        ("Content-Disposition: attachment; filename=å.txt", "å.txt"),
        ("Content-Type: application/pdf name=a.pdf", "unnamed.pdf"),
        ("Content-Type: text/plain; name=a.txt; name=a.txt", "a.txt"),
        (
            'Content-Type: application/pdf; name=""\nContent-Disposition: attachment; filename="a.pdf"',
            "a.pdf",
        ),
    ],
)
def test_files_are_named_however_the_name_is_written(headers: str, name: str):
    assert names(parts(f"{headers}\n\nx\n")) == [name]


def test_bytes_of_a_file_are_kept_and_damaged_base64_as_far_as_it_goes():
    head = "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n"
    assert [file.data for file in parts(head + "AAEC").files] == [b"\0\1\2"]
    assert [file.data for file in parts(head + "AA*EC").files] == [b"\0\1\2"]
    [cut] = parts(head + "AAECA").files
    assert cut.data is not None
    assert cut.data.startswith(b"\0\1\2")


def test_multipart_without_its_boundary_is_read_by_the_one_that_stands_there():
    whole = multipart("mixed", PLAIN, PICTURE)
    for head in ('multipart/mixed; boundary="other"', "multipart/mixed"):
        found = parts(whole.replace('multipart/mixed; boundary="b"', head))
        assert (found.texts, names(found)) == (["tea"], ["a.png"])


@pytest.mark.parametrize("end", ["--b--\n", "--b\n", "--b-->\n", ""])
def test_multipart_may_end_badly(end: str):
    found = parts(multipart("mixed", PLAIN, PICTURE).removesuffix("--b--\n") + end)
    assert (found.texts, names(found)) == (["tea"], ["a.png"])


def test_text_behind_base64_and_text_that_is_none_stay_text():
    head = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
    encoded = base64.encodebytes("grün\n".encode()).decode()
    assert parts(head + encoded).texts == ["grün"]
    assert parts(head + encoded + "____\nThis is a list.\n").texts == ["grün", "____\nThis is a list."]
    assert parts(head + "This is a text.\n").texts == ["This is a text."]


def test_uuencode_in_a_text_is_a_file_unless_it_is_damaged():
    lines = b"".join(binascii.b2a_uu(b"abc" * 15) for _ in range(2)).decode()
    found = parts(f"\nhi\nbegin 644 a.bin\n{lines}`\nend\nho\n")
    assert found.texts == ["hi\nho"]
    assert [(file.name, file.data) for file in found.files] == [("a.bin", b"abc" * 30)]
    for damaged in (f"begin 644 a.bin\n{lines}", "begin 644 a.bin\nno such thing, dear\nend", "begin 1 a"):
        assert parts(f"\n{damaged}\n").texts == [damaged.strip()]


@pytest.mark.parametrize(
    ("raw", "charset", "text"),
    [
        ("å".encode(), "utf-8", "å"),
        ("å".encode(), "us-ascii", "å"),
        ("å".encode(), "iso-8859-1", "å"),
        (b"\xe5", "iso-8859-1", "å"),
        (b"\x80", "iso-8859-1", "€"),
        (b"\xe5", "utf-8", "å"),
        ("я".encode("koi8-r"), "KOI8-R", "я"),
        ("я".encode("koi8-r"), '"charset=koi8-r"', "я"),
        ("管".encode("gbk"), "gb2312", "管"),
        ("å".encode(), "fakescii", "å"),
        ("å".encode(), "", "å"),
        ("å".encode(), "\udcff", "å"),
        (b"a\0b", "utf-8", "a\ufffdb"),
    ],
)
def test_charset_gives_way_to_what_the_bytes_look_like(raw: bytes, charset: str, text: str):
    assert decode_charset(raw, charset) == text


def test_page_says_its_own_charset_where_the_mail_does_not():
    page = '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r"><p>я'.encode("koi8-r")
    assert parts(b"Content-Type: text/html\n\n" + page).texts == ["я"]


def test_parts_beyond_the_bounds_are_counted_and_not_read():
    found = parts(multipart("mixed", *[PLAIN] * (MAIL_PARTS_MAX + 5)))
    assert len(found.texts) == MAIL_PARTS_MAX - 1
    assert found.left_out == 6
    nested = PLAIN
    for n in range(MAIL_DEPTH_MAX + 2):
        nested = multipart("mixed", nested, boundary=f"b{n}")
    assert Mail(nested.encode()).left_out == 1


def test_a_text_of_a_form_feed_alone_is_a_text():
    assert parts("Subject: x\n\n\x0c\n").texts == ["\x0c"]
