"""A conversation as one HTML file to read, search and print, on any machine and without a network.

Everything is in the file (mlog/formats/html_page.py has its fixed parts). What people wrote is text and
never markup: it is escaped, in a place where only text can be, and its direction of writing
ends with it. Addresses in texts are no links, because a browser may look them up unasked.
Messages stand in short runs that the browser draws when they come into view, so that tens of
thousands stay quick. Times are UTC.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from blake3 import blake3

from mlog.formats.folded import Answered, Told, moment, one_line, told
from mlog.formats.html_page import HUES, POLICY, SCRIPT, STYLE
from mlog.formats.record import Chat, ExportRecord
from mlog.log.bodies import Kind
from mlog.plurals import counted

__all__ = ["HtmlExporter"]

_RUN_LENGTH: Final = 40
"""Messages that are drawn together: a few screens."""

_SHORT_RUN: Final = 5
"""Up to here the guess of a run's height is a tenth, for days with little in them."""

_TOGETHER_S: Final = 300
"""Messages of one author with less between them share one name."""

_REACTED_MAX: Final = 3
"""Names that are shown at a reaction; the others are counted, and in its title."""

_SENTENCES: Final = frozenset((Kind.JOIN, Kind.PART, Kind.RENAME, Kind.EVENT))
"""Their text says who did what."""

_EVENTS: Final = _SENTENCES | {Kind.TITLE, Kind.ACTION}
"""Lines without a picture of their author."""


class HtmlExporter:
    """Writes one page."""

    name = "html"

    def export(self, chat: Chat, records: Iterable[ExportRecord]) -> Iterator[bytes]:
        """The page, a message at a time."""
        for piece in _page(chat, records):
            yield piece.encode("utf-8", "replace")


def _page(chat: Chat, records: Iterable[ExportRecord]) -> Iterator[str]:
    title = html.escape(one_line(chat.title)) or "(no title)"
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1 dir="auto">{title}</h1>\n'
        '<p class="about">Exported from mlog. Times are UTC, as their authors claim them.</p></header>\n'
        '<div class="bar" role="search" hidden><div>'
        '<input id="find" type="search" placeholder="Search" aria-label="Search messages" autocomplete="off">'
        '<select id="day" aria-label="Go to a day"><option value="">Go to a day</option></select>'
        '<output id="count" role="status"></output></div></div>\n<main>\n'
    )
    count = 0
    claimed = False
    for run in _runs(told(records)):
        yield from run.opening
        yield f'<div class="run{" short" if len(run.messages) <= _SHORT_RUN else ""}">\n'
        before: Told | None = None
        for one in run.messages:
            yield _message(one, together=before is not None and _together(before, one))
            before = one
            claimed = claimed or one.claimed
        yield "</div>\n"
        count += len(run.messages)
    yield "</section>\n" if count else ""
    signs = " A name underlined with dots is what an imported file says; its owner did not sign for it."
    about = f"{counted(count, 'message or event', 'messages and events')}.{signs if claimed else ''}"
    yield (
        f'</main>\n<footer><p class="about">{about}</p></footer>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


class _Run:
    """Messages of one day that follow each other, and what is to be written before them."""

    def __init__(self, opening: tuple[str, ...]) -> None:
        self.opening = opening
        self.messages: list[Told] = []


def _runs(messages: Iterable[Told]) -> Iterator[_Run]:
    run: _Run | None = None
    days = 0
    day = ""
    for one in messages:
        when = moment(one.record.record.time_ms)
        today = _day(when)
        if run is None or today != day or len(run.messages) >= _RUN_LENGTH:
            if run is not None:
                yield run
            run = _Run(())
            if today != day:
                day = today
                days += 1
                run.opening = (
                    "</section>\n" if days > 1 else "",
                    f'<section aria-labelledby="d{days}"><h2 id="d{days}">{today}</h2>\n',
                )
        run.messages.append(one)
    if run is not None:
        yield run


def _day(when: datetime | None) -> str:
    return "No date" if when is None else f"{when:%A}, {when.day} {when:%B} {when.year}"


def _together(before: Told, one: Told) -> bool:
    """Whether a message needs no name of its own."""
    first, second = before.record.record, one.record.record
    return (
        first.author == second.author
        and before.claimed == one.claimed
        and not {first.kind, second.kind} & _EVENTS
        and 0 <= second.time_ms - first.time_ms < _TOGETHER_S * 1000
    )


def _message(one: Told, *, together: bool) -> str:
    record = one.record.record
    event = record.kind in _EVENTS
    author = one_line(record.author)
    hue = blake3(author.encode("utf-8", "replace")).digest(length=1)[0] % HUES
    classes = [f"h{hue}"]
    classes += ["on"] if together else []
    classes += ["event"] if event else []
    classes += ["gone"] if record.erased or one.record.absent else []
    who = 'class="who said" title="As an imported file says"' if one.claimed else 'class="who"'
    name = f"<bdi {who}>{html.escape(author) or '(nobody)'}</bdi>"
    face = f'<span class="face" aria-hidden="true">{_initial(author)}</span>'
    shown = "" if record.kind in _SENTENCES and one.text else f'<div class="head">{name} '
    pieces = [
        f'<article id="m{one.n}" class="{" ".join(classes)}">',
        "" if event else face,
        shown and f"{shown}{'' if event else _clock(one)}</div>",
        *(_answer(answered) for answered in one.answers),
        _text(one),
        _clock(one) if event else "",
        _before(one),
        _files(one),
        _reactions(one),
        "</article>\n",
    ]
    return "".join(pieces)


def _initial(author: str) -> str:
    return html.escape(next((one.upper() for one in author if unicodedata.category(one)[0] in "LN"), "?"))


def _clock(one: Told) -> str:
    when = moment(one.record.record.time_ms)
    if when is None:
        return ""
    return f'<a class="at" href="#m{one.n}"><time datetime="{when.isoformat()}">{when:%H:%M}</time></a>'


def _answer(answered: Answered) -> str:
    if not answered.n:
        return '<span class="re">In answer to a message that is not in this file</span>'
    author = html.escape(one_line(answered.author)) or "(nobody)"
    start = html.escape(answered.start)
    return (
        f'<a class="re" href="#m{answered.n}"><span class="quiet">In answer to </span>↩ '
        f"<bdi><b>{author}</b></bdi> <bdi>{start}</bdi></a>"
    )


def _text(one: Told) -> str:
    record = one.record.record
    if record.erased or one.record.absent:
        return f'<div class="text">{"Erased" if record.erased else "Its text is not on this device"}</div>'
    body = html.escape(one.text)
    if record.kind is Kind.TITLE:
        return f'<div class="text">called the conversation <bdi>{body}</bdi></div>'
    return f'<div class="text" dir="auto" lang="">{body}</div>'


def _before(one: Told) -> str:
    if not one.edited:
        return ""
    return (
        '<details><summary>Edited</summary><div class="text" dir="auto" lang="">'
        f"{html.escape(one.before)}</div></details>"
    )


def _files(one: Told) -> str:
    """The names of attachments; their bytes are not in the page."""
    files = one.record.record.files
    if not files:
        return ""
    names = "".join(f"<li>📎 <bdi>{html.escape(one_line(file.name))}</bdi></li>" for file in files)
    return f'<ul aria-label="Attachments">{names}</ul>'


def _reactions(one: Told) -> str:
    if not one.reactions:
        return ""
    pills: list[str] = []
    for emoji, authors in one.reactions:
        names = [html.escape(one_line(author)) or "(nobody)" for author in authors]
        shown = ", ".join(f"<bdi>{name}</bdi>" for name in names[:_REACTED_MAX])
        more = f" and {len(names) - _REACTED_MAX:,} more" if len(names) > _REACTED_MAX else ""
        pills.append(
            f'<li title="{", ".join(names)}"><bdi>{html.escape(one_line(emoji))}</bdi> {shown}{more}</li>'
        )
    return f'<ul aria-label="Reactions">{"".join(pills)}</ul>'
