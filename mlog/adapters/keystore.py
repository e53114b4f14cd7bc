"""The device's secrets, in a file of their own that only its owner can read.

The database never holds them; what it must keep secret is sealed under the storage key here. The file
is plain, or protected (mlog/adapters/key_protection.py); a change replaces it whole, so that at any
moment either the old or the new one is there.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec

from mlog.adapters.key_protection import (
    Passphrase,
    Protection,
    forget_keyring,
    open_content,
    protection_of,
    seal_with_keyring,
    seal_with_passphrase,
)
from mlog.errors import InvalidInput, StoreError
from mlog.log.crypto import DeviceKeys, Vault, hash_with_context, hpke_public_key, hpke_suite

__all__ = [
    "Keys",
    "SystemEntropy",
    "load_keys",
    "make_keys",
    "protect_keys",
    "protection",
    "save_keys",
    "write_private",
]

_SEED_SIZE = 32
_VERSION = 1


class SystemEntropy:
    """Randomness of the operating system; implements `mlog.log.crypto.Entropy`."""

    def random(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        try:
            return hpke_suite().encrypt(secret, hpke_public_key(recipient), info)
        except ValueError:
            raise InvalidInput("a public key for which nothing can be wrapped") from None


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """What the key file holds: seeds of 32 bytes each, in base64.

    Attributes:
        check: Hash over the seeds: a flipped bit would else make another device of this one.
    """

    signing: bytes
    noise: bytes
    hpke: bytes
    storage: bytes
    check: bytes = b""
    version: int = _VERSION

    @property
    def device(self) -> DeviceKeys:
        return DeviceKeys(self.signing, self.noise, self.hpke)

    @property
    def vault(self) -> Vault:
        return Vault(self.storage)

    def __repr__(self) -> str:
        return "Keys(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # A struct has one of its own, which would show every field.
        return []


def make_keys(entropy: SystemEntropy) -> Keys:
    """New secrets for a new device."""
    keys = Keys(
        signing=entropy.random(_SEED_SIZE),
        noise=entropy.random(_SEED_SIZE),
        hpke=entropy.random(_SEED_SIZE),
        storage=entropy.random(_SEED_SIZE),
    )
    return msgspec.structs.replace(keys, check=_check_of(keys))


def load_keys(path: Path, passphrase: Passphrase | None = None) -> Keys | None:
    """The keys in this file, or None where there is none.

    Args:
        passphrase: Asked only where the file is protected with one; None if nobody can be asked.

    Raises:
        StoreError: It cannot be read, or does not hold keys.
        UserError: The passphrase is another one, or is not given; the keyring cannot be used.
    """
    content = _read(path)
    if content is None:
        return None
    try:
        if protection_of(content) is not Protection.FILE:
            content = open_content(content, passphrase)
        keys = msgspec.json.decode(content, type=Keys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidInput):
        # The cause is left out on purpose: it could quote the file.
        raise StoreError(f"{path} is damaged. Restore a backup: 'mlog restore FILE'.") from None
    if keys.version != _VERSION:
        raise StoreError(f"{path} was written by a newer mlog. Install that one; nothing was changed.")
    if any(len(seed) != _SEED_SIZE for seed in _seeds(keys)) or keys.check != _check_of(keys):
        raise StoreError(f"{path} is damaged. Restore a backup: 'mlog restore FILE'.")
    return keys


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}. Your keys are in this file: make it readable.") from None


def protection(path: Path) -> Protection:
    """What guards the keys in this file.

    Raises:
        StoreError: It cannot be read.
    """
    return protection_of(_read(path) or b"")


def protect_keys(path: Path, keys: Keys, wanted: Protection, passphrase: str = "") -> None:
    """Write the key file with another protection, whole or not at all; the keys stay the same.

    A crash leaves the old file or the new one, and both can be opened: what a keyring keeps for the
    new one is there before it, and what it kept for the old one is taken out after it.

    Raises:
        UserError: The passphrase is empty; the keyring cannot be used.
        StoreError: It cannot be written.
    """
    before, content = _read(path) or b"", encode_keys(keys)
    if wanted is Protection.PASSPHRASE:
        content = seal_with_passphrase(content, passphrase)
    elif wanted is Protection.KEYRING:
        content = seal_with_keyring(content)
    try:
        write_private(path, content)
    except StoreError:
        forget_keyring(content)
        raise
    forget_keyring(before)


def save_keys(path: Path, keys: Keys) -> None:
    """Write the key file, whole or not at all.

    Raises:
        StoreError: It cannot be written.
    """
    write_private(path, encode_keys(keys))


def encode_keys(keys: Keys) -> bytes:
    """The key file's bytes; a sealed backup holds them too."""
    return msgspec.json.encode(keys)


def _seeds(keys: Keys) -> tuple[bytes, bytes, bytes, bytes]:
    return keys.signing, keys.noise, keys.hpke, keys.storage


def _check_of(keys: Keys) -> bytes:
    return hash_with_context("key file", b"".join(_seeds(keys)))[:8]


def write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner's eyes, durably, whole or not at all.

    Raises:
        StoreError: It cannot be written.
    """
    name = base64.urlsafe_b64encode(secrets.token_bytes(6)).decode()
    temporary = path.with_name(f".{path.name}.{name}")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}. Nothing was written; make room, then try again."
        ) from None


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
