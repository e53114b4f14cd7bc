"""Telegram-style JSON: one chat as Telegram Desktop would export it, for readers of that format.

Messages are numbered from 1. Texts are those after all edits; edits, reactions, erasures and titles
have no line of their own, and an erased message says so. Joins, notices and the like
become service messages with the action "custom_action". Identities are not kept: mlog's own
JSON lines do that. Telegram has one file in a message: the names of further ones stand in the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from blake3 import blake3

from mlog.formats.identity import SpillingMap
from mlog.formats.record import Chat, ExportRecord
from mlog.log.bodies import SPOKEN, Kind

__all__ = ["TelegramExporter"]

_SAID: Final = frozenset((Kind.MESSAGE, Kind.REPLY, Kind.ACTION, Kind.NOTICE))
_NOT_INCLUDED: Final = "(File not included. Change data exporting settings to download.)"
"""What Telegram Desktop writes in place of a path."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MAX: Final = 253_402_300_799
"""The last second of the year 9999, the last one that ISO dates can write."""


class TelegramExporter:
    """Writes result.json."""

    name = "telegram"

    def export(self, chat: Chat, records: Iterable[ExportRecord]) -> Iterator[bytes]:
        """The whole document, a message at a time."""
        encode = msgspec.json.encode
        kind, own_id = _kind_and_id(chat.key)
        head = encode({"name": chat.title, "type": kind, "id": own_id})
        yield head[:-1] + b',"messages":['
        numbers = SpillingMap()
        number = 0
        for exported in records:
            if exported.record.kind not in SPOKEN:
                continue
            number += 1
            numbers.put(exported.record.mid, number)
            yield (b",\n" if number > 1 else b"\n") + encode(_message(exported, number, numbers))
        yield b"\n]}\n"


def _message(exported: ExportRecord, number: int, numbers: SpillingMap) -> dict[str, Any]:
    record = exported.record
    seconds = min(record.time_ms // 1000, _SECONDS_MAX)
    date = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    said = record.kind in _SAID
    fields: dict[str, Any] = {
        "id": number,
        "type": "message" if said else "service",
        "date": date,
        "date_unixtime": str(seconds),
    }
    text = record.text if exported.current is None else exported.current
    if record.erased:
        text = "[erased]"
    if not said:
        return fields | {
            "actor": record.author,
            "actor_id": _user_id(record.author),
            "action": "custom_action",
            "information_text": text,
            "text": "",
            "text_entities": [],
        }
    if record.kind is Kind.ACTION:
        text = f"* {record.author} {text}"
    fields |= {"from": record.author, "from_id": _user_id(record.author)}
    answered = next((found for mid in record.to if (found := numbers.get(mid)) is not None), None)
    if answered is not None:
        fields["reply_to_message_id"] = answered
    files = () if record.erased else record.files
    if files:
        fields["file"] = files[0].path or _NOT_INCLUDED
        fields["file_name"] = files[0].name
        fields |= {"mime_type": files[0].type} if files[0].type else {}
        fields |= {"file_size": files[0].size} if files[0].size else {}
    text = "\n".join(filter(None, [*(f"[file: {file.name}]" for file in files[1:]), text]))
    return fields | {"text": text, "text_entities": [{"type": "plain", "text": text}] if text else []}


def _kind_and_id(key: str) -> tuple[str, int]:
    """Type and id of the chat: its own where it came from Telegram, else made from its key."""
    program, _, rest = key.partition(":")
    kind, _, own_id = rest.rpartition(":")
    if program == "telegram" and kind and own_id.isascii() and own_id.isdecimal() and len(own_id) < 17:
        return kind, int(own_id)
    return "private_group", _number(key)


def _user_id(author: str) -> str:
    return f"user{_number(author)}"


def _number(name: str) -> int:
    """A positive number that stands for a name, as small as Telegram's are."""
    return int.from_bytes(blake3(name.encode()).digest(length=5)) + 1
