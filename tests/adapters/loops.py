"""What tests do that run a loop of their own: within a bound, and leaving nothing open."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

__all__ = ["hang_up", "run"]


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close, and wait until the loop has done so."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(40):
            await test
        # What was closed at the end is gone a few turns of the loop later.
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(bounded())
