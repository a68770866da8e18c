"""BPMN files, read safely: no document type, no entities, bounded size, depth and number of elements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from xml.etree import ElementTree
from xml.parsers import expat

BPMN = "http://www.omg.org/spec/BPMN/20100524/MODEL"
SIGNALBOX = "urn:signalbox:flow:1"
CONDITION_LANGUAGE = "urn:signalbox:condition:1"

MAX_BYTES = 2_000_000
MAX_DEPTH = 60
MAX_ELEMENTS = 20_000

Element = ElementTree.Element
_DURATION = re.compile(r"P(?:(\d+)W|(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?)\Z")


@dataclass(frozen=True, slots=True)
class Refused:
    """One element that is outside the profile (docs/bpmn-profile.md), by its id."""

    element: str
    reason: str

    def __str__(self) -> str:
        return f"{self.element}: {self.reason}"


class BpmnRefused(ValueError):
    """The file cannot be taken as a flow; `refused` names every element that stands in the way."""

    def __init__(self, *refused: Refused) -> None:
        super().__init__("; ".join(str(one) for one in refused))
        self.refused = refused


def parse(document: bytes | str) -> Element:
    """Return the root of a BPMN file; raise `BpmnRefused` for what is not well-formed, not BPMN, or dangerous."""
    data = document.encode("utf-8") if isinstance(document, str) else document
    if len(data) > MAX_BYTES:
        raise BpmnRefused(Refused("file", f"is larger than {MAX_BYTES:,} bytes"))
    try:
        _look_over(data)
        root = ElementTree.fromstring(data)  # after the look: nothing in it can expand
    except (expat.ExpatError, ElementTree.ParseError, ValueError) as error:
        if isinstance(error, BpmnRefused):
            raise
        raise BpmnRefused(Refused("file", f"is not well-formed XML: {error}")) from error
    if root.tag != f"{{{BPMN}}}definitions":
        raise BpmnRefused(
            Refused("file", "is not a BPMN 2.0 file (its root is not `definitions` of the BPMN 2.0 model)")
        )
    return root


def _look_over(data: bytes) -> None:
    """A first pass that builds nothing and stops at what could hurt."""
    depth, count = 0, 0

    def started(_name: str, _attributes: object) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            raise BpmnRefused(
                Refused("file", f"has more than {MAX_ELEMENTS:,} elements, or more than {MAX_DEPTH} levels")
            )

    def ended(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_declared: object) -> None:
        raise BpmnRefused(Refused("file", "has a document type declaration; entities are not read"))

    parser = expat.ParserCreate()
    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    parser.StartDoctypeDeclHandler = doctype
    parser.Parse(data, True)


def local(element: Element) -> str:
    """The name of a BPMN element, or `{namespace}name` of a foreign one."""
    tag = str(element.tag)
    return tag.removeprefix(f"{{{BPMN}}}")


def known_as(element: Element) -> str:
    """How an element is named to people: its id, else what it is."""
    return element.get("id") or f"<{local(element)}>"


def foreign(element: Element, name: str) -> list[Element]:
    """The extension elements called `name` in any namespace but BPMN's, at any depth below `extensionElements`."""
    found: list[Element] = []
    for extensions in element.findall(f"{{{BPMN}}}extensionElements"):
        found.extend(one for one in extensions.iter() if str(one.tag).endswith(f"}}{name}"))
    return found


def foreign_attribute(element: Element, name: str) -> str | None:
    """The value of the attribute called `name` of a modeller's own namespace (`camunda:assignee`)."""
    return next((value for key, value in element.attrib.items() if key.endswith(f"}}{name}") and value.strip()), None)


def text_of(element: Element | None) -> str:
    """The text of an element, stripped; blank for none."""
    return "" if element is None else "".join(element.itertext()).strip()


def duration(text: str) -> timedelta | None:
    """Read an ISO 8601 duration of weeks, days, hours, minutes, seconds; None for anything else (months have no length)."""
    found = _DURATION.match(text.strip())
    if not found or not any(found.groups()):
        return None
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def iso(length: timedelta) -> str:
    """Write a duration as ISO 8601 (`P1DT2H`)."""
    days, rest = divmod(length.total_seconds(), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    date = f"{int(days)}D" if days else ""
    clock = [(hours, "H"), (minutes, "M"), (seconds, "S")]
    time = "".join(f"{value:g}{unit}" for value, unit in clock if value)
    return f"P{date}" + (f"T{time}" if time else "" if date else "T0S")
