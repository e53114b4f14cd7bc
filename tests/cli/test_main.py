"""The handler: every failure is a line and an exit code, never a traceback."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from mlog import api
from mlog.api import Home
from mlog.cli.output import Console
from mlog.errors import (
    Busy,
    InvalidInput,
    PeerUnavailable,
    ProtocolViolation,
    StoreError,
    UserError,
    VerificationFailed,
)


@pytest.fixture
def failing(run, monkeypatch):
    """Runs a command whose home cannot be opened, for a reason of the test's choice."""

    def failing_(error: BaseException):
        def open_home(_):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Console, "open_home", open_home)
            return run("status")

    return failing_


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("x"), 1),
        (InvalidInput("x"), 1),
        (PeerUnavailable("x"), 3),
        (ProtocolViolation("x"), 3),
        (VerificationFailed("x"), 4),
        (Busy("x"), 5),
        (StoreError("x"), 6),
    ],
)
def test_each_error_of_mlog_is_one_line_and_its_exit_code(error, code, failing):
    result = failing(error)
    assert result == (code, "", "mlog: x\n")


def test_success_exits_0(run):
    assert run("status").code == 0


def test_a_missing_conversation_exits_1_and_says_what_to_do(run):
    result = run("log", "nowhere")
    assert result.code == 1
    assert "mlog new" in result.err


@pytest.mark.parametrize(
    "args", [("send", "x"), ("--nonsense",), ("log", "x", "--since", "then"), ("path", "moon"), ("nothing",)]
)
def test_wrong_usage_exits_2_and_names_the_help(args, run):
    result = run(*args)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("mlog: ")
    assert "--help" in result.err


def test_a_home_that_another_process_holds_exits_5(run, home, monkeypatch):
    run("new", "x")
    monkeypatch.setattr(Console, "open_home", lambda _: Home(home, busy_timeout_ms=20))
    with Home(home) as other, other.store.transaction():
        result = run("send", "x", "hi")
    assert result.code == 5
    assert "another" in result.err


def test_a_home_that_is_a_file_exits_1(run, home):
    home.write_text("")
    result = run("status")
    assert result.code == 1
    assert str(home) in result.err


def test_ctrl_c_exits_130_and_says_what_stays(failing, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    result = failing(KeyboardInterrupt())
    assert result == (130, "", "mlog: interrupted.\n")


def test_a_failed_system_call_exits_6_with_the_file(failing):
    result = failing(OSError(errno.EIO, os.strerror(errno.EIO), "some/file"))
    assert result.code == 6
    assert result.err == "mlog: some/file: Input/output error\n"


def test_a_fault_of_mlog_asks_for_a_report_and_shows_no_traceback(failing):
    result = failing(RuntimeError("boom"))
    assert result.code == 1
    assert "boom" in result.err
    assert "MLOG_DEBUG=1" in result.err
    assert "Traceback" not in result.err


def test_debug_shows_the_traceback(failing, monkeypatch):
    monkeypatch.setenv("MLOG_DEBUG", "1")
    assert "Traceback" in failing(RuntimeError("boom")).err


def test_running_out_of_memory_is_said_in_a_line(failing):
    result = failing(MemoryError())
    assert result.code == 1
    assert result.err == "mlog: out of memory. What was confirmed is in the log.\n"


def test_hostile_text_in_an_error_does_not_reach_the_terminal(failing):
    result = failing(UserError("no \x1b[2Jtitle \u202eevil"))
    assert "\x1b" not in result.err
    assert "\u202e" not in result.err


def test_an_argument_that_is_not_text_is_wrong_usage(run):
    run("new", "x")
    result = run("send", "x", "caf\udce9")
    assert result.code == 2
    assert "UTF-8" in result.err


@pytest.mark.parametrize("stream", ["stdout", "stderr", "stdin"])
def test_a_stream_that_was_closed_before_the_start_does_no_harm(stream, home, monkeypatch):
    from mlog.cli.main import main

    monkeypatch.setattr(sys, stream, None)
    assert main(["status"]) == 0
    assert main(["new", "x"]) == 0


def test_an_ascii_terminal_shows_escapes_instead_of_failing(run):
    run("new", "x")
    run("send", "x", "grüße 👍")
    result = run("log", "x", encoding="ascii")
    assert result.code == 0
    assert r"gr\xfc\xdfe" in result.out


def test_the_api_is_not_opened_for_wrong_usage(run, monkeypatch):
    monkeypatch.setattr(api, "open", lambda *_: pytest.fail("opened"))
    assert run("log", "x", "--limit", "none").code == 2
