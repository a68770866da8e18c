"""Examples of wire formats made from their types: every member set to something that is not its default.

`python -m tests.contracts.samples` writes the golden files of what is new: missing files, and members that were added. It never
changes or removes what a golden file says already: whoever wrote data by it expects that to be read for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

GOLDEN = Path(__file__).parent / "golden"
_AT = "2026-03-03T02:00:00Z"


def sample(kind: inspect.Type, name: str) -> Any:
    """A value of a type, as JSON writes it."""
    match kind:
        case inspect.StrType():
            return f"a {name}"
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 1.5
        case inspect.BoolType():
            return True
        case inspect.DateTimeType():
            return _AT
        case inspect.AnyType():
            return {"anything": ["goes", 1]}
        case inspect.DictType(value_type=value):
            return {"key": sample(value, "value")}
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return [sample(item, name)]
        case inspect.UnionType(types=types):
            return sample(next(one for one in types if not isinstance(one, inspect.NoneType)), name)
        case inspect.StructType(cls=cls):
            return full(cls)
        case inspect.Metadata(type=inner):
            return sample(inner, name)
    raise TypeError(f"no sample for {kind}")


def _fields(cls: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    return info.fields


def full(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """Every member of a struct set. A flag whose default is true is set to false."""
    found = {
        one.encode_name: (not one.default if isinstance(one.default, bool) else sample(one.type, one.encode_name))
        for one in _fields(cls)
    }
    return _meant(cls, found)


def least(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """Only what is required."""
    return _meant(cls, {one.encode_name: sample(one.type, one.encode_name) for one in _fields(cls) if one.required})


def _meant(cls: type[msgspec.Struct], found: dict[str, Any]) -> dict[str, Any]:
    """Members whose type says less than what they hold: a flow's state is one that the flow engine reads."""
    from shared.contracts.events import FlowMoved
    from shared.ticket.flow.state import FlowState

    return found | {"state": least(FlowState)} if cls is FlowMoved else found


def members(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """Each member's JSON schema, nested ones written out, and whether it is required."""
    (schema,), components = msgspec.json.schema_components([cls])
    top = components[schema["$ref"].rpartition("/")[2]]
    required = set(top.get("required", ()))
    return {
        name: {"required": name in required, "schema": _inline(member, components)}
        for name, member in top["properties"].items()
    }


def _inline(schema: Any, components: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inline(one, components) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(components[schema["$ref"].rpartition("/")[2]], components)
    return {name: _inline(one, components) for name, one in schema.items() if name not in ("description", "title")}


def contract(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """What a golden file says of a struct."""
    plain: dict[str, Any] = json.loads(json.dumps({"full": full(cls), "least": least(cls), "members": members(cls)}))
    return plain


def renewed(known: dict[str, Any] | None, cls: type[msgspec.Struct]) -> dict[str, Any]:
    """A golden file with what is new of its struct added."""
    now = contract(cls)
    if known is None:
        return now
    for part in ("full", "members"):
        known[part] |= {name: value for name, value in now[part].items() if name not in known[part]}
    return known


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def main() -> None:
    from shared.contracts.events import CATALOGUE
    from shared.contracts.intake import TicketIn
    from shared.contracts.views import VIEWS

    files = {GOLDEN / "events" / f"{name}.v1.json": struct for name, struct in CATALOGUE.items()}
    files |= {GOLDEN / "views" / f"{name}.json": struct for name, struct in VIEWS.items()}
    files[GOLDEN / "intake.json"] = TicketIn
    for path, struct in files.items():
        known = json.loads(path.read_text()) if path.exists() else None
        write(path, renewed(known, struct))


if __name__ == "__main__":
    main()
