"""Proof: is everything that is stored what its hashes say, and how much is there.

What is found damaged or missing is kept as gaps, so that it is known from then on and can heal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from mlog import limits
from mlog.errors import StoreError
from mlog.log import people
from mlog.log import verify as checks
from mlog.log.bodies import SPOKEN
from mlog.log.fold import LogState
from mlog.log.merkle import log_root, refresh_digests
from mlog.log.store import LogKind, Reason
from mlog.log.verify import Finding, Progress

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = ["LogStatus", "status", "verify"]


class LogStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one log.

    Attributes:
        entries, bodies: Held here.
        root: Hash over everything held: two replicas with one root hold the same.
        gaps: Known damage and absence.
        forks: Chains of which two branches are known.
        closed: Bodies from before this person joined, which it may not read.
    """

    n: int
    kind: LogKind
    title: str
    entries: int
    bodies: int
    messages: int
    chains: int
    heads: int
    root: bytes
    gaps: int
    forks: int
    closed: int = 0


def verify(
    home: Home, log: int | None, *, signatures: bool, progress: Callable[[int], None]
) -> list[Finding]:
    """Check what is stored; as `Home.verify`."""
    store, replica = home.store, home.replica
    findings = [_file_finding(problem) for problem in store.check_file()]
    findings += _verify_search(home, thorough=signatures)
    for state in replica.logs():
        if log not in (None, state.n):
            continue
        here: list[Finding] = []
        try:
            # One state of the log: another process may be writing to it.
            with store.reading():
                for event in checks.verify_log(replica, state.n, signatures=signatures):
                    if isinstance(event, Progress):
                        progress(event.entries)
                    else:
                        here.append(event)
            _record_gaps(home, state.n, here)
        except StoreError as error:
            # Pages that SQLite cannot read: what else is damaged is still worth telling.
            here.append(_file_finding(str(error), state.n))
        findings += here
    return findings


def _verify_search(home: Home, *, thorough: bool) -> list[Finding]:
    try:
        if home.store.check_index():
            return list(checks.verify_search(home.replica, thorough=thorough))
    except StoreError as error:
        return [_file_finding(str(error))]
    return [Finding(log=0, part="index", reason=Reason.CORRUPT, detail=checks.SEARCH_DAMAGED)]


def _record_gaps(home: Home, log: int, findings: Sequence[Finding]) -> None:
    store, now = home.store, home.now_ms()
    with store.transaction():
        since = {(gap.id, gap.chain, gap.seq, gap.part): gap.since_ms for gap in store.gaps(log)}
        gaps = [
            checks.gap_of(f, since.get((f.id, f.chain, f.seq, f.part), now))
            for f in findings[: limits.GAPS_MAX]
        ]
        if gaps or since:
            store.replace_gaps(log, gaps)


def _file_finding(detail: str, log: int = 0) -> Finding:
    return Finding(log=log, part="file", reason=Reason.CORRUPT, detail=detail)


def status(home: Home, log: int | None) -> list[LogStatus]:
    """Counts, root and gaps; as `Home.status`."""
    return [_status(home, state) for state in people.shared_logs(home.replica) if log in (None, state.n)]


def _status(home: Home, state: LogState) -> LogStatus:
    store, n = home.store, state.n
    digests = refresh_digests(store, n)
    return LogStatus(
        n=n,
        kind=state.kind,
        title=next((row.title for row in store.logs() if row.n == n), ""),
        entries=sum(digest.entries for digest in digests),
        bodies=sum(digest.bodies for digest in digests),
        messages=store.count(n, SPOKEN),
        chains=len(store.chains(n)),
        heads=len(store.heads(n)),
        root=log_root(digests),
        gaps=len(store.gaps(n)),
        forks=len(store.forks(n)),
        closed=store.count_closed(n),
    )
