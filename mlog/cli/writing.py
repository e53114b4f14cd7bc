"""Commands that write to a conversation: each prints the id of what it wrote."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mlog.cli.options import CONVERSATION, PATH, SPAN_OR_OFF, TEXT, span_text, text_or_stdin, verb
from mlog.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from mlog.api import Home
    from mlog.cli.output import Console
    from mlog.log.ids import EntryId

__all__ = ["edit", "erase", "expire", "new", "react", "send", "title"]


@verb(
    "new",
    """mlog new 'Summer trip'
    mlog new 'Summer trip' --with ann --with bob""",
)
@click.argument("title", type=TEXT)
@click.option("--with", "persons", type=TEXT, multiple=True, metavar="PERSON", help="A contact to talk with.")
def new(console: Console, title: str, persons: tuple[str, ...]) -> None:
    """Start a conversation, by yourself or with contacts.

    Prints the number under which it stays known, also when it is given another title.
    """
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        if persons:
            from mlog.api.members import new_with

            conversation = new_with(home, title, persons)
        else:
            conversation = home.new(title)
        if console.json:
            console.record("conversation", Lines(home, console).conversation(conversation, None))
        else:
            console.line(conversation.topic.hex()[:16])
            console.note(f"started {conversation.title}")


@verb(
    "send",
    """mlog send trip 'Who brings the tent?'
    mlog send trip --reply-to 3f9a 'I do'
    mlog send trip 'The map' --attach map.pdf
    git log -1 | mlog send work -""",
)
@click.argument("conversation", type=CONVERSATION)
@click.argument("text", type=TEXT, required=False)
@click.option("--reply-to", type=TEXT, metavar="ENTRY", help="The message that this one answers.")
@click.option("--attach", type=PATH, multiple=True, metavar="FILE", help="A file that goes with it.")
def send(
    console: Console, conversation: str, text: str | None, reply_to: str | None, attach: tuple[Path, ...]
) -> None:
    """Write a message; it is on the disk when this returns.

    TEXT is one argument: put it in quotes. "-" reads it from standard input. With a file it may be left out.
    """
    if text is None and not attach:
        raise click.UsageError("Missing argument 'TEXT'.")
    text = "" if text is None else text_or_stdin(text)
    with console.open_home() as home:
        chosen = home.conversation(conversation)
        answered = home.message(reply_to, chosen.n).mid if reply_to is not None else None
        id_ = home.send(chosen.n, text, reply_to=answered, attach=attach)
        _written(console, home, id_, "message" if answered is None else "reply", chosen.n)


@verb("edit", "mlog edit 3f9a 'Who brings the big tent?'")
@click.argument("entry", type=TEXT)
@click.argument("text", type=TEXT)
def edit(console: Console, entry: str, text: str) -> None:
    """Replace the text of a message of yours.

    TEXT is one argument; "-" reads it from standard input. The text before stays in the log until the
    message is erased.
    """
    text = text_or_stdin(text)
    with console.open_home() as home:
        message = home.message(entry)
        _written(console, home, home.edit(message, text), "edit", message.log)


@verb(
    "react",
    """mlog react 3f9a 👍
    mlog react 3f9a 👍 --remove""",
)
@click.argument("entry", type=TEXT)
@click.argument("emoji", type=TEXT)
@click.option("--remove", is_flag=True, help="Take the emoji back.")
def react(console: Console, entry: str, emoji: str, remove: bool) -> None:
    """Put an emoji on a message, or take it back."""
    with console.open_home() as home:
        message = home.message(entry)
        _written(console, home, home.react(message, emoji, remove=remove), "reaction", message.log)


@verb("erase", "mlog erase 3f9a")
@click.argument("entry", type=TEXT)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def erase(console: Console, entry: str, yes: bool) -> None:
    """Forget the text of a message of yours, for good.

    An admin of a conversation may do that with anybody's.
    The text is overwritten in the file; its place in the log stays, and everything still verifies.
    Asks first.
    """
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        message = home.message(entry)
        if message.erased:
            console.note("it is erased already; nothing was written.")
            return
        if not yes:
            if sys.stdin is None or not sys.stdin.isatty():
                raise UserError(
                    "erasing cannot be undone, and nobody is here to be asked. Confirm with --yes."
                )
            console.note(Lines(home, console).said(message))
            if not click.confirm("Erase this for good?", err=True):
                raise UserError("nothing was erased.")
        _written(console, home, home.erase(message), "erasure", message.log)


@verb("title", "mlog title trip 'Summer trip 2025'")
@click.argument("conversation", type=CONVERSATION)
@click.argument("title", type=TEXT)
def title(console: Console, conversation: str, title: str) -> None:
    """Call a conversation something else."""
    with console.open_home() as home:
        chosen = home.conversation(conversation)
        _written(console, home, home.set_title(chosen.n, title), "title", chosen.n)


@verb(
    "expire",
    """mlog expire trip
    mlog expire trip 30d
    mlog expire trip off""",
)
@click.argument("conversation", type=CONVERSATION)
@click.argument("after", type=SPAN_OR_OFF, metavar="[DURATION|off]", required=False)
def expire(console: Console, conversation: str, after: int | None) -> None:
    """Let what is said from now on disappear after a time.

    Each device that has the conversation forgets texts and files by its own clock; their places in the log
    stay. What was said before, and what is imported, stays. A device that others hold may keep a copy.
    """
    with console.open_home() as home:
        chosen = home.conversation(conversation)
        if after is not None:
            _written(console, home, home.expire_after(chosen.n, after), "expire", chosen.n)
            return
        set_ms = home.expiry_ms(chosen.n)
        if console.json:
            from mlog.cli.lines import Lines

            place = Lines(home, console).place(chosen.n)
            console.record("expiry", {**place, "after_s": set_ms // 1000 or None})
        else:
            console.line(span_text(set_ms) if set_ms else "off")


def _written(console: Console, home: Home, id_: EntryId, kind: str, log: int) -> None:
    if console.json:
        from mlog.cli.lines import Lines

        fields = {"id": id_.hex(), "kind": kind, **Lines(home, console).place(log)}
        console.record("written", fields)
    else:
        console.line(id_.hex()[:16])
