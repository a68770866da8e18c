"""Writes docs/playbook.md: `python docs/playbook_reference.py`. Words and examples: playbook_words.yaml; members: the model."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import inspect as types

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared.playbook.model import Document
from shared.playbook.types import Duration


def member_words(cls: type) -> dict[str, str]:
    """The sentence below each member in the model's source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError):
        return {}
    found: dict[str, str] = {}
    last = None
    for node in getattr(tree, "body", ()):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
        elif (
            last
            and isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            found[last] = " ".join(node.value.value.split())
    return found


def shown(kind: types.Type, nested: list[type]) -> str:
    """A type in an operator's words; structs it holds are added to `nested`."""
    match kind:
        case types.CustomType(cls=cls) if cls is Duration:
            return "duration"
        case types.StrType():
            return "text"
        case types.IntType():
            return "whole number"
        case types.FloatType():
            return "number"
        case types.BoolType():
            return "true, false"
        case types.NoneType():
            return "nothing"
        case types.DateTimeType():
            return "instant"
        case types.DateType():
            return "date"
        case types.TimeType():
            return "time"
        case types.EnumType(cls=cls):
            return " · ".join(f"`{one.value}`" for one in cls)
        case types.LiteralType(values=values):
            return " · ".join(f"`{one}`" for one in values)
        case types.DictType(value_type=value):
            return f"name → {shown(value, nested)}"
        case types.ListType(item_type=item) | types.VarTupleType(item_type=item) | types.FrozenSetType(item_type=item):
            return f"list of {shown(item, nested)}"
        case types.TupleType(item_types=items):
            return "[" + ", ".join(shown(one, nested) for one in items) + "]"
        case types.StructType(cls=cls):
            nested.append(cls)
            return f"*{cls.__name__}*"
        case types.UnionType(types=members):
            return " or ".join(
                dict.fromkeys(shown(one, nested) for one in members if not isinstance(one, types.NoneType))
            )
        case types.Metadata(type=inner):
            return shown(inner, nested)
    return "anything"


def default_of(one: types.Field) -> str:
    if one.required:
        return "required"
    value = (
        one.default_factory()
        if one.default_factory is not msgspec.NODEFAULT and one.default is msgspec.NODEFAULT
        else one.default
    )
    if value in (None, (), [], {}, "", frozenset()) or isinstance(value, msgspec.Struct | dict) or callable(value):
        return ""
    if isinstance(value, Enum):
        return f"`{value.value}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(cls: type[Any], known: set[type], out: list[str], written: dict[str, dict[str, str]]) -> None:
    """The members of a struct, then of the structs it holds that were not shown yet."""
    if cls in known:
        return
    known.add(cls)
    info = types.type_info(cls)
    assert isinstance(info, types.StructType)
    nested: list[type] = []
    words = written.get(f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}", {}) | member_words(cls)
    if strange := words.keys() - {one.name for one in info.fields}:
        raise SystemExit(f"playbook_words.yaml: {cls.__name__} has no {', '.join(sorted(strange))}")
    doc = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    out.append(f"\n*{cls.__name__}*" + (f": {doc}" if doc else "") + "\n")
    out.append("| member | what | default | |\n|---|---|---|---|")
    for one in info.fields:
        what = "condition" if one.name == "when" else shown(one.type, nested)
        out.append(
            f"| `{one.encode_name}` | {cell(what)} | {cell(default_of(one))} | {cell(words.get(one.name, ''))} |"
        )
    for inner in nested:
        table(inner, known, out, written)


def page() -> str:
    written = yaml.safe_load(Path(__file__).with_name("playbook_words.yaml").read_text())
    out = [written["head"]]
    known: set[type] = set()
    for one in types.type_info(Document).fields:
        words, example = (written["sections"][one.encode_name][part] for part in ("words", "example"))
        out.append(f"\n## `{one.encode_name}`\n\n{words}\n\n```yaml\n{example.rstrip()}\n```")
        nested: list[type] = []
        what = shown(one.type, nested)
        out.append(f"\nIs: {what}." + ("" if one.required or not default_of(one) else f" Default: {default_of(one)}."))
        for cls in nested:
            table(cls, known, out, written["members"])
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("playbook.md").write_text(page())
