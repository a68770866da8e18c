"""`signalbox eval oncall`: fill in who is on call, the shifts, hand-offs, bounds or gaps an object asks for.

Pure; input and answers as in tests/vectors/README.md, kind `oncall`. The neutral meaning is answered everywhere, also where a
case carries `semantics` because its peer differs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.oncall.schedule import Schedule
from shared.playbook.escalation import (
    FixedShift,
    OverrideSpec,
    RotationSpec,
    RuleSpec,
    RuleTarget,
    ScheduleSpec,
    ShiftSpec,
    SwapSpec,
    TemporarySpec,
)
from shared.playbook.types import decode


def evaluate(obj: dict[str, Any]) -> dict[str, Any]:
    """The same object with every `expected…` member of its `check` computed; an unknown check is a `ValueError`."""
    check = obj.get("check", "users_at")
    answer = _CHECKS.get(check)
    if answer is None:
        raise ValueError(f"check: unknown {check!r}, expected one of {', '.join(_CHECKS)}")
    return {**obj, **answer(Schedule(schedule_spec(obj["schedule"])), obj)}


def schedule_spec(neutral: dict[str, Any]) -> ScheduleSpec:
    """A schedule in the neutral form as a spec; members that the form does not name are passed over."""
    shifts = [
        {**_known(shift, ShiftSpec), "duration": shift["duration_seconds"]} for shift in neutral.get("shifts") or ()
    ]
    return decode(
        {
            "tz": neutral.get("tz") or "UTC",
            "rotation": _known(neutral["rotation"], RotationSpec) if neutral.get("rotation") else None,
            "rotations": {name: _known(one, RotationSpec) for name, one in (neutral.get("rotations") or {}).items()},
            "rules": [
                {**_known(rule, RuleSpec), "target": _known(rule["target"], RuleTarget)}
                for rule in neutral.get("rules") or ()
            ],
            "shifts": shifts,
            "overrides": [_known(one, OverrideSpec) for one in neutral.get("overrides") or ()],
            "temporary_schedules": [
                {
                    **_known(one, TemporarySpec),
                    "shifts": [_known(shift, FixedShift) for shift in one.get("shifts") or ()],
                }
                for one in neutral.get("temporary_schedules") or ()
            ],
            "swaps": [_known(one, SwapSpec) for one in neutral.get("swaps") or ()],
        },
        ScheduleSpec,
    )


def _known(neutral: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The members `kind` has, without nulls (a null is the member's default)."""
    return {name: neutral[name] for name in kind.__struct_fields__ if neutral.get(name) is not None}


def _at(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _text(at: datetime) -> str:
    return at.isoformat()


def _users_at(schedule: Schedule, obj: dict[str, Any]) -> dict[str, Any]:
    checks = obj.get("checks")
    if checks is None:
        return {"expected_on_call": sorted(schedule.users_at(_at(obj["at"])))}
    return {"checks": [{**one, "expected_on_call": sorted(schedule.users_at(_at(one["at"])))} for one in checks]}


def _shifts(schedule: Schedule, obj: dict[str, Any]) -> dict[str, Any]:
    found = schedule.shifts(_at(obj["from"]), _at(obj["to"]))
    return {"expected_shifts": [{"user": one.user, "start": _text(one.start), "end": _text(one.end)} for one in found]}


def _handoffs(schedule: Schedule, obj: dict[str, Any]) -> dict[str, Any]:
    return {"expected_handoffs": [_text(at) for at in schedule.rotation.hand_offs(_at(obj["from"]), _at(obj["to"]))]}


def _shift_bounds(schedule: Schedule, obj: dict[str, Any]) -> dict[str, Any]:
    turn = schedule.rotation.turn_at(_at(obj["at"]))
    return {"expected_start": _text(turn.start), "expected_end": _text(turn.end)}


def _gaps(schedule: Schedule, obj: dict[str, Any]) -> dict[str, Any]:
    return {
        "expected_gaps": [[_text(start), _text(end)] for start, end in schedule.gaps(_at(obj["from"]), _at(obj["to"]))]
    }


_CHECKS: dict[str, Callable[[Schedule, dict[str, Any]], dict[str, Any]]] = {
    "users_at": _users_at,
    "shifts": _shifts,
    "handoffs": _handoffs,
    "shift_bounds": _shift_bounds,
    "gaps": _gaps,
}
