"""Signal chats, as programs that read its database write them: Signal itself exports none to read.

| file                          | written by                         | read by        |
|-------------------------------|------------------------------------|----------------|
| data.json, a message a line   | sigexport                          | here           |
| chat.md, index.md             | sigexport                          | signal_text.py |
| "Name (_id7).txt"             | signalbackup-tools                 | signal_text.py |
| Name.html                     | signalbackup-tools                 | signal_pages.py|
| SMS Backup & Restore's XML    | signalbackup-tools and others      | sms.py         |

The chat is called as the folder of the file. Signal knows a message by its milliseconds:
where a date has them they alone are the identity, so that edits and both sides' names for each
other change nothing; else date, author and text are.

A quotation becomes `to` where the words were said before, else lines with ">" before the text.
Reactions, former versions (EDITs) and erased messages are records of their own; calls are EVENTs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, cast
from urllib.parse import unquote

import msgspec

from mlog.formats.beside import Beside, folder_of
from mlog.formats.identity import Occurrences, of_id, of_line
from mlog.formats.quotes import Said
from mlog.formats.record import Chat, File, Item, Record, Skipped
from mlog.formats.signal_html import is_page
from mlog.formats.signal_pages import items_of_page
from mlog.formats.signal_text import TextReader, is_signal_text
from mlog.formats.source import Source
from mlog.formats.texts import clean, clip, decode, decode_head, fitted
from mlog.limits import EMOJI_SIZE_MAX_BYTES, TIME_MAX_MS, TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

__all__ = ["SignalImporter"]

_NAMELESS: Final = frozenset(("", "data", "chat", "index", "stdin", "<stdin>"))
_ENDING: Final = re.compile(r"(?i)(?: \(_id\d+\))?(?:\.data)?\.(?:json|jsonl|md|txt)$")


class SignalImporter:
    """Reads what sigexport and signalbackup-tools write."""

    name = "signal"

    def sniff(self, head: bytes, name: str) -> bool:
        """Whether the first line is a message of sigexport, or the text looks like one of theirs."""
        text = decode_head(head).lstrip()
        if text.startswith("{"):
            first = text.partition("\n")[0]
            return '"date"' in first and '"sender"' in first and '"body"' in first and '"quote"' in first
        return is_page(text) or is_signal_text(text, name)

    def parse(self, source: Source) -> Iterator[Item]:
        """The chat as records.

        Raises:
            LimitExceeded: A line or message is too long.
        """
        head = decode_head(source.head()).lstrip()
        if is_page(head):
            yield from items_of_page(source)
            return
        yield _chat(source, head)
        if not head.startswith("{"):
            yield from TextReader(source).items()
            return
        reader = _Reader(source)
        for number, raw in source.lines():
            if raw.strip():
                yield from reader.items(number, raw)


class _Reader:
    """Makes records of the lines of a data.json."""

    def __init__(self, source: Source) -> None:
        self._folder = folder_of(source.path)
        self._beside = Beside(source.tree, self._folder)
        self._decoder = msgspec.json.Decoder()
        self._occurrences = Occurrences()
        self._said = Said()
        self._time_ms = 0

    def items(self, number: int, raw: bytes) -> Iterator[Item]:
        try:
            value = self._decoder.decode(raw)
        except (msgspec.DecodeError, ValueError, RecursionError):
            value = None
        fields = cast(dict[str, Any], value) if isinstance(value, dict) else {}
        time_ms, exact = _time_of(_word(fields.get("date")))
        if not any(fields.get(name) for name in ("date", "sender", "body")):
            # No message: kept as the line that it is.
            yield Skipped(position=number, reason="no message of Signal: kept as it is")
            text = decode(raw)
            mid = self._mid(of_line(f"{self._time_ms}", Kind.EVENT, "", text), self._time_ms)
            yield from fitted(
                Record(kind=Kind.EVENT, mid=mid, author="", text=text, time_ms=self._time_ms, position=number)
            )
            return
        self._time_ms = time_ms
        yield from self._message(number, fields, time_ms, exact)

    def _message(self, number: int, fields: dict[str, Any], time_ms: int, exact: str) -> Iterator[Item]:
        author = _word(fields.get("sender"))
        said = _word(fields.get("body")).removesuffix("  ")
        kind = Kind.EVENT if fields.get("call") or fields.get("missed") else Kind.MESSAGE
        erased = fields.get("deleted") is True
        if exact == "ms":
            first = of_line(f"{time_ms}ms", Kind.MESSAGE, "", "")
        else:
            first = of_line(f"{time_ms}{exact}", kind, author, said)
        mid = self._mid(first, time_ms)
        quotation = _unquoted(_word(fields.get("quote")))
        parent = self._said.find(quotation)
        before = "".join(f"> {line}\n" for line in quotation.split("\n")) if quotation and not parent else ""
        sticker = _sticker(fields.get("sticker"))
        versions = [text.removesuffix("  ") for text in _versions(fields.get("edits"))] + [said]
        texts = ["" if erased else "\n".join(filter(None, (before + text, sticker))) for text in versions]
        record = Record(
            kind=kind,
            mid=mid,
            author=author,
            text=texts[0],
            time_ms=time_ms,
            position=number,
            to=() if parent is None or parent == mid else (parent,),
            erased=erased,
            files=() if erased else tuple(self._files(fields.get("attachments"))),
        )
        yield from fitted(record)
        if not erased:
            for nth, text in enumerate(texts[1:], start=1):
                edit = of_id("signal", f"{mid.hex()} edit {nth}")
                yield from fitted(
                    msgspec.structs.replace(record, kind=Kind.EDIT, mid=edit, text=text, to=(mid,), files=())
                )
        self._said.remember(said, mid)
        yield from reactions_of(record, _pairs(fields.get("reactions")))

    def _mid(self, first: MessageId, time_ms: int) -> MessageId:
        return self._occurrences.identity(first, time_ms)

    def _files(self, attachments: Any) -> Iterator[File]:
        for one in _dicts(attachments):
            written = _word(one.get("path"))
            name = _word(one.get("name")) or written
            if name:
                path = self._beside.find(unquote(written)) or self._beside.find(written)
                yield self._beside.file(unquote(name), path, _word(one.get("contentType")))


def reactions_of(record: Record, pairs: list[tuple[str, str]]) -> Iterator[Item]:
    """Who reacted to a message, and with what; times are not exported."""
    for author, emoji in pairs:
        if not 0 < len(emoji.encode()) <= EMOJI_SIZE_MAX_BYTES:
            yield Skipped(position=record.position, reason="a reaction that is no emoji")
            continue
        yield from fitted(
            Record(
                kind=Kind.REACTION,
                mid=of_id("signal", f"{record.mid.hex()} reaction {author} {emoji}"),
                author=author,
                text=emoji,
                time_ms=record.time_ms,
                position=record.position,
                to=(record.mid,),
            )
        )


def _chat(source: Source, head: str) -> Chat:
    folder = folder_of(source.path).rstrip("/").rpartition("/")[2]
    stem = _ENDING.sub("", source.name.rpartition("/")[2])
    # Names on a Mac's disk are composed differently.
    title = unicodedata.normalize("NFC", folder if stem.lower() in _NAMELESS else stem)
    # Two chats without a name are two chats: the first line tells them apart.
    key = title.lower() or of_line("", Kind.MESSAGE, "", head.partition("\n")[0].strip()).hex()
    return Chat(key=clip(f"signal:{key}"), title=clip(title or "Signal chat", TITLE_SIZE_MAX_BYTES))


def _time_of(written: str) -> tuple[int, str]:
    """Milliseconds since 1970, and how exact they are."""
    try:
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        time_ms = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0, ""
    return min(max(time_ms, 0), TIME_MAX_MS), "ms" if moment.microsecond else "s"


def _unquoted(quotation: str) -> str:
    lines = quotation.strip().split("\n")
    return "\n".join(line.removeprefix(">").strip() for line in lines).strip()


def _sticker(value: Any) -> str:
    if isinstance(value, dict):
        emoji = _word(cast(dict[str, Any], value).get("emoji"))
        return f"[sticker: {emoji}]" if emoji else "[sticker]"
    return f"[sticker: {value}]" if isinstance(value, str) and value else ""


def _versions(value: Any) -> list[str]:
    return [_word(one.get("body")) for one in _dicts(value)]


def _pairs(value: Any) -> list[tuple[str, str]]:
    """Reactions, which are objects or pairs of name and emoji."""
    pairs: list[tuple[str, str]] = []
    for one in cast(list[Any], value) if isinstance(value, list) else []:
        if isinstance(one, dict):
            fields = cast(dict[str, Any], one)
            pairs.append((_word(fields.get("name")), _word(fields.get("emoji"))))
        elif isinstance(one, list) and len(cast(list[Any], one)) == 2:
            name, emoji = cast(list[Any], one)
            pairs.append((_word(name), _word(emoji)))
    return pairs


def _word(value: Any) -> str:
    if isinstance(value, str):
        return clean(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _dicts(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [one for one in cast(list[Any], value) if isinstance(one, dict)]
