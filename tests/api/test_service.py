"""Homes that sync over real connections, and what a service answers to programs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlog import limits
from mlog.adapters.interfaces import loopback
from mlog.adapters.listeners import accept_no_more
from mlog.adapters.local_socket import Claim, ask, whereabouts
from mlog.adapters.runtime import now_ms
from mlog.api.home import Home
from mlog.api.rounds import SyncReport
from mlog.api.service import Service, find_device, sync_once
from mlog.cli.lines import Lines
from mlog.cli.output import Console
from mlog.errors import Busy, MlogError, PeerUnavailable, StoreError, UserError
from mlog.log import belonging
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow, SyncState
from mlog.protocol.events import Notice
from tests.adapters.loops import hang_up, run

_LOOPBACK = "127.0.0.1"


def peer_of(home: Home, name: str, addresses: tuple[str, ...] = ()) -> PeerRow:
    keys = home.replica.device_keys
    return PeerRow(
        device=keys.id,
        name=name,
        noise=keys.noise_public,
        hpke=keys.hpke_public,
        own=True,
        addresses=addresses,
    )


def trust(home: Home, peer: PeerRow) -> None:
    with home.store.transaction():
        home.store.put_peer(peer)


class Two:
    """Two homes of one person that know each other."""

    def __init__(self, folder: Path):
        self.desk = Home(folder / "desk", person="ann")
        # Founded later: the desk's person is the one that stays.
        self.laptop = Home(folder / "laptop", person="ann", clock_ms=lambda: now_ms() + 1000)
        self.told: list[Notice] = []
        belonging.admit(self.desk.replica, peer_of(self.laptop, "laptop"), self.desk.now_ms())
        trust(self.laptop, peer_of(self.desk, "desk"))

    @asynccontextmanager
    async def serving(self, **options: Any) -> AsyncGenerator[Service]:
        """The desk is served, and the laptop knows where."""
        service = Service(self.desk, phone=False, notice=self.told.append, **options)
        try:
            with Claim(self.desk.path):
                ready = await service.start((_LOOPBACK, 0))
                assert ready.local
                trust(self.laptop, peer_of(self.desk, "desk", (f"{_LOOPBACK}:{ready.port}",)))
                yield service
        finally:
            await service.close()

    async def sync(self, target: str | None = None, **options: Any) -> SyncReport:
        """One round from the laptop."""
        timeout_s = options.pop("timeout_s", 20)
        service = Service(self.laptop, phone=True, dials=False, **options)
        try:
            return await service.sync(target, timeout_s)
        finally:
            await service.close()

    def texts(self, home: Home, title: str) -> list[str]:
        return [message.text for message in home.messages(home.conversation(title).n)]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    made = Two(tmp_path)
    yield made
    made.desk.close()
    made.laptop.close()


async def asking(home: Path, **request: Any) -> list[dict[str, Any]]:
    return await asyncio.to_thread(lambda: list(ask(home, request, timeout_s=30)))


# -- sync ------------------------------------------------------------------------------------


def test_a_round_brings_both_homes_to_the_same(two: Two) -> None:
    garden = two.desk.new("Garden")
    for n in range(5):
        two.desk.send(garden.n, f"from the desk {n}")
    trip = two.laptop.new("Trip")
    two.laptop.send(trip.n, "from the laptop")

    async def test() -> None:
        async with two.serving():
            report = await two.sync()
            assert report.equal
            device = report.devices[0]
            assert (device.name, device.reached, device.complete) == ("desk", True, True)
            assert device.received_bytes > 0
            assert device.sent_bytes > 0
            assert device.round_trips > 0
            assert {log.state for log in device.logs} == {SyncState.EQUAL}
            assert sum(log.received for log in device.logs if log.title == "Garden") >= 5
            again = await two.sync()
            assert again.equal
            assert again.devices[0].received_bytes < device.received_bytes
            assert not any(log.received for log in again.devices[0].logs)

    run(test())
    assert two.texts(two.laptop, "Garden") == two.texts(two.desk, "Garden")
    assert two.texts(two.desk, "Trip") == ["from the laptop"]
    roots = [{s.title: s.root for s in home.status() if s.title} for home in (two.desk, two.laptop)]
    assert roots[0] == roots[1]


def test_what_is_written_while_a_session_is_open_arrives_at_once(two: Two) -> None:
    garden = two.desk.new("Garden")

    async def test() -> None:
        async with two.serving() as desk:
            laptop = Service(two.laptop, phone=True)
            try:
                await _until(lambda: any(n.what == "rested" for n in two.told), desk)
                await _until(lambda: any(c.title for c in two.laptop.conversations()), laptop)
                two.desk.send(garden.n, "now")
                await _until(lambda: two.texts(two.laptop, "Garden") == ["now"], laptop)
                assert desk.runtime.connected().keys() == {two.laptop.replica.device_id}
            finally:
                await laptop.close()

    run(test())


async def _until(done: Callable[[], bool], service: Service) -> None:
    with service.commits() as commits:
        while not done():
            waiting = [asyncio.ensure_future(commits.wait()), asyncio.ensure_future(asyncio.sleep(0.05))]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()


def test_an_address_is_tried_with_every_known_device_and_then_remembered(two: Two, tmp_path: Path) -> None:
    with Home(tmp_path / "other", person="ann") as other:

        async def test() -> None:
            # Sorted first, as last seen, and not the one that is there.
            stranger = peer_of(other, "tablet", ())
            trust(two.laptop, msgspec.structs.replace(stranger, seen_ms=2**40))
            async with two.serving() as service:
                trust(two.laptop, peer_of(two.desk, "desk"))
                address = f"{_LOOPBACK}:{service.port}"
                report = await two.sync(address)
                assert [device.name for device in report.devices] == ["desk"]
                assert report.equal
                assert report.devices[0].address == address
                known = {peer.name: peer.addresses for peer in two.laptop.store.peers()}
                assert known == {"desk": (address,), "tablet": ()}

        run(test())


def test_an_address_where_none_of_the_known_devices_is_says_so(two: Two, tmp_path: Path) -> None:
    with Home(tmp_path / "other", person="ann") as other:

        async def test() -> None:
            service = Service(other, phone=False)
            try:
                ready = await service.start((_LOOPBACK, 0))
                with pytest.raises(PeerUnavailable, match="none of the devices that you know"):
                    await two.sync(f"{_LOOPBACK}:{ready.port}")
            finally:
                await service.close()
            with pytest.raises(PeerUnavailable, match="mlog does not run there"):
                await two.sync(f"{_LOOPBACK}:{ready.port}")

        run(test())


def test_a_device_that_cannot_be_reached_is_in_the_report(two: Two) -> None:
    async def test() -> None:
        report = await two.sync("desk")
        assert not report.equal
        assert "is not known" in report.devices[0].reason
        trust(two.laptop, peer_of(two.desk, "desk", (f"{_LOOPBACK}:1",)))
        report = await two.sync()
        assert (report.devices[0].reached, report.devices[0].complete) == (False, False)
        assert "mlog does not run there" in report.devices[0].reason

    run(test())


def test_a_round_is_over_when_nothing_moves_any_more(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_TIMEOUT_MS", 100)

    async def test() -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                writer.close()

        async with await asyncio.start_server(say_nothing, _LOOPBACK, 0) as silent:
            port = silent.sockets[0].getsockname()[1]
            trust(two.laptop, peer_of(two.desk, "desk", (f"{_LOOPBACK}:{port}",)))
            report = await two.sync()
            assert report.devices[0].reason == "no answer"
            await accept_no_more(silent.sockets)

    run(test())


def test_a_round_ends_when_its_time_is_up(two: Two) -> None:
    async def test() -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                writer.close()

        async with await asyncio.start_server(say_nothing, _LOOPBACK, 0) as silent:
            port = silent.sockets[0].getsockname()[1]
            trust(two.laptop, peer_of(two.desk, "desk", (f"{_LOOPBACK}:{port}",)))
            report = await two.sync(timeout_s=0.1)
            assert not report.equal
            assert report.duration_ms < 2000
            await accept_no_more(silent.sockets)

    run(test())


@pytest.mark.parametrize("known", ["none", "stale"])
def test_a_round_finds_a_device_in_the_local_network(two: Two, known: str) -> None:
    async def test() -> None:
        async with two.serving(networks=loopback) as desk:
            await desk.discover(_LOOPBACK)
            assert desk._discovery is not None
            if desk._discovery.problem:
                pytest.skip(f"this machine has no multicast on loopback: {desk._discovery.problem}")
            addresses = ("127.0.0.1:1",) if known == "stale" else ()
            trust(two.laptop, peer_of(two.desk, "desk", addresses))
            report = await two.sync(networks=loopback)
            assert report.equal, report
            assert report.devices[0].address == f"{_LOOPBACK}:{desk.port}"

    run(test())


def test_a_device_that_is_not_found_is_looked_for_only_for_a_while(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlog.api.service._SEARCH_S", 0.2)

    async def test() -> None:
        for addresses, words in (((), "is not known"), (("127.0.0.1:1",), "does not run there")):
            trust(two.laptop, peer_of(two.desk, "desk", addresses))
            report = await two.sync(networks=loopback)
            assert words in report.devices[0].reason
            assert not report.devices[0].reached
            assert report.duration_ms >= 200

    run(test())


def test_targets_that_mean_nothing_are_refused_in_plain_words(two: Two, tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(UserError, match=r"no device 'phone' is known here. Known are: desk"):
            await two.sync("phone")
        with pytest.raises(UserError, match="no address"):
            await two.sync("desk:0")

    run(test())
    with Home(tmp_path / "alone", person="ann") as alone, pytest.raises(UserError, match="no other device"):
        sync_once(alone)


def test_devices_are_found_by_name_and_id(two: Two) -> None:
    rows = [
        PeerRow(device=DeviceId(bytes([n]) * 32), name=name, noise=b"", hpke=b"", own=True)
        for n, name in enumerate(("Laptop", "laptop old", "desk", "Desk"))
    ]
    assert find_device(rows, "laptop") is rows[0]
    assert find_device(rows, "laptop o") is rows[1]
    assert find_device(rows, "desk") is rows[2]
    assert find_device(rows, "0303") is rows[3]
    assert find_device(rows, "phone") is None
    assert find_device(rows, "") is None
    with pytest.raises(UserError, match="2 devices match"):
        find_device(rows, "DESK")


def test_a_round_by_itself_leaves_the_home_as_it_was(two: Two) -> None:
    announce = two.laptop.announce
    with pytest.raises(UserError):
        sync_once(two.laptop, "nobody")
    assert two.laptop.announce is announce
    two.laptop.new("Still works")


# -- the service -----------------------------------------------------------------------------


def test_where_a_service_runs_it_does_the_round(two: Two) -> None:
    async def test() -> None:
        async with two.serving() as desk:
            laptop = Service(two.laptop, phone=True)
            try:
                with Claim(two.laptop.path):
                    await laptop.start(None)
                    await _until(lambda: any(n.what == "rested" for n in two.told), laptop)
                    two.desk.new("Garden")
                    # From the side that dialled, and from the side that was dialled.
                    for home in (two.laptop, two.desk):
                        report = await asyncio.to_thread(sync_once, home, None, timeout_s=20)
                        assert report.equal, report
                        assert report.devices[0].reached
                    assert len(desk.runtime.connected()) == 1
            finally:
                await laptop.close()

    run(test())


def test_a_full_disk_ends_the_round_with_its_message(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with two.serving():

            def full(*_: Any, **__: Any) -> None:
                raise StoreError("the disk is full")

            monkeypatch.setattr(two.laptop.store, "put_sync", full)
            with pytest.raises(StoreError, match="disk is full"):
                await two.sync()

    run(test())


def test_a_commit_of_another_process_is_pushed(two: Two, tmp_path: Path) -> None:
    garden = two.desk.new("Garden")

    async def test() -> None:
        async with two.serving() as desk:
            await two.sync()
            laptop = Service(two.laptop, phone=True)
            try:
                await _until(lambda: bool(desk.runtime.connected()), desk)
                process = await asyncio.create_subprocess_exec(
                    *_mlog("--home", str(two.desk.path), "send", "Garden", "by hand"),
                    stdout=asyncio.subprocess.DEVNULL,
                )
                assert await process.wait() == 0
                await _until(lambda: two.texts(two.laptop, "Garden") == ["by hand"], laptop)
            finally:
                await laptop.close()

    run(test())
    assert two.texts(two.desk, "Garden") == ["by hand"]
    assert garden.title == "Garden"


def _mlog(*args: str) -> list[str]:
    import sys

    return [sys.executable, "-m", "mlog", *args]


def test_without_a_local_socket_commits_are_found_all_the_same(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlog.api.service._LOOK_S", 0.01)

    async def cannot(*_: Any) -> None:
        raise StoreError("this file system has no sockets")

    monkeypatch.setattr("mlog.adapters.local_socket.LocalServer.start", cannot)

    async def test() -> None:
        service = Service(two.desk, phone=False)
        try:
            ready = await service.start((_LOOPBACK, 0))
            assert (ready.local, ready.why) == (False, "this file system has no sockets")
            with service.commits() as commits, Home(two.desk.path) as another:
                another.new("Garden")
                await commits.wait()
        finally:
            await service.close()

    run(test())


# -- requests --------------------------------------------------------------------------------


def test_a_program_sends_and_queries(two: Two) -> None:
    two.desk.new("Garden")

    async def test() -> None:
        async with two.serving():
            home = two.desk.path
            sent = [(await asking(home, do="send", conversation="gar", text=f"n{n}"))[0] for n in range(5)]
            reply = {"do": "send", "conversation": "Garden", "text": "yes", "reply_to": sent[0]["id"][:12]}
            answered = (await asking(home, **reply))[0]
            first = (await asking(home, do="query", conversation="Garden", limit=4))[0]
            assert [m["text"] for m in first["messages"]] == ["n0", "n1", "n2", "n3"]
            assert [m["id"] for m in first["messages"]] == [answer["id"] for answer in sent[:4]]
            rest = (await asking(home, do="query", conversation="Garden", cursor=first["cursor"]))[0]
            assert [m["text"] for m in rest["messages"]] == ["n4", "yes"]
            assert rest["cursor"] is None
            assert rest["messages"][1]["message_id"] == answered["message_id"]
            assert rest["messages"][1]["reply_to"] == [sent[0]["message_id"]]
            topic = rest["messages"][0]["topic"]
            newest = (await asking(home, do="query", log=topic, newest_first=True, limit=2))[0]
            assert [m["text"] for m in newest["messages"]] == ["yes", "n4"]
            older = (await asking(home, do="query", log=topic, newest_first=True, cursor=newest["cursor"]))[0]
            assert [m["text"] for m in older["messages"]] == ["n3", "n2", "n1", "n0"]
            late = (await asking(home, do="query", log=topic, since="2999-01-01T00:00:00Z"))[0]
            assert late["messages"] == []

    run(test())


def test_a_message_has_the_fields_of_the_command_line(two: Two) -> None:
    garden = two.desk.new("Garden")
    two.desk.send(garden.n, "hello")
    message = next(two.desk.messages(garden.n))
    two.desk.react(message, "👍")

    async def test() -> None:
        async with two.serving():
            found = (await asking(two.desk.path, do="query", conversation="Garden"))[0]["messages"]
            told = found[0]
            assert told.pop("time_ms") == message.time_ms
            expected = Lines(two.desk, Console()).message(next(two.desk.messages(garden.n)))
            assert told == json.loads(json.dumps(expected))

    run(test())


def test_a_page_of_long_messages_is_short(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCAL_PAGE_SIZE_MAX_BYTES", 25)
    garden = two.desk.new("Garden")
    for n in range(4):
        two.desk.send(garden.n, f"{n} 4567890123456789")

    async def test() -> None:
        async with two.serving():
            texts: list[str] = []
            cursor = ""
            while cursor is not None:
                page = (await asking(two.desk.path, do="query", conversation="Garden", cursor=cursor))[0]
                assert len(page["messages"]) <= 2
                texts += [m["text"] for m in page["messages"]]
                cursor = page["cursor"]
            assert [text[0] for text in texts] == ["0", "1", "2", "3"]

    run(test())


_SENSELESS: list[tuple[dict[str, Any], str]] = [
    ({"do": "dance"}, "'dance' is no request; there are send, query"),
    ({"do": ["send"]}, "is no request"),
    ({}, "None is no request"),
    ({"do": "send", "conversation": "Garden"}, "'text' is missing"),
    ({"do": "send", "conversation": "Nowhere", "text": "x"}, "no conversation 'Nowhere'"),
    ({"do": "send", "conversation": "Garden", "text": " "}, "nothing to send"),
    ({"do": "send", "conversation": "Garden", "text": "x", "reply_to": "zz"}, "not the id"),
    ({"do": "query", "conversation": "Garden", "limit": 0}, "'limit' is a whole number from 1"),
    ({"do": "query", "conversation": "Garden", "limit": True}, "'limit' is a whole number from 1"),
    ({"do": "query", "conversation": "Garden", "cursor": "x"}, "'cursor' is none"),
    ({"do": "query", "conversation": "Garden", "since": "yesterday"}, "'since' is a time"),
    ({"do": "query", "conversation": "Garden", "since": []}, "'since' is a time"),
    ({"do": "query", "log": "00"}, "no log with the topic"),
    ({"do": "query"}, "'conversation' is missing"),
    ({"do": "follow", "cursor": -1}, "'cursor' is a whole number"),
    ({"do": "fetch", "conversation": "Garden", "ids": ["00"]}, "'ids' are"),
    ({"do": "fetch", "conversation": "Garden"}, "'ids' are"),
    ({"do": "fetch", "conversation": "Garden", "ids": ["0" * 64], "timeout_s": 0}, "'timeout_s'"),
    ({"do": "sync", "target": 7}, "'target' is a text"),
    ({"do": "pair", "type": 3}, "this is no pairing"),
    ({"do": "pair", "secret": "one two"}, "a code has 6 words"),
    ({"do": "decide", "yes": "of course"}, "'yes' is true or false"),
]


def test_requests_that_make_no_sense_are_refused(two: Two) -> None:
    two.desk.new("Garden")

    async def test() -> None:
        async with two.serving():
            for request, words in _SENSELESS:
                with pytest.raises(MlogError) as caught:
                    await asking(two.desk.path, **request)
                assert words in str(caught.value)

    run(test())


def test_following_tells_what_comes_and_what_changes_and_goes_on_from_a_cursor(two: Two) -> None:
    garden, trip = two.desk.new("Garden"), two.desk.new("Trip")
    two.desk.send(garden.n, "before")

    async def follow(**request: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = whereabouts(two.desk.path)
        assert where is not None
        reader, writer = await asyncio.open_unix_connection(where.socket)
        writer.write(json.dumps({"do": "follow", **request}).encode() + b"\n")
        return reader, writer

    async def test() -> None:
        async with two.serving():
            reader, writer = await follow(conversation="Garden")
            begun = json.loads(await reader.readline())
            assert begun["following"]
            two.desk.send(trip.n, "elsewhere")
            two.desk.send(garden.n, "first")
            first = json.loads(await reader.readline())
            assert (first["change"], first["message"]["text"]) == ("new", "first")
            message = next(two.desk.messages(garden.n, newest_first=True))
            two.desk.edit(message, "edited")
            changed = json.loads(await reader.readline())
            assert (changed["change"], changed["message"]["text"]) == ("changed", "edited")
            two.desk.react(message, "👍")
            assert json.loads(await reader.readline())["message"]["reactions"][0]["emoji"] == "👍"
            two.desk.erase(message)
            assert json.loads(await reader.readline())["message"]["erased"]
            await hang_up(writer)
            # Later, and in all conversations.
            reader, writer = await follow(cursor=begun["cursor"])
            assert json.loads(await reader.readline())["following"]
            again = [json.loads(await reader.readline())["message"] for _ in range(2)]
            assert [m["conversation"] for m in again] == ["Trip", "Garden"]
            await hang_up(writer)

    run(test())


def test_a_slow_follower_misses_nothing(two: Two) -> None:
    garden = two.desk.new("Garden")

    async def test() -> None:
        async with two.serving():
            where = whereabouts(two.desk.path)
            assert where is not None
            reader, writer = await asyncio.open_unix_connection(where.socket, limit=2**20)
            transport: Any = writer.transport
            writer.write(b'{"do":"follow"}\n')
            await reader.readline()
            transport.pause_reading()
            for n in range(120):
                two.desk.send(garden.n, f"{n} " + "x" * 20_000)
            transport.resume_reading()
            texts = [json.loads(await reader.readline())["message"]["text"] for _ in range(120)]
            assert [int(text.split()[0]) for text in texts] == list(range(120))
            await hang_up(writer)

    run(test())


def test_status_says_who_is_known_and_how_their_copies_stand(two: Two) -> None:
    two.desk.new("Garden")

    async def test() -> None:
        async with two.serving() as service:
            before = (await asking(two.desk.path, do="status"))[0]
            assert before["listens"] == service.port
            assert before["conversations"] == 1
            assert before["device"] == two.desk.replica.device_id.hex()
            (device,) = before["devices"]
            assert (device["name"], device["connected"], device["logs"]) == ("laptop", False, [])
            await two.sync()
            (device,) = (await asking(two.desk.path, do="status"))[0]["devices"]
            assert {log["state"] for log in device["logs"]} == {"in sync"}
            assert device["seen"] is not None

    run(test())


def test_entries_are_fetched_from_who_has_them(two: Two) -> None:
    garden = two.desk.new("Garden")
    here = two.desk.send(garden.n, "here")

    async def test() -> None:
        async with two.serving():
            nowhere = "0" * 64
            answer = (
                await asking(
                    two.desk.path,
                    do="fetch",
                    conversation="Garden",
                    ids=[here.hex(), nowhere],
                    timeout_s=0.1,
                )
            )[0]
            assert answer == {"ok": True, "here": [here.hex()], "missing": [nowhere]}

    run(test())


def test_a_second_service_on_one_home_is_refused(two: Two) -> None:
    async def test() -> None:
        async with two.serving():
            from mlog.api.service import serve

            with pytest.raises(Busy, match="already"):
                await asyncio.to_thread(serve, two.desk)

    run(test())
