"""What services say of a ticket as sentences: the router's reasons (what it is and from where we know, what kept or chose each
candidate), the clocks, and whose the time was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from services.router.domain.lookahead import HELD

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
            found.append(f"  {name} = {_label(reason[name], unsure=name == 'group' and bool(reason.get('guesses')))}")
    for rule in reason.get("rules", []):
        read = ", ".join(f"{fact} = {value!r}" for fact, value in rule["inputs"].items())
        found.append(f"  rule {rule['set']}/{rule['rule']} acted" + (f": it read {read}" if read else ""))
    for name, said in reason.get("enriched", {}).items():
        why = f" ({said['why']})" if said.get("why") else ""
        facts = ", ".join(f"{fact} = {value!r}" for fact, value in said["facts"].items())
        found.append(f"  {name} said, {said['from']}{why}: {facts or 'nothing'}")
    if reason.get("guesses"):
        guesses = ", ".join(f"{label} {confidence:.0%}" for label, confidence in reason["guesses"])
        found.append(f"  the model's best guesses, none above its threshold: {guesses}")
    return found + [f"  note: {note}" for note in reason.get("notes", [])]


def _label(label: dict[str, Any], *, unsure: bool = False) -> str:
    if unsure and label["from"] == "model":
        return f"{label['value']} (model {label['rule']} does not know: {label['confidence']:.1%} sure is too little)"
    by = f" {label['rule']}" if label.get("rule") else ""
    sure = f", {label['confidence']:.0%} sure" if label.get("confidence") is not None else ""
    return f"{label['value']} ({_ORIGINS.get(label['from'], label['from'])}{by}{sure})"


def moment(at: datetime | str) -> str:
    """An instant to the second: `2026-11-30 09:55:38 UTC`."""
    known = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{known.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def length(seconds: float) -> str:
    """A length of time in its two largest units: `45 s`, `5 min 26 s`, `2 h 3 min`, `3 d 4 h`."""
    left = round(abs(seconds))
    parts: list[tuple[int, str]] = []
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, name))
    return " ".join(f"{count} {name}" for count, name in parts[:2] if count) or "0 s"


def clock(one: dict[str, Any]) -> str:
    """One clock: by whose promise, where it stands, what was counted, what it has told."""
    calendar = f"calendar {one['calendar']}" if one["calendar"] else "around the clock"
    cycle = f" {one['cycle']}" if one["cycle"] > 1 else ""
    stands = "breached, paused" if one["paused"] and one["state"] == "breached" else one["state"]
    told = [f"due {moment(one['due_at'])}"] if one["due_at"] else []
    of = f" of {length(one['target_seconds'])}" if one["target_seconds"] is not None else ""
    told.append(f"{length(one['elapsed_seconds'])}{of} counted")
    if one["paused_seconds"]:
        told.append(f"{length(one['paused_seconds'])} paused")
    told += [f"warned {moment(at)}" for at in one["warned_at"]]
    told += [
        f"{what} {moment(at)}" for what, at in (("breached", one["breached_at"]), ("over", one["stopped_at"])) if at
    ]
    if one.get("breach_probability") is not None:
        told.append(f"breach expected with {one['breach_probability']:.0%}")
    promise = f"policy {one['policy']} of version {one['policy_version']}, {calendar}"
    return f"Clock {one['metric']}{cycle} ({promise}): {stands}; {', '.join(told)}."


def moved(one: dict[str, Any]) -> str:
    """Why clocks have other instants since then."""
    names = ", ".join(each["metric"] for each in one["data"]["clocks"])
    return f"  moved {moment(one['at'])} ({one['data']['cause']}): {names}"


def shares(found: dict[str, Any]) -> str:
    """Whose a ticket's time was so far, the largest share first; what is less than a second is left out."""
    parts = [
        f"{'waiting in ' if one['part'] == 'queue' and one['name'] else ''}{one['name'] or one['part']} {length(one['seconds'])}"
        for one in sorted(found["person"], key=lambda one: -one["seconds"])
        if one["seconds"] >= 1
    ]
    return f"Of {length(found['seconds'])}: {', '.join(parts)}."


def ended(one: dict[str, Any]) -> str:
    """How a ticket ended without being solved: as a repeat of another, merged by hand, or closed with a reason."""
    if one["type"] == "ticket.merged":
        return f"Merged into T-{one['data']['into']} at {moment(one['at'])}: what it said stands there."
    reason = one["data"].get("reason")
    return f"Closed at {moment(one['at'])}" + (f": {reason}." if reason else ".")


def owned(one: dict[str, Any]) -> str:
    """One span of ownership: whose, since when, how it came and with which reason."""
    why = f": {one['reason']}" if one["reason"] else ""
    return f"  {one['group_name']} from {moment(one['from_at'])} ({one['how']}{why})"


def headline(kind: str, data: dict[str, Any], reason: dict[str, Any]) -> str:
    """What became of the ticket in a group."""
    if kind == "ticket.queued":
        if HELD in reason.get("notes", ()):
            return f"Group {data['group']}: it is given to nobody yet, look-ahead waits for whom it suits best."
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
    if reason.get("how") == "plan":  # not the strategy's score: what the plan expects to lose with this pair
        names = ["expected cost"]
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
            last = datetime.fromtimestamp(part, UTC)
            parts.append("never assigned before" if part == 0 else f"last assigned {moment(last)}")
        else:
            parts.append(f"{name} {part:g}")
    return ", ".join(parts)
