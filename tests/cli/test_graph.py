"""The drawing of a DAG: what it looks like, and that it says what it was given."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tracemalloc
from collections import Counter
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlog.cli.graph import Node, dot, draw

UNICODE_TO_ASCII = str.maketrans("●◉◆◈│├┤┼─┴┬╮╯╭╰┊»", "*@oO|+++-'.\\//\\:>")
UPSIDE_DOWN = str.maketrans("╮╯╭╰┬┴/\\'.", "╯╮╰╭┴┬\\/.'")


def nodes(text: str) -> list[Node]:
    """`"m:bc b:a c:a a"`: names of one letter, each with its parents."""
    split = [word.partition(":") for word in text.split()]
    return [Node(name.encode(), tuple(p.encode() for p in parents), name) for name, _, parents in split]


# -- golden drawings -------------------------------------------------------------------------

GOLDEN_NEWEST_FIRST = {
    "linear": ("c:b b:a a", "◉ c|● b|● a"),
    "fork and merge": ("m:bc c:a b:a a", "◈ m|├─╮|│ ● c|● │ b|├─╯|● a"),
    "two heads": ("c:a b:a a", "◉ c|│ ◉ b|├─╯|● a"),
    "two roots": ("m:xy x y", "◈ m|├─╮|● │ x|  ● y"),
    "unconnected": ("y:x b:a x a:z z", "◉ y|│ ◉ b|● │ x|  ● a|╭─╯|● z"),
    "octopus": (
        "m:abcd c:r a:r d:r b:r r",
        "◈ m|├─┬─┬─╮|│ │ ● │ c|● │ │ │ a|├─│─╯ │|│ │   ● d|├─│───╯|│ ● b|├─╯|● r",
    ),
    "criss-cross": (
        "p:xy q:xy x:ab y:ba a:r b:r r",
        "◈ p|├─╮|│ │ ◈ q|├─┼─╯|◆ │ x|├─│─╮|│ ◆ │ y|├─┴─┤|●   │ a|│   ● b|├───╯|● r",
    ),
    "missing parents": ("c:bq b:z", "◈ c|├─╮|● │ b|┊ ┊"),
}

GOLDEN_OLDEST_FIRST = {
    "linear": ("a b:a c:b", "● a|● b|◉ c"),
    "fork and merge": ("a b:a c:a m:bc", "● a|├─╮|│ ● b|● │ c|├─╯|◈ m"),
    "two roots": ("y x m:xy", "● y|│ ● x|├─╯|◈ m"),
    "missing parents": ("b:z c:bq", "┊|● b|│ ┊|├─╯|◈ c"),
}


@pytest.mark.parametrize("name", GOLDEN_NEWEST_FIRST)
@pytest.mark.parametrize("unicode", [True, False])
def test_draw_newest_first_looks_as_drawn_here(name: str, unicode: bool) -> None:
    text, drawing = GOLDEN_NEWEST_FIRST[name]
    assert_drawn(list(draw(nodes(text), unicode=unicode)), drawing, unicode)


@pytest.mark.parametrize("name", GOLDEN_OLDEST_FIRST)
@pytest.mark.parametrize("unicode", [True, False])
def test_draw_oldest_first_looks_as_drawn_here(name: str, unicode: bool) -> None:
    text, drawing = GOLDEN_OLDEST_FIRST[name]
    assert_drawn(list(draw(nodes(text), oldest_first=True, unicode=unicode)), drawing, unicode)


def test_draw_ends_the_lane_of_a_parent_known_to_be_absent_at_once() -> None:
    lines = list(draw(nodes("c:bq b:z a"), absent=lambda parent: parent in b"qz"))
    assert_drawn(lines, "◈ c|├─╮|│ ┊|● b|┊|◉ a", unicode=True)


def test_draw_oldest_first_ends_lanes_whose_children_did_not_come() -> None:
    lines = list(draw([Node(b"a", (), "a", 1), Node(b"b", (), "b", 0)], oldest_first=True))
    assert_drawn(lines, "● a|│ ◉ b|┊", unicode=True)


def test_draw_folds_lanes_beyond_the_limit() -> None:
    lines = list(draw(nodes("m:abcd c:r a:r d:r b:r r"), lanes_max=2))
    assert_drawn(lines, "◈ m|├─┬─»|│ │ ● c|● │ » a|├─│─»|│ │ ● d|├─│─»|│ ● b|├─╯|● r", unicode=True)


def assert_drawn(lines: list[str], drawing: str, unicode: bool) -> None:
    expected = drawing.split("|")
    assert lines == [line if unicode else line.translate(UNICODE_TO_ASCII) for line in expected]


# -- the edges drawn are the edges given -----------------------------------------------------


@st.composite
def histories(draw_value: st.DrawFn) -> list[Node]:
    """A random DAG in an order that puts children before parents; some parents are missing."""
    count = draw_value(st.integers(1, 24))
    lost = draw_value(st.integers(0, 3))
    history: list[Node] = []
    for index in range(count):
        names = [b"%d" % k for k in range(max(0, index - 6), index)] + [b"lost%d" % k for k in range(lost)]
        parents = draw_value(st.lists(st.sampled_from(names), max_size=5)) if names else []
        history.append(Node(b"%d" % index, tuple(parents), f"#{index}"))
    return history[::-1]


class Drawn(NamedTuple):
    edges: Counter[tuple[str, str]]
    cut: Counter[frozenset[str]]
    """For each mark of a missing parent, the nodes whose lanes lead to it."""
    heads: set[str]
    merges: set[str]


@given(histories(), st.booleans())
def test_draw_newest_first_shows_exactly_the_edges_given(history: list[Node], unicode: bool) -> None:
    drawn = read(list(draw(history, unicode=unicode, lanes_max=1000)))
    assert drawn == given_by(history, shared_marks=True)


@given(histories(), st.booleans())
def test_draw_with_absent_parents_shows_exactly_the_edges_given(history: list[Node], unicode: bool) -> None:
    lines = draw(history, unicode=unicode, lanes_max=1000, absent=lambda parent: parent.startswith(b"lost"))
    assert read(list(lines)) == given_by(history, shared_marks=False)


@given(histories(), st.booleans(), st.booleans())
def test_draw_oldest_first_shows_exactly_the_edges_given(
    history: list[Node], unicode: bool, counted: bool
) -> None:
    order = history[::-1]
    if counted:
        children = Counter(parent for node in history for parent in set(node.parents))
        order = [node._replace(children=children[node.id]) for node in order]
    lines = list(draw(order, oldest_first=True, unicode=unicode, lanes_max=1000))
    upside_down = [prefix(line).translate(UPSIDE_DOWN) + label(line) for line in reversed(lines)]
    assert read(upside_down) == given_by(history, shared_marks=False)


def test_draw_shows_exactly_the_edges_of_an_octopus_with_64_parents() -> None:
    arms = [Node(b"%d" % k, (b"root",), f"#{k}") for k in range(64)]
    history = [Node(b"top", tuple(arm.id for arm in arms), "#top"), *arms, Node(b"root", (), "#root")]
    for unicode in (True, False):
        assert read(list(draw(history, unicode=unicode, lanes_max=64))) == given_by(
            history, shared_marks=True
        )


@given(histories(), st.integers(1, 4), st.booleans(), st.randoms())
def test_draw_keeps_to_its_width_and_shows_every_node_in_any_order(
    history: list[Node], lanes_max: int, oldest_first: bool, random: Random
) -> None:
    random.shuffle(history)
    lines = list(draw(history, lanes_max=lanes_max, oldest_first=oldest_first))
    assert max(len(prefix(line).rstrip()) for line in lines) <= 2 * lanes_max + 1
    assert [label(line) for line in lines if label(line)] == [node.label for node in history]


def given_by(history: list[Node], *, shared_marks: bool) -> Drawn:
    present = {node.id for node in history}
    edges: Counter[tuple[str, str]] = Counter()
    lost: dict[bytes, set[str]] = {}
    single: list[str] = []
    for node in history:
        for parent in set(node.parents):
            if parent in present:
                edges[node.label, f"#{parent.decode()}"] += 1
            else:
                lost.setdefault(parent, set()).add(node.label)
                single.append(node.label)
    marks = map(frozenset, lost.values()) if shared_marks else (frozenset([name]) for name in single)
    named = {parent for node in history for parent in node.parents}
    return Drawn(
        edges,
        Counter(marks),
        heads={node.label for node in history if node.id not in named},
        merges={node.label for node in history if len(set(node.parents)) > 1},
    )


def prefix(line: str) -> str:
    return line.partition("#")[0]


def label(line: str) -> str:
    return "".join(line.partition("#")[1:])


class Reader:
    """Follows the characters of a drawing, newest first, from row to row.

    It knows only what a person sees: a node, lanes going down, and horizontal lines with their
    corners. `lanes` holds for each column the nodes from which its line comes.
    """

    def __init__(self) -> None:
        self.lanes: dict[int, frozenset[str]] = {}
        self.last: int | None = None
        """Column of the node in the row above: its line may end there."""
        self.drawn = Drawn(Counter(), Counter(), set(), set())

    def row(self, text: str, name: str) -> None:
        columns = text[::2]
        assert set(text[1::2]) <= {" "}
        found: int | None = None
        for column, mark in enumerate(columns.ljust(max(self.lanes, default=0) + 1)):
            if mark in "●◉◆◈*@oO":
                above = self.lanes.pop(column, frozenset())
                if mark in "◉◈@O":
                    assert not above or column == self.last
                    self.drawn.heads.add(name)
                else:
                    assert above
                    self.drawn.edges.update((child, name) for child in above)
                if mark in "◆◈oO":
                    self.drawn.merges.add(name)
                self.lanes[column] = frozenset([name])
                found = column
            elif mark in "┊:":
                self.drawn.cut[self.lanes.pop(column)] += 1
            elif mark == " ":
                assert column == self.last or column not in self.lanes, "a lane breaks off"
                self.lanes.pop(column, None)
            else:
                assert mark in "│|"
                assert column in self.lanes, "a lane comes from nowhere"
        self.last = found

    def link(self, text: str) -> None:
        ways = {k // 2: directions(text, k) for k in range(0, len(text), 2)}
        joined = {c: way for c, way in ways.items() if way & {"left", "right"} and way & {"up", "down"}}
        first, last = min(joined), max(joined)
        assert set(text[2 * first + 1 : 2 * last : 2]) <= {"─", "-"}, "the horizontal line is broken"
        assert not set(text[1 : 2 * first : 2] + text[2 * last + 1 :: 2]) - {" "}
        for column in set(self.lanes) | set(ways):
            way = ways.get(column, set())
            assert ("up" in way) == (column in self.lanes) or column not in joined
            if column in self.lanes and column not in joined:
                assert way == {"up", "down"}
            if way == {"up", "down"}:
                assert column in self.lanes

        # The node above, and lanes that end here, lead to everything that goes down from the line.
        sources = {c for c, way in joined.items() if "up" in way and (c == self.last or "down" not in way)}
        flow = frozenset(name for column in sources for name in self.lanes.pop(column))
        for column, way in joined.items():
            if "down" in way:
                self.lanes[column] = self.lanes.get(column, frozenset()) | flow
        self.last = None


def directions(text: str, at: int) -> set[str]:
    """Where the lines of one character of a link row go."""
    left = at > 0 and text[at - 1] in "─-"
    right = text[at + 1 : at + 2] in {"─", "-"}
    ways = {
        " ": "", "│": "up down", "|": "up down", "─": "left right", "-": "left right",
        "├": "up down right", "┤": "up down left", "┼": "up down left right", "┬": "down left right",
        "┴": "up left right", "╮": "down left", "╯": "up left", "╭": "down right", "╰": "up right",
        "/": "up left" if left else "down right", "\\": "down left" if left else "up right",
        "+": "up down" + " left" * left + " right" * right, "'": "up left right", ".": "down left right",
    }  # fmt: skip
    found = set(ways[text[at]].split())
    if text[at] not in "│|":
        assert ("left" in found, "right" in found) == (left, right), "loose end of a line"
    return found


def read(lines: list[str]) -> Drawn:
    reader = Reader()
    for line in lines:
        text = prefix(line).rstrip()
        if label(line) or set("┊:") & set(text):
            reader.row(text, label(line))
        else:
            reader.link(text)
    assert set(reader.lanes) <= {reader.last}, "a lane runs out of the drawing"
    return reader.drawn


@pytest.mark.parametrize("drawing", ["◉ #2|├─╮|● #1", "◉ #2|  ● #1", "◉ #2|│ ◉ #1|├─╮|● #0", "◉ #2|┊ ┊"])
def test_the_reader_of_these_tests_refuses_broken_drawings(drawing: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        read(drawing.split("|"))


# -- size ------------------------------------------------------------------------------------


@pytest.mark.parametrize("oldest_first", [False, True])
def test_draw_streams_and_its_memory_does_not_grow_with_the_nodes(oldest_first: bool) -> None:
    step = -1 if oldest_first else 1
    endless = (Node(b"%d" % k, (b"%d" % (k + step),), "x", 1) for k in itertools.count())
    lines = draw(endless, oldest_first=oldest_first)
    peaks: list[int] = []
    tracemalloc.start()
    for count in (1_000, 20_000):
        for _ in itertools.islice(lines, count):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4096


# -- Graphviz --------------------------------------------------------------------------------

HOSTILE_LABELS = [
    '"]; x [label="', "\\", '\\"', "back\\nslash\\N", "&quot;&#34;", "<b>", "two\nlines", "\x00\x1b\udc80é",
]  # fmt: skip


def test_dot_names_every_node_and_edge() -> None:
    assert list(dot(nodes("b:aq a"))) == [
        "digraph log {",
        "  rankdir=BT;",
        '  node [shape=circle, style=dashed, label="?"];',
        '  "62" [shape=box, style=solid, label="b"];',
        '  "62" -> "61";',
        '  "62" -> "71";',
        '  "61" [shape=box, style=solid, label="a"];',
        "}",
    ]


@given(st.one_of(st.sampled_from(HOSTILE_LABELS), st.text()))
def test_dot_labels_cannot_leave_their_quotes(text: str) -> None:
    line = list(dot([Node(b"a", (), text)]))[3]
    quoted = line.removeprefix('  "61" [shape=box, style=solid, label="').removesuffix('"];')
    assert '"' not in quoted.replace("\\\\", "").replace('\\"', "")
    assert not quoted.replace("\\\\", "").endswith("\\")
    assert "&" not in quoted.replace("&amp;", "")
    assert "\n" not in line
    line.encode()


@pytest.mark.skipif(shutil.which("dot") is None, reason="SKIPPED: Graphviz is not installed")
def test_graphviz_accepts_hostile_labels() -> None:
    source = "\n".join(dot(Node(b"%d" % k, (b"p",), text) for k, text in enumerate(HOSTILE_LABELS)))
    plain = subprocess.run(["dot", "-Tplain"], input=source.encode(), capture_output=True, check=True).stdout
    assert plain.count(b"\nnode ") == len(HOSTILE_LABELS) + 1
