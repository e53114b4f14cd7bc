"""The command `mlog`: runs it, and turns whatever happens into one line and an exit code.

    0    done
    1    something that the person can fix; the message says how
    2    the command line itself is wrong
    3    a peer or the network
    4    a verification failed
    5    another process holds the log
    6    the store, the disk or the output failed
    130  interrupted

A closed pipe is no error. There is never a traceback, unless MLOG_DEBUG is set. Commands stand in
mlog/cli/app.py; nothing but the interpreter's own modules is loaded before the handler is in place.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlog.cli.output import Console

__all__ = ["main"]

_DEBUG_VARIABLE = "MLOG_DEBUG"
_COMPLETE_VARIABLE = "_MLOG_COMPLETE"

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    try:
        from mlog.cli.output import Console

        console = Console()
        _prepare_streams()
    except KeyboardInterrupt:
        return _INTERRUPTED
    code = _guarded(console, list(sys.argv[1:] if argv is None else argv))
    return _finish(console, code)


def _prepare_streams() -> None:
    # What an encoding cannot say is shown as its escape; that must never end the program.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and stream.errors == "strict":
            reconfigure(errors="backslashreplace")


def _guarded(console: Console, args: list[str]) -> int:
    try:
        try:
            return _run(console, args)
        except Exception:
            if os.environ.get(_DEBUG_VARIABLE):
                import traceback

                traceback.print_exc()
            raise
    except KeyboardInterrupt:
        return _say_interrupted(console)
    except BaseException as error:  # noqa: BLE001 (the last line of defence is for everything)
        return _explain(console, error)


def _run(console: Console, args: list[str]) -> int:
    from mlog.cli.app import app

    instruction = os.environ.get(_COMPLETE_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(app, {"obj": console}, "mlog", _COMPLETE_VARIABLE, instruction)
    with app.make_context("mlog", args, obj=console) as context:
        app.invoke(context)
    console.flush()
    return console.exit_code


def _explain(console: Console, error: BaseException) -> int:
    """Say what is wrong, and what the exit code for it is."""
    import click

    from mlog.cli.output import OutputClosed, discard
    from mlog.errors import MlogError

    match error:
        case OutputClosed() | BrokenPipeError():
            discard(sys.stdout)
            return console.exit_code
        case click.exceptions.Exit():
            return error.exit_code
        case click.exceptions.Abort() | EOFError():
            return _say_interrupted(console)
        case click.UsageError():
            _say_usage(console, error)
            return error.exit_code
        case click.ClickException():
            console.note(f"mlog: {error.format_message()}")
            return 1
        case MlogError():
            console.note(f"mlog: {error}")
            return error.exit_code
        case OSError():
            # The API turns its own into MlogError: this one is about a file of the command line.
            where = f"{os.fspath(error.filename)}: " if isinstance(error.filename, str) else ""
            console.note(f"mlog: {where}{error.strerror or error}")
            return 6
        case MemoryError():
            console.note("mlog: out of memory. What was confirmed is in the log.")
            return 1
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case _:
            console.note(
                f"mlog: something unexpected: {type(error).__name__}: {str(error)[:200]}\n"
                f"This is a fault in mlog. Please report it, with what {_DEBUG_VARIABLE}=1 shows."
            )
            return 1


def _say_interrupted(console: Console) -> int:
    import signal

    # A second Ctrl-C, a moment after the first, has nothing left to interrupt.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if console.interrupted:
        # A terminal has just echoed ^C.
        line_end = "\n" if sys.stderr is not None and sys.stderr.isatty() else ""
        console.note(f"{line_end}mlog: {console.interrupted}")
    return _INTERRUPTED


def _say_usage(console: Console, error: object) -> None:
    import click

    assert isinstance(error, click.UsageError)
    context = error.ctx
    if context is None:
        console.note(f"mlog: {error.format_message()}")
    else:
        usage = " ".join(context.command.get_usage(context).split())
        console.note(f"mlog: {error.format_message()}\n{usage}\nHelp: {context.command_path} --help")


def _finish(console: Console, code: int) -> int:
    """Flush what is left; the interpreter would report a failure here in its own way."""
    from mlog.cli.output import OutputClosed, discard
    from mlog.errors import StoreError

    try:
        console.flush()
    except OutputClosed:
        discard(sys.stdout)
    except StoreError as error:
        discard(sys.stdout)
        if code == 0:
            console.note(f"mlog: {error}")
            code = error.exit_code
    except KeyboardInterrupt:
        code = _INTERRUPTED
    return code
