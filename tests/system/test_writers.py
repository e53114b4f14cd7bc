"""Several processes with one home: nothing lost, no chain forked, and nobody waits for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlog.api.home import Home
from mlog.errors import Busy
from mlog.log.bodies import SPOKEN

WRITERS = 4
SENDS = 100
TIMEOUT_S = 120

_PROGRAM = """
import io, json, sys, time
from datetime import date
from pathlib import Path
from mlog.api.home import Home
from mlog.errors import Busy
from mlog.formats import Hints, Source

job, folder, argument = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

def say(**facts):
    print(json.dumps(facts), flush=True)

def send():
    with Home(folder, person="ann") as home:
        n = home.conversation("harbour").n
        for number in range(int(argument)):
            say(id=home.send(n, f"{sys.argv[4]} {number}").hex())

def read():
    with Home(folder, person="ann") as home:
        for _ in range(int(argument)):
            findings = home.verify(signatures=True)
            statuses = home.status()
            shown = [len(list(home.messages(c.n))) for c in home.conversations()]
            home.search("hello")
            say(findings=[str(f) for f in findings], entries=sum(s.entries for s in statuses), shown=shown)

def load():
    content = Path(argument).read_bytes()
    with Home(folder, person="ann") as home:
        hints = Hints(date=date(2020, 5, 4))
        report = home.import_chat(Source(io.BytesIO(content), "#quay.log", hints=hints))
        say(new=sum(c.new for c in report.chats), known=sum(c.known for c in report.chats))

def make():
    with Home(folder, person=argument) as home:
        say(device=home.replica.device_id.hex(), logs=[log.keys.topic.hex() for log in home.replica.logs()])

def hold():
    with Home(folder, person="ann") as home, home.store.transaction():
        say(held=True)
        sys.stdin.read()

{"send": send, "read": read, "load": load, "make": make, "hold": hold}[job]()
"""


class Process:
    """A process that does one job on the home and says what it did, a line of JSON each."""

    def __init__(self, job: str, folder: Path, argument: object, name: str = ""):
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, job, str(folder), str(argument), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def first(self) -> object:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def said(self) -> list[dict]:
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        assert self.process.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def chat(lines: int) -> bytes:
    out = [f"[{n // 60 % 24:02}:{n % 60:02}] <ben> hello {n // 2}\n" for n in range(lines)]
    return "".join(out).encode()


def assert_sound(home: Home) -> None:
    assert home.verify(signatures=True) == []
    assert home.store.check_file() == []
    assert home.store._one("SELECT count(*) FROM entries WHERE chain IS NULL") == 0


def test_writers_an_import_and_a_reader_share_a_home(tmp_path: Path) -> None:
    folder, file = tmp_path / "home", tmp_path / "chat.log"
    file.write_bytes(chat(3_000))
    with Home(folder, person="ann") as home:
        n = home.new("harbour").n
    processes = [Process("send", folder, SENDS, f"writer{k}") for k in range(WRITERS)]
    processes += [Process("load", folder, file), Process("read", folder, 4)]
    try:
        said = [process.said() for process in processes]
    finally:
        for process in processes:
            process.stop()
    ids = [line["id"] for lines in said[:WRITERS] for line in lines]
    assert len(set(ids)) == WRITERS * SENDS
    assert said[WRITERS] == [{"new": 3_000, "known": 0}]
    assert [line["findings"] for line in said[WRITERS + 1]] == [[]] * 4
    with Home(folder) as home:
        assert_sound(home)
        entries = {entry.id.hex() for entry in home.entries(n)}
        assert entries >= set(ids)
        texts = [message.text for message in home.messages(n)]
        for k in range(WRITERS):
            mine = [text for text in texts if text.startswith(f"writer{k} ")]
            assert mine == [f"writer{k} {number}" for number in range(SENDS)]
        # One device, one chain: each entry follows the one before it.
        written = [chain for chain in home.store.chains(n) if chain.seq]
        assert len(written) == 1
        assert written[0].seq + 1 == len(entries)


def test_a_home_made_by_several_processes_at_once_has_one_identity(tmp_path: Path) -> None:
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        processes = [Process("make", folder, f"person{k}") for k in range(3)]
        try:
            said = [process.said() for process in processes]
        finally:
            for process in processes:
                process.stop()
        assert len({json.dumps(lines) for lines in said}) == 1, said
        with Home(folder) as home:
            assert_sound(home)
            assert len(home.replica.logs()) == 2
            assert len(home.store.devices()) == 1


def test_one_file_imported_by_several_processes_at_once_is_there_once(tmp_path: Path) -> None:
    folder, file = tmp_path / "home", tmp_path / "chat.log"
    file.write_bytes(chat(2_500))
    with Home(folder, person="ann"):
        pass
    processes = [Process("load", folder, file) for _ in range(3)]
    try:
        said = [line for process in processes for line in process.said()]
    finally:
        for process in processes:
            process.stop()
    assert sum(line["new"] for line in said) == 2_500
    assert all(line["new"] + line["known"] == 2_500 for line in said)
    with Home(folder) as home:
        assert_sound(home)
        assert len(home.conversations()) == 1
        n = home.conversations()[0].n
        assert [m.text for m in home.messages(n)] == [f"hello {k // 2}" for k in range(2_500)]
        assert home.store.count(n, SPOKEN) == 2_500


def test_a_busy_home_is_waited_for_with_a_bound(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    with Home(folder, person="ann", busy_timeout_ms=100) as home:
        n = home.new("harbour").n
        holder = Process("hold", folder, "")
        try:
            assert holder.first() == {"held": True}
            with pytest.raises(Busy, match="Try again") as caught:
                home.send(n, "now")
            assert caught.value.exit_code == 5
            # Reading goes on.
            assert list(home.messages(n)) == []
            assert len(home.conversations()) == 1
        finally:
            holder.stop()
        # The lock of a process that was killed is free.
        home.send(n, "now")
        assert_sound(home)
