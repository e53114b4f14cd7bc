"""Codes and links: the one-use secrets that a person carries from one device to another.

A code has 66 random bits, as six of the 2,048 English words of BIP39; a link, or a QR code with the
same text, has 32 random bytes and says where and who the device is that made it. Both give a key for
one handshake (`shared_key`). What a person types is read kindly: four letters of each word are
enough. Each kind of link has a name of its own, and is refused where another kind is expected.
Bytes and vectors: docs/protocol.md, 19.
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import IntEnum
from struct import Struct
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import UserError
from mlog.log import crypto
from mlog.log.crypto import Entropy
from mlog.log.phrase import WORD_BITS, number_of, similar_words, word_list

__all__ = [
    "CODE_WORDS",
    "LINK_SECRET_SIZE",
    "Code",
    "Link",
    "LinkType",
    "decode_link",
    "encode_link",
    "expect_link",
    "is_link",
    "new_code",
    "parse_code",
    "shown_words",
]

CODE_WORDS: Final = 6
LINK_SECRET_SIZE: Final = 32
FINGERPRINT_SIZE: Final = 16

_CODE_BITS: Final = CODE_WORDS * WORD_BITS
_CODE_SIZE: Final = (_CODE_BITS + 7) // 8
_SHOWN_WORDS: Final = 4

_LINK_VERSION: Final = 1
_LINK_HEAD: Final = Struct(f">BBI{LINK_SECRET_SIZE}s{FINGERPRINT_SIZE}sB")
_CHECKSUM_SIZE: Final = 4
_LINK: Final = re.compile(r"mlog:([a-z]{1,16})#([A-Za-z0-9_-]*)", re.ASCII)


# -- words -----------------------------------------------------------------------------------


def shown_words(binding: bytes) -> tuple[str, ...]:
    """Four words that both screens show: equal where both ends have the same channel, and only there."""
    bits = _SHOWN_WORDS * WORD_BITS
    number = int.from_bytes(crypto.derive("pairing words", binding, 8)) >> (64 - bits)
    return _words_of(number, _SHOWN_WORDS)


def _words_of(number: int, count: int) -> tuple[str, ...]:
    words = word_list()
    shifts = range((count - 1) * WORD_BITS, -1, -WORD_BITS)
    return tuple(words[number >> shift & 2047] for shift in shifts)


# -- codes -----------------------------------------------------------------------------------


class Code(msgspec.Struct, frozen=True):
    """A one-use secret that can be read out.

    Attributes:
        number: Of 66 bits.
    """

    number: int

    @property
    def text(self) -> str:
        """Its six words."""
        return " ".join(_words_of(self.number, CODE_WORDS))

    @property
    def shared_key(self) -> bytes:
        """For the handshake."""
        return crypto.derive("pairing code", self.number.to_bytes(_CODE_SIZE))

    def __repr__(self) -> str:
        return "Code(...)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


def new_code(entropy: Entropy) -> Code:
    """A code that nobody has seen."""
    return Code(int.from_bytes(entropy.random(_CODE_SIZE)) >> (_CODE_SIZE * 8 - _CODE_BITS))


def parse_code(text: str) -> Code:
    """Read what a person typed: any case, words cut to four letters or more, any spaces or hyphens.

    Raises:
        UserError: Not six words of the list; names the one that is not, and what it may have meant.
    """
    if len(text) > limits.PAIRING_TEXT_SIZE_MAX_BYTES:
        raise UserError(f"a code has {CODE_WORDS} words, and this is far longer.")
    typed = re.split(r"[\s-]+", text.strip(" \t\r\n-").casefold())
    typed = [word for word in typed if word]
    if len(typed) != CODE_WORDS:
        raise UserError(f"a code has {CODE_WORDS} words, and here are {len(typed)}. Type it again.")
    number = 0
    for place, word in enumerate(typed, 1):
        number = number << WORD_BITS | _number_of(word, place)
    return Code(number)


def _number_of(typed: str, place: int) -> int:
    number = number_of(typed)
    if number is not None:
        return number
    meant = similar_words(typed)
    hint = f" Did you mean {' or '.join(meant)}?" if meant else ""
    # The word itself is left out: what is printed here may end up in a log.
    raise UserError(f"word {place} of the code is none of the list.{hint}")


# -- links -----------------------------------------------------------------------------------


class LinkType(IntEnum):
    """What a link is for."""

    DEVICE = 1
    PERSON = 2


_NAMES: Final = {LinkType.DEVICE: "pair", LinkType.PERSON: "invite"}
_SAID: Final = {
    LinkType.DEVICE: "for pairing a device of your own ('mlog pair')",
    LinkType.PERSON: "an invitation for another person",
}


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What a link says.

    Attributes:
        expires_s: Until when it is good, in seconds since 1970.
        secret: 32 random bytes.
        fingerprint: Of the keys of the device that made it (`mlog.protocol.pairing.fingerprint`).
        addresses: Where that device can be reached, as HOST:PORT, best first.
    """

    type: LinkType
    expires_s: int
    secret: bytes
    fingerprint: bytes
    addresses: tuple[str, ...] = ()

    @property
    def shared_key(self) -> bytes:
        """For the handshake."""
        return crypto.derive("pairing link", self.secret)

    def __repr__(self) -> str:
        return "Link(...)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


def is_link(text: str) -> bool:
    """Whether this is meant to be a link, and not a code."""
    return text.strip().casefold().startswith("mlog:")


def encode_link(link: Link) -> str:
    """The link as text; at most ADDRESSES_MAX addresses are put into it, as long as they fit."""
    addresses = b""
    count = 0
    for address in link.addresses[: limits.ADDRESSES_MAX]:
        encoded = address.encode("ascii")
        if len(encoded) > 255 or len(addresses) + 1 + len(encoded) > limits.PAIRING_ADDRESSES_SIZE_MAX_BYTES:
            continue
        addresses += bytes([len(encoded)]) + encoded
        count += 1
    head = _LINK_HEAD.pack(_LINK_VERSION, link.type, link.expires_s, link.secret, link.fingerprint, count)
    content = head + addresses
    text = base64.urlsafe_b64encode(content + _checksum(content)).rstrip(b"=").decode("ascii")
    return f"mlog:{_NAMES[link.type]}#{text}"


def decode_link(text: str) -> Link:
    """Read a link of any type; whether it is the right one, and still good, says `expect_link`.

    Raises:
        UserError: Not a link, of a newer version, or damaged.
    """
    text = text.strip()
    if len(text) > limits.PAIRING_TEXT_SIZE_MAX_BYTES:
        raise UserError("this is longer than any link of mlog. Copy the link again, and nothing else.")
    found = _LINK.fullmatch(text)
    if found is None or found[1] not in _NAMES.values():
        raise UserError("this is not a link of mlog, or only a part of one. Copy all of it.")
    damaged = UserError("this link is damaged, or only a part of it is here. Copy all of it.")
    try:
        content = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4))
    except binascii.Error:
        raise damaged from None
    if content and content[0] > _LINK_VERSION:
        raise UserError("this link was made by a newer mlog. Install that one here too, then try again.")
    sealed, checksum = content[:-_CHECKSUM_SIZE], content[-_CHECKSUM_SIZE:]
    canonical = base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii") == found[2]
    if len(sealed) < _LINK_HEAD.size or checksum != _checksum(sealed) or not canonical:
        raise damaged
    version, kind, expires_s, secret, fingerprint, count = _LINK_HEAD.unpack_from(sealed)
    addresses = _addresses(sealed[_LINK_HEAD.size :], count)
    if version != _LINK_VERSION or addresses is None or _NAMES.get(kind) != found[1]:
        raise damaged
    return Link(
        type=LinkType(kind),
        expires_s=expires_s,
        secret=secret,
        fingerprint=fingerprint,
        addresses=addresses,
    )


def expect_link(link: Link, expected: LinkType, now_ms: int) -> None:
    """That a link is of this type, and still good.

    Raises:
        UserError: It is not; says what it is.
    """
    if link.type != expected:
        raise UserError(f"this link is {_SAID[link.type]}, and one {_SAID[expected]} is expected here.")
    if link.expires_s * 1000 <= now_ms:
        raise UserError(
            "this link is no longer good. Make a new one; if it is new, put the clocks of both devices right."
        )


def _addresses(packed: bytes, count: int) -> tuple[str, ...] | None:
    """The addresses of a link, or None where they are not in this form."""
    if count > limits.ADDRESSES_MAX or len(packed) > limits.PAIRING_ADDRESSES_SIZE_MAX_BYTES:
        return None
    found: list[str] = []
    at = 0
    for _ in range(count):
        size = packed[at] if at < len(packed) else 0
        raw = packed[at + 1 : at + 1 + size]
        if not raw or len(raw) != size or not all(0x21 <= byte <= 0x7E for byte in raw):
            return None
        found.append(raw.decode("ascii"))
        at += 1 + size
    return tuple(found) if at == len(packed) else None


def _checksum(content: bytes) -> bytes:
    return crypto.hash_with_context("pairing link checksum", content)[:_CHECKSUM_SIZE]
