"""Rows of who belongs or belonged to what: what the entries say, at every moment."""

from __future__ import annotations

import pytest

from mlog.log import ruling
from mlog.log.authority import Role
from mlog.log.contacts import Contact, write_contact
from mlog.log.replica import Replica
from mlog.log.roster import roster
from tests.log.conversing import LATER, acquainted, all_meet, conversation, expel, log_of, person, session
from tests.log.persons import begin, findings_in, home, person_of
from tests.log.support import START_MS


def talk() -> tuple[list[Replica], bytes]:
    homes = acquainted(3)
    topic = conversation(*homes)
    all_meet(homes, START_MS + 350)
    return homes, topic


def listed(replica: Replica, topic: bytes) -> list[tuple[str, str, str, str]]:
    rows = replica.store.members(log_of(replica, topic))
    return [(row.name, row.role, row.ended, row.ended_by) for row in rows]


def test_who_joins_is_removed_and_leaves_is_listed_at_every_replica():
    homes, topic = talk()
    ann, bob, carol = homes
    names = [("person 0", "admin"), ("person 1", "member"), ("person 2", "member")]
    for replica in homes:
        assert [row[:2] for row in listed(replica, topic)] == names
        here = [row.here for row in replica.store.members(log_of(replica, topic))]
        assert here.index(True) == homes.index(replica)
    expel(ann, topic, carol)
    session(ann, bob, LATER)
    ruling.leave(bob, log_of(bob, topic), LATER + 1)
    session(ann, bob, LATER + 1)
    for replica in (ann, bob):
        assert listed(replica, topic) == [
            ("person 0", "admin", "", ""),
            ("person 1", "", "left", ""),
            ("person 2", "", "removed", "person 0"),
        ]
        assert findings_in(replica) == []
    rows = ann.store.members(log_of(ann, topic))
    assert [row.ended_ms for row in rows] == [0, LATER + 1, LATER]
    assert [row.topic for row in rows] == [person_of(replica).topic for replica in homes]


def test_who_comes_back_is_in_it_since_then():
    (ann, _, carol), topic = talk()
    log = log_of(ann, topic)
    expel(ann, topic, carol)
    ruling.add(ann, log, [person(ann, carol)], LATER + 5)
    ruling.set_role(ann, log, person(ann, carol), Role.ADMIN, LATER + 9)
    row = ann.store.members(log)[-1]
    assert (row.role, row.ended, row.since_ms) == ("admin", "", LATER + 5)
    assert ann.store.members(log)[0].since_ms == START_MS + 300


def test_names_follow_the_contacts():
    (ann, bob, _), topic = talk()
    known = Contact(topic=person_of(bob).topic, name="Bobby", device=bob.device_id, since_ms=START_MS)
    write_contact(ann, known, LATER)
    assert [row[0] for row in listed(ann, topic)] == ["person 0", "Bobby", "person 2"]


def test_a_conversation_of_ones_own_has_no_rows():
    ann = home(0)
    log = begin(ann, "mine")
    assert ann.store.members(log) == roster(ann, log) == []


@pytest.mark.parametrize("keep", [0, 2])
def test_rows_that_are_not_what_the_entries_say_are_found(keep: int):
    (ann, _, _), topic = talk()
    log = log_of(ann, topic)
    with ann.store.transaction():
        ann.store.put_members(log, ann.store.members(log)[:keep])
    (finding,) = findings_in(ann)
    assert "list of its members" in finding.detail
