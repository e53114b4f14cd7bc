"""Messenger's and Instagram's JSON: message_1.json and so on, or a single file of encrypted chats.

A chat of an export is spread over message_N.json of one folder, the newest in message_1.json and first in
each; both are turned round. Its key is `meta:<last part of thread_path>`, which is that folder.
Messages have no ids: one is known by time, author and what was typed.

| in the export (encrypted form)          | becomes                                                  |
|-----------------------------------------|----------------------------------------------------------|
| sender_name (senderName), content (text)| author, text; UTF-8 written as Latin-1 is mended         |
| photos, videos, files ... (media)       | Files, at their path in the export                       |
| share                                   | a further line with the address                          |
| call_duration                           | EVENT                                                    |
| type Subscribe, Unsubscribe             | JOIN, PART                                               |
| is_unsent (isUnsent)                    | an erased message                                        |
| reactions                               | REACTIONs                                                |
| a field of a later version              | a line in brackets                                       |

The encrypted form, and exports with folders like your_activity, were built from their published form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mlog.errors import InvalidInput, UserError
from mlog.formats.identity import Occurrences, of_line
from mlog.formats.json_chats import (
    details,
    dicts,
    document,
    file_beside,
    folder_of,
    items_of,
    mapping,
    opened,
    reaction,
    scaled_ms,
    walk,
    word,
)
from mlog.formats.record import Chat, File, Item, Provenance, Record, Skipped
from mlog.formats.source import Hints, Source
from mlog.formats.texts import clip, decode_head, fitted
from mlog.formats.tree import Tree
from mlog.limits import TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind

__all__ = ["MetaImporter", "MetaTreeImporter", "mended"]

_HEAD: Final = ("title", "thread_path", "participants", "threadName")
_PART: Final = re.compile(r"(?:.*/)?[^/]+/message(?:_(\d{1,6}))?\.json")
_FILES: Final = ("photos", "videos", "audio_files", "files", "gifs", "media")
_KINDS: Final = {"Subscribe": Kind.JOIN, "Unsubscribe": Kind.PART, "Call": Kind.EVENT}
_SILENT_FIELDS: Final = frozenset(
    (
        *("sender_name", "senderName", "timestamp_ms", "timestamp", "content", "text", "type", "share"),
        *("reactions", "is_unsent", "isUnsent", "is_geoblocked_for_viewer", "sticker", "ip", "call_duration"),
        *("is_unsent_image_by_messenger_kid_parent", "is_taken_down", "bumped_message_metadata", *_FILES),
        "sender_id_INTERNAL",
    )
)
_MS_SINCE: Final = 100_000_000_000
"""Larger counts are milliseconds: as seconds they would be after the year 5000."""


class MetaImporter:
    """Reads one file of a chat."""

    name = "meta"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether this is a JSON object with what Meta's programs write in messages or before them."""
        text = decode_head(head).lstrip()
        if not text.startswith("{"):
            return False
        if '"sender_name"' in text and '"timestamp_ms"' in text:
            return True
        if '"senderName"' in text and '"timestamp"' in text:
            return True
        return '"messages"' in text and ('"threadName"' in text or '"thread_path"' in text)

    def parse(self, source: Source) -> Iterator[Item]:
        """The chat, oldest first.

        Raises:
            InvalidInput: No JSON object, or broken from some byte on.
            LimitExceeded: One message is too large.
            StoreError: There is no room for temporary data.
        """
        yield from _Chat(source.name).file(source)


class MetaTreeImporter:
    """Reads all chats of an export."""

    name = "meta-export"

    def claim(self, tree: Tree) -> Sequence[str]:
        """Every message_N.json, if the first of them is what it seems."""
        parts = [name for name in tree.names if _PART.fullmatch(name)]
        for name in parts[:3]:
            try:
                with opened(tree, name, Hints()) as source:
                    if MetaImporter().sniff(source.head(), name):
                        return parts
            except UserError:
                continue
        return ()

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints) -> Iterator[Item]:
        """All chats, each from its last file to its first.

        Raises:
            StoreError: There is no room for temporary data.
        """
        chat, folder = _Chat(""), ""
        for path in sorted(claimed, key=lambda name: (folder_of(name), -_number(name))):
            if folder_of(path) != folder:
                folder = folder_of(path)
                chat = _Chat(tree.name, folder[:-1].rpartition("/")[2])
            try:
                with opened(tree, path, hints) as source:
                    digest = source.hash_ahead()
                    name = path.rpartition("/")[2]
                    origin = Provenance(format="meta-export", file_hash=digest, name=name)
                    yield from chat.file(source, origin)
            except (InvalidInput, UserError) as error:
                yield Skipped(position=0, reason=str(error), file=path)


def mended(value: Any) -> str:
    """Text whose UTF-8 bytes were written as if each were a character; other text as it is."""
    text = word(value)
    if text.isascii():
        return text
    try:
        raw = text.encode("latin-1")
    except UnicodeEncodeError:
        return text  # Has characters that are no bytes: was written right.
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        # A preview cut in the middle of a character, after others that show the damage.
        if error.reason == "unexpected end of data" and not raw[: error.start].isascii():
            return raw.decode(errors="replace")
        return text


def _number(path: str) -> int:
    match = _PART.fullmatch(path)
    return int(match[1]) if match and match[1] else 0


def _time_ms(row: Any) -> int:
    fields = mapping(row)
    if "timestamp_ms" in fields:
        return scaled_ms(fields["timestamp_ms"], 1)
    time_ms = scaled_ms(fields.get("timestamp"), 1)
    return time_ms if time_ms > _MS_SINCE else time_ms * 1000


class _Chat:
    """Turns the messages of one chat into records."""

    def __init__(self, fallback: str, folder: str = "") -> None:
        self._fallback = fallback
        self._folder = folder
        self._key = ""
        self._occurrences = Occurrences()

    def file(self, source: Source, origin: Provenance | None = None) -> Iterator[Item]:
        """The records of one file, oldest first; before those of the first file, the chat."""
        stream = document(source, "Messenger or Instagram")
        started = False
        folders = _ancestors(source.path)
        rows = walk(
            stream, "messages", _HEAD, newest_first=lambda first, last: _time_ms(first) > _time_ms(last)
        )
        for head, ordinal, row in rows:
            if not self._key:
                yield self._head(head)
            if origin is not None and not started:
                yield origin
            started = True
            if isinstance(row, dict):
                yield from self._items(mapping(row), ordinal, source, folders)
            elif ordinal:
                yield Skipped(position=ordinal, reason="not a message", file=source.path)
        stream.end()

    def _head(self, head: dict[str, Any]) -> Chat:
        people = [mended(mapping(one).get("name") or one) for one in items_of(head.get("participants"))]
        own_id = self._folder or word(head.get("thread_path")).rstrip("/").rpartition("/")[2]
        thread = mended(head.get("threadName"))
        title = mended(head.get("title")) or re.sub(r"_\d+$", "", thread) or ", ".join(filter(None, people))
        own_id = mended(own_id) or thread or ", ".join(sorted(filter(None, people))) or self._fallback
        self._key = f"meta:{own_id}"
        return Chat(key=clip(self._key), title=clip(title or own_id, TITLE_SIZE_MAX_BYTES))

    def _items(
        self, row: dict[str, Any], ordinal: int, source: Source, folders: tuple[str, ...]
    ) -> Iterator[Item]:
        author = mended(row.get("sender_name")) or mended(row.get("senderName"))
        typed = mended(row.get("content")) or mended(row.get("text"))
        kind = _KINDS.get(word(row.get("type")), Kind.EVENT if "call_duration" in row else Kind.MESSAGE)
        erased = row.get("is_unsent") is True or row.get("isUnsent") is True
        time_ms = _time_ms(row)
        first = of_line(str(time_ms), kind, author, typed)
        record = Record(
            kind=Kind.MESSAGE if erased else kind,
            mid=self._occurrences.identity(first, time_ms),
            author=author,
            text="" if erased else _text(row, typed),
            time_ms=time_ms,
            position=ordinal,
            erased=erased,
            files=() if erased else tuple(_files(row, source, folders)),
        )
        yield from fitted(record)
        for one in dicts(row.get("reactions")):
            emoji, actor = mended(one.get("reaction")), mended(one.get("actor"))
            at = _time_ms(one)
            yield from reaction(record, scope=self._key, emoji=emoji, author=actor, time_ms=at)


def _ancestors(path: str) -> tuple[str, ...]:
    """Addresses of files start at the root of the export, wherever in the tree that is."""
    parts = path.split("/")[:-1]
    return tuple("/".join([*parts[:count], ""]) if count else "" for count in range(len(parts) + 1))


def _text(row: dict[str, Any], typed: str) -> str:
    lines = [typed]
    share = mapping(row.get("share"))
    for field in ("share_text", "link"):
        shared = mended(share.get(field))
        if shared and shared not in typed:
            lines.append(shared)
    further = sorted(share.keys() - {"share_text", "link"})
    lines += [_bracketed(field, share[field]) for field in further]
    if seconds := word(row.get("call_duration")):
        lines.append(f"[call of {seconds} seconds]")
    lines += [_bracketed(field, row[field]) for field in sorted(row.keys() - _SILENT_FIELDS)]
    return "\n".join(filter(None, lines))


def _bracketed(field: str, value: Any) -> str:
    if value in (None, "", False, [], {}):
        return ""
    return f"[{field.replace('_', ' ')}: {mended(details(value))}]"


def _files(row: dict[str, Any], source: Source, folders: tuple[str, ...]) -> Iterator[File]:
    listed = [one for field in _FILES for one in dicts(row.get(field))]
    for one in (*listed, mapping(row.get("sticker"))):
        address = mended(one.get("uri"))
        if address:
            yield file_beside(address, tree=source.tree, folders=folders[::-1])
