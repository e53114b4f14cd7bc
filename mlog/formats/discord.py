"""DiscordChatExporter's JSON: one channel or direct chat with everything that was said in it.

A chat is `discord:<channel id>`, a message is known by it and its id, a person as "discord:<id>".

| in the export                     | becomes                                                       |
|-----------------------------------|---------------------------------------------------------------|
| Default, Reply, commands          | MESSAGE, with `to` from reference                             |
| GuildMemberJoin, RecipientAdd     | JOIN; RecipientRemove PART                                    |
| any other type: pins, calls ...   | EVENT; a pin refers with `to`                                 |
| timestampEdited                   | an EDIT beside it                                             |
| reactions                         | REACTIONs; those of nobody in particular are `Skipped`        |
| attachments, stickers             | Files, at their path where the media were exported too        |
| embeds, forwardedMessage, unknown | further lines of text                                         |
| <@1>, <:tea:1>                    | "@ann", ":tea:"                                               |
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec

from mlog.formats.identity import Occurrences, of_id, of_line
from mlog.formats.json_chats import (
    details,
    dicts,
    document,
    edit,
    file_beside,
    folder_of,
    iso_ms,
    mapping,
    reaction,
    unnamed_reactions,
    walk,
    word,
)
from mlog.formats.record import Chat, File, Item, Record, Skipped
from mlog.formats.source import Source
from mlog.formats.texts import clip, decode_head, fitted
from mlog.limits import TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

__all__ = ["DiscordImporter", "readable"]

_KINDS: Final = {
    **dict.fromkeys(("", "Default", "Reply", "ChatInputCommand", "ContextMenuCommand"), Kind.MESSAGE),
    **dict.fromkeys(("ThreadStarterMessage", "0", "19", "20", "21", "23"), Kind.MESSAGE),
    **dict.fromkeys(("GuildMemberJoin", "RecipientAdd", "7", "1"), Kind.JOIN),
    **dict.fromkeys(("RecipientRemove", "2"), Kind.PART),
}
_SILENT_FIELDS: Final = frozenset(
    (
        *("id", "type", "timestamp", "timestampEdited", "callEndedTimestamp", "isPinned", "content"),
        *("author", "attachments", "embeds", "stickers", "reactions", "mentions", "reference"),
        *("inlineEmojis", "forwardedMessage", "interaction"),
    )
)
_MARK: Final = re.compile(r"<(@[!&]?|#|a?:\w+:)(\d+|[\w-]+)>")


class DiscordImporter:
    """Reads a channel that DiscordChatExporter wrote."""

    name = "discord"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether this is a JSON object with a channel, or messages as only Discord has them."""
        text = decode_head(head).lstrip()
        if not text.startswith("{"):
            return False
        marks = ('"timestampEdited"', '"isPinned"', '"discriminator"', '"avatarUrl"', '"dateRange"')
        seen = sum(mark in text for mark in marks)
        return ('"guild"' in text and '"channel"' in text and (seen > 0 or '"messages"' in text)) or (
            '"messages"' in text and seen > 2
        )

    def parse(self, source: Source) -> Iterator[Item]:
        """The channel, in its order.

        Raises:
            InvalidInput: No JSON object, or broken from some byte on.
            LimitExceeded: One message is too large.
            StoreError: There is no room for temporary data.
        """
        stream = document(source, "Discord")
        channel: _Channel | None = None
        rows = walk(stream, "messages", ("guild", "channel"), ready=lambda head: len(head) == 2)
        for head, ordinal, row in rows:
            if channel is None:
                channel = _Channel(head, source)
                yield channel.chat
            if isinstance(row, dict):
                yield from channel.items(mapping(row), ordinal)
            elif ordinal:
                yield Skipped(position=ordinal, reason="not a message")
        stream.end()


class _Channel:
    """Turns the messages of one channel into records."""

    def __init__(self, head: dict[str, Any], source: Source) -> None:
        guild, channel = mapping(head.get("guild")), mapping(head.get("channel"))
        self._own_id = word(channel.get("id"))
        name = word(channel.get("name"))
        self._key = f"discord:{self._own_id or name}"
        self._source = source
        self._names: dict[str, str] = {}
        self._occurrences = Occurrences()
        title = name or f"Discord channel {self._own_id}".strip()
        if word(guild.get("id")) not in ("", "0") and word(guild.get("name")):
            title = f"#{title} ({word(guild['name'])})"
        self.chat = Chat(key=clip(self._key), title=clip(title, TITLE_SIZE_MAX_BYTES))

    def items(self, row: dict[str, Any], ordinal: int) -> Iterator[Item]:
        """The record of one message, then its edit and reactions."""
        kind = _KINDS.get(word(row.get("type")), Kind.EVENT)
        author, uid = _person(mapping(row.get("author")))
        own_id = word(row.get("id"))
        time_ms = iso_ms(row.get("timestamp"), self._source.hints.zone)
        files = tuple(self._files(row))
        text, to = self._text(row, {file.name for file in files if file.path}), ()
        reference = mapping(row.get("reference"))
        answered, where = word(reference.get("messageId")), word(reference.get("channelId"))
        if answered and (where in ("", self._own_id)) and not row.get("forwardedMessage"):
            to = (self._mid(answered),)
        elif answered and where != self._own_id:
            text = f"[message {answered} of channel {where}]\n{text}"
        if kind is Kind.EVENT and not text:
            text = word(row.get("type"))
        if own_id:
            mid = self._mid(own_id)
        else:
            first = of_line(str(time_ms), kind, author, self._text(row, ()) or text)
            mid = self._occurrences.identity(first, time_ms)
        record = Record(
            kind=kind,
            mid=mid,
            author=author,
            text=text,
            time_ms=time_ms,
            position=ordinal,
            to=to,
            uid=uid,
            files=files,
        )
        yield from fitted(record)
        edited_ms = iso_ms(row.get("timestampEdited"), self._source.hints.zone)
        if edited_ms and own_id and kind is Kind.MESSAGE:
            yield from edit(record, scope=self._key, own_id=own_id, time_ms=edited_ms)
        for one in dicts(row.get("reactions")):
            yield from self._reactions(one, record)

    def _reactions(self, one: dict[str, Any], record: Record) -> Iterator[Item]:
        sign = mapping(one.get("emoji"))
        emoji = word(sign.get("name"))
        if emoji and (word(sign.get("id")) or emoji.isascii()):
            emoji = f":{emoji}:"
        users = dicts(one.get("users"))
        for user in users:
            author, uid = _person(user)
            yield from reaction(record, scope=self._key, emoji=emoji, author=author, uid=uid)
        yield from unnamed_reactions(record.position, one.get("count"), len(users), emoji)

    def _mid(self, own_id: str) -> MessageId:
        return of_id(self._key, own_id)

    def _text(self, row: dict[str, Any], here: Collection[str]) -> str:
        """What people saw, without stickers whose picture is there."""
        names = {word(one.get("id")): _person(one)[0] for one in dicts(row.get("mentions"))}
        lines: list[str] = []
        if command := word(mapping(row.get("interaction")).get("name")):
            by = _person(mapping(mapping(row.get("interaction")).get("user")))[0]
            lines.append(f"[/{command} by {by}]" if by else f"[/{command}]")
        lines.append(readable(word(row.get("content")), names))
        if isinstance(row.get("forwardedMessage"), dict):
            forwarded = mapping(row["forwardedMessage"])
            lines += ["[forwarded]", readable(word(forwarded.get("content")), names), *_embeds(forwarded)]
        lines += _embeds(row)
        stickers = [word(one.get("name")) for one in dicts(row.get("stickers"))]
        lines += [f"[sticker: {name}]" for name in stickers if clip(name) not in here]
        for field in sorted(row.keys() - _SILENT_FIELDS):
            if row[field] not in (None, "", False, [], {}):
                lines.append(f"[{field}: {details(row[field])}]")
        return "\n".join(filter(None, lines))

    def _files(self, row: dict[str, Any]) -> Iterator[File]:
        for holder in (row, mapping(row.get("forwardedMessage"))):
            for one in dicts(holder.get("attachments")):
                yield self._file(word(one.get("url")), word(one.get("fileName")), one.get("fileSizeBytes"))
            for one in dicts(holder.get("stickers")):
                file = self._file(word(one.get("sourceUrl")), "", 0)
                if file.path:
                    yield msgspec.structs.replace(file, name=clip(word(one.get("name")) or file.name))

    def _file(self, url: str, name: str, size: Any) -> File:
        folders = (folder_of(self._source.path),)
        return file_beside(url, tree=self._source.tree, folders=folders, name=name, size=size)


def _person(user: dict[str, Any]) -> tuple[str, str]:
    """The name that people see, and the uid."""
    own_id = word(user.get("id"))
    name = word(user.get("nickname")) or word(user.get("name")) or own_id
    return name, f"discord:{own_id}" if own_id else ""


def readable(text: str, names: dict[str, str]) -> str:
    """Text with names in place of ids, and emoji of a server by theirs."""

    def shown(match: re.Match[str]) -> str:
        mark, own_id = match[1], match[2]
        if mark.endswith(":"):
            return mark.removeprefix("a")
        return f"{mark[0]}{names[own_id]}" if names.get(own_id) else match[0]

    return _MARK.sub(shown, text) if "<" in text else text


def _embeds(row: dict[str, Any]) -> Iterator[str]:
    """Previews and what bots say: title, address, text and fields."""
    content = word(row.get("content"))
    for one in dicts(row.get("embeds")):
        title, address = word(one.get("title")), word(one.get("url"))
        if address and address not in content and address != title:
            title = f"{title} ({address})" if title else address
        yield from (word(mapping(one.get("author")).get("name")), title, word(one.get("description")))
        for field in dicts(one.get("fields")):
            yield f"{word(field.get('name'))}: {word(field.get('value'))}"
        yield word(mapping(one.get("footer")).get("text"))
