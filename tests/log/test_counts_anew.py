"""What counts is found out piece by piece: what was folded by less than is known now is folded anew."""

from __future__ import annotations

import copy as copying

import pytest

from mlog.log import belonging, bodies, ruling
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.ids import EntryId
from mlog.log.memory import MemoryStore
from mlog.log.replica import Replica
from mlog.log.store import LogKind, Reason
from tests.log.conversing import (
    LATER,
    accept,
    acquainted,
    all_meet,
    conversation,
    log_of,
    members,
    person,
    say,
    session,
    settle,
)
from tests.log.persons import (
    copy,
    findings_in,
    home,
    meet,
    person_of,
    replica_of,
    sealed_of,
    texts_of,
    trust,
    write,
)
from tests.log.support import START_MS


def give(giver: Replica, taker: Replica, topic: bytes, *ids: EntryId) -> None:
    """Give these entries at once."""
    state = giver.log(log_of(giver, topic))
    rows = giver.store.find(state.n, ids)
    taker.receive(log_of(taker, topic), [sealed_of(state, rows[id_]) for id_ in ids], LATER)
    settle(taker)


def in_a_conversation() -> tuple[tuple[Replica, Replica, Replica, Replica], bytes]:
    """Ann with a phone, Bob and Carol, who belong to one conversation, of which all know; and its topic."""
    ann, phone, bob, carol = home(0), home(1), home(2), home(3)
    trust(ann, 0, phone, 1)
    meet(ann, phone)
    accept(ann, bob)
    accept(ann, carol)
    topic = conversation(ann, bob, carol)
    all_meet([ann, phone, bob, carol])
    return (ann, phone, bob, carol), topic


def test_a_chain_counts_whose_beginning_comes_together_with_the_ruling_that_it_names():
    ann, bob, carol = acquainted(3)
    topic = conversation(ann, bob, carol)
    all_meet([ann, bob, carol])
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, LATER)
    session(ann, bob)
    first, second = say(bob, topic, "first", LATER), say(bob, topic, "second", LATER)
    rows = bob.store.arrivals(log_of(bob, topic), 0, 1000)
    named = max((row for row in rows if row.kind == Kind.MEMBER), key=lambda row: row.seq)
    # Bob is a member, so this counts; by the ruling, which is not yet taken into account when the other
    # two are folded, all of it counts in the end.
    give(bob, carol, topic, second.id)
    give(bob, carol, topic, named.id, first.id)
    assert texts_of(carol, log_of(carol, topic)) == ["first", "second"]
    assert findings_in(carol) == []


def test_what_a_stranger_wrote_says_nothing_where_all_comes_at_once():
    ann, bob, carol = acquainted(3)
    topic = conversation(ann, bob)
    all_meet([ann, bob, carol])
    say(ann, topic, "of ann", LATER)
    keys = ann.log(log_of(ann, topic)).keys
    carol.add_logs([(LogKind.CONVERSATION, keys)])
    carol.learn_epochs(log_of(carol, topic), keys.epochs[1:])
    copy(ann, carol, LATER)
    # Carol writes without a right to.
    say(carol, topic, "of carol", LATER)
    rows = carol.store.arrivals(log_of(carol, topic), 0, 1000)
    late = home(3)
    late.add_logs([(LogKind.PERSON, one.log(person_of(one).log).keys) for one in (ann, bob, carol)])
    for one in (ann, bob, carol):
        copy(one, late, LATER)
    late.add_logs([(LogKind.CONVERSATION, keys)])
    late.learn_epochs(log_of(late, topic), keys.epochs[1:], counts=True)
    give(carol, late, topic, *(row.id for row in rows))
    assert texts_of(late, log_of(late, topic)) == ["of ann"]
    assert findings_in(late) == []


def test_a_message_that_comes_back_reads_as_its_edit():
    ann, bob, phone, carol = home(0), home(1), home(2), home(3)
    trust(bob, 1, phone, 2)
    meet(bob, phone)
    accept(ann, bob)
    accept(ann, carol)
    topic = conversation(ann, bob, carol)
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, START_MS + 350)
    said = say(ann, topic, "frist")
    edit = bodies.Edit(of=said.message.hex(), text="first")
    edited = write(ann, log_of(ann, topic), Kind.EDIT, edit, START_MS + 401)
    all_meet([ann, bob, phone, carol])
    erasure = bodies.Erasure(of=said.message.hex())
    write(phone, log_of(phone, topic), Kind.ERASURE, erasure, START_MS + 500)
    copy(phone, carol, START_MS + 501)
    assert texts_of(carol, log_of(carol, topic)) == [None]
    # Of a phone that was revoked before it counts no more: both texts are wanted again, and fetched.
    belonging.revoke(bob, phone.device_id, START_MS + 502)
    session(bob, carol, LATER)
    assert findings_in(carol) == []
    give(ann, carol, topic, said.id, edited.id)
    assert texts_of(carol, log_of(carol, topic)) == ["first"]
    assert findings_in(carol) == []


@pytest.mark.parametrize("person_log_first", [False, True])
def test_an_erasure_counts_no_more_whose_author_a_revoked_device_made_an_admin(person_log_first: bool):
    (ann, phone, bob, carol), topic = in_a_conversation()
    say(bob, topic, "of bob", START_MS + 400)
    said = say(carol, topic, "stays", START_MS + 401)
    all_meet([ann, phone, bob, carol])
    ruling.set_role(phone, log_of(phone, topic), person(phone, bob), Role.ADMIN, START_MS + 402)
    copy(phone, bob, START_MS + 403)
    erasure = bodies.Erasure(of=said.message.hex())
    write(bob, log_of(bob, topic), Kind.ERASURE, erasure, START_MS + 500)
    copy(bob, carol, START_MS + 501)
    assert texts_of(carol, log_of(carol, topic)) == ["of bob", None]
    # Revoked by a device that had not heard of the ruling: who was let rule by it erased nothing.
    belonging.revoke(ann, phone.device_id, START_MS + 502)
    logs = [person_of(ann).topic, topic]
    for each in logs if person_log_first else reversed(logs):
        state, there = ann.log(log_of(ann, each)), log_of(carol, each)
        for row in ann.store.arrivals(state.n, 0, 1000):
            if not carol.store.find(there, [row.id]):
                carol.receive(there, [sealed_of(state, row)], LATER)
    settle(carol)
    assert findings_in(carol) == []
    give(ann, carol, topic, said.id)
    assert texts_of(carol, log_of(carol, topic)) == ["of bob", "stays"]


@pytest.mark.parametrize("backwards", [False, True])
def test_an_erasure_names_the_ruling_before_it_in_its_chain_in_any_order(backwards: bool):
    ann, bob, carol = acquainted(3)
    topic = conversation(ann, bob, carol)
    all_meet([ann, bob, carol])
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, START_MS + 401)
    said = say(carol, topic, "rude", START_MS + 402)
    all_meet([ann, bob, carol])
    known = {row.id for row in carol.store.arrivals(log_of(carol, topic), 0, 1000)}
    ruling.set_role(bob, log_of(bob, topic), person(bob, carol), Role.ADMIN, LATER)
    write(bob, log_of(bob, topic), Kind.ERASURE, bodies.Erasure(of=said.message.hex()), LATER)
    rows = [row for row in bob.store.arrivals(log_of(bob, topic), 0, 1000) if row.id not in known]
    for row in reversed(rows) if backwards else rows:
        give(bob, carol, topic, row.id)
    assert texts_of(carol, log_of(carol, topic)) == texts_of(bob, log_of(bob, topic)) == [None]
    assert findings_in(bob) == findings_in(carol) == []


def test_a_ruling_stands_no_more_that_turns_out_to_be_of_another_branch_than_the_cut():
    (ann, phone, bob, carol), topic = in_a_conversation()
    say(phone, topic, "before", START_MS + 401)
    all_meet([ann, phone, bob, carol])
    assert isinstance(phone.store, MemoryStore)
    copied = MemoryStore()
    copied._t = copying.deepcopy(phone.store._t)
    # The phone goes on at two machines, and Ann knows of one of them.
    restored = replica_of(1, copied)
    assert restored.incarnation == phone.incarnation
    branch = [say(restored, topic, f"{n}", START_MS + 402 + n).id for n in range(4)]
    ruling.set_role(phone, log_of(phone, topic), person(phone, bob), Role.ADMIN, START_MS + 402)
    ruled = phone.store.arrivals(log_of(phone, topic), 0, 1000)[-1].id
    copy(restored, ann, START_MS + 450)
    belonging.revoke(ann, phone.device_id, START_MS + 502)
    give(phone, carol, topic, ruled)
    give(restored, carol, topic, *branch[2:])
    for each in (person_of(ann).topic, topic):
        rows = ann.store.arrivals(log_of(ann, each), 0, 1000)
        give(ann, carol, each, *(row.id for row in rows if row.id not in branch))
    assert members(carol, topic)[bob.device_id] == Role.ADMIN, "all of the row is before the cut"
    give(restored, carol, topic, *branch[:2])
    assert members(carol, topic)[bob.device_id] == Role.MEMBER
    assert [found.reason for found in findings_in(carol)] == [Reason.FORKED]
