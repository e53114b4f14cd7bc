"""The device's secrets, in a file of their own that only its owner can read.

The database never holds them; what it must keep secret is sealed under the storage key here.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec

from mlog.errors import InvalidInput, StoreError
from mlog.log.crypto import DeviceKeys, Vault, hash_with_context, hpke_public_key, hpke_suite

__all__ = ["Keys", "SystemEntropy", "load_keys", "make_keys", "save_keys", "write_private"]

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


def load_keys(path: Path) -> Keys | None:
    """The keys in this file, or None where there is none.

    Raises:
        StoreError: It cannot be read, or does not hold keys.
    """
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=Keys)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}. Your keys are in this file: make it readable.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The cause is left out on purpose: it could quote the file.
        raise StoreError(f"{path} is damaged. Restore a backup: 'mlog restore FILE'.") from None
    if keys.version != _VERSION:
        raise StoreError(f"{path} was written by a newer mlog. Install that one; nothing was changed.")
    if any(len(seed) != _SEED_SIZE for seed in _seeds(keys)) or keys.check != _check_of(keys):
        raise StoreError(f"{path} is damaged. Restore a backup: 'mlog restore FILE'.")
    return keys


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
