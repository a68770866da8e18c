"""Reading a playbook folder: YAML files merged into sections, every value remembering its file and line.

Each file is a mapping of section names to their content (`sla:`, `rules:` …); a section stands in one file only. YAML is read
safely, without aliases running wild, and a key that stands twice is an error and not a silent last-one-wins. Each `*.bpmn` file
beside them is one more entry of `flows`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shared.ticket.flow.bpmn_import import import_bpmn
from shared.ticket.flow.bpmn_read import BpmnRefused
from shared.ticket.flow.model import written

MAX_FILE_BYTES = 4 << 20
MAX_NODES = 500_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a playbook: where (file, line, field) and what. Warnings do not stop publishing."""

    reason: str
    file: str = ""
    line: int = 0
    field: str = ""
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file else "playbook"
        kind = "warning: " if self.warning else ""
        return f"{place}: {self.field}: {kind}{self.reason}" if self.field else f"{place}: {kind}{self.reason}"


class BadPlaybook(ValueError):
    """A playbook cannot be used; `problems` says why, place by place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(one) for one in self.problems))


Path_ = tuple[str | int, ...]


@dataclass(slots=True)
class Source:
    """The merged sections as plain data, and where each value came from."""

    sections: dict[str, Any]
    name: str = ""
    folder: Path | None = None
    _places: dict[Path_, tuple[str, int]] = field(default_factory=dict)

    def place(self, path: Iterable[str | int]) -> tuple[str, int]:
        """File and line of the value at `path`, or of the nearest thing around it that has one."""
        parts = tuple(path)
        while parts:
            if parts in self._places:
                return self._places[parts]
            parts = parts[:-1]
        return ("", 0)

    def problem(self, path: Iterable[str | int], reason: str, *, warning: bool = False) -> Problem:
        """A problem at `path`, with its file and line."""
        parts = tuple(path)
        file, line = self.place(parts)
        return Problem(reason, file, line, dotted(parts), warning)


def dotted(path: Iterable[str | int]) -> str:
    """`("sla", 0, "targets")` -> `sla[0].targets`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_folder(folder: Path) -> Source:
    """Read every `*.yaml`/`*.yml`, then every `*.bpmn` of a folder. Raises `BadPlaybook` with all that is wrong."""
    if not folder.is_dir():
        raise BadPlaybook([Problem(f"no such folder: {folder}")])
    files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    if not files:
        raise BadPlaybook([Problem(f"no YAML file in {folder}")])
    source, problems = Source({}, folder.name, folder), list[Problem]()
    for path in files:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise BadPlaybook([Problem("file is larger than 4 MiB", path.name, 1)])
            _merge(source, path.name, path.read_text(encoding="utf-8"))
        except BadPlaybook as bad:
            problems += bad.problems
        except UnicodeDecodeError:
            problems.append(Problem("not UTF-8", path.name, 1))
    for path in sorted(path for path in folder.iterdir() if path.suffix == ".bpmn"):
        problems += _draw(source, path)
    if problems:
        raise BadPlaybook(problems)
    return source


def _draw(source: Source, path: Path) -> list[Problem]:
    """Add a drawn flow to `flows`; what stands in the way, by element id."""
    flows = source.sections.setdefault("flows", [])
    if not isinstance(flows, list):
        return [Problem("`flows` is no list, so nothing can be added to it", path.name, 1)]
    try:
        flow = import_bpmn(path.read_bytes())
    except BpmnRefused as error:
        return [Problem(one.reason, path.name, 1, one.element) for one in error.refused]
    source._places["flows", len(flows)] = (path.name, 1)
    flows.append(written(flow))
    return []


def read_file(path: Path) -> Source:
    """Read one YAML file, a mapping of members (a mapping of recorded histories). Raises `BadPlaybook`."""
    source = Source({}, path.stem, path.parent)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadPlaybook([Problem("file is larger than 4 MiB", path.name, 1)])
        _merge(source, path.name, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise BadPlaybook([Problem("not UTF-8", path.name, 1)]) from error
    except OSError as error:
        raise BadPlaybook([Problem(f"{path}: {error.strerror}")]) from error
    return source


def read_document(sections: dict[str, Any], name: str = "") -> Source:
    """A source from plain data (a published version); values have no place."""
    return Source(sections, name)


def _merge(source: Source, file: str, text: str) -> None:
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        raise BadPlaybook([Problem(f"not YAML: {reason}", file, mark.line + 1 if mark else 1)]) from error
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise BadPlaybook([Problem("a playbook file is a mapping of section names", file, root.start_mark.line + 1)])
    reader = _Reader(file, source)
    for name, value in reader.pairs(root, ()):
        if name in source.sections:
            other = source.place((name,))[0]
            raise BadPlaybook([Problem(f"section stands in {other} too", file, value.start_mark.line + 1, str(name))])
        source.sections[str(name)] = reader.value(value, (str(name),))


class _Reader:
    """Turns YAML nodes into plain data, noting places. Aliases are followed, but the whole stays bounded."""

    def __init__(self, file: str, source: Source) -> None:
        self._file, self._source, self._count = file, source, 0
        self._loader = yaml.CSafeLoader("")

    def value(self, node: yaml.Node, path: Path_) -> Any:
        self._count += 1
        if self._count > MAX_NODES or len(path) > 64:
            raise BadPlaybook([Problem("too large or too deeply nested", self._file, node.start_mark.line + 1)])
        self._source._places[path] = (self._file, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return {key: self.value(child, (*path, key)) for key, child in self.pairs(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, path)

    def pairs(self, node: yaml.MappingNode, path: Path_) -> list[tuple[str, yaml.Node]]:
        """Keys as text, with their value nodes; a key that stands twice is refused."""
        pairs: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                raise BadPlaybook([Problem("a key must be a plain word", self._file, key_node.start_mark.line + 1)])
            name = key_node.value if not isinstance(key, str) else key
            if name in pairs:
                line = key_node.start_mark.line + 1
                raise BadPlaybook([Problem("key stands twice", self._file, line, dotted((*path, name)))])
            pairs[name] = value_node
        return list(pairs.items())

    def _scalar(self, node: yaml.Node, path: Path_) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            line = node.start_mark.line + 1
            raise BadPlaybook([Problem(f"not readable: {error}", self._file, line, dotted(path))]) from error
        # dates stay as they were written: each section says itself what it wants to read
        return value if isinstance(value, str | int | float | bool) or value is None else node.value
