"""The stage of `mlog demo`: runs commands as a person would type them, and checks claims about them."""

from __future__ import annotations

import io
import json
import queue
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlog.cli.terminal import can_unicode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlog.cli.output import Console

__all__ = ["Process", "Stage", "flip_bits"]

_WIDTH: Final = 76
_WAIT_S: Final = 20.0
_LINES_MAX: Final = 10_000


class Stage:
    """What the steps of the demo are told and done with.

    Attributes:
        home: The home that commands work on unless another one is named.
        failed: How many claims did not hold.
    """

    def __init__(self, console: Console, folder: Path):
        self.console = console
        self.folder = folder
        self.home = folder / "home"
        self.failed = 0
        self.steps = 0

    def end(self) -> None:
        """Say what came of it."""
        self.say("")
        if self.failed:
            self.say(self.console.bad(f"{self.failed} checks failed."))
            self.console.exit_code = 1
        else:
            self.say("Every check holds. Next: 'mlog new TITLE', or 'mlog import FILE' with a chat of yours.")

    # -- telling -----------------------------------------------------------------------------

    def title(self, title: str, *explained: str) -> None:
        self.steps += 1
        rule = "─" if self.console.unicode else "-"
        head = f"{rule * 2} {self.steps}. {title} "
        self.say("\n" + self.console.bold(head + rule * (_WIDTH - len(head))))
        for line in explained:
            self.say(line)

    def check(self, claim: str, holds: bool) -> None:
        self.failed += not holds
        if self.console.json:
            fields = {"name": claim, "ok": holds, "detail": f"step {self.steps}", "advice": ""}
            self.console.record("check", fields)
        self.say(f"  {self.console.mark(ok=holds)} {claim}")

    def say(self, text: str) -> None:
        if not self.console.json:
            self.console.line(text)

    # -- doing -------------------------------------------------------------------------------

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8", newline="\n")
        return path

    def show(self, *arguments: str | Path, home: Path | None = None) -> tuple[int, str]:
        """Run a command as a person would type it, and show both."""
        shown = [str(part.name) if isinstance(part, Path) else part for part in arguments]
        quoted = " ".join(part if part.isascii() and " " not in part else f"'{part}'" for part in shown)
        of_home = f"--home {home.name} " if home is not None else ""
        code, printed = self.run(*arguments, home=home)
        self.say(self.console.dim(f"$ mlog {of_home}{quoted}".replace(" #", r" \#")))
        for line in printed.splitlines():
            self.say(f"  {line}")
        return code, printed

    def json(self, *arguments: str | Path, home: Path | None = None) -> list[dict[str, Any]]:
        _, printed = self.run("--json", *arguments, home=home)
        return [json.loads(line) for line in printed.splitlines()]

    def run(self, *arguments: str | Path, home: Path | None = None) -> tuple[int, str]:
        """Exit code and output of a command."""
        from mlog.cli.main import main

        words: Sequence[str] = ["--home", str(home or self.home), *map(str, arguments)]
        encoding = "utf-8" if sys.stdout is None or can_unicode(sys.stdout) else "ascii"
        # JSON lines are UTF-8 whatever the terminal has.
        if "--json" in words:
            encoding = "utf-8"
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding, errors="backslashreplace", newline="\n")
        with redirect_stdout(stream), redirect_stderr(stream):
            code = main(words)
            stream.flush()
        if code == 130:
            raise KeyboardInterrupt
        return code, raw.getvalue().decode(encoding)

    def start(self, *arguments: str, home: Path) -> Process:
        """Start a command of its own in the background, and show it; `Process.stop` ends it."""
        of_home = f"--home {home.name} " if home != self.home else ""
        self.say(self.console.dim(f"$ mlog {of_home}{' '.join(arguments)} &"))
        return Process(["--home", str(home), "--json", *arguments])


class Process:
    """A real mlog process whose JSON lines are read as they come; use it in a `with` statement."""

    def __init__(self, arguments: Sequence[str]):
        command = [sys.executable, "-m", "mlog", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 (our own program)
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """The next line that is wanted; None if none comes in time."""
        for _ in range(_LINES_MAX):
            try:
                line = self._lines.get(timeout=_WAIT_S)
            except queue.Empty:
                return None
            if wanted(line):
                return line
        return None

    def stop(self, *, at_once: bool = False) -> None:
        """End it: as a person would, or as a power cut does."""
        if at_once:
            self._process.kill()
        else:
            self._process.terminate()
        try:
            self._process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # The last line of a process that was killed may be cut.
            if line.endswith(b"\n"):
                self._lines.put(json.loads(line))


def flip_bits(database: Path, text_id: str, header_id: str) -> None:
    """Change the lowest bit of a letter in one stored text, and of a byte in one stored header."""
    import sqlite3

    text, header = bytes.fromhex(text_id), bytes.fromhex(header_id)
    db = sqlite3.connect(database)
    try:
        with db:
            n, body = db.execute(
                "SELECT n, CAST(body AS BLOB) FROM bodies JOIN entries USING (n) WHERE id = ?", (text,)
            ).fetchone()
            at = body.index(b'"text":"') + 10
            db.execute("UPDATE bodies SET body = CAST(? AS TEXT) WHERE n = ?", (_flipped(body, at), n))
            (tail,) = db.execute("SELECT tail FROM entries WHERE id = ?", (header,)).fetchone()
            db.execute("UPDATE entries SET tail = ? WHERE id = ?", (_flipped(tail, len(tail) // 2), header))
    finally:
        db.close()


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
