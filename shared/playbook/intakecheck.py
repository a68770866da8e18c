"""Whether a posted ticket fits the playbook: declared fields have their type, labels their values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.contracts.intake import TicketIn
from shared.contracts.strict import Unacceptable, escape
from shared.playbook.model import Playbook
from shared.playbook.routing import CustomField, FieldType

_TYPES: dict[FieldType, tuple[type, ...]] = {
    FieldType.TEXT: (str,),
    FieldType.DATE: (str,),
    FieldType.CHOICE: (str, int),
    FieldType.NUMBER: (int, float),
    FieldType.BOOL: (bool,),
    FieldType.LIST: (list,),
}


def check_fields(playbook: Playbook, ticket: TicketIn) -> None:
    """Raise `Unacceptable` for a declared field of another type, or a label outside its dimension's values.

    Fields that the playbook does not declare are kept as data; no rule can read them.
    """
    check_values(playbook, fields=ticket.fields, labels=ticket.labels)
    for name, field in playbook.document.fields.items():
        if field.required and ticket.fields.get(name) is None:
            raise Unacceptable(f"/fields/{escape(name)}", "required member is missing")


def check_values(playbook: Playbook, *, fields: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
    """The same for some fields and labels alone, as people set them."""
    declared = playbook.document.fields
    for name, value in fields.items():
        field = declared.get(name)
        if field is not None and value is not None:
            _check(f"/fields/{escape(name)}", field, value)
    dimensions = playbook.document.taxonomy.dimensions
    for name, value in labels.items():
        dimension = dimensions.get(name)
        if dimension is None:
            raise Unacceptable(f"/labels/{escape(name)}", f"no such label (known: {', '.join(sorted(dimensions))})")
        if str(value) not in dimension.values:
            known = ", ".join(map(str, dimension.values))
            raise Unacceptable(f"/labels/{escape(name)}", f"{value!r} is none of {known}")


def _check(pointer: str, field: CustomField, value: Any) -> None:
    wanted = _TYPES[field.type]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise Unacceptable(pointer, f"expected {field.type.value}")
    if field.values and str(value) not in field.values:
        raise Unacceptable(pointer, f"{value!r} is none of {', '.join(map(str, field.values))}")
    entries: list[Any] = list(value) if field.of and isinstance(value, list) else []
    for index, entry in enumerate(entries):
        _check_entry(f"{pointer}/{index}", field, entry)


def _check_entry(pointer: str, field: CustomField, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise Unacceptable(pointer, f"expected an object of {', '.join(field.of)}")
    for name, value in entry.items():
        kind = field.of.get(name)
        if kind is None:
            raise Unacceptable(f"{pointer}/{escape(name)}", "unknown member")
        if value is not None:
            _check(f"{pointer}/{escape(name)}", CustomField(type=kind), value)
