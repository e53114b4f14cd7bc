"""Programs `mlog-WORD` on the PATH: found, run as they are, never in the place of mlog's own commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs here are shell scripts")

TELLS = """#!/bin/sh
echo "home=$MLOG_HOME"
for one in "$@"; do echo "argument=$one"; done
exit 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH."""
    made = tmp_path / "bin"
    made.mkdir()
    monkeypatch.setenv("PATH", f"{made}{os.pathsep}{os.environ['PATH']}")
    return made


def program(folder: Path, word: str, text: str = TELLS, mode: int = 0o755) -> Path:
    path = folder / f"mlog-{word}"
    path.write_text(text)
    path.chmod(mode)
    return path


def mlog(*args: str | Path, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlog", *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=60, **options
    )


def test_arguments_are_passed_as_they_are_and_the_exit_code_is_kept(folder: Path) -> None:
    program(folder, "foo")
    done = mlog("foo", "--json", "-x", "a b", "--", "--help", "")
    assert done.stdout.splitlines()[1:] == [
        *(f"argument={one}" for one in ("--json", "-x", "a b", "--", "--help", ""))
    ]
    assert (done.returncode, done.stderr) == (7, "")


def test_help_after_the_word_is_the_programs_own(folder: Path) -> None:
    program(folder, "foo")
    assert "argument=--help" in mlog("foo", "--help").stdout
    assert "argument=--help" in mlog("help", "foo").stdout


def test_the_home_that_was_named_is_in_the_environment(folder: Path, tmp_path: Path, home: Path) -> None:
    program(folder, "foo")
    assert f"home={tmp_path / 'other'}\n" in mlog("--home", tmp_path / "other", "foo").stdout
    assert f"home={tmp_path / 'other'}\n" in mlog("--home", "other", "foo", cwd=tmp_path).stdout
    assert f"home={home}\n" in mlog("foo").stdout
    assert not home.exists()


def test_a_signal_that_ends_it_is_seen_by_the_caller(folder: Path) -> None:
    program(folder, "foo", "#!/bin/sh\nkill -TERM $$\n")
    assert mlog("foo").returncode == -15


def test_a_closed_pipe_ends_it_as_it_does_in_a_shell(folder: Path) -> None:
    program(folder, "foo", "#!/bin/sh\ntrap\nkill -PIPE $$\necho survived\n")
    assert "survived" not in mlog("foo").stdout


def test_commands_of_mlog_are_never_looked_for(folder: Path, run: Run) -> None:
    for name in ("log", "path", "status"):
        program(folder, name)
    assert "home=" not in mlog("path", "home").stdout
    assert "Programs on your PATH" not in run("--help").out


def test_the_current_folder_counts_only_where_the_path_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "foo")
    usual = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{os.pathsep}{usual}{os.pathsep}")
    assert mlog("foo", cwd=tmp_path).returncode == 2
    monkeypatch.setenv("PATH", f".{os.pathsep}{usual}")
    assert mlog("foo", cwd=tmp_path).returncode == 7


@pytest.mark.parametrize("word", ["../foo", "a/b", "foo\n", "", "-foo", "foo;id", "\x1b[2J"])
def test_a_word_that_is_no_plain_name_finds_nothing(word: str, folder: Path, run: Run) -> None:
    (folder / "mlog-..").mkdir()
    program(folder, "foo")
    result = run(word, "x")
    assert result.code == 2
    assert "\x1b[2J" not in result.err


@pytest.mark.parametrize(
    ("text", "mode"), [(TELLS, 0o644), ("#!/no/such/program\n", 0o755), ("echo\n", 0o755)]
)
def test_one_that_cannot_be_run_is_named_with_what_to_do(
    text: str, mode: int, folder: Path, run: Run
) -> None:
    path = program(folder, "foo", text, mode)
    result = run("foo")
    assert result.code == 1
    assert str(path) in result.err
    assert "chmod +x" in result.err


def test_one_that_can_be_run_is_preferred_to_an_earlier_one_that_cannot(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    program(first, "foo", mode=0o644)
    program(folder, "foo")
    monkeypatch.setenv("PATH", f"{first}{os.pathsep}{os.environ['PATH']}")
    assert mlog("foo").returncode == 7


def test_json_before_the_word_is_refused_and_not_lost(folder: Path, run: Run) -> None:
    program(folder, "foo")
    result = run("--json", "foo")
    assert result.code == 2
    assert "after the word" in result.err


def test_help_and_the_shell_know_the_programs(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(folder, "foo")
    program(folder, "bar-baz")
    program(folder, "dull", mode=0o644)
    assert run("--help").out.rpartition("Programs on your PATH:\n")[2].startswith("  bar-baz, foo\n")
    monkeypatch.setenv("_MLOG_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "mlog fo")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run().out.splitlines() == ["plain,foo"]


def test_the_path_is_read_only_for_what_is_no_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the PATH was read")

    monkeypatch.setattr("mlog.cli.outside.find", refuse)
    monkeypatch.setattr("mlog.cli.outside.found", refuse)
    assert run("new", "x").code == 0
    assert run("status", "--help").code == 0


def test_a_word_that_nothing_knows_is_answered_with_near_commands(folder: Path, run: Run) -> None:
    result = run("statsu")
    assert result.code == 2
    assert "status" in result.err
