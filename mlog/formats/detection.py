"""Which importer reads which files of a folder or archive, told by their content.

Each importer of trees is asked what it claims. What nobody claims, and is no attachment of what was
claimed, is sniffed file by file, as if each had been named by itself.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Final

import msgspec

from mlog.errors import UserError
from mlog.formats import IMPORTERS, TREE_IMPORTERS, Importer, TreeImporter, sniffed
from mlog.formats.source import Source
from mlog.formats.tree import Tree
from mlog.formats.unread import advice

__all__ = ["Claimed", "claims", "sniff_files"]

_NUMBERED: Final = re.compile(r"(\D*)(\d{0,18})")
_MEDIA: Final = ("image/", "video/", "audio/", "font/")


class Claimed(msgspec.Struct, frozen=True):
    """Files of a tree that one importer reads together."""

    importer: TreeImporter
    names: Sequence[str]


def claims(tree: Tree, format_name: str | None = None) -> list[Claimed]:
    """What the importers of trees read of a tree; no file twice.

    Args:
        format_name: Only this one; None for all of them.
    """
    found: list[Claimed] = []
    taken: set[str] = set()
    for candidate in TREE_IMPORTERS:
        if format_name in (None, candidate.name):
            names = [name for name in candidate.claim(tree) if name not in taken]
            if names:
                taken.update(names)
                found.append(Claimed(candidate, names))
    return found


def sniff_files(
    tree: Tree, without: Collection[str], format_name: str | None = None
) -> tuple[list[tuple[Importer, str]], list[tuple[str, str]]]:
    """The files that are read one by one, and those that no importer knows, with the reason.

    Those that are hardest to mistake come first: what they name as an attachment is then no chat of its own.

    Args:
        without: Files that are read already.
        format_name: Only this format, which may be hard to tell; None for all.
    """
    order = {known.name: at for at, known in enumerate(IMPORTERS)}
    found: list[tuple[Importer, str]] = []
    unknown: list[tuple[str, str]] = []
    for name in tree.names:
        if name in without:
            continue
        try:
            chosen, says = (None, "") if _is_media(name) else _sniff(tree, name)
        except UserError as error:
            unknown.append((name, str(error)))
            continue
        if chosen is None or format_name not in (None, chosen.name):
            unknown.append((name, says or "in no format that mlog knows, and no message names it"))
        else:
            found.append((chosen, name))
    found.sort(key=lambda pair: (order[pair[0].name], _natural(pair[1])))
    return found, unknown


def _sniff(tree: Tree, name: str) -> tuple[Importer | None, str]:
    """The importer of a file; where there is none, what is known of the file."""
    short = name.rpartition("/")[2]
    with closing(tree.open(name)) as stream:
        head = Source(stream, short).head()
    chosen = sniffed(head, short)
    says = advice(head, short) if chosen is None else ""
    return chosen, f"not read: {says}" if says else ""


def _natural(name: str) -> tuple[tuple[str, int], ...]:
    """Parts of a chat in their order: "tea [part 10]" comes after "tea [part 9]"."""
    return tuple((words, int(digits or 0)) for words, digits in _NUMBERED.findall(name))


def _is_media(name: str) -> bool:
    kind = mimetypes.guess_type(name, strict=False)[0]
    return kind is not None and kind.startswith(_MEDIA)
