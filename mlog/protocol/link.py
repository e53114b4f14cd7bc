"""Link: what all parts of one established session share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mlog import limits
from mlog.log import crypto
from mlog.log.ids import DeviceId, Topic
from mlog.log.peers import PeerRow
from mlog.log.replica import Replica
from mlog.log.store import LogKind, LogRow
from mlog.protocol import vector, wire
from mlog.protocol.events import Effect, Notice
from mlog.protocol.feed import Feed
from mlog.protocol.vector import ChainTag, Held, clip, unite

__all__ = ["Job", "Link"]

Job = Iterator[None]
"""Work in slices: each step is short, and other sessions have their turn between two."""

_LOG: Final = b"log"


class Link:
    """One established session, as its parts see it.

    Args:
        peer: Who is at the other end.
        leader: Whether this side dialled, and so compares.
        binding: 32 bytes that both ends know, and that differ in every session.
        send: Sends one message; on the wire once the event is handled.
        emit: Takes effects that are not messages.
        feed: What is new in the store, read once for all sessions; of its own, if it has none.
    """

    def __init__(
        self,
        replica: Replica,
        peer: PeerRow,
        binding: bytes,
        *,
        leader: bool,
        now_ms: int,
        send: Callable[[wire.Message], None],
        emit: Callable[[Effect], None],
        feed: Feed | None = None,
    ):
        self.replica = replica
        self.store = replica.store
        self.peer = peer
        self.device: DeviceId = peer.device
        self.binding = binding
        self.leader = leader
        self.send = send
        self.emit = emit
        self.feed = feed or Feed(replica)
        self.now_ms = now_ms
        self.round_trips = 0
        self._logs: dict[bytes, int] = {}
        self._tags: dict[Topic, bytes] = {}

    def tell(self, what: str, log: int = 0, count: int = 0, detail: str = "") -> None:
        """Say what happened with this peer (`Notice`)."""
        self.emit(
            Notice(
                what=what,
                log=log,
                device=self.device,
                count=count,
                round_trips=self.round_trips,
                detail=detail,
            )
        )

    def tag_of(self, topic: Topic) -> bytes:
        """Name of a log in this session."""
        tag = self._tags.get(topic)
        if tag is None:
            tag = self._tags[topic] = crypto.keyed_hash(self.binding, _LOG + topic, wire.TAG_SIZE)
        return tag

    def shared(self) -> dict[bytes, LogRow]:
        """The logs that this peer may have, by tag: one's own device all, another one what its person may."""
        rows = self.store.logs()
        if not self._is_own():
            shared = self.replica.people.shared_with(self.device)
            rows = [row for row in rows if row.n in shared]
        return {self.tag_of(row.topic): row for row in rows}

    def is_shared(self, log: int) -> bool:
        """Whether this peer may have a log now."""
        return self._is_own() or log in self.replica.people.shared_with(self.device)

    def _is_own(self) -> bool:
        """Whether it is one's own device; one that another process has just revoked is so no more."""
        return self.peer.own and not self.replica.people.is_revoked(self.device)

    def log_of(self, tag: bytes) -> int | None:
        """The log with this tag, or None."""
        if tag not in self._logs:
            self._logs = {known: row.n for known, row in self.shared().items()}
        log = self._logs.get(tag)
        return log if log is not None and self.is_shared(log) else None

    def chains(self, log: int) -> dict[ChainTag, list[int]]:
        """The chains of a log by tag, of a forked one all its branches; none of too many to look at."""
        chains: dict[ChainTag, list[int]] = {}
        if not self._has_few_chains(log):
            return chains
        for chain in self.store.chains(log):
            tag = vector.chain_tag(self.binding, chain.device, chain.incarnation)
            chains.setdefault(tag, []).append(chain.n)
        return chains

    def _has_few_chains(self, log: int) -> bool:
        chains, runs = self.store.count_chains(log)
        return chains <= limits.CHAINS_READ_MAX and runs <= chains + limits.VECTOR_HOLES_MAX

    def held(self, log: int, first_week: int) -> dict[ChainTag, Held] | None:
        """What is held of each chain, from its first entry in a week that counts.

        None where nobody can tell, as of a log that is kept blindly, and where there are more chains, or
        holes in them, than are compared one by one.
        Of a forked chain a number is held if it is in any branch: which one a vector cannot tell.
        """
        if self._is_blind(log) or not self._has_few_chains(log):
            return None
        runs: dict[int, list[tuple[int, int]]] = {}
        for run in self.store.runs(log):
            runs.setdefault(run.chain, []).append((run.first, run.last))
        starts = self.store.first_seqs(log, first_week) if first_week else dict.fromkeys(runs, 0)
        held: dict[ChainTag, Held] = {}
        for tag, branches in self.chains(log).items():
            counted = [n for n in branches if n in runs and n in starts]
            if counted:
                ranges = unite(clip(tuple(runs[n]), starts[n]) for n in counted)
                held[tag] = Held(min(starts[n] for n in counted), ranges)
        return held

    def _is_blind(self, log: int) -> bool:
        return any(row.n == log and row.kind == LogKind.BLIND for row in self.store.logs())
