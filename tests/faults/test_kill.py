"""kill -9 at exact points of real processes: what was acknowledged is kept, and nothing is half-done.

Two kinds of point: before (or amid) the n-th operation on the disk, and before the n-th call that
the program makes, which falls between the operations too. Both are exact, so a number replays.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlog.api.home import Home

from . import scenario, vfs
from .record import recorded
from .vfs import DISK_KINDS, Shim

SEED = 1

_reason = vfs.unavailable()
pytestmark = pytest.mark.skipif(_reason is not None, reason=str(_reason))

KINDS = frozenset({*DISK_KINDS, "create", "shm"})
JOBS: dict[str, Callable[[Path, scenario.Ack], None]] = {
    "found": scenario.found,
    "append": scenario.append,
    "change": scenario.change,
    "import": scenario.import_in_batches,
}


@dataclass(frozen=True)
class Point:
    """Where the process ends: before or amid the n-th operation ("disk") or call ("call") of a job."""

    job: str
    kind: str
    n: int
    partial: bool = False


@dataclass(frozen=True)
class Outcome:
    acknowledged: list[str]
    killed: bool
    operations: int = 0
    calls: int = 0


def run(job: str, folder: Path, point: Point | None = None) -> Outcome:
    """Do a job in a process of its own, up to the point."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        _child(job, folder, point, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, "\n".join(lines)
    acknowledged = [line for line in lines if not line.startswith("counted")]
    counted = [int(word) for line in lines[len(acknowledged) :] for word in line.split()[1:]]
    return Outcome(acknowledged, killed, *counted)


def _child(job: str, folder: Path, point: Point | None, writer: int) -> None:
    code = 1
    write = os.write  # Before the shim: the pipe is no disk.

    def ack(line: str) -> None:
        write(writer, f"{line}\n".encode())

    try:
        folder.mkdir(exist_ok=True)
        calls = 0

        def called(_frame: object, event: str, _argument: object) -> None:
            nonlocal calls
            if event in ("call", "c_call"):
                calls += 1
                if point is not None and point.kind == "call" and calls == point.n:
                    os.kill(os.getpid(), signal.SIGKILL)

        with Shim(folder) as shim:
            if point is not None and point.kind == "disk":
                shim.kill_at(point.n, partial=point.partial, kinds=KINDS)  # pyright: ignore[reportArgumentType]
            if point is None or point.kind == "call":
                sys.setprofile(called)
            JOBS[job](folder, ack)
            sys.setprofile(None)
        if point is None:
            ack(f"counted {shim.counts.total()} {calls}")
        code = 0
    except BaseException:  # noqa: BLE001 - the parent shows it
        sys.setprofile(None)
        ack(traceback.format_exc())
    finally:
        os._exit(code)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenario.template(tmp_path_factory.mktemp("template") / "home")


def prepared(job: str, before: Path, folder: Path) -> Path:
    return folder if job == "found" else scenario.copied(before, folder)


def planned(before: Path, scratch: Path, count: int) -> list[Point]:
    """`count` points of this seed, the same share of each job and kind."""
    rng = random.Random(SEED)
    points: list[Point] = []
    for job in JOBS:
        whole = run(job, prepared(job, before, scratch / f"whole-{job}"))
        share = count // len(JOBS) // 2
        operations = [(n, partial) for n in range(1, whole.operations + 1) for partial in (False, True)]
        chosen = rng.sample(operations, min(share, len(operations)))
        points += [Point(job, "disk", n, partial) for n, partial in sorted(chosen)]
        # A job too short for its share of disk operations has more calls instead.
        calls = rng.sample(range(1, whole.calls + 1), 2 * share - len(chosen))
        points += [Point(job, "call", n) for n in sorted(calls)]
    return points


def imported(home: Home) -> list[tuple[object, ...]]:
    chats = [c for c in home.conversations() if c.title != scenario.TITLE]
    return [
        (c.title, m.mid, m.kind, m.author.name, m.text, m.time_ms, m.to)
        for c in chats
        for m in home.messages(c.n)
    ]


def _points(request: pytest.FixtureRequest) -> int:
    return 2_400 if request.config.getoption("--slow") else 304


def test_no_acknowledged_entry_is_lost_by_kill_9(
    request: pytest.FixtureRequest, before: Path, ram: Path
) -> None:
    count = _points(request)
    with recorded("kill -9", seed=SEED, count=count):
        uninterrupted = prepared("import", before, ram / "uninterrupted")
        run("import", uninterrupted)
        with scenario.opened(uninterrupted) as home:
            expected = imported(home)
        assert len(expected) == scenario.LINES
        killed = 0
        for number, point in enumerate(planned(before, ram, count)):
            folder = prepared(point.job, before, ram / str(number))
            outcome = run(point.job, folder, point)
            killed += outcome.killed
            try:
                scenario.assert_kept(folder, outcome.acknowledged)
                if point.job == "import":
                    assert_resumed(folder, outcome, expected)
            except BaseException as error:
                error.add_note(f"seed {SEED}: {point}, after {outcome.acknowledged}")
                raise
            shutil.rmtree(folder)
        assert killed > 0.9 * count


def assert_resumed(folder: Path, outcome: Outcome, expected: list[tuple[object, ...]]) -> None:
    """The same import again takes up where it ended: nothing twice, nothing missing."""
    done = int(outcome.acknowledged[-1].split()[1]) if outcome.acknowledged else 0
    with scenario.opened(folder) as home:
        kept = imported(home)
        assert kept == expected[: len(kept)]
        assert len(kept) >= done
        new, known = scenario.import_irc(home, scenario.irc_log(1, scenario.LINES))
        assert (new, known) == (scenario.LINES - len(kept), len(kept))
        assert imported(home) == expected
        scenario.assert_sound(home)
