"""Queries: a page of a log in the order (week, id), and the proof that nothing was left out.

The cursor is a place in that order, so it means the same at every replica: a reader may go on
somewhere else. Of each segment that pages cover from its start to its end, the ids must hash to
its digest; what the digests of all segments hash to is the root that a receipt signs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

from mlog import limits
from mlog.errors import InvalidInput, ProtocolViolation
from mlog.log.entry import NO_ENTRY, Sealed, from_tail, parse_any, to_tail
from mlog.log.ids import EntryId, Topic
from mlog.log.merkle import segment_digest
from mlog.log.segments import least_ids, pages_of
from mlog.log.store import Digest, EntryRow, LogRow, Store
from mlog.protocol import wire
from mlog.protocol.link import Link
from mlog.protocol.segments import Segment, decode_segments, encode_segments
from mlog.protocol.standing import stand

__all__ = ["Pager", "serve_query"]

_ROWS_AT_ONCE: Final = 32
_WEEKS_AT_ONCE: Final = 256


def serve_query(link: Link, row: LogRow, query: wire.Query) -> Generator[None, None, wire.Page]:
    """One page: at most `limit` entries, and about BUNDLE_SIZE_MAX_BYTES."""
    while True:
        standing = yield from stand(link.replica, row, link.now_ms)
        read = yield from _read(link.store, row, query, standing.digests)
        with link.store.reading():
            # Others may have written since: digests and entries are to be of one moment.
            now = {d.week: d for d in link.store.digests(row.n)} if read.touched else {}
            if not link.store.stale_weeks(row.n) and all(now.get(d.week) == d for d in read.touched):
                break
    # Not while reading: what is found damaged here is noted.
    sealed = link.replica.sealed_of(row.n, read.rows, bodies=query.bodies, now_ms=link.now_ms)
    packed = tuple(wire.Packed(to_tail(entry), entry.body, entry.signature) for entry in sealed)
    last = read.rows[-1] if read.rows else None
    week, after = (query.week, query.after) if last is None else (last.week, last.id)
    return wire.Page(query.request, week, after, read.end, encode_segments(read.touched), packed)


class _Read(NamedTuple):
    """The rows of a page, whether none follows, and the digests of the segments that they are of."""

    rows: list[EntryRow]
    end: bool
    touched: list[Digest]


def _read(
    store: Store, row: LogRow, query: wire.Query, digests: Sequence[Digest]
) -> Generator[None, None, _Read]:
    room = min(query.limit, limits.BUNDLE_ENTRIES_MAX)
    size = 0
    rows: list[EntryRow] = []
    touched: list[Digest] = []
    for digest in digests:
        if not query.week <= digest.week <= query.last_week:
            continue
        if len(rows) >= room or size >= limits.BUNDLE_SIZE_MAX_BYTES:
            return _Read(rows, False, touched)
        touched.append(digest)
        if len(touched) % _WEEKS_AT_ONCE == 0:
            yield
        after = EntryId(query.after) if digest.week == query.week else NO_ENTRY
        ids = yield from least_ids(pages_of(store, row.n, digest.week), after, room - len(rows) + 1)
        # A few at a time: a thousand of the largest would be 256 MiB.
        for at in range(0, len(ids), _ROWS_AT_ONCE):
            part = store.find(row.n, ids[at : at + _ROWS_AT_ONCE])
            for entry in sorted(part.values(), key=lambda entry: entry.id):
                if len(rows) >= room or size >= limits.BUNDLE_SIZE_MAX_BYTES:
                    return _Read(rows, False, touched)
                rows.append(entry)
                size += len(entry.outer) + (len(entry.body or b"") if query.bodies else 0)
    return _Read(rows, True, touched)


class Pager:
    """Reads a log page by page and proves each segment complete.

    Args:
        first_week, last_week: What to read, both inclusive.
        bodies: With bodies.

    Attributes:
        end: Everything was read.
        digests: Of the segments that were read from start to end, and of which nothing was left out;
            the bodies' part is that of the bodies that came. A segment that changed between two of
            its pages is not among them: what is left out cannot be told from what came meanwhile.
    """

    def __init__(
        self, tag: bytes, topic: Topic, *, first_week: int = 0, last_week: int = limits.WEEK_MAX, bodies: bool
    ):
        self.end = False
        self.digests: list[Digest] = []
        self._tag = tag
        self._topic = topic
        self._week, self._after = first_week, NO_ENTRY
        self._last_week = last_week
        self._bodies = bodies
        self._ids: list[tuple[EntryId, bool]] = []
        self._segment: Segment | None = None

    def query(self, request: int, limit: int) -> wire.Query:
        """What to ask next."""
        return wire.Query(
            request, self._tag, self._week, self._after, self._last_week, limit, bodies=self._bodies
        )

    def page(self, page: wire.Page) -> list[Sealed]:
        """Take the answer; gives its entries, in order.

        Raises:
            ProtocolViolation: Entries out of order or of another log, or no page at all.
        """
        segments = decode_segments(page.segments)
        entries: list[Sealed] = []
        for packed in page.entries:
            try:
                sealed = from_tail(self._topic, packed.head, packed.body, packed.signature)
                fields = parse_any(sealed.outer)
            except InvalidInput as error:
                raise ProtocolViolation(f"a page with what is no entry: {error}") from None
            week = fields.week
            if fields.topic != self._topic:
                raise ProtocolViolation("a page with an entry of another log")
            if (week, sealed.id) <= (self._week, self._after) or week > self._last_week:
                raise ProtocolViolation("a page out of order")
            if week != self._week:
                self._close_segment()
            self._segment = segments.get(week)
            self._week, self._after = week, sealed.id
            self._ids.append((sealed.id, sealed.body is not None))
            entries.append(sealed)
        if not page.end and not entries:
            raise ProtocolViolation("a page that goes nowhere")
        if page.end:
            self._close_segment()
            self.end = True
        return entries

    def _close_segment(self) -> None:
        """All of a segment has come: it is proven if its ids hash to what the holder said of it."""
        if not self._ids:
            return
        digest = segment_digest(self._week, self._ids)
        said = self._segment
        found = digest.entries, digest.entries_hash[: wire.ROOT_SIZE]
        if said is not None and (said.entries, said.entries_hash) == found:
            self.digests.append(digest)
        self._ids, self._segment = [], None
