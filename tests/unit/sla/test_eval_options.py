"""`eval clocks`: each option of a scenario and what it means, apart from the peers' own cases."""

from __future__ import annotations

from typing import Any

from services.control.evaluate.clocks import evaluate

OFFICE = {
    "tz": "UTC",
    "weekly": [{"day": day, "start": "09:00", "end": "17:00"} for day in ("mon", "tue", "wed", "thu", "fri")],
    "holidays": [],
    "recurring_holidays": [],
    "breaks": [],
    "overrides": [],
}
BASE = {"calendar": None, "pause_statuses": ["waiting"], "closed_statuses": ["closed"]}


def when(text: str) -> str:
    return f"2026-11-24T{text}:00+00:00"


def ask(
    policy: dict[str, Any] | None, *timeline: dict[str, Any], at: str | None = None, **ticket: Any
) -> dict[str, Any]:
    """The answer after the last event, or at an instant; the ticket is opened at 09:00."""
    obj = {
        "policy": None if policy is None else {**BASE, **policy},
        "ticket": {"created_at": when("09:00"), "status": "open", **ticket},
        "timeline": [{**event, "at": when(event["at"])} for event in timeline],
        "asks": [{"at": when(at)} if at else {"after": len(timeline) - 1}],
    }
    answer: dict[str, Any] = evaluate(obj)["asks"][0]["expected"]
    return answer


def status(at: str, to: str, **more: Any) -> dict[str, Any]:
    return {"at": at, "type": "status", "to": to, **more}


def test_an_instant_set_by_hand_moves_by_paused_open_time() -> None:
    answer = ask({"manual_due": {"resolution": when("15:00")}}, status("10:00", "waiting"), status("11:00", "open"))
    assert answer["clocks"]["resolution"]["due"] == when("16:00")
    assert answer["next_due"] == when("16:00")


def test_counting_from_the_attachment_leaves_out_what_came_before() -> None:
    policy = {"targets": {"first_response": 3600, "resolution": 7200, "next_response": 600}, "starts_from": "attached"}
    events = [
        status("09:10", "waiting"), {"at": "09:20", "type": "customer_reply"}, status("09:30", "open"),
        {"at": "10:00", "type": "policy_attached"},
    ]  # fmt: skip
    clocks = ask(policy, *events)["clocks"]
    assert (clocks["first_response"]["due"], clocks["resolution"]["due"]) == (when("11:00"), when("12:00"))
    assert (clocks["next_response"]["counts_from"], clocks["resolution"]["paused_seconds"]) == (when("10:00"), 0)
    assert (
        ask(policy, *events[:3])["clocks"]["resolution"]["state"] == "running"
    )  # nothing says yet that it is attached later
    assert ask(policy, *events, at="09:40")["clocks"]["resolution"]["state"] == "off"


def test_a_first_response_before_the_attachment_leaves_nothing_to_wait_for() -> None:
    policy = {"targets": {"first_response": 3600}, "starts_from": "attached"}
    clocks = ask(policy, {"at": "09:20", "type": "agent_reply"}, {"at": "10:00", "type": "policy_attached"})["clocks"]
    assert clocks["first_response"]["due"] is None


def test_no_policy_is_no_clock_and_another_policy_recomputes_from_creation_with_pauses_kept() -> None:
    assert ask(None)["clocks"]["resolution"]["state"] == "off"
    new = {"at": "12:00", "type": "policy", "policy": {**BASE, "targets": {"resolution": 14_400}}}
    clocks = ask({"targets": {"resolution": 3600}}, status("10:00", "waiting"), status("11:30", "open"), new)["clocks"]
    assert (clocks["resolution"]["due"], clocks["resolution"]["state"]) == (when("14:30"), "running")
    gone = {"at": "12:00", "type": "policy", "policy": None}
    assert ask({"targets": {"resolution": 3600}}, gone)["next_due"] is None


def test_another_calendar_recomputes_from_creation() -> None:
    swap = {"at": "12:00", "type": "calendar", "calendar": OFFICE}
    clocks = ask({"targets": {"resolution": 9 * 3600}}, swap)["clocks"]
    assert clocks["resolution"]["due"] == "2026-11-25T10:00:00+00:00"


def test_a_status_in_which_the_due_instant_is_ignored_hides_it_while_time_goes_on() -> None:
    policy = {"targets": {"resolution": 7200}, "ignore_statuses_by_clock": {"resolution": ["parked"]}}
    hidden = ask(policy, status("09:30", "parked"))
    assert (hidden["clocks"]["resolution"]["due"], hidden["next_due"]) == (None, None)
    assert ask(policy, status("09:30", "parked"), status("10:30", "open"))["clocks"]["resolution"]["due"] == when(
        "11:00"
    )


def test_a_recorded_close_ends_the_resolution_until_the_ticket_is_reopened() -> None:
    policy = {"targets": {"resolution": 7200, "first_response": 7200}}
    recorded = {"at": "10:00", "type": "close_recorded"}
    ended = ask(policy, recorded, status("10:30", "waiting"), status("11:00", "closed"))["clocks"]
    assert (ended["resolution"]["completed_at"], ended["resolution"]["elapsed_seconds"]) == (when("10:00"), 3600)
    assert ended["first_response"]["state"] == "off"
    reopened = ask(policy, recorded, status("11:00", "closed"), status("12:00", "open"))["clocks"]
    assert (reopened["resolution"]["due"], reopened["resolution"]["completed_at"]) == (when("13:00"), None)
    cleared = ask(policy, recorded, status("10:30", "open", clears_close=True))["clocks"]
    assert cleared["resolution"]["due"] == when("11:30")


def test_escalations_are_offset_in_open_time_or_working_days_from_the_armed_due_instant() -> None:
    escalations = [
        {"clock": "resolution", "offset_seconds": -7200}, {"clock": "resolution", "offset_seconds": 0},
        {"clock": "resolution", "offset_working_days": 1}, {"clock": "first_response", "offset_seconds": 60},
    ]  # fmt: skip
    policy = {"calendar": OFFICE, "targets": {"resolution": 9 * 3600}, "escalations": escalations}
    day = "2026-11-2{}T{}:00+00:00"
    shown = ask(policy)["clocks"]["resolution"]
    assert shown["escalations"] == [day.format(4, "16:00"), day.format(5, "10:00"), day.format(6, "10:00")]
    assert ask(policy, status("10:00", "waiting"))["clocks"]["resolution"]["escalations"] == []


def test_targets_by_priority_leave_an_unknown_priority_without_clocks() -> None:
    policy = {"targets_by_priority": {"High": {"resolution": 3600}}}
    assert ask(policy, priority="High")["next_due"] == when("10:00")
    assert ask(policy, priority="Low")["next_due"] is None


def test_an_event_touches_only_the_clocks_it_names() -> None:
    policy = {"targets": {"first_response": 3600, "next_response": 3600, "periodic_update": 3600}}
    events: list[dict[str, Any]] = [
        {"at": "09:10", "type": "customer_reply"},
        {"at": "09:20", "type": "agent_reply", "affects": ["next_response"]},
    ]
    clocks = ask(policy, *events)["clocks"]
    assert [clocks[name]["state"] for name in ("first_response", "next_response", "periodic_update")] == [
        "running",
        "met",
        "running",
    ]
    assert clocks["periodic_update"]["due"] == when("10:00")


def test_a_ticket_that_is_closed_at_creation_is_resolved_at_once() -> None:
    clocks = ask({"targets": {"first_response": 60, "resolution": 60}}, status="closed", at="12:00")["clocks"]
    assert (clocks["resolution"]["state"], clocks["resolution"]["elapsed_seconds"]) == ("met", 0)
    assert clocks["first_response"]["state"] == "off"


def test_what_was_breached_before_closing_unanswered_stays_breached() -> None:
    clocks = ask({"targets": {"first_response": 1800}}, status("10:00", "closed"))["clocks"]
    assert (clocks["first_response"]["state"], clocks["first_response"]["due"]) == ("breached", None)
    assert clocks["first_response"]["completed_at"] is None


def test_the_pause_began_with_the_first_of_several_pausing_statuses() -> None:
    policy = {"pause_statuses": ["waiting", "vendor"], "targets": {"resolution": 7200}}
    clocks = ask(policy, status("09:30", "waiting"), status("10:00", "vendor"), at="12:00")["clocks"]
    assert (clocks["resolution"]["paused_since"], clocks["resolution"]["paused_seconds"]) == (when("09:30"), 9000)
