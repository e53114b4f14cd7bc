"""serve, sync and service, as a person runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlog.adapters.user_service import Plan, plan_for, quote_for_systemd
from mlog.api.home import Home
from mlog.api.rounds import DeviceReport, LogReport, SyncReport
from mlog.api.service import Ready
from mlog.errors import Busy, PeerUnavailable
from mlog.log.ids import DeviceId
from mlog.log.peers import PeerRow, SyncState
from mlog.protocol.events import Notice

posix = pytest.mark.skipif(os.name == "nt", reason="a fake systemctl is a shell script")

_DEVICE = DeviceId(b"d" * 32)


def _report(**changes: Any) -> SyncReport:
    fields: dict[str, Any] = {
        "device": _DEVICE.hex(),
        "name": "laptop",
        "reached": True,
        "complete": True,
        "address": "192.0.2.1:7367",
        "received_bytes": 12_000,
        "sent_bytes": 345,
        "round_trips": 2,
        "duration_ms": 1234,
        "logs": (
            LogReport(topic="aa", title="Garden", kind="conversation", state=SyncState.EQUAL, received=5),
        ),
        **changes,
    }
    return SyncReport(devices=(DeviceReport(**fields),), duration_ms=1300)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Callable[[SyncReport | Exception], list[tuple[Any, ...]]]:
    """Makes `sync` give a report, and records what it was asked for."""

    def made(outcome: SyncReport | Exception) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []

        def sync_once(_: Home, target: str | None, *, timeout_s: float | None, discovery: bool) -> SyncReport:
            asked.append((target, timeout_s))
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr("mlog.api.service.sync_once", sync_once)
        return asked

    return made


# -- sync ------------------------------------------------------------------------------------


def test_a_round_that_brings_all_in_step_exits_0(run, report):
    asked = report(_report())
    result = run("sync", "laptop", "--timeout", "5")
    assert result.code == 0
    assert asked == [("laptop", 5.0)]
    assert "laptop: in sync; 5 entries came, 0 went; 12.3 kB in 2 round trips, 1.2 s" in result.out
    assert "    Garden: 5 came, 0 went" in result.out


def test_a_log_that_differs_exits_3_and_says_why(run, report):
    log = LogReport(
        topic="aa", title="Garden", kind="conversation", state=SyncState.DIFFERING, detail="a fork"
    )
    report(_report(logs=(log,)))
    result = run("sync")
    assert result.code == 3
    assert "laptop: still differs" in result.out
    assert "Garden: 0 came, 0 went  differing: a fork" in result.out


@pytest.mark.parametrize("reached", [True, False])
def test_a_device_that_was_not_reached_or_stopped_exits_3(run, report, reached):
    report(_report(reached=reached, complete=False, reason="no \x1b[31manswer", logs=()))
    result = run("sync")
    assert result.code == 3
    assert ("not reached: no " in result.out) is not reached
    assert "\x1b" not in result.out


def test_the_report_as_json(run, report):
    report(_report())
    records = run("sync", "--json").records
    assert [record["type"] for record in records] == ["synced", "sync"]
    assert records[0]["logs"][0]["received"] == 5
    assert records[1] == {"type": "sync", "ok": True, "duration_ms": 1300}


def test_an_address_where_nobody_answers_exits_3(run, report):
    report(PeerUnavailable("nobody could be reached"))
    result = run("sync", "192.0.2.1:1")
    assert (result.code, result.out) == (3, "")
    assert "nobody could be reached" in result.err


def test_without_a_known_device_a_person_is_told_what_to_do(run):
    result = run("sync")
    assert result.code == 1
    assert "mlog pair" in result.err


# -- serve -----------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `serve` was called with; it tells of one message, and ends."""
    options: dict[str, Any] = {}

    def serve(
        home: Home, *, ready: Callable[[Ready], None], notice: Callable[[Notice], None], **given: Any
    ) -> None:
        options.update(given)
        with home.store.transaction():
            home.store.put_peer(PeerRow(device=_DEVICE, name="lap\x1btop", noise=b"", hpke=b"", own=True))
        log = home.new("Garden").n
        ready(Ready(port=given["port"], local=False, why="no sockets here"))
        notice(Notice(what="stored", device=_DEVICE, log=log, count=3))
        notice(Notice(what="rested", device=_DEVICE))
        notice(Notice(what="fault", detail="odd"))

    monkeypatch.setattr("mlog.api.service.serve", serve)
    return options


def test_serving_says_where_and_is_silent_otherwise(run, served, home):
    result = run("serve", "--port", "0", "--host", "127.0.0.1", "--phone", "--no-discovery")
    assert result.code == 0
    assert result.out.splitlines()[0] == f"mlog serves {home} without listening. Ctrl-C ends it."
    assert len(result.out.splitlines()) == 2, "a fault is always told"
    assert "no sockets here" in result.err
    assert served == {"host": "127.0.0.1", "port": 0, "phone": True, "discovery": False}


def test_serving_tells_what_happens_when_asked(run, served):
    result = run("serve", "--verbose")
    assert "at port 7367" in result.out
    assert "top: 3 entries came in Garden" in result.out
    assert "\x1b" not in result.out
    assert "rested" not in result.out
    assert served["discovery"]


def test_what_happens_as_json(run, served):
    records = run("serve", "--json").records
    assert [record["type"] for record in records] == ["serving", "event", "event", "event"]
    assert records[1] | {"topic": ""} == {
        "type": "event",
        "what": "stored",
        "device": _DEVICE.hex(),
        "name": "lap\x1btop",
        "topic": "",
        "conversation": "Garden",
        "count": 3,
        "detail": "",
    }


def test_a_second_service_exits_5(run, monkeypatch):
    def serve(*_: Any, **__: Any) -> None:
        raise Busy("a service runs on these logs already (process 7)")

    monkeypatch.setattr("mlog.api.service.serve", serve)
    result = run("serve")
    assert result.code == 5
    assert "process 7" in result.err


def test_a_port_that_is_none_is_wrong_usage(run):
    assert run("serve", "--port", "70000").code == 2


# -- service ---------------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux with a fake systemctl and journalctl; the file where they note their calls."""
    calls, programs = tmp_path / "calls", tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "journalctl"):
        program = programs / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {calls}\necho fine\n')
        program.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return calls


@posix
def test_installing_writes_a_unit_and_starts_it_and_again_is_fine(run, system, tmp_path, home):
    unit = tmp_path / "config" / "systemd" / "user" / "mlog.service"
    for _ in range(2):
        result = run("service", "install")
        assert result.code == 0, result.err
        assert "started now" in result.out
        assert f'"--home" "{home}" "serve"' in unit.read_text()
    calls = system.read_text().splitlines()
    assert calls[:3] == [
        "systemctl --user daemon-reload",
        "systemctl --user enable mlog.service",
        "systemctl --user restart mlog.service",
    ]
    assert "fine" in run("service", "status").out
    assert "fine" in run("service", "logs").out
    assert "it is removed" in run("service", "uninstall").out
    assert not unit.exists()
    assert "it was not installed" in run("service", "uninstall").out
    assert not home.exists(), "nothing of this needs the logs"


@posix
def test_a_dry_run_shows_and_does_nothing(run, system, tmp_path):
    result = run("service", "install", "--dry-run")
    assert "ExecStart=" in result.out
    assert "systemctl --user enable mlog.service" in result.out
    assert not system.exists()
    assert not (tmp_path / "config").exists()
    assert run("service", "status", "--dry-run").code == 2


@posix
def test_a_system_that_refuses_is_quoted(run, system, tmp_path):
    (tmp_path / "bin" / "systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
    result = run("service", "install")
    assert result.code == 1
    assert "Failed to connect to bus" in result.err
    assert "by hand" in result.err


@posix
@pytest.mark.parametrize("action", ["status", "logs"])
def test_who_asks_where_nothing_answers_is_told_so(action, run, system, tmp_path):
    for name in ("systemctl", "journalctl"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
    result = run("service", action)
    assert (result.code, result.out) == (1, "")
    assert "Failed to connect to bus. " in result.err
    assert "mlog service install" in result.err
    assert "by hand" in result.err
    assert run("--json", "service", action).out == ""


@posix
def test_a_service_that_is_stopped_is_shown(run, system, tmp_path):
    (tmp_path / "bin" / "systemctl").write_text("#!/bin/sh\necho 'Active: inactive (dead)'\nexit 3\n")
    result = run("service", "status")
    assert (result.code, result.out) == (0, "Active: inactive (dead)\n")


@posix
def test_a_system_without_systemctl_is_told_what_to_do(run, system, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    result = run("service", "install")
    assert result.code == 1
    assert "'systemctl'" in result.err
    assert "mlog serve" in result.err
    assert run("service", "status").code == 1


def test_arguments_are_quoted_for_systemd():
    assert quote_for_systemd("a b") == '"a b"'
    assert quote_for_systemd('50% of $HOME "x" \\') == '"50%% of $$HOME \\"x\\" \\\\"'


def _plan(platform: str, **environment: str) -> Plan:
    home = Path("/data/my logs & more")
    return plan_for(platform, environment, Path("/people/ann"), home, 501, python="/opt/a python")


@posix
def test_the_service_finds_the_passphrase_where_the_command_does():
    import plistlib

    file = "/safe/my $100% phrase"
    unit = _plan("linux", MLOG_PASSPHRASE_FILE=file).content.decode()
    assert 'Environment="MLOG_PASSPHRASE_FILE=/safe/my $100%% phrase"\n' in unit
    agent = plistlib.loads(_plan("darwin", MLOG_PASSPHRASE_FILE=file).content)
    assert agent["EnvironmentVariables"] == {"MLOG_PASSPHRASE_FILE": file}
    assert _plan("win32", MLOG_PASSPHRASE_FILE=file).install[0] == ("setx", "MLOG_PASSPHRASE_FILE", file)
    for platform in ("linux", "darwin", "win32"):
        assert "PASSPHRASE" not in _plan(platform).content.decode() + str(_plan(platform).install)


def test_on_macos_it_is_a_launch_agent():
    import plistlib

    plan = _plan("darwin")
    assert plan.file == Path("/people/ann/Library/LaunchAgents/org.mlog.serve.plist")
    agent = plistlib.loads(plan.content)
    assert agent["ProgramArguments"][:5] == ["/opt/a python", "-m", "mlog", "--home", "/data/my logs & more"]
    assert plan.install == (("launchctl", "bootstrap", "gui/501", str(plan.file)),)


def test_on_windows_it_is_a_task_at_log_on():
    plan = _plan("win32")
    assert plan.file is None
    assert plan.install[0][-1].startswith('"/opt/a python" -m mlog --home "/data/my logs & more" serve')
