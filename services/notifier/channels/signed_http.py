"""SMS through a plain HTTP interface: JSON signed by Standard Webhooks. What a carrier gateway of one's own, or the demo's, speaks.

`POST {base_url}/messages` with `{"messages": [{"id", "to", "text", "template"?, "variables"?}]}`, up to 100, answered
by `{"results": [{"id", "status": "accepted", "provider_id"} | {"id", "status": OUTCOME, "code", "detail"?, "after"?:
seconds}]}` where OUTCOME is a word of the outcome vocabulary. `id` is an idempotency key. `GET
{base_url}/messages/{id}` answers the same result object, or 404. Receipts come back to `POST
/v1/receipts/signed_http_sms` (shared/contracts/providers/signed_http.py).

| status | outcome of the whole call |
|---|---|
| 401, 403 | bad_account |
| 400, 413, 422 | bad_message |
| 429 | throttled, by Retry-After |
| 5xx | transient |
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from services.notifier.channels.base import (
    Driver,
    Kind,
    Message,
    Net,
    Options,
    Outcome,
    ReceiptMode,
    accepted,
    chunks,
    failed,
)
from services.notifier.channels.http import JSON_HEADERS, Endpoint, Response
from services.notifier.channels.replies import gateway_trouble
from services.notifier.errors import BadReply, NoAnswer
from shared.contracts.providers import standard
from shared.contracts.providers.receipts import ReceiptState

_WHOLE_CALL = {
    400: Kind.BAD_MESSAGE,
    413: Kind.BAD_MESSAGE,
    422: Kind.BAD_MESSAGE,
    401: Kind.BAD_ACCOUNT,
    403: Kind.BAD_ACCOUNT,
}
_DEFAULT_AFTER = timedelta(seconds=1)
_KINDS = frozenset(Kind)
_STATES = frozenset(ReceiptState)


class SignedHttpSmsDriver(Driver):
    """Secret `secret` (whsec_…)."""

    name = "signed_http_sms"
    channel = "sms"
    batch_size = 100
    has_idempotency = True
    has_lookup = True
    receipts = ReceiptMode.PUSH
    secrets = ("secret",)

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._secret = options.secret("secret")
        self._endpoint = Endpoint(net.http, options.base_url, options.timeout_seconds)

    def groups(self, batch: Sequence[Message]) -> list[list[Message]]:
        return chunks(batch, self.batch_size, lambda message: message.urgency)

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        body = msgspec.json.encode({"messages": [_wire(message) for message in group]})
        response = await self._endpoint.post("/messages", self._signed(group[0].message_id, body), body)
        whole = self._whole(response)
        if whole is not None:
            return [whole] * len(group)
        results = response.json().get("results")
        if not isinstance(results, list):
            raise BadReply("no results in the answer")
        found = {result.get("id"): result for result in results if isinstance(result, dict)}
        return [self._outcome(found.get(message.message_id)) for message in group]

    async def lookup(self, message: Message) -> Outcome | None:
        try:
            response = await self._endpoint.get(
                f"/messages/{message.message_id}", self._signed(message.message_id, b"")
            )
            if response.status == 404:
                return None
            return self._whole(response) or self._outcome(response.json())
        except (NoAnswer, BadReply) as error:
            return failed(Kind.UNKNOWN, "lookup", str(error))

    def _signed(self, message_id: str, body: bytes) -> list[tuple[str, str]]:
        seconds = int(self.net.now().timestamp())
        return [*JSON_HEADERS, *standard.headers((self._secret,), message_id, seconds, body)]

    def _whole(self, response: Response) -> Outcome | None:
        if response.status == 200:
            return None
        kind = _WHOLE_CALL.get(response.status)
        if kind is not None:
            return failed(kind, response.status)
        return gateway_trouble(response, self.net.now()) or failed(Kind.TRANSIENT, response.status)

    def _outcome(self, result: dict[str, Any] | None) -> Outcome:
        if result is None:
            return Outcome(Kind.UNKNOWN, code="missing", detail="no result for this message", resend_safe=True)
        status = result.get("status")
        if status == "accepted":
            return accepted(str(result.get("provider_id") or result.get("id")), _state(result.get("state")))
        if not isinstance(status, str) or status not in _KINDS:
            return Outcome(Kind.UNKNOWN, code=str(status)[:40], resend_safe=True)
        kind = Kind(status)
        after = result.get("after")
        wait = timedelta(seconds=after) if isinstance(after, int | float) and 0 <= after <= 86400 else _DEFAULT_AFTER
        outcome = failed(
            kind, result.get("code", ""), str(result.get("detail", "")), wait if kind is Kind.THROTTLED else None
        )
        if kind is Kind.CAPPED_RECIPIENT:
            return msgspec.structs.replace(outcome, until=self.net.now() + wait)
        return outcome


def _wire(message: Message) -> dict[str, Any]:
    content = message.content
    wire: dict[str, Any] = {"id": message.message_id, "to": message.address, "text": content.text}
    if content.template:
        wire["template"] = content.template
        wire["variables"] = content.variables
    return wire


def _state(text: object) -> ReceiptState | None:
    return ReceiptState(text) if isinstance(text, str) and text in _STATES else None
