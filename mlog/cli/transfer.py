"""Commands that bring other programs' chats in, and take conversations out."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from mlog.cli.doubles import explain_unsure, unsure_fields
from mlog.cli.options import CONVERSATION, DATE, PATH, SINCE, TEXT, UNTIL, verb
from mlog.cli.output import iso_or_none
from mlog.cli.terminal import iso, safe
from mlog.errors import InvalidInput, StoreError, UserError
from mlog.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from datetime import date
    from zoneinfo import ZoneInfo

    from mlog.api import ChatReport, Home, ImportReport
    from mlog.cli.lines import Lines
    from mlog.cli.output import Console, Progress
    from mlog.formats import Hints, Skipped
    from mlog.formats.tree import OpenTree
    from mlog.log.store import EntryRow
    from mlog.log.view import Attached

__all__ = ["export", "import_"]

_SKIPPED_LINES: Final = 5
"""Skipped lines that a report names; all of them are counted."""

_COUNTS: Final = ("messages", "events", "replies", "attachments", "attachments_absent")
"""What a chat has in it, new or known."""

_DAMAGED_LINES: Final = 20
"""Damaged entries that an export names; 'mlog verify' names all."""


# -- import ----------------------------------------------------------------------------------


@verb(
    "import",
    """mlog import '#ubuntu.log'
    mlog import --into trip ChatExport/result.json
    mlog import slack-export.zip --dry-run
    mlog import 2004-11-15.raw.txt --links 2004-11-15.annotation.txt
    zcat archive.mbox.gz | mlog import -""",
)
@click.argument("files", type=PATH, nargs=-1, required=True, metavar="PATH...|-")
@click.option("--into", type=CONVERSATION, metavar="CONVERSATION", help="Where to; else one for each chat.")
@click.option(
    "--format", "format_", type=TEXT, metavar="NAME", help="Name of a format; else told by content."
)
@click.option("--links", type=PATH, metavar="FILE", help="Reply annotations of an IRC log: '1001 1003 -'.")
@click.option("--date", type=DATE, metavar="DAY", help="The day of lines that have a time only.")
@click.option(
    "--date-order",
    type=click.Choice(("dmy", "mdy", "ymd")),
    help="In which order dates are written, where the file leaves it open.",
)
@click.option("--zone", type=TEXT, metavar="ZONE", help="Time zone of times that say none: Europe/Berlin.")
@click.option("--dry-run", is_flag=True, help="Write nothing, and say what would be new.")
def import_(
    console: Console,
    files: tuple[Path, ...],
    into: str | None,
    format_: str | None,
    links: Path | None,
    date: date | None,
    date_order: str | None,
    zone: str | None,
    dry_run: bool,
) -> None:
    """Import chats of other programs.

    PATH is a file, a folder, a zip or tar archive; "-" is standard input. The format is told by content. What
    is here already is recognised, so importing again, or a longer export of the same chat, adds
    only what is new. Files that belong to messages are kept with them.
    """
    from mlog.formats import Hints

    hints = Hints(date=date, date_order=date_order or "", zone=_zone(zone))
    if links is not None and len(files) > 1:
        raise click.UsageError("--links belongs to one file: import that one alone.")
    console.interrupted = "interrupted. What was imported so far stays; the same command again adds the rest."
    with console.open_home() as home:
        n = home.conversation(into).n if into is not None else None
        for file in files:
            try:
                report = _import_one(
                    console, home, file, links, hints, format=format_, into=n, dry_run=dry_run
                )
            except (InvalidInput, UserError) as error:
                # One bad file does not keep the others out.
                if len(files) == 1 or type(error).exit_code != UserError.exit_code:
                    raise
                console.note(f"mlog: {error}")
                console.exit_code = console.exit_code or error.exit_code
                continue
            _print_report(console, home, report, dry_run=dry_run)
            console.flush()


def _import_one(
    console: Console, home: Home, file: Path, links: Path | None, hints: Hints, **options: Any
) -> ImportReport:
    from mlog.formats import Source
    from mlog.formats.tree import Folder, open_tree

    label = f"importing {safe(_name_of(file))}"
    with ExitStack() as stack:
        tree = open_tree(file) if str(file) != "-" else None
        if tree is not None:
            stack.callback(tree.close)
            with console.progress(label, unit="messages") as progress:
                return home.import_tree(tree, hints, progress=_counting_tree(progress, tree), **options)
        stream = stack.enter_context(_opened(console, file))
        linked = stack.enter_context(_opened(console, links)) if links is not None else None
        source = Source(
            stream,
            _name_of(file),
            hints=hints,
            # Attachments may lie beside a file; the folder is not listed for that.
            tree=Folder(file.parent) if str(file) != "-" else None,
            path=_name_of(file) if str(file) != "-" else "",
            links=linked,
            links_name=_name_of(links) if links is not None else "links",
        )
        with console.progress(label, unit="messages") as progress:
            return home.import_chat(source, progress=_counting(progress, stream), **options)


def _counting(progress: Progress, stream: BinaryIO) -> Callable[[int], None]:
    """Counts messages, and draws how much of the file is read where its size is known."""
    size = 0
    with suppress(OSError):
        status = os.fstat(stream.fileno())
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0

    def count(messages: int) -> None:
        progress.add(messages)
        if size:
            progress.at(stream.tell() / size)

    return count


def _counting_tree(progress: Progress, tree: OpenTree) -> Callable[[int], None]:
    """Counts messages, and draws how many bytes of the tree were opened."""
    size = 0
    for name in tree.names:
        with suppress(UserError):
            size += tree.size(name)

    def count(messages: int) -> None:
        progress.add(messages)
        if size:
            progress.at(min(1.0, tree.opened_size / size))

    return count


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise UserError(
            f"no time zone {name!r}. Name one as a continent and a city: Europe/Berlin, America/New_York."
        ) from None


def _name_of(file: Path) -> str:
    """What to call a file in messages and in the log, which holds Unicode only."""
    if str(file) == "-":
        return "standard input"
    return os.fsencode(file.name).decode(errors="replace")


@contextmanager
def _opened(console: Console, file: Path) -> Generator[BinaryIO]:
    if str(file) == "-":
        if sys.stdin is None:
            raise UserError("there is no standard input to read.")
        if sys.stdin.isatty():
            console.note("reading from the terminal; end with Ctrl-D (on Windows Ctrl-Z and Enter)")
        yield sys.stdin.buffer
        return
    if file.is_dir():
        raise UserError(f"{file} is a folder; name a file.")
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file or folder.") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    with stream:
        yield stream


def _print_report(console: Console, home: Home, report: ImportReport, *, dry_run: bool) -> None:
    from mlog.cli.lines import Lines

    lines = Lines(home, console)
    if console.json:
        for chat in report.chats:
            console.record("imported", _chat_fields(lines, report, chat, dry_run=dry_run))
        for skipped in report.skipped:
            fields = {
                "file": report.name,
                "part": skipped.file or None,
                "position": skipped.position,
                "reason": skipped.reason,
            }
            console.record("skipped", fields)
        sums = {
            name: sum(getattr(chat, name) for chat in report.chats)
            for name in ("new", "known", "erased", "same", "unsure", *_COUNTS)
        }
        about = {"file": report.name, "format": report.format}
        console.record("import", {**about, **sums, "skipped": report.skipped_count, "dry_run": dry_run})
        return
    console.line(f"{safe(report.name)} ({report.format}){', nothing written' if dry_run else ''}:")
    for chat in report.chats:
        console.line(f"  {console.bold(_chat_title(lines, chat))}: {_counts(chat)}")
        console.line(f"    {_held(chat)}")
        for line in explain_unsure(chat, dry_run=dry_run):
            console.line(f"    {line}")
    if report.skipped_count:
        console.line(f"  {report.skipped_count:,} skipped")
        for skipped in report.skipped[:_SKIPPED_LINES]:
            console.line(f"    {_place(skipped)}{safe(skipped.reason)}")
        if report.skipped_count > _SKIPPED_LINES:
            console.line("    … all of them: --json" if console.unicode else "    ... all of them: --json")


def _place(skipped: Skipped) -> str:
    parts = [safe(skipped.file)] if skipped.file else []
    if skipped.position:
        parts.append(f"line {skipped.position:,}")
    return f"{', '.join(parts)}: " if parts else ""


def _held(chat: ChatReport) -> str:
    """What a chat has in it, in one line."""
    parts = [counted(chat.messages, "message")]
    parts += [counted(chat.events, "event")] if chat.events else []
    parts += [counted(chat.replies, "reply", "replies")] if chat.replies else []
    parts += [counted(chat.people, "person", "people")]
    if chat.attachments or chat.attachments_absent:
        absent = f" and {chat.attachments_absent:,} by name only" if chat.attachments_absent else ""
        parts.append(f"{counted(chat.attachments, 'attachment')}{absent}")
    if chat.last_ms:
        parts.append(f"{iso(chat.first_ms)[:10]} to {iso(chat.last_ms)[:10]}")
    return ", ".join(parts)


def _chat_title(lines: Lines, chat: ChatReport) -> str:
    title = safe(chat.title) if chat.created or not chat.n else lines.title(chat.n)
    return f"{title} (new)" if chat.created else title


def _counts(chat: ChatReport) -> str:
    counts = f"{chat.new:,} new, {chat.known:,} already known"
    if chat.same:
        counts += f", {chat.same:,} of them from another program or person"
    return f"{counts}, {chat.erased:,} of them erased" if chat.erased else counts


def _chat_fields(lines: Lines, report: ImportReport, chat: ChatReport, *, dry_run: bool) -> dict[str, object]:
    place = lines.place(chat.n) if chat.n else {"topic": None, "conversation": chat.title}
    return {
        "file": report.name,
        **place,
        "created": chat.created,
        "new": chat.new,
        "known": chat.known,
        "erased": chat.erased,
        "same": chat.same,
        "unsure": chat.unsure,
        "unsure_at": [unsure_fields(one) for one in chat.unsure_at],
        **{name: getattr(chat, name) for name in _COUNTS},
        "people": chat.people,
        "first": iso_or_none(chat.first_ms),
        "last": iso_or_none(chat.last_ms),
        "dry_run": dry_run,
    }


# -- export ----------------------------------------------------------------------------------


@verb(
    "export",
    """mlog export trip > trip.jsonl
    mlog export trip --format html --output trip.html
    mlog export trip --format mbox --output trip.mbox
    mlog export trip --since 2024-01-01 --format telegram -o trip.json
    mlog export trip -o trip.jsonl --attachments trip-files""",
)
@click.argument("conversation", type=CONVERSATION)
@click.option(
    "--format",
    "format_",
    type=TEXT,
    default="jsonl",
    show_default=True,
    metavar="NAME",
    help="jsonl (complete, and mlog reads it back), html (to read, search and print), markdown, "
    "csv, telegram or mbox.",
)
@click.option("--output", "-o", type=PATH, metavar="FILE", help="Where to; else standard output.")
@click.option("--attachments", type=PATH, metavar="FOLDER", help="Write the files of the messages there.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--since", type=SINCE, metavar="WHEN", help="From this date, time, or so long ago (30d, 12h).")
@click.option("--until", type=UNTIL, metavar="WHEN", help="Up to this time, or the end of this date.")
def export(
    console: Console,
    conversation: str,
    format_: str,
    output: Path | None,
    attachments: Path | None,
    force: bool,
    since: int | None,
    until: int | None,
) -> None:
    """Write a conversation to a file that other programs read.

    The file is written whole or not at all. Exits 4 if something damaged had to be left out. 'mlog import'
    finds the attachments again if their folder still lies beside the file.
    """
    with console.open_home() as home:
        chosen = home.conversation(conversation)
        if output is not None:
            check_free(output, force=force)
        damaged: list[EntryRow] = []
        write_file = _file_writer(console, home, attachments, output)
        pieces = home.export_chat(
            chosen.n,
            format_,
            since_ms=since,
            until_ms=until,
            damaged=damaged.append,
            write_file=write_file,
        )
        if output is None:
            _to_stdout(console, pieces)
        else:
            size = _to_file(console, output, pieces)
            if console.json:
                from mlog.cli.lines import Lines

                place = Lines(home, console).place(chosen.n)
                about = {"file": os.fsencode(output).decode(errors="replace"), **place, "format": format_}
                console.record("exported", {**about, "size": size, "damaged": len(damaged)})
            else:
                console.note(f"wrote {output}: {size:,} bytes")
        _name_damaged(console, damaged)


def _file_writer(
    console: Console, home: Home, folder: Path | None, output: Path | None
) -> Callable[[Attached], str]:
    """Writes attachments to a folder, and says where they lie beside the export."""
    if folder is None:
        return lambda _: ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror or error}") from None
    beside = (output.resolve() if output is not None else folder.resolve()).parent

    def write(attached: Attached) -> str:
        from mlog.api.attachments import safe_name

        target = folder / f"{attached.hash[:16]}-{safe_name(attached.name)}"
        try:
            if not target.is_file():
                home.save(attached, target)
        except (UserError, StoreError) as error:
            console.note(f"left out: {error}")
            return ""
        path = os.path.relpath(target.resolve(), beside).replace(os.sep, "/")
        return "" if path.startswith("../") else os.fsencode(path).decode(errors="replace")

    return write


def check_free(file: Path, *, force: bool) -> None:
    """Refuse to write over what is there, or where there is no folder.

    Raises:
        UserError: It exists, or is no file; its folder does not exist.
    """
    if not file.parent.is_dir():
        raise UserError(f"there is no folder {file.parent}. Make it, or choose another one.")
    if file.is_dir():
        raise UserError(f"{file} is a folder; name a file.")
    if file.exists() and not force:
        raise UserError(f"{file} exists. Choose another name, or replace it with --force.")


def _to_stdout(console: Console, pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        if console.is_terminal:
            # What people wrote must not drive the terminal; a pipe or file gets the exact bytes.
            for line in piece.decode(errors="backslashreplace").splitlines():
                console.line(safe(line))
        else:
            console.write_bytes(piece)


def _to_file(console: Console, file: Path, pieces: Iterator[bytes]) -> int:
    """Write all of it beside the file, then put it in its place."""
    # Through a link, and onto a device, there is nothing to rename.
    file = file.resolve()
    if file.exists() and not file.is_file():
        with _writing(file):
            return _write_all(console, file, "wb", pieces)
    partial = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
    try:
        with _writing(file):
            size = _write_all(console, partial, "xb", pieces)
            partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return size


def _write_all(console: Console, file: Path, mode: str, pieces: Iterator[bytes]) -> int:
    size = 0
    with file.open(mode) as stream, console.progress("exporting", unit="bytes") as progress:
        for piece in pieces:
            size += stream.write(piece)
            progress.add(len(piece))
        stream.flush()
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            os.fsync(stream.fileno())
    return size


@contextmanager
def _writing(file: Path) -> Generator[None]:
    from mlog.adapters.disk import disk_advice

    try:
        yield
    except OSError as error:
        raise StoreError(f"{file} was not written: {disk_advice(error)}") from None


def _name_damaged(console: Console, damaged: list[EntryRow]) -> None:
    if not damaged:
        return
    for row in damaged[:_DAMAGED_LINES]:
        console.note(f"left out, damaged: position {row.seq}, {row.id.hex()[:8]}")
    console.note(f"mlog: {len(damaged):,} damaged entries are not in the export; 'mlog verify' names them.")
    console.exit_code = 4
