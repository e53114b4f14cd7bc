"""Values that a person may choose; reading them from the environment is the command line's work."""

from __future__ import annotations

from typing import Final

__all__ = [
    "DATABASE_NAME",
    "DEFAULT_PORT",
    "HOME_VARIABLE",
    "KEYS_NAME",
    "MARKER_NAME",
    "PASSPHRASE_VARIABLE",
    "SERVICE_LOCK_NAME",
    "SERVICE_NAME",
    "SNAPSHOT_NAME",
    "SOCKET_NAME",
]

HOME_VARIABLE: Final = "MLOG_HOME"
"""Environment variable that names the folder of keys and database."""

PASSPHRASE_VARIABLE: Final = "MLOG_PASSPHRASE_FILE"  # noqa: S105 (names a variable)
"""Environment variable that names a file with the passphrase of a backup."""

DATABASE_NAME: Final = "mlog.db"
KEYS_NAME: Final = "keys.json"
MARKER_NAME: Final = "marker.json"
SNAPSHOT_NAME: Final = "snapshot.db"
SERVICE_NAME: Final = "service.json"
"""Where the local socket of the service that serves a home is, and its process."""

SERVICE_LOCK_NAME: Final = "service.lock"
"""Held for as long as a service serves the home."""

SOCKET_NAME: Final = "mlog.sock"

DEFAULT_PORT: Final = 7367
"""Where mlog listens; no service has this number at IANA (7366 to 7390 are unassigned)."""
