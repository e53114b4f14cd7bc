"""Backups, restores and snapshots."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

import mlog
from mlog.api import restore
from mlog.api.home import Home
from mlog.errors import InvalidInput, MlogError, StoreError, UserError

PASSPHRASE = "correct horse"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup")
    with Home(folder / "home", person="ann") as home:
        n = home.new("Garden").n
        home.send(n, "beans" * 100)
        home.backup(folder / "garden.mlog", PASSPHRASE)
    return folder / "garden.mlog"


def test_a_restored_home_has_everything_and_a_new_chain(sealed: Path, tmp_path: Path) -> None:
    restore(sealed, tmp_path / "new", PASSPHRASE)
    with mlog.open(tmp_path / "new") as home:
        n = home.conversation("Garden").n
        assert home.verify(signatures=True) == []
        home.send(n, "after")
        assert [m.text for m in home.messages(n)] == ["beans" * 100, "after"]
        assert len(home.store.chains(n)) == 2
        assert (home.path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_a_backup_gives_nothing_away(sealed: Path) -> None:
    assert b"beans" not in sealed.read_bytes()
    assert b"SQLite" not in sealed.read_bytes()


def test_a_wrong_passphrase_says_so_and_writes_nothing(sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="passphrase"):
        restore(sealed, tmp_path / "new", "wrong")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 10, 40, 60, 1000, -1])
def test_a_cut_backup_is_refused(sealed: Path, tmp_path: Path, size: int) -> None:
    cut = tmp_path / "cut.mlog"
    cut.write_bytes(sealed.read_bytes()[:size])
    with pytest.raises(MlogError) as raised:
        restore(cut, tmp_path / "new", PASSPHRASE)
    assert isinstance(raised.value, InvalidInput | UserError)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mlog"]


def test_a_flipped_bit_in_a_backup_is_refused(sealed: Path, tmp_path: Path) -> None:
    content = bytearray(sealed.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.mlog"
    damaged.write_bytes(content)
    with pytest.raises(MlogError):
        restore(damaged, tmp_path / "new", PASSPHRASE)


def test_a_home_in_use_is_never_overwritten(sealed: Path, tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home") as home:
        home.new("Mine")
    with pytest.raises(UserError, match="in use"):
        restore(sealed, tmp_path / "home", PASSPHRASE)


def test_a_backup_into_a_missing_folder_leaves_nothing(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home") as home:
        with pytest.raises(StoreError):
            home.backup(tmp_path / "none" / "b.mlog", PASSPHRASE)
        assert not [name for name in os.listdir(home.path) if name.startswith(".")]


def test_a_backup_made_while_another_writes_is_consistent(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home") as home:
        n = home.new("Garden").n
    done = threading.Event()

    def write() -> None:
        with mlog.open(tmp_path / "home") as writer:
            for i in range(300):
                writer.send(n, f"message {i}")
                if done.is_set():
                    return

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with mlog.open(tmp_path / "home") as home:
            home.backup(tmp_path / "b.mlog", PASSPHRASE)
    finally:
        done.set()
        thread.join()
    restore(tmp_path / "b.mlog", tmp_path / "new", PASSPHRASE)
    with mlog.open(tmp_path / "new") as home:
        assert home.verify(signatures=True) == []


def test_an_erasure_takes_the_snapshot_with_it(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home") as home:
        n = home.new("Garden").n
        id_ = home.send(n, "beans")
        path = home.snapshot()
        home.erase(home.message(id_.hex()))
        assert not path.exists()


def test_a_snapshot_is_one_readable_file_without_keys(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home") as home:
        n = home.new("Garden").n
        home.send(n, "beans")
        path = home.snapshot()
        secret = home.replica.log(n).keys.secret
        home.send(n, "peas")
        assert home.snapshot() == path
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    assert db.execute("SELECT text FROM messages ORDER BY position").fetchall() == [("beans",), ("peas",)]
    assert secret not in path.read_bytes()
    db.close()
