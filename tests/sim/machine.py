"""Machine: one device of the simulated network: a disk, keys, a clock, and a process that runs a node.

The process can be killed at any point and started again; the disk stays. A home's marker
(mlog/adapters/marker.py) stands beside the disk, so that a restored copy writes under a new incarnation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from mlog.adapters.marker import Marker
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.crypto import DeviceKeys, Vault
from mlog.log.entry import Sealed
from mlog.log.ids import DeviceId, EntryId, Incarnation, Topic
from mlog.log.intake import Taken
from mlog.log.peers import PeerRow
from mlog.log.replica import Draft, Replica
from mlog.log.store import EntryRow, LogKind
from mlog.protocol.events import Effect, Event
from mlog.protocol.node import Node

from .entropy import SeededEntropy
from .faults import Disk, SimStore

__all__ = ["DAY_MS", "START_MS", "Machine", "keys_of"]

START_MS: Final = 1_700_000_000_000
DAY_MS: Final = 24 * 3600 * 1000


class _Identity:
    """Keys of a device with what follows from them, worked out once in a process."""

    def __init__(self, index: int):
        entropy = SeededEntropy("device", index)
        self.keys = DeviceKeys(entropy.random(32), entropy.random(32), entropy.random(32))
        self.id = self.keys.id
        self.noise_public = self.keys.noise_public
        self.hpke_public = self.keys.hpke_public
        self.storage_key = entropy.random(32)


@cache
def keys_of(index: int) -> _Identity:
    return _Identity(index)


class Machine:
    """One device.

    Args:
        index: Which one; decides its keys.
        seed: Of the schedule.
        folder: Where databases in SQLite are; None for one in memory.

    Attributes:
        honest: False of one that breaks the rules on purpose: only others are checked.
        skew_ms: How far its clock is ahead.
        replica, node: Of the process; None while it does not run.
        wrote: Told of entries made here, by a person or by the node, before they are committed.
        took: Told what became of entries that came.
        take: Does, with the replica's own `receive`, what this machine does with entries that came.
        held: By topic, what it has acknowledged, or written itself: it must never lose that.
    """

    def __init__(self, index: int, seed: object, folder: Path | None = None):
        self.index = index
        self.name = f"m{index}"
        identity = keys_of(index)
        self.keys = identity.keys
        self.device: DeviceId = identity.id
        self.disk = Disk(folder / self.name if folder is not None else None)
        self.honest = True
        self.skew_ms = 0
        self.store: SimStore | None = None
        self.replica: Replica | None = None
        self.node: Node | None = None
        self.inbox: deque[Event] = deque()
        self.turn_is_due = False
        self.stalled_until_ms = 0
        self.timer = 0
        self.boots = 0
        self.sessions = 0
        self.held: dict[Topic, set[EntryId]] = {}
        self.snapshots: list[Any] = []
        self.make_node: Callable[[Replica, SeededEntropy], Node] = Node
        self.wrote: Callable[[list[EntryRow]], None] = lambda _: None
        self.took: Callable[[Taken], None] = lambda _: None
        self.take: Callable[..., Taken] = lambda receive, *args: receive(*args)
        self._seed = seed
        self._vault = Vault(identity.storage_key)
        self._entropy = SeededEntropy(seed, "machine", index)
        self._marker: Marker | None = None

    def __repr__(self) -> str:
        return self.name

    # -- the process -------------------------------------------------------------------------

    def open(self) -> None:
        """Open the database, as any command does."""
        self.store = self.disk.open()
        self.store.committed = self._save_marker
        self.replica = self._make_replica(self.store)

    def boot(self, now_ms: int) -> list[Effect]:
        """Start the process that serves this device."""
        if self.store is None:
            self.open()
        assert self.replica is not None
        self.boots += 1
        self.node = self.make_node(self.replica, SeededEntropy(self._seed, "node", self.index, self.boots))
        return self.node.start(now_ms)

    def shut_down(self) -> None:
        """The process is gone, with all that was not committed."""
        self.node = self.replica = self.store = None
        self.inbox.clear()
        self.timer += 1
        self.disk.close()

    @property
    def runs(self) -> bool:
        return self.node is not None

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        assert self.node is not None
        return self.node.handle(event, now_ms)

    def second_writer(self) -> Replica:
        """Another process on the same database, such as `mlog send` beside the service."""
        assert self.store is not None
        return self._make_replica(self.store)

    def _make_replica(self, store: SimStore) -> Replica:
        known, marker = store.meta("incarnation"), self._marker
        if known is None or marker is None or not marker.vouches_for(self._here(store)):
            known = self._entropy.random(8)
            with store.transaction():
                store.set_meta("incarnation", known)
            self._save_marker()
        replica = Replica(store, self.keys, self._vault, self._entropy, Incarnation(known))
        write = replica.appender.append

        def watched(*args: Any, **options: Any) -> list[EntryRow]:
            rows = write(*args, **options)
            self.wrote(rows)
            return rows

        receive = replica.receive

        def received(log: int, entries: Sequence[Sealed], now_ms: int) -> Taken:
            taken = self.take(receive, log, entries, now_ms)
            self.took(taken)
            return taken

        replica.appender.append = watched
        replica.receive = received
        return replica

    def _here(self, store: SimStore) -> Marker:
        return Marker(database="", inode=self.disk.inode, machine=self.name, entries=store.next_n() - 1)

    def _save_marker(self) -> None:
        if self.store is not None:
            self._marker = self._here(self.store)

    # -- backups -----------------------------------------------------------------------------

    def snapshot(self) -> None:
        """Make a backup of the database."""
        self.snapshots.append(self.disk.snapshot())

    def restore(self, which: int, *, unnoticed: bool = False) -> None:
        """Put a backup in place while the process is down; `held` shrinks to what is in it.

        Args:
            unnoticed: Nothing shows that it was done, as when a virtual machine is rolled back.
        """
        inode = self.disk.inode
        self.disk.restore(self.snapshots[which % len(self.snapshots)])
        if unnoticed:
            self.disk.inode = inode
            self._marker = self._here(self.disk.open())
            self.disk.close()
        self.open()
        assert self.store is not None
        for topic, held in self.held.items():
            n = self.log_n(topic)
            held.intersection_update(self.store.places(n, held) if n is not None else ())
        self.shut_down()

    def continue_from(self, snapshot: Any) -> None:
        """Begin with what another run left on the disk of this device, and know nothing of a restore."""
        self.disk.restore(snapshot)
        self._marker = self._here(self.disk.open())
        self.disk.close()
        self.open()

    # -- what its person does ----------------------------------------------------------------

    def found_person(self, now_ms: int, person: str = "one person") -> None:
        """As the first start of a home does: a person log and a private log."""
        assert self.replica is not None
        identity = keys_of(self.index)
        record = bodies.Device(
            name=self.name, person=person, noise=identity.noise_public, hpke=identity.hpke_public
        )
        self.replica.create_log(LogKind.PERSON, [Draft(Kind.DEVICE, record, now_ms)], now_ms)
        self.replica.create_log(LogKind.PRIVATE, [], now_ms)

    def introduce(self, other: Machine, now_ms: int, *, own: bool = True) -> PeerRow:
        """Trust a device as one's own, or as that of another person: from now on it may connect, and is
        dialled where it is reached."""
        identity = keys_of(other.index)
        assert self.store is not None
        peer = PeerRow(
            device=other.device,
            name=other.name,
            noise=identity.noise_public,
            hpke=identity.hpke_public,
            own=own,
            added_ms=now_ms,
        )
        with self.store.transaction():
            self.store.put_peer(peer)
        return peer

    def log_n(self, topic: Topic) -> int | None:
        """Number of a log here, or None."""
        assert self.store is not None
        return next((row.n for row in self.store.logs() if row.topic == topic), None)

    def say(self, topic: Topic, drafts: Sequence[Draft], now_ms: int, *, beside: bool) -> list[EntryRow]:
        """Write by hand.

        Args:
            beside: Through a process of its own.
        """
        n = self.log_n(topic)
        assert n is not None
        replica = self.second_writer() if beside else self.replica
        assert replica is not None
        return replica.write(n, drafts, now_ms)
