"""Choosing: the one of several that a person means by a name, or by the first digits of an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from mlog.errors import UserError

__all__ = ["Choice", "chosen"]

_T = TypeVar("_T")

_DIGITS_MIN: Final = 4
_LISTED: Final = 20


class Choice(NamedTuple, Generic[_T]):
    """One that may be meant.

    Attributes:
        id: In hexadecimal.
    """

    what: _T
    name: str
    id: str


def chosen(known: Sequence[Choice[_T]], name: str, *, what: str, none: str, begins: bool = False) -> _T:
    """The only one that is called so, whatever the case; or whose id alone begins so.

    Args:
        what: The word for one of them.
        none: What to say where there are none.
        begins: The beginning of a name will do, too.

    Raises:
        UserError: None, or several: the message lists them.
    """
    folded = name.casefold()
    for matches in (
        [one for one in known if one.name == name],
        [one for one in known if one.name.casefold() == folded],
        [one for one in known if begins and folded and one.name.casefold().startswith(folded)],
        [one for one in known if len(folded) >= _DIGITS_MIN and one.id.startswith(folded)],
    ):
        if len(matches) == 1:
            return matches[0].what
        if matches:
            known = matches
            break
    if not known:
        raise UserError(none)
    listed = "".join(f"\n  {one.id[:16]}  {one.name}" for one in known[:_LISTED])
    raise UserError(f"{name!r} does not name exactly one {what}; these are known:{listed}")
