"""JSON lines have exactly the documented fields; progress, colour and marks."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import mlog
from mlog.api import pairing_steps
from mlog.api.home import Home
from mlog.api.service import Ready, sync_once
from mlog.cli import output
from mlog.cli.app import COMMANDS
from mlog.cli.output import Console, Progress
from mlog.log.phrase import Phrase
from mlog.protocol.events import Notice
from tests.api.acquainted import accept, sync
from tests.api.others import exchange, share
from tests.api.peers import Peer, carry
from tests.api.serving import join, served
from tests.cli.conftest import Run, Stream, boat_log, runner


def documented() -> dict[str, set[str]]:
    """The table in the docstring of mlog/cli/output.py."""
    table = (output.__doc__ or "").split("type          fields\n")[1].split("\n\n")[0]
    fields: dict[str, set[str]] = {}
    type_ = ""
    for line in table.splitlines():
        name, words = line[:18].strip(), line[18:].split()
        type_ = name or type_
        fields.setdefault(type_, set()).update(words)
    return fields


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """What every command prints as JSON, by command."""
    folder = tmp_path_factory.mktemp("printed")
    home = folder / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOG_HOME", str(home))
        return _print_all(runner(patch), boat_log(folder), folder, home)


def _print_all(run: Run, chat: Path, tmp_path: Path, home: Path) -> dict[str, list[dict[str, object]]]:
    password = tmp_path / "pass"
    password.write_text("secret\n")
    lines: dict[str, list[dict[str, object]]] = {}

    def keep(*args: str | Path) -> list[dict[str, object]]:
        result = run("--json", *args)
        assert "Traceback" not in result.err
        name = next((str(arg) for arg in args if arg in COMMANDS), "")
        lines.setdefault(name, []).extend(result.records)
        return result.records

    keep()
    keep("new", "x")
    first = str(keep("send", "x", "hello\nworld")[0]["id"])
    keep("send", "x", "--reply-to", first, "yes")
    keep("edit", first, "hello there")
    keep("react", first, "👍")
    second = str(keep("send", "x", "oops")[0]["id"])
    keep("erase", second, "--yes")
    keep("title", "x", "y")
    keep("import", chat)
    keep("import", chat, "--dry-run")
    keep()
    keep("log", "y")
    keep("log", "#boat", "--graph")
    keep("tail", "y")
    keep("search", "hello")
    (tmp_path / "WhatsApp Chat with Bo.txt").write_text("31/05/24, 10:00 - ada: I do\n")
    keep("import", tmp_path / "WhatsApp Chat with Bo.txt")
    keep("people")
    keep("people", "alias", "Old Salt", "irc:ada")
    keep("people", "split", "Old Salt")
    keep("show", first)
    keep("show", str(keep("search", "sails")[0]["id"]))
    bob = tmp_path / "bob"
    with mlog.open(bob, person="bob"):
        pass
    accept(home, bob)
    sync(home, bob)
    keep("contacts")
    keep("new", "z", "--with", "bob")
    keep("members", "z", "bob", "admin")
    keep("leave", "z", "--yes")
    keep("new", "w")
    keep("add", "w", "bob")
    keep("remove", "w", "bob", "--yes")
    twin = shutil.copytree(home, tmp_path / "twin")
    keep("send", "y", "at home")
    with mlog.open(home) as opened, mlog.open(twin) as copy:
        n = opened.conversation("y").n
        carry(opened, copy, n)
        copy.send(n, "in the copy")
        carry(copy, opened, n)
        Peer(opened, "phone", 1)
    keep("status", "--calendar")
    keep("why", first)
    for command in ("pin", "unpin", "mute", "unmute"):
        keep(command, "y")
    keep("label", "y", "summer")
    keep("draft", "y", "Who brings")
    keep("settings")
    keep("expire", "y", "30d")
    keep("expire", "y")
    with mlog.open(home) as opened, mlog.open(tmp_path / "other") as other:
        there = share(opened, other, opened.conversation("y").n)
        told = opened.send(opened.conversation("y").n, "to somebody else").hex()
        other.send(there, "from somebody else")
        exchange(opened, other)
        other.notes.mark_read(there)
        exchange(opened, other)
    keep("show", told)
    keep("read", "y")
    keep("--home", tmp_path / "third", "trust", "export", tmp_path / "third.trust")
    keep("trust", "import", tmp_path / "third.trust")
    keep("trust", "list")
    third = next(
        str(found["device"])[:12] for found in keep("devices") if found["member"] and not found["here"]
    )
    keep("trust", "remove", "phone")
    (tmp_path / "plan.txt").write_text("oars")
    keep("send", "y", "--attach", tmp_path / "plan.txt", "see the plan")
    attached = str(keep("attachments")[0]["id"])
    keep("save", attached, "--output", tmp_path / "saved.txt")
    keep("keys", "status")
    keep("window", "all", "30d")
    keep("prune", "--dry-run")
    keep("export", "y", "--output", tmp_path / "y.jsonl")
    for name in ("db", "home", "snapshot"):
        keep("path", name)
    keep("backup", tmp_path / "backup", "--passphrase-file", password)
    keep("--home", tmp_path / "new", "restore", tmp_path / "backup", "--passphrase-file", password)
    keep("verify")
    laptop = tmp_path / "laptop"
    join(home, laptop)
    with served(laptop, home), mlog.open(home) as opened:
        assert sync_once(opened, "laptop").equal
    keep("send", "y", "only here")
    with closing(sqlite3.connect(home / "mlog.db")) as db, db:
        db.execute("UPDATE entries SET tail = zeroblob(length(tail)) WHERE id = ?", (bytes.fromhex(first),))
    keep("verify", "--signatures")
    keep("gaps")
    with served(laptop, home):
        keep("diff", "laptop")
        keep("verify", "--repair")
        keep("sync", "laptop")
    keep("devices", "rename", third, "old phone")
    keep("devices", "revoke", third, "--yes")
    keep("doctor")
    keep("demo")
    keep("service", "install", "--dry-run")

    def tell(
        _: Home, *, ready: Callable[[Ready], None], notice: Callable[[Notice], None], **__: object
    ) -> None:
        ready(Ready(port=7367, local=True))
        notice(Notice(what="connected"))

    def paired(
        _: Home,
        wish: pairing_steps.Wish,
        told: Callable[[pairing_steps.Step, Callable[[bool], None]], None],
        **__: object,
    ) -> None:
        for step in (
            pairing_steps.Offered(
                code="able " * 5 + "zoo", link="mlog:pair#", addresses=("192.0.2.1:7367",), life_ms=120_000
            ),
            pairing_steps.Searching(),
            pairing_steps.Reaching(addresses=("192.0.2.1:7367",)),
            pairing_steps.Shown(name="phone", person="ann", words=("able", "zoo", "able", "zoo"), asks=False),
            pairing_steps.Paired(device="00" * 32, name="phone", person="ann", outcome="met"),
            pairing_steps.Progress(remaining=2, done=1),
            pairing_steps.Complete(done=3),
        ):
            told(step, lambda _: None)

    def recovered(_: Home, __: Phrase, told: Callable[[pairing_steps.Step], None], **___: object) -> None:
        told(pairing_steps.Paired(device="00" * 32, name="desk", person="ann", outcome="joins"))
        told(pairing_steps.Complete(done=3))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlog.api.service.serve", tell)
        keep("serve")
        patch.setattr("mlog.api.pairing.pair", paired)
        patch.setattr("mlog.cli.pairing.can_ask", lambda: True)
        keep("pair")
        keep("invite")
        keep("accept", *["able"] * 6)
        patch.setattr("mlog.api.recovery.fresh_phrase", lambda: Phrase(bytes(32)))
        patch.setattr("mlog.api.recovery.recover", recovered)
        patch.setattr("mlog.cli.recovery.can_ask", lambda: True)
        patch.setattr("mlog.cli.recovery._can_show", lambda: True)
        patch.setattr("mlog.cli.recovery._some_places", lambda _: range(4))
        typed = iter(["", *["abandon"] * 4])
        patch.setattr("mlog.cli.recovery.typed_words", lambda *_: next(typed))
        keep("recovery")
        patch.setattr("mlog.cli.recovery._phrase", lambda _: Phrase(bytes(32)))
        keep("recover")
    return lines


def test_every_json_line_has_exactly_the_documented_fields(printed):
    fields = documented()
    for name, records in printed.items():
        for record in records:
            type_ = str(record["type"])
            assert set(record) - {"type"} == fields[type_], f"{name}: {type_}"


def test_every_documented_type_is_printed_by_some_command(printed):
    types = {record["type"] for records in printed.values() for record in records}
    assert types == set(documented())


def test_every_command_that_prints_data_prints_json(printed):
    # `export` to standard output and `completion` print files of their own format, `help` is for people.
    assert set(printed) - {""} == set(COMMANDS) - {"completion", "help"}


def test_times_are_utc_and_ids_hexadecimal(printed):
    for record in printed["log"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(record["time"]))
        assert re.fullmatch(r"[0-9a-f]{64}", str(record["id"]))


def test_the_latest_message_of_a_conversation_is_a_message(printed):
    latest = [record["latest"] for record in printed[""] if record["type"] == "conversation"]
    assert [set(message) for message in latest if message] == [documented()["message"]] * 2


def test_json_on_a_terminal_is_ascii_and_in_a_pipe_is_not(run):
    run("new", "x")
    run("send", "x", "\u202egrüße")
    assert run("--json", "log", "x", tty=True).out.isascii()
    piped = run("--json", "log", "x")
    assert "grüße" in piped.out
    assert piped.records == run("--json", "log", "x", tty=True).records


def test_there_is_no_colour_where_nobody_looks_or_it_is_refused(run, monkeypatch):
    run("new", "x")
    assert "\x1b[" in run(tty=True).out
    assert "\x1b[" not in run().out
    assert "\x1b[" not in run("--no-colour", tty=True).out
    assert "\x1b[" not in run("--json", "status", tty=True).out


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout", Stream(tty=True))
    assert Console().bold("x") == "x"


def test_progress_says_how_much_how_fast_and_how_far():
    progress = Progress(Stream(tty=True), "importing", 4000, "messages")
    progress.add(1000)
    assert progress.text(2.0) == f"importing {'█' * 6}{'░' * 18}  25%  1,000 messages, 500/s"


def test_progress_without_a_total_has_no_bar():
    progress = Progress(Stream(tty=True), "importing", None, "messages")
    progress.add(1000)
    assert progress.text(2.0) == "importing  1,000 messages, 500/s"


def test_progress_is_drawn_on_a_terminal_only_and_wiped_at_the_end():
    terminal, pipe = Stream(tty=True), Stream()
    for stream in (terminal, pipe):
        with Progress(stream, "x", 2, "y") as progress:
            progress.add(1)
            progress.at(1.0)
    assert pipe.text() == ""
    assert "1 y" in terminal.text()
    assert terminal.text().endswith("\r\x1b[K")


def test_progress_survives_a_terminal_that_goes_away():
    class Gone(Stream):
        def write(self, _: str) -> int:
            raise OSError

    with Progress(Gone(tty=True), "x", 2, "y") as progress:
        progress.add(1)
