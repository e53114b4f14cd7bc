"""JSON that no program writes, and damage to files: what every importer of JSON chats must survive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hypothesis import strategies as st

from mlog.errors import InvalidInput
from mlog.formats import Item, Record, importer

__all__ = ["broken", "read_all", "survives", "values"]


def values(fields: str, *words: str) -> st.SearchStrategy[Any]:
    """Any JSON values, in objects with these fields.

    Args:
        fields: Their names, with spaces between.
        words: Texts that mean something to the importer.
    """
    texts = st.text(max_size=6) | st.sampled_from(words) if words else st.text(max_size=6)
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(1 - 2**63, 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts
    )
    names = st.sampled_from(fields.split())
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
        max_leaves=30,
    )


def read_all(items: Iterable[Item]) -> list[Item]:
    """The items of an importer; all that they say can be written."""
    found = list(items)
    for item in found:
        if isinstance(item, Record):
            (item.text + item.author + item.uid).encode()
    return found


def broken(data: bytes, at: int, damage: bytes) -> Iterator[bytes]:
    """A file with a byte replaced by others, and the same file cut there."""
    yield data[:at] + damage + data[at + 1 :]
    yield data[:at]


def survives(
    name: str, read: Callable[[bytes], Iterable[Item]], data: bytes, at: int, damage: bytes, source: str
) -> None:
    """An importer reads a file, and gives items or a documented error for the same file with damage."""
    read_all(read(data))
    for one in broken(data, at, damage):
        importer(name).sniff(one, "x")
        try:
            read_all(read(one))
        except InvalidInput as error:
            assert error.source == source  # noqa: PT017 -- either is right
