"""Grants: how a device gives another one the secrets of the logs that it may have.

A device of the same person may have all that its devices share; one of another person what
`People.granted_to` says. Sealed for the recipient and for one session. docs/protocol.md, 17.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded
from mlog.log import bodies, crypto
from mlog.log.belonging import follow
from mlog.log.bodies import Kind
from mlog.log.counting import fairly
from mlog.log.crypto import EpochKeys, LogKeys
from mlog.log.epochs import StatedEpoch, known_epochs, stated_epochs
from mlog.log.fold import LogState
from mlog.log.ids import DeviceId, EntryId, Topic
from mlog.log.people import shared_logs
from mlog.log.store import LogKind, TimelineQuery
from mlog.log.stored import readable_body

if TYPE_CHECKING:
    from mlog.log.replica import Replica

__all__ = ["accept_grant", "grant_for", "grant_info", "withheld"]

_Secret: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=limits.SEQ_MAX)]
"""Of an epoch; 0 is the one that follows from the log's secret."""


_Numbered: TypeAlias = Annotated[
    tuple[tuple[_Number, _Secret], ...], msgspec.Meta(max_length=limits.EPOCHS_MAX)
]


class _Granted(msgspec.Struct, frozen=True, array_like=True):
    """One log of a grant.

    Attributes:
        epochs: Numbers and secrets.
        outlines: Numbers, and what opens headers and rulings of epochs that the recipient may not read.
    """

    kind: str
    topic: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    secret: _Secret
    epochs: _Numbered
    outlines: _Numbered = ()


_Grant: TypeAlias = Annotated[list[_Granted], msgspec.Meta(max_length=limits.GRANT_LOGS_MAX)]
_DECODER: Final = msgspec.msgpack.Decoder(_Grant)
_GRANTED_KINDS: Final = frozenset({LogKind.CONVERSATION, LogKind.PERSON, LogKind.PRIVATE})


def grant_for(
    replica: Replica, device: DeviceId, known_topics: Collection[bytes], binding: bytes
) -> bytes | None:
    """The secrets of logs that another device may have and lacks, sealed for it.

    At most GRANT_LOGS_MAX logs and about GRANT_SIZE_MAX_BYTES: while it gives something, there may
    be more once the device knows these.

    Args:
        known_topics: Logs that the device is known to have the secrets of.
        binding: 32 bytes that only this session has.

    Returns:
        None where there is nothing to grant, or the device may have nothing, or has no usable key.
    """
    hpke = _recipient(replica, device)
    if hpke is None or device == replica.device_id:
        return None
    granted: list[_Granted] = []
    size = 0
    logs = _grantable(replica, device)
    # What it does not have at all comes first: what it may lack is given again each time. And who both are,
    # by which it judges the rest.
    persons = _persons_of(replica, device)
    new = [
        state
        for state in sorted(logs, key=lambda state: state.n not in persons)
        if state.keys.topic not in known_topics and not _is_all_withheld(replica, state, device)
    ]
    known = [state for state in logs if state.keys.topic in known_topics]
    for state in (*new, *(state for state in known if _may_lack(replica, state, device))):
        log = _granted(replica, state, device)
        size += len(msgspec.msgpack.encode(log))
        if granted and (size > limits.GRANT_SIZE_MAX_BYTES or len(granted) == limits.GRANT_LOGS_MAX):
            break
        granted.append(log)
    return _seal_grant(replica, device, hpke, granted, binding) if granted else None


def _persons_of(replica: Replica, device: DeviceId) -> Set[int]:
    """The person logs of this device and of another one, as far as they are here."""
    people = replica.people
    subject = people.subject_of(device)
    persons = (people.current(), people.person_of(subject) if subject is not None else None)
    return {person.log for person in persons if person is not None}


def _granted(replica: Replica, state: LogState, device: DeviceId) -> _Granted:
    keys, given = state.keys, _epochs_for(replica, state, device)
    found = _whole_of(replica, state, device, given)
    if len(found) > limits.EPOCHS_MAX:
        found = fairly(replica.store, state.n, replica.people.cuts(state.n), found)
    epochs = [(epoch.number, epoch.secret) for epoch in found]
    outlines = [(epoch.number, epoch.outline) for epoch in given if epoch not in found]
    room = limits.EPOCHS_MAX - len(epochs)
    return _Granted(
        state.kind, keys.topic, keys.secret, tuple(epochs), tuple(outlines[-room:] if room else ())
    )


def _whole_of(
    replica: Replica, state: LogState, device: DeviceId, given: Sequence[EpochKeys]
) -> list[EpochKeys]:
    """Of epochs that a device is granted those whose secrets it is; of the others it gets the outlines."""
    closed: Set[EpochKeys] = frozenset()
    if not _is_ours(replica, device):
        closed = replica.people.closed_to(state, device)
    return [epoch for epoch in given if epoch.secret and epoch not in closed]


def _is_ours(replica: Replica, device: DeviceId) -> bool:
    """Whether our person admitted a device; until it said yes, others may know it as somebody else."""
    person = replica.people.current()
    return person is not None and person.member(device) is not None


def _recipient(replica: Replica, device: DeviceId) -> bytes | None:
    """The key of a device that may be granted something."""
    person = replica.people.current()
    member = person.member(device) if person is not None else None
    if member is not None:
        return member.hpke
    if not replica.people.granted_to(device):
        return None
    subject = replica.people.subject_of(device)
    other = replica.people.person_of(subject) if subject is not None else None
    member = other.member(device) if other is not None else None
    if member is not None:
        # A recovery phrase is nobody's peer.
        return member.hpke
    return next((peer.hpke for peer in replica.store.peers() if peer.device == device), None)


def _grantable(replica: Replica, device: DeviceId) -> list[LogState]:
    if _is_ours(replica, device):
        return [*shared_logs(replica), *map(replica.log, replica.people.persons_to_share())]
    return [replica.log(n) for n in sorted(replica.people.granted_to(device))]


def _may_lack(replica: Replica, state: LogState, device: DeviceId) -> bool:
    """Whether a device that has a log may lack epochs of it that no key entry gives it.

    Epochs of one number were begun by devices that did not know of each other: one of them may not be for
    this device. Of the person logs of others it gets all epochs by grants; of other logs those that were
    begun since it came in by somebody who had not heard of it, and those that leave somebody out, by whom
    it may have been let in; and where anybody joined without the history, all that it may have: it may have
    been let in by one who lacks them, or be granted them now.
    """
    if _has_twins(replica, state):
        return True
    if state.kind == LogKind.PERSON:
        return len(state.keys.epochs) > 2 and not _is_ours(replica, device)
    membership = replica.people.membership(state.n)
    if membership is not None and membership.any_without_history():
        return True
    stated = _stated(replica, state.n).values()
    first = min((epoch.number for epoch in stated if device in epoch.recipients), default=0)
    return any(
        device not in epoch.recipients
        and (
            epoch.number >= first
            or epoch.without
            or (membership is not None and membership.knew_a_removal(epoch.parents))
        )
        for epoch in stated
    )


def _is_all_withheld(replica: Replica, state: LogState, device: DeviceId) -> bool:
    """Whether a log has epochs, and a device is given none of them yet: then it is not given the log either,
    since afterwards it would not be known to lack them."""
    keys = state.keys
    return len(keys.epochs) + len(keys.granted) > 1 and not _epochs_for(replica, state, device)


def withheld(replica: Replica, log: int, device: DeviceId) -> int:
    """How many epochs of a log a device is not granted now, and may be later."""
    state = replica.log(log)
    keys = state.keys
    return len(keys.epochs) - 1 + len(keys.granted) - len(_epochs_for(replica, state, device))


def _has_twins(replica: Replica, state: LogState) -> bool:
    """Whether two epochs have one number, known or stated: they were begun by devices that did not know of
    each other, or by one that was set back between."""
    numbers = [epoch.number for epoch in state.keys.epochs[1:]]
    if len(set(numbers)) < len(numbers):
        return True
    found = {key for key in known_epochs(state.keys) if key[0]} | _stated(replica, state.n).keys()
    return len({number for number, _ in found}) < len(found)


def _epochs_for(replica: Replica, state: LogState, device: DeviceId) -> Sequence[EpochKeys]:
    """The epochs of a log that a device is granted: none that leaves it out for a reason that has not come.

    Who began an epoch without a device may not have heard of it; or heard that it was revoked, or its
    person removed. Key entries name what their authors knew of that, so it is waited for.
    """
    epochs, store, people = state.keys.epochs[1:], replica.store, replica.people
    if state.kind == LogKind.PERSON:
        return epochs
    subject = people.subject() if _is_ours(replica, device) else people.subject_of(device)
    stated = _stated(replica, state.n)
    of = {epoch: stated.get((epoch.number, crypto.commitment(epoch.secret))) for epoch in state.keys.whole}
    if all(found is not None and device in found.recipients for found in of.values()):
        return epochs
    # What one of our devices may read the others may, too: only revocations keep anything from them.
    may_be_removed = people.membership(state.n) is not None and not _is_ours(replica, device)
    doubted = _may_be_revoked(replica, state.n, device)
    named = {parent for s in stated.values() if device not in s.recipients for parent in s.parents}
    here = store.places(state.n, named)
    reasons = {EntryId(id_) for s in stated.values() for id_ in s.without}
    # What is here and not read may wait for its epoch, and says nothing yet.
    read = {
        id_
        for person in (people.persons() if reasons else ())
        for id_, place in store.places(person.log, reasons).items()
        if place.chain
    }

    def may_be_known(epoch: EpochKeys) -> bool:
        if not epoch.secret:
            # Of before this person joined: no key entry tells which it is.
            return True
        found = of.get(epoch)
        if found is None:
            return False
        # Who wraps it for another device of the same person knew of no removal of that.
        is_of_a_member = subject is not None and any(
            people.subject_of(DeviceId(other)) == subject for other in found.recipients
        )
        knows = not may_be_removed or is_of_a_member or all(parent in here for parent in found.parents)
        knows = knows and read.issuperset(found.without)
        return device in found.recipients or (knows and not doubted)

    return [epoch for epoch in epochs if may_be_known(epoch)]


def _stated(replica: Replica, log: int) -> dict[tuple[int, bytes], StatedEpoch]:
    """By number and commitment what key entries say of the epochs of a log.

    Also what was written under an epoch that counts for nothing has to be opened, to see that it does; but
    what does not count hides nothing that does.
    """
    found = {(s.number, s.commitment): s for s in stated_epochs(replica.store, log, hidden=True)}
    return found | {(s.number, s.commitment): s for s in stated_epochs(replica.store, log)}


def _may_be_revoked(replica: Replica, log: int, device: DeviceId) -> bool:
    """Whether a log says that a device was revoked, and the person log does not say so yet."""
    store, people = replica.store, replica.people
    subject = people.subject_of(device)
    person = people.person_of(subject) if subject is not None else None
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({Kind.REVOKE}), hidden=True)
    rows = store.timeline(query) if person is not None else []
    authors = {chain.n: chain.device for chain in store.chain_rows({row.chain for row in rows})}
    for row in rows:
        body = readable_body(row.kind, row.body)
        if not isinstance(body, bodies.Revoke) or body.device != device or person is None:
            continue
        by = EntryId(bytes.fromhex(body.by))
        if people.subject_of(authors[row.chain]) == subject and not store.places(person.log, [by]):
            return True
    return False


def _seal_grant(
    replica: Replica, device: DeviceId, hpke: bytes, granted: list[_Granted], binding: bytes
) -> bytes | None:
    info = grant_info(replica.device_id, device, binding)
    key = replica.entropy.random(crypto.SECRET_SIZE)
    try:
        wrapped = replica.entropy.wrap(hpke, key, info)
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
    """Take the secrets that another device sent, as far as it may give them; durable on return.

    A device of this person may give all. One of another person may give person logs, and, if it is a
    contact's, conversations that are new here; and epochs of the logs that both may have.

    Returns:
        Numbers of the logs that are new here.

    Raises:
        LimitExceeded: Longer than any grant.
        InvalidInput: Of a device that is neither this person's nor met, sealed for another device or
            session, or not a grant; nothing was taken.
    """
    store, people = replica.store, replica.people
    # A recovery phrase is one of this person's, and no peer.
    is_own = any(peer.own and peer.device == from_device for peer in store.peers())
    is_own = is_own or _is_ours(replica, from_device)
    if not is_own and not people.shared_with(from_device):
        if people.removed_from(from_device):
            # It may not have heard yet that nothing is shared any more.
            return []
        raise InvalidInput("secrets from a device that is not one of yours")
    granted = _open_grant(replica, from_device, sealed, binding)
    with replica.transaction():
        before = people.standing()
        shared, is_contact = people.shared_with(from_device), people.is_contact(from_device)
        person = people.current()
        own = person.log if person is not None else 0
        known = {row.topic: row for row in store.logs()}
        new: dict[Topic, tuple[LogKind, LogKeys]] = {}
        given: dict[Topic, list[EpochKeys]] = {}
        learned = False
        for log, keys in granted:
            row, kind = known.get(keys.topic), LogKind(log.kind)
            if row is None:
                if is_own or kind == LogKind.PERSON or (kind == LogKind.CONVERSATION and is_contact):
                    new.setdefault(keys.topic, (kind, LogKeys(keys.secret)))
                    given.setdefault(keys.topic, keys.epochs[1:])
            elif row.kind == kind and (is_own or (row.n in shared and row.n != own)):
                # Which epochs our own person log has, our own devices say.
                learned |= replica.learn_epochs(row.n, keys.epochs[1:])
        added = replica.add_logs(list(new.values()))
        for n in added:
            replica.learn_epochs(n, given[replica.log(n).keys.topic])
        # Much is granted again in each session, and then nothing follows.
        if added or learned:
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
        for number, outline in log.outlines:
            keys.add_epoch(EpochKeys(number, b"", outline))
        opened.append((log, keys))
    return opened
