"""The application: every route with its handler. `routes` is also what the OpenAPI document is made from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.gateway import queries
from services.gateway.api import (
    attachments,
    board,
    documents,
    events,
    inbox,
    oncall,
    oncall_feeds,
    oneclick,
    operations,
    preferences,
    providers,
    reports,
    subscriptions,
    tickets,
    todos,
)
from services.gateway.api.base import Call, Context, Handler, answer, endpoint, problem
from services.gateway.errors import Problem
from shared.contracts.intake import TicketIn
from shared.ticket.commands import AnyCommand


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route: method, path, handler; `public` needs no key, `internal` only exists in test mode."""

    method: str
    path: str
    handler: Handler
    public: bool = False
    internal: bool = False
    body: Any = None
    """What it decodes its body as, for the OpenAPI document."""
    query: tuple[str, ...] = ()
    """Query parameters it knows."""
    takes: str = "application/json"
    gives: str = "application/json"


PAGE = ("limit", "cursor")
NDJSON = "application/x-ndjson"
OCTETS = "application/octet-stream"

CALLS: tuple[Endpoint, ...] = (
    Endpoint("POST", "/v1/tickets", tickets.create, body=TicketIn),
    Endpoint("POST", "/v1/tickets/batch", tickets.create_batch, body=str, takes=NDJSON, gives=NDJSON),
    Endpoint("GET", "/v1/tickets", tickets.listing, query=(*queries.FILTERS, *PAGE)),
    Endpoint("GET", "/v1/tickets/{id}", tickets.read),
    Endpoint("GET", "/v1/tickets/{id}/timeline", tickets.timeline),
    Endpoint("GET", "/v1/tickets/{id}/explain", tickets.explain),
    Endpoint("POST", "/v1/tickets/{id}/actions", tickets.action, body=AnyCommand),
    Endpoint("POST", "/v1/tickets/{id}/attachments", attachments.create, body=bytes, takes=OCTETS, query=("name",)),
    Endpoint("GET", "/v1/tickets/{id}/attachments", attachments.listing),
    Endpoint("GET", "/v1/tickets/{id}/attachments/{attachment}", attachments.read, gives="*/*"),
    Endpoint("GET", "/v1/board", board.board, query=(*board.BOARD_FILTERS, *PAGE)),
    Endpoint("GET", "/v1/todos", todos.todos, query=(*todos.FILTERS, *PAGE)),
    Endpoint("GET", "/v1/gantt", board.gantt, query=(*board.GANTT_FILTERS, *PAGE)),
    Endpoint("GET", "/v1/oncall", oncall.listing, query=("at",)),
    Endpoint("GET", "/v1/oncall/{schedule}", oncall.read, query=("from", "to")),
    Endpoint("GET", "/v1/oncall/{schedule}/feed.ics", oncall.feed, query=("person",), gives="text/calendar"),
    Endpoint("POST", "/v1/oncall/{schedule}/feeds", oncall_feeds.make, body=oncall_feeds.FeedIn),
    Endpoint("GET", "/v1/oncall/{schedule}/feeds", oncall_feeds.listing),
    Endpoint("DELETE", "/v1/oncall/{schedule}/feeds/{feed}", oncall_feeds.take_back),
    Endpoint("GET", "/c/{token}.ics", oncall_feeds.read, public=True, gives="text/calendar"),
    Endpoint("POST", "/v1/oncall/{schedule}/changes", oncall.change, body=oncall.ChangeIn),
    Endpoint("DELETE", "/v1/oncall/{schedule}/changes/{change}", oncall.take_back),
    Endpoint("GET", "/v1/agents", operations.agents),
    Endpoint("PATCH", "/v1/agents/{id}", operations.patch_agent, body=operations.AgentPatch),
    Endpoint("GET", "/v1/deliveries", operations.deliveries, query=("ticket", "recipient", "state", *PAGE)),
    Endpoint("GET", "/v1/providers", providers.listing),
    Endpoint("GET", "/v1/reports/attribution", reports.attribution, query=reports.PERIOD),
    Endpoint("GET", "/v1/reports/repeats", reports.repeats, query=reports.PERIOD),
    Endpoint("GET", "/v1/reports/stalls", reports.stalls, query=reports.PERIOD),
    Endpoint("GET", "/v1/quarantine", operations.quarantine, query=PAGE),
    Endpoint("POST", "/v1/quarantine/{id}/retry", operations.retry),
    Endpoint("GET", "/v1/preferences", preferences.read),
    Endpoint("PUT", "/v1/preferences", preferences.write, body=preferences.PreferencesIn),
    Endpoint("GET", "/v1/preferences/teams/{group}", preferences.read_team),
    Endpoint("PUT", "/v1/preferences/teams/{group}", preferences.write_team, body=preferences.TeamPreferencesIn),
    Endpoint("GET", "/v1/inbox", inbox.listing, query=("unread", *PAGE)),
    Endpoint("GET", "/v1/inbox/stream", inbox.stream, gives="text/event-stream"),
    Endpoint("POST", "/v1/inbox/read", inbox.mark, body=inbox.ReadIn),
    Endpoint("POST", "/v1/receipts/{provider}", providers.receipts, public=True),
    Endpoint("POST", "/v1/callbacks/{provider}", providers.callbacks, public=True),
    Endpoint("GET", "/v1/callbacks/{provider}", providers.handshake, public=True),
    Endpoint("GET", "/a/{token}", oneclick.show, public=True, gives="text/html"),
    Endpoint("POST", "/a/{token}", oneclick.press, public=True, gives="text/html"),
    Endpoint("GET", "/v1/events", events.listing, query=("after", "types", "limit", "wait")),
    Endpoint("GET", "/v1/events/stream", events.stream, query=("after", "types"), gives="text/event-stream"),
    Endpoint("POST", "/v1/subscriptions", subscriptions.create, body=subscriptions.SubscriptionIn),
    Endpoint("GET", "/v1/subscriptions", subscriptions.listing, query=PAGE),
    Endpoint("GET", "/v1/subscriptions/{id}", subscriptions.read),
    Endpoint("PATCH", "/v1/subscriptions/{id}", subscriptions.change, body=subscriptions.SubscriptionPatch),
    Endpoint("DELETE", "/v1/subscriptions/{id}", subscriptions.remove),
    Endpoint("POST", "/v1/subscriptions/{id}/rotate", subscriptions.rotate, body=subscriptions.Rotation),
    Endpoint("GET", "/v1/subscriptions/{id}/deliveries", subscriptions.parked, query=("state", *PAGE)),
    Endpoint("POST", "/v1/subscriptions/{id}/redrive", subscriptions.redrive, body=subscriptions.Redrive),
    Endpoint("POST", "/v1/subscriptions/{id}/replay", subscriptions.replay, body=subscriptions.Replay),
    Endpoint("GET", "/v1/schemas/{type}", events.schema, public=True),
    Endpoint("GET", "/asyncapi.json", events.asyncapi, public=True),
    Endpoint("GET", "/healthz", operations.healthz, public=True),
    Endpoint("GET", "/readyz", operations.readyz, public=True),
    Endpoint("GET", "/metrics", operations.metrics, public=True, gives="text/plain"),
    Endpoint("POST", "/internal/advance", operations.advance, internal=True),
    Endpoint("GET", "/internal/idle", operations.idle, internal=True),
)


def build(context: Context, stop: Callable[[], None] = lambda: None) -> Starlette:
    """The ASGI application over a context."""

    async def openapi(call: Call) -> Response:
        return answer(documents.openapi(CALLS))

    async def docs(call: Call) -> Response:
        return documents.page()

    calls = (
        *(one for one in CALLS if context.test_mode or not one.internal),
        Endpoint("GET", "/openapi.json", openapi, public=True),
        Endpoint("GET", "/docs", docs, public=True),
    )
    routes = [Route(one.path, endpoint(context, one.handler, public=one.public), methods=[one.method]) for one in calls]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        stop()

    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: _not_found, 405: _not_allowed})


async def _not_found(_: Request, __: Exception) -> Response:
    return problem(Problem(404, "not_found", "there is nothing at this address"))


async def _not_allowed(_: Request, error: Exception) -> Response:
    headers = getattr(error, "headers", None) or {}
    return problem(Problem(405, "method_not_allowed", "this address does not take that method", headers=dict(headers)))
