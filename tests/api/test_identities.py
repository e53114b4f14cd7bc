"""People across imports: put together only by the person, and then found as one everywhere."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mlog.adapters.runtime import now_ms
from mlog.api import identities, members
from mlog.api.home import Home
from mlog.api.identities import Chosen, Person, alias, likenesses, merge, people, split
from mlog.errors import UserError
from mlog.log.bodies import Kind
from mlog.log.identities import Identity
from mlog.log.store import LogKind
from tests.api.acquainted import accept
from tests.api.acquainted import sync as acquainted_sync
from tests.api.conftest import read
from tests.api.serving import join, sync

IRC = "2020-01-02T10:00:00 <ann> tent\n2020-01-03T10:00:00 <ben> rope\n"
MAIL = """\
From ann@example.org Thu Jan  2 03:04:05 2020
From: Ann <ann@Example.org>
Message-ID: <{0}@x>
Date: Thu, 2 Jan 2020 03:04:05 +0000
Subject: tent {0}

hi
"""


@pytest.fixture
def full(opened: Home) -> Home:
    """With ann in IRC, Ann in two mailboxes, and the person of the home."""
    read(opened, IRC, "#camp.log")
    read(opened, MAIL.format(1), "a.mbox")
    read(opened, MAIL.format(2).partition("\n")[2], "b.eml")
    opened.send(opened.new("tea").n, "hello")
    return opened


def named(home: Home) -> dict[str, Person]:
    return {(one.name if one.is_named else str(one.identities[0])): one for one in people(home)}


def test_everybody_is_listed_with_what_they_say_and_mail_is_one_program(full: Home):
    found = named(full)
    assert set(found) == {"irc:ann", "irc:ben", "mail:ann@example.org", "mlog:ann"}
    mail = found["mail:ann@example.org"]
    assert (mail.name, mail.is_named, mail.messages) == ("Ann", False, 2)
    assert mail.conversations == ("a", "b")
    assert (mail.first_ms, mail.last_ms) == (1_577_934_245_000, 1_577_934_245_000)


def test_who_looks_alike_is_shown_and_not_merged(full: Home):
    alike = likenesses(people(full))
    assert all(one.reason == "the same name" for one in alike)
    assert len(alike) == 2
    assert len(people(full)) == 4


def test_merged_people_are_found_as_one(full: Home):
    merge(full, "mail:ann@example.org", "irc:ann")
    person = named(full)["Ann"]
    assert (person.is_named, person.messages) == (True, 3)
    expected = ["tent", "tent 1\n\nhi", "tent 2\n\nhi"]
    for who in ("ANN", "irc:ann", "mailto:ann@example.org"):
        assert sorted(message.text for message in full.search("tent", who=who)) == expected
    chosen = Chosen(full, "Ann")
    logs = [conversation.n for conversation in full.conversations()]
    assert sum(chosen.said(message) for n in logs for message in full.messages(n)) == 3


def test_alias_names_somebody_and_joins_who_has_the_name(full: Home):
    alias(full, "  Annie ", "irc:ann")
    assert named(full)["Annie"].messages == 1
    alias(full, "Annie", "mailto:ANN@example.org")
    assert named(full)["Annie"].messages == 3


def test_split_takes_one_identity_or_all_apart(full: Home):
    merge(full, "mail:ann@example.org", "irc:ann")
    split(full, "irc:ann")
    assert named(full)["Ann"].messages == 2
    split(full, "Ann")
    assert not any(one.is_named for one in people(full))
    with pytest.raises(UserError, match="nothing to split"):
        split(full, "irc:ann")


def test_what_means_several_or_nobody_is_refused_with_a_list(full: Home):
    with pytest.raises(UserError, match=r"3 people are called 'ann'; say which:\n(  .*\n)*  irc:ann"):
        merge(full, "ann", "irc:ben")
    with pytest.raises(UserError, match="nobody is called"):
        split(full, "zoe")
    with pytest.raises(UserError, match="are one already"):
        merge(full, "irc:ann", "irc:ann")
    with pytest.raises(UserError, match="needs a name"):
        alias(full, " ", "irc:ann")


def test_the_mapping_is_written_once_and_only_in_the_private_log(full: Home):
    merge(full, "irc:ann", "mail:ann@example.org")
    mapped = identities.who_is_who(full.replica).by_name()["ann"]
    identities.map_to(full, "ann", mapped)
    aliases = {
        row.kind: count
        for row in full.store.logs()
        if (count := full.store.count(row.n, frozenset({Kind.ALIAS})))
    }
    assert aliases == {LogKind.PRIVATE: len(mapped)}


def test_the_view_shows_the_same(full: Home):
    merge(full, "mail:ann@example.org", "irc:ann")
    with sqlite3.connect(full.database) as database:
        rows = database.execute(
            "SELECT coalesce(person, format || ':' || name), sum(messages) FROM people GROUP BY 1 ORDER BY 1"
        ).fetchall()
    database.close()
    assert rows == [("Ann", 3), ("irc:ben", 1), ("mlog:ann", 1)]


def test_all_own_devices_learn_of_it_and_can_change_it(tmp_path: Path):
    desk_path, laptop_path = tmp_path / "desk", tmp_path / "laptop"
    join(desk_path, laptop_path)
    with Home(desk_path) as desk:
        read(desk, IRC, "#camp.log")
        alias(desk, "Annie", "irc:ann")
    sync(desk_path, laptop_path)
    with Home(laptop_path) as laptop:
        assert named(laptop)["Annie"].messages == 1
        assert named_in_view(laptop) == [("Annie", "ann")]
        alias(laptop, "Benny", "irc:ben")
        split(laptop, "Annie")
    sync(desk_path, laptop_path)
    with Home(desk_path) as desk:
        assert [one.name for one in people(desk) if one.is_named] == ["Benny"]
        assert named_in_view(desk) == [("Benny", "ben")]


def named_in_view(home: Home) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(home.database)) as database:
        return database.execute("SELECT person, name FROM people WHERE person NOT NULL").fetchall()


def test_a_person_without_messages_here_stays_listed(full: Home):
    alias(full, "Annie", "irc:ann")
    identities.map_to(full, "Annie", [Identity("signal", "tel:+491", "")])
    assert Identity("signal", "tel:+491", "") in named(full)["Annie"].identities
    identities.map_to(full, "Zoe", [Identity("signal", "tel:+492", "")])
    assert named(full)["Zoe"].messages == 0


def test_a_number_that_two_programs_know_is_perhaps_one_person():
    def person(format_name: str, name: str) -> Person:
        return Person(
            name=name,
            is_named=False,
            identities=(Identity(format_name, "tel:+491", ""),),
            names=(name,),
            conversations=(),
            messages=1,
            first_ms=0,
            last_ms=0,
        )

    [alike] = likenesses([person("signal", "Ann"), person("whatsapp", "A. Lee")])
    assert alike.reason == "the same number or address"
    [alike] = likenesses([person("signal", "Ann"), person("whatsapp", "Ann")])
    assert alike.reason == "the same number or address"


def test_two_people_of_one_name_who_write_in_mlog_are_two(tmp_path: Path):
    ann, other = (tmp_path / name for name in ("one", "two"))
    for at, path in enumerate((ann, other)):
        with Home(path, person="Ann", clock_ms=lambda at=at: now_ms() + at):
            pass
    accept(ann, other)
    acquainted_sync(ann, other)
    with Home(ann) as home:
        members.new_with(home, "trip", ["Ann"])
        home.send(home.conversation("trip").n, "from here")
    acquainted_sync(ann, other)
    with Home(other) as home:
        home.send(home.conversation("trip").n, "from there")
    acquainted_sync(ann, other)
    with Home(ann) as home:
        found = people(home)
        assert [one.messages for one in found] == [1, 1]
        topics = {person.topic.hex()[:16] for person in home.replica.people.persons()}
        assert {str(one.identities[0]) for one in found} == {f"mlog:{topic}" for topic in topics}
        assert likenesses(found) == [], "one name says nothing"
        with pytest.raises(UserError, match="2 people are called 'Ann'"):
            alias(home, "Anna", "Ann")
        here = home.replica.people.current()
        assert here is not None
        alias(home, "myself", f"mlog:{here.topic.hex()[:16]}")
        chosen = Chosen(home, "myself")
        said = [m.text for m in home.messages(home.conversation("trip").n) if chosen.said(m)]
        assert said == ["from here"]
        snapshot = home.snapshot()
    with closing(sqlite3.connect(f"{snapshot.as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT person, uid, name, messages FROM people ORDER BY person").fetchall()
    assert [(person, name, count) for person, _, name, count in rows] == [
        (None, "Ann", 1),
        ("myself", "Ann", 1),
    ]
    assert {uid for _, uid, _, _ in rows} == {f"mlog:{topic}" for topic in topics}
