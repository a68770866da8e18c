"""The flow as a graph: who leads to whom, what is reachable, what dominates what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.ticket.flow.model import Back, Flow, Kind, Node, Siblings


class Via(StrEnum):
    """How one gets from a node to the next."""

    NEXT = "next"  # a transition
    TIMER = "timer"  # a timer that interrupts
    SIDE = "side"  # a timer that does not: a further token
    JUMP = "jump"  # on purpose: a declared jump, a reject policy, a transition with `siblings`


@dataclass(frozen=True, slots=True)
class Link:
    """One way from `source` to `to`; `index` counts the transitions of the source, `path` says where it is written."""

    source: str
    to: str
    via: Via
    index: int
    path: str
    siblings: Siblings | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """All links of a flow, by source; unknown names are left out."""

    start: str
    kinds: Mapping[str, Kind]
    out: Mapping[str, tuple[Link, ...]]

    def flowing(self, name: str) -> list[Link]:
        """The links that tokens take by themselves: all but jumps."""
        return [link for link in self.out[name] if link.via is not Via.JUMP]

    def all_links(self) -> Iterable[Link]:
        """Every link."""
        return (link for links in self.out.values() for link in links)

    def reach(self, starts: Iterable[str], *, avoid: Collection[str] = (), jumps: bool = False) -> set[str]:
        """The nodes reachable from `starts` (these included) without passing through `avoid`."""
        seen: set[str] = set()
        todo = [name for name in starts if name not in avoid]
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            links = self.out[name] if jumps else self.flowing(name)
            todo.extend(link.to for link in links if link.to not in avoid)
        return seen

    def way_to(self, target: str) -> tuple[str, ...]:
        """A shortest way from the start to `target`, both included; empty when there is none."""
        before: dict[str, str | None] = {self.start: None}
        todo = [self.start]
        for name in todo:
            for link in self.out[name]:
                if link.to not in before:
                    before[link.to] = name
                    todo.append(link.to)
        if target not in before:
            return ()
        way: list[str] = [target]
        while (previous := before[way[-1]]) is not None:
            way.append(previous)
        return tuple(reversed(way))

    def dominators(self) -> dict[str, set[str]]:
        """For each reachable node, the nodes that lie on every way to it (itself included), jumps to new places counted."""
        flowing = self.reach([self.start])
        edges = [link for link in self.all_links() if link.via is not Via.JUMP or link.to not in flowing]
        known = self.reach([self.start], jumps=True)
        before: dict[str, set[str]] = {name: set() for name in known}
        for link in edges:
            if link.source in known:
                before[link.to].add(link.source)
        found = {name: set(known) for name in known}
        found[self.start] = {self.start}
        changed = True
        while changed:
            changed = False
            for name in known - {self.start}:
                sources = [found[source] for source in before[name]]
                now = (set.intersection(*sources) if sources else set()) | {name}
                if now != found[name]:
                    found[name], changed = now, True
        return found


def graph_of(flow: Flow) -> Graph:
    """The graph of a flow."""
    names = {node.name for node in flow.nodes}
    out: dict[str, tuple[Link, ...]] = {}
    for position, node in enumerate(flow.nodes):
        out.setdefault(node.name, tuple(link for link in _links(node, f"nodes[{position}]") if link.to in names))
    return Graph(flow.start_name, {node.name: node.kind for node in flow.nodes}, out)


def _links(node: Node, path: str) -> Iterable[Link]:
    for index, edge in enumerate(node.edges):
        via = Via.NEXT if edge.siblings is None else Via.JUMP
        yield Link(node.name, edge.to, via, index, f"{path}.next[{index}]", edge.siblings)
    for index, timer in enumerate(node.timers):
        via = Via.TIMER if timer.interrupts else Via.SIDE
        yield Link(node.name, timer.to, via, index, f"{path}.timers[{index}]")
    for index, jump in enumerate(node.jumps):
        yield Link(node.name, jump.to, Via.JUMP, index, f"{path}.jumps[{index}]", jump.siblings)
    if isinstance(node.on_reject, Back):
        yield Link(node.name, node.on_reject.back, Via.JUMP, 0, f"{path}.on_reject", node.on_reject.siblings)
