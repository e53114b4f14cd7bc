"""A page of HTML, read in pieces in bounded memory: what the importers of pages are built on.

The parser is that of the standard library. It keeps what is unfinished and looks at it again with each
piece, so one unfinished piece is bounded. What is broken is read as browsers read it, or read over.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Final

from mlog.errors import LimitExceeded
from mlog.formats.source import Source
from mlog.formats.texts import decode
from mlog.limits import HTML_PIECE_SIZE_MAX_BYTES, KIB

__all__ = ["VOID", "HtmlStream"]

VOID: Final = frozenset(("br", "img", "meta", "link", "hr", "input", "area", "base", "col", "source", "wbr"))
"""Elements that have no end."""

_CHUNK_SIZE_BYTES: Final = 32 * KIB


class HtmlStream(HTMLParser):
    """Base of a reader: it fills itself in the `handle_...` methods, and is asked after each piece."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def pieces(self, source: Source, size_max_bytes: int) -> Iterator[None]:
        """Read a page; gives control after each piece of it.

        Raises:
            LimitExceeded: The page, or one tag or comment of it, is too large.
        """
        size = 0
        rest = b""
        while raw := source.read(_CHUNK_SIZE_BYTES):
            size += len(raw)
            raw, rest = _whole(rest + raw)
            self.feed(decode(raw))
            if size > size_max_bytes or len(self.rawdata) > HTML_PIECE_SIZE_MAX_BYTES:
                raise LimitExceeded("too large for a page of messages", source=source.name, position=size)
            yield
        # Not `close`: what is unfinished would be searched again and again for its end.
        self.feed(decode(rest))
        yield

    def parse_marked_section(self, i: int, report: int = 1) -> int:  # noqa: ARG002 -- as the base has it
        """Read over "<![...>": the base class fails an assertion at what it does not know."""
        end = self.rawdata.find(">", i)
        return end + 1 if end >= 0 else -1


def _whole(raw: bytes) -> tuple[bytes, bytes]:
    """Up to the last whole character of UTF-8, and the rest."""
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte >= 0xC0:
            need = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return (raw[:-back], raw[-back:]) if need > back else (raw, b"")
        if byte < 0x80:
            break
    return raw, b""
