"""Safekeeping: copies of a home, for scripts and against loss.

A backup is one file with keys and database, sealed with a passphrase; a snapshot is a copy of the
database alone, with the public views.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mlog import config
from mlog.adapters.disk import disk_errors
from mlog.adapters.keystore import SystemEntropy, sync_folder, write_private
from mlog.errors import InvalidInput, UserError

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = ["backup", "restore", "snapshot"]


def snapshot(home: Home) -> Path:
    """A consistent read-only copy of the database; as `Home.snapshot`."""
    path = home.path / config.SNAPSHOT_NAME
    _copy_database(home, path)
    with disk_errors(path):
        path.chmod(0o400)
    return path


def backup(home: Home, path: Path, keys: bytes, passphrase: str) -> None:
    """Write one sealed file; as `Home.backup`.

    Args:
        keys: What the key file holds.
    """
    if not passphrase:
        raise UserError("a backup needs a passphrase: whoever has both can read everything.")
    copy = home.path / f".backup-{_suffix()}"
    partial = path.with_name(f".{path.name}.{_suffix()}")
    try:
        _copy_database(home, copy)
        with disk_errors(path), partial.open("xb") as target:
            from mlog.adapters.backup import seal_backup

            seal_backup(target, keys, copy, passphrase)
            target.flush()
            os.fsync(target.fileno())
        with disk_errors(path):
            partial.replace(path)
            sync_folder(path.parent)
    finally:
        with disk_errors(path):
            copy.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)


def _copy_database(home: Home, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{_suffix()}")
    try:
        home.store.copy_to(partial)
        with disk_errors(path):
            partial.replace(path)
    finally:
        with disk_errors(path):
            partial.unlink(missing_ok=True)


def _suffix() -> str:
    return SystemEntropy().random(6).hex()


def restore(path: Path, home: Path, passphrase: str) -> None:
    """Make a home from a backup file; it writes under a new incarnation from then on.

    Args:
        home: Its folder, which must be absent or empty.

    Raises:
        UserError: There is a home already, no such file, or the passphrase is another one.
        InvalidInput: Not a backup, or damaged; nothing was written.
        StoreError: There is no room.
    """
    from mlog.adapters.backup import open_backup

    if home.exists() and any(home.iterdir()):
        raise UserError(
            f"{home} is in use. Restore into a new folder: 'mlog --home FOLDER restore {path.name}'."
        )
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    partial = home.with_name(f".{home.name}.restoring-{_suffix()}")
    try:
        with disk_errors(home):
            partial.mkdir(parents=True, mode=0o700)
            with path.open("rb") as sealed, (partial / config.DATABASE_NAME).open("xb") as database:
                try:
                    keys = open_backup(sealed, database, passphrase)
                except InvalidInput as error:
                    raise InvalidInput(f"{error}. Use another backup.", source=str(path)) from None
                database.flush()
                os.fsync(database.fileno())
            write_private(partial / config.KEYS_NAME, keys)
            if home.exists():
                home.rmdir()
            partial.rename(home)
            sync_folder(home.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
