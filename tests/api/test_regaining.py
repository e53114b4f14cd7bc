"""No own device is left, and one of a contact gives back the person and what both share."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlog import limits
from mlog.adapters.runtime import now_ms
from mlog.api import contacts, members, recovery
from mlog.api.home import Home
from mlog.api.members import new_with
from mlog.api.pairing_steps import Paired, Reaching
from mlog.errors import PeerUnavailable
from mlog.log import belonging, bodies, grants, trusting
from mlog.log.bodies import Kind
from mlog.log.fold import Draft, LogState
from mlog.log.ids import DeviceId, Topic
from mlog.log.replica import Replica
from mlog.log.store import LogKind
from tests.api.acquainted import people as acquainted
from tests.api.acquainted import sync
from tests.api.serving import peer_of
from tests.api.test_recovery import Recovered, enrolled, served, shared, texts, wrapped_for

_LOOPBACK = "127.0.0.1"


class Lost:
    """Ann had two devices and a phrase, a garden of her own and talks with ben; both devices are gone."""

    def __init__(self, tmp_path: Path) -> None:
        self.ann, self.ben = acquainted(tmp_path, "ann", "ben")
        laptop = tmp_path / "laptop"
        with Home(self.ann) as desk, Home(laptop, person="ann", clock_ms=lambda: now_ms() + 1000) as other:
            belonging.admit(desk.replica, peer_of(other, "laptop"), desk.now_ms())
            with other.store.transaction():
                other.store.put_peer(peer_of(desk, "desk"))
            desk.send(desk.new("Garden").n, "nobody else sees this")
            self.phrase = enrolled(desk)
            trip = new_with(desk, "Trip", ["ben"])
            desk.send(trip.n, "shall we go")
        sync(self.ann, laptop)
        sync(self.ann, self.ben)
        self.say(self.ben, "yes")
        sync(self.ann, self.ben)
        sync(self.ann, laptop)
        self.say(laptop, "from the laptop")
        sync(self.ann, laptop)
        sync(self.ann, self.ben)
        self.said = ["shall we go", "yes", "from the laptop"]

    def say(self, path: Path, words: str) -> None:
        with Home(path) as home:
            home.send(home.conversation("Trip").n, words)

    def lose(self) -> None:
        shutil.rmtree(self.ann)
        shutil.rmtree(self.ann.parent / "laptop")


@pytest.fixture
def lost(tmp_path: Path) -> Lost:
    return Lost(tmp_path)


@pytest.fixture
def later(tmp_path: Path) -> Iterator[Recovered]:
    made = Recovered(tmp_path / "new", ahead_ms=60_000)
    yield made
    made.home.close()


def test_a_contact_gives_back_the_person_and_what_both_share(lost: Lost, later: Recovered) -> None:
    lost.lose()
    new = later.home
    with served(lost.ben) as at:
        later.recover(lost.phrase, at)
    [paired] = [step for step in later.told if isinstance(step, Paired)]
    assert (paired.person, paired.met, paired.outcome) == ("ann", "ben", "joins")
    assert texts(new, "Trip") == lost.said
    assert [conversation.title for conversation in new.conversations()] == ["Trip"]
    person = trusting.own_person(new.replica)
    here = person.member(new.replica.device_id)
    assert here is not None
    assert (person.name, here.by, here.confirmed) == ("ann", lost.phrase.keys.id, True)
    assert [contact.name for contact in contacts.contacts(new)] == ["ben"]
    assert new.verify() == []
    # Both go on, and other devices of either hear of it.
    new.send(new.conversation("Trip").n, "I am back")
    sync(lost.ben, new.path)
    lost.say(lost.ben, "welcome")
    sync(new.path, lost.ben)
    for path in (new.path, lost.ben):
        with Home(path) as home:
            assert texts(home, "Trip") == [*lost.said, "I am back", "welcome"]
            assert {m.author.name for m in home.messages(home.conversation("Trip").n)} == {"ann", "ben"}
            assert home.verify() == []
    with Home(new.path) as home:
        garden = new_with(home, "Beans", ["ben"])
        home.send(garden.n, "a new one")
    sync(new.path, lost.ben)
    with Home(lost.ben) as home:
        assert texts(home, "Beans") == ["a new one"]
        assert wrapped_for(home, home.conversation("Trip").n, lost.phrase)


def test_contacts_do_not_answer_a_phrase_that_was_revoked(lost: Lost, later: Recovered) -> None:
    with Home(lost.ann) as home:
        newer = enrolled(home, replace=True)
    sync(lost.ann, lost.ben)
    lost.lose()
    with Home(lost.ben) as home:
        before = home.store.next_n()
    with served(lost.ben) as at:
        assert "nor of a contact who knows this phrase" in later.fails(lost.phrase, at)
        assert later.home.store.peers() == []
        with Home(lost.ben) as home:
            assert home.store.next_n() == before
        later.recover(newer, at)
    assert texts(later.home, "Trip") == lost.said


def test_a_contact_that_was_removed_does_not_answer(lost: Lost, later: Recovered) -> None:
    with Home(lost.ben) as home:
        members.leave(home, home.conversation("Trip").n)
        contacts.remove_contact(home, "ann")
    lost.lose()
    with served(lost.ben) as at:
        assert "does not answer this phrase" in later.fails(lost.phrase, at)


def test_who_shares_a_conversation_only_answers_too(lost: Lost, later: Recovered) -> None:
    with Home(lost.ben) as home:
        contacts.remove_contact(home, "ann")
    lost.lose()
    with served(lost.ben) as at:
        later.recover(lost.phrase, at)
    assert texts(later.home, "Trip") == lost.said
    later.home.send(later.home.conversation("Trip").n, "I am back")
    sync(lost.ben, later.home.path)
    with Home(lost.ben) as home:
        assert texts(home, "Trip") == [*lost.said, "I am back"]


def test_of_several_that_answer_an_own_device_is_taken(
    lost: Lost, later: Recovered, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(lost.ben) as friend, served(lost.ann) as own:

        async def candidates(_: object, __: str) -> list[tuple[str, ...]]:
            return [(friend,), (own,)]

        monkeypatch.setattr(recovery._Recovery, "_candidates", candidates)
        later.recover(lost.phrase, "")
        [paired] = [step for step in later.told if isinstance(step, Paired)]
        with Home(lost.ann) as home:
            assert (paired.device, paired.met) == (home.replica.device_id.hex(), "")
        assert texts(later.home, "Garden") == ["nobody else sees this"]


def test_of_several_a_contacts_device_is_taken_where_no_own_one_answers(
    lost: Lost, later: Recovered, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost.lose()
    with socket.create_server((_LOOPBACK, 0)) as taken:
        nobody = f"{_LOOPBACK}:{taken.getsockname()[1]}"
    with served(lost.ben) as friend:

        async def candidates(_: object, __: str) -> list[tuple[str, ...]]:
            return [(friend,), (nobody,)]

        monkeypatch.setattr(recovery._Recovery, "_candidates", candidates)
        later.recover(lost.phrase, "")
    reached = [step.addresses for step in later.told if isinstance(step, Reaching)]
    assert reached == [(friend,), (nobody,), (friend,)]
    assert texts(later.home, "Trip") == lost.said


def test_where_an_own_device_turns_up_later_all_comes_back(lost: Lost, later: Recovered) -> None:
    with Home(lost.ann) as home:
        contacts.name_contact(home, "ben", "Benny")
    with served(lost.ben) as at:
        later.recover(lost.phrase, at)
    new = later.home
    contacts.name_contact(new, "ben", "Ben again")
    sync(lost.ben, lost.ann)
    sync(lost.ann, new.path)
    assert texts(new, "Garden") == ["nobody else sees this"]
    with Home(lost.ann) as home:
        for each in (home, new):
            # What the founder's log says of somebody holds.
            assert [contact.name for contact in contacts.contacts(each)] == ["Benny"]
            assert each.verify() == []
        assert sorted(s.root for s in shared(home)) == sorted(s.root for s in shared(new))


@pytest.mark.parametrize("until", [400, 6_000, 12_000, 18_000, 24_000])
def test_wherever_it_is_cut_off_from_a_contact_it_goes_on(lost: Lost, later: Recovered, until: int) -> None:
    with Home(lost.ann) as home:
        before = [member.device for member in trusting.own_person(home.replica).machines]
    lost.lose()
    with served(lost.ben) as at:
        later.cut_off(lost.phrase, at, until)
        later.recover(lost.phrase, at)
    assert texts(later.home, "Trip") == lost.said
    with Home(lost.ben) as ben:
        ann = ben.replica.people.person_of(ben.replica.people.subject_of_topic(_topic(later.home)))
        assert ann is not None
        for person in (ann, trusting.own_person(later.home.replica)):
            assert [member.device for member in person.machines] == [*before, later.home.replica.device_id]
    assert later.home.verify() == []
    assert all(later.home.store.forks(row.n) == [] for row in later.home.store.logs())


def _topic(home: Home) -> Topic:
    return trusting.own_person(home.replica).topic


def grants_only(monkeypatch: pytest.MonkeyPatch, *topics: Topic) -> None:
    """All here grant these logs alone."""
    real = grants._grantable

    def granted(replica: Replica, device: DeviceId) -> list[LogState]:
        return [state for state in real(replica, device) if state.keys.topic in topics]

    monkeypatch.setattr(grants, "_grantable", granted)


def test_a_device_that_is_of_nobody_by_the_logs_that_it_gives_is_not_believed(
    lost: Lost, later: Recovered, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Home(lost.ann) as home:
        grants_only(monkeypatch, _topic(home))
    with served(lost.ben) as at:
        assert "of nobody whom you meet" in later.fails(lost.phrase, at)
    assert later.home.store.peers() == []
    assert len(trusting.own_person(later.home.replica).members) == 1


def made_up(lost: Lost) -> Topic:
    """Ben makes a person of his own who is older, and says that Ann's phrase is a device of it."""
    keys, early = lost.phrase.keys, now_ms() - 3_600_000
    with Home(lost.ben) as home:
        replica, own = home.replica, home.replica.device_keys
        record = bodies.Device(name="x", person="ann", noise=own.noise_public, hpke=own.hpke_public)
        admit = bodies.Admit(device=keys.id, name="y", noise=keys.noise_public, hpke=keys.hpke_public)
        drafts = [Draft(Kind.DEVICE, record, early), Draft(Kind.ADMIT, admit, early)]
        return replica.log(replica.create_log(LogKind.PERSON, drafts, early)).keys.topic


def test_a_phrase_says_yes_to_nobody_who_answers_and_is_of_another_person(
    lost: Lost, later: Recovered
) -> None:
    topic = made_up(lost)
    with served(lost.ben) as at:
        later.recover(lost.phrase, at)
    assert _topic(later.home) != topic
    assert texts(later.home, "Trip") == lost.said
    with Home(lost.ben) as home:
        [log] = [row.n for row in home.store.logs() if row.topic == topic]
        assert {chain.device for chain in home.store.chains(log)} == {home.replica.device_id}


def test_who_gives_a_log_alone_to_which_the_phrase_never_said_yes_is_left(
    lost: Lost, later: Recovered, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants_only(monkeypatch, made_up(lost))
    monkeypatch.setattr(limits, "IDLE_TIMEOUT_MS", 1_000)
    with served(lost.ben) as at:
        assert "gives no log in which this phrase" in later.fails(lost.phrase, at, PeerUnavailable)
    assert later.home.store.peers() == []
