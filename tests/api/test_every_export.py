"""Every chat file of the corpus: imported into a home and counted, and damaged in many ways.

The counts are made from the files' own bytes, independently of the importers. What each format
makes of single messages: tests/formats.
"""

from __future__ import annotations

import json
import mailbox
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import mlog
from mlog.api.importing import ImportReport
from mlog.errors import InvalidInput, UserError
from mlog.formats import Hints, Source
from mlog.formats.tree import Folder, ZipArchive, open_tree

pytestmark = pytest.mark.corpus

_STAMP = re.compile(
    rb"^(?:\xe2\x80\x8e)?(?:\[\d+/\d+/\d+,? \d+:\d\d[^\]]*\] |\d+/\d+/\d+, \d+:\d\d[^-]{0,8} - )",
    re.MULTILINE,
)
_NO_CHATS = re.compile(r"\.annotation\.txt$|README|/group_info\.json$")


def _lines(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))


def _stamps(path: Path) -> int:
    return len(_STAMP.findall(path.read_bytes()))


def _mails(path: Path) -> int:
    box = mailbox.mbox(path, create=False)
    try:
        return len(box)
    finally:
        box.close()


def _rows(path: Path) -> int:
    whole = json.loads(path.read_bytes())
    chats = whole["chats"]["list"] if "chats" in whole else [whole]
    return sum(len(chat["messages"]) for chat in chats)


def _slack_rows(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        days = [name for name in archive.namelist() if re.search(r"[^/]/\d{4}-\d\d-\d\d\.json$", name)]
        return sum(len(json.loads(archive.read(name))) for name in days)


class Files(NamedTuple):
    """Files of one format, and how many messages and events one of them has."""

    pattern: str
    format: str
    counted: Callable[[Path], int]
    date_order: str = ""
    format_name: str | None = None


FILES = [
    Files("irc-linux/*.raw.txt", "irc", _lines),
    Files("irc-new-domains/*.ascii.txt", "irc", _lines),
    Files("exports/whatsapp/*.txt", "whatsapp", _stamps),
    Files("derived/whatsapp/*.android.txt", "whatsapp", _stamps),
    Files("derived/whatsapp/*.ios.txt", "whatsapp", _stamps, date_order="mdy"),
    Files("exports/telegram/*.json", "telegram", _rows),
    Files("derived/telegram/*.json", "telegram", _rows),
    Files("exports/signal/*.txt", "signal", lambda path: len(re.findall(rb"(?m)^\[\d", path.read_bytes()))),
    Files("derived/signal/*.json", "signal", _lines),
    Files("exports/facebook/*.json", "meta", _rows),
    Files("exports/instagram/*.json", "meta", _rows),
    Files("exports/discord/*.json", "discord", _rows),
    Files("exports/google-chat/*/messages.json", "google-chat", _rows),
    Files(
        "exports/google-voice/*.html",
        "google-voice",
        lambda path: path.read_bytes().count(b'<div class="message">'),
    ),
    Files("exports/slack/*.zip", "slack", _slack_rows),
    Files("exports/mbox/*.mbox", "mbox", _mails),
    Files("derived/mbox/*.mbox", "mbox", _mails),
    Files("exports/mbox/*.eml", "eml", lambda _: 1),
    # One of them says of itself that it is no mail: it is read when the format is named.
    Files("exports/mime/*.raw", "eml", lambda _: 1, format_name="eml"),
]


_UBUNTU = Files("irc-ubuntu/*/*.raw.txt", "irc", _lines)
"""A hundred long logs."""

each_of_files = pytest.mark.parametrize(
    "files", [*FILES, pytest.param(_UBUNTU, marks=pytest.mark.slow)], ids=lambda files: files.pattern
)


def _import(home: mlog.Home, path: Path, files: Files, *, dry_run: bool = False) -> ImportReport:
    hints = Hints(date_order=files.date_order)
    options: dict[str, Any] = {"format": files.format_name, "dry_run": dry_run}
    tree = open_tree(path)
    if tree is not None:
        try:
            return home.import_tree(tree, hints, **options)
        finally:
            if isinstance(tree, ZipArchive):
                tree.close()
    with path.open("rb") as stream:
        source = Source(stream, path.name, hints=hints, tree=Folder(path.parent), path=path.name)
        return home.import_chat(source, **options)


def test_every_chat_file_is_counted_here(corpus: Path) -> None:
    found = {path for files in (*FILES, _UBUNTU) for path in corpus.glob(files.pattern)}
    chats = {
        path
        for top in ("exports", "derived", "irc-*")
        for path in corpus.glob(f"{top}/**/*")
        if path.is_file() and _NO_CHATS.search(path.as_posix()) is None
    }
    assert chats == found
    assert len(chats) >= 190


@each_of_files
def test_every_message_of_a_file_is_kept(files: Files, corpus: Path, tmp_path: Path) -> None:
    paths = sorted(corpus.glob(files.pattern))
    assert paths
    with mlog.open(tmp_path / "home") as home:
        for path in paths:
            report = _import(home, path, files)
            counted = files.counted(path)
            assert report.format == files.format, path
            assert sum(chat.messages + chat.events for chat in report.chats) == counted > 0, path
            # An archive may hold files that are no chats; then they are named.
            assert report.skipped_count == 0 or (path.suffix == ".zip" and report.skipped[0].file), path
            again = _import(home, path, files)
            assert not any(chat.new for chat in again.chats), path
        assert home.verify() == []


def test_a_folder_of_single_mails_is_one_conversation(corpus: Path, tmp_path: Path) -> None:
    mails = sorted(corpus.glob("exports/mime/*.raw"))
    with mlog.open(tmp_path / "home") as home:
        first = home.import_tree(Folder(corpus / "exports" / "mime"), Hints())
        again = home.import_tree(Folder(corpus / "exports" / "mime"), Hints())
        assert first.format == "eml"
        assert [chat.title for chat in first.chats] == ["mime"]
        read = sum(chat.new + chat.known for chat in first.chats)
        assert read + len({skipped.file for skipped in first.skipped}) == len(mails)
        assert not any(chat.new for chat in again.chats)


# -- damage ----------------------------------------------------------------------------------


def _damaged(raw: bytes, seed: int) -> Iterator[bytes]:
    """A file cut short, with bytes that are others, are missing, stand twice, or come from elsewhere."""
    draw = random.Random(seed)
    for _ in range(4):
        yield raw[: draw.randrange(len(raw))]
        at, size = draw.randrange(len(raw)), draw.choice((1, 1, 1, 40, 3000))
        yield raw[:at] + draw.randbytes(size) + raw[at + size :]
        yield raw[:at] + raw[at + size :]
        yield raw[:at] + raw[max(0, at - size) :]
        yield (
            raw[:at]
            + draw.choice((b"\0", b'"', b"{", b"]", b"<", b"\n", b"\xff", b"\r", b"&#")) * size
            + raw[at:]
        )


@each_of_files
def test_a_damaged_file_gives_a_report_or_an_error_that_says_where(
    files: Files, corpus: Path, tmp_path: Path
) -> None:
    with mlog.open(tmp_path / "home") as home:
        for number, original in enumerate(sorted(corpus.glob(files.pattern))):
            raw = original.read_bytes()
            # Of a long text file its beginning does.
            raw = raw if original.suffix == ".zip" else raw[:40_000]
            path = tmp_path / original.name
            for seed, damaged in enumerate(_damaged(raw, number)):
                path.write_bytes(damaged)
                told = _told(home, path, files)
                which = (original.name, seed, told)
                if isinstance(told, InvalidInput):
                    assert told.position, which
                elif isinstance(told, UserError):
                    # Nothing is left by which the format, or the order of its dates, could be told.
                    assert path.name in str(told), which
                else:
                    assert told.chats or told.skipped, which


def _told(home: mlog.Home, path: Path, files: Files) -> ImportReport | InvalidInput | UserError:
    try:
        return _import(home, path, files, dry_run=True)
    except (InvalidInput, UserError) as error:
        return error
