"""A home that joins an older person takes along whom it had accepted, and who is who."""

from __future__ import annotations

from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.carrying import carry_over
from mlog.log.contacts import Contact, write_contact
from mlog.log.fold import Draft
from mlog.log.replica import Replica
from mlog.log.store import TimelineQuery
from tests.log.conversing import LATER, accept, session
from tests.log.persons import findings_in, home, meet, person_of, trust
from tests.log.support import START_MS


def joined() -> tuple[Replica, Replica, Replica]:
    """The laptop's person knew Bob, and joined that of the desktop; and Bob."""
    desktop, laptop, bob = home(0), home(1), home(2)
    accept(laptop, bob)
    trust(desktop, 0, laptop, 1)
    meet(desktop, laptop)
    return desktop, laptop, bob


def names(replica: Replica) -> list[str]:
    return [contact.name for contact in replica.people.contacts().values()]


def private(replica: Replica) -> int:
    found = replica.people.private_log()
    assert found is not None
    return found


def test_contacts_come_along_and_reach_all_devices():
    desktop, laptop, bob = joined()
    assert names(laptop) == []
    assert carry_over(laptop, LATER) == 1
    assert carry_over(laptop, LATER) == 0
    meet(desktop, laptop, LATER)
    assert names(desktop) == names(laptop) == ["person 2"]
    assert findings_in(laptop) == []
    # Bob follows them to the older person, and hears of the desktop.
    session(laptop, bob, LATER)
    meet(desktop, laptop, LATER)
    assert {p.device for p in bob.store.peers()} == {desktop.device_id, laptop.device_id}
    assert bob.device_id in {p.device for p in desktop.store.peers()}


def test_what_the_older_person_says_of_a_contact_holds():
    desktop, laptop, bob = joined()
    topic = person_of(bob).topic
    known = Contact(topic=topic, name="Bobby", device=bob.device_id, since_ms=START_MS)
    write_contact(desktop, known, START_MS + 300)
    write_contact(desktop, known, START_MS + 301, removed=True)
    meet(desktop, laptop)
    assert carry_over(laptop, LATER) == 0
    assert names(laptop) == []


def test_who_was_no_contact_any_more_stays_so():
    desktop, laptop, bob = home(0), home(1), home(2)
    accept(laptop, bob)
    (contact,) = laptop.people.contacts().values()
    write_contact(laptop, contact, START_MS + 80, removed=True)
    trust(desktop, 0, laptop, 1)
    meet(desktop, laptop)
    assert carry_over(laptop, LATER) == 0


def test_who_is_who_comes_along_where_nothing_is_said_of_it():
    desktop, laptop = home(0), home(1)
    for by, name in (("ann", "Ann"), ("b", "Bea"), ("c", "")):
        body = bodies.Alias(format="irc", by=by, person=name)
        laptop.write(private(laptop), [Draft(Kind.ALIAS, body, START_MS)], START_MS)
    said = bodies.Alias(format="irc", by="b", person="Berta")
    desktop.write(private(desktop), [Draft(Kind.ALIAS, said, START_MS)], START_MS)
    trust(desktop, 0, laptop, 1)
    meet(desktop, laptop)
    assert carry_over(laptop, LATER) == 1
    rows = laptop.store.timeline(
        TimelineQuery(log=private(laptop), limit=10, kinds=frozenset({Kind.ALIAS}), newest_first=True)
    )
    body = bodies.decode(rows[0].kind, rows[0].body or b"")
    assert body == bodies.Alias(format="irc", by="ann", person="Ann")
    assert len(rows) == 2


def test_a_home_that_joined_nobody_carries_nothing():
    ann, bob = home(0), home(1)
    accept(ann, bob)
    assert carry_over(ann, LATER) == 0
