"""The commands about the recovery phrase: to make one, and to bring everything back with it."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from mlog import config, limits
from mlog.cli.options import TEXT, verb
from mlog.cli.terminal import safe
from mlog.cli.words import can_ask, piped_words, typed_words
from mlog.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from mlog.api import Home
    from mlog.api.pairing_steps import Step
    from mlog.cli.output import Console
    from mlog.log.phrase import Phrase

__all__ = ["phrase_line", "recover", "recovery"]

_ASKED_WORDS: Final = 4
"""Words that are asked back, each at a place that nobody knows before."""

_TRIES_MAX: Final = 3
_COLUMNS: Final = 4

_NOTHING: Final = "interrupted. Nothing was changed."
_REST: Final = (
    "interrupted. What has come is kept: if this machine is one of your devices already ('mlog devices'), "
    "'mlog sync' fetches the rest; else run 'mlog recover' again."
)


# -- making one ------------------------------------------------------------------------------


@verb(
    "recovery",
    """mlog recovery
    mlog recovery --replace""",
)
@click.option("--replace", is_flag=True, help="Make a new phrase; the old one is good for nothing then.")
def recovery(console: Console, replace: bool) -> None:
    """Make a recovery phrase: 24 words that bring everything back.

    They are shown once, and some are asked back, to be sure that they stand on paper. With them and any one
    device of yours that still holds your messages 'mlog recover' gives a new machine everything; with a
    device of a contact, what you two share. They are stored nowhere. Who finds them can read all that too, if
    he reaches such a device: then --replace, or 'mlog devices revoke'.
    """
    from mlog.api.recovery import enrol, fresh_phrase, phrases, require_enrollable

    if not can_ask() or not _can_show():
        raise UserError("the words are shown to you alone, and asked back: run it in a terminal.")
    console.interrupted = _NOTHING
    with console.open_home() as home:
        require_enrollable(home, replace=replace)
        replaces = bool(phrases(home))
        phrase = fresh_phrase()
        _show(console, phrase)
        _ask_back(console, phrase)
        member = enrol(home, phrase, replace=replace)
    if console.json:
        fields = {"device": member.device.hex(), "name": member.name, "replaced": replaces}
        console.record("recovery", fields)
        return
    console.line(f"{console.mark(ok=True)} the phrase is one of your devices from now on")
    if replaces:
        console.note("the one before is good for nothing: destroy it, so that nobody takes it for this one")
    console.note(
        "your other devices learn of it at the next sync. 'mlog recover' on a new machine asks for the words"
    )


def _can_show() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _show(console: Console, phrase: Phrase) -> None:
    words = phrase.words
    rows = len(words) // _COLUMNS
    with _gone_afterwards():
        _say("Write these words down on paper, in this order. They are shown only once.\n\n")
        for row in range(rows):
            cells = [f"{at + 1:2} {words[at]:<10}" for at in range(row, len(words), rows)]
            _say(f"  {'  '.join(cells)}".rstrip() + "\n")
        _say("\nWho has them can read all that you have: keep them where nobody else finds them.\n")
        typed_words(console, "Press Enter when they stand on paper, or Ctrl-C to leave: ")


def _ask_back(console: Console, phrase: Phrase) -> None:
    """See that the words stand on paper.

    Raises:
        UserError: They do not.
    """
    from mlog.log.phrase import PHRASE_WORDS, number_of, word_list

    for place in _some_places(PHRASE_WORDS):
        for _ in range(_TRIES_MAX):
            number = number_of(typed_words(console, f"Word {place + 1}: ").casefold())
            if number is not None and word_list()[number] == phrase.words[place]:
                break
            console.note(f"that is not word {place + 1}. Look at your paper again.")
        else:
            raise UserError(
                "the words on your paper are others than those that were shown. Nothing was changed: run it "
                "again, and it shows new ones."
            )


def _some_places(count: int) -> Sequence[int]:
    from random import SystemRandom

    return sorted(SystemRandom().sample(range(count), _ASKED_WORDS))


@contextmanager
def _gone_afterwards() -> Generator[None]:
    """What is shown inside is on a screen of its own, of which nothing stays to be scrolled back to."""
    has_screens = os.name == "posix" and os.environ.get("TERM", "dumb") != "dumb"
    if not has_screens:
        yield
        return
    _say("\x1b[?1049h\x1b[H")
    try:
        yield
    finally:
        _say("\x1b[?1049l")


def _say(text: str) -> None:
    assert sys.stderr is not None
    sys.stderr.write(text)
    sys.stderr.flush()


def phrase_line(home: Home) -> str:
    """One sentence on whether there is a phrase."""
    from mlog.api.recovery import phrases

    if phrases(home):
        return (
            "Recovery phrase: made; with it and one device of yours that holds your messages they all come "
            "back, with one of a contact those that you share."
        )
    return "Recovery phrase: none; 'mlog recovery' makes one, for when all devices but one are lost."


# -- using one -------------------------------------------------------------------------------


@verb(
    "recover",
    """mlog recover
    mlog recover --peer 192.168.1.5:7367
    mlog recover --name laptop < words.txt""",
)
@click.option(
    "--peer",
    type=TEXT,
    metavar="HOST:PORT",
    help="Where a device is that holds your messages; else it is looked for.",
)
@click.option("--name", type=TEXT, help="What to call this device.")
@click.option("--no-discovery", is_flag=True, help="Use no multicast in the local network.")
def recover(console: Console, peer: str | None, name: str | None, no_discovery: bool) -> None:
    """Bring everything to this new machine, with the recovery phrase.

    One device of yours has to run 'mlog serve', in the same network or where --peer says; nobody has to do
    anything else there. This machine becomes one of your devices, with keys of its own, and the phrase
    stays good. The words are asked for, or read from standard input, and stored nowhere.

    If all your devices are lost, one of a contact will do, or of somebody in a conversation with you: it
    gives back the conversations that you two share, and you go on in them. What you noted for yourself, and
    what you have with others, is not there: names of contacts, labels, notes, drafts, other conversations.
    """
    from mlog.api import recovery
    from mlog.cli.pairing import Screen, device_name
    from mlog.protocol.codes import LinkType

    is_new = not (console.chosen_home() / config.DATABASE_NAME).exists()
    if name is not None and not is_new:
        raise UserError("this device has a name already; 'mlog devices rename' gives it another one.")
    console.interrupted = _NOTHING
    phrase = _phrase(console)
    with (
        console.open_home(device=device_name(name) if is_new else None) as home,
        Screen(console, LinkType.DEVICE, joins=True) as screen,
    ):

        def told(step: Step) -> None:
            screen.told(step, lambda _: None)
            _told(console, step)

        recovery.recover(home, phrase, told, peer=peer or "", discovery=not no_discovery)
    if not console.json:
        console.note("a lost device still reads what you write: 'mlog devices revoke DEVICE' ends that")


def _told(console: Console, step: Step) -> None:
    from mlog.api.pairing_steps import Paired

    if isinstance(step, Paired):
        console.interrupted = _REST
        if console.json:
            return
        if step.met:
            met = safe(step.met)
            console.note(
                f"{met}'s {safe(step.name)} has let it in, and gives back the conversations that you share "
                f"with {met}, as far as it holds them. Compare the digits with {met} ('mlog contacts'): the "
                "name is what that device says."
            )
            console.note(
                f"not there, and only on your own devices and in backups: conversations without {met}, what "
                "you called your contacts, labels, notes and drafts. If such a device turns up, that comes "
                "back too. Invite your other contacts again ('mlog invite')."
            )
        else:
            console.note(
                f"{safe(step.name)} has let it in. If that one was lost or stolen, end this (Ctrl-C), and "
                "recover from another one: --peer HOST:PORT."
            )


def _phrase(console: Console) -> Phrase:
    from mlog.log.phrase import parse_phrase

    if not can_ask():
        return parse_phrase(piped_words("recovery phrase"))
    words: list[str] = []
    while True:
        with _gone_afterwards():
            problem = ""
            words = _typed(console, words)
            try:
                return parse_phrase(" ".join(words))
            except UserError as error:
                problem = str(error)
        console.note(problem)
        place = _place(typed_words(console, "Number of the word to type again, or Enter for all: "))
        words = [*words[:place], "", *words[place + 1 :]] if place is not None else []


def _typed(console: Console, words: list[str]) -> list[str]:
    """All words; those that are there, and not empty, stay as they are. Several may stand in a line."""
    from mlog.log.phrase import PHRASE_WORDS, number_of, similar_words, word_list

    known = [*words, *[""] * (PHRASE_WORDS - len(words))]
    while "" in known:
        at = known.index("")
        prompt = "The 24 words, as many in a line as you like: " if at == 0 else f"Word {at + 1}: "
        line = typed_words(console, prompt)[: limits.PAIRING_TEXT_SIZE_MAX_BYTES]
        for word in filter(None, re.split(r"[\s-]+", line.casefold())):
            number = number_of(word)
            if number is None:
                meant = similar_words(word)
                hint = f" Did you mean {' or '.join(meant)}?" if meant else ""
                _say(f"word {at + 1} is none of the list.{hint}\n")
                break
            known[at] = word_list()[number]
            if "" not in known:
                break
            at = known.index("")
    return known


def _place(typed: str) -> int | None:
    """The place that a person named, from 0; None for none."""
    from mlog.log.phrase import PHRASE_WORDS

    named = int(typed) if typed.isascii() and typed.isdigit() and len(typed) < _COLUMNS else 0
    return named - 1 if 1 <= named <= PHRASE_WORDS else None
