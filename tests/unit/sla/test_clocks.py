"""What starts, pauses, ends and breaks a clock, told in cases."""

from __future__ import annotations

from typing import Any

import pytest

from services.sla.domain import facts as f
from services.sla.domain.clock import State, view
from services.sla.domain.decide import Reason
from services.sla.errors import NotCreated, UnknownVersion
from shared.contracts import events as e
from tests.unit.sla.world import Ticket, at, library, minutes, opened, warned

PLAIN = {"targets": {"first_response": "1h", "resolution": "4h"}, "warn": []}


def test_an_answer_exactly_at_the_due_instant_is_in_time() -> None:
    ticket = Ticket(PLAIN)
    ticket.take(opened(at("09:00")), f.Replied(at("10:00")))
    assert ticket.clock("first_response").state is State.MET


def test_an_answer_one_microsecond_later_is_a_breach_at_the_due_instant() -> None:
    ticket = Ticket(PLAIN)
    ticket.take(opened(at("09:00")), f.Replied(at("10:00:00.000001")))
    clock = ticket.clock("first_response")
    assert (clock.state, clock.breached_at, clock.stopped_at) == (State.BREACHED, at("10:00"), at("10:00:00.000001"))


def test_the_timer_asks_to_be_looked_at_right_after_the_due_instant_and_breaks_the_promise_then() -> None:
    ticket = Ticket(PLAIN)
    due = ticket.take(opened(at("09:00"))).next_due_at
    assert due == at("10:00:00.000001")
    assert ticket.look(at("10:00")).reason is Reason.NOT_DUE
    assert ticket.look(due).reason is Reason.BREACHED
    assert ticket.look(due).reason is Reason.NOT_DUE


def test_an_outage_of_hours_warns_and_breaches_in_order_at_their_instants_and_says_that_it_is_late() -> None:
    ticket = Ticket({**PLAIN, "warn": ["30m"]})
    ticket.take(opened(at("09:00")))
    decision = ticket.look(at("18:00"))
    assert [(when, type(data).__name__, data.metric) for when, data in decision.events] == [  # type: ignore[attr-defined]
        (at("09:30"), "SlaWarned", "first_response"),
        (at("10:00"), "SlaBreached", "first_response"),
        (at("12:30"), "SlaWarned", "resolution"),
        (at("13:00"), "SlaBreached", "resolution"),
    ]
    assert all(data.late for _, data in decision.events)  # type: ignore[attr-defined]


def test_a_reply_that_came_before_the_late_breach_was_looked_at_still_counts() -> None:
    ticket = Ticket(PLAIN)
    ticket.take(opened(at("09:00")))
    ticket.take(f.Replied(at("09:59")), now=at("18:00"))
    assert ticket.clock("first_response").state is State.MET


@pytest.mark.parametrize(
    "fact", [f.Replied(at("09:10"), automated=True), f.Accepted(at("09:10"), "bot"), f.CustomerReplied(at("09:10"))]
)
def test_only_a_persons_public_reply_is_a_first_response(fact: f.Fact) -> None:
    ticket = Ticket(PLAIN)
    ticket.take(opened(at("09:00")), fact)
    assert ticket.clock("first_response").open


@pytest.mark.parametrize(
    ("how", "fact"),
    [("accept", f.Accepted(at("09:10"), "anna")), (["in_progress"], f.StatusChanged(at("09:10"), "in_progress"))],
)
def test_accepting_or_a_status_is_a_response_where_the_policy_says_so(how: Any, fact: f.Fact) -> None:
    ticket = Ticket({**PLAIN, "first_response": how})
    ticket.take(opened(at("09:00")), fact)
    assert ticket.clock("first_response").state is State.MET


def test_a_pause_hides_the_due_instant_and_moves_it_by_open_time_only() -> None:
    ticket = Ticket({**PLAIN, "calendar": "office"})
    ticket.take(opened(at("14:00")), f.StatusChanged(at("16:00"), "pending"))
    paused = ticket.clock("resolution")
    assert (paused.state, paused.due_at) == (State.PAUSED, None)
    assert ticket.look(at("20:00")).next_due_at is None
    ticket.take(f.StatusChanged(at("10:00", 25), "in_progress"))
    assert ticket.clock("resolution").due_at == at("12:00", 25)  # two hours were left; the pause cost 16-17 and 9-10
    assert ticket.clock("resolution").paused_time == minutes(120)


def test_a_breached_clock_that_waits_stays_breached_and_its_overdue_does_not_grow() -> None:
    ticket = Ticket(PLAIN)
    ticket.take(
        opened(at("09:00")), f.StatusChanged(at("14:00"), "pending"), f.StatusChanged(at("20:00"), "in_progress")
    )
    ticket.take(f.StatusChanged(at("20:30"), "resolved"))
    clock = ticket.clock("resolution")
    assert (clock.state, clock.elapsed, clock.due_at, clock.breached_at) == (
        State.BREACHED,
        minutes(330),
        at("13:00"),
        at("13:00"),
    )


def test_a_metric_may_ignore_pauses_and_a_qualified_status_pauses_by_its_name() -> None:
    ticket = Ticket({**PLAIN, "pause_on": {"first_response": []}})
    ticket.take(opened(at("09:00")), f.StatusChanged(at("09:10"), "pending:vendor"))
    assert not ticket.clock("first_response").paused
    assert ticket.clock("resolution").paused


def test_closing_keeps_the_resolution_and_cancels_who_still_waits() -> None:
    ticket = Ticket(PLAIN)
    ticket.take(opened(at("09:00")), f.StatusChanged(at("09:30"), "resolved"), f.StatusChanged(at("11:00"), "closed"))
    assert ticket.clock("resolution").state is State.MET
    assert ticket.clock("resolution").stopped_at == at("09:30")
    assert ticket.clock("first_response").state is State.CANCELLED
    assert [x.metric for x in ticket.of(e.SlaCancelled)] == ["first_response"]


def test_a_reopened_ticket_goes_on_where_it_stopped_in_a_new_cycle() -> None:
    ticket = Ticket(PLAIN)
    ticket.take(
        opened(at("09:00")), f.StatusChanged(at("09:30"), "resolved"), f.StatusChanged(at("12:00"), "in_progress")
    )
    first, second = ticket.clock("resolution", 1), ticket.clock("resolution", 2)
    assert (first.state, first.stopped_at) == (State.MET, at("09:30"))
    assert (second.due_at, second.started_at, second.elapsed, second.continued) == (
        at("15:30"),
        at("09:00"),
        minutes(30),
        True,
    )
    assert ticket.clock("first_response").due_at == at("12:30")


def test_what_was_breached_before_closing_is_not_breached_again_after_reopening() -> None:
    ticket = Ticket(PLAIN)
    ticket.take(
        opened(at("09:00")),
        f.StatusChanged(at("14:00"), "resolved"),
        f.StatusChanged(at("15:00"), "in_progress"),
        now=at("20:00"),
    )
    assert ticket.clock("resolution", 2).state is State.BREACHED
    assert [(x.metric, x.cycle) for x in ticket.of(e.SlaBreached)] == [("first_response", 1), ("resolution", 1)]


def test_next_response_runs_from_the_oldest_unanswered_message_again_and_again() -> None:
    ticket = Ticket({"targets": {"next_response": "1h"}, "warn": []})
    ticket.take(opened(at("08:00")), f.CustomerReplied(at("09:00")), f.CustomerReplied(at("09:30")))
    assert ticket.clock("next_response").due_at == at("10:00")
    ticket.take(f.Replied(at("09:45")), f.CustomerReplied(at("11:00")))
    assert ticket.clock("next_response", 1).state is State.MET
    assert ticket.clock("next_response", 2).due_at == at("12:00")


@pytest.mark.parametrize(("counts", "cycles"), [(True, 1), (False, 0)])
def test_the_opening_message_waits_for_a_next_response_only_if_the_policy_says_so(counts: bool, cycles: int) -> None:
    ticket = Ticket({"targets": {"first_response": "1h", "next_response": "1h"}, "next_response_opening": counts})
    ticket.take(opened(at("09:00")))
    assert sum(metric == "next_response" for metric, _ in ticket.cycles) == cycles


def test_periodic_updates_count_from_the_last_reply() -> None:
    ticket = Ticket({"targets": {"periodic_update": "1h"}, "warn": []})
    ticket.take(opened(at("09:00")), f.Replied(at("09:40")), f.CustomerReplied(at("09:50")), f.Replied(at("11:00")))
    assert [ticket.clock("periodic_update", n).state for n in (1, 2, 3)] == [State.MET, State.BREACHED, State.RUNNING]
    assert ticket.clock("periodic_update").due_at == at("12:00")


def test_a_node_has_a_clock_for_each_visit_and_leaving_it_undone_cancels() -> None:
    ticket = Ticket({"targets": {"node:*": "2h", "node:inspect": "1h"}, "warn": []})
    ticket.take(
        opened(at("09:00")), f.NodeEntered(at("09:00"), "inspect", 1), f.NodeEntered(at("09:00"), "order", 1),
        f.NodeCompleted(at("09:30"), "inspect", 1), f.NodeCompleted(at("09:40"), "order", 1, cancelled=True),
        f.NodeEntered(at("10:00"), "inspect", 2),
    )  # fmt: skip
    assert ticket.clock("node:inspect", 1).state is State.MET
    assert ticket.clock("node:inspect", 2).due_at == at("11:00")
    assert (ticket.clock("node:order").state, ticket.clock("node:order").due_at) == (State.CANCELLED, at("11:00"))


def test_ownership_counts_each_stay_in_a_group_on_its_own() -> None:
    ticket = Ticket({"targets": {"ownership:level2": "2h"}, "warn": []})
    ticket.take(
        opened(at("08:00")), f.GroupChanged(at("09:00"), "level2"), f.GroupChanged(at("10:00"), "level1"),
        f.GroupChanged(at("12:00"), "level2"),
    )  # fmt: skip
    assert (ticket.clock("ownership:level2", 1).state, ticket.clock("ownership:level2", 1).elapsed) == (
        State.MET,
        minutes(60),
    )
    assert ticket.clock("ownership:level2", 2).due_at == at("14:00")
    assert ("ownership:level1", 1) not in ticket.cycles


def test_merging_cancels_everything_for_good() -> None:
    ticket = Ticket(PLAIN)
    ticket.take(
        opened(at("09:00")), f.Merged(at("09:30")), f.StatusChanged(at("10:00"), "in_progress"), f.Replied(at("10:01"))
    )
    assert {clock.state for clock in ticket.cycles.values()} == {State.CANCELLED}
    assert len(ticket.cycles) == 2


def test_working_days_are_due_at_the_same_wall_time_with_paused_open_time_after() -> None:
    ticket = Ticket({"calendar": "office", "targets": {"resolution": {"working_days": 2}}, "warn": []})
    ticket.take(opened(at("10:00")))
    assert ticket.clock("resolution").due_at == at("10:00", 26)
    ticket.take(f.StatusChanged(at("15:00"), "pending"), f.StatusChanged(at("10:00", 25), "new"))
    assert ticket.clock("resolution").due_at == at("13:00", 26)


def test_a_working_day_promise_cannot_break_while_it_waits_through_the_night() -> None:
    ticket = Ticket({"calendar": "office", "targets": {"resolution": {"working_days": 1}}, "warn": []})
    ticket.take(opened(at("20:00")))  # due when work begins the morning after the next working day's evening
    assert ticket.clock("resolution").due_at == at("09:00", 26)
    ticket.take(f.StatusChanged(at("18:00", 25), "pending"), f.StatusChanged(at("22:00", 26), "resolved"))
    assert ticket.clock("resolution").state is State.MET


def test_clocks_wait_for_the_classification_and_count_from_creation() -> None:
    ticket = Ticket({"targets": {"first_response": {"urgent": "15m", "normal": "2h"}}, "warn": []})
    ticket.take(f.Created(at("09:00"), ready=False))
    assert ticket.cycles == {}
    ticket.take(f.Described(at("09:05"), {"priority": "urgent"}))
    assert ticket.clock("first_response").due_at == at("09:15")
    assert [x.clocks[0].due_at for x in ticket.of(e.SlaStarted)] == [at("09:15")]


def test_an_answer_before_classification_is_the_first_response() -> None:
    ticket = Ticket(PLAIN)
    ticket.take(
        f.Created(at("09:00"), ready=False), f.Replied(at("09:10")), f.Described(at("09:20"), {"priority": "normal"})
    )
    clock = ticket.clock("first_response")
    assert (clock.state, clock.stopped_at, clock.elapsed) == (State.MET, at("09:10"), minutes(10))


def test_a_priority_without_a_target_has_no_clock() -> None:
    ticket = Ticket({"targets": {"first_response": {"urgent": "15m"}, "resolution": "4h"}})
    ticket.take(opened(at("09:00"), priority="low"))
    assert set(ticket.cycles) == {("resolution", 1)}


def test_a_ticket_without_a_matching_policy_has_no_clocks_and_nothing_to_wait_for() -> None:
    ticket = Ticket({**PLAIN, "when": {"tier": "gold"}})
    decision = ticket.take(opened(at("09:00")), f.StatusChanged(at("10:00"), "closed"), f.Replied(at("11:00")))
    assert (decision.clocks, decision.events, decision.next_due_at) == ((), (), None)


def test_the_policies_looked_at_are_in_the_decision() -> None:
    ticket = Ticket(library({**PLAIN, "name": "gold", "when": {"tier": "gold"}}, {**PLAIN, "name": "rest"}))
    choice = ticket.take(opened(at("09:00"))).choice
    assert choice is not None
    assert choice.considered == (("gold", False), ("rest", True))


def test_a_clock_is_shown_as_the_contract_says() -> None:
    ticket = Ticket({**PLAIN, "calendar": "office", "name": "std"})
    ticket.take(opened(at("09:00")), f.StatusChanged(at("09:30"), "pending"))
    shown = view(ticket.clock("resolution"))
    assert (shown.state, shown.paused, shown.elapsed_seconds, shown.remaining_seconds, shown.target_seconds) == (
        "paused", True, 1_800, 12_600, 14_400,
    )  # fmt: skip
    assert (shown.policy, shown.policy_version, shown.calendar, shown.calendar_version) == ("std", 1, "office", 1)


def test_the_first_fact_of_a_ticket_is_its_creation() -> None:
    with pytest.raises(NotCreated):
        Ticket(PLAIN).take(f.Replied(at("09:00")))


def test_a_version_the_library_does_not_hold_is_an_error() -> None:
    with pytest.raises(UnknownVersion):
        Ticket(PLAIN).take(f.Created(at("09:00"), version=7))


def test_warnings_default_to_thirty_minutes_before() -> None:
    ticket = Ticket({"targets": {"resolution": "4h"}})
    assert ticket.take(opened(at("09:00"))).next_due_at == at("12:30:00.000001")
    ticket.look(at("12:30:00.000001"))
    assert warned(ticket) == [("resolution", "30m")]
    assert ticket.clock("resolution").warned_at == (at("12:30"),)
