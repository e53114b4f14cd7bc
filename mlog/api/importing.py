"""Import: other programs' chats into entries of a log.

An import reads records in the order of the file and appends them in batches, each durable before the
next begins. What this home has already is recognised by its identity, so the same file again,
a longer one, or the rest of an interrupted one adds only what is new. Chats may come in turns: each has a
batch of its own, and all are written together once they are large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import msgspec
from blake3 import blake3

from mlog import limits
from mlog.api.import_target import ChatReport, Target
from mlog.api.matching import Run
from mlog.errors import InvalidInput, LimitExceeded, MlogError, UserError
from mlog.formats import (
    GATHERERS,
    TREE_IMPORTERS,
    Chat,
    Hints,
    Item,
    Provenance,
    Record,
    Skipped,
    Source,
    Tree,
    detect,
    importer,
)
from mlog.formats.detection import claims, sniff_files
from mlog.log.replica import Replica

__all__ = ["ChatReport", "ImportReport", "import_chat", "import_tree"]


class ImportReport(msgspec.Struct, kw_only=True):
    """What became of one file, folder or archive.

    Attributes:
        format: Names of the formats, in the order in which they were read.
        skipped: The first of what was not kept, with position and reason.
        skipped_count: How many there were in all.
    """

    format: str
    name: str
    chats: list[ChatReport] = []
    skipped: list[Skipped] = []
    skipped_count: int = 0

    def skip(self, skipped: Skipped) -> None:
        """Note something that was not kept."""
        self.skipped_count += 1
        if len(self.skipped) < limits.SKIPPED_SHOWN_MAX:
            self.skipped.append(skipped)


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
    first = Provenance(format=chosen.name, file_hash=file_hash, name=source.name)
    taker = _Taker(replica, report, source.tree, source.path, into, now_ms, progress, dry_run=dry_run)
    taker.take(chosen.parse(source), first)
    if not file_hash:
        taker.close(first, source.hash_read())
    return report


def import_tree(
    replica: Replica,
    tree: Tree,
    hints: Hints,
    *,
    format_name: str | None,
    into: int | None,
    dry_run: bool,
    now_ms: Callable[[], int],
    progress: Callable[[int], None],
) -> ImportReport:
    """Read a folder or archive into conversations; as `import_chat`.

    A file that cannot be read is noted, and does not keep the others out.

    Raises:
        UserError: There is nothing in it that mlog knows.
        LimitExceeded: It has too many files.
    """
    report = ImportReport(format="", name=tree.name)
    if format_name is not None and all(known.name != format_name for known in TREE_IMPORTERS):
        importer(format_name)
    used: set[str] = set()
    read: dict[str, None] = {}
    found = claims(tree, format_name)
    for part in found:
        used.update(part.names)
    for part in found:
        read[part.importer.name] = None
        first = Provenance(format=part.importer.name, name=tree.name)
        taker = _Taker(replica, report, tree, "", into, now_ms, progress, dry_run=dry_run, used=used)
        with _noting(report, ""):
            taker.take(part.importer.parse(tree, part.names, hints), first)
    single, unknown = sniff_files(tree, used, format_name)
    gatherers = {known.name: known for known in GATHERERS}
    # One for all: a chat of ten thousand files would have as many chains, and each write reads them all.
    taker = _Taker(replica, report, tree, "", into, now_ms, progress, dry_run=dry_run, used=used)
    for chosen, name in single:
        if name in used:
            continue
        read[chosen.name] = None
        if (gatherer := gatherers.get(chosen.name)) is not None:
            # At the first of them: what formats before this one named as attachments is in `used` by now.
            names = [other for same, other in single if same is chosen and other not in used]
            used.update(names)
            first = Provenance(format=chosen.name, name=tree.name)
            gathering = _Taker(replica, report, tree, "", into, now_ms, progress, dry_run=dry_run, used=used)
            with _noting(report, ""):
                gathering.take(gatherer.parse(tree, names, hints), first)
            continue
        used.add(name)
        with _noting(report, name), closing(tree.open(name)) as stream:
            source = Source(stream, name.rpartition("/")[2], hints=hints, tree=tree, path=name)
            first = Provenance(format=chosen.name, file_hash=_hash_of(tree, name), name=source.name)
            taker.take(chosen.parse(source), first, name, ends=False)
    taker.finish()
    if not read:
        raise UserError(
            f"{tree.name} has nothing in a format that mlog knows. Name the folder, archive or file that the "
            "chat program's export made; docs/formats.md says what each makes."
        )
    for name, reason in unknown:
        if name not in used:
            report.skip(Skipped(position=0, file=name, reason=reason))
    for name, reason in getattr(tree, "left_out", ()):
        report.skip(Skipped(position=0, file=name, reason=reason))
    report.format = ", ".join(read)
    return report


class _noting:  # noqa: N801 (read as a verb)
    """Notes a file that is wrong, or cannot be read, in the report; what was read of it is kept."""

    def __init__(self, report: ImportReport, name: str):
        self._report = report
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, InvalidInput | LimitExceeded | UserError):
            return False
        self._report.skip(Skipped(position=0, file=self._name, reason=str(error)))
        return True


def _hash_of(tree: Tree, name: str) -> str:
    hasher = blake3()
    with closing(tree.open(name)) as stream:
        while piece := stream.read(limits.MIB):
            hasher.update(piece)
    return hasher.hexdigest()


class _Taker:
    """Hands the items of one importer to the conversations that they are for."""

    def __init__(
        self,
        replica: Replica,
        report: ImportReport,
        tree: Tree | None,
        beside: str,
        into: int | None,
        now_ms: Callable[[], int],
        progress: Callable[[int], None],
        *,
        dry_run: bool,
        used: set[str] | None = None,
    ):
        self._replica = replica
        self._report = report
        self._tree = tree
        self._beside = beside
        self._into = into
        self._now_ms = now_ms
        self._progress = progress
        self._dry_run = dry_run
        self._used = set[str]() if used is None else used
        self._targets: dict[str, Target] = {}
        self._waiting: dict[Target, tuple[int, int]] = {}
        self._rows = self._size = 0
        self._run = Run(replica)

    def take(self, items: Iterator[Item], first: Provenance, beside: str = "", *, ends: bool = True) -> None:
        """All of them.

        Args:
            first: Where records come from of which nothing else is said.
            beside: The file that they come from, if this takes those of several.
            ends: Make them durable; else some wait for those of the next file, or for `finish`.
        """
        target: Target | None = None
        self._beside = beside or self._beside
        try:
            for item in items:
                match item:
                    case Chat():
                        target = self._targets.get(item.key)
                        if target is None:
                            target = self._targets[item.key] = self._begin(item, first)
                        target.come_from(first, beside or None)
                    case Provenance():
                        if target is not None:
                            target.come_from(item)
                    case Record():
                        assert target is not None, "an importer yields a chat before its records"
                        target.add(item)
                        self._bound(target)
                    case Skipped():
                        self._report.skip(item)
        except MlogError:
            self.finish()
            raise
        # What is an attachment of this file is no chat of its own.
        many = len(self._targets) > limits.STORE_ROWS_MAX
        if ends or many or any(waiting.names_files for waiting in self._waiting):
            self.finish()

    def finish(self) -> None:
        """Make all that waits durable."""
        for target in self._targets.values():
            target.finish()
        self._waiting.clear()
        self._rows = self._size = 0
        if len(self._targets) > limits.STORE_ROWS_MAX:
            self._targets.clear()

    def close(self, first: Provenance, file_hash: str) -> None:
        """A pipe's hash is known at its end: say it then."""
        for target in self._targets.values():
            target.close(first, file_hash)

    def _begin(self, chat: Chat, first: Provenance) -> Target:
        counts = ChatReport(title=chat.title)
        self._report.chats.append(counts)
        return Target(
            self._replica,
            chat,
            first,
            self._into,
            counts,
            self._now_ms,
            self._progress,
            self._open_tree(),
            self._report.skip,
            self._run,
            dry_run=self._dry_run,
        )

    def _open_tree(self) -> tuple[Tree | None, str, set[str]]:
        return self._tree, self._beside, self._used

    def _bound(self, target: Target) -> None:
        """Write all that waits once it is large, so that memory does not grow with the number of chats."""
        rows, size = self._waiting.get(target, (0, 0))
        self._rows += target.pending - rows
        self._size += target.pending_size - size
        self._waiting[target] = target.pending, target.pending_size
        if len(self._waiting) > 1 and (
            self._rows >= limits.STORE_ROWS_MAX or self._size >= limits.IMPORT_BATCH_SIZE_BYTES
        ):
            for waiting in self._waiting:
                waiting.flush()
            self._waiting.clear()
            self._rows = self._size = 0
