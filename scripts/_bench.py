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
import math
import os
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from blake3 import blake3

from mlog.api.home import Home
from mlog.formats.source import Source
from mlog.log.words import match_expression

SEED: Final = 20_200_101
BATCH_ROWS: Final = 1000
PEOPLE: Final = 60
WORDS: Final = 20_000
MESSAGE_WORDS_MEAN: Final = 15.6
"""Gives messages of 80 bytes on average."""
GAP_S_MEAN: Final = 150
"""1,000,000 messages so take nearly five years: 4,000 a week, a busy channel."""
CHINESE_EVERY: Final = 500
CHINESE_WORD: Final = "\u6d77\u8c5a"
SEARCH_LIMIT: Final = 50
START_S: Final = 1_420_070_400  # 1 January 2015

Result = dict[str, Any]


class Sizes(NamedTuple):
    """How much of everything."""

    small: int
    large: int
    imports: int
    appends: int
    verifies: int
    searches: int
    starts: int
    corpus_files: int


FULL: Final = Sizes(100_000, 1_000_000, 3, 3_000, 3, 40, 15, 1_000)
QUICK: Final = Sizes(1_000, 3_000, 2, 100, 2, 3, 3, 1)


# -- text ------------------------------------------------------------------------------------


class Words:
    """Synthetic words by rank, the frequent ones short, as in any language."""

    def __init__(self) -> None:
        draw = random.Random(SEED)  # noqa: S311 (the same text in every run)
        made: dict[str, None] = {}
        while len(made) < WORDS:
            syllables = 1 if len(made) < 20 else 2 if len(made) < 600 else 3
            made[
                "".join(draw.choice("bdfghjklmnprstvz") + draw.choice("aeiou") for _ in range(syllables))
            ] = None
        self.by_rank = list(made)
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(WORDS)))
        self._draw = draw

    def stream(self) -> Iterator[str]:
        """Words of a text that never ends."""
        while True:
            yield from self._draw.choices(self.by_rank, cum_weights=self._weights, k=100_000)


class Chat(NamedTuple):
    """One generated IRC log."""

    path: Path
    messages: int
    text_bytes: int


def write_chat(path: Path, messages: int) -> Chat:
    """Write an IRC log; a longer one begins with the shorter one."""
    words, draw = Words(), random.Random(SEED)  # noqa: S311 (the same text in every run)
    stream, text_bytes, time_s = words.stream(), 0, float(START_S)
    people = [name.capitalize() for name in words.by_rank[600 : 600 + PEOPLE]]
    speakers = draw.choices(people, weights=[1 / (rank + 1) for rank in range(PEOPLE)], k=9973)
    with path.open("w", encoding="utf-8") as file:
        for number in range(messages):
            time_s += draw.expovariate(1 / GAP_S_MEAN)
            text = " ".join(islice(stream, 1 + int(draw.expovariate(1 / (MESSAGE_WORDS_MEAN - 0.5)))))
            if number % CHINESE_EVERY == CHINESE_EVERY - 1:
                text = _chinese(draw)
            text_bytes += len(text.encode())
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_s))
            file.write(f"{stamp} <{speakers[number % len(speakers)]}> {text}\n")
    return Chat(path, messages, text_bytes)


def _chinese(draw: random.Random) -> str:
    """A sentence without spaces; every second one holds the word that is searched for."""
    characters = [chr(0x4E00 + int(400 * draw.random() ** 2)) for _ in range(25)]
    if draw.random() < 0.5:
        characters[12:12] = CHINESE_WORD
    return "".join(characters)


# -- what several benchmarks share -----------------------------------------------------------


class Imported(NamedTuple):
    """A home with one imported chat, and what the child process that made it measured."""

    home: Path
    seconds: float
    peak_mib: float


class Bench:
    """A temporary folder, with chats and homes that are made when they are first needed."""

    def __init__(self, folder: Path, sizes: Sizes):
        self.folder = folder
        self.sizes = sizes
        self._chats: dict[int, Chat] = {}
        self._imports: dict[int, tuple[list[Imported], list[float]]] = {}

    def chat(self, messages: int) -> Chat:
        if messages not in self._chats:
            self._chats[messages] = write_chat(self.folder / f"chat-{messages}.log", messages)
        return self._chats[messages]

    def imports(self, messages: int) -> tuple[list[Imported], list[float]]:
        """Imports of a chat into new homes, and the seconds of the reference, in turns."""
        if messages not in self._imports:
            repeats = self.sizes.imports if messages == self.sizes.small else 1
            done: tuple[list[Imported], list[float]] = [], []
            for turn in range(repeats):
                home = self.folder / f"home-{messages}-{turn}"
                chat = self.chat(messages)
                done[1].append(_reference_import(self.folder, [chat.path]))
                told = _child("import", home, chat.path)
                done[0].append(Imported(home, told["seconds"], told["peak_mib"]))
                if turn:
                    shutil.rmtree(home)
            self._imports[messages] = done
        return self._imports[messages]

    def home(self, messages: int) -> Path:
        """A home with that many imported messages."""
        return self.imports(messages)[0][0].home

    @cached_property
    def written(self) -> tuple[Path, list[float], list[float]]:
        """A home with messages sent one by one; seconds of each, and of bare commits in turn."""
        path, bare = self.folder / "home-written", self.folder / "bare.db"
        texts = self.sent_texts()
        took: list[float] = []
        took_bare: list[float] = []
        with Home(path) as home:
            reference = _database(bare)
            reference.execute("CREATE TABLE message (n INTEGER PRIMARY KEY, text TEXT)")
            log = home.new("written").n
            for text in texts:
                took_bare.append(
                    _timed(
                        lambda text=text: reference.execute("INSERT INTO message (text) VALUES (?)", (text,))
                    )
                )
                took.append(_timed(lambda text=text: home.send(log, text)))
            reference.close()
        return path, took, took_bare

    def sent_texts(self) -> list[str]:
        """Messages of the generated chat, without time and nick."""
        with self.chat(self.sizes.small).path.open(encoding="utf-8") as lines:
            return [line.split("> ", 1)[1].rstrip("\n") for line in islice(lines, self.sizes.appends)]


def _database(path: Path) -> sqlite3.Connection:
    """A bare database with mlog's promises: WAL, and durable after each commit."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    return database


def _reference_import(folder: Path, paths: Iterable[Path]) -> float:
    """Seconds to put the same lines, nothing else, into a table and an FTS5 index, durable each 1,000."""
    path = folder / "reference.db"
    started = time.perf_counter()
    database = _database(path)
    database.execute("CREATE TABLE line (n INTEGER PRIMARY KEY, text TEXT)")
    database.execute(
        "CREATE VIRTUAL TABLE search USING fts5(text, content='', columnsize=0, "
        'tokenize="unicode61 remove_diacritics 2")'
    )
    numbered = enumerate((line for path in paths for line in _lines(path)), start=1)
    while batch := list(islice(numbered, BATCH_ROWS)):
        database.execute("BEGIN")
        database.executemany("INSERT INTO line VALUES (?, ?)", batch)
        database.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", batch)
        database.execute("COMMIT")
    database.close()
    took = time.perf_counter() - started
    path.unlink()
    return took


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from file


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _percentile(values: Sequence[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(len(values) * percent / 100) - 1)]


def _result(
    name: str, value: float, unit: str, reference_value: float, reference: str, n: int, **more: object
) -> Result:
    return {
        "name": name,
        "value": _rounded(value),
        "unit": unit,
        "ratio": _rounded(value / reference_value),
        "reference": reference,
        "n": n,
        **more,
    }


def _rounded(value: float) -> float:
    """To four digits: more would be noise."""
    return float(f"{value:.4g}")


# -- fresh processes -------------------------------------------------------------------------


def _child(work: str, *arguments: Path) -> dict[str, float]:
    """Seconds and peak memory of work in a process of its own."""
    command = [sys.executable, __file__, "--child", work, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{work} of {arguments[0].name} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _run_child(work: str, home_path: Path, *paths: Path) -> None:
    with Home(home_path) as home:
        started = time.perf_counter()
        if work == "import":
            for path in paths:
                with path.open("rb") as file:
                    home.import_chat(Source(file, path.name))
        elif work == "import-linked":
            for path in paths:
                links = path.with_name(path.name.replace(".raw.txt", ".annotation.txt"))
                with path.open("rb") as file, links.open("rb") as annotations:
                    home.import_chat(Source(file, path.name, links=annotations))
        elif work == "verify":
            findings = home.verify()
            assert not findings, findings[:3]
        elif work == "export":
            for conversation in home.conversations():
                for _ in home.export_chat(conversation.n):
                    pass
        took = time.perf_counter() - started
    print(json.dumps({"seconds": took, "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    try:
        # ru_maxrss of a child also counts its parent, up to exec: what Linux says here does not.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


# -- benchmarks ------------------------------------------------------------------------------


def bench_import(bench: Bench) -> Iterator[Result]:
    """Messages a second from a file into a new home."""
    for messages in (bench.sizes.small, bench.sizes.large):
        done, reference = bench.imports(messages)
        yield _result(
            f"import-{messages}",
            messages / statistics.median(run.seconds for run in done),
            "messages/s",
            messages / statistics.median(reference),
            "the same lines by executemany into a table and an FTS5 index, 1,000 for each FULL commit",
            len(done),
            text_bytes_mean=_rounded(bench.chat(messages).text_bytes / messages),
        )


def bench_corpus(bench: Bench) -> Iterator[Result]:
    """The real channel of the corpus, with its reply links, where it is on this machine."""
    data = os.environ.get("MLOG_CORPUS") or Path(__file__).resolve().parents[2] / "shared" / "data"
    files = sorted(Path(data, "irc-ubuntu").glob("*/*.raw.txt"))[: bench.sizes.corpus_files]
    if not files:
        yield {"name": "import-corpus", "skipped": f"no irc-ubuntu in {data}; set MLOG_CORPUS"}
        return
    lines = sum(1 for path in files for _ in _lines(path))
    reference = [_reference_import(bench.folder, files)]
    home = bench.folder / "home-corpus"
    took = _child("import-linked", home, *files)["seconds"]
    reference.append(_reference_import(bench.folder, files))
    size = _disk_size(home)
    shutil.rmtree(home)
    yield _result(
        "import-corpus",
        lines / took,
        "messages/s",
        lines / statistics.mean(reference),
        "the same lines by executemany into a table and an FTS5 index, 1,000 for each FULL commit",
        1,
        files=len(files),
        lines=lines,
        disk_bytes_each=_rounded(size / lines),
    )


def bench_append(bench: Bench) -> Iterator[Result]:
    """One message through the API, durable, in a home that is open."""
    _, took, bare = bench.written
    for percent in (50, 99):
        yield _result(
            f"append-p{percent}",
            _percentile(took, percent) * 1000,
            "ms",
            _percentile(bare, percent) * 1000,
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
                reference.append(_timed(lambda path=path: _read_and_hash(path / "mlog.db")))
                plain.append(_timed(home.verify))
                signed.append(_timed(lambda home=home: home.verify(signatures=True)))
        for suffix, took in (("", plain), ("-signatures", signed)):
            yield _result(
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
        reference.append(_timed(lambda e=expression: raw.execute(sql, (e, SEARCH_LIMIT)).fetchall()))
        took.append(_timed(lambda query=query: home.search(query, limit=SEARCH_LIMIT)))
    return took, reference, _rounded(statistics.mean(found))


def _search_results(
    name: str, took: Sequence[float], reference: Sequence[float], **more: object
) -> Iterator[Result]:
    for percent in (50, 99):
        yield _result(
            f"{name}-p{percent}",
            _percentile(took, percent) * 1000,
            "ms",
            _percentile(reference, percent) * 1000,
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
        yield _result(
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
            bare.append(_timed(lambda: _quiet([sys.executable, "-c", "pass"], environment)))
            took.append(_timed(lambda command=command: _quiet(command, environment)))
        yield _result(
            f"start-{name}",
            statistics.median(took) * 1000,
            "ms",
            statistics.median(bare) * 1000,
            "python -c pass",
            len(took),
            minimum=_rounded(min(took) * 1000),
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
                told = _child(work, bench.home(messages))
                peaks[messages], seconds = told["peak_mib"], told["seconds"]
        yield _result(
            f"memory-{work}-{large}",
            peaks[large],
            "MiB",
            peaks[small],
            f"the same with {small:,} messages",
            1,
            messages_per_s=_rounded(large / seconds),
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
}


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
    chosen = parser.parse_args()
    unknown = set(chosen.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose of {', '.join(BENCHMARKS)}")
    with tempfile.TemporaryDirectory(prefix="mlog-bench-") as folder:
        bench = Bench(Path(folder), QUICK if chosen.quick else FULL)
        for name in chosen.names or BENCHMARKS:
            for result in BENCHMARKS[name](bench):
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
