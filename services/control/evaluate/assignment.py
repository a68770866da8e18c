"""`signalbox eval assignment`: who gets the tickets of an assignment vector (kind described in
tests/vectors/README.md).

The vector's agents, queue and policy become a pool and one desk of the router, and the router's own `Assigner`
answers; only what lies outside it — batch limits, excluded tickets, the order of tickets — is read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from services.router.domain.assign import Assigner
from services.router.domain.desk import Desk, Request
from services.router.domain.outcomes import Assigned
from services.router.domain.pool import Agent, Pool
from shared.playbook.routing import Presence, Strategy

_QUEUE = "queue"
_EPOCH = datetime(2024, 5, 15, 12, tzinfo=UTC)
"""Where a vector gives no instant: any will do, nothing in it depends on time."""
_DEFAULT_WINDOW_SECONDS = 86_400
_TURNS = (Strategy.ROUND_ROBIN, Strategy.WEIGHTED_ROUND_ROBIN)


def evaluate(obj: dict[str, Any]) -> dict[str, Any]:
    """Return `obj` with every computable member of `expected` filled."""
    found = dict(obj)
    computed = _Case(obj).expected()
    asked = obj.get("expected")
    found["expected"] = {**asked, **computed} if isinstance(asked, Mapping) else computed
    return found


class _Case:
    """One vector, played through."""

    def __init__(self, obj: Mapping[str, Any]) -> None:
        self._obj = obj
        self._policy: Mapping[str, Any] = obj.get("policy") or {}
        self._now = _instant(obj.get("now")) or _EPOCH
        self._agents: Sequence[Mapping[str, Any]] = obj.get("agents") or []
        self._strategy = Strategy(obj.get("strategy") or Strategy.ROUND_ROBIN)
        self._pool = Pool({str(one["id"]): self._agent(one) for one in self._agents})
        self._desk = self._make_desk()
        self._given: list[tuple[str, datetime]] = []
        self._last = {agent.id: agent.last_assigned for agent in self._pool.agents.values() if agent.last_assigned}

    def _agent(self, one: Mapping[str, Any]) -> Agent:
        limits = self._policy.get("capacity", True)
        capacity = one.get("capacity") if limits is not False else None
        if capacity is None and isinstance(limits, int | float) and not isinstance(limits, bool):
            capacity = limits  # of everybody who has none of their own
        last = _instant(one.get("last_assigned_at"))
        status = str(one.get("status", "online"))
        return Agent(
            str(one["id"]),
            capacity=None if capacity is None else round(float(capacity) * 100),
            load=round(float(one.get("open_tickets") or 0) * 100),
            open_tickets=int(one.get("open_tickets") or 0),
            last_assigned=0.0 if last is None else last.timestamp(),
            presence=Presence.AVAILABLE if status == "online" else Presence.OFFLINE,
            since=_instant(one.get("member_since")),
        )

    def _make_desk(self) -> Desk:
        """The queue holds every agent once: strangers leave it, and who is missing joins at its end, in list order."""
        ids = [str(one["id"]) for one in self._agents]
        queue = [str(one) for one in self._obj.get("queue") or () if str(one) in ids]
        members = tuple(dict.fromkeys([*queue, *ids])) if self._strategy in _TURNS else tuple(ids)
        rate = self._policy.get("rate_limit") or {}
        return Desk(
            _QUEUE,
            members,
            self._strategy,
            tuple((str(one["id"]), float(one["weight"])) for one in self._agents if one.get("weight") is not None),
            rate_limit=rate.get("limit"),
            new_member_wait=timedelta(days=float(self._policy.get("skip_new_members_days") or 0)),
        )

    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = {"eligible": self._eligible()}
        if "rate_limit" in self._policy:
            rate = self._policy["rate_limit"] or {}
            found["window_seconds"] = rate.get("window_seconds") or _DEFAULT_WINDOW_SECONDS
        found["recently_assigned"] = self._recently_assigned()
        if self._obj.get("calls") is not None:
            found |= self._calls()
        if self._obj.get("tickets") is not None:
            found |= self._tickets()
        given = [agent for agent, _ in self._given]
        found["counts"] = {str(one["id"]): given.count(str(one["id"])) for one in self._agents}
        found["queue_after"] = self._queue()
        found["queue_members_after"] = sorted(self._desk.members)
        return found

    # -- calls
    # -----------------------------------------------------------------------------------------------------------

    def _calls(self) -> dict[str, Any]:
        agents: list[str | None] = []
        acceptable: list[list[str]] = []
        for call in self._obj["calls"]:
            if "closed" in str(call.get("before") or ""):
                self._close_all()
            allowed = call.get("allowed")
            names = None if allowed is None else tuple(map(str, allowed))
            acceptable.append(self._acceptable(names))
            agents.append(self._assign("call", names, call, _instant(call.get("at")) or self._now))
        return {"agents": agents, "agents_any_of": acceptable}

    def _assign(
        self, ticket: str, allowed: tuple[str, ...] | None, fields: Mapping[str, Any], at: datetime
    ) -> str | None:
        named = None
        if self._strategy is Strategy.BY_FIELD:
            found = _lookup(fields, self._policy.get("field"))
            named = None if found is None else str(found)
            if allowed is not None and named not in allowed:
                return None
        self._count_recent(at)
        if self._strategy is not Strategy.LEAST_RECENTLY_ASSIGNED:
            for agent in self._pool.agents.values():
                agent.last_assigned = 0.0  # ties go to list order
        request = Request(ticket, _QUEUE, at, allowed=allowed, named=named)
        # Calls of one instant still have an order, which "longest since" goes by.
        later = at + timedelta(microseconds=10 * len(self._given))
        outcome = Assigner({_QUEUE: self._desk}, self._pool, later).assign(request)
        if not isinstance(outcome, Assigned):
            return None
        self._given.append((outcome.agent, at))
        self._last[outcome.agent] = outcome.at
        return outcome.agent

    def _count_recent(self, at: datetime) -> None:
        """Count what each agent was given within the rate window that ends at `at`."""
        window = timedelta(
            seconds=(self._policy.get("rate_limit") or {}).get("window_seconds") or _DEFAULT_WINDOW_SECONDS
        )
        for one in self._agents:
            given = sum(1 for agent, when in self._given if agent == str(one["id"]) and when > at - window)
            self._pool.recent[_QUEUE, str(one["id"])] = int(one.get("assigned_in_window") or 0) + given
        resting = self._policy.get("min_recently_assigned_days")
        if resting:  # whoever had something that lately takes nothing
            since = (at - timedelta(days=float(resting))).timestamp()
            for agent_id, agent in self._pool.agents.items():
                agent.active = self._last.get(agent_id, 0.0) <= since or agent_id not in self._last

    def _close_all(self) -> None:
        for agent_id, _ in self._given:
            agent = self._pool.agents[agent_id]
            agent.open_tickets -= 1
            agent.load -= 100

    def _eligible(self, allowed: tuple[str, ...] | None = None) -> list[str]:
        """Everybody who could be given a ticket now, in the group's order."""
        self._count_recent(self._now)
        view = Assigner({_QUEUE: self._desk}, self._pool, self._now).view(
            Request("probe", _QUEUE, self._now, allowed=allowed)
        )
        limit = self._desk.rate_limit
        return [
            agent.id
            for agent in view.screened.eligible
            if agent.fits(100) and (limit is None or self._pool.recent.get((_QUEUE, agent.id), 0) < limit)
        ]

    def _acceptable(self, allowed: tuple[str, ...] | None) -> list[str]:
        """Any eligible agent where turns decide; else those whose standing is equally good."""
        eligible = self._eligible(allowed)
        standing = {
            Strategy.BALANCED: lambda agent: agent.open_tickets,
            Strategy.LEAST_RECENTLY_ASSIGNED: lambda agent: agent.last_assigned,
            Strategy.LEAST_LOADED: lambda agent: agent.load,
        }.get(self._strategy)
        if standing is None or not eligible:
            return eligible
        best = min(standing(self._pool.agents[one]) for one in eligible)
        return [one for one in eligible if standing(self._pool.agents[one]) == best]

    def _queue(self) -> list[str]:
        of = self._pool.turn(_QUEUE).of
        places = {member: place for place, member in enumerate(self._desk.members)}
        return sorted(self._desk.members, key=lambda one: (of.get(one, 0), places[one]))

    def _recently_assigned(self) -> list[str]:
        """Who was assigned within the policy's days of recency (all who ever were, without one), the latest first."""
        days = [
            float(value) for name, value in self._policy.items() if "recent" in name and isinstance(value, int | float)
        ]
        since = (self._now - timedelta(days=max(days))).timestamp() if days else 0.0
        known = [agent for agent in self._pool.agents if self._last.get(agent, 0.0) >= since and agent in self._last]
        return sorted(known, key=lambda one: -self._last[one])

    # -- tickets
    # ---------------------------------------------------------------------------------------------------------

    def _tickets(self) -> dict[str, Any]:
        tickets: list[Mapping[str, Any]] = list(self._obj["tickets"])
        assignments: dict[str, str | None] = {str(one["id"]): one.get("assignee") for one in tickets}
        limit = self._policy.get("batch_limit")
        given: list[str] = []
        if self._policy.get("enabled", True):
            for one in sorted(tickets, key=self._place):
                if limit is not None and len(given) >= int(limit):
                    break
                if self._waits(one):
                    agent = self._assign(str(one["id"]), None, one, self._now)
                    if agent is not None:
                        assignments[str(one["id"])] = agent
                        given.append(str(one["id"]))
        return {
            "assignments": assignments,
            "assigned_count": len(given),
            "assigned": sorted(given),
            "not_assigned": sorted(one for one in assignments if one not in given),
        }

    def _place(self, one: Mapping[str, Any]) -> tuple[float, float]:
        created = _seconds(one.get("created_at"))
        if self._policy.get("ticket_order") == "longest_waiting":
            waiting = one.get("waiting_since") or one.get("last_activity_at") or one.get("created_at")
            return (_seconds(waiting), created)
        return (created, created)

    def _waits(self, one: Mapping[str, Any]) -> bool:
        if one.get("assignee") is not None or str(one.get("status", "open")) not in ("open", "new"):
            return False
        exclude = self._policy.get("exclude") or {}
        if set(exclude.get("labels") or ()) & set(one.get("labels") or ()):
            return False
        hours, created = exclude.get("older_than_hours"), _instant(one.get("created_at"))
        if hours is not None and created is not None and created < self._now - timedelta(hours=float(hours)):
            return False
        return _holds(self._policy.get("condition"), one)


def _holds(condition: Any, ticket: Mapping[str, Any]) -> bool:
    """Does the ticket fulfil the policy's condition: a mapping of field to value, or `{field, value|equals|in}`?"""
    if not condition:
        return True
    if isinstance(condition, Sequence) and not isinstance(condition, str):
        return all(_holds(one, ticket) for one in condition)
    if isinstance(condition, str):
        field, _, value = (part.strip() for part in condition.partition("=="))
        return str(_lookup(ticket, field)) == value.strip("\"'")
    if "field" in condition:
        wanted = next((condition[name] for name in ("equals", "value", "in", "is") if name in condition), None)
        return _equal(_lookup(ticket, condition["field"]), wanted)
    return all(_equal(_lookup(ticket, name), wanted) for name, wanted in condition.items())


def _equal(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list) else bool(value == wanted)


def _lookup(ticket: Mapping[str, Any], field: Any) -> Any:
    found = ticket.get(str(field))
    return (ticket.get("fields") or {}).get(str(field)) if found is None else found


def _instant(value: Any) -> datetime | None:
    return None if value is None else datetime.fromisoformat(str(value))


def _seconds(value: Any) -> float:
    found = _instant(value)
    return 0.0 if found is None else found.timestamp()
