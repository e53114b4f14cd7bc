"""Where one mail of a mailbox ends and the next begins, in each of the four dialects of mbox.

A line separates mails when it starts with "From ", ends like an envelope (a date) and follows an empty line
or nothing. The dialects differ in what becomes of such a line inside a mail:

| dialect | inside a mail                | what is done here                                         |
|---------|------------------------------|-----------------------------------------------------------|
| mboxo   | "From " becomes ">From "     | one ">" is taken away                                     |
| mboxrd  | so does ">From ", and so on  | one ">" is taken away                                     |
| mboxcl  | as mboxo, and Content-Length | one ">" is taken away; Content-Length confirms the end    |
| mboxcl2 | Content-Length only          | what stands within that length does not separate mails    |

In mboxo a line that was ">From " cannot be told from one that was "From ". A Content-Length is believed only
where the mail that it measures ends at an envelope or at the end of the file; programs leave wrong ones
behind when they rewrite a mail. One that would have joined mails and is wrong ends the belief in all.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Final

from mlog.limits import MAIL_SIZE_MAX_BYTES

__all__ = ["is_envelope", "mails"]

_ENVELOPE: Final = re.compile(
    rb"From (?:.* )?(?:[A-Z][a-z]{2},? +(?:[A-Z][a-z]{2} +\d{1,2}|\d{1,2} [A-Z][a-z]{2})\b.*\b(?:19|20)\d\d\b"
    rb"|(?:19|20)\d\d-\d\d-\d\d[T ]\d\d:\d\d).*"
)
_QUOTED: Final = re.compile(rb">+From ")
_LENGTH: Final = re.compile(rb"(?i)content-length:\s*(\d{1,9})\s*")


def is_envelope(line: bytes) -> bool:
    """Whether a line separates mails, where it stands first or after an empty line."""
    return line.startswith(b"From ") and _ENVELOPE.fullmatch(line) is not None


def mails(lines: Iterator[tuple[int, bytes]]) -> Iterator[bytes | None]:
    """The bytes of each mail without its envelope; None for one that is above MAIL_SIZE_MAX_BYTES.

    Args:
        lines: As `Source.lines` gives them.
    """
    again: deque[bytes] = deque()
    believes = after_empty = True
    mail = _Mail()
    while True:
        line = again.popleft() if again else next((line for _, line in lines), None)
        starts = line is None or (after_empty and is_envelope(line))
        if mail.is_too_long_by_length(ends=line is None) and not (starts and mail.is_of_length()):
            # Its length took in what are mails of their own: go back to the first of them.
            believes = False
            again.extendleft(reversed([*mail.cut(), *([] if line is None else [line])]))
            yield mail.joined()
            mail, after_empty = _Mail(), True
            continue
        if line is None:
            break
        if starts and not mail.goes_on():
            if mail.started:
                yield mail.joined()
            mail, after_empty = _Mail(believes=believes, started=True), False
            continue
        after_empty = not line
        mail.add(line, starts=starts)
    if mail.started:
        yield mail.joined()


class _Mail:
    """The lines of a mail, and how they compare with the length that its headers give.

    Args:
        believes: Whether that length counts.
        started: There was an envelope.
    """

    def __init__(self, *, believes: bool = False, started: bool = False) -> None:
        self.started = started
        self._believes = believes
        self._lines: list[bytes] = []
        self._size = 0
        self._in_headers = True
        self._length = -1
        self._body_size = 0
        self._body_lines = 0
        self._inside = 0

    def add(self, line: bytes, *, starts: bool) -> None:
        """Take a line; one that starts a mail elsewhere is text here, until the length proves wrong."""
        if not self.started and not line:
            return
        self.started = True
        if starts and not self._inside:
            self._inside = len(self._lines)
        if not self._in_headers:
            self._body_size += len(line) + 1
            self._body_lines += 1
        elif not line:
            self._in_headers = False
        elif self._believes and (found := _LENGTH.fullmatch(line)) is not None:
            self._length = int(found[1]) if int(found[1]) <= MAIL_SIZE_MAX_BYTES else -1
        self._size += len(line) + 1
        if self._size <= MAIL_SIZE_MAX_BYTES or self._inside:
            self._lines.append(line)
        else:
            self._lines.clear()

    def is_of_length(self) -> bool:
        """Whether what is here is what was announced, with LF or CRLF, the last empty line counted or not."""
        size, with_returns = self._body_size, self._body_size + self._body_lines
        return size - 2 <= self._length <= size or with_returns - 4 <= self._length <= with_returns

    def goes_on(self) -> bool:
        """Whether an envelope here would stand inside the length announced."""
        return self._length > self._body_size and not self.is_of_length()

    def is_too_long_by_length(self, *, ends: bool) -> bool:
        """Whether envelopes were taken for text, and the length that said so is passed, or never reached."""
        passed = self._body_size > self._length + 2 or self._size > MAIL_SIZE_MAX_BYTES
        return bool(self._inside) and (ends or passed)

    def cut(self) -> list[bytes]:
        """Take away the first envelope that was taken for text, and all behind it."""
        behind = self._lines[self._inside :]
        del self._lines[self._inside :]
        self._inside = 0
        self._size = sum(len(line) + 1 for line in self._lines)
        return behind

    def joined(self) -> bytes | None:
        """Its bytes; the empty line before the next envelope belongs to the mailbox."""
        if self._size > MAIL_SIZE_MAX_BYTES:
            return None
        lines = self._lines
        if not self._inside:
            lines = [line[1:] if _QUOTED.match(line) is not None else line for line in lines]
        if lines and not lines[-1]:
            lines.pop()
        return b"\n".join([*lines, b""])
