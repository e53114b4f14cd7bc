"""Meeting: the one pairing that goes on in a node, from the moment a person opens it to its end.

    WAITS --(we were dialled: a first message of the right form)--> PAIRS --> over
    WAITS --(we dial: the connection is open)-------------------->  PAIRS --> over
    WAITS --(too late, nobody reached, left)---------------------------------> over

There is one try: the connection that made it is the meeting's own, and all others stay strangers'. What
both ends said yes to is stored before the other end is told of it. docs/protocol.md, 19.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from mlog import limits
from mlog.errors import MlogError, ProtocolViolation, StoreError
from mlog.log.crypto import DeviceKeys
from mlog.protocol import pairing
from mlog.protocol.channel import Channel
from mlog.protocol.events import Admitted, Close, Effect, Meet, Reach, Send
from mlog.protocol.pairing import Decision, Ended, Paired, Pairing, State, Window

__all__ = ["Meeting"]

_OVER = "the pairing is over"
_LATE = "nobody came within two minutes. Nothing was changed; begin again with a new code."
_SILENT = (
    "whoever answers there does not pair: the code may be another one, or used before. Nothing was changed; "
    "begin again with a new code."
)


class Meeting:
    """One pairing; every method emits what is to be done.

    Args:
        plan: What is to be paired, and how.
        ephemeral: 32 fresh random bytes.
        emit: Takes effects, in order.

    Attributes:
        over: Nothing more comes of it.
        session: The connection that pairs, or None.
    """

    def __init__(
        self,
        plan: Meet,
        keys: DeviceKeys,
        ephemeral: bytes,
        emit: Callable[[Effect], None],
        now_ms: int,
    ):
        self.over = False
        self.session: int | None = None
        self._plan = plan
        self._keys = keys
        self._ephemeral = ephemeral
        self._emit = emit
        self._window = Window(plan.shared_keys, now_ms)
        self._pairing: Pairing | None = None
        self._handshake_ms = 0
        if plan.dials:
            emit(Reach(plan.addresses))

    @property
    def wake_ms(self) -> int | None:
        """When `tick` is to be called."""
        if self.over:
            return None
        if self._pairing is None:
            return self._window.closes_ms
        if self._pairing.state is State.HANDSHAKE:
            return min(self._handshake_ms, self._pairing.wake_ms)
        return self._pairing.wake_ms

    def shift(self, by_ms: int) -> None:
        """All times are other ones by this, since the clock was set."""
        self._window.shift(by_ms)
        self._handshake_ms += by_ms
        if self._pairing is not None:
            self._pairing.shift(by_ms)

    # -- connections -------------------------------------------------------------------------

    def admit(self, session: int, first: bytes, now_ms: int) -> bool:
        """Whether a stranger's first message is a try at the secret; it is then this meeting's connection."""
        if self._plan.dials or self.over or self._pairing is not None:
            return False
        shared_keys = self._window.admit(first, now_ms)
        if not shared_keys:
            return False
        self._begin(session, self._tried(first, shared_keys), now_ms)
        self.receive(first, now_ms)
        return True

    def _tried(self, first: bytes, shared_keys: Sequence[bytes]) -> bytes:
        """Which of the secrets a first message was made with; any, where it is none of them."""
        for shared_key in shared_keys:
            channel = Channel.pair(self._keys.noise_seed, shared_key, self._ephemeral, dials=False)
            with suppress(ProtocolViolation):
                channel.receive(first)
                return shared_key
        return shared_keys[0]

    def reached(self, session: int, now_ms: int) -> bool:
        """The connection that was asked for is open; whether it is still wanted."""
        if not self._plan.dials or self.over or self._pairing is not None:
            return False
        self._carry_out(self._begin(session, self._plan.shared_keys[0], now_ms).start())
        return True

    def unreached(self, reason: str) -> None:
        """There was no connection."""
        if self._plan.dials and not self.over and self._pairing is None:
            self._end(reason)

    def _begin(self, session: int, shared_key: bytes, now_ms: int) -> Pairing:
        self.session = session
        self._handshake_ms = now_ms + limits.HANDSHAKE_TIMEOUT_MS
        self._pairing = Pairing(
            self._keys,
            self._plan.record,
            shared_key,
            self._ephemeral,
            dials=self._plan.dials,
            now_ms=now_ms,
            expected=self._plan.expected,
            accepts=self._plan.accepts,
        )
        return self._pairing

    # -- what happens ------------------------------------------------------------------------

    def receive(self, data: bytes, now_ms: int) -> None:
        """A message came on its connection."""
        assert self._pairing is not None
        before = self._pairing.state
        effects = self._pairing.receive(data, now_ms)
        if before is State.HANDSHAKE and self._pairing.state not in (State.HANDSHAKE, State.ENDED):
            assert self.session is not None
            self._emit(Admitted(self.session))
        self._carry_out(effects)

    def closed(self) -> None:
        """Its connection is gone."""
        assert self._pairing is not None
        self._carry_out(self._pairing.closed())

    def decide(self, decision: Decision, now_ms: int) -> None:
        """What the person says to `Show`; of no use before it, or twice."""
        state = self._pairing.state if self._pairing is not None else None
        yes_too = decision is Decision.NO and state is State.WAITING
        if self._pairing is not None and (state in (State.DECIDING, State.AGREED) or yes_too):
            self._carry_out(self._pairing.decide(decision, now_ms))

    def leave(self, now_ms: int) -> None:
        """The person gave up."""
        self.decide(Decision.NO, now_ms)
        if not self.over:
            self._end("you ended it. Nothing was changed.")

    def tick(self, now_ms: int) -> None:
        """See whether it takes too long."""
        wake_ms = self.wake_ms
        if wake_ms is None or now_ms < wake_ms:
            return
        if self._pairing is None:
            self._end(_LATE)
        elif self._pairing.state is State.HANDSHAKE:
            self._end(_SILENT)
        else:
            self._carry_out(self._pairing.tick(now_ms))

    def _carry_out(self, effects: list[pairing.Effect]) -> None:
        """Do what the machine wants, the storing first: what goes out says that it is done."""
        paired = next((effect for effect in effects if isinstance(effect, Paired)), None)
        if paired is not None:
            try:
                self._plan.keep(paired.record)
            except StoreError:
                raise
            except MlogError as error:
                self._end(f"{error} Begin again with a new code.")
                return
        for effect in effects:
            match effect:
                case pairing.Send(data):
                    assert self.session is not None
                    self._emit(Send(self.session, data))
                case Ended(reason):
                    self._end(reason)
                case Paired():
                    self._emit(effect)
                    self._close()
                case pairing.Show():
                    self._emit(effect)

    def _end(self, reason: str) -> None:
        self._emit(Ended(reason))
        self._close()

    def _close(self) -> None:
        self.over = True
        if self.session is not None:
            self._emit(Close(self.session, _OVER))
