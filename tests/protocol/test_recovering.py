"""A holder answers who has the phrase, and nobody else; and says who it is to nobody else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import ProtocolViolation
from mlog.log import belonging, bodies, grants
from mlog.log.bodies import Kind
from mlog.log.contacts import write_contact
from mlog.log.crypto import DeviceKeys
from mlog.log.memory import MemoryStore
from mlog.log.peers import PeerRow
from mlog.log.person import Member
from mlog.log.phrase import Phrase, meeting_key
from mlog.log.replica import Draft, Replica
from mlog.log.store import LogKind
from mlog.protocol import recovering
from mlog.protocol.channel import RECOVERY_MESSAGE_SIZES, Channel
from mlog.protocol.events import Close, Committed, Effect, Opened, Received, Send
from mlog.protocol.node import Node
from mlog.protocol.recovering import answer, dial, is_recovery
from tests.log.conversing import LATER, acquainted, conversation, log_of, session
from tests.log.persons import person_of
from tests.log.support import START_MS, SeededEntropy, device_keys, make_replica

HOLDER = device_keys(0)
E1, E2 = b"\1" * 32, b"\2" * 32


def phrase(seed: int = 1) -> Phrase:
    return Phrase(bytes([seed]) * 32)


def member(keys: DeviceKeys) -> Member:
    return Member(
        device=keys.id,
        name="recovery phrase",
        noise=keys.noise_public,
        hpke=keys.hpke_public,
        by=None,
        confirmed=True,
        phrase=True,
    )


def answered(first: bytes, *known: Phrase, now_ms: int = START_MS) -> tuple[Channel, Member] | None:
    return answer(HOLDER, [member(each.keys) for each in known], first, E2, now_ms)


def test_both_ends_open_a_channel_and_only_who_has_the_phrase_learns_who_answers() -> None:
    dials = dial(phrase().keys, E1, START_MS)
    first = dials.start()
    assert is_recovery(first)
    found = answered(first, phrase(2), phrase(1))
    assert found is not None
    holds, who = found
    assert who.device == phrase().keys.id
    holds.receive(first)
    assert not holds.confirmed
    second = holds.accept()
    assert (len(first), len(second)) == RECOVERY_MESSAGE_SIZES
    for public in (HOLDER.id, HOLDER.noise_public, phrase().keys.noise_public, phrase().keys.id):
        assert public not in first + second
    dials.receive(second)
    assert (dials.carried, dials.peer_noise_public) == (HOLDER.id, HOLDER.noise_public)
    assert dials.binding == holds.binding
    assert holds.receive(dials.seal(b"here")[0]) == [b"here"]
    assert holds.confirmed
    assert dials.receive(holds.seal(b"there")[0]) == [b"there"]


def forged(signer: DeviceKeys, of: DeviceKeys, *, ephemeral: bytes = E1, time_ms: int = START_MS) -> bytes:
    """What somebody can make who knows all public keys of a phrase, and signs with keys of his own."""
    time = time_ms.to_bytes(8, "big")
    signature = signer.sign("recovery", recovering._public_of(ephemeral) + time)
    shared = meeting_key(of.id, of.noise_public, of.hpke_public)
    return Channel.recover(signer.noise_seed, shared, E1, time + signature).start()


def test_whoever_knows_the_public_keys_only_gets_no_answer() -> None:
    keys = phrase().keys
    assert answered(forged(keys, keys), phrase()) is not None
    for signer in (device_keys(1), HOLDER, phrase(2).keys):
        assert answered(forged(signer, keys), phrase()) is None


def test_a_signature_is_good_for_one_ephemeral_key_and_one_time_only() -> None:
    keys = phrase().keys
    assert answered(forged(keys, keys, ephemeral=E2), phrase()) is None
    away = limits.RECOVERY_CLOCK_MAX_MS
    first = dial(keys, E1, START_MS).start()
    for late_ms in (-away, away):
        assert answered(first, phrase(), now_ms=START_MS + late_ms) is not None
    for late_ms in (-away - 1, away + 1, 10**12):
        assert answered(first, phrase(), now_ms=START_MS + late_ms) is None


def test_a_phrase_that_is_not_known_and_one_beyond_the_bound_get_no_answer() -> None:
    first = dial(phrase().keys, E1, START_MS).start()
    assert answered(first) is None
    assert answered(first, phrase(2)) is None
    others = [phrase(n) for n in range(2, 2 + limits.PHRASES_TRIED_MAX)]
    assert answered(first, *others[1:], phrase()) is not None
    assert answered(first, *others, phrase()) is None


@given(st.integers(0, 8 * RECOVERY_MESSAGE_SIZES[0] - 1))
def test_a_first_message_with_one_bit_changed_gets_no_answer(bit: int) -> None:
    first = bytearray(dial(phrase().keys, E1, START_MS).start())
    first[bit // 8] ^= 1 << bit % 8
    if is_recovery(bytes(first)):
        assert answered(bytes(first), phrase()) is None


@given(st.binary(max_size=200))
def test_whatever_comes_first_gets_an_answer_or_none(first: bytes) -> None:
    if is_recovery(first):
        assert answered(first, phrase()) is None


@pytest.mark.parametrize("at", range(RECOVERY_MESSAGE_SIZES[1]))
def test_an_answer_with_one_byte_changed_is_refused(at: int) -> None:
    dials = dial(phrase().keys, E1, START_MS)
    first = dials.start()
    found = answered(first, phrase())
    assert found is not None
    found[0].receive(first)
    second = bytearray(found[0].accept())
    second[at] ^= 1
    with pytest.raises(ProtocolViolation):
        dials.receive(bytes(second))


# -- in a node -------------------------------------------------------------------------------


class Holder:
    """A node of a person who has a phrase."""

    def __init__(self) -> None:
        self.replica = make_replica(MemoryStore())
        keys, hers = self.replica.device_keys, phrase().keys
        record = bodies.Device(name="desk", person="ann", noise=keys.noise_public, hpke=keys.hpke_public)
        self.replica.create_log(LogKind.PERSON, [Draft(Kind.DEVICE, record, START_MS)], START_MS)
        row = PeerRow(
            device=hers.id, name="recovery phrase", noise=hers.noise_public, hpke=hers.hpke_public, own=True
        )
        belonging.admit(self.replica, row, START_MS, phrase=True)
        self.node = Node(self.replica, SeededEntropy("holder"), dials=False)
        self.node.start(START_MS)
        self._sessions = itertools.count(1)

    def hear(self, *data: bytes) -> list[Effect]:
        """What it does about a stranger that says this."""
        session = next(self._sessions)
        effects = self.node.handle(Opened(session=session), START_MS)
        for each in data:
            effects += self.node.handle(Received(session, each), START_MS)
        return effects


def sent(effects: Sequence[Effect]) -> list[bytes]:
    return [effect.data for effect in effects if isinstance(effect, Send)]


def test_a_node_answers_a_phrase_and_gives_strangers_no_byte() -> None:
    holder = Holder()
    first = dial(phrase().keys, E1, START_MS).start()
    assert len(sent(holder.hear(first))[0]) == RECOVERY_MESSAGE_SIZES[1]
    for stranger in (
        dial(phrase(2).keys, E1, START_MS).start(),
        forged(device_keys(1), phrase().keys),
        first[:-1],
        first + b"\0",
        b"\x03" + bytes(RECOVERY_MESSAGE_SIZES[0] - 1),
    ):
        effects = holder.hear(stranger)
        assert sent(effects) == []
        assert any(isinstance(effect, Close) for effect in effects)


def test_the_phrase_is_not_let_in_as_a_known_device_is() -> None:
    holder = Holder()
    public = holder.replica.device_keys.noise_public
    assert sent(holder.hear(Channel.initiate(phrase().keys.noise_seed, public, E1).start())) == []
    assert holder.replica.store.peers() == []


def test_a_first_message_that_is_played_again_tells_and_does_nothing() -> None:
    holder = Holder()
    first = dial(phrase().keys, E1, START_MS).start()
    before = holder.replica.store.next_n()
    seconds = [sent(holder.hear(first))[0] for _ in range(3)]
    # Fresh keys each time; whoever has only the copy can open none of them, and send nothing that counts.
    assert len(set(seconds)) == 3
    effects = holder.hear(first, b"\0" * 40)
    assert any(isinstance(effect, Close) for effect in effects)
    assert holder.replica.store.next_n() == before
    assert holder.replica.store.peers() == []


def test_a_phrase_that_is_revoked_while_it_is_connected_is_cut_off() -> None:
    holder = Holder()
    session = next(holder._sessions)
    holder.node.handle(Opened(session=session), START_MS)
    holder.node.handle(Received(session, dial(phrase().keys, E1, START_MS).start()), START_MS)
    assert not any(isinstance(e, Close) for e in holder.node.handle(Committed(), START_MS))
    belonging.revoke(holder.replica, phrase().keys.id, START_MS)
    effects = holder.node.handle(Committed(), START_MS)
    assert Close(session, "the device is not known any more") in effects
    assert sent(holder.hear(dial(phrase().keys, E1, START_MS).start())) == []


# -- in a node of another person -------------------------------------------------------------


def enrol(replica: Replica, keys: DeviceKeys, now: int = START_MS + 500, *, confirms: bool = True) -> None:
    """Make a phrase a device of a replica's person."""
    row = PeerRow(
        device=keys.id, name="recovery phrase", noise=keys.noise_public, hpke=keys.hpke_public, own=True
    )
    belonging.admit(replica, row, now, phrase=True)
    if confirms:
        person = person_of(replica)
        record = bodies.Device(name="phrase", person=person.name, noise=row.noise, hpke=row.hpke)
        before = replica.people.standing()
        replica.as_device(keys).write(person.log, [Draft(Kind.DEVICE, record, now)], now)
        belonging.follow(replica, before, now)


class Friend(Holder):
    """A node of a contact of a person who has a phrase."""

    def __init__(self, *, confirms: bool = True) -> None:
        self.ann, self.replica, self.carol = acquainted(3)
        enrol(self.ann, phrase().keys, confirms=confirms)
        session(self.ann, self.replica, LATER)
        self.node = Node(self.replica, SeededEntropy("friend"), dials=False)
        self.node.start(START_MS)
        self._sessions = itertools.count(1)

    def answers(self, seed: int = 1) -> bool:
        return sent(self.hear(dial(phrase(seed).keys, E1, START_MS).start())) != []


def test_a_device_of_a_contact_answers_the_phrase_and_gives_strangers_no_byte() -> None:
    friend = Friend()
    first = dial(phrase().keys, E1, START_MS).start()
    assert len(sent(friend.hear(first))[0]) == RECOVERY_MESSAGE_SIZES[1]
    for stranger in (
        dial(phrase(2).keys, E1, START_MS).start(),
        forged(friend.ann.device_keys, phrase().keys),
        forged(friend.replica.device_keys, phrase().keys),
        first[:-1],
        b"\x03" + bytes(RECOVERY_MESSAGE_SIZES[0] - 1),
    ):
        effects = friend.hear(stranger)
        assert sent(effects) == []
        # What a device says to whose phrase it does not know, it says to all.
        assert [e.reason for e in effects if isinstance(e, Close)] == [
            e.reason for e in Holder().hear(stranger) if isinstance(e, Close)
        ]
    assert friend.replica.store.peers() == Friend().replica.store.peers()


def test_a_contact_answers_no_phrase_that_did_not_say_yes_or_was_revoked() -> None:
    assert not Friend(confirms=False).answers()
    friend = Friend()
    assert friend.answers()
    belonging.revoke(friend.ann, phrase().keys.id, LATER)
    session(friend.ann, friend.replica, LATER)
    assert not friend.answers()


def test_who_is_a_contact_no_more_is_not_answered() -> None:
    friend = Friend()
    topic = person_of(friend.ann).topic
    write_contact(friend.replica, friend.replica.people.contacts()[topic], LATER, removed=True)
    assert not friend.answers()


def test_the_own_phrases_are_tried_first_and_nobody_keeps_out_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    friend = Friend()
    for seed in (2, 3, 4):
        enrol(friend.ann, phrase(seed).keys)
    enrol(friend.carol, phrase(5).keys)
    for other in (friend.ann, friend.carol):
        session(other, friend.replica, LATER)
    assert all(friend.answers(seed) for seed in range(1, 6))
    monkeypatch.setattr(limits, "PHRASES_TRIED_MAX", 2)
    assert [seed for seed in range(1, 6) if friend.answers(seed)] == [1, 5]
    enrol(friend.replica, phrase(6).keys)
    assert [seed for seed in range(1, 7) if friend.answers(seed)] == [1, 6]


def test_a_contacts_phrase_that_is_revoked_while_it_is_connected_is_cut_off() -> None:
    friend = Friend()
    number = next(friend._sessions)
    friend.node.handle(Opened(session=number), START_MS)
    friend.node.handle(Received(number, dial(phrase().keys, E1, START_MS).start()), START_MS)
    assert not any(isinstance(e, Close) for e in friend.node.handle(Committed(), START_MS))
    belonging.revoke(friend.ann, phrase().keys.id, LATER)
    session(friend.ann, friend.replica, LATER)
    effects = friend.node.handle(Committed(), START_MS)
    assert Close(number, "the device is not known any more") in effects


def test_a_contacts_phrase_has_the_rights_of_a_device_of_that_person() -> None:
    friend = Friend()
    talk = conversation(friend.replica, friend.ann)
    private = friend.replica.people.private_log()
    shared = friend.replica.people.shared_with(phrase().keys.id)
    assert shared == friend.replica.people.shared_with(friend.ann.device_id)
    assert log_of(friend.replica, talk) in shared
    assert private not in shared
    assert grants.grant_for(friend.replica, phrase().keys.id, (), bytes(32)) is not None
