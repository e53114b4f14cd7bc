"""Files that are not what they should be: a documented error that names them, and nothing is written."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mlog.adapters.sqlite import SCHEMA_VERSION
from mlog.errors import Busy, MlogError, StoreError, UserError

from . import scenario

SEED = 13


@pytest.fixture
def home(ram: Path) -> Path:
    return scenario.template(ram / "home")


def contents(folder: Path) -> dict[str, bytes]:
    """The files that hold something; lock files and SQLite's own index are empty of meaning."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.endswith((".lock", "-shm")) and path.stat().st_size
    }


def refused(folder: Path, kind: type[MlogError], *, says: str, names: Path | None = None) -> None:
    """Opening is refused with an error that names the file, and leaves everything as it was."""
    before = contents(folder)
    with pytest.raises(kind) as caught:
        scenario.opened(folder, busy_timeout_ms=200)
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert str(names or folder / "mlog.db") in str(caught.value)
    assert contents(folder) == before


def test_another_programs_database_is_left_alone(home: Path) -> None:
    (home / "mlog.db").unlink()
    with closing(sqlite3.connect(home / "mlog.db")) as db:
        db.execute("CREATE TABLE places (url TEXT)")
        db.commit()
    refused(home, UserError, says="is not an mlog database")


def test_a_text_file_is_left_alone(home: Path) -> None:
    (home / "mlog.db").write_text("Dear diary, " * 100)
    refused(home, StoreError, says="it is not an mlog database")


def test_a_newer_database_is_left_alone(home: Path) -> None:
    with closing(sqlite3.connect(home / "mlog.db")) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    refused(home, UserError, says="Install the newer mlog")


def test_a_locked_database_is_waited_for_with_a_bound(home: Path) -> None:
    with closing(sqlite3.connect(home / "mlog.db", isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        refused(home, Busy, says="in use by another process")
    with closing(sqlite3.connect(home / "mlog.db", isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with scenario.opened(home, busy_timeout_ms=200) as opened:
            n = opened.conversation(scenario.TITLE).n
            with pytest.raises(Busy, match="in use by another process"):
                opened.send(n, "now")
            db.execute("ROLLBACK")
            opened.send(n, "now")
            assert opened.verify() == []


def test_an_empty_file_becomes_a_database(ram: Path) -> None:
    (ram / "home").mkdir()
    (ram / "home" / "mlog.db").touch()
    with scenario.opened(ram / "home") as home:
        home.new("harbour")
        assert home.verify() == []


def test_a_database_that_was_emptied_is_not_taken_for_a_new_one(home: Path) -> None:
    (home / "mlog.db").write_bytes(b"")
    # The marker shows that something was in it.
    with pytest.raises(StoreError, match=r"mlog\.db is missing or empty.*restore a backup"):
        scenario.opened(home)
    assert (home / "mlog.db").read_bytes() == b""


def test_a_truncated_database_is_refused_or_found_damaged(request: pytest.FixtureRequest, home: Path) -> None:
    whole = (home / "mlog.db").read_bytes()
    sizes = range(512, len(whole), 512)
    if not request.config.getoption("--slow"):
        sizes = sorted(random.Random(SEED).sample(sizes, 60))
    for size in sizes:
        for name in ("mlog.db-wal", "mlog.db-shm"):
            (home / name).unlink(missing_ok=True)
        (home / "mlog.db").write_bytes(whole[:size])
        try:
            with scenario.opened(home) as opened:
                damage = [finding.detail for finding in opened.verify()]
        except StoreError as error:
            damage = [str(error)] if str(home / "mlog.db") in str(error) else []
        except BaseException as error:
            error.add_note(f"truncated to {size} bytes")
            raise
        assert damage, f"truncated to {size} bytes"


def test_keys_that_are_missing_are_not_made_anew(home: Path) -> None:
    (home / "keys.json").unlink()
    refused(home, StoreError, says="is missing", names=home / "keys.json")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x00\xff" * 100, b'{"signing": "AAAA"}', b"[1, 2]", b'"' * 10_000]
)
def test_keys_that_cannot_be_read_are_refused(home: Path, content: bytes) -> None:
    (home / "keys.json").write_bytes(content)
    refused(home, StoreError, says="is damaged", names=home / "keys.json")


def test_the_keys_of_another_home_are_refused(home: Path, ram: Path) -> None:
    other = scenario.template(ram / "other")
    shutil.copy(other / "keys.json", home / "keys.json")
    refused(home, StoreError, says="belongs to another home", names=home / "keys.json")


def test_a_flipped_bit_in_the_keys_is_noticed(home: Path) -> None:
    whole = (home / "keys.json").read_bytes()
    before = contents(home)
    for bit in range(0, 8 * len(whole), 7):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        (home / "keys.json").write_bytes(content)
        try:
            scenario.opened(home).close()
        except StoreError:
            continue
        # A bit that base64 pads with, or the name of a field that is not needed: the keys are the same.
        (home / "keys.json").write_bytes(whole)
        assert contents(home) == before, f"bit {bit}"
        with scenario.opened(home) as opened:
            assert opened.verify(signatures=True) == [], f"bit {bit}"


def test_a_folder_that_is_a_file_is_refused(ram: Path) -> None:
    (ram / "home").write_text("not a folder")
    with pytest.raises(UserError, match=str(ram / "home")):
        scenario.opened(ram / "home")
    assert (ram / "home").read_text() == "not a folder"


def test_a_database_that_is_a_folder_is_refused(home: Path) -> None:
    (home / "mlog.db").unlink()
    (home / "mlog.db").mkdir()
    with pytest.raises(StoreError, match=str(home / "mlog.db")):
        scenario.opened(home)


NOBODY = 65_534


def as_nobody(folder: Path, attempt: Callable[[], None]) -> str:
    """What a process says that has the folder, and no more rights than its modes give."""
    if os.geteuid() != 0:
        return _attempted(attempt)
    # Permissions do not bind root: a child gives its rights up.
    folder.parent.chmod(0o711)
    for path in (folder, *folder.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writer, _attempted(attempt).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def _attempted(attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except StoreError as error:
        return f"StoreError: {error}"
    except BaseException as error:  # noqa: BLE001 - shown by the assertion
        return f"{error!r}"
    return "nothing"


@pytest.mark.parametrize("name", ["mlog.db", "keys.json"])
def test_a_file_that_may_not_be_read_is_named(home: Path, name: str) -> None:
    before = contents(home)
    (home / name).chmod(0)
    said = as_nobody(home, lambda: scenario.opened(home).close())
    assert said.startswith(f"StoreError: {home / name}: ")
    assert "can be read and written" in said or "make it readable" in said
    (home / name).chmod(0o600)
    assert contents(home) == before


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_that_may_not_be_used_is_named(home: Path, mode: int) -> None:
    before = contents(home)

    def send() -> None:
        with scenario.opened(home) as opened:
            opened.send(opened.conversation(scenario.TITLE).n, "now")

    home.chmod(mode)
    said = as_nobody(home, send)
    home.chmod(0o700)
    assert said.startswith(f"StoreError: {home}")
    assert "heck the permissions" in said or "ermission denied" in said or "can be read and written" in said
    assert contents(home) == before


def test_a_database_that_may_only_be_read_is_named(home: Path) -> None:
    before = contents(home)

    def send() -> None:
        with scenario.opened(home) as opened:
            opened.send(opened.conversation(scenario.TITLE).n, "now")

    (home / "mlog.db").chmod(0o400)
    said = as_nobody(home, send)
    assert said.startswith(f"StoreError: {home / 'mlog.db'}: ")
    assert "ermissions" in said
    assert contents(home) == before
