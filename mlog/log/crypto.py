"""Keys and the primitives that use them: the only module of the core that touches a cipher.

Everything here is a pure function of its arguments. What needs entropy (new secrets, HPKE
wrapping) is handed in as an `Entropy`, so that a seed replays a whole network. Constructions,
contexts and test vectors: docs/protocol.md, 3.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from mlog.errors import BadSignature, InvalidInput
from mlog.log.ids import DeviceId, Topic

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hpke

__all__ = [
    "SIGNATURE_SIZE",
    "TAG_SIZE",
    "WRAP_SIZE",
    "DeviceKeys",
    "Entropy",
    "EpochKeys",
    "LogKeys",
    "Vault",
    "commitment",
    "derive",
    "founding_secret",
    "hash_with_context",
    "hasher",
    "hpke_public_key",
    "hpke_suite",
    "keyed_hash",
    "open_sealed",
    "seal",
    "unwrap",
    "verify_signature",
    "wrap_info",
]

SECRET_SIZE: Final = 32
TAG_SIZE: Final = 16
SIGNATURE_SIZE: Final = 64
WRAP_SIZE: Final = 1168
"""Of a secret wrapped for a device: what HPKE encapsulates, 1,120 bytes, the secret and a tag."""

_NONCE: Final = bytes(12)
"""Every key seals exactly one message, so the nonce never varies."""


class Entropy(Protocol):
    """Where randomness enters: the system's generator, or a seeded one in the simulator."""

    def random(self, size: int) -> bytes:
        """That many random bytes."""
        ...

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        """HPKE-seal a secret for a public key; HPKE draws randomness of its own.

        Raises:
            InvalidInput: Not a key for which anything can be sealed.
        """
        ...


def derive(context: str, material: bytes, size: int = SECRET_SIZE) -> bytes:
    """BLAKE3 in derive_key mode: a key for one purpose, named by its context."""
    return blake3(material, derive_key_context=f"mlog v1 {context}").digest(length=size)


def keyed_hash(key: bytes, data: bytes, size: int = SECRET_SIZE) -> bytes:
    """BLAKE3 in keyed mode."""
    return blake3(data, key=key).digest(length=size)


def hash_with_context(context: str, data: bytes) -> bytes:
    """BLAKE3 of public bytes, apart from every other use of BLAKE3; 32 bytes."""
    hash_ = hasher(context)
    hash_.update(data)
    return hash_.digest()


def hasher(context: str) -> blake3:
    """`hash_with_context` for bytes that come in parts."""
    return _fresh_hasher(context).copy()


@lru_cache(maxsize=16)
def _fresh_hasher(context: str) -> blake3:
    return blake3(derive_key_context=f"mlog v1 {context}")


def seal(key: bytes, plain: bytes, associated: bytes) -> bytes:
    """ChaCha20-Poly1305 under a key that is used once; `len(plain) + TAG_SIZE` bytes."""
    return ChaCha20Poly1305(key).encrypt(_NONCE, plain, associated)


def open_sealed(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The plain bytes.

    Raises:
        InvalidInput: Not sealed under this key with this associated data.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, associated)
    except InvalidTag:
        raise InvalidInput("sealed bytes do not open") from None


class EpochKeys:
    """What one epoch secret gives; see docs/protocol.md, 3.2.

    Its **outline** follows from the secret, and opens headers, signatures and the bodies that carry the log
    itself: who belongs to it, and how entries hang together. What was said takes the secret. So whoever
    joins without the history is given the outlines of the epochs before, and folds what all others fold.

    Attributes:
        number: Epoch number; 0 is derived from the log's secret and seals only the first entry.
        secret: b"" where only the outline is known.
    """

    __slots__ = ("_bodies", "_header", "_salts", "_signature", "_tag", "number", "outline", "secret")

    def __init__(self, number: int, secret: bytes, outline: bytes = b""):
        assert secret or outline
        self.number = number
        self.secret = secret
        self.outline = outline or derive("outline", secret)
        self._tag = derive("epoch tag", self.outline)
        self._header = derive("header", self.outline)
        self._signature = derive("signature", self.outline)
        # By whether the outline opens it.
        self._salts = derive("salt", secret) if secret else b"", derive("outline salt", self.outline)
        self._bodies = derive("body", secret) if secret else b"", derive("outline body", self.outline)

    def salt(self, content: bytes, *, outlined: bool) -> bytes:
        """Synthetic salt of an entry: differs wherever header or body differ.

        Whoever could make it of a body would find out a short one by trying; so it takes what opens that.
        """
        return blake3(content, key=self._salts[outlined]).digest(length=16)

    def tag(self, salt: bytes) -> bytes:
        """Tells members which epoch sealed an entry, and commits to it; new in each entry."""
        return blake3(salt, key=self._tag).digest(length=16)

    def header_key(self, salt: bytes) -> bytes:
        return blake3(salt, key=self._header).digest()

    def opens(self, *, outlined: bool) -> bool:
        """Whether what is known of it opens a body."""
        return outlined or bool(self.secret)

    def body_key(self, salt: bytes, *, outlined: bool) -> bytes:
        return blake3(salt, key=self._bodies[outlined]).digest()

    def signature_key(self, salt: bytes) -> bytes:
        return blake3(salt, key=self._signature).digest()


class LogKeys:
    """What a log's secret gives its members: topic, MAC, and the epochs they know.

    Attributes:
        epochs: What opens entries, in the order of their numbers.
        granted: Epochs that another device gave and that no key entry here states yet, by commitment.
            Nothing is opened with them: who began one may have given it to some members only.
    """

    __slots__ = ("_known", "_mac", "epochs", "granted", "secret", "topic")

    def __init__(self, secret: bytes):
        self.secret = secret
        self.topic = Topic(derive("topic", secret, 16))
        self._mac = derive("mac", secret)
        self.epochs = [EpochKeys(0, derive("first epoch", secret))]
        self._known = {self.epochs[0].outline: self.epochs[0]}
        self.granted: dict[bytes, EpochKeys] = {}

    def mac(self, outer: bytes) -> bytes:
        """16 bytes that only members can make."""
        return blake3(outer, key=self._mac).digest(length=TAG_SIZE)

    @property
    def current(self) -> EpochKeys:
        return next(epoch for epoch in reversed(self.epochs) if epoch.secret)

    @property
    def whole(self) -> list[EpochKeys]:
        """The epochs of which the secret is known, and not the outline alone; without epoch 0."""
        return [epoch for epoch in self.epochs[1:] if epoch.secret]

    @property
    def outlines(self) -> list[EpochKeys]:
        """The epochs of which only the outline is known."""
        return [epoch for epoch in self.epochs if not epoch.secret]

    def lacks(self, epoch: EpochKeys) -> bool:
        """Whether an epoch is new here, or gives more than is known of it."""
        known = self._known.get(epoch.outline)
        return known is None or (bool(epoch.secret) and not known.secret)

    def outline_of(self, epoch: EpochKeys) -> EpochKeys | None:
        """Of an epoch what is known, where that is only the outline."""
        known = self._known.get(epoch.outline)
        return known if known is not None and not known.secret else None

    def add_epoch(self, epoch: EpochKeys) -> None:
        """Learn one more epoch, or the secret of one; what is known already is left as it is."""
        if not self.lacks(epoch):
            return
        if (outline := self.outline_of(epoch)) is not None:
            self.epochs.remove(outline)
        self._known[epoch.outline] = epoch
        if self.granted and epoch.secret:
            self.granted.pop(commitment(epoch.secret), None)
        insort(self.epochs, epoch, key=lambda known: (known.number, known.outline))

    def add_granted(self, epoch: EpochKeys) -> bool:
        """Keep an epoch until a key entry states it; whether it is new."""
        stated = commitment(epoch.secret)
        if not self.lacks(epoch) or stated in self.granted:
            return False
        self.granted[stated] = epoch
        return True

    def epoch_of(self, salt: bytes, tag: bytes) -> EpochKeys | None:
        """The epoch that sealed an entry, newest first, or None if we do not have it."""
        for epoch in reversed(self.epochs):
            if epoch.tag(salt) == tag:
                return epoch
        return None


class DeviceKeys(NamedTuple):
    """Three seeds of 32 bytes, from which all keys of a device follow."""

    signing_seed: bytes
    noise_seed: bytes
    hpke_seed: bytes

    @property
    def id(self) -> DeviceId:
        return DeviceId(_signer(self.signing_seed).public_key().public_bytes_raw())

    def sign(self, label: str, message: bytes) -> bytes:
        """Ed25519 over the label, a zero byte and the message; 64 bytes."""
        return _signer(self.signing_seed).sign(_labelled(label, message))

    @property
    def noise_public(self) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return X25519PrivateKey.from_private_bytes(self.noise_seed).public_key().public_bytes_raw()

    @property
    def hpke_public(self) -> bytes:
        """MLKEM768 encapsulation key, then X25519 public key: 1,216 bytes."""
        mlkem_key, x25519_key = _hpke_parts(self.hpke_seed)
        return mlkem_key.public_key().public_bytes_raw() + x25519_key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return "DeviceKeys(...)"


@lru_cache(maxsize=4)
def _signer(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


def _labelled(label: str, message: bytes) -> bytes:
    return b"mlog v1 " + label.encode("ascii") + b"\0" + message


def verify_signature(device: DeviceId, label: str, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature by the strict rules of docs/protocol.md, 3.4.

    Raises:
        BadSignature: The key is not a canonical point of the prime-order subgroup, or it did
            not sign this message under this label.
    """
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import BadSignatureError

    if len(signature) != SIGNATURE_SIZE or not _is_strong_key(device):
        raise BadSignature("signature or key of an unusable form")
    try:
        crypto_sign_open(signature + _labelled(label, message), device)
    except (BadSignatureError, ValueError):
        raise BadSignature("the device did not sign this") from None


@lru_cache(maxsize=4096)
def _is_strong_key(device: DeviceId) -> bool:
    from nacl.bindings import crypto_core_ed25519_is_valid_point

    return len(device) == 32 and crypto_core_ed25519_is_valid_point(device)


class Vault:
    """Seals secrets that the database keeps, under a key that is not in the database.

    A copy of the database file, handed to a script or another person, so gives away what was
    read, never the keys to read on.
    """

    def __init__(self, storage_key: bytes):
        self._key = storage_key

    def seal(self, label: str, secret: bytes) -> bytes:
        salt = keyed_hash(derive("vault salt", self._key), label.encode() + b"\0" + secret, 16)
        return salt + seal(self._entry_key(salt), secret, label.encode())

    def open(self, label: str, sealed: bytes) -> bytes:
        """The secret.

        Raises:
            InvalidInput: Damaged, or sealed under another device's key or label.
        """
        return open_sealed(self._entry_key(sealed[:16]), sealed[16:], label.encode())

    def _entry_key(self, salt: bytes) -> bytes:
        return keyed_hash(derive("vault", self._key), salt)


def founding_secret(device: DeviceId, seed: bytes, kind: str) -> bytes:
    """The secret of a log that a device begins: nobody finds another device or seed that gives the same."""
    return derive("log secret", device + seed + kind.encode())


def commitment(secret: bytes) -> bytes:
    """What a key entry states of its secret, so that all readers get the same one; 32 bytes."""
    return hash_with_context("epoch commitment", secret)


def wrap_info(topic: Topic, author: bytes, epoch: int, recipient: bytes) -> bytes:
    """Binds a wrapped epoch secret to its log, author, epoch and recipient (HPKE's `info`)."""
    return b"mlog v1 epoch wrap\0" + topic + author + epoch.to_bytes(8, "big") + recipient


def hpke_suite() -> hpke.Suite:
    """HPKE (RFC 9180) with MLKEM768_X25519, HKDF-SHA256 and ChaCha20-Poly1305."""
    from cryptography.hazmat.primitives import hpke

    return hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def hpke_public_key(public: bytes) -> hpke.MLKEM768X25519PublicKey:
    """A recipient's key from its 1,216 bytes.

    Raises:
        InvalidInput: Not such a key.
    """
    from cryptography.hazmat.primitives import hpke
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    try:
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:1184]),
            X25519PublicKey.from_public_bytes(public[1184:]),
        )
    except ValueError:
        raise InvalidInput("not an MLKEM768_X25519 public key") from None


def unwrap(device: DeviceKeys, sealed: bytes, info: bytes) -> bytes:
    """Open what was wrapped for this device.

    Raises:
        InvalidInput: It was not, or not for this purpose.
    """
    from cryptography.hazmat.primitives import hpke

    private = hpke.MLKEM768X25519PrivateKey(*_hpke_parts(device.hpke_seed))
    try:
        return hpke_suite().decrypt(sealed, private, info)
    except (InvalidTag, InvalidSignature, ValueError):
        raise InvalidInput("not wrapped for this device") from None


@lru_cache(maxsize=4)
def _hpke_parts(seed: bytes):
    """X-Wing's key expansion: SHAKE256 of 32 bytes gives the ML-KEM seed and the X25519 key."""
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    expanded = hashlib.shake_256(seed).digest(96)
    return (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        X25519PrivateKey.from_private_bytes(expanded[64:]),
    )
