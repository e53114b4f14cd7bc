"""Commands that note something: what they print, refuse, and change in the list of conversations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlog.api.home import Home
from tests.api.others import exchange, share


@pytest.fixture
def two(run) -> None:
    """Two conversations, of which garden has the later message."""
    run("new", "trip")
    run("new", "garden")
    run("send", "trip", "hello")
    run("send", "garden", "beans")


@pytest.fixture
def told(run, home: Path, tmp_path: Path):
    """A conversation in which somebody else said two things; gives both homes a chance to meet."""
    run("new", "trip")
    with Home(home) as mine, Home(tmp_path / "ben", person="ben") as ben:
        there = share(mine, ben, mine.conversation("trip").n)
        ids = [ben.send(there, text).hex() for text in ("one\x1b[31m", "two")]
        exchange(mine, ben)

    def meet() -> None:
        with Home(home) as mine, Home(tmp_path / "ben") as ben:
            exchange(mine, ben)

    return ids, meet


def _titles(run) -> list[str]:
    return [r["title"] for r in run("--json").records if r["type"] == "conversation"]


def test_pinned_conversations_stand_first(run, two):
    assert _titles(run) == ["garden", "trip"]
    assert run("pin", "trip") == (0, "", "")
    assert _titles(run) == ["trip", "garden"]
    assert run().out.startswith("* trip")
    run("unpin", "trip")
    assert _titles(run) == ["garden", "trip"]


def test_labels_are_listed_and_shown(run, two):
    assert run("label", "trip", "summer").code == 0
    run("label", "trip", "a  b")
    assert run("label", "trip").out == "a b\nsummer\n"
    assert "[a b] [summer]" in run().out
    [noted] = run("--json", "label", "trip", "summer", "--remove").records
    assert (noted["type"], noted["labels"], noted["conversation"]) == ("noted", ["a b"], "trip")
    result = run("label", "trip", "summer", "--remove")
    assert result.code == 1
    assert "there is no label 'summer'" in result.err
    assert run("label", "trip", "x" * 65).code == 1
    assert run("label", "trip", "--remove").code == 2


def test_a_draft_is_kept_and_forgotten(run, two):
    assert run("draft", "trip").err == "no draft\n"
    assert run("draft", "trip", "-", stdin=b"zwei\nZeilen").code == 0
    assert run("draft", "trip").out == "zwei\nZeilen\n"
    [noted] = run("--json", "draft", "trip").records
    assert [draft["text"] for draft in noted["drafts"]] == ["zwei\nZeilen"]
    assert run("draft", "trip", "x", "--remove").code == 2
    run("draft", "trip", "--remove")
    assert run("draft", "trip").out == ""


def test_settings_are_listed_and_switched(run):
    assert run("settings").out == "read-receipts: on\n"
    assert run("settings", "read-receipts", "off").out == "read-receipts: off\n"
    assert run("--json", "settings").records == [{"type": "setting", "name": "read-receipts", "on": False}]
    assert run("settings", "speed").code == 1
    assert run("settings", "speed", "on").code == 1
    assert run("settings", "read-receipts", "perhaps").code == 2


def test_the_list_says_how_much_is_unread_and_read_shows_it(run, told):
    assert run().out.startswith("trip (2)")
    [conversation] = [r for r in run("--json").records if r["type"] == "conversation"]
    assert (conversation["unread"], conversation["muted"], conversation["pinned"]) == (2, False, False)
    out = run("read", "trip").out
    assert [line.split("  ")[-1] for line in out.splitlines()] == ["ben: one␛[31m", "ben: two"]
    assert run("read", "trip") == (0, "", "nothing new\n")
    assert "(2)" not in run().out


def test_a_muted_conversation_shows_no_number(run, told):
    run("mute", "trip")
    assert "(2)" not in run().out
    [conversation] = [r for r in run("--json").records if r["type"] == "conversation"]
    assert (conversation["unread"], conversation["muted"]) == (2, True)
    run("unmute", "trip")
    assert "trip (2)" in run().out


def test_show_and_why_say_who_read_it(run, told, tmp_path):
    ids, meet = told
    run("read", "trip")
    meet()
    ben = str(tmp_path / "ben")
    shown = run("--home", ben, "show", ids[0])
    [line] = [line for line in shown.out.splitlines() if line.startswith("read by")]
    [person] = {
        r["person"] for r in run("--home", ben, "--json", "show", ids[0]).records if r["type"] == "seen"
    }
    assert person in line
    explained = run("--home", ben, "why", ids[0]).out.replace("\n", " ")
    assert f"It was read, as these devices say, by {person}" in explained
    [why] = run("--home", ben, "--json", "why", ids[0]).records
    assert [one["read"] for one in why["seen"]] == [True]
    assert run("--home", ben, "--json", "show", ids[1]).records[-1]["type"] == "seen"


def test_commands_that_note_nothing_do_not_load_automerge(run, two, home):
    run("pin", "trip")
    for command in (["--help"], ["send", "trip", "x"], [], ["label", "trip"], ["read", "trip"]):
        script = (
            "import sys; from mlog.cli.main import main\n"
            f"code = main({['--home', str(home), *command]!r})\n"
            "assert 'automerge' not in sys.modules, 'loaded'\n"
            "sys.exit(code)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (command, done.stderr)
