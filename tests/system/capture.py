"""Captures what passes an interface: run in a network namespace, it writes each frame to a file.

    python -m tests.system.capture INTERFACE FILE

It prints a line when it listens, and ends when it is killed.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["payloads"]

_ETH_P_ALL: Final = 0x0003
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP, _UDP = 6, 17


def payloads(file: Path) -> Iterator[bytes]:
    """What stands in the TCP and UDP packets of a capture, without headers that the system writes."""
    data = file.read_bytes()
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield from _payload(data[at + 4 : at + 4 + size])
        at += 4 + size


def _payload(frame: bytes) -> Iterator[bytes]:
    kind, packet = int.from_bytes(frame[12:14], "big"), frame[14:]
    if kind == _IPV4:
        protocol, size = packet[9], 4 * (packet[0] & 0xF)
        segment = packet[size : int.from_bytes(packet[2:4], "big")]
    elif kind == _IPV6:
        protocol, segment = packet[6], packet[40 : 40 + int.from_bytes(packet[4:6], "big")]
    else:
        return
    if protocol == _UDP:
        yield segment[8:]
    elif protocol == _TCP:
        yield segment[4 * (segment[12] >> 4) :]


def _capture(interface: str, file: Path) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as taken:
        taken.bind((interface, _ETH_P_ALL))
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        with file.open("ab", buffering=0) as kept:
            while True:
                frame = taken.recv(65_536)
                kept.write(len(frame).to_bytes(4, "big") + frame)


if __name__ == "__main__":
    _capture(sys.argv[1], Path(sys.argv[2]))
