"""Which fork each join closes, and inside which forks each node lies: found once, from the graph alone.

A *scope* is the list of forks a token at that node is inside of, outermost first, each with the branches it may have come
by. A join belongs to the nearest fork that every way to the join passes (or the one it names with `of`), and awaits the
branches of it from which the join can be reached. When another join further on gathers more branches of the same fork, the
first one does not close the fork: its token stays inside, for all the branches it has gathered.

Where two ways with different scopes meet at anything but a join or an end, tokens would be doubled or a join deceived: a
finding. Jumps do not spread scopes; a jump is safe when the scope of its target contains the scope of its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.ticket.flow.findings import Code, Finding
from shared.ticket.flow.graph import Graph, Link, Via
from shared.ticket.flow.model import Flow, Kind

Branches = frozenset[int]
Scope = tuple[tuple[str, Branches], ...]


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """The fork a join belongs to, the branches it awaits, and whether what follows has left the fork."""

    fork: str
    awaits: Branches
    closes: bool


@dataclass(frozen=True, slots=True)
class Structure:
    """What the engine needs to know about the shape of a flow, and what is wrong with it."""

    joins: Mapping[str, JoinPlan]
    scopes: Mapping[str, Scope]
    votes: Mapping[str, str]
    findings: tuple[Finding, ...]


def structure_of(flow: Flow, graph: Graph) -> Structure:
    """Find joins, scopes and where votes go; the names in `flow` must be unique."""
    paths = {node.name: f"nodes[{position}]" for position, node in enumerate(flow.nodes)}
    dominators = graph.dominators()
    joins = _joins(flow, graph, dominators)
    walk = _Walk(graph, joins, paths, dominators)
    walk.spread(graph.start, ())
    walk.place_jump_targets()
    votes = {}
    for node in flow.nodes:
        if node.on_reject == "vote" and node.name in walk.scopes:
            join = _vote_join(node.name, graph, joins, walk.scopes)
            if join is None:
                walk.find(paths[node.name] + ".on_reject", Code.DEAD_JOIN, "there is no join to vote in", node.name)
            else:
                votes[node.name] = join
    return Structure(joins, walk.scopes, votes, tuple(walk.findings))


def _joins(flow: Flow, graph: Graph, dominators: Mapping[str, set[str]]) -> dict[str, JoinPlan]:
    forks = {node.name for node in flow.nodes if node.kind is Kind.FORK}
    found: dict[str, tuple[str, Branches]] = {}
    for node in flow.nodes:
        if node.kind is not Kind.JOIN or node.name not in dominators:
            continue
        above = [node.of] if node.of in forks else sorted(dominators[node.name] & forks)
        near = sorted(above, key=lambda fork: len(dominators.get(fork, ())), reverse=True)
        arriving = {fork: _arriving(graph, fork, node.name) for fork in near}
        named = [fork for fork in near if len(arriving[fork]) >= (1 if node.of else 2)]
        if named:
            found[node.name] = (named[0], arriving[named[0]])
    return {name: JoinPlan(fork, awaits, _closes(graph, name, found)) for name, (fork, awaits) in found.items()}


def _arriving(graph: Graph, fork: str, join: str) -> Branches:
    return frozenset(
        link.index
        for link in graph.out[fork]
        if link.via is Via.NEXT and (link.to == join or join in graph.reach([link.to], avoid={fork}))
    )


def _closes(graph: Graph, join: str, found: Mapping[str, tuple[str, Branches]]) -> bool:
    fork, awaits = found[join]
    after = graph.reach([link.to for link in graph.flowing(join)], avoid={fork})
    return not any(
        other != join and other in after and other_fork == fork and other_awaits - awaits
        for other, (other_fork, other_awaits) in found.items()
    )


def _vote_join(name: str, graph: Graph, joins: Mapping[str, JoinPlan], scopes: Mapping[str, Scope]) -> str | None:
    """The nearest join of the innermost fork around `name`."""
    if not scopes[name]:
        return None
    fork = scopes[name][-1][0]
    todo, seen = [name], {name}
    for here in todo:
        for link in graph.flowing(here):
            if link.to in joins and joins[link.to].fork == fork:
                return link.to
            if link.to not in seen:
                seen.add(link.to)
                todo.append(link.to)
    return None


def contains(target: Scope, source: Scope) -> bool:
    """Whether a token in `source` may jump to a node in `target` without entering a fork or changing its branch."""
    return len(target) <= len(source) and all(
        fork == other and bool(branches & others)
        for (fork, branches), (other, others) in zip(target, source, strict=False)
    )


def arrivals(join: str, graph: Graph, structure: Structure) -> list[tuple[str, Scope]]:
    """The scopes in which tokens arrive at a join, with the node each comes from."""
    walk = _Walk(graph, structure.joins, {}, {})
    found = []
    for link in graph.all_links():
        if link.to == join and link.via is not Via.JUMP and link.source in structure.scopes:
            scope = walk.after(link.source, structure.scopes[link.source], link)
            found.extend([(link.source, scope)] if scope is not None else [])
    return found


@dataclass(slots=True)
class _Walk:
    """Spreads scopes along the transitions; the first scope of a node stands, a different one is a finding."""

    graph: Graph
    joins: Mapping[str, JoinPlan]
    paths: Mapping[str, str]
    dominators: Mapping[str, set[str]]
    scopes: dict[str, Scope] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def find(self, path: str, code: Code, message: str, *way: str) -> None:
        """Add a finding once; `way` ends the shortest way to its first node."""
        finding = Finding(path, code, message, (*self.graph.way_to(way[0]), *way[1:]))
        if finding not in self.findings:
            self.findings.append(finding)

    def spread(self, start: str, scope: Scope) -> None:
        todo = [(start, scope)]
        self.scopes[start] = scope
        while todo:
            name, scope = todo.pop()
            for link in self.graph.flowing(name):
                new = self.after(name, scope, link)
                if new is not None and self._arrive(link, new):
                    todo.append((link.to, new))

    def after(self, name: str, scope: Scope, link: Link) -> Scope | None:
        """The scope of a token that has taken `link`; None when it would enter a fork it is in already."""
        kind = self.graph.kinds[name]
        if kind is Kind.FORK and link.via is Via.NEXT:
            if any(fork == name for fork, _ in scope):
                return None
            return (*scope, (name, frozenset({link.index})))
        if kind is not Kind.JOIN:
            return scope
        plan = self.joins.get(name)
        depth = None if plan is None else _depth(scope, plan.fork)
        if plan is None or depth is None:
            return scope
        return scope[:depth] if plan.closes else (*scope[:depth], (plan.fork, plan.awaits))

    def _arrive(self, link: Link, scope: Scope) -> bool:
        """Note a way to a node; True when the walk should go on from there."""
        name, kind = link.to, self.graph.kinds[link.to]
        if kind is Kind.JOIN:
            self._arrive_at_join(link, scope)
        if kind is Kind.FORK and any(fork == name for fork, _ in scope):
            self.find(link.path, Code.UNBOUNDED, f"leads back to fork {name} from inside it", link.source, name)
            return False
        if name not in self.scopes:
            self.scopes[name] = () if kind is Kind.END else scope  # an end takes tokens from wherever they are
            return True
        known = self.scopes[name]
        if known != scope and kind not in (Kind.JOIN, Kind.END):
            self._conflict(link, scope, known)
        return False

    def _arrive_at_join(self, link: Link, scope: Scope) -> None:
        plan = self.joins.get(link.to)
        path = self.paths[link.to]
        if plan is None:
            self.find(path, Code.DEAD_JOIN, f"join {link.to} has no fork whose branches it could gather", link.to)
            return
        depth = _depth(scope, plan.fork)
        if depth is None:
            text = f"join {link.to} gathers fork {plan.fork}, but is reached from outside it"
            self.find(link.path, Code.DEAD_JOIN, text, link.source, link.to)

    def _conflict(self, link: Link, scope: Scope, known: Scope) -> None:
        forks, others = [fork for fork, _ in scope], [fork for fork, _ in known]
        if forks == others:
            text = f"branches of fork {forks[-1]} meet at {link.to} without a join, so it would be open twice"
            self.find(link.path, Code.DOUBLE_TOKEN, text, link.source, link.to)
        elif forks[: len(others)] == others:
            text = f"leaves fork {forks[len(others)]} without its join; say what happens to the other branches"
            self.find(link.path, Code.DOUBLE_TOKEN, text, link.source, link.to)
        else:
            fork = next(one for one in others if one not in forks)
            code = Code.DOUBLE_TOKEN if fork in self.dominators[link.to] else Code.DEAD_JOIN
            self.find(link.path, code, f"{link.to} is reached from inside fork {fork} and from outside it", link.source)

    def place_jump_targets(self) -> None:
        """Give nodes that only jumps lead to the scope that what follows them needs."""
        progress = True
        while progress:
            progress = False
            for link in self.graph.all_links():
                if link.via is Via.JUMP and link.source in self.scopes and link.to not in self.scopes:
                    self.spread(link.to, self._needed(link))
                    progress = True

    def _needed(self, link: Link) -> Scope:
        source = self.scopes[link.source]
        todo, seen = [link.to], {link.to}
        for name in todo:
            forks = self._forks_at(name)
            if forks is not None:
                same = len(forks) <= len(source) and [fork for fork, _ in source[: len(forks)]] == forks
                return source[: len(forks)] if same else self.scopes.get(name, ())
            for follow in self.graph.flowing(name):
                if follow.to not in seen:
                    seen.add(follow.to)
                    todo.append(follow.to)
        return ()

    def _forks_at(self, name: str) -> list[str] | None:
        if self.graph.kinds[name] is Kind.END or name not in self.scopes:
            return None
        scope = self.scopes[name]
        plan = self.joins.get(name)
        depth = None if plan is None else _depth(scope, plan.fork)
        return [fork for fork, _ in (scope if depth is None else scope[: depth + 1])]


def _depth(scope: Scope, fork: str) -> int | None:
    return next((index for index in reversed(range(len(scope))) if scope[index][0] == fork), None)
