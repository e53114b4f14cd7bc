"""The secured channel of a session: Noise inside the binary messages of one websocket.

Bytes in, bytes out; no socket, no clock, no entropy. Devices that know each other connect with the
IK pattern of Noise:

    initiator                                              responder
    IDLE  --start()-->  e, es, s, ss     ---->             LISTENING --receive()--> ASKED
    SENT  <--receive()--                 <----  e, ee, se  ASKED     --accept()-->  OPEN
    OPEN  <---- frames, each one Noise transport message, both ways ---->           OPEN

Devices that do not know each other yet, and share a one-use key, connect with the pattern XXpsk0:

    IDLE     --start()-->    psk, e        ---->               LISTENING --receive()--> ASKED
    SENT     <--receive()--  <----         e, ee, s, es        ASKED     --accept()-->  REPLIED
    ANSWERED --accept()-->   s, se         ---->               REPLIED   --receive()--> OPEN

A device that has nothing but a recovery phrase, and a holder that knows who that is, connect with the
pattern KXpsk0, whose two messages go as those of IK do. The first one carries a signature of the phrase's
key (`recovery_proof`), the second one the name of the device that answers.

What breaks a rule closes the channel for good. A message 1 can be a copy of an earlier one, so the
responder believes who is there (`confirmed`) only once a frame came that needed its own fresh key.
Bytes, bounds and what each side may conclude: docs/protocol.md, 11, 19 and 21.

This is the only module that imports the `noise` package, which is no longer maintained: what is used
of it is held to the published vectors, or where there are none (KXpsk0) to the specification written out
again (test_second_recovery.py), and none of its exceptions gets out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple, Self, TypeVar

from cryptography.exceptions import InvalidTag

from mlog import limits
from mlog.errors import LimitExceeded, ProtocolViolation
from mlog.log import crypto

__all__ = [
    "CHUNK_SIZE",
    "FIRST_MESSAGE_SIZE",
    "PAIRING_MESSAGE_SIZES",
    "PATTERN_PAIRING",
    "PATTERN_RECOVERY",
    "RECOVERY_MESSAGE_SIZES",
    "SECOND_MESSAGE_SIZE",
    "Channel",
    "State",
    "Step",
]

KEY_SIZE: Final = 32

PATTERN_IK: Final = b"\x01"
"""First byte of the first websocket message of either side: the pattern, and its version."""

PATTERN_PAIRING: Final = b"\x02"
"""As PATTERN_IK, where the two devices do not know each other yet."""

PATTERN_RECOVERY: Final = b"\x03"
"""As PATTERN_IK, where the one who dials knows nothing but a recovery phrase."""

FIRST_MESSAGE_SIZE: Final = 1 + KEY_SIZE + (KEY_SIZE + crypto.TAG_SIZE) + crypto.TAG_SIZE
SECOND_MESSAGE_SIZE: Final = 1 + KEY_SIZE + crypto.TAG_SIZE
"""Exact, since both payloads are empty: another length is refused before it costs a key agreement."""

PAIRING_MESSAGE_SIZES: Final = (
    1 + KEY_SIZE + crypto.TAG_SIZE,
    1 + KEY_SIZE + (KEY_SIZE + crypto.TAG_SIZE) + crypto.TAG_SIZE,
    1 + (KEY_SIZE + crypto.TAG_SIZE) + crypto.TAG_SIZE,
)
"""As FIRST_MESSAGE_SIZE, of the three messages of XXpsk0."""

RECOVERY_PROOF_SIZE: Final = 8 + crypto.SIGNATURE_SIZE

RECOVERY_MESSAGE_SIZES: Final = (
    1 + KEY_SIZE + RECOVERY_PROOF_SIZE + crypto.TAG_SIZE,
    1 + KEY_SIZE + (KEY_SIZE + crypto.TAG_SIZE) + KEY_SIZE + crypto.TAG_SIZE,
)
"""As FIRST_MESSAGE_SIZE, of the two messages of KXpsk0 with what they carry."""

CHUNK_SIZE: Final = limits.FRAME_SIZE_MAX_BYTES - crypto.TAG_SIZE - 1
"""Most bytes of an application message in one frame; every frame but a message's last has as many."""

_PROTOCOL: Final = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
_PAIRING_PROTOCOL: Final = b"Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s"
_RECOVERY_PROTOCOL: Final = b"Noise_KXpsk0_25519_ChaChaPoly_BLAKE2s"
_PROLOGUE: Final = b"mlog v1 session"
_LAST: Final = b"\x00"
_MORE: Final = b"\x01"
_FRAME_SIZE_MIN: Final = 1 + crypto.TAG_SIZE

_T = TypeVar("_T")


class State(Enum):
    """How far a channel is."""

    IDLE = "not started"
    SENT = "message 1 sent"
    LISTENING = "waits for message 1"
    ASKED = "message 1 here, not answered"
    REPLIED = "message 2 sent"
    ANSWERED = "message 2 here, not answered"
    OPEN = "open"
    CLOSED = "closed"


class Step(Enum):
    """What can be done with a channel: its methods."""

    START = "start"
    RECEIVE = "receive"
    ACCEPT = "accept"
    SEAL = "seal"


TRANSITIONS: Final[Mapping[tuple[State, Step], State]] = {
    (State.IDLE, Step.START): State.SENT,
    (State.SENT, Step.RECEIVE): State.OPEN,
    (State.LISTENING, Step.RECEIVE): State.ASKED,
    (State.ASKED, Step.ACCEPT): State.OPEN,
    (State.OPEN, Step.RECEIVE): State.OPEN,
    (State.OPEN, Step.SEAL): State.OPEN,
}
"""Every other pair is refused: what the peer sends then breaks the rules, what this side does is a defect."""

PAIRING_TRANSITIONS: Final[Mapping[tuple[State, Step], State]] = {
    (State.IDLE, Step.START): State.SENT,
    (State.SENT, Step.RECEIVE): State.ANSWERED,
    (State.ANSWERED, Step.ACCEPT): State.OPEN,
    (State.LISTENING, Step.RECEIVE): State.ASKED,
    (State.ASKED, Step.ACCEPT): State.REPLIED,
    (State.REPLIED, Step.RECEIVE): State.OPEN,
    (State.OPEN, Step.RECEIVE): State.OPEN,
    (State.OPEN, Step.SEAL): State.OPEN,
}
"""As TRANSITIONS, of the pattern with three messages."""


class _Pattern(NamedTuple):
    """What differs between the patterns.

    Attributes:
        sizes: Of the handshake messages, in order.
        refusals: What is said of each one that does not open.
    """

    byte: bytes
    protocol: bytes
    sizes: tuple[int, ...]
    refusals: tuple[str, ...]
    transitions: Mapping[tuple[State, Step], State]


_IK: Final = _Pattern(
    PATTERN_IK,
    _PROTOCOL,
    (FIRST_MESSAGE_SIZE, SECOND_MESSAGE_SIZE),
    ("a handshake for another device", "the device that answered is another one"),
    TRANSITIONS,
)
_PAIRING: Final = _Pattern(
    PATTERN_PAIRING,
    _PAIRING_PROTOCOL,
    PAIRING_MESSAGE_SIZES,
    ("a handshake with another code",) * 3,
    PAIRING_TRANSITIONS,
)
_RECOVERY: Final = _Pattern(
    PATTERN_RECOVERY,
    _RECOVERY_PROTOCOL,
    RECOVERY_MESSAGE_SIZES,
    ("a handshake with another recovery phrase", "whoever answered does not know this recovery phrase"),
    TRANSITIONS,
)


class Channel:
    """One end of a channel, made by `initiate` or `respond`.

    Any `ProtocolViolation` that a method raises leaves the channel closed: from then on every method
    raises it. Its message says what was wrong and holds nothing secret.

    Attributes:
        state: How far it is.
        confirmed: The peer holds its key and takes part now. Of the initiator, and of both where they
            pair, this is so once the channel is open; of a responder that was dialled by a device that
            it knows, once the first frame was opened. Before, a responder may send what only the peer
            can open, but must not act, or tell people, as if it were there.
        peer_noise_public: X25519 public key of the peer, 32 bytes; None until a message brought it.
        carried: What the peer's handshake message carried beside its keys.
    """

    def __init__(
        self,
        pattern: _Pattern,
        handshake: _Handshake,
        state: State,
        peer_noise_public: bytes | None = None,
        carries: bytes = b"",
    ):
        self.carried = b""
        self._carries = carries
        self.state = state
        self.confirmed = False
        self.peer_noise_public = peer_noise_public
        self._pattern = pattern
        self._shaken = 0
        self._handshake: _Handshake | None = handshake
        self._sending: _Cipher | None = None
        self._receiving: _Cipher | None = None
        self._binding: bytes | None = None
        self._parts: list[memoryview] = []
        self._parts_size = 0

    @classmethod
    def initiate(cls, noise_seed: bytes, peer_noise_public: bytes, ephemeral: bytes) -> Self:
        """The end that dials.

        Args:
            noise_seed: Own X25519 private key (`DeviceKeys.noise_seed`).
            peer_noise_public: X25519 public key of the device that should answer.
            ephemeral: 32 fresh random bytes, never used for another channel.
        """
        prologue = _PROLOGUE + PATTERN_IK
        handshake = _Handshake(_PROTOCOL, prologue, noise_seed, ephemeral, peer_public=peer_noise_public)
        return cls(_IK, handshake, State.IDLE, peer_noise_public)

    @classmethod
    def respond(cls, noise_seed: bytes, ephemeral: bytes) -> Self:
        """The end that was dialled; arguments as of `initiate`."""
        handshake = _Handshake(_PROTOCOL, _PROLOGUE + PATTERN_IK, noise_seed, ephemeral)
        return cls(_IK, handshake, State.LISTENING)

    @classmethod
    def pair(cls, noise_seed: bytes, shared_key: bytes, ephemeral: bytes, *, dials: bool) -> Self:
        """An end that pairs: it knows nothing of the other one but a key that is good for one handshake.

        Args:
            shared_key: 32 bytes (`mlog.protocol.codes`).
            dials: Whether this end dialled; other arguments as of `initiate`.
        """
        prologue = _PROLOGUE + PATTERN_PAIRING
        handshake = _Handshake(
            _PAIRING_PROTOCOL, prologue, noise_seed, ephemeral, shared_key=shared_key, initiator=dials
        )
        return cls(_PAIRING, handshake, State.IDLE if dials else State.LISTENING)

    @classmethod
    def recover(cls, noise_seed: bytes, shared_key: bytes, ephemeral: bytes, proof: bytes) -> Self:
        """The end that dials with a recovery phrase, to whoever knows it.

        Args:
            noise_seed: Of the phrase's keys.
            shared_key: 32 bytes (`mlog.log.phrase.meeting_key`).
            proof: RECOVERY_PROOF_SIZE bytes; other arguments as of `initiate`.
        """
        assert len(proof) == RECOVERY_PROOF_SIZE
        prologue = _PROLOGUE + PATTERN_RECOVERY
        handshake = _Handshake(
            _RECOVERY_PROTOCOL, prologue, noise_seed, ephemeral, shared_key=shared_key, initiator=True
        )
        return cls(_RECOVERY, handshake, State.IDLE, carries=proof)

    @classmethod
    def hold(
        cls, noise_seed: bytes, shared_key: bytes, ephemeral: bytes, phrase_public: bytes, device: bytes
    ) -> Self:
        """The end that is dialled with a recovery phrase that it knows.

        Args:
            phrase_public: X25519 public key of the phrase.
            device: Own device id, which the answer carries; other arguments as of `recover`.
        """
        assert len(device) == KEY_SIZE
        prologue = _PROLOGUE + PATTERN_RECOVERY
        handshake = _Handshake(
            _RECOVERY_PROTOCOL,
            prologue,
            noise_seed,
            ephemeral,
            shared_key=shared_key,
            initiator_public=phrase_public,
        )
        return cls(_RECOVERY, handshake, State.LISTENING, phrase_public, carries=device)

    @property
    def established(self) -> bool:
        """Messages can be sealed and received."""
        return self.state is State.OPEN

    @property
    def binding(self) -> bytes:
        """32 bytes that both ends share once they are open, and that differ in every session."""
        assert self._binding is not None, "no binding before the channel is open"
        return self._binding

    def start(self) -> bytes:
        """The first websocket message, of the initiator.

        Raises:
            ProtocolViolation: The peer's public key is one that no device can have.
        """
        following = self._following(Step.START)
        message = self._shake(
            lambda handshake: handshake.write(self._carries), "the peer's public key is unusable"
        )
        self.state = following
        self._shaken += 1
        return self._pattern.byte + message

    def receive(self, data: bytes) -> list[bytes]:
        """Take one websocket message.

        Returns:
            The application messages that this completes, in order: none for a part of one, or of the
            handshake. Whose turn it then is calls `accept` or drops the channel.

        Raises:
            ProtocolViolation: Altered, repeated, out of order, too long, not of this form, or not due.
        """
        following = self._following(Step.RECEIVE)
        if self.state is State.OPEN:
            return self._open_frame(data)
        self._read_handshake(data)
        self.state = following
        if following is State.OPEN:
            self._split()
            self.confirmed = True
        return []

    def accept(self) -> bytes:
        """The next message of the handshake, of an end that lets this peer in.

        Raises:
            ProtocolViolation: The peer's public keys are some that no device can have.
        """
        following = self._following(Step.ACCEPT)
        message = self._shake(
            lambda handshake: handshake.write(self._carries), "a public key of the peer is unusable"
        )
        self.state = following
        self._shaken += 1
        if following is State.OPEN:
            # Of IK this is message 2, after which the peer has not yet shown that it is there now.
            self.confirmed = self._pattern is _PAIRING
            self._split()
        return self._pattern.byte + message

    def seal(self, message: bytes) -> list[bytes]:
        """One application message as websocket messages, to be sent in this order.

        Raises:
            LimitExceeded: Longer than MESSAGE_SIZE_MAX_BYTES; nothing was sealed.
            ProtocolViolation: The channel is closed.
        """
        self._following(Step.SEAL)
        if len(message) > limits.MESSAGE_SIZE_MAX_BYTES:
            raise LimitExceeded(f"a message of {len(message)} bytes is too long for the channel")
        if len(message) <= CHUNK_SIZE:
            return [self._seal_frame(_LAST + message)]
        view = memoryview(message)
        last = (len(message) - 1) // CHUNK_SIZE * CHUNK_SIZE
        frames = [
            self._seal_frame(b"".join((_MORE, view[start : start + CHUNK_SIZE])))
            for start in range(0, last, CHUNK_SIZE)
        ]
        frames.append(self._seal_frame(b"".join((_LAST, view[last:]))))
        return frames

    # -- handshake ---------------------------------------------------------------------------

    def _read_handshake(self, data: bytes) -> None:
        if data[:1] != self._pattern.byte:
            raise self._violation("a handshake of an unknown kind")
        if len(data) != self._pattern.sizes[self._shaken]:
            raise self._violation(f"a handshake message of {len(data)} bytes")
        refusal = self._pattern.refusals[self._shaken]
        self.carried = self._shake(lambda handshake: handshake.read(data[1:]), refusal)
        self._shaken += 1
        assert self._handshake is not None
        self.peer_noise_public = self._handshake.peer_public

    def _shake(self, step: Callable[[_Handshake], _T], refusal: str) -> _T:
        assert self._handshake is not None
        try:
            return step(self._handshake)
        except _Refused:
            raise self._violation(refusal) from None

    def _split(self) -> None:
        """Keep what the frames need, and let go of the handshake's secrets."""
        assert self._handshake is not None
        handshake_hash, self._sending, self._receiving = self._handshake.split()
        self._binding = crypto.derive("session", handshake_hash)
        self._handshake = None

    # -- frames ------------------------------------------------------------------------------

    def _seal_frame(self, plain: bytes) -> bytes:
        assert self._sending is not None
        try:
            return self._sending.seal(plain)
        except _Refused:
            raise self._violation("the channel has carried as many frames as one key may seal") from None

    def _open_frame(self, frame: bytes) -> list[bytes]:
        if not _FRAME_SIZE_MIN <= len(frame) <= limits.FRAME_SIZE_MAX_BYTES:
            raise self._violation(f"a frame of {len(frame)} bytes")
        assert self._receiving is not None
        try:
            plain = self._receiving.open(frame)
        except _Refused:
            raise self._violation("a frame that was altered, lost, repeated or out of order") from None
        self.confirmed = True
        if plain[:1] == _LAST and not self._parts:
            return [plain[1:]]
        return self._add_part(plain)

    def _add_part(self, plain: bytes) -> list[bytes]:
        """Only the cut that `seal` makes is taken: so each part that is kept pays for its bookkeeping."""
        marker, part = plain[:1], memoryview(plain)[1:]
        size = self._parts_size + len(part)
        if marker == _MORE and len(part) == CHUNK_SIZE and size < limits.MESSAGE_SIZE_MAX_BYTES:
            self._parts.append(part)
            self._parts_size = size
            return []
        if marker == _LAST and len(part) > 0 and size <= limits.MESSAGE_SIZE_MAX_BYTES:
            message = b"".join((*self._parts, part))
            self._parts, self._parts_size = [], 0
            return [message]
        if size > limits.MESSAGE_SIZE_MAX_BYTES - (marker == _MORE):
            raise self._violation(f"a message of more than {limits.MESSAGE_SIZE_MAX_BYTES} bytes")
        raise self._violation("a frame that is not cut by the rules")

    # -- both --------------------------------------------------------------------------------

    def _following(self, step: Step) -> State:
        following = self._pattern.transitions.get((self.state, step))
        if following is not None:
            return following
        if self.state is State.CLOSED:
            raise ProtocolViolation("the channel is closed")
        assert step is Step.RECEIVE, f"{step.value} of a channel that is {self.state.value}"
        raise self._violation(f"a message while the handshake is at: {self.state.value}")

    def _violation(self, reason: str) -> ProtocolViolation:
        """The error to raise; closes the channel and lets go of its keys and parts."""
        self.state = State.CLOSED
        self._handshake = self._sending = self._receiving = None
        self._parts, self._parts_size = [], 0
        return ProtocolViolation(reason)


class _Refused(Exception):
    """The noise package would not go on; why does not matter, and may depend on secrets."""


class _Cipher:
    """Seals or opens the frames of one direction, in order.

    The package's own cipher state, whose key object lives as long as it does: a frame of 65,535 bytes
    costs 3 us more than the cipher alone, which takes 20. It counts the nonces (4 zero bytes, then the
    number of the frame as a little-endian u64) and refuses the last one, which Noise keeps free.
    """

    def __init__(self, state: Any):
        from noise.exceptions import NoiseMaxNonceError

        self._state = state
        self._refusals = (InvalidTag, NoiseMaxNonceError)

    def seal(self, plain: bytes) -> bytes:
        try:
            return self._state.encrypt_with_ad(None, plain)
        except self._refusals:
            raise _Refused from None

    def open(self, frame: bytes) -> bytes:
        try:
            return self._state.decrypt_with_ad(None, frame)
        except self._refusals:
            raise _Refused from None


class _Handshake:
    """A Noise handshake of the package, with the ephemeral key given.

    Args:
        prologue: Both ends must have the same.
        peer_public: Given, this is the initiator of IK.
        shared_key: Of a pattern with a pre-shared key.
        initiator: Whether it is, where the pattern does not tell.
        initiator_public: Given, this is the responder of KX.
    """

    def __init__(
        self,
        protocol: bytes,
        prologue: bytes,
        noise_seed: bytes,
        ephemeral: bytes,
        *,
        peer_public: bytes | None = None,
        shared_key: bytes | None = None,
        initiator: bool = False,
        initiator_public: bytes | None = None,
    ):
        from noise.connection import Keypair, NoiseConnection

        assert len(noise_seed) == len(ephemeral) == KEY_SIZE
        assert all(key is None or len(key) == KEY_SIZE for key in (peer_public, shared_key, initiator_public))
        self._connection: Any = NoiseConnection.from_name(protocol)
        if shared_key is not None:
            self._connection.set_psks(shared_key)
        if initiator or peer_public is not None:
            self._connection.set_as_initiator()
        else:
            self._connection.set_as_responder()
        known_public = peer_public if peer_public is not None else initiator_public
        if known_public is not None:
            self._connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, known_public)
        self._connection.set_prologue(prologue)
        self._connection.set_keypair_from_private_bytes(Keypair.STATIC, noise_seed)
        self._connection.start_handshake()
        # Set after the start, since the package warns of an ephemeral key that is set before. With one
        # in place neither role draws a key of its own (HandshakeState.write_message).
        # Kept, because the package lets go of it with the last message, which may bring a key.
        self._state = self._connection.noise_protocol.handshake_state
        self._state.e = self._connection.noise_protocol.keypair_class.from_private_bytes(ephemeral)

    @property
    def peer_public(self) -> bytes | None:
        """None until a message brought it."""
        return getattr(self._state.rs, "public_bytes", None)

    def write(self, payload: bytes = b"") -> bytes:
        return bytes(self._run(self._connection.write_message, payload))

    def read(self, message: bytes) -> bytes:
        return bytes(self._run(self._connection.read_message, message))

    def split(self) -> tuple[bytes, _Cipher, _Cipher]:
        """Handshake hash, sending cipher, receiving cipher; after the last message."""
        protocol = self._connection.noise_protocol
        return (
            self._connection.get_handshake_hash(),
            _Cipher(protocol.cipher_state_encrypt),
            _Cipher(protocol.cipher_state_decrypt),
        )

    def _run(self, step: Callable[[bytes], bytearray], data: bytes) -> bytearray:
        from noise.exceptions import NoiseValueError

        try:
            return step(data)
        except (InvalidTag, NoiseValueError, ValueError):
            # ValueError: a key agreement with a point of small order gives zeros.
            raise _Refused from None
