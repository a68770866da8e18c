"""What must be right about a flow before anything can be said about its runs: names, members, conditions, durations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shared.ticket.flow.findings import Code, Finding
from shared.ticket.flow.model import Back, Edge, Flow, Kind, Need, Node, Responsible, span

_NAME = re.compile(r"[^\W\d][\w.-]*\Z")
_RESERVED = frozenset({"outcome"})
_STAYING = ("responsible", "needs", "expected", "chain", "service", "outcomes", "on_reject", "jumps", "timers", "stage")
_JOINING = ("of", "need", "rest")
_ENDING = ("outcome", "terminate")

CompileCondition = Callable[[Mapping[str, Any]], Callable[[Mapping[str, Any]], bool]]


def shape_findings(flow: Flow, condition: CompileCondition) -> list[Finding]:
    """Everything that is wrong with the members of `flow`, each with the place where it is written."""
    return list(_Shape(flow, condition).all())


class _Shape:
    def __init__(self, flow: Flow, condition: CompileCondition) -> None:
        self._flow = flow
        self._condition = condition
        self._kinds = {node.name: node.kind for node in flow.nodes}

    def all(self) -> Iterator[Finding]:
        yield from self._whole()
        yield from self._responsible(self._flow.responsible, "responsible")
        yield from self._needs(self._flow.needs, "needs")
        for position, node in enumerate(self._flow.nodes):
            path = f"nodes[{position}]"
            yield from self._members(node, path)
            yield from self._edges(node, path)
            yield from self._jumps(node, path)
            yield from self._responsible(node.responsible, f"{path}.responsible")
            yield from self._needs(node.needs, f"{path}.needs")
            yield from self._times(node, path)

    def _whole(self) -> Iterator[Finding]:
        if not self._flow.nodes:
            yield _bad("nodes", "a flow has at least one node")
            return
        for position, node in enumerate(self._flow.nodes):
            if not _NAME.match(node.name):
                text = "a name begins with a letter and has letters, digits, dots, dashes and underscores"
                yield _bad(f"nodes[{position}].name", f"{node.name!r}: {text}")
        for name, times in Counter(node.name for node in self._flow.nodes).items():
            if times > 1:
                yield _bad("nodes", f"{times} nodes are called {name}")
        starts = [node.name for node in self._flow.nodes if node.kind is Kind.START]
        if len(starts) > 1:
            yield _bad("nodes", f"more than one start: {', '.join(starts)}")
        if self._flow.start is not None:
            yield from self._known(self._flow.start, "start")
            if starts and starts != [self._flow.start]:
                yield _bad("start", f"the start is {starts[0]}")

    def _known(self, name: str, path: str, kind: Kind | None = None) -> Iterator[Finding]:
        if name not in self._kinds:
            yield Finding(path, Code.UNKNOWN_NODE, f"there is no node {name}")
        elif kind is not None and self._kinds[name] is not kind:
            yield _bad(path, f"{name} is a {self._kinds[name]}, not a {kind}")

    def _members(self, node: Node, path: str) -> Iterator[Finding]:
        default = Node(name=node.name)
        groups = ((_STAYING, node.stays), (_JOINING, node.kind is Kind.JOIN), (_ENDING, node.kind is Kind.END))
        for members, belong in groups:
            for member in members:
                if not belong and getattr(node, member) != getattr(default, member):
                    yield _bad(f"{path}.{member}", f"a node of kind {node.kind} has no {member}")
        if node.kind is Kind.END and node.next:
            yield _bad(f"{path}.next", "nothing follows an end")
        if node.service is not None and node.kind is not Kind.SERVICE:
            yield _bad(f"{path}.service", "only a service has a connector")
        if node.of is not None:
            yield from self._known(node.of, f"{path}.of", Kind.FORK)
        if isinstance(node.need, int) and node.need < 1:
            yield _bad(f"{path}.need", "at least one branch is needed")
        for name, times in Counter(node.outcomes).items():
            if times > 1 or not name.strip():
                yield _bad(f"{path}.outcomes", f"outcome {name!r} is blank or named twice")

    def _edges(self, node: Node, path: str) -> Iterator[Finding]:
        fork = node.kind is Kind.FORK
        defaults = [edge for edge in node.edges if edge.default or (edge.when is None and not fork)]
        if len(defaults) > 1:
            text = "is taken" if fork else "is taken when no condition holds"
            yield _bad(
                f"{path}.next", f"only one transition {text}, but {' and '.join(e.to for e in defaults)} would be"
            )
        for index, edge in enumerate(node.edges):
            here = f"{path}.next[{index}]"
            yield from self._known(edge.to, f"{here}.to")
            yield from self._edge(edge, here, fork)

    def _edge(self, edge: Edge, path: str, fork: bool) -> Iterator[Finding]:
        if edge.when is not None:
            yield from self._when(edge.when, f"{path}.when")
        if edge.default and edge.when is not None:
            yield _bad(path, "a default has no condition")
        if self._kinds.get(edge.to) is Kind.START:
            yield _bad(f"{path}.to", "nothing leads to a start")
        if edge.siblings is not None and fork:
            yield _bad(f"{path}.siblings", "a fork does not leave itself; put it on a transition of a branch")
        if edge.siblings is not None and self._kinds.get(edge.to) is Kind.JOIN:
            yield _bad(f"{path}.siblings", f"{edge.to} is a join; nothing is left on the way to it")

    def _jumps(self, node: Node, path: str) -> Iterator[Finding]:
        targets = [(f"{path}.jumps[{index}].to", jump.to) for index, jump in enumerate(node.jumps)]
        if isinstance(node.on_reject, Back):
            targets.append((f"{path}.on_reject.back", node.on_reject.back))
        for here, name in targets:
            yield from self._known(name, here)
            if self._kinds.get(name) in (Kind.JOIN, Kind.START):
                yield Finding(here, Code.UNSAFE_JUMP, f"{name} is a {self._kinds[name]}; one cannot jump there")
        for name, times in Counter(jump.to for jump in node.jumps).items():
            if times > 1:
                yield _bad(f"{path}.jumps", f"{times} jumps lead to {name}")

    def _responsible(self, responsible: Responsible | None, path: str) -> Iterator[Finding]:
        if responsible is None:
            return
        if len(responsible.given) != 1:
            yield _bad(path, "say exactly one of role, group, person, same_as, ticket")
        if responsible.same_as is not None:
            yield from self._known(responsible.same_as, f"{path}.same_as")

    def _needs(self, needs: list[Need], path: str) -> Iterator[Finding]:
        for index, need in enumerate(needs):
            here = f"{path}[{index}]"
            if sum(1 for name in (need.field, need.attachment, need.check) if name) != 1:
                yield _bad(here, "say exactly one of field, attachment, check")
            if need.name in _RESERVED:
                yield _bad(here, f"{need.name} is a reserved name")
            if need.count < 1 or (need.count > 1 and need.attachment is None):
                yield _bad(f"{here}.count", "is how many attachments, at least 1")
            if need.when is not None:
                yield from self._when(need.when, f"{here}.when")
        for name, times in Counter(need.name for need in needs).items():
            if times > 1:
                yield _bad(path, f"{name} is needed {times} times")

    def _times(self, node: Node, path: str) -> Iterator[Finding]:
        times = [] if node.expected is None else [(f"{path}.expected", node.expected)]
        for index, timer in enumerate(node.timers):
            times.append((f"{path}.timers[{index}].after", timer.after))
            yield from self._known(timer.to, f"{path}.timers[{index}].to")
        for here, written in times:
            try:
                if not span(written):
                    yield _bad(here, "is longer than nothing")
            except ValueError as error:
                yield _bad(here, str(error))

    def _when(self, when: Mapping[str, Any], path: str) -> Iterator[Finding]:
        try:
            self._condition(when)
        except ValueError as error:
            yield Finding(path, Code.IMPOSSIBLE, str(error))


def _bad(path: str, message: str) -> Finding:
    return Finding(path, Code.BAD_SHAPE, message)
