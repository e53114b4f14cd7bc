"""What the importers of JSON chat exports share: loose values, rows in any order of fields, files.

Nothing in an export is certain to have the type that its program writes: every helper takes
any value and gives something of one type. Rows that must wait, for a field that follows them or
because the newest stands first, wait in a private temporary file.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import IO, Any, Final, cast
from urllib.parse import unquote

import msgspec

from mlog.errors import InvalidInput, StoreError
from mlog.formats.identity import of_id
from mlog.formats.json_stream import JsonStream
from mlog.formats.record import File, Item, Record, Skipped
from mlog.formats.source import Hints, Source
from mlog.formats.texts import clip, fitted
from mlog.formats.tree import Tree
from mlog.limits import EMOJI_SIZE_MAX_BYTES, KIB, TIME_MAX_MS
from mlog.log.bodies import Kind
from mlog.plurals import counted

__all__ = [
    "Spool",
    "details",
    "dicts",
    "document",
    "edit",
    "elements",
    "file_beside",
    "folder_of",
    "iso_ms",
    "items_of",
    "mapping",
    "opened",
    "reaction",
    "scaled_ms",
    "spooled",
    "unnamed_reactions",
    "walk",
    "word",
]

_SPOOL_SIZE_BYTES: Final = 256 * KIB
_LENGTH_SIZE_BYTES: Final = 4


def word(value: Any) -> str:
    """A name or id: text as it is, a number in digits, anything else nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""


def mapping(value: Any) -> dict[str, Any]:
    """An object, or an empty one in place of anything else."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def items_of(value: Any) -> list[Any]:
    """A list, or an empty one in place of anything else."""
    return cast(list[Any], value) if isinstance(value, list) else []


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [one for one in items_of(value) if isinstance(one, dict)]


def details(value: Any) -> str:
    """Any value in a form to read: "title tea, members ann, ben"."""
    if isinstance(value, dict):
        pairs = cast(dict[str, Any], value).items()
        return ", ".join(f"{name.replace('_', ' ')} {details(one)}" for name, one in pairs)
    if isinstance(value, list):
        return ", ".join(details(one) for one in cast(list[Any], value))
    return word(value) or ("" if value is None else str(value))


def scaled_ms(value: Any, scale: int) -> int:
    """A count of seconds (scale 1000) or milliseconds (1), as number or text; 0 if senseless."""
    try:
        ms = int(float(value) * scale) if isinstance(value, float) else int(word(value)[:20] or 0) * scale
    except (ValueError, OverflowError):
        try:
            ms = int(float(word(value)[:40]) * scale)
        except (ValueError, OverflowError):
            return 0
    return min(max(ms, 0), TIME_MAX_MS)


def iso_ms(value: Any, zone: tzinfo | None = None) -> int:
    """An ISO date as milliseconds; without a zone of its own it is in `zone`, else UTC; 0 if none."""
    try:
        moment = datetime.fromisoformat(word(value)[:64].strip().removesuffix(" UTC"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone or UTC)
        return min(max(int(moment.timestamp() * 1000), 0), TIME_MAX_MS)
    except (ValueError, OverflowError):
        return 0


def folder_of(path: str) -> str:
    """The folder of a file in a tree with its slash; "" at the top."""
    return path[: path.rfind("/") + 1]


def file_beside(
    path: str, *, tree: Tree | None, folders: Collection[str], name: str = "", kind: str = "", size: Any = 0
) -> File:
    """An attachment by the path that the export gives; found in the first of `folders` that has it."""
    plain = path.replace("\\", "/").partition("?")[0].removeprefix("./")
    if tree is not None and "%" in plain and not any(_holds(tree, folder + plain) for folder in folders):
        plain = unquote(plain)
    shown = clip(name or plain.rpartition("/")[2] or "file")
    bytes_size = size if isinstance(size, int) and 0 < size < 2**53 else 0
    if tree is not None and "://" not in plain and plain:
        for folder in folders:
            if _holds(tree, folder + plain):
                return File(name=shown, type=kind, path=folder + plain, size=bytes_size)
    return File(name=shown, type=kind, size=bytes_size)


def _holds(tree: Tree, name: str) -> bool:
    names = tree.names
    at = bisect_left(names, name)
    return at < len(names) and names[at] == name


@contextmanager
def opened(tree: Tree, name: str, hints: Hints) -> Generator[Source]:
    """A file of a tree as a source.

    Raises:
        UserError: It cannot be read.
    """
    stream = tree.open(name)
    try:
        yield Source(stream, name, hints=hints, tree=tree, path=name)
    finally:
        stream.close()


class Spool:
    """Rows on disk, to be read from either end: JSON, then its length."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.first: Any = None
        self.last: Any = None

    def append(self, ordinal: int, row: Any) -> None:
        encoded = msgspec.json.encode((ordinal, row))
        size = len(encoded).to_bytes(_LENGTH_SIZE_BYTES)
        try:
            self._file.write(size + encoded + size)
        except OSError as error:
            raise StoreError(
                f"temporary file: {error.strerror}. Free some space in the temporary folder."
            ) from None
        self.first = row if self.first is None else self.first
        self.last = row

    def __bool__(self) -> bool:
        return self._file.tell() > 0

    def rows(self, *, backwards: bool) -> Iterator[tuple[int, Any]]:
        at = self._file.tell() if backwards else 0
        end = 0 if backwards else self._file.tell()
        while at != end:
            self._file.seek(at - _LENGTH_SIZE_BYTES if backwards else at)
            size = int.from_bytes(self._file.read(_LENGTH_SIZE_BYTES))
            if backwards:
                at -= size + 2 * _LENGTH_SIZE_BYTES
                self._file.seek(at + _LENGTH_SIZE_BYTES)
            else:
                at += size + 2 * _LENGTH_SIZE_BYTES
            ordinal, row = msgspec.json.decode(self._file.read(size))
            yield ordinal, row


@contextmanager
def spooled() -> Generator[Spool]:
    """A temporary file for rows that wait; small ones stay in memory."""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_SIZE_BYTES) as file:
        yield Spool(file)


def walk(
    stream: JsonStream,
    rows: str,
    wanted: Collection[str],
    *,
    ready: Callable[[dict[str, Any]], bool] = lambda _: False,
    newest_first: Callable[[Any, Any], bool] = lambda _first, _last: False,
) -> Iterator[tuple[dict[str, Any], int, Any]]:
    """The rows of an object whose start was read, each with the other fields and its ordinal from 1.

    Args:
        stream: After the start of the object.
        rows: The field that holds the list of rows.
        wanted: Fields to keep; others are read over.
        ready: Whether the fields known so far are enough to give rows while they are read.
        newest_first: By the first and last of the rows that waited, whether to turn them round.

    Raises:
        InvalidInput: The file is broken; all rows before the break were given.
    """
    head: dict[str, Any] = {}
    ordinal = 0
    broken: InvalidInput | None = None
    with spooled() as waiting:
        try:
            while (token := stream.next())[0] != "end_map":
                field = str(token[1])
                event, value = stream.next()
                if field == rows and event == "start_array":
                    while (token := stream.next())[0] != "end_array":
                        ordinal += 1
                        row = stream.build(*token)
                        if not waiting and ready(head):
                            yield head, ordinal, row
                        else:
                            waiting.append(ordinal, row)
                elif field in wanted:
                    head[field] = stream.build(event, value)
                else:
                    stream.skip(event)
        except InvalidInput as error:
            broken = error
        if waiting:
            for number, row in waiting.rows(backwards=newest_first(waiting.first, waiting.last)):
                yield head, number, row
        elif broken is None and ordinal == 0:
            yield head, 0, None
    if broken is not None:
        raise broken


def document(source: Source, program: str) -> JsonStream:
    """A document that is one object, after its start.

    Args:
        program: Whose export it should be, for the message.

    Raises:
        InvalidInput: It is no object.
    """
    stream = JsonStream(source)
    if stream.next()[0] != "start_map":
        raise InvalidInput(f"not an export of {program}: no JSON object", source=source.name, position=0)
    return stream


def elements(source: Source) -> Iterator[tuple[int, Any]]:
    """The values of a document that is one list, with their ordinals from 1.

    Raises:
        InvalidInput: It is no list, or broken from some byte on.
    """
    stream = JsonStream(source)
    if stream.next()[0] != "start_array":
        raise InvalidInput("not a JSON list", source=source.name, position=0)
    ordinal = 0
    while (token := stream.next())[0] != "end_array":
        ordinal += 1
        yield ordinal, stream.build(*token)
    stream.end()


def reaction(
    record: Record,
    *,
    scope: str,
    emoji: str,
    author: str,
    uid: str = "",
    who: str = "",
    time_ms: int = 0,
) -> Iterator[Item]:
    """Somebody's emoji on a message; the same one again has the same identity.

    Args:
        who: By which the identity knows the person; "" for `uid`, else `author`.
    """
    if not 0 < len(emoji.encode()) <= EMOJI_SIZE_MAX_BYTES:
        yield Skipped(position=record.position, reason="a reaction that is no emoji")
        return
    yield from fitted(
        Record(
            kind=Kind.REACTION,
            mid=of_id(scope, f"{record.mid.hex()} reaction {who or uid or author} {emoji}"),
            author=author,
            text=emoji,
            time_ms=time_ms or record.time_ms,
            position=record.position,
            to=(record.mid,),
            uid=uid,
        )
    )


def unnamed_reactions(position: int, count: Any, named: int, emoji: str, file: str = "") -> Iterator[Skipped]:
    """What is left of a count of reactions when those of people with names are told.

    Args:
        count: As the export has it; no number counts for nothing.
        named: How many people it names.
    """
    if isinstance(count, int) and count > named:
        reason = f"{counted(count - named, 'reaction')} {emoji[:64]}: the export does not say whose"
        yield Skipped(position=position, reason=reason, file=file)


def edit(record: Record, *, scope: str, own_id: str, time_ms: int) -> Iterator[Item]:
    """An edit beside an edited message, so that a later export brings the newer text."""
    yield from fitted(
        msgspec.structs.replace(
            record,
            kind=Kind.EDIT,
            mid=of_id(scope, f"{own_id} edit {time_ms}"),
            time_ms=time_ms,
            to=(record.mid,),
            files=(),
        )
    )
