"""How messages, entries and findings read: as fields for programs and as lines for people.

What the fields are called: mlog/cli/output.py. Everything that another person wrote, names and titles
included, passes `terminal.safe` here. Loaded by commands that show something; imports the API.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from mlog.api.ended import ended
from mlog.cli.output import iso_or_none
from mlog.cli.terminal import iso, safe, safe_block, shorten, when, width
from mlog.log.bodies import SPOKEN, Kind, kind_name
from mlog.log.ids import DeviceId, EntryId
from mlog.log.store import LogKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlog.api import Conversation, Entry, Home
    from mlog.api.repair import Absence, Holder
    from mlog.api.seen import Seen
    from mlog.cli.output import Console
    from mlog.log.private_state import ConversationState
    from mlog.log.store import EntryRow, LogRow
    from mlog.log.verify import Finding
    from mlog.log.view import Attached, Message

__all__ = ["ID_DIGITS", "Lines", "size_text", "stamp"]

ID_DIGITS: Final = 8
"""Digits of an id that are shown: in 100,000 messages one pair may share them, and is then listed."""

_LOG_NAMES: Final = {LogKind.PERSON: "your devices", LogKind.PRIVATE: "your settings"}


_WHEN_WIDTH: Final = 11
"""`today 14:05`; a year with its day takes ten."""

_STAMP_WIDTH: Final = 16

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def stamp(time_ms: int) -> str:
    """Day and minute on this person's clock, in 16 columns that sort: `2024-05-12 14:05`."""
    if time_ms == 0:
        return "no date".ljust(_STAMP_WIDTH)
    try:
        return f"{(_EPOCH + timedelta(milliseconds=time_ms)).astimezone():%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):
        return iso(time_ms)[:_STAMP_WIDTH]


def size_text(size: int) -> str:
    """A number of bytes in the unit that people would take."""
    shown = float(size)
    for unit in ("bytes", "KB", "MB"):
        if shown < 1000:
            return f"{shown:.0f} {unit}" if unit == "bytes" or shown >= 10 else f"{shown:.1f} {unit}"
        shown /= 1000
    return f"{shown:.1f} GB"


class Lines:
    """Knows the names of a home, and how its things read.

    Args:
        home: Open; names are read from it once.
        console: Says whether there is colour.
    """

    def __init__(self, home: Home, console: Console):
        self._home = home
        self._console = console
        self._now_ms = home.now_ms()
        self._logs: dict[int, LogRow] = {row.n: row for row in home.store.logs()}
        self._people = {row.id: row.person for row in home.store.devices()}
        self.claimed = False
        """An imported message was shown, so the reader should learn how they are marked."""

    # -- conversations -----------------------------------------------------------------------

    def title(self, log: int) -> str:
        """What a log is called, safe to print."""
        row = self._logs.get(log)
        if row is None:
            return "the database"
        if row.kind != LogKind.CONVERSATION:
            return _LOG_NAMES[row.kind]
        return safe(row.title) or "(no title)"

    def place(self, log: int) -> dict[str, object]:
        """The fields that say in which conversation something is."""
        row = self._logs.get(log)
        return {
            "topic": row.topic.hex() if row is not None else None,
            "conversation": row.title if row is not None else None,
        }

    def conversation(
        self,
        conversation: Conversation,
        latest: Message | None,
        noted: ConversationState | None = None,
        unread: int = 0,
    ) -> dict[str, object]:
        """Fields of a conversation."""
        return {
            "topic": conversation.topic.hex(),
            "title": conversation.title,
            "latest": None if latest is None else self.message(latest),
            "unread": unread,
            "pinned": noted is not None and noted.pinned,
            "muted": noted is not None and noted.muted,
            "labels": [] if noted is None else list(noted.labels),
            **self.ended(conversation.n),
        }

    def ended(self, log: int) -> dict[str, object]:
        """Fields of how this person came out of a conversation."""
        how = ended(self._home, log)
        if how is None:
            return {"ended": None, "ended_by": None, "ended_at": None}
        return {"ended": how.how, "ended_by": how.by or None, "ended_at": iso_or_none(how.time_ms)}

    # -- messages ----------------------------------------------------------------------------

    def message(self, message: Message) -> dict[str, object]:
        """Fields of a message."""
        return {
            "id": message.id.hex(),
            "message_id": message.mid.hex(),
            **self.place(message.log),
            "kind": kind_name(message.kind),
            "author": message.author.name or None,
            "claimed": message.author.claimed,
            "device": message.author.device.hex(),
            "time": iso_or_none(message.time_ms),
            "text": message.text,
            "reply_to": [target.hex() for target in message.to],
            "edited": message.edited,
            "erased": message.erased,
            "absent": message.absent,
            "closed": message.closed,
            "damage": message.damage,
            "reactions": [
                {"emoji": reacted.emoji, "authors": list(reacted.authors)} for reacted in message.reactions
            ],
            "attachments": [self.attachment(attached) for attached in message.attachments],
        }

    def message_line(self, message: Message, *, titled: bool = False) -> str:
        """A message as people read it; further lines of its text are indented."""
        head = f"{self._console.dim(message.mid.hex()[:ID_DIGITS])}  {stamp(message.time_ms)}  "
        indent = ID_DIGITS + 2 + _STAMP_WIDTH + 2
        if titled:
            title = self.title(message.log)
            head += f"{self._console.bold(title)}  "
            indent += width(title) + 2
        return head + self.said(message, indent)

    def said(self, message: Message, indent: int = 4) -> str:
        """Author and text of a message."""
        speaker = self._speaker(message.kind, message.author.name, claimed=message.author.claimed)
        answers = "".join(f"@{target.hex()[:ID_DIGITS]} " for target in message.to)
        text = self._text(message, indent)
        if message.edited:
            text += self._console.dim(" (edited)")
        for attached in message.attachments:
            text += self._console.dim(f" [{self.attachment_label(attached)}]")
        if message.reactions:
            shown = "  ".join(f"{r.emoji} {', '.join(r.authors)}" for r in message.reactions)
            text += self._console.dim(f"  [{safe(shown)}]")
        return f"{speaker}{self._console.dim(answers)}{text}"

    def attachment(self, attached: Attached, state: str | None = None) -> dict[str, object]:
        """Fields of an attachment."""
        from mlog.api.attachments import attachment_fields

        fields = attachment_fields(attached)
        return fields if state is None else fields | {"state": state}

    def attachment_label(self, attached: Attached) -> str:
        """A file as people read it; safe."""
        size = f", {size_text(attached.size)}" if attached.size else ""
        here = "" if attached.has_content else ", by name only"
        return f"{attached.id.hex()[:ID_DIGITS]} {safe(attached.name)}{size}{here}"

    def preview(self, message: Message, columns: int) -> str:
        """The start of a message in one line of so many columns."""
        speaker = self._speaker(message.kind, message.author.name, claimed=message.author.claimed)
        text = safe(message.text) if message.text else self._text(message, 0)
        return shorten(speaker + text, columns)

    def _text(self, message: Message, indent: int) -> str:
        if message.damage:
            return self._console.bad(f"[damaged: {message.damage}]")
        if message.erased:
            return self._console.dim("[erased]")
        if message.closed:
            return self._console.dim("[from before you joined]")
        if message.absent:
            return self._console.dim("[not here yet]")
        return safe_block(message.text, indent)

    def _speaker(self, kind: int, name: str, *, claimed: bool) -> str:
        """Who says something; a name in angle brackets is what a file says."""
        self.claimed = self.claimed or claimed
        name = safe(name) or "?"
        match kind:
            case Kind.JOIN | Kind.PART | Kind.RENAME | Kind.EVENT:
                return "-- "
            case Kind.ACTION:
                return f"* <{name}> " if claimed else f"* {name} "
            case Kind.NOTICE:
                return f"-<{name}>- " if claimed else f"-{name}- "
            case _:
                return f"<{name}> " if claimed else f"{name}: "

    def _when(self, time_ms: int) -> str:
        return when(time_ms, self._now_ms, None).ljust(_WHEN_WIDTH)

    # -- entries -----------------------------------------------------------------------------

    def entry(self, entry: Entry) -> dict[str, object]:
        """Fields of an entry."""
        return {
            "id": entry.id.hex(),
            **self.place(entry.log),
            "kind": kind_name(entry.kind),
            "author": self.author(entry),
            "device": entry.device.hex() or None,
            "incarnation": entry.incarnation.hex() or None,
            "seq": entry.seq,
            "prev": None if entry.prev is None else entry.prev.hex(),
            "parents": [parent.hex() for parent in entry.parents],
            "time": iso_or_none(entry.time_ms),
            "week": entry.week,
            "imported": entry.imported,
            "signed": entry.signed,
            "head": entry.head,
            "state": entry.state,
            "outer_size": entry.outer_size,
            "body_size": entry.body_size,
            "body": entry.body,
            "damage": entry.damage,
        }

    def author(self, entry: Entry) -> str | None:
        """Who wrote an entry: for an imported one, who the file says did."""
        if entry.imported:
            return str((entry.body or {}).get("by", "")) or None
        return self._people.get(DeviceId(entry.device), entry.device.hex()[:ID_DIGITS]) or None

    def entry_label(self, entry: Entry) -> str:
        """An entry in one line, for a drawing; safe."""
        about = f"{entry.id.hex()[:ID_DIGITS]}  {self._when(entry.time_ms)}  "
        if entry.damage:
            return f"{about}[damaged: {entry.damage}]"
        body = entry.body or {}
        name = self.author(entry) or ""
        if entry.kind in SPOKEN:
            speaker = self._speaker(entry.kind, name, claimed=entry.imported)
            text = "[erased]" if entry.state == "erased" else safe(str(body.get("text", "")))
            return f"{about}{speaker}{text}"
        of = str(body.get("of", ""))[:ID_DIGITS]
        reacts = "takes back from" if body.get("removed") else "reacts to"
        said_by_kind: dict[int, str] = {
            Kind.TITLE: f"title: {body.get('title', '')}",
            Kind.EDIT: f"edits {of}: {body.get('text', '[erased]')}",
            Kind.REACTION: f"{reacts} {of}: {body.get('emoji', '')}",
            Kind.ERASURE: f"erases {of}",
            Kind.MANIFEST: f"attaches {body.get('name', '[erased]')} to {of}",
            Kind.CHUNK: f"part {body.get('index', '?')} of a file",
            Kind.IMPORT: f"import of {body.get('name') or 'a pipe'} ({body.get('format', '')})",
            Kind.READ: "has read up to here",
            Kind.EXPIRE: "sets when messages disappear",
            Kind.PRIVATE: "notes something for the own devices",
            Kind.KEY: f"key of epoch {body.get('epoch', '?')}",
            Kind.DEVICE: f"device {body.get('name', '')} of {body.get('person', '')}",
        }
        said = said_by_kind.get(entry.kind, kind_name(entry.kind))
        return f"{about}{safe(f'{name} {said}' if name else said)}"

    def seen(self, one: Seen) -> dict[str, object]:
        """Fields of a device of somebody else that has a message."""
        return {
            "device": one.device.hex(),
            "name": one.name,
            "person": one.person,
            "read": one.read,
            "time": iso_or_none(one.time_ms),
        }

    def seen_text(self, one: Seen) -> str:
        """Who has a message, as people read it; safe."""
        where = f"{safe(one.person)} ({safe(one.name)})"
        return f"{where}, {stamp(one.time_ms)}" if one.time_ms else where

    # -- damage ------------------------------------------------------------------------------

    def finding(self, found: Finding) -> dict[str, object]:
        """Fields of something damaged or missing."""
        return {
            **self.place(found.log),
            "id": found.id.hex() or None,
            "part": found.part,
            "reason": found.reason.value,
            "detail": found.detail,
            "author": self._author_of(found.log, found.id, found.chain)[0],
            "seq": found.seq if found.chain else None,
            "time": iso_or_none(found.time_ms),
        }

    def finding_line(self, found: Finding) -> str:
        """Something damaged or missing as people read it: where, when, whose, which, what."""
        parts = [self._console.bold(self.title(found.log))]
        if found.chain:
            parts += [stamp(found.time_ms).strip(), self._author_of(found.log, found.id, found.chain)[1]]
            parts.append(f"position {found.seq}")
        if found.id:
            parts.append(found.id.hex()[:ID_DIGITS])
        what = f"{found.part} {found.reason.value}"
        return f"{', '.join(parts)}: {self._console.bad(what)}: {safe(found.detail)}"

    def absence(self, absence: Absence) -> dict[str, object]:
        """Fields of something missing."""
        return {
            **self.place(absence.log),
            "id": absence.id.hex() or None,
            "part": absence.part,
            "reason": absence.reason.value,
            "is_gap": absence.is_gap,
            "detail": absence.detail,
            "author": self._author_of_absence(absence)[0],
            "seq": absence.first if absence.device else None,
            "last": absence.last if absence.device else None,
            "week": absence.week,
            "time": iso_or_none(absence.time_ms),
            "since": iso_or_none(absence.since_ms),
            "named_by": absence.named_by.hex() or None,
            "holders": self.holders(absence.holders),
        }

    def holders(self, holders: Iterable[Holder]) -> list[dict[str, object]]:
        """Fields of the devices that have something."""
        return [
            {"device": holder.device.hex(), "name": holder.name, "certainty": holder.certainty.value}
            for holder in holders
        ]

    def absence_lines(self, absence: Absence) -> list[str]:
        """Something missing as people read it: where, when, whose, which, what; then who has it."""
        parts = [self._console.bold(self.title(absence.log))]
        if absence.time_ms:
            parts.append(stamp(absence.time_ms).strip())
        if absence.device:
            parts.append(self._author_of_absence(absence)[1])
            last = f" to {absence.last}" if absence.count > 1 else ""
            parts.append(f"position {absence.first}{last}")
        if absence.id:
            parts.append(absence.id.hex()[:ID_DIGITS])
        what = f"{absence.part} {absence.reason.value}"
        painted = self._console.bad(what) if absence.is_gap else self._console.dim(what)
        since = f" (since {when(absence.since_ms, self._now_ms, None)})" if absence.since_ms else ""
        first = f"{', '.join(parts)}: {painted}: {safe(absence.detail)}{self._console.dim(since)}"
        holders = ", ".join(f"{safe(h.name)} ({h.certainty.value})" for h in absence.holders)
        if holders:
            return [first, f"    {self._console.good('who has it:')} {holders}"]
        return (
            [first, f"    {self._console.dim('nobody is known to have it')}"] if absence.is_gap else [first]
        )

    def _author_of_absence(self, absence: Absence) -> tuple[str | None, str]:
        if absence.id and self._home.store.find(absence.log, [EntryId(absence.id)]):
            return self._author_of(absence.log, absence.id, absence.chain)
        if not absence.device:
            return None, "author unknown"
        name = self._people.get(DeviceId(absence.device), absence.device.hex()[:ID_DIGITS])
        return name, safe(name)

    def _author_of(self, log: int, id_: bytes, n_chain: int) -> tuple[str | None, str]:
        """Whose entry is damaged, as far as that can still be read; for programs and for people."""
        rows = self._home.store.find(log, [EntryId(id_)]) if id_ else {}
        row = next(iter(rows.values()), None)
        if row is not None and row.mid is not None:
            name = _claimed_author(row)
            importer = safe(self._home.view.name_of(row))
            return name, f"<{safe(name)}>" if name else f"somebody in a file that {importer} imported"
        for chain in self._home.store.chains(log):
            if chain.n == n_chain:
                name = self._people.get(chain.device, chain.device.hex()[:ID_DIGITS])
                return name, safe(name)
        return None, "author unknown"


def _claimed_author(row: EntryRow) -> str | None:
    """The author that a body names, even if its bytes no longer match their hash."""
    try:
        body: Any = json.loads(row.body or b"")
    except (ValueError, RecursionError):
        return None
    name = cast("dict[str, object]", body).get("by") if isinstance(body, dict) else None
    return name if isinstance(name, str) and name else None
