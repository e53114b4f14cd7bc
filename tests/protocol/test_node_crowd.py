"""A node with many sessions: what an event costs depends on those that have something to do."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import pytest

from mlog.log import belonging
from mlog.log.replica import Replica
from mlog.log.store import LogKind
from mlog.protocol.events import Committed, Event, Opened, Received, Send, Tick, WakeAt
from mlog.protocol.node import Node
from mlog.protocol.session import Session
from tests.log.persons import home as home_of
from tests.log.persons import meet
from tests.log.persons import trust as admit
from tests.log.support import START_MS, SeededEntropy, message

from .pair import give, replica, share, trust


def crowd(peers: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Replica, Node, Counter[str]]:
    """A node with many sessions in which all is at rest, and counts of what it does from then on."""
    home = replica(0)
    log = home.create_log(LogKind.CONVERSATION, [message("first")], START_MS)
    node = Node(home, SeededEntropy("crowd"), dials=False)
    node.start(START_MS)
    ends: dict[int, Node] = {}
    for number in range(1, peers + 1):
        other = replica(number)
        trust(home, other)
        share(home, other, log)
        give(home, other, log)
        ends[number] = Node(other, SeededEntropy(f"crowd {number}"), dials=False)
        ends[number].start(START_MS)
    done: Counter[str] = Counter()
    handle(node, ends, [(0, Opened(session=number)) for number in ends])
    handle(node, ends, [(number, Opened(session=number, device=home.device_id)) for number in ends])
    assert all(session.idle for session in node._sessions.values())

    def count(of: object, name: str) -> None:
        before = getattr(of, name)

        def counted(*args: Any, **options: Any) -> Any:
            done[name] += 1
            return before(*args, **options)

        monkeypatch.setattr(of, name, counted)

    for name in ("arrivals", "logs", "peers"):
        count(home.store, name)
    count(home, "sealed_of")
    count(Session, "step")
    count(Session, "tick")
    return home, node, done


def handle(node: Node, ends: dict[int, Node], events: list[tuple[int, Event]]) -> list[tuple[int, Event]]:
    """Hand out events, those of the crowd's node as 0, until nothing is left to do; gives what it sent."""
    queue, sent = deque(events), list[tuple[int, Event]]()
    while queue:
        at, event = queue.popleft()
        for effect in (ends[at] if at else node).handle(event, START_MS):
            if isinstance(effect, Send):
                target = 0 if at else effect.session
                if target in ends or target == 0:
                    queue.append((target, Received(effect.session, effect.data)))
                sent.append((at, Received(effect.session, effect.data)))
            elif isinstance(effect, WakeAt) and effect.time_ms <= START_MS:
                queue.append((at, Tick()))
    return sent


def test_a_message_for_many_sessions_is_read_and_sealed_once(monkeypatch: pytest.MonkeyPatch):
    home, node, done = crowd(8, monkeypatch)
    home.write(1, [message("for all")], START_MS)
    done.clear()
    sent = handle(node, {}, [(0, Committed())])
    assert len(sent) == 8
    assert done["sealed_of"] == 1
    # The row, and that nothing comes behind it.
    assert done["arrivals"] == 2
    # Not one for each session.
    assert done["logs"] < 8
    assert done["peers"] < 8


def test_a_commit_without_anything_to_pass_on_gives_no_session_a_turn(monkeypatch: pytest.MonkeyPatch):
    _, node, done = crowd(8, monkeypatch)
    assert not handle(node, {}, [(0, Committed())])
    assert done["step"] == done["tick"] == done["arrivals"] == 0


def test_a_tick_before_anything_is_due_gives_no_session_a_turn(monkeypatch: pytest.MonkeyPatch):
    _, node, done = crowd(8, monkeypatch)
    handle(node, {}, [(0, Tick())])
    assert done["step"] == done["tick"] == done["logs"] == done["peers"] == 0


def test_a_device_is_cut_off_also_where_its_revocation_comes_from_another_one():
    desk, phone, lost = home_of(0), home_of(1), home_of(2)
    for index, other in ((1, phone), (2, lost), (1, phone)):
        admit(desk, 0, other, index)
        meet(desk, other)
    node = Node(phone, SeededEntropy("phone"), dials=False)
    ends = {
        1: Node(desk, SeededEntropy("desk"), dials=False),
        2: Node(lost, SeededEntropy("lost"), dials=False),
    }
    for each in (node, *ends.values()):
        each.start(START_MS)
    handle(node, ends, [(0, Opened(session=number)) for number in ends])
    handle(node, ends, [(number, Opened(session=number, device=phone.device_id)) for number in ends])
    assert node._sessions.keys() == {1, 2}
    belonging.revoke(desk, lost.device_id, START_MS + 1000)
    handle(node, ends, [(1, Committed())])
    assert phone.people.is_revoked(lost.device_id)
    assert node._sessions.keys() == {1}
    assert not lost.people.is_revoked(lost.device_id), "it was told nothing more"
