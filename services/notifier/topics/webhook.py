"""A webhook subscription: what it wants, and what follows from the outcome of an attempt. Pure.

An endpoint that fails altogether is not flooded: after `SICK_AFTER` failures in a row no new event is begun, one waiting event is
tried each `PROBE`, and the first success lets everything go on from where it stopped. Nothing is skipped meanwhile: new events stay
in the log, behind the subscription's cursor.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec

from services.notifier.channels.base import Kind, Outcome

SCHEDULE: tuple[timedelta, ...] = (
    timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=5),
    timedelta(hours=10), timedelta(hours=14), timedelta(hours=18), timedelta(hours=22),
)  # fmt: skip
"""Waits between attempts: three days in all (Standard Webhooks proposes such a schedule); then the event is parked."""
RETRY_AFTER_MOST = timedelta(hours=24)
SICK_AFTER = 20
PROBE = timedelta(seconds=30)


class Status(StrEnum):
    """`active`: events are sent. `paused`: by hand. `disabled`: the endpoint said that it is gone (410). `deleted`: for good."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"
    DELETED = "deleted"


class Subscription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of a `subscription` item. `secrets`: the new one first; `roles`: what the payload may show is theirs.

    `types` None: all. `filter`: dotted member of the event (`subject`, `data.priority`) -> the values that are wanted.
    """

    url: str
    secrets: tuple[str, ...]
    roles: tuple[str, ...] = ()
    types: tuple[str, ...] | None = None
    filter: dict[str, tuple[Any, ...]] = {}
    ordered: bool = False
    status: Status = Status.ACTIVE
    why: str = ""
    start: int = 0
    name: str = ""


def wants(filter: Mapping[str, tuple[Any, ...]], event: Mapping[str, Any]) -> bool:
    """Whether a topic event (plain data, as this subscriber sees it) passes the filter."""
    return all(_member(event, path) in values for path, values in filter.items())


def _member(value: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value if isinstance(value, str | int | float | bool) else None


class Verdict(StrEnum):
    """What becomes of an event after an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    PARKED = "parked"
    GONE = "gone"


def judge(outcome: Outcome, attempts: int, jitter: float) -> tuple[Verdict, timedelta | None]:
    """The verdict after the `attempts`-th attempt (from 1), and how long to wait for the next. `jitter` is in [0, 1).

    An answer that got lost is tried again like a failure: the receiver knows the `webhook-id`.
    """
    if outcome.kind is Kind.ACCEPTED:
        return Verdict.DELIVERED, None
    if outcome.kind is Kind.BAD_RECIPIENT and outcome.code == "410":
        return Verdict.GONE, None
    if attempts > len(SCHEDULE):
        return Verdict.PARKED, None
    wait = SCHEDULE[attempts - 1] * (0.8 + 0.2 * jitter)
    return Verdict.RETRY, max(wait, min(outcome.after or timedelta(0), RETRY_AFTER_MOST))
