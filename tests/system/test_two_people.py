"""Five devices of two people: paired, talking, one revoked, one restored from an old backup."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlog.api.home import Home
from tests.cli.terminals import Terminal
from tests.system.test_serve import Services

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only POSIX has pseudo terminals")


class Stage(Services):
    """Five devices on one machine: where each is, the others are told."""

    offers: Sequence[str] = ("--host", "127.0.0.1", "--port", "0", "--no-discovery")
    joins: Sequence[str] = ("--no-discovery",)
    carried = "link"
    """What goes from the device that shows it to the other one: a link says where the device is."""

    def __init__(self, folder: Path, stack: ExitStack):
        super().__init__(folder, stack)
        self.served: dict[str, subprocess.Popen[str]] = {}
        self._at: dict[str, str] = {}

    def within(self, name: str) -> Sequence[str]:
        """What a device's commands are run by."""
        return ()

    def begin(self, name: str) -> None:
        """Serve a home until the story ends."""
        self.served[name], port = self.serve(name)
        self._at[name] = f"127.0.0.1:{port}"

    def target(self, name: str) -> str:
        """What another device calls one that serves."""
        return self._at[name]

    def sync(self, name: str, other: str, *, check: bool = True) -> int:
        return self.run(name, "sync", self.target(other), check=check).returncode

    def meet(self, old: str, new: str, show: str, *join: str) -> None:
        """Pair or invite: the code goes from one to the other; both look, and say yes if asked."""
        shows = Terminal(self.home(old), show, *self.offers, "--json", piped=True, within=self.within(old))
        with shows:
            assert shows.process.stdout is not None
            given = json.loads(shows.process.stdout.readline())[self.carried].encode()
            with Terminal(self.home(new), *join, *self.joins, given=given, within=self.within(new)) as types:
                shows.until(r"\[y/N\]")
                shows.type("y\n")
                assert types.end() == 0, types.shown
                assert shows.end() == 0, shows.shown


def records(printed: str, kind: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
    return [line for line in lines if line["type"] == kind]


def view(stage: Stage, name: str) -> list[tuple[str, str, str]]:
    shown = records(stage.run(name, "log", "Trip", "--json").stdout, "message")
    return [(message["id"], message["author"], message["text"]) for message in shown]


def story(stage: Stage, folder: Path) -> None:
    """All that happens, wherever the devices are; at the end they agree, and the revoked one is out."""
    for name, person in (("ann", "ann"), ("ben", "ben")):
        with Home(stage.home(name), person=person, device=f"{name}-desk"):
            pass
    for old, new in (("ann", "ann-phone"), ("ann", "ann-tablet"), ("ben", "ben-phone")):
        stage.meet(old, new, "pair", "pair", "--join", "--name", new)
    stage.meet("ann", "ben", "invite", "accept")
    stage.run("ann", "new", "Trip", "--with", "ben")
    stage.begin("ann")
    stage.begin("ben")
    for name, other in (("ann-phone", "ann"), ("ann-tablet", "ann"), ("ben", "ann"), ("ben-phone", "ben")):
        stage.sync(name, other)
    # Two phones that are never on together: by one desktop to the other, and from there.
    first = stage.run("ann-phone", "send", "Trip", "shall we go").stdout.strip()
    stage.sync("ann-phone", "ann")
    stage.sync("ben", "ann")
    stage.sync("ben-phone", "ben")
    assert view(stage, "ben-phone")[-1][1:] == ("ann", "shall we go")
    explained = records(stage.run("ben-phone", "why", first, "--json").stdout, "why")[0]
    assert explained["authentic"]
    stage.run("ben-phone", "send", "Trip", "yes", "--reply-to", first)
    stage.sync("ben-phone", "ben")
    # The phone is backed up, goes on writing, and is lost.
    password = folder / "pass"
    password.write_text("secret\n")
    stage.run("ann-phone", "backup", folder / "phone.mlog", "--passphrase-file", password)
    stage.run("ann-phone", "send", "Trip", "after the backup")
    stage.sync("ann-phone", "ann")
    stage.run("restored", "restore", folder / "phone.mlog", "--passphrase-file", password)
    stage.run("restored", "send", "Trip", "from the restored one")
    stage.sync("restored", "ann")
    # The tablet is lost, and revoked.
    stage.run("ann-tablet", "send", "Trip", "while it is trusted")
    stage.sync("ann-tablet", "ann")
    stage.run("ann", "devices", "revoke", "ann-tablet", "--yes")
    stage.run("ann", "send", "Trip", "without the tablet")
    stage.sync("ben", "ann")
    for other in ("ann", "ben"):
        assert stage.sync("ann-tablet", other, check=False) == 3
    for name, other in (("ben-phone", "ben"), ("restored", "ann"), ("ben", "ann"), ("ben-phone", "ben")):
        stage.sync(name, other)
    expected = view(stage, "ann")
    assert [text for _, _, text in expected] == [
        "shall we go",
        "yes",
        "after the backup",
        "from the restored one",
        "while it is trusted",
        "without the tablet",
    ]
    for name in ("ben", "ben-phone", "restored"):
        assert view(stage, name) == expected, name
        assert stage.run(name, "verify").returncode == 0
    assert "without the tablet" not in [text for _, _, text in view(stage, "ann-tablet")]
    for process in stage.served.values():
        process.terminate()
        assert process.wait(15) == 0


def test_five_devices_of_two_people(tmp_path: Path) -> None:
    with ExitStack() as stack:
        story(Stage(tmp_path, stack), tmp_path)
