"""A tree in memory, and the damage that tests do to its files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import BinaryIO


class MemoryTree:
    """A folder whose files are given."""

    def __init__(self, files: Mapping[str, bytes], name: str = "export") -> None:
        self.name = name
        self.files = dict(files)
        self.names = sorted(files)

    def size(self, name: str) -> int:
        return len(self.files[name])

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.files[name])
