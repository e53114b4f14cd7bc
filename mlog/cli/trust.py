"""The command that makes machines of one person know each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mlog.cli.devices import list_devices
from mlog.cli.options import PATH, TEXT, verb
from mlog.cli.terminal import safe
from mlog.cli.transfer import check_free

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlog.api.trust import Trusted
    from mlog.cli.output import Console

__all__ = ["trust"]


@verb(
    "trust",
    """mlog trust export laptop.trust --address laptop.example:7367
    mlog trust import desktop.trust
    mlog trust list
    mlog trust remove phone""",
)
@click.argument("action", type=click.Choice(["export", "import", "list", "remove"]))
@click.argument("what", type=TEXT, required=False, metavar="[FILE|DEVICE]")
@click.option(
    "--address",
    "addresses",
    type=TEXT,
    multiple=True,
    metavar="HOST:PORT",
    help="Where the other device can reach this one, with 'export'; may be given several times.",
)
@click.option("--force", is_flag=True, help="Replace the file of 'export' if it exists.")
def trust(console: Console, action: str, what: str | None, addresses: tuple[str, ...], force: bool) -> None:
    """Make your machines know each other, so that they share all.

    On each machine export a file, carry it to the other one, and import it there. The files hold no
    secret, but nobody else may change them on the way; they are good for a week.
    """
    if action == "list":
        if what is not None:
            raise click.UsageError("'list' takes nothing more.")
        with console.open_home() as home:
            list_devices(console, home)
        return
    if what is None:
        raise click.UsageError(f"'{action}' needs {'a DEVICE' if action == 'remove' else 'a FILE'}.")
    if addresses and action != "export":
        raise click.UsageError("--address belongs to 'export'.")
    if action == "export":
        _export(console, PATH.convert(what, None, None), addresses, force=force)
    elif action == "import":
        _import(console, PATH.convert(what, None, None))
    else:
        _remove(console, what)


def _export(console: Console, file: Path, addresses: tuple[str, ...], *, force: bool) -> None:
    from mlog.api.trust import export_trust

    check_free(file, force=force)
    with console.open_home() as home:
        export_trust(home, file, addresses)
    if console.json:
        console.record("trust_file", {"file": os.fsencode(file).decode(errors="replace")})
    else:
        console.note(
            f"wrote {safe(str(file))}. Carry it to your other device and run 'mlog trust import' there; "
            "import that one's file here."
        )


def _import(console: Console, file: Path) -> None:
    from mlog.api.trust import import_trust

    with console.open_home() as home:
        found = import_trust(home, file)
    if console.json:
        console.record(
            "trusted",
            {
                "device": found.device.hex(),
                "name": found.name,
                "person": found.person,
                "outcome": found.outcome.value,
                "addresses": list(found.addresses),
            },
        )
    else:
        console.note(_said(found))


def _said(found: Trusted) -> str:
    name = safe(found.name) or "the device"
    said: Mapping[str, str] = {
        "admitted": f"{name} is now one of your devices. Import this device's file there too; then "
        "'mlog sync' shares everything.",
        "joins": f"{name} is trusted. Import this device's file there too; at the next 'mlog sync' this "
        f"device joins it, as one of {safe(found.person) or 'the same person'}'s.",
        "known": f"{name} and this device belong together already.",
    }
    return said[found.outcome.value]


def _remove(console: Console, name: str) -> None:
    from mlog.api.devices import forget_device

    with console.open_home() as home:
        found = forget_device(home, name)
    if console.json:
        console.record("forgotten", {"device": found.device.hex(), "name": found.name})
    else:
        console.note(
            f"forgot {safe(found.name)}: this device does not connect to it any more. It keeps what it has, "
            "and your other devices still know it."
        )
