"""The conversation that a chat of an import goes to, and the batch on its way there.

A batch is one transaction: messages in the order of the file, behind each the chunks of its files, then
their manifests. Only a file larger than a batch takes several; then its message comes first and
its manifest last, and the next import of it finds the chunks in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from io import BytesIO
from typing import BinaryIO, Final

import msgspec

from mlog import limits
from mlog.api import attachments
from mlog.api.attachments import Content, Kept
from mlog.api.matching import Matched, Matcher, Unsure, is_compared
from mlog.api.matching import Run as CompareRun
from mlog.errors import LimitExceeded, UserError
from mlog.formats import Chat, File, Provenance, Record, Skipped, Tree
from mlog.formats.texts import clean, clip
from mlog.formats.tree import relative_name
from mlog.log import bodies
from mlog.log.bodies import SPOKEN, Body, Kind
from mlog.log.crypto import hash_with_context
from mlog.log.ids import EntryId, MessageId
from mlog.log.message_fold import chat_target
from mlog.log.replica import Draft, Replica, Run
from mlog.log.store import BodyState, EntryRow, LogKind, Store

__all__ = ["NATIVE_KEY", "ChatReport", "Target", "find_chat"]

NATIVE_KEY: Final = "mlog:"
"""Begins the key of a chat that started in mlog; its topic follows."""

_EVENTS: Final = frozenset({Kind.JOIN, Kind.PART, Kind.RENAME, Kind.EVENT})


class ChatReport(msgspec.Struct, kw_only=True):
    """What became of one chat of a file.

    Attributes:
        n: The conversation it went to; 0 if nothing was written.
        created: The conversation is new.
        new: Messages, events and changes of them added.
        known: Those that were here already; `erased` of them have been erased since.
        messages, events, replies: How many of these the file has, known ones included.
        people: Different authors that the file names.
        first_ms, last_ms: The span of their dates; 0 without any.
        attachments: Files that are kept with the messages, known ones included.
        attachments_absent: Files of which the export has only the name.
        same: Known ones that came from another program or person.
        unsure: New ones that are perhaps the same as messages that were here; `unsure_at` lists the first.
    """

    n: int = 0
    title: str
    created: bool = False
    new: int = 0
    known: int = 0
    erased: int = 0
    messages: int = 0
    events: int = 0
    replies: int = 0
    people: int = 0
    first_ms: int = 0
    last_ms: int = 0
    attachments: int = 0
    attachments_absent: int = 0
    same: int = 0
    unsure: int = 0
    unsure_at: list[Unsure] = []


class _Attach(msgspec.Struct, frozen=True):
    """Files that a batch adds behind the message before it."""

    record: Record
    src: int


class Target:
    """One chat on its way into its conversation.

    Args:
        place: The tree that is read, the file in it that names attachments, and names that are used.
        run: What all chats of the import have in common.
        skip: Takes what could not be kept.

    Attributes:
        names_files: Attachments wait to be read.
    """

    def __init__(
        self,
        replica: Replica,
        chat: Chat,
        first: Provenance,
        into: int | None,
        counts: ChatReport,
        now_ms: Callable[[], int],
        progress: Callable[[int], None],
        place: tuple[Tree | None, str, set[str]],
        skip: Callable[[Skipped], None],
        run: CompareRun,
        *,
        dry_run: bool,
    ):
        self._replica = replica
        self._chat = chat
        self._counts = counts
        self._now_ms = now_ms
        self._progress = progress
        self._tree, self._beside, self._used = place
        self._skip = skip
        self._dry_run = dry_run
        self._from = first
        self._sources: dict[Provenance, int] = {first: 0}
        self._src = 0
        self._announced: set[int] = set()
        self._batch: list[Draft | _Attach] = []
        self._pending = self._pending_size = 0
        self.names_files = False
        self._run: Run | None = None
        self._after: EntryId | None = None
        self._last_ms = 0
        self._people: set[bytes] = set()
        self._matcher: Matcher | None = None
        log = into if into is not None else find_chat(replica, chat.key)
        if log is not None:
            self._join(log)
            if is_compared(replica, log, (first.format, chat.key)):
                self._matcher = Matcher(replica, log, (first.format, chat.key), run)

    @property
    def pending(self) -> int:
        """Entries that are not written yet."""
        return self._pending + (self._matcher.waiting if self._matcher is not None else 0)

    @property
    def pending_size(self) -> int:
        """About how many bytes these have."""
        return self._pending_size + (self._matcher.size if self._matcher is not None else 0)

    def come_from(self, provenance: Provenance, beside: str | None = None) -> None:
        """What follows was first imported from there.

        Args:
            beside: The file of the tree that names the attachments that follow, if it is another one.
        """
        if self._matcher is not None:
            self._put_all(self._matcher.come_from((provenance.format, self._chat.key)))
        self._from = provenance
        if beside is not None:
            assert not self.names_files, "they are found beside the file before"
            self._beside = beside
        if provenance not in self._sources and len(self._sources) >= limits.IMPORT_SOURCES_MAX:
            self._begin_chain()
        self._src = self._sources.setdefault(provenance, len(self._sources))

    def add(self, record: Record) -> None:
        """Take one record; written with its batch."""
        self._count(record)
        self.names_files = self.names_files or bool(record.files)
        if self._matcher is None:
            self._put(record, self._src)
        else:
            self._put_all(self._matcher.take(record, self._src))

    def flush(self) -> None:
        """Make all that came so far durable."""
        if self._matcher is not None:
            self._put_all(self._matcher.rest())
        self._write_batch()

    def _put_all(self, decided: Iterable[Matched]) -> None:
        counts = self._counts
        for matched in decided:
            counts.same += matched.same
            if matched.unsure is not None:
                counts.unsure += 1
                if len(counts.unsure_at) < limits.SKIPPED_SHOWN_MAX:
                    counts.unsure_at.append(matched.unsure)
            if matched.here:
                counts.known += 1
            else:
                self._put(matched.record, matched.src)

    def _put(self, record: Record, src: int) -> None:
        kind = Kind.REPLY if record.kind == Kind.MESSAGE and record.to else record.kind
        draft = Draft(kind, _body_of(record, src), record.time_ms, record.mid)
        self._batch.append(draft)
        self._pending += 1
        self._pending_size += len(record.text) + 200
        if record.files:
            self._batch.append(_Attach(record, src))
            self._pending += len(record.files)
            self._pending_size += sum(self._size_of(file) for file in record.files)
        # Room for the IMPORT entries that the batch may need before it.
        room = limits.STORE_ROWS_MAX - len(self._sources) - limits.FILES_MAX
        if self._pending >= room or self._pending_size >= limits.IMPORT_BATCH_SIZE_BYTES:
            self._write_batch()

    def _write_batch(self) -> None:
        """Make the batch durable."""
        batch, self._batch = self._batch, []
        large = self._pending_size >= limits.IMPORT_BATCH_SIZE_BYTES
        self._pending = self._pending_size = 0
        # Of what waits to be compared something may name files too.
        self.names_files = self.names_files and self._matcher is not None and self._matcher.waiting > 0
        if not batch:
            return
        if self._dry_run:
            self._count_only([draft for draft in batch if isinstance(draft, Draft)])
            for item in batch:
                if isinstance(item, _Attach):
                    self._see_files(item)
        else:
            # What is larger than a batch is written in several, each with a lock of its own.
            with nullcontext() if large else self._replica.transaction():
                self._write_all(batch)
        self._progress(sum(isinstance(item, Draft) for item in batch))

    def finish(self) -> None:
        """Make the last batch durable, and name the conversation if no record did."""
        self.flush()
        if self._counts.created and self._chat.titled:
            titles = {row.n: row.title for row in self._replica.store.logs()}
            # A conversation that the disk had no room for is not there.
            if titles.get(self._counts.n) == "":
                now = self._now_ms()
                title = bodies.Title(title=self._counts.title)
                self._replica.write(self._counts.n, [Draft(Kind.TITLE, title, now)], now)

    def close(self, first: Provenance, file_hash: str) -> None:
        """A pipe's hash is known at its end: say it then."""
        src = self._sources.get(first)
        if self._run is None or src not in self._announced or self._dry_run:
            return
        known = msgspec.structs.replace(first, file_hash=file_hash)
        self._replica.write_run(self._run, [self._import_draft(known, src, self._last_ms)], self._now_ms())

    # -- messages ----------------------------------------------------------------------------

    def _count(self, record: Record) -> None:
        counts = self._counts
        counts.messages += record.kind in SPOKEN and record.kind not in _EVENTS
        counts.events += record.kind in _EVENTS
        counts.replies += record.kind == Kind.MESSAGE and bool(record.to)
        if record.time_ms:
            counts.first_ms = min(counts.first_ms or record.time_ms, record.time_ms)
            counts.last_ms = max(counts.last_ms, record.time_ms)
        who = record.uid or record.author
        if who and len(self._people) < limits.PEOPLE_COUNTED_MAX:
            self._people.add(hash_with_context("person", who.encode(errors="replace"))[:8])
            counts.people = len(self._people)

    def _write_all(self, batch: Sequence[Draft | _Attach]) -> None:
        drafts: list[Draft] = []
        erased: set[MessageId] = set()
        for item in batch:
            if isinstance(item, Draft):
                drafts.append(item)
                if item.kind == Kind.ERASURE:
                    drafts += self._forgetting(item)
                continue
            erased |= self._write(drafts)
            drafts = []
            if item.record.mid not in erased and not self._is_erased(item.record.mid):
                drafts = self._attach(item)
        self._write(drafts)

    def _write(self, drafts: Sequence[Draft]) -> set[MessageId]:
        """Append; gives the known ones among them that were erased."""
        if not drafts:
            return set()
        run = self._running()
        written = self._replica.write_run(
            run, drafts, self._now_ms(), after=self._after, preface=self._preface
        )
        self._after = written.after
        self._last_ms = drafts[-1].time_ms
        counted = [draft for draft in drafts if draft.kind != Kind.MANIFEST]
        new = sum(row.kind not in (Kind.IMPORT, Kind.MANIFEST) for row in written.rows)
        self._counts.new += new
        self._counts.known += len(counted) - new
        erased = {mid for mid, row in written.known.items() if row.state == BodyState.ERASED}
        self._counts.erased += sum(written.known[mid].kind != Kind.MANIFEST for mid in erased)
        return erased

    def _running(self) -> Run:
        if self._run is None:
            # Another process may have begun the same chat meanwhile; none can now.
            with self._replica.transaction():
                begun = find_chat(self._replica, self._chat.key)
                self._join(self._create() if begun is None else begun)
        assert self._run is not None
        return self._run

    def _forgetting(self, erasure: Draft) -> list[Draft]:
        assert isinstance(erasure.body, bodies.Erasure)
        of = MessageId(bytes.fromhex(erasure.body.of))
        if not self._counts.n:
            return []
        return [
            Draft(Kind.ERASURE, body, erasure.time_ms, _mid_beside(erasure, body))
            for body in attachments.forgetting(self._replica, self._counts.n, of)
        ]

    def _is_erased(self, mid: MessageId) -> bool:
        return attachments.is_forgotten(self._replica, self._counts.n, mid)

    def _count_only(self, drafts: Sequence[Draft]) -> None:
        mids = {draft.mid for draft in drafts if draft.mid is not None}
        known = self._replica.store.by_mid(self._counts.n, mids) if self._counts.n else {}
        self._counts.known += sum(draft.mid in known for draft in drafts)
        self._counts.new += sum(draft.mid not in known for draft in drafts)

    def _join(self, log: int) -> None:
        self._counts.n = log
        people = self._replica.people
        if not people.has_begun(log):
            raise UserError(
                f"the chat {self._chat.key} goes to a conversation whose beginning is not here yet: 'mlog "
                "sync' first, then import again."
            )
        if not people.may_write(log):
            raise UserError(
                f"the chat {self._chat.key} goes to a conversation in which you are not any more: what you "
                "import into it would reach nobody. Ask an admin of it to add you again ('mlog add'), or "
                "begin another one ('mlog new TITLE') and import with '--into TITLE'."
            )
        self._run = self._replica.begin_run(log)

    def _begin_chain(self) -> None:
        """Go on in a chain of its own: the files that one names are looked up together."""
        self.flush()
        if self._run is not None:
            self._run = self._replica.begin_run(self._run.log)
        self._sources, self._announced = {}, set()

    def _create(self) -> int:
        now = self._now_ms()
        title = _free_title(self._replica.store, self._chat.title)
        drafts = [] if self._chat.titled else [Draft(Kind.TITLE, bodies.Title(title=title), now)]
        self._counts.created = True
        self._counts.title = title
        return self._replica.create_log(LogKind.CONVERSATION, drafts, now)

    def _preface(self, new: Sequence[Draft]) -> list[Draft]:
        """The IMPORT entries that say where these come from, where none has said so yet."""
        needed = {getattr(draft.body, "src", 0) for draft in new if draft.kind != Kind.CHUNK}
        # The first says which chat it is; without it the next import would not find the conversation.
        needed |= {0}
        time_ms = new[0].time_ms
        drafts = [
            self._import_draft(provenance, src, time_ms)
            for provenance, src in self._sources.items()
            if src in needed - self._announced
        ]
        self._announced |= needed
        return drafts

    def _import_draft(self, provenance: Provenance, src: int, time_ms: int) -> Draft:
        body = bodies.Import(
            format=provenance.format,
            chat=self._chat.key,
            name=provenance.name,
            hash=provenance.file_hash,
            src=src,
            time_ms=self._now_ms(),
        )
        return Draft(Kind.IMPORT, body, time_ms)

    # -- files -------------------------------------------------------------------------------

    def _attach(self, item: _Attach) -> list[Draft]:
        """Write the chunks of a message's files; gives the manifests that are to follow."""
        record = item.record
        drafts: list[Draft] = []
        for index, file in enumerate(self._first_files(record)):
            name = _shown_name(file.name)
            open_ = self._opener(file)
            content, kept = Content(file.size, file.hash), Kept(group="", chunks=())
            try:
                if open_ is not None:
                    content = attachments.content_of(open_)
                    _require_same(file, content)
            except (UserError, LimitExceeded) as error:
                self._skip_file(record, file, str(error))
                content, open_ = Content(file.size, file.hash), None
            # One of which only the name is known has another identity, so that the file may still come.
            mid = attachments.manifest_mid(record.mid, index, "" if open_ is None else content.hash)
            if open_ is None:
                self._counts.attachments_absent += 1
            else:
                self._counts.attachments += 1
                if not self._is_known(mid):
                    try:
                        kept = self._keep(content, open_, record.time_ms)
                    except UserError as error:
                        self._skip_file(record, file, str(error))
                        continue
            body = bodies.Manifest(
                of=record.mid.hex(),
                name=name,
                type=clip(clean(file.type)) or attachments.guess_type(name),
                size=content.size,
                hash=content.hash,
                group=kept.group,
                chunks=kept.chunks,
                by=record.author,
                at=record.position,
                src=item.src,
                uid=clip(clean(record.uid)),
            )
            drafts.append(Draft(Kind.MANIFEST, body, record.time_ms, mid))
        return drafts

    def _keep(self, content: Content, open_: Callable[[], BinaryIO], time_ms: int) -> Kept:
        run = self._running()

        def draft(chunk: bodies.Chunk) -> Draft:
            return Draft(Kind.CHUNK, chunk, time_ms, attachments.chunk_mid(chunk))

        def write(drafts: list[Draft]) -> Sequence[EntryRow]:
            written = self._replica.write_run(
                run, drafts, self._now_ms(), after=self._after, preface=self._preface
            )
            self._after = written.after
            rows = written.known | {row.mid: row for row in written.rows if row.kind == Kind.CHUNK}
            return [rows[draft.mid] for draft in drafts if draft.mid is not None]

        return attachments.store_content(self._replica, run.log, content, open_, draft, write)

    def _is_known(self, mid: MessageId) -> bool:
        rows = self._replica.store.by_mid(self._counts.n, [mid]).get(mid, [])
        authors = self._replica.authors(self._counts.n, {row.chain for row in rows})
        return self._replica.people.stand_in(self._replica.device_id) in authors.values()

    def _see_files(self, item: _Attach) -> None:
        """Count what a dry run would keep."""
        for file in self._first_files(item.record):
            open_ = self._opener(file)
            self._counts.attachments += open_ is not None
            self._counts.attachments_absent += open_ is None

    def _first_files(self, record: Record) -> Sequence[File]:
        for file in record.files[limits.FILES_MAX :]:
            self._skip_file(record, file, f"a message keeps at most {limits.FILES_MAX} files")
        return record.files[: limits.FILES_MAX]

    def _skip_file(self, record: Record, file: File, reason: str) -> None:
        name = _shown_name(file.name)
        self._skip(
            Skipped(position=record.position, file=self._beside, reason=f"attachment {name}: {reason}")
        )

    def _opener(self, file: File) -> Callable[[], BinaryIO] | None:
        """Opens the bytes of a file; None where only its name is known."""
        data, tree = file.data, self._tree
        if data is not None:
            return lambda: BytesIO(data)
        found = self._find(file)
        if tree is None or found is None:
            return None
        name = found[0]
        self._used.add(name)
        return lambda: tree.open(name)

    def _find(self, file: File) -> tuple[str, int] | None:
        """Name and size of a file in the tree: beside the file that names it, or as the tree has it."""
        for name in dict.fromkeys((relative_name(file.path, self._beside), relative_name(file.path))):
            if name and self._tree is not None:
                try:
                    return name, self._tree.size(name)
                except UserError:
                    continue
        return None

    def _size_of(self, file: File) -> int:
        if file.data is not None:
            return len(file.data)
        found = self._find(file) if file.path else None
        return found[1] if found is not None else 0


def find_chat(replica: Replica, key: str) -> int | None:
    """The conversation that a chat was imported into before, or in which it began."""
    if key.startswith(NATIVE_KEY):
        for state in replica.logs(LogKind.CONVERSATION):
            if state.keys.topic.hex() == key.removeprefix(NATIVE_KEY):
                return state.n
    store = replica.store
    references = store.references_to(None, [chat_target(key)])
    rows = store.rows({reference.n for reference in references})
    return min((row.log for row in rows.values() if row.kind == Kind.IMPORT), default=None)


def _free_title(store: Store, wanted: str) -> str:
    taken = {row.title for row in store.logs()}
    title, n = wanted or "chat", 2
    while title in taken:
        title, n = f"{wanted} ({n})", n + 1
    return title


def _mid_beside(erasure: Draft, body: bodies.Erasure) -> MessageId | None:
    if erasure.mid is None:
        return None
    return MessageId(hash_with_context("attachment", b"erasure" + erasure.mid + body.of.encode())[:16])


def _require_same(file: File, content: Content) -> None:
    if file.hash not in ("", content.hash):
        raise UserError("not the file that was exported: its bytes are others")


def _shown_name(name: str) -> str:
    """What a file is called, without the folders that an export writes before it."""
    return clip(clean(name.replace("\\", "/").rstrip("/").rpartition("/")[2])) or "attachment"


def _body_of(record: Record, src: int) -> Body:
    by, at, uid = record.author, record.position, clip(clean(record.uid))
    to = [mid.hex() for mid in record.to]
    match record.kind:
        case Kind.TITLE:
            return bodies.Title(title=record.text, by=by, at=at, src=src, uid=uid)
        case Kind.EDIT:
            return bodies.Edit(of=to[0], text=record.text, by=by, at=at, src=src, uid=uid)
        case Kind.REACTION:
            return bodies.Reaction(
                of=to[0], emoji=record.text, removed=record.removed, by=by, at=at, src=src, uid=uid
            )
        case Kind.ERASURE:
            return bodies.Erasure(of=to[0], by=by, at=at, src=src, uid=uid)
        case _:
            return bodies.Text(
                text=record.text, to=tuple(to), erased=record.erased, by=by, at=at, src=src, uid=uid
            )
