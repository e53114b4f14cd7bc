"""A device that is revoked while it is connected: it is cut off at once, and reads nothing from then on."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlog.adapters.local_socket import ask, whereabouts
from mlog.api.home import Home
from tests.system.test_serve import Services

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ends services with signals")

CUT_OFF_S = 2
WAIT_S = 30


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(tmp_path, stack)


def wait_until(connected: bool, services: Services) -> float:
    """How long it takes until the laptop's service says so of the desk, in seconds."""
    began = time.monotonic()
    while True:
        (status,) = ask(services.home("laptop"), {"do": "status"}, timeout_s=WAIT_S)
        if [device["connected"] for device in status["devices"]] == [connected]:
            return time.monotonic() - began
        assert time.monotonic() - began < WAIT_S


def test_a_revoked_device_is_cut_off_at_once_and_opens_nothing_that_is_written_later(
    services: Services,
) -> None:
    services.befriend()
    _, port = services.serve("desk")
    services.run("laptop", "sync", f"127.0.0.1:{port}")
    services.run("laptop", "send", "Of the desk", "while it was trusted")
    services.serve("laptop")
    wait_until(True, services)
    where = whereabouts(services.home("laptop"))
    assert where is not None
    with socket.socket(socket.AF_UNIX) as follower, follower.makefile("rw") as lines:
        follower.settimeout(WAIT_S)
        follower.connect(where.socket)
        lines.write(json.dumps({"do": "follow", "conversation": "Of the desk"}) + "\n")
        lines.flush()
        assert json.loads(lines.readline())["following"]
        services.run("desk", "send", "Of the desk", "the last that it hears")
        assert json.loads(lines.readline())["message"]["text"] == "the last that it hears"
    known = map(json.loads, services.run("desk", "--json", "devices").stdout.splitlines())
    [laptop] = [device["device"] for device in known if not device["here"]]
    services.run("desk", "devices", "revoke", laptop, "--yes")
    assert wait_until(False, services) < CUT_OFF_S
    services.run("desk", "send", "Of the desk", "not for the revoked one")
    refused = services.run("laptop", "sync", f"127.0.0.1:{port}", check=False)
    assert refused.returncode == 3
    with Home(services.home("laptop")) as revoked, Home(services.home("desk")) as desk:
        here, there = revoked.conversation("Of the desk").n, desk.conversation("Of the desk").n
        rows = [row for row in desk.store.rows(range(desk.store.next_n())).values() if row.log == there]
        held = revoked.store.states(here, [row.id for row in rows])
        later = [row for row in rows if row.id not in held]
        sealed = desk.replica.sealed_of(there, later, bodies=True)
        assert len(sealed) >= 3
        # The bytes do not help it, if it gets them: it has no key for what was written since.
        revoked.replica.receive(here, sealed, revoked.now_ms())
        shown = [message.text for message in revoked.messages(here)]
        assert shown == ["while it was trusted", "the last that it hears"]
        assert [message.text for message in desk.messages(there)] == [*shown, "not for the revoked one"]
        assert revoked.verify() == []
