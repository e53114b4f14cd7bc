"""The runtime, with a machine of the test's own: order, one timer, failures, the end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mlog import limits
from mlog.adapters.runtime import Runtime, stopped_by_signals
from mlog.errors import Busy, StoreError
from mlog.log.ids import DeviceId
from mlog.protocol.events import (
    Close,
    Closed,
    Committed,
    Dial,
    Effect,
    Established,
    Event,
    Notice,
    Opened,
    Paged,
    Received,
    Send,
    Tick,
    Unreachable,
    WakeAt,
)

_LOOPBACK = "127.0.0.1"
_DEVICE = DeviceId(b"d" * 32)

React = Callable[[Event, int], list[Effect]]


class FakeNode:
    """Remembers events, and answers as the test says."""

    def __init__(self, react: React = lambda _, __: [], first: list[Effect] | None = None):
        self.events: list[Event] = []
        self.times: list[int] = []
        self._react = react
        self._first = first or []
        self._changed = asyncio.Event()

    def start(self, now_ms: int) -> list[Effect]:
        self.times.append(now_ms)
        return self._first

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        self.events.append(event)
        self.times.append(now_ms)
        self._changed.set()
        return self._react(event, now_ms)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def first(self, kind: type[Any], count: int = 1) -> Any:
        while len(self.of(kind)) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.of(kind)[count - 1]


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test
        # What was closed at the end is gone a few turns of the loop later.
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(bounded())


@asynccontextmanager
async def running(node: FakeNode, **options: Any) -> AsyncGenerator[Runtime]:
    runtime = Runtime(node, ping=False, default_port=1, **options)
    runtime.start()
    task = asyncio.ensure_future(runtime.run())
    try:
        yield runtime
    finally:
        runtime.stop()
        await task


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_two_nodes_talk_and_what_passed_is_counted() -> None:
    def answer(event: Event, _: int) -> list[Effect]:
        match event:
            case Opened(session=session, device=None):
                return [Established(session, _DEVICE)]
            case Received(session=session, data=data):
                return [Send(session, data * 2), Send(session, b"end"), Close(session, "done")]
            case _:
                return []

    def ask(event: Event, _: int) -> list[Effect]:
        match event:
            case Opened(session=session, device=device):
                assert device is not None
                return [Established(session, device), Send(session, b"hello")]
            case _:
                return []

    async def test() -> None:
        server, client = FakeNode(answer), FakeNode(ask)
        async with running(server) as here, running(client) as there:
            port = await here.peers.listen(_LOOPBACK, 0)
            there.peers.dial(_DEVICE, [f"{_LOOPBACK}:{port}"])
            await client.first(Opened)
            assert there.connected() == {_DEVICE: f"{_LOOPBACK}:{port}"}
            await client.first(Closed)
            await server.first(Closed)
            assert [event.data for event in client.of(Received)] == [b"hellohello", b"end"]
            assert there.traffic(_DEVICE) == (13, 5)
            assert here.traffic(_DEVICE) == (5, 13)
            assert there.connected() == {}
            assert there.moved == 3

    run(test())


def test_a_dial_effect_leads_to_opened_or_unreachable() -> None:
    async def test() -> None:
        server = FakeNode()
        async with running(server) as here:
            port = await here.peers.listen(_LOOPBACK, 0)
            node = FakeNode(first=[Dial(_DEVICE, (f"{_LOOPBACK}:{port}",))])
            async with running(node):
                assert (await node.first(Opened)).device == _DEVICE
        refused = FakeNode(first=[Dial(_DEVICE, (f"{_LOOPBACK}:{port}",))])
        async with running(refused):
            assert (await refused.first(Unreachable)).device == _DEVICE

    run(test())


def test_a_watcher_sees_each_event_before_the_node() -> None:
    async def test() -> None:
        seen: list[tuple[Event, int]] = []
        node = FakeNode()
        async with running(node, watch=lambda event: seen.append((event, len(node.events)))) as runtime:
            runtime.deliver(Committed())
            runtime.deliver(Tick())
        assert seen == [(Committed(), 0), (Tick(), 1)]

    run(test())


def test_notices_and_pages_are_passed_on_in_order() -> None:
    async def test() -> None:
        told: list[Effect] = []
        effects: list[Effect] = [Notice(what="one"), Paged(number=7), Notice(what="two")]
        async with running(FakeNode(first=effects), notice=told.append, paged=told.append):
            assert told == effects

    run(test())


# -- time ------------------------------------------------------------------------------------


def test_the_node_is_woken_when_it_asked_and_only_the_last_time_counts() -> None:
    async def test() -> None:
        def react(event: Event, now_ms: int) -> list[Effect]:
            return [WakeAt(now_ms + 30), WakeAt(now_ms + 20)] if isinstance(event, Committed) else []

        node = FakeNode(react)
        async with running(node) as runtime:
            runtime.deliver(Committed())
            await node.first(Tick)
            assert node.times[-1] - node.times[-2] >= 19
            await asyncio.sleep(0.05)
            assert len(node.of(Tick)) == 1, "idle is silent"

    run(test())


def test_work_in_slices_lets_others_have_their_turn() -> None:
    async def test() -> None:
        slices = 0

        def react(event: Event, now_ms: int) -> list[Effect]:
            nonlocal slices
            if isinstance(event, Tick):
                slices += 1
            return [WakeAt(now_ms - 1)] if slices < 100 else []

        node = FakeNode(react)
        async with running(node) as runtime:
            runtime.deliver(Committed())
            await turns(5)
            assert 0 < slices < 10
            await node.first(Tick, 100)

    run(test())


def test_a_clock_that_was_put_right_does_not_let_the_node_sleep_for_years(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WAKE_MAX_MS", 10)

    async def test() -> None:
        node = FakeNode(first=[WakeAt(2**50)])
        async with running(node, clock_ms=lambda: 0):
            await node.first(Tick)

    run(test())


# -- commits ---------------------------------------------------------------------------------


def test_many_commits_are_told_once_and_those_of_the_node_are_not() -> None:
    async def test() -> None:
        runtimes: list[Runtime] = []

        def commit(_: Event, __: int) -> list[Effect]:
            runtimes[0].committed()
            return []

        node = FakeNode(commit)
        async with running(node) as runtime:
            runtimes.append(runtime)
            for _ in range(10):
                runtime.committed()
            await turns()
            assert node.events == [Committed()]
            runtime.committed()
            await turns()
            assert node.events == [Committed(), Committed()]

    run(test())


# -- failures --------------------------------------------------------------------------------


def _failing(error: Exception, kind: type[Any], *, times: int = 1) -> React:
    left = times

    def react(event: Event, _: int) -> list[Effect]:
        nonlocal left
        if isinstance(event, kind) and left:
            left -= 1
            raise error
        return [Send(event.session, b"fine")] if isinstance(event, Received) else []

    return react


def test_a_full_disk_ends_the_service_with_its_message_and_nothing_is_sent() -> None:
    async def test() -> None:
        node = FakeNode(_failing(StoreError("the disk is full"), Received))
        client = FakeNode(lambda event, _: [Send(event.session, b"?")] if isinstance(event, Opened) else [])
        runtime = Runtime(node, ping=False, default_port=1)
        runtime.start()
        port = await runtime.peers.listen(_LOOPBACK, 0)
        async with running(client) as there:
            there.peers.dial(_DEVICE, [f"{_LOOPBACK}:{port}"])
            with pytest.raises(StoreError, match="disk is full"):
                await runtime.run()
            await client.first(Closed)
            assert not client.of(Received)
            before = len(node.events)
            runtime.deliver(Committed())
            assert len(node.events) == before, "a stopped node is left alone"

    run(test())


@pytest.mark.parametrize(
    ("error", "told"), [(Busy("another process is writing"), 0), (ValueError("odd bytes"), 1)]
)
def test_a_message_that_could_not_be_handled_ends_its_session_and_no_other(
    error: Exception, told: int
) -> None:
    async def test() -> None:
        notices: list[Notice] = []
        node = FakeNode(_failing(error, Received))
        client = FakeNode(lambda event, _: [Send(event.session, b"?")] if isinstance(event, Opened) else [])
        async with running(node, notice=notices.append) as here, running(client) as there:
            port = await here.peers.listen(_LOOPBACK, 0)
            for _ in range(2):
                there.peers.dial(_DEVICE, [f"{_LOOPBACK}:{port}"])
                await client.first(Opened)
                await node.first(Received)
                await client.first(Closed)
            assert (await client.first(Received)).data == b"fine"
            assert len(client.of(Closed)) == 1
            assert [notice.what for notice in notices] == ["fault"] * told

    run(test())


def test_a_busy_store_makes_other_events_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlog.adapters.runtime._RETRY_MS", 10)

    async def test() -> None:
        node = FakeNode(_failing(Busy("another process is writing"), Committed, times=2))
        async with running(node) as runtime:
            runtime.deliver(Committed())
            await node.first(Committed, 3)

    run(test())


def test_a_fault_outside_of_sessions_ends_the_service() -> None:
    async def test() -> None:
        runtime = Runtime(FakeNode(_failing(ValueError("odd"), Tick)), ping=False, default_port=1)
        runtime.start()
        runtime.deliver(Tick())
        with pytest.raises(ValueError, match="odd"):
            await runtime.run()

    run(test())


# -- the end ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_and_its_sessions(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    async def test() -> None:
        node, client = FakeNode(), FakeNode()
        runtime = Runtime(node, ping=False, default_port=1)
        runtime.start()
        port = await runtime.peers.listen(_LOOPBACK, 0)
        async with running(client) as there:
            there.peers.dial(_DEVICE, [f"{_LOOPBACK}:{port}"])
            await client.first(Opened)
            with stopped_by_signals(runtime.stop):
                signal.raise_signal(number)
                await runtime.run()
            assert (await client.first(Closed)).reason == "it stops"

    run(test())
    assert signal.getsignal(number) is before


def test_in_another_thread_signals_are_left_alone() -> None:
    async def test() -> None:
        with stopped_by_signals(lambda: None):
            pass

    with ThreadPoolExecutor(1) as threads:
        threads.submit(run, test()).result(10)
