"""Google Chat from Takeout: a messages.json for each chat, with group_info.json beside it.

| in the export                          | becomes                                               |
|----------------------------------------|-------------------------------------------------------|
| message_id "group/topic/message"       | the identity; the chat's key is `google-chat:<group>` |
| a message that does not begin its topic| `to` the one that does                                |
| quoted_message_metadata                | `to`, or lines with ">" where its id is not told      |
| previous_message_versions              | the oldest is the MESSAGE, later ones are EDITs       |
| updated_date alone                     | an EDIT beside the MESSAGE                            |
| reactions                              | REACTIONs, each by an address                         |
| message_state DELETED                  | an erased message                                     |
| attached_files                         | attachments, found by export_name                     |
| annotations of a message without text  | a line in brackets                                    |

Dates are sentences in the account's language (mlog/formats/long_dates.py). One that cannot be read is
reported, and the message has time 0.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, cast

import msgspec

from mlog.errors import InvalidInput, UserError
from mlog.formats.beside import Beside, folder_of
from mlog.formats.identity import Occurrences, of_id, of_line
from mlog.formats.json_chats import dicts, document, mapping, opened, word
from mlog.formats.json_stream import JsonStream
from mlog.formats.long_dates import long_date_ms
from mlog.formats.record import Chat, File, Item, Provenance, Record, Skipped
from mlog.formats.source import Hints, Source
from mlog.formats.texts import clip, decode_head, fitted
from mlog.formats.tree import Tree
from mlog.limits import EMOJI_SIZE_MAX_BYTES, TITLE_SIZE_MAX_BYTES
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

__all__ = ["GoogleChatImporter", "GoogleChatTreeImporter"]

_FOLDER: Final = re.compile(r"(?:^|/)(?:DM|Space)[ _](?P<id>[^/]+)/$")
_NAMELESS_GROUP: Final = "Group Chat"
"""What Takeout calls every group whose members gave it no name."""


class GoogleChatImporter:
    """Reads one messages.json."""

    name = "google-chat"

    def sniff(self, head: bytes, _name: str) -> bool:
        """Whether this is an object with messages that have a creator and a topic."""
        text = decode_head(head).lstrip()
        return (
            text.startswith("{")
            and '"messages"' in text
            and '"creator"' in text
            and ('"topic_id"' in text or '"created_date"' in text)
        )

    def parse(self, source: Source) -> Iterator[Item]:
        """The messages of the chat.

        Raises:
            InvalidInput: No JSON object, or broken from some byte on.
            LimitExceeded: One message is too large.
        """
        stream = document(source, "Google Chat")
        reader: _Reader | None = None
        while (token := stream.next())[0] != "end_map":
            event, _ = stream.next()
            if token[1] != "messages" or event != "start_array":
                stream.skip(event)
                continue
            while (token := stream.next())[0] != "end_array":
                message = stream.build(*token)
                if reader is None:
                    reader = _Reader(source, message)
                    yield reader.chat
                yield from reader.items(message)
        stream.end()


class GoogleChatTreeImporter:
    """Reads all chats of a Takeout folder or archive."""

    name = "google-chat"

    def claim(self, tree: Tree, /) -> Sequence[str]:
        """Every messages.json of a chat, and what describes it."""
        names = set(tree.names)
        claimed: list[str] = []
        for name in tree.names:
            folder = folder_of(name)
            if name == f"{folder}messages.json" and (
                f"{folder}group_info.json" in names or _FOLDER.search(folder)
            ):
                claimed.append(name)
                if f"{folder}group_info.json" in names:
                    claimed.append(f"{folder}group_info.json")
        return claimed

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints, /) -> Iterator[Item]:
        """The chats, one after the other; a broken file is reported, and the others follow."""
        for path in claimed:
            if not path.endswith("messages.json"):
                continue
            name = path.rpartition("/")[2]
            position = 0
            try:
                with opened(tree, path, hints) as source:
                    file_hash = source.hash_ahead()
                    for item in GoogleChatImporter().parse(source):
                        if isinstance(item, Skipped):
                            yield msgspec.structs.replace(item, file=path)
                            continue
                        yield item
                        if isinstance(item, Chat):
                            yield Provenance(format="google-chat", file_hash=file_hash, name=name)
                        elif isinstance(item, Record):
                            position = item.position
            except InvalidInput as error:
                yield Skipped(position=position + 1, reason=f"broken from here on: {error}", file=path)
            except UserError as error:
                yield Skipped(position=0, reason=str(error), file=path)


class _Reader:
    """Makes records of the messages of one chat."""

    def __init__(self, source: Source, first: Any) -> None:
        self._zone = source.hints.zone
        folder = folder_of(source.path)
        self._beside = Beside(source.tree, folder)
        info = _info(source.tree, self._beside.find("group_info.json"))
        self._names: dict[str, str] = {}
        for member in dicts(info.get("members")):
            if word(member.get("email")):
                self._names[word(member.get("email"))] = word(member.get("name"))
        fields = mapping(first)
        group, slash, _ = word(fields.get("message_id")).partition("/")
        named = _FOLDER.search(folder)
        if not slash:
            group = named["id"] if named is not None else ""
        group = group or of_line("", Kind.MESSAGE, "", repr(fields)).hex()
        title = word(info.get("name"))
        if title in ("", _NAMELESS_GROUP):
            names = [word(one.get("name")) or word(one.get("email")) for one in dicts(info.get("members"))]
            title = ", ".join(filter(None, names)) or title or f"Google Chat {group}"
        self._key = f"google-chat:{group}"
        self._occurrences = Occurrences()
        self._ordinal = 0
        self.chat = Chat(key=clip(self._key), title=clip(title, TITLE_SIZE_MAX_BYTES))

    def items(self, message: Any) -> Iterator[Item]:
        """The record of one message, then its edits and reactions."""
        self._ordinal += 1
        if not isinstance(message, dict):
            yield Skipped(position=self._ordinal, reason="not a message")
            return
        fields = cast(dict[str, Any], message)
        time_ms = yield from self._time(fields.get("created_date"))
        creator = mapping(fields.get("creator"))
        email = word(creator.get("email"))
        author = word(creator.get("name")) or email
        erased = word(fields.get("message_state")).upper() == "DELETED" or "deletion_metadata" in fields
        text = _text(fields)
        own_id = word(fields.get("message_id"))
        if own_id:
            mid = self._mid(own_id)
        else:
            first = of_line(f"{time_ms}s", Kind.MESSAGE, email or author, text)
            mid = self._occurrences.identity(first, time_ms)
        before, to = self._answered(fields, own_id, mid)
        versions = [] if erased else dicts(fields.get("previous_message_versions"))
        updated = fields.get("updated_date")
        record = Record(
            kind=Kind.MESSAGE,
            mid=mid,
            author=author,
            text="" if erased else before + (_text(versions[0]) if versions else text),
            time_ms=time_ms,
            position=self._ordinal,
            to=to,
            erased=erased,
            uid=f"mailto:{email}" if email else "",
            files=() if erased else tuple(self._files(fields)),
        )
        yield from fitted(record)
        if not erased and (versions or updated):
            for version in [*versions[1:], fields]:
                written = version.get("updated_date") or version.get("created_date")
                yield from self._edit(record, before + _text(version), written)
        for reaction in dicts(fields.get("reactions")):
            yield from self._reactions(reaction, record)

    def _edit(self, record: Record, text: str, written: Any) -> Iterator[Item]:
        time_ms = yield from self._time(written)
        mid = of_id(self._key, f"{record.mid.hex()} edit {time_ms}")
        edit = msgspec.structs.replace(record, kind=Kind.EDIT, mid=mid, text=text, to=(record.mid,), files=())
        yield from fitted(msgspec.structs.replace(edit, time_ms=time_ms or record.time_ms))

    def _answered(
        self, fields: dict[str, Any], own_id: str, mid: MessageId
    ) -> tuple[str, tuple[MessageId, ...]]:
        """What a message quotes that is not known by an id, and the messages that it answers."""
        quoted = mapping(fields.get("quoted_message_metadata") or fields.get("quotes_message_metadata"))
        quoted_id = word(quoted.get("message_id"))
        if quoted_id:
            return "", (self._mid(quoted_id),) if self._mid(quoted_id) != mid else ()
        said = word(quoted.get("text"))
        before = "".join(f"> {line}\n" for line in said.split("\n")) if said else ""
        parts = own_id.split("/")
        if len(parts) == 3 and parts[1] != parts[2]:
            return before, (self._mid(f"{parts[0]}/{parts[1]}/{parts[1]}"),)
        return before, ()

    def _files(self, fields: dict[str, Any]) -> Iterator[File]:
        for one in dicts(fields.get("attached_files")):
            exported = word(one.get("export_name"))
            name = word(one.get("original_name")) or exported
            if name:
                yield self._beside.file(name, self._beside.find(exported) if exported else "")

    def _reactions(self, reaction: dict[str, Any], record: Record) -> Iterator[Item]:
        emoji = mapping(reaction.get("emoji"))
        sign = word(emoji.get("unicode")) or word(mapping(emoji.get("custom_emoji")).get("shortcode"))
        emails = reaction.get("reactor_emails")
        if not 0 < len(sign.encode()) <= EMOJI_SIZE_MAX_BYTES or not isinstance(emails, list):
            yield Skipped(position=record.position, reason="a reaction without its emoji or its people")
            return
        for email in dict.fromkeys(map(word, cast(list[Any], emails))):
            yield from fitted(
                Record(
                    kind=Kind.REACTION,
                    mid=of_id(self._key, f"{record.mid.hex()} reaction {email} {sign}"),
                    author=self._names.get(email) or email,
                    text=sign,
                    time_ms=record.time_ms,
                    position=record.position,
                    to=(record.mid,),
                    uid=f"mailto:{email}" if email else "",
                )
            )

    def _time(self, written: Any) -> Generator[Item, None, int]:
        """Milliseconds since 1970 as the generator's value; a date that is not understood is reported."""
        time_ms = long_date_ms(word(written), self._zone)
        if time_ms is None:
            reason = f"date {word(written)[:80]!r} is not understood: the time is left open"
            yield Skipped(position=self._ordinal, reason=reason)
        return time_ms or 0

    def _mid(self, own_id: str) -> MessageId:
        return of_id(self._key, own_id)


def _info(tree: Tree | None, path: str) -> dict[str, Any]:
    """What group_info.json says; nothing where it is missing or broken."""
    if tree is None or not path:
        return {}
    try:
        with tree.open(path) as stream:
            json = JsonStream(Source(stream, path))
            return mapping(json.build(*json.next()))
    except (InvalidInput, UserError):
        return {}


def _text(fields: dict[str, Any]) -> str:
    text = word(fields.get("text"))
    if text:
        return text
    lines: list[str] = []
    for annotation in dicts(fields.get("annotations")):
        for name, value in annotation.items():
            if name.endswith("_metadata") and name != "format_metadata":
                what = name.removesuffix("_metadata").replace("_", " ")
                lines.append(f"[{what}: {', '.join(_strings(value))}]")
    return "\n".join(lines)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, dict):
        for one in cast(dict[str, Any], value).values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in cast(list[Any], value):
            yield from _strings(one)
