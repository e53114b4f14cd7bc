"""Repair heals damage from another device and says what is left; compare transfers nothing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from mlog.api.home import Home
from mlog.api.repair import Repair, compare, repair
from mlog.api.standing import left_logs
from mlog.errors import PeerUnavailable, UserError
from tests.api.serving import join, served, sync

SAID = [f"garden {number}" for number in range(12)]


class Homes(NamedTuple):
    desk: Path
    laptop: Path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """Two homes of one person that hold the same."""
    folder = tmp_path_factory.mktemp("homes")
    homes = Homes(folder / "desk", folder / "laptop")
    join(*homes)
    with Home(homes.desk) as desk:
        garden = desk.new("Garden").n
        for text in SAID:
            desk.send(garden, text)
    sync(*homes)
    return homes


@pytest.fixture
def homes(template: Homes, tmp_path: Path) -> Homes:
    """Copies that a test may damage."""
    for folder in template:
        shutil.copytree(folder, tmp_path / folder.name)
    return Homes(tmp_path / "desk", tmp_path / "laptop")


def delete(db: sqlite3.Connection, n: int) -> None:
    db.execute("DELETE FROM bodies WHERE n = ?", (n,))
    db.execute("DELETE FROM entries WHERE n = ?", (n,))


def sql(statement: str) -> Callable[[sqlite3.Connection, int], None]:
    return lambda db, n: db.execute(statement, (n,)) and None


DAMAGE: dict[str, tuple[Callable[[sqlite3.Connection, int], None], Sequence[int]]] = {
    "a header": (sql("UPDATE entries SET tail = zeroblob(length(tail)) WHERE n = ?"), [1]),
    "a text": (sql("UPDATE bodies SET body = replace(body, 'garden', 'gardem') WHERE n = ?"), [2]),
    "a lost text": (sql("DELETE FROM bodies WHERE n = ?"), [3]),
    "a signature": (sql("UPDATE entries SET signature = zeroblob(80) WHERE n = ?"), [4]),
    "a lost entry": (delete, [6]),
    "several lost entries": (delete, [7, 8, 9]),
    "the last signature": (sql("UPDATE entries SET signature = NULL WHERE n = ?"), [11]),
}


def damage(laptop: Path, name: str) -> None:
    work, places = DAMAGE[name]
    with Home(laptop) as home:
        garden = home.conversation("Garden").n
        chain = max(home.store.chains(garden), key=lambda chain: chain.seq)
        # Key and title come first.
        rows = [home.store.at(chain.n, place + 2) for place in places]
        ns = [row.n for row in rows if row is not None]
    with closing(sqlite3.connect(laptop / "mlog.db")) as db, db:
        for n in ns:
            work(db, n)


def texts(folder: Path) -> list[str]:
    with Home(folder) as home:
        return [message.text for message in home.messages(home.conversation("Garden").n)]


def repaired(homes: Homes, log: str | None = None) -> Repair:
    with served(homes.desk, homes.laptop), Home(homes.laptop) as home:
        return repair(home, None if log is None else home.conversation(log).n)


def test_all_damage_at_once_is_healed_from_the_other_device_and_the_log_is_whole_again(homes: Homes):
    for name in DAMAGE:
        damage(homes.laptop, name)
    check_healing(homes)


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGE)
def test_each_damage_is_healed_by_itself(name: str, homes: Homes):
    damage(homes.laptop, name)
    check_healing(homes)


def test_a_lost_end_is_healed(homes: Homes):
    with Home(homes.laptop) as home:
        last = next(home.messages(home.conversation("Garden").n, newest_first=True))
        n = home.find_entry(last.id.hex()).n
    with closing(sqlite3.connect(homes.laptop / "mlog.db")) as db, db:
        delete(db, n)
    check_healing(homes)


def check_healing(homes: Homes) -> None:
    with Home(homes.laptop) as home:
        assert home.verify()
    done = repaired(homes)
    assert done.is_whole, (done.left, done.findings)
    assert done.healed
    assert dict(done.sources).keys() == {"desk"}
    assert done.reason == ""
    assert texts(homes.laptop) == SAID
    with Home(homes.laptop) as home:
        assert home.verify(signatures=True) == []
        assert home.gaps() == []
        assert [m.text for m in home.search("garden")] == SAID[::-1]


def test_a_whole_home_is_checked_and_nobody_is_asked(homes: Homes):
    with Home(homes.laptop) as home:
        done = repair(home, sync=lambda _: pytest.fail("nothing is missing"))
        assert done.is_whole
        assert done.entries == home.store.next_n() - 1
        assert done.healed == ()


def test_without_another_device_what_is_damaged_is_left_and_the_reason_is_said(homes: Homes):
    damage(homes.laptop, "a text")
    with Home(homes.laptop) as home:
        for peer in home.store.peers():
            with home.store.transaction():
                home.store.remove_peer(peer.device)
        done = repair(home)
        assert not done.is_whole
        assert [absence.part for absence in done.left] == ["body"]
        assert "no other device is known here" in done.reason


def test_a_device_that_cannot_be_reached_leaves_the_damage_and_is_named(homes: Homes):
    damage(homes.laptop, "a lost entry")
    with served(homes.desk, homes.laptop):
        pass
    with Home(homes.laptop) as home:
        done = repair(home)
        assert not done.is_whole
        assert "desk" in done.reason
        assert [absence.part for absence in done.left] == ["entry"]


def test_damage_that_the_other_device_has_too_is_left(homes: Homes):
    for folder in homes:
        damage(folder, "a lost text")
    done = repaired(homes, "Garden")
    assert [absence.part for absence in done.left] == ["body"]
    assert not done.is_whole


def test_the_search_index_is_made_anew(homes: Homes):
    with closing(sqlite3.connect(homes.laptop / "mlog.db")) as db, db:
        db.execute("UPDATE search_data SET block = replace(block, CAST('garden' AS BLOB), 'gardem')")
        db.execute("UPDATE search_data SET block = CAST(block AS BLOB)")
    with Home(homes.laptop) as home:
        done = repair(home)
        assert done.search_rebuilt
        assert done.is_whole


# -- compare ---------------------------------------------------------------------------------


def test_equal_homes_compare_as_equal(homes: Homes):
    with served(homes.desk, homes.laptop), Home(homes.laptop) as home:
        found = compare(home, "desk", timeout_s=20)
        assert found.equal
        # Not those of the person that it was by itself.
        assert {log.log for log in found.logs} == {row.n for row in home.store.logs()} - left_logs(home)
        assert len(found.logs) == 3


def test_what_only_one_side_holds_is_named_and_nothing_moves(homes: Homes):
    with Home(homes.desk) as desk:
        there = desk.send(desk.conversation("Garden").n, "at the desk")
    with Home(homes.laptop) as laptop:
        n = laptop.conversation("Garden").n
        here = laptop.send(n, "on the laptop")
    with served(homes.desk, homes.laptop), Home(homes.laptop) as home:
        found = compare(home, "desk", n, timeout_s=20)
        again = compare(home, "des", n, timeout_s=20)
    [log] = found.logs
    assert (log.here, log.there, log.equal, log.shared) == ((here,), (there,), False, True)
    assert again == found
    assert texts(homes.laptop) == [*SAID, "on the laptop"]
    assert texts(homes.desk) == [*SAID, "at the desk"]


def test_texts_that_one_side_lacks_are_no_difference_of_entries(homes: Homes):
    damage(homes.laptop, "a lost text")
    with Home(homes.laptop) as home:
        home.verify()
    with served(homes.desk, homes.laptop), Home(homes.laptop) as home:
        n = home.conversation("Garden").n
        [log] = compare(home, "desk", n, timeout_s=20).logs
    assert (log.here, log.there, log.equal, log.shared) == ((), (), False, True)


def test_a_log_that_the_other_device_does_not_have_says_so(homes: Homes):
    with Home(homes.laptop) as home:
        n = home.new("mine").n
    with served(homes.desk, homes.laptop), Home(homes.laptop) as home:
        [log] = compare(home, "desk", n, timeout_s=20).logs
        assert (log.shared, log.equal) == (False, False)
    with Home(homes.desk) as desk, pytest.raises(UserError):
        desk.conversation("mine")


def test_a_device_that_is_gone_or_unknown_or_of_no_known_address_is_refused(homes: Homes):
    with Home(homes.laptop) as home, pytest.raises(UserError, match="no device 'nobody'"):
        compare(home, "nobody")
    with Home(homes.desk) as home, pytest.raises(PeerUnavailable, match="HOST:PORT"):
        compare(home, "laptop")
    with served(homes.desk, homes.laptop):
        pass
    with Home(homes.laptop) as home, pytest.raises(PeerUnavailable, match="desk could not be compared"):
        compare(home, "desk", timeout_s=20)
