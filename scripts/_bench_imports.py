"""Imports by format: messages for each second of CPU, and peak memory at two sizes of the same export.

CPU time and not the clock, so that the figures hold on a busy machine; what the disk takes is not in them.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from itertools import islice
from pathlib import Path

from _bench_exports import Talk, make
from _bench_shared import BATCH_ROWS, Bench, Result, bare_database, child, result, rounded

from mlog.api.home import Home
from mlog.formats import Hints, Record, Source, detect
from mlog.formats.detection import claims, sniff_files
from mlog.formats.tree import Folder, ZipArchive, open_tree

__all__ = ["bench_import_memory", "bench_import_rate", "import_path", "parse_path"]

_REFERENCE = (
    "the same texts by executemany into a table and an FTS5 index, 1,000 for each FULL commit, in CPU time"
)


def bench_import_rate(bench: Bench) -> Iterator[Result]:
    """Messages for each second of CPU, of every format, and how much of that is parsing."""
    messages = bench.sizes.rate_messages
    for format_ in bench.sizes.rate_formats:
        folder = bench.folder / f"rate-{format_}"
        talk = Talk(messages)
        path = make(format_, folder, talk)
        reference = _reference_cpu_s(bench.folder / "rate.db", messages)
        told = child("import-path", folder / "home", path)
        parsed = child("parse-path", folder / "parse", path)
        shutil.rmtree(folder)
        yield result(
            f"import-rate-{format_}",
            messages / told["cpu_s"],
            "messages/s",
            messages / reference,
            _REFERENCE,
            1,
            parse_us=rounded(parsed["cpu_s"] * 1e6 / messages),
            all_us=rounded(told["cpu_s"] * 1e6 / messages),
            text_bytes_mean=rounded(talk.text_bytes / messages),
        )


def bench_import_memory(bench: Bench) -> Iterator[Result]:
    """Peak memory of an import at two sizes of the same export: it may not grow with the size."""
    small, large = bench.sizes.import_mib
    for format_ in bench.sizes.import_formats:
        peaks: dict[int, float] = {}
        more: dict[str, float] = {}
        for mib in (small, large):
            folder = bench.folder / f"memory-{format_}-{mib}"
            talk = Talk()
            path = make(format_, folder, talk, mib << 20)
            told = child("import-path", folder / "home", path)
            peaks[mib] = told["peak_mib"]
            more = {"messages": talk.taken, "cpu_s": rounded(told["cpu_s"])}
            shutil.rmtree(folder)
        yield result(
            f"import-memory-{format_}-{large}-mib",
            peaks[large],
            "MiB",
            peaks[small],
            f"the same with {small:,} MiB",
            1,
            reference_mib=rounded(peaks[small]),
            **more,
        )


def _reference_cpu_s(path: Path, messages: int) -> float:
    texts = enumerate((said.text for said in Talk(messages)), start=1)
    rows = list(texts)
    started = time.process_time()
    database = bare_database(path)
    database.execute("CREATE TABLE line (n INTEGER PRIMARY KEY, text TEXT)")
    database.execute(
        "CREATE VIRTUAL TABLE search USING fts5(text, content='', columnsize=0, "
        'tokenize="unicode61 remove_diacritics 2")'
    )
    _insert(database, rows)
    database.close()
    took = time.process_time() - started
    path.unlink()
    return took


def _insert(database: sqlite3.Connection, rows: list[tuple[int, str]]) -> None:
    left = iter(rows)
    while batch := list(islice(left, BATCH_ROWS)):
        database.execute("BEGIN")
        database.executemany("INSERT INTO line VALUES (?, ?)", batch)
        database.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", batch)
        database.execute("COMMIT")


# -- in a process of its own -----------------------------------------------------------------


def import_path(home: Home, path: Path) -> None:
    """As `mlog import` does."""
    tree = open_tree(path)
    if tree is not None:
        with closing(tree) if isinstance(tree, ZipArchive) else nullcontext():
            home.import_tree(tree, _HINTS)
        return
    with path.open("rb") as file:
        home.import_chat(Source(file, path.name, hints=_HINTS, tree=Folder(path.parent), path=path.name))


def parse_path(path: Path) -> None:
    """Read all that `import_path` reads, and keep nothing."""
    tree = open_tree(path)
    if tree is None:
        with path.open("rb") as file:
            source = Source(file, path.name, hints=_HINTS, tree=Folder(path.parent), path=path.name)
            count = sum(isinstance(item, Record) for item in detect(source.head(), path.name).parse(source))
        assert count, path
        return
    count, used = 0, set[str]()
    with closing(tree) if isinstance(tree, ZipArchive) else nullcontext():
        for part in claims(tree):
            used.update(part.names)
            count += sum(isinstance(item, Record) for item in part.importer.parse(tree, part.names, _HINTS))
        for importer, name in sniff_files(tree, used)[0]:
            with closing(tree.open(name)) as stream:
                source = Source(stream, name.rpartition("/")[2], hints=_HINTS, tree=tree, path=name)
                count += sum(isinstance(item, Record) for item in importer.parse(source))
    assert count, path


_HINTS = Hints(date_order="dmy")
