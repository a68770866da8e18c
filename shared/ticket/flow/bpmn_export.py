"""From a flow to a BPMN 2.0 file with a diagram, to be looked at in any BPMN viewer and read back without loss.

What BPMN has, it gets: tasks, gateways, events, timers, conditions, defaults. What it has not (material, owners, jumps, votes,
reject policies) goes into one extension element, `signalbox:settings`, as JSON; other tools carry it along or ignore it. Where
BPMN wants an element that the flow does not have (a start event, a gateway after a task with several ways on), one is drawn
and marked, and taken out again when the file is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import msgspec

from shared.ticket.flow.bpmn_layout import Box, attach, place, way
from shared.ticket.flow.bpmn_read import BPMN, CONDITION_LANGUAGE, SIGNALBOX, Element, iso
from shared.ticket.flow.model import Edge, Flow, Kind, Node, TimeBase, Title, span, written

_DI = "http://www.omg.org/spec/BPMN/20100524/DI"
_DC = "http://www.omg.org/spec/DD/20100524/DC"
_DD = "http://www.omg.org/spec/DD/20100524/DI"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_PREFIXES = {"bpmn": BPMN, "bpmndi": _DI, "dc": _DC, "di": _DD, "xsi": _XSI, "signalbox": SIGNALBOX}
_TAGS = {
    Kind.START: "startEvent",
    Kind.END: "endEvent",
    Kind.TASK: "userTask",
    Kind.SERVICE: "serviceTask",
    Kind.DECISION: "exclusiveGateway",
}
_SHAPES = {"startEvent": "event", "endEvent": "event", "userTask": "task", "serviceTask": "task"}


def export_bpmn(flow: Flow, *, locale: str = "en") -> bytes:
    """The flow as a BPMN 2.0 file; titles in `locale` where a flow has several. `import_bpmn` gives the same flow back."""
    for prefix, uri in _PREFIXES.items():
        ElementTree.register_namespace(prefix, uri)
    drawing = _Drawing(flow, locale)
    root = drawing.document()
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return data


@dataclass(frozen=True, slots=True)
class _Line:
    """A connection of the diagram."""

    id: str
    source: str
    target: str


@dataclass(slots=True)
class _Drawing:
    """One export: fills the process first, then the diagram."""

    flow: Flow
    locale: str
    shapes: dict[str, str] = field(default_factory=dict)
    timers: list[tuple[str, str, int]] = field(default_factory=list)
    lines: list[_Line] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def document(self) -> Element:
        self.taken = {node.name for node in self.flow.nodes}
        root = ElementTree.Element(_bpmn("definitions"), {"id": self._id("definitions"), "targetNamespace": SIGNALBOX})
        process = _under(root, "process", id=self._free(self.flow.name), isExecutable="true")
        if self.flow.title is not None:
            process.set("name", self._text(self.flow.title))
        own = written(self.flow)
        del own["nodes"]
        _settings(process, own)
        start = self.flow.start_name
        if not any(node.kind is Kind.START for node in self.flow.nodes):
            start = self._id("start")
            event = self._shape(process, "startEvent", start)
            _settings(event, {"drawn": True})
            self._line(process, start, Edge(to=self.flow.start_name))
        for node in self.flow.nodes:
            self._node(process, node)
        self._diagram(root, process, start)
        return root

    # ---- the process -------------------------------------------------------------------------------------------------------

    def _node(self, process: Element, node: Node) -> None:
        element = self._shape(process, self._tag(node), node.name, node.title)
        own = {
            name: value for name, value in msgspec.to_builtins(node).items() if name not in ("name", "next", "timers")
        }
        if node.kind not in (Kind.FORK, Kind.JOIN):
            own.pop("kind", None)
        if node.kind is Kind.SERVICE:
            own["service"] = node.service
        if node.kind is Kind.END and node.terminate:
            own.pop("terminate")
            _under(element, "terminateEventDefinition")
        _settings(element, own)
        source = element
        branching = len(node.edges) > 1 or any(edge.when is not None for edge in node.edges)
        if branching and node.kind not in (Kind.DECISION, Kind.FORK):
            gateway = self._id(f"{node.name}.choice")
            source = self._shape(process, "exclusiveGateway", gateway)
            _settings(source, {"drawn": True})
            self._line(process, node.name, Edge(to=gateway))
        for edge in node.edges:
            default = self._is_default(node, edge)
            line = self._line(process, source.get("id", ""), edge, default=default)
            if default:
                source.set("default", line)
        for index, _ in enumerate(node.timers):
            self._timer(process, node, index)

    def _tag(self, node: Node) -> str:
        if node.kind is Kind.FORK:
            some = any(edge.when is not None or edge.default for edge in node.edges)
            return "inclusiveGateway" if some else "parallelGateway"
        if node.kind is Kind.JOIN:
            return "parallelGateway" if node.need == "all" else "inclusiveGateway"
        return _TAGS[node.kind]

    @staticmethod
    def _is_default(node: Node, edge: Edge) -> bool:
        chosen = node.kind is not Kind.FORK and edge.when is None and len(node.edges) > 1
        return edge.default or chosen

    def _timer(self, process: Element, node: Node, index: int) -> None:
        timer = node.timers[index]
        id = self._id(f"{node.name}.timer{index}")
        event = _under(process, "boundaryEvent", id=id, attachedToRef=node.name)
        if not timer.interrupts:
            event.set("cancelActivity", "false")
        if timer.title is not None:
            event.set("name", self._text(timer.title))
        own: dict[str, Any] = {"after": timer.after}
        own |= {"time": "open"} if timer.time is TimeBase.OPEN else {}
        own |= {"title": timer.title} if timer.title is not None else {}
        _settings(event, own)
        definition = _under(event, "timerEventDefinition")
        length = _under(definition, "timeDuration")
        length.set(f"{{{_XSI}}}type", "bpmn:tFormalExpression")
        length.text = iso(span(timer.after))
        self.timers.append((id, node.name, index))
        self._line(process, id, Edge(to=timer.to))

    def _line(self, process: Element, source: str, edge: Edge, *, default: bool = False) -> str:
        id = self._id(f"{source}.to.{edge.to}")
        flow = _under(process, "sequenceFlow", id=id, sourceRef=source, targetRef=edge.to)
        label = self._label(edge)
        if label:
            flow.set("name", label)
        own = {name: value for name, value in msgspec.to_builtins(edge).items() if name in ("siblings", "title")}
        own |= {"named": True} if label else {}
        own |= {"default": edge.default} if default else {}
        _settings(flow, own)
        if edge.when is not None:
            condition = _under(flow, "conditionExpression", language=CONDITION_LANGUAGE)
            condition.set(f"{{{_XSI}}}type", "bpmn:tFormalExpression")
            condition.text = msgspec.json.encode(edge.when).decode()
        self.lines.append(_Line(id, source, edge.to))
        return id

    def _label(self, edge: Edge) -> str:
        """What is written at a way: its title, else the outcome it is for."""
        if edge.title is not None:
            return self._text(edge.title)
        outcome = (edge.when or {}).get("outcome")
        return outcome if isinstance(outcome, str) else ""

    def _shape(self, process: Element, tag: str, id: str, title: Title | None = None) -> Element:
        element = _under(process, tag, id=id)
        if title is not None:
            element.set("name", self._text(title))
        self.shapes[id] = _SHAPES.get(tag, "gateway")
        return element

    def _text(self, title: Title) -> str:
        return title if isinstance(title, str) else title.get(self.locale) or next(iter(title.values()), "")

    def _id(self, wanted: str) -> str:
        """An id that nothing has yet."""
        id, number = wanted, 1
        while id in self.taken:
            number += 1
            id = f"{wanted}.{number}"
        self.taken.add(id)
        return id

    def _free(self, wanted: str) -> str:
        return self._id(wanted if wanted[:1].isalpha() else f"flow-{wanted}")

    # ---- the diagram -------------------------------------------------------------------------------------------------------

    def _diagram(self, root: Element, process: Element, start: str) -> None:
        hosts = {id: host for id, host, _ in self.timers}
        edges = [(hosts.get(line.source, line.source), line.target) for line in self.lines]
        boxes = place(start, self.shapes, edges)
        lowest = max(box.y + box.height for box in boxes.values()) + 40
        for id, host, index in self.timers:
            boxes[id] = attach(boxes[host], index)
        diagram = ElementTree.SubElement(root, f"{{{_DI}}}BPMNDiagram", {"id": self._id("diagram")})
        plane_at = {"id": self._id("plane"), "bpmnElement": process.get("id", "")}
        plane = ElementTree.SubElement(diagram, f"{{{_DI}}}BPMNPlane", plane_at)
        for id, box in boxes.items():
            self._draw_shape(plane, id, box)
        for number, line in enumerate(self.lines):
            drawn = {"id": self._id(f"{line.id}.edge"), "bpmnElement": line.id}
            edge = ElementTree.SubElement(plane, f"{{{_DI}}}BPMNEdge", drawn)
            below = line.source in hosts
            for x, y in way(boxes[line.source], boxes[line.target], lowest=lowest + 12 * (number % 8), below=below):
                ElementTree.SubElement(edge, f"{{{_DD}}}waypoint", {"x": str(x), "y": str(y)})

    def _draw_shape(self, plane: Element, id: str, box: Box) -> None:
        shape = ElementTree.SubElement(plane, f"{{{_DI}}}BPMNShape", {"id": self._id(f"{id}.shape"), "bpmnElement": id})
        bounds = {"x": box.x, "y": box.y, "width": box.width, "height": box.height}
        ElementTree.SubElement(shape, f"{{{_DC}}}Bounds", {name: str(value) for name, value in bounds.items()})


def _bpmn(name: str) -> str:
    return f"{{{BPMN}}}{name}"


def _under(parent: Element, name: str, **attributes: str) -> Element:
    return ElementTree.SubElement(parent, _bpmn(name), attributes)


def _settings(element: Element, own: dict[str, Any]) -> None:
    """Put what BPMN has no place for into the element, first (the schema wants extensions there)."""
    if own:
        extensions = ElementTree.Element(_bpmn("extensionElements"))
        settings = ElementTree.SubElement(extensions, f"{{{SIGNALBOX}}}settings")
        settings.text = msgspec.json.encode(own).decode()
        element.insert(0, extensions)
