"""Files that an export names beside itself: found in the tree that is read, by folder and name.

Programs write a name into the text and another one on the disk: composed differently (macOS), with
"?" and the like replaced, without its ending. What is found is a path inside the tree, never
one on this machine.
"""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from bisect import bisect_left
from typing import Final

from mlog.formats.record import File
from mlog.formats.texts import clip
from mlog.formats.tree import Tree

__all__ = ["Beside", "file_type", "folder_of"]

_FORBIDDEN: Final = re.compile(r'[?*:"<>|&=%\\#]')
"""What one or another system does not allow in names; archives have "_" there."""

_TYPES: Final = mimetypes.MimeTypes()
"""The table of the standard library only, so that all machines say the same."""

_MORE_TYPES: Final = {
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".opus": "audio/opus",
    ".ogg": "audio/ogg",
    ".vcf": "text/vcard",
}


def file_type(name: str) -> str:
    """MIME type by the ending of a name, or ""."""
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    return _MORE_TYPES.get(ending) or _TYPES.guess_type(f"x{ending}", strict=False)[0] or ""


def folder_of(path: str) -> str:
    """The folder of a path in a tree, with its "/" at the end; "" for the top."""
    return path[: path.rfind("/") + 1]


class Beside:
    """The files in and below one folder of a tree.

    Args:
        tree: None where a file is read by itself: nothing is found then.
        folder: As of `folder_of`.
    """

    def __init__(self, tree: Tree | None, folder: str) -> None:
        self._tree = tree
        self._folder = folder
        self._paths: dict[str, str] = {}
        self._stems: dict[str, str] = {}
        names = tree.names if tree is not None else ()
        for at in range(bisect_left(names, folder), len(names)):  # Names are sorted.
            path = names[at]
            if not path.startswith(folder):
                break
            known = _known(path[len(folder) :])
            self._paths.setdefault(known, path)
            self._stems.setdefault(known[: known.rfind(".")] if "." in known else known, path)

    def find(self, name: str) -> str:
        """Path in the tree of a file that is called so in the export, or ""."""
        return self._paths.get(_known(name), "")

    def find_stem(self, stem: str) -> str:
        """As `find`, by the name without its ending."""
        return self.find(stem) or self._stems.get(_known(stem), "")

    def file(self, name: str, path: str, media_type: str = "") -> File:
        """The attachment at a path that was found, or only its name where `path` is ""."""
        size = self._tree.size(path) if self._tree is not None and path else 0
        name = clip(name[max(name.rfind("/"), name.rfind("\\")) + 1 :] or name)
        return File(name=name, type=media_type or file_type(path or name), path=path, size=size)


def _known(name: str) -> str:
    """A name as it is compared."""
    name = name.removeprefix("./")
    return _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name)).casefold()
