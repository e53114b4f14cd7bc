"""What there is in a mail: the text that a person reads, and the files that came with it.

The standard library takes a mail apart; what it cannot is mended in front of it or after it:

- a multipart whose boundary is missing or another one than announced is read by the one that stands there;
- text announced as base64 that is none, or goes on after it (a mailing list's footer), is text;
- files that stand in a text as uuencode are files;
- a charset that is unknown, quoted twice or evidently wrong gives way to what the bytes look like. This is
  decided by a fixed rule, not by a guess from letter frequencies: two people who import the same mail must
  read the same text, whatever version of a library they have.

Of alternatives the plain text is taken, else what the HTML shows; pictures beside it stay files. A mail
inside a mail is text, under the headers that people see.
"""

from __future__ import annotations

import binascii
import codecs
import email
import email.header
import email.policy
import re
from email.message import Message
from typing import Any, Final, TypeAlias, cast

from mlog.formats.html_text import charset_in, text_of_html
from mlog.formats.record import File
from mlog.formats.texts import clean, clip, decode
from mlog.limits import MAIL_DEPTH_MAX, MAIL_PARTS_MAX

__all__ = ["HEADER_SIZE_MAX", "POLICY", "Parsed", "Parts", "decode_charset", "decode_words"]

Parsed: TypeAlias = "Message[Any, Any]"

HEADER_SIZE_MAX: Final = 16 * 1024
"""Characters of a header that are decoded: nobody reads further, and the standard library takes
time that grows with the square of a header with many parameters."""

_BLANK: Final = re.compile(r"\s+")
_SHOWN_HEADERS: Final = ("From", "Date", "Subject")

_NOT_TEXT_CODECS: Final = frozenset(("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"))
"""Codecs of Python that no mail means; some take time that grows with the square of the text."""

_OFTEN_WRONG: Final = frozenset(("ascii", "iso8859-1"))
"""Who names one of these often means Windows-1252 or UTF-8."""

_FILE_NAMES: Final = {
    "text/calendar": "invitation.ics",
    "text/vcard": "card.vcf",
    "text/x-vcard": "card.vcf",
    "text/directory": "card.vcf",
}
"""Texts that no person reads."""

_SUBTYPE: Final = re.compile(r"[a-z0-9]{1,8}")
_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")

_MENDED_MAX: Final = 2
"""Multiparts of a mail whose boundary is looked for: each is parsed once more."""

_BOUNDARY: Final = re.compile(rb"(?im)^--([^\r\n]{1,70}?)[ \t]*\r?\ncontent-[a-z-]{1,40}:")
_BASE64_LINE: Final = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_UU_BEGIN: Final = re.compile(r"begin [0-7]{3,4} (\S.*)")


class _BytesPolicy(email.policy.Compat32):
    """The tolerant policy, but bytes beyond ASCII in a header stay to be decoded."""

    def header_fetch_parse(self, name: str, value: str) -> str:  # noqa: ARG002 -- of the base class
        return value


POLICY: Final = _BytesPolicy()


class Parts:
    """The content of a mail.

    Attributes:
        texts: What there is to read, in order.
        files: What came with it.
        left_out: How many parts are beyond MAIL_PARTS_MAX or MAIL_DEPTH_MAX.
    """

    def __init__(self, parsed: Parsed) -> None:
        self.texts: list[str] = []
        self.files: list[File] = []
        self.left_out = 0
        self._count = 0
        self._mended = 0
        self._walk(parsed, 0, shown=True)

    def _walk(self, part: Parsed, depth: int, *, shown: bool) -> None:
        """Take a part; one that is not shown (another version of what is) gives files only."""
        self._count += 1
        if depth > MAIL_DEPTH_MAX or self._count > MAIL_PARTS_MAX:
            self.left_out += 1
            return
        kind = _type_of(part)
        payload: object = part.get_payload()
        if kind.startswith("multipart/") and not isinstance(payload, list):
            mended = _with_boundary_found(part) if self._mended < _MENDED_MAX else None
            if mended is not None:
                self._mended += 1
                self._walk(mended, depth + 1, shown=shown)
                return
        if isinstance(payload, list):
            self._walk_children(
                kind, [cast(Parsed, child) for child in cast(list[object], payload)], depth, shown
            )
            return
        name = _file_name(part)
        bodily = kind.startswith(("text/", "multipart/")) and kind not in _FILE_NAMES
        if bodily and not name and not _is_attached(part):
            if shown:
                self._take_text(part, kind)
        else:
            self._take_file(part, kind, name)

    def _walk_children(self, kind: str, children: list[Parsed], depth: int, shown: bool) -> None:
        if kind == "multipart/alternative":
            # The plain one first; if it says nothing, the first that says something.
            for child in sorted(children, key=lambda child: _type_of(child) != "text/plain"):
                before = len(self.texts)
                self._walk(child, depth + 1, shown=shown)
                shown = shown and len(self.texts) == before
            return
        if kind == "message/delivery-status":
            if shown:
                blocks = (
                    "\n".join(f"{name}: {value}" for name, value in child.items()) for child in children
                )
                self._say("\n\n".join(blocks))
            return
        for child in children:
            if kind.startswith("message/") and shown:
                self._say(_shown_headers(child))
            self._walk(child, depth + 1, shown=shown)

    def _take_text(self, part: Parsed, kind: str) -> None:
        raw, rest = _bytes_of_text(part)
        charset = _charset(part)
        if kind == "text/html":
            self._say(text_of_html(decode_charset(raw, charset or charset_in(raw))))
        else:
            text, files = _without_uuencode(decode_charset(raw, charset).replace("\r\n", "\n"))
            self._say(text.strip("\n"))
            room = max(0, MAIL_PARTS_MAX - len(self.files))
            self.files += files[:room]
            self.left_out += len(files[room:])
        if rest:
            self._say(decode_charset(rest, charset).replace("\r\n", "\n").strip("\n"))

    def _take_file(self, part: Parsed, kind: str, name: str) -> None:
        data = _bytes_of(part)
        type_ = kind if _TYPE.fullmatch(kind) else ""
        self.files.append(File(name=name or _name_for(kind), type=type_, data=data, size=len(data)))

    def _say(self, text: str) -> None:
        if text.strip(" \t\r\n"):
            self.texts.append(clean(text))


def decode_charset(raw: bytes, charset: str) -> str:
    """Bytes by the charset that the mail names, where that is one and fits; else by what they look like."""
    try:
        codec = codecs.lookup(charset.lower().strip("\"' ").removeprefix("charset=") or "utf-8")
        if codec.name not in _NOT_TEXT_CODECS and codec.name not in _OFTEN_WRONG:
            return clean(raw.decode(codec.name))
    except (LookupError, UnicodeError, ValueError):
        pass
    return clean(decode(raw))


def decode_words(written: str) -> str:
    """A header or a part of one as people read it: encoded words, and bytes beyond ASCII, decoded."""
    text = decode(written.encode("utf-8", "surrogateescape"))
    text = _BLANK.sub(" ", text).strip()
    if "=?" not in text:
        return clean(text)
    try:
        parts = [
            part if isinstance(part, str) else decode_charset(part, charset or "")
            for part, charset in email.header.decode_header(text)
        ]
    except Exception:  # noqa: BLE001 -- wrong base64 and unknown charsets raise all kinds of errors
        return clean(text)
    return clean("".join(parts).strip() or text)


def _type_of(part: Parsed) -> str:
    # Of "application/pdf name=a.pdf", the semicolon forgotten, the type is what comes first.
    return (part.get_content_type().split() or [""])[0]


def _is_attached(part: Parsed) -> bool:
    written: list[Any] = part.get_all("Content-Disposition", [])
    return any(str(value).strip().lower().startswith("attachment") for value in written)


def _charset(part: Parsed) -> str:
    try:
        return part.get_content_charset() or ""
    except (LookupError, UnicodeError, ValueError):
        return ""


def _file_name(part: Parsed) -> str:
    """The last part of an attachment's name; it is shown, and never a path."""
    try:
        name = decode_words(part.get_filename() or "")
    except Exception:  # noqa: BLE001 -- parameters that are no RFC 2231 raise all kinds of errors
        name = ""
    return clip(_BLANK.sub(" ", name.replace("\\", "/").rpartition("/")[2]).strip())


def _name_for(kind: str) -> str:
    """What to call a file without a name."""
    subtype = kind.rpartition("/")[2]
    return _FILE_NAMES.get(kind) or (f"unnamed.{subtype}" if _SUBTYPE.fullmatch(subtype) else "unnamed")


def _shown_headers(part: Parsed) -> str:
    shown = ((name, decode_words(str(part.get(name, ""))[:HEADER_SIZE_MAX])) for name in _SHOWN_HEADERS)
    return "\n".join(f"{name}: {value}" for name, value in shown if value)


def _with_boundary_found(part: Parsed) -> Parsed | None:
    """A multipart whose boundary is not the announced one, read by the first that stands in it."""
    payload: object = part.get_payload()
    raw = payload.encode("utf-8", "surrogateescape") if isinstance(payload, str) else b""
    found = _BOUNDARY.search(raw)
    if found is None or b'"' in found[1] or b"\\" in found[1]:
        return None
    head = b'Content-Type: %b; boundary="%b"\n\n' % (_type_of(part).encode("ascii", "replace"), found[1])
    mended: Parsed = email.message_from_bytes(head + raw, policy=POLICY)
    return mended if mended.is_multipart() else None


def _bytes_of(part: Parsed) -> bytes:
    decoded: object = part.get_payload(decode=True)
    written: object = part.get_payload()
    data = decoded if isinstance(decoded, bytes) else b""
    if _is_base64(part) and isinstance(written, str) and data == written.encode("ascii", "replace"):
        # The standard library gives up on base64 that was cut behind the first of four letters.
        letters = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
        return binascii.a2b_base64(letters[: len(letters) // 4 * 4])
    return data


def _is_base64(part: Parsed) -> bool:
    return str(part.get("Content-Transfer-Encoding", "")).strip().lower() == "base64"


def _bytes_of_text(part: Parsed) -> tuple[bytes, bytes]:
    """The bytes of a text, and what stands behind it that is not encoded as announced."""
    raw = _bytes_of(part)
    if not _is_base64(part):
        return raw, b""
    payload: object = part.get_payload()
    written = payload.encode("utf-8", "surrogateescape") if isinstance(payload, str) else b""
    lines = written.splitlines()
    wrong = [n for n, line in enumerate(lines) if _BASE64_LINE.fullmatch(line.strip()) is None]
    if not wrong or not any(b" " in lines[n].strip() for n in wrong):
        return raw, b""
    first = wrong[0]
    head = Message(policy=POLICY)
    head["Content-Transfer-Encoding"] = "base64"
    head.set_payload(b"\n".join(lines[:first]).decode("ascii", "replace"))
    return _bytes_of(head), b"\n".join(lines[first:])


def _without_uuencode(text: str) -> tuple[str, list[File]]:
    """A text without the files that stand in it; one that is damaged stays text."""
    if "begin " not in text:
        return text, []
    kept: list[str] = []
    files: list[File] = []
    begun = ""
    block: list[str] = []
    data: list[bytes] = []
    for line in text.split("\n"):
        if begun:
            block.append(line)
            if line.rstrip() == "end":
                raw = b"".join(data)
                files.append(File(name=clip(begun), data=raw, size=len(raw)))
                begun = ""
            elif (piece := _uudecoded(line)) is not None:
                data.append(piece)
            else:
                kept += block
                begun = ""
        elif (found := _UU_BEGIN.fullmatch(line.rstrip())) is not None:
            begun = found[1].replace("\\", "/").rpartition("/")[2] or "unnamed"
            block, data = [line], []
        else:
            kept.append(line)
    return "\n".join(kept + block if begun else kept), files


def _uudecoded(line: str) -> bytes | None:
    try:
        return binascii.a2b_uu(line.rstrip("\r")) if line.strip() else b""
    except (binascii.Error, ValueError):
        return None
