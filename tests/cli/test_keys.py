"""The key file on the command line: guarded, opened, and never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from nacl import bindings as sodium

    monkeypatch.setattr(sodium, "crypto_pwhash_argon2id_OPSLIMIT_MODERATE", 1)
    monkeypatch.setattr(sodium, "crypto_pwhash_argon2id_MEMLIMIT_MODERATE", 8192)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("correct horse\n")
    return path


def test_a_passphrase_guards_the_keys_until_it_does_not(
    run, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run("new", "garden")
    assert "only you can read" in run("keys", "status").out
    result = run("keys", "protect", "--passphrase", "--passphrase-file", secret)
    assert result.code == 0
    assert "sealed with your passphrase" in result.out
    # Nobody is here to type it.
    result = run("send", "garden", "hello")
    assert result.code == 1
    assert "MLOG_PASSPHRASE_FILE" in result.err
    wrong = tmp_path / "wrong"
    wrong.write_text("another\n")
    monkeypatch.setenv("MLOG_PASSPHRASE_FILE", str(wrong))
    assert "does not fit" in run("log", "garden").err
    monkeypatch.setenv("MLOG_PASSPHRASE_FILE", str(secret))
    assert run("send", "garden", "hello").code == 0
    assert "hello" in run("log", "garden").out
    assert run("keys", "unprotect").code == 0
    monkeypatch.delenv("MLOG_PASSPHRASE_FILE")
    assert "hello" in run("log", "garden").out


def test_status_says_what_guards_the_keys_and_what_nothing_guards(run, secret: Path):
    run("new", "garden")
    assert "encrypt the disk" in run("status").err
    run("keys", "protect", "--passphrase", "--passphrase-file", secret)
    (record,) = run("--json", "keys", "status").records
    assert (record["protection"], record["database"]) == ("passphrase", "readable")


def test_no_output_holds_a_secret(run, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run("new", "garden")
    (keys,) = tmp_path.rglob("keys.json")
    seeds = [seed for seed in json.loads(keys.read_bytes()).values() if isinstance(seed, str)]
    monkeypatch.setenv("MLOG_PASSPHRASE_FILE", str(secret))
    results = [
        run(*flags, *args)
        for flags in ((), ("--json",))
        for args in (
            ("keys", "status"),
            ("keys", "protect", "--passphrase", "--passphrase-file", secret),
            ("status",),
            ("doctor", "--offline"),
            ("keys", "unprotect"),
        )
    ]
    shown = "".join(result.out + result.err for result in results)
    assert not any(text in shown for text in [*seeds, "correct horse"])


@pytest.mark.parametrize(
    "args",
    [
        ("keys",),
        ("keys", "protect"),
        ("keys", "protect", "--passphrase", "--keyring"),
        ("keys", "status", "--keyring"),
        ("keys", "unprotect", "--passphrase"),
        ("keys", "protect", "--keyring", "--passphrase-file", "f"),
        ("keys", "protect", "--passphrase", "the passphrase itself"),
    ],
)
def test_wrong_usage_is_told(args: tuple[str, ...], run):
    assert run(*args).code == 2


def test_a_home_without_keys_is_told(run):
    result = run("keys", "status")
    assert result.code == 1
    assert "no keys yet" in result.err
