"""The steps of a case, pure: each takes the state as it is and returns the state as it will be, or a refusal.

Facts are what conditions and required fields read: the flat facts of the ticket (`priority`, `labels.impact`,
`fields.amount`). A step adds to them, for the transitions it takes: the fields given with it, `outcome` (of the task just
completed, or `passed`/`failed` of a join), `visit` (how often the node was entered) and, after a join, `votes.for` and
`votes.against`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from shared.ticket.flow.material import Material, missing
from shared.ticket.flow.model import REJECTED, Node, Siblings
from shared.ticket.flow.program import OPENING, Facts, Program
from shared.ticket.flow.run import Run, Stop
from shared.ticket.flow.state import FlowState, Reason, Refusal, Result, Token, Visit

NO_FACTS: Facts = {}


def start(
    program: Program,
    facts: Facts = NO_FACTS,
    *,
    version: int = 0,
    material: Material | None = None,
    earlier: FlowState | None = None,
    ready: bool = False,
) -> Result:
    """Open a case at the start of the flow; refused while material that the flow needs for that is missing, unless `ready`.

    `earlier`: the case that came to its end before; visits are numbered on from it, and who completed what is kept.
    """
    state = FlowState(flow=program.flow.name, version=version)
    if earlier is not None:
        state = replace(state, visits=earlier.visits, completed_by=earlier.completed_by, serial=earlier.serial)
    absent = () if ready else opening(program, facts, material)
    if absent:
        return Result(state=state, refused=Refusal(Reason.MATERIAL_MISSING, missing=absent))
    run = Run(program, state, facts)
    run.go(program.start, Token(0, program.start), None)
    return _finish(run)


def opening(program: Program, facts: Facts = NO_FACTS, material: Material | None = None) -> tuple[str, ...]:
    """What is missing for a case to be opened."""
    return missing(program.needs[OPENING], facts, material)


def complete(
    program: Program,
    state: FlowState,
    node: str,
    facts: Facts = NO_FACTS,
    *,
    visit: int | None = None,
    material: Material | None = None,
    fields: Mapping[str, Any] | None = None,
    outcome: str | None = None,
    by: str = "",
) -> Result:
    """Complete an open visit of `node` (the oldest, unless `visit` is given) and go on from there.

    Refused with all that is missing at once: material, and `outcome` where the node has a choice of them.
    """
    token = state.token(node, visit)
    if token is None:
        return _not_open(state, node)
    known = {**facts, **{f"fields.{name}": value for name, value in (fields or {}).items()}, "outcome": outcome}
    known["visit"] = token.visit
    refused = _unready(program, program.nodes[node], token, known, material, outcome)
    if refused:
        return Result(state=state, refused=refused)
    run = Run(program, state, known)
    del run.tokens[token.id]
    run.completed.append(Visit(node, token.visit))
    if by:
        run.completed_by[node] = by
    try:
        run.depart(token, outcome)
    except Stop as stop:
        return Result(state=state, refused=stop.refusal)
    return _finish(run)


def lacking(
    program: Program,
    token: Token,
    facts: Facts = NO_FACTS,
    material: Material | None = None,
    outcome: str | None = None,
) -> tuple[str, ...]:
    """What would be missing if the visit were completed with this now: the to-do list of whoever has it."""
    node = program.nodes[token.node]
    known = {**facts, "outcome": outcome, "visit": token.visit}
    absent = missing(program.needs[node.name], known, material, token.waived)
    return (*absent, "outcome") if node.outcomes and outcome is None else absent


def jump(
    program: Program,
    state: FlowState,
    node: str,
    to: str,
    facts: Facts = NO_FACTS,
    *,
    visit: int | None = None,
    siblings: Siblings | None = None,
    free: bool = False,
) -> Result:
    """Send an open visit of `node`, or a token waiting at the join `node`, to `to`.

    The node must declare the jump, unless `free` (the caller has checked a permission); a declared one brings its own
    `siblings`. The left visit is cancelled. Refused as unsafe: into a fork, into another branch, out of a fork without
    saying what happens to the siblings.
    """
    run = Run(program, state, facts)
    if to not in program.structure.scopes:
        return Result(state=state, refused=Refusal(Reason.UNSAFE_JUMP, f"there is no node {to}"))
    token = state.token(node, visit) or _waiting(run, node, to)
    if token is None:
        return _not_open(state, node)
    declared = next((one for one in program.nodes[node].jumps if one.to == to), None)
    if declared is None and not free:
        return Result(state=state, refused=Refusal(Reason.UNSAFE_JUMP, f"{node} has no jump to {to}"))
    if to in program.structure.joins:
        return Result(state=state, refused=Refusal(Reason.UNSAFE_JUMP, f"{to} is a join"))
    treat = (declared.siblings if declared else None) or siblings
    if treat is None and len(program.structure.scopes[to]) < len(token.path):
        return Result(state=state, refused=Refusal(Reason.UNSAFE_JUMP, "say what happens to the siblings"))
    run.cancel([token])
    try:
        run.leave_to(token, to, treat or Siblings.KEEP)
    except Stop as stop:
        return Result(state=state, refused=stop.refusal)
    return _finish(run)


def expire(
    program: Program, state: FlowState, node: str, timer: int, facts: Facts = NO_FACTS, *, visit: int | None = None
) -> Result:
    """Let timer number `timer` of an open visit fire. One that does not interrupt fires once a visit; again is a no-op."""
    token = state.token(node, visit)
    if token is None:
        return _not_open(state, node)
    timers = program.nodes[node].timers
    if not 0 <= timer < len(timers):
        return Result(state=state, refused=Refusal(Reason.UNKNOWN_TIMER, f"{node} has no timer {timer}"))
    if timer in token.fired:
        return Result(state=state)
    run = Run(program, state, facts)
    run.expire(token, timer)
    return _finish(run)


def waive(program: Program, state: FlowState, node: str, material: str, *, visit: int | None = None) -> Result:
    """Excuse one piece of material at an open visit. Waiving it again is a no-op."""
    token = state.token(node, visit)
    if token is None:
        return _not_open(state, node)
    need = next((one for one in program.nodes[node].needs if one.name == material), None)
    if need is None:
        return Result(state=state, refused=Refusal(Reason.NOT_NEEDED, f"{node} does not need {material}"))
    if not need.waivable:
        return Result(state=state, refused=Refusal(Reason.NOT_WAIVABLE, f"{material} cannot be waived"))
    if material in token.waived:
        return Result(state=state)
    excused = replace(token, waived=(*token.waived, material))
    tokens = tuple(excused if one.id == token.id else one for one in state.tokens)
    return Result(state=replace(state, tokens=tokens))


def settle(program: Program, state: FlowState, facts: Facts = NO_FACTS) -> Result:
    """Let joins that are decided go on; changes nothing after any other step, only after a case was moved to another flow."""
    return _finish(Run(program, state, facts))


def _unready(
    program: Program, node: Node, token: Token, facts: Facts, material: Material | None, outcome: str | None
) -> Refusal | None:
    rejects = outcome == REJECTED and node.on_reject is not None
    if outcome is not None and node.outcomes and outcome not in node.outcomes and not rejects:
        return Refusal(Reason.UNKNOWN_OUTCOME, f"{node.name} ends in one of: {', '.join(node.outcomes)}")
    absent = lacking(program, token, facts, material, outcome)
    return Refusal(Reason.MATERIAL_MISSING, missing=absent) if absent else None


def _waiting(run: Run, join: str, to: str) -> Token | None:
    """The token waiting at `join` that could have come from `to`."""
    standing = [token for token in run.tokens.values() if token.node == join and not token.visit]
    return next((token for token in standing if run.surrounds(to, token)), None)


def _not_open(state: FlowState, node: str) -> Result:
    reason = Reason.DONE if state.done else Reason.NOT_OPEN
    return Result(state=state, refused=Refusal(reason, f"no visit of {node} is open"))


def _finish(run: Run) -> Result:
    try:
        return run.result()
    except Stop as stop:
        return Result(state=run.before, refused=stop.refusal)
