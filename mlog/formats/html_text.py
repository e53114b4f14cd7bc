"""What a browser would show of HTML, as plain text: a line for each block, nothing hidden.

A scanner of its own, because the standard library's takes time that grows with the square of
some broken markup; every search here moves on or ends the scan.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Final

from mlog.formats.texts import clean

__all__ = ["charset_in", "text_of_html"]

_BLANK: Final = re.compile(r"\s+")
_TAG: Final = re.compile(r"</?([a-z][a-z0-9]*)")
_HIDDEN: Final = ("<script", "<style", "<head", "<title", "<template")
_BREAKS: Final = frozenset(
    ("br", "p", "div", "tr", "li", "ul", "ol", "table", "blockquote", "pre", "hr", "h1", "h2", "h3", "h4")
)

_CHARSET: Final = re.compile(rb"(?i)<meta[^>]{0,200}?charset\s*=\s*[\"']?([a-z0-9_:.-]{1,40})")
_HEAD_SIZE_BYTES: Final = 1024
"""Browsers look this far for a charset too."""

_CONTROLS: Final = {
    byte: char for byte in range(0x80, 0xA0) if (char := bytes([byte]).decode("cp1252", "ignore"))
}
"""What browsers show for characters that no page means: those of Windows-1252, taken for Latin-1."""


def charset_in(html: bytes) -> str:
    """The charset that a page says it has, or ""."""
    found = _CHARSET.search(html[:_HEAD_SIZE_BYTES])
    return found[1].decode() if found is not None else ""


def text_of_html(html: str) -> str:
    """The text of a page or of a part of one."""
    lower = html.lower()
    if len(lower) != len(html):  # a few capitals are longer in lower case; positions must agree
        lower = "".join(char.lower() if char.isascii() else char for char in html)
    parts: list[str] = []
    unclosed: set[str] = set()
    position = 0
    while (start := html.find("<", position)) >= 0:
        parts.append(_BLANK.sub(" ", html[position:start]))
        tag = _TAG.match(lower, start)
        if tag is None and not html.startswith(("<!", "<?"), start):
            parts.append("<")
            position = start + 1
            continue
        comment = html.startswith("<!--", start)
        end = html.find("-->" if comment else ">", start)
        if end < 0:
            position = len(html) if comment else start
            break
        position = end + (3 if comment else 1)
        if tag is not None and tag[1] in _BREAKS:
            parts.append("\n")
        elif tag is not None and tag[0].startswith(_HIDDEN) and tag[1] not in unclosed:
            close = lower.find(f"</{tag[1]}", position)
            if close >= 0:
                position = close
            elif tag[1] in ("script", "style"):
                position = len(html)
                break
            else:
                unclosed.add(tag[1])
    parts.append(_BLANK.sub(" ", html[position:]))
    text = unescape("".join(parts)).translate(_CONTROLS)
    lines = [line.strip() for line in text.split("\n")]
    return clean(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip())
