"""What must hold: after every event, and once everybody met again.

`Ledger` watches a run: who wrote what, what was acknowledged, what was promised. The functions below
it look at stores when all is healed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log import entry, receipts
from mlog.log.bodies import SPOKEN
from mlog.log.ids import DeviceId, EntryId, Incarnation, Topic
from mlog.log.merkle import refresh_digests
from mlog.log.peers import SyncState
from mlog.log.replica import Replica
from mlog.log.scope import bodies_root, entries_root, scope_of
from mlog.log.store import BodyState, EntryRow, LogKind, LogRow, Reason, Store, TimelineQuery
from mlog.log.verify import Finding, verify_log
from mlog.log.view import View
from mlog.protocol import wire
from mlog.protocol.events import Effect, Event
from mlog.protocol.session import Session

from .machine import Machine
from .network import Connection, Network, Observer, SimFailure

__all__ = [
    "Ledger",
    "check_authentic",
    "check_equal",
    "check_held",
    "check_nothing_is_lost",
    "check_pruned",
    "check_statuses",
    "check_stores",
    "check_wanted_bodies",
    "facts_of",
    "rows_of",
    "view_of",
]

_FLYING_SIZE_MAX = 4 * limits.MIB
"""Frames of one connection and direction on their way: a bundle, and answers to questions."""


_SHOWN = frozenset({Reason.FORKED})
"""What `mlog verify` tells of others, rather than of this store."""


def _require(holds: object, claim: str) -> None:
    if not holds:
        raise SimFailure(claim)


class Ledger(Observer):
    """Who wrote what, and who promised to keep what."""

    def __init__(self, network: Network):
        self._network = network
        self._seen_n: dict[int, int] = {}
        self._places: dict[tuple[Topic, DeviceId, Incarnation, int], EntryId] = {}
        self._bundles: dict[tuple[bytes, int, int], tuple[Topic, list[EntryId], set[EntryId]]] = {}
        self._refusals: dict[int, dict[EntryId, str]] = {}
        self._unopened: dict[int, set[EntryId]] = {}
        self._owed: list[tuple[Machine, Topic, list[EntryId], int]] = []
        self.refused: list[str] = []
        self.kept: dict[DeviceId, set[EntryId]] = {machine.device: set() for machine in network.machines}
        """By device, what an honest one stored at any time."""
        self.pruned: dict[Topic, set[EntryId]] = {}
        """What was dropped on purpose anywhere."""
        self.written: dict[DeviceId, set[EntryId]] = {}
        """By device, what it made; what was undone again too."""
        self.by_device = {machine.device: machine for machine in network.machines}
        network.observers.append(self)
        for machine in network.machines:
            written = self.written[machine.device] = set()
            machine.wrote = lambda rows, written=written: written.update(row.id for row in rows)
            refusals = self._refusals[machine.index] = {}
            self._unopened[machine.index] = set()
            machine.took = lambda taken, refusals=refusals: refusals.update(taken.refused)

    def begin(self, machine: Machine) -> None:
        """What is there when the run begins was written by who signed it, and is to be kept."""
        store = machine.store
        assert store is not None
        topic_of = {row.n: row.topic for row in store.logs()}
        authors = {chain.n: chain.device for n in topic_of for chain in store.chains(n)}
        for row in store.rows(range(1, store.next_n())).values():
            if row.chain:
                self.written[authors[row.chain]].add(row.id)
            self.kept[machine.device].add(row.id)
            machine.held.setdefault(topic_of[row.log], set()).add(row.id)

    def restored(self, machine: Machine) -> None:
        """Its database is another one now."""
        self._seen_n.pop(machine.index, None)

    # -- acknowledgements --------------------------------------------------------------------

    def sending(self, machine: Machine, session: Session, message: wire.Message) -> None:
        link = session._link
        if link is None:
            return
        if isinstance(message, wire.Entries):
            log = link.log_of(message.tag)
            row = next((row for row in link.store.logs() if row.n == log), None)
            if row is not None:
                key = link.binding, machine.index, message.serial
                ids = _ids_of(row.topic, message.entries)
                self._bundles[key] = row.topic, ids, _unread(link.store, row.n, ids)
        if not machine.honest:
            return
        if isinstance(message, wire.Ack):
            self._acknowledged(machine, session, message)
        if isinstance(message, wire.Ack | wire.Receipt | wire.Done):
            assert machine.store is not None
            _require(machine.store.depth == 0, f"{machine} promises something before its commit")

    def _acknowledged(self, machine: Machine, session: Session, ack: wire.Ack) -> None:
        link = session._link
        assert link is not None
        sender = self.by_device[link.device]
        bundle = self._bundles.pop((link.binding, sender.index, ack.serial), None)
        if bundle is None:
            _require(not sender.honest, f"{machine} acknowledges what {sender} never sent")
            return
        topic, ids, unread = bundle
        assert machine.store is not None
        n = machine.log_n(topic)
        assert n is not None
        here = set(machine.store.places(n, ids)) & set(ids)
        _require(
            len(here) >= len(set(ids)) - ack.refused,
            f"{machine} acknowledges {len(ids)} entries less {ack.refused}, and has {len(here)}",
        )
        machine.held.setdefault(topic, set()).update(here)
        if ack.refused and sender.honest and link.is_shared(n):
            # Who cannot open an entry cannot check its signature either, and passes on what came with it.
            whys = {id_: why for id_ in ids if (why := self._refusals[machine.index].get(id_)) is not None}
            signatures = [id_ for id_, why in whys.items() if why.startswith("signature: ")]
            excused = self._unopened[sender.index] & unread & set(signatures)
            if ack.refused > len(excused):
                reasons = ", ".join(sorted({why for id_, why in whys.items() if id_ not in excused}))
                self.refused.append(f"{machine} refused {ack.refused} entries of {sender}: {reasons}")

    # -- after every event -------------------------------------------------------------------

    def sent(self, machine: Machine, connection: Connection, size: int) -> None:
        if machine.honest:
            side = 0 if connection.ends[0].machine is machine else 1
            _require(
                connection.flying_size[side] + size <= _FLYING_SIZE_MAX,
                f"{machine} has {connection.flying_size[side]} bytes on their way in one connection",
            )

    def handled(self, machine: Machine, event: Event | None, effects: list[Effect]) -> None:
        if machine.honest and machine.runs:
            self.look_at(machine)

    def look_at(self, machine: Machine) -> None:
        """The cheap checks, over what came since the last look."""
        store, node = machine.store, machine.node
        assert store is not None
        _require(store.depth == 0, f"{machine} left a transaction open")
        if node is not None:
            for session in node._sessions.values():
                _require(
                    session._inbox_size <= limits.INBOX_SIZE_MAX_BYTES
                    and len(session._inbox) <= limits.INBOX_MESSAGES_MAX,
                    f"the inbox of {machine} is beyond its bounds",
                )
        last_n = store.next_n() - 1
        seen_n = self._seen_n.get(machine.index, 0)
        if last_n > seen_n:
            self._seen_n[machine.index] = last_n
            self._look_at_rows(machine, store.rows(range(seen_n + 1, last_n + 1)).values())

    def _look_at_rows(self, machine: Machine, rows: Iterable[EntryRow]) -> None:
        assert machine.store is not None
        logs = {row.n: row for row in machine.store.logs()}
        chains = {chain.n: chain for log in logs for chain in machine.store.chains(log)}
        for row in rows:
            self.kept[machine.device].add(row.id)
            _require(entry.entry_id(row.outer) == row.id, f"{machine} stored an entry under a wrong id")
            chain = chains.get(row.chain)
            if chain is None:
                if not _opens(machine, logs[row.log], row):
                    self._unopened[machine.index].add(row.id)
                continue
            author = self.by_device.get(chain.device)
            if author is None or not author.honest:
                continue
            if author is machine:
                machine.held.setdefault(logs[row.log].topic, set()).add(row.id)
            _require(
                row.id in self.written[chain.device],
                f"{machine} reads an entry in the name of {author} that {author} never wrote",
            )
            place = logs[row.log].topic, chain.device, chain.incarnation, row.seq
            known = self._places.setdefault(place, row.id)
            _require(known == row.id, f"the honest {author} wrote two entries at seq {row.seq} of one chain")


def _unread(store: Store, log: int, ids: Sequence[EntryId]) -> set[EntryId]:
    """Those that are not read with a signature: what came with them nobody could check yet."""
    rows = store.find(log, ids).values()
    return set(ids) - {row.id for row in rows if row.chain and row.signature is not None}


def _opens(machine: Machine, log: LogRow, row: EntryRow) -> bool:
    assert machine.replica is not None
    if log.kind == LogKind.BLIND:
        return False
    return entry.unseal(machine.replica.log(log.n).keys, row.outer, None).header is not None


def _ids_of(topic: Topic, entries: Iterable[wire.Packed]) -> list[EntryId]:
    ids: list[EntryId] = []
    for packed in entries:
        with suppress(InvalidInput):
            ids.append(entry.from_tail(topic, packed.head, packed.body, packed.signature).id)
    return ids


# -- once all is healed ------------------------------------------------------------------------


def check_held(machine: Machine) -> None:
    """Nothing that it wrote or acknowledged is gone."""
    assert machine.store is not None
    for topic, ids in machine.held.items():
        n = machine.log_n(topic)
        _require(n is not None or not ids, f"{machine} lost a log")
        if n is not None:
            lost = ids - machine.store.places(n, ids).keys()
            _require(not lost, f"{machine} lost {len(lost)} entries that it had acknowledged")


def check_stores(machine: Machine) -> None:
    """`mlog verify --signatures` finds no damage; a fork that a dishonest device made is shown."""
    assert machine.replica is not None
    for row in machine.replica.store.logs():
        if row.kind == LogKind.BLIND:
            continue
        for found in verify_log(machine.replica, row.n, signatures=True):
            if isinstance(found, Finding) and found.reason not in _SHOWN:
                raise SimFailure(f"{machine}, log {row.n}: {found.part} {found.reason}: {found.detail}")


def check_authentic(network: Network, ledger: Ledger, machine: Machine) -> None:
    """What its person sees in the name of an honest device, that device wrote."""
    assert machine.replica is not None
    for row in machine.replica.store.logs():
        if row.kind == LogKind.BLIND:
            continue
        for message in view_of(network, machine.replica, row.n):
            author = ledger.by_device.get(message.author.device)
            if author is not None and author.honest:
                _require(
                    message.id in ledger.written[author.device],
                    f"{machine} shows a message of {author} that {author} never wrote",
                )
                _require(not message.damage, f"{machine} shows a damaged message: {message.damage}")


def rows_of(replica: Replica, log: int) -> list[EntryRow]:
    """All entries that are read, in the order of the view."""
    rows: list[EntryRow] = []
    after = None
    while True:
        query = TimelineQuery(
            log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset(), hidden=True, after=after
        )
        page = replica.store.timeline(query)
        rows += page
        if len(page) < limits.STORE_ROWS_MAX:
            return rows
        after = page[-1].position


def view_of(network: Network, replica: Replica, log: int, first_week: int = 0):
    """What a person sees of a log."""
    view = View(replica, {machine.device: machine.name for machine in network.machines})
    rows: list[EntryRow] = []
    after = None
    while page := replica.store.timeline(TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, after=after)):
        rows += page
        after = page[-1].position
    return view.of_rows(log, [row for row in rows if row.week >= first_week])


def facts_of(network: Network, machine: Machine, topic: Topic, first_week: int = 0, *, bodies: bool = True):
    """All that two honest replicas of one scope must agree on."""
    replica = machine.replica
    assert replica is not None
    store = replica.store
    n = machine.log_n(topic)
    assert n is not None
    digests = refresh_digests(store, n)
    facts: dict[str, object] = {"root of entries": entries_root(digests, first_week).hex()}
    if bodies:
        facts["root of bodies"] = bodies_root(digests, first_week).hex()
    if next(row.kind for row in store.logs() if row.n == n) == LogKind.BLIND:
        return facts
    if not first_week:
        rows = rows_of(replica, n)
        facts["heads"] = sorted(store.heads(n))
        facts["order"] = [(row.id.hex()[:8], row.rank) for row in rows]
        facts["chains"] = sorted((c.device, c.incarnation, c.seq, c.id, c.week) for c in store.chains(n))
        facts["forks"] = [(f.device, f.incarnation, f.seq) for f in store.forks(n)]
    if bodies and not first_week:
        facts["hidden"] = [row.id.hex()[:8] for row in rows_of(replica, n) if row.hidden]
        facts["title"] = next(row.title for row in store.logs() if row.n == n)
    shown = view_of(network, replica, n, first_week) if bodies else []
    if first_week:
        # What is before the window may change order and texts: it is not here to be compared.
        facts["shown"] = sorted(message.id.hex() for message in shown)
    elif bodies:
        local = {"chain", "log"}
        facts["view"] = [
            {name: getattr(message, name) for name in message.__struct_fields__ if name not in local}
            | {"attachments": [msgspec.structs.replace(one, log=0) for one in message.attachments]}
            for message in shown
        ]
    return facts


def check_equal(network: Network, machines: Sequence[Machine], topic: Topic) -> None:
    """Honest replicas agree over what both of them keep."""
    by_row = [(machine, _log_row(machine, topic)) for machine in machines]
    for machine, row in by_row:
        _require(row is not None, f"{machine} was never given a log of its person")
    known = [(machine, row) for machine, row in by_row if row is not None]
    for machine, row in known[1:]:
        first, first_row = known[0]
        scopes = [scope_of(r, network.local_ms(m)) for m, r in ((first, first_row), (machine, row))]
        first_week = max(scope.first_week for scope in scopes)
        bodies = all(scope.bodies for scope in scopes) and LogKind.BLIND not in (first_row.kind, row.kind)
        one = facts_of(network, first, topic, first_week, bodies=bodies)
        other = facts_of(network, machine, topic, first_week, bodies=bodies)
        for name in one.keys() & other.keys():
            if one[name] != other[name]:
                raise SimFailure(
                    f"{first} and {machine} differ in {name}:\n{_short(one[name])}\n{_short(other[name])}"
                )


def _short(value: object) -> str:
    return str(value)[:1_000]


def _log_row(machine: Machine, topic: Topic) -> LogRow | None:
    assert machine.store is not None
    return next((row for row in machine.store.logs() if row.topic == topic), None)


def check_wanted_bodies(machine: Machine, others: Iterable[Machine], topic: Topic, now_ms: int) -> None:
    """A replica that fetches bodies lacks none that somebody has, from the first week of its window on.

    What was pushed to it of earlier weeks by a device that has no texts it asks for in the next session.
    """
    row = _log_row(machine, topic)
    if row is None or not row.fetch_bodies or row.kind == LogKind.BLIND:
        return
    assert machine.replica is not None
    first_week = scope_of(row, now_ms).first_week
    rows = [r for r in rows_of(machine.replica, row.n) if r.week >= first_week]
    lacking = [r.id for r in rows if r.state == BodyState.NOT_FETCHED]
    for other in others:
        there = _log_row(other, topic)
        if there is not None and other.store is not None:
            found = other.store.find(there.n, lacking).values()
            held = [r for r in found if r.state in (BodyState.OPENED, BodyState.SEALED)]
            _require(not held, f"{machine} lacks {len(held)} bodies that {other} has")


def check_pruned(
    ledger: Ledger, machine: Machine, row: LogRow, before: Sequence[EntryRow], now_ms: int
) -> None:
    """What a pruning took away others have signed for, and had; it is marked, and nothing else is harmed.

    Args:
        before: All entries of the log before it.
    """
    store, replica = machine.store, machine.replica
    assert store is not None
    assert replica is not None
    here = store.find(row.n, [r.id for r in before])
    gone = [r for r in before if r.id not in here]
    ledger.pruned.setdefault(row.topic, set()).update(r.id for r in gone)
    trusted = {peer.device for peer in store.peers()} - {machine.device}
    holders: list[tuple[Machine, receipts.Statement]] = []
    for kept in (*store.receipts(row.n), *store.old_receipts(row.n)):
        device, statement = receipts.check_receipt(kept.proof)
        if device in trusted and statement.topic == row.topic and statement.expires_ms > now_ms:
            holders.append((ledger.by_device[device], statement))
    marked = {dropped.week for dropped in store.pruned(row.n)}
    first_week = scope_of(row, now_ms).first_week
    for dropped in gone:
        held_by = [
            holder
            for holder, statement in holders
            if statement.first_week <= dropped.week
            and (not holder.honest or dropped.id in ledger.kept[holder.device])
        ]
        _require(held_by, f"{machine} dropped an entry that nobody has signed for")
        _require(dropped.week < first_week, f"{machine} dropped an entry of its window")
        _require(dropped.week in marked, f"{machine} dropped an entry of a week that is not marked as pruned")
        if dropped.state in (BodyState.OPENED, BodyState.SEALED):
            lacking = [holder for holder in held_by if _lacks_body(holder, row.topic, dropped.id)]
            _require(len(lacking) < len(held_by), f"{machine} dropped a text that no holder has")
    wanted = {id_ for id_, _ in store.absent(row.n, limits.GAPS_MAX)} & {r.id for r in gone}
    _require(not wanted, f"{machine} wants {len(wanted)} entries back that it dropped")
    check_stores(machine)


def _lacks_body(machine: Machine, topic: Topic, id_: EntryId) -> bool:
    row = _log_row(machine, topic) if machine.honest and machine.store is not None else None
    if row is None or machine.store is None:
        return False
    found = machine.store.find(row.n, [id_]).get(id_)
    return found is not None and found.state == BodyState.NOT_FETCHED


def check_nothing_is_lost(ledger: Ledger, machines: Sequence[Machine], topic: Topic) -> None:
    """What was dropped somewhere somebody else has; and somebody has the text of each known message."""
    rows: dict[EntryId, set[BodyState]] = {}
    for machine in machines:
        log = _log_row(machine, topic)
        if log is None or machine.store is None:
            continue
        chains = {chain.n: chain.device for chain in machine.store.chains(log.n)}
        for row in machine.store.arrivals(log.n, 0, 1_000_000):
            author = ledger.by_device.get(chains.get(row.chain, DeviceId(b"")))
            if author is not None and author.honest:
                rows.setdefault(row.id, set())
                # Of an edit that was erased before it came nobody can tell whose message it is about.
                if row.kind in SPOKEN:
                    rows[row.id].add(row.state)
    without = [id_ for id_, states in rows.items() if states == {BodyState.NOT_FETCHED}]
    _require(not without, f"{len(without)} texts are known of that nobody has any more")
    known = set().union(*(ledger.written[machine.device] for machine in machines))
    lost = (ledger.pruned.get(topic, set()) & known) - rows.keys()
    _require(not lost, f"{len(lost)} entries were dropped that nobody else has")


def check_statuses(
    one: Machine,
    other: Machine,
    shares: Callable[[Machine, LogRow, Machine], bool] = lambda *_: True,
) -> None:
    """Both call every log that they share equal, and have a receipt of the other that verifies.

    Args:
        shares: Whether a machine lets another one have a log.
    """
    for machine, peer in ((one, other), (other, one)):
        store = machine.store
        assert store is not None
        there = peer.store.logs() if peer.store is not None else []
        shared = {row.topic for row in there if shares(peer, row, machine)}
        for row in store.logs():
            if row.topic not in shared or not shares(machine, row, peer):
                continue
            status = next((s for s in store.syncs(row.n) if s.device == peer.device), None)
            found = "never compared" if status is None else f"{status.state.value}: {status.detail}"
            _require(
                status is not None and status.state == SyncState.EQUAL,
                f"{machine} says of log {row.n} at {peer}: {found}",
            )
            receipt = next((r for r in store.receipts(row.n) if r.device == peer.device), None)
            _require(receipt is not None, f"{machine} has no receipt of {peer} for log {row.n}")
            assert receipt is not None
            device, statement = receipts.check_receipt(receipt.proof)
            _require(
                (device, statement.topic) == (peer.device, row.topic),
                f"{machine} keeps a receipt of {peer} that is for another log, or another's",
            )
            digests = refresh_digests(store, row.n)
            _require(
                statement.entries_root == entries_root(digests, statement.first_week) == receipt.entries_root,
                f"{machine} has an old receipt of {peer} for log {row.n}",
            )
