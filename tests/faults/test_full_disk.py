"""A disk that is full, or fails, at every write of a scripted run: it says so, and nothing is lost."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlog import limits
from mlog.api.home import Home
from mlog.errors import MlogError, StoreError
from mlog.log.ids import EntryId

from . import scenario, vfs
from .record import recorded
from .vfs import DISK_KINDS, FaultKind, Shim

SEED = 5

_reason = vfs.unavailable()
needs_shim = pytest.mark.skipif(_reason is not None, reason=str(_reason))

ALL_KINDS: frozenset[FaultKind] = frozenset({*DISK_KINDS, "create", "shm"})


@dataclass(frozen=True)
class Fault:
    """The disk fails at the n-th operation: for good (full) or once."""

    n: int
    code: int = sqlite3.SQLITE_FULL
    persistent: bool = True
    partial: bool = False
    kinds: frozenset[FaultKind] = DISK_KINDS


MODES = (
    Fault(0),
    Fault(0, partial=True),
    Fault(0, kinds=ALL_KINDS),
    Fault(0, sqlite3.SQLITE_IOERR_WRITE, persistent=False),
    Fault(0, sqlite3.SQLITE_IOERR_FSYNC, persistent=False, kinds=frozenset({"sync"})),
)


class Person:
    """Gives commands one after another, whatever became of the one before."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.promised: list[str] = []
        self.failures: list[MlogError] = []
        self.home: Home | None = None
        self._words = scenario.words(name)

    def command(self, give: Callable[[Home], str]) -> None:
        try:
            if self.home is None:
                self.home = scenario.opened(self.folder)
            promise = give(self.home)
        except StoreError as error:
            self.failures.append(error)
        else:
            self.promised.append(promise)

    def all_commands(self) -> None:
        words = [next(self._words) for _ in range(9)]
        self.command(lambda home: f"entry {home.send(home.new(words[0]).n, 'first').hex()}")
        for word, size in zip(words[1:4], (1, 40, 900), strict=True):
            self.command(
                lambda h, w=word, s=size: f"said {h.send(self._n(h), f'{w} ' + 'so ' * s).hex()} {w}"
            )
        self.command(lambda home: f"entry {home.react(self._newest(home), 'ok').hex()}")
        self.command(lambda home: f"said {home.send(self._n(home), words[4]).hex()} {words[4]}")
        self.command(
            lambda home: f"entry {home.set_title(self._n(home), f'{scenario.TITLE} {words[5]}').hex()}"
        )
        self.command(self._import)
        self.command(lambda home: f"status {len(home.status())}")
        self.command(lambda home: f"entry {home.send(self._n(home), words[6]).hex()}")
        self.command(lambda home: self._erase(home, words[6]))
        self.command(lambda home: f"verified {home.verify()}")
        self.close()

    def close(self) -> None:
        home, self.home = self.home, None
        if home is not None:
            try:
                home.close()
            except StoreError as error:
                self.failures.append(error)

    def _n(self, home: Home) -> int:
        return home.conversation(scenario.TITLE).n

    def _newest(self, home: Home):
        return scenario.newest(home, self._n(home))

    def _import(self, home: Home) -> str:
        scenario.import_irc(home, scenario.irc_log(2, 60))
        return "imported 60"

    def _erase(self, home: Home, word: str) -> str:
        found = home.search(word)
        if found:
            home.erase(found[0])
            return f"erased {word}"
        return "nothing"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_ROWS_MAX", 25)


def run(folder: Path, fault: Fault | None) -> tuple[Person, Shim]:
    person = Person(folder, f"fault {fault}")
    with Shim(folder) as shim:
        if fault is not None:
            shim.fail_write(
                fault.n, fault.code, persistent=fault.persistent, partial=fault.partial, kinds=fault.kinds
            )
        person.all_commands()
        shim.heal()
        person.close()
    return person, shim


def _tried(shim: Shim, kinds: frozenset[FaultKind]) -> int:
    return sum(shim.counts[kind] for kind in kinds)


@needs_shim
@pytest.mark.usefixtures("small_batches")
def test_a_disk_that_fails_at_any_write_loses_nothing(request: pytest.FixtureRequest, ram: Path) -> None:
    before = scenario.template(ram / "before")
    _, whole = run(scenario.copied(before, ram / "whole"), None)
    faults = [
        Fault(n, mode.code, mode.persistent, mode.partial, mode.kinds)
        for mode in MODES
        for n in range(1, _tried(whole, mode.kinds) + 1)
    ]
    if not request.config.getoption("--slow"):
        faults = random.Random(SEED).sample(faults, 200)
    failed = 0
    with recorded("full disk", seed=SEED, count=len(faults)):
        for number, fault in enumerate(faults):
            folder = scenario.copied(before, ram / str(number))
            try:
                person, _ = run(folder, fault)
                failed += bool(person.failures)
                for failure in person.failures:
                    assert str(folder) in str(failure), f"names no file: {failure}"
                    assert "Make room" in str(failure) or "Check" in str(failure), f"no advice: {failure}"
                # There is room again: the same commands all work, in a process that goes on and in a new one.
                again, _ = run(folder, None)
                assert not again.failures
                assert len(again.promised) == 12
                assert "verified []" in again.promised
                scenario.assert_kept(folder, [*person.promised, *again.promised])
                with scenario.opened(folder) as home:
                    assert scenario.import_irc(home, scenario.irc_log(2, 60)) == (0, 60)
            except BaseException as error:
                error.add_note(f"seed {SEED}: {fault}")
                raise
            shutil.rmtree(folder)
    assert failed > len(faults) // 2


@needs_shim
@pytest.mark.usefixtures("small_batches")
def test_a_home_that_stays_open_goes_on_when_there_is_room_again(
    request: pytest.FixtureRequest, ram: Path
) -> None:
    before = scenario.template(ram / "before")
    points = range(1, 120) if request.config.getoption("--slow") else range(1, 120, 5)
    for n in points:
        folder = scenario.copied(before, ram / str(n))
        word = next(scenario.words(n))
        try:
            with Shim(folder) as shim, scenario.opened(folder) as home:
                shim.fail_write(n)
                for attempt in range(3):
                    with suppress(StoreError):
                        home.new(f"full {attempt}")
                    with suppress(StoreError):
                        home.send(1, "into the person's log")
                shim.heal()
                # What failed left nothing in memory either: another process takes the number.
                with scenario.opened(folder) as other:
                    made = other.new("by another")
                    other.send(made.n, f"{word}1")
                home.send(made.n, f"{word}2")
                assert [m.text for m in home.messages(made.n)] == [f"{word}1", f"{word}2"]
                mine = home.new("by this one")
                home.send(mine.n, "here")
                scenario.assert_sound(home)
            scenario.assert_kept(folder, [])
        except BaseException as error:
            error.add_note(f"full at operation {n}")
            raise
        shutil.rmtree(folder)


@contextmanager
def small_disk(folder: Path, size_kib: int) -> Generator[Path]:
    """A real file system of this size."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "mlog-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"A REAL FULL DISK IS NOT TESTED HERE: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a process keeps the database open that it overwrote (mlog/adapters/overwrite.py).
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(folder: Path) -> Path:
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def send_until_it_fails(home: Home, n: int) -> list[EntryId]:
    return [home.send(n, f"{number} " + "long " * 2_000) for number in range(300)]


def test_on_a_real_full_disk_erasing_works_and_writing_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4096) as disk:
        with scenario.opened(disk / "home") as home:
            n = home.new(scenario.TITLE).n
            ids = [home.send(n, f"{word} here") for word in scenario.words_of("tmpfs", 20)]
            gone = scenario.newest(home, n)
            ballast = fill_up(disk)
            with pytest.raises(StoreError, match=r"/home/mlog\.db: the disk is full\. Make room"):
                ids += send_until_it_fails(home, n)
            assert home.verify(signatures=True) == []
            # There is no room to erase in; what is confirmed stays, and a little room is enough.
            with suppress(StoreError):
                home.erase(gone)
            ballast.unlink()
            home.send(n, "room again")
            if not home.message(gone.id.hex()).erased:
                home.erase(home.message(gone.id.hex()))
            assert home.verify(signatures=True) == []
            assert {id_.hex() for id_ in ids} <= scenario.ids_of(home)
        scenario.assert_forgotten(disk / "home", gone.text.split()[0])


def test_the_command_line_says_that_the_disk_is_full(tmp_path: Path) -> None:
    mlog = Path(sys.executable).with_name("mlog")

    def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [mlog, *arguments],
            env={"MLOG_HOME": str(disk / "home"), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    with small_disk(tmp_path / "disk", 4096) as disk:
        if cli("--help").returncode:
            pytest.skip("THE COMMAND LINE IS NOT TESTED ON A FULL DISK: 'mlog --help' fails")
        assert cli("new", "harbour").returncode == 0
        assert cli("send", "harbour", "before").returncode == 0
        ballast = fill_up(disk)
        full = cli("send", "harbour", "x " * 20_000)
        for _ in range(60):
            if full.returncode:
                break
            full = cli("send", "harbour", "x " * 20_000)
        assert full.returncode == StoreError.exit_code
        assert str(disk / "home" / "mlog.db") in full.stderr
        assert "full" in full.stderr
        assert "Traceback" not in full.stderr
        # Reading needs 32 KiB for the index of the WAL, and says so.
        read = cli("log", "harbour")
        assert read.returncode in (0, StoreError.exit_code)
        assert "before" in read.stdout or "Make room" in read.stderr
        assert "Traceback" not in read.stderr
        ballast.unlink()
        assert cli("send", "harbour", "after").returncode == 0
        assert cli("verify").returncode == 0
