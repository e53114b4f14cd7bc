"""WhatsApp's "Export chat": one text file, by itself or in a folder or archive with its media.

| in the export                            | becomes                                          |
|------------------------------------------|--------------------------------------------------|
| a stamp, a name, text                    | MESSAGE; lines without a stamp go on with it     |
| a stamp and no name                      | EVENT: the app speaks                            |
| iOS: the app speaks in somebody's name   | EVENT with that author                           |
| lines before the first stamp             | EVENTs, as they are                              |
| `<attached: a.jpg>`, `a.jpg (file ...)`  | an attachment; the words go where it is there    |
| a name that is a number                  | the author's uid as well                         |

"<Media omitted>", deleted messages, polls and the mark of an edited one are kept as the words that
the app wrote, in whatever language. iOS begins with U+200E what the app wrote itself, and lines with
media too: so a marked text in a line without a mark is the app's own.

Times count as UTC unless `Hints.zone` says otherwise. Days and months are told apart by the whole
file (mlog/formats/date_order.py): it is read ahead until numbers settle the order, at worst to its
end, into a temporary file, because a pipe cannot be read twice and the first line needs the answer.
The text of a message, with its time and author, is its identity: WhatsApp exports no ids.
"""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from typing import IO, Final

from mlog.errors import LimitExceeded, StoreError
from mlog.formats.beside import Beside, folder_of
from mlog.formats.clock_words import MARKS, without_marks
from mlog.formats.date_order import ORDERS, DateOrder
from mlog.formats.identity import Occurrences, of_line
from mlog.formats.record import Chat, File, Item, Record, Skipped
from mlog.formats.source import Source
from mlog.formats.texts import clip, decode, decode_head, fitted
from mlog.formats.whatsapp_lines import Authors, Stamp, StampReader
from mlog.limits import KIB, MESSAGE_LINES_SIZE_MAX_BYTES, TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind

__all__ = ["WhatsAppImporter"]

_AHEAD_SIZE_BYTES: Final = 256 * KIB
"""Read ahead at least, to know names; and what of it stays in memory."""

_SNIFF_LINES_MAX: Final = 300
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC).toordinal()
_DAY_MS: Final = 86_400_000

_ENDING: Final = r"\.\w{1,10}"
_TAGGED: Final = re.compile(
    rf"(?P<mark>[{MARKS}]?)<[^<>:：\n]{{1,40}}[:：]\s?(?P<name>[^<>\n:/\\]{{1,255}}{_ENDING})>"
)
_NAMED: Final = re.compile(
    rf"[{MARKS}]*(?P<name>[^\n/\\<>]{{1,255}}?{_ENDING})[ \u00a0\u202f]"
    rf"(?:\((?P<what>[^()\n]{{1,60}})\)|<(?P<old>[^<>\n]{{1,60}})>)[{MARKS}]*(?=\n|$)"
)
_OWN_NAME: Final = re.compile(
    r"(?:IMG|VID|AUD|PTT|STK|DOC)-\d{8}-WA\d{4,}\.|\d{8}-[A-Z]+-\d{4}(?:-\d\d){5}\."
)
_ATTACHED: Final = frozenset(
    (
        *(
            "file attached",
            "attached",
            "datei angehängt",
            "archivo adjunto",
            "fichier joint",
            "file allegato",
        ),
        *("arquivo anexado", "ficheiro anexado", "bestand bijgevoegd", "fil bifogad", "vedhæftet fil"),
        *("fil vedlagt", "liitetiedosto", "tiedosto liitetty", "plik dołączony", "soubor připojen"),
        *("файл добавлен", "файл прикреплен", "dosya ekli", "berkas terlampir", "fail dilampirkan"),
        *(
            "文件附件",
            "附件",
            "添付ファイル",
            "파일 첨부됨",
            "קובץ מצורף",
            "ملف مرفق",
            "फ़ाइल संलग्न",
            "fitxer adjunt",
        ),
    )
)
_NUMBER: Final = re.compile(r"(?:~\s?)?(\+?[\d\s\u00a0()/.-]{6,30})")

_EXPORT_NAME: Final = re.compile(
    r"(?i)(?:\w{1,14} (?:\w{1,3} )?)?WhatsApp(?:[ -]?chat\w{0,3})?(?: - |-| \w{1,10} )(?P<title>\S.*)"
)
_COPY: Final = re.compile(r" ?\(\d{1,3}\)$")
_NAMELESS: Final = frozenset(("", "_chat", "chat", "-", "<stdin>", "stdin"))


class WhatsAppImporter:
    """Reads the text files of "Export chat" on iOS and Android."""

    name = "whatsapp"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether the first line has a stamp with a date, and somebody speaks near the start."""
        reader = StampReader()
        lines = [line for line in decode_head(head).split("\n")[:_SNIFF_LINES_MAX] if line.strip()]
        stamps = [reader.read(line.rstrip("\r")) for line in lines]
        if not stamps or stamps[0] is None:
            return False
        order = DateOrder()
        rests = [one.rest for one in stamps if one is not None and order.take(one.numbers, one.date)]
        if sum(rest.startswith(("<", "*", "-")) for rest in rests) * 2 > len(rests):
            return False  # Nicks in brackets: a log of IRC.
        return any(": " in rest or rest.endswith(":") for rest in rests)

    def parse(self, source: Source) -> Iterator[Item]:
        """The chat as records.

        Raises:
            UserError: Days and months cannot be told apart; say `date_order`.
            LimitExceeded: A line or a message is too long.
            StoreError: There is no room for temporary data.
        """
        with tempfile.SpooledTemporaryFile(max_size=_AHEAD_SIZE_BYTES) as spool:
            lines = source.lines()
            ahead = _Ahead(source, lines, spool)
            yield _chat(source, ahead)
            yield from _Reader(source, ahead).items(_again(spool, lines))


class _Ahead:
    """What must be known of a file before its first line is taken."""

    def __init__(self, source: Source, lines: Iterator[tuple[int, bytes]], spool: IO[bytes]) -> None:
        self.authors = Authors()
        self.marked_lines = False
        self.first_line = ""
        self.app_speaks_as = ""
        self._stamps = StampReader()
        dates = DateOrder()
        hint = source.hints.date_order
        size = 0
        first = True
        for _, raw in lines:
            size += len(raw) + 1
            _spool(spool, raw)
            text = decode(raw)
            stamp = self._stamps.read(text)
            if stamp is not None and dates.take(stamp.numbers, stamp.date):
                self._look(stamp, text, first=first)
                first = False
            if (dates.settled or hint) and size >= _AHEAD_SIZE_BYTES:
                break
        spool.seek(0)
        self.authors.settle()
        self.order_name = dates.order(source.name, hint)
        self.order = ORDERS[self.order_name]
        self.bracketed = self._stamps.bracketed

    def _look(self, stamp: Stamp, text: str, *, first: bool) -> None:
        rest = stamp.rest
        self.authors.count(rest)
        self.marked_lines |= stamp.marked
        if first:
            self.first_line = text
            author, _, said = rest.partition(": ")
            if said.startswith("\u200e") and not stamp.marked:
                self.app_speaks_as = without_marks(author)


class _Reader:
    """Gathers the lines of each message, and makes records of them."""

    def __init__(self, source: Source, ahead: _Ahead) -> None:
        self._name = source.name
        self._zone = source.hints.zone
        self._ahead = ahead
        self._stamps = StampReader()
        self._beside = Beside(source.tree, folder_of(source.path))
        self._occurrences = Occurrences()
        self._first = True
        self._open: tuple[int, int, Stamp] | None = None
        self._lines: list[str] = []
        self._size = 0

    def items(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[Item]:
        for number, raw in lines:
            text = decode(raw)
            stamp = self._stamps.read(text)
            day = None if stamp is None else self._ahead.order(stamp.numbers)
            if stamp is not None and day is not None:
                yield from self._close()
                self._open = (number, day, stamp)
                self._lines = [stamp.rest]
                self._size = len(raw)
                continue
            if stamp is not None:
                reason = (
                    f"{stamp.date!r} is no date ({self._ahead.order_name}): kept as text of the line before"
                )
                yield Skipped(position=number, reason=reason)
            if self._open is not None:
                self._add(text, len(raw))
            elif text.strip():
                yield from self._record(number, Kind.EVENT, "", text, (0, ""))
            else:
                yield Skipped(position=number, reason="empty line")
        yield from self._close()

    def _add(self, text: str, size: int) -> None:
        self._size += size + 1
        assert self._open is not None
        if self._size > MESSAGE_LINES_SIZE_MAX_BYTES:
            raise LimitExceeded(
                f"more than {MESSAGE_LINES_SIZE_MAX_BYTES:,} bytes in one message. Is this WhatsApp?",
                source=self._name,
                position=self._open[0],
            )
        self._lines.append(text)

    def _close(self) -> Iterator[Item]:
        """The message whose lines were gathered."""
        if self._open is None:
            return
        number, day, stamp = self._open
        first, self._first = self._first, False
        text = "\n".join(self._lines).rstrip("\n")
        author, said = self._ahead.authors.split(self._lines[0])
        said += text[len(self._lines[0]) :] if len(text) > len(self._lines[0]) else ""
        author = without_marks(author).strip()
        time = (_time_ms(day, stamp.second, self._zone), stamp.exact)
        if not author:
            yield from self._record(number, Kind.EVENT, "", without_marks(text[:1]) + text[1:], time)
            return
        files, shown = _files(said, self._beside)
        own = said.startswith("\u200e") and not stamp.marked and self._ahead.bracketed and not files
        kind = Kind.EVENT if own and (first or self._ahead.marked_lines) else Kind.MESSAGE
        said = said.lstrip("\u200e")
        yield from self._record(number, kind, author, said, time, files, shown)

    def _record(
        self,
        number: int,
        kind: Kind,
        author: str,
        text: str,
        time: tuple[int, str],
        files: tuple[File, ...] = (),
        shown: str | None = None,
    ) -> Iterator[Item]:
        """One record.

        Args:
            text: As it stands in the file, which is its identity, with or without media.
            shown: Without the names of files that are there.
        """
        time_ms, exact = time
        first = of_line(f"{time_ms}{exact}", kind, author, text)
        yield from fitted(
            Record(
                kind=kind,
                mid=self._occurrences.identity(first, time_ms),
                author=author,
                text=text if shown is None else shown,
                time_ms=time_ms,
                position=number,
                uid=_uid(author),
                files=files,
            )
        )


def _spool(spool: IO[bytes], raw: bytes) -> None:
    try:
        spool.write(raw + b"\n")
    except OSError as error:
        raise StoreError(
            f"temporary file: {error.strerror}. Free some space in the temporary folder."
        ) from None


def _again(spool: IO[bytes], lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The lines that were read ahead, then the others."""
    for number, line in enumerate(spool, start=1):
        yield number, line.removesuffix(b"\n")
    yield from lines


def _time_ms(day: int, second: int, zone: tzinfo | None) -> int:
    since_ms = (day - _EPOCH) * _DAY_MS + second * 1000
    if zone is not None:
        moment = datetime.fromordinal(day).replace(
            hour=second // 3600, minute=second // 60 % 60, second=second % 60, tzinfo=zone
        )
        offset = moment.utcoffset()
        since_ms -= 0 if offset is None else int(offset.total_seconds() * 1000)
    return max(since_ms, 0)


def _uid(author: str) -> str:
    """A number that stands for a name: WhatsApp writes it where the phone knew no name."""
    found = _NUMBER.fullmatch(author)
    if found is None:
        return ""
    digits = "".join(str(int(one)) for one in found[1] if one.isdecimal())
    return f"tel:{'+' if found[1].startswith('+') else ''}{digits}" if len(digits) >= 6 else ""


def _files(text: str, beside: Beside) -> tuple[tuple[File, ...], str | None]:
    """Attachments that a text names, and the text without the names of those that are there."""
    names: dict[str, str] = {}
    if "<" in text:
        for found in _TAGGED.finditer(text):
            whole = found[0] == text.strip()
            if whole or found["mark"] or beside.find(found["name"]):
                names[found["name"]] = found[0]
    found = _NAMED.match(text)
    if found is not None:
        what = without_marks(found["what"] or found["old"]).strip().casefold()
        if what in _ATTACHED or _OWN_NAME.match(found["name"]) or beside.find(found["name"]):
            names[found["name"]] = found[0]
    line = text.partition("\n")[0]
    if not names and beside.find(without_marks(line).strip()):
        names[without_marks(line).strip()] = line
    files = tuple(beside.file(name, beside.find(name)) for name in names)
    here = [written for (written, file) in zip(names.values(), files, strict=True) if file.path]
    shown = text
    for written in here:
        shown = shown.replace(written, "", 1)
    return files, shown.strip("\u200e\u200f \n") if here else None


def _chat(source: Source, ahead: _Ahead) -> Chat:
    title = _title(source)
    if title:
        key = title.lower()
    else:  # Two chats without a name are two chats: the first line tells them apart.
        title = ahead.app_speaks_as
        key = title.lower() or of_line("", Kind.MESSAGE, "", ahead.first_line).hex()
    title = title or "WhatsApp chat"
    return Chat(key=clip(f"whatsapp:{key}"), title=clip(title, TITLE_SIZE_MAX_BYTES))


def _title(source: Source) -> str:
    folder = folder_of(source.path).rstrip("/").rpartition("/")[2]
    for name in (source.name, folder, "" if source.tree is None else source.tree.name):
        stem = _COPY.sub("", re.sub(r"(?i)\.(?:txt|zip)$", "", name).strip())
        if stem.lower() not in _NAMELESS:
            found = _EXPORT_NAME.fullmatch(stem)
            title = without_marks(found["title"] if found is not None else stem).strip()
            return unicodedata.normalize("NFC", title)  # Names on a Mac's disk are composed differently.
    return ""
