"""Two homes with contacts of their own become one person's: whom either knew, both know and can talk to."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlog.adapters.runtime import now_ms
from mlog.api import contacts, members
from mlog.api.home import Home
from tests.adapters.loops import run
from tests.api.acquainted import accept, sync
from tests.api.test_pairing import Two

_OTHERS = ("bob", "carol", "dave")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Homes: the desk knows Bob and Dave, the phone Carol and Dave."""
    for at, name in enumerate(("desk", "phone", *_OTHERS)):
        with Home(tmp_path / name, person=name, clock_ms=lambda at=at: now_ms() + 1000 * at):
            pass
    for one, other in (("desk", "bob"), ("desk", "dave"), ("phone", "carol"), ("phone", "dave")):
        accept(tmp_path / one, tmp_path / other)
        sync(tmp_path / one, tmp_path / other)
    with Home(tmp_path / "desk") as home:
        contacts.name_contact(home, "dave", "Davy")
    with Home(tmp_path / "phone") as home:
        members.new_with(home, "trip", ["carol", "dave"])
        home.send(home.conversation("trip").n, "who comes along?")
    sync(tmp_path / "phone", tmp_path / "carol")
    return tmp_path


def pair(folder: Path) -> None:
    """The phone joins the desk's person, which is older."""
    two = Two(folder)
    try:

        async def test() -> None:
            async with two.open():
                await two.pair()
                assert two.desk.error is two.phone.error is None

        run(test())
    finally:
        two.desk.home.close()
        two.phone.home.close()


def known(path: Path) -> list[str]:
    with Home(path) as home:
        return sorted(contact.name for contact in contacts.contacts(home))


def said(path: Path, title: str) -> list[tuple[str, str]]:
    with Home(path) as home:
        return [(m.author.name, m.text) for m in home.messages(home.conversation(title).n)]


def say(path: Path, title: str, words: str) -> None:
    with Home(path) as home:
        home.send(home.conversation(title).n, words)


def test_contacts_of_two_homes_are_merged_and_their_talk_goes_on(folder: Path) -> None:
    desk, phone, _, carol, dave = (folder / name for name in ("desk", "phone", *_OTHERS))
    assert (known(desk), known(phone)) == (["Davy", "bob"], ["carol", "dave"])
    pair(folder)
    assert sync(desk, phone)
    # What the older person calls somebody holds.
    assert known(desk) == known(phone) == ["Davy", "bob", "carol"]
    # Carol hears from the phone whose it is now, and the desk where she is.
    assert sync(phone, carol)
    assert sync(desk, phone)
    say(desk, "trip", "I do")
    assert sync(desk, carol)
    say(carol, "trip", "so do I")
    assert sync(desk, carol)
    assert sync(desk, phone)
    assert sync(desk, dave)
    talk = ["who comes along?", "I do", "so do I"]
    assert (
        said(desk, "trip") == said(phone, "trip") == list(zip(["desk", "desk", "carol"], talk, strict=True))
    )
    # Others call the person what they called the device's person before.
    assert said(carol, "trip") == list(zip(["phone", "phone", "carol"], talk, strict=True))
    assert [text for _, text in said(dave, "trip")] == talk


def test_a_contact_that_came_along_is_talked_to_by_the_device_that_never_met_it(folder: Path) -> None:
    desk, phone, bob, carol, _ = (folder / name for name in ("desk", "phone", *_OTHERS))
    pair(folder)
    for one, other in ((desk, phone), (phone, carol), (desk, phone)):
        assert sync(one, other)
    with Home(desk) as home:
        members.new_with(home, "garden", ["carol", "bob"])
    say(desk, "garden", "beans")
    assert sync(desk, carol)
    assert sync(desk, bob)
    say(carol, "garden", "peas")
    assert sync(phone, carol)
    assert sync(desk, phone)
    assert [text for _, text in said(desk, "garden")] == ["beans", "peas"]
    assert [text for _, text in said(bob, "garden")] == ["beans"]
    for name in ("desk", "phone", *_OTHERS):
        with Home(folder / name) as home:
            assert home.verify() == []
