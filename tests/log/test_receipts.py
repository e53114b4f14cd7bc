"""A receipt's proof holds for one log, and for nothing that its device did not sign."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import BadSignature, InvalidInput, LimitExceeded
from mlog.log.ids import Topic
from mlog.log.receipts import Statement, check_receipt, make_receipts, prove, sign_statements
from tests.log.support import device_keys


def _statement(n: int = 0) -> Statement:
    return Statement(
        topic=Topic(n.to_bytes(16, "big")),
        first_week=n % 8192,
        entries=n + 2,
        bodies=n,
        entries_root=bytes([1]) * 32,
        bodies_root=bytes([2]) * 32,
        time_ms=5,
        expires_ms=6,
    )


@pytest.mark.parametrize("count", [*range(1, 18), 100])
def test_each_statement_of_a_tree_of_any_size_is_proved(count: int) -> None:
    statements = [_statement(n) for n in range(count)]
    proofs = make_receipts(device_keys(0), statements)
    assert [check_receipt(proof) for proof in proofs] == [(device_keys(0).id, s) for s in statements]


def test_a_proof_grows_with_the_logarithm_of_the_number_of_logs() -> None:
    statements = [_statement(n) for n in range(1000)]
    assert (
        max(len(proof) for proof in make_receipts(device_keys(0), statements)) == 32 + 114 + 8 + 10 * 32 + 64
    )


def test_statements_in_another_order_or_of_another_device_are_not_proved() -> None:
    statements = [_statement(n) for n in range(3)]
    signature = sign_statements(device_keys(0), statements)
    for device, claimed in ((0, statements[::-1]), (0, statements[:2]), (1, statements)):
        with pytest.raises(BadSignature):
            prove(device_keys(device).id, claimed, signature)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))), st.data())
def test_one_changed_bit_anywhere_is_refused(place: tuple[int, int], data: st.DataObject) -> None:
    count, index = place
    proof = bytearray(make_receipts(device_keys(0), [_statement(n) for n in range(count)])[index])
    proof[data.draw(st.integers(0, len(proof) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InvalidInput):
        check_receipt(bytes(proof))


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_with_a_documented_error(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        check_receipt(data)


def test_more_logs_than_an_offer_names_are_not_signed() -> None:
    with pytest.raises(LimitExceeded):
        sign_statements(device_keys(0), [_statement()] * (limits.OFFERED_LOGS_MAX + 1))


@pytest.mark.parametrize(
    "fields",
    [
        {"first_week": limits.WEEK_MAX + 1},
        {"entries": limits.SEQ_MAX + 1},
        {"bodies": 3},
        {"expires_ms": 4},
        {"expires_ms": limits.TIME_MAX_MS + 1},
    ],
)
def test_a_signed_statement_that_cannot_be_is_refused(fields: dict[str, int]) -> None:
    (proof,) = make_receipts(device_keys(0), [msgspec.structs.replace(_statement(), **fields)])
    with pytest.raises(InvalidInput):
        check_receipt(proof)
