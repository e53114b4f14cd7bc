"""Messages of an import that are here already from elsewhere: the same chat by another program or person.

Two exports of one chat by different programs share no ids. What a message of an import is, is decided once,
while it is imported: if it is surely one that is here, it takes that one's message id, and so folds with
it like any message that two people imported (docs/protocol.md, 6.3). It is sure where

- the author is the same: one person (mlog/log/identities.py), else the same name or uid,
- the text is the same, whatever the Unicode form and blanks,
- the time is the same as exactly as both give it: to the minute where one gives no seconds, else to a second,
- as many messages of which all this is true are in the import as are here; these are paired in order.

What is alike and less sure is kept beside the other, and listed with the reason: nothing is guessed. Only
messages that are not known by their own id are looked at, and never against others of the same import.
Messages are compared in a window of the file; of the log, each week is read when the file comes to it
(mlog/api/weeks.py). docs/decisions/0019-who-is-who.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from mlog import limits
from mlog.api.weeks import (
    Exactness,
    Here,
    Weeks,
    Who,
    comparable,
    exactness,
    kind_said,
    same_author,
    words_key,
)
from mlog.formats.identity import SpillingMap
from mlog.formats.record import Record
from mlog.log import bodies
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.identities import FAMILIES, identity_of
from mlog.log.ids import MessageId
from mlog.log.replica import Replica
from mlog.log.store import TimelineQuery
from mlog.log.stored import readable_body

__all__ = ["Matched", "Matcher", "Reason", "Run", "Unsure", "is_compared"]

Reason: TypeAlias = Literal["name", "several", "time", "zone", "edited", "busy"]

BY_WORDS: Final = frozenset({"irc", "whatsapp", "signal", "meta"})
"""Programs whose exports have no ids: two of one chat may tell of a message in different words."""

_MINUTE_MS: Final = 60_000
_SECOND_MS: Final = 1_000
_QUARTER_MS: Final = 15 * _MINUTE_MS
"""Time zones differ by multiples of this."""

_SHIFT_MAX_MS: Final = 14 * 60 * _MINUTE_MS
"""Most that a time zone differs from UTC."""

_STEP: Final = 250
"""Records that are decided at once; as many before and behind them are looked at for others alike."""

_ALIKE_MAX: Final = 50
"""Messages of one text at one time that are looked at; with more there is no telling which is which."""

_TELLING_LENGTH: Final = 12
"""Characters of a text that, by another author at the same time, is hardly said by chance."""

_EDITED_RATIO: Final = 0.6
_EDITED_LENGTH: Final = 1_000
"""How alike the beginnings of two texts are of which one is perhaps an edit of the other."""


class Unsure(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is perhaps one that is here, and was kept beside it.

    Attributes:
        position: In the file.
        reason: "name": the author has another name here. "several": several are alike, here or in the
            file. "time": too few messages show whether a minute is all that is known. "zone": the same was
            said `minutes` earlier or later. "edited": the text differs a little. "busy": the week
            has too many messages to compare.
        name, here: The author as the file names them, and as the message that is here does.
        minutes: By how much later, for "zone".
    """

    position: int
    reason: Reason
    name: str = ""
    here: str = ""
    minutes: int = 0


class Matched(NamedTuple):
    """A record on its way into the log.

    Attributes:
        record: With the id of the message that it surely is, else its own.
        src: Where it came from, as it was told.
        same: It surely is one that is here.
        here: Another person told of that one already, and nothing need be written.
        unsure: It is alike to one that is here, and kept beside it.
    """

    record: Record
    src: int = 0
    same: bool = False
    here: bool = False
    unsure: Unsure | None = None


class _Told(msgspec.Struct, frozen=True, gc=False):
    """A record as others are compared with it."""

    mid: MessageId
    position: int
    time_ms: int
    kind: int
    who: Who
    key: bytes
    text_hash: int
    length: int


class Run:
    """What the chats of one import have in common: where its messages went, and what was here before."""

    def __init__(self, replica: Replica) -> None:
        self.moved = SpillingMap()
        self.weeks = Weeks(replica)


class Matcher:
    """Goes through an import beside the conversation that it goes to.

    Args:
        log: The conversation.
        source: Format and key of the chat that is imported.
    """

    def __init__(self, replica: Replica, log: int, source: tuple[str, str], run: Run) -> None:
        self._store = replica.store
        self._log = log
        self._format: str
        self._chat: str
        self._format, self._chat = source
        self._weeks = run.weeks
        self._moved = run.moved
        self._timed = self._exact = 0
        self._before: list[tuple[MessageId, _Told | None]] = []
        self._ready: list[tuple[Record, int, _Told | None]] = []
        self._fresh: list[tuple[Record, int]] = []
        self.size = 0

    @property
    def waiting(self) -> int:
        """Records that are not decided yet; `size` tells how many bytes they have."""
        return len(self._ready) + len(self._fresh)

    def take(self, record: Record, src: int) -> Iterable[Matched]:
        """Take the next record; gives those that are decided, in order."""
        self._fresh.append((record, src))
        self.size += _size_of(record)
        if self.size > limits.IMPORT_BATCH_SIZE_BYTES:
            # Little is held, whatever follows.
            return self.rest()
        return self._step() if len(self._fresh) >= _STEP else ()

    def come_from(self, source: tuple[str, str]) -> Iterator[Matched]:
        """What follows was first imported from there; gives what came from elsewhere before."""
        if source != (self._format, self._chat):
            yield from self.rest()
            self._format, self._chat = source
            self._timed = self._exact = 0

    def rest(self) -> Iterator[Matched]:
        """Those that are left."""
        self._look()
        yield from self._decide(len(self._ready))

    def _step(self) -> Iterator[Matched]:
        self._look()
        yield from self._decide(len(self._ready) - _STEP)

    def _look(self) -> None:
        """Find out which of the new records are known by their id."""
        known = self._store.retold(self._log, {record.mid for record, _ in self._fresh})
        for record, src in self._fresh:
            if record.time_ms:
                self._timed += 1
                self._exact += bool(record.time_ms % _MINUTE_MS)
            told = None if record.mid in known else self._told(record)
            self._ready.append((record, src, told))
        self._fresh = []

    def _told(self, record: Record) -> _Told | None:
        """What is compared of a record; None where there is nothing to compare."""
        if not _is_said(record) or not self._weeks.any_near(self._log, record.time_ms, _SHIFT_MAX_MS):
            return None
        return _Told(
            mid=record.mid,
            position=record.position,
            time_ms=record.time_ms,
            kind=kind_said(record.kind),
            who=self._weeks.who(identity_of(self._format, record.uid, record.author), record.author),
            key=words_key(record.text),
            text_hash=hash(record.text),
            length=len(record.text),
        )

    def _decide(self, count: int) -> Iterator[Matched]:
        if count <= 0:
            return
        near = [*self._before, *((record.mid, told) for record, _, told in self._ready)]
        deciding, self._ready = self._ready[:count], self._ready[count:]
        self._before = [(record.mid, told) for record, _, told in deciding[-_STEP:]]
        self.size = sum(_size_of(record) for record, _, _ in self._ready)
        own = {mid for mid, _ in near}
        rivals: dict[bytes, list[_Told]] = {}
        for _, told in near:
            if told is not None:
                rivals.setdefault(told.key, []).append(told)
        for record, src, told in deciding:
            matched = Matched(record) if told is None else self._match(record, told, rivals, own)
            answers = self._with_answers(matched.record) if record.to else matched.record
            yield matched._replace(record=answers, src=src)

    # -- one message -------------------------------------------------------------------------

    def _match(
        self, record: Record, told: _Told, rivals: dict[bytes, list[_Told]], own: set[MessageId]
    ) -> Matched:
        """Decide one record.

        Args:
            rivals: Those near it in the file, itself included, by their text.
            own: Ids of all that are near it in the file: what has one of these has its partner there.
        """
        if self._weeks.is_busy(self._log, told.time_ms):
            return self._unsure(record, "busy")
        at_once = self._weeks.alike(self._log, told.key, told.time_ms, _MINUTE_MS, _ALIKE_MAX)
        if len(at_once) > _ALIKE_MAX:
            return self._unsure(record, "several")
        times = [(one, self._same_time(told, one)) for one in self._others(told, at_once, own)]
        same = [one for one, is_same in times if is_same and _same_but_time(told, one)]
        if same:
            chosen = self._pair(told, same, rivals[told.key])
            if chosen is None or self._moved.get(chosen.mid, -self._log) is not None:
                return self._unsure(record, "several", same[0])
            self._moved.put(chosen.mid, chosen.n, -self._log)
            self._moved.put(record.mid, chosen.n, self._log)
            if not chosen.own and not record.files:
                return Matched(record, same=True, here=True)
            return Matched(msgspec.structs.replace(record, mid=chosen.mid), same=True)
        perhaps = [one for one, is_same in times if is_same is not False]
        for one in perhaps:
            if _same_but_time(told, one):
                return self._unsure(record, "time", one)
        if told.length < _TELLING_LENGTH:
            return Matched(record)
        if perhaps:
            return self._unsure(record, "name", perhaps[0])
        return self._shifted(record, told, own) or self._edited(record, told, rivals, own)

    def _pair(self, told: _Told, same: Sequence[Here], rivals: Sequence[_Told]) -> Here | None:
        """The one of these that a record is, if as many are here as in the file: by second, else in all."""
        second = told.time_ms // _SECOND_MS
        alike = [one for one in rivals if one.kind == told.kind and same_author(one.who, told.who)]
        by_second = (
            [one for one in same if one.time_ms // _SECOND_MS == second],
            [one for one in alike if one.time_ms // _SECOND_MS == second],
        )
        in_all = (same, [one for one in alike if any(self._same_time(one, here) for here in same)])
        to_a_minute = "minute" in {self._exactness(told), *map(self._weeks.exactness_of, same)}
        in_all[1].sort(key=lambda one: one.time_ms)
        for here, there in (in_all,) if to_a_minute else (by_second, in_all):
            if len(here) == len(there):
                return here[there.index(told)]
        return None

    def _others(self, told: _Told, alike: Sequence[Here], own: set[MessageId]) -> list[Here]:
        """Those that are not known to be another message than this one."""
        return [one for one in alike if one.mid not in own and not self._is_other(told, one)]

    def _is_other(self, told: _Told, one: Here) -> bool:
        """Whether the program itself tells two messages apart: both are of the same chat, under two ids."""
        if one.source != (FAMILIES.get(self._format, self._format), self._chat):
            return False
        if one.source[0] not in BY_WORDS:
            return True
        # The ids of these follow from what is compared here, and from the count of what is equal.
        is_equal = (one.time_ms, one.text_hash, one.kind) == (told.time_ms, told.text_hash, told.kind)
        return is_equal and one.who.label == told.who.label

    def _same_time(self, told: _Told, one: Here) -> bool | None:
        """Whether two times may be the same; None where it is not known how exact they are."""
        exact = self._exactness(told), self._weeks.exactness_of(one)
        is_minute = told.time_ms // _MINUTE_MS == one.time_ms // _MINUTE_MS
        if "minute" in exact:
            return is_minute
        if abs(told.time_ms - one.time_ms) <= _SECOND_MS:
            return True
        return None if is_minute and "unknown" in exact else False

    def _exactness(self, told: _Told) -> Exactness:
        return exactness(told.time_ms, self._timed, self._exact)

    # -- what is alike and not sure ----------------------------------------------------------

    def _shifted(self, record: Record, told: _Told, own: set[MessageId]) -> Matched | None:
        """The same by the same author, earlier or later by what may be a time zone."""
        alike = self._weeks.alike(self._log, told.key, told.time_ms, _SHIFT_MAX_MS + _MINUTE_MS, _ALIKE_MAX)
        for one in self._others(told, alike, own):
            quarters = round((told.time_ms - one.time_ms) / _QUARTER_MS)
            if quarters and _same_but_time(told, one):
                moved = msgspec.structs.replace(told, time_ms=told.time_ms - quarters * _QUARTER_MS)
                if self._same_time(moved, one):
                    return self._unsure(record, "zone", one, minutes=quarters * 15)
        return None

    def _edited(
        self, record: Record, told: _Told, rivals: dict[bytes, list[_Told]], own: set[MessageId]
    ) -> Matched:
        """Nearly the same by the same author in the same second."""
        if told.time_ms % _MINUTE_MS == 0:
            return Matched(record)
        for one in self._others(told, self._weeks.in_second(self._log, told.time_ms, _ALIKE_MAX), own):
            if one.key not in rivals and _same_but_time(told, one):
                row = self._store.rows([one.n]).get(one.n)
                body = readable_body(row.kind, row.body) if row is not None else None
                if isinstance(body, bodies.Text) and _is_like(body.text, record.text):
                    return self._unsure(record, "edited", one)
        return Matched(record)

    def _unsure(
        self, record: Record, reason: Reason, one: Here | None = None, *, minutes: int = 0
    ) -> Matched:
        identity = identity_of(self._format, record.uid, record.author)
        unsure = Unsure(
            position=record.position,
            reason=reason,
            name=str(identity),
            here=one.who.label if one is not None else "",
            minutes=minutes,
        )
        return Matched(record, unsure=unsure)

    def _with_answers(self, record: Record) -> Record:
        """The record, with what it answers or changes by the ids that these messages have here."""
        moved = [self._moved.get(target, self._log) for target in record.to]
        rows = self._store.rows([n for n in moved if n is not None]) if any(moved) else {}
        if not rows:
            return record
        to = tuple(
            rows[n].message if n is not None and n in rows else target
            for n, target in zip(moved, record.to, strict=True)
        )
        return msgspec.structs.replace(record, to=to)


def is_compared(replica: Replica, log: int, source: tuple[str, str]) -> bool:
    """Whether a conversation may have messages of a chat under other ids than its export gives."""
    if not replica.store.timeline(TimelineQuery(log=log, limit=1)):
        return False
    family = FAMILIES.get(source[0], source[0])
    if family in BY_WORDS:
        return True
    # A program that gives ids tells its own messages apart: look for what came from elsewhere.
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({Kind.IMPORT}), hidden=True)
    for row in replica.store.timeline(query):
        body = readable_body(row.kind, row.body)
        if isinstance(body, bodies.Import) and (
            (FAMILIES.get(body.format, body.format), body.chat) != (family, source[1])
        ):
            return True
    return False


def _size_of(record: Record) -> int:
    return len(record.text) + (sum(len(file.data or b"") for file in record.files) if record.files else 0)


def _is_said(record: Record) -> bool:
    return record.kind in SPOKEN and bool(record.time_ms) and not record.erased and comparable(record.text)


def _same_but_time(told: _Told, one: Here) -> bool:
    return told.kind == one.kind and same_author(told.who, one.who)


def _is_like(one: str, other: str) -> bool:
    matcher = SequenceMatcher(None, one[:_EDITED_LENGTH], other[:_EDITED_LENGTH], autojunk=False)
    return matcher.quick_ratio() >= _EDITED_RATIO and matcher.ratio() >= _EDITED_RATIO
