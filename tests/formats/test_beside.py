"""Files beside an export: found by what programs make of their names, and only inside the folder."""

from __future__ import annotations

import pytest

from mlog.formats.beside import Beside, file_type, folder_of
from tests.formats.trees import MemoryTree

_TREE = MemoryTree(
    {"a/x.jpg": b"123", "a/File-1_b_2.png": b"", "a/caf\u00e9.pdf": b"", "a/m/y.ogg": b"", "b/z": b""}
)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("x.jpg", "a/x.jpg"),
        ("X.JPG", "a/x.jpg"),
        ("./m/y.ogg", "a/m/y.ogg"),
        ("File-1?b=2.png", "a/File-1_b_2.png"),
        ("cafe\u0301.pdf", "a/caf\u00e9.pdf"),
        ("z", ""),
        ("../b/z", ""),
        ("/etc/passwd", ""),
        ("", ""),
    ],
)
def test_names_are_found_in_their_folder_only(name: str, path: str):
    assert Beside(_TREE, "a/").find(name) == path
    assert Beside(None, "").find(name) == ""


def test_stems_are_found_whatever_the_ending():
    assert Beside(_TREE, "a/").find_stem("x") == "a/x.jpg"
    assert Beside(_TREE, "a/").find_stem("x.jpg") == "a/x.jpg"


def test_files_have_a_bare_name_a_type_and_a_size():
    file = Beside(_TREE, "a/").file("m\\n/x.jpg", "a/x.jpg")
    assert (file.name, file.type, file.size) == ("x.jpg", "image/jpeg", 3)
    assert [file_type(name) for name in ("a.webp", "a.opus", "a.vcf", "a", "a.unheard")] == [
        "image/webp",
        "audio/opus",
        "text/vcard",
        "",
        "",
    ]
    assert (folder_of("a/b/c"), folder_of("c")) == ("a/b/", "")
