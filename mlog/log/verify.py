"""Verification: every stored byte against the hashes that vouch for it.

Nothing cached is trusted. A header is hashed and opened again, and every column made from it is
compared; a body is sealed again, and must hash to what its header says; chains are walked, so
that a hole or a lost end shows; and what was folded from the entries is folded again.
docs/protocol.md, 8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import BadSignature, InvalidInput
from mlog.log import bodies, crypto, entry
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.entry import NO_ENTRY, Header
from mlog.log.fold import (
    Folded,
    LogState,
    Ranks,
    changes_of,
    fold_message,
    latest_devices,
    latest_title,
    references_of,
)
from mlog.log.ids import EntryId, MessageId
from mlog.log.merkle import segment_digest
from mlog.log.replica import Replica
from mlog.log.store import BodyState, ChainRow, EntryRow, GapRow, LogKind, Reason, Store
from mlog.log.stored import check_body, check_header

__all__ = ["SEARCH_DAMAGED", "Finding", "Progress", "gap_of", "verify_log", "verify_search"]

SEARCH_DAMAGED: Final = (
    "the search index does not hold the words of the messages: a search may miss some. "
    "'mlog doctor --rebuild-search' makes it anew"
)


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


class _Seen(msgspec.Struct):
    """What the walk over a log's entries has seen, to compare with the log's other records.

    Attributes:
        unlisted: Ids that the gap list keeps out of the digests.
        weeks: Entries of each week that belong in its digests.
        tips: The newest entry of each chain.
        loose: The entries before a hole: nobody knows whether they are heads.
        absent: Entries that are not here, by an entry that names them among its parents.
        holes: Those of the absent that a hole in a chain tells of already.
        epochs: Number and commitment of each epoch that a key entry states.
        kinds: What key entries say that the log is.
    """

    unlisted: set[bytes]
    weeks: Counter[int]
    tips: set[EntryId] = set()
    loose: set[EntryId] = set()
    absent: dict[EntryId, EntryRow] = {}
    holes: set[EntryId] = set()
    epochs: set[tuple[int, str]] = set()
    kinds: set[str] = set()

    def count(self, row: EntryRow) -> None:
        if row.id not in self.unlisted:
            self.weeks[row.week] += 1


def verify_log(replica: Replica, log: int, *, signatures: bool = False) -> Iterator[Finding | Progress]:
    """Check everything that a log keeps, but for the search index.

    Args:
        signatures: Also verify every signature there is, about 60 us each.
    """
    state = replica.log(log)
    seen = _Seen({gap.id for gap in replica.store.gaps(log) if gap.part == "entry"}, Counter())
    for chain in replica.store.chains(log):
        yield from _verify_chain(replica, state, chain, seen, signatures=signatures)
    yield from _verify_unopened(replica.store, state, seen)
    for id_, row in seen.absent.items():
        if id_ not in seen.holes:
            detail = "an entry that others name is not in the database"
            yield Finding(
                log=log, part="entry", reason=Reason.LOST, detail=detail, id=id_, time_ms=row.time_ms
            )
    yield from _verify_heads(replica.store, log, seen)
    yield from _verify_digests(replica.store, log, seen.weeks)
    yield from _verify_records(replica.store, state, seen)


def verify_search(replica: Replica, *, thorough: bool = False) -> Iterator[Finding]:
    """Check that the search index holds exactly the words of the texts here, damaged ones apart.

    Args:
        thorough: Look up each word by itself too, about 25 us each; see decisions/0010.
    """
    with replica.store.reading():
        # Hashing takes longer than all else here, and tells nothing where texts and index agree.
        for checked in (False, True):
            if replica.store.holds_words(replica.words(checked=checked), thorough=thorough):
                return
    yield Finding(log=0, part="index", reason=Reason.CORRUPT, detail=SEARCH_DAMAGED)


def _verify_chain(
    replica: Replica, state: LogState, chain: ChainRow, seen: _Seen, *, signatures: bool
) -> Iterator[Finding | Progress]:
    store = replica.store
    expected_seq, prev, vouched, last = 0, NO_ENTRY, -1, None
    after = -1
    while rows := store.scan(chain.n, after, limits.STORE_ROWS_MAX):
        after = rows[-1].seq
        page = _Page(replica, state, chain, rows)
        for row in rows:
            header, finding = _verify_entry(state, chain, row, page, seen)
            if row.seq != expected_seq:
                before = header.prev if header is not None else b""
                yield from _hole(state.n, chain, expected_seq, row.seq, last, before)
                if header is not None:
                    seen.holes.add(header.prev)
                if last is not None:
                    seen.loose.add(last.id)
            elif header is not None and header.prev != prev:
                yield _of(row, "entry", "the link to the entry before does not match")
            yield from finding
            if header is not None:
                yield from _verify_fold(row, header, last, page)
            if row.signature is not None:
                vouched = row.seq
                if header is not None:
                    yield from _verify_signature(state, row, header, signatures=signatures)
            seen.count(row)
            expected_seq, prev, last = row.seq + 1, row.id, row
        yield Progress(len(rows))
    if expected_seq <= chain.seq:
        # The newest entry as the chain's own record has it: a lost end shows there.
        yield from _hole(state.n, chain, expected_seq, chain.seq + 1, last, chain.id)
        seen.holes.add(chain.id)
        seen.tips.add(chain.id)
        if last is not None:
            seen.loose.add(last.id)
    elif last is not None:
        seen.tips.add(last.id)
        if (last.seq, last.id, last.week) != (chain.seq, chain.id, chain.week):
            yield _of(last, "index", "the chain's record names another last entry")
    if last is not None and vouched < last.seq:
        yield _of(last, "signature", "the newest entry of the chain is not signed", Reason.LOST)


class _Page:
    """Some entries of one chain, and what the store keeps beside them."""

    def __init__(self, replica: Replica, state: LogState, chain: ChainRow, rows: list[EntryRow]):
        store = replica.store
        ns = [row.n for row in rows]
        self.headers: dict[int, Header | InvalidInput] = {}
        for row in rows:
            try:
                self.headers[row.n] = check_header(state.keys, row, chain.device)
            except InvalidInput as error:
                self.headers[row.n] = error
        self.parents, self.references = store.parents(ns), store.references(ns)
        named = {id_ for h in self.headers.values() if isinstance(h, Header) for id_ in h.parents}
        self.named = store.find(state.n, named) if named else {}
        # The message that each entry says or changes, folded again.
        self.message: dict[int, MessageId] = {}
        for row in rows:
            if row.kind in SPOKEN:
                self.message[row.n] = row.message
            elif row.kind in (Kind.EDIT, Kind.MANIFEST) and self.references.get(row.n):
                self.message[row.n] = self.references[row.n][0]
        mids = set(self.message.values())
        said, changes = store.by_mid(state.n, mids), changes_of(store, state.n, mids)
        authors = replica.authors(state.n)
        self.folded: dict[MessageId, Folded] = {
            mid: fold_message(said.get(mid, []), changes.get(mid, []), authors) for mid in mids
        }


def _hole(
    log: int, chain: ChainRow, first: int, end: int, before: EntryRow | None, last_id: bytes
) -> Iterator[Finding]:
    for seq in range(first, min(end, first + limits.STORE_ROWS_MAX)):
        yield Finding(
            log=log,
            part="entry",
            reason=Reason.LOST,
            detail="the entry is not in the database",
            id=last_id if seq == end - 1 else b"",
            chain=chain.n,
            seq=seq,
            time_ms=before.time_ms if before is not None else 0,
        )


def _verify_entry(
    state: LogState, chain: ChainRow, row: EntryRow, page: _Page, seen: _Seen
) -> tuple[Header | None, list[Finding]]:
    header = page.headers[row.n]
    if isinstance(header, InvalidInput):
        return None, [_of(row, "entry", str(header))]
    findings: list[Finding] = []
    if header.incarnation != chain.incarnation or row.log != chain.log:
        findings.append(_of(row, "index", "the entry stands in another chain than it says"))
    if sorted(page.parents.get(row.n, [])) != list(header.parents):
        findings.append(_of(row, "index", "the links of the entry do not match it"))
    for parent in header.parents:
        if parent not in page.named and len(seen.absent) < limits.GAPS_MAX:
            seen.absent.setdefault(parent, row)
    targets: set[MessageId] = set()
    try:
        encoded = check_body(state.keys, row)
    except InvalidInput as error:
        return header, [*findings, _of(row, "body", str(error))]
    if encoded is not None:
        try:
            body = bodies.decode(row.kind, encoded)
        except InvalidInput:
            pass
        else:
            targets = set(references_of(body))
            if isinstance(body, bodies.Key):
                seen.epochs.add((body.epoch, body.commitment))
                seen.kinds.add(body.log)
    if sorted(page.references.get(row.n, [])) != sorted(targets):
        findings.append(_of(row, "index", "the references of the entry do not match its text"))
    return header, findings


def _verify_fold(row: EntryRow, header: Header, before: EntryRow | None, page: _Page) -> Iterator[Finding]:
    """Check what was worked out from the stored set: order, what is shown, edits, erasure."""
    known = [page.named[id_] for id_ in header.parents if id_ in page.named]
    if before is not None and before.id == header.prev:
        known.append(before)
    if Ranks(known).add(row.id, header) != row.rank:
        yield _of(row, "index", "the place in the view does not match the entry")
    spoken = row.kind in SPOKEN
    message = page.message.get(row.n)
    folded = page.folded[message] if message is not None else Folded(set(), set(), {})
    if row.hidden != (row.n in folded.hidden):
        yield _of(row, "index", "whether the message is shown does not match the entries")
    if row.edit != folded.edits.get(row.n, 0):
        yield _of(row, "index", "the edited text is not that of the latest edit")
    if row.n in folded.erased and row.state != BodyState.ERASED:
        yield _of(row, "body", "its author erased the text, and it is not recorded as erased")
    if spoken and row.state == BodyState.ERASED and row.n not in folded.erased:
        yield _of(row, "body", "the text is gone, and nobody erased it", Reason.LOST)


def _verify_signature(
    state: LogState, row: EntryRow, header: Header, *, signatures: bool
) -> Iterator[Finding]:
    fields = entry.parse_outer(row.outer)
    epoch = state.keys.epoch_of(fields.salt, fields.tag)
    assert epoch is not None
    assert row.signature is not None
    try:
        # Opening it is cheap and shows damage; verifying also shows who signed.
        if signatures:
            entry.verify_entry_signature(epoch, header.device, row.id, row.outer, row.signature)
        else:
            entry.open_signature(epoch, row.id, row.outer, row.signature)
    except BadSignature as error:
        yield _of(row, "signature", str(error))


def _verify_unopened(store: Store, state: LogState, seen: _Seen) -> Iterator[Finding | Progress]:
    """Check entries that are kept and not read: all that is recorded of them is their bytes."""
    after = 0
    while rows := store.scan_unopened(state.n, after, limits.STORE_ROWS_MAX):
        after = rows[-1].n
        for row in rows:
            seen.count(row)
            unread = EntryRow(
                n=row.n,
                log=row.log,
                id=entry.entry_id(row.outer),
                week=int.from_bytes(row.outer[17:19], "big"),
                outer=row.outer,
                signature=row.signature,
                body=row.body,
                state=row.state,
            )
            if row != unread:
                yield _of(row, "entry", "the entry does not match its hash")
                continue
            try:
                header, _ = entry.open_header(state.keys, row.outer)
                check_body(state.keys, row)
            except InvalidInput as error:
                yield _of(row, "body", str(error))
                continue
            if row.signature is not None:
                yield from _verify_signature(state, row, header, signatures=True)
        yield Progress(len(rows))


def _verify_heads(store: Store, log: int, seen: _Seen) -> Iterator[Finding]:
    expected = {id_ for id_ in seen.tips if not store.children(log, id_)}
    for id_ in (set(store.heads(log)) ^ expected) - seen.loose:
        detail = "the list of newest entries does not match the entries"
        yield Finding(log=log, part="index", reason=Reason.CORRUPT, detail=detail, id=id_)


def _verify_digests(store: Store, log: int, weeks: Mapping[int, int]) -> Iterator[Finding]:
    stale = set(store.stale_weeks(log))
    kept = {digest.week: digest for digest in store.digests(log)}
    for week in sorted(weeks.keys() | kept.keys()):
        fresh = segment_digest(week, store.segment(log, week))
        if fresh.entries != weeks.get(week, 0):
            yield _of_log(log, f"entries of week {week} stand in no chain")
        if week not in stale and kept.get(week) != fresh:
            yield _of_log(log, f"the digest of week {week} does not match its entries")


def _verify_records(store: Store, state: LogState, seen: _Seen) -> Iterator[Finding]:
    """Check what the log's other records say against the entries that they were made from."""
    if not seen.kinds:
        yield _of_log(state.n, "the key entry that began the log is not in the database", Reason.LOST)
    elif state.kind not in seen.kinds:
        yield _of_log(state.n, "the log is not of the kind that its key entry states")
    for epoch in state.keys.epochs[1:]:
        if (epoch.number, crypto.commitment(epoch.secret).hex()) not in seen.epochs:
            yield _of_log(state.n, f"no key entry states the secret of epoch {epoch.number}")
    if any(row.n == state.n and row.title != latest_title(store, state.n) for row in store.logs()):
        yield _of_log(state.n, "the conversation's name is not that of its latest title")
    if state.kind == LogKind.PERSON:
        known = store.devices()
        for device in latest_devices(store, state.n):
            if device not in known:
                yield _of_log(state.n, f"the record of the device {device.name!r} does not match its entry")


def _of_log(log: int, detail: str, reason: Reason = Reason.CORRUPT) -> Finding:
    return Finding(log=log, part="index", reason=reason, detail=detail)


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
