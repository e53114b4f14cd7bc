"""Pairing: two devices that share a one-use secret come to know each other.

Both ends run the same machine. After the handshake (XXpsk0, `mlog.protocol.channel`) each sends its
record, signed over the channel's binding: so what the other device's keys are is proven to whoever
holds the one-use secret. Both screens then show the other's name and the same four words. Whose
person has to say yes: the side that showed the secret, since somebody may have overheard it, and the
side whose person is the older one, since it takes the other one in. The third case, a younger side that
typed the secret, said yes by typing it. Both ends end in PAIRED, or no end believes anything:

    HANDSHAKE --(channel is open)--> AWAIT_RECORD --DeviceRecord--> DECIDING
    DECIDING --own yes--> WAITING --Confirm--> PAIRED
    DECIDING --Confirm--> AGREED  --own yes--> PAIRED
    DECIDING, WAITING, AGREED --Reject, own no, too late, closed--> ENDED

A secret is good for one handshake, on either side, and for PAIRING_LIFE_MS: whoever guesses has one
guess at 66 bits. If the last Confirm is lost on its way one end is PAIRED and the other one is not;
pairing once more puts that right, since storing a device again changes nothing.

Events are method calls, effects are returned; no sockets, clock or entropy. docs/protocol.md, 19.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import BadSignature, ProtocolViolation, UserError
from mlog.log import crypto
from mlog.log.crypto import DeviceKeys
from mlog.log.ids import DeviceId
from mlog.protocol.channel import PAIRING_MESSAGE_SIZES, PATTERN_PAIRING, Channel
from mlog.protocol.codes import FINGERPRINT_SIZE, LinkType, shown_words

__all__ = [
    "Confirm",
    "DeviceRecord",
    "Effect",
    "Ended",
    "Message",
    "Paired",
    "Pairing",
    "Reject",
    "Send",
    "Show",
    "State",
    "Window",
    "decode",
    "encode",
    "fingerprint",
    "make_record",
]

_VERSION: Final = 1
_LABEL: Final = "pairing"

_DOES: Final[Mapping[int, str]] = {
    LinkType.DEVICE: "'mlog pair' (for a device of one's own)",
    LinkType.PERSON: "'mlog invite' or 'mlog accept' (for another person)",
}

_Bytes16: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Bytes32: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=limits.SEQ_MAX)]
_Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=limits.NAME_SIZE_MAX_BYTES)]
_Address: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


# -- messages --------------------------------------------------------------------------------


class _Array(msgspec.Struct, frozen=True, array_like=True):
    """A message; a later version may append fields, which are ignored."""


class DeviceRecord(_Array, frozen=True, tag=1):
    """What a device says of itself, as in a trust file.

    Attributes:
        version: Of pairing.
        purpose: What is being paired, as in `LinkType`.
        name, person: What device and person are called.
        topic, founded_ms: Of the person log that the device writes to, and of its first entry.
        devices: How many devices that person has.
        addresses: Where the device can be reached, as HOST:PORT.
        signature: By the device, over the channel's binding and all other fields.
    """

    version: _Count
    purpose: _Count
    device: _Bytes32
    noise: _Bytes32
    hpke: Annotated[bytes, msgspec.Meta(min_length=1216, max_length=1216)]
    name: _Name
    person: _Name
    topic: _Bytes16
    founded_ms: _Count
    devices: _Count
    addresses: Annotated[tuple[_Address, ...], msgspec.Meta(max_length=limits.ADDRESSES_MAX)] = ()
    signature: Annotated[bytes, msgspec.Meta(max_length=crypto.SIGNATURE_SIZE)] = b""

    def signed(self, binding: bytes) -> bytes:
        """What the signature is over: the binding and every field but itself, each as LENGTH:BYTES,"""
        fields: tuple[bytes | str | int, ...] = (
            binding,
            self.version,
            self.purpose,
            self.device,
            self.noise,
            self.hpke,
            self.name,
            self.person,
            self.topic,
            self.founded_ms,
            self.devices,
            b"".join(_netstring(address) for address in self.addresses),
        )
        return b"".join(_netstring(field) for field in fields)

    @property
    def age(self) -> tuple[int, bytes]:
        """Sorts persons, the oldest first."""
        return self.founded_ms, self.topic


class Confirm(_Array, frozen=True, tag=2):
    """The person at this end says yes, or has said so by typing the secret."""


class Reject(_Array, frozen=True, tag=3):
    """The person at this end says no."""


Message: TypeAlias = DeviceRecord | Confirm | Reject

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The bytes of one message."""
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message:
    """Parse one message.

    Raises:
        ProtocolViolation: Too long, or not of this form.
    """
    if len(data) > limits.PAIRING_MESSAGE_SIZE_MAX_BYTES:
        raise ProtocolViolation(f"a pairing message of {len(data)} bytes")
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(f"a pairing message: {error}") from None


def _netstring(value: bytes | str | int) -> bytes:
    encoded = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:%b," % (len(encoded), encoded)


def fingerprint(device: bytes, noise: bytes, hpke: bytes) -> bytes:
    """What a link says of the keys of the device that made it."""
    hashed = crypto.hash_with_context("device fingerprint", device + noise + hpke)
    return hashed[:FINGERPRINT_SIZE]


def make_record(
    keys: DeviceKeys,
    *,
    purpose: LinkType,
    name: str,
    person: str,
    topic: bytes,
    founded_ms: int,
    devices: int,
    addresses: tuple[str, ...] = (),
) -> DeviceRecord:
    """What this device says of itself; it is signed once the channel is there."""
    return DeviceRecord(
        version=_VERSION,
        purpose=purpose,
        device=keys.id,
        noise=keys.noise_public,
        hpke=keys.hpke_public,
        name=name,
        person=person,
        topic=topic,
        founded_ms=founded_ms,
        devices=devices,
        addresses=addresses,
    )


# -- effects ---------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """Send one binary websocket message."""

    data: bytes


class Show(msgspec.Struct, frozen=True, kw_only=True):
    """Show the person who is at the other end.

    Attributes:
        words: The same four at both ends.
        asks: The person has to say yes or no (`Pairing.decide`).
    """

    record: DeviceRecord
    words: tuple[str, ...]
    asks: bool


class Paired(msgspec.Struct, frozen=True):
    """Both ends said yes: store the device, then close the connection."""

    record: DeviceRecord


class Ended(msgspec.Struct, frozen=True):
    """It came to nothing; close the connection, and begin again with a new secret.

    Attributes:
        reason: For the person.
    """

    reason: str


Effect: TypeAlias = Send | Show | Paired | Ended


# -- the machine -----------------------------------------------------------------------------


class State(Enum):
    """How far a pairing is."""

    HANDSHAKE = "handshake"
    AWAIT_RECORD = "waits for the other's record"
    DECIDING = "nobody has said yes"
    WAITING = "this end said yes"
    AGREED = "the other end said yes"
    PAIRED = "paired"
    ENDED = "ended"


class Decision(Enum):
    """What the person at this end says."""

    YES = "yes"
    NO = "no"


TRANSITIONS: Final[Mapping[tuple[State, type[Message] | Decision], State]] = {
    (State.AWAIT_RECORD, DeviceRecord): State.DECIDING,
    (State.DECIDING, Confirm): State.AGREED,
    (State.WAITING, Confirm): State.PAIRED,
    (State.DECIDING, Reject): State.ENDED,
    (State.WAITING, Reject): State.ENDED,
    (State.AGREED, Reject): State.ENDED,
    (State.DECIDING, Decision.YES): State.WAITING,
    (State.AGREED, Decision.YES): State.PAIRED,
    (State.DECIDING, Decision.NO): State.ENDED,
    (State.WAITING, Decision.NO): State.ENDED,
    (State.AGREED, Decision.NO): State.ENDED,
}
"""Every other pair is refused: a message then ends the pairing, a decision is a defect."""


class Pairing:
    """One end of one pairing: one connection, one try. Every method returns effects to carry out in order.

    Args:
        keys: Of this device.
        record: Of `make_record`.
        shared_key: Of the code or link; good for this handshake only.
        ephemeral: 32 fresh random bytes.
        dials: This end dialled: it has the secret of the other one.
        expected: Fingerprint of the other device, where a link says it.
        accepts: Raises `UserError` where this device cannot be paired with the other one, and why.
        now_ms: When it begins.
    """

    def __init__(
        self,
        keys: DeviceKeys,
        record: DeviceRecord,
        shared_key: bytes,
        ephemeral: bytes,
        *,
        dials: bool,
        now_ms: int,
        expected: bytes | None = None,
        accepts: Callable[[DeviceRecord], object] = lambda _: None,
    ):
        self.state = State.HANDSHAKE
        self.wake_ms = now_ms + limits.PAIRING_LIFE_MS
        self._keys = keys
        self._own = record
        self._dials = dials
        self._expected = expected
        self._accepts = accepts
        self._channel = Channel.pair(keys.noise_seed, shared_key, ephemeral, dials=dials)
        self._peer: DeviceRecord | None = None
        self._effects: list[Effect] = []

    def start(self) -> list[Effect]:
        """Begin, at the end that dialled."""
        assert self._dials
        self._effects.append(Send(self._channel.start()))
        return self._flush()

    def receive(self, data: bytes, now_ms: int) -> list[Effect]:
        """Take one websocket message."""
        if self._is_over(now_ms):
            return self._flush()
        try:
            if self.state is State.HANDSHAKE:
                self._shake(data)
            else:
                for message in self._channel.receive(data):
                    self._take(decode(message))
        except ProtocolViolation as error:
            self._end(_explained(str(error), self.state, dials=self._dials))
        return self._flush()

    def decide(self, decision: Decision, now_ms: int) -> list[Effect]:
        """What the person says to `Show`. No ends it, also after a yes, as long as the other end waits."""
        if self._is_over(now_ms):
            return self._flush()
        self._decide(decision)
        return self._flush()

    def tick(self, now_ms: int) -> list[Effect]:
        """See whether it takes too long; to be called at `wake_ms`."""
        self._is_over(now_ms)
        return self._flush()

    def shift(self, by_ms: int) -> None:
        """All times are other ones by this, since the clock was set."""
        self.wake_ms += by_ms

    def closed(self) -> list[Effect]:
        """The connection is gone."""
        if self.state is State.HANDSHAKE:
            self._end(_WRONG_TYPED if self._dials else _WRONG_SHOWN)
        elif self.state not in (State.PAIRED, State.ENDED):
            self._end("the other device hung up. Nothing was changed; begin again with a new code.")
        return self._flush()

    # -- steps -------------------------------------------------------------------------------

    def _shake(self, data: bytes) -> None:
        self._channel.receive(data)
        if not self._channel.established:
            self._effects.append(Send(self._channel.accept()))
        if self._channel.established:
            self.state = State.AWAIT_RECORD
            signature = self._keys.sign(_LABEL, self._own.signed(self._channel.binding))
            self._send(msgspec.structs.replace(self._own, signature=signature))

    def _take(self, message: Message) -> None:
        following = TRANSITIONS.get((self.state, type(message)))
        if following is None:
            raise ProtocolViolation(f"{type(message).__name__} while it {self.state.value}")
        if isinstance(message, DeviceRecord):
            self._check(message)
            try:
                self._accepts(message)
            except UserError as error:
                self._send(Reject())
                self._end(f"{error} Nothing was changed.")
                return
            self._peer = message
            self.state = following
            self._show(message)
        elif isinstance(message, Reject):
            self._end("the other device said no; its screen may say why. Nothing was changed.")
        else:
            self.state = following
            self._finish()

    def _check(self, record: DeviceRecord) -> None:
        """That the other end is who its record says.

        Raises:
            ProtocolViolation: It is not, or not what is expected here.
        """
        if record.version != _VERSION:
            raise ProtocolViolation("the other device has another version of mlog. Use the same on both")
        if record.purpose != self._own.purpose:
            here, there = _DOES[self._own.purpose], _DOES.get(record.purpose, "something newer")
            raise ProtocolViolation(
                f"the other device runs {there}, and this one {here}. Run the same on both"
            )
        if record.device == self._own.device:
            raise ProtocolViolation("this is this device itself. Type the code on another one")
        if record.noise != self._channel.peer_noise_public:
            raise ProtocolViolation("the other device's keys do not fit together")
        if self._expected not in (None, fingerprint(record.device, record.noise, record.hpke)):
            raise ProtocolViolation("the device that answered is not the one that made the link")
        try:
            signed = record.signed(self._channel.binding)
            crypto.verify_signature(DeviceId(record.device), _LABEL, signed, record.signature)
        except (BadSignature, UnicodeEncodeError):
            raise ProtocolViolation("the other device's record is not signed by it") from None

    def _show(self, record: DeviceRecord) -> None:
        asks = not self._dials or self._own.age < record.age
        words = shown_words(self._channel.binding)
        self._effects.append(Show(record=record, words=words, asks=asks))
        if not asks:
            self._decide(Decision.YES)

    def _decide(self, decision: Decision) -> None:
        following = TRANSITIONS.get((self.state, decision))
        assert following is not None, f"{decision.value} while it {self.state.value}"
        if decision is Decision.NO:
            self._send(Reject())
            self._end("you said no. Nothing was changed.")
            return
        self._send(Confirm())
        self.state = following
        self._finish()

    def _finish(self) -> None:
        if self.state is State.PAIRED:
            assert self._peer is not None
            self._effects.append(Paired(self._peer))

    def _is_over(self, now_ms: int) -> bool:
        if self.state in (State.PAIRED, State.ENDED):
            return True
        if now_ms < self.wake_ms:
            return False
        self._end("it took longer than two minutes. Nothing was changed; begin again with a new code.")
        return True

    def _end(self, reason: str) -> None:
        self.state = State.ENDED
        self._effects.append(Ended(reason))

    def _send(self, message: Message) -> None:
        self._effects += [Send(frame) for frame in self._channel.seal(encode(message))]

    def _flush(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects


# Which of several things is wrong is nobody's business: most often a word is.
_WRONG_TYPED: Final = (
    "the code is not the one that the other device shows, or was used before, or is not shown there any "
    "more. Nothing was changed; begin again there, with a new code."
)
_WRONG_SHOWN: Final = (
    "somebody tried another code than the one that is shown here, and each is good for one try. Nothing was "
    "changed; begin again with a new code."
)


def _explained(reason: str, state: State, *, dials: bool) -> str:
    if state is State.HANDSHAKE:
        return _WRONG_TYPED if dials else _WRONG_SHOWN
    return f"{reason}. Nothing was changed; begin again with a new code."


class Window:
    """The time in which one stranger may try the secrets that are shown.

    A connection's first message is shown to `admit`; what does not get in is to be closed without an
    answer, as all strangers are while nothing is open.

    Args:
        shared_keys: Of the code and the link that are shown.
        now_ms: When it opens.
    """

    def __init__(self, shared_keys: tuple[bytes, ...], now_ms: int):
        self.closes_ms = now_ms + limits.PAIRING_LIFE_MS
        self._shared_keys = shared_keys

    def shift(self, by_ms: int) -> None:
        """All times are other ones by this, since the clock was set."""
        self.closes_ms += by_ms

    def is_open(self, now_ms: int) -> bool:
        """Nobody tried, and it is not too late."""
        if now_ms >= self.closes_ms:
            self._shared_keys = ()
        return bool(self._shared_keys)

    def admit(self, first: bytes, now_ms: int) -> tuple[bytes, ...]:
        """The keys of the secrets for this connection, once; else none.

        Args:
            first: Its first message. One that is no try at all leaves the window open.
        """
        tries = first[:1] == PATTERN_PAIRING and len(first) == PAIRING_MESSAGE_SIZES[0]
        if not tries or not self.is_open(now_ms):
            return ()
        shared_keys, self._shared_keys = self._shared_keys, ()
        return shared_keys
