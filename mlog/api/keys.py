"""Keys: what guards the key file of a home, and how that is changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlog import config, limits
from mlog.adapters.disk import disk_errors
from mlog.adapters.key_protection import Protection
from mlog.adapters.keystore import load_keys, protect_keys, protection
from mlog.adapters.locking import ProcessLock
from mlog.errors import UserError

if TYPE_CHECKING:
    from mlog.adapters.key_protection import Passphrase

__all__ = ["Protection", "key_file", "key_protection", "protect"]


def key_file(home: Path) -> Path:
    """Where a home's keys are.

    Raises:
        UserError: There is no home.
    """
    path = home / config.KEYS_NAME
    if not path.exists():
        raise UserError(f"{home} has no keys yet: there is no log of yours. 'mlog new TITLE' begins one.")
    return path


def key_protection(home: Path) -> Protection:
    """What guards the keys of a home; asks for no passphrase.

    Raises:
        UserError: There is no home.
        StoreError: The key file cannot be read.
    """
    return protection(key_file(home))


def protect(
    home: Path,
    wanted: Protection,
    *,
    passphrase: Passphrase | None = None,
    new_passphrase: Passphrase | None = None,
) -> None:
    """Guard the keys of a home in another way; a service that runs goes on with them.

    Args:
        passphrase: Asks for the one that guards them now, where one does.
        new_passphrase: Asks for the one that will, where one is wanted.

    Raises:
        UserError: There is no home; the passphrase is another one, or empty; the keyring cannot be used.
        Busy: Another process changes it.
        StoreError: The key file cannot be read or written; the old one is as it was.
    """
    path = key_file(home)
    # Before the lock: nobody has to wait while a person types.
    keys = load_keys(path, passphrase)
    assert keys is not None, "the key file was there a moment ago"
    chosen = new_passphrase() if wanted is Protection.PASSPHRASE and new_passphrase is not None else ""
    with disk_errors(path), ProcessLock(home / "keys.lock", limits.BUSY_TIMEOUT_MS):
        protect_keys(path, keys, wanted, chosen)
