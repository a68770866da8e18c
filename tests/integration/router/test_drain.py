"""Waiting tickets and whose turn it is: by priority, then by waiting time, as soon as somebody can take them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.control import platform
from services.router.people import look_again
from shared.ledger.process import WorkerProcess
from shared.ticket import commands as c
from tests.support.routing import START, RoutingDesk, playbook, routing_desk
from tests.support.wait import until

PRIORITIES: dict[str, Any] = {"dimensions": {}, "priority": {"values": ["1", "2", "3", "4"], "default": "4"}}


def rules() -> list[dict[str, Any]]:
    """Priority and a skill by a field, so that tests may ask for what they want."""
    wanted = [
        {"name": f"p{n}", "when": {"fields.rank": str(n)}, "then": {"priority": str(n), "group": "desk"}}
        for n in (1, 2, 3)
    ]
    skill = {"name": "welder", "when": {"fields.skill": "weld"}, "then": {"skills": {"weld": 1}}}
    first = {"name": "rank", "rules": [*wanted, {"name": "rest", "default": True, "then": {"group": "desk"}}]}
    return [first, {"name": "skill", "rules": [skill, {"name": "none", "default": True}]}]


def sections(**changes: Any) -> dict[str, Any]:
    fields = {"rank": {"type": "text"}, "skill": {"type": "text"}}
    return playbook(taxonomy=PRIORITIES, fields=fields, rules=rules(), **changes)


def busy(desk: RoutingDesk) -> list[int]:
    """Everybody full."""
    ids = [desk.open() for _ in range(6)]
    assert {desk.owner(one) for one in ids} == {"ann", "bob", "cai"}
    return ids


def test_freed_capacity_goes_to_the_most_urgent_and_among_those_to_who_waited_longest(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        taken = busy(desk)
        waiting = []
        for rank in ("4", "2", "1", "2", "1"):
            desk.wait(seconds=10)
            waiting.append(desk.open(fields={"rank": rank}))
        order = []
        for one in taken[:5]:
            desk.act(one, c.Resolve(), str(desk.owner(one)))
            order.append(next(w for w in waiting if desk.owner(w) is not None and w not in order))
        assert order == [waiting[place] for place in (2, 4, 1, 3, 0)]


def test_a_new_ticket_does_not_overtake_one_that_waits(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        [first, *_] = busy(desk)
        waiting = desk.open(fields={"rank": "3"})
        # freed and opened before the router looks: both are in one batch, the waiting one in neither
        answers = desk.post({"fields": {"rank": "4"}})
        desk.act(first, c.Resolve(), str(desk.owner(first)))
        assert answers[0].ticket is not None
        assert desk.owner(waiting) is not None
        assert desk.owner(answers[0].ticket.id) is None


def test_one_that_nobody_can_take_never_blocks_those_behind_it(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        [first, *_] = busy(desk)
        stuck = [desk.open(fields={"rank": "1", "skill": "weld"}) for _ in range(5)]
        behind = desk.open(fields={"rank": "4"})
        desk.act(first, c.Resolve(), str(desk.owner(first)))
        assert desk.owner(behind) is not None
        assert [desk.owner(one) for one in stuck] == [None] * 5


@pytest.mark.parametrize("blocked", [250])
def test_however_many_cannot_be_taken(database_url: str, blocked: int) -> None:
    with routing_desk(database_url, sections()) as desk:
        [first, *_] = busy(desk)
        desk.post(*[{"fields": {"rank": "1", "skill": "weld"}} for _ in range(blocked)])
        desk.engine.move_to(desk.now)
        behind = desk.open(fields={"rank": "4"})
        desk.act(first, c.Resolve(), str(desk.owner(first)))
        assert desk.owner(behind) is not None


def test_presence_gives_out_as_many_as_the_person_can_take(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        for person in ("ann", "bob", "cai"):
            desk.person(person, presence="offline")
        waiting = [desk.open(fields={"rank": rank}) for rank in ("4", "1", "2", "3")]
        desk.person("bob", presence="available")
        assert [desk.owner(one) for one in waiting] == [None, "bob", "bob", None]


def test_a_skill_that_is_granted_is_used_at_once(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        waiting = desk.open(fields={"rank": "1", "skill": "weld"})
        assert desk.owner(waiting) is None
        desk.person("cai", skills={"weld": 2})
        assert desk.owner(waiting) == "cai"


def test_a_leave_that_ends_and_a_shift_that_begins_give_out_what_waits(database_url: str) -> None:
    agents: dict[str, Any] = {name: {"capacity": 2} for name in ("ann", "bob")} | {"lee": {"capacity": 9}}
    agents["ann"]["shift"] = "late"
    groups = {"desk": {"members": ["ann", "bob"], "lead": "lee"}, "triage": {"members": ["lee"]}}
    calendars = {"late": {"tz": "UTC", "weekly": {"mon-fri": ["12:00-20:00"]}}}
    with routing_desk(database_url, sections(agents=agents, groups=groups, calendars=calendars)) as desk:
        desk.person("bob", leave=[(START - timedelta(days=1), START + timedelta(hours=3), None)])
        waiting = [desk.open(fields={"rank": rank}) for rank in ("4", "3", "2", "1")]
        desk.wait(hours=2, minutes=59)
        assert [desk.owner(one) for one in waiting] == [None] * 4
        desk.wait(minutes=1)
        assert [desk.owner(one) for one in waiting] == [None, None, "bob", "bob"]
        desk.wait(hours=7)
        assert [desk.owner(one) for one in waiting] == ["ann", "ann", "bob", "bob"]
        opened = {"ann": START + timedelta(hours=10), "bob": START + timedelta(hours=3)}
        for ticket, who in zip(waiting, ("ann", "ann", "bob", "bob"), strict=True):
            assigned = next(row for row in desk.timeline(ticket) if row["type"] == "ticket.assigned")
            assert assigned["happened_at"] == opened[who]


def test_an_offer_that_is_declined_frees_its_place_for_who_waits(database_url: str) -> None:
    groups = {"desk": {"members": ["ann"], "offer": {"timeout": "5m"}}, "triage": {"members": ["lee"]}}
    agents = {"ann": {"capacity": 1}, "lee": {"capacity": 9}}
    with routing_desk(database_url, sections(agents=agents, groups=groups)) as desk:
        first, second = desk.open(), desk.open()
        assert desk.scalar("select state ->> 'offered_to' from ledger.ticket where id = %s", first) == "ann"
        desk.act(first, c.Decline(), "ann")
        assert desk.scalar("select state ->> 'offered_to' from ledger.ticket where id = %s", second) == "ann"


def test_what_was_busy_when_it_was_roused_is_found_by_the_next_look(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        [first, *_] = busy(desk)
        waiting = desk.open()
        with desk.database.connect() as other:
            other.exec_driver_sql("select id from ledger.ticket where id = %s for update", (waiting,))
            desk.act(first, c.Resolve(), str(desk.owner(first)))
            assert desk.owner(waiting) is None
            other.rollback()
        assert look_again(desk.deps) == 1
        desk.engine.move_to(desk.now)
        assert desk.owner(waiting) is not None
        assert look_again(desk.deps) is None


# ---- in real time, by worker processes ---------------------------------------------------------------------------------


@pytest.fixture
def live(database_url: str) -> Iterator[RoutingDesk]:
    """Two routers at work in real time, without Redis: the slowest way there is."""
    desk = RoutingDesk(database_url, sections())
    desk.go_live()
    processes = []
    for _ in range(2):
        deps = platform.deps(replace(desk.deps.settings, redis_url=None), desk.database)
        processes.append(WorkerProcess(deps, [platform.parts("router", deps)]))
    for process in processes:
        process.start()
    yield desk
    for process in processes:
        process.stop()
    assert desk.broken() == {}
    desk.database.dispose()


WITHIN = 2.0
"""Seconds: the promise, also without Redis and with two routers at work."""


def given(desk: RoutingDesk) -> int:
    return int(desk.scalar("select count(*) from router.assignment where ended_at is null"))


def test_freed_capacity_and_granted_skills_are_used_at_once(live: RoutingDesk) -> None:
    opened = live.post(*[{"fields": {"rank": "2"}} for _ in range(8)], {"fields": {"skill": "weld", "rank": "1"}})
    welding = [one.ticket.id for one in opened if one.ticket is not None][-1]
    waiting = "select count(*) from router.waiting"
    until(lambda: given(live) == 6 and live.scalar(waiting) == 3, what="six given out, three waiting")

    def resolve_one_of(person: str) -> None:
        mine = "select ticket_id from router.assignment where agent = %s and ended_at is null limit 1"
        live.act(int(live.scalar(mine, person)), c.Resolve(), "lee")

    for left in (2, 1):
        resolve_one_of("bob")
        until(lambda left=left: live.scalar(waiting) == left, seconds=WITHIN, what="the freed place used")  # type: ignore[misc]
    live.person("ann", skills={"weld": 1})
    resolve_one_of("ann")
    until(lambda: live.owner(welding) == "ann", seconds=WITHIN, what="the granted skill used")


def test_under_many_hands_nothing_is_lost_doubled_or_over_capacity(live: RoutingDesk) -> None:
    live.post(*[{"fields": {"rank": str(n % 4 + 1)}} for n in range(60)])
    stop, crowded = threading.Event(), list[Any]()
    # looked at as it stands; instants are of the claims, before any lock was waited for, and say nothing of the order
    over = "select agent, count(*) from router.assignment where ended_at is null group by agent having count(*) > 2"

    def resolve() -> None:
        while not stop.is_set():
            crowded.extend(live.rows(over))
            for row in live.rows(
                "select ticket_id from router.assignment where ended_at is null order by random() limit 1"
            ):
                live.act(row[0], c.Resolve(), "lee")

    hands = [threading.Thread(target=resolve) for _ in range(2)]
    for one in hands:
        one.start()
    try:
        until(
            lambda: live.scalar("select count(*) from ledger.ticket where status = 'resolved'") == 60,
            seconds=40,
            what="all resolved",
        )
    finally:
        stop.set()
        for one in hands:
            one.join()
    until(lambda: live.scalar("select max(load) from router.v_load") == 0, what="the last ones taken off their owners")
    assert not crowded
