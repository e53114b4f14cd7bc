"""Who belongs to a conversation, and what of it they read and write, in whatever order that is heard of."""

from __future__ import annotations

import random

import pytest

from mlog import limits
from mlog.errors import InvalidInput, UserError
from mlog.log import belonging, bodies, crypto, entry, grants, ruling
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.crypto import LogKeys
from mlog.log.fold import Draft
from mlog.log.ids import Incarnation, Topic
from mlog.log.replica import Replica
from mlog.log.store import BodyState, LogKind, Reason, TimelineQuery
from tests.log.conversing import (
    LATER,
    accept,
    acquainted,
    all_meet,
    conversation,
    expel,
    log_of,
    members,
    membership_of,
    met_by_a_conversation,
    person,
    say,
    session,
    settle,
    transfer,
)
from tests.log.persons import (
    BINDING,
    copy,
    findings_in,
    grant,
    home,
    meet,
    person_of,
    sealed_of,
    texts_of,
    trust,
    write,
)
from tests.log.support import START_MS, device_keys, text

ADMIN, MEMBER = Role.ADMIN, Role.MEMBER


def shown(replica: Replica, topic: bytes) -> list[str | None]:
    return texts_of(replica, log_of(replica, topic))


def talk(count: int, now: int = START_MS + 350) -> tuple[list[Replica], bytes]:
    """So many persons in one conversation, that the first one began, and all heard of."""
    homes = acquainted(count)
    topic = conversation(*homes)
    all_meet(homes, now)
    return homes, topic


# -- contacts --------------------------------------------------------------------------------


def with_a_phone() -> tuple[Replica, Replica, Replica, bytes]:
    """Ann and Bob in a conversation of the topic; the phone is Bob's second device."""
    ann, bob, phone = home(0), home(1), home(2)
    accept(ann, bob)
    trust(bob, 1, phone, 2)
    meet(bob, phone)
    session(ann, bob)
    topic = conversation(ann, bob)
    all_meet([ann, bob])
    return ann, bob, phone, topic


def test_contacts_have_each_others_person_logs_and_nothing_else():
    ann, bob = acquainted(2)
    topics = {person_of(replica).topic for replica in (ann, bob)}
    for replica, other in ((ann, bob), (bob, ann)):
        assert {p.topic for p in replica.people.persons()} == topics
        assert replica.people.current() == person_of(replica)
        theirs = {state.keys.topic for state in other.logs() if state.kind != LogKind.PERSON}
        assert not theirs & {state.keys.topic for state in replica.logs()}
        assert findings_in(replica) == []
        (peer,) = replica.store.peers()
        assert (peer.device, peer.own) == (other.device_id, False)


def test_a_device_that_a_contact_pairs_is_accepted_without_doing_anything():
    ann, bob, phone = home(0), home(1), home(2)
    accept(ann, bob)
    trust(bob, 1, phone, 2)
    meet(bob, phone)
    session(ann, bob)
    assert {p.device for p in ann.store.peers() if not p.own} == {bob.device_id, phone.device_id}
    session(phone, bob)
    assert {p.device for p in phone.store.peers() if not p.own} == {ann.device_id}
    topic = conversation(ann, bob)
    session(ann, phone)
    say(phone, topic, "from the phone")
    session(ann, phone)
    assert shown(ann, topic) == ["from the phone"]


def test_a_contact_that_writes_into_a_person_log_says_nothing_of_the_person():
    """Contacts hold the log's secret: they can seal entries that all replicas store."""
    ann, bob = acquainted(2)
    before = person_of(ann)
    log = before.log
    there = person(bob, ann).log
    peer = device_keys(3)
    admit = bodies.Admit(device=peer.id, name="mine", noise=peer.noise_public, hpke=peer.hpke_public)
    record = bodies.Device(name="x", person="Bob was here", noise=peer.noise_public, hpke=peer.hpke_public)
    state = bob.log(there)
    keys = bob.log(person_of(bob).log).keys
    drafts = [
        Draft(Kind.KEY, bodies.Key(epoch=9, commitment="0" * 64, wraps=(), log="person"), 0),
        Draft(Kind.DEVICE, record, 0),
        Draft(Kind.ADMIT, admit, 0),
        Draft(Kind.REVOKE, bodies.Revoke(device=ann.device_id), 0),
    ]
    assert keys is not state.keys
    bob.appender.append(state, Incarnation(b"forgery!"), drafts, START_MS, state.keys.current)
    copy(bob, ann, LATER)
    assert len(ann.store.chains(log)) == 2
    after = person_of(ann)
    assert (after.founder, after.members, after.revocations) == (before.founder, before.members, {})
    assert after.name == "person 0"
    write(ann, log, Kind.DEVICE, bodies.Device(name="d", person="me", noise=bytes(32), hpke=bytes(1216)))
    assert findings_in(ann) == []


def test_a_contact_cannot_make_a_device_its_own_nor_revoke_it():
    ann, bob = acquainted(2)
    body = bodies.Admit(
        device=bob.device_id,
        name="stolen",
        noise=bob.device_keys.noise_public,
        hpke=bob.device_keys.hpke_public,
    )
    log = person_of(ann).log
    ann.write(log, [Draft(Kind.ADMIT, body, LATER)], LATER)
    topic = person_of(bob).topic
    session(ann, bob, LATER)
    assert person_of(bob).topic == topic, "Ann is older, and did not take Bob in"
    ann.write(log, [Draft(Kind.REVOKE, bodies.Revoke(device=bob.device_id), LATER)], LATER)
    session(ann, bob, LATER)
    for replica in (ann, bob):
        assert not replica.people.is_revoked(bob.device_id)


# -- conversations of several persons --------------------------------------------------------


def test_who_is_added_reads_all_and_all_read_who_is_added():
    (ann, bob, carol), topic = talk(3)
    say(ann, topic, "hello")
    say(bob, topic, "hi")
    all_meet([ann, bob, carol])
    say(carol, topic, "good morning", START_MS + 500)
    all_meet([ann, bob, carol])
    for replica in (ann, bob, carol):
        assert sorted(filter(None, shown(replica, topic))) == ["good morning", "hello", "hi"]
        assert members(replica, topic) == {
            ann.device_id: ADMIN,
            bob.device_id: MEMBER,
            carol.device_id: MEMBER,
        }
        assert findings_in(replica) == []


def test_members_that_never_met_before_meet_by_the_conversation():
    ann, bob, carol = home(0), home(1), home(2)
    accept(ann, bob)
    accept(ann, carol)
    topic = conversation(ann, bob, carol)
    session(ann, bob)
    session(ann, carol)
    assert {p.device for p in bob.store.peers()} == {ann.device_id, carol.device_id}
    say(bob, topic, "are you there?")
    session(bob, carol)
    assert shown(carol, topic) == ["are you there?"]


def test_a_conversation_of_one_person_is_as_it_was():
    ann, bob = acquainted(2)
    log = log_of(ann, next(s.keys.topic for s in ann.logs(LogKind.CONVERSATION)))
    assert ann.people.membership(log) is None
    assert [m.device for m in ann.people.readers(log) or ()] == [ann.device_id]
    assert log not in ann.people.shared_with(bob.device_id)


def test_nothing_is_written_to_a_conversation_before_its_beginning_is_here():
    # It would begin a chain that knows of no members, and counts for nothing for ever.
    ann, bob = acquainted(2)
    topic = conversation(ann, bob)
    grant(ann, bob, LATER)
    log = log_of(bob, topic)
    with pytest.raises(UserError, match="beginning"):
        ruling.require_writable(bob, log)
    bob.begin_epoch(log, LATER)
    assert not bob.store.chains(log)
    session(ann, bob)
    ruling.require_writable(bob, log)


def test_who_is_no_member_writes_nothing_that_counts():
    (ann, bob, carol), topic = talk(3)
    dan = home(3)
    accept(ann, dan)
    # Dan has all secrets, and was never let in.
    (log,) = dan.add_logs([(LogKind.CONVERSATION, ann.log(log_of(ann, topic)).keys)])
    copy(ann, dan, LATER)
    dan.appender.append(
        dan.log(log),
        dan.incarnation,
        [Draft(Kind.MESSAGE, text("let me in"), LATER)],
        LATER,
        ann.log(log_of(ann, topic)).keys.current,
    )
    copy(dan, ann, LATER)
    assert shown(ann, topic) == []
    query = TimelineQuery(log=log_of(ann, topic), limit=9, hidden=True)
    assert [row.kind for row in ann.store.timeline(query)] == [Kind.MESSAGE]
    all_meet([ann, bob, carol])
    assert shown(bob, topic) == []
    assert findings_in(ann) == []


def test_only_an_admin_adds_and_removes():
    (ann, bob, carol), topic = talk(3)
    log = log_of(bob, topic)
    with pytest.raises(UserError, match="only an admin of this conversation can add anybody: ask person 0"):
        ruling.add(bob, log, [person(bob, carol)], LATER)
    with pytest.raises(UserError):
        expel(bob, topic, carol)
    # Whatever its program says: such a ruling does not stand.
    body = bodies.Member(person=person(bob, ann).topic, role="none")
    bob.rule(log, [Draft(Kind.MEMBER, body, LATER)], LATER)
    all_meet([ann, bob, carol], LATER)
    for replica in (ann, bob, carol):
        assert len(members(replica, topic)) == 3
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, LATER)
    all_meet([ann, bob, carol], LATER)
    expel(bob, topic, carol)
    all_meet([ann, bob, carol], LATER)
    for replica in (ann, bob):
        assert members(replica, topic) == {ann.device_id: ADMIN, bob.device_id: ADMIN}


def test_a_conversation_keeps_an_admin():
    (ann, bob), topic = talk(2)
    log = log_of(ann, topic)
    with pytest.raises(UserError, match="admin"):
        ruling.leave(ann, log, LATER)
    with pytest.raises(UserError, match="admin"):
        ruling.set_role(ann, log, person(ann, ann), Role.MEMBER, LATER)
    ruling.set_role(ann, log, person(ann, bob), Role.ADMIN, LATER)
    ruling.leave(ann, log, LATER)
    with pytest.raises(UserError, match="not in this conversation"):
        ruling.require_writable(ann, log)


def test_who_leaves_stays_in_what_was_said_and_out_of_the_rest():
    (ann, bob, carol), topic = talk(3)
    say(bob, topic, "bye")
    ruling.leave(bob, log_of(bob, topic), LATER)
    session(bob, carol, LATER)
    assert bob.device_id not in members(carol, topic), "who leaves still says so itself"
    all_meet([ann, bob, carol], LATER)
    say(ann, topic, "without Bob", LATER)
    all_meet([ann, bob, carol], LATER)
    for replica in (ann, carol):
        assert bob.device_id not in members(replica, topic)
        assert shown(replica, topic) == ["bye", "without Bob"]
        assert findings_in(replica) == []
    assert shown(bob, topic) == ["bye"]


# -- removal ---------------------------------------------------------------------------------


def test_the_removed_opens_nothing_newer_with_its_whole_store_and_keys():
    (ann, bob, carol), topic = talk(3)
    say(carol, topic, "before")
    all_meet([ann, bob, carol])
    expel(ann, topic, carol)
    session(ann, bob, LATER)
    secret = say(bob, topic, "of her", LATER)
    session(ann, bob, LATER)
    all_meet([ann, bob, carol], LATER)
    log = log_of(carol, topic)
    assert not carol.store.find(log, [secret.id]), "no session carries it to her"
    # All sealed bytes that the others have, by whatever way.
    copy(ann, carol, LATER)
    copy(bob, carol, LATER)
    found = carol.store.find(log, [secret.id])[secret.id]
    assert found.chain == 0
    for state in carol.logs():
        for epoch in state.keys.epochs:
            opened = LogKeys(carol.log(log).keys.secret)
            opened.add_epoch(epoch)
            with pytest.raises(InvalidInput):
                entry.open_header(opened, found.outer)
    for replica in (ann, bob):
        assert grants.grant_for(replica, carol.device_id, (), BINDING) is not None, "person logs"
        assert log_of(replica, topic) not in replica.people.granted_to(carol.device_id)


def test_what_the_removed_wrote_later_counts_for_nothing_whatever_its_date():
    (ann, bob, carol), topic = talk(3)
    say(carol, topic, "before")
    all_meet([ann, bob, carol])
    expel(ann, topic, carol)
    say(carol, topic, "after", LATER + 1)
    say(carol, topic, "with an old date", START_MS)
    carol.appender.incarnation = Incarnation(b"afresh!!")
    say(carol, topic, "from a new chain", START_MS)
    for seed, replica in enumerate((ann, bob)):
        copy(carol, replica, LATER, random.Random(seed))
        session(ann, bob, LATER)
    for replica in (ann, bob):
        assert shown(replica, topic) == ["before"]
        assert findings_in(replica) == []


def test_who_was_removed_hears_so_when_it_is_added_again_and_goes_on_in_a_new_chain():
    (ann, bob, carol), topic = talk(3)
    say(carol, topic, "one")
    all_meet([ann, bob, carol])
    expel(ann, topic, carol)
    say(carol, topic, "into the void", LATER)
    session(ann, bob, LATER)
    say(ann, topic, "meanwhile", LATER)
    ruling.add(ann, log_of(ann, topic), [person(ann, carol)], LATER + 1)
    all_meet([ann, bob, carol], LATER + 2)
    say(carol, topic, "again", LATER + 3)
    say(carol, topic, "and again", LATER + 4)
    all_meet([ann, bob, carol], LATER + 5)
    for replica in (ann, bob, carol):
        assert shown(replica, topic) == ["one", "meanwhile", "again", "and again"]
        assert findings_in(replica) == []
    chains = carol.store.chains(log_of(carol, topic))
    assert sum(chain.device == carol.device_id for chain in chains) == 2


@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_lost_and_nobody_reads_on_where_one_is_added_and_one_removed_at_the_same_time(seed: int):
    homes = acquainted(4)
    ann, bob, carol, dan = homes
    topic = conversation(ann, bob, carol)
    all_meet([ann, bob, carol])
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, LATER)
    all_meet([ann, bob, carol], LATER)
    # Ann adds Dan, Bob removes Carol, and neither knows of the other's.
    ruling.add(ann, log_of(ann, topic), [person(ann, dan)], LATER)
    say(ann, topic, "welcome Dan", LATER)
    expel(bob, topic, carol)
    say(bob, topic, "without Carol", LATER)
    all_meet(homes, LATER, seed)
    after = {r: say(r, topic, f"from {n}", LATER + 1).id for n, r in enumerate((ann, bob, dan))}
    all_meet(homes, LATER + 2, seed)
    for replica in (ann, bob, dan):
        assert set(shown(replica, topic)) == {"welcome Dan", "without Carol", "from 0", "from 1", "from 2"}
        assert carol.device_id not in members(replica, topic)
        assert dan.device_id in members(replica, topic)
        assert findings_in(replica) == []
    for replica in (ann, bob, dan):
        copy(replica, carol, LATER)
    found = carol.store.find(log_of(carol, topic), list(after.values()))
    assert all(row.chain == 0 for row in found.values())


def test_a_revoked_device_of_a_member_reads_nothing_on():
    ann, bob, phone, topic = with_a_phone()
    session(bob, phone)
    say(phone, topic, "mine")
    session(bob, phone)
    belonging.revoke(bob, phone.device_id, LATER)
    say(phone, topic, "no more mine", LATER)
    session(ann, bob, LATER)
    copy(phone, ann, LATER)
    said = say(ann, topic, "of the phone", LATER + 1)
    copy(ann, phone, LATER + 1)
    assert phone.store.find(log_of(phone, topic), [said.id])[said.id].chain == 0
    assert shown(ann, topic) == ["mine", "of the phone"]
    assert phone.device_id not in {peer.device for peer in ann.store.peers()}


def test_who_hears_of_a_revocation_writes_on_under_an_epoch_whose_author_knew_of_it():
    # Ann's epoch leaves Bob's phone out, since she removed Bob; for whom her word does not count, the phone
    # belongs to the conversation, and may be given it until the revocation is heard of.
    ann, bob, phone, topic = with_a_phone()
    session(bob, phone)
    expel(ann, topic, bob)
    say(ann, topic, "without Bob", LATER)
    before = ann.log(log_of(ann, topic)).keys.current
    belonging.revoke(bob, phone.device_id, LATER + 1)
    session(ann, bob, LATER + 2)
    said = say(ann, topic, "without the phone", LATER + 3)
    fields = entry.parse_outer(said.outer)
    assert ann.log(log_of(ann, topic)).keys.epoch_of(fields.salt, fields.tag) != before
    again = say(ann, topic, "under the same", LATER + 4)
    assert again.seq == said.seq + 1, "it begins one epoch, not one for each message"


# -- edits and erasure -----------------------------------------------------------------------


def test_an_epoch_is_not_granted_to_whom_it_leaves_out_before_the_reason_is_here():
    ann, phone, bob = home(0), home(1), home(2)
    trust(ann, 0, phone, 1)
    meet(ann, phone)
    accept(ann, bob)
    topic = conversation(ann, bob)
    all_meet([ann, phone, bob])
    belonging.revoke(ann, phone.device_id, LATER)
    here, there = log_of(ann, topic), log_of(bob, topic)
    # Bob is given the conversation, and not yet the log of Ann's devices.
    rows = ann.store.arrivals(here, 0, 1000)
    bob.receive(there, [sealed_of(ann.log(here), row) for row in rows], LATER)
    assert len(bob.log(there).keys.epochs) == len(ann.log(here).keys.epochs)
    assert grants.withheld(bob, there, phone.device_id) == 1
    sealed = grants.grant_for(bob, phone.device_id, (), BINDING)
    assert sealed is not None
    grants.accept_grant(phone, bob.device_id, sealed, BINDING, LATER)
    theirs = {epoch.secret for epoch in phone.log(log_of(phone, topic)).keys.epochs}
    assert ann.log(here).keys.current.secret not in theirs
    session(ann, bob)
    assert not grants.grant_for(bob, phone.device_id, (), BINDING)


def test_who_was_let_in_by_a_removed_person_is_granted_what_that_one_had_not_heard_of():
    (ann, bob), topic = talk(2)
    dan = home(2)
    accept(bob, dan)
    accept(ann, dan)
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), ADMIN, START_MS + 360)
    session(ann, bob)
    expel(ann, topic, bob)
    ruling.add(bob, log_of(bob, topic), [person(bob, dan)], LATER)
    assert grant(bob, dan, LATER)
    assert shown(dan, topic) == []
    ruling.add(ann, log_of(ann, topic), [person(ann, dan)], LATER)
    session(ann, dan, LATER)
    say(ann, topic, "for two", LATER)
    session(ann, dan, LATER)
    assert shown(dan, topic) == ["for two"]
    assert not dan.store.scan_unopened(log_of(dan, topic), 0, 1)


def test_an_epoch_of_another_device_of_the_person_is_granted_also_where_something_before_it_is_not_here():
    (ann, bob), topic = talk(2)
    here, there = log_of(ann, topic), log_of(bob, topic)
    kept_back = say(bob, topic, "never comes", LATER)
    bob.begin_epoch(there, LATER, fresh=True)
    say(bob, topic, "late", LATER)
    rows = [row for row in bob.store.arrivals(there, 0, 1000) if row.id != kept_back.id]
    ann.receive(here, [sealed_of(bob.log(there), row) for row in rows], LATER)
    settle(ann)
    phone = home(2)
    trust(ann, 0, phone, 2)
    all_meet([ann, phone])
    # Bob wrapped it for Ann, so he knew nothing by which her phone must not have it.
    assert shown(phone, topic) == shown(ann, topic) == ["late"]


def test_an_epoch_is_granted_also_where_its_key_entry_counts_for_nothing():
    (ann, bob), topic = talk(2)
    here, there = log_of(ann, topic), log_of(bob, topic)
    expel(ann, topic, bob)
    # Bob has not heard of it, and begins an epoch behind his cut.
    bob.begin_epoch(there, LATER, fresh=True)
    say(bob, topic, "late", LATER)
    rows = bob.store.arrivals(there, 0, 1000)
    ann.receive(here, [sealed_of(bob.log(there), row) for row in rows], LATER)
    settle(ann)
    phone = home(2)
    trust(ann, 0, phone, 2)
    all_meet([ann, phone])
    read = log_of(phone, topic)
    assert "late" not in shown(phone, topic)
    assert all(row.chain for row in phone.store.arrivals(read, 0, 1000)), "all of it can be opened"
    ends = [
        {(c.device, c.incarnation): r.people.ends(n).get(c.n) for c in r.store.chains(n)}
        for r, n in ((ann, here), (phone, read))
    ]
    assert ends[0] == ends[1]


def test_everybody_edits_their_own_and_an_admin_erases_anybodys():
    (ann, bob, carol), topic = talk(3)
    said = say(bob, topic, "frist")
    rude = say(bob, topic, "rude")
    all_meet([ann, bob, carol])

    def change(replica: Replica, kind: Kind, body: bodies.Body) -> None:
        write(replica, log_of(replica, topic), kind, body, START_MS + 500)

    change(carol, Kind.EDIT, bodies.Edit(of=said.message.hex(), text="forged"))
    change(carol, Kind.ERASURE, bodies.Erasure(of=said.message.hex()))
    change(ann, Kind.EDIT, bodies.Edit(of=said.message.hex(), text="forged by an admin"))
    change(bob, Kind.EDIT, bodies.Edit(of=said.message.hex(), text="first"))
    change(ann, Kind.ERASURE, bodies.Erasure(of=rude.message.hex()))
    all_meet([ann, bob, carol])
    for replica in (ann, bob, carol):
        assert shown(replica, topic) == ["first", None]
        assert replica.store.find(log_of(replica, topic), [rude.id])[rude.id].state == BodyState.ERASED
        assert findings_in(replica) == []


def test_an_erasure_counts_that_came_before_what_makes_its_author_an_admin():
    ann, bob, carol = acquainted(3)
    topic = conversation(ann, bob, carol)
    all_meet([ann, bob, carol])
    said = say(carol, topic, "of carol")
    all_meet([ann, bob, carol])
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, LATER)
    session(ann, bob)
    write(bob, log_of(bob, topic), Kind.ERASURE, bodies.Erasure(of=said.message.hex()), LATER)
    here, there = log_of(bob, topic), log_of(carol, topic)
    for row in reversed(bob.store.arrivals(here, 0, 1000)):
        carol.receive(there, [sealed_of(bob.log(here), row)], LATER)
        settle(carol)
    assert carol.store.rows([said.n])[said.n].state == BodyState.ERASED


def test_an_erasure_of_who_was_no_admin_any_more_brings_the_text_back():
    (ann, bob, carol), topic = talk(3)
    ruling.set_role(ann, log_of(ann, topic), person(ann, carol), Role.ADMIN, START_MS + 360)
    said = say(bob, topic, "stays")
    all_meet([ann, bob, carol])
    expel(ann, topic, carol)
    body = bodies.Erasure(of=said.message.hex())
    write(carol, log_of(carol, topic), Kind.ERASURE, body, LATER)
    copy(carol, bob, LATER)
    assert shown(bob, topic) == [None]
    session(ann, bob, LATER)
    log = log_of(bob, topic)
    assert bob.store.find(log, [said.id])[said.id].state == BodyState.NOT_FETCHED
    assert said.id in bob.lacking(log, 10)
    row = ann.store.find(log_of(ann, topic), [said.id])[said.id]
    bob.receive(log, [sealed_of(ann.log(log_of(ann, topic)), row)], LATER)
    assert shown(bob, topic) == ["stays"]
    assert findings_in(bob) == []


# -- beginnings ------------------------------------------------------------------------------


def test_a_member_cannot_claim_to_have_begun_the_conversation():
    (ann, bob, carol), topic = talk(3)
    log = log_of(bob, topic)
    state = bob.log(log)
    key = bodies.Key(epoch=1, commitment="0" * 64, wraps=(), log="conversation", seed=bytes(32))
    oust = bodies.Member(person=person(bob, ann).topic, role="none")
    bob.appender.append(
        state,
        Incarnation(b"usurper!"),
        [Draft(Kind.KEY, key, 0), Draft(Kind.MEMBER, oust, 0)],
        0,
        state.keys.current,
    )
    all_meet([ann, bob, carol], LATER)
    for replica in (ann, carol):
        assert members(replica, topic)[ann.device_id] == ADMIN
        assert membership_of(replica, topic).founder == ann.device_id


def test_the_secret_of_a_log_shows_who_began_it():
    ann, bob = acquainted(2)
    state = next(iter(ann.logs(LogKind.CONVERSATION)))
    rows = ann.store.timeline(TimelineQuery(log=state.n, limit=1, kinds=frozenset({Kind.KEY}), hidden=True))
    body = bodies.decode(Kind.KEY, rows[0].body or b"")
    assert isinstance(body, bodies.Key)
    assert crypto.founding_secret(ann.device_id, body.seed, "conversation") == state.keys.secret
    for device, seed, kind in (
        (bob.device_id, body.seed, "conversation"),
        (ann.device_id, bytes(32), "conversation"),
        (ann.device_id, body.seed, "person"),
    ):
        assert crypto.founding_secret(device, seed, kind) != state.keys.secret


def test_a_conversation_without_proof_of_its_beginning_lets_nobody_in():
    ann, bob = acquainted(2)
    keys = LogKeys(bytes([7]) * 32)
    (log,) = ann.add_logs([(LogKind.CONVERSATION, keys)])
    state = ann.log(log)
    ann._begin_epoch(state, person_of(ann).members, START_MS, "conversation")
    with pytest.raises(UserError, match="older mlog"):
        ruling.add(ann, log, [person(ann, bob)], START_MS)


def test_who_floods_a_conversation_with_rulings_keeps_nobody_elses_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "STORE_ROWS_MAX", 20)
    (ann, bob, carol), topic = talk(3)
    log = log_of(bob, topic)
    flood = [Draft(Kind.MEMBER, bodies.Member(person=Topic(bytes(16)), role="admin"), 0)] * 20
    for n in range(3):
        bob.appender.append(bob.log(log), Incarnation(b"flood  %d" % n), flood, 0, bob.log(log).keys.current)
    copy(bob, ann, LATER)
    expel(ann, topic, carol)
    session(ann, bob, LATER)
    for replica in (ann, bob):
        assert members(replica, topic) == {ann.device_id: ADMIN, bob.device_id: MEMBER}


# -- nothing can be moved --------------------------------------------------------------------


def test_a_grant_of_a_conversation_from_who_is_no_contact_is_not_taken():
    ann, bob, carol = home(0), home(1), home(2)
    accept(ann, bob)
    accept(ann, carol)
    conversation(ann, bob, carol)
    session(ann, bob)
    session(ann, carol)
    other = conversation(bob, title="unasked")
    state = bob.log(log_of(bob, other))
    before = len(carol.store.logs())
    granted = [
        grants._Granted("conversation", state.keys.topic, state.keys.secret, ()),
        grants._Granted("private", LogKeys(bytes(32)).topic, bytes(32), ()),
    ]
    sealed = grants._seal_grant(bob, carol.device_id, carol.device_keys.hpke_public, granted, BINDING)
    assert sealed is not None
    assert grants.accept_grant(carol, bob.device_id, sealed, BINDING, LATER) == []
    assert len(carol.store.logs()) == before


def _gives_an_epoch(carol: Replica, bob: Replica, topic: bytes) -> list[int]:
    """What Bob takes of a grant of Carol with an epoch that she made up: no epoch, in any case."""
    state = carol.log(log_of(carol, topic))
    epochs = ((2**50, bytes([9]) * 32),)
    granted = [grants._Granted("conversation", state.keys.topic, state.keys.secret, epochs)]
    sealed = grants._seal_grant(carol, bob.device_id, bob.device_keys.hpke_public, granted, BINDING)
    assert sealed is not None
    before = len(bob.log(log_of(bob, topic)).keys.epochs)
    taken = grants.accept_grant(bob, carol.device_id, sealed, BINDING, LATER)
    assert len(bob.log(log_of(bob, topic)).keys.epochs) == before
    return taken


def test_epochs_of_who_was_removed_are_not_taken():
    (ann, bob, carol), topic = talk(3)
    expel(ann, topic, carol)
    session(ann, bob, LATER)
    assert _gives_an_epoch(carol, bob, topic) == []


def test_secrets_of_who_was_removed_and_has_not_heard_are_no_offence():
    # Else the session would end, and begin again, for ever: the removed is let in to be told.
    ann, bob, carol, topic = met_by_a_conversation()
    expel(ann, topic, carol)
    session(ann, bob, LATER)
    assert not bob.people.shared_with(carol.device_id)
    assert _gives_an_epoch(carol, bob, topic) == []


def test_an_epoch_that_only_a_member_claims_is_not_written_under():
    (ann, bob, carol), topic = talk(3)
    state = carol.log(log_of(carol, topic))
    granted = [grants._Granted("conversation", state.keys.topic, state.keys.secret, ((99, bytes([9]) * 32),))]
    sealed = grants._seal_grant(carol, bob.device_id, bob.device_keys.hpke_public, granted, BINDING)
    assert sealed is not None
    grants.accept_grant(bob, carol.device_id, sealed, BINDING, LATER)
    row = say(bob, topic, "hello")
    fields = entry.parse_outer(row.outer)
    epoch = bob.log(log_of(bob, topic)).keys.epoch_of(fields.salt, fields.tag)
    assert epoch is not None
    assert epoch.number < 99
    assert transfer(bob, ann, LATER) == 1


# -- what waits ------------------------------------------------------------------------------


def test_what_relies_on_a_person_log_that_is_not_here_is_listed_with_its_reason():
    (ann, bob, carol), topic = talk(3)
    say(carol, topic, "hello")
    all_meet([ann, bob, carol])
    late = home(4)
    keys = LogKeys(ann.log(log_of(ann, topic)).keys.secret)
    for epoch in ann.log(log_of(ann, topic)).keys.epochs[1:]:
        keys.add_epoch(epoch)
    (log,) = late.add_logs([(LogKind.CONVERSATION, keys)])
    copy(ann, late, LATER)
    found = {(m.part, m.reason) for m in late.missing(log, 100)}
    assert found == {("chain", Reason.WAITING)}
    assert texts_of(late, log) == [], "nobody knows yet whose words these are"
    late.add_logs([(LogKind.PERSON, ann.log(person_of(ann).log).keys)])
    copy(ann, late, LATER)
    found = {(m.part, m.reason) for m in late.missing(log, 100)}
    assert found == {("entry", Reason.WAITING), ("chain", Reason.WAITING)}
    for other in (bob, carol):
        late.add_logs([(LogKind.PERSON, other.log(person_of(other).log).keys)])
    for giver in (ann, bob, carol):
        copy(giver, late, LATER)
    assert texts_of(late, log) == ["hello"]
    assert late.missing(log, 100) == []
    assert findings_in(late) == []


def test_a_revocation_that_relies_on_one_that_is_not_here_is_listed():
    ann, bob, phone, topic = with_a_phone()
    belonging.revoke(bob, phone.device_id, LATER)
    state, log = bob.log(log_of(bob, topic)), log_of(ann, topic)
    for row in bob.store.arrivals(state.n, 0, 1000):
        ann.receive(log, [sealed_of(state, row)], LATER)
    assert next(m.detail for m in ann.missing(log, 100)).startswith("the revocation in a person's log")
    session(ann, bob, LATER)
    assert ann.missing(log, 100) == []


def test_nobody_writes_to_a_conversation_of_others_before_it_is_here_who_belongs_to_it():
    # Key entries come first: what was begun then would stand in a chain of nobody, and be for itself alone.
    ann, bob = acquainted(2)
    topic = conversation(ann, bob)
    ours = ann.log(log_of(ann, topic))
    bob.add_logs([(LogKind.CONVERSATION, LogKeys(ours.keys.secret))])
    log = log_of(bob, topic)
    bob.learn_epochs(log, ours.keys.epochs[1:])
    rows = ann.store.arrivals(ours.n, 0, 1000)
    for now in (True, False):
        bob.receive(log, [sealed_of(ours, row) for row in rows if (row.kind == Kind.KEY) == now], START_MS)
        assert bob.people.may_write(log) != now


def test_who_has_key_entries_alone_of_a_device_that_it_revoked_is_given_the_rest_by_a_contact():
    # They come first: the desktop had it all and told its phone only those, before it was revoked.
    ann, desk, phone = home(0), home(1), home(2)
    trust(desk, 1, phone, 2)
    meet(desk, phone)
    accept(ann, desk)
    meet(desk, phone)
    session(ann, phone)
    topic = conversation(ann, desk)
    session(ann, desk)
    there = desk.log(log_of(desk, topic))
    say(desk, topic, "of the desktop")
    desk.begin_epoch(there.n, LATER, fresh=True)
    (log,) = phone.add_logs([(LogKind.CONVERSATION, LogKeys(there.keys.secret))])
    phone.learn_epochs(log, there.keys.epochs[1:])
    keys = [row for row in desk.store.arrivals(there.n, 0, 1000) if row.kind == Kind.KEY]
    phone.receive(log, [sealed_of(there, row) for row in keys], LATER)
    belonging.revoke(phone, desk.device_id, LATER + 1)
    session(ann, phone, LATER + 2)
    assert phone.people.membership(log) is not None
    assert phone.people.may_write(log)
