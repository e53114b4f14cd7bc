"""The private log: what its entries say together, and how something is noted in it.

Only entries of this person's own devices count, none that comes after the cut of a revoked one, in
the order of the view. What is worked out is kept (mlog/log/private_cache.py); automerge is loaded
where something new is to be taken or noted, and not to read what is known. docs/protocol.md, 20.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeGuard

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, UserError
from mlog.log import bodies, crypto
from mlog.log.bodies import Kind
from mlog.log.fold import Draft, LogState
from mlog.log.ids import DeviceId, EntryId
from mlog.log.people import private_log
from mlog.log.private_cache import NOWHERE, PrivateCache, load_private, save_private
from mlog.log.private_change import Value
from mlog.log.private_document import Candidate, PrivateDocument, actor_of
from mlog.log.private_state import PrivateState, read_values
from mlog.log.replica import Replica
from mlog.log.store import EntryRow, TimelineQuery
from mlog.log.stored import readable_body

__all__ = ["PrivateLog"]

_PART_SIZE: Final = limits.PRIVATE_CHANGE_SIZE_MAX_BYTES // 2
_VALUE_SIZE: Final = 16 * limits.READ_CHAINS_MAX
_NO_LOG: Final = (
    "there is no log for your settings here yet: it comes from your other devices with 'mlog sync'."
)


class _Forked(Exception):
    """What was written goes to another chain than was thought."""


class PrivateLog:
    """The private state of a replica's person."""

    def __init__(self, replica: Replica):
        self._replica = replica
        self._store = replica.store

    def state(self) -> PrivateState:
        """What is noted, with all that has come here."""
        cache = self._current()
        return PrivateState() if cache is None else read_values({**cache.carried, **cache.values})

    def note(self, edits: Mapping[str, Value | None], now_ms: int) -> bool:
        """Put values at keys, or with None delete them; durable on return. Whether anything changed.

        Raises:
            UserError: This home has no private log yet, or a value is too long.
        """
        for _ in range(2):
            try:
                return self._note(edits, now_ms)
            except _Forked:
                continue
        raise UserError("the log of your settings was forked while this was noted; try again.")

    def _note(self, edits: Mapping[str, Value | None], now_ms: int) -> bool:
        replica, incarnation = self._replica, self._replica.incarnation
        with replica.transaction():
            log, cache = private_log(replica), self._current()
            if log is None or cache is None:
                raise UserError(_NO_LOG)
            carried = {key: value for key, value in cache.carried.items() if key not in cache.values}
            changed = False
            for part in _in_parts({**carried, **edits}):
                change = PrivateDocument(cache.document).change(
                    actor_of(replica.device_id, incarnation), part
                )
                if change is not None:
                    replica.write(log.n, [Draft(Kind.PRIVATE, bodies.Private(change=change), now_ms)], now_ms)
                    if replica.incarnation != incarnation:
                        # The chain was found to be forked, and another one begun, which has another actor.
                        raise _Forked
                    cache, changed = self._current() or cache, True
            if carried:
                save_private(self._store, msgspec.structs.replace(cache, carried={}))
        return changed

    def refusal(self, id_: EntryId) -> str:
        """Why an entry of the private log is not part of the state; "" where it is, or nobody knows."""
        cache = self._current()
        if cache is None:
            return ""
        if id_ in cache.waiting:
            return "it goes on from a change that is not here, or was refused"
        return cache.refused.get(id_, "")

    # -- working it out ------------------------------------------------------------------------

    def _current(self) -> PrivateCache | None:
        """What is kept, brought up to date; None without a private log."""
        log = private_log(self._replica)
        if log is None:
            return None
        own = self._own_chains(log)
        writers = crypto.hash_with_context("private writers", b"".join(sorted(set(own.values()))))
        kept = load_private(self._store)
        if _is_good(kept, log, writers) and not self._behind(log, kept):
            return kept
        with self._replica.transaction():
            kept = load_private(self._store)
            if not _is_good(kept, log, writers):
                carried = {} if kept is None else kept.carried
                if kept is not None and kept.topic != log.keys.topic:
                    # This device went over to an older person, and brings along what it noted before.
                    carried = {**carried, **kept.values}
                kept = PrivateCache(topic=log.keys.topic, writers=writers, position=NOWHERE, carried=carried)
            while rows := self._behind(log, kept):
                kept = self._taken(kept, rows, own)
            save_private(self._store, kept)
        return kept

    def _own_chains(self, log: LogState) -> dict[int, DeviceId]:
        return {
            chain.n: chain.device
            for chain in self._store.chains(log.n)
            if self._replica.people.is_own(chain.device)
        }

    def _behind(self, log: LogState, kept: PrivateCache) -> list[EntryRow]:
        kinds = frozenset({int(Kind.PRIVATE)})
        query = TimelineQuery(log=log.n, limit=limits.STORE_ROWS_MAX, after=kept.place, kinds=kinds)
        return self._store.timeline(query)

    def _taken(
        self, kept: PrivateCache, rows: Sequence[EntryRow], own: Mapping[int, DeviceId]
    ) -> PrivateCache:
        """The state with the next entries of the log."""
        try:
            document = PrivateDocument(kept.document)
        except InvalidInput:
            # Its hash is right, so another release of automerge wrote it: make it anew.
            return msgspec.structs.replace(kept, position=NOWHERE, document=b"", refused={}, waiting=())
        log = rows[0].log
        waited = self._store.find(log, [EntryId(id_) for id_ in kept.waiting])
        again = [waited[EntryId(id_)] for id_ in kept.waiting if EntryId(id_) in waited]
        refused: dict[bytes, str] = dict(kept.refused)
        candidates: list[Candidate] = []
        for row in (*again, *rows):
            body = readable_body(row.kind, row.body)
            if row.chain not in own:
                refused[row.id] = "its device is not one of yours"
            elif isinstance(body, bodies.Private):
                candidates.append(self._candidate(row, body))
            elif row.body is not None:
                refused[row.id] = "it is longer than any change"
        taken = document.take(candidates)
        refused |= taken.refused
        last = rows[-1]
        return msgspec.structs.replace(
            kept,
            position=(last.rank, last.id),
            document=document.saved,
            values=document.values(),
            refused=dict(list(refused.items())[: limits.PRIVATE_REFUSED_MAX]),
            waiting=tuple(candidate.id for candidate in taken.waiting),
        )

    def _candidate(self, row: EntryRow, body: bodies.Private) -> Candidate:
        [chain] = self._store.chain_rows([row.chain])
        return Candidate(row.id, actor_of(chain.device, chain.incarnation), body.change)


def _is_good(kept: PrivateCache | None, log: LogState, writers: bytes) -> TypeGuard[PrivateCache]:
    return kept is not None and (kept.topic, kept.writers) == (log.keys.topic, writers)


def _in_parts(edits: Mapping[str, Value | None]) -> Iterator[dict[str, Value | None]]:
    """Edits in as many changes as they need; there is more than one where much is carried over."""
    part: dict[str, Value | None] = {}
    size = 0
    for key, value in edits.items():
        added = len(key) + (len(value.encode()) if isinstance(value, str) else _VALUE_SIZE)
        if part and (len(part) == limits.PRIVATE_OPS_MAX or size + added > _PART_SIZE):
            yield part
            part, size = {}, 0
        part[key] = value
        size += added
    yield part
