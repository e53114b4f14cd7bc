"""People on the command line."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

IRC = "2020-01-02T10:00:00 <ann> tent\n2020-01-03T10:00:00 <ben> tent too\n"


@pytest.fixture(autouse=True)
def chats(run, tmp_path: Path) -> None:
    for name in ("#camp.log", "#town.log"):
        (tmp_path / name).write_text(IRC)
        assert run("import", tmp_path / name).code == 0
    run("new", "tea")
    run("send", "tea", "tent")


def test_people_are_listed_merged_and_split(run):
    assert "irc:ann" in run("people").out
    result = run("people", "merge", "irc:ann", "irc:ben")
    assert (result.code, result.out) == (0, "ann is irc:ann, irc:ben\n")
    [person, *_] = run("--json", "people").records
    assert (person["name"], person["named"], person["messages"]) == ("ann", True, 4)
    assert person["conversations"] == ["#camp", "#town"]
    assert [one["identity"] for one in person["identities"]] == ["irc:ann", "irc:ben"]
    assert run("--json", "people", "alias", "Annie", "irc:ann").records[0]["name"] == "Annie"
    assert run("--json", "people", "split", "Annie").records[0]["identity"] == "irc:ann"
    assert "one by itself" in run("people", "split", "irc:ben").out


def test_log_and_search_take_only_what_one_person_says(run):
    run("people", "alias", "Benny", "irc:ben")
    found = run("--json", "search", "tent", "--from", "benny").records
    assert [one["text"] for one in found] == ["tent too", "tent too"]
    for order in ([], ["--reverse"], ["--limit", "1"]):
        assert [one["text"] for one in run("--json", "log", "#camp", "--from", "ann", *order).records] == [
            "tent"
        ]
    assert run("log", "#camp", "--from", "ann", "--graph").code == 2
    assert "nothing from zoe; 'mlog people'" in run("log", "#camp", "--from", "zoe").err
    assert "nothing from zoe" in run("search", "tent", "--from", "zoe").err


def test_wrong_use_is_explained(run):
    assert run("people", "merge", "irc:ann").code == 2
    assert run("people", "list", "x").code == 2
    assert run("people", "split", "irc:ann").code == 1


WHATSAPP = "[13/01/20, 10:00:00] Ann Lee: a tent for three\n[13/01/20, 10:01:00] Ben: which tent?\n"
MAIL = """\
From ann@example.org Thu Jan  2 03:04:05 2020
From: Ann Lee <ann@example.org>
Message-ID: <1@x>
Date: Thu, 2 Jan 2020 03:04:05 +0000
Subject: the tent

It leaks.
"""


def test_a_friend_is_found_by_one_search_in_three_programs(run, tmp_path: Path):
    (tmp_path / "WhatsApp Chat with Ann Lee.txt").write_text(WHATSAPP)
    (tmp_path / "friends.mbox").write_text(MAIL)
    assert run("import", tmp_path / "WhatsApp Chat with Ann Lee.txt", tmp_path / "friends.mbox").code == 0
    assert run("people", "merge", "whatsapp:Ann Lee", "mail:ann@example.org").code == 0
    assert run("people", "alias", "Annie", "whatsapp:Ann Lee").code == 0
    assert run("people", "merge", "Annie", "irc:ann").code == 0
    # What was said of one identity alone did not move the other one of the same person.
    assert run("people", "alias", "Annie", "mail:ann@example.org").code == 0
    found = run("--json", "search", "tent", "--from", "annie").records
    assert sorted(one["text"] for one in found) == [
        "a tent for three",
        "tent",
        "tent",
        "the tent\n\nIt leaks.",
    ]
    [annie, *_] = run("--json", "people").records
    assert [one["identity"] for one in annie["identities"]] == [
        "irc:ann",
        "mail:ann@example.org",
        "whatsapp:Ann Lee",
    ]
    assert annie["messages"] == 4


def test_what_was_said_is_changed_by_saying_something_else(run):
    run("people", "merge", "irc:ann", "irc:ben")
    assert len(run("--json", "search", "tent", "--from", "irc:ann").records) == 4
    run("people", "alias", "Ben", "irc:ben")
    assert len(run("--json", "search", "tent", "--from", "irc:ann").records) == 2
    run("people", "merge", "irc:ann", "irc:ben")
    assert len(run("--json", "search", "tent", "--from", "irc:ann").records) == 4


def test_a_merge_never_takes_in_a_third_person_who_has_the_name(run, tmp_path: Path):
    (tmp_path / "friends.mbox").write_text(MAIL.replace("Ann Lee", "ann"))
    assert run("import", tmp_path / "friends.mbox").code == 0
    run("people", "alias", "ann", "mail:ann@example.org")
    refused = run("people", "merge", "irc:ann", "irc:ben")
    assert refused.code == 1
    assert "you call somebody else 'ann' already" in refused.err
    assert "mlog people alias NAME irc:ann" in refused.err


def test_the_report_of_an_import_says_what_to_do_and_doing_it_folds(run, tmp_path: Path):
    (tmp_path / "WhatsApp Chat with Ann Lee.txt").write_text(
        "[02/01/20, 10:00:00] Ann: tent\n[03/01/20, 10:00:00] Ben: tent too\n"
        "[13/01/20, 10:00:00] Ann Lee: which tent would you like?\n"
    )
    (tmp_path / "#camp.log").write_text(IRC + "2020-01-13T10:00:00 <ann> which tent would you like?\n")
    run("import", tmp_path / "#camp.log")
    import_ = ("import", "--into", "#camp", tmp_path / "WhatsApp Chat with Ann Lee.txt")
    shown = run(*import_, "--dry-run").out
    assert "2 of them from another program" in shown
    assert "1 perhaps the same as messages that are here, would be kept beside them:" in shown
    assert "by 'whatsapp:Ann Lee', here by irc:ann" in shown.replace(
        "whatsapp:Ann Lee,", "'whatsapp:Ann Lee',"
    )
    [advised] = [line.partition("mlog people ")[2] for line in shown.splitlines() if "mlog people" in line]
    assert run("people", *shlex.split(advised.partition(" (at ")[0])).code == 0
    [counts, total] = run("--json", *import_).records
    assert (counts["new"], counts["same"], counts["unsure"], counts["unsure_at"]) == (0, 3, 0, [])
    assert (total["same"], total["unsure"]) == (3, 0)


def test_what_is_kept_beside_is_listed_for_programs(run, tmp_path: Path):
    (tmp_path / "#other.log").write_text("2020-01-02T12:00:00 <ann> shall we take the tent?\n")
    (tmp_path / "#later.log").write_text("2020-01-02T14:00:00 <ann> shall we take the tent?\n")
    run("import", tmp_path / "#other.log")
    plain = run("import", "--into", "#other", "--dry-run", tmp_path / "#later.log")
    assert "stand here 2:00 hours earlier; if the file is of another time zone: --zone (at 1)" in plain.out
    [counts, _] = run("--json", "import", "--into", "#other", tmp_path / "#later.log").records
    assert counts["unsure_at"] == [
        {"position": 1, "reason": "zone", "author": "irc:ann", "author_here": "irc:ann", "minutes": 120}
    ]
