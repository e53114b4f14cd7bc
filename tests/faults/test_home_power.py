"""Power loss at any moment of a home's life: what was acknowledged is kept, and all of it verifies."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlog import limits
from mlog.adapters import marker
from mlog.api import writing
from mlog.log import bodies
from mlog.log.bodies import Kind

from . import scenario, vfs
from .record import recorded
from .vfs import Image, Shim

SEED = 3

_reason = vfs.unavailable()
pytestmark = pytest.mark.skipif(_reason is not None, reason=str(_reason))


def a_life(folder: Path) -> Shim:
    """A home from its beginning on, opened and closed on the way."""
    folder.mkdir()
    with Shim(folder) as shim:
        scenario.found(folder, shim.mark)
        scenario.append(folder, shim.mark)
        scenario.change(folder, shim.mark)
        scenario.import_in_batches(folder, shim.mark)
        # A life without a clean end: erased, and the words of it still in the WAL.
        home = scenario.opened(folder)
        n = home.conversations()[-1].n
        home.store._db.execute("PRAGMA wal_autocheckpoint=20")
        for word in scenario.words_of("power", 12):
            shim.mark(f"said {home.send(n, word).hex()} {word}")
    home.store._db.close()
    return shim


def examine(image: Image, folder: Path, keys: bytes) -> None:
    (folder / "keys.json").write_bytes(keys)
    image.write_to(folder)
    # In every other image the marker vouches, as it does when the machine starts again.
    if image.number % 2 and marker.load_marker(folder / "marker.json"):
        (folder / "mlog.db").touch()
        scenario.refit_marker(folder)
    scenario.assert_kept(folder, [str(label) for label in image.acknowledged])


def test_no_acknowledged_entry_is_lost_by_power_loss(
    request: pytest.FixtureRequest, ram: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_ROWS_MAX", limits.STORE_ROWS_MAX)  # The run lowers it.
    count = 10_000 if request.config.getoption("--slow") else 300
    run, target = ram / "run", ram / "image"
    target.mkdir()
    with recorded("power loss", seed=SEED, count=count):
        shim = a_life(run)
        keys = (run / "keys.json").read_bytes()
        in_checkpoint = in_scrub = 0
        for image in shim.images(SEED, count):
            before = shim.log[image.crash - 1] if image.crash else None
            in_checkpoint += before is not None and before.kind == "write" and before.name == "mlog.db"
            in_scrub += before is not None and before.name.endswith("-wal") and not before.data.strip(b"\0")
            try:
                examine(image, target, keys)
            except BaseException as error:
                error.add_note(f"seed {SEED}: image {image.number}, after operation {image.crash}")
                raise
        assert in_checkpoint > count / 20
        assert in_scrub


def test_power_loss_amid_an_erasure_leaves_the_log_whole(request: pytest.FixtureRequest, ram: Path) -> None:
    # Overwriting the WAL must not leave a part of it that SQLite still reads: its old pages would come back.
    count = 2_000 if request.config.getoption("--slow") else 302
    before = scenario.template(ram / "before")
    run, target = scenario.copied(before, ram / "run"), scenario.copied(before, ram / "image")
    keys = (run / "keys.json").read_bytes()
    said = scenario.words_of("amid", 12)
    with recorded("power loss amid an erasure", seed=SEED, count=count):
        # The WAL of a process that ended before it overwrote what it erased.
        home = scenario.opened(run)
        n = home.conversation(scenario.TITLE).n
        promised = [f"said {home.send(n, word).hex()} {word}" for word in said]
        gone = scenario.newest(home, n)
        writing.write(home, n, Kind.ERASURE, bodies.Erasure(of=gone.mid.hex()))
        promised[-1] = f"erased {gone.text}"
        with Shim(run) as shim:
            other = scenario.opened(run)
            other.store.scrub()
            shim.mark("scrubbed")
        other.store.close()
        home.store.close()
        for image in shim.images(SEED, count):
            whole = Image(image.number, image.crash, tuple(promised), image.files, image.absent)
            try:
                examine(whole, target, keys)
            except BaseException as error:
                error.add_note(f"seed {SEED}: image {image.number}, after operation {image.crash}")
                raise
