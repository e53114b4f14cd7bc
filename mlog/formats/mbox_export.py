"""A conversation as a mailbox: one mail for each message, replies as In-Reply-To and References.

Message-ID is `<identity@mlog.invalid>`, the subject is the start of the first line ("Re: ..." that of
the message replied to), texts are those after all edits; edits, reactions, erasures and titles
have no mail of their own. Files are named at the end of the text.

Every reader of mailboxes sees the same text: a body that would
need quoting (lines with "From ", control characters, long lines) is base64. No text reaches
a header unencoded, so none can start another.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from blake3 import blake3

from mlog.formats.record import Chat, ExportRecord
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.ids import MessageId

__all__ = ["MboxExporter"]

_DOMAIN: Final = "mlog.invalid"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MAX: Final = 4_102_444_799
"""The last second of 2099: readers tell an envelope from a sentence by the year, 19.. or 20..."""
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_SUBJECT_LENGTH: Final = 60
_LINES_NOT_PLAIN: Final = re.compile(r"(?m)^>*From |[^\n]{240}|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""A line has at most 998 bytes, and a character at most four."""
_WORDS_PLAIN: Final = re.compile(r"[A-Za-z0-9 .,;:!?()/&+#@_-]{0,70}")
_ENCODED_WORD_LENGTH: Final = 11
"""Characters of at most four bytes that, in base64 and its frame, fit the 75 of RFC 2047."""


class MboxExporter:
    """Writes a mailbox."""

    name = "mbox"

    def export(self, chat: Chat, records: Iterable[ExportRecord]) -> Iterator[bytes]:
        """All mails, one at a time."""
        for exported in records:
            if exported.record.kind in SPOKEN:
                yield _mail(chat, exported)


def _mail(chat: Chat, exported: ExportRecord) -> bytes:
    record = exported.record
    text = record.text if exported.current is None else exported.current
    if record.erased:
        text = "[erased]"
    if record.kind is Kind.ACTION:
        text = f"* {record.author} {text}"
    named = [f"[file: {file.name}]" for file in record.files if not record.erased]
    text = "\n".join(filter(None, [text, *named]))
    moment = _EPOCH + timedelta(seconds=min(record.time_ms // 1000, _SECONDS_MAX))
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    clock = f"{moment:%H:%M:%S}"
    address = f"{blake3(record.author.encode()).hexdigest(length=6)}@{_DOMAIN}"
    subject = f"Re: {chat.title}" if record.to else " ".join(text[:_SUBJECT_LENGTH].split())
    lines = [
        f"From mlog@{_DOMAIN} {day} {month} {moment.day:2} {clock} {moment.year}",
        f"Message-ID: {_id(record.mid)}",
        f"From: {_words(record.author, quoted=True)} <{address}>",
        f"Subject: {_words(subject)}",
    ]
    if record.time_ms:
        lines.append(f"Date: {day}, {moment.day:02} {month} {moment.year} {clock} +0000")
    if record.to:
        references = "\n ".join(_id(mid) for mid in record.to)
        lines += [f"In-Reply-To: {references}", f"References: {references}"]
    lines += ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8"]
    if _LINES_NOT_PLAIN.search(text) is None:
        lines += ["Content-Transfer-Encoding: 8bit", "", text, "", ""]
    else:
        lines += ["Content-Transfer-Encoding: base64", "", base64.encodebytes(text.encode()).decode(), ""]
    return "\n".join(lines).encode()


def _id(mid: MessageId) -> str:
    return f"<{mid.hex()}@{_DOMAIN}>"


def _words(text: str, *, quoted: bool = False) -> str:
    """Text for a header: as it is where that is plain, else in encoded words on folded lines."""
    if _WORDS_PLAIN.fullmatch(text):
        return f'"{text}"' if quoted else text
    pieces = (
        text[start : start + _ENCODED_WORD_LENGTH] for start in range(0, len(text), _ENCODED_WORD_LENGTH)
    )
    return "\n ".join(f"=?utf-8?b?{base64.b64encode(piece.encode()).decode()}?=" for piece in pieces)
