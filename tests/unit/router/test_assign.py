"""Assignment: filters in order, strategies, relaxed demands, exact capacity, reasons."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.domain.assign import Assigner
from services.router.domain.desk import Desk, Filter, How, Request, Step
from services.router.domain.outcomes import Assigned, Waiting
from services.router.domain.pool import Absence, Agent, Pool, stand_in
from services.router.errors import UnknownGroup
from shared.calendar import BusinessCalendar, CalendarSpec
from shared.playbook.routing import Presence, Strategy
from shared.playbook.types import decode

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday
HOUR = timedelta(hours=1)
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri"]


def calendar(start: str, end: str) -> BusinessCalendar:
    weekly = [{"day": day, "start": start, "end": end} for day in WEEKDAYS]
    return BusinessCalendar(decode({"tz": "UTC", "weekly": weekly}, CalendarSpec))


HOURS = {"day": calendar("09:00", "17:00"), "late": calendar("14:00", "22:00")}
AWAY = Absence(NOW - HOUR, NOW + HOUR)


def agent(name: str, **more: Any) -> Agent:
    return Agent(name, **more)


def assigner(desk: Desk, *agents: Agent, others: tuple[Desk, ...] = (), pool: Pool | None = None) -> Assigner:
    people = Pool({one.id: one for one in agents}) if pool is None else pool
    return Assigner({one.name: one for one in (desk, *others)}, people, NOW, HOURS)


def desk(*members: str, **more: Any) -> Desk:
    return Desk(more.pop("name", "g"), members, **more)


def request(ticket: int | str = 1, **more: Any) -> Request:
    return Request(ticket, more.pop("group", "g"), more.pop("queued_at", NOW), **more)


DROPPED: list[tuple[Agent, dict[str, Any], Filter]] = [
    (agent("x", active=False), {}, Filter.ACTIVE),
    (agent("x", presence=Presence.AWAY), {}, Filter.PRESENCE),
    (agent("x", presence=Presence.OFFLINE, shift="late"), {}, Filter.PRESENCE),
    (agent("x", shift="late"), {}, Filter.SHIFT),
    (agent("x", shift="day"), {"effort_seconds": 5 * 3600 + 1}, Filter.SHIFT),
    (agent("x", shift="no such calendar"), {}, Filter.SHIFT),
    (agent("x", leave=(AWAY,)), {}, Filter.LEAVE),
    (agent("x", skills={"linux": 1}), {"skills": (("linux", 2),)}, Filter.SKILLS),
    (agent("x"), {"declined": frozenset({"x"})}, Filter.DECLINED),
    (agent("x", capacity=300, load=300), {}, Filter.CAPACITY),
    (agent("x", capacity=300, load=250), {}, Filter.CAPACITY),
    (agent("stranger"), {}, Filter.GROUP),
    (agent("x", since=NOW - HOUR), {}, Filter.GROUP),
]


@pytest.mark.parametrize(("one", "demand", "expected"), DROPPED)
def test_each_filter_drops_and_records_whom(one: Agent, demand: dict[str, Any], expected: Filter) -> None:
    outcome = assigner(desk("x", new_member_wait=2 * HOUR), one).assign(request(**demand))
    assert isinstance(outcome, Waiting)
    assert outcome.cause is expected
    assert outcome.as_dict()["dropped"] == {expected: ["x"]}


PASSING = [
    agent("x", shift="day"),
    agent("x", capacity=300, load=200),
    agent("x", leave=(Absence(NOW + HOUR, NOW + 2 * HOUR), Absence(NOW - HOUR, NOW))),
    agent("x", skills={"linux": 2, "other": 1}),
]


@pytest.mark.parametrize("one", PASSING)
def test_whoever_passes_all_filters_gets_the_ticket(one: Agent) -> None:
    demand = {"skills": (("linux", 2),)} if one.skills else {}
    outcome = assigner(desk("x"), one).assign(request(effort_seconds=5 * 3600, **demand))
    assert isinstance(outcome, Assigned)
    assert (outcome.agent, one.open_tickets) == ("x", 1)


def test_at_the_rate_limit_is_over_it() -> None:
    pool = Pool({"x": agent("x")}, recent={("g", "x"): 1})
    batch = assigner(desk("x", rate_limit=2), pool=pool)
    outcomes = [batch.assign(request(i)) for i in range(2)]
    assert isinstance(outcomes[0], Assigned)
    assert isinstance(outcomes[1], Waiting)
    assert outcomes[1].cause is Filter.RATE


def test_nobody_free_waits_until_the_next_shift_or_the_end_of_a_leave() -> None:
    people = (agent("a", shift="late"), agent("b", leave=(Absence(NOW - HOUR, NOW + 5 * HOUR),)))
    outcome = assigner(desk("a", "b"), *people).assign(request())
    assert isinstance(outcome, Waiting)
    assert outcome.retry_at == NOW + 2 * HOUR


def test_a_shift_that_is_nearly_over_waits_for_the_next_one() -> None:
    outcome = assigner(desk("a"), agent("a", shift="day")).assign(request(effort_seconds=6 * 3600))
    assert isinstance(outcome, Waiting)
    assert outcome.retry_at == datetime(2026, 3, 5, 9, tzinfo=UTC)


STRATEGIES: list[tuple[Strategy, list[Agent], str]] = [
    (Strategy.LEAST_LOADED, [agent("a", load=200), agent("b", load=100)], "b"),
    (Strategy.LEAST_LOADED, [agent("a", load=100, last_assigned=9), agent("b", load=100, last_assigned=3)], "b"),
    (Strategy.LEAST_LOADED, [agent("a", load=100), agent("b", load=100)], "a"),
    (Strategy.UTILISATION, [agent("a", load=300, capacity=400), agent("b", load=400, capacity=1000)], "b"),
    (Strategy.MOST_SPARE, [agent("a", load=0, capacity=400), agent("b", load=400, capacity=1000)], "b"),
    (Strategy.MOST_SPARE, [agent("a", load=0, capacity=400), agent("b", load=900, capacity=None)], "b"),
    (Strategy.BALANCED, [agent("a", load=100, open_tickets=4), agent("b", load=900, open_tickets=3)], "b"),
    (Strategy.LEAST_RECENTLY_ASSIGNED, [agent("a", last_assigned=5), agent("b", last_assigned=4)], "b"),
    (Strategy.SKILL_FIT, [agent("a", skills={"s": 5}), agent("b", skills={"s": 2})], "b"),
    (Strategy.SKILL_FIT, [agent("a", skills={"s": 1}), agent("b", skills={"s": 3, "p": 1})], "b"),
]


@pytest.mark.parametrize(("strategy", "people", "expected"), STRATEGIES)
def test_a_strategy_chooses(strategy: Strategy, people: list[Agent], expected: str) -> None:
    demand = request(skills=(("s", 1),), preferred=(("p", 1),)) if strategy is Strategy.SKILL_FIT else request()
    batch = assigner(desk("a", "b", strategy=strategy), *people)
    outcome = batch.assign(demand)
    assert isinstance(outcome, Assigned)
    assert outcome.agent == expected
    assert outcome.runner_up == ({"a", "b"} - {expected}).pop()


def test_the_last_owner_gets_the_ticket_back_while_they_can_take_it() -> None:
    people = agent("a"), agent("b", load=500, capacity=600)
    batch = assigner(desk("a", "b", sticky=True), *people)
    outcomes = [batch.assign(request(i, last_owner="b")) for i in range(2)]
    assert [(one.agent, one.how) for one in outcomes if isinstance(one, Assigned)] == [
        ("b", How.STICKY),
        ("a", How.STRATEGY),
    ]


def test_passed_over_agents_keep_their_turn() -> None:
    batch = assigner(desk("a", "b", "c", strategy=Strategy.ROUND_ROBIN), agent("a"), agent("b"), agent("c"))
    given = [batch.assign(request(i, declined=frozenset({"b"} if i == 1 else ()))) for i in range(4)]
    assert [one.agent for one in given if isinstance(one, Assigned)] == ["a", "c", "b", "a"]


def test_weighted_turns_follow_the_weights_and_forgive_absence() -> None:
    roles = desk("a", "b", "c", strategy=Strategy.WEIGHTED_ROUND_ROBIN, weights=(("a", 1.0), ("b", 3.0)))
    people = agent("a"), agent("b"), agent("c", presence=Presence.AWAY)
    pool = Pool({one.id: one for one in people})
    counts = Counter(outcome.agent for outcome in assign_many(roles, pool, 40))
    assert counts == {"a": 10, "b": 30}
    people[2].presence = Presence.AVAILABLE
    again = Counter(outcome.agent for outcome in assign_many(roles, pool, 20))
    assert again["c"] <= 5


def assign_many(one: Desk, pool: Pool, count: int) -> list[Assigned]:
    batch = assigner(one, pool=pool)
    return [outcome for outcome in (batch.assign(request(i)) for i in range(count)) if isinstance(outcome, Assigned)]


def test_delegates_stand_in_and_circles_are_found() -> None:
    away = {"leave": (Absence(NOW - HOUR, NOW + HOUR, "b"),)}
    people = {
        "a": agent("a", **away),
        "b": agent("b", leave=(Absence(NOW - HOUR, NOW + HOUR, "c"),)),
        "c": agent("c"),
        "d": agent("d", leave=(Absence(NOW - HOUR, NOW + HOUR, "e"),)),
        "e": agent("e", leave=(Absence(NOW - HOUR, NOW + HOUR, "d"),)),
    }
    assert stand_in(people, "a", NOW).chain == ("a", "b", "c")
    assert stand_in(people, "d", NOW).loop
    outcome = assigner(desk("a", "d"), *people.values()).assign(request())
    assert isinstance(outcome, Assigned)
    assert (outcome.agent, outcome.stands_in_for) == ("c", "a")
    assert outcome.as_dict()["delegate_loops"] == [["d", "e", "d"]]


NAMED: list[tuple[dict[str, Any], Agent, tuple[str, How]]] = [
    ({"named": "x"}, agent("x"), ("x", How.NAMED)),
    ({"named": "x"}, agent("x", presence=Presence.OFFLINE), ("m", How.STRATEGY)),
    ({"named": "x"}, agent("x", leave=(Absence(NOW - HOUR, NOW + HOUR, "m"),)), ("m", How.NAMED)),
    ({"named": "nobody"}, agent("x"), ("m", How.STRATEGY)),
    ({"from_outside": True}, agent("x"), ("x", How.INTERFACE)),
    ({}, agent("x"), ("m", How.STRATEGY)),
]


@pytest.mark.parametrize(("demand", "x", "expected"), NAMED)
def test_a_named_person_or_their_stand_in_comes_first(
    demand: dict[str, Any], x: Agent, expected: tuple[str, How]
) -> None:
    outcome = assigner(desk("m", interface="x"), agent("m"), x).assign(request(**demand))
    assert isinstance(outcome, Assigned)
    assert (outcome.agent, outcome.how) == expected


def test_by_field_gives_to_the_named_person_or_nobody() -> None:
    one = desk("a", "b", strategy=Strategy.BY_FIELD)
    batch = assigner(one, agent("a", load=900), agent("b"))
    outcomes = [batch.assign(request(named="a")), batch.assign(request(named=None)), batch.assign(request(named="z"))]
    assert [one.agent if isinstance(one, Assigned) else None for one in outcomes] == ["a", None, None]


SKILLED = {"skills": (("net", 1),), "preferred": (("zh", 1),)}
RELAX = ((600.0, Step.MANDATORY), (1800.0, Step.OVERFLOW))


@pytest.mark.parametrize(
    ("waited_minutes", "expected", "retry_minutes"),
    [(0, None, 10), (9, None, 1), (10, ("a", Step.MANDATORY), None), (45, ("a", Step.MANDATORY), None)],
)
def test_skills_relax_with_waiting_time(
    waited_minutes: int, expected: tuple[str, Step] | None, retry_minutes: int | None
) -> None:
    one = desk("a", relax=RELAX, overflow="o")
    batch = assigner(one, agent("a", skills={"net": 1}), agent("z", skills={"net": 1}), others=(desk("z", name="o"),))
    outcome = batch.assign(request(queued_at=NOW - timedelta(minutes=waited_minutes), **SKILLED))
    if isinstance(outcome, Assigned):
        assert (outcome.agent, outcome.step) == expected
    else:
        assert expected is None
        assert retry_minutes is not None
        assert outcome.retry_at == NOW + timedelta(minutes=retry_minutes)


def test_after_long_waiting_the_overflow_group_takes_over() -> None:
    one = desk("a", relax=RELAX, overflow="o")
    batch = assigner(
        one, agent("a", capacity=100, load=100), agent("z", skills={"net": 1}), others=(desk("z", name="o"),)
    )
    outcome = batch.assign(request(queued_at=NOW - HOUR, skills=(("net", 1),)))
    assert isinstance(outcome, Assigned)
    assert (outcome.group, outcome.agent, outcome.step) == ("o", "z", Step.OVERFLOW)


def test_after_everybody_declined_overflow_is_asked_at_once_and_then_it_has_failed() -> None:
    one = desk("a", "b", overflow="o")
    people = agent("a"), agent("b"), agent("z")
    batch = assigner(one, *people, others=(desk("z", name="o"),))
    first = batch.assign(request(declined=frozenset({"a", "b"})))
    assert isinstance(first, Assigned)
    assert first.agent == "z"
    last = batch.assign(request(declined=frozenset({"a", "b", "z"})))
    assert isinstance(last, Waiting)
    assert (last.group, last.cause, last.all_declined) == ("g", Filter.DECLINED, True)


def test_a_full_agent_is_not_a_decliner() -> None:
    batch = assigner(desk("a", "b"), agent("a"), agent("b", capacity=100, load=100))
    outcome = batch.assign(request(declined=frozenset({"a"})))
    assert isinstance(outcome, Waiting)
    assert (outcome.cause, outcome.all_declined) == (Filter.CAPACITY, False)


def test_who_declined_and_is_away_for_it_has_declined_all_the_same() -> None:
    gone = agent("a", presence=Presence.AWAY)
    declined = frozenset({"a"})
    g = desk("a", "b", overflow="other")
    other = desk("o", name="other")
    outcome = assigner(g, gone, agent("b", presence=Presence.AWAY), agent("o"), others=(other,)).assign(
        request(declined=declined)
    )
    assert isinstance(outcome, Assigned)
    assert (outcome.agent, outcome.step) == ("o", Step.OVERFLOW)
    alone = assigner(desk("a"), gone).assign(request(declined=declined))
    assert isinstance(alone, Waiting)
    assert (alone.cause, alone.all_declined) == (Filter.DECLINED, True)


def test_who_was_never_asked_and_is_away_has_not_declined() -> None:
    people = (agent("a", presence=Presence.AWAY), agent("z", leave=(AWAY,)))
    outcome = assigner(desk("a", "z"), *people).assign(request(declined=frozenset({"z"})))
    assert isinstance(outcome, Waiting)
    assert (outcome.cause, outcome.all_declined) == (Filter.LEAVE, False)


def test_a_ticket_that_nobody_can_take_does_not_block_those_behind_it() -> None:
    batch = assigner(desk("a"), agent("a", capacity=100))
    outcomes = batch.assign_all(
        [request("heavy", weight=500), request("light", rank=3), request("first", rank=3, weight=50)]
    )
    assert [(one.ticket, type(one)) for one in outcomes] == [
        ("heavy", Waiting),
        ("light", Assigned),
        ("first", Waiting),
    ]


def test_tickets_are_served_by_priority_then_by_waiting_time() -> None:
    batch = assigner(desk("a"), agent("a"))
    requests = [request("new", rank=1), request("old", rank=1, queued_at=NOW - HOUR), request("urgent", rank=0)]
    assert [one.ticket for one in batch.assign_all(requests)] == ["urgent", "old", "new"]


def test_an_unknown_group_is_an_error() -> None:
    with pytest.raises(UnknownGroup):
        assigner(desk("a"), agent("a")).assign(request(group="nope"))


# -- properties
# -----------------------------------------------------------------------------------------------------------

_agents = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 2), st.booleans()), min_size=1, max_size=8
)
_demands = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 2), st.sets(st.integers(0, 7), max_size=3), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)


def reference(pool: Pool, one: Desk, wanted: Request, order: list[str]) -> str | None:
    """The plain meaning for `least_loaded`: filter everybody, take the smallest key."""
    fitting = [
        pool.agents[name]
        for name in order
        if name in one.members
        and pool.agents[name].presence == Presence.AVAILABLE
        and all(pool.agents[name].skills.get(skill, 0) >= level for skill, level in wanted.skills)
        and name not in wanted.declined
        and pool.agents[name].fits(wanted.weight)
    ]
    best = min(fitting, key=lambda who: (who.load, who.last_assigned, order.index(who.id)), default=None)
    return None if best is None else best.id


@settings(max_examples=200, deadline=None)
@given(_agents, _demands)
def test_a_batch_chooses_what_looking_at_everybody_would_and_never_exceeds_capacity(
    people: list[tuple[int, int, int, bool]], demands: list[tuple[int, int, set[int], int]]
) -> None:
    def made() -> Pool:
        return Pool(
            {
                f"a{i}": agent(
                    f"a{i}",
                    capacity=capacity * 50,
                    load=min(load, capacity) * 50,
                    skills={"s": level},
                    presence=Presence.AVAILABLE if here else Presence.AWAY,
                )
                for i, (capacity, load, level, here) in enumerate(people)
            }
        )

    pool, plain = made(), made()
    order = list(pool.agents)
    desks = [desk(*order, name="g0"), desk(*order[::2], name="g1")]  # two groups share agents: heaps go stale
    batch = Assigner({one.name: one for one in desks}, pool, NOW)
    for i, (weight, level, refused, group) in enumerate(demands):
        wanted = request(
            i,
            group=f"g{group}",
            weight=weight * 25,
            skills=(("s", level),) if level else (),
            declined=frozenset(f"a{n}" for n in refused),
        )
        outcome = batch.assign(wanted)
        expected = reference(plain, desks[group], wanted, [one for one in order if one in desks[group].members])
        assert (outcome.agent if isinstance(outcome, Assigned) else None) == expected
        if expected is not None:
            plain.take(plain.agents[expected], wanted.weight, NOW.timestamp() + (i + 1) * 1e-6)
            plain.agents[expected].last_assigned = pool.agents[expected].last_assigned
    assert all(one.capacity is not None and one.load <= one.capacity for one in pool.agents.values())
    assert sum(pool.taken.values()) == sum(pool.agents[n].load for n in order) - sum(
        made().agents[n].load for n in order
    )


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 8),
    st.lists(st.lists(st.sampled_from(["a0", "a1", "a2", "missing"]), max_size=2), min_size=1, max_size=60),
)
def test_strict_round_robin_spreads_by_at_most_one_among_those_always_eligible(
    size: int, refusals: list[list[str]]
) -> None:
    names = [f"a{i}" for i in range(size)]
    one = desk(*names, strategy=Strategy.ROUND_ROBIN)
    pool = Pool({name: agent(name) for name in names})
    counts: Counter[str] = Counter(dict.fromkeys(names, 0))
    for i, refused in enumerate(refusals):
        outcome = assigner(one, pool=pool).assign(request(i, declined=frozenset(refused)))  # a new batch each time
        if isinstance(outcome, Assigned):
            counts[outcome.agent] += 1
    always = [counts[name] for name in names if not any(name in refused for refused in refusals)]
    assert not always or max(always) - min(always) <= 1
