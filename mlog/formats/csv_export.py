"""A conversation as a table: RFC 4180, UTF-8, a row for each message, texts after all edits.

| column      | meaning                                                                                |
|-------------|----------------------------------------------------------------------------------------|
| time        | as its author claims, in UTC: 2020-01-02T10:04:05Z; empty where there is none          |
| author      | who said it                                                                            |
| kind        | message, action, notice, join, part, rename or event                                   |
| text        | as it reads now; empty if it is erased                                                 |
| edited      | 1 if the text is that of an edit                                                       |
| erased      | 1 if it was erased                                                                     |
| reactions   | emoji and how often: "👍 2 🎉 1"                                                         |
| message_id  | identity of the message, 32 hexadecimal digits                                         |
| reply_to    | message_ids of what it answers, with spaces between                                    |
| attachments | names of its files, with "; " between                                                  |
| imported    | format and name of the file that it came from; empty for one written in mlog           |

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@` as a formula, which can fetch and send; a
message from anybody may begin so. Such a cell, also after spaces or control characters, gets an
apostrophe before it, and so does one that begins with an apostrophe. So whoever wants the exact
text takes one apostrophe away from each cell that begins with one.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Final

from mlog.formats.folded import Told, moment, told
from mlog.formats.record import Chat, ExportRecord
from mlog.log.bodies import SPOKEN, Kind, kind_name

__all__ = ["COLUMNS", "CsvExporter"]

COLUMNS: Final = (
    "time",
    "author",
    "kind",
    "text",
    "edited",
    "erased",
    "reactions",
    "message_id",
    "reply_to",
    "attachments",
    "imported",
)

_FORMULA: Final = re.compile(
    r"[\s\x00-\x20\x7f-\xa0\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*[=+\-@＝＋－＠﹣−]|['\t\r\n]"
)


class CsvExporter:
    """Writes a table."""

    name = "csv"

    def export(self, chat: Chat, records: Iterable[ExportRecord]) -> Iterator[bytes]:  # noqa: ARG002 (a table has no title)
        """The head, then a row at a time."""
        yield _row(COLUMNS)
        for one in told(records):
            if one.record.record.kind in SPOKEN:
                yield _row(_cells(one))


def _cells(one: Told) -> Iterable[str]:
    exported, record = one.record, one.record.record
    when = moment(record.time_ms)
    text = record.text if exported.current is None else exported.current
    source = exported.source if one.claimed else None
    return (
        "" if when is None else f"{when:%Y-%m-%dT%H:%M:%S}Z",
        record.author,
        "message" if record.kind is Kind.REPLY else kind_name(record.kind),
        "" if record.erased else text,
        "1" if one.edited else "",
        "1" if record.erased else "",
        " ".join(f"{emoji} {len(authors)}" for emoji, authors in one.reactions),
        record.mid.hex(),
        " ".join(mid.hex() for mid in record.to),
        "" if record.erased else "; ".join(file.name for file in record.files),
        "" if source is None else f"{source.format} {source.name}".strip(),
    )


def _row(cells: Iterable[str]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow([_guarded(cell) for cell in cells])
    return line.getvalue().encode()


def _guarded(cell: str) -> str:
    # NUL is no character of a table: many readers end a cell there.
    cell = cell.replace("\0", "\ufffd")
    return "'" + cell if _FORMULA.match(cell) else cell
