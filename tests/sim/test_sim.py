"""Seeded networks of real nodes: nothing acknowledged is lost, and all honest replicas end alike.

Each run tries fresh schedules, by a seed that follows from the commit. A failure prints the command
that runs it alone; docs/simulator.md says what is checked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.record import recorded

from .network import SimFailure
from .schedule import PROFILES, Action, Schedule, draw, shrink
from .simulation import failure_of, run_schedule

SEEDS_EACH = 25
SEEDS_OF_PERSONS = 8
"""Of each profile, and of each with several persons, which takes three times as long: 340 schedules, about
90 s of CPU."""

SLOW_SCHEDULES = 10_000
"""Of the profiles of one person, and as many of those of several."""
SLOW_SEED = 1_000_000
SLOW_PARTS = 4
"""So that several processes can run them side by side."""


def _fresh_seed() -> int:
    """As MLOG_SIM_SEED says, else by the commit: fresh after each change, the same when run again."""
    if given := os.environ.get("MLOG_SIM_SEED"):
        return int(given)
    shown = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return int(shown[:7], 16) if shown else 1


def check(profile: str, seed: int) -> None:
    schedule = draw(profile, seed)
    try:
        run_schedule(schedule)
    except Exception as error:
        command = f".venv/bin/python -m tests.sim {profile} {seed} --shrink"
        raise AssertionError(f"{error}\n\n{schedule}\n\nalone: {command}") from error


@pytest.mark.parametrize("profile", PROFILES)
def test_honest_replicas_end_alike_whatever_happens(profile: str):
    first, count = _fresh_seed(), SEEDS_OF_PERSONS if PROFILES[profile].persons else SEEDS_EACH
    for seed in range(first, first + count):
        check(profile, seed)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(SLOW_PARTS))
def test_honest_replicas_end_alike_10000_times(part: int):
    _check_part("simulated networks", part, persons=False)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(SLOW_PARTS))
def test_several_persons_end_alike_10000_times(part: int):
    _check_part("simulated networks of several persons", part, persons=True)


def _check_part(what: str, part: int, *, persons: bool) -> None:
    names = [name for name, profile in PROFILES.items() if profile.persons == persons]
    each = SLOW_SCHEDULES // SLOW_PARTS
    numbers = range(part * each, (part + 1) * each)
    with recorded(f"{what}, part {part}", seed=SLOW_SEED, count=len(numbers)):
        for number in numbers:
            check(names[number % len(names)], SLOW_SEED + number // len(names))


@pytest.mark.parametrize("profile", ["everything", "disks"])
def test_a_seed_gives_the_same_events_and_effects_byte_for_byte(profile: str):
    first, second = (run_schedule(draw(profile, 5), keep_trace=True) for _ in range(2))
    assert first.network.trace == second.network.trace
    assert first.network.digest == second.network.digest
    assert first.network.frames > 50


def test_a_seed_gives_the_same_in_another_process():
    # Bytes hash differently there: the order of a set must not reach the wire.
    program = (
        "from tests.sim.schedule import draw; from tests.sim.simulation import run_schedule; "
        "print(run_schedule(draw('everything', 5)).network.digest)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_shrink_keeps_only_what_makes_a_schedule_fail():
    schedule = draw("everything", 3)
    actions = (*schedule.actions, Action("say", 0, 1, 1, 0), Action("wait", 1, 2, 3, 4))
    schedule = Schedule(3, "everything", schedule.machines, schedule.roles, actions)

    def fails(shorter: Schedule) -> bool:
        names = [action.name for action in shorter.actions]
        return "say" in names and "wait" in names

    assert sorted(action.name for action in shrink(schedule, fails).actions) == ["say", "wait"]


def test_a_failure_names_the_schedule_and_how_to_run_it_alone(monkeypatch: pytest.MonkeyPatch):
    def fail(schedule: Schedule) -> None:
        raise SimFailure("what must hold did not")

    monkeypatch.setattr(f"{__package__}.test_sim.run_schedule", fail)
    with pytest.raises(AssertionError, match="must hold") as caught:
        check("quiet", 7)
    assert "python -m tests.sim quiet 7" in str(caught.value)
    assert "seed 7 (quiet)" in str(caught.value)


def test_schedules_differ_by_seed_and_profile():
    drawn = {str(draw(profile, seed)) for profile in PROFILES for seed in range(20)}
    assert len(drawn) == 20 * len(PROFILES)
    assert failure_of(draw("quiet", 1)) is None
