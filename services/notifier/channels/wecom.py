"""WeCom (企业微信): the group robot and the application message to people.

Everything is HTTP 200; `errcode` tells. Over 30 a minute or 1,000 an hour to one member the application message still
says ok and is dropped: the sender counts. `enable_duplicate_check` makes sending the very same JSON again within half
an hour safe, the cure for `unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import msgspec

from services.notifier.channels.base import (
    Button,
    Content,
    Driver,
    Kind,
    Message,
    Net,
    Options,
    Outcome,
    accepted,
    chunks,
    failed,
    quota,
)
from services.notifier.channels.dingtalk import markdown_of
from services.notifier.channels.http import JSON_HEADERS, Endpoint, Response
from services.notifier.channels.replies import Codes, clip, gateway_trouble, number
from services.notifier.channels.tokens import Token, TokenCache
from services.notifier.errors import TokenRefused

BLOCKED_FOR = timedelta(seconds=60)

ROBOT_CODES = Codes(
    {
        "45009": Kind.THROTTLED,
        "93000": Kind.BAD_RECIPIENT,
        "44004": Kind.BAD_MESSAGE,
        "40058": Kind.BAD_MESSAGE,
        "-1": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)

APP_CODES = Codes(
    {
        "81013": Kind.BAD_RECIPIENT,
        "40001": Kind.BAD_ACCOUNT,
        "40014": Kind.BAD_ACCOUNT,
        "42001": Kind.BAD_ACCOUNT,
        "60020": Kind.BAD_ACCOUNT,
        "45009": Kind.THROTTLED,
        "45033": Kind.THROTTLED,
        "44004": Kind.BAD_MESSAGE,
        "40058": Kind.BAD_MESSAGE,
        "-1": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)

_STALE_TOKEN = ("40014", "42001")


def _refused(codes: Codes, code: str, text: str) -> Outcome:
    kind = codes.kind(code)
    return failed(kind, code, text, BLOCKED_FOR if kind is Kind.THROTTLED else None)


class WeComRobotDriver(Driver):
    """One robot of one group. Secret `key` (of its URL)."""

    name = "wecom_robot"
    channel = "robot"
    max_bytes: ClassVar[int] = 4_096
    caps = (quota(20, "sender", minutes=1),)
    secrets = ("key",)

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._endpoint = Endpoint(net.http, options.base_url or "https://qyapi.weixin.qq.com", options.timeout_seconds)

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        content = group[0].content
        if content.mentions:  # only a text can mention
            text = {
                "content": clip(content.text, 2_048),
                "mentioned_list": [name for name in content.mentions if not name.isdecimal()],
                "mentioned_mobile_list": [name for name in content.mentions if name.isdecimal()],
            }
            body = msgspec.json.encode({"msgtype": "text", "text": text})
        else:
            body = msgspec.json.encode(
                {"msgtype": "markdown", "markdown": {"content": clip(markdown_of(content), self.max_bytes)}}
            )
        path = f"/cgi-bin/webhook/send?key={quote(self.options.secret('key'), safe='')}"
        response = await self._endpoint.post(path, JSON_HEADERS, body)
        return [self._outcome(response)]

    def _outcome(self, response: Response) -> Outcome:
        if trouble := gateway_trouble(response, self.net.now()):
            return trouble
        answer = response.json()
        code = number(answer.get("errcode"))
        return accepted() if code == 0 else _refused(ROBOT_CODES, str(code), str(answer.get("errmsg", "")))


class WeComAppSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The application that speaks, and how long the provider folds equal messages (seconds)."""

    agent_id: int
    duplicate_check_seconds: int = 1800


class WeComAppDriver(Driver):
    """A card to people by user id, up to 1,000 for one text. Secrets `corp_id` and `corp_secret`."""

    name = "wecom_app"
    channel = "chat"
    batch_size = 1_000
    has_idempotency = True
    idempotent_in_batch = False  # the whole JSON, with all its users, must be the same
    caps = (quota(30, "recipient", minutes=1), quota(1_000, "recipient", hours=1))
    secrets = ("corp_id", "corp_secret")
    settings_type: ClassVar[type[msgspec.Struct]] = WeComAppSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(WeComAppSettings)
        self._endpoint = Endpoint(net.http, options.base_url or "https://qyapi.weixin.qq.com", options.timeout_seconds)
        self._token = TokenCache(self._fetch_token, net.now)

    def groups(self, batch: Sequence[Message]) -> list[list[Message]]:
        return chunks(batch, self.batch_size, lambda message: (message.urgency, msgspec.json.encode(message.content)))

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        data = self._body(group)
        answer = await self._once(data)
        if isinstance(answer, Outcome) and answer.code in _STALE_TOKEN:  # renewed once, and only once
            answer = await self._once(data)
        if isinstance(answer, Outcome):
            return [answer] * len(group)
        taken = accepted(str(answer.get("msgid", "")) or None)
        invalid = {name.lower() for name in str(answer.get("invaliduser") or "").split("|") if name}
        if not invalid:
            return [taken] * len(group)
        unknown_user = failed(
            Kind.BAD_RECIPIENT, "invaliduser", "the user does not exist or may not see the application"
        )
        return [unknown_user if message.address.lower() in invalid else taken for message in group]

    def _body(self, group: Sequence[Message]) -> bytes:
        """The mark makes two messages of equal text different, and two attempts of one message equal."""
        first = group[0]
        content, mark = first.content, first.message_id[-8:]
        body: dict[str, Any] = {
            "touser": "|".join([message.address for message in group]),
            "agentid": self._settings.agent_id,
            "enable_duplicate_check": 1,
            "duplicate_check_interval": self._settings.duplicate_check_seconds,
        }
        pressed = [button for button in content.buttons if button.value and not button.url][:6]
        url = content.url or next((button.url for button in content.buttons if button.url), "")
        if pressed and len(first.message_id) <= 100:
            body["msgtype"] = "template_card"
            body["template_card"] = _button_card(content, pressed, first.message_id)
        elif url:
            body["msgtype"] = "textcard"
            card = {
                "title": clip(content.title or content.text, 128),
                "description": clip(content.text or content.title, 512),
            }
            body["textcard"] = {**card, "url": f"{url}#{mark}", "btntxt": content.url_label[:4] or "详情"}
        else:
            body["msgtype"] = "text"
            body["text"] = {"content": clip(content.text, 2_030) + f"\n#{mark}"}
        return msgspec.json.encode(body)

    async def _once(self, data: bytes) -> dict[str, Any] | Outcome:
        token = await self._token.get()
        response = await self._endpoint.post(
            f"/cgi-bin/message/send?access_token={quote(token, safe='')}", JSON_HEADERS, data
        )
        if trouble := gateway_trouble(response, self.net.now()):
            return trouble
        answer = response.json()
        code = str(number(answer.get("errcode")))
        if code == "0":
            return answer
        if code in _STALE_TOKEN:
            self._token.discard(token)
        return _refused(APP_CODES, code, str(answer.get("errmsg", "")))

    async def _fetch_token(self) -> Token:
        query = urlencode({"corpid": self.options.secret("corp_id"), "corpsecret": self.options.secret("corp_secret")})
        response = await self._endpoint.get(f"/cgi-bin/gettoken?{query}")
        answer = response.json()
        if number(answer.get("errcode", 0)) != 0:
            raise TokenRefused(str(answer.get("errcode")), str(answer.get("errmsg", "")))
        return Token(str(answer["access_token"]), timedelta(seconds=number(answer.get("expires_in", 7200))))


def _button_card(content: Content, buttons: Sequence[Button], message_id: str) -> dict[str, Any]:
    """A card whose buttons call back with their value as the key; `task_id` may be used once, so it is the message's id."""
    card: dict[str, Any] = {
        "card_type": "button_interaction",
        "main_title": {"title": clip(content.title or content.text, 78), "desc": clip(content.text, 300)},
        "button_list": [{"text": clip(button.label, 30), "style": 1, "key": button.value} for button in buttons],
        "task_id": "".join(char if char.isalnum() or char in "-_@" else "_" for char in message_id),
    }
    if content.url:
        card["card_action"] = {"type": 1, "url": content.url}
    return card
