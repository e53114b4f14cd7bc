"""Bodies: what entries say, typed by the entry's kind: one JSON object each, or raw bytes.

The author's bytes are kept as they came, so nothing here is ever re-encoded; unknown fields
are tolerated, so that later versions can add some. Specified in docs/protocol.md, 5.
"""

from __future__ import annotations

import json
import re
from enum import IntEnum
from struct import Struct
from typing import Annotated, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded

__all__ = [
    "OUTLINED",
    "RAW",
    "SPOKEN",
    "Admit",
    "Alias",
    "Body",
    "ChainEnd",
    "Chunk",
    "Contact",
    "Cut",
    "Device",
    "Edit",
    "Erasure",
    "Expire",
    "Import",
    "Key",
    "Kind",
    "Manifest",
    "Member",
    "Private",
    "Reaction",
    "Read",
    "ReadChain",
    "Revoke",
    "Text",
    "Title",
    "Wrap",
    "decode",
    "encode",
    "kind_name",
]


class Kind(IntEnum):
    """What an entry is. 1..15 carry the log itself, 16..31 are said, 32..47 change what was said.

    48 holds what belongs to it, from 64 on are settings and notes of a person's devices, in the private log.
    """

    KEY = 1
    DEVICE = 2
    TITLE = 3
    IMPORT = 4
    MANIFEST = 5
    ADMIT = 6
    REVOKE = 7
    MEMBER = 8
    EXPIRE = 9
    MESSAGE = 16
    REPLY = 17
    ACTION = 18
    NOTICE = 19
    JOIN = 20
    PART = 21
    RENAME = 22
    EVENT = 23
    EDIT = 32
    REACTION = 33
    ERASURE = 34
    READ = 35
    CHUNK = 48
    ALIAS = 64
    PRIVATE = 65
    CONTACT = 66


_KIND_NAMES: Final = {int(kind): kind.name.lower() for kind in Kind}


def kind_name(kind: int) -> str:
    """The word for a kind, in lower case; a kind of a later version goes by its number."""
    return _KIND_NAMES.get(kind, f"kind {kind}")


SPOKEN: Final = frozenset(
    {
        Kind.MESSAGE,
        Kind.REPLY,
        Kind.ACTION,
        Kind.NOTICE,
        Kind.JOIN,
        Kind.PART,
        Kind.RENAME,
        Kind.EVENT,
    }
)
"""Kinds that stand in a conversation as a line of their own."""

OUTLINED: Final = frozenset(
    {
        Kind.KEY,
        Kind.DEVICE,
        Kind.TITLE,
        Kind.ADMIT,
        Kind.REVOKE,
        Kind.MEMBER,
        Kind.EXPIRE,
        Kind.ERASURE,
    }
)
"""Kinds whose bodies the outline of their epoch opens: all who belong to a log have to fold them alike."""

RAW: Final = frozenset({Kind.CHUNK, Kind.PRIVATE})
"""Kinds whose bodies are bytes and not JSON."""

_Hex16 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
_Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=limits.SEQ_MAX)]
_Name = Annotated[str, msgspec.Meta(max_length=limits.NAME_SIZE_MAX_BYTES)]


class _Claimed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Fields of an imported entry: what the file says, claimed by the importer.

    Attributes:
        by: Author as the file writes it.
        at: Position in the file: line or ordinal, from 1.
        src: Which file: ordinal of the chain's IMPORT entries, from 0.
        uid: What the program knows the author by, which stays when the name changes.
    """

    by: _Name = ""
    at: _Count = 0
    src: _Count = 0
    uid: _Name = ""


class Text(_Claimed, frozen=True, kw_only=True, omit_defaults=True):
    """MESSAGE, REPLY, ACTION, NOTICE, JOIN, PART, RENAME, EVENT.

    Attributes:
        text: What was said.
        to: Messages to which it replies, 16 bytes in hexadecimal each; at least one in a REPLY,
            none in a MESSAGE.
        erased: Imported from where it had been erased already.
    """

    text: str
    to: Annotated[tuple[_Hex16, ...], msgspec.Meta(max_length=limits.REFERENCES_MAX)] = ()
    erased: bool = False


class Edit(_Claimed, frozen=True, kw_only=True, omit_defaults=True):
    """EDIT: the message `of` now reads `text`."""

    of: _Hex16
    text: str


class Reaction(_Claimed, frozen=True, kw_only=True, omit_defaults=True):
    """REACTION: `emoji` on the message `of`, or its removal."""

    of: _Hex16
    emoji: Annotated[str, msgspec.Meta(min_length=1, max_length=limits.EMOJI_SIZE_MAX_BYTES)]
    removed: bool = False


class Erasure(_Claimed, frozen=True, kw_only=True, omit_defaults=True):
    """ERASURE: the body of the message `of` is to be forgotten."""

    of: _Hex16


class Expire(msgspec.Struct, frozen=True, kw_only=True):
    """EXPIRE: what is said from here on disappears after so long; 0 for never."""

    after_ms: _Count


class ReadChain(msgspec.Struct, frozen=True, kw_only=True):
    """One chain and the highest number in it that was read.

    Attributes:
        chain: Its name, 8 bytes in hexadecimal (mlog/log/reading.py).
    """

    chain: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    seq: _Count


class Read(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """READ: the author's person has read these chains so far, on the device that says so.

    Attributes:
        chains: Those that have been read further since this device said so last.
    """

    chains: Annotated[tuple[ReadChain, ...], msgspec.Meta(max_length=limits.READ_CHAINS_MAX)]


class Title(_Claimed, frozen=True, kw_only=True, omit_defaults=True):
    """TITLE: the conversation is called this from here on."""

    title: Annotated[str, msgspec.Meta(max_length=limits.TITLE_SIZE_MAX_BYTES)]


class Import(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """IMPORT: where the entries of this chain with the same `src` came from.

    Attributes:
        format: Name of the format; "" for messages written in mlog and exported from it.
        chat: The chat's key, by which the next import of it finds this conversation.
        name: File name without its folder.
        hash: BLAKE3 of the file in hexadecimal; "" while a pipe is still being read.
        src: Ordinal that bodies refer to; a later entry with the same one replaces it.
        time_ms: When it was imported, by the importer's clock.
    """

    format: _Name
    chat: _Name
    name: _Name = ""
    hash: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    src: _Count = 0
    time_ms: _Count = 0


class Manifest(_Claimed, frozen=True, kw_only=True, omit_defaults=True):
    """MANIFEST: a file that belongs to the message `of`; its chunks are entries of their own.

    Attributes:
        hash: BLAKE3 of the whole file; "" where it is not known.
        group: What its chunks are erased by, together; "" without chunks.
        chunks: Ids of the CHUNK entries in the order of the file; none where only its name is known.
    """

    of: _Hex16
    name: _Name
    type: _Name = "application/octet-stream"
    size: _Count
    hash: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    group: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")] = ""
    chunks: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)], ...],
        msgspec.Meta(max_length=limits.CHUNKS_MAX),
    ] = ()


class Chunk(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """CHUNK: a part of a file, raw: the group's 16 bytes, its place in the file as u32, its bytes.

    Attributes:
        group: Shared by the chunks of one file, as its manifests name it.
        index: Place in the file, from 0.
        data: From 1 to CHUNK_SIZE_MAX_BYTES.
    """

    group: bytes
    index: int
    data: bytes


class Private(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """PRIVATE: a change of the private state, raw; what is in it mlog/log/private_change.py reads."""

    change: bytes


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """DEVICE: the keys of the device that signs this entry.

    Attributes:
        name: What the person calls the device.
        person: What the person is called.
        noise: X25519 public key for sessions, 32 bytes.
        hpke: MLKEM768_X25519 public key, 1,216 bytes.
        addresses: Where others can reach the device, as HOST:PORT, best first.
        word: The device on whose word it went over to this person from its own, if it did.
    """

    name: _Name
    person: _Name
    noise: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    hpke: Annotated[bytes, msgspec.Meta(min_length=1216, max_length=1216)]
    addresses: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=limits.ADDRESSES_MAX)] = ()
    word: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)] | None = None


class Admit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """ADMIT: this device belongs to the person too, and has these keys.

    Attributes:
        name: What the person calls the device.
        noise, hpke: As in its own record.
        phrase: It is no machine, but a recovery phrase (mlog/log/phrase.py).
    """

    device: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    name: _Name
    noise: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    hpke: Annotated[bytes, msgspec.Meta(min_length=1216, max_length=1216)]
    phrase: bool = False


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain of a revoked device ends: the last entry that is accepted."""

    incarnation: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    seq: _Count
    id: _Hex32


class Revoke(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """REVOKE: this device is trusted no more; of its chains in this log only what `cuts` names counts.

    Attributes:
        by: In any log but the person log: the REVOKE there, on which this one relies.
        cuts: For each chain its last accepted entry; a chain that is not named is cut at nothing.
    """

    device: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    by: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    cuts: Annotated[tuple[Cut, ...], msgspec.Meta(max_length=limits.CUTS_MAX)] = ()


class Alias(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """ALIAS: who writes under this name in that program is called `person` here.

    Attributes:
        format: The program: as in IMPORT, but "mail" for all forms of mail, and "mlog" for people who
            write in mlog.
        uid: What the program knows the author by; where it is not empty `by` does not count.
        by: The name in the file.
        person: What this person calls them; "" takes back what was said before.
    """

    format: _Name
    uid: _Name = ""
    by: _Name = ""
    person: _Name = ""


class ChainEnd(Cut, frozen=True, kw_only=True):
    """Where a chain of a person who was removed ends."""

    device: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """MEMBER: from here on a person has this role in the conversation.

    Attributes:
        person: Topic of the person's log.
        role: "admin", "member" or "none".
        relies: The newest entry of that log that the author knew; readers wait for it.
        history: Who joins by this reads what was written before, too.
        name: What the person was called.
        cuts: Of a person who is removed, for each chain its last entry that counts.
    """

    person: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    role: Annotated[str, msgspec.Meta(pattern=r"^(admin|member|none)\Z")]
    relies: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    history: bool = False
    name: _Name = ""
    cuts: Annotated[tuple[ChainEnd, ...], msgspec.Meta(max_length=limits.CUTS_MAX)] = ()


class Contact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """CONTACT, in a private log: a person whom this one knows, and what to call them.

    Attributes:
        person: Topic of the person's log.
        name: Chosen here.
        device: The device with which the two met, until that person's log tells of all.
        removed: Known no more.
    """

    person: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    name: _Name
    device: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    removed: bool = False


class Wrap(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch secret wrapped for one device: HPKE's 1,120 bytes, the secret's 32, a tag of 16."""

    device: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    sealed: Annotated[bytes, msgspec.Meta(min_length=1168, max_length=1168)]


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """KEY: a new epoch secret, wrapped for every device that may read what follows.

    Attributes:
        epoch: Number of the epoch, from 1.
        commitment: BLAKE3 of the secret; readers refuse any other.
        log: Kind of log, in the first entry of a log: "conversation", "person" or "private".
        seed: There, what the log's secret was made of: shows that this entry, and no other, began the log.
        without: The REVOKEs in person logs that say why it is not for devices that earlier ones were for.
    """

    epoch: _Count
    commitment: _Hex32
    wraps: Annotated[tuple[Wrap, ...], msgspec.Meta(max_length=limits.KEY_RECIPIENTS_MAX)]
    log: str = ""
    seed: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    without: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)], ...],
        msgspec.Meta(max_length=limits.KEY_RECIPIENTS_MAX),
    ] = ()


Body: TypeAlias = (
    Text
    | Edit
    | Reaction
    | Erasure
    | Title
    | Import
    | Manifest
    | Device
    | Key
    | Admit
    | Revoke
    | Alias
    | Member
    | Contact
    | Chunk
    | Private
    | Read
    | Expire
)

_TYPES: Final[dict[Kind, type[Body]]] = {
    Kind.KEY: Key,
    Kind.DEVICE: Device,
    Kind.TITLE: Title,
    Kind.IMPORT: Import,
    Kind.MANIFEST: Manifest,
    Kind.ADMIT: Admit,
    Kind.REVOKE: Revoke,
    Kind.MEMBER: Member,
    Kind.CONTACT: Contact,
    Kind.EDIT: Edit,
    Kind.REACTION: Reaction,
    Kind.ERASURE: Erasure,
    Kind.ALIAS: Alias,
    Kind.READ: Read,
    Kind.EXPIRE: Expire,
    **dict.fromkeys(SPOKEN, Text),
}
_DECODERS: Final = {int(kind): msgspec.json.Decoder(type_) for kind, type_ in _TYPES.items()}
_ENCODER: Final = msgspec.json.Encoder()
_CHUNK: Final = Struct(">16sI")


def encode(body: Body) -> bytes:
    """The bytes of a body.

    Raises:
        LimitExceeded: Longer than BODY_SIZE_MAX_BYTES.
        InvalidInput: A text in it is not Unicode (half of a surrogate pair).
    """
    if isinstance(body, Chunk):
        assert 0 < len(body.data) <= limits.CHUNK_SIZE_MAX_BYTES
        return _CHUNK.pack(body.group, body.index) + body.data
    if isinstance(body, Private):
        assert 0 < len(body.change) <= limits.PRIVATE_CHANGE_SIZE_MAX_BYTES
        return body.change
    try:
        encoded = _ENCODER.encode(body)
    except UnicodeEncodeError:
        raise InvalidInput("the text is not valid Unicode") from None
    if len(encoded) > limits.BODY_SIZE_MAX_BYTES:
        raise LimitExceeded(
            f"too long: {len(encoded):,} bytes, and a message may have at most "
            f"{limits.BODY_SIZE_MAX_BYTES:,}. Split it, or send it as a file."
        )
    return encoded


def decode(kind: int, encoded: bytes) -> Body:
    """Parse one body.

    Raises:
        LimitExceeded: Longer than BODY_SIZE_MAX_BYTES.
        InvalidInput: Not of this kind's form and bounds, a field twice, or an unknown kind.
    """
    if len(encoded) > limits.BODY_SIZE_MAX_BYTES:
        raise LimitExceeded(f"body of {len(encoded)} bytes")
    if kind == Kind.CHUNK:
        return _decode_chunk(encoded)
    if kind == Kind.PRIVATE:
        if not 0 < len(encoded) <= limits.PRIVATE_CHANGE_SIZE_MAX_BYTES:
            raise LimitExceeded(f"change of {len(encoded)} bytes")
        return Private(change=encoded)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise InvalidInput(f"unknown kind {kind}")
    _check_depth(encoded)
    try:
        body = decoder.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"body: {error}") from None
    if _ENCODER.encode(body) != encoded:
        _check_unlike_ours(encoded)
    _check_sizes(body, encoded)
    if isinstance(body, Text) and (
        (kind == Kind.REPLY and not body.to) or (kind == Kind.MESSAGE and body.to)
    ):
        raise InvalidInput("a reply names what it answers, and a message does not")
    return body


def _decode_chunk(encoded: bytes) -> Chunk:
    if not _CHUNK.size < len(encoded) <= _CHUNK.size + limits.CHUNK_SIZE_MAX_BYTES:
        raise InvalidInput(f"chunk of {len(encoded)} bytes")
    group, index = _CHUNK.unpack_from(encoded)
    return Chunk(group=group, index=index, data=encoded[_CHUNK.size :])


def _check_depth(encoded: bytes) -> None:
    """Bound the nesting of fields that this version does not know."""
    if encoded.count(b"[") + encoded.count(b"{") <= limits.BODY_DEPTH_MAX:
        return
    depth = 0
    for mark in _STRING.sub(b"", encoded):
        depth += (mark in b"[{") - (mark in b"]}")
        if depth > limits.BODY_DEPTH_MAX:
            raise InvalidInput(f"body nested deeper than {limits.BODY_DEPTH_MAX}")


_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def _check_unlike_ours(encoded: bytes) -> None:
    """Refuse a field that stands twice: readers differ in which of the two they take."""

    def once(pairs: list[tuple[str, object]]) -> None:
        if len({name for name, _ in pairs}) < len(pairs):
            raise InvalidInput("body: a field stands twice")

    try:
        json.loads(encoded.decode(), object_pairs_hook=once, parse_int=str, parse_float=str)
    except ValueError as error:
        raise InvalidInput(f"body: {error}") from None


def _check_sizes(body: Body, encoded: bytes) -> None:
    """Bounds are in bytes of UTF-8; the types above count characters."""
    if len(encoded) <= limits.EMOJI_SIZE_MAX_BYTES or (encoded.isascii() and b"\\u" not in encoded):
        return
    for field, size_max in _SIZES_MAX.items():
        value = getattr(body, field, "")
        if len(value) * 4 > size_max and len(value.encode()) > size_max:
            raise InvalidInput(f"body: {field} of more than {size_max} bytes")


_SIZES_MAX: Final = {
    "emoji": limits.EMOJI_SIZE_MAX_BYTES,
    "title": limits.TITLE_SIZE_MAX_BYTES,
    **dict.fromkeys(("by", "uid", "name", "person", "format", "chat", "type"), limits.NAME_SIZE_MAX_BYTES),
}
