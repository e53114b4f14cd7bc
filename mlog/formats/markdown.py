r"""A conversation as Markdown: for notes, wikis and everything that shows CommonMark.

A heading for each day, a paragraph that says who and when, the text as a quotation. Nothing that
people wrote is markup: what could be is escaped, so that the text reads as it was written,
with its line ends and spaces. A message that is answered has an anchor, and its replies link to it.
Times are UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from mlog.formats.folded import Answered, Told, moment, one_line, told
from mlog.formats.record import Chat, ExportRecord
from mlog.log.bodies import Kind

__all__ = ["MarkdownExporter"]

_MARKUP: Final = re.compile(r"[\\`*_\[\]<>&|~$]")
"""Means something anywhere in a line, in CommonMark or in what is added to it often: tables, maths."""

_AT_START: Final = re.compile(r"(?:[#+=:-]|(\d{1,9})([.)]))")
"""Means something at the start of a line only: headings, lists, rules."""

_SENTENCES: Final = frozenset((Kind.JOIN, Kind.PART, Kind.RENAME, Kind.EVENT))
"""Their text says who did what."""


class MarkdownExporter:
    """Writes one document."""

    name = "markdown"

    def export(self, chat: Chat, records: Iterable[ExportRecord]) -> Iterator[bytes]:
        """The title, then a message at a time."""
        yield f"# {_inline(chat.title) or '(no title)'}\n\nTimes are UTC.\n".encode()
        day = ""
        for one in told(records):
            when = moment(one.record.record.time_ms)
            today = "No date" if when is None else f"{when:%A, %Y-%m-%d}"
            if today != day:
                day = today
                yield f"\n## {today}\n".encode()
            yield _message(one).encode()


def _message(one: Told) -> str:
    record = one.record.record
    when = moment(record.time_ms)
    clock = "" if when is None else f" {when:%H:%M:%S}"
    anchor = f'<a id="m{one.n}"></a>' if one.answered else ""
    name = f"**{_inline(record.author) or '(nobody)'}**"
    head = f"\n{anchor}{name}{clock}"
    head += "".join(f", in answer to {_answer(answered)}" for answered in one.answers)
    head += ", edited" if one.edited else ""
    if record.kind is Kind.TITLE:
        return f"{head} called the conversation “{_inline(one.text)}”\n"
    if record.kind in _SENTENCES and one.text:
        return f"\n{anchor}*{_inline(one.text)}*{clock}\n"
    if record.erased or one.record.absent:
        body = "*(erased)*" if record.erased else "*(its text is not on this device)*"
    elif record.kind is Kind.ACTION:
        body = _block(f"* {one_line(record.author)} {one.text}")
    else:
        body = _block(one.text)
    reactions = " · ".join(
        f"{_inline(emoji)} {', '.join(_inline(author) for author in authors)}"
        for emoji, authors in one.reactions
    )
    files = "".join(f"\nAttachment: {_inline(file.name)}\n" for file in record.files)
    lines = body.split("\n") if body or not record.files else []
    quoted = "".join(f">{' ' if line else ''}{line}\n" for line in lines)
    return f"{head}\n\n{quoted}{files}" + (f"\n{reactions}\n" if reactions else "")


def _answer(answered: Answered) -> str:
    if not answered.n:
        return "a message that is not in this file"
    words = (
        f"{_inline(answered.author)}: {_inline(answered.start)}"
        if answered.start
        else _inline(answered.author)
    )
    return f"[{words or 'a message'}](#m{answered.n})"


def _inline(text: str) -> str:
    """A name or title inside a line."""
    return _line(one_line(text))


def _block(text: str) -> str:
    """A text of several lines: hard line breaks, and paragraphs where lines are empty."""
    lines = [_line(line) for line in text.split("\n")]
    broken = [
        f"{line}\\" if line and at + 1 < len(lines) and lines[at + 1] else line
        for at, line in enumerate(lines)
    ]
    return "\n".join(broken)


def _line(line: str) -> str:
    """One line as text and nothing else."""
    body = line.strip()
    if not body:
        return ""
    start, end = line[: len(line) - len(line.lstrip())], line[len(line.rstrip()) :]
    escaped = _MARKUP.sub(lambda found: "\\" + found[0], body)
    marked = _AT_START.match(escaped)
    if marked is not None:
        number = marked[1]
        escaped = f"{number}\\{escaped[len(number) :]}" if number else f"\\{escaped}"
    # Spaces at the ends of a line mean something, or are dropped: as references they are text.
    return "".join(f"&#{ord(one)};" for one in start) + escaped + "".join(f"&#{ord(one)};" for one in end)
