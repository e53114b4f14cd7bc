"""Benchmark of pairing: two homes in processes of their own, from the typed code to the last message.

The reference is the cold sync of the same home without a pairing (scripts/_bench_sync.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from _bench_shared import Bench, Result, result, rounded
from _bench_sync import Process, cold

__all__ = ["bench_pairing"]


def bench_pairing(bench: Bench) -> Iterator[Result]:
    """A code is typed on a new device: until the first message can be read there, and until all can."""
    for messages in bench.sizes.paired:
        reference = cold(bench, "imported", messages)
        desk, phone = bench.folder / f"desk-paired-{messages}", bench.folder / f"phone-{messages}"
        shutil.copytree(bench.home(messages), desk)
        with Process("pairing", desk) as one, Process("pairing", phone) as two:
            offered = one.ask("offer")
            told = two.ask("join", secret=offered["code"], port=offered["port"])
        yield result(
            f"pairing-{messages}",
            told["complete_s"],
            "s to complete",
            reference["seconds"],
            "cold sync of the same home between devices that know each other",
            1,
            paired_s=rounded(told["paired_s"]),
            readable_s=rounded(told["readable_s"]),
            cpu_s=rounded(told["cpu_s"]),
            entries=told["done"],
        )
