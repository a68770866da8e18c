"""Topic events for integrators: by cursor, and as a stream of server-sent events. Both read the log, as far as it is settled.

A cursor is the `sequence` of the last event that was read. Reading never skips: events of a transaction that is still open hold
back what comes after them for as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from services.gateway.api.base import Call, Context, answer
from services.gateway.errors import Problem
from services.gateway.feed import Feed
from shared.access.present import present
from shared.contracts import topics
from shared.contracts.strict import Fault
from shared.ledger import reader
from shared.runtime.clock import monotonic
from shared.runtime.version import VERSION

WAIT_MOST_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 15.0
STREAM_BATCH = 200
STREAMS_MOST = 200
BATCH_TYPE = "application/cloudevents-batch+json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader asks for."""

    after: int
    types: tuple[str, ...] | None
    show: topics.Show | None


async def listing(call: Call) -> Response:
    """GET /v1/events"""
    call.need("subscribe")
    limit, wait = call.limit(100, 1000), _wait(call)
    wanted = await _wanted(call, call.request.query_params.get("after", ""))
    feed, deadline = call.context.feed, monotonic() + wait
    after, events = wanted.after, list[topics.CloudEvent]()
    while True:
        until = await feed.beyond(call.context.query, after, max(0.0, deadline - monotonic()))
        events, after = await _read(call.context, wanted, after, until, limit)
        if events or monotonic() >= deadline:
            break
    if BATCH_TYPE in call.request.headers.get("accept", ""):
        return Response(
            msgspec.json.encode(events), headers={"signalbox-next": topics.sequence(after)}, media_type=BATCH_TYPE
        )
    return answer(msgspec.json.encode({"items": events, "next": topics.sequence(after)}))


async def stream(call: Call) -> Response:
    """GET /v1/events/stream"""
    call.need("subscribe")
    feed = call.context.feed
    if feed.streams >= STREAMS_MOST:
        raise Problem(503, "busy", "too many open streams", headers={"Retry-After": "5"})
    resume = call.request.headers.get("last-event-id") or call.request.query_params.get("after", "latest")
    wanted = await _wanted(call, resume)
    return StreamingResponse(
        _follow(call, feed, wanted), media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


async def _follow(call: Call, feed: Feed, wanted: Wanted) -> AsyncIterator[bytes]:
    """Events for as long as the reader listens; a comment now and then shows both sides that the line is alive."""
    feed.streams += 1
    after = wanted.after
    try:
        yield b"retry: 1000\n\n"
        while True:
            try:
                until = await feed.beyond(call.context.query, after, KEEP_ALIVE_SECONDS)
                events, after = await _read(call.context, wanted, after, until, STREAM_BATCH)
            except Problem:  # the database is away: the reader stays, and goes on where it was
                yield b": waiting\n\n"
                await asyncio.sleep(1.0)
                continue
            yield b"".join(_framed(event) for event in events) or b": alive\n\n"
    finally:
        feed.streams -= 1


def _framed(event: topics.CloudEvent) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event.sequence.encode(), event.type.encode(), topics.encode(event))


async def _read(
    context: Context, wanted: Wanted, after: int, until: int, limit: int
) -> tuple[list[topics.CloudEvent], int]:
    if until <= after:
        return [], after

    def work(connection: Connection) -> tuple[list[topics.Stored], int]:
        return reader.read_stored(connection, after, until, limit, wanted.types)

    rows, upto = await context.query(work, seconds=5.0)
    return [topics.cloud_event(row, wanted.show) for row in rows], upto


def _wait(call: Call) -> float:
    text = call.request.query_params.get("wait", "0")
    if not text.isascii() or not text.isdigit() or int(text[:6]) > WAIT_MOST_SECONDS:
        raise Problem(400, "invalid", "bad query", errors=[Fault("wait", "seconds, a whole number from 0 to 30")])
    return float(text)


async def _wanted(call: Call, after: str) -> Wanted:
    query = call.request.query_params
    strange = sorted(set(query) - {"after", "types", "limit", "wait"})
    if strange:
        raise Problem(400, "invalid", "bad query", errors=[Fault(strange[0], "unknown parameter")])
    try:
        types = topics.event_types(query["types"].split(",")) if query.get("types") else None
    except ValueError as error:
        raise Problem(400, "invalid", "bad query", errors=[Fault("types", str(error))]) from error
    try:
        position = (
            0 if not after else await call.context.feed.settled(call.context.query) if after == "latest" else None
        )
        position = topics.position(after) if position is None else position
    except ValueError as error:
        raise Problem(400, "invalid", "bad query", errors=[Fault("after", str(error))]) from error
    return Wanted(position, types, await call.context.query(lambda connection: shown_to(call, connection)))


def shown_to(call: Call, connection: Connection) -> Callable[[Any], Any] | None:
    """What the caller may see of data, None when nothing is masked."""
    masks = call.context.deps.playbooks.current(connection).document.access.masks
    return (lambda data: present(data, call.principal, masks)) if masks else None


async def schema(call: Call) -> Response:
    """GET /v1/schemas/{type}"""
    found = topics.schema_of(call.request.path_params["type"])
    if found is None:
        raise Problem(404, "not_found", "there is no such event type")
    return answer(found)


async def asyncapi(call: Call) -> Response:
    """GET /asyncapi.json"""
    return answer(topics.asyncapi(VERSION))
