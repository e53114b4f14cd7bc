"""Which message a quotation quotes, where an export gives only its words.

The newest earlier message with the same words is meant. What was said is remembered as hashes, exact and
in bounded memory (mlog/formats/identity.py, SpillingMap).
"""

from __future__ import annotations

from blake3 import blake3

from mlog.formats.identity import SpillingMap
from mlog.log.ids import MESSAGE_ID_SIZE, MessageId

__all__ = ["Said"]

_HALF = MESSAGE_ID_SIZE // 2


class Said:
    """The messages of one chat so far, by their words."""

    def __init__(self) -> None:
        self._upper = SpillingMap()
        self._lower = SpillingMap()

    def remember(self, text: str, mid: MessageId) -> None:
        """A message that later ones may quote."""
        key = _key(text)
        if key:
            self._upper.put(key, int.from_bytes(mid[:_HALF], signed=True))
            self._lower.put(key, int.from_bytes(mid[_HALF:], signed=True))

    def find(self, quotation: str) -> MessageId | None:
        """The newest message with these words."""
        key = _key(quotation)
        upper = self._upper.get(key) if key else None
        lower = None if upper is None else self._lower.get(key)
        if upper is None or lower is None:
            return None
        return MessageId(upper.to_bytes(_HALF, signed=True) + lower.to_bytes(_HALF, signed=True))


def _key(text: str) -> bytes:
    """Spaces, line ends and backquotes do not count: exporters change them."""
    words = "".join(text.replace("`", "").split())
    return blake3(words.encode()).digest(length=MESSAGE_ID_SIZE) if words else b""
