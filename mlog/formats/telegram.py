"""Telegram Desktop's JSON export (result.json): one chat, or a whole account.

A chat is any object with `messages` at the top or in a `list` ("chats", "left_chats"); fields may stand in
any order. Its key is `telegram:<type>:<id>`, and a message is known by chat key and id.

| in the export                | becomes                                                             |
|------------------------------|---------------------------------------------------------------------|
| type "message"               | MESSAGE, with `to` from reply_to_message_id                         |
| edited, edited_unixtime      | an EDIT beside it, so that a later export brings the newer text     |
| reply_to_peer_id             | another chat: a first line says so; this chat: `to` as always       |
| reactions, where named       | REACTIONs; those of nobody in particular are `Skipped`              |
| type "service"               | JOIN, PART or EVENT: "actor action details"; a pin refers with `to` |
| photo, file                  | a File, at its path beside result.json; where it was not exported   |
|                              | a line in brackets before the caption besides: "[photo: a.jpg]"     |
| poll, place, contact ...     | a line in brackets before the caption                               |
| forwarded_from               | a first line: "[forwarded from ann]"                                |
| a field of a later version   | a line in brackets                                                  |

Times are UTC: date_unixtime, else date, which has no zone, in the one that was hinted, else in UTC.
People are known by from_id: "telegram:user4815".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import tzinfo
from typing import Any, Final, cast

from mlog.errors import InvalidInput
from mlog.formats.identity import Occurrences, of_id, of_line
from mlog.formats.json_chats import (
    Spool,
    details,
    dicts,
    document,
    edit,
    file_beside,
    folder_of,
    iso_ms,
    reaction,
    scaled_ms,
    spooled,
    unnamed_reactions,
    word,
)
from mlog.formats.json_stream import JsonStream
from mlog.formats.record import Chat, File, Item, Record, Skipped
from mlog.formats.source import Source
from mlog.formats.texts import clip, decode_head, fitted
from mlog.limits import TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

__all__ = ["TelegramImporter"]

_JOINS: Final = frozenset(
    ("join_group_by_link", "join_group_by_request", "invite_members", "joined_telegram")
)
_PARTS: Final = frozenset(("remove_members",))

_HEADER_FIELDS: Final = frozenset(
    (
        *("id", "type", "date", "date_unixtime", "actor", "actor_id", "action", "text", "text_entities"),
        *("message_id", "from", "from_id", "edited", "edited_unixtime", "reply_to_message_id"),
        *("reply_to_peer_id", "information_text", "width", "height", "reactions"),
    )
)
"""Fields of a service message that are not details to be read."""

_MEDIA: Final = (
    *("contact_information", "location_information", "place_name", "address", "game_title"),
    *("invoice_information", "dice", "giveaway_information", "todo_list", "paid_media"),
)

_SILENT_FIELDS: Final = frozenset(
    (
        *("id", "type", "date", "date_unixtime", "edited", "edited_unixtime", "from", "from_id", "text"),
        *("text_entities", "reply_to_message_id", "reply_to_peer_id", "reactions", "forwarded_from"),
        *("forwarded_from_id", "forwarded_date", "forwarded_date_unixtime", "saved_from", "via_bot"),
        *("author", "photo", "photo_file_size", "file", "file_name", "file_size", "thumbnail", "media_type"),
        *("thumbnail_file_size", "mime_type", "sticker_emoji", "duration_seconds", "width", "height"),
        *(
            "media_spoiler",
            "poll",
            "contact_vcard",
            "contact_vcard_file_size",
        ),
        *("live_location_period_seconds", "inline_bot_buttons", "message_id", "action", "actor"),
        *("actor_id", *_MEDIA),
    )
)
"""Fields of a message that are read elsewhere, or that say nothing to a reader."""


class TelegramImporter:
    """Reads result.json of Telegram Desktop."""

    name = "telegram"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether this is a JSON object with what Telegram writes in messages or before them."""
        text = decode_head(head).lstrip()
        if not text.startswith("{"):
            return False
        if '"messages"' in text and '"from"' in text and ('"date_unixtime"' in text or '"from_id"' in text):
            return True
        marks = (
            '"personal_information"',
            '"left_chats"',
            '"frequent_contacts"',
            '"actor_id"',
            '"text_entities"',
        )
        return any(mark in text for mark in marks) and any(
            mark in text for mark in ('"chats"', '"messages"', '"about"', '"contacts"')
        )

    def parse(self, source: Source) -> Iterator[Item]:
        """All chats of the export, in its order.

        Raises:
            InvalidInput: No JSON object, or broken from some byte on.
            LimitExceeded: One message is too large.
            StoreError: There is no room for temporary data.
        """
        stream = document(source, "Telegram")
        yield from _Reader(stream, source).chat(top=True)
        stream.end()


class _Reader:
    """Walks the document; ordinals of messages run through all chats."""

    def __init__(self, stream: JsonStream, source: Source) -> None:
        self._stream = stream
        self._source = source
        self._ordinal = 0

    def chat(self, *, top: bool = False) -> Iterator[Item]:
        """The object whose start was just read: a chat, or at the top what holds chats."""
        head: dict[str, Any] = {}
        broken: InvalidInput | None = None
        with spooled() as waiting:
            try:
                yield from self._fields(head, waiting, top=top)
            except InvalidInput as error:
                broken = error  # What came before the break is kept.
            if waiting:
                chat = _Chat(head, self._source)
                yield chat.chat
                for ordinal, message in waiting.rows(backwards=False):
                    yield from chat.items(message, ordinal)
        if broken is not None:
            raise broken

    def _fields(self, head: dict[str, Any], waiting: Spool, *, top: bool) -> Iterator[Item]:
        chat: _Chat | None = None
        while (token := self._stream.next())[0] != "end_map":
            field = str(token[1])
            event, value = self._stream.next()
            if field == "messages" and event == "start_array":
                for message in self._messages():
                    if chat is None and not waiting and _complete(head):
                        chat = _Chat(head, self._source)
                        yield chat.chat
                    if chat is not None:
                        yield from chat.items(message, self._ordinal)
                    else:  # The chat's name and id come after its messages: those wait.
                        waiting.append(self._ordinal, message)
            elif field in ("chats", "left_chats") and event == "start_map" and top:
                yield from self._container()
            elif event in ("start_map", "start_array"):
                self._stream.skip(event)
                if top and not head:
                    yield Skipped(position=self._ordinal, reason=f"section {field[:64]!r} holds no messages")
            elif field in ("id", "name", "type"):
                head[field] = value

    def _container(self) -> Iterator[Item]:
        while self._stream.next()[0] != "end_map":
            event, _ = self._stream.next()
            if event != "start_array":
                self._stream.skip(event)
                continue
            while (token := self._stream.next())[0] != "end_array":
                if token[0] == "start_map":
                    yield from self.chat()
                else:
                    self._stream.skip(token[0])

    def _messages(self) -> Iterator[Any]:
        while (token := self._stream.next())[0] != "end_array":
            self._ordinal += 1
            yield self._stream.build(*token)


class _Chat:
    """Turns the messages of one chat into records."""

    def __init__(self, head: dict[str, Any], source: Source) -> None:
        kind = word(head.get("type"))
        own_id = word(head.get("id"))
        name = word(head.get("name"))
        title = name or ("Saved messages" if kind == "saved_messages" else f"Telegram chat {own_id}".strip())
        self._key = f"telegram:{kind}:{own_id or name}"
        self._own_id = own_id
        self._source = source
        self._zone = source.hints.zone
        self._occurrences = Occurrences()
        self.chat = Chat(key=clip(self._key), title=clip(title, TITLE_SIZE_MAX_BYTES))

    def items(self, message: Any, ordinal: int) -> Iterator[Item]:
        """The record of one message, then its edit and reactions."""
        if not isinstance(message, dict):
            yield Skipped(position=ordinal, reason="not a message")
            return
        fields = cast(dict[str, Any], message)
        service = fields.get("type") == "service"
        files = dict(self._files(fields))
        here = {field for field, file in files.items() if file.path}
        kind, text = _service(fields) if service else (Kind.MESSAGE, _text_of(fields, here))
        author = word(fields.get("actor" if service else "from"))
        user = word(fields.get("actor_id" if service else "from_id"))
        author = author or user
        time_ms = _time_ms(fields, "date", self._zone)
        own_id = word(fields.get("id"))
        if own_id:
            mid = self._mid(own_id)
        else:
            said = text if service else _text_of(fields, ())  # The same with and without the files.
            first = of_line(f"{time_ms}s", kind, author, said)
            mid = self._occurrences.identity(first, time_ms)
        answered = word(fields.get("message_id" if service else "reply_to_message_id"))
        to: tuple[MessageId, ...] = ()
        peer = word(fields.get("reply_to_peer_id"))
        if answered and peer and peer.lstrip("abcdefghijklmnopqrstuvwxyz") != self._own_id:
            text = f"[in reply to message {answered} of {peer}]\n{text}"
        elif answered:
            to = (self._mid(answered),)
        record = Record(
            kind=kind,
            mid=mid,
            author=author,
            text=text,
            time_ms=time_ms,
            position=ordinal,
            to=to,
            uid=_uid(user),
            files=tuple(files.values()),
        )
        yield from fitted(record)
        edited_ms = _time_ms(fields, "edited", self._zone)
        if edited_ms and own_id and not service:
            yield from edit(record, scope=self._key, own_id=own_id, time_ms=edited_ms)
        for one in dicts(fields.get("reactions")):
            yield from self._reactions(one, record)

    def _reactions(self, one: dict[str, Any], record: Record) -> Iterator[Item]:
        emoji = word(one.get("emoji"))
        named = [who for who in dicts(one.get("recent")) if who.get("from") or who.get("from_id")]
        for who in named:
            user = word(who.get("from_id"))
            yield from reaction(
                record,
                scope=self._key,
                emoji=emoji,
                author=word(who.get("from")) or user,
                uid=_uid(user),
                who=user,
                time_ms=_time_ms(who, "date", self._zone),
            )
        yield from unnamed_reactions(record.position, one.get("count"), len(named), emoji)

    def _files(self, fields: dict[str, Any]) -> Iterator[tuple[str, File]]:
        """What was sent, by its field; its preview stands in where the export leaves the file itself out."""
        whole = False
        for field in ("photo", "file", "contact_vcard"):
            path = word(fields.get(field))
            if not path:
                continue
            whole = whole or not path.startswith("(")
            name = word(fields.get("file_name")) if field == "file" else ""
            if path.startswith("("):
                yield field, File(name=clip(name or field), type=word(fields.get("mime_type")))
                continue
            yield (
                field,
                file_beside(
                    path,
                    tree=self._source.tree,
                    folders=(folder_of(self._source.path),),
                    name=name,
                    kind=word(fields.get("mime_type")) if field == "file" else "",
                    size=fields.get("file_size" if field == "file" else f"{field}_file_size"),
                ),
            )
        thumbnail = word(fields.get("thumbnail"))
        if thumbnail and not whole and not thumbnail.startswith("("):
            folders = (folder_of(self._source.path),)
            yield "thumbnail", file_beside(thumbnail, tree=self._source.tree, folders=folders)

    def _mid(self, own_id: str) -> MessageId:
        return of_id(self._key, own_id)


def _uid(user: str) -> str:
    return f"telegram:{user}" if user else ""


def _complete(head: dict[str, Any]) -> bool:
    return "id" in head and "type" in head and ("name" in head or head["type"] == "saved_messages")


def _time_ms(fields: dict[str, Any], name: str, zone: tzinfo | None) -> int:
    seconds = word(fields.get(f"{name}_unixtime"))
    if seconds.isascii() and seconds.isdecimal() and len(seconds) < 15:
        return scaled_ms(seconds, 1000)
    return iso_ms(fields.get(name), zone)


def _text_of(fields: dict[str, Any], here: Collection[str]) -> str:
    """What a message says: where it is from, what hangs on it, and its text or caption.

    Args:
        here: Fields whose file is in the export: it speaks for itself.
    """
    lines: list[str] = []
    if "forwarded_from" in fields:
        lines.append(f"[forwarded from {word(fields['forwarded_from']) or 'somebody'}]")
    lines.extend(_attached(fields, here))
    text = _flat(fields.get("text") or fields.get("text_entities"))
    return "\n".join([*lines, text] if text or not lines else lines)


def _flat(text: Any) -> str:
    """Text is a string, or a list of strings and of objects with a text and perhaps an address."""
    if not isinstance(text, list):
        text = [text]
    parts: list[str] = []
    for piece in cast(list[Any], text):
        if isinstance(piece, dict):
            entity = cast(dict[str, Any], piece)
            said, address = word(entity.get("text")), word(entity.get("href"))
            parts.append(f"{said} ({address})" if address and address != said else said)
        else:
            parts.append(word(piece))
    return "".join(parts)


def _attached(fields: dict[str, Any], here: Collection[str]) -> Iterator[str]:
    if "photo" in fields and "photo" not in here:
        yield _bracketed("photo", _file_name(fields["photo"]))
    if "file" in fields or "media_type" in fields:
        what = (word(fields.get("media_type")) or "file").replace("_", " ")
        emoji = word(fields.get("sticker_emoji"))
        if "file" not in here:
            name = word(fields.get("file_name")) or _file_name(fields.get("file"))
            yield _bracketed(what, " ".join(filter(None, (emoji, name))))
        elif emoji:
            yield _bracketed(what, emoji)
    poll = fields.get("poll")
    if isinstance(poll, dict):
        asked = cast(dict[str, Any], poll)
        yield _bracketed("poll", _flat(asked.get("question")))
        for answer in dicts(asked.get("answers")):
            yield f"- {_flat(answer.get('text'))} ({word(answer.get('voters')) or '0'})"
    for field in _MEDIA:
        if field in fields:
            yield _bracketed(field.removesuffix("_information").replace("_", " "), details(fields[field]))
    for field in sorted(fields.keys() - _SILENT_FIELDS):
        if fields[field] not in (None, "", False, [], {}):
            yield _bracketed(field.replace("_", " "), details(fields[field]))


def _bracketed(what: str, details: str) -> str:
    return f"[{what}: {details}]" if details else f"[{what}]"


def _file_name(path: Any) -> str:
    """The last part of a path; "" where the export says in brackets that the file is not there."""
    name = word(path)
    return "" if name.startswith("(") else name.replace("\\", "/").rpartition("/")[2]


def _service(fields: dict[str, Any]) -> tuple[Kind, str]:
    action = word(fields.get("action"))
    kind = Kind.JOIN if action in _JOINS else Kind.PART if action in _PARTS else Kind.EVENT
    if action == "custom_action" and fields.get("information_text"):
        return kind, word(fields["information_text"])
    further = {name: value for name, value in fields.items() if name not in _HEADER_FIELDS}
    actor = word(fields.get("actor")) or word(fields.get("actor_id"))
    said = _flat(fields.get("text"))
    return kind, " ".join(filter(None, (actor, action.replace("_", " "), details(further), said)))
