"""What people change about a schedule of the playbook: overrides and temporary schedules, kept in the ledger's item `schedule`.

They outlive `apply`; one whose end has passed is forgotten with the next change.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection

from shared.oncall.schedule import Schedule
from shared.playbook.escalation import FixedShift, OverrideSpec, ScheduleSpec, TemporarySpec
from shared.playbook.model import Playbook
from shared.playbook.types import decode


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One override (`add`, `remove`) or temporary schedule (`shifts`), by whom. Instants carry an offset."""

    id: str
    kind: str
    start: datetime
    end: datetime
    by: str
    add: str | None = None
    remove: str | None = None
    shifts: tuple[FixedShift, ...] = ()


def of_state(state: Mapping[str, Any]) -> tuple[Change, ...]:
    """The changes that an item's state holds."""
    return decode(list(state.get("changes", ())), tuple[Change, ...])


def changed(spec: ScheduleSpec, changes: tuple[Change, ...]) -> ScheduleSpec:
    """The playbook's schedule with what people changed; theirs come last, so they win."""
    overrides = tuple(
        OverrideSpec(start=one.start, end=one.end, add=one.add, remove=one.remove)
        for one in changes
        if one.kind == "override"
    )
    temporary = tuple(
        TemporarySpec(start=one.start, end=one.end, shifts=one.shifts) for one in changes if one.kind == "temporary"
    )
    return replace(
        spec,
        overrides=(*spec.overrides, *overrides),
        temporary_schedules=(*spec.temporary_schedules, *temporary),
    )


def schedules(connection: Connection, playbook: Playbook) -> dict[str, Schedule]:
    """The schedules of a version as they are now, each compiled once for each change."""
    specs = playbook.document.schedules
    if not specs:
        return {}
    rows = {
        row.key: row
        for row in connection.exec_driver_sql(
            "select key, version, state from ledger.item where kind = 'schedule' and version > 0"
        )
    }
    kept: dict[str, tuple[int, Schedule]] = playbook.derived("schedules", lambda _: {})
    found: dict[str, Schedule] = {}
    for name, spec in specs.items():
        row = rows.get(name)
        version = row.version if row is not None else 0
        known = kept.get(name)
        if known is None or known[0] != version:
            named = spec if spec.name else replace(spec, name=name)
            compiled = Schedule(changed(named, of_state(row.state)) if row is not None else named)
            known = kept[name] = (version, compiled)
        found[name] = known[1]
    return found
