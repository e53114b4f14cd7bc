"""What an importer yields and an exporter takes: the chat of another program, in file order.

An importer turns bytes into a flat stream of `Chat`, `Provenance`, `Record` and `Skipped`. It knows
nothing of entries, stores or keys. Records belong to the last `Chat` before them and come in
the order of the file, which is the order of the conversation: clocks in exports lie.

`MessageId`s are 16 bytes. An importer gives every record one that two people who import the
same chat both arrive at (mlog/formats/identity.py), and refers to other messages by theirs.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

__all__ = ["Chat", "ExportRecord", "File", "Item", "Provenance", "Record", "Skipped"]


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """The records that follow belong to this chat.

    Attributes:
        key: What the chat is called for finding it again: "irc:#ubuntu", "telegram:4815".
            The same chat exported later, or by another member, has the same key.
        title: What people call it; becomes the title of a new conversation.
        titled: The records themselves carry the title (mlog's own export): write none besides.
    """

    key: str
    title: str
    titled: bool = False


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """The records that follow came from this file.

    An importer of a tree yields it for each file that it reads of a chat; mlog's own JSON lines yield it
    to hand on where a message came from before it was exported. Other records come from the one file
    that is being read.

    Attributes:
        format: Name of the format, as `Importer.name`; "" for messages written in mlog.
        file_hash: BLAKE3 of the file in hexadecimal, or "".
        name: File name without its folder, or "".
    """

    format: str
    file_hash: str = ""
    name: str = ""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file that belongs to a message: an attachment.

    Attributes:
        name: What the export calls it, for people; never a path on this machine.
        type: MIME type, or "" where the export does not say.
        path: Where it lies in the tree that is read (`Tree.open`), or "".
        data: Its bytes, where they stand in the message itself, as in a mail.
            With neither `path` nor `data` the export has only its name.
        size: In bytes, as the export says; 0 where it does not.
        hash: BLAKE3 of its bytes in hexadecimal, where mlog's own export says it; "" elsewhere.
    """

    name: str
    type: str = ""
    path: str = ""
    data: bytes | None = None
    size: int = 0
    hash: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line, message or event of a chat.

    Attributes:
        kind: MESSAGE, ACTION, NOTICE, JOIN, PART, RENAME, EVENT, TITLE, EDIT, REACTION
            or ERASURE. A message that replies is a MESSAGE with `to`; the log makes it a REPLY.
        mid: Identity of the message.
        author: Who said it, as the file writes it; "" where it names nobody.
        text: What was said; the title, emoji or event text for other kinds. Never has lone surrogates.
        time_ms: The file's claim, milliseconds since 1970 UTC, or 0 where it has no date at all.
        position: Line number from 1, or ordinal of the message from 1 where lines mean nothing;
            0 for a message that was written in mlog.
        to: The messages to which it replies; for EDIT, REACTION and ERASURE the one they change.
        erased: The text was erased where this was exported; only its place is known.
        removed: For REACTION: the emoji is taken back.
        uid: What the program knows the author by, which stays when the name changes, or "":
            "telegram:user4815", "tel:+4930123456", "mailto:ann@example.org", "slack:U0123".
        files: Attachments of a spoken message.
    """

    kind: Kind
    mid: MessageId
    author: str
    text: str
    time_ms: int
    position: int
    to: tuple[MessageId, ...] = ()
    erased: bool = False
    removed: bool = False
    uid: str = ""
    files: tuple[File, ...] = ()


class ExportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record on its way out.

    Attributes:
        record: The event as it was written; its `position` is that in `source`.
        source: Where it was imported from, or None for a message written in mlog.
        current: The text after all edits, where it is not `record.text`. Exporters to programs
            that know no edits write this one; mlog's own JSON lines keep every event.
        absent: Its text is not on this device, and was not erased here: that it is empty means nothing.
    """

    record: Record
    source: Provenance | None = None
    current: str | None = None
    absent: bool = False


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not kept, and why. Nothing is dropped without one of these.

    Attributes:
        position: Line number or ordinal from 1; 0 for a file as a whole.
        file: Name of the file inside a tree, or "" for the file that is being read.
    """

    position: int
    reason: str
    file: str = ""


Item: TypeAlias = Chat | Provenance | Record | Skipped
