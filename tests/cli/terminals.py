"""A command at a terminal: a real process with a pseudo terminal, that a test reads and types into."""

from __future__ import annotations

import math
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["Terminal"]

_WAIT_S = 60
_PRESSED_AGAIN_S = 10
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """One `mlog` at a terminal of its own; use it in a `with` statement.

    Args:
        home: Its home.
        piped: Standard output is a pipe (`out`) instead.
        given: Standard input, if it is no terminal.
        within: What runs the command, such as `ip netns exec NAME`.
    """

    def __init__(
        self,
        home: Path,
        *args: str,
        piped: bool = False,
        given: bytes | None = None,
        within: Sequence[str] = (),
    ):
        import pty

        self._master, slave = pty.openpty()
        environment = {
            **os.environ,
            "MLOG_HOME": str(home),
            "PYTHONIOENCODING": "utf-8",
            "TERM": "xterm",
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "INPUTRC": os.devnull,
        }
        self.process = subprocess.Popen[bytes](
            [*within, sys.executable, "-m", "mlog", *args],
            stdin=subprocess.PIPE if given is not None else slave,
            stdout=subprocess.PIPE if piped else slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""
        self._interrupted_s = math.inf
        if given is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(given)
            self.process.stdin.close()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(_WAIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self._master)

    def until(self, pattern: str) -> re.Match[str]:
        """Read until this is shown.

        Raises:
            AssertionError: It ended, or too much time passed, without that.
        """
        deadline = time.monotonic() + _WAIT_S
        while (found := re.search(pattern, self.shown)) is None:
            assert time.monotonic() < deadline, f"never showed {pattern!r}:\n{self.shown}"
            assert self._read(1.0), f"ended without {pattern!r}:\n{self.shown}"
        return found

    def _read(self, timeout_s: float) -> bool:
        """Read what there is; False at the end."""
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        if not ready:
            return True
        try:
            data = os.read(self._master, 65_536)
        except OSError:
            # Linux says so when the last one at the other side is gone.
            return False
        self.shown += _COLOURS.sub("", data.decode(errors="replace"))
        return bool(data)

    def type(self, text: str) -> None:
        """Type this; a line ends with `\\n`."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._interrupted_s = time.monotonic()
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end; gives the exit code."""
        deadline = time.monotonic() + _WAIT_S
        while self._read(1.0) and time.monotonic() < deadline:
            if time.monotonic() > self._interrupted_s + _PRESSED_AGAIN_S:
                # Just before it waits for a key, readline notes a signal and goes on waiting.
                self.interrupt()
            if self.process.poll() is not None and not select.select([self._master], [], [], 0.2)[0]:
                break
        return self.process.wait(_WAIT_S)
