"""The package is what pyproject.toml says, pinned, and free of one machine's paths and hosts."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_REPO = Path(__file__).resolve().parent.parent
_PROJECT = tomllib.loads((_REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# A package index, this clone, or something in the home folder of whoever runs the tests.
_LOCAL_TO_A_MACHINE = re.compile(
    rb"index-url|/simple/|registry = \"http|file:///|(?<![\w.-])(?:%b|%b/[\w.-]+)"
    % (re.escape(bytes(_REPO)), re.escape(bytes(Path.home())))
)
# Real data and vectors are not ours to judge; this file names the patterns.
_NOT_JUDGED = ("tests/test_packaging.py", "docs/vectors/", "tests/data/")


@pytest.fixture(scope="module")
def tracked_files() -> list[Path]:
    if not (_REPO / ".git").exists():
        pytest.skip("not a git clone: no list of tracked files")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=_REPO, capture_output=True, check=True, text=True
    ).stdout
    return [_REPO / name for name in listing.split("\0") if name and not name.startswith(_NOT_JUDGED)]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """The versions that constraints.txt allows on this platform, by canonical name."""
    lines = (_REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def test_metadata_of_the_installed_distribution() -> None:
    metadata = importlib.metadata.metadata("mlog-sync")
    assert metadata["Name"] == "mlog-sync"
    assert metadata["Version"] == _PROJECT["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.13"}


def test_the_command_is_the_only_entry_point() -> None:
    entry_points = importlib.metadata.distribution("mlog-sync").entry_points
    assert [(e.group, e.name, e.value) for e in entry_points] == [
        ("console_scripts", "mlog", "mlog.cli.main:main")
    ]


def test_every_installed_dependency_has_the_pinned_version(pins: dict[str, str]) -> None:
    installed = {name: importlib.metadata.version(name) for name in _dependencies("mlog-sync", {"", "dev"})}
    assert "pytest" in installed, "the walk over the dependencies found too little"
    assert {name: f"=={version}" for name, version in installed.items()} == {
        name: pins.get(name) for name in installed
    }


def test_automerge_is_pinned_for_whoever_installs_without_constraints() -> None:
    assert "automerge==1.0.0rc1" in _PROJECT["dependencies"]


def test_constraints_name_each_package_once_and_exactly() -> None:
    lines = (_REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)) for requirement in requirements)
    names = [canonicalize_name(requirement.name) for requirement in requirements]
    assert names == sorted(set(names))


def test_no_tracked_file_names_a_package_index_or_a_local_folder(tracked_files: list[Path]) -> None:
    findings = [
        f"{path.relative_to(_REPO)}: {match.group().decode()}"
        for path in tracked_files
        if path.is_file() and (match := _LOCAL_TO_A_MACHINE.search(path.read_bytes()))
    ]
    assert findings == []


@pytest.mark.skipif(os.name == "nt", reason="no executable bit on Windows")
@pytest.mark.parametrize("name", ["scripts/mlog", "scripts/test", "scripts/check", ".ci/run"])
def test_script_is_executable(name: str) -> None:
    assert os.access(_REPO / name, os.X_OK)


def _dependencies(distribution: str, extras: set[str]) -> set[str]:
    """Names of all that a distribution needs on this platform, found from what is installed."""
    found: set[str] = set()
    waiting = [(distribution, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted_extras = waiting.pop()
        if (name, wanted_extras) in seen:
            continue
        seen.add((name, wanted_extras))
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if _applies(requirement, wanted_extras):
                found.add(canonicalize_name(requirement.name))
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras | {""})))
    return found


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
