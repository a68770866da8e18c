"""Random sound flows, made as trees of nested blocks and drawn as flows."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any


@dataclass(frozen=True)
class Task:
    """One task; `reject` is what the outcome `rejected` does: nothing special, end, vote, back-own, back-root."""

    name: str
    reject: str | None = None


@dataclass(frozen=True)
class Choice:
    """A task whose outcome `o0`, `o1`, … says which block follows."""

    task: Task
    options: tuple[Block, ...]


@dataclass(frozen=True)
class Loop:
    """A block, then a task whose outcome `again` repeats it."""

    body: Block
    task: Task


@dataclass(frozen=True)
class Seq:
    """Blocks one after the other."""

    items: tuple[Block, ...]


@dataclass(frozen=True)
class Par:
    """Branches at once, joined by `need` (all, any, a number); `keep`: what is not needed goes on beside."""

    name: str
    branches: tuple[Seq, ...]
    need: str | int
    keep: bool


Block = Task | Choice | Loop | Seq | Par


@dataclass
class TreeMaker:
    """Makes random trees of about `size` tasks."""

    random: Random
    size: int
    _names: int = field(default=0)

    def tree(self) -> Seq:
        return Seq((*self._seq(0).items, Task(self._name("t"))))

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def _seq(self, depth: int) -> Seq:
        return Seq(tuple(self._block(depth) for _ in range(self.random.randint(1, 3))))

    def _task(self, depth: int, *, plain: bool = False) -> Task:
        policies = [None, None, None, "back-own", "back-root", "vote" if depth else None, "vote" if depth else None]
        policies.append("end" if self.random.random() < 0.1 else None)
        return Task(self._name("t"), None if plain else self.random.choice(policies))

    def _block(self, depth: int) -> Block:
        kind = self.random.random()
        if self._names > self.size or depth > 3 or kind < 0.4:
            return self._task(depth)
        if kind < 0.55:
            return Choice(
                self._task(depth, plain=True), tuple(self._seq(depth) for _ in range(self.random.randint(2, 3)))
            )
        if kind < 0.65:
            return Loop(self._seq(depth), self._task(depth, plain=True))
        branches = tuple(self._seq(depth + 1) for _ in range(self.random.randint(2, 4)))
        need = self.random.choice(["all", "all", "any", self.random.randint(1, len(branches))])
        return Par(self._name("f"), branches, need, self.random.random() < 0.4)


def drawn(tree: Seq) -> list[dict[str, Any]]:
    """The tree as the nodes of a flow; the first node is its start, the last its end."""
    pen = _Pen()
    start = pen.block(tree, "end", None)
    pen.nodes.append({"name": "end", "kind": "end"})
    nodes = [{**node, **_rejection(node, start)} for node in pen.nodes]
    return sorted(nodes, key=lambda node: node["name"] != start)


def _rejection(node: dict[str, Any], start: str) -> dict[str, Any]:
    back = node.get("on_reject")
    return {"on_reject": {"back": start, "siblings": "cancel"}} if back == "back-root" else {}


class _Pen:
    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []

    def block(self, block: Block, after: str, own: str | None) -> str:
        """Draw a block that goes on at `after`; return where it begins. `own` is where its branch begins, once known."""
        if isinstance(block, Seq):
            return self._seq(block, after, own)
        if isinstance(block, Task):
            return self._task(block, after, own)
        if isinstance(block, Choice):
            ways = [
                {"to": self.block(option, after, own or _first(block)), "when": {"outcome": f"o{index}"}}
                for index, option in enumerate(block.options)
            ]
            outcomes = [f"o{index}" for index in range(len(block.options))]
            self.nodes.append({"name": block.task.name, "outcomes": outcomes, "next": ways})
            return block.task.name
        if isinstance(block, Loop):
            begin = _first(block)
            self.block(block.body, block.task.name, own or begin)
            again = {"to": begin, "when": {"outcome": "again"}}
            self.nodes.append({"name": block.task.name, "outcomes": ["again", "on"], "next": [again, after]})
            return begin
        join = f"{block.name}.join"
        branches = [self.block(branch, join, None) for branch in block.branches]
        self.nodes.append({"name": block.name, "kind": "fork", "next": branches})
        rest = "keep" if block.keep else "cancel"
        self.nodes.append({"name": join, "kind": "join", "need": block.need, "rest": rest, "next": after})
        return block.name

    def _seq(self, seq: Seq, after: str, own: str | None) -> str:
        own = own or _first(seq)
        for item in reversed(seq.items):
            after = self.block(item, after, own)
        return after

    def _task(self, task: Task, after: str, own: str | None) -> str:
        node: dict[str, Any] = {"name": task.name, "next": after}
        if task.reject is not None:
            node["on_reject"] = {"back": own or task.name} if task.reject == "back-own" else task.reject
        self.nodes.append(node)
        return task.name


def _first(block: Block) -> str:
    if isinstance(block, Seq):
        return _first(block.items[0])
    if isinstance(block, Loop):
        return _first(block.body)
    return block.task.name if isinstance(block, Choice) else block.name
