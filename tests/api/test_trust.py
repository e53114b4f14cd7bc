"""Two homes of one person come to know each other by files, and share everything once they meet."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mlog import limits
from mlog.api import devices, trust
from mlog.api.home import Home
from mlog.api.trust import Outcome, TrustFile
from mlog.errors import InvalidInput, StoreError, UserError
from mlog.log import belonging, crypto, grants
from mlog.log.bodies import Kind
from mlog.log.crypto import DeviceKeys
from mlog.log.peers import PeerRow
from mlog.log.store import LogKind
from tests.api.conftest import Clock
from tests.log.support import device_keys

_DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def older(tmp_path: Path, clock: Clock) -> Iterator[Home]:
    with Home(tmp_path / "older", person="ann", clock_ms=clock) as home:
        yield home


@pytest.fixture
def younger(tmp_path: Path, clock: Clock, older: Home) -> Iterator[Home]:
    del older  # It has to be there first.
    with Home(tmp_path / "younger", person="login", clock_ms=clock) as home:
        yield home


def _meet(one: Home, other: Home, seed: int | None = None) -> None:
    """What sessions between two homes do, until there is nothing more to say."""
    chance = None if seed is None else random.Random(seed)
    for _ in range(10):
        moved = sum(_give(*pair, chance) for pair in ((one, other), (other, one)))
        if not moved:
            return
    pytest.fail("two homes never came to an end")


def _give(giver: Home, taker: Home, chance: random.Random | None) -> int:
    moved, binding, now = 0, bytes(32), taker.now_ms()
    theirs = {state.keys.topic: state.n for state in taker.replica.logs()}
    sealed = grants.grant_for(giver.replica, taker.replica.device_id, theirs.keys(), binding)
    if sealed is not None:
        moved += len(grants.accept_grant(taker.replica, giver.replica.device_id, sealed, binding, now))
    for state in giver.replica.logs():
        n = next((s.n for s in taker.replica.logs() if s.keys.topic == state.keys.topic), None)
        if n is None:
            continue
        rows = [r for r in giver.store.arrivals(state.n, 0, 1000) if not taker.store.find(n, [r.id])]
        if chance is not None:
            chance.shuffle(rows)
        taken = taker.replica.receive(n, giver.replica.sealed_of(state.n, rows, bodies=True), now)
        assert taken.refused == ()
        moved += taken.stored
    return moved


def _file(home: Home) -> Path:
    return home.path.with_suffix(".trust")


def _exchange(older: Home, younger: Home) -> None:
    for home in (older, younger):
        trust.export_trust(home, _file(home))
    assert trust.import_trust(older, _file(younger)).outcome == Outcome.ADMITTED
    assert trust.import_trust(younger, _file(older)).outcome == Outcome.JOINS


def _texts(home: Home, title: str) -> list[str]:
    return [message.text for message in home.messages(home.conversation(title).n)]


# -- the whole exchange ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_after_both_files_two_homes_are_one_person_s(
    seed: int | None, older: Home, younger: Home, tmp_path: Path
):
    garden, boat = older.new("garden"), younger.new("boat")
    older.send(garden.n, "the beans are up")
    younger.send(boat.n, "who sails?")
    _exchange(older, younger)
    _meet(older, younger, seed)
    younger.send(younger.conversation("garden").n, "hurrah")
    older.send(older.conversation("boat").n, "me")
    _meet(older, younger, seed)
    for home in (older, younger):
        assert _texts(home, "garden") == ["the beans are up", "hurrah"]
        assert _texts(home, "boat") == ["who sails?", "me"]
        assert {message.author.name for message in home.messages(home.conversation("boat").n)} == {"ann"}
        assert home.verify(signatures=True) == []
        assert [status.kind for status in home.status()].count(LogKind.PERSON) == 1
    assert {s.root for s in older.status()} == {s.root for s in younger.status()}


def test_each_edits_and_erases_what_the_other_wrote(older: Home, younger: Home, tmp_path: Path):
    garden = older.new("garden")
    older.send(garden.n, "the baens are up")
    older.send(garden.n, "a secret")
    _exchange(older, younger)
    _meet(older, younger)
    first, second = younger.messages(younger.conversation("garden").n)
    younger.edit(first, "the beans are up")
    younger.erase(second)
    _meet(older, younger)
    assert _texts(older, "garden") == _texts(younger, "garden") == ["the beans are up", ""]


def test_an_older_home_that_a_revoked_device_brought_is_none_of_the_person_s_and_shown_as_such(
    older: Home, younger: Home, tmp_path: Path, clock: Clock
):
    with (
        Home(tmp_path / "phone", person="phone", clock_ms=clock) as phone,
        Home(tmp_path / "tablet", person="tablet", clock_ms=clock) as tablet,
    ):
        for third in (phone, tablet):
            _exchange(younger, third)
            _meet(younger, third)
            _meet(younger, phone)
        _exchange(older, phone)
        for one, other in ((older, phone), (phone, tablet)) * 2:
            _meet(one, other)
        assert older.replica.device_id in {d.device for d in devices.devices(tablet) if d.member}
        devices.revoke_device(younger, phone.replica.device_id.hex())
        _meet(younger, tablet)
        shown = {d.device: d for d in devices.devices(tablet)}
        assert shown[older.replica.device_id].put_out
        assert shown[phone.replica.device_id].revoked
        assert [d.device for d in shown.values() if d.member] == [
            younger.replica.device_id,
            tablet.replica.device_id,
        ]
        assert trust.import_trust(tablet, _file(older)).outcome == Outcome.JOINS


def test_a_third_device_shares_everything_with_both(older: Home, younger: Home, tmp_path: Path, clock: Clock):
    older.new("garden")
    _exchange(older, younger)
    _meet(older, younger)
    with Home(tmp_path / "third", person="phone", clock_ms=clock) as third:
        _exchange(younger, third)
        _meet(younger, third)
        _meet(older, younger)
        assert len([device for device in devices.devices(older) if device.member and device.confirmed]) == 3
        third.send(third.conversation("garden").n, "from the phone")
        _meet(older, third)
        assert _texts(older, "garden") == ["from the phone"]


def test_a_home_that_was_opened_again_goes_on(older: Home, tmp_path: Path, clock: Clock):
    older.new("garden")
    with Home(tmp_path / "younger", clock_ms=clock) as younger:
        _exchange(older, younger)
        _meet(older, younger)
    with Home(younger.path, clock_ms=clock) as again:
        again.send(again.conversation("garden").n, "hello")
        _meet(older, again)
    assert _texts(older, "garden") == ["hello"]
    rows = [
        row for row in older.store.arrivals(older.conversation("garden").n, 0, 100) if row.kind == Kind.KEY
    ]
    assert len(rows) == 2, "one epoch for one device, and one for two"


# -- files -----------------------------------------------------------------------------------


def test_a_file_holds_no_secret(older: Home, tmp_path: Path):
    trust.export_trust(older, tmp_path / "file", ["desk.example:7367", "[2001:db8::1]:7367"])
    content = (tmp_path / "file").read_bytes()
    file = trust.decode_trust(content)
    keys: DeviceKeys = older.replica.device_keys
    secrets = [*keys, *(state.keys.secret for state in older.replica.logs())]
    assert not any(secret in value for secret in secrets for value in (file.signed(), content))
    assert file.addresses == ("desk.example:7367", "[2001:db8::1]:7367")
    assert file.device == keys.id
    assert set(json.loads(content)) == set(TrustFile.__struct_fields__)


def test_import_keeps_the_addresses_and_again_changes_nothing(older: Home, younger: Home, tmp_path: Path):
    trust.export_trust(younger, tmp_path / "file", ["lap.example:7367"])
    trust.import_trust(older, tmp_path / "file")
    (peer,) = older.store.peers()
    assert (peer.addresses, peer.own) == (("lap.example:7367",), True)
    last = older.store.next_n()
    trust.export_trust(younger, tmp_path / "file", ["new.example:1"])
    found = trust.import_trust(older, tmp_path / "file")
    assert found.outcome == Outcome.KNOWN
    assert found.addresses == ("new.example:1", "lap.example:7367")
    assert older.store.next_n() == last


def test_a_device_s_own_file_is_refused(older: Home, tmp_path: Path):
    trust.export_trust(older, tmp_path / "file")
    with pytest.raises(UserError, match="itself"):
        trust.import_trust(older, tmp_path / "file")


@pytest.mark.parametrize(("days", "problem"), [(8, "older than a week"), (-2, "future")])
def test_a_file_is_good_for_a_week(
    days: int, problem: str, older: Home, younger: Home, tmp_path: Path, clock: Clock
):
    trust.export_trust(younger, tmp_path / "file")
    clock.ms += days * _DAY_MS
    with pytest.raises(UserError, match=problem):
        trust.import_trust(older, tmp_path / "file")
    assert older.store.peers() == []


def test_two_groups_of_devices_are_refused_with_advice(older: Home, younger: Home, tmp_path: Path):
    for home, index in ((older, 0), (younger, 1)):
        keys = device_keys(index)
        peer = PeerRow(device=keys.id, name="d", noise=keys.noise_public, hpke=keys.hpke_public, own=True)
        belonging.admit(home.replica, peer, home.now_ms())
        trust.export_trust(home, _file(home))
    for home, other in ((older, younger), (younger, older)):
        before = home.store.peers(), home.store.next_n()
        with pytest.raises(UserError, match="mlog export"):
            trust.import_trust(home, _file(other))
        assert (home.store.peers(), home.store.next_n()) == before


def test_any_changed_byte_is_refused(younger: Home):
    content = trust.make_trust(younger, ["desk.example:7367"])
    chance = random.Random(1)
    plain = trust.decode_trust(content)
    for _ in range(300):
        changed = bytearray(content)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        try:
            found = trust.decode_trust(bytes(changed))
        except (InvalidInput, UserError):
            continue
        # Space between fields may be another space.
        assert found == plain


def _signed(home: Home, **fields: object) -> bytes:
    file = msgspec.structs.replace(trust.decode_trust(trust.make_trust(home)), **fields)
    signature = home.replica.device_keys.sign("trust file", file.signed())
    return msgspec.json.encode(msgspec.structs.replace(file, signature=signature))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"version": 2}, "version 2"),
        ({"type": "invitation"}, "another type"),
        ({"noise": bytes(31)}, "damaged"),
        ({"addresses": ("a b:1",)}, "address"),
        ({"addresses": ("host:65536",)}, "address"),
        ({"addresses": ("host:1",) * (limits.ADDRESSES_MAX + 1)}, "damaged"),
        ({"name": "n" * (limits.NAME_SIZE_MAX_BYTES + 1)}, "damaged"),
    ],
)
def test_a_signed_file_that_breaks_a_rule_is_refused(
    fields: dict[str, object], problem: str, older: Home, younger: Home, tmp_path: Path
):
    (tmp_path / "file").write_bytes(_signed(younger, **fields))
    with pytest.raises((InvalidInput, UserError), match=problem):
        trust.import_trust(older, tmp_path / "file")
    assert older.store.peers() == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"hello", b"\0" * 70_000, b'{"version":1}'])
def test_what_is_no_trust_file_is_refused(content: bytes, older: Home, tmp_path: Path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidInput, match="file"):
        trust.import_trust(older, tmp_path / "file")


def test_a_file_signed_by_another_device_is_refused(older: Home, younger: Home, tmp_path: Path):
    file = trust.decode_trust(trust.make_trust(younger))
    forged = msgspec.structs.replace(file, signature=device_keys(3).sign("trust file", file.signed()))
    (tmp_path / "file").write_bytes(msgspec.json.encode(forged))
    with pytest.raises(InvalidInput, match="somebody changed it"):
        trust.import_trust(older, tmp_path / "file")


def test_a_signature_under_another_label_is_refused(older: Home, younger: Home, tmp_path: Path):
    file = trust.decode_trust(trust.make_trust(younger))
    signature = younger.replica.device_keys.sign("receipt", file.signed())
    forged = msgspec.structs.replace(file, signature=signature)
    (tmp_path / "file").write_bytes(msgspec.json.encode(forged))
    with pytest.raises(InvalidInput):
        trust.import_trust(older, tmp_path / "file")


def test_fields_cannot_be_moved_into_each_other(younger: Home):
    file = trust.decode_trust(trust.make_trust(younger, ["a:1", "b:2"]))
    one = msgspec.structs.replace(file, name="ab", person="c")
    other = msgspec.structs.replace(file, name="a", person="bc")
    assert one.signed() != other.signed()
    assert file.signed() != msgspec.structs.replace(file, addresses=("a:1b:2",)).signed()


@pytest.mark.parametrize("name", ["missing", ""])
def test_a_file_that_cannot_be_read_is_said_so(name: str, older: Home, tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read"):
        trust.import_trust(older, tmp_path / name)


def test_a_file_that_cannot_be_written_leaves_nothing(older: Home, tmp_path: Path):
    with pytest.raises(StoreError):
        trust.export_trust(older, tmp_path / "missing" / "file")
    with pytest.raises(UserError):
        trust.export_trust(older, tmp_path / "file", ["nonsense"])
    with pytest.raises(UserError):
        trust.export_trust(older, tmp_path / "file", ["a:1"] * (limits.ADDRESSES_MAX + 1))
    assert not list(tmp_path.glob("*file*"))


def test_an_import_that_fails_half_way_leaves_nothing(
    older: Home, younger: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trust.export_trust(younger, tmp_path / "file")
    before = older.store.next_n()
    with monkeypatch.context() as patch:
        patch.setattr(crypto, "commitment", _broken)
        with pytest.raises(ArithmeticError, match="broken"):
            trust.import_trust(older, tmp_path / "file")
    assert older.store.peers() == []
    assert older.store.next_n() == before
    assert trust.import_trust(older, tmp_path / "file").outcome == Outcome.ADMITTED


def _broken(_: bytes) -> bytes:
    raise ArithmeticError("broken")


# -- devices ---------------------------------------------------------------------------------


def test_devices_are_listed_with_what_they_are(older: Home, younger: Home, tmp_path: Path):
    _exchange(older, younger)
    (here, other) = devices.devices(older)
    assert (here.here, here.member, here.confirmed, here.peer) == (True, True, True, False)
    assert (other.here, other.member, other.confirmed, other.peer) == (False, True, False, True)
    (here, other) = devices.devices(younger)
    assert (other.member, other.peer) == (False, True)
    _meet(older, younger)
    assert [device.confirmed for device in devices.devices(older)] == [True, True]


def test_a_forgotten_device_is_trusted_again_by_its_file(older: Home, younger: Home, tmp_path: Path):
    _exchange(older, younger)
    other = devices.devices(older)[1]
    with pytest.raises(UserError, match="does not name exactly one"):
        devices.forget_device(older, "nonsense")
    assert devices.forget_device(older, other.device.hex()[:6]).device == other.device
    assert older.store.peers() == []
    assert [device.peer for device in devices.devices(older)] == [False, False]
    with pytest.raises(UserError, match="mlog pair"):
        devices.forget_device(older, other.name)
    trust.import_trust(older, _file(younger))
    assert [device.peer for device in devices.devices(older)] == [False, True]


def test_sync_does_not_bring_back_what_was_forgotten(older: Home, younger: Home, tmp_path: Path):
    _exchange(older, younger)
    _meet(older, younger)
    devices.forget_device(older, devices.devices(older)[1].device.hex())
    younger.new("boat")
    for state in younger.replica.logs():
        n = next((s.n for s in older.replica.logs() if s.keys.topic == state.keys.topic), None)
        if n is not None:
            rows = younger.store.arrivals(state.n, 0, 1000)
            older.replica.receive(n, younger.replica.sealed_of(state.n, rows, bodies=True), older.now_ms())
    assert older.store.peers() == []
