"""Two real processes at terminals pair, as two people would see it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import mlog

from .terminals import Terminal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only POSIX has pseudo terminals")

_SHOW = ("pair", "--host", "127.0.0.1", "--port", "0", "--no-discovery")
_CODE = r"Code  ((?:[a-z]+ ){5}[a-z]+)\r?\n"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A home with some messages."""
    home = tmp_path / "desk"
    with mlog.open(home, person="ann", device="desk") as opened:
        n = opened.new("Garden").n
        for number in range(5):
            opened.send(n, f"bean {number}")
    return home


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    """A home that is not there yet."""
    return tmp_path / "phone"


def join_at(home: Path) -> tuple[str, ...]:
    port = json.loads((home / "service.json").read_text())["listens"]
    return ("pair", "--join", "--no-discovery", "--peer", f"127.0.0.1:{port}")


def texts(home: Path) -> list[str]:
    with mlog.open(home) as opened:
        return [message.text for message in opened.messages(opened.conversation("Garden").n)]


def command_lines() -> dict[int, str]:
    """What the list of processes shows of each."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, UnicodeDecodeError):
                continue
    return found


def test_a_new_device_is_paired_with_a_typed_code_and_has_all_messages(desk: Path, phone: Path) -> None:
    with Terminal(desk, *_SHOW) as old:
        code = old.until(_CODE)[1]
        old.until(r"Good for one try, and [12]:\d\d")
        with Terminal(phone, *join_at(desk)) as new:
            new.until("Code or link")
            # Four letters of each word are enough, and Tab completes.
            first, *others = code.split()
            new.type(first[:4] + "\t")
            new.until(f"{first} ?$|{first[:4]}")
            new.type(" ".join(word[:4] for word in others) + "\n")
            new.until("Name of this device")
            new.type("phone\n")
            words = new.until(r"Words ([a-z ]+)\r?\n")[1].strip()
            assert old.until(r"Words ([a-z ]+)\r?\n")[1].strip() == words
            assert old.until("Name  phone")
            assert new.until("Name  desk, of ann")
            old.until(r"\[y/N\]")
            old.type("y\n")
            assert new.end() == 0
            assert old.end() == 0
    assert "phone is one of your devices now" in old.shown
    assert "this device is one of ann's now" in new.shown
    assert "both hold the same" in old.shown
    assert "both hold the same" in new.shown
    assert texts(phone) == [f"bean {number}" for number in range(5)]


def test_json_lines_of_both_ends(desk: Path, phone: Path) -> None:
    with Terminal(desk, *_SHOW, "--json", piped=True) as old:
        assert old.process.stdout is not None
        offer = json.loads(old.process.stdout.readline())
        assert offer.keys() == {"type", "code", "link", "addresses", "seconds"}
        # The link says where.
        join = ("pair", "--join", "--no-discovery", "--json")
        with Terminal(phone, *join, piped=True, given=offer["link"].encode()) as new:
            old.until(r"\[y/N\]")
            old.type("yes\n")
            assert new.end() == 0
            assert old.end() == 0
            assert new.process.stdout is not None
            there = [json.loads(line) for line in new.process.stdout]
        here = [json.loads(line) for line in old.process.stdout]
    shown = [records[0] for records in (here, there)]
    assert shown[0]["words"] == shown[1]["words"]
    assert [record["asks"] for record in shown] == [True, False]
    for records, outcome in ((here, "admitted"), (there, "joins")):
        kinds = [record["type"] for record in records]
        assert kinds[:2] == ["pair_shown", "paired"]
        assert kinds[-1] == "pair_complete"
        assert records[1]["outcome"] == outcome
        [last] = [record for record in records if record["type"] == "pair_complete"]
        assert last["done"] >= 6
        assert last["differing"] == 0


def test_no_ends_both_and_exits_1(desk: Path, phone: Path) -> None:
    with Terminal(desk, *_SHOW) as old:
        code = old.until(_CODE)[1].encode()
        with Terminal(phone, *join_at(desk), given=code) as new:
            old.until(r"\[y/N\]")
            old.type("\n")
            assert old.end() == 1
            assert new.end() == 1
    assert "you said no" in old.shown
    assert "the other device said no" in new.shown
    with mlog.open(desk) as opened:
        assert opened.store.peers() == []


def test_a_wrong_code_ends_both(desk: Path, phone: Path) -> None:
    with Terminal(desk, *_SHOW) as old:
        words = old.until(_CODE)[1].split()
        wrong = " ".join([*words[1:], "zoo" if words[0] != "zoo" else "able"]).encode()
        with Terminal(phone, *join_at(desk), given=wrong) as new:
            assert new.end() == 1
            assert old.end() == 1
    assert "not the one that the other device shows" in new.shown
    assert "another code than the one that is shown here" in old.shown


def test_ctrl_c_while_the_code_is_shown_changes_nothing(desk: Path) -> None:
    with Terminal(desk, *_SHOW) as old:
        old.until(_CODE)
        old.interrupt()
        assert old.end() == 130
    assert "Nothing was changed" in old.shown
    assert "Traceback" not in old.shown


def test_ctrl_c_at_the_question_ends_both(desk: Path, phone: Path) -> None:
    with Terminal(desk, *_SHOW) as old:
        code = old.until(_CODE)[1].encode()
        with Terminal(phone, *join_at(desk), given=code) as new:
            old.until(r"\[y/N\]")
            old.interrupt()
            assert old.end() == 130
            assert new.end() == 1
    assert "Traceback" not in old.shown + new.shown


def test_a_mistyped_code_is_asked_for_again(phone: Path, desk: Path) -> None:
    with Terminal(desk, *_SHOW) as old:
        code = old.until(_CODE)[1]
        with Terminal(phone, *join_at(desk)) as new:
            new.until("Code or link")
            new.type("one two\n")
            new.until("a code has 6 words")
            new.type(code + "\n")
            new.until("Name of this device")
            new.interrupt()
            assert new.end() == 130
        old.interrupt()


def test_without_a_terminal_no_code_is_shown(run) -> None:
    code, out, err = run("pair")
    assert code == 1
    assert out == ""
    assert "run it in a terminal" in err


def test_an_invitation_says_what_it_is(run) -> None:
    from mlog.protocol import codes
    from mlog.protocol.codes import Link, LinkType

    link = Link(type=LinkType.PERSON, expires_s=2**32 - 1, secret=bytes(32), fingerprint=bytes(16))
    code, _, err = run("pair", "--join", stdin=codes.encode_link(link).encode())
    assert code == 1
    assert "an invitation for another person" in err


def test_a_name_is_for_a_new_device(run) -> None:
    run("new", "x")
    code, _, err = run("pair", "--join", "--name", "phone", stdin=b"abandon " * 6)
    assert code == 1
    assert "mlog devices rename" in err


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no list of processes in /proc")
def test_a_code_given_as_arguments_leaves_the_list_of_processes(desk: Path, phone: Path) -> None:
    with Terminal(desk, *_SHOW) as old:
        code = old.until(_CODE)[1]
        link = re.sub(r"\s", "", old.until(r"Link  (mlog:pair#[\w-]+)\s")[1])
        with Terminal(phone, *join_at(desk), *code.split()) as new:
            new.until("in the history of your shell")
            shown = command_lines()
            for process in (old.process, new.process):
                assert not set(shown[process.pid].split()) & set(code.split())
                assert link not in shown[process.pid]
            new.until("Name of this device")
            new.type("\n")
            old.until(r"\[y/N\]")
            old.type("y\n")
            assert new.end() == 0
            assert old.end() == 0


def test_code_and_link_are_kept_nowhere(desk: Path, phone: Path, run) -> None:
    with Terminal(desk, *_SHOW) as old:
        code = old.until(_CODE)[1]
        link = old.until(r"Link  (mlog:pair#[\w-]+)\s")[1]
        with Terminal(phone, *join_at(desk), given=code.encode()) as new:
            old.until(r"\[y/N\]")
            old.type("y\n")
            assert new.end() == 0
            assert old.end() == 0
    for home in (desk, phone):
        for file in home.rglob("*"):
            content = file.read_bytes() if file.is_file() else b""
            assert code.encode() not in content
            assert link.removeprefix("mlog:pair#").encode() not in content
        for args in (["status"], ["devices"], ["path"], ["doctor", "--offline"]):
            _, out, err = run("--home", home, "--json", *args)
            assert code not in out + err
            assert "mlog:pair" not in out + err
    assert code not in new.shown


def test_the_service_pairs_where_one_runs(desk: Path, phone: Path, spawn) -> None:
    serving = spawn(
        "--home", desk, "serve", "--host", "127.0.0.1", "--port", "0", "--no-discovery", "--json", "--verbose"
    )
    port = json.loads(serving.stdout.readline())["port"]
    with Terminal(desk, "pair") as old:
        code = old.until(_CODE)[1]
        assert old.until(r"At    127\.0\.0\.1:(\d+)")[1] == str(port)
        with Terminal(phone, *join_at(desk), given=code.encode()) as new:
            old.until(r"\[y/N\]")
            old.type("y\n")
            assert new.end() == 0
            assert old.end() == 0
    assert "both hold the same" in old.shown
    assert texts(phone) == [f"bean {number}" for number in range(5)]
    serving.terminate()
    out, err = serving.communicate(timeout=60)
    assert code.encode() not in out + err
    assert b"mlog:pair" not in out + err


def test_ctrl_c_ends_what_the_service_has_open(desk: Path, spawn) -> None:
    serving = spawn("--home", desk, "serve", "--host", "127.0.0.1", "--port", "0", "--no-discovery", "--json")
    assert serving.stdout.readline()
    for _ in range(2):
        with Terminal(desk, "pair") as old:
            old.until(_CODE)
            old.interrupt()
            assert old.end() == 130
    serving.terminate()
    serving.communicate(timeout=60)


_INVITE = ("invite", "--host", "127.0.0.1", "--port", "0", "--no-discovery")


def test_another_person_is_invited_with_a_link_and_both_are_contacts(desk: Path, tmp_path: Path) -> None:
    bob = tmp_path / "bob"
    mlog.open(bob, person="bob", device="bob's phone").close()
    with Terminal(desk, *_INVITE) as ann:
        link = ann.until(r"Link  (mlog:invite#[\w-]+)\s")[1]
        ann.until("mlog accept")
        with Terminal(bob, "accept", "--no-discovery") as other:
            other.until("Code or link")
            other.type(f"{link}\n")
            ann.until("Name  bob's phone, of bob")
            ann.until(r"the person whom you mean.*\[y/N\]")
            ann.type("y\n")
            assert other.end() == 0
            assert ann.end() == 0
    assert "bob is one of your contacts now" in ann.shown
    assert "ann is one of your contacts now" in other.shown
    assert "bean" not in other.shown
    with mlog.open(bob) as opened:
        assert opened.conversations() == []


def test_a_link_for_a_device_says_what_it_is_when_it_is_accepted(run) -> None:
    from mlog.protocol import codes
    from mlog.protocol.codes import Link, LinkType

    link = Link(type=LinkType.DEVICE, expires_s=2**32 - 1, secret=bytes(32), fingerprint=bytes(16))
    code, _, err = run("accept", stdin=codes.encode_link(link).encode())
    assert code == 1
    assert "for pairing a device of your own" in err


def test_an_invitation_takes_no_address_of_the_other_device(run) -> None:
    code, _, err = run("invite", "--peer", "x:1")
    assert code == 2
    assert "mlog accept" in err
