"""Steps of a pairing: what a person wants, and what the two ends are told; also on the local socket.

None of them shows its secret where it is printed by accident. What they lead to: mlog/api/pairing.py.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from mlog.protocol.codes import LinkType

__all__ = [
    "Complete",
    "Offered",
    "Paired",
    "Progress",
    "Reaching",
    "Searching",
    "Shown",
    "Step",
    "Wish",
]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants.

    Attributes:
        type: A device of one's own, or another person.
        secret: Code or link of the other device; "" shows one here.
        peer: Where the other device is, as HOST:PORT; "" looks for it.
        addresses: Where others reach this one, besides what it finds itself, best first.
    """

    type: LinkType = LinkType.DEVICE
    secret: str = ""
    peer: str = ""
    addresses: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Wish(...)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


# -- steps -----------------------------------------------------------------------------------


class _Step(msgspec.Struct, frozen=True, kw_only=True, tag_field="step"):
    """Something that happened."""


class Offered(_Step, frozen=True, kw_only=True, tag="offered"):
    """The code is good from now on.

    Attributes:
        code, link: Either is typed, or scanned, on the other device.
        addresses: Where that finds this one.
        life_ms: For so long.
        problem: Why it is not announced in the local network; "" where it is.
    """

    code: str
    link: str
    addresses: tuple[str, ...]
    life_ms: int
    problem: str = ""

    def __repr__(self) -> str:
        return "Offered(...)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class Searching(_Step, frozen=True, kw_only=True, tag="searching"):
    """The other device is looked for in the local network."""


class Reaching(_Step, frozen=True, kw_only=True, tag="reaching"):
    """It is tried at these addresses."""

    addresses: tuple[str, ...]


class Shown(_Step, frozen=True, kw_only=True, tag="shown"):
    """The other device is there.

    Attributes:
        name, person: What it and its person are called.
        words: The same four on both screens, or somebody is between.
        asks: The person here has to say yes or no.
    """

    name: str
    person: str
    words: tuple[str, ...]
    asks: bool


class Paired(_Step, frozen=True, kw_only=True, tag="paired", omit_defaults=True):
    """Both said yes, and both know each other from now on.

    Attributes:
        device: In hexadecimal.
        outcome: As `mlog.log.trusting.Outcome`; "met" of another person.
        met: Of a home that was recovered: the other person whose device has let it in; "" of one's own.
    """

    device: str
    name: str
    person: str
    outcome: str
    met: str = ""


class Progress(_Step, frozen=True, kw_only=True, tag="progress"):
    """How far the first sync is, in entries: what either end lacks, and what came and went."""

    remaining: int
    done: int


class Complete(_Step, frozen=True, kw_only=True, tag="complete"):
    """Both hold the same.

    Attributes:
        differing: But for so many logs, which could not be made equal.
    """

    done: int
    differing: int = 0


Step: TypeAlias = Offered | Searching | Reaching | Shown | Paired | Progress | Complete
