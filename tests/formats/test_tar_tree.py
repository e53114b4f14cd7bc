"""Tar archives as importers see them: plain and packed, cut, hostile."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlog import limits
from mlog.errors import LimitExceeded, MlogError, UserError
from mlog.formats.tar_tree import TarArchive, is_tar
from mlog.formats.tree import OpenTree, open_tree

FILES = {
    "chat.txt": b"hello",
    "media/a.jpg": b"\xff\xd8" * 700,
    "media/deep/b": b"",
    "z" * 200 + "/ä": b"long",
}
HIDDEN = {".DS_Store": b"x", "__MACOSX/chat.txt": b"x", "media/Thumbs.db": b"x"}
MODES = {"export.tar": "w:", "export.tgz": "w:gz", "export.tar.bz2": "w:bz2", "export.tar.xz": "w:xz"}


def tar_of(files: Mapping[str, bytes], mode: Any = "w:", *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def write(folder: Path, data: bytes, name: str = "export.tar") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def read(tree: OpenTree, name: str) -> bytes:
    with closing(tree.open(name)) as stream:
        return stream.read()


@pytest.mark.parametrize("name", MODES)
def test_an_archive_in_any_packing_is_a_tree(tmp_path: Path, name: str):
    data = tar_of(FILES | HIDDEN, MODES[name], special("folder", tarfile.DIRTYPE))
    with closing(open_tree(write(tmp_path, data, name)) or pytest.fail("no tree")) as tree:
        assert isinstance(tree, TarArchive)
        assert (tree.name, list(tree.names), tree.left_out) == (name, sorted(FILES), [])
        # In any order, twice, and with two open at once.
        for known, content in [*reversed(FILES.items()), *FILES.items()]:
            assert (read(tree, known), tree.size(known)) == (content, len(content))
        with closing(tree.open("chat.txt")) as one, closing(tree.open("media/a.jpg")) as two:
            assert (one.read(2), two.read(2), one.read(), two.seek(0)) == (b"he", b"\xff\xd8", b"llo", 0)
        with pytest.raises(UserError, match="no such file"):
            tree.open("none")


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_dialects_are_read(tmp_path: Path, format_: int):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as archive:
        info = tarfile.TarInfo("./Grüße/" + "x" * 90)
        info.size = 2
        archive.addfile(info, io.BytesIO(b"hi"))
    tree = TarArchive(write(tmp_path, buffer.getvalue()))
    assert list(tree.names) == ["Grüße/" + "x" * 90]
    tree.close()


def test_an_archive_that_is_packed_in_several_streams_is_one(tmp_path: Path):
    data = tar_of(FILES)
    half = len(data) // 2
    packings: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("a.tgz", gzip.compress),
        ("a.txz", lzma.compress),
    ]
    for name, pack in packings:
        tree = TarArchive(write(tmp_path, pack(data[:half]) + pack(data[half:]), name))
        assert read(tree, "media/a.jpg") == FILES["media/a.jpg"]
        tree.close()


def test_only_tar_archives_are_trees(tmp_path: Path):
    for data in (b"", b"hello" * 200, gzip.compress(b"From a b\n" * 200), bytes(2048), b"\x1f\x8bx", b"BZhx"):
        path = write(tmp_path, data)
        assert not is_tar(path)
        assert open_tree(path) is None
    assert not is_tar(tmp_path)


class Attack(NamedTuple):
    info: tarfile.TarInfo
    reason: str


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
@pytest.mark.parametrize(
    "attack",
    [
        Attack(special("link", tarfile.SYMTYPE, "/etc/passwd"), "a link, which is not followed"),
        Attack(special("chat2.txt", tarfile.LNKTYPE, "chat.txt"), "a link, which is not followed"),
        Attack(special("disk", tarfile.BLKTYPE), "not a file"),
        Attack(special("pipe", tarfile.FIFOTYPE), "not a file"),
        Attack(special("../out", tarfile.REGTYPE), "its name leads out of the archive"),
        Attack(special("/etc/out", tarfile.REGTYPE), "its name leads out of the archive"),
        Attack(special("C:/out", tarfile.REGTYPE), "its name leads out of the archive"),
        Attack(special("chat.txt", tarfile.REGTYPE), "an older file of the same name"),
    ],
)
def test_what_is_no_file_inside_is_left_out_and_named(tmp_path: Path, attack: Attack, mode: str):
    tree = TarArchive(write(tmp_path, tar_of(FILES, mode, attack.info)))
    assert list(tree.names) == sorted(FILES)
    assert tree.left_out == [(attack.info.name, attack.reason)]
    tree.close()


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_of_a_cut_archive_what_came_before_is_read_and_the_cut_is_named(tmp_path: Path, mode: str):
    data = tar_of({"a": b"one", "b": bytes(range(256)) * 400}, "w:")[:60_000]
    data = data if mode == "w:" else gzip.compress(data)
    for cut in (data, data[:-20]):
        tree = TarArchive(write(tmp_path, cut))
        assert list(tree.names) == ["a"]
        assert [name for name, _ in tree.left_out] == ["b"]
        assert "damaged or cut" in tree.left_out[0][1]
        assert read(tree, "a") == b"one"
        tree.close()


def test_an_archive_without_its_end_is_read_and_named(tmp_path: Path):
    data = tar_of({"a": b"one"})[:1024]
    for cut in (data, data + b"x" * 512):
        tree = TarArchive(write(tmp_path, cut))
        assert list(tree.names) == ["a"]
        assert [name for name, _ in tree.left_out] == [tree.name]
        tree.close()


def test_an_archive_that_is_damaged_from_its_start_is_refused_with_advice(tmp_path: Path):
    tree = TarArchive(write(tmp_path, gzip.compress(tar_of(FILES))[:40]))
    with pytest.raises(UserError, match="damaged or cut"):
        _ = tree.names
    tree.close()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path):
    zeros = {"bomb": bytes(40 * limits.MIB)}
    for files in (zeros, {".hidden": zeros["bomb"]}, {"../out": zeros["bomb"]}):
        tree = TarArchive(write(tmp_path, tar_of(files, "w:gz")))
        with pytest.raises(UserError, match="a bomb"):
            _ = tree.names
        tree.close()


def test_headers_without_end_are_refused_before_they_fill_the_memory(tmp_path: Path):
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 64 * limits.MIB
    bomb = tar_of({"a": b"one"})[:1024] + long_name.tobuf(tarfile.GNU_FORMAT) + b"x" * 64 * limits.MIB
    path = write(tmp_path, gzip.compress(bomb))
    del bomb
    tree = TarArchive(path)
    tracemalloc.start()
    try:
        assert list(tree.names) == ["a"]
        assert tracemalloc.get_traced_memory()[1] < 16 * limits.MIB
    finally:
        tracemalloc.stop()
    assert "too long" in tree.left_out[0][1]
    tree.close()


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_too_many_files_and_too_many_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
):
    path = write(tmp_path, tar_of(FILES, mode))
    monkeypatch.setattr(limits, "TREE_FILES_MAX", 2)
    with pytest.raises(LimitExceeded), closing(TarArchive(path)) as tree:
        _ = tree.names
    monkeypatch.undo()
    monkeypatch.setattr(limits, "TREE_SIZE_MAX_BYTES", 2000)
    with pytest.raises(UserError, match="larger than"), closing(TarArchive(path)) as tree:
        _ = tree.names


def test_a_disk_without_room_is_told_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Full(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Full(limits.TEMPORARY_FREE_MIN_BYTES - 1))
    with (
        pytest.raises(UserError, match="TMPDIR"),
        closing(TarArchive(write(tmp_path, tar_of(FILES, "w:gz")))) as tree,
    ):
        _ = tree.names
    with closing(TarArchive(write(tmp_path, tar_of(FILES)))) as plain:
        assert list(plain.names) == sorted(FILES)


def test_nothing_is_left_in_the_folder_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    tree = TarArchive(write(tmp_path, tar_of(FILES, "w:gz")))
    assert read(tree, "chat.txt") == b"hello"
    tree.close()
    assert not list(temporary.iterdir())


@given(
    st.sampled_from(list(MODES.values())),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4),
    st.integers(0, 12_000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_is_read_or_refused_with_words(
    tmp_path: Path, mode: str, flips: list[tuple[int, int]], cut: int
):
    data = bytearray(tar_of(FILES, mode, special("l", tarfile.SYMTYPE, "x")))
    for at, value in flips:
        data[at % len(data)] = value
    path = write(tmp_path, bytes(data[: len(data) - cut % len(data)]))
    is_tar(path)
    with closing(TarArchive(path)) as tree, suppress(MlogError):
        for name in tree.names:
            assert len(read(tree, name)) == tree.size(name)
