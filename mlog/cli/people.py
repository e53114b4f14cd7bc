"""The command that shows who says what in all programs, and says who is one and the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import TEXT, verb
from mlog.cli.output import iso_or_none
from mlog.cli.terminal import safe, when
from mlog.plurals import counted

if TYPE_CHECKING:
    from mlog.api.identities import Likeness, Person
    from mlog.cli.output import Console

__all__ = ["people"]

_TAKES: Final = {"merge": 2, "alias": 2, "split": 1}
_SHOWN: Final = 4
"""Conversations that a line names; --json names all."""


@verb(
    "people",
    """mlog people
    mlog people merge Ann irc:ann_
    mlog people alias Ann sms:+4930123456
    mlog people split Ann""",
)
@click.argument("action", type=click.Choice(["list", "merge", "alias", "split"]), default="list")
@click.argument("names", type=TEXT, nargs=-1, metavar="[NAME...]")
def people(console: Console, action: str, names: tuple[str, ...]) -> None:
    """Show who says what, and say who is the same person.

    'merge A B' takes two for one, under the name of A; 'alias NAME WHO' gives somebody a name of your
    choice; 'split WHO' takes it back. Only your own devices learn of it. WHO is a name, or the program
    and the name: irc:ann.
    """
    if len(names) != _TAKES.get(action, 0):
        needs = {2: "two names", 1: "one name"}.get(_TAKES.get(action, 0), "nothing more")
        raise click.UsageError(f"'{action}' takes {needs}.")
    from mlog.api import identities

    with console.open_home() as home:
        if action == "list":
            found = identities.people(home)
            _list(console, found, identities.likenesses(found))
        elif action == "split":
            for identity in identities.split(home, names[0]):
                if console.json:
                    console.record("split", {"identity": str(identity)})
                else:
                    console.line(f"{safe(str(identity))} is one by itself now")
        else:
            change = identities.merge if action == "merge" else identities.alias
            _say(console, change(home, *names))


def _list(console: Console, found: list[Person], alike: list[Likeness]) -> None:
    import time

    now_ms = time.time_ns() // 1_000_000
    for person in found:
        if console.json:
            console.record("person", _fields(person))
            continue
        span = f"{when(person.first_ms, now_ms, None)} to {when(person.last_ms, now_ms, None)}"
        said = f"{counted(person.messages, 'message')}, {span}" if person.messages else "no message"
        console.line(f"{console.bold(safe(person.name))}  {said}")
        console.line(f"  {console.dim(', '.join(safe(str(one)) for one in person.identities))}")
        more = len(person.conversations) - _SHOWN
        shown = ", ".join(safe(title) for title in person.conversations[:_SHOWN])
        if shown:
            console.line(f"  in {shown}{f' and {more:,} more' if more > 0 else ''}")
    for likeness in alike:
        one, other = likeness.one, likeness.other
        if console.json:
            fields = {"one": _key(one), "other": _key(other), "reason": likeness.reason}
            console.record("alike", fields)
        else:
            console.line(f"perhaps the same: {safe(_key(one))} and {safe(_key(other))}, by {likeness.reason}")
    if alike and not console.json:
        console.note("'mlog people merge A B' takes two for one; nothing is merged by itself")
    if not found:
        console.note("nobody has said anything yet")


def _say(console: Console, person: Person) -> None:
    if console.json:
        console.record("person", _fields(person))
    else:
        console.line(f"{safe(person.name)} is {', '.join(safe(str(one)) for one in person.identities)}")


def _key(person: Person) -> str:
    return person.name if person.is_named else str(person.identities[0])


def _fields(person: Person) -> dict[str, object]:
    return {
        "name": person.name,
        "named": person.is_named,
        "identities": [
            {"identity": str(one), "format": one.format, "uid": one.uid or None, "name": one.name or None}
            for one in person.identities
        ],
        "names": list(person.names),
        "conversations": list(person.conversations),
        "messages": person.messages,
        "first": iso_or_none(person.first_ms) if person.messages else None,
        "last": iso_or_none(person.last_ms) if person.messages else None,
    }
