"""Folders and archives as importers see them, hostile ones included."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import LimitExceeded, MlogError, UserError
from mlog.formats.tree import Folder, ZipArchive, is_zip, open_tree, relative_name


def _zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _read(tree: Folder | ZipArchive, name: str) -> bytes:
    with closing(tree.open(name)) as stream:
        return stream.read()


def _folder(path: Path, files: dict[str, bytes]) -> Folder:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return Folder(path)


_FILES = {"chat.txt": b"hello", "media/a.jpg": b"\xff\xd8", "media/deep/b": b""}
_HIDDEN = {".DS_Store": b"x", "__MACOSX/chat.txt": b"x", "media/Thumbs.db": b"x", ".git/config": b"x"}


def test_a_folder_and_an_archive_of_it_look_alike(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "export", _FILES | _HIDDEN)
    archive = open_tree(_zip(tmp_path / "export.zip", _FILES | _HIDDEN))
    assert isinstance(archive, ZipArchive)
    assert list(folder.names) == list(archive.names) == sorted(_FILES)
    for name, content in _FILES.items():
        assert _read(folder, name) == _read(archive, name) == content
        assert folder.size(name) == archive.size(name) == len(content)
    assert folder.left_out == archive.left_out == []
    assert (folder.name, archive.name) == ("export", "export.zip")
    archive.close()


def test_a_link_is_not_followed_and_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"k")
    folder = _folder(tmp_path / "export", _FILES)
    os.symlink(secret / "key", tmp_path / "export" / "link")
    os.symlink(secret, tmp_path / "export" / "linked")
    assert list(folder.names) == sorted(_FILES)
    assert sorted(name for name, _ in folder.left_out) == ["link", "linked"]
    for name in ("link", "linked/key", "../secret/key", str(secret / "key"), "media", "none", ""):
        with pytest.raises(UserError):
            folder.open(name)


def test_a_file_beside_is_opened_without_listing_the_folder(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "export", _FILES)
    assert _read(folder, "media/a.jpg") == b"\xff\xd8"
    assert "_paths" not in folder.__dict__


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders on this system")
def test_a_pipe_in_a_folder_is_left_out(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "export", _FILES)
    os.mkfifo(tmp_path / "export" / "pipe")
    assert list(folder.names) == sorted(_FILES)
    assert folder.left_out == [("pipe", "not a file")]


def test_a_tree_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path / "export", _FILES)
    path = _zip(tmp_path / "a.zip", _FILES)
    monkeypatch.setattr(limits, "TREE_FILES_MAX", 2)
    with pytest.raises(LimitExceeded):
        _ = folder.names
    with pytest.raises(LimitExceeded):
        ZipArchive(path)


def test_names_in_an_archive_choose_nothing_outside(tmp_path: Path) -> None:
    hostile = {"../../x": b"1", "/etc/passwd": b"2", "a/../../b": b"3", "C:/x": b"4", "dir\\ok": b"5"}
    archive = ZipArchive(_zip(tmp_path / "a.zip", hostile))
    assert list(archive.names) == ["dir/ok"]
    assert len(archive.left_out) == 4
    archive.close()


def test_names_are_utf8_also_where_the_archive_does_not_say_so(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"Gr\u00fc\u00dfe.txt": b"x"})
    raw = path.read_bytes()
    # Clear the flag that says UTF-8, in both headers.
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = raw.index(mark) + at
        flags = struct.unpack_from("<H", raw, start)[0] & ~0x800
        raw = raw[:start] + struct.pack("<H", flags) + raw[start + 2 :]
    path.write_bytes(raw)
    archive = ZipArchive(path)
    assert list(archive.names) == ["Gr\u00fc\u00dfe.txt"]
    assert _read(archive, "Gr\u00fc\u00dfe.txt") == b"x"
    archive.close()


def test_a_zip_bomb_is_left_out_and_what_is_beside_it_read(tmp_path: Path) -> None:
    archive = ZipArchive(_zip(tmp_path / "a.zip", {"bomb": bytes(4 * limits.MIB), "chat": b"hi"}))
    assert list(archive.names) == ["chat"]
    assert [name for name, _ in archive.left_out] == ["bomb"]
    archive.close()


def test_an_archive_too_large_in_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _zip(tmp_path / "a.zip", _FILES)
    monkeypatch.setattr(limits, "TREE_SIZE_MAX_BYTES", 6)
    with pytest.raises(UserError, match="when unpacked"):
        ZipArchive(path)


def test_an_encrypted_archive_is_refused_with_advice(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"chat": b"hi"})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match="password"):
        ZipArchive(path)


def test_a_link_and_a_name_twice_in_an_archive_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("one", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("one", b"2")
    tree = ZipArchive(path)
    assert list(tree.names) == ["one"]
    assert sorted(name for name, _ in tree.left_out) == ["link", "one"]
    tree.close()


def test_a_file_without_a_name_is_left_out(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"x": b"1", "chat": b"hi"})
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"\0\0\0x", b"\0\0\0\0"))
    with closing(ZipArchive(path)) as tree:
        assert list(tree.names) == ["chat"]
        assert [reason for _, reason in tree.left_out] == ["its name leads out of the archive"]


def test_only_zip_archives_are_trees(tmp_path: Path) -> None:
    plain = tmp_path / "chat.zip"
    plain.write_bytes(b"hello")
    assert not is_zip(plain)
    assert open_tree(plain) is None
    assert not is_zip(tmp_path / "none")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_a_damaged_archive_is_read_or_refused_with_words(
    at: int, byte: int, cut: int, tmp_path: Path
) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("chat.txt", b"hello " * 100)
        archive.writestr("b", bytes(range(256)))
    raw = bytearray(made.getvalue())
    raw[at % len(raw)] = byte
    path = tmp_path / "a.zip"
    path.write_bytes(raw[: max(4, len(raw) - cut % 20)] if cut % 3 == 0 else raw)
    with suppress(MlogError):
        tree = ZipArchive(path)
        try:
            for name in tree.names:
                with suppress(MlogError):
                    _read(tree, name)
        finally:
            tree.close()


@pytest.mark.parametrize(
    ("name", "beside", "found"),
    [
        ("a.jpg", "", "a.jpg"),
        ("a.jpg", "chats/ann/log.html", "chats/ann/a.jpg"),
        ("files\\a.jpg", "log", "files/a.jpg"),
        ("./a//b", "", "a/b"),
        ("../a.jpg", "chats/log", ""),
        ("/etc/passwd", "log", ""),
        ("C:\\x", "log", ""),
        ("", "log", ""),
        ("a\0b", "log", ""),
    ],
)
def test_names_are_relative_to_the_file_that_says_them(name: str, beside: str, found: str) -> None:
    assert relative_name(name, beside) == found


@given(st.text(), st.text(alphabet="ab/"))
def test_no_name_leads_out(name: str, beside: str) -> None:
    found = relative_name(name, beside)
    assert ".." not in found.split("/")
    assert not found.startswith("/") or beside.startswith("/")
