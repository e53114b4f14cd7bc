"""The words are shown once, to a person at a terminal, and asked for; nothing else ever says them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import mlog
from mlog.api.recovery import enrol, fresh_phrase, phrases
from mlog.log.phrase import PHRASE_WORDS, Phrase, parse_phrase
from tests.cli.conftest import Run

from .terminals import Terminal

posix = pytest.mark.skipif(os.name != "posix", reason="only POSIX has pseudo terminals")

_ASKED = 4


def shown_words(terminal: Terminal) -> list[str]:
    terminal.until("Press Enter")
    cells = {int(place): word for place, word in re.findall(r"(\d+) ([a-z]{3,8})\b", terminal.shown)}
    return [cells[place] for place in range(1, PHRASE_WORDS + 1)]


def answer(terminal: Terminal, words: list[str]) -> None:
    """Type what is asked back, four letters of each word."""
    terminal.type("\n")
    done: set[int] = set()
    for _ in range(_ASKED):
        terminal.until(r"Word (?!" + "|".join(f"{n}:" for n in done or {0}) + r")(\d+):")
        place = next(int(n) for n in re.findall(r"Word (\d+):", terminal.shown) if int(n) not in done)
        done.add(place)
        terminal.type(f"{words[place - 1][:4]}\n")


@posix
def test_words_are_shown_asked_back_and_then_enrolled(home: Path) -> None:
    with mlog.open(home, person="ann", device="desk"):
        pass
    with Terminal(home, "recovery") as terminal:
        words = shown_words(terminal)
        with mlog.open(home) as opened:
            assert phrases(opened) == ()
        answer(terminal, words)
        terminal.until("one of your devices from now on")
        assert terminal.end() == 0
    phrase = parse_phrase(" ".join(words))
    with mlog.open(home) as opened:
        assert [member.device for member in phrases(opened)] == [phrase.keys.id]
    for file in filter(Path.is_file, home.rglob("*")):
        content = file.read_bytes()
        for secret in (phrase.secret, *phrase.keys, " ".join(words).encode(), " ".join(words[:3]).encode()):
            assert secret not in content, file


@posix
def test_with_json_the_words_go_to_the_terminal_only(home: Path) -> None:
    with mlog.open(home, person="ann", device="desk"):
        pass
    with Terminal(home, "recovery", "--json", piped=True) as terminal:
        words = shown_words(terminal)
        answer(terminal, words)
        assert terminal.end() == 0
        assert terminal.process.stdout is not None
        (record,) = [json.loads(line) for line in terminal.process.stdout]
    assert record == {
        "type": "recovery",
        "device": parse_phrase(" ".join(words)).keys.id.hex(),
        "name": "recovery phrase",
        "replaced": False,
    }


@posix
def test_who_has_not_written_them_down_has_no_phrase(home: Path) -> None:
    with mlog.open(home, person="ann", device="desk"):
        pass
    with Terminal(home, "recovery") as terminal:
        words = shown_words(terminal)
        terminal.type("\n")
        place = int(terminal.until(r"Word (\d+):")[1])
        wrong = "zoo" if words[place - 1] != "zoo" else "able"
        for _ in range(3):
            terminal.type(f"{wrong}\n")
        terminal.until("Nothing was changed")
        assert terminal.end() == 1
    with mlog.open(home) as opened:
        assert phrases(opened) == ()


def test_without_a_terminal_no_words_are_shown(run: Run, home: Path) -> None:
    for args in (("recovery",), ("--json", "recovery"), ("recovery", "--replace")):
        result = run(*args)
        assert (result.code, result.out) == (1, "")
        assert "run it in a terminal" in result.err


@posix
def test_a_second_phrase_is_refused_before_any_word_is_shown(home: Path) -> None:
    with mlog.open(home) as opened:
        enrol(opened, fresh_phrase())
    with Terminal(home, "recovery") as terminal:
        terminal.until("--replace")
        assert terminal.end() == 1
    assert "Write these words" not in terminal.shown


def test_devices_status_and_doctor_say_whether_there_is_one(run: Run, home: Path) -> None:
    assert "Recovery phrase: none" in run("status").err
    assert "recovery phrase: none" in run("doctor", "--offline").out
    with mlog.open(home) as opened:
        phrase = fresh_phrase()
        enrol(opened, phrase)
    assert "Recovery phrase: made" in run("status").err
    assert "recovery phrase: made" in run("doctor", "--offline").out
    assert "recovery phrase  words on paper" in run("devices").out
    assert [record["phrase"] for record in run("--json", "devices").records] == [False, True]
    assert run("devices", "revoke", "recovery phrase", "--yes").code == 0
    assert "Recovery phrase: none" in run("status").err


def test_words_on_the_command_line_are_refused(run: Run) -> None:
    assert run("recover", *Phrase(bytes(32)).words).code == 2
    assert run("recovery", *Phrase(bytes(32)).words).code == 2


def test_wrong_words_from_a_pipe_are_named_and_make_no_home(run: Run, home: Path) -> None:
    words = [*Phrase(bytes(32)).words]
    result = run("recover", "--peer", "127.0.0.1:9", stdin=" ".join([*words[:-1], "gardem"]).encode())
    assert (result.code, result.out) == (1, "")
    assert "word 24 of the phrase is none of the list" in result.err
    result = run("recover", "--peer", "127.0.0.1:9", stdin=" ".join([*words[:-1], "able"]).encode())
    assert result.code == 1
    assert "do not fit together" in result.err
    assert "recovery phrase is needed" in run("recover", stdin=b"").err
    assert not (home / "mlog.db").exists()


@posix
def test_a_mistyped_word_is_typed_again_alone(tmp_path: Path) -> None:
    words = [*Phrase(b"\7" * 32).words]
    with Terminal(tmp_path / "new", "recover", "--peer", "127.0.0.1:9", "--name", "new") as terminal:
        terminal.until("The 24 words")
        # Tab completes.
        terminal.type(f"{words[0][:4]}\t")
        terminal.until(f"{words[0]} ")
        terminal.type(" ".join(words[1:10]) + " gardem\n")
        terminal.until("word 11 is none of the list. Did you mean garden")
        terminal.until("Word 11:")
        wrong = [*words[10:-1], "zoo"]
        terminal.type(" ".join(wrong) + "\n")
        terminal.until("do not fit together")
        terminal.until("Number of the word to type again")
        terminal.type("24\n")
        terminal.until("Word 24:")
        terminal.type(f"{words[-1]}\n")
        # The words are right now: nobody is there.
        terminal.until("nobody is reached")
        assert terminal.end() == 3
