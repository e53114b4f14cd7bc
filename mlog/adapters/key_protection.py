"""What guards the key file's content at rest: nothing but its permissions, a passphrase, or the keyring.

Bytes in, bytes out: the plain content is sealed (XChaCha20-Poly1305) under a key of Argon2id of the
passphrase, or under a random one that the system's keyring keeps. All constructions are libsodium's.
What was sealed is opened once again before it is given out, so that no file is written that nobody
can open. Format: docs/protocol.md, 3.5.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec

from mlog.errors import InvalidInput, UserError

__all__ = [
    "Passphrase",
    "Protection",
    "forget_keyring",
    "open_content",
    "protection_of",
    "seal_with_keyring",
    "seal_with_passphrase",
    "stretched",
]

Passphrase = Callable[[], str]
"""Asks for the passphrase, once it is needed."""

_SERVICE: Final = "mlog"
_OPERATIONS_MAX: Final = 16
_MEMORY_MIN_BYTES: Final = 8192
_MEMORY_MAX_BYTES: Final = 2**30
_SALT_SIZE: Final = 16
_NONCE_SIZE: Final = 24


class Protection(StrEnum):
    """Who can read the key file."""

    FILE = "file"
    PASSPHRASE = "passphrase"  # noqa: S105 (no passphrase)
    KEYRING = "keyring"


class _Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A protected key file.

    Attributes:
        salt, operations, memory: Of Argon2id, with a passphrase.
        name: Under which the keyring keeps the key, with a keyring.
        sealed: Nonce, then the sealed content; all other fields are its associated data.
    """

    version: Literal[1] = 1
    protection: Literal["passphrase", "keyring"]
    salt: Annotated[bytes, msgspec.Meta(max_length=_SALT_SIZE)] = b""
    operations: Annotated[int, msgspec.Meta(ge=0, le=_OPERATIONS_MAX)] = 0
    memory: Annotated[int, msgspec.Meta(ge=0, le=_MEMORY_MAX_BYTES)] = 0
    name: Annotated[str, msgspec.Meta(max_length=64)] = ""
    sealed: bytes = b""

    def associated(self) -> bytes:
        """What is bound to the sealed content."""
        return msgspec.json.encode(msgspec.structs.replace(self, sealed=b""))


class _Kind(msgspec.Struct, frozen=True):
    protection: str = ""


_DECODER: Final = msgspec.json.Decoder(_Sealed)
_KIND_DECODER: Final = msgspec.json.Decoder(_Kind)


def protection_of(content: bytes) -> Protection:
    """What guards this key file; one that cannot be read counts as not protected."""
    try:
        kind = _KIND_DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Protection.FILE
    return Protection(kind.protection) if kind.protection in list(Protection) else Protection.FILE


def seal_with_passphrase(content: bytes, passphrase: str) -> bytes:
    """The key file's content, sealed with a passphrase.

    Raises:
        UserError: It is empty.
    """
    from nacl import bindings as sodium

    if not passphrase:
        raise UserError("an empty passphrase protects nothing. Choose another one.")
    header = _Sealed(
        protection="passphrase",
        salt=secrets.token_bytes(_SALT_SIZE),
        operations=sodium.crypto_pwhash_argon2id_OPSLIMIT_MODERATE,
        memory=sodium.crypto_pwhash_argon2id_MEMLIMIT_MODERATE,
    )
    return _seal(header, content, lambda: passphrase)


def seal_with_keyring(content: bytes) -> bytes:
    """The key file's content, sealed under a new key that the system's keyring keeps.

    Raises:
        UserError: There is no keyring, or it refuses.
    """
    name = secrets.token_hex(8)
    key = secrets.token_bytes(32)
    with _keyring_errors():
        _keyring().set_password(_SERVICE, name, key.hex())
    return _seal(_Sealed(protection="keyring", name=name), content, _nobody)


def _seal(header: _Sealed, content: bytes, passphrase: Passphrase) -> bytes:
    from nacl import bindings as sodium

    nonce = secrets.token_bytes(_NONCE_SIZE)
    sealed = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
        content, header.associated(), nonce, _key(header, passphrase)
    )
    encoded = msgspec.json.encode(msgspec.structs.replace(header, sealed=nonce + sealed))
    # A keyring that forgets, or anything else that went wrong, shows now, while the old file is there.
    assert open_content(encoded, passphrase) == content
    return encoded


def open_content(content: bytes, passphrase: Passphrase | None) -> bytes:
    """The plain content of a protected key file.

    Args:
        passphrase: Asked only where the file needs one; None if nobody can be asked.

    Raises:
        InvalidInput: The file is damaged.
        UserError: The passphrase is another one, or there is none; the keyring is not there.
    """
    from nacl import bindings as sodium
    from nacl.exceptions import CryptoError

    try:
        header = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("the key file is damaged") from None
    nonce, sealed = header.sealed[:_NONCE_SIZE], header.sealed[_NONCE_SIZE:]
    key = _key(header, passphrase or _nobody)
    try:
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, header.associated(), nonce, key)
    except (CryptoError, ValueError, TypeError):
        if header.protection == Protection.PASSPHRASE:
            raise UserError(
                "the passphrase does not fit the key file. Try again; if it is right, the file is damaged: "
                "restore a backup ('mlog restore FILE')."
            ) from None
        raise InvalidInput("the key file is damaged") from None


def forget_keyring(content: bytes) -> None:
    """Take the key of a file that is no longer used out of the keyring; what is not there is no error."""
    if protection_of(content) is not Protection.KEYRING:
        return
    try:
        name = _DECODER.decode(content).name
        with _keyring_errors():
            _keyring().delete_password(_SERVICE, name)
    except (msgspec.DecodeError, UserError):
        # What stays there opens nothing any more.
        return


def stretched(passphrase: str, salt: bytes, operations: int, memory: int) -> bytes:
    """A key of 32 bytes from a passphrase: Argon2id."""
    from nacl import bindings as sodium

    return sodium.crypto_pwhash_alg(
        sodium.crypto_secretstream_xchacha20poly1305_KEYBYTES,
        passphrase.encode(),
        salt,
        operations,
        memory,
        sodium.crypto_pwhash_ALG_ARGON2ID13,
    )


def _key(header: _Sealed, passphrase: Passphrase) -> bytes:
    if header.protection == Protection.KEYRING:
        return _key_of_keyring(header.name)
    bounded = len(header.salt) == _SALT_SIZE and header.operations and header.memory >= _MEMORY_MIN_BYTES
    if not bounded:
        raise InvalidInput("the key file is damaged")
    return stretched(passphrase(), header.salt, header.operations, header.memory)


def _key_of_keyring(name: str) -> bytes:
    with _keyring_errors():
        found = _keyring().get_password(_SERVICE, name)
    try:
        key = bytes.fromhex(found or "")
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UserError(
            "the system keyring does not have the key of these logs. Unlock the keyring of the person who "
            "protected them, or restore a backup: 'mlog restore FILE'."
        )
    return key


def _nobody() -> str:
    raise UserError(
        "the key file is protected with a passphrase, and nobody is here to type it. Put it in a file and "
        "name that with MLOG_PASSPHRASE_FILE."
    )


def _keyring() -> Any:
    try:
        import keyring
    except ImportError:
        raise UserError(
            "the system keyring needs one package more: install 'mlog-sync[keyring]', or use a passphrase."
        ) from None
    return keyring


@contextmanager
def _keyring_errors() -> Generator[None]:
    """Turns whatever a keyring's backend raises into a UserError that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 (backends raise errors of their own libraries too)
        raise UserError(
            f"the system keyring cannot be used here ({type(error).__name__}). Log in to the desktop and "
            "unlock it, or use a passphrase."
        ) from None
