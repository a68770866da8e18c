"""What every call shares: who calls, strict bodies, problem documents, the two-second bound, pages."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.gateway.admission import Admission, overloaded
from services.gateway.commit import GroupCommit, Stopping
from services.gateway.errors import Problem, unavailable
from services.gateway.feed import Feed
from services.gateway.health import Health
from services.gateway.inbox import Hub
from services.gateway.intake import Intake
from shared.access.keys import KeyCache
from shared.access.principals import Named, Principal
from shared.contracts.envelope import Actor
from shared.contracts.strict import Fault, Unacceptable, decode
from shared.ledger.process import Deps
from shared.playbook.store import NothingPublished
from shared.runtime.ids import correlation_id

log = structlog.get_logger()

BODY_BYTES = 1 << 20
BATCHES = 4
"""Bulk requests that are read and committed at once; further ones are refused."""
ANSWER_SECONDS = 1.8
"""A call that the database has not answered by then gets 503; whoever repeats it is safe."""

JSON_TYPES = ("application/json", "text/json")
_UNSAID = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""The last is what curl and Python's urllib call every body they are given; a real form is no JSON and refused as such."""

T = TypeVar("T")
Handler = Callable[["Call"], Awaitable[Response]]


@dataclass(slots=True)
class Context:
    """What the calls of one gateway process share."""

    deps: Deps
    intake: Intake
    commits: GroupCommit
    keys: KeyCache
    health: Health
    pool: ThreadPoolExecutor
    test_mode: bool = False
    feed: Feed = field(default_factory=Feed)
    admission: Admission = field(default_factory=Admission)
    batches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BATCHES))
    hub: Hub = field(init=False)
    """Wakes the open streams of inboxes."""

    def __post_init__(self) -> None:
        self.hub = Hub(self.deps)

    async def query(self, work: Callable[[Connection], T], *, seconds: float = ANSWER_SECONDS) -> T:
        """Run `work` on a connection in a thread. It commits itself where it writes. 503 when the database does not answer."""
        if not self.health.database_up:
            raise unavailable()
        loop = asyncio.get_running_loop()
        try:
            context = copy_context()  # what is logged in the thread carries the request's correlation id too
            return await asyncio.wait_for(
                loop.run_in_executor(self.pool, context.run, self._on_connection, work), seconds
            )
        except TimeoutError:
            raise unavailable() from None

    def _on_connection(self, work: Callable[[Connection], T]) -> T:
        with self.deps.engine.connect() as connection:
            return work(connection)


@dataclass(slots=True)
class Call:
    """One request being answered."""

    request: Request
    context: Context
    principal: Principal
    correlation: str

    async def json(self, kind: type[T], *, limit: int = BODY_BYTES) -> T:
        """The request's body as `kind`, strictly: 415 for another kind of content, 413, 400 or 422 for a bad body."""
        self.need_content(*JSON_TYPES)
        return decode(await self.body(limit), kind)

    def need_content(self, *types: str) -> None:
        """Raise 415 for a body that is declared as something else."""
        said = self.request.headers.get("content-type", "")
        kind, _, rest = said.partition(";")
        kind, charset = kind.strip().lower(), rest.partition("charset=")[2].strip().strip('"').lower()
        if kind not in (*types, *_UNSAID) or charset not in ("", "utf-8", "utf8", "us-ascii"):
            raise Problem(415, "unsupported_media_type", f"the body is to be {types[0]} in UTF-8, not {said[:100]!r}")
        encoding = self.request.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise Problem(415, "unsupported_media_type", f"the body is to be sent as it is, not as {encoding[:50]!r}")

    def parameters(self, *names: str) -> dict[str, str]:
        """The query parameters, of these names (besides `limit` and `cursor`); 400 for others, repeated ones and NULs."""
        found: dict[str, str] = {}
        for name, value in self.request.query_params.multi_items():
            if name not in names and name not in ("limit", "cursor"):
                raise bad_parameter(name, "unknown parameter")
            if name in found:
                raise bad_parameter(name, "stands twice")
            if "\0" in value or "\ufffd" in value:
                raise bad_parameter(name, "not UTF-8, or holds a NUL character")
            found[name] = value
        return found

    def need(self, right: str) -> None:
        """Raise 403 unless the principal has a right."""
        if right not in self.principal.rights:
            raise Problem(403, "forbidden", f"this key may not do that (it lacks {right!r})")

    def actor(self, given: Named | None = None) -> Actor:
        """Who acts, or 403."""
        actor = self.principal.actor(given)
        if actor is None:
            raise Problem(403, "forbidden", "this key may not act for others of that kind")
        return actor

    async def body(self, limit: int = BODY_BYTES) -> bytes:
        """The request's body, at most `limit` bytes: 413 before a byte too many is kept."""
        declared = self.request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise Problem(413, "too_large", f"the body may have {limit:,} bytes, it has {int(declared):,}")
        chunks, size = [], 0
        async for chunk in self.request.stream():
            size += len(chunk)
            if size > limit:
                raise Problem(413, "too_large", f"the body may have {limit:,} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def limit(self, default: int = 50, most: int = 500) -> int:
        """`?limit=`."""
        text = self.request.query_params.get("limit", str(default))
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= most:
            raise bad_parameter("limit", f"a whole number from 1 to {most}")
        return int(text)

    def cursor(self) -> int | None:
        """`?cursor=`, as given by the page before."""
        text = self.request.query_params.get("cursor")
        if not text:
            return None
        try:
            digits = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            digits = b""
        if not 1 <= len(digits) <= 18 or not digits.isdigit():
            raise bad_parameter("cursor", "not a cursor of this list")
        return int(digits)


def bad_parameter(name: str, reason: str) -> Problem:
    """400 that names a query parameter."""
    return Problem(400, "invalid", f"{name}: {reason}", errors=[Fault(name[:100], reason)])


def page(items: list[Any], last: int | None) -> dict[str, Any]:
    """`{"items", "next"}`; `last` is the key to go on after, None at the end."""
    following = None if last is None else base64.urlsafe_b64encode(str(last).encode()).decode().rstrip("=")
    return {"items": items, "next": following}


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response."""
    content = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(content, status, headers, media_type="application/json")


def problem(error: Problem) -> Response:
    """A problem document (RFC 9457)."""
    document = {
        "type": f"https://signalbox.invalid/problems/{error.code}",
        "title": error.code.replace("_", " "),
        "status": error.status,
        "detail": error.detail,
        **(
            {"errors": [{"pointer": one.pointer, "reason": one.reason} for one in error.errors]} if error.errors else {}
        ),
        **error.extra,
    }
    return Response(msgspec.json.encode(document), error.status, error.headers, "application/problem+json")


def from_fault(fault: Fault, status: int = 422) -> Problem:
    """A fault in a body as a problem."""
    return Problem(status, "invalid", f"{fault.pointer or '/'}: {fault.reason}", errors=[fault])


def endpoint(context: Context, handler: Handler, *, public: bool = False) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler: authenticate, bind the log context, turn what is raised into problem documents."""

    async def run(request: Request) -> Response:
        correlation = request.headers.get("x-request-id", "")[:100] or correlation_id()
        structlog.contextvars.bind_contextvars(correlation=correlation)
        try:
            principal = NOBODY if public else await authenticate(context, request)
            if any("\0" in str(value) for value in request.path_params.values()):  # nothing is called so
                raise Problem(404, "not_found", "there is nothing at this address")
            return await handler(Call(request, context, principal, correlation))
        except Problem as error:
            return problem(error)
        except Unacceptable as error:
            return problem(from_fault(error.fault, 400 if not error.fault.pointer else 422))
        except Stopping:
            return problem(overloaded())
        except (DBAPIError, PoolTimeout) as error:
            return problem(_database(error))
        except NothingPublished as error:
            return problem(Problem(503, "no_playbook", str(error), headers={"Retry-After": "5"}))
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:
            log.error("request_failed", path=request.url.path, exc_info=error)
            return problem(Problem(500, "internal", "something went wrong here; it was logged"))
        finally:
            structlog.contextvars.unbind_contextvars("correlation")

    return run


NOBODY = Principal(-1, frozenset(), name="public")


def _database(error: Exception) -> Problem:
    from shared.runtime.database import is_passing

    if isinstance(error, PoolTimeout) or is_passing(error):
        return unavailable()
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if isinstance(error, DataError) or (state is not None and str(state).startswith("22")):
        return Problem(422, "invalid", "a value cannot be stored as it is")
    log.error("database_error", exc_info=error)
    return Problem(500, "internal", "something went wrong here; it was logged")


async def authenticate(context: Context, request: Request) -> Principal:
    """The principal of the request's bearer key, or 401."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Problem(401, "unauthorized", "send Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"})
    known, principal = context.keys.remembered(key.strip())
    if not known:
        principal = await context.query(lambda connection: context.keys.look_up(connection, key.strip()))
    if principal is None:
        raise Problem(401, "unauthorized", "unknown or revoked key", headers={"WWW-Authenticate": "Bearer"})
    return principal
