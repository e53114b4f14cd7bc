"""Erased text is gone from every file of the home, whatever SQLite did with it before.

Every word is unique, and looked for as UTF-8, UTF-16, JSON and as the search index folds it.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mlog.adapters.overwrite import overwrite_gaps
from mlog.api import writing
from mlog.api.home import Home
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.view import Message

from . import scenario
from .record import recorded

SEED = 11


def text_of(rng: random.Random, word: str, words: int) -> str:
    """A text of so many words, all of them new, some in capitals and in other scripts."""
    shapes = (str, str.upper, lambda w: f"Ä{w}", lambda w: f'"{w}"\n', lambda w: f"{w}日本語")
    return " ".join(rng.choice(shapes)(f"{word}x{n:x}y") for n in range(words))


def assert_gone(folder: Path, *gone: str) -> None:
    # Every word of a text begins with its own one.
    scenario.assert_forgotten(folder, *gone)


def left_over(folder: Path, gone: list[str]) -> list[str]:
    content = b"".join(path.read_bytes() for path in folder.iterdir()).lower()
    return [word for word in gone if word.encode() in content]


def by_word(home: Home, n: int, word: str) -> Message:
    return next(m for m in home.messages(n) if word in m.text.casefold())


def fill(home: Home, n: int, rng: random.Random, count: int, sizes: tuple[int, ...]) -> list[str]:
    words = scenario.words_of(("erasure", n, rng.random()), count)
    with home.store.transaction():
        for word in words:
            home.send(n, text_of(rng, word, rng.choice(sizes)))
    return words


@pytest.mark.parametrize(("count", "sizes"), [(400, (1, 3, 12)), (60, (1, 700)), (5_000, (1, 2, 6))])
def test_erased_texts_are_in_no_file(ram: Path, count: int, sizes: tuple[int, ...]) -> None:
    rng = random.Random(f"{SEED} {count}")
    with scenario.opened(ram / "home") as home:
        n = home.new("harbour").n
        words: list[str] = []
        for _ in range(4):  # Segments of the index merge on the way.
            words += fill(home, n, rng, count // 4, sizes)
        messages = {key(m.text): m for m in home.messages(n)}
        gone = rng.sample(words, 6)
        for word in gone[:3]:
            home.erase(messages[word])
            assert_gone(ram / "home", word)
        for word in gone[3:]:
            home.erase(messages[word])
        assert_gone(ram / "home", *gone)
        assert home.verify(signatures=count < 1_000) == []
        assert home.store.check_file() == []
        kept = rng.choice([word for word in words if word not in gone])
        assert messages[kept].id in {m.id for m in home.messages(n)}
    assert_gone(ram / "home", *gone)


def churn(folder: Path, seed: int, *, secure: bool = True) -> list[str]:
    """Messages of all sizes, edits, and erasures among them, so that rows move; gives the erased words."""
    rng = random.Random(seed)
    with scenario.opened(folder) as home, scenario.opened(folder) as other:
        if not secure:
            home.store._db.execute("PRAGMA secure_delete=OFF")
        n = home.new("harbour").n
        words: list[str] = []
        for _ in range(rng.randint(2, 12)):
            sizes = rng.choice([(1,), (1, 3, 12), (1, 40), (1, 2, 300), (60, 700)])
            words += fill(home, n, rng, rng.randint(5, 60), sizes)
        messages = {key(m.text): m for m in home.messages(n)}
        gone = rng.sample(words, len(words) // 4)
        with home.store.transaction():
            for word in gone:
                if rng.random() < 0.2:
                    home.edit(messages[word], f"hello {word}x9")
        for number, word in enumerate(gone):
            if number % 20 == 19:
                # What it has cached must not come back.
                fill(other, n, rng, 10, (1, 30))
            if number % 5 == 0:
                home.erase(messages[word])
            else:
                writing.write(home, n, Kind.ERASURE, bodies.Erasure(of=messages[word].mid.hex()))
        assert home.verify() == []
        assert home.store.check_file() == []
    return gone


def key(text: str) -> str:
    return text.casefold().split("x")[0].lstrip('"ä')


def test_no_copy_of_an_erased_text_stays_where_rows_were_moved(
    request: pytest.FixtureRequest, ram: Path
) -> None:
    # These seeds left copies in the gaps of pages, in spite of secure_delete.
    seeds = [*range(300)] if request.config.getoption("--slow") else [3, 16, 38, 54, *range(100, 106)]
    with recorded("erasure", seed=seeds[0], count=len(seeds)):
        for seed in seeds:
            folder = ram / str(seed)
            gone = churn(folder, seed)
            assert left_over(folder, gone) == [], f"seed {seed}"
            shutil.rmtree(folder)


def test_without_secure_delete_the_copies_are_found(ram: Path) -> None:
    assert left_over(ram / "home", churn(ram / "home", 3, secure=False))


def test_all_texts_of_an_edited_message_are_in_no_file(ram: Path) -> None:
    rng = random.Random(SEED)
    with scenario.opened(ram / "home") as home:
        n = home.new("harbour").n
        fill(home, n, rng, 50, (1, 20))
        first, second, third = scenario.words_of("edited", 3)
        home.send(n, text_of(rng, first, 900))
        home.edit(scenario.newest(home, n), text_of(rng, second, 3))
        fill(home, n, rng, 50, (1, 20))
        home.edit(by_word(home, n, second), text_of(rng, third, 300))
        fill(home, n, rng, 50, (1, 20))
        home.erase(by_word(home, n, third))
        assert_gone(ram / "home", first, second, third)
        assert home.verify(signatures=True) == []
    assert_gone(ram / "home", first, second, third)


def test_an_erased_line_of_an_import_and_its_twins_are_in_no_file(ram: Path) -> None:
    content = scenario.irc_log(SEED, 800)
    word = next(scenario.words("twin"))
    content += f"[23:58] <ann> {word} and so on\n".encode()
    with scenario.opened(ram / "home") as home:
        n = home.new("harbour").n
        scenario.import_irc(home, content, into=n)
        home.erase(by_word(home, n, word))
        assert_gone(ram / "home", word)
        # Importing again does not bring it back.
        new, known = scenario.import_irc(home, content, into=n)
        assert (new, known) == (0, 801)
        assert home.verify(signatures=True) == []
        assert_gone(ram / "home", word)
    assert_gone(ram / "home", word)


def test_a_file_of_two_conversations_is_in_no_file_once_both_have_erased_it(ram: Path) -> None:
    rng = random.Random(SEED)
    # Parts of words: a byte that is left of any place of the file is seen.
    words = scenario.words_of("photo", 60_000)
    path = ram / "photo.bin"
    path.write_text(" ".join(words))
    looked_for = [words[0], words[-1], *rng.sample(words, 40)]
    with scenario.opened(ram / "home") as home:
        logs = [home.new(title).n for title in ("harbour", "garden")]
        for n in logs:
            fill(home, n, rng, 30, (1, 12))
            home.send(n, "photo", attach=[path])
            fill(home, n, rng, 30, (1, 12))
        home.erase(by_word(home, logs[0], "photo"))
        [left] = home.attachments()
        assert left.log == logs[1]
        assert home.save(left, ram / "saved").read_bytes() == path.read_bytes()
        assert len(left_over(ram / "home", looked_for)) > 35
        home.erase(by_word(home, logs[1], "photo"))
        assert_gone(ram / "home", *looked_for)
        assert home.store._one("SELECT count(*) FROM pieces") == 0
        assert home.verify(signatures=True) == []
        assert home.store.check_file() == []
    assert_gone(ram / "home", *looked_for)


def test_a_reader_delays_the_overwriting_to_the_next_writer(ram: Path) -> None:
    word = next(scenario.words("read"))
    with scenario.opened(ram / "home") as home:
        n = home.new("harbour").n
        for _ in range(20):
            home.send(n, f"{word} here")
        reader = sqlite3.connect(ram / "home" / "mlog.db", isolation_level=None)
        with closing(reader):
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM messages").fetchone() == (20,)
            for message in list(home.messages(n)):
                home.erase(message)
            assert reader.execute("SELECT count(*) FROM messages WHERE text IS NOT NULL").fetchone() == (20,)
    with scenario.opened(ram / "home") as home:
        home.send(n, "the next writer")
        assert home.verify(signatures=True) == []
    assert_gone(ram / "home", word)


def test_the_next_writer_overwrites_what_a_killed_one_left(ram: Path) -> None:
    word = next(scenario.words("killed"))
    home = scenario.opened(ram / "home")
    n = home.new("harbour").n
    home.send(n, f"{word} here")
    with closing(sqlite3.connect(ram / "home" / "mlog.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        home.erase(scenario.newest(home, n))
        left = (ram / "home" / "mlog.db-wal").read_bytes()
        database = (ram / "home" / "mlog.db").read_bytes()
    home.close()
    assert word.encode() in left
    # As after kill -9: the files of the moment, and nobody who has them open.
    (ram / "home" / "mlog.db").write_bytes(database)
    (ram / "home" / "mlog.db-wal").write_bytes(left)
    with scenario.opened(ram / "home") as home:
        assert home.verify(signatures=True) == []
    assert_gone(ram / "home", word)


def test_overwriting_gaps_spares_the_rows_of_a_damaged_page(ram: Path) -> None:
    path = ram / "plain.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, body TEXT)")
        db.executemany("INSERT INTO t (body) VALUES (?)", [(f"row {n}",) for n in range(100)])
        db.commit()
    whole = path.read_bytes()
    page = 4096  # The table's only one; bytes 5 and 6 say where its cells start.
    for bit in range(8 * (page + 5), 8 * (page + 7)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        overwrite_gaps(path)
        changed = bytearray(path.read_bytes())
        changed[bit // 8] ^= 1 << bit % 8
        assert bytes(changed) == whole, f"bit {bit % 16}"
