"""The one-liners of docs/cookbook.md run, each whose tools are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mlog

_TEXT = (Path(__file__).resolve().parents[2] / "docs" / "cookbook.md").read_text(encoding="utf-8")
_LINES = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", _TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
_TOOLS = ("jq", "sqlite-utils", "sqlite3", "datasette")


@pytest.mark.skipif(shutil.which("sh") is None, reason="NOT TESTED: no POSIX shell")
@pytest.mark.parametrize("line", _LINES)
def test_the_one_liners_run(line: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    for tool in _TOOLS:
        if re.search(rf"(^|\| ){tool} ", line) and shutil.which(tool) is None:
            pytest.skip(f"NOT TESTED: {tool} is not installed")
    with mlog.open(home, person="Ann") as opened:
        garden = opened.new("Garden").n
        opened.send(garden, "see http://example.org")
        opened.react(next(opened.messages(garden)), "👍")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_every_tool_has_a_one_liner() -> None:
    for tool in _TOOLS:
        assert any(re.search(rf"(^|\| ){tool} ", line) for line in _LINES), tool


def test_every_export_format_is_explained() -> None:
    from mlog.formats import EXPORTERS

    section = _TEXT.partition("## Exports")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == {known.name for known in EXPORTERS}
