"""What a network of several persons wrote gives one result, in whatever order and parts somebody gets it.

A schedule gives one order of arrival for each device. Here all that its devices hold is given to an outsider
who has all secrets: in any order, by ones or many, texts and signatures apart, epochs late. What is left for
later is done now and then.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec
import pytest

from mlog.log.crypto import EpochKeys, LogKeys, Vault
from mlog.log.entry import Sealed
from mlog.log.ids import EntryId, Incarnation, Topic
from mlog.log.memory import MemoryStore
from mlog.log.people import People
from mlog.log.replica import Replica
from mlog.log.store import BodyState, LogKind, Reason, Task
from mlog.log.verify import Finding, verify_log

from .checkers import rows_of
from .entropy import SeededEntropy
from .machine import keys_of
from .schedule import PROFILES, draw
from .simulation import Simulation, run_schedule

_SEEDS: Final = 2
_ORDERS: Final = 5
_OUTSIDER: Final = 99
_ALL: Final = 1_000_000


class _Log(msgspec.Struct):
    """All that is held of a log anywhere."""

    topic: Topic
    kind: LogKind
    secret: bytes
    epochs: dict[bytes, EpochKeys]
    entries: dict[EntryId, Sealed]


def _held(simulation: Simulation) -> list[_Log]:
    logs: dict[Topic, _Log] = {}
    for machine in simulation.machines:
        replica = machine.replica
        for row in replica.store.logs() if replica is not None else ():
            assert replica is not None
            if row.kind == LogKind.BLIND:
                continue
            keys = replica.log(row.n).keys
            log = logs.setdefault(row.topic, _Log(row.topic, row.kind, keys.secret, {}, {}))
            log.epochs |= {epoch.secret: epoch for epoch in (*keys.whole, *keys.granted.values())}
            rows = {r.id: r for r in replica.store.arrivals(row.n, 0, _ALL)}
            for sealed in replica.sealed_of(row.n, list(rows.values()), bodies=True):
                known = log.entries.get(sealed.id)
                signature = known.signature if known is not None else sealed.signature
                if rows[sealed.id].chain and sealed.signature is not None:
                    # Who reads it checked this one.
                    signature = sealed.signature
                body = sealed.body if known is None or known.body is None else known.body
                log.entries[sealed.id] = Sealed(sealed.id, sealed.outer, body, signature)
    return list(logs.values())


def _given(logs: Sequence[_Log], chance: Random) -> Replica:
    """An outsider who got all of it in some order."""
    identity = keys_of(_OUTSIDER)
    vault, entropy = Vault(identity.storage_key), SeededEntropy("outsider")
    replica = Replica(MemoryStore(), identity.keys, vault, entropy, Incarnation(bytes(8)))
    late: list[tuple[int, list[EpochKeys]]] = []
    left: dict[int, list[Sealed]] = {}
    for log in chance.sample(logs, len(logs)):
        [n] = replica.add_logs([(log.kind, LogKeys(log.secret))])
        late.append((n, list(log.epochs.values())))
        left[n] = _in_parts(list(log.entries.values()), chance)
    for n, epochs in late if chance.random() < 0.5 else ():
        replica.learn_epochs(n, epochs)
    at_once = chance.choice([1, 3, 8, 40])
    while left:
        n = chance.choice(list(left))
        part, left[n] = left[n][:at_once], left[n][at_once:]
        replica.receive(n, part, 0)
        if not left[n]:
            del left[n]
        if late and chance.random() < 0.05:
            replica.learn_epochs(*late.pop())
        if chance.random() < 0.5:
            replica.settle(chance.choice(replica.store.logs()).n, 0)
    for n, epochs in late:
        replica.learn_epochs(n, epochs)
    rows = replica.store.logs()
    # What a person log leaves for later may leave more in others.
    while any(replica.store.unsettled(row.n, task, 1) for row in rows for task in Task):
        for row in rows:
            replica.settle(row.n, 0)
    return replica


def _in_parts(entries: list[Sealed], chance: Random) -> list[Sealed]:
    """These entries as they may come: nearly in order or not, some before their texts or signatures."""
    disorder = chance.choice([1, 10, 1000])
    at = {sealed.id: n + chance.random() * disorder for n, sealed in enumerate(entries)}
    coming = [(at[sealed.id], sealed) for sealed in entries]
    for sealed in entries if chance.random() < 0.5 else ():
        if chance.random() < 0.3:
            body, signature = chance.choice([(sealed.body, None), (None, sealed.signature), (None, None)])
            coming.append((at[sealed.id] - 10, Sealed(sealed.id, sealed.outer, body, signature)))
    return [sealed for _, sealed in sorted(coming, key=lambda each: each[0])]


def _facts(replica: Replica) -> dict[str, object]:
    """What all who hold the same agree on, as somebody works it out who starts anew."""
    facts: dict[str, object] = {}
    people = People(replica.store, replica.device_id)
    for log in replica.store.logs():
        assert replica.people.ends(log.n) == people.ends(log.n)
        found = [f for f in verify_log(replica, log.n) if isinstance(f, Finding)]
        assert [f for f in found if f.reason != Reason.FORKED] == []
        rows = rows_of(replica, log.n)
        ids = {row.n: row.id for row in rows}
        facts[f"{log.topic.hex()[:6]}, title"] = log.title
        facts[f"{log.topic.hex()[:6]}, members"] = [(m.subject, m.role) for m in replica.store.members(log.n)]
        for row in rows:
            edit = ids[row.edit].hex()[:8] if row.edit else ""
            gone = row.state in (BodyState.ERASED, BodyState.EXPIRED)
            facts[f"{log.topic.hex()[:6]}, {row.id.hex()[:8]}"] = row.rank, row.hidden, edit, gone
    return facts


@pytest.mark.parametrize("profile", [name for name, profile in PROFILES.items() if profile.persons])
def test_all_orders_give_one_result(profile: str):
    first = int(os.environ.get("MLOG_SIM_SEED", "1"))
    for seed in range(first, first + _SEEDS):
        logs = _held(run_schedule(draw(profile, seed)))
        facts = _facts(_given(logs, Random(f"{profile} {seed} 0")))
        for order in range(1, _ORDERS):
            others = _facts(_given(logs, Random(f"{profile} {seed} {order}")))
            differing = {name for name in facts.keys() | others.keys() if facts.get(name) != others.get(name)}
            assert not differing, f"{profile} {seed}, order {order}"
