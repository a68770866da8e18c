"""Feishu / Lark: messages of an application to a person or chat. `uuid` is an idempotency key for an hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, ClassVar

import msgspec

from services.notifier.channels.base import Driver, Kind, Message, Net, Options, Outcome, accepted, failed
from services.notifier.channels.feishu import card_of
from services.notifier.channels.http import JSON_HEADERS, Endpoint, Response
from services.notifier.channels.replies import Codes, number
from services.notifier.channels.tokens import Token, TokenCache
from services.notifier.errors import BadReply, TokenRefused

CODES = Codes(
    {
        "99991400": Kind.THROTTLED,
        "230020": Kind.THROTTLED,
        "230002": Kind.BAD_RECIPIENT,
        "230013": Kind.BAD_RECIPIENT,
        "99991661": Kind.BAD_ACCOUNT,
        "99991663": Kind.BAD_ACCOUNT,
        "99991672": Kind.BAD_ACCOUNT,
        "-1": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)

RATE = timedelta(seconds=5)
_STALE_TOKEN = ("99991661", "99991663")


class FeishuAppSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What kind of id addresses are: open_id, user_id, union_id, email or chat_id."""

    receive_id_type: str = "open_id"


class FeishuAppDriver(Driver):
    """Secrets `app_id` and `app_secret`."""

    name = "feishu_app"
    channel = "chat"
    has_idempotency = True
    secrets = ("app_id", "app_secret")
    settings_type: ClassVar[type[msgspec.Struct]] = FeishuAppSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        settings = options.read(FeishuAppSettings)
        self._endpoint = Endpoint(net.http, options.base_url or "https://open.feishu.cn", options.timeout_seconds)
        self._token = TokenCache(self._fetch_token, net.now)
        self._path = f"/open-apis/im/v1/messages?receive_id_type={settings.receive_id_type}"

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        message = group[0]
        card = msgspec.json.encode(card_of(message.content, 16_000)).decode()
        body = {
            "receive_id": message.address,
            "msg_type": "interactive",
            "content": card,
            "uuid": _uuid(message.message_id),
        }
        data = msgspec.json.encode(body)
        outcome = await self._once(data)
        if outcome.code in _STALE_TOKEN:  # renewed once, and only once
            outcome = await self._once(data)
        return [outcome]

    async def _once(self, data: bytes) -> Outcome:
        token = await self._token.get()
        response = await self._endpoint.post(self._path, [*JSON_HEADERS, ("authorization", f"Bearer {token}")], data)
        outcome = self._outcome(response)
        if outcome.code in _STALE_TOKEN:
            self._token.discard(token)
        return outcome

    def _outcome(self, response: Response) -> Outcome:
        if response.status >= 500:
            return failed(Kind.TRANSIENT, response.status)
        answer = response.json()
        code = number(answer.get("code"))
        if code == 0:
            data: dict[str, Any] = answer.get("data") or {}
            if not data.get("message_id"):
                raise BadReply("no message_id in the answer")
            return accepted(str(data["message_id"]))
        kind = Kind.THROTTLED if response.status == 429 else CODES.kind(str(code))
        return failed(kind, code, str(answer.get("msg", "")), _reset(response) if kind is Kind.THROTTLED else None)

    async def _fetch_token(self) -> Token:
        body = msgspec.json.encode(
            {"app_id": self.options.secret("app_id"), "app_secret": self.options.secret("app_secret")}
        )
        response = await self._endpoint.post("/open-apis/auth/v3/tenant_access_token/internal", JSON_HEADERS, body)
        answer = response.json()
        if number(answer.get("code")) != 0:
            raise TokenRefused(str(answer.get("code")), str(answer.get("msg", "")))
        return Token(str(answer["tenant_access_token"]), timedelta(seconds=number(answer.get("expire", 7200))))


def _uuid(message_id: str) -> str:
    return message_id if len(message_id) <= 50 else sha256(message_id.encode()).hexdigest()[:50]


def _reset(response: Response) -> timedelta:
    text = response.header(b"x-ogw-ratelimit-reset")
    return timedelta(seconds=min(int(text), 3600)) if text.isdecimal() else RATE
