"""Mailboxes (mbox) and single mails (eml): threads become replies.

A mail is known by its Message-ID; one without is known by date, sender, subject and body. Whom it answers
stands in In-Reply-To and References, whether or not that mail is in the file. One mailbox is one chat, called
`mail:<List-Id of its first mail>`, else `mail:<file name>`. What a mail says: mlog/formats/mail_text.py;
where one ends in a mailbox: mlog/formats/mbox_split.py; folders of mails: mlog/formats/maildir.py.
A mail above MAIL_SIZE_MAX_BYTES is `Skipped`, and the next one is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mlog.errors import LimitExceeded
from mlog.formats.identity import of_id
from mlog.formats.mail_text import Mail
from mlog.formats.mbox_split import is_envelope, mails
from mlog.formats.record import Chat, Item, Record, Skipped
from mlog.formats.source import Source
from mlog.formats.texts import clip, decode_head, fitted
from mlog.limits import MAIL_SIZE_MAX_BYTES, REFERENCES_MAX, TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.plurals import counted

__all__ = ["TOO_LONG", "EmlImporter", "MboxImporter", "chat_of", "looks_like_mail", "mail_items"]

TOO_LONG: Final = f"mail of more than {MAIL_SIZE_MAX_BYTES:,} bytes"

_HEADER: Final = re.compile(r"[!-9;-~]{1,76}:(?:\s|$)")
_KNOWN_HEADER: Final = re.compile(
    r"(?i)(?:from|to|cc|date|subject|message-id|received|return-path|delivered-to|mime-version|content-type"
    r"|reply-to|sender|x-[a-z-]+|list-id|dkim-signature|arc-[a-z-]+|authentication-results):(?:\s|$)"
)
_SUFFIX: Final = re.compile(r"(?i)\.(?:mbox|mbx|eml|raw|txt|msg)$")


class MboxImporter:
    """Reads mailboxes of one file, in all dialects of mbox."""

    name = "mbox"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether the file starts with an envelope and headers follow."""
        lines = decode_head(head).lstrip("\r\n").splitlines()[:8]
        if not lines or not is_envelope(lines[0].encode("utf-8", "replace")):
            return False
        return any(_HEADER.match(line.removeprefix(">")) for line in lines[1:])

    def parse(self, source: Source) -> Iterator[Item]:
        """All mails, in the order of the file.

        Raises:
            LimitExceeded: A line is longer than a mail may be.
        """
        named = False
        for position, raw in enumerate(mails(source.lines(MAIL_SIZE_MAX_BYTES)), start=1):
            if raw is None:
                yield Skipped(position=position, reason=TOO_LONG)
                continue
            mail = Mail(raw)
            if not named:
                yield _chat(mail, source.name)
                named = True
            yield from mail_items(mail, position)


class EmlImporter:
    """Reads one mail."""

    name = "eml"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether the file starts with headers that mails have."""
        return looks_like_mail(head)

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
                raise LimitExceeded(TOO_LONG, source=source.name, position=1)
        mail = Mail(b"".join(parts))
        yield _chat(mail, source.name)
        yield from mail_items(mail, 1)


def looks_like_mail(head: bytes) -> bool:
    """Whether these are the first bytes of a mail: headers that mails have."""
    lines = [line.strip() for line in decode_head(head).lstrip().splitlines()[:40]]
    headers = [line for line in lines[: lines.index("")] if line] if "" in lines else lines
    known = sum(_KNOWN_HEADER.match(line) is not None for line in headers)
    return bool(headers) and _HEADER.match(headers[0]) is not None and known >= min(2, len(headers))


def mail_items(mail: Mail, position: int, file: str = "") -> Iterator[Item]:
    """The record of a mail, and what of it is not kept.

    Args:
        file: Its name in a tree, or "".
    """
    if len(mail.references) > REFERENCES_MAX:
        reason = f"replies to more than {REFERENCES_MAX} mails"
        yield Skipped(position=position, reason=reason, file=file)
    if mail.left_out:
        reason = f"{counted(mail.left_out, 'part')}, more or deeper than mlog reads"
        yield Skipped(position=position, reason=reason, file=file)
    known = bool(mail.message_id)
    record = Record(
        kind=Kind.MESSAGE,
        mid=of_id("mail", mail.message_id) if known else of_id("mail without id", "\0".join(mail.own_words)),
        author=mail.author,
        text=mail.text,
        time_ms=mail.time_ms,
        position=position,
        to=tuple(of_id("mail", reference) for reference in mail.references[:REFERENCES_MAX]),
        uid=mail.uid,
        files=mail.files,
    )
    yield from fitted(record)


def chat_of(name: str) -> Chat:
    """The chat of a mailing list by its id, or of a mailbox by its name."""
    return Chat(key=clip(f"mail:{name.lower()}"), title=clip(name, TITLE_SIZE_MAX_BYTES))


def _chat(mail: Mail, name: str) -> Chat:
    return chat_of(mail.list_id or _SUFFIX.sub("", name) or name)
