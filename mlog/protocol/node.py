"""Node: all sessions of one replica. Events go in, effects come out; it has no sockets and no clock.

`handle` does one slice of the work that waits and asks to be woken at once for the next, so that no
event takes long and all sessions have their turn. What an effect acknowledges is durable before
`handle` returns. Who may connect: the peers that the store knows, and nobody else; but for the one
stranger that may try the secret of a pairing, while a person has it open (mlog/protocol/meeting.py), and
for who has a recovery phrase of this person, or of one whom it meets (mlog/protocol/recovering.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import islice, zip_longest
from typing import Final

import msgspec

from mlog import limits
from mlog.errors import Busy, InvalidInput, ProtocolViolation
from mlog.log.belonging import cut_later, revoke_too
from mlog.log.carrying import carry_over
from mlog.log.crypto import Entropy
from mlog.log.ids import DeviceId, EntryId
from mlog.log.parting import told
from mlog.log.peers import PeerRow
from mlog.log.person import Member
from mlog.log.replica import Replica
from mlog.protocol import recovering
from mlog.protocol.channel import Channel
from mlog.protocol.comparing import Inspect
from mlog.protocol.dialling import Dialling
from mlog.protocol.events import (
    Ask,
    Close,
    Closed,
    Committed,
    Decide,
    Dial,
    Effect,
    Established,
    Event,
    Fetch,
    Leave,
    Meet,
    Notice,
    Opened,
    Paged,
    Reach,
    Received,
    Recover,
    Seen,
    SyncNow,
    Tick,
    Unmet,
    Unreachable,
    WakeAt,
)
from mlog.protocol.feed import Feed
from mlog.protocol.meeting import Meeting
from mlog.protocol.pairing import Decision
from mlog.protocol.session import Session
from mlog.protocol.turns import Alarms, Turns

__all__ = ["Node"]

_KEY_SIZE: Final = 32
_UNKNOWN: Final = "the device is not known any more"
_UNWANTED: Final = "nobody waits for this connection any more"
_NARROWED: Final = "the device may not have all logs any more that it could have"
_CUT_AT_ONCE: Final = 8
"""Logs that are looked through when a session rests, each 1 to 3 ms."""
_ANOTHER: Final = "there is another connection to the same device"


class Node:
    """Sessions over one replica.

    Args:
        entropy: For the ephemeral keys of handshakes.
        dials: Whether it tries by itself to reach the devices that it knows.
        inspect: Compare only: it is told what differs, and nothing is transferred.
    """

    def __init__(
        self, replica: Replica, entropy: Entropy, *, dials: bool = True, inspect: Inspect | None = None
    ):
        self._replica = replica
        self._entropy = entropy
        self._dials = dials
        self._inspect = inspect
        self._sessions: dict[int, Session] = {}
        self._turns: Turns[int] = Turns()
        self._alarms: Alarms[int] = Alarms()
        self._feed = Feed(replica)
        self._dialling = Dialling()
        self._meeting: Meeting | None = None
        self._recovers = False
        self._effects: list[Effect] = []
        self._unsettled: list[int] = []
        self._uncut: set[int] = set()
        """Logs that changed since it was last seen to that whom this device revoked is cut in them."""
        self._now_ms = 0

    def start(self, now_ms: int) -> list[Effect]:
        """Begin: dial the devices whose addresses are known, and finish what was left when it ended last."""
        self._now_ms = now_ms
        self._unsettled = [row.n for row in self._replica.store.logs()]
        self._uncut.update(self._unsettled)
        self._learn_peers()
        return self._finish()

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Take one event and do one slice of work.

        Raises:
            StoreError: The disk is at fault; nothing that was not durable was acknowledged.
        """
        if now_ms < self._now_ms:
            self._set_back(self._now_ms - now_ms)
        self._now_ms = now_ms
        match event:
            case Opened():
                self._open(event)
            case Received(session=number, data=data):
                self._receive(number, data)
            case Closed(session=number) if self._pairs(number):
                self._meet(lambda meeting: meeting.closed())
            case Closed(session=number, reason=reason):
                self._guarded(number, lambda session: session.hear_out())
                self._forget(number, reason)
            case Unreachable():
                self._failed(event.device, event.reason)
            case Seen():
                self._seen(event)
            case Tick():
                self._tick()
            case Committed():
                self._committed()
            case SyncNow():
                self._sync_now()
            case Fetch():
                for session in self._established():
                    assert session.exchange is not None
                    session.exchange.fetch(event.log, event.ids)
                    self._wake(session)
            case Ask():
                self._ask(event)
            case Meet():
                self._begin_meeting(event)
            case Decide(yes=yes):
                decision = Decision.YES if yes else Decision.NO
                self._meet(lambda meeting: meeting.decide(decision, now_ms))
            case Leave():
                self._meet(lambda meeting: meeting.leave(now_ms))
            case Recover(addresses=addresses):
                self._recovers = True
                self._emit(Reach(addresses))
            case Unmet(reason=reason):
                self._meet(lambda meeting: meeting.unreached(reason))
        self._work()
        return self._finish()

    def _set_back(self, by_ms: int) -> None:
        """The clock was put back: what was due in five seconds still is, and not in ten years."""
        self._alarms.shift(-by_ms)
        self._dialling.shift(-by_ms)
        if self._meeting is not None:
            self._meeting.shift(-by_ms)
        for session in self._sessions.values():
            session.shift(-by_ms)

    @property
    def idle(self) -> bool:
        """Every session has done all that there is to do."""
        return all(session.idle for session in self._sessions.values())

    def _finish(self) -> list[Effect]:
        wake_ms = self._wake_ms()
        if wake_ms is not None:
            self._effects.append(WakeAt(wake_ms))
        effects, self._effects = self._effects, []
        return effects

    def _wake_ms(self) -> int | None:
        if self._unsettled or self._turns:
            return self._now_ms
        self._feed.forget()
        times = (
            self._alarms.next_ms,
            self._dialling.wake_ms if self._dials else None,
            self._meeting.wake_ms if self._meeting is not None else None,
        )
        return min((at_ms for at_ms in times if at_ms is not None), default=None)

    # -- sessions ----------------------------------------------------------------------------

    def _open(self, event: Opened) -> None:
        if event.reached and self._recovers:
            self._recovers = False
            self._recover(event.session)
            return
        if event.reached:
            if self._meeting is None or not self._meeting.reached(event.session, self._now_ms):
                self._effects.append(Close(event.session, _UNWANTED))
            return
        keys = self._replica.device_keys
        ephemeral = self._entropy.random(_KEY_SIZE)
        peer = None
        if event.device is not None:
            peer = next((p for p in self._replica.store.peers() if p.device == event.device), None)
            if peer is None:
                self._effects.append(Close(event.session, _UNKNOWN))
                return
            if any(
                s.leads and s.peer is not None and s.peer.device == event.device
                for s in self._sessions.values()
            ):
                # The other end would see two, in an order of its own, and each might close the other's.
                self._effects.append(Close(event.session, _ANOTHER))
                return
        channel = (
            Channel.respond(keys.noise_seed, ephemeral)
            if peer is None
            else Channel.initiate(keys.noise_seed, peer.noise, ephemeral)
        )
        self._begin_session(event.session, channel, peer, self._known)

    def _begin_session(
        self,
        number: int,
        channel: Channel,
        peer: PeerRow | None,
        known: Callable[[bytes], PeerRow | None],
        *,
        leads: bool = False,
    ) -> None:
        session = self._sessions[number] = Session(
            number,
            self._replica,
            channel,
            peer,
            known=known,
            emit=self._emit,
            feed=self._feed,
            stored=self._committed,
            vouched=lambda log, ids: self._vouched(number, log, ids),
            now_ms=self._now_ms,
            inspect=self._inspect,
            leads=leads,
        )
        self._note(session)

    def _receive(self, number: int, data: bytes) -> None:
        if self._pairs(number):
            self._meet(lambda meeting: meeting.receive(data, self._now_ms))
        elif not self._tries_to_pair(number, data):
            self._let_recover(number, data)
            self._guarded(number, lambda session: session.receive(data, self._now_ms))

    def _emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _known(self, noise_public: bytes) -> PeerRow | None:
        return next((p for p in self._replica.store.peers() if p.noise == noise_public), None)

    def _guarded(self, number: int, act: Callable[[Session], object]) -> bool:
        """Act on a session; what it does wrong ends it, and nothing else."""
        session = self._sessions.get(number)
        if session is None:
            return False
        greeted = session.greeted
        try:
            did = act(session)
        except (ProtocolViolation, InvalidInput, Busy) as error:
            # InvalidInput comes of bytes of the peer, wherever they were found wanting.
            self._effects.append(Close(number, str(error)))
            self._forget(number, str(error))
            return False
        if session.greeted and not greeted:
            self._greeted(session)
        if number in self._sessions:
            self._tell_rest(session)
            self._note(session)
        return bool(did)

    def _note(self, session: Session) -> None:
        """Whether it has work, and when its time comes, may be other than it was."""
        if session.busy:
            self._turns.add(session.number)
        self._alarms.set(session.number, session.wake_ms)

    def _wake(self, session: Session) -> None:
        session.wake()
        self._turns.add(session.number)

    def _greeted(self, session: Session) -> None:
        """A peer is there: of two sessions with it one stays, the same one at both ends."""
        assert session.peer is not None
        device = session.peer.device
        for other in list(self._sessions.values()):
            if other is session or other.peer is None or other.peer.device != device or not other.greeted:
                continue
            ours_leads = self._replica.device_id < device
            keep_new = session.leads in (other.leads, ours_leads)
            loser = other if keep_new else session
            self._effects.append(Close(loser.number, _ANOTHER))
            self._drop(loser.number)
            if loser is session:
                return
        session.granted = frozenset(self._replica.people.granted_to(device))
        self._emit(Established(session.number, device))
        self._dialling.connected(device)
        with self._replica.store.transaction():
            peer = self._known(session.peer.noise)
            if peer is not None:
                self._replica.store.put_peer(msgspec.structs.replace(peer, seen_ms=self._now_ms))

    def _forget(self, number: int, reason: str) -> None:
        session = self._drop(number)
        if session is None or session.peer is None:
            return
        if session.greeted:
            device = session.peer.device
            self._effects.append(Notice(what="disconnected", device=device, detail=reason))
        if session.leads or session.greeted:
            # Whoever dialled before does so again, and first; but our own address may have changed.
            self._failed(session.peer.device, reason, quiet=session.greeted, second=not session.leads)

    def _drop(self, number: int) -> Session | None:
        session = self._sessions.pop(number, None)
        self._turns.remove(number)
        self._alarms.set(number, None)
        if session is not None and session.exchange is not None:
            session.exchange.closed()
        return session

    def _established(self) -> list[Session]:
        return [session for session in self._sessions.values() if session.greeted]

    def _work(self) -> None:
        """One slice for the next session that has something to do."""
        for _ in range(len(self._turns)):
            number = self._turns.next()
            if number is not None and self._guarded(number, lambda session: session.step(self._now_ms)):
                return
        if self._unsettled and not self._replica.settle(self._unsettled[-1], self._now_ms):
            self._unsettled.pop()

    def _tell_rest(self, session: Session) -> None:
        """Say once that nothing is left to do with a peer."""
        rested, is_news = session.idle, not session.rested
        session.rested = rested
        if rested and is_news and session.peer is not None:
            self._emit(Notice(what="rested", device=session.peer.device))
            if session.leads:
                # Not when it greets: one that then breaks the rules would be dialled every few seconds.
                self._dialling.compared(session.peer.device)
            if self._inspect is None:
                self._follow_up(own=session.peer.own)

    def _follow_up(self, *, own: bool) -> None:
        """Write what waited until all was here that a peer has, one of this person's devices or not."""
        uncut = sorted(self._uncut)[:_CUT_AT_ONCE]
        wrote = revoke_too(self._replica, self._now_ms)
        wrote = cut_later(self._replica, uncut, self._now_ms) or wrote
        self._uncut.difference_update(uncut)
        if own and carry_over(self._replica, self._now_ms):
            wrote = True
        if wrote:
            self._committed()

    def _committed(self, learned: Collection[int] = ()) -> None:
        """Something was committed here.

        Args:
            learned: Logs of which epochs became known without any entry.
        """
        # First, so that they are told nothing of it: this may have come from another device.
        self._end_untrusted()
        self._end_narrowed()
        logs, relisted = self._feed.look()
        logs.update(learned)
        self._uncut |= logs
        for session in self._sessions.values():
            if session.exchange is not None and session.exchange.committed(logs, relisted=relisted):
                self._wake(session)
        self._learn_peers()

    def _vouched(self, number: int, log: int, ids: Sequence[EntryId]) -> None:
        """What was lacking here came in one session: the others may lack it too."""
        for session in self._established():
            if session.number != number:
                assert session.exchange is not None
                session.exchange.pass_on(log, ids)
                self._wake(session)

    def _end_untrusted(self) -> None:
        """End the sessions of devices that may not connect any more, or not as what they did."""
        peers = {peer.device: (peer.noise, peer.own) for peer in self._replica.store.peers()}
        for number, session in list(self._sessions.items()):
            peer = session.peer
            if peer is None or peers.get(peer.device) == (peer.noise, peer.own):
                continue
            phrases = {phrase.device: (phrase.noise, own) for phrase, own in self._phrases()}
            if phrases.get(peer.device) != (peer.noise, peer.own):
                self._part(session)
                self._effects.append(Close(number, _UNKNOWN))
                self._forget(number, _UNKNOWN)

    def _end_narrowed(self) -> None:
        """End the sessions of devices of others that may not have a log any more: they begin anew without."""
        people = self._replica.people
        for number, session in list(self._sessions.items()):
            if session.peer is None or session.peer.own or not session.greeted:
                continue
            granted = people.granted_to(session.peer.device)
            if not session.granted <= granted:
                self._part(session)
                told(self._replica, session.peer.device)
                self._effects.append(Close(number, _NARROWED))
                self._effects.append(Notice(what="narrowed", device=session.peer.device))
                self._forget(number, _NARROWED)
            session.granted = frozenset(granted)

    def _part(self, session: Session) -> None:
        """The last that a device hears that may not have what it had: why."""
        if session.greeted and session.exchange is not None:
            session.exchange.part()

    def _sync_now(self) -> None:
        for session in self._established():
            assert session.exchange is not None
            session.exchange.compare_all()
            self._wake(session)
        self._dialling.hurry(self._now_ms)
        self._dial_due()

    def _ask(self, event: Ask) -> None:
        for session in self._established():
            if session.peer is not None and session.peer.device == event.device:
                assert session.exchange is not None
                session.exchange.ask(event)
                self._wake(session)
                return
        self._emit(Paged(number=event.number, end=True, error="there is no connection to the device"))

    def _tick(self) -> None:
        # What is due beyond that is due at the next event, which is asked for at once.
        due = islice(self._alarms.take(self._now_ms), limits.TICKED_SESSIONS_MAX)
        for number in list(due):
            self._guarded(number, lambda session: session.tick(self._now_ms))
        self._meet(lambda meeting: meeting.tick(self._now_ms))
        self._dial_due()

    # -- pairing -----------------------------------------------------------------------------

    def _begin_meeting(self, plan: Meet) -> None:
        assert self._meeting is None or self._meeting.over, "one pairing at a time"
        ephemeral = self._entropy.random(_KEY_SIZE)
        keys = self._replica.device_keys
        self._meeting = Meeting(plan, keys, ephemeral, self._emit, self._now_ms)

    def _meet(self, act: Callable[[Meeting], None]) -> None:
        """Act on the pairing that goes on, if one does."""
        meeting = self._meeting
        if meeting is None:
            return
        act(meeting)
        if meeting.over:
            self._meeting = None
            # Whom it made known may connect, and is dialled.
            self._committed()

    def _pairs(self, number: int) -> bool:
        """Whether a connection is the one that pairs."""
        return self._meeting is not None and self._meeting.session == number

    def _tries_to_pair(self, number: int, data: bytes) -> bool:
        """Whether a connection on which nothing was said yet becomes the one that pairs."""
        session = self._sessions.get(number)
        if self._meeting is None or session is None or session.peer is not None:
            return False
        if not self._meeting.admit(number, data, self._now_ms):
            return False
        self._drop(number)
        # It may have ended at once, with a secret that is another one.
        self._meet(lambda _: None)
        return True

    # -- recovery ----------------------------------------------------------------------------

    def _phrases(self) -> Sequence[tuple[Member, bool]]:
        """The recovery phrases that may connect, each with whether it is of this person: those that it
        trusts, then those that said yes to be of a contact, or of a member of a common conversation."""
        people = self._replica.people
        person = people.current()
        own = person.phrases if person is not None else ()
        met = people.acquaintances().values() if person is not None else ()
        # The first ones of all, then their second ones: nobody's many keep out another one's.
        theirs = zip_longest(*([p for p in other.phrases if p.confirmed] for other in met))
        found = [(phrase, True) for phrase in own]
        found += [(phrase, False) for phrases in theirs for phrase in phrases if phrase is not None]
        return found[: limits.PHRASES_TRIED_MAX]

    def _let_recover(self, number: int, data: bytes) -> None:
        """Where a connection on which nothing was said yet begins with a phrase that is known here: go on
        with that, as with a device of its person that is no peer."""
        session = self._sessions.get(number)
        if session is None or session.peer is not None or not recovering.is_recovery(data):
            return
        keys, ephemeral = self._replica.device_keys, self._entropy.random(_KEY_SIZE)
        known = self._phrases()
        phrases = [phrase for phrase, _ in known]
        answered = recovering.answer(keys, phrases, data, ephemeral, self._now_ms)
        if answered is None:
            return
        channel, phrase = answered
        own = (phrase, True) in known
        peer = PeerRow(device=phrase.device, name=phrase.name, noise=phrase.noise, hpke=phrase.hpke, own=own)
        self._drop(number)
        self._begin_session(number, channel, None, lambda _: peer)

    def _recover(self, number: int) -> None:
        """Go on with whoever was dialled: what that gives says whose device it is."""
        ephemeral = self._entropy.random(_KEY_SIZE)
        channel = recovering.dial(self._replica.device_keys, ephemeral, self._now_ms)

        def holder(noise_public: bytes) -> PeerRow:
            device = DeviceId(channel.carried)
            peer = PeerRow(device=device, name="", noise=noise_public, hpke=b"", own=True)
            with self._replica.store.transaction():
                self._replica.store.put_peer(peer)
            return peer

        self._begin_session(number, channel, None, holder, leads=True)

    # -- dialling ----------------------------------------------------------------------------

    def _learn_peers(self) -> None:
        """Devices that were trusted since are dialled too."""
        if self._dials:
            self._dialling.learn(self._replica.store.peers(), self._now_ms)
            self._dial_due()

    def _seen(self, event: Seen) -> None:
        connected = any(s.peer is not None and s.peer.device == event.device for s in self._sessions.values())
        self._dialling.seen(event.device, event.addresses, None if connected else self._now_ms)
        self._dial_due()

    def _failed(self, device: DeviceId, reason: str, *, quiet: bool = False, second: bool = False) -> None:
        if not quiet:
            self._effects.append(Notice(what="unreachable", device=device, detail=reason))
        self._dialling.failed(device, self._now_ms, second=second)

    def _dial_due(self) -> None:
        due_ms = self._dialling.wake_ms
        if not self._dials or due_ms is None or due_ms > self._now_ms:
            return
        known = {peer.device for peer in self._replica.store.peers()}
        for device, addresses in self._dialling.due(known, self._now_ms):
            self._effects.append(Dial(device, addresses))
