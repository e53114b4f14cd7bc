"""docs/protocol.md, 11 and the Noise specification are enough: a second implementation makes the same bytes.

Nothing of mlog and nothing of the noise package is used here: HMAC and BLAKE2s come from the standard
library, X25519, ChaCha20-Poly1305 and BLAKE3 from theirs. Sections of the Noise specification,
revision 34, stand at each function.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_FILE: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "vectors" / "channel.json").read_text(encoding="utf-8")
)
_NAME = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"


def blake2s(*parts: bytes) -> bytes:
    return hashlib.blake2s(b"".join(parts)).digest()


def hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """4.3, with two outputs."""
    key = hmac.digest(chaining_key, material, "blake2s")
    one = hmac.digest(key, b"\x01", "blake2s")
    return one, hmac.digest(key, one + b"\x02", "blake2s")


def nonce(count: int) -> bytes:
    """12.3"""
    return bytes(4) + count.to_bytes(8, "little")


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def dh(private: bytes, other: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(other))


class Symmetric:
    """5.2, of which a token sequence is written out by `ik` below."""

    def __init__(self, prologue: bytes, responder_public: bytes):
        # 33 bytes, longer than a hash: it is hashed.
        self.hash = self.chaining = blake2s(_NAME)
        self.key = b""
        self.count = 0
        self.mix_hash(prologue)
        self.mix_hash(responder_public)

    def mix_hash(self, data: bytes) -> bytes:
        self.hash = blake2s(self.hash, data)
        return data

    def mix_key(self, material: bytes) -> None:
        self.chaining, self.key = hkdf(self.chaining, material)
        self.count = 0

    def seal(self, plain: bytes) -> bytes:
        sealed = ChaCha20Poly1305(self.key).encrypt(nonce(self.count), plain, self.hash)
        self.count += 1
        return self.mix_hash(sealed)


def ik(initiator: bytes, responder: bytes, e_initiator: bytes, e_responder: bytes) -> tuple[bytes, ...]:
    """7.5: both messages, the handshake hash, the keys from initiator and from responder."""
    state = Symmetric(b"mlog v1 session\x01", public(responder))
    first = state.mix_hash(public(e_initiator))
    state.mix_key(dh(e_initiator, public(responder)))
    first += state.seal(public(initiator))
    state.mix_key(dh(initiator, public(responder)))
    first += state.seal(b"")

    second = state.mix_hash(public(e_responder))
    state.mix_key(dh(e_responder, public(e_initiator)))
    state.mix_key(dh(e_responder, public(initiator)))
    second += state.seal(b"")
    return first, second, state.hash, *hkdf(state.chaining, b"")


@pytest.fixture(scope="module")
def session() -> tuple[bytes, ...]:
    ends = _FILE["initiator"], _FILE["responder"]
    seeds = [bytes.fromhex(end[name]) for name in ("noise_seed", "ephemeral") for end in ends]
    return ik(*seeds)


def test_handshake_and_binding(session: tuple[bytes, ...]) -> None:
    first, second, handshake_hash, *_ = session
    assert (b"\x01" + first).hex() == _FILE["first"]
    assert (b"\x01" + second).hex() == _FILE["second"]
    binding = blake3(handshake_hash, derive_key_context="mlog v1 session").hexdigest()
    assert binding == _FILE["binding"]


def cut(message: bytes) -> list[bytes]:
    chunks = [message[start : start + 65_518] for start in range(0, len(message), 65_518)] or [b""]
    return [b"\x01" + chunk for chunk in chunks[:-1]] + [b"\x00" + chunks[-1]]


def test_frames(session: tuple[bytes, ...]) -> None:
    keys = {"ann": session[3], "bob": session[4]}
    counts = {"ann": 0, "bob": 0}
    for case in _FILE["messages"]:
        plains = cut(bytes.fromhex(case["fill"]) * case["count"])
        assert len(plains) == len(case["frames"])
        for plain, expected in zip(plains, case["frames"], strict=True):
            frame = ChaCha20Poly1305(keys[case["from"]]).encrypt(nonce(counts[case["from"]]), plain, b"")
            counts[case["from"]] += 1
            if isinstance(expected, str):
                assert frame.hex() == expected
            else:
                assert (len(frame), blake3(frame).hexdigest()) == (expected["size"], expected["blake3"])


def test_frames_that_are_refused_are_wrong_for_the_reason_that_is_given(session: tuple[bytes, ...]) -> None:
    cipher = ChaCha20Poly1305(session[3])
    frames = {
        case["note"]: bytes.fromhex(case["bytes"]) for case in _FILE["invalid"] if case["at"] == "frame"
    }
    second = frames.pop("the second frame as the first")
    with pytest.raises(InvalidTag):
        cipher.decrypt(nonce(0), second, b"")
    assert cipher.decrypt(nonce(1), second, b"") == b"\x00hello"
    opened = {note: cipher.decrypt(nonce(0), frame, b"") for note, frame in frames.items()}
    assert opened == {
        "marker 02": b"\x02hello",
        "more follow, but the chunk is not full": b"\x01hello",
        "no marker": b"",
    }
