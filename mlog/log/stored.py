"""One stored entry by itself: its bytes against the hashes that vouch for them, and what they say.

Nothing that was made from the bytes is trusted by `check_header` and `check_body`; docs/protocol.md, 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from mlog.errors import BadSignature, InvalidInput
from mlog.log import bodies, crypto, entry
from mlog.log.bodies import OUTLINED, SPOKEN, Body, Kind
from mlog.log.crypto import LogKeys
from mlog.log.entry import Header, Sealed
from mlog.log.ids import DeviceId, EntryId
from mlog.log.store import FORGOTTEN, BodyState, EntryRow, Store

__all__ = [
    "SEARCHED",
    "check_body",
    "check_header",
    "check_sealed_body",
    "is_text",
    "named_by",
    "readable_body",
    "sealed_again",
    "text_of",
]

_ABSENT: Final = FORGOTTEN | {BodyState.NOT_FETCHED}
_SEALED: Final = frozenset({BodyState.SEALED, BodyState.CLOSED})

_RULES: Final = frozenset({Kind.KEY, Kind.DEVICE, Kind.ADMIT, Kind.REVOKE, Kind.MEMBER})
"""Kinds that are read again whenever it is worked out who is who: they say nothing that may be erased."""
_RULE_KEPT_MAX_BYTES: Final = 16_384
_RULES_KEPT: Final = 512
"""At most 8 MiB, and a few hundred KiB in a home of some persons."""

SEARCHED: Final = SPOKEN | {Kind.EDIT}
"""Kinds that may have a text which search finds."""


def check_header(keys: LogKeys, row: EntryRow, device: DeviceId) -> Header:
    """Hash and open a stored header, and compare every column made from it.

    Raises:
        InvalidInput: Says what does not match.
    """
    if entry.entry_id(row.outer) != row.id:
        raise InvalidInput("the entry does not match its hash")
    header, _ = entry.open_header(keys, row.outer)
    stored = (row.kind, row.seq, row.time_ms, row.mid, device, row.week)
    week = int.from_bytes(row.outer[17:19], "big")
    if stored != (header.kind, header.seq, header.time_ms, header.mid, header.device, week):
        raise InvalidInput("the index does not match the entry")
    return header


def check_body(keys: LogKeys, row: EntryRow) -> bytes | None:
    """Check a stored body against the hash in its (checked) outer bytes; None if not kept, or closed.

    Raises:
        InvalidInput: It does not match.
    """
    if row.state in _ABSENT:
        if row.body is not None:
            raise InvalidInput("a body is here that should not be")
        return None
    if row.state not in (BodyState.OPENED, *_SEALED):
        raise InvalidInput("the index does not match the entry")
    if row.body is None:
        raise InvalidInput("the text is lost")
    if row.state == BodyState.CLOSED:
        check_sealed_body(row)
        return None
    fields = entry.parse_outer(row.outer)
    epoch = keys.epoch_of(fields.salt, fields.tag)
    if epoch is None:
        raise InvalidInput("sealed under an epoch that this device does not have")
    if row.state == BodyState.SEALED:
        check_sealed_body(row)
        return entry.open_body(epoch, row.outer, row.body)
    if not epoch.opens(outlined=row.kind in OUTLINED):
        raise InvalidInput("the text is open here, and its epoch is not")
    sealed = entry.seal_body(epoch, row.outer, row.body, row.kind)
    if len(sealed) != fields.body_size or (
        crypto.hash_with_context("sealed body", sealed) != fields.body_hash
    ):
        raise InvalidInput("the text does not match its hash")
    return row.body


def sealed_again(keys: LogKeys | None, row: EntryRow, *, bodies: bool) -> tuple[Sealed | None, list[str]]:
    """The exact bytes of a stored entry, to hand on, and which parts of it are damaged.

    What is damaged is left off; of an entry that is damaged itself nothing is left.

    Args:
        keys: None where the log is kept blindly.
        bodies: With the body, if it is here.
    """
    if entry.entry_id(row.outer) != row.id:
        return None, ["entry"]
    body, signature, damaged = None, row.signature, list[str]()
    fields = entry.parse_any(row.outer)
    epoch = keys.epoch_of(fields.salt, fields.tag) if keys is not None and row.chain else None
    if bodies and row.body is not None and row.state in (BodyState.OPENED, *_SEALED):
        body = row.body
        opens = epoch is not None and epoch.opens(outlined=row.kind in OUTLINED)
        if row.state == BodyState.OPENED and epoch is not None and opens:
            body = entry.seal_body(epoch, row.outer, body, row.kind)
        if not entry.is_body_of(fields, body):
            body = None
            damaged.append("body")
    elif bodies and row.state in (BodyState.OPENED, *_SEALED):
        damaged.append("body")
    if signature is not None and epoch is not None:
        try:
            entry.open_signature(epoch, row.id, row.outer, signature)
        except BadSignature:
            signature = None
            damaged.append("signature")
    return Sealed(row.id, row.outer, body, signature), damaged


def check_sealed_body(row: EntryRow) -> None:
    """Check a stored sealed body against its hash, as whoever stores an entry can.

    Raises:
        InvalidInput: It does not match, or is not in the state that it should be in.
    """
    if row.state in _SEALED:
        if not entry.is_body_of(entry.parse_any(row.outer), row.body):
            raise InvalidInput("the text does not match its hash")
    elif row.state not in _ABSENT or row.body is not None:
        raise InvalidInput("a body is here that should not be")


def is_text(row: EntryRow) -> bool:
    """Whether its body is what a replica may do without; of an entry that is not read nobody knows."""
    return not row.chain or row.kind in SEARCHED or row.kind == Kind.CHUNK


def readable_body(kind: int, encoded: bytes | None) -> Body | None:
    """A body, or None where there is none, or none that this version understands."""
    if encoded is None:
        return None
    if kind in _RULES and len(encoded) <= _RULE_KEPT_MAX_BYTES:
        return _read_rule(kind, encoded)
    return _read(kind, encoded)


def _read(kind: int, encoded: bytes) -> Body | None:
    try:
        return bodies.decode(kind, encoded)
    except InvalidInput:
        return None


_read_rule: Final = lru_cache(maxsize=_RULES_KEPT)(_read)


def text_of(body: Body | None) -> str | None:
    """The words of a body that search finds."""
    if isinstance(body, bodies.Text | bodies.Edit):
        return f"{body.by} {body.text}" if body.by else body.text
    return None


def named_by(store: Store, rows: Sequence[EntryRow]) -> dict[int, tuple[EntryId, ...]]:
    """What each of these entries names, by number: parents, and the one before in its chain.

    Of the latter the store keeps a link only where it does not stand in the same row, or came later.
    """
    parents = store.parents([row.n for row in rows])
    before = store.places_at([(row.chain, row.seq - 1) for row in rows if row.seq])
    found: dict[int, tuple[EntryId, ...]] = {}
    for row in rows:
        place = before.get((row.chain, row.seq - 1))
        named = (*parents.get(row.n, ()), *((place.id,) if place is not None else ()))
        found[row.n] = tuple(dict.fromkeys(named))
    return found
