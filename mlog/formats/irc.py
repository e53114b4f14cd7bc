"""IRC logs: every line that is not empty becomes exactly one record, in the order of the file.

How lines are read: mlog/formats/irc_lines.py. Times count as UTC. The date of a line comes from the
line, else from the last line that names a day, else from `Hints.date`, else from the file's
name (2020-01-02, 20200102, 2020_01_02), else it is 1 January 1970.

One file is one chat. Its channel is what the lines near the start say (a stamp that names it, "has
joined #x", "Now talking in #x"), else what the file's name says, with the network where that
names it (HexChat's `libera-#x.log`, WeeChat's `irc.libera.#x.weechatlog`): the key is
`irc:<network>/<channel>` or `irc:<channel>`, in lower case.

Lines without a known style are EVENTs with their whole text. Empty lines are `Skipped`, and count in
line numbers. A line longer than one entry is split (mlog/formats/texts.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

from mlog.formats.identity import Occurrences, again, of_line
from mlog.formats.irc_lines import LineReader
from mlog.formats.links import Links
from mlog.formats.record import Chat, Item, Record, Skipped
from mlog.formats.source import Source
from mlog.formats.texts import clip, decode, decode_head, fitted
from mlog.limits import TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind

__all__ = ["IrcImporter"]

_SNIFF_LINES_MAX: Final = 300
_SNIFF_KNOWN_PERCENT: Final = 60

_TEXT_LENGTH_SPLIT: Final = 16_384

_SAYS_CHANNEL: Final = re.compile(
    r"(?:joined|left|talking (?:in|on)|Topic for|topic of|topic for|mode/|Mode|Ident:|Channel) ?(?:channel )?"
    r"([#&][^\s,\]\[:]{1,100})"
)
_NAME_DATE: Final = re.compile(r"(?<!\d)(\d{4})([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_NAME_SUFFIX: Final = re.compile(r"(?i)\.(?:txt|log|raw|ascii|weechatlog|irc|gz|bak)$")
_NAME_CHANNEL: Final = re.compile(r"(?:(.*?)[._-])?([#&]+\S+)$")


class IrcImporter:
    """Logs of irssi, WeeChat, ZNC, HexChat, mIRC and relatives."""

    name = "irc"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether most lines at the start of a file are lines of an IRC log."""
        reader = LineReader(date(1970, 1, 1))
        lines = [line for line in decode_head(head).splitlines()[:_SNIFF_LINES_MAX] if line.strip()]
        read = [reader.read(line) for line in lines]
        known = sum(line.known for line in read)
        told = sum(line.known and (line.exact != "" or line.kind is Kind.MESSAGE) for line in read)
        return told > 0 and known * 100 >= len(lines) * _SNIFF_KNOWN_PERCENT

    def parse(self, source: Source) -> Iterator[Item]:
        """The log as records.

        Raises:
            LimitExceeded: A line or the links file is too long.
            InvalidInput: A line of the links file is none.
        """
        yield _chat(source.head(), source.name)
        links = None if source.links is None else Links(source.links, source.links_name)
        reader = LineReader(source.hints.date or _date_in(source.name) or date(1970, 1, 1))
        occurrences = Occurrences()
        number = 0
        for number, raw in source.lines():
            if not raw or raw.isspace():
                yield Skipped(position=number, reason="empty line")
                continue
            line = reader.read(decode(raw))
            first = of_line(f"{line.time_ms}{line.exact}", line.kind, line.author, line.text)
            mid = again(first, occurrences.nth(first, line.day))
            record = Record(
                kind=line.kind,
                mid=mid,
                author=line.author,
                text=line.text,
                time_ms=line.time_ms,
                position=number,
                to=() if links is None else links.parents(number - 1, mid),
            )
            if len(raw) < _TEXT_LENGTH_SPLIT:
                yield record
            else:
                yield from fitted(record)
        if links is not None:
            yield from links.unused()


def _date_in(name: str) -> date | None:
    for found in _NAME_DATE.finditer(name):
        try:
            return date(int(found[1]), int(found[3]), int(found[4]))
        except ValueError:
            continue
    return None


def _chat(head: bytes, name: str) -> Chat:
    stem = _NAME_DATE.sub("", name)
    while (shorter := _NAME_SUFFIX.sub("", stem)) != stem:
        stem = shorter
    stem = stem.strip(" ._-")
    network, channel = "", ""
    named = _NAME_CHANNEL.search(stem)
    if named is not None:
        network = (named[1] or "").removeprefix("irc.").strip("._-")
        channel = named[2]
    told = _channel_in(head)
    if told and told.lower() != channel.lower():
        network, channel = "", told
    if not channel:
        channel = stem if any(letter.isalpha() for letter in stem) else name
    key = f"irc:{network}/{channel}" if network else f"irc:{channel}"
    return Chat(key=clip(key.lower()), title=clip(channel, TITLE_SIZE_MAX_BYTES))


def _channel_in(head: bytes) -> str:
    reader = LineReader(date(1970, 1, 1))
    for text in decode_head(head).splitlines():
        line = reader.read(text)
        if reader.channel:
            return reader.channel
        if line.known and line.kind in (Kind.JOIN, Kind.PART, Kind.EVENT):
            found = _SAYS_CHANNEL.search(line.text)
            if found is not None:
                return found[1].rstrip(".")
    return ""
