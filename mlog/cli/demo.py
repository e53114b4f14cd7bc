"""`mlog demo`: what mlog is for, with every claim checked as it is made, in a temporary folder.

The halves: mlog/cli/demo_hut.py on one device, mlog/cli/demo_sync.py on two.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlog.cli.options import verb

if TYPE_CHECKING:
    from mlog.cli.output import Console

__all__ = ["demo"]


@verb("demo", "mlog demo")
def demo(console: Console) -> None:
    """See mlog at work on a sample conversation, in seconds.

    It writes to a temporary folder only. Each claim is checked as it is made; exits non-zero if one
    does not hold.
    """
    import tempfile

    from mlog.cli.demo_hut import OneDevice
    from mlog.cli.demo_stage import Stage
    from mlog.cli.demo_sync import TwoDevices

    console.interrupted = "interrupted. The demo wrote to a temporary folder only, and that is gone."
    with tempfile.TemporaryDirectory(prefix="mlog-demo-", ignore_cleanup_errors=True) as folder:
        stage = Stage(console, Path(folder))
        OneDevice(stage).run()
        TwoDevices(stage).run()
        stage.end()
