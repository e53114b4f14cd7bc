"""Standing: what this replica holds of a log at one moment, as roots over the weeks that are compared."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple

from mlog.log.ids import Topic
from mlog.log.receipts import Statement
from mlog.log.replica import Replica
from mlog.log.scope import Scope, bodies_root, entries_root, scope_of
from mlog.log.store import Digest, LogRow
from mlog.protocol import wire

__all__ = ["SLICE_LOGS", "Standing", "stand"]

SLICE_LOGS: Final = 8
"""Logs that are compared before others have their turn: a vector of one with 512 chains takes 5 ms."""


class Standing(NamedTuple):
    """One log at one moment.

    Attributes:
        last_n: Number of the newest row here: what comes later is not in it.
        digests: Of its segments, by week.
    """

    log: int
    topic: Topic
    scope: Scope
    last_n: int
    digests: list[Digest]

    def roots(self, first_week: int) -> tuple[bytes, bytes]:
        """Roots of entries and bodies from a week on, as the wire has them."""
        return (
            entries_root(self.digests, first_week)[: wire.ROOT_SIZE],
            bodies_root(self.digests, first_week)[: wire.ROOT_SIZE],
        )

    def equals(self, scope: Scope, roots: tuple[bytes, bytes]) -> bool:
        """Whether a replica with these roots over this scope holds the same."""
        entries, bodies = self.roots(scope.first_week)
        return entries == roots[0] and (not scope.bodies or bodies == roots[1])

    def statement(self, scope: Scope, time_ms: int, expires_ms: int) -> Statement:
        """What a receipt says of it."""
        chosen = [digest for digest in self.digests if digest.week >= scope.first_week]
        return Statement(
            topic=self.topic,
            first_week=scope.first_week,
            entries=sum(digest.entries for digest in chosen),
            bodies=sum(digest.bodies for digest in chosen) if scope.bodies else 0,
            entries_root=entries_root(chosen, scope.first_week),
            bodies_root=bodies_root(chosen if scope.bodies else [], scope.first_week),
            time_ms=time_ms,
            expires_ms=expires_ms,
        )

    def meet(self, first_week: int, *, bodies: bool) -> Scope:
        """Over what both sides compare: the later of both starts, and bodies if both keep them."""
        return Scope(max(self.scope.first_week, first_week), self.scope.bodies and bodies)


def stand(replica: Replica, row: LogRow, now_ms: int) -> Generator[None, None, Standing]:
    """Work out a standing; in slices, what was left for later is done first, and digests are made again."""
    store = replica.store
    while True:
        while replica.settle(row.n, now_ms):
            yield
        with store.reading():
            if not store.stale_weeks(row.n):
                last_n = store.next_n() - 1
                return Standing(row.n, row.topic, scope_of(row, now_ms), last_n, store.digests(row.n))
        replica.digester.step(row.n)
        yield
