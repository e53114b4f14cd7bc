"""A QR code on a terminal has the text in it, and is left out where it does not fit."""

from __future__ import annotations

import re

import segno

from mlog.cli.qr import qr_lines

_LINK = "mlog:pair#" + "Ab1-_" * 30
_UPPER, _LOWER = "█▀", "█▄"


def test_the_lines_are_the_modules_of_the_code() -> None:
    lines = qr_lines(_LINK, columns=200, colour=False)
    light = [[cell in half for cell in line] for line in lines for half in (_UPPER, _LOWER)]
    expected = segno.make(_LINK, error="l", micro=False, boost_error=False)
    drawn = [[not module for module in row] for row in expected.matrix_iter(scale=1, border=2)]
    assert light[: len(drawn)] == drawn
    assert all(all(row) for row in light[len(drawn) :])


def test_it_is_left_out_where_the_terminal_is_too_narrow() -> None:
    [width] = {len(line) for line in qr_lines(_LINK, columns=200, colour=False)}
    assert qr_lines(_LINK, columns=width, colour=False)
    assert qr_lines(_LINK, columns=width - 1, colour=False) == []


def test_colours_say_which_is_light() -> None:
    plain = qr_lines(_LINK, columns=200, colour=False)
    coloured = qr_lines(_LINK, columns=200, colour=True)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured] == plain
    assert all(line.startswith("\x1b[97;40m") and line.endswith("\x1b[0m") for line in coloured)
