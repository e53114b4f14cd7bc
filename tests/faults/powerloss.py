"""Power loss: what a disk may hold after the power went, given the operations sent to it.

Model. A file's content is durable as of its last sync. Each later write or
truncate is kept, lost or torn on its own, so any reordering is covered: where
writes do not overlap, only the set of those that arrived matters; where they do,
they arrive in their order (but an older one may be lost and a newer one kept,
which is harsher than a disk). Nothing outside the range of a write changes.
A write tears at the 512-byte sector boundaries of the file. Bytes by which a
file grew and that were never written hold zeros or garbage.

A name in the folder is durable from the first sync of its file. A deletion may
be undone until the folder is synced. Pure: operations in, images out.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["SECTOR_SIZE_BYTES", "Image", "Op", "Recording"]

SECTOR_SIZE_BYTES = 512

Kind = Literal["create", "write", "truncate", "sync", "delete", "mark"]


class Op(NamedTuple):
    """One operation that succeeded."""

    kind: Kind
    name: str = ""
    file: int = 0  # Which of the files that had this name, one after another.
    offset: int = 0
    data: bytes = b""
    size: int = 0
    folder: bool = False  # The operation (sync, delete) syncs the folder too.
    label: object = None


@dataclass(frozen=True, slots=True)
class Image:
    """The folder after a power loss; `images(seed, ...)` with the same `number` makes the same one."""

    number: int
    crash: int  # The power went after this many operations of `Recording.ops`.
    acknowledged: tuple[object, ...]  # Labels marked before the crash.
    files: dict[str, bytes]
    absent: tuple[str, ...]  # Names that must not be there, -shm included: SQLite rebuilds that.

    def write_to(self, folder: Path) -> None:
        """Make the recorded files in `folder` those of the image; leave others alone."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.absent:
            (folder / name).unlink(missing_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


class Recording:
    """Operations on the files of one folder, in order, with the test's marks among them."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._base: dict[str, tuple[int, bytes]] = {}
        self._links: dict[str, int] = {}
        self._files = 0

    def file(self, name: str) -> int | None:
        """The file that now has this name."""
        return self._links.get(name)

    def adopt(self, name: str, content: bytes) -> int:
        """A file that was there before the first operation, durable."""
        self._base[name] = self._link(name), content
        return self._links[name]

    def create(self, name: str) -> int:
        file = self._link(name)
        self.ops.append(Op("create", name, file))
        return file

    def write(self, name: str, file: int, offset: int, data: bytes) -> None:
        self.ops.append(Op("write", name, file, offset=offset, data=data))

    def truncate(self, name: str, file: int, size: int) -> None:
        self.ops.append(Op("truncate", name, file, size=size))

    def sync(self, name: str, file: int, *, folder: bool) -> None:
        self.ops.append(Op("sync", name, file, folder=folder))

    def delete(self, name: str, *, folder: bool) -> None:
        self.ops.append(Op("delete", name, self._links.pop(name), folder=folder))

    def mark(self, label: object) -> None:
        self.ops.append(Op("mark", label=label))

    def final(self) -> dict[str, bytes]:
        """The folder with every operation arrived: what is on the disk now."""
        disk = _Disk(self._base)
        for op in self.ops:
            disk.step(op)
        disk.settle_all()
        return {name: bytes(disk.contents[file].durable) for name, file in disk.links.items()}

    def images(self, seed: int, count: int) -> Iterator[Image]:
        """Images 0 to `count` of this seed, ordered by crash point, so that one pass makes them all."""
        return self._images(seed, range(count))

    def image(self, seed: int, number: int) -> Image:
        """The one image that `images(seed, ...)` numbers so: to replay a failure."""
        return next(self._images(seed, range(number, number + 1)))

    def _images(self, seed: int, numbers: range) -> Iterator[Image]:
        points = range(len(self.ops) + 1)
        weights = list(accumulate(self._weights()))
        # One generator for each image: image 7 stays image 7 whatever the count.
        planned = sorted(
            (random.Random(f"{seed}/{n}/crash").choices(points, cum_weights=weights)[0], n) for n in numbers
        )
        names = {*self._base, *(op.name for op in self.ops if op.name)}
        disk, done, acknowledged = _Disk(self._base), 0, []
        for crash, number in planned:
            for op in self.ops[done:crash]:
                disk.step(op)
                if op.kind == "mark":
                    acknowledged.append(op.label)
            done = crash
            files = disk.lose_power(random.Random(f"{seed}/{number}/loss"))
            absent = (*sorted(names - files.keys()), *(f"{name}-shm" for name in sorted(names)))
            yield Image(number, crash, tuple(acknowledged), files, absent)

    def _weights(self) -> list[int]:
        """How interesting each crash point is: with something to lose, before a sync, within a checkpoint."""
        weights = [1]
        unsynced: set[str] = set()
        for op in self.ops:
            if op.kind == "sync" or op.folder:
                weights[-1] += 4
                unsynced.discard(op.name)
            elif op.kind != "mark":
                unsynced.add(op.name)
            database = any(not name.endswith(("-wal", "-journal")) for name in unsynced)
            weights.append(1 + 4 * bool(unsynced) + 4 * database)
        return weights

    def _link(self, name: str) -> int:
        self._files += 1
        self._links[name] = self._files
        return self._files


class _Content:
    """One file: durable bytes, and the operations since."""

    def __init__(self, durable: bytes) -> None:
        self.durable = bytearray(durable)
        self.pending: list[Op] = []

    def settle(self) -> None:
        for op in self.pending:
            _apply(self.durable, op, bytes)
        self.pending.clear()

    def lose_power(self, rng: random.Random) -> bytes:
        content = bytearray(self.durable)
        if not self.pending:
            return bytes(content)
        fill = rng.choice((bytes, rng.randbytes))
        match rng.randrange(6):
            case 0:  # All lost.
                pass
            case 1:  # All arrived.
                for op in self.pending:
                    _apply(content, op, fill)
            case 2:  # In order, the last one torn.
                stop = rng.randrange(len(self.pending))
                for op in self.pending[:stop]:
                    _apply(content, op, fill)
                _tear(content, self.pending[stop], fill, rng)
            case _:  # Each on its own.
                whole, torn = rng.choice((0.1, 0.5, 0.9)), rng.choice((0.0, 0.1, 0.5))
                for op in self.pending:
                    if rng.random() < torn:
                        _tear(content, op, fill, rng)
                    elif rng.random() < whole:
                        _apply(content, op, fill)
        return bytes(content)


class _Disk:
    """The folder as the operations go by: what is durable, what is pending."""

    def __init__(self, base: dict[str, tuple[int, bytes]]) -> None:
        self.links = {name: file for name, (file, _) in base.items()}
        self.contents = {file: _Content(content) for file, content in base.values()}
        self.pending: list[Op] = []  # Creations and deletions of names.

    def step(self, op: Op) -> None:
        # A file deleted for good may still be open and written: nobody sees it.
        content = self.contents.get(op.file)
        match op.kind:
            case "create":
                self.contents[op.file] = _Content(b"")
                self.pending.append(op)
            case "delete":
                self.pending.append(op)
            case "sync" if content:
                content.settle()
                self._settle_creation(op)
            case "write" | "truncate" if content:
                content.pending.append(op)
        if op.folder:
            self._settle_names(self.pending)

    def settle_all(self) -> None:
        self._settle_names(self.pending)
        for content in self.contents.values():
            content.settle()

    def lose_power(self, rng: random.Random) -> dict[str, bytes]:
        files = {}
        for name in sorted({*self.links, *(op.name for op in self.pending)}):
            history = [self.links.get(name)]
            history += [op.file if op.kind == "create" else None for op in self.pending if op.name == name]
            file = rng.choice(history)
            if file is not None:
                files[name] = self.contents[file].lose_power(rng)
        return files

    def _settle_creation(self, sync: Op) -> None:
        history = [op for op in self.pending if op.name == sync.name]
        for index, op in enumerate(history):
            if op.kind == "create" and op.file == sync.file:
                self._settle_names(history[: index + 1])
                return

    def _settle_names(self, ops: list[Op]) -> None:
        for op in ops:
            if op.kind == "create":
                self.links[op.name] = op.file
            else:
                self.links.pop(op.name, None)
                self.contents.pop(op.file, None)
        self.pending = [op for op in self.pending if op not in ops]


_Fill = Callable[[int], bytes]


def _apply(content: bytearray, op: Op, fill: _Fill) -> None:
    if op.kind == "write":
        _put(content, op.offset, op.data, fill)
    elif op.size < len(content):
        del content[op.size :]
    else:
        content += bytes(op.size - len(content))


def _put(content: bytearray, offset: int, data: bytes, fill: _Fill) -> None:
    if offset > len(content):
        content += fill(offset - len(content))
    content[offset : offset + len(data)] = data


def _tear(content: bytearray, op: Op, fill: _Fill, rng: random.Random) -> None:
    """Some sectors of a write; its length may have reached the disk although its bytes did not."""
    if op.kind == "truncate":
        if rng.random() < 0.5:
            _apply(content, op, fill)
        return
    end = op.offset + len(op.data)
    if end > len(content) and rng.random() < 0.5:
        content += fill(end - len(content))
    first = (op.offset // SECTOR_SIZE_BYTES + 1) * SECTOR_SIZE_BYTES
    cuts = [op.offset, *range(first, end, SECTOR_SIZE_BYTES), end]
    sectors = list(pairwise(cuts))
    split = rng.randrange(len(sectors) + 1)
    kept = rng.choice((sectors[:split], sectors[split:], [s for s in sectors if rng.random() < 0.5]))
    for start, stop in kept:
        _put(content, start, op.data[start - op.offset : stop - op.offset], fill)
