"""Commands that are not mlog's own: an executable `mlog-WORD` on the PATH works as `mlog WORD`.

A word of mlog itself is never looked for, so nothing on the PATH can stand in its way. The program gets
its arguments as they are, `--json` and `--help` included, and MLOG_HOME in its environment where a home
was named before the word; its exit code is that of mlog. Only folders that the PATH names count, so
never the current one unless it is there by its name.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Final

import click

from mlog import config
from mlog.cli.output import Console
from mlog.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["command", "find", "found"]

_PREFIX: Final = "mlog-"
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""No separator of folders, and nothing that a terminal or shell takes for something else."""


def find(word: str) -> str | None:
    """The path of the program for a word: the first on the PATH, also one that may not be executed.

    That one is found too, so that the person hears what is wrong with it.
    """
    if _WORD.fullmatch(word) is None:
        return None
    first: str | None = None
    for folder in _folders():
        for ending in _endings():
            path = os.path.join(folder, f"{_PREFIX}{word}{ending}")
            if os.path.isfile(path):
                if _may_run(path):
                    return path
                first = first or path
    return first


def found() -> list[str]:
    """The words of all programs that can be run, in order; those of mlog itself left out."""
    from mlog.cli.app import COMMANDS

    words: set[str] = set()
    for folder in _folders():
        try:
            names = [name for name in os.listdir(folder) if name.startswith(_PREFIX)]
        except OSError:
            # A PATH often names folders that are not there.
            continue
        for name in names:
            for ending in _endings():
                word = name[len(_PREFIX) : len(name) - len(ending)] if name.lower().endswith(ending) else ""
                path = os.path.join(folder, name)
                if _WORD.fullmatch(word) and os.path.isfile(path) and _may_run(path):
                    words.add(word)
    return sorted(words - COMMANDS.keys())


def command(word: str, program: str) -> click.Command:
    """A command that runs the program with whatever follows the word."""

    @click.pass_obj
    def run(console: Console, arguments: Sequence[str]) -> None:
        if console.json:
            raise click.UsageError(f"'{word}' is a program of its own: write --json after the word.")
        console.flush()
        environment = dict(os.environ)
        if console.home_path is not None:
            environment[config.HOME_VARIABLE] = os.path.abspath(console.home_path)
        try:
            console.exit_code = _run([program, *arguments], environment)
        except OSError as error:
            raise UserError(
                f"{program} cannot be run: {error.strerror or error}. Make it executable (chmod +x), and see "
                "that its first line names a program that is here, such as #!/usr/bin/env python3."
            ) from None

    return click.Command(
        word,
        callback=run,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        help=f"Runs {program}.",
    )


def _run(command_line: list[str], environment: dict[str, str]) -> int:
    """Become the program, or where a process cannot, wait for it; returns its exit code."""
    if sys.platform == "win32":
        import subprocess

        return subprocess.run(command_line, env=environment, check=False).returncode  # noqa: S603 (chosen by the person)

    import signal

    # Python ignores this signal, and a program would inherit that; it stays usual if there is no program.
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execve(command_line[0], command_line, environment)  # noqa: S606 (no shell is what is wanted)
    finally:
        signal.signal(signal.SIGPIPE, before)


def _folders() -> Iterator[str]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        # An empty one would mean the current folder, and is there by mistake.
        if folder:
            yield os.path.abspath(folder)


def _endings() -> list[str]:
    if sys.platform != "win32":
        return [""]
    return os.environ.get("PATHEXT", ".COM;.EXE;.BAT;.CMD").lower().split(";")


def _may_run(path: str) -> bool:
    return os.access(path, os.X_OK)
