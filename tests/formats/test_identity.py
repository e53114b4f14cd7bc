"""Identities are stable and unambiguous; equal ones are counted exactly in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import StoreError
from mlog.formats.identity import Occurrences, SpillingMap, again, of_id, of_line, part
from mlog.log.ids import MessageId


def test_identities_stay_what_they_are():
    assert of_id("telegram:private_group:7", "12").hex() == "f95e442be4af248cff2d7432045b68c5"
    assert of_line("1577959445000s", 16, "ann", "hi").hex() == "82a5f4be036b375ea1703f9968fc8817"
    assert again(MessageId(bytes(16)), 2).hex() == "8c8c864c33d13e8d5131a96fae865411"
    assert part(MessageId(bytes(16)), 2).hex() == "41c57e82da0030e6519c577da2c8b0d0"


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_other_fields_have_another_identity(one: tuple[str, str], two: tuple[str, str]):
    assert (of_id(*one) == of_id(*two)) == (one == two)
    assert of_line("0", 16, *one) != of_id(*one)


def test_first_of_equal_lines_has_its_own_identity():
    first = of_line("0m", 16, "ann", "hi")
    assert len({again(first, nth) for nth in range(5)} | {part(first, 1)}) == 6
    assert again(first, 0) == first


@given(st.lists(st.tuples(st.integers(-2, 5), st.integers(0, 30))), st.integers(1, 8))
def test_spilling_map_is_a_dict(pairs: list[tuple[int, int]], entries_max: int):
    spilling = SpillingMap(entries_max)
    plain: dict[tuple[int, bytes], int] = {}
    for group, number in pairs:
        key = number.to_bytes(16)
        assert spilling.get(key, group) == plain.get((group, key))
        plain[group, key] = plain.get((group, key), 0) + 1
        spilling.put(key, plain[group, key], group)


def test_counts_stay_exact_when_days_come_back():
    occurrences = Occurrences()
    seen: Counter[int] = Counter()
    for step in range(60_000):
        number = step * 7919 % 25_013
        day = (step // 10_000) % 3
        key = MessageId((number * 4 + day).to_bytes(16))
        assert occurrences.nth(key, day) == seen[number * 4 + day]
        seen[number * 4 + day] += 1


def test_memory_does_not_grow_with_the_count():
    def peak(count: int) -> int:
        occurrences = Occurrences()
        tracemalloc.start()
        for number in range(count):
            occurrences.nth(MessageId(number.to_bytes(16)), 0)
        measured = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return measured

    peak(1)
    assert peak(120_000) <= 1.1 * peak(40_000)


def test_full_temporary_folder_is_a_store_error(monkeypatch: pytest.MonkeyPatch):
    import sqlite3

    def refuse(*_args: object, **_options: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with pytest.raises(StoreError, match="database or disk is full"):
        SpillingMap(1).put(bytes(16), 1)
