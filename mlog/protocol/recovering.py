"""Recovering: a device that has nothing but a recovery phrase meets one that holds the person's log.

    has the phrase                                       holder
    dial()    --  psk, e, (time, signature)    -->       answer(): opens it, checks both, knows who that is
              <--  e, ee, se, s, es, (device id)  --     and lets the phrase's device in, as any of its person

The holder is a device of the same person, or of one that meets it: a contact, a member of a conversation.

Who dials does not know who is there: the key that opens the first message follows from the phrase's public
keys, which only those know who know the person's log; the signature shows that it comes from whoever has
the phrase, since those could make the rest. The answer can be read with the phrase's own key only. So a
holder gives nobody else a byte, and nobody but the phrase learns which device it is. What comes then is an
ordinary session (mlog/protocol/session.py). docs/protocol.md, 21.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from struct import Struct
from typing import Final

from mlog import limits
from mlog.errors import BadSignature, ProtocolViolation
from mlog.log import crypto
from mlog.log.crypto import DeviceKeys
from mlog.log.person import Member
from mlog.log.phrase import meeting_key
from mlog.protocol.channel import KEY_SIZE, PATTERN_RECOVERY, RECOVERY_MESSAGE_SIZES, Channel

__all__ = ["answer", "dial", "is_recovery"]

_LABEL: Final = "recovery"
_TIME: Final = Struct(">Q")


def dial(keys: DeviceKeys, ephemeral: bytes, now_ms: int) -> Channel:
    """The end that has the phrase.

    Args:
        keys: Of the phrase.
        ephemeral: 32 fresh random bytes.
    """
    time = _TIME.pack(max(now_ms, 0))
    signature = keys.sign(_LABEL, _public_of(ephemeral) + time)
    shared_key = meeting_key(keys.id, keys.noise_public, keys.hpke_public)
    return Channel.recover(keys.noise_seed, shared_key, ephemeral, time + signature)


def is_recovery(first: bytes) -> bool:
    """Whether a connection's first message is of the form that `dial` makes."""
    return first[:1] == PATTERN_RECOVERY and len(first) == RECOVERY_MESSAGE_SIZES[0]


def answer(
    keys: DeviceKeys, phrases: Iterable[Member], first: bytes, ephemeral: bytes, now_ms: int
) -> tuple[Channel, Member] | None:
    """The end that was dialled: the channel, which waits for its first message, and whose phrase it is.

    None where the message is made with none of these phrases, not by who has it, or at another time: then
    nothing is answered.

    Args:
        keys: Of this device.
        phrases: Those that are trusted here.
        first: Of which `is_recovery` holds.
        ephemeral: 32 fresh random bytes.
    """
    for phrase in islice(phrases, limits.PHRASES_TRIED_MAX):
        shared_key = meeting_key(phrase.device, phrase.noise, phrase.hpke)

        def end(shared_key: bytes = shared_key, noise: bytes = phrase.noise) -> Channel:
            return Channel.hold(keys.noise_seed, shared_key, ephemeral, noise, keys.id)

        tried = end()
        with suppress(ProtocolViolation):
            tried.receive(first)
            if _is_proof(phrase, first[1 : 1 + KEY_SIZE], tried.carried, now_ms):
                return end(), phrase
    return None


def _is_proof(phrase: Member, ephemeral_public: bytes, proof: bytes, now_ms: int) -> bool:
    time, signature = proof[: _TIME.size], proof[_TIME.size :]
    (time_ms,) = _TIME.unpack(time)
    if abs(time_ms - now_ms) > limits.RECOVERY_CLOCK_MAX_MS:
        return False
    try:
        crypto.verify_signature(phrase.device, _LABEL, ephemeral_public + time, signature)
    except BadSignature:
        return False
    return True


def _public_of(ephemeral: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(ephemeral).public_key().public_bytes_raw()
