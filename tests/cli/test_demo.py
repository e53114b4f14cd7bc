"""The demo holds what it claims, leaves nothing behind, and fails when a claim does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlog.cli import demo_hut, demo_sync


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the second half, which takes seconds."""
    monkeypatch.setattr(demo_sync.TwoDevices, "run", lambda _: None)


def test_the_demo_passes_all_its_checks_and_shows_the_graph(run):
    result = run("demo")
    assert result.code == 0
    assert "✗" not in [line.strip()[:1] for line in result.out.splitlines() if not line.startswith("  ✗ #")]
    assert result.out.count("✓") >= 30
    assert "├─" in result.out
    assert "entry not yet fetched" in result.out
    assert "healed" in result.out


def test_a_phone_that_is_not_damaged_fails_the_demo(run, monkeypatch):
    monkeypatch.setattr(demo_sync, "flip_bits", lambda *_: None)
    monkeypatch.setattr(demo_sync, "_MESSAGES", 1_500)
    result = run("demo")
    assert result.code == 1
    assert result.out.count("✗") >= 1


@pytest.mark.usefixtures("one_device")
def test_the_demo_names_both_damaged_entries(run):
    out = run("demo").out
    assert "<mara>, position" in out
    assert "<tomasz>, position" in out


@pytest.mark.usefixtures("one_device")
def test_the_demo_writes_neither_to_the_home_nor_beside_it(run, home, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run("demo")
    assert list(tmp_path.iterdir()) == []
    assert not home.exists()


@pytest.mark.usefixtures("one_device")
def test_the_demo_reports_its_checks_as_json(run):
    records = run("--json", "demo").records
    assert len(records) >= 15
    assert all(record["ok"] for record in records)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("broken", ["verify", "flip_bits"])
def test_a_claim_that_does_not_hold_fails_the_demo(broken, run, monkeypatch):
    if broken == "verify":
        from mlog.api import Home

        monkeypatch.setattr(Home, "verify", lambda *_, **__: [])
    else:
        monkeypatch.setattr(demo_hut, "flip_bits", lambda *_: None)
    result = run("demo")
    assert result.code == 1
    assert "✗" in result.out


@pytest.mark.usefixtures("one_device")
def test_the_demo_ends_in_ascii_too(run):
    result = run("demo", encoding="ascii")
    assert result.code == 0
    assert result.out.isascii()


def test_the_sample_chat_is_small_enough_to_read():
    assert 20 <= (demo_hut._SAMPLE + demo_hut._SAMPLE_LATER).count("\n") <= 30


@pytest.mark.usefixtures("one_device")
def test_the_demo_is_interrupted_as_a_whole(run, monkeypatch, tmp_path: Path):
    from mlog.api import Home

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(Home, "search", interrupted)
    result = run("demo")
    assert result.code == 130
    assert "temporary folder" in result.err
