"""Commands that show: what stands where, and that other people's text stays harmless."""

from __future__ import annotations

import time

import pytest

import mlog
from mlog.cli.graph import Node
from mlog.cli.lines import stamp
from mlog.cli.reading import _children_first


@pytest.fixture
def talk(run, home) -> list[str]:
    """Seventy messages in a conversation x; returns their ids."""
    with mlog.open(home) as opened:
        n = opened.new("x").n
        with opened.store.transaction():
            return [opened.send(n, f"message {number}").hex() for number in range(70)]


def texts(result) -> list[str]:
    return [line.split(": ", 1)[1] for line in result.out.splitlines()]


# -- mlog alone ------------------------------------------------------------------------------


def test_mlog_alone_in_a_new_home_says_how_to_begin(run):
    result = run()
    assert result.code == 0
    assert "mlog new" in result.err


def test_mlog_alone_lists_conversations_newest_first_with_one_line_of_health(run, chat):
    run("new", "x")
    run("send", "x", "hello")
    run("import", chat)
    lines = run().out.splitlines()
    assert lines[0].startswith("x ")
    assert lines[0].endswith("hello")
    assert "* <ada> cheers" in lines[1]
    assert lines[-1] == "✓ 2 conversations, no damage known"


# -- log -------------------------------------------------------------------------------------


def test_log_shows_the_oldest_message_at_the_top(run, talk):
    assert texts(run("log", "x")) == [f"message {number}" for number in range(70)]


def test_log_shows_the_newest_fifty_on_a_terminal_and_says_so(run, talk):
    result = run("log", "x", "--no-colour", tty=True)
    assert texts(result) == [f"message {number}" for number in range(20, 70)]
    assert "50 of 70" in result.err
    assert len(texts(run("log", "x", "--limit", "all", tty=True))) == 70


@pytest.mark.parametrize("limit", [1, 3, 69, 70, 71])
def test_limit_keeps_the_newest_in_either_order(limit, run, talk):
    newest = [f"message {number}" for number in range(70)][-limit:]
    assert texts(run("log", "x", "-n", str(limit))) == newest
    assert texts(run("log", "x", "-n", str(limit), "--reverse")) == newest[::-1]


def test_since_and_until_choose_by_the_claimed_time(run, chat, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    run("import", chat)
    assert len(run("log", "#boat", "--since", "2024-05-01T10:00:30Z").out.splitlines()) == 2
    assert len(run("log", "#boat", "--until", "2024-05-01T10:00:30Z").out.splitlines()) == 1
    assert run("log", "#boat", "--since", "2024-05-02").out == ""
    assert len(run("log", "#boat", "--until", "2024-05-02").out.splitlines()) == 3
    assert run("log", "#boat", "--since", "1d").out == ""


def test_a_line_tells_day_and_minute_on_this_persons_clock(run, chat, monkeypatch):
    run("import", chat)
    monkeypatch.setenv("TZ", "XYZ-3")
    time.tzset()
    line = run("log", "#boat").out.splitlines()[1]
    monkeypatch.undo()
    time.tzset()
    assert line.endswith("  2024-05-01 13:00  <bo> me")


@pytest.mark.parametrize("time_ms", [0, 1, 1_700_000_000_123, 2**53 - 1])
def test_any_time_that_an_entry_can_claim_has_a_stamp_of_one_width(time_ms):
    assert len(stamp(time_ms)) == 16


def test_an_imported_name_stands_in_angle_brackets(run, chat):
    run("import", chat)
    result = run("log", "#boat", tty=True)
    assert "<ada> who sails" in result.out
    assert "not signed" in result.err


def test_hostile_text_does_not_reach_the_terminal(run):
    run("new", "x")
    run("send", "x", "a\x1b[2J\u202eb\nsecond: line")
    for command in (("log", "x"), ("tail", "x"), ("search", "second"), ("log", "x", "--graph"), ()):
        out = run(*command).out
        assert "\x1b" not in out
        assert "\u202e" not in out
    # A line of the text cannot pass for a message.
    assert run("log", "x").out.splitlines()[1].startswith(" " * 20)


def test_a_hostile_title_does_not_reach_the_terminal(run):
    run("new", "a\x1b[2Jb")
    run("send", "a", "hi")
    for command in ((), ("status",), ("search", "hi"), ("verify",)):
        assert "\x1b" not in run(*command).out


def test_the_graph_draws_the_newest_entry_as_head(run, talk):
    lines = run("log", "x", "--graph", "-n", "3").out.splitlines()
    assert lines[0].startswith("◉ ")
    assert lines[0].endswith("message 69")


def test_the_graph_is_ascii_where_the_output_is(run, talk):
    out = run("log", "x", "--graph", "-n", "3", encoding="ascii").out
    assert out.startswith("@ ")


def test_the_graph_reversed_ends_with_the_head(run, talk):
    assert run("log", "x", "--graph", "--reverse").out.splitlines()[-1].startswith("◉ ")


def test_the_graph_has_one_row_for_each_entry_even_where_an_import_is_older_than_its_parents(run, chat):
    run("import", chat)
    run("send", "#boat", "hi")
    run("import", chat)
    out = run("log", "#boat", "--graph").out
    assert "┊" not in out
    assert out.count("◉") + out.count("◈") == 1


def test_dot_is_graphviz_source_and_not_json(run, talk):
    out = run("log", "x", "--dot").out
    assert out.startswith("digraph log {\n")
    assert out.count(" -> ") == 71
    assert run("log", "x", "--dot", "--json").code == 2


def test_children_come_before_parents_and_otherwise_the_order_is_kept():
    nodes = [
        Node(b"r", (), ""),
        Node(b"b", (b"r",), ""),
        Node(b"c", (), ""),
        Node(b"a", (b"b", b"not in the drawing"), ""),
    ]
    assert [node.id for node in _children_first(nodes)] == [b"c", b"a", b"b", b"r"]
    assert [node.children for node in _children_first(nodes)] == [0, 0, 1, 1]


# -- tail, search, show ----------------------------------------------------------------------


def test_tail_shows_the_last_ten_or_as_many_as_asked_for(run, talk):
    assert texts(run("tail", "x")) == [f"message {number}" for number in range(60, 70)]
    assert texts(run("tail", "x", "-n", "2")) == ["message 68", "message 69"]


def test_search_finds_the_newest_first_and_names_the_conversation(run, talk):
    lines = run("search", "message", "-n", "3").out.splitlines()
    assert [line.split()[-1] for line in lines] == ["69", "68", "67"]
    assert all("  x  " in line for line in lines)


def test_search_in_one_conversation_finds_nothing_of_another(run, talk):
    run("new", "y")
    result = run("search", "message", "--in", "y")
    assert (result.code, result.out, result.err) == (0, "", "nothing found\n")


def test_search_takes_operators_and_quotes_as_text(run, talk):
    for query in ("'; DROP TABLE entries; --", '"', "a AND", "NEAR(", "*"):
        assert run("search", query).code in (0, 1)
    assert len(run("log", "x").out.splitlines()) == 70


def test_show_tells_everything_about_a_message(run, talk):
    out = run("show", talk[5][:12]).out
    for part in (talk[5], "message 5", "kind", "device", "position", "yes: all bytes match"):
        assert part in out


def test_show_tells_where_an_imported_message_came_from(run, chat):
    run("import", chat)
    id_ = run("--json", "search", "sails").records[0]["id"]
    out = run("show", id_).out
    assert "irc: #boat.log, 1" in out
    assert "<ada>, as the device below says" in out


@pytest.mark.parametrize("kind", ["title", "key", "edit", "reaction", "erasure"])
def test_show_works_for_every_kind_of_entry(kind, run):
    run("new", "x")
    id_ = run("send", "x", "hi").out.strip()
    run("edit", id_, "ho")
    run("react", id_, "👍")
    run("erase", id_, "--yes")
    entries = run("--json", "log", "x", "--graph").records
    for entry in entries:
        if entry["kind"] == kind:
            result = run("show", entry["id"])
            assert result.code == 0
            assert kind in result.out


def test_an_entry_that_is_not_there_or_ambiguous_exits_1(run, talk):
    assert run("show", "zz").code == 1
    assert run("show", "0" * 64).code == 1
