"""What all tests share: `--slow`, the real-data folder, hypothesis profiles, a home of their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

_REPO = Path(__file__).resolve().parent.parent

# A shared, busy machine must not make a property fail: no deadline.
hypothesis.settings.register_profile("default", max_examples=100, deadline=None, print_blob=True)
hypothesis.settings.register_profile("slow", max_examples=1_000, deadline=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too, with more examples")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("slow" if config.getoption("--slow") else "default")
    # Begun in the background of a shell, all processes ignore it, and tests press Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    needs_slow = pytest.mark.skip(reason="slow: runs with --slow")
    needs_corpus = pytest.mark.skip(reason=_corpus_absence())
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(needs_slow)
        if item.get_closest_marker("corpus") and not _corpus_path().is_dir():
            item.add_marker(needs_corpus)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _corpus_path().is_dir():
        terminalreporter.write_line(f"NOT TESTED on real data: {_corpus_absence()}", yellow=True, bold=True)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real data: exports of other programs, public IRC logs."""
    path = _corpus_path()
    if not path.is_dir():
        pytest.skip(_corpus_absence())
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An MLOG_HOME that does not exist yet."""
    path = tmp_path / "home"
    monkeypatch.setenv("MLOG_HOME", str(path))
    return path


def _corpus_path() -> Path:
    return Path(os.environ.get("MLOG_CORPUS") or _REPO.parent / "shared" / "data")


def _corpus_absence() -> str:
    return f"no real-data folder at {_corpus_path()}; set MLOG_CORPUS to one"
