"""What is missing here, and why: worked out from what is stored whenever it is asked for, so never stale.

Every absence has a reason (`Reason`). What may be wanted of others by its id is `lacking`; what a
person is shown is `missing`. docs/protocol.md, 4.5 and 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain as joined
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import bodies, crypto, entry
from mlog.log.bodies import Kind
from mlog.log.crypto import EpochKeys, LogKeys
from mlog.log.entry import Header
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.store import ChainRow, EntryRow, LogKind, LogRow, Reason, RunRow, Store, TimelineQuery
from mlog.log.stored import SEARCHED, readable_body
from mlog.plurals import counted

if TYPE_CHECKING:
    from mlog.log.people import People

__all__ = ["Missing", "fork_detail", "lacking", "missing"]

_FETCHED: Final = frozenset({Reason.CORRUPT, Reason.LOST, Reason.NOT_FETCHED})
_WAITING_ROWS: Final = 64
_PARTS: Final = frozenset({"entry", "body", "signature"})


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not here, or is here and not read.

    Attributes:
        part: "entry", "body", "signature", "key" (an epoch secret) or "chain".
        id: The entry, where it is known.
        chain: `ChainRow.n`, or 0; then `first` to `last` are numbers in it, or of an epoch.
        device, incarnation: Of the chain, where it is known.
        since_ms: When it was noticed; 0 where nobody wrote it down.
        detail: In plain words.
    """

    log: int
    part: str
    reason: Reason
    id: bytes = b""
    chain: int = 0
    device: bytes = b""
    incarnation: bytes = b""
    first: int = 0
    last: int = 0
    since_ms: int = 0
    detail: str = ""


def missing(
    store: Store,
    row: LogRow,
    keys: LogKeys | None,
    limit: int,
    people: People | None = None,
    first_week: int = 0,
) -> list[Missing]:
    """What is missing of a log, at most `limit` of it.

    Args:
        keys: None where the log is kept blindly.
        people: Tells what the log relies on of person logs.
        first_week: Where the window begins that is kept of it.
    """
    found = _all_missing(store, row, keys, limit, first_week)
    if people is not None and keys is not None:
        found = joined(found, _waiting_for_persons(store, row, people))
    return list(islice(found, limit))


def _waiting_for_persons(store: Store, row: LogRow, people: People) -> Iterator[Missing]:
    """What says nothing, or not all, until the log of a person comes."""

    def waits(id_: bytes, detail: str) -> Missing:
        return Missing(log=row.n, part="entry", reason=Reason.WAITING, id=id_, detail=detail)

    logs = {log.topic: log.n for log in store.logs()}
    membership = people.membership(row.n) if row.kind == LogKind.CONVERSATION else None
    if membership is not None:
        for ruling, (topic, relied) in membership.relied_on().items():
            if topic not in logs:
                yield waits(ruling, "the log of the person that it is about has not come")
            elif not store.places(logs[topic], [relied]):
                yield waits(ruling, "it relies on an entry of a person's log that has not come")
        for written in store.chains(row.n):
            if people.subject_of(written.device) is None:
                yield Missing(
                    log=row.n,
                    part="chain",
                    reason=Reason.WAITING,
                    chain=written.n,
                    device=written.device,
                    incarnation=written.incarnation,
                    last=max(written.seq, 0),
                    detail="no person's log here has the device that wrote it, so it counts for nothing",
                )
    if row.kind != LogKind.PERSON:
        known = {r.id.hex() for p in people.persons() for of in p.revocations.values() for r in of}
        query = TimelineQuery(
            log=row.n, limit=limits.STORE_ROWS_MAX, kinds=frozenset({Kind.REVOKE}), hidden=True
        )
        for said in store.timeline(query):
            body = readable_body(said.kind, said.body)
            if isinstance(body, bodies.Revoke) and body.by not in known:
                yield waits(said.id, "the revocation in a person's log on which it relies has not come")


def _all_missing(
    store: Store, row: LogRow, keys: LogKeys | None, limit: int, first_week: int
) -> Iterator[Missing]:
    log = row.n
    for gap in store.gaps(log):
        yield Missing(
            log=log,
            part=gap.part,
            reason=gap.reason,
            id=gap.id,
            chain=gap.chain,
            first=gap.seq,
            last=gap.seq,
            since_ms=gap.since_ms,
            detail=gap.detail,
        )
    for fork in store.forks(log):
        yield Missing(
            log=log,
            part="chain",
            reason=Reason.FORKED,
            id=fork.one,
            device=fork.device,
            incarnation=fork.incarnation,
            first=fork.seq,
            last=fork.seq,
            detail=fork_detail(fork.device, fork.seq),
        )
    yield from _holes(store, row, first_week)
    for id_, _ in store.absent(log, limit):
        detail = "an entry that others name"
        yield Missing(log=log, part="entry", reason=Reason.NOT_FETCHED, id=id_, detail=detail)
    for id_, _ in store.pruned_parents(log, limit):
        detail = "an entry that others name"
        yield Missing(log=log, part="entry", reason=Reason.PRUNED, id=id_, detail=detail)
    if row.fetch_bodies:
        for id_ in store.unfetched(log, limit):
            yield Missing(log=log, part="body", reason=Reason.NOT_FETCHED, id=id_, detail="its text")
    closed = store.count_closed(log) if keys is not None and keys.outlines else 0
    if closed:
        detail = (
            f"{counted(closed, 'entry', 'entries')} from before you joined: an admin who can read them can "
            "let you ('mlog add CONVERSATION YOU --history')"
        )
        yield Missing(log=log, part="body", reason=Reason.BEFORE_JOINING, first=1, last=closed, detail=detail)
    if keys is not None:
        for epoch in _unstated(store, log, keys):
            detail = f"the key entry of epoch {epoch.number}, whose secret another device gave"
            yield Missing(
                log=log,
                part="key",
                reason=Reason.WAITING,
                first=epoch.number,
                last=epoch.number,
                detail=detail,
            )
        for unread in store.scan_unopened(log, 0, min(limit, limits.STORE_ROWS_MAX)):
            reason, detail, header = _why_unread(keys, unread)
            yield Missing(
                log=log,
                part="entry",
                reason=reason,
                id=unread.id,
                device=header.device if header is not None else b"",
                incarnation=header.incarnation if header is not None else b"",
                first=header.seq if header is not None else 0,
                last=header.seq if header is not None else 0,
                detail=detail,
            )


def _unstated(store: Store, log: int, keys: LogKeys) -> list[EpochKeys]:
    """The epochs whose secrets were granted, and that no key entry here states."""
    unstated = {
        crypto.commitment(epoch.secret).hex(): epoch for epoch in (*keys.whole, *keys.granted.values())
    }
    after = None
    while unstated:
        rows = store.timeline(
            TimelineQuery(
                log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({Kind.KEY}), hidden=True, after=after
            )
        )
        if not rows:
            break
        after = rows[-1].position
        for row in rows:
            body = readable_body(row.kind, row.body)
            if isinstance(body, bodies.Key):
                unstated.pop(body.commitment, None)
    return list(unstated.values())


def _holes(store: Store, row: LogRow, first_week: int) -> Iterator[Missing]:
    """Numbers of chains that are not here: between runs, before the first, and behind what was heard of.

    Of a window each chain is wanted from its first entry in it on (docs/protocol.md, 14.5). What lies before
    that is told as one, whatever of it the window carries along.
    """
    starts = store.first_seqs(row.n, first_week) if first_week else None
    runs: dict[int, list[RunRow]] = {}
    for run in store.runs(row.n):
        runs.setdefault(run.chain, []).append(run)
    pruned = store.pruned(row.n)
    ends: dict[tuple[DeviceId, Incarnation], int] = {}
    forked = {(fork.device, fork.incarnation) for fork in store.forks(row.n)}
    for chain in store.chains(row.n):
        key = chain.device, chain.incarnation
        ends[key] = max(chain.seq, ends.get(key, -1))
        expected = 0
        outside: list[int] = []
        for run in runs.get(chain.n, []):
            # A branch begins where it leaves the other.
            if run.first > expected and not (key in forked and not expected):
                reason = Reason.NOT_FETCHED
                if pruned and _week_at(store, chain, run.first) >= pruned[0].week:
                    reason = Reason.PRUNED
                elif starts is not None and run.first <= starts.get(chain.n, run.first):
                    reason = Reason.OUTSIDE_WINDOW
                if reason == Reason.OUTSIDE_WINDOW:
                    outside += [expected, run.first - 1]
                else:
                    yield _hole(chain, expected, run.first - 1, reason)
            expected = run.last + 1
        if outside:
            yield _hole(chain, outside[0], outside[-1], Reason.OUTSIDE_WINDOW)
    heard: dict[tuple[DeviceId, Incarnation], int] = {}
    for told in store.heard(row.n):
        key = told.device, told.incarnation
        heard[key] = max(told.seq, heard.get(key, -1))
    for (device, incarnation), seq in heard.items():
        end = ends.get((device, incarnation), -1)
        if seq > end:
            chain = ChainRow(0, row.n, device, incarnation, end, entry.NO_ENTRY, 0)
            yield _hole(chain, end + 1, seq, Reason.NOT_FETCHED)


def _week_at(store: Store, chain: ChainRow, seq: int) -> int:
    found = store.at(chain.n, seq)
    return found.week if found is not None else -1


def _hole(chain: ChainRow, first: int, last: int, reason: Reason) -> Missing:
    which = f"number {first}" if first == last else f"numbers {first} to {last}"
    return Missing(
        log=chain.log,
        part="entry",
        reason=reason,
        chain=chain.n,
        device=chain.device,
        incarnation=chain.incarnation,
        first=first,
        last=last,
        detail=f"{which} of a chain of device {chain.device.hex()[:8]}",
    )


def _why_unread(keys: LogKeys, row: EntryRow) -> tuple[Reason, str, Header | None]:
    try:
        found = entry.unseal(keys, row.outer, None)
    except InvalidInput as error:
        return Reason.CORRUPT, str(error), None
    if found.header is not None:
        return Reason.WAITING, "no signature of its author vouches for it yet", found.header
    reason = Reason.REFUSED if found.epoch is not None else Reason.WAITING
    return reason, found.unread, None


def fork_detail(device: DeviceId, seq: int) -> str:
    """What a person is told of a fork."""
    return (
        f"device {device.hex()[:8]} wrote two different entries as number {seq} of one chain, as after its "
        "disk was set back; both are read"
    )


def lacking(store: Store, row: LogRow, keys: LogKeys | None, limit: int) -> list[EntryId]:
    """The entries that are to be asked for by their ids, whole or for a part of them."""
    found: dict[EntryId, None] = {}
    for gap in store.gaps(row.n):
        if gap.id and gap.part in _PARTS and gap.reason in _FETCHED:
            found[EntryId(gap.id)] = None
    absent = store.absent(row.n, limit)
    # What was pruned names others, and these name more: they are not wanted either.
    pruned = {dropped.week for dropped in store.pruned(row.n)} if absent else set[int]()
    naming = store.rows({n for _, n in absent}) if pruned else {}
    for id_, n in absent:
        if n not in naming or naming[n].week not in pruned:
            found[id_] = None
    if keys is not None:
        found.update(dict.fromkeys(_unsigned(store, row.n, keys)))
    # Keys, names, erasures are wanted even where texts are not.
    without = frozenset[int]() if row.fetch_bodies else SEARCHED | {Kind.CHUNK}
    found.update(dict.fromkeys(store.unfetched(row.n, limit, without)))
    return list(islice(found, limit))


def _unsigned(store: Store, log: int, keys: LogKeys) -> list[EntryId]:
    """The first entries that wait for a signature; before all others those that no waiting entry follows."""
    headers: dict[EntryId, Header] = {}
    # An entry is tried with each epoch, 1 us, so of a log with very many fewer are looked at.
    room = limits.STORE_ROWS_MAX // (1 + len(keys.epochs) // 64)
    size = after = 0
    while room > 0 and size < limits.BUNDLE_SIZE_MAX_BYTES:
        rows = store.scan_unopened(log, after, min(room, _WAITING_ROWS))
        if not rows:
            break
        after, room = rows[-1].n, room - len(rows)
        for row in rows:
            size += len(row.body or b"")
            header = _why_unread(keys, row)[2]
            if header is not None:
                headers[row.id] = header
    followed = {header.prev for header in headers.values()}
    # A signature of an earlier one may be all that there is: its author may keep the last one back.
    return sorted(headers, key=followed.__contains__)
