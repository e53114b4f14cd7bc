"""Import and export: other programs' chats into entries of a log, and back.

An import reads records in the order of the file and appends them in batches, each durable before the
next begins. What this home has already is recognised by its identity, so the same file again,
a longer one, or the rest of an interrupted one adds only what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from mlog import limits
from mlog.errors import InvalidInput, MlogError
from mlog.formats import Chat, ExportRecord, Provenance, Record, Skipped, Source, detect, exporter, importer
from mlog.log import bodies
from mlog.log.bodies import SPOKEN, Body, Kind
from mlog.log.fold import chat_target
from mlog.log.ids import EntryId, MessageId, message_id
from mlog.log.replica import Draft, Replica, Run
from mlog.log.store import BodyState, EntryRow, LogKind, Store, TimelineQuery
from mlog.log.view import View

__all__ = ["ChatReport", "ImportReport", "export_chat", "import_chat"]

_EXPORTED = frozenset({*SPOKEN, Kind.TITLE, Kind.EDIT, Kind.REACTION, Kind.ERASURE})
_NATIVE_KEY = "mlog:"
"""Begins the key of a chat that started in mlog; its topic follows."""


class ChatReport(msgspec.Struct, kw_only=True):
    """What became of one chat of a file.

    Attributes:
        n: The conversation it went to; 0 if nothing was written.
        created: The conversation is new.
        new: Messages and events added.
        known: Those that were here already; `erased` of them have been erased since.
    """

    n: int = 0
    title: str
    created: bool = False
    new: int = 0
    known: int = 0
    erased: int = 0


class ImportReport(msgspec.Struct, kw_only=True):
    """What became of one file.

    Attributes:
        skipped: The first of what was not kept, with position and reason.
        skipped_count: How many there were in all.
    """

    format: str
    name: str
    chats: list[ChatReport] = []
    skipped: list[Skipped] = []
    skipped_count: int = 0


def import_chat(
    replica: Replica,
    source: Source,
    *,
    format_name: str | None,
    into: int | None,
    dry_run: bool,
    now_ms: Callable[[], int],
    progress: Callable[[int], None],
) -> ImportReport:
    """Read a file into conversations.

    Args:
        format_name: Name of the format; None to tell by content.
        into: Conversation for all that is in the file; None for one for each chat.
        dry_run: Write nothing, and count what would be new.
        progress: Called with the number of records done since the last call.

    Raises:
        UserError: No format fits.
        InvalidInput: The file is wrong from some position on; what came before is kept.
    """
    file_hash = source.hash_ahead()
    chosen = importer(format_name) if format_name else detect(source.head(), source.name)
    report = ImportReport(format=chosen.name, name=source.name)
    target: _Target | None = None
    try:
        for item in chosen.parse(source):
            match item:
                case Chat():
                    if target is not None:
                        target.finish()
                    counts = ChatReport(title=item.title)
                    report.chats.append(counts)
                    first = Provenance(format=chosen.name, file_hash=file_hash, name=source.name)
                    target = _Target(replica, item, first, into, counts, now_ms, progress, dry_run=dry_run)
                case Provenance():
                    if target is not None:
                        target.come_from(item)
                case Record():
                    assert target is not None, "an importer yields a chat before its records"
                    target.add(item)
                case Skipped():
                    report.skipped_count += 1
                    if len(report.skipped) < limits.SKIPPED_SHOWN_MAX:
                        report.skipped.append(item)
    except MlogError:
        if target is not None:
            target.finish()
        raise
    if target is not None:
        target.finish()
        if not file_hash:
            target.close(source.hash_read())
    return report


class _Target:
    """The conversation that a chat goes to, and the batch on its way there."""

    def __init__(
        self,
        replica: Replica,
        chat: Chat,
        first: Provenance,
        into: int | None,
        counts: ChatReport,
        now_ms: Callable[[], int],
        progress: Callable[[int], None],
        *,
        dry_run: bool,
    ):
        self._replica = replica
        self._chat = chat
        self._counts = counts
        self._now_ms = now_ms
        self._progress = progress
        self._dry_run = dry_run
        self._sources = {first: 0}
        self._src = 0
        self._announced: set[int] = set()
        self._batch: list[Draft] = []
        self._run: Run | None = None
        self._after: EntryId | None = None
        self._last_ms = 0
        log = into if into is not None else find_chat(replica, chat.key)
        if log is not None:
            self._join(log)

    def come_from(self, provenance: Provenance) -> None:
        """What follows was first imported from there."""
        self._src = self._sources.setdefault(provenance, len(self._sources))

    def add(self, record: Record) -> None:
        """Take one record; written with its batch."""
        self._batch.append(Draft(_kind_of(record), _body_of(record, self._src), record.time_ms, record.mid))
        # Room for the IMPORT entries that the batch may need before it.
        if len(self._batch) >= limits.STORE_ROWS_MAX - len(self._sources):
            self.flush()

    def flush(self) -> None:
        """Make the batch durable."""
        drafts, self._batch = self._batch, []
        if not drafts:
            return
        if self._dry_run:
            self._count_only(drafts)
        else:
            with self._replica.transaction():
                self._write(drafts)
        self._progress(len(drafts))

    def finish(self) -> None:
        """Make the last batch durable, and name the conversation if no record did."""
        self.flush()
        if self._counts.created and self._chat.titled:
            titles = {row.n: row.title for row in self._replica.store.logs()}
            if not titles[self._counts.n]:
                now = self._now_ms()
                title = bodies.Title(title=self._counts.title)
                self._replica.write(self._counts.n, [Draft(Kind.TITLE, title, now)], now)

    def close(self, file_hash: str) -> None:
        """A pipe's hash is known at its end: say it then."""
        if self._run is None or 0 not in self._announced or self._dry_run:
            return
        first = next(provenance for provenance, src in self._sources.items() if src == 0)
        known = msgspec.structs.replace(first, file_hash=file_hash)
        self._replica.write_run(self._run, [self._import_draft(known, 0, self._last_ms)], self._now_ms())

    def _write(self, drafts: Sequence[Draft]) -> None:
        if self._run is None:
            # Another process may have begun the same chat meanwhile; none can now.
            begun = find_chat(self._replica, self._chat.key)
            self._join(self._create() if begun is None else begun)
        assert self._run is not None
        written = self._replica.write_run(
            self._run, drafts, self._now_ms(), after=self._after, preface=self._preface
        )
        self._after = written.after
        self._last_ms = drafts[-1].time_ms
        new = sum(row.kind != Kind.IMPORT for row in written.rows)
        self._counts.new += new
        self._counts.known += len(drafts) - new
        self._counts.erased += sum(row.state == BodyState.ERASED for row in written.known.values())

    def _count_only(self, drafts: Sequence[Draft]) -> None:
        mids = {draft.mid for draft in drafts if draft.mid is not None}
        known = self._replica.store.by_mid(self._counts.n, mids) if self._counts.n else {}
        self._counts.known += sum(draft.mid in known for draft in drafts)
        self._counts.new += sum(draft.mid not in known for draft in drafts)

    def _join(self, log: int) -> None:
        self._counts.n = log
        self._run = self._replica.begin_run(log)

    def _create(self) -> int:
        now = self._now_ms()
        title = _free_title(self._replica.store, self._chat.title)
        drafts = [] if self._chat.titled else [Draft(Kind.TITLE, bodies.Title(title=title), now)]
        self._counts.created = True
        self._counts.title = title
        return self._replica.create_log(LogKind.CONVERSATION, drafts, now)

    def _preface(self, new: Sequence[Draft]) -> list[Draft]:
        """The IMPORT entries that say where these come from, where none has said so yet."""
        needed = {0} | {src for draft in new if (src := getattr(draft.body, "src", 0))}
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


def find_chat(replica: Replica, key: str) -> int | None:
    """The conversation that a chat was imported into before, or in which it began."""
    if key.startswith(_NATIVE_KEY):
        for state in replica.logs(LogKind.CONVERSATION):
            if state.keys.topic.hex() == key.removeprefix(_NATIVE_KEY):
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


def _kind_of(record: Record) -> Kind:
    return Kind.REPLY if record.kind == Kind.MESSAGE and record.to else record.kind


def _body_of(record: Record, src: int) -> Body:
    by, at = record.author, record.position
    to = [mid.hex() for mid in record.to]
    match record.kind:
        case Kind.TITLE:
            return bodies.Title(title=record.text, by=by, at=at, src=src)
        case Kind.EDIT:
            return bodies.Edit(of=to[0], text=record.text, by=by, at=at, src=src)
        case Kind.REACTION:
            return bodies.Reaction(of=to[0], emoji=record.text, removed=record.removed, by=by, at=at, src=src)
        case Kind.ERASURE:
            return bodies.Erasure(of=to[0], by=by, at=at, src=src)
        case _:
            return bodies.Text(text=record.text, to=tuple(to), erased=record.erased, by=by, at=at, src=src)


def export_chat(
    view: View,
    replica: Replica,
    log: int,
    *,
    format_name: str,
    since_ms: int | None,
    until_ms: int | None,
    damaged: Callable[[EntryRow], None],
) -> Iterator[bytes]:
    """The bytes of a conversation in another program's format.

    Args:
        since_ms, until_ms: Claimed times, inclusive and exclusive.
        damaged: Called for each entry that is left out because its bytes are wrong.
    """
    chosen = exporter(format_name)
    state = replica.log(log)
    title = next(row.title for row in replica.store.logs() if row.n == log)
    key = _key_of(view, replica.store, log) or _NATIVE_KEY + state.keys.topic.hex()
    records = _records(view, replica, log, since_ms, until_ms, damaged)
    yield from chosen.export(Chat(key=key, title=title, titled=True), records)


def _key_of(view: View, store: Store, log: int) -> str:
    query = TimelineQuery(log=log, limit=1, kinds=frozenset({Kind.IMPORT}))
    for row in store.timeline(query):
        body = view.opened(row)
        if isinstance(body, bodies.Import):
            return body.chat
    return ""


def _records(
    view: View,
    replica: Replica,
    log: int,
    since_ms: int | None,
    until_ms: int | None,
    damaged: Callable[[EntryRow], None],
) -> Iterable[ExportRecord]:
    store = replica.store
    sources: dict[int, dict[int, bodies.Import]] = {}
    query = TimelineQuery(
        log=log, limit=limits.STORE_ROWS_MAX, kinds=_EXPORTED, since_ms=since_ms, until_ms=until_ms
    )
    while rows := store.timeline(query):
        edits = store.rows({row.edit for row in rows if row.edit})
        for row in rows:
            try:
                body = view.opened(row)
                edit = view.opened(edits[row.edit]) if row.edit in edits else None
            except InvalidInput:
                damaged(row)
                continue
            if body is None and row.kind not in SPOKEN:
                # An edit whose text was erased says nothing any more.
                continue
            if row.chain not in sources and row.mid is not None:
                sources[row.chain] = view.sources(row.chain)
            record = _record_of(row, body, view.name_of(row))
            yield ExportRecord(
                record=record,
                source=_provenance(sources.get(row.chain, {}), body) if row.mid is not None else None,
                current=edit.text if isinstance(edit, bodies.Edit) else None,
                absent=body is None and row.state != BodyState.ERASED,
            )
        if len(rows) < query.limit:
            return
        query = msgspec.structs.replace(query, after=rows[-1].position)


def _record_of(row: EntryRow, body: Body | None, name: str) -> Record:
    text, to, removed, erased = "", (), False, row.state == BodyState.ERASED
    match body:
        case bodies.Text():
            text, to, erased = body.text, body.to, body.erased
        case bodies.Title():
            text = body.title
        case bodies.Edit():
            text, to = body.text, (body.of,)
        case bodies.Reaction():
            text, to, removed = body.emoji, (body.of,), body.removed
        case bodies.Erasure():
            to = (body.of,)
        case _:
            pass
    return Record(
        kind=Kind.MESSAGE if row.kind == Kind.REPLY else Kind(row.kind),
        mid=row.mid or message_id(row.id),
        author=name if row.mid is None else getattr(body, "by", ""),
        text=text,
        time_ms=row.time_ms,
        position=getattr(body, "at", 0),
        to=tuple(MessageId(bytes.fromhex(target)) for target in to),
        erased=erased,
        removed=removed,
    )


def _provenance(sources: dict[int, bodies.Import], body: Body | None) -> Provenance | None:
    found = sources.get(getattr(body, "src", 0))
    if found is None or body is None:
        return None
    return Provenance(format=found.format, file_hash=found.hash, name=found.name)
