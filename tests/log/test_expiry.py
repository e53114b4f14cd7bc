"""What is said disappears by the clock of each replica, and replicas whose clocks differ stay equal."""

from __future__ import annotations

import random

import pytest

from mlog import limits
from mlog.log import bodies, ruling
from mlog.log.authority import Role
from mlog.log.bodies import Kind
from mlog.log.expiry import setting_at, settings_of
from mlog.log.ids import EntryId, MessageId
from mlog.log.merkle import log_root, refresh_digests
from mlog.log.replica import Draft, Replica
from mlog.log.store import BodyState, EntryRow, Position
from tests.log.conversing import (
    LATER,
    acquainted,
    all_meet,
    conversation,
    expel,
    log_of,
    person,
    say,
    session,
    settle,
)
from tests.log.persons import begin, copy, findings_in, home, meet, sealed_of, texts_of, trust, write
from tests.log.support import START_MS, message, text

_DAY_MS = 24 * 3600 * 1000
_NOW = START_MS + 1000


def _expire(replica: Replica, log: int, after_ms: int, now: int = _NOW) -> EntryRow:
    return write(replica, log, Kind.EXPIRE, bodies.Expire(after_ms=after_ms), now)


def _say(replica: Replica, log: int, words: str, now: int) -> EntryRow:
    return write(replica, log, Kind.MESSAGE, text(words), now)


def _state(replica: Replica, row: EntryRow) -> BodyState:
    return replica.store.rows([row.n])[row.n].state


def _root(replica: Replica, log: int) -> bytes:
    return log_root(refresh_digests(replica.store, log))


@pytest.fixture
def desk() -> Replica:
    return home(0)


@pytest.fixture
def log(desk: Replica) -> int:
    return begin(desk, "trip")


def _together() -> tuple[Replica, int, Replica, int]:
    """Two devices of one person, and the number of one conversation at each."""
    desk, laptop = home(0), home(1)
    log = begin(desk, "trip")
    trust(desk, 0, laptop, 1)
    meet(desk, laptop)
    there = next(s.n for s in laptop.logs() if s.keys.topic == desk.log(log).keys.topic)
    return desk, log, laptop, there


def test_a_setting_holds_for_what_stands_behind_it_up_to_the_next(desk: Replica, log: int) -> None:
    before = _say(desk, log, "before", _NOW)
    _expire(desk, log, _DAY_MS, _NOW + 1)
    during = _say(desk, log, "during", _NOW + 2)
    _expire(desk, log, 0, _NOW + 3)
    after = _say(desk, log, "after", _NOW + 4)
    settings = settings_of(desk.store, log, desk.people.setters)
    assert [setting_at(settings, row.position) for row in (before, during, after)] == [0, _DAY_MS, 0]
    assert setting_at([], Position(1, EntryId(bytes(32)))) == 0
    assert desk.expire(log, _NOW + 10 * _DAY_MS) == 1
    assert texts_of(desk, log) == ["before", None, "after"]
    assert not findings_in(desk)


def test_a_text_stays_until_its_time_is_over_and_not_a_moment_longer(desk: Replica, log: int) -> None:
    _expire(desk, log, _DAY_MS)
    row = _say(desk, log, "tent", _NOW + 5)
    assert desk.expire(log, _NOW + 5 + _DAY_MS - 1) == 0
    assert _state(desk, row) == BodyState.OPENED
    assert desk.expire(log, _NOW + 5 + _DAY_MS) == 1
    assert _state(desk, row) == BodyState.EXPIRED
    assert desk.expire(log, _NOW + 5 + _DAY_MS) == 0


def test_edits_files_and_search_words_go_too_and_what_carries_the_log_stays(desk: Replica, log: int) -> None:
    _expire(desk, log, _DAY_MS)
    row = _say(desk, log, "tentpole", _NOW + 1)
    of = row.message.hex()
    edit = write(desk, log, Kind.EDIT, bodies.Edit(of=of, text="tarpaulin"), _NOW + 2)
    group = bytes(range(16))
    chunk = write(desk, log, Kind.CHUNK, bodies.Chunk(group=group, index=0, data=b"film"), _NOW + 3)
    manifest = bodies.Manifest(of=of, name="film.mp4", size=4, group=group.hex(), chunks=(chunk.id,))
    file = write(desk, log, Kind.MANIFEST, manifest, _NOW + 4)
    title = write(desk, log, Kind.TITLE, bodies.Title(title="kept"), _NOW + 5)
    assert desk.store.search('"tarpaulin"', None, 9)
    assert desk.expire(log, _NOW + 2 * _DAY_MS) == 4
    assert {_state(desk, one) for one in (row, edit, chunk, file)} == {BodyState.EXPIRED}
    assert _state(desk, title) == BodyState.OPENED
    assert not desk.store.search('"tarpaulin"', None, 9)
    assert not desk.store.search('"tentpole"', None, 9)
    assert not findings_in(desk)


def test_an_edit_goes_with_its_message_and_is_not_shown_for_it(desk: Replica, log: int) -> None:
    _expire(desk, log, _DAY_MS)
    row = _say(desk, log, "tent", _NOW + 1)
    _expire(desk, log, 0, _NOW + 2)
    late = _NOW + _DAY_MS // 2
    edit = write(desk, log, Kind.EDIT, bodies.Edit(of=row.message.hex(), text="tarpaulin"), late)
    assert desk.expire(log, _NOW + _DAY_MS + 1) == 2
    assert {_state(desk, one) for one in (row, edit)} == {BodyState.EXPIRED}
    assert texts_of(desk, log) == [None]
    assert not findings_in(desk)


def test_what_is_imported_does_not_expire(desk: Replica, log: int) -> None:
    _expire(desk, log, _DAY_MS, START_MS)
    run = desk.begin_run(log)
    source = bodies.Import(format="irc", chat="irc:#x")
    said = message("old", _NOW, MessageId(bytes(range(16))))
    desk.write_run(run, [Draft(Kind.IMPORT, source, _NOW), said], _NOW)
    assert desk.expire(log, _NOW + 99 * _DAY_MS) == 0


def test_replicas_whose_clocks_differ_stay_equal() -> None:
    desk, log, laptop, there = _together()
    _expire(desk, log, _DAY_MS, _NOW)
    row = _say(desk, log, "tent", _NOW + 1)
    meet(desk, laptop)
    before = _root(desk, log)
    assert before == _root(laptop, there)
    assert laptop.expire(there, _NOW + 2 * _DAY_MS) == 1
    assert _root(laptop, there) == before == _root(desk, log)
    # The one that is behind offers the text again: it is not taken.
    taken = laptop.receive(there, [sealed_of(desk.log(log), desk.store.rows([row.n])[row.n])], _NOW)
    assert (taken.stored, taken.completed) == (0, 0)
    assert texts_of(laptop, there) == [None]
    assert texts_of(desk, log) == ["tent"]
    assert desk.expire(log, _NOW + 3 * _DAY_MS) == 1
    assert _root(laptop, there) == before == _root(desk, log)
    assert not findings_in(desk)
    assert not findings_in(laptop)


def test_a_text_that_comes_after_its_time_is_forgotten_at_the_next_look() -> None:
    desk, log, laptop, there = _together()
    _expire(desk, log, _DAY_MS, _NOW)
    _say(desk, log, "tent", _NOW + 1)
    assert laptop.expire(there, _NOW + 5 * _DAY_MS) == 0
    copy(desk, laptop, _NOW + 5 * _DAY_MS)
    assert laptop.expire(there, _NOW + 5 * _DAY_MS) == 1


def test_what_expired_elsewhere_before_it_came_here_is_no_gap() -> None:
    desk, log, laptop, there = _together()
    _expire(desk, log, _DAY_MS, _NOW)
    _say(desk, log, "tent", _NOW + 1)
    desk.expire(log, _NOW + 2 * _DAY_MS)
    meet(desk, laptop)
    assert laptop.missing(there, 10)
    assert laptop.expire(there, _NOW + 2 * _DAY_MS) == 1
    assert not laptop.missing(there, 10)
    assert _root(laptop, there) == _root(desk, log)


def test_an_erased_text_expires_too_and_an_expired_one_is_not_erased_any_more(
    desk: Replica, log: int
) -> None:
    _expire(desk, log, _DAY_MS)
    one, two = _say(desk, log, "one", _NOW + 1), _say(desk, log, "two", _NOW + 2)
    write(desk, log, Kind.ERASURE, bodies.Erasure(of=one.message.hex()), _NOW + 3)
    assert _state(desk, one) == BodyState.ERASED
    assert desk.expire(log, _NOW + 9 * _DAY_MS) == 1
    # Who never had the first one cannot tell that it was erased: it holds as much.
    assert (_state(desk, one), _state(desk, two)) == (BodyState.EXPIRED, BodyState.EXPIRED)
    write(desk, log, Kind.ERASURE, bodies.Erasure(of=two.message.hex()), _NOW + 4)
    assert _state(desk, two) == BodyState.EXPIRED
    assert not findings_in(desk)


def _void(replica: Replica, log: int) -> None:
    """The first setting of a log counts no more."""
    with replica.transaction():
        [setting] = [r for r in replica.store.arrivals(log, 0, 100) if r.kind == Kind.EXPIRE][:1]
        replica.store.set_hidden(setting.n, True)
        replica._fold.doubt_expired(log)
    settle(replica)


def test_what_expired_by_a_setting_that_counts_no_more_is_wanted_again(desk: Replica, log: int) -> None:
    _expire(desk, log, _DAY_MS)
    row = _say(desk, log, "tent", _NOW + 1)
    assert desk.expire(log, _NOW + 9 * _DAY_MS) == 1
    # It came late, and stands before what was said.
    write(desk, log, Kind.EXPIRE, bodies.Expire(after_ms=0), _NOW + 2)
    assert _state(desk, row) == BodyState.EXPIRED
    _void(desk, log)
    assert _state(desk, row) == BodyState.NOT_FETCHED


def test_what_was_erased_after_it_had_expired_is_not_wanted_again(desk: Replica, log: int) -> None:
    _expire(desk, log, _DAY_MS)
    row = _say(desk, log, "tent", _NOW + 1)
    edit = write(desk, log, Kind.EDIT, bodies.Edit(of=row.message.hex(), text="tents"), _NOW + 2)
    body = bodies.Chunk(group=row.message, index=0, data=b"film")
    chunk = write(desk, log, Kind.CHUNK, body, _NOW + 3)
    assert desk.expire(log, _NOW + 9 * _DAY_MS) == 3
    write(desk, log, Kind.ERASURE, bodies.Erasure(of=row.message.hex()), _NOW + 4)
    _void(desk, log)
    assert {_state(desk, one) for one in (row, edit, chunk)} == {BodyState.ERASED}
    # Its own setting was made void without a reason.
    assert {f.part for f in findings_in(desk)} <= {"index"}


def test_an_edit_that_is_wanted_again_counts_again(desk: Replica, log: int) -> None:
    row = _say(desk, log, "tent", _NOW)
    _expire(desk, log, _DAY_MS, _NOW + 1)
    edit = write(desk, log, Kind.EDIT, bodies.Edit(of=row.message.hex(), text="tents"), _NOW + 2)
    assert desk.expire(log, _NOW + 9 * _DAY_MS) == 1
    assert desk.store.rows([row.n])[row.n].edit == 0
    _void(desk, log)
    assert _state(desk, edit) == BodyState.NOT_FETCHED
    assert desk.store.rows([row.n])[row.n].edit == edit.n


def test_a_text_that_is_gone_without_a_setting_is_damage(desk: Replica, log: int) -> None:
    row = _say(desk, log, "tent", _NOW)
    with desk.store.transaction():
        desk.store.erase_body(row.n, "tent", BodyState.EXPIRED)
    [finding] = [f for f in findings_in(desk) if f.part == "body"]
    assert "was not to expire" in finding.detail


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_arrival_and_of_looks_gives_the_same(seed: int) -> None:
    chance = random.Random(seed)
    desk, log, laptop, there = _together()
    for step in range(12):
        now = _NOW + step * _DAY_MS // 2
        replica, n = chance.choice(((desk, log), (laptop, there)))
        if chance.random() < 0.3:
            _expire(replica, n, chance.choice((0, _DAY_MS, 2 * _DAY_MS)), now)
        else:
            _say(replica, n, f"said {step}", now)
        if chance.random() < 0.4:
            meet(desk, laptop, now, seed)
            looking, where = chance.choice(((desk, log), (laptop, there)))
            looking.expire(where, now)
    meet(desk, laptop, _NOW + 99 * _DAY_MS, seed)
    for replica, n in ((desk, log), (laptop, there)):
        replica.expire(n, _NOW + 99 * _DAY_MS)
    assert texts_of(desk, log) == texts_of(laptop, there)
    assert _root(desk, log) == _root(laptop, there)
    assert not findings_in(desk)
    assert not findings_in(laptop)


# -- who may set it ----------------------------------------------------------------------------


def _set(replica: Replica, topic: bytes, after_ms: int, now: int = _NOW) -> EntryRow:
    return _expire(replica, log_of(replica, topic), after_ms, now)


def test_only_what_an_admin_set_lets_anything_disappear() -> None:
    ann, bob = acquainted(2)
    topic = conversation(ann, bob)
    all_meet([ann, bob])
    _set(bob, topic, _DAY_MS)
    row = say(ann, topic, "tent", _NOW + 5)
    all_meet([ann, bob])
    for replica in (ann, bob):
        log = log_of(replica, topic)
        assert not settings_of(replica.store, log, replica.people.setters)
        assert replica.expire(log, _NOW + 9 * _DAY_MS) == 0
    ruling.set_role(ann, log_of(ann, topic), person(ann, bob), Role.ADMIN, _NOW + 10)
    all_meet([ann, bob])
    # What he set as a member counts no more than before.
    assert ann.expire(log_of(ann, topic), _NOW + 9 * _DAY_MS) == 0
    _set(bob, topic, _DAY_MS, _NOW + 20)
    say(ann, topic, "pole", _NOW + 21)
    all_meet([ann, bob])
    assert [replica.expire(log_of(replica, topic), _NOW + 9 * _DAY_MS) for replica in (ann, bob)] == [1, 1]
    assert _state(ann, row) == BodyState.OPENED
    assert not findings_in(ann)


def test_many_settings_of_a_member_push_out_none_of_an_admin() -> None:
    ann, bob = acquainted(2)
    topic = conversation(ann, bob)
    _set(ann, topic, _DAY_MS)
    all_meet([ann, bob])
    log = log_of(bob, topic)
    for at in range(0, limits.STORE_ROWS_MAX + 1, 500):
        drafts = [Draft(Kind.EXPIRE, bodies.Expire(after_ms=0), _NOW + at + n) for n in range(500)]
        bob.write(log, drafts, _NOW + at)
    assert [s.after_ms for s in settings_of(bob.store, log, bob.people.setters)] == [_DAY_MS]


@pytest.mark.parametrize("by_cut", [True, False])
def test_what_a_setting_took_that_counts_no_more_is_wanted_again(by_cut: bool) -> None:
    ann, bob, eve = acquainted(3)
    topic = conversation(ann, bob, eve)
    ruling.set_role(ann, log_of(ann, topic), person(ann, eve), Role.ADMIN, _NOW)
    all_meet([ann, bob, eve])
    _set(eve, topic, _DAY_MS, _NOW + 11)
    session(bob, eve)
    row = say(bob, topic, "tent", _NOW + 20)
    there, here = log_of(bob, topic), log_of(ann, topic)
    if by_cut:
        expel(ann, topic, eve, _NOW + 10)
    else:
        # Ann took the setting back before the text, and Bob hears of it late.
        _set(ann, topic, 0, _NOW + 15)
    for stored in bob.store.arrivals(there, 0, 1000):
        ann.receive(here, [sealed_of(bob.log(there), stored)], LATER)
    settle(ann)
    assert bob.expire(there, _NOW + 2 * _DAY_MS) == 1
    assert _state(bob, row) == BodyState.EXPIRED
    for stored in ann.store.arrivals(here, 0, 1000):
        bob.receive(there, [sealed_of(ann.log(here), stored)], LATER)
    settle(bob)
    assert bob.expire(there, _NOW + 2 * _DAY_MS) == 0
    assert [m.id for m in bob.missing(there, 9) if m.part == "body"] == [row.id]
    assert row.id in bob.lacking(there, 9)
    copy_of = ann.store.find(here, [row.id])[row.id]
    assert bob.receive(there, [sealed_of(ann.log(here), copy_of)], LATER).completed == 1
    assert _state(bob, row) == BodyState.OPENED
    assert bob.expire(there, _NOW + 3 * _DAY_MS) == 0
    assert _root(ann, here) == _root(bob, there)
    assert not findings_in(bob)
