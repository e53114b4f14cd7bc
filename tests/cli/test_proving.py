"""status and why: what they say of copies and of one entry, and how they end."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import mlog
from mlog.cli.terminal import width
from mlog.log.peers import SyncState
from tests.api.peers import Peer
from tests.api.serving import join, served, sync

DAY_MS = 24 * 3600_000


@pytest.fixture
def tea(run, home: Path) -> Path:
    """A home with a conversation of two messages."""
    run("new", "tea")
    run("send", "tea", "green")
    run("send", "tea", "black")
    return home


def of_type(result, type_: str) -> list[dict]:
    return [record for record in result.records if record["type"] == type_]


# -- status ----------------------------------------------------------------------------------


def test_status_counts_what_is_here(run, chat):
    run("import", chat)
    record = run("--json", "status", "#boat").records[0]
    assert (record["messages"], record["gaps"], record["kind"]) == (3, 0, "conversation")
    out = run("status").out
    assert "3 messages" in out
    assert "your devices" in out


def test_status_counts_one_as_one(run):
    run("new", "Tea")
    run("send", "Tea", "Hello")
    assert "  1 message, 3 entries, 3 with their text, 1 chain, 1 head\n" in run("status").out


def test_status_without_another_device_says_that_all_is_in_one_place(run, tea):
    result = run("status")
    assert result.code == 0
    assert "one place only" in result.err
    assert "mlog pair" in result.err


def test_status_says_what_to_do_about_a_device_that_was_never_met(run, tea):
    with mlog.open(tea) as home:
        Peer(home, "phone", 1, met=False)
    result = run("status", "tea")
    assert re.search(r"^  phone +never met +never proven equal$", result.out, re.MULTILINE)
    assert "mlog sync phone" in result.err


def test_status_names_a_device_so_that_the_command_can_be_typed(run, tea):
    with mlog.open(tea) as home:
        Peer(home, "ben (desk)", 1, met=False)
    assert "here mlog sync 'ben (desk)', or" in " ".join(run("status", "tea").err.split())


def test_status_tells_when_a_device_was_proven_equal(run, tea):
    with mlog.open(tea) as home:
        n = home.conversation("tea").n
        Peer(home, "phone", 1).prove(n)
    result = run("status", "tea")
    assert re.search(
        r"^  phone +in sync +proven equal \S+ \d\d:\d\d, counts until ", result.out, re.MULTILINE
    )
    assert "mlog sync" not in result.err


def test_status_counts_what_was_written_since_the_proof(run, tea):
    with mlog.open(tea) as home:
        n = home.conversation("tea").n
        Peer(home, "phone", 1).prove(n)
    id_ = run("--json", "send", "tea", "mint").records[0]["id"]
    out = run("status", "tea").out
    assert re.search(r"^  phone +behind ", out, re.MULTILINE)
    assert "1 entry here is not proven there yet" in out
    assert id_[:8] in out
    [record] = of_type(run("--json", "status", "tea"), "copy")
    assert (record["state"], record["there_lacks"], record["exact"]) == ("behind", 1, True)
    assert record["first_missing"] == id_
    [week] = record["weeks"]
    assert week["entries"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", week["from"])


def test_status_has_the_words_of_a_comparison_that_failed(run, tea):
    with mlog.open(tea) as home:
        n = home.conversation("tea").n
        Peer(home, "phone", 1).sync(n, SyncState.DIFFERING, detail="entries differ, and \x1b[2J")
    out = run("status", "tea").out
    assert re.search(r"^  phone +differing ", out, re.MULTILINE)
    assert "entries differ" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_of_status_is_wider_than_the_terminal(run, tea, columns, monkeypatch):
    run("title", "tea", "a very long title of a conversation about tea " * 5)
    with mlog.open(tea) as home:
        n = home.conversation("a very").n
        Peer(home, "a device with a very long name indeed, 你好", 1).prove(n)
        home.send(n, "more")
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: os.terminal_size((columns, 24)))
    for line in run("status", "a very", "--calendar").out.splitlines():
        assert width(line) <= columns, line


# -- the calendar ----------------------------------------------------------------------------


def test_status_of_a_conversation_shows_its_weeks_where_they_fit(run, tea):
    with mlog.open(tea) as home:
        Peer(home, "phone", 1, met=False)
    lines = run("status", "tea").out.splitlines()
    assert any(line.endswith("█  this device") for line in lines)
    assert any(line.endswith("?  phone") for line in lines)
    assert "█  this device" not in run("status").out
    assert "█  this device" in run("status", "--calendar").out


def test_a_calendar_that_has_no_room_is_shown_when_it_is_asked_for(run, tea):
    old = tea.parent / "#old.log"
    old.write_text("[2001-05-01 10:00:00] <ada> who sails?\n")
    run("import", old, "--into", "tea")
    result = run("status", "tea")
    assert "this device" not in result.out
    assert "--calendar" in result.err
    assert "earlier weeks, from 2001-04-30 on" in run("status", "tea", "--calendar").out


def test_the_calendar_is_data_for_programs(run, tea):
    with mlog.open(tea) as home:
        Peer(home, "phone", 1, met=False)
    here, phone = of_type(run("--json", "status", "tea"), "calendar")
    assert (here["here"], here["name"]) == (True, None)
    assert [week["state"] for week in here["weeks"]] == ["complete"]
    assert (phone["here"], phone["name"]) == (False, "phone")
    assert [week["state"] for week in phone["weeks"]] == ["unknown"]
    assert of_type(run("--json", "status"), "calendar") == []
    assert of_type(run("--json", "status", "--calendar"), "calendar")


# -- --fail-if-stale -------------------------------------------------------------------------


def test_a_conversation_that_nobody_else_holds_is_stale(run, tea):
    result = run("status", "--fail-if-stale", "14d")
    assert result.code == 3
    assert "stale: tea was never proven to be on another device" in result.err


def test_a_proof_that_is_young_enough_is_not_stale_and_an_older_one_is(run, tea):
    with mlog.open(tea) as home:
        n = home.conversation("tea").n
        Peer(home, "phone", 1).prove(n, age_ms=10 * DAY_MS)
    assert run("status", "--fail-if-stale", "14d").code == 0
    result = run("status", "--fail-if-stale", "9d")
    assert result.code == 3
    assert "stale: tea was last proven to be on another device" in result.err


def test_one_stale_conversation_among_several_is_enough(run, tea):
    with mlog.open(tea) as home:
        Peer(home, "phone", 1).prove(home.conversation("tea").n)
    run("new", "coffee")
    assert run("status", "tea", "--fail-if-stale", "1d").code == 0
    result = run("--json", "status", "--fail-if-stale", "1d")
    assert result.code == 3
    assert "coffee" in result.err
    proven = {record["conversation"]: record["proven"] for record in of_type(result, "status")}
    assert proven["coffee"] is None
    assert proven["tea"]


def test_a_home_without_conversations_is_not_stale(run):
    assert run("status", "--fail-if-stale", "1d").code == 0


@pytest.mark.parametrize("span", ["0d", "soon", "-1d", "14"])
def test_what_is_no_span_of_time_is_wrong_usage(run, span):
    result = run("status", f"--fail-if-stale={span}")
    assert result.code == 2
    assert "14d" in result.err


# -- diff ------------------------------------------------------------------------------------


@pytest.fixture
def desk(tea: Path, tmp_path: Path) -> Path:
    """Another home of the same person, called "laptop" there, that holds the same."""
    other = tmp_path / "other"
    join(tea, other)
    sync(other, tea)
    return other


def test_diff_of_equal_copies_exits_0(run, tea, desk):
    with served(desk, tea):
        result = run("diff", "laptop")
    assert result.code == 0
    assert "✓ tea: equal" in result.out


def test_diff_lists_what_is_only_here_with_its_text_and_what_is_only_there_by_id(run, tea, desk):
    with mlog.open(desk) as other:
        there = other.send(other.conversation("tea").n, "from there").hex()
    here = run("--json", "send", "tea", "only here").records[0]["id"]
    with served(desk, tea):
        result = run("diff", "laptop", "tea")
        records = run("--json", "diff", "laptop", "tea").records
    assert result.code == 3
    assert "✗ tea: 1 only here, 1 only at laptop" in result.out
    assert re.search(rf"^  here  {here[:8]} .*only here$", result.out, re.MULTILINE)
    assert f"  there {there[:16]}" in result.out.splitlines()
    assert records[0]["type"] == "compared"
    assert (records[0]["here_only"], records[0]["there_only"], records[0]["equal"]) == (1, 1, False)
    assert [(r["where"], r["id"], r["text"]) for r in records[1:]] == [
        ("here", here, "only here"),
        ("there", there, None),
    ]


def test_diff_without_another_device_says_how_to_connect_one(run, tea):
    result = run("diff", "phone")
    assert result.code == 1
    assert "no other device is known here yet. 'mlog pair'" in result.err


def test_diff_of_a_device_that_cannot_be_reached_exits_3(run, tea, desk):
    result = run("diff", "laptop")
    assert result.code == 3
    assert "laptop" in result.err
    assert run("diff", "nobody").code == 1


# -- why -------------------------------------------------------------------------------------


def test_why_explains_an_entry_in_sentences(run, tea):
    id_ = run("--json", "log", "tea").records[0]["id"]
    run("edit", id_, "green tea")
    result = run("why", id_[:8])
    assert result.code == 0
    out = " ".join(result.out.split())
    assert f"Entry {id_[:8]} (message) is in the week from " in out
    assert "It is authentic: it carries a valid signature of its device." in out
    assert "Its bytes match its hash." in out
    assert "It is shown with the text of the edit" in out
    assert "No other device has proven lately that it has it." in out


def test_why_as_data_has_the_sentences_too(run, tea):
    id_ = run("--json", "log", "tea").records[0]["id"]
    with mlog.open(tea) as home:
        Peer(home, "phone", 1).prove(home.conversation("tea").n)
    [record] = run("--json", "why", id_).records
    assert (record["id"], record["authentic"], record["vouched_by"]) == (id_, True, id_)
    assert [holder["name"] for holder in record["holders"]] == ["phone"]
    assert record["explanation"][-1] == "Other devices that have it: phone (signed for it)."


def test_why_explains_what_is_not_here_and_what_to_do(run, tea):
    with mlog.open(tea) as home:
        n = home.conversation("tea").n
        [chain] = home.store.chains(n)
        Peer(home, "phone", 1).tell(n, chain.seq + 1)
    result = run("why", f"{chain.device.hex()[:8]}:{chain.seq + 1}")
    out = " ".join(result.out.split())
    assert result.code == 0
    assert f"Number {chain.seq + 1} of a chain of device {chain.device.hex()[:8]} in tea is not here." in out
    assert "It is not yet fetched, noticed " in out
    assert "Other devices that have it: phone (told of it). 'mlog sync' fetches what is missing." in out


def test_why_of_an_unknown_entry_exits_1(run, tea):
    result = run("why", "00000000")
    assert result.code == 1
    assert "no entry" in result.err


@pytest.mark.parametrize("columns", [40, 80])
def test_no_line_of_why_is_wider_than_the_terminal(run, tea, columns, monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: os.terminal_size((columns, 24)))
    id_ = run("--json", "log", "tea").records[0]["id"]
    for line in run("why", id_).out.splitlines():
        assert width(line) <= columns, line
