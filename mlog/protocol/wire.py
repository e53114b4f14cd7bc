"""Messages of a session: msgpack arrays `[kind, field, ...]`, typed and bounded. docs/protocol.md, 13.

One side of a session, the *leader* (who dialled), compares; the other, the *follower*, answers.
Both send entries. A log is named by its tag, a hash that only holders of its topic can make and
that differs in every session. Sizes are checked before a message is parsed, and every list is
bounded by the size of its message.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import ProtocolViolation

__all__ = [
    "COMPARES_ONLY",
    "ROOT_SIZE",
    "TAG_SIZE",
    "Ack",
    "Again",
    "Answer",
    "AskCells",
    "AskIds",
    "AskWeeks",
    "Cells",
    "Differs",
    "Done",
    "Entries",
    "Grant",
    "Have",
    "Hello",
    "Ids",
    "Message",
    "Offer",
    "Packed",
    "Page",
    "Query",
    "Receipt",
    "Scoped",
    "Want",
    "Weeks",
    "decode",
    "encode",
]

TAG_SIZE: Final = 6
ROOT_SIZE: Final = 16

COMPARES_ONLY: Final = 1
"""A bit of `Hello.features`: it only compares, so it is to be sent no entries and no secrets."""

_Tag = Annotated[bytes, msgspec.Meta(min_length=TAG_SIZE, max_length=TAG_SIZE)]
_Root = Annotated[bytes, msgspec.Meta(min_length=ROOT_SIZE, max_length=ROOT_SIZE)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=limits.SEQ_MAX)]
_Week = Annotated[int, msgspec.Meta(ge=0, le=limits.WEEK_MAX)]
_Id = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class _Array(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=False):
    """Part of a message; a later version may append fields, which are ignored."""


class Hello(_Array, frozen=True, tag=1):
    """First message of either side.

    Attributes:
        version: Highest version of the protocol that it speaks; the lower one of both holds.
        features: One bit for each optional feature; bits that are not known are ignored.
        time_ms: Its clock, so that a wrong one is noticed.
    """

    version: _Count
    features: _Count
    time_ms: _Count


class Scoped(_Array, frozen=True):
    """A log of an offer that is not held whole.

    Attributes:
        index: Which one of the offer.
        first_week: It holds all from this week on.
        bodies: It wants bodies too.
    """

    index: _Count
    first_week: _Week
    bodies: bool


class Offer(_Array, frozen=True, tag=2):
    """Leader: what it holds.

    Attributes:
        serial: Grows with each offer of a session.
        logs: For each log its tag and the roots of its entries and bodies, 38 bytes.
        scopes: Of those logs that are not held whole.
        partial: It says nothing about the logs that it leaves out.
    """

    serial: _Count
    logs: Annotated[bytes, msgspec.Meta(max_length=limits.OFFERED_LOGS_MAX * (TAG_SIZE + 2 * ROOT_SIZE))]
    scopes: Annotated[tuple[Scoped, ...], msgspec.Meta(max_length=limits.OFFERED_LOGS_MAX)] = ()
    partial: bool = False


class Differs(_Array, frozen=True):
    """Follower: this log of the offer is not the same here.

    Attributes:
        index: Which one of the offer.
        first_week: Over what was compared: the later of both starts.
        bodies: This side wants bodies too.
        entries_root, bodies_root: Of this side, from that week on.
        vector: What this side holds of each chain (mlog/protocol/vector.py); None where it cannot tell.
    """

    index: _Count
    first_week: _Week
    bodies: bool
    entries_root: _Root
    bodies_root: _Root
    vector: bytes | None


class Answer(_Array, frozen=True, tag=3):
    """Follower: which logs of the offer are equal (one bit each, lowest first), and which differ.

    A log that is neither is not held here.
    """

    serial: _Count
    equal: bytes
    differs: Annotated[tuple[Differs, ...], msgspec.Meta(max_length=limits.OFFERED_LOGS_MAX)] = ()


class Have(_Array, frozen=True, tag=4):
    """Leader: what it holds of each chain, so that the follower knows what it waits for."""

    tag: _Tag
    vector: bytes


class Want(_Array, frozen=True, tag=5):
    """Send me entries.

    Attributes:
        request: Number that `Done` repeats.
        chains: Ranges of sequence numbers for chains (mlog/protocol/vector.py).
        ids: Entry ids, 32 bytes each: also the parts of a known entry that are missing there.
        shorts: Short ids of the last sketch, 7 bytes each, ascending.
        first_week: Nothing of an earlier week, unless it is asked for by id.
        bodies: With bodies.
    """

    request: _Count
    tag: _Tag
    chains: bytes = b""
    ids: bytes = b""
    shorts: bytes = b""
    first_week: _Week = 0
    bodies: bool = True


class Packed(_Array, frozen=True):
    """One entry.

    Attributes:
        head: Outer bytes as mlog/log/entry.py packs them.
        body: Sealed body, or None.
        signature: Sealed signature, or None where a later one vouches for it.
    """

    head: bytes
    body: bytes | None
    signature: bytes | None


class Entries(_Array, frozen=True, tag=6):
    """A bundle. The next one is sent when this one is acknowledged."""

    serial: _Count
    tag: _Tag
    entries: Annotated[tuple[Packed, ...], msgspec.Meta(max_length=limits.BUNDLE_ENTRIES_MAX)]


class Ack(_Array, frozen=True, tag=7):
    """The bundle `serial` is durable here, but for `refused` of its entries."""

    serial: _Count
    refused: _Count = 0


class Done(_Array, frozen=True, tag=8):
    """All that was wanted and is here has been sent and acknowledged; `lacking` is not here."""

    request: _Count
    lacking: _Count = 0


class Receipt(_Array, frozen=True, tag=9):
    """Signature over the receipts of all logs that the answer with this serial called equal."""

    serial: _Count
    time_ms: _Count
    expires_ms: _Count
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Grant(_Array, frozen=True, tag=10):
    """Secrets of logs for a device of the same person (mlog/log/grants.py)."""

    sealed: bytes


class Again(_Array, frozen=True, tag=11):
    """Follower: something changed here; please make an offer."""


class AskWeeks(_Array, frozen=True, tag=12):
    """Leader: marks of all segments from a week on, please.

    Attributes:
        attempt: Grows with each question of a session; keys the marks.
    """

    tag: _Tag
    first_week: _Week
    attempt: _Count


class Weeks(_Array, frozen=True, tag=13):
    """Marks of those segments (mlog/protocol/marks.py), and how many entries they have in all."""

    tag: _Tag
    attempt: _Count
    entries: _Count
    marks: bytes


class AskCells(_Array, frozen=True, tag=14):
    """Leader: cells `start` to `stop` of a sketch of some segments (mlog/protocol/sketch.py).

    Attributes:
        attempt: That of the marks; salts the short ids.
        weeks: Two bytes each.
    """

    tag: _Tag
    attempt: _Count
    weeks: Annotated[bytes, msgspec.Meta(max_length=2 * (limits.WEEK_MAX + 1))]
    start: _Count
    stop: _Count


class Cells(_Array, frozen=True, tag=15):
    """Those cells, and of how many ids the sketch is made."""

    tag: _Tag
    attempt: _Count
    count: _Count
    start: _Count
    cells: bytes


class AskIds(_Array, frozen=True, tag=16):
    """Leader: the ids of a segment that come after one."""

    tag: _Tag
    week: _Week
    after: _Id


class Ids(_Array, frozen=True, tag=17):
    """Ids of a segment, ascending, 32 bytes each; `more` where it goes on."""

    tag: _Tag
    week: _Week
    after: _Id
    ids: bytes
    more: bool


class Query(_Array, frozen=True, tag=18):
    """A page of a log in the order (week, id), from behind a cursor.

    Attributes:
        week, after: The cursor: it means the same at every replica.
        last_week: Where to end.
        bodies: With bodies.
    """

    request: _Count
    tag: _Tag
    week: _Week
    after: _Id
    last_week: _Week
    limit: _Count
    bodies: bool = True


class Page(_Array, frozen=True, tag=19):
    """Answer to a query.

    Attributes:
        week, after: The cursor behind this page.
        end: Nothing comes behind it.
        segments: Digests of the segments that the page touches (mlog/protocol/segments.py): ids of a
            whole segment hash to its digest, which proves that the pages left nothing out.
    """

    request: _Count
    week: _Week
    after: _Id
    end: bool
    segments: bytes
    entries: Annotated[tuple[Packed, ...], msgspec.Meta(max_length=limits.BUNDLE_ENTRIES_MAX)]


class AskCarried(_Array, frozen=True, tag=20):
    """Leader: the ids of what a window carries along from before a week, that come after one; as `Ids`.

    Attributes:
        known: Hash of all that are here, with the first question: `Same` if the follower has just these.
    """

    tag: _Tag
    week: _Week
    after: _Id
    known: bytes = b""


class Same(_Array, frozen=True, tag=21):
    """What a window carries along is the same here; or nobody can say, since the log is kept blindly."""

    tag: _Tag


class Parting(_Array, frozen=True, tag=128):
    """What shows that the recipient belongs to a log no more (mlog/log/parting.py)."""

    tag: _Tag
    entries: Annotated[tuple[Packed, ...], msgspec.Meta(max_length=limits.PARTING_ENTRIES_MAX)]


class Parted(_Array, frozen=True, tag=129):
    """That is durable here."""

    tag: _Tag


Message: TypeAlias = (
    Hello
    | Offer
    | Answer
    | Have
    | Want
    | Entries
    | Ack
    | Done
    | Receipt
    | Grant
    | Again
    | AskWeeks
    | Weeks
    | AskCells
    | Cells
    | AskIds
    | Ids
    | Query
    | Page
    | AskCarried
    | Same
    | Parting
    | Parted
)

_OPTIONAL_FROM: Final = 128
"""Kinds from here on may be ignored by who does not know them; lower ones close the session."""

_OPTIONAL: Final = frozenset({128, 129})
"""Of these, the kinds that are known here."""

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The bytes of one message."""
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message | None:
    """Parse one message; None for one of an unknown kind that may be ignored.

    Raises:
        ProtocolViolation: Too long, not of this form, or of an unknown kind that matters.
    """
    if len(data) > limits.MESSAGE_SIZE_MAX_BYTES:
        raise ProtocolViolation(f"message of {len(data)} bytes")
    # An array of up to 15 fields whose first one is a number from 128 to 255: 0x9n 0xcc KIND.
    is_optional = len(data) > 2 and data[0] & 0xF0 == 0x90 and data[1] == 0xCC and data[2] >= _OPTIONAL_FROM
    if is_optional and data[2] not in _OPTIONAL:
        return None
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(f"message: {error}") from None
