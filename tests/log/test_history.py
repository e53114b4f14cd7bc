"""Who joins without the history: what it opens, and that it folds what all others fold."""

from __future__ import annotations

import random

import pytest

from mlog.errors import InvalidInput, UserError
from mlog.log import bodies, entry, ruling
from mlog.log.authority import Role
from mlog.log.bodies import SPOKEN, Kind
from mlog.log.fold import Draft
from mlog.log.ids import MessageId
from mlog.log.merkle import refresh_digests
from mlog.log.replica import Replica
from mlog.log.store import BodyState, Reason, TimelineQuery
from tests.log.conversing import (
    LATER,
    acquainted,
    all_meet,
    conversation,
    expel,
    has,
    log_of,
    members,
    membership_of,
    person,
    say,
    session,
    settle,
)
from tests.log.persons import findings_in, home, meet, replica_of, sealed_of, texts_of, trust, write
from tests.log.support import START_MS

NOW = START_MS + 1_000


def let_in(host: Replica, topic: bytes, guest: Replica, now: int = NOW, *, history: bool = False) -> None:
    ruling.add(host, log_of(host, topic), [person(host, guest)], now, history=history)


def talk(count: int = 3) -> tuple[list[Replica], bytes]:
    """All but the last one are in a conversation in which something was said."""
    homes = acquainted(count)
    topic = conversation(*homes[:-1])
    all_meet(homes)
    say(homes[0], topic, "before one")
    say(homes[1], topic, "before two")
    all_meet(homes)
    return homes, topic


def read_by(replica: Replica, topic: bytes) -> set[str]:
    """All texts that a replica's keys open among the entries that it holds, whatever its index says."""
    log = log_of(replica, topic)
    keys, found = replica.log(log).keys, set[str]()
    for row in replica.store.arrivals(log, 0, 1000):
        if row.body is None:
            continue
        [sealed] = replica.sealed_of(log, [row], bodies=True)
        opened = entry.unseal(keys, sealed.outer, sealed.body)
        if opened.header is not None and opened.body is not None and opened.header.kind in SPOKEN:
            body = bodies.decode(opened.header.kind, opened.body)
            assert isinstance(body, bodies.Text)
            found.add(body.text)
        elif row.state == BodyState.OPENED and row.kind in SPOKEN:
            pytest.fail("a text is here that no key opens")
    return found


def closed_rows(replica: Replica, topic: bytes) -> list[int]:
    return [row.kind for row in replica.store.scan_closed(log_of(replica, topic), 0, 1000)]


def fold_of(replica: Replica, topic: bytes) -> object:
    """What all must agree on: members, title, order of all entries, epoch to write under, digests."""
    log = log_of(replica, topic)
    query = TimelineQuery(log=log, limit=1000, hidden=True)
    order = [(row.id, row.rank, row.kind, row.hidden) for row in replica.store.timeline(query)]
    title = next(row.title for row in replica.store.logs() if row.n == log)
    joined = [(j.subject, j.role, j.history, j.since) for j in membership_of(replica, topic).joined()]
    readers = replica.people.readers(log)
    assert readers is not None
    epoch = replica.people.epoch(replica.log(log), readers)
    secret = epoch.secret if epoch is not None else None
    return joined, title, order, secret, list(refresh_digests(replica.store, log))


def assert_agree(homes: list[Replica], topic: bytes) -> None:
    folds = [fold_of(replica, topic) for replica in homes]
    assert all(fold == folds[0] for fold in folds)
    assert all(findings_in(replica) == [] for replica in homes)


def test_who_joins_without_the_history_opens_nothing_from_before_and_all_from_then_on():
    homes, topic = talk()
    ann, bob, carol = homes
    let_in(ann, topic, carol)
    say(ann, topic, "welcome", NOW + 1)
    all_meet(homes)
    say(carol, topic, "hello", NOW + 2)
    all_meet(homes)
    assert read_by(carol, topic) == {"welcome", "hello"}
    assert read_by(bob, topic) == {"before one", "before two", "welcome", "hello"}
    assert closed_rows(carol, topic) == [Kind.MESSAGE, Kind.MESSAGE]
    assert texts_of(carol, log_of(carol, topic)) == [None, None, "welcome", "hello"]
    assert_agree(homes, topic)


def test_titles_are_told_and_what_is_closed_is_shown_with_its_reason_and_is_no_gap():
    homes, topic = talk()
    ann, _, carol = homes
    write(ann, log_of(ann, topic), Kind.TITLE, bodies.Title(title="renamed"), NOW)
    let_in(ann, topic, carol, NOW + 1)
    all_meet(homes)
    log = log_of(carol, topic)
    assert next(row.title for row in carol.store.logs() if row.n == log) == "renamed"
    [missing] = carol.missing(log, 100)
    assert (missing.reason, missing.part, missing.last) == (Reason.BEFORE_JOINING, "body", 2)
    assert carol.lacking(log, 100) == []
    assert ann.missing(log_of(ann, topic), 100) == []


def test_what_was_given_to_the_newcomer_has_no_secret_of_an_earlier_epoch():
    homes, topic = talk()
    ann, _, carol = homes
    earlier = {epoch.secret for epoch in ann.log(log_of(ann, topic)).keys.whole}
    let_in(ann, topic, carol)
    all_meet(homes)
    keys = carol.log(log_of(carol, topic)).keys
    assert earlier.isdisjoint(epoch.secret for epoch in keys.epochs)
    assert {epoch.outline for epoch in keys.outlines} == {
        epoch.outline for epoch in ann.log(log_of(ann, topic)).keys.whole if epoch.secret in earlier
    }
    for outline in keys.outlines:
        assert outline.secret == b""
        assert not outline.opens(outlined=False)


def test_the_history_can_be_granted_later_and_then_everything_is_read():
    homes, topic = talk()
    ann, _, carol = homes
    let_in(ann, topic, carol)
    all_meet(homes)
    let_in(ann, topic, carol, LATER, history=True)
    all_meet(homes, LATER)
    settle(carol)
    assert read_by(carol, topic) == {"before one", "before two"}
    assert closed_rows(carol, topic) == []
    assert carol.log(log_of(carol, topic)).keys.outlines == []
    assert carol.missing(log_of(carol, topic), 10) == []
    assert texts_of(carol, log_of(carol, topic)) == texts_of(ann, log_of(ann, topic))
    assert_agree(homes, topic)


def test_a_newcomer_passes_on_to_a_third_only_what_it_has_and_grants_no_history():
    homes, topic = talk(4)
    ann, bob, dan, carol = homes
    expel(ann, topic, dan)
    all_meet(homes, LATER)
    let_in(ann, topic, carol, LATER + 1)
    all_meet([ann, bob, carol], LATER + 1)
    ruling.set_role(ann, log_of(ann, topic), person(ann, carol), Role.ADMIN, LATER + 2)
    all_meet([ann, bob, carol], LATER + 2)
    log = log_of(carol, topic)
    with pytest.raises(UserError, match="you cannot read yourself"):
        ruling.add(carol, log, [person(carol, dan)], LATER + 3, history=True)
    # A program of its own says so all the same: of its own person, and of the third.
    for about in (carol, dan):
        relies = person(carol, about)
        body = bodies.Member(person=relies.topic, role="admin", relies=relies.newest.hex(), history=True)
        carol.rule(log, [Draft(Kind.MEMBER, body, LATER + 4)], LATER + 4)
    carol.begin_epoch(log, LATER + 4, fresh=True)
    session(carol, dan, LATER + 5)
    all_meet(homes, LATER + 6)
    say(carol, topic, "after", LATER + 7)
    all_meet(homes, LATER + 7)
    assert read_by(carol, topic) == {"after"}
    assert "after" in read_by(dan, topic)
    assert not membership_of(ann, topic).has_history(ann.people.stand_in(carol.device_id))
    assert not membership_of(ann, topic).has_history(ann.people.stand_in(dan.device_id))
    assert_agree([ann, bob, carol], topic)


def test_a_newcomer_gets_nothing_by_stating_an_earlier_epoch_itself():
    """A commitment can be read by all: who repeats it has not known the secret."""
    homes, topic = talk()
    ann, _, carol = homes
    earlier = ann.log(log_of(ann, topic)).keys.whole
    let_in(ann, topic, carol)
    all_meet(homes)
    log = log_of(carol, topic)
    for row in carol.store.timeline(TimelineQuery(log=log, limit=100, kinds=frozenset({Kind.KEY}))):
        assert row.body is not None
        body = bodies.decode(Kind.KEY, row.body)
        assert isinstance(body, bodies.Key)
        again = bodies.Key(epoch=body.epoch, commitment=body.commitment, wraps=())
        carol.rule(log, [Draft(Kind.KEY, again, LATER)], LATER)
    all_meet(homes, LATER)
    keys = carol.log(log).keys
    assert {epoch.secret for epoch in earlier}.isdisjoint(epoch.secret for epoch in keys.epochs)


def test_a_second_device_of_a_newcomer_has_what_the_first_has_and_no_more():
    homes, topic = talk()
    ann, bob, carol = homes
    let_in(ann, topic, carol)
    say(ann, topic, "welcome", NOW + 1)
    all_meet(homes)
    phone = home(3)
    trust(carol, 2, phone, 3, LATER)
    meet(carol, phone, LATER)
    all_meet([ann, bob, carol], LATER)
    for other in (ann, bob, carol, ann):
        session(other, phone, LATER)
    meet(carol, phone, LATER)
    assert has(phone, topic)
    say(bob, topic, "later", LATER + 1)
    all_meet([ann, bob, carol], LATER + 1)
    session(ann, phone, LATER + 1)
    assert read_by(phone, topic) == read_by(carol, topic) == {"welcome", "later"}
    ruling.add(ann, log_of(ann, topic), [person(ann, carol)], LATER + 2, history=True)
    all_meet([ann, bob, carol], LATER + 2)
    meet(carol, phone, LATER + 3)
    settle(phone)
    assert read_by(phone, topic) == {"before one", "before two", "welcome", "later"}


def test_a_device_that_was_a_person_of_its_own_is_granted_all_that_its_new_person_has():
    homes, topic = talk()
    _, bob, carol = homes
    # Bob knows Carol as another person; what he gives her first, she has not said yes to him yet.
    trust(bob, 1, carol, 2, NOW)
    meet(bob, carol, NOW + 1)
    all_meet(homes, NOW + 2)
    assert read_by(carol, topic) == {"before one", "before two"}
    assert closed_rows(carol, topic) == []
    assert_agree(homes, topic)


def test_who_was_removed_and_comes_back_without_the_history_lacks_what_was_said_meanwhile():
    homes, topic = talk()
    ann, bob, carol = homes
    let_in(ann, topic, carol, history=True)
    all_meet(homes)
    expel(ann, topic, carol)
    all_meet(homes, LATER)
    say(bob, topic, "meanwhile", LATER + 1)
    all_meet(homes, LATER + 1)
    let_in(ann, topic, carol, LATER + 2)
    say(ann, topic, "back", LATER + 3)
    all_meet(homes, LATER + 3)
    assert read_by(carol, topic) == {"before one", "before two", "back"}
    assert_agree(homes, topic)


def test_edits_replies_reactions_and_erasures_of_what_is_closed_are_taken():
    homes, topic = talk()
    ann, bob, carol = homes
    one = say(ann, topic, "secret one")
    two = say(ann, topic, "secret two")
    let_in(ann, topic, carol)
    all_meet(homes)
    log = log_of(ann, topic)
    write(ann, log, Kind.EDIT, bodies.Edit(of=one.message.hex(), text="edited since"), NOW + 1)
    write(ann, log, Kind.ERASURE, bodies.Erasure(of=two.message.hex()), NOW + 2)
    all_meet(homes)
    here = log_of(carol, topic)
    said = carol.store.by_mid(here, [MessageId(one.message), MessageId(two.message)])
    assert said[two.message][0].state == BodyState.ERASED
    assert said[one.message][0].state == BodyState.CLOSED
    write(carol, here, Kind.REPLY, bodies.Text(text="what was that?", to=(one.message.hex(),)), NOW + 3)
    write(carol, here, Kind.REACTION, bodies.Reaction(of=one.message.hex(), emoji="?"), NOW + 4)
    all_meet(homes)
    assert "secret one" not in read_by(carol, topic)
    assert texts_of(carol, here)[-1] == texts_of(bob, log_of(bob, topic))[-1] == "what was that?"
    assert_agree(homes, topic)


def test_two_admins_who_let_the_same_person_in_at_once_grant_what_either_grants():
    homes, topic = talk()
    ann, bob, carol = homes
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, NOW)
    all_meet(homes)
    let_in(ann, topic, carol, LATER)
    let_in(bob, topic, carol, LATER, history=True)
    all_meet(homes, LATER)
    settle(carol)
    assert membership_of(ann, topic).has_history(ann.people.stand_in(carol.device_id))
    assert read_by(carol, topic) == {"before one", "before two"}
    assert_agree(homes, topic)


def test_what_was_said_by_one_who_had_not_heard_of_the_newcomer_stays_closed():
    homes, topic = talk()
    ann, bob, carol = homes
    let_in(ann, topic, carol)
    session(ann, carol)
    say(bob, topic, "not heard yet", NOW + 1)
    all_meet(homes)
    say(bob, topic, "heard", NOW + 2)
    all_meet(homes)
    assert read_by(carol, topic) == {"heard"}
    assert_agree(homes, topic)


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_arrival_does_not_matter(seed: int):
    chance = random.Random(seed)
    homes = acquainted(4)
    ann, bob, carol, dan = homes
    topic = conversation(ann, bob)
    all_meet(homes, seed=seed)
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, NOW)
    all_meet(homes, seed=seed)
    said: set[str] = set()
    for step in range(14):
        now = LATER + 10 * step
        who = chance.choice([r for r in homes if has(r, topic)])
        if not who.people.may_write(log_of(who, topic)):
            continue
        match chance.randrange(6):
            case 0 if members(who, topic).get(who.people.subject()) == Role.ADMIN:
                guest = chance.choice([carol, dan])
                wanted = chance.random() < 0.5
                own = membership_of(who, topic).has_history(who.people.subject())
                let_in(who, topic, guest, now, history=wanted and own)
            case 1 if who is ann and carol.people.subject() in members(ann, topic):
                expel(ann, topic, carol, now)
            case 2:
                all_meet(homes, now, seed=chance.randrange(1000))
            case _:
                words = f"{step} by {homes.index(who)}"
                said.add(words)
                say(who, topic, words, now)
        for _ in range(2):
            one, other = chance.sample(homes, 2)
            session(one, other, now, chance)
    for _ in range(2):
        all_meet(homes, LATER + 1_000, seed=seed)
    for replica in homes:
        settle(replica)
    inside = [r for r in homes if has(r, topic) and r.people.role(log_of(r, topic)) != Role.NONE]
    assert ann in inside
    assert_agree(inside, topic)
    assert read_by(ann, topic) == said
    for replica in inside:
        if membership_of(ann, topic).has_history(replica.people.subject()):
            assert read_by(replica, topic) == said
            assert closed_rows(replica, topic) == []
        else:
            assert len(closed_rows(replica, topic)) + len(read_by(replica, topic)) == len(said)


def test_a_closed_body_says_so_and_does_not_open():
    homes, topic = talk()
    ann, _, carol = homes
    let_in(ann, topic, carol)
    all_meet(homes)
    log = log_of(carol, topic)
    row = carol.store.scan_closed(log, 0, 1)[0]
    keys = carol.log(log).keys
    fields = entry.parse_outer(row.outer)
    epoch = keys.epoch_of(fields.salt, fields.tag)
    assert epoch is not None
    assert row.body is not None
    with pytest.raises(InvalidInput, match="only the outline"):
        entry.open_body(epoch, row.outer, row.body)


def test_another_process_that_knew_the_outline_alone_opens_what_comes_after_the_secret():
    homes, topic = talk()
    ann, bob, carol = homes
    let_in(ann, topic, carol)
    session(ann, carol)
    late = say(bob, topic, "not heard yet", NOW + 1)
    log = log_of(carol, topic)
    beside = replica_of(2, carol.store)
    assert beside.log(log).keys.outlines
    let_in(ann, topic, carol, NOW + 2, history=True)
    session(ann, carol, NOW + 2)
    assert beside.log(log).keys.outlines, "nobody told it"
    sealed = sealed_of(bob.log(log_of(bob, topic)), late)
    assert beside.receive(log, [sealed], NOW + 3).stored == 1
    assert carol.store.find(log, [late.id])[late.id].state == BodyState.OPENED
    assert beside.log(log).keys.outlines == []
    assert findings_in(beside) == []
