"""What an event costs is measured without what the other tests of the process left in memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_garbage_only() -> Iterator[None]:
    """A full collection looks at every object that there is: 0.3 s in a process that ran all tests before.

    Those that exist before the victim does are left out; the victim's own still count.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
