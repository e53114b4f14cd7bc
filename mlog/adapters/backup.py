"""Backup file: database and keys in one stream, sealed with a passphrase.

    magic 16 | salt 16 | operations 8 | memory 8 | stream header 24 | chunks

The key is Argon2id of the passphrase; the chunks are libsodium's secretstream
(XChaCha20-Poly1305), 1 MiB each, the last one marked, so that a cut file is noticed. Inside: the
key file's length (4 bytes) and bytes, then the database. All constructions are libsodium's.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from mlog import limits
from mlog.adapters.disk import disk_errors
from mlog.adapters.key_protection import stretched
from mlog.errors import InvalidInput, UserError

__all__ = ["open_backup", "seal_backup"]

_State = sodium.crypto_secretstream_xchacha20poly1305_state

_MAGIC: Final = b"mlog backup v1\n\0"
_HEADER: Final = Struct(">16s16sQQ")
_CHUNK: Final = limits.MIB
_SEALED_CHUNK: Final = _CHUNK + sodium.crypto_secretstream_xchacha20poly1305_ABYTES
_KEYS_SIZE_MAX: Final = 64 * limits.KIB


def seal_backup(target: BinaryIO, keys: bytes, database: Path, passphrase: str) -> None:
    """Write a backup of these keys and this (consistent) database file."""
    salt = secrets.token_bytes(16)
    operations = sodium.crypto_pwhash_argon2id_OPSLIMIT_MODERATE
    memory = sodium.crypto_pwhash_argon2id_MEMLIMIT_MODERATE
    header = _HEADER.pack(_MAGIC, salt, operations, memory)
    target.write(header)
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    target.write(
        sodium.crypto_secretstream_xchacha20poly1305_init_push(
            state, stretched(passphrase, salt, operations, memory)
        )
    )
    with disk_errors(database), database.open("rb") as stored:
        pending = len(keys).to_bytes(4, "big") + keys
        while more := stored.read(_CHUNK):
            pending += more
            while len(pending) > _CHUNK:
                target.write(_push(state, pending[:_CHUNK], header, last=False))
                pending = pending[_CHUNK:]
        target.write(_push(state, pending, header, last=True))


def open_backup(source: BinaryIO, database: BinaryIO, passphrase: str) -> bytes:
    """Write the database of a backup, and give the keys.

    Raises:
        InvalidInput: Not a backup, damaged or cut off.
        UserError: The passphrase is another one.
    """
    header = source.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise InvalidInput("not an mlog backup")
    _, salt, operations, memory = _HEADER.unpack(header)
    if operations > 16 or memory > 2**30:
        raise InvalidInput("the backup asks for more work than any mlog writes; it is damaged")
    start = source.read(sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES)
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    try:
        sodium.crypto_secretstream_xchacha20poly1305_init_pull(
            state, start, stretched(passphrase, salt, operations, memory)
        )
    except (CryptoError, ValueError, TypeError):
        raise InvalidInput("the backup is cut off") from None
    chunks = _pull(state, source, header)
    first = next(chunks)
    keys_size = int.from_bytes(first[:4], "big")
    if keys_size > min(_KEYS_SIZE_MAX, len(first) - 4):
        raise InvalidInput("the backup is damaged")
    database.write(first[4 + keys_size :])
    database.writelines(chunks)
    return first[4 : 4 + keys_size]


def _push(state: _State, chunk: bytes, header: bytes, *, last: bool) -> bytes:
    tag = (
        sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL
        if last
        else sodium.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
    )
    return sodium.crypto_secretstream_xchacha20poly1305_push(state, chunk, ad=header, tag=tag)


def _pull(state: _State, source: BinaryIO, header: bytes) -> Iterator[bytes]:
    first, ended = True, False
    while sealed := source.read(_SEALED_CHUNK):
        if ended:
            raise InvalidInput("something follows the end of the backup; it is damaged")
        try:
            chunk, tag = sodium.crypto_secretstream_xchacha20poly1305_pull(state, sealed, ad=header)
        except (CryptoError, ValueError):
            if first:
                raise UserError("the passphrase does not fit this backup, or its start is damaged.") from None
            raise InvalidInput("the backup is damaged") from None
        first = False
        ended = tag == sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL
        yield chunk
    if not ended:
        raise InvalidInput("the backup is cut off")
