"""What a mail says: headers and body of any MIME, however broken, as readable text and files.

Nothing here raises for what stands in a mail. The standard library parses it with its tolerant old
policy (the newer one raises on many broken headers); where even that fails, the raw text
after the headers is the body. The parts of a mail: mlog/formats/mail_parts.py.
"""

from __future__ import annotations

import email
import email.parser
import email.utils
import re
from datetime import UTC
from email.message import Message
from typing import Final

from mlog.formats.mail_parts import HEADER_SIZE_MAX, POLICY, Parsed, Parts, decode_words
from mlog.formats.record import File
from mlog.formats.texts import clean, decode
from mlog.limits import KIB, MAIL_BOUNDARIES_MAX, MAIL_HEADERS_MAX, NAME_SIZE_MAX_BYTES, TIME_MAX_MS

__all__ = ["Mail", "headers_of"]

_MESSAGE_ID: Final = re.compile(r"<([^<>\s]{1,995})>")
_ADDRESS: Final = re.compile(r"[^\s<>@,;:\"()\[\]\\]{1,128}@[^\s<>@,;:\"()\\]{1,255}")
_IN_BRACKETS: Final = re.compile(r"<\s*([^<>\s]{1,384})\s*>")
_REPLY_PREFIX: Final = re.compile(r"(?i)\s*(?:re|aw|sv|vs|antw|odp|ref|回复|答复)\s*(?:\[\d+\])?\s*[:：]")
_BLANK: Final = re.compile(r"\s+")
_PARAMETERS: Final = re.compile(rb"(?im)^content-(?:type|disposition)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*")
_MULTIPART: Final = re.compile(rb"(?i)multipart/")
_HEADERS: Final = re.compile(rb"(?m)^(?:(?:[!-9;-~]++:|[ \t])[^\n]*+\n)++")
_READ_AS_TEXT_HEAD_SIZE_BYTES: Final = 64 * KIB
"""Headers that are looked at of a mail that cannot be parsed."""


class Mail:
    """One mail, parsed.

    Attributes:
        author: Display name of the sender, else the address, else "".
        uid: "mailto:" and the address, its domain in lower case, or "".
        time_ms: Date header in UTC, 0 where there is none that makes sense.
        message_id: Without brackets and blanks, or "".
        references: Message ids that it answers: those of In-Reply-To, else the last reference.
        list_id: Of the mailing list, without brackets, or "".
        subject: As it stands there, decoded.
        text: Subject where it says more than the thread does, then the body.
        files: Attachments, and pictures that stand in the text.
        left_out: Parts beyond the bounds, which are not read.
        own_words: What tells it from others if it has no Message-ID: date, sender, subject and body.
            Not the other headers: they change with the way that a mail takes to each reader.
    """

    def __init__(self, raw: bytes) -> None:
        # The parser loses all of the headers where the first line is indented.
        raw = raw.lstrip(b" \t\r\n")
        self.files: tuple[File, ...] = ()
        self.left_out = 0
        try:
            if _is_too_much(raw):
                raise ValueError("too much")  # noqa: TRY301 -- read as one that cannot be parsed
            parsed: Parsed = email.message_from_bytes(raw, policy=POLICY)
            parts = Parts(parsed)
            body = "\n\n".join(parts.texts)
            self.files = tuple(parts.files)
            self.left_out = parts.left_out
        except Exception:  # noqa: BLE001 -- a broken mail may break the parser anywhere
            head, _, rest = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
            parsed = _headers_only(head[:_READ_AS_TEXT_HEAD_SIZE_BYTES])
            body = clean(decode(rest))
        body = body.strip("\r\n")
        self.list_id = _inner(_header(parsed, "List-Id"))
        self.message_id = _inner(_header(parsed, "Message-ID"))
        self.references = _references(_header(parsed, "In-Reply-To"), _header(parsed, "References"))
        self.author, self.uid = _sender(parsed)
        date = _header(parsed, "Date")
        self.time_ms = _time_ms(date)
        self.subject = _header(parsed, "Subject")
        self.text = _with_subject(self.subject, body, answers=bool(self.references))
        self.own_words = (date, self.uid or self.author, self.subject, body)


def _is_too_much(raw: bytes) -> bool:
    """Whether parsing would cost far more than the size of a mail explains."""
    return (
        (raw.count(b"\n--") > MAIL_BOUNDARIES_MAX and _MULTIPART.search(raw) is not None)
        or any(len(found.group()) > HEADER_SIZE_MAX for found in _PARAMETERS.finditer(raw))
        or any(found.group().count(b"\n") > MAIL_HEADERS_MAX for found in _HEADERS.finditer(raw))
    )


def headers_of(head: bytes) -> tuple[str, int]:
    """List id and time of the mail that begins so; as `Mail` has them, and faster."""
    try:
        parsed: Parsed = email.parser.BytesHeaderParser(policy=POLICY).parsebytes(head.lstrip(b" \t\r\n"))
    except Exception:  # noqa: BLE001 -- see the module's text
        return "", 0
    return _inner(_header(parsed, "List-Id")), _time_ms(_header(parsed, "Date"))


def _headers_only(head: bytes) -> Parsed:
    parsed: Parsed = Message(policy=POLICY)
    for line in re.sub(rb"\n[ \t]+", b" ", head).split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and name and not _BLANK.search(decode(name)):
            parsed[decode(name)] = decode(value).strip()
    return parsed


def _written(parsed: Parsed, name: str) -> str:
    """A header's first occurrence as it stands there; bytes beyond ASCII are surrogates."""
    value: object = parsed.get(name)
    return value[:HEADER_SIZE_MAX] if isinstance(value, str) else ""


def _header(parsed: Parsed, name: str) -> str:
    """A header's first occurrence, decoded as far as it can be."""
    return decode_words(_written(parsed, name))


def _sender(parsed: Parsed) -> tuple[str, str]:
    """What the sender is called, and "mailto:" with the address, each "" where there is none."""
    for name in ("From", "Sender", "Reply-To"):
        written = _BLANK.sub(" ", _written(parsed, name)).strip()
        if not written:
            continue
        try:
            # Before words are decoded: a comma in a name is no comma between addresses.
            display, address = email.utils.parseaddr(written)
        except Exception:  # noqa: BLE001 -- see the module's text
            display, address = "", ""
        if not address and (found := _IN_BRACKETS.search(written)) is not None:
            # Versions of the standard library differ in what they make of several senders.
            display, address = written[: found.start()].strip(' "'), found[1]
        local, _, domain = address.rpartition("@")
        uid = f"mailto:{local}@{domain.lower()}" if _ADDRESS.fullmatch(address) else ""
        fits = uid.isprintable() and len(uid.encode("utf-8", "surrogatepass")) <= NAME_SIZE_MAX_BYTES
        return decode_words(display or address or written), clean(uid) if fits else ""
    return "", ""


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
