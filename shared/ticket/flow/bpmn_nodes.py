"""The single elements of a BPMN file: what a start, an end, a task or a timer says, and what of it is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from shared.ticket.flow.bpmn_read import (
    BPMN,
    SIGNALBOX,
    Element,
    Refused,
    duration,
    foreign,
    foreign_attribute,
    known_as,
    local,
    text_of,
)
from shared.ticket.flow.model import span

Data = dict[str, Any]
_ALWAYS = frozenset({"incoming", "outgoing", "documentation", "extensionElements"})
_OWNERS = frozenset({"potentialOwner", "humanPerformer", "performer"})
_OWNER_CALL = re.compile(r"(user|group)\(\s*([^()]+?)\s*\)\Z")


def settings_of(element: Element, refused: list[Refused]) -> Data:
    """The members that our own export put into the element (`signalbox:settings`, JSON)."""
    found = element.find(f"{{{BPMN}}}extensionElements/{{{SIGNALBOX}}}settings")
    if found is None:
        return {}
    try:
        return msgspec.json.decode(text_of(found), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        refused.append(Refused(known_as(element), f"its settings cannot be read: {error}"))
        return {}


def _unsupported(element: Element, allowed: frozenset[str], refused: list[Refused]) -> None:
    for child in element:
        if local(child) not in _ALWAYS | allowed:
            refused.append(Refused(known_as(element), f"has {local(child)}, which is not supported"))
    if element.get("isForCompensation") == "true":
        refused.append(Refused(known_as(element), "is for compensation, which is not supported"))


def _start(element: Element, refused: list[Refused]) -> Data:
    _unsupported(element, frozenset(), refused)
    return {"kind": "start"}


def _end(element: Element, refused: list[Refused]) -> Data:
    _unsupported(element, frozenset({"terminateEventDefinition"}), refused)
    terminates = element.find(f"{{{BPMN}}}terminateEventDefinition") is not None
    return {"kind": "end", **({"terminate": True} if terminates else {})}


def _user_task(element: Element, refused: list[Refused]) -> Data:
    _unsupported(element, _OWNERS, refused)
    needs = _required_fields(element)
    return {"kind": "task", **({"needs": needs} if needs else {})}


def _service_task(element: Element, refused: list[Refused]) -> Data:
    _unsupported(element, _OWNERS, refused)
    for name in ("topic", "delegateExpression", "class", "type"):
        connector = foreign_attribute(element, name)
        if connector:
            return {"kind": "service", "service": connector}
    defined = [one.get("type") for one in foreign(element, "taskDefinition") if one.get("type")]
    return {"kind": "service", "service": (defined or [element.get("id", "")])[0]}


READERS: dict[str, Callable[[Element, list[Refused]], Data]] = {
    "startEvent": _start,
    "endEvent": _end,
    "userTask": _user_task,
    "serviceTask": _service_task,
}


def _required_fields(element: Element) -> list[Data]:
    """Form fields that Camunda's modeller marks as required."""
    fields = []
    for field in foreign(element, "formField"):
        names = {one.get("name") for one in field.iter() if str(one.tag).endswith("}constraint")}
        if field.get("id") and "required" in names:
            fields.append({"field": field.get("id")})
    return fields


def responsible_of(element: Element, lane: str | None, refused: list[Refused]) -> Data | None:
    """Who the drawing says is responsible: an assignee, one candidate group or user, a standard owner, else the lane."""
    named = [
        ("person", foreign_attribute(element, "assignee")),
        ("group", foreign_attribute(element, "candidateGroups")),
        ("person", foreign_attribute(element, "candidateUsers")),
    ]
    for definition in foreign(element, "assignmentDefinition"):
        named += [("person", definition.get("assignee")), ("group", definition.get("candidateGroups"))]
        named += [("person", definition.get("candidateUsers"))]
    named += [_owner(one) for kind in sorted(_OWNERS) for one in element.findall(f"{{{BPMN}}}{kind}")]
    for kind, value in named:
        if value:
            if re.search(r"[{}=,]", value):
                reason = f"its {kind} {value!r} is an expression or a list; name one person or group"
                refused.append(Refused(known_as(element), reason))
            return {kind: value.strip()}
    return {"role": lane} if lane else None


def _owner(element: Element) -> tuple[str, str | None]:
    text = text_of(element) or element.get("name") or ""
    call = _OWNER_CALL.match(text)
    if call:
        return ("person" if call.group(1) == "user" else "group"), call.group(2)
    return "role", text or None


def timer_of(event: Element, to: str, refused: list[Refused]) -> Data | None:
    """A boundary timer as a timer of its task; None when refused."""
    _unsupported(event, frozenset({"timerEventDefinition"}), refused)
    definition = event.find(f"{{{BPMN}}}timerEventDefinition")
    if definition is None:
        refused.append(Refused(known_as(event), "is a boundary event but no timer"))
        return None
    for kind in ("timeDate", "timeCycle"):
        if definition.find(f"{{{BPMN}}}{kind}") is not None:
            refused.append(Refused(known_as(event), f"has a {kind}; only a duration is supported"))
            return None
    after = _after(definition, event)
    if after is None:
        refused.append(Refused(known_as(event), "has no duration (ISO 8601, for example PT2H) that can be read"))
        return None
    interrupts = event.get("cancelActivity", "true") != "false"
    title = {"title": event.get("name")} if event.get("name") else {}
    timer = {"after": after, "to": to, "time": "wall", **({} if interrupts else {"interrupts": False}), **title}
    return {**timer, **settings_of(event, refused)}


def _after(definition: Element, event: Element) -> float | None:
    """The duration in seconds: as defined, else as the label says (modellers often hold no more than that)."""
    text = text_of(definition.find(f"{{{BPMN}}}timeDuration")) or (event.get("name") or "")
    length = duration(text.strip("\"'"))
    if length is None:
        try:
            length = span(text)
        except ValueError:
            return None
    seconds = length.total_seconds()
    return int(seconds) if seconds == int(seconds) else seconds
