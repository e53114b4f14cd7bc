"""A change of the private state is read within bounds, and only in the one form that automerge writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from automerge.core import ROOT, Document, ScalarType
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import InvalidInput, LimitExceeded
from mlog.log.private_change import Change, Op, Value, parse_change
from tests.log.private_changes import ACTOR, ONE_PUT, OTHER, POISON, PREDS, change, chunk, raw, with_columns

_VALUES = st.one_of(
    st.booleans(), st.integers(0, limits.SEQ_MAX), st.text(max_size=40), st.binary(max_size=40), st.none()
)


def _scalar(value: Value) -> tuple[Any, Any]:
    kind = {bool: ScalarType.Boolean, int: ScalarType.Uint, str: ScalarType.Str, bytes: ScalarType.Bytes}
    return kind[type(value)], value


def _automerge(document: Document, edits: dict[str, Value | None]) -> Any:
    before = document.get_heads()
    with document.transaction() as transaction:
        for key, value in edits.items():
            if value is None:
                transaction.delete(ROOT, key)
            else:
                transaction.put(ROOT, key, *_scalar(value))
    return next(iter(document.get_changes(before)), None)


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), _VALUES, min_size=1), max_size=6), st.randoms())
def test_what_automerge_writes_is_read_and_comes_out_byte_for_byte(
    history: list[dict[str, Value | None]], chance: Any
) -> None:
    documents = [Document(ACTOR), Document(OTHER)]
    for edits in history:
        writer, other = chance.sample(documents, 2)
        made = _automerge(writer, edits)
        if made is None:
            continue
        parsed = parse_change(bytes(made.raw_bytes))
        assert parsed.hash == bytes(made.hash)
        assert parsed.actor == bytes(made.actor_id)
        assert (parsed.seq, parsed.start_op, parsed.max_op) == (made.seq, made.start_op, made.max_op)
        assert parsed.deps == tuple(bytes(dep) for dep in made.deps)
        assert {op.key: op.value for op in parsed.ops}.items() <= edits.items()
        if chance.random() < 0.5:
            other.merge(writer)


@pytest.mark.parametrize("encoded", POISON.values(), ids=POISON.keys())
def test_poison_is_refused_without_work(encoded: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(InvalidInput):
        parse_change(encoded)
    assert time.process_time() - begun < 1


def test_the_shortest_change() -> None:
    parsed = parse_change(raw())
    assert parsed == Change(parsed.hash, ACTOR, 1, 1, (), (Op("a", True),))
    assert parsed.max_op == 1


def test_ops_keep_their_values_and_what_they_replace() -> None:
    ops = (
        Op("text", "é" * 100, ((3, OTHER), (4, ACTOR))),
        Op("bytes", b"\0\1"),
        Op("count", 2**50, ((1, OTHER),)),
        Op("gone", None, ((2, ACTOR),)),
        Op("flag", False),
    )
    deps = (bytes([7]) * 32, bytes([8]) * 32)
    parsed = parse_change(change(*ops, seq=3, start=9, deps=deps, others=(OTHER,)))
    assert parsed.ops == ops
    assert (parsed.deps, parsed.seq, parsed.start_op, parsed.max_op) == (deps, 3, 9, 13)


def test_one_flipped_bit_is_refused() -> None:
    encoded = change(Op("label/trip", True), Op("draft", "tent"), seq=2, start=4, deps=(b"7" * 32,))
    for at in range(len(encoded) * 8):
        flipped = bytearray(encoded)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(InvalidInput):
            parse_change(bytes(flipped))


def test_every_part_of_a_change_is_refused() -> None:
    encoded = change(Op("a", "tent"), Op("b", b"\1", ((1, ACTOR),)), start=2)
    for size in range(len(encoded)):
        with pytest.raises(InvalidInput):
            parse_change(encoded[:size])


@pytest.mark.parametrize(
    "made",
    [
        lambda: change(*(Op(f"{n}", True) for n in range(limits.PRIVATE_OPS_MAX + 1))),
        lambda: change(Op("a", "x" * limits.PRIVATE_CHANGE_SIZE_MAX_BYTES)),
        lambda: change(Op("a" * (limits.PRIVATE_KEY_SIZE_MAX_BYTES + 1), True)),
        lambda: change(Op("", True)),
        lambda: change(Op("a", 2**53)),
        lambda: change(
            Op("a", True), deps=tuple(n.to_bytes(32, "big") for n in range(limits.PRIVATE_DEPS_MAX + 1))
        ),
        lambda: change(
            Op("a", True, tuple((n, ACTOR) for n in range(1, limits.PRIVATE_DEPS_MAX + 2))), start=999
        ),
        lambda: change(Op("a", True), seq=2**31),
    ],
    ids=["ops", "size", "key", "no key", "count", "deps", "preds", "seq"],
)
def test_what_is_beyond_a_bound_is_refused(made: Callable[[], bytes]) -> None:
    with pytest.raises(LimitExceeded):
        parse_change(made())


def test_as_much_as_a_bound_allows_is_read() -> None:
    keys = [f"{n:0{limits.PRIVATE_KEY_SIZE_MAX_BYTES // 8}}" for n in range(limits.PRIVATE_OPS_MAX)]
    assert len(parse_change(change(*(Op(key, True) for key in keys))).ops) == limits.PRIVATE_OPS_MAX
    long = "x" * limits.TEXT_SIZE_MAX_BYTES
    assert parse_change(change(Op("draft", long))).ops[0].value == long


def test_what_is_replaced_must_be_older_than_what_replaces_it() -> None:
    with pytest.raises(InvalidInput, match="not there"):
        parse_change(change(Op("a", True, ((5, ACTOR),)), start=5))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_change_or_a_documented_error(content: bytes) -> None:
    for encoded in (content, chunk(content)):
        try:
            parsed = parse_change(encoded)
        except InvalidInput:
            continue
        assert len(parsed.ops) <= limits.PRIVATE_OPS_MAX


@given(
    st.dictionaries(
        st.sampled_from(["key", "insert", "action", "meta", "raw", "preds", "pred_actor", "pred_op"]),
        st.binary(min_size=1, max_size=12),
    )
)
def test_any_columns_give_a_change_or_a_documented_error(columns: dict[str, bytes]) -> None:
    try:
        parse_change(with_columns(**columns))
    except InvalidInput:
        return


def test_a_change_without_the_column_of_preds_is_refused() -> None:
    with pytest.raises(InvalidInput):
        parse_change(raw({column: data for column, data in ONE_PUT.items() if column != PREDS}))
