"""Appending: how entries of this device are made, numbered, ordered, sealed, signed, and stored.

docs/protocol.md, 4.1 to 4.4.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from mlog import limits
from mlog.log import bodies, crypto, entry
from mlog.log.bodies import Kind
from mlog.log.crypto import DeviceKeys, Entropy, EpochKeys
from mlog.log.entry import NO_ENTRY, Header, Sealed
from mlog.log.fold import Draft, Fold, LogState, Opened, references_in, words_in
from mlog.log.ids import Incarnation, MessageId, week_of
from mlog.log.membership import NAMES_RULINGS
from mlog.log.people import People
from mlog.log.placing import extend_runs
from mlog.log.ranks import Ranks, is_retold
from mlog.log.scope import is_carried
from mlog.log.store import BodyState, ChainRow, EntryRow, Store
from mlog.log.stored import text_of

__all__ = ["Appender"]

_NAMES_RULINGS: Final = NAMES_RULINGS | {Kind.ADMIT}


class Appender:
    """Appends to the chains of a device. All is in the caller's transaction.

    Attributes:
        incarnation: Of the chains that are written by hand; another one where a chain is forked.
    """

    def __init__(
        self,
        store: Store,
        fold: Fold,
        people: People,
        device: DeviceKeys,
        entropy: Entropy,
        incarnation: Incarnation,
    ):
        self._store = store
        self.incarnation = incarnation
        self._fold = fold
        self._people = people
        self._device = device
        self._entropy = entropy

    def append(
        self,
        state: LogState,
        incarnation: Incarnation,
        drafts: Sequence[Draft],
        now_ms: int,
        epoch: EpochKeys,
        said: Collection[MessageId] = (),
        *,
        sparse: bool = False,
    ) -> list[EntryRow]:
        """Append entries to a chain.

        Args:
            said: Messages among these that other entries say already.
            sparse: Sign only the last entry, the last of each week, and what windows carry along.
        """
        chains = self._store.chains(state.n)
        chain = self._chain(state, chains, incarnation, sparse=sparse)
        # Twice as many as fit, since some are named anyway.
        heads = self._store.heads(state.n, 2 * limits.PARENTS_MAX)
        first_parents = heads if not sparse or chain.seq < 0 else []
        native_week = max(week_of(now_ms), _median_week(chains))
        n, seq, prev, week = self._store.next_n(), chain.seq + 1, chain.id, chain.week
        rulings = self._people.heads(state.n)
        named = {id_ for draft in drafts for id_ in draft.after} | {*first_parents, *rulings, prev}
        ranks = Ranks(self._store.places(state.n, named - {NO_ENTRY}).values())
        opened: list[Opened] = []
        for index, draft in enumerate(drafts):
            encoded = bodies.encode(draft.body)
            parents = set(draft.after)
            if seq == 0 or draft.kind in _NAMES_RULINGS:
                parents.update(rulings)
            if index == 0:
                others = [id_ for id_ in first_parents if id_ != prev and id_ not in parents]
                parents.update(others[: limits.PARENTS_MAX - len(parents - {prev})])
            parents.discard(prev)
            header = Header(
                draft.kind,
                chain.device,
                chain.incarnation,
                seq,
                prev,
                draft.time_ms,
                len(encoded),
                tuple(sorted(parents)) if parents else (),
                draft.mid,
            )
            week = week_of(draft.time_ms) if is_retold(header) else native_week
            sealed = entry.seal_entry(state.keys, epoch, week, header, encoded)
            row = EntryRow(
                n=n,
                log=state.n,
                id=sealed.id,
                week=week,
                outer=sealed.outer,
                signature=None,
                body=encoded,
                state=BodyState.OPENED,
                kind=draft.kind,
                chain=chain.n,
                seq=seq,
                time_ms=draft.time_ms,
                rank=ranks.add(sealed.id, header),
                mid=draft.mid,
            )
            if opened and sparse and opened[-1].row.week != week:
                self._sign(epoch, opened[-1].row)
            if not sparse or index + 1 == len(drafts) or is_carried(row):
                self._sign(epoch, row)
            opened.append(Opened(row, header, draft.body, text_of(draft.body)))
            n, seq, prev = n + 1, seq + 1, sealed.id
        self._store.insert(
            [o.row for o in opened],
            [(o.row.n, parent) for o in opened for parent in o.header.parents],
            references_in(state.n, opened),
            words_in(opened),
        )
        extend_runs(self._store, chain.n, range(opened[0].row.seq, seq))
        self._store.put_chain(msgspec.structs.replace(chain, seq=seq - 1, id=prev, week=week))
        self._store.change_heads(
            state.n, [prev], {chain.id, *(p for o in opened for p in o.header.parents)} - {NO_ENTRY}
        )
        self._fold.fold(state, opened, first={o.row.message for o in opened}.difference(said))
        return [o.row for o in opened]

    def _chain(
        self, state: LogState, chains: Sequence[ChainRow], incarnation: Incarnation, *, sparse: bool
    ) -> ChainRow:
        """The chain to write on, or one to begin."""
        own = [c for c in chains if (c.device, c.incarnation) == (self._device.id, incarnation)]
        if len(own) > 1 and incarnation == self.incarnation:
            # This chain was forked, as by a machine that was rolled back: it is written no further.
            incarnation = self.incarnation = Incarnation(self._entropy.random(8))
            own = []
        if own and not sparse and self._people.cuts(state.n).counts(own[0]) is not None:
            # Its person was removed and let in again: what counts begins another chain.
            incarnation = self._incarnation_after(state, incarnation)
            own = [c for c in chains if (c.device, c.incarnation) == (self._device.id, incarnation)]
        if own:
            return own[0]
        return ChainRow(self._store.next_chain(), state.n, self._device.id, incarnation, -1, NO_ENTRY, 0)

    def _incarnation_after(self, state: LogState, incarnation: Incarnation) -> Incarnation:
        """The incarnation in which this device writes on to a log from which its person was removed."""
        membership = self._people.membership(state.n)
        removal = membership.removed_by(self._people.subject()) if membership is not None else None
        found = crypto.derive("incarnation after", incarnation + state.keys.topic + (removal or b""), 8)
        return Incarnation(found)

    def _sign(self, epoch: EpochKeys, row: EntryRow) -> None:
        sealed = Sealed(row.id, row.outer, None)
        row.signature = entry.sign_entry(self._device, epoch, sealed).signature


def _median_week(chains: Sequence[ChainRow]) -> int:
    # Not the one of `statistics`, which takes 7 ms to import.
    return sorted(chain.week for chain in chains)[(len(chains) - 1) // 2] if chains else 0
