"""`signalbox eval flow`: a case taken through a flow, action by action, by the same engine that moves tickets.

    {"id": "…",
     "flow": {"nodes": [{"name": "triage", "outcomes": ["software", "hardware"],
                         "next": [{"to": "fix", "when": {"outcome": "software"}}, "check"]},
                        {"name": "check", "needs": [{"field": "serial"}, {"attachment": "photo", "count": 2},
                                                    {"check": "power_off"}], "next": "fix"},
                        {"name": "fix", "next": "done"},
                        {"name": "done", "kind": "end"}]},
     "facts": {"priority": "urgent"},
     "actions": [{"node": "triage", "outcome": "hardware"},
                 {"node": "check", "fields": {"serial": "S1"}, "material": {"photo": 2}}],
     "expected": {"tokens": [{"node": "check", "visit": 1}],
                  "refused": [{"index": 1, "missing": ["power_off"]}], "done": false}}

`flow` is the playbook's form as JSON (`shared/ticket/flow/model.py` has it member by member; `name` may be left out here):

- `nodes`: a list; the case begins at the node of kind `start`, else at the first. `kind` is `task` (default), `service`,
  `start`, `decision`, `fork`, `join` or `end`.
- `next`: a node, or a list of nodes and `{to, when?, default?, siblings?}`; a fork takes all whose condition holds, the
  others take the first.
- `needs` (of a node, or of the flow: for its opening): `{field: NAME}`, `{attachment: NAME, count?, types?}`,
  `{check: NAME}`, each with `when?` and `waivable?`.
- `on_reject`: `end`, `vote` or `{back: NODE, siblings?: cancel|keep}`. `jumps`: `[{to, siblings?}]`. `timers`:
  `[{after, to, time?: open|wall, interrupts?}]`.
- a join has `need`: `all` (default), `any` or a number, `rest`: `cancel` (default) or `keep`, and `of`: its fork, when
  that is not evident.

An action completes a node: `{node, visit?, material?, fields?, outcome?, by?}`; `material` is a list of names or a
mapping from name to `true`, a count or a list of ids. Beyond the contract, an action may instead have `jump: NODE` (with
`siblings?`, and `free: true` for one the node does not declare), `waive: NAME` or `expire: NUMBER` (of a timer). `facts`
are flat facts for conditions; fields given with an action stay for those after it.

Answer: `tokens` are the open visits, oldest first; branches waiting at a join are in `waiting`. `refused` has the index
of each action that changed nothing and what was missing; where the reason is another one, `reason` names it. An opening
that is refused has index -1. `done`, and with it `outcome`. Computed beyond the contract: `waiting`, `outcome`, `reason`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.playbook import conditions
from shared.ticket.flow import engine
from shared.ticket.flow.model import Siblings, read
from shared.ticket.flow.program import Program, Test, compile_flow
from shared.ticket.flow.state import FlowState, Reason, Refusal, Result

_ANY_FACT = conditions.Schema({}, ("",))
_COMPLETING = frozenset({"node", "visit", "material", "fields", "outcome", "by"})
_OTHERS = {
    "jump": frozenset({"node", "visit", "jump", "siblings", "free"}),
    "waive": frozenset({"node", "visit", "waive", "reason"}),
    "expire": frozenset({"node", "visit", "expire"}),
}

Json = dict[str, Any]


def evaluate(obj: Json) -> Json:
    """Return `obj` with `expected` computed; raise `ValueError` for what is not a flow or an action."""
    program = compile_flow(read({"name": "flow", **_mapping(obj, "flow")}), condition)
    facts: Json = dict(_mapping(obj, "facts", {}))
    refused: list[Json] = []
    begun = engine.start(program, facts, material=obj.get("material"))
    _note(refused, -1, begun)
    state = begun.state
    if begun.refused is None:
        for index, action in enumerate(obj.get("actions", [])):
            result = _act(program, state, action, facts, index)
            _note(refused, index, result)
            if result.refused is None:
                facts |= {f"fields.{name}": value for name, value in (action.get("fields") or {}).items()}
            state = result.state
    return {**obj, "expected": {**obj.get("expected", {}), **_answer(state, refused)}}


def condition(when: Mapping[str, Any]) -> Test:
    """Compile a condition over any facts; raise `ConditionError` (a `ValueError`) for one that makes no sense."""
    return conditions.parse(when, _ANY_FACT).compile()


def _mapping(obj: Json, name: str, default: Json | None = None) -> Json:
    value = obj.get(name, default)
    if not isinstance(value, dict):
        raise ValueError(f"{name}: a mapping is needed")
    return value


def _act(program: Program, state: FlowState, action: Json, facts: Json, index: int) -> Result:
    if not isinstance(action, dict) or not isinstance(action.get("node"), str):
        raise ValueError(f"actions[{index}]: names no node")
    other = next((name for name in _OTHERS if name in action), None)
    unknown = set(action) - (_OTHERS[other] if other else _COMPLETING)
    if unknown:
        raise ValueError(f"actions[{index}].{min(unknown)}: unknown member")
    node, visit = action["node"], action.get("visit")
    if node not in program.nodes:
        return Result(state=state, refused=Refusal(Reason.NOT_OPEN, f"there is no node {node}"))
    if other == "jump":
        treat = Siblings(action["siblings"]) if "siblings" in action else None
        free = bool(action.get("free"))
        return engine.jump(program, state, node, action["jump"], facts, visit=visit, siblings=treat, free=free)
    if other == "waive":
        return engine.waive(program, state, node, action["waive"], visit=visit)
    if other == "expire":
        return engine.expire(program, state, node, action["expire"], facts, visit=visit)
    given = {name: action.get(name) for name in ("material", "fields", "outcome")}
    return engine.complete(program, state, node, facts, visit=visit, by=action.get("by", ""), **given)


def _note(refused: list[Json], index: int, result: Result) -> None:
    if result.refused is not None:
        entry: Json = {"index": index, "missing": list(result.refused.missing)}
        if not result.refused.missing:
            entry["reason"] = str(result.refused.reason)
        refused.append(entry)


def _answer(state: FlowState, refused: list[Json]) -> Json:
    waiting: dict[str, int] = {}
    for token in state.tokens:
        if not token.visit:
            waiting[token.node] = waiting.get(token.node, 0) + 1
    return {
        "tokens": [{"node": token.node, "visit": token.visit} for token in state.open],
        "waiting": [{"node": node, "arrived": count} for node, count in waiting.items()],
        "refused": refused,
        "done": state.done,
        "outcome": state.outcome,
    }
