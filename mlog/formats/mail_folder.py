"""Folders of single mails (eml): each folder is one chat.

Programs save mails as one file each, thousands in a folder. They are told one by one, by their content,
and read together. A chat is called `mail:<name of the folder>`, wherever that folder lies and whether or not
it is in an archive, so that importing it again finds the same chat; folders of one name in one tree are told
apart by the folders around them. Mails of a mailing list belong to the chat of the list, as in its archive.
Inside a chat mails are in the order of their dates, then of their names. Memory holds a name and a date for
each mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from mlog.errors import UserError
from mlog.formats.mail import TOO_LONG
from mlog.formats.mail_text import headers_of
from mlog.formats.maildir import in_order, start_of
from mlog.formats.record import Item, Skipped
from mlog.formats.source import Hints
from mlog.formats.tree import Tree
from mlog.limits import MAIL_SIZE_MAX_BYTES, SNIFF_SIZE_BYTES

__all__ = ["MailFolderImporter"]

_ARCHIVE: Final = re.compile(r"(?i)\.(?:zip|tar|tgz|tbz2?|txz|tzst|tar\.\w{1,4})\Z")


class MailFolderImporter:
    """Reads the single mails of a folder or archive."""

    name = "eml"

    def parse(self, tree: Tree, names: Sequence[str], _hints: Hints) -> Iterator[Item]:
        """Chat by chat: each folder, and each mailing list."""
        chats = _chats(tree, {name.rpartition("/")[0] for name in names})
        mails: list[tuple[str, int, str]] = []
        for name in names:
            head = _head(tree, name)
            if isinstance(head, Skipped):
                yield head
                continue
            list_id, time_ms = headers_of(head)
            mails.append((list_id or chats[name.rpartition("/")[0]], time_ms, name))
        yield from in_order(tree, mails)


def _head(tree: Tree, name: str) -> bytes | Skipped:
    """The first bytes of a mail, or why it is not read."""
    try:
        if tree.size(name) > MAIL_SIZE_MAX_BYTES:
            return Skipped(position=0, reason=TOO_LONG, file=name)
    except UserError as error:
        return Skipped(position=0, reason=str(error), file=name)
    return start_of(tree, name, SNIFF_SIZE_BYTES)


def _chats(tree: Tree, folders: set[str]) -> dict[str, str]:
    """What the chat of each folder is called: the end of its path, as long as it takes to tell it apart."""
    root = _ARCHIVE.sub("", tree.name) or tree.name
    paths = {folder: tuple(part for part in (root, *folder.split("/")) if part) for folder in folders}
    alike: dict[str, list[tuple[str, ...]]] = {}
    for path in paths.values():
        alike.setdefault(path[-1].lower(), []).append(path)
    depths = {last: _depth(same) for last, same in alike.items()}
    return {folder: "/".join(path[-depths[path[-1].lower()] :]) for folder, path in paths.items()}


def _depth(paths: list[tuple[str, ...]]) -> int:
    """How many parts from the end tell all of these paths apart, as chats are told: without case."""
    deepest = max(map(len, paths))
    lower = [tuple(part.lower() for part in path) for path in paths]
    return next((n for n in range(1, deepest) if len({path[-n:] for path in lower}) == len(paths)), deepest)
