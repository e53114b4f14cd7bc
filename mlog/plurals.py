"""A number with the word for what is counted, as a person reads it: `1 entry`, `2,000 messages`.

A module of its own, below all layers, because all of them tell of numbers.
"""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, one: str, many: str = "") -> str:
    """Say how many there are.

    Args:
        number: How many.
        one: The word for a single one.
        many: The word for any other number, if it is not `one` with an s.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
