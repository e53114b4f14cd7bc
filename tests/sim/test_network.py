"""The simulator itself: what it promises of connections, disks and wraps; and each checker sees its fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlog.errors import InvalidInput, StoreError
from mlog.log import bodies, grants, window
from mlog.log.bodies import Kind
from mlog.log.crypto import hpke_suite, unwrap
from mlog.log.cuts import Cuts
from mlog.log.entry import Sealed
from mlog.log.intake import Taken
from mlog.log.people import People
from mlog.log.private_log import PrivateLog
from mlog.log.replica import Draft, Replica
from mlog.log.store import BodyState, EntryRow, LogKind
from mlog.protocol import sending, wire
from mlog.protocol.events import Close, Closed, Committed, Effect, Event
from mlog.protocol.exchange import Exchange
from mlog.protocol.node import Node
from mlog.protocol.session import Session

from . import checkers, rights
from .checkers import Ledger
from .entropy import SeededEntropy, wrap
from .faults import POINTS, Disk, Fault, Injected, Killed, SimStore
from .machine import START_MS, Machine, keys_of
from .network import Connection, Network, Observer, SimFailure, Transport
from .schedule import Action, Schedule
from .simulation import Simulation, paired


class World:
    """Devices of one person that are connected, with a ledger."""

    def __init__(self, count: int = 2):
        begun = paired(count, (), sqlite=False)
        self.machines = [Machine(index, "test") for index in range(count)]
        self.network = Network("test", self.machines)
        self.ledger = Ledger(self.network)
        for machine, disk in zip(self.machines, begun.disks, strict=True):
            machine.continue_from(disk)
            self.ledger.begin(machine)
            self.network.boot(machine)
        self.topic = begun.topics[-1]
        for machine in self.machines[1:]:
            self.network.meet(machine, self.machines[0])
        self.network.run(1_000)

    def say(self, machine: Machine, text: str = "hello") -> list[EntryRow]:
        draft = Draft(Kind.MESSAGE, bodies.Text(text=text), self.network.now_ms)
        rows = machine.say(self.topic, [draft], self.network.now_ms, beside=False)
        self.network.post(machine, Committed())
        return rows

    def texts(self, machine: Machine) -> list[str]:
        assert machine.replica is not None
        n = machine.log_n(self.topic)
        assert n is not None
        return [message.text for message in checkers.view_of(self.network, machine.replica, n)]


# -- entropy ---------------------------------------------------------------------------------


def test_what_the_simulator_wraps_the_product_opens():
    entropy = SeededEntropy("a seed")
    for index in range(3):
        identity = keys_of(index)
        secret = entropy.random(32)
        sealed = entropy.wrap(identity.hpke_public, secret, b"info")
        assert unwrap(identity.keys, sealed, b"info") == secret
        with pytest.raises(InvalidInput):
            unwrap(identity.keys, sealed, b"other info")
        with pytest.raises(InvalidInput):
            unwrap(keys_of(index + 1).keys, sealed, b"info")


def test_a_wrap_follows_from_its_randomness_alone_and_has_the_size_of_a_real_one():
    public = keys_of(0).hpke_public
    first = wrap(public, b"s" * 32, b"info", bytes(64))
    assert first == wrap(public, b"s" * 32, b"info", bytes(64))
    assert first != wrap(public, b"s" * 32, b"info", bytes(63) + b"\1")
    assert first[:1088] != wrap(public, b"s" * 32, b"info", b"\1" + bytes(63))[:1088]
    from mlog.log.crypto import hpke_public_key

    assert len(first) == len(hpke_suite().encrypt(b"s" * 32, hpke_public_key(public), b"info"))


def test_entropy_differs_by_seed_and_never_repeats():
    one, other = SeededEntropy("a", 1), SeededEntropy("a", 2)
    drawn = [one.random(16), one.random(16), other.random(16)]
    assert len(set(drawn)) == 3
    assert SeededEntropy("a", 1).random(16) == drawn[0]


# -- disks -----------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk" if request.param == "sqlite" else None)
    yield made
    made.close()


def _change(store: SimStore, fault: Fault | None = None) -> None:
    machine = Machine(0, f"disk {store.next_n()}")
    machine.store = store
    replica = machine._make_replica(store)
    store.fault = fault
    replica.create_log(LogKind.CONVERSATION, [], START_MS)


@pytest.mark.parametrize("point", POINTS)
def test_a_disk_keeps_what_was_committed_before_the_point_of_the_kill(disk: Disk, point: str):
    store = disk.open()
    _change(store)
    entries = store.next_n()
    with pytest.raises(Killed):
        _change(store, Fault(point, 0, "kill"))
    disk.close()
    kept = disk.open().next_n()
    assert (kept > entries) == (point in ("after commit", "after marker"))


def test_a_disk_fails_as_a_disk_does(disk: Disk):
    store = disk.open()
    with pytest.raises(StoreError) as caught:
        _change(store, Fault("inside", 0, "fail"))
    assert isinstance(caught.value, Injected)
    assert store.next_n() == 1
    assert store.depth == 0


def test_a_backup_is_what_was_there_when_it_was_made(disk: Disk):
    store = disk.open()
    _change(store)
    entries, snapshot, inode = store.next_n(), disk.snapshot(), disk.inode
    _change(store)
    disk.close()
    disk.restore(snapshot)
    assert disk.open().next_n() == entries
    assert disk.inode != inode


def test_a_restored_machine_writes_under_a_new_incarnation_and_an_unnoticed_one_does_not():
    world = World()
    machine = world.machines[1]
    assert machine.replica is not None
    machine.snapshot()
    world.say(machine)
    before = machine.replica.incarnation
    for unnoticed in (True, False):
        world.network.kill(machine)
        machine.restore(0, unnoticed=unnoticed)
        world.ledger.restored(machine)
        world.network.boot(machine)
        assert machine.replica is not None
        assert (machine.replica.incarnation == before) == unnoticed


# -- connections -----------------------------------------------------------------------------


def test_frames_arrive_in_order_each_once():
    world = World()
    for number in range(30):
        world.say(world.machines[number % 2], f"{number}")
        world.network.run(number)
    world.network.run(60_000)
    assert world.texts(world.machines[0]) == world.texts(world.machines[1])
    assert len(world.texts(world.machines[0])) == 30


@pytest.mark.parametrize("kind", ["lose", "repeat", "swap"])
def test_a_transport_that_breaks_its_promise_ends_the_session_and_harms_nothing(kind: str):
    world = World()
    first, second = world.machines
    (connection,) = world.network.connections_of(first, second)
    connection.transport = Transport(20, **{kind: 0.4})
    for number in range(40):
        world.say(world.machines[number % 2], f"{number}")
        world.network.run(20)
    world.network.run(120_000)
    assert not connection.alive
    world.network.meet(first, second)
    world.network.run(120_000)
    assert world.texts(first) == world.texts(second)
    assert len(world.texts(first)) == 40


def test_both_ends_hear_once_that_a_connection_is_gone():
    world = World()
    closed: list[tuple[int, int]] = []

    class Watch(Observer):
        def handled(self, machine: Machine, event: Event | None, effects: list[Effect]) -> None:
            if isinstance(event, Closed):
                closed.append((machine.index, event.session))

    world.network.observers.append(Watch())
    first, second = world.machines
    (connection,) = world.network.connections_of(first, second)
    sessions = {(end.machine.index, end.session) for end in connection.ends}
    world.network._carry_out(first, Close(connection.ends[connection.ends[1].machine is first].session, "x"))
    world.network.run(1_000)
    assert sorted(found for found in closed if found in sessions) == sorted(sessions)


def test_a_stalled_machine_handles_nothing_until_it_goes_on():
    world = World()
    first, second = world.machines
    second.stalled_until_ms = world.network.now_ms + 30_000
    world.say(first)
    world.network.run(29_000)
    assert world.texts(second) == []
    world.network.run(5_000)
    assert world.texts(second) == ["hello"]


def test_a_kill_amid_effects_carries_out_those_before_it():
    world = World()
    first, second = world.machines
    world.say(first)
    world.network.kill_amid_effects(first, 0)
    world.network.run(1_000)
    assert not first.runs
    assert world.texts(second) == []
    world.network.boot(first)
    checkers.check_held(first)


# -- checkers: each sees what it is for --------------------------------------------------------


def _break(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, replacement: Any) -> None:
    monkeypatch.setattr(owner, name, replacement)


def test_an_acknowledgement_before_the_commit_is_seen(monkeypatch: pytest.MonkeyPatch):
    world = World()
    handle = Exchange._entries

    def hasty(self: Exchange, message: wire.Entries) -> Iterator[None]:
        with self._link.store.transaction():
            yield from handle(self, message)

    monkeypatch.setattr(Exchange, "_HANDLERS", {**Exchange._HANDLERS, wire.Entries: (hasty, hasty)})
    world.say(world.machines[0])
    with pytest.raises(SimFailure, match=r"before its commit|transaction open"):
        world.network.run(10_000)


def test_an_acknowledgement_of_what_was_not_stored_is_seen():
    world = World()
    world.machines[1].take = lambda receive, log, entries, now_ms: Taken()
    world.say(world.machines[0])
    with pytest.raises(SimFailure, match="acknowledges 1 entries less 0, and has 0"):
        world.network.run(10_000)


def test_a_loss_of_what_was_acknowledged_is_seen():
    world = World()
    machine = world.machines[1]
    machine.snapshot()
    world.say(world.machines[0])
    world.network.run(10_000)
    world.network.kill(machine)
    held = {topic: set(ids) for topic, ids in machine.held.items()}
    machine.restore(0)
    machine.held = held
    world.network.boot(machine)
    with pytest.raises(SimFailure, match="lost 1 entries"):
        checkers.check_held(machine)


def test_a_chain_that_an_honest_device_forks_is_seen():
    world = World()
    machine = world.machines[1]
    machine.snapshot()
    world.say(machine, "one")
    world.network.run(1_000)
    world.network.kill(machine)
    machine.restore(0, unnoticed=True)
    world.ledger.restored(machine)
    world.network.boot(machine)
    world.say(machine, "other")
    with pytest.raises(SimFailure, match="wrote two entries at seq"):
        world.network.run(10_000)


def test_an_exception_that_leaves_a_node_is_seen(monkeypatch: pytest.MonkeyPatch):
    world = World()

    def broken(self: Node) -> None:
        raise KeyError("a defect")

    _break(monkeypatch, Node, "_committed", broken)
    world.say(world.machines[0])
    with pytest.raises(SimFailure, match="m0 raised KeyError"):
        world.network.run(1_000)


def test_a_message_that_its_author_never_wrote_is_seen():
    world = World()
    rows = world.say(world.machines[0])
    world.network.run(5_000)
    world.ledger.written[world.machines[0].device].discard(rows[0].id)
    with pytest.raises(SimFailure, match="never wrote"):
        checkers.check_authentic(world.network, world.ledger, world.machines[1])


def test_replicas_that_differ_are_seen():
    world = World()
    world.network.part(*world.machines)
    world.say(world.machines[0])
    world.network.run(5_000)
    with pytest.raises(SimFailure, match="differ in"):
        checkers.check_equal(world.network, world.machines, world.topic)


def test_an_old_status_and_an_old_receipt_are_seen(monkeypatch: pytest.MonkeyPatch):
    world = World()
    checkers.check_statuses(world.machines[0], world.machines[1])
    _break(monkeypatch, Exchange, "_touch", lambda self, log, *, changed=True: None)
    world.say(world.machines[0])
    world.network.run(60_000)
    with pytest.raises(SimFailure, match="old receipt"):
        checkers.check_statuses(world.machines[0], world.machines[1])


def test_a_bad_part_that_an_honest_device_passes_on_is_seen(monkeypatch: pytest.MonkeyPatch):
    world = World()
    pack = sending.to_tail

    def damaged(sealed: Sealed) -> bytes:
        tail = bytearray(pack(sealed))
        tail[-1] ^= 1
        return bytes(tail)

    monkeypatch.setattr(sending, "to_tail", damaged)
    world.say(world.machines[0])
    world.network.run(60_000)
    assert "refused 1 entries" in world.ledger.refused[0]


def test_a_pruning_without_proof_is_seen(monkeypatch: pytest.MonkeyPatch):
    simulation = Simulation(Schedule(1, "scopes", 4, {3: "window", 2: "headers"}, ()))
    simulation.set_up()
    pruning = Action("prune", 3, 0, 1, 0)
    for action in (Action("import", 3, 0, 39, 1_000), pruning):
        simulation.act(action)
    monkeypatch.setattr(window, "_proven_by_any", lambda replica, row, now_ms: set(range(2_000)))
    with pytest.raises(SimFailure, match="nobody has signed for"):
        simulation.act(pruning)


def test_a_text_that_is_gone_everywhere_is_seen():
    world = World()
    rows = world.say(world.machines[0])
    world.network.run(60_000)
    checkers.check_nothing_is_lost(world.ledger, world.machines, world.topic)
    for machine in world.machines:
        store, n = machine.store, machine.log_n(world.topic)
        assert store is not None
        assert n is not None
        (row,) = store.find(n, [rows[0].id]).values()
        row.body, row.state = None, BodyState.NOT_FETCHED
        store.update([row], [], [], [])
    with pytest.raises(SimFailure, match="1 texts are known of"):
        checkers.check_nothing_is_lost(world.ledger, world.machines, world.topic)


# -- checkers of several persons ---------------------------------------------------------------


def society(*persons: int) -> Simulation:
    """Several persons who know each other; the first two conversations are of those who are contacts."""
    simulation = Simulation(Schedule(1, "members", len(persons), {}, (), persons))
    simulation.set_up()
    return simulation


def test_secrets_of_a_conversation_that_was_left_are_seen(monkeypatch: pytest.MonkeyPatch):
    simulation = society(0, 1)
    assert simulation.rights is not None
    _break(monkeypatch, Replica, "begin_epoch", lambda self, log, now_ms, *, fresh=False: None)
    _break(monkeypatch, Replica, "_epoch", lambda self, state, now_ms: state.keys.current)
    simulation.act(Action("expel", 0, 0, 0, 1_000))
    simulation.rights.check_secrets(simulation.machines[1])
    simulation.act(Action("say", 0, 0, 0, 1_000))
    with pytest.raises(SimFailure, match="m1 can open what m0 wrote and kept from it"):
        simulation.rights.check_secrets(simulation.machines[1])


def test_secrets_of_who_is_let_in_knowingly_are_none():
    simulation = society(0, 1)
    assert simulation.rights is not None
    for action in ("expel", "say", "add"):
        simulation.act(Action(action, 0, 0, 0, 1_000))
    assert any(secret.kept_from for of in simulation.rights.secrets.values() for secret in of.values())
    simulation.heal()
    simulation.rights.check_secrets(simulation.machines[1])
    simulation.check()


def test_entries_that_are_sent_to_whom_they_are_not_for_are_seen(monkeypatch: pytest.MonkeyPatch):
    simulation = society(0, 1)
    _break(monkeypatch, People, "_shared_with", lambda self, device: {r.n: True for r in self._store.logs()})
    simulation.act(Action("expel", 0, 0, 0, 0))
    simulation.act(Action("say", 0, 0, 0, 0))
    with pytest.raises(SimFailure, match="to which it does not belong"):
        simulation.act(Action("meet", 0, 0, 0, 10_000))


def test_what_counts_from_behind_a_cut_is_seen(monkeypatch: pytest.MonkeyPatch):
    simulation = society(0, 1)
    first, second = simulation.machines
    topic = simulation.topics[0]
    simulation.act(Action("expel", 0, 0, 0, 0))
    simulation.act(Action("say", 1, 0, 0, 0))
    here, there = first.log_n(topic), second.log_n(topic)
    assert here is not None
    assert there is not None
    assert first.replica is not None
    assert second.replica is not None
    assert simulation.rights is not None

    def take() -> None:
        assert first.replica is not None
        assert second.replica is not None
        rows = second.replica.store.arrivals(there, 0, 1_000)
        first.replica.receive(here, second.replica.sealed_of(there, rows, bodies=True), START_MS)

    rights.check_within_cuts(simulation.network, simulation.rights, first, topic)
    _break(monkeypatch, Cuts, "quarantined", lambda self, rows: set[int]())
    take()
    with pytest.raises(SimFailure, match="from behind its cut"):
        rights.check_within_cuts(simulation.network, simulation.rights, first, topic)


def test_who_is_never_given_its_conversation_is_seen(monkeypatch: pytest.MonkeyPatch):
    simulation = society(0, 1)
    monkeypatch.setattr(grants, "grant_for", lambda replica, device, known, binding: None)
    simulation.act(Action("begin", 0, 1, 0, 1_000))
    simulation.heal()
    with pytest.raises(SimFailure, match="were never given it"):
        simulation.check()


def test_members_that_differ_over_who_belongs_are_seen(monkeypatch: pytest.MonkeyPatch):
    simulation = society(0, 1)
    simulation.heal()
    simulation.check()
    second = simulation.machines[1].replica
    assert second is not None
    heads = People.heads
    _break(monkeypatch, People, "heads", lambda self, log: () if self is second.people else heads(self, log))
    with pytest.raises(SimFailure, match="differ in rulings"):
        simulation.check()


def test_an_entry_that_a_member_cannot_read_is_seen():
    simulation = society(0, 1)
    simulation.act(Action("say", 0, 0, 0, 0))
    simulation.heal()
    second = simulation.machines[1]
    n = second.log_n(simulation.topics[0])
    assert n is not None
    assert second.store is not None
    row = second.store.arrivals(n, 0, 1_000)[-1]
    row.chain = 0
    second.store.update([row], [], [], [])
    with pytest.raises(SimFailure, match="cannot read 1 entries"):
        rights.check_all_is_read(simulation, second, simulation.topics[0], simulation.machines)


def test_devices_that_differ_in_what_their_person_notes_are_seen(monkeypatch: pytest.MonkeyPatch):
    simulation = society(0, 0, 1)
    simulation.act(Action("note", 0, 0, 0, 0))
    simulation.heal()
    simulation.check()
    _break(monkeypatch, PrivateLog, "state", lambda self: object())
    with pytest.raises(SimFailure, match="what their person notes"):
        simulation.check()


def test_a_livelock_is_seen(monkeypatch: pytest.MonkeyPatch):
    world = World()
    _break(monkeypatch, Session, "busy", property(lambda self: True))
    world.say(world.machines[0])
    with pytest.raises(SimFailure, match="livelock"):
        world.network.run(1_000_000_000)


def test_frames_in_an_idle_hour_are_seen():
    simulation = Simulation(Schedule(1, "quiet", 2, {}, ()))
    simulation.set_up()
    simulation.heal()
    first = simulation.machines[0]
    assert first.node is not None
    simulation.network.at(
        simulation.network.now_ms + 60_000, lambda: simulation.act(Action("say", 0, 0, 0, 0))
    )
    with pytest.raises(SimFailure, match="frames sent in an idle hour"):
        simulation.idle()


def test_a_flood_in_one_connection_is_seen():
    world = World()
    first, second = world.machines
    (connection,) = world.network.connections_of(first, second)
    side = 0 if connection.ends[0].machine is first else 1
    connection.flying_size[side] = checkers._FLYING_SIZE_MAX
    with pytest.raises(SimFailure, match="bytes on their way"):
        world.ledger.sent(first, connection, 1)
    assert isinstance(connection, Connection)
