"""Errors, split by whose fault they are, because that decides the reaction.

MlogError
├─ UserError           the person can fix it: say what, and how        exit 1
│  └─ Busy             another process holds the log; try again        exit 5
├─ InvalidInput        bytes are wrong: drop them                      exit 1
│  ├─ BadSignature
│  └─ LimitExceeded
├─ ProtocolViolation   the peer broke the rules: close the session     exit 3
├─ PeerUnavailable     try later, or another peer                      exit 3
├─ VerificationFailed  a hash, link or signature does not match        exit 4
└─ StoreError          our disk is wrong: stop and say so              exit 6

The message of an error is what the person reads: it says what is wrong, where,
and what to do next. Secrets never stand in it.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BadSignature",
    "Busy",
    "InvalidInput",
    "LimitExceeded",
    "MlogError",
    "PeerUnavailable",
    "ProtocolViolation",
    "StoreError",
    "UserError",
    "VerificationFailed",
]


class MlogError(Exception):
    """Anything that a public function of mlog raises on purpose."""

    exit_code: ClassVar[int] = 1


class UserError(MlogError):
    """The person can fix this; the message says how."""


class Busy(UserError):
    """Another process writes to the log and did not finish within the bound."""

    exit_code = 5


class InvalidInput(MlogError):
    """Bytes or text are not in the form that they should have.

    Attributes:
        source: File or peer that they came from, or None.
        position: Line (from 1) or byte offset within it, or None.
    """

    def __init__(self, message: str, *, source: str | None = None, position: int | None = None):
        where = "" if source is None else source
        if position is not None:
            where += f":{position}"
        super().__init__(f"{where}: {message}" if where else message)
        self.source = source
        self.position = position


class BadSignature(InvalidInput):
    """The device did not sign these bytes."""


class LimitExceeded(InvalidInput):
    """Larger than a limit in `mlog.limits` allows."""


class ProtocolViolation(MlogError):
    """The peer broke the rules; its session is closed."""

    exit_code = 3


class PeerUnavailable(MlogError):
    """The peer cannot be reached now."""

    exit_code = 3


class VerificationFailed(MlogError):
    """Stored or restored data does not match its hashes."""

    exit_code = 4


class StoreError(MlogError):
    """The disk, the database file or its permissions are at fault."""

    exit_code = 6
