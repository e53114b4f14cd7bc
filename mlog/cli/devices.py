"""The command that lists, renames and revokes the person's devices."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

import click

from mlog.cli.options import TEXT, verb
from mlog.cli.output import iso_or_none
from mlog.cli.terminal import safe, when
from mlog.errors import UserError
from mlog.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlog.api import Home
    from mlog.api.devices import KnownDevice
    from mlog.cli.output import Console
    from mlog.log.ids import DeviceId

__all__ = ["devices", "list_devices"]

_ID_DIGITS: Final = 16
_TAKES: Final = {"list": 0, "rename": 2, "revoke": 1}


@verb(
    "devices",
    """mlog devices
    mlog devices rename phone 'old phone'
    mlog devices reach desk.example:7367
    mlog devices revoke 'old phone'""",
)
@click.argument("action", type=click.Choice(["list", "rename", "revoke", "reach"]), default="list")
@click.argument("what", type=TEXT, nargs=-1, metavar="[DEVICE] [NAME]")
@click.option("--yes", is_flag=True, help="Revoke without asking.")
def devices(console: Console, action: str, what: tuple[str, ...], yes: bool) -> None:
    """List your devices, rename one, or revoke a lost one.

    A device that is revoked reads nothing that is written from then on, and what it writes counts for
    nothing. What it has already it keeps. It cannot be taken back; asks first.

    'reach' takes the HOST:PORT at which others reach this device, such as that of a tunnel, and tells it
    to your devices and to the people you talk with.
    """
    if action == "reach" and not what:
        raise click.UsageError("'reach' takes at least one HOST:PORT.")
    if action != "reach" and len(what) != _TAKES[action]:
        needs = {"list": "nothing more", "rename": "a DEVICE and its new NAME", "revoke": "a DEVICE"}
        raise click.UsageError(f"'{action}' takes {needs[action]}.")
    with console.open_home() as home:
        if action == "list":
            list_devices(console, home)
        elif action == "rename":
            _rename(console, home, *what)
        elif action == "reach":
            from mlog.api.devices import reach_device

            reach_device(home, what)
            console.note(f"others are told to reach this device at {safe(', '.join(what))}")
        else:
            _revoke(console, home, what[0], yes=yes)


def list_devices(console: Console, home: Home) -> None:
    """Print every device that is known here."""
    from mlog.api.devices import devices

    found, in_sync = devices(home), _in_sync(home)
    for device in found:
        equal, shared = in_sync.get(device.device, (0, 0))
        if console.json:
            console.record(
                "device",
                {
                    "device": device.device.hex(),
                    "name": device.name,
                    "here": device.here,
                    "peer": device.peer,
                    "member": device.member,
                    "confirmed": device.confirmed,
                    "revoked": device.revoked,
                    "put_out": device.put_out,
                    "phrase": device.phrase,
                    "by": device.by or None,
                    "addresses": list(device.addresses),
                    "added": iso_or_none(device.added_ms),
                    "seen": iso_or_none(device.seen_ms),
                    "in_sync": equal,
                    "conversations": shared,
                },
            )
        else:
            _print(console, device, equal, shared, home.now_ms())
    if len(found) == 1 and not console.json:
        console.note("no other device yet; 'mlog pair' adds one")


def _in_sync(home: Home) -> Mapping[DeviceId, tuple[int, int]]:
    """For each other device of how many conversations its copy is in sync, and of how many in all."""
    from mlog.api.standing import CopyState, standings
    from mlog.log.ids import DeviceId

    equal, shared = Counter[DeviceId](), Counter[DeviceId]()
    for standing in standings(home):
        for copy in standing.copies:
            shared[copy.device] += 1
            equal[copy.device] += copy.state == CopyState.EQUAL
    return {device: (equal[device], shared[device]) for device in shared}


def _print(console: Console, device: KnownDevice, equal: int, shared: int, now_ms: int) -> None:
    console.line(f"{device.device.hex()[:_ID_DIGITS]}  {console.bold(safe(device.name))}  {_state(device)}")
    if device.by:
        console.line(f"  added by {safe(device.by)}")
    if device.addresses:
        console.line(f"  at {safe(', '.join(device.addresses))}")
    if device.seen_ms:
        met = when(device.seen_ms, now_ms, None)
        console.line(f"  last met {met}; {equal:,} of {counted(shared, 'log')} in sync")


def _state(device: KnownDevice) -> str:
    if device.revoked:
        return "revoked: trusted no more"
    if device.put_out:
        return "none of yours any more: one that is revoked had brought it. If you know it, pair it again"
    if device.phrase:
        return "words on paper, with which everything can be recovered"
    if device.here:
        return "this device"
    if not device.member:
        return "trusted; they become one at the next sync, if it trusts this device too"
    if not device.peer:
        return "one of yours, but forgotten here: pair it again to connect"
    return "one of yours" if device.confirmed else "one of yours, once it has synced"


def _rename(console: Console, home: Home, name: str, new: str) -> None:
    from mlog.api.devices import rename_device

    found = rename_device(home, name, new)
    if console.json:
        console.record("renamed", {"device": found.device.hex(), "name": new.strip(), "before": found.name})
    else:
        console.note(f"{safe(found.name)} is called {safe(new.strip())} from now on, on all your devices")


def _revoke(console: Console, home: Home, name: str, *, yes: bool) -> None:
    from mlog.api.devices import revoke_device

    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UserError(
                "revoking cannot be taken back, and nobody is here to be asked. Confirm with --yes."
            )
        if not click.confirm(f"Revoke {safe(name)} for good?", err=True):
            raise UserError("nothing was revoked.")
    found = revoke_device(home, name)
    if console.json:
        console.record("revoked", {"device": found.device.hex(), "name": found.name})
    else:
        console.note(
            f"revoked {safe(found.name)}: your other devices learn it at the next sync, and everything you "
            "write from now on is closed to it. What it has already it keeps."
        )
