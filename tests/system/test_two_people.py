"""Five devices of two people: paired, talking, one revoked, one restored from an old backup."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlog.api.home import Home
from tests.cli.terminals import Terminal
from tests.system.test_serve import Services

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo terminals")

_LISTEN = ("--host", "127.0.0.1", "--port", "0", "--no-discovery", "--json")


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(tmp_path, stack)


def meet(services: Services, old: str, new: str, *, show: str, join: tuple[str, ...]) -> None:
    """Pair or invite: the link goes from one to the other, both look, and say yes where they are asked."""
    with Terminal(services.home(old), show, *_LISTEN, piped=True) as shows:
        assert shows.process.stdout is not None
        link = json.loads(shows.process.stdout.readline())["link"]
        with Terminal(services.home(new), *join, "--no-discovery", given=link.encode()) as types:
            shows.until(r"\[y/N\]")
            shows.type("y\n")
            assert types.end() == 0, types.shown
            assert shows.end() == 0, shows.shown


def records(printed: str, kind: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
    return [line for line in lines if line["type"] == kind]


def view(services: Services, name: str) -> list[tuple[str, str, str]]:
    shown = records(services.run(name, "log", "Trip", "--json").stdout, "message")
    return [(message["id"], message["author"], message["text"]) for message in shown]


def test_five_devices_of_two_people(services: Services, tmp_path: Path) -> None:
    for name, person in (("ann", "ann"), ("ben", "ben")):
        with Home(services.home(name), person=person, device=f"{name}-desk"):
            pass
    for old, new in (("ann", "ann-phone"), ("ann", "ann-tablet"), ("ben", "ben-phone")):
        meet(services, old, new, show="pair", join=("pair", "--join", "--name", new))
    meet(services, "ann", "ben", show="invite", join=("accept",))
    services.run("ann", "new", "Trip", "--with", "ben")
    ann, ann_port = services.serve("ann")
    ben, ben_port = services.serve("ben")
    at_ann, at_ben = f"127.0.0.1:{ann_port}", f"127.0.0.1:{ben_port}"
    for name, where in (
        ("ann-phone", at_ann),
        ("ann-tablet", at_ann),
        ("ben", at_ann),
        ("ben-phone", at_ben),
    ):
        services.run(name, "sync", where)
    # Two phones that are never on together: by one desktop to the other, and from there.
    first = services.run("ann-phone", "send", "Trip", "shall we go").stdout.strip()
    services.run("ann-phone", "sync", at_ann)
    services.run("ben", "sync", at_ann)
    services.run("ben-phone", "sync", at_ben)
    assert view(services, "ben-phone")[-1][1:] == ("ann", "shall we go")
    explained = records(services.run("ben-phone", "why", first, "--json").stdout, "why")[0]
    assert explained["authentic"]
    services.run("ben-phone", "send", "Trip", "yes", "--reply-to", first)
    services.run("ben-phone", "sync", at_ben)
    # The phone is backed up, goes on writing, and is lost.
    password = tmp_path / "pass"
    password.write_text("secret\n")
    services.run("ann-phone", "backup", tmp_path / "phone.mlog", "--passphrase-file", password)
    services.run("ann-phone", "send", "Trip", "after the backup")
    services.run("ann-phone", "sync", at_ann)
    services.run("restored", "restore", tmp_path / "phone.mlog", "--passphrase-file", password)
    services.run("restored", "send", "Trip", "from the restored one")
    services.run("restored", "sync", at_ann)
    # The tablet is lost, and revoked.
    services.run("ann-tablet", "send", "Trip", "while it is trusted")
    services.run("ann-tablet", "sync", at_ann)
    services.run("ann", "devices", "revoke", "ann-tablet", "--yes")
    services.run("ann", "send", "Trip", "without the tablet")
    services.run("ben", "sync", at_ann)
    for where in (at_ann, at_ben):
        assert services.run("ann-tablet", "sync", where, check=False).returncode == 3
    for name, where in (("ben-phone", at_ben), ("restored", at_ann), ("ben", at_ann), ("ben-phone", at_ben)):
        services.run(name, "sync", where)
    expected = view(services, "ann")
    assert [text for _, _, text in expected] == [
        "shall we go",
        "yes",
        "after the backup",
        "from the restored one",
        "while it is trusted",
        "without the tablet",
    ]
    for name in ("ben", "ben-phone", "restored"):
        assert view(services, name) == expected, name
        assert services.run(name, "verify").returncode == 0
    assert "without the tablet" not in [text for _, _, text in view(services, "ann-tablet")]
    for process in (ann, ben):
        process.terminate()
        assert process.wait(15) == 0
