"""Exchange: what the two ends of an established session say to each other, message by message.

The table at the end says which messages are taken, and by whom; every other closes the session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, ProtocolViolation
from mlog.log import grants, missing
from mlog.log.entry import Sealed, from_tail, to_tail
from mlog.log.ids import EntryId, Topic
from mlog.log.parting import is_told_by, partings, take_parting, told
from mlog.log.store import LogKind, LogRow
from mlog.plurals import counted
from mlog.protocol import wire
from mlog.protocol.answering import Follower
from mlog.protocol.comparing import Inspect, Leader
from mlog.protocol.events import Ask, Paged
from mlog.protocol.keeping import Keeper
from mlog.protocol.link import Job, Link
from mlog.protocol.query import Pager, serve_query
from mlog.protocol.sending import Sender, Stream, by_id, by_ranges
from mlog.protocol.vector import count, decode_ranges

__all__ = ["VERSION", "Exchange"]

VERSION: Final = 1

_SHORT_IDS_MAX_BYTES: Final = 7 * limits.SKETCH_CELLS_MAX
"""A sketch names fewer ids than it has cells."""

_Handler: TypeAlias = Callable[[Any, Any], Job | None]


class Exchange:
    """One established session.

    Args:
        stored: Called when entries came, so that other sessions pass them on; with logs of which epochs
            became known without any.
        vouched: Called with a log and the entries of it that came with a signature, where something that
            was lacking came: other sessions pass that on too, for they push what is new only.
        inspect: Compare only, and say what differs.
    """

    def __init__(
        self,
        link: Link,
        *,
        stored: Callable[[Collection[int]], None],
        vouched: Callable[[int, Sequence[EntryId]], None],
        inspect: Inspect | None = None,
    ):
        self._link = link
        self._stored = stored
        self._vouched = vouched
        self._compare_only = inspect is not None
        self._requests: dict[int, int] = {}
        self._request = 0
        self._unsent: deque[wire.Want] = deque()
        self._asking: dict[int, int] = {}
        self._serving: dict[int, int] = {}
        self._sender = Sender(link)
        self._keeper = Keeper(link)
        self._leader = (
            Leader(link, self._sender, self._keeper, self._ask, lambda: not self._requests, inspect)
            if link.leader
            else None
        )
        self._follower = None if link.leader else Follower(link, self._sender, self._keeper, self._grant)
        self.greeted = False
        self._peer_compares_only = False
        self._settled_topics: set[Topic] | None = None
        self._owed: set[Topic] | None = None
        self._epochs: dict[int, tuple[tuple[int, int, int, bool], int]] = {}
        self._relisted = False
        self._scopes = _scopes_of(link)
        self._asked: set[EntryId] = set()
        self._asked_again: dict[int, int] = {}
        self._reading: dict[int, tuple[Ask, Pager, int]] = {}
        features = wire.COMPARES_ONLY if self._compare_only else 0
        link.send(wire.Hello(VERSION, features, link.now_ms))

    # -- what the session asks ---------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nothing is left to do before something happens."""
        compared = self._leader is None or self._leader.idle
        return self.greeted and compared and self._sender.idle and not self._requests and not self._reading

    @property
    def waits(self) -> bool:
        """The peer is due to say something."""
        leads = self._leader is not None and self._leader.waits
        return not self.greeted or leads or self._sender.waits or bool(self._requests or self._reading)

    @property
    def wake_ms(self) -> int | None:
        """When `tick` is to be called next."""
        return self._leader.wake_ms if self._leader is not None else None

    def shift(self, by_ms: int) -> None:
        """All times are other ones by this, since the clock was set."""
        if self._leader is not None:
            self._leader.shift(by_ms)

    def tick(self) -> None:
        """Compare again what has come to rest."""
        if self._leader is not None:
            self._leader.tick()

    def step(self) -> bool:
        """One slice of work; False if there is nothing to do before something happens."""
        return self._sender.step() or (self._leader is not None and self._leader.step())

    def committed(self, logs: Collection[int], *, relisted: bool) -> bool:
        """Something was committed here; whether that gives work.

        Args:
            logs: Those that have new entries.
            relisted: A log is new, or is wanted otherwise.
        """
        if self._compare_only:
            return False
        self._relisted = self._relisted or relisted or self._shares_other_logs()
        works = self._sender.committed(logs)
        self._grant_new_epochs(logs)
        if not self._relisted and self._owed is None:
            return works
        self._share_changed_logs()
        return True

    def _shares_other_logs(self) -> bool:
        """Whether a device of another person may have a log now that it could not have."""
        settled = self._settled_topics
        if self._link.peer.own or settled is None:
            return False
        shared = {row.topic for row in self._link.shared().values()}
        # What is shared no more is compared again once it is shared again.
        settled &= shared
        return not shared <= settled

    def _grant_new_epochs(self, logs: Collection[int]) -> None:
        """Give the epochs of logs that changed, where no key entry gives them to the peer."""
        link, settled = self._link, self._settled_topics
        if settled is None or self._compare_only:
            return
        for log in logs:
            if not link.is_shared(log) or log not in self._epochs:
                continue
            known, withheld = self._epochs[log]
            grantable = self._grantable(log)
            if grantable == known and not withheld:
                continue
            self._epochs[log] = now = grantable, grants.withheld(link.replica, log, link.device)
            if now[1] < withheld:
                # What was withheld it lacks, and maybe all of the log.
                self._grant_but(settled - {link.replica.log(log).keys.topic})
            elif now != (known, withheld):
                self._grant_but(settled)

    def _share_changed_logs(self) -> None:
        """Give and compare what was started, learned of, or wanted otherwise, since all were compared."""
        if self._owed is not None and self._grant_but(self._owed):
            self._owed = None
        settled = self._settled_topics
        if settled is None:
            return
        self._relisted = False
        rows = self._link.shared().values()
        scopes = _scopes_of(self._link)
        if any(self._scopes.get(n, scope) != scope for n, scope in scopes.items()):
            self.compare_all()
        self._scopes = scopes
        new = {row.topic: row.n for row in rows if row.topic not in settled}
        if new:
            self._grant_but(settled)
            settled.update(new)
            self._note_epochs_of(row.n for row in rows if row.secret and row.topic in new)
            if self._leader is not None:
                self._leader.compare(new.values())
            else:
                # The leader may have them by another way, and then a grant tells it nothing.
                self._link.send(wire.Again())

    def pass_on(self, log: int, ids: Sequence[EntryId]) -> None:
        """Send entries that are no news: for their signatures, which no root shows to be lacking, and so
        that a peer that leads compares what it lacked of them again."""
        row = next((row for row in self._link.shared().values() if row.n == log), None)
        if row is None or not self._sender.is_live(log):
            return
        pages = by_id(self._link.store, log, ids)
        self._sender.add(Stream(log, self._link.tag_of(row.topic), pages, bodies=False))
        self._touch(log)

    def closed(self) -> None:
        """The session is over: nobody waits for an answer any longer."""
        for question, _, _ in self._reading.values():
            self._link.emit(Paged(number=question.number, end=True, error="the connection ended"))
        self._reading.clear()

    def compare_all(self) -> None:
        """Compare all logs again now."""
        self._asked.clear()
        self._asked_again.clear()
        if self._leader is not None:
            self._leader.compare_all()
        else:
            self._link.send(wire.Again())

    def fetch(self, log: int, ids: Collection[EntryId]) -> None:
        """Ask for entries with their bodies and signatures."""
        row = next((row for row in self._link.shared().values() if row.n == log), None)
        if row is None or self._compare_only:
            return
        remaining = iter(ids)
        while part := b"".join(islice(remaining, limits.WANTED_IDS_MAX)):
            self._ask(wire.Want(0, self._link.tag_of(row.topic), ids=part))

    def ask(self, question: Ask) -> None:
        """Read a log at the peer."""
        row = next((row for row in self._link.shared().values() if row.n == question.log), None)
        if row is None:
            self._link.emit(Paged(number=question.number, end=True, error="the log is not shared"))
            return
        tag = self._link.tag_of(row.topic)
        pager = Pager(
            tag,
            row.topic,
            first_week=question.first_week,
            last_week=question.last_week,
            bodies=question.bodies,
        )
        self._request += 1
        self._reading[self._request] = question, pager, question.limit
        self._link.send(pager.query(self._request, question.limit))

    def _query(self, message: wire.Query) -> Job:
        row = self._link.shared().get(message.tag)
        if row is None:
            # Not a violation: it may not have been granted yet.
            self._link.send(wire.Page(message.request, message.week, message.after, True, b"", ()))
            return
        self._link.send((yield from serve_query(self._link, row, message)))

    def _page(self, message: wire.Page) -> None:
        if message.request not in self._reading:
            raise ProtocolViolation("a page that was not asked for")
        question, pager, left = self._reading.pop(message.request)
        try:
            entries = tuple(pager.page(message))
        except ProtocolViolation as error:
            self._link.emit(Paged(number=question.number, end=True, error=str(error)))
            raise
        left -= len(entries)
        end = pager.end or left <= 0
        proven = tuple(pager.digests) if end else ()
        self._link.emit(Paged(number=question.number, entries=entries, end=end, proven=proven))
        if not end:
            self._request += 1
            self._reading[self._request] = question, pager, left
            self._link.send(pager.query(self._request, left))

    def handle(self, message: wire.Message) -> Job | None:
        """Take one message; what takes long is a job.

        Raises:
            ProtocolViolation: It breaks the rules, or is not for this side.
        """
        if isinstance(message, wire.Hello) == self.greeted:
            raise ProtocolViolation("a greeting comes first, and once")
        for_leader, for_follower = self._HANDLERS[type(message)]
        handler = for_leader if self._link.leader else for_follower
        if handler is None:
            raise ProtocolViolation(f"{type(message).__name__} is not for this side of a session")
        return handler(self, message)

    # -- greeting, grants ----------------------------------------------------------------------

    def _hello(self, message: wire.Hello) -> None:
        if message.version < VERSION:
            raise ProtocolViolation(f"it speaks version {message.version} of the protocol, we {VERSION}")
        self.greeted = True
        self._peer_compares_only = bool(message.features & wire.COMPARES_ONLY)
        self._sender.pushes = not self._peer_compares_only
        skew_ms = message.time_ms - self._link.now_ms
        if abs(skew_ms) > limits.CLOCK_SKEW_WARN_MS:
            days = counted(round(abs(skew_ms) / 86_400_000), "day")
            side = "ahead of" if skew_ms > 0 else "behind"
            self._link.tell("clock", detail=f"the clock of {self._link.peer.name} is {days} {side} ours")
        self._link.tell("connected")
        self.part()

    def part(self) -> None:
        """Tell a device of another person where that was removed."""
        link = self._link
        if self._compare_only or self._peer_compares_only:
            return
        rows = {row.n: row for row in link.store.logs()}
        for parting in partings(link.replica, link.device):
            packed = tuple(wire.Packed(to_tail(s), s.body, s.signature) for s in parting.entries)
            link.send(wire.Parting(link.tag_of(rows[parting.log].topic), packed))

    def _parting(self, message: wire.Parting) -> Job:
        link = self._link
        row = next((r for r in link.store.logs() if link.tag_of(r.topic) == message.tag), None)
        if row is None or self._compare_only or not is_told_by(link.replica, row.n, link.device):
            return
        sealed, _ = _unpack(row.topic, message.entries)
        is_over = take_parting(link.replica, row.n, sealed, link.now_ms)
        link.send(wire.Parted(message.tag))
        # What was said after it counts no more.
        yield from self._settle([row])
        if is_over:
            link.tell("parted", row.n)
        self._stored(())

    def _parted(self, _: wire.Parted) -> None:
        told(self._link.replica, self._link.device)
        self._stored(())

    def _grant(self, named: set[bytes], answered: set[Topic]) -> None:
        """Give a device the secrets of the logs that it may have and does not name."""
        shared = self._link.shared()
        self._note_epochs()
        self._grant_lacking({row.topic for tag, row in shared.items() if tag in named})
        # A log that came by another session since the offer was begun is not settled.
        self._settled_topics = answered
        self._share_changed_logs()

    def _grant_lacking(self, held: set[Topic]) -> None:
        """Grant what the peer lacks, which holds these.

        Two homes that become one: that the peer is of this person stands in a log which is only on its
        way now. Then it is granted at a later commit.
        """
        link = self._link
        lacks = any(row.secret and row.topic not in held for row in link.shared().values())
        granted = self._grant_but(held)
        self._owed = held if lacks and not granted and link.peer.own else None

    def _note_epochs(self) -> None:
        self._epochs.clear()
        self._note_epochs_of(row.n for row in self._link.shared().values() if row.secret)

    def _note_epochs_of(self, logs: Iterable[int]) -> None:
        link = self._link
        for log in logs:
            self._epochs[log] = self._grantable(log), grants.withheld(link.replica, log, link.device)

    def _grantable(self, log: int) -> tuple[int, int, int, bool]:
        """How many epochs of a log are known, how many by their outline, how many that nobody states, and
        whether the peer reads all."""
        link, replica = self._link, self._link.replica
        keys = replica.log(log).keys
        reads_all = replica.people.reads_all(log, link.device)
        return len(link.store.epochs(log)), len(keys.outlines), len(keys.granted), reads_all

    def _grant_but(self, topics: Collection[bytes]) -> bool:
        link = self._link
        if self._compare_only or self._peer_compares_only:
            return False
        sealed = grants.grant_for(link.replica, link.device, topics, link.binding)
        if sealed is not None:
            link.send(wire.Grant(sealed))
            if any(row.secret and row.topic not in topics for row in link.shared().values()):
                link.tell("granted")
        return sealed is not None

    def _granted(self, message: wire.Grant) -> Job:
        link = self._link
        if self._compare_only:
            raise ProtocolViolation("secrets that were not asked for")
        known = self._count_epochs(link.store.logs())
        try:
            logs = grants.accept_grant(link.replica, link.device, message.sealed, link.binding, link.now_ms)
        except InvalidInput as error:
            raise ProtocolViolation(f"secrets that do not open: {error}") from None
        if logs:
            if self._settled_topics is not None:
                self._settled_topics.update(row.topic for row in link.store.logs() if row.n in logs)
            # Compare all, since one grant may not hold all that there is to give.
            if self._leader is not None:
                self._leader.compare_all()
            else:
                link.send(wire.Again())
            self._stored(())
        # What waited for these epochs can be read now.
        yield from self._settle(link.store.logs(), known)

    def _settle(self, logs: Collection[LogRow], known: Mapping[int, int] | None = None) -> Job:
        """Do what was left for later, and have other sessions grant the epochs that became known.

        Args:
            known: How many were, by log; as of now if not given.
        """
        known = self._count_epochs(logs) if known is None else known
        for log in logs:
            while self._link.replica.settle(log.n, self._link.now_ms):
                yield
        learned = [n for n, count in self._count_epochs(logs).items() if count != known.get(n)]
        if learned:
            self._stored(learned)

    def _count_epochs(self, logs: Collection[LogRow]) -> dict[int, int]:
        keys = {row.n: self._link.replica.log(row.n).keys for row in logs if row.secret}
        return {n: len(of.epochs) + len(of.granted) for n, of in keys.items()}

    # -- comparing -----------------------------------------------------------------------------

    def _offer(self, message: wire.Offer) -> Job:
        assert self._follower is not None
        both, differing = yield from self._follower.offer(message)
        yield from self._ask_lacking(both, differing)

    def _answer(self, message: wire.Answer) -> Job:
        assert self._leader is not None
        whole = self._leader.offers_all
        equal, differing, unknown = self._leader.answer(message)
        yield from self._keeper.write_equal(self._link.now_ms)
        receipt = self._keeper.sign(message.serial, self._link.now_ms)
        if receipt is not None:
            self._link.send(receipt)
        if whole:
            rows = self._link.store.logs()
            self._note_epochs()
            self._grant_lacking({row.topic for row in rows if row.n not in unknown})
            # A log that came by another session since the offer is not settled.
            offered = {*equal, *differing, *unknown}
            self._settled_topics = {row.topic for row in rows if row.n in offered}
            self._share_changed_logs()
        yield from self._ask_lacking([*equal, *differing], differing)

    def _again(self, _: wire.Again) -> None:
        assert self._leader is not None
        self._leader.compare_all()

    def _have(self, message: wire.Have) -> None:
        assert self._follower is not None
        self._follower.have(message)

    def _ask_weeks(self, message: wire.AskWeeks) -> Job:
        assert self._follower is not None
        return self._follower.weeks(message)

    def _ask_cells(self, message: wire.AskCells) -> Job:
        assert self._follower is not None
        return self._follower.cells(message)

    def _ask_ids(self, message: wire.AskIds) -> Job:
        assert self._follower is not None
        return self._follower.ids(message)

    def _ask_carried(self, message: wire.AskCarried) -> Job:
        assert self._follower is not None
        return self._follower.carried(message)

    def _told(self, message: Any) -> None:
        assert self._leader is not None
        self._leader.message(message)

    def _receipt(self, message: wire.Receipt) -> Job:
        return self._keeper.receive(message)

    # -- entries -------------------------------------------------------------------------------

    def _ask(self, want: wire.Want) -> int:
        self._request += 1
        log = self._link.log_of(want.tag)
        assert log is not None
        self._requests[self._request] = log
        self._unsent.append(msgspec.structs.replace(want, request=self._request))
        self._send_requests()
        return self._request

    def _send_requests(self) -> None:
        """Send what was asked for, as far as the peer takes it now."""
        while self._unsent and _may_ask(self._asking, _size_of(self._unsent[0])):
            want = self._unsent.popleft()
            self._asking[want.request] = _size_of(want)
            self._link.send(want)

    def _ask_lacking(self, logs: Collection[int], differing: Collection[int]) -> Job:
        """Ask for what is known to be missing here of logs that both hold, once in a session.

        Where they differ the peer may have got since what it did not have before: then a few times.
        """
        if self._compare_only or self._peer_compares_only:
            return
        for tag, row in self._link.shared().items():
            if row.n not in logs:
                continue
            keys = self._link.replica.log(row.n).keys if row.secret else None
            lacking = missing.lacking(self._link.store, row, keys, limits.WANTED_IDS_MAX)
            yield
            rounds = self._asked_again.get(row.n, 0)
            if row.n in differing and rounds < limits.ASKED_AGAIN_MAX:
                self._asked_again[row.n] = rounds + 1
                self._asked.difference_update(lacking)
            ids = [id_ for id_ in lacking if id_ not in self._asked]
            # Another session may have brought what takes the log from this peer.
            if ids and len(self._asked) < limits.ASKED_IDS_MAX and self._link.is_shared(row.n):
                self._asked.update(ids)
                self._ask(wire.Want(0, tag, ids=b"".join(ids)))

    def _want(self, message: wire.Want) -> Job:
        link = self._link
        log = link.log_of(message.tag)
        if len(message.ids) % 32 or len(message.ids) > 32 * limits.WANTED_IDS_MAX:
            raise ProtocolViolation("a request for no ids, or for too many")
        if len(message.shorts) > _SHORT_IDS_MAX_BYTES:
            raise ProtocolViolation("more short ids than a sketch tells of")
        if message.request in self._serving or not _may_ask(self._serving, _size_of(message)):
            raise ProtocolViolation("more requests than may wait")
        wanted = decode_ranges(message.chains)
        if log is None:
            # Not a violation: it may not have been granted yet.
            asked = len(message.ids) // 32 + sum(map(count, wanted.values()))
            link.send(wire.Done(message.request, min(asked, limits.SEQ_MAX)))
            return
        self._serving[message.request] = _size_of(message)
        chains = link.chains(log)
        ranges = {n: part for tag, part in wanted.items() for n in chains.get(tag, ())}
        ids = [EntryId(message.ids[at : at + 32]) for at in range(0, len(message.ids), 32)]
        if message.shorts:
            if self._follower is None:
                raise ProtocolViolation("short ids of a sketch that was not asked for")
            ids += yield from self._follower.find(log, message.shorts)
        pages = chain(by_ranges(link.store, log, ranges, message.first_week), by_id(link.store, log, ids))
        asked = len(ids) + sum(map(count, wanted.values()))
        link.tell("wanted", log, asked)

        def done(sent: int) -> None:
            del self._serving[message.request]
            link.send(wire.Done(message.request, min(max(asked - sent, 0), limits.SEQ_MAX)))
            if sent and ids:
                self._touch(log)

        self._sender.add(Stream(log, message.tag, pages, bodies=message.bodies, done=done))

    def _done(self, message: wire.Done) -> None:
        if self._asking.pop(message.request, None) is None:
            raise ProtocolViolation("the end of nothing that was asked for")
        del self._requests[message.request]
        self._send_requests()
        if self._leader is not None:
            self._leader.done(message.request)

    def _entries(self, message: wire.Entries) -> Job:
        link = self._link
        row = link.shared().get(message.tag)
        if row is None and not link.peer.own and not self._compare_only:
            # It was shared, and is no more: what was on its way then is not taken.
            link.send(wire.Ack(message.serial, len(message.entries)))
            return
        if row is None or self._compare_only:
            raise ProtocolViolation("entries of a log that is not shared")
        refused = stored = 0
        known = {peer.device for peer in link.store.peers()} if row.kind == LogKind.PERSON else None
        epochs = 1 if row.kind == LogKind.BLIND else len(link.replica.log(row.n).keys.epochs)
        for part in _slices(message.entries, epochs):
            sealed, malformed = _unpack(row.topic, part)
            with link.store.transaction():
                before_n = link.store.next_n() - 1
                taken = link.replica.receive(row.n, sealed, link.now_ms)
                after_n = link.store.next_n() - 1
            self._sender.received(row.n, [entry.id for entry in sealed], before_n, after_n)
            refused += malformed + len({id_ for id_, _ in taken.refused})
            stored += taken.stored + taken.completed
            if taken.completed:
                # Bodies are news for others too: they do not see it by new entries.
                signed = [entry.id for entry in sealed if entry.signature is not None]
                self._vouched(row.n, signed or [sealed[0].id])
            yield
        link.send(wire.Ack(message.serial, refused))
        # Also where nothing was new here: the peer has got more since the roots were compared.
        self._touch(row.n, changed=stored > 0)
        if known is not None:
            for peer in link.store.peers():
                if peer.device not in known and not peer.own:
                    link.tell("accepted", row.n, detail=peer.name)
        if stored:
            self._asked_again.pop(row.n, None)
            self._keeper.note_heard(row.n)
            link.tell("stored", row.n, stored)
            self._stored(())
        # What a person log says of revoked devices changes what counts in all others.
        yield from self._settle(link.store.logs() if row.kind == LogKind.PERSON else [row])

    def _ack(self, message: wire.Ack) -> None:
        pushed = self._sender.acknowledged(message.serial, message.refused)
        if pushed is not None:
            self._touch(pushed)

    def _touch(self, log: int, *, changed: bool = True) -> None:
        """A log changed on either side: its roots are compared again when it has come to rest."""
        if self._leader is not None:
            self._leader.touch(log, changed=changed)

    _HANDLERS: ClassVar[Mapping[type[Any], tuple[_Handler | None, _Handler | None]]] = {
        wire.Hello: (_hello, _hello),
        wire.Offer: (None, _offer),
        wire.Answer: (_answer, None),
        wire.Have: (None, _have),
        wire.Want: (_want, _want),
        wire.Entries: (_entries, _entries),
        wire.Ack: (_ack, _ack),
        wire.Done: (_done, _done),
        wire.Receipt: (_receipt, _receipt),
        wire.Grant: (_granted, _granted),
        wire.Again: (_again, None),
        wire.AskWeeks: (None, _ask_weeks),
        wire.Weeks: (_told, None),
        wire.AskCells: (None, _ask_cells),
        wire.Cells: (_told, None),
        wire.AskIds: (None, _ask_ids),
        wire.Ids: (_told, None),
        wire.AskCarried: (None, _ask_carried),
        wire.Same: (_told, None),
        wire.Query: (_query, _query),
        wire.Page: (_page, _page),
        wire.Parting: (_parting, _parting),
        wire.Parted: (_parted, _parted),
    }
    """For each message who takes it at the leader, and at the follower; None closes the session."""


def _scopes_of(link: Link) -> dict[int, tuple[int, bool]]:
    """What is wanted here of each log."""
    return {row.n: (row.window_days, row.fetch_bodies) for row in link.shared().values()}


def _size_of(want: wire.Want) -> int:
    return len(want.chains) + len(want.ids) + len(want.shorts)


def _may_ask(asking: Mapping[int, int], size: int) -> bool:
    """Whether a request of this size may be on its way beside these."""
    room = limits.REQUESTS_SIZE_MAX_BYTES - sum(asking.values())
    return not asking or (len(asking) < limits.REQUESTS_MAX and size <= room)


def _slices(entries: Sequence[wire.Packed], epochs: int) -> Iterator[Sequence[wire.Packed]]:
    """Entries in parts that take about as long each, whatever is in them (RECEIVED_SLICE_COST).

    A whole bundle of which only the end is signed is one of them: apart, all but the last would be stored
    twice, without and then with what vouches for them.

    Args:
        epochs: How many an entry may have to be tried with.
    """
    start = end = cost = signed = 0
    for at, packed in enumerate(entries, 1):
        cost += 1 + 8 * (packed.signature is not None) + max(0, len(packed.head) - 256) // 64
        cost += len(packed.body or b"") // 256 + epochs // 64
        if packed.signature is not None:
            end, signed = at, cost
        if cost >= limits.RECEIVED_SLICE_COST:
            # Behind the last signature, if there is one: what follows waits for the next.
            if end == start:
                end, signed = at, cost
            yield entries[start:end]
            start, cost = end, cost - signed
    if start < len(entries):
        yield entries[start:]


def _unpack(topic: Topic, entries: Sequence[wire.Packed]) -> tuple[list[Sealed], int]:
    """Entries as they were, hashed here, and how many are of no possible form."""
    found: list[Sealed] = []
    for packed in entries:
        with suppress(InvalidInput):
            found.append(from_tail(topic, packed.head, packed.body, packed.signature))
    return found, len(entries) - len(found)
