"""What `import mlog` gives, and all that the command line calls."""

from mlog.api.doctor import Check
from mlog.api.home import Conversation, Entry, Home, LogStatus, default_home, open, restore
from mlog.api.transfer import ChatReport, ImportReport

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
