"""What `import mlog` gives, and all that the command line calls."""

from mlog.api.home import Conversation, Entry, Home, LogStatus, default_home, open

__all__ = ["Conversation", "Entry", "Home", "LogStatus", "default_home", "open"]
