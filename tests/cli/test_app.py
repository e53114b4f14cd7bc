"""The table of commands: help, options in any place, and what starting costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from mlog.cli.app import COMMANDS, app
from mlog.cli.options import Verb

HEAVY = ("msgspec", "sqlite3", "cryptography", "nacl", "blake3", "sqlite_utils", "rich", "asyncio", "json")


def command(name: str) -> click.Command:
    found = app.get_command(click.Context(app), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_in_a_sentence_and_an_example_of_itself(name, run):
    found = command(name)
    assert isinstance(found, Verb)
    assert found.help
    assert found.help.splitlines()[0].endswith(".")
    assert f"mlog {name}" in found.examples or f" {name} " in found.examples

    result = run(name, "--help")
    assert result.code == 0
    assert result.err == ""
    assert found.help.split()[0] in result.out
    assert found.examples.splitlines()[0] in result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_says_what_it_does_unless_it_is_obvious(name):
    for parameter in command(name).params:
        if isinstance(parameter, click.Option) and parameter.name != "limit":
            assert parameter.help, parameter.opts


def test_help_lists_every_command_in_one_uncut_line(run):
    result = run("--help")
    assert result.code == 0
    for name in COMMANDS:
        line = next(line for line in result.out.splitlines() if line.startswith(f"  {name} "))
        assert line.endswith(".")
        assert not line.endswith("...")


def test_help_does_not_make_a_home(run, home):
    run("--help")
    run("send", "--help")
    assert not home.exists()


def test_help_is_a_word_too(run, home):
    assert run("help") == run("--help")
    assert run("help", "send") == run("send", "--help")
    assert run("help", "help").out.startswith("Usage: mlog help ")
    assert not home.exists()


def test_help_for_an_unknown_command_is_answered_with_near_ones(run):
    result = run("help", "serach")
    assert (result.code, result.out) == (2, "")
    assert "search" in result.err.splitlines()[0]


def test_an_unknown_command_is_answered_with_near_ones(run):
    result = run("serach", "x")
    assert result.code == 2
    assert result.out == ""
    assert "search" in result.err.splitlines()[0]


def test_version_names_the_program(run):
    result = run("--version")
    assert result.code == 0
    assert result.out.startswith("mlog 0.")


@pytest.mark.parametrize("args", [("--json", "status"), ("status", "--json")])
def test_json_is_accepted_before_and_after_the_verb(args, run):
    result = run(*args)
    assert result.code == 0
    assert {record["type"] for record in result.records} == {"status"}


@pytest.mark.parametrize("before", [True, False])
def test_home_is_accepted_before_and_after_the_verb(before, run, tmp_path):
    option = ("--home", tmp_path / "other")
    assert run(*option, "new", "x").code == 0 if before else run("new", "x", *option).code == 0
    assert (tmp_path / "other" / "mlog.db").exists()


def test_the_only_format_version_is_accepted_and_another_is_wrong_usage(run):
    assert run("--json", "--format-version", "1", "status").code == 0
    result = run("status", "--format-version", "2")
    assert result.code == 2
    assert "version 1" in result.err


@pytest.mark.parametrize(
    "args", [["--help"], ["send", "--help"], ["import", "--help"], ["help"], ["help", "send"]]
)
def test_help_imports_nothing_heavy(args):
    code = (
        "import sys; from mlog.cli.main import main; code = main(sys.argv[1:]);"
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_send_imports_nothing_that_it_does_not_need(spawn, home):
    spawn("new", "x").communicate()
    code = (
        "import sys; from mlog.cli.main import main; main(['send', 'x', 'hi']);"
        "print([m for m in ('sqlite_utils', 'rich', 'asyncio', 'mlog.cli.reading', 'mlog.cli.transfer') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_command_module_is_imported_for_another_command():
    code = (
        "import sys; from mlog.cli.main import main; main(['path', 'home', '--help']);"
        "sys.exit('mlog.cli.reading' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell, run):
    result = run("completion", shell)
    assert result.code == 0
    assert "_MLOG_COMPLETE" in result.out


def completed(run, monkeypatch, words: str, incomplete: str) -> list[str]:
    monkeypatch.setenv("_MLOG_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"{words} {incomplete}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    result = run()
    return [line.partition(",")[2] for line in result.out.splitlines() if line]


def test_the_shell_completes_commands_and_titles(run, monkeypatch):
    run("new", "Sailing")
    assert completed(run, monkeypatch, "mlog", "sea") == ["search"]
    assert completed(run, monkeypatch, "mlog log", "sai") == ["Sailing"]
    assert completed(run, monkeypatch, "mlog help", "sea") == ["search"]


def test_a_title_that_a_shell_would_run_is_not_completed(run, monkeypatch):
    run("new", "Sail$(touch owned)")
    assert completed(run, monkeypatch, "mlog log", "sai") == []


def test_completion_does_not_make_a_home(run, monkeypatch, home: Path):
    assert completed(run, monkeypatch, "mlog log", "x") == []
    assert not home.exists()
