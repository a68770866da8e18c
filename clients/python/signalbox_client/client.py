"""The client. Every call has a bound in time; what is safe to repeat is repeated while the server is away."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from signalbox_client.cursors import Cursor, MemoryCursor

Json = dict[str, Any]
BATCH = 500


class Failed(Exception):
    """A call that did not succeed. `status` is HTTP's (0: no answer), `problem` the server's problem document."""

    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(f"{status} {problem.get('title', '')}: {problem.get('detail', '')}".strip())
        self.status = status
        self.problem = problem

    @property
    def errors(self) -> list[Json]:
        """`[{"pointer", "reason"}]`: which members were refused."""
        found: list[Json] = self.problem.get("errors", [])
        return found


class Refused(Failed):
    """The server understood and said no (4xx)."""


class Conflict(Refused):
    """The ticket moved on, or the same key came with another body (409); `problem` has the current state."""


class Unavailable(Failed):
    """No answer, or one that asks to come again later (5xx, 429), for longer than the client was told to try."""


class Client:
    """Talks to one Signalbox. `timeout` bounds one attempt and `patience` all attempts of a call, in seconds."""

    def __init__(self, base: str, key: str, *, timeout: float = 10.0, patience: float = 30.0) -> None:
        self._base = base.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._patience = patience

    # ---- tickets -----------------------------------------------------------------------------------------------------

    def push(self, ticket: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Open one ticket; returns `{"id", "number", "status", "version"}` once it is committed. Safe to repeat."""
        headers = {"idempotency-key": idempotency_key or uuid.uuid4().hex}
        found: Json = self._json("POST", "/v1/tickets", json.dumps(ticket).encode(), headers)
        return found

    def push_many(self, tickets: Iterable[Mapping[str, Any]], *, batch: int = BATCH) -> Iterator[Json]:
        """Open many; yields one outcome a ticket, in order. Give each `source` and `external_id`: repeats are known by them."""
        rest = iter(tickets)
        while part := list(islice(rest, batch)):
            body = b"\n".join(json.dumps(one, ensure_ascii=False).encode() for one in part)
            raw = self._call("POST", "/v1/tickets/batch", body, {"content-type": "application/x-ndjson"})
            yield from (json.loads(line) for line in raw.splitlines() if line.strip())

    def ticket(self, ticket_id: str) -> Json:
        """A ticket with its group, assignee, nodes and clocks."""
        found: Json = self._json("GET", f"/v1/tickets/{_quoted(ticket_id)}")
        return found

    def act(
        self,
        ticket_id: str,
        action: str,
        *,
        expected_version: int | None = None,
        actor: Json | None = None,
        **members: Any,
    ) -> Json:
        """Carry out an action; returns the ticket. Raises `Conflict` when it no longer applies."""
        body: Json = {"action": action, **members}
        if expected_version is not None:
            body["expected_version"] = expected_version
        if actor is not None:
            body["actor"] = actor
        found: Json = self._json("POST", f"/v1/tickets/{_quoted(ticket_id)}/actions", json.dumps(body).encode())
        return found

    # ---- topics ------------------------------------------------------------------------------------------------------

    def events(
        self,
        *,
        types: Sequence[str] = (),
        cursor: Cursor | None = None,
        wait: int = 20,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Json]:
        """Topic events, for ever, from the cursor on, in order and without a gap.

        The cursor moves when the next event is asked for, so that one whose handling failed comes again. While the server is
        away this waits; `stop` is asked between calls.
        """
        kept = cursor or MemoryCursor()
        after = kept.load()
        query = {"limit": "500", "wait": str(wait)} | ({"types": ",".join(types)} if types else {})
        while not stop():
            try:
                page = self._json(
                    "GET",
                    "/v1/events?" + urllib.parse.urlencode(query | {"after": after}),
                    timeout=wait + self._timeout,
                )
            except Unavailable:
                continue
            for event in page["items"]:
                yield event
                after = event["sequence"]
                kept.save(after)
            if page["next"] != after:  # what lies between was of other types
                after = page["next"]
                kept.save(after)

    def subscribe(self, url: str, *, types: Sequence[str] = (), order: str = "none", **members: Any) -> Json:
        """A webhook subscription; the answer's `secret` is shown this once."""
        body: Json = {"url": url, "order": order, **members} | ({"types": list(types)} if types else {})
        found: Json = self._json("POST", "/v1/subscriptions", json.dumps(body).encode())
        return found

    def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription."""
        self._call("DELETE", f"/v1/subscriptions/{_quoted(subscription_id)}")

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _json(self, *args: Any, **named: Any) -> Any:
        return json.loads(self._call(*args, **named))

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """One call, repeated while the server is away: every call here is safe to repeat."""
        given = {"authorization": f"Bearer {self._key}", "content-type": "application/json"} | dict(headers or {})
        deadline, pause = time.monotonic() + self._patience, 0.1
        while True:
            request = urllib.request.Request(self._base + path, data=body, headers=given, method=method)
            try:
                with urllib.request.urlopen(request, timeout=timeout or self._timeout) as response:
                    raw: bytes = response.read()
                    return raw
            except urllib.error.HTTPError as error:
                problem, wait = _problem(error.read()), error.headers.get("retry-after", "")
                if error.code < 500 and error.code != 429:
                    raise (Conflict if error.code == 409 else Refused)(error.code, problem) from None
                failure = Unavailable(error.code, problem)
                pause = max(pause, float(wait)) if wait.isdigit() else pause
            except (OSError, TimeoutError) as error:
                failure = Unavailable(0, {"title": "no answer", "detail": str(error)})
            if time.monotonic() + pause > deadline:
                raise failure
            time.sleep(pause)
            pause = min(pause * 2, 5.0)


def _quoted(part: str) -> str:
    return urllib.parse.quote(str(part), safe="")


def _problem(raw: bytes) -> Json:
    try:
        found = json.loads(raw)
    except ValueError:
        return {"detail": raw[:200].decode("utf-8", "replace")}
    return found if isinstance(found, dict) else {"detail": str(found)[:200]}
