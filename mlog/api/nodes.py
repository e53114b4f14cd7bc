"""Nodes: the entries of a log's DAG as programs see them, opened and checked."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlog.errors import InvalidInput
from mlog.log import bodies, entry
from mlog.log.bodies import Kind
from mlog.log.ids import EntryId
from mlog.log.store import BodyState, EntryRow, Position
from mlog.log.stored import check_body, check_header

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = ["Entry", "opened_entry"]

_STATES: Final = {int(state): state.name.lower() for state in BodyState}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a log's DAG, opened.

    Attributes:
        prev: The entry before in its chain, or None at its start.
        parents: Further entries that it names.
        heads: Nobody here names this entry yet.
        body_size: Bytes before padding; 0 if the body is erased.
        text: What it says, in one line where there is something to say.
    """

    id: EntryId
    log: int
    kind: int
    device: bytes
    incarnation: bytes
    seq: int
    prev: EntryId | None
    parents: tuple[EntryId, ...]
    time_ms: int
    week: int
    position: Position
    imported: bool
    signed: bool
    head: bool
    outer_size: int
    body_size: int
    state: str
    body: dict[str, Any] | None
    damage: str


def opened_entry(home: Home, row: EntryRow, heads: Set[EntryId]) -> Entry:
    """A stored entry as a node; where it is damaged, `damage` says how.

    Args:
        heads: Of its log.
    """
    keys = home.replica.log(row.log).keys
    damage, header, body = "", None, None
    try:
        header = check_header(keys, row, home.view.device_of(row))
        encoded = check_body(keys, row)
        body = None if encoded is None else _fields_of(row.kind, encoded)
    except (InvalidInput, msgspec.DecodeError) as error:
        damage = str(error)
    prev = header.prev if header is not None and header.prev != entry.NO_ENTRY else None
    return Entry(
        id=row.id,
        log=row.log,
        kind=row.kind,
        device=header.device if header is not None else b"",
        incarnation=header.incarnation if header is not None else b"",
        seq=row.seq,
        prev=prev,
        parents=header.parents if header is not None else (),
        time_ms=row.time_ms,
        week=row.week,
        position=row.position,
        imported=row.mid is not None,
        signed=row.signature is not None,
        head=row.id in heads,
        outer_size=len(row.outer),
        body_size=len(row.body or b""),
        state=_STATES.get(row.state, "damaged"),
        body=body,
        damage=damage,
    )


def _fields_of(kind: int, encoded: bytes) -> dict[str, Any]:
    """A body as programs read it; of a chunk what it is, and not its bytes."""
    if kind == Kind.PRIVATE:
        return {"size": len(encoded)}
    if kind == Kind.CHUNK:
        chunk = bodies.decode(kind, encoded)
        assert isinstance(chunk, bodies.Chunk)
        return {"group": chunk.group.hex(), "index": chunk.index, "size": len(chunk.data)}
    return msgspec.json.decode(encoded, type=dict[str, Any])
