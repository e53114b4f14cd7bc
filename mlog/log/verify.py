"""Verification: every stored byte against the hashes that vouch for it.

Nothing cached is trusted. A header is hashed and opened again, and every column made from it is
compared; a body is sealed again, and must hash to what its header says; chains are walked, so
that a hole or a lost end shows. docs/protocol.md, 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from mlog import limits
from mlog.errors import BadSignature, InvalidInput
from mlog.log import bodies, crypto, entry
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.crypto import LogKeys
from mlog.log.entry import NO_ENTRY, Header
from mlog.log.ids import DeviceId, EntryId, MessageId, message_id
from mlog.log.merkle import segment_digest
from mlog.log.replica import LogState, Ranks, Replica, latest_title, references_of, shown_among
from mlog.log.store import BodyState, ChainRow, EntryRow, GapRow, Reason, Store

__all__ = ["Finding", "Progress", "check_body", "check_header", "gap_of", "verify_log"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is damaged or missing.

    Attributes:
        part: "entry", "body", "signature" or "index"; what the gap list shows.
        n: Number of the entry here, or 0 where there is none.
        seq: Position in the chain.
    """

    log: int
    part: str
    reason: Reason
    detail: str
    id: bytes = b""
    n: int = 0
    chain: int = 0
    seq: int = 0
    time_ms: int = 0


class Progress(msgspec.Struct, frozen=True):
    """So many entries more have been looked at."""

    entries: int


def check_header(keys: LogKeys, row: EntryRow, device: DeviceId) -> Header:
    """Hash and open a stored header, and compare every column made from it.

    Raises:
        InvalidInput: Says what does not match.
    """
    if entry.entry_id(row.outer) != row.id:
        raise InvalidInput("the entry does not match its hash")
    header, _ = entry.open_header(keys, row.outer)
    stored = (row.kind, row.seq, row.time_ms, row.mid, device, row.week)
    week = int.from_bytes(row.outer[17:19], "big")
    if stored != (header.kind, header.seq, header.time_ms, header.mid, header.device, week):
        raise InvalidInput("the index does not match the entry")
    return header


def check_body(keys: LogKeys, row: EntryRow) -> bytes | None:
    """Check a stored body against the hash in its (checked) outer bytes; None if not kept.

    Raises:
        InvalidInput: It does not match.
    """
    if row.state in (BodyState.ERASED, BodyState.NOT_FETCHED):
        if row.body is not None:
            raise InvalidInput("a body is here that should not be")
        return None
    if row.body is None:
        raise InvalidInput("the text is lost")
    fields = entry.parse_outer(row.outer)
    epoch = keys.epoch_of(fields.salt, fields.tag)
    if epoch is None:
        raise InvalidInput("sealed under an epoch that this device does not have")
    if row.state == BodyState.SEALED:
        return entry.open_body(epoch, row.outer, row.body)
    sealed = entry.seal_body(epoch, row.outer, row.body)
    if len(sealed) != fields.body_size or (
        crypto.hash_with_context("sealed body", sealed) != fields.body_hash
    ):
        raise InvalidInput("the text does not match its hash")
    return row.body


def verify_log(replica: Replica, log: int, *, signatures: bool = False) -> Iterator[Finding | Progress]:
    """Check everything that a log keeps.

    Args:
        signatures: Also verify every signature there is, about 60 us each.
    """
    state = replica.log(log)
    store = replica.store
    # The newest entry of each chain as the chain's own record has it: a lost end shows there.
    chains = store.chains(log)
    tips: dict[EntryId, ChainRow] = {}
    for chain in chains:
        yield from _verify_chain(replica, state, chain, signatures=signatures)
        tips[chain.id] = chain
    yield from _verify_unopened(store, state)
    yield from _verify_heads(store, log, tips)
    yield from _verify_digests(store, log)
    if any(row.n == log and row.title != latest_title(store, log) for row in store.logs()):
        yield Finding(
            log=log,
            part="index",
            reason=Reason.CORRUPT,
            detail="the conversation's name is not that of its latest title",
        )


def _verify_chain(
    replica: Replica, state: LogState, chain: ChainRow, *, signatures: bool
) -> Iterator[Finding | Progress]:
    store = replica.store
    expected_seq, prev, vouched, last = 0, NO_ENTRY, -1, None
    after = -1
    while rows := store.scan(chain.n, after, limits.STORE_ROWS_MAX):
        after = rows[-1].seq
        ns = [row.n for row in rows]
        parents, references = store.parents(ns), store.references(ns)
        by_mid = store.by_mid(state.n, {row.mid or message_id(row.id) for row in rows})
        for row in rows:
            if row.seq != expected_seq:
                yield from _missing(state.n, chain, expected_seq, row.seq, last)
                prev = None
            expected_seq = row.seq + 1
            header, finding = _verify_entry(state, chain, row, parents, references, prev)
            yield from finding
            if header is not None:
                yield from _verify_fold(replica, state, row, header, last, by_mid)
            if row.signature is not None:
                vouched = row.seq
                if signatures and header is not None:
                    yield from _verify_signature(state, row, header)
            prev, last = row.id, row
        yield Progress(len(rows))
    if expected_seq <= chain.seq:
        yield from _missing(state.n, chain, expected_seq, chain.seq + 1, last)
    elif last is not None and (last.seq, last.id) != (chain.seq, chain.id):
        yield _of(last, "index", "the chain's record names another last entry")
    if last is not None and vouched < last.seq:
        yield _of(last, "signature", "the newest entry of the chain is not signed", Reason.LOST)


def _missing(log: int, chain: ChainRow, first: int, end: int, before: EntryRow | None) -> Iterator[Finding]:
    for seq in range(first, min(end, first + limits.STORE_ROWS_MAX)):
        yield Finding(
            log=log,
            part="entry",
            reason=Reason.LOST,
            detail="the entry is not in the database",
            id=chain.id if seq == chain.seq else b"",
            chain=chain.n,
            seq=seq,
            time_ms=before.time_ms if before is not None else 0,
        )


def _verify_entry(
    state: LogState,
    chain: ChainRow,
    row: EntryRow,
    parents: Mapping[int, list[EntryId]],
    references: Mapping[int, Sequence[bytes]],
    prev: EntryId | None,
) -> tuple[Header | None, list[Finding]]:
    try:
        header = check_header(state.keys, row, chain.device)
    except InvalidInput as error:
        return None, [_of(row, "entry", str(error))]
    findings: list[Finding] = []
    if header.incarnation != chain.incarnation or row.log != chain.log:
        findings.append(_of(row, "index", "the entry stands in another chain than it says"))
    if prev is not None and header.prev != prev:
        findings.append(_of(row, "entry", "the link to the entry before does not match"))
    if sorted(parents.get(row.n, [])) != list(header.parents):
        findings.append(_of(row, "index", "the links of the entry do not match it"))
    try:
        encoded = check_body(state.keys, row)
    except InvalidInput as error:
        return header, [*findings, _of(row, "body", str(error))]
    if encoded is not None:
        try:
            targets = references_of(bodies.decode(row.kind, encoded))
        except InvalidInput:
            targets = ()
        if sorted(references.get(row.n, [])) != sorted(set(targets)):
            findings.append(_of(row, "index", "the references of the entry do not match its text"))
    return header, findings


def _verify_fold(
    replica: Replica,
    state: LogState,
    row: EntryRow,
    header: Header,
    before: EntryRow | None,
    by_mid: Mapping[MessageId, Sequence[EntryRow]],
) -> Iterator[Finding]:
    """Check what was worked out from the stored set: order, what is shown, edits, erasure."""
    store = replica.store
    known = list(store.find(row.log, header.parents).values()) if header.parents else []
    if before is not None and before.id == header.prev:
        known.append(before)
    if Ranks(known).add(row.id, header) != row.rank:
        yield _of(row, "index", "the place in the view does not match the entry")
    mid = row.mid or message_id(row.id)
    if row.kind in SPOKEN and row.hidden == (row.n in shown_among(by_mid.get(mid, [row]))):
        yield _of(row, "index", "whether the message is shown does not match the entries")
    changes = store.references_to(row.log, [mid]) if row.edit or row.state == BodyState.ERASED else []
    if row.edit and row.edit != replica.edit_of(state, row):
        yield _of(row, "index", "the edited text is not that of the latest edit")
    if row.kind == Kind.EDIT and row.state != BodyState.ERASED:
        for target in (t for m in store.references([row.n]).get(row.n, []) for t in _named(store, row, m)):
            if target.edit != replica.edit_of(state, target):
                yield _of(target, "index", "the edited text is not that of the latest edit")
    if row.state == BodyState.ERASED and row.kind in SPOKEN:
        kinds = {change.kind for change in store.rows({c.n for c in changes}).values()}
        if Kind.ERASURE not in kinds:
            yield _of(row, "body", "the text is gone, and nobody erased it", Reason.LOST)


def _named(store: Store, row: EntryRow, mid: MessageId) -> list[EntryRow]:
    return store.by_mid(row.log, [mid]).get(mid, [])


def _verify_signature(state: LogState, row: EntryRow, header: Header) -> Iterator[Finding]:
    fields = entry.parse_outer(row.outer)
    epoch = state.keys.epoch_of(fields.salt, fields.tag)
    assert epoch is not None
    assert row.signature is not None
    try:
        entry.verify_entry_signature(epoch, header.device, row.id, row.outer, row.signature)
    except BadSignature as error:
        yield _of(row, "signature", str(error))


def _verify_unopened(store: Store, state: LogState) -> Iterator[Finding | Progress]:
    after = 0
    while rows := store.scan_unopened(state.n, after, limits.STORE_ROWS_MAX):
        after = rows[-1].n
        for row in rows:
            if entry.entry_id(row.outer) != row.id:
                yield _of(row, "entry", "the entry does not match its hash")
        yield Progress(len(rows))


def _verify_heads(store: Store, log: int, tips: Mapping[EntryId, ChainRow]) -> Iterator[Finding]:
    heads = set(store.heads(log))
    expected = {id_ for id_ in tips if not store.children(log, id_)}
    for id_ in heads ^ expected:
        yield Finding(
            log=log,
            part="index",
            reason=Reason.CORRUPT,
            detail="the list of newest entries does not match the entries",
            id=id_,
        )


def _verify_digests(store: Store, log: int) -> Iterator[Finding]:
    stale = set(store.stale_weeks(log))
    for digest in store.digests(log):
        if digest.week not in stale and digest != segment_digest(
            digest.week, store.segment(log, digest.week)
        ):
            yield Finding(
                log=log,
                part="index",
                reason=Reason.CORRUPT,
                detail=f"the digest of week {digest.week} does not match its entries",
            )


def _of(row: EntryRow, part: str, detail: str, reason: Reason = Reason.CORRUPT) -> Finding:
    return Finding(
        log=row.log,
        part=part,
        reason=reason,
        detail=detail,
        id=row.id,
        n=row.n,
        chain=row.chain,
        seq=row.seq,
        time_ms=row.time_ms,
    )


def gap_of(finding: Finding, since_ms: int) -> GapRow:
    """The gap that a finding is listed as from now on."""
    return GapRow(
        finding.log,
        finding.id,
        finding.part,
        finding.reason,
        finding.chain,
        finding.seq,
        finding.time_ms,
        since_ms,
        finding.detail,
    )
