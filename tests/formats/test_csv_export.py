"""The table: read back by Python's csv, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from mlog.formats import File, Provenance
from mlog.formats.csv_export import COLUMNS
from mlog.log.bodies import Kind
from tests.formats.exporting import HOSTILE, mid, reaction, record, texts, written


def rows(text: str) -> list[dict[str, str]]:
    assert "\r" not in text.replace("\r\n", "").replace('"', "") or '"' in text
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def without_guard(cell: str) -> str:
    """As the documentation of the format tells to."""
    return cell.removeprefix("'")


def test_a_row_says_all_that_is_known_of_a_message() -> None:
    source = Provenance(format="irc", name="a.log")
    records = [
        record(1, "old", current="new", source=source, files=(File(name="a.jpg"), File(name="=b.pdf"))),
        record(2, "yes", "Bo", kind=Kind.REPLY, to=(mid(1),), time_ms=0),
        reaction(3, 1, "👍", "Bo"),
        record(4, "", erased=True),
    ]
    text = written("csv", records)
    assert text.startswith(",".join(COLUMNS) + "\r\n")
    first, second, third = rows(text)
    assert first == {
        "time": "2024-05-01T10:01:00Z",
        "author": "Ann",
        "kind": "message",
        "text": "new",
        "edited": "1",
        "erased": "",
        "reactions": "👍 1",
        "message_id": mid(1).hex(),
        "reply_to": "",
        "attachments": "a.jpg; =b.pdf",
        "imported": "irc a.log",
    }
    assert (second["time"], second["kind"], second["reply_to"]) == ("", "message", mid(1).hex())
    assert (third["text"], third["erased"]) == ("", "1")


@given(st.lists(st.tuples(texts, texts), max_size=6))
def test_every_cell_is_read_back_and_no_cell_begins_a_formula(said: list[tuple[str, str]]) -> None:
    back = rows(written("csv", [record(n, text, author) for n, (author, text) in enumerate(said)]))
    assert len(back) == len(said)
    for row, (author, text) in zip(back, said, strict=True):
        assert without_guard(row["text"]) == text.replace("\0", "\ufffd")
        assert without_guard(row["author"]) == author.replace("\0", "\ufffd")
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
            assert not cell.lstrip().startswith(("=", "+", "-", "@"))


def test_hostile_texts_are_guarded_also_behind_spaces_and_marks() -> None:
    for start in ("=1", " =1", "\t@x", "\ufeff+1", "\u200b-1", "\xa0=1", "＝1"):
        [row] = rows(written("csv", [record(1, start)]))
        assert row["text"] == "'" + start
    assert len(rows(written("csv", [record(n, text) for n, text in enumerate(HOSTILE)]))) == len(HOSTILE)


def test_events_of_titles_and_edits_have_no_row() -> None:
    records = [record(1, "Garden", kind=Kind.TITLE), record(2, "x", kind=Kind.EDIT, to=(mid(9),))]
    assert rows(written("csv", records)) == []
