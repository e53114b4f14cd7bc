"""Entry: one immutable node of a log's Merkle DAG, as sealed bytes and as an opened header.

An entry names its parents by hash, so a log is a DAG that only grows. Header and body are sealed
apart, so that a body can be erased or fetched later while links and hashes still verify. Sealing
is a pure function of secrets, header and body: whoever can read an entry can make its bytes, and
so its id, again. Wire format and vectors: docs/protocol.md, 4.

    outer:  version 1 | topic 16 | week 2 | salt 16 | epoch tag 16 | body hash 32 | body size 4 |
            header size 2 | sealed header | MAC 16
    header: kind 1 | flags 1 | device 32 | incarnation 8 | seq 8 | prev 32 | time 8 | body size 4 |
            parents 1 | mid 16 if imported | parents 32 each
"""

from __future__ import annotations

from itertools import pairwise
from struct import Struct
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import BadSignature, InvalidInput, LimitExceeded
from mlog.log import crypto
from mlog.log.bodies import OUTLINED
from mlog.log.crypto import DeviceKeys, EpochKeys, LogKeys
from mlog.log.ids import (
    ENTRY_ID_SIZE,
    MESSAGE_ID_SIZE,
    DeviceId,
    EntryId,
    Incarnation,
    MessageId,
    Topic,
)

__all__ = [
    "NO_ENTRY",
    "VERSION",
    "Header",
    "Outer",
    "Sealed",
    "Unsealed",
    "entry_id",
    "from_tail",
    "is_body_of",
    "open_body",
    "open_header",
    "open_signature",
    "padded_size",
    "parse_any",
    "parse_outer",
    "seal_body",
    "seal_entry",
    "sign_entry",
    "stated_size",
    "to_tail",
    "unseal",
    "unseal_blind",
    "verify_entry_signature",
]

VERSION: Final = 1
_VERSION_1: Final = bytes([VERSION])
NO_ENTRY: Final = EntryId(bytes(ENTRY_ID_SIZE))

_OUTER: Final = Struct(">B16sH16s16s32sIH")
_OUTER_BODY_AAD: Final = 51
"""The body is bound to everything before its own hash: version, topic, week, salt, epoch tag."""
_BODY_SIZE_AT: Final = 83
_HEADER: Final = Struct(">BB32s8sQ32sQIB")
_IMPORTED: Final = 1
_HEADER_SIZE_MAX: Final = _HEADER.size + MESSAGE_ID_SIZE + limits.PARENTS_MAX * ENTRY_ID_SIZE
_OUTER_SIZE_MIN: Final = _OUTER.size + crypto.TAG_SIZE
_OUTER_SIZE_MAX: Final = _OUTER_SIZE_MIN + _HEADER_SIZE_MAX + crypto.TAG_SIZE
_TAIL_START: Final = 17
"""Version and topic, which both ends of a transfer know."""
_WHOLE: Final = 0xFF
"""First byte of a tail that is all of an entry; of others it is the week's, at most 0x1F."""
_SIGNATURE_LABEL: Final = "entry"


class Header(msgspec.Struct, frozen=True, gc=False):
    """The opened inner header.

    Attributes:
        kind: What the entry is (`mlog.log.bodies.Kind`); unknown kinds are kept, not read.
        device: Author.
        incarnation: Chain of the author.
        seq: Position in the chain, from 0.
        prev: Entry before in the chain; zeros at seq 0.
        time_ms: The author's claim.
        body_size: Bytes of the body before padding.
        parents: Further entries it names, ascending; `prev` is not repeated.
        mid: Identity of an imported message; None for what was written here.
    """

    kind: int
    device: DeviceId
    incarnation: Incarnation
    seq: int
    prev: EntryId
    time_ms: int
    body_size: int
    parents: tuple[EntryId, ...] = ()
    mid: MessageId | None = None

    def encode(self) -> bytes:
        """The fixed-offset binary form.

        Raises:
            InvalidInput: A field breaks a rule of docs/protocol.md, 4.2.
        """
        _check(self)
        fixed = _HEADER.pack(
            self.kind,
            _IMPORTED if self.mid is not None else 0,
            self.device,
            self.incarnation,
            self.seq,
            self.prev,
            self.time_ms,
            self.body_size,
            len(self.parents),
        )
        if self.mid is None and not self.parents:
            return fixed
        return b"".join((fixed, self.mid or b"", *self.parents))

    @classmethod
    def decode(cls, encoded: bytes) -> Header:
        """Parse; accepts exactly what `encode` makes.

        Raises:
            LimitExceeded: More than PARENTS_MAX parents.
            InvalidInput: Any other deviation.
        """
        if not _HEADER.size <= len(encoded) <= _HEADER_SIZE_MAX:
            raise InvalidInput(f"header of {len(encoded)} bytes")
        kind, flags, device, incarnation, seq, prev, time_ms, body_size, count = _HEADER.unpack_from(encoded)
        if flags & ~_IMPORTED:
            raise InvalidInput(f"header flags {flags:#x}")
        at = _HEADER.size
        mid = None
        if flags:
            mid = MessageId(encoded[at : at + MESSAGE_ID_SIZE])
            at += MESSAGE_ID_SIZE
        if len(encoded) != at + count * ENTRY_ID_SIZE:
            raise InvalidInput(f"header of {len(encoded)} bytes with {count} parents")
        parents = tuple(
            EntryId(encoded[start : start + ENTRY_ID_SIZE])
            for start in range(at, len(encoded), ENTRY_ID_SIZE)
        )
        header = cls(
            kind,
            DeviceId(device),
            Incarnation(incarnation),
            seq,
            EntryId(prev),
            time_ms,
            body_size,
            parents,
            mid,
        )
        _check(header)
        return header


def _check(header: Header) -> None:
    if len(header.parents) > limits.PARENTS_MAX:
        raise LimitExceeded(f"{len(header.parents)} parents")
    if header.seq > limits.SEQ_MAX or header.time_ms > limits.TIME_MAX_MS:
        raise InvalidInput("sequence number or time above 2^53")
    if header.body_size > limits.BODY_SIZE_MAX_BYTES:
        raise LimitExceeded(f"body of {header.body_size} bytes")
    if (header.seq == 0) != (header.prev == NO_ENTRY):
        raise InvalidInput("only the first entry of a chain has none before it")
    parents = header.parents
    if parents:
        if any(a >= b for a, b in pairwise(parents)):
            raise InvalidInput("parents out of order")
        if header.prev in parents or NO_ENTRY in parents:
            raise InvalidInput("parents repeat the entry before, or name none")


class Outer(msgspec.Struct, frozen=True, gc=False):
    """The fields that anyone who stores an entry sees."""

    topic: Topic
    week: int
    salt: bytes
    tag: bytes
    body_hash: bytes
    body_size: int


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """An entry as it is stored and sent: outer bytes, sealed body, sealed signature."""

    id: EntryId
    outer: bytes
    body: bytes | None
    signature: bytes | None = None


def entry_id(outer: bytes) -> EntryId:
    """BLAKE3 of exactly these outer bytes, in a context of its own."""
    return EntryId(crypto.hash_with_context("entry id", outer))


def parse_outer(outer: bytes) -> Outer:
    """Check the form of outer bytes, as anyone can who stores them.

    Raises:
        InvalidInput: Not the form of version 1.
    """
    if outer[:1] != _VERSION_1:
        raise InvalidInput(f"entry of version {outer[0] if outer else 'none'}")
    return parse_any(outer)


def stated_size(outer: bytes) -> int:
    """The size of an entry's sealed body, of outer bytes that were parsed before."""
    return int.from_bytes(outer[_BODY_SIZE_AT : _BODY_SIZE_AT + 4], "big")


def parse_any(outer: bytes) -> Outer:
    """As `parse_outer`, for an entry of any version: what all versions have in common is checked.

    Raises:
        InvalidInput: Not the form that entries of all versions have.
    """
    if not _OUTER_SIZE_MIN <= len(outer) <= _OUTER_SIZE_MAX:
        raise InvalidInput(f"entry of {len(outer)} bytes")
    version, topic, week, salt, tag, body_hash, body_size, header_size = _OUTER.unpack_from(outer)
    if version == VERSION and len(outer) != _OUTER_SIZE_MIN + header_size:
        raise InvalidInput("entry length does not match its header's")
    if week > limits.WEEK_MAX:
        raise InvalidInput(f"week {week}")
    if body_size > padded_size(limits.BODY_SIZE_MAX_BYTES) + crypto.TAG_SIZE:
        raise LimitExceeded(f"sealed body of {body_size} bytes")
    return Outer(Topic(topic), week, salt, tag, body_hash, body_size)


def seal_entry(log: LogKeys, epoch: EpochKeys, week: int, header: Header, body: bytes) -> Sealed:
    """Make the sealed bytes; the same arguments always give the same entry."""
    assert len(body) == header.body_size
    inner, outlined = header.encode(), header.kind in OUTLINED
    salt = epoch.salt(inner + body, outlined=outlined)
    tag = epoch.tag(salt)
    head = b"%c%b%b%b%b" % (VERSION, log.topic, week.to_bytes(2, "big"), salt, tag)
    sealed_body = _seal_padded(epoch, salt, body, head, outlined=outlined)
    head += b"%b%b%b" % (
        crypto.hash_with_context("sealed body", sealed_body),
        len(sealed_body).to_bytes(4, "big"),
        (len(inner) + crypto.TAG_SIZE).to_bytes(2, "big"),
    )
    outer = head + crypto.seal(epoch.header_key(salt), inner, head)
    outer += log.mac(outer)
    return Sealed(entry_id(outer), outer, sealed_body)


def open_header(log: LogKeys, outer: bytes) -> tuple[Header, EpochKeys]:
    """Open and check the header of an entry of this log.

    Raises:
        InvalidInput: Another log's, damaged, made by a non-member, of an epoch that we do not
            have, or of a form that breaks a rule.
    """
    fields = parse_outer(outer)
    if fields.topic != log.topic:
        raise InvalidInput("entry of another log")
    if log.mac(outer[: -crypto.TAG_SIZE]) != outer[-crypto.TAG_SIZE :]:
        raise InvalidInput("no member made this entry")
    epoch = log.epoch_of(fields.salt, fields.tag)
    if epoch is None:
        raise InvalidInput("sealed under an epoch that this device does not have")
    return _open_inner(epoch, fields, outer)[1], epoch


def _open_inner(epoch: EpochKeys, fields: Outer, outer: bytes) -> tuple[bytes, Header]:
    inner = crypto.open_sealed(
        epoch.header_key(fields.salt), outer[_OUTER.size : -crypto.TAG_SIZE], outer[: _OUTER.size]
    )
    header = Header.decode(inner)
    if fields.body_size != padded_size(header.body_size) + crypto.TAG_SIZE:
        raise InvalidInput("body is not padded as the rule says")
    return inner, header


class Unsealed(msgspec.Struct, frozen=True, gc=False):
    """What a member finds in the bytes of an entry.

    Attributes:
        header: None where the entry cannot be opened.
        epoch: The one that sealed it, or None.
        unread: Why not, in plain words; "" where it is opened.
        held: The sealed body, if it came and has the hash that the outer bytes state.
        body: That body opened; None also where its author sealed it against the rules.
        closed: The body takes the secret of its epoch, of which only the outline is here.
    """

    id: EntryId
    week: int
    header: Header | None
    epoch: EpochKeys | None
    unread: str
    held: bytes | None
    body: bytes | None
    closed: bool = False


def unseal(log: LogKeys, outer: bytes, sealed_body: bytes | None) -> Unsealed:
    """Check what came from elsewhere, and open as much of it as this device can.

    Whether this raises depends on the outer bytes and the log's secret only, and so is the same for
    every member: an entry of another version or epoch, or one that breaks the rules inside, is kept.

    Raises:
        InvalidInput: Not in the form of an entry, of another log, or not made by a member.
    """
    fields = parse_any(outer)
    if fields.topic != log.topic:
        raise InvalidInput("entry of another log")
    if log.mac(outer[: -crypto.TAG_SIZE]) != outer[-crypto.TAG_SIZE :]:
        raise InvalidInput("no member made this entry")
    id_, week, salt = entry_id(outer), fields.week, fields.salt
    held = sealed_body if is_body_of(fields, sealed_body) else None
    if outer[0] != VERSION:
        return Unsealed(
            id_, week, None, None, f"of version {outer[0]}, which this mlog cannot read", held, None
        )
    epoch = log.epoch_of(salt, fields.tag)
    if epoch is None:
        unread = "sealed under an epoch that this device does not have"
        return Unsealed(id_, week, None, None, unread, held, None)
    try:
        inner, header = _open_inner(epoch, fields, outer)
    except InvalidInput as error:
        return Unsealed(id_, week, None, epoch, f"made against the rules: {error}", held, None)
    body, closed = None, not epoch.opens(outlined=header.kind in OUTLINED)
    if held is not None and not closed:
        try:
            body = _open_padded(epoch, salt, held, outer, inner, header)
        except InvalidInput:
            body = None
    return Unsealed(id_, week, header, epoch, "", held, body, closed)


def unseal_blind(topic: Topic, outer: bytes, sealed_body: bytes | None) -> Unsealed:
    """As `unseal`, for who stores a log and cannot read it: neither MAC nor header is looked at.

    Raises:
        InvalidInput: Not in the form of an entry, or of another log.
    """
    fields = parse_any(outer)
    if fields.topic != topic:
        raise InvalidInput("entry of another log")
    held = sealed_body if is_body_of(fields, sealed_body) else None
    return Unsealed(entry_id(outer), fields.week, None, None, "of a log that is kept blindly", held, None)


def is_body_of(fields: Outer, sealed_body: bytes | None) -> bool:
    """Whether this is the sealed body that an entry's outer bytes state."""
    return (
        sealed_body is not None
        and len(sealed_body) == fields.body_size
        and crypto.hash_with_context("sealed body", sealed_body) == fields.body_hash
    )


def to_tail(sealed: Sealed) -> bytes:
    """The outer bytes without what the receiver knows or can work out: docs/protocol.md, 4.5.

    Left out are version and topic, and where the body goes along its hash. An entry of another
    version goes whole.
    """
    outer = sealed.outer
    if outer[0] != VERSION:
        return bytes([_WHOLE]) + outer
    if sealed.body is None:
        return outer[_TAIL_START:]
    return outer[_TAIL_START:_OUTER_BODY_AAD] + outer[_OUTER_BODY_AAD + 32 :]


def from_tail(topic: Topic, tail: bytes, body: bytes | None, signature: bytes | None = None) -> Sealed:
    """Make the outer bytes again; whether they are an entry of the log is for `unseal` to find out.

    Raises:
        InvalidInput: Too short, or a whole entry of this version.
    """
    if tail[:1] == b"\xff":
        if tail[1:2] in (b"", _VERSION_1):
            raise InvalidInput("a whole entry of version 1, where its tail was due")
        outer = tail[1:]
    elif body is None:
        outer = _VERSION_1 + topic + tail
    else:
        at = _OUTER_BODY_AAD - _TAIL_START
        if len(tail) < at:
            raise InvalidInput(f"tail of {len(tail)} bytes")
        body_hash = crypto.hash_with_context("sealed body", body)
        outer = b"".join((_VERSION_1, topic, tail[:at], body_hash, tail[at:]))
    return Sealed(entry_id(outer), outer, body, signature)


def seal_body(epoch: EpochKeys, outer: bytes, body: bytes, kind: int) -> bytes:
    """Make the sealed body of an entry again, from its opened one."""
    return _seal_padded(epoch, outer[19:35], body, outer[:_OUTER_BODY_AAD], outlined=kind in OUTLINED)


def open_body(epoch: EpochKeys, outer: bytes, sealed_body: bytes) -> bytes:
    """Open a sealed body and check it against the entry's outer bytes and header.

    Raises:
        InvalidInput: Not this entry's body, one that its author sealed against the rules, or one that takes
            the secret of its epoch where only the outline is here.
    """
    fields = parse_outer(outer)
    if len(sealed_body) != fields.body_size:
        raise InvalidInput(f"sealed body of {len(sealed_body)} bytes, not {fields.body_size}")
    if crypto.hash_with_context("sealed body", sealed_body) != fields.body_hash:
        raise InvalidInput("body does not match its hash")
    inner, header = _open_inner(epoch, fields, outer)
    if not epoch.opens(outlined=header.kind in OUTLINED):
        raise InvalidInput("of an epoch of which this device has only the outline")
    return _open_padded(epoch, fields.salt, sealed_body, outer, inner, header)


def _open_padded(
    epoch: EpochKeys, salt: bytes, sealed_body: bytes, outer: bytes, inner: bytes, header: Header
) -> bytes:
    size, outlined = header.body_size, header.kind in OUTLINED
    key = epoch.body_key(salt, outlined=outlined)
    padded = crypto.open_sealed(key, sealed_body, outer[:_OUTER_BODY_AAD])
    body = padded[:size]
    # The salt is a hash of header and body: this also shows that the padding is ours to remake.
    if epoch.salt(inner + body, outlined=outlined) != salt or padded.count(0, size) != len(padded) - size:
        raise InvalidInput("body sealed against the rules")
    return body


def _seal_padded(epoch: EpochKeys, salt: bytes, body: bytes, associated: bytes, *, outlined: bool) -> bytes:
    padded = body.ljust(padded_size(len(body)), b"\0")
    return crypto.seal(epoch.body_key(salt, outlined=outlined), padded, associated)


def padded_size(size: int) -> int:
    """PADMÉ (Nikitin et al., PETS 2019) with a floor: leaks O(log log size) bits of the size."""
    if size <= limits.BODY_PADDING_FLOOR_BYTES:
        return limits.BODY_PADDING_FLOOR_BYTES
    exponent = size.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (size + mask) & ~mask


def sign_entry(device: DeviceKeys, epoch: EpochKeys, sealed: Sealed) -> Sealed:
    """The same entry with its author's signature, sealed like the rest."""
    signature = device.sign(_SIGNATURE_LABEL, sealed.id)
    key = epoch.signature_key(sealed.outer[19:35])
    return msgspec.structs.replace(sealed, signature=crypto.seal(key, signature, sealed.id))


def open_signature(epoch: EpochKeys, id_: EntryId, outer: bytes, sealed_signature: bytes) -> bytes:
    """The signature as it is sealed beside an entry; whether it is valid is not looked at.

    Raises:
        BadSignature: The sealed signature is damaged.
    """
    try:
        return crypto.open_sealed(epoch.signature_key(outer[19:35]), sealed_signature, id_)
    except InvalidInput:
        raise BadSignature("sealed signature is damaged") from None


def verify_entry_signature(
    epoch: EpochKeys, device: DeviceId, id_: EntryId, outer: bytes, sealed_signature: bytes
) -> None:
    """Check that the device signed the entry.

    Raises:
        BadSignature: It did not, or the sealed signature is damaged.
    """
    signature = open_signature(epoch, id_, outer, sealed_signature)
    crypto.verify_signature(device, _SIGNATURE_LABEL, id_, signature)
