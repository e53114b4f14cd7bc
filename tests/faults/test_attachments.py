"""Large attachments: in bounded memory, and whole after a kill or a full disk in the middle of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlog import limits
from mlog.api.home import Home
from mlog.errors import LimitExceeded, StoreError
from mlog.formats import Hints
from mlog.formats.tree import Folder
from mlog.log.bodies import Kind

from . import scenario, vfs
from .vfs import Shim

_CHUNKS_PER_BATCH = limits.IMPORT_BATCH_SIZE_BYTES // limits.CHUNK_SIZE_MAX_BYTES
_SIZE = 2 * limits.IMPORT_BATCH_SIZE_BYTES + 100_000
"""Three batches."""

_reason = vfs.unavailable()


def _film(folder: Path, size: int = _SIZE) -> Path:
    path = folder / "film.bin"
    with path.open("wb") as file:
        draw = random.Random(size)
        while size:
            size -= file.write(draw.randbytes(min(size, limits.MIB)))
    return path


def _chunks(home: Home) -> int:
    return home.store._one("SELECT count(*) FROM entries WHERE kind = ?", (int(Kind.CHUNK),))


def _needed(path: Path) -> int:
    return -(-path.stat().st_size // limits.CHUNK_SIZE_MAX_BYTES)


def _send(home: Home, path: Path) -> None:
    home.send(home.conversation(scenario.TITLE).n, "the film", attach=[path])


def _import(home: Home, path: Path) -> None:
    chat = path.with_name("chat.jsonl")
    chat.write_text(
        '{"kind":"conversation","format":"mlog","format_version":1,"key":"x:1","title":"films"}\n'
        f'{{"kind":"message","id":"{"ab" * 16}","author":"ann","time_ms":1,"text":"the film",'
        f'"files":[{{"name":"{path.name}","path":"{path.name}"}}]}}\n'
    )
    report = home.import_tree(Folder(path.parent), Hints())
    assert report.skipped == []


WAYS: dict[str, Callable[[Home, Path], None]] = {"send": _send, "import": _import}
each_way = pytest.mark.parametrize("way", WAYS)


def _assert_whole(home: Home, path: Path, out: Path) -> None:
    """The film is there, each part of it once, and nothing is wrong."""
    [attached] = home.attachments()
    assert home.save(attached, out).read_bytes() == path.read_bytes()
    assert _chunks(home) == _needed(path)
    assert home.verify() == []


def _dies(folder: Path, path: Path, way: str, write: int) -> None:
    """Do it in a process of its own, which is killed before its n-th transaction."""
    pid = os.fork()
    if not pid:
        try:
            with scenario.opened(folder) as home:
                replica, done = home.replica, 0

                def counted(call: Callable[..., Any]) -> Callable[..., Any]:
                    def counting(*arguments: Any, **options: Any) -> Any:
                        nonlocal done
                        done += 1
                        if done == write:
                            os.kill(os.getpid(), signal.SIGKILL)
                        return call(*arguments, **options)

                    return counting

                for name in ("write", "write_run"):
                    setattr(replica, name, counted(getattr(replica, name)))
                WAYS[way](home, path)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "it ended before it could be killed"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process that is killed")
@each_way
@pytest.mark.parametrize("write", [1, 2, 3, 4])
def test_a_file_whose_writer_was_killed_goes_on_where_it_was(way: str, write: int, ram: Path) -> None:
    home_folder, files = scenario.template(ram / "home"), ram / "files"
    files.mkdir()
    path = _film(files)
    _dies(home_folder, path, way, write)
    with scenario.opened(home_folder) as home:
        before = _chunks(home)
        # Killed before the first batch, the second, the third; then the message or the manifest is missing.
        assert before in (0, _CHUNKS_PER_BATCH, 2 * _CHUNKS_PER_BATCH, _needed(path))
        assert list(home.attachments()) == []
        assert home.verify() == []
        WAYS[way](home, path)
        _assert_whole(home, path, ram / "out")


@pytest.mark.skipif(_reason is not None, reason=str(_reason))
@each_way
@pytest.mark.parametrize("operation", [2, 900, 2500])
def test_a_disk_that_is_full_in_the_middle_of_a_file_says_so(way: str, operation: int, ram: Path) -> None:
    home_folder, files = scenario.template(ram / "home"), ram / "files"
    files.mkdir()
    path = _film(files)
    with Shim(home_folder) as shim:
        home = scenario.opened(home_folder)
        shim.fail_write(operation)
        with pytest.raises(StoreError, match=r"mlog\.db: the disk is full\. Make room"):
            WAYS[way](home, path)
        assert list(home.attachments()) == []
        shim.heal()
        # The same home, with room again.
        WAYS[way](home, path)
        _assert_whole(home, path, ram / "out")
        home.close()
    with scenario.opened(home_folder) as home:
        assert home.verify(signatures=True) == []


def test_a_file_that_does_not_fit_on_the_disk_is_not_saved_in_part(ram: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("THE SAVING TO A FULL DISK IS NOT TESTED HERE: no /dev/full")
    home_folder, files, out = scenario.template(ram / "home"), ram / "files", ram / "out"
    files.mkdir()
    out.mkdir()
    with scenario.opened(home_folder) as home:
        _send(home, _film(files, 600_000))
        [attached] = home.attachments()
        real_open = Path.open

        def onto_full(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if self.parent == out and "x" in mode:
                real_open(self, mode).close()
                return full.open("wb")
            return real_open(self, mode, *arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "open", onto_full)
            with pytest.raises(StoreError, match=r"film.bin was not written: the disk is full"):
                home.save(attached, out / "film.bin")
        assert list(out.iterdir()) == []


def test_a_file_above_the_limit_is_refused_before_any_of_it_is_kept(
    ram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home_folder, files = scenario.template(ram / "home"), ram / "files"
    files.mkdir()
    path = _film(files, 3 * limits.MIB)
    with scenario.opened(home_folder) as home:
        monkeypatch.setattr(limits, "ATTACHMENT_SIZE_MAX_BYTES", 2 * limits.MIB)
        with pytest.raises(LimitExceeded, match=r"film\.bin: larger than 2 MiB"):
            _send(home, path)
        assert _chunks(home) == 0
        # An import keeps the message, and says which file it could not keep.
        with pytest.raises(AssertionError, match="larger than 2 MiB"):
            _import(home, path)
        assert _chunks(home) == 0
        assert home.verify() == []


_PEAK = """
import sys
from pathlib import Path
from tests.faults import scenario, test_attachments as here

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

folder, way = Path(sys.argv[1]), sys.argv[2]
path = folder / "files" / "film.bin"
with scenario.opened(folder / "home") as home:
    here.WAYS[way](home, path)
    [attached] = home.attachments()
    home.save(attached, folder / "out")
print(peak())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@each_way
def test_memory_does_not_grow_with_the_file(way: str, ram: Path, request: pytest.FixtureRequest) -> None:
    small, large = (10, 100) if request.config.getoption("--slow") else (8, 40)
    peaks: list[int] = []
    for size in (small, large):
        folder = ram / f"{size}"
        (folder / "files").mkdir(parents=True)
        scenario.template(folder / "home")
        path = _film(folder / "files", size * limits.MIB)
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(folder), way], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert (folder / "out").read_bytes() == path.read_bytes()
        peaks.append(int(done.stdout))
    # The page cache of the database still fills at first.
    assert peaks[1] < peaks[0] + 24 * limits.MIB, [peak // limits.MIB for peak in peaks]
