"""What the benchmarks share: synthetic text, homes made once, references, the form of a result."""

from __future__ import annotations

import json
import math
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from mlog.api.home import Home

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
    synced: tuple[int, ...]
    paired: tuple[int, ...]
    differences: tuple[int, ...]
    live: int
    sessions: int
    rulings: tuple[int, ...]
    recipients: tuple[int, ...]
    revocations: int
    import_mib: tuple[int, int]
    import_formats: tuple[str, ...]
    rate_messages: int
    rate_formats: tuple[str, ...]


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


def write_texts() -> Iterator[str]:
    """Messages without time and nick, without end."""
    stream, draw = Words().stream(), random.Random(SEED)  # noqa: S311 (the same text in every run)
    while True:
        yield " ".join(islice(stream, 1 + int(draw.expovariate(1 / (MESSAGE_WORDS_MEAN - 0.5)))))


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
        self.pairs: dict[str, dict[str, Any]] = {}

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
                done[1].append(reference_import(self.folder, [chat.path]))
                told = child("import", home, chat.path)
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
            reference = bare_database(bare)
            reference.execute("CREATE TABLE message (n INTEGER PRIMARY KEY, text TEXT)")
            log = home.new("written").n
            for text in texts:
                took_bare.append(
                    timed(
                        lambda text=text: reference.execute("INSERT INTO message (text) VALUES (?)", (text,))
                    )
                )
                took.append(timed(lambda text=text: home.send(log, text)))
            reference.close()
        return path, took, took_bare

    def sent_texts(self) -> list[str]:
        """Messages of the generated chat, without time and nick."""
        with self.chat(self.sizes.small).path.open(encoding="utf-8") as lines:
            return [line.split("> ", 1)[1].rstrip("\n") for line in islice(lines, self.sizes.appends)]


def bare_database(path: Path) -> sqlite3.Connection:
    """A bare database with mlog's promises: WAL, and durable after each commit."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    return database


def reference_import(folder: Path, paths: Iterable[Path]) -> float:
    """Seconds to put the same lines, nothing else, into a table and an FTS5 index, durable each 1,000."""
    path = folder / "reference.db"
    started = time.perf_counter()
    database = bare_database(path)
    database.execute("CREATE TABLE line (n INTEGER PRIMARY KEY, text TEXT)")
    database.execute(
        "CREATE VIRTUAL TABLE search USING fts5(text, content='', columnsize=0, "
        'tokenize="unicode61 remove_diacritics 2")'
    )
    numbered = enumerate((line for path in paths for line in lines(path)), start=1)
    while batch := list(islice(numbered, BATCH_ROWS)):
        database.execute("BEGIN")
        database.executemany("INSERT INTO line VALUES (?, ?)", batch)
        database.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", batch)
        database.execute("COMMIT")
    database.close()
    took = time.perf_counter() - started
    path.unlink()
    return took


def lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from file


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def percentile(values: Sequence[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(len(values) * percent / 100) - 1)]


def result(
    name: str, value: float, unit: str, reference_value: float, reference: str, n: int, **more: object
) -> Result:
    return {
        "name": name,
        "value": rounded(value),
        "unit": unit,
        "ratio": rounded(value / reference_value),
        "reference": reference,
        "n": n,
        **more,
    }


def rounded(value: float) -> float:
    """To four digits: more would be noise."""
    return float(f"{value:.4g}")


# -- fresh processes -------------------------------------------------------------------------


def child(work: str, *arguments: Path) -> dict[str, float]:
    """Seconds and peak memory of work in a process of its own."""
    command = [
        sys.executable,
        str(Path(__file__).with_name("_bench.py")),
        "--child",
        work,
        *map(str, arguments),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{work} of {arguments[0].name} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def peak_mib() -> float:
    try:
        # ru_maxrss of a child also counts its parent, up to exec: what Linux says here does not.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
