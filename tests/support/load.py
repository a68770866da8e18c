"""Load by HTTP: tickets at a rate or as fast as they are taken, each attempt and its outcome in a journal of its own.

It behaves as a careful intake system does: what is not answered, or answered 429 or 5xx, is sent again with the same key until
it is accepted, refused, or the time is up. At most `concurrency` requests are under way.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aiohttp
import orjson

from tests.support.journal import Journal, Phase

Ticket: TypeAlias = dict[str, Any]

_SUBJECTS = (
    "Printer at the front desk prints blank pages",
    "Cannot log in to the appointment system",
    "X-ray workstation is down, patients are waiting",
    "New account for a nurse starting on Monday",
    "Network is slow in building B",
    "预约系统无法登录",
    "收费窗口打印机卡纸",
    "Prescription export fails with error 0x80070005",
)


def make_ticket(source: str, seed: int, number: int) -> Ticket:
    """The `number`th ticket of a seed: always the same, unlike every other by `external_id`."""
    rng = random.Random(f"{source}/{seed}/{number}")
    who = rng.randrange(500)
    return {
        "source": source,
        "external_id": f"{seed}-{number:07d}",
        "subject": rng.choice(_SUBJECTS),
        "body": "\n".join(rng.choice(_SUBJECTS) for _ in range(rng.randint(1, 6))),
        "requester": {"id": f"c{who}", "name": f"Customer {who}", "email": f"c{who}@customers.example"},
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send.

    Attributes:
        rate_per_second: tickets are due at this rate and latency counts from the due instant, so that a system that stalls
            cannot hide it; None = as fast as `concurrency` allows.
        batch: lines in one `POST /v1/tickets/batch`; 1 = single posts.
        give_up_seconds: what is not settled this long after the start stays open in the journal.
        ticket: makes the ticket of a number; it must carry `source` and a unique `external_id`.
    """

    tickets: int
    source: str = "load"
    seed: int = 1
    rate_per_second: float | None = None
    concurrency: int = 32
    batch: int = 1
    request_timeout_seconds: float = 5.0
    give_up_seconds: float = 120.0
    ticket: Callable[[str, int, int], Ticket] = make_ticket

    def make(self, number: int) -> Ticket:
        return self.ticket(self.source, self.seed, number)


@dataclass(slots=True)
class LoadResult:
    """What came of it; latencies in seconds, from the due instant to the acceptance, retries included."""

    accepted: int = 0
    refused: int = 0
    open: int = 0
    attempts: int = 0
    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The latency that this share of the accepted did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def accepted_per_second(self) -> float:
        return self.accepted / self.seconds if self.seconds else 0.0


def push_http(base_url: str, api_key: str, plan: Plan, journal: Journal) -> LoadResult:
    """Send the plan's tickets to a gateway and wait until each is settled or the time is up. Blocks."""
    return asyncio.run(_HttpLoad(base_url.rstrip("/"), api_key, plan, journal).run())


@dataclass(frozen=True, slots=True)
class _Verdict:
    phase: Phase
    id: str | None
    status: int
    note: str


class _HttpLoad:
    def __init__(self, base_url: str, api_key: str, plan: Plan, journal: Journal) -> None:
        self._base, self._plan, self._journal = base_url, plan, journal
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._result = LoadResult()
        self._start = time.monotonic()

    async def run(self) -> LoadResult:
        plan = self._plan
        groups = iter(
            [range(first, min(first + plan.batch, plan.tickets)) for first in range(0, plan.tickets, plan.batch)]
        )
        connector = aiohttp.TCPConnector(limit=plan.concurrency)
        timeout = aiohttp.ClientTimeout(total=plan.request_timeout_seconds)
        self._start = time.monotonic()
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers) as session,
            asyncio.TaskGroup() as workers,
        ):
            for _ in range(plan.concurrency):
                workers.create_task(self._work(session, groups))
        self._result.seconds = time.monotonic() - self._start
        self._result.open = plan.tickets - self._result.accepted - self._result.refused
        return self._result

    async def _work(self, session: aiohttp.ClientSession, groups: Iterator[range]) -> None:
        for group in groups:
            due = time.monotonic()
            if self._plan.rate_per_second:
                due = self._start + group.start / self._plan.rate_per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._settle(session, {number: self._plan.make(number) for number in group}, due)

    async def _settle(self, session: aiohttp.ClientSession, tickets: dict[int, Ticket], due: float) -> None:
        """Send until every one of them is accepted or refused, or the time is up."""
        attempt, backoff = 0, 0.05
        while tickets and time.monotonic() - self._start < self._plan.give_up_seconds:
            attempt += 1
            wait = await self._attempt(session, tickets, attempt, due)
            if tickets:
                await asyncio.sleep(backoff if wait is None else wait)
                backoff = min(backoff * 2, 1.0)

    async def _attempt(
        self, session: aiohttp.ClientSession, tickets: dict[int, Ticket], attempt: int, due: float
    ) -> float | None:
        """One request; settled tickets leave `tickets`. Returns the server's `Retry-After`, at most 2 s, if it gave one."""
        for ticket in tickets.values():
            self._journal.write("asked", ticket["source"], ticket["external_id"], number=attempt)
        self._result.attempts += 1
        began, wait = time.monotonic(), None
        try:
            status, wait, body = await self._post(session, list(tickets.values()))
            verdicts = self._read(status, body, len(tickets))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            status, verdicts = 0, [_Verdict("unknown", None, 0, f"{type(error).__name__}: {error}")] * len(tickets)
        self._result.statuses[status] = self._result.statuses.get(status, 0) + 1
        seconds = time.monotonic() - began
        for (number, ticket), verdict in zip(list(tickets.items()), verdicts, strict=True):
            self._journal.write(
                verdict.phase,
                ticket["source"],
                ticket["external_id"],
                number=attempt,
                id=verdict.id,
                status=verdict.status,
                seconds=seconds,
                note=verdict.note,
            )
            if verdict.phase == "unknown":
                continue
            del tickets[number]
            if verdict.phase == "accepted":
                self._result.accepted += 1
                self._result.latencies.append(time.monotonic() - due)
            else:
                self._result.refused += 1
        return wait

    async def _post(self, session: aiohttp.ClientSession, tickets: list[Ticket]) -> tuple[int, float | None, bytes]:
        if self._plan.batch == 1:
            [ticket] = tickets
            path, body = "/v1/tickets", orjson.dumps(ticket)
            headers = {"Idempotency-Key": f"{ticket['source']}:{ticket['external_id']}"}
        else:
            path, body = "/v1/tickets/batch", b"".join(orjson.dumps(ticket) + b"\n" for ticket in tickets)
            headers = {"Content-Type": "application/x-ndjson"}
        async with session.post(self._base + path, data=body, headers=headers) as response:
            text = response.headers.get("Retry-After", "")
            wait = min(float(text), 2.0) if text.replace(".", "", 1).isdigit() else None
            return response.status, wait, await response.read()

    def _read(self, status: int, body: bytes, count: int) -> list[_Verdict]:
        """What an answer says about each ticket. Raises ValueError when it is not what the contract promises."""
        if self._plan.batch > 1 and status == 200:
            lines = [orjson.loads(line) for line in body.splitlines() if line.strip()]
            if len(lines) != count:
                raise ValueError(f"{len(lines)} outcomes for {count} lines")
            return [_verdict(int(line["status"]), line, line) for line in lines]
        text = body[:500].decode("utf-8", "replace")
        return [_verdict(status, orjson.loads(body) if 200 <= status < 300 else {}, text)] * count


def _verdict(status: int, answer: dict[str, Any], shown: object) -> _Verdict:
    if 200 <= status < 300:
        return _Verdict("accepted", str(answer["id"]), status, "")
    settled = 400 <= status < 500 and status not in (408, 425, 429)
    return _Verdict("refused" if settled else "unknown", None, status, str(shown))
