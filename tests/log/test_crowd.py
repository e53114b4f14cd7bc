"""What very many entries say of one message comes to the same as what few do, in slices."""

from __future__ import annotations

import json
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlog.log import bodies, crowd, fold
from mlog.log.bodies import Kind
from mlog.log.entry import Sealed
from mlog.log.memory import MemoryStore
from mlog.log.replica import Replica
from mlog.log.store import Task, TimelineQuery
from tests.protocol.hostile.minting import Mint

from .support import LOG, START_MS, device_keys, make_log, make_replica

HOUR_MS = 3600_000


def home() -> Replica:
    replica = make_replica(MemoryStore())
    make_log(replica)
    return replica


def settled(replica: Replica) -> int:
    parts = 0
    while replica.settle(LOG, START_MS):
        parts += 1
    assert not any(replica.store.unsettled(LOG, task, 1) for task in Task)
    return parts


def view(replica: Replica) -> list[Any]:
    settled(replica)
    store = replica.store
    rows = store.timeline(TimelineQuery(log=LOG, limit=1000, kinds=frozenset(), hidden=True))
    edits = store.rows({row.edit for row in rows if row.edit})
    return [
        (row.id, row.hidden, row.body, row.state, edits[row.edit].id if row.edit else None) for row in rows
    ]


def entries_of(random: Random, count: int) -> list[Sealed]:
    """Claims, edits, erasures and files of two messages, by three devices."""
    mints = [Mint(Random(n), home().log(LOG).keys, [device_keys(n)], []) for n in (2, 3, 4)]
    # Devices of no person: each is an author of its own.
    first = mints[0].entry(Kind.MESSAGE, b'{"text":"first"}', time_ms=START_MS)
    mids = [first.id[:16], bytes(16)]
    found = [first]
    for _ in range(count):
        mint, mid = random.choice(mints), random.choice(mids)
        of = mid.hex()
        kind = random.choice((Kind.MESSAGE, Kind.MESSAGE, Kind.EDIT, Kind.EDIT, Kind.MANIFEST, Kind.ERASURE))
        text = random.choice(("a", "b", "c"))
        said: bytes
        match kind:
            case Kind.MESSAGE:
                said = json.dumps(
                    {"text": text, "by": random.choice("xy")} | random.choice(({}, {"erased": True}))
                ).encode()
            case Kind.EDIT:
                said = bodies.encode(bodies.Edit(of=of, text=text))
            case Kind.MANIFEST:
                said = bodies.encode(bodies.Manifest(of=of, name=text, size=0))
            case _:
                said = bodies.encode(bodies.Erasure(of=of))
        at_ms = START_MS + random.randrange(4) * HOUR_MS
        found.append(mint.entry(kind, said, time_ms=at_ms, mid=mid if kind == Kind.MESSAGE else None))
    return found


def received(entries: list[Sealed], at_once: int, least: int) -> Replica:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fold, "CROWDED_FROM", least)
        patched.setattr(crowd, "_ROWS", 3)
        replica = home()
        for at in range(0, len(entries), at_once):
            replica.receive(LOG, entries[at : at + at_once], START_MS)
            if at % 3:
                settled(replica)
        settled(replica)
    return replica


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 25), st.integers(1, 30))
def test_a_crowd_is_folded_like_any_message_in_whatever_order_it_comes(
    random: Random, count: int, at_once: int
):
    entries = entries_of(random, count)
    expected = view(received(entries, len(entries), 10**6))
    assert view(received(entries, at_once, 1)) == expected
    random.shuffle(entries)
    assert view(received(entries, at_once, 1)) == expected
    assert view(received(entries, at_once, 6)) == expected
    assert view(received(entries, at_once, 10**6)) == expected


@pytest.mark.parametrize("most", [1, 12])
def test_what_comes_while_a_crowd_is_folded_counts(most: int):
    random = Random(5)
    entries = [*entries_of(random, 20), *entries_of(random, 30)]
    expected = view(received(entries, 100, 10**6))
    for stop in range(12):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(fold, "CROWDED_FROM", most)
            patched.setattr(crowd, "_ROWS", 3)
            replica = home()
            replica.receive(LOG, entries[:30], START_MS)
            for entry in entries[30:]:
                # Alone it may be of a message that is no crowd by itself.
                for _ in range(stop):
                    replica.settle(LOG, START_MS)
                replica.receive(LOG, [entry], START_MS)
            assert view(replica) == expected


def test_a_crowd_takes_as_many_parts_as_it_has_pages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fold, "CROWDED_FROM", 20)
    monkeypatch.setattr(crowd, "_ROWS", 10)
    replica = home()
    mint = Mint(Random(1), replica.log(LOG).keys, [device_keys(2)], [])
    claims = [mint.entry(Kind.MESSAGE, b'{"text":"%d"}' % n, mid=bytes(16)) for n in range(100)]
    replica.receive(LOG, claims, START_MS)
    assert settled(replica) >= 20
    replica.receive(LOG, [mint.entry(Kind.MESSAGE, b'{"text":"7"}', mid=bytes(16))], START_MS)
    assert settled(replica) >= 20
    assert sum(hidden for _, hidden, _, _, _ in view(replica)) == 1


def test_a_transaction_that_fails_leaves_a_crowd_to_be_folded_from_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fold, "CROWDED_FROM", 1)
    monkeypatch.setattr(crowd, "_ROWS", 3)
    entries = entries_of(Random(9), 25)
    expected = view(received(entries, 100, 10**6))
    replica = home()
    replica.receive(LOG, entries, START_MS)
    for _ in range(9):
        with suppress(RuntimeError), replica.transaction():
            replica.settle(LOG, START_MS)
            raise RuntimeError("as when the disk is full")
        replica.settle(LOG, START_MS)
    assert view(replica) == expected
