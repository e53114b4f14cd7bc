"""Maildirs: folders in which each mail is a file, as Dovecot, mutt, notmuch and OfflineIMAP keep them.

A maildir is a folder with `cur` (seen by a program) and `new` (not yet); what lies in `tmp` is still being
delivered. Its folders are `.Sent` beside `cur` (Maildir++) or `Sent/cur` (plain). All folders of one maildir
are one chat, `mail:<its name>`, because a thread goes through several of them: an answer lies in
Sent. Mails of a mailing list belong to the list's chat, as they do in its archive. Inside a chat
mails are in the order of their dates, then of their names; a mail without a date has that of
its delivery, with which its name begins.

The name ends with flags, ":2,FRS". Drafts (D) and what is deleted (T) are `Skipped`; other flags say what the
reader did, and are not kept. A mail that lies in two folders has one identity, and counts once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from mlog.errors import UserError
from mlog.formats.mail import TOO_LONG, chat_of, looks_like_mail, mail_items
from mlog.formats.mail_text import Mail, headers_of
from mlog.formats.record import Item, Record, Skipped
from mlog.formats.source import Hints
from mlog.formats.tree import Tree
from mlog.limits import MAIL_SIZE_MAX_BYTES, SNIFF_SIZE_BYTES

__all__ = ["MaildirImporter", "in_order", "start_of"]

_MAIL: Final = re.compile(r"(?:(.*)/)?(cur|new|tmp)/[^./][^/]*", re.DOTALL)
_FLAGS: Final = re.compile(r"[:;!]2,([A-Za-z]*)\Z")
"""Windows has no colons in names; programs put one of the others there."""
_DELIVERED: Final = re.compile(r"(\d{9,10})\.")
_ARCHIVE: Final = re.compile(r"(?<=.)\.(zip|tgz|tar(\.(gz|bz2|xz))?)\Z", re.IGNORECASE)
"""A folder and an archive of it are one chat."""
_UNWANTED: Final = {"D": "a draft", "T": "was deleted"}

_LOOKED_AT_MAX: Final = 16
"""Files that are looked at to tell whether "new" and "cur" hold mails: one of them will be whole."""


class MaildirImporter:
    """Reads the maildirs of a folder or archive."""

    name = "maildir"

    def claim(self, tree: Tree) -> Sequence[str]:
        """All mails, and what is still being delivered; none if the first ones are no mails."""
        found = [name for name in tree.names if _MAIL.fullmatch(name) is not None]
        delivered = [name for name in found if _folder(name)[1] != "tmp"]
        return found if any(_is_mail(tree, name) for name in delivered[:_LOOKED_AT_MAX]) else []

    def parse(self, tree: Tree, claimed: Sequence[str], _hints: Hints) -> Iterator[Item]:
        """Chat by chat: the maildirs themselves, and each mailing list."""
        homes = _homes({_folder(name)[0] for name in claimed})
        mails: list[tuple[str, int, str]] = []
        for name in claimed:
            reason = _unwanted(tree, name)
            head = b"" if reason else start_of(tree, name, SNIFF_SIZE_BYTES)
            if isinstance(head, Skipped):
                yield head
            elif reason:
                yield Skipped(position=0, reason=reason, file=name)
            else:
                list_id, time_ms = headers_of(head)
                home = homes[_folder(name)[0]]
                chat = list_id or home.rpartition("/")[2] or _ARCHIVE.sub("", tree.name)
                mails.append((chat, time_ms or _delivered_ms(name), name))
        yield from in_order(tree, mails)


def in_order(tree: Tree, mails: list[tuple[str, int, str]]) -> Iterator[Item]:
    """The mails of files, chat by chat, in the order of their dates and then of their names.

    Args:
        mails: What the chat is called, when (also for a mail that does not say it), and the file.
    """
    mails.sort(key=lambda mail: (mail[0].lower(), *mail[1:]))
    current = None
    for position, (chat, time_ms, name) in enumerate(mails, start=1):
        if current != chat.lower():
            current = chat.lower()
            yield chat_of(chat)
        raw = start_of(tree, name, MAIL_SIZE_MAX_BYTES)
        if isinstance(raw, Skipped):
            yield raw
            continue
        for item in mail_items(Mail(raw), position, name):
            is_undated = isinstance(item, Record) and not item.time_ms
            yield msgspec.structs.replace(item, time_ms=time_ms) if is_undated else item


def start_of(tree: Tree, name: str, size_max_bytes: int) -> bytes | Skipped:
    """The first bytes of a file, or why there are none."""
    try:
        with tree.open(name) as file:
            return file.read(size_max_bytes)
    except UserError as error:
        return Skipped(position=0, reason=str(error), file=name)
    except OSError as error:
        return Skipped(position=0, reason=f"cannot be read: {error.strerror or error}", file=name)


def _folder(name: str) -> tuple[str, str]:
    """The folder that holds `cur`, `new` and `tmp`, and which of them a file is in."""
    found = _MAIL.fullmatch(name)
    assert found is not None, "only what matched was claimed"
    return found[1] or "", found[2]


def _homes(folders: set[str]) -> dict[str, str]:
    """The maildir that each folder belongs to: itself, or the outermost one around it."""
    homes: dict[str, str] = {}
    for folder in sorted(folders, key=lambda folder: (folder.count("/"), folder)):
        above, _, last = folder.rpartition("/")
        home = above if last.startswith(".") else folder
        parents = folder.split("/")
        around = ("/".join(parents[:n]) for n in range(len(parents)))
        homes[folder] = next((homes[outer] for outer in around if outer in homes), home)
    return homes


def _is_mail(tree: Tree, name: str) -> bool:
    head = start_of(tree, name, SNIFF_SIZE_BYTES)
    return isinstance(head, bytes) and looks_like_mail(head)


def _unwanted(tree: Tree, name: str) -> str:
    """Why a file is not imported, or ""."""
    if _folder(name)[1] == "tmp":
        return "was still being delivered"
    flags = _FLAGS.search(name)
    if flags is not None:
        for flag, reason in _UNWANTED.items():
            if flag in flags[1]:
                return reason
    return TOO_LONG if tree.size(name) > MAIL_SIZE_MAX_BYTES else ""


def _delivered_ms(name: str) -> int:
    found = _DELIVERED.match(name.rpartition("/")[2])
    return int(found[1]) * 1000 if found is not None else 0
