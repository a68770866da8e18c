"""Whether a flow is sound, before it is published: every fault with a way that leads to it.

First what can be said from the drawing (names, structure, owners, ends, conditions), then, when that is sound, what only
shows when cases run: a bounded exploration with the engine itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from shared.ticket.flow.explore import ANY_OUTCOME, explore
from shared.ticket.flow.findings import Code, Finding
from shared.ticket.flow.graph import Link, Via
from shared.ticket.flow.model import FAILED, PASSED, REJECTED, Edge, Flow, Kind, Need, Node, Siblings
from shared.ticket.flow.program import CompileCondition, Program, Route, compile_flow
from shared.ticket.flow.satisfiable import Known, Written, possible
from shared.ticket.flow.shape import shape_findings
from shared.ticket.flow.structure import contains

MAX_BRANCHES_TRIED = 5
"""Of a fork with more conditional branches than this, not every combination is tried: each alone, and all."""


def prove(flow: Flow, condition: CompileCondition, *, lists: Collection[str] = ()) -> list[Finding]:
    """Return what is wrong with `flow`; nothing when it is sound.

    `condition` compiles conditions and raises `ValueError` for those the caller's schema does not allow; `lists` names the
    facts that hold lists, of which several values can be true at once.
    """
    shape = shape_findings(flow, condition)
    if shape:
        return shape
    program = compile_flow(flow, condition)
    proof = _Proof(program, lists)
    drawn = [*program.structure.findings, *proof.all()]
    if drawn:
        return drawn
    explored = explore(program, proof.choices)
    if not explored.findings and explored.complete:
        explored.findings.extend(proof.unused(explored.joined, explored.visited))
    return explored.findings


class _Proof:
    def __init__(self, program: Program, lists: Collection[str]) -> None:
        self._program = program
        self._graph = program.graph
        self._lists = lists
        self._paths = {node.name: f"nodes[{index}]" for index, node in enumerate(program.flow.nodes)}
        self._dominators = program.graph.dominators()
        self._outcomes = _outcomes_on_the_way(program)
        self._choices: dict[tuple[str, str | None], list[list[Route]]] = {}

    def all(self) -> Iterator[Finding]:
        """Everything the drawing shows, node by node."""
        reached = self._graph.reach([self._program.start], jumps=True)
        ends = {name for name, kind in self._graph.kinds.items() if kind is Kind.END}
        for name, node in self._program.nodes.items():
            if name not in reached:
                yield self._finding(node, "", Code.UNREACHABLE, f"no way leads to {name}")
                continue
            if node.kind is not Kind.END and not self._ends(node, ends):
                yield self._finding(node, "", Code.NO_END, f"from {name} no end can be reached")
            if node.stays and self._program.flow.responsible_for(node) is None:
                yield self._finding(node, ".responsible", Code.NO_OWNER, f"nobody is responsible for {name}")
            yield from self._exits(node)
            yield from self._conditions(node)
            yield from self._join(node)
            yield from self._jumps(node)
        yield from self._side_ways()
        yield from self._loops()

    def unused(self, joined: Collection[str], visited: Collection[str]) -> Iterator[Finding]:
        """What a complete exploration never came to."""
        for name, node in self._program.nodes.items():
            if node.kind is Kind.JOIN and name not in joined:
                yield self._finding(node, "", Code.DEAD_JOIN, f"join {name} never goes on")
            if node.stays and name not in visited:
                yield self._finding(node, "", Code.UNREACHABLE, f"no case ever comes to {name}")

    def _finding(self, node: Node, member: str, code: Code, message: str, *more: str) -> Finding:
        return Finding(self._paths[node.name] + member, code, message, (*self._graph.way_to(node.name), *more))

    # ---- exits and owners --------------------------------------------------------------------------------------------------

    def _ends(self, node: Node, ends: set[str]) -> bool:
        reached = self._graph.reach([node.name], jumps=True)
        return bool(reached & ends) or any(self._program.nodes[name].on_reject == "end" for name in reached)

    def _exits(self, node: Node) -> Iterator[Finding]:
        if node.kind is Kind.END:
            return
        if not node.edges:
            yield self._finding(node, ".next", Code.NO_EXIT, f"nothing follows {node.name}")
            return
        for outcome in self._departing(node.name):
            if not self.choices(node.name, outcome):
                with_it = "" if outcome in (None, ANY_OUTCOME) else f" with outcome {outcome}"
                text = f"a case at {node.name}{with_it} may meet no condition, and there is no default"
                yield self._finding(node, ".next", Code.NO_EXIT, text, *([f"({outcome})"] if with_it else []))
                return
            none_holds: list[tuple[Written, bool]] = [(e.when, False) for e in node.edges if e.when is not None]
            default = any(edge.default or edge.when is None for edge in node.edges)
            if not default and self._possible(none_holds, node.name, outcome):
                text = f"a case at {node.name} may meet none of the conditions, and there is no default"
                yield self._finding(
                    node, ".next", Code.NO_EXIT, text, *([f"({outcome})"] if outcome != ANY_OUTCOME else [])
                )
                return

    def _departing(self, name: str) -> list[str | None]:
        """The outcomes with which tokens take the transitions of a node, as far as they are certain to occur."""
        node = self._program.nodes[name]
        if node.kind is Kind.JOIN:
            votes = name in self._program.structure.votes.values()
            return [PASSED, FAILED] if votes else [PASSED]
        return sorted(self._outcomes.get(name, {ANY_OUTCOME}), key=str)

    # ---- conditions --------------------------------------------------------------------------------------------------------

    def choices(self, name: str, outcome: str | None) -> list[list[Route]]:
        """The transitions that may be taken together from a node, as far as the conditions tell."""
        key = (name, outcome)
        if key not in self._choices:
            node = self._program.nodes[name]
            self._choices[key] = (
                self._branches(name, outcome) if node.kind is Kind.FORK else self._one_of(name, outcome)
            )
        return self._choices[key]

    def _one_of(self, name: str, outcome: str | None) -> list[list[Route]]:
        edges, routes = self._program.nodes[name].edges, self._program.routes[name]
        found, earlier = [], list[tuple[Written, bool]]()
        for route, edge in zip(routes, edges, strict=True):
            if edge.when is not None:
                if self._possible([*earlier, (edge.when, True)], name, outcome):
                    found.append([route])
                earlier.append((edge.when, False))
        default = [route for route in routes if route.default]
        if default and self._possible(earlier, name, outcome):
            found.append(default)
        return found

    def _branches(self, name: str, outcome: str | None) -> list[list[Route]]:
        edges, routes = self._program.nodes[name].edges, self._program.routes[name]
        always = [r for r, e in zip(routes, edges, strict=True) if e.when is None and not r.default]
        asked = [(r, e) for r, e in zip(routes, edges, strict=True) if e.when is not None]
        sizes = range(len(asked) + 1) if len(asked) <= MAX_BRANCHES_TRIED else (0, 1, len(asked))
        found = []
        for size in sizes:
            for taken in combinations(asked, size):
                wanted = [(e.when, (r, e) in taken) for r, e in asked if e.when is not None]
                chosen = [*always, *(r for r, _ in taken)] or [r for r in routes if r.default]
                if chosen and self._possible(wanted, name, outcome):
                    found.append(sorted(chosen, key=lambda route: route.index))
        return found

    def _possible(self, wanted: Sequence[tuple[Written, bool]], name: str, outcome: str | None) -> bool:
        values = {} if outcome == ANY_OUTCOME else {"outcome": outcome}
        return possible(wanted, Known(values, self._present(name), self._lists))

    def _present(self, name: str) -> set[str]:
        """Facts that are there for certain when a case departs from a node: fields needed at or before it."""
        nodes = [self._program.nodes[before] for before in self._dominators.get(name, {name})]
        needs = [*self._program.flow.needs, *(need for node in nodes for need in node.needs)]
        return {f"fields.{need.field}" for need in needs if need.field is not None and need.when is None}

    def _conditions(self, node: Node) -> Iterator[Finding]:
        outcomes = self._asked(node.name)
        earlier: list[tuple[Written, bool]] = []
        for index, edge in enumerate(node.edges):
            if edge.when is None:
                continue
            path = f".next[{index}].when"
            if not any(self._possible([(edge.when, True)], node.name, one) for one in outcomes):
                yield self._finding(node, path, Code.IMPOSSIBLE, _never(edge, outcomes))
            elif not any(self._possible([*earlier, (edge.when, True)], node.name, one) for one in outcomes):
                text = f"the way to {edge.to} is never taken: earlier transitions always are"
                yield self._finding(node, path, Code.IMPOSSIBLE, text)
            if node.kind is not Kind.FORK:
                earlier.append((edge.when, False))
        for index, need in enumerate(node.needs):
            if need.when is not None and not self._need_possible(node, need):
                text = f"{need.name} is never needed: its condition cannot be true"
                yield self._finding(node, f".needs[{index}].when", Code.IMPOSSIBLE, text)

    def _need_possible(self, node: Node, need: Need) -> bool:
        assert need.when is not None
        also = [REJECTED] if node.on_reject is not None else []
        outcomes = [*node.outcomes, *also] if node.outcomes else [ANY_OUTCOME]
        return any(self._possible([(need.when, True)], node.name, one) for one in outcomes)

    def _asked(self, name: str) -> list[str | None]:
        """The outcomes a condition of the node may ask for."""
        if self._program.nodes[name].kind is Kind.JOIN:
            return [PASSED, FAILED]
        return sorted(self._outcomes.get(name, {ANY_OUTCOME}), key=str)

    # ---- joins, jumps, timers, loops ---------------------------------------------------------------------------------------

    def _join(self, node: Node) -> Iterator[Finding]:
        plan = self._program.structure.joins.get(node.name)
        if plan is None:
            return
        if isinstance(node.need, int) and node.need > len(plan.awaits):
            text = f"join {node.name} needs {node.need} branches of fork {plan.fork}, but {len(plan.awaits)} lead to it"
            yield self._finding(node, ".need", Code.DEAD_JOIN, text)
        elif len(plan.awaits) < 2:
            text = f"only {len(plan.awaits)} branch of fork {plan.fork} leads to join {node.name}"
            yield self._finding(node, ".of", Code.DEAD_JOIN, text)

    def _jumps(self, node: Node) -> Iterator[Finding]:
        for link in self._graph.out[node.name]:
            text = self._unsafe(link) if link.via is Via.JUMP else None
            if text:
                yield Finding(link.path, Code.UNSAFE_JUMP, text, (*self._graph.way_to(node.name), link.to))

    def _unsafe(self, link: Link) -> str | None:
        scopes = self._program.structure.scopes
        source, target = scopes.get(link.source), scopes.get(link.to)
        if source is None or target is None:
            return None
        if not contains(target, source):
            names = [fork for fork, _ in target]
            where = f"fork {names[-1]}" if names and len(target) > len(source) else "another branch"
            return f"jumps from {link.source} into {where} at {link.to}; its join would count what it must not"
        if len(target) < len(source) and link.siblings is None:
            return f"leaves fork {source[len(target)][0]}; say whether its other branches are cancelled or kept"
        if len(target) < len(source) and link.siblings is Siblings.KEEP:
            return self._meets(link, source[len(target)][0])
        return None

    def _meets(self, link: Link, fork: str) -> str | None:
        """Whether who leaves a fork may come to where the branches that are kept may come, so that it is open twice."""
        kept, left = self._graph.reach([fork]), self._graph.reach([link.to])
        met = sorted(name for name in kept & left if self._graph.kinds[name] is not Kind.END)
        if not met:
            return None
        return f"leaves fork {fork} for {link.to} and keeps its other branches, so that {met[0]} could be open twice"

    def _side_ways(self) -> Iterator[Finding]:
        """Ways that a timer opens beside the main way may not come back to it."""
        sides = [link for link in self._graph.all_links() if link.via is Via.SIDE]
        main = self._main_way()
        for link in sides:
            beside = self._graph.reach([link.to])
            met = sorted(name for name in beside & main if self._graph.kinds[name] is not Kind.END)
            if met:
                text = f"the way of a timer that does not interrupt comes back to {met[0]}, which would be open twice"
                yield Finding(link.path, Code.DOUBLE_TOKEN, text, (*self._graph.way_to(link.source), link.to, met[0]))

    def _main_way(self) -> set[str]:
        seen: set[str] = set()
        todo = [self._program.start]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo.extend(link.to for link in self._graph.out[name] if link.via is not Via.SIDE)
        return seen

    def _loops(self) -> Iterator[Finding]:
        """Loops of nodes that nobody stands at."""
        passing = [name for name, node in self._program.nodes.items() if not node.stays]
        staying = [name for name in self._program.nodes if name not in set(passing)]
        for name in passing:
            after = [link.to for link in self._graph.out[name]]
            if name in self._graph.reach(after, avoid=staying, jumps=True):
                text = f"a case would run through {name} again and again without standing still"
                yield self._finding(self._program.nodes[name], "", Code.ENDLESS, text)
                return


def _never(edge: Edge, outcomes: list[str | None]) -> str:
    known = ", ".join(str(one) for one in outcomes if one not in (None, ANY_OUTCOME))
    hint = f" (outcomes on this way: {known})" if "outcome" in (edge.when or {}) and known else ""
    return f"the condition of the way to {edge.to} can never be true{hint}"


def _outcomes_on_the_way(program: Program) -> dict[str, set[str | None]]:
    """For each node, the outcomes that are in force when its transitions are taken."""
    found: dict[str, set[str | None]] = {program.start: {None}}
    todo = []
    for name, node in program.nodes.items():
        if node.stays:
            own: set[str | None] = {one for one in node.outcomes if one != REJECTED or node.on_reject is None}
            found[name] = own or {ANY_OUTCOME}
        elif node.kind is Kind.JOIN:
            found[name] = {PASSED, FAILED}
        todo.append(name)
    for name in todo:
        for link in program.graph.out[name]:
            target = program.nodes[link.to]
            if target.stays or target.kind is Kind.JOIN or name not in found:
                continue
            sent = {None} if link.via in (Via.TIMER, Via.SIDE) or link.path.find(".next[") < 0 else found[name]
            if not sent <= found.setdefault(link.to, set()):
                found[link.to] |= sent
                todo.append(link.to)
    return found
