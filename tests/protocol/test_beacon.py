"""Announcements tell devices that know each other where they are, and nobody else anything."""

from __future__ import annotations

import itertools
import json
import random
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import InvalidInput
from mlog.log.crypto import DeviceKeys
from mlog.log.ids import DeviceId
from mlog.protocol.beacon import (
    TAG_SIZE,
    Announcement,
    PairKeys,
    beacon_tags,
    decode_txt,
    decode_waiting,
    encode_txt,
    encode_waiting,
    hour_of,
    pair_keys,
    random_instance,
    recognise,
)

ADDRESSES = ("192.0.2.7:7367", "[2001:db8::7]:7367")
HOUR = 472_222
INSTANCE = "abcdefgh2345"


class Seeded:
    """Entropy that replays."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def random(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def wrap(self, recipient: bytes, secret: bytes, info: bytes) -> bytes:
        raise NotImplementedError


def device(name: int) -> DeviceKeys:
    one = bytes([name])
    return DeviceKeys(one * 32, b"n" + one * 31, one * 32)


ANN, BOB, EVE = device(1), device(2), device(3)


def keys_of(own: DeviceKeys, *others: DeviceKeys) -> dict[DeviceId, PairKeys]:
    return {other.id: pair_keys(own.noise_seed, other.noise_public) for other in others}


def announced(
    own: DeviceKeys,
    *others: DeviceKeys,
    instance: str = INSTANCE,
    addresses: tuple[str, ...] = ADDRESSES,
    hour: int = HOUR,
) -> Announcement:
    pairs = list(keys_of(own, *others).values())
    return Announcement(addresses, tuple(beacon_tags(pairs, own.noise_seed, instance, addresses, hour)))


# -- who is recognised -----------------------------------------------------------------------


def test_both_sides_have_the_same_keys_the_other_way_round() -> None:
    ann = pair_keys(ANN.noise_seed, BOB.noise_public)
    bob = pair_keys(BOB.noise_seed, ANN.noise_public)
    assert ann == (bob.recognising, bob.announcing)
    assert ann.announcing != ann.recognising


def test_each_known_device_recognises_the_announcement_and_a_stranger_does_not() -> None:
    announcement = announced(ANN, BOB, EVE)
    assert recognise(keys_of(BOB, ANN, EVE), INSTANCE, announcement, HOUR) == [ANN.id]
    assert recognise(keys_of(EVE, BOB, ANN), INSTANCE, announcement, HOUR) == [ANN.id]
    stranger = device(4)
    assert recognise(keys_of(stranger, ANN, BOB, EVE), INSTANCE, announcement, HOUR) == []


def test_a_device_that_is_no_longer_known_does_not_recognise_the_announcement() -> None:
    assert recognise(keys_of(EVE, ANN), INSTANCE, announced(ANN, BOB), HOUR) == []


def test_a_device_recognises_nobody_in_its_own_announcement() -> None:
    assert recognise(keys_of(ANN, BOB, EVE), INSTANCE, announced(ANN, BOB, EVE), HOUR) == []


@pytest.mark.parametrize(
    ("late", "expected"), [(-2, []), (-1, [ANN.id]), (0, [ANN.id]), (1, [ANN.id]), (2, [])]
)
def test_clocks_may_be_an_hour_apart(late: int, expected: list[DeviceId]) -> None:
    assert recognise(keys_of(BOB, ANN), INSTANCE, announced(ANN, BOB), HOUR + late) == expected


def test_the_first_hour_of_all_is_no_exception() -> None:
    assert hour_of(-1) == hour_of(0) == hour_of(3_599_999) == 0
    assert hour_of(3_600_000) == 1
    assert recognise(keys_of(BOB, ANN), INSTANCE, announced(ANN, BOB, hour=0), 0) == [ANN.id]


def test_an_announcement_copied_to_another_address_or_name_is_not_recognised() -> None:
    announcement, known = announced(ANN, BOB), keys_of(BOB, ANN)
    elsewhere = [
        ("192.0.2.8:7367", ADDRESSES[1]),
        ("192.0.2.7:7368", ADDRESSES[1]),
        ADDRESSES[:1],
        ADDRESSES[::-1],
    ]
    for addresses in elsewhere:
        assert recognise(known, INSTANCE, Announcement(addresses, announcement.tags), HOUR) == []
    assert recognise(known, "abcdefgh2346", announcement, HOUR) == []


@pytest.mark.parametrize(
    "instance",
    ["", "abcdefgh234", "abcdefgh23456", "ABCDEFGH2345", "abcdefgh2345ä", "abcdefgh23 (2)", "ä" * 12],
)
def test_a_name_of_another_form_is_not_recognised(instance: str) -> None:
    assert recognise(keys_of(BOB, ANN), instance, announced(ANN, BOB), HOUR) == []


@pytest.mark.parametrize("key", [bytes(32), bytes([1]) + bytes(31), b"", b"short", bytes(33)])
def test_a_public_key_that_no_device_can_have_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidInput):
        pair_keys(ANN.noise_seed, key)


# -- what a stranger sees --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "count"),
    [(0, 4), (1, 4), (4, 4), (5, 8), (8, 8), (9, 16), (17, 32), (32, 32), (33, 64), (64, 64), (70, 64)],
)
def test_the_number_of_tags_is_padded(devices: int, count: int) -> None:
    pairs = [PairKeys(bytes([n]) * 32, bytes(32)) for n in range(devices)]
    tags = beacon_tags(pairs, ANN.noise_seed, INSTANCE, ADDRESSES, HOUR)
    assert len(tags) == len(set(tags)) == count
    assert {len(tag) for tag in tags} == {TAG_SIZE}


def test_tags_are_in_an_order_that_tells_nothing() -> None:
    pairs = list(keys_of(ANN, BOB, EVE, device(4), device(5), device(6)).values())
    expected = beacon_tags(pairs, ANN.noise_seed, INSTANCE, ADDRESSES, HOUR)
    assert expected == sorted(expected)
    for order in itertools.islice(itertools.permutations(pairs), 20):
        assert beacon_tags(order, ANN.noise_seed, INSTANCE, ADDRESSES, HOUR) == expected


def test_nothing_is_the_same_in_announcements_of_another_hour_name_or_address() -> None:
    base = announced(ANN, BOB, EVE)
    for other in (
        announced(ANN, BOB, EVE, hour=HOUR + 1),
        announced(ANN, BOB, EVE, instance="abcdefgh2346"),
        announced(ANN, BOB, EVE, addresses=ADDRESSES[:1]),
        announced(BOB, ANN, EVE),
    ):
        assert not set(base.tags) & set(other.tags)


def test_no_public_key_is_enough_to_make_a_tag() -> None:
    tags = set(announced(ANN, BOB).tags)
    for seed, peer in ((EVE, ANN), (EVE, BOB)):
        assert not recognise(keys_of(seed, peer), INSTANCE, Announcement(ADDRESSES, tuple(tags)), HOUR)


def test_the_same_announcement_again_is_the_same_bytes() -> None:
    assert announced(ANN, BOB) == announced(ANN, BOB)


def test_names_are_random_and_fit_a_label_of_dns() -> None:
    names = {random_instance(Seeded(seed)) for seed in range(50)}
    assert len(names) == 50
    assert random_instance(Seeded(1)) in names
    for name in names:
        assert len(name) == 12
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz234567")


# -- TXT records -----------------------------------------------------------------------------

ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda ip: not (ip.is_unspecified or ip.is_multicast or (ip.version == 6 and ip.is_link_local))
)
sockets = st.builds(
    lambda ip, port: f"{ip}:{port}" if ip.version == 4 else f"[{ip}]:{port}", ips, st.integers(1, 65_535)
)


@given(
    st.lists(sockets, min_size=1, max_size=limits.BEACON_ADDRESSES_MAX),
    st.sets(st.binary(min_size=8, max_size=8), min_size=1, max_size=limits.BEACON_TAGS_MAX),
)
def test_a_record_comes_back_as_it_was(addresses: list[str], tags: set[bytes]) -> None:
    announcement = Announcement(tuple(addresses), tuple(sorted(tags)))
    assert decode_txt(encode_txt(announcement)) == announcement


def test_the_largest_record_fits_strings_of_dns_and_one_packet() -> None:
    addresses = tuple(f"[2001:db8::{n:x}]:7367" for n in range(1, limits.BEACON_ADDRESSES_MAX + 1))
    pairs = [PairKeys(bytes([n]) * 32, bytes(32)) for n in range(limits.BEACON_TAGS_MAX)]
    tags = beacon_tags(pairs, ANN.noise_seed, INSTANCE, addresses, HOUR)
    strings = [key + b"=" + value for key, value in encode_txt(Announcement(addresses, tuple(tags))).items()]
    assert max(map(len, strings)) <= 255
    assert sum(1 + len(string) for string in strings) == 687


def test_the_record_survives_the_zeroconf_library() -> None:
    from zeroconf import ServiceInfo

    announcement = announced(ANN, BOB)
    name = f"{INSTANCE}._mlog._tcp.local."
    sent = ServiceInfo("_mlog._tcp.local.", name, port=7367, properties=dict(encode_txt(announcement)))
    received = ServiceInfo("_mlog._tcp.local.", name, port=7367, properties=sent.text)
    assert decode_txt(received.properties) == announcement


GOOD = encode_txt(announced(ANN, BOB))
hostile = st.dictionaries(
    st.one_of(st.sampled_from([b"v", b"a", b"t0", b"t1", b"t2", b"t3", b"t4"]), st.binary(max_size=8)),
    st.one_of(
        st.none(),
        st.just(b"1"),
        st.just(GOOD[b"a"]),
        st.binary(max_size=255),
        st.integers(1, 20).map(lambda count: bytes(8 * count)),
    ),
)


@given(hostile)
def test_a_hostile_record_is_read_or_refused_and_never_recognised(strings: dict[bytes, bytes | None]) -> None:
    try:
        announcement = decode_txt({b"v": b"1", **strings})
    except InvalidInput:
        return
    assert 0 < len(announcement.tags) <= limits.BEACON_TAGS_MAX
    assert 0 < len(announcement.addresses) <= limits.BEACON_ADDRESSES_MAX
    assert recognise(keys_of(BOB, ANN), INSTANCE, announcement, HOUR) == []
    assert decode_txt(encode_txt(announcement)) == announcement


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_one_flipped_bit_is_refused_or_not_recognised_unless_it_is_in_padding(
    key: bytes, data: st.DataObject
) -> None:
    changed = bytearray(GOOD[key])
    bit = data.draw(st.integers(0, len(changed) * 8 - 1))
    changed[bit // 8] ^= 1 << bit % 8
    try:
        announcement = decode_txt({**GOOD, key: bytes(changed)})
    except InvalidInput:
        return
    own_tag = set(beacon_tags([], ANN.noise_seed, INSTANCE, ADDRESSES, HOUR)) ^ set(announced(ANN, BOB).tags)
    hit = recognise(keys_of(BOB, ANN), INSTANCE, announcement, HOUR)
    assert hit == ([ANN.id] if key == b"t0" and own_tag & set(announcement.tags) else [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({b"v": b"2"}, "another version"),
        ({b"v": None}, "another version"),
        ({b"t0": None}, "without tags"),
        ({b"t0": b""}, "tags of another size"),
        ({b"t0": bytes(7)}, "tags of another size"),
        ({b"t0": bytes(136)}, "tags of another size"),
        ({b"t1": b"x"}, "tags of another size"),
        ({b"a": None}, "without addresses"),
        ({b"a": b""}, "without addresses"),
        ({b"a": b"\x04\x7f\x00\x00\x01"}, "addresses of another form"),
        ({b"a": b"\x04\x7f\x00\x00\x01\x00\x00"}, "addresses of another form"),
        ({b"a": b"\x05\x7f\x00\x00\x01\x01\x1c\xc7"}, "addresses of another form"),
        ({b"a": b"\x04\xc0\x00\x02\x07\x1c\xc7" * 9}, "addresses of another form"),
        ({b"a": bytes(153)}, "too many"),
        ({b"a": b"\x04\x00\x00\x00\x00\x1c\xc7"}, "can be reached at"),
        ({b"a": b"\x04\xe0\x00\x00\xfb\x1c\xc7"}, "can be reached at"),
        ({b"a": b"\x10\xfe\x80" + bytes(13) + b"\x01\x1c\xc7"}, "can be reached at"),
    ],
)
def test_a_record_of_another_form_is_refused(change: dict[bytes, bytes | None], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        decode_txt({**GOOD, **change})


@pytest.mark.parametrize(
    "address",
    [
        *("", "192.0.2.7", "192.0.2.7:", "192.0.2.7:0", "192.0.2.7:65536", "192.0.2.7:-1"),
        *("192.0.2.7:" + "9" * 5000, "desktop.local:7367", "2001:db8::7:7367", "[192.0.2.7]:7367"),
        *("[2001:db8::7]", "0.0.0.0:7367", "[::]:7367", "224.0.0.251:7367", "[fe80::1]:7367"),
        "[fe80::1%eth0]:7367",
    ],
)
def test_an_address_that_names_no_device_is_not_announced(address: str) -> None:
    with pytest.raises(InvalidInput):
        beacon_tags([], ANN.noise_seed, INSTANCE, [address], HOUR)


@pytest.mark.parametrize("count", [0, limits.BEACON_ADDRESSES_MAX + 1])
def test_no_address_and_too_many_are_not_announced(count: int) -> None:
    with pytest.raises(InvalidInput):
        beacon_tags([], ANN.noise_seed, INSTANCE, ["192.0.2.7:7367"] * count, HOUR)


# -- vectors, and the text of the specification written down a second time -------------------

_VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "vectors" / "beacon.json").read_text(encoding="utf-8")
)


def derived(context: str, data: bytes) -> bytes:
    return blake3(data, derive_key_context="mlog v1 " + context).digest()


def test_the_text_of_the_specification_makes_the_vectors() -> None:
    own = X25519PrivateKey.from_private_bytes(bytes.fromhex(_VECTORS["noise_seed"]))
    packed = b""
    for address in _VECTORS["addresses"]:
        host, _, port = address.rpartition(":")
        raw = ip_address(host.strip("[]")).packed
        packed += bytes([len(raw)]) + raw + int(port).to_bytes(2, "big")
    assert _VECTORS["txt"]["a"] == packed.hex()
    content = _VECTORS["instance"].encode() + _VECTORS["hour"].to_bytes(8, "big") + packed
    tags: list[bytes] = []
    for peer in _VECTORS["peers"]:
        public = bytes.fromhex(peer["noise_public"])
        pair = derived("beacon pair", own.exchange(X25519PublicKey.from_public_bytes(public)))
        announcing = blake3(own.public_key().public_bytes_raw(), key=pair).digest()
        assert (announcing.hex(), blake3(public, key=pair).hexdigest()) == (
            peer["announcing"],
            peer["recognising"],
        )
        tags.append(blake3(content, key=announcing).digest(8))
        assert peer["tag"] == tags[-1].hex()
    filler = derived("beacon filler", own.private_bytes_raw())
    tags += [blake3(content + n.to_bytes(8, "big"), key=filler).digest(8) for n in range(8 - len(tags))]
    assert _VECTORS["txt"]["t0"] == b"".join(sorted(tags)).hex()


def test_the_vectors_are_what_the_code_makes_and_recognises() -> None:
    seed, addresses = bytes.fromhex(_VECTORS["noise_seed"]), tuple(_VECTORS["addresses"])
    pairs = [pair_keys(seed, bytes.fromhex(peer["noise_public"])) for peer in _VECTORS["peers"]]
    shown = [(pair.announcing.hex(), pair.recognising.hex()) for pair in pairs]
    assert shown == [(peer["announcing"], peer["recognising"]) for peer in _VECTORS["peers"]]
    tags = beacon_tags(pairs, seed, _VECTORS["instance"], addresses, _VECTORS["hour"])
    record = {
        key.decode(): value.hex() for key, value in encode_txt(Announcement(addresses, tuple(tags))).items()
    }
    assert record == _VECTORS["txt"]


@pytest.mark.parametrize("case", _VECTORS["invalid"], ids=lambda case: case["note"])
def test_a_record_that_the_vectors_call_invalid(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        decode_txt({key.encode(): bytes.fromhex(value) for key, value in case["txt"].items()})


def test_a_device_that_waits_to_be_paired_says_what_the_vector_says() -> None:
    addresses = tuple(_VECTORS["addresses"])
    expected = {key.encode(): bytes.fromhex(value) for key, value in _VECTORS["waits_to_be_paired"].items()}
    assert encode_waiting(addresses) == expected
    assert decode_waiting(expected) == addresses
