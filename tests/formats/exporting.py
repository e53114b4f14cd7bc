"""What the tests of exporters share: records, and hostile ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from mlog.formats import Chat, ExportRecord, Record, exporter
from mlog.log.bodies import Kind
from mlog.log.ids import MessageId

START_MS = 1_714_557_600_000
"""Wednesday, 1 May 2024, 10:00 UTC."""

HOSTILE = (
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 1</script>",
    "</style><img src=x onerror='window.ran = 1'>",
    '"><svg onload="window.ran = 1">',
    "' onmouseover='window.ran = 1",
    "<!-- ", "--> ", "]]>", "&lt;b&gt; &amp &#60;", "javascript:window.ran=1",
    "<iframe src=//example.invalid>", "a\u2028b\u2029c", "nul\0here",
    "\u202egnp.exe\u202c", "\u2066\u2067unclosed", "\u0007\u001b[31m",
    "\ufeff", "=cmd|' /C calc'!A0", "@SUM(1)", "\t=1+1", "'quoted", 'a "b", c', "a\r\nb\rc\n", "x" * 5_000,
    "# no heading", "- no list", "1. no list", "> no quote", "```\nno code", "    no code", "<b>no tag</b>",
    "[no](link)", "![no](image)", "a\\", "a  \nb", "***", "| a | b |", "~~~", "&nbsp;", "+ x", "=====", "$a$",
)  # fmt: skip


def mid(number: int) -> MessageId:
    return MessageId(number.to_bytes(16))


def record(number: int, text: str = "", author: str = "Ann", **fields: Any) -> ExportRecord:
    """A message a minute after the one before it; fields of ExportRecord and of Record."""
    own = {name: fields.pop(name) for name in ("source", "current", "absent") if name in fields}
    fields = {"kind": Kind.MESSAGE, "time_ms": START_MS + number * 60_000, "position": 0} | fields
    return ExportRecord(record=Record(mid=mid(number), author=author, text=text, **fields), **own)


def reaction(number: int, to: int, emoji: str, author: str = "Bo", *, removed: bool = False) -> ExportRecord:
    return record(number, emoji, author, kind=Kind.REACTION, to=(mid(to),), removed=removed)


def written(name: str, records: Iterable[ExportRecord], title: str = "Garden") -> str:
    """What an exporter writes."""
    return b"".join(exporter(name).export(Chat(key="mlog:1", title=title), records)).decode()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(HOSTILE)
"""What people may write; NUL comes from nowhere but is tried."""
