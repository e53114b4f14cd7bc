"""What a neighbour in the same network can tell from all that two devices send, on two days."""

from __future__ import annotations

import base64
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from mlog.api.home import Home
from tests.system.capture import payloads
from tests.system.test_namespaces import Cable, Pair, cable, connected, pair, serve

__all__ = ["cable", "pair"]

WINDOW = 8
"""Bytes: as long as the shortest tag or id that mlog puts anywhere."""


def day(pair: Pair, cable: Cable, file: Path, text: str) -> bytes:
    """Two devices find each other, sync twice and are switched off; all that was sent."""
    command = cable.run("laptop", sys.executable, "-m", "tests.system.capture", "lan0", str(file))
    with ExitStack() as stack:
        capturing = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(capturing.kill)
        assert capturing.stdout is not None
        assert capturing.stdout.readline()
        desk = serve(pair)
        stack.callback(desk.kill)
        assert pair.sync()["complete"]
        with Home(pair.home("laptop")) as laptop:
            laptop.send(laptop.conversations()[0].n, text)
        assert pair.sync()["complete"]
        assert pair.equal()
    return b"\0\0".join(payloads(file))


def windows(data: bytes, size: int = WINDOW) -> set[bytes]:
    return {data[at : at + size] for at in range(len(data) - size + 1)}


def named(home: Home) -> set[bytes]:
    """What stands for somebody or something, and names and texts, in every form that they may be sent in."""
    keys = home.replica.device_keys
    raw = [keys.id, keys.noise_public, keys.hpke_public, *(s.keys.topic for s in home.replica.logs())]
    written = [f(each[: 3 * WINDOW]) for each in raw for f in (bytes.hex, _base64, _base32)]
    words = [c.title for c in home.conversations()]
    words += [m.text for c in home.conversations() for m in home.messages(c.n)]
    texts = [text.encode()[:40] for text in (*written, *words)]
    return {each[:WINDOW] for each in (*raw, *texts) if len(each) >= WINDOW}


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()


def test_captured_traffic_tells_no_name_id_or_key_and_nothing_that_stays(
    pair: Pair, cable: Cable, tmp_path: Path
) -> None:
    first = day(pair, cable, tmp_path / "1", "the first evening")
    second = day(pair, cable, tmp_path / "2", "another evening")
    with Home(pair.home("desk")) as desk, Home(pair.home("laptop")) as laptop:
        known = named(desk) | named(laptop)
    assert len(known) > 50
    assert not known & (windows(first) | windows(second))
    # What is the same on both days is what the devices of other people send too, at these addresses.
    (tmp_path / "others").mkdir()
    with ExitStack() as stack:
        others = connected(tmp_path / "others", cable, stack)
        third = day(others, cable, tmp_path / "3", "of other people")
    usual = windows(third, WINDOW // 2)
    # A window at the edge of something that all devices send is the same by chance now and then.
    stays = [each for each in windows(first) & windows(second) if not windows(each, WINDOW // 2) & usual]
    assert stays == []
