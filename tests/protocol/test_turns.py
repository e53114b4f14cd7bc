"""Turns and alarms: everybody has a turn, in order, and the earliest time is the one that counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlog.protocol.turns import Alarms, Turns


def test_turns_come_in_the_order_in_which_they_were_asked_for():
    turns = Turns[str]()
    for key in ("a", "b", "a", "c"):
        turns.add(key)
    assert len(turns) == 3
    assert [turns.next(), turns.next(), turns.next(), turns.next()] == ["a", "b", "c", None]
    assert not turns


def test_who_asks_again_comes_behind_all_others():
    turns = Turns[str]()
    turns.add("a")
    turns.add("b")
    assert turns.next() == "a"
    turns.add("a")
    assert [turns.next(), turns.next()] == ["b", "a"]


def test_who_is_gone_has_no_turn():
    turns = Turns[str]()
    turns.add("a")
    turns.add("b")
    turns.remove("a")
    turns.remove("never there")
    assert [turns.next(), turns.next()] == ["b", None]


def test_an_alarm_that_was_moved_rings_once_at_its_last_time():
    alarms = Alarms[str]()
    alarms.set("a", 10)
    alarms.set("a", 30)
    alarms.set("b", 20)
    assert alarms.next_ms == 20
    assert list(alarms.take(25)) == ["b"]
    assert alarms.waiting == ["a"]
    alarms.set("a", None)
    assert alarms.next_ms is None
    assert not list(alarms.take(100))


def test_an_alarm_that_is_set_back_to_an_earlier_time_rings_once():
    alarms = Alarms[str]()
    for at_ms in (10, 20, 10):
        alarms.set("a", at_ms)
    assert list(alarms.take(100)) == ["a"]
    assert alarms.next_ms is None


def test_alarms_that_are_moved_all_the_time_take_no_memory():
    alarms = Alarms[int]()
    for at_ms in range(10_000):
        alarms.set(at_ms % 7, 1_000_000 - at_ms)
    assert len(alarms._heap) < 100
    assert alarms.next_ms == 1_000_000 - 9_999


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 50))), max_size=300))
def test_alarms_ring_as_a_plain_dictionary_says(changes: list[tuple[int, int | None]]):
    alarms, times = Alarms[int](), dict[int, int]()
    for now_ms, (key, at_ms) in enumerate(changes):
        alarms.set(key, at_ms)
        if at_ms is None:
            times.pop(key, None)
        else:
            times[key] = at_ms
        assert alarms.next_ms == min(times.values(), default=None)
        if now_ms % 10 == 9:
            due = {known: time for known, time in times.items() if time <= 20}
            rung = list(alarms.take(20))
            assert sorted(rung) == sorted(due)
            assert [due[known] for known in rung] == sorted(due.values())
            times = {known: time for known, time in times.items() if known not in due}
