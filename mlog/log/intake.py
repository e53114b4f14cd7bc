"""Intake: how entries that others made come in.

Whether an entry is stored depends on its bytes alone: form, hash and the log's MAC. What it means
is worked out from the stored set by mlog/log/fold.py. docs/protocol.md, 4.4.
"""

from __future__ import annotations

from mlog.errors import InvalidInput
from mlog.log import entry
from mlog.log.entry import Header, Sealed
from mlog.log.fold import Fold, LogState, Opened, Ranks, parents_of
from mlog.log.store import BodyState, ChainRow, EntryRow, Store
from mlog.log.stored import readable_body, text_of

__all__ = ["Intake"]


class Intake:
    """Takes entries into a store.

    Args:
        fold: Works out what they change.
    """

    def __init__(self, store: Store, fold: Fold):
        self._store = store
        self._fold = fold

    def admit(self, state: LogState, sealed: Sealed) -> bool:
        """Take one entry; as `Replica.admit`."""
        if entry.entry_id(sealed.outer) != sealed.id:
            raise InvalidInput("entry does not match its id")
        header, epoch = entry.open_header(state.keys, sealed.outer)
        encoded = entry.open_body(epoch, sealed.outer, sealed.body) if sealed.body is not None else None
        if sealed.signature is not None:
            entry.verify_entry_signature(epoch, header.device, sealed.id, sealed.outer, sealed.signature)
        with self._store.transaction():
            if self._store.find(state.n, [sealed.id]):
                return False
            self._admit(state, sealed, header, encoded)
        return True

    def _admit(self, state: LogState, sealed: Sealed, header: Header, encoded: bytes | None) -> None:
        store = self._store
        chain = next(
            (
                c
                for c in store.chains(state.n)
                if c.device == header.device and c.incarnation == header.incarnation
            ),
            None,
        )
        n_chain = store.next_chain() if chain is None else chain.n
        outer = entry.parse_outer(sealed.outer)
        row = EntryRow(
            n=store.next_n(),
            log=state.n,
            id=sealed.id,
            week=outer.week,
            outer=sealed.outer,
            signature=sealed.signature,
            body=encoded,
            state=BodyState.OPENED if encoded is not None else BodyState.NOT_FETCHED,
        )
        if chain is not None and store.at(chain.n, header.seq) is not None:
            # A second entry at one place of a chain: kept and counted, not read (a fork).
            store.insert([row], [], [], [])
            return
        row.kind, row.chain, row.seq = header.kind, n_chain, header.seq
        row.time_ms, row.mid = header.time_ms, header.mid
        known = store.find(state.n, parents_of(header))
        row.rank = Ranks(known.values()).add(row.id, header)
        body = readable_body(header.kind, encoded)
        opened = Opened(row, header, body, text_of(body))
        self._fold.insert(state, [opened])
        if chain is None or header.seq > chain.seq:
            store.put_chain(
                ChainRow(
                    n_chain,
                    state.n,
                    header.device,
                    header.incarnation,
                    header.seq,
                    row.id,
                    outer.week,
                )
            )
        children = self._fold.children(state.n, row)
        store.change_heads(state.n, [] if children else [row.id], parents_of(header))
        self._fold.fold(state, [opened], self._fold.raise_ranks(state, row, children))
