"""What each fact does to a ticket's clocks.

Which promises hold is never remembered clock by clock: `_wanted` derives it from the ticket, and `reconcile` opens what is
missing. Facts only end clocks, each with its own reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from services.sla.domain import facts as f
from services.sla.domain.fold import Fold
from services.sla.domain.rebase import choose_policy
from services.sla.domain.terms import Library
from services.sla.domain.ticket import OpenNode, SlaState
from services.sla.domain.track import Phase
from services.sla.errors import NotCreated


def opening(fact: f.Fact, library: Library) -> SlaState:
    """The state before anything but its creation is known of a ticket. Raises `NotCreated`."""
    if not isinstance(fact, f.Created):
        raise NotCreated(f"the first fact is {type(fact).__name__}")
    return SlaState(
        version=library.current if fact.version is None else fact.version,
        created_at=fact.at,
        at=fact.at,
        status=fact.status,
        phases=(Phase(fact.at, fact.status),),
        attributes=fact.attributes,
        ready=False,
        opening=fact.by_customer,
    )


def take_all(fold: Fold, facts: Iterable[f.Fact]) -> None:
    """Take facts in order, then fire what fell due up to the fold's `now`."""
    for fact in facts:
        at, kind = max(fact.at, fold.at), type(fact)
        if at > fold.at:
            fold.place()
        fold.fire(at)
        fold.at = at
        _TAKE[kind](fold, fact, at)
        if kind in _MOVING:
            fold.passed_on = True
        fold.flush()
    fold.place()
    fold.fire(fold.now)


def reconcile(fold: Fold, at: datetime, cause: str) -> None:
    """Open a clock for every promise that holds and has none."""
    policy = fold.policy
    if policy is None or fold.merged or fold.status in policy.closed_on:
        return
    for metric, start, visit in _wanted(fold):
        clock = fold.clocks.get(metric)
        if clock is None or clock.stopped_at is not None:
            fold.begin(metric, start, at, cause, visit)


def _wanted(fold: Fold) -> Iterator[tuple[str, datetime, int]]:
    """The promises that hold now: metric, since when, and for nodes the visit."""
    policy = fold.policy
    assert policy is not None
    terms = policy.of(fold.priority)
    if "first_response" in terms and not fold.answered:
        yield "first_response", fold.created_at, 0
    if "next_response" in terms and (since := _unanswered_since(fold)) is not None:
        yield "next_response", since, 0
    if "periodic_update" in terms:
        yield "periodic_update", fold.replied_at or fold.created_at, 0
    if "resolution" in terms:
        yield "resolution", fold.created_at, 0
    for name, node in fold.nodes.items():
        if policy.terms_of(f"node:{name}", fold.priority) is not None:
            yield f"node:{name}", node.at, node.visit
    if fold.group is not None and fold.group_since is not None:
        metric = f"ownership:{fold.group}"
        if policy.terms_of(metric, fold.priority) is not None:
            yield metric, fold.group_since, 0


def _unanswered_since(fold: Fold) -> datetime | None:
    """Since when the customer waits for an answer: the oldest unanswered message, the opening one if the policy counts it."""
    if fold.opening and fold.policy is not None and fold.policy.opening_counts:
        return fold.created_at
    return fold.waiting_since


# ---- one function a fact ----------------------------------------------------------------------------------------------------


def _created(fold: Fold, fact: f.Created, at: datetime) -> None:
    if fact.ready:
        _ready(fold, at)


def _ready(fold: Fold, at: datetime) -> None:
    fold.ready = True
    choose_policy(fold, at, "opened")
    terms = fold.policy.of(fold.priority) if fold.policy is not None else {}
    if "first_response" in terms and fold.replied_at is not None:
        _already(fold, "first_response", fold.replied_at, "answered")
    if "resolution" in terms and fold.closed:
        _already(fold, "resolution", _closed_since(fold), "closed")
    reconcile(fold, at, "opened")


def _already(fold: Fold, metric: str, at: datetime, cause: str) -> None:
    """What was promised since creation had happened before anybody knew the promise: a cycle that begins and ends at once."""
    fold.begin(metric, fold.created_at, fold.created_at, "opened")
    fold.stop(metric, at, cause)


def _closed_since(fold: Fold) -> datetime:
    """The first instant of the present closed statuses."""
    since = fold.phases[-1].at
    for phase in reversed(fold.phases):
        if fold.policy is None or phase.status not in fold.policy.closed_on:
            break
        since = phase.at
    return since


def _described(fold: Fold, fact: f.Described, at: datetime) -> None:
    fold.attributes = {**fold.attributes, **fact.attributes}
    if not fold.ready:
        _ready(fold, at)
        return
    choose_policy(fold, at, "priority")
    _close_or(fold, at, "policy")


def _rules_changed(fold: Fold, fact: f.RulesChanged, at: datetime) -> None:
    fold.version = fact.version
    if not fold.ready:
        return
    choose_policy(fold, at, "playbook", "whole" if fact.mode == "whole" else "carry")
    _close_or(fold, at, "playbook")


def _close_or(fold: Fold, at: datetime, cause: str) -> None:
    """Under another policy the status may mean something else: end everything if it is closed now, else open what is missing."""
    if fold.closed:
        _close(fold, at)
    else:
        reconcile(fold, at, cause)


def _status(fold: Fold, fact: f.StatusChanged, at: datetime) -> None:
    if fact.status == fold.status or fold.merged:
        return
    was_closed = fold.closed
    fold.status = fact.status
    fold.phases = (*fold.phases, Phase(at, fact.status))
    policy = fold.policy
    if policy is None:
        return
    if fact.status in policy.respond_on:
        if was_closed:
            _reopen_unanswered(fold, at, ("first_response",))
        _first_response(fold, at)
    if fold.closed:
        if not was_closed:
            _close(fold, at)
    else:
        fold.repause(at)
        if was_closed:
            reconcile(fold, at, "reopened")


def _close(fold: Fold, at: datetime) -> None:
    """Resolution and ownership end as kept promises; whoever still waits for an answer or a node will not get one."""
    for clock in fold.open_clocks():
        if clock.metric == "resolution" or clock.metric.startswith("ownership:"):
            fold.stop(clock.metric, at, "closed")
        else:
            fold.cancel(clock, at, "closed")


def _first_response(fold: Fold, at: datetime) -> None:
    if not fold.answered:
        fold.answered = True
        fold.stop("first_response", at, "answered")


def _replied(fold: Fold, fact: f.Replied, at: datetime) -> None:
    if fact.automated:
        return
    if fold.closed and not fold.merged:
        _reopen_unanswered(fold, at, ("first_response", "next_response"))
    _first_response(fold, at)
    fold.stop("next_response", at, "answered")
    fold.opening, fold.waiting_since = False, None
    fold.stop("periodic_update", at, "answered")
    fold.replied_at = at
    reconcile(fold, at, "answered")


def _reopen_unanswered(fold: Fold, at: datetime, metrics: tuple[str, ...]) -> None:
    """An answer after closing is still the answer: the cycle that closing cut off goes on, without the closed time."""
    for metric, start, _ in list(_wanted(fold)):
        last = fold.clocks.get(metric)
        if metric in metrics and (last is None or not last.open):
            fold.begin(metric, start, at, "reopened")


def _customer_replied(fold: Fold, fact: f.CustomerReplied, at: datetime) -> None:
    if fact.automated:
        return
    if fold.waiting_since is None:
        fold.waiting_since = at
        reconcile(fold, at, "customer")


def _accepted(fold: Fold, _: f.Accepted, at: datetime) -> None:
    if fold.policy is not None and fold.policy.accept_responds:
        _first_response(fold, at)


def _group(fold: Fold, fact: f.GroupChanged, at: datetime) -> None:
    if fact.group == fold.group:
        return
    if fold.group is not None:
        fold.stop(f"ownership:{fold.group}", at, "transferred")
    fold.group, fold.group_since, fold.person = fact.group, at, None
    reconcile(fold, at, "transferred")


def _node_entered(fold: Fold, fact: f.NodeEntered, at: datetime) -> None:
    clock = fold.clocks.get(f"node:{fact.node}")
    if clock is not None and clock.open:
        fold.cancel(clock, at, "left")
    others = {name: node for name, node in fold.nodes.items() if name != fact.node}
    fold.nodes = {**others, fact.node: OpenNode(at, fact.visit)}
    reconcile(fold, at, "entered")


def _node_completed(fold: Fold, fact: f.NodeCompleted, at: datetime) -> None:
    fold.nodes = {name: node for name, node in fold.nodes.items() if name != fact.node}
    clock = fold.clocks.get(f"node:{fact.node}")
    if clock is None or not clock.open:
        return
    if fact.cancelled:
        fold.cancel(clock, at, "left")
    else:
        fold.stop(clock.metric, at, "completed")


def _merged(fold: Fold, _: f.Merged, at: datetime) -> None:
    fold.status = "merged"
    fold.phases = (*fold.phases, Phase(at, "merged"))
    for clock in fold.open_clocks():
        fold.cancel(clock, at, "merged")
    fold.merged = True


def _person(fold: Fold, fact: f.PersonChanged, _: datetime) -> None:
    """Whose desk it is on matters to attribution alone."""
    fold.person = fact.person


_TAKE: dict[type[f.Fact], Callable[[Fold, Any, datetime], None]] = {
    f.Created: _created,
    f.Described: _described,
    f.RulesChanged: _rules_changed,
    f.StatusChanged: _status,
    f.Replied: _replied,
    f.CustomerReplied: _customer_replied,
    f.Accepted: _accepted,
    f.GroupChanged: _group,
    f.PersonChanged: _person,
    f.NodeEntered: _node_entered,
    f.NodeCompleted: _node_completed,
    f.Merged: _merged,
}

_MOVING = frozenset(
    (f.Created, f.StatusChanged, f.GroupChanged, f.PersonChanged, f.NodeEntered, f.NodeCompleted, f.Merged)
)
"""Facts after which a ticket's time may be somebody else's."""
