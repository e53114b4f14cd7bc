"""Queries: a page of a log in the order (week, id), and the proof that nothing was left out.

The cursor is a place in that order, so it means the same at every replica: a reader may go on
somewhere else. Of each segment that pages cover from its start to its end, the ids must hash to
its digest; what the digests of all segments hash to is the root that a receipt signs.
"""

from __future__ import annotations

from collections.abc import Generator

from mlog import limits
from mlog.errors import InvalidInput, ProtocolViolation
from mlog.log.entry import NO_ENTRY, Sealed, from_tail, parse_any, to_tail
from mlog.log.ids import EntryId, Topic
from mlog.log.merkle import segment_digest
from mlog.log.store import Digest, LogRow
from mlog.protocol import wire
from mlog.protocol.link import Link
from mlog.protocol.segments import Segment, decode_segments, encode_segments
from mlog.protocol.standing import stand

__all__ = ["Pager", "serve_query"]


def serve_query(link: Link, row: LogRow, query: wire.Query) -> Generator[None, None, wire.Page]:
    """One page: at most `limit` entries, and about BUNDLE_SIZE_MAX_BYTES."""
    store = link.store
    standing = yield from stand(store, row, link.now_ms)
    room = min(query.limit, limits.BUNDLE_ENTRIES_MAX)
    size = 0
    packed: list[wire.Packed] = []
    touched: list[Digest] = []
    week, after = query.week, EntryId(query.after)
    end = True
    for digest in standing.digests:
        if not query.week <= digest.week <= query.last_week:
            continue
        if len(packed) >= room or size >= limits.BUNDLE_SIZE_MAX_BYTES:
            end = False
            break
        start = after if digest.week == query.week else NO_ENTRY
        rows = store.week_ids(row.n, digest.week, start, room - len(packed) + 1)
        touched.append(digest)
        for entry in rows:
            if len(packed) >= room or size >= limits.BUNDLE_SIZE_MAX_BYTES:
                end = False
                break
            week, after = digest.week, entry.id
            for sealed in link.replica.sealed_of(row.n, [entry], bodies=query.bodies):
                packed.append(wire.Packed(to_tail(sealed), sealed.body, sealed.signature))
                size += len(sealed.outer) + len(sealed.body or b"")
        if not end:
            break
    return wire.Page(query.request, week, after, end, encode_segments(touched), tuple(packed))


class Pager:
    """Reads a log page by page and proves each segment complete.

    Args:
        first_week, last_week: What to read, both inclusive.
        bodies: With bodies.

    Attributes:
        end: Everything was read.
        digests: Of the segments that were read from start to end; the bodies' part is that of the
            bodies that came.
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
            ProtocolViolation: Entries out of order or of another log, or fewer than a digest says.
        """
        segments = decode_segments(page.segments)
        entries: list[Sealed] = []
        for packed in page.entries:
            try:
                sealed = from_tail(self._topic, packed.head, packed.body, packed.signature)
                week = parse_any(sealed.outer).week
            except InvalidInput as error:
                raise ProtocolViolation(f"a page with what is no entry: {error}") from None
            if (week, sealed.id) <= (self._week, self._after) or week > self._last_week:
                raise ProtocolViolation("a page out of order")
            if week != self._week:
                self._close_segment()
            if self._segment is None:
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
        """All of a segment has come: its ids must hash to what the holder said of it."""
        if not self._ids:
            return
        digest = segment_digest(self._week, self._ids)
        said = self._segment
        if said is None or (said.entries, said.entries_hash) != (
            digest.entries,
            digest.entries_hash[: wire.ROOT_SIZE],
        ):
            raise ProtocolViolation("a page that leaves something out")
        self.digests.append(digest)
        self._ids, self._segment = [], None
