"""Starting the service when a person logs in: a systemd user unit, a launchd agent, or a Windows task.

What is written and run is made by pure functions, so that it can be shown before it is done. The
agent of macOS and the task of Windows are made as their manuals say, and untested.
"""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from mlog import config
from mlog.adapters.disk import disk_errors
from mlog.adapters.keystore import write_private
from mlog.errors import UserError

__all__ = ["Plan", "here", "install", "plan_for", "quote_for_systemd", "show", "uninstall"]

_UNIT: Final = "mlog.service"
_LABEL: Final = "org.mlog.serve"
_TASK: Final = "mlog"
_RUN_S: Final = 60.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How the service is started on one system.

    Attributes:
        program: What manages services there.
        file: What is written, or None; `content` goes into it.
        before: Run first at installing, and may fail: it ends what an earlier installation started.
        install, uninstall, status, logs: Commands.
        hint: What a person may want to know besides.
    """

    program: str
    file: Path | None
    content: bytes
    before: tuple[tuple[str, ...], ...]
    install: tuple[tuple[str, ...], ...]
    uninstall: tuple[tuple[str, ...], ...]
    status: tuple[str, ...]
    logs: tuple[str, ...]
    hint: str


def plan_for(
    platform: str, environment: Mapping[str, str], user_home: Path, home: Path, uid: int, *, python: str
) -> Plan:
    """What to do on a system.

    Args:
        platform: As `sys.platform`.
        user_home: The person's home folder.
        home: The folder of the logs.
        python: The interpreter that has mlog.
    """
    serve = (python, "-m", "mlog", "--home", str(home), "serve", "--no-colour")
    named = environment.get(config.PASSPHRASE_VARIABLE, "")
    # Where the key file is protected, the service finds the passphrase where this command does.
    passphrase = {config.PASSPHRASE_VARIABLE: os.path.abspath(os.path.expanduser(named))} if named else {}
    if platform == "darwin":
        return _launchd(serve, user_home, uid, passphrase)
    if platform == "win32":
        return _windows(serve, passphrase)
    chosen = environment.get("XDG_CONFIG_HOME", "")
    folder = Path(chosen) if os.path.isabs(chosen) else user_home / ".config"
    return _systemd(serve, folder / "systemd" / "user" / _UNIT, passphrase)


def _systemd(serve: Sequence[str], file: Path, environment: Mapping[str, str]) -> Plan:
    lines = (
        "[Unit]",
        "Description=mlog: keeps your messages in step with your other devices",
        "",
        "[Service]",
        *(f"Environment={_quote_assignment(name, value)}" for name, value in environment.items()),
        f"ExecStart={' '.join(quote_for_systemd(part) for part in serve)}",
        "Restart=on-failure",
        "RestartSec=10",
        # 1 and 2: a person has to change something. 5: another service runs already.
        "RestartPreventExitStatus=1 2 5",
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    )
    control = ("systemctl", "--user")
    return Plan(
        program="systemctl",
        file=file,
        content="\n".join(lines).encode("utf-8", "surrogateescape"),
        before=(),
        install=(
            (*control, "daemon-reload"),
            (*control, "enable", _UNIT),
            (*control, "restart", _UNIT),
        ),
        uninstall=((*control, "disable", "--now", _UNIT), (*control, "daemon-reload")),
        status=(*control, "--no-pager", "status", _UNIT),
        logs=("journalctl", "--user", "--no-pager", "-n", "100", "-u", _UNIT),
        hint="It runs while you are logged in; for always: 'loginctl enable-linger'.",
    )


def quote_for_systemd(part: str) -> str:
    """One argument of ExecStart; `%` and `$` would be replaced there."""
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return '"' + escaped.replace("\n", "\\n") + '"'


def _quote_assignment(name: str, value: str) -> str:
    """One assignment of Environment, where `$` means nothing."""
    return quote_for_systemd(f"{name}={value}").replace("$$", "$")


def _launchd(serve: Sequence[str], user_home: Path, uid: int, environment: Mapping[str, str]) -> Plan:
    file = user_home / "Library" / "LaunchAgents" / f"{_LABEL}.plist"
    log = user_home / "Library" / "Logs" / "mlog.log"
    agent = {
        "Label": _LABEL,
        "ProgramArguments": list(serve),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
        **({"EnvironmentVariables": dict(environment)} if environment else {}),
    }
    domain = f"gui/{uid}"
    return Plan(
        program="launchctl",
        file=file,
        content=plistlib.dumps(agent),
        before=(("launchctl", "bootout", f"{domain}/{_LABEL}"),),
        install=(("launchctl", "bootstrap", domain, str(file)),),
        uninstall=(("launchctl", "bootout", f"{domain}/{_LABEL}"),),
        status=("launchctl", "print", f"{domain}/{_LABEL}"),
        logs=("tail", "-n", "100", str(log)),
        hint="It runs while you are logged in.",
    )


def _windows(serve: Sequence[str], environment: Mapping[str, str]) -> Plan:
    # A task has the variables of the account, and none of its own.
    kept = [("setx", name, value) for name, value in environment.items()]
    line = subprocess.list2cmdline(serve)
    return Plan(
        program="schtasks",
        file=None,
        content=b"",
        before=(),
        install=(
            *kept,
            ("schtasks", "/Create", "/F", "/SC", "ONLOGON", "/TN", _TASK, "/TR", line),
            ("schtasks", "/Run", "/TN", _TASK),
        ),
        uninstall=(("schtasks", "/End", "/TN", _TASK), ("schtasks", "/Delete", "/F", "/TN", _TASK)),
        status=("schtasks", "/Query", "/V", "/FO", "LIST", "/TN", _TASK),
        logs=("schtasks", "/Query", "/V", "/FO", "LIST", "/TN", _TASK),
        hint="It runs while you are logged in.",
    )


# -- doing it --------------------------------------------------------------------------------


def install(plan: Plan) -> None:
    """Write the file, and start the service now and at each login; doing it again changes nothing.

    Raises:
        UserError: The system has nothing that manages services, or that refuses.
        StoreError: The file cannot be written.
    """
    _require(plan)
    if plan.file is not None:
        with disk_errors(plan.file):
            plan.file.parent.mkdir(parents=True, exist_ok=True)
        if not plan.file.exists() or plan.file.read_bytes() != plan.content:
            write_private(plan.file, plan.content)
    for command in plan.before:
        _run(command)
    for command in plan.install:
        _demand(command)


def uninstall(plan: Plan) -> bool:
    """Stop the service, and do not start it any more; False if it was not installed.

    Raises:
        UserError: The system refuses.
        StoreError: The file cannot be removed.
    """
    if plan.file is not None and not plan.file.exists():
        return False
    _require(plan)
    for command in plan.uninstall[:1]:
        _run(command)
    if plan.file is not None:
        with disk_errors(plan.file):
            plan.file.unlink(missing_ok=True)
    for command in plan.uninstall[1:]:
        _demand(command)
    return True


def show(command: Sequence[str]) -> str:
    """What a command of a plan prints; of a service that is stopped, too.

    Raises:
        UserError: There is no such program, or it has no answer: mlog is not installed with it, or there is
            nothing that manages services in this session.
    """
    if shutil.which(command[0]) is None:
        raise UserError(f"this system has no '{command[0]}', so there is nothing to show.")
    ran = _run(command)
    # systemctl fails for a service that is stopped, and still shows it.
    if ran.returncode and not ran.stdout.strip():
        raise UserError(
            f"{_failure(command, ran)} If it was never installed: 'mlog service install'. Where that fails "
            "too, start 'mlog serve' by hand."
        )
    return ran.stdout + ran.stderr


def _require(plan: Plan) -> None:
    if shutil.which(plan.program) is None:
        raise UserError(
            f"this system has no '{plan.program}', which would start mlog by itself. Start 'mlog serve' with "
            "what your system has for that, or by hand."
        )


def _demand(command: Sequence[str]) -> None:
    ran = _run(command)
    if ran.returncode:
        raise UserError(f"{_failure(command, ran)} Until that works, start 'mlog serve' by hand.")


def _failure(command: Sequence[str], ran: subprocess.CompletedProcess[str]) -> str:
    """What became of a command, as a sentence."""
    said = " ".join((ran.stderr or ran.stdout).split())[:300].removesuffix(".")
    return f"'{' '.join(command)}' failed: {said or f'exit code {ran.returncode}'}."


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 (the commands of this module's own plans)
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_RUN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def here(home: Path) -> Plan:
    """The plan for this system and person."""
    uid = os.getuid() if sys.platform != "win32" else 0
    return plan_for(sys.platform, os.environ, Path.home(), home.absolute(), uid, python=sys.executable)
