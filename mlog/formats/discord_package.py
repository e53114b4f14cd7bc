"""Discord's own data package: what one person wrote, a folder for each channel.

`messages/c123/messages.csv`, in packages of later years `messages.json`, with `channel.json` beside it,
and `messages/index.json` with a title for each channel. Folders at the top are translated in some packages.
Chats and messages have the identities that DiscordChatExporter's have (mlog/formats/discord.py), so
that both may be imported. The author is whom `account/user.json` names.
Fields: ID, Timestamp, Contents, Attachments (addresses with spaces between). Newest first is turned round.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mlog.errors import InvalidInput, UserError
from mlog.formats.discord import readable
from mlog.formats.identity import of_id
from mlog.formats.json_chats import (
    elements,
    file_beside,
    folder_of,
    iso_ms,
    mapping,
    opened,
    spooled,
    word,
)
from mlog.formats.json_stream import JsonStream
from mlog.formats.record import Chat, Item, Provenance, Record, Skipped
from mlog.formats.source import Hints, Source
from mlog.formats.texts import clip, decode, fitted
from mlog.formats.tree import Tree
from mlog.limits import TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind

__all__ = ["DiscordPackageImporter"]

_MESSAGES: Final = re.compile(r"((?:.*/)?)c?(\d{5,20})/messages\.(?:csv|json)")


class DiscordPackageImporter:
    """Reads the messages of a data package."""

    name = "discord-package"

    def claim(self, tree: Tree) -> Sequence[str]:
        """The messages of every channel, and what names channels and the author."""
        messages = [name for name in tree.names if _MESSAGES.fullmatch(name)]
        if not messages:
            return ()
        folders = {folder_of(name) for name in messages}
        above = {folder_of(folder[:-1]) for folder in folders}
        tops = {folder_of(folder[:-1]) for folder in above}
        names = [
            name
            for name in tree.names
            if (name.endswith("/channel.json") and folder_of(name) in folders)
            or (name.rpartition("/")[2] == "index.json" and folder_of(name) in above)
            or (name.endswith("/user.json") and folder_of(folder_of(name)[:-1]) in tops)
        ]
        return [*messages, *names]

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints) -> Iterator[Item]:
        """All channels.

        Raises:
            StoreError: There is no room for temporary data.
        """
        author, uid, titles = "", "", dict[str, str]()
        for path in claimed:
            base = path.rpartition("/")[2]
            if base not in ("index.json", "user.json"):
                continue
            fields, problem = _object(tree, path, hints)
            yield from problem
            if base == "index.json":
                titles |= {own_id: word(title) for own_id, title in fields.items()}
            else:
                author = word(fields.get("global_name")) or word(fields.get("username"))
                uid = f"discord:{word(fields.get('id'))}" if word(fields.get("id")) else ""
        for path in claimed:
            if match := _MESSAGES.fullmatch(path):
                beside = folder_of(path) + "channel.json"
                fields, problem = _object(tree, beside, hints) if beside in claimed else ({}, ())
                yield from problem
                own_id = word(fields.get("id")) or match[2]
                title = word(fields.get("name")) or titles.get(own_id) or f"Discord channel {own_id}"
                if fields.get("name") and (guild := word(mapping(fields.get("guild")).get("name"))):
                    title = f"#{title} ({guild})"
                chat = Chat(key=f"discord:{own_id}", title=clip(title, TITLE_SIZE_MAX_BYTES))
                yield chat
                yield from _messages(tree, path, hints, chat.key, author, uid)


def _object(tree: Tree, path: str, hints: Hints) -> tuple[dict[str, Any], Sequence[Skipped]]:
    """A small JSON object, or why not."""
    try:
        with opened(tree, path, hints) as source:
            stream = JsonStream(source)
            return mapping(stream.build(*stream.next())), ()
    except (InvalidInput, UserError) as error:
        return {}, (Skipped(position=0, reason=str(error), file=path),)


def _messages(tree: Tree, path: str, hints: Hints, key: str, author: str, uid: str) -> Iterator[Item]:
    problem: Skipped | None = None
    with spooled() as waiting:
        try:
            with opened(tree, path, hints) as source:
                digest = source.hash_ahead()
                yield Provenance(format="discord-package", file_hash=digest, name=path.rpartition("/")[2])
                for ordinal, row in _rows(source) if path.endswith(".csv") else elements(source):
                    waiting.append(ordinal, row)
        except (InvalidInput, UserError) as error:
            problem = Skipped(position=0, reason=str(error), file=path)
        backwards = _number(waiting.first) > _number(waiting.last)
        for ordinal, row in waiting.rows(backwards=backwards):
            fields = mapping(row)
            own_id = word(fields.get("ID"))
            if not own_id:
                yield Skipped(position=ordinal, reason="a message without ID", file=path)
                continue
            yield from fitted(
                Record(
                    kind=Kind.MESSAGE,
                    mid=of_id(key, own_id),
                    author=author,
                    text=readable(word(fields.get("Contents")), {}),
                    time_ms=iso_ms(fields.get("Timestamp"), hints.zone),
                    position=ordinal,
                    uid=uid,
                    files=tuple(
                        file_beside(address, tree=None, folders=())
                        for address in word(fields.get("Attachments")).split()
                    ),
                )
            )
    if problem is not None:
        yield problem


def _number(row: Any) -> int:
    own_id = word(mapping(row).get("ID"))
    return int(own_id) if own_id.isascii() and own_id.isdecimal() and len(own_id) < 30 else 0


def _rows(source: Source) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file by the names in its first line.

    Raises:
        InvalidInput: It is no CSV from some line on.
    """
    reader = csv.reader(decode(line) + "\n" for _, line in source.lines())
    try:
        header: list[str] = next(reader, list[str]())
        for ordinal, row in enumerate(reader, 1):
            if row:
                yield ordinal, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise InvalidInput(f"no valid CSV: {error}", source=source.name, position=reader.line_num) from None
