"""Folders of single mails: one chat each, by name and wherever they lie, in the order of dates."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlog
from mlog import limits
from mlog.formats import GATHERERS, Chat, Hints, Item, Record
from mlog.formats.identity import of_id
from mlog.formats.tree import Folder, ZipArchive
from tests.formats.mails import Memory, mail, shown


def read(files: Mapping[str, bytes | None], name: str = "Saved") -> list[Item]:
    [gatherer] = GATHERERS
    tree = Memory(files, name)
    return list(gatherer.parse(tree, tree.names, Hints()))


def test_each_folder_is_a_chat_in_the_order_of_dates() -> None:
    files = {"in/a.eml": mail(1, 3), "in/b.eml": mail(2, 1), "out/c.eml": mail(3, 2), "top.eml": mail(4)}
    assert shown(read(files)) == ["mail:in", "2", "1", "mail:out", "3", "mail:saved", "4"]


def test_a_mail_is_known_by_its_message_id_and_an_undated_one_comes_first() -> None:
    items = read({"a.eml": mail(1, 3), "b.eml": mail(2, 0)})
    assert shown(items) == ["mail:saved", "2", "1"]
    assert [item.mid for item in items if isinstance(item, Record)] == [
        of_id("mail", "2@x"),
        of_id("mail", "1@x"),
    ]


def test_mails_of_a_list_belong_to_the_list() -> None:
    files = {"a/1.eml": mail(1, more="List-Id: Tea <tea.x>\n"), "b/2.eml": mail(2, more="List-Id: <tea.x>\n")}
    assert shown(read({**files, "b/3.eml": mail(3)})) == ["mail:b", "3", "mail:tea.x", "1", "2"]


@pytest.mark.parametrize("name", ["Tea", "Tea.zip", "Tea.tar.gz", "Tea.TGZ", "Tea.tar"])
def test_a_chat_is_called_after_the_folder_and_not_after_its_archive(name: str) -> None:
    assert shown(read({"1.eml": mail(1)}, name)) == shown(read({"Tea/1.eml": mail(1)}, "x.zip"))


def test_folders_of_one_name_are_told_apart_by_those_around_them() -> None:
    files = {"ann/In/1.eml": mail(1), "bob/in/2.eml": mail(2), "out/3.eml": mail(3)}
    assert shown(read(files)) == ["mail:ann/in", "1", "mail:bob/in", "2", "mail:out", "3"]
    assert shown(read({"1.eml": mail(1), "In/2.eml": mail(2)}, "In")) == ["mail:in", "1", "mail:in/in", "2"]


def test_what_cannot_be_read_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlog.formats.mail_folder.MAIL_SIZE_MAX_BYTES", 500)
    items = read({"a.eml": None, "b.eml": mail(1, more=f"X: {'x' * 500}\n"), "c.eml": mail(2)})
    assert shown(items)[1:] == [
        f"mail of more than {limits.MAIL_SIZE_MAX_BYTES:,} bytes",
        "mail:saved",
        "2",
    ]
    assert shown(items)[0] == "a.eml: cannot be read: no permission"


@given(st.dictionaries(st.text("ab/", min_size=1, max_size=6), st.binary(max_size=99), max_size=4))
def test_anything_gives_chats_and_records(files: dict[str, bytes | None]) -> None:
    items = read(files)
    assert sum(isinstance(item, Record) for item in items) <= len(files)
    assert len({item.key for item in items if isinstance(item, Chat)}) <= len(files)


def test_the_same_folder_elsewhere_and_as_a_zip_is_the_same_chat(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "Tea").mkdir(parents=True)
        for n in range(3):
            (tmp_path / place / "Tea" / f"{n}.eml").write_bytes(mail(n, 9 - n))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for n in range(4):
            archive.writestr(f"Tea/{n}.eml", mail(n, 9 - n))
    with mlog.open(tmp_path / "home") as home:
        [first] = home.import_tree(Folder(tmp_path / "one"), Hints()).chats
        [again] = home.import_tree(Folder(tmp_path / "two" / "Tea"), Hints()).chats
        zipped = ZipArchive(tmp_path / "all.zip")
        [longer] = home.import_tree(zipped, Hints()).chats
        zipped.close()
    assert [(chat.n, chat.new, chat.known) for chat in (first, again, longer)] == [
        (first.n, 3, 0),
        (first.n, 0, 3),
        (first.n, 1, 3),
    ]
