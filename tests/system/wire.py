"""A wire between two network namespaces that loses, delays and swaps packets, on any kernel with TAP devices.

The kernel's own `netem` is a module that many machines lack. Here the packets pass through this
process: each end is a TAP device, and a thread carries frames from one to the other.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["DEVICE", "BadWire", "carrying", "open_tap"]

DEVICE: Final = Path("/dev/net/tun")
_TUNSETIFF: Final = 0x400454CA
_TAP_WITHOUT_HEADER: Final = 0x1002
_FRAME_MAX: Final = 65_536


def open_tap(name: str) -> int:
    """Make a TAP device in this namespace; it goes away with the file that is returned.

    Raises:
        OSError: This machine has none, or this process may not.
    """
    file = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH14x", name.encode(), _TAP_WITHOUT_HEADER))
    except OSError:
        os.close(file)
        raise
    return file


class BadWire:
    """Carries frames between two TAP devices.

    Attributes:
        lost: Frames that were dropped so far.
    """

    def __init__(self, ends: tuple[int, int], *, loss: float, delay_s: float, seed: int = 1):
        self.lost = 0
        self._other = {ends[0]: ends[1], ends[1]: ends[0]}
        self._loss, self._delay_s = loss, delay_s
        self._random = random.Random(seed)
        self._due: list[tuple[float, int, int, bytes]] = []
        self._number = 0

    def run(self, over: threading.Event) -> None:
        """Carry until it is over."""
        while not over.is_set():
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 0.05
            for end in select.select([*self._other], [], [], min(wait, 0.05))[0]:
                self._take(end)
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, end, frame = heapq.heappop(self._due)
                try:
                    os.write(end, frame)
                except OSError:
                    self.lost += 1

    def _take(self, end: int) -> None:
        try:
            frame = os.read(end, _FRAME_MAX)
        except OSError:
            return
        if self._random.random() < self._loss:
            self.lost += 1
            return
        # Each frame takes its own time, up to half as long again, so some pass others.
        due = time.monotonic() + self._delay_s * self._random.uniform(1, 1.5)
        self._number += 1
        heapq.heappush(self._due, (due, self._number, self._other[end], frame))


@contextmanager
def carrying(wire: BadWire) -> Generator[None]:
    """Let a wire carry frames, in a thread of its own."""
    over = threading.Event()
    thread = threading.Thread(target=wire.run, args=(over,), name="wire")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
