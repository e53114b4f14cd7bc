"""Listening sockets that end without leaving open what they have just accepted.

asyncio hands a connection over a few turns of the loop after it was accepted. Where its server was
closed meanwhile that fails, and the socket stays open until the garbage is collected (CPython 3.11
and 3.12). So a server first accepts no more, then hands over what it has, and is closed after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

__all__ = ["Listener", "accept_no_more", "turn"]

_TURNS: Final = 4
"""From accepting to the protocol's `connection_made`, and to the first step of the task that it starts."""


class Listener(Protocol):
    """A listening socket, or what asyncio shows of one."""

    def fileno(self) -> int: ...


async def accept_no_more(sockets: Iterable[Listener]) -> None:
    """Leave further connections to the system, which refuses them when the server is closed."""
    loop = asyncio.get_running_loop()
    for sock in sockets:
        # On Windows the loop has no readers.
        with suppress(NotImplementedError):
            loop.remove_reader(sock.fileno())
    await turn()


async def turn() -> None:
    """Let the loop do what it has begun: hand over what was accepted, close what was aborted."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
