"""Moving a case to another version of its flow: a plan first, with every obstacle named; the same plan is what is done.

Cases stay on the version they began with. To move one, each of its tokens needs a place in the new flow: the node of the
same name, unless the mapping says otherwise (`None`: the token ends). A place is safe when the new flow has the same forks
around it, by the same branches, so that joins count what they counted. Branches are recognised by the node they begin with,
forks by their name, both through the mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from shared.ticket.flow.engine import NO_FACTS, settle
from shared.ticket.flow.model import Kind
from shared.ticket.flow.program import Facts, Program
from shared.ticket.flow.state import FlowState, Fork, Result, Step, Token, Visit
from shared.ticket.flow.structure import Scope, contains

NodeMapping = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Move:
    """What becomes of one open visit: `to` is None when it ends; `kept` when it goes on as the same visit."""

    visit: Visit
    to: Visit | None
    kept: bool
    needs: tuple[str, ...] = ()  # material that the new node asks for and the old one did not


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a token cannot be moved."""

    node: str
    visit: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration would do. With obstacles nothing is done: `state` is the old one."""

    state: FlowState
    moves: tuple[Move, ...]
    obstacles: tuple[Obstacle, ...]
    result: Result  # what follows at once in the new flow, for example when a join needs less now

    @property
    def possible(self) -> bool:
        return not self.obstacles


def migrate(
    state: FlowState,
    old: Program,
    new: Program,
    mapping: NodeMapping | None = None,
    *,
    version: int,
    facts: Facts = NO_FACTS,
) -> Plan:
    """Plan the move of a case from `old` to `new`; `plan.state` is the case on the new version.

    A visit whose node keeps its name stays the same visit, with its owner and its instants; one that is mapped to another node
    begins there as the next visit of it. Nothing else is lost: the numbers of visits and what was waived are kept. A case that
    is done stays as it is.
    """
    if state.done:
        return Plan(state, (), (), Result(state=state))
    return _Migration(state, old, new, mapping or {}, facts).plan(version)


class _Migration:
    def __init__(self, state: FlowState, old: Program, new: Program, mapping: NodeMapping, facts: Facts) -> None:
        self._facts = facts
        self._state = state
        self._old, self._new = old, new
        self._mapping = mapping
        self._forks = {fork.id: fork for fork in state.forks}
        self._visits = dict(state.visits)
        self._moves: list[Move] = []
        self._obstacles: list[Obstacle] = []

    def plan(self, version: int) -> Plan:
        self._check_mapping()
        tokens = [moved for token in self._state.tokens if (moved := self._token(token)) is not None]
        used = {step.fork for token in tokens for step in token.path}
        if self._obstacles:
            return self._refused()
        laid = replace(
            self._state,
            flow=self._new.flow.name,
            version=version,
            tokens=tuple(tokens),
            forks=tuple(self._fork(fork) for fork in self._state.forks if fork.id in used),
            visits=self._visits,
        )
        result = settle(self._new, laid, self._facts)
        if result.refused is not None:
            self._obstacles.append(Obstacle("", 0, result.refused.detail))
        elif not result.state.done and not result.state.open:
            self._obstacles.append(Obstacle(tokens[0].node, 0, "nobody would be left to move the case"))
        return self._refused() if self._obstacles else Plan(result.state, tuple(self._moves), (), result)

    def _refused(self) -> Plan:
        return Plan(self._state, tuple(self._moves), tuple(self._obstacles), Result(state=self._state))

    def _check_mapping(self) -> None:
        for source, target in self._mapping.items():
            if source not in self._old.nodes:
                self._obstacles.append(Obstacle(source, 0, "the mapping names a node that the old flow does not have"))
            if target is not None and target not in self._new.nodes:
                self._obstacles.append(
                    Obstacle(source, 0, f"the mapping names {target}, which the new flow does not have")
                )

    def _to(self, name: str) -> str | None:
        return self._mapping.get(name, name)

    def _token(self, token: Token) -> Token | None:
        target = self._to(token.node)
        if target is None:
            self._moves.extend([Move(Visit(token.node, token.visit), None, False)] if token.visit else [])
            return None
        reason = self._unfit(token, target)
        path = None if reason else self._path(token, target)
        if path is None:
            reason = reason or f"{target} is not inside the same forks and branches in the new flow"
            self._obstacles.append(Obstacle(token.node, token.visit, reason))
            return None
        return replace(self._moved(token, target), path=path)

    def _unfit(self, token: Token, target: str) -> str | None:
        if target not in self._new.nodes:
            return f"the new flow has no node {target}; map it"
        stays = self._new.nodes[target].stays
        if bool(token.visit) != stays:
            return f"{target} is of kind {self._new.nodes[target].kind} in the new flow"
        if not token.visit and self._new.nodes[target].kind is not Kind.JOIN:
            return f"{target} is no join in the new flow"
        if target not in self._new.structure.scopes:
            return f"nothing leads to {target} in the new flow"
        return None

    def _path(self, token: Token, target: str) -> tuple[Step, ...] | None:
        steps: list[Step] = []
        for step in token.path:
            branches = self._branches(self._forks[step.fork], step.branches)
            if branches is None:
                return None
            steps.append(Step(step.fork, branches))
        names = [str(self._to(self._forks[step.fork].node)) for step in steps]
        here = tuple((name, frozenset(step.branches)) for name, step in zip(names, steps, strict=True))
        fits = self._awaited(target, here) if not token.visit else self._same(self._new.structure.scopes[target], here)
        return tuple(steps) if fits else None

    @staticmethod
    def _same(there: Scope, here: Scope) -> bool:
        return len(there) == len(here) and contains(there, here)

    def _awaited(self, join: str, here: Scope) -> bool:
        """Whether a token inside `here` is one that the join gathers."""
        plan = self._new.structure.joins.get(join)
        return plan is not None and any(fork == plan.fork and branches <= plan.awaits for fork, branches in here)

    def _branches(self, fork: Fork, branches: tuple[int, ...]) -> tuple[int, ...] | None:
        """The numbers that branches have in the new flow, or None when one is not there."""
        target = self._to(fork.node)
        if target is None or target not in self._new.nodes or self._new.nodes[target].kind is not Kind.FORK:
            return None
        begin = [edge.to for edge in self._old.nodes[fork.node].edges]
        there = [edge.to for edge in self._new.nodes[target].edges]
        wanted = [self._to(begin[branch]) for branch in branches]
        if any(name not in there for name in wanted):
            return None
        return tuple(there.index(str(name)) for name in wanted)

    def _fork(self, fork: Fork) -> Fork:
        branches = [found for branch in fork.branches for found in self._branches(fork, (branch,)) or ()]
        return Fork(fork.id, str(self._to(fork.node)), tuple(branches))

    def _moved(self, token: Token, target: str) -> Token:
        if not token.visit:
            return replace(token, node=target)
        visit = token.visit
        if target != token.node:
            visit = self._visits.get(target, 0) + 1
            self._visits[target] = visit
        had = {need.name for need in self._old.nodes[token.node].needs}
        asks = [need.name for need in self._new.nodes[target].needs]
        move = Move(
            Visit(token.node, token.visit),
            Visit(target, visit),
            target == token.node,
            tuple(name for name in asks if name not in had),
        )
        self._moves.append(move)
        waived = tuple(name for name in token.waived if name in asks)
        same = self._old.nodes[token.node].timers == self._new.nodes[target].timers
        fired = token.fired if same and target == token.node else ()
        return replace(token, node=target, visit=visit, waived=waived, fired=fired)
