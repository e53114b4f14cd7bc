"""What a mail says: headers and body of any MIME, however broken, as readable text.

Nothing here raises for what stands in a mail. The standard library parses it with its tolerant old
policy (the newer one raises on many broken headers); where even that fails, the raw text
after the headers is the body.
"""

from __future__ import annotations

import codecs
import email
import email.header
import email.policy
import email.utils
import re
from collections.abc import Iterator
from datetime import UTC
from email.message import Message
from html import unescape
from typing import Any, Final, TypeAlias, cast

from mlog.formats.texts import clean, decode
from mlog.limits import TIME_MAX_MS

__all__ = ["Mail"]

_Parsed: TypeAlias = "Message[Any, Any]"

_MESSAGE_ID: Final = re.compile(r"<([^<>\s]{1,995})>")
_REPLY_PREFIX: Final = re.compile(r"(?i)\s*(?:re|aw|sv|vs|antw|odp|ref|回复|答复)\s*(?:\[\d+\])?\s*[:：]")
_BLANK: Final = re.compile(r"\s+")

_TAG: Final = re.compile(r"</?([a-z][a-z0-9]*)")
_HIDDEN: Final = ("<script", "<style", "<head", "<title", "<template")
_BREAKS: Final = frozenset(
    ("br", "p", "div", "tr", "li", "ul", "ol", "table", "blockquote", "pre", "hr", "h1", "h2", "h3", "h4")
)
_DEPTH_MAX: Final = 32

_PARAMETERS: Final = re.compile(rb"(?im)^content-(?:type|disposition)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*")

_NOT_TEXT_CODECS: Final = frozenset(("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"))
"""Codecs of Python that no mail means; some take time that grows with the square of the text."""

_HEADER_SIZE_MAX: Final = 16 * 1024
"""Characters of a header that are decoded: nobody reads further, and the standard library takes
time that grows with the square of a header with many parameters."""


class Mail:
    """One mail, parsed.

    Attributes:
        author: Display name of the sender, else the address, else "".
        time_ms: Date header in UTC, 0 where there is none that makes sense.
        message_id: Without brackets and blanks, or "".
        references: Message ids that it answers: those of In-Reply-To, else the last reference.
        list_id: Of the mailing list, without brackets, or "".
        text: Subject where it says more than the thread does, then the body, then attachments.
    """

    def __init__(self, raw: bytes) -> None:
        # The parser loses all of the headers where the first line is indented.
        raw = raw.lstrip(b" \t\r\n")
        try:
            if any(len(found.group()) > _HEADER_SIZE_MAX for found in _PARAMETERS.finditer(raw)):
                raise ValueError("header too long")  # noqa: TRY301 -- read as one that cannot be parsed
            parsed: _Parsed = email.message_from_bytes(raw, policy=email.policy.compat32)
            body = "\n\n".join(part for part in _texts(parsed, 0) if part)
        except Exception:  # noqa: BLE001 -- a broken mail may break the parser anywhere
            head, _, rest = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
            parsed = _headers_only(head)
            body = clean(decode(rest))
        self.list_id = _inner(_header(parsed, "List-Id"))
        self.message_id = _inner(_header(parsed, "Message-ID"))
        self.references = _references(_header(parsed, "In-Reply-To"), _header(parsed, "References"))
        self.author = _author(parsed)
        self.time_ms = _time_ms(_header(parsed, "Date"))
        subject = _BLANK.sub(" ", _header(parsed, "Subject")).strip()
        self.text = _with_subject(subject, body.strip("\r\n"), answers=bool(self.references))


def _headers_only(head: bytes) -> _Parsed:
    parsed: _Parsed = Message(policy=email.policy.compat32)
    for line in re.sub(rb"\n[ \t]+", b" ", head).split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and name and not _BLANK.search(decode(name)):
            parsed[decode(name)] = decode(value).strip()
    return parsed


def _header(parsed: _Parsed, name: str) -> str:
    """A header's first occurrence, decoded as far as it can be."""
    try:
        value = parsed.get(name)
        if value is None:
            return ""
        # A header object stands for bytes beyond ASCII; its surrogates are those bytes.
        raw = value if isinstance(value, str) else "".join(str(part) for part, _ in value._chunks)  # noqa: SLF001
        text = decode(raw[:_HEADER_SIZE_MAX].encode("utf-8", "surrogateescape"))
    except (UnicodeError, AttributeError, ValueError, TypeError):
        return ""
    text = _BLANK.sub(" ", text).strip()
    if "=?" not in text:
        return clean(text)
    try:
        parts = [_decoded(part, charset) for part, charset in email.header.decode_header(text)]
    except Exception:  # noqa: BLE001 -- wrong base64 and unknown charsets raise all kinds of errors
        return clean(text)
    return clean("".join(parts).strip() or text)


def _decoded(part: str | bytes, charset: str | None) -> str:
    return part if isinstance(part, str) else _charset_decoded(part, charset)


def _charset_decoded(raw: bytes, charset: str | None) -> str:
    """Bytes by the charset that the mail names, where that is one and fits; else by what they look like."""
    try:
        codec = codecs.lookup((charset or "utf-8").strip("\"' ").lower())
        # Who names one of these two often means Windows-1252 or UTF-8.
        if codec.name not in _NOT_TEXT_CODECS and codec.name not in ("ascii", "iso8859-1"):
            return clean(raw.decode(codec.name))
    except (LookupError, UnicodeError, ValueError):
        pass
    return clean(decode(raw))


def _author(parsed: _Parsed) -> str:
    for name in ("From", "Sender", "Reply-To"):
        written = _header(parsed, name)
        if not written:
            continue
        try:
            display, address = email.utils.parseaddr(written)
        except Exception:  # noqa: BLE001 -- see the module's text
            return written
        return _BLANK.sub(" ", display or address or written).strip()
    return ""


def _time_ms(written: str) -> int:
    try:
        moment = email.utils.parsedate_to_datetime(written)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max(int(moment.timestamp() * 1000), 0), TIME_MAX_MS)
    except Exception:  # noqa: BLE001 -- dates in mails break it in many ways
        return 0


def _inner(written: str) -> str:
    """What stands in angle brackets, else all of it, without blanks."""
    found = _MESSAGE_ID.search(written)
    return _BLANK.sub("", found[1] if found is not None else written)


def _references(in_reply_to: str, references: str) -> list[str]:
    """Whom a mail answers, each once.

    Old programs wrote addresses into In-Reply-To too: of several ids there, those that
    References names as well are meant, where it names any.
    """
    answered = _MESSAGE_ID.findall(in_reply_to)
    thread = _MESSAGE_ID.findall(references)
    meant = [one for one in answered if one in set(thread)]
    return list(dict.fromkeys(meant or answered or thread[-1:]))


def _with_subject(subject: str, body: str, *, answers: bool) -> str:
    """The body with its subject in front, unless that says nothing new.

    It does not where it only continues a thread ("Re: ..." with a reference), nor where the body
    starts with it (perhaps cut short, as in mails made from chat messages).
    """
    start = _BLANK.sub(" ", body[: 4 * len(subject) + 16]).strip()
    if not subject or (answers and _REPLY_PREFIX.match(subject)) or start.startswith(subject.rstrip("….")):
        return body
    return f"{subject}\n\n{body}" if body else subject


def _texts(part: _Parsed, depth: int) -> Iterator[str]:
    """What there is to read in a part: text, text of HTML, names of attachments."""
    if depth > _DEPTH_MAX:
        yield "[more parts inside]"
        return
    kind = part.get_content_type()
    payload: object = part.get_payload()
    if isinstance(payload, list):
        children = [cast(_Parsed, child) for child in cast(list[object], payload)]
        if kind == "multipart/alternative":
            yield from _alternative(children, depth)
            return
        for child in children:
            yield from _texts(child, depth + 1)
        return
    name = _file_name(part)
    attached = str(part.get("Content-Disposition", "")).strip().lower().startswith("attachment")
    bodily = kind.startswith(("text/", "multipart/"))  # a multipart without a boundary is one text
    if bodily and not attached and not name:
        text = _body_of(part)
        yield _text_of_html(text) if kind == "text/html" else text
    else:
        yield f"[file: {name or kind}]"


def _alternative(children: list[_Parsed], depth: int) -> Iterator[str]:
    """Of several versions of the same, the plain one; else the first that says something."""
    for wanted in ("text/plain", ""):
        for child in children:
            if child.get_content_type() == wanted or not wanted:
                texts = [text for text in _texts(child, depth + 1) if text.strip()]
                if texts:
                    yield from texts
                    return


def _file_name(part: _Parsed) -> str:
    """The last part of an attachment's name; it is shown, and never a path."""
    try:
        name = part.get_filename() or ""
        name = _decoded(name.encode("utf-8", "surrogateescape"), None)
        if "=?" in name:
            name = "".join(_decoded(piece, charset) for piece, charset in email.header.decode_header(name))
    except Exception:  # noqa: BLE001 -- see the module's text
        name = ""
    return clean(_BLANK.sub(" ", name.replace("\\", "/").rpartition("/")[2]).strip())


def _body_of(part: _Parsed) -> str:
    payload: object = part.get_payload(decode=True)
    raw = payload if isinstance(payload, bytes) else b""
    try:
        charset = part.get_content_charset()
    except (LookupError, UnicodeError, ValueError):
        charset = None
    return _charset_decoded(raw, charset).replace("\r\n", "\n").strip("\n")


def _text_of_html(html: str) -> str:
    """What a browser would show, a line for each block.

    A scanner of its own, because the standard library's takes time that grows with the square of
    some broken markup; every search here moves on or ends the scan.
    """
    lower = html.lower()
    parts: list[str] = []
    unclosed: set[str] = set()
    position = 0
    while (start := html.find("<", position)) >= 0:
        parts.append(_BLANK.sub(" ", html[position:start]))
        tag = _TAG.match(lower, start)
        if tag is None and not html.startswith(("<!", "<?"), start):
            parts.append("<")
            position = start + 1
            continue
        comment = html.startswith("<!--", start)
        end = html.find("-->" if comment else ">", start)
        if end < 0:
            position = len(html) if comment else start
            break
        position = end + (3 if comment else 1)
        if tag is not None and tag[1] in _BREAKS:
            parts.append("\n")
        elif tag is not None and tag[0].startswith(_HIDDEN) and tag[1] not in unclosed:
            close = lower.find(f"</{tag[1]}", position)
            if close >= 0:
                position = close
            elif tag[1] in ("script", "style"):
                position = len(html)
                break
            else:
                unclosed.add(tag[1])
    parts.append(_BLANK.sub(" ", html[position:]))
    lines = [line.strip() for line in unescape("".join(parts)).split("\n")]
    return clean(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip())
