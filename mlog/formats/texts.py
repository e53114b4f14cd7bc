"""Foreign text made fit for a Record: decoded, free of lone surrogates and NUL, and not too long.

Control characters (mIRC colours, bidirectional marks) stay: they are what was said, and the
terminal is guarded where text is shown. What no Record may hold becomes U+FFFD, so that
the damage is seen. A text too long for one entry is split, never cut.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final

import msgspec

from mlog.formats.identity import part
from mlog.formats.record import Item, Record, Skipped
from mlog.limits import BODY_SIZE_MAX_BYTES, KIB, NAME_SIZE_MAX_BYTES, TEXT_SIZE_MAX_BYTES
from mlog.log.bodies import SPOKEN

__all__ = ["clean", "clip", "decode", "decode_head", "fitted", "pieces"]

_ESCAPED_SIZE_MAX_BYTES: Final = BODY_SIZE_MAX_BYTES - 16 * KIB
"""A body is JSON, where a control character is six bytes; author and references need the rest."""

_SHORT_LENGTH: Final = TEXT_SIZE_MAX_BYTES // 6
"""Whatever these characters are, they fit: at most 4 bytes each in UTF-8, 6 as an escape."""

_BOMS: Final = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def decode(raw: bytes) -> str:
    """Bytes of unknown encoding as text: UTF-8, else Windows-1252, else Latin-1 (all bytes valid)."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
    return text.replace("\0", "\ufffd") if "\0" in text else text


def decode_head(head: bytes) -> str:
    """The start of a file as text, by its byte-order mark if it has one; for telling formats apart."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return head[len(bom) :].decode(encoding, "replace")
    return decode(head.removeprefix(codecs.BOM_UTF8))


def clean(text: str) -> str:
    """Text from a JSON or mail parser without NUL and lone surrogates; pairs become one character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd") if "\0" in text else text


def clip(name: str, size_max_bytes: int = NAME_SIZE_MAX_BYTES) -> str:
    """A name or title cut to its bound at a character, with an ellipsis where it was cut."""
    if len(name) * 4 <= size_max_bytes:
        return name
    encoded = name.encode()
    if len(encoded) <= size_max_bytes:
        return name
    return encoded[: size_max_bytes - 3].decode("utf-8", "ignore") + "…"


def pieces(text: str) -> Iterator[str]:
    """Split text into runs that fit one entry each, at a line end or space where there is one."""
    while not _fits(text):
        end = min(len(text), TEXT_SIZE_MAX_BYTES)
        while not _fits(text[:end]):
            end = end * 3 // 4
        for separator in ("\n", " "):
            space = text.rfind(separator, end // 2, end)
            if space >= 0:
                end = space + 1
                break
        yield text[:end]
        text = text[end:]
    yield text


def fitted(record: Record) -> Iterator[Item]:
    """The record as it may enter a log: itself, or its parts where text or author are too long.

    Only what is said can be split; an edit that is too long is skipped. The first part keeps the
    identity, so replies to the whole find it; the n-th further one is `part(mid, n)`.
    """
    if len(record.text) <= _SHORT_LENGTH and len(record.author) * 4 <= NAME_SIZE_MAX_BYTES:
        yield record
        return
    author = clip(record.author)
    if author != record.author:
        yield Skipped(position=record.position, reason="name of the author is too long, its end is cut")
    if record.kind not in SPOKEN:  # Of two edits of a message the second would replace the first.
        if not _fits(record.text):
            yield Skipped(position=record.position, reason="text is too long for one entry")
            return
        yield msgspec.structs.replace(record, author=author)
        return
    for number, piece in enumerate(pieces(record.text)):
        mid = part(record.mid, number) if number else record.mid
        files = () if number else record.files
        yield msgspec.structs.replace(record, mid=mid, author=author, text=piece, files=files)


def _fits(text: str) -> bool:
    if len(text) <= _SHORT_LENGTH:
        return True
    if len(text) > TEXT_SIZE_MAX_BYTES or len(text.encode()) > TEXT_SIZE_MAX_BYTES:
        return False
    return len(msgspec.json.encode(text)) <= _ESCAPED_SIZE_MAX_BYTES
