"""Weeks: what was said in a conversation, by text and by time, to compare an import with it.

Each week of the log is read when the import comes to it, and kept while there is room (COMPARED_MAX
messages). Of each message only what it takes to compare is held. Authors are compared as people, where
the owner said who is who (mlog/log/identities.py), else by name or uid.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
from blake3 import blake3

from mlog import limits
from mlog.api.identities import Authors, who_is_who
from mlog.log import bodies
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.identities import Identity, folded_name
from mlog.log.ids import MessageId, week_of, week_start_ms
from mlog.log.replica import Replica
from mlog.log.store import EntryRow
from mlog.log.stored import readable_body
from mlog.log.view import Names, View

__all__ = [
    "Exactness",
    "Here",
    "Weeks",
    "Who",
    "comparable",
    "exactness",
    "kind_said",
    "same_author",
    "words_key",
]

Exactness: TypeAlias = Literal["second", "minute", "unknown"]

_MINUTE_MS: Final = 60_000
_SECOND_MS: Final = 1_000
_WEEK_MS: Final = 7 * 86_400_000
_AUTHORS_KEPT: Final = 4_096
_EVIDENCE: Final = 3
"""Times on full minutes, and no other, that show that seconds are not given: chance is one in 216,000."""

_SAMPLE: Final = 100
"""Entries of a chain around a message that show whether its file gives seconds."""


class Who(NamedTuple):
    """An author as others are compared with.

    Attributes:
        person: The name that the owner of this home gave, or "".
        known_as: Name and uid, for comparing.
        label: The identity, as people type it.
    """

    person: str
    known_as: frozenset[str]
    label: str


class Here(msgspec.Struct, frozen=True, gc=False):
    """A message of the log that may be one of an import's.

    Attributes:
        source: Format and chat that it came from.
        own: A device of this person wrote it.
    """

    n: int
    mid: MessageId
    time_ms: int
    kind: int
    who: Who
    key: bytes
    text_hash: int
    chain: int
    src: int
    source: tuple[str, str]
    own: bool


class _Week(msgspec.Struct):
    """What was said in a week: in the order of time, and by its text."""

    said: list[Here]
    by_words: dict[bytes, list[Here]]
    is_busy: bool = False


class Weeks:
    """What was said in conversations until now: what comes later is not looked at."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._store = replica.store
        self._authors = Authors(View(replica, Names(replica)))
        self._known = who_is_who(replica)
        self._first_n = self._store.next_n()
        self._weeks: dict[tuple[int, int], _Week] = {}
        self._who: dict[tuple[Identity, str], Who] = {}
        self._exactness: dict[tuple[int, int], tuple[int, int]] = {}
        self._held = 0
        # In which log, and between which times, nothing was said.
        self._quiet = 0, 0, 0

    def who(self, identity: Identity, name: str) -> Who:
        """An author, by identity and the name in the file."""
        found = self._who.get((identity, name))
        if found is None:
            person = self._known.name_of(identity)
            known_as = {folded_name(text) for text in (identity.uid, name, person)} - {""}
            found = self._who[identity, name] = Who(person, frozenset(known_as), str(identity))
            if len(self._who) > _AUTHORS_KEPT:
                del self._who[next(iter(self._who))]
        return found

    def any_near(self, log: int, time_ms: int, within_ms: int) -> bool:
        """Whether there may be anything to compare with."""
        in_log, from_ms, to_ms = self._quiet
        if in_log == log and from_ms <= time_ms < to_ms:
            return False
        numbers = _weeks(time_ms, within_ms)
        weeks = [self._week(log, number) for number in numbers]
        if any(week.said or week.is_busy for week in weeks):
            return True
        if len(numbers) == 1:
            start_ms = week_start_ms(numbers[0])
            self._quiet = log, start_ms + within_ms, start_ms + _WEEK_MS - within_ms
        return False

    def is_busy(self, log: int, time_ms: int) -> bool:
        """Whether a week has more messages than are compared."""
        return self._week(log, week_of(time_ms)).is_busy

    def alike(self, log: int, key: bytes, time_ms: int, within_ms: int, most: int) -> list[Here]:
        """What was said in these words at most so long before or after; of many one more than `most`."""
        found: list[Here] = []
        for week in _weeks(time_ms, within_ms):
            same = self._week(log, week).by_words.get(key, [])
            first = bisect_left(same, time_ms - within_ms, key=_time_of)
            last = bisect_right(same, time_ms + within_ms, key=_time_of)
            found += same[first : min(last, first + most + 1 - len(found))]
        return found

    def in_second(self, log: int, time_ms: int, most: int) -> list[Here]:
        """What was said in one second, in whatever words."""
        second = time_ms - time_ms % _SECOND_MS
        said = self._week(log, week_of(time_ms)).said
        first = bisect_left(said, second, key=_time_of)
        return [one for one in islice(said, first, first + most) if one.time_ms < second + _SECOND_MS]

    def exactness_of(self, one: Here) -> Exactness:
        """How exactly the file that a message came from gives times."""
        if one.source[0] == "mlog" or one.time_ms % _MINUTE_MS:
            return "second"
        of = (one.chain, one.src)
        if of not in self._exactness:
            self._exactness[of] = self._sample(one)
        return exactness(one.time_ms, *self._exactness[of])

    def _sample(self, one: Here) -> tuple[int, int]:
        """How many of the messages around it have a time, and how many one with seconds."""
        row = self._store.rows([one.n]).get(one.n)
        if row is None:
            return 0, 0
        times = [
            near.time_ms
            for near in self._store.scan(row.chain, max(-1, row.seq - _SAMPLE), 2 * _SAMPLE)
            if near.kind in SPOKEN
            and isinstance(body := readable_body(near.kind, near.body), bodies.Text)
            and body.src == one.src
            and near.time_ms
        ]
        return len(times), sum(bool(time_ms % _MINUTE_MS) for time_ms in times)

    def _week(self, log: int, week: int) -> _Week:
        found = self._weeks.pop((log, week), None)
        if found is None:
            found = self._read(log, week)
            self._held += len(found.said) + 1
        self._weeks[log, week] = found
        while self._held > limits.COMPARED_MAX and len(self._weeks) > 1:
            oldest = self._weeks.pop(next(iter(self._weeks)))
            self._held -= len(oldest.said) + 1
        return found

    def _read(self, log: int, week: int) -> _Week:
        said: list[Here] = []
        after_n = 0
        while rows := self._store.week_arrivals(log, week, after_n, limits.STORE_ROWS_MAX):
            after_n = rows[-1].n
            own = self._own_chains(log, {row.chain for row in rows})
            said += [one for row in rows if (one := self._here(row, own)) is not None]
            if len(said) > limits.COMPARED_MAX:
                return _Week([], {}, is_busy=True)
        said.sort(key=lambda one: (one.time_ms, one.n))
        by_words: dict[bytes, list[Here]] = {}
        for one in said:
            by_words.setdefault(one.key, []).append(one)
        return _Week(said, by_words)

    def _own_chains(self, log: int, chains: set[int]) -> set[int]:
        me = self._replica.people.stand_in(self._replica.device_id)
        authors = self._replica.authors(log, chains)
        return {chain for chain in chains if authors.get(chain) == me}

    def _here(self, row: EntryRow, own: set[int]) -> Here | None:
        if row.kind not in SPOKEN or not row.chain or row.hidden or not row.time_ms or row.n >= self._first_n:
            return None
        body = readable_body(row.kind, row.body)
        if not isinstance(body, bodies.Text) or not comparable(body.text):
            return None
        source = self._authors.source_of(row, body)
        return Here(
            n=row.n,
            mid=row.message,
            time_ms=row.time_ms,
            kind=kind_said(row.kind),
            who=self.who(*self._authors.of_row(row, body)),
            key=words_key(body.text),
            text_hash=hash(body.text),
            chain=row.chain,
            src=body.src,
            source=source,
            own=row.chain in own,
        )


def exactness(time_ms: int, timed: int, exact: int) -> Exactness:
    """How exact a time is.

    Args:
        timed: Messages of the same file that have a time.
        exact: Those of them whose time has seconds.
    """
    if time_ms % _MINUTE_MS or exact:
        return "second"
    return "minute" if timed >= _EVIDENCE else "unknown"


def same_author(one: Who, other: Who) -> bool:
    """Whether two claims are of one person: the owner said so, or said nothing and they are called alike."""
    if one.person and other.person:
        return one.person == other.person
    return not one.known_as.isdisjoint(other.known_as)


def kind_said(kind: int) -> int:
    """A kind for comparing: whether a message is a reply is not known to every program."""
    return Kind.MESSAGE if kind == Kind.REPLY else kind


def comparable(text: str) -> bool:
    """Whether a text says anything."""
    return bool(text) and not text.isspace()


def words_key(text: str) -> bytes:
    """Of a text without what programs change in it: Unicode form, blanks, invisible marks of direction."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        if not text.isprintable():
            text = "".join(char for char in text if unicodedata.category(char) != "Cf")
    return blake3(" ".join(text.split()).encode("utf-8", "surrogatepass")).digest(length=16)


def _weeks(time_ms: int, within_ms: int) -> list[int]:
    return sorted({week_of(max(0, time_ms - within_ms)), week_of(time_ms), week_of(time_ms + within_ms)})


def _time_of(one: Here) -> int:
    return one.time_ms
