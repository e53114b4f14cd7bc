"""Run one schedule: `.venv/bin/python -m tests.sim PROFILE SEED [--shrink]`, from the top of the clone."""

from __future__ import annotations

import argparse
import sys

from .schedule import PROFILES, Schedule, draw, shrink
from .simulation import failure_of, run_schedule


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("seed", type=int)
    parser.add_argument("--shrink", action="store_true", help="look for a shorter list that fails alike")
    given = parser.parse_args()
    schedule = draw(given.profile, given.seed)
    failure = failure_of(schedule)
    if failure is not None and given.shrink:
        schedule = _shortest(schedule, failure)
    sys.stdout.write(f"{schedule}\n")
    run_schedule(schedule)
    sys.stdout.write("nothing fails\n")
    return 0


def _shortest(schedule: Schedule, failure: str) -> Schedule:
    def fails_alike(shorter: Schedule) -> bool:
        return failure_of(shorter) == failure

    return shrink(schedule, fails_alike)


if __name__ == "__main__":
    sys.exit(main())
