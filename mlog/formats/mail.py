"""Mailboxes (mbox) and single mails (eml): threads become replies.

A mail is known by its Message-ID; one without is known by its bytes. Whom it answers stands in
In-Reply-To and References, whether or not that mail is in the file. One mailbox is one chat, called
`mail:<List-Id of its first mail>`, else `mail:<file name>`. What a mail says: mlog/formats/mail_text.py.

In an mbox a line separates mails when it starts with "From ", ends like an envelope (a date)
and follows an empty line or nothing. One ">" is taken from lines that start with ">From ",
">>From " and so on. A mail above MAIL_SIZE_MAX_BYTES is `Skipped`, and the next one is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mlog.errors import LimitExceeded
from mlog.formats.identity import of_id
from mlog.formats.record import Chat, Item, Record, Skipped
from mlog.formats.source import Source
from mlog.formats.texts import clip, decode_head, fitted
from mlog.limits import MAIL_SIZE_MAX_BYTES, REFERENCES_MAX, TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind

__all__ = ["EmlImporter", "MboxImporter"]

_ENVELOPE: Final = re.compile(
    rb"From (?:.* )?(?:[A-Z][a-z]{2},? +(?:[A-Z][a-z]{2} +\d{1,2}|\d{1,2} [A-Z][a-z]{2})\b.*\b(?:19|20)\d\d\b"
    rb"|(?:19|20)\d\d-\d\d-\d\d[T ]\d\d:\d\d).*"
)
_QUOTED: Final = re.compile(rb">+From ")
_HEADER: Final = re.compile(r"[!-9;-~]{1,76}:(?:\s|$)")
_KNOWN_HEADER: Final = re.compile(
    r"(?i)(?:from|to|cc|date|subject|message-id|received|return-path|delivered-to|mime-version|content-type"
    r"|reply-to|sender|x-[a-z-]+|list-id|dkim-signature|arc-[a-z-]+|authentication-results):(?:\s|$)"
)
_SUFFIX: Final = re.compile(r"(?i)\.(?:mbox|mbx|eml|raw|txt|msg)$")


class MboxImporter:
    """Reads mailboxes of one file: mboxo, mboxrd and what people make of them."""

    name = "mbox"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether the file starts with an envelope and headers follow."""
        lines = decode_head(head).lstrip("\r\n").splitlines()[:8]
        if not lines or _ENVELOPE.fullmatch(lines[0].encode("utf-8", "replace")) is None:
            return False
        return any(_HEADER.match(line.removeprefix(">")) for line in lines[1:])

    def parse(self, source: Source) -> Iterator[Item]:
        """All mails, in the order of the file.

        Raises:
            LimitExceeded: A line is longer than a mail may be.
        """
        named = False
        for position, raw in enumerate(_mails(source), start=1):
            if raw is None:
                reason = f"mail of more than {MAIL_SIZE_MAX_BYTES:,} bytes"
                yield Skipped(position=position, reason=reason)
                continue
            for item in _items(raw, position, source.name):
                if not isinstance(item, Chat) or not named:
                    yield item
                named = True


class EmlImporter:
    """Reads one mail."""

    name = "eml"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether the file starts with headers that mails have."""
        lines = [line.strip() for line in decode_head(head).lstrip().splitlines()[:40]]
        headers = [line for line in lines[: lines.index("")] if line] if "" in lines else lines
        known = sum(_KNOWN_HEADER.match(line) is not None for line in headers)
        return bool(headers) and _HEADER.match(headers[0]) is not None and known >= min(2, len(headers))

    def parse(self, source: Source) -> Iterator[Item]:
        """The mail.

        Raises:
            LimitExceeded: It is too long.
        """
        parts: list[bytes] = []
        size = 0
        while part := source.read():
            parts.append(part)
            size += len(part)
            if size > MAIL_SIZE_MAX_BYTES:
                raise LimitExceeded(
                    f"mail of more than {MAIL_SIZE_MAX_BYTES:,} bytes", source=source.name, position=1
                )
        yield from _items(b"".join(parts), 1, source.name)


def _mails(source: Source) -> Iterator[bytes | None]:
    """The bytes of each mail without its envelope; None for one that is too long."""
    lines: list[bytes] = []
    size = 0
    started = False
    after_empty = True
    for _, line in source.lines(MAIL_SIZE_MAX_BYTES):
        if after_empty and line.startswith(b"From ") and _ENVELOPE.fullmatch(line) is not None:
            if started:
                yield _joined(lines, size)
            lines, size, started, after_empty = [], 0, True, False
            continue
        after_empty = not line
        if not started and after_empty:
            continue
        started = True
        if line.startswith(b">") and _QUOTED.match(line) is not None:
            line = line[1:]  # noqa: PLW2901 -- what was meant
        size += len(line) + 1
        if size <= MAIL_SIZE_MAX_BYTES:
            lines.append(line)
        else:
            lines.clear()
    if started:
        yield _joined(lines, size)


def _joined(lines: list[bytes], size: int) -> bytes | None:
    if size > MAIL_SIZE_MAX_BYTES:
        return None
    if lines and not lines[-1]:  # The empty line before the next envelope belongs to the mailbox.
        lines.pop()
    return b"\n".join([*lines, b""])


def _items(raw: bytes, position: int, name: str) -> Iterator[Item]:
    """The chat that a mail belongs to, and its record."""
    from mlog.formats.mail_text import Mail

    mail = Mail(raw)
    stem = _SUFFIX.sub("", name) or name
    yield Chat(
        key=clip(f"mail:{(mail.list_id or stem).lower()}"),
        title=clip(mail.list_id or stem, TITLE_SIZE_MAX_BYTES),
    )
    # Line ends change with the way a mail took.
    own_id = mail.message_id or raw.replace(b"\r\n", b"\n").strip(b"\n").decode("latin-1")
    if len(mail.references) > REFERENCES_MAX:
        yield Skipped(position=position, reason=f"replies to more than {REFERENCES_MAX} mails")
    yield from fitted(
        Record(
            kind=Kind.MESSAGE,
            mid=of_id("mail" if mail.message_id else "mail without id", own_id),
            author=mail.author,
            text=mail.text,
            time_ms=mail.time_ms,
            position=position,
            to=tuple(of_id("mail", reference) for reference in mail.references[:REFERENCES_MAX]),
        )
    )
