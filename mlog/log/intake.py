"""Intake: how entries that others made come in, in bulk and in any order.

Whether an entry is stored and counted depends on its bytes alone: form, hash and the log's MAC.
Whether it is *read* depends on the stored set: it must open, and be authentic, which means that a
valid signature at its own or a later entry of its chain vouches for it along `prev` links that
are all here. What is read is *placed*: it gets a chain, a number, a rank and links. The rest waits,
and is placed by whatever comes later and vouches for it, or opens it.

Two authentic entries at one place of a chain are a fork. Both are read: each chain row holds
entries that are linked wherever they are neighbours, and what does not fit into one row begins
another, a branch. Nothing but the numbers of rows depends on which came first.

What would take long is left for later in small parts (`Task`), and is done by the next calls:

OPEN    entries behind `n` are tried again, since an epoch was learned.
UNSEAL  bodies behind `n` that were closed are opened, since a secret was learned.
PLACE   `n` is authentic, and not placed yet.
RANK    `n` names an entry that is placed behind it: its rank must be at least `value`.
BEHIND  entries behind number `value` that name `n` have to be put behind it: there are very many.
VOUCH   `n` is authentic if one of those behind number `value` that name it is the next of its chain.
FOLD    the message that `n` says or changes is worked out: many of its texts had to be read.
ERASE   the body of `n` is erased: there were many, or long ones, whose words leave the search index too.
CUT     entries of chain row `n` from number SEQ_MAX - `value` on are folded anew: whether they count changed.

docs/protocol.md, 4.4 and 4.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded
from mlog.log import bodies, entry
from mlog.log.batch import WALK_FIRST, Batch, Taken, cost_of, rows_like
from mlog.log.entry import Sealed, Unsealed
from mlog.log.fold import Fold, LogState
from mlog.log.ids import DeviceId, EntryId, Topic
from mlog.log.placing import Arrival
from mlog.log.ranks import CHILDREN_AT_ONCE, settle_children
from mlog.log.store import EntryRow, Store, Task

__all__ = ["Intake", "Taken"]

_SIGNATURE_SIZE: Final = 80
_SETTLED_FIRST: Final = 64
_SETTLED_EACH: Final = 8
_RECOUNTED_ROWS: Final = 200
_PLACING: Final = (Task.OPEN, Task.UNSEAL, Task.VOUCH, Task.PLACE, Task.RANK, Task.BEHIND, Task.CUT)
"""What messages are worked out of comes first."""


class Intake:
    """Takes entries into a store.

    Args:
        fold: Works out what they change.
        learn: Takes the epoch that a key entry by a device carries, if it is for this device; says
            whether it was new, and what is wrong with it or "".
        refresh: Reads the epochs of a log again; whether there are more now.
    """

    def __init__(
        self,
        store: Store,
        fold: Fold,
        learn: Callable[[LogState, DeviceId, bodies.Key], tuple[bool, str]],
        refresh: Callable[[LogState], bool],
    ):
        self.store = store
        self.fold = fold
        self.learn = learn
        self.refresh = refresh

    def receive(self, state: LogState, entries: Sequence[Sealed], now_ms: int) -> Taken:
        """Take entries; as `Replica.receive`."""
        _require_few(entries)
        arrivals, refused = _unseal_all(lambda outer, body: entry.unseal(state.keys, outer, body), entries)
        with self.store.transaction():
            lacking = any(a.epoch is None or a.closed for a in arrivals.values())
            if lacking and self.refresh(state):
                arrivals, refused = _unseal_all(
                    lambda outer, body: entry.unseal(state.keys, outer, body), entries
                )
            batch = Batch(self, state.n, state, now_ms)
            taken = batch.take(arrivals, refused)
            self._settle(state, _SETTLED_FIRST + _SETTLED_EACH * len(entries), now_ms)
        return taken

    def receive_blind(self, log: int, topic: Topic, entries: Sequence[Sealed], now_ms: int) -> Taken:
        """Take entries of a log that this replica cannot read."""
        _require_few(entries)
        arrivals, refused = _unseal_all(lambda outer, body: entry.unseal_blind(topic, outer, body), entries)
        with self.store.transaction():
            return Batch(self, log, None, now_ms).take(arrivals, refused)

    def settle(self, state: LogState, now_ms: int) -> bool:
        """Do a part of what was left for later; whether there is more."""
        store = self.store
        with store.transaction():
            if any(store.unsettled(state.n, task, 1) for task in _PLACING):
                self._settle(state, limits.STORE_ROWS_MAX, now_ms)
            else:
                self.fold.settle_messages(state, limits.STORE_ROWS_MAX)
                self.fold.settle_expired(state)
        return any(store.unsettled(state.n, task, 1) for task in Task)

    def _settle(self, state: LogState, budget: int, now_ms: int) -> None:
        store, log = self.store, state.n
        for after, _ in store.unsettled(log, Task.OPEN, 1):
            rows = list(_as_cost(lambda last, most: store.scan_unopened(log, last, most), after, budget))
            budget -= sum(map(cost_of, rows))
            more = [(rows[-1].n, 0)] if rows and store.scan_unopened(log, rows[-1].n, 1) else []
            store.change_unsettled(log, Task.OPEN, more, [after])
            Batch(self, log, state, now_ms).reconsider(rows)
        for after, _ in store.unsettled(log, Task.UNSEAL, 1) if budget > 0 else ():
            rows = list(_as_cost(lambda last, most: store.scan_closed(log, last, most), after, budget))
            budget -= sum(map(cost_of, rows))
            more = [(rows[-1].n, 0)] if rows and store.scan_closed(log, rows[-1].n, 1) else []
            store.change_unsettled(log, Task.UNSEAL, more, [after])
            Batch(self, log, state, now_ms).open_closed(rows)
        for n, after in store.unsettled(log, Task.VOUCH, 1) if budget > 0 else ():
            Batch(self, log, state, now_ms).look_for_next(n, after)
            budget -= CHILDREN_AT_ONCE
        waiting = [n for n, _ in store.unsettled(log, Task.PLACE, budget)] if budget > 0 else []
        if waiting:

            def of_waiting(last: int, most: int) -> list[EntryRow]:
                return sorted(
                    store.rows([n for n in waiting if n > last][:most]).values(), key=lambda row: row.n
                )

            rows = list(_as_cost(of_waiting, 0, budget))
            taken = [n for n in waiting if n <= rows[-1].n] if rows else waiting
            store.change_unsettled(log, Task.PLACE, [], taken)
            Batch(self, log, state, now_ms).reconsider([r for r in rows if not r.chain], vouched=True)
            budget -= sum(map(cost_of, rows))
        if budget > 0:
            budget -= settle_children(store, log, budget)
        if budget > 0:
            self.fold.settle_ranks(state, budget)
        for chain, left in store.unsettled(log, Task.CUT, 1):
            first = limits.SEQ_MAX - left
            rows = store.scan(chain, first - 1, _RECOUNTED_ROWS, room=limits.BUNDLE_SIZE_MAX_BYTES)
            more = [(chain, limits.SEQ_MAX - (rows[-1].seq + 1))] if rows else []
            store.change_unsettled(log, Task.CUT, more, [chain])
            self.fold.recount(state, rows)


def _as_cost(read: Callable[[int, int], list[EntryRow]], after: int, budget: int) -> Iterator[EntryRow]:
    """Rows behind a number until their cost is as much, however long they are; at least one.

    Args:
        read: Gives rows behind a number, at most so many.
    """
    most = WALK_FIRST
    while budget > 0 and (rows := read(after, min(most, budget))):
        most = rows_like(rows)
        for row in rows:
            if budget <= 0:
                return
            budget -= cost_of(row)
            after = row.n
            yield row


def _require_few(entries: Sequence[Sealed]) -> None:
    if len(entries) > limits.STORE_ROWS_MAX:
        raise LimitExceeded(f"{len(entries)} entries at once")


def _unseal_all(
    unseal: Callable[[bytes, bytes | None], Unsealed], entries: Sequence[Sealed]
) -> tuple[dict[EntryId, Arrival], list[tuple[EntryId, str]]]:
    """Check and open entries; one that comes twice is taken once, with the parts of both."""
    arrivals: dict[EntryId, Arrival] = {}
    refused: list[tuple[EntryId, str]] = []
    for sealed in entries:
        try:
            found = unseal(sealed.outer, sealed.body)
        except InvalidInput as error:
            refused.append((sealed.id, str(error)))
            continue
        signature = sealed.signature
        if signature is not None and len(signature) != _SIGNATURE_SIZE:
            refused.append((found.id, f"signature of {len(signature)} bytes"))
            signature = None
        if sealed.body is not None and found.held is None:
            refused.append((found.id, "body does not match its hash"))
        known = arrivals.get(found.id)
        if known is None:
            arrivals[found.id] = Arrival(
                found.id,
                sealed.outer,
                found.week,
                found.header,
                found.epoch,
                found.unread,
                found.held,
                found.body,
                signature,
                closed=found.closed,
            )
        else:
            if known.held is None:
                known.held, known.body = found.held, found.body
            if known.signature is None:
                known.signature = signature
    return arrivals, refused
