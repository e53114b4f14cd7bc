"""docs/protocol.md is enough: what stands there, written down a second time, makes the same bytes.

Nothing of mlog is imported here. Only BLAKE3, ChaCha20-Poly1305, ML-KEM, X25519 and Ed25519 signing
come from libraries; the section of the specification stands at each function.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_FOLDER = Path(__file__).resolve().parents[2] / "docs" / "vectors"


def _file(name: str) -> Any:
    return json.loads((_FOLDER / name).read_text(encoding="utf-8"))


# -- 3.1, 3.2 --------------------------------------------------------------------------------


def derive(context: str, data: bytes, size: int = 32) -> bytes:
    return blake3(data, derive_key_context="mlog v1 " + context).digest(size)


def keyed(key: bytes, data: bytes, size: int = 32) -> bytes:
    return blake3(data, key=key).digest(size)


def aead(key: bytes, plain: bytes, associated: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(bytes(12), plain, associated)


# -- 4.3 -------------------------------------------------------------------------------------


def padded(body: bytes) -> bytes:
    size = max(len(body), 32)
    if size > 32:
        exponent = size.bit_length() - 1
        step = 1 << (exponent - exponent.bit_length())
        size = (size + step - 1) // step * step
    return body + bytes(size - len(body))


def header_bytes(plain: dict[str, Any]) -> bytes:
    number = int.to_bytes
    return b"".join(
        [
            number(plain["kind"], 1, "big"),
            b"\0" if plain["mid"] is None else b"\1",
            bytes.fromhex(plain["device"]),
            bytes.fromhex(plain["incarnation"]),
            number(plain["seq"], 8, "big"),
            bytes.fromhex(plain["prev"]),
            number(plain["time_ms"], 8, "big"),
            number(plain["body_size"], 4, "big"),
            number(len(plain["parents"]), 1, "big"),
            bytes.fromhex(plain["mid"] or ""),
            *map(bytes.fromhex, plain["parents"]),
        ]
    )


def make_entry(
    log_secret: bytes, epoch_secret: bytes, week: int, header: bytes, body: bytes
) -> dict[str, bytes]:
    outline = derive("outline", epoch_secret)
    outlined = header[0] in {1, 2, 3, 6, 7, 8, 9, 34}
    salt_key = derive("outline salt", outline) if outlined else derive("salt", epoch_secret)
    body_secret = derive("outline body", outline) if outlined else derive("body", epoch_secret)
    salt = keyed(salt_key, header + body, 16)
    tag = keyed(derive("epoch tag", outline), salt, 16)
    head = b"\1" + derive("topic", log_secret, 16) + week.to_bytes(2, "big") + salt + tag
    sealed_body = aead(keyed(body_secret, salt), padded(body), head)
    head += derive("sealed body", sealed_body) + len(sealed_body).to_bytes(4, "big")
    head += (len(header) + 16).to_bytes(2, "big")
    outer = head + aead(keyed(derive("header", outline), salt), header, head)
    outer += keyed(derive("mac", log_secret), outer, 16)
    return {
        "salt": salt,
        "epoch_tag": tag,
        "sealed_body": sealed_body,
        "outer": outer,
        "id": derive("entry id", outer),
    }


_ENTRIES = _file("entries.json")


@pytest.mark.parametrize("case", _ENTRIES["valid"], ids=lambda case: case["note"][:40])
def test_an_entry_is_made_from_its_plain_values(case: dict[str, Any]) -> None:
    body = case["body"]
    if isinstance(body, dict) and "bytes" in body:
        body = bytes.fromhex(body["bytes"])
    elif isinstance(body, dict):
        body = (body["start"] + body["fill"] * body["count"] + body["end"]).encode()
    else:
        body = body.encode()
    log_secret, epoch = bytes.fromhex(_ENTRIES["log_secret"]), str(case["epoch"])
    epoch_secret = bytes.fromhex(_ENTRIES["epochs"][epoch])
    header = header_bytes(case["header"])
    made = make_entry(log_secret, epoch_secret, case["week"], header, body)
    made["signature"] = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex(_ENTRIES["signing_seeds"][case["author"]])
    ).sign(b"mlog v1 entry\0" + made["id"])
    key = keyed(derive("signature", derive("outline", epoch_secret)), made["salt"])
    made["sealed_signature"] = aead(key, made["signature"], made["id"])
    assert {name: value.hex() for name, value in made.items() if case[name] is not None} == {
        name: case[name] for name in made if case[name] is not None
    }


def test_epoch_0_follows_from_the_log_secret() -> None:
    assert derive("first epoch", bytes.fromhex(_ENTRIES["log_secret"])).hex() == _ENTRIES["epochs"]["0"]


# -- 3.3: X-Wing and HPKE --------------------------------------------------------------------


def unwrap(seed: bytes, sealed: bytes, info: bytes) -> bytes:
    expanded = hashlib.shake_256(seed).digest(96)
    x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
    shared = hashlib.sha3_256(
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).decapsulate(sealed[:1088])
        + x25519.exchange(X25519PublicKey.from_public_bytes(sealed[1088:1120]))
        + sealed[1088:1120]
        + x25519.public_key().public_bytes_raw()
        + b"\\.//^\\"
    ).digest()
    suite = b"HPKE-v1HPKE\x64\x7a\x00\x01\x00\x03"

    def extract(salt: bytes, label: bytes, material: bytes) -> bytes:
        return hmac.digest(salt, suite + label + material, "sha256")

    def expand(secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
        labelled = size.to_bytes(2, "big") + suite + label + context
        return hmac.digest(secret, labelled + b"\1", "sha256")[:size]

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, sealed[1120:], b"")


@pytest.mark.parametrize("case", _file("wraps.json")["valid"], ids=lambda case: case["note"][:40])
def test_a_wrapped_secret_opens(case: dict[str, Any]) -> None:
    info = b"mlog v1 epoch wrap\0" + bytes.fromhex(case["topic"]) + bytes.fromhex(case["author"])
    info += case["epoch"].to_bytes(8, "big") + bytes.fromhex(case["recipient"])
    sealed = bytes.fromhex(case["sealed"])
    assert unwrap(bytes.fromhex(case["hpke_seed"]), sealed, info).hex() == case["secret"]


# -- 3.4 -------------------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def point(encoded: bytes) -> tuple[int, int] | None:
    """The point that these 32 bytes are the one encoding of, or None."""
    y, sign = int.from_bytes(encoded, "little") % 2**255, encoded[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    return (x if x % 2 == sign else P - x, y)


def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P)
    return x % P, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def times(scalar: int, base: tuple[int, int]) -> tuple[int, int]:
    result = (0, 1)
    for bit in f"{scalar:b}":
        result = add(result, result)
        if bit == "1":
            result = add(result, base)
    return result


def is_valid(key: bytes, message: bytes, signature: bytes) -> bool:
    if len(key) != 32 or len(signature) != 64:
        return False
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    if times(8, a) == (0, 1) or times(L, a) != (0, 1) or times(8, r) == (0, 1):
        return False
    h = (
        int.from_bytes(hashlib.sha512(signature[:32] + key + b"mlog v1 entry\0" + message).digest(), "little")
        % L
    )
    base = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    assert base is not None
    return times(s, base) == add(r, times(h, a))


@pytest.mark.parametrize(
    ("case", "valid"),
    [(c, kind == "valid") for kind in ("valid", "invalid") for c in _file("signatures.json")[kind]],
    ids=lambda value: value["note"] if isinstance(value, dict) else str(value),
)
def test_the_rule_of_valid_signatures(case: dict[str, Any], valid: bool) -> None:
    key, message, signature = (bytes.fromhex(case[name]) for name in ("key", "message", "signature"))
    assert is_valid(key, message, signature) is valid


# -- 6.1, 7 ----------------------------------------------------------------------------------


def test_rank_of_every_entry() -> None:
    file = _file("view.json")
    log_secret = bytes.fromhex(file["log_secret"])
    outlines = [derive("outline", bytes.fromhex(secret)) for secret in file["epochs"].values()]
    read: dict[bytes, tuple[str, int, bool, list[bytes]]] = {}
    for vector in file["entries"]:
        outer = bytes.fromhex(vector["outer"])
        assert keyed(derive("mac", log_secret), outer[:-16], 16) == outer[-16:]
        outline = next(o for o in outlines if keyed(derive("epoch tag", o), outer[19:35], 16) == outer[35:51])
        key = keyed(derive("header", outline), outer[19:35])
        header = ChaCha20Poly1305(key).decrypt(bytes(12), outer[89:-16], outer[:89])
        retold = header[0] == 4 or header[1] == 1
        tail = header[95 + 16 * header[1] :]
        named = [header[50:82], *(tail[at : at + 32] for at in range(0, len(tail), 32))]
        time_ms = int.from_bytes(header[82:90], "big")
        read[derive("entry id", outer)] = (vector["name"], time_ms, retold, named)

    def rank(id_: bytes) -> int:
        _, time_ms, retold, named = read[id_]
        before = [parent for parent in named if parent in read and (read[parent][2] or not retold)]
        return max([time_ms, *(rank(parent) + 1 for parent in before)])

    order = sorted((rank(id_), id_) for id_ in read)
    assert [{"name": read[id_][0], "rank": rank_} for rank_, id_ in order] == file["order"]


@pytest.mark.parametrize("case", _file("digests.json")["valid"], ids=lambda case: case["note"])
def test_root_of_a_log(case: dict[str, Any]) -> None:
    hashed = b""
    for segment in case["segments"]:
        all_ids = [bytes.fromhex(e["id"]) for e in segment["entries"]]
        held = [bytes.fromhex(e["id"]) for e in segment["entries"] if e["body"]]
        if all_ids:
            hashed += segment["week"].to_bytes(2, "big")
            hashed += len(all_ids).to_bytes(8, "big") + len(held).to_bytes(8, "big")
            hashed += derive("segment entries", b"".join(all_ids)) + derive("segment bodies", b"".join(held))
    assert derive("log root", hashed).hex() == case["root"]


# -- 2.2 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", _file("message_ids.json")["valid"], ids=lambda case: case["note"])
def test_message_id(case: dict[str, Any]) -> None:
    fields = [case["rule"], *map(str, case["fields"])]
    if case["rule"] == "entry":
        made = bytes.fromhex(case["fields"][0])[:16]
    elif case["rule"] == "chat":
        made = derive("chat key", case["fields"][0].encode(), 16)
    else:
        written = b"".join(b"%d:%b," % (len(field.encode()), field.encode()) for field in fields)
        made = blake3(written, derive_key_context="mlog 2026 message identity v1").digest(16)
    assert made.hex() == case["message_id"]


# -- 16 --------------------------------------------------------------------------------------


def statement_bytes(plain: dict[str, Any]) -> bytes:
    sizes = {"first_week": 2, "entries": 8, "bodies": 8, "time_ms": 8, "expires_ms": 8}
    order = ["topic", "first_week", "entries", "bodies", "entries_root", "bodies_root"]
    return b"".join(
        plain[name].to_bytes(sizes[name], "big") if name in sizes else bytes.fromhex(plain[name])
        for name in [*order, "time_ms", "expires_ms"]
    )


def tree(leaves: list[bytes], index: int) -> tuple[bytes, list[bytes]]:
    """Root, and the path from one leaf, as RFC 6962 defines both: from the top down."""
    if len(leaves) == 1:
        return leaves[0], []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    left, left_path = tree(leaves[:k], min(index, k - 1))
    right, right_path = tree(leaves[k:], max(index - k, 0))
    path = [*left_path, right] if index < k else [*right_path, left]
    return derive("receipt node", left + right), path


@pytest.mark.parametrize("case", _file("receipts.json")["valid"])
def test_receipts(case: dict[str, Any]) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["signing_seed"]))
    statements = [statement_bytes(plain) for plain in case["statements"]]
    leaves = [derive("receipt leaf", statement) for statement in statements]
    count = len(leaves).to_bytes(4, "big")
    for index, proof in enumerate(case["proofs"]):
        root, path = tree(leaves, index)
        signature = key.sign(b"mlog v1 receipt\0" + count + root)
        assert signature.hex() == case["signature"]
        parts = [statements[index], index.to_bytes(4, "big"), count, *path, signature]
        assert (key.public_key().public_bytes_raw() + b"".join(parts)).hex() == proof
