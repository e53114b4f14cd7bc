"""Maildirs: folders are one chat, lists their own, in the order of dates; what is unwanted is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.formats import TREE_IMPORTERS, Chat, Hints, Item, Record, Skipped
from mlog.formats.identity import of_id
from tests.formats.mails import Memory, mail, shown


def read(files: dict[str, bytes | None]) -> list[Item]:
    [maildir] = [one for one in TREE_IMPORTERS if one.name == "maildir"]
    tree = Memory(files)
    return list(maildir.parse(tree, maildir.claim(tree), Hints()))


def test_folders_are_one_chat_in_the_order_of_dates():
    items = read(
        {
            "cur/1577836800.a.host:2,S": mail(1, 3),
            "new/1577836801.b.host": mail(2, 1),
            ".Sent/cur/1577836802.c.host:2,S": mail(3, 2, "In-Reply-To: <2@x>\n"),
            "Lists/Work/cur/d": mail(4, 4),
            "dovecot-uidlist": b"3 V1",
        }
    )
    assert shown(items) == ["mail:mail", "2", "3", "1", "4"]
    answer = items[2]
    assert isinstance(answer, Record)
    assert answer.to == (of_id("mail", "2@x"),)
    assert answer.uid == "mailto:ann@example.org"


@pytest.mark.parametrize("name", ["Mail.zip", "Mail.tar.gz", "Mail.tgz"])
def test_a_folder_and_an_archive_of_it_are_one_chat(name: str):
    [maildir] = [one for one in TREE_IMPORTERS if one.name == "maildir"]
    tree = Memory({"cur/1577836800.a.host:2,S": mail(1, 3)}, name)
    assert shown(list(maildir.parse(tree, maildir.claim(tree), Hints()))) == ["mail:mail", "1"]


def test_lists_and_maildirs_beside_each_other_are_chats_of_their_own():
    listed = "List-Id: Tea <tea.example.org>\n"
    items = read(
        {
            "ann/cur/a": mail(1),
            "ann/.Sent/cur/b": mail(2),
            "ben/new/c": mail(3),
            "ben/cur/d": mail(4, 1, listed),
        }
    )
    assert shown(items) == ["mail:ann", "2", "1", "mail:ben", "3", "mail:tea.example.org", "4"]


def test_drafts_deleted_unfinished_and_unreadable_mails_are_skipped_with_the_reason():
    items = read(
        {
            "cur/a:2,DS": mail(1),
            "cur/b;2,ST": mail(2),
            "tmp/c": mail(3),
            "cur/d:2,": None,
            "cur/e!2,FRS": mail(5),
        }
    )
    skipped = {item.file: item.reason for item in items if isinstance(item, Skipped)}
    assert skipped == {
        "cur/a:2,DS": "a draft",
        "cur/b;2,ST": "was deleted",
        "tmp/c": "was still being delivered",
        "cur/d:2,": "cur/d:2,: cannot be read: no permission",
    }
    assert [item.text for item in items if isinstance(item, Record)] == ["s\n\nhi 5"]


def test_mail_without_a_date_has_that_of_its_delivery():
    items = read({"cur/1577836800.a.host:2,S": mail(1, 0), "cur/b": mail(2, 0)})
    assert [item.time_ms for item in items if isinstance(item, Record)] == [0, 1_577_836_800_000]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"new/a.txt": b"no mail at all"},
        {"inbox/a": mail(1)},
        {"tmp/a": mail(1)},
        {"cur/.hidden": mail(1)},
    ],
)
def test_other_folders_are_not_claimed(files: dict[str, bytes | None]):
    assert read(files) == []


@given(
    st.dictionaries(st.sampled_from(["cur/a", "cur/1.b:2,S", ".S/new/c", "x/cur/d"]), st.binary(max_size=80))
)
def test_any_files_give_items(files: dict[str, bytes]):
    for item in read({"cur/0": mail(1), **files}):
        assert isinstance(item, Chat | Record | Skipped)
