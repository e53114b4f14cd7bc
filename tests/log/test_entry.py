"""Entries: pure sealing, one form for each header, and no changed bit is taken."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import BadSignature, InvalidInput, LimitExceeded
from mlog.log import crypto, entry
from mlog.log.crypto import EpochKeys, LogKeys
from mlog.log.entry import NO_ENTRY, Header, Sealed
from mlog.log.ids import EntryId, Topic

from .support import device_keys, headers, sealed_example

OUTER_SIZE = 89
HEADER_SIZE = 95
bodies_ = st.binary(max_size=80)


def keys() -> LogKeys:
    return sealed_example()[0]


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# -- header ----------------------------------------------------------------------------------


@given(headers())
def test_a_header_decodes_to_itself(header: Header):
    encoded = header.encode()
    assert Header.decode(encoded) == header
    assert Header.decode(encoded).encode() == encoded


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_refused(encoded: bytes):
    try:
        header = Header.decode(encoded)
    except InvalidInput:
        return
    assert header.encode() == encoded


@given(headers(), st.data())
def test_a_changed_header_is_another_one_or_refused(header: Header, data: st.DataObject):
    encoded = bytearray(header.encode())
    change = data.draw(st.sampled_from(["byte", "cut", "add"]))
    if change == "cut":
        del encoded[data.draw(st.integers(0, len(encoded) - 1)) :]
    elif change == "add":
        encoded += data.draw(st.binary(min_size=1, max_size=40))
    else:
        at = data.draw(st.integers(0, len(encoded) - 1))
        encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        changed = Header.decode(bytes(encoded))
    except InvalidInput:
        return
    assert changed != header
    assert changed.encode() == encoded


def example(**fields: object) -> Header:
    header = Header(16, device_keys(0).id, bytes(8), 1, EntryId(b"p" * 32), 5, 7)  # pyright: ignore[reportArgumentType]
    return msgspec.structs.replace(header, **fields)


def some_parents(count: int) -> tuple[EntryId, ...]:
    return tuple(EntryId(bytes([n + 1]) * 32) for n in range(count))


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": 0},
        {"prev": NO_ENTRY},
        {"seq": limits.SEQ_MAX + 1},
        {"time_ms": limits.TIME_MAX_MS + 1},
        {"body_size": limits.BODY_SIZE_MAX_BYTES + 1},
        {"parents": some_parents(2)[::-1]},
        {"parents": (EntryId(b"q" * 32), EntryId(b"q" * 32))},
        {"parents": (EntryId(b"p" * 32),)},
        {"parents": (NO_ENTRY,)},
        {"parents": some_parents(limits.PARENTS_MAX + 1)},
    ],
)
def test_a_header_that_breaks_a_rule_is_neither_made_nor_read(fields: dict[str, object]):
    header = example(**fields)
    with pytest.raises(InvalidInput):
        header.encode()
    encoded = entry._HEADER.pack(
        header.kind,
        0,
        header.device,
        header.incarnation,
        header.seq,
        header.prev,
        header.time_ms,
        header.body_size,
        len(header.parents),
    ) + b"".join(header.parents)
    with pytest.raises(InvalidInput):
        Header.decode(encoded)


def test_the_largest_header_is_an_entry():
    header = example(parents=some_parents(limits.PARENTS_MAX), mid=b"m" * 16, body_size=0)
    assert Header.decode(header.encode()) == header
    log = keys()
    sealed = entry.seal_entry(log, log.current, limits.WEEK_MAX, header, b"")
    assert entry.open_header(log, sealed.outer)[0] == header


# -- sealing ---------------------------------------------------------------------------------


@given(bodies_.flatmap(lambda body: st.tuples(headers(len(body)), st.just(body))), st.integers(0, 8191))
def test_sealing_is_a_pure_function_that_opening_undoes(drawn: tuple[Header, bytes], week: int):
    header, body = drawn
    log = keys()
    sealed = entry.seal_entry(log, log.current, week, header, body)
    assert entry.seal_entry(keys(), keys().current, week, header, body) == sealed
    opened, epoch = entry.open_header(log, sealed.outer)
    assert (opened, epoch) == (header, log.current)
    assert sealed.body is not None
    assert entry.open_body(epoch, sealed.outer, sealed.body) == body
    assert entry.seal_body(epoch, sealed.outer, body, header.kind) == sealed.body
    fields = entry.parse_outer(sealed.outer)
    assert (fields.topic, fields.week, fields.body_size) == (log.topic, week, len(sealed.body))
    assert sealed.id == entry.entry_id(sealed.outer)


@given(headers(4), headers(4), st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4))
def test_salts_and_tags_differ_where_header_or_body_do(a: Header, b: Header, one: bytes, other: bytes):
    log = keys()
    sealed = [
        entry.parse_outer(entry.seal_entry(log, log.current, 1, header, body).outer)
        for header, body in {(a, one), (a, other), (b, one), (b, other)}
    ]
    for values in ({o.salt for o in sealed}, {o.tag for o in sealed}, {o.body_hash for o in sealed}):
        assert len(values) == len(sealed)


def test_no_bit_of_an_entry_can_change():
    log, sealed = sealed_example(parents=some_parents(1), mid=b"m" * 16)
    assert sealed.body is not None
    assert sealed.signature is not None
    epoch = log.current
    for bit in range(len(sealed.outer) * 8):
        changed = flip(sealed.outer, bit)
        assert entry.entry_id(changed) != sealed.id
        with pytest.raises(InvalidInput):
            entry.open_header(log, changed)
    for bit in range(len(sealed.body) * 8):
        with pytest.raises(InvalidInput):
            entry.open_body(epoch, sealed.outer, flip(sealed.body, bit))
    for bit in range(len(sealed.signature) * 8):
        with pytest.raises(BadSignature):
            entry.verify_entry_signature(
                epoch, device_keys(0).id, sealed.id, sealed.outer, flip(sealed.signature, bit)
            )


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_an_entry(outer: bytes):
    log = keys()
    for call in (lambda: entry.open_header(log, outer), lambda: entry.open_body(log.current, outer, outer)):
        with pytest.raises(InvalidInput):
            call()


@given(st.binary(min_size=OUTER_SIZE + 16, max_size=400), st.data())
def test_any_outer_bytes_parse_or_are_refused(tail: bytes, data: st.DataObject):
    # With a plausible start, so that parsing gets further.
    outer = b"\x01" + tail[1:17] + data.draw(st.integers(0, 9000)).to_bytes(2, "big") + tail[19:87]
    outer += (len(tail) - OUTER_SIZE - 16).to_bytes(2, "big") + tail[OUTER_SIZE:]
    try:
        fields = entry.parse_outer(outer)
    except InvalidInput:
        return
    assert fields.topic == outer[1:17]
    assert fields.week <= limits.WEEK_MAX
    assert (fields.salt, fields.tag, fields.body_hash) == (outer[19:35], outer[35:51], outer[51:83])


def test_an_entry_is_refused_by_another_log_and_without_its_epoch():
    _, sealed = sealed_example()
    with pytest.raises(InvalidInput, match="another log"):
        entry.open_header(LogKeys(b"o" * 32), sealed.outer)
    member = LogKeys(keys().secret)
    with pytest.raises(InvalidInput, match="epoch"):
        entry.open_header(member, sealed.outer)


def test_whoever_has_no_mac_key_makes_no_entry():
    log = keys()
    header = example(body_size=0)

    class Outsider(LogKeys):
        def mac(self, outer: bytes) -> bytes:
            return bytes(16)

    outsider = Outsider(log.secret)
    outsider.add_epoch(log.current)
    forged = entry.seal_entry(outsider, log.current, 1, header, b"")
    with pytest.raises(InvalidInput, match="no member"):
        entry.open_header(log, forged.outer)


# -- bodies against the rules ----------------------------------------------------------------


def sealed_against_the_rules(
    padded: bytes, claimed_size: int, *, salt_of: bytes | None = None, sealed_size: int | None = None
) -> tuple[LogKeys, bytes, bytes]:
    """What a member with a program of his own could send; opens, but is not as the rule says."""
    log = keys()
    epoch = log.current
    inner = example(body_size=claimed_size).encode()
    salt = epoch.salt(inner + padded[:claimed_size] if salt_of is None else salt_of, outlined=False)
    head = bytes([1]) + log.topic + bytes(2) + salt + epoch.tag(salt)
    body = crypto.seal(epoch.body_key(salt, outlined=False), padded, head)
    head += crypto.hash_with_context("sealed body", body)
    head += (len(body) if sealed_size is None else sealed_size).to_bytes(4, "big")
    head += (len(inner) + 16).to_bytes(2, "big")
    outer = head + crypto.seal(epoch.header_key(salt), inner, head)
    return log, outer + log.mac(outer), body


def test_the_example_of_a_member_s_own_program_is_taken_where_it_keeps_the_rules():
    log, outer, body = sealed_against_the_rules(b"text".ljust(32, b"\0"), 4)
    assert entry.open_body(entry.open_header(log, outer)[1], outer, body) == b"text"


@pytest.mark.parametrize(
    ("padded", "claimed_size"),
    [(b"text", 4), (b"text".ljust(33, b"\0"), 4), (b"text".ljust(64, b"\0"), 4), (b"", 0), (b"a" * 31, 40)],
)
def test_padding_of_another_size_is_refused(padded: bytes, claimed_size: int):
    log, outer, _ = sealed_against_the_rules(padded, claimed_size)
    with pytest.raises(InvalidInput):
        entry.open_header(log, outer)


def test_padding_that_is_not_zeros_is_refused():
    log, outer, body = sealed_against_the_rules(b"text".ljust(31, b"\0") + b"\1", 4)
    epoch = entry.open_header(log, outer)[1]
    with pytest.raises(InvalidInput, match="rules"):
        entry.open_body(epoch, outer, body)


def test_a_salt_of_other_content_is_refused():
    log, outer, body = sealed_against_the_rules(b"text".ljust(32, b"\0"), 4, salt_of=b"chosen")
    epoch = entry.open_header(log, outer)[1]
    with pytest.raises(InvalidInput, match="rules"):
        entry.open_body(epoch, outer, body)


def test_a_body_beyond_the_limit_is_refused_before_it_is_opened():
    log, outer, _ = sealed_against_the_rules(bytes(32), 4, sealed_size=2**31)
    with pytest.raises(LimitExceeded):
        entry.parse_outer(outer)
    with pytest.raises(LimitExceeded):
        entry.open_header(log, outer)


@given(st.integers(0, limits.BODY_SIZE_MAX_BYTES))
def test_padding_is_canonical_and_costs_at_most_12_percent(size: int):
    padded = entry.padded_size(size)
    assert padded == entry.padded_size(padded)
    assert size <= padded <= max(size * 1.12 + 1, limits.BODY_PADDING_FLOOR_BYTES)
    assert entry.padded_size(max(size - 1, 0)) <= padded


@pytest.mark.parametrize(
    ("size", "padded"),
    [(0, 32), (32, 32), (33, 36), (100, 104), (1000, 1024), (1025, 1088), (262144, 262144)],
)
def test_padding_is_padme_with_a_floor(size: int, padded: int):
    assert entry.padded_size(size) == padded


# -- signatures ------------------------------------------------------------------------------


def test_a_signature_belongs_to_its_entry_and_device():
    log, sealed = sealed_example()
    _, other = sealed_example(b'{"text":"other"}')
    epoch = log.current

    def check(of: Sealed, index: int, by: EpochKeys = epoch, signature: Sealed = sealed) -> None:
        assert signature.signature is not None
        entry.verify_entry_signature(by, device_keys(index).id, of.id, of.outer, signature.signature)

    check(sealed, 0)
    for of, index, by in ((other, 0, epoch), (sealed, 1, epoch), (sealed, 0, log.epochs[0])):
        with pytest.raises(BadSignature):
            check(of, index, by)


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_as_a_sealed_signature(sealed_signature: bytes):
    log, sealed = sealed_example()
    with pytest.raises(BadSignature):
        entry.verify_entry_signature(
            log.current, device_keys(0).id, sealed.id, sealed.outer, sealed_signature
        )


# -- tails -----------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_a_tail_gives_the_same_entry_again(body: bytes):
    keys, sealed = sealed_example(body)
    for has_body in (True, False):
        sent = msgspec.structs.replace(sealed, body=sealed.body if has_body else None)
        tail = entry.to_tail(sent)
        assert len(tail) == len(sealed.outer) - (49 if has_body else 17)
        assert entry.from_tail(keys.topic, tail, sent.body, sent.signature) == sent


def test_the_tail_of_another_version_is_all_of_it():
    keys, sealed = sealed_example()
    outer = b"\x02" + sealed.outer[1:]
    later = Sealed(entry.entry_id(outer), outer, sealed.body)
    tail = entry.to_tail(later)
    assert tail == b"\xff" + outer
    assert entry.from_tail(keys.topic, tail, sealed.body) == later


@pytest.mark.parametrize("tail", [b"\xff", b"\xff\x01" + bytes(200), b"", bytes(33)])
def test_what_is_no_tail_is_refused(tail: bytes):
    with pytest.raises(InvalidInput):
        entry.from_tail(Topic(bytes(16)), tail, b"body")


@given(st.binary(max_size=300), st.none() | st.binary(max_size=40))
def test_any_tail_gives_bytes_or_is_refused(tail: bytes, body: bytes | None):
    try:
        sealed = entry.from_tail(Topic(bytes(16)), tail, body)
    except InvalidInput:
        return
    assert sealed.id == entry.entry_id(sealed.outer)
    assert entry.to_tail(sealed) == tail
