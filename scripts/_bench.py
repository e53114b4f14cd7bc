"""Benchmarks: what mlog costs, each figure next to a reference measured in the same run.

Prints one JSON object a line: `name`, `value`, `unit`, `ratio` (value over that of `reference`, so
above 1 is good for rates and bad for times and sizes), `n` (repeats; the value is their median
unless `of` says otherwise), and whatever else helps to read it. A benchmark that cannot run prints
`name` and `skipped`. Runs of mlog and of the reference alternate, so that a busy machine slows both.

The text is made here from synthetic words (Zipf-Mandelbrot over 20,000); messages average 80 bytes
without time and nick. What they mean, aims and findings: docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from _bench_exports import FORMATS
from _bench_imports import bench_import_memory, bench_import_rate, import_path, parse_path
from _bench_pairing import bench_pairing
from _bench_people import bench_epochs, bench_members, bench_revocation
from _bench_shared import (
    CHINESE_WORD,
    SEED,
    WORDS,
    Bench,
    Result,
    Sizes,
    Words,
    child,
    lines,
    peak_mib,
    percentile,
    reference_import,
    result,
    rounded,
    timed,
)
from _bench_sync import bench_cold, bench_differences, bench_live, bench_same, bench_sessions
from blake3 import blake3

from mlog.api.home import Home
from mlog.formats.source import Source
from mlog.log.words import match_expression

SEARCH_LIMIT: Final = 50


FULL: Final = Sizes(
    small=100_000,
    large=1_000_000,
    imports=3,
    appends=3_000,
    verifies=3,
    searches=40,
    starts=15,
    corpus_files=1_000,
    synced=(10_000, 100_000, 1_000_000),
    paired=(10_000, 100_000),
    differences=(1, 10, 100, 1_000, 10_000),
    live=500,
    sessions=200,
    rulings=(100, 1_000, 10_000),
    recipients=(10, 50),
    revocations=10,
    import_mib=(20, 200),
    import_formats=("irc", "whatsapp", "mlog", "telegram", "sms", "mbox", "slack-zip", "attachments"),
    rate_messages=20_000,
    rate_formats=tuple(name for name in FORMATS if name != "attachments"),
)
QUICK: Final = Sizes(
    small=1_000,
    large=3_000,
    imports=2,
    appends=100,
    verifies=2,
    searches=3,
    starts=3,
    corpus_files=1,
    synced=(500,),
    paired=(500,),
    differences=(5,),
    live=5,
    sessions=3,
    rulings=(10, 1_010),
    recipients=(3,),
    revocations=1,
    import_mib=(1, 2),
    import_formats=("irc", "attachments"),
    rate_messages=60,
    rate_formats=tuple(name for name in FORMATS if name != "attachments"),
)


# -- benchmarks ------------------------------------------------------------------------------


def bench_import(bench: Bench) -> Iterator[Result]:
    """Messages a second from a file into a new home."""
    for messages in (bench.sizes.small, bench.sizes.large):
        done, reference = bench.imports(messages)
        yield result(
            f"import-{messages}",
            messages / statistics.median(run.seconds for run in done),
            "messages/s",
            messages / statistics.median(reference),
            "the same lines by executemany into a table and an FTS5 index, 1,000 for each FULL commit",
            len(done),
            text_bytes_mean=rounded(bench.chat(messages).text_bytes / messages),
        )


def bench_corpus(bench: Bench) -> Iterator[Result]:
    """The real channel of the corpus, with its reply links, where it is on this machine."""
    data = os.environ.get("MLOG_CORPUS") or Path(__file__).resolve().parents[2] / "shared" / "data"
    files = sorted(Path(data, "irc-ubuntu").glob("*/*.raw.txt"))[: bench.sizes.corpus_files]
    if not files:
        yield {"name": "import-corpus", "skipped": f"no irc-ubuntu in {data}; set MLOG_CORPUS"}
        return
    count = sum(1 for path in files for _ in lines(path))
    reference = [reference_import(bench.folder, files)]
    home = bench.folder / "home-corpus"
    took = child("import-linked", home, *files)["seconds"]
    reference.append(reference_import(bench.folder, files))
    size = _disk_size(home)
    shutil.rmtree(home)
    yield result(
        "import-corpus",
        count / took,
        "messages/s",
        count / statistics.mean(reference),
        "the same lines by executemany into a table and an FTS5 index, 1,000 for each FULL commit",
        1,
        files=len(files),
        lines=count,
        disk_bytes_each=rounded(size / count),
    )


def bench_append(bench: Bench) -> Iterator[Result]:
    """One message through the API, durable, in a home that is open."""
    _, took, bare = bench.written
    for percent in (50, 99):
        yield result(
            f"append-p{percent}",
            percentile(took, percent) * 1000,
            "ms",
            percentile(bare, percent) * 1000,
            "one row of the same text committed by sqlite3 (WAL, FULL), in turns",
            len(took),
            of=f"p{percent}",
        )


def bench_verify(bench: Bench) -> Iterator[Result]:
    """Entries a second through `verify`, imported ones and ones that are all signed."""
    for name, path in (("imported", bench.home(bench.sizes.small)), ("written", bench.written[0])):
        plain: list[float] = []
        signed: list[float] = []
        reference: list[float] = []
        with Home(path) as home:
            entries = sum(status.entries for status in home.status())
            for _ in range(bench.sizes.verifies):
                reference.append(timed(lambda path=path: _read_and_hash(path / "mlog.db")))
                plain.append(timed(home.verify))
                signed.append(timed(lambda home=home: home.verify(signatures=True)))
        for suffix, took in (("", plain), ("-signatures", signed)):
            yield result(
                f"verify-{name}{suffix}",
                entries / statistics.median(took),
                "entries/s",
                entries / statistics.median(reference),
                "the file read and hashed with BLAKE3 in pieces of 4 KiB",
                len(took),
                entries=entries,
            )


def _read_and_hash(path: Path) -> None:
    with path.open("rb") as file:
        while page := file.read(4096):
            blake3(page).digest()


def bench_search(bench: Bench) -> Iterator[Result]:
    """Milliseconds from a query to the 50 newest messages that fit."""
    for messages in (bench.sizes.small, bench.sizes.large):
        path = bench.home(messages)
        raw = sqlite3.connect(f"file:{path / 'mlog.db'}?mode=ro", uri=True)
        every: tuple[list[float], list[float]] = [], []
        with Home(path) as home:
            for name, queries in _queries(bench.sizes.searches).items():
                took, reference, found = _search(home, raw, queries)
                every[0].extend(took)
                every[1].extend(reference)
                yield from _search_results(f"search-{name}-{messages}", took, reference, found=found)
        raw.close()
        yield from _search_results(f"search-all-{messages}", *every)


def _queries(count: int) -> dict[str, list[str]]:
    words, draw = Words().by_rank, random.Random(SEED)  # noqa: S311 (the same queries in every run)

    def some(first: int, end: int) -> list[str]:
        return [words[draw.randrange(first, end)] for _ in range(count)]

    return {
        "rare": some(WORDS - 1000, WORDS),
        "middle": some(300, 600),
        "common": some(0, 10),
        "two-words": [f"{one} {two}" for one, two in zip(some(0, 10), some(300, 600), strict=True)],
        "phrase": [f'"{one} {two}"' for one, two in zip(some(0, 10), some(10, 20), strict=True)],
        "prefix": [f"{word[:3]}*" for word in some(300, 600)],
        "chinese": [CHINESE_WORD] * count,
    }


def _search(
    home: Home, raw: sqlite3.Connection, queries: Sequence[str]
) -> tuple[list[float], list[float], float]:
    took: list[float] = []
    reference: list[float] = []
    found: list[int] = []
    sql = "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rowid DESC LIMIT ?"
    for query in queries:
        expression = match_expression(query)
        # Once each before, so that both find the pages in the caches.
        raw.execute(sql, (expression, SEARCH_LIMIT)).fetchall()
        found.append(len(home.search(query, limit=SEARCH_LIMIT)))
        reference.append(timed(lambda e=expression: raw.execute(sql, (e, SEARCH_LIMIT)).fetchall()))
        took.append(timed(lambda query=query: home.search(query, limit=SEARCH_LIMIT)))
    return took, reference, rounded(statistics.mean(found))


def _search_results(
    name: str, took: Sequence[float], reference: Sequence[float], **more: object
) -> Iterator[Result]:
    for percent in (50, 99):
        yield result(
            f"{name}-p{percent}",
            percentile(took, percent) * 1000,
            "ms",
            percentile(reference, percent) * 1000,
            f"the newest {SEARCH_LIMIT} rowids from the same FTS5 index, nothing read or checked",
            len(took),
            of=f"p{percent}",
            **more,
        )


def bench_disk(bench: Bench) -> Iterator[Result]:
    """Bytes on disk for each message: all files of the home, when nobody uses it."""
    chat = bench.chat(bench.sizes.small)
    texts = bench.sent_texts()
    for name, path, messages, text_bytes in (
        ("imported", bench.home(chat.messages), chat.messages, chat.text_bytes),
        ("written", bench.written[0], len(texts), sum(len(text.encode()) for text in texts)),
    ):
        size = _disk_size(path)
        yield result(
            f"disk-{name}",
            size / messages,
            "bytes/message",
            text_bytes / messages,
            "bytes of the text alone",
            1,
            messages=messages,
            tables=_table_sizes(path / "mlog.db", messages),
        )


def _disk_size(home: Path) -> int:
    database = sqlite3.connect(home / "mlog.db")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


def _table_sizes(path: Path, messages: int) -> dict[str, float] | str:
    """Bytes for each message in each table and index, as far as it is one or more."""
    database = sqlite3.connect(path)
    try:
        rows = database.execute(
            "SELECT name, sum(pgsize) AS size FROM dbstat GROUP BY name ORDER BY size DESC"
        )
        return {name: round(size / messages, 1) for name, size in rows if size >= messages}
    except sqlite3.OperationalError as error:
        return f"this SQLite has no dbstat: {error}"
    finally:
        database.close()


def bench_startup(bench: Bench) -> Iterator[Result]:
    """Milliseconds of a whole process, from the shell's view."""
    mlog = Path(sys.executable).with_name("mlog")
    home = bench.folder / "home-startup"
    # Compiled files are kept, as after any installation, whatever this shell has set.
    kept = {"MLOG_HOME": str(home), "PYTHONPYCACHEPREFIX": str(bench.folder / "compiled")}
    environment = {**os.environ, **kept}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    _quiet([sys.executable, "-c", "pass"], environment)
    with Home(home) as opened:
        log = opened.new("startup").n
        for text in bench.sent_texts()[:50]:
            opened.send(log, text)
    commands = {
        "help": [str(mlog), "--help"],
        "send": [str(mlog), "send", "startup", "one more"],
        "log": [str(mlog), "log", "startup", "--limit", "20"],
    }
    for name, command in commands.items():
        first = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if first.returncode:
            told = (first.stderr.strip() or "no message").splitlines()[0]
            yield {"name": f"start-{name}", "skipped": f"mlog {name} exits {first.returncode}: {told}"}
            continue
        took: list[float] = []
        bare: list[float] = []
        for _ in range(bench.sizes.starts):
            bare.append(timed(lambda: _quiet([sys.executable, "-c", "pass"], environment)))
            took.append(timed(lambda command=command: _quiet(command, environment)))
        yield result(
            f"start-{name}",
            statistics.median(took) * 1000,
            "ms",
            statistics.median(bare) * 1000,
            "python -c pass",
            len(took),
            minimum=rounded(min(took) * 1000),
        )


def _quiet(command: Sequence[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def bench_memory(bench: Bench) -> Iterator[Result]:
    """Peak memory of a process of its own, at ten times the messages."""
    small, large = bench.sizes.small, bench.sizes.large
    for work in ("import", "verify", "export"):
        peaks: dict[int, float] = {}
        seconds = 0.0
        for messages in (small, large):
            if work == "import":
                peaks[messages] = statistics.median(run.peak_mib for run in bench.imports(messages)[0])
                seconds = bench.imports(messages)[0][0].seconds
            else:
                told = child(work, bench.home(messages))
                peaks[messages], seconds = told["peak_mib"], told["seconds"]
        yield result(
            f"memory-{work}-{large}",
            peaks[large],
            "MiB",
            peaks[small],
            f"the same with {small:,} messages",
            1,
            messages_per_s=rounded(large / seconds),
        )


BENCHMARKS: Final[dict[str, Callable[[Bench], Iterator[Result]]]] = {
    "import": bench_import,
    "corpus": bench_corpus,
    "append": bench_append,
    "verify": bench_verify,
    "search": bench_search,
    "disk": bench_disk,
    "startup": bench_startup,
    "memory": bench_memory,
    "import-memory": bench_import_memory,
    "import-rate": bench_import_rate,
    "cold": bench_cold,
    "pairing": bench_pairing,
    "same": bench_same,
    "differences": bench_differences,
    "live": bench_live,
    "sessions": bench_sessions,
    "members": bench_members,
    "epochs": bench_epochs,
    "revocation": bench_revocation,
}


# -- a process of its own -------------------------------------------------------------------


def _run_child(work: str, home_path: Path, *paths: Path) -> None:
    with Home(home_path) as home:
        started, cpu = time.perf_counter(), time.process_time()
        if work == "import":
            for path in paths:
                with path.open("rb") as file:
                    home.import_chat(Source(file, path.name))
        elif work == "import-linked":
            for path in paths:
                links = path.with_name(path.name.replace(".raw.txt", ".annotation.txt"))
                with path.open("rb") as file, links.open("rb") as annotations:
                    home.import_chat(Source(file, path.name, links=annotations))
        elif work == "import-path":
            import_path(home, paths[0])
        elif work == "parse-path":
            parse_path(paths[0])
        elif work == "verify":
            findings = home.verify()
            assert not findings, findings[:3]
        elif work == "export":
            for conversation in home.conversations():
                for _ in home.export_chat(conversation.n):
                    pass
        took = time.perf_counter() - started
    print(json.dumps({"seconds": took, "cpu_s": time.process_time() - cpu, "peak_mib": peak_mib()}))


def main() -> None:
    """Run what was asked for."""
    if sys.argv[1:2] == ["--child"]:
        _run_child(sys.argv[2], *map(Path, sys.argv[3:]))
        return
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default all")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: shows that it works, proves nothing"
    )
    parser.add_argument(
        "--mib", help="sizes that import-memory compares, such as 200,2048; takes as much disk, thrice"
    )
    parser.add_argument("--formats", help="what import-memory and import-rate import, such as irc,mbox")
    chosen = parser.parse_args()
    sizes = QUICK if chosen.quick else FULL
    if chosen.mib:
        small, _, large = chosen.mib.partition(",")
        if not (small.isdecimal() and large.isdecimal() and 0 < int(small) < int(large)):
            parser.error("--mib takes two sizes, the smaller one first, such as 200,2048")
        sizes = sizes._replace(import_mib=(int(small), int(large)))
    if chosen.formats:
        formats = tuple(chosen.formats.split(","))
        if strange := set(formats) - set(FORMATS):
            parser.error(f"no format {', '.join(sorted(strange))}: choose of {', '.join(FORMATS)}")
        sizes = sizes._replace(import_formats=formats, rate_formats=formats)
    unknown = set(chosen.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose of {', '.join(BENCHMARKS)}")
    with tempfile.TemporaryDirectory(prefix="mlog-bench-") as folder:
        bench = Bench(Path(folder), sizes)
        for name in chosen.names or BENCHMARKS:
            for told in BENCHMARKS[name](bench):
                print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
