r"""mlog's own JSON lines: every event of a conversation, without loss.

This is the reference of the format. UTF-8, one JSON object a line, each line ended by LF. A file is any
number of conversations, each a line of kind "conversation" and then its events in view order:

    {"kind":"conversation","format":"mlog","format_version":1,"key":"irc:#x","title":"#x"}
    {"kind":"message","id":"00112233445566778899aabbccddeeff","author":"ann","time_ms":1577959445000,"text":"hi"}

| field    | in          | meaning                                                                   |
|----------|-------------|---------------------------------------------------------------------------|
| kind     | all         | message, action, notice, join, part, rename, event, title, edit, reaction |
|          |             | or erasure                                                                |
| id       | all         | identity of the message, 32 hexadecimal digits                            |
| author   | all         | who said it                                                               |
| time_ms  | all         | milliseconds since 1970 UTC, as its author claims                         |
| text     | all         | what was said; the title, or the emoji of a reaction                      |
| to       | all         | ids of what it replies to; of the message that it edits, erases or marks  |
| erased   | said        | true: its text was erased, only its place is known                        |
| removed  | reaction    | true: the emoji was taken back                                            |
| uid      | all         | what the program that it came from knows the author by                    |
| files    | said        | attachments: list of {"name", "type", "size", "hash", "path"}             |
| source   | all         | {"format", "file_hash", "name"} of the file it was imported from          |
| position | all         | line or ordinal in that file, from 1                                      |

The writer keeps this order and leaves out "", 0, false and empty lists, so that export, import and
export again give the same bytes. The reader takes fields in any order, tolerates unknown ones,
CRLF and a byte-order mark, and stops at the first line that is not of this form.
`hash` is BLAKE3 of the file's bytes, `path` where they lie beside this file, if they were exported too.
A reply is a message with `to`. A message without `source` was written in mlog.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec

from mlog.errors import InvalidInput
from mlog.formats.record import Chat, ExportRecord, File, Item, Provenance, Record
from mlog.formats.source import Source
from mlog.formats.texts import clean, clip, decode_head, fitted
from mlog.limits import EMOJI_SIZE_MAX_BYTES, FILES_MAX, REFERENCES_MAX, SEQ_MAX, TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

__all__ = ["FORMAT_VERSION", "JsonLinesExporter", "JsonLinesImporter"]

FORMAT_VERSION: Final = 1

_KINDS: Final = {
    kind.name.lower(): kind
    for kind in (
        Kind.MESSAGE,
        Kind.ACTION,
        Kind.NOTICE,
        Kind.JOIN,
        Kind.PART,
        Kind.RENAME,
        Kind.EVENT,
        Kind.TITLE,
        Kind.EDIT,
        Kind.REACTION,
        Kind.ERASURE,
    )
} | {"reply": Kind.MESSAGE}
_NAMES: Final = {kind: name for name, kind in _KINDS.items() if name != "reply"} | {Kind.REPLY: "message"}

_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
_Number = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


class _Source(msgspec.Struct, frozen=True, omit_defaults=True):
    format: str
    file_hash: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    name: str = ""


class _File(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    type: str = ""
    size: _Number = 0
    hash: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    path: str = ""


class _Line(msgspec.Struct, omit_defaults=True):
    """One line; what a kind does not have stays at its default."""

    kind: str
    format: str = ""
    format_version: int = 0
    key: str = ""
    title: str = ""
    id: _Id = ""
    author: str = ""
    time_ms: _Number = 0
    text: str = ""
    to: Annotated[list[_Id], msgspec.Meta(max_length=REFERENCES_MAX)] = []
    erased: bool = False
    removed: bool = False
    uid: str = ""
    files: Annotated[list[_File], msgspec.Meta(max_length=FILES_MAX)] = []
    source: _Source | None = None
    position: _Number = 0


class JsonLinesExporter:
    """Writes the schema above."""

    name = "jsonl"

    def export(self, chat: Chat, records: Iterable[ExportRecord]) -> Iterator[bytes]:
        """One conversation: its first line, then a line for each record."""
        encoder = msgspec.json.Encoder()
        yield (
            encoder.encode(_Line("conversation", "mlog", FORMAT_VERSION, key=chat.key, title=chat.title))
            + b"\n"
        )
        sources: dict[Provenance, _Source] = {}
        for exported in records:
            record = exported.record
            origin = exported.source
            source = None
            if origin is not None and origin.format:
                source = sources.get(origin)
                if source is None:
                    source = sources[origin] = _Source(origin.format, origin.file_hash, origin.name)
            yield (
                encoder.encode(
                    _Line(
                        _NAMES[record.kind],
                        id=record.mid.hex(),
                        author=record.author,
                        time_ms=record.time_ms,
                        text=record.text,
                        to=[mid.hex() for mid in record.to],
                        erased=record.erased,
                        removed=record.removed,
                        uid=record.uid,
                        files=[_File(f.name, f.type, f.size, f.hash, f.path) for f in record.files],
                        source=source,
                        position=record.position,
                    )
                )
                + b"\n"
            )


class JsonLinesImporter:
    """Reads the schema above."""

    name = "mlog"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether the first line opens a conversation of mlog."""
        first = decode_head(head).lstrip().partition("\n")[0]
        try:
            line = msgspec.json.decode(first, type=_Line)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        return line.kind == "conversation" and line.format == "mlog"

    def parse(self, source: Source) -> Iterator[Item]:
        """The events of all conversations in the file.

        Raises:
            InvalidInput: A line is not of the schema, with its number.
            LimitExceeded: A line is too long.
        """
        decoder = msgspec.json.Decoder(_Line)
        origin: _Source | None = None
        opened = False
        told = False
        for number, raw in source.lines():
            if not raw or raw.isspace():
                continue
            try:
                line = decoder.decode(raw)
            except (msgspec.DecodeError, RecursionError, ValueError) as error:
                reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
                raise InvalidInput(
                    f"not a line of mlog's JSON lines: {reason}", source=source.name, position=number
                ) from None
            if line.kind == "conversation":
                yield _conversation(line, source.name, number)
                opened, told = True, False
                continue
            if not opened:
                raise InvalidInput(
                    'the first line must be one of kind "conversation"', source=source.name, position=number
                )
            if line.source != origin or not told:
                origin, told = line.source, True
                yield _provenance(line.source)
            yield from fitted(_record(line, source.name, number))


def _conversation(line: _Line, name: str, number: int) -> Chat:
    if line.format != "mlog" or line.format_version > FORMAT_VERSION:
        raise InvalidInput(
            f"written by a newer mlog (format version {line.format_version}); update this one",
            source=name,
            position=number,
        )
    return Chat(key=clip(clean(line.key)), title=clip(clean(line.title), TITLE_SIZE_MAX_BYTES), titled=True)


def _record(line: _Line, name: str, number: int) -> Record:
    kind = _KINDS.get(line.kind)
    if kind is None:
        raise InvalidInput(f"unknown kind {line.kind[:32]!r}", source=name, position=number)
    wrong = _wrong(kind, line)
    if wrong:
        raise InvalidInput(wrong, source=name, position=number)
    return Record(
        kind=kind,
        mid=MessageId(bytes.fromhex(line.id)),
        author=clean(line.author),
        text=clean(line.text),
        time_ms=line.time_ms,
        position=line.position,
        to=tuple(MessageId(bytes.fromhex(mid)) for mid in line.to),
        erased=line.erased,
        removed=line.removed,
        uid=clip(clean(line.uid)),
        files=tuple(_file(file) for file in line.files),
    )


def _file(file: _File) -> File:
    return File(
        name=clean(file.name), type=clean(file.type), path=clean(file.path), size=file.size, hash=file.hash
    )


def _wrong(kind: Kind, line: _Line) -> str:
    """What a line lacks for its kind, or ""."""
    if not line.id:
        return "a line without its id"
    if kind in (Kind.EDIT, Kind.REACTION, Kind.ERASURE) and len(line.to) != 1:
        return f"{line.kind} of {len(line.to)} messages, expected one in `to`"
    if kind is Kind.REACTION and not 0 < len(clean(line.text).encode()) <= EMOJI_SIZE_MAX_BYTES:
        return f"the text of a reaction must have 1 to {EMOJI_SIZE_MAX_BYTES} bytes"
    if kind is Kind.TITLE and len(clean(line.text).encode()) > TITLE_SIZE_MAX_BYTES:
        return f"a title must have at most {TITLE_SIZE_MAX_BYTES} bytes"
    return ""


def _provenance(source: _Source | None) -> Provenance:
    if source is None:
        return Provenance(format="")
    return Provenance(
        format=clip(clean(source.format)), file_hash=source.file_hash, name=clip(clean(source.name))
    )
