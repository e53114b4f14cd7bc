"""The follower's side of reconciliation: answer what the leader asks, each question by itself."""

from __future__ import annotations

from collections.abc import Callable, Generator

from mlog import limits
from mlog.errors import InvalidInput, ProtocolViolation
from mlog.log.ids import EntryId, Topic
from mlog.log.scope import Scope
from mlog.log.segments import Pages, carried_hash, carried_pages, least_ids, pages_of
from mlog.log.store import LogKind, LogRow
from mlog.protocol import wire
from mlog.protocol.keeping import Keeper
from mlog.protocol.link import Job, Link
from mlog.protocol.marks import encode_marks, mark_key, marks_of
from mlog.protocol.sending import Sender
from mlog.protocol.sketching import Sketched, decode_weeks
from mlog.protocol.standing import SLICE_LOGS, Standing, stand
from mlog.protocol.vector import count, decode_vector, encode_vector, may_encode, subtract

__all__ = ["Follower"]


class Follower:
    """Answers offers and questions of the leader.

    Args:
        unknown: Called after a whole offer: the tags that it named, and what was shared when it came.
    """

    def __init__(
        self,
        link: Link,
        sender: Sender,
        keeper: Keeper,
        unknown: Callable[[set[bytes], set[Topic]], None],
    ):
        self._link = link
        self._sender = sender
        self._keeper = keeper
        self._unknown = unknown
        self._sketched: dict[int, Sketched] = {}

    def offer(self, offer: wire.Offer) -> Generator[None, None, tuple[list[int], list[int]]]:
        """Answer an offer; gives the logs that both hold, and those of them that differ.

        Raises:
            ProtocolViolation: A log stands in it twice, or a scope is of none of its logs.
        """
        link = self._link
        size = wire.TAG_SIZE + 2 * wire.ROOT_SIZE
        parts = [offer.logs[at : at + size] for at in range(0, len(offer.logs), size)]
        tags = [part[: wire.TAG_SIZE] for part in parts]
        scopes = {scoped.index: scoped for scoped in offer.scopes}
        if len(offer.logs) % size or len(set(tags)) < len(tags) or any(i >= len(parts) for i in scopes):
            raise ProtocolViolation("an offer that names a log twice, or none")
        shared = link.shared()
        equal = bytearray((len(parts) + 7) // 8)
        found: list[tuple[Standing, Scope]] = []
        differs: list[wire.Differs] = []
        both: list[int] = []
        differing: list[int] = []
        room = limits.ANSWERED_VECTORS_SIZE_MAX_BYTES
        for index, part in enumerate(parts):
            row = shared.get(tags[index])
            if row is None:
                continue
            both.append(row.n)
            standing = yield from stand(link.replica, row, link.now_ms)
            scoped = scopes.get(index, wire.Scoped(index, 0, bodies=True))
            scope = standing.meet(scoped.first_week, bodies=scoped.bodies)
            theirs = part[wire.TAG_SIZE :][: wire.ROOT_SIZE], part[wire.TAG_SIZE + wire.ROOT_SIZE :]
            # Both sign over what the leader offered: of a wider scope it is told, and offers again.
            same = scope == Scope(scoped.first_week, scoped.bodies) and standing.equals(scope, theirs)
            if same:
                equal[index // 8] |= 1 << index % 8
                found.append((standing, scope))
                self._sketched.pop(row.n, None)
            else:
                differing.append(row.n)
                differs.append(self._differs(index, row, standing, scope, room))
                room -= len(differs[-1].vector or b"")
            self._sender.go_live(row.n, tags[index], standing.last_n, equal=same)
            if len(both) % SLICE_LOGS == 0:
                yield
        link.send(wire.Answer(offer.serial, bytes(equal), tuple(differs)))
        self._keeper.equal(offer.serial, found)
        yield from self._keeper.write_equal(link.now_ms)
        receipt = self._keeper.sign(offer.serial, link.now_ms)
        if receipt is not None:
            link.send(receipt)
        if not offer.partial:
            self._unknown(set(tags), {row.topic for row in shared.values()})
        return both, differing

    def _differs(self, index: int, row: LogRow, standing: Standing, scope: Scope, room: int) -> wire.Differs:
        entries, bodies = standing.roots(scope.first_week)
        encoded = None
        if row.kind != LogKind.BLIND:
            held = self._link.held(row.n, scope.first_week)
            encoded = encode_vector(held) if held is not None and may_encode(held) else None
        if encoded is not None and len(encoded) > room:
            encoded = None
        return wire.Differs(index, scope.first_week, standing.scope.bodies, entries, bodies, encoded)

    def have(self, message: wire.Have) -> None:
        """What the leader holds: what it is about to send."""
        log = self._link.log_of(message.tag)
        if log is None:
            return
        theirs = decode_vector(message.vector)
        self._keeper.heard(log, theirs)
        mine = self._link.held(log, 0) or {}
        lacks = [
            subtract(held.ranges, mine[tag].ranges if tag in mine else ()) for tag, held in theirs.items()
        ]
        self._link.tell("lacks", log, sum(map(count, lacks)))

    def weeks(self, question: wire.AskWeeks) -> Job:
        """Say the marks of segments."""
        link = self._link
        row = link.shared().get(question.tag)
        if row is None:
            raise ProtocolViolation("a question about a log that is not shared")
        standing = yield from stand(link.replica, row, link.now_ms)
        digests = [d for d in standing.digests if d.week >= question.first_week]
        marks = encode_marks(marks_of(mark_key(link.binding, question.attempt), digests))
        link.send(wire.Weeks(question.tag, question.attempt, sum(d.entries for d in digests), marks))

    def cells(self, question: wire.AskCells) -> Job:
        """Say cells of a sketch; of each log that of the last attempt is kept until it is equal.

        A leader sketches several logs side by side: 12 bytes for each id of them.
        """
        from mlog.protocol.sketch import SKETCH_CELLS_MAX

        link, log = self._link, self._link.log_of(question.tag)
        if log is None or not question.start < question.stop <= SKETCH_CELLS_MAX:
            raise ProtocolViolation("a question about a log that is not shared, or about no cells")
        if question.stop - question.start > limits.ASKED_CELLS_MAX:
            raise ProtocolViolation("more cells than fit into a message")
        sketched = self._sketched.get(log)
        if question.weeks:
            weeks = decode_weeks(question.weeks)
            sketched = Sketched(link.store, log, weeks, link.binding, question.attempt)
            self._sketched[log] = sketched
            yield from sketched.fill()
        if sketched is None or sketched.attempt != question.attempt:
            raise ProtocolViolation("cells of a sketch that was not begun")
        yield from sketched.sketcher.extend(question.stop)
        cells = sketched.sketcher.encoded(question.start, question.stop)
        count = sketched.sketcher.count
        link.send(wire.Cells(question.tag, question.attempt, count, question.start, cells))

    def find(self, log: int, shorts: bytes) -> Generator[None, None, list[EntryId]]:
        """The entries that have these short ids of the last sketch of their log."""
        from mlog.protocol.sketch import decode_short_ids

        sketched = self._sketched.get(log)
        if sketched is None:
            raise ProtocolViolation("short ids of no sketch")
        try:
            wanted = decode_short_ids(shorts)
        except InvalidInput as error:
            raise ProtocolViolation(f"short ids: {error}") from None
        return (yield from sketched.find(wanted))

    def ids(self, question: wire.AskIds) -> Job:
        """Say the ids of a segment, a page at a time."""
        link, log = self._link, self._link.log_of(question.tag)
        if log is None:
            raise ProtocolViolation("a question about a log that is not shared")
        yield from self._list(question, pages_of(link.store, log, question.week))

    def carried(self, question: wire.AskCarried) -> Job:
        """Say the ids of what a window carries along, a page at a time, unless the leader has just these."""
        link = self._link
        row = link.shared().get(question.tag)
        if row is None:
            raise ProtocolViolation("a question about a log that is not shared")
        same = row.kind == LogKind.BLIND
        if question.known and not same:
            same = question.known == (yield from carried_hash(link.store, row.n, question.week))
        if same:
            link.send(wire.Same(question.tag))
        else:
            yield from self._list(question, carried_pages(link.store, row.n, question.week))

    def _list(self, question: wire.AskIds | wire.AskCarried, pages: Pages) -> Job:
        most = limits.WANTED_IDS_MAX
        ids = yield from least_ids(pages, question.after, most + 1)
        page = b"".join(ids[:most])
        self._link.send(wire.Ids(question.tag, question.week, question.after, page, len(ids) > most))
