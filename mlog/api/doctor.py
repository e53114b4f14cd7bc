"""Doctor: looks at what mlog stands on, and says what to do where something is amiss."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from importlib import metadata
from pathlib import Path

import msgspec

from mlog import config, limits
from mlog.adapters.locking import ProcessLock
from mlog.adapters.sqlite import SqliteStore
from mlog.errors import Busy
from mlog.plurals import counted

__all__ = ["Check", "examine"]

_FIRST_RELEASE_MS = 1_790_000_000_000
"""September 2026: a clock before it is wrong."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. `advice` says what to do where it is not ok."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


def examine(
    home: Path, store: SqliteStore, now_ms: int, *, phrases: int = 0, offline: bool = False
) -> list[Check]:
    """Everything that can be looked at from here, the most basic first.

    Args:
        home: Folder of keys and database.
        store: Its store.
        now_ms: By the clock of this machine.
        phrases: How many recovery phrases the person has.
        offline: Send nothing: leave out the network, which is looked at only where a device is known.
    """
    checks = [
        _python(),
        _sqlite(),
        _automerge(),
        _room(home),
        _keys(home),
        _lock(home),
        _file(store),
        _search(store),
        _wal(home),
        _clock(store, now_ms),
        _gaps(store),
        _recovery(phrases),
    ]
    if offline:
        return checks
    if not store.peers():
        return [*checks, Check(name="devices", ok=True, detail="no other device is known yet")]
    # A quarter of a second of start-up.
    from mlog.api.network_checks import look_at_network

    return [*checks, *look_at_network(home, store, now_ms)]


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Check(
        name="python",
        ok=(3, 11) <= sys.version_info[:2] < (3, 13),
        detail=version,
        advice="Install Python 3.11 or 3.12: automerge has no wheels for others.",
    )


def _sqlite() -> Check:
    try:
        sqlite3.connect(":memory:").execute("CREATE VIRTUAL TABLE t USING fts5(words, content='')")
        ok = sqlite3.sqlite_version_info >= (3, 38, 0)
    except sqlite3.Error:
        ok = False
    return Check(
        name="sqlite",
        ok=ok,
        detail=sqlite3.sqlite_version,
        advice="mlog needs SQLite 3.38 or newer with FTS5: use a newer Python.",
    )


def _automerge() -> Check:
    try:
        version = metadata.version("automerge")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return Check(
        name="automerge",
        ok=version == "1.0.0rc1",
        detail=version,
        advice="Install mlog again: it needs exactly automerge 1.0.0rc1.",
    )


def _room(home: Path) -> Check:
    free = shutil.disk_usage(home).free
    return Check(
        name="disk",
        ok=free >= limits.FREE_SPACE_MIN_BYTES,
        detail=f"{free // limits.MIB:,} MiB free at {home}",
        advice="Make room: erasing, checkpoints and backups need some too.",
    )


def _keys(home: Path) -> Check:
    path = home / config.KEYS_NAME
    mode = stat.S_IMODE(path.stat().st_mode)
    return Check(
        name="keys",
        ok=os.name != "posix" or mode & 0o077 == 0,
        detail=f"{path}, mode {mode:04o}; the database beside it can be read by whoever reads the disk",
        advice=f"Others can read your keys: chmod 600 {path}",
    )


def _lock(home: Path) -> Check:
    lock = ProcessLock(home / f"{config.DATABASE_NAME}.lock", 1000)
    try:
        with lock:
            return Check(name="lock", ok=True, detail="free")
    except Busy:
        return Check(
            name="lock",
            ok=False,
            detail="held by another process" + _named(home),
            advice="Wait until it has finished, or stop it.",
        )


def _file(store: SqliteStore) -> Check:
    problems = store.check_file()
    return Check(
        name="database",
        ok=not problems,
        detail="; ".join(problems) or f"sound, {store.path.stat().st_size // limits.MIB:,} MiB",
        advice="Run 'mlog verify' to see what is damaged, and restore a backup: 'mlog restore FILE'.",
    )


def _search(store: SqliteStore) -> Check:
    sound = store.check_index()
    return Check(
        name="search index",
        ok=sound,
        detail="well-formed; 'mlog verify' compares it with the messages" if sound else "damaged",
        advice="Make it anew from the messages: 'mlog doctor --rebuild-search'.",
    )


def _wal(home: Path) -> Check:
    wal = home / f"{config.DATABASE_NAME}-wal"
    size = wal.stat().st_size if wal.exists() else 0
    return Check(
        name="wal",
        ok=size < limits.WAL_SIZE_WARN_BYTES,
        detail=f"{size // limits.MIB:,} MiB" + _named(home),
        advice="A program that reads the database without a pause keeps this file from shrinking: close it.",
    )


def _named(home: Path) -> str:
    """Other processes that have the database open, where the system shows them."""
    database = str((home / config.DATABASE_NAME).resolve())
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(os.readlink(file) == database for file in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text().strip()} (process {process.name})")
        except OSError:
            continue
    return f"; open in {', '.join(sorted(found))}" if found else ""


def _clock(store: SqliteStore, now_ms: int) -> Check:
    newest = store.newest_written_ms()
    behind = newest - now_ms
    ok = now_ms >= _FIRST_RELEASE_MS and behind < limits.CLOCK_SKEW_WARN_MS
    late = counted(max(behind, _FIRST_RELEASE_MS - now_ms) // 60_000, "minute")
    detail = "plausible" if ok else f"{late} behind"
    return Check(
        name="clock",
        ok=ok,
        detail=detail,
        advice="Set the clock of this machine: it is behind what was written here before.",
    )


def _recovery(phrases: int) -> Check:
    detail = "made" if phrases else "none; 'mlog recovery' makes one"
    return Check(name="recovery phrase", ok=True, detail=detail)


def _gaps(store: SqliteStore) -> Check:
    known = len(store.gaps(None))
    return Check(
        name="gaps",
        ok=not known,
        detail="none known" if not known else f"{known:,} known",
        advice="'mlog gaps' lists them; 'mlog verify' looks again.",
    )
