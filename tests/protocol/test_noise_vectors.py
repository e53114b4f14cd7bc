"""What the channel uses of the noise package gives the bytes that other implementations publish.

Vectors: noise_vectors.json beside this file, each with its source. They have payloads and prologues
that the channel does not use, so they go through the parts that it is made of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlog.protocol.channel import _PAIRING_PROTOCOL, _PROTOCOL, _Cipher, _Handshake, _Refused

_FILE = json.loads((Path(__file__).parent / "noise_vectors.json").read_text(encoding="utf-8"))
_VECTORS = _FILE["vectors"]
_PAIRING_VECTORS = _FILE["pairing_vectors"]

each_vector = pytest.mark.parametrize("vector", _VECTORS, ids=["cacophony", "noise-c"])
each_pairing_vector = pytest.mark.parametrize("vector", _PAIRING_VECTORS, ids=["empty", "payloads"])


def _ends(vector: dict[str, Any]) -> tuple[_Handshake, _Handshake]:
    secret = {
        name: bytes.fromhex(vector[name])
        for name in ("prologue", "init_static", "init_ephemeral", "resp_static", "resp_ephemeral")
    }
    remote = bytes.fromhex(vector["init_remote_static"])
    return (
        _Handshake(
            _PROTOCOL, secret["prologue"], secret["init_static"], secret["init_ephemeral"], peer_public=remote
        ),
        _Handshake(_PROTOCOL, secret["prologue"], secret["resp_static"], secret["resp_ephemeral"]),
    )


def _messages(vector: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]


def _shaken(vector: dict[str, Any]) -> tuple[tuple[bytes, _Cipher, _Cipher], tuple[bytes, _Cipher, _Cipher]]:
    """Both ends after the handshake, whose bytes are checked on the way."""
    initiator, responder = _ends(vector)
    (first, first_sealed), (second, second_sealed), *_ = _messages(vector)
    assert initiator.write(first) == first_sealed
    assert responder.read(first_sealed) == first
    assert responder.write(second) == second_sealed
    assert initiator.read(second_sealed) == second
    return initiator.split(), responder.split()


@each_vector
def test_the_vector_is_of_the_pattern_that_the_channel_uses(vector: dict[str, Any]) -> None:
    assert vector["protocol_name"].encode() == _PROTOCOL


@each_vector
def test_handshake_messages_payloads_and_hash(vector: dict[str, Any]) -> None:
    (initiator_hash, *_), (responder_hash, *_) = _shaken(vector)
    assert initiator_hash.hex() == responder_hash.hex() == vector["handshake_hash"]


@each_vector
def test_the_responder_reads_the_key_of_the_initiator(vector: dict[str, Any]) -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    initiator, responder = _ends(vector)
    responder.read(initiator.write())
    own = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["init_static"]))
    assert responder.peer_public == own.public_key().public_bytes_raw()


@each_vector
def test_transport_messages_both_ways(vector: dict[str, Any]) -> None:
    (_, initiator_sends, initiator_receives), (_, responder_sends, responder_receives) = _shaken(vector)
    ways = [(initiator_sends, responder_receives), (responder_sends, initiator_receives)]
    transport = _messages(vector)[2:]
    assert len(transport) == 4
    for turn, (payload, sealed) in enumerate(transport):
        sends, receives = ways[turn % 2]
        assert sends.seal(payload) == sealed
        assert receives.open(sealed) == payload


@each_vector
def test_another_prologue_is_refused(vector: dict[str, Any]) -> None:
    initiator, _ = _ends(vector)
    _, responder = _ends({**vector, "prologue": "00"})
    with pytest.raises(_Refused):
        responder.read(initiator.write())


@each_vector
def test_the_last_nonce_is_never_used(vector: dict[str, Any]) -> None:
    (_, sends, _), (_, _, receives) = _shaken(vector)
    for cipher in (sends, receives):
        cipher._state.set_nonce(2**64 - 2)
    assert receives.open(sends.seal(b"the last one")) == b"the last one"
    with pytest.raises(_Refused):
        sends.seal(b"one too many")
    with pytest.raises(_Refused):
        receives.open(bytes(32))


# -- XXpsk0 ----------------------------------------------------------------------------------


def _pairing_ends(vector: dict[str, Any]) -> tuple[_Handshake, _Handshake]:
    def end(role: str, *, initiator: bool) -> _Handshake:
        return _Handshake(
            vector["protocol_name"].encode(),
            bytes.fromhex(vector["prologue"]),
            bytes.fromhex(vector[f"{role}_static"]),
            bytes.fromhex(vector[f"{role}_ephemeral"]),
            shared_key=bytes.fromhex(vector["psk"]),
            initiator=initiator,
        )

    return end("init", initiator=True), end("resp", initiator=False)


def test_the_pairing_vectors_differ_from_what_the_channel_uses_in_the_hash_only() -> None:
    # None are published with BLAKE2s, which the vectors of IK above cover.
    for vector in _PAIRING_VECTORS:
        assert vector["protocol_name"].replace("SHA256", "BLAKE2s").encode() == _PAIRING_PROTOCOL


@each_pairing_vector
def test_handshake_and_transport_messages_of_the_pairing_pattern(vector: dict[str, Any]) -> None:
    initiator, responder = _pairing_ends(vector)
    (first, first_sealed), (second, second_sealed), (third, third_sealed), *transport = _messages(vector)
    assert initiator.write(first) == first_sealed
    assert responder.read(first_sealed) == first
    assert responder.write(second) == second_sealed
    assert initiator.read(second_sealed) == second
    assert initiator.write(third) == third_sealed
    assert responder.read(third_sealed) == third
    initiator_hash, initiator_sends, initiator_receives = initiator.split()
    responder_hash, responder_sends, responder_receives = responder.split()
    assert initiator_hash == responder_hash
    ways = [(initiator_sends, responder_receives), (responder_sends, initiator_receives)]
    for (payload, sealed), (sends, receives) in zip(transport, ways, strict=True):
        assert sends.seal(payload) == sealed
        assert receives.open(sealed) == payload


@each_pairing_vector
def test_another_shared_key_is_refused(vector: dict[str, Any]) -> None:
    initiator, _ = _pairing_ends(vector)
    _, responder = _pairing_ends({**vector, "psk": "00" * 32})
    with pytest.raises(_Refused):
        responder.read(initiator.write())
