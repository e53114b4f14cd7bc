"""Scenario: what the fault tests do to a home while they pull the plug, and what must hold after.

Every word said is unique, so that a test can ask for it by search, or look for it in the files.
"""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from itertools import count
from pathlib import Path

from mlog import limits
from mlog.api.home import Home
from mlog.formats import Hints, Source
from mlog.log.view import Message

__all__ = [
    "Ack",
    "append",
    "assert_forgotten",
    "assert_kept",
    "change",
    "copied",
    "found",
    "import_irc",
    "irc_log",
    "opened",
    "template",
    "words",
]

Ack = Callable[[str], None]
"""Called with what a command that returned has promised: "said ID WORD", "entry ID", "erased WORD"."""

START_MS = 1_600_000_000_000
TITLE = "harbour"
LINES = 120
"""Of the chat that a run imports."""


def opened(folder: Path, **options: object) -> Home:
    """The home in this folder, with a clock that steps a minute with each look."""
    ticks = count(START_MS, 60_000)
    return Home(folder, person="ann", clock_ms=lambda: next(ticks), **options)  # pyright: ignore[reportArgumentType]


def words(seed: object) -> Iterator[str]:
    """Words that no other seed gives, and that no message holds by chance."""
    rng = random.Random(f"words {seed}")
    while True:
        yield "q" + "".join(rng.choices("bcdfghjklmnpqrstvwz", k=13))


def template(folder: Path) -> Path:
    """A home with one conversation and a few messages."""
    with opened(folder) as home:
        n = home.new(TITLE).n
        for word in words_of("template", 6):
            home.send(n, f"{word} was here before")
    return folder


def words_of(seed: object, number: int) -> list[str]:
    source = words(seed)
    return [next(source) for _ in range(number)]


def copied(source: Path, target: Path) -> Path:
    """A copy that still thinks it is the original: the marker fits the copied file."""
    shutil.copytree(source, target)
    refit_marker(target)
    return target


def refit_marker(folder: Path) -> None:
    """Make the marker beside a copied database vouch for the copy."""
    import msgspec

    path = folder / "marker.json"
    marker = msgspec.json.decode(path.read_bytes())
    marker["inode"] = (folder / "mlog.db").stat().st_ino
    path.write_bytes(msgspec.json.encode(marker).ljust(256))


# What is done


def found(folder: Path, ack: Ack) -> None:
    """From an empty folder: a home, a conversation, a message."""
    with opened(folder) as home:
        n = home.new(TITLE).n
        word = next(words("found"))
        ack(f"said {home.send(n, word).hex()} {word}")


def append(folder: Path, ack: Ack) -> None:
    """Short and long messages, and replies."""
    with opened(folder) as home:
        n = home.conversation(TITLE).n
        for index, word in enumerate(words_of("append", 10)):
            text = f"{word} " + "and so on " * (0, 3, 40, 900)[index % 4]
            reply_to = next(home.messages(n, newest_first=True, limit=1)).mid if index % 3 == 1 else None
            ack(f"said {home.send(n, text, reply_to=reply_to).hex()} {word}")


def change(folder: Path, ack: Ack) -> None:
    """Edits, a reaction, a title, erasures, digests."""
    with opened(folder) as home:
        n = home.conversation(TITLE).n
        first, second, third, edited, last = words_of("change", 5)
        long = f"{first} " + "over several pages " * 700
        ack(f"entry {home.send(n, long).hex()}")
        ack(f"entry {home.edit(newest(home, n), f'{second} instead').hex()}")
        ack(f"entry {home.react(newest(home, n), 'ok').hex()}")
        home.status()
        home.erase(newest(home, n))
        ack(f"erased {first}")
        ack(f"erased {second}")
        ack(f"entry {home.send(n, third).hex()}")
        ack(f"entry {home.edit(newest(home, n), edited).hex()}")
        ack(f"entry {home.set_title(n, f'{TITLE} by night').hex()}")
        home.erase(newest(home, n))
        ack(f"erased {third}")
        ack(f"erased {edited}")
        ack(f"said {home.send(n, last).hex()} {last}")
        home.status()


def newest(home: Home, n: int) -> Message:
    return next(home.messages(n, newest_first=True, limit=1))


def irc_log(seed: int, lines: int) -> bytes:
    """A day of an IRC channel, equal lines in one minute among them."""
    rng, word = random.Random(f"irc {seed}"), words(f"irc {seed}")
    out: list[str] = []
    for index in range(lines):
        time = f"[{index * 23 * 60 // lines // 60:02}:{index * 23 * 60 // lines % 60:02}]"
        nick = rng.choice(["ann", "ben", "cat"])
        match rng.randrange(10):
            case 0:
                out.append(f"{time}  * {nick} waves")
            case 1:
                out.append(f"{time} <{nick}> yes")
            case 2:
                out.append(f"=== {nick} [n={nick}@example.org]  has joined #harbour")
            case _:
                text = f"ben: {next(word)}" if rng.random() < 0.2 else next(word)
                out.append(f"{time} <{nick}> {text}{' and more' * rng.choice((0, 0, 1, 9))}")
    return "".join(f"{line}\n" for line in out).encode()


def import_irc(
    home: Home, content: bytes, progress: Callable[[int], None] = lambda _: None, *, into: int | None = None
) -> tuple[int, int]:
    """Import a generated log; gives the numbers of new and of known records."""
    source = Source(io.BytesIO(content), "#quay.log", hints=Hints(date=date(2020, 5, 4)))
    report = home.import_chat(source, into=into, progress=progress)
    return sum(chat.new for chat in report.chats), sum(chat.known for chat in report.chats)


def import_in_batches(folder: Path, ack: Ack, *, batch: int = 25) -> None:
    """Several batches, each acknowledged when it is durable. For a process of its own: lowers a limit."""
    limits.STORE_ROWS_MAX = batch  # pyright: ignore[reportAttributeAccessIssue]
    done = 0

    def progress(number: int) -> None:
        nonlocal done
        done += number
        ack(f"imported {done}")

    with opened(folder) as home:
        import_irc(home, irc_log(1, LINES), progress)


# What must hold


def ids_of(home: Home) -> set[str]:
    return {id_.hex() for (id_,) in home.store._all("SELECT id FROM entries")}


def assert_kept(folder: Path, acknowledged: Iterable[str]) -> None:
    """Open a home after a fault: all that was acknowledged is there, all of it verifies, and it goes on."""
    promised = [line.split() for line in acknowledged]
    with opened(folder) as home:
        assert_sound(home)
        present = ids_of(home)
        lost = [p for p in promised if p[0] in ("said", "entry") and p[1] not in present]
        assert not lost, f"acknowledged and lost: {lost}"
        for _, _, word in (p for p in promised if p[0] == "said"):
            assert [m.text.split()[0] for m in home.search(word)] == [word]
        for _, word in (p for p in promised if p[0] == "erased"):
            assert not home.search(word)
        n = next((c.n for c in home.conversations()), 0) or home.new(TITLE).n
        word = next(words(folder))
        id_ = home.send(n, word)
        assert home.find_entry(id_.hex()).signature is not None
        assert [m.id for m in home.search(word)] == [id_]
        assert home.verify() == []
    for promise in promised:
        if promise[0] == "erased":
            assert_forgotten(folder, promise[1])


def assert_sound(home: Home) -> None:
    assert home.verify(signatures=True) == []
    assert home.store.check_file() == []
    unread = home.store._one("SELECT count(*) FROM entries WHERE chain IS NULL")
    assert not unread, f"{unread} entries stand outside a chain: it was forked"


def assert_forgotten(folder: Path, *gone: str) -> None:
    """No file of the home holds any of these, as they are or in lower case."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        lower = content.lower()
        for word in gone:
            for form in {word.encode(), word.encode("utf-16-le"), word.casefold().encode()}:
                where = content.find(form)
                assert where < 0, f"{word} survives in {path.name} at {where}"
            assert word.casefold().encode() not in lower, f"{word} survives in {path.name}, in capitals"
