"""Grants: how a device gives another one of the same person the secrets of the logs that they share.

Sealed for the recipient and for one session. docs/protocol.md, 17.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded
from mlog.log import crypto
from mlog.log.crypto import EpochKeys, LogKeys
from mlog.log.ids import DeviceId, Topic
from mlog.log.people import follow, shared_logs
from mlog.log.person import Member
from mlog.log.store import LogKind

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = ["accept_grant", "grant_for", "grant_info"]

_Secret: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=limits.SEQ_MAX)]
"""Of an epoch; 0 is the one that follows from the log's secret."""


class _Granted(msgspec.Struct, frozen=True, array_like=True):
    """One log of a grant."""

    kind: str
    topic: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    secret: _Secret
    epochs: Annotated[tuple[tuple[_Number, _Secret], ...], msgspec.Meta(max_length=limits.EPOCHS_MAX)]


_Grant: TypeAlias = Annotated[list[_Granted], msgspec.Meta(max_length=limits.GRANT_LOGS_MAX)]
_DECODER: Final = msgspec.msgpack.Decoder(_Grant)
_GRANTED_KINDS: Final = frozenset({LogKind.CONVERSATION, LogKind.PERSON, LogKind.PRIVATE})


def grant_for(
    replica: Replica, device: DeviceId, known_topics: Collection[bytes], binding: bytes
) -> bytes | None:
    """The secrets of logs that another device of this person lacks, sealed for it.

    At most GRANT_LOGS_MAX logs and about GRANT_SIZE_MAX_BYTES: while it gives something, there may
    be more once the device knows these.

    Args:
        known_topics: Logs that the device is known to have the secrets of.
        binding: 32 bytes that only this session has.

    Returns:
        None where there is nothing to grant, or the device is not of this person, or has no usable key.
    """
    person = replica.people.current()
    member = person.member(device) if person is not None else None
    if member is None or device == replica.device_id:
        return None
    granted: list[_Granted] = []
    size = 0
    for state in shared_logs(replica):
        epochs = [(epoch.number, epoch.secret) for epoch in state.keys.epochs[1:]]
        # Epochs of one number were begun by devices that did not know of each other: there may be
        # one that was not wrapped for this device, because its author had not heard of it.
        if state.keys.topic in known_topics and len(dict(epochs)) == len(epochs):
            continue
        log = _Granted(state.kind, state.keys.topic, state.keys.secret, tuple(epochs[-limits.EPOCHS_MAX :]))
        size += len(msgspec.msgpack.encode(log))
        if granted and (size > limits.GRANT_SIZE_MAX_BYTES or len(granted) == limits.GRANT_LOGS_MAX):
            break
        granted.append(log)
    return _seal_grant(replica, member, granted, binding) if granted else None


def _seal_grant(replica: Replica, member: Member, granted: list[_Granted], binding: bytes) -> bytes | None:
    info = grant_info(replica.device_id, member.device, binding)
    key = replica.entropy.random(crypto.SECRET_SIZE)
    try:
        wrapped = replica.entropy.wrap(member.hpke, key, info)
    except InvalidInput:
        # Its own record says a key that is none: nothing can be wrapped for it.
        return None
    sealed = crypto.seal(crypto.derive("grant", key), msgspec.msgpack.encode(granted), info)
    return wrapped + sealed


def grant_info(giver: DeviceId, recipient: DeviceId, binding: bytes) -> bytes:
    """Binds a grant to both devices and to one session."""
    assert len(binding) == 32
    return b"mlog v1 grant\0" + giver + recipient + binding


def accept_grant(
    replica: Replica, from_device: DeviceId, sealed: bytes, binding: bytes, now_ms: int
) -> list[int]:
    """Take the secrets that another device of this person sent; durable on return.

    Returns:
        Numbers of the logs that are new here.

    Raises:
        LimitExceeded: Longer than any grant.
        InvalidInput: Of a device that is not trusted as this person's, sealed for another device or
            session, or not a grant; nothing was taken.
    """
    store = replica.store
    if not any(peer.own and peer.device == from_device for peer in store.peers()):
        raise InvalidInput("secrets from a device that is not one of yours")
    granted = _open_grant(replica, from_device, sealed, binding)
    with replica.transaction():
        before = replica.people.standing()
        known = {row.topic: row for row in store.logs()}
        new: dict[Topic, tuple[LogKind, LogKeys]] = {}
        for log, keys in granted:
            row = known.get(keys.topic)
            if row is None:
                new.setdefault(keys.topic, (LogKind(log.kind), keys))
            elif row.kind == log.kind:
                replica.learn_epochs(row.n, keys.epochs[1:])
        added = replica.add_logs(list(new.values()))
        follow(replica, before, now_ms)
    return added


def _open_grant(
    replica: Replica, from_device: DeviceId, sealed: bytes, binding: bytes
) -> list[tuple[_Granted, LogKeys]]:
    if len(sealed) > crypto.WRAP_SIZE + 2 * limits.GRANT_SIZE_MAX_BYTES:
        raise LimitExceeded(f"grant of {len(sealed)} bytes")
    info = grant_info(from_device, replica.device_id, binding)
    key = crypto.unwrap(replica.device_keys, sealed[: crypto.WRAP_SIZE], info)
    plain = crypto.open_sealed(crypto.derive("grant", key), sealed[crypto.WRAP_SIZE :], info)
    try:
        granted = _DECODER.decode(plain)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"grant: {error}") from None
    opened: list[tuple[_Granted, LogKeys]] = []
    for log in granted:
        keys = LogKeys(log.secret)
        if log.kind not in _GRANTED_KINDS or keys.topic != log.topic:
            raise InvalidInput("grant of a log whose secret is another's")
        for number, secret in log.epochs:
            keys.add_epoch(EpochKeys(number, secret))
        opened.append((log, keys))
    return opened
