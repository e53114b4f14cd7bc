"""Matrix rooms: Element's "Export chat" as JSON, and what a Synapse server hands out of an account.

| file                                | is                                                          |
|-------------------------------------|-------------------------------------------------------------|
| matrix - ROOM - ... .json           | one object with room_name and so on, and messages           |
| export.json in a zip archive        | the same, with images/, videos/, audio/, files/ beside it   |
| rooms/!ROOM:SERVER/events           | events one behind the other, without ids (matrix_ids.py)    |
| rooms/!ROOM:SERVER/state/$EVENT     | who was there, and how the room was called, at that event   |

What events become stands in matrix_events.py. A room's key is `matrix:<room id>`, in both.

Element writes a file under its name and the local time of its message, in the words of its language:
"images/tea-11-17-2022 at 4-58-32 PM.jpg". It is found by name, second and minute (zones
differ by quarters of an hour), then by the day; where two still fit, none is taken.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from mlog.errors import InvalidInput, LimitExceeded, UserError
from mlog.formats.json_chats import document, folder_of, mapping, opened, walk, word
from mlog.formats.json_stream import JsonStream
from mlog.formats.matrix_events import Known, Room
from mlog.formats.record import Chat, Item, Provenance, Skipped
from mlog.formats.source import Hints, Source
from mlog.formats.texts import clip, decode_head
from mlog.formats.tree import Tree
from mlog.limits import TITLE_SIZE_MAX_BYTES

__all__ = ["MatrixImporter", "MatrixTreeImporter"]

_HEAD: Final = ("room_name",)
_EVENTS: Final = re.compile(r"(?P<room>(?:.*/)?rooms/[^/]+/)events")
_STATE: Final = re.compile(r"(?P<room>(?:.*/)?rooms/[^/]+/)(?:state/[^/]+|invite_state|knock_state)")
_MARKS: Final = ('"origin_server_ts"', '"sender"', '"content"')
_FOLDERS: Final = {"image": "images", "video": "videos", "audio": "audio", "voice": "audio"}
_ENDINGS: Final = {"voice": ".ogg", "sticker": ".png"}
_DIGITS: Final = re.compile(r"\d{1,9}")
_SPACE: Final = re.compile(r"\s*(?=\{)")
_TITLE_PEOPLE: Final = 5
_SAME_CLOCK_MAX: Final = 1000
"""Files of one minute and second that are looked through for a message."""

_CLOCK_LENGTH_MAX: Final = 60
"""The date and time at the end of a name, in any language."""


class MatrixImporter:
    """Reads one room: Element's JSON, or a file of events."""

    name = "matrix"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether this is an object with what Element writes before messages, or with Matrix events."""
        text = decode_head(head).lstrip()
        if not text.startswith("{"):
            return False
        if '"room_name"' in text and '"exported_by"' in text and '"messages"' in text:
            return True
        return all(mark in text for mark in _MARKS) and ('"room_id"' in text or '"event_id"' in text)

    def parse(self, source: Source) -> Iterator[Item]:
        """The room, oldest first.

        Raises:
            InvalidInput: No JSON object, or broken from some byte on.
            LimitExceeded: One event is too large.
            StoreError: There is no room for temporary data.
        """
        first = _first_events(source.head())
        if first:
            yield from _events(source, first, Known())
            return
        stream = document(source, "Matrix")
        room: Room | None = None
        for head, ordinal, event in walk(stream, "messages", _HEAD, ready=lambda head: "room_name" in head):
            if room is None:
                title, room_id = word(head.get("room_name")), word(mapping(event).get("room_id"))
                chat = _chat(room_id, title)
                room = Room(chat.key, Known(), _Media(source).find)
                yield chat
            if ordinal:
                yield from _items(room, event, ordinal)
        stream.end()


class MatrixTreeImporter:
    """Reads all rooms of an account as a Synapse server exports it."""

    name = "matrix-export"

    def claim(self, tree: Tree) -> Sequence[str]:
        """The events of each room, and what is known of the room before they begin."""
        rooms = [name for name in tree.names if _EVENTS.fullmatch(name)]
        if not any(_is_room(tree, name) for name in rooms[:3]):
            return ()
        return [*rooms, *(name for name in tree.names if _STATE.fullmatch(name))]

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints) -> Iterator[Item]:
        """All rooms, one after the other."""
        before: dict[str, list[str]] = {}
        for path in claimed:
            if found := _STATE.fullmatch(path):
                before.setdefault(found["room"], []).append(path)
        for path in claimed:
            if not (found := _EVENTS.fullmatch(path)):
                continue
            known = Known()
            for described in before.get(found["room"], ()):
                yield from _learned(tree, described, hints, known)
            try:
                with opened(tree, path, hints) as source:
                    origin = Provenance(
                        format=self.name, file_hash=source.hash_ahead(), name=clip(path.rpartition("/")[2])
                    )
                    first = _first_events(source.head())
                    folder = folder_of(path)[:-1].rpartition("/")[2]
                    yield from _events(source, first, known, folder, origin)
            except (InvalidInput, LimitExceeded, UserError) as error:
                yield Skipped(position=0, reason=str(error), file=path)


def _first_events(head: bytes) -> list[dict[str, Any]]:
    """The events that a file begins with; none where it is one object around its messages."""
    text = decode_head(head)
    found: list[dict[str, Any]] = []
    decoder = json.JSONDecoder()
    at = 0
    while start := _SPACE.match(text, at):
        try:
            value, at = decoder.raw_decode(text, start.end())
        except (ValueError, RecursionError):
            break
        if "origin_server_ts" not in mapping(value):
            break
        found.append(mapping(value))
    return found


def _is_room(tree: Tree, path: str) -> bool:
    try:
        with opened(tree, path, Hints()) as source:
            return bool(_first_events(source.head()))
    except UserError:
        return False


def _events(
    source: Source,
    first: Sequence[dict[str, Any]],
    known: Known,
    room_id: str = "",
    origin: Provenance | None = None,
) -> Iterator[Item]:
    """The records of a file of events, after the chat.

    Args:
        first: Some of its events, which may name the room.
        room_id: Where none of them says it.
    """
    named = Known()
    for event in first:
        named.learn(event)
    people = [*known.people, *named.people]
    title = named.title or known.title or (", ".join(people[:_TITLE_PEOPLE]) if len(people) > 1 else "")
    said = next(filter(None, (word(event.get("room_id")) for event in first)), "")
    chat = _chat(said or room_id, title)
    yield chat
    if origin is not None:
        yield origin
    room = Room(chat.key, known, _Media(source).find)
    stream = JsonStream(source, several=True)
    ordinal = 0
    while (token := stream.next_or_end()) is not None:
        ordinal += 1
        for item in _items(room, stream.build(*token), ordinal):
            is_placed = isinstance(item, Skipped) and origin is not None
            yield msgspec.structs.replace(item, file=source.path) if is_placed else item


def _learned(tree: Tree, path: str, hints: Hints, known: Known) -> Iterator[Item]:
    """Who was in a room before its first event; a file that is broken is named."""
    try:
        with opened(tree, path, hints) as source:
            stream = JsonStream(source, several=True)
            while (token := stream.next_or_end()) is not None:
                known.learn(mapping(stream.build(*token)))
    except (InvalidInput, LimitExceeded, UserError) as error:
        yield Skipped(position=0, reason=str(error), file=path)


def _items(room: Room, event: Any, ordinal: int) -> Iterator[Item]:
    if isinstance(event, dict):
        yield from room.items(mapping(event), ordinal)
    else:
        yield Skipped(position=ordinal, reason="not an event")


def _chat(room_id: str, title: str) -> Chat:
    key = f"matrix:{room_id or title}"
    title = title or f"Matrix room {room_id}".strip()
    return Chat(key=clip(key), title=clip(title, TITLE_SIZE_MAX_BYTES))


class _Media:
    """The files that Element wrote beside export.json."""

    def __init__(self, source: Source) -> None:
        self._folder = folder_of(source.path)
        self._by_clock: dict[tuple[int, int], list[str]] = {}
        names = source.tree.names if source.tree is not None else ()
        for at in range(bisect_left(names, self._folder), len(names)):
            name = names[at]
            if not name.startswith(self._folder):
                break
            for ending in {"", name[name.rfind(".") :] if "." in name else ""}:
                numbers = _numbers(name.removesuffix(ending)[-_CLOCK_LENGTH_MAX:])
                same = self._by_clock.setdefault(_clock(numbers), []) if len(numbers) > 2 else []
                if len(same) < _SAME_CLOCK_MAX:
                    same.append(name)

    def find(self, body: str, kind: str, time_ms: int) -> str:
        """The path of a file, or "" where none or several may be it."""
        stem, dot, ending = body.rpartition(".")
        stem, ending = (stem, dot + ending) if dot else (body, "")
        ending = _ENDINGS.get(kind, ending)
        start = f"{self._folder}{_FOLDERS.get(kind, 'stickers' if kind == 'sticker' else 'files')}/{stem}-"
        minute, second = divmod(time_ms // 1000, 60)
        found = {
            name: name[len(start) : len(name) - len(ending)]
            for name in self._by_clock.get(_clock([minute, second]), ())
            if name.startswith(start) and name.endswith(ending)
        }
        found = {name: _numbers(when) for name, when in found.items()}
        found = {name: numbers for name, numbers in found.items() if numbers[-1:] == [second]}
        if len(found) > 1:
            found = {name: numbers for name, numbers in found.items() if _is_day(numbers, time_ms)}
        return next(iter(found)) if len(found) == 1 else ""


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in _DIGITS.findall(text)]


def _clock(numbers: list[int]) -> tuple[int, int]:
    """Minute and second at the end of a time, as they are in all zones."""
    return numbers[-2] % 15, numbers[-1]


def _is_day(numbers: list[int], time_ms: int) -> bool:
    """Whether the first numbers of a name are a day that this moment is on, in some zone."""
    for days in (-1, 0, 1):
        try:
            day = datetime.fromtimestamp(time_ms / 1000, UTC) + timedelta(days=days)
        except (ValueError, OverflowError, OSError):  # A claim that no calendar has.
            return False
        for year in (day.year, day.year % 100):
            if sorted(numbers[:3]) == sorted((year, day.month, day.day)):
                return True
    return False
