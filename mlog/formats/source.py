"""What an importer reads: bytes from a file or a pipe, in bounded memory.

The stream is read once, forwards. A byte-order mark is removed, and UTF-16 (by its mark)
becomes UTF-8, so that no importer meets either. Specified limits: mlog/limits.py, "import".
"""

from __future__ import annotations

import codecs
import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec
from blake3 import blake3

from mlog.errors import LimitExceeded, UserError
from mlog.limits import KIB, LINE_SIZE_MAX_BYTES, SNIFF_SIZE_BYTES

if TYPE_CHECKING:
    from mlog.formats.tree import Tree

__all__ = ["Hints", "Source"]

_CHUNK_SIZE_BYTES: Final = 64 * KIB


class Hints(msgspec.Struct, frozen=True, kw_only=True):
    """What a file leaves open and the person said.

    Attributes:
        date: The day on which lines without a date were said.
        date_order: "dmy", "mdy" or "ymd": in which order dates are written; "" to tell by the file.
        zone: Of times that say none; without it they are taken as UTC.
    """

    date: dt.date | None = None
    date_order: str = ""
    zone: dt.tzinfo | None = None


class Source:
    """One file or pipe that is being imported.

    Attributes:
        name: For messages, and for the date or chat in a file name; never a path to open.
        hints: What the person said of it.
        tree: The folder or archive that it lies in, for the attachments beside it, or None.
        path: Its name in the tree, or "".
        links: Reply annotations of the IRC corpus, or None.
        links_name: What to call them in messages.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        *,
        hints: Hints | None = None,
        tree: Tree | None = None,
        path: str = "",
        links: BinaryIO | None = None,
        links_name: str = "links",
    ) -> None:
        self.name = name
        self.hints = hints or Hints()
        self.tree = tree
        self.path = path
        self.links = links
        self.links_name = links_name
        self._stream = stream
        # A pipe gives what it has: `read` alone would wait for a whole chunk.
        self._read_some = getattr(stream, "read1", stream.read)
        self._hasher = blake3()
        self._ahead = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._started = False

    def hash_ahead(self) -> str:
        """BLAKE3 of the whole file in hexadecimal, before anything is read; "" for a pipe."""
        if not self._stream.seekable():
            return ""
        try:
            hasher = blake3()
            while raw := self._stream.read(16 * _CHUNK_SIZE_BYTES):
                hasher.update(raw)
            self._stream.seek(0)
        except OSError as error:
            raise UserError(f"{self.name}: cannot be read: {error.strerror or error}") from None
        return hasher.hexdigest()

    def hash_read(self) -> str:
        """BLAKE3 of all that was read so far, in hexadecimal: of a pipe, at its end."""
        return self._hasher.hexdigest()

    def head(self) -> bytes:
        """The first SNIFF_SIZE_BYTES, or all there is; they stay to be read."""
        parts = [self._ahead]
        missing = SNIFF_SIZE_BYTES - len(self._ahead)
        while missing > 0 and (part := self._fill(missing)):
            parts.append(part)
            missing -= len(part)
        self._ahead = b"".join(parts)
        return self._ahead[:SNIFF_SIZE_BYTES]

    def read(self, size: int = _CHUNK_SIZE_BYTES) -> bytes:
        """At most `size` bytes (0 or fewer: a chunk); empty at the end only."""
        if size < 0:
            size = _CHUNK_SIZE_BYTES
        if self._ahead:
            taken, self._ahead = self._ahead[:size], self._ahead[size:]
            return taken
        taken = self._fill(size) if size else b""
        if len(taken) > size:  # UTF-8 may be longer than the UTF-16 that it came from
            taken, self._ahead = taken[:size], taken[size:]
        return taken

    def lines(self, size_max_bytes: int = LINE_SIZE_MAX_BYTES) -> Iterator[tuple[int, bytes]]:
        """Number from 1 and bytes of each line, without its line end (LF or CRLF).

        Raises:
            LimitExceeded: A line is longer than the limit; no more than that was read of it.
        """
        number = 0
        pending: list[bytes] = []
        pending_size = 0
        while chunk := self.read(min(_CHUNK_SIZE_BYTES, max(1, size_max_bytes + 1 - pending_size))):
            whole = chunk.split(b"\n")
            if pending and len(whole) > 1:
                whole[0] = b"".join((*pending, whole[0]))
                pending.clear()
                pending_size = 0
            rest = whole.pop()
            for line in whole:
                number += 1
                yield number, line[:-1] if line.endswith(b"\r") else line
            if rest:
                pending.append(rest)
                pending_size += len(rest)
                if pending_size > size_max_bytes + (rest.endswith(b"\r")):
                    raise LimitExceeded(
                        f"line longer than {size_max_bytes:,} bytes. Is this a text file?",
                        source=self.name,
                        position=number + 1,
                    )
        if pending:
            line = b"".join(pending)
            yield number + 1, line[:-1] if line.endswith(b"\r") else line

    def _fill(self, size: int) -> bytes:
        """Up to about `size` further bytes of the file in UTF-8; empty at the end only."""
        while raw := self._from_stream(size):
            if not self._started:
                raw = self._start(raw)
            if self._decoder is not None:
                raw = self._decoder.decode(raw).encode()
            if raw:
                return raw
        if self._decoder is not None:
            raw = self._decoder.decode(b"", final=True).encode()
            self._decoder = None
            return raw
        return b""

    def _start(self, raw: bytes) -> bytes:
        """Look at the byte-order mark, if there is one."""
        self._started = True
        while len(raw) < len(codecs.BOM_UTF8) and (more := self._from_stream(1)):
            raw += more
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        return raw.removeprefix(codecs.BOM_UTF8)

    def _from_stream(self, size: int) -> bytes:
        try:
            raw = self._read_some(size)
            self._hasher.update(raw)
            return raw
        except OSError as error:
            raise UserError(f"{self.name}: cannot be read: {error.strerror or error}") from None
