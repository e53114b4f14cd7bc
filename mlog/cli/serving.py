"""Commands that keep devices in step: serve all the time, sync once, start with the system."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from mlog import config
from mlog.cli.options import TEXT, verb
from mlog.cli.terminal import safe
from mlog.errors import PeerUnavailable
from mlog.plurals import counted

if TYPE_CHECKING:
    from mlog.api import Home
    from mlog.api.rounds import DeviceReport, LogReport
    from mlog.api.service import Ready
    from mlog.cli.output import Console
    from mlog.protocol.events import Notice

__all__ = ["serve", "service", "sync"]

_WORDS: Final = {
    "connected": "connected",
    "disconnected": "disconnected",
    "unreachable": "not reached",
    "clock": "its clock differs",
    "equal": "in sync",
    "behind": "entries are missing",
    "differing": "still differs",
    "stored": "entries came",
    "refused": "entries were refused",
    "granted": "given a conversation",
    "accepted": "a further device of a contact may connect",
    "fault": "fault",
}
"""What happens, in words; what is not among them is for programs only."""


@verb(
    "serve",
    """mlog serve
    mlog serve --port 7400 --verbose
    mlog serve --phone""",
)
@click.option("--host", type=TEXT, metavar="ADDRESS", help="Listen at this address of yours only.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=config.DEFAULT_PORT,
    show_default=True,
    help="Where other devices connect; 0 takes any that is free.",
)
@click.option("--no-discovery", is_flag=True, help="Do not look for your devices in the local network.")
@click.option("--phone", is_flag=True, help="Save the battery: connect to others, but do not listen.")
@click.option("--verbose", is_flag=True, help="Say what happens.")
def serve(
    console: Console, host: str | None, port: int, no_discovery: bool, phone: bool, verbose: bool
) -> None:
    """Keep this device in step with your others, until Ctrl-C.

    Messages go out when they are written and come in when others write. 'mlog service install' starts
    this when you log in.
    """
    from mlog.api import service as services

    with console.open_home() as home:

        def ready(facts: Ready) -> None:
            if console.json:
                fields = {"home": str(home.path), "port": facts.port, "local": facts.local}
                console.record("serving", fields)
            else:
                where = f"at port {facts.port}" if facts.port else "without listening"
                console.line(f"mlog serves {safe(str(home.path))} {where}. Ctrl-C ends it.")
            if not facts.local:
                console.note(f"programs cannot talk to it: {facts.why}")
            console.flush()

        def notice(told: Notice) -> None:
            if console.json or verbose or told.what == "fault":
                _print_notice(console, home, told)
                console.flush()

        services.serve(
            home, host=host, port=port, phone=phone, discovery=not no_discovery, ready=ready, notice=notice
        )


def _print_notice(console: Console, home: Home, told: Notice) -> None:
    name = next((peer.name for peer in home.store.peers() if peer.device == told.device), "")
    row = next((row for row in home.store.logs() if row.n == told.log), None)
    if console.json:
        fields = {
            "what": told.what,
            "device": told.device.hex() or None,
            "name": name or None,
            "topic": row.topic.hex() if row is not None else None,
            "conversation": row.title if row is not None else None,
            "count": told.count,
            "detail": told.detail,
        }
        console.record("event", fields)
    elif told.what in _WORDS:
        count = f"{told.count:,} " if told.count else ""
        where = f" in {safe(row.title) or row.kind.value}" if row is not None else ""
        detail = f": {safe(told.detail)}" if told.detail else ""
        who = f"{safe(name)}: " if name else ""
        stamp = console.dim(time.strftime("%H:%M:%S"))
        console.line(f"{stamp} {who}{count}{_WORDS[told.what]}{where}{detail}")


@verb(
    "sync",
    """mlog sync
    mlog sync laptop
    mlog sync 192.168.1.5:7367 --json""",
)
@click.argument("target", type=TEXT, required=False, metavar="[DEVICE|HOST:PORT]")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    metavar="SECONDS",
    help="End after so long, finished or not.",
)
@click.option("--no-discovery", is_flag=True, help="Do not look for your devices in the local network.")
def sync(console: Console, target: str | None, timeout: float | None, no_discovery: bool) -> None:
    """Compare once with your other devices, and bring what is missing.

    Without DEVICE with all that are known; in one network they are found without an address. Exits 3
    if one was not reached, or still differs.
    """
    from mlog.api.service import sync_once

    console.interrupted = "interrupted. What has come is kept; run it again for the rest."
    with console.open_home() as home:
        report = sync_once(home, target, timeout_s=timeout, discovery=not no_discovery)
    console.exit_code = 0 if report.equal else PeerUnavailable.exit_code
    for device in report.devices:
        if console.json:
            console.record("synced", _device_fields(device))
        else:
            _print_device(console, device)
    if console.json:
        console.record("sync", {"ok": report.equal, "duration_ms": report.duration_ms})


def _device_fields(device: DeviceReport) -> dict[str, object]:
    return {
        "device": device.device,
        "name": device.name,
        "reached": device.reached,
        "complete": device.complete,
        "reason": device.reason,
        "address": device.address,
        "received_bytes": device.received_bytes,
        "sent_bytes": device.sent_bytes,
        "round_trips": device.round_trips,
        "duration_ms": device.duration_ms,
        "logs": [
            {
                "topic": log.topic,
                "title": log.title,
                "kind": log.kind,
                "state": log.state.value,
                "received": log.received,
                "sent": log.sent,
                "detail": log.detail,
            }
            for log in device.logs
        ],
    }


def _print_device(console: Console, device: DeviceReport) -> None:
    name = console.bold(safe(device.name))
    mark = console.mark(ok=device.equal)
    if not device.reached:
        console.line(f"{mark} {name}: not reached: {safe(device.reason)}")
        return
    if device.equal:
        state = "in sync"
    elif device.complete:
        state = console.bad("still differs")
    else:
        state = console.bad(safe(device.reason))
    came, went = sum(log.received for log in device.logs), sum(log.sent for log in device.logs)
    traffic = f"{(device.received_bytes + device.sent_bytes) / 1000:,.1f} kB"
    trips = f" in {counted(device.round_trips, 'round trip')}" if device.round_trips else ""
    seconds = f"{device.duration_ms / 1000:,.1f} s"
    moved = f"{counted(came, 'entry', 'entries')} came, {went:,} went; {traffic}{trips}, {seconds}"
    console.line(f"{mark} {name}: {state}; {console.dim(moved)}")
    for log in device.logs:
        if log.received or log.sent or log.detail:
            console.line(f"    {_log_line(console, log)}")


def _log_line(console: Console, log: LogReport) -> str:
    titles = {"person": "your devices", "private": "your settings"}
    title = safe(log.title) or titles.get(log.kind, "(no title)")
    detail = f"  {console.bad(f'{log.state.value}: {safe(log.detail)}')}" if log.detail else ""
    return f"{title}: {log.received:,} came, {log.sent:,} went{detail}"


@verb(
    "service",
    """mlog service install
    mlog service install --dry-run
    mlog service logs""",
)
@click.argument("action", type=click.Choice(["install", "status", "logs", "uninstall"]))
@click.option("--dry-run", is_flag=True, help="Only show what 'install' would write and run.")
def service(console: Console, action: str, dry_run: bool) -> None:
    """Start 'mlog serve' when you log in, by what your system has.

    Installing it again changes nothing; 'uninstall' leaves your messages alone.
    """
    from mlog.adapters import user_service as services

    if dry_run and action != "install":
        raise click.UsageError("--dry-run belongs to 'install'.")
    plan = services.here(console.chosen_home())
    file = str(plan.file) if plan.file is not None else None
    detail = plan.hint
    match action:
        case "install" if dry_run:
            detail = "\n".join(" ".join(command) for command in (*plan.before, *plan.install))
            if not console.json:
                console.line(safe(file or "no file"))
                console.line("\n".join(f"    {safe(line)}" for line in _lines(plan.content)))
        case "install":
            services.install(plan)
        case "uninstall":
            detail = "it is removed" if services.uninstall(plan) else "it was not installed"
        case "status":
            detail = services.show(plan.status)
        case _:
            detail = services.show(plan.logs)
    if console.json:
        console.record("service", {"action": action, "file": file, "detail": detail})
        return
    if action == "install" and not dry_run:
        console.line(f"{console.mark(ok=True)} mlog is started now, and when you log in")
    for line in detail.splitlines():
        console.line(safe(line))


def _lines(content: bytes) -> list[str]:
    return content.decode(errors="replace").splitlines()
