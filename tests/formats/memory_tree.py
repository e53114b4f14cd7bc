"""A tree in memory, for importers of folders and archives."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import BinaryIO

__all__ = ["MemoryTree"]


class MemoryTree:
    """Paths and their bytes."""

    def __init__(self, files: Mapping[str, bytes], name: str = "export") -> None:
        self.name = name
        self._files = dict(files)
        self.names = sorted(self._files)

    def size(self, name: str) -> int:
        return len(self._files[name])

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._files[name])
