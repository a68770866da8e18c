"""Sends: one asyncio loop in a thread of its own, drivers by provider, outcomes recorded in batches.

Bulkheads: each provider has its own concurrency, each webhook host and robot its own few slots; what does not answer fills its own
slots only. Circuits and shares are common to all workers (`health`).
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from services.notifier import health_store, metrics
from services.notifier.channels.base import Driver, Kind, Net, Options, Outcome, failed
from services.notifier.channels.http import HttpClient
from services.notifier.channels.registry import driver_type
from services.notifier.errors import ConfigError, NotifierError
from services.notifier.health import State
from services.notifier.noting import Notes
from services.notifier.recording import record
from services.notifier.reports import report
from services.notifier.sending import Job
from shared.contracts.providers.receipts import Receipt
from shared.ledger.process import Background, Deps
from shared.playbook import secrets
from shared.playbook.messages import Provider, SecretRef
from shared.runtime import chance
from shared.runtime.clock import monotonic, utc_now
from shared.runtime.crash import crash_point
from shared.runtime.eventloop import new_loop
from shared.runtime.loops import Loop, beat, forget

log = structlog.get_logger()

RECORD_MOST = 500
RECORD_WAIT_SECONDS = 0.004
BUSY_WAIT_SECONDS = 0.025
"""The same while more than `BUSY` calls are under way: a transaction's own cost is shared by some hundred messages then."""
BUSY = 100
AHEAD_SECONDS = 2.0
HOLD_BACK_SECONDS = 0.05
HOST_SLOTS = 4
"""Calls to one webhook host or robot at a time."""
CIRCUITS_SECONDS = 5.0
"""How often the state of every provider's circuit is shown, also while nothing is sent."""


def secret(ref: SecretRef) -> str:
    """The value of a secret; raises `ConfigError` naming where it is missing."""
    try:
        return secrets.read(ref)
    except secrets.MissingSecret as error:
        raise ConfigError(str(error)) from error


@dataclass(slots=True)
class Pace:
    """How many messages a second went through lately."""

    _per_second: float = 0.0
    _count: int = 0
    _since: float = 0.0

    def note(self, count: int, now: float) -> None:
        """So many more are done."""
        if now - self._since > 1.0:
            self._per_second = self.rate(now)
            self._count, self._since = 0, now
        self._count += count

    def rate(self, now: float) -> float:
        """The rate of the last second or so; half of it is forgotten in each second without any."""
        seconds = now - self._since
        if seconds > 5.0:
            return 0.0
        return max(self._per_second / 2 if seconds > 1.0 else self._per_second, self._count / max(seconds, 1.0))


@dataclass(slots=True, eq=False)
class Line:
    """Calls that wait for one provider or host; `hands` are under way, at most `most` of them, and `slots` are its provider's."""

    driver: Driver
    slots: asyncio.Semaphore
    most: int
    hands: int = 0
    waiting: deque[list[Job]] = field(default_factory=deque)


def show_circuit(state: State) -> None:
    """The state of a provider's circuit, as a metric: 1 for the one it is in."""
    now = "closed" if not state.is_open else "half_open" if state.probed_at is not None else "open"
    for one in ("closed", "open", "half_open"):
        metrics.BREAKER.labels(state.provider, one).set(now == one)


class ChannelSender(Background):
    """Takes jobs from any thread, sends them, records what came of them."""

    def __init__(self, deps: Deps, engine: Engine) -> None:
        self._deps = deps
        self._engine = engine
        self.notes = Notes()
        self._held: Counter[str] = Counter()
        """Messages of each provider that this process has in hand."""
        self._most: dict[str, int] = {}
        self._pace: dict[str, Pace] = defaultdict(Pace)
        self._lines: dict[tuple[Driver, str], Line] = {}
        """What waits for a provider, or for one of its hosts where those have slots of their own."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._drivers: dict[tuple[str, str], tuple[Driver, asyncio.Semaphore]] = {}
        self._fresh: list[tuple[Job, Outcome | None]] = []
        self._flushing = False
        self._answers: deque[tuple[Job, Outcome | None]] = deque()
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
        with self._engine.connect() as connection:
            states = health_store.read(connection)
            connection.rollback()
        for state in states.values():
            show_circuit(state)

    @property
    def in_hand(self) -> int:
        """Messages taken and not yet recorded."""
        return self._in_flight

    def room(self) -> Mapping[str, int]:
        """How many more messages of each provider this process takes: what it does in some seconds, and at least twice what it can
        have under way. A message's lease runs from its mark, so that it must not lie about.
        """
        with self._answered:
            return self._room()

    def _room(self) -> dict[str, int]:
        now = monotonic()
        return {
            name: max(0, max(most, int(self._pace[name].rate(now) * AHEAD_SECONDS)) - self._held[name])
            for name, most in self._most.items()
        }

    def take(self, jobs: Sequence[Job]) -> None:
        """Send jobs whose `sending` is committed. Called from the lanes' threads."""
        by_provider: dict[tuple[str, int], list[Job]] = {}
        with self._answered:
            self._in_flight += len(jobs)
            for job in jobs:
                self._held[job.called] += 1
                by_provider.setdefault((job.called, job.row.playbook), []).append(job)
                if job.called not in self._most:
                    size = driver_type(job.provider.driver).batch_size
                    self._most[job.called] = 2 * job.provider.concurrency * max(1, size)
                    show_circuit(State(job.called))
        for group in by_provider.values():
            self._loop.call_soon_threadsafe(self._begin, group)

    @property
    def asks(self) -> bool:
        return True

    def poll(self, jobs: Sequence[Job]) -> None:
        """Ask providers about accepted messages. Called from the lanes' threads."""
        by_provider: dict[tuple[str, int], list[Job]] = {}
        for job in jobs:
            by_provider.setdefault((job.called, job.row.playbook), []).append(job)
        for group in by_provider.values():
            self._loop.call_soon_threadsafe(self._start, self._poll(group))

    def hold_back(self, jobs: Sequence[Job]) -> None:
        """Let the lane wait a moment while a provider it has just given to has no room: claiming more would only put it off.

        No transaction is open here, and the moment is short, so that a slow provider costs its neighbours next to nothing.
        """
        given, deadline = {job.called for job in jobs}, monotonic() + HOLD_BACK_SECONDS
        with self._answered:
            while (left := deadline - monotonic()) > 0 and not self._stopping:
                room = self._room()
                if all(room.get(name, 1) > 0 for name in given):
                    return
                self._answered.wait(left)

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._net = Net(HttpClient(), utc_now, chance.nonce)
        self._loop.run_forever()

    def _begin(self, jobs: list[Job]) -> None:
        """Put jobs in line, and let as many hands as their line may have take them."""
        provider = jobs[0].provider
        try:
            driver, slots = self._driver(provider)
        except ConfigError as error:
            self._answer([(job, failed(Kind.BAD_ACCOUNT, "config", str(error))) for job in jobs])
            return
        looks = [job for job in jobs if job.look]
        for job in looks:
            self._start(self._look(driver, slots, job))
        calls = [job for job in jobs if not job.look] if looks else jobs
        lines = set()
        for part in _parts(calls, max(1, driver.batch_size)):
            line = self._line(driver, slots, part[0])
            line.waiting.append(part)
            lines.add(line)
        for line in lines:
            for _ in range(min(line.most - line.hands, len(line.waiting))):
                line.hands += 1
                self._start(self._work(line))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, line: Line) -> None:
        """One hand of a line: a call after the other until nothing waits. A task for each message costs as much as the call."""
        try:
            while line.waiting:
                jobs = line.waiting.popleft()
                async with line.slots:
                    outcomes = await line.driver.send([job.message for job in jobs])
                crash_point("delivery.called")
                self._answer(list(zip(jobs, outcomes, strict=True)))
        finally:
            line.hands -= 1

    async def _look(self, driver: Driver, slots: asyncio.Semaphore, job: Job) -> None:
        async with slots:
            try:
                found = await driver.lookup(job.message)
            except (NotifierError, TimeoutError, OSError) as error:  # the query itself failed: nothing is known
                found = Outcome(Kind.UNKNOWN, code=type(error).__name__, detail=str(error)[:200])
        self._answer([(job, found)])

    async def _poll(self, jobs: list[Job]) -> None:
        name = jobs[0].called
        try:
            driver, slots = self._driver(jobs[0].provider)
            async with slots:
                receipts = await driver.poll([job.message for job in jobs])
            if receipts:
                await self._received(name, receipts)
        except (NotifierError, TimeoutError, OSError, DBAPIError) as error:  # asked again at the next of their instants
            log.warning("poll_failed", provider=name, count=len(jobs), error=f"{type(error).__name__}: {error}"[:200])

    def _line(self, driver: Driver, slots: asyncio.Semaphore, job: Job) -> Line:
        """A webhook's host and a robot's group have few hands of their own, so that a slow one holds up its own only."""
        place, most = "", job.provider.concurrency
        if job.provider.serves in ("webhook", "robot"):
            place, most = urlsplit(job.message.address).netloc or job.message.address, HOST_SLOTS
        key = (driver, place)
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) > 10_000:
                self._lines = {key: line for key, line in self._lines.items() if line.hands}
            line = self._lines[key] = Line(driver, slots, most)
        return line

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
            driver.on_receipts(partial(self._received, provider.name))
            known = self._drivers[key] = driver, asyncio.Semaphore(provider.concurrency)
        return known

    async def _received(self, provider: str, receipts: Sequence[Receipt]) -> None:
        """Receipts of a driver's own connection; returns once they are stored, so that the driver may confirm them."""
        await self._loop.run_in_executor(None, self.report, provider, receipts)

    def report(self, provider: str, receipts: Sequence[Receipt]) -> None:
        """Store receipts and tell whoever applies them."""
        self._deps.bells.ring(report(self._deps, self._engine, provider, receipts))

    # ---- recording ---------------------------------------------------------------------------------------------------

    def _answer(self, answers: Sequence[tuple[Job, Outcome | None]]) -> None:
        """In the loop's thread: answers are handed to the recorder together, a moment's worth at a time."""
        self._fresh.extend(answers)
        if not self._flushing:
            self._flushing = True
            self._loop.call_later(BUSY_WAIT_SECONDS if self._in_flight > BUSY else RECORD_WAIT_SECONDS, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        fresh, self._fresh = self._fresh, []
        with self._answered:
            self._answers.extend(fresh)
            self._answered.notify_all()

    def _record(self) -> None:
        pending: list[tuple[Job, Outcome | None]] = []
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
                self._deps.bells.ring(record(self._engine, self._deps, pending, chance.fraction, self.notes))
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
                done = Counter(job.called for job, _ in pending)
                self._held.subtract(done)
                for name, count in done.items():
                    self._pace[name].note(count, monotonic())
                self._answered.notify_all()
            pending = []


def _parts(jobs: list[Job], size: int) -> list[list[Job]]:
    """What goes to the driver together; urgent ones go singly where a batch is slower than a call."""
    urgent = [[job] for job in jobs if job.row.urgency == "urgent"] if size > 1 else []
    rest = [job for job in jobs if job.row.urgency != "urgent"] if size > 1 else jobs
    return urgent + [rest[start : start + size] for start in range(0, len(rest), size)]
