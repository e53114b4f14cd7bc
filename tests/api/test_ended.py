"""Who was removed is told by whom and when, wherever it would go on as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlog.api import members
from mlog.api.ended import Ended, ended, revoked
from mlog.api.home import Home
from mlog.errors import UserError
from mlog.log import belonging
from mlog.log.bodies import Kind
from tests.api.acquainted import people, sync


def of(path: Path, title: str = "trip") -> Ended | None:
    with Home(path) as home:
        return ended(home, home.conversation(title).n)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    ann, bob = people(tmp_path, "ann", "bob")
    with Home(ann) as home:
        members.new_with(home, "trip", ["bob"])
    sync(ann, bob)
    return [ann, bob]


def test_who_is_removed_hears_it_at_the_next_sync_and_cannot_write(two: list[Path]):
    ann, bob = two
    assert of(bob) is None
    with Home(ann) as home:
        members.remove(home, home.conversation("trip").n, "bob")
        home.send(home.conversation("trip").n, "of him")
    sync(ann, bob)
    how = of(bob)
    assert how is not None
    assert (how.how, how.by) == ("removed", "ann")
    with Home(bob) as home:
        n = home.conversation("trip").n
        assert [m.text for m in home.messages(n)] == []
        with pytest.raises(UserError, match=r"^ann removed you from this conversation on \d{4}-\d\d-\d\d: "):
            home.send(n, "hello?")
        with pytest.raises(UserError, match="mlog new"):
            home.set_title(n, "mine")
        assert home.verify() == []
    assert of(ann) is None


def test_who_left_is_told_so(two: list[Path]):
    _, bob = two
    with Home(bob) as home:
        n = home.conversation("trip").n
        members.leave(home, n)
        how = ended(home, n)
        assert how is not None
        assert (how.how, how.by) == ("left", "")
        with pytest.raises(UserError, match=r"^you left this conversation on "):
            home.send(n, "hello?")


def test_a_device_that_heard_of_its_revocation_says_so(two: list[Path]):
    ann, _ = two
    with Home(ann) as home:
        assert revoked(home) is None
        person = home.replica.people.current()
        assert person is not None
        here = home.replica.device_id
        other = home.replica.as_device(_another(home))
        belonging.revoke(other, here, home.now_ms())
        home.replica.people.forget()
        how = revoked(home)
        assert how is not None
        assert str(how).startswith("this device was revoked on ")
        with pytest.raises(UserError, match="this device was revoked"):
            home.send(home.conversation("trip").n, "hello?")


def _another(home: Home):
    """Keys of a second device that this home's person admitted, and that said yes."""
    from mlog.log.bodies import Device
    from mlog.log.crypto import DeviceKeys
    from mlog.log.fold import Draft
    from mlog.log.peers import PeerRow

    keys = DeviceKeys(bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32)
    row = PeerRow(device=keys.id, name="x", noise=keys.noise_public, hpke=keys.hpke_public, own=True)
    belonging.admit(home.replica, row, home.now_ms())
    person = home.replica.people.current()
    assert person is not None
    record = Device(name="x", person=person.name, noise=keys.noise_public, hpke=keys.hpke_public)
    other = home.replica.as_device(keys)
    other.write(person.log, [Draft(Kind.DEVICE, record, home.now_ms())], home.now_ms())
    home.replica.people.forget()
    return keys


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (Ended(how="removed"), "you were removed from this conversation"),
        (Ended(how="removed", by="ann", time_ms=2**53 - 1), "ann removed you from this conversation"),
        (Ended(how="left", time_ms=86_400_000), "you left this conversation on 1970-01-02"),
    ],
)
def test_what_is_not_known_is_left_out_of_the_sentence(how: Ended, said: str):
    assert str(how) == said
