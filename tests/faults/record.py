"""Record of slow runs: one line of JSON for each, in the file that MLOG_SLOW_RECORD names.

docs/performance.md takes seed, count, commit and duration from there, so that a run can be replayed.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["RECORD_VARIABLE", "recorded"]

RECORD_VARIABLE = "MLOG_SLOW_RECORD"


@contextmanager
def recorded(test: str, *, seed: int, count: int) -> Generator[None]:
    """Note a run that passed; without the variable, nothing."""
    started = time.monotonic()
    yield
    if path := os.environ.get(RECORD_VARIABLE):
        line = {
            "test": test,
            "seed": seed,
            "count": count,
            "commit": _commit(),
            "duration_s": round(time.monotonic() - started, 1),
        }
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _commit() -> str:
    shown = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.strip() or "unknown"
