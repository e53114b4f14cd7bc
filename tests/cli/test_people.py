"""People on the command line."""

from __future__ import annotations

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
