"""What is noted in one home is known on the person's other devices, and to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlog import limits
from mlog.api.home import Home
from mlog.api.seen import seen
from mlog.errors import LimitExceeded, UserError
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.store import TimelineQuery
from mlog.log.stored import readable_body
from tests.api import serving
from tests.api.conftest import Clock, read
from tests.api.others import exchange, share


@pytest.fixture
def ben(tmp_path: Path, clock: Clock, opened: Home) -> Iterator[Home]:
    """Another person."""
    with Home(tmp_path / "ben", person="ben", clock_ms=clock) as home:
        yield home


def _said_read(home: Home, n: int) -> list[bodies.Read]:
    rows = home.store.timeline(TimelineQuery(log=n, limit=100, kinds=frozenset({int(Kind.READ)})))
    found = [readable_body(row.kind, row.body) for row in rows]
    return [body for body in found if isinstance(body, bodies.Read)]


# -- one home ----------------------------------------------------------------------------------


def test_what_is_noted_is_known_when_the_home_is_opened_again(opened: Home, clock: Clock) -> None:
    n = opened.new("trip").n
    assert opened.notes.pin(n)
    assert opened.notes.mute(n)
    assert opened.notes.label(n, "summer")
    assert opened.notes.draft(n, "who brings")
    with Home(opened.path, clock_ms=clock) as again:
        known = again.notes.of(n)
        assert (known.pinned, known.muted, known.labels) == (True, True, ("summer",))
        assert list(known.drafts.values()) == ["who brings"]
        assert not again.notes.pin(n)
        assert again.notes.pin(n, pinned=False)
        assert again.notes.mute(n, muted=False)
        assert again.notes.label(n, "summer", remove=True)
        assert not again.notes.label(n, "summer", remove=True)
        assert again.notes.draft(n, "")
        known = again.notes.of(n)
        assert (known.pinned, known.muted, known.labels, known.drafts) == (False, False, (), {})


def test_settings_are_switched_by_name(opened: Home) -> None:
    assert opened.notes.state().setting("read-receipts")
    assert opened.notes.set("read-receipts", on=False)
    assert not opened.notes.state().setting("read-receipts")
    with pytest.raises(UserError, match="There are: read-receipts"):
        opened.notes.set("speed", on=True)


def test_a_draft_is_as_long_as_a_message_may_be(opened: Home) -> None:
    n = opened.new("trip").n
    opened.notes.draft(n, "x" * limits.TEXT_SIZE_MAX_BYTES)
    with pytest.raises(LimitExceeded, match="as a message"):
        opened.notes.draft(n, "x" * (limits.TEXT_SIZE_MAX_BYTES + 1))


def test_what_oneself_wrote_or_imported_is_not_unread(opened: Home) -> None:
    n = opened.new("trip").n
    opened.send(n, "hello")
    report = read(opened, "[2024-05-01 10:00:00] <ada> sunday?\n")
    assert report.chats
    assert set(opened.notes.unread().values()) == {0}
    assert not opened.notes.mark_read(n)
    assert not _said_read(opened, n)


def test_verification_finds_nothing_wrong_with_notes(opened: Home) -> None:
    n = opened.new("trip").n
    opened.notes.label(n, "summer")
    assert opened.verify(signatures=True) == []


# -- two devices of one person -------------------------------------------------------------------


def test_two_homes_that_noted_things_while_apart_agree_after_a_sync(tmp_path: Path) -> None:
    desk, laptop = tmp_path / "desk", tmp_path / "laptop"
    serving.join(desk, laptop)
    with Home(desk) as home:
        topic = home.new("trip").topic
    serving.sync(desk, laptop)
    for path, label, text in ((desk, "work", "from the desk"), (laptop, "home", "on the road")):
        with Home(path) as home:
            n = home.conversation(topic.hex()).n
            home.notes.label(n, label)
            home.notes.draft(n, text)
    serving.sync(desk, laptop)
    states = []
    for path in (desk, laptop):
        with Home(path) as home:
            states.append(home.notes.of(home.conversation(topic.hex()).n))
    assert states[0] == states[1]
    assert states[0].labels == ("home", "work")
    assert sorted(states[0].drafts.values()) == ["from the desk", "on the road"]
    with Home(laptop) as home:
        home.notes.draft(home.conversation(topic.hex()).n, "both")
    serving.sync(desk, laptop)
    with Home(desk) as home:
        assert list(home.notes.of(home.conversation(topic.hex()).n).drafts.values()) == ["both"]


# -- two people ----------------------------------------------------------------------------------


def test_what_others_write_is_unread_until_it_was_read(opened: Home, ben: Home) -> None:
    n = opened.new("trip").n
    there = share(opened, ben, n)
    ben.send(there, "one")
    ben.send(there, "two")
    opened.send(n, "mine")
    exchange(opened, ben)
    assert opened.notes.unread() == {n: 2}
    assert [message.text for message in opened.notes.unread_messages(n)] == ["one", "two"]
    assert opened.notes.mark_read(n) == 2
    assert opened.notes.unread() == {n: 0}
    assert list(opened.notes.unread_messages(n)) == []
    ben.send(there, "three")
    exchange(opened, ben)
    assert [message.text for message in opened.notes.unread_messages(n)] == ["three"]


def test_a_message_that_arrives_late_is_unread_wherever_it_stands(
    opened: Home, ben: Home, tmp_path: Path, clock: Clock
) -> None:
    n = opened.new("trip").n
    there = share(opened, ben, n)
    with Home(tmp_path / "cleo", person="cleo", clock_ms=clock) as cleo:
        far = share(opened, cleo, n)
        cleo.send(far, "written first")
        clock.ms += 3_600_000
        ben.send(there, "written second")
        exchange(opened, ben)
        opened.notes.mark_read(n)
        exchange(opened, cleo)
    assert [message.text for message in opened.notes.unread_messages(n)] == ["written first"]
    shown = [message.text for message in opened.messages(n)]
    assert shown.index("written first") < shown.index("written second")


def test_others_are_told_once_what_was_read(opened: Home, ben: Home) -> None:
    n = opened.new("trip").n
    there = share(opened, ben, n)
    id_ = ben.send(there, "one")
    exchange(opened, ben)
    assert opened.notes.mark_read(n) == 1
    assert opened.notes.mark_read(n) == 0
    assert len(_said_read(opened, n)) == 1
    exchange(opened, ben)
    [one] = seen(ben, ben.find_entry(id_.hex()))
    assert (one.read, one.person, one.device) == (True, "ann", opened.replica.device_id)
    # To be read is nothing to read: it goes no further.
    assert ben.notes.unread() == {there: 0}
    later = ben.send(there, "two")
    exchange(opened, ben)
    assert seen(ben, ben.find_entry(later.hex())) == ()
    assert seen(opened, opened.find_entry(id_.hex())) == ()


def test_only_what_was_read_further_is_told(opened: Home, ben: Home) -> None:
    n = opened.new("trip").n
    there = share(opened, ben, n)
    for text in ("one", "two"):
        ben.send(there, text)
        exchange(opened, ben)
        opened.notes.mark_read(n)
    first, second = _said_read(opened, n)
    assert [one.chain for one in first.chains] == [one.chain for one in second.chains]
    assert second.chains[0].seq > first.chains[0].seq


def test_nobody_is_told_where_read_receipts_are_off(opened: Home, ben: Home) -> None:
    n = opened.new("trip").n
    there = share(opened, ben, n)
    ben.send(there, "one")
    exchange(opened, ben)
    opened.notes.set("read-receipts", on=False)
    assert opened.notes.mark_read(n) == 1
    assert opened.notes.unread() == {n: 0}
    assert _said_read(opened, n) == []
    opened.notes.set("read-receipts", on=True)
    ben.send(there, "two")
    exchange(opened, ben)
    opened.notes.mark_read(n)
    assert len(_said_read(opened, n)) == 1


def test_what_is_noted_reaches_no_other_person(opened: Home, ben: Home) -> None:
    n = opened.new("trip").n
    there = share(opened, ben, n)
    opened.notes.label(n, "secret")
    opened.notes.draft(n, "unsent")
    exchange(opened, ben)
    assert ben.notes.of(there).labels == ()
    kinds = {row.kind for row in ben.store.timeline(TimelineQuery(log=there, limit=100, kinds=frozenset()))}
    assert Kind.PRIVATE not in kinds


def test_a_read_entry_of_what_one_did_not_say_claims_no_more_than_it_names(opened: Home, ben: Home) -> None:
    n = opened.new("trip").n
    there = share(opened, ben, n)
    first = ben.send(there, "one")
    exchange(opened, ben)
    opened.notes.mark_read(n)
    second = ben.send(there, "two")
    exchange(opened, ben)
    assert [one.read for one in seen(ben, ben.find_entry(first.hex()))] == [True]
    assert seen(ben, ben.find_entry(second.hex())) == ()
