"""Commands that write: what they print, refuse and ask."""

from __future__ import annotations

import pytest

from mlog import limits


@pytest.fixture
def sent(run) -> str:
    """A message in a conversation x."""
    run("new", "x")
    return run("send", "x", "hello").out.strip()


def messages(run) -> list[dict]:
    return run("--json", "log", "x").records


def test_new_prints_a_number_that_names_the_conversation(run):
    number = run("new", "Summer trip").out.strip()
    assert run("send", number, "hi").code == 0
    assert run("send", "summer", "hi").code == 0


def test_new_refuses_a_title_that_is_taken_or_empty(run):
    run("new", "x")
    assert run("new", "x").code == 1
    assert run("new", "  ").code == 1


def test_send_prints_an_id_that_names_the_message(run, sent):
    assert run("show", sent).code == 0
    assert [message["text"] for message in messages(run)] == ["hello"]


def test_send_reads_standard_input_for_a_dash(run, sent):
    assert run("send", "x", "-", stdin="zwei\nZeilen ü\n".encode()).code == 0
    assert messages(run)[-1]["text"] == "zwei\nZeilen ü"


def test_send_refuses_standard_input_that_is_no_text(run, sent):
    result = run("send", "x", "-", stdin=b"ok\xff")
    assert result.code == 1
    assert "standard input: byte 3 is not UTF-8" in result.err


def test_send_reads_no_more_of_standard_input_than_a_message_may_have(run, sent):
    result = run("send", "x", "-", stdin=b"x" * (limits.TEXT_SIZE_MAX_BYTES + 100))
    assert result.code == 1
    assert "131,072 bytes" in result.err
    assert run("send", "x", "-", stdin=b"x" * limits.TEXT_SIZE_MAX_BYTES).code == 0


def test_send_refuses_an_empty_text(run, sent):
    assert run("send", "x", "").code == 1
    assert run("send", "x", "-", stdin=b"").code == 1


def test_a_text_that_looks_like_an_option_follows_two_dashes(run, sent):
    assert run("send", "x", "-v").code == 2
    assert run("send", "x", "--", "-v").code == 0
    assert messages(run)[-1]["text"] == "-v"


def test_a_reply_names_the_message_it_answers(run, sent):
    run("send", "x", "hi", "--reply-to", sent[:6])
    reply = messages(run)[-1]
    assert reply["kind"] == "reply"
    assert reply["reply_to"] == [messages(run)[0]["message_id"]]


def test_a_reply_to_another_conversation_is_refused(run, sent):
    run("new", "y")
    assert run("send", "y", "hi", "--reply-to", sent).code == 1


def test_an_ambiguous_conversation_lists_the_candidates(run):
    run("new", "trip north")
    run("new", "trip south")
    result = run("send", "trip", "hi")
    assert result.code == 1
    assert "trip north" in result.err
    assert "trip south" in result.err


def test_edit_replaces_the_text(run, sent):
    assert run("edit", sent, "hello there").code == 0
    assert (messages(run)[0]["text"], messages(run)[0]["edited"]) == ("hello there", True)


def test_react_adds_and_removes_an_emoji(run, sent):
    run("react", sent, "👍")
    assert [r["emoji"] for r in messages(run)[0]["reactions"]] == ["👍"]
    run("react", sent, "👍", "--remove")
    assert messages(run)[0]["reactions"] == []


def test_erase_without_a_terminal_needs_yes(run, sent):
    result = run("erase", sent)
    assert result.code == 1
    assert "--yes" in result.err
    assert messages(run)[0]["text"] == "hello"
    assert run("erase", sent, "--yes").code == 0
    assert messages(run)[0]["erased"]
    assert messages(run)[0]["text"] == ""


@pytest.mark.parametrize(("answer", "erased", "code"), [(b"y\n", True, 0), (b"n\n", False, 1)])
def test_erase_asks_on_a_terminal_and_shows_the_message(answer, erased, code, run, sent, monkeypatch):
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda *_: answer.decode().strip())
    result = run("erase", sent, tty=True)
    assert result.code == code
    assert "hello" in result.err
    assert messages(run)[0]["erased"] is erased


@pytest.mark.parametrize("confirmed", [(), ("--yes",)])
def test_a_message_that_is_erased_is_not_erased_again(confirmed, run, sent):
    run("erase", sent, "--yes")
    entries = run("--json", "status").records
    result = run("erase", sent, *confirmed, tty=True)
    assert (result.code, result.out) == (0, "")
    assert "erased already" in result.err
    assert run("--json", "status").records == entries


def test_whoever_imported_a_message_may_erase_it(run, chat):
    run("import", chat)
    id_ = run("--json", "search", "sails").records[0]["id"]
    assert run("erase", id_, "--yes").code == 0
    assert "sails" not in run("log", "#boat").out


def test_title_renames_the_conversation(run, sent):
    assert run("title", "x", "y").code == 0
    assert run("log", "y").code == 0
    assert run("log", "x").code == 1


def test_messages_are_let_disappear_and_stay_again(run, sent):
    assert run("expire", "x").out == "off\n"
    assert run("expire", "x", "30d").code == 0
    assert run("expire", "x").out == "30d\n"
    assert run("expire", "x", "2w").code == 0
    assert run("--json", "expire", "x").records[0]["after_s"] == 14 * 86_400
    assert run("expire", "x", "off").code == 0
    assert run("--json", "expire", "x").records[0]["after_s"] is None


@pytest.mark.parametrize("span", ["soon", "0d", "of"])
def test_a_span_that_is_none_is_answered_with_what_may_stand_there(span, run, sent):
    result = run("expire", "x", span)
    assert result.code == 2
    assert "as 90m, 12h, 14d or 2w, or as 'off'" in result.err
