"""A flow made ready to run: names resolved, conditions compiled, structure found. Compile once, share freely."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.ticket.flow.findings import FlowUnsound
from shared.ticket.flow.graph import Graph, graph_of
from shared.ticket.flow.model import Flow, Kind, Need, Node, Siblings
from shared.ticket.flow.shape import shape_findings
from shared.ticket.flow.structure import Structure, structure_of

Facts = Mapping[str, Any]
Test = Callable[[Facts], bool]
CompileCondition = Callable[[Mapping[str, Any]], Test]
"""Turns a condition as written into a test over flat facts; raises `ValueError` for one that makes no sense."""


@dataclass(frozen=True, slots=True)
class Route:
    """A transition ready to be asked. `test` is None for one without a condition."""

    index: int
    to: str
    test: Test | None
    default: bool
    siblings: Siblings | None


@dataclass(frozen=True, slots=True)
class Program:
    """A runnable flow; made by `compile_flow`."""

    flow: Flow
    nodes: Mapping[str, Node]
    routes: Mapping[str, tuple[Route, ...]]
    needs: Mapping[str, tuple[tuple[Need, Test | None], ...]]
    graph: Graph
    structure: Structure

    @property
    def start(self) -> str:
        return self.flow.start_name


OPENING = ""
"""The key of `Program.needs` for what must be there before a case is opened (node names are never empty)."""


def compile_flow(flow: Flow, condition: CompileCondition) -> Program:
    """Make `flow` runnable; `condition` compiles the `when` of transitions and needs.

    Raises `FlowUnsound` when names are unknown or doubled, members contradict each other or a condition is refused. That is
    the least a flow must keep to be run at all; `proof.prove` says whether it is sound.
    """
    findings = shape_findings(flow, condition)
    if findings:
        raise FlowUnsound(tuple(findings))
    graph = graph_of(flow)
    needs = {node.name: _needs(node.needs, condition) for node in flow.nodes}
    return Program(
        flow=flow,
        nodes={node.name: node for node in flow.nodes},
        routes={node.name: _routes(node, condition) for node in flow.nodes},
        needs={**needs, OPENING: _needs(flow.needs, condition)},
        graph=graph,
        structure=structure_of(flow, graph),
    )


def _needs(needs: list[Need], condition: CompileCondition) -> tuple[tuple[Need, Test | None], ...]:
    return tuple((need, None if need.when is None else condition(need.when)) for need in needs)


def _routes(node: Node, condition: CompileCondition) -> tuple[Route, ...]:
    exclusive = node.kind is not Kind.FORK
    return tuple(
        Route(
            index,
            edge.to,
            None if edge.when is None else condition(edge.when),
            edge.default or (exclusive and edge.when is None),
            edge.siblings,
        )
        for index, edge in enumerate(node.edges)
    )
