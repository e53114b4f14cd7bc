"""Section 15 of docs/protocol.md is enough: what stands there, written down a second time, decodes.

Nothing of mlog is imported here, and no numpy: numbers of any size, sets and lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isqrt
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

_FILE = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "vectors" / "sketch.json").read_text(encoding="utf-8")
)
_KEY = bytes.fromhex(_FILE["key"])
_WORD = 2**64
_CELLS_MAX = 2**18
_MODULI = (2**56, 256, 256)

Cell = tuple[int, ...]


# -- 15.2 ------------------------------------------------------------------------------------


def numbers(data: bytes, size: int) -> list[int]:
    return [int.from_bytes(data[at : at + size], "big") for at in range(0, len(data), size)]


def mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % _WORD
    return x ^ (x >> 31)


def short_id(key: bytes, entry_id: bytes) -> int:
    k = numbers(blake3(key, derive_key_context="mlog v1 sketch").digest(144), 8)
    w = [1, *numbers(entry_id, 4)]
    high, low = (sum(a * b for a, b in zip(keys, w, strict=True)) % _WORD >> 32 for keys in (k[:9], k[9:]))
    return mix((high << 32) + low) >> 8


def check(short: int) -> int:
    return mix(short) >> 56


# -- 15.3 ------------------------------------------------------------------------------------


def cells_of(short: int, stop: int) -> Iterator[int]:
    i = 0
    while i < stop:
        yield i
        draw = (mix((short + (i + 1) * 0x9E3779B97F4A7C15) % _WORD) >> 40) + 1
        q = ((i + 1) * (i + 2) << 24) // draw
        i = (isqrt(4 * q + 1) + 1) // 2 - 1


# -- 15.4 and 15.5 ---------------------------------------------------------------------------


def plus(cell: Cell, short: int, sign: int) -> Cell:
    added = (short, check(short), 1)
    return tuple((a + sign * b) % modulus for a, b, modulus in zip(cell, added, _MODULI, strict=True))


def difference(encoded: bytes, own: set[int]) -> tuple[set[int], set[int]] | None:
    """What only the coder holds, and what only we hold; None where the cells are too few."""
    cells: list[Cell] = [
        (int.from_bytes(encoded[at : at + 7], "big"), encoded[at + 7], encoded[at + 8])
        for at in range(0, len(encoded), 9)
    ]
    found: dict[int, int] = {}

    def take_off(short: int, sign: int) -> None:
        for index in cells_of(short, len(cells)):
            cells[index] = plus(cells[index], short, -sign)

    for short in own:
        take_off(short, 1)
    named = [0] * len(cells)
    changed = True
    while changed:
        changed = False
        for index, (total, total_check, count) in enumerate(cells):
            if count not in (1, 255) or named[index] == 2:
                continue
            sign = 1 if count == 1 else -1
            short = total * sign % 2**56
            if check(short) * sign % 256 == total_check and index in cells_of(short, len(cells)):
                take_off(short, sign)
                found[short] = found.get(short, 0) + sign
                named[index] += 1
                changed = True
    if any(any(cell) for cell in cells) or any(abs(times) > 1 for times in found.values()):
        return None
    there = {short for short, times in found.items() if times == 1}
    return there, {short for short, times in found.items() if times == -1}


# -- the vectors -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", _FILE["short_ids"], ids=lambda case: case["note"])
def test_short_id_check_and_cells(case: dict[str, Any]) -> None:
    short = short_id(_KEY, bytes.fromhex(case["id"]))
    assert short == int(case["short_id"], 16)
    assert check(short) == case["check"]
    assert list(cells_of(short, _CELLS_MAX)) == case["cells"]


@pytest.mark.parametrize("case", _FILE["short_ids"], ids=lambda case: case["note"])
def test_the_two_forms_of_the_next_cell_agree(case: dict[str, Any]) -> None:
    short = int(case["short_id"], 16)
    for i, following in zip(case["cells"], case["cells"][1:], strict=False):
        draw = (mix((short + (i + 1) * 0x9E3779B97F4A7C15) % _WORD) >> 40) + 1
        assert (following + 1) * (following + 2) * draw > (i + 1) * (i + 2) * 2**24
        assert following * (following + 1) * draw <= (i + 1) * (i + 2) * 2**24


@pytest.mark.parametrize("case", _FILE["differences"], ids=lambda case: case["note"])
def test_cells_and_difference(case: dict[str, Any]) -> None:
    there, here = (
        {short_id(_KEY, bytes.fromhex(id_)) for id_ in case[name]} for name in ("ids_there", "ids_here")
    )
    encoded = bytes.fromhex(case["cells"])
    cells: list[Cell] = [(0, 0, 0)] * (len(encoded) // 9)
    for short in there:
        for index in cells_of(short, len(cells)):
            cells[index] = plus(cells[index], short, 1)
    assert encoded == b"".join(cell[0].to_bytes(7, "big") + bytes(cell[1:]) for cell in cells)
    decoded = difference(encoded, here)
    assert (decoded is not None) == case["decoded"]
    if decoded is not None:
        assert decoded == (there - here, here - there)
        assert [sorted(numbers(bytes.fromhex(case[name]), 7)) for name in ("there", "here")] == [
            sorted(side) for side in decoded
        ]
