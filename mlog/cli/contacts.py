"""The command that lists, names and removes the persons whom this one accepted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import TEXT, verb
from mlog.cli.output import iso_or_none
from mlog.cli.terminal import safe
from mlog.errors import UserError

if TYPE_CHECKING:
    from mlog.api.contacts import KnownContact
    from mlog.cli.output import Console

__all__ = ["contacts"]

_TAKES: Final = {"list": 0, "name": 2, "remove": 1}


@verb(
    "contacts",
    """mlog contacts
    mlog contacts name 'Bob Miller' bob
    mlog contacts remove bob""",
)
@click.argument("action", type=click.Choice(["list", "name", "remove"]), default="list")
@click.argument("what", type=TEXT, nargs=-1, metavar="[PERSON] [NAME]")
@click.option("--yes", is_flag=True, help="Remove without asking.")
def contacts(console: Console, action: str, what: tuple[str, ...], yes: bool) -> None:
    """List the people you know, call one something else, or remove one.

    Compare the safety digits with them, on the phone or side by side: where they are the same on both
    screens, nobody stands between you. Who is removed is given nothing more, but for the conversations
    that you both are in.
    """
    if len(what) != _TAKES[action]:
        needs = {"list": "nothing more", "name": "a PERSON and a NAME", "remove": "a PERSON"}
        raise click.UsageError(f"'{action}' takes {needs[action]}.")
    from mlog.api import contacts as api

    with console.open_home() as home:
        if action == "list":
            found = api.contacts(home)
            for known in found:
                _print(console, known)
            if not found and not console.json:
                console.note("nobody yet; 'mlog invite' makes somebody a contact")
        elif action == "name":
            _print(console, api.name_contact(home, *what))
        else:
            if not yes:
                if sys.stdin is None or not sys.stdin.isatty():
                    raise UserError("nobody is here to be asked. Confirm with --yes.")
                if not click.confirm(f"Remove {safe(what[0])}?", err=True):
                    raise UserError("nobody was removed.")
            removed = api.remove_contact(home, what[0])
            if console.json:
                _print(console, removed)
            else:
                console.note(f"{safe(removed.name)} is no contact any more, on all your devices")


def _print(console: Console, known: KnownContact) -> None:
    if console.json:
        console.record(
            "contact",
            {
                "person": known.topic.hex(),
                "name": known.name,
                "called": known.called,
                "devices": list(known.devices),
                "safety": " ".join(known.safety),
                "since": iso_or_none(known.since_ms),
            },
        )
        return
    called = f"  calls itself {safe(known.called)}" if known.called not in ("", known.name) else ""
    console.line(f"{known.topic.hex()[:8]}  {console.bold(safe(known.name))}{called}")
    if known.safety:
        console.line(f"  safety digits {' '.join(known.safety)}")
        console.line(f"  devices: {safe(', '.join(known.devices))}")
    else:
        console.line("  not met since; it is known once both are online")
