"""Sending entries: streams of rows, cut into bundles, one bundle on its way at a time.

The next bundle is made while the last one is on its way and sent once that is acknowledged: what a
broken connection loses is one bundle, and no queue grows. What was asked for goes first; then, live,
what is committed here, in the order in which it was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log.bodies import Kind
from mlog.log.entry import to_tail
from mlog.log.ids import EntryId
from mlog.log.scope import CARRIED
from mlog.log.store import EntryRow, Store, TimelineQuery
from mlog.protocol import wire
from mlog.protocol.link import Link
from mlog.protocol.vector import Ranges, count

__all__ = ["Pages", "Sender", "Stream", "by_id", "by_ranges"]

_MUCH_SHARE: Final = 0.5
"""From this share of a log on it is sent by weeks in one scan, so that people can read the newest at once."""

_TITLES: Final = 1
"""Titles that go before all else: the latest one counts."""

Pages: TypeAlias = Iterator[list[EntryRow]]
"""Rows to send, a bundle's worth at a time at most; an empty page gives others a turn."""


class Stream:
    """Rows of one log on their way to the peer.

    Args:
        pages: Read as they are needed.
        bodies: Send bodies too.
        done: Called when the last of them is acknowledged, with the number that was sent.
    """

    def __init__(
        self,
        log: int,
        tag: bytes,
        pages: Pages,
        *,
        bodies: bool,
        done: Callable[[int], None] = lambda _: None,
    ):
        self.log = log
        self.tag = tag
        self.bodies = bodies
        self.done = done
        self.sent = 0
        self._pages = pages
        self._ended = False
        self._left: list[EntryRow] = []

    def take(self) -> list[EntryRow] | None:
        """The rows of the next bundle; empty to be asked again, None at the end."""
        rows, self._left = self._left, []
        size = sum(map(_size_on_the_wire, rows))
        while (
            not self._ended and len(rows) < limits.BUNDLE_ENTRIES_MAX and size < limits.BUNDLE_SIZE_MAX_BYTES
        ):
            page = next(self._pages, None)
            if not page:
                self._ended = page is None
                break
            rows += page
            size += sum(map(_size_on_the_wire, page))
        if not rows:
            return None if self._ended else []
        end = _fitting(rows)
        if end < len(rows) or not self._ended:
            end = _signed_end(rows[:end])
        self._left = rows[end:]
        return rows[:end]


class _Live:
    """How far the peer has what was committed here of one log.

    Attributes:
        cursor: `EntryRow.n` of the last one it has, or has been sent.
        theirs: Those beyond the cursor that came from the peer itself.
    """

    def __init__(self, tag: bytes, cursor: int):
        self.tag = tag
        self.cursor = cursor
        self.theirs: set[EntryId] = set()


class _Flying(NamedTuple):
    """A bundle that is not acknowledged yet."""

    serial: int
    log: int
    entries: int
    stream: Stream | None


class Sender:
    """All that one session sends of entries.

    Attributes:
        pushes: Send what is committed too, not only what was asked for.
    """

    def __init__(self, link: Link):
        self._link = link
        self._streams: deque[Stream] = deque()
        self._live: dict[int, _Live] = {}
        self._live_due: dict[int, None] = {}
        self._serial = 0
        self._next: tuple[wire.Entries, _Flying] | None = None
        self._flying: _Flying | None = None
        self.pushes = True
        self.entries_sent = 0

    @property
    def idle(self) -> bool:
        """Everything is sent and acknowledged."""
        return not (self._flying or self._next or self._streams or self._live_due)

    @property
    def waits(self) -> bool:
        """An acknowledgement is due."""
        return self._flying is not None

    def add(self, stream: Stream) -> None:
        """Send these, after what was added before."""
        self._streams.append(stream)

    def go_live(self, log: int, tag: bytes, cursor: int, *, equal: bool = False) -> None:
        """From now on send what is committed behind `cursor`, as soon as it is.

        Args:
            equal: The peer has all up to there, also where less was sent; else what was not sent yet of
                a log that is live already still is: a comparison that fails must not swallow it.
        """
        if not self.pushes:
            return
        live = self._live.setdefault(log, _Live(tag, cursor))
        if equal:
            live.cursor = max(live.cursor, cursor)
        self._live_due[log] = None

    def is_live(self, log: int) -> bool:
        """Whether what is committed of a log is pushed."""
        return log in self._live

    def committed(self, logs: Iterable[int]) -> bool:
        """These logs have new entries; whether there may be something to send."""
        due = [log for log in logs if log in self._live]
        self._live_due.update(dict.fromkeys(due))
        return bool(due)

    def received(self, log: int, ids: Collection[EntryId], before_n: int, after_n: int) -> None:
        """The peer sent these; they are the rows behind `before_n` up to `after_n`."""
        live = self._live.get(log)
        if live is None:
            return
        if live.cursor >= before_n:
            live.cursor = max(live.cursor, after_n)
        elif len(live.theirs) + len(ids) <= limits.LIVE_SKIP_MAX:
            live.theirs.update(ids)

    def acknowledged(self, serial: int, refused: int) -> int | None:
        """The peer has a bundle; gives its log if it was pushed live.

        Raises:
            ProtocolViolation: It was not sent.
        """
        flying = self._flying
        if flying is None or flying.serial != serial or refused > flying.entries:
            raise ProtocolViolation("an acknowledgement of what was not sent")
        self._flying = None
        if refused:
            detail = f"{self._link.peer.name} refused {refused} of {flying.entries} entries"
            self._link.tell("refused", flying.log, refused, detail)
        self._link.tell("sent", flying.log, flying.entries - refused)
        if flying.stream is not None:
            flying.stream.sent += flying.entries - refused
        return flying.log if flying.stream is None and refused < flying.entries else None

    def step(self) -> bool:
        """One slice of work; False if there is nothing to do before something happens."""
        if self._next is None and self._prepare():
            return True
        if self._next is not None and not self._link.is_shared(self._next[1].log):
            self._next = None
            return True
        if self._next is None or self._flying is not None:
            return False
        bundle, self._flying = self._next
        self._next = None
        self.entries_sent += len(bundle.entries)
        self._link.send(bundle)
        return True

    def _prepare(self) -> bool:
        if not self._streams:
            return bool(self._live_due) and self._prepare_live()
        stream = self._streams[0]
        rows = stream.take() if self._link.is_shared(stream.log) else None
        if rows is None:
            if self._flying is not None and self._flying.stream is stream:
                return False
            self._streams.popleft()
            stream.done(stream.sent)
        elif rows:
            self._pack(stream.log, stream.tag, rows, stream, bodies=stream.bodies)
        return True

    def _prepare_live(self) -> bool:
        while self._live_due:
            log = next(iter(self._live_due))
            live = self._live[log]
            if not self._link.is_shared(log):
                del self._live_due[log], self._live[log]
                continue
            rows = self._link.feed.page(log, live.cursor)
            if not rows:
                live.theirs.clear()
                del self._live_due[log]
                continue
            mine = Stream(log, live.tag, iter([[r for r in rows if r.id not in live.theirs]]), bodies=True)
            sent = mine.take()
            if sent:
                live.cursor = sent[-1].n
                self._pack(log, live.tag, sent, None, bodies=True)
            else:
                live.cursor = rows[-1].n
            return True
        return False

    def _pack(
        self, log: int, tag: bytes, rows: Sequence[EntryRow], stream: Stream | None, *, bodies: bool
    ) -> None:
        pack = partial(self._packed, log, rows, bodies=bodies)
        # What is pushed live goes to other sessions too.
        packed = pack() if stream is not None else self._link.feed.packed(log, rows, pack)
        if packed:
            self._serial += 1
            bundle = wire.Entries(self._serial, tag, packed)
            self._next = bundle, _Flying(self._serial, log, len(packed), stream)

    def _packed(self, log: int, rows: Sequence[EntryRow], *, bodies: bool) -> tuple[wire.Packed, ...]:
        unneeded = _vouched_for(rows)
        return tuple(
            wire.Packed(to_tail(sealed), sealed.body, None if sealed.id in unneeded else sealed.signature)
            for sealed in self._link.replica.sealed_of(log, rows, bodies=bodies)
        )


def _vouched_for(rows: Sequence[EntryRow]) -> set[EntryId]:
    """Entries whose signature may stay here: one that goes with a later entry of the run vouches for them.

    The first of a chain and the last of a week keep theirs, and so does what windows carry along: who holds
    one needs them, and a ruling alone tells who was removed by it (mlog/log/parting.py). What comes behind a
    key entry can also be sealed under the epoch that it begins, and is opened only then.
    """
    after: dict[int, EntryRow] = {}
    found: set[EntryId] = set()
    for row in sorted((r for r in rows if r.chain), key=lambda r: (r.chain, r.seq), reverse=True):
        later = after.get(row.chain)
        linked = later is not None and later.seq == row.seq + 1
        if linked and row.seq and row.kind not in CARRIED and later is not None and later.week == row.week:
            found.add(row.id)
        if linked or row.signature is not None:
            after[row.chain] = row
        else:
            after.pop(row.chain, None)
    return found


def by_ranges(store: Store, log: int, ranges: Mapping[int, Ranges], first_week: int) -> Pages:
    """Entries by ranges of their chains; where it is much of a log, the newest weeks first.

    Args:
        ranges: By `ChainRow.n`; what is not here of them is left out.
        first_week: Nothing of an earlier week.
    """
    digests = store.digests(log)
    held = sum(digest.entries for digest in digests)
    if not first_week and sum(map(count, ranges.values())) < _MUCH_SHARE * held:
        return _by_chain(store, ranges)
    # Also weeks that changed since their digests were made.
    known = {*(digest.week for digest in digests), *store.stale_weeks(log)}
    weeks = sorted((week for week in known if week >= first_week), reverse=True)
    return _by_week(store, log, weeks, ranges, store.next_n() - 1)


def by_id(store: Store, log: int, ids: Iterable[EntryId]) -> Pages:
    """Entries by their ids; what is not here is left out."""
    remaining = iter(ids)
    while part := list(islice(remaining, limits.BUNDLE_ENTRIES_MAX)):
        ns = sorted(place.n for place in store.places(log, part).values())
        while rows := list(store.rows(ns, room=limits.BUNDLE_SIZE_MAX_BYTES).values()):
            ns = ns[bisect_right(ns, rows[-1].n) :]
            yield rows


def _by_chain(store: Store, ranges: Mapping[int, Ranges]) -> Pages:
    most, room = limits.BUNDLE_ENTRIES_MAX, limits.BUNDLE_SIZE_MAX_BYTES
    for chain, parts in ranges.items():
        for first, last in parts:
            after = first - 1
            while after < last:
                rows = store.scan(chain, after, min(most, last - after), room=room)
                if not rows:
                    break
                after = rows[-1].seq
                yield [row for row in rows if row.seq <= last]


def _by_week(
    store: Store, log: int, weeks: Sequence[int], ranges: Mapping[int, Ranges], until_n: int
) -> Pages:
    wanted = {chain: _Cursor(parts) for chain, parts in ranges.items()}

    def is_wanted(row: EntryRow) -> bool:
        return row.n <= until_n and row.chain in wanted and wanted[row.chain].holds(row.seq)

    sent: set[int] = set()
    for rows in _of_beginning(store, log, frozenset(weeks)):
        first = [row for row in rows if is_wanted(row)]
        sent.update(row.n for row in first)
        yield first
    most, room = limits.BUNDLE_ENTRIES_MAX, limits.BUNDLE_SIZE_MAX_BYTES
    for week in weeks:
        after = 0
        while (rows := store.week_arrivals(log, week, after, most, room=room)) and rows[0].n <= until_n:
            after = rows[-1].n
            yield [row for row in rows if is_wanted(row) and row.n not in sent]


def _of_beginning(store: Store, log: int, weeks: Set[int]) -> Pages:
    """What is wanted first, and may stand at the beginning of a log: of these weeks the key entries, without
    which nothing is read, and what the log is called."""
    query = TimelineQuery(log=log, limit=limits.KEY_ENTRIES_READ_MAX, kinds=frozenset({Kind.KEY}))
    for _ in range(limits.EPOCHS_MAX // limits.KEY_ENTRIES_READ_MAX):
        rows = store.timeline(query)
        if not rows:
            break
        yield [row for row in rows if row.week in weeks]
        query = msgspec.structs.replace(query, after=rows[-1].position)
    titles = TimelineQuery(log=log, limit=_TITLES, kinds=frozenset({Kind.TITLE}), newest_first=True)
    yield store.timeline(titles)


class _Cursor:
    """Whether a number is in ranges."""

    def __init__(self, ranges: Ranges):
        self._starts = [first for first, _ in ranges]
        self._ranges = ranges

    def holds(self, seq: int) -> bool:
        at = bisect_right(self._starts, seq) - 1
        return at >= 0 and seq <= self._ranges[at][1]


def _fitting(rows: Sequence[EntryRow]) -> int:
    """How many of these make a bundle."""
    size = 0
    for end, row in enumerate(rows[: limits.BUNDLE_ENTRIES_MAX], 1):
        size += _size_on_the_wire(row)
        if size >= limits.BUNDLE_SIZE_MAX_BYTES:
            return end
    return min(len(rows), limits.BUNDLE_ENTRIES_MAX)


def _signed_end(rows: Sequence[EntryRow]) -> int:
    """How many of these end with a signature, so that the receiver can read them at once; else all."""
    for end in range(len(rows), 0, -1):
        if rows[end - 1].signature is not None:
            return end
    return len(rows)


def _size_on_the_wire(row: EntryRow) -> int:
    return len(row.outer) + len(row.body or b"") + limits.ENTRY_FRAMING_BYTES
