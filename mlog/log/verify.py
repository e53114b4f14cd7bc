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
from mlog.log.bodies import OUTLINED, SPOKEN, Kind
from mlog.log.entry import NO_ENTRY, Header
from mlog.log.expiry import may_expire, settings_of
from mlog.log.fold import LogState, latest_title
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId
from mlog.log.merkle import segment_digest
from mlog.log.message_fold import Folded, changes_of, fold_message, references_of
from mlog.log.missing import fork_detail
from mlog.log.placing import is_next
from mlog.log.ranks import Ranks
from mlog.log.replica import Replica
from mlog.log.roster import roster
from mlog.log.store import (
    FORGOTTEN,
    BodyState,
    ChainRow,
    EntryRow,
    GapRow,
    LogKind,
    Place,
    Reason,
    RunRow,
    Store,
    Task,
    place_of,
)
from mlog.log.stored import check_body, check_header, check_sealed_body

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
        settled: Nothing is left for later: ranks and what follows from them are final.
        runs: By chain, what the store says is held without a hole.
        branched: Devices and incarnations of chains that have branches.
        weeks: Entries of each week that belong in its digests.
        ends: The last entries of all runs.
        unsigned: Those of them that no signature behind them in their run vouches for.
        before: Entries that are named as the one before by the first of a run.
        loose: The entries before one that is lost: nobody knows whether they are heads.
        named: Entries that are not here, by an entry that names them among its parents.
        holes: Those of the absent that a hole in a chain tells of already.
        places: Of forked chains, the ids that are known to stand at each number.
        epochs: Number and commitment of each epoch that a key entry states.
        kinds: What key entries say that the log is.
    """

    unlisted: set[bytes]
    settled: bool
    runs: dict[int, list[RunRow]]
    branched: set[tuple[DeviceId, Incarnation]]
    weeks: Counter[int]
    ends: set[EntryId] = set()
    unsigned: list[EntryRow] = []
    before: set[EntryId] = set()
    loose: set[EntryId] = set()
    named: dict[EntryId, EntryRow] = {}
    holes: set[EntryId] = set()
    places: dict[tuple[DeviceId, Incarnation, int], set[EntryId]] = {}
    epochs: set[tuple[int, str]] = set()
    kinds: set[str] = set()

    def count(self, row: EntryRow) -> None:
        if row.id not in self.unlisted:
            self.weeks[row.week] += 1

    def note_place(self, chain: ChainRow, row: EntryRow, header: Header) -> None:
        """Note which entries of a forked chain are known by this one."""
        if (chain.device, chain.incarnation) in self.branched:
            at = chain.device, chain.incarnation, row.seq
            self.places.setdefault(at, set()).add(row.id)
            if row.seq:
                self.places.setdefault((*at[:2], row.seq - 1), set()).add(header.prev)


def verify_log(replica: Replica, log: int, *, signatures: bool = False) -> Iterator[Finding | Progress]:
    """Check everything that a log keeps, but for the search index.

    Args:
        signatures: Also verify every signature there is, about 60 us each.
    """
    store, state = replica.store, replica.log(log)
    replica.keyring.refresh(state)
    chains = store.chains(log)
    runs: dict[int, list[RunRow]] = {chain.n: [] for chain in chains}
    for run in store.runs(log):
        runs.setdefault(run.chain, []).append(run)
    rows_of = Counter((chain.device, chain.incarnation) for chain in chains)
    seen = _Seen(
        {gap.id for gap in store.gaps(log) if gap.part == "entry"},
        not any(store.unsettled(log, task, 1) for task in Task),
        runs,
        {key for key, rows in rows_of.items() if rows > 1},
        Counter(),
    )
    for chain in chains:
        yield from _verify_chain(replica, state, chain, seen, signatures=signatures)
    branches = {EntryId(chain.branch): chain.n for chain in chains if chain.branch}
    begun = {id_: place.chain for id_, place in store.places(log, branches).items()}
    if begun != branches:
        yield _of_log(log, "the branches of a chain are not those that its entries began")
    for row in seen.unsigned:
        if row.id not in seen.before:
            yield _of(row, "signature", "nothing vouches for the last entries of the chain", Reason.LOST)
    yield from _verify_unopened(store, state, seen)
    yield from _verify_absent(store, log, seen)
    yield from _verify_forks(store, log, seen)
    yield from _verify_heads(store, log, seen)
    yield from _verify_digests(store, log, seen.weeks)
    yield from _verify_records(replica, state, seen)


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
    store, walk = replica.store, _Walk(chain, seen)
    after = -1
    while rows := store.scan(chain.n, after, limits.SCAN_ROWS_MAX):
        after = rows[-1].seq
        page = _Page(replica, state, chain, rows)
        for row in rows:
            header, finding = _verify_entry(replica, state, chain, row, page, seen)
            yield from walk.step(row, header, page)
            yield from finding
            if header is not None:
                if seen.settled:
                    yield from _verify_fold(row, header, walk.before, page)
                if row.signature is not None:
                    yield from _verify_signature(state, row, header, signatures=signatures)
                seen.note_place(chain, row, header)
            seen.count(row)
            walk.last = row
        yield Progress(len(rows))
    yield from walk.end()


class _Walk:
    """The walk along one chain: what should stand there, by its runs and links."""

    def __init__(self, chain: ChainRow, seen: _Seen):
        self._chain = chain
        self._seen = seen
        self._runs = seen.runs[chain.n]
        self._at = 0
        self._vouched = -1
        self.last: EntryRow | None = None
        self.before: EntryRow | None = None

    def step(self, row: EntryRow, header: Header | None, page: _Page) -> Iterator[Finding]:
        """Check an entry against the last one; `before` is that if it is the one before this."""
        last = self.last
        yield from self._to(row.seq, header)
        if row.signature is not None:
            self._vouched = row.seq
        run = self._runs[self._at] if self._at < len(self._runs) else None
        starts = run is not None and run.first == row.seq
        if run is None or not run.first <= row.seq <= run.last:
            yield _of(row, "index", "the entry stands in no run of its chain")
        adjacent = last is not None and last.seq == row.seq - 1
        self.before = last if adjacent and header is not None and last and last.id == header.prev else None
        if header is None or header.prev == NO_ENTRY:
            return
        if not adjacent:
            self._seen.before.add(header.prev)
        if adjacent and self.before is None:
            yield _of(row, "entry", "the link to the entry before does not match")
        elif starts and not adjacent and header.prev not in page.parents.get(row.n, ()):
            yield _of(row, "index", "the links of the entry do not match it")

    def _to(self, seq: int, header: Header | None) -> Iterator[Finding]:
        """Go on to a number: what a run says is held, and is not here, is lost."""
        chain, runs = self._chain, self._runs
        expected = self.last.seq + 1 if self.last is not None else 0
        while self._at < len(runs):
            run = runs[self._at]
            first, end = max(expected, run.first), min(seq, run.last + 1)
            if first < end:
                known = header.prev if header is not None and end == seq else b""
                if end == chain.seq + 1:
                    known = chain.id
                yield from _hole(self._seen, chain, first, end, self.last, known)
            if run.last >= seq:
                return
            self._end_run(run)
            self._at += 1
            if self._at < len(runs) and runs[self._at].first <= run.last + 1:
                yield _of_log(chain.log, f"the runs of chain {chain.n} are not apart")

    def _end_run(self, run: RunRow) -> None:
        """Note the last entry of a run, if the walk stands there."""
        if self.last is not None and self.last.seq == run.last:
            self._seen.ends.add(self.last.id)
            if self._vouched < run.last:
                self._seen.unsigned.append(self.last)

    def end(self) -> Iterator[Finding]:
        """Check what the chain's record says of its end, and of its beginning."""
        chain, last, seen = self._chain, self.last, self._seen
        yield from self._to(max([chain.seq, *(run.last for run in self._runs)]) + 1, None)
        if last is None or last.seq < chain.seq:
            seen.ends.add(chain.id)
            if not self._runs or self._runs[-1].last != chain.seq:
                yield _of_log(chain.log, f"the record of chain {chain.n} names an entry that is not here")
            return
        seen.ends.add(last.id)
        if (last.seq, last.id, last.week) != (chain.seq, chain.id, chain.week):
            yield _of(last, "index", "the chain's record names another last entry")


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
        named.update(h.prev for h in self.headers.values() if isinstance(h, Header))
        self.named = store.places(state.n, named - {row.id for row in rows})
        self.named.update((row.id, place_of(row)) for row in rows)
        groups = {mid for row in rows if row.kind == Kind.CHUNK for mid in self.references.get(row.n, ())}
        self._erasers = replica.erasers_of(state.n, groups)
        self._authors = replica.authors
        self._setters = replica.people.setters
        self._store = store
        # The message that each entry says or changes, folded again.
        self.message: dict[int, MessageId] = {}
        for row in rows:
            if row.kind in SPOKEN:
                self.message[row.n] = row.message
            elif row.kind in (Kind.EDIT, Kind.MANIFEST) and self.references.get(row.n):
                self.message[row.n] = self.references[row.n][0]
        mids = set(self.message.values())
        said, changes = store.by_mid(state.n, mids), changes_of(store, state.n, mids)
        found = (*said.values(), *changes.values())
        authors = replica.authors(state.n, {row.chain for rows in found for row in rows})
        cuts = replica.people.cuts(state.n)
        self.quarantined = cuts.quarantined((*rows, *(row for rows in found for row in rows)))
        erasures = [row for rows in changes.values() for row in rows if row.kind == Kind.ERASURE]
        anyones = replica.people.erasers(state.n, erasures)
        self.folded: dict[MessageId, Folded] = {
            mid: fold_message(said.get(mid, []), changes.get(mid, []), authors, self.quarantined, anyones)
            for mid in mids
        }

    def lets_expire(self, row: EntryRow) -> bool:
        """Whether a setting of the conversation lets an entry at this place expire."""
        return may_expire(settings_of(self._store, row.log, self._setters), row)

    def is_forgotten(self, row: EntryRow) -> bool:
        """Whether a chunk's group was erased by its author, or by an admin."""
        erasers = {who for group in self.references.get(row.n, ()) for who in self._erasers.get(group, ())}
        return bool(erasers) and (
            None in erasers or self._authors(row.log, [row.chain]).get(row.chain) in erasers
        )


def _hole(
    seen: _Seen, chain: ChainRow, first: int, end: int, before: EntryRow | None, last_id: bytes
) -> Iterator[Finding]:
    if before is not None and before.seq == first - 1:
        seen.loose.add(before.id)
    if last_id:
        seen.holes.add(EntryId(last_id))
    for seq in range(first, min(end, first + limits.STORE_ROWS_MAX)):
        yield Finding(
            log=chain.log,
            part="entry",
            reason=Reason.LOST,
            detail="the entry is not in the database",
            id=last_id if seq == end - 1 else b"",
            chain=chain.n,
            seq=seq,
            time_ms=before.time_ms if before is not None else 0,
        )


def _verify_entry(
    replica: Replica, state: LogState, chain: ChainRow, row: EntryRow, page: _Page, seen: _Seen
) -> tuple[Header | None, list[Finding]]:
    header = page.headers[row.n]
    if isinstance(header, InvalidInput):
        return None, [_of(row, "entry", str(header))]
    findings: list[Finding] = []
    if header.incarnation != chain.incarnation or row.log != chain.log:
        findings.append(_of(row, "index", "the entry stands in another chain than it says"))
    if sorted(p for p in page.parents.get(row.n, ()) if p != header.prev) != list(header.parents):
        findings.append(_of(row, "index", "the links of the entry do not match it"))
    for parent in header.parents:
        if parent not in page.named and len(seen.named) < limits.GAPS_MAX:
            seen.named.setdefault(parent, row)
    targets: set[MessageId] = set()
    try:
        encoded = None
        if row.state in (BodyState.SEALED, BodyState.CLOSED):
            # Its author sealed it against the rules, or it is closed to this device: kept, and not read.
            check_sealed_body(row)
        else:
            encoded = check_body(state.keys, row)
    except InvalidInput as error:
        return header, [*findings, _of(row, "body", str(error))]
    if row.state == BodyState.CLOSED and _opens(replica, state, row):
        findings.append(_of(row, "index", "the text is closed here, and its epoch is not"))
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
                findings += _verify_wrap(replica, state, chain, row, body)
    # What was forgotten keeps them: they say what it was about if it is wanted again.
    if row.body is not None and sorted(page.references.get(row.n, [])) != sorted(targets):
        findings.append(_of(row, "index", "the references of the entry do not match its text"))
    return header, findings


def _opens(replica: Replica, state: LogState, row: EntryRow) -> bool:
    """Whether an entry's body can be opened, and nothing is left that will do so."""
    fields = entry.parse_any(row.outer)
    epoch = state.keys.epoch_of(fields.salt, fields.tag)
    opens = epoch is not None and epoch.opens(outlined=row.kind in OUTLINED)
    return opens and not replica.store.unsettled(state.n, Task.UNSEAL, 1)


def _verify_wrap(
    replica: Replica, state: LogState, chain: ChainRow, row: EntryRow, body: bodies.Key
) -> Iterator[Finding]:
    """Check that the secret which a key entry has for this device is known here, unless it was refused."""
    try:
        unknown = replica.keyring.epoch_in(state, chain.device, body)
    except InvalidInput:
        return
    if unknown is not None:
        yield _of(
            row, "index", f"the secret of epoch {body.epoch} that the entry has for this device is not here"
        )


def _verify_fold(row: EntryRow, header: Header, before: EntryRow | None, page: _Page) -> Iterator[Finding]:
    """Check what was worked out from the stored set: order, what is shown, edits, erasure."""
    known: list[EntryRow | Place] = [
        place for id_ in header.parents if (place := page.named.get(id_)) is not None and place.chain
    ]
    if before is not None:
        known.append(before)
    elif (place := page.named.get(header.prev)) is not None and place.chain:
        known.append(place)
    if Ranks(known).add(row.id, header) != row.rank:
        yield _of(row, "index", "the place in the view does not match the entry")
    spoken = row.kind in SPOKEN
    message = page.message.get(row.n)
    folded = page.folded[message] if message is not None else Folded(set(), set(), {})
    if row.hidden != (row.n in folded.hidden or row.n in page.quarantined):
        yield _of(row, "index", "whether the message is shown does not match the entries")
    if row.edit != folded.edits.get(row.n, 0):
        yield _of(row, "index", "the edited text is not that of the latest edit")
    forgotten = row.n in folded.erased or (row.kind == Kind.CHUNK and page.is_forgotten(row))
    if forgotten and row.state not in FORGOTTEN:
        yield _of(row, "body", "its author erased the text, and it is not recorded as erased")
    if row.state == BodyState.EXPIRED and not page.lets_expire(row):
        yield _of(row, "body", "the text is gone, and was not to expire", Reason.LOST)
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
    while rows := store.scan_unopened(state.n, after, limits.SCAN_ROWS_MAX):
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
                check_sealed_body(row)
            except InvalidInput as error:
                yield _of(row, "body", str(error))
            if seen.settled:
                yield from _verify_unread(store, state, row)
        yield Progress(len(rows))


def _verify_unread(store: Store, state: LogState, row: EntryRow) -> Iterator[Finding]:
    """Check that an entry waits for a reason: nothing here vouches for it, or it does not open."""
    try:
        header, _ = entry.open_header(state.keys, row.outer)
    except InvalidInput:
        return
    if row.signature is not None:
        problems = list(_verify_signature(state, row, header, signatures=True))
        yield from problems or [_of(row, "index", "the entry is signed, and not read")]
    for place in store.children(state.n, [row.id]).get(row.id, ()):
        for after in store.rows([place.n]).values():
            try:
                later = entry.open_header(state.keys, after.outer)[0]
            except InvalidInput:
                continue
            # One of another chain may name it as the one before, and vouches for nothing by that.
            if later.prev == row.id and is_next(header, later):
                yield _of(row, "index", "a later entry vouches for the entry, and it is not read")


def _verify_absent(store: Store, log: int, seen: _Seen) -> Iterator[Finding]:
    """Check the list of entries that are named and were never here; of others that are not, all are lost."""
    listed = dict(store.absent(log, limits.GAPS_MAX)) | dict(store.pruned_parents(log, limits.GAPS_MAX))
    parents = store.parents(listed.values())
    for id_, n in listed.items():
        if id_ not in seen.named or id_ not in parents.get(n, ()):
            detail = "an entry is listed as absent that nothing here names"
            yield Finding(log=log, part="index", reason=Reason.CORRUPT, detail=detail, id=id_)
    for id_, row in seen.named.items():
        if id_ not in seen.holes and id_ not in listed:
            detail = "an entry that others name is not in the database"
            yield Finding(
                log=log, part="entry", reason=Reason.LOST, detail=detail, id=id_, time_ms=row.time_ms
            )


def _verify_forks(store: Store, log: int, seen: _Seen) -> Iterator[Finding]:
    """Say which devices wrote two entries at one place, and check the record of it."""
    expected: dict[tuple[DeviceId, Incarnation], tuple[int, EntryId, EntryId]] = {}
    for (device, incarnation, seq), ids in seen.places.items():
        if len(ids) > 1:
            one, other = sorted(ids)[:2]
            found = (seq, one, other)
            expected[device, incarnation] = min(expected.get((device, incarnation), found), found)
    kept = {(row.device, row.incarnation): (row.seq, row.one, row.other) for row in store.forks(log)}
    if kept != expected:
        yield _of_log(log, "the record of forks does not match the entries")
    for (device, _), (seq, one, _) in kept.items():
        yield Finding(
            log=log,
            part="chain",
            reason=Reason.FORKED,
            detail=fork_detail(device, seq),
            id=one,
            seq=seq,
        )


def _verify_heads(store: Store, log: int, seen: _Seen) -> Iterator[Finding]:
    expected = seen.ends - store.children(log, seen.ends).keys()
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


def _verify_records(replica: Replica, state: LogState, seen: _Seen) -> Iterator[Finding]:
    """Check what the log's other records say against the entries that they were made from."""
    store = replica.store
    if not seen.weeks and not store.chains(state.n):
        # Its secrets were granted, by who may have no more, and nothing of it has come yet.
        return
    if not seen.kinds and len(state.keys.epochs) == 1 and not state.keys.granted:
        yield _of_log(state.n, "the log has no epochs, and no key entry that began it", Reason.LOST)
    if seen.kinds - {""} and state.kind not in seen.kinds:
        yield _of_log(state.n, "the log is not of the kind that its key entry states")
    for epoch in state.keys.whole:
        stated = crypto.commitment(epoch.secret).hex()
        numbers = {number for number, commitment in seen.epochs if commitment == stated}
        # One that none states was granted by another device, and its key entry may still come: `missing`.
        if numbers and epoch.number not in numbers:
            yield _of_log(state.n, f"the key entries state another secret of epoch {epoch.number}")
    if any(row.n == state.n and row.title != latest_title(store, state.n) for row in store.logs()):
        yield _of_log(state.n, "the conversation's name is not that of its latest title")
    if state.kind == LogKind.CONVERSATION and store.members(state.n) != roster(replica, state.n):
        yield _of_log(state.n, "the list of its members is not what its entries say")
    if state.kind == LogKind.PERSON:
        known = store.devices()
        # Of the oldest log that tells of a device: others may have called it something else before.
        for device in replica.people.device_rows():
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
