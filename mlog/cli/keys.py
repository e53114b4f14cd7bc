"""The command about the key file: what guards it, and to change that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mlog import config
from mlog.cli.options import PATH, ask_passphrase, read_passphrase, verb
from mlog.cli.terminal import safe

if TYPE_CHECKING:
    from pathlib import Path

    from mlog.api.keys import Protection
    from mlog.cli.output import Console

__all__ = ["keys", "protection_line"]


@verb(
    "keys",
    """mlog keys status
    mlog keys protect --passphrase
    mlog keys protect --keyring
    mlog keys unprotect""",
)
@click.argument("action", type=click.Choice(["status", "protect", "unprotect"]))
@click.option("--passphrase", "by_passphrase", is_flag=True, help="Each command then asks for it.")
@click.option("--keyring", "by_keyring", is_flag=True, help="Open for as long as you are logged in.")
@click.option(
    "--passphrase-file",
    type=PATH,
    metavar="FILE",
    help="Its first line is the new passphrase; - is standard input.",
)
def keys(
    console: Console, action: str, by_passphrase: bool, by_keyring: bool, passphrase_file: Path | None
) -> None:
    """Say what guards your keys, or guard them better.

    They stand in a file that only you can read. Who copies your disk reads that too, unless it is
    protected with a passphrase or your system's keyring. The texts in the database stay readable to
    whoever reads the disk: encrypt the disk against that. Programs that run without you find the
    passphrase in the file that MLOG_PASSPHRASE_FILE names. Without the passphrase, or the keyring, nobody
    can open your logs, you included: keep a backup ('mlog backup').
    """
    from mlog.api.keys import Protection, key_file, protect

    if action == "protect":
        if by_passphrase == by_keyring:
            raise click.UsageError("'protect' needs either --passphrase or --keyring.")
    elif by_passphrase or by_keyring:
        raise click.UsageError("--passphrase and --keyring belong to 'protect'.")
    if passphrase_file is not None and not by_passphrase:
        raise click.UsageError("--passphrase-file belongs to 'protect --passphrase'.")
    home = console.chosen_home()
    if action == "unprotect":
        protect(home, Protection.FILE, passphrase=console.passphrase)
    elif by_keyring:
        protect(home, Protection.KEYRING, passphrase=console.passphrase)
    elif by_passphrase:
        protect(
            home,
            Protection.PASSPHRASE,
            passphrase=console.passphrase,
            new_passphrase=lambda: _new_passphrase(passphrase_file),
        )
    _show(console, home, key_file(home))


def _new_passphrase(file: Path | None) -> str:
    found = read_passphrase(file) if file is not None else None
    return found or ask_passphrase(twice=True, prompt="New passphrase")


def _show(console: Console, home: Path, file: Path) -> None:
    from mlog.api.keys import key_protection

    found = key_protection(home)
    if console.json:
        path = os.fsencode(file).decode(errors="replace")
        console.record("keys", {"protection": found.value, "file": path, "database": "readable"})
        return
    console.line(protection_line(found))
    console.line(f"Key file: {safe(str(file))}")
    if found == "passphrase":
        console.note(f"Programs that run without you: {config.PASSPHRASE_VARIABLE} names a file with it.")


def protection_line(found: Protection) -> str:
    """One sentence on who can read what on this disk."""
    guards = {
        "file": "Keys: in a file that only you can read; 'mlog keys protect' seals it against a copied disk.",
        "passphrase": "Keys: sealed with your passphrase.",
        "keyring": "Keys: sealed, and opened by your system's keyring.",
    }
    return f"{guards[found.value]} Texts: readable to whoever reads the disk; encrypt the disk against that."
