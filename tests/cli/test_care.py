"""verify, gaps, doctor: what they find and how they end."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import mlog
from tests.api.peers import Peer
from tests.api.serving import join, served, sync


def flip(home: Path, id_: str) -> None:
    """Damage the text of a message that says hello."""
    with closing(sqlite3.connect(home / "mlog.db")) as db, db:
        db.execute(
            "UPDATE bodies SET body = replace(body, 'hello', 'hellp') "
            "WHERE n = (SELECT n FROM entries WHERE id = ?)",
            (bytes.fromhex(id_),),
        )


@pytest.fixture
def damaged(run, home: Path) -> dict[str, str]:
    """A home with a flipped text of one's own and a lost header of an imported message."""
    log = home.parent / "#boat.log"
    log.write_text("[2024-05-01 10:00:00] <ada> who sails?\n[2024-05-01 10:00:30] <bo> me\n")
    run("import", log)
    run("new", "x")
    own = run("--json", "send", "x", "hello").records[0]["id"]
    imported = run("--json", "search", "sails").records[0]["id"]
    flip(home, own)
    with closing(sqlite3.connect(home / "mlog.db")) as db, db:
        header = bytes.fromhex(imported)
        db.execute("UPDATE entries SET tail = zeroblob(length(tail)) WHERE id = ?", (header,))
    return {"own": own, "imported": imported}


def test_verify_of_a_whole_home_exits_0(run, chat):
    run("import", chat)
    result = run("verify", "--signatures")
    assert result.code == 0
    assert "entries are whole, signatures included" in result.out


def test_verify_names_each_damage_and_exits_4(run, damaged):
    result = run("verify")
    assert result.code == 4
    assert re.search(r"x, 2\d{3}-\d\d-\d\d \d\d:\d\d, \S+, position 2, ", result.out)
    assert re.search(r"#boat, 2024-05-01 \d\d:\d\d, <ada>, position 1, ", result.out)
    records = run("--json", "verify").records
    found = {record["id"]: record for record in records if record["type"] == "finding"}
    assert found[damaged["own"]]["part"] == "body"
    assert found[damaged["imported"]]["part"] == "entry"
    assert found[damaged["imported"]]["author"] == "ada"


def test_verify_of_one_conversation_looks_at_no_other(run, damaged):
    assert "#boat" not in run("verify", "x").out
    run("new", "whole")
    assert run("verify", "whole").code == 0


def test_damaged_text_is_shown_as_damaged(run, damaged):
    out = run("log", "x").out
    assert "hellp" not in out
    assert "[damaged: the text does not match its hash]" in out
    assert run("show", damaged["own"]).code == 0


def test_gaps_lists_what_verify_found_and_check_exits_4(run, damaged):
    before = run("gaps", "--check")
    assert (before.code, before.out) == (0, "")
    run("verify")
    result = run("gaps")
    assert result.code == 0
    first, *_ = result.out.splitlines()
    assert first == "2 missing or damaged in 2 conversations"
    assert "#boat, 2024-05-01" in result.out
    assert run("gaps", "--check").code == 4
    assert run("--json", "gaps", "x").records[0]["id"] == damaged["own"]
    assert "2 damaged or missing" in run().out


def test_gaps_ends_with_what_to_do(run, damaged, home: Path):
    run("verify")
    assert run("gaps").out.splitlines()[-2:] == [
        "No device is known to have them: 'mlog sync' asks all that can be reached.",
        "'mlog verify --repair' replaces what is damaged, and checks everything again.",
    ]
    with mlog.open(home) as opened:
        phone = Peer(opened, "phone", 1)
        for conversation in opened.conversations():
            phone.prove_with_lost(conversation.n)
    out = run("gaps").out
    assert out.count("who has it: phone (signed for it)") == 2
    assert "'mlog sync phone' fetches what it has, 2 of these." in out


def test_gaps_lists_no_more_than_it_is_asked_for(run, damaged):
    run("verify")
    out = run("gaps", "--limit", "1").out
    assert "and 1 more: 'mlog gaps --limit all' lists them" in out
    assert out.count("position") == 1
    assert len(run("--json", "gaps").records) == 2
    assert len(run("--json", "gaps", "--limit", "1").records) == 1


def test_verify_with_repair_fetches_what_is_damaged_and_exits_0(run, home: Path, tmp_path: Path):
    run("new", "x")
    own = run("--json", "send", "x", "hello").records[0]["id"]
    other = tmp_path / "other"
    join(home, other)
    sync(other, home)
    flip(home, own)
    assert run("verify").code == 4
    assert "mlog verify --repair" in run("verify").out
    with served(other, home):
        result = run("verify", "--repair")
    assert result.code == 0
    assert re.search(r"^✓ healed: x, .*: body corrupt here: ", result.out, re.MULTILINE)
    assert "entries, or parts of them, that came: 1 from laptop" in result.out
    assert "entries are whole" in result.out
    assert "hello" in run("log", "x").out


def test_verify_with_repair_and_nobody_to_ask_says_so_and_exits_4(run, damaged):
    result = run("verify", "--repair")
    assert result.code == 4
    assert "no other device is known here" in result.err
    assert "2 left in" in result.out
    *_, sums = run("--json", "verify", "--repair").records
    assert (sums["type"], sums["left"], sums["ok"], sums["sources"]) == ("repaired", 2, False, {})


def test_verify_with_repair_of_a_whole_home_exits_0(run, chat):
    run("import", chat)
    result = run("verify", "--repair")
    assert result.code == 0
    assert "entries are whole" in result.out


def test_verify_shows_progress_on_a_terminal(run, chat):
    run("import", chat)
    assert "verifying" in run("verify", tty=True).err


def test_doctor_marks_each_check(run):
    run("new", "x")
    result = run("doctor")
    assert result.code in (0, 1)
    assert "✓ python" in result.out


def test_doctor_makes_the_search_index_anew(run, home: Path):
    run("new", "x")
    run("send", "x", "beans")
    with closing(sqlite3.connect(home / "mlog.db")) as db, db:
        db.execute("UPDATE search_data SET block = replace(block, CAST('beans' AS BLOB), 'beams')")
        db.execute("UPDATE search_data SET block = CAST(block AS BLOB)")
    assert run("search", "beans").out == ""
    verified = run("verify")
    assert verified.code == 4
    assert "index corrupt here" in verified.out
    assert "mlog doctor --rebuild-search" in verified.out
    result = run("doctor", "--rebuild-search")
    assert result.code == run("doctor").code
    assert "made anew" in result.err
    assert "✓ search index" in result.out
    assert "beans" in run("search", "beans").out
    assert run("verify").code == 0
    records = run("--json", "doctor", "--rebuild-search").records
    assert {record["type"] for record in records} == {"check"}


def test_doctor_tells_what_keeps_a_home_from_opening(run, home: Path):
    run("new", "x")
    (home / "keys.json").write_text("{")
    result = run("doctor")
    assert result.code == 6
    assert "keys.json" in result.out


def test_doctor_exits_1_where_something_needs_a_hand(run, monkeypatch):
    from mlog.api import Check, Home

    checks = [Check(name="clock", ok=False, detail="it is 1970", advice="Set it.")]
    monkeypatch.setattr(Home, "doctor", lambda _, **__: checks)
    result = run("doctor")
    assert result.code == 1
    assert result.out.splitlines() == ["✗ clock: it is 1970", "    Set it."]


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be read as one" * 9])
def test_a_database_of_something_else_is_left_alone(content, run, home: Path):
    run("new", "x")
    (home / "mlog.db").write_bytes(content)
    result = run("log", "x")
    assert result.code == 6
    assert "Traceback" not in result.err
    assert (home / "mlog.db").read_bytes() == content
