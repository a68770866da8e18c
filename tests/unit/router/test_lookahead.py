"""Look-ahead: the batch as a whole, within skills, capacity and fairness, and quickly."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.domain.assign import Assigner
from services.router.domain.desk import Desk, How, Request
from services.router.domain.lookahead import HELD, plan, warm
from services.router.domain.outcomes import Assigned, Outcome, Waiting
from services.router.domain.pool import Agent, Pool

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def planned(agents: list[Agent], requests: list[Request], **more: Any) -> tuple[dict[int | str, Outcome], Pool]:
    pool = Pool({agent.id: agent for agent in agents})
    desk = Desk("g", tuple(pool.agents), **more)
    outcomes = plan(Assigner({"g": desk}, pool, NOW), requests, NOW)
    return {outcome.ticket: outcome for outcome in outcomes}, pool


def request(ticket: int, minutes: float | None = None, **more: Any) -> Request:
    due_at = None if minutes is None else NOW + timedelta(minutes=minutes)
    return Request(ticket, "g", more.pop("queued_at", NOW), due_at=due_at, **more)


def agents_of(outcomes: dict[int | str, Outcome]) -> dict[int | str, str | None]:
    return {ticket: one.agent if isinstance(one, Assigned) else None for ticket, one in outcomes.items()}


def test_the_expert_is_kept_for_the_ticket_that_only_they_can_take() -> None:
    expert, novice = Agent("expert", {"net": 3}), Agent("novice", {"net": 1})
    easy, hard = request(1, 60, skills=(("net", 1),)), request(2, 60, skills=(("net", 3),))
    outcomes, _ = planned([expert, novice], [easy, hard])
    assert agents_of(outcomes) == {1: "novice", 2: "expert"}
    assert {one.how for one in outcomes.values() if isinstance(one, Assigned)} == {How.PLAN}


def test_the_ticket_whose_promise_is_at_risk_goes_first() -> None:
    people = [Agent("a"), Agent("b", open_tickets=1, load=100)]
    outcomes, _ = planned(people, [request(1, 600), request(2, 16)])
    assert agents_of(outcomes) == {1: None, 2: "a"}


def test_among_equals_the_oldest_goes_first() -> None:
    old = request(2, queued_at=NOW - timedelta(hours=3))
    outcomes, _ = planned([Agent("a"), Agent("b", open_tickets=1, load=100)], [request(1), old])
    assert agents_of(outcomes) == {1: None, 2: "a"}


def test_tickets_are_held_back_while_everybody_who_could_take_them_has_work() -> None:
    outcomes, pool = planned([Agent("a", open_tickets=1), Agent("b", open_tickets=1)], [request(1)])
    held = outcomes[1]
    assert isinstance(held, Waiting)
    assert held.notes == (HELD,)
    assert not pool.taken


def test_work_goes_to_who_was_given_less_today() -> None:
    outcomes, _ = planned([Agent("a", given=900), Agent("b", given=300)], [request(1)])
    assert agents_of(outcomes) == {1: "b"}


def test_a_named_person_is_no_part_of_the_plan() -> None:
    outcomes, _ = planned([Agent("a", open_tickets=5), Agent("b")], [request(1, named="a"), request(2)])
    assert agents_of(outcomes) == {1: "a", 2: "b"}


_people = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=8)
_tickets = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3), st.sets(st.integers(0, 7), max_size=2)),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(_people, _tickets, st.integers(1, 3))
def test_a_plan_never_exceeds_capacity_or_skills_and_answers_every_ticket(
    people: list[tuple[int, int, int]], tickets: list[tuple[int, int, int, set[int]]], depth: int
) -> None:
    agents = [
        Agent(f"a{i}", {"s": level}, capacity=capacity * 100, load=min(load, capacity) * 100, open_tickets=load)
        for i, (capacity, load, level) in enumerate(people)
    ]
    requests = [
        request(
            i,
            15.0 * rank,
            weight=weight * 25,
            rank=rank,
            skills=(("s", level),) if level else (),
            declined=frozenset(f"a{n}" for n in refused),
        )
        for i, (weight, rank, level, refused) in enumerate(tickets)
    ]
    outcomes, pool = planned(agents, requests, depth=depth)
    assert set(outcomes) == {one.ticket for one in requests}
    for one in requests:
        outcome = outcomes[one.ticket]
        if isinstance(outcome, Assigned):
            assert outcome.agent not in one.declined
            assert all(pool.agents[outcome.agent].skills[skill] >= level for skill, level in one.skills)
    assert all(agent.capacity is not None and agent.load <= agent.capacity for agent in pool.agents.values())


def test_a_hundred_tickets_and_a_hundred_agents_take_at_most_fifty_milliseconds() -> None:
    warm()
    chance = random.Random(2)
    skills = [f"s{i}" for i in range(6)]
    spent = []
    for _ in range(3):
        agents = [Agent(f"a{i}", {one: chance.randint(1, 3) for one in chance.sample(skills, 3)}) for i in range(100)]
        requests = [
            request(i, chance.uniform(5, 300), rank=i % 4, skills=((chance.choice(skills), chance.randint(1, 2)),))
            for i in range(100)
        ]
        started = time.process_time()
        outcomes, _ = planned(agents, requests, depth=3)
        spent.append(time.process_time() - started)
        assert sum(isinstance(one, Assigned) for one in outcomes.values()) == 100
    assert min(spent) <= 0.050


def test_groups_beyond_a_hundred_agents_are_left_to_the_greedy_way() -> None:
    outcomes, _ = planned([Agent(f"a{i}") for i in range(101)], [request(1), request(2)])
    assert [one.how for one in outcomes.values() if isinstance(one, Assigned)] == [How.STRATEGY, How.STRATEGY]


@pytest.mark.parametrize("count", [0, 1, 150])
def test_outcomes_come_by_priority_and_waiting_time_whatever_the_size(count: int) -> None:
    requests = [request(i, rank=i % 3) for i in range(count)]
    pool = Pool({"a": Agent("a"), "b": Agent("b")})
    outcomes = plan(Assigner({"g": Desk("g", ("a", "b"))}, pool, NOW), requests, NOW)
    assert [one.ticket for one in outcomes] == [one.ticket for one in sorted(requests, key=lambda one: one.rank)]
