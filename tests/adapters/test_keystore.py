"""The key file: private, whole or not at all, and silent about what it holds."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from mlog.adapters import keystore
from mlog.adapters.keystore import Keys, SystemEntropy, load_keys, make_keys, save_keys, write_private
from mlog.errors import StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_keys_come_back(path: Path):
    keys = make_keys(SystemEntropy())
    save_keys(path, keys)
    loaded = load_keys(path)
    assert loaded is not None
    assert (loaded.device, loaded.storage) == (keys.device, keys.storage)
    assert load_keys(path.with_name("absent")) is None
    assert path.read_bytes() == keystore.encode_keys(keys)


def test_new_keys_are_all_different():
    one, other = make_keys(SystemEntropy()), make_keys(SystemEntropy())
    seeds = {k for keys in (one, other) for k in (keys.signing, keys.noise, keys.hpke, keys.storage)}
    assert len(seeds) == 8


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_read_it(path: Path, umask: int):
    before = os.umask(umask)
    try:
        save_keys(path, make_keys(SystemEntropy()))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_replacing_a_file_that_others_could_read_ends_that(path: Path):
    path.touch(mode=0o644)
    path.chmod(0o644)
    write_private(path, b"content")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("failing", ["fsync", "replace", "write"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
):
    write_private(path, b"old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if failing == "replace":
            patched.setattr(Path, "replace", fail)
        elif failing == "fsync":
            patched.setattr(os, "fsync", fail)
        else:
            patched.setattr(os, "fdopen", fail)
        with pytest.raises(StoreError, match="No space left"):
            write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_a_missing_folder_is_a_store_error(tmp_path: Path):
    with pytest.raises(StoreError):
        save_keys(tmp_path / "absent" / "keys.json", make_keys(SystemEntropy()))


def test_a_folder_in_its_place_is_a_store_error(path: Path):
    path.mkdir()
    with pytest.raises(StoreError, match=r"keys\.json"):
        load_keys(path)


WHOLE = Keys(signing=bytes(32), noise=bytes(32), hpke=bytes(32), storage=bytes(32))


def encoded(**fields: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(keystore.encode_keys(WHOLE)), **fields})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"null",
        b"\xff\xfe",
        encoded()[:-1],
        encoded(signing="c2hvcnQ="),
        encoded(signing="not base64!"),
        encoded(hpke=None),
        encoded(check=""),
        encoded(noise=base64.b64encode(bytes(31) + b"\1").decode()),
        encoded(storage=base64.b64encode(bytes(33)).decode()),
        b'{"signing":"\xff"}',
        b"[" * 100_000,
        b'{"x":' * 100_000,
    ],
    ids=range(14),
)
def test_a_damaged_file_is_named_and_never_quoted(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        load_keys(path)
    assert str(path) in str(error.value)
    assert "restore" in str(error.value)
    assert error.value.__cause__ is None


@given(st.data())
def test_any_changed_file_is_keys_or_a_store_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    path = tmp_path_factory.getbasetemp() / "changed.json"
    content = bytearray(encoded())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        keys = load_keys(path)
    except StoreError:
        return
    assert keys == load_keys(path)
    assert keys is not None
    assert (keys.device, keys.storage) == (WHOLE.device, WHOLE.storage)


def test_a_file_of_a_newer_mlog_is_not_read_wrong(path: Path):
    path.write_bytes(encoded(version=2))
    with pytest.raises(StoreError, match="newer"):
        load_keys(path)


def test_keys_stand_in_no_representation():
    keys = make_keys(SystemEntropy())
    shown = f"{keys} {[keys]!r} {keys.device!r} {keys.vault!r} {pretty_repr([keys, keys.device])}"
    for seed in (keys.signing, keys.noise, keys.hpke, keys.storage):
        assert repr(seed)[2:-1] not in shown
        assert seed.hex() not in shown
        assert base64.b64encode(seed).decode() not in shown
