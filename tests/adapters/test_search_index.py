"""The search index against its words: silent on what is whole, and not on what a search would miss."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlog import limits
from mlog.adapters.sqlite import SqliteStore
from mlog.errors import StoreError

SEED = 5
Words = dict[int, str]


def filled(path: Path, words: Words, *, page_size: int | None = None) -> SqliteStore:
    """An index in several segments, some of whose words are deleted again; small pages make many."""
    store = SqliteStore(path)
    with store.transaction():
        if page_size is not None:
            store._run("INSERT INTO search (search, rank) VALUES ('pgsz', ?)", (page_size,))
    batches = list(words.items())
    for start in range(0, len(batches), 20):
        with store.transaction():
            batch = batches[start : start + 20]
            store.insert([], [], [], [*batch, (10**6 + start, "gone again")])
            store._run(
                "INSERT INTO search (search, rowid, words) VALUES ('delete', ?, 'gone again')",
                (10**6 + start,),
            )
    return store


def some_words(count: int, seed: object = SEED) -> Words:
    rng = random.Random(f"{seed}")
    known = ["".join(rng.choices("abcd", k=rng.randint(1, 6))) for _ in range(40)]
    weights = [1 / (rank + 1) for rank in range(40)]
    n, words = 0, Words()
    for _ in range(count):
        n += rng.choice([1, 1, 1, 2, 300])
        words[n] = " ".join(rng.choices(known, weights, k=rng.randint(1, 8)))
    return words


def holds(store: SqliteStore, words: Words, *, thorough: bool = False) -> bool:
    return store.holds_words(words.items(), thorough=thorough)


@pytest.mark.parametrize("thorough", [False, True])
def test_an_index_holds_its_own_words_and_no_others(tmp_path: Path, thorough: bool):
    words = {1: "ten green bottles", 2: "ten ten ten", 5: "Äpfel u1f600 x", 9: "…"}
    with closing(filled(tmp_path / "mlog.db", words)) as store:
        assert holds(store, words, thorough=thorough)
        others: list[Words] = [
            {},
            {n: text for n, text in words.items() if n != 5},
            {**words, 6: "more"},
            {**words, 1: "green ten bottles"},
            {**words, 1: "ten green bottle"},
            {**words, 2: "ten ten"},
            {3 if n == 2 else n: text for n, text in words.items()},
            {**words, 1: words[2], 2: words[1]},
        ]
        assert not any(holds(store, other, thorough=thorough) for other in others)
        # Without letters or digits there is nothing to hold.
        assert holds(store, {**words, 7: " -- "}, thorough=thorough)


def test_what_nobody_knows_is_right_whatever_it_is(tmp_path: Path):
    words = {1: "one", 2: "two", 3: "three"}
    with closing(filled(tmp_path / "mlog.db", words)) as store:
        for thorough in (False, True):
            assert store.holds_words([(1, "one"), (2, None), (3, "three")], thorough=thorough)
            assert store.holds_words([(1, "one"), (2, "two"), (3, "three"), (4, None)], thorough=thorough)
            assert not store.holds_words([(1, "one"), (2, None)], thorough=thorough)


def test_more_words_than_are_taken_at_once_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "SEARCH_CHECK_SIZE", 50)
    words = some_words(100)
    with closing(filled(tmp_path / "mlog.db", words)) as store:
        assert holds(store, words)
        last = max(words)
        assert not holds(store, {**words, last: f"{words[last]} more"})


def test_asking_leaves_nothing_behind(tmp_path: Path):
    words = {1: "one"}
    with closing(filled(tmp_path / "mlog.db", words)) as store:
        for _ in range(2):
            with store.transaction():
                assert holds(store, words)
        assert holds(store, words)
        assert (tmp_path / "mlog.db").stat().st_mode & 0o077 == 0
        names = store._db.execute("SELECT name FROM sqlite_master").fetchall()
        assert not [name for (name,) in names if name in (b"places", b"terms")]


def test_a_disk_that_fails_is_not_taken_for_a_wrong_index(tmp_path: Path):
    with closing(filled(tmp_path / "mlog.db", {1: "one"})) as store:

        def failing() -> Iterator[tuple[int, str]]:
            yield 1, "one"
            raise StoreError("the disk reports an error")

        with pytest.raises(StoreError, match="the disk"):
            store.holds_words(failing())
        assert holds(store, {1: "one"})


# -- one flipped bit -------------------------------------------------------------------------


class Patient:
    """An index, damaged again and again by another connection, and put right."""

    def __init__(self, store: SqliteStore, words: Words, seed: int):
        self.store, self.words = store, words
        self._db = sqlite3.connect(store.path, isolation_level=None)
        self._db.execute("PRAGMA synchronous=OFF")
        rng = random.Random(seed)
        terms = sorted({term for text in words.values() for term in text.split()})
        starts = sorted({term[:size] for term in terms for size in range(1, len(term))})
        pairs = [rng.choices(terms, k=2) for _ in range(30)]
        pairs += [text.split()[:2] for text in rng.choices([*words.values()], k=30) if " " in text]
        self._queries = [f'"{term}"' for term in (*rng.sample(terms, min(40, len(terms))), "absent")]
        self._queries += [f'"{start}"*' for start in rng.sample(starts, min(40, len(starts)))]
        self._queries += [form.format(*pair) for pair in pairs for form in ('"{} {}"', '"{}" "{}"')]
        self._found = self._search()

    def close(self) -> None:
        self._db.close()

    def _search(self) -> list[list[int]] | None:
        try:
            return [self.store.search(query, None, limits.STORE_ROWS_MAX) for query in self._queries]
        except StoreError:
            return None

    def cells(self) -> list[tuple[str, str, int, int, object]]:
        """Table, column, rowid or place in order, size in bits, and value of all that the index is."""
        data = self._db.execute("SELECT id, block FROM search_data ORDER BY id").fetchall()
        found: list[tuple[str, str, int, int, object]] = [
            ("search_data", "block", id_, 8 * len(block), block) for id_, block in data
        ]
        found += [("search_data", "id", id_, 63, id_) for id_, _ in data]
        rows = self._db.execute("SELECT segid, term, pgno FROM search_idx ORDER BY segid, term").fetchall()
        for number, row in enumerate(rows):
            for column, value in zip(("segid", "term", "pgno"), row, strict=True):
                bits = 63 if isinstance(value, int) else 8 * len(value)
                found.append(("search_idx", column, number, bits, value))
        return found

    def flip(self, table: str, column: str, place: int, value: object, bit: int) -> bool:
        """Flip a bit; False if a constraint forbids it."""
        if isinstance(value, int):
            changed: object = value ^ 1 << bit
        else:
            content = bytearray(value if isinstance(value, bytes) else str(value).encode())
            content[bit // 8] ^= 1 << bit % 8
            changed = bytes(content)
        try:
            if table == "search_data":
                self._db.execute(f"UPDATE search_data SET {column} = ? WHERE id = ?", (changed, place))
                return True
            row = self._db.execute(
                "SELECT segid, term FROM search_idx ORDER BY segid, term LIMIT 1 OFFSET ?", (place,)
            ).fetchone()
            self._db.execute(
                f"UPDATE search_idx SET {column} = ? WHERE segid = ? AND term = ?", (changed, *row)
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def missed(self, *, thorough: bool) -> bool | None:
        """Whether the damage changes a search and no check says so; None if no search changes."""
        if self._search() == self._found:
            return None
        store = self.store
        try:
            return (
                not store.check_file() and store.check_index() and holds(store, self.words, thorough=thorough)
            )
        except StoreError:
            return False

    def keep(self) -> list[tuple[str, list[tuple[object, ...]]]]:
        names = ("search_data", "search_idx")
        return [(name, self._db.execute(f"SELECT * FROM {name}").fetchall()) for name in names]

    def restore(self, kept: list[tuple[str, list[tuple[object, ...]]]]) -> None:
        self._db.execute("BEGIN")
        for name, rows in kept:
            self._db.execute(f"DELETE FROM {name}")
            self._db.executemany(f"INSERT INTO {name} VALUES ({','.join('?' * len(rows[0]))})", rows)
        self._db.execute("COMMIT")


def flips(patient: Patient, step: int) -> Iterator[tuple[str, str, int, object, int]]:
    number = 0
    for table, column, place, bits, value in patient.cells():
        for bit in range(bits):
            number += 1
            if number % step == 0:
                yield table, column, place, value, bit


@pytest.mark.parametrize(("page_size", "merged"), [(64, False), (32, True)])
def test_every_flipped_bit_that_changes_a_search_is_found(
    request: pytest.FixtureRequest, tmp_path: Path, page_size: int, merged: bool
):
    words = some_words(80)
    with closing(filled(tmp_path / "mlog.db", words, page_size=page_size)) as store:
        if merged:
            # One segment, in which lists of places span many pages.
            with store.transaction():
                store._run("INSERT INTO search (search) VALUES ('optimize')")
        with closing(Patient(store, words, SEED)) as patient:
            kept, missed, mattered = patient.keep(), list[object](), 0
            for flip in flips(patient, 1 if request.config.getoption("--slow") else 53):
                if patient.flip(*flip):
                    verdict = patient.missed(thorough=True)
                    mattered += verdict is not None
                    if verdict:
                        missed.append(flip)
                    patient.restore(kept)
            assert missed == []
            assert mattered > 100
            assert patient.missed(thorough=True) is None
            assert holds(store, words, thorough=True)


def test_flipped_bits_in_a_larger_index_are_found(request: pytest.FixtureRequest, tmp_path: Path):
    count = 2_000 if request.config.getoption("--slow") else 60
    rng = random.Random(SEED)
    words = {n: " ".join(f"{rng.randrange(3_000):x}" for _ in range(8)) for n in range(1, 3_000)}
    with (
        closing(filled(tmp_path / "mlog.db", words)) as store,
        closing(Patient(store, words, SEED)) as patient,
    ):
        kept, cells = patient.keep(), patient.cells()
        missed: list[object] = []
        for _ in range(count):
            table, column, place, bits, value = rng.choices(cells, [cell[3] for cell in cells])[0]
            flip = table, column, place, value, rng.randrange(bits)
            if patient.flip(*flip):
                if patient.missed(thorough=True):
                    missed.append(flip)
                patient.restore(kept)
        assert missed == []
