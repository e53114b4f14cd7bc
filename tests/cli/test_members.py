"""Commands about contacts and about who is in a conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlog.api.home import Home
from tests.api.acquainted import accept, sync
from tests.cli.conftest import Run


@pytest.fixture
def bob(home: Path, run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "bob"
    run("new", "trip")
    with Home(path, person="bob"):
        pass
    accept(home, path)
    sync(home, path)
    return path


def test_a_person_without_contacts_is_told_what_to_do(run: Run):
    assert "mlog invite" in run("contacts").err
    result = run("new", "trip", "--with", "bob")
    assert result.code == 1
    assert "nobody is known here yet" in result.err


def test_contacts_are_listed_with_digits_to_compare(run: Run, bob: Path):
    (contact,) = run("--json", "contacts").records
    assert (contact["name"], contact["called"]) == ("bob", "bob")
    assert contact["safety"] in run("contacts").out
    assert run("contacts", "name", "bob", "Bobby").code == 0
    assert "calls itself bob" in run("contacts").out
    assert run("contacts", "remove", "bobby").code == 1, "nobody is there to be asked"
    assert run("contacts", "remove", "bobby", "--yes").code == 0
    assert run("--json", "contacts").records == []


@pytest.mark.parametrize("command", [("remove", "tripp", "bob"), ("leave", "tripp")])
def test_nobody_is_asked_about_a_conversation_that_there_is_not(
    run: Run, bob: Path, command: tuple[str, ...]
):
    result = run(*command)
    assert result.code == 1
    assert "no conversation 'tripp'" in result.err
    assert "--yes" not in result.err


def test_people_are_added_and_removed(run: Run, bob: Path):
    assert [m["name"] for m in run("--json", "members", "trip").records][1:] == []
    added = run("--json", "add", "trip", "bob").records
    assert [(m["name"], m["role"]) for m in added][1] == ("bob", "member")
    assert "bob  admin" in run("members", "trip", "bob", "admin").out
    assert run("remove", "trip", "bob").code == 1
    assert [m["here"] for m in run("--json", "remove", "trip", "bob", "--yes").records] == [True]
    assert "does not name exactly one person" in run("remove", "trip", "bob", "--yes").err


def test_add_says_what_the_newcomer_reads_and_gives_no_history_unasked(run: Run, bob: Path):
    run("send", "trip", "said before")
    added = run("add", "trip", "bob")
    assert "nothing that was said before" in added.err
    assert "not what was said before joining" in added.out
    [_, member] = run("--json", "members", "trip").records
    assert member["history"] is False
    granted = run("add", "trip", "bob", "--history")
    assert "all that was ever said" in granted.err
    [_, member] = run("--json", "members", "trip").records
    assert (member["history"], member["role"]) == (True, "member")


def test_leaving_is_asked_for_and_ends_writing(run: Run, bob: Path):
    run("add", "trip", "bob")
    assert "only admin" in run("leave", "trip", "--yes").err
    run("members", "trip", "bob", "admin")
    assert run("leave", "trip").code == 1
    assert run("leave", "trip", "--yes").code == 0
    assert "you left this conversation" in run("send", "trip", "hello").err
    assert run("members", "trip", "bob").code == 2


def test_who_was_removed_reads_so_in_the_list_in_status_and_where_it_would_write(
    home: Path, run: Run, bob: Path
):
    there = ("--home", str(bob))
    run("add", "trip", "bob")
    sync(home, bob)
    (before,) = [r for r in run(*there, "--json").records if r["type"] == "conversation"]
    assert (before["ended"], before["ended_by"], before["ended_at"]) == (None, None, None)
    run("remove", "trip", "bob", "--yes")
    sync(home, bob)
    me = run("--json", "members", "trip").records[0]["name"]
    (after,) = [r for r in run(*there, "--json").records if r["type"] == "conversation"]
    assert (after["ended"], after["ended_by"]) == ("removed", me)
    assert after["ended_at"].endswith("Z")
    assert f"{me} removed you" in run(*there).out
    (status,) = run(*there, "--json", "status", "trip").records[:1]
    assert status["ended"] == "removed"
    assert f"{me} removed you from this conversation on " in run(*there, "status").out
    refused = run(*there, "send", "trip", "hello?")
    assert refused.code == 1
    assert f"{me} removed you from this conversation on " in refused.err
    assert "mlog new" in refused.err
