"""Changes of the private state, made by hand: those that automerge would write, and those that poison it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from mlog.log import private_change
from mlog.log.private_change import Change, Op

ACTOR: Final = bytes([1]) * 16
OTHER: Final = bytes([2]) * 16
KEY, INSERT, ACTION, META, RAW, PREDS, PRED_ACTOR, PRED_OP = 0x15, 0x34, 0x42, 0x56, 0x57, 0x70, 0x71, 0x73
ONE_PUT: Final = {KEY: b"\x7f\x01a", INSERT: b"\1", ACTION: b"\x7f\1", META: b"\x7f\2", PREDS: b"\x7f\0"}
"""`a` is true: the columns of the shortest change."""
_HUGE: Final = 2**40

leb = private_change.leb
signed = private_change._signed_leb


def chunk(content: bytes, kind: int = 1) -> bytes:
    """A chunk with the right checksum, whatever is in it."""
    hashed = bytes([kind]) + leb(len(content)) + content
    return b"\x85\x6f\x4a\x83" + hashlib.sha256(hashed).digest()[:4] + hashed


def raw(
    columns: Mapping[int, bytes] = ONE_PUT,
    *,
    seq: int = 1,
    start: int = 1,
    deps: Sequence[bytes] = (),
    actor: bytes = ACTOR,
    others: Sequence[bytes] = (),
    middle: bytes = b"\0\0",
    behind: bytes = b"",
) -> bytes:
    """A change of any columns."""
    return chunk(
        b"".join(
            (
                leb(len(deps)),
                *deps,
                leb(len(actor)) + actor,
                leb(seq) + leb(start) + middle,
                leb(len(others)),
                *(leb(len(other)) + other for other in others),
                leb(len(columns)),
                *(leb(column) + leb(len(data)) for column, data in columns.items()),
                *columns.values(),
                behind,
            )
        )
    )


def change(
    *ops: Op,
    seq: int = 1,
    start: int = 1,
    deps: Sequence[bytes] = (),
    actor: bytes = ACTOR,
    others: Sequence[bytes] = (),
) -> bytes:
    """A change in its one form; whether it goes on from anything is another question."""
    return chunk(
        private_change._content(Change(b"", actor, seq, start, tuple(sorted(deps)), ops), tuple(others))
    )


def with_columns(**changed: bytes) -> bytes:
    """The shortest change, with other columns."""
    names = {"key": KEY, "insert": INSERT, "action": ACTION, "meta": META, "raw": RAW, "preds": PREDS}
    names |= {"pred_actor": PRED_ACTOR, "pred_op": PRED_OP}
    columns = {**ONE_PUT, **{names[name]: data for name, data in changed.items()}}
    return raw(dict(sorted(columns.items())))


POISON: Final[Mapping[str, bytes]] = {
    "2^40 operations in one run": with_columns(
        key=signed(_HUGE) + b"\x01a",
        insert=leb(_HUGE),
        action=signed(_HUGE) + b"\1",
        meta=signed(_HUGE) + b"\2",
        preds=signed(_HUGE) + b"\0",
    ),
    "one operation that replaces 2^40": with_columns(
        preds=b"\x7f" + leb(_HUGE), pred_actor=signed(_HUGE) + b"\0", pred_op=signed(_HUGE) + b"\1"
    ),
    "a pred of an actor that is not named": raw(
        {**ONE_PUT, PREDS: b"\x7f\1", PRED_ACTOR: b"\x7f\5", PRED_OP: b"\x7f\1"}, start=5
    ),
    "an operation on another object": raw({0x01: b"\x7f\0", 0x02: b"\x7f\x09", **ONE_PUT}),
    "a key that is an element": raw({0x11: b"\x7f\0", 0x13: b"\x7f\1", **ONE_PUT}),
    "a new object": with_columns(action=b"\x7f\0"),
    "an increment of nothing": with_columns(action=b"\x7f\5", meta=b"\x7f\x14", raw=b"\1"),
    "an insert into a map": with_columns(insert=b"\0\1"),
    "no operation": raw({}),
    "number 0": raw(seq=0),
    "a compressed chunk": chunk(b"\0" * 20, kind=2),
    "a saved document": chunk(b"\0\0\0\0", kind=0),
    "a value of 2^60 bytes": with_columns(meta=b"\x7f" + leb(2**60 << 4 | 6), raw=b"a"),
    "a first operation at the end of the counter": raw(start=2**32),
    "a column twice": chunk(
        b"\0\x10" + ACTOR + b"\1\1\0\0\0\6" + b"\x15\3\x15\3\x34\1\x42\2\x56\2\x70\2"
        b"\x7f\1a\x7f\1a\1\x7f\1\x7f\2\x7f\0"
    ),
    "a run of one": with_columns(action=b"\1\1"),
    "a number longer than it needs to be": with_columns(insert=b"\x81\0"),
    "an actor that is not used": raw(others=(OTHER,)),
    "a time": raw(middle=b"\1\0"),
    "something behind its end": raw(behind=b"x"),
    "half a text": with_columns(key=b"\x7f\x01\xff"),
    "the same key twice": with_columns(
        key=b"\2\x01a", insert=b"\2", action=b"\2\1", meta=b"\2\2", preds=b"\2\0"
    ),
    "a deletion of nothing": with_columns(action=b"\x7f\3", meta=b"\x7f\0"),
}
"""Each holds automerge up, ends it, makes a document that does not load, or would be read in two ways."""
