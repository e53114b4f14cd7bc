"""A protected key file opens with what protects it, and with nothing else; no moment is without a file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import keyring
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError
from nacl import bindings as sodium

from mlog.adapters import key_protection, keystore
from mlog.adapters.key_protection import (
    Protection,
    open_content,
    protection_of,
    seal_with_keyring,
    seal_with_passphrase,
)
from mlog.adapters.keystore import SystemEntropy, encode_keys, load_keys, make_keys, protect_keys, save_keys
from mlog.errors import InvalidInput, StoreError, UserError

KEYS = make_keys(SystemEntropy())
CONTENT = encode_keys(KEYS)
PLAIN = Protection.FILE


class MemoryKeyring(KeyringBackend):
    """A keyring that keeps what it is given, until the test ends."""

    priority: Any = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError


class LockedKeyring(MemoryKeyring):
    """One that gives and takes nothing."""

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("secret words of a backend")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked("secret words of a backend")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # The cost of a passphrase is libsodium's business; here it would take a second each time.
    monkeypatch.setattr(sodium, "crypto_pwhash_argon2id_OPSLIMIT_MODERATE", 1)
    monkeypatch.setattr(sodium, "crypto_pwhash_argon2id_MEMLIMIT_MODERATE", 8192)


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> MemoryKeyring:
    memory = MemoryKeyring()
    monkeypatch.setattr(keyring, "get_password", memory.get_password)
    monkeypatch.setattr(keyring, "set_password", memory.set_password)
    monkeypatch.setattr(keyring, "delete_password", memory.delete_password)
    return memory


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = LockedKeyring()
    monkeypatch.setattr(keyring, "get_password", memory.get_password)
    monkeypatch.setattr(keyring, "set_password", memory.set_password)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    save_keys(path, KEYS)
    return path


def never() -> str:
    raise AssertionError("asked for a passphrase that is not needed")


# -- passphrases -----------------------------------------------------------------------------


def test_a_passphrase_opens_what_it_sealed() -> None:
    sealed = seal_with_passphrase(CONTENT, "correct horse")
    assert open_content(sealed, lambda: "correct horse") == CONTENT
    assert protection_of(sealed) is Protection.PASSPHRASE


def test_another_passphrase_is_told_and_not_repeated() -> None:
    sealed = seal_with_passphrase(CONTENT, "correct horse")
    with pytest.raises(UserError, match="does not fit") as error:
        open_content(sealed, lambda: "wrong horse")
    assert "horse" not in str(error.value)
    assert error.value.__cause__ is None


def test_nobody_to_ask_is_told_what_to_do() -> None:
    with pytest.raises(UserError, match="MLOG_PASSPHRASE_FILE"):
        open_content(seal_with_passphrase(CONTENT, "correct horse"), None)


def test_an_empty_passphrase_is_refused() -> None:
    with pytest.raises(UserError, match="protects nothing"):
        seal_with_passphrase(CONTENT, "")


def test_a_sealed_file_shows_no_seed() -> None:
    sealed = seal_with_passphrase(CONTENT, "correct horse")
    for seed in msgspec.json.decode(CONTENT).values():
        assert str(seed).encode() not in sealed or len(str(seed)) < 16
    assert b"horse" not in sealed


def test_the_cost_that_a_file_asks_for_is_bounded() -> None:
    header = msgspec.json.decode(seal_with_passphrase(CONTENT, "correct horse"))
    for change in ({"memory": 2**31}, {"operations": 17}, {"operations": 0}, {"memory": 1}, {"salt": ""}):
        with pytest.raises(InvalidInput):
            open_content(msgspec.json.encode(header | change), lambda: "correct horse")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_file_is_refused_or_means_the_same(data: st.DataObject) -> None:
    sealed = bytearray(SEALED)
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] = data.draw(st.integers(0, 255))
    try:
        opened = open_content(bytes(sealed), lambda: "correct horse")
    except (InvalidInput, UserError):
        return
    assert opened == CONTENT


def _sealed_cheaply() -> bytes:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sodium, "crypto_pwhash_argon2id_OPSLIMIT_MODERATE", 1)
        patched.setattr(sodium, "crypto_pwhash_argon2id_MEMLIMIT_MODERATE", 8192)
        return seal_with_passphrase(CONTENT, "correct horse")


SEALED = _sealed_cheaply()


# -- keyrings --------------------------------------------------------------------------------


def test_the_keyring_opens_what_it_sealed(ring: MemoryKeyring) -> None:
    sealed = seal_with_keyring(CONTENT)
    assert open_content(sealed, never) == CONTENT
    assert protection_of(sealed) is Protection.KEYRING
    (kept,) = ring.kept.values()
    assert kept.encode() not in sealed


def test_a_keyring_that_lost_the_key_is_told(ring: MemoryKeyring) -> None:
    sealed = seal_with_keyring(CONTENT)
    ring.kept.clear()
    with pytest.raises(UserError, match="does not have the key"):
        open_content(sealed, never)


@pytest.mark.usefixtures("locked")
def test_a_locked_keyring_changes_nothing_and_is_told(path: Path) -> None:
    with pytest.raises(UserError, match="unlock it") as error:
        protect_keys(path, KEYS, Protection.KEYRING)
    assert "secret words" not in str(error.value)
    assert path.read_bytes() == CONTENT


def test_a_keyring_that_forgets_at_once_is_noticed(
    ring: MemoryKeyring, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "set_password", lambda *_: None)
    with pytest.raises(UserError, match="does not have the key"):
        protect_keys(path, KEYS, Protection.KEYRING)
    assert path.read_bytes() == CONTENT


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    with pytest.raises(UserError, match=r"mlog-sync\[keyring\]"):
        seal_with_keyring(CONTENT)


# -- the file --------------------------------------------------------------------------------


def test_every_change_of_protection_keeps_the_keys(ring: MemoryKeyring, path: Path) -> None:
    kinds = [
        Protection.PASSPHRASE,
        Protection.KEYRING,
        PLAIN,
        Protection.KEYRING,
        Protection.PASSPHRASE,
        PLAIN,
    ]
    for kind in kinds:
        protect_keys(path, KEYS, kind, "correct horse")
        assert keystore.protection(path) is kind
        assert load_keys(path, lambda: "correct horse") == KEYS
        assert len(ring.kept) == (kind is Protection.KEYRING)
        assert os.listdir(path.parent) == [path.name]
        if os.name == "posix":
            assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("before", Protection)
@pytest.mark.parametrize("wanted", Protection)
@pytest.mark.parametrize("failing", ["replace", "fsync", "set", "delete"])
def test_a_crash_leaves_a_file_that_opens(
    ring: MemoryKeyring,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: Protection,
    wanted: Protection,
    failing: str,
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    protect_keys(path, KEYS, before, "old")
    with monkeypatch.context() as patched:
        match failing:
            case "replace":
                patched.setattr(Path, "replace", crash)
            case "fsync":
                patched.setattr(os, "fsync", crash)
            case "set":
                patched.setattr(keyring, "set_password", crash)
            case _:
                patched.setattr(keyring, "delete_password", crash)
        with suppress(Crash):
            protect_keys(path, KEYS, wanted, "new")
    # Whichever it is, the passphrase of one of the two opens it.
    found = keystore.protection(path)
    assert found in (before, wanted)
    opened = []
    for passphrase in ("old", "new"):
        try:
            opened.append(load_keys(path, lambda passphrase=passphrase: passphrase))
        except UserError:
            continue
    assert KEYS in opened


def test_a_full_disk_leaves_the_old_file_and_no_key_in_the_keyring(
    ring: MemoryKeyring, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", full)
        with pytest.raises(StoreError):
            protect_keys(path, KEYS, Protection.KEYRING)
    assert path.read_bytes() == CONTENT
    assert ring.kept == {}


def test_a_damaged_protected_file_is_a_store_error(path: Path) -> None:
    protect_keys(path, KEYS, Protection.PASSPHRASE, "correct horse")
    path.write_bytes(path.read_bytes()[:-9] + b'AAAAAAA"}')
    with pytest.raises((StoreError, UserError), match="restore"):
        load_keys(path, lambda: "correct horse")
    path.write_bytes(b'{"protection":"passphrase"}')
    with pytest.raises(StoreError, match="restore"):
        load_keys(path, lambda: "correct horse")


def test_a_plain_file_asks_for_nothing(path: Path) -> None:
    assert load_keys(path, never) == KEYS
    assert key_protection.protection_of(b"garbage") is PLAIN
