"""Backups, paths, passphrases."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "pass"
    path.write_text("correct horse\nsecond line\n")
    return path


@pytest.fixture
def backup(run, tmp_path: Path, secret: Path) -> Path:
    run("new", "x")
    run("send", "x", "hello")
    path = tmp_path / "backup"
    assert run("backup", path, "--passphrase-file", secret).code == 0
    return path


def test_path_prints_where_things_are_without_making_them(run, home: Path):
    assert run("path", "home").out == f"{home}{os.linesep}"
    assert run("path", "db").out == f"{home / 'mlog.db'}{os.linesep}"
    assert not home.exists()


def test_path_snapshot_makes_a_copy_with_the_public_views(run, home: Path):
    run("new", "x")
    run("send", "x", "hello")
    path = run("path", "snapshot").out.strip()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT text FROM messages").fetchall() == [("hello",)]


def test_a_backup_restores_to_a_new_home_that_writes_on(run, backup, secret, tmp_path):
    other = ("--home", tmp_path / "other")
    assert run(*other, "restore", backup, "--passphrase-file", secret).code == 0
    assert run(*other, "send", "x", "more").code == 0
    assert [message["text"] for message in run(*other, "--json", "log", "x").records] == ["hello", "more"]
    assert run(*other, "verify", "--signatures").code == 0


def test_restore_goes_into_an_empty_or_new_home_only(run, backup, secret):
    result = run("restore", backup, "--passphrase-file", secret)
    assert result.code == 1
    assert "--home" in result.err


def test_a_wrong_passphrase_and_a_damaged_file_restore_nothing(run, backup, secret, tmp_path):
    other = tmp_path / "other"
    wrong = tmp_path / "wrong"
    wrong.write_text("incorrect horse")
    assert run("--home", other, "restore", backup, "--passphrase-file", wrong).code == 1
    content = bytearray(backup.read_bytes())
    content[len(content) // 2] ^= 1
    backup.write_bytes(content)
    assert run("--home", other, "restore", backup, "--passphrase-file", secret).code == 1
    assert run("--home", other, "restore", tmp_path / "none", "--passphrase-file", secret).code == 1
    assert not other.exists()


def test_a_backup_into_a_folder_that_is_not_there_says_so(run, secret, tmp_path):
    result = run("backup", tmp_path / "no" / "x", "--passphrase-file", secret)
    assert result.code == 1
    assert f"no folder {tmp_path / 'no'}" in result.err


def test_a_backup_is_not_overwritten_unless_forced(run, backup, secret):
    before = backup.read_bytes()
    assert run("backup", backup, "--passphrase-file", secret).code == 1
    assert backup.read_bytes() == before
    assert run("backup", backup, "--passphrase-file", secret, "--force").code == 0


def test_the_passphrase_may_come_from_standard_input(run, backup, tmp_path):
    restored = run(
        "--home", tmp_path / "a", "restore", backup, "--passphrase-file", "-", stdin=b"correct horse\n"
    )
    assert restored.code == 0


def test_the_environment_may_name_the_passphrase_file(run, backup, secret, tmp_path, monkeypatch):
    monkeypatch.setenv("MLOG_PASSPHRASE_FILE", str(secret))
    assert run("--home", tmp_path / "b", "restore", backup).code == 0


def test_without_a_terminal_a_passphrase_has_to_be_in_a_file(run, tmp_path):
    result = run("backup", tmp_path / "b")
    assert result.code == 1
    assert "--passphrase-file" in result.err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("content", [b"", b"\nsecond", b"x" * 10_000, b"\xff\xfe"])
def test_a_passphrase_file_that_is_none_is_refused(content, run, tmp_path):
    (tmp_path / "p").write_bytes(content)
    result = run("backup", tmp_path / "b", "--passphrase-file", tmp_path / "p")
    assert result.code == 1
    assert not (tmp_path / "b").exists()


def test_a_passphrase_is_typed_twice_unseen(run, tmp_path, monkeypatch):
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "correct horse"

    monkeypatch.setattr("click.termui.hidden_prompt_func", answer)
    assert run("backup", tmp_path / "b", tty=True).code == 0
    assert len(asked) == 2
    assert run("--home", tmp_path / "other", "restore", tmp_path / "b", tty=True).code == 0
    assert len(asked) == 3


def test_no_option_takes_a_passphrase_itself(run):
    assert run("backup", "b", "--passphrase", "x").code == 2
