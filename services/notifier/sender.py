"""Sends: one asyncio loop in a thread of its own, drivers by provider, outcomes recorded in batches.

Bulkheads: each provider has its own concurrency and circuit; a provider that does not answer fills its own slots only.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from sqlalchemy import Engine

from services.notifier import metrics
from services.notifier.breaker import Breaker
from services.notifier.channels.base import Driver, Kind, Net, Options, Outcome, failed
from services.notifier.channels.http import HttpClient
from services.notifier.channels.registry import driver_type
from services.notifier.errors import ConfigError
from services.notifier.sending import Job, record
from shared.ledger.process import Background, Deps
from shared.playbook.messages import Provider, SecretRef
from shared.runtime import chance
from shared.runtime.clock import monotonic, utc_now
from shared.runtime.crash import crash_point
from shared.runtime.loops import Loop, beat, forget

log = structlog.get_logger()

RECORD_MOST = 500
RECORD_WAIT_SECONDS = 0.002
CIRCUITS_SECONDS = 5.0
"""How often the state of every provider's circuit is shown, also while nothing is sent."""


def secret(ref: SecretRef) -> str:
    """The value of a secret; raises `ConfigError` naming where it is missing."""
    if ref.env is not None:
        value = chance.environment(ref.env)
        if value is None:
            raise ConfigError(f"the environment variable {ref.env} is not set")
        return value
    try:
        return chance.file_text(str(ref.file))
    except OSError as error:
        raise ConfigError(f"{ref.file}: {error.strerror}") from error


def show_breaker(provider: str, breaker: Breaker) -> None:
    """The state of a provider's circuit, as a metric: 1 for the one it is in."""
    now = breaker.state(monotonic())
    for state in ("closed", "open", "half_open"):
        metrics.BREAKER.labels(provider, state).set(now == state)


class ChannelSender(Background):
    """Takes jobs from any thread, sends them, records what came of them."""

    def __init__(self, deps: Deps, engine: Engine) -> None:
        self._deps = deps
        self._engine = engine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._drivers: dict[tuple[str, str], tuple[Driver, asyncio.Semaphore]] = {}
        self._breakers: dict[str, Breaker] = {}
        self._answers: deque[tuple[Job, Outcome]] = deque()
        self._answered = threading.Condition()
        self._recorder = threading.Thread(target=self._record, name="recorder", daemon=True)
        self._stopping = False
        self._in_flight = 0
        self.circuits = Loop("notifier", "circuits", CIRCUITS_SECONDS, self._circuits)

    def start(self) -> None:
        self._thread.start()
        self._recorder.start()

    def stop(self) -> None:
        """Wait a moment for what is on its way; the rest is left to its lease."""
        deadline = monotonic() + 8
        with self._answered:
            while self._in_flight and monotonic() < deadline:
                self._answered.wait(0.1)
            self._stopping = True
            self._answered.notify_all()
        self._recorder.join(5)
        forget("notifier", "recorder")
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2)

    def _circuits(self) -> None:
        for name, breaker in list(self._breakers.items()):
            show_breaker(name, breaker)

    def available(self, provider: str) -> bool:
        """Whether a provider's circuit lets a call through."""
        breaker = self._breakers.get(provider)
        return breaker is None or breaker.allows(monotonic())

    def take(self, jobs: Sequence[Job]) -> None:
        """Send jobs whose `sending` is committed. Called from the lanes' threads."""
        with self._answered:
            self._in_flight += len(jobs)
        by_provider: dict[tuple[str, int], list[Job]] = {}
        for job in jobs:
            by_provider.setdefault((job.provider.name, job.row.playbook), []).append(job)
        for group in by_provider.values():
            asyncio.run_coroutine_threadsafe(self._send(group), self._loop)

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._net = Net(HttpClient(), utc_now, chance.nonce)
        self._loop.run_forever()

    async def _send(self, jobs: list[Job]) -> None:
        provider = jobs[0].provider
        try:
            driver, slots = self._driver(provider)
        except ConfigError as error:
            self._answer([(job, failed(Kind.BAD_ACCOUNT, "config", str(error))) for job in jobs])
            return
        size = max(1, driver.batch_size)
        parts = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        await asyncio.gather(*(self._call(driver, slots, part) for part in parts))

    async def _call(self, driver: Driver, slots: asyncio.Semaphore, jobs: list[Job]) -> None:
        async with slots:
            outcomes = await driver.send([job.message for job in jobs])
        crash_point("delivery.called")
        breaker = self._breakers.setdefault(jobs[0].provider.name, Breaker())
        for outcome in outcomes:
            breaker.note(outcome.kind, monotonic())
        show_breaker(jobs[0].provider.name, breaker)
        self._answer(list(zip(jobs, outcomes, strict=True)))

    def _driver(self, provider: Provider) -> tuple[Driver, asyncio.Semaphore]:
        key = (provider.name, repr(provider))
        known = self._drivers.get(key)
        if known is None:
            options = Options(
                name=provider.name,
                base_url=provider.base_url,
                secrets={name: secret(ref) for name, ref in provider.secrets.items()},
                settings=provider.settings,
                timeout_seconds=provider.timeout.total_seconds(),
                concurrency=provider.concurrency,
                allow=provider.allow,
            )
            driver = driver_type(provider.driver)(options, self._net)
            known = self._drivers[key] = driver, asyncio.Semaphore(provider.concurrency)
        return known

    # ---- recording ---------------------------------------------------------------------------------------------------

    def _answer(self, answers: Sequence[tuple[Job, Outcome]]) -> None:
        with self._answered:
            self._answers.extend(answers)
            self._answered.notify_all()

    def _record(self) -> None:
        pending: list[tuple[Job, Outcome]] = []
        while True:
            with self._answered:
                while not self._answers and not pending:
                    if self._stopping:
                        return
                    beat("notifier", "recorder", 0.5)
                    self._answered.wait(0.5)
                while self._answers and len(pending) < RECORD_MOST:
                    pending.append(self._answers.popleft())
            try:
                self._deps.bells.ring(record(self._engine, self._deps, pending, chance.fraction))
            except Exception as error:  # the database is away: the answers are kept until it is back, or the lease ends
                log.warning("outcomes_wait", count=len(pending), error=f"{type(error).__name__}: {error}"[:200])
                with self._answered:
                    if self._stopping:
                        return
                    self._answered.wait(0.5)
                continue
            beat("notifier", "recorder", 0.5)
            with self._answered:
                self._in_flight -= len(pending)
                self._answered.notify_all()
            pending = []


class NullSender:
    """Accepts everything at once and records it: for replay and benchmarks. `sent` counts by channel."""

    def __init__(self, deps: Deps, engine: Engine, *, on_send: Callable[[Sequence[Job]], None] | None = None) -> None:
        self._deps, self._engine, self._on_send = deps, engine, on_send

    def take(self, jobs: Sequence[Job]) -> None:
        """Answer `accepted` for all and record that."""
        if self._on_send is not None:
            self._on_send(jobs)
        answers = [(job, Outcome(Kind.ACCEPTED, provider_id=f"null-{job.row.id}")) for job in jobs]
        for start in range(0, len(answers), RECORD_MOST):
            record(self._engine, self._deps, answers[start : start + RECORD_MOST], lambda: 0.5)
