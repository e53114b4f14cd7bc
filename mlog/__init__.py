"""mlog: a personal message log that can prove itself whole.

    import mlog

    with mlog.open() as home:
        for conversation in home.conversations():
            print(conversation.title)

Importing this costs nothing; what is named below is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlog.api import Conversation, Entry, Home, LogStatus, default_home, open
    from mlog.log.view import Author, Message

__all__ = ["Author", "Conversation", "Entry", "Home", "LogStatus", "Message", "default_home", "open"]


def __getattr__(name: str) -> object:
    import importlib

    if name in ("Author", "Message"):
        return getattr(importlib.import_module("mlog.log.view"), name)
    if name in __all__:
        return getattr(importlib.import_module("mlog.api"), name)
    raise AttributeError(name)
