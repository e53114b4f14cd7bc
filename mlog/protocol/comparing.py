"""The leader's side of reconciliation: find out what differs, cheapest way first, until roots agree.

    offer -> equal: proven, live
          -> differs -> pass 1: chain vectors; where they explain nothing, as pass 2
                        pass 2: marks of segments, a sketch of those that differ
                        pass 3: the ids of those that differ
             each pass transfers what either side lacks; then roots are compared again
          -> differs after the last pass: marked as differing, until either side changes

Each log has a `Talk`, a generator that reads like the exchange it has with the follower.
docs/protocol.md, 14.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from enum import Enum
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log.entry import NO_ENTRY
from mlog.log.ids import EntryId
from mlog.log.scope import Scope
from mlog.log.segments import carried_hash, carried_pages, pages_of, sorted_slices
from mlog.log.store import LogKind
from mlog.protocol import wire
from mlog.protocol.keeping import Keeper
from mlog.protocol.link import Link
from mlog.protocol.marks import decode_marks, differing_weeks, mark_key, marks_of
from mlog.protocol.sending import Pages, Sender, Stream, by_id, by_ranges
from mlog.protocol.sketching import Sketched, encode_weeks
from mlog.protocol.standing import SLICE_LOGS, Standing, stand
from mlog.protocol.vector import (
    ChainTag,
    Ranges,
    count,
    decode_vector,
    encode_ranges,
    encode_vector,
    may_encode,
    split_ranges,
    subtract,
)

__all__ = ["Inspect", "Leader"]

_ID_SIZE: Final = 32


class _Turn(Enum):
    """What the comparison of one log waits for."""

    GIVES = "others have their turn"
    LISTENS = "the follower's next message about the log"
    RESTS = "the end of all that was asked for and sent"
    QUEUES = "a place among the logs that are sketched or listed"


Talk: TypeAlias = Generator[_Turn, wire.Message | None, None]

Inspect: TypeAlias = Callable[[int, Sequence[EntryId], Sequence[EntryId]], None]
"""Called with a log and the ids of entries that are only here, and only there; of very many in parts."""

_PASSES: Final = 3


class _Compared(msgspec.Struct):
    """One log in comparison.

    Attributes:
        scope: Over what it is offered: narrower than our own once the follower's is known.
        passes: How many were begun since it was last equal, or last changed.
        narrowed: How often since then the follower kept less of it than it had said.
        waits: Requests and streams that are not finished; then roots are compared again.
        carried: What its window carries along has been compared.
        talk: The exchange that goes on about it.
        turn: What the talk waits for.
    """

    log: int
    tag: bytes
    standing: Standing
    scope: Scope
    passes: int = 0
    narrowed: int = 0
    waits: set[int] = msgspec.field(default_factory=set)
    carried: bool = False
    talk: Talk | None = None
    turn: _Turn = _Turn.GIVES


class Leader:
    """Compares all logs that both ends may have.

    Args:
        keeper: Records what comes out.
        ask: Sends what a `Want` says and gives its number; `done` is told of its end.
        at_rest: Whether all that was asked for has come.
        inspect: Compare only: it is told what differs, and nothing is transferred.
    """

    def __init__(
        self,
        link: Link,
        sender: Sender,
        keeper: Keeper,
        ask: Callable[[wire.Want], int],
        at_rest: Callable[[], bool],
        inspect: Inspect | None = None,
    ):
        self._link = link
        self._sender = sender
        self._keeper = keeper
        self._ask = ask
        self._at_rest = at_rest
        self._inspect = inspect
        self._serial = 0
        self._partial = False
        self._offer: Generator[None] | None = None
        self._offered: list[_Compared] | None = None
        self._logs: dict[int, _Compared] = {}
        self._due: set[int] = set()
        self._all_due = True
        self._settles: dict[int, int] = {}
        self._changed: set[int] = set()
        self._pushes = 0
        self._attempt = 0
        self._deep: set[int] = set()

    @property
    def idle(self) -> bool:
        """Nothing is being compared."""
        return not (
            self._offer
            or self._offered is not None
            or self._due
            or self._all_due
            or any(c.talk or c.waits for c in self._logs.values())
        )

    @property
    def waits(self) -> bool:
        """A message of the follower is due."""
        return self._offered is not None or any(
            c.turn == _Turn.LISTENS or c.waits for c in self._logs.values()
        )

    @property
    def wake_ms(self) -> int | None:
        """When `tick` is to be called next."""
        return min(self._settles.values(), default=None)

    @property
    def offers_all(self) -> bool:
        """The offer that is on its way names every log that both may have."""
        return self._offered is not None and not self._partial

    def touch(self, log: int, *, changed: bool) -> None:
        """A log may have changed on either side: its roots are compared when it has come to rest.

        Args:
            changed: It did: what was tried before counts no more.
        """
        if self._inspect is None:
            self._settles[log] = self._link.now_ms + limits.SETTLE_MS
            if changed:
                self._changed.add(log)

    def shift(self, by_ms: int) -> None:
        """All times are other ones by this, since the clock was set."""
        self._settles = {log: at_ms + by_ms for log, at_ms in self._settles.items()}

    def tick(self) -> None:
        """Compare again what has come to rest, and with it, in one offer, what soon will have."""
        now_ms = self._link.now_ms
        if all(at_ms > now_ms for at_ms in self._settles.values()):
            return
        rested = [log for log, at_ms in self._settles.items() if at_ms <= now_ms + limits.SETTLE_MS // 2]
        for log in rested:
            del self._settles[log]
        self.compare(self._changed.intersection(rested), again=True)
        self.compare(rested)
        self._changed.difference_update(rested)

    def compare(self, logs: Collection[int], *, again: bool = False) -> None:
        """Compare these logs when nothing is on its way.

        Args:
            again: They changed: what was tried before counts no more.
        """
        for log in logs:
            compared = self._logs.get(log)
            if compared is not None and again:
                compared.passes = compared.narrowed = 0
            self._due.add(log)

    def compare_all(self) -> None:
        """Compare all logs, from the start: the follower may also keep more of them than it did."""
        for compared in self._logs.values():
            compared.passes = compared.narrowed = 0
            compared.scope = Scope(0, bodies=True)
            compared.carried = False
        self._all_due = True

    def step(self) -> bool:
        """One slice of work; False if there is nothing to do before something happens."""
        for compared in self._logs.values():
            if compared.talk is not None and self._may_go_on(compared):
                if self._link.is_shared(compared.log):
                    self._resume(compared, None)
                else:
                    # It was shared when this began, and is no more: the follower may not have it.
                    self._end(compared)
                return True
        if self._offer is not None:
            if next(self._offer, self) is self:
                self._offer = None
            return True
        if (self._due or self._all_due) and self._offered is None and self._is_quiet():
            self._offer = self._make_offer()
            return True
        return False

    def _may_go_on(self, compared: _Compared) -> bool:
        if compared.turn == _Turn.QUEUES:
            return compared.log in self._deep or len(self._deep) < limits.COMPARED_DEEPLY_MAX
        return compared.turn == _Turn.GIVES

    def _is_quiet(self) -> bool:
        """Nothing is on its way that would change what is compared."""
        compared = any(c.talk or c.waits for n, c in self._logs.items() if self._all_due or n in self._due)
        return self._sender.idle and self._at_rest() and not compared

    # -- offer and answer --------------------------------------------------------------------

    def _make_offer(self) -> Generator[None]:
        link = self._link
        shared = link.shared()
        due = {row.n for row in shared.values() if self._all_due or row.n in self._due}
        self._due, self._all_due = set(), False
        offered: list[_Compared] = []
        logs, scopes = bytearray(), list[wire.Scoped]()
        for tag, row in shared.items():
            if row.n not in due:
                continue
            if len(offered) == limits.OFFERED_LOGS_MAX:
                self._due.add(row.n)
                continue
            self._settles.pop(row.n, None)
            standing = yield from stand(link.replica, row, link.now_ms)
            compared = self._logs.setdefault(row.n, _Compared(row.n, tag, standing, standing.scope))
            compared.standing = standing
            scope = compared.scope = standing.meet(compared.scope.first_week, bodies=compared.scope.bodies)
            if scope != Scope(0, True):
                scopes.append(wire.Scoped(len(offered), scope.first_week, scope.bodies))
            entries, bodies = standing.roots(scope.first_week)
            logs += tag + entries + bodies
            offered.append(compared)
            if len(offered) % SLICE_LOGS == 0:
                yield
        self._serial += 1
        self._offered = offered
        self._partial = len(offered) < len(shared)
        link.send(wire.Offer(self._serial, bytes(logs), tuple(scopes), self._partial))

    def answer(self, answer: wire.Answer) -> tuple[list[int], list[int], list[int]]:
        """Take the answer to the offer; gives the logs of it that are equal, that differ, that only we have.

        Raises:
            ProtocolViolation: There was no such offer, or the answer is about other logs.
        """
        offered, self._offered = self._offered, None
        if offered is None or answer.serial != self._serial:
            raise ProtocolViolation("an answer to no offer")
        self._link.round_trips += 1
        if len(answer.equal) != (len(offered) + 7) // 8:
            raise ProtocolViolation("an answer about other logs")
        equal = {i: c for i, c in enumerate(offered) if answer.equal[i // 8] >> i % 8 & 1}
        differing: dict[int, wire.Differs] = {}
        for differs in answer.differs:
            if differs.index >= len(offered) or differs.index in differing or differs.index in equal:
                raise ProtocolViolation("an answer about other logs")
            differing[differs.index] = differs
        held = [(compared.standing, compared.scope) for compared in equal.values()]
        self._keeper.equal(answer.serial, held)
        for compared in equal.values():
            compared.passes = compared.narrowed = 0
            self._sender.go_live(compared.log, compared.tag, compared.standing.last_n, equal=True)
            if self._lacks_carried(compared):
                compared.talk, compared.turn = self._by_carried(compared), _Turn.GIVES
        for index, differs in differing.items():
            compared = offered[index]
            compared.talk, compared.turn = self._differs(compared, differs), _Turn.GIVES
        return (
            [compared.log for compared in equal.values()],
            [offered[index].log for index in differing],
            [c.log for i, c in enumerate(offered) if i not in equal and i not in differing],
        )

    def message(self, message: wire.Weeks | wire.Cells | wire.Ids | wire.Same) -> None:
        """Take what the follower says about one log.

        Raises:
            ProtocolViolation: Nothing was asked.
        """
        log = self._link.log_of(message.tag)
        compared = self._logs.get(log) if log is not None else None
        if compared is None or compared.turn != _Turn.LISTENS:
            raise ProtocolViolation("an answer to no question")
        self._link.round_trips += 1
        self._resume(compared, message)

    def done(self, request: int) -> None:
        """A request has been served to its end."""
        for compared in self._logs.values():
            if request in compared.waits:
                self._link.round_trips += 1
                self._finish(compared, request)

    def _finish(self, compared: _Compared, wait: int) -> None:
        if wait in compared.waits:
            compared.waits.discard(wait)
            if compared.waits:
                return
            if compared.turn == _Turn.RESTS:
                compared.turn = _Turn.GIVES
            else:
                self._due.add(compared.log)

    def _resume(self, compared: _Compared, message: wire.Message | None) -> None:
        assert compared.talk is not None
        if compared.turn == _Turn.QUEUES:
            self._deep.add(compared.log)
        try:
            compared.turn = compared.talk.send(message)
        except StopIteration:
            self._end(compared)

    def _end(self, compared: _Compared) -> None:
        compared.talk, compared.turn = None, _Turn.GIVES
        self._deep.discard(compared.log)

    # -- one log -----------------------------------------------------------------------------

    def _differs(self, compared: _Compared, differs: wire.Differs) -> Talk:
        link, log, standing = self._link, compared.log, compared.standing
        scope = standing.meet(differs.first_week, bodies=differs.bodies)
        theirs = differs.entries_root, differs.bodies_root
        narrower, compared.scope = scope != compared.scope, scope
        self._sender.go_live(log, compared.tag, standing.last_n)
        if narrower and standing.equals(scope, theirs) and compared.narrowed < _PASSES:
            # Over what both keep they are equal; the follower can say so, and sign it, once it is asked.
            compared.narrowed += 1
            self._due.add(log)
            return
        compared.passes += 1
        if self._lacks_carried(compared):
            yield from self._by_carried(compared)
        entries_equal = standing.roots(scope.first_week)[0] == theirs[0]
        by_vector = self._inspect is None and not entries_equal and compared.passes == 1
        if by_vector and differs.vector is not None and self._by_vector(compared, differs, scope):
            return
        if compared.passes > _PASSES:
            if link.store.arrivals(log, standing.last_n, 1):
                # It goes on changing here: what was offered is not what is held any more.
                compared.passes = 0
                self._due.add(log)
                return
            self._give_up(compared, entries_equal=entries_equal)
            return
        if entries_equal and self._inspect is None:
            # Each side asks by itself for the bodies that it lacks; then roots are compared again.
            self._due.add(log)
            return
        yield _Turn.QUEUES
        self._attempt += 1
        attempt = self._attempt
        link.send(wire.AskWeeks(compared.tag, scope.first_week, attempt))
        reply = yield _Turn.LISTENS
        if not isinstance(reply, wire.Weeks) or reply.attempt != attempt:
            raise ProtocolViolation("not the segments that were asked for")
        digests = [digest for digest in standing.digests if digest.week >= scope.first_week]
        mine = marks_of(mark_key(link.binding, attempt), digests)
        theirs = {w: mark for w, mark in decode_marks(reply.marks).items() if w >= scope.first_week}
        weeks = differing_weeks(mine, theirs)
        if compared.passes < _PASSES and self._inspect is None:
            # What does not differ has as many entries on both sides.
            surplus = reply.entries - sum(digest.entries for digest in digests)
            if (yield from self._by_sketch(compared, weeks, surplus, attempt, bodies=differs.bodies)):
                return
        for week in weeks:
            yield from self._by_ids(compared, week, bodies=differs.bodies)
        if self._inspect is not None:
            self._inspect(log, (), ())
        else:
            self._due.add(log)

    def _by_vector(self, compared: _Compared, differs: wire.Differs, scope: Scope) -> bool:
        """Transfer what chain vectors say; False if they say nothing."""
        link, log = self._link, compared.log
        theirs, mine = decode_vector(differs.vector or b""), link.held(log, scope.first_week)
        if mine is None:
            return False
        chains = link.chains(log)
        lacking_here: dict[ChainTag, Ranges] = {}
        for tag, held in theirs.items():
            lack = subtract(held.ranges, mine[tag].ranges if tag in mine else ())
            if lack:
                lacking_here[tag] = lack
        lacking_there: dict[int, Ranges] = {}
        for tag, held in mine.items():
            lack = subtract(held.ranges, theirs[tag].ranges if tag in theirs else ())
            if lack:
                lacking_there.update(dict.fromkeys(chains[tag], lack))
        self._keeper.heard(log, theirs)
        self._keeper.behind(
            log,
            sum(map(count, lacking_here.values())),
            sum(map(count, lacking_there.values())),
            link.now_ms,
        )
        if not lacking_here and not lacking_there:
            return False
        for part in split_ranges(lacking_here, limits.VECTOR_HOLES_MAX):
            want = wire.Want(
                0,
                compared.tag,
                encode_ranges(part),
                first_week=scope.first_week,
                bodies=compared.standing.scope.bodies,
            )
            compared.waits.add(self._ask(want))
        if lacking_there:
            if may_encode(mine):
                link.send(wire.Have(compared.tag, encode_vector(mine)))
            pages = by_ranges(link.store, log, lacking_there, scope.first_week)
            self._push(compared, pages, bodies=differs.bodies)
        return True

    def _by_sketch(
        self, compared: _Compared, weeks: Sequence[int], surplus: int, attempt: int, *, bodies: bool
    ) -> Generator[_Turn, wire.Message | None, bool]:
        """Transfer what a sketch of these segments tells; False where a list of ids is shorter.

        Args:
            surplus: How many entries more the follower has in them.
        """
        link, log = self._link, compared.log
        chosen = set(weeks)
        count_here = sum(d.entries for d in compared.standing.digests if d.week in chosen)
        count_there = count_here + surplus
        if count_there < limits.SKETCHED_IDS_MIN:
            return False
        from mlog.protocol import sketch

        sketched = Sketched(link.store, log, weeks, link.binding, attempt)
        for _ in sketched.fill():
            yield _Turn.GIVES
        peeler = sketch.Peeler(sketched.sketcher)
        start, stop = 0, sketch.first_cells(count_here, count_there)
        while stop and not peeler.decoded:
            asked = encode_weeks(weeks) if start == 0 else b""
            end = min(stop, start + limits.ASKED_CELLS_MAX)
            link.send(wire.AskCells(compared.tag, attempt, asked, start, end))
            reply = yield _Turn.LISTENS
            if not isinstance(reply, wire.Cells) or (reply.attempt, reply.start) != (attempt, start):
                raise ProtocolViolation("not the cells that were asked for")
            if len(reply.cells) != (end - start) * sketch.CELL_SIZE:
                raise ProtocolViolation("fewer cells than were asked for, or more")
            peeler.feed(reply.cells)
            start = end
            if start < stop:
                continue
            for _ in peeler.peel():
                yield _Turn.GIVES
            stop = sketch.next_cells(stop, peeler.estimate(reply.count), reply.count)
        if not peeler.decoded:
            return False
        finding = sketched.find(peeler.here)
        while True:
            try:
                next(finding)
            except StopIteration as end:
                here: list[EntryId] = end.value
                break
            yield _Turn.GIVES
        self._keeper.behind(log, len(peeler.there), len(here), link.now_ms)
        if peeler.there:
            shorts = sketch.encode_short_ids(peeler.there)
            want = wire.Want(0, compared.tag, shorts=shorts, bodies=compared.standing.scope.bodies)
            compared.waits.add(self._ask(want))
        if here:
            self._push(compared, by_id(link.store, log, here), bodies=bodies)
        if not here and not peeler.there:
            self._due.add(log)
        return True

    def _by_ids(self, compared: _Compared, week: int, *, bodies: bool) -> Talk:
        """Transfer what is only here, and only there, of a segment; or tell who inspects."""
        mine = sorted_slices(pages_of(self._link.store, compared.log, week))
        yield from self._by_lists(
            compared, mine, week, lambda after: wire.AskIds(compared.tag, week, after), bodies=bodies
        )

    def _lacks_carried(self, compared: _Compared) -> bool:
        if compared.carried or not compared.scope.first_week or self._inspect is not None:
            return False
        return any(row.n == compared.log and row.kind != LogKind.BLIND for row in self._link.store.logs())

    def _by_carried(self, compared: _Compared) -> Talk:
        """Transfer what windows carry along from before the first week that is compared."""
        store, log, week = self._link.store, compared.log, compared.scope.first_week
        compared.carried = True
        yield _Turn.QUEUES
        hashing = carried_hash(store, log, week)
        while True:
            try:
                next(hashing)
            except StopIteration as end:
                known: bytes = end.value
                break
            yield _Turn.GIVES

        def ask(after: EntryId) -> wire.AskCarried:
            return wire.AskCarried(compared.tag, week, after, known if after == NO_ENTRY else b"")

        mine = sorted_slices(carried_pages(store, log, week))
        if (yield from self._by_lists(compared, mine, week, ask, bodies=True)):
            self._due.add(log)

    def _by_lists(
        self,
        compared: _Compared,
        slices: Iterator[list[bytes]],
        week: int,
        ask: Callable[[EntryId], wire.AskIds | wire.AskCarried],
        *,
        bodies: bool,
    ) -> Generator[_Turn, wire.Message | None, bool]:
        """Compare lists of ids, and transfer what differs; False if the follower says that nothing does.

        Both lists are in the order of ids, so what a page of the follower's differs in is known at once, and
        no more of it is kept than can be asked for: a liar may list millions.

        Args:
            slices: Of what is here, as `sorted_slices` gives it.
            ask: Makes the question for the ids behind one.
        """
        link = self._link
        here: list[EntryId] = []
        there: list[EntryId] = []
        mine: Sequence[EntryId] = ()
        after, more, listed = NO_ENTRY, True, 0
        while more:
            question = ask(after)
            link.send(question)
            reply = yield _Turn.LISTENS
            if isinstance(reply, wire.Same) and isinstance(question, wire.AskCarried) and question.known:
                return False
            ids, more = _listed(reply, week, after)
            listed += len(ids)
            if listed > limits.SEGMENT_IDS_MAX:
                raise ProtocolViolation(f"a segment of more than {limits.SEGMENT_IDS_MAX} entries")
            after = ids[-1] if ids else after
            theirs = dict.fromkeys(ids)
            while True:
                end = bisect_right(mine, after) if more else len(mine)
                here += [id_ for id_ in mine[:end] if id_ not in theirs]
                for id_ in mine[:end]:
                    theirs.pop(id_, None)
                if end < len(mine) or (part := next(slices, None)) is None:
                    mine = mine[end:]
                    break
                mine = [EntryId(item[:_ID_SIZE]) for item in part]
                yield from self._transfer(compared, here, there, limits.LISTED_IDS_MAX, bodies=bodies)
                yield _Turn.GIVES
            there += theirs
            yield from self._transfer(compared, here, there, limits.LISTED_IDS_MAX, bodies=bodies)
        yield from self._transfer(compared, here, there, 1, bodies=bodies)
        return True

    def _transfer(
        self, compared: _Compared, here: list[EntryId], there: list[EntryId], least: int, *, bodies: bool
    ) -> Talk:
        """Send and ask for what was listed, if that is so much, and wait for the end of it; or tell of it."""
        log = compared.log
        if len(here) + len(there) < least:
            return
        ours, theirs = tuple(here), tuple(there)
        here.clear()
        there.clear()
        if self._inspect is not None:
            self._inspect(log, ours, theirs)
            return
        self._keeper.behind(log, len(theirs), len(ours), self._link.now_ms)
        for at in range(0, len(theirs), limits.WANTED_IDS_MAX):
            ids = b"".join(theirs[at : at + limits.WANTED_IDS_MAX])
            want = wire.Want(0, compared.tag, ids=ids, bodies=compared.standing.scope.bodies)
            compared.waits.add(self._ask(want))
        if ours:
            self._push(compared, by_id(self._link.store, log, ours), bodies=bodies)
        yield _Turn.RESTS

    def _push(self, compared: _Compared, pages: Pages, *, bodies: bool) -> None:
        self._pushes += 1
        number = -self._pushes
        compared.waits.add(number)
        self._sender.add(
            Stream(
                compared.log,
                compared.tag,
                pages,
                bodies=bodies,
                done=lambda _: self._finish(compared, number),
            )
        )

    def _give_up(self, compared: _Compared, *, entries_equal: bool) -> None:
        what = "the texts of some messages are missing on one side" if entries_equal else "entries differ"
        detail = f"{what}, and neither side could give the other what it lacks"
        self._keeper.differing(compared.log, detail, self._link.now_ms)


def _listed(reply: wire.Message | None, week: int, after: EntryId) -> tuple[list[EntryId], bool]:
    """The ids of a page that was asked for, and whether there are more behind it."""
    if not isinstance(reply, wire.Ids) or (reply.week, reply.after) != (week, after):
        raise ProtocolViolation("not the ids that were asked for")
    ids = [EntryId(reply.ids[at : at + _ID_SIZE]) for at in range(0, len(reply.ids), _ID_SIZE)]
    if len(reply.ids) % _ID_SIZE or any(a >= b for a, b in pairwise([after, *ids])):
        raise ProtocolViolation("ids out of order")
    return ids, reply.more and bool(ids)
