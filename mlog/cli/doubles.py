"""The part of an import's report about messages that are perhaps here already, and what to do about them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from mlog.cli.terminal import safe

if TYPE_CHECKING:
    from mlog.api import ChatReport
    from mlog.api.matching import Reason, Unsure

__all__ = ["explain_unsure", "unsure_fields"]

_GROUPS: Final = 5
_POSITIONS: Final = 5
"""Groups, and positions in the file, that a report names; --json names more."""


def explain_unsure(chat: ChatReport, *, dry_run: bool) -> Iterator[str]:
    """Lines that say what is perhaps the same as what is here, and what to do."""
    if not chat.unsure:
        return
    kept = "would be kept" if dry_run else "kept"
    yield f"{chat.unsure:,} perhaps the same as messages that are here, {kept} beside them:"
    groups: dict[tuple[Reason, str, str, int], list[Unsure]] = {}
    for one in chat.unsure_at:
        name, here = (one.name, one.here) if one.reason == "name" else ("", "")
        groups.setdefault((one.reason, name, here, one.minutes), []).append(one)
    largest = sorted(groups.values(), key=len, reverse=True)
    for alike in largest[:_GROUPS]:
        at = ", ".join(f"{one.position:,}" for one in islice(alike, _POSITIONS))
        more = ", ..." if len(alike) > _POSITIONS else ""
        yield f"  {len(alike):,} {_REASONS[alike[0].reason](alike[0])} (at {at}{more})"
    if len(largest) > _GROUPS:
        yield f"  and {len(largest) - _GROUPS:,} other kinds; all of them: --json"
    if dry_run:
        yield "  Do that first, and then import."
    else:
        yield "  What stands beside each other stays. To fold it, do that, then import both files into a new"
        yield "  conversation with --into; --dry-run shows beforehand what would fold."


def unsure_fields(one: Unsure) -> dict[str, object]:
    """What --json says of one."""
    return {
        "position": one.position,
        "reason": one.reason,
        "author": one.name,
        "author_here": one.here or None,
        "minutes": one.minutes or None,
    }


def _by_name(one: Unsure) -> str:
    names = " ".join(shlex.quote(safe(name)) for name in (one.here, one.name))
    return f"by {safe(one.name)}, here by {safe(one.here)}; if they are one person: mlog people merge {names}"


def _by_zone(one: Unsure) -> str:
    hours, minutes = divmod(abs(one.minutes), 60)
    before = "earlier" if one.minutes > 0 else "later"
    return f"stand here {hours}:{minutes:02} hours {before}; if the file is of another time zone: --zone"


_REASONS: Final[Mapping[Reason, Callable[[Unsure], str]]] = {
    "name": _by_name,
    "zone": _by_zone,
    "several": lambda _: "more than once here or in the file: which is which cannot be told",
    "time": lambda _: "at the same minute; too few messages show whether the minute is all that is known",
    "edited": lambda _: "by the same author in the same second in other words: perhaps one was edited",
    "busy": lambda _: "in a week with too many messages here to compare them",
}
