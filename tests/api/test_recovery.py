"""A phrase on paper is a device of the person; with it and one holder a new home gets everything back."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlog import limits
from mlog.adapters.interfaces import loopback
from mlog.adapters.runtime import now_ms
from mlog.api import devices, recovery
from mlog.api.home import Home
from mlog.api.members import new_with
from mlog.api.pairing_steps import Complete, Paired, Progress, Reaching, Searching, Step
from mlog.api.proof import LogStatus
from mlog.api.service import Service, sync_once
from mlog.errors import MlogError, PeerUnavailable, UserError
from mlog.log import belonging, bodies, people, trusting
from mlog.log.bodies import Kind
from mlog.log.phrase import Phrase
from mlog.log.store import TimelineQuery
from mlog.log.stored import readable_body
from tests.adapters.test_discovery import wire
from tests.api.acquainted import people as acquainted
from tests.api.acquainted import sync
from tests.api.serving import peer_of
from tests.system.ends import Proxy

__all__ = ["wire"]

_LOOPBACK = "127.0.0.1"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "desk", person="ann", device="desk") as home:
        yield home


@contextmanager
def served(path: Path, *, discovered: bool = False) -> Generator[str]:
    """A service on a home, in a thread of its own; gives where it is reached."""
    ready, found = threading.Event(), list[str]()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        with Home(path) as home:
            networks = loopback if discovered else None
            service = Service(home, phone=False, dials=False, networks=networks)
            try:
                await service.start((_LOOPBACK, 0))
                if discovered:
                    await service.discover(_LOOPBACK)
                loop = asyncio.get_running_loop()
                stop.append(lambda: loop.call_soon_threadsafe(service.stop))
                found.append(f"{_LOOPBACK}:{service.port}")
                ready.set()
                await service.run()
            finally:
                await service.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield found[0]
    finally:
        for call in stop:
            call()
        thread.join(30)


class Recovered:
    """A new home, and what its person is told."""

    def __init__(self, path: Path, ahead_ms: int = 1000):
        self.home = Home(path, person="login", device="new", clock_ms=lambda: now_ms() + ahead_ms)
        self.told: list[Step] = []

    def recover(self, phrase: Phrase, at: str) -> None:
        recovery.recover(self.home, phrase, self.told.append, peer=at, discovery=False)

    def cut_off(self, phrase: Phrase, at: str, after: int) -> None:
        """Recover over a connection that ends after so many bytes."""
        proxy, port = Proxy(), int(at.rpartition(":")[2])
        carried = threading.Thread(target=proxy.carry, args=(port, after, proxy.close))
        carried.start()
        with pytest.raises((PeerUnavailable, UserError)):
            self.recover(phrase, f"{_LOOPBACK}:{proxy.port}")
        carried.join(30)
        assert proxy.carried >= after

    def fails(self, phrase: Phrase, at: str, kind: type[MlogError] = UserError) -> str:
        with pytest.raises(kind) as caught:
            self.recover(phrase, at)
        return str(caught.value)


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Recovered]:
    made = Recovered(tmp_path / "new")
    yield made
    made.home.close()


def enrolled(home: Home, *, replace: bool = False) -> Phrase:
    phrase = recovery.fresh_phrase()
    recovery.enrol(home, phrase, replace=replace)
    return phrase


def texts(home: Home, title: str) -> list[str]:
    return [message.text for message in home.messages(home.conversation(title).n)]


# -- enrolling -------------------------------------------------------------------------------


def test_a_phrase_is_a_confirmed_device_that_nobody_connects_to(desk: Home) -> None:
    phrase = enrolled(desk)
    [member] = recovery.phrases(desk)
    assert (member.device, member.phrase, member.confirmed) == (phrase.keys.id, True, True)
    assert member.by == desk.replica.device_id
    assert desk.store.peers() == []
    assert desk.verify() == []
    [here, listed] = devices.devices(desk)
    assert (here.here, listed.name, listed.phrase) == (True, "recovery phrase", True)


def wrapped_for(home: Home, log: int, phrase: Phrase) -> bool:
    """Whether the epoch under which a log is written now is wrapped for a phrase, and opens with its key."""
    current = home.replica.log(log).keys.current
    replica = home.replica.as_device(phrase.keys)
    state = replica.log(log)
    del state.keys.epochs[1:]
    query = TimelineQuery(log=log, limit=limits.STORE_ROWS_MAX, kinds=frozenset({Kind.KEY}), hidden=True)
    for row in home.store.timeline(query):
        body = readable_body(row.kind, row.body)
        assert isinstance(body, bodies.Key)
        [chain] = home.store.chain_rows({row.chain})
        epoch = replica.keyring.epoch_in(state, chain.device, body)
        if epoch is not None and epoch.secret == current.secret:
            return True
    return False


def test_all_logs_are_written_on_under_secrets_that_the_phrase_opens(desk: Home) -> None:
    garden = desk.new("Garden")
    desk.send(garden.n, "before there was a phrase")
    assert not wrapped_for(desk, garden.n, recovery.fresh_phrase())
    phrase = enrolled(desk)
    later = desk.new("Begun later")
    for row in desk.store.logs():
        assert wrapped_for(desk, row.n, phrase), row.kind
    assert wrapped_for(desk, later.n, phrase)


def test_a_second_phrase_is_refused_and_a_replaced_one_revoked(desk: Home) -> None:
    garden, old = desk.new("Garden"), enrolled(desk)
    with pytest.raises(UserError, match="there is a recovery phrase already"):
        enrolled(desk)
    new = enrolled(desk, replace=True)
    assert [member.device for member in recovery.phrases(desk)] == [new.keys.id]
    assert [member.device for member in trusting.own_person(desk.replica).revoked] == [old.keys.id]
    for log in (garden.n, trusting.own_person(desk.replica).log):
        assert wrapped_for(desk, log, new)
        assert not wrapped_for(desk, log, old)
    assert desk.verify() == []


def test_where_a_person_has_as_many_devices_as_there_may_be_nothing_is_enrolled(
    desk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "KEY_RECIPIENTS_MAX", 1)
    before = desk.store.next_n()
    with pytest.raises(UserError, match="at most 1 devices"):
        enrolled(desk)
    assert desk.store.next_n() == before


# -- recovering ------------------------------------------------------------------------------


def test_a_new_home_that_has_the_phrase_only_gets_everything_back(desk: Home, new: Recovered) -> None:
    garden = desk.new("Garden")
    desk.send(garden.n, "before")
    phrase = enrolled(desk)
    desk.send(garden.n, "after")
    with served(desk.path) as at:
        new.recover(phrase, at)
    assert [type(step) for step in new.told if not isinstance(step, Progress)] == [Reaching, Paired, Complete]
    assert texts(new.home, "Garden") == ["before", "after"]
    person = trusting.own_person(new.home.replica)
    here = person.member(new.home.replica.device_id)
    assert here is not None
    assert (person.name, here.by, here.confirmed) == ("ann", phrase.keys.id, True)
    assert sorted(s.root for s in shared(new.home)) == sorted(s.root for s in shared(desk))
    for home in (desk, new.home):
        assert home.verify() == []
        assert phrase.keys.id not in {peer.device for peer in home.store.peers()}


def shared(home: Home) -> list[LogStatus]:
    numbers = {state.n for state in people.shared_logs(home.replica)}
    return [status for status in home.status() if status.n in numbers]


def test_the_keys_of_the_phrase_are_in_no_file_of_either_home(desk: Home, new: Recovered) -> None:
    phrase = enrolled(desk)
    with served(desk.path) as at:
        new.recover(phrase, at)
    secrets = [phrase.secret, *phrase.keys, " ".join(phrase.words).encode(), phrase.secret.hex().encode()]
    for home in (desk, new.home):
        for file in filter(Path.is_file, home.path.rglob("*")):
            content = file.read_bytes()
            assert not any(secret in content for secret in secrets), file


def test_a_phrase_can_be_used_again(desk: Home, new: Recovered, tmp_path: Path) -> None:
    desk.new("Garden")
    phrase = enrolled(desk)
    third = Recovered(tmp_path / "third")
    with third.home:
        with served(desk.path) as at:
            new.recover(phrase, at)
            third.recover(phrase, at)
            new.recover(phrase, at)
        person = trusting.own_person(third.home.replica)
        assert [member.name for member in person.machines] == ["desk", "new", "new"]
        chains = [c for c in third.home.store.chains(person.log) if c.device == phrase.keys.id]
        # Its own record, and one admission each: nothing is written where it is known already.
        assert sorted(chain.seq for chain in chains) == [0, 1, 1]
        assert len({chain.incarnation for chain in chains}) == len(chains)


def test_a_revoked_phrase_is_answered_by_nobody(desk: Home, new: Recovered) -> None:
    phrase = enrolled(desk)
    devices.revoke_device(desk, "recovery phrase")
    before = desk.store.next_n()
    with served(desk.path) as at:
        assert "does not answer this phrase. It is none of yours" in new.fails(phrase, at)
    assert desk.store.next_n() == before
    assert new.home.store.peers() == []
    assert recovery.phrases(desk) == ()


def test_a_phrase_of_somebody_else_is_answered_by_nobody(desk: Home, new: Recovered) -> None:
    enrolled(desk)
    with served(desk.path) as at:
        assert "Nothing was changed" in new.fails(recovery.fresh_phrase(), at)


def test_a_phrase_that_is_revoked_elsewhere_admits_nobody(desk: Home, new: Recovered, tmp_path: Path) -> None:
    """The holder has not heard of it; once it does, what the phrase admitted at the same time falls."""
    phrase = enrolled(desk)
    with Home(tmp_path / "laptop", person="ann", clock_ms=lambda: now_ms() + 1000) as laptop:
        belonging.admit(desk.replica, peer_of(laptop, "laptop"), desk.now_ms())
        with laptop.store.transaction():
            laptop.store.put_peer(peer_of(desk, "desk"))
        with served(desk.path) as at:
            sync_once(laptop, at, timeout_s=20)
        devices.revoke_device(laptop, "recovery phrase")
        with served(desk.path) as at:
            new.recover(phrase, at)
            assert trusting.own_person(new.home.replica).member(new.home.replica.device_id) is not None
            sync_once(laptop, at, timeout_s=20)
        for home in (desk, laptop):
            members = {member.device for member in trusting.own_person(home.replica).members}
            assert members == {desk.replica.device_id, laptop.replica.device_id}


def test_a_holder_that_sends_without_end_is_left(
    desk: Home, new: Recovered, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrase = enrolled(desk)
    monkeypatch.setattr(limits, "RECOVERY_ENTRIES_MAX", 3)
    with served(desk.path) as at:
        assert "sends far more" in new.fails(phrase, at)
    assert new.home.store.peers() == []


def test_nobody_there_is_said(new: Recovered) -> None:
    with socket.create_server((_LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
    reason = new.fails(recovery.fresh_phrase(), f"{_LOOPBACK}:{port}", PeerUnavailable)
    assert "nobody is reached" in reason
    assert "mlog serve" in reason


def test_without_discovery_the_address_is_asked_for(new: Recovered) -> None:
    assert "--peer HOST:PORT" in new.fails(recovery.fresh_phrase(), "")


def test_clocks_more_than_a_day_apart_are_named_as_a_reason(desk: Home, tmp_path: Path) -> None:
    phrase = enrolled(desk)
    late = Recovered(tmp_path / "late", ahead_ms=limits.RECOVERY_CLOCK_MAX_MS + 60_000)
    with late.home, served(desk.path) as at:
        assert "more than a day apart" in late.fails(phrase, at)


def test_a_home_with_messages_of_its_own_is_left_alone(desk: Home, new: Recovered) -> None:
    phrase = enrolled(desk)
    new.home.new("Mine")
    with served(desk.path) as at:
        assert "messages or devices of its own" in new.fails(phrase, at)
    assert trusting.own_person(desk.replica).machines == trusting.own_person(desk.replica).members[:1]


def test_a_home_that_is_older_than_what_is_recovered_is_left_alone(desk: Home, tmp_path: Path) -> None:
    phrase = enrolled(desk)
    older = Recovered(tmp_path / "older", ahead_ms=-3_600_000)
    with older.home, served(desk.path) as at:
        assert "older than what is to be recovered" in older.fails(phrase, at)
        assert older.home.store.peers() == []
    assert len(trusting.own_person(desk.replica).members) == 2


def test_where_the_home_is_served_it_says_so(new: Recovered) -> None:
    with served(new.home.path):
        assert "'mlog serve' runs on this home" in new.fails(recovery.fresh_phrase(), "127.0.0.1:9")


def test_a_holder_that_knows_no_other_device_is_found_in_the_network(
    desk: Home, new: Recovered, wire: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wire is not None
    garden = desk.new("Garden")
    desk.send(garden.n, "found")
    phrase = enrolled(desk)
    monkeypatch.setattr("mlog.adapters.interfaces.present", loopback)
    with served(desk.path, discovered=True):
        recovery.recover(new.home, phrase, new.told.append)
    assert [type(step) for step in new.told][:2] == [Searching, Reaching]
    assert texts(new.home, "Garden") == ["found"]


def test_where_nobody_is_announced_it_says_what_to_do(
    new: Recovered, wire: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wire is not None
    monkeypatch.setattr("mlog.adapters.interfaces.present", loopback)
    monkeypatch.setattr("mlog.api.recovery._SEARCH_S", 0.1)
    with pytest.raises(PeerUnavailable, match=r"no device that runs mlog is found.*mlog serve.*--peer"):
        recovery.recover(new.home, recovery.fresh_phrase(), new.told.append)


def test_a_phrase_comes_along_when_its_person_joins_an_older_one(desk: Home, tmp_path: Path) -> None:
    """Then no entry of its own confirms it yet: it does so itself, once it is used."""
    garden = desk.new("Garden")
    desk.send(garden.n, "of the older one")
    laptop_path = tmp_path / "laptop"
    with Home(laptop_path, person="ann", device="laptop", clock_ms=lambda: now_ms() + 1000) as laptop:
        phrase = enrolled(laptop)
        belonging.admit(desk.replica, peer_of(laptop, "laptop"), desk.now_ms())
        with laptop.store.transaction():
            laptop.store.put_peer(peer_of(desk, "desk"))
        with served(desk.path) as at:
            sync_once(laptop, at, timeout_s=20)
    [member] = recovery.phrases(desk)
    assert (member.device, member.confirmed) == (phrase.keys.id, False)
    assert phrase.keys.id not in {peer.device for peer in desk.store.peers()}
    third = Recovered(tmp_path / "third", ahead_ms=2_000)
    with third.home:
        with served(desk.path) as at:
            third.recover(phrase, at)
        assert texts(third.home, "Garden") == ["of the older one"]
        names = [one.name for one in trusting.own_person(third.home.replica).machines]
        assert names == ["desk", "laptop", "new"]
    [member] = recovery.phrases(desk)
    assert member.confirmed


# -- cuts, and who is not one's own ----------------------------------------------------------


@pytest.mark.parametrize("until", [60, 300, 600, 2_000, 6_000, 12_000])
def test_wherever_it_is_cut_off_it_goes_on_and_admits_the_device_once(
    desk: Home, new: Recovered, until: int
) -> None:
    garden = desk.new("Garden")
    phrase = enrolled(desk)
    desk.send(garden.n, "here")
    with served(desk.path) as at:
        new.cut_off(phrase, at, until)
        new.recover(phrase, at)
    assert texts(new.home, "Garden") == ["here"]
    for home in (desk, new.home):
        assert [member.name for member in trusting.own_person(home.replica).machines] == ["desk", "new"]
        assert home.verify() == []
        assert all(home.store.forks(row.n) == [] for row in home.store.logs())


def test_a_cut_after_the_device_was_admitted_is_gone_on_from_by_any_sync(
    desk: Home, new: Recovered, monkeypatch: pytest.MonkeyPatch
) -> None:
    garden = desk.new("Garden")
    for n in range(20):
        desk.send(garden.n, f"bean {n}")
    phrase, proxy = enrolled(desk), Proxy()
    monkeypatch.setattr(limits, "IDLE_TIMEOUT_MS", 1_000)

    def carry(port: int) -> None:
        proxy.carry(port, 1 << 30, proxy.close)
        # The second connection is that of the device itself.
        proxy.carry(port, 4_000, proxy.close)

    with served(desk.path) as at:
        carried = threading.Thread(target=carry, args=(int(at.rpartition(":")[2]),))
        carried.start()
        reason = new.fails(phrase, f"{_LOOPBACK}:{proxy.port}", PeerUnavailable)
        carried.join(30)
        assert "'mlog sync' on either one fetches the rest" in reason
        assert sum(row.messages for row in new.home.status()) < 20
        sync_once(new.home, at, timeout_s=20)
    assert texts(new.home, "Garden") == texts(desk, "Garden")
    assert new.home.verify() == []


def test_contacts_are_told_of_the_phrase_and_never_dial_it(tmp_path: Path) -> None:
    ann, ben = acquainted(tmp_path, "ann", "ben")
    with Home(ann) as home:
        phrase = enrolled(home)
        trip = new_with(home, "Trip", ["ben"])
        home.send(trip.n, "shall we go")
        assert wrapped_for(home, trip.n, phrase)
    assert sync(ann, ben)
    with Home(ben) as home:
        assert texts(home, "Trip") == ["shall we go"]
        assert phrase.keys.id not in {peer.device for peer in home.store.peers()}
        n = home.conversation("Trip").n
        home.send(n, "yes")
        # Who writes in a common conversation writes for the phrase of each member, too.
        assert wrapped_for(home, n, phrase)
