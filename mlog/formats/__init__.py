"""Import from and export to other programs' files.

An importer turns a `Source` into a stream of `Item`s, an exporter turns `ExportRecord`s into bytes;
both work in bounded memory and know nothing of entries, stores or keys. A further format
joins by a module and a line in `IMPORTERS`, `TREE_IMPORTERS` or `EXPORTERS` below; modules are loaded
when they are first asked, so that starting mlog costs nothing for formats that are not used.

| name            | what                                       | read by            | written by         |
|-----------------|--------------------------------------------|--------------------|--------------------|
| mlog            | mlog's own JSON lines (written as "jsonl") | jsonl.py           | jsonl.py           |
| telegram        | Telegram Desktop's result.json             | telegram.py        | telegram_export.py |
| matrix          | Element's "Export chat" as JSON            | matrix.py          |                    |
| matrix-export   | a Synapse server's export of an account    | matrix.py          |                    |
| discord         | DiscordChatExporter's JSON                 | discord.py         |                    |
| discord-package | what Discord itself hands out              | discord_package.py |                    |
| slack           | Slack's export                             | slack.py           |                    |
| meta            | Messenger's and Instagram's JSON           | meta.py            |                    |
| meta-export     | the same, all files of each thread         | meta.py            |                    |
| google-chat     | Google Chat's Takeout                      | google_chat.py     |                    |
| signal          | sigexport, signalbackup-tools              | signal_export.py   |                    |
| signal-pages    | signalbackup-tools' pages                  | signal_pages.py    |                    |
| google-voice    | Google Voice's Takeout                     | google_voice.py    |                    |
| sms             | SMS Backup & Restore                       | sms.py             |                    |
| whatsapp        | WhatsApp's "Export chat"                   | whatsapp.py        |                    |
| maildir         | folders of mails                           | maildir.py         |                    |
| mbox            | mailboxes                                  | mail.py            | mbox_export.py     |
| eml             | single mails, and folders of them          | mail.py            |                    |
| irc             | IRC logs, with reply annotations           | irc.py             |                    |
| markdown        | notes, wikis                               |                    | markdown.py        |
| csv             | tables                                     |                    | csv_export.py      |
| html            | one page to read, search and print         |                    | html_export.py     |
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol, cast

from mlog.errors import UserError
from mlog.formats.record import Chat, ExportRecord, File, Item, Provenance, Record, Skipped
from mlog.formats.source import Hints, Source
from mlog.formats.tree import Tree
from mlog.formats.unread import advice

__all__ = [
    "EXPORTERS",
    "GATHERERS",
    "IMPORTERS",
    "TREE_IMPORTERS",
    "Chat",
    "ExportRecord",
    "Exporter",
    "File",
    "Gatherer",
    "Hints",
    "Importer",
    "Item",
    "Provenance",
    "Record",
    "Skipped",
    "Source",
    "Tree",
    "TreeImporter",
    "detect",
    "exporter",
    "importer",
    "sniffed",
]


class Importer(Protocol):
    """Reads one format."""

    @property
    def name(self) -> str:
        """What `--format` calls it."""
        ...

    def sniff(self, head: bytes, name: str, /) -> bool:
        """Whether a file is of this format.

        Args:
            head: Its first SNIFF_SIZE_BYTES.
            name: Its name; content decides where it can.
        """
        ...

    def parse(self, source: Source) -> Iterator[Item]:
        """Everything in the file, in its order; what was read before an error stays valid.

        Raises:
            InvalidInput: The file is not of this format from some position on.
            LimitExceeded: Something in it is larger than `mlog.limits` allows.
            UserError: It cannot be read.
            StoreError: There is no room for temporary data.
        """
        ...


class TreeImporter(Protocol):
    """Reads a format whose chats are spread over several files of a folder or archive."""

    @property
    def name(self) -> str:
        """What `--format` calls it."""
        ...

    def claim(self, tree: Tree, /) -> Sequence[str]:
        """Which files of a tree it reads, attachments left out; none if the format is another one."""
        ...

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints, /) -> Iterator[Item]:
        """Everything in these files, chat by chat; errors as of `Importer.parse`.

        One bad file does not end it: what is wrong with it is yielded as `Skipped`.
        """
        ...


class Gatherer(Protocol):
    """Reads together all files of a tree that were told one by one to be of its format."""

    @property
    def name(self) -> str:
        """That of the `Importer` that tells them, and reads one that is imported by itself."""
        ...

    def parse(self, tree: Tree, names: Sequence[str], hints: Hints, /) -> Iterator[Item]:
        """As `TreeImporter.parse`."""
        ...


class Exporter(Protocol):
    """Writes one format."""

    @property
    def name(self) -> str:
        """What `--format` calls it."""
        ...

    def export(self, chat: Chat, records: Iterable[ExportRecord]) -> Iterator[bytes]:
        """The bytes of one conversation, in pieces."""
        ...


class _Late:
    """An importer or exporter whose module is loaded when it is first used."""

    def __init__(self, name: str, module: str, class_name: str) -> None:
        self.name = name
        self._module = module
        self._class_name = class_name

    def _load(self) -> object:
        return getattr(importlib.import_module(f"mlog.formats.{self._module}"), self._class_name)()


class _LateImporter(_Late):
    def sniff(self, head: bytes, name: str) -> bool:
        return cast(Importer, self._load()).sniff(head, name)

    def parse(self, source: Source) -> Iterator[Item]:
        return cast(Importer, self._load()).parse(source)


class _LateTreeImporter(_Late):
    def claim(self, tree: Tree) -> Sequence[str]:
        return cast(TreeImporter, self._load()).claim(tree)

    def parse(self, tree: Tree, claimed: Sequence[str], hints: Hints) -> Iterator[Item]:
        return cast(TreeImporter, self._load()).parse(tree, claimed, hints)


class _LateGatherer(_Late):
    def parse(self, tree: Tree, names: Sequence[str], hints: Hints) -> Iterator[Item]:
        return cast(Gatherer, self._load()).parse(tree, names, hints)


class _LateExporter(_Late):
    def export(self, chat: Chat, records: Iterable[ExportRecord]) -> Iterator[bytes]:
        return cast(Exporter, self._load()).export(chat, records)


IMPORTERS: Final[tuple[Importer, ...]] = (
    _LateImporter("mlog", "jsonl", "JsonLinesImporter"),
    _LateImporter("telegram", "telegram", "TelegramImporter"),
    _LateImporter("matrix", "matrix", "MatrixImporter"),
    _LateImporter("discord", "discord", "DiscordImporter"),
    _LateImporter("meta", "meta", "MetaImporter"),
    _LateImporter("google-chat", "google_chat", "GoogleChatImporter"),
    _LateImporter("signal", "signal_export", "SignalImporter"),
    _LateImporter("google-voice", "google_voice", "GoogleVoiceImporter"),
    _LateImporter("sms", "sms", "SmsImporter"),
    _LateImporter("whatsapp", "whatsapp", "WhatsAppImporter"),
    _LateImporter("mbox", "mail", "MboxImporter"),
    _LateImporter("eml", "mail", "EmlImporter"),
    _LateImporter("irc", "irc", "IrcImporter"),
)
"""In the order in which they are asked: the one that is easiest to mistake for comes last."""

TREE_IMPORTERS: Final[tuple[TreeImporter, ...]] = (
    _LateTreeImporter("slack", "slack", "SlackImporter"),
    _LateTreeImporter("discord-package", "discord_package", "DiscordPackageImporter"),
    _LateTreeImporter("matrix-export", "matrix", "MatrixTreeImporter"),
    _LateTreeImporter("meta-export", "meta", "MetaTreeImporter"),
    _LateTreeImporter("google-chat", "google_chat", "GoogleChatTreeImporter"),
    _LateTreeImporter("maildir", "maildir", "MaildirImporter"),
    _LateTreeImporter("signal-pages", "signal_pages", "SignalPagesImporter"),
    _LateTreeImporter("google-voice", "google_voice", "GoogleVoiceTreeImporter"),
)
"""In the order in which they are asked; each claims what those before it left."""

GATHERERS: Final[tuple[Gatherer, ...]] = (_LateGatherer("eml", "mail_folder", "MailFolderImporter"),)
"""Formats of single files that become few chats where a tree has many of them."""

EXPORTERS: Final[tuple[Exporter, ...]] = (
    _LateExporter("jsonl", "jsonl", "JsonLinesExporter"),
    _LateExporter("telegram", "telegram_export", "TelegramExporter"),
    _LateExporter("mbox", "mbox_export", "MboxExporter"),
    _LateExporter("markdown", "markdown", "MarkdownExporter"),
    _LateExporter("csv", "csv_export", "CsvExporter"),
    _LateExporter("html", "html_export", "HtmlExporter"),
)


def detect(head: bytes, name: str) -> Importer:
    """The importer for a file.

    Args:
        head: Its first SNIFF_SIZE_BYTES; `Source.head` gives them.
        name: What to call it in the message.

    Raises:
        UserError: None of them knows it.
    """
    found = sniffed(head, name)
    if found is not None:
        return found
    if says := advice(head, name):
        raise UserError(f"{name} is not read: {says}.")
    if not head.strip():
        raise UserError(f"{name} is empty: there is nothing in it to import.")
    raise UserError(
        f"{name} is in no format that mlog knows. Known are: {_names(IMPORTERS)}. Say which with --format."
    )


def sniffed(head: bytes, name: str) -> Importer | None:
    """As `detect`; None where none of them knows the file."""
    return next((candidate for candidate in IMPORTERS if candidate.sniff(head, name)), None)


def importer(name: str) -> Importer:
    """The importer of single files of this name.

    Raises:
        UserError: There is none.
    """
    for candidate in IMPORTERS:
        if candidate.name == name:
            return candidate
    known = _names((*IMPORTERS, *TREE_IMPORTERS))
    if any(candidate.name == name for candidate in TREE_IMPORTERS):
        raise UserError(
            f"{name} is read from a folder or an archive: name the whole export, not a file of it."
        )
    raise UserError(f"no format {name!r} to import. Known are: {known}.")


def exporter(name: str) -> Exporter:
    """The exporter of this name.

    Raises:
        UserError: There is none.
    """
    for candidate in EXPORTERS:
        if candidate.name == name:
            return candidate
    raise UserError(f"no format {name!r} to export to. Known are: {_names(EXPORTERS)}.")


def _names(formats: Iterable[Importer | TreeImporter | Exporter]) -> str:
    return ", ".join(known.name for known in formats)
