"""Real processes: signals, pipes, full disks, and two of them at once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from operator import xor
from pathlib import Path

import pytest

import mlog
from mlog.cli.demo_stage import flip_bits

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and devices")
full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def talk(home: Path) -> int:
    """A conversation of 3,000 messages, more than a pipe holds."""
    with mlog.open(home) as opened:
        n = opened.new("talk").n
        with opened.store.transaction():
            for number in range(3000):
                opened.send(n, f"message number {number} of a long talk")
        return n


@posix
def test_a_reader_that_stops_early_ends_mlog_in_silence(talk, spawn):
    process = spawn("log", "talk")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0


@posix
def test_a_reader_that_stops_early_does_not_hide_that_verification_failed(talk, spawn, home):
    with mlog.open(home) as opened:
        ids = [message.id.hex() for message in opened.messages(talk, limit=2)]
    damage(home, ids[0])
    read, write = os.pipe()
    os.close(read)
    process = spawn("verify", stdout=write)
    os.close(write)
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 4


def damage(home: Path, id_: str) -> None:
    with closing(sqlite3.connect(home / "mlog.db")) as db, db:
        db.execute("UPDATE entries SET tail = zeroblob(length(tail)) WHERE id = ?", (bytes.fromhex(id_),))


@full_device
@pytest.mark.parametrize("args", [["log", "talk"], ["--json", "log", "talk"], ["--help"], ["status"]])
def test_an_output_that_is_full_exits_6_with_a_line(args, talk, spawn):
    with Path("/dev/full").open("wb") as full:
        code, _, err = finish_err(spawn(*args, stdout=full))
    assert code == 6
    assert "No space left" in err
    assert "Traceback" not in err


def finish_err(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    _, err = process.communicate(timeout=60)
    return process.returncode, "", err.decode()


@full_device
def test_an_export_to_a_full_disk_exits_6_and_leaves_the_name_alone(talk, spawn):
    code, _, err = finish(spawn("export", "talk", "--output", "/dev/full", "--force"))
    assert code == 6
    assert "/dev/full" in err
    assert Path("/dev/full").is_char_device()


@full_device
def test_messages_that_nobody_can_read_are_no_failure(spawn):
    with Path("/dev/full").open("wb") as full:
        process = spawn("new", "x", stderr=full)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.strip()


@posix
def test_tail_follows_what_another_process_writes_until_ctrl_c(talk, spawn):
    process = spawn("tail", "-f", "-n", "1", "talk")
    assert b"message number 2999" in process.stdout.readline()
    assert finish(spawn("send", "talk", "are you there?"))[0] == 0
    assert b"are you there?" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert finish(process) == (130, "", "")


@posix
def test_ctrl_c_during_an_import_keeps_what_was_read_and_the_rest_follows(spawn, home):
    lines = [f"[2024-05-01 10:{i // 60 % 60:02}:{i % 60:02}] <ada> line {i} of it\n" for i in range(12_000)]
    data = "".join(lines).encode()
    process = spawn("import", "-", stdin=subprocess.PIPE)
    # The pipe holds 64 KiB, so when the last byte is in it several batches are on the disk.
    process.stdin.write(data)
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=60)
    err = process.stderr.read().decode()
    process.stdin.close()
    assert code == 130
    assert "the same command again adds the rest" in err
    assert "Traceback" not in err

    with mlog.open(home) as opened:
        kept = opened.status(opened.conversations()[0].n)[0].messages
    assert 0 < kept < len(lines)
    process = spawn("import", "-", stdin=subprocess.PIPE)
    out, _ = process.communicate(data, timeout=60)
    assert process.returncode == 0
    assert f"{len(lines) - kept:,} new, {kept:,} already known" in out.decode()


def test_processes_that_write_at_once_lose_nothing(spawn, home):
    finish(spawn("new", "x"))
    processes = [spawn("send", "x", f"message {number}") for number in range(6)]
    assert [finish(process)[0] for process in processes] == [0] * 6
    code, out, _ = finish(spawn("log", "x"))
    assert code == 0
    assert sorted(line[-1] for line in out.splitlines()) == list("012345")
    assert finish(spawn("verify", "--signatures"))[0] == 0


def test_two_first_starts_at_once_make_one_identity(spawn, home):
    processes = [spawn("new", f"x{number}") for number in range(4)]
    assert [finish(process)[0] for process in processes] == [0] * 4
    with mlog.open(home) as opened:
        assert len(opened.conversations()) == 4
        assert len(opened.store.devices()) == 1


@posix
def test_an_argument_that_is_not_utf8_is_refused_and_a_file_name_is_not(spawn, tmp_path):
    finish(spawn("new", "x"))
    code, _, err = finish(spawn("send", "x", os.fsdecode(b"caf\xe9")))
    assert code == 2
    assert "UTF-8" in err

    path = os.fsencode(tmp_path) + b"/#caf\xe9.log"
    Path(os.fsdecode(path)).write_text("[10:00] <ada> hello\n[10:01] <bo> hi\n")
    code, out, err = finish(spawn("import", os.fsdecode(path), "--date", "2024-05-01"))
    assert (code, err) == (0, "")
    assert "2 new" in out


@posix
def test_a_locale_without_unicode_fails_nothing(talk, spawn, home):
    env = {**os.environ, "MLOG_HOME": str(home), "PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"}
    code, out, err = finish(spawn("log", "talk", "--graph", "-n", "3", env=env))
    assert (code, err) == (0, "")
    assert out.isascii()


def test_the_entry_point_is_installed(home):
    entry = Path(sys.executable).with_name("mlog.exe" if os.name == "nt" else "mlog")
    done = subprocess.run([entry, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mlog ")


def test_flipping_bits_for_the_demo_changes_two_bits_only(home):
    with mlog.open(home) as opened:
        n = opened.new("x").n
        ids = [opened.send(n, "dogs yes").hex() for _ in range(2)]
    before = dump(home)
    flip_bits(home / "mlog.db", *ids)
    after = dump(home)
    assert len(before) == len(after)
    assert sorted(b.bit_count() for b in map(xor, before, after) if b) == [1, 1]


def dump(home: Path) -> bytes:
    query = "SELECT tail, CAST(body AS BLOB) FROM entries JOIN bodies USING (n) ORDER BY n"
    with closing(sqlite3.connect(home / "mlog.db")) as db:
        return b"".join(value for row in db.execute(query) for value in row)
