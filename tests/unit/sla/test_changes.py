"""Priority, policy and playbook versions change under running clocks; warnings follow."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from services.sla.domain import facts as f
from services.sla.domain.clock import State, WarningState
from services.sla.domain.fold import NOTICED
from services.sla.domain.kept import from_json, to_json
from services.sla.domain.moving import Undone, preview, take_back
from services.sla.domain.terms import Library
from services.sla.domain.ticket import versions_of
from shared.contracts import events as e
from tests.unit.sla.world import Ticket, at, library, minutes, opened, rules, warned

BY_PRIORITY = {"targets": {"first_response": {"urgent": "15m", "normal": "2h"}}, "warn": []}


def becomes(when: datetime, priority: str) -> f.Described:
    return f.Described(when, {"priority": priority})


def test_carrying_applies_the_new_target_from_the_clocks_start() -> None:
    ticket = Ticket({"targets": {"resolution": {"urgent": "2h", "normal": "8h"}}, "warn": []})
    ticket.take(opened(at("09:00"), priority="normal"), becomes(at("10:00"), "urgent"))
    clock = ticket.clock("resolution")
    assert (clock.due_at, clock.generation, clock.elapsed) == (at("11:00"), 2, minutes(60))
    assert [(x.cause, x.clocks[0].due_at) for x in ticket.of(e.SlaMoved)] == [("priority", at("11:00"))]


def test_carrying_into_the_past_breaks_the_promise_once_at_the_instant_of_the_change_and_names_the_cause() -> None:
    ticket = Ticket({**BY_PRIORITY, "warn": ["10m"]})
    ticket.take(opened(at("09:00"), priority="normal"))
    ticket.take(becomes(at("10:00"), "urgent"))
    breach = ticket.of(e.SlaBreached)
    assert [(x.due_at, x.breached_at, x.cause, x.priority) for x in breach] == [
        (at("09:15"), at("10:00"), "priority", "urgent")
    ]
    assert warned(ticket) == []
    assert [warning.state for warning in ticket.clock("first_response").warnings] == [WarningState.SKIPPED]


def test_a_change_while_paused_breaks_the_promise_when_the_clock_counts_again_as_of_the_change() -> None:
    ticket = Ticket(BY_PRIORITY)
    ticket.take(
        opened(at("09:00"), priority="normal"), f.StatusChanged(at("09:30"), "pending"), becomes(at("10:00"), "urgent")
    )
    assert ticket.clock("first_response").state is State.PAUSED
    assert ticket.look(at("11:00")).next_due_at is None
    ticket.take(f.StatusChanged(at("12:00"), "in_progress"))
    assert ticket.clock("first_response").breached_at == at("10:00")
    assert [x.cause for x in ticket.of(e.SlaBreached)] == ["priority"]


@pytest.mark.parametrize("mode", ["carry", "restart", "keep"])
def test_a_hundred_flips_gain_nothing(mode: str) -> None:
    ticket = Ticket({**BY_PRIORITY, "targets": {"resolution": {"urgent": "4h", "normal": "8h"}}, "on_change": mode})
    ticket.take(opened(at("09:00"), priority="urgent"))
    for minute in range(1, 51):
        ticket.take(
            becomes(at("09:00") + minutes(minute), "normal"),
            becomes(at("09:00") + minutes(minute) + minutes(0.5), "urgent"),
        )
    clock = ticket.clock("resolution")
    assert clock.due_at == at("13:00")
    assert clock.cycle == 1
    assert len(clock.spans) == 1


def test_a_breached_clock_stays_breached_when_the_target_grows_again() -> None:
    ticket = Ticket(BY_PRIORITY)
    ticket.take(opened(at("09:00"), priority="normal"), becomes(at("09:30"), "urgent"), becomes(at("09:31"), "normal"))
    ticket.take(f.Replied(at("09:40")))
    assert ticket.clock("first_response").state is State.BREACHED
    assert len(ticket.of(e.SlaBreached)) == 1


@pytest.mark.parametrize(("mode", "due"), [("carry", at("12:00")), ("restart", at("13:00")), ("keep", at("17:00"))])
def test_the_mode_of_the_policy_says_what_a_change_does(mode: str, due: datetime) -> None:
    ticket = Ticket({"targets": {"resolution": {"urgent": "3h", "normal": "8h"}}, "warn": [], "on_change": mode})
    ticket.take(opened(at("09:00"), priority="normal"), becomes(at("10:00"), "urgent"))
    assert ticket.clock("resolution").due_at == due


def test_a_cycle_that_begins_after_the_change_follows_the_new_policy_even_when_running_ones_keep_theirs() -> None:
    ticket = Ticket({"targets": {"next_response": {"urgent": "1h", "normal": "8h"}}, "warn": [], "on_change": "keep"})
    ticket.take(opened(at("09:00"), priority="normal"), f.CustomerReplied(at("09:00")), becomes(at("10:00"), "urgent"))
    ticket.take(f.Replied(at("11:00")), f.CustomerReplied(at("12:00")))
    assert ticket.clock("next_response").due_at == at("13:00")


def test_time_counted_under_another_calendar_stays_counted() -> None:
    ticket = Ticket(
        library(
            {"when": {"priority": "urgent"}, "targets": {"resolution": "16h"}, "warn": []},
            {"calendar": "office", "targets": {"resolution": "16h"}, "warn": []},
        )
    )
    ticket.take(opened(at("05:00"), priority="urgent"), becomes(at("08:00"), "normal"))
    assert ticket.clock("resolution").due_at == at(
        "14:00", 25
    )  # 3 h around the clock, 8 h on the 24th, 5 h on the 25th


def test_a_policy_that_no_longer_matches_cancels_and_one_that_matches_again_gains_no_time() -> None:
    ticket = Ticket({"when": {"tier": "gold"}, "targets": {"resolution": "4h"}, "warn": []})
    ticket.take(opened(at("09:00"), tier="gold"), f.Described(at("10:00"), {"tier": "iron"}))
    assert ticket.clock("resolution").state is State.CANCELLED
    assert [x.cause for x in ticket.of(e.SlaCancelled)] == ["policy"]
    ticket.take(f.Described(at("12:00"), {"tier": "gold"}))
    again = ticket.clock("resolution", 2)
    assert (again.due_at, again.started_at, again.continued) == (at("13:00"), at("09:00"), True)


def test_a_change_that_changes_nothing_tells_nothing() -> None:
    ticket = Ticket({"targets": {"resolution": "4h"}})
    ticket.take(opened(at("09:00"), priority="normal"), becomes(at("10:00"), "urgent"))
    clock = ticket.clock("resolution")
    assert (clock.generation, clock.span.priority, ticket.of(e.SlaMoved)) == (1, "urgent", [])


# ---- playbook versions -----------------------------------------------------------------------------------------------------


def versions(first: dict[str, Any], second: dict[str, Any]) -> Library:
    return Library(1, {1: rules(first), 2: rules(second, version=2)})


OLD: dict[str, Any] = {"calendar": None, "targets": {"resolution": "12h"}, "warn": []}
NEW: dict[str, Any] = {"calendar": "office", "targets": {"resolution": "12h"}, "warn": []}


@pytest.mark.parametrize(
    ("mode", "due"),
    [("from-now", at("17:00")), ("whole", at("13:00", 25))],
)
def test_a_new_version_moves_a_running_clock_from_now_or_in_whole(mode: Any, due: datetime) -> None:
    ticket = Ticket(versions(OLD, NEW))
    ticket.take(opened(at("05:00")), f.RulesChanged(at("10:00"), 2, mode))
    clock = ticket.clock("resolution")
    assert (clock.due_at, clock.span.version) == (due, 2)


def test_without_a_fact_a_running_ticket_keeps_its_version_and_a_new_one_starts_with_the_current() -> None:
    lib = Library(2, versions(OLD, NEW).versions)
    running, new = Ticket(lib), Ticket(lib)
    running.take(f.Created(at("05:00"), version=1), f.StatusChanged(at("06:00"), "assigned"))
    new.take(f.Created(at("05:00")))
    assert running.clock("resolution").due_at == at("17:00")
    assert new.clock("resolution").due_at == at("13:00", 25)


def test_recomputing_in_whole_keeps_pauses_and_leaves_ended_cycles_alone() -> None:
    both = {"first_response": "1h", "resolution": "12h"}
    ticket = Ticket(versions({**OLD, "targets": both}, {**NEW, "targets": both}))
    ticket.take(
        opened(at("09:00")),
        f.Replied(at("09:30")),
        f.StatusChanged(at("10:00"), "pending"),
        f.StatusChanged(at("11:00"), "new"),
    )
    ended = ticket.clock("first_response")
    ticket.take(f.RulesChanged(at("12:00"), 2, "whole"))
    assert ticket.clock("first_response") == ended
    assert ticket.clock("resolution").due_at == at("14:00", 25)  # 9-17 less an hour on the 24th, then five more
    assert ticket.clock("resolution").paused_time == minutes(60)


# ---- warnings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "instant"),
    [
        ("2h", at("16:00")),
        ({"before": "2h", "on": "wall"}, at("08:00", 25)),
        ("50%", at("15:30")),
        ({"percent": 50, "on": "wall"}, at("23:30")),
        ("1s", at("09:59:59", 25)),
    ],
)
def test_a_warning_comes_before_due_or_after_a_share_on_open_or_wall_time(threshold: Any, instant: datetime) -> None:
    ticket = Ticket({"calendar": "office", "targets": {"resolution": "5h"}, "warn": [threshold]})
    decision = ticket.take(opened(at("13:00")))
    assert ticket.clock("resolution").due_at == at("10:00", 25)
    assert decision.next_due_at == instant + NOTICED
    ticket.look(instant + NOTICED)
    assert [when for when, data in ticket.told if isinstance(data, e.SlaWarned)] == [instant]


def test_a_warning_is_given_once_also_through_a_pause() -> None:
    ticket = Ticket({"targets": {"resolution": "2h"}})
    ticket.take(opened(at("09:00")), f.StatusChanged(at("10:40"), "pending"), f.StatusChanged(at("11:40"), "new"))
    ticket.look(at("12:00"))
    assert warned(ticket) == [("resolution", "30m")]


def test_a_later_due_instant_arms_what_is_ahead_again() -> None:
    ticket = Ticket({"targets": {"resolution": {"urgent": "2h", "normal": "8h"}}})
    ticket.take(opened(at("09:00"), priority="urgent"), becomes(at("10:45"), "normal"), now=at("16:31"))
    assert [(x.threshold, x.generation) for x in ticket.of(e.SlaWarned)] == [("30m", 1), ("30m", 2)]


def test_a_target_shorter_than_its_warning_does_not_warn_at_its_start() -> None:
    ticket = Ticket({"targets": {"first_response": "15m", "periodic_update": "15m"}})
    ticket.take(opened(at("09:00")), f.Replied(at("09:10")), now=at("09:11"))
    assert warned(ticket) == []


def test_a_paused_clock_does_not_warn_and_a_wall_time_warning_that_passed_meanwhile_comes_at_once() -> None:
    ticket = Ticket({"calendar": "office", "targets": {"resolution": "6h"}, "warn": [{"before": "3h", "on": "wall"}]})
    ticket.take(
        opened(at("16:00")),
        f.StatusChanged(at("16:30"), "pending"),
        f.StatusChanged(at("09:00", 25), "pending:customer"),
    )
    ticket.take(f.StatusChanged(at("16:00", 25), "new"), now=at("11:00", 26))
    assert [when for when, data in ticket.told if isinstance(data, e.SlaWarned)] == [at("10:30", 26)]


def test_who_is_told_comes_from_the_policy() -> None:
    ticket = Ticket({"targets": {"resolution": "2h"}, "tell": ["supervisor"]})
    ticket.take(opened(at("09:00")), now=at("10:31"))
    assert [x.recipients for x in ticket.of(e.SlaWarned)] == [("supervisor",)]


# ---- preview and undo ------------------------------------------------------------------------------------------------------


def test_a_preview_lists_what_the_move_then_does() -> None:
    ticket = Ticket(versions(OLD, NEW))
    before = ticket.take(opened(at("05:00"))).state
    after = ticket.take(f.RulesChanged(at("10:00"), 2, "whole")).state
    shown = preview(before, 2, "whole", at("10:00"), ticket.library)
    assert shown.decision.state == after
    assert [
        (one.metric, one.before and one.before.due_at, one.after and one.after.due_at, one.breaks)
        for one in shown.changes
    ] == [("resolution", at("17:00"), at("13:00", 25), False)]


def test_a_preview_says_which_promises_the_move_itself_would_break() -> None:
    short = {"targets": {"resolution": "1h"}, "warn": []}
    shown = preview(
        Ticket(versions(OLD, short)).take(opened(at("05:00"))).state, 2, "from-now", at("10:00"), versions(OLD, short)
    )
    assert [one.breaks for one in shown.changes] == [True]


MOVED = at("10:00")


def taken_back(ticket: Ticket, *facts: f.Fact, now: datetime) -> Undone:
    """The ticket's present state with the move taken back at `now`; `facts`: all of them but the move."""
    assert ticket.decision is not None
    present = from_json(to_json(ticket.decision.state))
    return take_back(present, facts, MOVED, now, now, ticket.library)


def moving(*facts: f.Fact, old: dict[str, Any] = OLD, new: dict[str, Any] = NEW, **match: Any) -> Ticket:
    """A ticket with these facts, moved from `old` to `new` at ten."""
    ticket = Ticket(versions(old, new))
    ticket.take(*(one for one in facts if one.at <= MOVED), now=MOVED)
    ticket.take(f.RulesChanged(MOVED, 2, "whole"))
    if later := [one for one in facts if one.at > MOVED]:
        ticket.take(*later)
    return ticket


def test_undoing_gives_an_untouched_ticket_its_state_back_byte_for_byte() -> None:
    birth = opened(at("05:00"))
    before = Ticket(versions(OLD, NEW)).take(birth).state
    undone = taken_back(moving(birth), birth, now=at("11:00"))
    assert to_json(undone.decision.state) == to_json(before)
    assert [(type(data), when) for when, data in undone.decision.events] == [(e.SlaMoved, at("11:00"))]


def test_undoing_brings_back_a_clock_that_the_move_had_broken() -> None:
    short: dict[str, Any] = {"targets": {"resolution": "1h"}, "warn": []}
    birth = opened(at("05:00"))
    before = Ticket(versions(OLD, short)).take(birth).state
    ticket = moving(birth, new=short)
    assert ticket.clock("resolution").breached_at == MOVED
    assert to_json(taken_back(ticket, birth, now=at("11:00")).decision.state) == to_json(before)


def test_undoing_brings_back_a_clock_that_the_move_had_ended_because_nothing_promised_it_any_more() -> None:
    other: dict[str, Any] = {"targets": {"first_response": "9h"}}
    birth = opened(at("05:00"))
    before = Ticket(versions(OLD, other)).take(birth).state
    ticket = moving(birth, new=other)
    assert (ticket.clock("resolution").stop_cause, ticket.clock("first_response").open) == ("policy", True)
    undone = taken_back(ticket, birth, now=at("11:00"))
    assert to_json(undone.decision.state) == to_json(before)
    assert undone.lifted == MOVED
    assert [type(data) for _, data in undone.decision.events] == [e.SlaMoved, e.SlaCancelled]


def test_undoing_recomputes_a_ticket_that_was_touched_since_and_keeps_its_pause() -> None:
    facts = (
        opened(at("05:00")),
        f.StatusChanged(at("11:00"), "pending"),
        f.StatusChanged(at("12:00"), "assigned"),
    )
    undone = taken_back(moving(*facts), *facts, now=at("12:00"))
    assert [(one.metric, one.after and one.after.due_at) for one in undone.changes] == [("resolution", at("18:00"))]


def test_undoing_leaves_a_cycle_that_ended_since_as_it_ended() -> None:
    both: dict[str, Any] = {"targets": {"first_response": "20h", "resolution": "20h"}}
    short: dict[str, Any] = {"targets": {"first_response": "6h", "resolution": "20h"}, "warn": []}
    facts = (opened(at("05:00")), f.Replied(at("11:30")))
    ticket = moving(*facts, old=both, new=short)
    ended = ticket.clock("first_response")
    assert (ended.state, ended.breached_at) == ("breached", at("11:00"))
    undone = taken_back(ticket, *facts, now=at("12:00"))
    assert [one for one in undone.decision.state.clocks if one.metric == "first_response"] == [ended]
    assert "first_response" not in {one.metric for one in undone.changes}


def test_what_fell_due_without_the_move_is_told_late_when_it_is_taken_back() -> None:
    long: dict[str, Any] = {"targets": {"resolution": "20h"}}
    birth = opened(at("05:00"))
    ticket = moving(birth, old={"targets": {"resolution": "12h"}}, new=long)
    undone = taken_back(ticket, birth, now=at("17:30"))
    told = [(type(data), when, getattr(data, "late", None)) for when, data in undone.decision.events]
    assert told == [
        (e.SlaMoved, at("17:30"), None),
        (e.SlaWarned, at("16:30"), True),
        (e.SlaBreached, at("17:00"), True),
    ]


def test_the_versions_a_ticket_needs_include_those_its_clocks_counted_under() -> None:
    ticket = Ticket(versions(OLD, NEW))
    assert versions_of(ticket.take(opened(at("05:00")), f.RulesChanged(at("10:00"), 2, "from-now")).state) == {1, 2}
