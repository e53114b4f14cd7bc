"""An attachment on its way to another device, either end killed amid it: it arrives whole, each part once."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlog.api.home import Home
from mlog.limits import CHUNK_SIZE_MAX_BYTES, MIB
from mlog.log.bodies import Kind
from tests.faults.conftest import ram
from tests.system.ends import Proxy, Starter
from tests.system.test_kill_sync import befriended, copied

__all__ = ["ram"]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its ends")

_FILM = random.Random(7).randbytes(4 * MIB)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


def test_an_attachment_arrives_whole_after_kills_amid_its_sync(ram: Path, proxy: Proxy) -> None:
    (ram / "template").mkdir()
    template = befriended(ram / "template", proxy.port, 20)
    path = ram / "film.bin"
    path.write_bytes(_FILM)
    with Home(template / "desk") as home:
        home.send(home.conversations()[0].n, "the film", attach=[path])
    with Starter() as starter:
        ends = copied(template, ram / "pair", starter)
        for victim, until in (("laptop", MIB), ("desk", MIB), ("laptop", 2 * MIB), ("desk", MIB // 2)):
            if not ends.run(proxy, until, victim):
                break
            ends.assert_kept(victim)
        else:
            assert not ends.run(proxy, 1 << 40, "desk")
        ends.assert_kept("desk", "laptop")
        assert ends.roots()[0] == ends.roots()[1]
    with Home(ram / "pair" / "laptop") as home:
        [attached] = home.attachments()
        assert home.save(attached, ram / "out").read_bytes() == _FILM
        chunks = home.store._one("SELECT count(*) FROM entries WHERE kind = ?", (int(Kind.CHUNK),))
        assert chunks == -(-len(_FILM) // CHUNK_SIZE_MAX_BYTES)
