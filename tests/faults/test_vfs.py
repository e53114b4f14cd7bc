"""The shim under plain SQLite: it loses nothing that SQLite promises to keep, and finds what is not kept.

The last matters as much as the first: a tool that loses too little passes every store.
"""

import ctypes
import hashlib
import sqlite3
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from . import vfs
from .powerloss import Image
from .vfs import Shim, ShimError

SEED = 7
NAME = "log.db"

_reason = vfs.unavailable()
pytestmark = pytest.mark.skipif(_reason is not None, reason=str(_reason))


@contextmanager
def opened(path: Path, synchronous: str = "FULL", journal: str = "WAL") -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode={journal}")
        db.execute(f"PRAGMA synchronous={synchronous}")
        db.execute("PRAGMA wal_autocheckpoint=16")
        yield db


def body(entry: int) -> bytes:
    """Different for each entry, from 32 bytes to some pages."""
    return hashlib.sha256(b"%d" % entry).digest() * (1 + entry * 37 % 300)


def append(db: sqlite3.Connection, entry: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO entry VALUES (?, ?)", (entry, body(entry)))
    db.execute("INSERT OR REPLACE INTO latest VALUES (1, ?)", (entry,))
    db.execute("COMMIT")


def create(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, body BLOB)")
    db.execute("CREATE TABLE IF NOT EXISTS latest (one INTEGER PRIMARY KEY, id INTEGER)")


def record(folder: Path, synchronous: str, *, journal: str = "WAL", entries: int = 120) -> Shim:
    """Append, checkpoint, and close and reopen on the way."""
    with Shim(folder) as shim:
        for start in range(0, entries, 40):
            with opened(folder / NAME, synchronous, journal) as db:
                create(db)
                for entry in range(start, min(start + 40, entries)):
                    append(db, entry)
                    shim.mark(entry)
    return shim


@dataclass(frozen=True)
class Found:
    sound: bool
    lost: tuple[object, ...]


def examine(image: Image, folder: Path) -> Found:
    """Open the image as a reader after the power loss would."""
    image.write_to(folder)
    try:
        with closing(sqlite3.connect(folder / NAME)) as db:
            sound = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            tables = db.execute("SELECT name FROM sqlite_master WHERE name = 'entry'").fetchall()
            rows = dict(db.execute("SELECT id, body FROM entry")) if tables else {}
    except sqlite3.DatabaseError:
        return Found(sound=False, lost=image.acknowledged)
    sound = sound and all(content == body(entry) for entry, content in rows.items())
    return Found(sound, tuple(label for label in image.acknowledged if label not in rows))


def scratch(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "run").mkdir()
    return tmp_path / "run", tmp_path / "image"


def default_vfs() -> bytes:
    return vfs._library().sqlite3_vfs_find(None).contents.zName


def registered() -> bool:
    return bool(vfs._library().sqlite3_vfs_find(vfs.VFS_NAME))


# What SQLite keeps


def test_wal_with_full_sync_loses_no_acknowledged_commit_in_300_images(tmp_path: Path) -> None:
    run, target = scratch(tmp_path)
    shim = record(run, "FULL")
    middle_of_checkpoint = 0
    for image in shim.images(SEED, 300):
        assert examine(image, target) == Found(True, ()), f"image {image.number} of seed {SEED}"
        before = shim.log[image.crash - 1] if image.crash else None
        middle_of_checkpoint += before is not None and before.kind == "write" and before.name == NAME
    assert middle_of_checkpoint > 20


def test_rollback_journal_with_extra_sync_loses_no_acknowledged_commit(tmp_path: Path) -> None:
    run, target = scratch(tmp_path)
    shim = record(run, "EXTRA", journal="DELETE", entries=30)
    for image in shim.images(SEED, 300):
        assert examine(image, target) == Found(True, ()), f"image {image.number} of seed {SEED}"


def test_a_database_that_was_there_before_is_kept(tmp_path: Path) -> None:
    run, target = scratch(tmp_path)
    with opened(run / NAME) as db:
        create(db)
        append(db, 1000)
        with Shim(run) as shim:
            shim.mark(1000)
            with opened(run / NAME) as other:
                append(other, 1001)
                shim.mark(1001)
    for image in shim.images(SEED, 100):
        assert examine(image, target) == Found(True, ())


# What it does not keep: the tool must find it


def test_wal_with_normal_sync_loses_acknowledged_commits_but_stays_sound(tmp_path: Path) -> None:
    run, target = scratch(tmp_path)
    found = [examine(image, target) for image in record(run, "NORMAL").images(SEED, 300)]
    assert all(one.sound for one in found)
    assert sum(bool(one.lost) for one in found) > 50


def test_wal_without_sync_loses_acknowledged_commits_and_breaks(tmp_path: Path) -> None:
    run, target = scratch(tmp_path)
    found = [examine(image, target) for image in record(run, "OFF").images(SEED, 300)]
    assert sum(bool(one.lost) for one in found) > 150
    assert sum(not one.sound for one in found) > 20


def test_rollback_journal_with_full_sync_may_lose_the_last_commit(tmp_path: Path) -> None:
    # The deletion of the journal is the commit, and only EXTRA syncs the folder.
    run, target = scratch(tmp_path)
    shim = record(run, "FULL", journal="DELETE", entries=30)
    found = [examine(image, target) for image in shim.images(SEED, 300)]
    assert all(one.sound and len(one.lost) <= 1 for one in found)
    assert any(one.lost for one in found)


# Full and failing disks


def scripted_run(path: Path, acknowledged: list[int]) -> sqlite3.OperationalError | None:
    try:
        with opened(path) as db:
            create(db)
            for entry in range(12):
                append(db, entry)
                acknowledged.append(entry)
    except sqlite3.OperationalError as error:
        return error
    return None


@pytest.mark.parametrize("partial", [False, True])
def test_a_full_disk_at_every_write_is_reported_and_keeps_earlier_commits(
    tmp_path: Path, partial: bool
) -> None:
    n = 0
    for n in count(1):
        run = tmp_path / str(n)
        run.mkdir()
        acknowledged: list[int] = []
        with Shim(run) as shim:
            shim.fail_write(n, partial=partial)
            error = scripted_run(run / NAME, acknowledged)
            shim.heal()
            # Only a checkpoint may fail silently: its frames stay in the WAL.
            assert error or len(acknowledged) == 12
            if error:
                assert "disk is full" in str(error)
                assert error.sqlite_errorcode == sqlite3.SQLITE_FULL
            with opened(run / NAME) as db:
                create(db)
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                rows = dict(db.execute("SELECT id, body FROM entry"))
                assert all(rows.get(entry) == body(entry) for entry in acknowledged)
                append(db, 99)  # There is room again.
        if not shim.refused:
            break
    assert n > 100


def test_a_full_disk_refuses_new_files_and_the_index_of_the_wal(tmp_path: Path) -> None:
    for kind, code in (("create", sqlite3.SQLITE_CANTOPEN), ("shm", sqlite3.SQLITE_IOERR_SHMSIZE)):
        run = tmp_path / kind
        run.mkdir()
        with Shim(run) as shim:
            shim.fail_write(1, kinds=frozenset((kind,)))  # pyright: ignore[reportArgumentType]
            error = scripted_run(run / NAME, [])
            assert error
            assert error.sqlite_errorcode == code
            assert shim.refused >= 1


def test_a_failed_sync_fails_its_commit_once(tmp_path: Path) -> None:
    with Shim(tmp_path) as shim, opened(tmp_path / NAME) as db:
        create(db)
        shim.fail_write(1, sqlite3.SQLITE_IOERR_FSYNC, persistent=False, kinds=frozenset(("sync",)))
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error") as caught:
            append(db, 1)
        assert caught.value.sqlite_errorcode == sqlite3.SQLITE_IOERR_FSYNC
        if db.in_transaction:
            db.execute("ROLLBACK")
        append(db, 2)
        assert shim.refused == 1
        assert db.execute("SELECT id FROM entry").fetchall() == [(2,)]


def test_the_disk_as_it_was_when_full_survives_power_loss(tmp_path: Path) -> None:
    run, target = scratch(tmp_path)
    with Shim(run) as shim, opened(run / NAME) as db:
        create(db)
        for entry in range(30):
            if entry % 5 == 4:
                shim.fail_write(1 + entry // 5, partial=True)
            try:
                append(db, entry)
                shim.mark(entry)
            except sqlite3.OperationalError:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            shim.heal()
    assert shim.refused
    for image in shim.images(SEED, 200):
        assert examine(image, target) == Found(True, ())


# The shim itself


def test_only_files_of_the_folder_are_recorded(tmp_path: Path) -> None:
    run, elsewhere = scratch(tmp_path)
    elsewhere.mkdir()
    with Shim(run) as shim:
        for folder in (run, elsewhere):
            with opened(folder / NAME) as db:
                create(db)
    assert {op.name for op in shim.log} == {NAME, f"{NAME}-wal", f"{NAME}-journal"}
    assert {"create", "write", "sync", "delete"} <= {op.kind for op in shim.log}


def test_nothing_is_registered_before_and_after(tmp_path: Path) -> None:
    before = default_vfs()
    assert not registered()
    with Shim(tmp_path):
        assert registered()
        assert default_vfs() == vfs.VFS_NAME
        with pytest.raises(ShimError, match="already"), Shim(tmp_path):
            pass
        assert registered()
    assert not registered()
    assert default_vfs() == before
    with pytest.raises(ZeroDivisionError), Shim(tmp_path):
        _ = 1 / 0
    assert not registered()
    assert default_vfs() == before
    with pytest.raises(sqlite3.OperationalError, match="no such vfs"):
        sqlite3.connect(f"file:x?mode=memory&vfs={vfs.VFS_NAME.decode()}", uri=True)


def test_a_connection_that_outlives_the_shim_goes_on_unrecorded(tmp_path: Path) -> None:
    with Shim(tmp_path) as shim:
        shim.fail_write(10_000)
        db = sqlite3.connect(tmp_path / NAME, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        create(db)
    operations = len(shim.log)
    for entry in range(20):
        append(db, entry)
    db.close()
    assert len(shim.log) == operations
    assert not vfs._files
    with opened(tmp_path / NAME) as db:
        assert len(db.execute("SELECT id FROM entry").fetchall()) == 20


def test_threads_share_one_record(tmp_path: Path) -> None:
    run, target = scratch(tmp_path)

    def work(first: int) -> None:
        with closing(sqlite3.connect(run / NAME, isolation_level=None, timeout=60)) as db:
            db.execute("PRAGMA wal_autocheckpoint=16")
            for entry in range(first, first + 25):
                append(db, entry)
                shim.mark(entry)

    with Shim(run) as shim, opened(run / NAME) as db:
        create(db)
        threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(op.kind == "mark" for op in shim.log) == 75
    for image in shim.images(SEED, 100):
        assert examine(image, target) == Found(True, ())


def test_an_error_in_a_callback_is_raised_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        with Shim(tmp_path) as shim, opened(tmp_path / NAME) as db:
            monkeypatch.setattr(shim.recording, "write", lambda *_: 1 / 0)
            create(db)

    with pytest.raises(ShimError, match="callback") as caught:
        run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert not registered()
    assert not vfs._errors


def test_a_change_past_the_shim_is_found(tmp_path: Path) -> None:
    def run() -> None:
        with Shim(tmp_path):
            with opened(tmp_path / NAME) as db:
                create(db)
            with (tmp_path / NAME).open("ab") as file:
                file.write(b"x")

    with pytest.raises(ShimError, match="past the shim"):
        run()


def test_a_library_without_sqlite_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vfs, "_lib", None)
    monkeypatch.setattr(vfs._sqlite3, "__file__", ctypes.__file__)
    reason = vfs.unavailable()
    assert reason
    assert "NOT TESTED HERE" in reason
