"""Names of things: fixed-length byte strings, and the week that an entry belongs to.

`MessageId` is how messages refer to each other: the first 16 bytes of the id of the entry that
wrote it, or, for an imported message, an identity that every importer of the same chat derives
alike. Specified in docs/protocol.md, 2.
"""

from __future__ import annotations

from typing import Final, NewType

from mlog.limits import WEEK_MAX

__all__ = [
    "ENTRY_ID_SIZE",
    "MESSAGE_ID_SIZE",
    "DeviceId",
    "EntryId",
    "Incarnation",
    "MessageId",
    "Topic",
    "message_id",
    "week_of",
    "week_start_ms",
]

EntryId = NewType("EntryId", bytes)
"""32 bytes: BLAKE3 of an entry's outer bytes."""

MessageId = NewType("MessageId", bytes)
"""16 bytes: see the module's text."""

DeviceId = NewType("DeviceId", bytes)
"""32 bytes: a device's Ed25519 public key."""

Topic = NewType("Topic", bytes)
"""16 bytes: what a host knows a log by, derived from the log's secret."""

Incarnation = NewType("Incarnation", bytes)
"""8 random bytes: one chain of a device in one log."""

ENTRY_ID_SIZE: Final = 32
MESSAGE_ID_SIZE: Final = 16

_WEEK_MS: Final = 7 * 24 * 3600 * 1000
_FIRST_MONDAY_MS: Final = 946_857_600_000
"""Monday 3 January 2000, 00:00 UTC, in milliseconds since 1970."""


def message_id(entry: EntryId) -> MessageId:
    """The name that other messages use for a message written in mlog."""
    return MessageId(entry[:MESSAGE_ID_SIZE])


def week_of(time_ms: int) -> int:
    """Segment of a time: weeks since Monday 3 January 2000 UTC, within 0..WEEK_MAX."""
    return min(max((time_ms - _FIRST_MONDAY_MS) // _WEEK_MS, 0), WEEK_MAX)


def week_start_ms(week: int) -> int:
    """First millisecond of a week, since 1970; week 0 also holds everything earlier."""
    return _FIRST_MONDAY_MS + week * _WEEK_MS
