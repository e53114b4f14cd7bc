"""Attachments: files cut into chunks that are entries, and manifests that name them.

A chunk is sealed, verified, fetched, kept blindly and erased as every entry. The chunks of one content
in one log share a group, which follows from the content's hash; so the same file sent again names the
same chunks, and an interrupted import finds those that it wrote. An erasure that names a group forgets its
chunks; the next one of the same content has another group. docs/protocol.md, 5 and 6.2.
"""

from __future__ import annotations

import mimetypes
import os
import secrets
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec
from blake3 import blake3

from mlog import limits
from mlog.adapters.disk import disk_advice
from mlog.errors import InvalidInput, LimitExceeded, StoreError, UserError
from mlog.log import bodies, crypto
from mlog.log.bodies import Kind
from mlog.log.ids import DeviceId, EntryId, MessageId
from mlog.log.replica import Draft, Replica
from mlog.log.store import FORGOTTEN, BodyState, EntryRow, TimelineQuery
from mlog.log.view import Attached

if TYPE_CHECKING:
    from mlog.api.home import Home

__all__ = [
    "Content",
    "Kept",
    "attachment",
    "attachment_fields",
    "attachments",
    "chunk_mid",
    "content_of",
    "forgetting",
    "guess_type",
    "is_forgotten",
    "manifest_mid",
    "read",
    "safe_name",
    "save",
    "send",
    "state_of",
    "store_content",
]

_BATCH_CHUNKS: Final = limits.IMPORT_BATCH_SIZE_BYTES // limits.CHUNK_SIZE_MAX_BYTES
_MANIFESTS: Final = frozenset({Kind.MANIFEST})
_RESERVED_NAMES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")}
)
_NAME_SIZE_MAX_BYTES: Final = 200
"""Longest name that is written to a disk: file systems take 255 bytes, and some of it is for a suffix."""


class Content(msgspec.Struct, frozen=True):
    """A file that was read through once."""

    size: int
    hash: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Where a content is in a log."""

    group: str
    chunks: tuple[EntryId, ...]


# -- writing ---------------------------------------------------------------------------------


def content_of(open_: Callable[[], BinaryIO]) -> Content:
    """Read a file through.

    Raises:
        LimitExceeded: Larger than ATTACHMENT_SIZE_MAX_BYTES; no more was read of it.
        UserError: It cannot be read.
    """
    hasher, size = blake3(), 0
    for piece in _pieces(open_):
        hasher.update(piece)
        size += len(piece)
    return Content(size, hasher.hexdigest())


def _pieces(open_: Callable[[], BinaryIO]) -> Iterator[bytes]:
    """A file in pieces of CHUNK_SIZE_MAX_BYTES, the last one shorter."""
    size = 0
    with closing(open_()) as stream:
        while piece := _read_full(stream, limits.CHUNK_SIZE_MAX_BYTES):
            size += len(piece)
            if size > limits.ATTACHMENT_SIZE_MAX_BYTES:
                raise LimitExceeded(
                    f"larger than {limits.ATTACHMENT_SIZE_MAX_BYTES // limits.MIB:,} MiB, the most that "
                    "mlog keeps"
                )
            yield piece


def _read_full(stream: BinaryIO, size: int) -> bytes:
    parts: list[bytes] = []
    try:
        while size and (part := stream.read(size)):
            parts.append(part)
            size -= len(part)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}") from None
    return b"".join(parts)


def store_content(
    replica: Replica,
    log: int,
    content: Content,
    open_: Callable[[], BinaryIO],
    draft: Callable[[bodies.Chunk], Draft],
    write: Callable[[list[Draft]], Sequence[EntryRow]],
) -> Kept:
    """Write the chunks of a file that are not in a log yet, in batches.

    Args:
        draft: What is to become of a chunk.
        write: Writes a batch, and gives the rows of exactly its chunks, in their order.

    Raises:
        UserError: It cannot be read, or changed while it was.
    """
    if not content.size:
        return Kept(group="", chunks=())
    group = _group(replica, log, content.hash)
    known = _whole(replica, log, group)
    if known is not None:
        return Kept(group=group.hex(), chunks=known)
    held = _held(replica, log, group)
    hasher = blake3()
    batch: list[tuple[int, Draft]] = []

    def flush() -> None:
        if batch:
            rows = write([draft for _, draft in batch])
            held.update({index: row.id for (index, _), row in zip(batch, rows, strict=True)})
            batch.clear()

    count = 0
    for index, piece in enumerate(_pieces(open_)):
        hasher.update(piece)
        count += 1
        if index not in held:
            batch.append((index, draft(bodies.Chunk(group=group, index=index, data=piece))))
        if len(batch) >= _BATCH_CHUNKS:
            flush()
    flush()
    if hasher.hexdigest() != content.hash:
        raise UserError("changed while it was read. Try again.")
    return Kept(group=group.hex(), chunks=tuple(held[index] for index in range(count)))


def chunk_mid(chunk: bodies.Chunk) -> MessageId:
    """Identity of an imported chunk."""
    return _mid(b"chunk", chunk.group, chunk.index.to_bytes(4, "big"))


def manifest_mid(of: MessageId, index: int, hash_: str) -> MessageId:
    """Identity of an imported manifest: of the `index`-th file of a message, as its content is."""
    return _mid(b"manifest", of, index.to_bytes(4, "big"), hash_.encode())


def _mid(*parts: bytes) -> MessageId:
    return MessageId(crypto.hash_with_context("attachment", b"".join(parts))[:16])


def _group(replica: Replica, log: int, hash_: str) -> MessageId:
    """The group for a content: the first one whose chunks this person did not erase."""
    number = 0
    while True:
        group = _mid(b"group", bytes.fromhex(hash_), number.to_bytes(4, "big"))
        if not is_forgotten(replica, log, group):
            return group
        number += 1


def is_forgotten(replica: Replica, log: int, target: MessageId) -> bool:
    """Whether this person erased a message, or a group of chunks."""
    chains = replica.store.changers(log, [target], frozenset({Kind.ERASURE})).get(target, set())
    me = replica.people.stand_in(replica.device_id)
    return me in replica.authors(log, chains).values() if chains else False


def _own(
    replica: Replica, log: int, target: MessageId, kind: Kind, author: DeviceId | None = None
) -> Iterator[EntryRow]:
    """The entries of a kind that name something and are one person's, a few at a time.

    Args:
        author: A device of that person; None for this one.
    """
    ns = [r.n for r in replica.store.references_to(log, [target], frozenset({kind}))]
    me = replica.people.stand_in(author or replica.device_id)
    for start in range(0, len(ns), _BATCH_CHUNKS):
        rows = replica.store.rows(ns[start : start + _BATCH_CHUNKS])
        authors = replica.authors(log, {row.chain for row in rows.values()})
        yield from (row for row in rows.values() if authors.get(row.chain) == me)


def _whole(replica: Replica, log: int, group: MessageId) -> tuple[EntryId, ...] | None:
    """The chunks of a group, if a manifest names them and all are here."""
    for row in _own(replica, log, group, Kind.MANIFEST):
        body = _decoded(row)
        if isinstance(body, bodies.Manifest) and body.group == group.hex():
            chunks = tuple(EntryId(chunk) for chunk in body.chunks)
            states = replica.store.states(log, chunks)
            if len(states) == len(set(chunks)) and set(states.values()) <= {BodyState.OPENED}:
                return chunks
    return None


def _held(replica: Replica, log: int, group: MessageId) -> dict[int, EntryId]:
    """The chunks of a group that an interrupted import wrote."""
    held: dict[int, EntryId] = {}
    for row in _own(replica, log, group, Kind.CHUNK):
        body = _decoded(row)
        if isinstance(body, bodies.Chunk) and body.group == group:
            held.setdefault(body.index, row.id)
    return held


def _decoded(row: EntryRow) -> bodies.Body | None:
    if row.body is None or row.state != BodyState.OPENED:
        return None
    try:
        return bodies.decode(row.kind, row.body)
    except InvalidInput:
        return None


def send(home: Home, log: int, text: bodies.Text, paths: Sequence[Path]) -> EntryId:
    """Write a message with files; gives the message's entry.

    The files come first, so that whoever sees the message can be given them.
    """
    replica = home.replica
    if len(paths) > limits.FILES_MAX:
        raise LimitExceeded(f"a message takes at most {limits.FILES_MAX} files; send several messages.")
    manifests: list[bodies.Manifest] = []
    for path in paths:
        name = _shown_name(path)

        def draft(chunk: bodies.Chunk) -> Draft:
            return Draft(Kind.CHUNK, chunk, home.now_ms())

        def write(drafts: list[Draft]) -> list[EntryRow]:
            return replica.write(log, drafts, home.now_ms())[-len(drafts) :]

        try:
            content = content_of(lambda path=path: _open(path))
            kept = store_content(replica, log, content, lambda path=path: _open(path), draft, write)
        except (UserError, LimitExceeded) as error:
            raise type(error)(f"{path}: {error}") from None
        manifests.append(_manifest(MessageId(bytes(16)), name, "", content, kept))
    kind = Kind.REPLY if text.to else Kind.MESSAGE
    with replica.transaction():
        now = home.now_ms()
        row = replica.write(log, [Draft(kind, text, now)], now)[-1]
        of = row.message.hex()
        replica.write(
            log, [Draft(Kind.MANIFEST, msgspec.structs.replace(m, of=of), now) for m in manifests], now
        )
    return row.id


def _manifest(of: MessageId, name: str, type_: str, content: Content, kept: Kept) -> bodies.Manifest:
    return bodies.Manifest(
        of=of.hex(),
        name=name,
        type=type_ or guess_type(name),
        size=content.size,
        hash=content.hash,
        group=kept.group,
        chunks=kept.chunks,
    )


def guess_type(name: str) -> str:
    """The MIME type that a name suggests."""
    return mimetypes.guess_type(name, strict=False)[0] or "application/octet-stream"


def _shown_name(path: Path) -> str:
    return os.fsencode(path.name).decode(errors="replace")


def _open(path: Path) -> BinaryIO:
    try:
        if not path.is_file():
            raise UserError("not a file" if path.exists() else "there is no such file")
        return path.open("rb")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}") from None


def forgetting(
    replica: Replica, log: int, mid: MessageId, author: DeviceId | None = None
) -> list[bodies.Erasure]:
    """The erasures beside that of a message: of groups that no manifest of another message names.

    Args:
        author: A device of the person who said the message; None for this one.
    """
    groups: dict[str, None] = {}
    for row in _own(replica, log, mid, Kind.MANIFEST, author):
        body = _decoded(row)
        if isinstance(body, bodies.Manifest) and body.group and body.of == mid.hex():
            groups[body.group] = None
    return [bodies.Erasure(of=group) for group in groups if not _named_elsewhere(replica, log, group, mid)]


def _named_elsewhere(replica: Replica, log: int, group: str, mid: MessageId) -> bool:
    for row in _own(replica, log, MessageId(bytes.fromhex(group)), Kind.MANIFEST):
        body = _decoded(row)
        if isinstance(body, bodies.Manifest) and body.group == group and body.of != mid.hex():
            return True
    return False


# -- reading ---------------------------------------------------------------------------------


def attachments(home: Home, log: int | None = None) -> Iterator[Attached]:
    """The files of a conversation, or of all, in the order of the view."""
    for conversation in home.conversations():
        if log in (None, conversation.n):
            yield from _of_log(home, conversation.n)


def _of_log(home: Home, log: int) -> Iterator[Attached]:
    query = TimelineQuery(log=log, limit=limits.SCAN_ROWS_MAX, kinds=_MANIFESTS)
    while rows := home.store.timeline(query):
        for row in rows:
            attached = home.view.attached(row)
            if attached is not None:
                yield attached
        if len(rows) < query.limit:
            return
        query = msgspec.structs.replace(query, after=rows[-1].position)


def attachment(home: Home, prefix: str, log: int | None = None) -> Attached:
    """The file that an id means: of its manifest, or of a message with just one file.

    Raises:
        UserError: None, or several: the message lists them.
    """
    row = home.find_entry(prefix, log)
    if row.kind == Kind.MANIFEST:
        attached = home.view.attached(row)
        if attached is None:
            raise UserError(f"{prefix} is an attachment that was erased, or is damaged.")
        return attached
    found = home.message(prefix, log).attachments
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"message {prefix} has no attachment. 'mlog attachments' lists them.")
    listed = "".join(f"\n  {one.id.hex()[:8]}  {one.name}" for one in found[:20])
    raise UserError(f"message {prefix} has {len(found)} attachments; name one of them:{listed}")


def state_of(home: Home, attached: Attached) -> str:
    """What of a file is here: "here", "not here yet", "erased", or "name only"."""
    if not attached.has_content:
        return "name only"
    states = home.store.states(attached.log, set(attached.chunks))
    if not FORGOTTEN.isdisjoint(states.values()):
        return "erased"
    whole = len(states) == len(set(attached.chunks)) and set(states.values()) <= {BodyState.OPENED}
    return "here" if whole else "not here yet"


def read(home: Home, attached: Attached) -> Iterator[bytes]:
    """The bytes of a file in pieces, each checked against its entry's hash; all of them at the end.

    Raises:
        UserError: Not all of it is here.
        StoreError: It is damaged.
    """
    if not attached.has_content:
        raise UserError(f"of {attached.name} only its name was imported, not the file itself.")
    hasher, size = blake3(), 0
    for index, id_ in enumerate(attached.chunks):
        row = home.store.find(attached.log, [id_]).get(id_)
        try:
            body = None if row is None else home.view.opened(row)
        except InvalidInput as error:
            raise StoreError(
                f"{attached.name}: a part of it is damaged ({error}). 'mlog repair' gets it from another "
                "device."
            ) from None
        if isinstance(body, bodies.Chunk) and body.index == index:
            hasher.update(body.data)
            size += len(body.data)
            yield body.data
            continue
        if row is not None and row.state in FORGOTTEN:
            raise UserError(f"{attached.name} was erased.")
        raise UserError(
            f"{attached.name} is not here yet: part {index + 1:,} of {len(attached.chunks):,} is missing. "
            "'mlog sync' fetches it, or 'mlog why' says who has it."
        )
    if hasher.hexdigest() != attached.hash or size != attached.size:
        raise StoreError(f"{attached.name} is not what its manifest says. Whoever attached it made it wrong.")


def save(home: Home, attached: Attached, path: Path | None = None, *, force: bool = False) -> Path:
    """Write a file to the disk, whole or not at all; gives where.

    Args:
        path: Where to; None for a safe form of its name in the current folder.
        force: Replace what is there.

    Raises:
        UserError: Something is there already, or no folder; or the file is not here.
        StoreError: It is damaged, or the disk refuses.
    """
    target = path if path is not None else Path(safe_name(attached.name))
    if target.is_dir():
        target /= safe_name(attached.name)
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {target.parent}. Make it, or choose another one.")
    if os.path.lexists(target) and (not force or target.is_dir()):
        raise UserError(f"{target} exists. Choose another name with -o, or replace it with --force.")
    partial = target.with_name(f".{secrets.token_hex(6)}.part")
    try:
        with partial.open("xb") as stream:
            for piece in read(home, attached):
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        if force:
            partial.replace(target)
        else:
            _put(partial, target)
    except FileExistsError:
        raise UserError(
            f"{target} exists. Choose another name with -o, or replace it with --force."
        ) from None
    except OSError as error:
        raise StoreError(f"{target} was not written: {disk_advice(error)}") from None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _put(partial: Path, target: Path) -> None:
    """Give a file its name, unless something has it."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links: what comes between is at most another file of this person.
        if os.path.lexists(target):
            raise FileExistsError from None
        partial.replace(target)


def safe_name(name: str) -> str:
    """A name for a file on any system, from one that somebody else chose: never a path, never hidden."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    kept = "".join("_" if _is_unsafe(character) else character for character in name)
    kept = kept.strip(" .").lstrip("-") or "attachment"
    stem, dot, suffix = kept.partition(".")
    if stem.rstrip().casefold() in _RESERVED_NAMES:
        kept = f"_{stem}{dot}{suffix}"
    if len(kept.encode()) > _NAME_SIZE_MAX_BYTES:
        suffix = Path(kept).suffix if len(Path(kept).suffix.encode()) <= 20 else ""
        room = _NAME_SIZE_MAX_BYTES - len(suffix.encode())
        kept = kept.encode()[:room].decode(errors="ignore").rstrip(" .") + suffix
    return kept


def _is_unsafe(character: str) -> bool:
    # Also what turns the direction of text: "exe.jpg" that ends in ".exe" when it is written.
    return character in '<>:"/\\|?*' or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def attachment_fields(attached: Attached) -> dict[str, object]:
    """An attachment as programs get it, from the service and from the command line."""
    return {
        "id": attached.id.hex(),
        "name": attached.name,
        "media_type": attached.type,
        "size": attached.size,
        "hash": attached.hash or None,
    }
