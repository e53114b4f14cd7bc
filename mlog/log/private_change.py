"""One change of the private state: taken apart, and refused unless it is of the one form that we write.

The private state is an automerge document, and a change is automerge's own binary form of one. The
library parses nothing here: the release that runs on Python believes the run lengths in it, so 70
bytes hold the interpreter for minutes, or end the process. So a change is read by this module
first, within bounds, and only as a flat map is changed: texts, bytes, counts and flags are put at
keys of the document's root, or deleted. Whatever else automerge can do is refused, and so is
another way of writing the same: what is read is written again, and must come out byte for byte.
docs/protocol.md, 20; why: docs/decisions/0024-private-state.md.

    chunk:   magic 4 | first 4 bytes of SHA-256 of the rest | 1 | length | content
    content: deps | actor | seq | first op | 0 (time) | 0 (no message) | other actors | columns
    column:  key, insert, action, value's type and length, value, number of preds, their actors, their ops
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, pairwise
from typing import Final, NamedTuple, TypeAlias, TypeVar

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded

__all__ = ["ACTOR_SIZE", "HASH_SIZE", "Change", "Op", "Value", "leb", "parse_change"]

ACTOR_SIZE: Final = 16
HASH_SIZE: Final = 32

Value: TypeAlias = bool | int | str | bytes
"""What can stand at a key."""

_T = TypeVar("_T")

_MAGIC: Final = bytes.fromhex("856f4a83")
_CHANGE: Final = 1
_KEY, _INSERT, _ACTION, _META, _RAW, _PREDS, _PRED_ACTOR, _PRED_OP = (
    0x15, 0x34, 0x42, 0x56, 0x57, 0x70, 0x71, 0x73,
)  # fmt: skip
_COLUMNS: Final = frozenset({_KEY, _INSERT, _ACTION, _META, _RAW, _PREDS, _PRED_ACTOR, _PRED_OP})
_PUT, _DELETE = 1, 3
_NULL, _FALSE, _TRUE, _COUNT, _TEXT, _BYTES = 0, 1, 2, 3, 6, 7


class Op(NamedTuple):
    """One key and what is put there.

    Attributes:
        value: None to delete what is there.
        preds: The operations that it replaces: number and actor of each.
    """

    key: str
    value: Value | None
    preds: tuple[tuple[int, bytes], ...] = ()


class Change(NamedTuple):
    """What one change says.

    Attributes:
        hash: By which later changes name it.
        actor: Who made it.
        seq: Its number among this actor's changes, from 1.
        start_op: Number of its first operation; the others follow.
        deps: The changes that its actor knew, and that no other known one named.
    """

    hash: bytes
    actor: bytes
    seq: int
    start_op: int
    deps: tuple[bytes, ...]
    ops: tuple[Op, ...]

    @property
    def max_op(self) -> int:
        """Number of its last operation."""
        return self.start_op + len(self.ops) - 1


def parse_change(encoded: bytes) -> Change:
    """Take a change apart; it costs work in proportion to its size.

    Raises:
        LimitExceeded: More than PRIVATE_CHANGE_SIZE_MAX_BYTES, PRIVATE_OPS_MAX or PRIVATE_DEPS_MAX.
        InvalidInput: Not of the one form that is written here.
    """
    if len(encoded) > limits.PRIVATE_CHANGE_SIZE_MAX_BYTES:
        raise LimitExceeded(f"change of {len(encoded):,} bytes")
    header = _Bytes(encoded)
    if header.take(4) != _MAGIC:
        raise InvalidInput("not a change")
    checksum, hashed = header.take(4), encoded[8:]
    if header.take(1)[0] != _CHANGE:
        raise InvalidInput("not a plain change")
    content = _Bytes(header.take(header.count()))
    header.end()
    hash_ = hashlib.sha256(hashed).digest()
    if hash_[:4] != checksum:
        raise InvalidInput("change with a wrong checksum")
    deps = tuple(content.take(HASH_SIZE) for _ in range(content.count(limits.PRIVATE_DEPS_MAX)))
    actor = content.take(content.count())
    seq, start_op = content.count(limits.PRIVATE_OP_NUMBER_MAX), content.count(limits.PRIVATE_OP_NUMBER_MAX)
    if content.take(2) != b"\0\0":
        raise InvalidInput("change with a time or a message")
    others = tuple(content.take(content.count()) for _ in range(content.count(limits.PRIVATE_DEPS_MAX)))
    if any(len(one) != ACTOR_SIZE for one in (actor, *others)) or not seq or not start_op:
        raise InvalidInput("change with an actor or a number that cannot be")
    if not (_ascends(deps) and _ascends(others)) or actor in others:
        raise InvalidInput("change with names out of order")
    ops = _ops(_columns(content), (actor, *others), start_op)
    if {named for op in ops for _, named in op.preds} - {actor} != set(others):
        raise InvalidInput("change with an actor of which it replaces nothing")
    change = Change(hash_, actor, seq, start_op, deps, ops)
    # Readers of another form of the same would count other bytes under the same name.
    if _content(change, others) != content.all:
        raise InvalidInput("change that is not in its one form")
    return change


# -- reading -----------------------------------------------------------------------------------


class _Bytes:
    """Bytes that are read from the start; raises InvalidInput where they end too soon."""

    def __init__(self, encoded: bytes):
        self.all = encoded
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self.all)

    def take(self, size: int) -> bytes:
        taken = self.all[self._at : self._at + size]
        if len(taken) != size:
            raise InvalidInput("change that is cut short")
        self._at += size
        return taken

    def count(self, most: int = limits.PRIVATE_CHANGE_SIZE_MAX_BYTES) -> int:
        """An unsigned LEB128."""
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > most:
                    raise LimitExceeded(f"change with a number of {value:,}")
                return value
        raise InvalidInput("change with a number that is too long")

    def signed(self) -> int:
        """A signed LEB128."""
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value - (1 << (shift + 7)) if byte & 0x40 else value
        raise InvalidInput("change with a number that is too long")

    def end(self) -> None:
        if self.left:
            raise InvalidInput("change with more behind its end")


def _ascends(names: Sequence[bytes]) -> bool:
    return all(one < other for one, other in pairwise(names))


def _columns(content: _Bytes) -> dict[int, _Bytes]:
    sizes: dict[int, int] = {}
    for _ in range(content.count(len(_COLUMNS))):
        column = content.count()
        if column not in _COLUMNS or column in sizes:
            raise InvalidInput("change of something else than keys and their values")
        sizes[column] = content.count()
    columns = {column: _Bytes(content.take(size)) for column, size in sizes.items()}
    content.end()
    return columns


def _ops(columns: dict[int, _Bytes], actors: Sequence[bytes], start_op: int) -> tuple[Op, ...]:
    empty = _Bytes(b"")
    actions = _runs(columns.get(_ACTION, empty), _Bytes.count, limits.PRIVATE_OPS_MAX)
    keys = _runs(columns.get(_KEY, empty), _text, limits.PRIVATE_OPS_MAX)
    metas = _runs(columns.get(_META, empty), _type_and_size, limits.PRIVATE_OPS_MAX)
    counts = _runs(columns.get(_PREDS, empty), _small, limits.PRIVATE_OPS_MAX)
    inserts, raw = columns.get(_INSERT, empty), columns.get(_RAW, empty)
    if not actions or inserts.count() != len(actions) or inserts.left:
        raise InvalidInput("change of something else than keys and their values")
    if not len(actions) == len(keys) == len(metas) == len(counts) == len(set(keys)):
        raise InvalidInput("change of which the columns do not match, or a key that stands twice")
    preds = _preds(columns, actors, sum(counts), start_op)
    ops: list[Op] = []
    at = 0
    for action, key, meta, count in zip(actions, keys, metas, counts, strict=True):
        if not key or len(key.encode()) > limits.PRIVATE_KEY_SIZE_MAX_BYTES:
            raise LimitExceeded("change of a key that is too long, or empty")
        named = preds[at : at + count]
        if len(set(named)) < count or (action == _DELETE and not named):
            raise InvalidInput("change that replaces the same twice, or nothing")
        ops.append(Op(key, _value(action, meta, raw), named))
        at += count
    raw.end()
    return tuple(ops)


def _preds(
    columns: dict[int, _Bytes], actors: Sequence[bytes], count: int, start_op: int
) -> tuple[tuple[int, bytes], ...]:
    if count > limits.PRIVATE_DEPS_MAX * limits.PRIVATE_OPS_MAX:
        raise LimitExceeded(f"change that replaces {count:,} operations")
    empty = _Bytes(b"")
    indices = _runs(columns.get(_PRED_ACTOR, empty), _Bytes.count, count)
    steps = _runs(columns.get(_PRED_OP, empty), _Bytes.signed, count)
    if not len(indices) == len(steps) == count or any(index >= len(actors) for index in indices):
        raise InvalidInput("change of which the columns do not match")
    preds: list[tuple[int, bytes]] = []
    number = 0
    for index, step in zip(indices, steps, strict=True):
        number += step
        if not 0 < number < start_op:
            raise InvalidInput("change that replaces what was not there")
        preds.append((number, actors[index]))
    return tuple(preds)


def _runs(column: _Bytes, read: Callable[[_Bytes], _T], most: int) -> list[_T]:
    """The values of a column, which stand as runs: n times the same, or -n values one by one."""
    values: list[_T] = []
    while column.left:
        length = column.signed()
        if len(values) + abs(length) > most:
            raise LimitExceeded(f"change of more than {most:,} operations")
        if length > 0:
            values += [read(column)] * length
        elif length < 0:
            values += [read(column) for _ in range(-length)]
        else:
            raise InvalidInput("change with a value that is missing")
    return values


def _text(column: _Bytes) -> str:
    return _decoded(column.take(column.count()))


def _decoded(encoded: bytes) -> str:
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        raise InvalidInput("change with a text that is not UTF-8") from None


def _type_and_size(column: _Bytes) -> int:
    return column.count(limits.PRIVATE_CHANGE_SIZE_MAX_BYTES << 4)


def _small(column: _Bytes) -> int:
    return column.count(limits.PRIVATE_DEPS_MAX)


def _value(action: int, meta: int, raw: _Bytes) -> Value | None:
    kind, size = meta & 15, meta >> 4
    encoded = raw.take(size)
    match action, kind:
        case (3, 0) if not size:
            return None
        case (1, 1 | 2) if not size:
            return kind == _TRUE
        case 1, 3:
            number = _Bytes(encoded)
            value = number.count(limits.SEQ_MAX)
            number.end()
            return value
        case 1, 6:
            return _decoded(encoded)
        case 1, 7:
            return encoded
        case _:
            raise InvalidInput("change of something else than keys and their values")


# -- writing, to compare -----------------------------------------------------------------------


def _content(change: Change, others: Sequence[bytes]) -> bytes:
    """The one form of a change, which automerge writes too; tested against it."""
    actors = {name: index for index, name in enumerate((change.actor, *others))}
    metas, raws = zip(*(_written(op.value) for op in change.ops), strict=True)
    preds = [pred for op in change.ops for pred in op.preds]
    numbers = [number for number, _ in preds]
    steps = [number - before for before, number in pairwise((0, *numbers))]
    columns = {
        _KEY: _as_runs([op.key for op in change.ops], lambda key: _sized(key.encode())),
        _INSERT: leb(len(change.ops)),
        _ACTION: _as_runs([_DELETE if op.value is None else _PUT for op in change.ops], leb),
        _META: _as_runs(metas, leb),
        _RAW: b"".join(raws),
        _PREDS: _as_runs([len(op.preds) for op in change.ops], leb),
        _PRED_ACTOR: _as_runs([actors[actor] for _, actor in preds], leb),
        _PRED_OP: _as_runs(steps, _signed_leb),
    }
    written = {column: data for column, data in columns.items() if data}
    return b"".join(
        (
            leb(len(change.deps)),
            *change.deps,
            _sized(change.actor),
            leb(change.seq),
            leb(change.start_op),
            b"\0\0",
            leb(len(others)),
            *map(_sized, others),
            leb(len(written)),
            *(leb(column) + leb(len(data)) for column, data in written.items()),
            *written.values(),
        )
    )


def _written(value: Value | None) -> tuple[int, bytes]:
    match value:
        case None:
            return _NULL, b""
        case bool():
            return _TRUE if value else _FALSE, b""
        case int():
            return _meta(_COUNT, leb(value))
        case str():
            return _meta(_TEXT, value.encode())
        case bytes():
            return _meta(_BYTES, value)


def _meta(kind: int, encoded: bytes) -> tuple[int, bytes]:
    return len(encoded) << 4 | kind, encoded


def _as_runs(values: Iterable[_T], write: Callable[[_T], bytes]) -> bytes:
    """The same value twice or more as a run; what stands between runs one by one."""
    parts: list[bytes] = []
    single: list[bytes] = []

    def close() -> None:
        if single:
            parts.append(_signed_leb(-len(single)) + b"".join(single))
            single.clear()

    for value, same in groupby(values):
        length = len(list(same))
        if length == 1:
            single.append(write(value))
        else:
            close()
            parts.append(_signed_leb(length) + write(value))
    close()
    return b"".join(parts)


def _sized(encoded: bytes) -> bytes:
    return leb(len(encoded)) + encoded


def leb(value: int) -> bytes:
    """A number as automerge writes it: LEB128."""
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*written, value))


def _signed_leb(value: int) -> bytes:
    written = bytearray()
    while not -0x40 <= value < 0x40:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*written, value & 0x7F))
