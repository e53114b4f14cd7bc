"""What `import mlog` gives, and all that the command line calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlog.api.home import Conversation, Entry, Home, default_home, open

if TYPE_CHECKING:
    from mlog.api.doctor import Check
    from mlog.api.importing import ChatReport, ImportReport
    from mlog.api.proof import LogStatus
    from mlog.api.safekeeping import restore

__all__ = [
    "ChatReport",
    "Check",
    "Conversation",
    "Entry",
    "Home",
    "ImportReport",
    "LogStatus",
    "default_home",
    "open",
    "restore",
]

_LATE = {
    "ChatReport": "importing",
    "Check": "doctor",
    "ImportReport": "importing",
    "LogStatus": "proof",
    "restore": "safekeeping",
}


def __getattr__(name: str) -> object:
    import importlib

    if name in _LATE:
        return getattr(importlib.import_module(f"mlog.api.{_LATE[name]}"), name)
    raise AttributeError(name)
