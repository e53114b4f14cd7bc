"""Commands about who is in a conversation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import CONVERSATION, TEXT, verb
from mlog.cli.terminal import safe
from mlog.errors import UserError

if TYPE_CHECKING:
    from mlog.api import Home
    from mlog.cli.output import Console

__all__ = ["add", "leave", "members", "remove"]


_READS: Final = {
    True: "they can read all that was ever said in it.",
    False: (
        "they can read what is said from now on, and nothing that was said before. 'mlog add CONVERSATION "
        "PERSON --history' lets them read that, too."
    ),
}


@verb(
    "members",
    """mlog members trip
    mlog members trip bob admin""",
)
@click.argument("conversation", type=CONVERSATION)
@click.argument("person", type=TEXT, required=False)
@click.argument("role", type=click.Choice(["admin", "member"]), required=False)
def members(console: Console, conversation: str, person: str | None, role: str | None) -> None:
    """List who is in a conversation, or give somebody another role.

    An admin may add and remove people, change their roles, and erase anybody's messages.
    """
    if person is not None and role is None:
        raise click.UsageError("Missing argument 'ROLE': admin or member.")
    with console.open_home() as home:
        chosen = home.conversation(conversation)
        if person is not None and role is not None:
            from mlog.api.members import set_role

            set_role(home, chosen.n, person, role)
        _list(console, home, chosen.n)


@verb(
    "add",
    """mlog add trip carol dave
    mlog add trip carol --history""",
)
@click.argument("conversation", type=CONVERSATION)
@click.argument("persons", type=TEXT, nargs=-1, required=True, metavar="PERSON...")
@click.option(
    "--history/--no-history",
    default=False,
    help="Whether they may also read what was said before. Not, if you do not say so.",
)
def add(console: Console, conversation: str, persons: tuple[str, ...], history: bool) -> None:
    """Let contacts into a conversation.

    They have it as soon as one of their devices meets one of a member. They read what is said from then on,
    and with --history all that was said before. That can be granted later, to who is in it already, by the
    same command; it cannot be taken back. Without it they still see who wrote when and how much, and titles.
    """
    from mlog.api import members as api

    with console.open_home() as home:
        chosen = home.conversation(conversation)
        api.add(home, chosen.n, persons, history=history)
        console.note(_READS[history])
        _list(console, home, chosen.n)


@verb("remove", "mlog remove trip carol")
@click.argument("conversation", type=CONVERSATION)
@click.argument("person", type=TEXT)
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(console: Console, conversation: str, person: str, yes: bool) -> None:
    """Remove somebody from a conversation.

    Whatever is written from then on is closed to them, and what they write counts for nothing. What they have
    already they keep. Asks first.
    """
    from mlog.api import members as api

    with console.open_home() as home:
        chosen = home.conversation(conversation)
        _confirm(f"Remove {safe(person)} from {safe(chosen.title)}?", yes=yes)
        api.remove(home, chosen.n, person)
        _list(console, home, chosen.n)


@verb("leave", "mlog leave trip")
@click.argument("conversation", type=CONVERSATION)
@click.option("--yes", is_flag=True, help="Do not ask.")
def leave(console: Console, conversation: str, yes: bool) -> None:
    """Leave a conversation, with all your devices.

    What is here stays here. Asks first.
    """
    from mlog.api import members as api

    with console.open_home() as home:
        chosen = home.conversation(conversation)
        _confirm(f"Leave {safe(chosen.title)}?", yes=yes)
        api.leave(home, chosen.n)
        _list(console, home, chosen.n)


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError("nobody is here to be asked. Confirm with --yes.")
    if not click.confirm(question, err=True):
        raise UserError("nothing was changed.")


def _list(console: Console, home: Home, log: int) -> None:
    from mlog.api.members import members
    from mlog.cli.lines import Lines

    place = Lines(home, console).place(log) if console.json else {}
    for member in members(home, log):
        if console.json:
            fields = {
                "name": member.name,
                "role": member.role,
                "here": member.here,
                "contact": member.contact,
                "history": member.history,
                "devices": list(member.devices),
            }
            console.record("member", {**place, **fields})
            continue
        you = "  you" if member.here else ""
        you += "" if member.history else "  not what was said before joining"
        devices = f"  on {safe(', '.join(member.devices))}" if member.devices else "  not met yet"
        console.line(f"{console.bold(safe(member.name))}  {member.role}{you}{devices}")
