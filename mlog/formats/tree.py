"""What an export is made of: the files of a folder or of an archive, read where they lie.

Names are relative, with "/" between folders, as the export has them; they choose nothing on this
machine's disk but a file inside the tree. A tree is read in bounded memory; nothing is unpacked.

| what a hostile tree may have         | what becomes of it                                           |
|--------------------------------------|--------------------------------------------------------------|
| links, devices, pipes                | left out, with the reason; links are never followed          |
| names with "..", or absolute ones    | left out, with the reason                                    |
| a zip bomb                           | left out by ratio; refused by size and by number of files    |
| a damaged or encrypted archive       | a clear error                                                |
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, BinaryIO, Final, Protocol, cast

from mlog import limits
from mlog.errors import LimitExceeded, UserError

__all__ = [
    "Folder",
    "OpenTree",
    "Tree",
    "ZipArchive",
    "is_hidden",
    "is_zip",
    "open_tree",
    "relative_name",
    "shown_name",
]

_SYSTEM_NAMES: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_ZIP_ENCRYPTED: Final = 0x1
_ZIP_UTF8: Final = 0x800


class Tree(Protocol):
    """A folder or an archive that is being imported."""

    @property
    def name(self) -> str:
        """What to call it in messages: the last part of its path."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """All files in it, sorted; at most TREE_FILES_MAX."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file in it."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file in it, to be read once from its start; the caller closes it.

        Raises:
            UserError: It cannot be read.
        """
        ...


class OpenTree(Tree, Protocol):
    """A tree of this machine.

    Attributes:
        left_out: Names that are not in `names`, each with the reason; hidden files are not among them.
        opened_size: Bytes of the files that were opened so far, for a progress bar.
    """

    left_out: list[tuple[str, str]]
    opened_size: int

    def close(self) -> None:
        """Let go of the archive."""
        ...


def open_tree(path: Path) -> OpenTree | None:
    """The tree at a path; None for a file that is no archive.

    Raises:
        UserError: It cannot be read.
        LimitExceeded: Too many files.
    """
    if path.is_dir():
        return Folder(path)
    if is_zip(path):
        return ZipArchive(path)
    from mlog.formats.tar_tree import TarArchive, is_tar

    return TarArchive(path) if is_tar(path) else None


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, by its first bytes: office documents are, but hold no chats."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def shown_name(path: Path) -> str:
    """What to call a file or folder in messages: the last part of its path, as Unicode."""
    return os.fsencode(path.name).decode(errors="replace")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of the export's: of a system, or hidden."""
    return name.startswith(".") or name.casefold() in _SYSTEM_NAMES


def relative_name(name: str, beside: str = "") -> str:
    """The name in a tree that a file of the tree means by `name`; "" where it leads out of the tree.

    Args:
        name: Relative to the folder of the file that says it; "/" or "\\\\" between folders.
        beside: The file that says it.
    """
    parts = beside.split("/")[:-1]
    slashed = name.replace("\\", "/")
    if not slashed or slashed.startswith("/") or "\0" in slashed or ":" in slashed.split("/")[0][1:2]:
        return ""
    for part in slashed.split("/"):
        if part == "..":
            return ""
        if part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


class Folder:
    """The files of a folder and of the folders in it."""

    def __init__(self, path: Path) -> None:
        self.name = shown_name(path.resolve()) or "folder"
        self.left_out: list[tuple[str, str]] = []
        self.opened_size = 0
        self._root = path.resolve()

    def close(self) -> None:
        """As of archives: there is nothing to let go of."""

    @cached_property
    def _paths(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in self._walk():
            if len(found) >= limits.TREE_FILES_MAX:
                raise LimitExceeded(
                    f"{self.name} has more than {limits.TREE_FILES_MAX:,} files. "
                    "Import the folders in it one by one."
                )
            found[os.fsencode(path.relative_to(self._root).as_posix()).decode(errors="replace")] = path
        return dict(sorted(found.items()))

    def _walk(self) -> Iterator[Path]:
        def unreadable(error: OSError) -> None:
            if Path(error.filename) == self._root:
                raise UserError(f"{self.name}: cannot be read: {error.strerror or error}")
            self._leave_out(Path(error.filename), error.strerror or str(error))

        for folder, folders, files in os.walk(self._root, onerror=unreadable):
            inside = Path(folder)
            for name in list(folders):
                if is_hidden(name):
                    folders.remove(name)
                elif (inside / name).is_symlink():
                    folders.remove(name)
                    self._leave_out(inside / name, "a link, which is not followed")
            for name in files:
                if is_hidden(name):
                    continue
                path = inside / name
                try:
                    mode = path.lstat().st_mode
                except OSError as error:
                    self._leave_out(path, error.strerror or str(error))
                    continue
                if stat.S_ISREG(mode):
                    yield path
                else:
                    is_link = stat.S_ISLNK(mode)
                    self._leave_out(path, "a link, which is not followed" if is_link else "not a file")

    def _leave_out(self, path: Path, reason: str) -> None:
        if len(self.left_out) < limits.TREE_FILES_MAX:
            name = os.fsencode(path.relative_to(self._root).as_posix()).decode(errors="replace")
            self.left_out.append((name, reason))

    @property
    def names(self) -> Sequence[str]:
        """As `Tree.names`."""
        return tuple(self._paths)

    def size(self, name: str) -> int:
        """As `Tree.size`."""
        try:
            return self._inside(name).lstat().st_size
        except OSError as error:
            raise UserError(f"{name}: cannot be read: {error.strerror or error}") from None

    def open(self, name: str) -> BinaryIO:
        """As `Tree.open`."""
        path = self._inside(name)
        try:
            stream = path.open("rb", buffering=0)
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                stream.close()
                raise UserError(f"{name}: cannot be read: not a file")
        except OSError as error:
            raise UserError(f"{name}: cannot be read: {error.strerror or error}") from None
        self.opened_size += status.st_size
        return cast(BinaryIO, stream)

    def _inside(self, name: str) -> Path:
        """The path of a file in this folder, not through any link; without listing the folder."""
        if "_paths" in self.__dict__ and name in self._paths:
            path = self._paths[name]
        else:
            if not name or relative_name(name) != name:
                raise UserError(f"{name}: not a file of {self.name}")
            path = self._root.joinpath(*name.split("/"))
        # One look at each part, without objects of paths: trees have a hundred thousand files.
        step, mode = str(self._root), 0
        for part in path.parts[len(self._root.parts) :]:
            step = os.path.join(step, part)
            try:
                mode = os.lstat(step).st_mode
            except OSError:
                mode = 0
                break
            if stat.S_ISLNK(mode):
                raise UserError(f"{name}: a link, which is not followed")
        if not stat.S_ISREG(mode):
            raise UserError(f"{name}: no such file in {self.name}")
        return path


class ZipArchive:
    """The files of a zip archive, read out of it as they are needed.

    Raises:
        UserError: Damaged, encrypted, or too large when unpacked.
        LimitExceeded: Too many files.
    """

    def __init__(self, path: Path) -> None:
        self.name = shown_name(path)
        self.left_out: list[tuple[str, str]] = []
        self.opened_size = 0
        try:
            self._archive = zipfile.ZipFile(path)
        except OSError as error:
            raise UserError(f"{self.name}: cannot be read: {error.strerror or error}") from None
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise self._damaged(error) from None
        try:
            self._members = self._listed()
        except BaseException:
            self._archive.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._archive.close()

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"{self.name}: a damaged or cut zip archive ({error}). Copy or download it again; what can "
            "be unpacked of it may be imported as a folder."
        )

    def _listed(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._archive.infolist()
        if len(infos) > limits.TREE_FILES_MAX:
            raise LimitExceeded(f"{self.name} has more than {limits.TREE_FILES_MAX:,} files.")
        found: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for info in infos:
            if info.filename and info.is_dir():  # The library fails at an empty name.
                continue
            shown = _zip_name(info)
            if any(is_hidden(part) for part in shown.replace("\\", "/").split("/") if part not in ("", "..")):
                continue
            if info.flag_bits & _ZIP_ENCRYPTED:
                raise UserError(
                    f"{self.name} is protected by a password. Unpack it with its password, then import "
                    "the folder."
                )
            name, reason = relative_name(shown), ""
            if not name:
                reason = "its name leads out of the archive"
            elif name in found:
                reason = "another file of the archive has the same name"
            elif stat.S_ISLNK(info.external_attr >> 16):
                reason = "a link, which is not followed"
            elif info.file_size > limits.ZIP_RATIO_FROM_BYTES and (
                info.file_size > limits.ZIP_RATIO_MAX * max(1, info.compress_size)
            ):
                reason = f"more than {limits.ZIP_RATIO_MAX} times as large when unpacked: a zip bomb"
            if reason:
                self.left_out.append((shown, reason))
                continue
            total += info.file_size
            if total > limits.TREE_SIZE_MAX_BYTES:
                raise UserError(
                    f"{self.name} would be larger than {limits.TREE_SIZE_MAX_BYTES // 2**30:,} GiB when "
                    "unpacked. Unpack it where there is room, and import folder by folder."
                )
            found[name] = info
        return dict(sorted(found.items()))

    @property
    def names(self) -> Sequence[str]:
        """As `Tree.names`."""
        return tuple(self._members)

    def size(self, name: str) -> int:
        """As `Tree.size`."""
        return self._member(name).file_size

    def open(self, name: str) -> BinaryIO:
        """As `Tree.open`."""
        info = self._member(name)
        try:
            stream = self._archive.open(info)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError) as error:
            raise UserError(f"{name} in {self.name}: cannot be read: {error}") from None
        self.opened_size += info.file_size
        return cast(BinaryIO, _ZipStream(stream, f"{name} in {self.name}"))

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise UserError(f"{name}: no such file in {self.name}")
        return self._members[name]


class _ZipStream:
    """A file in an archive; damage found while it is unpacked is the person's to mend."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name

    def read(self, size: int = -1) -> bytes:
        with self._mending():
            return self._stream.read(size)

    def read1(self, size: int = -1) -> bytes:
        with self._mending():
            return cast(zipfile.ZipExtFile, self._stream).read1(size)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._mending():
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return self._stream.seekable()

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> _ZipStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mending(self) -> _Mending:
        return _Mending(self._name)


class _Mending:
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError | OSError | NotImplementedError):
            raise UserError(f"{self._name}: the archive is damaged there ({error}).") from None


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a file in an archive: UTF-8 where it is, also where the archive does not say so."""
    if info.flag_bits & _ZIP_UTF8:
        return info.orig_filename.partition("\0")[0].encode(errors="replace").decode()
    try:
        return info.orig_filename.partition("\0")[0].encode("cp437").decode()
    except UnicodeError:
        return info.orig_filename.partition("\0")[0]
