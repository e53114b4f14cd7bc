"""Commands about files of mlog's own: where they are, backups, shell completion."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mlog import config
from mlog.cli.options import PATH, ask_passphrase, read_passphrase, verb
from mlog.cli.transfer import check_free
from mlog.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from mlog.cli.output import Console

__all__ = ["backup", "completion", "path", "restore"]


def _passphrase_option(function: Callable[..., Any]) -> Callable[..., Any]:
    # Never the passphrase itself: every process on the machine can read command lines.
    return click.option(
        "--passphrase-file",
        type=PATH,
        metavar="FILE",
        help=f"Its first line is the passphrase; - is standard input. Else {config.PASSPHRASE_VARIABLE} "
        "names the file, or you are asked.",
    )(function)


@verb(
    "path",
    """sqlite-utils query "$(mlog path snapshot)" 'select * from messages limit 5'
    ls "$(mlog path home)\"""",
)
@click.argument("name", type=click.Choice(["db", "home", "snapshot"]))
def path(console: Console, name: str) -> None:
    """Print where the database, the home or a read-only copy is.

    "snapshot" makes the copy: consistent, also while others write; it replaces the one before. Scripts
    should read that, or open the database read-only; its views are documented in docs/sql.md.
    """
    if name == "snapshot":
        with console.open_home() as home:
            found = home.snapshot()
    else:
        found = console.chosen_home()
        if name == "db":
            found /= config.DATABASE_NAME
    if console.json:
        console.record("path", {"name": name, "path": _text(found)})
    else:
        # Exactly the bytes of the name: a script hands them on.
        console.write_bytes(os.fsencode(found) + os.linesep.encode())


@verb(
    "backup",
    """mlog backup /media/stick/mlog-backup
    mlog backup mlog-backup --force --passphrase-file ~/.mlog-passphrase""",
)
@click.argument("file", type=PATH)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@_passphrase_option
def backup(console: Console, file: Path, force: bool, passphrase_file: Path | None) -> None:
    """Write everything to one file, sealed with a passphrase.

    Keys are included. Other mlog processes may go on writing. Without the passphrase nobody can open
    the file, you included.
    """
    check_free(file, force=force)
    passphrase = read_passphrase(passphrase_file) or ask_passphrase(twice=True)
    with console.open_home() as home:
        home.backup(file, passphrase)
    if console.json:
        console.record("backup", {"file": _text(file)})
    else:
        console.note(f"wrote {file}: {file.stat().st_size:,} bytes")


@verb("restore", "mlog --home ~/mlog-restored restore /media/stick/mlog-backup")
@click.argument("file", type=PATH)
@_passphrase_option
def restore(console: Console, file: Path, passphrase_file: Path | None) -> None:
    """Make a home from a backup, in a new or empty folder.

    The folder is that of --home, or else the usual place.
    """
    from mlog import api

    home = console.chosen_home()
    # Before anybody types a passphrase for nothing.
    if not file.is_file():
        raise UserError(f"{file}: there is no such file.")
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise UserError(
            f"{home} is in use. Restore into a new folder: 'mlog --home FOLDER restore {file.name}'."
        )
    passphrase = read_passphrase(passphrase_file) or ask_passphrase(twice=False)
    api.restore(file, home, passphrase)
    if console.json:
        console.record("restored", {"file": _text(file), "home": _text(home)})
    else:
        console.note(f"restored to {home}")


@verb(
    "completion",
    """mlog completion bash > ~/.local/share/bash-completion/completions/mlog
    mlog completion zsh > ~/.zfunc/_mlog
    mlog completion fish > ~/.config/fish/completions/mlog.fish""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(console: Console, shell: str) -> None:
    """Print the script that makes a shell complete commands.

    Options and titles of conversations too.
    """
    from click.shell_completion import get_completion_class

    from mlog.cli.app import app

    found = get_completion_class(shell)
    assert found is not None
    script = found(app, {}, "mlog", "_MLOG_COMPLETE").source()
    console.write_bytes(script.encode() + b"\n")


def _text(path: Path) -> str:
    return os.fsencode(path).decode(errors="replace")
