"""Session: one connection from its first byte on: handshake, frames, the inbox, the work in slices.

    HANDSHAKE --(Noise IK)--> OPEN --(anything wrong)--> CLOSED

Messages wait in an inbox and are handled one after another; what takes long is a `Job` in slices, so
that no event holds up other sessions. What the two ends say to each other: mlog/protocol/exchange.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log.ids import EntryId
from mlog.log.peers import PeerRow
from mlog.log.replica import Replica
from mlog.protocol import wire
from mlog.protocol.channel import Channel
from mlog.protocol.comparing import Inspect
from mlog.protocol.events import Effect, Send
from mlog.protocol.exchange import Exchange
from mlog.protocol.feed import Feed
from mlog.protocol.link import Job, Link

__all__ = ["Session"]

_LAST_WORDS: Final = 2
"""Of very many that wait when a connection ends so many are taken, since it is done at once."""


class Session:
    """One connection. A method that raises `ProtocolViolation` leaves it to be closed.

    Args:
        number: As in the events.
        peer: Whom we dialled; None where we were dialled, or dialled whoever is there.
        known: Finds the device with a Noise key, or None; asked where `peer` does not say who it is.
        leads: We dialled; as where `peer` is given.
        emit: Takes effects, in order.
        feed: As `Link` takes it.
        stored, vouched: As `Exchange` takes them.
        inspect: Compare only, and say what differs.

    Attributes:
        granted: The logs that a device of another person could have when it was last looked.
    """

    def __init__(
        self,
        number: int,
        replica: Replica,
        channel: Channel,
        peer: PeerRow | None,
        *,
        known: Callable[[bytes], PeerRow | None],
        emit: Callable[[Effect], None],
        feed: Feed,
        stored: Callable[[Collection[int]], None],
        vouched: Callable[[int, Sequence[EntryId]], None],
        now_ms: int,
        inspect: Inspect | None = None,
        leads: bool = False,
    ):
        self.number = number
        self.peer = peer
        self.leads = leads or peer is not None
        self.exchange: Exchange | None = None
        self.rested = False
        self.granted: frozenset[int] = frozenset()
        self._link: Link | None = None
        self._replica = replica
        self._channel = channel
        self._known = known
        self._emit = emit
        self._feed = feed
        self._stored = stored
        self._vouched = vouched
        self._inspect = inspect
        self._inbox: deque[bytes] = deque()
        self._inbox_size = 0
        self._job: Job | None = None
        self._is_last_word = False
        self._has_turn = False
        self._now_ms = now_ms
        self._deadline_ms: int | None = now_ms + limits.HANDSHAKE_TIMEOUT_MS
        if self.leads:
            emit(Send(number, channel.start()))

    @property
    def greeted(self) -> bool:
        """The peer has shown that it is there, and who it is."""
        return self.exchange is not None and self.exchange.greeted

    @property
    def idle(self) -> bool:
        """Nothing is left to do before something happens."""
        return self.exchange is not None and self.exchange.idle and not self._inbox and self._job is None

    @property
    def busy(self) -> bool:
        """There is work that waits for its turn."""
        return bool(self._inbox) or self._job is not None or self._has_turn

    @property
    def wake_ms(self) -> int | None:
        """When `tick` is to be called at the latest."""
        settled_ms = self.exchange.wake_ms if self.exchange is not None else None
        return min((at_ms for at_ms in (self._deadline_ms, settled_ms) if at_ms is not None), default=None)

    def receive(self, data: bytes, now_ms: int) -> None:
        """Take one websocket message.

        Raises:
            ProtocolViolation: The peer broke the rules, or is not known.
        """
        self._set_time(now_ms)
        if self.exchange is None:
            self._shake_hands(data)
            return
        if self.greeted:
            self._deadline_ms = None
        for message in self._channel.receive(data):
            self._inbox.append(message)
            self._inbox_size += len(message)
        if self._inbox_size > limits.INBOX_SIZE_MAX_BYTES or len(self._inbox) > limits.INBOX_MESSAGES_MAX:
            raise ProtocolViolation("more messages than were asked for")
        self._watch()

    def _shake_hands(self, data: bytes) -> None:
        self._channel.receive(data)
        peer = self.peer
        if peer is None:
            noise_public = self._channel.peer_noise_public
            peer = self._known(noise_public) if noise_public is not None else None
            if peer is None:
                raise ProtocolViolation("a device that is not known here")
            self.peer = peer
            if not self.leads:
                self._emit(Send(self.number, self._channel.accept()))
        self._link = Link(
            self._replica,
            peer,
            self._channel.binding,
            leader=self.leads,
            now_ms=self._now_ms,
            send=self._send,
            emit=self._emit,
            feed=self._feed,
        )
        self.exchange = Exchange(
            self._link, stored=self._stored, vouched=self._vouched, inspect=self._inspect
        )
        self._has_turn = True

    def _send(self, message: wire.Message) -> None:
        for frame in self._channel.seal(wire.encode(message)):
            self._emit(Send(self.number, frame))

    def step(self, now_ms: int) -> bool:
        """One slice of work; False if there is nothing to do before something happens.

        Raises:
            ProtocolViolation: The peer broke the rules.
        """
        self._set_time(now_ms)
        if self.exchange is None:
            return False
        did = self._work(self.exchange)
        self._watch()
        return did

    def _work(self, exchange: Exchange) -> bool:
        if self._job is not None:
            if next(self._job, self) is self:
                self._job = None
            return True
        if self._inbox:
            data = self._inbox.popleft()
            self._inbox_size -= len(data)
            message = wire.decode(data)
            if message is not None:
                self._job = exchange.handle(message)
                self._is_last_word = isinstance(message, wire.Parting)
            if exchange.greeted:
                self._deadline_ms = None
            self._has_turn = True
            return True
        self._has_turn = exchange.step()
        return self._has_turn

    def hear_out(self) -> None:
        """The connection has ended: of what came before that, take why.

        Raises:
            ProtocolViolation: The peer broke the rules.
        """
        jobs: list[Job | None] = [self._job if self._is_last_word else None]
        messages = [wire.decode(data) for data in self._inbox] if self.greeted else []
        self._job = None
        self._inbox.clear()
        last = [message for message in messages if isinstance(message, wire.Parting)][-_LAST_WORDS:]
        if self.exchange is not None:
            jobs += [self.exchange.handle(message) for message in last]
        for job in jobs:
            for _ in job or ():
                pass

    def wake(self) -> None:
        """Something happened that may give work."""
        self._has_turn = True

    def shift(self, by_ms: int) -> None:
        """All times are other ones by this, since the clock was set."""
        if self._deadline_ms is not None:
            self._deadline_ms += by_ms
        if self.exchange is not None:
            self.exchange.shift(by_ms)

    def tick(self, now_ms: int) -> None:
        """See whether the time for something has come.

        Raises:
            ProtocolViolation: The peer did not answer in time.
        """
        self._set_time(now_ms)
        unread = self._inbox or self._job is not None
        if self._deadline_ms is not None and now_ms >= self._deadline_ms and not unread:
            raise ProtocolViolation("it did not answer in time")
        if self.exchange is not None:
            self.exchange.tick()
            self._has_turn = True

    def _watch(self) -> None:
        """Give the peer its time from when something is asked of it; whatever it says gives it more."""
        assert self.exchange is not None
        if not self.exchange.waits:
            self._deadline_ms = None
        elif self._deadline_ms is None:
            self._deadline_ms = self._now_ms + limits.ANSWER_TIMEOUT_MS

    def _set_time(self, now_ms: int) -> None:
        self._now_ms = now_ms
        if self._link is not None:
            self._link.now_ms = now_ms
