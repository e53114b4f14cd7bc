"""The private log says the same on all devices of a person, and only what these wrote."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import pytest

from mlog.errors import UserError
from mlog.log import belonging, bodies
from mlog.log.bodies import Kind
from mlog.log.fold import Draft
from mlog.log.ids import EntryId, Incarnation
from mlog.log.people import private_log
from mlog.log.private_cache import load_private
from mlog.log.private_change import Op, Value
from mlog.log.private_document import actor_of
from mlog.log.private_log import PrivateLog
from mlog.log.private_state import label_key, pin_key
from mlog.log.replica import Replica
from mlog.log.store import LogKind
from tests.log.persons import copy, findings_in, home, meet, replica_of, sealed_of, trust
from tests.log.private_changes import POISON, change
from tests.log.support import START_MS

_TOPIC = bytes(range(16))
_NOW = START_MS + 1000


def _together() -> tuple[Replica, Replica]:
    """Two devices of one person that have met."""
    desk, laptop = home(0), home(1)
    trust(desk, 0, laptop, 1)
    meet(desk, laptop)
    return desk, laptop


def _note(replica: Replica, now: Any = _NOW, **edits: Any) -> None:
    assert PrivateLog(replica).note(edits, now)


def _values(replica: Replica) -> dict[str, Value]:
    PrivateLog(replica).state()
    cache = load_private(replica.store)
    assert cache is not None
    return {**cache.carried, **cache.values}


def _write_raw(replica: Replica, encoded: bytes, now: int = _NOW) -> EntryId:
    log = private_log(replica)
    assert log is not None
    return replica.write(log.n, [Draft(Kind.PRIVATE, bodies.Private(change=encoded), now)], now)[0].id


def _forget(replica: Replica) -> None:
    with replica.store.transaction():
        replica.store.put_cached("private state", None)


# -- one device --------------------------------------------------------------------------------


def test_what_is_noted_is_an_entry_of_the_private_log() -> None:
    desk = home(0)
    assert PrivateLog(desk).note({pin_key(_TOPIC): True, label_key(_TOPIC, "work"): True}, _NOW)
    known = PrivateLog(desk).state().of(_TOPIC)
    assert (known.pinned, known.labels) == (True, ("work",))
    log = private_log(desk)
    assert log is not None
    assert desk.store.count(log.n, frozenset({int(Kind.PRIVATE)})) == 1
    assert not PrivateLog(desk).note({pin_key(_TOPIC): True}, _NOW)
    assert desk.store.count(log.n, frozenset({int(Kind.PRIVATE)})) == 1
    assert not findings_in(desk)


def test_what_is_kept_is_made_anew_from_the_log() -> None:
    desk = home(0)
    for n in range(5):
        _note(desk, pin=n, other=f"text {n}")
    before = _values(desk)
    _forget(desk)
    assert _values(desk) == before == {"pin": 4, "other": "text 4"}


@pytest.mark.parametrize("damage", [b"", b"x" * 40, None])
def test_a_kept_state_that_is_damaged_is_not_believed(damage: bytes | None) -> None:
    desk = home(0)
    _note(desk, pin=1)
    kept = desk.store.cached("private state")
    assert kept is not None
    broken = damage if damage is not None else kept[:-1] + bytes([kept[-1] ^ 1])
    with desk.store.transaction():
        desk.store.put_cached("private state", broken)
    assert _values(desk) == {"pin": 1}


def test_a_restored_home_goes_on_under_another_actor() -> None:
    desk = home(0)
    _note(desk, pin=1)
    restored = replica_of(0, desk.store)
    restored.appender.incarnation = Incarnation(b"restored")
    _note(restored, pin=2)
    _note(restored, pin=3)
    _forget(desk)
    assert _values(desk) == {"pin": 3}


def test_a_chain_that_was_forked_is_left_and_what_is_noted_counts() -> None:
    desk = home(0)
    # The disk was set back: the same chain is written again from the same place.
    log = private_log(desk)
    assert log is not None
    twin = home(0)
    twin_log = private_log(twin)
    assert twin_log is not None
    assert twin_log.keys.topic == log.keys.topic
    _note(desk, pin=1)
    _note(twin, pin=2)
    copy(twin, desk, _NOW)
    assert desk.forked(log.n)
    before = desk.incarnation
    _note(desk, label="kept")
    assert desk.incarnation != before
    first = _values(desk)
    assert first["label"] == "kept"
    assert first["pin"] in (1, 2)
    _forget(desk)
    assert _values(desk) == first


def test_without_a_private_log_nothing_can_be_noted_and_nothing_is() -> None:
    lone = replica_of(0)
    assert PrivateLog(lone).state().conversations == {}
    with pytest.raises(UserError, match="mlog sync"):
        PrivateLog(lone).note({"pin": True}, _NOW)


def test_a_failed_note_leaves_nothing() -> None:
    desk = home(0)
    _note(desk, pin=1)
    with pytest.raises(UserError):
        PrivateLog(desk).note({"pin": 2, "k" * 2000: True}, _NOW)
    assert _values(desk) == {"pin": 1}


# -- several devices ---------------------------------------------------------------------------


def test_two_devices_that_were_apart_agree() -> None:
    desk, laptop = _together()
    _note(desk, **{label_key(_TOPIC, "work"): True, "pin": True, "same": "desk"})
    _note(laptop, **{label_key(_TOPIC, "trip"): True, "mute": True, "same": "laptop"})
    meet(desk, laptop)
    assert _values(desk) == _values(laptop)
    assert PrivateLog(desk).state().of(_TOPIC).labels == ("trip", "work")
    _note(laptop, same="agreed")
    meet(desk, laptop)
    assert _values(desk)["same"] == "agreed"
    assert not findings_in(desk)
    assert not findings_in(laptop)


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_arrival_gives_one_state(seed: int) -> None:
    chance = random.Random(seed)
    desk, laptop = _together()
    for step in range(12):
        writer = chance.choice((desk, laptop))
        _note(writer, _NOW + chance.randrange(10_000), **{chance.choice("abcd"): step})
        if chance.random() < 0.3:
            meet(desk, laptop, _NOW, seed)
            assert _values(desk) == _values(laptop)
    meet(desk, laptop, _NOW, seed)
    kept = _values(desk)
    assert kept == _values(laptop)
    for replica in (desk, laptop):
        _forget(replica)
        assert _values(replica) == kept


def test_a_device_brings_along_what_it_noted_before_it_joined() -> None:
    desk, laptop = home(0), home(1)
    _note(desk, pin="desk", desk=True)
    _note(laptop, pin="laptop", laptop=True)
    trust(desk, 0, laptop, 1)
    meet(desk, laptop)
    assert _values(laptop) == {"pin": "desk", "desk": True, "laptop": True}
    assert "laptop" not in _values(desk)
    _note(laptop, more=1)
    meet(desk, laptop)
    assert _values(desk) == _values(laptop) == {"pin": "desk", "desk": True, "laptop": True, "more": 1}


def test_what_is_brought_along_may_be_more_than_one_change_holds() -> None:
    desk, laptop = home(0), home(1)
    for part in range(3):
        _note(laptop, **{f"draft {part} {n}": "x" * 500 for n in range(200)})
    trust(desk, 0, laptop, 1)
    meet(desk, laptop)
    _note(laptop, more=1)
    meet(desk, laptop)
    assert len(_values(desk)) == 601


# -- what does not count -----------------------------------------------------------------------


@pytest.mark.parametrize("name", POISON)
def test_poison_in_an_entry_is_refused_alike_on_all_devices_and_named(name: str) -> None:
    desk, laptop = _together()
    _note(desk, pin=1)
    meet(desk, laptop)
    bad = _write_raw(laptop, POISON[name])
    _note(laptop, mute=True)
    meet(desk, laptop)
    assert _values(desk) == _values(laptop) == {"pin": 1, "mute": True}
    reasons = {PrivateLog(replica).refusal(bad) for replica in (desk, laptop)}
    assert len(reasons) == 1
    assert "" not in reasons


def test_a_change_under_the_actor_of_another_device_is_refused() -> None:
    desk, laptop = _together()
    actor = actor_of(desk.device_id, desk.incarnation)
    bad = _write_raw(laptop, change(Op("pin", True), actor=actor))
    meet(desk, laptop)
    assert _values(desk) == {}
    assert "another device" in PrivateLog(desk).refusal(bad)
    _note(desk, pin=1)
    meet(desk, laptop)
    assert _values(laptop) == {"pin": 1}


def test_a_device_that_is_of_another_person_says_nothing() -> None:
    desk, stranger = home(0), home(1)
    log = private_log(desk)
    assert log is not None
    [theirs] = stranger.add_logs([(LogKind.PRIVATE, log.keys)])
    actor = actor_of(stranger.device_id, stranger.incarnation)
    draft = Draft(Kind.PRIVATE, bodies.Private(change=change(Op("pin", True), actor=actor)), _NOW)
    [row] = stranger.write(theirs, [draft], _NOW)
    assert desk.receive(log.n, [sealed_of(stranger.log(theirs), row)], _NOW).stored == 1
    assert _values(desk) == {}
    assert "not one of yours" in PrivateLog(desk).refusal(row.id)


def test_what_a_device_noted_counts_up_to_its_revocation() -> None:
    desk, laptop = _together()
    _note(laptop, pin="before")
    meet(desk, laptop)
    assert _values(desk) == {"pin": "before"}
    belonging.revoke(desk, laptop.device_id, _NOW + 10)
    _note(laptop, _NOW + 20, pin="after", more=1)
    copy(laptop, desk, _NOW + 30)
    assert _values(desk) == {"pin": "before"}
    _note(desk, _NOW + 40, pin="mine")
    assert _values(desk) == {"pin": "mine"}


def test_a_late_entry_is_taken_in_its_place() -> None:
    desk, laptop = _together()
    _note(laptop, _NOW + 10, early=1)
    _note(desk, _NOW + 500, late=1)
    before = load_private(desk.store)
    assert before is not None
    meet(desk, laptop)
    assert load_private(desk.store) is None
    assert _values(desk) == {"early": 1, "late": 1}


def test_automerge_is_loaded_to_note_something_and_not_to_read() -> None:
    script = (
        "import sys\n"
        "from tests.log.test_private_log import PrivateLog, _note, home\n"
        "desk = home(0)\n"
        "PrivateLog(desk).state()\n"
        "assert 'automerge' not in sys.modules\n"
        "_note(desk, pin=1)\n"
        "assert 'automerge' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
