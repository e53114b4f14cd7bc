"""A shim under SQLite: records what reaches the files of one folder, and refuses it on demand.

Through ctypes, with nothing compiled: a `sqlite3_vfs` that is a copy of the
default one but for xOpen and xDelete becomes the default in the very library
that `_sqlite3` uses. Its xOpen lets the real one fill the file, then swaps the
file's method table for a copy with our write, truncate and sync in it.

    with Shim(folder) as shim:
        ...  # sqlite3.connect(folder / "log.db"), commits, shim.mark("entry 7")
    for image in shim.images(seed=1, count=300):
        image.write_to(target)  # open it, check that `image.acknowledged` is there

What the program itself writes there by `os.write`, `os.pwrite` and `os.fsync` is
recorded and refused in the same way. `kill_at` ends the process at an operation.

What it does not see: other processes; temporary files; the -shm file, which
SQLite writes through mmap and rebuilds after a crash; a file renamed, removed or
written by other means (found on exit, where the folder is compared with the
record). A sync is recorded, not carried out: the test's disk need not wait.
A sync that was refused and repeated counts as a sync of everything before it.

Device characteristics pass through unchanged, so SQLite works as in production:
on Unix it assumes powersafe overwrite (a write cut short leaves the bytes beside
it alone) and pads no WAL frames. The images keep to just that promise, no more.

A rollback journal is deleted without a sync of the folder (synchronous=FULL),
so a commit made before `PRAGMA journal_mode=WAL` may be rolled back by power
loss, until the first sync of a new WAL or journal: SQLite's rule, not a fault of this tool.
"""

import _sqlite3
import ctypes
import errno
import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, Literal

from .powerloss import Image, Op, Recording

__all__ = ["DISK_KINDS", "Image", "Op", "Shim", "ShimError", "Unavailable", "unavailable"]

VFS_NAME: Final = b"mlog-faults"

FaultKind = Literal["write", "truncate", "sync", "create", "shm"]
DISK_KINDS: Final[frozenset[FaultKind]] = frozenset(("write", "truncate", "sync"))


class ShimError(Exception):
    """The shim itself failed, so what it recorded proves nothing."""


class Unavailable(ShimError):
    """The SQLite library that Python uses cannot be reached from here."""


def unavailable() -> str | None:
    """Why there can be no shim here, or None: a reason for pytest.mark.skipif."""
    try:
        _library()
    except Unavailable as error:
        return f"POWER LOSS AND FULL DISK ARE NOT TESTED HERE: {error}"
    return None


@dataclass
class _Fault:
    countdown: int
    code: int
    persistent: bool
    partial: bool
    kinds: frozenset[FaultKind]
    kill: bool = False


class Shim:
    """Records and refuses operations on SQLite files directly in `folder`; one at a time in a process.

    Threads may share it. `counts` holds the operations tried since entry, by kind;
    `refused` the number that a fault refused.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder: Final = os.path.realpath(folder)
        self.recording: Final = Recording()
        self.counts: Final[Counter[str]] = Counter()
        self.refused = 0
        self._active = False
        self._fault: _Fault | None = None
        self._lock: Final = threading.RLock()
        self._python = _PythonFiles(self)

    def __enter__(self) -> "Shim":
        global _current
        _install()
        self._python.install()
        _current = self
        self._active = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Put the previous default VFS back.

        Files still open go on working, unrecorded.

        Raises:
            ShimError: A callback raised, or the folder does not hold what was recorded.
        """
        global _current
        with self._lock:
            self._active = False
        _current = None
        self._python.uninstall()
        _uninstall()
        if _errors:
            first = _errors[0]
            _errors.clear()
            raise ShimError(f"in a callback of the shim: {first!r}") from first
        if error is None:
            self._compare_with_disk()

    @property
    def log(self) -> list[Op]:
        return self.recording.ops

    def mark(self, label: object) -> None:
        """Note that `label` is acknowledged here: an image of a later crash must hold it."""
        with self._lock:
            self.recording.mark(label)

    def images(self, seed: int, count: int) -> Iterator[Image]:
        """Power-loss images; see `Recording.images`. Call after the block."""
        return self.recording.images(seed, count)

    def image(self, seed: int, number: int) -> Image:
        return self.recording.image(seed, number)

    def fail_write(
        self,
        n: int,
        code: int = sqlite3.SQLITE_FULL,
        *,
        persistent: bool = True,
        partial: bool = False,
        kinds: frozenset[FaultKind] = DISK_KINDS,
    ) -> None:
        """Refuse the n-th operation from now (1 is the next one).

        Args:
            n: Counts the operations of `kinds` only.
            code: What SQLite is told: SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC...
                A refused "create" (a new file) is always SQLITE_CANTOPEN and a refused
                "shm" (the -shm file grows) SQLITE_IOERR_SHMSIZE, as on a full disk.
            persistent: Refuse all later ones too, until `heal()`.
            partial: A refused write leaves its first half in the file, as a full disk does.
        """
        assert n >= 1, n
        with self._lock:
            self._fault = _Fault(n, code, persistent, partial, kinds)

    def kill_at(self, n: int, *, partial: bool = False, kinds: frozenset[FaultKind] = DISK_KINDS) -> None:
        """End this process by SIGKILL before the n-th operation from now, or amid it where `partial`."""
        assert n >= 1, n
        with self._lock:
            self._fault = _Fault(n, 0, False, partial, kinds, kill=True)

    def heal(self) -> None:
        with self._lock:
            self._fault = None

    def _refuses(self, kind: FaultKind) -> _Fault | None:
        self.counts[kind] += 1
        fault = self._fault
        if fault is None or kind not in fault.kinds:
            return None
        fault.countdown -= 1
        if fault.countdown > 0 or (fault.countdown < 0 and not fault.persistent):
            return None
        self.refused += 1
        if fault.kill and not (fault.partial and kind == "write"):
            _die()
        return fault

    def _name(self, path: int | None) -> str | None:
        """The name of a path that is recorded, else None."""
        if path is None or not self._active:
            return None
        folder, name = os.path.split(os.fsdecode(ctypes.string_at(path)))
        return name if folder == self.folder else None

    def _adopt(self, name: str) -> bool:
        """Whether the file exists; on first sight, its content becomes part of the record."""
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            return False
        if self.recording.file(name) is None:
            self.recording.adopt(name, Path(path).read_bytes())
        return True

    def _compare_with_disk(self) -> None:
        for name, content in self.recording.final().items():
            path = Path(self.folder, name)
            if not path.exists() or path.read_bytes() != content:
                raise ShimError(f"{path} was changed past the shim (or the shim missed something)")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _PythonFiles:
    """`os.write`, `os.pwrite` and `os.fsync` on files of the shim's folder, through the shim."""

    def __init__(self, shim: Shim) -> None:
        self._shim = shim
        self._real = os.write, os.pwrite, os.fsync

    def install(self) -> None:
        self._real = os.write, os.pwrite, os.fsync
        os.write, os.pwrite, os.fsync = self._write, self._pwrite, self._fsync

    def uninstall(self) -> None:
        os.write, os.pwrite, os.fsync = self._real

    def _name(self, fd: int) -> str | None:
        found = os.fstat(fd)
        with os.scandir(self._shim.folder) as entries:
            return next((e.name for e in entries if e.is_file() and e.inode() == found.st_ino), None)

    def _write(self, fd: int, data: bytes, /) -> int:
        name = self._name(fd)
        if name is None:
            return self._real[0](fd, data)
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        written = self._put(fd, name, bytes(data), offset)
        os.lseek(fd, offset + written, os.SEEK_SET)
        return written

    def _pwrite(self, fd: int, data: bytes, offset: int, /) -> int:
        name = self._name(fd)
        return self._real[1](fd, data, offset) if name is None else self._put(fd, name, bytes(data), offset)

    def _put(self, fd: int, name: str, data: bytes, offset: int) -> int:
        shim = self._shim
        with shim._lock:
            if shim.recording.file(name) is None and not os.fstat(fd).st_size:
                shim.recording.create(name)
            shim._adopt(name)
            file = shim.recording.file(name)
            assert file is not None
            fault = shim._refuses("write")
            if fault and not fault.partial:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if fault:
                data = data[: len(data) // 2]
            written = self._real[1](fd, data, offset)
            if fault and fault.kill:
                _die()
            shim.recording.write(name, file, offset, data[:written])
            return written

    def _fsync(self, fd: int, /) -> None:
        shim = self._shim
        name = self._name(fd)
        with shim._lock:
            file = shim.recording.file(name) if name is not None else None
            if name is None or file is None:
                self._real[2](fd)
            elif shim._refuses("sync"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            else:
                shim.recording.sync(name, file, folder=False)


# Below: SQLite's side. Everything that SQLite may hold a pointer to lives as long as the module.

_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_Close = CFUNCTYPE(c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
_FileControl = CFUNCTYPE(c_int, c_void_p, c_int, c_void_p)
_ShmMap = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, c_void_p)


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = [
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", _Open),
        ("xDelete", _Delete),
        ("rest", c_void_p * 13),  # xAccess to xNextSystemCall
    ]


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = [
        ("iVersion", c_int),
        ("xClose", _Close),
        ("xRead", c_void_p),
        ("xWrite", _Write),
        ("xTruncate", _Truncate),
        ("xSync", _Sync),
        ("xFileSize", c_void_p),
        ("xLock", c_void_p),
        ("xUnlock", c_void_p),
        ("xCheckReservedLock", c_void_p),
        ("xFileControl", _FileControl),
        ("xSectorSize", c_void_p),
        ("xDeviceCharacteristics", c_void_p),
        ("xShmMap", _ShmMap),
        ("xShmLock", c_void_p),
        ("xShmBarrier", c_void_p),
        ("xShmUnmap", c_void_p),
        ("xFetch", c_void_p),
        ("xUnfetch", c_void_p),
    ]


_SQLITE_FCNTL_SIZE_HINT: Final = 5
_SQLITE_FCNTL_CHUNK_SIZE: Final = 6
_SQLITE_OPEN_CREATE: Final = 0x00000004
_SQLITE_OPEN_MAIN_JOURNAL: Final = 0x00000800
_SQLITE_OPEN_SUPER_JOURNAL: Final = 0x00004000
_SQLITE_OPEN_WAL: Final = 0x00080000
_JOURNALS: Final = _SQLITE_OPEN_MAIN_JOURNAL | _SQLITE_OPEN_SUPER_JOURNAL | _SQLITE_OPEN_WAL


@dataclass
class _File:
    """An open sqlite3_file of the folder, found by its address."""

    shim: Shim
    name: str
    file: int
    real: Any  # Its _Methods.
    folder_sync: bool  # As unixSync: the first sync of a journal or WAL syncs the folder.


_lib: ctypes.CDLL | None = None
_current: Shim | None = None
_real_vfs: Any = None
_vfs = _Vfs()
_methods: dict[int, _Methods] = {}  # By the address of the table it is a copy of.
_files: dict[int, _File] = {}
_errors: list[BaseException] = []


def _guarded(function: Callable[..., int]) -> Callable[..., int]:
    """No exception can pass through C: keep it for the end of the block, and tell SQLite that it failed."""

    @wraps(function)
    def guard(*args: Any) -> int:
        try:
            return function(*args)
        except BaseException as error:  # noqa: BLE001 - raised again by Shim.__exit__
            _errors.append(error)
            return sqlite3.SQLITE_IOERR

    return guard


@_Open
@_guarded
def _x_open(_vfs_address: int, path: int | None, address: int, flags: int, out_flags: int | None) -> int:
    shim = _current
    # The address of the path goes on as it is: URI parameters stand around it.
    name = shim._name(path) if shim else None
    real = ctypes.addressof(_real_vfs)
    if shim is None or name is None:
        return _real_vfs.xOpen(real, path, address, flags, out_flags)
    with shim._lock:
        existed = shim._adopt(name)
        if not existed and flags & _SQLITE_OPEN_CREATE and shim._refuses("create"):
            return sqlite3.SQLITE_CANTOPEN
        code = _real_vfs.xOpen(real, path, address, flags, out_flags)
        if code != sqlite3.SQLITE_OK:
            return code
        file = shim.recording.file(name)
        if not existed:
            if file is not None:  # Removed past SQLite.
                shim.recording.delete(name, folder=False)
            file = shim.recording.create(name)
        assert file is not None
        slot = c_void_p.from_address(address)
        assert slot.value is not None
        folder_sync = bool(flags & _SQLITE_OPEN_CREATE and flags & _JOURNALS)
        _files[address] = _File(shim, name, file, _Methods.from_address(slot.value), folder_sync)
        slot.value = ctypes.addressof(_shimmed(slot.value))
        return code


@_Delete
@_guarded
def _x_delete(_vfs_address: int, path: int, sync_folder: int) -> int:
    shim = _current
    name = shim._name(path) if shim else None
    real = ctypes.addressof(_real_vfs)
    if shim is None or name is None:
        return _real_vfs.xDelete(real, path, sync_folder)
    with shim._lock:
        shim._adopt(name)
        code = _real_vfs.xDelete(real, path, 0)
        if code == sqlite3.SQLITE_OK:
            shim.recording.delete(name, folder=bool(sync_folder))
        return code


@_Close
@_guarded
def _x_close(address: int) -> int:
    return _files.pop(address).real.xClose(address)


@_Write
@_guarded
def _x_write(address: int, data: int, size: int, offset: int) -> int:
    file = _files[address]
    shim = file.shim
    with shim._lock:
        if not shim._active:
            return file.real.xWrite(address, data, size, offset)
        fault = shim._refuses("write")
        if fault and not fault.partial:
            return fault.code
        if fault:
            size //= 2
        code = file.real.xWrite(address, data, size, offset)
        if fault and fault.kill:
            _die()
        if code == sqlite3.SQLITE_OK:
            shim.recording.write(file.name, file.file, offset, ctypes.string_at(data, size))
        return fault.code if fault else code


@_Truncate
@_guarded
def _x_truncate(address: int, size: int) -> int:
    file = _files[address]
    shim = file.shim
    with shim._lock:
        if not shim._active:
            return file.real.xTruncate(address, size)
        if fault := shim._refuses("truncate"):
            return fault.code
        code = file.real.xTruncate(address, size)
        if code == sqlite3.SQLITE_OK:
            shim.recording.truncate(file.name, file.file, size)
        return code


@_Sync
@_guarded
def _x_sync(address: int, flags: int) -> int:
    file = _files[address]
    shim = file.shim
    with shim._lock:
        if not shim._active:
            return file.real.xSync(address, flags)
        if fault := shim._refuses("sync"):
            return fault.code
        shim.recording.sync(file.name, file.file, folder=file.folder_sync)
        file.folder_sync = False
        return sqlite3.SQLITE_OK


@_FileControl
@_guarded
def _x_file_control(address: int, op: int, argument: int | None) -> int:
    # Hints let the file grow without a write. They are optional, so they are not passed on.
    if op in (_SQLITE_FCNTL_SIZE_HINT, _SQLITE_FCNTL_CHUNK_SIZE):
        return sqlite3.SQLITE_OK
    return _files[address].real.xFileControl(address, op, argument)


@_ShmMap
@_guarded
def _x_shm_map(address: int, region: int, size: int, extend: int, out: int) -> int:
    file = _files[address]
    shim = file.shim
    with shim._lock:
        path = Path(shim.folder, f"{file.name}-shm")
        grows = extend and (not path.exists() or path.stat().st_size < (region + 1) * size)
        if shim._active and grows and shim._refuses("shm"):
            c_void_p.from_address(out).value = None
            return sqlite3.SQLITE_IOERR_SHMSIZE
        return file.real.xShmMap(address, region, size, extend, out)


def _shimmed(address: int) -> _Methods:
    """Our copy of a method table of the real VFS."""
    methods = _methods.get(address)
    if methods is None:
        real = _Methods.from_address(address)
        if real.iVersion < 3:
            raise ShimError(f"method table of version {real.iVersion}, not 3")
        methods = _Methods.from_buffer_copy(real)
        methods.xClose = _x_close
        methods.xWrite = _x_write
        methods.xTruncate = _x_truncate
        methods.xSync = _x_sync
        methods.xFileControl = _x_file_control
        if ctypes.cast(real.xShmMap, c_void_p).value:
            methods.xShmMap = _x_shm_map
        _methods[address] = methods
    return methods


def _install() -> None:
    global _real_vfs, _vfs
    lib = _library()
    if lib.sqlite3_vfs_find(VFS_NAME):
        raise ShimError("a shim is in place already")
    if _real_vfs is None:
        _real_vfs = lib.sqlite3_vfs_find(None).contents
        _vfs = _copy(_real_vfs, VFS_NAME)
        _vfs.xOpen = _x_open
        _vfs.xDelete = _x_delete
    if lib.sqlite3_vfs_register(ctypes.byref(_vfs), 1):
        raise ShimError("SQLite refuses the VFS")


def _uninstall() -> None:
    lib = _library()
    lib.sqlite3_vfs_unregister(ctypes.byref(_vfs))
    lib.sqlite3_vfs_register(ctypes.byref(_real_vfs), 1)


def _copy(vfs: Any, name: bytes) -> _Vfs:
    copy = _Vfs.from_buffer_copy(vfs)
    copy.pNext = None
    copy.zName = name
    return copy


def _library() -> ctypes.CDLL:
    """The library that `_sqlite3` calls, proved by a VFS registered in the one and used by the other.

    Raises:
        Unavailable: It is linked in with hidden symbols, or this is no Unix.
    """
    global _lib
    if _lib is None:
        # Symbols are looked up in the extension and what it depends on; then,
        # where SQLite is part of the interpreter, in the interpreter.
        reasons = []
        for path in (getattr(_sqlite3, "__file__", None), None):
            try:
                _lib = _probe(path)
                break
            except (OSError, AttributeError, TypeError, sqlite3.Error, Unavailable) as error:
                reasons.append(f"{path or 'the interpreter'}: {error}")
        else:
            raise Unavailable("; ".join(reasons))
    return _lib


def _probe(path: str | None) -> ctypes.CDLL:
    lib = ctypes.CDLL(path)
    lib.sqlite3_libversion.restype = c_char_p
    lib.sqlite3_vfs_find.argtypes = [c_char_p]
    lib.sqlite3_vfs_find.restype = POINTER(_Vfs)
    lib.sqlite3_vfs_register.argtypes = [POINTER(_Vfs), c_int]
    lib.sqlite3_vfs_unregister.argtypes = [POINTER(_Vfs)]
    version = lib.sqlite3_libversion().decode()
    if version != sqlite3.sqlite_version:
        raise Unavailable(f"SQLite {version}, but Python uses {sqlite3.sqlite_version}")
    default = lib.sqlite3_vfs_find(None)
    if not default or default.contents.iVersion < 3 or not default.contents.zName.startswith(b"unix"):
        raise Unavailable("the default VFS is not the Unix one, version 3")
    probe = _copy(default.contents, VFS_NAME)
    lib.sqlite3_vfs_register(ctypes.byref(probe), 0)
    try:
        sqlite3.connect(f"file:probe?mode=memory&vfs={VFS_NAME.decode()}", uri=True).close()
    finally:
        lib.sqlite3_vfs_unregister(ctypes.byref(probe))
    return lib
