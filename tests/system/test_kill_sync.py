"""kill -9 of either end of a sync, at exact bytes of its stream: nothing lost, and little sent twice."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlog import config, limits
from mlog.adapters.runtime import now_ms
from mlog.api.home import Home
from mlog.cli.main import main
from tests.faults import scenario
from tests.faults.conftest import ram
from tests.faults.record import recorded
from tests.system.ends import Proxy, Starter

__all__ = ["ram"]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its ends")

SEED = 1
DESK_LINES, LAPTOP_LINES = 1_400, 300
SLOW_DESK_LINES = 4_000
"""In the slow run: several bundles one way, so that a resume goes on from the middle."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


class Ends:
    """Two homes with different entries, their processes, and what was sent and acknowledged."""

    def __init__(self, folder: Path, starter: Starter):
        self.homes = {name: folder / name for name in ("desk", "laptop")}
        self.records = {name: folder / f"{name}.txt" for name in self.homes}
        self._starter = starter

    def run(self, proxy: Proxy, until: int, victim: str) -> bool:
        """One session; whether it came to the byte at which the victim is killed."""
        desk, port = self._starter.start("serve", self.homes["desk"], self.records["desk"])
        laptop, _ = self._starter.start("sync", self.homes["laptop"], self.records["laptop"])
        seen: dict[str, int] = {}

        def stopped() -> None:
            seen.update({name: count(home) for name, home in self.homes.items()})
            self._starter.kill(desk if victim == "desk" else laptop)

        killed = False
        try:
            killed = proxy.carry(port, until, stopped)
        finally:
            if killed:
                self._starter.kill(laptop if victim == "desk" else desk)
            else:
                code = self._starter.wait(laptop)
                self._starter.kill(desk)
                assert code == 0
        for name, home in self.homes.items():
            assert count(home) >= seen.get(name, 0)
        return killed

    def noted(self, word: str, name: str) -> list[list[str]]:
        """What an end noted, a list for each time."""
        if not self.records[name].exists():
            return []
        lines = self.records[name].read_text().splitlines()
        return [line.split()[1:] for line in lines if line.startswith(f"{word} ")]

    def assert_kept(self, *verified: str) -> None:
        """Each holds what it told the other one to be durable; and these verify."""
        for name, other in (("desk", "laptop"), ("laptop", "desk")):
            with Home(self.homes[name]) as home:
                assert name not in verified or home.verify() == []
                held = scenario.ids_of(home)
            told = {id_ for ids in self.noted("acknowledged", other) for id_ in ids}
            assert told <= held, f"{len(told - held)} acknowledged entries are lost at the {name}"

    def roots(self) -> list[list[tuple[bytes, bytes]]]:
        found: list[list[tuple[bytes, bytes]]] = []
        for folder in self.homes.values():
            with Home(folder) as home:
                logs = {log.n: log.keys.topic for log in home.replica.logs()}
                found.append(sorted((logs[status.n], status.root) for status in home.status()))
        return found


def count(home: Path) -> int:
    """Entries that are durable, read beside the process that writes."""
    with closing(sqlite3.connect(f"file:{home / config.DATABASE_NAME}?mode=ro", uri=True)) as db:
        return db.execute("SELECT count(*) FROM entries").fetchone()[0]


def befriended(folder: Path, port: int, lines: int) -> Path:
    """Two homes of one person that differ, and that know each other by their trust files."""
    desk, laptop = folder / "desk", folder / "laptop"
    with Home(desk, person="ann") as home:
        scenario.import_irc(home, scenario.irc_log(1, lines))
    with Home(laptop, person="ann", clock_ms=lambda: now_ms() + 1000) as home:
        scenario.import_irc(home, scenario.irc_log(2, LAPTOP_LINES))
    for name in (desk, laptop):
        words = ["trust", "export", str(folder / f"{name.name}.trust"), "--address", f"127.0.0.1:{port}"]
        assert main(["--home", str(name), *words]) == 0
    for name, other in ((desk, "laptop"), (laptop, "desk")):
        assert main(["--home", str(name), "trust", "import", str(folder / f"{other}.trust")]) == 0
    return folder


def copied(template: Path, folder: Path, starter: Starter) -> Ends:
    for name in ("desk", "laptop"):
        scenario.copied(template / name, folder / name)
    return Ends(folder, starter)


def test_no_acknowledged_entry_is_lost_by_a_kill_amid_a_sync(
    request: pytest.FixtureRequest, ram: Path, proxy: Proxy
) -> None:
    points = 1_000 if request.config.getoption("--slow") else 100
    lines = SLOW_DESK_LINES if request.config.getoption("--slow") else DESK_LINES
    rng = random.Random(SEED)
    with recorded("kill -9 amid sync", seed=SEED, count=points), Starter() as starter:
        (ram / "template").mkdir()
        template = befriended(ram / "template", proxy.port, lines)
        whole = copied(template, ram / "whole", starter)
        before = sum(count(home) for home in whole.homes.values())
        assert not whole.run(proxy, 1 << 40, "desk")
        size, killed, pair = proxy.carried, 0, 0
        new = sum(count(home) for home in whole.homes.values()) - before
        assert new >= lines // 2 + LAPTOP_LINES // 2
        while killed < points:
            pair += 1
            ends = copied(template, ram / str(pair), starter)
            here = 0
            try:
                # The last session of each pair is left to end.
                while killed < points:
                    victim = rng.choice(("desk", "laptop"))
                    if not ends.run(proxy, rng.randrange(1, size), victim):
                        break
                    killed, here = killed + 1, here + 1
                    ends.assert_kept(victim)
                ends.run(proxy, 1 << 40, "desk")
                ends.assert_kept("desk", "laptop")
                assert ends.roots()[0] == ends.roots()[1]
                sent = sum(int(each) for name in ends.homes for (each,) in ends.noted("sent", name))
                # Either end has one bundle on its way.
                assert sent <= new + 2 * here * limits.BUNDLE_ENTRIES_MAX
            except BaseException as error:
                error.add_note(f"seed {SEED}, pair {pair}, kill {here} of it, {killed} in all")
                raise
            shutil.rmtree(ram / str(pair))
