"""The router's reasons as sentences: what a ticket is and from where we know, and what kept or chose each candidate."""

from __future__ import annotations

from typing import Any

_FILTERS = {
    "group": "not in the group, or too new in it",
    "active": "not active",
    "presence": "not available",
    "shift": "off shift, or too little of it left",
    "leave": "on leave",
    "skills": "lacks a skill that is asked for",
    "declined": "declined this ticket",
    "capacity": "no capacity left",
    "rate": "had enough in the rate window",
}
_ORIGINS = {
    "given": "given by the sender",
    "rule": "by rule",
    "model": "by model",
    "matrix": "from the priority matrix",
    "default": "by default",
}
_HOW = {
    "strategy": "by the group's strategy",
    "sticky": "the last owner",
    "named": "named by a rule or a field",
    "interface": "the department's interface person",
    "plan": "by look-ahead over the batch",
}


def classification(reason: dict[str, Any]) -> list[str]:
    """Labels, priority and group with their origin; the rules that acted and what they read; what others said."""
    found = [f"  {name} = {_label(label)}" for name, label in reason.get("labels", {}).items()]
    for name in ("priority", "group"):
        if name in reason:
            found.append(f"  {name} = {_label(reason[name])}")
    for rule in reason.get("rules", []):
        read = ", ".join(f"{fact} = {value!r}" for fact, value in rule["inputs"].items())
        found.append(f"  rule {rule['set']}/{rule['rule']} acted" + (f": it read {read}" if read else ""))
    for name, said in reason.get("enriched", {}).items():
        why = f" ({said['why']})" if said.get("why") else ""
        facts = ", ".join(f"{fact} = {value!r}" for fact, value in said["facts"].items())
        found.append(f"  {name} said, {said['from']}{why}: {facts or 'nothing'}")
    if reason.get("guesses"):
        guesses = ", ".join(f"{label} {confidence:.0%}" for label, confidence in reason["guesses"])
        found.append(f"  the model is not sure; its best guesses: {guesses}")
    return found + [f"  note: {note}" for note in reason.get("notes", [])]


def _label(label: dict[str, Any]) -> str:
    by = f" {label['rule']}" if label.get("rule") else ""
    sure = f", {label['confidence']:.0%} sure" if label.get("confidence") is not None else ""
    return f"{label['value']} ({_ORIGINS.get(label['from'], label['from'])}{by}{sure})"


def headline(kind: str, data: dict[str, Any], reason: dict[str, Any]) -> str:
    """What became of the ticket in a group."""
    if kind == "ticket.queued":
        return f"Group {data['group']}: nobody can take it now ({_FILTERS.get(data['why'], data['why'])})."
    if kind == "ticket.assignment_failed":
        return f"Group {data['group']}: {data['why']}."
    verb = "offered to" if kind == "ticket.offered" else "given to"
    how = _HOW.get(reason.get("how", ""), "by hand")
    relaxed = f", step {reason['step']}" if reason.get("step", "all") != "all" else ""
    return f"Group {data['group']} ({reason.get('strategy', 'by hand')}): {verb} {data['agent']}, {how}{relaxed}."


def candidates(reason: dict[str, Any]) -> list[str]:
    """Everybody who was looked at, one a line: the score that decided, or the filter that was in the way."""
    names, scores = reason.get("score_of", []), reason.get("scores", {})
    dropped = {agent for ids in reason.get("dropped", {}).values() for agent in ids}
    found = []
    for agent in reason.get("considered", []):
        if agent in dropped:
            continue
        mark = ": chosen" if agent == reason.get("chosen") else ""
        score = scores.get(agent) or (reason.get("score") if mark else None)
        stood = f" ({_score(names, score)})" if score else ""
        found.append(f"  {agent}{mark or ': could take it'}{stood}")
    for name, ids in reason.get("dropped", {}).items():
        found += [f"  {agent}: {_FILTERS.get(name, name)}" for agent in ids]
    for delegate, member in reason.get("standing_in", {}).items():
        found.append(f"  {delegate} stands in for {member}")
    for loop in reason.get("delegate_loops", []):
        found.append(f"  delegates run in a circle: {' → '.join(loop)}")
    for step in (*reason.get("relaxed_from", []), *reason.get("also_tried", [])):
        why = "; ".join(f"{', '.join(ids)}: {_FILTERS.get(name, name)}" for name, ids in step["dropped"].items())
        found.append(f"  step {step['step']} in {step['group']}: nobody ({why})")
    return found + [f"  note: {note}" for note in reason.get("notes", [])]


def _score(names: list[str], score: list[float]) -> str:
    parts = []
    for name, part in zip(names, score, strict=False):
        if name == "place":
            continue
        if name == "load":
            parts.append(f"load {part / 100:g}")
        elif name == "last assigned":
            parts.append("never assigned before" if part == 0 else f"last assigned {part:.0f}")
        else:
            parts.append(f"{name} {part:g}")
    return ", ".join(parts)
