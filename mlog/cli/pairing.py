"""The commands that pair two devices: of one person, or of two persons who become contacts."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

from mlog import config, limits
from mlog.cli.options import TEXT, verb
from mlog.cli.qr import qr_lines
from mlog.cli.terminal import safe
from mlog.cli.words import Words, can_ask, piped_words, typed_words
from mlog.errors import UserError
from mlog.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlog.api.pairing_steps import Complete, Offered, Paired, Progress, Shown, Step
    from mlog.cli.output import Console
    from mlog.cli.output import Progress as Bar
    from mlog.protocol.codes import LinkType

__all__ = ["Screen", "accept", "device_name", "invite", "pair"]

_SHOWN_ADDRESSES_MAX: Final = 3

_NOTHING: Final = "interrupted. Nothing was changed."
_REST: Final = (
    "interrupted. Both devices know each other, and what has come is kept; 'mlog sync' fetches the rest."
)
_IN_HISTORY: Final = (
    "the code stands in the history of your shell now. It is good for one try only; without it on the line "
    "you are asked for it."
)


def _connecting(function: Callable[..., object]) -> Callable[..., object]:
    """The options of both ends of a pairing."""
    options = (
        click.option(
            "--peer", type=TEXT, metavar="HOST:PORT", help="Where the other device is; else it is looked for."
        ),
        click.option("--name", type=TEXT, help="What to call this device, if it is new."),
        click.option(
            "--address",
            "addresses",
            type=TEXT,
            multiple=True,
            metavar="HOST:PORT",
            help="Where the other device can reach this one besides; may be given several times.",
        ),
        click.option("--host", type=TEXT, metavar="ADDRESS", help="Listen at this address of yours only."),
        click.option(
            "--port",
            type=click.IntRange(0, 65_535),
            help=f"Where to listen. [default: {config.DEFAULT_PORT}, or any if that is in use]",
        ),
        click.option("--no-discovery", is_flag=True, help="Use no multicast in the local network."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@verb(
    "pair",
    """mlog pair
    mlog pair --join
    mlog pair --join --peer 192.168.1.5:7367
    mlog pair --join < code.txt""",
)
@click.argument("code", type=Words(), nargs=-1, metavar="[CODE|LINK]")
@click.option("--join", is_flag=True, help="Ask for the code, or the link, that the other device shows.")
@_connecting
def pair(console: Console, code: tuple[str, ...], join: bool, **options: Any) -> None:
    """Make a new device one of yours, with a code.

    On the device that has your messages it shows six words, good for one try; on the new one 'mlog pair
    --join' asks for them. Then both show the other's name and the same four words, and the first one asks.
    A device that has no messages yet needs nothing else; all come, the newest first.
    """
    from mlog.protocol.codes import LinkType

    joins = join or bool(code) or options["peer"] is not None
    _run(console, LinkType.DEVICE, code, joins=joins, **options)


@verb(
    "invite",
    """mlog invite
    mlog invite --address desk.example:7367""",
)
@_connecting
def invite(console: Console, **options: Any) -> None:
    """Make another person a contact, with a code.

    They run 'mlog accept' on a device of theirs and type the code, or paste the link, within two minutes.
    Then both see the other's name and the same four words, and this side asks. They get no message by
    that: 'mlog new TITLE --with NAME' starts a conversation.
    """
    from mlog.protocol.codes import LinkType

    if options["peer"] is not None:
        raise click.UsageError("--peer belongs to 'mlog accept'.")
    _run(console, LinkType.PERSON, (), joins=False, **options)


@verb(
    "accept",
    """mlog accept
    mlog accept --peer desk.example:7367
    mlog accept < link.txt""",
)
@click.argument("code", type=Words(), nargs=-1, metavar="[CODE|LINK]")
@_connecting
def accept(console: Console, code: tuple[str, ...], **options: Any) -> None:
    """Accept the invitation of another person.

    It asks for the code, or the link, that 'mlog invite' shows there.
    """
    from mlog.protocol.codes import LinkType

    _run(console, LinkType.PERSON, code, joins=True, **options)


def _run(
    console: Console,
    type_: LinkType,
    code: tuple[str, ...],
    *,
    joins: bool,
    peer: str | None,
    name: str | None,
    addresses: tuple[str, ...],
    host: str | None,
    port: int | None,
    no_discovery: bool,
) -> None:
    from mlog.api import pairing
    from mlog.api.pairing_steps import Wish

    secret = _secret(console, code, type_) if joins else ""
    if not joins and not can_ask():
        raise UserError("pairing asks you who is at the other end: run it in a terminal.")
    is_new = not (console.chosen_home() / config.DATABASE_NAME).exists()
    if name is not None and not is_new:
        raise UserError("this device has a name already; 'mlog devices rename' gives it another one.")
    console.interrupted = _NOTHING
    with console.open_home(device=device_name(name) if is_new else None) as home:
        wish = Wish(type=type_, secret=secret, peer=peer or "", addresses=addresses)
        with Screen(console, type_, joins=joins) as screen:
            pairing.pair(home, wish, screen.told, host=host, port=port, discovery=not no_discovery)


# -- what is typed ---------------------------------------------------------------------------


def _secret(console: Console, code: tuple[str, ...], expected: LinkType) -> str:
    """The code or link of the other device: as it was given, or asked for until it is one."""
    from mlog.api.pairing import read_secret

    if code:
        _hide(code)
        text = " ".join(code)
        read_secret(text, expected, _now_ms())
        console.note(_IN_HISTORY)
        return text
    if not can_ask():
        text = piped_words("code")
        read_secret(text, expected, _now_ms())
        return text
    while True:
        text = typed_words(console, "Code or link that the other device shows: ")
        try:
            read_secret(text, expected, _now_ms())
        except UserError as error:
            console.note(str(error))
        else:
            return text


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _hide(code: tuple[str, ...]) -> None:
    """Take the code out of the list of processes, where the system lets a process do so."""
    if code[-1] in sys.argv:
        with suppress(ImportError):
            from setproctitle import setproctitle

            setproctitle("mlog pair")


def device_name(name: str | None) -> str:
    """What a new device is called: as it was given, or asked for where somebody is there."""
    import platform

    usual = platform.node() or "desktop"
    if name is None and can_ask():
        name = click.prompt("Name of this device", default=usual, err=True)
    name = (name or usual).strip()
    if not name or len(name.encode(errors="replace")) > limits.NAME_SIZE_MAX_BYTES:
        raise UserError(f"a name has from 1 to {limits.NAME_SIZE_MAX_BYTES} bytes.")
    return name


# -- what is shown ---------------------------------------------------------------------------


class Screen:
    """Shows a pairing as it goes, and asks the person; use it in a `with` statement.

    Args:
        type_: What is paired.
        joins: This is the side that has the code of the other one.
    """

    def __init__(self, console: Console, type_: LinkType, *, joins: bool):
        from mlog.protocol.codes import LinkType

        self._console = console
        self._invites = type_ == LinkType.PERSON
        self._joins = joins
        self._countdown: _Countdown | None = None
        self._bar: Bar | None = None
        self._name = ""

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_lines()

    def _end_lines(self) -> None:
        if self._countdown is not None:
            self._countdown.stop()
            self._countdown = None
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def told(self, step: Step, answer: Callable[[bool], None]) -> None:
        """Take a step of the pairing."""
        from mlog.api import pairing_steps as pairing

        match step:
            case pairing.Offered():
                self._offered(step)
            case pairing.Searching():
                self._stage("looking for it in this network")
            case pairing.Reaching(addresses=addresses):
                self._stage(f"connecting to {safe(', '.join(addresses[:_SHOWN_ADDRESSES_MAX]))}")
            case pairing.Shown():
                self._shown(step, answer)
            case pairing.Paired():
                self._paired(step)
            case pairing.Progress():
                self._progress(step)
            case pairing.Complete():
                self._complete(step)
        self._console.flush()

    def _stage(self, text: str) -> None:
        if not self._console.json:
            self._console.note(text)

    def _offered(self, step: Offered) -> None:
        console = self._console
        if console.json:
            fields = {
                "code": step.code,
                "link": step.link,
                "addresses": list(step.addresses),
                "seconds": step.life_ms // 1000,
            }
            console.record("pair_offer", fields)
            return
        drawn: list[str] = []
        if console.is_terminal and console.unicode:
            columns = shutil.get_terminal_size().columns
            drawn = qr_lines(step.link, columns=columns, colour=console.bold(" ") != " ")
        console.line(f"Code  {console.bold(step.code)}")
        for address in step.addresses[:_SHOWN_ADDRESSES_MAX]:
            console.line(f"At    {safe(address)}")
        console.line(f"Link  {step.link}")
        for line in drawn:
            console.line(line)
        where = f" --peer {safe(step.addresses[0])}" if step.problem and step.addresses else ""
        there = "mlog accept" if self._invites else "mlog pair --join"
        console.line(f"On the other device run '{there}{where}', and type the code.")
        if step.problem:
            console.note(f"it cannot be found by itself: {safe(step.problem)}")
        self._countdown = _Countdown(step.life_ms / 1000)

    def _shown(self, step: Shown, answer: Callable[[bool], None]) -> None:
        console = self._console
        self._end_lines()
        self._name = safe(step.name) or "the other device"
        if console.json:
            fields = {
                "name": step.name,
                "person": step.person,
                "words": list(step.words),
                "asks": step.asks,
            }
            console.record("pair_shown", fields)
        else:
            console.line(f"Name  {console.bold(self._name)}, of {safe(step.person)}")
            console.line(f"Words {console.bold(' '.join(step.words))}")
        if not step.asks:
            self._stage("waiting for the other device: see that it shows these four words, and say yes there")
        elif not can_ask():
            console.note("this device asks too, and nobody is here to answer: run it in a terminal.")
            answer(False)
        else:
            console.flush()
            who = "Is it the person whom you mean" if self._invites else "Is it yours"
            _ask(f"{who}, and does it show the same four words? [y/N] ", answer)

    def _paired(self, step: Paired) -> None:
        console = self._console
        console.interrupted = _REST
        if console.json:
            fields = {
                "device": step.device,
                "name": step.name,
                "person": step.person,
                "outcome": step.outcome,
                "met": step.met,
            }
            console.record("paired", fields)
            return
        said = {
            "admitted": f"{self._name} is one of your devices now",
            "joins": f"this device is one of {safe(step.person)}'s now. Its contacts and conversations come "
            "along; labels, pins and drafts that were noted here before do not",
            "known": f"{self._name} and this device belong together already",
            "met": f"{safe(step.person)} is one of your contacts now",
        }
        regained = (
            f"this device is one of {safe(step.person)}'s now, and {safe(step.met)} one of its contacts"
        )
        console.line(f"{console.mark(ok=True)} {regained if step.met else said[step.outcome]}")
        if self._joins and not self._invites:
            self._stage("You can read and write already, in another window; the newest messages come first.")

    def _progress(self, step: Progress) -> None:
        if self._console.json:
            fields = {"remaining": step.remaining, "done": step.done}
            self._console.record("pair_progress", fields)
            return
        if self._bar is None:
            self._bar = self._console.progress("Syncing")
        self._bar.remain(step.remaining, step.done)

    def _complete(self, step: Complete) -> None:
        console = self._console
        self._end_lines()
        if console.json:
            console.record("pair_complete", {"done": step.done, "differing": step.differing})
        elif self._invites:
            console.note(
                "'mlog new TITLE --with NAME' starts a conversation; 'mlog contacts' has digits to compare"
            )
        elif step.differing:
            differ = f"{counted(step.differing, 'log')} still differ{'s' if step.differing == 1 else ''}"
            console.line(f"{console.mark(ok=False)} {differ}; 'mlog status' says which")
        else:
            moved = counted(step.done, "entry", "entries")
            console.line(f"{console.mark(ok=True)} both hold the same; {moved} came and went")
            console.note("'mlog service install', on both, keeps them so from now on")


class _Countdown:
    """A line with the time that is left, drawn over itself once a second on a terminal."""

    def __init__(self, left_s: float):
        self._until_s = time.monotonic() + left_s
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if sys.stderr is not None and sys.stderr.isatty():
            self._thread = threading.Thread(target=self._draw, name="mlog-countdown", daemon=True)
            self._thread.start()

    def _draw(self) -> None:
        while True:
            left = max(0, round(self._until_s - time.monotonic()))
            self._write(f"\rGood for one try, and {left // 60}:{left % 60:02}. Ctrl-C ends it.\x1b[K")
            if self._stopped.wait(1.0):
                return

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


def _ask(question: str, answer: Callable[[bool], None]) -> None:
    """Ask on the terminal, and go on: what happens meanwhile may end it first."""
    from mlog.cli.output import say

    def read() -> None:
        line = b""
        with suppress(OSError):
            # Not by sys.stdin, whose lock would be held when the process ends.
            line = os.read(sys.stdin.fileno(), 1024)
        yes = line.strip().lower() in {b"y", b"yes"}
        if not line:
            say("")
        answer(yes)

    sys.stderr.write(question)
    sys.stderr.flush()
    threading.Thread(target=read, name="mlog-answer", daemon=True).start()
