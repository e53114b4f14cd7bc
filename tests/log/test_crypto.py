"""Keys, signatures by the strict rules, and wrapping with real HPKE."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.adapters.keystore import SystemEntropy
from mlog.errors import BadSignature, InvalidInput
from mlog.log import crypto
from mlog.log.crypto import DeviceKeys, EpochKeys, LogKeys, Vault
from mlog.log.ids import DeviceId

from .support import SeededEntropy, device_keys

L = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
keys32 = st.binary(min_size=32, max_size=32)

# RFC 8032, 7.1, TEST 2 and 3; https://www.rfc-editor.org/rfc/rfc8032#section-7.1
RFC_8032 = [
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    ),
]
# The eight points of small order and their non-canonical encodings: "Taming the many EdDSAs"
# (Chalkias, Garillot, Nikolaenko, 2020), table 1; https://eprint.iacr.org/2020/1244
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


# -- signatures ------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "public"), RFC_8032)
def test_device_ids_are_ed25519_public_keys(seed: str, public: str):
    assert DeviceKeys(bytes.fromhex(seed), bytes(32), bytes(32)).id.hex() == public


@given(st.integers(0, 3), st.binary(max_size=64))
def test_what_a_device_signed_verifies(index: int, signed: bytes):
    device = device_keys(index)
    crypto.verify_signature(device.id, "entry", signed, device.sign("entry", signed))


def test_signatures_are_deterministic():
    assert device_keys(0).sign("entry", b"x") == device_keys(0).sign("entry", b"x")


@given(st.integers(0, 64 * 8 - 1))
def test_one_flipped_bit_of_a_signature_is_rejected(bit: int):
    device = device_keys(0)
    changed = bytearray(device.sign("entry", b"message"))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadSignature):
        crypto.verify_signature(device.id, "entry", b"message", bytes(changed))


@pytest.mark.parametrize(
    ("label", "message", "signer"),
    [("other", b"message", 0), ("entry", b"massage", 0), ("entry", b"message", 1), ("entry\0", b"essage", 0)],
)
def test_a_signature_holds_for_one_label_message_and_device(label: str, message: bytes, signer: int):
    signature = device_keys(0).sign("entry", b"message")
    with pytest.raises(BadSignature):
        crypto.verify_signature(device_keys(signer).id, label, message, signature)


def test_a_non_canonical_s_is_rejected():
    device = device_keys(0)
    signature = device.sign("entry", b"message")
    s = int.from_bytes(signature[32:], "little")
    for forged in (s + L, s + 2 * L):
        with pytest.raises(BadSignature):
            crypto.verify_signature(
                device.id, "entry", b"message", signature[:32] + forged.to_bytes(32, "little")
            )


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_keys_of_small_order_verify_nothing(key: str):
    # With such a key, R = the key's multiple and s = 0 satisfy the equation for many messages.
    for r in SMALL_ORDER:
        with pytest.raises(BadSignature):
            crypto.verify_signature(DeviceId(bytes.fromhex(key)), "entry", b"", bytes.fromhex(r) + bytes(32))


def test_a_non_canonical_key_is_rejected():
    for y in range(19):
        for sign in (0, 1 << 255):
            key = DeviceId((P + y | sign).to_bytes(32, "little"))
            with pytest.raises(BadSignature):
                crypto.verify_signature(key, "entry", b"", bytes(64))


def test_a_key_with_a_torsion_part_is_rejected():
    from nacl.bindings import crypto_core_ed25519_add

    # The sum of a device's key and the point of order 2: on the curve, outside the subgroup.
    mixed = DeviceId(crypto_core_ed25519_add(device_keys(0).id, bytes.fromhex(SMALL_ORDER[1])))
    with pytest.raises(BadSignature):
        crypto.verify_signature(mixed, "entry", b"x", device_keys(0).sign("entry", b"x"))


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=40))
def test_any_bytes_are_refused_as_a_signature(key: bytes, signature: bytes, message: bytes):
    with pytest.raises(BadSignature):
        crypto.verify_signature(DeviceId(key), "entry", message, signature)


# -- epochs and logs -------------------------------------------------------------------------


@given(keys32, keys32)
def test_every_derived_value_has_a_context_of_its_own(secret: bytes, salt: bytes):
    epoch, log = EpochKeys(1, secret), LogKeys(secret)
    values = [
        epoch.header_key(salt),
        epoch.outline,
        epoch.body_key(salt, outlined=False),
        epoch.body_key(salt, outlined=True),
        epoch.signature_key(salt),
        epoch.salt(salt, outlined=False),
        epoch.salt(salt, outlined=True),
        epoch.tag(salt),
        log.mac(salt),
        log.topic,
        log.epochs[0].secret,
        crypto.commitment(secret),
        secret,
    ]
    assert len({value[:16] for value in values}) == len(values)


def test_an_epoch_is_found_by_its_tag_and_learned_once():
    log = LogKeys(bytes(32))
    second, first, twin = EpochKeys(2, b"b" * 32), EpochKeys(1, b"a" * 32), EpochKeys(2, b"a" * 31 + b"b")
    for epoch in (second, first, second, twin):
        log.add_epoch(epoch)
    assert [epoch.number for epoch in log.epochs] == [0, 1, 2, 2]
    assert log.current is second
    assert log.epoch_of(b"salt", first.tag(b"salt")) is first
    assert log.epoch_of(b"salt", bytes(16)) is None


# -- sealing ---------------------------------------------------------------------------------


@given(keys32, st.binary(max_size=100), st.binary(max_size=20), st.data())
def test_sealed_bytes_open_only_unchanged(key: bytes, plain: bytes, associated: bytes, data: st.DataObject):
    sealed = crypto.seal(key, plain, associated)
    assert len(sealed) == len(plain) + crypto.TAG_SIZE
    assert crypto.open_sealed(key, sealed, associated) == plain
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    changed = bytearray(sealed)
    changed[at // 8] ^= 1 << at % 8
    for args in ((key, bytes(changed), associated), (key, sealed, associated + b"x")):
        with pytest.raises(InvalidInput):
            crypto.open_sealed(*args)


@given(keys32, st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes_are_refused_as_sealed(key: bytes, sealed: bytes, associated: bytes):
    with pytest.raises(InvalidInput):
        crypto.open_sealed(key, sealed, associated)


def test_a_vault_opens_what_it_sealed_under_the_same_label():
    vault = Vault(b"k" * 32)
    sealed = vault.seal("log", b"secret")
    assert vault.open("log", sealed) == b"secret"
    assert vault.seal("log", b"secret") == sealed
    assert vault.seal("log", b"secrets")[:16] != sealed[:16]
    for other, label, bytes_ in (
        (Vault(b"K" * 32), "log", sealed),
        (vault, "epoch", sealed),
        (vault, "log", sealed[:-1]),
        (vault, "log", b""),
        (vault, "log", bytes([sealed[0] ^ 1]) + sealed[1:]),
    ):
        with pytest.raises(InvalidInput):
            other.open(label, bytes_)


# -- wrapping --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrapped() -> bytes:
    return SystemEntropy().wrap(device_keys(0).hpke_public, b"s" * 32, b"info")


def test_a_device_unwraps_what_was_wrapped_for_it(wrapped: bytes):
    assert len(wrapped) == 1168
    assert crypto.unwrap(device_keys(0), wrapped, b"info") == b"s" * 32


def test_hpke_keys_have_their_sizes_and_follow_from_the_seed():
    assert len(device_keys(0).hpke_public) == 1216
    assert len(device_keys(0).noise_public) == 32
    assert device_keys(0).hpke_public == DeviceKeys(*device_keys(0)).hpke_public


def test_nothing_else_is_unwrapped(wrapped: bytes):
    changed = bytearray(wrapped)
    for at in (0, 600, 1087, 1088, 1119, 1120, 1167):
        changed[at] ^= 1
        with pytest.raises(InvalidInput):
            crypto.unwrap(device_keys(0), bytes(changed), b"info")
        changed[at] ^= 1
    for device, sealed, info in (
        (1, wrapped, b"info"),
        (0, wrapped, b"other"),
        (0, wrapped[:-1], b"info"),
        (0, wrapped + b"x", b"info"),
        (0, b"", b"info"),
    ):
        with pytest.raises(InvalidInput):
            crypto.unwrap(device_keys(device), sealed, info)


@given(st.binary(max_size=1300))
def test_any_bytes_are_refused_as_wrapped(sealed: bytes):
    with pytest.raises(InvalidInput):
        crypto.unwrap(device_keys(0), sealed, b"info")


@given(st.one_of(st.binary(max_size=100), st.binary(min_size=1216, max_size=1216)))
def test_any_bytes_are_a_public_key_or_refused(public: bytes):
    try:
        crypto.hpke_public_key(public)
    except InvalidInput:
        return
    assert len(public) == 1216


# -- secrets ---------------------------------------------------------------------------------


def test_secrets_stand_in_no_representation_and_no_error():
    secret = b"secret" + bytes(range(200, 226))
    device, vault = DeviceKeys(secret, secret, secret), Vault(secret)
    things = (device, [device], vault, LogKeys(secret), EpochKeys(1, secret))
    with pytest.raises(InvalidInput) as error:
        vault.open("log", vault.seal("epoch", secret))
    shown = [*(f"{thing!r} {thing}" for thing in things), f"{error.value!r} {error.value.__dict__}"]
    assert not [text for text in shown if "secret" in text or secret.hex() in text]


def test_the_seeded_entropy_of_the_tests_replays():
    one, another = SeededEntropy("seed"), SeededEntropy("seed")
    drawn = [one.random(size) for size in (1, 32, 8)]
    assert drawn == [another.random(size) for size in (1, 32, 8)]
    assert SeededEntropy("other").random(32) != SeededEntropy("seed").random(32)
