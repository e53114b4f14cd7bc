"""QR codes on a terminal: two modules in each character, light ones drawn.

Readers want dark on light; so light modules are the ink, and colours are set where the terminal has them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["qr_lines"]

_QUIET: Final = 2
"""Light modules around it. The standard wants four; readers of today need one."""

_INKS: Final = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
"""Of an upper and a lower module, by whether they are light."""

_LIGHT_ON_DARK: Final = "97;40"


def qr_lines(text: str, *, columns: int, colour: bool) -> list[str]:
    """The lines of a QR code with this text; none where the terminal is too narrow for it.

    Args:
        columns: Of the terminal.
        colour: Say that light is white and dark is black; else the ink is taken to be light.
    """
    import segno

    code = segno.make(text, error="l", micro=False, boost_error=False)
    light = [[not module for module in row] for row in code.matrix_iter(scale=1, border=_QUIET)]
    if len(light[0]) > columns:
        return []
    if len(light) % 2:
        light.append([True] * len(light[0]))
    lines = [
        "".join(_INKS[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(light[::2], light[1::2], strict=True)
    ]
    return [f"\x1b[{_LIGHT_ON_DARK}m{line}\x1b[0m" for line in lines] if colour else lines
