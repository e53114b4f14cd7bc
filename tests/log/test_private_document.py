"""The document takes good changes in any batches, refuses bad ones for good, and comes back when saved."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from automerge.core import Document

from mlog import limits
from mlog.errors import InvalidInput, UserError
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.private_change import Op, Value, parse_change
from mlog.log.private_document import Candidate, PrivateDocument, actor_of
from tests.log.private_changes import ACTOR, OTHER, POISON, change

_LAST = bytes([3]) * 16


def _candidate(encoded: bytes, actor: bytes = ACTOR) -> Candidate:
    return Candidate(EntryId(parse_change(encoded).hash), actor, encoded)


def _named(name: str, encoded: bytes, actor: bytes = ACTOR) -> Candidate:
    return Candidate(EntryId(name.encode().ljust(32, b"\0")), actor, encoded)


def _hash(encoded: bytes) -> bytes:
    return parse_change(encoded).hash


def _write(document: PrivateDocument, actor: bytes, **edits: Value | None) -> Candidate:
    encoded = document.change(actor, edits)
    assert encoded is not None
    candidate = _candidate(encoded, actor)
    assert document.take([candidate]) == ({}, [])
    return candidate


def _history(seed: int) -> list[Candidate]:
    """Changes of three devices that hear of each other late, each after what it follows."""
    chance = random.Random(seed)
    devices = {actor: PrivateDocument() for actor in (ACTOR, OTHER, _LAST)}
    written: list[Candidate] = []
    known = dict.fromkeys(devices, 0)
    for step in range(30):
        actor = chance.choice(list(devices))
        if chance.random() < 0.5:
            unknown = [c for c in written[known[actor] :] if c.actor != actor]
            devices[actor].take(unknown)
            known[actor] = len(written)
        value = chance.choice([True, step, f"text {step}", bytes([step]), None])
        edits = {chance.choice("abcde"): value, chance.choice("fgh"): step}
        encoded = devices[actor].change(actor, edits)
        if encoded is not None:
            written.append(_candidate(encoded, actor))
            devices[actor].take(written[-1:])
    return written


# -- what is taken -----------------------------------------------------------------------------


def test_what_is_written_is_there_after_it_is_taken() -> None:
    document = PrivateDocument()
    encoded = document.change(ACTOR, {"pin": True, "draft": "tent", "read": b"\0\xff", "count": 7})
    assert encoded is not None
    assert document.values() == {}
    document.take([_candidate(encoded)])
    assert document.values() == {"pin": True, "draft": "tent", "read": b"\0\xff", "count": 7}
    _write(document, ACTOR, pin=None)
    assert "pin" not in document.values()


def test_nothing_to_change_makes_no_change() -> None:
    document = PrivateDocument()
    _write(document, ACTOR, pin=True)
    assert document.change(ACTOR, {"pin": True}) is None
    assert document.change(ACTOR, {"label": None}) is None


def test_devices_that_were_apart_agree_once_they_met() -> None:
    one, other = PrivateDocument(), PrivateDocument()
    first = [_write(one, ACTOR, title="mine", label=True), _write(one, ACTOR, draft="tent")]
    second = [_write(other, OTHER, title="yours", pin=True)]
    one.take(second)
    other.take(first)
    assert one.values() == other.values()
    assert one.values().keys() == {"title", "label", "draft", "pin"}


def test_what_is_put_again_while_it_is_deleted_elsewhere_stays() -> None:
    one, other = PrivateDocument(), PrivateDocument()
    other.take([_write(one, ACTOR, pin=True)])
    gone, kept = _write(one, ACTOR, pin=None), _write(other, OTHER, pin=False)
    one.take([kept])
    other.take([gone])
    assert one.values() == other.values() == {"pin": False}


@pytest.mark.parametrize("seed", range(8))
def test_any_batches_give_one_document(seed: int) -> None:
    history, chance = _history(seed), random.Random(seed)
    whole = PrivateDocument()
    assert whole.take(history) == ({}, [])
    parts = PrivateDocument()
    cuts = sorted(chance.sample(range(len(history) + 1), 4))
    for first, last in pairwise((0, *cuts, len(history))):
        parts = PrivateDocument(parts.saved)
        assert parts.take(history[first:last]) == ({}, [])
    assert parts.values() == whole.values()


@pytest.mark.parametrize("seed", range(8))
def test_the_values_are_those_of_the_latest_operations(seed: int) -> None:
    """Worked out by hand: an operation counts that none replaces; of several the one with the highest id."""
    history = _history(seed)
    document = PrivateDocument()
    document.take(history)
    ops: dict[tuple[int, bytes], Op] = {}
    for candidate in history:
        parsed = parse_change(candidate.encoded)
        ops |= {(parsed.start_op + at, parsed.actor): op for at, op in enumerate(parsed.ops)}
    replaced = {pred for op in ops.values() for pred in op.preds}
    expected = {
        op.key: op.value for id_, op in sorted(ops.items()) if id_ not in replaced and op.value is not None
    }
    assert document.values() == expected


def test_a_change_waits_for_what_it_names_and_goes_on_in_order() -> None:
    source = PrivateDocument()
    changes = [_write(source, ACTOR, count=n) for n in range(4)]
    document = PrivateDocument()
    taken = document.take([changes[2], changes[1], changes[3]])
    assert taken.refused == {}
    assert taken.waiting == [changes[2], changes[1], changes[3]]
    assert document.take([*taken.waiting, changes[0]]) == ({}, [])
    assert document.values() == {"count": 3}


def test_no_more_wait_than_a_bound_allows() -> None:
    lost = bytes([9]) * 32
    many = [
        _named(str(n), change(Op("a", n), seq=1, start=2, deps=(lost,)))
        for n in range(limits.PRIVATE_WAITING_MAX + 5)
    ]
    taken = PrivateDocument().take(many)
    assert len(taken.waiting) == limits.PRIVATE_WAITING_MAX
    assert len(taken.refused) == 5


# -- what is refused ---------------------------------------------------------------------------

_FIRST = change(Op("a", 1))
_SECOND = change(Op("b", 2), seq=2, start=2, deps=(_hash(_FIRST),))
_BAD: dict[str, tuple[Sequence[bytes], str]] = {
    "another change with the same number": ([_FIRST, change(Op("z", 9))], "another change with the number 1"),
    "the same change again": ([_FIRST, _FIRST], "another change with the number 1"),
    "a number that was skipped": (
        [_FIRST, change(Op("z", 9), seq=3, start=2, deps=(_hash(_FIRST),))], "skipped",
    ),
    "operations that begin too early": (
        [_FIRST, change(Op("z", 9), seq=2, start=1, deps=(_hash(_FIRST),))], "numbered on",
    ),
    "operations that begin too late": (
        [_FIRST, change(Op("z", 9), seq=2, start=2**31 - 9, deps=(_hash(_FIRST),))], "numbered on",
    ),
    "operations replaced that are not there": (
        [_FIRST, change(Op("z", 9, ((1, OTHER),)), seq=2, start=2, deps=(_hash(_FIRST),), others=(OTHER,))],
        "not there",
    ),
    "an operation replaced under another key": (
        [_FIRST, change(Op("z", 9, ((1, ACTOR),)), seq=2, start=2, deps=(_hash(_FIRST),))],
        "does not give it back",
    ),
    "a deletion under another key": (
        [_FIRST, change(Op("z", None, ((1, ACTOR),)), seq=2, start=2, deps=(_hash(_FIRST),))],
        "does not give it back",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("encoded", "reason"), _BAD.values(), ids=_BAD.keys())
def test_a_bad_change_is_refused_and_the_others_are_taken(encoded: Sequence[bytes], reason: str) -> None:
    good, bad = _named("good", encoded[0]), _named("bad", encoded[1])
    after = _named("after", _SECOND)
    for batches in ([[good, bad, after]], [[good], [bad], [after]], [[good, bad], [after]]):
        document = PrivateDocument()
        refused: dict[EntryId, str] = {}
        for batch in batches:
            taken = document.take(batch)
            refused |= taken.refused
            assert taken.waiting == []
        assert refused.keys() == {bad.id}
        assert reason in refused[bad.id]
        assert document.values() == {"a": 1, "b": 2}
        assert PrivateDocument(document.saved).values() == {"a": 1, "b": 2}


@pytest.mark.parametrize("encoded", POISON.values(), ids=POISON.keys())
def test_poison_never_reaches_automerge(encoded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    document = PrivateDocument()

    def tried(self: object, taken: Sequence[tuple[Candidate, Any]]) -> Any:
        assert not taken
        return b"", Document()

    monkeypatch.setattr(PrivateDocument, "_tried", tried)
    taken = document.take([_named("poison", encoded)])
    assert list(taken.refused) == [_named("poison", encoded).id]


def test_a_change_in_the_name_of_another_device_is_refused() -> None:
    taken = PrivateDocument().take([_candidate(_FIRST, OTHER)])
    assert "in the name of another device" in next(iter(taken.refused.values()))


def test_many_bad_changes_are_each_found() -> None:
    first = change(Op("a", 1))
    bad: list[Candidate] = []
    for n in range(5):
        op, actor = Op(f"z{n}", 9, ((1, ACTOR),)), bytes([50 + n]) * 16
        encoded = change(op, start=2, deps=(_hash(first),), actor=actor, others=(ACTOR,))
        bad.append(_named(f"bad {n}", encoded, actor))
    document = PrivateDocument()
    taken = document.take([bad[0], _named("a", first), *bad[1:], _named("b", _SECOND)])
    assert taken.refused.keys() == {candidate.id for candidate in bad}
    assert document.values() == {"a": 1, "b": 2}


def test_a_panic_in_automerge_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As pyo3 raises it."""

    document = PrivateDocument()
    monkeypatch.setattr("automerge.core.Message", _raising(PanicException))
    taken = document.take([_candidate(_FIRST)])
    assert "automerge does not take it" in next(iter(taken.refused.values()))
    monkeypatch.undo()
    _write(document, ACTOR, a=1)


def test_an_interrupt_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    document = PrivateDocument()
    monkeypatch.setattr("automerge.core.Message", _raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        document.take([_candidate(_FIRST)])


def _raising(error: type[BaseException]) -> type:
    class Message:
        @staticmethod
        def decode(_: bytes) -> None:
            raise error

    return Message


def test_a_saved_document_that_does_not_load_is_said_to_be_so() -> None:
    document = PrivateDocument()
    _write(document, ACTOR, a="tent")
    for saved in (document.saved[:-1], b"x", document.saved[:20] + b"\xff" + document.saved[21:]):
        with pytest.raises(InvalidInput, match="does not load"):
            PrivateDocument(saved)


def test_what_is_too_long_is_not_written() -> None:
    document = PrivateDocument()
    with pytest.raises(UserError, match="cannot be kept"):
        document.change(ACTOR, {"draft": "x" * limits.PRIVATE_CHANGE_SIZE_MAX_BYTES})
    with pytest.raises(UserError, match="cannot be kept"):
        document.change(ACTOR, {"k" * (limits.PRIVATE_KEY_SIZE_MAX_BYTES + 1): True})


def test_an_actor_is_of_one_device_and_one_incarnation() -> None:
    device, other = DeviceId(b"d" * 32), DeviceId(b"e" * 32)
    one, two = Incarnation(b"1" * 8), Incarnation(b"2" * 8)
    actors = {actor_of(device, one), actor_of(device, two), actor_of(other, one)}
    assert len(actors) == 3
    assert {len(actor) for actor in actors} == {16}
