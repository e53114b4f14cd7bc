"""Export: a conversation in a format of its own or of another program. Import: mlog/api/importing.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from mlog import limits
from mlog.api.import_target import NATIVE_KEY
from mlog.errors import InvalidInput
from mlog.formats import Chat, ExportRecord, File, Provenance, Record, exporter
from mlog.log import bodies
from mlog.log.bodies import SPOKEN, Body, Kind
from mlog.log.ids import MessageId, message_id
from mlog.log.replica import Replica
from mlog.log.store import FORGOTTEN, EntryRow, Store, TimelineQuery
from mlog.log.view import Attached, View

__all__ = ["export_chat"]

_EXPORTED = frozenset({*SPOKEN, Kind.TITLE, Kind.EDIT, Kind.REACTION, Kind.ERASURE})


def export_chat(
    view: View,
    replica: Replica,
    log: int,
    *,
    format_name: str,
    since_ms: int | None,
    until_ms: int | None,
    damaged: Callable[[EntryRow], None],
    write_file: Callable[[Attached], str] = lambda _: "",
) -> Iterator[bytes]:
    """The bytes of a conversation in another program's format.

    Args:
        write_file: Called for each attachment; gives its path beside the export, or "".
        since_ms, until_ms: Claimed times, inclusive and exclusive.
        damaged: Called for each entry that is left out because its bytes are wrong.
    """
    chosen = exporter(format_name)
    state = replica.log(log)
    title = next(row.title for row in replica.store.logs() if row.n == log)
    key = _key_of(view, replica.store, log) or NATIVE_KEY + state.keys.topic.hex()
    records = _records(view, replica, log, since_ms, until_ms, damaged, write_file)
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
    write_file: Callable[[Attached], str],
) -> Iterable[ExportRecord]:
    store = replica.store
    sources: dict[int, dict[int, bodies.Import]] = {}
    query = TimelineQuery(
        log=log, limit=limits.STORE_ROWS_MAX, kinds=_EXPORTED, since_ms=since_ms, until_ms=until_ms
    )
    while rows := store.timeline(query):
        edits = store.rows({row.edit for row in rows if row.edit})
        attached = view.attachments_of(log, [row for row in rows if row.kind in SPOKEN])
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
            files = attached.get(row.message, ()) if row.kind in SPOKEN else ()
            record = _record_of(
                row, body, view.name_of(row), [_file_of(one, write_file(one)) for one in files]
            )
            yield ExportRecord(
                record=record,
                source=_provenance(sources.get(row.chain, {}), body) if row.mid is not None else None,
                current=edit.text if isinstance(edit, bodies.Edit) else None,
                absent=body is None and row.state not in FORGOTTEN,
            )
        if len(rows) < query.limit:
            return
        query = msgspec.structs.replace(query, after=rows[-1].position)


def _file_of(attached: Attached, path: str) -> File:
    return File(name=attached.name, type=attached.type, path=path, size=attached.size, hash=attached.hash)


def _record_of(row: EntryRow, body: Body | None, name: str, files: Sequence[File]) -> Record:
    text, to, removed, erased = "", (), False, row.state in FORGOTTEN
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
        uid="" if row.mid is None else getattr(body, "uid", ""),
        files=() if erased else tuple(files),
    )


def _provenance(sources: dict[int, bodies.Import], body: Body | None) -> Provenance | None:
    found = sources.get(getattr(body, "src", 0))
    if found is None or body is None:
        return None
    return Provenance(format=found.format, file_hash=found.hash, name=found.name)
