"""Opening: a home's key file and database are there, and belong together."""

from __future__ import annotations

from pathlib import Path

from mlog import config
from mlog.adapters.disk import disk_errors
from mlog.adapters.key_protection import Passphrase
from mlog.adapters.keystore import Keys, SystemEntropy, load_keys, make_keys, save_keys
from mlog.adapters.locking import ProcessLock
from mlog.adapters.sqlite import SqliteStore
from mlog.errors import InvalidInput, StoreError, UserError
from mlog.log.ids import DeviceId

__all__ = ["load_or_make_keys", "make_folder", "require_database", "require_own_keys"]


def make_folder(path: Path) -> None:
    """The folder of a home, if it is not there yet.

    Raises:
        UserError: A file has its name.
        StoreError: The disk refuses.
    """
    with disk_errors(path):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file, and your logs need a folder. Choose another one with --home.")
        path.mkdir(parents=True, exist_ok=True, mode=0o700)


def require_database(path: Path, database: Path) -> None:
    """A marker is written once the database holds something: then it must still be there."""
    lost = not database.exists() or not database.stat().st_size
    if lost and (path / config.MARKER_NAME).exists():
        raise StoreError(
            f"{database} is missing or empty, and there was something in it. Put the file back, "
            "or restore a backup into another folder: 'mlog --home FOLDER restore FILE'. To begin "
            f"anew instead, move {path} away."
        )


def load_or_make_keys(
    home: Path, database: Path, busy_timeout_ms: int, passphrase: Passphrase | None = None
) -> Keys:
    """The keys of a home; a new one gets some, once, whoever comes first.

    Raises:
        Busy: Another process is making them, and does not finish.
        StoreError: They are missing where there is a database, or cannot be read or written.
        UserError: They are protected, and the passphrase or the keyring is not there.
    """
    path = home / config.KEYS_NAME
    keys = load_keys(path, passphrase)
    if keys is None:
        with disk_errors(path), ProcessLock(home / "keys.lock", busy_timeout_ms):
            keys = load_keys(path, passphrase)
            if keys is None:
                if database.exists() and database.stat().st_size:
                    raise StoreError(
                        f"{path} is missing, and without it {database} cannot be read. Put the "
                        "file back, or restore a backup into another folder: 'mlog restore FILE'."
                    )
                keys = make_keys(SystemEntropy())
                save_keys(path, keys)
    return keys


def require_own_keys(home: Path, database: Path, store: SqliteStore, keys: Keys) -> None:
    """Refuse the keys of another home before anything is written with them."""
    first = next(iter(store.logs()), None)
    if first is None:
        return
    try:
        keys.vault.open("log", first.secret)
        known = {chain.device for chain in store.chains(first.n)}
    except InvalidInput:
        known = set[DeviceId]()
    if keys.device.id not in known:
        raise StoreError(
            f"{home / config.KEYS_NAME} belongs to another home than {database}, or that is "
            "damaged. Put the right key file there, or restore a backup: 'mlog restore FILE'."
        )
