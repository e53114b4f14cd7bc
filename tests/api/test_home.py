"""Homes as scripts use them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import mlog
from mlog.api.home import Home
from mlog.errors import LimitExceeded, StoreError, UserError
from mlog.limits import TEXT_SIZE_MAX_BYTES
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.ids import message_id
from mlog.log.replica import Draft
from mlog.log.store import LogKind


def texts(home: Home, log: int) -> list[str]:
    return [message.text for message in home.messages(log)]


def test_a_new_home_has_an_identity_and_no_conversation(opened: Home) -> None:
    assert opened.conversations() == []
    assert [state.kind for state in opened.replica.logs()] == [LogKind.PERSON, LogKind.PRIVATE]
    assert (opened.path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert opened.database.stat().st_mode & 0o777 == 0o600


def test_identity_survives_closing(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home") as home:
        device = home.replica.device_id
        n = home.new("Garden").n
        home.send(n, "one")
    with mlog.open(tmp_path / "home") as home:
        home.send(n, "two")
        assert home.replica.device_id == device
        assert texts(home, n) == ["one", "two"]
        assert len(home.store.chains(n)) == 1


def test_send_reply_edit_react_and_erase_show_in_the_view(opened: Home) -> None:
    n = opened.new("Garden").n
    first = opened.send(n, "beans?")
    opened.send(n, "peas", reply_to=message_id(first))
    opened.edit(opened.message(first.hex()), "beans!")
    opened.react(opened.message(first.hex()), "🌱")
    one, two = opened.messages(n)
    assert (one.text, one.edited, one.author.name) == ("beans!", True, "ann")
    assert [(r.emoji, r.authors) for r in one.reactions] == [("🌱", ("ann",))]
    assert two.to == (one.mid,)
    opened.react(one, "🌱", remove=True)
    opened.erase(one)
    one, two = opened.messages(n)
    assert (one.text, one.erased, one.reactions) == ("", True, ())
    assert opened.verify(signatures=True) == []


def test_an_erased_message_cannot_be_edited(opened: Home) -> None:
    n = opened.new("Garden").n
    id_ = opened.send(n, "beans")
    opened.erase(opened.message(id_.hex()))
    with pytest.raises(UserError, match="erased"):
        opened.edit(opened.message(id_.hex()), "peas")


@pytest.mark.parametrize("text", ["", "  \n", "\udc80", "a\0b"])
def test_send_refuses_what_is_no_text(opened: Home, text: str) -> None:
    n = opened.new("Garden").n
    with pytest.raises(UserError):
        opened.send(n, text)


def test_send_takes_the_longest_text_and_refuses_a_longer_one(opened: Home) -> None:
    n = opened.new("Garden").n
    opened.send(n, "é" * (TEXT_SIZE_MAX_BYTES // 2))
    with pytest.raises(LimitExceeded, match="Split"):
        opened.send(n, "é" * (TEXT_SIZE_MAX_BYTES // 2) + "x")
    assert opened.verify() == []


def test_a_title_or_its_unique_start_finds_a_conversation(opened: Home) -> None:
    garden, gate = opened.new("Garden"), opened.new("Gate")
    assert opened.conversation("garden") == garden
    assert opened.conversation("gat") == gate
    assert opened.conversation(gate.topic.hex()[:8]) == gate
    with pytest.raises(UserError, match=r"2 conversations match 'ga'(.|\n)*Garden(.|\n)*Gate"):
        opened.conversation("ga")
    with pytest.raises(UserError, match="mlog new"):
        opened.conversation("shed")


def test_a_title_is_taken_once(opened: Home) -> None:
    opened.new("Garden")
    with pytest.raises(UserError, match="already"):
        opened.new(" Garden ")


def test_renaming_changes_the_title(opened: Home) -> None:
    n = opened.new("Garden").n
    opened.set_title(n, "Orchard")
    assert opened.conversation("Orchard").n == n


def test_an_ambiguous_entry_lists_the_candidates(opened: Home) -> None:
    n = opened.new("Garden").n
    ids = [opened.send(n, f"message {i}").hex() for i in range(3)]
    assert opened.message(ids[1][:12]).text == "message 1"
    assert opened.message(ids[1][:13]).text == "message 1"
    with pytest.raises(UserError, match="no entry"):
        opened.find_entry("0" * 64)
    with pytest.raises(UserError, match="hexadecimal"):
        opened.find_entry("xyz")


@pytest.mark.parametrize("newest_first", [False, True])
def test_messages_come_in_pages_without_loss(
    opened: Home, newest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlog.limits.STORE_ROWS_MAX", 4)
    n = opened.new("Garden").n
    for i in range(10):
        opened.send(n, str(i))
    found = [message.text for message in opened.messages(n, newest_first=newest_first)]
    assert found == [str(i) for i in (range(9, -1, -1) if newest_first else range(10))]
    assert len(list(opened.messages(n, limit=7, newest_first=newest_first))) == 7
    fifth = list(opened.messages(n))[4]
    assert [m.text for m in opened.messages(n, after=fifth.position)] == list("56789")


def test_entries_are_the_dag_with_one_head(opened: Home) -> None:
    n = opened.new("Garden").n
    opened.send(n, "one")
    entries = list(opened.entries(n))
    assert [entry.kind for entry in entries] == [Kind.KEY, Kind.TITLE, Kind.MESSAGE]
    assert [entry.head for entry in entries] == [False, False, True]
    assert [entry.prev for entry in entries] == [None, entries[0].id, entries[1].id]


def test_search_finds_words_phrases_starts_and_any_script(opened: Home) -> None:
    n, other = opened.new("Garden").n, opened.new("Gate").n
    opened.send(n, "The beans are up")
    opened.send(n, "今天我们去北京看花")
    opened.send(n, "Ünïcode Straße 🌱")
    opened.send(other, "the gate is up")
    assert [m.text for m in opened.search("UP the")] == ["the gate is up", "The beans are up"]
    assert [m.text for m in opened.search("up", log=n)] == ["The beans are up"]
    assert [m.text for m in opened.search('"are up"')] == ["The beans are up"]
    assert [m.text for m in opened.search("bea*")] == ["The beans are up"]
    assert [m.log for m in opened.search("北京")] == [n]
    assert [m.log for m in opened.search("京北")] == []
    assert [m.log for m in opened.search("strasse 🌱")] == [n]
    assert opened.search("' OR 1=1 --") == []
    with pytest.raises(UserError):
        opened.search('"')


def test_search_sees_the_text_as_edited(opened: Home) -> None:
    n = opened.new("Garden").n
    id_ = opened.send(n, "beans")
    opened.edit(opened.message(id_.hex()), "peas")
    assert opened.search("beans") == []
    assert [m.text for m in opened.search("peas")] == ["peas"]
    opened.erase(opened.message(id_.hex()))
    assert opened.search("peas") == []


def test_a_copied_home_writes_a_chain_of_its_own(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home") as home:
        n = home.new("Garden").n
        home.send(n, "one")
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    with mlog.open(tmp_path / "copy") as copy:
        copy.send(n, "two")
        assert len(copy.store.chains(n)) == 2
        assert texts(copy, n) == ["one", "two"]
        assert copy.verify(signatures=True) == []


def test_a_database_rolled_back_in_place_never_reuses_a_number(tmp_path: Path) -> None:
    path = tmp_path / "home"
    with mlog.open(path) as home:
        n = home.new("Garden").n
    old = (path / "mlog.db").read_bytes()
    with mlog.open(path) as home:
        lost = home.send(n, "lost")
    with (path / "mlog.db").open("r+b") as file:
        file.write(old)
        file.truncate()
    with mlog.open(path) as home:
        assert home.send(n, "after") != lost
        assert len(home.store.chains(n)) == 2


def test_missing_keys_are_never_replaced_by_new_ones(tmp_path: Path) -> None:
    with mlog.open(tmp_path / "home") as home:
        home.new("Garden")
    (tmp_path / "home" / "keys.json").unlink()
    with pytest.raises(StoreError, match="without it"):
        mlog.open(tmp_path / "home")
    assert not (tmp_path / "home" / "keys.json").exists()


def test_a_home_that_is_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "plan.pdf").write_bytes(b"pdf")
    with pytest.raises(UserError, match=r"plan.pdf is a file, and your logs need a folder"):
        mlog.open(tmp_path / "plan.pdf")


@pytest.mark.parametrize("emptied", [False, True])
def test_a_lost_database_is_never_replaced_by_an_empty_one(tmp_path: Path, emptied: bool) -> None:
    with mlog.open(tmp_path / "home") as home:
        home.new("Garden")
    (tmp_path / "home" / "mlog.db").unlink()
    if emptied:
        (tmp_path / "home" / "mlog.db").touch()
    with pytest.raises(StoreError, match="missing or empty"):
        mlog.open(tmp_path / "home")


def test_status_counts_and_roots(opened: Home) -> None:
    n = opened.new("Garden").n
    opened.send(n, "one")
    before = next(status for status in opened.status() if status.n == n)
    assert (before.entries, before.messages, before.heads, before.gaps) == (3, 1, 1, 0)
    opened.send(n, "two")
    after = next(status for status in opened.status() if status.n == n)
    assert after.root != before.root


def test_what_verify_finds_is_a_gap_until_it_is_whole_again(opened: Home, tmp_path: Path) -> None:
    n = opened.new("Garden").n
    id_ = opened.send(n, "beans")
    row = opened.find_entry(id_.hex())
    healthy = opened.status(n)[0].root

    def overwrite(text: str) -> None:
        with opened.store.transaction():
            opened.store._run("UPDATE bodies SET body = ? WHERE n = ?", (text, row.n))

    overwrite('{"text":"beams"}')
    assert [(f.part, f.id) for f in opened.verify()] == [("body", id_)]
    assert [gap.id for gap in opened.gaps(n)] == [id_]
    assert opened.message(id_.hex()).damage
    assert opened.message(id_.hex()).text == ""
    assert opened.status(n)[0].root != healthy
    overwrite('{"text":"beans"}')
    assert opened.verify() == []
    assert opened.gaps(n) == []
    assert opened.status(n)[0].root == healthy


def overwrite_index(home: Home, change: Callable[[bytes], bytes]) -> None:
    """Change the pages of the search index from outside, as a bad disk would."""
    with closing(sqlite3.connect(home.database)) as db, db:
        for id_, page in db.execute("SELECT id, block FROM search_data WHERE id > 10").fetchall():
            db.execute("UPDATE search_data SET block = ? WHERE id = ?", (change(page), id_))


def test_a_message_that_search_misses_is_found_by_verify_and_mended(opened: Home) -> None:
    n = opened.new("Garden").n
    id_ = opened.send(n, "beans and peas")
    overwrite_index(opened, lambda page: page.replace(b"beans", b"beams"))
    assert opened.search("beans") == []
    assert opened.store.check_file() == []
    assert opened.store.check_index()
    [finding] = opened.verify()
    assert (finding.part, finding.log) == ("index", 0)
    assert "mlog doctor --rebuild-search" in finding.detail
    assert opened.verify(n) == [finding]
    opened.rebuild_search()
    assert opened.verify(signatures=True) == []
    assert [message.id for message in opened.search("beans")] == [id_]
    assert b"beams" not in opened.database.read_bytes()


def test_an_index_that_is_not_well_formed_is_told_and_mended(opened: Home) -> None:
    n = opened.new("Garden").n
    with opened.store.transaction():
        for number in range(50):
            opened.send(n, f"beans {number:x} {'peas' * number}")
    overwrite_index(opened, lambda page: page[:2] + b"\xff\xff" + page[4:])
    assert not opened.store.check_index()
    assert [finding.part for finding in opened.verify()] == ["index"]
    [wrong] = [check for check in opened.doctor() if not check.ok]
    assert wrong.name == "search index"
    assert "--rebuild-search" in wrong.advice
    opened.rebuild_search()
    assert opened.verify(signatures=True) == []
    assert [check.name for check in opened.doctor() if not check.ok] == []
    assert len(opened.search("beans")) == 50


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_damaged_message_said_is_not_found_once_it_is_erased(tmp_path: Path, killed: bool) -> None:
    with Home(tmp_path / "home") as home:
        n = home.new("Garden").n
        home.send(n, "a treasure under the beans")
        home.send(n, "beans")
        [message] = home.search("treasure")
        with home.store.transaction():
            home.store._run("UPDATE bodies SET body = '{\"text\":\"x\"}' WHERE body LIKE '%treasure%'")
        if killed:
            # Ended between the erasure and what follows it: closing a home catches up.
            home.replica.write(
                n,
                [Draft(Kind.ERASURE, bodies.Erasure(of=message.mid.hex()), message.time_ms)],
                message.time_ms,
            )
        else:
            home.erase(message)
            assert home.search("treasure") == []
            assert len(home.search("beans")) == 1
    with Home(tmp_path / "home") as home:
        assert home.search("treasure") == []
        assert home.verify(signatures=True) == []
        for path in home.path.iterdir():
            assert b"treasure" not in path.read_bytes()


def test_doctor_is_content_with_a_healthy_home(opened: Home) -> None:
    opened.new("Garden")
    assert [check.name for check in opened.doctor() if not check.ok] == []


def test_doctor_tells_wrong_permissions_and_a_wrong_clock(tmp_path: Path) -> None:
    with Home(tmp_path / "home") as home:
        home.send(home.new("Garden").n, "now")
        (home.path / "keys.json").chmod(0o644)
    with Home(tmp_path / "home", clock_ms=lambda: 1_000_000_000_000) as home:
        wrong = {check.name: check for check in home.doctor() if not check.ok}
        assert set(wrong) == {"keys", "clock"}
        assert "chmod 600" in wrong["keys"].advice
