"""What the tests of commands share: running one in this process, as a person or a program would."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlog.cli import main as main_module


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """JSON lines that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]


class Stream(io.TextIOWrapper):
    """Standard input or output of a test; may pretend to be a terminal."""

    def __init__(self, data: bytes = b"", *, tty: bool = False, encoding: str = "utf-8"):
        self.raw_bytes = io.BytesIO(data)
        self._tty = tty
        super().__init__(self.raw_bytes, encoding, errors="strict", newline="\n")

    def isatty(self) -> bool:
        return self._tty

    def text(self) -> str:
        self.flush()
        return self.raw_bytes.getvalue().decode(self.encoding, "surrogateescape")


Run = Callable[..., Result]


def runner(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in this process, in the home that MLOG_HOME names."""

    def run_(*args: str | Path, stdin: bytes = b"", tty: bool = False, encoding: str = "utf-8") -> Result:
        streams = Stream(stdin, tty=tty), Stream(tty=tty, encoding=encoding), Stream(tty=tty)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", streams[0])
            patch.setattr(sys, "stdout", streams[1])
            patch.setattr(sys, "stderr", streams[2])
            patch.setenv("COLUMNS", "100")
            patch.delenv("NO_COLOR", raising=False)
            patch.delenv("FORCE_COLOR", raising=False)
            code = main_module.main([str(arg) for arg in args])
        return Result(code, streams[1].text(), streams[2].text())

    return run_


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in this process, in a home of its own."""
    return runner(monkeypatch)


@pytest.fixture
def spawn(home: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a real process; ended, and its pipes closed, with the test."""
    with ExitStack() as stack:

        def spawn_(*args: str | Path, **options: Any) -> subprocess.Popen[bytes]:
            options_: dict[str, Any] = {
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "env": {**os.environ, "MLOG_HOME": str(home), "PYTHONIOENCODING": "utf-8"},
                **options,
            }
            process = subprocess.Popen[bytes]([sys.executable, "-m", "mlog", *map(str, args)], **options_)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield spawn_


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    """An IRC log of four lines, one of them empty."""
    return boat_log(tmp_path)


def boat_log(folder: Path) -> Path:
    path = folder / "#boat.log"
    path.write_text(
        "[2024-05-01 10:00:00] <ada> who sails on sunday?\n"
        "[2024-05-01 10:00:30] <bo> me\n"
        "\n"
        "[2024-05-01 10:01:00] * ada cheers\n"
    )
    return path
