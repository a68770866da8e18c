"""Who can take a ticket, and which filter dropped whom.

What depends on the demand alone (group, active, presence, shift, leave, skills) is asked once for all tickets of a
batch with the same demand, and its record is shared by them. What changes with each assignment (declined, capacity,
rate) is asked when an agent is about to be chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.router.domain.desk import Desk, Filter
from services.router.domain.pool import Agent, Hours, Pool, stand_in
from shared.playbook.routing import Presence

Skills = tuple[tuple[str, int], ...]
_IN_ORDER = tuple(Filter)


@dataclass(frozen=True, slots=True)
class Screened:
    """The outcome of the fixed filters: who is left, in the group's order, and whom each filter dropped.

    `standing_in` maps a delegate to the member whose place they take; `loops` are circles of delegates that were found.
    """

    eligible: tuple[Agent, ...]
    dropped: Mapping[Filter, tuple[str, ...]]
    standing_in: Mapping[str, str] = field(default_factory=dict)
    loops: tuple[tuple[str, ...], ...] = ()


class Shifts:
    """When people work, asked once a calendar and instant."""

    def __init__(self, hours: Mapping[str, Hours], now: datetime) -> None:
        self._hours, self._now = hours, now
        self._left: dict[str, timedelta | None] = {}
        self._begins: dict[str, datetime | None] = {}

    def enough(self, agent: Agent, needed: timedelta) -> bool:
        """Is the agent on shift with at least `needed` of it left? Without a shift: always. An unknown calendar:
        never.
        """
        if agent.shift is None:
            return True
        if agent.shift not in self._left:
            self._left[agent.shift] = self._time_left(agent.shift)
        left = self._left[agent.shift]
        return left is not None and left >= needed

    def begins_at(self, agent: Agent) -> datetime | None:
        """When the agent's next shift begins; `None` for one that is on now, or never begins."""
        if agent.shift is None:
            return None
        if agent.shift not in self._begins:
            hours = self._hours.get(agent.shift)
            closed_at = self._now if hours is None or not hours.is_open(self._now) else hours.next_close(self._now)
            found = None if hours is None or closed_at is None else hours.next_open(closed_at)
            self._begins[agent.shift] = found
        return self._begins[agent.shift]

    def _time_left(self, shift: str) -> timedelta | None:
        hours = self._hours.get(shift)
        if hours is None or not hours.is_open(self._now):
            return None
        close_at = hours.next_close(self._now)
        return timedelta.max if close_at is None else close_at - self._now


def has_skills(agent: Agent, skills: Skills) -> bool:
    """Has the agent every skill at its level or above?"""
    return all(agent.skills.get(skill, 0) >= level for skill, level in skills)


def drops(agent: Agent, desk: Desk, needed: timedelta, shifts: Shifts, now: datetime) -> Filter | None:
    """Return the first fixed filter but skills that drops a member of the group, or `None`."""
    if desk.new_member_wait and agent.since is not None and now - agent.since < desk.new_member_wait:
        return Filter.GROUP
    if not agent.active:
        return Filter.ACTIVE
    if agent.presence != Presence.AVAILABLE:
        return Filter.PRESENCE
    if not shifts.enough(agent, needed):
        return Filter.SHIFT
    if agent.leave and agent.absence(now) is not None:
        return Filter.LEAVE
    return None


def screen(
    desk: Desk,
    pool: Pool,
    needed: timedelta,
    shifts: Shifts,
    now: datetime,
    allowed: tuple[str, ...] | None = None,
) -> Screened:
    """Apply the fixed filters but skills to the group's members; somebody on leave is replaced by whoever stands in for them."""
    eligible: dict[str, Agent] = {}
    dropped: dict[Filter, list[str]] = {}
    standing_in: dict[str, str] = {}
    loops: list[tuple[str, ...]] = []
    members = set(desk.members)
    for member in desk.members:
        agent = pool.agents.get(member)
        if agent is None or (allowed is not None and member not in allowed):
            dropped.setdefault(Filter.GROUP, []).append(member)
            continue
        found = drops(agent, desk, needed, shifts, now)
        if found is None:
            eligible[member] = agent
            continue
        dropped.setdefault(found, []).append(member)
        if agent.leave and agent.active and agent.absence(now) is not None:
            other = stand_in(pool.agents, member, now)
            if other.loop:
                loops.append(other.chain)
            if other.agent is not None and other.agent not in members and other.agent not in standing_in:
                standing_in[other.agent] = member
                _admit(pool.agents[other.agent], desk, needed, shifts, now, eligible, dropped)
    record = {one: tuple(dropped[one]) for one in _IN_ORDER if one in dropped}
    return Screened(tuple(eligible.values()), record, standing_in, tuple(loops))


def skilled(screened: Screened, skills: Skills) -> Screened:
    """The last of the fixed filters: those of a group who have these skills. Each demand asks it of the same people."""
    if not skills:
        return screened
    eligible: Sequence[Agent] = screened.eligible
    for skill, level in skills:
        eligible = [one for one in eligible if one.skills.get(skill, 0) >= level]
    if len(eligible) == len(screened.eligible):
        return screened
    able = {one.id for one in eligible}
    lacking = tuple([one.id for one in screened.eligible if one.id not in able])
    return Screened(tuple(eligible), {**screened.dropped, Filter.SKILLS: lacking}, screened.standing_in, screened.loops)


def _admit(
    agent: Agent,
    desk: Desk,
    needed: timedelta,
    shifts: Shifts,
    now: datetime,
    eligible: dict[str, Agent],
    dropped: dict[Filter, list[str]],
) -> None:
    found = drops(agent, desk, needed, shifts, now)
    if found is None:
        eligible[agent.id] = agent
    else:
        dropped.setdefault(found, []).append(agent.id)


def wakes_at(desk: Desk, pool: Pool, screened: Screened, shifts: Shifts, now: datetime) -> datetime | None:
    """Return when time alone next gives the group somebody more: a shift that begins, a leave that ends, a member no
    longer new.
    """
    found: list[datetime] = []
    for member in desk.members:
        agent = pool.agents.get(member)
        if agent is None or not agent.active:
            continue
        away = agent.absence(now) if agent.leave else None
        if away is not None:
            found.append(away.to_at)
        begins_at = shifts.begins_at(agent)
        if begins_at is not None and member in screened.dropped.get(Filter.SHIFT, ()):
            found.append(begins_at)
        if agent.since is not None and now < agent.since + desk.new_member_wait:
            found.append(agent.since + desk.new_member_wait)
    return min(found, default=None)
