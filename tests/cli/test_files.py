"""Listing attachments and writing one to the disk."""

from __future__ import annotations

import pytest


@pytest.fixture
def sent(run, tmp_path):
    picture = tmp_path / "cat.jpg"
    picture.write_bytes(b"meow")
    run("new", "trip")
    return run("send", "trip", "--attach", picture).out.strip()


def test_attachments_are_listed_with_size_name_and_number(run, sent):
    out = run("attachments").out
    assert "trip" in out
    assert "4 bytes" in out
    assert "cat.jpg" in out
    [record] = run("--json", "attachments", "trip").records
    assert (record["name"], record["size"], record["state"]) == ("cat.jpg", 4, "here")
    assert record["id"][:8] in out


def test_nothing_to_list_is_said(run):
    run("new", "trip")
    assert "no attachments" in run("attachments", "trip").err


def test_a_message_shows_its_attachment(run, sent):
    assert "cat.jpg" in run("log", "trip").out


def test_save_writes_the_file_by_the_message_or_its_own_number(run, sent, tmp_path):
    assert run("save", sent, "-o", tmp_path / "one").code == 0
    assert (tmp_path / "one").read_bytes() == b"meow"
    [record] = run("--json", "attachments").records
    saved = run("--json", "save", record["id"], "-o", tmp_path / "two").records[0]
    assert (saved["name"], (tmp_path / "two").read_bytes()) == ("cat.jpg", b"meow")


def test_save_replaces_nothing_without_force(run, sent, tmp_path):
    target = tmp_path / "one"
    target.write_bytes(b"mine")
    result = run("save", sent, "-o", target)
    assert result.code == 1
    assert "--force" in result.err
    assert target.read_bytes() == b"mine"
    assert run("save", sent, "-o", target, "--force").code == 0
    assert target.read_bytes() == b"meow"


def test_save_into_a_folder_that_is_not_there_says_so(run, sent, tmp_path):
    result = run("save", sent, "-o", tmp_path / "no" / "x")
    assert result.code == 1
    assert f"no folder {tmp_path / 'no'}" in result.err


def test_a_message_needs_a_text_or_a_file(run):
    run("new", "trip")
    assert run("send", "trip").code == 2
