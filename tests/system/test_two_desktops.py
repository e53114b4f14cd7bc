"""The cases that must work, with real processes: who was never online together still gets everything."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlog.adapters.local_socket import whereabouts
from mlog.api.home import Home
from mlog.errors import StoreError
from tests.faults import scenario
from tests.faults.test_full_disk import fill_up, small_disk
from tests.system.test_serve import Services

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ends services with signals")

SENDS = 20


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(tmp_path, stack)


def befriend(services: Services, folder: Path, *names: str) -> None:
    """The first one, which is the oldest, and each of the others trust each other."""
    first, *others = names
    for name in names:
        services.run(name, "new", f"Of {name}")
        services.run(name, "trust", "export", folder / f"{Path(name).name}.trust")
    for other in others:
        services.run(first, "trust", "import", folder / f"{Path(other).name}.trust")
        services.run(other, "trust", "import", folder / f"{first}.trust")


def say(text: str) -> None:
    """Part of the story, shown with `pytest -s`."""
    sys.stdout.write(f"{text}\n")


def records(printed: str, kind: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
    return [line for line in lines if line["type"] == kind]


def test_what_a_phone_wrote_while_the_other_was_off_arrives_by_the_desktop_and_is_proven(
    services: Services, tmp_path: Path
) -> None:
    befriend(services, tmp_path, "desktop", "ann", "ben")
    _, port = services.serve("desktop")
    address = f"127.0.0.1:{port}"
    # Ann's phone joins, writes while Ben's has never been on, and leaves.
    services.run("ann", "sync", address)
    sent = [services.run("ann", "send", "Of desktop", f"from ann {n}").stdout.strip() for n in range(3)]
    services.run("ann", "sync", address)
    say("ann wrote 3 messages, gave them to the desktop, and left")
    # Ben's comes later, and finds all of it.
    synced = services.run("ben", "sync", address, "--json").stdout
    assert records(synced, "sync")[0]["ok"]
    say(services.run("ben", "log", "Of desktop").stdout)
    shown = records(services.run("ben", "log", "Of desktop", "--json").stdout, "message")
    assert [(message["id"][: len(sent[0])], message["text"]) for message in shown] == [
        (id_, f"from ann {n}") for n, id_ in enumerate(sent)
    ]
    # He proves that nothing is missing: the desktop signed for the same, and Ann's chain is whole.
    copies = records(services.run("ben", "status", "Of desktop", "--json").stdout, "copy")
    say(services.run("ben", "status", "Of desktop").stdout)
    assert services.run("ben", "verify").returncode == 0
    with Home(services.home("ann")) as ann, Home(services.home("ben")) as ben:
        log = ann.conversation("Of desktop").n
        newest = ann.find_entry(sent[-1])
        [last] = [chain for chain in ann.store.chains(log) if chain.n == newest.chain]
        assert (last.device, last.seq) == (ann.replica.device_id, newest.seq)
        here = ben.conversation("Of desktop").n
        assert (last.device, last.incarnation, last.seq) in {
            (chain.device, chain.incarnation, chain.seq) for chain in ben.store.chains(here)
        }
        with Home(services.home("desktop")) as desktop:
            signer = desktop.replica.device_id
        [row] = [row for row in ben.store.syncs(here) if row.device == signer]
        assert (row.state.value, row.here_lacks, row.there_lacks) == ("in sync", 0, 0)
        [receipt] = [each for each in ben.store.receipts(here) if each.device == signer]
        [status] = [each for each in ben.status() if each.n == here]
        assert (receipt.entries, receipt.entries_root[:16]) == (status.entries, row.equal_root)
    assert {(copy["device"], copy["state"]) for copy in copies} >= {(signer.hex(), "in sync")}


def test_a_message_of_a_command_reaches_the_other_service_at_once(services: Services, tmp_path: Path) -> None:
    befriend(services, tmp_path, "desk", "laptop")
    _, port = services.serve("desk")
    services.run("laptop", "sync", f"127.0.0.1:{port}")
    services.serve("laptop")
    where = whereabouts(services.home("desk"))
    assert where is not None
    waited_ms: list[float] = []
    with socket.socket(socket.AF_UNIX) as follower, follower.makefile("rw") as lines:
        follower.settimeout(30)
        follower.connect(where.socket)
        lines.write(json.dumps({"do": "follow", "conversation": "Of desk"}) + "\n")
        lines.flush()
        assert json.loads(lines.readline())["following"]
        for n in range(SENDS):
            services.run("laptop", "send", "Of desk", f"now {n}")
            told = json.loads(lines.readline())["message"]
            assert told["text"] == f"now {n}"
            waited_ms.append(time.time() * 1000 - told["time_ms"])
    say(f"written to told: median {statistics.median(waited_ms):.0f} ms, most {max(waited_ms):.0f} ms")
    assert statistics.median(waited_ms) < 200


def test_a_disk_that_fills_up_amid_a_sync_loses_nothing_and_goes_on(
    services: Services, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "laptop", 6144) as disk:
        befriend(services, tmp_path, "desk", "laptop/home")
        chat = tmp_path / "#quay.log"
        chat.write_bytes(scenario.irc_log(1, 9_000))
        services.run("desk", "import", chat)
        _, port = services.serve("desk")
        full = services.run("laptop/home", "sync", f"127.0.0.1:{port}", check=False)
        assert full.returncode == StoreError.exit_code, full.stderr
        assert "full" in full.stderr
        assert "Traceback" not in full.stderr
        fill_up(disk).unlink()
        with Home(services.home("laptop/home")) as home:
            before = scenario.ids_of(home)
            assert home.verify() == []
        # More room, as where a person deletes other files.
        subprocess.run(["mount", "-o", "remount,size=65536k", str(disk)], check=True)
        services.run("laptop/home", "sync", f"127.0.0.1:{port}")
        with Home(services.home("laptop/home")) as home, Home(services.home("desk")) as desk:
            assert before < scenario.ids_of(home)
            assert home.verify() == []
            assert sorted(s.root for s in home.status()) == sorted(s.root for s in desk.status())
