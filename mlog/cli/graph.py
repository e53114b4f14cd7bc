"""Drawing a DAG as text with lanes, and as Graphviz source.

Newest first, a lane runs down from a node and waits for one parent; children that share a parent
share its lane, so there are never more lanes than parents still to come. Oldest first is the same
picture upside down: a lane belongs to one node and runs until the last of its children. A row that
links lanes stands between the node that it belongs to and that node's parents:

    ◈ merge        newest first   ◈ head that is a merge
    ├─╮                           ◆ merge
    │ ● right                     ◉ head: no child is drawn
    ● │ left                      ┊ the parent is not in the drawing
    ├─╯                           » more lanes than fit, drawn as one
    ● root                       ─│─ a lane crosses without touching; ┼ ├ ┤ touch

Invariant: the lines can be followed back to exactly the edges that were given
(tests/cli/test_graph.py does so), unless lanes were folded into `»`. A horizontal line leads from
the node beside it to that node's parents; any other lane that ends in one goes where it goes.
Memory grows with the lanes, not with the nodes.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

from mlog.cli.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["LANES_MAX", "Node", "dot", "draw"]

LANES_MAX: Final = 24
"""Lanes drawn side by side: 48 columns leave room for text on a terminal of 80."""


class Node(NamedTuple):
    """One node of the drawing.

    Attributes:
        id: Name that other nodes use for it.
        parents: Names of its parents; the first keeps the node's lane.
        label: Text beside it: one line, already `terminal.safe`.
        children: How many nodes of the drawing name it as a parent, where that is known. Only a
            drawing with the oldest first asks.
    """

    id: bytes
    parents: tuple[bytes, ...]
    label: str
    children: int | None = None


def draw(
    nodes: Iterable[Node],
    *,
    oldest_first: bool = False,
    unicode: bool = True,
    lanes_max: int = LANES_MAX,
    absent: Callable[[bytes], bool] | None = None,
) -> Iterator[str]:
    """Lines of a drawing, made as nodes arrive.

    Args:
        nodes: In the order of display: every node before its parents, or, oldest first, after
            them. Out of that order nothing fails, but the edge is drawn as to a missing parent.
        oldest_first: Nodes come oldest first. A node with `children` None makes this read all
            nodes before it goes on, because nothing else says when a lane ends.
        unicode: Box characters; else ASCII.
        lanes_max: Lanes side by side; those beyond it are folded into one column.
        absent: Says of a parent that it will not come, so that its lane ends at once. Without
            it, lanes to missing parents run to the end of the drawing. Newest first only.
    """
    canvas = _Canvas(_UNICODE if unicode else _ASCII, max(lanes_max, 1))
    return _oldest_first(nodes, canvas) if oldest_first else _newest_first(nodes, canvas, absent)


def dot(nodes: Iterable[Node]) -> Iterator[str]:
    """Lines of Graphviz source, edges from child to parent, in any order of nodes.

    A parent that is not among the nodes keeps the dashed default that is declared first.
    """
    yield "digraph log {"
    yield "  rankdir=BT;"
    yield '  node [shape=circle, style=dashed, label="?"];'
    for node in nodes:
        name = node.id.hex()
        yield f'  "{name}" [shape=box, style=solid, label="{_dot_text(node.label)}"];'
        for parent in dict.fromkeys(node.parents):
            yield f'  "{name}" -> "{parent.hex()}";'
    yield "}"


def _dot_text(text: str) -> str:
    # Graphviz reads backslash escapes and HTML entities in quoted strings.
    return safe(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


# -- what is drawn with ----------------------------------------------------------------------

_UP: Final = 1
_DOWN: Final = 2
_LEFT: Final = 4
_RIGHT: Final = 8
_FREE: Final = " "


class _Pen(NamedTuple):
    """One character set. `nodes` is indexed by head + 2 * merge, `joints` by directions."""

    nodes: str
    joints: str
    gap: str
    more: str


_UNICODE: Final = _Pen(nodes="●◉◆◈", joints=" ╵╷│╴╯╮┤╶╰╭├─┴┬┼", gap="┊", more="»")
_ASCII: Final = _Pen(nodes="*@oO", joints=" '.|-/\\+-\\/+-'.+", gap=":", more=">")


class _Canvas:
    """The lanes of one row: which columns are taken, and how rows look.

    Columns never shift: a new lane takes the leftmost free one, which keeps the drawing narrow and
    makes a lane easy to follow.
    """

    def __init__(self, pen: _Pen, lanes_max: int):
        self._pen = pen
        self._lane = pen.joints[_UP | _DOWN]
        self._limit = lanes_max
        self._cells: list[str] = []
        """A lane or _FREE for each column; the last is never free."""
        self._free: list[int] = []
        """Heap of the free columns; may also hold columns beyond the last."""

    def take(self) -> int:
        """Start a lane in the leftmost free column."""
        if self._free:
            column = heappop(self._free)
            if column < len(self._cells):
                self._cells[column] = self._lane
                return column
            self._free.clear()
        self._cells.append(self._lane)
        return len(self._cells) - 1

    def release(self, column: int) -> None:
        """End the lane in this column."""
        cells = self._cells
        cells[column] = _FREE
        if column < len(cells) - 1:
            heappush(self._free, column)
        else:
            while cells and cells[-1] == _FREE:
                cells.pop()

    def node(self, column: int, node: Node, *, head: bool, merge: bool) -> str:
        """The row of a node, whose column is taken."""
        return f"{self._row((column,), self._pen.nodes[head + 2 * merge])} {node.label}"

    def gaps(self, columns: Iterable[int]) -> str:
        """A row that marks these lanes, all taken, as cut off."""
        return self._row(columns, self._pen.gap)

    def link(self, touched: Mapping[int, int]) -> Iterator[str]:
        """The row that joins columns, drawn after lanes were taken and released; or none.

        Args:
            touched: For each column joined, whether it goes _UP, _DOWN or both.
        """
        first, last = min(touched), max(touched)
        if first == last or first >= self._limit:
            return
        joints = self._pen.joints
        cells = self._cells[: self._limit]
        cells.extend(_FREE * (min(last + 1, self._limit) - len(cells)))
        line = ""
        for column, cell in enumerate(cells):
            if column in touched:
                sides = (_LEFT if column > first else 0) | (_RIGHT if column < last else 0)
                line += joints[touched[column] | sides]
            elif cell == _FREE and first < column < last:
                line += joints[_LEFT | _RIGHT]
            else:
                line += cell
            line += joints[_LEFT | _RIGHT] if first <= column < last else _FREE
        if max(last + 1, len(self._cells)) > self._limit:
            line += self._pen.more
        yield line.rstrip()

    def _row(self, columns: Iterable[int], mark: str) -> str:
        cells = self._cells[: self._limit]
        if len(self._cells) > self._limit:
            cells.append(self._pen.more)
        for column in columns:
            if column < self._limit or mark is not self._pen.gap:
                cells[min(column, self._limit)] = mark
        return " ".join(cells)


# -- the two orders --------------------------------------------------------------------------


def _newest_first(
    nodes: Iterable[Node], canvas: _Canvas, absent: Callable[[bytes], bool] | None
) -> Iterator[str]:
    awaited: dict[bytes, int] = {}
    for node in nodes:
        known = awaited.pop(node.id, None)
        column = canvas.take() if known is None else known
        parents = dict.fromkeys(node.parents)
        yield canvas.node(column, node, head=known is None, merge=len(parents) > 1)

        touched = {column: _UP}
        cut: list[int] = []
        canvas.release(column)
        for parent in parents:
            lane = awaited.get(parent)
            if lane is None:
                lane = canvas.take()
            else:
                touched[lane] = _UP
                if len(parents) == 1:
                    # Both lanes lead to one place, so they may meet further left. With several
                    # parents nobody could tell which of them the other lane goes to.
                    canvas.release(lane)
                    lane = canvas.take()
            touched[lane] = touched.get(lane, 0) | _DOWN
            if absent is not None and parent not in awaited and absent(parent):
                cut.append(lane)
            else:
                awaited[parent] = lane
        yield from canvas.link(touched)
        if cut:
            yield canvas.gaps(cut)
            for lane in cut:
                canvas.release(lane)
    if awaited:
        yield canvas.gaps(awaited.values())


def _oldest_first(nodes: Iterable[Node], canvas: _Canvas) -> Iterator[str]:
    lanes: dict[bytes, tuple[int, int]] = {}
    """For each node that waits for children: its column, and how many are to come."""
    for node, children in _with_children(nodes):
        parents = dict.fromkeys(node.parents)
        cut = [canvas.take() for parent in parents if parent not in lanes]
        if cut:
            yield canvas.gaps(cut)

        touched = dict.fromkeys(cut, _UP)
        ended = cut
        for parent in parents:
            if parent in lanes:
                lane, more = lanes[parent]
                if more > 1:
                    touched[lane] = _UP | _DOWN
                    lanes[parent] = lane, more - 1
                else:
                    touched[lane] = _UP
                    ended.append(lane)
                    del lanes[parent]
        for lane in ended:
            canvas.release(lane)
        column = canvas.take()
        touched[column] = touched.get(column, 0) | _DOWN
        yield from canvas.link(touched)

        yield canvas.node(column, node, head=children == 0, merge=len(parents) > 1)
        if children and node.id not in lanes:
            lanes[node.id] = column, children
        else:
            canvas.release(column)
    if lanes:
        yield canvas.gaps(column for column, _ in lanes.values())


def _with_children(nodes: Iterable[Node]) -> Iterator[tuple[Node, int]]:
    """Each node with its number of children; counts them itself from the first that lacks it."""
    rest = iter(nodes)
    for node in rest:
        if node.children is None:
            uncounted = [node, *rest]
            counts = Counter(parent for node in uncounted for parent in set(node.parents))
            yield from ((node, counts[node.id]) for node in uncounted)
            return
        yield node, node.children
