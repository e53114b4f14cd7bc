"""Signal chats as text: chat.md of sigexport, and the text files of signalbackup-tools.

| line                                        | becomes                                        |
|---------------------------------------------|------------------------------------------------|
| [2024-01-02 15:04:05] Ann: text             | MESSAGE; lines without a stamp go on with it   |
| (- Ben: ☕, Cat: 🙂 -)                       | REACTIONs                                      |
| > words, before an empty line               | `to` where they were said before, else text    |
| ![a.jpg](./media/a.jpg)                     | an attachment; the words go where it is there  |
| (This message was deleted)                  | an erased message                              |
| [Jan 02, 2024 15:04:05] <Ann> text          | MESSAGE                                        |
| [Jan 02, 2024 15:04:05] *** Ann called you  | EVENT                                          |
| [...] *** <Ann> sent file "a.jpg"           | MESSAGE with an attachment                     |
| ... text (Ben: ☕; Cat: 🙂)                  | REACTIONs, where all of it are names and emoji |

Times are of the clock of the machine that exported: UTC unless `Hints.zone` says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

from mlog.errors import LimitExceeded
from mlog.formats.beside import Beside, folder_of
from mlog.formats.clock_words import month
from mlog.formats.identity import Occurrences, of_id, of_line
from mlog.formats.quotes import Said
from mlog.formats.record import File, Item, Record, Skipped
from mlog.formats.source import Source
from mlog.formats.texts import decode, fitted
from mlog.limits import EMOJI_SIZE_MAX_BYTES, MESSAGE_LINES_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

__all__ = ["TextReader", "is_signal_text"]

_MARKDOWN: Final = re.compile(
    r"\[(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d),? (?P<h>\d\d):(?P<m>\d\d)(?::(?P<s>\d\d))?\] ?"
    r"(?P<name>[^:\n]{0,128}):(?: |$)"
)
_BACKUP: Final = re.compile(
    r"\[(?P<mon>[^\W\d]{1,12}\.?) (?P<D>\d\d), (?P<Y>\d{4}) (?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)\] "
    r"(?P<status>\*{3} )?(?:<(?P<name>[^\n]{0,128}?)> )?"
)
_REACTIONS: Final = re.compile(r"\n\(- (?P<all>[^\n]{1,4096}) -\)(?= *(?:\n|$|!?\[))")
_QUOTED: Final = re.compile(r"\n*(?P<lines>(?:>[^\n]*\n)+)\n*")
_LINK: Final = re.compile(r"!?\[(?P<name>[^\[\]\n]{0,255})\]\(\./(?P<path>[^()\n]{1,1024})\)")
_SENT: Final = re.compile(r"sent file(?: \"(?P<name>[^\n]{1,255})\"| of type (?P<type>\S{1,100}))?")
_NAMED_EMOJI: Final = re.compile(r" \((?P<all>[^\n]{1,4096})\)$")
_BRACKETS: Final = re.compile(r"[^()]*(?:\([^()]*\)[^()]*)*")
_DELETED: Final = "(This message was deleted)"


def is_signal_text(text: str, name: str) -> bool:
    """Whether a text begins like one of these; WhatsApp's Swedish stamps look alike."""
    first = text.lstrip("\ufeff\r\n ").partition("\n")[0]
    if _BACKUP.match(first) is not None:
        found = _BACKUP.match(first)
        return found is not None and month(found["mon"]) > 0 and bool(found["status"] or found["name"])
    found = _MARKDOWN.match(first)
    if found is None or "\u200e" in text:
        return False
    lines = text.replace("\r\n", "\n").split("\n")
    stamped = [at for at, line in enumerate(lines) if _MARKDOWN.match(line)]
    apart = sum(at > 0 and not lines[at - 1].strip() for at in stamped[1:])
    comma = first[11:12] == "," and found["s"] is None
    return comma or name.lower().endswith(".md") or (len(stamped) > 1 and apart * 2 > len(stamped) - 1)


class TextReader:
    """Makes records of one file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._beside = Beside(source.tree, folder_of(source.path))
        self._occurrences = Occurrences()
        self._said = Said()
        self._stamp: re.Pattern[str] | None = None
        self._found: re.Match[str] | None = None
        self._number = 0
        self._size = 0
        self._lines: list[str] = []

    def items(self) -> Iterator[Item]:
        """Everything in the file.

        Raises:
            LimitExceeded: A line or message is too long.
        """
        for number, raw in self._source.lines():
            text = decode(raw)
            found = self._match(text)
            if found is not None:
                yield from self._close()
                self._found, self._number, self._size = found, number, len(raw)
                self._lines = [text[found.end() :]]
            elif self._found is not None:
                self._size += len(raw) + 1
                if self._size > MESSAGE_LINES_SIZE_MAX_BYTES:
                    raise LimitExceeded(
                        f"more than {MESSAGE_LINES_SIZE_MAX_BYTES:,} bytes in one message",
                        source=self._source.name,
                        position=self._number,
                    )
                self._lines.append(text)
            elif text.strip():
                yield from self._record(number, Kind.EVENT, "", text, 0, "")
            else:
                yield Skipped(position=number, reason="empty line")
        yield from self._close()

    def _match(self, text: str) -> re.Match[str] | None:
        for style in (self._stamp,) if self._stamp is not None else (_MARKDOWN, _BACKUP):
            found = style.match(text)
            if found is not None and self._time_ms(found) is not None:
                self._stamp = style
                return found
        return None

    def _time_ms(self, found: re.Match[str]) -> int | None:
        groups = found.groupdict()
        number = int(groups["M"]) if groups.get("M") else month(groups.get("mon") or "")
        try:
            moment = datetime(
                int(groups["Y"]),
                number,
                int(groups["D"]),
                int(groups["h"]),
                int(groups["m"]),
                int(groups["s"] or 0),
                tzinfo=self._source.hints.zone or UTC,
            )
            return max(int(moment.timestamp() * 1000), 0)
        except (ValueError, OverflowError):
            return None

    def _close(self) -> Iterator[Item]:
        """The message whose lines were gathered."""
        found = self._found
        if found is None:
            return
        text = "\n".join(line.rstrip(" ") if line.endswith("  ") else line for line in self._lines)
        text = text.rstrip("\n")
        time_ms = self._time_ms(found) or 0
        exact = "s" if found["s"] else "m"
        author = found["name"] or ""
        if self._stamp is _BACKUP:
            text, named = _without_reactions(text) if author else (text, [])
            sent = _SENT.match(text) if found["status"] and author else None
            files = () if sent is None else (self._sent(sent),)
            shown = "" if files and files[0].path else None
            kind = Kind.EVENT if found["status"] and sent is None else Kind.MESSAGE
            yield from self._record(
                self._number,
                kind,
                author,
                text,
                time_ms,
                exact,
                files=files,
                shown=shown,
                reactions=named,
            )
            return
        reactions = _REACTIONS.search(text)
        if reactions is not None:
            text = text[: reactions.start()] + text[reactions.end() :]
        links = [(one, self._linked(one)) for one in _LINK.finditer(text)]
        here = [one[0] for one, file in links if file.path]
        shown, parent = self._answered(text)
        for written in here:
            shown = shown.replace(written, "", 1)
        yield from self._record(
            self._number,
            Kind.MESSAGE,
            author,
            text,
            time_ms,
            exact,
            files=tuple(file for _, file in links),
            shown=shown.strip() if here or parent is not None else None,
            to=() if parent is None else (parent,),
            reactions=[] if reactions is None else reactions["all"].split(", "),
        )

    def _record(
        self,
        number: int,
        kind: Kind,
        author: str,
        text: str,
        time_ms: int,
        exact: str,
        files: tuple[File, ...] = (),
        shown: str | None = None,
        to: tuple[MessageId, ...] = (),
        reactions: Sequence[str] = (),
    ) -> Iterator[Item]:
        erased = kind is Kind.MESSAGE and text == _DELETED
        first = of_line(f"{time_ms}{exact}", kind, author, text)
        record = Record(
            kind=kind,
            mid=self._occurrences.identity(first, time_ms),
            author=author,
            text="" if erased else text if shown is None else shown,
            time_ms=time_ms,
            position=number,
            to=() if erased else to,
            erased=erased,
            files=files,
        )
        yield from fitted(record)
        self._said.remember(self._answered(text)[0], record.mid)
        for one in reactions:
            name, _, emoji = one.rpartition(": ")
            if not name or not 0 < len(emoji.encode()) <= EMOJI_SIZE_MAX_BYTES:
                yield Skipped(position=number, reason="a reaction that is no emoji")
                continue
            yield from fitted(
                Record(
                    kind=Kind.REACTION,
                    mid=of_id("signal", f"{record.mid.hex()} reaction {name} {emoji}"),
                    author=name,
                    text=emoji,
                    time_ms=time_ms,
                    position=number,
                    to=(record.mid,),
                )
            )

    def _answered(self, text: str) -> tuple[str, MessageId | None]:
        """A text without the quotation at its start, and the message that it quotes."""
        found = _QUOTED.match(text)
        if found is None:
            return text, None
        lines = found["lines"].rstrip("\n").split("\n")
        parent = self._said.find("\n".join(line.removeprefix(">").removeprefix(" ") for line in lines))
        return (text, None) if parent is None else (text[found.end() :], parent)

    def _linked(self, found: re.Match[str]) -> File:
        path = self._beside.find(unquote(found["path"])) or self._beside.find(found["path"])
        return self._beside.file(found["name"] or unquote(found["path"]), path)

    def _sent(self, found: re.Match[str]) -> File:
        name = found["name"] or ""
        return self._beside.file(name or "file", self._beside.find(name), found["type"] or "")


def _without_reactions(text: str) -> tuple[str, list[str]]:
    """A text and the reactions behind it; brackets with any other words stay in the text."""
    found = _NAMED_EMOJI.search(text, max(0, text.rfind("\n")))
    while found is not None:
        reactions = found["all"].split("; ")
        if all(_is_reaction(one) for one in reactions):
            return text[: found.start()], reactions
        found = _NAMED_EMOJI.search(text, found.start() + 1)  # Another bracket stands before it.
    return text, []


def _is_reaction(named: str) -> bool:
    name, _, emoji = named.rpartition(": ")
    if not name or not 0 < len(emoji.encode()) <= EMOJI_SIZE_MAX_BYTES:
        return False
    if _BRACKETS.fullmatch(name) is None:
        return False
    return not any(char.isalpha() or char.isspace() for char in emoji) and not emoji.isascii()
