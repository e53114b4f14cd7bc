"""What an export is made of: the files of a folder or of an archive, read where they lie.

Names are relative, with "/" between folders, as the export has them; they choose nothing on this
machine's disk but a file inside the tree. A tree is read in bounded memory; nothing is unpacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Protocol

__all__ = ["Tree"]


class Tree(Protocol):
    """A folder or an archive that is being imported."""

    @property
    def name(self) -> str:
        """What to call it in messages: the last part of its path."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """All files in it, sorted; at most TREE_FILES_MAX."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file in it."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file in it, to be read once from its start; the caller closes it.

        Raises:
            UserError: It cannot be read.
        """
        ...
