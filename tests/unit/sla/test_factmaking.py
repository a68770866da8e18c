"""Facts are a function of the log alone: at once, one by one, late or in time, they are the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

import pytest
from msgspec.structs import replace

from services.sla.domain import facts as f
from services.sla.domain.decide import decide
from services.sla.domain.kept import from_json, to_json
from services.sla.domain.ticket import SlaState
from services.sla.factmaking import desk_of, facts_of
from shared.contracts import events as e
from shared.contracts.envelope import Actor, Recorded
from shared.ticket.projection import project
from tests.unit.sla.world import at, library

LIBRARY = library(
    {
        "calendar": "office",
        "targets": {"first_response": "2h", "resolution": "8h", "ownership:*": "4h", "node:*": "1h"},
        "pause_on": ["pending", "new"],
        "first_response": ["in_progress"],
    }
)


def log(*told: tuple[datetime, e.Data]) -> list[Recorded]:
    """A ticket's stream, from `ticket.opened` on."""
    actor = Actor(kind="person", id="anna")
    return [
        Recorded("ticket", 7, version, data.type, data, when, when, actor, True, 1, "c")
        for version, (when, data) in enumerate(told, start=1)
    ]


def read(events: Sequence[Recorded], cuts: Sequence[int]) -> list[f.Fact]:
    """Facts of the log taken in batches that end at `cuts`."""
    facts: list[f.Fact] = []
    desk, begin = None, 0
    for end in [*cuts, len(events)]:
        made, desk = facts_of(events[begin:end], desk)
        facts += made
        begin = end
    return facts


def keep(events: Sequence[Recorded], cuts: Sequence[int], now: datetime) -> SlaState:
    """Clocks of the log taken in batches, each handled when its last event happened, and at `now` at last."""
    state: SlaState | None = None
    begin = 0
    for end in [*cuts, len(events)]:
        batch = events[begin:end]
        begin = end
        if not batch:
            continue
        facts, desk = facts_of(batch, None if state is None else state.desk)
        assert desk is not None
        when = now if end == len(events) else batch[-1].happened_at
        state = from_json(to_json(replace(decide(state, facts, when, LIBRARY).state, desk=desk)))
    assert state is not None
    return state


def classified(group: str = "one") -> e.TicketClassified:
    return e.TicketClassified(labels={}, priority="normal", group=group, kind="case", lane="normal")


def assigned(agent: str, group: str = "one", number: int = 1, node: str = "main") -> e.TicketAssigned:
    return e.TicketAssigned(group=group, agent=agent, assignment=number, node=node)


def statuses(facts: Sequence[f.Fact]) -> list[str]:
    return [fact.status for fact in facts if isinstance(fact, f.StatusChanged)]


def test_a_ticket_resumed_before_it_was_transferred_goes_back_to_whose_it_was_then() -> None:
    events = log(
        (at("09:00"), e.TicketOpened(subject="x")),
        (at("09:01"), classified()),
        (at("09:02"), assigned("anna")),
        (at("09:03"), e.TicketAccepted(agent="anna", assignment=1)),
        (at("09:10"), e.TicketPaused(reason="vendor")),
        (at("09:40"), e.TicketResumed()),
        (at("10:00"), e.TicketTransferred(group="two", from_group="one", from_agent="anna")),
    )
    wanted = ["assigned", "in_progress", "pending:vendor", "in_progress", "new"]
    assert statuses(read(events, ())) == wanted
    assert statuses(read(events, range(1, len(events)))) == wanted


def test_what_happens_to_a_waiting_ticket_shows_when_it_goes_on() -> None:
    events = log(
        (at("09:00"), e.TicketOpened(subject="x")),
        (at("09:01"), classified()),
        (at("09:02"), e.TicketPaused()),
        (at("09:03"), assigned("anna")),
        (at("09:04"), e.TicketAccepted(agent="anna", assignment=1)),
        (at("09:30"), e.TicketResumed()),
        (at("09:31"), e.TicketPaused()),
        (at("09:32"), e.TicketTransferred(group="two", from_group="one", from_agent="anna")),
    )
    wanted = ["pending", "in_progress", "pending", "new"]
    assert statuses(read(events, ())) == statuses(read(events, (3, 4, 6))) == wanted


def test_an_assignment_beside_the_main_path_changes_neither_status_nor_group_nor_person() -> None:
    events = log(
        (at("09:00"), e.TicketOpened(subject="x")),
        (at("09:01"), classified()),
        (at("09:02"), assigned("anna", "lab", node="inspect")),
    )
    made, _ = facts_of(events, None)
    assert [type(fact) for fact in made] == [f.Created, f.Described, f.GroupChanged]


def happenings(random: Random) -> tuple[list[Recorded], list[int]]:
    """A random life, with the places between two appends; every event is one that `evolve` knows, in any order at all."""
    told: list[tuple[datetime, e.Data]] = [(at("08:00"), e.TicketOpened(subject="x"))]
    between, when, visits = [1], at("08:00"), 0
    for _ in range(random.randrange(4, 25)):
        when += timedelta(minutes=random.choice([0, 1, 7, 45, 300]))
        appended = _append(random, visits)
        visits += any(isinstance(data, e.FlowMoved) for data in appended)
        told += [(when, data) for data in appended]
        between.append(len(told))
    if random.random() < 0.1:
        told.append((when, e.TicketMerged(into=3)))
    return log(*told), [cut for cut in between if cut < len(told)]


def _append(random: Random, visits: int) -> list[e.Data]:
    node = random.choice(["inspect", "repair"])
    if (
        random.random() < 0.2
    ):  # the case moves on: the main path is at another visit, and what belonged to that is the ticket's
        token = {"id": visits + 1, "node": node, "visit": visits + 1}
        moved = e.FlowMoved(flow="f", version=1, step="completed", state={"flow": "f", "tokens": [token]})
        return [
            moved,
            e.NodeCompleted(node="inspect", visit=visits),
            e.NodeEntered(node=node, visit=visits + 1, group=random.choice(["one", "lab", None])),
        ]
    return [
        random.choice(
            [
                classified("one"),
                classified("two"),
                assigned("anna"),
                assigned("ben", "two"),
                e.TicketAssigned(group="lab", agent="eve", assignment=2, node=node, visit=max(1, visits)),
                e.TicketAccepted(agent="eve", assignment=2, node=node, visit=max(1, visits)),
                e.TicketAccepted(agent="anna", assignment=1),
                e.TicketDeclined(agent="anna", assignment=1),
                e.TicketQueued(group="two", why="full"),
                e.TicketTransferred(group="two"),
                e.TicketPaused(reason="vendor"),
                e.TicketPaused(),
                e.TicketResumed(),
                e.TicketResumed(),
                e.TicketReplied(author="agent"),
                e.TicketReplied(author="customer"),
                e.TicketResolved(),
                e.TicketReopened(),
                e.TicketClosed(),
                e.TicketSet(priority="urgent"),
                e.TicketNoted(text="x"),
            ]
        )
    ]


@pytest.mark.parametrize("seed", range(10))
def test_a_log_gives_the_same_facts_and_clocks_whole_in_batches_and_one_by_one(seed: int) -> None:
    random = Random(seed)
    for _ in range(60):
        events, between = happenings(random)
        cuts = sorted(random.sample(between, random.randrange(len(between) + 1)))
        whole, single = read(events, ()), read(events, between)
        assert whole == read(events, cuts) == single
        now = events[-1].happened_at + timedelta(hours=random.choice([0, 1, 30]))
        at_once = keep(events, (), now)
        assert at_once == keep(events, cuts, now) == keep(events, between, now)


@pytest.mark.parametrize("seed", range(5))
def test_the_facts_status_group_and_person_are_the_tickets_after_every_event(seed: int) -> None:
    random = Random(1000 + seed)
    for _ in range(60):
        events, between = happenings(random)
        desk, status, group, person, begin = None, "new", None, None, 0
        for count in [*between, len(events)]:
            ticket, batch, before = project(events[:count]), events[begin:count], desk
            made, desk = facts_of(batch, before)
            assert (made, desk) == facts_of(batch, before, ticket)
            begin = count
            for fact in made:
                match fact:
                    case f.StatusChanged():
                        status = fact.status
                    case f.Merged():
                        status = "merged"
                    case f.GroupChanged():
                        group, person = fact.group, None
                    case f.PersonChanged():
                        person = fact.person
                    case _:
                        pass
            assert (status.partition(":")[0], group, person) == (ticket.status, ticket.group, ticket.assignee)
            assert desk == desk_of(ticket)
