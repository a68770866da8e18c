"""One round of a webhook subscription: claimed with a lease and an epoch, sent outside any transaction, recorded.

A subscription is an agenda item: due when new events are settled or a retry's turn has come. `PumpSubscriptions` commits the lease;
`WebhookSender` reads what is to be sent, calls, and records; a round whose epoch is not the subscription's any more writes nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import msgspec
import structlog
from sqlalchemy import Connection

from services.notifier.channels.base import Net
from services.notifier.channels.http import HttpClient
from services.notifier.topics import backlog
from services.notifier.topics.backlog import Cursor
from services.notifier.topics.round import Courier, Plan, Report, plan_round, record_round
from services.notifier.topics.webhook import SICK_AFTER, Status, Subscription
from shared.contracts import events as e
from shared.ledger.process import Background, Deps
from shared.ledger.reader import Tail
from shared.ledger.unit import Result, Unit, Work
from shared.runtime import chance
from shared.runtime.clock import monotonic, utc_now
from shared.runtime.crash import crash_point
from shared.runtime.eventloop import new_loop

log = structlog.get_logger()

LEASE = timedelta(seconds=90)
ROUND_SECONDS = 20.0
"""A round begins no new calls after this long, so that its lease outlives it."""
CALLS = 16
"""Calls of one subscription on their way at once."""
THREADS = 8


@dataclass(frozen=True, slots=True)
class Round:
    """A subscription whose lease is committed."""

    key: str
    subscription: Subscription
    cursor: Cursor


class Sends(Protocol):
    """What takes rounds over after the commit."""

    def take(self, rounds: Sequence[Round]) -> None: ...


class PumpSubscriptions:
    """The handler of subscriptions."""

    service = "notifier"
    kind = "subscription"

    def __init__(self, sender: Sends) -> None:
        self._sender = sender

    def handle(self, unit: Unit, batch: Sequence[Work]) -> list[Result]:
        """Do what people asked for, and take a lease for each subscription that is active."""
        cursors = backlog.cursors(unit.connection, [work.id for work in batch])
        results, rounds = [], list[Round]()
        for work in batch:
            wanted = msgspec.convert(work.item, Subscription)
            cursor = cursors.get(work.id) or Cursor(work.id, wanted.start, 0, 0)
            if wanted.status is Status.DELETED:
                backlog.forget(unit.connection, work.id)
                results.append(Result(work))
                continue
            cursor = self._asked(unit, work, cursor)
            due_at = None
            if wanted.status is Status.ACTIVE:
                cursor = replace(cursor, epoch=cursor.epoch + 1, leased=True)
                rounds.append(Round(wanted.name, wanted, cursor))
                due_at = unit.now + LEASE
            backlog.save_cursor(unit.connection, cursor, unit.now)
            results.append(Result(work, due_at=due_at))
        unit.after_commit.append(lambda: self._sender.take(rounds))
        return results

    def _asked(self, unit: Unit, work: Work, cursor: Cursor) -> Cursor:
        for event in work.events:
            if isinstance(event.data, e.SubscriptionRedriven):
                backlog.redrive(unit.connection, work.id, event.data.positions, unit.now)
            elif isinstance(event.data, e.SubscriptionRewound):
                cursor = replace(cursor, position=event.data.after)
            elif isinstance(event.data, e.SubscriptionChanged):
                cursor = replace(cursor, failing=0)  # somebody looked at it: try anew at once
        return cursor


class WebhookSender(Background):
    """Runs rounds in one asyncio loop of its own; the database is used from a few threads beside it."""

    def __init__(self, deps: Deps, tail: Tail | None = None) -> None:
        self._deps = deps
        self._tail = tail or Tail()
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="webhooks")
        self._open: set[asyncio.Task[None]] = set()
        self._stopping = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more; rounds on their way have some seconds to be recorded."""
        self._stopping = True
        deadline = monotonic() + 8
        while self._open and monotonic() < deadline and self._thread.is_alive():
            self._thread.join(0.05)
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread.is_alive():
            self._thread.join(2)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def take(self, rounds: Sequence[Round]) -> None:
        """Called from lanes, after their commit."""
        for one in rounds:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._begin, one)

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._courier = Courier(Net(HttpClient(limit=CALLS), utc_now, chance.nonce))
        self._loop.run_forever()

    def _begin(self, one: Round) -> None:
        task = self._loop.create_task(self._round(one))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _round(self, one: Round) -> None:
        try:
            plan = await self._in_thread(
                lambda on: plan_round(self._deps, on, self._tail, one.cursor, one.subscription)
            )
            report = await self._send(one.subscription, plan)
            crash_point("delivery.called")
            woken = await self._in_thread(lambda on: record_round(self._deps, on, self._tail, one.cursor, plan, report))
            self._deps.bells.ring(woken)
        except Exception as error:  # the lease ends, and the round is repeated with the same ids
            log.warning("webhook_round_lost", subscription=one.key, error=f"{type(error).__name__}: {error}"[:200])

    async def _in_thread(self, work: Callable[[Connection], Any]) -> Any:
        def run() -> Any:
            with self._deps.engine.connect() as connection:
                return work(connection)

        return await self._loop.run_in_executor(self._pool, run)

    async def _send(self, subscription: Subscription, plan: Plan) -> Report:
        report = Report(failing=plan.failing)
        slots, deadline = asyncio.Semaphore(CALLS), monotonic() + ROUND_SECONDS
        most = (
            plan.failing + SICK_AFTER
        )  # an endpoint that begins to fail as a whole is left alone; a sick one gets its probe

        async def deliver(group: Sequence[Any]) -> None:
            async with slots:
                for index, parcel in enumerate(group):
                    if self._stopping or report.gone or monotonic() > deadline or report.failing >= most:
                        return
                    outcome = await self._courier.deliver(subscription, plan.allow, parcel)
                    if not report.note(parcel, outcome, chance.fraction()) and subscription.ordered:
                        report.blocked += group[index + 1 :]
                        return

        await asyncio.gather(*(deliver(group) for group in plan.groups))
        return report
