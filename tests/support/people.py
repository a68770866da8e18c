"""People acting on the same tickets all at once, over HTTP, while everything else goes on."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aiohttp

Action: TypeAlias = dict[str, Any]


def some_action(rng: random.Random, number: int) -> Action:
    """What a person may do to any open ticket, whoever it belongs to; texts are unlike each other."""
    return rng.choice(
        (
            {"action": "note", "text": f"note {number}"},
            {"action": "reply", "text": f"we are on it ({number})"},
            {"action": "customer_reply", "text": f"any news? ({number})"},
            {"action": "pause", "reason": f"waiting for a part ({number})"},
            {"action": "resume"},
        )
    )


@dataclass(slots=True)
class Acted:
    """Answers by status (0: none), and the latency in seconds of those that were 200 or 409: a decision was made."""

    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The latency that this share of the decisions did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def act_http(
    base_url: str,
    api_key: str,
    tickets: Sequence[str],
    *,
    until: threading.Event,
    people: int = 8,
    seed: int = 1,
    actions_each: int | None = None,
    action: Callable[[random.Random, int], Action] = some_action,
) -> Acted:
    """Let so many people act on random tickets, each one action at a time, until the event or their last action. Blocks.

    The first hundred answers other than 200, 409 and 503 are kept as `surprises`.
    """
    acted = Acted()

    async def person(session: aiohttp.ClientSession, name: int) -> None:
        rng, number = random.Random(f"{seed}/{name}"), 0
        while not until.is_set() and (actions_each is None or number < actions_each):
            number += 1
            url = f"{base_url.rstrip('/')}/v1/tickets/{rng.choice(tickets)}/actions"
            await _act(session, url, action(rng, number), acted)

    async def run() -> None:
        headers = {"Authorization": f"Bearer {api_key}"}
        connector, timeout = aiohttp.TCPConnector(limit=people), aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session,
            asyncio.TaskGroup() as group,
        ):
            for name in range(people):
                group.create_task(person(session, name))

    asyncio.run(run())
    return acted


async def _act(session: aiohttp.ClientSession, url: str, body: Action, acted: Acted) -> None:
    began, status, text = time.monotonic(), 0, ""
    try:
        async with session.post(url, json=body) as response:
            text, status = await response.text(), response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        text = f"{type(error).__name__}: {error}"
    acted.statuses[status] = acted.statuses.get(status, 0) + 1
    if status in (200, 409):
        acted.latencies.append(time.monotonic() - began)
    else:
        if status != 503 and len(acted.surprises) < 100:
            acted.surprises.append(f"{status} {body}: {text[:300]}")
        await asyncio.sleep(0.1)
