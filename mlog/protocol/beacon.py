"""What a device says of itself on a LAN: to those who know it where it is, to all others nothing.

An announcement carries addresses and one short tag for each device that should recognise it. A tag is a
MAC under a key that only the two devices can make, over a random name, the addresses and the hour: a
stranger cannot tell tags from random bytes, nor two announcements of a device from those of two, and
who copies one elsewhere, or an hour later, is not recognised. Their number is padded.

Pure functions: sending and receiving is the work of whoever calls. Bytes and bounds: docs/protocol.md, 12.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import crypto
from mlog.log.crypto import Entropy
from mlog.log.ids import DeviceId

__all__ = [
    "TAG_SIZE",
    "Announcement",
    "PairKeys",
    "beacon_tags",
    "decode_txt",
    "decode_waiting",
    "encode_txt",
    "encode_waiting",
    "hour_of",
    "pair_keys",
    "random_instance",
    "recognise",
]

TAG_SIZE: Final = 8
TAGS_MIN: Final = 4

_HOUR_MS: Final = 3_600_000
_INSTANCE_SIZE: Final = 12
_INSTANCE: Final = re.compile("[a-z2-7]{12}")
_VERSION: Final = b"1"
_WAITS: Final = b"1"
_TAGS_PER_STRING: Final = 16
"""Tags in one string of a TXT record, 128 bytes: a string holds at most 255."""


class PairKeys(NamedTuple):
    """What two devices share for announcements; one key each way, so that none recognises itself.

    Attributes:
        announcing: Makes the tag that this device sends for the other one.
        recognising: Makes the tag that the other one sends for this device.
    """

    announcing: bytes
    recognising: bytes

    def __repr__(self) -> str:
        return "PairKeys(...)"


class Announcement(NamedTuple):
    """The content of a TXT record.

    Attributes:
        addresses: IP addresses with ports, as `192.0.2.7:7367` or `[2001:db8::7]:7367`, best first.
        tags: 8 bytes each, ascending.
    """

    addresses: tuple[str, ...]
    tags: tuple[bytes, ...]


def pair_keys(noise_seed: bytes, peer_noise_public: bytes) -> PairKeys:
    """The keys that this device shares with another one: two key agreements, 0.2 ms; worth keeping.

    Raises:
        InvalidInput: A public key that no device can have.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    private = X25519PrivateKey.from_private_bytes(noise_seed)
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(peer_noise_public))
    except ValueError:
        raise InvalidInput("not a usable X25519 public key") from None
    pair = crypto.derive("beacon pair", shared)
    own_public = private.public_key().public_bytes_raw()
    return PairKeys(crypto.keyed_hash(pair, own_public), crypto.keyed_hash(pair, peer_noise_public))


def hour_of(time_ms: int) -> int:
    """The hour that tags are made for; milliseconds since 1970 to hours since 1970."""
    return max(time_ms, 0) // _HOUR_MS


def random_instance(entropy: Entropy) -> str:
    """A name for one announcement: 12 characters of base32, 60 random bits.

    A new one is due with each hour, each change of the addresses and each change of the devices that
    should recognise it, else the tags that stay show that it is the same device, and how many are new.
    """
    return base64.b32encode(entropy.random(_INSTANCE_SIZE))[:_INSTANCE_SIZE].decode("ascii").lower()


def beacon_tags(
    pairs: Sequence[PairKeys], noise_seed: bytes, instance: str, addresses: Sequence[str], hour: int
) -> list[bytes]:
    """The tags of one announcement, ascending, and so in no order that tells anything.

    Args:
        pairs: Of the devices that should recognise it, most wanted first: those beyond
            BEACON_TAGS_MAX are left out, and are still found by what they announce themselves.
        noise_seed: Own X25519 private key, from which the tags that fill up are made.
        instance: Of `random_instance`.
        addresses: As in `Announcement`.
        hour: Of `hour_of`.

    Raises:
        InvalidInput: Addresses that cannot be announced.
    """
    assert _INSTANCE.fullmatch(instance)
    content = _content(instance, _pack(addresses), hour)
    tags = {_tag(pair.announcing, content) for pair in pairs[: limits.BEACON_TAGS_MAX]}
    wanted = TAGS_MIN
    while wanted < len(tags):
        wanted *= 2
    filler = crypto.derive("beacon filler", noise_seed)
    number = 0
    while len(tags) < wanted:
        tags.add(_tag(filler, content + number.to_bytes(8, "big")))
        number += 1
    return sorted(tags)


def recognise(
    known: Mapping[DeviceId, PairKeys], instance: str, announcement: Announcement, hour: int
) -> list[DeviceId]:
    """Which known device made an announcement: one, or none; more only if devices conspire.

    Args:
        instance: As it came from the network.
        announcement: Of `decode_txt`. Its addresses are vouched for, those in other records are not.
        hour: Now; clocks may be an hour apart.
    """
    if not _INSTANCE.fullmatch(instance):
        return []
    packed, tags = _pack(announcement.addresses), set(announcement.tags)
    contents = [_content(instance, packed, near) for near in (hour - 1, hour, hour + 1) if near >= 0]
    return [
        device
        for device, pair in known.items()
        if any(_tag(pair.recognising, content) in tags for content in contents)
    ]


def encode_txt(announcement: Announcement) -> dict[bytes, bytes]:
    """The strings of a TXT record, as keys and values.

    Raises:
        InvalidInput: Addresses that cannot be announced.
    """
    joined = b"".join(announcement.tags)
    size = _TAGS_PER_STRING * TAG_SIZE
    strings = [joined[start : start + size] for start in range(0, len(joined), size)]
    return {
        b"v": _VERSION,
        b"a": _pack(announcement.addresses),
        **{b"t%d" % number: string for number, string in enumerate(strings)},
    }


def decode_txt(strings: Mapping[bytes, bytes | None]) -> Announcement:
    """Read the strings of a TXT record that anybody on the network may have sent; others are ignored.

    Raises:
        InvalidInput: Not an announcement of version 1.
    """
    if strings.get(b"v") != _VERSION:
        raise InvalidInput("an announcement of another version")
    tags: list[bytes] = []
    for number in range(limits.BEACON_TAGS_MAX // _TAGS_PER_STRING):
        string = strings.get(b"t%d" % number)
        if string is None:
            break
        if not 0 < len(string) <= _TAGS_PER_STRING * TAG_SIZE or len(string) % TAG_SIZE:
            raise InvalidInput("an announcement with tags of another size")
        tags += [string[start : start + TAG_SIZE] for start in range(0, len(string), TAG_SIZE)]
    if not tags:
        raise InvalidInput("an announcement without tags")
    return Announcement(tuple(_unpack(strings.get(b"a") or b"")), tuple(sorted(tags)))


# -- devices that wait to be paired ----------------------------------------------------------


def encode_waiting(addresses: Sequence[str]) -> dict[bytes, bytes]:
    """The strings of a TXT record that says: here a device waits to be paired.

    Raises:
        InvalidInput: Addresses that cannot be announced.
    """
    return {b"v": _VERSION, b"a": _pack(addresses), b"p": _WAITS}


def decode_waiting(strings: Mapping[bytes, bytes | None]) -> tuple[str, ...]:
    """The addresses of a device that waits to be paired, of whatever anybody may have sent.

    Raises:
        InvalidInput: Something else, or of another version.
    """
    if strings.get(b"v") != _VERSION or strings.get(b"p") != _WAITS:
        raise InvalidInput("not a device that waits to be paired")
    return tuple(_unpack(strings.get(b"a") or b""))


# -- parts -----------------------------------------------------------------------------------


def _content(instance: str, packed: bytes, hour: int) -> bytes:
    return instance.encode("ascii") + hour.to_bytes(8, "big") + packed


def _tag(key: bytes, content: bytes) -> bytes:
    return crypto.keyed_hash(key, content, TAG_SIZE)


def _pack(addresses: Sequence[str]) -> bytes:
    """Each address as one byte with its length, its bytes, and the port as u16."""
    if not 0 < len(addresses) <= limits.BEACON_ADDRESSES_MAX:
        raise InvalidInput(f"{len(addresses)} addresses cannot be announced")
    return b"".join(_pack_one(address) for address in addresses)


def _pack_one(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ip_address(host[1:-1] if bracketed else host)
        number = int(port)
    except ValueError:
        raise InvalidInput("only IP addresses with a port can be announced") from None
    if bracketed != (ip.version == 6) or not 0 < number < 65_536:
        raise InvalidInput("only IP addresses with a port can be announced")
    return bytes([len(ip.packed)]) + _usable(ip).packed + number.to_bytes(2, "big")


def _unpack(packed: bytes) -> Iterator[str]:
    if not 0 < len(packed) <= limits.BEACON_ADDRESSES_MAX * (1 + 16 + 2):
        raise InvalidInput("an announcement without addresses, or with too many")
    at = 0
    count = 0
    while at < len(packed):
        size = packed[at]
        raw, port = packed[at + 1 : at + 1 + size], packed[at + 1 + size : at + 3 + size]
        count += 1
        if size not in (4, 16) or len(port) != 2 or port == b"\0\0" or count > limits.BEACON_ADDRESSES_MAX:
            raise InvalidInput("an announcement with addresses of another form")
        ip = _usable(ip_address(raw))
        number = int.from_bytes(port, "big")
        yield f"{ip}:{number}" if ip.version == 4 else f"[{ip}]:{number}"
        at += 3 + size


def _usable(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Refuses what names no one device, and IPv6 addresses that only mean something on one interface."""
    if ip.is_unspecified or ip.is_multicast or (ip.version == 6 and ip.is_link_local):
        raise InvalidInput("an address that no device can be reached at")
    return ip
