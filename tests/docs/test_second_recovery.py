"""docs/protocol.md, 21, is enough: a second implementation makes the keys of a phrase, and both its messages.

Noise is written out here by its specification (revision 34), with HMAC and BLAKE2s of the interpreter, as
no vectors are published for this pattern. Nothing of mlog is imported.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any, Final

import pytest
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from mnemonic import Mnemonic

_FILE: Final = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "vectors" / "recovery.json").read_text(encoding="utf-8")
)
_SHAKE: Final = _FILE["handshake"]


def derive(context: str, data: bytes) -> bytes:
    return blake3(data, derive_key_context="mlog v1 " + context).digest()


def secret_of(words: str) -> bytes | None:
    """21.1, in the other direction."""
    numbers = [WORDS.index(word) if word in WORDS else -1 for word in words.split()]
    if len(numbers) != 24 or -1 in numbers:
        return None
    bits = "".join(f"{number:011b}" for number in numbers)
    secret = int(bits[:256], 2).to_bytes(32)
    return secret if f"{hashlib.sha256(secret).digest()[0]:08b}" == bits[256:] else None


WORDS: Final = Mnemonic("english").wordlist


@pytest.mark.parametrize("case", _FILE["phrases"], ids=lambda case: case["secret"][:8])
def test_words_give_the_keys(case: dict[str, Any]) -> None:
    secret = secret_of(case["words"])
    assert secret is not None
    assert secret.hex() == case["secret"]
    for name in ("signing", "noise", "hpke"):
        assert derive(f"recovery {name}", secret).hex() == case[name]
    signing = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["signing"]))
    assert signing.public_key().public_bytes_raw().hex() == case["device"]


@pytest.mark.parametrize("case", _FILE["invalid_phrases"], ids=lambda case: case["note"])
def test_words_that_are_no_phrase_are_refused(case: dict[str, Any]) -> None:
    assert secret_of(case["words"]) is None


# -- Noise -----------------------------------------------------------------------------------


def hkdf(key: bytes, data: bytes, count: int) -> list[bytes]:
    temporary = hmac.digest(key, data, "blake2s")
    outputs: list[bytes] = []
    for n in range(1, count + 1):
        outputs.append(hmac.digest(temporary, (outputs[-1] if outputs else b"") + bytes([n]), "blake2s"))
    return outputs


def nonce(n: int) -> bytes:
    return bytes(4) + n.to_bytes(8, "little")


class Handshake:
    """The symmetric state, and the tokens of KXpsk0."""

    def __init__(self, prologue: bytes, initiator_public: bytes, psk: bytes):
        name = b"Noise_KXpsk0_25519_ChaChaPoly_BLAKE2s"
        self.h = self.ck = hashlib.blake2s(name).digest()
        self.key, self.n = b"", 0
        self.psk = psk
        self.mix_hash(prologue)
        self.mix_hash(initiator_public)

    def mix_hash(self, data: bytes) -> None:
        self.h = hashlib.blake2s(self.h + data).digest()

    def mix_key(self, data: bytes) -> None:
        self.ck, self.key = hkdf(self.ck, data, 2)
        self.n = 0

    def mix_psk(self) -> None:
        self.ck, mixed, self.key = hkdf(self.ck, self.psk, 3)
        self.mix_hash(mixed)
        self.n = 0

    def ephemeral(self, public: bytes) -> bytes:
        self.mix_hash(public)
        self.mix_key(public)
        return public

    def seal(self, plain: bytes) -> bytes:
        sealed = ChaCha20Poly1305(self.key).encrypt(nonce(self.n), plain, self.h)
        self.mix_hash(sealed)
        self.n += 1
        return sealed

    def open(self, sealed: bytes) -> bytes:
        plain = ChaCha20Poly1305(self.key).decrypt(nonce(self.n), sealed, self.h)
        self.mix_hash(sealed)
        self.n += 1
        return plain


def x25519(private: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(private)


def public(private: bytes) -> bytes:
    return x25519(private).public_key().public_bytes_raw()


def agree(private: bytes, other: bytes) -> bytes:
    return x25519(private).exchange(X25519PublicKey.from_public_bytes(other))


def vector(name: str) -> bytes:
    return bytes.fromhex(_SHAKE[name])


def begun() -> Handshake:
    device = Ed25519PrivateKey.from_private_bytes(derive("recovery signing", vector("phrase")))
    named = device.public_key().public_bytes_raw() + vector("phrase_noise_public")
    psk = derive("recovery meeting", named + vector("phrase_hpke_public"))
    assert psk == vector("meeting_key")
    noise_public = public(derive("recovery noise", vector("phrase")))
    assert noise_public == vector("phrase_noise_public")
    return Handshake(b"mlog v1 session\x03", noise_public, psk)


def test_both_messages_are_made_and_opened() -> None:
    phrase_noise = derive("recovery noise", vector("phrase"))
    signing = Ed25519PrivateKey.from_private_bytes(derive("recovery signing", vector("phrase")))
    e1, e2 = (bytes.fromhex(each) for each in _SHAKE["ephemerals"])
    first, second = (bytes.fromhex(each) for each in _SHAKE["messages"])
    dials, holds = begun(), begun()
    # Message 1: psk, e, and the proof.
    time = _SHAKE["time_ms"].to_bytes(8, "big")
    signature = signing.sign(b"mlog v1 recovery\0" + public(e1) + time)
    dials.mix_psk()
    made = b"\x03" + dials.ephemeral(public(e1))
    made += dials.seal(time + signature)
    assert made == first
    assert len(first) == 121
    holds.mix_psk()
    holds.ephemeral(first[1:33])
    proof = holds.open(first[33:])
    key = Ed25519PublicKey.from_public_bytes(signing.public_key().public_bytes_raw())
    key.verify(proof[8:], b"mlog v1 recovery\0" + first[1:33] + proof[:8])
    # Message 2: e, ee, se, s, es, and who answers.
    holder = vector("holder_noise")
    made = b"\x03" + holds.ephemeral(public(e2))
    holds.mix_key(agree(e2, public(e1)))
    holds.mix_key(agree(e2, public(phrase_noise)))
    made += holds.seal(public(holder))
    holds.mix_key(agree(holder, public(e1)))
    made += holds.seal(vector("holder"))
    assert made == second
    assert len(second) == 129
    dials.ephemeral(second[1:33])
    dials.mix_key(agree(e1, second[1:33]))
    dials.mix_key(agree(phrase_noise, second[1:33]))
    static = dials.open(second[33:81])
    dials.mix_key(agree(e1, static))
    assert dials.open(second[81:]) == vector("holder")
    assert derive("session", dials.h) == derive("session", holds.h) == vector("binding")
    to_holder, to_phrase = hkdf(dials.ck, b"", 2)
    for frame, key in zip(_SHAKE["frames"], (to_holder, to_phrase), strict=True):
        opened = ChaCha20Poly1305(key).decrypt(nonce(0), bytes.fromhex(frame["frame"]), b"")
        assert opened == b"\0" + bytes.fromhex(frame["message"])


def test_who_knows_all_public_keys_and_the_first_message_cannot_read_the_answer() -> None:
    e1, second = bytes.fromhex(_SHAKE["ephemerals"][0]), bytes.fromhex(_SHAKE["messages"][1])
    guess = begun()
    guess.mix_psk()
    first = bytes.fromhex(_SHAKE["messages"][0])
    guess.ephemeral(first[1:33])
    guess.open(first[33:])
    guess.ephemeral(second[1:33])
    # Even with the ephemeral key: what lacks is the phrase's own.
    guess.mix_key(agree(e1, second[1:33]))
    guess.mix_key(agree(e1, second[1:33]))
    with pytest.raises(InvalidTag):
        guess.open(second[33:81])
