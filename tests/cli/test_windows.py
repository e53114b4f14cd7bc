"""Windows and pruning on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlog
from mlog import limits
from mlog.log.merkle import refresh_digests
from mlog.log.peers import ReceiptRow
from mlog.log.receipts import Statement, make_receipts
from mlog.log.scope import bodies_root, entries_root
from tests.api.peers import Peer


@pytest.fixture
def old(run, tmp_path: Path) -> None:
    """A conversation of long ago."""
    path = tmp_path / "#boat.log"
    lines = [f"[2024-05-{day:02} 10:00:00] <ada> line of day {day}\n" for day in range(1, 29)]
    path.write_text("".join(lines))
    assert run("import", path).code == 0
    assert run("send", "#boat", "now").code == 0


def _prove(home: Path) -> None:
    """Another device signs that it holds what is here."""
    with mlog.open(home) as opened:
        peer = Peer(opened, "phone", 1)
        log = opened.conversation("#boat")
        digests = refresh_digests(opened.store, log.n)
        now = opened.now_ms()
        statement = Statement(
            topic=opened.replica.log(log.n).keys.topic,
            first_week=0,
            entries=sum(digest.entries for digest in digests),
            bodies=sum(digest.bodies for digest in digests),
            entries_root=entries_root(digests, 0),
            bodies_root=bodies_root(digests, 0),
            time_ms=now,
            expires_ms=now + limits.RECEIPT_LIFE_MS,
        )
        (proof,) = make_receipts(peer.keys, [statement])
        fields = {name: getattr(statement, name) for name in statement.__struct_fields__ if name != "topic"}
        with opened.store.transaction():
            opened.store.put_receipt(ReceiptRow(log=log.n, device=peer.device, proof=proof, **fields))


def test_a_window_of_all_is_that_of_conversations_that_come_later_too(run):
    assert run("window", "all", "30d").out == "conversations that come later: 30 days\n"
    run("new", "garden")
    assert run("window", "garden").out == "garden: 30 days\n"
    run("window", "garden", "all")
    run("new", "boat")
    assert run("window").out.splitlines() == [
        "garden: everything",
        "boat: 30 days",
        "conversations that come later: 30 days",
    ]
    assert run("window", "all", "all").out.splitlines() == ["garden: everything", "boat: everything"]
    told = run("--json", "window", "all", "7d").records
    assert [line["conversation"] for line in told] == ["garden", "boat", None]


def test_a_window_is_remembered_and_shown(run):
    run("new", "garden")
    run("new", "boat")
    assert "garden: everything" in run("window").out
    assert run("window", "garden", "8w").code == 0
    assert run("window", "garden").out == "garden: 56 days\n"
    assert run("window", "all", "--no-bodies").out.splitlines() == [
        "garden: 56 days, without texts",
        "boat: everything, without texts",
        "conversations that come later: everything, without texts",
    ]
    assert run("window", "all", "all", "--bodies").out.splitlines() == [
        "garden: everything",
        "boat: everything",
    ]
    assert [record["days"] for record in run("--json", "window").records] == [None, None]


@pytest.mark.parametrize("span", ["30", "12h", "0d", "never", "-3d", "999999y"])
def test_a_span_that_is_none_is_refused(span: str, run):
    run("new", "garden")
    result = run("window", "garden", "--", span)
    assert result.code in (1, 2)
    assert "'all'" in result.err
    assert run("window", "garden").out == "garden: everything\n"


def test_a_year_is_a_number_of_days(run):
    run("new", "garden")
    assert run("window", "garden", "1y").code == 0
    assert run("window", "garden").out == "garden: 365 days\n"


def test_bodies_of_nothing_in_particular_are_wrong_usage(run):
    assert run("window", "--no-bodies").code == 2


def test_a_conversation_without_a_window_is_kept_whole(run, old):
    result = run("prune")
    assert result.code == 0
    assert "kept whole" in result.out
    assert len(run("--json", "log", "#boat").records) == 29


def test_nothing_goes_that_nobody_has_proven_to_hold(run, old):
    run("window", "#boat", "30d")
    result = run("prune")
    assert result.code == 1
    assert "dropped 0 entries" in result.out
    assert "nobody has proven" in result.out
    assert len(run("--json", "log", "#boat").records) == 29


def test_what_is_proven_goes_and_the_log_is_whole(run, old, home: Path):
    _prove(home)
    run("window", "#boat", "30d")
    (counted,) = run("--json", "prune", "#boat", "--dry-run").records
    assert len(run("--json", "log", "#boat").records) == 29
    (dropped,) = run("--json", "prune", "#boat").records
    assert (dropped["entries"], dropped["unproven"], dropped["dry_run"]) == (counted["entries"], [], False)
    assert dropped["entries"] > 20
    assert run("verify", "--signatures").code == 0
    assert run("search", "day 3").out == ""
    assert b"line of day 3" not in (home / "mlog.db").read_bytes()
    (again,) = run("--json", "prune", "#boat").records
    assert again["entries"] == 0


def test_force_drops_what_nobody_else_has(run, old):
    run("window", "#boat", "30d")
    result = run("prune", "--force")
    assert result.code == 0
    assert "would" not in result.out
    assert len(run("--json", "log", "#boat").records) < 9
    assert run("verify").code == 0
