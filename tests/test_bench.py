"""`scripts/bench` runs and keeps to its output schema; its figures are not judged here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlog.formats import IMPORTERS, TREE_IMPORTERS

_BENCH = Path(__file__).resolve().parent.parent / "scripts" / "bench"
_FIELDS = {"name": str, "value": float, "unit": str, "ratio": float, "reference": str, "n": int}
_STARTS = (
    *("import-", "append-", "verify-", "search-", "disk-", "start-", "memory-"),
    *("cold-", "pairing-", "same-", "difference-vector-", "difference-sketch-", "live-", "sessions-"),
    *("members-", "epochs-", "revocation-"),
)


def _bench(*arguments: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(_BENCH), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(temporary)},
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> list[Mapping[str, Any]]:
    """What a quick run of all benchmarks prints."""
    temporary = tmp_path_factory.mktemp("bench")
    run = _bench("--quick", temporary=temporary)
    assert run.returncode == 0, run.stderr
    assert not list(temporary.iterdir()), "the temporary folder is not cleaned up"
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_each_line_is_a_figure_with_its_reference_or_says_why_not(quick: list[Mapping[str, Any]]):
    for result in quick:
        if "skipped" in result:
            assert isinstance(result["name"], str)
            assert result["skipped"]
            continue
        for field, kind in _FIELDS.items():
            assert isinstance(result[field], kind), (field, result)
        assert result["value"] > 0
        assert result["ratio"] > 0
        assert result["reference"]
        assert result["n"] >= 1


def test_every_benchmark_reports_and_no_name_is_used_twice(quick: list[Mapping[str, Any]]):
    names = [result["name"] for result in quick]
    assert len(names) == len(set(names))
    for start in _STARTS:
        assert any(name.startswith(start) for name in names), start


def test_names_choose_and_an_unknown_one_is_a_usage_error(tmp_path: Path):
    chosen = _bench("append", "--quick", temporary=tmp_path)
    assert [json.loads(line)["name"] for line in chosen.stdout.splitlines()] == ["append-p50", "append-p99"]
    wrong = _bench("speed", temporary=tmp_path)
    assert wrong.returncode == 2
    assert "no benchmark speed" in wrong.stderr


def test_sizes_and_formats_of_imports_can_be_chosen(tmp_path: Path):
    chosen = _bench("import-memory", "--mib", "1,2", "--formats", "whatsapp-zip,sms", temporary=tmp_path)
    assert [json.loads(line)["name"] for line in chosen.stdout.splitlines()] == [
        "import-memory-whatsapp-zip-2-mib",
        "import-memory-sms-2-mib",
    ]
    for wrong in (("--mib", "2,1"), ("--mib", "much"), ("--formats", "carrier-pigeon")):
        assert _bench("import-memory", *wrong, temporary=tmp_path).returncode == 2


def test_every_format_that_is_read_has_its_rate(quick: list[Mapping[str, Any]]):
    measured = {result["name"].removeprefix("import-rate-") for result in quick}
    trees = {known.name for known in TREE_IMPORTERS} - {"google-chat", "google-voice"}
    assert {known.name for known in IMPORTERS} | trees <= measured
