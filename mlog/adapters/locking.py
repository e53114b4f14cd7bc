"""One lock for every process that writes to a home."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from mlog.errors import Busy

__all__ = ["ProcessLock"]


class ProcessLock:
    """A lock file; waiting is bounded. May be entered again by its holder.

    Raises:
        Busy: On entering, when another process kept it longer than the bound.
    """

    def __init__(self, path: Path, timeout_ms: int):
        self._path = path
        self._timeout_s = timeout_ms / 1000
        self._lock = FileLock(path)

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=self._timeout_s, poll_interval=0.005)
        except Timeout:
            raise Busy(
                f"another mlog process is writing to {self._path.parent} and did not finish within "
                f"{self._timeout_s:g} s. Try again when it is done."
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
