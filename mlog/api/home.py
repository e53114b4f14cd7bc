"""Home: one person's logs on one machine, as scripts and the command line use them.

import mlog

with mlog.open() as home:
    conversation = home.conversation("#ubuntu")
    for message in home.messages(conversation.n, limit=20):
        print(message.author.name, message.text)
"""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlog import config, limits
from mlog.adapters import local_socket, marker
from mlog.adapters.disk import disk_errors
from mlog.adapters.keystore import (
    Keys,
    SystemEntropy,
    encode_keys,
    load_keys,
    make_keys,
    save_keys,
    sync_folder,
    write_private,
)
from mlog.adapters.locking import ProcessLock
from mlog.adapters.overwrite import forget_file
from mlog.adapters.sqlite import SqliteStore
from mlog.errors import InvalidInput, LimitExceeded, StoreError, UserError
from mlog.log import bodies, entry, verify, view
from mlog.log.bodies import SPOKEN, Kind, kind_name
from mlog.log.crypto import Vault
from mlog.log.ids import DeviceId, EntryId, Incarnation, MessageId
from mlog.log.merkle import log_root, refresh_digests
from mlog.log.replica import Draft, Replica
from mlog.log.store import (
    BodyState,
    Digest,
    EntryRow,
    GapRow,
    Hit,
    LogKind,
    Position,
    Reason,
    TimelineQuery,
)
from mlog.log.stored import check_body, check_header
from mlog.log.verify import Finding, Progress
from mlog.log.view import Message, View
from mlog.log.words import match_expression

# Import, export and the doctor cost a third of the start of `mlog send`, which needs none of them.
if TYPE_CHECKING:
    from mlog.api.doctor import Check
    from mlog.api.transfer import ImportReport
    from mlog.formats.source import Source

__all__ = ["Conversation", "Entry", "Home", "LogStatus", "default_home", "open", "restore"]

_STATES: Final = {int(state): state.name.lower() for state in BodyState}


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation of this home.

    Attributes:
        n: Its number here; other homes number theirs on their own.
        topic: What every replica knows it by, 16 bytes.
    """

    n: int
    title: str
    topic: bytes


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a log's DAG, opened.

    Attributes:
        prev: The entry before in its chain, or None at its start.
        parents: Further entries that it names.
        heads: Nobody here names this entry yet.
        body_size: Bytes before padding; 0 if the body is erased.
        text: What it says, in one line where there is something to say.
    """

    id: EntryId
    log: int
    kind: int
    device: bytes
    incarnation: bytes
    seq: int
    prev: EntryId | None
    parents: tuple[EntryId, ...]
    time_ms: int
    week: int
    position: Position
    imported: bool
    signed: bool
    head: bool
    outer_size: int
    body_size: int
    state: str
    body: dict[str, Any] | None
    damage: str


class LogStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one log.

    Attributes:
        entries, bodies: Held here.
        root: Hash over everything held: two replicas with one root hold the same.
        gaps: Known damage and absence.
    """

    n: int
    kind: LogKind
    title: str
    entries: int
    bodies: int
    messages: int
    chains: int
    heads: int
    root: bytes
    gaps: int


def default_home() -> Path:
    """The folder of this person's logs: MLOG_HOME, or where the platform keeps user data."""
    chosen = os.environ.get(config.HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("mlog", appauthor=False))


def open(home: Path | str | None = None, *, person: str | None = None) -> Home:  # noqa: A001 (mlog.open)
    """Open a home; a new one gets its keys and its person log.

    Args:
        home: Its folder; default as `default_home`.
        person: What to call the person in a new home; default the name of the login.

    Raises:
        UserError: Not an mlog home, or one of a newer mlog.
        Busy: Another process holds it.
        StoreError: The disk, the database or the key file is at fault.
    """
    return Home(Path(home) if home is not None else default_home(), person=person)


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
    partial = home.with_name(f".{home.name}.restoring-{SystemEntropy().random(6).hex()}")
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


class Home:
    """One home, open. Close it, or use it in a `with` statement.

    Raises:
        As `open`.
    """

    def __init__(
        self,
        path: Path,
        *,
        person: str | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        busy_timeout_ms: int = limits.BUSY_TIMEOUT_MS,
    ):
        self.path = path
        self.now_ms = clock_ms
        self.database = path / config.DATABASE_NAME
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._entropy = SystemEntropy()
        self._keys = keys = self._load_keys(busy_timeout_ms)
        self._require_database()
        self.announce: Callable[[], None] = partial(local_socket.poke, path)
        """Called after each commit; tells the service that runs on these logs, if one does."""
        self.store = SqliteStore(self.database, busy_timeout_ms=busy_timeout_ms, on_commit=self._committed)
        try:
            self._database_id = self._name_of_database()
            device = keys.device
            self._require_own_keys(device.id, keys.vault)
            self.replica = Replica(self.store, device, keys.vault, self._entropy, self._incarnation())
            if not self.store.logs():
                self._found_person(person or _login_name())
            self.view = View(self.replica, {row.id: row.person for row in self.store.devices()})
        except BaseException:
            self.store.close()
            raise

    def __enter__(self) -> Home:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what erasures began, and let go of the files."""
        try:
            self._finish_erasures()
        finally:
            self.store.close()

    def _finish_erasures(self) -> None:
        if self.store.words_distrusted():
            self.replica.rebuild_search()
        self.store.scrub()

    def _require_database(self) -> None:
        """A marker is written once the database holds something: then it must still be there."""
        lost = not self.database.exists() or not self.database.stat().st_size
        if lost and (self.path / config.MARKER_NAME).exists():
            raise StoreError(
                f"{self.database} is missing or empty, and there was something in it. Put the file back, "
                "or restore a backup into another folder: 'mlog --home FOLDER restore FILE'. To begin "
                f"anew instead, move {self.path} away."
            )

    def _name_of_database(self) -> bytes:
        name = self.store.meta("database")
        if name is None:
            raise StoreError(
                f"{self.database} is damaged: it has lost its name. Restore a backup into another "
                "folder: 'mlog --home FOLDER restore FILE'."
            )
        return name

    def _load_keys(self, busy_timeout_ms: int) -> Keys:
        path = self.path / config.KEYS_NAME
        keys = load_keys(path)
        if keys is None:
            with disk_errors(path), ProcessLock(self.path / "keys.lock", busy_timeout_ms):
                keys = load_keys(path)
                if keys is None:
                    if self.database.exists() and self.database.stat().st_size:
                        raise StoreError(
                            f"{path} is missing, and without it {self.database} cannot be read. Put the "
                            "file back, or restore a backup into another folder: 'mlog restore FILE'."
                        )
                    keys = make_keys(self._entropy)
                    save_keys(path, keys)
        return keys

    def _require_own_keys(self, device: DeviceId, vault: Vault) -> None:
        """Refuse the keys of another home before anything is written with them."""
        first = next(iter(self.store.logs()), None)
        if first is None:
            return
        try:
            vault.open("log", first.secret)
            known = {chain.device for chain in self.store.chains(first.n)}
        except InvalidInput:
            known = set[DeviceId]()
        if device not in known:
            raise StoreError(
                f"{self.path / config.KEYS_NAME} belongs to another home than {self.database}, or that is "
                "damaged. Put the right key file there, or restore a backup: 'mlog restore FILE'."
            )

    def _incarnation(self) -> Incarnation:
        """The incarnation to write under: the last one, if the marker shows nothing came between."""
        known = self.store.meta("incarnation")
        beside = marker.load_marker(self.path / config.MARKER_NAME)
        if known is not None and beside is not None and beside.vouches_for(self._marker()):
            return Incarnation(known)
        with self.store.transaction():
            # Another process may have just done the same.
            again = self.store.meta("incarnation")
            beside = marker.load_marker(self.path / config.MARKER_NAME)
            if again is not None and beside is not None and beside.vouches_for(self._marker()):
                return Incarnation(again)
            fresh = Incarnation(self._entropy.random(8))
            self.store.set_meta("incarnation", fresh)
        return fresh

    def _marker(self) -> marker.Marker:
        return marker.here(self.database, self._database_id, self.store.next_n() - 1)

    def _committed(self) -> None:
        self._save_marker()
        self.announce()

    def _save_marker(self) -> None:
        if getattr(self, "_database_id", b""):
            marker.save_marker(self.path / config.MARKER_NAME, self._marker())

    def _found_person(self, person: str) -> None:
        now = self.now_ms()
        device = self.replica.device_keys
        record = bodies.Device(
            name=platform.node() or "desktop",
            person=person,
            noise=device.noise_public,
            hpke=device.hpke_public,
        )
        with self.replica.transaction():
            if not self.store.logs():
                self.replica.create_log(LogKind.PERSON, [Draft(Kind.DEVICE, record, now)], now)
                self.replica.create_log(LogKind.PRIVATE, [], now)

    # -- conversations -----------------------------------------------------------------------

    def conversations(self) -> list[Conversation]:
        """All conversations, oldest first."""
        return [
            Conversation(n=row.n, title=row.title, topic=row.topic)
            for row in self.store.logs()
            if row.kind == LogKind.CONVERSATION
        ]

    def conversation(self, name: str) -> Conversation:
        """The conversation that a title, or the unique start of one, means.

        Case does not matter; a topic in hexadecimal, or its start from 4 digits on, works too.

        Raises:
            UserError: None, or several: the message lists them.
        """
        known = self.conversations()
        folded = name.casefold()
        for chosen in (
            [c for c in known if c.title == name],
            [c for c in known if c.title.casefold() == folded],
            [c for c in known if folded and c.title.casefold().startswith(folded)],
            [c for c in known if len(name) >= 4 and c.topic.hex().startswith(folded)],
        ):
            if len(chosen) == 1:
                return chosen[0]
            if chosen:
                listed = "".join(f"\n  {c.topic.hex()[:8]}  {c.title}" for c in chosen[:20])
                raise UserError(
                    f"{len(chosen)} conversations match {name!r}; say more of the title, or the number "
                    f"before it:{listed}"
                )
        raise UserError(
            f"no conversation {name!r}. 'mlog' alone lists those there are; 'mlog new TITLE' starts one."
        )

    def new(self, title: str) -> Conversation:
        """Start a conversation.

        Raises:
            UserError: The title is empty, or taken.
            LimitExceeded: It is too long.
        """
        title = _checked_title(title)
        now = self.now_ms()
        with self.replica.transaction():
            if any(known.title == title for known in self.conversations()):
                raise UserError(f"there is a conversation {title!r} already. Choose another title.")
            n = self.replica.create_log(
                LogKind.CONVERSATION, [Draft(Kind.TITLE, bodies.Title(title=title), now)], now
            )
        return Conversation(n=n, title=title, topic=self.replica.log(n).keys.topic)

    # -- writing -----------------------------------------------------------------------------

    def send(self, log: int, text: str, *, reply_to: MessageId | None = None) -> EntryId:
        """Write a message; it is durable when this returns.

        Raises:
            UserError: Nothing to send.
            LimitExceeded: Longer than TEXT_SIZE_MAX_BYTES.
        """
        text = _checked_text(text)
        if reply_to is None:
            return self._write(log, Kind.MESSAGE, bodies.Text(text=text))
        return self._write(log, Kind.REPLY, bodies.Text(text=text, to=(reply_to.hex(),)))

    def edit(self, message: Message, text: str) -> EntryId:
        """Replace the text of a message of one's own.

        Raises:
            UserError: Somebody else's, imported, or erased.
        """
        self._require_own(message, "edit")
        if message.author.claimed:
            raise UserError("an imported message says what was said elsewhere; it can be erased, not edited.")
        return self._write(
            message.log, Kind.EDIT, bodies.Edit(of=message.mid.hex(), text=_checked_text(text))
        )

    def react(self, message: Message, emoji: str, *, remove: bool = False) -> EntryId:
        """Put an emoji on a message, or take it back."""
        emoji = emoji.strip()
        if not emoji or len(emoji.encode()) > limits.EMOJI_SIZE_MAX_BYTES:
            raise UserError(
                f"a reaction is an emoji or a short word, of at most {limits.EMOJI_SIZE_MAX_BYTES} bytes."
            )
        body = bodies.Reaction(of=message.mid.hex(), emoji=emoji, removed=remove)
        return self._write(message.log, Kind.REACTION, body)

    def erase(self, message: Message) -> EntryId:
        """Forget the text of a message of one's own, here and in time wherever it was sent.

        The text is overwritten in the file when this returns; its place in the log stays.
        """
        self._require_own(message, "erase")
        id_ = self._write(message.log, Kind.ERASURE, bodies.Erasure(of=message.mid.hex()))
        self._finish_erasures()
        snapshot = self.path / config.SNAPSHOT_NAME
        with disk_errors(snapshot):
            forget_file(snapshot)
        return id_

    def set_title(self, log: int, title: str) -> EntryId:
        """Call a conversation something else."""
        return self._write(log, Kind.TITLE, bodies.Title(title=_checked_title(title)))

    def _write(self, log: int, kind: Kind, body: bodies.Body) -> EntryId:
        now = self.now_ms()
        return self.replica.write(log, [Draft(kind, body, now)], now)[0].id

    def _require_own(self, message: Message, verb: str) -> None:
        if message.erased:
            raise UserError(f"the message is erased; there is nothing to {verb}.")
        if message.author.device != self.replica.device_id:
            raise UserError(f"only its author can {verb} a message, and that is {message.author.name}.")

    # -- copies ------------------------------------------------------------------------------

    def snapshot(self) -> Path:
        """A consistent read-only copy of the database for scripts; replaces the last one."""
        path = self.path / config.SNAPSHOT_NAME
        self._copy_database(path)
        with disk_errors(path):
            path.chmod(0o400)
        return path

    def backup(self, path: Path, passphrase: str) -> None:
        """Write keys and database to one file, sealed with a passphrase; whole or not at all.

        Raises:
            UserError: The passphrase is empty.
            StoreError: There is no room, or the file cannot be written.
        """
        if not passphrase:
            raise UserError("a backup needs a passphrase: whoever has both can read everything.")
        copy = self.path / f".backup-{self._entropy.random(6).hex()}"
        partial = path.with_name(f".{path.name}.{self._entropy.random(6).hex()}")
        try:
            self._copy_database(copy)
            with disk_errors(path), partial.open("xb") as target:
                from mlog.adapters.backup import seal_backup

                seal_backup(target, encode_keys(self._keys), copy, passphrase)
                target.flush()
                os.fsync(target.fileno())
            with disk_errors(path):
                partial.replace(path)
                sync_folder(path.parent)
        finally:
            with disk_errors(path):
                copy.unlink(missing_ok=True)
                partial.unlink(missing_ok=True)

    def _copy_database(self, path: Path) -> None:
        partial = path.with_name(f".{path.name}.{self._entropy.random(6).hex()}")
        try:
            self.store.copy_to(partial)
            with disk_errors(path):
                partial.replace(path)
        finally:
            with disk_errors(path):
                partial.unlink(missing_ok=True)

    # -- reading -----------------------------------------------------------------------------

    def messages(
        self,
        log: int,
        *,
        limit: int | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        after: Position | None = None,
        newest_first: bool = False,
    ) -> Iterator[Message]:
        """The messages of a conversation in the order of the view, in bounded memory.

        Args:
            limit: At most so many; the newest ones where `newest_first`, else the oldest.
            since_ms, until_ms: Claimed times, inclusive and exclusive.
            after: Only what comes after this place.
            newest_first: Direction.
        """
        for rows in self._pages(log, SPOKEN, limit, since_ms, until_ms, after, newest_first):
            yield from self.view.of_rows(log, rows)

    def entries(
        self,
        log: int,
        *,
        limit: int | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Entry]:
        """The nodes of a log's DAG in the order of the view, control entries included."""
        heads = set(self.store.heads(log))
        for rows in self._pages(log, frozenset(), limit, since_ms, until_ms, None, newest_first):
            yield from (self._entry(row, heads) for row in rows)

    def _pages(
        self,
        log: int,
        kinds: frozenset[Kind],
        limit: int | None,
        since_ms: int | None,
        until_ms: int | None,
        after: Position | None,
        newest_first: bool,
    ) -> Iterator[list[EntryRow]]:
        before: Position | None = None
        left = limit if limit is not None else limits.SEQ_MAX
        while left > 0:
            query = TimelineQuery(
                log=log,
                limit=min(left, limits.STORE_ROWS_MAX),
                after=after,
                before=before,
                since_ms=since_ms,
                until_ms=until_ms,
                kinds=frozenset(int(kind) for kind in kinds),
                newest_first=newest_first,
                hidden=not kinds,
            )
            rows = self.store.timeline(query)
            if rows:
                yield rows
            if len(rows) < query.limit:
                return
            left -= len(rows)
            if newest_first:
                before = rows[-1].position
            else:
                after = rows[-1].position

    def _entry(self, row: EntryRow, heads: set[EntryId]) -> Entry:
        damage, header, body = "", None, None
        try:
            header = check_header(self.replica.log(row.log).keys, row, self.view.device_of(row))
            encoded = check_body(self.replica.log(row.log).keys, row)
            body = None if encoded is None else msgspec.json.decode(encoded, type=dict[str, Any])
        except (InvalidInput, msgspec.DecodeError) as error:
            damage = str(error)
        prev = header.prev if header is not None and header.prev != entry.NO_ENTRY else None
        return Entry(
            id=row.id,
            log=row.log,
            kind=row.kind,
            device=header.device if header is not None else b"",
            incarnation=header.incarnation if header is not None else b"",
            seq=row.seq,
            prev=prev,
            parents=header.parents if header is not None else (),
            time_ms=row.time_ms,
            week=row.week,
            position=row.position,
            imported=row.mid is not None,
            signed=row.signature is not None,
            head=row.id in heads,
            outer_size=len(row.outer),
            body_size=len(row.body or b""),
            state=_STATES.get(row.state, "damaged"),
            body=body,
            damage=damage,
        )

    def find_entry(self, prefix: str, log: int | None = None) -> EntryRow:
        """The entry that an id, or the unique start of one, means: of an entry or of a message.

        Raises:
            UserError: None, or several: the message lists them.
        """
        digits = prefix.casefold().removeprefix("#")
        if len(digits) < 4 or any(digit not in "0123456789abcdef" for digit in digits):
            raise UserError(
                f"{prefix!r} is not the id of an entry: give at least 4 of its hexadecimal digits, as "
                "'mlog log' and 'mlog search' show them."
            )
        mask = 0xF0 if len(digits) % 2 else 0xFF
        found = self.store.by_prefix(log, bytes.fromhex(digits + "0" * (len(digits) % 2)), mask, 50)
        shown = [row for row in found if not row.hidden] or found
        if len(shown) == 1:
            return shown[0]
        if not shown:
            raise UserError(f"no entry {prefix!r}. 'mlog log CONVERSATION' and 'mlog search' show ids.")
        listed = "".join(f"\n  {line}" for line in (self._described(row) for row in shown[:20]))
        raise UserError(f"{len(shown)} entries match {prefix!r}; give more digits:{listed}")

    def _described(self, row: EntryRow) -> str:
        text = "".join(m.text for m in self.view.of_rows(row.log, [row])) if row.kind in SPOKEN else ""
        return f"{row.id.hex()[:16]}  {kind_name(row.kind)}  {text[:50]}".rstrip()

    def entry(self, prefix: str, log: int | None = None) -> Entry:
        """One node of a DAG by its id; as `find_entry`."""
        row = self.find_entry(prefix, log)
        return self._entry(row, set(self.store.heads(row.log)))

    def message(self, prefix: str, log: int | None = None) -> Message:
        """One message by its id; as `find_entry`.

        Raises:
            UserError: None, several, or an entry that is not a message.
        """
        row = self.find_entry(prefix, log)
        if row.kind not in SPOKEN:
            raise UserError(
                f"{prefix} is {kind_name(row.kind)}, not a message. 'mlog show {prefix}' shows it."
            )
        return self.view.of_rows(row.log, [row])[0]

    def message_of(self, log: int, mid: MessageId) -> Message | None:
        """The message with this identity, or None if it is not here."""
        rows = self.store.by_mid(log, [mid]).get(mid, [])
        shown = [row for row in rows if not row.hidden and row.kind in SPOKEN]
        return self.view.of_rows(log, shown[:1])[0] if shown else None

    def provenance(self, message: Message) -> view.Source | None:
        """Where an imported message came from; None for one written in mlog."""
        return self.view.source(message)

    def search(self, query: str, *, log: int | None = None, limit: int = 50) -> list[Message]:
        """The newest messages that hold all words of a query.

        Args:
            query: Words; `word*` for a start, "two words" in quotes for a phrase.
            log: Only in this conversation.

        Raises:
            UserError: No word in it.
        """
        expression = match_expression(query)
        ns = self.store.search(expression, log, limits.SEARCH_CANDIDATES_MAX)
        found: dict[tuple[int, MessageId], Hit | EntryRow] = {}
        for hit in self.store.hits(ns):
            if hit.kind == Kind.EDIT:
                # An edit's words count for the message that reads so now.
                for mid in self.store.references([hit.n]).get(hit.n, []):
                    for target in self.store.by_mid(hit.log, [mid]).get(mid, []):
                        if target.edit == hit.n and not target.hidden:
                            found[hit.log, mid] = target
            elif hit.kind in SPOKEN and not hit.edit and not hit.hidden:
                found[hit.log, hit.message] = hit
        newest = sorted(found.values(), key=lambda hit: hit.position, reverse=True)[:limit]
        # The bytes of those that are shown, read at once for each log.
        rows = self.store.rows({hit.n for hit in newest})
        by_log: dict[int, list[EntryRow]] = {}
        for hit in newest:
            by_log.setdefault(hit.log, []).append(rows[hit.n])
        shown = {m.id: m for n, part in by_log.items() for m in self.view.of_rows(n, part)}
        return [shown[hit.id] for hit in newest]

    def data_version(self) -> int:
        """A number that differs once another process has written; asking is cheap."""
        return self.store.data_version()

    # -- import and export -------------------------------------------------------------------

    def import_chat(
        self,
        source: Source,
        *,
        format: str | None = None,  # noqa: A002 (what the command line calls it)
        into: int | None = None,
        dry_run: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> ImportReport:
        """Read another program's chat; as `mlog.api.transfer.import_chat`."""
        from mlog.api import transfer

        return transfer.import_chat(
            self.replica,
            source,
            format_name=format,
            into=into,
            dry_run=dry_run,
            now_ms=self.now_ms,
            progress=progress,
        )

    def export_chat(
        self,
        log: int,
        format: str = "jsonl",  # noqa: A002 (what the command line calls it)
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        damaged: Callable[[EntryRow], None] = lambda _: None,
    ) -> Iterator[bytes]:
        """A conversation in a format of its own or of another program; as `transfer.export_chat`."""
        from mlog.api import transfer

        return transfer.export_chat(
            self.view,
            self.replica,
            log,
            format_name=format,
            since_ms=since_ms,
            until_ms=until_ms,
            damaged=damaged,
        )

    # -- proof -------------------------------------------------------------------------------

    def verify(
        self,
        log: int | None = None,
        *,
        signatures: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> list[Finding]:
        """Check everything stored, of one log or of all; what is found is a gap from then on.

        Args:
            signatures: Also every signature, and every search word looked up by itself.
            progress: Called with the number of entries looked at since the last call.
        """
        findings = [_file_finding(problem) for problem in self.store.check_file()]
        findings += self._verify_search(thorough=signatures)
        for state in self.replica.logs():
            if log not in (None, state.n):
                continue
            here: list[Finding] = []
            try:
                # One state of the log: another process may be writing to it.
                with self.store.reading():
                    for event in verify.verify_log(self.replica, state.n, signatures=signatures):
                        if isinstance(event, Progress):
                            progress(event.entries)
                        else:
                            here.append(event)
                self._record_gaps(state.n, here)
            except StoreError as error:
                # Pages that SQLite cannot read: what else is damaged is still worth telling.
                here.append(_file_finding(str(error), state.n))
            findings += here
        return findings

    def _verify_search(self, *, thorough: bool) -> list[Finding]:
        try:
            if self.store.check_index():
                return list(verify.verify_search(self.replica, thorough=thorough))
        except StoreError as error:
            return [_file_finding(str(error))]
        return [Finding(log=0, part="index", reason=Reason.CORRUPT, detail=verify.SEARCH_DAMAGED)]

    def rebuild_search(self) -> None:
        """Make the search index anew from the messages; those that are damaged are then not found."""
        self.replica.rebuild_search()
        self.store.scrub()

    def _record_gaps(self, log: int, findings: Sequence[Finding]) -> None:
        now = self.now_ms()
        with self.store.transaction():
            since = {(gap.id, gap.chain, gap.seq, gap.part): gap.since_ms for gap in self.store.gaps(log)}
            gaps = [
                verify.gap_of(f, since.get((f.id, f.chain, f.seq, f.part), now))
                for f in findings[: limits.GAPS_MAX]
            ]
            if gaps or since:
                self.store.replace_gaps(log, gaps)

    def doctor(self) -> list[Check]:
        """What mlog stands on here, checked; with advice where something is amiss."""
        from mlog.api.doctor import examine

        return examine(self.path, self.store, self.now_ms())

    def gaps(self, log: int | None = None) -> list[GapRow]:
        """What is known to be damaged or missing, as the last verification found it."""
        return self.store.gaps(log)

    def status(self, log: int | None = None) -> list[LogStatus]:
        """Counts, root and gaps of one log, or of all."""
        return [self._status(state.n, state.kind) for state in self.replica.logs() if log in (None, state.n)]

    def _status(self, n: int, kind: LogKind) -> LogStatus:
        digests: list[Digest] = refresh_digests(self.store, n)
        return LogStatus(
            n=n,
            kind=kind,
            title=next((row.title for row in self.store.logs() if row.n == n), ""),
            entries=sum(digest.entries for digest in digests),
            bodies=sum(digest.bodies for digest in digests),
            messages=self.store.count(n, SPOKEN),
            chains=len(self.store.chains(n)),
            heads=len(self.store.heads(n)),
            root=log_root(digests),
            gaps=len(self.store.gaps(n)),
        )


def _file_finding(detail: str, log: int = 0) -> Finding:
    return Finding(log=log, part="file", reason=Reason.CORRUPT, detail=detail)


def _checked_text(text: str) -> str:
    if not text.strip():
        raise UserError("nothing to send: the text is empty.")
    if "\0" in text:
        raise UserError("the text has a zero byte in it. Is it a text file?")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UserError("the text is not valid Unicode. Save it as UTF-8 and try again.") from None
    if size > limits.TEXT_SIZE_MAX_BYTES:
        raise LimitExceeded(
            f"the text is too long: {size:,} bytes, and a message may have {limits.TEXT_SIZE_MAX_BYTES:,}. "
            "Split it into several messages."
        )
    return text


def _checked_title(title: str) -> str:
    title = " ".join(title.split())
    if not title:
        raise UserError("a conversation needs a title.")
    if len(title.encode(errors="replace")) > limits.TITLE_SIZE_MAX_BYTES:
        raise LimitExceeded(f"the title is too long: at most {limits.TITLE_SIZE_MAX_BYTES:,} bytes.")
    return title


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "me"
