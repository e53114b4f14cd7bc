"""Mails for tests of trees: in memory, numbered, and what came out of them in short."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import BinaryIO

from mlog.errors import UserError
from mlog.formats import Chat, Item, Record, Skipped

__all__ = ["Memory", "mail", "shown"]


class Memory:
    """A tree in memory; a file without content cannot be read."""

    def __init__(self, files: Mapping[str, bytes | None], name: str = "Mail") -> None:
        self.name = name
        self._files = files
        self.names = sorted(files)

    def size(self, name: str) -> int:
        return len(self._files[name] or b"")

    def open(self, name: str) -> BinaryIO:
        content = self._files[name]
        if content is None:
            raise UserError(f"{name}: cannot be read: no permission")
        return io.BytesIO(content)


def mail(n: int, day: int = 1, more: str = "") -> bytes:
    date = f"Date: {day} Jan 2020 00:00:00 +0000\n" if day else ""
    return f"From: ann@example.org\nMessage-ID: <{n}@x>\nSubject: s\n{date}{more}\nhi {n}\n".encode()


def shown(items: list[Item]) -> list[str]:
    """Chats by key, records by the number in their text, skipped by reason."""
    return [
        item.key
        if isinstance(item, Chat)
        else item.text.rpartition(" ")[2]
        if isinstance(item, Record)
        else item.reason
        for item in items
        if isinstance(item, Chat | Record | Skipped)
    ]
