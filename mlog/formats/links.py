"""Reply annotations of the irc-disentanglement corpus: which line of a log answers which.

Each line is `A B -`, with line numbers from 0: the later of the two replies to the earlier; `A A -`
starts a conversation. The file is read whole, within LINKS_SIZE_MAX_BYTES, and
the identities of the lines that somebody answers are all that is kept of the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from mlog.errors import InvalidInput, LimitExceeded
from mlog.formats.record import Skipped
from mlog.formats.source import Source
from mlog.limits import LINKS_SIZE_MAX_BYTES, REFERENCES_MAX
from mlog.log.ids import MessageId

__all__ = ["Links"]

_LINK: Final = re.compile(rb"\s*(\d{1,15})\s+(\d{1,15})(?:\s+-)?\s*")


class Links:
    """The links of one log, asked for line by line from its start.

    Raises:
        InvalidInput: A line that is not a link.
        LimitExceeded: The file is too large.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._name = name
        self._parents: dict[int, dict[int, int]] = {}
        self._alone: dict[int, int] = {}
        self._mids: dict[int, MessageId | None] = {}
        self._skipped: list[Skipped] = []
        size = 0
        for number, line in Source(stream, name).lines():
            size += len(line) + 1
            if size > LINKS_SIZE_MAX_BYTES:
                raise LimitExceeded(
                    f"more than {LINKS_SIZE_MAX_BYTES:,} bytes of links", source=name, position=number
                )
            if line.strip():
                self._add(number, line)

    def parents(self, line: int, mid: MessageId) -> tuple[MessageId, ...]:
        """What a line replies to; it is remembered where a later one replies to it.

        Args:
            line: Its number from 0; numbers only grow from call to call.
        """
        if line in self._mids:
            self._mids[line] = mid
        self._alone.pop(line, None)
        found: list[MessageId] = []
        for parent, number in self._parents.pop(line, {}).items():
            parent_mid = self._mids[parent]
            if parent_mid is None:
                self._skip(number, f"line {parent} is empty or not in the log")
            elif parent_mid == mid or parent_mid in found:
                self._skip(number, "the same message already stands there")
            elif len(found) == REFERENCES_MAX:
                self._skip(number, f"line {line} replies to more than {REFERENCES_MAX} others")
            else:
                found.append(parent_mid)
        return tuple(found)

    def unused(self) -> Iterator[Skipped]:
        """After the last line: every link that became no reply, and why."""
        yield from self._skipped
        for line, number in self._alone.items():
            yield self._reason(number, f"line {line} is empty or not in the log")
        for line, parents in self._parents.items():
            for number in parents.values():
                yield self._reason(number, f"line {line} is empty or not in the log")

    def _add(self, number: int, line: bytes) -> None:
        found = _LINK.fullmatch(line)
        if found is None:
            raise InvalidInput(
                "not a link: expected two line numbers, as in `1001 1003 -`",
                source=self._name,
                position=number,
            )
        earlier, later = sorted((int(found[1]), int(found[2])))
        if earlier == later:
            self._alone.setdefault(later, number)
        else:
            self._parents.setdefault(later, {}).setdefault(earlier, number)
            self._mids.setdefault(earlier, None)

    def _skip(self, number: int, reason: str) -> None:
        self._skipped.append(self._reason(number, reason))

    def _reason(self, number: int, reason: str) -> Skipped:
        return Skipped(position=number, reason=f"link in {self._name}: {reason}")
