"""From a BPMN 2.0 file to a flow. What is taken, and how, is docs/bpmn-profile.md; all else is refused by element id.

The file is taken whole or not at all: every element that stands in the way is named at once. What comes out is a flow like
any other and is proven like any other; node names are the element ids.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import msgspec

from shared.ticket.flow import bpmn_conditions
from shared.ticket.flow.bpmn_nodes import READERS, responsible_of, settings_of, timer_of
from shared.ticket.flow.bpmn_read import (
    BPMN,
    CONDITION_LANGUAGE,
    BpmnRefused,
    Element,
    Refused,
    known_as,
    local,
    parse,
    text_of,
)
from shared.ticket.flow.graph import graph_of
from shared.ticket.flow.model import Flow, read
from shared.ticket.flow.structure import arrivals, structure_of

GATEWAYS = frozenset({"exclusiveGateway", "parallelGateway", "inclusiveGateway"})
_DRAWING = frozenset({"documentation", "extensionElements", "textAnnotation", "association", "group"})
_DRAWN = "drawn"
"""In the settings of an element that our own export drew only because BPMN wants it there."""

Data = dict[str, Any]


def import_bpmn(document: bytes | str, *, responsible: Data | None = None) -> Flow:
    """Read a BPMN 2.0 file as a flow; raise `BpmnRefused` naming every element that is outside the profile.

    `responsible` is the flow's default for tasks that neither name anybody nor lie in a lane.
    """
    importer = _Importer(parse(document))
    data = importer.flow(responsible)
    if importer.refused:
        raise BpmnRefused(*importer.refused)
    try:
        flow = read(data)
    except msgspec.ValidationError as error:
        raise BpmnRefused(Refused(data["name"], f"its settings do not fit: {error}")) from error
    deceived = list(_alternatives(flow, importer.parallel))
    if deceived:
        raise BpmnRefused(*deceived)
    return flow


def _alternatives(flow: Flow, parallel: set[str]) -> Iterator[Refused]:
    """Parallel gateways two of whose ways in are alternatives: as drawn, they would wait for both for ever."""
    graph = graph_of(flow)
    structure = structure_of(flow, graph)
    for join in sorted(parallel & set(structure.joins)):
        for (one, scope), (other, beside) in combinations(arrivals(join, graph, structure), 2):
            if all(here == there for here, there in zip(scope, beside, strict=False)):
                text = f"waits for both {one} and {other}, which are alternatives; merge them with an exclusive gateway first"
                yield Refused(join, text)


class _Importer:
    def __init__(self, root: Element) -> None:
        self.refused: list[Refused] = []
        self.parallel: set[str] = set()
        self._root = root
        self._elements: dict[str, Element] = {}
        self._flows: list[Element] = []
        self._out: dict[str, list[Element]] = defaultdict(list)
        self._in: dict[str, list[Element]] = defaultdict(list)
        self._roles: dict[str, str] = {}
        self._outcomes: dict[str, list[str]] = defaultdict(list)

    def refuse(self, element: Element, reason: str) -> None:
        self.refused.append(Refused(known_as(element), reason))

    def flow(self, responsible: Data | None) -> Data:
        process = self._process()
        self._collect(process)
        self._connect()
        if self.refused:
            return {"name": "refused", "nodes": []}
        own = settings_of(process, self.refused)
        nodes = [node for element in self._elements.values() for node in self._nodes(element)]
        if self._outcomes:
            nodes = [self._with_outcomes(node) for node in nodes]
        title = process.get("name") or self._participant_name(process)
        data: Data = {"name": _name(process.get("id") or "flow"), **own, "nodes": _undrawn(nodes)}
        if title and "title" not in data:
            data["title"] = title
        if responsible is not None and "responsible" not in data:
            data["responsible"] = responsible
        return data

    # ---- what is there -----------------------------------------------------------------------------------------------------

    def _process(self) -> Element:
        processes = [one for one in self._root.findall(f"{{{BPMN}}}process") if len(one)]
        for collaboration in self._root.findall(f"{{{BPMN}}}collaboration"):
            for one in collaboration:
                if local(one) not in ("participant", *_DRAWING):
                    self.refuse(one, f"{local(one)} between pools is not supported")
        if not processes:
            raise BpmnRefused(Refused("file", "has no process with anything in it"), *self.refused)
        for other in processes[1:]:
            self.refuse(other, "is a second process; a flow is one process")
        return processes[0]

    def _participant_name(self, process: Element) -> str | None:
        participants = self._root.iter(f"{{{BPMN}}}participant")
        return next((one.get("name") for one in participants if one.get("processRef") == process.get("id")), None)

    def _collect(self, process: Element) -> None:
        for element in process:
            kind = local(element)
            if kind == "sequenceFlow":
                self._flows.append(element)
            elif kind == "laneSet":
                self._lanes(element)
            elif kind in READERS or kind in GATEWAYS or kind == "boundaryEvent":
                if not element.get("id"):
                    self.refuse(element, "has no id")
                elif element.get("id") in self._elements:
                    self.refuse(element, "is there twice")
                self._elements[element.get("id", "")] = element
            elif kind not in _DRAWING:
                self.refuse(element, f"{kind} is not supported")

    def _lanes(self, lanes: Element) -> None:
        for lane in lanes.findall(f"{{{BPMN}}}lane"):
            for reference in lane.findall(f"{{{BPMN}}}flowNodeRef"):
                self._roles[text_of(reference)] = lane.get("name") or lane.get("id") or ""
            for inner in lane.findall(f"{{{BPMN}}}childLaneSet"):
                self._lanes(inner)

    def _connect(self) -> None:
        order = {
            text_of(out): index
            for element in self._elements.values()
            for index, out in enumerate(element.findall(f"{{{BPMN}}}outgoing"))
        }
        for flow in self._flows:
            source, target = flow.get("sourceRef", ""), flow.get("targetRef", "")
            if source not in self._elements or target not in self._elements:
                self.refuse(flow, "does not connect two elements of the profile")
                continue
            self._out[source].append(flow)
            self._in[target].append(flow)
        for flows in self._out.values():
            flows.sort(key=lambda one: order.get(one.get("id", ""), len(order)))
        starts = [one for one in self._elements.values() if local(one) == "startEvent"]
        for other in starts[1:]:
            self.refuse(other, "is a second start event; a flow begins in one place")
        if not starts:
            self.refused.append(Refused("file", "has no start event"))
        for element in self._elements.values():
            self._check_ends(element)

    def _check_ends(self, element: Element) -> None:
        kind, id = local(element), element.get("id", "")
        if kind == "startEvent" and self._in[id]:
            self.refuse(self._in[id][0], "leads to a start event")
        if kind == "endEvent" and self._out[id]:
            self.refuse(self._out[id][0], "leads on from an end event")
        if kind == "boundaryEvent" and self._in[id]:
            self.refuse(self._in[id][0], "leads to a boundary event")
        if kind not in GATEWAYS and len(self._out[id]) > 1:
            self.refuse(element, "has more than one way out; draw a gateway")

    # ---- nodes -------------------------------------------------------------------------------------------------------------

    def _nodes(self, element: Element) -> list[Data]:
        kind, id = local(element), element.get("id", "")
        if kind == "boundaryEvent":
            self._check_host(element)
            return []
        own = settings_of(element, self.refused)
        title = {"title": element.get("name")} if element.get("name") and "title" not in own else {}
        if kind in GATEWAYS:
            return [{**title, **node, **own} for node in self._gateway(element, own)]
        node: Data = {"name": id, **READERS[kind](element, self.refused), **title, "next": self._edges(element)}
        if kind in ("userTask", "serviceTask"):
            owner = responsible_of(element, self._roles.get(id), self.refused)
            node |= {"responsible": owner} if owner and "responsible" not in own else {}
            timers = [timer for one in self._elements.values() if (timer := self._timer(one, id)) is not None]
            node |= {"timers": timers} if timers else {}
        if kind == "endEvent":
            del node["next"]
        return [{**node, **own}]

    def _check_host(self, event: Element) -> None:
        host = self._elements.get(event.get("attachedToRef", ""))
        if host is None or local(host) not in ("userTask", "serviceTask"):
            self.refuse(event, "is not attached to a user or service task")

    def _timer(self, event: Element, host: str) -> Data | None:
        if local(event) != "boundaryEvent" or event.get("attachedToRef") != host:
            return None
        flows = self._out[event.get("id", "")]
        if len(flows) != 1:
            self.refuse(event, "has no way out; a timer leads somewhere")
            return None
        return timer_of(event, flows[0].get("targetRef", ""), self.refused)

    def _gateway(self, element: Element, own: Data) -> list[Data]:
        kind, id = local(element), element.get("id", "")
        out = self._edges(element)
        written = own.get("kind")
        if kind == "exclusiveGateway" or (len(self._in[id]) <= 1 and len(out) <= 1 and written is None):
            return [{"name": id, "kind": "decision", "next": out}]
        if written in ("fork", "join"):
            return [{"name": id, "kind": written, "next": out}]
        if kind == "parallelGateway" and len(self._in[id]) > 1:
            self.parallel.add(id)
        if len(out) <= 1:
            return [{"name": id, "kind": "join", "next": out}]
        if len(self._in[id]) <= 1:
            return [{"name": id, "kind": "fork", "next": out}]
        split = f"{id}.fork"
        return [{"name": id, "kind": "join", "next": split}, {"name": split, "kind": "fork", "next": out}]

    def _with_outcomes(self, node: Data) -> Data:
        names = self._outcomes.get(node["name"])
        return {**node, "outcomes": list(dict.fromkeys(names))} if names and not node.get("outcomes") else node

    # ---- transitions -------------------------------------------------------------------------------------------------------

    def _edges(self, element: Element) -> list[Data]:
        flows = self._out[element.get("id", "")]
        default = element.get("default")
        choosing = local(element) == "exclusiveGateway" and len(flows) > 1
        edges = [self._edge(element, flow, default, choosing=choosing) for flow in flows]
        bare = [edge for edge in edges if set(edge) <= {"to"}]
        if choosing and default is None and len(bare) > 1:
            for flow in flows:
                if flow.find(f"{{{BPMN}}}conditionExpression") is None and not flow.get("name"):
                    self.refuse(flow, "has neither a condition nor a name, and is not the default")
        return edges

    def _edge(self, element: Element, flow: Element, default: str | None, *, choosing: bool) -> Data:
        edge: Data = {"to": flow.get("targetRef", "")}
        own = settings_of(flow, self.refused)
        ours = own.pop("named", False)  # our own export names a way for the reader's sake only
        condition = flow.find(f"{{{BPMN}}}conditionExpression")
        is_default = default is not None and flow.get("id") == default
        name = (flow.get("name") or "").strip()
        title = {"title": name} if name and not ours else {}
        if condition is not None and text_of(condition) and not is_default:
            if local(element) == "parallelGateway":
                self.refuse(flow, "has a condition; all branches of a parallel gateway are taken")
            elif local(element) not in GATEWAYS:
                self.refuse(flow, "has a condition; draw an exclusive gateway")
            edge |= self._condition(flow, condition)
            return {**edge, **title, **own}
        if choosing and name and not ours:
            tasks = self._asking(element)
            if tasks:
                for task in tasks:
                    self._outcomes[task].append(name)
                return {**edge, **({"default": True} if is_default else {"when": {"outcome": name}})} | own
            if not is_default:
                self.refuse(flow, "has a name but no condition, and there is no task before it to have that outcome")
        return {**edge, **({"default": True} if is_default else {}), **title, **own}

    def _condition(self, flow: Element, condition: Element) -> Data:
        text = text_of(condition)
        try:
            if condition.get("language") == CONDITION_LANGUAGE:
                return {"when": msgspec.json.decode(text, type=dict[str, Any])}
            return {"when": bpmn_conditions.read(text)}
        except (ValueError, msgspec.MsgspecError) as error:
            self.refuse(flow, f"its condition cannot be read: {error}")
            return {}

    def _asking(self, gateway: Element) -> list[str]:
        """The tasks right before a gateway, whose outcomes its ways are named after; none when anything else is there too."""
        found: list[str] = []
        todo, seen = [gateway.get("id", "")], set[str]()
        while todo:
            id = todo.pop()
            if id in seen:
                continue
            seen.add(id)
            for flow in self._in[id]:
                source = self._elements[flow.get("sourceRef", "")]
                if local(source) in ("userTask", "serviceTask"):
                    found.append(source.get("id", ""))
                elif local(source) == "exclusiveGateway" and len(self._out[source.get("id", "")]) == 1:
                    todo.append(source.get("id", ""))
                else:
                    return []
        return found


def _undrawn(nodes: list[Data]) -> list[Data]:
    """Take out what our own export drew only for the drawing's sake: a node's own gateway, the start event."""
    drawn = {node["name"]: node for node in nodes if node.pop(_DRAWN, False)}
    kept = [node for node in nodes if node["name"] not in drawn]
    for node in kept:
        following = node.get("next")
        if isinstance(following, list) and len(following) == 1 and following[0].get("to") in drawn:
            node["next"] = drawn[following[0]["to"]]["next"]
    return kept


def _name(id: str) -> str:
    return re.sub(r"[^\w.-]", "-", id)
