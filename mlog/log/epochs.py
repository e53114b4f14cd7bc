"""Epochs: under which secret a log is written on, and how its key entries say so. docs/protocol.md, 4.6."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Final, NamedTuple

import msgspec

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import bodies, crypto
from mlog.log.bodies import Kind
from mlog.log.counting import counting_keys
from mlog.log.crypto import Entropy, EpochKeys, LogKeys
from mlog.log.cuts import NO_CUTS, Cuts
from mlog.log.ids import DeviceId, EntryId, Topic
from mlog.log.store import EntryRow, Store, TimelineQuery
from mlog.log.stored import named_by, readable_body

__all__ = ["StatedEpoch", "epoch_to_write", "key_body", "known_epochs", "stated_all", "stated_epochs"]


_KEYS: Final = frozenset({Kind.KEY})


class StatedEpoch(NamedTuple):
    """What a key entry says of its epoch.

    Attributes:
        id: The key entry.
        recipients: Devices for which it wraps the secret.
        parents: What the key entry names, the entry before in its chain included.
        without: Revocations in person logs that its author knew.
    """

    number: int
    id: EntryId
    commitment: bytes
    recipients: frozenset[bytes]
    parents: tuple[EntryId, ...] = ()
    without: tuple[bytes, ...] = ()


def stated_epochs(store: Store, log: int, cuts: Cuts = NO_CUTS, *, hidden: bool = False) -> list[StatedEpoch]:
    """What the latest KEY_ENTRIES_READ_MAX key entries of a log say, of those that count; the latest first.

    Args:
        hidden: With those that do not.
    """
    most = limits.KEY_ENTRIES_READ_MAX
    if not hidden and store.count(log, _KEYS) > limits.EPOCHS_MAX:
        # Only here a device may have made so many that some do not count.
        latest = [row.n for row, _ in counting_keys(store, log, cuts)[-most:]]
        rows = store.rows(latest)
        return _stated_by(store, [rows[n] for n in reversed(latest)])
    found: list[EntryRow] = []
    query = TimelineQuery(log=log, limit=most, kinds=_KEYS, newest_first=True, hidden=hidden)
    while len(found) < most and (page := store.timeline(query)):
        out = cuts.quarantined(page)
        found += [row for row in page if row.n not in out]
        query = msgspec.structs.replace(query, before=page[-1].position)
    return _stated_by(store, found[:most])


def stated_all(store: Store, log: int) -> list[StatedEpoch]:
    """What all key entries of a log say, also those that count for nothing; [] if they are too many."""
    query = TimelineQuery(log=log, limit=limits.KEY_ENTRIES_READ_MAX, kinds=_KEYS, hidden=True)
    found: list[StatedEpoch] = []
    while rows := store.timeline(query):
        found += _stated_by(store, rows)
        if len(found) > limits.EPOCHS_MAX:
            return []
        query = msgspec.structs.replace(query, after=rows[-1].position)
    return found


def _stated_by(store: Store, rows: Sequence[EntryRow]) -> list[StatedEpoch]:
    named = named_by(store, rows)
    found: list[StatedEpoch] = []
    for row in rows:
        body = readable_body(row.kind, row.body)
        if isinstance(body, bodies.Key):
            recipients = frozenset(wrap.device for wrap in body.wraps)
            commitment = bytes.fromhex(body.commitment)
            found.append(StatedEpoch(body.epoch, row.id, commitment, recipients, named[row.n], body.without))
    return found


def known_epochs(keys: LogKeys) -> dict[tuple[int, bytes], EpochKeys]:
    """The epochs whose secrets are known, by number and commitment."""
    return {(epoch.number, crypto.commitment(epoch.secret)): epoch for epoch in keys.whole}


def epoch_to_write(keys: LogKeys, stated: Sequence[StatedEpoch], devices: Set[DeviceId]) -> EpochKeys | None:
    """Of the epochs with the greatest number, that for exactly these devices; of several the latest.

    Where somebody uses up the numbers, so that all have the greatest, one that was over would come back else.

    Args:
        stated: The latest first.
    """
    newest = max((epoch.number for epoch in stated), default=0)
    known = known_epochs(keys)
    for epoch in stated:
        if epoch.number == newest and epoch.recipients == devices:
            found = known.get((epoch.number, epoch.commitment))
            if found is not None:
                return found
    return None


def key_body(
    entropy: Entropy,
    topic: Topic,
    author: DeviceId,
    readers: Iterable[tuple[DeviceId, bytes]],
    number: int,
    secret: bytes,
    log: str = "",
    seed: bytes = b"",
    without: Sequence[bytes] = (),
) -> bodies.Key:
    """What a key entry says: an epoch secret, wrapped for each reader.

    Args:
        readers: Devices with their HPKE public keys.
        log, seed: Kind of log, and what its secret was made of, in its first entry.
        without: The revocations that explain for whom it is no more.
    """
    wraps: list[bodies.Wrap] = []
    for device, hpke in readers:
        try:
            sealed = entropy.wrap(hpke, secret, crypto.wrap_info(topic, author, number, device))
        except InvalidInput:
            # A device that was admitted with a key that is none reads nothing, and stops nobody.
            sealed = bytes(crypto.WRAP_SIZE)
        wraps.append(bodies.Wrap(device=device, sealed=sealed))
    commitment = crypto.commitment(secret).hex()
    return bodies.Key(
        epoch=number, commitment=commitment, wraps=tuple(wraps), log=log, seed=seed, without=tuple(without)
    )
