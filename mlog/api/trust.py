"""Trust files: how two homes of one person come to know each other, without a secret in the file.

Each home writes a file, and each reads the other's. The file is signed by the device that it tells
of, and good for a week. Reading one is a decision of the person who sits there: it must come from
a machine of their own, by a way that nobody else can write to. docs/protocol.md, 18.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.adapters.disk import disk_errors
from mlog.errors import BadSignature, InvalidInput, UserError
from mlog.log import crypto, trusting
from mlog.log.ids import DeviceId, Topic
from mlog.log.trusting import Claim, Outcome

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = [
    "Outcome",
    "TrustFile",
    "Trusted",
    "checked_address",
    "decode_trust",
    "export_trust",
    "import_trust",
    "make_trust",
    "usable_addresses",
]

_VERSION: Final = 1
_TYPE: Final = "device"
_LABEL: Final = "trust file"
_Bytes16: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Bytes32: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=limits.SEQ_MAX)]
_Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=limits.NAME_SIZE_MAX_BYTES)]


class TrustFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device says of itself; bytes stand in base64.

    Attributes:
        name, person: What device and person are called.
        topic, founded_ms: Of the person log that the device writes to, and of its first entry.
        devices: How many devices that person has.
        addresses: Where the device can be reached, as HOST:PORT.
        signature: By the device, over all other fields.
    """

    version: _Count
    type: str
    device: _Bytes32
    noise: _Bytes32
    hpke: Annotated[bytes, msgspec.Meta(min_length=1216, max_length=1216)]
    name: _Name
    person: _Name
    topic: _Bytes16
    founded_ms: _Count
    devices: _Count
    addresses: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=limits.ADDRESSES_MAX)]
    created_ms: _Count
    signature: Annotated[bytes, msgspec.Meta(max_length=crypto.SIGNATURE_SIZE)] = b""

    def signed(self) -> bytes:
        """What the signature is over: every field but itself, each as LENGTH:BYTES, in this order."""
        fields: tuple[bytes | str | int, ...] = (
            self.version,
            self.type,
            self.device,
            self.noise,
            self.hpke,
            self.name,
            self.person,
            self.topic,
            self.founded_ms,
            self.devices,
            b"".join(_netstring(address) for address in self.addresses),
            self.created_ms,
        )
        return b"".join(_netstring(field) for field in fields)


def _netstring(value: bytes | str | int) -> bytes:
    encoded = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:%b," % (len(encoded), encoded)


class _Kind(msgspec.Struct, frozen=True):
    version: int
    type: str


_DECODER: Final = msgspec.json.Decoder(TrustFile)
_KIND_DECODER: Final = msgspec.json.Decoder(_Kind)


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an imported trust file.

    Attributes:
        outcome: This home admitted the device; or joins that device's person, which is older; or
            both are of one person already.
    """

    device: DeviceId
    name: str
    person: str
    outcome: Outcome
    addresses: tuple[str, ...]


# -- the file --------------------------------------------------------------------------------


def decode_trust(encoded: bytes) -> TrustFile:
    """Parse and check a trust file.

    Raises:
        InvalidInput: Not a trust file, of a version or type that this mlog does not read, or damaged.
    """
    if len(encoded) > limits.TRUST_FILE_SIZE_MAX_BYTES:
        raise InvalidInput("it is larger than any trust file")
    try:
        kind = _KIND_DECODER.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidInput("it is not a trust file, or is damaged") from None
    if kind.type != _TYPE:
        raise InvalidInput(f"it is of another type ({kind.type[:40]!r}), and a file of a device is expected")
    if kind.version != _VERSION:
        raise InvalidInput(
            f"it is of version {kind.version}, and this mlog reads version {_VERSION}. Use the same mlog on "
            "both machines"
        )
    try:
        file = _DECODER.decode(encoded)
        crypto.verify_signature(DeviceId(file.device), _LABEL, file.signed(), file.signature)
    except (msgspec.DecodeError, UnicodeError, BadSignature):
        raise InvalidInput("it is damaged, or somebody changed it. Export it again") from None
    for address in file.addresses:
        checked_address(address)
    return file


def make_trust(home: Home, addresses: Sequence[str] = ()) -> bytes:
    """This device's trust file.

    Raises:
        UserError: An address is none, or there are too many.
    """
    if len(addresses) > limits.ADDRESSES_MAX:
        raise UserError(f"at most {limits.ADDRESSES_MAX} addresses.")
    device, person = home.replica.device_keys, trusting.own_person(home.replica)
    member = person.member(device.id)
    assert member is not None
    file = TrustFile(
        version=_VERSION,
        type=_TYPE,
        device=device.id,
        noise=device.noise_public,
        hpke=device.hpke_public,
        name=member.name,
        person=person.name,
        topic=person.topic,
        founded_ms=person.founded_ms,
        devices=len(person.machines),
        addresses=tuple(checked_address(address) for address in addresses),
        created_ms=home.now_ms(),
    )
    signed = msgspec.structs.replace(file, signature=device.sign(_LABEL, file.signed()))
    return msgspec.json.format(msgspec.json.encode(signed), indent=1) + b"\n"


def checked_address(address: str) -> str:
    """An address, as HOST:PORT; the host is a name, an IPv4 address, or an IPv6 address in brackets.

    Raises:
        UserError: It is none.
    """
    found = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[\w.-]{1,253}):([0-9]{1,5})", address, re.ASCII)
    if found is None or not 0 < int(found[1]) < 65_536:
        raise UserError(
            f"{address!r} is no address: write it as HOST:PORT, such as desk.example:7367 or "
            "[2001:db8::1]:7367."
        )
    return address


def usable_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those that are addresses, each once, of very many the first; a device may say anything of itself."""
    usable: list[str] = []
    for address in addresses:
        with suppress(UserError):
            usable.append(checked_address(address))
    return tuple(dict.fromkeys(usable))[: limits.ADDRESSES_MAX]


def export_trust(home: Home, path: Path, addresses: Sequence[str] = ()) -> None:
    """Write this device's trust file; whole or not at all.

    Raises:
        UserError: An address is none, or there are too many.
        StoreError: There is no room, or the file cannot be written.
    """
    content = make_trust(home, addresses)
    partial = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    with disk_errors(path):
        try:
            with partial.open("xb") as target:
                target.write(content)
                target.flush()
                os.fsync(target.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


# -- what it leads to ------------------------------------------------------------------------


def import_trust(home: Home, path: Path) -> Trusted:
    """Take another device as one of this person's, as its file says; again changes nothing.

    Of two persons the older one stays: this home admits the device, or will join that device's person
    once they have met.

    Raises:
        UserError: The file cannot be read, is this device's own, or expired; or both persons have
            further devices.
        InvalidInput: Not a trust file, or damaged.
    """
    file = _read(path)
    device, now_ms = DeviceId(file.device), home.now_ms()
    if device == home.replica.device_id:
        raise UserError(
            f"{path}: this is the file of this device itself. Carry it to the other one, and import the "
            "other one's here."
        )
    if file.created_ms + limits.TRUST_FILE_LIFE_MS < now_ms:
        raise UserError(f"{path}: this file is older than a week, and no longer good. Export it again.")
    if file.created_ms > now_ms + limits.CLOCK_SKEW_WARN_MS:
        raise UserError(
            f"{path}: this file is from the future. Put the clocks of both machines right, and export again."
        )
    claim = Claim(
        device=device,
        noise=file.noise,
        hpke=file.hpke,
        name=file.name,
        person=file.person,
        topic=Topic(file.topic),
        founded_ms=file.founded_ms,
        devices=file.devices,
        addresses=file.addresses,
    )
    outcome = trusting.trust(home.replica, claim, now_ms)
    addresses = next(peer.addresses for peer in home.store.peers() if peer.device == device)
    return Trusted(device=device, name=file.name, person=file.person, outcome=outcome, addresses=addresses)


def _read(path: Path) -> TrustFile:
    try:
        with path.open("rb") as stream:
            encoded = stream.read(limits.TRUST_FILE_SIZE_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: it cannot be read: {error.strerror or error}.") from None
    try:
        return decode_trust(encoded)
    except (InvalidInput, UserError) as error:
        raise InvalidInput(f"{str(error).removesuffix('.')}.", source=str(path)) from None
