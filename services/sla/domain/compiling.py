"""From the playbook's `sla` section to terms the clocks are computed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from services.sla.domain.terms import DEFAULT, Matcher, Policy, Rules, Target, Terms, Threshold
from shared.calendar import ALWAYS_OPEN, BusinessCalendar
from shared.playbook.sla import SlaPolicy, WorkingDays


def compile_rules(
    version: int,
    policies: Sequence[SlaPolicy],
    calendars: Mapping[str, BusinessCalendar],
    matchers: Sequence[Matcher | None],
) -> Rules:
    """The policies of one playbook version, `matchers[i]` being the compiled `when` of `policies[i]` (None: always).

    Raises `KeyError` for a calendar that does not exist; `signalbox check` finds it first.
    """
    compiled = [compile_policy(version, policy, calendars) for policy in policies]
    return Rules(version, tuple(zip(matchers, compiled, strict=True)))


def compile_policy(version: int, policy: SlaPolicy, calendars: Mapping[str, BusinessCalendar]) -> Policy:
    """One policy, with its calendar looked up by name."""
    statuses = frozenset(policy.first_response) if isinstance(policy.first_response, list) else frozenset()
    return Policy(
        name=policy.name,
        version=version,
        calendar=ALWAYS_OPEN if policy.calendar is None else calendars[policy.calendar],
        calendar_name=policy.calendar,
        terms=_terms(policy),
        respond_on=statuses,
        accept_responds=policy.first_response == "accept",
        on_change=policy.on_change,
        opening_counts=policy.next_response_opening,
        at_risk=policy.at_risk,
        tell=tuple(policy.tell),
    )


def _terms(policy: SlaPolicy) -> dict[str, dict[str, Terms]]:
    """By priority, then metric; the default targets are filled in for every priority that any metric names."""
    by_metric = {metric: policy.targets_of(metric) for metric in policy.targets}
    priorities = {priority for targets in by_metric.values() for priority in targets} | {DEFAULT}
    table: dict[str, dict[str, Terms]] = {}
    for priority in sorted(priorities):
        table[priority] = {}
        for metric, targets in by_metric.items():
            target = targets.get(priority, targets.get(DEFAULT))
            if target is not None:
                table[priority][metric] = Terms(_target(target), policy.pauses_of(metric), _thresholds(policy, metric))
    return table


def _target(target: timedelta | WorkingDays) -> Target:
    if isinstance(target, WorkingDays):
        return Target(working_days=target.working_days, end_of_day=target.end_of_day)
    return Target(duration=target)


def _thresholds(policy: SlaPolicy, metric: str) -> tuple[Threshold, ...]:
    return tuple(
        Threshold(
            key=one.key,
            before=None if one.before is None else timedelta(seconds=one.before.total_seconds()),
            share=None if one.percent is None else one.percent / 100,
            wall=one.on == "wall",
        )
        for one in policy.thresholds_of(metric)
    )
