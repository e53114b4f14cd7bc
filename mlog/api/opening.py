"""Opening: a home's key file and database are there, and belong together; what is written first.

A new home gets keys and a person, one of an earlier version what that did not keep, and one that was copied,
restored or moved another incarnation.
"""

from __future__ import annotations

import getpass
import platform
from collections.abc import Callable
from pathlib import Path

from mlog import config
from mlog.adapters.disk import disk_errors
from mlog.adapters.key_protection import Passphrase
from mlog.adapters.keystore import Keys, SystemEntropy, load_keys, make_keys, save_keys
from mlog.adapters.locking import ProcessLock
from mlog.adapters.sqlite import SqliteStore
from mlog.errors import InvalidInput, StoreError, UserError
from mlog.log import bodies
from mlog.log.bodies import Kind
from mlog.log.ids import DeviceId, Incarnation
from mlog.log.replica import Draft, Replica
from mlog.log.roster import refresh_rosters
from mlog.log.store import LogKind

__all__ = [
    "current_incarnation",
    "found_person",
    "list_members",
    "load_or_make_keys",
    "make_folder",
    "name_of_database",
    "require_database",
    "require_own_keys",
]


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


def name_of_database(store: SqliteStore, database: Path) -> bytes:
    """What tells a database from all others, also from its own copies.

    Raises:
        StoreError: It has none.
    """
    name = store.meta("database")
    if name is None:
        raise StoreError(
            f"{database} is damaged: it has lost its name. Restore a backup into another "
            "folder: 'mlog --home FOLDER restore FILE'."
        )
    return name


def current_incarnation(
    store: SqliteStore, entropy: SystemEntropy, fits_marker: Callable[[], bool]
) -> Incarnation:
    """The incarnation to write under: the last one, if the marker shows that nothing came between."""
    known = store.meta("incarnation")
    if known is not None and fits_marker():
        return Incarnation(known)
    with store.transaction():
        # Another process may have just done the same.
        again = store.meta("incarnation")
        if again is not None and fits_marker():
            return Incarnation(again)
        fresh = Incarnation(entropy.random(8))
        store.set_meta("incarnation", fresh)
    return fresh


def found_person(replica: Replica, person: str | None, device: str | None, now_ms: int) -> None:
    """Begin the person log and the private log of a new home, once, whoever comes first.

    Args:
        person, device: What to call them; default the names of the login and of the machine.
    """
    keys = replica.device_keys
    record = bodies.Device(
        name=device or platform.node() or "desktop",
        person=person or _login_name(),
        noise=keys.noise_public,
        hpke=keys.hpke_public,
    )
    with replica.transaction():
        if not replica.store.logs():
            replica.create_log(LogKind.PERSON, [Draft(Kind.DEVICE, record, now_ms)], now_ms)
            replica.create_log(LogKind.PRIVATE, [], now_ms)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "me"


def list_members(store: SqliteStore, replica: Replica) -> None:
    """Once, where an earlier version did not: keep rows of members, and of whose the devices are."""
    if store.meta("members") is not None:
        return
    with replica.transaction():
        refresh_rosters(replica)
        for row in replica.people.device_rows():
            store.put_device(row)
        store.set_meta("members", b"1")
