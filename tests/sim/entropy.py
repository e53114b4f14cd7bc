"""Entropy from a seed, HPKE included: so a schedule replays byte for byte.

HPKE draws randomness that no library lets a caller hand in. So the sender's half of
MLKEM768_X25519 is written out here a second time (FIPS 203, algorithms 14 and 20; X-Wing; RFC 9180,
5.1), with its 64 random bytes as an argument. What it makes is opened by the product's own
`crypto.unwrap`, which test_network.py tests: the simulator wraps for real.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Final

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

__all__ = ["SeededEntropy", "wrap"]

_Q: Final = 3329
_N: Final = 256
_RANK: Final = 3
_MLKEM_KEY_SIZE: Final = 1184
_SUITE: Final = b"HPKE-v1HPKE\x64\x7a\x00\x01\x00\x03"


class SeededEntropy:
    """Implements `mlog.log.crypto.Entropy`: what comes out follows from the seed and the calls so far."""

    def __init__(self, *seed: object):
        self._key = blake3(repr(seed).encode(), derive_key_context="mlog simulator entropy").digest()
        self._stream = blake3(b"random", key=self._key)
        self._at = 0

    def random(self, size: int) -> bytes:
        self._at += size
        return self._stream.digest(length=size, seek=self._at - size)

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        return wrap(recipient, secret, info, self.random(64))


def wrap(recipient: bytes, secret: bytes, info: bytes, randomness: bytes) -> bytes:
    """HPKE in base mode with MLKEM768_X25519, HKDF-SHA256 and ChaCha20-Poly1305.

    Args:
        randomness: 64 bytes: ML-KEM's message, then the ephemeral X25519 key.
    """
    x25519_public = recipient[_MLKEM_KEY_SIZE:]
    lattice_secret, lattice_text = _encapsulate(recipient[:_MLKEM_KEY_SIZE], randomness[:32])
    ephemeral = X25519PrivateKey.from_private_bytes(randomness[32:])
    text = ephemeral.public_key().public_bytes_raw()
    agreed = ephemeral.exchange(X25519PublicKey.from_public_bytes(x25519_public))
    shared = hashlib.sha3_256(lattice_secret + agreed + text + x25519_public + b"\\.//^\\").digest()
    context = b"\0" + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", info)
    key_secret = _extract(shared, b"secret", b"")
    key = _expand(key_secret, b"key", context, 32)
    nonce = _expand(key_secret, b"base_nonce", context, 12)
    return lattice_text + text + ChaCha20Poly1305(key).encrypt(nonce, secret, b"")


def _extract(salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt, _SUITE + label + material, "sha256")


def _expand(secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
    return hmac.digest(secret, size.to_bytes(2, "big") + _SUITE + label + context + b"\1", "sha256")[:size]


# -- ML-KEM-768, the sender's half -----------------------------------------------------------


def _encapsulate(public: bytes, message: bytes) -> tuple[bytes, bytes]:
    """The shared secret and the ciphertext; polynomials as vectors of 256 coefficients."""
    hashed = hashlib.sha3_512(message + hashlib.sha3_256(public).digest()).digest()
    shared, seed = hashed[:32], hashed[32:]
    matrix, column = _public_key(public)
    noise = [_small(seed, number) for number in range(2 * _RANK + 1)]
    y, e1, e2 = noise[:_RANK], noise[_RANK:-1], noise[-1]
    bits = np.unpackbits(np.frombuffer(message, np.uint8), bitorder="little").astype(np.int64)
    text = b""
    for i in range(_RANK):
        # By columns: the key holds the matrix, and encryption takes it transposed.
        text += _packed(sum(_product(matrix[j][i], y[j]) for j in range(_RANK)) + e1[i], 10)
    v = sum(_product(column[j], y[j]) for j in range(_RANK)) + e2 + bits * ((_Q + 1) // 2)
    return shared, text + _packed(v, 4)


@lru_cache(maxsize=64)
def _public_key(public: bytes) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """Matrix and column of a public key, out of the number-theoretic domain that it is written in."""
    column = [_from_ntt(_decoded(public[384 * i : 384 * (i + 1)])) for i in range(_RANK)]
    seed = public[384 * _RANK :]
    matrix = [[_from_ntt(_sampled(seed + bytes([j, i]))) for j in range(_RANK)] for i in range(_RANK)]
    return matrix, column


def _decoded(data: bytes) -> np.ndarray:
    """Twelve bits for each coefficient."""
    three = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int64)
    return np.stack((three[:, 0] | (three[:, 1] & 15) << 8, three[:, 1] >> 4 | three[:, 2] << 4), 1).ravel()


def _sampled(seed: bytes) -> np.ndarray:
    """SampleNTT: the first 256 numbers below q of a stream of twelve bits each."""
    drawn = _decoded(hashlib.shake_128(seed).digest(3 * 512))
    below = drawn[drawn < _Q]
    assert len(below) >= _N
    return below[:_N]


def _small(seed: bytes, number: int) -> np.ndarray:
    """SamplePolyCBD with eta = 2."""
    drawn = np.frombuffer(hashlib.shake_256(seed + bytes([number])).digest(128), np.uint8)
    bits = np.unpackbits(drawn, bitorder="little").astype(np.int64).reshape(_N, 4)
    return bits[:, 0] + bits[:, 1] - bits[:, 2] - bits[:, 3]


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """In Z_q[x] / (x^256 + 1)."""
    full = np.convolve(a, b)
    full[: _N - 1] -= full[_N:]
    return full[:_N] % _Q


def _packed(poly: np.ndarray, bits: int) -> bytes:
    """Compress to so many bits for each coefficient, and write them, lowest bit first."""
    compressed = ((poly % _Q << bits) + _Q // 2) // _Q % (1 << bits)
    spread = compressed[:, None] >> np.arange(bits) & 1
    return np.packbits(spread.astype(np.uint8).ravel(), bitorder="little").tobytes()


@lru_cache(maxsize=1)
def _inverse_ntt() -> np.ndarray:
    """The matrix that takes a polynomial's even (or odd) half out of the number-theoretic domain."""
    roots = [pow(17, 2 * int(f"{i:07b}"[::-1], 2) + 1, _Q) for i in range(_N // 2)]
    scale = pow(_N // 2, -1, _Q)
    return np.array([[scale * pow(root, -j, _Q) % _Q for root in roots] for j in range(_N // 2)])


def _from_ntt(poly: np.ndarray) -> np.ndarray:
    return np.stack([_inverse_ntt() @ poly[half::2] % _Q for half in (0, 1)], 1).ravel()
