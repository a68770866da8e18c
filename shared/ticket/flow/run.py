"""One step in the making: the only mutable object of the engine, alive for one call.

A step takes tokens out and puts tokens in; tokens run through starts, decisions, forks and ends by themselves until each
stands at a task, a service or a join; then the joins are settled, which may put further tokens in, until nothing moves.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec.structs import replace

from shared.ticket.flow.joins import count, depth_in, instance_at
from shared.ticket.flow.model import PASSED, REJECTED, Back, Kind, Siblings
from shared.ticket.flow.program import Facts, Program, Route
from shared.ticket.flow.state import FlowState, Fork, Joined, Reason, Refusal, Result, Step, Token, Visit

COMPLETED = "completed"
MAX_PASSED = 1_000
"""How many nodes one step may pass by itself before it is refused as endless."""


class Stop(Exception):
    """The step cannot be taken; carries the refusal. Never leaves the engine."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class Run:
    """The working copy of a state during one step."""

    def __init__(self, program: Program, state: FlowState, facts: Facts) -> None:
        self.program = program
        self.before = state
        self.facts: dict[str, Any] = dict(facts)
        self.tokens = {token.id: token for token in state.tokens}
        self.forks = {fork.id: fork for fork in state.forks}
        self.visits = dict(state.visits)
        self.completed_by = dict(state.completed_by)
        self.serial = state.serial
        self.outcome: str | None = state.reached
        self.entered: list[Visit] = []
        self.completed: list[Visit] = []
        self.cancelled: list[Visit] = []
        self.joined: list[Joined] = []
        self.taken_in = False
        self._moving: deque[tuple[str, Token, str | None]] = deque()
        self._passed = 0

    # ---- what a step may do ------------------------------------------------------------------------------------------------

    def go(self, to: str, like: Token, outcome: str | None) -> None:
        """Send a new token to `to`, with the path of `like`; conditions on the way see `outcome`."""
        self._moving.append((to, like, outcome))

    def depart(self, token: Token, outcome: str | None) -> None:
        """Send a token, already out of the state, on from the node it stood at: by its reject policy or its transitions."""
        policy = self.program.nodes[token.node].on_reject if outcome == REJECTED else None
        if policy == "end":
            self.end(REJECTED)
        elif policy == "vote":
            self.vote(token)
        elif isinstance(policy, Back):
            self.leave_to(token, policy.back, policy.siblings or Siblings.CANCEL)
        else:
            self.follow(token.node, token, outcome)

    def expire(self, token: Token, index: int) -> None:
        """Let a timer of an open visit fire: instead of its completion, or beside it."""
        timer = self.program.nodes[token.node].timers[index]
        if timer.interrupts:
            self.cancel([token])
            self.go(timer.to, token, None)
        else:
            self.tokens[token.id] = replace(token, fired=(*token.fired, index))
            self.go(timer.to, replace(token, beside=len(token.path)), None)

    def follow(self, source: str, token: Token, outcome: str | None) -> None:
        """Send a token along the transitions of `source`."""
        chosen = self.choose(source, outcome)
        if not chosen:
            raise Stop(Refusal(Reason.NO_TRANSITION, f"no transition of {source} holds and there is no default"))
        if self.program.nodes[source].kind is Kind.FORK:
            self._split(source, token, chosen, outcome)
            return
        route = chosen[0]
        if route.siblings is None:
            self.go(route.to, token, outcome)
        else:
            self.leave_to(token, route.to, route.siblings, outcome)

    def leave(self, token: Token, to: str, siblings: Siblings) -> Token | None:
        """Take a token, already out of the state, out of the forks that do not surround `to`; treat the siblings as told.

        Siblings are the other tokens of the outermost fork that is left. A jump that leaves no fork has none. None when the
        token was beside the main way and that has left the fork already: then it is taken in, it does not come back.
        """
        target = self.program.structure.scopes.get(to)
        if target is None or not self.surrounds(to, token):
            raise Stop(Refusal(Reason.UNSAFE_JUMP, f"{to} lies inside a fork that {token.node} is not in"))
        depth = len(target)
        if depth == len(token.path):
            return token
        left = token.path[depth].fork
        others = [one for one in self.tokens.values() if depth_in(one, left) is not None]
        if token.beside > depth and all(one.beside > depth for one in others):
            self.taken_in = True
            return None
        beside = token.beside
        if siblings is Siblings.CANCEL:
            beside = min([beside, *(one.beside for one in others)])  # when it ends the main way, it is the main way now
            self.cancel(others)
            self._moving = deque(one for one in self._moving if depth_in(one[1], left) is None)
        return replace(token, path=token.path[:depth], beside=min(beside, depth))

    def leave_to(self, token: Token, to: str, siblings: Siblings, outcome: str | None = None) -> None:
        """Leave, and go on at `to`."""
        moved = self.leave(token, to, siblings)
        if moved is not None:
            self.go(to, moved, outcome)

    def vote(self, token: Token) -> None:
        """Send a token, already out of the state, straight to the join of its fork with a vote against."""
        join = self.program.structure.votes.get(token.node)
        if join is None:  # only in a flow that was never proven: the vote is an ordinary outcome
            self.follow(token.node, token, REJECTED)
        elif instance_at(token, self.program.structure.joins[join], self.forks) is not None:
            self.place(token, join, against=True)

    def cancel(self, tokens: list[Token]) -> None:
        """Take tokens away; open visits are reported."""
        for token in tokens:
            del self.tokens[token.id]
            if token.visit:
                self.cancelled.append(Visit(token.node, token.visit))

    def end(self, outcome: str) -> None:
        """End the whole case now."""
        self.cancel(list(self.tokens.values()))
        self._moving.clear()
        self.outcome = outcome

    def place(self, token: Token, node: str, *, against: bool = False) -> None:
        """Put a token at a node where it stays, as a new visit or waiting at a join."""
        stays = self.program.nodes[node].stays
        visit = self.visits.get(node, 0) + 1 if stays else 0
        if stays:
            self.visits[node] = visit
            self.entered.append(Visit(node, visit))
        self.serial += 1
        self.tokens[self.serial] = Token(self.serial, node, visit, token.path, token.beside, against)

    def result(self) -> Result:
        """Let everything move until it stands, and freeze it."""
        self._settle()
        brief = set(self.entered) & set(self.cancelled)  # begun and cancelled at once: never shown to anybody
        alive = {step.fork for token in self.tokens.values() for step in token.path}
        state = FlowState(
            flow=self.before.flow,
            version=self.before.version,
            tokens=tuple(self.tokens.values()),
            forks=tuple(fork for fork in self.forks.values() if fork.id in alive),
            visits=self.visits,
            completed_by=self.completed_by,
            serial=self.serial,
            reached=self.outcome,
            outcome=None if self.tokens else self.outcome or COMPLETED,
        )
        return Result(
            state=state,
            entered=tuple(visit for visit in self.entered if visit not in brief),
            completed=tuple(self.completed),
            cancelled=tuple(visit for visit in self.cancelled if visit not in brief),
            joined=tuple(self.joined),
        )

    # ---- passing -----------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        self._drain()
        while any(self._settle_join(token) for token in list(self.tokens.values()) if not token.visit):
            self._drain()

    def _drain(self) -> None:
        while self._moving:
            to, token, outcome = self._moving.popleft()
            self._passed += 1
            if self._passed > MAX_PASSED:
                raise Stop(Refusal(Reason.ENDLESS, f"more than {MAX_PASSED} nodes passed at once, the last is {to}"))
            self._enter(to, token, outcome)

    def _enter(self, to: str, token: Token, outcome: str | None) -> None:
        node = self.program.nodes[to]
        if node.stays:
            self.place(token, to)
        elif node.kind is Kind.JOIN:
            plan = self.program.structure.joins.get(to)
            if plan is None or instance_at(token, plan, self.forks) is not None:
                self.place(token, to)
        elif node.kind is Kind.END:
            self._end_at(to, token)
        else:
            self.follow(to, token, outcome)

    def _end_at(self, to: str, token: Token) -> None:
        node = self.program.nodes[to]
        outcome = node.outcome or COMPLETED
        if node.terminate:
            self.end(outcome)
        elif token.beside < 0:
            self.outcome = outcome

    def _split(self, source: str, token: Token, chosen: list[Route], outcome: str | None) -> None:
        self.serial += 1
        self.forks[self.serial] = Fork(self.serial, source, tuple(route.index for route in chosen))
        for route in chosen:
            step = Step(self.serial, (route.index,))
            self.go(route.to, replace(token, path=(*token.path, step)), outcome)

    def choose(self, source: str, outcome: str | None) -> list[Route]:
        """The transitions of `source` that are taken; none when no condition holds and there is no default."""
        routes = self.program.routes[source]
        self.facts["outcome"] = outcome
        self.facts["visit"] = self.visits.get(source, 0)
        if self.program.nodes[source].kind is Kind.FORK:
            taken = [route for route in routes if not route.default and (route.test is None or route.test(self.facts))]
            return taken or [route for route in routes if route.default]
        for route in routes:
            if route.test is not None and not route.default and route.test(self.facts):
                return [route]
        return [route for route in routes if route.default][:1]

    # ---- joins -------------------------------------------------------------------------------------------------------------

    def _settle_join(self, token: Token) -> bool:
        if token.id not in self.tokens:
            return False
        join = self.program.nodes[token.node]
        plan = self.program.structure.joins.get(join.name)
        if plan is None:  # only in a flow that was never proven: pass, rather than strand
            del self.tokens[token.id]
            self.follow(join.name, token, PASSED)
            return True
        instance = instance_at(token, plan, self.forks)
        if instance is None:  # another join has gone on without it since: it is taken in
            del self.tokens[token.id]
            return True
        found = count(join, plan, self.forks[instance], self.tokens.values())
        outcome = found.outcome(join.need)
        if outcome is None:
            return False
        numbers = (found.in_favour, found.against, found.pending, found.absent)
        self.joined.append(Joined(join.name, instance, outcome, *numbers))
        self._go_on(join.name, token, instance, outcome)
        return True

    def _go_on(self, name: str, token: Token, instance: int, outcome: str) -> None:
        join, plan = self.program.nodes[name], self.program.structure.joins[name]
        depth = depth_in(token, instance)
        assert depth is not None
        inside = [one for one in self.tokens.values() if depth_in(one, instance) == depth]
        arrived = [one for one in inside if one.node == name and one.beside <= depth]
        for one in arrived:
            del self.tokens[one.id]
        came = frozenset(branch for one in arrived for branch in one.path[depth].branches)
        awaited = plan.awaits & frozenset(self.forks[instance].branches)
        for one in (one for one in inside if one.id in self.tokens):
            late = frozenset(one.path[depth].branches) & (awaited - came)
            if late and join.rest is Siblings.CANCEL:
                self.cancel([one])
            elif late or plan.closes:
                self.tokens[one.id] = replace(one, beside=max(one.beside, depth + 1))
        path = token.path[:depth]
        if not plan.closes:
            path = (*path, Step(instance, tuple(sorted(awaited))))
        self.facts["votes.for"] = self.joined[-1].in_favour
        self.facts["votes.against"] = self.joined[-1].against
        self.follow(name, replace(token, path=path, beside=min(token.beside, depth)), outcome)

    def surrounds(self, to: str, token: Token) -> bool:
        """Whether `to` lies in no fork that the token is not in, and in a branch of each that the token stands for."""
        target = self.program.structure.scopes[to]
        return len(target) <= len(token.path) and all(
            fork == self.forks[step.fork].node and not branches.isdisjoint(step.branches)
            for (fork, branches), step in zip(target, token.path, strict=False)
        )
