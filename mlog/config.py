"""Values that a person may choose; reading them from the environment is the command line's work."""

from __future__ import annotations

from typing import Final

__all__ = [
    "DATABASE_NAME",
    "HOME_VARIABLE",
    "KEYS_NAME",
    "MARKER_NAME",
    "PASSPHRASE_VARIABLE",
    "SNAPSHOT_NAME",
]

HOME_VARIABLE: Final = "MLOG_HOME"
"""Environment variable that names the folder of keys and database."""

PASSPHRASE_VARIABLE: Final = "MLOG_PASSPHRASE_FILE"  # noqa: S105 (names a variable)
"""Environment variable that names a file with the passphrase of a backup."""

DATABASE_NAME: Final = "mlog.db"
KEYS_NAME: Final = "keys.json"
MARKER_NAME: Final = "marker.json"
SNAPSHOT_NAME: Final = "snapshot.db"
