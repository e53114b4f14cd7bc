"""Twins: two copies of one home in use are told from a home that was moved, restored, or imports."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlog
from mlog.api.twins import twins
from tests.api.peers import carry
from tests.faults import scenario


def copied(folder: Path) -> tuple[Path, int]:
    """A home, and the number of its conversation; beside it a copy."""
    with mlog.open(folder / "home") as home:
        n = home.new("Garden").n
        home.send(n, "before")
    shutil.copytree(folder / "home", folder / "copy")
    return folder / "copy", n


def test_a_home_that_runs_twice_is_noticed_at_both_ends(tmp_path: Path) -> None:
    path, n = copied(tmp_path)
    with mlog.open(tmp_path / "home") as home, mlog.open(path) as copy:
        home.send(n, "at home")
        carry(home, copy, n)
        copy.send(n, "in the copy")
        assert twins(home) == twins(copy) == []
        carry(copy, home, n)
        assert [twin.here for twin in twins(home)] == [True]
        home.send(n, "at home again")
        carry(home, copy, n)
        assert [twin.here for twin in twins(copy)] == [True]
        assert [m.text for m in home.messages(n)] == [m.text for m in copy.messages(n)]
        assert home.verify() == []


def test_a_home_that_was_restored_and_gets_back_what_it_lacked_does_not_run_twice(tmp_path: Path) -> None:
    path, n = copied(tmp_path)
    with mlog.open(tmp_path / "home") as home, mlog.open(path) as restored:
        home.send(n, "lost")
        restored.send(n, "after")
        carry(home, restored, n)
        restored.send(n, "later")
        assert twins(restored) == []


def test_imports_beside_what_is_written_are_of_one_home(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home") as home:
        for seed in (1, 2):
            scenario.import_irc(home, scenario.irc_log(seed, 20))
            [n] = {each.n for each in home.conversations()}
            home.send(n, "by hand")
        assert len(home.store.chains(n)) > 1
        assert twins(home) == []
