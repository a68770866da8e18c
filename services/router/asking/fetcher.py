"""The loop that asks outside systems, in a thread of its own, and writes what they say for every worker to read."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import orjson
import structlog
from yarl import URL

from services.router import answer_store as store
from services.router import metrics
from services.router.asking.breaker import Breaker
from shared.contracts.envelope import Actor
from shared.ledger import business
from shared.ledger.process import Background, Deps
from shared.ledger.unit import Unit
from shared.playbook.enrichment import MAX_ANSWER_BYTES, facts_of_answer
from shared.playbook.messages import SecretRef
from shared.playbook.routing import Enrichment
from shared.runtime import chance
from shared.runtime.clock import monotonic

log = structlog.get_logger()

AT_ONCE = 16
"""Questions to one system under way at the same time; the rest queue, and their tickets' budgets run on."""
FAILURE_KEPT = timedelta(seconds=5)
ROUSE_TRIES = 5
ROUSE_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Question:
    """One ticket wants this answer."""

    name: str
    url: str
    ticket: int
    config: Enrichment


class NoAnswer(Exception):
    """The outside system did not answer as it should; the message says how."""


@dataclass(slots=True)
class Fetcher(Background):
    """Takes questions from any thread. Until `start` (or `inline`) it asks nobody, and rules go on with defaults at once.

    `inline` makes it ask in the caller's thread, after the caller's commit: for a virtual clock, which would not wait.
    """

    deps: Deps
    asks: bool = False
    _breakers: dict[str, Breaker] = field(default_factory=lambda: defaultdict(Breaker))
    _waiting: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _slots: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    _session: aiohttp.ClientSession | None = None
    _writers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="answers"))
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetcher", daemon=True)
        self._thread.start()
        self.asks = True

    def stop(self) -> None:
        """Ask nobody any more; what is under way is given up, its tickets' instants come all the same."""
        self.asks = False
        if self._thread is None:
            return
        with suppress(TimeoutError, asyncio.CancelledError):
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(2)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2)
        self._writers.shutdown(wait=True, cancel_futures=True)

    def inline(self) -> None:
        """Ask in the caller's thread from now on."""
        self.asks = True

    def refused(self, name: str) -> bool:
        """Is the system's breaker open, so that waiting for it is of no use?"""
        return self._breakers[name].is_open(monotonic())

    def ask(self, questions: Sequence[Question]) -> None:
        """Take over questions whose tickets are put off and committed. Never blocks (but `inline` does)."""
        fresh = []
        with self._lock:
            for one in questions:
                tickets = self._waiting.get((one.name, one.url))
                if tickets is None:
                    self._waiting[one.name, one.url] = [one.ticket]
                    fresh.append(one)
                else:
                    tickets.append(one.ticket)
        if self._thread is None:
            for one in fresh:
                self._loop.run_until_complete(self._answer(one))
            self._loop.run_until_complete(self._close())
            return
        for one in fresh:
            asyncio.run_coroutine_threadsafe(self._answer(one), self._loop)

    # ---- the loop ----------------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _answer(self, asked: Question) -> None:
        facts: Mapping[str, Any] = {}
        failure: str | None = None
        slots = self._slots.setdefault(asked.name, asyncio.Semaphore(AT_ONCE))
        async with slots:
            breaker, started = self._breakers[asked.name], monotonic()
            if not breaker.allows(started):
                failure = "not asked: it failed too often, and is left alone for a while"
            else:
                try:
                    facts = await self._get(asked)
                except NoAnswer as error:
                    failure = str(error)
                breaker.note(failure is None, monotonic())
                outcome = "answered" if failure is None else "failed"
                metrics.ENRICHMENTS.labels(asked.name, outcome).inc()
                metrics.ENRICH_SECONDS.labels(asked.name).observe(monotonic() - started)
        try:
            await asyncio.get_running_loop().run_in_executor(self._writers, self._record, asked, facts, failure)
        except Exception as error:  # the tickets' own instants come; a system that answers must not end the loop
            log.warning("answer_not_written", name=asked.name, error=f"{type(error).__name__}: {error}"[:300])

    async def _get(self, asked: Question) -> Mapping[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
        seconds = asked.config.timeout.total_seconds()
        try:
            headers = {name: _header(value) for name, value in asked.config.headers.items()}
            async with self._session.get(
                URL(asked.url, encoded=True),
                headers={"Accept": "application/json", **headers},
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise NoAnswer(f"status {response.status}")
                body = await response.content.read(MAX_ANSWER_BYTES + 1)
                while len(body) <= MAX_ANSWER_BYTES and (more := await response.content.read(MAX_ANSWER_BYTES)):
                    body += more
        except TimeoutError as error:
            raise NoAnswer(f"no answer within {asked.config.timeout}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(f"{type(error).__name__}: {error}"[:200]) from error
        if len(body) > MAX_ANSWER_BYTES:
            raise NoAnswer(f"the answer is larger than {MAX_ANSWER_BYTES >> 10} KiB")
        try:
            return facts_of_answer(orjson.loads(body))
        except ValueError as error:
            raise NoAnswer(f"not a JSON object: {error}"[:200]) from error

    # ---- writing -----------------------------------------------------------------------------------------------------

    def _record(self, asked: Question, facts: Mapping[str, Any], failure: str | None) -> None:
        with self._lock:
            tickets = self._waiting.pop((asked.name, asked.url), [])
        kept = asked.config.cache if failure is None else min(asked.config.cache, FAILURE_KEPT)
        with self.deps.engine.begin() as connection:
            now = business.now(connection)
            store.keep_answer(connection, asked.name, asked.url, dict(facts), failure, now, now + kept)
        for _ in range(ROUSE_TRIES):
            tickets = self._rouse(tickets)
            if not tickets:
                return
            threading.Event().wait(ROUSE_PAUSE_SECONDS)

    def _rouse(self, tickets: list[int]) -> list[int]:
        """Put the tickets on the agenda; return those that were busy and are still put off."""
        with self.deps.engine.begin() as connection:
            unit = Unit(connection, business.now(connection), Actor(kind="service", id="router"), 0)
            unit.rouse("router", tickets)
            busy = store.put_off(connection, tickets)
        self.deps.bells.ring(unit.woken)
        return busy


def _header(value: str | SecretRef) -> str:
    """Raises `ValueError` for a secret that is not there."""
    if isinstance(value, str):
        return value
    if value.env is not None:
        found = chance.environment(value.env)
        if found is None:
            raise ValueError(f"the environment variable {value.env} is not set")
        return found
    return chance.file_text(str(value.file))
