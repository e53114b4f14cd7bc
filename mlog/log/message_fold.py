"""What the entries that say and change one message come to: a pure rule.

Several entries can say one message (two people import the same chat): one of them stands for it. Its
edits and its erasure are those of its own author. docs/protocol.md, 6.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Final, NamedTuple

from mlog.log import bodies, crypto
from mlog.log.bodies import SPOKEN, Body, Kind
from mlog.log.ids import DeviceId, MessageId
from mlog.log.store import BodyState, EntryRow, Store
from mlog.log.stored import readable_body

__all__ = [
    "CHANGING",
    "ERASED_WITH",
    "Folded",
    "changes_of",
    "chat_target",
    "fold_message",
    "found_by",
    "references_of",
    "said_by",
    "was_erased",
]

CHANGING: Final = frozenset({Kind.EDIT, Kind.ERASURE, Kind.MANIFEST})
ERASED_WITH: Final = frozenset({Kind.EDIT, Kind.MANIFEST})
"""What is erased together with the message that it names."""


class Folded(NamedTuple):
    """What becomes of the entries that say and change one message.

    Attributes:
        erased: `n` of those whose body their author erased.
        hidden: `n` of those that say it and for which another one stands.
        edits: By `n` of one that says it, `n` of the edit that it reads as now.
    """

    erased: set[int]
    hidden: set[int]
    edits: dict[int, int]


def fold_message(
    rows: Sequence[EntryRow],
    changes: Sequence[EntryRow],
    authors: Mapping[int, DeviceId],
    quarantined: Set[int] = frozenset(),
    anyones: Set[int] = frozenset(),
) -> Folded:
    """Fold one message; what comes out depends on the entries, not on their order.

    Args:
        rows: Entries with its identity; those that are not spoken do not count.
        changes: Entries that name it.
        authors: Who writes each chain.
        quarantined: By `n`, those that say and change nothing; but for erasures among themselves.
        anyones: By `n`, erasures that are good for whoever said it.
    """
    erased = _erased_of(rows, changes, authors, quarantined, anyones)
    hidden = {row.n for row in rows if row.n in quarantined and row.kind in SPOKEN}
    said = [row for row in rows if row.kind in SPOKEN and row.n not in quarantined]
    changes = [row for row in changes if row.n not in quarantined]
    if len(said) <= 1 and not changes:
        return Folded(erased, hidden, {})
    edits: dict[int, int] = {}
    for row in said:
        own = [
            change
            for change in changes
            if change.kind == Kind.EDIT
            and change.n not in erased
            and change.state != BodyState.EXPIRED
            and authors.get(change.chain) == authors.get(row.chain)
        ]
        if own:
            edits[row.n] = max(own, key=lambda change: change.position).n
    # Of those that say the same one stands for all; different claims stay apart.
    groups: dict[object, list[EntryRow]] = {}
    for row in said:
        groups.setdefault(None if row.n in erased else said_by(row), []).append(row)
    # A text that is not here says nothing of what it was: it hides behind any other.
    silent = groups.pop(None, [])
    if silent and not groups:
        groups[None] = silent
    shown = {min(group, key=lambda row: (row.mid is not None, row.id)).n for group in groups.values()}
    return Folded(erased, hidden | {row.n for row in said} - shown, edits)


def _erased_of(
    rows: Sequence[EntryRow],
    changes: Sequence[EntryRow],
    authors: Mapping[int, DeviceId],
    quarantined: Set[int],
    anyones: Set[int],
) -> set[int]:
    """Which bodies are empty; arguments as of `fold_message`.

    What is quarantined is emptied by its author's erasures wherever these stand. Else a body that was
    emptied before both were quarantined would have to come back, and an edit that is empty does not say
    of what.
    """
    erasures = [row for row in changes if row.kind == Kind.ERASURE]
    by_all = {authors.get(row.chain) for row in erasures}
    erasers = {authors.get(row.chain) for row in erasures if row.n not in quarantined}
    by_admin = any(row.n in anyones and row.n not in quarantined for row in erasures)
    said = [row for row in rows if row.kind in SPOKEN]
    return {
        row.n
        for row in (*said, *(row for row in changes if row.kind in ERASED_WITH))
        if (by_admin or authors.get(row.chain) in (by_all if row.n in quarantined else erasers))
        and not was_erased(row)
    }


def changes_of(
    store: Store, log: int, mids: Collection[MessageId], *, bodies: bool = True
) -> dict[MessageId, list[EntryRow]]:
    """The entries that change these messages."""
    references = store.references_to(log, mids, CHANGING)
    rows = store.rows({reference.n for reference in references}, bodies=bodies)
    changes: dict[MessageId, list[EntryRow]] = {}
    for reference in references:
        changes.setdefault(reference.target, []).append(rows[reference.n])
    return changes


def references_of(body: Body) -> tuple[MessageId, ...]:
    """The messages that a body names; of an IMPORT, the chat; of a file and its chunks, their group."""
    if isinstance(body, bodies.Text):
        return tuple(MessageId(bytes.fromhex(target)) for target in body.to)
    if isinstance(body, bodies.Import):
        return (chat_target(body.chat),)
    if isinstance(body, bodies.Manifest) and body.group:
        return (MessageId(bytes.fromhex(body.of)), MessageId(bytes.fromhex(body.group)))
    if isinstance(body, bodies.Edit | bodies.Reaction | bodies.Erasure | bodies.Manifest):
        return (MessageId(bytes.fromhex(body.of)),)
    if isinstance(body, bodies.Chunk):
        return (MessageId(body.group),)
    return ()


def chat_target(key: str) -> MessageId:
    """What a chat's key is found by."""
    return MessageId(crypto.hash_with_context("chat key", key.encode())[:16])


def said_by(row: EntryRow) -> object:
    """What tells two claims of one message apart; None if the text is not here, or was erased before."""
    body = readable_body(row.kind, row.body)
    return (body.by, body.text) if isinstance(body, bodies.Text) and not body.erased else None


def found_by(rows: Sequence[EntryRow], changing: Sequence[EntryRow]) -> int | None:
    """An entry that names a message now and later: what an erasure empties forgets what it named."""
    spoken = next((row.n for row in rows if row.kind in SPOKEN), None)
    erasure = next((row.n for row in changing if row.kind == Kind.ERASURE), None)
    return spoken or erasure or (changing[0].n if changing else None)


def was_erased(row: EntryRow) -> bool:
    """Whether it was erased before it was imported: then there is nothing more to forget."""
    body = readable_body(row.kind, row.body)
    return isinstance(body, bodies.Text) and body.erased
