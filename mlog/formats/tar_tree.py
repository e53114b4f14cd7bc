"""A tar archive as a tree: plain, or packed by gzip, bzip2 or xz (.tar, .tar.gz, .tgz, .tar.bz2, .tar.xz).

A plain one is indexed, and its files are read where they lie. A packed one can only be read from its
start, so it is unpacked once, into one private temporary file without a name; names of the
archive choose nothing on the disk (docs/decisions/0020-tar-archives.md). What the archive holds is read
when it is first asked for, forwards, in bounded memory.

| what a hostile archive may have       | what becomes of it                                           |
|---------------------------------------|--------------------------------------------------------------|
| links, devices, pipes, sparse files   | left out, with the reason; links are never followed          |
| names with "..", or absolute ones     | left out, with the reason                                    |
| a bomb                                | refused by ratio, by size, and before the disk is full       |
| endless headers                       | the archive counts as damaged from there on                  |
| damage, or a missing end              | what came before is read; the rest is named                  |
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Protocol, cast

import msgspec

from mlog import limits
from mlog.errors import LimitExceeded, StoreError, UserError
from mlog.formats.tree import is_hidden, relative_name, shown_name

__all__ = ["TarArchive", "is_tar"]

_BLOCK_SIZE_BYTES: Final = 512
_CHUNK_SIZE_BYTES: Final = 256 * limits.KIB
_LOOK_EVERY_BYTES: Final = 16 * limits.MIB
"""How often the free space of the disk, and how tightly the archive is packed, are looked at."""

_DAMAGE: Final = (tarfile.TarError, EOFError, OSError, ValueError, ArithmeticError, IndexError)
_UNPACKING: Final = (zlib.error, lzma.LZMAError)


def is_tar(path: Path) -> bool:
    """Whether a file is a tar archive, by its content: the first header of it, unpacked."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as raw:
            unpacked = _unpacked(raw) or raw
            head = unpacked.read(_BLOCK_SIZE_BYTES)
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (*_DAMAGE, *_UNPACKING):
        return False
    return True


class TarArchive:
    """The files of a tar archive.

    Raises:
        UserError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.name = shown_name(path)
        self.left_out: list[tuple[str, str]] = []
        self.opened_size = 0
        self._spool: IO[bytes] | None = None
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise UserError(f"{self.name}: cannot be read: {error.strerror or error}") from None

    def close(self) -> None:
        """Let go of the file and of what was unpacked."""
        self._raw.close()
        if self._spool is not None:
            self._spool.close()

    @property
    def names(self) -> Sequence[str]:
        """As `Tree.names`; at the first time the archive is read to its end.

        Raises:
            UserError: Damaged from its start, too large when unpacked, or there is no room for it.
            LimitExceeded: Too many files.
        """
        return self._sorted

    def size(self, name: str) -> int:
        """As `Tree.size`."""
        return self._place(name).size

    def open(self, name: str) -> BinaryIO:
        """As `Tree.open`."""
        place = self._place(name)
        self.opened_size += place.size
        file = self._raw if self._spool is None else self._spool
        return cast(BinaryIO, _Slice(file, place, f"{name} in {self.name}"))

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise UserError(f"{name}: no such file in {self.name}")
        return self._places[name]

    @cached_property
    def _sorted(self) -> tuple[str, ...]:
        return tuple(sorted(self._places))

    @cached_property
    def _places(self) -> dict[str, _Place]:
        unpacked = _unpacked(self._raw)
        if unpacked is None:
            return self._listed(_Forwards(self._raw, self._raw, self.name), None)
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the archive
        source = _Forwards(unpacked, self._raw, self.name)
        return self._listed(source, _Writer(self._spool, source, self.name))

    def _listed(self, source: _Forwards, spool: _Writer | None) -> dict[str, _Place]:
        found: dict[str, _Place] = {}
        files = 0
        reading = self.name
        try:
            for member in _members(source):
                files += 1
                if files > limits.TREE_FILES_MAX:
                    raise LimitExceeded(f"{self.name} has more than {limits.TREE_FILES_MAX:,} files.")
                if source.tell() + member.size > limits.TREE_SIZE_MAX_BYTES:
                    raise UserError(
                        f"{self.name} would be larger than {limits.TREE_SIZE_MAX_BYTES // 2**30:,} GiB when "
                        "unpacked. Unpack it where there is room, and import folder by folder."
                    )
                shown = member.name.encode(errors="surrogateescape").decode(errors="replace")
                name, reason = _judged(member, shown)
                if reason:
                    self.left_out.append((shown, reason))
                if not name or reason:
                    source.skip(member.size)
                    continue
                reading = name
                at = source.tell() if spool is None else spool.at
                source.skip(member.size) if spool is None else spool.take(member.size)
                if name in found:
                    self.left_out.append((name, "an older file of the same name"))
                found[name] = _Place(at, member.size)
                reading = self.name
        except _Damaged as damage:
            if not found:
                raise UserError(
                    f"{self.name}: a damaged or cut tar archive ({damage}). Copy or download it again; what "
                    "can be unpacked of it may be imported as a folder."
                ) from None
            self.left_out.append((reading, f"the archive is damaged or cut from here on ({damage})"))
        return found


class _Place(msgspec.Struct, frozen=True):
    """Where the bytes of a file are."""

    at: int
    size: int


class _Damaged(Exception):
    """The archive cannot be read further."""


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Forwards:
    """A stream that the library reads headers from: it can go on, never back.

    Attributes:
        last: What the last read gave.
    """

    def __init__(self, stream: _Readable, raw: BinaryIO, name: str) -> None:
        self._stream = stream
        self._raw = raw
        self._name = name
        self._looked_at = 0
        self._at = 0
        self._header_left = limits.TAR_HEADER_SIZE_MAX_BYTES
        self._size = raw.seek(0, io.SEEK_END) if stream is raw else None
        raw.seek(0)
        self.last = b""

    def begin_header(self) -> None:
        """A member's headers follow: they are as long as they may be, not as they say."""
        self._header_left = limits.TAR_HEADER_SIZE_MAX_BYTES

    def read(self, size: int = -1) -> bytes:
        """The next bytes, for the library."""
        self._header_left -= size
        if size < 0 or self._header_left < 0:
            raise _Damaged("a header that is too long")
        self.last = self.read_some(size)
        return self.last

    def read_some(self, size: int) -> bytes:
        """As many of the next bytes as there are."""
        parts: list[bytes] = []
        try:
            while size > 0 and (part := self._stream.read(min(size, _CHUNK_SIZE_BYTES))):
                parts.append(part)
                size -= len(part)
                self._at += len(part)
        except (*_DAMAGE, *_UNPACKING) as error:
            raise _Damaged(str(error) or type(error).__name__) from None
        if self._size is None and self._at - self._looked_at >= _LOOK_EVERY_BYTES:
            self._looked_at = self._at
            if self._at > limits.ZIP_RATIO_MAX * self._raw.tell():
                raise UserError(
                    f"{self._name}: more than {limits.ZIP_RATIO_MAX} times as large when unpacked: a bomb. "
                    "If you trust it, unpack it and import the folder."
                )
        return b"".join(parts)

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position < self._at:
            raise _Damaged("a header that leads back")
        self.skip(position - self._at)
        return self._at

    def skip(self, size: int) -> None:
        """Go on over bytes that nobody wants."""
        if self._size is not None:
            if self._at + size > self._size:
                raise _Damaged("it ends early")
            self._at = self._raw.seek(self._at + size)
            return
        while size > 0:
            part = self.read_some(min(size, _CHUNK_SIZE_BYTES))
            if not part:
                raise _Damaged("it ends early")
            size -= len(part)


class _Writer:
    """Writes files of a packed archive behind each other, as long as there is room.

    Attributes:
        at: Where the next file begins.
    """

    def __init__(self, file: IO[bytes], source: _Forwards, name: str) -> None:
        self._file = file
        self._source = source
        self._name = name
        self._unlooked = _LOOK_EVERY_BYTES
        self.at = 0

    def take(self, size: int) -> None:
        """Write the next bytes of the archive."""
        begin = self.at
        while self.at - begin < size:
            part = self._source.read_some(min(size - (self.at - begin), _CHUNK_SIZE_BYTES))
            if not part:
                self.at = self._file.seek(begin)
                raise _Damaged("it ends early")
            self._unlooked += len(part)
            if self._unlooked >= _LOOK_EVERY_BYTES:
                self._look()
            try:
                self._file.write(part)
            except OSError as error:
                raise StoreError(f"temporary file: {error.strerror}. {_ROOM}") from None
            self.at += len(part)

    def _look(self) -> None:
        self._unlooked = 0
        try:
            free = shutil.disk_usage(tempfile.gettempdir()).free
        except OSError:
            return  # Some systems do not say; then writing fails when it is full.
        if free < limits.TEMPORARY_FREE_MIN_BYTES:
            raise UserError(
                f"{self._name}: no room to unpack it in {tempfile.gettempdir()}, where "
                f"{free // limits.MIB:,} MiB are free. {_ROOM}"
            )


_ROOM: Final = (
    "Free some space there, or set TMPDIR to a folder with room; or unpack the archive yourself and "
    "import the folder."
)


class _Slice(io.RawIOBase):
    """A file of the archive: a part of a larger file."""

    def __init__(self, file: IO[bytes], place: _Place, name: str) -> None:
        super().__init__()
        self._file = file
        self._place = place
        self._name = name
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._place.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        size = min(len(buffer), max(0, self._place.size - self._position))
        try:
            self._file.seek(self._place.at + self._position)
            data = self._file.read(size)
        except (OSError, ValueError) as error:
            raise UserError(f"{self._name}: cannot be read: {error}") from None
        if size and not data:
            raise UserError(f"{self._name}: the archive ends within this file.")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _Streams(io.RawIOBase):
    """What one packed stream after the other holds, as some programs write one archive."""

    def __init__(self, raw: BinaryIO, begin: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]):
        super().__init__()
        self._raw = raw
        self._begin = begin
        self._one = begin()
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; empty at the end only."""
        while True:
            if self._one.eof:
                self._waiting = (self._one.unused_data or self._raw.read(_CHUNK_SIZE_BYTES)).lstrip(b"\0")
                if not self._waiting:
                    return b""
                self._one = self._begin()
            if self._one.needs_input and not self._waiting:
                self._waiting = self._raw.read(_CHUNK_SIZE_BYTES)
                if not self._waiting:
                    raise EOFError("it ends early")
            taken, self._waiting = self._waiting, b""
            unpacked = self._one.decompress(taken, size)
            if unpacked:
                return unpacked


def _unpacked(raw: BinaryIO) -> _Readable | None:
    """The stream that a file holds in packed form; None for one that is not packed."""
    raw.seek(0)
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast(_Readable, gzip.GzipFile(fileobj=raw))
    if head.startswith(b"BZh"):
        return _Streams(raw, bz2.BZ2Decompressor)
    if head.startswith(b"\xfd7zXZ\0"):
        return _Streams(raw, lambda: lzma.LZMADecompressor(memlimit=limits.XZ_MEMORY_MAX_BYTES))
    return None


def _members(source: _Forwards) -> Iterator[tarfile.TarInfo]:
    """The members one by one; the source stands at the bytes of each, and must be taken past them."""
    try:
        source.begin_header()
        archive = tarfile.TarFile(fileobj=cast(IO[bytes], source), mode="r", encoding="utf-8")
        while (member := archive.next()) is not None:
            cast(Any, archive).members.clear()  # It keeps all of them otherwise.
            yield _sound(member)
            source.begin_header()
    except _Damaged:
        raise
    except (*_DAMAGE, *_UNPACKING) as error:
        raise _Damaged(str(error) or type(error).__name__) from None
    # The library takes any header that it does not understand for the end.
    if source.last.strip(b"\0"):
        raise _Damaged("a header that is none")
    if len(source.last) < _BLOCK_SIZE_BYTES:
        raise _Damaged("it ends early")


def _sound(member: tarfile.TarInfo) -> tarfile.TarInfo:
    if member.size < 0:
        raise _Damaged("a file of less than nothing")
    return member


def _judged(member: tarfile.TarInfo, shown: str) -> tuple[str, str]:
    """The name of a member in the tree, and why it is left out; neither for folders and hidden files."""
    if member.isdir() or any(
        is_hidden(part) for part in shown.replace("\\", "/").split("/") if part not in ("", ".", "..")
    ):
        return "", ""
    name = relative_name(shown)
    if member.issym() or member.islnk():
        return name, "a link, which is not followed"
    if not member.isreg():
        return name, "not a file"
    if member.issparse():
        return name, "a file with holes: unpack the archive, and import the folder"
    return name, "" if name else "its name leads out of the archive"
