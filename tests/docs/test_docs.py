"""The documents name only what exists: files, sections, limits, tests."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from mlog import limits
from mlog.cli.app import COMMANDS
from mlog.log import entry
from mlog.log.bodies import Kind

_REPO = Path(__file__).resolve().parents[2]
_DOCS = sorted((_REPO / "docs").rglob("*.md"))
_PROTOCOL = (_REPO / "docs" / "protocol.md").read_text(encoding="utf-8")
_THREATS = (_REPO / "docs" / "threat-model.md").read_text(encoding="utf-8")

each_document = pytest.mark.parametrize(
    "document", _DOCS, ids=lambda path: str(path.relative_to(_REPO / "docs"))
)


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path) if path else document
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


@each_document
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"\b((?:mlog|tests|scripts)/[\w./]*\w)", text):
        assert (_REPO / name).exists(), name
    for number in re.findall(r"decisions/(\d{4})\b", text):
        assert list((_REPO / "docs" / "decisions").glob(f"{number}-*.md")), number


@each_document
def test_no_path_of_one_machine_is_named(document: Path) -> None:
    assert not re.findall(
        r"(?<![\w.])/(?:home|root|work|tmp|Users|var)/", document.read_text(encoding="utf-8")
    )


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((_REPO / "docs" / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_documents_that_the_code_names_exist() -> None:
    for module in (_REPO / "mlog").rglob("*.py"):
        for name in re.findall(r"(?<!/)\bdocs/[\w./-]*\w", module.read_text(encoding="utf-8")):
            assert (_REPO / name).exists(), f"{module.name}: {name}"


def test_sections_that_the_code_names_exist() -> None:
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", _PROTOCOL, re.MULTILINE))
    for module in [*(_REPO / "mlog").rglob("*.py"), *(_REPO / "docs" / "vectors").glob("*.json")]:
        for section in re.findall(r"protocol\.md, (\d+(?:\.\d+)?)", module.read_text(encoding="utf-8")):
            assert section in sections, f"{module.name}: {section}"


# -- protocol.md -----------------------------------------------------------------------------


def test_every_limit_stands_in_the_protocol_with_its_value() -> None:
    tree = ast.parse((_REPO / "mlog" / "limits.py").read_text(encoding="utf-8"))
    named = [
        node.target.id
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    expected = [(name, f"{getattr(limits, name):,}") for name in named if name not in ("KIB", "MIB")]
    section = _PROTOCOL.partition("\n## 9. ")[2].partition("\n## 10. ")[0]
    assert re.findall(r"^\| `(\w+)` \| ([\d,]+) \| .+ \|$", section, re.MULTILINE) == expected


def test_every_kind_stands_in_the_protocol_with_its_number() -> None:
    rows = re.findall(r"^\| ([A-Z, ]+) \| (\d+)(?: to (\d+))? \|", _PROTOCOL, re.MULTILINE)
    documented: dict[str, int] = {}
    for names, first, last in rows:
        numbers = range(int(first), int(last or first) + 1)
        documented |= dict(zip(names.split(", "), numbers, strict=True))
    assert documented == {kind.name: kind.value for kind in Kind}


def test_the_padding_table_is_right() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) \| ([\d,]+) \|$", _PROTOCOL, re.MULTILINE)
    assert len(rows) == 5
    for size, _, power, padded in rows:
        expected = entry.padded_size(int(size.replace(",", "")))
        assert int(padded.replace(",", "")) == expected
        assert expected % (1 << int(power)) == 0


def test_the_worked_bytes_are_those_of_the_vector() -> None:
    worked = _PROTOCOL.partition("**Worked bytes**")[2].partition("### 4.4")[0]
    dumped = "".join(re.findall(r"^    ([0-9a-f]+)(?:  .*)?$", worked, re.MULTILINE))
    entries = json.loads((_REPO / "docs" / "vectors" / "entries.json").read_text(encoding="utf-8"))
    vector = entries["valid"][5]
    assert dumped == vector["header_bytes"] + vector["outer"] + vector["sealed_body"]
    assert vector["id"] in worked


# -- threat-model.md -------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", _THREATS))))
def test_the_test_that_shows_it_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((_REPO / path).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_readme_lists_every_command() -> None:
    readme = (_REPO / "README.md").read_text(encoding="utf-8")
    table = readme.split("## Commands")[1].split("\n## ")[0]
    assert [name for name in COMMANDS if f"`{name}`" not in table] == []
