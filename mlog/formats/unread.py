"""Files that people have of their chats and mlog does not read: what they are, and what to do instead.

Asked only where no importer knows a file. Each is told by how it begins; a wrong guess costs
nothing but a wrong word of advice.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from mlog.formats.texts import decode_head

__all__ = ["advice"]


class _Known(NamedTuple):
    begins: re.Pattern[str]
    says: str


_BYTES: Final = (
    (
        b"SQLite format 3\0",
        "it is a database. A messenger's own database is not read: export the chat from the program",
    ),
    (b"!BDN", "it is a mailbox of Outlook: drag its folders to files, or convert it to mbox with readpst"),
    (
        b"\xd0\xcf\x11\xe0",
        "it is a file of Outlook or Office: save mails as .eml, or convert them with msgconvert",
    ),
    (b"Rar!", "it is an archive: unpack it, and import the folder"),
    (b"7z\xbc\xaf\x27\x1c", "it is an archive: unpack it, and import the folder"),
    (b"\x28\xb5\x2f\xfd", "it is packed with zstd: unpack it first"),
    (b"\x1f\x8b", "it is packed: `zcat FILE | mlog import -` reads what is in it"),
    (b"BZh", "it is packed: `bzcat FILE | mlog import -` reads what is in it"),
    (b"\xfd7zXZ", "it is packed: `xzcat FILE | mlog import -` reads what is in it"),
    (b"%PDF-", "it is for reading and printing: export the chat as JSON or text"),
    (
        b"bplist",
        "it is a list of Apple's programs: mails lie beside it as .emlx, chats in a database; export them",
    ),
)

_TEXTS: Final = tuple(
    _Known(re.compile(begins, re.DOTALL), says)
    for begins, says in (
        (
            r"\s*<!DOCTYPE html>.{0,2000}(?:<title>Exported Data|class=\"page_wrap)",
            "it is Telegram's export to read. Export again as machine-readable JSON, and import result.json",
        ),
        (
            r"\s*<!DOCTYPE html>.{0,60000}(?:chatlog__|DiscordChatExporter|<div class=\"?preamble)",
            "it is a page of DiscordChatExporter. Export again with the format JSON",
        ),
        (
            r"(?:MessageID,)?\"?AuthorID\"?,\"?Author\"?,\"?Date\"?,\"?Content",
            "it is a table of DiscordChatExporter. Export again with the format JSON",
        ),
        (
            r"={40,}\s+Guild: .{0,400}Channel: ",
            "it is a text of DiscordChatExporter. Export again with the format JSON",
        ),
        (
            r"\s*<!DOCTYPE html>.{0,60000}mx_(?:MatrixChat|RoomView|EventTile)",
            "it is Element's export to read. Export the chat again as JSON",
        ),
        (
            r"\s*(?:<!DOCTYPE html>|<html).{0,60000}class=\"_a(?:6-|706|3gq|72d)",
            "it is a page of Facebook or Instagram. Ask for your data again, in the format JSON",
        ),
        (
            r"<!-- Generated on .{0,80} by signalbackup-tools",
            "it is an index of signalbackup-tools. Import the pages of the chats, or the whole folder",
        ),
        (
            r"\d{1,9}\s*\n(?:Received|Return-Path|From|Delivered-To|X-\w[\w-]*|MIME-Version|Content-Type): ",
            "it is a mail of Apple Mail. Export the mailbox there, and import the folder that it makes",
        ),
        (
            r"\s*<\?xml[^>]{0,200}>\s*(?:<!DOCTYPE plist|<plist)",
            "it is a list of Apple's programs, and no chat",
        ),
        (
            r"\s*\{\s*\"conversations\"\s*:\s*\[",
            "it is the data of Hangouts, Skype or another program that mlog does not read",
        ),
    )
)

_NAMES: Final = (
    (
        re.compile(r"(?i).*\.crypt\d{1,2}$|.*\.db\.crypt$"),
        "it is WhatsApp's encrypted backup. Use \"Export chat\" in the chat's menu, and import that",
    ),
    (
        re.compile(r"(?i)signal-\d{4}-\d\d-\d\d.*\.backup$"),
        "it is Signal's encrypted backup. signalbackup-tools makes a text or pages of it: import those",
    ),
    (re.compile(r"(?i).*\.(?:pst|ost)$"), "it is a mailbox of Outlook: convert it to mbox with readpst"),
    (
        re.compile(r"(?i).*\.emlx$"),
        "it is a mail of Apple Mail. Export the mailbox there, and import the folder that it makes",
    ),
)


def advice(head: bytes, name: str) -> str:
    """What a file is and what to do instead, as the end of a sentence; "" where nobody knows it.

    Args:
        head: Its first SNIFF_SIZE_BYTES.
    """
    for pattern, says in _NAMES:
        if pattern.fullmatch(name):
            return says
    for begins, says in _BYTES:
        if head.startswith(begins):
            return says
    text = decode_head(head)
    return next((known.says for known in _TEXTS if known.begins.match(text)), "")
