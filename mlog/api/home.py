"""Home: one person's logs on one machine, as scripts and the command line use them.

import mlog

with mlog.open() as home:
    conversation = home.conversation("#ubuntu")
    for message in home.messages(conversation.n, limit=20):
        print(message.author.name, message.text)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from mlog import config, limits
from mlog.adapters import local_socket, marker
from mlog.adapters.key_protection import Passphrase
from mlog.adapters.keystore import (
    SystemEntropy,
    encode_keys,
)
from mlog.adapters.sqlite import SqliteStore
from mlog.api import writing
from mlog.api.nodes import Entry, opened_entry
from mlog.api.opening import (
    current_incarnation,
    found_person,
    list_members,
    load_or_make_keys,
    make_folder,
    name_of_database,
    require_database,
    require_own_keys,
)
from mlog.errors import Busy, StoreError, UserError
from mlog.log import bodies, view
from mlog.log.bodies import SPOKEN, Kind, kind_name
from mlog.log.expiry import settings_of
from mlog.log.ids import EntryId, MessageId
from mlog.log.replica import Draft, Replica
from mlog.log.store import (
    EntryRow,
    GapRow,
    LogKind,
    Position,
    TimelineQuery,
)
from mlog.log.view import Message, Names, View

# Import, export and the doctor cost a third of the start of `mlog send`, which needs none of them.
if TYPE_CHECKING:
    from mlog.api.doctor import Check
    from mlog.api.importing import ImportReport
    from mlog.api.notes import Notes
    from mlog.api.proof import LogStatus
    from mlog.formats.source import Hints, Source
    from mlog.formats.tree import Tree
    from mlog.log.verify import Finding
    from mlog.log.view import Attached

__all__ = ["Conversation", "Entry", "Home", "default_home", "open"]


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation of this home.

    Attributes:
        n: Its number here; other homes number theirs on their own.
        topic: What every replica knows it by, 16 bytes.
    """

    n: int
    title: str
    topic: bytes


def default_home() -> Path:
    """The folder of this person's logs: MLOG_HOME, or where the platform keeps user data."""
    chosen = os.environ.get(config.HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("mlog", appauthor=False))


def open(  # noqa: A001 (mlog.open)
    home: Path | str | None = None,
    *,
    person: str | None = None,
    device: str | None = None,
    passphrase: Passphrase | None = None,
) -> Home:
    """Open a home; a new one gets its keys and its person log.

    Args:
        home: Its folder; default as `default_home`.
        person: What to call the person in a new home; default the name of the login.
        device: What to call this device in a new home; default the name of the machine.
        passphrase: Called for the passphrase where the key file is protected with one.

    Raises:
        UserError: Not an mlog home, or one of a newer mlog; or its keys are protected, and the
            passphrase or the keyring is not there.
        Busy: Another process holds it.
        StoreError: The disk, the database or the key file is at fault.
    """
    path = Path(home) if home is not None else default_home()
    return Home(path, person=person, device=device, passphrase=passphrase)


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
        device: str | None = None,
        passphrase: Passphrase | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        busy_timeout_ms: int = limits.BUSY_TIMEOUT_MS,
    ):
        self.path = path
        self.now_ms = clock_ms
        self.database = path / config.DATABASE_NAME
        make_folder(path)
        entropy = SystemEntropy()
        self._keys = keys = load_or_make_keys(path, self.database, busy_timeout_ms, passphrase)
        require_database(path, self.database)
        self.announce: Callable[[], None] = partial(local_socket.poke, path)
        """Called after each commit; tells the service that runs on these logs, if one does."""
        self.store = SqliteStore(self.database, busy_timeout_ms=busy_timeout_ms, on_commit=self._committed)
        try:
            self._database_id = name_of_database(self.store, self.database)
            require_own_keys(path, self.database, self.store, keys)
            incarnation = current_incarnation(self.store, entropy, self._fits_marker)
            self.replica = Replica(self.store, keys.device, keys.vault, entropy, incarnation)
            if not self.store.logs():
                found_person(self.replica, person, device, self.now_ms())
            self.view = View(self.replica, Names(self.replica))
            # Who reads only is not to be kept waiting, nor stopped by a full disk.
            with suppress(Busy, StoreError):
                list_members(self.store, self.replica)
                self.expire()
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
            self.finish_erasures()
        finally:
            self.store.close()

    def finish_erasures(self) -> None:
        """Overwrite in the file what was forgotten."""
        if self.store.words_distrusted():
            self.replica.rebuild_search()
        self.store.scrub()

    def _marker(self) -> marker.Marker:
        return marker.here(self.database, self._database_id, self.store.next_n() - 1)

    def _fits_marker(self) -> bool:
        beside = marker.load_marker(self.path / config.MARKER_NAME)
        return beside is not None and beside.vouches_for(self._marker())

    def _committed(self) -> None:
        self._save_marker()
        self.announce()

    def _save_marker(self) -> None:
        if getattr(self, "_database_id", b""):
            marker.save_marker(self.path / config.MARKER_NAME, self._marker())

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
        title = writing.checked_title(title)
        now = self.now_ms()
        with self.replica.transaction():
            if any(known.title == title for known in self.conversations()):
                raise UserError(f"there is a conversation {title!r} already. Choose another title.")
            n = self.replica.create_log(
                LogKind.CONVERSATION, [Draft(Kind.TITLE, bodies.Title(title=title), now)], now
            )
        return Conversation(n=n, title=title, topic=self.replica.log(n).keys.topic)

    # -- writing -----------------------------------------------------------------------------

    def send(
        self, log: int, text: str, *, reply_to: MessageId | None = None, attach: Sequence[Path] = ()
    ) -> EntryId:
        """Write a message; it is durable when this returns, as all that is written here.

        Args:
            attach: Files that go with it; then the text may be empty.

        Raises:
            UserError: Nothing to send, or a file cannot be read. Here and below: or this person is not in the
                conversation (any more), or this device was revoked.
            LimitExceeded: Longer than TEXT_SIZE_MAX_BYTES, or too large or too many files.
        """
        return writing.send(self, log, text, reply_to, attach)

    def edit(self, message: Message, text: str) -> EntryId:
        """Replace the text of a message of one's own.

        Raises:
            UserError: Somebody else's, imported, or erased.
        """
        return writing.edit(self, message, text)

    def react(self, message: Message, emoji: str, *, remove: bool = False) -> EntryId:
        """Put an emoji on a message, or take it back."""
        return writing.react(self, message, emoji, remove=remove)

    def erase(self, message: Message) -> EntryId:
        """Forget text and files of a message of one's own, or as an admin of anybody's, here and in time
        wherever it was sent.

        They are overwritten in the file when this returns; its place in the log stays. A file that another
        message has too stays with that one.

        Raises:
            UserError: Somebody else's, or erased.
        """
        return writing.erase(self, message)

    def set_title(self, log: int, title: str) -> EntryId:
        """Call a conversation something else."""
        return writing.set_title(self, log, title)

    def expire_after(self, log: int, after_ms: int) -> EntryId:
        """Let what is said in a conversation from now on disappear after a time; 0 lets it stay.

        Raises:
            UserError: Shorter than EXPIRE_MIN_MS, or this person is no admin of the conversation.
        """
        return writing.expire_after(self, log, after_ms)

    def expiry_ms(self, log: int) -> int:
        """After how long disappears what is said now; 0 for never."""
        settings = settings_of(self.store, log, self.replica.people.setters)
        return settings[-1].after_ms if settings else 0

    def expire(self) -> int:
        """Forget what was to disappear by now, in all conversations; how many bodies that were.

        Looks at most every EXPIRE_LOOK_MS.
        """
        return writing.expire(self)

    # -- what only own devices know ------------------------------------------------------------

    @property
    def notes(self) -> Notes:
        """Labels, pins, drafts, settings, and what was read."""
        from mlog.api.notes import Notes

        return Notes(self)

    # -- copies ------------------------------------------------------------------------------

    def snapshot(self) -> Path:
        """A consistent read-only copy of the database for scripts; replaces the last one."""
        from mlog.api import safekeeping

        return safekeeping.snapshot(self)

    def backup(self, path: Path, passphrase: str) -> None:
        """Write keys and database to one file, sealed with a passphrase; whole or not at all.

        Raises:
            UserError: The passphrase is empty.
            StoreError: There is no room, or the file cannot be written.
        """
        from mlog.api import safekeeping

        safekeeping.backup(self, path, encode_keys(self._keys), passphrase)

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
            yield from (opened_entry(self, row, heads) for row in rows)

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
        return opened_entry(self, row, set(self.store.heads(row.log)))

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

    def search(
        self, query: str, *, log: int | None = None, limit: int = 50, who: str | None = None
    ) -> list[Message]:
        """The newest messages that hold all words of a query; as `mlog.api.searching.search`.

        Args:
            who: Only what this person says, in whatever program; a name, as `mlog people` lists them.
        """
        from mlog.api import identities, searching

        chosen = None if who is None else identities.Chosen(self, who)
        return searching.search(self.store, self.view, query, log=log, limit=limit, who=chosen)

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
        """Read another program's chat; as `mlog.api.importing.import_chat`."""
        from mlog.api import importing

        return importing.import_chat(
            self.replica,
            source,
            format_name=format,
            into=into,
            dry_run=dry_run,
            now_ms=self.now_ms,
            progress=progress,
        )

    def import_tree(
        self,
        tree: Tree,
        hints: Hints,
        *,
        format: str | None = None,  # noqa: A002 (what the command line calls it)
        into: int | None = None,
        dry_run: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> ImportReport:
        """Read a folder or archive that another program exported; as `mlog.api.importing.import_tree`."""
        from mlog.api import importing

        return importing.import_tree(
            self.replica,
            tree,
            hints,
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
        write_file: Callable[[Attached], str] = lambda _: "",
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
            write_file=write_file,
        )

    def attachments(self, log: int | None = None) -> Iterator[Attached]:
        """The files of a conversation, or of all, in the order of the view."""
        from mlog.api import attachments

        return attachments.attachments(self, log)

    def save(self, prefix: str | Attached, path: Path | None = None, *, force: bool = False) -> Path:
        """Write an attachment to the disk; as `mlog.api.attachments.save`."""
        from mlog.api import attachments

        found = attachments.attachment(self, prefix) if isinstance(prefix, str) else prefix
        return attachments.save(self, found, path, force=force)

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
        from mlog.api import proof

        return proof.verify(self, log, signatures=signatures, progress=progress)

    def rebuild_search(self) -> None:
        """Make the search index anew from the messages; those that are damaged are then not found."""
        self.replica.rebuild_search()
        self.store.scrub()

    def doctor(self, *, offline: bool = False) -> list[Check]:
        """What mlog stands on here, checked; with advice where something is amiss.

        Args:
            offline: Send nothing, and leave out the network.
        """
        from mlog.api.doctor import examine

        person = self.replica.people.current()
        phrases = len(person.phrases) if person is not None else 0
        return examine(self.path, self.store, self.now_ms(), phrases=phrases, offline=offline)

    def gaps(self, log: int | None = None) -> list[GapRow]:
        """What is known to be damaged or missing, as the last verification found it."""
        return self.store.gaps(log)

    def status(self, log: int | None = None) -> list[LogStatus]:
        """Counts, root and gaps of one log, or of all that are in use."""
        from mlog.api import proof

        return proof.status(self, log)
