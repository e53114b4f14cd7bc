"""Commands for the files that belong to messages: which there are, and writing one to the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mlog.cli.options import CONVERSATION, PATH, TEXT, verb
from mlog.cli.terminal import safe

if TYPE_CHECKING:
    from pathlib import Path

    from mlog.cli.output import Console

__all__ = ["attachments", "save"]


@verb(
    "attachments",
    """mlog attachments
    mlog attachments trip --json""",
)
@click.argument("conversation", type=CONVERSATION, required=False)
def attachments(console: Console, conversation: str | None) -> None:
    """List the files that belong to messages.

    Those of one conversation, or of all.

    The number in front is what 'mlog save' takes. A file may not be here yet, where a device fetches
    texts only when they are asked for; of some only the name was imported.
    """
    from mlog.api.attachments import state_of
    from mlog.cli.lines import ID_DIGITS, Lines, size_text

    with console.open_home() as home:
        n = home.conversation(conversation).n if conversation is not None else None
        lines = Lines(home, console)
        count = 0
        for attached in home.attachments(n):
            count += 1
            state = state_of(home, attached)
            if console.json:
                fields = lines.attachment(attached, state)
                console.record(
                    "attachment", {**fields, **lines.place(attached.log), "of": attached.mid.hex()}
                )
                continue
            title = f"{console.bold(lines.title(attached.log))}  " if n is None else ""
            shown = "" if state == "here" else console.dim(f"  ({state})")
            size = size_text(attached.size).rjust(9) if attached.size or attached.hash else " " * 9
            number = console.dim(attached.id.hex()[:ID_DIGITS])
            console.line(f"{number}  {size}  {title}{safe(attached.name)}{shown}")
        if not count and not console.json:
            console.note("no attachments")


@verb(
    "save",
    """mlog save 3f9a
    mlog save 3f9a -o ~/Pictures/tent.jpg""",
)
@click.argument("entry", type=TEXT, metavar="ATTACHMENT|ENTRY")
@click.option("--output", "-o", type=PATH, metavar="PATH", help="Where to; else here, by its own name.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def save(console: Console, entry: str, output: Path | None, force: bool) -> None:
    """Write an attachment to the disk, checked against its hash.

    Named by its number, or by that of a message with just one. The file is written whole or not at all.
    """
    from mlog.api.attachments import attachment
    from mlog.cli.lines import Lines, size_text

    with console.open_home() as home:
        attached = attachment(home, entry)
        path = home.save(attached, output, force=force)
        if console.json:
            fields = Lines(home, console).attachment(attached)
            console.record("saved", {**fields, "file": os.fsencode(path).decode(errors="replace")})
        else:
            console.note(f"wrote {safe(str(path))}: {size_text(attached.size)}")
