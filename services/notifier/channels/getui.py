"""Getui: notifications to Android in mainland China, by client id.

A repeated `request_id` is dropped silently, so it is derived from the message id: an idempotency key. Its reports are counts of a
task some time later and no receipt of one message, so that nothing is asked for: accepted is the last that is known, and what waits
for `delivered` or `read` takes its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from services.notifier.channels.base import Driver, Kind, Message, Net, Options, Outcome, accepted, failed
from services.notifier.channels.http import JSON_HEADERS, Endpoint, Response
from services.notifier.channels.replies import Codes, clip, gateway_trouble, number
from services.notifier.channels.tokens import Token, TokenCache
from services.notifier.errors import BadReply, ConfigError, TokenRefused

CODES = Codes(
    {"10001": Kind.BAD_ACCOUNT, "10002": Kind.BAD_ACCOUNT, "10009": Kind.THROTTLED, "20001": Kind.BAD_MESSAGE},
    default=Kind.BAD_MESSAGE,
)

RATE = timedelta(seconds=60)
DEFAULT_TTL_MS = 7_200_000
_STALE_TOKEN = "10001"


class GetuiDriver(Driver):
    """Secrets `app_key` and `master_secret`; `base_url` is https://restapi.getui.com/v2/<app id>."""

    name = "getui"
    channel = "app"
    has_idempotency = True
    secrets = ("app_key", "master_secret")

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        if not options.base_url:
            raise ConfigError(f"provider {options.name}: base_url is missing (it holds the app id)")
        self._endpoint = Endpoint(net.http, options.base_url, options.timeout_seconds)
        self._token = TokenCache(self._fetch_token, net.now)

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        message = group[0]
        data = msgspec.json.encode(self._body(message))
        outcome = await self._once(message, data)
        if outcome.code == _STALE_TOKEN:  # renewed once, and only once
            outcome = await self._once(message, data)
        return [outcome]

    async def _once(self, message: Message, data: bytes) -> Outcome:
        token = await self._token.get()
        response = await self._endpoint.post("/push/single/cid", [*JSON_HEADERS, ("token", token)], data)
        outcome = self._outcome(message, response)
        if outcome.code == _STALE_TOKEN:
            self._token.discard(token)
        return outcome

    def _body(self, message: Message) -> dict[str, Any]:
        content = message.content
        notification = {"title": clip(content.title, 50), "body": clip(content.text, 256), "click_type": "startapp"}
        if content.url:
            notification |= {"click_type": "url", "url": content.url}
        left = (
            int((message.valid_until - self.net.now()).total_seconds() * 1000)
            if message.valid_until
            else DEFAULT_TTL_MS
        )
        return {
            "request_id": sha256(message.message_id.encode()).hexdigest()[:32],
            "settings": {"ttl": min(max(left, 0), 259_200_000)},
            "audience": {"cid": [message.address]},
            "push_message": {"notification": notification},
        }

    def _outcome(self, message: Message, response: Response) -> Outcome:
        if trouble := gateway_trouble(response, self.net.now()):
            return trouble
        answer = response.json()
        code = number(answer.get("code"))
        if code != 0:
            kind = CODES.kind(str(code))
            return failed(kind, code, str(answer.get("msg", "")), RATE if kind is Kind.THROTTLED else None)
        data = answer.get("data")
        if not isinstance(data, dict):
            raise BadReply("no data in the answer")
        if not data:  # a repeat of a request that was taken
            return accepted()
        task, results = next(iter(data.items()))
        if isinstance(results, dict) and results.get(message.address) == "successed_ignore":
            return failed(Kind.BAD_RECIPIENT, "successed_ignore", "inactive for 90 days")
        return accepted(str(task))

    async def _fetch_token(self) -> Token:
        milliseconds = str(int(self.net.now().timestamp() * 1000))
        key = self.options.secret("app_key")
        sign = sha256(f"{key}{milliseconds}{self.options.secret('master_secret')}".encode()).hexdigest()
        body = msgspec.json.encode({"sign": sign, "timestamp": milliseconds, "appkey": key})
        answer = (await self._endpoint.post("/auth", JSON_HEADERS, body)).json()
        if number(answer.get("code")) != 0:
            raise TokenRefused(str(answer.get("code")), str(answer.get("msg", "")))
        data: dict[str, Any] = answer.get("data") or {}
        expires_at = datetime.fromtimestamp(number(data.get("expire_time", 0)) / 1000, UTC)
        lifetime = max(expires_at - self.net.now(), timedelta(minutes=10))
        return Token(str(data["token"]), lifetime)
