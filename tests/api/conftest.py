"""A home in a temporary folder with a clock that the test sets."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mlog.api.home import Home
from mlog.api.importing import ImportReport
from mlog.formats import Source


class Clock:
    """Milliseconds that advance by one with each look."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        self.ms += 1
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Home]:
    with Home(tmp_path / "home", person="ann", clock_ms=clock) as home:
        yield home


def read(home: Home, text: str, name: str = "#garden.log", **options: Any) -> ImportReport:
    """Import a text as if it were a file."""
    return home.import_chat(Source(BytesIO(text.encode()), name), **options)
