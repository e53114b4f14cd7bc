"""Trust files on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def other(run, tmp_path: Path) -> Path:
    """The trust file of another home, which is younger than the one of the test."""
    run("new", "x")
    path = tmp_path / "other.trust"
    assert (
        run("--home", tmp_path / "other", "trust", "export", path, "--address", "lap.example:7367").code == 0
    )
    return path


def test_two_homes_trust_each_other_by_two_files(run, other: Path, tmp_path: Path):
    result = run("trust", "import", other)
    assert result.code == 0
    assert "one of your devices" in result.err
    assert run("trust", "export", tmp_path / "here.trust").code == 0
    result = run("--home", tmp_path / "other", "trust", "import", tmp_path / "here.trust")
    assert result.code == 0
    assert "joins" in result.err


def test_list_shows_this_device_and_the_others(run, other: Path):
    result = run("trust", "list")
    assert "this device" in result.out
    assert "mlog pair" in result.err
    run("trust", "import", other)
    result = run("trust", "list")
    assert len([line for line in result.out.splitlines() if not line.startswith(" ")]) == 2
    assert "at lap.example:7367" in result.out
    (here, listed) = run("--json", "trust", "list").records
    assert here["here"]
    assert listed["addresses"] == ["lap.example:7367"]
    assert (listed["member"], listed["confirmed"], listed["seen"]) == (True, False, None)


def test_remove_forgets_a_device_by_the_start_of_its_id(run, other: Path):
    run("trust", "import", other)
    device = run("--json", "trust", "list").records[1]["device"]
    assert run("trust", "remove", device[:8]).code == 0
    assert run("--json", "trust", "list").records[1]["peer"] is False
    result = run("trust", "remove", device[:8])
    assert result.code == 1
    assert "mlog pair" in result.err


def test_a_file_is_not_overwritten_unless_forced(run, other: Path):
    before = other.read_bytes()
    assert run("trust", "export", other).code == 1
    assert other.read_bytes() == before
    assert run("trust", "export", other, "--force").code == 0
    assert other.read_bytes() != before


def test_a_damaged_file_is_named_and_nothing_is_trusted(run, other: Path):
    fields = json.loads(other.read_text())
    other.write_text(json.dumps({**fields, "person": "somebody else"}))
    result = run("trust", "import", other)
    assert result.code == 1
    assert str(other) in result.err
    assert len(run("--json", "trust", "list").records) == 1


def test_names_of_others_cannot_steer_the_terminal(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run("new", "x")
    monkeypatch.setattr("platform.node", lambda: "evil\x1b[2J")
    run("--home", tmp_path / "other", "trust", "export", tmp_path / "f")
    shown = [run("trust", "import", tmp_path / "f"), run("trust", "list")]
    assert not any("\x1b" in result.out + result.err for result in shown)


@pytest.mark.parametrize(
    "args",
    [
        ("trust",),
        ("trust", "export"),
        ("trust", "import"),
        ("trust", "remove"),
        ("trust", "list", "x"),
        ("trust", "nonsense"),
        ("trust", "import", "f", "--address", "a:1"),
        ("trust", "export", ""),
    ],
)
def test_wrong_usage_is_told(args: tuple[str, ...], run):
    result = run(*args)
    assert result.code == 2
    assert result.out == ""


def test_an_address_that_is_none_is_refused(run, tmp_path: Path):
    for address in ("host", "host:0", "host:70000", "a b:1", ":1", "http://host:1"):
        result = run("trust", "export", tmp_path / "f", "--address", address)
        assert result.code == 1, address
        assert "HOST:PORT" in result.err
    assert not (tmp_path / "f").exists()
