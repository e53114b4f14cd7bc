"""Commands that note something for oneself: only the own devices learn of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from mlog.cli.options import CONVERSATION, TEXT, text_or_stdin, verb
from mlog.cli.terminal import safe, safe_block
from mlog.errors import UserError

if TYPE_CHECKING:
    from mlog.api import Home
    from mlog.api.notes import Notes
    from mlog.cli.output import Console

__all__ = ["draft", "label", "mute", "pin", "read", "settings", "unmute", "unpin"]


@verb(
    "label",
    """mlog label trip
    mlog label trip summer
    mlog label trip summer --remove""",
)
@click.argument("conversation", type=CONVERSATION)
@click.argument("label", type=TEXT, required=False)
@click.option("--remove", is_flag=True, help="Take the label off.")
def label(console: Console, conversation: str, label: str | None, remove: bool) -> None:
    """Put a label on a conversation, or list its labels.

    Labels are yours alone: your other devices see them, nobody else does.
    """
    with console.open_home() as home:
        n = home.conversation(conversation).n
        if label is None:
            if remove:
                raise click.UsageError("--remove needs the LABEL to take off.")
            if console.json:
                _print_noted(console, home, n)
            else:
                for known in home.notes.of(n).labels:
                    console.line(safe(known))
            return
        if remove and not home.notes.label(n, label, remove=True):
            raise UserError(f"there is no label {label!r} on it. 'mlog label {conversation}' lists them.")
        if not remove:
            home.notes.label(n, label)
        _print_noted(console, home, n)


@verb("pin", "mlog pin trip")
@click.argument("conversation", type=CONVERSATION)
def pin(console: Console, conversation: str) -> None:
    """Let a conversation stand first in the list, on all your devices."""
    _note(console, conversation, lambda notes, n: notes.pin(n))


@verb("unpin", "mlog unpin trip")
@click.argument("conversation", type=CONVERSATION)
def unpin(console: Console, conversation: str) -> None:
    """Let a conversation stand by its latest message again."""
    _note(console, conversation, lambda notes, n: notes.pin(n, pinned=False))


@verb("mute", "mlog mute '#ubuntu'")
@click.argument("conversation", type=CONVERSATION)
def mute(console: Console, conversation: str) -> None:
    """Show no number of unread messages for a conversation."""
    _note(console, conversation, lambda notes, n: notes.mute(n))


@verb("unmute", "mlog unmute '#ubuntu'")
@click.argument("conversation", type=CONVERSATION)
def unmute(console: Console, conversation: str) -> None:
    """Show how many messages of a conversation are unread again."""
    _note(console, conversation, lambda notes, n: notes.mute(n, muted=False))


@verb("read", "mlog read trip")
@click.argument("conversation", type=CONVERSATION)
def read(console: Console, conversation: str) -> None:
    """Show what others wrote since you read last, and count it as read.

    Your other devices know too. The people who wrote it are told, unless 'mlog settings read-receipts off'
    says otherwise. What you wrote or imported yourself is never unread.
    """
    from mlog.cli.lines import Lines

    with console.open_home() as home:
        n = home.conversation(conversation).n
        lines = Lines(home, console)
        for message in home.notes.unread_messages(n):
            if console.json:
                console.record("message", lines.message(message))
            else:
                console.line(lines.message_line(message))
        # What was shown is on its way to the reader before anybody is told that it was read.
        console.flush()
        if not home.notes.mark_read(n):
            console.note("nothing new")


@verb(
    "draft",
    """mlog draft trip 'Who brings'
    mlog draft trip
    mlog draft trip --remove
    mlog send trip "$(mlog draft trip)" && mlog draft trip --remove""",
)
@click.argument("conversation", type=CONVERSATION)
@click.argument("text", type=TEXT, required=False)
@click.option("--remove", is_flag=True, help="Forget the draft.")
def draft(console: Console, conversation: str, text: str | None, remove: bool) -> None:
    """Keep an unsent text for all your devices, or show it.

    TEXT is one argument; "-" reads it from standard input. It replaces the draft before. Two devices that
    wrote one while they were apart keep both, until one of them writes another.
    """
    if remove and text is not None:
        raise click.UsageError("--remove takes no TEXT.")
    text = "" if remove else text_or_stdin(text) if text is not None else None
    with console.open_home() as home:
        n = home.conversation(conversation).n
        if text is not None:
            home.notes.draft(n, text)
            _print_noted(console, home, n)
        elif console.json:
            _print_noted(console, home, n)
        else:
            drafts = home.notes.of(n).drafts
            for device, kept in drafts.items():
                if len(drafts) > 1:
                    console.note(f"written on {_device_name(home, device)}:")
                console.line(safe_block(kept, 0))
            if not drafts:
                console.note("no draft")


@verb(
    "settings",
    """mlog settings
    mlog settings read-receipts off""",
)
@click.argument("name", type=TEXT, required=False)
@click.argument("value", type=click.Choice(["on", "off"]), required=False)
def settings(console: Console, name: str | None, value: str | None) -> None:
    """List what can be switched, or switch it for all your devices."""
    from mlog.log.private_state import SETTINGS

    with console.open_home() as home:
        if name is not None and value is not None:
            home.notes.set(name, on=value == "on")
        elif name is not None and name not in SETTINGS:
            raise UserError(f"no setting {name!r}. There are: {', '.join(SETTINGS)}.")
        state = home.notes.state()
        for known in SETTINGS:
            if name in (None, known):
                on = state.setting(known)
                if console.json:
                    console.record("setting", {"name": known, "on": on})
                else:
                    console.line(f"{known}: {'on' if on else 'off'}")


def _note(console: Console, conversation: str, change: Callable[[Notes, int], object]) -> None:
    with console.open_home() as home:
        n = home.conversation(conversation).n
        change(home.notes, n)
        _print_noted(console, home, n)


def _print_noted(console: Console, home: Home, n: int) -> None:
    """What is noted of a conversation, for programs; people see nothing where all went well."""
    if not console.json:
        return
    from mlog.cli.lines import Lines

    known = home.notes.of(n)
    drafts = [
        {"device": device.hex(), "name": _device_name(home, device), "text": text}
        for device, text in known.drafts.items()
    ]
    noted = {"pinned": known.pinned, "muted": known.muted, "labels": list(known.labels), "drafts": drafts}
    console.record("noted", {**Lines(home, console).place(n), **noted})


def _device_name(home: Home, device: bytes) -> str:
    from mlog.api.repair import device_names

    return safe(device_names(home).get(device) or device.hex()[:8])
