"""Bytes come through unchanged but for marks and line ends, and never more than the bound at once."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.errors import LimitExceeded, UserError
from mlog.formats.source import Source
from mlog.limits import LINE_SIZE_MAX_BYTES, MIB, SNIFF_SIZE_BYTES


class _Trickle(io.BytesIO):
    """A stream that gives what it has, as a pipe does, and counts it."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__()
        self.taken = 0
        self._data = data
        self._step = step

    def read1(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        part = self._data[self.taken : self.taken + min(size, self._step)]
        self.taken += len(part)
        return part


def lines_of(data: bytes) -> list[bytes]:
    return [line for _, line in Source(io.BytesIO(data), "x").lines()]


@given(st.binary(max_size=300), st.integers(1, 40), st.booleans())
def test_lines_are_those_of_the_bytes_however_they_arrive(data: bytes, step: int, peek: bool):
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return
    source = Source(_Trickle(data, step), "x")
    if peek:
        assert source.head() == data[:SNIFF_SIZE_BYTES]
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    lines = list(source.lines())
    assert [number for number, _ in lines] == list(range(1, len(expected) + 1))
    assert [line for _, line in lines] == [line.removesuffix(b"\r") for line in expected]


@given(st.text(max_size=200), st.sampled_from(["utf-8-sig", "utf-16"]), st.integers(1, 9))
def test_byte_order_mark_is_removed_and_utf16_becomes_utf8(text: str, encoding: str, step: int):
    source = Source(_Trickle(text.encode(encoding), step), "x")
    assert b"".join(iter(lambda: source.read(7), b"")) == text.encode()


def test_broken_utf16_is_mended():
    assert lines_of("a\n".encode("utf-16") + b"\x00\xd8" + b"x") == [b"a", "\ufffd".encode()]


def test_line_as_long_as_the_bound_is_read():
    line = b"x" * LINE_SIZE_MAX_BYTES
    assert lines_of(line + b"\r\n" + line + b"\n" + line) == [line] * 3


def test_longer_line_is_refused_after_reading_no_more_than_the_bound():
    stream = _Trickle(b"short\n" + b"x" * (4 * MIB), 1 << 16)
    with pytest.raises(LimitExceeded, match=r"^x:2: line longer than 1,048,576 bytes") as caught:
        list(Source(stream, "x").lines())
    assert caught.value.position == 2
    assert stream.taken <= LINE_SIZE_MAX_BYTES + (1 << 16)


def test_pipe_gives_lines_as_they_come():
    reading, writing = os.pipe()
    with open(reading, "rb") as stream:
        lines = Source(stream, "x").lines()
        os.write(writing, b"one\ntw")
        assert next(lines) == (1, b"one")
        os.write(writing, b"o\n")
        assert next(lines) == (2, b"two")
        os.close(writing)
        assert list(lines) == []


def test_unreadable_file_is_a_clear_error():
    class Broken(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(UserError, match=r"^x: cannot be read: Input/output error"):
        list(Source(Broken(), "x").lines())
