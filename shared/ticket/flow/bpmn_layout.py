"""Where to draw what: a plain left-to-right layout, columns by distance from the start, rows by order.

No crossing is minimised; the aim is a diagram that opens in any viewer with nothing on top of anything else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COLUMN, ROW, MARGIN = 180, 130, 60
SIZES = {"event": (36, 36), "gateway": (50, 50), "task": (100, 80)}

Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Box:
    """A shape: its upper left corner and size, in pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def left(self) -> Point:
        return self.x, self.y + self.height // 2

    @property
    def right(self) -> Point:
        return self.x + self.width, self.y + self.height // 2

    @property
    def bottom(self) -> Point:
        return self.x + self.width // 2, self.y + self.height


def place(start: str, shapes: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> dict[str, Box]:
    """A box for each shape (name → event, gateway or task)."""
    columns = _columns(start, list(shapes), edges)
    rows: dict[int, int] = defaultdict(int)
    boxes = {}
    for name in sorted(shapes, key=lambda one: columns[one]):
        width, height = SIZES[shapes[name]]
        column = columns[name]
        center_x, center_y = MARGIN + column * COLUMN + 50, MARGIN + rows[column] * ROW + 40
        boxes[name] = Box(center_x - width // 2, center_y - height // 2, width, height)
        rows[column] += 1
    return boxes


def attach(host: Box, index: int) -> Box:
    """A boundary event at the lower edge of its host."""
    width, height = SIZES["event"]
    return Box(host.x + 8 + index * (width + 6), host.y + host.height - height // 2, width, height)


def way(source: Box, target: Box, *, lowest: int, below: bool = False) -> list[Point]:
    """The bends of a connection: straight, in one step, or below everything when it leads back."""
    begin, end = (source.bottom if below else source.right), target.left
    if end[0] > begin[0]:
        middle = begin[0] if below else (begin[0] + end[0]) // 2
        bends = [begin, (middle, begin[1]), (middle, end[1]), end]
    else:
        out = begin[0] if below else begin[0] + 20
        bends = [begin, (out, begin[1]), (out, lowest), (end[0] - 20, lowest), (end[0] - 20, end[1]), end]
    return [point for index, point in enumerate(bends) if index == 0 or point != bends[index - 1]]


def _columns(start: str, names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The longest distance from the start over edges that do not lead back."""
    out: dict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        out[source].append(target)
    order, forward = _order(start, out)
    columns = dict.fromkeys(names, 0)
    for name in order:
        for target in forward[name]:
            columns[target] = max(columns[target], columns[name] + 1)
    return columns


def _order(start: str, out: Mapping[str, list[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """The nodes in an order in which edges lead forward, and those edges (the others close a loop)."""
    finished: list[str] = []
    forward: dict[str, list[str]] = defaultdict(list)
    state = {start: 1}
    stack = [(start, iter(out.get(start, [])))]
    while stack:
        name, targets = stack[-1]
        target = next(targets, None)
        if target is None:
            state[name] = 2
            finished.append(name)
            stack.pop()
        elif state.get(target) != 1:
            forward[name].append(target)
            if target not in state:
                state[target] = 1
                stack.append((target, iter(out.get(target, []))))
    return list(reversed(finished)), forward
