"""Two homes are paired over real connections: once, by whoever has the code, and share everything then."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlog import limits
from mlog.adapters.interfaces import loopback
from mlog.adapters.keystore import SystemEntropy
from mlog.adapters.local_socket import Claim
from mlog.adapters.pairing_discovery import Waiting
from mlog.adapters.runtime import now_ms
from mlog.api import contacts, devices, pairing, trust
from mlog.api.home import Home
from mlog.api.pairing import steps
from mlog.api.pairing_steps import Complete, Offered, Paired, Progress, Reaching, Searching, Shown, Step, Wish
from mlog.api.service import Happening, Service
from mlog.errors import Busy, MlogError, PeerUnavailable, UserError
from mlog.log import belonging
from mlog.protocol import codes
from mlog.protocol.codes import LinkType
from mlog.protocol.events import Decide, Notice
from tests.adapters.loops import run
from tests.adapters.test_discovery import wire
from tests.log.support import device_keys

__all__ = ["wire"]

_LOOPBACK = "127.0.0.1"
_WEEK_MS = 7 * 24 * 3600 * 1000


class Part:
    """One end of a pairing: a home, its service, and what its person is told.

    Args:
        says: The person's answer; None gives none.
    """

    def __init__(self, home: Home, *, says: bool | None = True):
        self.home = home
        self.says = says
        self.told: list[Step] = []
        self.error: MlogError | None = None
        self.service: Service
        self.changed = asyncio.Event()

    async def go(self, wish: Wish) -> None:
        self.told, self.error = [], None
        try:
            async with aclosing(steps(self.service, wish)) as happening:
                async for step in happening:
                    self.told.append(step)
                    self.changed.set()
                    if isinstance(step, Shown) and step.asks and self.says is not None:
                        self.service.runtime.deliver(Decide(self.says))
        except MlogError as error:
            self.error = error
        self.changed.set()

    async def until(self, kind: type[Step]) -> Any:
        while not (found := self.all(kind)):
            self.changed.clear()
            await self.changed.wait()
        return found[-1]

    def all(self, kind: type[Step]) -> list[Any]:
        return [step for step in self.told if isinstance(step, kind)]

    @property
    def reason(self) -> str:
        assert self.error is not None, self.told
        return str(self.error)

    def texts(self, title: str) -> list[str]:
        return [message.text for message in self.home.messages(self.home.conversation(title).n)]


class Two:
    """The desk, which was there first, and a phone."""

    def __init__(self, folder: Path, **options: Any):
        self.desk = Part(Home(folder / "desk", person="ann"))
        # Founded later: the desk's person is the one that stays.
        self.phone = Part(Home(folder / "phone", person="login", clock_ms=lambda: now_ms() + 1000))

    @asynccontextmanager
    async def open(self, *, networks: Any = None) -> AsyncGenerator[None]:
        self.desk.service = Service(self.desk.home, phone=False, networks=networks)
        self.phone.service = Service(self.phone.home, phone=True, networks=networks)
        try:
            with Claim(self.desk.home.path), Claim(self.phone.home.path):
                await self.desk.service.start((_LOOPBACK, 0))
                await self.phone.service.start(None)
                yield
        finally:
            await self.phone.service.close()
            await self.desk.service.close()

    @property
    def at_desk(self) -> str:
        return f"{_LOOPBACK}:{self.desk.service.port}"

    async def pair(
        self, secret: Callable[[Offered], str] = lambda offered: offered.code, **wish: Any
    ) -> None:
        self.desk.told = []
        showing = asyncio.create_task(self.desk.go(Wish()))
        offered = await self.desk.until(Offered)
        given: dict[str, Any] = {"peer": self.at_desk, **wish}
        await self.phone.go(Wish(secret=secret(offered), **given))
        await showing


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    made = Two(tmp_path)
    yield made
    made.desk.home.close()
    made.phone.home.close()


def wrong(offered: Offered) -> str:
    words = offered.code.split()
    return " ".join(reversed(words)) if words != words[::-1] else " ".join([*words[:-1], "zoo"])


# -- the usual way ---------------------------------------------------------------------------


def test_with_the_code_both_become_one_person_and_hold_the_same(two: Two) -> None:
    garden = two.desk.home.new("Garden")
    for n in range(5):
        two.desk.home.send(garden.n, f"bean {n}")
    trip = two.phone.home.new("Trip")
    two.phone.home.send(trip.n, "a boat")

    async def test() -> None:
        async with two.open():
            await two.pair()
            assert two.desk.error is two.phone.error is None
            here, there = two.desk.all(Shown)[0], two.phone.all(Shown)[0]
            assert here.words == there.words
            assert (here.asks, there.asks) == (True, False)
            assert (two.desk.all(Paired)[0].outcome, two.phone.all(Paired)[0].outcome) == (
                "admitted",
                "joins",
            )
            assert two.phone.texts("Garden") == [f"bean {n}" for n in range(5)]
            assert two.desk.texts("Trip") == ["a boat"]

    run(test())
    for part in (two.desk, two.phone):
        assert len(part.all(Complete)) == 1
        [other] = [device for device in devices.devices(part.home) if not device.here]
        assert other.member
        assert other.confirmed
        assert other.peer


def test_pairing_writes_the_entries_that_two_trust_files_write(two: Two, tmp_path: Path) -> None:
    async def test() -> None:
        async with two.open():
            await two.pair()

    run(test())
    paired = [_entries(part.home) for part in (two.desk, two.phone)]
    other = Two(tmp_path / "files")
    homes = other.desk.home, other.phone.home
    for home in homes:
        trust.export_trust(home, home.path.with_suffix(".trust"))
    for home, theirs in (homes, homes[::-1]):
        trust.import_trust(home, theirs.path.with_suffix(".trust"))

    async def meet() -> None:
        async with other.open():
            await other.phone.service.sync(other.at_desk, 20)

    run(meet())
    assert [_entries(home) for home in homes] == paired
    for home in homes:
        home.close()


def _entries(home: Home) -> list[tuple[str, list[int]]]:
    return [(row.kind.value, sorted(e.kind for e in home.entries(row.n))) for row in home.store.logs()]


def test_the_link_works_in_place_of_the_code(two: Two) -> None:
    async def test() -> None:
        async with two.open(networks=loopback):
            await two.pair(lambda offered: offered.link, peer="")
            assert two.desk.error is two.phone.error is None
            # It was reached at the address in the link: nobody was looked for.
            assert two.phone.all(Reaching)[0].addresses == (two.at_desk,)

    run(test())
    assert two.phone.all(Complete)


def test_both_are_told_how_many_entries_remain(two: Two) -> None:
    garden = two.desk.home.new("Garden")
    with two.desk.home.store.transaction():
        for n in range(3000):
            two.desk.home.send(garden.n, f"bean {n}")

    async def test() -> None:
        async with two.open():
            await two.pair()

    run(test())
    for part in (two.desk, two.phone):
        told: list[Progress] = part.all(Progress)
        assert max(step.remaining for step in told) >= 3000
        assert told[-1].remaining == 0
        assert part.all(Complete)[0].done >= 3000


def test_paired_again_they_are_known_and_nothing_is_written(two: Two) -> None:
    async def test() -> None:
        async with two.open():
            await two.pair()
            before = [_entries(part.home) for part in (two.desk, two.phone)]
            await two.pair()
            assert two.desk.error is two.phone.error is None
            assert two.desk.all(Paired)[-1].outcome == two.phone.all(Paired)[-1].outcome == "known"
            assert [_entries(part.home) for part in (two.desk, two.phone)] == before

    run(test())


def test_where_the_older_one_types_the_code_both_are_asked_and_the_older_person_stays(tmp_path: Path) -> None:
    two = Two(tmp_path)
    desk, phone = two.desk.home, two.phone.home
    two.desk, two.phone = Part(phone), Part(desk)

    async def test() -> None:
        async with two.open():
            await two.pair()
            assert [part.all(Shown)[0].asks for part in (two.desk, two.phone)] == [True, True]
            assert two.desk.all(Paired)[0].outcome == "joins"

    try:
        run(test())
        for home in (desk, phone):
            person = home.replica.people.current()
            assert person is not None
            assert person.name == "ann"
    finally:
        desk.close()
        phone.close()


# -- what ends it ----------------------------------------------------------------------------


def _nothing_changed(two: Two) -> None:
    for part in (two.desk, two.phone):
        assert part.home.store.peers() == []
        assert part.all(Paired) == []


def test_a_wrong_code_ends_it_at_both_ends(two: Two) -> None:
    async def test() -> None:
        async with two.open():
            await two.pair(wrong)
            assert "another code than the one that is shown here" in two.desk.reason
            assert "not the one that the other device shows" in two.phone.reason

    run(test())
    _nothing_changed(two)


def test_a_no_at_the_old_device_ends_it(two: Two) -> None:
    two.desk.says = False

    async def test() -> None:
        async with two.open():
            await two.pair()
            assert "you said no" in two.desk.reason
            assert "said no" in two.phone.reason

    run(test())
    _nothing_changed(two)


def test_who_leaves_before_the_answer_ends_it_at_both_ends(two: Two) -> None:
    two.desk.says = None

    async def test() -> None:
        async with two.open():
            showing = asyncio.create_task(two.desk.go(Wish()))
            offered = await two.desk.until(Offered)
            joining = asyncio.create_task(two.phone.go(Wish(secret=offered.code, peer=two.at_desk)))
            await two.phone.until(Shown)
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)
            await showing
            assert "said no" in two.desk.reason
            # And another one can begin.
            two.desk.says = True
            await two.pair()
            assert two.phone.all(Complete)

    run(test())


def test_one_pairing_at_a_time(two: Two) -> None:
    async def test() -> None:
        async with two.open():
            showing = asyncio.create_task(two.desk.go(Wish()))
            await two.desk.until(Offered)
            other = Part(two.desk.home)
            other.service = two.desk.service
            await other.go(Wish())
            assert isinstance(other.error, Busy)
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    run(test())


def test_an_invitation_is_no_link_for_a_device(two: Two) -> None:
    async def test() -> None:
        async with two.open():

            def invitation(offered: Offered) -> str:
                link = codes.decode_link(offered.link)
                return codes.encode_link(msgspec.structs.replace(link, type=LinkType.PERSON))

            showing = asyncio.create_task(two.desk.go(Wish()))
            offered = await two.desk.until(Offered)
            await two.phone.go(Wish(secret=invitation(offered)))
            assert "an invitation for another person" in two.phone.reason
            # Nothing was tried: the right one still works.
            await two.phone.go(Wish(secret=offered.code, peer=two.at_desk))
            await showing
            assert two.phone.all(Complete)

    run(test())


def test_a_link_that_is_too_old_names_the_clock(two: Two) -> None:
    async def test() -> None:
        async with two.open():

            def old(offered: Offered) -> str:
                link = codes.decode_link(offered.link)
                return codes.encode_link(msgspec.structs.replace(link, expires_s=1))

            showing = asyncio.create_task(two.desk.go(Wish()))
            offered = await two.desk.until(Offered)
            await two.phone.go(Wish(secret=old(offered)))
            assert "clocks" in two.phone.reason
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    run(test())


def test_nobody_at_the_address_points_to_the_doctor(two: Two) -> None:
    async def test() -> None:
        async with two.open():
            await two.phone.go(Wish(secret="abandon " * 5 + "zoo", peer=f"{_LOOPBACK}:1"))
            assert isinstance(two.phone.error, PeerUnavailable)
            assert "connection refused" in two.phone.reason
            assert "mlog doctor" in two.phone.reason

    run(test())


@pytest.mark.parametrize("secret", ["one two", "abandon " * 5 + "zzzz", "mlog:pair#AAAA"])
def test_what_is_no_code_is_refused_before_anything_is_tried(two: Two, secret: str) -> None:
    async def test() -> None:
        async with two.open():
            await two.phone.go(Wish(secret=secret, peer=two.at_desk))
            assert isinstance(two.phone.error, UserError)
            assert two.phone.told == []

    run(test())


def test_a_device_that_only_connects_cannot_show_a_code(two: Two) -> None:
    async def test() -> None:
        async with two.open():
            await two.phone.go(Wish())
            assert "--join" in two.phone.reason

    run(test())


def _admit(home: Home, index: int) -> None:
    from mlog.log.peers import PeerRow

    keys = device_keys(index)
    peer = PeerRow(device=keys.id, name="x", noise=keys.noise_public, hpke=keys.hpke_public, own=True)
    belonging.admit(home.replica, peer, home.now_ms())


def test_two_groups_of_devices_are_refused_before_anybody_is_asked(two: Two) -> None:
    _admit(two.desk.home, 3)
    _admit(two.phone.home, 4)

    async def test() -> None:
        async with two.open():
            await two.pair()
            assert "two groups of devices" in two.desk.reason
            assert "two groups of devices" in two.phone.reason
            assert two.desk.all(Shown) == []

    run(test())


def test_a_device_that_was_revoked_is_refused(two: Two) -> None:
    async def test() -> None:
        async with two.open():
            await two.pair()
        belonging.revoke(two.desk.home.replica, two.phone.home.replica.device_id, two.desk.home.now_ms())
        async with two.open():
            await two.pair()
            assert "this device was revoked" in two.desk.reason
            assert two.desk.all(Shown) == []

    run(test())


def test_what_is_said_of_a_secret_is_not_the_secret() -> None:
    wish = Wish(secret="abandon ability able about above absent")
    offered = Offered(code="abandon", link="mlog:pair#", addresses=(), life_ms=1)
    assert "abandon" not in repr(wish) + repr(offered)
    assert pairing.read_secret(wish.secret, LinkType.DEVICE, 0)


# -- found in the network --------------------------------------------------------------------


def test_it_is_found_by_multicast_where_no_address_is_given(two: Two, wire: socket.socket) -> None:
    async def test() -> None:
        async with two.open(networks=loopback):
            await two.pair(peer="")
            assert two.desk.error is two.phone.error is None
            assert two.phone.all(Searching)
            assert two.phone.all(Reaching)[0].addresses == (two.at_desk,)

    run(test())


def test_where_several_wait_none_of_their_codes_is_spent(two: Two, wire: socket.socket) -> None:
    async def test() -> None:
        async with two.open(networks=loopback):
            other = Waiting(SystemEntropy())
            await other.start(loopback(), ("127.0.0.1:1",), 1)
            showing = asyncio.create_task(two.desk.go(Wish()))
            offered = await two.desk.until(Offered)
            await two.phone.go(Wish(secret=offered.code))
            assert "several devices" in two.phone.reason
            assert two.at_desk in two.phone.reason
            await other.stop()
            await two.phone.go(Wish(secret=offered.code))
            await showing
            assert two.phone.all(Complete)

    run(test())


def test_where_nobody_waits_the_person_is_told_what_to_do(
    two: Two, wire: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "_SEARCH_S", 0.3)

    async def test() -> None:
        async with two.open(networks=loopback):
            await two.phone.go(Wish(secret="abandon " * 5 + "zoo"))
            assert isinstance(two.phone.error, PeerUnavailable)
            assert "Have the other one show its code first" in two.phone.reason

    run(test())


# -- cut in the middle -----------------------------------------------------------------------


def test_who_is_done_first_may_leave_while_the_other_one_still_listens(two: Two) -> None:
    async def test() -> None:
        async with two.open():
            showing = asyncio.create_task(two.desk.go(Wish()))
            offered = await two.desk.until(Offered)
            await two.phone.go(Wish(secret=offered.code, peer=two.at_desk))
            # At this moment the desk listens whether more comes, or has just stopped.
            await two.phone.service.close()
            await showing
            assert two.desk.error is None
            assert two.desk.all(Complete)

    run(test())


_MANY = 4000


def _fill(home: Home) -> None:
    garden = home.new("Garden")
    with home.store.transaction():
        for n in range(_MANY):
            home.send(garden.n, f"bean {n}")


def _cut(service: Service) -> None:
    for session in list(service.runtime.peers._sessions.values()):
        session.ws.abort("cut")


def test_a_cut_in_the_first_transfer_is_gone_on_from_where_it_was(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REDIAL_MIN_MS", 50)
    _fill(two.desk.home)
    cut_at: list[int] = []

    async def test() -> None:
        async with two.open():
            pairing_ = asyncio.create_task(two.pair())
            while not cut_at:
                progress = await two.phone.until(Progress)
                if progress.done >= 1000:
                    cut_at.append(progress.done)
                    _cut(two.desk.service)
                else:
                    two.phone.told.remove(progress)
            await pairing_
            assert two.phone.error is None

    run(test())
    assert two.phone.texts("Garden") == [f"bean {n}" for n in range(_MANY)]
    assert cut_at[0] < _MANY
    # What was committed before the cut did not come again.
    assert two.phone.all(Complete)[0].done < _MANY + 1200


def test_a_pairing_that_is_left_in_the_first_transfer_goes_on_with_the_next_sync(two: Two) -> None:
    _fill(two.desk.home)

    async def test() -> None:
        async with two.open():
            showing = asyncio.create_task(two.desk.go(Wish()))
            offered = await two.desk.until(Offered)
            joining = asyncio.create_task(two.phone.go(Wish(secret=offered.code, peer=two.at_desk)))
            await two.phone.until(Progress)
            for task in (showing, joining):
                task.cancel()
            await asyncio.gather(showing, joining, return_exceptions=True)
        port = two.desk.service.port
        two.desk.service = Service(two.desk.home, phone=False)
        await two.desk.service.start((_LOOPBACK, port))
        again = Service(two.phone.home, phone=True, dials=False)
        try:
            assert (await again.sync(None, 20)).equal
        finally:
            await again.close()
            await two.desk.service.close()

    run(test())
    assert two.phone.texts("Garden") == [f"bean {n}" for n in range(_MANY)]


def test_the_newest_messages_come_first(two: Two) -> None:
    clock = [now_ms() - 60 * _WEEK_MS]
    two.desk.home.now_ms = lambda: clock[0]
    garden = two.desk.home.new("Garden")
    for week in range(60):
        clock[0] += _WEEK_MS
        with two.desk.home.store.transaction():
            for n in range(50):
                two.desk.home.send(garden.n, f"week {week}, bean {n}")
    two.desk.home.now_ms = now_ms
    seen: list[list[str]] = []

    def look(told: Happening) -> None:
        if isinstance(told, Notice) and told.what == "stored":
            titles = [conversation.title for conversation in two.phone.home.conversations()]
            seen.append(two.phone.texts("Garden") if "Garden" in titles else [])

    async def test() -> None:
        async with two.open():
            with two.phone.service.watched(look):
                await two.pair()

    run(test())
    first = next(texts for texts in seen if texts)
    assert len(first) < 1100
    assert first[-1] == "week 59, bean 49"
    assert len(two.phone.texts("Garden")) == 3000


# -- people ----------------------------------------------------------------------------------


class People(Two):
    """Ann's desk and Bob's phone."""

    async def invite(
        self, secret: Callable[[Offered], str] = lambda offered: offered.code, **wish: Any
    ) -> None:
        self.desk.told = []
        showing = asyncio.create_task(self.desk.go(Wish(type=LinkType.PERSON)))
        offered = await self.desk.until(Offered)
        given: dict[str, Any] = {"peer": self.at_desk, "type": LinkType.PERSON, **wish}
        await self.phone.go(Wish(secret=secret(offered), **given))
        await showing


@pytest.fixture
def people_(tmp_path: Path) -> Iterator[People]:
    made = People(tmp_path)
    yield made
    made.desk.home.close()
    made.phone.home.close()


def test_an_invited_person_becomes_a_contact_of_both_and_no_device_is_shared(people_: People) -> None:
    garden = people_.desk.home.new("Garden")
    people_.desk.home.send(garden.n, "for me alone")

    async def test() -> None:
        async with people_.open():
            await people_.invite()
            assert people_.desk.error is people_.phone.error is None
            assert people_.desk.all(Paired)[0].outcome == "met"

    run(test())
    for part, other in ((people_.desk, "login"), (people_.phone, "ann")):
        [known] = contacts.contacts(part.home)
        assert (known.name, known.called) == (other, other)
        assert known.safety
        [peer] = part.home.store.peers()
        assert not peer.own
        person = part.home.replica.people.current()
        assert person is not None
        assert len(person.members) == 1
    safety = [contacts.contacts(part.home)[0].safety for part in (people_.desk, people_.phone)]
    assert safety[0] == safety[1]
    assert people_.phone.home.conversations() == []


def test_a_link_for_a_device_is_no_invitation(people_: People) -> None:
    async def test() -> None:
        async with people_.open():

            def device(offered: Offered) -> str:
                link = codes.decode_link(offered.link)
                return codes.encode_link(msgspec.structs.replace(link, type=LinkType.DEVICE))

            showing = asyncio.create_task(people_.desk.go(Wish(type=LinkType.PERSON)))
            offered = await people_.desk.until(Offered)
            await people_.phone.go(Wish(type=LinkType.PERSON, secret=device(offered)))
            assert "for pairing a device of your own" in people_.phone.reason
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    run(test())


def test_a_code_for_a_person_typed_for_a_device_ends_it_at_both_ends(people_: People) -> None:
    async def test() -> None:
        async with people_.open():
            await people_.invite(type=LinkType.DEVICE)
            assert "the other device runs 'mlog pair'" in people_.desk.reason
            assert people_.phone.error is not None
            assert people_.desk.home.store.peers() == people_.phone.home.store.peers() == []

    run(test())


def test_a_device_of_one_s_own_is_not_invited(two: Two) -> None:
    async def test() -> None:
        async with two.open():
            await two.pair()
            two.desk.told = []
            showing = asyncio.create_task(two.desk.go(Wish(type=LinkType.PERSON)))
            offered = await two.desk.until(Offered)
            await two.phone.go(Wish(type=LinkType.PERSON, secret=offered.code, peer=two.at_desk))
            await showing
            assert "one of your own devices" in two.desk.reason

    run(test())
