"""Store: what a replica keeps, as rows, and the interface that every store implements.

A store decides nothing: it keeps rows and finds them again. `Replica` (mlog/log/replica.py) works
out every value, so that a memory store and a database behave alike; both pass one conformance
suite (tests/log/test_store.py). All calls are synchronous; no call touches more than
STORE_ROWS_MAX rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import IntEnum, StrEnum
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from mlog.log.bodies import SPOKEN, Kind
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId, Topic, message_id
from mlog.log.peers import PeerStore

__all__ = [
    "FORGOTTEN",
    "HELD",
    "AuthorRow",
    "BodyState",
    "ChainRow",
    "DeviceRow",
    "Digest",
    "EntryRow",
    "EpochRow",
    "Forgotten",
    "ForkRow",
    "GapRow",
    "Hit",
    "LogKind",
    "LogRow",
    "Place",
    "Position",
    "Reason",
    "Reference",
    "RunRow",
    "Store",
    "Task",
    "TimelineQuery",
    "crowds_among",
    "place_of",
]


class LogKind(StrEnum):
    """What a log is for."""

    CONVERSATION = "conversation"
    PERSON = "person"
    PRIVATE = "private"
    BLIND = "blind"


class BodyState(IntEnum):
    """In which form a body is kept, or why it is not."""

    OPENED = 0
    SEALED = 1
    ERASED = 2
    NOT_FETCHED = 3
    EXPIRED = 4
    CLOSED = 5
    """Sealed, and only the outline of its epoch is here."""


FORGOTTEN: Final = frozenset({BodyState.ERASED, BodyState.EXPIRED})
"""The body is gone for good, and refused from then on."""

Forgotten: TypeAlias = Literal[BodyState.ERASED, BodyState.EXPIRED]

HELD: Final = frozenset({BodyState.OPENED, BodyState.SEALED, BodyState.EXPIRED, BodyState.CLOSED})
"""The body counts in the digests: what expired counts on, since clocks differ in when it does."""


class Reason(StrEnum):
    """Why an entry, or a part of it, is absent."""

    CORRUPT = "corrupt here"
    LOST = "lost here"
    NOT_FETCHED = "not yet fetched"
    OUTSIDE_WINDOW = "outside the window"
    PRUNED = "pruned"
    ERASED = "erased"
    REFUSED = "refused"
    WAITING = "waiting for another entry"
    UNREACHABLE = "nobody reachable has it"
    FORKED = "forked"
    BEFORE_JOINING = "from before you joined"


class Task(IntEnum):
    """Work that a batch of entries left for later, so that none takes long (mlog/log/intake.py)."""

    OPEN = 1
    PLACE = 2
    RANK = 3
    CUT = 4
    FOLD = 5
    ERASE = 6
    UNSEAL = 7
    EXPIRED = 8
    BEHIND = 9
    VOUCH = 10


class LogRow(msgspec.Struct, frozen=True, gc=False):
    """One log.

    Attributes:
        secret: Sealed by the device's vault; b"" where this replica cannot read the log.
        title: The latest one folded.
        window_days: Only what is so recent is wanted here; 0 for everything.
        fetch_bodies: Bodies are wanted too; else one by one, when they are asked for.
    """

    n: int
    topic: Topic
    kind: LogKind
    secret: bytes
    title: str = ""
    window_days: int = 0
    fetch_bodies: bool = True


class DeviceRow(msgspec.Struct, frozen=True, gc=False):
    """What a device record says: the names of the device and of its person.

    Attributes:
        topic: Of the person's log: two persons may have one name.
    """

    id: DeviceId
    name: str
    person: str
    topic: bytes = b""


class EpochRow(msgspec.Struct, frozen=True, gc=False):
    """One epoch secret of a log, sealed by the device's vault."""

    log: int
    number: int
    secret: bytes


class ChainRow(msgspec.Struct, frozen=True, gc=False):
    """One chain, or one branch of a forked one, and its newest entry here.

    Attributes:
        seq: Highest sequence number held; `id` and `week` are that entry's.
        branch: Of a further branch of the same device and incarnation, the entry that began it
            here; b"" for the first. Which one came first differs between replicas.
    """

    n: int
    log: int
    device: DeviceId
    incarnation: Incarnation
    seq: int
    id: EntryId
    week: int
    branch: bytes = b""


class RunRow(msgspec.Struct, frozen=True, gc=False):
    """Entries of a chain from `first` to `last` that are held, and read, without a hole."""

    chain: int
    first: int
    last: int


class ForkRow(msgspec.Struct, frozen=True, gc=False):
    """Evidence that a device wrote two entries at one place of a chain; the lowest place known.

    Attributes:
        one, other: The two ids, ascending. Of each, the entry is here or one here names it as `prev`.
    """

    log: int
    device: DeviceId
    incarnation: Incarnation
    seq: int
    one: EntryId
    other: EntryId


class EntryRow(msgspec.Struct, gc=False, kw_only=True):
    """One entry: its exact bytes, and what they say, opened.

    Attributes:
        n: Order of arrival here, from 1.
        body: Opened or sealed bytes as `state` says, or None.
        signature: Sealed, 80 bytes; None where a later entry of the chain vouches for this one.
        chain: `ChainRow.n`; 0 where the entry is not read, and then all below is empty.
        rank: Place in the view's order, ties broken by id (mlog/log/replica.py).
        mid: Identity of an imported message; None for one written in mlog.
        hidden: Another entry stands for the same message.
        edit: `n` of the entry whose text replaces this one's, or 0.
    """

    n: int
    log: int
    id: EntryId
    week: int
    outer: bytes
    signature: bytes | None
    body: bytes | None
    state: BodyState
    kind: int = 0
    chain: int = 0
    seq: int = 0
    time_ms: int = 0
    rank: int = 0
    mid: MessageId | None = None
    hidden: bool = False
    edit: int = 0

    @property
    def position(self) -> Position:
        return Position(self.rank, self.id)

    @property
    def message(self) -> MessageId:
        """How other entries name the message that this one says."""
        return self.mid or message_id(self.id)

    @property
    def is_retold(self) -> bool:
        """Its time and order are those of another chat."""
        return self.mid is not None or self.kind == Kind.IMPORT


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an entry stands, without its bytes; fields as in EntryRow.

    Attributes:
        retold: Its time and order are those of another chat.
    """

    n: int
    id: EntryId
    chain: int
    seq: int
    rank: int
    kind: int
    retold: bool


def crowds_among(counts: Mapping[MessageId, int], most: int) -> set[MessageId]:
    """As `Store.crowded`, of messages that so many entries say or name, which are too many together."""
    found: set[MessageId] = set()
    left = most
    for mid, count in counts.items():
        if count >= max(most // 8, 1) or count > left:
            found.add(mid)
        else:
            left -= count
    return found


def place_of(row: EntryRow) -> Place:
    """Where an entry stands."""
    return Place(row.n, row.id, row.chain, row.seq, row.rank, row.kind, row.is_retold)


class Position(msgspec.Struct, frozen=True, gc=False, order=True):
    """A place in a log's view; the same in every replica."""

    rank: int
    id: EntryId


class Reference(msgspec.Struct, frozen=True, gc=False):
    """The entry `n` names the message, or for an IMPORT the chat, `target`."""

    n: int
    log: int
    target: MessageId


class Digest(msgspec.Struct, frozen=True, gc=False):
    """A segment's digests: how many entries and bodies, and the hash over the ids of each."""

    week: int
    entries: int
    bodies: int
    entries_hash: bytes
    bodies_hash: bytes


class GapRow(msgspec.Struct, frozen=True, gc=False):
    """Something that should be here and is not.

    Attributes:
        id: The entry, where anything held names it; else empty.
        part: "entry", "body", "signature" or "index".
        chain: Its chain, or 0; `seq` counts then.
        since_ms: When it was noticed.
    """

    log: int
    id: bytes
    part: str
    reason: Reason
    chain: int
    seq: int
    time_ms: int
    since_ms: int
    detail: str


class Hit(msgspec.Struct, frozen=True, gc=False):
    """An entry whose words a search found, without its bytes; fields as in EntryRow."""

    n: int
    log: int
    id: EntryId
    mid: MessageId | None
    kind: int
    rank: int
    hidden: bool
    edit: int

    @property
    def message(self) -> MessageId:
        """The message that it says."""
        return self.mid or message_id(self.id)

    @property
    def position(self) -> Position:
        """Its place in the view."""
        return Position(self.rank, self.id)


class AuthorRow(msgspec.Struct, frozen=True, gc=False):
    """Somebody who says something in a log, as one chain names them.

    Attributes:
        src: Which IMPORT of the chain tells of the file.
        by, uid: What imported messages claim; "" of messages written in mlog.
        imported: Whether they are claims.
        messages: How many are shown, claimed between `first_ms` and `last_ms`.
    """

    log: int
    chain: int
    src: int
    by: str
    uid: str
    imported: bool
    messages: int
    first_ms: int
    last_ms: int


class TimelineQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries of a log that are read, in the order of the view.

    Attributes:
        after, before: Exclusive places.
        since_ms, until_ms: Claimed times, inclusive and exclusive.
        kinds: Only these; empty for all.
        newest_first: Direction, which also decides which ones `limit` keeps.
        hidden: Also entries for which another one stands.
        bodies: Else without them, and it costs the same however long these are.
        limit: At most STORE_ROWS_MAX.
    """

    log: int
    limit: int
    after: Position | None = None
    before: Position | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    kinds: frozenset[int] = SPOKEN
    newest_first: bool = False
    hidden: bool = False
    bodies: bool = True


class Store(PeerStore, Protocol):
    """Rows of one home. Raises StoreError when the disk fails, Busy when another process writes."""

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside become durable together at its end, or none does."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """All reads inside see one state."""
        ...

    def data_version(self) -> int:
        """A number that differs once another process has written; asking is cheap."""
        ...

    # -- logs, keys, chains ------------------------------------------------------------------

    def logs(self) -> list[LogRow]: ...
    def add_log(self, row: LogRow) -> None: ...
    def set_title(self, log: int, title: str) -> None: ...
    def epochs(self, log: int) -> list[EpochRow]: ...
    def add_epoch(self, row: EpochRow) -> None: ...
    def remove_epoch(self, row: EpochRow) -> None: ...
    def devices(self) -> list[DeviceRow]: ...
    def put_device(self, row: DeviceRow) -> None: ...
    def chains(self, log: int) -> list[ChainRow]: ...
    def find_chains(
        self, log: int, of: Collection[tuple[DeviceId, Incarnation]], limit: int
    ) -> list[ChainRow]:
        """The chains of these devices and incarnations, of each at most `limit` branches, the first first."""
        ...

    def chain_rows(self, ns: Collection[int]) -> list[ChainRow]: ...
    def forks(self, log: int) -> list[ForkRow]:
        """By device and incarnation."""
        ...

    def put_fork(self, row: ForkRow) -> None:
        """One row for each device and incarnation."""
        ...

    def put_chain(self, row: ChainRow) -> None: ...
    def next_chain(self) -> int: ...
    def count_chains(self, log: int) -> tuple[int, int]:
        """How many chains, and how many runs, a log has."""
        ...

    def set_window(self, log: int, days: int, *, fetch_bodies: bool) -> None: ...
    def window_of_new(self) -> tuple[int, bool]:
        """The window of conversations that are not here yet, in days, and whether they want bodies."""
        ...

    def set_window_of_new(self, days: int, *, fetch_bodies: bool) -> None: ...
    def runs(self, log: int) -> list[RunRow]:
        """All runs of a log, by chain and `first`."""
        ...

    def runs_near(self, chain: int, first: int, last: int) -> list[RunRow]:
        """The runs of a chain that touch `first` to `last` or overlap it, by `first`."""
        ...

    def put_run(self, row: RunRow) -> None: ...
    def remove_run(self, chain: int, first: int) -> None: ...
    def heads(self, log: int, limit: int = -1) -> list[EntryId]:
        """By id; all of them where `limit` is negative."""
        ...

    def change_heads(self, log: int, add: Collection[EntryId], remove: Collection[EntryId]) -> None: ...

    def cached(self, name: str) -> bytes | None:
        """Something that was worked out of the entries, and can be again."""
        ...

    def put_cached(self, name: str, value: bytes | None) -> None:
        """Keep it, or with None forget it."""
        ...

    # -- entries -----------------------------------------------------------------------------

    def next_n(self) -> int: ...
    def logs_behind(self, n: int) -> set[int]:
        """The logs that have entries with a higher number; costs as much as there are of these."""
        ...

    def insert(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        """Add entries, the parents that they name, references, and search words.

        Among the parents is `prev` only where it does not stand right before in the same chain.
        """
        ...

    def update(
        self,
        rows: Sequence[EntryRow],
        parents: Iterable[tuple[int, EntryId]],
        references: Iterable[Reference],
        words: Iterable[tuple[int, str]],
    ) -> None:
        """Put these rows in the place of those with the same `n`, and add the rest as `insert`."""
        ...

    def find(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, EntryRow]: ...
    def rows(
        self, ns: Collection[int], *, bodies: bool = True, room: int | None = None
    ) -> dict[int, EntryRow]:
        """By number, in this order; without bodies it costs the same however long these are.

        Args:
            room: Stop behind the one with which outer bytes and bodies are so many.
        """
        ...

    def at(self, chain: int, seq: int) -> EntryRow | None: ...
    def bodies(self, ns: Collection[int]) -> dict[int, bytes]:
        """The bodies of these entries that are here, opened or sealed."""
        ...

    def by_mid(
        self, log: int, mids: Collection[MessageId], *, bodies: bool = True
    ) -> dict[MessageId, list[EntryRow]]:
        """The entries that say these messages, by number; bodies as for `rows`."""
        ...

    def by_prefix(self, log: int | None, prefix: bytes, mask: int, limit: int) -> list[EntryRow]:
        """Entries whose id or mid starts with these bytes; of the last one only the bits in mask.

        Oldest arrivals first; `prefix` has a byte at least.
        """
        ...

    def places(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, Place]:
        """As `find`, without the bytes."""
        ...

    def places_at(self, at: Collection[tuple[int, int]]) -> dict[tuple[int, int], Place]:
        """The entries at these chains and sequence numbers."""
        ...

    def children(self, log: int, ids: Collection[EntryId], limit: int = -1) -> dict[EntryId, list[Place]]:
        """Entries that name these among their parents; the next in their chains are not asked for.

        Args:
            limit: How many in all, if not negative.
        """
        ...

    def children_behind(self, log: int, id_: EntryId, after_n: int, limit: int) -> list[Place]:
        """As `children`, by number, behind one."""
        ...

    def parents(self, ns: Collection[int]) -> dict[int, list[EntryId]]: ...
    def references(self, ns: Collection[int]) -> dict[int, list[MessageId]]: ...

    def references_to(
        self, log: int | None, targets: Collection[MessageId], kinds: frozenset[int] = frozenset()
    ) -> list[Reference]:
        """What names these messages, of these kinds; empty for all."""
        ...

    def crowded(self, mids: Collection[MessageId], most: int) -> set[MessageId]:
        """None, where fewer than so many entries say these messages, and fewer name them. Else those that an
        eighth of that do alone, and those at which it is more in all; costs little in either case."""
        ...

    def said_behind(
        self, log: int, mid: MessageId, after_n: int, limit: int, *, room: int | None = None
    ) -> list[EntryRow]:
        """The entries that say a message, by number, behind one; `room` as for `rows`."""
        ...

    def changes_behind(
        self, log: int, mid: MessageId, kinds: frozenset[int], after_n: int, limit: int
    ) -> list[EntryRow]:
        """The entries of these kinds that name a message, by number, behind one; without their bodies."""
        ...

    def retold(self, log: int, mids: Collection[MessageId]) -> set[MessageId]:
        """Those of these messages that an imported entry says."""
        ...

    def said_once(self, log: int, mids: Collection[MessageId]) -> set[MessageId]:
        """Those of these messages that exactly one entry says."""
        ...

    def changers(
        self, log: int, targets: Collection[MessageId], kinds: frozenset[int]
    ) -> dict[MessageId, set[int]]:
        """The chains of the entries of these kinds that name these messages."""
        ...

    def set_ranks(self, ranks: Collection[tuple[int, int]]) -> None:
        """New ranks of entries by `n`."""
        ...

    def set_hidden(self, n: int, hidden: bool) -> None: ...
    def set_edit(self, n: int, edit: int) -> None: ...

    def erase_body(self, n: int, words: str | None, state: Forgotten = BodyState.ERASED) -> None:
        """Forget a body, what it refers to, and the search words it was indexed under.

        What the file keeps of them all the same is overwritten by `scrub`.
        """
        ...

    def remove(self, rows: Sequence[EntryRow], words: Iterable[tuple[int, str]]) -> None:
        """Take entries out, with all that `insert` added with them.

        Args:
            words: What the search index holds of them; it takes away what it is told.
        """
        ...

    def timeline(self, query: TimelineQuery) -> list[EntryRow]: ...
    def scan(self, chain: int, after_seq: int, limit: int, *, room: int | None = None) -> list[EntryRow]:
        """Entries of a chain by `seq`; `room` as for `rows`."""
        ...

    def chain_kind(self, chain: int, kind: int) -> list[EntryRow]:
        """The entries of a kind in a chain, by `seq`; of more than STORE_ROWS_MAX the last ones."""
        ...

    def places_of_kinds(self, log: int, kinds: frozenset[int]) -> list[Place]:
        """Where all entries of these kinds, each below 16, stand that are read; in any order."""
        ...

    def carried(self, log: int, week: int, after_n: int, limit: int) -> list[tuple[int, EntryId]]:
        """What a window that begins with a week carries along from before it (mlog/log/scope.py), by number,
        behind one; at most SEGMENT_SLICE_IDS."""
        ...

    def scan_unopened(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        """Entries that are kept and not read, in the order in which they came."""
        ...

    def scan_closed(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        """Entries that are read, but for their bodies, which are closed to this device."""
        ...

    def scan_expired(self, log: int, after_n: int, limit: int) -> list[EntryRow]:
        """Entries whose bodies expired."""
        ...

    def count_closed(self, log: int) -> int:
        """How many bodies are closed to this device."""
        ...

    def states(self, log: int, ids: Collection[EntryId]) -> dict[EntryId, BodyState]:
        """In which form the bodies of these entries are here; of those that are not, nothing."""
        ...

    def unfetched(self, log: int, limit: int, without: frozenset[int] = frozenset()) -> list[EntryId]:
        """Entries whose body is not here yet, but for some kinds, the newest arrivals first."""
        ...

    def count(self, log: int, kinds: frozenset[int]) -> int: ...
    def logs_with(self, kind: int) -> set[int]:
        """The logs that have an entry of a kind below 16 that is read."""
        ...

    def count_spoken(self, chain: int, after_seq: int) -> int:
        """How many messages of a chain from behind a number on are shown."""
        ...

    def authors(self) -> list[AuthorRow]:
        """Who says something, in all logs; messages whose text is not here do not count."""
        ...

    def search(self, words: str, log: int | None, limit: int, before_n: int | None = None) -> list[int]:
        """`n` of the newest stored entries that match an FTS5 expression, of those that came before one."""
        ...

    def hits(self, ns: Collection[int]) -> list[Hit]:
        """Of these entries, what it takes to choose and order them; fast, for no bytes are read."""
        ...

    def opened(self, kinds: frozenset[int], after_n: int, limit: int) -> list[tuple[int, int, bytes | None]]:
        """Number, kind and body of entries of these kinds that are kept opened, by number; None if lost."""
        ...

    def holds_words(self, words: Iterable[tuple[int, str | None]], *, thorough: bool = False) -> bool:
        """Whether the search index holds exactly these words; with None, what it has there is right.

        Args:
            thorough: Look each word up by itself too, which takes longer and finds the rarest damage.
        """
        ...

    def replace_words(self, words: Iterable[tuple[int, str]]) -> None:
        """Make the search index anew of these words; it is no longer distrusted.

        As after an erasure, `scrub` overwrites what the file keeps of the old ones.
        """
        ...

    def distrust_words(self) -> None:
        """Record that the search index holds words which should be gone: it has to be made anew."""
        ...

    def words_distrusted(self) -> bool: ...

    def absent(self, log: int, limit: int) -> list[tuple[EntryId, int]]:
        """Entries that are named and not here, by id, each with `n` of one that names it; not pruned ones."""
        ...

    def pruned_parents(self, log: int, limit: int) -> list[tuple[EntryId, int]]:
        """As `absent`, of those that were dropped here on purpose; `remove_pruned` makes them absent."""
        ...

    def add_pruned_parents(self, log: int, add: Collection[tuple[EntryId, int]]) -> None: ...

    def change_absent(
        self, log: int, add: Collection[tuple[EntryId, int]], remove: Collection[EntryId]
    ) -> None: ...
    def unsettled(self, log: int, task: Task, limit: int) -> list[tuple[int, int]]:
        """What is left to do, by number: the task says what the two numbers are."""
        ...

    def change_unsettled(
        self, log: int, task: Task, add: Collection[tuple[int, int]], remove: Collection[int]
    ) -> None:
        """Remove these, then add those; of two with the same first number the greater second holds."""
        ...

    def arrivals(self, log: int, after_n: int, limit: int, *, room: int | None = None) -> list[EntryRow]:
        """Entries of a log in the order in which they came here; `room` as for `rows`."""
        ...

    def week_arrivals(
        self, log: int, week: int, after_n: int, limit: int, *, room: int | None = None
    ) -> list[EntryRow]:
        """Entries of a segment in the order in which they came here; `room` as for `rows`."""
        ...

    def first_seqs(self, log: int, week: int) -> dict[int, int]:
        """For each chain with an entry of this week or a later one, the lowest `seq` of such an entry.

        Looks at all entries of those weeks; not bounded by STORE_ROWS_MAX.
        """
        ...

    # -- segments and gaps -------------------------------------------------------------------

    def digests(self, log: int) -> list[Digest]:
        """Those that are up to date, by week."""
        ...

    def stale_weeks(self, log: int) -> list[int]: ...
    def segment(self, log: int, week: int) -> Iterator[tuple[EntryId, bool]]:
        """Ids of a segment, ascending, and whether the body is held; corrupt ones left out.

        Not bounded by STORE_ROWS_MAX: the store yields them one by one, and puts all in order before.
        """
        ...

    def segment_page(self, log: int, week: int, after_n: int, limit: int) -> list[tuple[int, EntryId, bool]]:
        """The same in the order of arrival, with the numbers, behind one of these; at most
        SEGMENT_SLICE_IDS."""
        ...

    def segment_stamp(self, log: int, week: int) -> tuple[int, int]:
        """Another one once a segment has changed; sometimes also where it has not."""
        ...

    def put_digest(self, log: int, digest: Digest) -> None: ...
    def gaps(self, log: int | None) -> list[GapRow]: ...
    def find_gaps(self, log: int, ids: Collection[bytes]) -> list[GapRow]:
        """The gaps of these entries; b"" finds those that name none."""
        ...

    def change_gaps(
        self, log: int, add: Sequence[GapRow], remove: Collection[tuple[bytes, str, int, int]]
    ) -> None:
        """Remove the gaps with these `id`, `part`, `chain` and `seq`, then add; at most GAPS_MAX are kept."""
        ...

    def replace_gaps(self, log: int, gaps: Sequence[GapRow]) -> None: ...
