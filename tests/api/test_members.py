"""Persons in separate homes that sync over connections: contacts, members, removal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from mlog.api import contacts, members
from mlog.api.devices import reach_device
from mlog.api.home import Home
from mlog.api.repair import absences
from mlog.api.why import Shown, explain
from mlog.errors import UserError
from mlog.formats.source import Source
from mlog.log.store import Reason
from tests.api.acquainted import accept, people, record_of, sync


def texts(path: Path, title: str = "trip") -> list[str]:
    with Home(path) as home:
        return [message.text for message in home.messages(home.conversation(title).n)]


def say(path: Path, words: str, title: str = "trip") -> None:
    with Home(path) as home:
        home.send(home.conversation(title).n, words)


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return people(tmp_path, "ann", "bob", "carol")


def test_contacts_see_each_other_with_the_same_digits(tmp_path: Path):
    ann, bob = people(tmp_path, "ann", "bob")
    found: list[contacts.KnownContact] = []
    for path in (ann, bob):
        with Home(path) as home:
            found += contacts.contacts(home)
    assert [c.name for c in found] == ["bob", "ann"]
    assert found[0].safety == found[1].safety
    assert all(len(group) == 5 for group in found[0].safety)
    assert len(found[0].safety) == 6


def test_three_persons_talk_and_one_of_them_never_meets_who_began_it(three: list[Path]):
    ann, bob, carol = three
    with Home(ann) as home:
        members.new_with(home, "trip", ["bob", "carol"])
        names = [(m.name, m.role, m.here) for m in members.members(home, home.conversation("trip").n)]
    assert names == [("ann", "admin", True), ("bob", "member", False), ("carol", "member", False)]
    say(ann, "who brings the tent?")
    assert sync(ann, bob)
    say(bob, "I do")
    # Carol hears of all by Bob alone.
    assert sync(bob, carol)
    assert texts(carol) == ["who brings the tent?", "I do"]
    say(carol, "and I the stove")
    assert sync(bob, carol)
    assert sync(ann, bob)
    assert texts(ann) == texts(bob) == texts(carol)
    with Home(ann) as home:
        log = home.conversation("trip").n
        assert [m.author.name for m in home.messages(log)] == ["ann", "bob", "carol"]
        assert home.verify() == []


def test_who_is_removed_is_given_nothing_and_reads_nothing(three: list[Path]):
    ann, bob, carol = three
    with Home(ann) as home:
        log = members.new_with(home, "trip", ["bob", "carol"]).n
    for other in (bob, carol):
        sync(ann, other)
    say(carol, "before")
    sync(ann, carol)
    with Home(ann) as home:
        members.remove(home, log, "carol")
        assert [m.name for m in members.members(home, log)] == ["ann", "bob"]
    say(ann, "of her")
    say(carol, "still here?")
    for other in (carol, bob):
        sync(ann, other)
    sync(bob, carol)
    assert texts(ann) == texts(bob) == ["before", "of her"]
    # She was told, and that what she wrote since counts for nothing.
    assert texts(carol) == ["before"]
    with Home(carol) as home, pytest.raises(UserError, match="you are not in this conversation any more"):
        members.add(home, home.conversation("trip").n, ["bob"])


def test_who_is_added_reads_what_is_said_from_then_on_and_is_told_why_not_more(three: list[Path]):
    ann, bob, carol = three
    with Home(ann) as home:
        log = members.new_with(home, "trip", ["bob"]).n
    say(ann, "before")
    sync(ann, bob)
    with Home(ann) as home:
        assert members.add(home, log, ["carol"]) == ["carol"]
    say(ann, "after")
    sync(ann, carol)
    say(carol, "hello")
    assert sync(ann, carol), "nothing is left to say, though one of the two cannot open all"
    assert texts(ann) == ["before", "after", "hello"]
    assert texts(carol) == ["", "after", "hello"]
    with Home(carol) as home:
        trip = home.conversation("trip").n
        closed, *others = home.messages(trip)
        assert (closed.closed, closed.absent, closed.damage) == (True, False, "")
        assert not any(message.closed for message in others)
        assert explain(home, closed.id.hex()).shown == Shown.CLOSED
        [absence] = absences(home, trip)
        assert (absence.reason, absence.is_gap, absence.count) == (Reason.BEFORE_JOINING, False, 1)
        [standing] = home.status(trip)
        assert (standing.closed, standing.gaps) == (1, 0)
        assert home.verify() == []
        theirs = home.status(trip)[0].root
    with Home(ann) as home:
        assert home.status(log)[0].root == theirs
        assert members.add(home, log, ["carol"], history=True) == ["carol"]
    assert sync(ann, carol)
    assert texts(carol) == ["before", "after", "hello"]
    with Home(carol) as home:
        assert absences(home, home.conversation("trip").n) == []
        assert home.verify() == []


def test_why_says_that_an_entry_is_of_who_is_no_member(three: list[Path]):
    ann, bob, _ = three
    with Home(ann) as home:
        log = members.new_with(home, "trip", ["bob"]).n
    sync(ann, bob)
    say(bob, "mine")
    sync(ann, bob)
    say(bob, "late")
    with Home(ann) as home:
        members.remove(home, log, "bob")
    with Home(ann) as home, Home(bob) as other:
        theirs = other.conversation("trip").n
        rows = other.store.arrivals(theirs, 0, 1000)
        home.replica.receive(log, other.replica.sealed_of(theirs, rows, bodies=True), home.now_ms())
        assert [m.text for m in home.messages(log)] == ["mine"]
        late = next(m for m in other.messages(theirs) if m.text == "late")
        assert explain(home, late.id.hex()).shown == Shown.NO_RIGHT


def test_names_that_i_choose_are_shown_and_told_to_nobody(tmp_path: Path):
    ann, bob = people(tmp_path, "ann", "bob")
    with Home(ann) as home:
        contacts.name_contact(home, "bob", "Bobby")
        members.new_with(home, "trip", ["bobby"])
    sync(ann, bob)
    say(bob, "hi")
    sync(ann, bob)
    with Home(ann) as home:
        log = home.conversation("trip").n
        assert [m.author.name for m in home.messages(log)] == ["Bobby"]
        assert [m.name for m in members.members(home, log)] == ["ann", "Bobby"]
    with Home(bob) as home:
        assert [m.author.name for m in home.messages(home.conversation("trip").n)] == ["bob"]


def test_a_contact_that_was_never_met_is_explained(tmp_path: Path):
    ann, bob = tmp_path / "ann", tmp_path / "bob"
    for path in (ann, bob):
        with Home(path, person=path.name):
            pass
    accept(ann, bob)
    with Home(ann) as home:
        assert contacts.contacts(home)[0].safety == ()
        with pytest.raises(UserError, match="mlog sync"):
            members.new_with(home, "trip", ["bob"])
        with pytest.raises(UserError, match="does not name exactly one contact"):
            members.new_with(home, "trip", ["dora"])
        assert home.conversations() == []
        with pytest.raises(UserError, match="one of your own"):
            contacts.meet(home, record_of(home))


def test_a_contact_that_is_removed_may_connect_no_more(tmp_path: Path):
    ann, bob = people(tmp_path, "ann", "bob")
    with Home(ann) as home:
        contacts.remove_contact(home, "bob")
        assert contacts.contacts(home) == []
        assert home.store.peers() == []
    with Home(ann) as home, Home(bob) as other:
        contacts.meet(home, record_of(other))
        assert [c.name for c in contacts.contacts(home)] == ["bob"]


def test_an_admin_erases_what_somebody_else_said(tmp_path: Path):
    ann, bob = people(tmp_path, "ann", "bob")
    with Home(ann) as home:
        members.new_with(home, "trip", ["bob"])
    sync(ann, bob)
    say(bob, "rude")
    say(ann, "polite")
    sync(ann, bob)
    with Home(bob) as home:
        message = next(m for m in home.messages(home.conversation("trip").n) if m.text == "polite")
        with pytest.raises(UserError, match="only its author"):
            home.erase(message)
    with Home(ann) as home:
        message = next(m for m in home.messages(home.conversation("trip").n) if m.text == "rude")
        home.erase(message)
    sync(ann, bob)
    assert texts(ann) == texts(bob) == ["", "polite"]


def test_a_member_is_told_who_may_let_messages_disappear(tmp_path: Path):
    ann, bob = people(tmp_path, "ann", "bob")
    with Home(ann) as home:
        members.new_with(home, "trip", ["bob"])
    assert sync(ann, bob)
    with Home(bob) as home:
        log = home.conversation("trip").n
        with pytest.raises(UserError, match=r"only an admin of this conversation can set .*: ask ann"):
            home.expire_after(log, 86_400_000)
        assert home.expiry_ms(log) == 0
    with Home(ann) as home:
        home.expire_after(home.conversation("trip").n, 86_400_000)
    assert sync(ann, bob)
    with Home(bob) as home:
        assert home.expiry_ms(home.conversation("trip").n) == 86_400_000


def test_who_leaves_writes_no_more(tmp_path: Path):
    ann, bob = people(tmp_path, "ann", "bob")
    with Home(ann) as home:
        members.new_with(home, "trip", ["bob"])
    say(ann, "hello")
    sync(ann, bob)
    with Home(bob) as home:
        log = home.conversation("trip").n
        members.leave(home, log)
        message = next(m for m in home.messages(log))
        source = partial(Source, BytesIO(b"[12:00] <bob> hi\n"), "#trip.log")
        refused: list[Callable[[], object]] = [
            lambda: home.send(log, "hello?"),
            lambda: home.react(message, "+"),
            lambda: home.set_title(log, "other"),
            lambda: home.expire_after(log, 86_400_000),
            lambda: home.import_chat(source(), into=log),
            lambda: home.import_chat(source(), into=log, dry_run=True),
            lambda: members.add(home, log, ["ann"]),
        ]
        before = home.store.next_n()
        for refuse in refused:
            with pytest.raises(UserError, match=r"you (are not|left) .*'mlog add'.*'mlog new TITLE'"):
                refuse()
        home.notes.mark_read(log)
        assert not home.store.arrivals(log, before - 1, 9)
    sync(ann, bob)
    with Home(ann) as home:
        assert [m.name for m in members.members(home, home.conversation("trip").n)] == ["ann"]


def test_a_person_whose_log_has_several_epochs_syncs_to_the_end(tmp_path: Path):
    ann, bob = people(tmp_path, "ann", "bob")
    with Home(ann) as home:
        person = home.replica.people.current()
        assert person is not None
        home.replica.begin_epoch(person.log, home.now_ms(), fresh=True)
        home.replica.begin_epoch(person.log, home.now_ms(), fresh=True)
    assert sync(ann, bob)
    assert sync(bob, ann)
    with Home(bob) as home:
        [log] = [p.log for p in home.replica.people.persons() if p.name == "ann"]
        assert home.store.scan_unopened(log, 0, 10) == []


def test_contacts_are_told_where_a_device_is_reached(tmp_path: Path):
    ann, bob = people(tmp_path, "ann", "bob")
    with Home(ann) as home:
        reach_device(home, ["ann.example:7367"])
        with pytest.raises(UserError, match="no address"):
            reach_device(home, ["nowhere"])
    assert sync(ann, bob)
    with Home(bob) as home:
        [peer] = home.store.peers()
    assert "ann.example:7367" in peer.addresses
    assert peer.addresses[0].startswith("127.0.0.1:"), "where it was met comes first"
