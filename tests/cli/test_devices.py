"""The command that lists, renames and revokes devices."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def phone(run, tmp_path: Path) -> str:
    """A second device of the person, by its name."""
    run("new", "x")
    run("--home", tmp_path / "phone", "trust", "export", tmp_path / "phone.trust")
    run("trust", "import", tmp_path / "phone.trust")
    run("devices", "rename", run("--json", "devices").records[1]["device"][:12], "phone")
    return "phone"


def test_devices_are_listed_with_who_added_them(run, phone: str):
    here, other = run("--json", "devices").records
    assert (here["here"], here["by"]) == (True, None)
    assert (other["name"], other["by"], other["member"], other["revoked"]) == (
        phone,
        here["name"],
        True,
        False,
    )
    assert "added by" in run("devices").out


def test_a_revoked_device_is_shown_as_such_and_never_trusted_again(run, phone: str, tmp_path: Path):
    result = run("devices", "revoke", phone, "--yes")
    assert result.code == 0
    assert "What it has already it keeps" in result.err
    assert "revoked: trusted no more" in run("devices").out
    assert run("--json", "devices").records[1]["revoked"]
    result = run("trust", "import", tmp_path / "phone.trust")
    assert result.code == 1
    assert "never trusted again" in result.err
    assert run("verify").code == 0


def test_revoking_is_asked_for_first(run, phone: str):
    result = run("devices", "revoke", phone)
    assert result.code == 1
    assert "--yes" in result.err
    assert not run("--json", "devices").records[1]["revoked"]


def test_this_device_is_not_revoked(run, phone: str):
    here = run("--json", "devices").records[0]["device"]
    result = run("devices", "revoke", here[:12], "--yes")
    assert result.code == 1
    assert "on another one of your devices" in result.err


@pytest.mark.parametrize(
    "args", [("list", "x"), ("rename", "x"), ("rename", "x", "y", "z"), ("revoke",), ("nonsense",)]
)
def test_wrong_usage_is_told(args: tuple[str, ...], run):
    assert run("devices", *args).code == 2


def test_a_name_that_is_none_is_refused(run, phone: str):
    assert run("devices", "rename", phone, "  ").code == 1
    assert run("devices", "rename", "nobody", "x").code == 1


def test_where_this_device_is_reached_is_told(run):
    assert "told to reach" in run("devices", "reach", "desk.example:7367").err
    assert run("devices", "reach").code == 2
    assert run("devices", "reach", "nowhere").code == 1
