"""A bounded exploration of everything that can happen to a case: the engine itself, with every choice tried.

The same step code runs as for real cases, but conditions are not asked: each outcome, each transition that conditions allow
(`Choices`), each declared jump and each timer is tried. States are looked at once, whatever way led to them. Where a step
concerns one branch only, the steps of the other branches are left for later, since their order does not matter there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shared.ticket.flow.findings import Code, Finding
from shared.ticket.flow.model import FAILED, REJECTED, Siblings
from shared.ticket.flow.program import Program, Route
from shared.ticket.flow.run import Run, Stop
from shared.ticket.flow.state import FlowState, Joined, Reason, Refusal, Result, Token

ANY_OUTCOME = "\x00any"
"""Stands for the outcome of a task that does not say which it has."""
MAX_STATES = 2_000
MAX_STEPS = 8_000
MAX_TOKENS = 40
"""States with more are not gone on from: loops that leave branches behind beside the main way make ever more of them."""
Choices = Callable[[str, str | None], list[list[Route]]]
"""For a node and the outcome on the way to it: the sets of transitions that may be taken together."""
_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Move:
    """A step that may be taken: `left` says that it leaves siblings behind on purpose."""

    text: str
    act: Callable[[Run], None]
    left: bool = False


@dataclass(frozen=True, slots=True)
class _Tried:
    """A step that was taken, in words; `left` when it left branches behind on purpose."""

    result: Result
    text: str
    left: bool


@dataclass(frozen=True, slots=True)
class _Seen:
    """A state that was reached, and how; `left` when branches have been left on purpose on the way."""

    state: FlowState
    way: tuple[str, ...]
    left: bool


class _TryRun(Run):
    """A step that follows a script of choices, and notes how many there were."""

    def __init__(self, program: Program, state: FlowState, choices: Choices, script: list[int]) -> None:
        super().__init__(program, state, {})
        self._choices = choices
        self._script = script
        self.options: list[int] = []
        self.taken: list[str] = []

    def choose(self, source: str, outcome: str | None) -> list[Route]:
        offers = self._choices(source, outcome)
        if not offers:
            return []
        at = len(self.options)
        picked = self._script[at] if at < len(self._script) else 0
        self.options.append(len(offers))
        if len(offers) > 1:
            self.taken.append(", ".join(route.to for route in offers[picked]))
        return offers[picked]


@dataclass(slots=True)
class Exploration:
    """What was found: faults, and whether everything was seen within the bounds."""

    findings: list[Finding] = field(default_factory=list)
    complete: bool = True
    states: int = 0
    joined: set[str] = field(default_factory=set)
    visited: set[str] = field(default_factory=set)


def explore(program: Program, choices: Choices) -> Exploration:
    """Look at every state a case can be in, up to `MAX_STATES` states and `MAX_STEPS` steps."""
    return _Explorer(program, choices).run()


class _Explorer:
    def __init__(self, program: Program, choices: Choices) -> None:
        self._program = program
        self._choices = choices
        self._found = Exploration()
        self._seen: set[_Key] = set()
        self._todo: deque[_Seen] = deque()
        self._steps = 0
        self._paths = {node.name: f"nodes[{index}]" for index, node in enumerate(program.flow.nodes)}

    def run(self) -> Exploration:
        empty = FlowState(flow=self._program.flow.name)
        opening = _Move("start", lambda run: run.go(self._program.start, Token(0, self._program.start), None))
        for tried in self._tries(empty, opening):
            self._reach(tried, _Seen(empty, (), False))
        while self._todo:
            # from both ends: deep runs are looked at as well as all that is near the start, should the bounds be reached
            here = self._todo.pop() if self._found.states % 2 else self._todo.popleft()
            if self._found.states >= MAX_STATES or self._steps >= MAX_STEPS:
                self._found.complete = False
                break
            self._look_on(here)
        return self._found

    def _look_on(self, here: _Seen) -> None:
        """Take the steps from one state: those of one branch alone when that is enough, else all."""
        groups = [(token, list(self._moves(token))) for token in here.state.open]
        groups.extend((token, []) for token in here.state.tokens if not token.visit)
        taken = []
        for token, moves in groups:
            tried = [one for move in moves for one in self._tries(here.state, move)]
            taken.append(tried)
            if tried and all(self._local(one, token, here) for one in tried):
                taken = [tried]
                break
        for one in (one for tried in taken for one in tried):
            self._reach(one, here)

    def _local(self, tried: _Tried, token: Token, here: _Seen) -> bool:
        """Whether a step stayed in its branch, and led to something new."""
        result = tried.result
        if result.refused or result.cancelled or result.joined or result.state.done:
            return False
        made = [one for one in result.state.tokens if one.id > here.state.serial]
        stayed = all(one.visit and one.path == token.path and one.beside == token.beside for one in made)
        few = len(made) == 1 or (not made and token.beside >= 0)
        return few and stayed and _key(result.state, here.left) not in self._seen

    def _moves(self, token: Token) -> Iterator[_Move]:
        node = self._program.nodes[token.node]
        outcomes = [*node.outcomes] or [ANY_OUTCOME]
        if node.on_reject is not None and REJECTED not in outcomes:
            outcomes.append(REJECTED)
        for outcome in outcomes:
            text = f"complete {node.name}" + (f" ({outcome})" if outcome != ANY_OUTCOME else "")
            yield _Move(text, lambda run, o=outcome: _complete(run, token, o), self._leaves(node.name))  # type: ignore[misc]
        for jump in node.jumps:
            treat = jump.siblings or Siblings.KEEP
            left = treat is Siblings.KEEP and len(self._program.structure.scopes[jump.to]) < len(token.path)
            yield _Move(
                f"jump from {node.name} to {jump.to}",
                lambda run, to=jump.to, treat=treat: _jump(run, token, to, treat),  # type: ignore[misc]
                left,
            )
        for index, timer in enumerate(node.timers):
            if index not in token.fired:
                text = f"timer of {node.name} to {timer.to}"
                yield _Move(text, lambda run, index=index: run.expire(token, index))  # type: ignore[misc]

    def _leaves(self, name: str) -> bool:
        """Whether completing the node may leave siblings behind on purpose."""
        return any(link.siblings is Siblings.KEEP for link in self._program.graph.out[name])

    def _tries(self, state: FlowState, move: _Move) -> Iterator[_Tried]:
        """Take one step in every way its choices allow."""
        script: list[int] | None = []
        while script is not None and self._steps < MAX_STEPS:
            self._steps += 1 + len(state.tokens) // 8  # a step costs more where there are many
            run = _TryRun(self._program, state, self._choices, script)
            try:
                move.act(run)
                result = run.result()
            except Stop as stop:
                result = Result(state=state, refused=stop.refusal)
            chosen = f" → {'; '.join(run.taken)}" if run.taken else ""
            yield _Tried(result, move.text + chosen, move.left or run.taken_in)
            script = _next_script(script, run.options)

    def _reach(self, tried: _Tried, before: _Seen) -> None:
        result, way, left = tried.result, (*before.way, tried.text), before.left or tried.left
        self._found.visited.update(visit.node for visit in (*result.entered, *result.cancelled))
        if result.refused is not None:
            self._refused(result.refused, way)
            return
        for joined in result.joined:
            self._found.joined.add(joined.node)
            self._judge_join(joined, way, left)
        key = _key(result.state, left)
        if key in self._seen:
            return
        self._seen.add(key)
        self._found.states += 1
        if self._judge_state(result.state, way, left) and len(result.state.tokens) <= MAX_TOKENS:
            self._todo.append(_Seen(result.state, way, left))

    # ---- judgements --------------------------------------------------------------------------------------------------------

    def _refused(self, refusal: Refusal, way: tuple[str, ...]) -> None:
        if refusal.reason is Reason.ENDLESS:
            self._find("nodes", Code.ENDLESS, "the case runs on without ever standing still", way)
        elif refusal.reason is Reason.UNSAFE_JUMP:
            self._find("nodes", Code.UNSAFE_JUMP, refusal.detail, way)

    def _judge_join(self, joined: Joined, way: tuple[str, ...], left: bool) -> None:
        join = self._program.nodes[joined.node]
        possible = joined.in_favour + joined.pending + joined.absent
        if left or join.need == "any":
            return
        if join.need == "all":
            short = joined.absent > 0
        else:
            need = int(join.need)
            short = joined.outcome == FAILED and (possible + joined.against < need or possible >= need)
        if short:
            text = f"join {join.name} would wait for branches that do not come"
            self._find(self._paths[join.name], Code.DEAD_JOIN, text, way)

    def _judge_state(self, state: FlowState, way: tuple[str, ...], left: bool) -> bool:
        """Note what is wrong with a state; False when it is not worth going on from."""
        if state.done:
            return False
        forks = {fork.id: fork.node for fork in state.forks}
        if not state.open:
            where = ", ".join(sorted({token.node for token in state.tokens}))
            path = self._paths[state.tokens[0].node]
            self._find(path, Code.DEAD_JOIN, f"the case waits at {where} for ever", way)
            return False
        counting = [(token.node, _place(token, forks)) for token in state.open if token.beside < 0]
        twice = next((one for one in counting if counting.count(one) > 1), None)
        if twice is not None:
            code = Code.UNSAFE_JUMP if left or any(step.startswith("jump ") for step in way) else Code.DOUBLE_TOKEN
            self._find(self._paths[twice[0]], code, f"{twice[0]} is open twice", way)
        return twice is None

    def _find(self, path: str, code: Code, message: str, way: tuple[str, ...]) -> None:
        if not any((one.path, one.code) == (path, code) for one in self._found.findings):
            self._found.findings.append(Finding(path, code, message, way))


def _place(token: Token, forks: dict[int, str]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Inside which branches of which forks a token is, whatever passing of them."""
    return tuple((forks[step.fork], step.branches) for step in token.path)


def _complete(run: Run, token: Token, outcome: str | None) -> None:
    del run.tokens[token.id]
    run.depart(token, outcome)


def _jump(run: Run, token: Token, to: str, siblings: Siblings) -> None:
    run.cancel([token])
    run.leave_to(token, to, siblings)


def _next_script(script: list[int], options: list[int]) -> list[int] | None:
    """The script after this one, as in counting; None when all have been followed."""
    followed = [*script, *[0] * (len(options) - len(script))][: len(options)]
    while followed:
        if followed[-1] + 1 < options[len(followed) - 1]:
            followed[-1] += 1
            return followed
        followed.pop()
    return None


def _key(state: FlowState, left: bool) -> _Key:
    """What makes two states the same for what can follow: numbers of visits and passings do not."""
    forks = {fork.id: fork for fork in state.forks}
    names: dict[int, int] = {}
    tokens = []
    for token in sorted(state.tokens, key=lambda t: (t.node, [s.branches for s in t.path], t.beside, t.against, t.id)):
        path = tuple(
            (forks[step.fork].node, names.setdefault(step.fork, len(names)), forks[step.fork].branches, step.branches)
            for step in token.path
        )
        tokens.append((token.node, path, token.beside, token.against, token.fired))
    return (left, *tokens)
