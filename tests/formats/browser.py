"""A real browser without a window, for what only one can say of a page: what runs, what shows, how fast.

It is driven over its debugging port on loopback. Where none is installed the tests skip and say so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_START_TIMEOUT_S = 60
_ANSWER_TIMEOUT_S = 60


class Page:
    """A page that is open in the browser.

    Attributes:
        events: What the browser told without being asked.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One request of the debugging protocol."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=_ANSWER_TIMEOUT_S))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def run(self, script: str) -> Any:
        """The value of an expression, in the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, file: Path) -> None:
        """Load a file, until all of it is there."""
        self.events.clear()
        self.call("Page.navigate", url=file.as_uri())
        while not self.named("Page.loadEventFired"):
            self.events.append(json.loads(self._socket.recv(timeout=_ANSWER_TIMEOUT_S)))

    def named(self, method: str) -> list[dict[str, Any]]:
        """Events of one name, since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def metric(self, name: str) -> float:
        """One of the browser's own measurements; times are in seconds of work, not of waiting."""
        metrics = self.call("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == name)


@contextmanager
def opened_browser(folder: Path) -> Generator[Page]:
    """A new browser with an empty profile; ended with the block."""
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("NOT TESTED in a browser: no Chromium or Chrome is installed")
    flags = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--disable-dev-shm-usage", "--remote-debugging-port=0", "--window-size=900,1200"),
        f"--user-data-dir={folder}",
    )
    with ExitStack() as stack:
        process = subprocess.Popen(
            [program, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        stack.enter_context(process)
        stack.callback(process.kill)
        address = _address(process)
        socket = stack.enter_context(connect(address, max_size=None, open_timeout=_START_TIMEOUT_S))
        browser = Page(socket)
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        at = address.rpartition("/devtools/")[0]
        page = Page(stack.enter_context(connect(f"{at}/devtools/page/{target}", max_size=None)))
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            page.call(f"{domain}.enable")
        yield page


def _address(process: subprocess.Popen[bytes]) -> str:
    """Where it listens, which it says on standard error."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"DevTools listening on "):
            return line.rpartition(b" ")[2].strip().decode()
    pytest.fail("the browser ended before it listened")
