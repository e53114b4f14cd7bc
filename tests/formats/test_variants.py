"""What changes nothing in any format, and what damage does to real files of each.

Fields in another order, a byte-order mark, CRLF and UTF-16 give the same items; a cut or damaged file gives
what came before, or a documented error with its place.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from mlog.errors import InvalidInput, LimitExceeded, MlogError, UserError
from mlog.formats import Hints, Item, Record, Source, sniffed
from mlog.limits import SNIFF_SIZE_BYTES
from mlog.log.bodies import Kind

from .test_formats import SAMPLES

_SIZE_MAX_BYTES = 60_000
"""Of a large file the first part: damage behaves the same further on."""

_CHANGES_PER_FILE = 6
_HINTS = Hints(date_order="dmy")


def read(data: bytes, name: str) -> list[Item]:
    chosen = sniffed(data[:SNIFF_SIZE_BYTES], name)
    return [] if chosen is None else list(chosen.parse(Source(io.BytesIO(data), name)))


def turned(value: Any) -> Any:
    """The same value with all fields in the other order."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {name: turned(one) for name, one in reversed(fields.items())}
    return [turned(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def as_json(data: bytes) -> bytes | None:
    """A JSON document, or lines of them, with its fields turned round; None for other files."""
    try:
        return json.dumps(turned(json.loads(data))).encode()
    except ValueError:
        pass
    try:
        lines = [json.dumps(turned(json.loads(line))).encode() + b"\n" for line in data.split(b"\n") if line]
    except ValueError:
        return None
    return b"".join(lines)


def with_crlf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


VARIANTS: dict[str, Callable[[bytes], bytes | None]] = {
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "line ends": with_crlf,
    "mark and line ends": lambda data: b"\xef\xbb\xbf" + with_crlf(data),
    "order of fields": as_json,
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SAMPLES)
def test_what_an_editor_or_another_version_changes_changes_nothing(name: str, variant: str):
    data = SAMPLES[name]
    changed = VARIANTS[variant](data)
    if changed is not None:
        found = sniffed(changed, "x")
        assert found is not None
        assert found.name == name
        assert read(changed, "x") == read(data, "x")


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("mbox", "eml")])
def test_utf_16_is_read_as_utf_8(name: str):
    data = SAMPLES[name]
    assert read(data.decode().encode("utf-16"), "x") == read(data, "x")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_that_is_cut_anywhere_gives_items_or_its_place(name: str):
    data = SAMPLES[name]
    for end in range(len(data)):
        documented(data[:end], name)


def documented(data: bytes, name: str) -> list[Item]:
    """The items of a file until an error, which must be one that a person understands."""
    chosen = sniffed(data[:SNIFF_SIZE_BYTES], name)
    items: list[Item] = []
    if chosen is None:
        return items
    try:
        for item in chosen.parse(Source(io.BytesIO(data), name, hints=_HINTS)):
            items.append(item)
            if isinstance(item, Record):
                (item.text + item.author + item.uid).encode()
    except (InvalidInput, LimitExceeded) as error:
        assert error.source == name  # noqa: PT017 -- either is right
        assert str(error).startswith(f"{name}:")  # noqa: PT017
    except UserError as error:
        assert str(error)  # noqa: PT017
    return items


def damaged(data: bytes, seed: random.Random) -> Iterator[bytes]:
    for _ in range(_CHANGES_PER_FILE):
        at = seed.randrange(len(data))
        yield data[:at]
        raw = bytearray(data)
        for _ in range(seed.randrange(1, 6)):
            raw[seed.randrange(len(raw))] = seed.randrange(256)
        yield bytes(raw)
        length = seed.randrange(1, 200)
        yield data[:at] + data[at + length :]
        yield data[:at] + seed.randbytes(length) + data[at:]


def chat_files(corpus: Path) -> Iterator[tuple[Path, bytes]]:
    """Every single file that is a chat: archives are read as trees, annotations are none."""
    for folder in ("exports", "derived", "irc-ubuntu/dev", "irc-linux", "irc-new-domains"):
        for path in sorted((corpus / folder).rglob("*.*")):
            if path.is_file() and "annotation" not in path.name and path.suffix != ".zip":
                yield path, path.read_bytes()


@pytest.mark.corpus
def test_variants_of_real_files_are_the_same_messages(corpus: Path):
    count = 0
    for path, data in chat_files(corpus):
        if sniffed(data[:SNIFF_SIZE_BYTES], path.name) is None:
            continue
        try:
            expected = read(data, path.name)
        except MlogError:
            continue  # Days and months of this one are asked for, or it is broken on purpose.
        is_mail = any(part in path.parts for part in ("mbox", "mime"))
        for variant, change in VARIANTS.items():
            # A mail's bytes are its identity where it has no other, and its parts are what they are.
            if is_mail and "line ends" in variant:
                continue
            changed = change(data)
            if changed is not None:
                count += 1
                assert read(changed, path.name) == expected, (path, variant)
    assert count > 60


@pytest.mark.corpus
def test_damaged_real_files_give_items_or_a_documented_error(corpus: Path):
    seed = random.Random(20)
    kept = 0
    for path, data in chat_files(corpus):
        for broken in damaged(data[:_SIZE_MAX_BYTES], seed) if data else ():
            kept += any(
                isinstance(item, Record) and item.kind is not Kind.EVENT
                for item in documented(broken, path.name)
            )
    assert kept > 300
