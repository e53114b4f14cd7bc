"""The marker: which databases may go on with their chains, and which start new ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import config
from mlog.adapters import marker
from mlog.adapters.marker import Marker, here, load_marker, save_marker
from mlog.api.home import Home

MARKER = Marker(database="ab" * 16, inode=7, machine="cd" * 8, entries=10)


# -- rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "vouches"),
    [
        ("entries", 10, True),
        ("entries", 11, True),
        ("entries", 9, False),
        ("inode", 8, False),
        ("database", "00" * 16, False),
        ("machine", "00" * 8, False),
    ],
)
def test_a_marker_vouches_for_its_database_unless_that_went_back(field: str, value: object, vouches: bool):
    now = msgspec.structs.replace(MARKER, **{field: value})
    assert MARKER.vouches_for(now) == vouches


def test_a_marker_comes_back_and_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "marker.json"
    assert load_marker(path) is None
    longest = Marker(database="ff" * 16, inode=2**64, machine="ff" * 8, entries=2**53)
    for written in (longest, MARKER, longest):
        save_marker(path, written)
        assert load_marker(path) == written
        assert path.stat().st_size == 256


@given(st.binary(max_size=60))
def test_any_bytes_are_a_marker_or_none(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    assert load_marker(path) is None


@given(st.integers(0, 255), st.integers(0, 255))
def test_a_torn_marker_is_none_or_another_one(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int):
    path = tmp_path_factory.getbasetemp() / "torn.json"
    save_marker(path, MARKER)
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(bytes(content))
    assert load_marker(path) is None or isinstance(load_marker(path), Marker)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"x":' * 100_000, b'{"x\xff":1}'], ids=range(3))
def test_hostile_markers_are_none(tmp_path: Path, content: bytes):
    (tmp_path / "marker.json").write_bytes(content)
    assert load_marker(tmp_path / "marker.json") is None


def test_a_marker_that_cannot_be_written_fails_nothing(tmp_path: Path):
    save_marker(tmp_path / "absent" / "marker.json", MARKER)
    save_marker(tmp_path, MARKER)


def test_here_describes_the_file_as_it_is(tmp_path: Path):
    database = tmp_path / "mlog.db"
    database.touch()
    one = here(database, b"\xab" * 16, 3)
    assert (one.database, one.inode, one.entries) == ("ab" * 16, database.stat().st_ino, 3)
    shutil.copy(database, tmp_path / "copy.db")
    assert here(tmp_path / "copy.db", b"\xab" * 16, 3).inode != one.inode


# -- homes -----------------------------------------------------------------------------------


def write_in(path: Path, *texts: str) -> bytes:
    """Open a home, send messages, and tell the incarnation that it writes under."""
    with Home(path, person="Ann") as home:
        if texts:
            known = home.conversations()
            n = (known[0] if known else home.new("notes")).n
            for text in texts:
                home.send(n, text)
        assert home.verify() == []
        return home.replica.incarnation


def test_a_home_keeps_its_incarnation(tmp_path: Path):
    path = tmp_path / "home"
    assert write_in(path, "one") == write_in(path, "two") == write_in(path)


def test_a_moved_home_keeps_its_incarnation(tmp_path: Path):
    first = write_in(tmp_path / "home", "one")
    (tmp_path / "home").rename(tmp_path / "moved")
    assert write_in(tmp_path / "moved", "two") == first


def test_a_copied_home_starts_a_new_incarnation(tmp_path: Path):
    first = write_in(tmp_path / "home", "one")
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    assert write_in(tmp_path / "copy", "two") != first
    assert write_in(tmp_path / "home", "two") == first


def test_a_rolled_back_database_starts_a_new_incarnation(tmp_path: Path):
    path = tmp_path / "home"
    first = write_in(path, "one")
    database = path / config.DATABASE_NAME
    before = database.read_bytes()
    assert write_in(path, "two") == first
    # In place, so that neither its inode nor its own id tells.
    with database.open("r+b") as file:
        file.truncate()
        file.write(before)
    assert write_in(path, "three") != first


def test_a_restored_database_starts_a_new_incarnation(tmp_path: Path):
    path = tmp_path / "home"
    first = write_in(path, "one")
    shutil.copy(path / config.DATABASE_NAME, tmp_path / "backup.db")
    write_in(path, "two")
    shutil.copy(tmp_path / "backup.db", path / "restored.db")
    (path / "restored.db").replace(path / config.DATABASE_NAME)
    assert write_in(path, "three") != first


def test_another_machine_starts_a_new_incarnation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = write_in(tmp_path / "home", "one")
    monkeypatch.setattr(marker, "_machine", lambda: "another")
    assert write_in(tmp_path / "home", "two") != first


@pytest.mark.parametrize("content", [None, b"", b"torn {"])
def test_a_lost_or_torn_marker_starts_a_new_incarnation(tmp_path: Path, content: bytes | None):
    first = write_in(tmp_path / "home", "one")
    path = tmp_path / "home" / config.MARKER_NAME
    path.unlink() if content is None else path.write_bytes(content)
    second = write_in(tmp_path / "home", "two")
    assert second != first
    assert write_in(tmp_path / "home", "three") == second


def test_a_crash_between_commit_and_marker_changes_nothing(tmp_path: Path):
    path = tmp_path / "home"
    first = write_in(path, "one")
    older = (path / config.MARKER_NAME).read_bytes()
    write_in(path, "two", "three")
    (path / config.MARKER_NAME).write_bytes(older)
    assert write_in(path, "four") == first


def test_a_full_disk_for_the_marker_costs_at_most_an_incarnation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "home"
    first = write_in(path, "one")

    def fail(*args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(marker.os, "write", fail)
        assert write_in(path, "two") == first
    assert write_in(path, "three") == first
    assert os.path.getsize(path / config.MARKER_NAME) == 256
