"""The private state as an automerge document: the one module that calls automerge.

A document is what the entries of the private log make of it, taken in the order of the view, and
can be made anew from them at any time. Each entry has one change. A change is *refused* for good,
by every replica for the same reason, or *waits* for one that it names, or is taken. To be taken, it
must

1. have the one form that is written here (mlog/log/private_change.py), which bounds all it can cost,
2. be of the actor that belongs to the entry's device and incarnation, and have its next number,
3. number its operations on from the changes that it names, and replace operations that are there,
4. go into a copy of the document, which must come back the same when it is saved and loaded.

What automerge raises is caught here; a panic of it is no `Exception`. docs/protocol.md, 20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, UserError
from mlog.log import crypto
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.private_change import ACTOR_SIZE, Change, Value, leb, parse_change

if TYPE_CHECKING:
    from automerge.core import Document

__all__ = ["Candidate", "PrivateDocument", "Taken", "actor_of"]

_SYNC_MESSAGE: Final = b"\x42\0\0\0"
"""A sync message of automerge without heads, needs and filters; a list of changes follows."""


def actor_of(device: DeviceId, incarnation: Incarnation) -> bytes:
    """Who makes the changes of one chain: a restored backup begins another chain, and so another actor."""
    return crypto.hash_with_context("private actor", device + incarnation)[:ACTOR_SIZE]


class Candidate(NamedTuple):
    """What an entry of the private log says.

    Attributes:
        actor: That belongs to the entry's device and incarnation.
        encoded: The change.
    """

    id: EntryId
    actor: bytes
    encoded: bytes


class Taken(NamedTuple):
    """What became of entries that are not part of the document.

    Attributes:
        refused: The reason why they never will be.
        waiting: Those that name a change that is not here, in the order of the view.
    """

    refused: dict[EntryId, str]
    waiting: list[Candidate]


class _Waits(Exception):
    """It names a change that is not here."""


class _Index:
    """Which changes are part of a document: for each its last operation, for each actor its operations."""

    def __init__(self) -> None:
        self.last_ops: dict[bytes, int] = {}
        self.spans: dict[bytes, list[tuple[int, int]]] = {}
        self.heads: set[bytes] = set()

    def copy(self) -> _Index:
        copied = _Index()
        copied.last_ops = dict(self.last_ops)
        copied.spans = {actor: list(spans) for actor, spans in self.spans.items()}
        copied.heads = set(self.heads)
        return copied

    def add(self, change: Change) -> None:
        self.last_ops[change.hash] = change.max_op
        self.spans.setdefault(change.actor, []).append((change.start_op, change.max_op))
        self.heads = (self.heads - set(change.deps)) | {change.hash}

    def check(self, change: Change) -> None:
        """Whether a change goes on from what is here.

        Raises:
            InvalidInput: It never will.
            _Waits: What it names is not here.
        """
        seq = len(self.spans.get(change.actor, ())) + 1
        if change.seq < seq:
            raise InvalidInput(f"its device made another change with the number {change.seq}")
        if any(dep not in self.last_ops for dep in change.deps):
            raise _Waits
        if change.seq > seq:
            raise InvalidInput(f"its device skipped from change {seq - 1} to {change.seq}")
        if change.start_op != 1 + max((self.last_ops[dep] for dep in change.deps), default=0):
            raise InvalidInput("its operations are not numbered on from what it knew")
        for op in change.ops:
            for number, actor in op.preds:
                if not any(first <= number <= last for first, last in self.spans.get(actor, ())):
                    raise InvalidInput("it replaces what is not there")


class _Walk(msgspec.Struct):
    """What would become of changes."""

    index: _Index
    taken: list[tuple[Candidate, Change]]
    refused: dict[EntryId, str]
    waiting: list[Candidate]


class PrivateDocument:
    """One state of the document, and how it changes.

    Args:
        saved: As an earlier one gave it; b"" for an empty one.

    Raises:
        InvalidInput: It does not load; make the document anew.
    """

    def __init__(self, saved: bytes = b""):
        self.saved = saved
        self._document = _loaded(saved)
        self._index = _Index()
        for change in self._document.get_changes([]):
            self._index.last_ops[bytes(change.hash)] = change.max_op
            spans = self._index.spans.setdefault(bytes(change.actor_id), [])
            spans.append((change.start_op, change.max_op))
        self._index.heads = _heads_of(self._document)

    def values(self) -> dict[str, Value]:
        """What stands at each key; where two devices put something while apart, what automerge chose."""
        from automerge.core import ROOT

        values: dict[str, Value] = {}
        for key in self._document.keys(ROOT):
            found = self._document.get(ROOT, key)
            assert found is not None
            # Its types say less than it gives: a pair, with a list of numbers for bytes.
            _, value = cast("tuple[object, Value | list[int]]", found[0])
            values[key] = bytes(value) if isinstance(value, list) else value
        return values

    def take(self, candidates: Sequence[Candidate]) -> Taken:
        """Take what entries say, in the order of the view; those that waited before come first."""
        refused: dict[EntryId, str] = {}
        parsed: list[tuple[Candidate, Change]] = []
        for candidate in candidates:
            try:
                parsed.append((candidate, _vetted(candidate)))
            except InvalidInput as error:
                refused[candidate.id] = str(error)
        while True:
            walk = self._walk(parsed)
            tried = self._tried(walk.taken)
            if tried is not None:
                self.saved, self._document = tried
                self._index = walk.index
                return Taken(refused | walk.refused, walk.waiting)
            culprit = self._first_bad(walk.taken)
            refused[culprit.id] = "automerge does not take it, or does not give it back"
            parsed = [pair for pair in parsed if pair[0] is not culprit]

    def _walk(self, parsed: Sequence[tuple[Candidate, Change]]) -> _Walk:
        """What would become of changes, if automerge agrees."""
        walk = _Walk(self._index.copy(), [], {}, [])
        queue, waiting = list(reversed(parsed)), list[tuple[Candidate, Change]]()
        while queue:
            candidate, change = queue.pop()
            try:
                walk.index.check(change)
            except _Waits:
                if len(waiting) < limits.PRIVATE_WAITING_MAX:
                    waiting.append((candidate, change))
                else:
                    walk.refused[candidate.id] = "too many others wait for changes that are not here"
            except InvalidInput as error:
                walk.refused[candidate.id] = str(error)
            else:
                walk.index.add(change)
                walk.taken.append((candidate, change))
                # What waited may go on now, in the order in which it came.
                queue += reversed(waiting)
                waiting.clear()
        walk.waiting += (candidate for candidate, _ in waiting)
        return walk

    def _first_bad(self, taken: Sequence[tuple[Candidate, Change]]) -> Candidate:
        """The change with which the others before it do not go into a document."""
        good, bad = 0, len(taken)
        while bad - good > 1:
            middle = (good + bad) // 2
            if self._tried(taken[:middle]) is None:
                bad = middle
            else:
                good = middle
        return taken[bad - 1][0]

    def _tried(self, taken: Sequence[tuple[Candidate, Change]]) -> tuple[bytes, Document] | None:
        """The document with these changes, saved and loaded again; None where it does not come back."""
        from automerge.core import Document, Message, SyncState

        if not taken:
            return self.saved, self._document
        heads = set(self._index.heads)
        for _, change in taken:
            heads = (heads - set(change.deps)) | {change.hash}
        changes = [candidate.encoded for candidate, _ in taken]
        message = b"".join((_SYNC_MESSAGE, leb(len(changes)), *(leb(len(c)) + c for c in changes)))
        try:
            copy = _loaded(self.saved)
            copy.receive_sync_message(SyncState(), Message.decode(message))
            saved = copy.save()
            again = Document.load(saved)
            whole = heads == _heads_of(copy) == _heads_of(again)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 (a panic in automerge is a BaseException)
            return None
        return (saved, again) if whole else None

    def change(self, actor: bytes, edits: Mapping[str, Value | None]) -> bytes | None:
        """The change that makes these edits; None deletes a key. None where nothing changes.

        The document itself is changed once the entry with it is taken.

        Raises:
            UserError: What is to be kept is too long.
        """
        from automerge.core import ROOT

        copy = _loaded(self.saved)
        copy.set_actor(actor)
        before = copy.get_heads()
        with copy.transaction() as transaction:
            known = set(transaction.keys(ROOT))
            for key, value in edits.items():
                if value is None:
                    if key in known:
                        transaction.delete(ROOT, key)
                else:
                    transaction.put(ROOT, key, *_scalar(value))
        made = copy.get_changes(before)
        if not made:
            return None
        encoded = bytes(made[0].raw_bytes)
        try:
            self._index.check(parse_change(encoded))
        except InvalidInput as error:
            raise UserError(f"this cannot be kept: {error}.") from None
        return encoded


def _vetted(candidate: Candidate) -> Change:
    change = parse_change(candidate.encoded)
    if change.actor != candidate.actor:
        raise InvalidInput("it is made in the name of another device or chain")
    return change


def _loaded(saved: bytes) -> Document:
    from automerge.core import Document

    if not saved:
        return Document()
    try:
        return Document.load(saved)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 (a panic in automerge is a BaseException)
        raise InvalidInput("the saved document does not load") from None


def _heads_of(document: Document) -> set[bytes]:
    return {bytes(head) for head in document.get_heads()}


def _scalar(value: Value) -> tuple[Any, Any]:
    from automerge.core import ScalarType

    match value:
        case bool():
            return ScalarType.Boolean, value
        case int():
            return ScalarType.Uint, value
        case str():
            return ScalarType.Str, value
        case bytes():
            return ScalarType.Bytes, value
