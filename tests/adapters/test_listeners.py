"""Servers that end leave no socket open, however recently a connection was made."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
from collections.abc import AsyncGenerator, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlog.adapters.local_socket import LocalServer, whereabouts
from mlog.adapters.websocket import Peers

_TURNS = 10
"""More than it takes from a connection to the first step of what answers it."""

unix = pytest.mark.skipif(os.name == "nt", reason="Windows has no Unix sockets")


def left_open(test: Coroutine[Any, Any, None]) -> list[str]:
    """What is still open after a loop has ended."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(test)
        gc.collect()
    return [str(each.message) for each in caught if "unclosed" in str(each.message)]


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("after", range(_TURNS))
def test_a_connection_made_just_before_the_end_is_closed(after: int) -> None:
    with ExitStack() as stack:

        async def test() -> None:
            peers = Peers(lambda _: None, ping=False, default_port=9)
            port = await peers.listen("127.0.0.1", 0)
            for _ in range(2):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            await turns(after)
            await peers.stop()

        assert left_open(test()) == []


@unix
@pytest.mark.parametrize("request_line", [b"", b'{"do":"anything"}\n'])
@pytest.mark.parametrize("after", range(_TURNS))
def test_a_program_that_connects_or_does_not_read_keeps_no_socket_open(
    tmp_path: Path, after: int, request_line: bytes
) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)

    async def answers(_: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        yield {"text": "x" * 2_000_000}

    with ExitStack() as stack:

        async def test() -> None:
            server = LocalServer(folder, answers)
            await server.start(0)
            where = whereabouts(folder)
            assert where is not None
            for _ in range(2):
                asker = stack.enter_context(socket.socket(socket.AF_UNIX))
                asker.connect(where.socket)
                asker.send(request_line)
            await turns(after)
            await server.stop()

        assert left_open(test()) == []
