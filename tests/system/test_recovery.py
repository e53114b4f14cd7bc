"""A machine is lost, and everything comes back to a new one with 24 words and one other device."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlog.api.home import Home
from mlog.log.ids import DeviceId, EntryId, Incarnation
from mlog.log.people import shared_logs
from mlog.log.phrase import Phrase, parse_phrase
from tests.cli.terminals import Terminal
from tests.cli.test_recovery import answer, shown_words
from tests.system.test_two_people import Stage, records

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only POSIX has pseudo terminals")


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path, stack)


def enrolled(services: Stage, name: str) -> list[str]:
    """The words of a phrase that `mlog recovery` makes a device of a home's person."""
    with Terminal(services.home(name), "recovery") as terminal:
        words = shown_words(terminal)
        answer(terminal, words)
        assert terminal.end() == 0, terminal.shown
    return words


def recover(services: Stage, name: str, phrase: Phrase, port: int, code: int = 0) -> str:
    """`mlog recover` with the words from a pipe; gives what it showed."""
    options = ("--peer", f"127.0.0.1:{port}", "--name", name, "--no-discovery")
    words = " ".join(word[:4] for word in phrase.words).encode()
    with Terminal(services.home(name), "recover", *options, given=words) as terminal:
        assert terminal.end() == code, terminal.shown
        return terminal.shown


def seen(services: Stage, name: str) -> dict[str, list[tuple[str, str, str]]]:
    """What a home shows of all conversations."""
    with Home(services.home(name)) as home:
        titles = [conversation.title for conversation in home.conversations()]
    shown: dict[str, list[tuple[str, str, str]]] = {}
    for title in titles:
        messages = records(services.run(name, "log", title, "--json").stdout, "message")
        shown[title] = [(m["id"], m["author"], m["text"]) for m in messages]
    return shown


def state(home: Home) -> dict[bytes, bytes]:
    """What all devices of a person hold alike."""
    topics = {shared.n: shared.keys.topic for shared in shared_logs(home.replica)}
    return {topics[row.n]: row.root for row in home.status() if row.n in topics}


def entries(home: Home) -> dict[tuple[bytes, DeviceId, Incarnation, int], EntryId]:
    """Which entry has which number, in which chain of which log; none twice."""
    found: dict[tuple[bytes, DeviceId, Incarnation, int], EntryId] = {}
    topics = {row.n: row.topic for row in home.store.logs()}
    for log, topic in topics.items():
        for entry in home.entries(log):
            key = topic, DeviceId(entry.device), Incarnation(entry.incarnation), entry.seq
            assert key not in found
            found[key] = entry.id
    return found


def test_everything_comes_back_with_the_words_and_one_device(services: Stage, tmp_path: Path) -> None:
    for name, person in (("desk", "ann"), ("ben", "ben")):
        with Home(services.home(name), person=person, device=name):
            pass
    services.meet("desk", "laptop", "pair", "pair", "--join", "--name", "laptop")
    services.meet("desk", "tablet", "pair", "pair", "--join", "--name", "tablet")
    services.meet("desk", "ben", "invite", "accept")
    services.run("desk", "new", "Garden")
    services.run("desk", "send", "Garden", "before there was a phrase")
    words = enrolled(services, "desk")
    phrase = parse_phrase(" ".join(words))
    services.run("desk", "new", "Trip", "--with", "ben")
    services.run("desk", "send", "Trip", "shall we go")
    services.run("desk", "new", "Club", "--with", "ben")
    services.run("desk", "send", "Club", "while ben is here")
    desk, port = services.serve("desk")
    at_desk = f"127.0.0.1:{port}"
    services.run("ben", "sync", at_desk)
    services.run("ben", "send", "Trip", "yes")
    services.run("ben", "sync", at_desk)
    # New epochs: without a member, and without a device.
    services.run("desk", "remove", "Club", "ben", "--yes")
    services.run("desk", "send", "Club", "without ben")
    services.run("desk", "devices", "revoke", "tablet", "--yes")
    services.run("desk", "send", "Garden", "without the tablet")
    services.run("desk", "label", "Trip", "summer")
    services.run("laptop", "sync", at_desk)
    desk.send_signal(signal.SIGTERM)
    assert desk.wait(15) == 0
    with Home(services.home("desk")) as home:
        lost, before = home.replica.device_id, entries(home)
    shutil.rmtree(services.home("desk"))

    laptop, port = services.serve("laptop")
    at_laptop = f"127.0.0.1:{port}"
    shown = recover(services, "new", phrase, port)
    assert "this device is one of ann's now" in shown
    assert "laptop has let it in" in shown
    assert "both hold the same" in shown
    assert not re.search(" ".join(words[:2]), shown)
    expected = seen(services, "laptop")
    assert seen(services, "new") == expected
    assert [text for _, _, text in expected["Trip"]] == ["shall we go", "yes"]
    assert [text for _, _, text in expected["Club"]] == ["while ben is here", "without ben"]
    assert [text for _, _, text in expected["Garden"]] == ["before there was a phrase", "without the tablet"]
    for command in (("contacts",), ("label", "Trip")):
        assert services.run("new", *command).stdout == services.run("laptop", *command).stdout
    assert "summer" in services.run("new", "label", "Trip").stdout
    with Home(services.home("new")) as new, Home(services.home("laptop")) as other:
        assert state(new) == state(other)
        assert new.verify() == []
        assert entries(new).items() >= before.items()

    # Both write on, and ben hears the new one by the laptop.
    services.run("new", "send", "Trip", "from the new one")
    services.run("new", "sync", at_laptop)
    services.run("laptop", "send", "Trip", "from the laptop")
    services.run("laptop", "send", "Club", "from the laptop")
    services.run("new", "sync", at_laptop)
    services.run("new", "send", "Garden", "all is back")
    services.run("new", "sync", at_laptop)
    services.run("ben", "sync", at_laptop)
    services.run("ben", "send", "Trip", "welcome back")
    services.run("ben", "sync", at_laptop)
    services.run("new", "sync", at_laptop)
    expected = seen(services, "laptop")
    assert seen(services, "new") == expected
    trip = [(author, text) for _, author, text in expected["Trip"]]
    assert trip == [
        ("ann", "shall we go"),
        ("ben", "yes"),
        ("ann", "from the new one"),
        ("ann", "from the laptop"),
        ("ben", "welcome back"),
    ]
    ben = [(author, text) for _, author, text in seen(services, "ben")["Trip"]]
    assert ben == trip
    with Home(services.home("new")) as new, Home(services.home("laptop")) as other:
        after = entries(new)
        assert state(new) == state(other)
        assert after.items() >= before.items()
        # The lost machine's chains end where they did, and no number was used for anything else.
        assert {key for key in after if key[1] == lost} == {key for key in before if key[1] == lost}
        assert all(new.store.forks(row.n) == [] for row in new.store.logs())

    # A phrase that is revoked opens nothing.
    services.run("laptop", "devices", "revoke", "recovery phrase", "--yes")
    refused = recover(services, "thief", phrase, port, code=1)
    assert "does not answer this phrase" in refused
    laptop.send_signal(signal.SIGTERM)
    assert laptop.wait(15) == 0
    secrets = [phrase.secret, *phrase.keys, " ".join(words).encode(), phrase.secret.hex().encode()]
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        content = file.read_bytes()
        assert not any(secret in content for secret in secrets), file


def test_with_no_device_left_a_contact_gives_back_what_both_share(services: Stage) -> None:
    for name, person in (("desk", "ann"), ("ben", "ben"), ("carol", "carol")):
        with Home(services.home(name), person=person, device=name):
            pass
    services.meet("desk", "laptop", "pair", "pair", "--join", "--name", "laptop")
    services.meet("desk", "ben", "invite", "accept")
    services.meet("desk", "carol", "invite", "accept")
    services.meet("ben", "carol", "invite", "accept")
    words = enrolled(services, "desk")
    phrase = parse_phrase(" ".join(words))
    services.run("desk", "new", "Garden")
    services.run("desk", "send", "Garden", "nobody else sees this")
    services.run("desk", "new", "Trip", "--with", "ben", "--with", "carol")
    first = services.run("desk", "send", "Trip", "shall we go").stdout.strip()
    desk, port = services.serve("desk")
    for name in ("ben", "carol", "laptop"):
        services.run(name, "sync", f"127.0.0.1:{port}")
    services.run("ben", "send", "Trip", "yes", "--reply-to", first)
    services.run("carol", "send", "Trip", "me too")
    services.run("laptop", "send", "Trip", "then we go")
    services.run("laptop", "edit", first, "shall we go on Sunday")
    for name in ("ben", "carol", "laptop", "ben"):
        services.run(name, "sync", f"127.0.0.1:{port}")
    desk.send_signal(signal.SIGTERM)
    assert desk.wait(15) == 0
    expected = seen(services, "ben")
    assert [text for _, _, text in expected["Trip"]] == [
        "shall we go on Sunday",
        "yes",
        "me too",
        "then we go",
    ]
    with Home(services.home("ben")) as ben:
        before = entries(ben)
    for name in ("desk", "laptop"):
        shutil.rmtree(services.home(name))

    ben, port = services.serve("ben")
    at_ben = f"127.0.0.1:{port}"
    shown = " ".join(recover(services, "new", phrase, port).split())
    assert "this device is one of ann's now, and ben one of its contacts" in shown
    assert "only on your own devices and in backups" in shown
    assert "both hold the same" in shown
    assert not re.search(" ".join(words[:2]), shown)
    assert seen(services, "new") == expected
    with Home(services.home("new")) as new:
        assert new.verify() == []
        trip = new.conversation("Trip").topic
        assert {key: id_ for key, id_ in entries(new).items() if key[0] == trip} == {
            key: id_ for key, id_ in before.items() if key[0] == trip
        }

    # Ann goes on, with whom she is met by and with who was there too; and is known by what she was before.
    services.run("new", "send", "Trip", "all are gone, and I am back")
    services.run("new", "sync", at_ben)
    services.run("carol", "sync", at_ben)
    services.run("carol", "send", "Trip", "welcome back")
    services.run("carol", "sync", at_ben)
    services.run("new", "sync", at_ben)
    services.run("new", "new", "Plans", "--with", "ben")
    services.run("new", "send", "Plans", "for another time")
    services.run("new", "sync", at_ben)
    trips = {name: seen(services, name)["Trip"] for name in ("new", "ben", "carol")}
    assert trips["new"] == trips["ben"] == trips["carol"]
    assert [line[1:] for line in trips["carol"]][-2:] == [
        ("ann", "all are gone, and I am back"),
        ("carol", "welcome back"),
    ]
    assert [line[1:] for line in seen(services, "ben")["Plans"]] == [("ann", "for another time")]
    digits = [
        records(services.run(*command, "--json").stdout, "contact")
        for command in (("new", "contacts"), ("ben", "contacts"))
    ]
    [at_new] = [contact["safety"] for contact in digits[0] if contact["name"] == "ben"]
    [there] = [contact["safety"] for contact in digits[1] if contact["name"] == "ann"]
    assert at_new == there

    # A phrase that is revoked gives whoever found the paper nothing.
    services.run("new", "devices", "revoke", "recovery phrase", "--yes")
    services.run("new", "sync", at_ben)
    refused = recover(services, "thief", phrase, port, code=1)
    assert "does not answer this phrase" in refused
    with Home(services.home("thief")) as thief:
        assert thief.conversations() == []
        assert thief.store.peers() == []
    ben.send_signal(signal.SIGTERM)
    assert ben.wait(15) == 0
